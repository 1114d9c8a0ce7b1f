/*
 * What calls cost, in instructions: under -icount shift=1 the time-stamp counter runs in nanoseconds of 2 to an instruction. A line
 * "rate NAME N" each, less the cost of the empty loop, all of them at the end: output makes others run.
 */
#ifndef KIT_RATE_H
#define KIT_RATE_H

#include "common.h"

#define RATE_ROUNDS 1000

static struct {
    const char *name;
    uint64_t each;
} rate_rows[64];
static unsigned rate_row_count;
static uint64_t rate_empty;

static inline void rate_report(const char *name, uint64_t ticks, unsigned rounds)
{
    uint64_t each = ticks / 2 / rounds;

    rate_rows[rate_row_count].name = name;
    rate_rows[rate_row_count++].each = each > rate_empty ? each - rate_empty : 0;
}

static inline void rate_measure_empty_loop(void)
{
    uint64_t start = tsc_read();

    for (unsigned i = 0; i < 100000; i++)
        asm volatile("");
    rate_empty = (tsc_read() - start) / 2 / 100000;
}

static inline void rate_print(void)
{
    printf("rate empty_loop %lu\n", rate_empty);
    for (unsigned i = 0; i < rate_row_count; i++)
        printf("rate %s %lu\n", rate_rows[i].name, rate_rows[i].each);
}

#define MEASURE(name, rounds, body)                                                                                    \
    do {                                                                                                               \
        uint64_t measure_start;                                                                                        \
        for (unsigned i = 0; i < 8; i++) {                                                                             \
            body;                                                                                                      \
        }                                                                                                              \
        measure_start = tsc_read();                                                                                    \
        for (unsigned i = 0; i < (unsigned)(rounds); i++) {                                                            \
            body;                                                                                                      \
        }                                                                                                              \
        rate_report(name, tsc_read() - measure_start, rounds);                                                         \
    } while (0)

#endif
