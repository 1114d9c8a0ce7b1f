/* The deprivileged kernel mode: hypercall page, changes between guest user and kernel, bounce frames, iret. */
#include "cpu/cpu.h"
#include "cpu/instr.h"
#include "cpu/softirq.h"
#include "cpu/tlb.h"
#include "cpu/trace.h"
#include "domain/guest_access.h"
#include "lib/log.h"
#include "lib/string.h"
#include "pv/cpuid.h"
#include "pv/mode.h"
#include "pv/mode_entry.h"
#include "pv/traps.h"

bool smap_enabled;

/* One 32-byte entry a hypercall: save what SYSCALL destroys, number to eax, syscall. iret never comes back. */
void pv_write_hypercall_page(void *page)
{
    for (unsigned nr = 0; nr < PAGE_SIZE / 32; nr++) {
        uint8_t *p = (uint8_t *)page + nr * 32;
        bool iret = nr == __HYPERVISOR_iret;

        memset(p, 0xcc, 32);
        *p++ = 0x51; /* push %rcx */
        *p++ = 0x41; /* push %r11 */
        *p++ = 0x53;
        if (iret)
            *p++ = 0x50; /* push %rax */
        *p++ = 0xb8;     /* mov $nr, %eax */
        *(uint32_t *)p = nr;
        p += 4;
        *p++ = 0x0f; /* syscall */
        *p++ = 0x05;
        if (iret)
            continue;
        *p++ = 0x41; /* pop %r11 */
        *p++ = 0x5b;
        *p++ = 0x59; /* pop %rcx */
        *p++ = 0xc3; /* ret */
    }
}

void mode_to_kernel(struct vcpu *v)
{
    unsigned long flags;

    if (v->pv.kernel_mode)
        return;
    flags = irq_save();
    __asm__ volatile("swapgs" ::: "memory");
    v->pv.kernel_mode = true;
    tlb_load_cr3(v->pv.kernel_cr3);
    irq_restore(flags);
}

bool mode_to_user(struct vcpu *v)
{
    unsigned long flags;

    if (!v->pv.user_cr3)
        return false;
    flags = irq_save();
    __asm__ volatile("swapgs" ::: "memory");
    v->pv.kernel_mode = false;
    tlb_load_cr3(v->pv.user_cr3);
    irq_restore(flags);
    return true;
}

/*
 * Puts a bounce frame on the guest kernel's stack and points regs at the handler:
 * rcx, r11, [error code,] rip, cs with the saved upcall mask in bits 32-39, rflags, rsp, ss. CS has RPL 0 if the kernel itself was
 * interrupted, so that the guest can tell.
 */
static bool bounce(struct cpu_user_regs *regs, uint64_t handler, uint16_t cs, bool has_error, uint32_t error,
                   bool mask_events)
{
    struct vcpu *v = current;
    bool from_kernel = v->pv.kernel_mode;
    uint8_t mask = v->info->evtchn_upcall_mask;
    uint64_t flags = regs->rflags & ~(EFLAGS_IF | EFLAGS_IOPL);
    uint64_t frame[8], sp;
    unsigned n = 0;

    if (!mask)
        flags |= EFLAGS_IF;
    if (v->domain->vm_assist & (1U << VMASST_TYPE_architectural_iopl))
        flags |= (uint64_t)(v->pv.iopl & 3) << 12;
    frame[n++] = regs->rcx;
    frame[n++] = regs->r11;
    if (has_error)
        frame[n++] = error;
    frame[n++] = regs->rip;
    frame[n++] = (from_kernel ? regs->cs & ~3U : regs->cs) | (uint64_t)mask << 32;
    frame[n++] = flags;
    frame[n++] = regs->rsp;
    frame[n++] = regs->ss;

    sp = from_kernel ? regs->rsp : v->pv.kernel_sp;
    mode_to_kernel(v);
    sp = (sp & ~15UL) - n * 8;
    if (copy_to_guest((void *)sp, frame, n * 8)) {
        domain_crash(
            v->domain,
            "its kernel stack at 0x%lx cannot be written for an exception or event (handler 0x%lx, rip 0x%lx)\n", sp,
            handler, (unsigned long)regs->rip);
        return false;
    }
    if (mask_events)
        v->info->evtchn_upcall_mask = 1;
    regs->rip = handler;
    regs->cs = mode_fix_selector(cs);
    regs->ss = FLAT_KERNEL_SS;
    regs->rsp = sp;
    regs->rflags &= ~(EFLAGS_TF | EFLAGS_VM | EFLAGS_RF | EFLAGS_NT | EFLAGS_AC | EFLAGS_DF);
    regs->entry_vector = 0;
    return true;
}

