/*
 * The scheduler: run queues, and the states of vcpus. sched/sched.h tells the rules, sched/bvt.c has the arithmetic.
 */
#include "sched/sched.h"

#include "boot/options.h"
#include "cpu/smp.h"
#include "cpu/softirq.h"
#include "cpu/trace.h"
#include "domain/domain.h"
#include "lib/log.h"
#include "lib/string.h"
#include "sched/bvt.h"
#include "sched/guest_timer.h"
#include "sched/pool.h"
#include "sched/time.h"

struct run_queue {
    spinlock_t lock;
    struct bvt_queue bvt;
    struct vcpu *on_cpu; /* who runs on the CPU, or is being switched to; never in the queue */
    struct vcpu *idle;
    struct timer slice;    /* fires when it is ahead of the first in the queue by the allowance */
    uint32_t pool;         /* the CPU's, a hint without the lock: sched/pool.h */
    bool called;           /* while it was idle, to pull something */
    ns_t balance_due;      /* when to look again whether another CPU should take something from here */
    unsigned balance_next; /* with whom to begin then */
    /* Where on_cpu was on the common scale of virtual time, and when: a hint, for other CPUs to read without the lock. */
    int64_t front;
    ns_t front_since;
    uint32_t front_weight;
    struct sched_counters counters;
} __aligned(64);

static struct run_queue run_queues[NR_CPUS];

/* CPUs that run their idle vcpu and were not given something to do since. A CPU sets its bit before it looks at the other
 * queues for the last time; who puts something into a queue looks at the bits afterwards: one of the two sees the other. */
static cpumask_t idle_cpus;

static ns_t allowance(void) { return MICROSECS(options.sched_allowance_us); }

/*
 * Busy CPUs balance: who waits on one is given to another whose running vcpu is ahead of it by a few allowances. More than
 * one, because the virtual times of two CPUs that share the work well are up to an allowance apart at any moment.
 */
#define BALANCE_PERIOD MILLISECS(10)
static ns_t balance_allowance(void) { return 3 * max(allowance(), MILLISECS(1)); }
static ns_t balance_lag(void) { return 3 * balance_allowance() + 2 * BALANCE_PERIOD; }

static struct vcpu *vcpu_of(struct sched_vcpu *s) { return container_of(s, struct vcpu, sched); }

/* Locks the queue that v belongs to; interrupts are disabled. */
static struct run_queue *queue_lock(struct vcpu *v)
{
    for (;;) {
        uint32_t cpu = READ_ONCE(v->processor);

        spin_lock(&run_queues[cpu].lock);
        if (likely(v->processor == cpu))
            return &run_queues[cpu];
        spin_unlock(&run_queues[cpu].lock);
    }
}

/* Records for cpu/trace.h: out of line, so that they cost the others a look at trace_on only. */
static __attribute__((noinline)) void trace_vcpu(uint32_t event, const struct vcpu *v)
{
    TRACE(event, v->domain->id, v->id);
}

static __attribute__((noinline)) void trace_runstate(const struct vcpu *v, int state)
{
    TRACE(TRC_SCHED_RUNSTATE_CHANGE | v->sched.runstate << 8 | state << 4, (uint32_t)v->domain->id << 16 | v->id);
}

static __attribute__((noinline)) void trace_switch(const struct vcpu *prev, const struct vcpu *next, ns_t t)
{
    const struct sched_vcpu *n = &next->sched;
    ns_t waited = n->runstate == RUNSTATE_runnable ? t - n->runstate_entry : 0;
    uint32_t p_id = prev->domain->id, n_id = next->domain->id;

    TRACE(TRC_SCHED_SWITCH_INFPREV, p_id, prev->id, (uint32_t)(t - prev->sched.runstate_entry));
    TRACE(TRC_SCHED_SWITCH_INFNEXT, n_id, next->id, (uint32_t)waited, 0);
    TRACE(TRC_SCHED_SWITCH, p_id, prev->id, n_id, next->id);
}

static void set_runstate(struct vcpu *v, int state, ns_t t)
{
    struct sched_vcpu *s = &v->sched;

    if (unlikely(trace_on))
        trace_runstate(v, state);
    s->runstate_time[s->runstate] += t - s->runstate_entry;
    s->runstate = state;
    s->runstate_entry = t;
}

/* The runstate of a vcpu that does not run. */
static void set_runstate_waiting(struct vcpu *v, ns_t t)
{
    int state = v->blocked ? RUNSTATE_blocked : vcpu_runnable(v) ? RUNSTATE_runnable : RUNSTATE_offline;

    if (v->sched.runstate != state)
        set_runstate(v, state, t);
}

