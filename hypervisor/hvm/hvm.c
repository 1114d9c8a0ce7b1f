/*
 * The vcpu of a domain with the processor's help, whatever its maker. It runs in a loop on its CPU's stack: softirqs, then what
 * waits to be injected, then the guest, then what the guest wants. The loop holds nothing from one round to the next, so that a
 * context switch may forget it at any softirq.
 *
 * INIT and start-up signals only leave a note (under d->lock): the vcpu itself changes its state, in its loop.
 */
#include "hvm/hvm.h"

#include "cpu/cpu.h"
#include "cpu/fpu.h"
#include "cpu/instr.h"
#include "cpu/softirq.h"
#include "domain/domain.h"
#include "hvm/vendor.h"
#include "hvm/vmcb.h"
#include "lib/log.h"
#include "lib/string.h"
#include "memory/alloc.h"
#include "platform/console.h"

#define STARTUP_VALID 0x100U
#define CALLBACK_TYPE_SHIFT 56
#define DR7_ENABLED 0xffUL /* any breakpoint */
#define DR6_RESET 0xffff0ff0UL

/* hvm_pending_vector: by the domain's callback, which the APIC knows nothing of */
#define VECTOR_CALLBACK 0x100

const struct hvm_vendor *hvm_vendor;
const char hvm_no_processor[] = "the processor has neither AMD-V nor VT-x";
static const char *missing = hvm_no_processor;

static void report_exits(void)
{
    for (unsigned i = 0; hvm_vendor && i < hvm_vendor->exit_reasons; i++) {
        const char *name;
        uint64_t n = hvm_vendor->exits(i, &name);

        if (n)
            log_info("  %lu times 0x%x %s\n", n, i, name ? name : "");
    }
}

void __init hvm_init(void)
{
    static const struct hvm_vendor *const vendors[] = {&hvm_svm, &hvm_vmx};

    key_register('v', "why hardware-assisted domains left their guests", report_exits);
    for (unsigned i = 0; missing == hvm_no_processor && i < ARRAY_SIZE(vendors); i++) {
        missing = vendors[i]->find();
        hvm_vendor = missing ? NULL : vendors[i];
    }
    if (missing) {
        log_info("hardware-assisted domains: none: %s\n", missing);
        return;
    }
    hvm_init_cpu();
    log_info("hardware-assisted domains: %s with nested paging\n", hvm_vendor->name);
}

void hvm_init_cpu(void)
{
    if (hvm_vendor)
        hvm_vendor->init_cpu();
}

void hvm_close_cpu(void)
{
    if (hvm_vendor && hvm_vendor->close_cpu)
        hvm_vendor->close_cpu();
}

const char *hvm_missing(void) { return missing; }

int hvm_init_domain(struct domain *d)
{
    int error;

    if (missing)
        return -EOPNOTSUPP;
    d->hvm = new_object(struct hvm_domain);
    if (!d->hvm)
        return -ENOMEM;
    d->hvm->params[HVM_PARAM_TRIPLE_FAULT_REASON] = SHUTDOWN_crash;
    error = p2m_init(d);
    if (error) {
        heap_free(d->hvm);
        d->hvm = NULL;
    }
    return error;
}

void hvm_destroy_domain(struct domain *d)
{
    p2m_destroy(d);
    heap_free(d->hvm);
    d->hvm = NULL;
}

mfn_t hvm_frame_get_writable(struct domain *d, uint64_t number) { return p2m_get_frame(d, GFN(number), true); }

int hvm_create_vcpu(struct vcpu *v)
{
    v->hvm = new_object(struct hvm_vcpu);
    if (!v->hvm)
        return -ENOMEM;
    if (hvm_vendor->create(v)) {
        heap_free(v->hvm);
        v->hvm = NULL;
        return -ENOMEM;
    }
    v->pv.kernel_mode = true; /* for who asks which tables to look in */
    v->hvm->waits_for_startup = true;
    vlapic_init(v, v->id * 2); /* as CPUID shows it: pv/cpuid.c */
    return 0;
}

void hvm_destroy_vcpu(struct vcpu *v)
{
    if (!v->hvm)
        return;
    hvm_vendor->destroy(v);
    heap_free(v->hvm);
    v->hvm = NULL;
}

/* What INIT and the PVH ABI have in common */
static void reset(struct vcpu *v)
{
    struct hvm_vcpu *h = v->hvm;

    memset(&v->regs, 0, sizeof(v->regs));
    memset(h->dr, 0, sizeof(h->dr));
    h->pending_event = 0;
    h->nmi_blocked = h->nmi_leaving = h->halted = false;
    v->pv.nmi_pending = false;
    v->regs.rflags = EFLAGS_MBS;
}

void hvm_start_pvh(struct vcpu *v, uint32_t entry, uint32_t start_info)
{
    reset(v);
    v->regs.rip = entry;
    v->regs.rbx = start_info;
    hvm_vendor->start_flat(v);
    v->hvm->waits_for_startup = false;
    v->initialised = true;
    v->down = false;
}

