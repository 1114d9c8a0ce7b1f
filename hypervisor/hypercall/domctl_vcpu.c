/* domctl on vcpus: contexts in and out, affinity, weight. A vcpu is paused while its context is read or written. */
#include "domain/guest_access.h"
#include "hvm/context.h"
#include "hypercall/domctl.h"
#include "lib/log.h"
#include "lib/string.h"
#include "memory/alloc.h"
#include "pv/context.h"
#include "sched/bvt.h"
#include "sched/pool.h"

static struct vcpu *vcpu_named(struct domain *d, uint32_t id, const char *call)
{
    struct vcpu *v = domain_vcpu(d, id);

    if (!v)
        guest_log(LOG_WARNING, "%s: d%u has no vcpu %u\n", call, d->id, id);
    return v;
}

long domctl_setvcpucontext(struct domain *d, struct xen_domctl *op)
{
    struct vcpu *v = vcpu_named(d, op->u.vcpucontext.vcpu, "setvcpucontext");
    struct vcpu_guest_context *context;
    long rc;

    if (d == current->domain)
        return refuse(-EINVAL, "setvcpucontext: of the caller itself\n");
    if (!v)
        return -ENOENT;
    if (!op->u.vcpucontext.ctxt.p) { /* as a processor after reset: PV vcpus are made anew for that */
        return refuse(-EOPNOTSUPP, "setvcpucontext: reset of d%uv%u\n", d->id, v->id);
    }
    context = new_object(struct vcpu_guest_context);
    if (!context)
        return refuse(-ENOMEM, "setvcpucontext: no memory for a context\n");
    domain_pause(d);
    if (copy_from_handle(context, op->u.vcpucontext.ctxt, 0, 1)) {
        rc = -EFAULT;
    } else {
        spin_lock(&d->lock);
        rc = d->dying ? -EINVAL : v->hvm ? hvm_set_registers(v, context) : pv_set_context(v, context);
        if (!rc && !v->hvm)
            v->down = !(context->flags & VGCF_online);
        spin_unlock(&d->lock);
    }
    domain_unpause(d);
    heap_free(context);
    return rc;
}

long domctl_getvcpucontext(struct domain *d, struct xen_domctl *op)
{
    struct vcpu *v = vcpu_named(d, op->u.vcpucontext.vcpu, "getvcpucontext");
    struct vcpu_guest_context *context;
    long rc = 0;

    if (!v || d == current->domain)
        return v ? -EINVAL : -ESRCH;
    if (!v->initialised)
        return -ENODATA; /* tools ask for every vcpu: no log line */
    context = new_object(struct vcpu_guest_context);
    if (!context)
        return refuse(-ENOMEM, "getvcpucontext: no memory for a context\n");
    vcpu_pause(v);
    if (v->hvm)
        hvm_get_registers(v, context);
    else
        pv_get_context(v, context);
    vcpu_unpause(v);
    if (copy_to_handle(op->u.vcpucontext.ctxt, 0, context, 1))
        rc = -EFAULT;
    heap_free(context);
    return rc;
}

long domctl_getvcpuinfo(struct domain *d, struct xen_domctl *op)
{
    struct xen_domctl_getvcpuinfo *info = &op->u.getvcpuinfo;
    struct vcpu *v = domain_vcpu(d, info->vcpu);
    struct vcpu_runstate_info runstate;

    if (!v)
        return -ESRCH; /* tools find out the number this way */
    vcpu_get_runstate(v, &runstate);
    info->online = !v->down;
    info->blocked = v->blocked;
    info->running = v->sched.running;
    info->cpu_time = runstate.time[RUNSTATE_running];
    info->cpu = v->processor;
    return 0;
}