/* An idle CPU that v may use, claimed: nobody else gets it. NR_CPUS if there is none. */
static unsigned claim_idle_cpu(const struct vcpu *v)
{
    unsigned cpu;

    for_each_cpu (cpu, &idle_cpus)
        if (cpumask_test(cpu, &v->sched.soft_affinity) && cpumask_test(cpu, &v->sched.allowed) &&
            cpumask_test(cpu, &cpu_online) && test_and_clear_bit(cpu, idle_cpus.bits))
            return cpu;
    for_each_cpu (cpu, &idle_cpus)
        if (cpumask_test(cpu, &v->sched.allowed) && cpumask_test(cpu, &cpu_online) &&
            test_and_clear_bit(cpu, idle_cpus.bits))
            return cpu;
    return NR_CPUS;
}

/* v waits in a queue: an idle CPU shall pull it. */
static void call_idle_cpu(const struct vcpu *v)
{
    unsigned cpu;

    smp_mb(); /* the queue is seen before idle_cpus is looked at */
    cpu = claim_idle_cpu(v);
    if (cpu < NR_CPUS) {
        WRITE_ONCE(run_queues[cpu].called, true);
        softirq_raise_on(cpu, SOFTIRQ_SCHEDULE);
    }
}

/* The same for all that wait in a locked queue, after one of them was given the CPU. */
static __attribute__((noinline)) void call_idle_cpus(struct run_queue *rq)
{
    struct sched_vcpu *s;

    if (cpumask_empty(&idle_cpus))
        return;
    bvt_for_each(s, &rq->bvt) if (!s->running) /* else sched_switch_done calls */
        call_idle_cpu(vcpu_of(s));
}

/* Where a vcpu that wakes shall run. Its queue is locked. */
static unsigned choose_cpu(const struct vcpu *v)
{
    bool allowed = cpumask_test(v->processor, &v->sched.allowed);
    unsigned cpu;

    if (allowed && cpumask_test(v->processor, &v->sched.soft_affinity) && test_bit(v->processor, idle_cpus.bits) &&
        test_and_clear_bit(v->processor, idle_cpus.bits))
        return v->processor;
    cpu = claim_idle_cpu(v);
    if (cpu < NR_CPUS || allowed)
        return cpu < NR_CPUS ? cpu : v->processor;
    for_each_cpu (cpu, &cpu_online)
        if (cpumask_test(cpu, &v->sched.allowed))
            return cpu;
    return v->processor; /* sched/pool.c does not let this happen */
}

static bool is_idle(const struct run_queue *rq) { return rq->on_cpu == rq->idle; }

/* Charges who runs, which brings the queue's virtual time up to date. */
static inline void catch_up(struct run_queue *rq, ns_t t)
{
    struct sched_vcpu *s = &rq->on_cpu->sched;

    if (is_idle(rq) || (int64_t)(t - s->run_start) <= 0) /* t may be from before this queue was locked */
        return;
    bvt_charge(s, t - s->run_start, t);
    s->run_start = t;
    bvt_update_svt(&rq->bvt, s);
}

static void publish_front(struct run_queue *rq)
{
    WRITE_ONCE(rq->front, rq->on_cpu->sched.evt + rq->bvt.offset);
    WRITE_ONCE(rq->front_since, rq->on_cpu->sched.run_start);
    WRITE_ONCE(rq->front_weight, rq->on_cpu->sched.weight);
}

/* v, in no queue and not running, goes from one locked queue to the other. */
static __attribute__((noinline)) void move(struct vcpu *v, struct run_queue *from, struct run_queue *to, ns_t t)
{
    catch_up(from, t);
    catch_up(to, t);
    if (is_idle(from) && !from->bvt.count) {
        bvt_level(&from->bvt, &to->bvt);
        from->bvt.fresh = true;
    } else {
        bvt_meet(&from->bvt, &to->bvt, balance_lag());
    }
    bvt_migrate(&v->sched, &from->bvt, &to->bvt);
    WRITE_ONCE(v->processor, (uint32_t)(to - run_queues));
}

/* The same if nobody else is on 'to' who wants to run. */
static __attribute__((noinline)) void move_to_empty(struct vcpu *v, struct run_queue *from, struct run_queue *to,
                                                    ns_t t)
{
    catch_up(from, t);
    bvt_level(&to->bvt, &from->bvt);
    to->bvt.fresh |= is_idle(from);
    bvt_migrate(&v->sched, &from->bvt, &to->bvt);
    WRITE_ONCE(v->processor, (uint32_t)(to - run_queues));
}

/* How long next may run from now, when 'first' waits before others. */
static ns_t turn(const struct run_queue *rq, const struct sched_vcpu *next, int64_t evt, const struct sched_vcpu *first)
{
    ns_t slice = bvt_slice(next, evt, bvt_due(&rq->bvt, first), allowance());

    return cpumask_next(1, &cpu_online) < NR_CPUS ? min(slice, BALANCE_PERIOD) : slice;
}

