/* sources: hypervisor/domain/guest_console.c */
/* Consoles of domains without tools: what comes on the screen, what is typed, and rings that lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fake_boot.h"

#include "domain/domain.h"
#include "domain/guest_console.h"
#include "memory/alloc.h"
#include "memory/map.h"
#include "platform/console.h"
#include "sched/time.h"

enum { DOMAINS = 3 };

static uint8_t ram[8][PAGE_SIZE] __attribute__((aligned(4096)));
static struct domain domains[DOMAINS];
static char screen[1 << 16];
static size_t shown;
static struct timer *timers[GUEST_CONSOLES];
static unsigned timer_count, events[DOMAINS], held[8], bind_fails;

ns_t now(void) { return 0; }
void *heap_alloc(size_t size) { return calloc(1, size); }
void heap_free(void *p) { free(p); }
void *mfn_to_virt(mfn_t m) { return ram[m.n]; }
mfn_t virt_to_mfn(const void *p) { return MFN((uint64_t)((const uint8_t *)p - ram[0]) / PAGE_SIZE); }
bool frame_get_writable(mfn_t m, const struct domain *d)
{
    if (m.n >= 8)
        return false;
    held[m.n]++;
    return true;
}
void frame_put_writable(mfn_t m) { held[m.n]--; }
int event_bind_croft(struct domain *d, uint32_t *port)
{
    *port = 5;
    return -(int)bind_fails;
}
void event_send_port(struct domain *d, uint32_t port)
{
    assert_int_equal(port, 5);
    events[d - domains]++;
}
void console_write(const char *text, size_t n)
{
    assert_true(shown + n < sizeof(screen));
    memcpy(screen + shown, text, n);
    shown += n;
    screen[shown] = 0;
}
void timer_init(struct timer *t, void (*handler)(void *), void *arg, unsigned cpu)
{
    *t = (struct timer){.handler = handler, .arg = arg, .cpu = cpu};
    timers[timer_count++] = t;
}
void timer_set(struct timer *t, ns_t expires) { t->armed = true; }
void timer_kill(struct timer *t)
{
    for (unsigned i = 0; i < timer_count; i++)
        if (timers[i] == t)
            timers[i] = timers[--timer_count];
}

static struct xencons_interface *ring(unsigned d) { return (void *)ram[d]; }

/* Each armed timer once: how many there were. */
static unsigned tick(void)
{
    unsigned fired = 0;

    for (unsigned i = 0; i < timer_count; i++)
        if (timers[i]->armed) {
            timers[i]->armed = false;
            timers[i]->handler(timers[i]->arg);
            fired++;
        }
    return fired;
}

static void all_ticks(void)
{
    while (tick())
        ;
}

static void begin(void)
{
    static const char *const names[] = {"one", "two", "three"};
    uint32_t port;

    memset(ram, 0, sizeof(ram));
    memset(events, 0, sizeof(events));
    shown = screen[0] = 0;
    for (unsigned i = 0; i < DOMAINS; i++)
        assert_int_equal(guest_console_create(&domains[i], names[i], MFN(i), &port), 0);
}

static void end(void)
{
    for (unsigned i = 0; i < DOMAINS; i++)
        guest_console_destroy(&domains[i]);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(held[i], 0);
    assert_int_equal(timer_count, 0);
}

static void say(unsigned d, const char *text)
{
    for (; *text; text++)
        ring(d)->out[ring(d)->out_prod++ % sizeof(ring(d)->out)] = *text;
    guest_console_kick(&domains[d]);
}

static void lines(void **state)
{
    begin();
    say(0, "hello\r\nworld\n");
    assert_int_equal(shown, 0); /* not by the domain's own call */
    all_ticks();
    assert_string_equal(screen, "(one) hello\n(one) world\n");
    assert_int_equal(ring(0)->out_cons, ring(0)->out_prod);
    assert_int_equal(events[0], 1);
    shown = 0;
    say(0, "prompt# ");
    all_ticks();
    assert_string_equal(screen, "(one) prompt# ");
    say(0, "x");
    all_ticks();
    assert_string_equal(screen, "(one) prompt# x");
    say(1, "other\n");
    all_ticks();
    assert_string_equal(screen, "(one) prompt# x\n(two) other\n");
    say(0, "y\n");
    all_ticks();
    assert_string_equal(screen, "(one) prompt# x\n(two) other\n(one) y\n");
    end();
}

/* Long texts of two, taken in slices: each line whole */
static void no_mixing(void **state)
{
    unsigned ticks = 0;

    begin();
    for (unsigned i = 0; i < 20; i++)
        for (unsigned d = 0; d < 2; d++)
            say(d,
                d ? "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\n" : "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n");
    while (tick())
        ticks++;
    assert_true(ticks >= 20 * 49 / 64); /* not all at once */
    for (char *line = strtok(screen, "\n"); line; line = strtok(NULL, "\n"))
        assert_true(!strcmp(line, "(one) aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa") ||
                    !strcmp(line, "(two) bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"));
    end();
}

static void long_line(void **state)
{
    begin();
    for (unsigned i = 0; i < 10; i++)
        say(0, "0123456789012345678901234567890123456789012345678901234567890123");
    say(0, "\n");
    all_ticks();
    assert_int_equal(shown, strlen("(one) ") + 641);
    end();
}

