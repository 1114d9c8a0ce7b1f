/* hvm_op: parameters of domains that run with the processor's help, and how they take events. Source: <xen/hvm/hvm_op.h>. */
#include "domain/guest_access.h"
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

static long set_param(struct domain *d, const struct xen_hvm_param *a)
{
    switch (a->index) {
    case HVM_PARAM_CALLBACK_IRQ:
        if (!hvm_set_callback(d, a->value))
            return refuse(-EINVAL, "hvm_op: events by 0x%lx: only vectors from 0x10 on are there\n",
                          (unsigned long)a->value);
        d->hvm->params[a->index] = a->value;
        return 0;
    default: /* the others are for who builds the domain */
        return refuse(d == current->domain ? -EPERM : -ENOSYS, "hvm_op: parameter %u cannot be set\n", a->index);
    }
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
    if (op == HVMOP_set_param) {
        result = set_param(d, &a);
    } else {
        a.value = d->hvm->params[index_nospec(a.index, HVM_NR_PARAMS)];
        result = copy_to_guest(guest, &a, sizeof(a)) ? -EFAULT : 0;
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