/* v was put into the locked queue of 'cpu': does the one that runs there have to go, at once or later? */
static void check_preemption(struct run_queue *rq, unsigned cpu, struct vcpu *v, ns_t t)
{
    struct vcpu *running = rq->on_cpu;
    int64_t evt;

    if (running == rq->idle) {
        cpumask_clear(cpu, &idle_cpus);
        softirq_raise_on(cpu, SOFTIRQ_SCHEDULE);
        return;
    }
    if (bvt_first(&rq->bvt) != &v->sched)
        return;
    evt = bvt_evt_after(&running->sched, t - running->sched.run_start);
    if (bvt_should_preempt(&running->sched, evt, bvt_due(&rq->bvt, &v->sched), allowance()))
        softirq_raise_on(cpu, SOFTIRQ_SCHEDULE);
    else
        timer_set(&rq->slice, t + turn(rq, &running->sched, evt, &v->sched));
}

void vcpu_wake(struct vcpu *v)
{
    unsigned long flags = irq_save();
    struct run_queue *rq, *to;
    ns_t t;

    for (;;) {
        rq = to = queue_lock(v);
        t = now();
        if (!vcpu_runnable(v) || v->sched.queued || rq->on_cpu == v) {
            if (!v->sched.queued && rq->on_cpu != v)
                set_runstate_waiting(v, t);
            spin_unlock_irqrestore(&rq->lock, flags);
            return;
        }
        if (v->sched.running) /* still being switched out of here: sched_switch_done sees to the rest */
            break;
        to = &run_queues[choose_cpu(v)];
        if (to == rq) {
            if (is_idle(rq) && !rq->bvt.count)
                rq->bvt.fresh = true;
            break;
        }
        if (spin_trylock(&to->lock)) {
            t = now(); /* not before anybody ran there */
            if (is_idle(to) && !to->bvt.count)
                move_to_empty(v, rq, to, t);
            else
                move(v, rq, to, t);
            spin_unlock(&rq->lock);
            break;
        }
        if (READ_ONCE(to->on_cpu) == to->idle)
            cpumask_set(to - run_queues, &idle_cpus); /* gives the claim back */
        if (cpumask_test(v->processor, &v->sched.allowed)) {
            to = rq; /* from where call_idle_cpu will have it pulled */
            break;
        }
        spin_unlock(&rq->lock);
        cpu_relax();
    }
    rq = to;
    set_runstate_waiting(v, t);
    catch_up(rq, t);
    bvt_wake(&rq->bvt, &v->sched, t, allowance());
    bvt_enqueue(&rq->bvt, &v->sched);
    check_preemption(rq, v->processor, v, t);
    if (!is_idle(rq))
        call_idle_cpu(v);
    if (unlikely(trace_on))
        trace_vcpu(TRC_SCHED_WAKE, v);
    spin_unlock_irqrestore(&rq->lock, flags);
}

void vcpu_sleep(struct vcpu *v)
{
    unsigned long flags = irq_save();
    struct run_queue *rq = queue_lock(v);

    if (!vcpu_runnable(v)) {
        if (v->sched.queued)
            bvt_dequeue(&rq->bvt, &v->sched);
        if (rq->on_cpu == v)
            softirq_raise_on(v->processor, SOFTIRQ_SCHEDULE);
        else
            set_runstate_waiting(v, now());
        if (unlikely(trace_on))
            trace_vcpu(TRC_SCHED_SLEEP, v);
    }
    spin_unlock_irqrestore(&rq->lock, flags);
}

void vcpu_sleep_sync(struct vcpu *v)
{
    vcpu_sleep(v);
    while (v->sched.running && !vcpu_runnable(v))
        cpu_relax();
}

void vcpu_unblock(struct vcpu *v)
{
    unsigned long *pollers = v->domain->event.pollers;

    if (!v->blocked)
        return;
    /* Before the exchange: after it v may poll anew, and that is no longer ours to end. vcpu_poll does it the other way round. */
    if (test_bit(v->id, pollers))
        clear_bit(v->id, pollers);
    if (__atomic_exchange_n(&v->blocked, false, __ATOMIC_SEQ_CST))
        vcpu_wake(v);
}

void vcpu_kick(struct vcpu *v)
{
    vcpu_unblock(v);
    if (v->sched.running && v->processor != cpu_id())
        smp_send_wake(v->processor);
}

void vcpu_block(void)
{
    struct vcpu *v = current;

    v->info->evtchn_upcall_mask = 0;
    v->blocked = true;
    smp_mb(); /* who sends an event sets it pending and then looks at blocked */
    if (vcpu_event_deliverable(v) || v->pv.nmi_pending) {
        vcpu_unblock(v);
        return;
    }
    if (unlikely(trace_on))
        trace_vcpu(TRC_SCHED_BLOCK, v);
    softirq_raise(SOFTIRQ_SCHEDULE);
}

static void poll_timeout(void *arg)
{
    struct vcpu *v = arg;

    if (test_bit(v->id, v->domain->event.pollers))
        vcpu_unblock(v);
}

