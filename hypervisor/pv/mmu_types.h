/* Typed references to page tables: private to the PV MMU (pv/mmu*.c) and the audit. */
#ifndef PV_MMU_TYPES_H
#define PV_MMU_TYPES_H

#include "domain/domain.h"
#include "memory/frame_inline.h"
#include "memory/map.h"

#define MMU_RESTART 1 /* positive: not an error. The work is not finished and shall be tried again from the top */

/* Whose frames new leaf entries may refer to: the locked domain itself; or, for foreign mappings, another one; or nobody. */
struct mmu_context {
    struct domain_locked l; /* owner of the page tables */
    struct domain *frames;  /* owner of the mapped frames, if that is l.d; null: see foreign */
    struct domain
        *foreign; /* owner of the mapped frames, if that is another; null as well: device memory only. Entries that
                             * name its frames otherwise than the machine does were translated before they come here. */
    bool m2p;     /* DOMID_XEN: the machine-to-physical table read-only, and what Croft shares with current's domain */
    unsigned validated;    /* tables newly validated in this slice: a slice without progress is not preempted */
    bool ldt_stale;        /* the kernel root changed: LDT pages were mapped by the old one */
    struct mmu_held *held; /* where unfinished parts are. Null: not preemptible (builder, teardown) */
};

/* One typed and one general reference to table m. 0, -EINVAL (logged), or MMU_RESTART. */
int table_get(struct mmu_context *c, mfn_t m, enum frame_type type);
/* Gives one back. The last one takes the table apart: its lower tables go to the doomed list. */
void table_put(struct mmu_context *c, mfn_t m);

/* Takes apart what is doomed; false if there is more to do (preempted). */
bool mmu_drain_doomed(struct mmu_context *c);
/* An operation ended (not with MMU_RESTART): what was kept for it is no longer needed. */
void mmu_drop_kept(struct mmu_context *c);
/* Calls fn for each typed reference on the lists (the audit). */
void mmu_each_held(const struct mmu_held *held, void (*fn)(void *arg, mfn_t m), void *arg);

static inline unsigned type_level(enum frame_type t) { return t - FRAME_L1 + 1; }
static inline bool type_is_table(enum frame_type t) { return t >= FRAME_L1 && t <= FRAME_L4; }
static inline bool l4_slot_is_ours(unsigned slot) { return slot - HOLE_L4_FIRST < HOLE_L4_COUNT; }
/* A frame that is not RAM: device memory as far as Croft knows. */
static inline bool mfn_is_io(mfn_t m) { return !mfn_valid(m) || frame_owner(frame_of(m)) == DOMID_IO; }

/*
 * The type word of a frame of d's; false if it is none. A reference is held meanwhile: without one the frame could have another
 * owner by the time that the type is read. A table type with a count stays until d's mm_lock, which the caller holds, is
 * released.
 */
static inline __attribute__((always_inline)) bool frame_type_read(mfn_t m, const struct domain *d, uint64_t *type)
{
    if (unlikely(!mfn_valid(m) || !frame_ref_get(frame_of(m), d->id)))
        return false;
    *type = READ_ONCE(frame_of(m)->type);
    frame_ref_put(frame_of(m));
    return true;
}

int leaf_get_special(struct mmu_context *c, uint64_t *e); /* device memory, and every refusal */
int entry_get_table(struct mmu_context *c, unsigned level, uint64_t *e);

static inline __attribute__((always_inline)) int leaf_get(struct mmu_context *c, uint64_t *e)
{
    mfn_t m = pte_mfn(*e);

    if (unlikely(!mfn_valid(m) || !c->frames || *e & c->l.d->pv.leaf_refused))
        return leaf_get_special(c, e);
    if (unlikely(
            !(*e & PTE_WRITE ? frame_writable_get(frame_of(m), c->frames) : frame_ref_get(frame_of(m), c->frames->id))))
        return leaf_get_special(c, e);
    /* The guest's kernel runs in ring 3; translations of it are not global, or they would outlive a change of root. */
    *e = (*e | PTE_USER) & ~PTE_GLOBAL;
    return 0;
}

/*
 * Bits that no entry of a guest's for a table may have. Bits 52-62 are free for software, as the processor has them without
 * protection keys. Memory that is reached past the caches is another than what Croft has checked through them: so tables are
 * read through the caches, and so are the pages of who has no devices (leaf_refused).
 */
#define DISALLOWED_TABLE (PTE_PSE | PTE_GLOBAL | PTE_PWT | PTE_PCD)

/* References for the target of one entry of a table of this level; corrects *e as the ABI wants it. 0, -EINVAL, MMU_RESTART. */
static inline __attribute__((always_inline)) int entry_get(struct mmu_context *c, unsigned level, uint64_t *e)
{
    if (!(*e & PTE_PRESENT))
        return 0;
    return likely(level == 1) ? leaf_get(c, e) : entry_get_table(c, level, e);
}

static inline __attribute__((always_inline)) void entry_put(struct mmu_context *c, unsigned level, uint64_t e)
{
    mfn_t m = pte_mfn(e);

    if (!(e & PTE_PRESENT))
        return;
    if (unlikely(level > 1))
        table_put(c, m);
    else if (unlikely(mfn_is_io(m)))
        ;
    else if (e & PTE_WRITE)
        frame_writable_put(frame_of(m));
    else
        frame_ref_put(frame_of(m));
}

/* One step down: the table that entry 'slot' of m points to. Hypervisor slots hold large pages; a guest's do not. */
static inline bool mmu_walk_step(mfn_t *m, unsigned long slot)
{
    uint64_t e = ((uint64_t *)mfn_to_virt(*m))[slot & 511];

    *m = pte_mfn(e);
    return likely((e & (PTE_PRESENT | PTE_PSE)) == PTE_PRESENT);
}

static inline bool mmu_find_l1_table(const struct vcpu *v, unsigned long va, mfn_t *m)
{
    *m = v->pv.kernel_root;
    return mmu_walk_step(m, va >> 39) && mmu_walk_step(m, va >> 30) && mmu_walk_step(m, va >> 21);
}

/* By the slot: an address that is not canonical leads to the hypervisor's tables as well. */
static inline bool va_in_our_slots(unsigned long va) { return l4_slot_is_ours(va >> 39 & 511); }

#endif
