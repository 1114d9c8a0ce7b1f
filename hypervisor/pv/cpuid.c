/*
 * CPUID policy. A bit is shown to a PV guest if it can use the feature without Croft's help or with the help it gets; what
 * needs ring 0 (page sizes, PCID, SMEP, virtualisation ...), what Croft keeps (MTRRs, performance counters, power), and
 * what would have to be switched with the vcpu and is not (protection keys, AMX) is hidden. User mode executes CPUID
 * natively, and sees the processor; the kernel asks by the forced-emulation prefix. Feature names are those of
 * <xen/arch-x86/cpufeatureset.h>.
 */
#include "pv/cpuid.h"
#include "cpu/cpu.h"
#include "cpu/fpu.h"
#include "domain/domain.h"
#include "hvm/hvm.h"
#include "pv/traps.h"
#include "sched/time.h"

#define F(name) (1U << (XEN_X86_FEATURE_##name % 32))

/* Leaf 1 */
#define SHOW_1C                                                                                                        \
    (F(SSE3) | F(PCLMULQDQ) | F(SSSE3) | F(FMA) | F(CX16) | F(SSE4_1) | F(SSE4_2) | F(MOVBE) | F(POPCNT) | F(AESNI) |  \
     F(XSAVE) | F(AVX) | F(F16C) | F(RDRAND))
#define SHOW_1D                                                                                                        \
    (F(FPU) | F(DE) | F(TSC) | F(MSR) | F(PAE) | F(MCE) | F(CX8) | F(APIC) | F(SEP) | F(MCA) | F(CMOV) | F(PAT) |      \
     F(CLFLUSH) | F(ACPI) | F(MMX) | F(FXSR) | F(SSE) | F(SSE2) | F(SS))
/* Leaf 7 */
#define AVX512_7B                                                                                                      \
    (F(AVX512F) | F(AVX512DQ) | F(AVX512_IFMA) | F(AVX512PF) | F(AVX512ER) | F(AVX512CD) | F(AVX512BW) | F(AVX512VL))
#define SHOW_7B                                                                                                        \
    (F(FSGSBASE) | F(BMI1) | F(AVX2) | F(FDP_EXCP_ONLY) | F(BMI2) | F(ERMS) | F(NO_FPU_SEL) | F(RDSEED) | F(ADX) |     \
     F(CLFLUSHOPT) | F(CLWB) | F(SHA) | AVX512_7B)
#define AVX512_7C (F(AVX512_VBMI) | F(AVX512_VBMI2) | F(AVX512_VNNI) | F(AVX512_BITALG) | F(AVX512_VPOPCNTDQ))
#define SHOW_7C (F(PREFETCHWT1) | F(GFNI) | F(VAES) | F(VPCLMULQDQ) | F(RDPID) | F(CLDEMOTE) | AVX512_7C)
#define AVX512_7D (F(AVX512_4VNNIW) | F(AVX512_4FMAPS) | F(AVX512_VP2INTERSECT) | F(AVX512_FP16))
#define SHOW_7D (F(FSRM) | F(MD_CLEAR) | F(SERIALIZE) | AVX512_7D)
#define SHOW_71A (F(AVX_VNNI) | F(AVX512_BF16) | F(FZRM) | F(FSRS) | F(FSRCS))
/* Leaf 0x80000001. AMD repeats bits of leaf 1 in edx. */
#define COMMON_E1D 0x0183f3ffU
#define SHOW_E1D (F(SYSCALL) | F(NX) | F(MMXEXT) | F(FFXSR) | F(RDTSCP) | F(LM) | F(3DNOWEXT) | F(3DNOW))
#define SHOW_E1C (F(LAHF_LM) | F(ABM) | F(SSE4A) | F(MISALIGNSSE) | F(3DNOWPREFETCH) | F(XOP) | F(FMA4) | F(TBM))
#define SHOW_E8B (F(CLZERO) | F(RSTR_FP_ERR_PTRS) | F(IBPB) | F(SSB_NO) | F(BTC_NO) | F(IBPB_RET))
#define SHOW_E21A (F(LFENCE_DISPATCH) | F(VERW_CLEAR) | F(NSCB) | F(SBPB) | F(IBPB_BRTYPE) | F(SRSO_NO))
#define SHOW_D1A (F(XSAVEOPT) | F(XSAVEC) | F(XGETBV1))

