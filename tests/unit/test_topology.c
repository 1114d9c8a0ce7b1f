/* sources: hypervisor/cpu/topology.c */
/* How APIC ids are divided into packages, cores and threads, by what several processors say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpu/cpu.h"
#include "cpu/cpumask.h"
#include "cpu/percpu.h"
#include "cpu/topology.h"

struct cpu_features cpu_features;
cpumask_t cpu_online;
static struct percpu cpus[4];
struct percpu *this_cpu(void) { return &cpus[0]; }
struct percpu *percpu_of(unsigned cpu) { return &cpus[cpu]; }

static struct cpuid_regs leaf_b(uint32_t leaf, uint32_t subleaf)
{
    if (leaf == 0)
        return (struct cpuid_regs){.a = 0xd};
    if (leaf == 0xb && subleaf == 0)
        return (struct cpuid_regs){1, 2, 1 << 8, 0};
    if (leaf == 0xb && subleaf == 1)
        return (struct cpuid_regs){4, 16, 1 | 2 << 8, 0};
    return (struct cpuid_regs){.c = subleaf};
}

static struct cpuid_regs intel_2006(uint32_t leaf, uint32_t subleaf) /* 4 cores, ids for 8 threads */
{
    return leaf == 0   ? (struct cpuid_regs){.a = 0xa}
           : leaf == 1 ? (struct cpuid_regs){.b = 8 << 16, .d = 1U << 28}
           : leaf == 4 ? (struct cpuid_regs){.a = 3U << 26 | 0x21}
                       : (struct cpuid_regs){0};
}

static struct cpuid_regs amd_2010(uint32_t leaf, uint32_t subleaf) /* 6 cores, 4 bits of id */
{
    return leaf == 0            ? (struct cpuid_regs){.a = 6}
           : leaf == 1          ? (struct cpuid_regs){.b = 6 << 16, .d = 1U << 28}
           : leaf == 0x80000000 ? (struct cpuid_regs){.a = 0x8000001b}
           : leaf == 0x80000008 ? (struct cpuid_regs){.c = 4 << 12 | 5}
                                : (struct cpuid_regs){0};
}

static struct cpuid_regs single(uint32_t leaf, uint32_t subleaf)
{
    return leaf == 0 ? (struct cpuid_regs){.a = 1} : (struct cpuid_regs){.b = 0xff << 16};
}

static void check(struct apic_id_layout l, unsigned thread_bits, unsigned package_bits)
{
    assert_int_equal(l.thread_bits, thread_bits);
    assert_int_equal(l.package_bits, package_bits);
}

static void layouts(void **state)
{
    check(topology_layout(leaf_b, false), 1, 4);
    check(topology_layout(leaf_b, true), 1, 4);
    check(topology_layout(intel_2006, false), 1, 3);
    check(topology_layout(amd_2010, true), 0, 4);
    check(topology_layout(single, false), 0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(layouts)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
