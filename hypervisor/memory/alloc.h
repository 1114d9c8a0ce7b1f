/*
 * The page allocator: buddy lists of 2^order frames per NUMA node, and small objects on top of it.
 * Frames given out are zeroed (freed frames are scrubbed on allocation, so no domain sees another's data).
 * Locks: one per node, innermost but for the console. Not callable from interrupt handlers.
 */
#ifndef MEMORY_ALLOC_H
#define MEMORY_ALLOC_H

#include "lib/util.h"

#define MAX_ORDER 18 /* 1 GiB */
#define NODE_ANY 0xff
#define MAX_NODES 16

struct domain;

/* Gives frames of one node to the allocator: at boot, and when what lay in them is no longer needed (one caller at a time). What is not
 * Croft's RAM (no frame table, DOMID_IO) is left out. */
void alloc_add_range(mfn_t start, uint64_t count, unsigned node);
mfn_t alloc_frames(unsigned order, unsigned node); /* zeroed, owner DOMID_CROFT, one reference; INVALID_MFN if none */
void free_frames(mfn_t start, unsigned order);     /* what alloc_frames gave; not for domains' frames */
void *alloc_pages(unsigned order);                 /* as alloc_frames, by direct-map address; null if none */
void free_pages(void *p, unsigned order);
/* A run of frames that belongs to d afterwards (d->tot_pages grows; each holds the "allocated" reference).
 * INVALID_MFN if there is no memory or d->max_pages would be passed. */
mfn_t alloc_domain_frames(struct domain *d, unsigned order, unsigned node);
/*
 * The same, of memory whose addresses fit in so many bits (XENMEMF_address_bits; 0: any), and numbered in the machine-to-physical table
 * from gpfn on (M2P_INVALID: not at all) before it is d's. Afterwards any of it may be another's, until the caller has a reference: d may
 * be dying, or guess a frame and give it back.
 */
mfn_t alloc_domain_frames_numbered(struct domain *d, unsigned order, unsigned node, unsigned address_bits,
                                   uint64_t gpfn);
/* The same for domain 0's memory at boot: frames not used since Croft started are NOT zeroed (they hold nothing of
 * another domain, and zeroing gigabytes takes longer than all the rest of the boot). */
mfn_t alloc_domain_frames_unzeroed(struct domain *d, unsigned order, unsigned node);
/* The last reference to a domain's frame has gone (memory/frame.c): off the owner's list, back to the allocator. */
void alloc_free_domain_frame(mfn_t m, struct domain *owner);
/* Promises d so much memory in all (XENMEM_claim_pages); what it gets counts towards it; 0 ends the promise. -ENOMEM: others have it;
 * -EINVAL: it has a claim, or its limit is lower. */
int alloc_claim(struct domain *d, uint64_t pages);
uint64_t alloc_claimed_count(void); /* promised to all domains, not yet theirs */
/* A page of Croft's that was shared with d becomes a frame of d's, beyond its limit: for frame_disown. */
void alloc_adopt_frame(mfn_t m, struct domain *d);
/*
 * A frame goes from one domain to another: it is claimed (frame_claim) and taken, and is Croft's then; false: it is in use again.
 * The receiver must have room for one more, which is reserved before the frame is given. If that comes to nothing: free_frames.
 */
bool alloc_take_claimed_frame(mfn_t m, struct domain *from) __must_check;
bool alloc_reserve_frame(struct domain *d) __must_check;
void alloc_unreserve_frame(struct domain *d);
void alloc_give_taken_frame(mfn_t m, struct domain *to);
/* The end of a domain, which gets no more frames: its next frame, with a reference; each comes once. False: there are no more. */
bool alloc_next_to_release(struct domain *d, mfn_t *m);
/* 'count' frames in a row, as alloc_frames; given back by free_frame_run. */
mfn_t alloc_frame_run(uint64_t count, unsigned node);
void free_frame_run(mfn_t start, uint64_t count);
uint64_t alloc_free_count(void);  /* frames free now */
uint64_t alloc_total_count(void); /* frames ever given to the allocator */
uint64_t alloc_node_free(unsigned node);
uint64_t alloc_node_total(unsigned node);

/*
 * Fault injection, for tests: of the allocations to come, of pages and of objects, in calls of domain 'domid', the n-th fails, as if
 * there were no memory; DOMID_IDLE: whoever's. 0 takes that back. Returns what was still to come of the order before: 0 if there was
 * none or it has failed. The log says when it fails.
 */
uint64_t alloc_fault_set(uint64_t n, unsigned domid);
bool alloc_fault_due(void); /* this one fails: for alloc.c and heap.c */

void *heap_alloc(size_t size); /* zeroed, 16-byte aligned, 64 from 64 bytes on; null if none. Any size. */
void heap_free(void *p);       /* null is fine */
#define new_object(type) ((type *)heap_alloc(sizeof(type)))

void alloc_key_report(void); /* debug key: free memory by node and order */

#endif
