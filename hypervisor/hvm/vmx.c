/*
 * VT-x: see hvm/vendor.h for what is asked of it. Source: Intel SDM volume 3, chapters 23-28. svm.c is its mirror.
 *
 * What the guest has in the processor while it runs: all that the control structure (VMCS) loads and saves; general registers
 * (vmx_entry.S); CR2 (vmx_run); floating point and its extensions, breakpoints' addresses, TSC_AUX, KERNEL_GS_BASE and the MSRs of
 * SYSCALL (the context switch: Croft's own code uses none of them). The guest reads and writes all of these without Croft, but for
 * debug registers, CR4, and of CR0 the bits that it must not have.
 *
 * The processor keeps a VMCS where it likes once it was loaded. So a vcpu's is loaded while it is current, and at no other time: the
 * context switch clears it, which writes it back. Whoever wants to see one of a vcpu that does not run loads it between begin and
 * end.
 *
 * Virtual processor ids tag what the TLB has of the guest's own tables, as address space ids do in svm.c. What it has of nested
 * tables is tagged by their root, and dropped by INVEPT: after a flush (hvm/p2m.h), and when a vcpu comes to a CPU from another.
 */
#include "cpu/cpu.h"
#include "cpu/desc.h"
#include "cpu/instr.h"
#include "cpu/panic.h"
#include "cpu/percpu.h"
#include "cpu/smp.h"
#include "domain/domain.h"
#include "hvm/vendor.h"
#include "hvm/vmcb.h"
#include "hvm/vmcs.h"
#include "hvm/vmx_audit.h"
#include "hvm/vmx_state.h"
#include "lib/log.h"
#include "lib/string.h"
#include "memory/alloc.h"
#include "memory/map.h"
#include "sched/time.h"

#define CPUID_VMX (1U << 5)        /* leaf 1, ECX */
#define CPUID_RDTSCP (1U << 27)    /* leaf 8000_0001, EDX */
#define CPUID_INVPCID (1U << 10)   /* leaf 7, EBX */
#define CPUID_L1D_FLUSH (1U << 28) /* leaf 7, EDX */
#define MSR_FEATURE_CONTROL 0x3aU
#define FEATURE_LOCKED (1UL << 0)
#define FEATURE_VMXON (1UL << 2)
#define MSR_ARCH_CAPABILITIES 0x10aU
#define ARCH_CAP_NO_L1TF                                                                                               \
    (1UL << 0 | 1UL << 3) /* RDCL_NO; or Croft runs in a guest itself, whose host empties the cache */
#define MSR_FLUSH_CMD 0x10bU
#define FLUSH_L1D 1UL
#define MSR_VMX_BASIC 0x480U
#define BASIC_TRUE_CONTROLS (1UL << 55)
#define BASIC_ERROR_CODE_FREE (1UL << 56)
#define MSR_VMX_MISC 0x485U
#define MISC_TIMER_SHIFT 0x1fUL /* the preemption timer counts the TSC, shifted right by so many bits */
#define MSR_VMX_CR0_FIXED0 0x486U
#define MSR_VMX_CR0_FIXED1 0x487U
#define MSR_VMX_CR4_FIXED0 0x488U
#define MSR_VMX_CR4_FIXED1 0x489U
#define MSR_VMX_SECONDARY 0x48bU
#define MSR_VMX_EPT_VPID 0x48cU
#define MSR_VMX_TRUE_PIN 0x48dU
#define MSR_VMX_TRUE_PROCESSOR 0x48eU
#define MSR_VMX_TRUE_EXIT 0x48fU
#define MSR_VMX_TRUE_ENTRY 0x490U
#define EPT_GIB_PAGES (1UL << 17)
/* Four levels, write-back, 2 MiB pages, INVEPT of one root and of all, INVVPID of all */
#define EPT_VPID_NEEDED (1UL << 6 | 1UL << 14 | 1UL << 16 | 1UL << 20 | 1UL << 25 | 1UL << 26 | 1UL << 32 | 1UL << 42)
#define INV_ROOT 1UL /* INVEPT */
#define INV_ALL 2UL  /* INVEPT and INVVPID */
#define VPIDS 0x10000U

#define PAT_RESET 0x0007040600070406UL
#define DR6_RESET 0xffff0ff0UL
#define DR6_BREAKPOINTS 0xfUL
#define DR6_EVENTS 0xe00fUL
#define DR6_SINGLE_STEP (1UL << 14)
#define DR7_RESET 0x400UL
#define PDPTE_RESERVED 0x1e6UL /* and what is beyond the physical addresses */
/* The guest's own CR0 after reset has the caches off: they are on, as firmware leaves them. */
#define CR0_START CR0_ET
/* Bits of CR0 that the guest sees, but does not have: the processor's own NE has to be on, and neither entry nor exit moves the others */
#define CR0_KEPT (CR0_ET | CR0_NE | CR0_NW | CR0_CD)
#define VIRTUAL_TPR 0x80U /* in the page of the virtual APIC */
/* Milliseconds after which a guest leaves by itself, if the processor has a timer for that. An interrupt should have ended its run long
 * before; Bochs 2.7 forgets those of a guest that was entered with interrupts disabled. */
#define LONGEST_RUN 10

/* Attributes of segments after reset and in flat protected mode */
#define REAL_CODE (0xbU | SEGMENT_S | SEGMENT_P)
#define REAL_DATA (0x3U | SEGMENT_S | SEGMENT_P)
#define FLAT (3U << 14) /* D/B and G */
#define LDT_ATTRIBUTES (0x2U | SEGMENT_P)
#define TSS_BUSY_32 (0xbU | SEGMENT_P)

struct vmx_vcpu {
    uint32_t *vmcs;
    uint8_t *virtual_apic;
    spinlock_t lock;             /* begin to end, where it is not loaded anyway */
    bool launched;               /* it ran since it was last cleared */
    bool ept_stale;              /* its CPU may have something of these nested tables' root from an earlier time */
    unsigned cpu;                /* whose state is in the host's fields */
    uint32_t processor_controls; /* as in the field */
    struct vmx_extra extra;      /* star to kernel_gs_base are in the processor while it is loaded */
};

unsigned vmx_enter(struct cpu_user_regs *regs, bool launched); /* vmx_entry.S */
extern const char vmx_exited[];

static struct {
    uint32_t revision;
    uint32_t pin, processor, secondary, exit, entry; /* controls as they are at the start */
    bool flush_l1d;
    struct vmx_limits limits;
    uint8_t *msr_map; /* of all guests: all MSRs but those that the guest has */
} vmx;

static struct {
    uint32_t *vmxon;           /* the region that VMXON asks for */
    const struct vcpu *loaded; /* whose VMCS this CPU has loaded, beside what begin and end do */
    struct vmx_extra host;     /* Croft's own */
    uint64_t tr_base, gdtr_base, idtr_base, sysenter_cs, sysenter_esp, sysenter_eip, pat, efer;
    uint64_t generation; /* of virtual processor ids; 0 is never one */
    uint32_t next_vpid;
    uint64_t *exits; /* how often, by reason */
} cpus[NR_CPUS];