void vcpu_poll(const uint32_t *ports, unsigned count, ns_t timeout)
{
    struct vcpu *v = current;
    struct domain *d = v->domain;
    bool pending;

    timer_stop(&v->sched.poll_timer);
    v->event.poll_port = count == 1 ? ports[0] : EVENT_POLL_ANY;
    v->blocked = true;
    set_bit(v->id, d->event.pollers); /* a full barrier; who makes a port pending looks at pollers afterwards */
    pending = vcpu_event_deliverable(v);
    for (unsigned i = 0; i < count && !pending; i++)
        pending = event_port_pending(d, ports[i]);
    if (pending) {
        vcpu_unblock(v);
        return;
    }
    if (timeout) {
        if (v->sched.poll_timer.cpu != cpu_id())
            timer_migrate(&v->sched.poll_timer, cpu_id());
        timer_set(&v->sched.poll_timer, timeout);
    }
    if (unlikely(trace_on))
        trace_vcpu(TRC_SCHED_BLOCK, v);
    softirq_raise(SOFTIRQ_SCHEDULE);
}

void vcpu_yield(void)
{
    current->sched.yielding = true;
    softirq_raise(SOFTIRQ_SCHEDULE);
    if (unlikely(trace_on))
        trace_vcpu(TRC_SCHED_YIELD, current);
}

void vcpu_pause(struct vcpu *v)
{
    __atomic_fetch_add(&v->pause_count, 1, __ATOMIC_SEQ_CST);
    if (v == current)
        vcpu_sleep(v);
    else
        vcpu_sleep_sync(v);
}

void vcpu_unpause(struct vcpu *v)
{
    if (__atomic_fetch_sub(&v->pause_count, 1, __ATOMIC_SEQ_CST) == 1)
        vcpu_wake(v);
}

void domain_pause_nosync(struct domain *d)
{
    struct vcpu *v;

    __atomic_fetch_add(&d->pause_count, 1, __ATOMIC_SEQ_CST);
    for_each_vcpu (d, v)
        vcpu_sleep(v);
}

void domain_pause(struct domain *d)
{
    struct vcpu *v;

    domain_pause_nosync(d);
    for_each_vcpu (d, v)
        vcpu_sleep_sync(v);
}

void domain_unpause(struct domain *d)
{
    struct vcpu *v;

    if (__atomic_fetch_sub(&d->pause_count, 1, __ATOMIC_SEQ_CST) != 1)
        return;
    for_each_vcpu (d, v)
        vcpu_wake(v);
}

/* Who shall go from a locked queue to an idle CPU: the first who may, if possible one who likes it there. */
static struct vcpu *whom_to_pull(struct run_queue *from, unsigned cpu)
{
    struct sched_vcpu *s, *found = NULL;

    bvt_for_each(s, &from->bvt)
    {
        if (s->running || !cpumask_test(cpu, &s->allowed))
            continue;
        if (cpumask_test(cpu, &s->soft_affinity))
            return vcpu_of(s);
        found = found ? found : s;
    }
    return found ? vcpu_of(found) : NULL;
}

/* Takes something that may run on 'cpu' out of another queue; null if there is nothing. rq, the CPU's own, is locked. */
static __attribute__((noinline)) struct vcpu *pull(struct run_queue *rq, unsigned cpu, ns_t t)
{
    for (unsigned i = 1; i < NR_CPUS; i++) {
        unsigned other = (cpu + i) % NR_CPUS;
        struct run_queue *from = &run_queues[other];
        struct vcpu *found;

        if (!READ_ONCE(from->bvt.count))
            continue;
        /* Busy: whoever leaves something in that queue calls the idle CPUs afterwards, and this one is marked idle already. */
        if (!spin_trylock(&from->lock))
            continue;
        found = whom_to_pull(from, cpu);
        if (found) {
            bvt_dequeue(&from->bvt, &found->sched);
            if (rq->bvt.count)
                move(found, from, rq, t);
            else
                move_to_empty(found, from, rq, t);
            rq->counters.pulls++;
        }
        spin_unlock(&from->lock);
        if (found)
            return found;
    }
    return NULL;
}

/* Is it worth while to lock the queue of a busy CPU, to give it something of rq's or to put the two's times in order? */
static bool worth_meeting(const struct run_queue *rq, const struct run_queue *to, ns_t t)
{
    uint32_t weight = READ_ONCE(to->front_weight);
    int64_t ran = (int64_t)(t - READ_ONCE(to->front_since)), front;

    if (!weight || ran < 0 || READ_ONCE(to->bvt.fresh) || rq->bvt.fresh)
        return true;
    front = READ_ONCE(to->front) + bvt_virtual((ns_t)ran, weight) - rq->bvt.offset;
    return front - bvt_due(&rq->bvt, bvt_first(&rq->bvt)) >= bvt_virtual(balance_allowance(), weight) ||
           rq->bvt.svt - front > 2 * bvt_virtual(balance_lag(), rq->bvt.svt_weight);
}

