/* sources: hypervisor/sched/sched.c hypervisor/sched/pool.c hypervisor/sched/bvt.c hypervisor/sched/timer.c hypervisor/sched/guest_timer.c */
/* The scheduler on four fake CPUs: who runs where, wakes, pulls, affinity, pools, CPUs off line, runstates, the vcpus' timers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "boot/options.h"
#include "cpu/smp.h"
#include "cpu/softirq.h"
#include "cpu/trace.h"
#include "domain/domain.h"
#include "lib/log.h"
#include "platform/apic.h"
#include "sched/bvt.h"
#include "sched/guest_timer.h"
#include "sched/pool.h"
#include "sched/time.h"

enum { CPUS = 4, VCPUS = 12 };

struct options options;
cpumask_t cpu_online;
static struct percpu cpus[CPUS];
static unsigned this;
static ns_t clock_now, hardware[CPUS];
static struct domain d __aligned(PAGE_SIZE), other_dom,
    idle_dom; /* the other one has vcpus only where a test gives it some */
static struct vcpu v[VCPUS], idle[CPUS];
static struct shared_info shared;
static struct vcpu_info infos[VCPUS];
static unsigned virqs[VCPUS], wakes[CPUS], switches;
static ns_t due[VCPUS]; /* when a vcpu's timer has to have fired */
static bool port_is_pending;

bool trace_on;
static struct {
    uint32_t event, cpu, words[TRACE_EXTRA_MAX];
} traced[64];
static unsigned traced_count;
void trace_record(uint32_t event, const uint32_t *words, unsigned n)
{
    assert_true(trace_on && traced_count < ARRAY_SIZE(traced));
    memset(traced[traced_count].words, 0, sizeof(traced[0].words));
    traced[traced_count].event = event;
    traced[traced_count].cpu = this;
    memcpy(traced[traced_count++].words, words, n * sizeof(words[0]));
}

struct percpu *this_cpu(void) { return &cpus[this]; }
ns_t now(void) { return clock_now; }
uint64_t time_tsc_of(ns_t t) { return t; }
void apic_timer_arm(uint64_t tsc) { hardware[this] = tsc; }
void softirq_register(enum softirq nr, void (*handler)(void)) {}
void softirq_raise_on(unsigned cpu, enum softirq nr) { cpus[cpu].softirq_pending |= 1U << nr; }
void smp_send_wake(unsigned cpu) { wakes[cpu]++; }
static unsigned log_lines;
void log_print(enum log_level level, const char *fmt, ...) { log_lines++; }
void panic(const char *fmt, ...)
{
    print_error("panic: %s", fmt);
    abort();
}
struct domain *domain_next(struct domain *prev) { return !prev ? &d : prev == &d ? &other_dom : NULL; }
bool event_port_pending(struct domain *dom, unsigned port) { return port_is_pending; }
bool vcpu_event_deliverable(const struct vcpu *p)
{
    return p->info->evtchn_upcall_pending && !p->info->evtchn_upcall_mask;
}
void event_send_virq(struct vcpu *p, unsigned virq)
{
    assert_int_equal(virq, VIRQ_TIMER);
    virqs[p->id]++;
    due[p->id] = NS_NEVER;
    p->info->evtchn_upcall_pending = 1;
    vcpu_kick(p);
}

static unsigned references, references_taken;
bool domain_get(struct domain *unused)
{
    references++;
    references_taken++;
    return true;
}
void domain_put(struct domain *unused) { references--; }

static void (*while_switching)(void);
void context_switch(struct vcpu *prev, struct vcpu *next)
{
    assert_ptr_not_equal(prev, next);
    assert_ptr_equal(prev, current);
    assert_true(prev->sched.running && next->sched.running);
    for (unsigned c = 0; c < CPUS; c++) /* nobody is in two places */
        assert_true(next != cpus[c].current_vcpu);
    if (!next->is_idle) {
        assert_int_equal(next->processor, this);
        assert_true(cpumask_test(this, &next->sched.hard_affinity));
        assert_true(cpumask_test(this, &next->sched.allowed));
    }
    assert_true(cpumask_test(this, &cpu_online));
    current = next;
    switches++;
    if (while_switching)
        while_switching();
    sched_switch_done(prev);
}

/* A CPU's softirqs, once; false if there are none. */
static bool softirqs(unsigned cpu)
{
    uint32_t pending = cpus[cpu].softirq_pending;

    this = cpu;
    cpus[cpu].softirq_pending = 0;
    if (!cpumask_test(cpu, &cpu_online))
        return false;
    if (pending & 1U << SOFTIRQ_TIMER)
        timers_run();
    if (pending & 1U << SOFTIRQ_SCHEDULE)
        schedule();
    return pending != 0;
}

/* Softirqs until there are none. */
static void settle(void)
{
    bool any;

    do {
        any = false;
        for (unsigned c = 0; c < CPUS; c++)
            any |= softirqs(c);
    } while (any);
    this = 0;
}

static void timer_of(unsigned cpu)
{
    if (hardware[cpu] > clock_now)
        return;
    this = cpu;
    hardware[cpu] = NS_NEVER;
    timer_interrupt();
}

static void pass(ns_t t)
{
    ns_t end = clock_now + t;

    settle();
    for (;;) {
        ns_t next = end;

        for (unsigned c = 0; c < CPUS; c++)
            next = min(next, hardware[c]);
        clock_now = max(clock_now, next);
        for (unsigned c = 0; c < CPUS; c++)
            timer_of(c);
        settle();
        if (next >= end)
            break;
    }
}

static int setup_cpus(unsigned count)
{
    memset(&d, 0, sizeof(d));
    memset(&other_dom, 0, sizeof(other_dom));
    memset(v, 0, sizeof(v));
    memset(idle, 0, sizeof(idle));
    memset(infos, 0, sizeof(infos));
    memset(cpus, 0, sizeof(cpus));
    memset(virqs, 0, sizeof(virqs));
    memset(wakes, 0, sizeof(wakes));
    memset(&cpu_online, 0, sizeof(cpu_online));
    clock_now += SECONDS(1);
    options.sched_allowance_us = 2000;
    port_is_pending = false;
    switches = 0;
    d.vcpu_count = other_dom.vcpu_count = VCPUS;
    d.shared_info = &shared;
    strcpy(d.name, "d0");
    strcpy(other_dom.name, "d1");
    strcpy(idle_dom.name, "idle");
    for (unsigned c = 0; c < CPUS; c++) {
        cpus[c].id = this = c;
        hardware[c] = NS_NEVER;
        timers_init_cpu();
        timers_run(); /* of the test before */
    }
    this = 0;
    sched_init();
    for (unsigned c = 0; c < count; c++) {
        idle[c].domain = &idle_dom;
        idle[c].id = idle[c].processor = c;
        idle[c].is_idle = true;
        cpus[c].current_vcpu = &idle[c];
        cpumask_set(c, &cpu_online);
        sched_add_idle(&idle[c]);
        pool_cpu_joins(c);
    }
    for (unsigned i = 0; i < VCPUS; i++) {
        due[i] = NS_NEVER;
        v[i].domain = &d;
        v[i].id = i;
        v[i].info = &infos[i];
        v[i].down = true;
        d.vcpus[i] = &v[i];
        sched_init_vcpu(&v[i], i % count);
        pool_place_vcpu(&v[i]);
        v[i].periodic_period = 0;
    }
    return 0;
}
static int setup(void **state) { return setup_cpus(CPUS); }
static int setup_two(void **state) { return setup_cpus(2); }
static int setup_one(void **state) { return setup_cpus(1); }

