/*
 * Page-table entries for grant mappings. Such an entry is like every other leaf: it has its own references to the frame, and
 * whoever overwrites it drops them. The mapping (domain/grant_map.c) has references beside, which stay until the entry is gone
 * and the TLBs are flushed. So it takes and drops both at once, the entry's too, unless the guest overwrites that.
 */
#include "domain/domain.h"
#include "lib/log.h"
#include "pv/mmu.h"
#include "pv/mmu_types.h"

/* The entry at a place, if that is one in an L1 table of d's; mm_lock held. Null: it is not, or no more. */
static inline uint64_t *entry_at(const struct domain *d, const struct mmu_place *p)
{
    uint64_t t;

    if (unlikely(!frame_type_read(p->table, d, &t) || TYPE_OF(t) != FRAME_L1 || !TYPE_COUNT(t)))
        return NULL;
    return (uint64_t *)mfn_to_virt(p->table) + p->slot;
}

/* Where the guest says the entry is: by the machine address of it, or the virtual address that it maps. mm_lock held. */
static inline __attribute__((always_inline)) uint64_t *find_entry(const struct vcpu *v, uint64_t address, bool by_entry,
                                                                  struct mmu_place *p)
{
    mfn_t table;

    if (by_entry) {
        p->table = MFN(address >> PAGE_SHIFT);
        p->slot = (unsigned)(address & ~PAGE_MASK) / sizeof(uint64_t);
        return address % sizeof(uint64_t) ? NULL : entry_at(v->domain, p);
    }
    if (unlikely(va_in_our_slots(address) || !mmu_find_l1_table(v, address, &table)))
        return NULL;
    p->table = table;
    p->slot = address >> PAGE_SHIFT & 511;
    return (uint64_t *)mfn_to_virt(table) + p->slot;
}

bool mmu_grant_map(uint64_t address, bool by_entry, mfn_t frame, uint64_t flags, struct mmu_place *place, bool *stale)
{
    const struct vcpu *v = current;
    struct mmu_context c = {.l = domain_mm_lock(v->domain)};
    uint64_t *entry = find_entry(v, address, by_entry, place), old;

    if (unlikely(!entry)) {
        domain_mm_unlock(c.l);
        return refuse(false, "map_grant_ref: no L1 entry at 0x%lx (%s address)\n", address,
                      by_entry ? "machine" : "virtual");
    }
    old = __atomic_exchange_n(entry, frame.n << PAGE_SHIFT | flags, __ATOMIC_SEQ_CST);
    if (unlikely(old & PTE_PRESENT)) {
        entry_put(&c, 1, old);
        *stale = true;
    }
    domain_mm_unlock(c.l);
    return true;
}

/* Takes the entry for unmap_and_replace out of its place. False: there is no table, or it maps another domain's frame, which
 * might be by a grant, whose place would not be known any more. */
static bool take_replacement(const struct vcpu *v, uint64_t address, const uint64_t *entry, uint64_t *replacement)
{
    struct mmu_place p;
    uint64_t *from = find_entry(v, address, false, &p), e;

    if (!from || from == entry)
        return false;
    e = READ_ONCE(*from);
    if ((e & PTE_PRESENT) && !mfn_is_io(pte_mfn(e)) && frame_owner(frame_of(pte_mfn(e))) != v->domain->id)
        return false;
    *replacement = __atomic_exchange_n(from, 0, __ATOMIC_SEQ_CST);
    return true;
}

bool mmu_grant_unmap(const struct mmu_place *place, mfn_t frame, uint64_t address, bool by_entry, uint64_t new_address,
                     uint64_t *old)
{
    const struct vcpu *v = current;
    struct domain_locked l = domain_mm_lock(v->domain);
    struct mmu_place named;
    uint64_t *entry = find_entry(v, address, by_entry, &named), replacement = 0;
    bool as_named = entry && mfn_eq(named.table, place->table) && named.slot == place->slot, there, ok = true;

    /* A table that was walked to is in use as one, and stays so while the lock is held; elsewhere that has to be asked. */
    if (unlikely(!as_named))
        entry = entry_at(v->domain, place);
    there = entry && (*entry & PTE_PRESENT) && mfn_eq(pte_mfn(*entry), frame);
    if (unlikely(!there))
        ok = !new_address; /* the guest itself has overwritten it */
    else if (unlikely(!as_named))
        ok = false;
    else if (unlikely(new_address))
        ok = !by_entry && take_replacement(v, new_address, entry, &replacement);
    if (likely(ok && there))
        *old = __atomic_exchange_n(entry, replacement, __ATOMIC_SEQ_CST);
    domain_mm_unlock(l);
    if (unlikely(!ok))
        guest_log(LOG_WARNING,
                  "unmap_grant_ref: the mapping of frame 0x%lx is not at 0x%lx, or cannot be replaced by 0x%lx\n",
                  frame.n, address, new_address);
    return ok;
}
