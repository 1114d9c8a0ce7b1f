/* sources: hypervisor/boot/multiboot.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fake_boot.h"

#include "boot/boot.h"

#define BASE 0x10000u /* physical address of the test's memory */

static uint8_t memory[8192];
static struct boot_info info;
static struct boot_memory window = {memory, BASE, sizeof(memory)};

static void put32(unsigned at, uint32_t v) { memcpy(memory + at, &v, 4); }
static void put64(unsigned at, uint64_t v) { memcpy(memory + at, &v, 8); }
static uint32_t put_text(unsigned at, const char *text)
{
    memcpy(memory + at, text, strlen(text) + 1);
    return BASE + at;
}

static const char *parse(uint32_t magic, uint32_t address)
{
    memset(&info, 0, sizeof(info));
    return boot_parse_multiboot(&info, magic, address, &window);
}

static void assert_range(unsigned i, uint64_t start, uint64_t end, uint32_t type)
{
    assert_true(i < info.range_count);
    assert_int_equal(info.ranges[i].start, start);
    assert_int_equal(info.ranges[i].start + info.ranges[i].size, end);
    assert_int_equal(info.ranges[i].type, type);
}

/* What QEMU's -kernel -append -initrd leaves */
static void build_mb1(void)
{
    memset(memory, 0, sizeof(memory));
    put32(0, 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9);
    put32(16, put_text(512, "build/croft.elf com1=115200 loglvl=all"));
    put32(20, 2);
    put32(24, BASE + 1024);
    put32(1024, 0x1000000);
    put32(1028, 0x1800123);
    put32(1032, put_text(600, "vmlinuz root=/dev/vda console=hvc0"));
    put32(1040, 0x2000000);
    put32(1044, 0x2000010);
    put32(1048, put_text(700, "initrd.img"));
    put32(64, put_text(800, "qemu"));
    put32(44, 3 * 24);
    put32(48, BASE + 2048);
    static const uint64_t map[3][3] = {{0, 0x9fc00, 1}, {0x100000, 0x7ee0000, 1}, {0x9fc00, 0x400, 2}};

    for (unsigned i = 0; i < 3; i++) {
        put32(2048 + i * 24, 20);
        put64(2048 + i * 24 + 4, map[i][0]);
        put64(2048 + i * 24 + 12, map[i][1]);
        put32(2048 + i * 24 + 20, (uint32_t)map[i][2]);
    }
}

static void multiboot1(void **state)
{
    build_mb1();
    assert_null(parse(MULTIBOOT1_MAGIC, BASE));
    assert_string_equal(info.protocol, "multiboot 1");
    assert_string_equal(info.loader, "qemu");
    assert_string_equal(info.cmdline, "com1=115200 loglvl=all");
    assert_int_equal(info.module_count, 2);
    assert_int_equal(info.modules[0].start.n, 0x1000000);
    assert_int_equal(info.modules[0].size, 0x800123);
    assert_string_equal(info.modules[0].cmdline, "root=/dev/vda console=hvc0");
    assert_string_equal(info.modules[1].cmdline, "");
    assert_int_equal(info.range_count, 3);
    assert_range(0, 0, 0x9fc00, BOOT_RAM);
    assert_range(1, 0x9fc00, 0xa0000, BOOT_RESERVED);
    assert_range(2, 0x100000, 0x7fe0000, BOOT_RAM);
}

static void file_names(void **state)
{
    static const struct {
        const char *loader, *given, *kept;
    } cases[] = {
        {"qemu", "croft.elf noreboot", "noreboot"},
        {"qemu", "croft.elf", ""},
        {"GNU GRUB 0.97", "croft a b", "a b"},
        {"GRUB 2.06", "noreboot loglvl=all", "noreboot loglvl=all"},
        {"GRUB 2.06", "placeholder root=/dev/sda ro", "root=/dev/sda ro"},
        {"GRUB 2.06", "  placeholder  x", "x"},
        {"GRUB 2.06", "root=/dev/sda ro", "root=/dev/sda ro"},
        {"other", "/boot/croft.elf x", "x"},
        {"other", "noreboot", "noreboot"},
        {"other", "", ""},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        build_mb1();
        put_text(800, cases[i].loader);
        put_text(512, cases[i].given);
        assert_null(parse(MULTIBOOT1_MAGIC, BASE));
        assert_string_equal(info.cmdline, cases[i].kept);
    }
}

