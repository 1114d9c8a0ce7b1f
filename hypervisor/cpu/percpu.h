/*
 * What a CPU has of its own. Each CPU has a stack block of CPU_STACK_SIZE bytes, aligned to its size:
 * pages 0-3 are the stacks of #DF, NMI, #MC and #DB; the main stack follows and ends, at the top, in struct
 * percpu. So any stack pointer in the block leads to the CPU's area: there is no GS base to switch.
 * The guest's registers of the CPU's current vcpu are the first member: the entry code pushes them there.
 */
#ifndef CPU_PERCPU_H
#define CPU_PERCPU_H

#include "hypercall/abi.h"
#include "lib/util.h"

#define CPU_STACK_ORDER 3
#define CPU_STACK_SIZE (PAGE_SIZE << CPU_STACK_ORDER)

struct vcpu;

enum { CPU_RUNS, CPU_PARK, CPU_PARKED };

struct percpu {
    /* Puts the end of guest_regs' hardware frame on a 16-byte boundary, as the processor aligns it. */
    uint64_t stack_pad;
    struct cpu_user_regs guest_regs; /* valid while a guest's vcpu is current */
    struct vcpu *current_vcpu;       /* never null after boot: the idle vcpu at least */
    uint32_t id;                     /* 0 .. NR_CPUS-1, dense */
    uint32_t apic_id;
    volatile uint32_t softirq_pending; /* bits of enum softirq; set by this CPU or, with an IPI, by others */
    uint32_t in_interrupt;             /* nesting depth of interrupt handlers */
    uint64_t host_cr3;                 /* Croft's own root table, used by idle */
    uint64_t tlb_time;                 /* tlb_clock at this CPU's last full flush (cpu/tlb.h) */
    uint64_t cr4;
    /* Continuation of the running hypercall (hypercall/dispatch.h) */
    bool hypercall_restart;
    bool in_multicall;
    uint64_t restart_args[5];
    uint64_t last_serial;   /* of the domain that ran here last (cpu/speculation.h) */
    unsigned node;          /* NUMA node */
    volatile uint32_t park; /* CPU_PARK: its idle loop shall take it off line; CPU_PARKED: done (cpu/hotplug.c) */
} __aligned(16);

#define PERCPU_OFFSET (CPU_STACK_SIZE - sizeof(struct percpu))

#ifdef CROFT_HOST_TEST
struct percpu *this_cpu(void);
#else
static inline struct percpu *this_cpu(void)
{
    unsigned long sp;

    __asm__("mov %%rsp, %0" : "=r"(sp));
    return (struct percpu *)((sp & ~(CPU_STACK_SIZE - 1)) + PERCPU_OFFSET);
}
#endif

#define current (this_cpu()->current_vcpu)
static inline unsigned cpu_id(void) { return this_cpu()->id; }
static inline struct cpu_user_regs *guest_regs(void) { return &this_cpu()->guest_regs; }

struct percpu *percpu_of(unsigned cpu); /* another CPU's area; null if it is not there */

#endif