static int end(void **state)
{
    for (unsigned i = 0; i < VCPUS; i++) {
        v[i].down = true;
        vcpu_sleep(&v[i]);
    }
    settle();
    for (unsigned i = 0; i < VCPUS; i++) {
        assert_false(v[i].sched.running);
        sched_remove_vcpu(&v[i]);
    }
    sched_remove_domain(&d);
    for (unsigned c = 0; c < CPUS; c++)
        cpus[c].softirq_pending = 0;
    return 0;
}

static void up(unsigned i)
{
    v[i].down = false;
    vcpu_wake(&v[i]);
}
static bool runs(unsigned i) { return cpus[v[i].processor].current_vcpu == &v[i]; }
static ns_t ran(unsigned i)
{
    struct vcpu_runstate_info r;

    vcpu_get_runstate(&v[i], &r);
    return r.time[RUNSTATE_running];
}
static int state_of(unsigned i)
{
    struct vcpu_runstate_info r;

    vcpu_get_runstate(&v[i], &r);
    return r.state;
}

static void pin(unsigned i, unsigned long cpus_allowed)
{
    cpumask_t mask = {{cpus_allowed}};

    assert_int_equal(vcpu_set_affinity(&v[i], &mask), 0);
}

static void all_up(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        up(i);
}

static void test_spread(void **state)
{
    for (unsigned i = 0; i < CPUS; i++) {
        sched_init_vcpu(&v[i], 0); /* all at home on CPU 0 */
        pool_place_vcpu(&v[i]);
        v[i].periodic_period = 0;
        up(i);
    }
    settle();
    for (unsigned i = 0; i < CPUS; i++)
        assert_true(runs(i));
    pass(SECONDS(1));
    assert_int_equal(switches, CPUS); /* tickless */
    for (unsigned i = 0; i < CPUS; i++)
        assert_int_equal(ran(i), SECONDS(1));
}

static void test_shares(void **state)
{
    assert_int_equal(vcpu_set_weight(&v[0], 0), -EINVAL);
    assert_int_equal(vcpu_set_weight(&v[0], 65536), -EINVAL);
    assert_int_equal(vcpu_set_weight(&v[1], 512), 0);
    for (unsigned i = 0; i < 3; i++)
        up(i);
    pass(SECONDS(8));
    assert_true(ran(0) > MILLISECS(1960) && ran(0) < MILLISECS(2040));
    assert_true(ran(1) > MILLISECS(3920) && ran(1) < MILLISECS(4080));
    assert_int_equal(ran(0) + ran(1) + ran(2), SECONDS(8));
    /* A new weight counts from now on. */
    assert_int_equal(vcpu_set_weight(&v[1], 256), 0);
    assert_int_equal(vcpu_set_weight(&v[2], 256), 0);
    {
        ns_t before = ran(1);

        pass(SECONDS(3));
        assert_true(ran(1) - before > MILLISECS(950) && ran(1) - before < MILLISECS(1050));
    }
    assert_true(switches < 11 * 500);
}

static void test_block_and_events(void **state)
{
    up(0);
    settle();
    infos[0].evtchn_upcall_mask = 1;
    infos[0].evtchn_upcall_pending = 1;
    vcpu_block(); /* something is pending: does not sleep, but upcalls are on */
    settle();
    assert_true(runs(0));
    assert_int_equal(infos[0].evtchn_upcall_mask, 0);
    infos[0].evtchn_upcall_pending = 0;
    vcpu_block();
    settle();
    assert_false(runs(0));
    assert_int_equal(state_of(0), RUNSTATE_blocked);
    pass(MILLISECS(5));
    vcpu_kick(&v[0]);
    settle();
    assert_true(runs(0));
    assert_int_equal(ran(0), 0);
    assert_int_equal(v[0].sched.runstate_time[RUNSTATE_blocked], MILLISECS(5));
    /* Running elsewhere: an interrupt makes it look */
    this = 1;
    wakes[0] = 0;
    vcpu_kick(&v[0]);
    assert_int_equal(wakes[v[0].processor], 1);
    this = 0;
}

/* The waker of a vcpu that polls is interrupted, and the vcpu polls again meanwhile: this it must not end without a wake-up. */
static const uint32_t polled = 4;
static void poll_again(int signal)
{
    assert_int_equal(
        mprotect((char *)ROUND_DOWN((uintptr_t)d.event.pollers, PAGE_SIZE), PAGE_SIZE, PROT_READ | PROT_WRITE), 0);
    if (!v[0].blocked)
        vcpu_poll(&polled, 1, 0);
}

static void test_poll_again(void **state)
{
    struct sigaction before, during = {.sa_handler = poll_again};
    char *page = (char *)ROUND_DOWN((uintptr_t)d.event.pollers, PAGE_SIZE);

    up(0);
    settle();
    this = v[0].processor;
    port_is_pending = false;
    vcpu_poll(&polled, 1, 0);
    assert_int_equal(sigaction(SIGSEGV, &during, &before), 0);
    assert_int_equal(mprotect(page, PAGE_SIZE, PROT_READ), 0);
    vcpu_unblock(&v[0]);
    assert_int_equal(sigaction(SIGSEGV, &before, NULL), 0);
    assert_true(!v[0].blocked || d.event.pollers[0] == 1);
}

static void test_poll(void **state)
{
    uint32_t ports[] = {4, 9};

    up(0);
    settle();
    port_is_pending = true;
    vcpu_poll(ports, 1, 0);
    assert_false(v[0].blocked || d.event.pollers[0]);
    port_is_pending = false;
    vcpu_poll(ports, 1, clock_now + MILLISECS(3));
    assert_int_equal(v[0].event.poll_port, 4);
    assert_int_equal(d.event.pollers[0], 1);
    pass(MILLISECS(2));
    assert_false(runs(0));
    pass(MILLISECS(2));
    assert_true(runs(0));
    assert_int_equal(d.event.pollers[0], 0);
    vcpu_poll(ports, 2, clock_now - 5); /* already over */
    assert_int_equal(v[0].event.poll_port, EVENT_POLL_ANY);
    pass(10);
    assert_true(runs(0));
    vcpu_poll(ports, 2, 0);
    pass(SECONDS(5));
    assert_false(runs(0));
    vcpu_unblock(&v[0]);
    settle();
    assert_true(runs(0));
}

