/* Deferred work: see cpu/softirq.h. */
#include "cpu/softirq.h"
#include "cpu/smp.h"
#include "lib/log.h"

static void (*handlers[SOFTIRQ_COUNT])(void);

void softirq_register(enum softirq nr, void (*handler)(void))
{
    BUG_ON(handlers[nr] && handlers[nr] != handler);
    handlers[nr] = handler;
}

void softirq_raise_on(unsigned cpu, enum softirq nr)
{
    struct percpu *to = percpu_of(cpu);
    uint32_t bit = 1U << nr;

    if (!to)
        return;
    /* If the bit was set before, that CPU is on its way to look, or another CPU's interrupt is. */
    if (!(__atomic_fetch_or(&to->softirq_pending, bit, __ATOMIC_SEQ_CST) & bit) && to != this_cpu())
        smp_send_wake(cpu);
}

/*
 * One at a time, its bit cleared before: what is raised meanwhile is seen, and what is pending stays so if a handler
 * does not come back, as that of SOFTIRQ_SCHEDULE when it switches.
 */
void softirq_run(void)
{
    struct percpu *pc = this_cpu();
    uint32_t pending;

    while ((pending = pc->softirq_pending) != 0) {
        unsigned nr = __builtin_ctz(pending);

        __atomic_fetch_and(&pc->softirq_pending, ~(1U << nr), __ATOMIC_SEQ_CST);
        if (nr < SOFTIRQ_COUNT && handlers[nr])
            handlers[nr]();
    }
}
