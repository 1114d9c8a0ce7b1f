/*
 * A vcpu's local APIC: xAPIC by memory, x2APIC by MSRs; its timer; INIT and start-up signals. There is no I/O APIC and no external
 * interrupt controller behind it: interrupts come from other vcpus, from its own timer and error entries, and from event channels.
 * Source: Intel SDM volume 3, chapter 11; AMD64 APM volume 2, chapter 16.
 *
 * Locks: IRR is set by anybody, any context, atomically. All else is the vcpu's own, touched while it is current (or does not
 * run); the timer's handler only sets IRR and re-arms.
 */
#ifndef HVM_VLAPIC_H
#define HVM_VLAPIC_H

#include "lib/types.h"
#include "sched/timer.h"

struct vcpu;

#define APIC_BASE_ADDRESS 0xfee00000UL

struct vlapic {
    struct vcpu *v;
    uint64_t base; /* IA32_APIC_BASE: address, BSP, EXTD, EN */
    uint32_t id;   /* x2APIC id; the xAPIC one is its low byte */
    uint32_t irr[8], isr[8], tmr[8];
    uint32_t svr, tpr, ldr, dfr, esr, esr_pending, icr_low, icr_high;
    uint32_t lvt[6]; /* timer, thermal, performance, LINT0, LINT1, error: in the order of their registers */
    uint32_t timer_divide, timer_initial;
    uint64_t tsc_deadline;
    ns_t timer_started; /* when timer_initial was written */
    struct timer timer;
};

/* The reset state; the id is fixed for ever. To be called once before anything else. */
void vlapic_init(struct vcpu *v, uint32_t id);
void vlapic_reset(struct vcpu *v); /* INIT: all but id and base */
void vlapic_destroy(struct vcpu *v);

/* IA32_APIC_BASE. False: #GP (reserved bits, another address than the usual one, a forbidden change of mode). */
bool vlapic_write_base(struct vcpu *v, uint64_t value);
/* MSRs 0x800-0x8ff in x2APIC mode, and IA32_TSC_DEADLINE. v is current. False: #GP. */
bool vlapic_read_msr(struct vcpu *v, uint32_t msr, uint64_t *value);
bool vlapic_write_msr(struct vcpu *v, uint32_t msr, uint64_t value);
/* The page at APIC_BASE_ADDRESS in xAPIC mode, 'offset' into it. Whatever is not an aligned 4-byte access of a register reads
 * as 0 and ignores writes. v is current. */
uint32_t vlapic_read_mmio(struct vcpu *v, uint32_t offset);
void vlapic_write_mmio(struct vcpu *v, uint32_t offset, uint32_t value);
/* Is the page there (enabled, not in x2APIC mode)? */
bool vlapic_has_page(const struct vcpu *v);

/* TPR's priority class, as CR8 has it. v is current. */
uint32_t vlapic_get_cr8(const struct vcpu *v);
void vlapic_set_cr8(struct vcpu *v, uint32_t value);

/* Requests an edge-triggered interrupt, any context; wakes the vcpu. Vectors below 16 are an error (ESR). No effect if the APIC is
 * switched off by software. */
void vlapic_set_irq(struct vcpu *v, uint8_t vector);
/* The vector that the processor would take now if it could (above the processor priority), or -1. Any context. */
int vlapic_pending(const struct vcpu *v);
/* The processor takes it: IRR to ISR. v is current. */
void vlapic_accept(struct vcpu *v, uint8_t vector);

/* Implemented by hvm.c: signals to other vcpus. */
void hvm_signal_nmi(struct vcpu *v);
void hvm_signal_init(struct vcpu *v);
void hvm_signal_startup(struct vcpu *v, uint8_t vector); /* begins at vector << 12 in real mode, if it waits for it */
void hvm_vcpu_notify(struct vcpu *v); /* something may be pending for it: wake it, or make it look */

#endif
