/*
 * Privileged instructions. A PV kernel runs deprivileged, so an instruction that it should not have used ends in #GP
 * here. Kernels use hypercalls for what is frequent; what is left is decoded (pv/decode.c) and done on the vcpu's
 * state. One is hot, RDMSR of the user's GS base at every context switch of Linux: the entry code does it itself. Which of the
 * two GS bases is in which register: Croft uses neither; the entry code executes SWAPGS exactly when it toggles between
 * guest kernel and guest user, so here GS_BASE is that of the mode that trapped.
 */
#include "pv/emulate.h"
#include "cpu/cpu.h"
#include "cpu/fpu.h"
#include "cpu/instr.h"
#include "domain/guest_access.h"
#include "lib/log.h"
#include "lib/string.h"
#include "pv/cpuid.h"
#include "pv/descriptor.h"
#include "pv/mmu.h"
#include "pv/msr.h"
#include "pv/traps.h"
#include "hypercall/pv_state.h"

#define DESC_LONG (1UL << 53)
#define DR6_STEP (1UL << 14)

/* ----- fetch and finish ----- */

static bool code_is_long(struct vcpu *v, const struct cpu_user_regs *regs)
{
    uint64_t desc;

    if (v->pv.kernel_mode || regs->cs == FLAT_USER_CS64)
        return true;
    return descriptor_read(v, regs->cs, &desc) && (desc & DESC_LONG);
}

bool pv_fetch_insn(struct vcpu *v, const struct cpu_user_regs *regs, struct insn *insn, bool *long_mode)
{
    union {
        uint64_t words[2];
        uint8_t bytes[INSN_MAX_LENGTH];
    } code;
    uint8_t *bytes = code.bytes;
    unsigned long start = regs->rip;
    unsigned first;
    uint64_t base, n;
    enum decode_result r;

    *long_mode = code_is_long(v, regs);
    if (!*long_mode) {
        if (!pv_segment_base(v, SEG_CS, false, &base))
            return false;
        start = (uint32_t)(start + base);
    }
    if (likely((start & ~PAGE_MASK) <= PAGE_SIZE - sizeof(code.words) && guest_read16(code.words, (const void *)start)))
        return insn_decode(bytes, INSN_MAX_LENGTH, *long_mode, insn) == DECODE_OK;
    first = (unsigned)min(PAGE_SIZE - (start & ~PAGE_MASK), (unsigned long)INSN_MAX_LENGTH);
    n = first - copy_from_guest(bytes, (const void *)start, first);
    r = insn_decode(bytes, (unsigned)n, *long_mode, insn);
    if (r == DECODE_SHORT && n == first && first < INSN_MAX_LENGTH) { /* goes on in the next page */
        n += INSN_MAX_LENGTH - first;
        n -= copy_from_guest(bytes + first, (const void *)(start + first), INSN_MAX_LENGTH - first);
        r = insn_decode(bytes, (unsigned)n, *long_mode, insn);
    }
    return r == DECODE_OK;
}

void pv_finish_insn(struct cpu_user_regs *regs, unsigned length, bool long_mode)
{
    regs->rip += length;
    if (!long_mode)
        regs->rip = (uint32_t)regs->rip;
    regs->rflags &= ~EFLAGS_RF;
    if (unlikely(regs->rflags & EFLAGS_TF)) {
        current->pv.dr[6] |= DR6_STEP;
        pv_inject_exception(regs, X86_DB, 0);
    }
}

static uint16_t read_selector(enum insn_segment segment, const struct cpu_user_regs *regs)
{
    uint16_t sel;

    /* The data segment registers still hold the guest's selectors: 64-bit code has no use for them. */
    switch (segment) {
    case SEG_ES:
        __asm__ volatile("mov %%es, %0" : "=r"(sel));
        return sel;
    case SEG_DS:
        __asm__ volatile("mov %%ds, %0" : "=r"(sel));
        return sel;
    case SEG_CS:
        return regs->cs;
    case SEG_SS:
        return regs->ss;
    default:
        return 0;
    }
}

bool pv_segment_base(struct vcpu *v, enum insn_segment segment, bool long_mode, uint64_t *base)
{
    uint64_t desc;

    *base = 0;
    if (segment == SEG_FS)
        *base = rdmsr(MSR_FS_BASE);
    else if (segment == SEG_GS)
        *base = rdmsr(MSR_GS_BASE);
    else if (!long_mode) {
        if (!descriptor_read(v, read_selector(segment, guest_regs()), &desc))
            return false;
        *base = (desc >> 16 & 0xffffff) | (desc >> 32 & 0xff000000);
    }
    return true;
}

/* ----- control registers ----- */

