/* Where exceptions and interrupts arrive in C: sorted into what Croft handles and what the guest gets. */
#include "cpu/instr.h"
#include "cpu/panic.h"
#include "cpu/percpu.h"
#include "cpu/smp.h"
#include "domain/domain.h"
#include "domain/guest_access.h"
#include "lib/log.h"
#include "lib/string.h"
#include "platform/apic.h"
#include "platform/irq.h"
#include "pv/mmu.h"
#include "pv/mode.h"
#include "pv/mode_entry.h"
#include "pv/traps.h"
#include "sched/timer.h"

struct ex_entry {
    int32_t from, to;
};
extern const struct ex_entry __ex_table_start[], __ex_table_end[];

/* The instruction at rip may fault: where to go on, or 0. The table is small and faults are rare: linear. */
static unsigned long ex_table_find(unsigned long rip)
{
    for (const struct ex_entry *e = __ex_table_start; e < __ex_table_end; e++)
        if ((unsigned long)&e->from + e->from == rip)
            return (unsigned long)&e->to + e->to;
    return 0;
}

static const char *const names[32] = {
    "divide error",
    "debug",
    "NMI",
    "breakpoint",
    "overflow",
    "bound range",
    "invalid opcode",
    "device not available",
    "double fault",
    "coprocessor overrun",
    "invalid TSS",
    "segment not present",
    "stack fault",
    "general protection",
    "page fault",
    "spurious",
    "x87 error",
    "alignment check",
    "machine check",
    "SIMD error",
};

static void nmi(struct cpu_user_regs *regs) { smp_nmi_stop(); }

/* A #PF at a descriptor-window address: the processor reads the guest's LDT for it. */
static bool ldt_fault(unsigned long cr2, uint32_t error)
{
    struct vcpu *v = current;
    unsigned long base = (unsigned long)v->pv.descriptor_window + (16UL << PAGE_SHIFT);

    if (!v->pv.descriptor_window || (error & (PFEC_USER | PFEC_RSVD)) || cr2 < base ||
        cr2 >= base + (16UL << PAGE_SHIFT))
        return false;
    return descriptor_map_ldt_page(v, (unsigned)(cr2 - base));
}

static void guest_page_fault(struct cpu_user_regs *regs, unsigned long cr2)
{
    struct vcpu *v = current;
    uint32_t error = regs->error_code;

    if (cr2 >= HOLE_START && cr2 < HOLE_END) {
        if (ldt_fault(cr2, error))
            return;
        /* What is mapped there is none of the guest's business: as if nothing were. */
        if (cr2 >= M2P_RW_START)
            error &= ~PFEC_PRESENT;
    } else if (v->pv.kernel_mode &&
               (error & (PFEC_PRESENT | PFEC_WRITE | PFEC_RSVD | PFEC_INSN)) == (PFEC_PRESENT | PFEC_WRITE)) {
        if (mmu_emulate_pt_write(regs, cr2))
            return;
    }
    pv_inject_page_fault(regs, cr2, error);
}

/* From the entry code: #PF of a guest's kernel that wrote where it may only read. */
void guest_kernel_writes(struct cpu_user_regs *regs, unsigned long cr2)
{
    current->stats_exceptions++;
    guest_page_fault(regs, cr2);
}

/* INT n by a guest: the IDT's gates are ring 0's, so it arrives as #GP with the vector in the error code. */
static bool software_interrupt(struct cpu_user_regs *regs)
{
    struct vcpu *v = current;
    unsigned vector = regs->error_code >> 3;
    const struct trap_info *t;
    uint8_t insn[2];

    if (!(regs->error_code & 2))
        return false;
    /* QEMU before 8.0 shifts the vector by 4 here: what the instruction itself says is right on every processor. */
    if (guest_fetch(insn, regs->rip, 2) == 2 && insn[0] == 0xcd)
        vector = insn[1];
    else if (vector > 255)
        return false;
    t = &v->pv.traps[vector];
    if (!t->address || TI_GET_DPL(t) < (v->pv.kernel_mode ? 1 : 3)) {
        regs->error_code = vector << 3 | 2;
        return false;
    }
    regs->rip += 2;
    pv_inject_exception(regs, vector, 0);
    return true;
}

static void debug_exception(struct cpu_user_regs *regs, unsigned long dr6)
{
    struct vcpu *v = current;

    v->pv.dr[6] = (v->pv.dr[6] & ~0xfUL) | (dr6 & 0xe00fUL) | 0xffff0ff0UL;
    pv_inject_exception(regs, X86_DB, 0);
}

