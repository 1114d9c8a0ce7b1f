/* sources: hypervisor/platform/acpi.c */
/* ACPI tables, good ones and each kind of bad one: what is read, and that every refusal names its table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "fake_boot.h"
#include "make_acpi.h"

#include "boot/boot.h"
#include "boot/options.h"
#include "memory/map.h"
#include "platform/acpi.h"

struct boot_info boot_info;
struct options options;

/* A copy with nothing behind it, so that reading past what was mapped is an error that the sanitizer sees. */
static void *copies[1024];
static unsigned copy_count;

const void *map_firmware(maddr_t start, size_t size)
{
    void *p;

    if (start.n > FAKE_MEMORY || size > FAKE_MEMORY - start.n || copy_count == 1024)
        return NULL;
    p = malloc(size);
    memcpy(p, fake_memory + start.n, size);
    copies[copy_count++] = p;
    return p;
}

static int setup(void **state)
{
    memset(fake_memory, 0, sizeof(fake_memory));
    memset(&boot_info, 0, sizeof(boot_info));
    memset(&options, 0, sizeof(options));
    fake_used = 0x10000;
    fake_log_clear();
    return 0;
}

static int teardown(void **state)
{
    while (copy_count)
        free(copies[--copy_count]);
    return 0;
}

static void run(const uint64_t *tables, unsigned count)
{
    set_rsdp(fake_memory + 0xf0010, add_root(false, tables, count), 0);
    acpi_init();
}

/* A MADT as QEMU has it: two CPUs, one I/O APIC, the timer's and the SCI's overrides, and more of ours. */
static const uint8_t madt_body[] = {
    0x00, 0x00, 0xe0, 0xfe, 1,  0, 0,    0,                               /* local APIC at 0xfee00000 */
    0,    8,    0,    0,    1,  0, 0,    0,                               /* CPU with APIC id 0 */
    0,    8,    1,    4,    1,  0, 0,    0,                               /* 4 */
    0,    8,    2,    5,    0,  0, 0,    0,                               /* 5, not enabled */
    0,    8,    2,    4,    1,  0, 0,    0,                               /* 4 again */
    9,    16,   0,    0,    0,  1, 0,    0,    1,    0, 0, 0, 7, 0, 0, 0, /* x2APIC id 256 */
    1,    12,   3,    0,    0,  0, 0xc0, 0xfe, 0,    0, 0, 0,             /* I/O APIC 3 */
    2,    10,   0,    0,    2,  0, 0,    0,    0,    0,                   /* ISA 0 is GSI 2 */
    2,    10,   0,    9,    9,  0, 0,    0,    0x0d, 0,                   /* 9: high, level */
    2,    10,   0,    11,   20, 0, 0,    0,    0x0f, 0,                   /* 11 is GSI 20: low, level */
    4,    6,    0xff, 0,    0,  1,                                        /* NMI source */
};

static void test_madt(void **state)
{
    uint64_t t[] = {add_table("APIC", madt_body, sizeof(madt_body))};

    run(t, 1);
    assert_int_equal(acpi_info.cpu_count, 3);
    assert_int_equal(acpi_info.cpus[1].apic_id, 4);
    assert_int_equal(acpi_info.cpus[2].apic_id, 256);
    assert_int_equal(acpi_info.cpus[2].acpi_id, 7);
    assert_int_equal(acpi_info.lapic_address.n, 0xfee00000);
    assert_int_equal(acpi_info.ioapic_count, 1);
    assert_int_equal(acpi_info.ioapics[0].id, 3);
    assert_int_equal(acpi_info.ioapics[0].address.n, 0xfec00000);
    assert_int_equal(acpi_info.override_count, 3);
    assert_int_equal(acpi_info.overrides[0].gsi, 2);
    assert_false(acpi_info.overrides[0].level);
    assert_true(acpi_info.overrides[1].level);
    assert_false(acpi_info.overrides[1].active_low);
    assert_true(acpi_info.overrides[2].active_low);
    assert_int_equal(acpi_info.rsdp.n, 0xf0010);
    assert_non_null(strstr(fake_log, "APIC id 4 listed twice"));
    assert_non_null(strstr(fake_log, "no usable FACP"));
    assert_int_equal(acpi_info.node_count, 1);
}