/* ---- Instructions. Those that fail although they cannot are bugs: UD2 says where. ---- */

#define OR_BUG "\n\tja 1f\n\tud2\n1:"

static inline uint64_t vmread(enum vmcs_field field)
{
    uint64_t value;

    __asm__ volatile("vmread %1, %0" OR_BUG : "=r"(value) : "r"((uint64_t)field) : "cc");
    return value;
}

static inline void vmwrite(enum vmcs_field field, uint64_t value)
{
    __asm__ volatile("vmwrite %1, %0" OR_BUG ::"r"((uint64_t)field), "r"(value) : "cc");
}

static void vmclear(const struct vmx_vcpu *x)
{
    uint64_t address = virt_to_maddr(x->vmcs).n;

    __asm__ volatile("vmclear %0" OR_BUG ::"m"(address) : "cc", "memory");
}

static void vmptrld(const struct vmx_vcpu *x)
{
    uint64_t address = virt_to_maddr(x->vmcs).n;

    __asm__ volatile("vmptrld %0" OR_BUG ::"m"(address) : "cc", "memory");
}

static void invept(uint64_t type, uint64_t root)
{
    const uint64_t which[2] = {root, 0};

    __asm__ volatile("invept %0, %1" OR_BUG ::"m"(which), "r"(type) : "cc", "memory");
}

static void invvpid_all(void)
{
    const uint64_t which[2] = {0, 0};

    __asm__ volatile("invvpid %0, %1" OR_BUG ::"m"(which), "r"(INV_ALL) : "cc", "memory");
}

/* ---- The processor ---- */

static void msr_pass(uint32_t msr, bool writes)
{
    uint32_t at = msr < 0x2000 ? msr : msr - 0xc0000000 + 0x2000;

    vmx.msr_map[at / 8] &= (uint8_t) ~(1U << at % 8);
    if (writes)
        vmx.msr_map[PAGE_SIZE / 2 + at / 8] &= (uint8_t) ~(1U << at % 8);
}

/* The controls that are wanted and those that have to be. False: the processor does not have them all. */
static bool choose(uint32_t msr, uint32_t wanted, struct vmx_allowed *allowed, uint32_t *controls)
{
    uint64_t both = rdmsr(msr);

    allowed->ones = (uint32_t)both;
    allowed->may = (uint32_t)(both >> 32);
    *controls = wanted | allowed->ones;
    return !(wanted & ~allowed->may);
}

static bool choose_controls(void)
{
    struct vmx_limits *l = &vmx.limits;
    uint32_t secondary = PROC2_EPT | PROC2_VPID | PROC2_WBINVD | PROC2_UNRESTRICTED;
    uint32_t pin = PIN_INTR_EXITING | PIN_NMI_EXITING | PIN_VIRTUAL_NMIS;

    if (rdmsr(MSR_VMX_TRUE_PIN) >> 32 & PIN_PREEMPTION_TIMER)
        pin |= PIN_PREEMPTION_TIMER;

    if (cpu_features.rdtscp)
        secondary |= PROC2_RDTSCP;
    if (cpuid(7, 0).b & CPUID_INVPCID)
        secondary |= PROC2_INVPCID;
    return choose(MSR_VMX_TRUE_PIN, pin, &l->pin, &vmx.pin) &&
           choose(MSR_VMX_TRUE_PROCESSOR,
                  PROC_HLT | PROC_MWAIT | PROC_RDPMC | PROC_TPR_SHADOW | PROC_MOV_DR | PROC_ALL_PORTS | PROC_MSR_MAP |
                      PROC_MONITOR | PROC_SECONDARY,
                  &l->processor, &vmx.processor) &&
           choose(MSR_VMX_SECONDARY, secondary, &l->secondary, &vmx.secondary) &&
           choose(MSR_VMX_TRUE_EXIT,
                  EXIT_SAVE_DEBUG | EXIT_HOST_64 | EXIT_SAVE_PAT | EXIT_LOAD_PAT | EXIT_SAVE_EFER | EXIT_LOAD_EFER,
                  &l->exit, &vmx.exit) &&
           choose(MSR_VMX_TRUE_ENTRY, ENTRY_LOAD_DEBUG | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER, &l->entry, &vmx.entry);
}

/* A guest reads what is in the first-level cache through page-table entries that are not present (L1TF), on processors that do so. */
static bool needs_l1d_flush(void)
{
    uint64_t capabilities = 0;

    if (cpu_features.arch_capabilities)
        rdmsr_safe(MSR_ARCH_CAPABILITIES, &capabilities);
    return cpuid(7, 0).d & CPUID_L1D_FLUSH && !(capabilities & ARCH_CAP_NO_L1TF);
}

static const char *vmx_find(void)
{
    static const uint32_t passed[] = {MSR_SYSENTER_CS, MSR_SYSENTER_ESP,  MSR_SYSENTER_EIP, MSR_STAR,
                                      MSR_LSTAR,       MSR_CSTAR,         MSR_SYSCALL_MASK, MSR_FS_BASE,
                                      MSR_GS_BASE,     MSR_KERNEL_GS_BASE};
    struct vmx_limits *l = &vmx.limits;
    uint64_t basic, control;

    if (!(cpuid(1, 0).c & CPUID_VMX))
        return hvm_no_processor;
    if (rdmsr_safe(MSR_FEATURE_CONTROL, &control) && control & FEATURE_LOCKED && !(control & FEATURE_VMXON))
        return "VT-x is switched off in the firmware's setup";
    basic = rdmsr(MSR_VMX_BASIC);
    if (!(basic & BASIC_TRUE_CONTROLS) || !choose_controls())
        return "the processor's VT-x lacks nested paging, unrestricted guests, or another of the controls that Croft "
               "needs";
    l->ept_vpid = rdmsr(MSR_VMX_EPT_VPID);
    if ((l->ept_vpid & EPT_VPID_NEEDED) != EPT_VPID_NEEDED)
        return "the processor's VT-x lacks a way of nested paging, or of flushing it, that Croft needs";
    vmx.revision = (uint32_t)basic & 0x7fffffff;
    vmx.msr_map = alloc_pages(0);
    if (!vmx.msr_map)
        return "there is no memory for it";
    memset(vmx.msr_map, 0xff, PAGE_SIZE);
    for (unsigned i = 0; i < ARRAY_SIZE(passed); i++)
        msr_pass(passed[i], true);
    if (cpu_features.rdtscp)
        msr_pass(MSR_TSC_AUX, false);
    vmx.flush_l1d = needs_l1d_flush();
    l->physical_bits = cpu_features.paddr_bits;
    l->linear_bits = cpuid(0x80000008, 0).a >> 8 & 0xff;
    l->cr0_ones = rdmsr(MSR_VMX_CR0_FIXED0) & ~(CR0_PE | CR0_PG);
    l->cr0_may = rdmsr(MSR_VMX_CR0_FIXED1);
    l->cr4_ones = rdmsr(MSR_VMX_CR4_FIXED0);
    l->cr4_may = rdmsr(MSR_VMX_CR4_FIXED1);
    l->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    l->error_code_free = basic & BASIC_ERROR_CODE_FREE;
    p2m_set_format(true, l->ept_vpid & EPT_GIB_PAGES);
    return NULL;
}