static bool vector_has_error(unsigned vector)
{
    return vector < 32 && (1U << vector & (1U << X86_DF | 1U << X86_TS | 1U << X86_NP | 1U << X86_SS | 1U << X86_GP |
                                           1U << X86_PF | 1U << X86_AC | 1U << X86_CP));
}

static inline __attribute__((always_inline)) void inject(struct cpu_user_regs *regs, unsigned vector,
                                                         uint32_t error_code)
{
    struct vcpu *v = current;
    const struct trap_info *t = &v->pv.traps[vector];

    if (!t->address) {
        domain_crash(v->domain,
                     "exception %u (error 0x%x) at rip 0x%lx, rsp 0x%lx, cr2 0x%lx in guest %s mode, and its kernel "
                     "has no handler for it\n",
                     vector, error_code, (unsigned long)regs->rip, (unsigned long)regs->rsp, (unsigned long)v->pv.cr2,
                     v->pv.kernel_mode ? "kernel" : "user");
        return;
    }
    bounce(regs, t->address, t->cs, vector_has_error(vector), error_code, TI_GET_IF(t));
}

static __attribute__((noinline)) void trace_and_inject(struct cpu_user_regs *regs, unsigned vector, uint32_t error_code)
{
    const struct vcpu *v = current;
    uint32_t low = (uint32_t)regs->rip, high = (uint32_t)(regs->rip >> 32);

    if (vector == X86_PF)
        TRACE(TRC_PV_PAGE_FAULT | TRC_64_FLAG, low, high, (uint32_t)v->pv.cr2, (uint32_t)(v->pv.cr2 >> 32), error_code);
    else
        TRACE(TRC_PV_TRAP | TRC_64_FLAG, low, high,
              vector | (vector_has_error(vector) ? 1U << 15 | error_code << 16 : 0));
    inject(regs, vector, error_code);
}

void pv_inject_exception(struct cpu_user_regs *regs, unsigned vector, uint32_t error_code)
{
    if (unlikely(trace_on))
        trace_and_inject(regs, vector, error_code);
    else
        inject(regs, vector, error_code);
}

void pv_inject_page_fault(struct cpu_user_regs *regs, unsigned long cr2, uint32_t error_code)
{
    struct vcpu *v = current;

    v->pv.cr2 = cr2;
    v->info->arch.cr2 = cr2;
    /* The guest's kernel runs in ring 3; to itself it is the supervisor. */
    if (v->pv.kernel_mode)
        error_code &= ~PFEC_USER;
    else
        error_code |= PFEC_USER;
    pv_inject_exception(regs, X86_PF, error_code);
}

/* Failsafe frames hold the four data selectors behind rcx and r11: those that the guest had, also the bad one. */
static void inject_failsafe(struct cpu_user_regs *regs, const uint64_t selectors[4])
{
    struct vcpu *v = current;
    uint64_t head[2];

    if (!v->pv.failsafe_callback) {
        domain_crash(
            v->domain,
            "a selector of its context is bad (cs 0x%x ss 0x%x rip 0x%lx) and its kernel has no failsafe callback\n",
            regs->cs, regs->ss, (unsigned long)regs->rip);
        return;
    }
    if (!bounce(regs, v->pv.failsafe_callback, FLAT_KERNEL_CS, false, 0, v->pv.failsafe_disables_events))
        return;
    /* Room for the selectors between r11 and what follows it */
    if (copy_from_guest(head, (void *)regs->rsp, sizeof(head)) ||
        copy_to_guest((void *)(regs->rsp - 16), selectors, 4 * sizeof(*selectors)) ||
        copy_to_guest((void *)(regs->rsp - 32), head, sizeof(head)))
        domain_crash(v->domain, "its kernel stack at 0x%lx cannot be written for the failsafe callback\n",
                     (unsigned long)regs->rsp);
    regs->rsp -= 32;
}

/* IRETQ to the guest faulted: the registers are back in guest_regs (cpu/exceptions.c put them there). */
void pv_iret_to_guest_failed(struct cpu_user_regs *regs)
{
    uint64_t selectors[4];

    __asm__("mov %%ds, %0; mov %%es, %1; mov %%fs, %2; mov %%gs, %3"
            : "=r"(selectors[0]), "=r"(selectors[1]), "=r"(selectors[2]), "=r"(selectors[3]));
    inject_failsafe(regs, selectors);
}

/* A selector could not be loaded while switching to the current vcpu (domain/switch.c): it is null in the processor. */
void pv_selector_failed(struct cpu_user_regs *regs)
{
    const struct cpu_user_regs *r = &current->regs;
    const uint64_t selectors[4] = {r->ds, r->es, r->fs, r->gs};

    inject_failsafe(regs, selectors);
}

