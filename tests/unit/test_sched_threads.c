/* sources: hypervisor/sched/sched.c hypervisor/sched/pool.c hypervisor/sched/bvt.c hypervisor/sched/timer.c hypervisor/sched/guest_timer.c */
/* libs: -fno-sanitize=address,undefined -fsanitize=thread --param tsan-distinguish-volatile=1 -pthread */
/*
 * The scheduler with a thread for each CPU, under ThreadSanitizer: all of them wake, stop, pin, weigh and kick all vcpus
 * at random while they schedule, one takes CPUs off line and brings them back, and two pools exchange CPUs and a domain. What a vcpu's registers would be is a plain variable here, so that two CPUs that had the
 * same vcpu would be seen, and so would one that took it before the other had let go. No event may be lost.
 */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "boot/options.h"
#include "cpu/smp.h"
#include "cpu/softirq.h"
#include "cpu/trace.h"
#include "domain/domain.h"
#include "lib/log.h"
#include "platform/apic.h"
#include "sched/guest_timer.h"
#include "sched/pool.h"
#include "sched/time.h"
#include "threads.h"

enum { CPUS = 4, VCPUS = 10 };

struct options options;
cpumask_t cpu_online;
static struct percpu cpus[CPUS];
static ns_t hardware[CPUS];
static __thread unsigned this;
static struct domain d, other_dom, idle_dom; /* the other one has the last vcpus */
static struct vcpu v[VCPUS], idle[CPUS];
static struct vcpu_info infos[VCPUS];
static struct registers {
    int cpu; /* that has them; -1: memory */
    unsigned long changed;
} registers[VCPUS];
static bool events[VCPUS];        /* sent, not yet seen; atomic */
static unsigned long sent, seen;  /* atomic */
static bool quiet;                /* no more changes; atomic */
static bool all_on_line;          /* after that: threads may end; atomic */
static unsigned long offs, moves; /* CPU 0's */

bool trace_on;
void trace_record(uint32_t event, const uint32_t *words, unsigned n) {}
struct percpu *this_cpu(void) { return &cpus[this]; }
ns_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return SECONDS(t.tv_sec) + t.tv_nsec;
}
uint64_t time_tsc_of(ns_t t) { return t; }
void apic_timer_arm(uint64_t tsc) { hardware[this] = tsc; }
void softirq_register(enum softirq nr, void (*handler)(void)) {}
void softirq_raise_on(unsigned cpu, enum softirq nr)
{
    __atomic_fetch_or(&cpus[cpu].softirq_pending, 1U << nr, __ATOMIC_SEQ_CST);
}
void smp_send_wake(unsigned cpu) {}
void log_print(enum log_level level, const char *fmt, ...) {}
void panic(const char *fmt, ...) { abort(); }
bool domain_get(struct domain *dom) { return true; }
void domain_put(struct domain *dom) {}
struct domain *domain_next(struct domain *prev) { return !prev ? &d : prev == &d ? &other_dom : NULL; }
bool event_port_pending(struct domain *dom, unsigned port) { return false; }
bool vcpu_event_deliverable(const struct vcpu *p) { return __atomic_load_n(&events[p->id], __ATOMIC_SEQ_CST); }
void event_send_virq(struct vcpu *p, unsigned virq) {}

void context_switch(struct vcpu *prev, struct vcpu *next)
{
    assert_ptr_equal(prev, current);
    assert_int_equal(cpus[this].park == CPU_PARKED, 0);
    for (volatile unsigned i = 0; i < 2000; i++) /* time for others to go wrong */
        ;
    if (!prev->is_idle) {
        assert_int_equal(registers[prev->id].cpu, this);
        registers[prev->id].cpu = -1;
    }
    if (!next->is_idle) {
        assert_int_equal(registers[next->id].cpu, -1);
        registers[next->id].cpu = (int)this;
        registers[next->id].changed++;
    }
    current = next;
    sched_switch_done(prev);
}

/* What this CPU has to do; true if there was something. */
static bool softirqs(void)
{
    uint32_t pending = __atomic_exchange_n(&cpus[this].softirq_pending, 0, __ATOMIC_SEQ_CST);

    if (hardware[this] <= now()) {
        hardware[this] = NS_NEVER;
        timer_interrupt();
    }
    if (pending & 1U << SOFTIRQ_TIMER)
        timers_run();
    if (pending & 1U << SOFTIRQ_SCHEDULE)
        schedule();
    /* On the way out to the guest */
    if (!current->is_idle && __atomic_exchange_n(&events[current->id], false, __ATOMIC_SEQ_CST))
        __atomic_fetch_add(&seen, 1, __ATOMIC_SEQ_CST);
    return pending != 0;
}

