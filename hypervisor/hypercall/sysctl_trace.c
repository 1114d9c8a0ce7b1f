/* sysctl tbuf_op: what xentrace asks for (cpu/trace.h). Source: <xen/sysctl.h>. */
#include "cpu/trace.h"
#include "hypercall/domctl.h"
#include "hypercall/sysctl.h"
#include "lib/log.h"

static long set_cpu_mask(const struct xen_sysctl_tbuf_op *t)
{
    cpumask_t mask;
    long rc = domctl_read_cpumap(&mask, &t->cpu_mask);

    if (!rc)
        trace_set_cpu_mask(&mask);
    return rc;
}

long sysctl_tbuf_op(struct xen_sysctl *op)
{
    struct xen_sysctl_tbuf_op *t = &op->u.tbuf_op;
    mfn_t first;

    switch (t->cmd) {
    case XEN_SYSCTL_TBUFOP_get_info:
        t->evt_mask = trace_event_mask();
        t->size = trace_info(&first);
        t->buffer_mfn = first.n;
        return 0;
    case XEN_SYSCTL_TBUFOP_set_cpu_mask:
        return set_cpu_mask(t);
    case XEN_SYSCTL_TBUFOP_set_evt_mask:
        trace_set_event_mask(t->evt_mask);
        return 0;
    case XEN_SYSCTL_TBUFOP_set_size:
        return trace_set_size(t->size);
    case XEN_SYSCTL_TBUFOP_enable:
        return trace_enable(true);
    case XEN_SYSCTL_TBUFOP_disable:
        return trace_enable(false);
    }
    return refuse(-EINVAL, "sysctl tbuf_op: command %u\n", t->cmd);
}
