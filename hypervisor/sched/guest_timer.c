/* A vcpu's timers: single-shot, periodic, in virtual time. */
#include "sched/guest_timer.h"

#include "cpu/softirq.h"
#include "domain/domain.h"
#include "sched/time.h"

static void singleshot_fired(void *arg) { event_send_virq(arg, VIRQ_TIMER); }

static void periodic_go_on(struct vcpu *v)
{
    ns_t period = READ_ONCE(v->periodic_period), last = v->periodic_last, t = now();

    if (!period)
        return;
    if (t - last >= period && t > last) {
        last = t - (t - last) % period; /* ticks missed while it did not run come as one */
        v->periodic_last = last;
        event_send_virq(v, VIRQ_TIMER);
    }
    if (v->periodic.cpu != cpu_id())
        timer_migrate(&v->periodic, cpu_id());
    timer_set(&v->periodic, last + period);
}

/* v is current. Its run time stands still but while it runs, so it gets to virtual_at at one moment of real time that is known
 * now. virtual_at, and the runstate of a vcpu while it runs, are changed on its CPU only. */
static void virtual_go_on(struct vcpu *v)
{
    ns_t due;

    if (!v->virtual_at)
        return;
    due = v->sched.runstate_entry + (v->virtual_at - v->sched.runstate_time[RUNSTATE_running]);
    if (now() >= due) {
        v->virtual_at = 0;
        event_send_virq(v, VIRQ_TIMER);
        return;
    }
    if (v->virtual_timer.cpu != cpu_id())
        timer_migrate(&v->virtual_timer, cpu_id());
    timer_set(&v->virtual_timer, due);
}

/* If v is elsewhere by now, or sleeps, it gets its tick when it is switched in. */
static void periodic_fired(void *arg)
{
    if (arg == current)
        periodic_go_on(arg);
}

static void virtual_fired(void *arg)
{
    if (arg == current)
        virtual_go_on(arg);
}

void guest_timers_init(struct vcpu *v)
{
    timer_init(&v->singleshot, singleshot_fired, v, v->processor);
    timer_init(&v->periodic, periodic_fired, v, v->processor);
    timer_init(&v->virtual_timer, virtual_fired, v, v->processor);
    v->periodic_period = v->is_idle || v->domain->hvm ? 0 : GUEST_TIMER_DEFAULT_PERIOD;
    v->periodic_last = now();
}

void guest_timers_kill(struct vcpu *v)
{
    v->periodic_period = 0;
    v->virtual_at = 0;
    timer_kill(&v->periodic);
    timer_kill(&v->virtual_timer);
    timer_kill(&v->singleshot);
}

void guest_timer_singleshot(struct vcpu *v, ns_t expires)
{
    if (unlikely(v->singleshot.cpu != v->processor))
        timer_migrate(&v->singleshot, v->processor);
    timer_set(&v->singleshot, expires);
}

void guest_timer_periodic(struct vcpu *v, ns_t period)
{
    WRITE_ONCE(v->periodic_period, period);
    timer_stop(&v->periodic);
    if (period) {
        WRITE_ONCE(v->periodic_last, now());
        softirq_raise_on(v->processor, SOFTIRQ_SCHEDULE); /* which calls guest_timer_switch_in if v runs */
    }
}

void guest_timer_virtual(struct vcpu *v, ns_t run_time)
{
    v->virtual_at = run_time;
    timer_stop(&v->virtual_timer);
    virtual_go_on(v);
}

void guest_timer_switch_in(struct vcpu *v)
{
    periodic_go_on(v);
    virtual_go_on(v);
}

void guest_timer_switch_out(struct vcpu *v)
{
    timer_stop(&v->periodic);
    timer_stop(&v->virtual_timer);
}