/* What the exit shall load on this CPU, which is as it is now */
static void save_host(unsigned cpu)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __packed gdtr, idtr;
    const uint32_t *tss;

    __asm__ volatile("sgdt %0; sidt %1" : "=m"(gdtr), "=m"(idtr));
    tss = (const uint32_t *)(gdtr.base + TSS_SELECTOR);
    cpus[cpu].tr_base = tss[0] >> 16 | (tss[1] & 0xff) << 16 | (tss[1] & 0xff000000) | (uint64_t)tss[2] << 32;
    cpus[cpu].gdtr_base = gdtr.base;
    cpus[cpu].idtr_base = idtr.base;
    cpus[cpu].sysenter_cs = rdmsr(MSR_SYSENTER_CS);
    cpus[cpu].sysenter_esp = rdmsr(MSR_SYSENTER_ESP);
    cpus[cpu].sysenter_eip = rdmsr(MSR_SYSENTER_EIP);
    cpus[cpu].pat = rdmsr(MSR_PAT);
    cpus[cpu].efer = rdmsr(MSR_EFER);
    cpus[cpu].host = (struct vmx_extra){.star = rdmsr(MSR_STAR),
                                        .lstar = rdmsr(MSR_LSTAR),
                                        .cstar = rdmsr(MSR_CSTAR),
                                        .sfmask = rdmsr(MSR_SYSCALL_MASK)};
}

static void vmx_init_cpu(void)
{
    unsigned cpu = cpu_id();
    uint64_t address, control;

    if (!cpus[cpu].vmxon) { /* it may have been on line before */
        cpus[cpu].vmxon = alloc_pages(0);
        cpus[cpu].exits = heap_alloc(EXIT_TABLE_SIZE * sizeof(uint64_t));
        if (!cpus[cpu].vmxon || !cpus[cpu].exits)
            panic("no memory for VT-x on CPU %u\n", cpu);
        *cpus[cpu].vmxon = vmx.revision;
    }
    if (rdmsr_safe(MSR_FEATURE_CONTROL, &control) && !(control & FEATURE_LOCKED))
        wrmsr(MSR_FEATURE_CONTROL, control | FEATURE_LOCKED | FEATURE_VMXON);
    save_host(cpu);
    address = virt_to_maddr(cpus[cpu].vmxon).n;
    write_cr4(read_cr4() | CR4_VMXE);
    __asm__ volatile("vmxon %0" OR_BUG ::"m"(address) : "cc", "memory");
    invept(INV_ALL, 0);
    invvpid_all();
    cpus[cpu].generation++;
    cpus[cpu].next_vpid = 0;
}

static void vmx_close_cpu(void)
{
    __asm__ volatile("vmxoff" ::: "cc", "memory"); /* INIT, which starts it anew, has no effect before */
    write_cr4(read_cr4() & ~CR4_VMXE);
}

/* ---- Loading ---- */

/* v's structure is loaded from here to end. v is current, or does not run. */
static void begin(const struct vcpu *v)
{
    struct vmx_vcpu *x = v->hvm->vmx;

    if (cpus[cpu_id()].loaded == v)
        return;
    spin_lock(&x->lock);
    vmptrld(x);
}

static void end(const struct vcpu *v)
{
    struct vmx_vcpu *x = v->hvm->vmx;
    const struct vcpu *loaded = cpus[cpu_id()].loaded;

    if (loaded == v)
        return;
    vmclear(x);
    x->launched = false;
    spin_unlock(&x->lock);
    if (loaded)
        vmptrld(loaded->hvm->vmx);
}

static void write_host(unsigned cpu)
{
    vmwrite(VMCS_host_cr0, read_cr0());
    vmwrite(VMCS_host_cr3, percpu_of(cpu)->host_cr3);
    vmwrite(VMCS_host_cr4, read_cr4());
    vmwrite(VMCS_host_tr_base, cpus[cpu].tr_base);
    vmwrite(VMCS_host_gdtr_base, cpus[cpu].gdtr_base);
    vmwrite(VMCS_host_idtr_base, cpus[cpu].idtr_base);
    vmwrite(VMCS_host_sysenter_cs, cpus[cpu].sysenter_cs);
    vmwrite(VMCS_host_sysenter_esp, cpus[cpu].sysenter_esp);
    vmwrite(VMCS_host_sysenter_eip, cpus[cpu].sysenter_eip);
    vmwrite(VMCS_host_pat, cpus[cpu].pat);
    vmwrite(VMCS_host_efer, cpus[cpu].efer);
}

static void vmx_switch_in(struct vcpu *v)
{
    struct vmx_vcpu *x = v->hvm->vmx;
    unsigned cpu = cpu_id();

    vmptrld(x);
    cpus[cpu].loaded = v;
    if (x->cpu != cpu) {
        write_host(cpu);
        x->cpu = cpu;
        x->ept_stale = true;
        v->hvm->asid_generation = 0;
    }
    wrmsr(MSR_STAR, x->extra.star);
    wrmsr(MSR_LSTAR, x->extra.lstar);
    wrmsr(MSR_CSTAR, x->extra.cstar);
    wrmsr(MSR_SYSCALL_MASK, x->extra.sfmask);
    wrmsr(MSR_KERNEL_GS_BASE, x->extra.kernel_gs_base);
}

static void vmx_switch_out(struct vcpu *v)
{
    struct vmx_vcpu *x = v->hvm->vmx;
    unsigned cpu = cpu_id();

    x->extra.star = rdmsr(MSR_STAR);
    x->extra.lstar = rdmsr(MSR_LSTAR);
    x->extra.cstar = rdmsr(MSR_CSTAR);
    x->extra.sfmask = rdmsr(MSR_SYSCALL_MASK);
    x->extra.kernel_gs_base = rdmsr(MSR_KERNEL_GS_BASE);
    wrmsr(MSR_STAR, cpus[cpu].host.star);
    wrmsr(MSR_LSTAR, cpus[cpu].host.lstar);
    wrmsr(MSR_CSTAR, cpus[cpu].host.cstar);
    wrmsr(MSR_SYSCALL_MASK, cpus[cpu].host.sfmask);
    vmclear(x);
    x->launched = false;
    cpus[cpu].loaded = NULL;
}

/* A copy of all of v's, as of now */
static void read_all(const struct vcpu *v, struct vmcs *b)
{
    begin(v);
#define X(name, encoding) b->name = vmread(VMCS_##name);
    VMCS_FIELDS(X)
#undef X
    end(v);
    b->extra = v->hvm->vmx->extra;
}

/* The state that a copy has, but for the host's and most controls */
static void write_state(struct vcpu *v, const struct vmcs *b)
{
#define X(name, encoding) vmwrite(VMCS_##name, b->name);
    VMCS_SEGMENTS(X)
    VMCS_GUEST(X)
    X(cr0_shadow, )
    X(cr4_shadow, )
    X(entry_controls, )
#undef X
    v->hvm->vmx->extra = b->extra;
}

/* ---- The control structure ---- */

static void vmx_destroy(struct vcpu *v);