/* Gives one who waits in rq to the busy CPU 'to', if who runs there is ahead of it. Both are locked, rq is caught up. */
static bool give(struct run_queue *rq, struct run_queue *to, ns_t t)
{
    unsigned here = rq - run_queues, there = to - run_queues;
    struct sched_vcpu *running = &to->on_cpu->sched, *s;
    int64_t evt;

    catch_up(to, t);
    bvt_meet(&rq->bvt, &to->bvt, balance_lag());
    publish_front(rq);
    publish_front(to);
    evt = running->evt + to->bvt.offset - rq->bvt.offset;
    bvt_for_each(s, &rq->bvt)
    {
        if (!bvt_should_preempt(running, evt, s->evt + s->early, balance_allowance())) {
            if (s->early)
                continue; /* others behind it may be further behind in truth */
            return false;
        }
        /*
         * Who was given must run before it is given again: two CPUs that are slow to come to their queues (a busy host runs them in
         * turns) would hand it back and forth for ever. And fairness is no reason to leave the CPUs that it likes.
         */
        if (s->running || s->given || !cpumask_test(there, &s->allowed) ||
            (cpumask_test(here, &s->soft_affinity) && !cpumask_test(there, &s->soft_affinity)))
            continue;
        bvt_dequeue(&rq->bvt, s);
        bvt_migrate(s, &rq->bvt, &to->bvt);
        s->given = true;
        WRITE_ONCE(vcpu_of(s)->processor, there);
        bvt_enqueue(&to->bvt, s);
        to->counters.pulls++;
        check_preemption(to, there, vcpu_of(s), t);
        return true;
    }
    return false;
}

/* Some wait in rq, locked, while all CPUs that they may use are busy: gives one of them away if that is fairer. */
static __attribute__((noinline)) void balance(struct run_queue *rq, unsigned cpu, ns_t t)
{
    rq->balance_due = t + BALANCE_PERIOD;
    for (unsigned i = 0; i < NR_CPUS; i++) {
        unsigned other = (rq->balance_next + i) % NR_CPUS;
        struct run_queue *to = &run_queues[other];
        bool given;

        if (other == cpu || READ_ONCE(to->pool) != READ_ONCE(rq->pool) || !cpumask_test(other, &cpu_online) ||
            cpumask_test(other, &idle_cpus) || !worth_meeting(rq, to, t) || !spin_trylock(&to->lock))
            continue;
        given = !is_idle(to) && give(rq, to, now());
        spin_unlock(&to->lock);
        if (given) {
            rq->balance_next = other + 1;
            return;
        }
    }
}

/* This CPU was called to pull something, but may have found other work first: the other idle CPUs shall look as well. */
static __attribute__((noinline)) void pass_call_on(void)
{
    unsigned cpu;

    for_each_cpu (cpu, &idle_cpus)
        softirq_raise_on(cpu, SOFTIRQ_SCHEDULE);
}

/* The first in the queue that may run here: one that may not waits for a CPU that it may use. */
static struct vcpu *first_allowed(struct run_queue *rq, unsigned cpu)
{
    struct sched_vcpu *s;

    bvt_for_each(s, &rq->bvt) if (cpumask_test(cpu, &s->allowed)) return vcpu_of(s);
    return NULL;
}

/* Who runs next; taken out of the queue. prev was charged, is in no queue, and wants to go on or not; rq is locked. */
static struct vcpu *pick(struct run_queue *rq, unsigned cpu, struct vcpu *prev, bool wants, ns_t t)
{
    bool keep = wants && cpumask_test(cpu, &prev->sched.allowed);
    struct vcpu *first = rq->bvt.count ? first_allowed(rq, cpu) : NULL;

    if (first) {
        if (keep && !prev->sched.yielding &&
            !bvt_should_preempt(&prev->sched, prev->sched.evt, bvt_due(&rq->bvt, &first->sched), allowance()))
            return prev;
        bvt_dequeue(&rq->bvt, &first->sched);
        return first;
    }
    if (keep)
        return prev;
    cpumask_set(cpu, &idle_cpus); /* before the last look around */
    first = pull(rq, cpu, t);
    if (first) {
        cpumask_clear(cpu, &idle_cpus);
        return first;
    }
    return rq->idle;
}

/* The timer that ends next's turn; none if nobody waits. */
static void set_slice(struct run_queue *rq, struct vcpu *next, ns_t t)
{
    if (rq->bvt.count && next != rq->idle)
        timer_set(&rq->slice, t + turn(rq, &next->sched, next->sched.evt, bvt_first(&rq->bvt)));
    else if (timer_armed(&rq->slice))
        timer_stop(&rq->slice);
}

static bool has_timers_while_running(const struct vcpu *v) { return v->periodic_period | v->virtual_at; }

