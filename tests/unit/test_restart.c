/* What becomes of domains without tools when they end: a machine of a few of them, whose builder and whose end take many steps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fake_boot.h"

#include "../../hypervisor/domain/restart.c"

enum { RECORDS = 3, MANY = 400 };

static struct percpu cpu;
static struct domain doms[MANY], privileged; /* by number */
static struct vcpu vcpus[MANY][2], idle_vcpu;
static struct work {
    unsigned teardown, drain;
} left[MANY]; /* of the domain's end */
static struct boot_domain whats[RECORDS];
static struct boot_image images[RECORDS];
static unsigned freed[RECORDS];

struct domain *domain0;
spinlock_t domain_work_lock;
cpumask_t cpu_online = {{3}};
static ns_t clock_now;
static unsigned next_number, build_steps, build_left, building_number, build_result, fail_early, ended, slices;
static struct boot_image *building;
static bool console_cut; /* a domain may end before all that it wrote has come out */
static struct timer *the_timer;
static void (*slice)(void);

ns_t now(void) { return clock_now += 100; }
struct percpu *this_cpu(void) { return &cpu; }

void timer_init(struct timer *t, void (*handler)(void *), void *arg, unsigned on)
{
    *t = (struct timer){.handler = handler, .arg = arg, .cpu = on};
    the_timer = t;
}
void timer_set(struct timer *t, ns_t expires)
{
    t->expires = expires;
    t->armed = true;
}
void timer_migrate(struct timer *t, unsigned to) { t->cpu = to; }
void softirq_register(enum softirq nr, void (*handler)(void))
{
    assert_int_equal(nr, SOFTIRQ_RESTART);
    slice = handler;
}
void domain_put(struct domain *d)
{
    assert_true(d->refs > 0);
    d->refs--;
}
domid_t domain_new_id(void)
{
    assert_true(next_number < MANY);
    return (domid_t)next_number++;
}
bool guest_console_drained(struct domain *d) { return !left[d->id].drain || !--left[d->id].drain; }
void vcpu_wake(struct vcpu *v) {}
void boot_image_free(struct boot_image *image)
{
    assert_true(image->keep);
    freed[image - images]++;
}
void machine_all_ended(void)
{
    ended++;
    longjmp(fake_failed, 1);
}

int domain_destroy(struct domain *d)
{
    assert_true(spin_is_locked(&domain_work_lock));
    assert_true(d->dying && d->refs > 0);
    assert_true(!left[d->id].drain || console_cut);
    for (unsigned i = 0; i < 2; i++)
        assert_false(vcpus[d->id][i].sched.running);
    if (left[d->id].teardown) {
        left[d->id].teardown--;
        return -ERESTART;
    }
    d->put_with_last_frame = true;
    if (d->from_modules)
        restart_look();
    return 0;
}

/* ----- the builder ----- */
const char *build_error_text(void) { return "there is no memory\n"; }
void builder_begin(struct boot_image *image, domid_t id, bool at_boot)
{
    assert_false(at_boot);
    assert_null(building); /* one at a time */
    building = image;
    building_number = id;
    build_left = build_steps;
}
static struct domain *make_domain(domid_t id)
{
    struct domain *d = &doms[id];

    memset(d, 0, sizeof(*d));
    memset(vcpus[id], 0, sizeof(vcpus[id]));
    d->id = id;
    d->vcpu_count = 2;
    d->refs = 1;
    d->building = true;
    for (unsigned i = 0; i < 2; i++)
        d->vcpus[i] = &vcpus[id][i];
    left[id] = (struct work){20, 0};
    return d;
}
int builder_step(struct domain **d)
{
    assert_non_null(building);
    assert_true(spin_is_locked(&domain_work_lock));
    if (build_left == build_steps && !(build_result && fail_early))
        *d = make_domain((domid_t)building_number);
    if (build_left) {
        build_left--;
        return -ERESTART;
    }
    building = NULL;
    return -(int)build_result;
}
void builder_start(struct domain *d, const struct boot_domain *what)
{
    d->building = false;
    d->from_modules = d->started = true;
}

