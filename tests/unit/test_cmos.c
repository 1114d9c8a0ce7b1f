/* sources: hypervisor/platform/cmos.c */
/* The CMOS clock's formats. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <cmocka.h>

#include "lib/log.h"
#include "platform/acpi.h"
#include "platform/timers.h"

struct acpi_info acpi_info;
void log_print(enum log_level level, const char *fmt, ...) {}

static void test_bcd_24(void **state)
{
    struct cmos_time t = {0x56, 0x34, 0x12, 0x29, 0x02, 0x24, 0x20, 0x02};

    assert_int_equal(cmos_decode(&t), 1709210096); /* 2024-02-29 12:34:56 */
    t.century = 0;                                 /* no such register: 00-69 are this century */
    assert_int_equal(cmos_decode(&t), 1709210096);
}

static void test_binary_12(void **state)
{
    struct cmos_time t = {56, 34, 12, 29, 2, 24, 20, 0x04};

    assert_int_equal(cmos_decode(&t), 1709210096 - 12 * 3600); /* twelve o'clock at night */
    t.hour = 12 | 0x80;
    assert_int_equal(cmos_decode(&t), 1709210096);
    t.hour = 1 | 0x80;
    assert_int_equal(cmos_decode(&t), 1709210096 + 3600);
    t.hour = 13;
    assert_int_equal(cmos_decode(&t), 0);
}

static void test_impossible(void **state)
{
    struct cmos_time good = {1, 1, 1, 1, 1, 24, 20, 0x06}, t;

    assert_true(cmos_decode(&good) != 0);
    t = good, t.second = 60, assert_int_equal(cmos_decode(&t), 0);
    t = good, t.month = 0, assert_int_equal(cmos_decode(&t), 0);
    t = good, t.month = 13, assert_int_equal(cmos_decode(&t), 0);
    t = good, t.day = 0, assert_int_equal(cmos_decode(&t), 0);
    t = good, t.hour = 24, assert_int_equal(cmos_decode(&t), 0);
    t = (struct cmos_time){0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    assert_int_equal(cmos_decode(&t), 0);
    t = good, t.century = 19, t.year = 69, assert_int_equal(cmos_decode(&t), 0);
}

/* Each day from 1970 to 2099 against the C library. */
static void test_every_day(void **state)
{
    for (time_t day = 1; day < 47482; day++) {
        time_t at = day * 86400 + 43210;
        struct tm tm;

        gmtime_r(&at, &tm);
        struct cmos_time t = {(uint8_t)tm.tm_sec,
                              (uint8_t)tm.tm_min,
                              (uint8_t)tm.tm_hour,
                              (uint8_t)tm.tm_mday,
                              (uint8_t)(tm.tm_mon + 1),
                              (uint8_t)(tm.tm_year % 100),
                              (uint8_t)(19 + tm.tm_year / 100),
                              0x06};
        assert_int_equal(cmos_decode(&t), at);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bcd_24),
        cmocka_unit_test(test_binary_12),
        cmocka_unit_test(test_impossible),
        cmocka_unit_test(test_every_day),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