void schedule(void)
{
    unsigned long flags = irq_save();
    unsigned cpu = cpu_id();
    struct run_queue *rq = &run_queues[cpu];
    struct vcpu *prev, *next;
    bool wants;
    ns_t t;

    spin_lock(&rq->lock);
    prev = rq->on_cpu;
    t = now();
    catch_up(rq, t); /* even if prev sleeps now: it was in the race until now */
    wants = prev != rq->idle && vcpu_runnable(prev);
    if (rq->bvt.count > !wants && t >= rq->balance_due)
        balance(rq, cpu, t); /* before a choice is made: who has just been taken off this CPU cannot leave it yet */
    next = pick(rq, cpu, prev, wants, t);
    prev->sched.yielding = false;
    if (next != prev) {
        if (wants) {
            bvt_enqueue(&rq->bvt, &prev->sched);
            rq->counters.preemptions++;
        }
        if (unlikely(trace_on))
            trace_switch(prev, next, t);
        WRITE_ONCE(rq->on_cpu, next);
        rq->counters.switches++;
        next->sched.running = true;
        next->sched.given = false;
        next->sched.run_start = t;
        if (next->sched.early)
            bvt_start(&next->sched);
        if (wants || prev == rq->idle)
            set_runstate(prev, RUNSTATE_runnable, t);
        else
            set_runstate_waiting(prev, t);
        set_runstate(next, RUNSTATE_running, t);
    }
    set_slice(rq, next, t);
    if (next != prev || next->sched.warp_enabled) /* else it goes on as foreseen */
        publish_front(rq);
    if (rq->bvt.count)
        call_idle_cpus(rq);
    if (unlikely(rq->called)) {
        rq->called = false;
        if (next != rq->idle)
            pass_call_on();
    }
    spin_unlock(&rq->lock);

    /* From here 'running' is seen before next's pending events are looked at (vcpu_kick does it the other way round). */
    smp_mb();
    if (next != prev && has_timers_while_running(prev))
        guest_timer_switch_out(prev);
    if (has_timers_while_running(next))
        guest_timer_switch_in(next);
    if (next != prev)
        context_switch(prev, next);
    irq_restore(flags);
}

void sched_switch_done(struct vcpu *prev)
{
    struct run_queue *rq = &run_queues[cpu_id()];
    struct domain *d;
    bool allowed, held;

    if (prev->is_idle) {
        prev->sched.running = false;
        return;
    }
    spin_lock(&rq->lock); /* keeps prev in existence: sched_remove_vcpu waits for it */
    smp_wmb();
    prev->sched.running = false;
    if (!prev->sched.queued) {
        spin_unlock(&rq->lock);
        return;
    }
    allowed = cpumask_test(cpu_id(), &prev->sched.allowed);
    if (allowed) {
        call_idle_cpu(prev);
        spin_unlock(&rq->lock);
        return;
    }
    /* It may no longer run here: as if it slept and woke, it finds itself a place. */
    d = prev->domain;
    held = domain_get(d); /* it is there as long as the lock is held; its end may come between that and the wake-up */
    bvt_dequeue(&rq->bvt, &prev->sched);
    spin_unlock(&rq->lock);
    if (held) {
        vcpu_wake(prev);
        domain_put(d);
    }
}

/* v, which sleeps, leaves a CPU where it may not run: its processor is one that is there, for who asks. */
static void rehome(struct vcpu *v)
{
    unsigned long flags = irq_save();

    for (;;) {
        struct run_queue *rq = queue_lock(v), *to = &run_queues[cpumask_next(0, &v->sched.allowed)];
        bool stays =
            v->sched.queued || v->sched.running || rq->on_cpu == v || cpumask_test(v->processor, &v->sched.allowed);
        bool locked = !stays && spin_trylock(&to->lock);

        if (locked) {
            ns_t t = now();

            if (is_idle(to) && !to->bvt.count)
                move_to_empty(v, rq, to, t);
            else
                move(v, rq, to, t);
            spin_unlock(&to->lock);
        }
        spin_unlock(&rq->lock);
        if (stays || locked)
            break;
        cpu_relax();
    }
    irq_restore(flags);
}

void sched_place(struct vcpu *v, const cpumask_t *hard, const cpumask_t *allowed)
{
    unsigned long flags = irq_save();
    struct run_queue *rq = queue_lock(v);
    bool wake = false;

    v->sched.hard_affinity = *hard;
    v->sched.allowed = *allowed;
    if (!cpumask_test(v->processor, allowed)) {
        if (rq->on_cpu == v) {
            softirq_raise_on(v->processor, SOFTIRQ_SCHEDULE);
        } else if (v->sched.queued && !v->sched.running) { /* else sched_switch_done sees to it */
            bvt_dequeue(&rq->bvt, &v->sched);
            wake = true;
        }
    } else if (v->sched.queued) {
        call_idle_cpu(v); /* one that it may use only now */
    }
    spin_unlock_irqrestore(&rq->lock, flags);
    if (wake)
        vcpu_wake(v);
    else
        rehome(v);
}

void vcpu_set_soft_affinity(struct vcpu *v, const cpumask_t *mask)
{
    unsigned long flags = irq_save();
    struct run_queue *rq = queue_lock(v);

    v->sched.soft_affinity = *mask;
    spin_unlock_irqrestore(&rq->lock, flags);
}

void sched_set_pool(unsigned cpu, uint32_t pool) { WRITE_ONCE(run_queues[cpu].pool, pool); }

bool sched_cpu_empty(unsigned cpu)
{
    struct run_queue *rq = &run_queues[cpu];
    unsigned long flags = spin_lock_irqsave(&rq->lock);
    bool empty = is_idle(rq) && !rq->bvt.count;

    spin_unlock_irqrestore(&rq->lock, flags);
    return empty;
}

