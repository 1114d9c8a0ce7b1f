/* sources: hypervisor/platform/console.c hypervisor/platform/keys.c */
/* The console: line ends, the way of typed characters, Ctrl-A three times, keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "boot/options.h"
#include "cpu/softirq.h"
#include "domain/domain.h"
#include "domain/guest_console.h"
#include "lib/log.h"
#include "platform/console.h"
#include "platform/irq.h"
#include "platform/power.h"
#include "platform/serial.h"
#include "sched/time.h"

struct options options = {.console = "com1"};
static struct domain the_domain;
struct domain *domain0 = &the_domain;
static struct percpu fake_cpu;
static char wire_out[4096], logged[8192];
static const char *wire_in = "";
static unsigned virqs, presses;
static void (*softirq)(void);
static void (*interrupt)(void *);
static uint16_t opened;

struct percpu *this_cpu(void) { return &fake_cpu; }
ns_t now(void) { return 0; }
bool serial_init(uint16_t port, uint32_t baud)
{
    opened = port;
    return true;
}
void serial_write(const char *text, size_t n) { strncat(wire_out, text, n); }
int serial_read(void) { return *wire_in ? *wire_in++ : -1; }
void serial_enable_receive_interrupt(void) {}
void log_console_ready(void) {}
void log_print(enum log_level level, const char *fmt, ...)
{
    size_t n = strlen(logged);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(logged + n, sizeof(logged) - n, fmt, ap);
    va_end(ap);
}
void event_send_global_virq(struct domain *d, unsigned virq)
{
    assert_int_equal(virq, VIRQ_CONSOLE);
    virqs++;
}
static char guest_typed[2][64];
static bool guest_there[2];
bool guest_console_name(unsigned number, char name[BOOT_DOMAIN_NAME])
{
    if (number >= 2 || !guest_there[number])
        return false;
    strcpy(name, number ? "two" : "one");
    return true;
}
void guest_console_type(unsigned number, const char *text, size_t n) { strncat(guest_typed[number], text, n); }
void softirq_register(enum softirq nr, void (*handler)(void)) { softirq = handler; }
void timer_init(struct timer *t, void (*handler)(void *), void *arg, unsigned cpu) {}
void timer_set(struct timer *t, ns_t expires) {}
unsigned irq_gsi_of_isa(unsigned isa) { return isa; }
int irq_request_gsi(unsigned gsi, void (*handler)(void *), void *arg)
{
    assert_int_equal(gsi, 4);
    interrupt = handler;
    return 0;
}
void irq_key_report(void) {}
void machine_reboot(void) { __builtin_trap(); }

static void pressed(void) { presses++; }

static int setup(void **state)
{
    char sink[2048];

    while (console_read(sink, sizeof(sink)))
        ;
    wire_out[0] = logged[0] = 0;
    virqs = presses = 0;
    fake_cpu.softirq_pending = 0;
    if (!interrupt) {
        console_init_early();
        console_init_irq();
        key_register('x', "a test", pressed);
    }
    return 0;
}

static const char *typed_for_domain0(void)
{
    static char text[2048];

    text[console_read(text, sizeof(text) - 1)] = 0;
    return text;
}

static void type(const char *text)
{
    wire_in = text;
    interrupt(NULL);
}

static void test_output(void **state)
{
    assert_int_equal(opened, 0x3f8);
    console_write("a\nb\n", 4);
    assert_string_equal(wire_out, "a\r\nb\r\n");
}

static void test_long_output(void **state)
{
    char text[1000];

    memset(text, '\n', sizeof(text));
    console_write(text, sizeof(text));
    assert_int_equal(strlen(wire_out), 2000);
}

static void test_input_to_domain0(void **state)
{
    type("ls\r");
    assert_int_equal(virqs, 1);
    assert_string_equal(typed_for_domain0(), "ls\r");
    assert_string_equal(typed_for_domain0(), "");
    assert_int_equal(fake_cpu.softirq_pending, 0);
}

static void test_more_than_a_chunk(void **state)
{
    char text[600];

    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = 0;
    type(text);
    assert_string_equal(typed_for_domain0(), text);
}

static void test_overflow(void **state)
{
    char text[3000];

    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = 0;
    type(text);
    assert_int_equal(strlen(typed_for_domain0()), 1024);
    type("b");
    assert_string_equal(typed_for_domain0(), "b");
}

static void test_single_ctrl_a(void **state)
{
    type("\001");
    assert_string_equal(typed_for_domain0(), ""); /* not clear yet */
    type("\001x");
    assert_string_equal(typed_for_domain0(), "\001\001x");
    assert_string_equal(logged, "");
}

static void test_switch(void **state)
{
    type("a\001\001\001xb");
    assert_string_equal(typed_for_domain0(), "a");
    assert_non_null(strstr(logged, "Croft's now"));
    assert_int_equal(fake_cpu.softirq_pending, 1U << SOFTIRQ_CONSOLE);
    assert_int_equal(presses, 0); /* not in the interrupt */
    softirq();
    assert_int_equal(presses, 1);
    assert_non_null(strstr(logged, "key 'b' has no meaning"));
    type("h");
    softirq();
    assert_non_null(strstr(logged, "a test"));
    type("\001\001");
    type("\001y");
    assert_non_null(strstr(logged, "domain 0's now"));
    assert_string_equal(typed_for_domain0(), "y");
}

/* Ctrl-A three times goes round: domain 0, Croft, each domain without tools. */
static void test_guests(void **state)
{
    guest_there[1] = true;
    type("\001\001\001\001\001\001x\001y");
    assert_non_null(strstr(logged, "the keyboard is domain two's now"));
    assert_string_equal(guest_typed[1], "x\001y");
    type("\001\001\001z");
    assert_string_equal(typed_for_domain0(), "z");
    guest_there[0] = true;
    logged[0] = 0;
    type("\001\001\001\001\001\001a\001\001\001b\001\001\001c");
    assert_string_equal(guest_typed[0], "a");
    assert_string_equal(guest_typed[1], "x\001yb");
    assert_string_equal(typed_for_domain0(), "c");
    assert_int_equal(virqs, 2);
    /* Without domain 0 the first of them begins, and domain 0 is left out. */
    domain0 = NULL;
    logged[0] = 0;
    console_keyboard_start();
    assert_non_null(strstr(logged, "domain one's now"));
    type("d\001\001\001e\001\001\001\001\001\001f");
    assert_string_equal(guest_typed[0], "adf");
    assert_string_equal(guest_typed[1], "x\001ybe");
    guest_there[0] = guest_there[1] = false;
    type("\001\001\001h");
    softirq();
    assert_non_null(strstr(logged, "Croft's now"));
    type("\001\001\001");
    domain0 = &the_domain;
    type("\001\001\001");
}

static void test_odd_keys(void **state)
{
    for (int c = -128; c < 128; c++)
        if (c != 'R')
            key_press((char)c);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup(name, setup)
    static const struct CMUnitTest tests[] = {
        T(test_output),   T(test_long_output),   T(test_input_to_domain0), T(test_more_than_a_chunk),
        T(test_overflow), T(test_single_ctrl_a), T(test_switch),           T(test_odd_keys),
        T(test_guests),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
