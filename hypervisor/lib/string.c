/*
 * The C library's string functions. The copying ones work in 8-byte steps: `rep movsq` is as fast as `rep movsb` on a
 * processor with fast strings, and an eighth of the work on one (or an emulator) without.
 */
#include "lib/string.h"

#include "lib/util.h"

/* The start of a `rep` instruction costs some tens of cycles; below this many bytes a loop of moves is quicker. */
#define REP_THRESHOLD 128

static inline uint64_t load8(const void *p)
{
    uint64_t v;

    __builtin_memcpy(&v, p, 8);
    return v;
}
static inline void store8(void *p, uint64_t v) { __builtin_memcpy(p, &v, 8); }

/* Fewer than 8 bytes, all read before any is written, so the ranges may overlap. */
static inline void copy_tail(uint8_t *to, const uint8_t *from, size_t n)
{
    if (n & 4) {
        uint32_t first, last;

        __builtin_memcpy(&first, from, 4);
        __builtin_memcpy(&last, from + n - 4, 4);
        __builtin_memcpy(to, &first, 4);
        __builtin_memcpy(to + n - 4, &last, 4);
    } else if (n) {
        uint8_t first = from[0], middle = from[n / 2], last = from[n - 1];

        to[0] = first;
        to[n / 2] = middle;
        to[n - 1] = last;
    }
}

void *memcpy(void *to, const void *from, size_t n)
{
    uint8_t *t = to;
    const uint8_t *f = from;

    if (n < 8) {
        copy_tail(t, f, n);
        return to;
    }
    if (n < REP_THRESHOLD) {
        uint64_t last = load8(f + n - 8);
        uint8_t *end = t + n - 8;

        for (; t < end; t += 8, f += 8) {
            store8(t, load8(f));
            barrier(); /* or the compiler would turn the loop into a call of memcpy */
        }
        store8(end, last);
        return to;
    }
    size_t words = n / 8;

    __asm__ volatile("rep movsq" : "+D"(t), "+S"(f), "+c"(words)::"memory");
    copy_tail(t, f, n & 7);
    return to;
}

void *memmove(void *to, const void *from, size_t n)
{
    uint8_t *t = to;
    const uint8_t *f = from;

    if (n < 8) {
        copy_tail(t, f, n);
        return to;
    }
    if ((uintptr_t)t - (uintptr_t)f >= n) { /* forwards is safe: 'to' lies before 'from', or behind its end */
        for (; n >= 8; n -= 8, t += 8, f += 8) {
            store8(t, load8(f));
            barrier();
        }
        copy_tail(t, f, n);
    } else {
        while (n >= 8) {
            n -= 8;
            store8(t + n, load8(f + n));
            barrier();
        }
        copy_tail(t, f, n);
    }
    return to;
}

void *memset(void *to, int c, size_t n)
{
    uint64_t pattern = (uint8_t)c * 0x0101010101010101UL;
    uint8_t *t = to;

    if (n < 8) {
        for (; n; n--) {
            *t++ = (uint8_t)c;
            barrier();
        }
        return to;
    }
    uint8_t *end = t + n - 8;

    if (n < REP_THRESHOLD) {
        for (; t < end; t += 8) {
            store8(t, pattern);
            barrier();
        }
    } else {
        size_t words = n / 8;

        __asm__ volatile("rep stosq" : "+D"(t), "+c"(words) : "a"(pattern) : "memory");
    }
    store8(end, pattern);
    return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const uint8_t *p = a, *q = b;

    for (; n >= 8 && load8(p) == load8(q); n -= 8, p += 8, q += 8)
        ;
    for (; n; n--, p++, q++)
        if (*p != *q)
            return *p < *q ? -1 : 1;
    return 0;
}

void *memchr(const void *s, int c, size_t n)
{
    for (const uint8_t *p = s; n; n--, p++)
        if (*p == (uint8_t)c)
            return (void *)p;
    return NULL;
}

size_t strlen(const char *s)
{
    const char *p = s;

    while (*p) {
        p++;
        barrier();
    }
    return p - s;
}

size_t strnlen(const char *s, size_t n)
{
    size_t i = 0;

    while (i < n && s[i])
        i++;
    return i;
}

int strcmp(const char *a, const char *b)
{
    for (; *a && *a == *b; a++, b++)
        ;
    return (uint8_t)*a - (uint8_t)*b;
}

int strncmp(const char *a, const char *b, size_t n)
{
    for (; n && *a && *a == *b; a++, b++, n--)
        ;
    return n ? (uint8_t)*a - (uint8_t)*b : 0;
}

char *strchr(const char *s, int c)
{
    for (;; s++) {
        if (*s == (char)c)
            return (char *)s;
        if (!*s)
            return NULL;
    }
}

char *strrchr(const char *s, int c)
{
    const char *found = NULL;

    for (;; s++) {
        if (*s == (char)c)
            found = s;
        if (!*s)
            return (char *)found;
    }
}

char *strstr(const char *s, const char *sub)
{
    size_t n = strlen(sub);

    for (;; s++) {
        if (!strncmp(s, sub, n))
            return (char *)s;
        if (!*s)
            return NULL;
    }
}

size_t strlcpy(char *to, const char *from, size_t size)
{
    size_t n = strlen(from);

    if (size) {
        size_t part = min(n, size - 1);

        memcpy(to, from, part);
        to[part] = 0;
    }
    return n;
}

static unsigned digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'Z')
        return c - 'A' + 10;
    return 99;
}

unsigned long strtoul(const char *s, char **end, int base)
{
    const char *start = s;
    unsigned long v = 0;
    bool negative = false, overflow = false, any = false;

    while (*s == ' ' || (*s >= '\t' && *s <= '\r'))
        s++;
    if (*s == '-' || *s == '+')
        negative = *s++ == '-';
    if ((base == 0 || base == 16) && s[0] == '0' && (s[1] | 0x20) == 'x' && digit_value(s[2]) < 16) {
        s += 2;
        base = 16;
    } else if (base == 0) {
        base = *s == '0' ? 8 : 10;
    }
    for (; digit_value(*s) < (unsigned)base; s++, any = true) {
        overflow |= __builtin_mul_overflow(v, (unsigned long)base, &v);
        overflow |= __builtin_add_overflow(v, (unsigned long)digit_value(*s), &v);
    }
    if (end)
        *end = (char *)(any ? s : start);
    if (overflow)
        return ~0UL;
    return negative ? -v : v;
}
