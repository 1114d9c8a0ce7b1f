/* sources: hypervisor/boot/options.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fake_boot.h"

#include "boot/options.h"

static void parse(const char *line)
{
    fake_log_clear();
    options_parse(line);
}
#define PARSES(line)                                                                                                   \
    do {                                                                                                               \
        parse(line);                                                                                                   \
        assert_string_equal(fake_log, "");                                                                             \
    } while (0)
#define WARNS(line, text)                                                                                              \
    do {                                                                                                               \
        parse(line);                                                                                                   \
        assert_non_null(strstr(fake_log, text));                                                                       \
    } while (0)

static void defaults(void **state)
{
    PARSES("");
    assert_int_equal(options.loglvl, LOG_INFO);
    assert_int_equal(options.guest_loglvl, LOG_WARNING);
    assert_string_equal(options.console, "com1");
    assert_true(options.smap && options.smep && options.x2apic);
    assert_false(options.noreboot || options.hpet_off || options.acpi_off);
    assert_int_equal(options.dom0_mem, 0);
    assert_int_equal(options.sched_allowance_us, 5000);
    assert_int_equal(options.timer_slop, 50000);
}

static void sizes(void **state)
{
    PARSES("dom0_mem=512M");
    assert_int_equal(options.dom0_mem, 512UL << 20);
    PARSES("dom0_mem=1024");
    assert_int_equal(options.dom0_mem, 1UL << 20); /* KiB */
    PARSES("dom0_mem=4096b");
    assert_int_equal(options.dom0_mem, 4096);
    PARSES("dom0_mem=2G,min:256m,max:0x10G");
    assert_int_equal(options.dom0_mem, 2UL << 30);
    assert_int_equal(options.dom0_mem_min, 256UL << 20);
    assert_int_equal(options.dom0_mem_max, 16UL << 30);
    PARSES("dom0_mem=max:1T,");
    assert_int_equal(options.dom0_mem, 0);
    assert_int_equal(options.dom0_mem_max, 1UL << 40);
    PARSES("mem=3g");
    assert_int_equal(options.mem, 3UL << 30);
    static const char *const bad[] = {"dom0_mem=",
                                      "dom0_mem=x",
                                      "dom0_mem=-1G",
                                      "dom0_mem=1G2",
                                      "dom0_mem=1G,mid:2G",
                                      "dom0_mem=min:",
                                      "dom0_mem=1GG",
                                      "dom0_mem=99999999999999999999G",
                                      "dom0_mem=18446744073709551614T",
                                      "dom0_mem=1G,,max:2G",
                                      "mem=1Q",
                                      "mem=,"};

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        WARNS(bad[i], "is malformed");
        assert_int_equal(options.dom0_mem | options.dom0_mem_min | options.dom0_mem_max | options.mem, 0);
    }
}

static void booleans(void **state)
{
    static const char *const on[] = {"noreboot",     "noreboot=1",    "noreboot=on",
                                     "noreboot=yes", "noreboot=true", "noreboot=enable"};
    static const char *const off[] = {"smap=0", "smap=off", "smap=no", "smap=false", "smap=disable", "no-smap"};

    for (size_t i = 0; i < ARRAY_SIZE(on); i++) {
        PARSES(on[i]);
        assert_true(options.noreboot);
    }
    for (size_t i = 0; i < ARRAY_SIZE(off); i++) {
        PARSES(off[i]);
        assert_false(options.smap);
    }
    PARSES("noreboot no-hpet acpi=off");
    assert_true(options.noreboot && options.hpet_off && options.acpi_off);
    PARSES("noreboot noreboot=no");
    assert_false(options.noreboot);
    WARNS("smap=maybe", "'smap=maybe' is malformed");
    assert_true(options.smap);
}

