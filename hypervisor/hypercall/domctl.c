/*
 * domctl: what the tools of domain 0 do to domains: their life from creation to destruction. The table says which operation is
 * whose; vcpus' state is in domctl_vcpu.c and domctl_state.c. Source: <xen/domctl.h>.
 */
#include "hypercall/domctl.h"

#include "domain/domain_info.h"
#include "domain/guest_access.h"
#include "hvm/hvm.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"
#include "lib/string.h"
#include "memory/alloc.h"
#include "memory/map.h"
#include "pv/cpu_policy.h"
#include "pv/traps.h"
#include "sched/pool.h"
#include "sched/time.h"

/* A new domain with that number, or, if it is none, with the next free one. -EEXIST, -ENFILE, -ENOMEM */
static long create_numbered(unsigned wanted, unsigned vcpus, struct domain **out)
{
    if (wanted && wanted < DOMID_FIRST_RESERVED) {
        *out = domain_create((domid_t)wanted, vcpus, 0, 0);
        if (*out)
            return 0;
        if (!domain_id_in_use((domid_t)wanted))
            return refuse(-ENOMEM, "createdomain: not enough memory for domain %u\n", wanted);
        return refuse(-EEXIST, "createdomain: domain %u exists\n", wanted);
    }
    for (unsigned tries = 0; tries < DOMID_FIRST_RESERVED; tries++) {
        domid_t id = domain_new_id();

        if (!id)
            break;
        *out = domain_create(id, vcpus, 0, 0);
        if (*out)
            return 0;
        if (!domain_id_in_use(id))
            return refuse(-ENOMEM, "createdomain: not enough memory for another domain\n");
        /* somebody was faster */
    }
    return refuse(-ENFILE, "createdomain: all domain numbers are in use\n");
}

#define KINDS "PV and PVH domains are there (type = \"pv\" or \"pvh\" in xl's configuration)"
/* Of no meaning with nested paging: how shadow page tables are kept */
#define HVM_FLAGS (XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap | XEN_DOMCTL_CDF_oos_off)

/* Is it a domain of a kind that there is: PV, or with the processor's help and a local APIC, nothing else emulated? */
static long check_kind(const struct xen_domctl_createdomain *c)
{
    bool hvm = c->flags & XEN_DOMCTL_CDF_hvm;
    uint32_t emulated = c->arch.emulation_flags;

    if (c->flags & ~(XEN_DOMCTL_CDF_xs_domain | HVM_FLAGS))
        return refuse(-EINVAL, "createdomain: flags 0x%x: no IOMMU, no virtual PMU, no nested virtualisation\n",
                      c->flags);
    if (!hvm && (c->flags & HVM_FLAGS || emulated))
        return refuse(-EINVAL, "createdomain: flags 0x%x, emulation 0x%x without HVM; " KINDS "\n", c->flags, emulated);
    if (!hvm)
        return 0;
    if (emulated != XEN_X86_EMU_LAPIC)
        return refuse(-EINVAL, "createdomain: devices to be emulated, 0x%x (HVM); " KINDS "\n", emulated);
    if (!(c->flags & XEN_DOMCTL_CDF_hap))
        return refuse(-EINVAL, "createdomain: PVH without nested paging (hap = 0)\n");
    if (hvm_missing())
        return refuse(-EOPNOTSUPP, "createdomain: PVH is not possible on this machine: %s; use type = \"pv\"\n",
                      hvm_missing());
    return 0;
}