static void test_fadt(void **state)
{
    uint8_t fadt[244 - 36] = {0};
    static const uint8_t madt_sci[] = {0, 0, 0xe0, 0xfe, 1, 0, 0, 0, 2, 10, 0, 9, 9, 0, 0, 0, 0, 0};
    uint64_t t[2];

    put(fadt + 46 - 36, 9, 2);
    put(fadt + 64 - 36, 0x604, 4);
    put(fadt + 76 - 36, 0x608, 4);
    put(fadt + 112 - 36, 1U << 8 | 1U << 10, 4);
    fadt[108 - 36] = 0x32;
    fadt[116 - 36] = 1;
    put(fadt + 120 - 36, 0xcf9, 8);
    fadt[128 - 36] = 0x0f;
    t[0] = add_table("FACP", fadt, sizeof(fadt));
    t[1] = add_table("APIC", madt_sci, sizeof(madt_sci));
    run(t, 2);
    assert_int_equal(acpi_info.sci, 9);
    assert_int_equal(acpi_info.pm1a_control, 0x604);
    assert_int_equal(acpi_info.pm1b_control, 0);
    assert_int_equal(acpi_info.pm_timer_port, 0x608);
    assert_true(acpi_info.pm_timer_32bit);
    assert_true(acpi_info.reset_supported);
    assert_int_equal(acpi_info.reset_address, 0xcf9);
    assert_int_equal(acpi_info.reset_value, 0x0f);
    assert_int_equal(acpi_info.century, 0x32);
    /* An override without trigger or polarity means level, low for the SCI. */
    assert_true(acpi_info.overrides[0].level && acpi_info.overrides[0].active_low);
}

static void test_fadt_absurd(void **state)
{
    uint8_t fadt[244 - 36] = {0};
    uint64_t t[1];

    put(fadt + 64 - 36, 0x12345, 4);
    put(fadt + 112 - 36, 1U << 10, 4);
    fadt[116 - 36] = 9;
    put(fadt + 120 - 36, 0xcf9, 8);
    t[0] = add_table("FACP", fadt, sizeof(fadt));
    run(t, 1);
    assert_int_equal(acpi_info.pm1a_control, 0);
    assert_false(acpi_info.reset_supported);
    assert_non_null(strstr(fake_log, "PM1a control at 0x12345"));
    assert_non_null(strstr(fake_log, "reset register"));
}

static void test_hpet_mcfg(void **state)
{
    uint8_t hpet[20] = {0}, mcfg[8 + 32] = {0};
    uint64_t t[2];

    put(hpet + 8, 0xfed00000, 8);
    put(mcfg + 8, 0xb0000000, 8);
    mcfg[8 + 11] = 255;
    put(mcfg + 24, 0x12345, 8); /* not aligned */
    t[0] = add_table("HPET", hpet, sizeof(hpet));
    t[1] = add_table("MCFG", mcfg, sizeof(mcfg));
    run(t, 2);
    assert_int_equal(acpi_info.hpet.n, 0xfed00000);
    assert_int_equal(acpi_info.mcfg_count, 1);
    assert_int_equal(acpi_info.mcfg[0].base.n, 0xb0000000);
    assert_int_equal(acpi_info.mcfg[0].bus_end, 255);
    assert_non_null(strstr(fake_log, "MCFG: window at 0x12345"));
}

static void put_memory(uint8_t *p, uint32_t proximity, uint64_t start, uint64_t size)
{
    p[0] = 1;
    p[1] = 40;
    put(p + 2, proximity, 4);
    put(p + 8, start, 8);
    put(p + 16, size, 8);
    put(p + 28, 1, 4);
}

