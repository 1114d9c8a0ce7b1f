/* Work put off until the CPU is about to return to a guest, or idles. Handlers run with interrupts enabled. */
#ifndef CPU_SOFTIRQ_H
#define CPU_SOFTIRQ_H

#include "cpu/percpu.h"

enum softirq {
    SOFTIRQ_TIMER,
    SOFTIRQ_SCHEDULE,
    SOFTIRQ_CONSOLE,
    SOFTIRQ_NMI,
    SOFTIRQ_DOMAIN,
    SOFTIRQ_TRACE,
    SOFTIRQ_RESTART,
    SOFTIRQ_COUNT
};

void softirq_register(enum softirq nr, void (*handler)(void));
static inline void softirq_raise(enum softirq nr) /* on this CPU */
{
    __atomic_fetch_or(&this_cpu()->softirq_pending, 1U << nr, __ATOMIC_SEQ_CST);
}
void softirq_raise_on(unsigned cpu, enum softirq nr); /* sends an IPI if it is another CPU */
void softirq_run(void); /* runs what is pending; called with interrupts enabled, not in an interrupt handler */

#endif
