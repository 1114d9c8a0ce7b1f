/* vcpu_op: bringing up vcpus, and what a guest registers and asks for each of them. */
#include "domain/domain.h"
#include "domain/guest_access.h"
#include "cpu/softirq.h"
#include "hvm/hvm.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"
#include "lib/string.h"
#include "memory/alloc.h"
#include "memory/map.h"
#include "platform/acpi.h"
#include "pv/context.h"
#include "sched/guest_timer.h"
#include "sched/time.h"

static long op_initialise(struct vcpu *v, const void *guest)
{
    struct vcpu_guest_context *context;
    long result;

    if (v->info == &v->no_info)
        return refuse(-EINVAL, "vcpu %u: register its vcpu_info before it is initialised\n", v->id);
    context = new_object(struct vcpu_guest_context);
    if (!context)
        return refuse(-ENOMEM, "vcpu %u: no memory for its context\n", v->id);
    if (copy_from_guest(context, guest, sizeof(*context))) {
        result = -EFAULT;
    } else {
        spin_lock(&v->domain->lock);
        result = v->initialised ? -EEXIST : pv_set_context(v, context);
        if (!result)
            v->initialised = true;
        spin_unlock(&v->domain->lock);
    }
    heap_free(context);
    if (result == -EEXIST)
        guest_log(LOG_WARNING, "vcpu %u is initialised\n", v->id);
    return result;
}

static long op_up(struct vcpu *v)
{
    struct domain *d = v->domain;
    bool was_down;

    spin_lock(&d->lock);
    was_down = v->down;
    if (v->initialised)
        v->down = false;
    spin_unlock(&d->lock);
    if (!v->initialised)
        return refuse(-EINVAL, "vcpu %u: up before it is initialised\n", v->id);
    if (was_down)
        vcpu_wake(v);
    return 0;
}

static long op_down(struct vcpu *v)
{
    struct domain *d = v->domain;
    struct vcpu *other;
    bool last = true;

    spin_lock(&d->lock);
    for_each_vcpu (d, other)
        if (other != v && !other->down)
            last = false;
    if (!last)
        v->down = true;
    spin_unlock(&d->lock);
    if (last) { /* nobody is left who could bring one up */
        guest_log(LOG_WARNING, "the last vcpu goes down\n");
        domain_shutdown(d, SHUTDOWN_crash);
    } else {
        vcpu_sleep(v);
    }
    return 0;
}

static long op_register_info(struct vcpu *v, const struct vcpu_register_vcpu_info *a)
{
    struct domain *d = v->domain;
    struct vcpu_info *new;
    mfn_t m;

    if (a->offset > PAGE_SIZE - sizeof(*new) || a->offset & (_Alignof(struct vcpu_info) - 1))
        return refuse(-EINVAL, "vcpu %u: offset %#x of its vcpu_info is not usable\n", v->id, a->offset);
    if (v != current && !v->down)
        return refuse(-EINVAL, "vcpu %u: vcpu_info of another vcpu that is not down\n", v->id);
    m = domain_frame_get_writable(d, a->mfn);
    if (mfn_eq(m, INVALID_MFN))
        return refuse(-EINVAL, "vcpu %u: frame %#lx of its vcpu_info is not the domain's to write\n", v->id, a->mfn);
    new = (void *)((char *)mfn_to_virt(m) + a->offset);

    spin_lock(&d->lock);
    if (!mfn_eq(v->info_mfn, INVALID_MFN)) {
        spin_unlock(&d->lock);
        frame_put_writable(m);
        return refuse(-EINVAL, "vcpu %u: its vcpu_info is registered\n", v->id);
    }
    memcpy(new, v->info, sizeof(*new));
    v->info_mfn = m;
    __atomic_store_n(&v->info, new, __ATOMIC_SEQ_CST);
    spin_unlock(&d->lock);

    /* Somebody may have been marking the old place just now: let the guest look at everything once. */
    __atomic_store_n(&new->evtchn_pending_sel, ~0UL, __ATOMIC_SEQ_CST);
    __atomic_store_n(&new->evtchn_upcall_pending, 1, __ATOMIC_SEQ_CST);
    if (v->hvm)
        hvm_event_pending(v);
    time_update_vcpu(v);
    return 0;
}

static long op_get_runstate(struct vcpu *v, void *guest)
{
    struct vcpu_runstate_info r;

    vcpu_get_runstate(v, &r);
    return copy_to_guest(guest, &r, sizeof(r)) ? -EFAULT : 0;
}