#define XSTATE_SSE_AND_X87 3UL
#define XSTATE_AVX (1UL << 2)
#define XSTATE_AVX512 (7UL << 5)
#define XSTATE_HEADER_END 576 /* legacy region and header */

#define LINEAR_BITS 48
#define MAX_BASIC 0xd
#define MAX_EXTENDED_AMD 0x80000021
#define MAX_EXTENDED_INTEL 0x80000008

struct cpu_policy pv_max_policy, pv_default_policy, hvm_max_policy, hvm_default_policy;

/* ----- the policy ----- */

/* Which bits of the processor's answer are passed on. A leaf that is not here is zero, or is treated below. */
struct leaf_mask {
    uint32_t leaf, a, b, c, d;
};
static const struct leaf_mask masks[] = {
    {0x0, ~0U, ~0U, ~0U, ~0U},
    {0x1, ~0U, 0x0000ffff, SHOW_1C, SHOW_1D},
    {0x2, ~0U, ~0U, ~0U, ~0U},
    {0x7, ~0U, SHOW_7B, SHOW_7C, SHOW_7D},
    {0x80000000, ~0U, ~0U, ~0U, ~0U},
    {0x80000001, ~0U, ~0U, SHOW_E1C, SHOW_E1D | (COMMON_E1D & SHOW_1D)},
    {0x80000002, ~0U, ~0U, ~0U, ~0U},
    {0x80000003, ~0U, ~0U, ~0U, ~0U},
    {0x80000004, ~0U, ~0U, ~0U, ~0U},
    {0x80000005, ~0U, ~0U, ~0U, ~0U},
    {0x80000006, ~0U, ~0U, ~0U, ~0U},
    {0x80000007, 0, 0, 0, F(ITSC)},
    {0x80000008, 0x0000ffff, SHOW_E8B, 0, 0},
    {0x80000019, ~0U, ~0U, 0, 0},
    {0x8000001a, ~0U, 0, 0, 0},
    {0x80000021, SHOW_E21A, 0, 0, 0},
};

/* What a kernel in ring 0 has besides */
static const struct leaf_mask hvm_masks[] = {
    {0x1, 0, 0, F(PCID), F(VME) | F(PSE) | F(PGE) | F(PSE36)},
    {0x7, 0, F(SMEP) | F(SMAP) | F(INVPCID), F(UMIP), 0},
    {0x80000001, 0, 0, F(CR8_LEGACY), F(PAGE1GB)},
};
#define HVM_EMULATED_1C (F(X2APIC) | F(TSC_DEADLINE)) /* whatever the processor has */

struct cpuid_regs *cpu_policy_slot(struct cpu_policy *p, uint32_t leaf, uint32_t subleaf)
{
    switch (leaf) {
    case 0x4:
        return subleaf < POLICY_CACHES ? &p->caches[subleaf] : NULL;
    case 0x7:
        return subleaf == 0 ? &p->basic[7] : subleaf == 1 ? &p->features1 : NULL;
    case 0xb:
        return NULL;
    case 0xd:
        return subleaf == 1 ? &p->xsave1 : NULL;
    }
    if (leaf < POLICY_BASIC)
        return &p->basic[leaf];
    return leaf - LEAF_EXTENDED < POLICY_EXTENDED ? &p->extended[leaf - LEAF_EXTENDED] : NULL;
}

static struct cpuid_regs mask(struct cpuid_regs r, const struct leaf_mask *m)
{
    return (struct cpuid_regs){r.a & m->a, r.b & m->b, r.c & m->c, r.d & m->d};
}

static void add_hvm(struct cpu_policy *p, const struct cpuid_view *w, uint32_t last_basic)
{
    for (unsigned i = 0; i < ARRAY_SIZE(hvm_masks); i++) {
        const struct leaf_mask *m = &hvm_masks[i];
        struct cpuid_regs *to = cpu_policy_slot(p, m->leaf, 0), r = mask(w->host(m->leaf, 0), m);

        if (m->leaf < LEAF_EXTENDED && m->leaf > last_basic)
            continue;
        to->b |= r.b;
        to->c |= r.c;
        to->d |= r.d;
    }
    p->basic[1].c |= HVM_EMULATED_1C;
    p->extended[1].d &= ~F(FFXSR); /* EFER's bit for it cannot be set */
}

