/* sources: hypervisor/domain/pvh_acpi.c hypervisor/platform/acpi.c */
/* The ACPI tables of PVH domains, as Croft's own parser of the firmware's tables reads them, and field by field. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fake_boot.h"

#include "boot/boot.h"
#include "boot/options.h"
#include "domain/domain.h"
#include "domain/pvh_acpi.h"
#include "memory/map.h"
#include "platform/acpi.h"

#define AT 0xfc000000UL

struct boot_info boot_info;
struct options options;

static uint8_t tables[PVH_ACPI_SIZE];
static size_t used;

const void *map_firmware(maddr_t start, size_t size)
{
    return start.n >= AT && start.n - AT <= used && size <= used - (start.n - AT) ? tables + (start.n - AT) : NULL;
}

static uint64_t get(const uint8_t *p, unsigned bytes)
{
    uint64_t value = 0;

    memcpy(&value, p, bytes);
    return value;
}

static void make(unsigned vcpus)
{
    memset(tables, 0xcc, sizeof(tables));
    memset(&boot_info, 0, sizeof(boot_info));
    memset(&options, 0, sizeof(options));
    fake_log_clear();
    used = pvh_acpi_write(tables, AT, vcpus);
    assert_true(used <= sizeof(tables));
    for (size_t i = used; i < sizeof(tables); i++)
        assert_int_equal(tables[i], 0xcc);
}

static uint8_t sum(const uint8_t *p, size_t n)
{
    uint8_t s = 0;

    while (n--)
        s += *p++;
    return s;
}

/* The table at a physical address, which must be good in itself */
static const uint8_t *table(uint64_t address, const char *signature, size_t *size)
{
    const uint8_t *t = tables + (address - AT);

    assert_int_equal(address % 16, 0);
    assert_true(address - AT < used);
    *size = get(t + 4, 4);
    assert_true(*size >= 36 && *size <= used - (address - AT));
    assert_memory_equal(t, signature, 4);
    assert_int_equal(sum(t, *size), 0);
    return t;
}

static const uint8_t *listed(unsigned i, const char *signature, size_t *size)
{
    const uint8_t *xsdt = table(get(tables + 24, 8), "XSDT", size);

    assert_int_equal(*size, 36 + 2 * 8);
    return table(get(xsdt + 36 + 8 * i, 8), signature, size);
}

static void read_by_croft(void **state)
{
    static const unsigned counts[] = {1, 2, 3, 64, MAX_VCPUS};

    for (unsigned n = 0; n < ARRAY_SIZE(counts); n++) {
        make(counts[n]);
        memcpy(boot_info.rsdp_copy, tables, sizeof(boot_info.rsdp_copy));
        boot_info.rsdp = MADDR(AT);
        acpi_init();
        assert_null(strstr(fake_log, "ignored"));
        assert_null(strstr(fake_log, "no usable"));
        assert_int_equal(acpi_info.lapic_address.n, 0xfee00000);
        assert_int_equal(acpi_info.cpu_count, counts[n]);
        for (unsigned i = 0; i < counts[n]; i++) {
            assert_int_equal(acpi_info.cpus[i].apic_id, 2 * i);
            assert_int_equal(acpi_info.cpus[i].acpi_id, i);
        }
        assert_int_equal(acpi_info.ioapic_count + acpi_info.override_count + acpi_info.pm_timer_port +
                             acpi_info.pm1a_control + acpi_info.century,
                         0);
        assert_true(acpi_info.reset_supported);
    }
}

static void fields(void **state)
{
    size_t size;
    const uint8_t *t;

    make(2);
    assert_memory_equal(tables, "RSD PTR ", 8);
    assert_int_equal(sum(tables, 20), 0);
    assert_int_equal(sum(tables, 36), 0);
    assert_int_equal(tables[15], 2);
    assert_int_equal(get(tables + 16, 4), 0); /* no RSDT */
    t = listed(0, "FACP", &size);
    assert_int_equal(size, 276);
    assert_int_equal(t[8], 6);
    assert_int_equal(get(t + 36, 4), 0); /* no FACS */
    assert_int_equal(get(t + 40, 4), get(t + 140, 8));
    assert_int_equal(get(t + 109, 2), 1 << 2 | 1 << 5); /* no VGA, no CMOS; no 8042, MSI possible */
    assert_int_equal(get(t + 112, 4), 1 << 0 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 10 | 1 << 20);
    assert_memory_equal(t + 116, "\1\x8\0\1\6\xb0\0\0\0\0\0\0\1", 13);
    assert_memory_equal(t + 244, "\1\x8\0\1\4\xb0\0\0\0\0\0\0", 12);
    assert_memory_equal(t + 256, "\1\x8\0\1\5\xb0\0\0\0\0\0\0", 12);
    for (unsigned i = 46; i < 109; i++)
        assert_int_equal(t[i], 0);
    t = listed(1, "APIC", &size);
    assert_int_equal(size, 44 + 2 * 8);
    assert_int_equal(get(t + 40, 4), 0);
    assert_memory_equal(t + 44 + 8, "\0\x8\1\2\1\0\0\0", 8);
}

/* AML: \_S5, then the scope, which holds one device a vcpu and ends with the table. */
static void check_dsdt(unsigned vcpus)
{
    size_t size;
    const uint8_t *t = listed(0, "FACP", &size), *p, *end;

    t = table(get(t + 140, 8), "DSDT", &size);
    end = t + size;
    assert_int_equal(t[8], 2);
    p = t + 36;
    assert_memory_equal(p, "\x08\\_S5_\x12\x08\x04\x0a\x05\x0a\x05\0\0", 15);
    p += 15;
    assert_int_equal(p[0], 0x10);
    assert_int_equal(p[1] >> 4, 4);
    assert_ptr_equal(p + 1 + ((p[1] & 15) | p[2] << 4), end);
    assert_memory_equal(p + 3, "\\_SB_", 5);
    p += 8;
    for (unsigned i = 0; i < vcpus; i++) {
        char name[16];

        snprintf(name, sizeof(name), "C%03X", i);
        assert_memory_equal(p, "\x5b\x82", 2);
        assert_true(p[2] < 64);
        assert_int_equal(strlen(name), 4);
        assert_memory_equal(p + 3, name, 4);
        assert_memory_equal(p + 7,
                            "\x08_HID\x0d"
                            "ACPI0007\0\x08_UID\x0a",
                            21);
        assert_int_equal(p[28], i);
        assert_int_equal(p[2], 27);
        p += 2 + p[2];
    }
    assert_ptr_equal(p, end);
}

static void processors(void **state)
{
    for (unsigned vcpus = 1; vcpus <= MAX_VCPUS; vcpus++) {
        make(vcpus);
        check_dsdt(vcpus);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read_by_croft),
        cmocka_unit_test(fields),
        cmocka_unit_test(processors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
