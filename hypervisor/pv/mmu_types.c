/*
 * Page tables become and stop being page tables here. The invariants are in memory/frame.h; what this file adds:
 *
 * - A frame gets a table type by validation of all its entries, each of which takes references. While that goes on the owner's
 *   mm_lock is held, so nobody sees a table that is half done.
 * - Validation of a large tree is preemptible between lower tables. What is finished by then is kept alive by the vcpu (list
 *   "kept": it holds the typed reference); the tables above it are given up entirely; the hypercall is continued and starts
 *   again from the top, where it finds the kept parts typed. So each slice makes progress and no state is half done.
 * - The end of a table gives back each entry's references at once. A lower table whose last reference that was is not taken
 *   apart recursively: the vcpu takes over the reference (list "doomed"), and takes doomed tables apart one by one,
 *   preemptibly, before the hypercall returns; after an error, with the vcpu's next MMU call.
 */
#include "cpu/tlb.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"
#include "memory/alloc.h"
#include "memory/frame_inline.h"
#include "pv/mmu_types.h"
#include "pv/descriptor.h"
#include "pv/io_memory.h"
#include "pv/mmu.h"

#define CAS(p, old, new) __atomic_compare_exchange_n(p, old, new, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)

/* Lists of typed references: stacks of frame numbers, a page each. The few tables of a process need no page. */
#define HELD_PER_PAGE ((PAGE_SIZE - sizeof(struct held_list)) / sizeof(mfn_t))

static uint64_t held_room(const struct mmu_held *held, const struct held_list *p)
{
    return p == &held->few.list ? HELD_FEW : HELD_PER_PAGE;
}

static bool held_push(struct mmu_held *held, struct held_list **list, mfn_t m)
{
    struct held_list *p = *list;

    if (!p || p->count == held_room(held, p)) {
        p = !p && list == &held->doomed ? &held->few.list : alloc_pages(0);
        if (!p)
            return false;
        p->next = *list;
        *list = p;
    }
    p->mfn[p->count++] = m;
    return true;
}

static bool held_pop(struct mmu_held *held, struct held_list **list, mfn_t *m)
{
    struct held_list *p = *list;

    if (!p)
        return false;
    *m = p->mfn[--p->count];
    if (!p->count) {
        *list = p->next;
        if (p != &held->few.list)
            free_pages(p, 0);
    }
    return true;
}

void mmu_each_held(const struct mmu_held *held, void (*fn)(void *arg, mfn_t m), void *arg)
{
    const struct held_list *lists[] = {held->kept, held->doomed};

    for (unsigned i = 0; i < ARRAY_SIZE(lists); i++)
        for (const struct held_list *p = lists[i]; p; p = p->next)
            for (uint64_t j = 0; j < p->count; j++)
                fn(arg, p->mfn[j]);
}

int leaf_get_special(struct mmu_context *c, uint64_t *e)
{
    const struct domain *owner;
    mfn_t m = pte_mfn(*e);

    if (*e & c->l.d->pv.leaf_refused)
        return refuse(-EINVAL,
                      "mapping of frame 0x%lx refused: only a domain with devices may choose cache attributes\n", m.n);
    if (mfn_is_io(m)) {
        enum io_access access = c->l.d->pv.io_memory ? io_frame_access(m) : IO_NONE;

        if (access == IO_NONE)
            return refuse(-EINVAL, "mapping of frame 0x%lx, which is not RAM, refused\n", m.n);
        if (access == IO_READ_ONLY)
            *e &= ~PTE_WRITE;
        *e = (*e | PTE_USER) & ~PTE_GLOBAL;
        return 0;
    }
    if (c->m2p && !(*e & PTE_WRITE) && m2p_holds(m) && frame_ref_get(frame_of(m), DOMID_CROFT)) {
        *e = (*e | PTE_USER) & ~PTE_GLOBAL;
        return 0;
    }
    /* What Croft shares with the tools' own domain: trace buffers. It could map them as its own as well. */
    if (c->m2p && frame_of(m)->control & FRAME_SHARED && frame_get_foreign(m, current->domain, *e & PTE_WRITE)) {
        *e = (*e | PTE_USER) & ~PTE_GLOBAL;
        return 0;
    }
    if (c->foreign && !c->foreign->dying && frame_get_foreign(m, c->foreign, *e & PTE_WRITE)) {
        *e = (*e | PTE_USER) & ~PTE_GLOBAL;
        return 0;
    }
    if (c->m2p)
        return refuse(-EINVAL, "%s mapping of frame 0x%lx refused: it is none of Croft's that domain 0 may %s\n",
                      *e & PTE_WRITE ? "writable" : "read-only", m.n, *e & PTE_WRITE ? "write" : "read");
    if (!c->frames && !c->foreign)
        return refuse(-EINVAL, "frame 0x%lx is RAM, not device memory\n", m.n);
    owner = c->frames ? c->frames : c->foreign;
    if (frame_owner(frame_of(m)) != owner->id)
        return refuse(-EINVAL, "mapping of frame 0x%lx refused: it belongs to d%u, not d%u\n", m.n,
                      frame_owner(frame_of(m)), owner->id);
    return refuse(-EINVAL,
                  "writable mapping of frame 0x%lx refused: it is in use as a table or shared read-only (type 0x%lx)\n",
                  m.n, frame_of(m)->type);
}

