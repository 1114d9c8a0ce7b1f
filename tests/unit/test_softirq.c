/* sources: hypervisor/cpu/softirq.c */
/* Softirqs: each raised one runs, in order, also if raised by another handler; one that does not come back loses
 * nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/smp.h"
#include "cpu/softirq.h"
#include "lib/log.h"

static struct percpu cpus[2];
static unsigned self, wakes, woken;
static char ran[64];
static bool raise_timer;
static jmp_buf *leave;

struct percpu *this_cpu(void) { return &cpus[self]; }
struct percpu *percpu_of(unsigned cpu) { return cpu < 2 ? &cpus[cpu] : NULL; }
void smp_send_wake(unsigned cpu)
{
    wakes++;
    woken = cpu;
}
void panic(const char *fmt, ...) { abort(); }

static void timer(void) { strcat(ran, "t"); }
static void schedule(void)
{
    strcat(ran, "s");
    if (raise_timer) {
        raise_timer = false;
        softirq_raise(SOFTIRQ_TIMER);
    }
    if (leave)
        longjmp(*leave, 1);
}
static void console(void) { strcat(ran, "c"); }

static int reset(void **state)
{
    memset(cpus, 0, sizeof(cpus));
    cpus[1].id = 1;
    self = wakes = 0;
    ran[0] = '\0';
    raise_timer = false;
    leave = NULL;
    softirq_register(SOFTIRQ_TIMER, timer);
    softirq_register(SOFTIRQ_SCHEDULE, schedule);
    softirq_register(SOFTIRQ_CONSOLE, console);
    return 0;
}

static void nothing_raised_nothing_runs(void **state)
{
    softirq_run();
    assert_string_equal(ran, "");
}

static void each_runs_once_in_order(void **state)
{
    softirq_raise(SOFTIRQ_CONSOLE);
    softirq_raise(SOFTIRQ_SCHEDULE);
    softirq_raise(SOFTIRQ_TIMER);
    softirq_raise(SOFTIRQ_TIMER);
    softirq_run();
    assert_string_equal(ran, "tsc");
    softirq_run();
    assert_string_equal(ran, "tsc");
}

static void raised_by_a_handler_runs_too(void **state)
{
    raise_timer = true;
    softirq_raise(SOFTIRQ_SCHEDULE);
    softirq_raise(SOFTIRQ_CONSOLE);
    softirq_run();
    assert_string_equal(ran, "stc");
    assert_int_equal(cpus[0].softirq_pending, 0);
}

static void a_handler_that_leaves_loses_nothing(void **state)
{
    jmp_buf here;

    softirq_raise(SOFTIRQ_SCHEDULE);
    softirq_raise(SOFTIRQ_CONSOLE);
    leave = &here;
    if (!setjmp(here))
        softirq_run();
    leave = NULL;
    assert_string_equal(ran, "s");
    softirq_run();
    assert_string_equal(ran, "sc");
}

static void other_cpus_are_woken_once(void **state)
{
    softirq_raise_on(0, SOFTIRQ_TIMER);
    assert_int_equal(wakes, 0);
    softirq_raise_on(1, SOFTIRQ_TIMER);
    softirq_raise_on(1, SOFTIRQ_TIMER);
    assert_int_equal(wakes, 1);
    assert_int_equal(woken, 1);
    softirq_raise_on(1, SOFTIRQ_SCHEDULE);
    assert_int_equal(wakes, 2);
    self = 1;
    softirq_run();
    assert_string_equal(ran, "ts");
    softirq_raise_on(7, SOFTIRQ_TIMER); /* no such CPU */
    assert_int_equal(wakes, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(nothing_raised_nothing_runs, reset),
        cmocka_unit_test_setup(each_runs_once_in_order, reset),
        cmocka_unit_test_setup(raised_by_a_handler_runs_too, reset),
        cmocka_unit_test_setup(a_handler_that_leaves_loses_nothing, reset),
        cmocka_unit_test_setup(other_cpus_are_woken_once, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