static long createdomain(struct domain *unused, struct xen_domctl *op)
{
    const struct xen_domctl_createdomain *c = &op->u.createdomain;
    unsigned grant_version = XEN_DOMCTL_GRANT_version(c->grant_opts);
    struct domain *d;
    long rc;

    rc = check_kind(c);
    if (rc)
        return rc;
    if (c->iommu_opts || c->vmtrace_size || c->arch.misc_flags & ~XEN_X86_MSR_RELAXED ||
        grant_version > 2) /* ssidref is for security modules, of which there are none */
        return refuse(-EINVAL, "createdomain: an option that domains do not have (misc 0x%x, IOMMU 0x%x, trace 0x%x)\n",
                      c->arch.misc_flags, c->iommu_opts, c->vmtrace_size);
    if (!c->max_vcpus || c->max_vcpus > MAX_VCPUS)
        return refuse(-ERANGE, "createdomain: %u vcpus, from 1 to %u are possible\n", c->max_vcpus, MAX_VCPUS);
    rc = create_numbered(op->domain, c->max_vcpus, &d);
    if (rc)
        return rc;
    rc = c->flags & XEN_DOMCTL_CDF_hvm ? hvm_init_domain(d) : 0;
    if (rc) {
        guest_log(LOG_WARNING, "createdomain: no nested page tables for d%u: %ld\n", d->id, rc);
        goto failed;
    }
    rc = pool_join(d, c->cpupool_id);
    if (rc) {
        guest_log(LOG_WARNING, "createdomain: CPU pool %u %s\n", c->cpupool_id,
                  rc == -ESRCH ? "does not exist" : "has no CPUs");
        goto failed;
    }
    rc = grant_init_domain(
        d, c->max_grant_frames < 0 ? GRANT_DEFAULT_FRAMES : (uint32_t)c->max_grant_frames,
        c->max_maptrack_frames < 0 ? GRANT_DEFAULT_MAPTRACK_FRAMES : (uint32_t)c->max_maptrack_frames, grant_version);
    if (rc) {
        guest_log(LOG_WARNING, "createdomain: no grant table of at most %d frames, %d for mappings, version %u: %ld\n",
                  c->max_grant_frames, c->max_maptrack_frames, grant_version, rc);
        goto failed;
    }
    d->paused_by_tools = true;
    domain_pause_nosync(d);
    memcpy(d->handle, c->handle, sizeof(d->handle));
    event_set_limit(d, c->max_evtchn_port < EVTCHN_FIFO_NR_CHANNELS ? c->max_evtchn_port + 1 : EVTCHN_FIFO_NR_CHANNELS);
    op->domain = d->id;
    log_debug("%s created: at most %u vcpus\n", d->name, d->vcpu_count);
    domain_put(d);
    return 0;

failed:
    while (domain_destroy(d) == -ERESTART)
        ;
    domain_put(d);
    return rc;
}

static long destroydomain(struct domain *d, struct xen_domctl *op)
{
    if (d->is_hardware)
        return refuse(-EINVAL, "destroydomain: domain 0 ends by switching off\n");
    return d == current->domain ? -EINVAL : domain_destroy(d);
}

static long pausedomain(struct domain *d, struct xen_domctl *op)
{
    bool fresh;

    if (d == current->domain)
        return refuse(-EINVAL, "pausedomain: of the caller itself\n");
    spin_lock(&d->lock);
    fresh = !d->paused_by_tools;
    d->paused_by_tools = true;
    spin_unlock(&d->lock);
    if (fresh)
        domain_pause(d);
    return 0;
}

/* Tools that build or restore a domain write its shared_info: what Croft writes there once is put back before it runs. */
static void refresh_time(struct domain *d)
{
    struct vcpu *v;

    time_update_wallclock(d);
    spin_lock(&d->lock);
    for_each_vcpu (d, v)
        if (!d->dying)
            time_update_vcpu(v);
    spin_unlock(&d->lock);
}

static long unpausedomain(struct domain *d, struct xen_domctl *op)
{
    bool was;

    if (d->dying)
        return -EINVAL;
    spin_lock(&d->lock);
    was = d->paused_by_tools;
    d->paused_by_tools = false;
    d->started = true;
    spin_unlock(&d->lock);
    if (was) {
        refresh_time(d);
        domain_unpause(d);
    }
    return 0;
}