int entry_get_table(struct mmu_context *c, unsigned level, uint64_t *e)
{
    if (unlikely(*e & DISALLOWED_TABLE))
        return refuse(-EINVAL,
                      "L%u entry 0x%lx refused: large pages, global and uncached tables are not offered to guests\n",
                      level, *e);
    *e |= PTE_USER;
    return table_get(c, pte_mfn(*e), FRAME_L1 + level - 2);
}

/* As entry_put for a finished part of a tree that is given up for a while: keeps a lower table alive. */
static void entry_keep(struct mmu_context *c, unsigned level, uint64_t e)
{
    mfn_t m = pte_mfn(e);

    if ((e & PTE_PRESENT) && level > 1 && TYPE_COUNT(frame_of(m)->type) == 1 && held_push(c->held, &c->held->kept, m))
        return; /* the reference went to the list */
    entry_put(c, level, e);
}

/* Croft's part of each root table */
static void fill_hole(uint64_t *l4)
{
    for (unsigned i = 0; i < HOLE_L4_COUNT; i++)
        l4[HOLE_L4_FIRST + i] = host_l4[HOLE_L4_FIRST + i];
}

/* Most tables are nearly empty: entries are looked at one by one only in groups of eight with anything in them. */
#define GROUP 8
_Static_assert(HOLE_L4_FIRST % GROUP == 0 && HOLE_L4_COUNT % GROUP == 0,
               "Croft's part of a root is left out by groups");
static inline bool group_is_empty(const uint64_t *p)
{
    return !(p[0] | p[1] | p[2] | p[3] | p[4] | p[5] | p[6] | p[7]);
}

/* References for the entries of a group. If it fails, *done is how many of them were done. */
static inline __attribute__((always_inline)) int validate_group(struct mmu_context *c, uint64_t *group, unsigned level,
                                                                unsigned *done)
{
    for (unsigned i = 0; i < GROUP; i++) {
        uint64_t e = group[i];
        int rc;

        if (!(e & PTE_PRESENT))
            continue;
        *done = i;
        if (level > 1 && c->held && c->validated && hypercall_preempt_check())
            return MMU_RESTART;
        rc = entry_get(c, level, &e);
        if (unlikely(rc))
            return rc;
        if (e != group[i])
            group[i] = e;
    }
    return 0;
}

static int validate(struct mmu_context *c, mfn_t m, unsigned level)
{
    uint64_t *table = mfn_to_virt(m), *group;
    unsigned i, done = 0;
    int rc = 0;

    for (group = table; group < table + 512; group += GROUP) {
        if (group_is_empty(group) || (level == 4 && l4_slot_is_ours((unsigned)(group - table))))
            continue;
        rc = validate_group(c, group, level, &done);
        if (unlikely(rc))
            break;
    }
    if (likely(!rc)) {
        if (level == 4)
            fill_hole(table);
        return 0;
    }
    for (i = (unsigned)(group - table) + done; i-- > 0;) {
        if (level == 4 && l4_slot_is_ours(i))
            continue;
        if (rc == MMU_RESTART)
            entry_keep(c, level, table[i]);
        else
            entry_put(c, level, table[i]);
    }
    return rc;
}

int table_get(struct mmu_context *c, mfn_t m, enum frame_type type)
{
    struct frame *f;
    uint64_t t;
    int rc;

    if (unlikely(c->l.d->dying))
        return refuse(-EINVAL, "frame 0x%lx cannot be an L%u table: d%u is being destroyed\n", m.n, type_level(type),
                      c->l.d->id);
    if (unlikely(!frame_get(m, c->l.d)))
        return refuse(-EINVAL, "frame 0x%lx cannot be an L%u table: it is not a frame of this domain\n", m.n,
                      type_level(type));
    f = frame_of(m);
    if (unlikely(f->control & FRAME_SHARED)) {
        frame_put(m);
        return refuse(-EINVAL, "frame 0x%lx cannot be an L%u table: Croft itself writes to it\n", m.n,
                      type_level(type));
    }
    t = READ_ONCE(f->type);
    for (;;) {
        if (TYPE_COUNT(t)) {
            if (unlikely(TYPE_OF(t) != type || !(t & TYPE_VALIDATED))) {
                frame_put(m);
                return refuse(-EINVAL, "frame 0x%lx cannot be an L%u table: it is in use, type 0x%lx\n", m.n,
                              type_level(type), t);
            }
            if (CAS(&f->type, &t, t + 1))
                return 0;
        } else if (unlikely(t & TYPE_LEAVING)) {
            t = frame_type_left(f);
        } else if (CAS(&f->type, &t, TYPE_MAKE(type) | 1)) {
            break;
        }
    }
    /* Nobody may go on writing to it through a stale translation, nor walk it as what it was before. */
    if (TYPE_OF(t) != type && TYPE_OF(t) != FRAME_NONE)
        tlb_flush_since(frame_users(f, c->l.d), f->tlb_stamp);
    rc = validate(c, m, type_level(type));
    if (unlikely(rc)) {
        f->tlb_stamp = tlb_clock;
        WRITE_ONCE(f->type, TYPE_MAKE(type));
        frame_put(m);
        return rc;
    }
    __atomic_fetch_or(&f->type, TYPE_VALIDATED, __ATOMIC_RELEASE);
    c->validated++;
    return 0;
}