static void test_numa(void **state)
{
    uint8_t srat[12 + 16 + 24 + 3 * 40] = {0}, slit[8 + 9];
    static const uint8_t distances[] = {10, 15, 30, 15, 10, 40, 30, 40, 10};
    uint64_t t[2];
    uint8_t *p = srat + 12;

    p[0] = 0, p[1] = 16, p[2] = 0, p[3] = 0, p[4] = 1;
    p += 16;
    p[0] = 2, p[1] = 24;
    put(p + 4, 2, 4);
    put(p + 8, 0x101, 4);
    put(p + 12, 1, 4);
    p += 24;
    put_memory(p, 0, 0, 0x10000000);
    put_memory(p + 40, 2, 0x10000000, 0x10000000);
    put_memory(p + 80, 2, ~0UL, 0x1000);
    put(slit, 3, 8);
    memcpy(slit + 8, distances, 9);
    t[0] = add_table("SLIT", slit, sizeof(slit));
    t[1] = add_table("SRAT", srat, sizeof(srat));
    run(t, 2);
    assert_int_equal(acpi_info.node_count, 2);
    assert_int_equal(acpi_info.memory_node_count, 2);
    assert_int_equal(acpi_node_of_apic(0), 0);
    assert_int_equal(acpi_node_of_apic(0x101), 1);
    assert_int_equal(acpi_node_of_apic(77), 0);
    assert_int_equal(acpi_node_of_maddr(MADDR(0x1fffffff)), 1);
    assert_int_equal(acpi_node_of_maddr(MADDR(0x20000000)), 0);
    assert_int_equal(acpi_info.distance[0][1], 30); /* proximity domain 2 is node 1 */
    assert_non_null(strstr(fake_log, "wraps around"));
}

static void test_slit_too_big(void **state)
{
    uint8_t slit[8 + 4] = {0};
    uint64_t t[1];

    put(slit, 0x100000000UL, 8);
    t[0] = add_table("SLIT", slit, sizeof(slit));
    run(t, 1);
    assert_non_null(strstr(fake_log, "SLIT: 4294967296 localities"));
    assert_int_equal(acpi_info.distance[0][1], 20);
}

static void test_wrong_checksum(void **state)
{
    uint64_t t[] = {add_table("APIC", madt_body, sizeof(madt_body))};

    fake_memory[t[0] + 60] ^= 1;
    run(t, 1);
    assert_non_null(strstr(fake_log, "APIC: wrong checksum"));
    assert_int_equal(acpi_info.cpu_count, 0);
    assert_int_equal(acpi_info.lapic_address.n, 0xfee00000);
}

static void test_entry_past_end(void **state)
{
    uint8_t body[sizeof(madt_body) + 2];
    uint64_t t[1];

    memcpy(body, madt_body, sizeof(madt_body));
    body[sizeof(madt_body)] = 0;
    body[sizeof(madt_body) + 1] = 8;
    t[0] = add_table("APIC", body, sizeof(body));
    run(t, 1);
    assert_non_null(strstr(fake_log, "past the table's end"));
    assert_int_equal(acpi_info.cpu_count, 3); /* what came before counts */
}

static void test_entry_of_no_length(void **state)
{
    static const uint8_t body[] = {0, 0, 0xe0, 0xfe, 0, 0, 0, 0, 0, 0, 0, 0};
    uint64_t t[] = {add_table("APIC", body, sizeof(body))};

    run(t, 1); /* ends */
    assert_non_null(strstr(fake_log, "past the table's end"));
}

static void test_length_absurd(void **state)
{
    uint64_t t[] = {add_table("APIC", madt_body, sizeof(madt_body)), 0, 0xfffffff0};

    put(fake_memory + t[0] + 4, 0xf0000000, 4);
    run(t, 3);
    assert_non_null(strstr(fake_log, "impossible length"));
}

static void test_short_tables(void **state)
{
    static const char *const names[] = {"APIC", "FACP", "HPET", "MCFG", "SRAT", "SLIT"};

    for (unsigned i = 0; i < 6; i++) {
        uint64_t t[] = {add_table(names[i], NULL, 0)};

        fake_log_clear();
        run(t, 1);
        assert_non_null(strstr(fake_log, names[i]));
        assert_non_null(strstr(fake_log, "too few"));
    }
}