static void typing(void **state)
{
    char many[2000];

    begin();
    guest_console_type(1, "ls\n", 3);
    assert_int_equal(ring(1)->in_prod, 3);
    assert_memory_equal(ring(1)->in, "ls\n", 3);
    assert_int_equal(events[1], 1);
    assert_int_equal(ring(0)->in_prod, 0);
    memset(many, 'x', sizeof(many));
    guest_console_type(1, many, sizeof(many));
    assert_int_equal(ring(1)->in_prod, sizeof(ring(1)->in)); /* the rest is lost */
    ring(1)->in_cons = 1000;
    guest_console_type(1, many, sizeof(many));
    assert_int_equal(ring(1)->in_prod, sizeof(ring(1)->in) + 1000);
    end();
    guest_console_type(1, "x", 1); /* it has gone */
}

static void names(void **state)
{
    char name[BOOT_DOMAIN_NAME];

    begin();
    assert_true(guest_console_name(2, name));
    assert_string_equal(name, "three");
    assert_false(guest_console_name(3, name));
    guest_console_destroy(&domains[1]);
    assert_false(guest_console_name(1, name));
    guest_console_kick(&domains[1]);
    end();
    guest_console_destroy(&domains[1]);
}

/* A domain that is started anew finds the place that it had, whoever else has come and gone. */
static void the_same_place(void **state)
{
    char name[BOOT_DOMAIN_NAME], other[16];
    uint32_t port;

    begin();
    guest_console_destroy(&domains[0]);
    guest_console_destroy(&domains[1]);
    assert_int_equal(guest_console_create(&domains[1], "two", MFN(1), &port), 0);
    assert_false(guest_console_name(0, name));
    assert_true(guest_console_name(1, name));
    assert_int_equal(guest_console_create(&domains[0], "one", MFN(0), &port), 0);
    assert_true(guest_console_name(0, name));
    assert_string_equal(name, "one");
    /* Names without end: one that has a place no more gives it up. */
    for (unsigned i = 0; i < 3 * GUEST_CONSOLES; i++) {
        guest_console_destroy(&domains[2]);
        snprintf(other, sizeof(other), "other%u", i);
        assert_int_equal(guest_console_create(&domains[2], other, MFN(2), &port), 0);
    }
    guest_console_destroy(&domains[1]);
    assert_int_equal(guest_console_create(&domains[1], "two", MFN(1), &port), 0);
    assert_true(guest_console_name(1, name));
    assert_string_equal(name, "two");
    end();
}

/* What was written before the domain's end comes out, though it says nothing of it. */
static void drained(void **state)
{
    unsigned rounds = 0;

    begin();
    assert_true(guest_console_drained(&domains[0]));
    for (unsigned i = 0; i < 1000; i++)
        ring(0)->out[ring(0)->out_prod++ % sizeof(ring(0)->out)] = i % 50 == 49 ? '\n' : 'x';
    ring(0)->out[ring(0)->out_prod++ % sizeof(ring(0)->out)] = 'y';
    for (; !guest_console_drained(&domains[0]); rounds++)
        assert_int_equal(tick(), 1);
    assert_in_range(rounds, 1000 / 64, 1000 / 64 + 2);
    assert_int_equal(shown, 20 * (strlen("(one) ") + 50) + strlen("(one) y"));
    assert_true(guest_console_drained(&domains[1]));
    guest_console_destroy(&domains[0]);
    assert_true(guest_console_drained(&domains[0]));
    end();
}

static void refusals(void **state)
{
    uint32_t port;

    assert_int_equal(guest_console_create(&domains[0], "x", MFN(9), &port), -EINVAL);
    bind_fails = ENOSPC;
    assert_int_equal(guest_console_create(&domains[0], "x", MFN(1), &port), -ENOSPC);
    bind_fails = EINVAL;
    assert_int_equal(guest_console_create(&domains[0], "x", MFN(1), &port), -EINVAL);
    bind_fails = 0;
    assert_int_equal(held[1], 0);
    assert_null(domains[0].console);
}

/* Positions and bytes of any kind, changed between all steps: nothing but the ring is read, and it comes to an end. */
static void rings_that_lie(void **state)
{
    unsigned long ticks = 0;

    begin();
    srand(7);
    for (unsigned round = 0; round < 20000; round++) {
        struct xencons_interface *r = ring(0);

        shown = 0;
        switch (rand() % 6) {
        case 0:
            r->out_prod = (XENCONS_RING_IDX)rand() << 1;
            break;
        case 1:
            r->out_prod = r->out_cons + (XENCONS_RING_IDX)(rand() % 3000);
            break;
        case 2:
            r->in_cons = (XENCONS_RING_IDX)rand() << 1;
            break;
        case 3:
            r->out_cons = (XENCONS_RING_IDX)rand();
            break;
        case 4:
            for (unsigned i = 0; i < sizeof(r->out); i++)
                r->out[i] = (char)rand();
            break;
        default:
            guest_console_type(0, "some text", 9);
        }
        guest_console_kick(&domains[0]);
        ticks += tick();
    }
    ring(0)->out_prod = 0;
    all_ticks();
    assert_true(ticks > 1000);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines),   cmocka_unit_test(no_mixing), cmocka_unit_test(long_line),
        cmocka_unit_test(typing),  cmocka_unit_test(names),     cmocka_unit_test(the_same_place),
        cmocka_unit_test(drained), cmocka_unit_test(refusals),  cmocka_unit_test(rings_that_lie),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
