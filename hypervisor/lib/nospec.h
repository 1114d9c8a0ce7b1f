/* Bounds that hold on a mispredicted path as well (Spectre variant 1). */
#ifndef LIB_NOSPEC_H
#define LIB_NOSPEC_H

#include "lib/types.h"

/*
 * i if it is below size, else 0; without a branch, so that it is so also where the processor runs ahead on the wrong side of the
 * check before. For every index or number that a guest gives and that a load goes by.
 */
static inline uint64_t index_nospec(uint64_t i, uint64_t size)
{
    uint64_t mask;

    __asm__("cmp %2, %1; sbb %0, %0" : "=r"(mask) : "r"(i), "rme"(size) : "cc");
    return i & mask;
}

#endif