/* A trace alone tells who ran where and why it stopped. */
static void test_trace(void **state)
{
    static const uint32_t expected[][6] = {
        /* event, CPU, words */
        {TRC_SCHED_RUNSTATE_CHANGE | RUNSTATE_blocked << 8 | RUNSTATE_runnable << 4, 0, 3},
        {TRC_SCHED_WAKE, 0, 0, 3},
        {TRC_SCHED_SWITCH_INFPREV, 3, DOMID_IDLE_VCPUS, 3, 1000000},
        {TRC_SCHED_SWITCH_INFNEXT, 3, 0, 3, 0},
        {TRC_SCHED_SWITCH, 3, DOMID_IDLE_VCPUS, 3, 0, 3},
        {TRC_SCHED_RUNSTATE_CHANGE | RUNSTATE_running << 8 | RUNSTATE_runnable << 4, 3, DOMID_IDLE_VCPUS << 16 | 3},
        {TRC_SCHED_RUNSTATE_CHANGE | RUNSTATE_runnable << 8 | RUNSTATE_running << 4, 3, 3},
        {TRC_SCHED_BLOCK, 3, 0, 3},
        {TRC_SCHED_SWITCH_INFPREV, 3, 0, 3, 2000000},
        {TRC_SCHED_SWITCH_INFNEXT, 3, DOMID_IDLE_VCPUS, 3, 2000000},
        {TRC_SCHED_SWITCH, 3, 0, 3, DOMID_IDLE_VCPUS, 3},
        {TRC_SCHED_RUNSTATE_CHANGE | RUNSTATE_running << 8 | RUNSTATE_blocked << 4, 3, 3},
        {TRC_SCHED_RUNSTATE_CHANGE | RUNSTATE_runnable << 8 | RUNSTATE_running << 4, 3, 0x7fff0003},
    };

    idle_dom.id = DOMID_IDLE_VCPUS;
    up(3);
    settle();
    this = 3;
    vcpu_block();
    settle();
    pass(MILLISECS(1));
    trace_on = true;
    traced_count = 0;
    vcpu_unblock(&v[3]);
    settle();
    pass(MILLISECS(2));
    this = 3;
    vcpu_block();
    settle();
    trace_on = false;
    assert_int_equal(traced_count, ARRAY_SIZE(expected));
    for (unsigned i = 0; i < traced_count; i++) {
        assert_int_equal(traced[i].event, expected[i][0]);
        assert_int_equal(traced[i].cpu, expected[i][1]);
        assert_memory_equal(traced[i].words, &expected[i][2], 4 * sizeof(uint32_t));
    }
}

static void test_pause(void **state)
{
    up(0);
    up(1);
    settle();
    this = 2;
    cpus[2].current_vcpu = &idle[2];
    v[1].pause_count = 0;
    vcpu_pause(&v[4]); /* runs nowhere */
    __atomic_fetch_add(&v[1].pause_count, 1, __ATOMIC_SEQ_CST);
    vcpu_sleep(&v[1]);
    settle();
    assert_false(runs(1));
    assert_int_equal(state_of(1), RUNSTATE_offline);
    vcpu_pause(&v[1]);
    vcpu_unpause(&v[1]);
    settle();
    assert_false(runs(1));
    vcpu_unpause(&v[1]);
    settle();
    assert_true(runs(1));
    domain_pause_nosync(&d);
    settle();
    domain_pause(&d);
    assert_false(runs(0) || runs(1));
    domain_unpause(&d);
    settle();
    assert_false(runs(0));
    domain_unpause(&d);
    settle();
    assert_true(runs(0) && runs(1));
}

/* A vcpu that may no longer stay is moved when its registers are saved; its domain cannot end between that and the wake-up. */
static void move_away(void)
{
    while_switching = NULL;
    pin(0, 1UL << 2);
}

static void test_leaves_while_switched(void **state)
{
    pin(0, 1);
    pin(1, 1);
    up(0);
    settle();
    up(1);
    references_taken = 0;
    while_switching = move_away;
    pass(MILLISECS(50));
    assert_null(while_switching);
    assert_true(runs(0) && v[0].processor == 2);
    assert_int_equal(references_taken, 1);
    assert_int_equal(references, 0);
}

static void test_affinity(void **state)
{
    cpumask_t only2 = {{1UL << 2}}, none = {{0}}, far = {{1UL << 40}};

    assert_int_equal(vcpu_set_affinity(&v[0], &none), -EINVAL);
    assert_int_equal(vcpu_set_affinity(&v[0], &far), -EINVAL);
    for (unsigned i = 0; i < 6; i++)
        up(i);
    settle();
    for (unsigned i = 0; i < 4; i++) /* running ones, queued ones and sleeping ones go to CPU 2 */
        assert_int_equal(vcpu_set_affinity(&v[i], &only2), 0);
    assert_int_equal(vcpu_set_affinity(&v[8], &only2), 0);
    up(8);
    pass(SECONDS(2));
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(v[i].processor, 2);
        assert_true(ran(i) > MILLISECS(370) && ran(i) < MILLISECS(430));
    }
    assert_int_equal(v[8].processor, 2);
    assert_true(runs(4) && runs(5)); /* and leave the others alone */
    assert_true(ran(4) > MILLISECS(1990));
}

static void test_pull(void **state)
{
    for (unsigned i = 0; i < 5; i++)
        up(i);
    settle();
    /* One of the four that run goes to sleep: the fifth takes its CPU at once. */
    for (unsigned i = 0; i < 5; i++) {
        if (runs(i)) {
            v[i].down = true;
            vcpu_sleep(&v[i]);
            break;
        }
    }
    settle();
    for (unsigned c = 0; c < CPUS; c++)
        assert_false(cpus[c].current_vcpu->is_idle);
}

static void test_yield(void **state)
{
    up(0);
    up(1);
    pass(MILLISECS(1));
    {
        struct vcpu *before = current;

        vcpu_yield();
        settle();
        assert_ptr_not_equal(current, before);
        vcpu_yield();
        settle();
        assert_ptr_equal(current, before);
    }
}

static void test_warp_preempts_at_once(void **state)
{
    up(0);
    pass(MILLISECS(50));
    vcpu_set_warp(&v[1], MILLISECS(10), 0, 0);
    up(2);
    settle();
    assert_true(runs(0));
    up(1);
    settle();
    assert_true(runs(1));
}

