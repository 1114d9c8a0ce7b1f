/*
 * A domain's physical memory: nested page tables from guest frame numbers to machine frames, walked by the processor.
 *
 * An entry that is no table is of one of these kinds:
 *   RAM        a leaf: the processor goes on;
 *   grant      a leaf of one frame: another's, mapped by a grant, maybe read-only; never to be executed. Only who unmaps the grant takes
 *              it away. It holds the reference of domain/grant.h that a page-table entry would have;
 *   hole       nothing is there, and nothing comes by itself;
 *   on demand  not present, but marked: a frame of the domain's comes there when it is first used (hvm/pod.h). The mark stands for one
 *              frame in a lowest table, for 512 in one above. It is a bit that neither AMD-V nor VT-x looks at where bits 0-2 are clear.
 *
 * Invariants:
 *  1. Each leaf of RAM holds, for each frame that it maps, a WRITABLE reference of the owner's (memory/frame.h), so that a frame
 *     is never given to someone else while a guest can reach it.
 *  2. A reference is dropped only when all CPUs have forgotten the translation: p2m_flush comes between.
 *  3. A table, once it is there, stays until the domain is freed: entries change, a large page becomes a table, a table never
 *     becomes a large page. So neither the processor nor a reader without a lock can be in a table that is gone. Whoever maps a
 *     large page where a table is gets small ones.
 *  4. As many frames are marked as 'pod.entries' counts, while the lock is free.
 * Tables belong to Croft. Entries are read without a lock and written under 'lock', in one store of 8 bytes.
 *
 * The lock: it is held over flushes, as mm_lock is. Whoever waits in a flush waits for CPUs to take an interrupt, so this lock is
 * only taken with interrupts enabled and never by an interrupt handler: a CPU that spins for it takes the interrupt all the same.
 */
#ifndef HVM_P2M_H
#define HVM_P2M_H

#include "hvm/pod.h"
#include "lib/spinlock.h"
#include "lib/types.h"

struct domain;

enum p2m_kind { P2M_HOLE, P2M_ON_DEMAND, P2M_RAM, P2M_GRANT_RW, P2M_GRANT_RO };

struct p2m {
    spinlock_t lock;
    const struct domain *d;
    uint64_t *root;            /* null: none */
    uint64_t table_pages;      /* how many there are, the root too */
    uint64_t max_gfn;          /* the highest that was ever mapped */
    volatile uint64_t flushes; /* counts: vcpus whose hvm->flushed is behind begin with an empty TLB */
    /* p2m_release: where it is, and what is out of the tables already, but has its references still */
    uint64_t release_gfn;
    mfn_t dropping;
    uint64_t dropping_count;
    bool dropping_writable;
    struct pod pod; /* populate on demand; under the lock */
};

#define P2M_MAX_GFN ((1UL << 36) - 1) /* 48 bits of address */

/* Boot: entries of AMD-V or of EPT, and may they map 1 GiB? */
void p2m_set_format(bool ept, bool gib_pages);
int p2m_init(struct domain *d); /* -ENOMEM */
/*
 * A domain may have so many tables, twice what its memory needs, what its tools have marked included, and some for what is mapped here
 * and there: beyond that p2m_add and p2m_remove fail with -ENOMEM, so that a guest that scatters its frames uses up no more of the
 * machine than that.
 */
#define P2M_TABLES_MAX(pages) ((pages) / 256 + 1024)
/*
 * Maps 2^order frames (order 0, 9, 18; both numbers aligned) that d owns, with a reference each. What was there goes, as by
 * p2m_remove. -EINVAL: out of range, d is dying, or a frame is not d's to write; -EBUSY: a grant is mapped there; -ENOMEM. No
 * translation has changed then, though there may be tables more than before. Interrupts enabled; order 18 takes milliseconds.
 */
int p2m_add(struct domain *d, gfn_t gfn, mfn_t mfn, unsigned order);
/*
 * Unmaps one frame, if one is mapped there; splits a large page. Returns it, WITH its reference (frame_put_writable), or INVALID_MFN;
 * the CPUs have forgotten it. Of several callers at once one gets the frame. *error: 0, -ENOMEM (a table for the split; the
 * frame stays mapped), -EBUSY (a grant is mapped there), or P2M_WAS_ON_DEMAND: there was a mark only, which is gone (pod_trim).
 * Interrupts enabled.
 */
#define P2M_WAS_ON_DEMAND 1
mfn_t p2m_remove(struct domain *d, gfn_t gfn, int *error);
/*
 * Maps a frame that was granted to d, where nothing is; the reference, WRITABLE or not, is the caller's, and the entry's if this succeeds.
 * -EINVAL: out of range, or d is dying; -EEXIST; -ENOMEM. Interrupts enabled.
 */
