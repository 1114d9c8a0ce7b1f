/* sched_op: what a guest tells the scheduler, the end of a domain, and the domain's watchdog. */
#include "cpu/softirq.h"
#include "domain/domain.h"
#include "domain/guest_access.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"
#include "lib/nospec.h"
#include "sched/time.h"

#define POLL_MAX_PORTS 128U
#define WATCHDOGS ARRAY_SIZE(((struct domain *)NULL)->watchdog)

static long op_shutdown(unsigned reason)
{
    if (reason > SHUTDOWN_MAX)
        return refuse(-EINVAL, "shutdown for reason %u, which does not exist\n", reason);
    domain_shutdown(current->domain, (int)reason);
    softirq_raise(SOFTIRQ_SCHEDULE);
    return 0;
}

static long op_poll(const struct sched_poll *a)
{
    evtchn_port_t ports[POLL_MAX_PORTS];

    if (a->nr_ports > POLL_MAX_PORTS)
        return refuse(-EINVAL, "poll: %u ports; at most %u can be polled\n", a->nr_ports, POLL_MAX_PORTS);
    if (copy_from_handle(ports, a->ports, 0, a->nr_ports))
        return -EFAULT;
    for (unsigned i = 0; i < a->nr_ports; i++)
        if (!event_port_valid(current->domain, ports[i]))
            return refuse(-EINVAL, "poll: port %u is not open\n", ports[i]);
    vcpu_poll(ports, a->nr_ports, a->timeout);
    return 0;
}

static long op_remote_shutdown(const struct sched_remote_shutdown *a)
{
    struct domain *d;
    long result = 0;

    if (!current->domain->is_privileged)
        return refuse(-EPERM, "remote_shutdown of domain %u needs privilege\n", a->domain_id);
    if (a->reason > SHUTDOWN_MAX)
        return refuse(-EINVAL, "remote_shutdown for reason %u, which does not exist\n", a->reason);
    d = domain_get_by_id(a->domain_id);
    if (!d)
        return refuse(-ESRCH, "remote_shutdown of domain %u, which does not exist\n", a->domain_id);
    if (d == current->domain)
        result = refuse(-EPERM, "remote_shutdown of the caller itself\n");
    else
        domain_shutdown(d, (int)a->reason);
    domain_put(d);
    return result;
}

static long op_shutdown_code(unsigned reason)
{
    struct domain *d = current->domain;

    if (reason > SHUTDOWN_MAX)
        return refuse(-EINVAL, "shutdown_code %u, which does not exist\n", reason);
    spin_lock(&d->lock);
    if (!d->shut_down)
        d->shutdown_reason = (int)reason;
    spin_unlock(&d->lock);
    return 0;
}

static void watchdog_expired(void *arg)
{
    struct domain *d = arg;

    if (READ_ONCE(d->shut_down)) /* suspended, say: it cannot look after anything, and what it stopped for stays */
        return;
    log_warning("%s: its watchdog was not looked after in time\n", d->name);
    domain_shutdown(d, SHUTDOWN_watchdog);
}

/* Ids are 1 and 2; a set watchdog has an expiry. */
static long op_watchdog(const struct sched_watchdog *a)
{
    struct domain *d = current->domain;
    ns_t expires = now() + SECONDS(a->timeout);
    uint32_t i = a->id - 1;
    long result = 0;

    if (a->id > WATCHDOGS || (!a->id && !a->timeout))
        return refuse(-EINVAL, "watchdog %u, timeout %u s\n", a->id, a->timeout);
    spin_lock(&d->lock);
    if (!a->id) {
        for (i = 0; i < WATCHDOGS && d->watchdog_expires[i]; i++)
            ;
        if (i < WATCHDOGS)
            timer_init(&d->watchdog[i], watchdog_expired, d, current->processor);
        result = i < WATCHDOGS ? (long)i + 1 : -ENOSPC;
    } else if (!d->watchdog_expires[i]) {
        result = -EINVAL;
    }
    if (result >= 0) {
        d->watchdog_expires[i] = a->timeout ? expires : 0;
        if (a->timeout)
            timer_set(&d->watchdog[i], expires);
        else
            timer_stop(&d->watchdog[i]);
    }
    spin_unlock(&d->lock);
    if (result < 0)
        guest_log(LOG_WARNING, "watchdog %u: %s\n", a->id, result == -ENOSPC ? "all are in use" : "it is not set up");
    return result;
}

union sched_args {
    struct sched_shutdown shutdown;
    struct sched_poll poll;
    struct sched_remote_shutdown remote_shutdown;
    struct sched_watchdog watchdog;
    struct sched_pin_override pin_override;
};

static const uint8_t arg_size[] = {
    [SCHEDOP_shutdown] = sizeof(struct sched_shutdown),
    [SCHEDOP_poll] = sizeof(struct sched_poll),
    [SCHEDOP_remote_shutdown] = sizeof(struct sched_remote_shutdown),
    [SCHEDOP_shutdown_code] = sizeof(struct sched_shutdown),
    [SCHEDOP_watchdog] = sizeof(struct sched_watchdog),
    [SCHEDOP_pin_override] = sizeof(struct sched_pin_override),
};

long hypercall_sched_op(uint64_t cmd, uint64_t arg, uint64_t a3, uint64_t a4, uint64_t a5)
{
    union sched_args a;

    if ((uint32_t)cmd == SCHEDOP_block) {
        vcpu_block();
        return 0;
    }
    if ((uint32_t)cmd == SCHEDOP_yield) {
        vcpu_yield();
        return 0;
    }
    if ((uint32_t)cmd >= ARRAY_SIZE(arg_size))
        return refuse(-ENOSYS, "sched_op: there is no operation %u\n", (uint32_t)cmd);
    if (copy_from_guest(&a, (void *)arg, arg_size[index_nospec((uint32_t)cmd, ARRAY_SIZE(arg_size))]))
        return -EFAULT;

    switch ((uint32_t)cmd) {
    case SCHEDOP_shutdown:
        return op_shutdown(a.shutdown.reason);
    case SCHEDOP_poll:
        return op_poll(&a.poll);
    case SCHEDOP_remote_shutdown:
        return op_remote_shutdown(&a.remote_shutdown);
    case SCHEDOP_shutdown_code:
        return op_shutdown_code(a.shutdown.reason);
    case SCHEDOP_watchdog:
        return op_watchdog(&a.watchdog);
    default: /* pin_override: for firmware calls that must run on CPU 0 */
        if (!current->domain->is_hardware)
            return refuse(-EPERM, "sched_op: pin_override is for the hardware domain\n");
        return refuse(-ENOSYS, "sched_op: pin_override to CPU %d is not there\n", a.pin_override.pcpu);
    }
}

/* The form before 3.0.2: the shutdown reason is the argument itself. */
long hypercall_sched_op_compat(uint64_t cmd, uint64_t arg, uint64_t a3, uint64_t a4, uint64_t a5)
{
    switch ((uint32_t)cmd) {
    case SCHEDOP_yield:
    case SCHEDOP_block:
        return hypercall_sched_op(cmd, 0, 0, 0, 0);
    case SCHEDOP_shutdown:
        return op_shutdown((uint32_t)arg);
    default:
        return refuse(-ENOSYS, "sched_op: there is no operation %u in the old call\n", (uint32_t)cmd);
    }
}