static long resumedomain(struct domain *d, struct xen_domctl *op)
{
    if (d == current->domain)
        return refuse(-EINVAL, "resumedomain: of the caller itself\n");
    refresh_time(d);
    domain_resume(d);
    return 0;
}

static long getdomaininfo(struct domain *d, struct xen_domctl *op)
{
    domain_info(d, &op->u.getdomaininfo);
    op->domain = d->id;
    return 0;
}

static long max_vcpus(struct domain *d, struct xen_domctl *op)
{
    cpumask_t cpus = pool_cpus(d);
    unsigned count = op->u.max_vcpus.max, cpu = cpumask_next(0, &cpus);
    long rc = 0;

    if (count != d->vcpu_count)
        return refuse(-EINVAL, "max_vcpus: %u for d%u, which was created for %u\n", count, d->id, d->vcpu_count);
    spin_lock(&d->lock);
    for (unsigned i = 0; i < count && !rc; i++) {
        if (d->dying)
            rc = -EINVAL;
        else if (!d->vcpus[i] && !vcpu_create(d, i, cpu))
            rc = -ENOMEM;
        cpu = cpumask_next(cpu + 1, &cpus);
        if (cpu >= NR_CPUS)
            cpu = cpumask_next(0, &cpus);
    }
    spin_unlock(&d->lock);
    return rc ? refuse(rc, "max_vcpus: no %u vcpus for d%u\n", count, d->id) : 0;
}

static long max_mem(struct domain *d, struct xen_domctl *op)
{
    uint64_t pages = op->u.max_mem.max_memkb >> (PAGE_SHIFT - 10);

    /* Below what it has now is fine: it gets no more, and balloons down. */
    spin_lock(&d->page_list_lock);
    d->max_pages = min(pages, (uint64_t)UINT32_MAX);
    spin_unlock(&d->page_list_lock);
    return 0;
}

static long setdomainhandle(struct domain *d, struct xen_domctl *op)
{
    memcpy(d->handle, op->u.setdomainhandle.handle, sizeof(d->handle));
    return 0;
}

static long hypercall_init(struct domain *d, struct xen_domctl *op)
{
    mfn_t m = MFN(op->u.hypercall_init.gmfn);

    if (!frame_get_writable(m, d))
        return refuse(-EACCES, "hypercall_init: frame 0x%lx is not d%u's to write\n", m.n, d->id);
    pv_write_hypercall_page(mfn_to_virt(m));
    frame_put_writable(m);
    return 0;
}

static long settimeoffset(struct domain *d, struct xen_domctl *op)
{
    WRITE_ONCE(d->time_offset_seconds, op->u.settimeoffset.time_offset_seconds);
    time_update_wallclock(d);
    return 0;
}

static long set_address_size(struct domain *d, struct xen_domctl *op)
{
    if (op->u.address_size.size == 64)
        return 0;
    return refuse(-EINVAL, "set_address_size: %u bits; only 64-bit domains are there\n", op->u.address_size.size);
}

static long get_address_size(struct domain *d, struct xen_domctl *op)
{
    op->u.address_size.size = 64;
    return 0;
}

static long setnodeaffinity(struct domain *d, struct xen_domctl *op)
{
    uint8_t bits[DIV_ROUND_UP(MAX_NODES, 8)] = {0};
    uint32_t count = min(op->u.nodeaffinity.nodemap.nr_bits, (uint32_t)MAX_NODES), set = 0, node = 0;

    if (copy_from_handle(bits, op->u.nodeaffinity.nodemap.bitmap, 0, DIV_ROUND_UP(count, 8)))
        return -EFAULT;
    for (uint32_t i = 0; i < count; i++)
        if (bits[i / 8] >> i % 8 & 1) {
            set++;
            node = i;
        }
    if (!set)
        return refuse(-EINVAL, "setnodeaffinity: d%u on no node\n", d->id);
    d->node = set == 1 ? node : NODE_ANY; /* several: as anywhere */
    return 0;
}

