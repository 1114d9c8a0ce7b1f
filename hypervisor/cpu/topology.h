/* Which CPUs are threads of one core, and cores of one package: from their APIC ids (Intel SDM volume 3, 9.9.3). */
#ifndef CPU_TOPOLOGY_H
#define CPU_TOPOLOGY_H

#include "cpu/instr.h"

/* Bits of an APIC id that number the threads of a core, and the threads of a package. */
struct apic_id_layout {
    unsigned thread_bits, package_bits;
};
/* host: CPUID of the processor, or of a fake one in tests. */
struct apic_id_layout topology_layout(struct cpuid_regs (*host)(uint32_t leaf, uint32_t subleaf), bool amd);

uint32_t cpu_core(unsigned cpu); /* within its package */
uint32_t cpu_package(unsigned cpu);
unsigned topology_threads(void); /* CPUs online that share CPU 0's core */
unsigned topology_cores(void);   /* cores with CPUs online in CPU 0's package */

#endif