/* ----- the machine ----- */
static void begin(unsigned count)
{
    static const char *const names[] = {"one", "two", "three"};

    memset(freed, 0, sizeof(freed));
    next_number = 1;
    build_steps = 30;
    build_result = fail_early = ended = slices = 0;
    building = NULL;
    domain0 = &privileged;
    cpu.current_vcpu = &idle_vcpu;
    idle_vcpu.is_idle = true;
    cpu.softirq_pending = 0;
    fake_log_clear();
    record_count = 0;
    builder_of = NULL;
    for (unsigned i = 0; i < count; i++) {
        whats[i] = (struct boot_domain){
            .on_poweroff = BOOT_DESTROY, .on_reboot = BOOT_RESTART, .on_crash = BOOT_DESTROY, .restarts = 5};
        strlcpy(whats[i].name, names[i], sizeof(whats[i].name));
        images[i] = (struct boot_image){.what = &whats[i], .keep = true};
        struct domain *d = make_domain(domain_new_id());

        restart_add(&images[i], d);
        builder_start(d, &whats[i]);
    }
}

static void shut_down(unsigned id, int reason)
{
    doms[id].shutdown_reason = reason;
    doms[id].shut_down = true;
    restart_look();
}

/* The timer fires as long as it is armed. */
static void run(void)
{
    while (the_timer->armed) {
        if (the_timer->expires == NS_NEVER)
            break;
        clock_now = max(clock_now, the_timer->expires);
        the_timer->armed = false;
        cpu.softirq_pending = 0;
        the_timer->handler(the_timer->arg);
        assert_int_equal(cpu.softirq_pending, 1U << SOFTIRQ_RESTART);
        cpu.softirq_pending = 0;
        slices++;
        assert_true(slices < 100000);
        ns_t before = clock_now;

        slice();
        assert_true(clock_now - before < MILLISECS(1)); /* by this clock a step takes 100 ns or two */
        assert_int_equal(spin_is_locked(&domain_work_lock), 0);
    }
}
static void run_to_the_end(void)
{
    if (!setjmp(fake_failed))
        run();
    domain_work_lock.locked = 0;
}

#define SAYS(text) assert_non_null(strstr(fake_log, text))

static void reboot(void **state)
{
    begin(1);
    clock_now += SECONDS(100);
    shut_down(1, SHUTDOWN_reboot);
    run();
    assert_int_equal(doms[1].refs, 0);
    assert_true(doms[1].put_with_last_frame);
    assert_true(doms[2].started && !doms[2].building && doms[2].refs == 1 && !doms[2].dying);
    SAYS("domain one ended after 100 s and is started anew\n");
    assert_int_equal(freed[0], 0);
    assert_false(the_timer->armed); /* nothing to do: no time is spent */
    shut_down(2, SHUTDOWN_poweroff);
    run();
    assert_int_equal(doms[2].refs, 0);
    assert_int_equal(next_number, 3);
    assert_int_equal(freed[0], 1);
    SAYS("domain one is gone\n");
}

static void each_word(void **state)
{
    static const struct {
        int reason;
        enum boot_action *word;
    } cases[] = {{SHUTDOWN_poweroff, &whats[0].on_poweroff},
                 {SHUTDOWN_reboot, &whats[0].on_reboot},
                 {SHUTDOWN_soft_reset, &whats[0].on_reboot},
                 {SHUTDOWN_crash, &whats[0].on_crash},
                 {SHUTDOWN_watchdog, &whats[0].on_crash}};

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++)
        for (enum boot_action action = BOOT_DESTROY; action <= BOOT_PRESERVE; action++) {
            begin(1);
            whats[0].on_poweroff = whats[0].on_reboot = whats[0].on_crash =
                action == BOOT_RESTART ? BOOT_DESTROY : BOOT_RESTART;
            *cases[i].word = action;
            shut_down(1, cases[i].reason);
            run();
            assert_int_equal(doms[1].refs, action == BOOT_PRESERVE);
            assert_int_equal(doms[1].dying, action != BOOT_PRESERVE);
            assert_int_equal(next_number, action == BOOT_RESTART ? 3 : 2);
            assert_int_equal(freed[0], action == BOOT_DESTROY);
        }
    begin(1); /* who suspends itself may be waited for */
    shut_down(1, SHUTDOWN_suspend);
    run();
    assert_int_equal(doms[1].refs, 1);
    SAYS("domain one stays as it is\n");
}