static void test_guest_timers(void **state)
{
    up(0);
    settle();
    guest_timer_singleshot(&v[0], clock_now + MILLISECS(7));
    vcpu_block();
    pass(MILLISECS(6));
    assert_int_equal(virqs[0], 0);
    assert_false(runs(0));
    pass(MILLISECS(2));
    assert_int_equal(virqs[0], 1);
    assert_true(runs(0));
    infos[0].evtchn_upcall_pending = 0;
    guest_timer_singleshot(&v[0], 1); /* past */
    pass(1);
    assert_int_equal(virqs[0], 2);

    /* Periodic: while it runs; missed ticks come as one */
    guest_timer_periodic(&v[0], MILLISECS(10));
    pass(MILLISECS(101));
    assert_int_equal(virqs[0], 12);
    infos[0].evtchn_upcall_pending = 0;
    this = v[0].processor;
    vcpu_block();
    pass(MILLISECS(500));
    assert_int_equal(virqs[0], 12);
    vcpu_kick(&v[0]);
    pass(1);
    assert_int_equal(virqs[0], 13);
    pass(MILLISECS(50));
    assert_int_equal(virqs[0], 18);
    guest_timer_periodic(&v[0], 0);
    pass(MILLISECS(50));
    assert_int_equal(virqs[0], 18);
}

/* The timer in virtual time fires when its vcpu has run for so long, however little of real time that is. */
static void test_virtual_timer(void **state)
{
    ns_t at;

    up(0);
    pass(MILLISECS(3));
    at = ran(0) + MILLISECS(10);
    this = v[0].processor;
    guest_timer_virtual(&v[0], at);
    pass(MILLISECS(6));
    this = v[0].processor;
    vcpu_block();
    settle();
    assert_false(timer_armed(&v[0].virtual_timer));
    pass(MILLISECS(500));
    assert_int_equal(virqs[0], 0);
    assert_int_equal(ran(0), at - MILLISECS(4));
    vcpu_kick(&v[0]);
    pass(MILLISECS(4) - 1);
    assert_int_equal(virqs[0], 0);
    pass(1);
    assert_int_equal(virqs[0], 1);
    assert_int_equal(ran(0), at);
    pass(MILLISECS(50)); /* once */
    assert_int_equal(virqs[0], 1);

    infos[0].evtchn_upcall_pending = 0;
    this = v[0].processor;
    guest_timer_virtual(&v[0], ran(0)); /* has been */
    assert_int_equal(virqs[0], 2);
    guest_timer_virtual(&v[0], ran(0) + MILLISECS(1));
    guest_timer_virtual(&v[0], 0);
    pass(MILLISECS(5));
    assert_int_equal(virqs[0], 2);
}

static void test_virtual_timer_of_a_paused_domain(void **state)
{
    ns_t at;

    up(0);
    settle();
    at = ran(0) + MILLISECS(10);
    this = v[0].processor;
    guest_timer_virtual(&v[0], at);
    pass(MILLISECS(4));
    domain_pause_nosync(&d);
    pass(SECONDS(1));
    assert_int_equal(ran(0), at - MILLISECS(6));
    assert_int_equal(virqs[0], 0);
    domain_unpause(&d);
    pass(MILLISECS(6));
    assert_int_equal(virqs[0], 1);
    assert_int_equal(ran(0), at);
}

/* Two busy vcpus on one CPU: each has its own virtual time, and its timer goes along when it goes elsewhere. */
static void test_virtual_timers_beside_each_other(void **state)
{
    cpumask_t first = {{1}}, third = {{4}};
    ns_t at[2], start;

    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(vcpu_set_affinity(&v[i], &first), 0);
        up(i);
    }
    pass(MILLISECS(20));
    for (unsigned i = 0; i < 2; i++)
        at[i] = ran(i) + MILLISECS(30 + 10 * i);
    start = clock_now;
    for (unsigned done = 0; done < 2; pass(MILLISECS(1)))
        for (unsigned i = 0; i < 2; i++)
            if (runs(i) && !v[i].virtual_at) {
                this = 0;
                guest_timer_virtual(&v[i], at[i]);
                done++;
            }
    while (!virqs[0]) {
        assert_true(clock_now - start < MILLISECS(200));
        assert_true(ran(0) < at[0]);
        pass(MICROSECS(10));
    }
    assert_true(ran(0) >= at[0] && ran(0) <= at[0] + MICROSECS(10));
    assert_true(clock_now - start > MILLISECS(50));
    assert_int_equal(virqs[1], 0);
    assert_int_equal(vcpu_set_affinity(&v[1], &third), 0);
    settle();
    assert_true(runs(1) && v[1].processor == 2);
    pass(at[1] - ran(1) - 1);
    assert_int_equal(virqs[1], 0);
    pass(1);
    assert_int_equal(virqs[1], 1);
}

static void test_random(void **state)
{
    ns_t start = clock_now;

    srand(8);
    for (unsigned step = 0; step < 60000; step++) {
        unsigned i = rand() % VCPUS;
        cpumask_t mask = {{1 + rand() % 15}};

        this = rand() % CPUS;
        switch (rand() % 9) {
        case 0:
            v[i].down = true;
            vcpu_sleep(&v[i]);
            break;
        case 1:
            assert_int_equal(vcpu_set_affinity(&v[i], &mask), 0);
            break;
        case 2:
            vcpu_set_weight(&v[i], 1 + rand() % 1000);
            break;
        case 3:
            if (!current->is_idle)
                vcpu_block();
            break;
        case 4:
            vcpu_unblock(&v[i]);
            break;
        case 5:
            if (!current->is_idle)
                vcpu_yield();
            break;
        case 6:
            pass(rand() % MILLISECS(3));
            break;
        default:
            up(i);
        }
        if (rand() % 4)
            continue;
        settle();
        for (i = 0; i < VCPUS; i++) {
            bool waits = vcpu_runnable(&v[i]) && !runs(i);

            assert_true(vcpu_runnable(&v[i]) || !runs(i));
            assert_int_equal(v[i].sched.running, runs(i));
            assert_int_equal(v[i].sched.queued, waits);
            if (runs(i))
                assert_true(cpumask_test(v[i].processor, &v[i].sched.hard_affinity));
            /* Nobody waits while a CPU that it may use idles. */
            for (unsigned c = 0; c < CPUS && waits; c++)
                assert_false(cpus[c].current_vcpu->is_idle && cpumask_test(c, &v[i].sched.hard_affinity));
        }
    }
    for (unsigned i = 0; i < VCPUS; i++) {
        struct vcpu_runstate_info r;

        vcpu_get_runstate(&v[i], &r);
        assert_int_equal(r.time[0] + r.time[1] + r.time[2] + r.time[3], clock_now - start);
    }
    sched_key_report();
    timers_key_report();
}

/* ---- CPUs that go off line and come back, pools ---- */

enum { FREE = -1, LEAVING = -2, OFF = -3 }; /* a CPU that is in no pool; LEAVING: is about to go off line */
static int cpu_pool[CPUS];                  /* the model */

static cpumask_t pool_mask(int pool)
{
    cpumask_t m = {{0}};

    for (unsigned c = 0; c < CPUS; c++)
        m.bits[0] |= (unsigned long)(cpu_pool[c] == pool) << c;
    return m;
}
static unsigned pool_size(int pool) { return __builtin_popcountl(pool_mask(pool).bits[0]); }

