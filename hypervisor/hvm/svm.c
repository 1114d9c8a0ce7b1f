/*
 * AMD-V: see hvm/vendor.h for what is asked of it. Source: AMD64 Architecture Programmer's Manual, volume 2, chapter 15.
 *
 * What the guest has in the processor while it runs: all that VMRUN, VMLOAD and VMSAVE move between the control block and the
 * registers; general registers (svm_entry.S); floating point and its extensions, breakpoints' addresses and TSC_AUX (the context
 * switch). CR2, DR6 and DR7, PAT, the segment bases and the MSRs of SYSCALL and SYSENTER are in the control block, and the guest
 * reads and writes them without Croft.
 *
 * Address space ids: each CPU gives its own, counting up; with the last one its TLB is emptied of all of them, and a new generation
 * begins. A vcpu whose translations are out of date takes a new id: nobody uses the old one again before the TLB was emptied.
 */
#include "cpu/cpu.h"
#include "cpu/instr.h"
#include "cpu/panic.h"
#include "cpu/percpu.h"
#include "cpu/smp.h"
#include "cpu/speculation.h"
#include "domain/domain.h"
#include "hvm/svm_audit.h"
#include "hvm/svm_state.h"
#include "hvm/vendor.h"
#include "hvm/vmcb.h"
#include "lib/log.h"
#include "lib/string.h"
#include "memory/alloc.h"
#include "memory/map.h"

#define CPUID_SVM_LEAF 0x8000000aU
#define SVM_NESTED_PAGING (1U << 0)
#define SVM_NEXT_RIP (1U << 3)
#define SVM_FLUSH_BY_ASID (1U << 6)
#define MSR_VM_CR 0xc0010114U
#define VM_CR_SVMDIS (1UL << 4)
#define MSR_VM_HSAVE_PA 0xc0010117U
#define DR6_SINGLE_STEP (1UL << 14)
#define DR6_RESET 0xffff0ff0UL
#define DR7_RESET 0x400UL
#define PAT_RESET 0x0007040600070406UL
/* The guest's own CR0 after reset has the caches off, which nested paging would obey: they are on, as firmware leaves them. */
#define CR0_START CR0_ET

/* Attributes of segments after reset and in flat protected mode (14.1.3) */
#define REAL_CODE (0xbU | SEGMENT_S | SEGMENT_P)
#define REAL_DATA (0x3U | SEGMENT_S | SEGMENT_P)
#define FLAT_CODE (REAL_CODE | SEGMENT_DB | SEGMENT_G)
#define FLAT_DATA (REAL_DATA | SEGMENT_DB | SEGMENT_G)
#define LDT_ATTRIBUTES (0x2U | SEGMENT_P)
#define TSS_BUSY_32 (0xbU | SEGMENT_P)

void svm_enter(struct cpu_user_regs *regs, uint64_t guest, uint64_t host); /* svm_entry.S */

static struct {
    uint32_t asids;
    bool next_rip;
    struct svm_limits limits;
    uint8_t *io_map, *msr_map; /* of all guests: every port, and all MSRs but those in the control block */
} svm;

static struct {
    void *host_save;
    struct vmcb *host; /* what VMSAVE saves of Croft's state, once */
    uint64_t host_address;
    uint64_t generation; /* of address space ids; 0 is never one */
    uint32_t next_asid;
    uint64_t *exits; /* how often, by code; the last: nested page faults */
} cpus[NR_CPUS];

/* ---- The processor ---- */

static void msr_pass(uint32_t msr, bool writes)
{
    uint32_t at = msr < 0x2000 ? msr : msr < 0xc0002000 ? msr - 0xc0000000 + 0x2000 : msr - 0xc0010000 + 0x4000;

    svm.msr_map[at / 4] &= (uint8_t) ~((writes ? 3U : 1U) << at % 4 * 2);
}

