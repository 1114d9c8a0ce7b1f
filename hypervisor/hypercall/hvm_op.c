/* hvm_op: parameters of domains that run with the processor's help, and how they take events. Source: <xen/hvm/hvm_op.h>. */
#include "domain/guest_access.h"
#include "domain/domain.h"
#include "hvm/hvm.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"

/* The domain that a call names, with a reference. -EPERM, -ESRCH, -EINVAL */
static int target(domid_t id, struct domain **d)
{
    if (id != DOMID_SELF && id != current->domain->id && !current->domain->is_privileged)
        return refuse(-EPERM, "hvm_op: domain %u is not its own\n", id);
    *d = domain_get_by_id(id);
    if (!*d)
        return -ESRCH;
    if ((*d)->hvm)
        return 0;
    domain_put(*d);
    return -EINVAL;
}

/*
 * Who may use which parameter. The guest: its own side of the rings, and what tells how it is run. The tools: all that there is. Once: a
 * second, different value is refused. The others of the list are no more, or were never.
 */
enum { GUEST_READS = 1, GUEST_SETS = 2, TOOLS = 4, ONCE = 8 };
static const uint8_t rights[HVM_NR_PARAMS] = {
    [HVM_PARAM_CALLBACK_IRQ] = GUEST_READS | GUEST_SETS | TOOLS,
    [HVM_PARAM_STORE_PFN] = GUEST_READS | TOOLS,
    [HVM_PARAM_STORE_EVTCHN] = GUEST_READS | GUEST_SETS | TOOLS,
    [HVM_PARAM_CONSOLE_PFN] = GUEST_READS | TOOLS,
    [HVM_PARAM_CONSOLE_EVTCHN] = GUEST_READS | GUEST_SETS | TOOLS,
    [HVM_PARAM_IOREQ_PFN] = TOOLS,
    [HVM_PARAM_BUFIOREQ_PFN] = TOOLS,
    [HVM_PARAM_BUFIOREQ_EVTCHN] = TOOLS,
    [HVM_PARAM_VIRIDIAN] = TOOLS | ONCE,
    [HVM_PARAM_TIMER_MODE] = TOOLS,
    [HVM_PARAM_HPET_ENABLED] = TOOLS,
    [HVM_PARAM_IDENT_PT] = TOOLS,
    [HVM_PARAM_ACPI_S_STATE] = TOOLS,
    [HVM_PARAM_VM86_TSS] = GUEST_READS | GUEST_SETS | TOOLS,
    [HVM_PARAM_VM86_TSS_SIZED] = GUEST_READS | GUEST_SETS | TOOLS,
    [HVM_PARAM_VPT_ALIGN] = TOOLS,
    [HVM_PARAM_ACPI_IOPORTS_LOCATION] = GUEST_READS | GUEST_SETS | TOOLS,
    [HVM_PARAM_NESTEDHVM] = TOOLS,
    [HVM_PARAM_PAGING_RING_PFN] = TOOLS,
    [HVM_PARAM_MONITOR_RING_PFN] = TOOLS,
    [HVM_PARAM_SHARING_RING_PFN] = TOOLS,
    [HVM_PARAM_TRIPLE_FAULT_REASON] = TOOLS,
    [HVM_PARAM_IOREQ_SERVER_PFN] = TOOLS | ONCE,
    [HVM_PARAM_NR_IOREQ_SERVER_PAGES] = TOOLS | ONCE,
    [HVM_PARAM_VM_GENERATION_ID_ADDR] = GUEST_READS | GUEST_SETS | TOOLS,
    [HVM_PARAM_ALTP2M] = GUEST_READS | TOOLS | ONCE,
    [HVM_PARAM_X87_FIP_WIDTH] = GUEST_READS | GUEST_SETS | TOOLS,
    [HVM_PARAM_MCA_CAP] = TOOLS | ONCE,
};

static long check_right(const struct domain *d, uint32_t index, unsigned guest)
{
    if (!rights[index])
        return refuse(-EINVAL, "hvm_op: there is no parameter %u any more\n", index);
    if (d == current->domain && !(rights[index] & guest))
        return refuse(-EPERM, "hvm_op: parameter %u is for the tools\n", index);
    return 0;
}

