/* CPUID as PV guests see it: the processor's leaves through a table of masks, topology by vcpu, and the leaves of the
 * ABI. */
#ifndef PV_CPUID_H
#define PV_CPUID_H

#include "cpu/instr.h"

/* What the answer depends on, besides the processor. */
struct cpuid_view {
    struct cpuid_regs (*host)(uint32_t leaf, uint32_t subleaf); /* the processor, or a fake one in tests */
    bool amd;
    bool hardware_domain;
    uint32_t vcpu_id, vcpu_count;
    uint64_t xcr0_max; /* state components that a guest may enable; 0: no XSAVE */
    uint8_t machine_address_bits;
    bool tsc_reliable;
    uint32_t tsc_khz, tsc_mul;
    int8_t tsc_shift;
};

struct cpuid_regs cpuid_policy(const struct cpuid_view *view, uint32_t leaf, uint32_t subleaf);

#endif