/* ---- Signals ---- */

void hvm_vcpu_notify(struct vcpu *v) { vcpu_kick(v); }

void hvm_signal_nmi(struct vcpu *v)
{
    struct hvm_vcpu *h = v->hvm;
    bool wake;

    __atomic_store_n(&v->pv.nmi_pending, true, __ATOMIC_SEQ_CST);
    spin_lock(&v->domain->lock);
    wake = v->down && h->halted && !h->nmi_blocked;
    if (wake)
        h->halted = h->waits_for_startup = v->down = false;
    spin_unlock(&v->domain->lock);
    if (wake)
        vcpu_wake(v);
    else
        vcpu_kick(v);
}

void hvm_signal_init(struct vcpu *v)
{
    spin_lock(&v->domain->lock);
    v->hvm->halted = false;
    if (v->down)
        v->hvm->waits_for_startup = true;
    else
        v->hvm->init_pending = true;
    spin_unlock(&v->domain->lock);
    smp_mb(); /* the note is there before vcpu_kick looks whether v sleeps or runs; vcpu_block does it the other way round */
    vcpu_kick(v);
}

void hvm_signal_startup(struct vcpu *v, uint8_t vector)
{
    struct hvm_vcpu *h = v->hvm;
    bool wake = false;

    spin_lock(&v->domain->lock);
    if (h->init_pending) {
        h->startup = STARTUP_VALID | vector;
    } else if (v->down && h->waits_for_startup) {
        h->startup = STARTUP_VALID | vector;
        h->waits_for_startup = false;
        v->initialised = true;
        v->down = false;
        wake = true;
    }
    spin_unlock(&v->domain->lock);
    if (wake)
        vcpu_wake(v);
}

/* v sleeps until a start-up signal. d->lock is held. True: it was the last that ran. */
static bool go_down(struct vcpu *v)
{
    struct vcpu *other;

    v->down = true;
    for_each_vcpu (v->domain, other)
        if (!other->down)
            return false;
    return true;
}

/* The notes that others left, on v's own CPU. v is current. */
static __attribute__((noinline)) void take_signals(struct vcpu *v)
{
    struct hvm_vcpu *h = v->hvm;
    bool last = false;
    uint32_t startup;

    spin_lock(&v->domain->lock);
    startup = h->startup;
    h->startup = 0;
    if (h->init_pending) {
        h->init_pending = false;
        if (!startup) {
            h->waits_for_startup = true;
            last = go_down(v);
        }
    }
    spin_unlock(&v->domain->lock);
    reset(v);
    vlapic_reset(v);
    if (READ_ONCE(v->info->evtchn_upcall_pending)) /* its request has gone with the reset */
        hvm_event_pending(v);
    hvm_vendor->start_real(v, (uint8_t)startup);
    memcpy(guest_regs(), &v->regs, offsetof(struct cpu_user_regs, es));
    if (last)
        domain_shutdown(v->domain, SHUTDOWN_poweroff);
    else if (v->down)
        vcpu_sleep(v);
}

void hvm_halt_for_good(struct vcpu *v)
{
    struct hvm_vcpu *h = v->hvm;
    bool last = false;

    spin_lock(&v->domain->lock);
    if (!h->init_pending && (!v->pv.nmi_pending || h->nmi_blocked) && !h->pending_event) {
        h->waits_for_startup = h->halted = true; /* INIT comes before the start-up signal, or not */
        last = go_down(v);
    }
    spin_unlock(&v->domain->lock);
    if (last)
        domain_shutdown(v->domain, SHUTDOWN_poweroff);
    else
        vcpu_sleep(v);
}

void hvm_triple_fault(struct vcpu *v, uint64_t rip)
{
    uint64_t reason = v->domain->hvm->params[HVM_PARAM_TRIPLE_FAULT_REASON];

    if (reason == SHUTDOWN_crash) {
        domain_crash(v->domain, "triple fault of vcpu %u at rip 0x%lx\n", v->id, rip);
        return;
    }
    log_info("%s: triple fault of vcpu %u at rip 0x%lx\n", v->domain->name, v->id, rip);
    domain_shutdown(v->domain, (int)reason);
}

/* ---- What waits to be injected ---- */

void hvm_inject_exception(struct vcpu *v, unsigned vector, uint32_t error_code)
{
    static const uint32_t with_error =
        1U << X86_DF | 1U << X86_TS | 1U << X86_NP | 1U << X86_SS | 1U << X86_GP | 1U << X86_PF | 1U << X86_AC;

    v->hvm->pending_event = EVENT_VALID | EVENT_TYPE_EXCEPTION | vector;
    if (with_error >> vector & 1 && hvm_vendor->get(v, HVM_CR0) & CR0_PE) /* in real mode none has one */
        v->hvm->pending_event |= EVENT_HAS_ERROR | (uint64_t)error_code << EVENT_ERROR_SHIFT;
}

