/*
 * A vcpu's local APIC: xAPIC by memory, x2APIC by MSRs; its timer; INIT and start-up signals. There is no I/O APIC and
 * no external interrupt controller behind it: interrupts come from other vcpus, from its own timer and error entries, and
 * from event channels.
 * Source: Intel SDM volume 3, chapter 11; AMD64 APM volume 2, chapter 16.
 *
 * Locks: IRR and the pending part of ESR are set by anybody, any context, atomically. The timer is under timer_lock
 * (vlapic.c says how). All else is written by the vcpu only, while it is current (or does not run); others read single
 * words of it.
 */
#ifndef HVM_VLAPIC_H
#define HVM_VLAPIC_H

#include "hypercall/abi.h"
#include "lib/spinlock.h"
#include "sched/timer.h"

struct vcpu;

#define APIC_BASE_BSP (1UL << 8)
#define APIC_BASE_EXTD (1UL << 10) /* x2APIC mode */
#define APIC_BASE_EN (1UL << 11)
#define APIC_BASE_ADDRESS 0xfee00000UL

#define APIC_TIMER_TICK_NS 10               /* of the timer's bus clock, before it is divided */
#define APIC_TIMER_MIN_PERIOD MICROSECS(50) /* shorter ones become this: no guest fills the host with its interrupts */

enum vlapic_lvt { LVT_TIMER, LVT_THERMAL, LVT_PERFORMANCE, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

struct vlapic {
    struct vcpu *v;
    uint64_t base; /* IA32_APIC_BASE: address, BSP, EXTD, EN */
    uint32_t id;   /* x2APIC id; the xAPIC one is its low byte */
    uint32_t tpr, ppr;
    uint32_t isr_top;                /* the highest vector in service, 0: none */
    uint64_t irr[4], isr[4], tmr[4]; /* by vector; tmr is 0: there is no level-triggered interrupt */
    uint32_t svr, ldr, dfr, esr, icr_low, icr_high;
    uint32_t esr_pending;    /* what the next write to ESR makes visible */
    uint32_t lvt[LVT_COUNT]; /* in the order of their registers */
    spinlock_t timer_lock;   /* the rest, and lvt[LVT_TIMER] */
    uint32_t timer_divide, timer_initial;
    uint64_t tsc_deadline; /* 0: not armed */
    ns_t timer_due;        /* when it fires next, masked or not; NS_NEVER: it does not run */
    struct timer timer;
};

/* The reset state, in xAPIC mode; the id is fixed for ever. v->hvm is there, zeroed. Once, before anything else. */
void vlapic_init(struct vcpu *v, uint32_t id);
void vlapic_reset(struct vcpu *v);   /* INIT: all but id and base. v is current, or does not run. */
void vlapic_destroy(struct vcpu *v); /* before v->hvm goes; v runs no more. Interrupts enabled. */

/* IA32_APIC_BASE; it is read from 'base'. False: #GP (reserved bits, another address than the usual one, a forbidden
 * change of mode). BSP cannot be changed. v is current. */
bool vlapic_write_base(struct vcpu *v, uint64_t value);
/* MSRs 0x800-0x8ff in x2APIC mode, and IA32_TSC_DEADLINE. v is current. False: #GP. */
bool vlapic_read_msr(struct vcpu *v, uint32_t msr, uint64_t *value);
bool vlapic_write_msr(struct vcpu *v, uint32_t msr, uint64_t value);
/* The page at APIC_BASE_ADDRESS in xAPIC mode, 'offset' into it. For aligned accesses of 4 bytes: what is not one of a
 * register reads as 0 and ignores writes. v is current. */
uint32_t vlapic_read_mmio(struct vcpu *v, uint32_t offset);
void vlapic_write_mmio(struct vcpu *v, uint32_t offset, uint32_t value);
/* Is the page there (enabled, not in x2APIC mode)? */
bool vlapic_has_page(const struct vcpu *v);

/* TPR's priority class, as CR8 has it. v is current. */
uint32_t vlapic_get_cr8(const struct vcpu *v);
void vlapic_set_cr8(struct vcpu *v, uint32_t value);

/* Requests an edge-triggered interrupt, any context; wakes the vcpu. Vectors below 16 are an error (ESR). No effect if
 * the APIC is switched off, by software or altogether. */
void vlapic_set_irq(struct vcpu *v, uint8_t vector);
bool vlapic_is_enabled(const struct vcpu *v); /* by software: else vlapic_set_irq has no effect */
/* The vector that the processor would take now if it could (above the processor priority), or -1. Any context. */
int vlapic_pending(const struct vcpu *v);
/* No request waits, whatever its priority. */
bool vlapic_is_idle(const struct vcpu *v);
/* It has not, after all: ISR to IRR. No effect if the vector is not in service. v is current. */
void vlapic_unaccept(struct vcpu *v, uint8_t vector);
bool vlapic_held_by_tpr(const struct vcpu *v); /* there would be one with a lower TPR, which the guest changes by CR8 */
/* The processor takes it: IRR to ISR. v is current. */
void vlapic_accept(struct vcpu *v, uint8_t vector);

/*
 * The APIC in the form of <xen/arch-x86/hvm/save.h>, of a vcpu that does not run. The checks tell what cannot be loaded, or null; what
 * they let through is loaded in whole. Both records in any order. A timer that counts begins with the count that the registers
 * have, or anew if they have none.
 */
void vlapic_save(const struct vcpu *v, struct hvm_hw_lapic *hidden,
                 struct hvm_hw_lapic_regs *regs); /* either may be null */
const char *vlapic_check_hidden(const struct vcpu *v, const struct hvm_hw_lapic *hidden);
const char *vlapic_check_regs(const struct hvm_hw_lapic_regs *regs);
void vlapic_load_hidden(struct vcpu *v, const struct hvm_hw_lapic *hidden);
void vlapic_load_regs(struct vcpu *v, const struct hvm_hw_lapic_regs *regs);

/* Implemented by hvm.c: signals to other vcpus. */
void hvm_signal_nmi(struct vcpu *v);
void hvm_signal_init(struct vcpu *v);
void hvm_signal_startup(struct vcpu *v, uint8_t vector); /* begins at vector << 12 in real mode, if it waits for it */
void hvm_vcpu_notify(struct vcpu *v);                    /* something may be pending for it: wake it, or make it look */

#endif
