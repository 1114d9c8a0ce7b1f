/* What the files of the domctl family share. */
#ifndef HYPERCALL_DOMCTL_H
#define HYPERCALL_DOMCTL_H

#include "domain/domain.h"

/*
 * One operation on d, which has a reference and may be dying. 'op' is the caller's request in Croft's memory: what a handler
 * writes into it goes back to the caller if the table in domctl.c says so. -ERESTART: the call is
 * made again with the same arguments, after more urgent things.
 */
typedef long domctl_handler_t(struct domain *d, struct xen_domctl *op);

/* domctl_vcpu.c */
domctl_handler_t domctl_setvcpucontext, domctl_getvcpucontext, domctl_getvcpuinfo, domctl_setvcpuaffinity,
    domctl_getvcpuaffinity, domctl_scheduler_op;
/* domctl_state.c: what save and restore need beyond that */
domctl_handler_t domctl_get_ext_vcpucontext, domctl_set_ext_vcpucontext, domctl_getvcpuextstate, domctl_setvcpuextstate,
    domctl_get_vcpu_msrs, domctl_set_vcpu_msrs, domctl_gettscinfo, domctl_settscinfo, domctl_getpageframeinfo3,
    domctl_shadow_op;
/* domctl_hvm.c: of PVH domains only */
domctl_handler_t domctl_gethvmcontext, domctl_gethvmcontext_partial, domctl_sethvmcontext,
    domctl_get_paging_mempool_size, domctl_set_paging_mempool_size;

/* The tools' bitmaps of CPUs. -EFAULT; bits beyond NR_CPUS are dropped, or zero. */
long domctl_read_cpumap(cpumask_t *mask, const struct xenctl_bitmap *map);
long domctl_write_cpumap(const struct xenctl_bitmap *map, const cpumask_t *mask);

#endif
