/*
 * domctl: the state of vcpus and frames that saving and restoring a domain needs beside the contexts. The formats are Xen's, so
 * that saved domains move between Croft and Xen 4.17.
 */
#include "cpu/cpu.h"
#include "cpu/fpu.h"
#include "cpu/instr.h"
#include "domain/guest_access.h"
#include "hvm/hvm.h"
#include "hypercall/dispatch.h"
#include "hypercall/domctl.h"
#include "lib/log.h"
#include "lib/string.h"
#include "memory/alloc.h"
#include "pv/mmu_types.h"
#include "sched/time.h"

#define XSTATE_HEADER 16 /* in front of the area: XCR0, and all that was ever set in it */
#define MAX_FRAMES 1024  /* a getpageframeinfo3 */
#define TSC_AUX 0xc0000103U
/* The modes of libxl's tsc_mode; no public header has them */
enum { TSC_DEFAULT, TSC_ALWAYS_EMULATED, TSC_NEVER_EMULATED };

static struct vcpu *other_vcpu(struct domain *d, uint32_t id, const char *call)
{
    struct vcpu *v = domain_vcpu(d, id);

    if (v && d != current->domain)
        return v;
    guest_log(LOG_WARNING, "%s: d%u has no vcpu %u, or it is the caller's\n", call, d->id, id);
    return NULL;
}

long domctl_get_ext_vcpucontext(struct domain *d, struct xen_domctl *op)
{
    struct xen_domctl_ext_vcpucontext *c = &op->u.ext_vcpucontext;
    struct vcpu *v = other_vcpu(d, c->vcpu, "get_ext_vcpucontext");

    if (!v)
        return -ESRCH;
    memset((char *)c + sizeof(c->vcpu), 0, sizeof(*c) - sizeof(c->vcpu));
    c->size = sizeof(*c);
    c->syscall32_callback_eip = v->pv.syscall32_callback;
    c->syscall32_disables_events = v->pv.syscall32_disables_events;
    c->sysenter_callback_eip = v->pv.sysenter_callback;
    c->sysenter_disables_events = v->pv.sysenter_disables_events;
    return 0;
}

long domctl_set_ext_vcpucontext(struct domain *d, struct xen_domctl *op)
{
    const struct xen_domctl_ext_vcpucontext *c = &op->u.ext_vcpucontext;
    struct vcpu *v = other_vcpu(d, c->vcpu, "set_ext_vcpucontext");

    if (!v)
        return -ESRCH;
    if (c->size < offsetof(struct xen_domctl_ext_vcpucontext, mcg_cap) ||
        !address_canonical(c->syscall32_callback_eip) || !address_canonical(c->sysenter_callback_eip) ||
        in_hole(c->syscall32_callback_eip) || in_hole(c->sysenter_callback_eip))
        return refuse(-EINVAL, "set_ext_vcpucontext of d%uv%u: size %u, or a handler's address is not usable\n", d->id,
                      v->id, c->size);
    domain_pause(d);
    v->pv.syscall32_callback = c->syscall32_callback_eip;
    v->pv.syscall32_disables_events = c->syscall32_disables_events;
    v->pv.sysenter_callback = c->sysenter_callback_eip;
    v->pv.sysenter_disables_events = c->sysenter_disables_events;
    domain_unpause(d);
    return 0;
}

long domctl_getvcpuextstate(struct domain *d, struct xen_domctl *op)
{
    struct xen_domctl_vcpuextstate *e = &op->u.vcpuextstate;
    struct vcpu *v = other_vcpu(d, e->vcpu, "getvcpuextstate");
    uint64_t size, header[2];
    void *area;
    long rc = 0;

    if (!v)
        return -ESRCH;
    if (!fpu_xcr0_max()) { /* without XSAVE the context has it all */
        e->size = 0;
        return 0;
    }
    size = XSTATE_HEADER + fpu_state_size();
    if (!e->size && !e->xfeature_mask) { /* how much would it be? */
        e->xfeature_mask = fpu_xcr0_max();
        e->size = size;
        return 0;
    }
    if (e->size < size || e->xfeature_mask != fpu_xcr0_max())
        return refuse(-EINVAL, "getvcpuextstate of d%uv%u: %lu bytes for features 0x%lx\n", d->id, v->id,
                      (unsigned long)e->size, (unsigned long)e->xfeature_mask);
    area = heap_alloc(fpu_state_size());
    if (!area)
        return refuse(-ENOMEM, "getvcpuextstate: no memory\n");
    vcpu_pause(v);
    header[0] = fpu_get_xcr0(v);
    header[1] = fpu_xcr0_max();
    fpu_get_state(v, area);
    vcpu_unpause(v);
    if (copy_to_guest(e->buffer.p, header, sizeof(header)) ||
        copy_to_guest((char *)e->buffer.p + XSTATE_HEADER, area, fpu_state_size()))
        rc = -EFAULT;
    e->size = size;
    heap_free(area);
    return rc;
}