/* The steps of cpu/hotplug.c, in two parts */
static void cpu_leaves(unsigned c)
{
    assert_int_equal(pool_remove_cpu(0, c), 0);
    assert_int_equal(pool_cpu_leaves(c), 0);
    cpu_pool[c] = LEAVING;
}
static void cpu_goes(unsigned c)
{
    settle();
    assert_true(sched_cpu_empty(c));
    timers_close_cpu(c);
    settle();
    this = c;
    sched_retire_idle();
    this = 0;
    cpumask_clear(c, &cpu_online);
    hardware[c] = NS_NEVER;
    pool_vacate_cpu(c);
    cpu_pool[c] = OFF;
}
static void cpu_comes(unsigned c)
{
    this = c;
    cpus[c].softirq_pending = 0;
    timers_init_cpu();
    sched_add_idle(&idle[c]);
    cpumask_set(c, &cpu_online);
    this = 0;
    pool_cpu_joins(c);
    cpu_pool[c] = 0;
}

static void test_cpu_off_and_on(void **state)
{
    memset(cpu_pool, 0, sizeof(cpu_pool));
    pin(5, 1UL << 3); /* asleep, and at home there */
    for (unsigned i = 0; i < 5; i++)
        up(i);
    pin(1, 1UL << 3 | 1UL << 2);
    pin(2, 1UL << 3); /* one of the running ones: it loses that */
    settle();
    guest_timer_singleshot(&v[2], clock_now + MILLISECS(30));
    v[6].processor = 3;
    timer_set(&v[6].sched.poll_timer, clock_now + MILLISECS(20));
    log_lines = 0;
    cpu_leaves(3);
    settle();
    assert_ptr_equal(cpus[3].current_vcpu, &idle[3]);
    cpu_goes(3);
    assert_int_equal(pool_audit(true), 0);
    assert_int_equal(log_lines, 2); /* v2 and v5 lost their affinity */
    assert_int_equal(v[2].sched.hard_affinity.bits[0], ~0UL);
    assert_int_equal(v[1].sched.hard_affinity.bits[0], 12);
    for (unsigned i = 0; i < VCPUS; i++)
        assert_int_not_equal(v[i].processor, 3);
    pass(MILLISECS(100));
    assert_int_equal(virqs[2], 1);
    assert_false(timer_armed(&v[6].sched.poll_timer));
    for (unsigned i = 0; i < 5; i++)
        assert_true(ran(i) > MILLISECS(40));
    assert_ptr_equal(cpus[3].current_vcpu, &idle[3]);
    /* Timers that are set or sent there go to CPU 0. */
    timer_init(&v[6].sched.poll_timer, v[6].sched.poll_timer.handler, &v[6], 3);
    timer_set(&v[6].sched.poll_timer, clock_now + MILLISECS(1));
    assert_int_equal(v[6].sched.poll_timer.cpu, 0);
    timer_set(&v[9].sched.poll_timer, clock_now + MILLISECS(1));
    assert_int_equal(v[9].sched.poll_timer.cpu, 1);
    timer_migrate(&v[9].sched.poll_timer, 3);
    assert_int_equal(v[9].sched.poll_timer.cpu, 0);
    pass(MILLISECS(2));
    assert_false(timer_armed(&v[6].sched.poll_timer));
    /* Back again it gets work at once. */
    cpu_comes(3);
    settle();
    assert_false(cpus[3].current_vcpu->is_idle);
    assert_int_equal(pool_audit(true), 0);
    pass(SECONDS(1));
    for (unsigned i = 0; i < 5; i++)
        assert_true(ran(i) > MILLISECS(760)); /* four of five, four fifths each */
}

static void test_cpu_refusals(void **state)
{
    assert_int_equal(pool_cpu_leaves(1), -EBUSY); /* in a pool */
    assert_int_equal(pool_remove_cpu(0, 1), 0);
    assert_int_equal(pool_remove_cpu(0, 0), -EBUSY); /* the last, with domains */
    assert_int_equal(pool_remove_cpu(0, 1), -EADDRNOTAVAIL);
    assert_int_equal(pool_remove_cpu(0, 64), -EADDRNOTAVAIL);
    assert_int_equal(pool_remove_cpu(1, 1), -ENOENT);
    assert_int_equal(pool_remove_cpu(~0U, 1), -ENOENT);
    assert_int_equal(pool_add_cpu(1, 1), -ENOENT);
    assert_int_equal(pool_add_cpu(0, 2), -ENODEV);
    assert_int_equal(pool_add_cpu(0, 64), -ENODEV);
    assert_int_equal(pool_cpu_leaves(1), 0);
    assert_int_equal(pool_add_cpu(0, 1), -ENODEV); /* not free: on its way off line */
    assert_int_equal(pool_add_cpu(0, POOL_ANY), -ENODEV);
    pool_cpu_joins(1);
}

static void test_pool_refusals(void **state)
{
    uint32_t id = POOL_ANY, other = POOL_ANY;
    struct pool_info info;
    cpumask_t free;

    assert_int_equal(pool_destroy(0), -EBUSY);
    assert_int_equal(pool_destroy(1), -ENOENT);
    assert_int_equal(pool_destroy(POOL_MAX), -ENOENT);
    assert_int_equal(pool_create(&id), 0);
    assert_int_equal(id, 1);
    assert_int_equal(pool_create(&id), -EEXIST);
    other = POOL_MAX;
    assert_int_equal(pool_create(&other), -EINVAL);
    assert_int_equal(pool_join(&other_dom, 2), -ESRCH);
    assert_int_equal(pool_join(&other_dom, 1), -EINVAL); /* no CPUs yet */
    assert_int_equal(pool_move_domain(&other_dom, 1), -ENOENT);
    assert_int_equal(pool_move_domain(&other_dom, 2), -ENOENT);
    assert_int_equal(pool_remove_cpu(0, POOL_ANY), 0);
    free = pool_free_cpus();
    assert_int_equal(free.bits[0], 1UL << 3);
    assert_int_equal(pool_add_cpu(1, POOL_ANY), 0);
    assert_int_equal(pool_cpu_leaves(3), -EBUSY);
    assert_int_equal(pool_move_domain(&other_dom, 1), 0);
    assert_true(pool_info(1, &info));
    assert_int_equal(info.cpus.bits[0], 1UL << 3);
    assert_int_equal(info.domains, 1);
    assert_int_equal(pool_remove_cpu(1, 3), -EBUSY);
    assert_int_equal(pool_destroy(1), -EBUSY);
    other_dom.dying = true;
    assert_int_equal(pool_move_domain(&other_dom, 0), 0);
    assert_int_equal(pool_move_domain(&other_dom, 1), -EINVAL);
    assert_int_equal(pool_destroy(1), -EBUSY);
    assert_int_equal(pool_remove_cpu(1, 3), 0);
    assert_int_equal(pool_destroy(1), 0);
    assert_false(pool_info(1, &info));
    for (id = POOL_ANY; pool_create(&id) == 0; id = POOL_ANY)
        ;
    assert_int_equal(pool_create(&id), -ENOSPC);
}