static void take_apart(struct mmu_context *c, mfn_t m, unsigned level)
{
    struct frame *f = frame_of(m);
    const uint64_t *table = mfn_to_virt(m);

    for (const uint64_t *group = table; group < table + 512; group += GROUP) {
        if (group_is_empty(group) || (level == 4 && l4_slot_is_ours((unsigned)(group - table))))
            continue;
        for (unsigned i = 0; i < GROUP; i++)
            if (group[i] & PTE_PRESENT)
                entry_put(c, level, group[i]);
    }
    smp_mb(); /* the entry that pointed here is gone for all CPUs before the clock is read */
    f->tlb_stamp = tlb_clock;
    WRITE_ONCE(f->type, TYPE_MAKE(TYPE_OF(f->type)));
    frame_put(m);
}

void table_put(struct mmu_context *c, mfn_t m)
{
    struct frame *f = frame_of(m);
    uint64_t t = READ_ONCE(f->type);

    /* Changes of a table's type count happen under the mm_lock, so the count cannot move here. */
    ASSERT(TYPE_COUNT(t) && type_is_table(TYPE_OF(t)));
    if (TYPE_COUNT(t) > 1) {
        WRITE_ONCE(f->type, t - 1);
        frame_put(m);
        return;
    }
    if (c->held && held_push(c->held, &c->held->doomed, m))
        return;
    take_apart(c, m, type_level(TYPE_OF(t)));
}

bool mmu_drain_doomed(struct mmu_context *c)
{
    struct mmu_held *held = c->held;
    mfn_t m;

    while (held_pop(held, &held->doomed, &m)) {
        struct frame *f = frame_of(m);
        uint64_t t = f->type;

        if (TYPE_COUNT(t) > 1) { /* found a new user since */
            WRITE_ONCE(f->type, t - 1);
            frame_put(m);
        } else {
            take_apart(c, m, type_level(TYPE_OF(t)));
        }
        if (held->doomed && hypercall_preempt_check())
            return false;
    }
    return true;
}

void mmu_drop_kept(struct mmu_context *c)
{
    mfn_t m;

    while (held_pop(c->held, &c->held->kept, &m))
        table_put(c, m);
}

/* Descriptor pages: the same life as an L1 table's, with descriptors for entries, which refer to nothing. */

bool frame_get_segdesc(mfn_t m, struct domain *d)
{
    struct domain_locked l;
    struct frame *f;
    uint64_t t;
    bool ok = false;

    if (!frame_get(m, d))
        return false;
    f = frame_of(m);
    if (f->control & FRAME_SHARED) { /* Croft itself writes to it */
        frame_put(m);
        return false;
    }
    l = domain_mm_lock(d);
    t = READ_ONCE(f->type);
    for (;;) {
        if (TYPE_COUNT(t)) {
            if (TYPE_OF(t) != FRAME_SEGDESC)
                break;
            if (CAS(&f->type, &t, t + 1)) {
                ok = true;
                break;
            }
        } else if (unlikely(t & TYPE_LEAVING)) {
            t = frame_type_left(f);
        } else if (CAS(&f->type, &t, TYPE_MAKE(FRAME_SEGDESC) | 1)) {
            if (TYPE_OF(t) != FRAME_SEGDESC && TYPE_OF(t) != FRAME_NONE)
                tlb_flush_since(frame_users(f, d), f->tlb_stamp);
            ok = descriptor_validate_page(d, mfn_to_virt(m));
            WRITE_ONCE(f->type, TYPE_MAKE(FRAME_SEGDESC) | (ok ? TYPE_VALIDATED | 1 : 0));
            break;
        }
    }
    domain_mm_unlock(l);
    if (!ok)
        frame_put(m);
    return ok;
}

void frame_put_segdesc(mfn_t m)
{
    struct frame *f = frame_of(m);
    struct domain *d = domain_owner_of_frame(frame_owner(f));
    struct domain_locked l = domain_mm_lock(d);
    uint64_t t = f->type;

    ASSERT(TYPE_OF(t) == FRAME_SEGDESC && TYPE_COUNT(t));
    f->tlb_stamp = tlb_clock;
    WRITE_ONCE(f->type, TYPE_COUNT(t) == 1 ? TYPE_MAKE(FRAME_SEGDESC) : t - 1);
    domain_mm_unlock(l);
    frame_put(m);
}
