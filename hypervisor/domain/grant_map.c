/* The mappings that a domain has by grants of others: see domain/grant.h. The page-table entries are pv/mmu_grant.c's. */
#include "cpu/tlb.h"
#include "domain/grant_private.h"
#include "hvm/p2m.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"
#include "lib/nospec.h"
#include "lib/string.h"
#include "memory/alloc.h"
#include "memory/frame_inline.h"
#include "memory/map.h"
#include "pv/mmu.h"

#define MAPS_PER_PAGE (PAGE_SIZE / sizeof(struct grant_mapping))
#define FIRST_SLOTS 8U
#define NO_HANDLE (~0U)
#define BUSY 0x8000U /* being mapped or unmapped: nobody else's. Beside GNTMAP_* in the flags */
#define IN_USE (GNTMAP_host_map | GNTMAP_device_map)
#define KEPT_FLAGS (IN_USE | GNTMAP_readonly | GNTMAP_contains_pte)

/* The granter is the frame's owner: it is there as long as the frame has references. */
struct grant_mapping {
    uint32_t ref; /* grant reference; of a free one (flags 0): the next free handle */
    uint32_t frame;
    /* host_map: the L1 table, and the slot in it; with nested page tables the guest frame's number, its upper part in the slot */
    uint32_t table;
    uint16_t slot;
    uint16_t flags;
};
_Static_assert(sizeof(struct grant_mapping) == 16, "as many to a page as the limit's unit says");

static struct grant_mapping *mapping_at(const struct grant_table *g, uint32_t handle)
{
    return g->maps[handle / MAPS_PER_PAGE] + handle % MAPS_PER_PAGE;
}

/* One more page of mappings, all free; map_lock is held. */
static bool grow(struct grant_table *g)
{
    struct grant_mapping *page;

    if (g->map_pages >= g->max_map_pages)
        return false;
    if (g->map_pages == g->map_slots) {
        uint32_t slots = max(2 * g->map_slots, FIRST_SLOTS);
        struct grant_mapping **maps = heap_alloc(slots * sizeof(*maps));

        if (!maps)
            return false;
        if (g->map_pages)
            memcpy(maps, g->maps, g->map_pages * sizeof(*maps));
        heap_free(g->maps);
        g->maps = maps;
        g->map_slots = slots;
    }
    page = alloc_pages(0);
    if (!page)
        return false;
    for (uint32_t i = 0; i < MAPS_PER_PAGE; i++)
        page[i].ref = i + 1 < MAPS_PER_PAGE ? g->map_pages * MAPS_PER_PAGE + i + 1 : NO_HANDLE;
    g->map_free = g->map_pages * MAPS_PER_PAGE;
    g->maps[g->map_pages++] = page;
    return true;
}

/* A busy mapping; null: there is no room. The mapping itself does not move, so whoever has made it busy needs no lock. */
static struct grant_mapping *take_handle(struct grant_table *g, uint32_t *handle)
{
    struct grant_mapping *m = NULL;

    spin_lock(&g->map_lock);
    if (likely(g->mapped < g->map_pages * MAPS_PER_PAGE) || grow(g)) {
        m = mapping_at(g, *handle = g->map_free);
        g->map_free = m->ref;
        g->mapped++;
        m->flags = BUSY;
    }
    spin_unlock(&g->map_lock);
    return m;
}

static void free_handle(struct grant_table *g, uint32_t handle, struct grant_mapping *m)
{
    spin_lock(&g->map_lock);
    m->ref = g->map_free;
    m->flags = 0;
    g->map_free = handle;
    g->mapped--;
    spin_unlock(&g->map_lock);
}

/* No longer busy: everybody may unmap it. */
static void publish(struct grant_mapping *m, unsigned flags)
{
    __atomic_store_n(&m->flags, (uint16_t)flags, __ATOMIC_RELEASE);
}

static inline __attribute__((always_inline)) void put_frame(mfn_t frame, bool writable, uint32_t references)
{
    if (writable)
        frame_writables_put(frame_of(frame), references);
    else
        frame_refs_put(frame_of(frame), references);
}

/* Ends a mapping that no TLB knows any more. references: 2 with that of its page-table entry, 1 if that has none. */
static inline __attribute__((always_inline)) void release(mfn_t frame, uint32_t ref, unsigned flags,
                                                          uint32_t references)
{
    bool writable = !(flags & GNTMAP_readonly);

    /* The frame last: it keeps the granter. */
    grant_unpin(domain_owner_of_frame(frame_owner(frame_of(frame))), ref, writable);
    put_frame(frame, writable, references);
}