uint64_t pv_read_cr0(const struct vcpu *v) { return (read_cr0() & ~CR0_TS) | (v->pv.cr0_guest & CR0_TS); }

void pv_set_ts(struct vcpu *v, bool set)
{
    if (set == !!(v->pv.cr0_guest & CR0_TS))
        return;
    v->pv.ts_set = set;
    if (set) {
        v->pv.cr0_guest |= CR0_TS;
        write_cr0(read_cr0() | CR0_TS);
    } else {
        v->pv.cr0_guest &= ~CR0_TS;
        clts();
    }
}

/* Guests decide about these; those that work without the real bit are only remembered. */
#define CR4_GUEST_OWNED (CR4_TSD | CR4_DE)
#define CR4_GUEST_WRITABLE (CR4_GUEST_OWNED | CR4_FSGSBASE)
/* Of the others a guest sees what Croft has set, without what is Croft's own business. */
#define CR4_GUEST_VISIBLE (CR4_PAE | CR4_MCE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE)

uint64_t pv_read_cr4(const struct vcpu *v)
{
    return (read_cr4() & CR4_GUEST_VISIBLE) | (v->pv.cr4_guest & CR4_GUEST_WRITABLE);
}

void pv_load_cr4(const struct vcpu *v)
{
    uint64_t now = read_cr4(), wanted = (now & ~CR4_GUEST_OWNED) | (v->pv.cr4_guest & CR4_GUEST_OWNED);

    if (unlikely(now != wanted))
        write_cr4(wanted);
}

static void write_guest_cr4(struct vcpu *v, uint64_t value)
{
    uint64_t ignored = (value ^ pv_read_cr4(v)) & ~CR4_GUEST_WRITABLE;

    if (ignored)
        guest_log(LOG_DEBUG, "CR4: change of bits %#lx ignored\n", ignored);
    v->pv.cr4_guest = value & CR4_GUEST_WRITABLE;
    pv_load_cr4(v);
}

static bool write_guest_cr0(struct vcpu *v, uint64_t value)
{
    if ((value ^ pv_read_cr0(v)) & ~CR0_TS) {
        guest_log(LOG_WARNING, "CR0: only TS can be changed, not %#lx to %#lx\n", pv_read_cr0(v), value);
        return false;
    }
    pv_set_ts(v, value & CR0_TS);
    return true;
}

static bool read_control(struct vcpu *v, unsigned n, uint64_t *value)
{
    switch (n) {
    case 0:
        *value = pv_read_cr0(v);
        return true;
    case 2:
        *value = v->pv.cr2;
        return true;
    case 3:
        *value = v->pv.kernel_root.n << PAGE_SHIFT;
        return true;
    case 4:
        *value = pv_read_cr4(v);
        return true;
    }
    return false;
}

static bool write_control(struct vcpu *v, unsigned n, uint64_t value)
{
    switch (n) {
    case 0:
        return write_guest_cr0(v, value);
    case 2:
        v->pv.cr2 = value;
        v->info->arch.cr2 = value;
        return true;
    case 3:
        return mmu_new_kernel_root(v, pte_mfn(value)) == 0;
    case 4:
        write_guest_cr4(v, value);
        return true;
    }
    return false;
}

/* ----- instructions ----- */

bool pv_iopl_allows(const struct vcpu *v)
{
    unsigned level = 3;

    if (v->pv.kernel_mode)
        level = v->domain->vm_assist & (1U << VMASST_TYPE_architectural_iopl) ? 0 : 1;
    return v->pv.iopl >= level;
}

static void set_pair(struct cpu_user_regs *regs, uint64_t value)
{
    regs->rax = (uint32_t)value;
    regs->rdx = value >> 32;
}

static uint64_t get_pair(const struct cpu_user_regs *regs) { return (uint64_t)regs->edx << 32 | regs->eax; }

static void emulate_cpuid(const struct vcpu *v, struct cpu_user_regs *regs)
{
    uint32_t out[4];

    pv_cpuid(v, regs->eax, regs->ecx, out);
    regs->rax = out[0];
    regs->rbx = out[1];
    regs->rcx = out[2];
    regs->rdx = out[3];
}

static bool emulate_rdmsr(struct vcpu *v, struct cpu_user_regs *regs)
{
    uint64_t value = 0;

    /* The ABI's kindness to early boot: without a #GP handler an unknown MSR reads as zero. */
    if (!msr_read(v, regs->ecx, &value) && v->pv.traps[X86_GP].address)
        return false;
    set_pair(regs, value);
    return true;
}

