/* Bits in arrays of unsigned long. The plain names are atomic; names ending in _nonatomic need a lock. */
#ifndef LIB_BITMAP_H
#define LIB_BITMAP_H

#include "lib/util.h"

#define BITS_PER_LONG 64
#define BITMAP_LONGS(n) DIV_ROUND_UP(n, BITS_PER_LONG)
#define BITMAP(name, n) unsigned long name[BITMAP_LONGS(n)]

static inline bool test_bit(unsigned long i, const volatile unsigned long *b) { return b[i / 64] >> (i % 64) & 1; }
static inline void set_bit(unsigned long i, volatile unsigned long *b)
{
    __atomic_fetch_or(&b[i / 64], 1UL << (i % 64), __ATOMIC_SEQ_CST);
}
static inline void clear_bit(unsigned long i, volatile unsigned long *b)
{
    __atomic_fetch_and(&b[i / 64], ~(1UL << (i % 64)), __ATOMIC_SEQ_CST);
}
static inline bool test_and_set_bit(unsigned long i, volatile unsigned long *b)
{
    return __atomic_fetch_or(&b[i / 64], 1UL << (i % 64), __ATOMIC_SEQ_CST) >> (i % 64) & 1;
}
static inline bool test_and_clear_bit(unsigned long i, volatile unsigned long *b)
{
    return __atomic_fetch_and(&b[i / 64], ~(1UL << (i % 64)), __ATOMIC_SEQ_CST) >> (i % 64) & 1;
}
static inline void set_bit_nonatomic(unsigned long i, unsigned long *b) { b[i / 64] |= 1UL << (i % 64); }
static inline void clear_bit_nonatomic(unsigned long i, unsigned long *b) { b[i / 64] &= ~(1UL << (i % 64)); }

/* First set bit at or after 'from', or 'n' if there is none. */
static inline unsigned long find_next_bit(const unsigned long *b, unsigned long n, unsigned long from)
{
    while (from < n) {
        unsigned long w = READ_ONCE(b[from / 64]) >> (from % 64); /* others may change it meanwhile */

        if (w) {
            from += __builtin_ctzl(w);
            return from < n ? from : n;
        }
        from = (from / 64 + 1) * 64;
    }
    return n;
}
static inline unsigned long find_next_zero_bit(const unsigned long *b, unsigned long n, unsigned long from)
{
    while (from < n) {
        unsigned long w = ~b[from / 64] >> (from % 64);

        if (w) {
            from += __builtin_ctzl(w);
            return from < n ? from : n;
        }
        from = (from / 64 + 1) * 64;
    }
    return n;
}
#define for_each_set_bit(i, b, n) for (i = find_next_bit(b, n, 0); i < (n); i = find_next_bit(b, n, i + 1))

#endif
