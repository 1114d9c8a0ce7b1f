/* ACPI tables of a PVH domain. Section numbers are those of the ACPI specification 6.4. */
#include "domain/pvh_acpi.h"

#include "lib/string.h"
#include "lib/util.h"

#define RSDP_SIZE 36
#define HEADER_SIZE 36
#define FADT_SIZE 276 /* revision 6 */
#define LAPIC_ADDRESS 0xfee00000U

/* FADT: flags (5.2.9, table 5.10), boot architecture (table 5.11) */
#define WBINVD (1U << 0)
#define PROC_C1 (1U << 2)
#define PWR_BUTTON (1U << 4) /* none that is fixed hardware */
#define SLP_BUTTON (1U << 5)
#define RESET_REG_SUP (1U << 10)
#define HW_REDUCED_ACPI (1U << 20)
#define VGA_NOT_PRESENT (1U << 2)
#define CMOS_RTC_NOT_PRESENT (1U << 5)

#define SYSTEM_IO 1 /* an address space (5.2.3.2) */
#define BYTE_ACCESS 1

#define MADT_LOCAL_APIC 0
#define MADT_LOCAL_X2APIC 9
#define APIC_ENABLED 1U
#define LEAST_X2APIC_ID 255

/* AML's codes (20.3) */
#define AML_ZERO 0x00
#define AML_NAME 0x08
#define AML_BYTE 0x0a
#define AML_STRING 0x0d
#define AML_SCOPE 0x10
#define AML_PACKAGE 0x12
#define AML_EXTENDED 0x5b
#define AML_DEVICE 0x82
#define AML_ROOT '\\'

struct writer {
    uint8_t *to;
    size_t used;
    uint64_t address; /* the guest's, of to[0] */
};

static void store(uint8_t *p, uint64_t value, unsigned bytes)
{
    for (; bytes; bytes--, value >>= 8)
        *p++ = (uint8_t)value;
}

static void put(struct writer *w, uint64_t value, unsigned bytes)
{
    store(w->to + w->used, value, bytes);
    w->used += bytes;
}

static void put_bytes(struct writer *w, const void *from, size_t n)
{
    memcpy(w->to + w->used, from, n);
    w->used += n;
}

static void fix_checksum(uint8_t *p, size_t n, size_t at)
{
    uint8_t sum = 0;

    p[at] = 0;
    for (size_t i = 0; i < n; i++)
        sum += p[i];
    p[at] = (uint8_t)-sum;
}

/* A table's header (5.2.6); its length and checksum come with the end. Returns where it begins. */
static size_t begin_table(struct writer *w, const char *signature, uint8_t revision)
{
    size_t start = w->used = ROUND_UP(w->used, 16);

    put_bytes(w, signature, 4);
    put(w, 0, 4); /* length */
    put(w, revision, 1);
    put(w, 0, 1); /* checksum */
    put_bytes(w, "Croft ", 6);
    put_bytes(w, "PVH     ", 8);
    put(w, 1, 4);
    put_bytes(w, "CRFT", 4);
    put(w, 1, 4);
    return start;
}

static uint64_t end_table(struct writer *w, size_t start)
{
    uint8_t *table = w->to + start;

    store(table + 4, w->used - start, 4);
    fix_checksum(table, w->used - start, 9);
    return w->address + start;
}

/* A device for a processor: Device (Cnnn) { Name (_HID, "ACPI0007") Name (_UID, nn) } */
static void put_processor(struct writer *w, unsigned id)
{
    static const char digits[16] = "0123456789ABCDEF";
    size_t start;

    put(w, AML_EXTENDED, 1);
    put(w, AML_DEVICE, 1);
    start = w->used;
    put(w, 0, 1); /* length of the package, this byte included; below 64 it has one byte (20.2.4) */
    put(w, 'C', 1);
    put(w, (uint8_t)digits[id >> 8 & 15], 1);
    put(w, (uint8_t)digits[id >> 4 & 15], 1);
    put(w, (uint8_t)digits[id & 15], 1);
    put(w, AML_NAME, 1);
    put_bytes(w, "_HID", 4);
    put(w, AML_STRING, 1);
    put_bytes(w, "ACPI0007", 9);
    put(w, AML_NAME, 1);
    put_bytes(w, "_UID", 4);
    put(w, AML_BYTE, 1);
    put(w, id, 1);
    w->to[start] = (uint8_t)(w->used - start);
}