static void multiboot1_without_map(void **state)
{
    build_mb1();
    put32(0, 1);
    put32(4, 639);
    put32(8, 65536);
    assert_null(parse(MULTIBOOT1_MAGIC, BASE));
    assert_int_equal(info.range_count, 2);
    assert_range(0, 0, 639 << 10, BOOT_RAM);
    assert_range(1, 1 << 20, (1 << 20) + (65536 << 10), BOOT_RAM);
    put32(0, 0);
    assert_non_null(strstr(parse(MULTIBOOT1_MAGIC, BASE), "no memory map"));
}

static void multiboot1_hostile(void **state)
{
    assert_non_null(strstr(parse(0x12345678, BASE), "not started by a multiboot loader"));
    assert_non_null(parse(MULTIBOOT1_MAGIC, 0));
    assert_non_null(parse(MULTIBOOT1_MAGIC, BASE + sizeof(memory) - 4));
    build_mb1();
    put32(16, BASE + sizeof(memory)); /* command line outside */
    assert_non_null(strstr(parse(MULTIBOOT1_MAGIC, BASE), "command line"));
    build_mb1();
    put32(20, 0xffffffff);
    assert_non_null(strstr(parse(MULTIBOOT1_MAGIC, BASE), "list of modules"));
    build_mb1();
    put32(1028, 0);
    assert_non_null(strstr(parse(MULTIBOOT1_MAGIC, BASE), "ends before it starts"));
    build_mb1();
    put32(1032, 5);
    assert_non_null(strstr(parse(MULTIBOOT1_MAGIC, BASE), "module's command line"));
    build_mb1();
    put32(44, 0xfffffff0);
    assert_non_null(strstr(parse(MULTIBOOT1_MAGIC, BASE), "memory map"));
    build_mb1();
    put32(2048, 0);
    assert_non_null(strstr(parse(MULTIBOOT1_MAGIC, BASE), "too short"));
    build_mb1();
    put32(2048, 0xffffffff); /* one entry, then the end */
    assert_null(parse(MULTIBOOT1_MAGIC, BASE));
    assert_int_equal(info.range_count, 1);
    build_mb1(); /* a command line that never ends */
    memset(memory + 4096, 'a', 4096);
    put32(16, BASE + 4096);
    assert_null(parse(MULTIBOOT1_MAGIC, BASE));
    assert_true(strlen(info.cmdline) <= BOOT_CMDLINE_SIZE - 1);
    put32(16, BASE + sizeof(memory) - 10);
    assert_null(parse(MULTIBOOT1_MAGIC, BASE));
    build_mb1(); /* more modules than fit: the first ones count */
    put32(20, 40);
    for (unsigned i = 0; i < 40; i++) {
        put32(1024 + i * 16, 0x1000);
        put32(1024 + i * 16 + 4, 0x2000);
        put32(1024 + i * 16 + 8, 0);
    }
    assert_null(parse(MULTIBOOT1_MAGIC, BASE));
    assert_int_equal(info.module_count, BOOT_MAX_MODULES);
}

/* Multiboot 2: tags are appended here */
static unsigned mb2_end;

static void begin_mb2(void)
{
    memset(memory, 0, sizeof(memory));
    mb2_end = 8;
}
static unsigned add_tag(uint32_t type, const void *content, uint32_t n)
{
    unsigned at = mb2_end;

    put32(at, type);
    put32(at + 4, n + 8);
    memcpy(memory + at + 8, content, n);
    mb2_end += ROUND_UP(n + 8, 8u);
    return at;
}
static const char *parse_mb2(void)
{
    add_tag(0, "", 0);
    put32(0, mb2_end);
    return parse(MULTIBOOT2_MAGIC, BASE);
}
static void add_map(void)
{
    struct {
        uint32_t entry_size, version;
        struct {
            uint64_t start, size;
            uint32_t type, zero;
        } e[4];
    } map = {
        24,
        0,
        {{0, 0xa0000, 1, 0}, {0x100000, 0x3ff00000, 1, 0}, {0x3f000000, 0x100000, 3, 0}, {0x3f080000, 0x1000, 4, 0}}};

    add_tag(6, &map, sizeof(map));
}
static void add_module_tag(uint32_t start, uint32_t end, const char *text)
{
    uint8_t content[300];

    memcpy(content, &start, 4);
    memcpy(content + 4, &end, 4);
    strcpy((char *)content + 8, text);
    add_tag(3, content, (uint32_t)(8 + strlen(text) + 1));
}

