/* sources: hypervisor/sched/time.c */
/* The clock's arithmetic, and the pages in which guests see it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "cpu/cpu.h"
#include "cpu/smp.h"
#include "cpu/tlb.h"
#include "domain/domain.h"
#include "domain/guest_access.h"
#include "lib/log.h"
#include "platform/timers.h"
#include "sched/time.h"

struct cpu_features cpu_features;
cpumask_t cpu_online;
struct list domain_list;
spinlock_t domain_list_lock;
static struct percpu cpu;
static ns_t clock_now;
static uint64_t measured_khz = 1000000, cmos = 1000;
static unsigned cpus = 1, warnings;
static jmp_buf failed;

struct percpu *this_cpu(void) { return &cpu; }
ns_t now(void) { return clock_now; }
unsigned cpu_count(void) { return cpus; }
uint64_t timers_measure_tsc_khz(void) { return measured_khz; }
const char *timers_platform_name(void) { return "test"; }
uint64_t cmos_read_seconds(void) { return cmos; }
void log_print(enum log_level level, const char *fmt, ...) { warnings += level == LOG_WARNING; }
void boot_fail(const char *fmt, ...) { longjmp(failed, 1); }
void vcpu_get_runstate(struct vcpu *v, struct vcpu_runstate_info *out) { memset(out, 7, sizeof(*out)); }

/* The address space that is loaded; guest addresses are only good with the kernel's. */
static uint64_t cr3 = 1;
static unsigned copies;
static void (*after_copy)(void);
void tlb_load_cr3(uint64_t value) { cr3 = value; }
size_t copy_to_guest(void *guest, const void *from, size_t n)
{
    if (cr3 != 1)
        return n;
    memcpy(guest, from, n);
    copies++;
    if (after_copy)
        after_copy();
    return 0;
}

/* On two "CPUs", of which one may have a clock that is behind: faked by running the check twice. */
static void (*smp_twist)(void *arg);
void smp_call(const cpumask_t *mask, void (*fn)(void *), void *arg)
{
    fn(arg);
    if (smp_twist)
        smp_twist(arg);
    fn(arg);
}

static struct domain d;
static struct vcpu v;
static uint8_t shared[PAGE_SIZE] __aligned(4096);

static int setup(void **state)
{
    memset(&d, 0, sizeof(d));
    memset(&v, 0, sizeof(v));
    memset(shared, 0, sizeof(shared));
    list_init(&domain_list);
    list_add_tail(&domain_list, &d.list);
    d.shared_info = (void *)shared;
    d.vcpus[0] = &v;
    v.domain = &d;
    v.info = &d.shared_info->vcpu_info[0];
    v.pv.kernel_mode = true;
    v.pv.kernel_cr3 = 1;
    v.pv.user_cr3 = 2;
    cpu.current_vcpu = &v;
    cr3 = 1;
    copies = warnings = 0;
    after_copy = NULL;
    smp_twist = NULL;
    cpus = 1;
    clock_now = 0;
    return 0;
}

static void test_scale(void **state)
{
    const uint64_t rates[] = {1,       3,       1000,    33333,   999999,  1000000, 1000001,  1999999,
                              2000000, 2000001, 2399987, 3000000, 4000000, 5200000, 123456789};

    srand(7);
    for (unsigned r = 0; r < ARRAY_SIZE(rates); r++) {
        struct time_scale s = {.tsc_base = 12345};

        time_scale_set(&s, rates[r]);
        assert_true(s.mul >= 1U << 31 || rates[r] > 4000000000);
        /* Off by less than a part in 2^31 */
        for (unsigned i = 0; i < 1000; i++) {
            uint64_t ticks = (uint64_t)rand() << (rand() % 12), ns = time_scale_ns(&s, s.tsc_base + ticks);
            unsigned __int128 exact = (unsigned __int128)ticks * 1000000 / rates[r];

            if (exact >> 62)
                continue;
            assert_true(ns <= exact + 1);
            assert_true(exact - ns <= (exact >> 31) + 2 + 1000000 / rates[r]);
        }
        /* time_scale_tsc is the first tick that shows t */
        for (unsigned i = 0; i < 1000; i++) {
            ns_t t = ((uint64_t)rand() << 20 | rand()) >> (rand() % 45);
            uint64_t tsc = time_scale_tsc(&s, t);

            assert_true(time_scale_ns(&s, tsc) >= t);
            if (tsc > s.tsc_base)
                assert_true(time_scale_ns(&s, tsc - 1) < t || t == 0);
        }
    }
    {
        struct time_scale s = {.tsc_base = 5};

        time_scale_set(&s, 1000000); /* as the emulator has it: 1 GHz is exact */
        assert_int_equal(s.mul, 1U << 31);
        assert_int_equal(s.shift, 1);
        assert_int_equal(time_scale_ns(&s, 5 + 123456789123456789), 123456789123456789);
        assert_int_equal(time_scale_tsc(&s, 123456789123456789), 5 + 123456789123456789);
        assert_true(time_scale_tsc(&s, NS_NEVER) == ~0UL);
    }
}

static void test_init(void **state)
{
    measured_khz = 0;
    if (!setjmp(failed)) {
        time_init();
        fail_msg("a TSC without a rate");
    }
    measured_khz = 2400000;
    time_init();
    assert_int_equal(time_scale.tsc_khz, 2400000);
    clock_now = 5;
    assert_int_equal(time_wallclock_ns(), 1000 * 1000000000UL + 5);
}