static const char *svm_find(void)
{
    static const uint32_t in_control_block[] = {MSR_SYSENTER_CS, MSR_SYSENTER_ESP,  MSR_SYSENTER_EIP, MSR_STAR,
                                                MSR_LSTAR,       MSR_CSTAR,         MSR_SYSCALL_MASK, MSR_FS_BASE,
                                                MSR_GS_BASE,     MSR_KERNEL_GS_BASE};
    struct cpuid_regs r;
    uint64_t vm_cr;

    if (cpu_features.max_ext_leaf < CPUID_SVM_LEAF || !(cpuid(0x80000001, 0).c >> 2 & 1))
        return hvm_no_processor;
    if (rdmsr_safe(MSR_VM_CR, &vm_cr) && vm_cr & VM_CR_SVMDIS)
        return "AMD-V is switched off in the firmware's setup";
    r = cpuid(CPUID_SVM_LEAF, 0);
    if (!(r.d & SVM_NESTED_PAGING))
        return "the processor's AMD-V has no nested paging";
    if (r.b < 2)
        return "the processor's AMD-V has no address space ids";
    svm.asids = r.b;
    svm.next_rip = r.d & SVM_NEXT_RIP;
    svm.io_map = alloc_pages(2);
    svm.msr_map = alloc_pages(1);
    if (!svm.io_map || !svm.msr_map)
        return "there is no memory for it";
    memset(svm.io_map, 0xff, IO_MAP_BYTES);
    memset(svm.msr_map, 0xff, MSR_MAP_BYTES);
    for (unsigned i = 0; i < ARRAY_SIZE(in_control_block); i++)
        msr_pass(in_control_block[i], true);
    if (cpu_features.rdtscp)
        msr_pass(MSR_TSC_AUX, false);
    svm.limits = (struct svm_limits){.physical_bits = cpu_features.paddr_bits,
                                     .asids = svm.asids,
                                     .long_mode = true,
                                     .flush_by_asid = r.d & SVM_FLUSH_BY_ASID,
                                     .cr4 = ~0UL >> 32,
                                     .efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE | EFER_SVME};
    p2m_set_format(false, cpu_features.gbpages);
    return NULL;
}

static void svm_init_cpu(void)
{
    unsigned cpu = cpu_id();

    if (!cpus[cpu].host) { /* it may have been on line before */
        cpus[cpu].host_save = alloc_pages(0);
        cpus[cpu].host = alloc_pages(0);
        cpus[cpu].exits = heap_alloc((VMEXIT_TABLE_SIZE + 1) * sizeof(uint64_t));
        if (!cpus[cpu].host_save || !cpus[cpu].host || !cpus[cpu].exits)
            panic("no memory for AMD-V on CPU %u\n", cpu);
        cpus[cpu].host_address = virt_to_maddr(cpus[cpu].host).n;
    }
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
    wrmsr(MSR_VM_HSAVE_PA, virt_to_maddr(cpus[cpu].host_save).n);
    __asm__ volatile("vmsave %0" ::"a"(cpus[cpu].host_address) : "memory");
    cpus[cpu].generation++; /* whatever its TLB held is of no generation to come */
    cpus[cpu].next_asid = svm.asids;
}

/* ---- The control block ---- */

static int svm_create(struct vcpu *v)
{
    struct vmcb *b = alloc_pages(0);

    if (!b)
        return -ENOMEM;
    v->hvm->vmcb = b;
    b->intercepts[INTERCEPT_CR] = INTERCEPT_WRITE(4);
    b->intercepts[INTERCEPT_DR] = ~0U;
    /* Without these a guest can make the processor deliver exceptions for ever, and never come back. */
    b->intercepts[INTERCEPT_EXCEPTIONS] = 1U << X86_MC | 1U << X86_DB | 1U << X86_AC;
    b->intercepts[INTERCEPT_MISC1] = INTERCEPT_INTR | INTERCEPT_NMI | INTERCEPT_SMI | INTERCEPT_INIT | INTERCEPT_RDPMC |
                                     INTERCEPT_CPUID | INTERCEPT_INVD | INTERCEPT_HLT | INTERCEPT_INVLPGA |
                                     INTERCEPT_IOIO | INTERCEPT_MSR | INTERCEPT_TASK_SWITCH | INTERCEPT_FERR_FREEZE |
                                     INTERCEPT_SHUTDOWN;
    b->intercepts[INTERCEPT_MISC2] = INTERCEPT_VMRUN | INTERCEPT_VMMCALL | INTERCEPT_VMLOAD | INTERCEPT_VMSAVE |
                                     INTERCEPT_STGI | INTERCEPT_CLGI | INTERCEPT_SKINIT | INTERCEPT_ICEBP |
                                     INTERCEPT_WBINVD | INTERCEPT_MONITOR | INTERCEPT_MWAIT | INTERCEPT_XSETBV |
                                     INTERCEPT_RDPRU;
    b->io_map = virt_to_maddr(svm.io_map).n;
    b->msr_map = virt_to_maddr(svm.msr_map).n;
    b->vintr = VINTR_MASKING;
    b->np_control = NESTED_PAGING;
    b->n_cr3 = virt_to_maddr(v->domain->hvm->p2m.root).n;
    b->g_pat = PAT_RESET;
    return 0;
}

static void svm_destroy(struct vcpu *v) { free_pages(v->hvm->vmcb, 0); }

/* Makes the guest come back as soon as it can take an interrupt. */
static void set_window(struct vmcb *b, bool open)
{
    if (open) {
        b->intercepts[INTERCEPT_MISC1] |= INTERCEPT_VINTR;
        b->vintr |= VINTR_NOW;
    } else {
        b->intercepts[INTERCEPT_MISC1] &= ~INTERCEPT_VINTR;
        b->vintr &= ~VINTR_NOW;
    }
}

