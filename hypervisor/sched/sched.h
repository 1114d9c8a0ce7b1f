/*
 * Borrowed Virtual Time (Duda and Cheriton, SOSP 1999). A vcpu has an actual virtual time A that advances by
 * run time / weight, and an effective one E = A - (warped ? warp : 0); the least E runs. A vcpu that wakes gets
 * A = max(A, scheduler virtual time), so sleeping earns nothing. A running vcpu is preempted only when another
 * is behind by more than the context-switch allowance; then one that woke comes first (bvt_wake), so that it waits for two
 * allowances at most if it has not used up its share. The arithmetic is in sched/bvt.c.
 *
 * Each CPU has a queue, a balanced tree. A vcpu that can run is current on its CPU or in that CPU's queue. A waking vcpu
 * goes to an idle CPU if there is one that its affinity allows, best one that it likes (soft affinity); a CPU that runs
 * out of work pulls from the others. Busy CPUs balance: the virtual times of all queues lie on a common scale (bvt_meet),
 * and a CPU with waiting vcpus gives the furthest behind, every 10 ms at most, to a CPU whose running vcpu is ahead of it
 * by a few allowances, unless it likes it better here. So always-busy vcpus get shares by weight on all CPUs together.
 * Where a vcpu may run is decided in sched/pool.c (affinity, CPU pools, CPUs off line): here only 'allowed' counts.
 * A vcpu whose 'running' is set is, or still has its registers, on v->processor: no other CPU may take it.
 *
 * Locks: each CPU's run queue has one (irq-safe); a vcpu's scheduling state is protected by the lock of v->processor's
 * queue. A second queue's lock is only ever tried for, never waited for, while one is held.
 */
#ifndef SCHED_SCHED_H
#define SCHED_SCHED_H

#include "cpu/cpumask.h"
#include "hypercall/abi.h"
#include "sched/timer.h"

struct vcpu;
struct domain;

struct sched_vcpu {
    int64_t avt, evt; /* actual and effective virtual time, in ns at weight BVT_WEIGHT_DEFAULT */
    int64_t early;    /* by how much evt is less because it woke and has not run since */
    uint32_t weight;
    uint32_t avt_remainder; /* of the last division, below weight */
    bool warped;
    bool warp_enabled;
    int64_t warp;
    ns_t warp_limit, unwarp_requirement; /* 0: none */
    ns_t warp_used, unwarped_at;         /* of the present warp; when it last ran warped */
    bool queued; /* is in the run queue of v->processor; the next three lines are the queue's own (bvt.c) */
    struct sched_vcpu *left, *right;
    struct sched_vcpu *least; /* of this one and all below it */
    uint32_t rank, ticket;
    volatile bool running; /* is, is about to be, or just was current on v->processor: its state is not all in memory */
    bool yielding;         /* lets another run first, once */
    bool given;            /* was given to its CPU by another and has not run since: stays there until it has */
    ns_t run_start;        /* when it was last switched in or charged */
    cpumask_t hard_affinity; /* as the tools set it */
    cpumask_t allowed;       /* where it may run: sched/pool.h */
    cpumask_t soft_affinity; /* where it had rather be, of the former */
    struct timer poll_timer; /* SCHEDOP_poll's timeout */
    /* runstate accounting (ABI RUNSTATE_*) */
    int runstate;
    ns_t runstate_entry;
    uint64_t runstate_time[4];
};

void sched_init(void);                              /* run queues, the softirq; before the first vcpu */
void sched_init_vcpu(struct vcpu *v, unsigned cpu); /* v is zeroed but for id, domain, is_idle, and 'down' if it is */
/* Leaves the queue for good and stops the vcpu's timers. v runs nowhere (vcpu_sleep_sync) and cannot be woken. */
void sched_remove_vcpu(struct vcpu *v);
void sched_remove_domain(struct domain *d); /* stops the watchdogs */
/* The idle vcpu of cpu v->processor; it is taken to run there. Others come when the CPU is in a pool (sched/pool.h). */
void sched_add_idle(struct vcpu *v);

