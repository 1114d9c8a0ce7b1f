/* run: icount=1 time=60 */
/*
 * The watchdogs that a domain sets for itself, as Debian's xenwatchdogd does: as long as it looks after them it lives; once
 * one has expired the domain is shut down, for this reason.
 */
#include "child.h"

#define MS 1000000UL

static struct child c;

static long watchdog(uint32_t id, uint32_t seconds)
{
    struct sched_watchdog w = {.id = id, .timeout = seconds};

    return sched_op(SCHEDOP_watchdog, &w);
}

static void sleep_until(uint64_t t)
{
    struct sched_poll nap = {.timeout = t};

    while (time_now() < t)
        sched_op(SCHEDOP_poll, &nap);
}

/* Two at a time, numbered; each is the domain's until it takes it back. */
static long two_of_them(long *a)
{
    (void)a;
    check_equal(watchdog(1, 2), -EINVAL);
    check_equal(watchdog(0, 2), 1);
    check_equal(watchdog(0, 2), 2);
    check_equal(watchdog(0, 2), -ENOSPC);
    check_equal(watchdog(3, 2), -EINVAL);
    check_equal(watchdog(0, 0), -EINVAL);
    check_equal(watchdog(1, 0), 0);
    check_equal(watchdog(1, 2), -EINVAL);
    check_equal(watchdog(0, 2), 1);
    check_equal(watchdog(1, 0), 0);
    check_equal(watchdog(2, 0), 0);
    sleep_until(time_now() + 2500 * MS);
    return 0; /* both were taken back: it is here to say so */
}

/* Looks after a watchdog of a second every 0.6 seconds, a[0] times; the last time is at a[1]. */
static long look_after(long *a)
{
    long id = watchdog(0, 1);

    a[1] = (long)time_now();
    check(id == 1, "a watchdog: %ld", id);
    for (long i = 0; i < a[0]; i++) {
        sleep_until(time_now() + 600 * MS);
        check_equal(watchdog((uint32_t)id, 1), 0);
        a[1] = (long)time_now();
    }
    return 0;
}

static void expires(long times)
{
    uint64_t start, last;
    long flags;

    child_start(&c);
    log_mark();
    start = time_now();
    check_equal(child_call(&c, look_after, times), 0);
    last = (uint64_t)c.talk->a[1];
    check(last - start >= (uint64_t)times * 600 * MS, "looked after for %lu ms", (last - start) / MS);
    sleep_until(last + 990 * MS);
    flags = domain_flags(c.domid);
    check((flags & (XEN_DOMINF_shutdown | XEN_DOMINF_dying)) == 0, "990 ms later it lives: flags %lx",
          (unsigned long)flags);
    sleep_until(last + 1010 * MS);
    flags = domain_flags(c.domid);
    check((flags & XEN_DOMINF_shutdown) != 0 &&
              (flags >> XEN_DOMINF_shutdownshift & XEN_DOMINF_shutdownmask) == SHUTDOWN_watchdog,
          "1010 ms later its watchdog has shut it down: flags %lx", (unsigned long)flags);
    check(log_has("its watchdog was not looked after in time"), "the log says so");
    child_end(&c);
}

GUEST("watchdog")
{
    child_start(&c);
    check_equal(child_call(&c, two_of_them, 0), 0);
    child_end(&c);
    expires(5);
    expires(0);
}