/* What both starts have in common: state of the processor after INIT (14.1.3), but for segments. */
static void start(struct vcpu *v, struct vmcb *b)
{
    v->hvm->asid_generation = 0; /* nothing of what it had in its TLB */
    b->cr0 = CR0_START;
    b->cr2 = b->cr3 = b->cr4 = 0;
    b->efer = EFER_SVME;
    b->dr6 = DR6_RESET;
    b->dr7 = DR7_RESET;
    b->interrupt_shadow = 0;
    b->cpl = 0;
    set_window(b, false);
    b->intercepts[INTERCEPT_MISC1] &= ~INTERCEPT_IRET;
    b->gdtr = b->idtr = (struct vmcb_segment){.limit = 0xffff};
    b->ldtr = (struct vmcb_segment){.attributes = LDT_ATTRIBUTES, .limit = 0xffff};
    b->tr = (struct vmcb_segment){.attributes = TSS_BUSY_32, .limit = 0xffff};
    b->star = b->lstar = b->cstar = b->sfmask = b->kernel_gs_base = 0;
    b->sysenter_cs = b->sysenter_esp = b->sysenter_eip = 0;
}

static void svm_start_real(struct vcpu *v, uint8_t vector)
{
    struct vmcb *b = v->hvm->vmcb;

    start(v, b);
    b->cs = (struct vmcb_segment){(uint16_t)(vector << 8), REAL_CODE, 0xffff, (uint64_t)vector << 12};
    b->ds = b->es = b->fs = b->gs = b->ss = (struct vmcb_segment){0, REAL_DATA, 0xffff, 0};
}

static void svm_start_flat(struct vcpu *v)
{
    struct vmcb *b = v->hvm->vmcb;

    start(v, b);
    b->cr0 |= CR0_PE;
    b->cs = (struct vmcb_segment){0x8, FLAT_CODE, ~0U, 0}; /* the selectors mean nothing: there is no GDT */
    b->ds = b->es = b->fs = b->gs = b->ss = (struct vmcb_segment){0x10, FLAT_DATA, ~0U, 0};
    b->tr.limit = 0x67;
}

static uint64_t svm_get(const struct vcpu *v, enum hvm_reg reg)
{
    const struct vmcb *b = v->hvm->vmcb;

    switch (reg) {
    case HVM_CR0:
        return b->cr0;
    case HVM_CR2:
        return b->cr2;
    case HVM_CR3:
        return b->cr3;
    case HVM_CR4:
        return b->cr4;
    case HVM_EFER:
        return b->efer & ~EFER_SVME;
    case HVM_PAT:
        return b->g_pat;
    case HVM_DR6:
        return b->dr6;
    case HVM_DR7:
        return b->dr7;
    default:
        return b->cpl;
    }
}

static void svm_set(struct vcpu *v, enum hvm_reg reg, uint64_t value)
{
    struct vmcb *b = v->hvm->vmcb;

    switch (reg) {
    case HVM_CR0:
        b->cr0 = value;
        break;
    case HVM_CR2:
        b->cr2 = value;
        break;
    case HVM_CR3:
        b->cr3 = value;
        v->hvm->asid_generation = 0;
        break;
    case HVM_CR4:
        if ((b->cr4 ^ value) & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP))
            v->hvm->asid_generation = 0; /* as the MOV would have done: a new id is an empty TLB */
        b->cr4 = value;
        break;
    case HVM_EFER:
        b->efer = value | EFER_SVME;
        break;
    case HVM_PAT:
        b->g_pat = value;
        break;
    case HVM_DR6:
        b->dr6 = value;
        break;
    case HVM_DR7:
        b->dr7 = value;
        break;
    case HVM_CPL:
        BUG();
    }
}

static struct hvm_paging svm_paging(const struct vcpu *v)
{
    const struct vmcb *b = v->hvm->vmcb;

    return (struct hvm_paging){b->cr0, b->cr3, b->efer};
}

static bool in_64_bit_mode(const struct vmcb *b) { return b->efer & EFER_LMA && b->cs.attributes & SEGMENT_L; }

static bool svm_in_64_bit_kernel(const struct vcpu *v) { return !v->hvm->vmcb->cpl && in_64_bit_mode(v->hvm->vmcb); }

static struct hvm_segment svm_segment(const struct vcpu *v, enum insn_segment which)
{
    const struct vmcb *b = v->hvm->vmcb;
    const struct vmcb_segment *s = &b->es + which; /* both in the order of their numbers */

    _Static_assert(offsetof(struct vmcb, gs) - offsetof(struct vmcb, es) == SEG_GS * sizeof(*s), "in that order");
    return (struct hvm_segment){s->selector, s->attributes, s->limit, s->base};
}

static void svm_save(const struct vcpu *v, struct hvm_hw_cpu *c) { svm_state_save(v->hvm->vmcb, c); }

