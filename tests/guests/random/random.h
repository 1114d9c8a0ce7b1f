#ifndef RANDOM_H
#define RANDOM_H

#include "victim.h"

#define RANDOM_VCPUS 2U
#define NUMBERS 64U           /* of hypercalls; what is none is counted at the first three that do not exist */
#define COUNT_TABLE_WRITES 40 /* instructions that write into page tables */
#define COUNT_CODE 41         /* random instructions */
#define COUNT_ACCESSES 42     /* of memory */

/* What a random guest tells domain 0, in its talk page's data; it may be anything in the end. */
struct random_counts {
    volatile uint32_t tried[NUMBERS], succeeded[NUMBERS]; /* of instructions: those that did not trap */
};
_Static_assert(sizeof(struct random_counts) <= sizeof(kit_talk.data), "the counts' room");

/* Its arguments; behind them, what it tells while it runs: for each vcpu the steps, and (32 bits each) the last call or
 * kind of step. */
enum {
    ARG_SEED,
    ARG_VCPUS,
    ARG_VICTIM,
    ARG_VICTIM_FRAME,
    ARG_FRAMES,
    ARG_PROGRESS,
    ARG_LAST = ARG_PROGRESS + RANDOM_VCPUS
};

/* The random guest's only function: without an end, but that something it did ends it. */
long random_here(long *a);

#endif
