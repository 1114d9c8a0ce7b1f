/* Output, a line at a time, and the few string functions that the compiler and the tests want. */
#include <stdarg.h>
#include "common.h"

static char line[KIT_MAX_VCPUS][256];
static unsigned used[KIT_MAX_VCPUS];
static struct {
    char *to;
    size_t room;
} captures[KIT_MAX_VCPUS];

static void put(char c)
{
    unsigned v = vcpu_id();

    if (captures[v].to != NULL) {
        if (captures[v].room > 1) {
            *captures[v].to++ = c;
            captures[v].room--;
        }
        return;
    }
    line[v][used[v]++] = c;
    if (c == '\n' || used[v] == sizeof(line[v])) {
        kit_write(line[v], used[v]);
        used[v] = 0;
    }
}

static void put_number(uint64_t value, unsigned base, bool negative, unsigned width, char pad)
{
    char digits[24];
    unsigned n = 0;

    do {
        digits[n++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    if (negative)
        digits[n++] = '-';
    for (; width > n; width--)
        put(pad);
    while (n > 0)
        put(digits[--n]);
}

/* %[0][width][l|z]{d,u,x}, %c, %s, %p, %% */
void vprintf(const char *f, va_list list)
{
    for (; *f != '\0'; f++) {
        unsigned width = 0;
        bool is_long = false;
        char pad = ' ';

        if (*f != '%') {
            put(*f);
            continue;
        }
        f++;
        if (*f == '0')
            pad = *f++;
        while (*f >= '0' && *f <= '9')
            width = width * 10 + (unsigned)(*f++ - '0');
        while (*f == 'l' || *f == 'z') {
            is_long = true;
            f++;
        }
        switch (*f) {
        case 'd': {
            int64_t v = is_long ? va_arg(list, long) : va_arg(list, int);
            put_number(v < 0 ? -(uint64_t)v : (uint64_t)v, 10, v < 0, width, pad);
            break;
        }
        case 'u':
            put_number(is_long ? va_arg(list, unsigned long) : va_arg(list, unsigned), 10, false, width, pad);
            break;
        case 'x':
            put_number(is_long ? va_arg(list, unsigned long) : va_arg(list, unsigned), 16, false, width, pad);
            break;
        case 'p':
            put_number((uint64_t)va_arg(list, void *), 16, false, 16, '0');
            break;
        case 'c':
            put((char)va_arg(list, int));
            break;
        case 's': {
            const char *s = va_arg(list, const char *);
            while (*s != '\0')
                put(*s++);
            break;
        }
        default:
            put(*f);
        }
    }
}

void printf(const char *format, ...)
{
    va_list list;

    va_start(list, format);
    vprintf(format, list);
    va_end(list);
}

void vsnprintf(char *to, size_t size, const char *format, va_list list)
{
    unsigned v = vcpu_id();

    captures[v].to = to;
    captures[v].room = size;
    vprintf(format, list);
    *captures[v].to = '\0';
    captures[v].to = NULL;
}

void *memset(void *p, int c, size_t n)
{
    void *result = p;

    asm volatile("rep stosb" : "+D"(p), "+c"(n) : "a"(c) : "memory");
    return result;
}

void *memcpy(void *to, const void *from, size_t n)
{
    void *result = to;

    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
    return result;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a, *y = b;

    for (; n > 0; n--, x++, y++)
        if (*x != *y)
            return *x - *y;
    return 0;
}

size_t strlen(const char *s)
{
    size_t n = 0;

    while (s[n] != '\0')
        n++;
    return n;
}

bool strprefix(const char *s, const char *prefix)
{
    while (*prefix != '\0')
        if (*s++ != *prefix++)
            return false;
    return true;
}

bool strfind(const char *s, const char *part)
{
    for (; *s != '\0'; s++)
        if (strprefix(s, part))
            return true;
    return false;
}