static void levels(void **state)
{
    PARSES("loglvl=all guest_loglvl=none");
    assert_int_equal(options.loglvl, LOG_DEBUG);
    assert_int_equal(options.guest_loglvl, -1);
    PARSES("loglvl=error guest_loglvl=warning/info");
    assert_int_equal(options.loglvl, LOG_ERROR);
    assert_int_equal(options.guest_loglvl, LOG_INFO);
    WARNS("loglvl=loud", "loglvl=loud");
    WARNS("loglvl=info/", "is malformed");
    WARNS("loglvl", "needs a value");
    assert_int_equal(options.loglvl, LOG_INFO);
}

static void consoles(void **state)
{
    PARSES("console=com1,vga com1=115200,8n1,0x3f8,4 com2=auto,8n1,0x2f8");
    assert_string_equal(options.console, "com1,vga");
    assert_int_equal(options.com[0].baud, 115200);
    assert_int_equal(options.com[0].port, 0x3f8);
    assert_int_equal(options.com[0].irq, 4);
    assert_int_equal(options.com[1].baud, 0);
    assert_int_equal(options.com[1].port, 0x2f8);
    PARSES("com1=9600/1843200 com2=57600,,0xe000,11");
    assert_int_equal(options.com[0].baud, 9600);
    assert_int_equal(options.com[1].port, 0xe000);
    assert_int_equal(options.com[1].irq, 11);
    static const char *const bad[] = {"console=com3",
                                      "console=",
                                      "console=com1,,vga",
                                      "console=com1,com1,com1,com1,com1,com1,com1,com1",
                                      "com1=0",
                                      "com1=fast",
                                      "com1=115201",
                                      "com1=115200,7e1",
                                      "com1=115200,8n1,0x10000",
                                      "com1=115200,8n1,0",
                                      "com1=115200,8n1,0x3f8,16",
                                      "com1=115200,8n1,0x3f8,4,x",
                                      "com1=115200;"};

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        WARNS(bad[i], "is malformed");
        assert_string_equal(options.console, "com1");
        assert_int_equal(options.com[0].port, 0);
    }
}

static void reboots(void **state)
{
    PARSES("reboot=t");
    assert_string_equal(options.reboot, "triple");
    PARSES("reboot=acpi");
    assert_string_equal(options.reboot, "acpi");
    PARSES("reboot=no");
    assert_true(options.noreboot);
    WARNS("reboot=soon", "is malformed");
}

static void unknown(void **state)
{
    WARNS("foo", "unknown option 'foo': ignored, see docs/options.md");
    WARNS("foo=bar", "unknown option 'foo'");
    WARNS("no-foo", "unknown option 'no-foo'");
    WARNS("no-dom0_mem", "unknown option 'no-dom0_mem'");
    WARNS("=", "unknown option ''");
    WARNS("maxcpus=4 foo dom0_max_vcpus=2", "unknown option 'foo'");
    assert_int_equal(options.maxcpus, 4);
    assert_int_equal(options.dom0_max_vcpus, 2);
    WARNS("maxcpus=4294967296", "is malformed");
    WARNS("maxcpus=-1", "is malformed");
    PARSES("placeholder no-real-mode edd=off vga=text");
    PARSES("  \t maxcpus=3   -- foo bar");
    assert_int_equal(options.maxcpus, 3);
}

static void long_words(void **state)
{
    char line[1024];

    memset(line, 'x', sizeof(line));
    line[sizeof(line) - 1] = 0;
    WARNS(line, "option of 1023 characters");
    memcpy(line, "maxcpus=2 ", 10);
    WARNS(line, "ignored");
    assert_int_equal(options.maxcpus, 2);
}

/* Each option has a text, and docs/options.md is made of these texts. */
static void documentation(void **state)
{
    unsigned n = 0;

    for (const struct option_text *t; (t = option_text(n)) != NULL; n++)
        assert_true(t->name[0] && t->help[0] && t->values && t->initial);
    assert_true(n > 20);
    assert_int_equal(system("tools/gen-options --check"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults), cmocka_unit_test(sizes),      cmocka_unit_test(booleans),
        cmocka_unit_test(levels),   cmocka_unit_test(consoles),   cmocka_unit_test(reboots),
        cmocka_unit_test(unknown),  cmocka_unit_test(long_words), cmocka_unit_test(documentation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