uint64_t cpu_policy_cr4(const struct cpu_policy *p)
{
    const struct cpuid_regs *l1 = &p->basic[1], *l7 = &p->basic[7];

    return (l1->c & F(PCID) ? CR4_PCIDE : 0) | (l1->c & F(XSAVE) ? CR4_OSXSAVE : 0) |
           (l7->b & F(FSGSBASE) ? CR4_FSGSBASE : 0) | (l7->b & F(SMEP) ? CR4_SMEP : 0) |
           (l7->b & F(SMAP) ? CR4_SMAP : 0) | (l7->c & F(UMIP) ? CR4_UMIP : 0);
}

void cpu_policy_trim(struct cpu_policy *p, uint64_t xcr0_max)
{
    struct cpuid_regs *l1 = &p->basic[1], *l7 = &p->basic[7], *e1 = &p->extended[1];

    p->xcr0 = 0;
    if ((l1->c & F(XSAVE)) && p->basic[0].a >= 0xd)
        p->xcr0 = XSTATE_SSE_AND_X87 | (l1->c & F(AVX) ? XSTATE_AVX : 0);
    if ((p->xcr0 & XSTATE_AVX) && p->basic[0].a >= 7 && (l7->b & F(AVX512F)))
        p->xcr0 |= XSTATE_AVX512;
    p->xcr0 &= xcr0_max;
    if (!p->xcr0) {
        l1->c &= ~F(XSAVE);
        p->xsave1 = (struct cpuid_regs){0};
    }
    if (!(p->xcr0 & XSTATE_AVX)) {
        l1->c &= ~(F(AVX) | F(FMA) | F(F16C));
        l7->b &= ~F(AVX2);
        l7->c &= ~(F(VAES) | F(VPCLMULQDQ));
        p->features1.a &= ~F(AVX_VNNI);
        e1->c &= ~(F(XOP) | F(FMA4));
    }
    if ((p->xcr0 & XSTATE_AVX512) != XSTATE_AVX512) {
        l7->b &= ~AVX512_7B;
        l7->c &= ~AVX512_7C;
        l7->d &= ~AVX512_7D;
        p->features1.a &= ~F(AVX512_BF16);
    }
}

void cpu_policy_make(struct cpu_policy *p, const struct cpuid_view *w, bool all)
{
    uint32_t last_basic = w->host(0, 0).a, last_extended = w->host(LEAF_EXTENDED, 0).a;
    struct cpuid_regs *e = p->extended;

    *p = (struct cpu_policy){0};
    for (unsigned i = 0; i < ARRAY_SIZE(masks); i++) {
        const struct leaf_mask *m = &masks[i];

        if (m->leaf <= (m->leaf >= LEAF_EXTENDED ? last_extended : last_basic))
            *cpu_policy_slot(p, m->leaf, 0) = mask(w->host(m->leaf, 0), m);
    }
    if (w->hvm)
        add_hvm(p, w, last_basic);
    p->basic[0].a = min(last_basic, (uint32_t)MAX_BASIC);
    if (!w->amd)
        for (unsigned i = 0; i < POLICY_CACHES && last_basic >= 4; i++)
            p->caches[i] = w->host(4, i);
    p->basic[7].a = min(p->basic[7].a, 1U);
    if (p->basic[7].a)
        p->features1.a = w->host(7, 1).a & SHOW_71A;
    if (last_basic >= 0xd)
        p->xsave1.a = w->host(0xd, 1).a & SHOW_D1A;
    e[0].a = min(last_extended, w->amd ? MAX_EXTENDED_AMD : MAX_EXTENDED_INTEL);
    if (!w->amd) {
        e[1].d &= ~(COMMON_E1D & SHOW_1D);
        e[8].b &= ~F(IBPB);
    }
    if (!all || !w->tsc_reliable) /* only who stays on this machine may rely on it */
        e[7].d = 0;
    if (e[8].a) /* linear addresses: four-level paging's, on any processor */
        e[8].a = (e[8].a & 0xff) | min(e[8].a >> 8 & 0xff, (uint32_t)LINEAR_BITS) << 8;
    cpu_policy_trim(p, w->xcr0_max);
}

/* ----- what a vcpu is told ----- */

/* Topology: one package, a core a vcpu, APIC id = 2 * vcpu id (the odd ones are threads that do not exist). */
static unsigned id_bits(const struct cpuid_view *w) { return w->vcpu_count > 1 ? ilog2(2 * w->vcpu_count - 1) + 1 : 1; }

