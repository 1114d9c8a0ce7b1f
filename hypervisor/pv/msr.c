/*
 * MSR policy: see msr.h. The values are what a kernel needs to see to leave the register alone; the few that are
 * the guest's own (segment bases, TSC_AUX) go to the processor.
 */
#include "pv/msr.h"
#include "cpu/cpu.h"
#include "cpu/instr.h"
#include "lib/log.h"
#include "memory/map.h"
#include "pv/traps.h"

#define MSR_UCODE_REV 0x8b
#define MSR_MCG_CAP 0x179
#define MSR_MCG_STATUS 0x17a
#define MSR_MISC_ENABLE 0x1a0
#define MSR_DEBUGCTL 0x1d9
#define MSR_MC0_CTL 0x400
#define MSR_HYPERCALL_PAGE 0x40000000
#define MSR_K7_EVNTSEL0 0xc0010000
#define MSR_K7_PERFCTR3 0xc0010007
#define MSR_SYSCFG 0xc0010010
#define MSR_HWCR 0xc0010015
#define MSR_TOP_MEM 0xc001001a
#define MSR_TOP_MEM2 0xc001001d
#define MSR_NB_CFG 0xc001001f
#define MSR_INT_PENDING 0xc0010055
#define MSR_MMIO_CONF_BASE 0xc0010058
#define MSR_PSTATE_LIMIT 0xc0010061
#define MSR_PSTATE7 0xc001006b
#define MSR_F15_PERF_CTL 0xc0010200
#define MSR_F15_PERF_CTR5 0xc001020b
#define MSR_DE_CFG 0xc0011029
#define MSR_PLATFORM_ID 0x17

#define MC_BANKS 2 /* shown to guests; reports come by VIRQ_MCA */
#define APIC_DEFAULT_BASE 0xfee00000UL
#define APIC_BASE_BSP (1UL << 8)
#define APIC_BASE_ENABLE (1UL << 11)
#define MISC_ENABLE_PERFMON (1UL << 7)
#define MISC_ENABLE_BTS_UNAVAILABLE (1UL << 11)
#define MISC_ENABLE_PEBS_UNAVAILABLE (1UL << 12)
#define MISC_ENABLE_MONITOR (1UL << 18)
#define DE_CFG_LFENCE_SERIALIZE (1UL << 1)

enum read_policy {
    READ_VALUE,    /* the table's constant */
    READ_HOST,     /* the processor's, or #GP if it has none */
    READ_HARDWARE, /* as READ_HOST for the hardware domain; #GP for others */
    READ_SPECIAL,
};
enum write_policy {
    WRITE_FAULT,
    WRITE_IGNORE, /* no effect; kernels write what they need not */
    WRITE_SAME,   /* no effect; logged unless it is the value that is there */
    WRITE_SPECIAL,
};
enum vendors { ANY, AMD, INTEL };

struct msr_rule {
    uint32_t first, last;
    uint8_t vendor, read, write;
    uint64_t value;
};

static const struct msr_rule rules[] = {
    {MSR_TSC, MSR_TSC, ANY, READ_SPECIAL, WRITE_IGNORE, 0},
    {MSR_PLATFORM_ID, MSR_PLATFORM_ID, INTEL, READ_HOST, WRITE_FAULT, 0},
    {MSR_APIC_BASE, MSR_APIC_BASE, ANY, READ_SPECIAL, WRITE_SAME, 0},
    {MSR_PRED_CMD, MSR_PRED_CMD, AMD, READ_VALUE, WRITE_SPECIAL, 0},
    {MSR_UCODE_REV, MSR_UCODE_REV, ANY, READ_HOST, WRITE_IGNORE, 0},
    {MSR_MCG_CAP, MSR_MCG_CAP, ANY, READ_VALUE, WRITE_FAULT, MC_BANKS},
    {MSR_MCG_STATUS, MSR_MCG_STATUS, ANY, READ_VALUE, WRITE_IGNORE, 0},
    {MSR_MISC_ENABLE, MSR_MISC_ENABLE, INTEL, READ_SPECIAL, WRITE_SAME, 0},
    {MSR_DEBUGCTL, MSR_DEBUGCTL, ANY, READ_VALUE, WRITE_IGNORE, 0},
    {MSR_PAT, MSR_PAT, ANY, READ_HOST, WRITE_SAME, 0},
    {MSR_MC0_CTL, MSR_MC0_CTL + 4 * MC_BANKS - 1, ANY, READ_SPECIAL, WRITE_IGNORE, 0},
    {MSR_HYPERCALL_PAGE, MSR_HYPERCALL_PAGE, ANY, READ_VALUE, WRITE_SPECIAL, 0},
    {MSR_EFER, MSR_EFER, ANY, READ_VALUE, WRITE_SAME, EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE},
    {MSR_FS_BASE, MSR_KERNEL_GS_BASE, ANY, READ_HOST, WRITE_SPECIAL, 0},
    {MSR_TSC_AUX, MSR_TSC_AUX, ANY, READ_SPECIAL, WRITE_SPECIAL, 0},
    {MSR_K7_EVNTSEL0, MSR_K7_PERFCTR3, AMD, READ_VALUE, WRITE_IGNORE, 0}, /* counters that do not count */
    {MSR_SYSCFG, MSR_SYSCFG, AMD, READ_HARDWARE, WRITE_SAME, 0},
    {MSR_HWCR, MSR_HWCR, AMD, READ_VALUE, WRITE_IGNORE, 0},
    {MSR_TOP_MEM, MSR_TOP_MEM, AMD, READ_HARDWARE, WRITE_FAULT, 0},
    {MSR_TOP_MEM2, MSR_TOP_MEM2, AMD, READ_HARDWARE, WRITE_FAULT, 0},
    {MSR_NB_CFG, MSR_NB_CFG, AMD, READ_HARDWARE, WRITE_SAME, 0},
    {MSR_INT_PENDING, MSR_INT_PENDING, AMD, READ_VALUE, WRITE_IGNORE, 0}, /* zero: no C1E to work around */
    {MSR_MMIO_CONF_BASE, MSR_MMIO_CONF_BASE, AMD, READ_HARDWARE, WRITE_SAME, 0},
    {MSR_PSTATE_LIMIT, MSR_PSTATE7, AMD, READ_HARDWARE, WRITE_SAME, 0},
    {MSR_F15_PERF_CTL, MSR_F15_PERF_CTR5, AMD, READ_VALUE, WRITE_IGNORE, 0},
    {MSR_DE_CFG, MSR_DE_CFG, AMD, READ_VALUE, WRITE_SAME, DE_CFG_LFENCE_SERIALIZE},
};

