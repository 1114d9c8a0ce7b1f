/* sources: hypervisor/hvm/vlapic.c */
/* libs: -fno-sanitize=address,undefined -fsanitize=thread --param tsan-distinguish-volatile=1 -pthread */
/* The local APIC of a guest's vcpu with other CPUs about it, under ThreadSanitizer: who sends, and timers' handlers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "domain/domain.h"
#include "hvm/hvm.h"
#include "sched/time.h"
#include "threads.h"

enum { SVR = 0xf0, EOI = 0xb0, ESR = 0x280, ICR = 0x300, ICR2 = 0x310, LVTT = 0x320, LVTERR = 0x370 };
enum { ON = 0x1ff, MASKED = 1 << 16, DEADLINE = 1 << 18 };

struct time_scale time_scale = {.mul = 1U << 31, .shift = 1}; /* a tick is a nanosecond */
static ns_t clock_now;
static struct domain dom;
static struct vcpu vcpus[2];
static struct hvm_vcpu hvms[2];
static unsigned notified[2];
static volatile bool stop;

ns_t now(void) { return __atomic_load_n(&clock_now, __ATOMIC_SEQ_CST); }
void hvm_vcpu_notify(struct vcpu *v) { __atomic_fetch_add(&notified[v->id], 1, __ATOMIC_SEQ_CST); }
void hvm_signal_nmi(struct vcpu *v) {}
void hvm_signal_init(struct vcpu *v) {}
void hvm_signal_startup(struct vcpu *v, uint8_t vector) {}
void timer_init(struct timer *t, void (*handler)(void *), void *arg, unsigned cpu)
{
    *t = (struct timer){.handler = handler, .arg = arg, .cpu = cpu};
}
void timer_set(struct timer *t, ns_t expires) {}
void timer_stop(struct timer *t) {}
void timer_kill(struct timer *t) {}
void timer_migrate(struct timer *t, unsigned cpu) {}

static int setup(void **state)
{
    memset(hvms, 0, sizeof(hvms));
    memset(notified, 0, sizeof(notified));
    clock_now = 1000;
    stop = false;
    dom.vcpu_count = 2;
    for (unsigned i = 0; i < 2; i++) {
        vcpus[i] = (struct vcpu){.id = i, .domain = &dom, .hvm = &hvms[i]};
        dom.vcpus[i] = &vcpus[i];
        vlapic_init(&vcpus[i], 2 * i);
        vlapic_write_mmio(&vcpus[i], SVR, ON);
    }
    return 0;
}

static void take(int vector)
{
    vlapic_accept(&vcpus[0], (uint8_t)vector);
    vlapic_write_mmio(&vcpus[0], EOI, 0);
}

enum { SENDERS = 3, SENT = 20000, FIRST = 0x41 }; /* in one word of IRR */
static volatile unsigned acknowledged[SENDERS];

/* Sends its vector, again as soon as the one before was taken. */
static void *sender(void *arg)
{
    unsigned nr = (unsigned)(uintptr_t)arg;

    for (unsigned n = 1; n <= SENT; n++) {
        vlapic_set_irq(&vcpus[0], (uint8_t)(FIRST + nr));
        while (acknowledged[nr] < n)
            sched_yield();
    }
    return NULL;
}

static void test_none_is_lost(void **state)
{
    pthread_t threads[SENDERS];
    unsigned total = 0;

    memset((void *)acknowledged, 0, sizeof(acknowledged));
    threads_start(threads, 0, SENDERS, sender);
    while (total < SENDERS * SENT) {
        int vector = vlapic_pending(&vcpus[0]);

        if (vector < 0) {
            sched_yield();
            continue;
        }
        take(vector);
        acknowledged[vector - FIRST]++;
        total++;
    }
    threads_join(threads, SENDERS);
    assert_int_equal(vlapic_pending(&vcpus[0]), -1);
    assert_int_equal(notified[0], SENDERS * SENT);
}

/* Time, and a host's timer that fires again and again, whether or not it is armed */
static void *ticker(void *arg)
{
    while (!stop) {
        __atomic_fetch_add(&clock_now, 7, __ATOMIC_SEQ_CST);
        hvms[0].vlapic.timer.handler(hvms[0].vlapic.timer.arg);
        sched_yield();
    }
    return NULL;
}

static void write_deadline(uint64_t tsc) { assert_true(vlapic_write_msr(&vcpus[0], 0x6e0, tsc)); }

/* Each deadline that is waited for leads to one interrupt, each that is moved before its time to none. */
static void test_deadlines(void **state)
{
    pthread_t ticking;
    uint64_t tsc;

    vlapic_write_mmio(&vcpus[0], LVTT, DEADLINE | 0x90);
    threads_start(&ticking, 0, 1, ticker);
    for (unsigned n = 0; n < 10000; n++) {
        ns_t due;

        write_deadline(now() + SECONDS(1000));
        due = now() + n % 50;
        write_deadline(due);
        while (vlapic_pending(&vcpus[0]) < 0)
            sched_yield();
        assert_true(now() >= due);
        take(0x90);
        assert_true(vlapic_read_msr(&vcpus[0], 0x6e0, &tsc));
        assert_int_equal(tsc, 0);
        assert_int_equal(vlapic_pending(&vcpus[0]), -1);
    }
    stop = true;
    threads_join(&ticking, 1);
    assert_int_equal(vlapic_pending(&vcpus[0]), -1);
}

/* Another vcpu sends whatever it can, illegal vectors too, while this one changes all that its sending looks at. */
static void *other_vcpu(void *arg)
{
    for (unsigned n = 0; !stop; n++) {
        vlapic_write_mmio(&vcpus[1], ICR2, n << 24);
        vlapic_write_mmio(&vcpus[1], ICR, (n * 0x9e3779b1U) >> 8 & 0xcc9ff);
        vlapic_set_irq(&vcpus[0], n & 0x1f);
        vlapic_pending(&vcpus[0]);
    }
    return NULL;
}

static void test_changes_while_others_send(void **state)
{
    static const uint32_t registers[] = {SVR, LVTERR, LVTT, 0xd0, 0xe0, 0x80, ESR, ICR};
    static const uint64_t modes[] = {0xfee00800, 0xfee00c00, 0xfee00000};
    pthread_t threads[2];

    threads_start(threads, 0, 1, other_vcpu);
    threads_start(threads, 1, 2, ticker);
    srand(3);
    for (unsigned n = 0; n < 100000; n++) {
        int vector = vlapic_pending(&vcpus[0]);

        if (vector >= 0)
            take(vector);
        vlapic_write_mmio(&vcpus[0], registers[(unsigned)rand() % ARRAY_SIZE(registers)], (uint32_t)rand());
        write_deadline(now() + (ns_t)rand() % 100);
        if (n % 64 == 0)
            vlapic_write_base(&vcpus[0], modes[(unsigned)rand() % 3]);
        if (n % 4 == 0)
            vlapic_reset(&vcpus[0]);
        vlapic_write_mmio(&vcpus[0], SVR, ON);
    }
    stop = true;
    threads_join(threads, 2);
    assert_int_equal((hvms[0].vlapic.irr[0] | hvms[1].vlapic.irr[0]) & 0xffff, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_none_is_lost, setup),
        cmocka_unit_test_setup(test_deadlines, setup),
        cmocka_unit_test_setup(test_changes_while_others_send, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
