/* The PV MMU's updates: mmu_update, update_va_mapping, writable page tables. Types are in mmu_types.c, mmuext_op in mmuext.c. */
#include "cpu/cpu.h"
#include "cpu/instr.h"
#include "cpu/tlb.h"
#include "domain/guest_access.h"
#include "hvm/p2m.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"
#include "pv/mmu.h"
#include "pv/mmu_types.h"
#include "pv/mode.h"

/* Internal to Croft's continuations of mmu_update and mmuext_op: part of 'count' was done before. */
#define MMU_PREEMPTED 0x80000000U

/*
 * Replaces one entry of a table (its frame is typed; mm_lock held). The new entry's references come first, then the write,
 * then the old one's go. Accessed and dirty bits the processor sets meanwhile are not lost in the old value.
 * expected, if there is one: -EAGAIN if the entry is no longer that when it is written, which such a bit may cause.
 */
static inline __attribute__((always_inline)) int entry_replace(struct mmu_context *c, unsigned level, unsigned slot,
                                                               uint64_t *where, uint64_t new, bool keep_ad,
                                                               const uint64_t *expected)
{
    uint64_t old = expected ? *expected : READ_ONCE(*where);
    int rc;

    if (unlikely(level == 4 && l4_slot_is_ours(slot)))
        return refuse(-EINVAL, "L4 slot %u belongs to the hypervisor\n", slot);
    if ((new &old &PTE_PRESENT) &&
        !((new ^ old) & (PTE_ADDR | (level == 1 ? PTE_WRITE | PTE_CACHE_L1 : DISALLOWED_TABLE)))) {
        /* Same frame, same kind of use: the references stay. */
        new = level == 1 ? (new | PTE_USER) & ~PTE_GLOBAL : new | PTE_USER;
        if (keep_ad) {
            while (!__atomic_compare_exchange_n(where, &old, new | (old & (PTE_ACCESSED | PTE_DIRTY)), false,
                                                __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
                ;
        } else if (expected) {
            return __atomic_compare_exchange_n(where, &old, new, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED) ? 0
                                                                                                            : -EAGAIN;
        } else {
            WRITE_ONCE(*where, new);
        }
        return 0;
    }
    rc = entry_get(c, level, &new);
    if (unlikely(rc))
        return rc;
    if (keep_ad) {
        while (!__atomic_compare_exchange_n(where, &old, new | (old & (PTE_ACCESSED | PTE_DIRTY)), false,
                                            __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
            ;
    } else if (expected) {
        if (!__atomic_compare_exchange_n(where, &old, new, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
            entry_put(c, level, new);
            return -EAGAIN;
        }
    } else {
        WRITE_ONCE(*where, new);
    }
    entry_put(c, level, old);
    return 0;
}

/*
 * entry_replace in short, for what nearly all changes are: an entry of an L1 table of d's, with d's own RAM or nothing behind it
 * before and after. All checks are those of the long way, and references come and go in its order. False: something is not as
 * usual, and nothing has changed: the long way decides, from the start. *seen, if asked for: what the entry was. mm_lock held.
 */
static inline __attribute__((always_inline)) bool l1_replace_short(struct domain *d, uint64_t *where, uint64_t new,
                                                                   uint64_t *seen)
{
    uint64_t old = READ_ONCE(*where);
    bool same = false;

    if (new &PTE_PRESENT) {
        mfn_t m = pte_mfn(new);

        if (unlikely(new & d->pv.leaf_refused))
            return false;
        same = !((old ^ new) & (PTE_PRESENT | PTE_ADDR | PTE_WRITE)); /* then the references stay */
        if (!same) {
            if (unlikely(!mfn_valid(m)))
                return false;
            if (unlikely(!(new &PTE_WRITE ? frame_writable_get(frame_of(m), d) : frame_ref_get(frame_of(m), d->id))))
                return false;
        }
        new = (new | PTE_USER) & ~PTE_GLOBAL;
    }
    if (seen) /* with the accessed and dirty bits that the processor may set meanwhile: nobody changes others */
        *seen = old = __atomic_exchange_n(where, new, __ATOMIC_SEQ_CST);
    else
        WRITE_ONCE(*where, new);
    if (!same)
        entry_put(NULL, 1, old); /* an L1 entry's needs no context */
    return true;
}

static inline bool type_is_l1_in_use(uint64_t t) { return TYPE_COUNT(t) && TYPE_OF(t) == FRAME_L1; }

/*
 * A domain with nested page tables has its frames named by its own numbers: the L1 entry gets the machine's. No lock, but a
 * reference (*held) until the entry has its own. -ENOENT: nothing is there, which tools that walk through all of
 * its memory meet often, so that the log has no line of it. What is on demand comes if there is a page for it, or is -ENOMEM: for tools
 * nothing is swept, and no domain crashed.
 */
static __attribute__((noinline)) int translate_entry(struct domain *foreign, uint64_t *e, mfn_t *held)
{
    gfn_t gfn = GFN(pte_mfn(*e).n);

    if (!foreign->hvm || !(*e & PTE_PRESENT))
        return 0;
    *held = p2m_hold(foreign, gfn);
    if (mfn_eq(*held, INVALID_MFN) && p2m_kind(foreign, gfn) == P2M_ON_DEMAND) {
        if (pod_populate(foreign, gfn, false) != POD_DONE)
            return -ENOMEM;
        *held = p2m_hold(foreign, gfn);
    }
    if (mfn_eq(*held, INVALID_MFN))
        return -ENOENT;
    *e = (*e & ~PTE_ADDR) | held->n << PAGE_SHIFT;
    return 0;
}

/* entry_replace of an L1 entry for a frame of c->foreign's, by that domain's number */
static __attribute__((noinline)) int replace_foreign(struct mmu_context *c, unsigned slot, uint64_t *entry,
                                                     uint64_t val, bool keep_ad)
{
    mfn_t held = INVALID_MFN;
    int rc = translate_entry(c->foreign, &val, &held);

    if (!rc)
        rc = entry_replace(c, 1, slot, entry, val, keep_ad, NULL);
    if (!mfn_eq(held, INVALID_MFN))
        frame_put(held);
    return rc;
}

/* One 8-byte write to guest frame m at 'offset', as a table entry or plain data. 'machine': an entry names a machine frame even if
 * that is another domain's with frame numbers of its own. */
static inline __attribute__((always_inline)) int update_frame(struct mmu_context *c, mfn_t m, unsigned offset,
                                                              uint64_t val, bool keep_ad, bool machine)
{
    struct domain *d = c->l.d;
    uint64_t t;

    if (unlikely(!frame_type_read(m, d, &t)))
        return refuse(-EINVAL, "update of frame 0x%lx, which this domain does not own\n", m.n);
    if (likely(TYPE_COUNT(t) && type_is_table(TYPE_OF(t)))) {
        uint64_t *table = mfn_to_virt(m);
        unsigned slot = offset / 8;

        if (unlikely(c->foreign && !machine && TYPE_OF(t) == FRAME_L1))
            return replace_foreign(c, slot, table + slot, val, keep_ad);
        return entry_replace(c, type_level(TYPE_OF(t)), slot, table + slot, val, keep_ad, NULL);
    }
    if (!frame_get_writable(m, d))
        return refuse(-EINVAL, "update of frame 0x%lx: neither a page table nor writable (type 0x%lx)\n", m.n, t);
    WRITE_ONCE(((uint64_t *)mfn_to_virt(m))[offset / 8], val);
    frame_put_writable(m);
    return 0;
}

long mmu_domain_get(unsigned domid, struct domain **d)
{
    struct domain *self = current->domain;

    if (domid != DOMID_SELF && domid != self->id && !self->is_privileged)
        return refuse(-EPERM, "MMU: frames of domain %u need privilege\n", domid);
    *d = domain_get_by_id((domid_t)domid);
    return *d ? 0 : refuse(-ESRCH, "MMU: there is no domain %u\n", domid);
}

/* Whose frames a request may map, for tables of 'owner': sets c->frames, or c->foreign with a reference, or c->m2p. */
static long context_for_frames(struct mmu_context *c, struct domain *owner, unsigned domid)
{
    struct domain *self = current->domain, *d;
    long rc;

    if (domid == DOMID_IO && self->pv.io_memory)
        return 0;
    if (domid == DOMID_XEN && self->is_privileged) {
        c->m2p = true;
        return 0;
    }
    rc = mmu_domain_get(domid, &d);
    if (rc)
        return rc;
    if (d == owner) {
        c->frames = d; /* the caller of this function has a reference */
        domain_put(d);
    } else {
        c->foreign = d;
    }
    return 0;
}

static void context_end(struct mmu_context *c)
{
    if (unlikely(c->foreign))
        domain_put(c->foreign);
}

static long machphys_update(const struct mmu_context *c, mfn_t m, uint64_t pfn)
{
    const struct domain *frames = c->frames ? c->frames : c->foreign;

    if (!frames || !frame_get(m, frames))
        return refuse(-EINVAL, "machine-to-physical update of frame 0x%lx, which this domain does not own\n", m.n);
    m2p_write(m, pfn);
    frame_put(m);
    return 0;
}

/* The elements of a call from number i on: page tables of d's, in the context that the caller made. */
static inline __attribute__((always_inline)) long update_tables(struct mmu_context *c, struct domain *d,
                                                                const struct mmu_update *reqs, uint32_t i,
                                                                uint32_t count, uint64_t a_done, uint64_t a_foreign)
{
    uint32_t done = 0;
    long rc = 0;

    if (unlikely(count & MMU_PREEMPTED)) {
        count &= ~MMU_PREEMPTED;
        if (a_done && copy_from_guest(&done, (void *)a_done, sizeof(done)))
            return -EFAULT;
    }
    if (unlikely(c->held->doomed)) {
        c->l = domain_mm_lock(d);
        rc = mmu_drain_doomed(c) ? 0 : MMU_RESTART;
        domain_mm_unlock(c->l);
    }
    for (; !rc && i < count; i++) {
        struct mmu_update u;
        bool preempted = false;

        if (i && unlikely(hypercall_preempt_check())) {
            rc = MMU_RESTART;
            break;
        }
        if (unlikely(!guest_read16((uint64_t *)&u, reqs + i))) {
            rc = -EFAULT;
            break;
        }
        c->l = domain_mm_lock(d);
        if (unlikely(c->held->doomed))
            preempted = !mmu_drain_doomed(c);
        if (likely(!preempted)) {
            mfn_t m = MFN((u.ptr & ~7UL) >> PAGE_SHIFT);

            if (likely(!(u.ptr & 5))) /* MMU_NORMAL_PT_UPDATE, MMU_PT_UPDATE_PRESERVE_AD */
                rc = update_frame(c, m, u.ptr & 0xff8, u.val, u.ptr & MMU_PT_UPDATE_PRESERVE_AD, false);
            else if ((u.ptr & 7) == MMU_PT_UPDATE_NO_TRANSLATE) /* what XENMEM_acquire_resource gave */
                rc = update_frame(c, m, u.ptr & 0xff8, u.val, false, true);
            else if ((u.ptr & 7) == MMU_MACHPHYS_UPDATE)
                rc = machphys_update(c, m, u.val);
            else
                rc = refuse(-ENOSYS, "mmu_update command %lu\n", u.ptr & 7);
            if (unlikely(c->held->kept && rc != MMU_RESTART))
                mmu_drop_kept(c);
            if (unlikely(c->held->doomed) && !mmu_drain_doomed(c))
                preempted = true; /* this element is done, its cleaning up is not */
        } else {
            rc = MMU_RESTART;
        }
        domain_mm_unlock(c->l);
        if (unlikely(rc))
            break;
        if (unlikely(preempted)) {
            i++;
            rc = MMU_RESTART;
            break;
        }
    }
    done += i;
    if (a_done && copy_to_guest((void *)a_done, &done, sizeof(done)))
        return -EFAULT;
    if (unlikely(rc == MMU_RESTART))
        return hypercall_continue((uint64_t)(reqs + i), (count - i) | MMU_PREEMPTED, a_done, a_foreign, 0);
    return rc;
}

/* The elements from number i on, the long way. */
static __attribute__((noinline)) long update_any(struct vcpu *v, const struct mmu_update *reqs, uint32_t i,
                                                 uint32_t count, uint64_t a_done, uint64_t a_foreign)
{
    struct domain *d = v->domain;
    struct mmu_context c = {.frames = d, .held = &v->pv.held};
    long rc;

    if (likely(a_foreign == DOMID_SELF))
        return update_tables(&c, d, reqs, i, count, a_done, a_foreign);
    if ((uint32_t)a_foreign >> 16) { /* somebody else's page tables: their domain's number plus one */
        rc = mmu_domain_get((uint16_t)((uint32_t)a_foreign >> 16) - 1, &d);
        if (rc)
            return rc;
        if (d->hvm) {
            domain_put(d);
            return refuse(-EINVAL, "mmu_update: page tables of a domain that makes its own\n");
        }
        if (d != v->domain)
            c.held = &d->pv.held;
    } else {
        domain_get(d); /* cannot fail: it runs */
    }
    c.frames = NULL;
    if (count == MMU_PREEMPTED) /* all is done but cleaning up, for which the other domain may have waited to be gone */
        rc = 0;
    else
        rc = context_for_frames(&c, d, (uint16_t)a_foreign);
    if (!rc)
        rc = update_tables(&c, d, reqs, i, count, a_done, a_foreign);
    context_end(&c);
    domain_put(d);
    return rc;
}

long hypercall_mmu_update(uint64_t a_reqs, uint64_t a_count, uint64_t a_done, uint64_t a_foreign, uint64_t a5)
{
    const struct mmu_update *reqs = (const struct mmu_update *)a_reqs;
    struct vcpu *v = current;
    struct domain *d = v->domain;
    uint32_t i = 0, count = (uint32_t)a_count;

    /* What l1_replace_short does, as far as it goes. Of the element that it leaves alone nothing is kept: it is read anew. */
    if (unlikely(a_foreign != DOMID_SELF || count & MMU_PREEMPTED || v->pv.held.doomed || v->pv.held.kept))
        return update_any(v, reqs, 0, count, a_done, a_foreign);
    while (i < count && (!i || likely(!hypercall_preempt_check()))) {
        struct mmu_update u;
        struct domain_locked l;
        uint64_t t;
        mfn_t m;
        bool ok;

        if (unlikely(!guest_read16((uint64_t *)&u, reqs + i) || u.ptr & 7)) /* 0: MMU_NORMAL_PT_UPDATE */
            break;
        m = MFN(u.ptr >> PAGE_SHIFT);
        l = domain_mm_lock(d);
        ok = frame_type_read(m, d, &t) && likely(type_is_l1_in_use(t)) &&
             l1_replace_short(d, (uint64_t *)mfn_to_virt(m) + (u.ptr >> 3 & 511), u.val, NULL);
        domain_mm_unlock(l);
        if (unlikely(!ok))
            break;
        i++;
    }
    return likely(i == count && !a_done) ? 0 : update_any(v, reqs, i, count, a_done, a_foreign);
}

uint64_t mmu_walk(const struct vcpu *v, unsigned long va, mfn_t *l1_mfn, unsigned *l1_slot)
{
    if (!mmu_find_l1_table(v, va, l1_mfn))
        return 0;
    *l1_slot = va >> 12 & 511;
    return ((uint64_t *)mfn_to_virt(*l1_mfn))[*l1_slot];
}

/* The entry that maps va in the current kernel root; false if a table on the way is missing. mm_lock held. */
static inline bool find_l1_entry(const struct vcpu *v, unsigned long va, uint64_t **entry)
{
    mfn_t m;

    if (unlikely(va_in_our_slots(va) || !mmu_find_l1_table(v, va, &m)))
        return false;
    *entry = (uint64_t *)mfn_to_virt(m) + (va >> 12 & 511);
    return true;
}

static long flush_after_update(struct vcpu *v, unsigned long va, unsigned long flags)
{
    struct domain *d = v->domain;
    cpumask_t mask;

    if (!(flags & UVMF_FLUSHTYPE_MASK))
        return 0;
    switch (flags & ~UVMF_FLUSHTYPE_MASK) {
    case UVMF_LOCAL:
        if ((flags & UVMF_FLUSHTYPE_MASK) == UVMF_INVLPG)
            invlpg(va);
        else
            tlb_flush_local();
        return 0;
    case UVMF_ALL:
        mask = d->dirty_cpus;
        break;
    default: {
        long rc = mmu_vcpus_to_cpus(d, (void *)(flags & ~UVMF_FLUSHTYPE_MASK), &mask);
        if (rc)
            return rc;
    }
    }
    if ((flags & UVMF_FLUSHTYPE_MASK) == UVMF_INVLPG)
        tlb_flush_page_mask(&mask, va);
    else
        tlb_flush_mask(&mask);
    return 0;
}

static inline long update_va(struct mmu_context *c, uint64_t va, uint64_t val, uint64_t flags)
{
    struct vcpu *v = current;
    uint64_t *entry;
    long rc;

    c->l = domain_mm_lock(v->domain);
    if (unlikely(v->pv.held.doomed) && !mmu_drain_doomed(c))
        rc = MMU_RESTART;
    else if (likely(find_l1_entry(v, va, &entry))) {
        if (unlikely(c->foreign))
            rc = replace_foreign(c, 0, entry, val, false);
        else
            rc = entry_replace(c, 1, 0, entry, val, false, NULL);
    } else
        rc = refuse(-EINVAL, "update_va_mapping of 0x%lx: no L1 table there\n", va);
    domain_mm_unlock(c->l);
    if (unlikely(rc))
        return rc;
    return flush_after_update(v, va, flags);
}

long hypercall_update_va_mapping(uint64_t va, uint64_t val, uint64_t flags, uint64_t a4, uint64_t a5)
{
    struct vcpu *v = current;
    struct mmu_context c = {.frames = v->domain, .held = &v->pv.held};
    long rc = update_va(&c, va, val, flags);

    return rc == MMU_RESTART ? hypercall_continue(va, val, flags, 0, 0) : rc;
}

long hypercall_update_va_mapping_otherdomain(uint64_t va, uint64_t val, uint64_t flags, uint64_t domid, uint64_t a5)
{
    struct vcpu *v = current;
    struct mmu_context c = {.held = &v->pv.held};
    long rc = context_for_frames(&c, v->domain, (uint16_t)domid);

    if (rc)
        return rc;
    rc = update_va(&c, va, val, flags);
    context_end(&c);
    return rc == MMU_RESTART ? hypercall_continue(va, val, flags, domid, 0) : rc;
}

bool mmu_get_page_of_va(struct vcpu *v, unsigned long va, bool writable, mfn_t *mfn)
{
    struct domain_locked l;
    uint64_t e;
    mfn_t l1;
    unsigned slot;
    bool ok;

    if (va_in_our_slots(va))
        return false;
    l = domain_mm_lock(v->domain);
    e = mmu_walk(v, va, &l1, &slot);
    *mfn = pte_mfn(e);
    ok = (e & PTE_PRESENT) && (!writable || (e & PTE_WRITE)) && !mfn_is_io(*mfn) && frame_get(*mfn, v->domain);
    domain_mm_unlock(l);
    return ok;
}

bool mmu_write_l1_short(struct vcpu *v, unsigned long va, uint64_t value, uint64_t *seen)
{
    struct domain *d = v->domain;
    struct domain_locked l = domain_mm_lock(d);
    uint64_t *entry;
    bool ok = false;

    if (likely(!v->pv.held.doomed) && find_l1_entry(v, va, &entry)) {
        mfn_t m = pte_mfn(*entry);

        /* A writable page is no table: the fault was about something else. The entry has a reference to what it maps. */
        ok = likely((*entry & (PTE_PRESENT | PTE_WRITE)) == PTE_PRESENT && mfn_valid(m)) &&
             likely(frame_owner(frame_of(m)) == d->id && type_is_l1_in_use(READ_ONCE(frame_of(m)->type))) &&
             l1_replace_short(d, (uint64_t *)mfn_to_virt(m) + (va >> 3 & 511), value, seen);
    }
    domain_mm_unlock(l);
    return ok;
}

int mmu_write_entry_bytes(struct vcpu *v, mfn_t table, unsigned offset, unsigned bytes, uint64_t value, bool cmpxchg,
                          uint64_t old, uint64_t *seen)
{
    struct mmu_context c = {.frames = v->domain, .held = &v->pv.held};
    unsigned shift = offset % 8 * 8, slot = offset / 8;
    uint64_t mask = bytes == 8 ? ~0UL : ((1UL << bytes * 8) - 1) << shift;
    uint64_t *entry, present, type;
    int rc;

    if (bytes > 8 || offset % 8 + bytes > 8 || offset >= PAGE_SIZE)
        return -EINVAL;
    c.l = domain_mm_lock(v->domain);
    while (v->pv.held.doomed && !mmu_drain_doomed(&c)) /* first: the table itself may be doomed */
        ;
    if (!frame_type_read(table, v->domain, &type) || !TYPE_COUNT(type) || !type_is_table(TYPE_OF(type))) {
        domain_mm_unlock(c.l);
        return -EINVAL;
    }
    /* Not continued: an emulated write has no arguments to change. A whole tree is attached this way only if it is small. */
    c.held = NULL;
    entry = (uint64_t *)mfn_to_virt(table) + slot;
    do {
        present = READ_ONCE(*entry);
        *seen = (present & mask) >> shift;
        if (cmpxchg && *seen != (old & (mask >> shift))) {
            rc = -EAGAIN;
            break;
        }
        /* Unless all of it is overwritten anyhow, no bit that the processor sets meanwhile is lost: then once more. */
        rc = entry_replace(&c, type_level(TYPE_OF(type)), slot, entry, (present & ~mask) | (value << shift & mask),
                           false, cmpxchg || bytes < 8 ? &present : NULL);
    } while (rc == -EAGAIN);
    domain_mm_unlock(c.l);
    return rc;
}
