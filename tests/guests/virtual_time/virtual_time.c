/* run: cpus=1 icount=1 append="dom0_max_vcpus=2" time=60 */
/*
 * Virtual time: a vcpu's timer in it, and its periodic timer, stand still while the vcpu does not run, because it blocks, has
 * a busy neighbour, or its domain is paused; and the times of its four runstates add up to real time.
 */
#include "child.h"

#include "../../../hypervisor/hypercall/croft_abi.h"

#define MS 1000000UL
#define LATE (MS / 5) /* instructions are the clock here, so no busy host is to blame */

static struct child c;
static long timer_port;
static volatile uint64_t fired_at; /* real time */
static volatile unsigned ticks;

static void note(unsigned port)
{
    (void)port;
    if (fired_at == 0)
        fired_at = time_now();
    ticks++;
}

static struct vcpu_runstate_info runstate(void)
{
    struct vcpu_runstate_info r = {.state = -1};

    check_quiet(vcpu_op(VCPUOP_get_runstate_info, 0, &r) == 0, "runstate");
    return r;
}

static uint64_t total(const struct vcpu_runstate_info *r) { return r->time[0] + r->time[1] + r->time[2] + r->time[3]; }
static uint64_t virtual_now(void) { return runstate().time[RUNSTATE_running]; }

static long set(uint64_t run_time)
{
    fired_at = 0;
    ticks = 0;
    return hypercall(__HYPERVISOR_croft_op, CROFT_OP_set_virtual_timer, run_time, 0, 0, 0);
}

/* The timer's end is near: waits for it, and looks what the vcpu's own clock says. */
static void check_fires(const char *what, uint64_t at)
{
    uint64_t limit = time_now() + 200 * MS, was;

    while (fired_at == 0 && time_now() < limit)
        asm volatile("pause");
    was = virtual_now();
    check(fired_at != 0 && was >= at && was < at + LATE, "%s: %ld ns late", what, fired_at ? (long)(was - at) : -1L);
}

static void prepare(void)
{
    check_equal(vcpu_op(VCPUOP_stop_periodic_timer, 0, NULL), 0);
    timer_port = bind_virq(VIRQ_TIMER, 0);
    check(timer_port > 0, "bind_virq: %ld", timer_port);
    event_handlers[timer_port] = note;
    event_unmask((unsigned)timer_port);
    events_enable();
}

static void plain(void)
{
    uint64_t at = virtual_now() + 10 * MS;

    check_equal(set(at), 0);
    check_fires("running all the time", at);
    spin_ns(20 * MS);
    check(ticks == 1, "it fires once: %u", ticks);
    check_equal(set(1), 0);
    spin_ns(MS);
    check(ticks == 1, "a time that has been fires at once: %u", ticks);
    check_equal(set(virtual_now() + 5 * MS), 0);
    check_equal(set(0), 0);
    spin_ns(20 * MS);
    check(ticks == 0, "taken back: %u", ticks);
    check_equal(set(CROFT_VIRTUAL_TIME_MAX + 1), -EINVAL);
    check_equal(set(~0UL), -EINVAL);
    check_equal(set(CROFT_VIRTUAL_TIME_MAX), 0);
    check_equal(set(0), 0);
}

static void while_blocked(void)
{
    struct sched_poll nap = {.timeout = time_now() + 50 * MS};
    uint64_t at = virtual_now() + 10 * MS;

    check_equal(set(at), 0);
    check_equal(sched_op(SCHEDOP_poll, &nap), 0);
    check(time_now() >= nap.timeout && fired_at == 0, "it does not fire while the vcpu sleeps");
    check_fires("asleep for 50 ms", at);
}

static void busy(void *argument)
{
    (void)argument;
    spin_ns(100 * MS);
}

static void beside_a_neighbour(void)
{
    struct vcpu_runstate_info before = runstate(), after;
    uint64_t start = time_now(), at = before.time[RUNSTATE_running] + 30 * MS, real;

    second_begin(busy, NULL);
    check_equal(set(at), 0);
    check_fires("beside a busy vcpu", at);
    after = runstate();
    real = time_now() - start;
    check(real > 45 * MS && real < 75 * MS, "30 ms of a half CPU take %lu us", real / 1000);
    check(after.time[RUNSTATE_runnable] - before.time[RUNSTATE_runnable] > 15 * MS, "it waited for %lu us",
          (after.time[RUNSTATE_runnable] - before.time[RUNSTATE_runnable]) / 1000);
    second_wait();
}

/* In a child: a timer in virtual time, and the periodic one, while it is paused from outside. Result: ticks. */
static long be_paused(long *a)
{
    struct vcpu_set_periodic_timer p = {.period_ns = 10 * MS};
    struct vcpu_runstate_info before, after;
    uint64_t start, real, wall, at;

    prepare();
    start = time_now();
    before = runstate();
    at = before.time[RUNSTATE_running] + 40 * MS;
    check_equal(set(at), 0);
    a[0] = 1; /* "pause me" */
    while (fired_at == 0)
        asm volatile("pause");
    after = runstate();
    real = time_now() - start;
    check(after.time[RUNSTATE_running] >= at && after.time[RUNSTATE_running] < at + LATE,
          "paused for 300 ms: %ld ns late", (long)(after.time[RUNSTATE_running] - at));
    check(after.time[RUNSTATE_offline] - before.time[RUNSTATE_offline] >= 300 * MS, "it was offline for %lu us",
          (after.time[RUNSTATE_offline] - before.time[RUNSTATE_offline]) / 1000);
    wall = total(&after) - total(&before);
    check(wall <= real && wall + MS > real, "the runstates add up to real time: %lu of %lu ns", wall, real);

    ticks = 0;
    check_equal(vcpu_op(VCPUOP_set_periodic_timer, 0, &p), 0);
    a[0] = 2; /* once more */
    while (time_now() < start + real + 400 * MS)
        asm volatile("pause");
    vcpu_op(VCPUOP_stop_periodic_timer, 0, NULL);
    return ticks;
}

/* The rest of croft_op is not for a child. */
static long scheduler_call(long *a)
{
    struct croft_sched op = {.domid = DOMID_SELF};

    (void)a;
    return hypercall(__HYPERVISOR_croft_op, CROFT_OP_sched_get, U(&op), 0, 0, 0);
}

/* The child has the CPU beside us; it says where it is in its talk page. */
static void pause_child_at(long step)
{
    struct sched_poll nap;
    uint64_t end;

    do {
        nap = (struct sched_poll){.timeout = time_now() + MS};
        sched_op(SCHEDOP_poll, &nap);
    } while (c.talk->a[0] != step);
    check_equal(domctl(XEN_DOMCTL_pausedomain, c.domid), 0);
    end = time_now() + 300 * MS;
    nap = (struct sched_poll){.timeout = end};
    sched_op(SCHEDOP_poll, &nap);
    check(time_now() >= end, "slept");
    check_equal(domctl(XEN_DOMCTL_unpausedomain, c.domid), 0);
}

static void while_paused(void)
{
    child_start(&c);
    child_begin(&c, be_paused, (const long[CHILD_ARGS]){0});
    pause_child_at(1);
    pause_child_at(2);
    check(child_wait(&c), "the child answers");
    check(c.talk->result >= 5 && c.talk->result <= 14, "400 ms, of which 300 in pause, are %ld ticks of 10 ms",
          c.talk->result);
    check_equal(child_call(&c, scheduler_call, 0), -EPERM);
    child_end(&c);
}

GUEST("virtual_time")
{
    prepare();
    second_start();
    plain();
    while_blocked();
    beside_a_neighbour();
    while_paused();
}