long domctl_setvcpuaffinity(struct domain *d, struct xen_domctl *op)
{
    struct xen_domctl_vcpuaffinity *a = &op->u.vcpuaffinity;
    struct vcpu *v = vcpu_named(d, a->vcpu, "setvcpuaffinity");
    cpumask_t hard, soft;
    long rc = 0;

    if (!v)
        return -ESRCH;
    if (!(a->flags & (XEN_VCPUAFFINITY_HARD | XEN_VCPUAFFINITY_SOFT)) ||
        a->flags & ~(XEN_VCPUAFFINITY_HARD | XEN_VCPUAFFINITY_SOFT | XEN_VCPUAFFINITY_FORCE))
        return refuse(-EINVAL, "setvcpuaffinity: flags 0x%x\n", a->flags);
    if ((a->flags & XEN_VCPUAFFINITY_HARD && domctl_read_cpumap(&hard, &a->cpumap_hard)) ||
        (a->flags & XEN_VCPUAFFINITY_SOFT && domctl_read_cpumap(&soft, &a->cpumap_soft)))
        return -EFAULT;
    if (a->flags & XEN_VCPUAFFINITY_HARD) {
        rc = vcpu_set_affinity(v, &hard);
        if (rc)
            return refuse(rc, "setvcpuaffinity: d%uv%u on no CPU of its pool, %u\n", d->id, v->id, d->pool);
    }
    if (a->flags & XEN_VCPUAFFINITY_SOFT)
        vcpu_set_soft_affinity(v, &soft);
    for (unsigned i = 0; i < ARRAY_SIZE(hard.bits); i++) { /* what comes of it */
        hard.bits[i] = READ_ONCE(v->sched.allowed.bits[i]);
        soft.bits[i] = READ_ONCE(v->sched.soft_affinity.bits[i]) & hard.bits[i];
    }
    if (a->flags & XEN_VCPUAFFINITY_HARD)
        rc = domctl_write_cpumap(&a->cpumap_hard, &hard);
    if (!rc && a->flags & XEN_VCPUAFFINITY_SOFT)
        rc = domctl_write_cpumap(&a->cpumap_soft, &soft);
    return rc;
}

long domctl_getvcpuaffinity(struct domain *d, struct xen_domctl *op)
{
    struct xen_domctl_vcpuaffinity *a = &op->u.vcpuaffinity;
    struct vcpu *v = vcpu_named(d, a->vcpu, "getvcpuaffinity");
    long rc = 0;

    if (!v)
        return -ESRCH;
    if (a->flags & XEN_VCPUAFFINITY_HARD)
        rc = domctl_write_cpumap(&a->cpumap_hard, &v->sched.hard_affinity);
    if (!rc && a->flags & XEN_VCPUAFFINITY_SOFT)
        rc = domctl_write_cpumap(&a->cpumap_soft, &v->sched.soft_affinity);
    return rc;
}

/* The stock tools know weights as credit2 has them; a vcpu's weight is its domain's. */
long domctl_scheduler_op(struct domain *d, struct xen_domctl *op)
{
    struct xen_domctl_sched_credit2 *c = &op->u.scheduler_op.u.credit2;
    struct vcpu *v;

    if (op->u.scheduler_op.sched_id != XEN_SCHEDULER_CREDIT2)
        return refuse(-EINVAL, "scheduler_op: scheduler %u is not in use\n", op->u.scheduler_op.sched_id);
    switch (op->u.scheduler_op.cmd) {
    case XEN_DOMCTL_SCHEDOP_getinfo:
        c->weight = (uint16_t)d->weight;
        c->cap = 0;
        return 0;
    case XEN_DOMCTL_SCHEDOP_putinfo:
        if (c->cap)
            return refuse(-EOPNOTSUPP, "scheduler_op: a cap of %u %% for d%u: Croft has weights only\n", c->cap, d->id);
        if (!c->weight) /* as in Xen: leave it */
            return 0;
        d->weight = c->weight;
        for_each_vcpu (d, v)
            if (vcpu_set_weight(v, c->weight))
                return -EINVAL;
        return 0;
    default:
        return refuse(-EINVAL, "scheduler_op: command %u\n", op->u.scheduler_op.cmd);
    }
}
