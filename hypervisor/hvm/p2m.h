/*
 * A domain's physical memory: nested page tables from guest frame numbers to machine frames, walked by the processor.
 *
 * Invariants:
 *  1. Each present leaf holds, for each frame that it maps, a WRITABLE reference of the owner's (memory/frame.h), so that a frame
 *     is never given to someone else while a guest can reach it.
 *  2. A reference is dropped only when all CPUs have forgotten the translation: p2m_flush comes between.
 * Tables belong to Croft; they are never freed before the domain is. Entries are read without a lock and written under 'lock'.
 */
#ifndef HVM_P2M_H
#define HVM_P2M_H

#include "lib/spinlock.h"
#include "lib/types.h"

struct domain;

struct p2m {
    spinlock_t lock;
    uint64_t *root;        /* null: none */
    uint64_t table_pages;  /* how many there are, the root too */
    uint64_t max_gfn;      /* the highest that was ever mapped */
    volatile uint64_t flushes; /* counts: vcpus whose hvm->flushed is behind begin with an empty TLB */
};

#define P2M_MAX_GFN ((1UL << 36) - 1) /* 48 bits of address */

int p2m_init(struct domain *d); /* -ENOMEM */
/*
 * Maps 2^order frames (order 0, 9, 18; both numbers aligned) that d owns, with a reference each. What was there goes, as by
 * p2m_remove. -EINVAL: out of range, or a frame is not d's to write (nothing has changed then); -ENOMEM. Interrupts enabled.
 */
int p2m_add(struct domain *d, gfn_t gfn, mfn_t mfn, unsigned order);
/* Unmaps one frame, if one is mapped there; splits a large page. Returns it, WITH its reference (frame_put_writable), or INVALID_MFN;
 * the CPUs have forgotten it. -ENOMEM (a table for the split) is *error. Interrupts enabled. */
mfn_t p2m_remove(struct domain *d, gfn_t gfn, int *error);
/* The frame behind gfn, or INVALID_MFN. No reference: whoever uses it gets one by frame_get and so learns whether it is still d's. */
mfn_t p2m_lookup(const struct domain *d, gfn_t gfn);
/* Drops all mappings, piece by piece; d is dying and none of its vcpus runs. False: preempted, call again. */
bool p2m_release(struct domain *d);
/* d's last reference has gone: frees the tables. */
void p2m_destroy(struct domain *d);
/* For the audit: calls fn for each frame mapped. */
void p2m_each(struct domain *d, void (*fn)(void *arg, mfn_t m), void *arg);

#endif