long domctl_setvcpuextstate(struct domain *d, struct xen_domctl *op)
{
    const struct xen_domctl_vcpuextstate *e = &op->u.vcpuextstate;
    struct vcpu *v = other_vcpu(d, e->vcpu, "setvcpuextstate");
    uint64_t header[2], bytes;
    void *area;
    bool ok;

    if (!v)
        return -ESRCH;
    if (!fpu_xcr0_max() || e->size < XSTATE_HEADER || e->size > XSTATE_HEADER + 2 * PAGE_SIZE)
        return refuse(-EINVAL, "setvcpuextstate of d%uv%u: %lu bytes\n", d->id, v->id, (unsigned long)e->size);
    bytes = e->size - XSTATE_HEADER;
    if (!bytes) /* it never used any */
        return 0;
    area = heap_alloc(bytes);
    if (!area)
        return refuse(-ENOMEM, "setvcpuextstate: no memory\n");
    if (copy_from_guest(header, e->buffer.p, sizeof(header)) ||
        copy_from_guest(area, (char *)e->buffer.p + XSTATE_HEADER, bytes)) {
        heap_free(area);
        return -EFAULT;
    }
    domain_pause(d);
    ok = fpu_set_state(v, header[0], area, bytes);
    domain_unpause(d);
    heap_free(area);
    return ok ? 0
              : refuse(-EINVAL, "setvcpuextstate of d%uv%u: a state that this processor does not have\n", d->id, v->id);
}

/* The MSRs that are a PV vcpu's own and not in its context: TSC_AUX, if it was ever set. */
long domctl_get_vcpu_msrs(struct domain *d, struct xen_domctl *op)
{
    struct xen_domctl_vcpu_msrs *m = &op->u.vcpu_msrs;
    struct vcpu *v = other_vcpu(d, m->vcpu, "get_vcpu_msrs");
    struct xen_domctl_vcpu_msr msr = {.index = TSC_AUX};

    if (!v)
        return -ESRCH;
    if (!m->msrs.p) { /* how many can there be? */
        m->msr_count = 1;
        return 0;
    }
    msr.value = v->pv.tsc_aux;
    if (!msr.value) {
        m->msr_count = 0;
        return 0;
    }
    if (!m->msr_count) {
        m->msr_count = 1;
        return -ENOBUFS;
    }
    m->msr_count = 1;
    return copy_to_handle(m->msrs, 0, &msr, 1) ? -EFAULT : 0;
}

long domctl_set_vcpu_msrs(struct domain *d, struct xen_domctl *op)
{
    const struct xen_domctl_vcpu_msrs *m = &op->u.vcpu_msrs;
    struct vcpu *v = other_vcpu(d, m->vcpu, "set_vcpu_msrs");

    if (!v)
        return -ESRCH;
    for (uint32_t i = 0; i < m->msr_count; i++) {
        struct xen_domctl_vcpu_msr msr;

        if (copy_from_handle(&msr, m->msrs, i, 1))
            return -EFAULT;
        if (!msr.value)
            continue;
        if (msr.index != TSC_AUX || msr.reserved || msr.value >> 32)
            return refuse(-EINVAL, "set_vcpu_msrs of d%uv%u: MSR 0x%x\n", d->id, v->id, msr.index);
        v->pv.tsc_aux = msr.value;
    }
    return 0;
}

/* A guest that comes from elsewhere brings the rate of its TSC there (0: a new one). Two measurements of one machine are within
 * a thousandth of each other. Its time page has this machine's scale, but what else it remembers of the rate is wrong. */
static bool other_tsc_rate(uint64_t khz)
{
    uint64_t here = time_scale.tsc_khz;

    return khz && (khz > here ? khz - here : here - khz) > here / 1000;
}

/* A guest's TSC is the processor's: there is nothing to emulate, so no mode that asks for it. */
long domctl_settscinfo(struct domain *d, struct xen_domctl *op)
{
    const struct xen_domctl_tsc_info *t = &op->u.tsc_info;

    if (d == current->domain || t->tsc_mode == TSC_ALWAYS_EMULATED || t->tsc_mode > TSC_NEVER_EMULATED)
        return refuse(-EOPNOTSUPP,
                      "settscinfo: mode %u for d%u: the TSC is not emulated; use tsc_mode=\"default\" or \"native\"\n",
                      t->tsc_mode, d->id);
    if (other_tsc_rate(t->gtsc_khz))
        log_warning("%s: its TSC ran at %u kHz where it was saved, and runs at %lu kHz here\n", d->name, t->gtsc_khz,
                    time_scale.tsc_khz);
    d->tsc_mode = t->tsc_mode;
    d->tsc_incarnation = t->incarnation;
    return 0;
}