/* An event is pending and not masked: called from the exit path with interrupts off. */
void pv_deliver_event(struct cpu_user_regs *regs)
{
    struct vcpu *v = current;

    if (!v->pv.event_callback) {
        /* Nothing to deliver to yet: leave it pending, but do not come back here for ever. */
        v->info->evtchn_upcall_mask = 1;
        return;
    }
    bounce(regs, v->pv.event_callback, FLAT_KERNEL_CS, false, 0, true);
}

/* SOFTIRQ_NMI: one waits for the current vcpu, unless it still handles the one before (its iret raises this again). */
static void deliver_nmi(void)
{
    struct vcpu *v = current;

    if (v->is_idle || v->hvm || v->pv.nmi_masked || !__atomic_exchange_n(&v->pv.nmi_pending, false, __ATOMIC_SEQ_CST) ||
        !v->pv.nmi_callback)
        return;
    v->pv.nmi_masked = true;
    bounce(guest_regs(), v->pv.nmi_callback, FLAT_KERNEL_CS, false, 0, true);
}

void pv_init(void)
{
    softirq_register(SOFTIRQ_NMI, deliver_nmi);
    cpuid_init();
}

/* The slow ways of entry.S. */

void pv_syscall(struct cpu_user_regs *regs)
{
    struct vcpu *v = current;

    if (!v->pv.syscall_callback) {
        regs->rip -= 2;
        pv_inject_exception(regs, X86_UD, 0);
        return;
    }
    bounce(regs, v->pv.syscall_callback, FLAT_KERNEL_CS, false, 0, v->pv.syscall_disables_events);
}

/* From the fast ways, with interrupts off: the mode is the kernel's already. */
void pv_bad_kernel_stack(struct cpu_user_regs *regs)
{
    struct vcpu *v = current;

    if (smap_enabled)
        __asm__ volatile("clac" ::: "memory");
    domain_crash(v->domain, "its kernel stack at 0x%lx cannot be written for a %s\n", (unsigned long)v->pv.kernel_sp,
                 regs->entry_vector == X86_PF ? "page fault" : "system call");
}

void pv_syscall32(struct cpu_user_regs *regs)
{
    struct vcpu *v = current;

    if (v->pv.kernel_mode || !v->pv.syscall32_callback) {
        regs->rip -= 2;
        pv_inject_exception(regs, X86_UD, 0);
        return;
    }
    bounce(regs, v->pv.syscall32_callback, FLAT_KERNEL_CS, false, 0, v->pv.syscall32_disables_events);
}

void pv_sysenter(struct cpu_user_regs *regs)
{
    struct vcpu *v = current;

    if (v->pv.kernel_mode || !v->pv.sysenter_callback) {
        pv_inject_exception(regs, X86_GP, 0);
        return;
    }
    bounce(regs, v->pv.sysenter_callback, FLAT_KERNEL_CS, false, 0, v->pv.sysenter_disables_events);
}

void pv_iret_no_user_root(struct cpu_user_regs *regs)
{
    domain_crash(current->domain, "iret to user mode (rip 0x%lx) without a user page table (MMUEXT_NEW_USER_BASEPTR)\n",
                 (unsigned long)regs->rip);
}

void pv_iret_fault(struct cpu_user_regs *regs)
{
    domain_crash(current->domain, "iret hypercall with its stack at 0x%lx not readable\n", (unsigned long)regs->rsp);
}

void pv_iret(struct cpu_user_regs *regs)
{
    struct vcpu *v = current;
    struct iret_context c;

    if (copy_from_guest(&c, (void *)regs->rsp, sizeof(c))) {
        pv_iret_fault(regs);
        return;
    }
    regs->rax = c.rax;
    regs->rip = c.rip;
    regs->rsp = c.rsp;
    if (c.flags & VGCF_in_syscall) {
        c.cs = FLAT_USER_CS64;
        c.ss = FLAT_USER_SS;
        regs->rcx = c.rip;
        regs->r11 = c.rflags;
    } else {
        regs->rcx = c.rcx;
        regs->r11 = c.r11;
    }
    regs->ss = (uint16_t)c.ss;
    v->info->evtchn_upcall_mask = !(c.rflags & EFLAGS_IF);
    regs->rflags = (c.rflags & 0x250dd5) | EFLAGS_IF | EFLAGS_MBS;
    v->pv.nmi_masked = false;
    if (v->pv.nmi_pending)
        softirq_raise(SOFTIRQ_NMI);
    regs->cs = (uint16_t)c.cs | 3;
    if ((c.cs & 3) == 3 && !mode_to_user(v))
        pv_iret_no_user_root(regs);
}
