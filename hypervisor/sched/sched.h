/*
 * Borrowed Virtual Time (Duda and Cheriton, SOSP 1999). A vcpu has an actual virtual time A that advances by
 * run time / weight, and an effective one E = A - (warped ? warp : 0); the least E runs. A vcpu that wakes gets
 * A = max(A, scheduler virtual time), so sleeping earns nothing. A running vcpu is preempted only when another
 * is behind by more than the context-switch allowance.
 * Locks: each CPU's run queue has one (irq-safe); a vcpu's scheduling state is protected by the lock of v->processor's queue.
 */
#ifndef SCHED_SCHED_H
#define SCHED_SCHED_H

#include "cpu/cpumask.h"
#include "hypercall/abi.h"
#include "lib/list.h"
#include "sched/timer.h"

struct vcpu;
struct domain;

struct sched_vcpu {
    int64_t avt, evt;       /* actual and effective virtual time, in ns at weight BVT_WEIGHT_DEFAULT */
    uint32_t weight;
    bool warped;
    int64_t warp;
    struct list queue;      /* in the run queue of v->processor, sorted by evt; empty if not queued */
    bool running;           /* is or is about to be current on v->processor */
    ns_t run_start;         /* when it was last switched in */
    cpumask_t hard_affinity;
    /* runstate accounting (ABI RUNSTATE_*) */
    int runstate;
    ns_t runstate_entry;
    uint64_t runstate_time[4];
};

void sched_init(void);                 /* run queues, idle vcpus of the boot CPU */
void sched_init_vcpu(struct vcpu *v, unsigned cpu);
void sched_remove_vcpu(struct vcpu *v);
void sched_add_idle(struct vcpu *v);   /* the idle vcpu of cpu v->processor */

/* State changes; each looks after its own locking and may be called from interrupt handlers. */
void vcpu_wake(struct vcpu *v);        /* runnable now: enters the queue; may preempt */
void vcpu_sleep(struct vcpu *v);       /* no longer runnable (state was changed before): leaves the queue; if running, is asked to stop */
void vcpu_sleep_sync(struct vcpu *v);  /* the same and waits until it runs nowhere. Not for current. */
void vcpu_block(void);                 /* current sleeps until an event is pending (SCHEDOP_block): enables upcalls first */
void vcpu_yield(void);
void vcpu_pause(struct vcpu *v);       /* counted; sync unless v is current */
void vcpu_unpause(struct vcpu *v);
void domain_pause(struct domain *d);   /* all its vcpus; not for current's own domain: use domain_pause_nosync */
void domain_pause_nosync(struct domain *d);
void domain_unpause(struct domain *d);

void schedule(void);                   /* SOFTIRQ_SCHEDULE: picks and switches; does not return when it switches stacks' owner */
/* Implemented in domain/switch.c: saves prev's state, loads next's, and leaves for next's guest or idle loop. */
void context_switch(struct vcpu *prev, struct vcpu *next);
void vcpu_get_runstate(struct vcpu *v, struct vcpu_runstate_info *out);
void sched_key_report(void);           /* debug key: run queues */

#endif
