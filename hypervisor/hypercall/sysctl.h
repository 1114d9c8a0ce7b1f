/* What the files of the sysctl family share. */
#ifndef HYPERCALL_SYSCTL_H
#define HYPERCALL_SYSCTL_H

#include "hypercall/abi.h"

/* One operation. 'op' is the caller's request in Croft's memory; it goes back to the caller if the result is 0 or -ENOBUFS. */
typedef long sysctl_handler_t(struct xen_sysctl *op);

/* sysctl_host.c: the machine */
sysctl_handler_t sysctl_physinfo, sysctl_cputopoinfo, sysctl_numainfo, sysctl_pcitopoinfo, sysctl_getcpuinfo,
    sysctl_availheap, sysctl_perfc_op;

/* sysctl_trace.c: trace buffers. -ERESTART: the call is to be made again */
sysctl_handler_t sysctl_tbuf_op;

#endif
