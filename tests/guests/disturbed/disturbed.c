/* run: cpus=2,4 smp=2 append="dom0_max_vcpus=2" time=60 */
/*
 * CPUs that answer late, interrupts that are lost, and interrupts without a cause, by fault injection (croft_op 8). Who waits for a
 * late CPU waits, and the log says for which; nothing else comes of it.
 */
#include "child.h"

#include "../../../hypervisor/hypercall/croft_abi.h"

#define MS 1000000UL  /* ns */
#define PATIENCE 3000 /* ms: LATE_MS of hypervisor/cpu/smp.c */

static volatile bool holding; /* the second vcpu's CPU is disturbed */

static long disturb(unsigned what, unsigned long n)
{
    return hypercall(__HYPERVISOR_croft_op, CROFT_OP_disturb_cpu, what, n, 0, 0);
}

/* By the second vcpu */
static void hold(void *ms)
{
    holding = true;
    check_quiet(disturb(CROFT_DISTURB_HOLD, U(ms) * 1000) == 0, "held");
}

static void lose(void *unused)
{
    (void)unused;
    check_quiet(disturb(CROFT_DISTURB_LOSE_CALL, 0) == 0, "the next call is lost");
    holding = true;
    while (holding) /* an idle CPU need not be called */
        asm volatile("pause");
}

/* Something for which the other vcpu's CPU has to answer: ms until it has. */
static uint64_t flush_both(void)
{
    uint64_t began = time_now();

    check_quiet(update_va_mapping(TEST_VA, 0, UVMF_TLB_FLUSH | UVMF_ALL) == 0, "a flush on both CPUs");
    return (time_now() - began) / MS;
}

static void late(unsigned ms)
{
    uint64_t took;

    log_mark();
    holding = false;
    second_begin(hold, (void *)U(ms));
    while (!holding)
        asm volatile("pause");
    spin_ns(20 * MS);
    took = flush_both();
    check(took > ms / 2 && took < ms * 2 + 1000, "a CPU that answers after %u ms is waited for: %lu ms", ms, took);
    check(log_has("has not done what CPU 0 waits for") == (ms > PATIENCE), "the log says so after %u ms", PATIENCE);
    second_wait();
}

static void lost(void)
{
    uint64_t took;

    log_mark();
    holding = false;
    second_begin(lose, NULL);
    while (!holding)
        asm volatile("pause");
    took = flush_both();
    check(took >= PATIENCE && took < 3 * PATIENCE, "a lost interrupt is sent again: %lu ms", took);
    check(log_has("CPU 1 has not done what CPU 0 waits for"), "the log says so");
    took = flush_both();
    check(took < PATIENCE, "only one is lost: %lu ms", took);
    holding = false;
    second_wait();
}

static void all_vectors(void *unused)
{
    (void)unused;
    for (unsigned round = 0; round < 3; round++)
        for (unsigned vector = 32; vector < 256; vector++)
            check_quiet(disturb(CROFT_DISTURB_SPURIOUS, vector) == 0, "vector %u", vector);
}

static void spurious(void)
{
    static long timer, ipi;
    unsigned timers = 0;
    uint64_t limit;

    if (ipi == 0) {
        timer = bind_virq(VIRQ_TIMER, 0);
        ipi = bind_ipi(0);
        event_unmask((unsigned)timer);
        event_unmask((unsigned)ipi);
    }
    second_begin(all_vectors, NULL);
    all_vectors(NULL);
    second_wait();
    check(flush_both() < PATIENCE, "after interrupts of every vector, CPUs call each other");
    timers = event_counts[timer];
    limit = time_now() + 5000 * MS;
    hypercall(__HYPERVISOR_set_timer_op, time_now() + 2 * MS, 0, 0, 0, 0);
    while (event_counts[timer] == timers && time_now() < limit)
        asm volatile("pause");
    check(event_counts[timer] == timers + 1, "a timer comes once: %u times", event_counts[timer] - timers);
    timers = event_counts[ipi];
    event_send((unsigned)ipi);
    check(event_counts[ipi] == timers + 1, "so does an event");
}

GUEST("disturbed")
{
    map_page(TEST_VA, 0);
    events_enable();
    pin_vcpu(0, 0, 0);
    pin_vcpu(0, 1, 1);
    second_start();
    flush_both();

    check_equal(disturb(CROFT_DISTURB_HOLD, CROFT_DISTURB_HOLD_MAX + 1), -EINVAL);
    check_equal(disturb(CROFT_DISTURB_SPURIOUS, 31), -EINVAL);
    check_equal(disturb(CROFT_DISTURB_SPURIOUS, 256), -EINVAL);
    check_equal(disturb(CROFT_DISTURB_LOSE_CALL + 1, 0), -EINVAL);
    late(400);
    late(PATIENCE + 1000);
    lost();
    spurious();
}
