/* See cpu/topology.h. Asked for by the tools only. */
#include "cpu/topology.h"
#include "cpu/cpu.h"
#include "cpu/cpumask.h"
#include "cpu/percpu.h"

#define LEVEL_THREAD 1
#define LEVEL_CORE 2

static unsigned bits_for(unsigned count) { return count > 1 ? ilog2(count - 1) + 1 : 0; }

struct apic_id_layout topology_layout(struct cpuid_regs (*host)(uint32_t leaf, uint32_t subleaf), bool amd)
{
    uint32_t last = host(0, 0).a, last_extended = host(0x80000000, 0).a;
    struct apic_id_layout l = {0, 0};
    struct cpuid_regs r;

    if (last >= 0xb && host(0xb, 0).b) {
        for (unsigned i = 0; i < 4; i++) {
            r = host(0xb, i);
            if ((r.c >> 8 & 0xff) == LEVEL_THREAD)
                l.thread_bits = l.package_bits = r.a & 31;
            else if ((r.c >> 8 & 0xff) == LEVEL_CORE)
                l.package_bits = r.a & 31;
        }
        return l;
    }
    r = host(1, 0);
    if (!(r.d >> 28 & 1)) /* HTT: is the count of ids there? */
        return l;
    l.package_bits = bits_for(r.b >> 16 & 0xff);
    if (amd) { /* APM volume 3, E.5.1: before there was leaf 0xb a core had one thread */
        if (last_extended >= 0x80000008 && (host(0x80000008, 0).c >> 12 & 15))
            l.package_bits = host(0x80000008, 0).c >> 12 & 15;
    } else {
        unsigned core_bits = last >= 4 ? bits_for((host(4, 0).a >> 26) + 1) : 0;

        l.thread_bits = l.package_bits > core_bits ? l.package_bits - core_bits : 0;
    }
    return l;
}

/* Of this machine; found anew as long as nobody has. */
static struct apic_id_layout layout(void)
{
    static struct apic_id_layout found;
    static bool known;

    if (!READ_ONCE(known)) {
        found = topology_layout(cpuid, cpu_features.amd);
        __atomic_store_n(&known, true, __ATOMIC_RELEASE);
    }
    return found;
}

uint32_t cpu_core(unsigned cpu)
{
    struct apic_id_layout l = layout();

    return (percpu_of(cpu)->apic_id & ((1U << l.package_bits) - 1)) >> l.thread_bits;
}

uint32_t cpu_package(unsigned cpu) { return percpu_of(cpu)->apic_id >> layout().package_bits; }

unsigned topology_threads(void)
{
    unsigned cpu, n = 0;

    for_each_cpu (cpu, &cpu_online)
        n += cpu_core(cpu) == cpu_core(0) && cpu_package(cpu) == cpu_package(0);
    return n;
}

unsigned topology_cores(void)
{
    unsigned cpu, n = 0;

    for_each_cpu (cpu, &cpu_online)
        n += cpu_package(cpu) == cpu_package(0);
    return max(n / topology_threads(), 1U);
}
