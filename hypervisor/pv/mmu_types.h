/* Typed references to page tables: private to the PV MMU (pv/mmu*.c) and the audit. */
#ifndef PV_MMU_TYPES_H
#define PV_MMU_TYPES_H

#include "domain/domain.h"
#include "memory/map.h"

#define MMU_RESTART 1 /* positive: not an error. The work is not finished and shall be tried again from the top */

/* Whose frames new leaf entries may refer to: the locked domain itself, another one for foreign mappings, or nobody. */
struct mmu_context {
    struct domain_locked l;  /* owner of the page tables */
    struct domain *frames;   /* owner of the mapped frames; null: device memory only */
    unsigned validated;      /* tables newly validated in this slice: a slice without progress is not preempted */
    bool ldt_stale;          /* the kernel root changed: LDT pages were mapped by the old one */
    struct vcpu *v;          /* who works: holds unfinished parts. Null: not preemptible (builder, teardown) */
};

/* One typed and one general reference to table m. 0, -EINVAL (logged), or MMU_RESTART. */
int table_get(struct mmu_context *c, mfn_t m, enum frame_type type);
/* Gives one back. The last one takes the table apart: its lower tables go to the doomed list. */
void table_put(struct mmu_context *c, mfn_t m);

/* Takes apart what is doomed; false if there is more to do (preempted). */
bool mmu_drain_doomed(struct mmu_context *c);
/* An operation ended (not with MMU_RESTART): what was kept for it is no longer needed. */
void mmu_drop_kept(struct mmu_context *c);

/* References for the target of one entry of a table of this level; corrects *e as the ABI wants it. 0, -EINVAL, MMU_RESTART. */
int entry_get(struct mmu_context *c, unsigned level, unsigned slot, uint64_t *e);
void entry_put(struct mmu_context *c, unsigned level, uint64_t e);

static inline unsigned type_level(enum frame_type t) { return t - FRAME_L1 + 1; }
static inline bool type_is_table(enum frame_type t) { return t >= FRAME_L1 && t <= FRAME_L4; }
static inline bool l4_slot_is_ours(unsigned slot) { return slot - HOLE_L4_FIRST < HOLE_L4_COUNT; }
/* A frame that is not RAM: device memory as far as Croft knows. */
static inline bool mfn_is_io(mfn_t m) { return !mfn_valid(m) || frame_owner(frame_of(m)) == DOMID_IO; }

#endif