static void multiboot2(void **state)
{
    uint64_t efi = 0x3fabc018;
    struct {
        uint64_t address;
        uint32_t pitch, width, height;
        uint8_t bpp, type, zero[2], rgb[6];
    } __packed fb = {0x80000000, 4096, 1024, 768, 32, 1, {0}, {16, 8, 8, 8, 0, 8}};

    begin_mb2();
    add_tag(1, "loglvl=all", 11);
    add_tag(2, "GRUB 2.06-13+deb12u1", 21);
    add_module_tag(0x1000000, 0x1800000, "placeholder root=/dev/vda1");
    add_map();
    add_tag(12, &efi, 8);
    add_tag(8, &fb, sizeof(fb));
    add_tag(15, "RSD PTR .CROFT \2ABCDEFGHIJKLMNOPQRST", 36);
    add_tag(14, "RSD PTR .OLDER \0ABCD", 20);
    assert_null(parse_mb2());
    assert_string_equal(info.protocol, "multiboot 2");
    assert_string_equal(info.cmdline, "loglvl=all");
    assert_int_equal(info.module_count, 1);
    assert_string_equal(info.modules[0].cmdline, "root=/dev/vda1");
    assert_int_equal(info.efi_system_table.n, efi);
    assert_true(info.framebuffer.present);
    assert_int_equal(info.framebuffer.height, 768);
    assert_int_equal(info.framebuffer.rgb[0], 16);
    assert_memory_equal(info.rsdp_copy, "RSD PTR .CROFT \2", 16);
    assert_true(info.rsdp.n != 0);
    assert_int_equal(info.range_count, 6);
    assert_range(0, 0, 0xa0000, BOOT_RAM);
    assert_range(1, 0x100000, 0x3f000000, BOOT_RAM);
    assert_range(2, 0x3f000000, 0x3f080000, BOOT_ACPI);
    assert_range(3, 0x3f080000, 0x3f081000, BOOT_NVS);
    assert_range(4, 0x3f081000, 0x3f100000, BOOT_ACPI);
    assert_range(5, 0x3f100000, 0x40000000, BOOT_RAM);
}

static void efi_map(void **state)
{
    struct {
        uint32_t size, version;
        struct {
            uint32_t type, pad;
            uint64_t start, v, pages, attribute, extra;
        } e[7];
    } map = {48,
             1,
             {{7, 0, 0, 0, 0xa0, 0xf, 0},
              {4, 0, 0x100000, 0, 0x100, 0xf, 0},
              {7, 0, 0x200000, 0, 0x100, 0xf, 0},
              {9, 0, 0x300000, 0, 1, 0xf, 0},
              {10, 0, 0x301000, 0, 1, 0xf, 0},
              {6, 0, 0x302000, 0, 1, 0x800000000000000f, 0},
              {7, 0, 0x400000, 0, ~0UL, 0xf, 0}}};

    begin_mb2();
    add_tag(17, &map, sizeof(map));
    assert_null(parse_mb2());
    assert_int_equal(info.range_count, 5);
    assert_range(0, 0, 0xa0000, BOOT_RAM);
    assert_range(1, 0x100000, 0x300000, BOOT_RAM);
    assert_range(2, 0x300000, 0x301000, BOOT_ACPI);
    assert_range(3, 0x301000, 0x302000, BOOT_NVS);
    assert_range(4, 0x302000, 0x303000, BOOT_RESERVED);
    begin_mb2(); /* boot services still run: their memory is theirs */
    add_tag(18, "", 0);
    add_tag(17, &map, sizeof(map));
    assert_null(parse_mb2());
    assert_range(1, 0x100000, 0x200000, BOOT_RESERVED);
    begin_mb2(); /* the E820-like map wins */
    add_tag(17, &map, sizeof(map));
    add_map();
    assert_null(parse_mb2());
    assert_range(1, 0x100000, 0x3f000000, BOOT_RAM);
}

