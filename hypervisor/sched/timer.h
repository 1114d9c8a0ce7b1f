/* Croft's timers: one-shot, per CPU, in a heap ordered by expiry. Handlers run in the timer softirq of that CPU. */
#ifndef SCHED_TIMER_H
#define SCHED_TIMER_H

#include "lib/util.h"

typedef uint64_t ns_t; /* nanoseconds of real time since boot (sched/time.h) */
#define MILLISECS(n) ((ns_t)(n) * 1000000UL)
#define MICROSECS(n) ((ns_t)(n) * 1000UL)
#define SECONDS(n) ((ns_t)(n) * 1000000000UL)

struct timer {
    ns_t expires;
    void (*handler)(void *arg);
    void *arg;
    uint32_t cpu;
    uint32_t heap_index; /* 0: not armed */
};

void timer_init(struct timer *t, void (*handler)(void *), void *arg, unsigned cpu);
void timer_set(struct timer *t, ns_t expires); /* arms or moves it; a past time fires at once. Any context. */
void timer_stop(struct timer *t);              /* afterwards it is not armed; a handler under way on another CPU may finish later */
void timer_migrate(struct timer *t, unsigned cpu);
void timer_interrupt(void);                    /* vector VECTOR_TIMER */
void timers_init_cpu(void);
void timers_key_report(void);

#endif