/* As cpu/hotplug.c. 'c' is another CPU than this one. */
static void take_down(unsigned c)
{
    if (!cpumask_test(c, &cpu_online))
        return;
    pool_remove_cpu(0, c);
    if (pool_cpu_leaves(c)) /* in the other pool, or the last one */
        return;
    while (!sched_cpu_empty(c))
        sched_yield();
    timers_close_cpu(c);
    __atomic_store_n(&cpus[c].park, CPU_PARK, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&cpus[c].park, __ATOMIC_SEQ_CST) != CPU_PARKED)
        sched_yield();
    pool_vacate_cpu(c);
    offs++;
}

static void bring_up(unsigned c)
{
    if (cpumask_test(c, &cpu_online))
        return;
    __atomic_store_n(&cpus[c].park, CPU_RUNS, __ATOMIC_SEQ_CST);
    while (!cpumask_test(c, &cpu_online))
        sched_yield();
    pool_cpu_joins(c);
}

/* The idle loop's part */
static void park(void)
{
    if (__atomic_load_n(&cpus[this].park, __ATOMIC_SEQ_CST) != CPU_PARK || !current->is_idle ||
        cpus[this].softirq_pending)
        return;
    sched_retire_idle();
    hardware[this] = NS_NEVER;
    cpumask_clear(this, &cpu_online);
    __atomic_store_n(&cpus[this].park, CPU_PARKED, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&cpus[this].park, __ATOMIC_SEQ_CST) == CPU_PARKED)
        sched_yield();
    __atomic_store_n(&cpus[this].softirq_pending, 0, __ATOMIC_SEQ_CST);
    timers_init_cpu();
    sched_add_idle(&idle[this]);
    cpumask_set(this, &cpu_online);
}

/* CPU 0 changes CPUs and pools; the others are in the middle of anything. */
static void change_cpus(unsigned *seed)
{
    unsigned c = 1 + rand_r(seed) % (CPUS - 1);

    switch (rand_r(seed) % 6) {
    case 0:
        take_down(c);
        break;
    case 1:
        bring_up(c);
        break;
    case 2:
        pool_remove_cpu(rand_r(seed) % 2, c);
        break;
    case 3:
        pool_add_cpu(rand_r(seed) % 2, c);
        break;
    default:
        moves += !pool_move_domain(&other_dom, rand_r(seed) % 2);
    }
}

static void change(unsigned *seed)
{
    struct vcpu *p = &v[rand_r(seed) % VCPUS];
    cpumask_t mask = {{1 + rand_r(seed) % 15}};

    if (this == 0)
        change_cpus(seed);
    switch (rand_r(seed) % 10) {
    case 0:
        p->down = true;
        vcpu_sleep(p);
        break;
    case 1:
        if (rand_r(seed) % 2)
            vcpu_set_soft_affinity(p, &mask);
        else
            vcpu_set_affinity(p, &mask); /* its pool may have none of these */
        break;
    case 2:
        vcpu_set_weight(p, 1 + rand_r(seed) % 1000);
        break;
    case 3:
        vcpu_set_warp(p, MILLISECS(rand_r(seed) % 3), MICROSECS(500), MILLISECS(2));
        break;
    case 4:
        if (!current->is_idle)
            vcpu_yield();
        break;
    case 5:
        if (this == 0 && p != current) { /* one at a time: two would wait for each other */
            __atomic_fetch_add(&p->pause_count, 1, __ATOMIC_SEQ_CST);
            vcpu_sleep_sync(p);
            assert_false(p->sched.running);
            vcpu_unpause(p);
        }
        break;
    case 6:
    case 7:
        if (!current->is_idle)
            vcpu_block();
        break;
    case 8:
        if (!__atomic_exchange_n(&events[p->id], true, __ATOMIC_SEQ_CST))
            __atomic_fetch_add(&sent, 1, __ATOMIC_SEQ_CST);
        vcpu_kick(p);
        break;
    default:
        p->down = false;
        vcpu_wake(p);
    }
}

