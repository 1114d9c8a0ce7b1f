/*
 * Populate on demand: a domain that starts with less memory ('memory') than it was made for ('maxmem') finds frames everywhere, of which
 * those that it has not used yet are marks in its nested page tables (hvm/p2m.h). Pages for them wait in its cache. Its balloon driver
 * gives the difference back early: the marks become fewer until there are pages for all.
 *
 * Invariants:
 *  1. A page in the cache is the domain's own, zero, mapped nowhere, and counts in d->tot_pages. It has the owner's reference only
 *     (FRAME_ALLOCATED), but for a moment: who looked up a number before the page left it may take another, and finds it out (p2m_hold).
 *  2. Pages in the cache + pages mapped or in use by others = tot_pages. So a mark that gets a page changes nothing in it, as does a page
 *     that goes into the cache.
 *  3. Once the domain has been built, there are not more pages in the cache than marks: what is too much goes back to Croft (pod_trim).
 *     There may be more marks than pages, until the domain has ballooned down.
 *
 * Pages come into the cache from the tools (XENMEM_set_pod_target), from the guest, which gives up RAM while there are more marks than
 * pages (pod_keep), and, when the cache is empty, from a sweep: pages that hold only zeros are put back behind marks. If that finds
 * none either, the domain has used more than it was given, and is crashed. A sweep does not take what came by one of the last faults, so
 * that an instruction that needs several pages finds them all together in the end, and not what others have or had mapped.
 *
 * All under the domain's p2m.lock, which is taken with interrupts enabled only. The order of locks: p2m.lock, then those of the allocator.
 */
#ifndef HVM_POD_H
#define HVM_POD_H

#include "lib/types.h"

struct domain;
struct p2m;

/* Numbers of frames, in pages of Croft's: a page of a domain's is nothing to keep a list in, for others may write to it. */
struct pod_stack {
    struct pod_chunk *top;
    uint64_t count;
};

#define POD_RECENT 64 /* faults whose pages a sweep leaves alone */

struct pod {
    uint64_t entries, most_entries;   /* marked frames, now and ever at a time */
    uint64_t pages;                   /* in the cache */
    struct pod_stack blocks, singles; /* ... by 2 MiB, and by one */
    uint64_t part, part_end;          /* ... what is left of a block that is being given out by single frames */
    uint64_t sweep_gfn,
        sweep_left; /* where the next sweep begins, and after how many frames all have been looked at; 0: none begun */
    uint64_t recent[POD_RECENT];
    unsigned next_recent;
};

/*
 * The tools say that 2^order frames (0 or 9) from gfn on shall come on demand. -EINVAL: out of range, or d is dying; -EEXIST: there is
 * RAM; -ENOMEM.
 */
int pod_mark(struct domain *d, gfn_t gfn, unsigned order);
/*
 * XENMEM_set_pod_target: d shall have 'pages' in all. While it is being built the cache is filled to that. Later there are two cases
 * where something is to be done: marks without pages get some. Less than it has now is left to the balloon driver. -ENOMEM; -ERESTART:
 * preempted, call again.
 */
int pod_set_target(struct domain *d, uint64_t pages);
/* tot_pages, pages in the cache, marks: as they were at one moment */
struct pod_numbers {
    uint64_t total, pages, entries;
};
struct pod_numbers pod_numbers(struct domain *d);

/*
 * A frame comes to gfn, if it is marked. POD_DONE: it has come, or there was no mark; look again. POD_AGAIN: a part of a sweep found
 * nothing; call again. POD_EXHAUSTED: there is no page, nor one to be swept (sweep: false: nothing was swept). POD_NO_TABLE: no memory
 * for a table. Interrupts enabled.
 */
enum pod_result { POD_DONE, POD_AGAIN, POD_EXHAUSTED, POD_NO_TABLE };
enum pod_result pod_populate(struct domain *d, gfn_t gfn, bool sweep);
/* The same for a guest that has met the mark: it executes its instruction again, or its domain is crashed. */
void pod_fault(struct domain *d, gfn_t gfn);
/* ... and for who cannot go on without; false: d is crashed, or dying. */
bool pod_populate_now(struct domain *d, gfn_t gfn);

/* d gave up page m, for which the caller has a WRITABLE reference, mapped nowhere else. True: it and the reference are the cache's. */
bool pod_keep(struct domain *d, mfn_t m);
void pod_trim(struct domain *d); /* there are fewer marks than before */
/* The end, of a dying domain: the list goes, the pages stay the domain's as all others. False: preempted, call again. */
bool pod_release(struct p2m *p);
/* For the audit: calls fn for each page in the cache. The lock is held, or nobody else is there. */
void pod_each(const struct pod *pod, void (*fn)(void *arg, mfn_t m), void *arg);

#endif