static long getnodeaffinity(struct domain *d, struct xen_domctl *op)
{
    cpumask_t nodes = {{d->node == NODE_ANY ? (1UL << MAX_NODES) - 1 : 1UL << d->node}};

    return domctl_write_cpumap(&op->u.nodeaffinity.nodemap, &nodes);
}

static long set_virq_handler(struct domain *d, struct xen_domctl *op)
{
    /* Global VIRQs go to domain 0: saying so changes nothing. */
    return d->is_hardware
               ? 0
               : refuse(-EOPNOTSUPP, "set_virq_handler: VIRQ %u to d%u\n", op->u.set_virq_handler.virq, d->id);
}

static long get_cpu_policy(struct domain *d, struct xen_domctl *op)
{
    return domctl_get_cpu_policy(d, &op->u.cpu_policy);
}
static long set_cpu_policy(struct domain *d, struct xen_domctl *op)
{
    return domctl_set_cpu_policy(d, &op->u.cpu_policy);
}

long domctl_read_cpumap(cpumask_t *mask, const struct xenctl_bitmap *map)
{
    uint32_t bits = min(map->nr_bits, (uint32_t)NR_CPUS);

    memset(mask, 0, sizeof(*mask));
    if (copy_from_handle((uint8_t *)mask->bits, map->bitmap, 0, DIV_ROUND_UP(bits, 8)))
        return -EFAULT;
    for (unsigned cpu = bits; cpu < NR_CPUS; cpu++)
        cpumask_clear(cpu, mask);
    return 0;
}

long domctl_write_cpumap(const struct xenctl_bitmap *map, const cpumask_t *mask)
{
    static const uint8_t zero;
    uint32_t ours = DIV_ROUND_UP(NR_CPUS, 8), bytes = DIV_ROUND_UP(map->nr_bits, 8);

    if (copy_to_handle(map->bitmap, 0, (const uint8_t *)mask->bits, min(bytes, ours)))
        return -EFAULT;
    for (uint32_t i = ours; i < bytes; i++)
        if (copy_to_handle(map->bitmap, i, &zero, 1))
            return -EFAULT;
    return 0;
}

