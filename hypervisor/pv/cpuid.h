/*
 * CPUID as guests see it, in two steps. A policy is what a domain is told of the processor: the leaves that are the
 * same for all its vcpus. What differs by vcpu or follows from the rest (APIC ids, OSXSAVE, sizes of the save area, the
 * leaves of the ABI) is made when a guest asks.
 */
#ifndef PV_CPUID_H
#define PV_CPUID_H

#include "cpu/instr.h"

struct domain;

/* Leaves that a policy may have. The ABI has no more, nor have the tools. */
#define POLICY_BASIC 0xeU     /* 0 ... */
#define POLICY_EXTENDED 0x22U /* 0x80000000 ... */
#define POLICY_CACHES 6U      /* subleaves of leaf 4 */
#define LEAF_HYPERVISOR 0x40000000U
#define LEAF_EXTENDED 0x80000000U

struct cpu_policy {
    struct cpuid_regs basic[POLICY_BASIC], extended[POLICY_EXTENDED], caches[POLICY_CACHES];
    struct cpuid_regs features1, xsave1; /* leaf 7 subleaf 1, leaf 0xd subleaf 1 */
    uint64_t xcr0;                       /* state components; follows from the features */
};

/* What the answer depends on, besides the policy. */
struct cpuid_view {
    struct cpuid_regs (*host)(uint32_t leaf, uint32_t subleaf); /* the processor, or a fake one in tests */
    bool amd;
    bool hardware_domain;
    bool hvm;     /* the kernel runs in ring 0, with a local APIC of its own */
    bool osxsave; /* what its CR4.OSXSAVE is */
    uint32_t domid;
    uint32_t vcpu_id, vcpu_count;
    uint64_t xcr0_max; /* state components that a guest may enable; 0: no XSAVE */
    uint8_t machine_address_bits;
    bool tsc_reliable;
    uint32_t tsc_khz, tsc_mul;
    int8_t tsc_shift;
};

/* The policy of this processor: all that a guest of the view's kind can be given ('all'), or what it gets if nobody says otherwise. */
void cpu_policy_make(struct cpu_policy *p, const struct cpuid_view *view, bool all);
/* Takes out of it what depends on features that are not there, and finds xcr0. */
void cpu_policy_trim(struct cpu_policy *p, uint64_t xcr0_max);
/* Where the policy keeps a leaf; null: nowhere, it is made or is zero. */
struct cpuid_regs *cpu_policy_slot(struct cpu_policy *p, uint32_t leaf, uint32_t subleaf);
/* What a vcpu is told. */
struct cpuid_regs cpuid_policy(const struct cpu_policy *p, const struct cpuid_view *view, uint32_t leaf,
                               uint32_t subleaf);

extern struct cpu_policy pv_max_policy, pv_default_policy, hvm_max_policy,
    hvm_default_policy; /* constant after cpuid_init */
void cpuid_init(void);  /* after cpu_init_boot */
const struct cpu_policy *cpu_policy_of(const struct domain *d);
/* Of d's kind: what it has at most, and if nobody says otherwise. */
const struct cpu_policy *cpu_policy_max(const struct domain *d);
const struct cpu_policy *cpu_policy_default(const struct domain *d);
uint64_t cpu_policy_cr4(const struct cpu_policy *p); /* bits of CR4 that come with its features */
struct cpuid_view cpuid_machine_view(void);          /* of this machine, for no particular domain */

#endif
