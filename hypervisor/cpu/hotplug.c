/* CPUs off line and on line again: see cpu/hotplug.h. */
#include "cpu/hotplug.h"

#include "cpu/cpumask.h"
#include "cpu/instr.h"
#include "cpu/percpu.h"
#include "cpu/smp.h"
#include "domain/domain.h"
#include "hvm/hvm.h"
#include "lib/log.h"
#include "platform/apic.h"
#include "platform/irq.h"
#include "platform/timers.h"
#include "sched/pool.h"

/* So long a message from a device may be on its way. */
#define DRAIN_US 1000

static bool busy; /* one change at a time */

static bool begin(void) { return !__atomic_exchange_n(&busy, true, __ATOMIC_ACQUIRE); }
static void end(void) { __atomic_store_n(&busy, false, __ATOMIC_RELEASE); }

bool cpu_is_present(unsigned cpu) { return cpu < NR_CPUS && percpu_of(cpu); }

unsigned cpu_last_present(void)
{
    unsigned last = 0;

    for (unsigned cpu = 0; cpu < NR_CPUS; cpu++)
        if (percpu_of(cpu))
            last = cpu;
    return last;
}

/* ----- off ----- */

static void take_down(unsigned cpu)
{
    struct percpu *pc = percpu_of(cpu);

    while (!sched_cpu_empty(cpu))
        cpu_relax();
    irq_close_cpu(cpu);
    timers_close_cpu(cpu);
    __atomic_store_n(&pc->park, CPU_PARK, __ATOMIC_SEQ_CST);
    smp_send_wake(cpu);
    while (__atomic_load_n(&pc->park, __ATOMIC_ACQUIRE) != CPU_PARKED)
        cpu_relax();
    pool_vacate_cpu(cpu);
    log_info("CPU %u is off line\n", cpu);
    event_send_global_virq(domain0, VIRQ_PCPU_STATE);
}

/* Out of pool 0, if it is there: then it is free. */
static int leave_pool(unsigned cpu)
{
    int rc = pool_remove_cpu(0, cpu);
    cpumask_t idle = pool_free_cpus();

    if (rc == -EBUSY)
        return refuse(-EADDRINUSE, "CPU %u stays on line: it is the last one of CPU pool 0\n", cpu);
    if (rc && !cpumask_test(cpu, &idle))
        return refuse(-EADDRNOTAVAIL, "CPU %u stays on line: it is in another CPU pool than 0\n", cpu);
    return 0;
}

int cpu_take_down(unsigned cpu)
{
    int rc;

    if (!cpu || !cpu_is_present(cpu))
        return refuse(-EINVAL, "CPU %u cannot be taken off line: %s\n", cpu,
                      cpu ? "there is none" : "it is the boot CPU");
    if (!begin())
        return refuse(-EBUSY, "CPU %u: another one is being taken off line or on\n", cpu);
    rc = cpumask_test(cpu, &cpu_online) ? leave_pool(cpu) : -EEXIST;
    if (!rc && cpu == cpu_id())
        rc = -ERESTART;
    if (!rc)
        rc = pool_cpu_leaves(cpu);
    if (!rc)
        take_down(cpu);
    end();
    return rc;
}

void cpu_park(void)
{
    struct percpu *pc = this_cpu();

    sti();
    udelay(DRAIN_US);
    cli();
    if (pc->softirq_pending || apic_device_pending()) {
        sti();
        return;
    }
    apic_timer_stop();
    sched_retire_idle();
    smp_leave();
    hvm_close_cpu();
    __atomic_store_n(&pc->park, CPU_PARKED, __ATOMIC_RELEASE);
    for (;;) {
        cli();
        __asm__ volatile("hlt");
    }
}

/* ----- on ----- */

int cpu_bring_up(unsigned cpu)
{
    int rc = -EEXIST;

    if (!cpu_is_present(cpu))
        return refuse(-EINVAL, "CPU %u cannot be brought on line: there is none\n", cpu);
    if (!begin())
        return refuse(-EBUSY, "CPU %u: another one is being taken off line or on\n", cpu);
    if (!cpumask_test(cpu, &cpu_online)) {
        rc = smp_restart(cpu) ? 0 : refuse(-EIO, "CPU %u does not start\n", cpu);
        if (!rc) {
            irq_open_cpu(cpu);
            pool_cpu_joins(cpu);
            log_info("CPU %u is on line\n", cpu);
            event_send_global_virq(domain0, VIRQ_PCPU_STATE);
        }
    }
    end();
    return rc;
}