/* The vcpus from 'first' on are the other domain's. */
static void give_to_other_domain(unsigned first)
{
    for (unsigned i = first; i < VCPUS; i++) {
        d.vcpus[i] = NULL;
        other_dom.vcpus[i] = &v[i];
        v[i].domain = &other_dom;
    }
}

static void test_pools_are_apart(void **state)
{
    uint32_t id = POOL_ANY;
    cpumask_t two = {{4}};

    give_to_other_domain(4);
    assert_int_equal(pool_create(&id), 0);
    for (unsigned c = 2; c < 4; c++) {
        assert_int_equal(pool_remove_cpu(0, c), 0);
        assert_int_equal(pool_add_cpu(1, c), 0);
    }
    all_up(5); /* four on CPUs 0 and 1, and one more */
    settle();
    assert_int_equal(pool_move_domain(&other_dom, 1), 0);
    pass(SECONDS(1));
    for (unsigned i = 0; i < 4; i++)
        assert_true(ran(i) > MILLISECS(480) && ran(i) < MILLISECS(520));
    assert_true(ran(4) > MILLISECS(999));
    assert_true(cpus[2].current_vcpu->is_idle || cpus[3].current_vcpu->is_idle);
    /* Affinity is to CPUs of the pool. */
    assert_int_equal(vcpu_set_affinity(&v[0], &two), -EINVAL);
    assert_int_equal(vcpu_set_affinity(&v[4], &two), 0);
    settle();
    assert_int_equal(v[4].processor, 2);
    /* With the pool goes the affinity. */
    assert_int_equal(pool_move_domain(&other_dom, 0), 0);
    assert_int_equal(v[4].sched.hard_affinity.bits[0], ~0UL);
    settle();
    assert_true(v[4].processor < 2);
    assert_int_equal(pool_audit(true), 0);
}

/* The audit finds what it is for. */
static void test_pool_audit_finds(void **state)
{
    uint32_t id = POOL_ANY;

    up(0);
    settle();
    assert_int_equal(pool_audit(true), 0);
    v[1].down = false; /* nobody woke it */
    assert_int_equal(pool_audit(false), 0);
    assert_int_equal(pool_audit(true), 1);
    v[1].down = true;
    v[1].sched.allowed.bits[0] = 1;
    assert_int_equal(pool_audit(false), 1);
    pool_place_vcpu(&v[1]);
    cpumask_clear(v[0].processor, &cpu_online);
    assert_int_equal(pool_audit(false), 2); /* a pool's CPU is off line, and v0 on it */
    cpumask_set(v[0].processor, &cpu_online);
    d.pool = 1;
    assert_int_equal(pool_audit(false), VCPUS);
    assert_int_equal(pool_create(&id), 0);
    assert_int_equal(pool_audit(false), VCPUS);
    d.pool = 0;
    assert_int_equal(pool_audit(true), 0);
}

/* One random thing that happens to CPUs or pools. */
static void change_cpus(void)
{
    unsigned c = rand() % CPUS, pool = rand() % 2;
    int rc;

    switch (rand() % 5) {
    case 0: /* off line: first step or the rest */
        if (cpu_pool[c] == LEAVING)
            cpu_goes(c);
        else if (c && cpu_pool[c] == 0 && pool_size(0) > 1)
            cpu_leaves(c);
        break;
    case 1:
        if (cpu_pool[c] == OFF)
            cpu_comes(c);
        break;
    case 2:
        rc = pool_remove_cpu(pool, c);
        if (cpu_pool[c] != (int)pool)
            assert_int_equal(rc, -EADDRNOTAVAIL);
        else if (pool_size(pool) == 1 && (!pool || other_dom.pool == 1))
            assert_int_equal(rc, -EBUSY);
        else
            assert_int_equal(rc, 0);
        cpu_pool[c] = rc ? cpu_pool[c] : FREE;
        break;
    case 3:
        rc = pool_add_cpu(pool, c);
        assert_int_equal(rc, cpu_pool[c] == FREE ? 0 : -ENODEV);
        cpu_pool[c] = rc ? cpu_pool[c] : (int)pool;
        break;
    default:
        rc = pool_move_domain(&other_dom, pool);
        assert_int_equal(rc, pool_size(pool) ? 0 : -ENOENT);
    }
}

static void check_cpus(void)
{
    settle();
    assert_int_equal(pool_audit(true), 0);
    for (unsigned i = 0; i < VCPUS; i++) {
        cpumask_t may = pool_mask((int)v[i].domain->pool);
        bool waits = vcpu_runnable(&v[i]) && !runs(i);

        may.bits[0] &= v[i].sched.hard_affinity.bits[0];
        assert_true(may.bits[0]);
        assert_int_equal(v[i].sched.allowed.bits[0], may.bits[0]);
        assert_int_not_equal(cpu_pool[v[i].processor], OFF);
        if (runs(i) || waits)
            assert_true(cpumask_test(v[i].processor, &may));
        assert_int_equal(v[i].sched.queued, waits);
        for (unsigned c = 0; c < CPUS && waits; c++)
            assert_false(cpus[c].current_vcpu->is_idle && cpumask_test(c, &may));
        assert_true(due[i] > clock_now);
    }
}

static void test_random_cpus(void **state)
{
    uint32_t id = POOL_ANY;
    unsigned long fired = 0;

    memset(cpu_pool, 0, sizeof(cpu_pool));
    give_to_other_domain(VCPUS / 2);
    assert_int_equal(pool_create(&id), 0);
    srand(21);
    for (unsigned step = 0; step < 100000; step++) {
        unsigned i = rand() % VCPUS;
        cpumask_t mask = {{1 + rand() % 15}};

        do
            this = rand() % CPUS;
        while (!cpumask_test(this, &cpu_online));
        switch (rand() % 9) {
        case 0:
            v[i].down = true;
            vcpu_sleep(&v[i]);
            break;
        case 1:
            if (!vcpu_set_affinity(&v[i], &mask))
                assert_int_equal(v[i].sched.hard_affinity.bits[0], mask.bits[0]);
            else
                assert_int_equal(mask.bits[0] & pool_mask((int)v[i].domain->pool).bits[0], 0);
            break;
        case 2:
            vcpu_set_soft_affinity(&v[i], &mask);
            break;
        case 3:
            if (!current->is_idle)
                vcpu_block();
            break;
        case 4:
            if (!current->is_idle) {
                i = current->id;
                due[i] = clock_now + rand() % MILLISECS(5);
                fired += virqs[i];
                virqs[i] = 0;
                infos[i].evtchn_upcall_pending = 0;
                guest_timer_singleshot(current, due[i]);
                vcpu_block();
            }
            break;
        case 5:
            pass(rand() % MILLISECS(3));
            break;
        case 6:
            change_cpus();
            break;
        default:
            up(i);
        }
        this = 0;
        if (rand() % 4 == 0)
            check_cpus();
    }
    assert_true(fired > 1000);
    for (unsigned c = 0; c < CPUS; c++)
        if (cpu_pool[c] == LEAVING)
            cpu_goes(c);
    for (unsigned c = 0; c < CPUS; c++)
        if (cpu_pool[c] == OFF)
            cpu_comes(c);
    check_cpus();
    sched_key_report();
}

