/*
 * sysctl: what the tools of domain 0 ask of the system as a whole. The table says which operation is whose; the machine's
 * description is in sysctl_host.c, trace buffers are in sysctl_trace.c, CPU policies are in pv/cpu_policy.c. Reached only by
 * privileged domains (dispatch.c). Source: <xen/sysctl.h>.
 */
#include "hypercall/sysctl.h"
#include "boot/options.h"
#include "cpu/hotplug.h"
#include "domain/domain.h"
#include "domain/domain_info.h"
#include "domain/guest_access.h"
#include "hypercall/dispatch.h"
#include "hypercall/domctl.h"
#include "lib/log.h"
#include "platform/console.h"
#include "pv/cpu_policy.h"
#include "sched/pool.h"

/* ----- the log ----- */

/* The ABI's index is 32 bits of the position: the latest one that is not in the future. */
static uint64_t position_of(uint32_t index)
{
    uint64_t end = ~0UL, position;

    log_ring_read(&end, NULL, 0, false);
    position = (end & ~0xffffffffUL) | index;
    if (position <= end)
        return position;
    return position >= 1UL << 32 ? position - (1UL << 32) : 0;
}

static long readconsole(struct xen_sysctl *op)
{
    struct xen_sysctl_readconsole *c = &op->u.readconsole;
    uint64_t position = c->incremental ? position_of(c->index) : 0;
    uint32_t done = 0;
    char part[512];

    while (done < c->count) {
        size_t n = log_ring_read(&position, part, min((size_t)(c->count - done), sizeof(part)), false);

        if (!n)
            break;
        if (copy_to_handle(c->buffer, done, part, n))
            return -EFAULT;
        done += (uint32_t)n;
    }
    if (c->clear)
        log_ring_read(&position, NULL, 0, true);
    c->count = done;
    c->index = (uint32_t)position;
    return 0;
}

#define MAX_KEYS 64

static long debug_keys(struct xen_sysctl *op)
{
    char keys[MAX_KEYS];
    uint32_t n = op->u.debug_keys.nr_keys;

    if (n > MAX_KEYS)
        return refuse(-EINVAL, "sysctl debug_keys: %u keys, at most %u at once\n", n, MAX_KEYS);
    if (copy_from_handle(keys, op->u.debug_keys.keys, 0, n))
        return -EFAULT;
    for (uint32_t i = 0; i < n; i++)
        key_press(keys[i]);
    return 0;
}

/* ----- domains ----- */

static long getdomaininfolist(struct xen_sysctl *op)
{
    struct xen_sysctl_getdomaininfolist *l = &op->u.getdomaininfolist;
    struct xen_domctl_getdomaininfo info;
    struct domain *d;
    uint32_t n = 0;

    for (d = domain_next(NULL); d; d = domain_next(d)) {
        if (d->id < l->first_domain || d->building)
            continue;
        if (n == l->max_domains) {
            domain_put(d);
            break;
        }
        domain_info(d, &info);
        if (copy_to_handle(l->buffer, n, &info, 1)) {
            domain_put(d);
            return -EFAULT;
        }
        n++;
    }
    l->num_domains = n;
    return 0;
}

/* ----- scheduler ----- */

static long sched_id(struct xen_sysctl *op)
{
    op->u.sched_id.sched_id = XEN_SCHEDULER_CREDIT2; /* the tools have no name for BVT; its weights mean the same */
    return 0;
}

/* Credit2's rate limit, the least time between two preemptions, is BVT's context-switch allowance: one for all pools. */
static long scheduler_op(struct xen_sysctl *op)
{
    struct xen_sysctl_scheduler_op *s = &op->u.scheduler_op;
    struct pool_info pool;
    uint32_t us = s->u.sched_credit2.ratelimit_us;

    if (!pool_info(s->cpupool_id, &pool) || pool.id != s->cpupool_id)
        return refuse(-ESRCH, "sysctl scheduler_op: there is no CPU pool %u\n", s->cpupool_id);
    if (s->sched_id != XEN_SCHEDULER_CREDIT2)
        return refuse(-EINVAL, "sysctl scheduler_op: scheduler %u, not %u (credit2)\n", s->sched_id,
                      XEN_SCHEDULER_CREDIT2);
    switch (s->cmd) {
    case XEN_SYSCTL_SCHEDOP_getinfo:
        s->u.sched_credit2.ratelimit_us = options.sched_allowance_us;
        return 0;
    case XEN_SYSCTL_SCHEDOP_putinfo:
        if (us < XEN_SYSCTL_SCHED_RATELIMIT_MIN || us > XEN_SYSCTL_SCHED_RATELIMIT_MAX)
            return refuse(-EINVAL, "sysctl scheduler_op: allowance of %u us, from %u to %u are possible\n", us,
                          XEN_SYSCTL_SCHED_RATELIMIT_MIN, XEN_SYSCTL_SCHED_RATELIMIT_MAX);
        WRITE_ONCE(options.sched_allowance_us, us);
        return 0;
    }
    return refuse(-EINVAL, "sysctl scheduler_op: command %u\n", s->cmd);
}