void sched_retire_idle(void)
{
    struct run_queue *rq = &run_queues[cpu_id()];
    unsigned long flags = spin_lock_irqsave(&rq->lock);

    BUG_ON(!is_idle(rq) || rq->bvt.count);
    cpumask_clear(cpu_id(), &idle_cpus);
    rq->called = false;
    set_runstate(rq->idle, RUNSTATE_offline, now());
    spin_unlock_irqrestore(&rq->lock, flags);
}

/* What is wrong about where v is, or null. 'still': nothing happens elsewhere, so nobody is on his way. */
static const char *misplaced(const struct vcpu *v, const struct run_queue *rq, bool still)
{
    const struct sched_vcpu *s = &v->sched;
    bool allowed = cpumask_test(v->processor, &s->allowed), on_cpu = rq->on_cpu == v;

    if (s->queued && on_cpu)
        return "runs and waits";
    if (s->queued && !allowed && !s->running)
        return "waits where it may not run";
    if (!cpumask_test(v->processor, &cpu_online) && (s->queued || s->running || on_cpu))
        return "is on a CPU that is off line";
    if (!still)
        return NULL;
    if (vcpu_runnable(v) != (s->queued || on_cpu))
        return vcpu_runnable(v) ? "is lost" : "runs, but should sleep";
    if (on_cpu && !allowed)
        return "runs where it may not";
    return s->running != on_cpu ? "has its registers nowhere" : NULL;
}

const char *sched_audit_vcpu(struct vcpu *v, bool still)
{
    unsigned long flags = irq_save();
    struct run_queue *rq = queue_lock(v);
    const char *wrong = misplaced(v, rq, still);

    spin_unlock_irqrestore(&rq->lock, flags);
    return wrong;
}

/* Changes a parameter of BVT: out of the queue, then back to its new place. */
static void requeue(struct vcpu *v, void (*change)(struct sched_vcpu *s, void *arg), void *arg)
{
    unsigned long flags = irq_save();
    struct run_queue *rq = queue_lock(v);
    bool was_queued = v->sched.queued;
    ns_t t = now();

    if (was_queued)
        bvt_dequeue(&rq->bvt, &v->sched);
    if (rq->on_cpu == v) {
        bvt_charge(&v->sched, t - v->sched.run_start, t);
        v->sched.run_start = t;
        softirq_raise_on(v->processor, SOFTIRQ_SCHEDULE);
    }
    change(&v->sched, arg);
    if (rq->on_cpu == v)
        publish_front(rq);
    if (was_queued) {
        bvt_enqueue(&rq->bvt, &v->sched);
        check_preemption(rq, v->processor, v, t);
    }
    spin_unlock_irqrestore(&rq->lock, flags);
}

static void change_weight(struct sched_vcpu *s, void *arg) { bvt_set_weight(s, *(uint32_t *)arg); }

int vcpu_set_weight(struct vcpu *v, uint32_t weight)
{
    if (!weight || weight > BVT_WEIGHT_MAX)
        return -EINVAL;
    requeue(v, change_weight, &weight);
    return 0;
}

struct warp_parameters {
    int64_t warp;
    ns_t limit, unwarp;
};

static void change_warp(struct sched_vcpu *s, void *arg)
{
    const struct warp_parameters *p = arg;

    bvt_set_warp(s, p->warp, p->limit, p->unwarp, now());
}

void vcpu_set_warp(struct vcpu *v, int64_t warp, ns_t limit, ns_t unwarp)
{
    struct warp_parameters p = {warp, limit, unwarp};

    requeue(v, change_warp, &p);
}

void vcpu_get_parameters(struct vcpu *v, struct bvt_parameters *out)
{
    unsigned long flags = irq_save();
    struct run_queue *rq = queue_lock(v);
    const struct sched_vcpu *s = &v->sched;

    *out = (struct bvt_parameters){s->weight, s->warped, s->warp, s->warp_limit, s->unwarp_requirement};
    spin_unlock_irqrestore(&rq->lock, flags);
}

void vcpu_get_runstate(struct vcpu *v, struct vcpu_runstate_info *out)
{
    unsigned long flags = irq_save();
    struct run_queue *rq = queue_lock(v);
    const struct sched_vcpu *s = &v->sched;

    memset(out, 0, sizeof(*out));
    out->state = s->runstate;
    out->state_entry_time = s->runstate_entry;
    memcpy(out->time, s->runstate_time, sizeof(out->time));
    out->time[s->runstate] += now() - s->runstate_entry;
    spin_unlock_irqrestore(&rq->lock, flags);
}

ns_t sched_idle_time(unsigned cpu)
{
    struct vcpu_runstate_info r;

    vcpu_get_runstate(run_queues[cpu].idle, &r);
    return r.time[RUNSTATE_running];
}

struct sched_counters sched_counters(unsigned cpu) { return run_queues[cpu].counters; }