static const struct msr_rule *find_rule(uint32_t msr)
{
    for (unsigned i = 0; i < ARRAY_SIZE(rules); i++)
        if (msr >= rules[i].first && msr <= rules[i].last)
            return rules[i].vendor == ANY || (rules[i].vendor == AMD) == cpu_features.amd ? &rules[i] : NULL;
    return NULL;
}

static bool read_special(const struct vcpu *v, uint32_t msr, uint64_t *value)
{
    switch (msr) {
    case MSR_TSC:
        *value = rdtsc();
        return true;
    case MSR_APIC_BASE:
        *value = APIC_DEFAULT_BASE | APIC_BASE_ENABLE | (v->id == 0 ? APIC_BASE_BSP : 0);
        return true;
    case MSR_MISC_ENABLE:
        if (!rdmsr_safe(msr, value))
            return false;
        *value &= ~(MISC_ENABLE_PERFMON | MISC_ENABLE_MONITOR);
        *value |= MISC_ENABLE_BTS_UNAVAILABLE | MISC_ENABLE_PEBS_UNAVAILABLE;
        return true;
    case MSR_TSC_AUX:
        *value = v->pv.tsc_aux;
        return cpu_features.rdtscp;
    }
    /* Machine-check banks: control (all reporting on), status, address, misc (nothing reported) */
    *value = (msr - MSR_MC0_CTL) % 4 == 0 ? ~0UL : 0;
    return true;
}

bool msr_read(struct vcpu *v, uint32_t msr, uint64_t *value)
{
    const struct msr_rule *r = find_rule(msr);

    if (r) {
        switch (r->read) {
        case READ_VALUE:
            *value = r->value;
            return true;
        case READ_HARDWARE:
            if (v->domain->is_hardware && rdmsr_safe(msr, value))
                return true;
            break;
        case READ_HOST:
            if (rdmsr_safe(msr, value))
                return true;
            break;
        default:
            if (read_special(v, msr, value))
                return true;
        }
    }
    guest_log(LOG_DEBUG, "RDMSR of 0x%x: none that a guest has\n", msr);
    return false;
}

/* The page that the guest names (by mfn, as PV guests do) gets the hypercall entries. */
static bool write_hypercall_page(struct vcpu *v, uint64_t value)
{
    mfn_t m = MFN(value >> PAGE_SHIFT);

    if (value & ~PAGE_MASK) /* the index of the page; there is one */
        return false;
    if (!frame_get_writable(m, v->domain)) {
        guest_log(LOG_WARNING, "hypercall page: frame %#lx is not the domain's to write\n", m.n);
        return false;
    }
    pv_write_hypercall_page(mfn_to_virt(m));
    frame_put_writable(m);
    return true;
}

static bool write_special(struct vcpu *v, uint32_t msr, uint64_t value)
{
    switch (msr) {
    case MSR_FS_BASE:
    case MSR_GS_BASE:
    case MSR_KERNEL_GS_BASE:
        return address_canonical(value) && wrmsr_safe(msr, value); /* not every emulator of a processor checks */
    case MSR_TSC_AUX:
        if (!cpu_features.rdtscp || value >> 32)
            return false;
        v->pv.tsc_aux = value;
        return wrmsr_safe(msr, value);
    case MSR_PRED_CMD:
        return !(value & ~PRED_CMD_IBPB) && wrmsr_safe(msr, value);
    case MSR_HYPERCALL_PAGE:
        return write_hypercall_page(v, value);
    }
    return false;
}

bool msr_write(struct vcpu *v, uint32_t msr, uint64_t value)
{
    const struct msr_rule *r = find_rule(msr);
    uint64_t now;

    if (r) {
        switch (r->write) {
        case WRITE_IGNORE:
            return true;
        case WRITE_SAME:
            if (!msr_read(v, msr, &now))
                return false;
            if (now != value)
                guest_log(LOG_DEBUG, "WRMSR of 0x%x: %#lx ignored, stays %#lx\n", msr, value, now);
            return true;
        case WRITE_SPECIAL:
            if (write_special(v, msr, value))
                return true;
            break;
        }
    }
    guest_log(LOG_DEBUG, "WRMSR of 0x%x, value %#lx: refused\n", msr, value);
    return false;
}
