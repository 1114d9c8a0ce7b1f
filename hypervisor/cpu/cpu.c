/* What the processor can do, and the registers that make it do what Croft needs. See cpu/cpu.h. */
#include "cpu/cpu.h"
#include "boot/options.h"
#include "cpu/cpumask.h"
#include "cpu/desc.h"
#include "cpu/fpu.h"
#include "cpu/instr.h"
#include "cpu/percpu.h"
#include "cpu/smp.h"
#include "cpu/speculation.h"
#include "hvm/hvm.h"
#include "lib/log.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "memory/map.h"
#include "pv/mode.h"

/* Page attributes as the PV ABI tells guests: WB, WT, UC-, UC, WC, WP, UC, UC (Intel SDM volume 3, 12.12). The first
 * four are those after reset, so mappings made before keep their meaning. */
#define PAT_OF_ABI 0x050100070406UL

/* After reset nothing is armed and bit 10 is one (Intel SDM volume 3, 18.2.4). */
#define DR7_NONE 0x400UL

#define MSR_MCG_CAP 0x179
#define MSR_MC_CTL(bank) (0x400 + 4 * (bank))
#define MSR_MC_STATUS(bank) (0x401 + 4 * (bank))

struct cpu_features cpu_features;

/* Vendor and model name as CPUID spells them */
static char vendor[13], model_name[49];

/* A fault at the MSR instruction goes on behind the "mov" that would have said that all is well. */
bool rdmsr_safe(uint32_t msr, uint64_t *v)
{
    uint32_t lo = 0, hi = 0, ok = 0;

    __asm__ volatile("1: rdmsr\n\t"
                     "mov $1, %2\n"
                     "2:\n\t"
                     ".pushsection __ex_table, \"a\"\n\t"
                     ".balign 4\n\t"
                     ".long 1b - ., 2b - .\n\t"
                     ".popsection"
                     : "+a"(lo), "+d"(hi), "+r"(ok)
                     : "c"(msr));
    *v = (uint64_t)hi << 32 | lo;
    return ok;
}

bool wrmsr_safe(uint32_t msr, uint64_t v)
{
    uint32_t ok = 0;

    __asm__ volatile("1: wrmsr\n\t"
                     "mov $1, %0\n"
                     "2:\n\t"
                     ".pushsection __ex_table, \"a\"\n\t"
                     ".balign 4\n\t"
                     ".long 1b - ., 2b - .\n\t"
                     ".popsection"
                     : "+r"(ok)
                     : "c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32))
                     : "memory");
    return ok;
}

static bool bit(uint32_t word, unsigned i) { return word >> i & 1; }

static void find_names(void)
{
    struct cpuid_regs r = cpuid(0, 0);
    uint32_t name[13] = {0};
    const char *start = (const char *)name;

    memcpy(vendor, &r.b, 4);
    memcpy(vendor + 4, &r.d, 4);
    memcpy(vendor + 8, &r.c, 4);
    if (cpu_features.max_ext_leaf < 0x80000004)
        return;
    for (unsigned i = 0; i < 3; i++) {
        r = cpuid(0x80000002 + i, 0);
        memcpy(name + 4 * i, &r, sizeof(r));
    }
    while (*start == ' ')
        start++;
    strlcpy(model_name, start, sizeof(model_name));
}

static void find_features(void)
{
    struct cpu_features *f = &cpu_features;
    struct cpuid_regs r = cpuid(0, 0);

    f->max_leaf = r.a;
    r = cpuid(0x80000000, 0);
    f->max_ext_leaf = r.a >> 16 == 0x8000 ? r.a : 0;
    find_names();
    f->amd = !strcmp(vendor, "AuthenticAMD") || !strcmp(vendor, "HygonGenuine");

    r = cpuid(1, 0);
    f->family = r.a >> 8 & 15;
    f->model = r.a >> 4 & 15;
    if (f->family == 6 || f->family == 15)
        f->model |= r.a >> 12 & 0xf0;
    if (f->family == 15)
        f->family += r.a >> 20 & 0xff;
    f->x2apic = bit(r.c, 21);
    f->tsc_deadline = bit(r.c, 24);
    f->xsave = bit(r.c, 26) && f->max_leaf >= 0xd;
    f->mce = bit(r.d, 7) && bit(r.d, 14); /* the exception, and MSRs in the usual form */
    f->pge = bit(r.d, 13);
    if (f->max_leaf >= 7) {
        r = cpuid(7, 0);
        f->fsgsbase = bit(r.b, 0);
        f->smep = bit(r.b, 7) && options.smep;
        f->smap = bit(r.b, 20) && options.smap;
        f->umip = bit(r.c, 2);
        f->ibpb = bit(r.d, 26);
        f->arch_capabilities = bit(r.d, 29);
    }
    if (f->max_ext_leaf >= 0x80000001) {
        r = cpuid(0x80000001, 0);
        f->gbpages = bit(r.d, 26);
        f->rdtscp = bit(r.d, 27);
    }
    if (f->max_ext_leaf >= 0x80000007)
        f->invariant_tsc = bit(cpuid(0x80000007, 0).d, 8);
    if (f->max_ext_leaf >= 0x80000008)
        f->ibpb |= bit(cpuid(0x80000008, 0).b, 12);
    if (f->max_ext_leaf >= 0x80000021)
        f->auto_ibrs = bit(cpuid(0x80000021, 0).a, 8);
    f->paddr_bits = f->max_ext_leaf >= 0x80000008 ? cpuid(0x80000008, 0).a & 0xff : 36;
}

