/*
 * Grant tables: by an entry of its table a domain (the granter) lets another one (or itself) map, copy from or to, or give it a
 * frame. Versions 1 and 2 of <xen/grant_table.h>.
 *
 * The granter's side: the entries are in pages that the granter writes at any time, so an entry is read once and marked as in
 * use by one atomic step (version 1) or marked and read again (version 2). What it said when its first user came is latched in
 * the "active" entry beside it, with counts of its users (pins); marks go when the counts do.
 * The other side: each mapping has an entry of its own in the list of the domain that made it, found by its handle. It holds a
 * reference to the frame, a WRITABLE one if it is writable, and knows the page-table entry. The page-table entry has references
 * of its own, as all have: a guest that overwrites it drops those, and the mapping's stay until it is unmapped or the domain
 * dies. So a frame is never free, and never a page table, while someone can still write to it.
 *
 * Locks: 'lock' for the table and the active entries, 'map_lock' for the list of mappings; no two tables are ever locked together,
 * and neither lock while one of the others is held.
 */
#ifndef DOMAIN_GRANT_H
#define DOMAIN_GRANT_H

#include "hypercall/abi.h"
#include "lib/spinlock.h"

struct domain;
struct vcpu;
struct grant_active; /* domain/grant_private.h */
struct grant_mapping;

#define GRANT_DEFAULT_FRAMES 64
#define GRANT_DEFAULT_MAPTRACK_FRAMES 1024
#define GRANT_MAX_FRAMES 1024 /* of a table, whatever the tools ask for */
#define GRANT_MAX_MAPTRACK_FRAMES 0x10000U

struct grant_table {
    spinlock_t lock;
    unsigned version, max_version; /* version 0: no table (not yet, or no more) */
    uint32_t frames, max_frames;
    uint32_t status_frames;       /* made when the version was first 2; they stay */
    uint32_t entries;             /* in the frames, of this version */
    void **shared;                /* by frame */
    grant_status_t **status;      /* version 2's marks */
    struct grant_active **active; /* by GRANT_ACTIVE_PER_PAGE entries; made on first use */

    spinlock_t map_lock;         /* what this domain has mapped */
    struct grant_mapping **maps; /* pages of them */
    uint32_t map_slots, map_pages, max_map_pages;
    uint32_t map_free; /* handle of the first free one */
    uint32_t mapped;
};

/*
 * A table of one frame for d, which is on the list of domains. Of max_maptrack_frames each stands for as many mappings as in Xen.
 * -EINVAL: limits out of range; -ENOMEM.
 */
int grant_init_domain(struct domain *d, uint32_t max_frames, uint32_t max_maptrack_frames, unsigned max_version);
/*
 * XENMEM_acquire_resource: frame 'index' of d's table, or of its status frames (version 2 only), made if it is not there yet.
 * -EINVAL: beyond the limit, or d has no such; -ENOMEM.
 */
int grant_acquire_frame(struct domain *d, bool status, unsigned long index, mfn_t *mfn);
unsigned grant_max_frames(const struct domain *d, bool status); /* how many there can be */
/* A dying domain, none of whose vcpus runs or will, gives back what it has mapped of others. False: preempted, call again. */
bool grant_release_mappings(struct domain *d);
/* After that: its table goes. Others may still have mappings by it, and of the table: they hold the frames, nothing else. */
void grant_destroy_domain(struct domain *d);

/* For the audit, on a quiet machine: calls fn for the reference of each mapping that d made. */
void grant_each_mapping(const struct domain *d, void (*fn)(void *arg, mfn_t m, bool writable), void *arg);
/* ... d's entries as they are counted in use by domain 'by', and the mappings of d's frames that 'by' has. True if they agree. */
bool grant_counts_agree(const struct domain *d, const struct domain *by, uint64_t *pins, uint64_t *mappings);
void grant_key_report(void);

#endif
