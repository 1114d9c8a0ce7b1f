/* sources: hypervisor/lib/log.c hypervisor/lib/printf.c */
/* The log: ring and readers, levels, the lines before the console, the guests' rate limit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "boot/options.h"
#include "domain/domain.h"
#include "lib/log.h"
#include "platform/console.h"
#include "sched/time.h"

struct options options = {.loglvl = LOG_INFO, .guest_loglvl = LOG_WARNING};
static struct percpu fake_cpu;
static struct domain fake_domain = {.id = 3};
static struct vcpu fake_vcpu = {.domain = &fake_domain, .id = 1};
static ns_t fake_now = SECONDS(1);
static char console[1 << 20];
static size_t console_used;

struct percpu *this_cpu(void) { return &fake_cpu; }
ns_t now(void) { return fake_now; }
bool console_in_panic(void) { return false; }
void console_write(const char *text, size_t n)
{
    memcpy(console + console_used, text, n);
    console_used += n;
    console[console_used] = 0;
}

static char text[70000];
static const char *read_all(uint64_t from)
{
    size_t n = 0, got;

    while ((got = log_ring_read(&from, text + n, 1000, false)) != 0)
        n += got;
    text[n] = 0;
    return text;
}

/* First: the console comes up once in a process. */
static void test_early_lines(void **state)
{
    log_info("early %d\n", 1);
    log_debug("early debug\n");
    log_error("early error\n");
    assert_int_equal(console_used, 0);
    log_console_ready();
    assert_string_equal(console, "(CROFT) early 1\n(CROFT) early error\n");
    assert_string_equal(read_all(0), "(CROFT) early 1\n(CROFT) early debug\n(CROFT) early error\n");
    log_console_ready(); /* again: nothing more */
    assert_string_equal(console, "(CROFT) early 1\n(CROFT) early error\n");
}

static void test_levels(void **state)
{
    console_used = 0;
    log_debug("quiet\n");
    assert_int_equal(console_used, 0);
    log_warning("loud %s", "without newline");
    assert_string_equal(console, "(CROFT) loud without newline\n");
    assert_non_null(strstr(read_all(0), "(CROFT) quiet\n"));
}

static void test_long_line(void **state)
{
    char many[2000];

    memset(many, 'x', sizeof(many) - 1);
    many[sizeof(many) - 1] = 0;
    console_used = 0;
    log_info("%s\n", many);
    assert_true(console_used < 513);
    assert_int_equal(console[console_used - 1], '\n');
    assert_ptr_equal(strchr(console, '\n'), console + console_used - 1);
}

static void test_ring_wraps(void **state)
{
    uint64_t position = 0;
    char one[16];

    for (unsigned i = 0; i < 5000; i++)
        log_debug("line number %u\n", i);
    read_all(0);
    assert_int_equal(strlen(text), 65536);
    assert_non_null(strstr(text, "line number 4999\n"));
    assert_null(strstr(text, "line number 1000\n"));
    /* A reader that fell behind goes on with the oldest there is. */
    assert_int_equal(log_ring_read(&position, one, sizeof(one), false), sizeof(one));
    assert_true(position > 16);
}

static void test_clear(void **state)
{
    uint64_t position = 0;
    char one[16];

    /* Clearing takes away what was read, not what comes after it. */
    log_debug("0123456789abcdef\n");
    position = ~0UL;
    log_ring_read(&position, one, 0, false);
    position -= strlen("cdef\n");
    log_ring_read(&position, one, 1, true);
    assert_string_equal(read_all(0), "def\n");
    position = ~0UL;
    log_ring_read(&position, one, 0, true);
    assert_string_equal(read_all(0), "");
    log_debug("after\n");
    assert_string_equal(read_all(0), "(CROFT) after\n");
}

static unsigned count(const char *what)
{
    unsigned n = 0;

    for (const char *p = read_all(0); (p = strstr(p, what)) != NULL; p++)
        n++;
    return n;
}

static void test_guest_limit(void **state)
{
    current = &fake_vcpu;
    for (unsigned i = 0; i < 100; i++)
        guest_log(LOG_WARNING, "refused %u\n", i);
    assert_int_equal(count("d3v1: refused "), 20);
    fake_now += SECONDS(1); /* five more, the first after a line on what was lost */
    for (unsigned i = 0; i < 100; i++)
        guest_log(LOG_WARNING, "later %u\n", i);
    assert_int_equal(count("d3v1: later "), 5);
    assert_int_equal(count("d3: 80 lines were left out"), 1);
    fake_now += SECONDS(1000); /* never more than the burst */
    for (unsigned i = 0; i < 100; i++)
        guest_log(LOG_DEBUG, "much %u\n", i);
    assert_int_equal(count("d3v1: much "), 20);
    assert_int_equal(refuse(-22, "no: %d\n", 1), -22);
    current = NULL;
}

static void test_bucket(void **state)
{
    uint64_t bucket = 0;
    ns_t refill = 0;
    uint32_t dropped;

    for (unsigned i = 0; i < 20; i++)
        assert_true(log_bucket_take(&bucket, &refill, 0, &dropped));
    assert_false(log_bucket_take(&bucket, &refill, 0, &dropped));
    assert_false(log_bucket_take(&bucket, &refill, MILLISECS(199), &dropped));
    assert_true(log_bucket_take(&bucket, &refill, MILLISECS(201), &dropped));
    assert_int_equal(dropped, 2);
    /* The part of an interval that was over is not lost. */
    assert_false(log_bucket_take(&bucket, &refill, MILLISECS(399), &dropped));
    assert_true(log_bucket_take(&bucket, &refill, MILLISECS(401), &dropped));
    assert_int_equal(dropped, 1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_early_lines), cmocka_unit_test(test_levels), cmocka_unit_test(test_long_line),
        cmocka_unit_test(test_ring_wraps),  cmocka_unit_test(test_clear),  cmocka_unit_test(test_guest_limit),
        cmocka_unit_test(test_bucket),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