static const char *svm_check(const struct vcpu *v, const struct hvm_hw_cpu *c)
{
    struct vmcb *scratch = alloc_pages(0);
    const char *why = "no memory to check it";

    if (scratch) {
        why = svm_state_check(v->hvm->vmcb, c, &svm.limits, scratch);
        free_pages(scratch, 0);
    }
    return why;
}

static void svm_load(struct vcpu *v, const struct hvm_hw_cpu *c)
{
    svm_state_load(v->hvm->vmcb, c);
    v->hvm->asid_generation = 0; /* nothing of what its TLB holds is this state's */
}

static void svm_report(const struct vcpu *v) { svm_dump(v->hvm->vmcb); }

/* ---- Before the entry ---- */

/* From now on v begins with an empty TLB, and with it those others whose ids are of an older generation. */
static void new_asid(struct vcpu *v, struct vmcb *b, unsigned cpu, uint64_t flushes)
{
    struct hvm_vcpu *h = v->hvm;

    if (++cpus[cpu].next_asid >= svm.asids) {
        cpus[cpu].generation++;
        cpus[cpu].next_asid = 1; /* 0 is the host's */
        b->tlb_control = TLB_FLUSH_ALL_ASIDS;
    }
    h->asid_cpu = cpu;
    h->asid_generation = cpus[cpu].generation;
    h->flushed = flushes;
    b->asid = cpus[cpu].next_asid;
}

/* What has to wait, the vector (-1: none) or an NMI, makes the guest come back as soon as it can take it. Does anything wait? */
static inline bool wait_for_window(struct vcpu *v, struct vmcb *b, int vector)
{
    const struct hvm_vcpu *h = v->hvm;
    bool nmi = unlikely(v->pv.nmi_pending) && (!h->nmi_blocked || h->nmi_leaving);
    bool waits = vector >= 0 || nmi;

    if (unlikely(waits))
        set_window(b, true);
    else if (b->intercepts[INTERCEPT_MISC1] & INTERCEPT_VINTR)
        set_window(b, false);
    if (unlikely(nmi && !h->nmi_blocked && b->event_injection)) /* it does not wait for IF, as the window does */
        smp_send_wake(cpu_id());
    /* A lower TPR lets in what it holds. MOV to CR8 ends QEMU (7.2) if the window is open: an assertion of its own. */
    if (unlikely(waits) || (b->vintr & VINTR_TPR && unlikely(vlapic_held_by_tpr(v))))
        b->intercepts[INTERCEPT_CR] |= INTERCEPT_WRITE(8);
    else
        b->intercepts[INTERCEPT_CR] &= ~INTERCEPT_WRITE(8);
    return waits;
}

/*
 * An interrupt that the guest can take at once goes in as a virtual one, if the window is not needed. Both ways are the same for the
 * guest, but QEMU (7.2) may deliver what EVENTINJ holds a second time when it wants its CPU back at that moment.
 */
static inline void make_virtual(struct vmcb *b)
{
    if ((b->event_injection & (EVENT_VALID | EVENT_TYPE)) != (EVENT_VALID | EVENT_TYPE_INTR) ||
        !(b->rflags & EFLAGS_IF) || b->interrupt_shadow & INTERRUPT_SHADOW)
        return;
    b->vintr = (b->vintr & ~VINTR_VECTOR) | VINTR_NOW | (b->event_injection & EVENT_VECTOR) << VINTR_VECTOR_SHIFT;
    b->event_injection = 0;
}

/* One event at an entry. */
static void inject(struct vcpu *v, struct vmcb *b)
{
    struct hvm_vcpu *h = v->hvm;
    bool shadow = b->interrupt_shadow & INTERRUPT_SHADOW;
    int vector = hvm_pending_vector(v);

    b->event_injection = h->pending_event;
    if (unlikely(h->pending_event)) {
        h->pending_event = 0;
    } else if (unlikely(v->pv.nmi_pending) && !shadow && hvm_take_nmi(v)) {
        b->event_injection = EVENT_VALID | EVENT_TYPE_NMI | X86_NMI;
        b->intercepts[INTERCEPT_MISC1] |= INTERCEPT_IRET; /* which ends it */
    } else if (vector >= 0 && b->rflags & EFLAGS_IF && !shadow) {
        b->event_injection = EVENT_VALID | EVENT_TYPE_INTR | hvm_accept_vector(v, vector);
        vector = hvm_pending_vector(v);
    }
    if (likely(!wait_for_window(v, b, vector)))
        make_virtual(b);
}

/* ---- Exits ---- */

typedef void exit_handler_t(struct vcpu *v, struct cpu_user_regs *regs, struct vmcb *b);

static void step(struct vcpu *v, struct cpu_user_regs *regs, struct vmcb *b, unsigned length)
{
    regs->rip += length;
    if (!in_64_bit_mode(b))
        regs->rip = (uint32_t)regs->rip;
    regs->rflags &= ~EFLAGS_RF;
    b->interrupt_shadow &= ~INTERRUPT_SHADOW;
    if (unlikely(regs->rflags & EFLAGS_TF)) {
        b->dr6 |= DR6_SINGLE_STEP;
        hvm_inject_exception(v, X86_DB, 0);
    }
}

