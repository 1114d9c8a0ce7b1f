/* sources: */
/* The flush clock against a model: a flush that is left out must be one that was not needed. CR3 and IPIs are
 * counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/instr.h"

static unsigned long fake_cr3, fake_cr4;
static unsigned cr3_writes, cr4_writes, invalidations, calls;
static void after_write_cr3(void);
#define read_cr3() fake_cr3
#define read_cr4() fake_cr4
#define write_cr3(v) (fake_cr3 = (v), cr3_writes++, after_write_cr3())
#define write_cr4(v) (fake_cr4 = (v), cr4_writes++)
#define invlpg(va) ((void)(va), (void)invalidations++)
#include "../../hypervisor/cpu/tlb.c"

#define CPUS 4
static struct percpu cpus[CPUS];
static unsigned self;
/* The model: does this CPU's TLB hold the old translation? */
static bool stale[CPUS];
static bool flushing_since;
static cpumask_t called;

struct percpu *this_cpu(void) { return &cpus[self]; }
struct percpu *percpu_of(unsigned cpu) { return cpu < CPUS ? &cpus[cpu] : NULL; }

static void after_write_cr3(void)
{
    /* Not yet published: another CPU that looks now must still see this one as late. */
    if (flushing_since)
        assert_true(cpus[self].tlb_time < tlb_clock);
    stale[self] = false;
}

void smp_call(const cpumask_t *mask, void (*fn)(void *), void *arg)
{
    unsigned caller = self;

    calls++;
    called = *mask;
    for_each_cpu (self, mask)
        fn(arg);
    self = caller;
}

static int reset(void **state)
{
    memset(cpus, 0, sizeof(cpus));
    for (unsigned i = 0; i < CPUS; i++)
        cpus[i].id = i;
    memset(stale, 0, sizeof(stale));
    self = 0;
    cr3_writes = cr4_writes = invalidations = calls = 0;
    fake_cr3 = 0x1000;
    fake_cr4 = CR4_PGE | CR4_PAE;
    flushing_since = false;
    return 0;
}

static void local_flush_reloads_what_is_loaded(void **state)
{
    uint64_t before = tlb_clock;

    tlb_flush_local();
    assert_int_equal(fake_cr3, 0x1000);
    assert_int_equal(cr3_writes, 1);
    assert_true(cpus[0].tlb_time > before);
}

static void load_cr3_counts_as_flush(void **state)
{
    uint64_t before = tlb_clock;

    tlb_load_cr3(0x7000);
    assert_int_equal(fake_cr3, 0x7000);
    assert_true(cpus[0].tlb_time > before);
}

static void global_flush_toggles_and_restores(void **state)
{
    tlb_flush_global_local();
    assert_int_equal(cr4_writes, 2);
    assert_int_equal(fake_cr4, CR4_PGE | CR4_PAE);
    fake_cr4 = CR4_PAE;
    tlb_flush_global_local();
    assert_int_equal(cr4_writes, 2);
    assert_int_equal(cr3_writes, 1);
}

static void masks_reach_those_in_them(void **state)
{
    cpumask_t none = {{0}}, me = {{1}}, two = {{5}};

    tlb_flush_mask(&none);
    tlb_flush_page_mask(&none, 0x1000);
    assert_int_equal(cr3_writes + invalidations + calls, 0);
    tlb_flush_mask(&me);
    tlb_flush_page_mask(&me, 0x1000);
    assert_int_equal(calls, 0);
    assert_int_equal(cr3_writes, 1);
    assert_int_equal(invalidations, 1);
    tlb_flush_mask(&two);
    tlb_flush_page_mask(&two, 0x1000);
    assert_int_equal(calls, 2);
    assert_int_equal(cr3_writes, 3);
    assert_int_equal(invalidations, 3);
}

static void since_leaves_out_what_flushed_later(void **state)
{
    cpumask_t all = {{15}}, me = {{1}}, none = {{0}};
    uint64_t stamp = tlb_clock;

    tlb_flush_since(&none, ~0UL);
    assert_int_equal(cr3_writes, 0);
    self = 2;
    tlb_flush_local();
    self = 0;
    tlb_flush_since(&all, stamp);
    assert_int_equal(calls, 1);
    assert_int_equal(called.bits[0], 11);
    assert_int_equal(cr3_writes, 4);
    tlb_flush_since(&all, stamp);
    tlb_flush_since(&me, stamp);
    assert_int_equal(calls, 1);
    assert_int_equal(cr3_writes, 4);
    tlb_flush_since(&me, tlb_clock);
    assert_int_equal(calls, 1);
    assert_int_equal(cr3_writes, 5);
}

/* Random flushes; now and then a translation goes away, all CPUs of a set may hold it, it is stamped, and later must
 * be gone. */
static void random_sequences_leave_nothing_stale(void **state)
{
    srandom(1);
    flushing_since = true;
    for (unsigned round = 0; round < 20000; round++) {
        cpumask_t holders = {{random() % 16}};
        uint64_t stamp;
        unsigned cpu;

        for_each_cpu (cpu, &holders)
            stale[cpu] = true;
        stamp = tlb_clock;
        for (unsigned i = random() % 4; i; i--) {
            self = random() % CPUS;
            if (random() % 2)
                tlb_load_cr3(random() & ~0xfffUL);
            else
                tlb_flush_local();
        }
        self = random() % CPUS;
        tlb_flush_since(&holders, stamp);
        for_each_cpu (cpu, &holders)
            assert_false(stale[cpu]);
        memset(stale, 0, sizeof(stale));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(local_flush_reloads_what_is_loaded, reset),
        cmocka_unit_test_setup(load_cr3_counts_as_flush, reset),
        cmocka_unit_test_setup(global_flush_toggles_and_restores, reset),
        cmocka_unit_test_setup(masks_reach_those_in_them, reset),
        cmocka_unit_test_setup(since_leaves_out_what_flushed_later, reset),
        cmocka_unit_test_setup(random_sequences_leave_nothing_stale, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
