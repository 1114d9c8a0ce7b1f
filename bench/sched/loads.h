/*
 * What the guests of the scheduler's measurements do. Each load runs in a child for ever, and counts in the page that domain 0
 * has mapped too.
 */
#ifndef BENCH_LOADS_H
#define BENCH_LOADS_H

#include "child.h"

#define BUCKETS 640U

struct figures {
    volatile uint64_t work; /* units */
    volatile uint64_t wakes, missed;
    volatile uint64_t latest;   /* ns: the latest of all wakes */
    volatile uint64_t answered; /* events of domain 0's */
    volatile uint64_t switched, stayed, stayed_ticks;
    volatile uint32_t late[BUCKETS]; /* wakes, by how late (in the load's bucket width); the last: later than that */
};
_Static_assert(sizeof(struct figures) <= sizeof(kit_talk.data), "figures in the talk page");

static inline struct figures *figures_of(struct child_talk *t) { return (struct figures *)t->data; }

/* A unit of work: some thousand instructions. The processor is shown to others once (pause): under -icount QEMU's CPUs take
 * turns, and would do so only when a timer fires. */
void work_unit(void);

long load_busy(long *a);        /* works */
long load_napper(long *a);      /* a[0] units, then sleeps a[1] ns, and so on */
long load_periodic(long *a);    /* wakes every a[0] ns, works a[1] units; buckets of a[2] ns */
long load_event_storm(long *a); /* sends events to itself, which it takes, and to domain 0 */
long load_timer_storm(long *a); /* sets timers a[0] ns ahead, and waits for every other one */
long load_yield_storm(long *a);
/* Yields, and tells by the time that takes, a[0] ticks or more (domain 0 may change it), whether another guest ran meanwhile */
long load_yielder(long *a);
/* Takes a[0] more pages; then works on them for a[1] units and sleeps a[2] ns, and so on, and answers domain 0's events */
long load_dense(long *a);

#endif