/* ----- CPU pools ----- */

static long pool_result(const struct xen_sysctl_cpupool_op *p, int rc, const char *what)
{
    return rc ? refuse(rc, "sysctl cpupool_op: pool %u, CPU %u: %s: %d\n", p->cpupool_id, p->cpu, what, rc) : 0;
}

static long pool_of_domain(const struct xen_sysctl_cpupool_op *p)
{
    struct domain *d = domain_get_by_id((domid_t)p->domid);
    int rc;

    if (!d)
        return refuse(-ESRCH, "sysctl cpupool_op: there is no domain %u\n", p->domid);
    rc = d->is_hardware ? -EPERM : pool_move_domain(d, p->cpupool_id);
    if (rc)
        guest_log(LOG_WARNING, "sysctl cpupool_op: d%u does not go to pool %u: %s\n", d->id, p->cpupool_id,
                  rc == -EPERM    ? "domain 0 stays in pool 0"
                  : rc == -ENOENT ? "there is none, or it has no CPUs"
                                  : "it is dying");
    domain_put(d);
    return rc;
}

/* The first pool from this number on: so tools list them, and find the end. */
static long pool_report(struct xen_sysctl_cpupool_op *p)
{
    struct pool_info info;

    if (!pool_info(p->cpupool_id, &info))
        return -ENOENT;
    p->cpupool_id = info.id;
    p->sched_id = XEN_SCHEDULER_CREDIT2;
    p->n_dom = info.domains;
    return domctl_write_cpumap(&p->cpumap, &info.cpus);
}

static long pool_new(struct xen_sysctl_cpupool_op *p)
{
    if (p->sched_id != XEN_SCHEDULER_CREDIT2)
        return refuse(-EINVAL, "sysctl cpupool_op: scheduler %u for a pool: there is one, %u (credit2)\n", p->sched_id,
                      XEN_SCHEDULER_CREDIT2);
    return pool_result(p, pool_create(&p->cpupool_id), "not created");
}

static long cpupool_op(struct xen_sysctl *op)
{
    struct xen_sysctl_cpupool_op *p = &op->u.cpupool_op;
    cpumask_t free;

    _Static_assert(XEN_SYSCTL_CPUPOOL_PAR_ANY == POOL_ANY, "passed on as it is");
    switch (p->op) {
    case XEN_SYSCTL_CPUPOOL_OP_INFO:
        return pool_report(p);
    case XEN_SYSCTL_CPUPOOL_OP_FREEINFO:
        free = pool_free_cpus();
        return domctl_write_cpumap(&p->cpumap, &free);
    case XEN_SYSCTL_CPUPOOL_OP_CREATE:
        return pool_new(p);
    case XEN_SYSCTL_CPUPOOL_OP_DESTROY:
        return pool_result(p, pool_destroy(p->cpupool_id), "not destroyed: there is none, or it has CPUs or domains");
    case XEN_SYSCTL_CPUPOOL_OP_ADDCPU:
        return pool_result(p, pool_add_cpu(p->cpupool_id, p->cpu), "not added: no such pool, or the CPU is not free");
    case XEN_SYSCTL_CPUPOOL_OP_RMCPU:
        return pool_result(p, pool_remove_cpu(p->cpupool_id, p->cpu),
                           "not removed: it is not there, or the last one of a pool with domains");
    case XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN:
        return pool_of_domain(p);
    }
    return refuse(-ENOSYS, "sysctl cpupool_op %u: unknown\n", p->op);
}

/* ----- CPU policies ----- */

