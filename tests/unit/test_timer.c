/* sources: hypervisor/sched/timer.c */
/* Timers on two fake CPUs, against a plain list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "boot/options.h"
#include "cpu/cpumask.h"
#include "cpu/percpu.h"
#include "cpu/softirq.h"
#include "lib/log.h"
#include "platform/apic.h"
#include "sched/time.h"

struct options options;
static struct percpu cpus[2];
static unsigned this;
static ns_t clock_now;
static ns_t hardware[2];
static bool softirq[2];
static unsigned interrupts;
cpumask_t cpu_online;

struct percpu *this_cpu(void) { return &cpus[this]; }
ns_t now(void) { return clock_now; }
uint64_t time_tsc_of(ns_t t) { return t; }
void apic_timer_arm(uint64_t tsc) { hardware[this] = tsc; }
void softirq_register(enum softirq nr, void (*handler)(void)) {}
void softirq_raise_on(unsigned cpu, enum softirq nr) { softirq[cpu] = true; }
void log_print(enum log_level level, const char *fmt, ...) {}

static void on_cpu(unsigned cpu) { this = cpu; }

/* Time passes; interrupts and softirqs happen, those of the last moment not yet. */
static void pass(ns_t t)
{
    ns_t end = clock_now + t;

    for (;;) {
        ns_t next = end;

        for (unsigned c = 0; c < 2; c++) {
            on_cpu(c);
            if (softirq[c]) {
                softirq[c] = false;
                timers_run();
            }
            if (hardware[c] < next)
                next = hardware[c];
        }
        if (softirq[0] || softirq[1])
            continue;
        if (next >= end)
            break;
        clock_now = max(clock_now, next);
        for (unsigned c = 0; c < 2; c++) {
            on_cpu(c);
            if (hardware[c] <= clock_now) {
                hardware[c] = NS_NEVER;
                interrupts++;
                timer_interrupt();
                softirq[c] |= cpus[c].softirq_pending != 0;
                cpus[c].softirq_pending = 0;
            }
        }
    }
    clock_now = end;
    on_cpu(0);
}

static int setup(void **state)
{
    memset(cpus, 0, sizeof(cpus));
    memset(&cpu_online, 0, sizeof(cpu_online));
    clock_now = 1000;
    options.timer_slop = 0;
    interrupts = 0;
    for (unsigned c = 0; c < 2; c++) {
        cpus[c].id = c;
        cpumask_set(c, &cpu_online);
        on_cpu(c);
        hardware[c] = NS_NEVER;
        softirq[c] = false;
        timers_init_cpu();
    }
    on_cpu(0);
    return 0;
}

enum { N = 200 };
static struct timer timers[N];
static struct {
    bool armed;
    ns_t expires;
    unsigned fired;
    unsigned cpu;
} model[N];

static void fired(void *arg)
{
    unsigned i = (struct timer *)arg - timers;

    assert_true(model[i].armed);
    assert_true(clock_now >= model[i].expires);
    assert_true(clock_now <= model[i].expires + 1 + options.timer_slop || model[i].expires < 2000);
    assert_int_equal(this, model[i].cpu);
    assert_false(timer_armed(&timers[i]));
    model[i].armed = false;
    model[i].fired++;
}

static void init_timers(void)
{
    memset(model, 0, sizeof(model));
    for (unsigned i = 0; i < N; i++) {
        model[i].cpu = i % 2;
        timer_init(&timers[i], fired, &timers[i], model[i].cpu);
    }
}

static void set(unsigned i, ns_t expires)
{
    model[i].armed = true;
    model[i].expires = max(expires, clock_now);
    timer_set(&timers[i], expires);
}

static void test_order(void **state)
{
    init_timers();
    for (unsigned i = 0; i < N; i++)
        set(i, clock_now + 1 + (i * 7919) % 1000);
    pass(400);
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(model[i].fired, (i * 7919) % 1000 + 1 < 400);
    pass(700);
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(model[i].fired, 1);
    assert_int_equal(hardware[0], NS_NEVER);
}

static void test_past_and_stop(void **state)
{
    init_timers();
    set(0, 0);
    set(1, 5);
    pass(1);
    assert_int_equal(model[0].fired, 1);
    assert_int_equal(model[1].fired, 1);
    set(0, clock_now + 10);
    set(0, clock_now + 20); /* moved */
    set(2, clock_now + 5);
    timer_stop(&timers[2]);
    timer_stop(&timers[2]);
    timer_stop(&timers[4]);
    model[2].armed = false;
    pass(100);
    assert_int_equal(model[0].fired, 2);
    assert_int_equal(model[2].fired, 0);
    timer_stop(&(struct timer){0}); /* a zeroed one */
    set(0, NS_NEVER);
    pass(1000);
    timer_kill(&timers[0]);
    assert_false(timer_armed(&timers[0]));
}

static void test_other_cpu(void **state)
{
    init_timers();
    on_cpu(0);
    set(1, clock_now + 50); /* CPU 1's */
    assert_true(softirq[1]);
    assert_int_equal(hardware[0], NS_NEVER);
    pass(10);
    assert_int_equal(hardware[1], model[1].expires);
    timer_migrate(&timers[1], 0);
    model[1].cpu = 0;
    assert_true(timer_armed(&timers[1]));
    pass(100);
    assert_int_equal(model[1].fired, 1);
    timer_migrate(&timers[1], 1);
    timer_migrate(&timers[1], 1);
    assert_false(timer_armed(&timers[1]));
}