/* State changes; each looks after its own locking and may be called from interrupt handlers. */
void vcpu_wake(struct vcpu *v); /* runnable now: enters the queue; may preempt */
/* No longer runnable (state was changed before): leaves the queue; if running, is asked to stop. */
void vcpu_sleep(struct vcpu *v);
/* The same and waits until it runs nowhere. Not for current; interrupts enabled (no interrupt handlers here). */
void vcpu_sleep_sync(struct vcpu *v);
void vcpu_unblock(struct vcpu *v); /* ends SCHEDOP_block and SCHEDOP_poll */
void vcpu_kick(struct vcpu *v);    /* vcpu_unblock, and makes it look for events if it runs on another CPU */
void vcpu_block(void);             /* current sleeps until an event is pending (SCHEDOP_block): enables upcalls first */
/* current sleeps until one of the ports is pending, an event is deliverable, or real time is 'timeout' (0: none). */
void vcpu_poll(const uint32_t *ports, unsigned count, ns_t timeout);
void vcpu_yield(void);
void vcpu_pause(struct vcpu *v); /* counted; sync unless v is current */
void vcpu_unpause(struct vcpu *v);
void domain_pause(struct domain *d); /* all its vcpus; not for current's own domain: use domain_pause_nosync */
void domain_pause_nosync(struct domain *d);
void domain_unpause(struct domain *d);

/* For the management calls; hard affinity is set by vcpu_set_affinity of sched/pool.h. -EINVAL: weight out of range. */
void vcpu_set_soft_affinity(struct vcpu *v, const cpumask_t *mask);
int vcpu_set_weight(struct vcpu *v, uint32_t weight);
void vcpu_set_warp(struct vcpu *v, int64_t warp, ns_t limit, ns_t unwarp); /* as bvt_set_warp */
struct bvt_parameters {
    uint32_t weight;
    bool warped; /* now */
    int64_t warp;
    ns_t warp_limit, unwarp_requirement;
};
void vcpu_get_parameters(struct vcpu *v, struct bvt_parameters *out);

/* For sched/pool.c: */
/* v may run on the CPUs of 'allowed' only, which is not empty and in 'hard'; where it may not stay it leaves, soon. */
void sched_place(struct vcpu *v, const cpumask_t *hard, const cpumask_t *allowed);
void sched_set_pool(unsigned cpu, uint32_t pool);         /* CPUs of other pools are not balanced with */
const char *sched_audit_vcpu(struct vcpu *v, bool still); /* as pool_audit: what is wrong about v's place, or null */

/* A CPU goes off line: it is no vcpu's any more to run on. Has its last one left it? */
bool sched_cpu_empty(unsigned cpu);
/* On that CPU then, in its idle loop: nothing runs here until sched_add_idle. */
void sched_retire_idle(void);

/* SOFTIRQ_SCHEDULE: picks and switches; does not return when it switches stacks' owner. Interrupts enabled on entry. */
void schedule(void);
/*
 * Implemented in domain/switch.c: saves prev's state, loads next's, and leaves for next's guest or idle loop. Called with
 * interrupts disabled and no lock held; prev != next; next->sched.running is set. It must call sched_switch_done(prev)
 * once prev's registers are saved, and time_switch_in(next) at its end.
 */
void context_switch(struct vcpu *prev, struct vcpu *next);
/* prev's state is in memory: another CPU may run it. Interrupts disabled. */
void sched_switch_done(struct vcpu *prev);
void vcpu_get_runstate(struct vcpu *v, struct vcpu_runstate_info *out);
ns_t sched_idle_time(unsigned cpu); /* for how long an online CPU has run no guest */
/* What a CPU counts since boot or the last reset */
struct sched_counters {
    uint64_t switches, preemptions, pulls;
};
struct sched_counters sched_counters(unsigned cpu);
void sched_counters_reset(void);
void sched_key_report(void); /* debug key: run queues */

#endif