static struct cpuid_regs leaf_1(const struct cpuid_view *w, struct cpuid_regs r)
{
    r.b |= (uint32_t)(uint8_t)(w->vcpu_id * 2) << 24;
    if (w->vcpu_count > 1) {
        r.d |= F(HTT);
        r.b |= min(1U << id_bits(w), 255U) << 16;
    } else {
        r.b |= 1U << 16;
    }
    r.c |= F(HYPERVISOR);
    if (w->hvm
            ? w->osxsave
            : r.c &
                  F(XSAVE)) /* CR4.OSXSAVE is always on then, as native CPUID shows too; PV kernels look for it early */
        r.c |= F(OSXSAVE);
    return r;
}

/* Intel's deterministic cache parameters: the caches are real, the sharing is by vcpu. */
static struct cpuid_regs leaf_4(const struct cpuid_view *w, struct cpuid_regs r)
{
    uint32_t ids = (1U << id_bits(w)) - 1, level = r.a >> 5 & 7;

    if (!(r.a & 31))
        return (struct cpuid_regs){0};
    r.a &= 0x3fff;
    r.a |= (level >= 3 ? min(ids, 0xfffU) : 1U) << 14 | min(ids >> 1, 0x3fU) << 26;
    return r;
}

static struct cpuid_regs leaf_b(const struct cpuid_view *w, uint32_t subleaf)
{
    struct cpuid_regs r = {.c = subleaf & 0xff, .d = w->vcpu_id * 2};

    if (subleaf == 0) { /* threads of a core */
        r.a = 1;
        r.b = 1;
        r.c |= 1U << 8;
    } else if (subleaf == 1) { /* cores of the package */
        r.a = id_bits(w);
        r.b = w->vcpu_count;
        r.c |= 2U << 8;
    }
    return r;
}

/* Size of the standard (not compacted) save area for these components. */
static uint32_t xstate_size(const struct cpuid_view *w, uint64_t components)
{
    uint32_t size = XSTATE_HEADER_END;

    for (unsigned i = 2; i < 63; i++)
        if (components >> i & 1) {
            struct cpuid_regs r = w->host(0xd, i);

            size = max(size, r.a + r.b);
        }
    return size;
}

static struct cpuid_regs leaf_d(const struct cpu_policy *p, const struct cpuid_view *w, uint32_t subleaf)
{
    struct cpuid_regs r = {0};

    if (!p->xcr0 || subleaf > 62)
        return r;
    if (subleaf == 0) {
        r.a = (uint32_t)p->xcr0;
        r.d = (uint32_t)(p->xcr0 >> 32);
        r.b = w->host(0xd, 0).b; /* for what XCR0 has now */
        r.c = xstate_size(w, p->xcr0);
    } else if (subleaf == 1) { /* no supervisor components */
        r.a = p->xsave1.a;
        r.b = r.a & F(XSAVEC) ? w->host(0xd, 1).b : 0;
    } else if (p->xcr0 >> subleaf & 1) {
        r = w->host(0xd, subleaf);
        r.c &= 2; /* alignment in the compacted form; user state */
        r.d = 0;
    }
    return r;
}

static struct cpuid_regs leaf_hypervisor(const struct cpu_policy *p, const struct cpuid_view *w, uint32_t leaf,
                                         uint32_t subleaf)
{
    switch (leaf - LEAF_HYPERVISOR) {
    case 0:
        return (struct cpuid_regs){LEAF_HYPERVISOR + XEN_CPUID_MAX_NUM_LEAVES, XEN_CPUID_SIGNATURE_EBX,
                                   XEN_CPUID_SIGNATURE_ECX, XEN_CPUID_SIGNATURE_EDX};
    case 1: /* version of the ABI */
        return (struct cpuid_regs){4U << 16 | 17, 0, 0, 0};
    case 2: /* one hypercall page, by this MSR */
        return (struct cpuid_regs){1, 0x40000000, w->hvm ? 0 : XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD, 0};
    case 3:
        if (subleaf == 0) /* mode 2: the TSC is never emulated */
            return (struct cpuid_regs){(w->tsc_reliable ? 2U : 0) | (p->extended[1].d & F(RDTSCP) ? 4U : 0), 2,
                                       w->tsc_khz, 0};
        if (subleaf == 1) /* no offset */
            return (struct cpuid_regs){0, 0, w->tsc_mul, (uint32_t)(int32_t)w->tsc_shift};
        if (subleaf == 2)
            return (struct cpuid_regs){w->tsc_khz, 0, 0, 0};
        break;
    case 4:
        if (w->hvm && subleaf == 0)
            return (struct cpuid_regs){XEN_HVM_CPUID_VCPU_ID_PRESENT | XEN_HVM_CPUID_DOMID_PRESENT |
                                           XEN_HVM_CPUID_UPCALL_VECTOR,
                                       w->vcpu_id, w->domid, 0};
        break;
    case 5:
        if (!w->hvm && subleaf == 0)
            return (struct cpuid_regs){0, w->machine_address_bits, 0, 0};
        break;
    }
    return (struct cpuid_regs){0};
}