static void test_too_many_cpus(void **state)
{
    uint8_t body[8 + 300 * 16] = {0};
    uint64_t t[1];

    for (unsigned i = 0; i < 300; i++) {
        uint8_t *p = body + 8 + i * 16;

        p[0] = 9, p[1] = 16, p[8] = 1;
        put(p + 4, i, 4);
    }
    t[0] = add_table("APIC", body, sizeof(body));
    run(t, 1);
    assert_int_equal(acpi_info.cpu_count, 256);
    assert_non_null(strstr(fake_log, "more than 256 CPUs"));
}

static void test_xsdt(void **state)
{
    uint64_t t[] = {add_table("APIC", madt_body, sizeof(madt_body))};
    uint64_t xsdt = add_root(true, t, 1);

    set_rsdp(boot_info.rsdp_copy, 0, xsdt);
    boot_info.rsdp = MADDR(0x1234);
    acpi_init();
    assert_int_equal(acpi_info.cpu_count, 3);
    assert_int_equal(acpi_info.rsdp.n, 0x1234);
}

static void test_xsdt_bad_rsdt_good(void **state)
{
    uint64_t t[] = {add_table("APIC", madt_body, sizeof(madt_body))};
    uint64_t rsdt = add_root(false, t, 1), xsdt = add_root(true, t, 1);

    fake_memory[xsdt + 20] ^= 0xff;
    set_rsdp(fake_memory + 0xe0000, rsdt, xsdt);
    acpi_init();
    assert_non_null(strstr(fake_log, "using the RSDT"));
    assert_int_equal(acpi_info.cpu_count, 3);
}

static void test_rsdp_in_ebda(void **state)
{
    uint64_t t[] = {add_table("APIC", madt_body, sizeof(madt_body))};

    put(fake_memory + 0x40e, 0x9fc0, 2);
    set_rsdp(fake_memory + 0x9fc00 + 0x3d0, add_root(false, t, 1), 0);
    acpi_init();
    assert_int_equal(acpi_info.cpu_count, 3);
}

static void test_rsdp_by_efi(void **state)
{
    static const uint8_t acpi20[16] = {0x71, 0xe8, 0x68, 0x88, 0xf1, 0xe4, 0xd3, 0x11,
                                       0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81};
    uint64_t t[] = {add_table("APIC", madt_body, sizeof(madt_body))};

    memcpy(fake_memory + 0x2000, "IBI SYST", 8);
    put(fake_memory + 0x2000 + 104, 2, 8);
    put(fake_memory + 0x2000 + 112, 0x3000, 8);
    memcpy(fake_memory + 0x3000 + 24, acpi20, 16);
    put(fake_memory + 0x3000 + 40, 0x5000, 8);
    set_rsdp(fake_memory + 0x5000, 0, add_root(true, t, 1));
    boot_info.efi_system_table = MADDR(0x2000);
    acpi_init();
    assert_int_equal(acpi_info.rsdp.n, 0x5000);
    assert_int_equal(acpi_info.cpu_count, 3);
}

static void test_nothing(void **state)
{
    acpi_init();
    assert_non_null(strstr(fake_log, "no RSDP found"));
    assert_int_equal(acpi_info.cpu_count, 0);
    assert_int_equal(acpi_info.node_count, 1);
}

static void test_switched_off(void **state)
{
    uint64_t t[] = {add_table("APIC", madt_body, sizeof(madt_body))};

    options.acpi_off = true;
    run(t, 1);
    assert_int_equal(acpi_info.cpu_count, 0);
    assert_non_null(strstr(fake_log, "acpi=off"));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    static const struct CMUnitTest tests[] = {
        T(test_madt),
        T(test_fadt),
        T(test_fadt_absurd),
        T(test_hpet_mcfg),
        T(test_numa),
        T(test_slit_too_big),
        T(test_wrong_checksum),
        T(test_entry_past_end),
        T(test_entry_of_no_length),
        T(test_length_absurd),
        T(test_short_tables),
        T(test_too_many_cpus),
        T(test_xsdt),
        T(test_xsdt_bad_rsdt_good),
        T(test_rsdp_in_ebda),
        T(test_rsdp_by_efi),
        T(test_nothing),
        T(test_switched_off),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
