/* ACPI tables built in a fake machine's memory, for test_acpi.c and fuzz_acpi.c. */
#ifndef MAKE_ACPI_H
#define MAKE_ACPI_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define FAKE_MEMORY (1U << 20)
static uint8_t fake_memory[FAKE_MEMORY];
static size_t fake_used; /* tables are put from here on */

static inline void put(uint8_t *p, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        p[i] = (uint8_t)(value >> 8 * i);
}

static inline void fix_checksum(uint8_t *p, size_t n, size_t at)
{
    uint8_t sum = 0;

    p[at] = 0;
    for (size_t i = 0; i < n; i++)
        sum += p[i];
    p[at] = (uint8_t)-sum;
}

/* A table with this body after its header of 36 bytes; returns its address. */
static inline uint64_t add_table(const char *signature, const void *body, size_t size)
{
    uint8_t *t = fake_memory + fake_used;
    uint64_t at = fake_used;

    memcpy(t, signature, 4);
    put(t + 4, 36 + size, 4);
    t[8] = 1;
    if (size)
        memcpy(t + 36, body, size);
    fix_checksum(t, 36 + size, 9);
    fake_used = (fake_used + 36 + size + 15) & ~15UL;
    return at;
}

static inline uint64_t add_root(bool wide, const uint64_t *tables, unsigned count)
{
    uint8_t body[8 * 300];

    for (unsigned i = 0; i < count; i++)
        put(body + i * (wide ? 8 : 4), tables[i], wide ? 8 : 4);
    return add_table(wide ? "XSDT" : "RSDT", body, count * (wide ? 8 : 4));
}

static inline void set_rsdp(uint8_t *p, uint64_t rsdt, uint64_t xsdt)
{
    memset(p, 0, 36);
    memcpy(p, "RSD PTR ", 8);
    p[15] = xsdt ? 2 : 0;
    put(p + 16, rsdt, 4);
    fix_checksum(p, 20, 8);
    if (xsdt) {
        put(p + 20, 36, 4);
        put(p + 24, xsdt, 8);
        fix_checksum(p, 36, 32);
    }
}

#endif