static int vmx_create(struct vcpu *v)
{
    struct vmx_vcpu *x = new_object(struct vmx_vcpu);

    v->hvm->vmx = x;
    if (!x)
        return -ENOMEM;
    x->vmcs = alloc_pages(0);
    x->virtual_apic = alloc_pages(0);
    if (!x->vmcs || !x->virtual_apic) {
        vmx_destroy(v);
        return -ENOMEM;
    }
    spin_lock_init(&x->lock);
    x->cpu = NR_CPUS;
    x->processor_controls = vmx.processor;
    *x->vmcs = vmx.revision;
    vmclear(x);
    begin(v);
    vmwrite(VMCS_pin_controls, vmx.pin);
    if (vmx.pin & PIN_PREEMPTION_TIMER) /* it starts from there at each entry */
        vmwrite(VMCS_preemption_timer,
                (time_scale.tsc_khz * LONGEST_RUN >> (rdmsr(MSR_VMX_MISC) & MISC_TIMER_SHIFT)) + 1);
    vmwrite(VMCS_processor_controls, vmx.processor);
    vmwrite(VMCS_secondary_controls, vmx.secondary);
    vmwrite(VMCS_exit_controls, vmx.exit);
    vmwrite(VMCS_entry_controls, vmx.entry);
    /* Without these a guest can make the processor deliver exceptions for ever, and never come back. */
    vmwrite(VMCS_exceptions, 1U << X86_MC | 1U << X86_DB | 1U << X86_AC);
    vmwrite(VMCS_fault_mask, 0);
    vmwrite(VMCS_fault_match, 0);
    vmwrite(VMCS_cr3_targets, 0);
    vmwrite(VMCS_exit_msr_stores, 0);
    vmwrite(VMCS_exit_msr_loads, 0);
    vmwrite(VMCS_entry_msr_loads, 0);
    vmwrite(VMCS_entry_event, 0);
    vmwrite(VMCS_msr_map, virt_to_maddr(vmx.msr_map).n);
    vmwrite(VMCS_virtual_apic, virt_to_maddr(x->virtual_apic).n);
    vmwrite(VMCS_tpr_threshold, 0);
    vmwrite(VMCS_ept_root, virt_to_maddr(v->domain->hvm->p2m.root).n | EPTP_FORMAT);
    vmwrite(VMCS_cr0_mask, CR0_KEPT);
    vmwrite(VMCS_cr4_mask, ~0UL);
    vmwrite(VMCS_link, ~0UL);
    vmwrite(VMCS_pat, PAT_RESET);
    vmwrite(VMCS_activity, ACTIVITY_ACTIVE);
    vmwrite(VMCS_host_cs, CROFT_CS);
    vmwrite(VMCS_host_ss, CROFT_SS);
    vmwrite(VMCS_host_ds, 0);
    vmwrite(VMCS_host_es, 0);
    vmwrite(VMCS_host_fs, 0);
    vmwrite(VMCS_host_gs, 0);
    vmwrite(VMCS_host_fs_base, 0);
    vmwrite(VMCS_host_gs_base, 0);
    vmwrite(VMCS_host_tr, TSS_SELECTOR);
    vmwrite(VMCS_host_rip, (uint64_t)vmx_exited);
    write_host(cpu_id()); /* so that it can be checked before it has run */
    vmwrite(VMCS_vpid, 1);
    end(v);
    return 0;
}

static void vmx_destroy(struct vcpu *v)
{
    struct vmx_vcpu *x = v->hvm->vmx;

    if (x->vmcs)
        free_pages(x->vmcs, 0);
    if (x->virtual_apic)
        free_pages(x->virtual_apic, 0);
    heap_free(x);
}

/* Makes the guest come back as soon as it can take an interrupt; an NMI. */
static void set_windows(struct vmx_vcpu *x, bool interrupt, bool nmi)
{
    uint32_t controls = (x->processor_controls & ~(PROC_INTR_WINDOW | PROC_NMI_WINDOW)) |
                        (interrupt ? PROC_INTR_WINDOW : 0) | (nmi ? PROC_NMI_WINDOW : 0);

    if (controls == x->processor_controls)
        return;
    x->processor_controls = controls;
    vmwrite(VMCS_processor_controls, controls);
}