static uint64_t write_dsdt(struct writer *w, unsigned vcpus)
{
    /* Name (\_S5, Package (4) { 5, 5, 0, 0 }): the types for the sleep control register */
    static const uint8_t s5[] = {
        AML_NAME, AML_ROOT,          '_',      'S',     '5', '_', AML_PACKAGE, 8, 4, AML_BYTE, PVH_SLEEP_TYPE_S5,
        AML_BYTE, PVH_SLEEP_TYPE_S5, AML_ZERO, AML_ZERO};
    size_t start = begin_table(w, "DSDT", 2), scope, length;

    put_bytes(w, s5, sizeof(s5));
    put(w, AML_SCOPE, 1); /* Scope (\_SB) { the processors } */
    scope = w->used;
    put(w, 0, 2); /* length of the package: 4 bits in the first byte, 8 in the second (20.2.4) */
    put(w, AML_ROOT, 1);
    put_bytes(w, "_SB_", 4);
    for (unsigned i = 0; i < vcpus; i++)
        put_processor(w, i);
    length = w->used - scope;
    w->to[scope] = (uint8_t)(1 << 6 | (length & 15));
    w->to[scope + 1] = (uint8_t)(length >> 4);
    return end_table(w, start);
}

static void put_port(uint8_t *generic_address, uint16_t port)
{
    generic_address[0] = SYSTEM_IO;
    generic_address[1] = 8; /* bits */
    generic_address[3] = BYTE_ACCESS;
    store(generic_address + 4, port, 8);
}

/* Fields at their offsets of 5.2.9. All others are zero: hardware that is not there. */
static uint64_t write_fadt(struct writer *w, uint64_t dsdt)
{
    size_t start = begin_table(w, "FACP", 6);
    uint8_t *table = w->to + start;

    memset(table + HEADER_SIZE, 0, FADT_SIZE - HEADER_SIZE);
    w->used = start + FADT_SIZE;
    store(table + 40, dsdt, 4);
    store(table + 109, VGA_NOT_PRESENT | CMOS_RTC_NOT_PRESENT, 2);
    store(table + 112, WBINVD | PROC_C1 | PWR_BUTTON | SLP_BUTTON | RESET_REG_SUP | HW_REDUCED_ACPI, 4);
    put_port(table + 116, PVH_RESET_PORT);
    table[128] = PVH_RESET_VALUE;
    store(table + 140, dsdt, 8);
    put_port(table + 244, PVH_SLEEP_CONTROL_PORT);
    put_port(table + 256, PVH_SLEEP_STATUS_PORT);
    memcpy(table + 268, "Croft", 5); /* hypervisor's vendor */
    return end_table(w, start);
}

static uint64_t write_madt(struct writer *w, unsigned vcpus)
{
    size_t start = begin_table(w, "APIC", 4);

    put(w, LAPIC_ADDRESS, 4);
    put(w, 0, 4); /* flags: no 8259 */
    for (unsigned i = 0; i < vcpus; i++) {
        unsigned apic_id = 2 * i;

        if (apic_id < LEAST_X2APIC_ID) {
            put(w, MADT_LOCAL_APIC, 1);
            put(w, 8, 1);
            put(w, i, 1);
            put(w, apic_id, 1);
            put(w, APIC_ENABLED, 4);
        } else {
            put(w, MADT_LOCAL_X2APIC, 1);
            put(w, 16, 1);
            put(w, 0, 2);
            put(w, apic_id, 4);
            put(w, APIC_ENABLED, 4);
            put(w, i, 4);
        }
    }
    return end_table(w, start);
}

static uint64_t write_xsdt(struct writer *w, uint64_t fadt, uint64_t madt)
{
    size_t start = begin_table(w, "XSDT", 1);

    put(w, fadt, 8);
    put(w, madt, 8);
    return end_table(w, start);
}

static void write_rsdp(uint8_t *p, uint64_t xsdt)
{
    memset(p, 0, RSDP_SIZE);
    memcpy(p, "RSD PTR ", 8);
    memcpy(p + 9, "Croft ", 6);
    p[15] = 2;
    store(p + 20, RSDP_SIZE, 4);
    store(p + 24, xsdt, 8);
    fix_checksum(p, 20, 8); /* what revision 0 had */
    fix_checksum(p, RSDP_SIZE, 32);
}

size_t pvh_acpi_write(uint8_t to[PVH_ACPI_SIZE], uint64_t address, unsigned vcpus)
{
    struct writer w = {.to = to, .used = RSDP_SIZE, .address = address};
    uint64_t dsdt = write_dsdt(&w, vcpus), fadt = write_fadt(&w, dsdt), madt = write_madt(&w, vcpus);

    write_rsdp(to, write_xsdt(&w, fadt, madt));
    return w.used;
}