static const struct {
    domctl_handler_t *handler;
    const char *name;
    enum { NEVER, IF_DONE, ALWAYS } copy_back;
    enum { BOTH, PV_ONLY, HVM_ONLY } of; /* other domains have no such state */
} operations[] = {
#define OP(n, h, back) [XEN_DOMCTL_##n] = {h, #n, back, BOTH}
#define PV_OP(n, h, back) [XEN_DOMCTL_##n] = {h, #n, back, PV_ONLY}
#define HVM_OP(n, h, back) [XEN_DOMCTL_##n] = {h, #n, back, HVM_ONLY}
    OP(createdomain, createdomain, IF_DONE),
    OP(destroydomain, destroydomain, NEVER),
    OP(pausedomain, pausedomain, NEVER),
    OP(unpausedomain, unpausedomain, NEVER),
    OP(resumedomain, resumedomain, NEVER),
    OP(getdomaininfo, getdomaininfo, IF_DONE),
    OP(max_vcpus, max_vcpus, NEVER),
    OP(max_mem, max_mem, NEVER),
    OP(setdomainhandle, setdomainhandle, NEVER),
    PV_OP(hypercall_init, hypercall_init, NEVER),
    OP(settimeoffset, settimeoffset, NEVER),
    PV_OP(set_address_size, set_address_size, NEVER),
    OP(get_address_size, get_address_size, IF_DONE),
    OP(setnodeaffinity, setnodeaffinity, NEVER),
    OP(getnodeaffinity, getnodeaffinity, IF_DONE),
    OP(set_virq_handler, set_virq_handler, NEVER),
    OP(get_cpu_policy, get_cpu_policy, IF_DONE),
    OP(set_cpu_policy, set_cpu_policy, ALWAYS),
    HVM_OP(get_paging_mempool_size, domctl_get_paging_mempool_size, IF_DONE),
    HVM_OP(set_paging_mempool_size, domctl_set_paging_mempool_size, NEVER),
    HVM_OP(gethvmcontext, domctl_gethvmcontext, IF_DONE),
    HVM_OP(gethvmcontext_partial, domctl_gethvmcontext_partial, IF_DONE),
    HVM_OP(sethvmcontext, domctl_sethvmcontext, NEVER),
    OP(setvcpucontext, domctl_setvcpucontext, NEVER),
    OP(getvcpucontext, domctl_getvcpucontext, IF_DONE),
    OP(getvcpuinfo, domctl_getvcpuinfo, IF_DONE),
    OP(setvcpuaffinity, domctl_setvcpuaffinity, IF_DONE),
    OP(getvcpuaffinity, domctl_getvcpuaffinity, IF_DONE),
    OP(scheduler_op, domctl_scheduler_op, IF_DONE),
    PV_OP(get_ext_vcpucontext, domctl_get_ext_vcpucontext, IF_DONE),
    PV_OP(set_ext_vcpucontext, domctl_set_ext_vcpucontext, NEVER),
    PV_OP(getvcpuextstate, domctl_getvcpuextstate, IF_DONE),
    PV_OP(setvcpuextstate, domctl_setvcpuextstate, NEVER),
    PV_OP(get_vcpu_msrs, domctl_get_vcpu_msrs, IF_DONE),
    PV_OP(set_vcpu_msrs, domctl_set_vcpu_msrs, NEVER),
    OP(gettscinfo, domctl_gettscinfo, IF_DONE),
    OP(settscinfo, domctl_settscinfo, NEVER),
    OP(getpageframeinfo3, domctl_getpageframeinfo3, IF_DONE),
    OP(shadow_op, domctl_shadow_op, IF_DONE),
};

long hypercall_domctl(uint64_t arg, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
    struct xen_domctl op;
    struct domain *d = NULL;
    long rc;

    if (copy_from_guest(&op, (void *)arg, sizeof(op)))
        return refuse(-EFAULT, "domctl: no request at 0x%lx\n", arg);
    if (op.interface_version != XEN_DOMCTL_INTERFACE_VERSION)
        return refuse(-EACCES, "domctl: interface version 0x%x; Croft has 0x%x (Xen 4.17's)\n", op.interface_version,
                      XEN_DOMCTL_INTERFACE_VERSION);
    if (op.cmd >= ARRAY_SIZE(operations) || !operations[op.cmd].handler)
        return refuse(-ENOSYS, "domctl %u: not implemented\n", op.cmd);
    if (op.cmd != XEN_DOMCTL_createdomain) {
        /* getdomaininfo is for lists too: the domain of that number, or the next. */
        d = op.cmd == XEN_DOMCTL_getdomaininfo ? domain_get_from_id(op.domain) : domain_get_by_id(op.domain);
        if (!d)
            return -ESRCH; /* tools ask whether a domain is still there: no log line */
    }
    if (d && operations[op.cmd].of == (d->hvm ? PV_ONLY : HVM_ONLY)) {
        rc = refuse(-EOPNOTSUPP, "domctl %s of d%u: not for %s domains\n", operations[op.cmd].name, d->id,
                    d->hvm ? "PVH" : "PV");
        domain_put(d);
        return rc;
    }
    rc = operations[op.cmd].handler(d, &op);
    if (rc == -ERESTART)
        rc = hypercall_continue(arg, 0, 0, 0, 0);
    else if (operations[op.cmd].copy_back >= (!rc || rc == -ENOBUFS ? IF_DONE : ALWAYS) &&
             copy_to_guest((void *)arg, &op, sizeof(op)))
        rc = -EFAULT;
    if (d)
        domain_put(d);
    return rc;
}
