/*
 * The timers of a vcpu; all end in VIRQ_TIMER. Xen's ABI has two: the single-shot timer runs whatever the vcpu does, the
 * periodic one ticks only while the vcpu runs, and at once when it comes back after a tick was due. Croft's own third one
 * is single-shot in virtual time: what counts is the vcpu's time in RUNSTATE_running.
 * The latter two are armed only while their vcpu runs, on the CPU where it does: schedule() sees to that.
 */
#ifndef SCHED_GUEST_TIMER_H
#define SCHED_GUEST_TIMER_H

#include "sched/timer.h"

struct vcpu;

#define GUEST_TIMER_DEFAULT_PERIOD MILLISECS(10) /* until the guest stops it, as the ABI wants */
#define GUEST_TIMER_MIN_PERIOD MILLISECS(1)

void guest_timers_init(struct vcpu *v);                    /* the periodic one is on from the start */
void guest_timers_kill(struct vcpu *v);                    /* before v's memory goes */
void guest_timer_singleshot(struct vcpu *v, ns_t expires); /* of current; a past time fires at once */
void guest_timer_periodic(struct vcpu *v, ns_t period);    /* 0: off. Any vcpu. */
/* Of current: fires when it will have run for so long since it was made, or at once; 0: off. Up to 2^62 ns. */
void guest_timer_virtual(struct vcpu *v, ns_t run_time);
/* By schedule(), interrupts disabled, no lock held; v has a period or a timer in virtual time. */
void guest_timer_switch_in(struct vcpu *v);
void guest_timer_switch_out(struct vcpu *v);

#endif
