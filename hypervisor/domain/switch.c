/*
 * The switch: saves what the processor holds of one vcpu and loads another's. There is no stack to switch: the new vcpu's guest
 * registers go to the top of the CPU's stack and everything below is forgotten.
 */
#include "cpu/cpu.h"
#include "cpu/desc.h"
#include "cpu/fpu.h"
#include "cpu/hotplug.h"
#include "cpu/instr.h"
#include "cpu/softirq.h"
#include "cpu/speculation.h"
#include "cpu/tlb.h"
#include "domain/domain.h"
#include "domain/switch.h"
#include "hvm/hvm.h"
#include "hypercall/pv_state.h"
#include "lib/log.h"
#include "lib/string.h"
#include "pv/emulate.h"
#include "pv/mmu.h"
#include "pv/mode.h"
#include "pv/mode_entry.h"
#include "sched/time.h"

#define REGS_FRAME offsetof(struct cpu_user_regs, es) /* what the entry code saves */

static uint64_t read_fs_base(void)
{
    uint64_t v;

    if (!cpu_features.fsgsbase)
        return rdmsr(MSR_FS_BASE);
    __asm__ volatile("rdfsbase %0" : "=r"(v));
    return v;
}

static uint64_t read_gs_base(void)
{
    uint64_t v;

    if (!cpu_features.fsgsbase)
        return rdmsr(MSR_GS_BASE);
    __asm__ volatile("rdgsbase %0" : "=r"(v));
    return v;
}

static void write_fs_base(uint64_t v)
{
    if (cpu_features.fsgsbase)
        __asm__ volatile("wrfsbase %0" ::"r"(v));
    else
        wrmsr(MSR_FS_BASE, v);
}

static void write_gs_base(uint64_t v)
{
    if (cpu_features.fsgsbase)
        __asm__ volatile("wrgsbase %0" ::"r"(v));
    else
        wrmsr(MSR_GS_BASE, v);
}

static void save_segments(struct vcpu *v)
{
    struct cpu_user_regs *r = &v->regs;
    uint64_t active, other;

    __asm__ volatile("mov %%ds, %0" : "=r"(r->ds));
    __asm__ volatile("mov %%es, %0" : "=r"(r->es));
    __asm__ volatile("mov %%fs, %0" : "=r"(r->fs));
    __asm__ volatile("mov %%gs, %0" : "=r"(r->gs));
    v->pv.fs_base = read_fs_base();
    active = read_gs_base();
    other = rdmsr(MSR_KERNEL_GS_BASE);
    v->pv.gs_base_kernel = v->pv.kernel_mode ? active : other;
    v->pv.gs_base_user = v->pv.kernel_mode ? other : active;
}

#define LOAD_SELECTOR(seg, value, ok)                                                                                  \
    __asm__ volatile("1: mov %2, %%" #seg "\n2:\n\t"                                                                   \
                     ".pushsection .text.fixup, \"ax\"\n3: xor %1, %1\n\tmov %1, %%" #seg                              \
                     "\n\tmovb $0, %0\n\tjmp 2b\n\t.popsection\n\t"                                                    \
                     ".pushsection __ex_table, \"a\"\n\t.balign 4\n\t.long 1b - ., 3b - .\n\t.popsection"              \
                     : "+m"(ok), "=&r"(scratch)                                                                        \
                     : "r"((uint32_t)(value)))

/* False if a selector was bad: it is null now and the guest must hear of it. */
static bool load_segments(struct vcpu *v)
{
    const struct cpu_user_regs *r = &v->regs;
    uint32_t scratch;
    bool ok = true;

    if (unlikely(r->ds | r->es)) {
        LOAD_SELECTOR(ds, r->ds, ok);
        LOAD_SELECTOR(es, r->es, ok);
    } else {
        __asm__ volatile("mov %0, %%ds; mov %0, %%es" ::"r"(0));
    }
    LOAD_SELECTOR(fs, r->fs, ok);
    LOAD_SELECTOR(gs, r->gs, ok);
    /* After the selectors, which bring their descriptors' bases along. */
    write_fs_base(v->pv.fs_base);
    write_gs_base(v->pv.kernel_mode ? v->pv.gs_base_kernel : v->pv.gs_base_user);
    wrmsr(MSR_KERNEL_GS_BASE, v->pv.kernel_mode ? v->pv.gs_base_user : v->pv.gs_base_kernel);
    return ok;
}

static void save_vcpu(struct vcpu *v)
{
    memcpy(&v->regs, guest_regs(), REGS_FRAME);
    save_segments(v);
    if (v->pv.ts_set)
        clts();
    fpu_save(v);
    if (pv_debugregs_active(v))
        write_dr7(0x400);
}

static bool load_vcpu(struct vcpu *v, unsigned cpu)
{
    bool ok;

    memcpy(guest_regs(), &v->regs, REGS_FRAME);
    cpumask_set(cpu, &v->domain->dirty_cpus);
    tlb_load_cr3(mode_cr3(v));
    descriptor_load(v);
    ok = load_segments(v);
    fpu_restore(v);
    if (v->pv.ts_set)
        write_cr0(read_cr0() | CR0_TS);
    pv_load_cr4(v);
    if (pv_debugregs_active(v))
        pv_load_debugregs(v);
    if (cpu_features.rdtscp)
        wrmsr(MSR_TSC_AUX, v->pv.tsc_aux);
    return ok;
}

/* Croft's own tables and segments: for the idle loop, and around guests that bring theirs */
static void load_host(const struct percpu *pc)
{
    desc_load_host_gdt();
    desc_set_ldt(0, 0);
    __asm__ volatile("mov %0, %%ds; mov %0, %%es; mov %0, %%fs; mov %0, %%gs" ::"r"(0));
    tlb_load_cr3(pc->host_cr3);
}

void context_switch(struct vcpu *prev, struct vcpu *next)
{
    struct percpu *pc = this_cpu();
    bool ok = true;

    if (prev->hvm)
        hvm_switch_out(prev);
    else if (!prev->is_idle)
        save_vcpu(prev);
    pc->current_vcpu = next;
    if (!next->is_idle)
        speculation_switch(next->domain);
    if (next->is_idle || next->hvm)
        load_host(pc);
    else
        ok = load_vcpu(next, pc->id);
    if (next->hvm) {
        cpumask_set(pc->id, &next->domain->dirty_cpus);
        hvm_switch_in(next);
    }
    /* No translation of prev's domain is left here that is used again: all were dropped with the change of CR3; those of nested
     * tables have numbers that are out of date after the next flush (hvm/svm.c). */
    if (!prev->is_idle && prev->domain != next->domain)
        cpumask_clear(pc->id, &prev->domain->dirty_cpus);
    sched_switch_done(prev);
    if (next->is_idle) {
        sti();
        reset_stack_and_leave(idle_loop);
    }
    time_switch_in(next);
    if (next->hvm)
        reset_stack_and_leave(hvm_run);
    if (unlikely(next->pv.nmi_pending))
        softirq_raise(SOFTIRQ_NMI);
    if (unlikely(!ok)) {
        sti();
        pv_selector_failed(guest_regs());
    }
    reset_stack_and_leave(NULL);
}

void idle_loop(void)
{
    for (;;) {
        cli();
        if (this_cpu()->softirq_pending) {
            sti();
            softirq_run();
        } else if (unlikely(this_cpu()->park)) {
            cpu_park();
        } else {
            /* STI takes effect after the next instruction: no wake-up is lost between the look and HLT. */
            __asm__ volatile("sti; hlt" ::: "memory");
        }
    }
}
