/*
 * The frame table: who owns each frame of RAM, how often it is in use, and as what.
 *
 * Invariants (frame_audit checks them):
 *  1. A domain maps, or keeps in a page table, only frames that it owns, was granted, or may map as device memory;
 *     every such use holds a reference, so a frame with references is never given to someone else.
 *  2. A frame has one type at a time. The type changes only while its type count is zero, and not before every
 *     CPU that could hold a stale translation of its old use has flushed it.
 *  3. WRITABLE and the page-table types exclude each other: no guest writes a table that the processor walks.
 *  4. A frame of a page-table type with a count is VALIDATED, unless the owner's mm_lock is held: each of its present
 *     entries holds a typed reference to what it points to. There are no half-validated tables.
 *  5. Each type reference comes with a general reference.
 *
 * Control word (atomic, one 64-bit compare-and-exchange sees owner and count together):
 *   references 0-31, owner domid 32-47, flags 48-63. Zero references: free.
 * Type word (atomic): count 0-31, type 32-35, flags 36-.
 * WRITABLE and NONE references are taken and dropped without a lock; page-table and descriptor types change hands only
 * under the owner's mm_lock.
 */
#ifndef MEMORY_FRAME_H
#define MEMORY_FRAME_H

#include "hypercall/abi.h"
#include "lib/nospec.h"
#include "lib/util.h"
#include "memory/layout.h"

#define DOMID_CROFT 0x7ff4U /* frames of Croft's own: outside the range of real and reserved domain ids */
#define DOMID_FREE 0x7ffdU  /* frames in the allocator */

enum frame_type { FRAME_NONE, FRAME_WRITABLE, FRAME_L1, FRAME_L2, FRAME_L3, FRAME_L4, FRAME_SEGDESC };

struct frame {
    uint64_t control;
    uint64_t type;
    uint64_t tlb_stamp;  /* tlb_clock when the last typed use went */
    uint32_t next, prev; /* mfns: the owner's page list, or the allocator's free list */
};

#define FRAME_REFS(c) ((uint32_t)(c))
#define FRAME_OWNER(c) ((uint16_t)((c) >> 32))
#define FRAME_ALLOCATED (1UL << 48) /* the owner's own reference: gone once the domain gave the frame back */
#define FRAME_SHARED                                                                                                   \
    (1UL << 49) /* Croft's page that a domain may map (shared_info, grant table, trace buffers): never freed by refs */
#define FRAME_SHARED_RO (1UL << 50) /* ... only read-only */
#define FRAME_FOREIGN                                                                                                  \
    (1UL                                                                                                               \
     << 51) /* another domain has mapped it since it was allocated: a change of type flushes all CPUs, not only the owner's */

#define TYPE_COUNT(t) ((uint32_t)(t))
#define TYPE_OF(t) ((enum frame_type)((t) >> 32 & 15))
#define TYPE_MAKE(type) ((uint64_t)(type) << 32)
#define TYPE_MASK (15UL << 32)
#define TYPE_VALIDATED (1UL << 36)
#define TYPE_PINNED (1UL << 37)   /* the guest pinned it: one type reference */
#define TYPE_FLUSHING (1UL << 38) /* WRITABLE since a moment ago: others wait until its first user has flushed */
#define TYPE_LEAVING (1UL << 39)  /* WRITABLE until a moment ago, count zero: others wait for its last user's stamp */

#define frame_table ((struct frame *)FRAME_TABLE_START)
extern uint64_t max_frame; /* one above the highest RAM frame */

#ifdef CROFT_HOST_TEST
bool mfn_valid(mfn_t m);
struct frame *frame_of(mfn_t m);
mfn_t mfn_of(const struct frame *f);
#else
/* The table is there by sections of 128 frames, where there is RAM: a bit each (memory/boot_memory.c). */
#define FRAMES_PER_SECTION (PAGE_SIZE / sizeof(struct frame))
extern unsigned long *frame_sections;
extern uint64_t frame_section_count;
/* Is there a struct frame for it (RAM as the firmware tells)? */
static inline bool mfn_valid(mfn_t m)
{
    uint64_t section = m.n / FRAMES_PER_SECTION;

    return section < frame_section_count &&
           (frame_sections[index_nospec(section, frame_section_count) / 64] >> section % 64 & 1);
}
static inline struct frame *frame_of(mfn_t m) { return &frame_table[m.n]; }
static inline mfn_t mfn_of(const struct frame *f) { return MFN((uint64_t)(f - frame_table)); }
#endif

static inline domid_t frame_owner(const struct frame *f) { return FRAME_OWNER(READ_ONCE(f->control)); }

struct domain;

/* One more general reference if d owns the frame and it is in use; false otherwise. mfn need not be valid. */
bool frame_get(mfn_t m, const struct domain *d) __must_check;
void frame_put(mfn_t m); /* the last one frees the frame */
/* As frame_get, and a WRITABLE type reference; false also if it is in use as a table or descriptor page. */
bool frame_get_writable(mfn_t m, const struct domain *d) __must_check;
void frame_put_writable(mfn_t m);
/* The same for a mapping by another domain than the owner d: a general reference, with a WRITABLE one if 'writable'. */
bool frame_get_foreign(mfn_t m, const struct domain *d, bool writable) __must_check;
/* The owner gives the frame up (drops FRAME_ALLOCATED). False if it did so before. */
bool frame_release(mfn_t m, struct domain *d);
/*
 * To trade a frame in whole: frame_claim takes the owner's own reference away, so that it is the caller's, if nobody else has one
 * (no mapping, no pin, no grant) and the frame was not given back before; false otherwise. Then frame_put frees the frame, or
 * frame_unclaim gives the reference back to the owner. memory/frame_claim.c.
 */
bool frame_claim(mfn_t m, const struct domain *d) __must_check;
void frame_unclaim(mfn_t m);
/* Makes a frame of Croft's (from alloc_pages) mappable by d. Stays until frame_unshare, which needs no mapping left (else -EBUSY). */
void frame_share(mfn_t m, struct domain *d, bool writable);
int frame_unshare(mfn_t m);
/* Croft gives up a page that d may have mapped, or others from d: it becomes an ordinary frame of d's, free with the last mapping. */
void frame_disown(mfn_t m, struct domain *d);

/* Machine-to-physical table */
bool m2p_holds(mfn_t m); /* is it one of the table's own frames? hypercall/memory.c */
#define M2P_INVALID (~0UL)
#ifdef CROFT_HOST_TEST
uint64_t m2p_read(mfn_t m);
void m2p_write(mfn_t m, uint64_t gpfn);
#else
static inline uint64_t m2p_read(mfn_t m) { return ((volatile uint64_t *)M2P_RW_START)[m.n]; }
static inline void m2p_write(mfn_t m, uint64_t gpfn) { ((volatile uint64_t *)M2P_RW_START)[m.n] = gpfn; }
#endif

/* Walks every frame and every table; logs each finding; returns how many there were. The machine should be quiet
 * (all other vcpus paused); used by the debug key 'a' and by tests. */
unsigned frame_audit(void);

#endif