void sched_counters_reset(void)
{
    for (unsigned cpu = 0; cpu < NR_CPUS; cpu++)
        run_queues[cpu].counters = (struct sched_counters){0};
}

static void slice_over(void *arg) { softirq_raise(SOFTIRQ_SCHEDULE); }

void sched_init(void)
{
    for (unsigned cpu = 0; cpu < NR_CPUS; cpu++) {
        bvt_queue_init(&run_queues[cpu].bvt);
        run_queues[cpu].pool = POOL_NONE;
        timer_init(&run_queues[cpu].slice, slice_over, NULL, cpu);
    }
    pool_init();
    softirq_register(SOFTIRQ_SCHEDULE, schedule);
    log_info("scheduler: Borrowed Virtual Time, context-switch allowance %u us\n", options.sched_allowance_us);
}

void sched_init_vcpu(struct vcpu *v, unsigned cpu)
{
    v->processor = cpu;
    bvt_init(&v->sched);
    memset(&v->sched.hard_affinity, 0xff, sizeof(v->sched.hard_affinity));
    v->sched.allowed = v->sched.hard_affinity; /* until pool_place_vcpu */
    memset(&v->sched.soft_affinity, 0xff, sizeof(v->sched.soft_affinity));
    v->sched.runstate = RUNSTATE_offline;
    v->sched.runstate_entry = now();
    timer_init(&v->sched.poll_timer, poll_timeout, v, cpu);
    guest_timers_init(v);
}

void sched_remove_vcpu(struct vcpu *v)
{
    unsigned long flags = irq_save();
    struct run_queue *rq = queue_lock(v);

    if (v->sched.queued)
        bvt_dequeue(&rq->bvt, &v->sched);
    spin_unlock_irqrestore(&rq->lock, flags);
    timer_kill(&v->sched.poll_timer);
    guest_timers_kill(v);
}

void sched_remove_domain(struct domain *d)
{
    for (unsigned i = 0; i < ARRAY_SIZE(d->watchdog); i++)
        timer_kill(&d->watchdog[i]);
}

void sched_add_idle(struct vcpu *v)
{
    struct run_queue *rq = &run_queues[v->processor];
    unsigned long flags = spin_lock_irqsave(&rq->lock);

    bvt_init(&v->sched);
    rq->idle = rq->on_cpu = v;
    rq->called = false;
    v->sched.running = true;
    v->sched.run_start = now();
    set_runstate(v, RUNSTATE_running, v->sched.run_start);
    cpumask_set(v->processor, &idle_cpus);
    spin_unlock_irqrestore(&rq->lock, flags);
    timer_migrate(&rq->slice, v->processor); /* it may have been elsewhere while the CPU was off line */
}

#define REPORT_MAX 16

struct report_line {
    const char *domain;
    uint32_t id, weight;
    int64_t avt, evt;
    bool warped;
    uint64_t ran, waited;
};

static void report_line(struct report_line *l, struct vcpu *v, int64_t svt)
{
    const struct sched_vcpu *s = &v->sched;

    *l = (struct report_line){v->domain->name,
                              v->id,
                              s->weight,
                              s->avt - svt,
                              s->evt - svt,
                              s->warped,
                              s->runstate_time[RUNSTATE_running],
                              s->runstate_time[RUNSTATE_runnable]};
}

/* Copies what is in the queue first: the console is slow. */
static void report_queue(unsigned cpu)
{
    struct report_line lines[REPORT_MAX];
    struct run_queue *rq = &run_queues[cpu];
    unsigned long flags = spin_lock_irqsave(&rq->lock);
    unsigned n = 0, count = rq->bvt.count;
    int64_t svt = rq->bvt.svt;
    uint64_t switches = rq->counters.switches, preemptions = rq->counters.preemptions, pulls = rq->counters.pulls;
    struct sched_vcpu *s;

    if (rq->on_cpu)
        report_line(&lines[n++], rq->on_cpu, svt);
    bvt_for_each(s, &rq->bvt) if (n < REPORT_MAX) report_line(&lines[n++], vcpu_of(s), svt);
    spin_unlock_irqrestore(&rq->lock, flags);

    log_info("  CPU %u: virtual time %ld us, %u waiting, %lu switches, %lu preemptions, %lu pulled\n", cpu,
             (long)svt / 1000, count, switches, preemptions, pulls);
    for (unsigned i = 0; i < n; i++)
        log_info("    %s %sv%u: A %ld us, E %ld us, weight %u%s, ran %lu ms, waited %lu ms\n",
                 i ? "queued " : "current", lines[i].domain, lines[i].id, (long)lines[i].avt / 1000,
                 (long)lines[i].evt / 1000, lines[i].weight, lines[i].warped ? ", warped" : "", lines[i].ran / 1000000,
                 lines[i].waited / 1000000);
}

void sched_key_report(void)
{
    unsigned cpu;

    log_info("Run queues (allowance %u us); A and E are relative to the CPU's virtual time\n",
             options.sched_allowance_us);
    for_each_cpu (cpu, &cpu_online)
        report_queue(cpu);
    pools_key_report();
}
