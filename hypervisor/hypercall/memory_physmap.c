/* memory_op of domains whose frames Croft translates: which frame is behind which number. Source: <xen/memory.h>. */
#include "domain/guest_access.h"
#include "hvm/hvm.h"
#include "hypercall/dispatch.h"
#include "hypercall/memory.h"
#include "lib/log.h"
#include "memory/map.h"

/*
 * Unmaps one frame. RAM goes back to Croft, the domain has one page less; but while there are more frames on demand than pages for them
 * (hvm/pod.h) it is kept for those, and if one of them goes, there may be a page too many. -ENOENT, -ENOMEM
 */
static int drop(struct domain *d, gfn_t gfn)
{
    int error = 0;
    mfn_t m = p2m_remove(d, gfn, &error);

    if (error == P2M_WAS_ON_DEMAND) {
        pod_trim(d);
        return 0;
    }
    if (mfn_eq(m, INVALID_MFN))
        return error ? error : -ENOENT;
    if (pod_keep(d, m))
        return 0;
    if (!(frame_of(m)->control & FRAME_SHARED))
        memory_release(m, d);
    frame_put_writable(m);
    return 0;
}

int memory_physmap_drop(struct domain *d, uint64_t gfn) { return drop(d, GFN(gfn)); }

int memory_physmap_mark(struct domain *d, uint64_t gfn, unsigned order) { return pod_mark(d, GFN(gfn), order); }

int memory_physmap_populate(struct domain *d, uint64_t gfn, mfn_t m, unsigned order)
{
    uint64_t end = gfn + (1UL << order);

    if (gfn & ((1UL << order) - 1))
        return -EINVAL;
    for (uint64_t i = gfn; (i = p2m_next(d, i, end)) < end; i++) {
        int error = drop(d, GFN(i));

        if (error && error != -ENOENT)
            return error;
    }
    return p2m_add(d, GFN(gfn), m, order);
}

/* The frame of Croft's that a mapping space names. */
static int frame_of_space(struct domain *d, const struct xen_add_to_physmap *a, mfn_t *m)
{
    uint64_t index = a->idx & ~XENMAPIDX_grant_table_status;

    switch (a->space) {
    case XENMAPSPACE_shared_info:
        *m = virt_to_mfn(d->shared_info);
        return a->idx ? -EINVAL : 0;
    case XENMAPSPACE_grant_table:
        return grant_acquire_frame(d, a->idx & XENMAPIDX_grant_table_status, index, m);
    default:
        return -ENOSYS;
    }
}

/* The domain of a request, with a reference: one with translated frames. */
static int target(domid_t id, struct domain **d)
{
    int error = memory_target(id, d);

    if (!error && !(*d)->hvm) {
        error = refuse(-EOPNOTSUPP, "memory_op: d%u names its memory by machine frames\n", (*d)->id);
        domain_put(*d);
    }
    return error;
}

long memory_add_to_physmap(uint64_t arg)
{
    struct xen_add_to_physmap a;
    struct domain *d;
    mfn_t m = INVALID_MFN;
    int error;

    if (copy_from_guest(&a, (const void *)arg, sizeof(a)))
        return refuse(-EFAULT, "add_to_physmap: no request at 0x%lx\n", arg);
    error = target(a.domid, &d);
    if (error)
        return error;
    error = frame_of_space(d, &a, &m);
    if (!error)
        error = memory_physmap_populate(d, a.gpfn, m, 0);
    if (error)
        guest_log(LOG_WARNING, "add_to_physmap: space %u, index 0x%lx to frame 0x%lx: error %d\n", a.space, a.idx,
                  a.gpfn, -error);
    domain_put(d);
    return error;
}

long memory_remove_from_physmap(uint64_t arg)
{
    struct xen_remove_from_physmap a;
    struct domain *d;
    int error;

    if (copy_from_guest(&a, (const void *)arg, sizeof(a)))
        return refuse(-EFAULT, "remove_from_physmap: no request at 0x%lx\n", arg);
    error = target(a.domid, &d);
    if (error)
        return error;
    error = drop(d, GFN(a.gpfn));
    domain_put(d);
    return error;
}

/* Tools set the target of every domain of this kind when they change its memory: to most of them it means nothing. */
long memory_pod_target(uint64_t cmd, uint64_t arg)
{
    struct xen_pod_target a;
    struct pod_numbers n;
    struct domain *d;
    int error;

    if (!current->domain->is_privileged)
        return refuse(-EPERM, "pod_target needs privilege\n");
    if (copy_from_guest(&a, (const void *)arg, sizeof(a)))
        return refuse(-EFAULT, "pod_target: no request at 0x%lx\n", arg);
    error = target(a.domid, &d);
    if (error)
        return error;
    if (cmd == XENMEM_set_pod_target)
        error = pod_set_target(d, a.target_pages);
    n = pod_numbers(d);
    domain_put(d);
    if (error == -ERESTART)
        return hypercall_continue(cmd, arg, 0, 0, 0);
    if (error)
        return refuse(error, "pod_target: no memory for d%u to have %lu pages: it has %lu\n", a.domid,
                      (unsigned long)a.target_pages, n.total);
    a.tot_pages = n.total;
    a.pod_cache_pages = n.pages;
    a.pod_entries = n.entries;
    return copy_to_guest((void *)arg, &a, sizeof(a)) ? -EFAULT : 0;
}
