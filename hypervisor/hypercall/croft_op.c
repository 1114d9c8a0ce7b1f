/* Croft's own hypercall: for privileged domains the parameters of Borrowed Virtual Time and the number of the next domain;
 * for all a vcpu's timer in virtual time; for tests the injection of faults. */
#include "hypercall/croft_abi.h"

#include "boot/options.h"
#include "cpu/instr.h"
#include "cpu/percpu.h"
#include "cpu/smp.h"
#include "domain/domain.h"
#include "domain/guest_access.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"
#include "lib/spinlock.h"
#include "memory/alloc.h"
#include "platform/apic.h"
#include "platform/timers.h"
#include "sched/guest_timer.h"

static long sched_get(struct vcpu *v, struct croft_sched *op)
{
    struct bvt_parameters p;

    vcpu_get_parameters(v, &p);
    *op = (struct croft_sched){.domid = v->domain->id,
                               .vcpu = v->id,
                               .weight = p.weight,
                               .flags = p.warped ? CROFT_SCHED_WARPED : 0,
                               .warp = (uint64_t)p.warp,
                               .limit = p.warp_limit,
                               .unwarp = p.unwarp_requirement};
    return 0;
}

static long sched_set(struct vcpu *v, const struct croft_sched *op)
{
    bool weight = op->flags & CROFT_SCHED_SET_WEIGHT, warp = op->flags & CROFT_SCHED_SET_WARP;

    if (!op->flags || op->flags & ~(CROFT_SCHED_SET_WEIGHT | CROFT_SCHED_SET_WARP))
        return refuse(-EINVAL, "croft_op: sched_set: flags 0x%x\n", op->flags);
    if (warp &&
        (op->warp > CROFT_SCHED_WARP_MAX || op->limit > CROFT_SCHED_TIME_MAX || op->unwarp > CROFT_SCHED_TIME_MAX))
        return refuse(-EINVAL, "croft_op: sched_set: warp %lu ns, limit %lu ns, unwarp %lu ns: too long\n", op->warp,
                      op->limit, op->unwarp);
    if (weight && vcpu_set_weight(v, op->weight))
        return refuse(-EINVAL, "croft_op: sched_set: weight %u\n", op->weight);
    if (warp)
        vcpu_set_warp(v, (int64_t)op->warp, op->limit, op->unwarp);
    return 0;
}

/* The first vcpu not before the named one; takes a reference of its domain. Null if there is none. */
static struct vcpu *vcpu_from(domid_t domid, uint32_t id)
{
    struct domain *d;
    struct vcpu *v;

    for (d = domain_get_from_id(domid); d; d = domain_next(d))
        for_each_vcpu (d, v)
            if (d->id > domid || v->id >= id)
                return v;
    return NULL;
}

static long sched_op(uint32_t cmd, struct croft_sched *op)
{
    struct domain *d;
    struct vcpu *v;
    long rc;

    if (op->reserved)
        return refuse(-EINVAL, "croft_op: reserved field 0x%x\n", op->reserved);
    if (cmd == CROFT_OP_sched_next) {
        v = vcpu_from(op->domid, op->vcpu);
        d = v ? v->domain : NULL;
    } else {
        d = domain_get_by_id(op->domid);
        if (!d)
            return refuse(-ESRCH, "croft_op: there is no domain %u\n", op->domid);
        v = domain_vcpu(d, op->vcpu);
    }
    if (!v)
        rc = -ENOENT; /* how a walk ends: no log line */
    else
        rc = cmd == CROFT_OP_sched_set ? sched_set(v, op) : sched_get(v, op);
    if (d)
        domain_put(d);
    return rc;
}

static long disturb_cpu(uint64_t what, uint64_t n)
{
    unsigned long flags;

    switch (what) {
    case CROFT_DISTURB_HOLD:
        if (n > CROFT_DISTURB_HOLD_MAX)
            return refuse(-EINVAL, "croft_op: disturb_cpu: hold it for %lu us: too long\n", n);
        flags = irq_save();
        udelay((unsigned)n);
        irq_restore(flags);
        return 0;
    case CROFT_DISTURB_SPURIOUS:
        if (n < VECTOR_DEVICE_FIRST || n > VECTOR_SPURIOUS)
            return refuse(-EINVAL, "croft_op: disturb_cpu: vector %lu\n", n);
        if (n ==
            VECTOR_SPURIOUS) /* the APIC takes no note of a real one; one that is sent it would wait to see ended */
            __asm__ volatile("int %0" : : "i"(VECTOR_SPURIOUS) : "memory");
        else
            apic_send_ipi(this_cpu()->apic_id, (uint8_t)n);
        return 0;
    case CROFT_DISTURB_LOSE_CALL:
        smp_lose_call();
        return 0;
    default:
        return refuse(-EINVAL, "croft_op: disturb_cpu: %lu\n", what);
    }
}

long hypercall_croft_op(uint64_t cmd, uint64_t arg, uint64_t a3, uint64_t a4, uint64_t a5)
{
    uint32_t command = (uint32_t)cmd;
    struct croft_sched op;
    long rc;

    if (command != CROFT_OP_set_virtual_timer && !current->domain->is_privileged)
        return refuse(-EPERM, "croft_op: command %u needs privilege\n", command);
    switch (command) {
    case CROFT_OP_sched_get:
    case CROFT_OP_sched_next:
    case CROFT_OP_sched_set:
        if (copy_from_guest(&op, (void *)arg, sizeof(op)))
            return -EFAULT;
        rc = sched_op(command, &op);
        if (!rc && command != CROFT_OP_sched_set && copy_to_guest((void *)arg, &op, sizeof(op)))
            rc = -EFAULT;
        return rc;
    case CROFT_OP_sched_get_allowance:
        return options.sched_allowance_us;
    case CROFT_OP_sched_set_allowance:
        if (arg > CROFT_SCHED_ALLOWANCE_MAX)
            return refuse(-EINVAL, "croft_op: an allowance of %lu us\n", arg);
        WRITE_ONCE(options.sched_allowance_us, (uint32_t)arg);
        return 0;
    case CROFT_OP_set_virtual_timer:
        if (arg > CROFT_VIRTUAL_TIME_MAX)
            return refuse(-EINVAL, "croft_op: a timer at %lu ns of run time\n", arg);
        guest_timer_virtual(current, arg);
        return 0;
    case CROFT_OP_set_next_domid:
        if (!arg || arg >= DOMID_FIRST_RESERVED)
            return refuse(-EINVAL, "croft_op: no domain can have number %lu\n", arg);
        return domain_set_next_id((domid_t)arg);
    case CROFT_OP_fail_allocation:
        if (arg > UINT32_MAX)
            return refuse(-EINVAL, "croft_op: allocation number %lu\n", arg);
        return (long)alloc_fault_set(arg, (domid_t)a3);
    case CROFT_OP_disturb_cpu:
        return disturb_cpu(arg, a3);
    default:
        return refuse(-ENOSYS, "croft_op: command %u\n", command);
    }
}