/* ---- Shares on several CPUs ---- */

/* What n always-busy vcpus shall get: in proportion to their weights, but nobody more than a whole CPU. */
static void fair_shares(unsigned n, unsigned cpu_count, const uint32_t *weights, double *share)
{
    bool whole[VCPUS] = {0};
    bool again = true;

    while (again) {
        double weight = 0, left = cpu_count;

        again = false;
        for (unsigned i = 0; i < n; i++) {
            weight += whole[i] ? 0 : weights[i];
            left -= whole[i];
        }
        for (unsigned i = 0; i < n; i++) {
            share[i] = whole[i] ? 1 : left * weights[i] / weight;
            if (share[i] > 1)
                again = whole[i] = true;
        }
    }
}

static double worst; /* of all deviations from the fair share */

/* Everybody runs from one CPU's queue on; after a while to spread, each gets its share of 'length' within 'tolerance'. */
static void check_shares(unsigned n, unsigned cpu_count, const uint32_t *weights, ns_t length, double tolerance)
{
    double share[VCPUS];
    ns_t before[VCPUS], total = 0;

    fair_shares(n, cpu_count, weights, share);
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(vcpu_set_weight(&v[i], weights[i]), 0);
        up(i);
    }
    pass(SECONDS(1));
    for (unsigned i = 0; i < n; i++)
        before[i] = ran(i);
    pass(length);
    for (unsigned i = 0; i < n; i++) {
        double got = (double)(ran(i) - before[i]) / length / share[i];

        total += ran(i) - before[i];
        worst = max(worst, max(got - 1, 1 - got));
        if (got < 1 - tolerance || got > 1 + tolerance)
            print_error("vcpu %u of %u on %u CPUs: weight %u got %.4f of its share %.4f\n", i, n, cpu_count, weights[i],
                        got, share[i]);
        assert_true(got > 1 - tolerance && got < 1 + tolerance);
    }
    assert_true(total == length * min(n, cpu_count)); /* no CPU idled */
}

static void test_two_cpus(void **state)
{
    static const uint32_t sets[][6] = {
        {256, 256, 256},           {256, 512, 256},           {100, 200, 300, 400},
        {256, 256, 256, 256, 256}, {512, 512, 256, 128, 128}, {1024, 256, 256} /* the first has a CPU of its own */,
    };

    for (unsigned i = 0; i < ARRAY_SIZE(sets); i++) {
        unsigned n = 0;

        while (n < 6 && sets[i][n])
            n++;
        setup_cpus(2);
        check_shares(n, 2, sets[i], SECONDS(20), 0.02);
        end(state);
    }
    setup_cpus(2);
}

static void test_random_shares(void **state)
{
    srand(11);
    worst = 0;
    for (unsigned round = 0; round < 60; round++) {
        unsigned cpu_count = 2 + rand() % 3, n = cpu_count + 1 + rand() % (VCPUS - cpu_count);
        uint32_t weights[VCPUS];

        for (unsigned i = 0; i < n; i++)
            weights[i] = 64 + rand() % 1000;
        setup_cpus(cpu_count);
        check_shares(n, cpu_count, weights, SECONDS(20), 0.02);
        end(state);
    }
    print_message("worst deviation from the fair share: %.2f %%\n", worst * 100);
    setup_cpus(4);
}

/* CPUs that are there for a moment only, every 100 ms, as on a busy host: nobody is handed from one to the other for ever. */
static void test_cpus_in_turns(void **state)
{
    ns_t before[3];

    all_up(3);
    pass(SECONDS(1));
    for (unsigned i = 0; i < 3; i++)
        before[i] = ran(i);
    for (unsigned turn = 0; turn < 300; turn++) {
        clock_now += MILLISECS(50);
        timer_of(turn % 2);
        while (softirqs(turn % 2))
            ;
    }
    this = 0;
    for (unsigned i = 0; i < 3; i++)
        assert_true(ran(i) - before[i] > SECONDS(5)); /* of 15, where 10 were fair */
}

/* In the next second each gets so many thousandths of a CPU, within 2 %. */
static void check_second(unsigned n, const unsigned *share)
{
    ns_t before[VCPUS];

    for (unsigned i = 0; i < n; i++)
        before[i] = ran(i);
    pass(SECONDS(1));
    for (unsigned i = 0; i < n; i++) {
        ns_t got = ran(i) - before[i];

        if (got < MILLISECS(share[i]) - MILLISECS(20) || got > MILLISECS(share[i]) + MILLISECS(20))
            print_error("vcpu %u: %lu of %u thousandths\n", i, got / 1000000, share[i]);
        assert_true(got > MILLISECS(share[i]) - MILLISECS(20) && got < MILLISECS(share[i]) + MILLISECS(20));
    }
}

static void test_pinned(void **state)
{
    /* One pinned, two free: all equal */
    pin(0, 1);
    all_up(3);
    pass(MILLISECS(200));
    check_second(3, (unsigned[]){667, 667, 667});
    end(state);

    /* Two pinned to one CPU, one to the other, for long: their virtual times go apart. */
    setup_cpus(2);
    pin(0, 1);
    pin(1, 1);
    pin(2, 2);
    all_up(3);
    pass(SECONDS(100));
    check_second(3, (unsigned[]){500, 500, 1000});
    /* Then one is let go: nobody has to wait for what could not be. */
    pin(0, 3);
    pass(MILLISECS(200));
    check_second(3, (unsigned[]){667, 667, 667});
    pin(2, 1);
    pass(MILLISECS(200));
    check_second(3, (unsigned[]){1000, 500, 500});
}

/* The same for a weight that is too great for one CPU: what it could not have it does not get later. */
static void test_great_weight(void **state)
{
    vcpu_set_weight(&v[0], 2560);
    all_up(3);
    pass(SECONDS(100));
    check_second(3, (unsigned[]){1000, 500, 500});
    all_up(6); /* 2560 of 3840: still a whole CPU */
    pass(MILLISECS(200));
    check_second(6, (unsigned[]){1000, 200, 200, 200, 200, 200});
    vcpu_set_weight(&v[0], 256);
    pass(MILLISECS(300));
    check_second(6, (unsigned[]){333, 333, 333, 333, 333, 333});
}