/* Prefixes that mean nothing to the instructions that are stepped over */
static bool is_prefix(uint8_t byte, bool long_mode)
{
    static const uint8_t prefixes[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3};

    for (unsigned i = 0; i < ARRAY_SIZE(prefixes); i++)
        if (byte == prefixes[i])
            return true;
    return long_mode && byte >> 4 == 4;
}

static __attribute__((noinline)) unsigned length_with_prefixes(struct vcpu *v, const struct cpu_user_regs *regs,
                                                               uint32_t opcode, unsigned plain)
{
    bool long_mode = in_64_bit_mode(v->hvm->vmcb);
    uint8_t bytes[INSN_MAX_LENGTH];
    unsigned n = hvm_fetch(v, regs, bytes, sizeof(bytes));

    for (unsigned i = 0; i + plain <= n; i++) {
        if (!memcmp(bytes + i, &opcode, plain))
            return i + plain;
        if (!is_prefix(bytes[i], long_mode))
            break;
    }
    return 0;
}

/* The length of the instruction that made the guest leave, whose opcode is 'opcode', without prefixes 'plain' bytes long. 0: it is not
 * there any more, or cannot be read: to be executed again, with nothing done. */
static inline unsigned length_of(struct vcpu *v, const struct cpu_user_regs *regs, const struct vmcb *b,
                                 uint32_t opcode, unsigned plain)
{
    struct hvm_paging paging = svm_paging(v);

    if (svm.next_rip)
        return (unsigned)(b->next_rip - regs->rip);
    if (likely(in_64_bit_mode(b) && hvm_code_is(v, &paging, regs->rip, opcode, plain)))
        return plain;
    return length_with_prefixes(v, regs, opcode, plain);
}

typedef bool instruction_t(struct vcpu *v, struct cpu_user_regs *regs);

/* Does what the instruction does, and steps over it. */
static inline void execute(struct vcpu *v, struct cpu_user_regs *regs, struct vmcb *b, uint32_t opcode, unsigned plain,
                           instruction_t *instruction)
{
    unsigned length = length_of(v, regs, b, opcode, plain);

    if (length && instruction(v, regs))
        step(v, regs, b, length);
}

static void exit_nothing(struct vcpu *v, struct cpu_user_regs *regs, struct vmcb *b) {}

static void exit_machine_check(struct vcpu *v, struct cpu_user_regs *regs, struct vmcb *b)
{
    panic("machine check while a guest ran\n");
}

static void exit_debug(struct vcpu *v, struct cpu_user_regs *regs, struct vmcb *b)
{
    hvm_inject_exception(v, X86_DB, 0); /* DR6 is as the processor left it */
}

/* INT1: a trap, behind the instruction */
static void exit_int1(struct vcpu *v, struct cpu_user_regs *regs, struct vmcb *b)
{
    unsigned length = length_of(v, regs, b, 0xf1, 1);

    if (!length)
        return;
    step(v, regs, b, length);
    hvm_inject_exception(v, X86_DB, 0);
}

static void exit_alignment(struct vcpu *v, struct cpu_user_regs *regs, struct vmcb *b)
{
    hvm_inject_exception(v, X86_AC, 0);
}

static void exit_undefined(struct vcpu *v, struct cpu_user_regs *regs, struct vmcb *b)
{
    hvm_inject_exception(v, X86_UD, 0);
}

static void exit_protection(struct vcpu *v, struct cpu_user_regs *regs, struct vmcb *b)
{
    hvm_inject_exception(v, X86_GP, 0);
}

static void exit_cpuid(struct vcpu *v, struct cpu_user_regs *regs, struct vmcb *b)
{
    execute(v, regs, b, 0xa20f, 2, hvm_exit_cpuid);
}

static void exit_iret(struct vcpu *v, struct cpu_user_regs *regs, struct vmcb *b)
{
    /* It comes before the instruction: another NMI has to wait until that is done (svm_run). */
    b->intercepts[INTERCEPT_MISC1] &= ~INTERCEPT_IRET;
    v->hvm->nmi_leaving = true;
    v->hvm->nmi_iret_rip = regs->rip;
}

/* Its memory is write-back and it has no device that does not snoop: nothing to do. (QEMU 7.2 calls INVD WBINVD.) */
static void exit_caches(struct vcpu *v, struct cpu_user_regs *regs, struct vmcb *b)
{
    struct insn insn;

    if (hvm_decode(v, regs, &insn) && (insn.op == OP_INVD || insn.op == OP_WBINVD))
        step(v, regs, b, insn.length);
}