static long get_cpu_policy(struct xen_sysctl *op) { return sysctl_get_cpu_policy(&op->u.cpu_policy); }
static long get_cpu_featureset(struct xen_sysctl *op) { return sysctl_get_cpu_featureset(&op->u.cpu_featureset); }

static long get_cpu_levelling_caps(struct xen_sysctl *op)
{
    op->u.cpu_levelling_caps.caps = 0; /* user mode executes CPUID natively */
    return 0;
}

/* ----- CPUs off and on line ----- */

static long cpu_hotplug(struct xen_sysctl *op)
{
    switch (op->u.cpu_hotplug.op) {
    case XEN_SYSCTL_CPU_HOTPLUG_ONLINE:
        return cpu_bring_up(op->u.cpu_hotplug.cpu);
    case XEN_SYSCTL_CPU_HOTPLUG_OFFLINE:
        return cpu_take_down(op->u.cpu_hotplug.cpu);
    case XEN_SYSCTL_CPU_HOTPLUG_SMT_ENABLE:
    case XEN_SYSCTL_CPU_HOTPLUG_SMT_DISABLE:
        return refuse(-EOPNOTSUPP,
                      "sysctl cpu_hotplug: the second threads of cores all at once: take them one by one\n");
    }
    return refuse(-EOPNOTSUPP, "sysctl cpu_hotplug: operation %u\n", op->u.cpu_hotplug.op);
}

/* ----- what is not there ----- */

/* Tools ask and go on without; the kernel of domain 0 has the processor's power states neither. */
static long no_device(struct xen_sysctl *op) { return -ENODEV; }

/* ----- the call ----- */

static const struct {
    sysctl_handler_t *handler;
    const char *name;
} operations[] = {
#define OP(n, h) [XEN_SYSCTL_##n] = {h, #n}
    OP(readconsole, readconsole),
    OP(tbuf_op, sysctl_tbuf_op),
    OP(physinfo, sysctl_physinfo),
    OP(sched_id, sched_id),
    OP(perfc_op, sysctl_perfc_op),
    OP(getdomaininfolist, getdomaininfolist),
    OP(debug_keys, debug_keys),
    OP(getcpuinfo, sysctl_getcpuinfo),
    OP(availheap, sysctl_availheap),
    OP(get_pmstat, no_device),
    OP(cpu_hotplug, cpu_hotplug),
    OP(pm_op, no_device),
    OP(page_offline_op, NULL),
    OP(lockprof_op, NULL),
    OP(cputopoinfo, sysctl_cputopoinfo),
    OP(numainfo, sysctl_numainfo),
    OP(cpupool_op, cpupool_op),
    OP(scheduler_op, scheduler_op),
    OP(coverage_op, NULL),
    OP(psr_cmt_op, no_device),
    OP(pcitopoinfo, sysctl_pcitopoinfo),
    OP(psr_alloc, no_device),
    OP(get_cpu_levelling_caps, get_cpu_levelling_caps),
    OP(get_cpu_featureset, get_cpu_featureset),
    OP(livepatch_op, NULL),
    OP(get_cpu_policy, get_cpu_policy),
};

long hypercall_sysctl(uint64_t arg, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
    struct xen_sysctl op;
    long rc;

    if (copy_from_guest(&op, (const void *)arg, sizeof(op)))
        return -EFAULT;
    if (op.interface_version != XEN_SYSCTL_INTERFACE_VERSION)
        return refuse(-EACCES, "sysctl: interface version %#x; Croft has %#x (Xen 4.17's)\n", op.interface_version,
                      XEN_SYSCTL_INTERFACE_VERSION);
    if (op.cmd >= ARRAY_SIZE(operations) || !operations[op.cmd].handler)
        return refuse(-ENOSYS, "sysctl %u (%s): Croft does not have it\n", op.cmd,
                      op.cmd < ARRAY_SIZE(operations) && operations[op.cmd].name ? operations[op.cmd].name : "unknown");
    rc = operations[op.cmd].handler(&op);
    if (rc == -ERESTART)
        return hypercall_continue(arg, 0, 0, 0, 0);
    if ((!rc || rc == -ENOBUFS) && copy_to_guest((void *)arg, &op, sizeof(op)))
        rc = -EFAULT;
    return rc;
}

/* Access control by labels: the tools ask for a domain's label each time they list it. */
long hypercall_xsm_op(uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5) { return -ENOSYS; }