int p2m_add_grant(struct domain *d, gfn_t gfn, mfn_t mfn, bool writable);
/* Takes it away again, if it is there. The caller has all CPUs forget it (p2m_flush), then drops its reference. Interrupts enabled. */
bool p2m_remove_grant(struct domain *d, gfn_t gfn, mfn_t mfn) __must_check;
/* The frame behind gfn, or INVALID_MFN. No reference: whoever uses it gets one by frame_get and so learns whether it is still d's.
 * Any context, no lock. */
mfn_t p2m_lookup(const struct domain *d, gfn_t gfn);
mfn_t p2m_lookup_writable(const struct domain *d, gfn_t gfn); /* ... unless it may only be read */
#define P2M_PIECE_SHIFT 21
#define P2M_PIECE_SIZE (1UL << P2M_PIECE_SHIFT)
/* The first frame of the piece of 2 MiB around gfn, if one entry maps it, writable, or INVALID_MFN. Any context, no lock. */
mfn_t p2m_lookup_piece(const struct domain *d, gfn_t gfn);
enum p2m_kind p2m_kind(const struct domain *d, gfn_t gfn); /* any context, no lock */
/* The first number from gfn on where no hole is, or end if there is none below it. Any context, no lock. */
uint64_t p2m_next(const struct domain *d, uint64_t gfn, uint64_t end);
/*
 * The frame behind gfn with a general reference, if it is d's, or INVALID_MFN. While someone has that reference no sweep of hvm/pod.h
 * takes the frame away from there, nor had one when it was got: to hand a frame to others, p2m_lookup is not enough. Any context, no lock.
 */
mfn_t p2m_hold(const struct domain *d, gfn_t gfn);
/* The same, with a WRITABLE reference if 'writable'; what is on demand comes (pod_populate_now). Interrupts enabled. */
mfn_t p2m_get_frame(struct domain *d, gfn_t gfn, bool writable);
/*
 * Makes all CPUs forget the translations that were changed before the call. Interrupts enabled, no lock held that is also taken
 * with interrupts disabled. It counts 'flushes' up, and then interrupts each CPU in d->dirty_cpus and waits until each has taken
 * the interrupt. What it asks of the code that runs a vcpu:
 *   a) its CPU's bit in dirty_cpus is set by a locked instruction before b, and cleared only when the vcpu is out of the guest;
 *   b) with interrupts disabled from here until the guest runs, it compares its hvm->flushed with 'flushes'; if it is behind, it
 *      takes that value and enters with an empty TLB;
 *   c) an interrupt that arrives after b makes the vcpu leave the guest at once (the control block says that they are intercepted);
 *   d) a vcpu that comes to another CPU has no translations there from an earlier stay (gets another ASID), as hvm->flushed
 *      tells only about where it was last.
 * Why this is enough. Entries are changed before the count, which is a full barrier, and dirty_cpus is read after it. If a CPU's
 * bit is not seen there, the vcpu sets it later, and compares later still: it sees the new count, and what it loads after that
 * are the new entries. If the bit is seen, the CPU is interrupted, and the call ends only when it has run the (empty) function.
 * That cannot be between b and the guest's first instruction, nor in the guest: it is before a comparison that sees the new
 * count, or after the vcpu has left the guest, and before it comes back it compares again.
 */
void p2m_flush(struct domain *d);
/* Drops all mappings, piece by piece; d is dying and none of its vcpus runs. False: preempted, call again. True again if there is
 * nothing left. */
bool p2m_release(struct domain *d);
/* d's last reference has gone: frees the tables. */
void p2m_destroy(struct domain *d);
/* For the audit: calls fn for each leaf, of 2^order frames; 'm' is as the entry has it. The lock is held. */
typedef void p2m_leaf_fn(void *arg, gfn_t gfn, mfn_t m, unsigned order, enum p2m_kind kind);
void p2m_each(struct domain *d, p2m_leaf_fn *fn, void *arg);
uint64_t p2m_marked(struct domain *d); /* how many frames are marked */

/* For hvm/pod.c. The lock is held. */
struct p2m_place {
    uint64_t *e; /* the entry */
    unsigned level;
    enum p2m_kind kind;
    mfn_t m; /* of RAM: behind the number that was asked for */
};
/* Where the walk to gfn, which is in range, ends */
void p2m_find(struct p2m *p, uint64_t gfn, struct p2m_place *to);
/* The entry of that level for gfn, split off what is larger. Null: no memory. */
uint64_t *p2m_make_entry(struct p2m *p, uint64_t gfn, unsigned level);
void p2m_set_leaf(uint64_t *e, mfn_t m,
                  unsigned level); /* references are the caller's affair, as is the flush of what was there */
void p2m_set_mark(uint64_t *e);
/* Marks all of an entry of that level. -EEXIST: RAM is in it; -ENOMEM. *fresh: how many frames had no mark before. */
int p2m_mark(struct p2m *p, uint64_t gfn, unsigned level, uint64_t *fresh);

#endif