static void *cpu(void *arg)
{
    unsigned seed;

    this = (unsigned)(uintptr_t)arg;
    seed = this + 1;
    while (!__atomic_load_n(&quiet, __ATOMIC_SEQ_CST)) {
        softirqs();
        park();
        change(&seed);
        if (!current->is_idle)
            registers[current->id].changed++;
    }
    for (unsigned c = 1; this == 0 && c < CPUS; c++)
        bring_up(c);
    if (this == 0)
        __atomic_store_n(&all_on_line, true, __ATOMIC_SEQ_CST);
    do {
        softirqs();
        park();
    } while (!__atomic_load_n(&all_on_line, __ATOMIC_SEQ_CST));
    return NULL;
}

static void check_quiet(void)
{
    bool any;

    do {
        any = false;
        for (this = 0; this < CPUS; this ++)
            any |= softirqs();
    } while (any);
    this = 0;
    for (unsigned i = 0; i < VCPUS; i++) {
        bool runs = cpus[v[i].processor].current_vcpu == &v[i];

        assert_int_equal(v[i].sched.running, runs);
        assert_int_equal(registers[i].cpu, runs ? (int)v[i].processor : -1);
        assert_int_equal(v[i].sched.queued, vcpu_runnable(&v[i]) && !runs);
        assert_true(vcpu_runnable(&v[i]) || !runs);
        assert_false(v[i].blocked && events[i]); /* it would sleep for ever */
        if (runs || v[i].sched.queued)
            assert_true(cpumask_test(v[i].processor, &v[i].sched.allowed));
        for (unsigned c = 0; c < CPUS; c++)
            assert_false(v[i].sched.queued && cpus[c].current_vcpu->is_idle && cpumask_test(c, &v[i].sched.allowed));
    }
    assert_int_equal(pool_audit(true), 0);
}

static void test_threads(void **state)
{
    pthread_t threads[CPUS];
    struct timespec nap = {.tv_nsec = MILLISECS(300)};
    unsigned long changed = 0;
    uint32_t id = POOL_ANY;

    options.sched_allowance_us = 50;
    d.vcpu_count = other_dom.vcpu_count = VCPUS;
    for (this = 0; this < CPUS; this ++) {
        cpus[this].id = this;
        hardware[this] = NS_NEVER;
        timers_init_cpu();
    }
    this = 0;
    sched_init();
    for (unsigned c = 0; c < CPUS; c++) {
        idle[c].domain = &idle_dom;
        idle[c].id = idle[c].processor = c;
        idle[c].is_idle = true;
        cpus[c].current_vcpu = &idle[c];
        cpumask_set(c, &cpu_online);
        sched_add_idle(&idle[c]);
        pool_cpu_joins(c);
    }
    assert_int_equal(pool_create(&id), 0);
    for (unsigned i = 0; i < VCPUS; i++) {
        struct domain *owner = i < VCPUS / 2 ? &d : &other_dom;

        v[i].domain = owner;
        v[i].id = i;
        v[i].info = &infos[i];
        v[i].down = true;
        owner->vcpus[i] = &v[i];
        registers[i].cpu = -1;
        sched_init_vcpu(&v[i], i % CPUS);
        pool_place_vcpu(&v[i]);
        v[i].periodic_period = 0;
    }
    for (unsigned round = 0; round < 5; round++) {
        quiet = all_on_line = false;
        threads_start(threads, 0, CPUS, cpu);
        nanosleep(&nap, NULL);
        __atomic_store_n(&quiet, true, __ATOMIC_SEQ_CST);
        threads_join(threads, CPUS);
        check_quiet();
    }
    for (unsigned i = 0; i < VCPUS; i++) {
        changed += registers[i].changed;
        seen += events[i]; /* of one that is paused, down, or waits for its turn */
    }
    print_message("%lu events, %lu changes of registers, %lu times a CPU off line, %lu moves to pools\n", sent, changed,
                  offs, moves);
    assert_int_equal(sent, seen);
    assert_true(sent > 10 && changed > 100 && offs > 0 && moves > 0);
    for (unsigned i = 0; i < VCPUS; i++) {
        v[i].down = true;
        vcpu_sleep(&v[i]);
    }
    check_quiet();
    for (unsigned i = 0; i < VCPUS; i++)
        sched_remove_vcpu(&v[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_threads)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
