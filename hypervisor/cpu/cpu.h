/* Features of the processor that Croft uses, found once on the boot CPU. */
#ifndef CPU_CPU_H
#define CPU_CPU_H

#include "lib/types.h"

/* smep, smap: present and not switched off by an option */
struct cpu_features {
    bool smep, smap, fsgsbase, umip, gbpages, x2apic, tsc_deadline, rdtscp, xsave, invariant_tsc, mce, pge;
    uint8_t paddr_bits;
    uint32_t max_leaf, max_ext_leaf;
    uint32_t family, model;
    bool ibpb, auto_ibrs, arch_capabilities; /* the MSRs are there: cpu/speculation.h */
    bool amd;
};
extern struct cpu_features cpu_features; /* constant after cpu_init */

/* Boot CPU: features, descriptor tables, syscall MSRs, control registers. After options_parse. */
void cpu_init_boot(void);
/* The same for another CPU, on its own stack, whose percpu has id, apic_id and host_cr3. */
void cpu_init_secondary(void);
unsigned cpu_count(void);        /* CPUs online */
uint32_t cpu_read_apic_id(void); /* of this CPU, by CPUID: the APIC need not be set up */

#endif