#define SET_SEGMENT(s, selector, attributes, limit, base)                                                              \
    (vmwrite(VMCS_##s##_selector, selector), vmwrite(VMCS_##s##_attributes, attributes),                               \
     vmwrite(VMCS_##s##_limit, limit), vmwrite(VMCS_##s##_base, base))
#define SET_DATA_SEGMENTS(...)                                                                                         \
    (SET_SEGMENT(ds, __VA_ARGS__), SET_SEGMENT(es, __VA_ARGS__), SET_SEGMENT(fs, __VA_ARGS__),                         \
     SET_SEGMENT(gs, __VA_ARGS__), SET_SEGMENT(ss, __VA_ARGS__))

static void set_cr0(uint64_t value)
{
    vmwrite(VMCS_cr0, (value & ~(CR0_NW | CR0_CD)) | vmx.limits.cr0_ones);
    vmwrite(VMCS_cr0_shadow, value);
}

static void set_cr4(uint64_t value)
{
    vmwrite(VMCS_cr4, value | vmx.limits.cr4_ones);
    vmwrite(VMCS_cr4_shadow, value);
}

/* What both starts have in common: state of the processor after INIT (table 9-1), but for segments. */
static void start(struct vcpu *v, uint64_t cr0)
{
    struct vmx_vcpu *x = v->hvm->vmx;

    v->hvm->asid_generation = 0; /* nothing of what it had in its TLB */
    x->extra = (struct vmx_extra){.dr6 = DR6_RESET};
    if (cpus[cpu_id()].loaded == v) { /* they are in the processor */
        wrmsr(MSR_STAR, 0);
        wrmsr(MSR_LSTAR, 0);
        wrmsr(MSR_CSTAR, 0);
        wrmsr(MSR_SYSCALL_MASK, 0);
        wrmsr(MSR_KERNEL_GS_BASE, 0);
    }
    set_cr0(cr0);
    set_cr4(0);
    vmwrite(VMCS_cr3, 0);
    vmwrite(VMCS_efer, 0);
    vmwrite(VMCS_entry_controls, vmx.entry);
    vmwrite(VMCS_dr7, DR7_RESET);
    vmwrite(VMCS_debugctl, 0);
    vmwrite(VMCS_interruptibility, 0);
    vmwrite(VMCS_pending_debug, 0);
    set_windows(x, false, false);
    vmwrite(VMCS_gdtr_base, 0);
    vmwrite(VMCS_idtr_base, 0);
    vmwrite(VMCS_gdtr_limit, 0xffff);
    vmwrite(VMCS_idtr_limit, 0xffff);
    SET_SEGMENT(ldtr, 0, LDT_ATTRIBUTES, 0xffff, 0);
    SET_SEGMENT(tr, 0, TSS_BUSY_32, 0xffff, 0);
    vmwrite(VMCS_sysenter_cs, 0);
    vmwrite(VMCS_sysenter_esp, 0);
    vmwrite(VMCS_sysenter_eip, 0);
}

static void vmx_start_real(struct vcpu *v, uint8_t vector)
{
    begin(v);
    start(v, CR0_START);
    SET_SEGMENT(cs, (uint64_t)vector << 8, REAL_CODE, 0xffff, (uint64_t)vector << 12);
    SET_DATA_SEGMENTS(0, REAL_DATA, 0xffff, 0);
    end(v);
}

static void vmx_start_flat(struct vcpu *v)
{
    begin(v);
    start(v, CR0_START | CR0_PE);
    SET_SEGMENT(cs, 0x8, REAL_CODE | FLAT, ~0U, 0); /* the selectors mean nothing: there is no GDT */
    SET_DATA_SEGMENTS(0x10, REAL_DATA | FLAT, ~0U, 0);
    vmwrite(VMCS_tr_limit, 0x67);
    end(v);
}

static uint64_t get(const struct vcpu *v, enum hvm_reg reg)
{
    switch (reg) {
    case HVM_CR0:
        return (vmread(VMCS_cr0) & ~CR0_KEPT) | (vmread(VMCS_cr0_shadow) & CR0_KEPT);
    case HVM_CR2:
        return v->hvm->vmx->extra.cr2;
    case HVM_CR3:
        return vmread(VMCS_cr3);
    case HVM_CR4:
        return vmread(VMCS_cr4_shadow);
    case HVM_EFER:
        return vmread(VMCS_efer);
    case HVM_PAT:
        return vmread(VMCS_pat);
    case HVM_DR6:
        return v->hvm->vmx->extra.dr6;
    case HVM_DR7:
        return vmread(VMCS_dr7);
    default:
        return SEGMENT_DPL(vmread(VMCS_ss_attributes));
    }
}

static uint64_t vmx_get(const struct vcpu *v, enum hvm_reg reg)
{
    uint64_t value;

    begin(v);
    value = get(v, reg);
    end(v);
    return value;
}

/* The entry takes the four entries of a 32-bit kernel's highest table as they are in the structure. One with reserved bits, which
 * a processor would refuse to load, is not present. */
static void load_pdptes(const struct vcpu *v)
{
    static const enum vmcs_field fields[] = {VMCS_pdpte0, VMCS_pdpte1, VMCS_pdpte2, VMCS_pdpte3};
    const uint64_t beyond = ~(~0UL >> (64 - vmx.limits.physical_bits));
    uint64_t entries[4] = {0}, at = vmread(VMCS_cr3) & 0xffffffe0;

    if (!(vmread(VMCS_cr0) & CR0_PG) || !(vmread(VMCS_cr4) & CR4_PAE) || vmread(VMCS_efer) & EFER_LMA)
        return;
    hvm_read_physical(v, at, entries, sizeof(entries));
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++)
        vmwrite(fields[i], entries[i] & (PDPTE_RESERVED | beyond) ? 0 : entries[i]);
}

static void set(struct vcpu *v, enum hvm_reg reg, uint64_t value)
{
    switch (reg) {
    case HVM_CR0:
        set_cr0(value);
        v->hvm->asid_generation = 0;
        load_pdptes(v);
        break;
    case HVM_CR2:
        v->hvm->vmx->extra.cr2 = value;
        break;
    case HVM_CR3:
        vmwrite(VMCS_cr3, value);
        v->hvm->asid_generation = 0;
        break;
    case HVM_CR4:
        if ((vmread(VMCS_cr4_shadow) ^ value) & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP))
            v->hvm->asid_generation = 0; /* as the MOV would have done: a new id is an empty TLB */
        set_cr4(value);
        load_pdptes(v);
        break;
    case HVM_EFER:
        vmwrite(VMCS_efer, value);
        vmwrite(VMCS_entry_controls, vmx.entry | (value & EFER_LMA ? ENTRY_LONG_MODE : 0));
        break;
    case HVM_PAT:
        vmwrite(VMCS_pat, value);
        break;
    case HVM_DR6:
        v->hvm->vmx->extra.dr6 = value;
        break;
    case HVM_DR7:
        vmwrite(VMCS_dr7, value);
        break;
    case HVM_CPL:
        BUG();
    }
}

static void vmx_set(struct vcpu *v, enum hvm_reg reg, uint64_t value)
{
    begin(v);
    set(v, reg, value);
    end(v);
}

static struct hvm_paging vmx_paging(const struct vcpu *v)
{
    struct hvm_paging p;

    begin(v);
    p = (struct hvm_paging){get(v, HVM_CR0), get(v, HVM_CR3), get(v, HVM_EFER)};
    end(v);
    return p;
}

static bool in_64_bit_mode(void)
{
    return vmread(VMCS_efer) & EFER_LMA && vmx_attributes_to_abi(vmread(VMCS_cs_attributes)) & SEGMENT_L;
}

static bool vmx_in_64_bit_kernel(const struct vcpu *v)
{
    bool yes;

    begin(v);
    yes = !get(v, HVM_CPL) && in_64_bit_mode();
    end(v);
    return yes;
}

static struct hvm_segment vmx_segment(const struct vcpu *v, enum insn_segment which)
{
    const unsigned n = 2 * which; /* both in the order of their numbers */
    struct hvm_segment s;

    _Static_assert(VMCS_gs_base - VMCS_es_base == 2 * SEG_GS, "in that order");
    begin(v);
    s = (struct hvm_segment){(uint16_t)vmread(VMCS_es_selector + n),
                             (uint16_t)vmx_attributes_to_abi(vmread(VMCS_es_attributes + n)),
                             (uint32_t)vmread(VMCS_es_limit + n), vmread(VMCS_es_base + n)};
    end(v);
    return s;
}

static void vmx_save(const struct vcpu *v, struct hvm_hw_cpu *c)
{
    struct vmcs b;

    read_all(v, &b);
    vmx_state_save(&b, c);
}

static const char *vmx_check(const struct vcpu *v, const struct hvm_hw_cpu *c)
{
    struct vmcs b, scratch;

    read_all(v, &b);
    return vmx_state_check(&b, c, &vmx.limits, &scratch);
}

static void vmx_load(struct vcpu *v, const struct hvm_hw_cpu *c)
{
    struct vmcs b;

    read_all(v, &b);
    vmx_state_load(&b, c, &vmx.limits);
    begin(v);
    write_state(v, &b);
    load_pdptes(v);
    set_windows(v->hvm->vmx, false, false);
    end(v);
    v->hvm->asid_generation = 0; /* nothing of what its TLB holds is this state's */
}

static void vmx_report(const struct vcpu *v)
{
    struct vmcs b;

    read_all(v, &b);
    vmx_dump(&b);
}

/* ---- Before the entry ---- */

/* From now on v begins with an empty TLB, and with it those others whose ids are of an older generation. */
static void new_vpid(struct vcpu *v, unsigned cpu, uint64_t flushes)
{
    struct hvm_vcpu *h = v->hvm;

    if (h->vmx->ept_stale || h->flushed != flushes)
        invept(INV_ROOT, virt_to_maddr(v->domain->hvm->p2m.root).n | EPTP_FORMAT);
    if (++cpus[cpu].next_vpid >= VPIDS) {
        cpus[cpu].generation++;
        cpus[cpu].next_vpid = 1; /* 0 is the host's */
        invvpid_all();
    }
    h->vmx->ept_stale = false;
    h->asid_cpu = cpu;
    h->asid_generation = cpus[cpu].generation;
    h->flushed = flushes;
    vmwrite(VMCS_vpid, cpus[cpu].next_vpid);
}

/* What has to wait, the vector (-1: none) or an NMI, makes the guest come back as soon as it can take it. */
static inline void wait_for_window(struct vcpu *v, int vector, uint32_t cr8)
{
    bool held = cr8 && vector < 0 && unlikely(vlapic_held_by_tpr(v));

    set_windows(v->hvm->vmx, vector >= 0, v->pv.nmi_pending);
    vmwrite(VMCS_tpr_threshold, held ? cr8 : 0); /* a lower TPR lets it in */
}

/* One event at an entry. */
static void inject(struct vcpu *v, const struct cpu_user_regs *regs, uint32_t cr8)
{
    struct hvm_vcpu *h = v->hvm;
    uint64_t blocked = vmread(VMCS_interruptibility);
    bool shadow = blocked & INTERRUPT_SHADOW_VMX;
    int vector = hvm_pending_vector(v);

    if (unlikely(h->pending_event)) {
        /* What blocked it ends with its delivery; an NMI that was interrupted had blocked itself. */
        if (blocked)
            vmwrite(VMCS_interruptibility,
                    (h->pending_event & EVENT_TYPE) == EVENT_TYPE_NMI ? 0 : blocked & BLOCKED_BY_NMI);
        vmwrite(VMCS_entry_error, h->pending_event >> EVENT_ERROR_SHIFT);
        vmwrite(VMCS_entry_event, (uint32_t)h->pending_event);
        h->pending_event = 0;
    } else if (unlikely(v->pv.nmi_pending) && !shadow && hvm_take_nmi(v)) {
        vmwrite(VMCS_entry_event, EVENT_VALID | EVENT_TYPE_NMI | X86_NMI);
    } else if (vector >= 0 && regs->rflags & EFLAGS_IF && !shadow) {
        vmwrite(VMCS_entry_event, EVENT_VALID | EVENT_TYPE_INTR | hvm_accept_vector(v, vector));
        vector = hvm_pending_vector(v);
    }
    wait_for_window(v, vector, cr8);
}

/* ---- Exits ---- */

typedef void exit_handler_t(struct vcpu *v, struct cpu_user_regs *regs);

static void end_shadow(void)
{
    uint64_t blocked = vmread(VMCS_interruptibility);

    if (unlikely(blocked & INTERRUPT_SHADOW_VMX))
        vmwrite(VMCS_interruptibility, blocked & ~(uint64_t)INTERRUPT_SHADOW_VMX);
}

static void step(struct vcpu *v, struct cpu_user_regs *regs, unsigned length)
{
    regs->rip += length;
    if (regs->rip >> 32 && !in_64_bit_mode())
        regs->rip = (uint32_t)regs->rip;
    regs->rflags &= ~EFLAGS_RF;
    end_shadow();
    if (unlikely(regs->rflags & EFLAGS_TF)) {
        v->hvm->vmx->extra.dr6 |= DR6_SINGLE_STEP;
        hvm_inject_exception(v, X86_DB, 0);
    }
}

/* Of the instruction that made the guest leave */
static unsigned length_of(void) { return (unsigned)vmread(VMCS_exit_length); }

typedef bool instruction_t(struct vcpu *v, struct cpu_user_regs *regs);

/* Does what the instruction does, and steps over it. */
static inline void execute(struct vcpu *v, struct cpu_user_regs *regs, instruction_t *instruction)
{
    unsigned length = length_of();

    if (instruction(v, regs))
        step(v, regs, length);
}

static void exit_nothing(struct vcpu *v, struct cpu_user_regs *regs) {}

static void exit_machine_check(struct vcpu *v, struct cpu_user_regs *regs)
{
    panic("machine check while a guest ran\n");
}

static void exit_debug(struct vcpu *v, struct cpu_user_regs *regs)
{
    struct vmx_extra *e = &v->hvm->vmx->extra;

    e->dr6 = (e->dr6 & ~DR6_BREAKPOINTS) | (vmread(VMCS_exit_qualification) & DR6_EVENTS);
    hvm_inject_exception(v, X86_DB, 0);
}

/* INT1: a trap, behind the instruction */
static void exit_int1(struct vcpu *v, struct cpu_user_regs *regs)
{
    step(v, regs, length_of());
    hvm_inject_exception(v, X86_DB, 0);
}

static void exit_alignment(struct vcpu *v, struct cpu_user_regs *regs) { hvm_inject_exception(v, X86_AC, 0); }

static void exit_undefined(struct vcpu *v, struct cpu_user_regs *regs) { hvm_inject_exception(v, X86_UD, 0); }

static void exit_protection(struct vcpu *v, struct cpu_user_regs *regs) { hvm_inject_exception(v, X86_GP, 0); }

static void exit_cpuid(struct vcpu *v, struct cpu_user_regs *regs) { execute(v, regs, hvm_exit_cpuid); }

/* Its memory is write-back and it has no device that does not snoop: nothing to do. */
static void exit_caches(struct vcpu *v, struct cpu_user_regs *regs) { step(v, regs, length_of()); }

static void exit_hlt(struct vcpu *v, struct cpu_user_regs *regs)
{
    step(v, regs, length_of());
    hvm_exit_hlt(v, regs);
}

static void exit_port(struct vcpu *v, struct cpu_user_regs *regs)
{
    uint64_t q = vmread(VMCS_exit_qualification);
    unsigned length = length_of();
    bool in = q & PORT_IN;

    if (unlikely(q & PORT_STRING) ? hvm_exit_port_string(v, regs, PORT_BYTES(q), in, q & PORT_REPEAT)
                                  : hvm_exit_port(v, regs, PORT_NUMBER(q), PORT_BYTES(q), in))
        step(v, regs, length);
}

static void exit_rdmsr(struct vcpu *v, struct cpu_user_regs *regs) { execute(v, regs, hvm_exit_rdmsr); }

static void exit_wrmsr(struct vcpu *v, struct cpu_user_regs *regs) { execute(v, regs, hvm_exit_wrmsr); }

static void exit_task_switch(struct vcpu *v, struct cpu_user_regs *regs)
{
    domain_crash(v->domain, "switches tasks by hardware (TSS 0x%lx): no system of this kind can run here\n",
                 vmread(VMCS_exit_qualification) & 0xffff);
}

static void exit_shutdown(struct vcpu *v, struct cpu_user_regs *regs) { hvm_triple_fault(v, regs->rip); }

static void exit_vmcall(struct vcpu *v, struct cpu_user_regs *regs) { execute(v, regs, hvm_exit_hypercall); }

static void exit_xsetbv(struct vcpu *v, struct cpu_user_regs *regs) { execute(v, regs, hvm_exit_xsetbv); }

/* Which register, and which general one, the qualification says: as if the instruction had been decoded. */
static void exit_register(struct vcpu *v, struct cpu_user_regs *regs)
{
    uint64_t q = vmread(VMCS_exit_qualification);
    struct insn insn = {.rm = q >> 8 & 15, .length = (uint8_t)length_of()};
    bool done;

    if ((uint32_t)vmread(VMCS_exit_reason) == EXIT_CR) {
        insn.op = q >> 4 & 3 ? OP_READ_CR : OP_WRITE_CR; /* only writes leave the guest */
        insn.reg = q & 15;
        done = hvm_exit_control_register(v, regs, &insn);
    } else {
        insn.op = q >> 4 & 1 ? OP_READ_DR : OP_WRITE_DR;
        insn.reg = q & 7;
        done = hvm_exit_debug_register(v, regs, &insn);
    }
    if (done)
        step(v, regs, insn.length);
}

/* The guest's IRET had let NMIs in, and then faulted: it will do so again. */
static void block_nmi_again(struct vcpu *v)
{
    vmwrite(VMCS_interruptibility, vmread(VMCS_interruptibility) | BLOCKED_BY_NMI);
    v->hvm->nmi_blocked = true;
}

static void exit_exception(struct vcpu *v, struct cpu_user_regs *regs)
{
    uint64_t event = vmread(VMCS_exit_event), vector = event & EVENT_VECTOR;

    if ((event & EVENT_TYPE) == EVENT_TYPE_NMI)
        return; /* taken in vmx_run */
    if (event & EVENT_NMI_UNBLOCKED && !(vmread(VMCS_interrupted_event) & EVENT_VALID))
        block_nmi_again(v);
    if ((event & EVENT_TYPE) == EVENT_TYPE_PRIVILEGED)
        exit_int1(v, regs);
    else if (vector == X86_DB)
        exit_debug(v, regs);
    else if (vector == X86_AC)
        exit_alignment(v, regs);
    else
        exit_machine_check(v, regs);
}

static void exit_nested_fault(struct vcpu *v, struct cpu_user_regs *regs)
{
    uint64_t q = vmread(VMCS_exit_qualification), address = vmread(VMCS_guest_physical);
    bool interrupted = vmread(VMCS_interrupted_event) & EVENT_VALID;
    unsigned length;

    if (q & EPT_NMI_UNBLOCKED && !interrupted)
        block_nmi_again(v);
    /* Not by what the instruction says, but by what the processor does for itself: it has to be memory. */
    if (unlikely(interrupted || !(q & EPT_LINEAR))) {
        if (hvm_memory_at(v, address, q & EPT_WRITE, false) != MEMORY_COMES)
            domain_crash(v->domain,
                         "vcpu %u: a page table, stack or descriptor table at physical address 0x%lx, where it has no "
                         "memory of its own (rip 0x%lx)\n",
                         v->id, address, (unsigned long)regs->rip);
        return;
    }
    if (hvm_exit_memory(v, regs, address, q & EPT_WRITE, q & EPT_FETCH, &length))
        step(v, regs, length);
}

static exit_handler_t *const exits[EXIT_TABLE_SIZE] = {
    [EXIT_EXCEPTION] = exit_exception,
    [EXIT_INTR] = exit_nothing, /* taken when Croft's interrupts were enabled again */
    [EXIT_TRIPLE_FAULT] = exit_shutdown,
    [EXIT_INIT] = exit_nothing,
    [EXIT_INTR_WINDOW] = exit_nothing, /* the next entry injects what it waited for, as after the next one */
    [EXIT_NMI_WINDOW] = exit_nothing,
    [EXIT_TASK_SWITCH] = exit_task_switch,
    [EXIT_CPUID] = exit_cpuid,
    [EXIT_GETSEC] = exit_undefined,
    [EXIT_HLT] = exit_hlt,
    [EXIT_INVD] = exit_caches,
    [EXIT_RDPMC] = exit_protection,
    [EXIT_VMCALL] = exit_vmcall,
    [EXIT_VMCLEAR... EXIT_VMXON] = exit_undefined,
    [EXIT_CR] = exit_register,
    [EXIT_DR] = exit_register,
    [EXIT_PORT] = exit_port,
    [EXIT_RDMSR] = exit_rdmsr,
    [EXIT_WRMSR] = exit_wrmsr,
    [EXIT_MWAIT] = exit_undefined,
    [EXIT_MONITOR] = exit_undefined,
    [EXIT_ENTRY_MACHINE_CHECK] = exit_machine_check,
    [EXIT_TPR_BELOW] = exit_nothing,
    [EXIT_EPT_VIOLATION] = exit_nested_fault,
    [EXIT_INVEPT] = exit_undefined,
    [EXIT_PREEMPTION_TIMER] = exit_nothing,
    [EXIT_INVVPID] = exit_undefined,
    [EXIT_WBINVD] = exit_caches,
    [EXIT_XSETBV] = exit_xsetbv,
    [EXIT_VMFUNC] = exit_undefined,
};

static __attribute__((noinline)) void refused(struct vcpu *v, uint64_t reason)
{
    struct vmcs b;
    const char *rule;

    read_all(v, &b);
    rule = vmx_audit(&b, &vmx.limits);
    domain_crash(v->domain, "the processor refuses the state of vcpu %u (exit 0x%lx, error %lu): %s\n", v->id, reason,
                 b.instruction_error, rule ? rule : "no rule found");
}

static __attribute__((noinline)) void exit_unknown(struct vcpu *v, uint64_t reason)
{
    if (reason & EXIT_ENTRY_FAILED)
        refused(v, reason);
    else
        domain_crash(v->domain, "vcpu %u left its guest for reason 0x%lx, which Croft does not know\n", v->id, reason);
}

/* An event that was being delivered when the guest left is delivered anew. Those of INT n, INT1, INT3 and INTO are not: their
 * instruction is executed again. */
static void keep_interrupted(struct vcpu *v, uint64_t event, uint64_t reason)
{
    uint64_t type = event & EVENT_TYPE;

    /* an exception of its delivery goes first: #DB, #AC */
    if (reason == EXIT_EXCEPTION && (vmread(VMCS_exit_event) & EVENT_TYPE) == EVENT_TYPE_EXCEPTION) {
        if (type == EVENT_TYPE_INTR)
            vlapic_unaccept(v, (uint8_t)event);
    } else if (type <= EVENT_TYPE_EXCEPTION) {
        v->hvm->pending_event = (event & (EVENT_VALID | EVENT_HAS_ERROR | EVENT_TYPE | EVENT_VECTOR)) |
                                (event & EVENT_HAS_ERROR ? vmread(VMCS_interrupted_error) << EVENT_ERROR_SHIFT : 0);
    }
}

/*
 * The short way of an access to a port where nothing is: kernels that look for hardware make them by the hundred thousand. It is
 * answered in the control structure. False: it is something else, and nothing was done.
 */
static inline bool absent_port(const struct vcpu *v, struct cpu_user_regs *regs, uint64_t reason)
{
    uint64_t q, rflags;

    if (reason != EXIT_PORT)
        return false;
    q = vmread(VMCS_exit_qualification);
    rflags = vmread(VMCS_rflags);
    if (q & PORT_STRING || rflags & EFLAGS_TF || vmread(VMCS_interrupted_event) & EVENT_VALID ||
        !hvm_port_is_absent(v->domain, PORT_NUMBER(q)))
        return false;
    if (q & PORT_IN)
        regs->rax = hvm_absent_port_value(regs->rax, PORT_BYTES(q));
    vmwrite(VMCS_rip, vmread(VMCS_rip) + vmread(VMCS_exit_length));
    if (unlikely(rflags & EFLAGS_RF))
        vmwrite(VMCS_rflags, rflags & ~EFLAGS_RF);
    end_shadow();
    return true;
}

/* After that: may the guest go on as it was? */
static inline bool goes_on(const struct vcpu *v, const struct percpu *pc, uint32_t cr8)
{
    const struct hvm_vcpu *h = v->hvm;

    return likely(!pc->softirq_pending && !(h->init_pending | h->startup | h->upcall_edge | v->pv.nmi_pending) &&
                  !(v->domain->hvm->callback_vector && v->info->evtchn_upcall_pending) && vlapic_is_idle(v) &&
                  READ_ONCE(v->domain->hvm->p2m.flushes) == h->flushed &&
                  h->vmx->virtual_apic[VIRTUAL_TPR] >> 4 == cr8);
}

static void exit_for(struct vcpu *v, struct cpu_user_regs *regs, uint64_t reason)
{
    if (likely(reason < EXIT_TABLE_SIZE && exits[reason]))
        exits[index_nospec(reason, EXIT_TABLE_SIZE)](v, regs);
    else
        exit_unknown(v, reason);
}

/* The exit has left NMIs blocked: the handler's IRET ends that. */
static void take_nmi(void)
{
    if ((vmread(VMCS_exit_event) & (EVENT_VALID | EVENT_TYPE)) == (EVENT_VALID | EVENT_TYPE_NMI))
        __asm__ volatile("int $2" ::: "memory");
}

/* Only an NMI that was injected blocks others, until the guest's IRET: Bochs 2.7 also takes over what blocked the guest before. */
static void note_nmi_blocking(struct hvm_vcpu *h)
{
    uint64_t blocked = vmread(VMCS_interruptibility);

    if (unlikely(blocked & BLOCKED_BY_NMI && !h->nmi_blocked))
        vmwrite(VMCS_interruptibility, blocked & ~(uint64_t)BLOCKED_BY_NMI);
    h->nmi_blocked = h->nmi_blocked && blocked & BLOCKED_BY_NMI;
}

static void vmx_run(struct vcpu *v, struct cpu_user_regs *regs)
{
    struct hvm_vcpu *h = v->hvm;
    struct vmx_vcpu *x = h->vmx;
    const struct percpu *pc = this_cpu();
    unsigned cpu = pc->id;
    uint64_t flushes = READ_ONCE(v->domain->hvm->p2m.flushes), *counts = cpus[cpu].exits, reason, event;
    uint32_t cr8 = vlapic_get_cr8(v);
    bool absent;

    vmwrite(VMCS_rip, regs->rip);
    vmwrite(VMCS_rsp, regs->rsp);
    vmwrite(VMCS_rflags, regs->rflags);
    x->virtual_apic[VIRTUAL_TPR] = (uint8_t)(cr8 << 4);
    inject(v, regs, cr8);
    if (unlikely(h->flushed != flushes || h->asid_generation != cpus[cpu].generation || h->asid_cpu != cpu))
        new_vpid(v, cpu, flushes);
    if (x->extra.cr2 != read_cr2())
        write_cr2(x->extra.cr2);
    if (unlikely(vmx.flush_l1d))
        wrmsr(MSR_FLUSH_CMD, FLUSH_L1D);
    do {
        if (unlikely(vmx_enter(regs, x->launched))) {
            sti();
            refused(v, ~0UL);
            return;
        }
        x->launched = true;
        reason = (uint32_t)vmread(VMCS_exit_reason);
        counts[min(reason, (uint64_t)EXIT_TABLE_SIZE - 1)]++;
        absent = absent_port(v, regs, reason);
    } while (absent && goes_on(v, pc, cr8));
    x->extra.cr2 = read_cr2();
    if (reason == EXIT_EXCEPTION)
        take_nmi();
    sti();
    regs->rip = vmread(VMCS_rip);
    regs->rsp = vmread(VMCS_rsp);
    regs->rflags = vmread(VMCS_rflags);
    regs->cs = (uint16_t)vmread(VMCS_cs_selector);
    regs->ss = (uint16_t)vmread(VMCS_ss_selector);
    note_nmi_blocking(h);
    if (unlikely(x->virtual_apic[VIRTUAL_TPR] >> 4 != cr8))
        vlapic_set_cr8(v, x->virtual_apic[VIRTUAL_TPR] >> 4);
    if (absent)
        return;
    event = vmread(VMCS_interrupted_event);
    if (unlikely(event & EVENT_VALID))
        keep_interrupted(v, event, reason);
    exit_for(v, regs, reason);
}

static uint64_t vmx_exits(unsigned reason, const char **name)
{
    static const char *const names[EXIT_TABLE_SIZE] = {
        [EXIT_EXCEPTION] = "exception or NMI",
        [EXIT_INTR] = "interrupt",
        [EXIT_INTR_WINDOW] = "interrupt window",
        [EXIT_NMI_WINDOW] = "NMI window",
        [EXIT_CPUID] = "CPUID",
        [EXIT_HLT] = "HLT",
        [EXIT_VMCALL] = "hypercall",
        [EXIT_CR] = "control register",
        [EXIT_DR] = "debug register",
        [EXIT_PORT] = "port",
        [EXIT_RDMSR] = "RDMSR",
        [EXIT_WRMSR] = "WRMSR",
        [EXIT_TPR_BELOW] = "lower TPR",
        [EXIT_EPT_VIOLATION] = "nested page fault",
        [EXIT_PREEMPTION_TIMER] = "preemption timer",
        [EXIT_WBINVD] = "WBINVD",
        [EXIT_XSETBV] = "XSETBV",
    };
    uint64_t sum = 0;
    unsigned cpu;

    *name = names[reason];
    for (cpu = 0; cpu < NR_CPUS; cpu++)
        sum += cpus[cpu].exits ? cpus[cpu].exits[reason] : 0;
    return sum;
}

const struct hvm_vendor hvm_vmx = {
    .name = "VT-x",
    .vmcall = {0x0f, 0x01, 0xc1},
    .find = vmx_find,
    .init_cpu = vmx_init_cpu,
    .close_cpu = vmx_close_cpu,
    .create = vmx_create,
    .destroy = vmx_destroy,
    .start_real = vmx_start_real,
    .start_flat = vmx_start_flat,
    .get = vmx_get,
    .set = vmx_set,
    .paging = vmx_paging,
    .in_64_bit_kernel = vmx_in_64_bit_kernel,
    .segment = vmx_segment,
    .save = vmx_save,
    .check = vmx_check,
    .load = vmx_load,
    .switch_in = vmx_switch_in,
    .switch_out = vmx_switch_out,
    .run = vmx_run,
    .report = vmx_report,
    .exit_reasons = EXIT_TABLE_SIZE,
    .exits = vmx_exits,
};