static void exit_hlt(struct vcpu *v, struct cpu_user_regs *regs, struct vmcb *b)
{
    unsigned length = length_of(v, regs, b, 0xf4, 1);

    if (length) {
        step(v, regs, b, length);
        hvm_exit_hlt(v, regs);
    }
}

static void exit_string(struct vcpu *v, struct cpu_user_regs *regs, struct vmcb *b)
{
    uint64_t info = b->exit_info1;

    if (hvm_exit_port_string(v, regs, IOIO_SIZE(info), info & IOIO_IN, info & IOIO_REPEAT))
        step(v, regs, b, (unsigned)(b->exit_info2 - regs->rip));
}

static void exit_port(struct vcpu *v, struct cpu_user_regs *regs, struct vmcb *b)
{
    uint64_t info = b->exit_info1;

    if (unlikely(info & IOIO_STRING))
        exit_string(v, regs, b);
    else if (hvm_exit_port(v, regs, IOIO_PORT(info), IOIO_SIZE(info), info & IOIO_IN))
        step(v, regs, b, (unsigned)(b->exit_info2 - regs->rip));
}

static void exit_msr(struct vcpu *v, struct cpu_user_regs *regs, struct vmcb *b)
{
    bool write = b->exit_info1 & 1;

    if (write)
        execute(v, regs, b, 0x300f, 2, hvm_exit_wrmsr);
    else
        execute(v, regs, b, 0x320f, 2, hvm_exit_rdmsr);
}

static void exit_task_switch(struct vcpu *v, struct cpu_user_regs *regs, struct vmcb *b)
{
    domain_crash(v->domain, "switches tasks by hardware (TSS 0x%lx): no system of this kind can run here\n",
                 b->exit_info1 & 0xffff);
}

static void exit_shutdown(struct vcpu *v, struct cpu_user_regs *regs, struct vmcb *b)
{
    hvm_triple_fault(v, regs->rip);
}

static void exit_vmmcall(struct vcpu *v, struct cpu_user_regs *regs, struct vmcb *b)
{
    execute(v, regs, b, 0xd9010f, 3, hvm_exit_hypercall);
}

static void exit_xsetbv(struct vcpu *v, struct cpu_user_regs *regs, struct vmcb *b)
{
    execute(v, regs, b, 0xd1010f, 3, hvm_exit_xsetbv);
}

static void exit_register(struct vcpu *v, struct cpu_user_regs *regs, struct vmcb *b)
{
    struct insn insn;

    if (!hvm_decode(v, regs, &insn)) {
        hvm_inject_exception(v, X86_UD, 0);
        return;
    }
    if (b->exit_code < VMEXIT_DR_READ ? hvm_exit_control_register(v, regs, &insn)
                                      : hvm_exit_debug_register(v, regs, &insn))
        step(v, regs, b, insn.length);
}

static exit_handler_t *const exits[VMEXIT_TABLE_SIZE] = {
    [VMEXIT_CR_WRITE + 4] = exit_register,
    [VMEXIT_CR_WRITE + 8] = exit_register,
    [VMEXIT_DR_READ... VMEXIT_DR_WRITE + 15] = exit_register,
    [VMEXIT_EXCEPTION + X86_DB] = exit_debug,
    [VMEXIT_EXCEPTION + X86_AC] = exit_alignment,
    [VMEXIT_EXCEPTION + X86_MC] = exit_machine_check,
    [VMEXIT_INTR] = exit_nothing, /* taken when Croft's interrupts were enabled again, as were the next three */
    [VMEXIT_NMI] = exit_nothing,
    [VMEXIT_SMI] = exit_nothing,
    [VMEXIT_INIT] = exit_nothing,
    [VMEXIT_VINTR] = exit_nothing, /* the next entry injects what it waited for */
    [VMEXIT_RDPMC] = exit_protection,
    [VMEXIT_CPUID] = exit_cpuid,
    [VMEXIT_IRET] = exit_iret,
    [VMEXIT_INVD] = exit_caches,
    [VMEXIT_WBINVD] = exit_caches,
    [VMEXIT_HLT] = exit_hlt,
    [VMEXIT_INVLPGA] = exit_undefined,
    [VMEXIT_IOIO] = exit_port,
    [VMEXIT_MSR] = exit_msr,
    [VMEXIT_TASK_SWITCH] = exit_task_switch,
    [VMEXIT_FERR_FREEZE] = exit_nothing,
    [VMEXIT_SHUTDOWN] = exit_shutdown,
    [VMEXIT_VMRUN] = exit_undefined,
    [VMEXIT_VMMCALL] = exit_vmmcall,
    [VMEXIT_VMLOAD] = exit_undefined,
    [VMEXIT_VMSAVE] = exit_undefined,
    [VMEXIT_STGI] = exit_undefined,
    [VMEXIT_CLGI] = exit_undefined,
    [VMEXIT_SKINIT] = exit_undefined,
    [VMEXIT_ICEBP] = exit_int1,
    [VMEXIT_MONITOR] = exit_undefined,
    [VMEXIT_MWAIT] = exit_undefined,
    [VMEXIT_XSETBV] = exit_xsetbv,
    [VMEXIT_RDPRU] = exit_undefined,
};

