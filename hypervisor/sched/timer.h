/*
 * Croft's timers: one-shot, per CPU, in a heap ordered by expiry. Handlers run in the timer softirq of that CPU.
 * The heap is a pairing heap whose links lie in the timers themselves: arming one needs no memory, so it works in any
 * context, and costs one comparison.
 */
#ifndef SCHED_TIMER_H
#define SCHED_TIMER_H

#include "lib/util.h"

typedef uint64_t ns_t; /* nanoseconds of real time since boot (sched/time.h) */
#define NS_NEVER (~(ns_t)0)
#define MILLISECS(n) ((ns_t)(n)*1000000UL)
#define MICROSECS(n) ((ns_t)(n)*1000UL)
#define SECONDS(n) ((ns_t)(n)*1000000000UL)

/* All fields but handler and arg are protected by the timer lock of 'cpu'. A zeroed timer may be stopped. */
struct timer {
    ns_t expires;
    void (*handler)(void *arg);
    void *arg;
    uint32_t cpu;
    bool armed;
    struct timer *child, *next, *prev; /* heap: first child, right sibling, left sibling or parent */
};

void timer_init(struct timer *t, void (*handler)(void *), void *arg, unsigned cpu);
void timer_set(struct timer *t,
               ns_t expires);     /* arms or moves it; a past time fires at once, none early. Any context. */
void timer_stop(struct timer *t); /* afterwards it is not armed; a handler under way on another CPU may finish later */
/* Stops it and waits until its handler runs nowhere: before its memory goes. Interrupts enabled, not from a handler. */
void timer_kill(struct timer *t);
void timer_migrate(struct timer *t, unsigned cpu); /* to CPU 0 if that one is off line */
static inline bool timer_armed(const struct timer *t) { return READ_ONCE(t->armed); }

void timer_interrupt(void); /* vector VECTOR_TIMER */
void timers_init_cpu(void); /* on each CPU, before it arms a timer */
/* The CPU goes off line: its timers go to CPU 0, and so do those that are set there until timers_init_cpu. */
void timers_close_cpu(unsigned cpu);
void timers_run(void); /* SOFTIRQ_TIMER */
void timers_key_report(void);

#endif
