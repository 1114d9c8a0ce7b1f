/* Other CPUs: starting them, calls on them. */
#ifndef CPU_SMP_H
#define CPU_SMP_H

#include "cpu/cpumask.h"

struct percpu;

/* Interrupt vectors. 0x20-0xdf are for devices (platform/irq.c); the top is Croft's. */
enum {
    VECTOR_DEVICE_FIRST = 0x20,
    VECTOR_DEVICE_LAST = 0xdf,
    VECTOR_TIMER = 0xf0,
    VECTOR_WAKE = 0xf1,
    VECTOR_CALL = 0xf2,
    VECTOR_ERROR = 0xfe,
    VECTOR_SPURIOUS = 0xff
};

void smp_start_all(void); /* all CPUs of the MADT up to maxcpus=; one that does not answer is a warning and left out */
/* One that was on line before and is parked (cpu/hotplug.c). False: it does not answer. Interrupts enabled. */
bool smp_restart(unsigned cpu);
void smp_leave(void); /* this CPU leaves cpu_online and does the calls that were made until then; interrupts disabled */
/* The page below 1 MiB in which other CPUs begin; must never be given to anyone. INVALID_MFN: there is no RAM for
 * one. */
mfn_t smp_trampoline_frame(void);
void smp_set_percpu(unsigned cpu, struct percpu *pc); /* what percpu_of finds */
/* Runs fn(arg) on every CPU in mask that is online, this one included if it is in there, and waits until all are done.
 * fn runs with interrupts disabled. Interrupts must be enabled and no lock held that an interrupt handler or another
 * caller's wait needs; if only this CPU is in the mask neither matters. */
void smp_call(const cpumask_t *mask, void (*fn)(void *), void *arg);
void smp_interrupt_call(void);    /* VECTOR_CALL */
void smp_lose_call(void);         /* fault injection: this CPU takes no notice of the next VECTOR_CALL */
bool smp_call_lost(void);         /* this is that one */
void smp_send_wake(unsigned cpu); /* makes a CPU look at its softirqs */
void smp_stop_others(void);       /* for panic and power-off: by NMI, never waits for long */
bool smp_nmi_stop(void);          /* the NMI handler asks: false, or this CPU was told to stop and does not come back */

#endif
