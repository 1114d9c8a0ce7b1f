/* sources: hypervisor/cpu/speculation.c */
/* Indices that stay in bounds; IBPB exactly when another domain comes; what is switched on, on which processor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "cpu/cpu.h"
#include "cpu/instr.h"
#include "cpu/percpu.h"
#include "cpu/speculation.h"
#include "domain/domain.h"
#include "lib/log.h"
#include "lib/nospec.h"

#define SPEC_CTRL 0x48
#define PRED_CMD 0x49
#define ARCH_CAPABILITIES 0x10a

struct cpu_features cpu_features;
static struct percpu cpus[2], *this = cpus;
static uint64_t spec_ctrl, efer, arch_capabilities;
static unsigned barriers;

struct percpu *this_cpu(void) { return this; }
void log_print(enum log_level level, const char *fmt, ...) {}
bool rdmsr_safe(uint32_t msr, uint64_t *v)
{
    *v = msr == SPEC_CTRL ? spec_ctrl : msr == MSR_EFER ? efer : msr == ARCH_CAPABILITIES ? arch_capabilities : 0;
    return msr == SPEC_CTRL || msr == MSR_EFER || msr == ARCH_CAPABILITIES;
}
bool wrmsr_safe(uint32_t msr, uint64_t v)
{
    if (msr == PRED_CMD) {
        assert_int_equal(v, 1);
        barriers++;
    } else if (msr == SPEC_CTRL) {
        spec_ctrl = v;
    } else {
        assert_int_equal(msr, MSR_EFER);
        efer = v;
    }
    return true;
}

static void test_index(void **state)
{
    static const uint64_t values[] = {0, 1, 2, 7, 8, 9, 0x7fffffff, 0x80000000, 0xffffffff, 1UL << 63, ~0UL};

    for (unsigned i = 0; i < ARRAY_SIZE(values); i++)
        for (unsigned j = 0; j < ARRAY_SIZE(values); j++)
            assert_true(index_nospec(values[i], values[j]) == (values[i] < values[j] ? values[i] : 0));
    assert_int_equal(index_nospec(6, 7), 6);
}

/* An order of domains on two CPUs, and how many barriers there were after each. The idle vcpu does not call. */
static void test_barriers(void **state)
{
    static struct domain a = {.id = 1, .serial = 1}, b = {.id = 2, .serial = 2}, again = {.id = 1, .serial = 3};
    static const struct {
        unsigned cpu;
        const struct domain *d;
        unsigned barriers;
    } steps[] = {{0, &a, 1}, {0, &a, 1}, {0, &b, 2}, {1, &b, 3}, {1, &b, 3}, {0, &b, 3}, {0, &a, 4}, {0, &again, 5}};

    memset(cpus, 0, sizeof(cpus));
    memset(&cpu_features, 0, sizeof(cpu_features));
    barriers = 0;
    speculation_switch(&a);
    assert_int_equal(barriers, 0); /* the MSR is not there */
    memset(cpus, 0, sizeof(cpus));
    cpu_features.ibpb = true;
    for (unsigned i = 0; i < ARRAY_SIZE(steps); i++) {
        this = &cpus[steps[i].cpu];
        speculation_switch(steps[i].d);
        assert_int_equal(barriers, steps[i].barriers);
    }
    this = cpus;
}

static void start(bool auto_ibrs, bool has_capabilities, uint64_t capabilities)
{
    memset(&cpu_features, 0, sizeof(cpu_features));
    cpu_features.auto_ibrs = auto_ibrs;
    cpu_features.arch_capabilities = has_capabilities;
    arch_capabilities = capabilities;
    spec_ctrl = 0;
    efer = 0xd01;
    speculation_init_boot();
    speculation_init_cpu();
}

static void test_what_stays_on(void **state)
{
    start(false, false, ~0UL); /* MSRs that are not announced are not there */
    assert_true(!spec_ctrl && efer == 0xd01);
    start(false, true, ~2UL);
    assert_true(!spec_ctrl && efer == 0xd01);
    start(false, true, 2);
    assert_true(spec_ctrl == 1 && efer == 0xd01);
    start(true, true, 2);
    assert_true(!spec_ctrl && efer == (0xd01 | 1UL << 21));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_index),
        cmocka_unit_test(test_barriers),
        cmocka_unit_test(test_what_stays_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
