/* What the files of the memory_op family share. */
#ifndef HYPERCALL_MEMORY_H
#define HYPERCALL_MEMORY_H

#include "domain/domain.h"

/* A continued call carries the number of finished extents above the six bits of the command (ABI). */
#define MEMORY_CMD_BITS 6
#define MEMORY_CMD_MASK ((1UL << MEMORY_CMD_BITS) - 1)
/* Largest extent: zeroing 2 MiB is about what may be done between two looks at the clock. Callers try smaller ones. */
#define MEMORY_MAX_ORDER 9

/* The domain that a call names, with a reference; unprivileged callers may name only themselves. -EPERM, -ESRCH. */
int memory_target(domid_t id, struct domain **d);
/* Frames for d under a request's XENMEMF_* flags, numbered as alloc_domain_frames_numbered does. INVALID_MFN if there are none. */
mfn_t memory_alloc(struct domain *d, unsigned order, unsigned mem_flags, uint64_t gpfn);
/* d gives up a frame of its own, to which the caller has a reference. False if it had done so before. */
bool memory_release(mfn_t m, struct domain *d);
/* d gives up frames that were just allocated for it, without a reference of the caller's: those that are another's by now stay that. */
void memory_give_back(mfn_t m, uint64_t count, struct domain *d);

struct e820_entry {
    uint64_t start, size;
    uint32_t type;
} __packed; /* ACPI 6.5, 15.1: what XENMEM_memory_map gives */

/* memory_map.c */
/* What XENMEM_memory_map gives d; at most 128 entries. -EINVAL, -ENOMEM */
int memory_map_set(struct domain *d, const struct e820_entry *entries, unsigned count);
long memory_set_map(uint64_t arg);
long memory_get_map(uint64_t arg);
long memory_claim_pages(uint64_t arg);
long memory_acquire_resource(uint64_t arg);
/* memory_physmap.c: domains with translated frames */
long memory_add_to_physmap(uint64_t arg);
long memory_remove_from_physmap(uint64_t arg);
long memory_pod_target(uint64_t cmd, uint64_t arg); /* XENMEM_set_pod_target and _get_ */
/* Frames of d's own, just allocated, get the numbers from gfn on; what was there goes back to Croft. -ENOMEM, -EINVAL */
int memory_physmap_populate(struct domain *d, uint64_t gfn, mfn_t m, unsigned order);
int memory_physmap_drop(struct domain *d, uint64_t gfn); /* -ENOENT, -ENOMEM */
/* XENMEMF_populate_on_demand: they come when they are first used. -EINVAL, -EEXIST, -ENOMEM */
int memory_physmap_mark(struct domain *d, uint64_t gfn, unsigned order);
long memory_exchange(void *guest); /* XENMEM_exchange; continues with the same arguments */

#endif