/* Who ran alone while the other CPU idled owes nothing to those who come then. */
static void test_alone(void **state)
{
    up(0);
    pass(SECONDS(100));
    for (unsigned i = 1; i < 3; i++) {
        v[i].processor = !v[0].processor;
        up(i);
    }
    pass(MILLISECS(60));
    assert_true(ran(0) >= SECONDS(100) + MILLISECS(60 * 2 / 3 - 8));
}

/* Fairness drives nobody from the CPUs that it likes, but an idle CPU takes it. */
static void test_soft_affinity(void **state)
{
    cpumask_t first = {{1}};

    v[0].sched.soft_affinity = v[1].sched.soft_affinity = first;
    sched_init_vcpu(&v[2], 1);
    pool_place_vcpu(&v[2]);
    v[2].periodic_period = 0;
    pin(2, 2);
    up(2);
    settle();
    all_up(2);
    pass(MILLISECS(200));
    check_second(3, (unsigned[]){500, 500, 1000});
    v[2].down = true;
    vcpu_sleep(&v[2]);
    pass(MILLISECS(200));
    check_second(2, (unsigned[]){1000, 1000});
    /* And back: when the other is busy again, both end up where they like to be. */
    up(2);
    pass(MILLISECS(300));
    check_second(3, (unsigned[]){500, 500, 1000});
}

/*
 * Random sets of which some sleep now and then, for moments or longer: who is always busy gets its share at least, and
 * never waits for long; a single sleeper gets its share at most.
 */
static void test_sleepers_gain_nothing(void **state)
{
    srand(12);
    for (unsigned round = 0; round < 40; round++) {
        unsigned cpu_count = 1 + rand() % 3, busy = cpu_count + rand() % 4, sleepers = round % 2 ? 1 : 1 + rand() % 4;
        unsigned n = busy + sleepers;
        uint32_t weights[VCPUS];
        double share[VCPUS], total = 0;
        ns_t start, longest[VCPUS] = {0}, since[VCPUS], last[VCPUS];

        setup_cpus(cpu_count);
        for (unsigned i = 0; i < n; i++) {
            weights[i] = 100 + rand() % 500;
            total += weights[i];
            vcpu_set_weight(&v[i], weights[i]);
        }
        all_up(n);
        fair_shares(n, cpu_count, weights, share);
        start = clock_now;
        for (unsigned i = 0; i < n; i++) {
            since[i] = start;
            last[i] = 0;
        }
        while (clock_now < start + SECONDS(20)) {
            unsigned i = busy + rand() % sleepers;
            ns_t t;

            if (v[i].down) {
                up(i);
            } else if (rand() % 3 == 0) {
                v[i].down = true;
                vcpu_sleep(&v[i]);
            }
            t = rand() % (rand() % 10 ? 2000000 : 100000000);
            for (ns_t left = t; left;) {
                ns_t step = min(left, MILLISECS(2));

                pass(step);
                left -= step;
                for (i = 0; i < busy; i++) {
                    if (ran(i) != last[i] || runs(i))
                        since[i] = clock_now;
                    last[i] = ran(i);
                    longest[i] = max(longest[i], clock_now - since[i]);
                }
            }
        }
        for (unsigned i = 0; i < n; i++) {
            double got = (double)ran(i) / (clock_now - start) / share[i];

            if (i < busy && got < 0.98)
                print_error("round %u: busy %u of %u+%u on %u CPUs got %.3f of %.3f\n", round, i, busy, sleepers,
                            cpu_count, got, share[i]);
            if (i < busy)
                assert_true(got > 0.98);
            else if (sleepers == 1)
                assert_true(got < 1.02);
            /* Everybody else runs for a turn and what it is behind by, and the longer the greater its weight is. */
            if (i < busy && longest[i] > MILLISECS(60) * total / weights[i] / cpu_count)
                print_error("round %u: busy %u of %u+%u on %u CPUs waited for %lu ms\n", round, i, busy, sleepers,
                            cpu_count, longest[i] / 1000000);
            if (i < busy)
                assert_true(longest[i] <= MILLISECS(60) * total / weights[i] / cpu_count);
        }
        end(state);
    }
    setup_cpus(4);
}

/* One that wakes 100 times a second runs within two allowances of it. On several CPUs few wakes are later: when one CPU has just
 * given another somebody who is behind by the balancing's allowance (6 ms here), who makes up for that first. */
static void test_wakes_are_prompt(void **state)
{
    for (unsigned cpu_count = 1; cpu_count <= 3; cpu_count++) {
        unsigned late = 0;
        ns_t latest = 0;

        setup_cpus(cpu_count);
        all_up(VCPUS);
        pass(SECONDS(1)); /* in the first round all had woken */
        for (unsigned i = 0; i < 1000; i++) {
            ns_t waited = 0;

            v[0].down = true;
            vcpu_sleep(&v[0]);
            pass(MILLISECS(10) - MICROSECS(100) - i % 7 * 1000);
            up(0);
            settle();
            for (; !runs(0); waited += MICROSECS(100))
                pass(MICROSECS(100));
            late += waited > 2 * MILLISECS(2);
            latest = max(latest, waited);
            pass(MICROSECS(100));
        }
        assert_true(late <= (cpu_count == 1 ? 0 : 50));
        assert_true(latest <= MILLISECS(6) + 3 * MILLISECS(2));
        end(state);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f, s) cmocka_unit_test_setup_teardown(f, s, end)
        TEST(test_spread, setup),
        TEST(test_shares, setup_one),
        TEST(test_block_and_events, setup),
        TEST(test_poll, setup_one),
        TEST(test_poll_again, setup_one),
        TEST(test_leaves_while_switched, setup),
        TEST(test_trace, setup),
        TEST(test_pause, setup),
        TEST(test_affinity, setup),
        TEST(test_pull, setup),
        TEST(test_yield, setup_one),
        TEST(test_warp_preempts_at_once, setup_one),
        TEST(test_guest_timers, setup_one),
        TEST(test_virtual_timer, setup_one),
        TEST(test_virtual_timer_of_a_paused_domain, setup),
        TEST(test_virtual_timers_beside_each_other, setup),
        TEST(test_random, setup),
        TEST(test_cpu_off_and_on, setup),
        TEST(test_cpu_refusals, setup_two),
        TEST(test_pool_refusals, setup),
        TEST(test_pools_are_apart, setup),
        TEST(test_pool_audit_finds, setup),
        TEST(test_random_cpus, setup),
        TEST(test_two_cpus, setup_two),
        TEST(test_random_shares, setup),
        TEST(test_cpus_in_turns, setup_two),
        TEST(test_pinned, setup_two),
        TEST(test_great_weight, setup_two),
        TEST(test_alone, setup_two),
        TEST(test_soft_affinity, setup_two),
        TEST(test_sleepers_gain_nothing, setup),
        TEST(test_wakes_are_prompt, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