static void exit_nested_fault(struct vcpu *v, struct cpu_user_regs *regs, struct vmcb *b)
{
    unsigned length;

    /* Not by what the instruction says, but by what the processor does for itself: it has to be memory. */
    if (unlikely(b->exit_int_info & EVENT_VALID || b->exit_info1 & NPF_TABLE_WALK)) {
        if (hvm_memory_at(v, b->exit_info2, b->exit_info1 & PFEC_WRITE, false) != MEMORY_COMES)
            domain_crash(v->domain,
                         "vcpu %u: a page table, stack or descriptor table at physical address 0x%lx, where it has no "
                         "memory of its own (rip 0x%lx)\n",
                         v->id, b->exit_info2, (unsigned long)regs->rip);
        return;
    }
    if (hvm_exit_memory(v, regs, b->exit_info2, b->exit_info1 & PFEC_WRITE, b->exit_info1 & PFEC_INSN, &length))
        step(v, regs, b, length);
}

static __attribute__((noinline)) void exit_unknown(struct vcpu *v, struct vmcb *b)
{
    const char *rule = svm_audit(b, &svm.limits);

    cpus[cpu_id()].next_asid = svm.asids; /* if the entry was to empty the TLB of all ids, it has not */
    if ((uint32_t)b->exit_code == (uint32_t)VMEXIT_INVALID) /* 32 bits in QEMU */
        domain_crash(v->domain, "the processor refuses the state of vcpu %u: %s\n", v->id,
                     rule ? rule : "no rule found");
    else
        domain_crash(v->domain, "vcpu %u left its guest for reason 0x%lx, which Croft does not know\n", v->id,
                     b->exit_code);
}

/* An event that was being delivered when the guest left is delivered anew. Those of INT n, INT3 and INTO are not: their instruction
 * is executed again. */
static void keep_interrupted(struct vcpu *v, const struct vmcb *b)
{
    uint64_t type = b->exit_int_info & EVENT_TYPE, vector = b->exit_int_info & EVENT_VECTOR;
    bool by_instruction =
        type == EVENT_TYPE_SOFTWARE || (type == EVENT_TYPE_EXCEPTION && (vector == X86_BP || vector == X86_OF));

    if (b->exit_code - VMEXIT_EXCEPTION < 32) { /* an exception of its delivery goes first: #DB, #AC */
        if (type == EVENT_TYPE_INTR)
            vlapic_unaccept(v, (uint8_t)vector);
    } else if (!by_instruction) {
        v->hvm->pending_event = b->exit_int_info;
    }
}

/* A virtual interrupt that the guest has not taken, or whose delivery made it leave: QEMU (7.2) calls it an exception then. */
static void keep_virtual(struct vcpu *v, struct vmcb *b)
{
    uint64_t vector = b->vintr >> VINTR_VECTOR_SHIFT & EVENT_VECTOR;

    b->vintr &= ~VINTR_NOW;
    if (!(b->exit_int_info & EVENT_VALID) || (b->exit_int_info & EVENT_VECTOR) == vector)
        b->exit_int_info = EVENT_VALID | EVENT_TYPE_INTR | vector;
    else /* an exception of its delivery goes first */
        vlapic_unaccept(v, (uint8_t)vector);
}

/*
 * The short way of an access to a port where nothing is: kernels that look for hardware make them by the hundred thousand. It is
 * answered in the control block. False: it is something else, and nothing was done.
 */
static inline bool absent_port(const struct vcpu *v, struct vmcb *b)
{
    uint64_t info = b->exit_info1;

    if (b->exit_code != VMEXIT_IOIO || info & IOIO_STRING || b->exit_int_info & EVENT_VALID || b->rflags & EFLAGS_TF ||
        !hvm_port_is_absent(v->domain, IOIO_PORT(info)))
        return false;
    if (info & IOIO_IN)
        b->rax = hvm_absent_port_value(b->rax, IOIO_SIZE(info));
    b->rip = b->exit_info2;
    b->rflags &= ~EFLAGS_RF;
    b->interrupt_shadow &= ~INTERRUPT_SHADOW;
    return true;
}

/* After that: may the guest go on as it was? Leaves interrupts disabled if so. */
static inline bool goes_on(const struct vcpu *v, struct vmcb *b, const struct percpu *pc, uint32_t cr8)
{
    const struct hvm_vcpu *h = v->hvm;

    cli();
    b->event_injection = 0;
    b->tlb_control = TLB_FLUSH_NOTHING;
    if (likely(!pc->softirq_pending && !(h->init_pending | h->startup | h->upcall_edge | v->pv.nmi_pending) &&
               !(v->domain->hvm->callback_vector && v->info->evtchn_upcall_pending) && vlapic_is_idle(v) &&
               READ_ONCE(v->domain->hvm->p2m.flushes) == h->flushed && (b->vintr & VINTR_TPR) == cr8))
        return true;
    sti();
    return false;
}