/* A domain with nested page tables has it at a physical address of its own, where nothing is. */
static __attribute__((noinline)) bool map_translated(const struct gnttab_map_grant_ref *op, struct domain *d,
                                                     mfn_t frame, bool writable, struct mmu_place *place)
{
    uint64_t gfn = op->host_addr >> PAGE_SHIFT;
    int rc;

    if (op->host_addr & ~PAGE_MASK || op->flags & ~(unsigned)(GNTMAP_host_map | GNTMAP_readonly))
        return refuse(false, "map_grant_ref: flags 0x%x, at 0x%lx: only pages of memory can be mapped\n", op->flags,
                      (unsigned long)op->host_addr);
    rc = p2m_add_grant(d, GFN(gfn), frame, writable);
    if (rc)
        return refuse(false, "map_grant_ref: at 0x%lx: %s\n", (unsigned long)op->host_addr,
                      rc == -EEXIST   ? "there is something; balloon it out first"
                      : rc == -ENOMEM ? "no memory for a nested page table"
                                      : "out of range");
    *place = (struct mmu_place){.table = MFN((uint32_t)gfn), .slot = (unsigned)(gfn >> 32)};
    return true;
}

/* *old: as of a page-table entry that has gone */
static __attribute__((noinline)) bool unmap_translated(const struct grant_mapping *m, unsigned flags, struct domain *d,
                                                       uint64_t address, uint64_t new_address, uint64_t *old)
{
    uint64_t gfn = (uint64_t)m->slot << 32 | m->table;

    if (new_address || address != gfn << PAGE_SHIFT || !p2m_remove_grant(d, GFN(gfn), MFN(m->frame)))
        return refuse(false, "unmap_grant_ref: the mapping is at 0x%lx, not at 0x%lx, or cannot be replaced by 0x%lx\n",
                      gfn << PAGE_SHIFT, address, new_address);
    *old = PTE_PRESENT | (flags & GNTMAP_readonly ? 0 : PTE_WRITE);
    return true;
}

void grant_map(struct gnttab_map_grant_ref *op, struct domain *granter, bool *stale)
{
    struct domain *d = current->domain;
    struct grant_table *g = &d->grant;
    bool writable = !(op->flags & GNTMAP_readonly);
    struct mmu_place place = {.table = MFN(0)};
    struct grant_mapping *m;
    struct grant_pin pin;
    uint32_t handle;

    if (unlikely(!(op->flags & IN_USE))) {
        op->status =
            refuse(GNTST_bad_gntref, "map_grant_ref: flags 0x%x: neither for the host nor for devices\n", op->flags);
        return;
    }
    m = take_handle(g, &handle);
    if (unlikely(!m)) {
        op->status = refuse(GNTST_no_space, "map_grant_ref: no room for more than %u mappings\n", g->mapped);
        return;
    }
    op->status = grant_pin(granter, op->ref, d->id, writable, GRANT_MAP, &pin);
    if (unlikely(op->status != GNTST_okay)) {
        free_handle(g, handle, m);
        return;
    }
    if (unlikely(d->hvm)) {
        if (!map_translated(op, d, pin.frame, writable, &place)) {
            release(pin.frame, op->ref, op->flags, 2);
            free_handle(g, handle, m);
            op->status = GNTST_general_error;
            return;
        }
    } else if (likely(op->flags & GNTMAP_host_map)) {
        uint64_t flags = PTE_PRESENT | PTE_USER | PTE_ACCESSED | PTE_DIRTY | PTE_NX | (writable ? PTE_WRITE : 0) |
                         (uint64_t)(op->flags >> _GNTMAP_guest_avail0 & 7) << 9;

        if (unlikely(!mmu_grant_map(op->host_addr, op->flags & GNTMAP_contains_pte, pin.frame, flags, &place, stale))) {
            release(pin.frame, op->ref, op->flags, 2);
            free_handle(g, handle, m);
            op->status = GNTST_general_error;
            return;
        }
    } else {
        put_frame(pin.frame, writable, 1); /* there is no page-table entry to have it */
    }
    op->handle = handle;
    op->dev_bus_addr = likely(!d->hvm) ? mfn_to_maddr(pin.frame).n : 0;
    m->ref = op->ref;
    m->frame = (uint32_t)pin.frame.n;
    m->table = (uint32_t)place.table.n;
    m->slot = (uint16_t)place.slot;
    publish(m, op->flags & KEPT_FLAGS);
}