static long op_get_physid(struct vcpu *v, void *guest)
{
    struct vcpu_get_physid a = {.phys_id = 0};
    const cpumask_t *mask = &v->sched.hard_affinity;
    unsigned cpu = cpumask_next(0, mask);
    const struct percpu *p;

    if (!v->domain->is_privileged)
        return refuse(-ENOSYS, "vcpu %u: get_physid is for domain 0\n", v->id);
    p = cpu < NR_CPUS ? percpu_of(cpu) : NULL;
    if (!p || cpumask_next(cpu + 1, mask) < NR_CPUS)
        return -EINVAL; /* not pinned to one CPU, so it has no processor of its own */
    a.phys_id = p->apic_id;
    for (unsigned i = 0; i < acpi_info.cpu_count; i++)
        if (acpi_info.cpus[i].apic_id == p->apic_id)
            a.phys_id |= (uint64_t)acpi_info.cpus[i].acpi_id << 32;
    return copy_to_guest(guest, &a, sizeof(a)) ? -EFAULT : 0;
}

static long op_set_singleshot(struct vcpu *v, const void *guest)
{
    struct vcpu_set_singleshot_timer a;

    _Static_assert(sizeof(a) == 16, "read by guest_read16");
    if (unlikely(!guest_read16((uint64_t *)&a, guest)))
        return -EFAULT;
    if (a.flags & VCPU_SSHOTTMR_future && a.timeout_abs_ns < now())
        return -ETIME;
    guest_timer_singleshot(v, a.timeout_abs_ns);
    return 0;
}

static long op_set_periodic(struct vcpu *v, const void *guest)
{
    struct vcpu_set_periodic_timer a;

    if (copy_from_guest(&a, guest, sizeof(a)))
        return -EFAULT;
    if (a.period_ns < GUEST_TIMER_MIN_PERIOD || (int64_t)a.period_ns < 0)
        return refuse(-EINVAL, "vcpu %u: timer period of %lu ns\n", v->id, (unsigned long)a.period_ns);
    guest_timer_periodic(v, a.period_ns);
    return 0;
}

static long op_send_nmi(struct vcpu *v)
{
    if (v->hvm) {
        hvm_signal_nmi(v);
        return 0;
    }
    if (__atomic_exchange_n(&v->pv.nmi_pending, true, __ATOMIC_SEQ_CST))
        return 0;
    softirq_raise_on(v->processor, SOFTIRQ_NMI); /* a switch to v looks as well */
    vcpu_kick(v);
    return 0;
}

/* The memory areas: all three calls have one 64-bit address as their argument. */
static long op_register_area(struct vcpu *v, const void *guest, int (*set)(struct vcpu *v, uint64_t address))
{
    uint64_t address;

    if (copy_from_guest(&address, guest, sizeof(address)))
        return -EFAULT;
    return set(v, address);
}

/* All but what guests do at every tick. */
static __attribute__((noinline)) long other_op(uint32_t cmd, struct vcpu *v, void *guest)
{
    if (v->hvm && (cmd == VCPUOP_initialise || cmd == VCPUOP_get_physid))
        return refuse(-ENOSYS, "vcpu_op %u: vcpus of this kind begin by INIT and start-up signals\n", cmd);
    switch (cmd) {
    case VCPUOP_initialise:
        return op_initialise(v, guest);
    case VCPUOP_up:
        return op_up(v);
    case VCPUOP_down:
        return op_down(v);
    case VCPUOP_get_runstate_info:
        return op_get_runstate(v, guest);
    case VCPUOP_register_runstate_memory_area:
        return op_register_area(v, guest, time_register_runstate);
    case VCPUOP_register_vcpu_time_memory_area:
        return op_register_area(v, guest, time_register_time_info);
    case VCPUOP_set_periodic_timer:
        return op_set_periodic(v, guest);
    case VCPUOP_stop_periodic_timer:
        guest_timer_periodic(v, 0);
        return 0;
    case VCPUOP_set_singleshot_timer:
        return refuse(-EINVAL, "vcpu %u: a single-shot timer is set by the vcpu itself\n", v->id);
    case VCPUOP_stop_singleshot_timer:
        if (v != current)
            return refuse(-EINVAL, "vcpu %u: a single-shot timer is stopped by the vcpu itself\n", v->id);
        timer_stop(&v->singleshot);
        return 0;
    case VCPUOP_register_vcpu_info: {
        struct vcpu_register_vcpu_info a;

        return copy_from_guest(&a, guest, sizeof(a)) ? -EFAULT : op_register_info(v, &a);
    }
    case VCPUOP_get_physid:
        return op_get_physid(v, guest);
    case VCPUOP_send_nmi:
        return op_send_nmi(v);
    default:
        return refuse(-ENOSYS, "vcpu_op: there is no operation %u\n", cmd);
    }
}

long hypercall_vcpu_op(uint64_t cmd, uint64_t id, uint64_t arg, uint64_t a4, uint64_t a5)
{
    struct vcpu *v = current;

    if (likely((uint32_t)cmd == VCPUOP_set_singleshot_timer && (uint32_t)id == v->id))
        return op_set_singleshot(v, (void *)arg);
    v = domain_vcpu(v->domain, (uint32_t)id);
    if (!v)
        return -ENOENT; /* guests find out the number of vcpus this way: no log line */
    if ((uint32_t)cmd == VCPUOP_is_up)
        return !v->down;
    return other_op((uint32_t)cmd, v, (void *)arg);
}