static void exit_for(struct vcpu *v, struct cpu_user_regs *regs, struct vmcb *b, uint64_t code)
{
    if (likely(code < VMEXIT_TABLE_SIZE && exits[code]))
        exits[index_nospec(code, VMEXIT_TABLE_SIZE)](v, regs, b);
    else if (code == VMEXIT_NPF)
        exit_nested_fault(v, regs, b);
    else
        exit_unknown(v, b);
}

static void svm_run(struct vcpu *v, struct cpu_user_regs *regs)
{
    struct hvm_vcpu *h = v->hvm;
    struct vmcb *b = h->vmcb;
    const struct percpu *pc = this_cpu();
    unsigned cpu = pc->id;
    uint64_t flushes = READ_ONCE(v->domain->hvm->p2m.flushes), *counts = cpus[cpu].exits;
    uint32_t cr8 = vlapic_get_cr8(v);
    bool absent;

    b->rax = regs->rax;
    b->rip = regs->rip;
    b->rsp = regs->rsp;
    b->rflags = regs->rflags;
    b->tlb_control = TLB_FLUSH_NOTHING;
    b->vintr = (b->vintr & ~VINTR_TPR_FIELD) | cr8;
    inject(v, b);
    if (unlikely(h->flushed != flushes || h->asid_generation != cpus[cpu].generation || h->asid_cpu != cpu))
        new_asid(v, b, cpu, flushes);
    do {
        svm_enter(regs, virt_to_maddr(b).n, cpus[cpu].host_address);
        counts[min(b->exit_code, (uint64_t)VMEXIT_TABLE_SIZE)]++;
        absent = absent_port(v, b);
    } while (absent && goes_on(v, b, pc, cr8));
    regs->rax = b->rax;
    regs->rip = b->rip;
    regs->rsp = b->rsp;
    regs->rflags = b->rflags;
    regs->cs = b->cs.selector;
    regs->ss = b->ss.selector;
    if (unlikely(h->nmi_leaving && regs->rip != h->nmi_iret_rip))
        h->nmi_leaving = h->nmi_blocked = false;
    if (unlikely((b->vintr & VINTR_TPR) != cr8))
        vlapic_set_cr8(v, b->vintr & VINTR_TPR);
    if (unlikely(b->vintr & VINTR_IRQ) && !(b->intercepts[INTERCEPT_MISC1] & INTERCEPT_VINTR))
        keep_virtual(v, b);
    if (unlikely(b->exit_int_info & EVENT_VALID))
        keep_interrupted(v, b);
    if (absent)
        return;
    exit_for(v, regs, b, b->exit_code);
}

static uint64_t svm_exits(unsigned reason, const char **name)
{
    static const char *const names[VMEXIT_TABLE_SIZE + 1] = {
        [VMEXIT_CR_WRITE + 4] = "CR4 written",
        [VMEXIT_CR_WRITE + 8] = "CR8 written",
        [VMEXIT_EXCEPTION + X86_DB] = "#DB",
        [VMEXIT_EXCEPTION + X86_AC] = "#AC",
        [VMEXIT_INTR] = "interrupt",
        [VMEXIT_VINTR] = "interrupt window",
        [VMEXIT_CPUID] = "CPUID",
        [VMEXIT_IRET] = "IRET",
        [VMEXIT_HLT] = "HLT",
        [VMEXIT_IOIO] = "port",
        [VMEXIT_MSR] = "MSR",
        [VMEXIT_VMMCALL] = "hypercall",
        [VMEXIT_XSETBV] = "XSETBV",
        [VMEXIT_TABLE_SIZE] = "nested page fault",
    };
    uint64_t sum = 0;
    unsigned cpu;

    *name = names[reason];
    for (cpu = 0; cpu < NR_CPUS; cpu++)
        sum += cpus[cpu].exits ? cpus[cpu].exits[reason] : 0;
    return sum;
}

const struct hvm_vendor hvm_svm = {
    .name = "AMD-V",
    .vmcall = {0x0f, 0x01, 0xd9},
    .find = svm_find,
    .init_cpu = svm_init_cpu,
    .create = svm_create,
    .destroy = svm_destroy,
    .start_real = svm_start_real,
    .start_flat = svm_start_flat,
    .get = svm_get,
    .set = svm_set,
    .paging = svm_paging,
    .in_64_bit_kernel = svm_in_64_bit_kernel,
    .segment = svm_segment,
    .save = svm_save,
    .check = svm_check,
    .load = svm_load,
    .run = svm_run,
    .report = svm_report,
    .exit_reasons = VMEXIT_TABLE_SIZE + 1,
    .exits = svm_exits,
};