static void loop(void **state)
{
    begin(1);
    whats[0].on_crash = BOOT_RESTART;
    for (unsigned i = 1; i <= 6; i++) {
        shut_down(i, SHUTDOWN_crash);
        run();
    }
    assert_int_equal(next_number, 7);
    assert_int_equal(freed[0], 1);
    SAYS("domain one ended less than a minute after its start and is started anew (1 of 5 times in a row)\n");
    SAYS("(5 of 5 times in a row)\n");
    SAYS(
        "domain one ended less than a minute after its start, 6 times in a row: it is not started anew (restarts=5)\n");
    /* One that lasts begins a new row. */
    begin(1);
    for (unsigned i = 1; i <= 60; i++) {
        clock_now += SECONDS(i % 6 ? 1 : 61);
        shut_down(i, SHUTDOWN_reboot);
        run();
    }
    assert_int_equal(next_number, 62);
    begin(1);
    whats[0].restarts = 0;
    shut_down(1, SHUTDOWN_reboot);
    run();
    assert_int_equal(next_number, 2);
    begin(1);
    whats[0].restarts = BOOT_RESTARTS_UNLIMITED;
    for (unsigned i = 1; i <= 300; i++) {
        shut_down(i, SHUTDOWN_reboot);
        run();
    }
    assert_int_equal(next_number, 302);
    assert_null(strstr(fake_log, "times in a row"));
}

/* A vcpu that has not left its CPU yet, and a console that has something to say, are waited for; not for ever for the latter. */
static void waits(void **state)
{
    begin(1);
    vcpus[1][1].sched.running = true;
    left[1].drain = 50;
    shut_down(1, SHUTDOWN_reboot);
    for (unsigned i = 0; i < 5; i++) {
        the_timer->armed = false;
        clock_now = the_timer->expires;
        slice();
        assert_true(the_timer->armed && the_timer->expires > clock_now);
    }
    assert_true(doms[1].dying);
    assert_int_equal(left[1].drain, 50);
    vcpus[1][1].sched.running = false;
    run();
    assert_int_equal(left[1].drain, 0);
    assert_true(doms[2].started);
}

static void console_without_end(void **state)
{
    ns_t before;

    begin(1);
    before = clock_now;
    left[1].drain = 1000000;
    console_cut = true;
    shut_down(1, SHUTDOWN_reboot);
    run();
    console_cut = false;
    assert_true(doms[2].started);
    assert_true(clock_now - before > MILLISECS(999) && clock_now - before < MILLISECS(1200));
}

static void no_memory(void **state)
{
    for (fail_early = 0; fail_early < 2; fail_early++) {
        unsigned early = fail_early;

        begin(1);
        fail_early = early;
        clock_now += SECONDS(100);
        build_result = ENOMEM;
        ns_t before = clock_now;

        shut_down(1, SHUTDOWN_reboot);
        run();
        SAYS("domain one cannot be built: there is no memory\n");
        SAYS("domain one could not be built and is started anew (1 of 5 times in a row)\n");
        SAYS("domain one could not be built, 6 times in a row: it is not started anew (restarts=5)\n");
        assert_true(clock_now - before > SECONDS(5) && clock_now - before < SECONDS(7));
        assert_int_equal(next_number, 2 + 6);
        for (unsigned id = 1; id < next_number; id++)
            assert_int_equal(doms[id].refs, 0);
        if (!early)
            for (unsigned id = 1; id < next_number; id++)
                assert_true(doms[id].put_with_last_frame);
        assert_int_equal(freed[0], 1);
        /* It comes back in time. */
        memset(doms, 0, sizeof(doms));
        begin(1);
        fail_early = early;
        build_result = ENOMEM;
        shut_down(1, SHUTDOWN_reboot);
        while (next_number < 4) {
            the_timer->armed = false;
            clock_now = the_timer->expires;
            slice();
        }
        build_result = 0;
        run();
        assert_true(doms[next_number - 1].started);
        assert_int_equal(freed[0], 0);
        memset(doms, 0, sizeof(doms));
        fail_early = early;
    }
}

