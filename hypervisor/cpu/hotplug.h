/*
 * CPUs off line and on line again.
 *
 * A CPU goes in steps, each of which makes sure that nobody begins anew what the step ends:
 *
 * 1. It leaves its pool (sched/pool.h): all vcpus leave it, none comes. 2. Interrupts of devices are sent elsewhere, and no
 * longer routed to it. 3. Its timers go elsewhere, those set later as well. 4. Idle by now, it takes what is still on its way,
 * takes itself off cpu_online, answers the last calls (cpu/smp.c says why none is lost), and halts with interrupts off.
 * There only NMI, machine check and INIT reach it.
 *
 * It comes back by INIT and a start-up IPI as at boot, with an empty TLB, and joins pool 0. CPU 0 never goes: late timers
 * and interrupts end up there.
 */
#ifndef CPU_HOTPLUG_H
#define CPU_HOTPLUG_H

#include "lib/util.h"

/*
 * One at a time. Interrupts enabled; waits until the CPU has finished what it does, which is a hypercall at most.
 * -EINVAL: CPU 0, or there is no such CPU; -EEXIST: it is like that already; -EADDRNOTAVAIL: it is in a pool other than 0;
 * -EADDRINUSE: the last of pool 0; -EIO: it does not start. -EBUSY: another CPU is being changed, which the tools take as
 * "again". -ERESTART: call again, from another CPU, which the scheduler sees to when the caller leaves. Refusals are logged.
 */
int cpu_take_down(unsigned cpu);
int cpu_bring_up(unsigned cpu);    /* keeps this CPU busy until the other one has started, or 2 s are over */
bool cpu_is_present(unsigned cpu); /* on line or off */
unsigned cpu_last_present(void);
/* From the idle loop, interrupts disabled, percpu->park is set. Comes back if there is something to do first. */
void cpu_park(void);

#endif