/* Those with a meaning to Croft: null, or why the value cannot be. Frames, event channels and addresses mean something only to who
 * reads them again. */
static const char *check_value(uint32_t index, uint64_t value)
{
    switch (index) {
    case HVM_PARAM_TIMER_MODE:
        return value > HVMPTM_one_missed_tick_pending ? "there is no such mode" : NULL;
    case HVM_PARAM_TRIPLE_FAULT_REASON:
        return value > SHUTDOWN_MAX ? "there is no such reason" : NULL;
    case HVM_PARAM_X87_FIP_WIDTH: /* it is always saved with 64 bits */
        return value && value != 8 ? "no width but 8" : NULL;
    case HVM_PARAM_VIRIDIAN:
        return value ? "Croft looks like Xen only" : NULL;
    case HVM_PARAM_HPET_ENABLED:
    case HVM_PARAM_ACPI_S_STATE:
    case HVM_PARAM_NESTEDHVM:
    case HVM_PARAM_ALTP2M:
    case HVM_PARAM_MCA_CAP:
        return value ? "PVH domains have it not" : NULL;
    default:
        return NULL;
    }
}

static long set_param(struct domain *d, uint32_t index, uint64_t value)
{
    uint64_t *param = &d->hvm->params[index];
    const char *why;
    long rc = check_right(d, index, GUEST_SETS);

    if (rc)
        return rc;
    if (rights[index] & ONCE && *param && *param != value)
        return refuse(-EEXIST, "hvm_op: parameter %u is 0x%lx already\n", index, *param);
    why = check_value(index, value);
    if (why)
        return refuse(-EINVAL, "hvm_op: parameter %u cannot be 0x%lx: %s\n", index, value, why);
    if (index == HVM_PARAM_CALLBACK_IRQ && !hvm_set_callback(d, value))
        return refuse(-EINVAL, "hvm_op: events by 0x%lx: only vectors from 0x10 on are there\n", value);
    WRITE_ONCE(*param, value);
    return 0;
}

static long op_param(uint64_t op, void *guest)
{
    struct xen_hvm_param a;
    struct domain *d;
    long result;

    if (copy_from_guest(&a, guest, sizeof(a)))
        return -EFAULT;
    if (a.index >= HVM_NR_PARAMS)
        return refuse(-EINVAL, "hvm_op: there is no parameter %u\n", a.index);
    result = target(a.domid, &d);
    if (result)
        return result;
    a.index = (uint32_t)index_nospec(a.index, HVM_NR_PARAMS);
    if (op == HVMOP_set_param) {
        result = set_param(d, a.index, a.value);
    } else {
        result = check_right(d, a.index, GUEST_READS);
        a.value = READ_ONCE(d->hvm->params[a.index]);
        if (!result && copy_to_guest(guest, &a, sizeof(a)))
            result = -EFAULT;
    }
    domain_put(d);
    return result;
}

static long op_upcall_vector(const void *guest)
{
    struct xen_hvm_evtchn_upcall_vector a;
    struct vcpu *v;

    if (copy_from_guest(&a, guest, sizeof(a)))
        return -EFAULT;
    if (!current->hvm)
        return -EINVAL;
    v = domain_vcpu(current->domain, a.vcpu);
    if (!v)
        return refuse(-ENOENT, "hvm_op: upcall vector of vcpu %u, which does not exist\n", a.vcpu);
    return hvm_set_upcall_vector(v, a.vector)
               ? 0
               : refuse(-EINVAL, "hvm_op: upcall vector 0x%x of vcpu %u\n", a.vector, a.vcpu);
}

long hypercall_hvm_op(uint64_t op, uint64_t arg, uint64_t a3, uint64_t a4, uint64_t a5)
{
    switch (op) {
    case HVMOP_set_param:
    case HVMOP_get_param:
        return op_param(op, (void *)arg);
    case HVMOP_set_evtchn_upcall_vector:
        return op_upcall_vector((const void *)arg);
    case HVMOP_pagetable_dying: /* of use only where page tables are shadowed; guests try it at boot: no log line */
        return -EINVAL;
    default:
        return refuse(-ENOSYS, "hvm_op %lu: not implemented\n", op);
    }
}