static void multiboot2_hostile(void **state)
{
    uint32_t words[2] = {0x1000, 0x2000};

    begin_mb2();
    add_map();
    assert_null(parse_mb2());
    put32(0, 4);
    assert_non_null(strstr(parse(MULTIBOOT2_MAGIC, BASE), "absurd size"));
    put32(0, 0xffffffff);
    assert_non_null(strstr(parse(MULTIBOOT2_MAGIC, BASE), "absurd size"));
    put32(0, sizeof(memory));
    put32(12, 4);
    assert_non_null(strstr(parse(MULTIBOOT2_MAGIC, BASE), "tag has an absurd size"));
    put32(12, 0xfffffffc);
    assert_non_null(strstr(parse(MULTIBOOT2_MAGIC, BASE), "tag has an absurd size"));
    begin_mb2();
    add_tag(3, words, 4);
    assert_non_null(strstr(parse_mb2(), "module tag is too short"));
    begin_mb2(); /* tags that are too short are left out, and a module without a command line is one */
    add_tag(8, words, 8);
    add_tag(12, words, 4);
    add_tag(15, words, 8);
    add_tag(1, "", 0);
    add_tag(3, words, 8);
    add_map();
    assert_null(parse_mb2());
    assert_int_equal(info.module_count, 1);
    assert_int_equal(info.efi_system_table.n, 0);
    assert_int_equal(info.rsdp.n, 0);
    begin_mb2();
    add_tag(6, words, 4);
    assert_non_null(strstr(parse_mb2(), "no memory map"));
    begin_mb2();
    words[0] = 0;
    add_tag(6, words, 8);
    assert_non_null(strstr(parse_mb2(), "too short"));
}

/* Random overlapping ranges against a byte map of what each place must be */
static void normalising(void **state)
{
    enum { SPACE = 64, MAX = 12 };
    static const int strict[] = {[BOOT_RAM] = 1, [BOOT_ACPI] = 2, [BOOT_NVS] = 3, [BOOT_RESERVED] = 4, [BOOT_BAD] = 5};

    srand(1);
    for (unsigned round = 0; round < 20000; round++) {
        struct boot_range in[MAX], out[2 * MAX];
        uint8_t expected[SPACE] = {0}, got[SPACE] = {0};
        unsigned count = rand() % MAX;

        for (unsigned i = 0; i < count; i++) {
            in[i].start = rand() % SPACE;
            in[i].size = rand() % (SPACE - in[i].start + 1);
            in[i].type = 1 + rand() % 5;
            for (uint64_t j = in[i].start; j < in[i].start + in[i].size; j++)
                if (!expected[j] || strict[in[i].type] > strict[expected[j]])
                    expected[j] = (uint8_t)in[i].type;
        }
        unsigned n = boot_normalise_ranges(in, count, out, 2 * MAX);

        assert_true(n <= 2 * MAX);
        for (unsigned i = 0; i < n; i++) {
            assert_true(out[i].size && out[i].start + out[i].size <= SPACE);
            if (i) {
                uint64_t end = out[i - 1].start + out[i - 1].size;

                assert_true(out[i].start >= end);
                assert_true(out[i].start > end || out[i].type != out[i - 1].type);
            }
            memset(got + out[i].start, (int)out[i].type, out[i].size);
        }
        assert_memory_equal(got, expected, SPACE);
        if (n > 1)
            assert_true(boot_normalise_ranges(in, count, out, 1) > 1);
    }
    struct boot_range wrapping[] = {{~0UL - 10, 100, BOOT_RAM}, {5, ~0UL, BOOT_BAD}}, out[8];

    boot_normalise_ranges(wrapping, 2, out, 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(multiboot1),         cmocka_unit_test(file_names),  cmocka_unit_test(multiboot1_without_map),
        cmocka_unit_test(multiboot1_hostile), cmocka_unit_test(multiboot2),  cmocka_unit_test(efi_map),
        cmocka_unit_test(multiboot2_hostile), cmocka_unit_test(normalising),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