void exception_from_guest(struct cpu_user_regs *regs)
{
    struct vcpu *v = current;
    unsigned vector = regs->entry_vector;
    unsigned long cr2 = vector == X86_PF ? read_cr2() : 0;
    unsigned long dr6 = 0;

    if (vector == X86_DB) {
        dr6 = read_dr6();
        write_dr6(0xffff0ff0UL);
    }
    if (smap_enabled)
        __asm__ volatile("clac" ::: "memory");
    if (vector == X86_NMI) {
        nmi(regs);
        return;
    }
    if (vector == X86_MC)
        panic_regs(regs, "machine check while a guest ran\n");
    sti();
    v->stats_exceptions++;
    switch (vector) {
    case X86_PF:
        guest_page_fault(regs, cr2);
        return;
    case X86_GP:
        if (software_interrupt(regs) || pv_emulate_privileged(regs))
            return;
        break;
    case X86_UD:
        if (pv_emulate_forced(regs))
            return;
        break;
    case X86_NM:
        /* CR0.TS was set for the guest (fpu_taskswitch): the ABI clears it on delivery. */
        if (v->pv.ts_set) {
            v->pv.ts_set = false;
            v->pv.cr0_guest &= ~CR0_TS;
            clts();
        }
        break;
    case X86_DB:
        debug_exception(regs, dr6);
        return;
    }
    pv_inject_exception(regs, vector, regs->error_code);
}

/*
 * IRETQ to the guest found something wrong with what it should load. By then the registers below the frame hold the guest's
 * values, and this exception's frame overlays where they were: put them back, and tell the guest by its failsafe callback.
 */
static __noreturn void iret_to_guest_fault(void)
{
    pv_iret_to_guest_failed(guest_regs());
    reset_stack_and_leave(NULL);
}

void exception_in_hypervisor(struct cpu_user_regs *regs)
{
    unsigned vector = regs->entry_vector;
    unsigned long fixup, cr2;

    switch (vector) {
    case X86_NMI:
        nmi(regs);
        return;
    case X86_DB: {
        /* A guest's data breakpoint hit by a copy, or a single step over SYSCALL: recorded for nobody, switched off for Croft's own run. */
        write_dr6(0xffff0ff0UL);
        regs->rflags &= ~EFLAGS_TF;
        return;
    }
    case X86_DF:
        panic_regs(regs, "double fault\n");
    case X86_MC:
        panic_regs(regs, "machine check\n");
    }
    cr2 = read_cr2();
    if (vector == X86_PF && cr2 >= DESCRIPTOR_START && cr2 < IMAGE_START &&
        (regs->rip == (unsigned long)iret_to_guest || ex_table_find(regs->rip))) {
        sti();
        if (ldt_fault(cr2, regs->error_code)) {
            cli();
            return;
        }
        cli();
    }
    if (regs->rip == (unsigned long)iret_to_guest &&
        (vector == X86_GP || vector == X86_NP || vector == X86_SS || vector == X86_PF)) {
        struct cpu_user_regs *g = guest_regs();

        memmove(&g->r15, &regs->r15, offsetof(struct cpu_user_regs, error_code) - offsetof(struct cpu_user_regs, r15));
        sti();
        iret_to_guest_fault();
    }
    fixup = ex_table_find(regs->rip);
    if (fixup) {
        regs->rip = fixup;
        return;
    }
    if (vector == X86_PF)
        panic_regs(regs, "page fault in Croft at address 0x%lx, error code 0x%x\n", cr2, regs->error_code);
    panic_regs(regs, "exception %u (%s) in Croft, error code 0x%x\n", vector,
               vector < 32 && names[vector] ? names[vector] : "?", regs->error_code);
}

void interrupt_dispatch(struct cpu_user_regs *regs)
{
    unsigned vector = regs->entry_vector;
    struct percpu *pc = this_cpu();

    pc->in_interrupt++;
    switch (vector) {
    case VECTOR_TIMER:
        apic_eoi();
        timer_interrupt();
        break;
    case VECTOR_WAKE:
        apic_eoi();
        break;
    case VECTOR_CALL:
        apic_eoi();
        if (!smp_call_lost())
            smp_interrupt_call();
        break;
    case VECTOR_SPURIOUS:
        break;
    case VECTOR_ERROR:
        apic_eoi();
        log_warning("local APIC error interrupt on CPU %u\n", pc->id);
        break;
    default:
        irq_dispatch(vector);
    }
    pc->in_interrupt--;
}