long domctl_gettscinfo(struct domain *d, struct xen_domctl *op)
{
    struct xen_domctl_tsc_info *t = &op->u.tsc_info;

    t->tsc_mode = d->tsc_mode;
    t->gtsc_khz = (uint32_t)time_scale.tsc_khz;
    t->incarnation = d->tsc_incarnation;
    t->elapsed_nsec = now();
    return 0;
}

/*
 * Of a PVH domain: is there RAM of its own behind the number? What Croft shares with it, nobody saves. What is on demand has no
 * contents; who restores the domain gives it a page.
 */
static uint32_t translated_frame_info(const struct domain *d, uint64_t gfn)
{
    mfn_t m = p2m_hold(d, GFN(gfn));
    bool own;

    if (mfn_eq(m, INVALID_MFN))
        return p2m_kind(d, GFN(gfn)) == P2M_ON_DEMAND ? XEN_DOMCTL_PFINFO_XALLOC : XEN_DOMCTL_PFINFO_XTAB;
    own = !(frame_of(m)->control & FRAME_SHARED);
    frame_put(m);
    return own ? XEN_DOMCTL_PFINFO_NOTAB : XEN_DOMCTL_PFINFO_XTAB;
}

/* What kind of frame the tools have before them: for each machine frame its table level, and whether it is pinned. */
static uint32_t frame_info(const struct domain *d, mfn_t m)
{
    uint64_t type;
    uint32_t info = XEN_DOMCTL_PFINFO_NOTAB;

    if (!frame_get(m, d))
        return XEN_DOMCTL_PFINFO_XTAB;
    type = READ_ONCE(frame_of(m)->type);
    if (TYPE_COUNT(type) && type_is_table(TYPE_OF(type))) {
        info = type_level(TYPE_OF(type)) << XEN_DOMCTL_PFINFO_LTAB_SHIFT;
        if (type & TYPE_PINNED)
            info |= XEN_DOMCTL_PFINFO_LPINTAB;
    }
    frame_put(m);
    return info;
}

/* Restored, it would need more pages than it may have: it has not ballooned down. */
static long check_on_demand(struct domain *d)
{
    struct pod_numbers n = pod_numbers(d);

    if (n.entries <= n.pages)
        return 0;
    return refuse(
        -EBUSY,
        "getpageframeinfo3: d%u cannot be saved yet: %lu KiB of it are to come on demand, and there are %lu KiB for "
        "that, until it has given back what 'maxmem' is above 'memory'\n",
        d->id, n.entries * 4, n.pages * 4);
}

long domctl_getpageframeinfo3(struct domain *d, struct xen_domctl *op)
{
    const struct xen_domctl_getpageframeinfo3 *g = &op->u.getpageframeinfo3;
    long rc;

    if (d == current->domain || g->num > MAX_FRAMES)
        return refuse(d == current->domain ? -EINVAL : -E2BIG, "getpageframeinfo3: %lu frames of d%u, at most %u\n",
                      (unsigned long)g->num, d->id, MAX_FRAMES);
    rc = d->hvm ? check_on_demand(d) : 0;
    if (rc)
        return rc;
    for (unsigned i = 0; i < g->num; i++) {
        xen_pfn_t frame;

        if (copy_from_handle(&frame, g->array, i, 1))
            return -EFAULT;
        frame = d->hvm ? translated_frame_info(d, frame) : frame_info(d, MFN(frame));
        if (copy_to_handle(g->array, i, &frame, 1))
            return -EFAULT;
    }
    return 0;
}

long domctl_shadow_op(struct domain *d, struct xen_domctl *op)
{
    /* Tools switch off what was never on at the end of each save. */
    if (op->u.shadow_op.op == XEN_DOMCTL_SHADOW_OP_OFF)
        return d->hvm ? 0 : -EINVAL;
    /* The old way to the size of the pool that is not there: domctl_hvm.c */
    if (d->hvm && op->u.shadow_op.op == XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION) {
        op->u.shadow_op.mb = (uint32_t)(d->hvm->paging_pool >> 20);
        return 0;
    }
    if (d->hvm && op->u.shadow_op.op == XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION) {
        d->hvm->paging_pool = (uint64_t)op->u.shadow_op.mb << 20;
        return 0;
    }
    return refuse(-EOPNOTSUPP, "shadow_op %u on d%u: no log of dirty pages\n", op->u.shadow_op.op, d->id);
}