static bool emulate_lmsw(struct vcpu *v, struct cpu_user_regs *regs, const struct insn *i)
{
    uint64_t base;
    uint16_t word = 0;

    if (!i->memory)
        word = (uint16_t)*insn_reg(regs, i->rm);
    else if (!pv_segment_base(v, i->segment, true, &base) ||
             copy_from_guest(&word, (const void *)insn_address(i, regs, base), sizeof(word)))
        return false;
    /* MP, EM and TS are taken over; PE can be set, not cleared. */
    return write_guest_cr0(v, (pv_read_cr0(v) & ~(CR0_MP | CR0_EM | CR0_TS)) |
                                  (word & (CR0_PE | CR0_MP | CR0_EM | CR0_TS)));
}

static void flush_caches(const struct vcpu *v)
{
    if (v->domain->pv.io_memory) /* who has no device memory needs none */
        wbinvd();
}

/* What only the guest's kernel may do. */
static bool emulate_kernel_insn(struct vcpu *v, struct cpu_user_regs *regs, const struct insn *i)
{
    uint64_t value;

    switch (i->op) {
    case OP_RDMSR:
        return emulate_rdmsr(v, regs);
    case OP_WRMSR:
        return msr_write(v, regs->ecx, get_pair(regs));
    case OP_READ_CR:
        if (!read_control(v, i->reg, &value))
            return false;
        *insn_reg(regs, i->rm) = value;
        return true;
    case OP_WRITE_CR:
        return write_control(v, i->reg, *insn_reg(regs, i->rm));
    case OP_READ_DR:
        if (!pv_get_debugreg(v, i->reg, &value))
            return false;
        *insn_reg(regs, i->rm) = value;
        return true;
    case OP_WRITE_DR:
        return pv_set_debugreg(v, i->reg, *insn_reg(regs, i->rm)) == 0;
    case OP_CLTS:
        pv_set_ts(v, false);
        return true;
    case OP_LMSW:
        return emulate_lmsw(v, regs, i);
    case OP_SMSW:
        if (i->memory)
            return false;
        insn_reg_write(regs, i->rm, i->size, i->rex, pv_read_cr0(v));
        return true;
    case OP_INVD:
    case OP_WBINVD:
        flush_caches(v);
        return true;
    case OP_INVLPG: {
        unsigned long va;

        if (!pv_segment_base(v, i->segment, true, &value))
            return false;
        va = insn_address(i, regs, value);
        if (guest_range_ok((void *)va, 1))
            invlpg(va);
        return true;
    }
    case OP_XSETBV:
        return regs->ecx == 0 && !(get_pair(regs) & ~cpu_policy_of(v->domain)->xcr0) && fpu_set_xcr0(v, get_pair(regs));
    case OP_RDTSC:
        set_pair(regs, rdtsc());
        return true;
    case OP_RDTSCP:
        if (!cpu_features.rdtscp)
            return false;
        set_pair(regs, rdtsc());
        regs->rcx = (uint32_t)v->pv.tsc_aux;
        return true;
    }
    return false; /* HLT, SWAPGS, LGDT and the like: there are hypercalls */
}

bool pv_emulate_privileged(struct cpu_user_regs *regs)
{
    struct vcpu *v = current;
    struct insn insn;
    bool long_mode;

    if (regs->error_code) /* about a selector: no instruction of ours has one */
        return false;
    if (pv_emulate_absent_port(v, regs))
        return true;
    if (!pv_fetch_insn(v, regs, &insn, &long_mode))
        return false;

    switch (insn.op) {
    case OP_IN:
    case OP_OUT:
    case OP_INS:
    case OP_OUTS:
        return pv_emulate_port_insn(v, regs, &insn, long_mode);
    case OP_CPUID:
        emulate_cpuid(v, regs);
        break;
    case OP_CLI:
    case OP_STI:
        if (!pv_iopl_allows(v))
            return false;
        /* Accepted, without effect: the POPF that would undo a CLI does not trap, and events would stay masked for ever.
         * Kernels mask events by vcpu_info; code that does not know better finds them as they were. */
        break;
    default:
        if (!v->pv.kernel_mode || !long_mode || !emulate_kernel_insn(v, regs, &insn))
            return false;
        break;
    }
    pv_finish_insn(regs, insn.length, long_mode);
    return true;
}

/* ud2; "xen"; cpuid: a PV kernel's way to ask Croft rather than the processor. */
bool pv_emulate_forced(struct cpu_user_regs *regs)
{
    static const uint8_t signature[] = {0x0f, 0x0b, 'x', 'e', 'n', 0x0f, 0xa2};
    uint8_t bytes[sizeof(signature)];

    if (copy_from_guest(bytes, (const void *)regs->rip, sizeof(bytes)) || memcmp(bytes, signature, sizeof(bytes)))
        return false;
    emulate_cpuid(current, regs);
    pv_finish_insn(regs, sizeof(signature), true);
    return true;
}