static void test_wallclock(void **state)
{
    struct shared_info *s = d.shared_info;
    uint32_t version;

    time_init();
    time_update_wallclock(&d);
    version = s->wc_version;
    assert_int_equal(version & 1, 0);
    assert_int_equal(s->wc_sec, 1000);
    clock_now = 10 * 1000000000UL;
    time_set_wallclock(&d, 5000000000UL, 250000000, 9 * 1000000000UL + 500000000);
    assert_int_equal(time_wallclock_ns(), 5000000000UL * 1000000000UL + 750000000);
    assert_true(s->wc_version != version && !(s->wc_version & 1));
    /* time at system time zero: 9.5 s earlier */
    assert_int_equal((uint64_t)s->wc_sec_hi << 32 | s->wc_sec, 5000000000UL - 10);
    assert_int_equal(s->wc_nsec, 750000000);
    d.time_offset_seconds = -3600;
    s->wc_version = 77; /* whatever the guest wrote */
    time_update_wallclock(&d);
    assert_int_equal((uint64_t)s->wc_sec_hi << 32 | s->wc_sec, 5000000000UL - 10 - 3600);
    assert_int_equal(s->wc_version, 78);
}

/* A guest's way to the time, from the ABI header. */
static uint64_t guest_time(const struct vcpu_time_info *t, uint64_t tsc)
{
    uint64_t delta = tsc - t->tsc_timestamp;

    delta = t->tsc_shift < 0 ? delta >> -t->tsc_shift : delta << t->tsc_shift;
    return t->system_time + (uint64_t)(((unsigned __int128)delta * t->tsc_to_system_mul) >> 32);
}

static struct vcpu_time_info area;
static bool saw_odd;
static void look(void) { saw_odd |= area.version & 1; }

static void test_time_page(void **state)
{
    uint32_t version;

    measured_khz = 2893123;
    time_init();
    time_update_vcpu(&v);
    version = v.info->time.version;
    assert_true(version && !(version & 1));
    assert_true(v.info->time.flags & XEN_PVCLOCK_TSC_STABLE_BIT);
    for (uint64_t t = 1; t < 1UL << 60; t *= 3)
        assert_int_equal(guest_time(&v.info->time, time_scale.tsc_base + t),
                         time_scale_ns(&time_scale, time_scale.tsc_base + t));

    after_copy = look;
    memset(&area, 0xff, sizeof(area));
    assert_int_equal(time_register_time_info(&v, (uint64_t)&area), 0);
    assert_memory_equal(&area, &v.time_info, sizeof(area));
    assert_true(saw_odd); /* while it was written */
    time_update_vcpu(&v);
    assert_int_equal(v.info->time.version, version + 2);
    assert_int_equal(area.version, version + 2);
    assert_int_equal(time_register_time_info(&v, 0), 0);
    cr3 = 2;
    assert_int_equal(time_register_time_info(&v, (uint64_t)&area), -EFAULT);
    assert_int_equal(v.time_info_guest, 0);
}

static struct vcpu_runstate_info runstate;
static unsigned updates_seen;
static void look_runstate(void) { updates_seen += runstate.state_entry_time >> 63; }

static void test_runstate(void **state)
{
    v.sched.runstate = RUNSTATE_running;
    v.sched.runstate_entry = 123;
    v.sched.runstate_time[RUNSTATE_blocked] = 456;
    time_switch_in(&v); /* nothing registered */
    assert_int_equal(copies, 0);
    assert_int_equal(time_register_runstate(&v, (uint64_t)&runstate), 0);
    assert_int_equal(runstate.state_entry_time, 123);
    assert_int_equal(runstate.time[RUNSTATE_blocked], 456);
    d.vm_assist = 1U << VMASST_TYPE_runstate_update_flag;
    after_copy = look_runstate;
    v.sched.runstate_entry = 1000;
    time_switch_in(&v);
    assert_int_equal(runstate.state_entry_time, 1000);
    assert_int_equal(updates_seen, 2);
    /* Switched in while in user mode */
    v.pv.kernel_mode = false;
    cr3 = 2;
    v.sched.runstate_entry = 2000;
    time_switch_in(&v);
    assert_int_equal(runstate.state_entry_time, 2000);
    assert_int_equal(cr3, 2);
    assert_int_equal(time_register_runstate(&v, 8), -EFAULT);
    assert_int_equal(v.runstate_guest, (uint64_t)&runstate);
}

/* The other "CPU" saw a TSC far ahead of ours. (Last: the result stays.) */
static void behind(void *arg)
{
    struct {
        spinlock_t lock;
        uint64_t last;
    } *c = arg;

    c->last = rdtsc() + 1000000000000;
}

static void test_tscs_out_of_step(void **state)
{
    cpus = 2;
    time_check_cpus();
    assert_int_equal(warnings, 0);
    smp_twist = behind;
    time_check_cpus();
    assert_int_equal(warnings, 1);
    time_update_vcpu(&v);
    assert_int_equal(v.info->time.flags, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup(f, setup)
        TEST(test_scale),     TEST(test_init),     TEST(test_wallclock),
        TEST(test_time_page), TEST(test_runstate), TEST(test_tscs_out_of_step),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