static unsigned again_count;
static void again(void *arg)
{
    if (++again_count < 10)
        timer_set(arg, clock_now + 100);
}

static void test_rearm_in_handler(void **state)
{
    struct timer t;

    again_count = 0;
    timer_init(&t, again, &t, 0);
    timer_set(&t, clock_now + 100);
    pass(550);
    assert_int_equal(again_count, 5);
    pass(1000);
    assert_int_equal(again_count, 10);
    assert_false(timer_armed(&t));
}

/* Neighbours share an interrupt, those that are further apart do not, and nothing is early or later than the slop. */
static void test_slop_joins_neighbours(void **state)
{
    ns_t start = clock_now;

    init_timers();
    options.timer_slop = 50;
    for (unsigned i = 0; i < 10; i += 2) /* CPU 0's, set before any of them is near */
        set(i, start + 1000 + 5 * i);
    set(10, start + 1051);
    set(12, start + 1200);
    pass(1000);
    assert_int_equal(interrupts, 0);
    pass(1);
    assert_int_equal(model[0].fired, 1); /* exactly */
    assert_int_equal(model[2].fired, 0);
    pass(49);
    assert_int_equal(model[2].fired, 0);
    pass(1);
    for (unsigned i = 2; i < 10; i += 2)
        assert_int_equal(model[i].fired, 1);
    assert_int_equal(interrupts, 2);
    assert_int_equal(model[10].fired, 0);
    pass(49);
    assert_int_equal(model[10].fired, 0);
    pass(1);
    assert_int_equal(model[10].fired, 1);
    assert_int_equal(interrupts, 3);
    assert_int_equal(hardware[0], start + 1200); /* further off than the slop: exact */
    set(14, clock_now + 3);                      /* set here and now: exact as well */
    assert_int_equal(hardware[0], clock_now + 3);
    pass(4);
    assert_int_equal(model[14].fired, 1);
    pass(200);
    assert_int_equal(model[12].fired, 1);
}

/* ---- The heap's own rules, seen through the links of the timers ---- */

/* All below t and beside it: who points to whom, and nobody expires before the one above. Returns how many. */
static unsigned check_below(const struct timer *t, unsigned cpu)
{
    unsigned n = 0;
    const struct timer *before = t;

    for (const struct timer *c = t->child; c; before = c, c = c->next) {
        assert_ptr_equal(c->prev, before);
        assert_true(c->armed && c->cpu == cpu);
        assert_true(c->expires >= t->expires);
        n += 1 + check_below(c, cpu);
    }
    return n;
}

static void check_heaps(void)
{
    for (unsigned c = 0; c < 2; c++) {
        unsigned armed = 0, roots = 0, found = 0;

        for (unsigned i = 0; i < N; i++) {
            if (!timers[i].armed || timers[i].cpu != c)
                continue;
            armed++;
            if (!timers[i].prev) {
                roots++;
                assert_null(timers[i].next);
                found = 1 + check_below(&timers[i], c);
            }
        }
        assert_int_equal(roots, armed != 0);
        assert_int_equal(found, armed);
    }
}

/* Many more timers than anybody has: if a step took time in proportion to their number, this would not end. */
static unsigned in_order;
static ns_t last_expires;
static void fired_in_order(void *arg)
{
    struct timer *t = arg;

    assert_true(t->expires >= last_expires);
    last_expires = t->expires;
    in_order++;
}

static void test_many(void **state)
{
    enum { MANY = 200000 };
    struct timer *many = calloc(MANY, sizeof(*many));
    clock_t start = clock();

    assert_non_null(many);
    srand(5);
    for (unsigned order = 0; order < 3; order++) { /* forwards, backwards, random */
        in_order = 0;
        last_expires = 0;
        clock_now += 10 * MANY;
        for (unsigned i = 0; i < MANY; i++) {
            timer_init(&many[i], fired_in_order, &many[i], 0);
            timer_set(&many[i], clock_now + 1 + (order == 0 ? i : order == 1 ? MANY - i : (unsigned)rand() % MANY));
        }
        for (unsigned i = 0; i < MANY; i += 2)
            timer_stop(&many[i]);
        clock_now += 2 * MANY;
        softirq[0] = true;
        pass(1);
        assert_int_equal(in_order, MANY / 2);
    }
    assert_true(clock() - start < 20 * CLOCKS_PER_SEC);
    free(many);
}

static void random_steps(void)
{
    init_timers();
    srand(6);
    for (unsigned step = 0; step < 200000; step++) {
        unsigned i = rand() % N;

        on_cpu(rand() % 2);
        switch (rand() % 8) {
        case 0:
            timer_stop(&timers[i]);
            model[i].armed = false;
            break;
        case 1:
            model[i].cpu = rand() % 2;
            timer_migrate(&timers[i], model[i].cpu);
            break;
        case 2:
            pass(rand() % 200);
            break;
        default:
            set(i, clock_now + rand() % 3000);
        }
        assert_int_equal(timer_armed(&timers[i]), model[i].armed);
        if (step % 64 == 0)
            check_heaps();
    }
    pass(10000);
    for (unsigned i = 0; i < N; i++)
        assert_false(model[i].armed);
}

static void test_random(void **state) { random_steps(); }

static void test_random_with_slop(void **state)
{
    options.timer_slop = 100;
    random_steps();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup(f, setup)
        TEST(test_order),
        TEST(test_past_and_stop),
        TEST(test_other_cpu),
        TEST(test_rearm_in_handler),
        TEST(test_slop_joins_neighbours),
        TEST(test_many),
        TEST(test_random),
        TEST(test_random_with_slop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
