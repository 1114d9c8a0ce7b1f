/* A domain's state in the ABI's form: see domain_info.h. */
#include "domain/domain_info.h"
#include "cpu/cpu.h"
#include "domain/domain.h"
#include "lib/string.h"
#include "memory/map.h"

/* Blocked if all vcpus that are up are, running if one is; the CPU time includes those that are down. */
static uint32_t look_at_vcpus(struct domain *d, struct xen_domctl_getdomaininfo *info)
{
    uint32_t flags = XEN_DOMINF_blocked;
    struct vcpu_runstate_info r;
    struct vcpu *v;

    info->max_vcpu_id = XEN_INVALID_MAX_VCPU_ID;
    for_each_vcpu (d, v) {
        info->max_vcpu_id = v->id;
        vcpu_get_runstate(v, &r);
        info->cpu_time += r.time[RUNSTATE_running];
        if (v->down)
            continue;
        info->nr_online_vcpus++;
        if (!v->blocked)
            flags &= ~XEN_DOMINF_blocked;
        if (v->sched.running)
            flags |= XEN_DOMINF_running;
    }
    return info->nr_online_vcpus ? flags : 0;
}

void domain_info(struct domain *d, struct xen_domctl_getdomaininfo *info)
{
    bool shared = domain_has_shared_info(d) && !d->hvm; /* frames of PVH domains are mapped by their own numbers */

    memset(info, 0, sizeof(*info));
    info->domain = d->id;
    info->flags = look_at_vcpus(d, info);
    if (d->put_with_last_frame) /* taken down: the tools may forget it */
        info->flags |= XEN_DOMINF_dying;
    if (d->shut_down)
        info->flags |= XEN_DOMINF_shutdown | (d->shutdown_reason & XEN_DOMINF_shutdownmask) << XEN_DOMINF_shutdownshift;
    if (d->hvm)
        info->flags |= XEN_DOMINF_hvm_guest | XEN_DOMINF_hap;
    if (d->paused_by_tools)
        info->flags |= XEN_DOMINF_paused;
    info->tot_pages = d->tot_pages;
    info->max_pages = d->max_pages;
    info->outstanding_pages = d->claimed_pages;
    info->shared_info_frame = shared ? virt_to_mfn(d->shared_info).n : INVALID_MFN.n;
    memcpy(info->handle, d->handle, sizeof(info->handle));
    info->cpupool = d->pool;
    info->gpaddr_bits = cpu_features.paddr_bits;
}