struct cpuid_regs cpuid_policy(const struct cpu_policy *p, const struct cpuid_view *w, uint32_t leaf, uint32_t subleaf)
{
    struct cpuid_regs r = {0};
    const struct cpuid_regs *kept;

    if (leaf >= LEAF_HYPERVISOR && leaf < LEAF_EXTENDED)
        return leaf <= LEAF_HYPERVISOR + XEN_CPUID_MAX_NUM_LEAVES ? leaf_hypervisor(p, w, leaf, subleaf) : r;
    if (leaf > (leaf >= LEAF_EXTENDED ? p->extended[0].a : p->basic[0].a))
        return r;
    kept = cpu_policy_slot((struct cpu_policy *)p, leaf, subleaf);
    if (kept)
        r = *kept;
    switch (leaf) {
    case 0x1:
        return leaf_1(w, r);
    case 0x4:
        return leaf_4(w, r);
    case 0x7:
        if (subleaf > p->basic[7].a)
            r = (struct cpuid_regs){0};
        break;
    case 0xb:
        return leaf_b(w, subleaf);
    case 0xd:
        return leaf_d(p, w, subleaf);
    case 0x80000001:
        if (w->amd && w->vcpu_count > 1)
            r.c |= F(CMP_LEGACY);
        break;
    case 0x80000007: /* domain 0 stays */
        if (w->hardware_domain && w->tsc_reliable)
            r.d |= w->host(leaf, 0).d & F(ITSC);
        break;
    case 0x80000008:
        if (w->amd && w->vcpu_count > 1)
            r.c = id_bits(w) << 12 | min((1U << id_bits(w)) - 1, 255U);
        break;
    }
    return r;
}

/* ----- this machine ----- */

struct cpuid_view cpuid_machine_view(void)
{
    return (struct cpuid_view){
        .host = cpuid,
        .amd = cpu_features.amd,
        .vcpu_count = 1,
        .xcr0_max = fpu_xcr0_max(),
        .machine_address_bits = cpu_features.paddr_bits,
        .tsc_reliable = cpu_features.invariant_tsc,
        .tsc_khz = (uint32_t)time_scale.tsc_khz,
        .tsc_mul = time_scale.mul,
        .tsc_shift = time_scale.shift,
    };
}

void cpuid_init(void)
{
    struct cpuid_view view = cpuid_machine_view();

    cpu_policy_make(&pv_max_policy, &view, true);
    cpu_policy_make(&pv_default_policy, &view, false);
    view.hvm = true;
    cpu_policy_make(&hvm_max_policy, &view, true);
    cpu_policy_make(&hvm_default_policy, &view, false);
}

const struct cpu_policy *cpu_policy_max(const struct domain *d) { return d->hvm ? &hvm_max_policy : &pv_max_policy; }

const struct cpu_policy *cpu_policy_default(const struct domain *d)
{
    return d->hvm ? &hvm_default_policy : &pv_default_policy;
}

const struct cpu_policy *cpu_policy_of(const struct domain *d)
{
    return d->cpu_policy ? d->cpu_policy : cpu_policy_default(d);
}

void pv_cpuid(const struct vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    struct cpuid_view view = cpuid_machine_view();
    struct cpuid_regs r;

    view.hardware_domain = v->domain->is_hardware;
    view.vcpu_id = v->id;
    view.vcpu_count = v->domain->vcpu_count;
    view.domid = v->domain->id;
    view.hvm = v->hvm;
    view.osxsave = v->hvm && hvm_has_xsave(v);
    r = cpuid_policy(cpu_policy_of(v->domain), &view, leaf, subleaf);
    out[0] = r.a;
    out[1] = r.b;
    out[2] = r.c;
    out[3] = r.d;
}