void hvm_event_pending(struct vcpu *v)
{
    if (v->hvm->upcall_vector)
        __atomic_store_n(&v->hvm->upcall_edge, true, __ATOMIC_SEQ_CST);
}

int hvm_pending_vector(struct vcpu *v)
{
    struct hvm_vcpu *h = v->hvm;

    /* It waits for the APIC to be switched on: what was pending before the guest set up its interrupts comes then. */
    if (h->upcall_edge && vlapic_is_enabled(v) && __atomic_exchange_n(&h->upcall_edge, false, __ATOMIC_SEQ_CST))
        vlapic_set_irq(v, h->upcall_vector);
    if (READ_ONCE(v->info->evtchn_upcall_pending) && !h->upcall_vector && v->domain->hvm->callback_vector)
        return v->domain->hvm->callback_vector | VECTOR_CALLBACK;
    return vlapic_pending(v);
}

uint8_t hvm_accept_vector(struct vcpu *v, int vector)
{
    if (!(vector & VECTOR_CALLBACK))
        vlapic_accept(v, (uint8_t)vector);
    return (uint8_t)vector;
}

bool hvm_take_nmi(struct vcpu *v)
{
    if (likely(!v->pv.nmi_pending) || v->hvm->nmi_blocked)
        return false;
    v->pv.nmi_pending = false;
    v->hvm->nmi_blocked = true;
    return true;
}

bool hvm_interrupt_pending(struct vcpu *v)
{
    const struct hvm_vcpu *h = v->hvm;

    return h->pending_event || h->init_pending || (v->pv.nmi_pending && !h->nmi_blocked) ||
           (guest_regs()->rflags & EFLAGS_IF && hvm_pending_vector(v) >= 0);
}

bool hvm_set_upcall_vector(struct vcpu *v, uint8_t vector)
{
    if (vector < 0x10)
        return false;
    v->hvm->upcall_vector = vector;
    smp_mb(); /* who sets the flag does so before it looks at the vector */
    if (READ_ONCE(v->info->evtchn_upcall_pending))
        hvm_event_pending(v);
    vcpu_kick(v);
    return true;
}

bool hvm_set_callback(struct domain *d, uint64_t value)
{
    bool by_vector = value >> CALLBACK_TYPE_SHIFT == HVM_PARAM_CALLBACK_TYPE_VECTOR;
    struct vcpu *v;

    if (by_vector && (uint8_t)value < 0x10)
        return false;
    /* A GSI or a PCI line leads nowhere: there is no interrupt controller. Linux names one to tell the tools that it has drivers. */
    d->hvm->callback_vector = by_vector ? (uint8_t)value : 0;
    smp_mb();
    for_each_vcpu (d, v)
        vcpu_kick(v); /* it may have slept with an event pending that it can take now */
    return true;
}

/* ---- The context switch and the loop ---- */

void hvm_switch_out(struct vcpu *v)
{
    memcpy(&v->regs, guest_regs(), offsetof(struct cpu_user_regs, es));
    if (hvm_vendor->switch_out)
        hvm_vendor->switch_out(v);
    write_dr6(DR6_RESET); /* the exit has reset DR7 only */
    fpu_adopt_xcr0(v);    /* QEMU's AMD-V (7.2) does not intercept XSETBV */
    fpu_save(v);
}

void hvm_switch_in(struct vcpu *v)
{
    memcpy(guest_regs(), &v->regs, offsetof(struct cpu_user_regs, es));
    if (hvm_vendor->switch_in)
        hvm_vendor->switch_in(v);
    fpu_restore(v);
    if (cpu_features.rdtscp)
        wrmsr(MSR_TSC_AUX, v->pv.tsc_aux);
    if (hvm_vendor->get(v, HVM_DR7) & DR7_ENABLED)
        hvm_load_breakpoints(v);
}

void hvm_load_breakpoints(const struct vcpu *v)
{
    write_dr0(v->hvm->dr[0]);
    write_dr1(v->hvm->dr[1]);
    write_dr2(v->hvm->dr[2]);
    write_dr3(v->hvm->dr[3]);
}

void hvm_run(void)
{
    struct percpu *pc = this_cpu();
    struct vcpu *v = pc->current_vcpu;
    struct hvm_vcpu *h = v->hvm;

    for (;;) {
        cli();
        if (pc->softirq_pending) {
            sti();
            softirq_run();
        } else if (unlikely(h->init_pending | h->startup)) {
            sti();
            take_signals(v);
        } else {
            hvm_vendor->run(v, &pc->guest_regs);
        }
    }
}

bool hvm_has_xsave(const struct vcpu *v) { return hvm_vendor->get(v, HVM_CR4) & CR4_OSXSAVE; }

void hvm_report_vcpu(const struct vcpu *v)
{
    const struct cpu_user_regs *regs = v == current ? guest_regs() : &v->regs;

    hvm_vendor->report(v);
    hvm_report_walk(v, regs->rip);
    hvm_report_walk(v, regs->rsp);
}