/* Several at once: one is built after the other, and those that run are left alone. */
static void several(void **state)
{
    begin(3);
    shut_down(1, SHUTDOWN_reboot);
    shut_down(3, SHUTDOWN_reboot);
    run();
    assert_true(doms[4].started && doms[5].started);
    assert_true(doms[2].refs == 1 && !doms[2].dying);
    shut_down(2, SHUTDOWN_crash);
    run();
    assert_int_equal(freed[1], 1);
    assert_int_equal(freed[0] + freed[2], 0);
}

static void the_last_ends(void **state)
{
    begin(3);
    domain0 = NULL;
    whats[2].on_poweroff = BOOT_PRESERVE;
    shut_down(3, SHUTDOWN_poweroff);
    run_to_the_end();
    shut_down(1, SHUTDOWN_crash);
    run_to_the_end();
    shut_down(2, SHUTDOWN_reboot);
    run_to_the_end();
    assert_int_equal(ended, 0);
    assert_true(doms[4].started);
    shut_down(4, SHUTDOWN_poweroff);
    run_to_the_end();
    assert_int_equal(ended, 1);
    assert_int_equal(doms[4].refs, 0);
    begin(1);
    domain0 = NULL;
    whats[0].on_crash = BOOT_PRESERVE;
    left[1].drain = 50;
    shut_down(1, SHUTDOWN_crash);
    run_to_the_end();
    assert_int_equal(ended, 1);
    assert_int_equal(left[1].drain, 0); /* its last words come first */
}

/* The tools destroy what they like. */
static void tools(void **state)
{
    begin(2);
    doms[1].dying = true; /* they have begun */
    restart_look();
    run();
    assert_int_equal(doms[1].refs, 1);
    shut_down(1, SHUTDOWN_reboot); /* too late */
    run();
    assert_int_equal(next_number, 3);
    doms[1].put_with_last_frame = true;
    restart_look();
    run();
    assert_int_equal(doms[1].refs, 0);
    assert_int_equal(freed[0], 1);
    /* What is preserved is theirs, too. */
    whats[1].on_crash = BOOT_PRESERVE;
    shut_down(2, SHUTDOWN_crash);
    run();
    assert_int_equal(doms[2].refs, 1);
    doms[2].dying = doms[2].put_with_last_frame = true;
    restart_look();
    run();
    assert_int_equal(doms[2].refs, 0);
    assert_int_equal(freed[1], 1);
}

/* Slices are short, and further apart if the CPU has something else to do; the audit has the lock for long. */
static void slices_and_the_lock(void **state)
{
    ns_t before;

    begin(1);
    build_steps = 100000;
    left[1].teardown = 100000;
    cpu.current_vcpu = &vcpus[1][0];
    vcpus[1][0].domain = &doms[1];
    whats[0].cpus.bits[0] = 6;
    before = clock_now;
    shut_down(1, SHUTDOWN_reboot);
    domain_work_lock.locked = 1;
    for (unsigned i = 0; i < 10; i++) {
        the_timer->armed = false;
        clock_now = the_timer->expires;
        slice();
        assert_false(doms[1].dying);
        assert_true(the_timer->armed);
    }
    domain_work_lock.locked = 0;
    slices = 0;
    run();
    assert_true(doms[2].started);
    assert_int_equal(the_timer->cpu, 1);
    assert_true(slices > 40);
    assert_true(clock_now - before > slices * MILLISECS(1));
    /* Something more urgent on this CPU ends a slice: each does a step at least. */
    cpu.current_vcpu = &idle_vcpu;
    build_steps = 5;
    shut_down(2, SHUTDOWN_reboot);
    for (unsigned i = 0; !doms[3].started; i++) {
        assert_true(i < 60);
        cpu.softirq_pending = 1;
        the_timer->armed = false;
        slice();
    }
}

#define TEST(f) cmocka_unit_test(f)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reboot),    TEST(each_word), TEST(loop),          TEST(waits), TEST(console_without_end),
        TEST(no_memory), TEST(several),   TEST(the_last_ends), TEST(tools), TEST(slices_and_the_lock),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