uint32_t cpu_read_apic_id(void)
{
    struct cpuid_regs r;

    if (cpu_features.max_leaf >= 0xb) {
        r = cpuid(0xb, 0);
        if (r.b)
            return r.d;
    }
    return cpuid(1, 0).b >> 24;
}

static void init_control_registers(struct percpu *pc)
{
    const struct cpu_features *f = &cpu_features;

    write_dr7(DR7_NONE);
    write_cr0(CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_MP | CR0_PE);
    pc->cr4 = CR4_PAE | CR4_DE | CR4_OSFXSR | CR4_OSXMMEXCPT | (f->mce ? CR4_MCE : 0) |
              (f->fsgsbase ? CR4_FSGSBASE : 0) | (f->xsave ? CR4_OSXSAVE : 0) | (f->smep ? CR4_SMEP : 0) |
              (f->smap ? CR4_SMAP : 0);
    /* Global pages last, and by a change of the bit: that empties the TLB of entries made under the old attributes. */
    wrmsr(MSR_PAT, PAT_OF_ABI);
    write_cr4(pc->cr4);
    if (f->pge) {
        pc->cr4 |= CR4_PGE;
        write_cr4(pc->cr4);
    }
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE | EFER_NXE);
}

/* Errors that firmware left behind would be taken for new ones; then every bank may report. */
static void init_machine_check(void)
{
    uint64_t capabilities;

    if (!cpu_features.mce || !rdmsr_safe(MSR_MCG_CAP, &capabilities))
        return;
    for (unsigned bank = 0; bank < (capabilities & 0xff); bank++) {
        wrmsr_safe(MSR_MC_STATUS(bank), 0);
        wrmsr_safe(MSR_MC_CTL(bank), ~0UL);
    }
}

/* Descriptor tables first: from there on a fault is reported, and the _safe forms work. */
static void init_this_cpu(struct percpu *pc)
{
    desc_init_cpu();
    init_control_registers(pc);
    fpu_init_cpu();
    init_machine_check();
}

static void log_processor(void)
{
    const struct cpu_features *f = &cpu_features;
    const struct {
        bool there;
        const char *name;
    } names[] = {
        {true, "NX"},
        {f->pge, "PGE"},
        {f->smep, "SMEP"},
        {f->smap, "SMAP"},
        {f->fsgsbase, "FSGSBASE"},
        {f->gbpages, "1GB-pages"},
        {f->xsave, "XSAVE"},
        {f->x2apic, "x2APIC"},
        {f->tsc_deadline, "TSC-deadline"},
        {f->invariant_tsc, "invariant-TSC"},
        {f->mce, "MCE"},
    };
    char text[160];
    size_t n = 0;

    text[0] = '\0';
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (names[i].there && n < sizeof(text))
            n += snprintf(text + n, sizeof(text) - n, " %s", names[i].name);
    log_info("processor: %s \"%s\", family 0x%x, model 0x%x, %u address bits;%s\n", vendor, model_name, f->family,
             f->model, f->paddr_bits, text);
}

void cpu_init_boot(void)
{
    struct percpu *pc = this_cpu();

    find_features();
    pc->id = 0;
    pc->apic_id = cpu_read_apic_id();
    pc->host_cr3 = (uint64_t)host_l4 - IMAGE_START + IMAGE_PHYS;
    smp_set_percpu(0, pc);
    cpumask_set(0, &cpu_online);
    init_this_cpu(pc);
    smap_enabled = cpu_features.smap;
    log_processor();
    speculation_init_boot();
    speculation_init_cpu();
}

void cpu_init_secondary(void)
{
    init_this_cpu(this_cpu());
    speculation_init_cpu();
    hvm_init_cpu();
}

unsigned cpu_count(void)
{
    unsigned cpu, n = 0;

    for_each_cpu (cpu, &cpu_online)
        n++;
    return n;
}