/* Makes a mapping busy for an unmap; null if there is none by that handle. */
static struct grant_mapping *begin(struct grant_table *g, uint32_t handle, unsigned *flags)
{
    struct grant_mapping *m = NULL;

    spin_lock(&g->map_lock);
    if (likely(handle < g->map_pages * MAPS_PER_PAGE)) {
        m = mapping_at(g, (uint32_t)index_nospec(handle, g->map_pages * MAPS_PER_PAGE));
        *flags = m->flags;
        if (likely((*flags & IN_USE) && !(*flags & BUSY)))
            m->flags = (uint16_t)(*flags | BUSY);
        else
            m = NULL;
    }
    spin_unlock(&g->map_lock);
    return m;
}

int16_t grant_unmap_begin(struct grant_unmap *u, grant_handle_t handle, uint64_t address, uint64_t bus_address,
                          uint64_t new_address)
{
    unsigned flags;
    struct domain *d = current->domain;
    struct grant_mapping *m = begin(&d->grant, handle, &flags);
    mfn_t frame;

    if (unlikely(!m))
        return refuse(GNTST_bad_handle, "unmap_grant_ref: there is no mapping %u\n", handle);
    frame = MFN(m->frame);
    u->handle = handle;
    u->mapping = m;
    u->left = flags;
    u->entry = 0;
    if (unlikely(bus_address && (flags & GNTMAP_device_map))) {
        if (bus_address != mfn_to_maddr(frame).n) {
            publish(m, flags);
            return refuse(GNTST_general_error, "unmap_grant_ref: mapping %u is of bus address 0x%lx, not 0x%lx\n",
                          handle, mfn_to_maddr(frame).n, bus_address);
        }
        u->left &= ~GNTMAP_device_map;
    }
    if (likely(address && (flags & GNTMAP_host_map))) {
        struct mmu_place place = {.table = MFN(m->table), .slot = m->slot};

        if (unlikely(!(likely(!d->hvm) ? mmu_grant_unmap(&place, frame, address, flags & GNTMAP_contains_pte,
                                                         new_address, &u->entry)
                                       : unmap_translated(m, flags, d, address, new_address, &u->entry)))) {
            publish(m, flags);
            return GNTST_general_error;
        }
        u->left &= ~GNTMAP_host_map;
    }
    return GNTST_okay;
}

void grant_unmap_end(const struct grant_unmap *u)
{
    struct grant_mapping *m = u->mapping;
    bool writable = !(m->flags & GNTMAP_readonly);
    /* The guest may have made the entry read-only. */
    bool alike = (u->entry & (PTE_PRESENT | PTE_WRITE)) == (PTE_PRESENT | (writable ? PTE_WRITE : 0));

    if (unlikely(u->entry && (!alike || u->left & IN_USE)))
        put_frame(MFN(m->frame), u->entry & PTE_WRITE, 1);
    if (unlikely(u->left & IN_USE)) {
        publish(m, u->left);
        return;
    }
    release(MFN(m->frame), m->ref, m->flags, alike ? 2 : 1);
    free_handle(&current->domain->grant, u->handle, m);
}

/* Page by page from the end, so that what is left says how far it came. */
bool grant_release_mappings(struct domain *d)
{
    struct grant_table *g = &d->grant;

    if (g->mapped)
        tlb_flush_mask(&d->dirty_cpus);
    while (g->map_pages) {
        struct grant_mapping *page = g->maps[g->map_pages - 1];

        for (unsigned i = 0; i < MAPS_PER_PAGE; i++) {
            if (page[i].flags & IN_USE) {
                release(MFN(page[i].frame), page[i].ref, page[i].flags, 1);
                page[i].flags = 0;
                g->mapped--;
            }
        }
        free_pages(page, 0);
        g->map_pages--;
        if (g->map_pages && hypercall_preempt_check())
            return false;
    }
    heap_free(g->maps);
    g->maps = NULL;
    g->map_slots = 0;
    return true;
}

void grant_each_mapping(const struct domain *d, void (*fn)(void *arg, mfn_t m, bool writable), void *arg)
{
    const struct grant_table *g = &d->grant;

    for (uint32_t handle = 0; handle < g->map_pages * MAPS_PER_PAGE; handle++) {
        const struct grant_mapping *m = mapping_at(g, handle);

        if (m->flags & IN_USE)
            fn(arg, MFN(m->frame), !(m->flags & GNTMAP_readonly));
    }
}
