/* Domains without tools that end, and are started anew: see domain/restart.h. */
#include "domain/restart.h"

#include "cpu/softirq.h"
#include "domain/builder.h"
#include "domain/domain.h"
#include "domain/guest_console.h"
#include "platform/power.h"
#include "sched/time.h"

#define TOO_SOON_S 60U           /* who ends so soon after its start is in a loop, if it does it again and again */
#define SLICE MICROSECS(500)     /* of work, then */
#define PAUSE MILLISECS(1)       /* others run, if there are any */
#define RETRY SECONDS(1)         /* after a failure to build: memory may be on its way back */
#define CONSOLE_LIMIT SECONDS(1) /* what its ring holds takes a sixth of that; who else fills it is not waited for */
#define AT_ONCE 0                /* a time to go on */

static struct record {
    enum { RUNS, STAYS, ENDS, WAITS, IS_BUILT, OVER } state;
    struct boot_image *image;
    struct domain *domain;
    ns_t started;
    ns_t not_before;  /* WAITS: when to build */
    ns_t console_end; /* for how long its console is waited for; 0: not yet */
    uint32_t soon;    /* starts in a row that came to nothing, or to an end within TOO_SOON_S */
    bool again;       /* ENDS: build it anew */
} records[BOOT_MAX_MODULES];
static unsigned record_count;
static const struct record *builder_of; /* the one in IS_BUILT, or null */
static struct timer slice_timer;        /* the next one begins; on its CPU */
static volatile bool looked_for;        /* restart_look was called since the last slice began */

static const char *name_of(const struct record *r) { return r->image->what->name; }

/* ----- the end ----- */

static void end_if_last(void)
{
    for (unsigned i = 0; i < record_count; i++)
        if (records[i].state != OVER && records[i].state != STAYS)
            return;
    if (!domain0)
        machine_all_ended();
}

static ns_t is_over(struct record *r)
{
    r->state = OVER;
    if (r->image->keep)
        boot_image_free(r->image);
    log_info("domain %s is gone\n", name_of(r));
    end_if_last();
    return NS_NEVER;
}

/* It has no domain any more. */
static ns_t is_without(struct record *r)
{
    r->domain = NULL;
    if (!r->again)
        return is_over(r);
    r->state = WAITS;
    return r->not_before;
}

/* Its vcpus will not run any more, but one may be on its way from a CPU. */
static bool at_rest(const struct domain *d)
{
    const struct vcpu *v;

    for_each_vcpu (d, v)
        if (v->sched.running)
            return false;
    return true;
}

static ns_t drop_domain(struct record *r)
{
    domain_put(r->domain);
    return is_without(r);
}

/* All that it wrote has come out, or as much as is waited for. */
static bool console_is_done(struct record *r)
{
    if (!r->console_end)
        r->console_end = now() + CONSOLE_LIMIT;
    return guest_console_drained(r->domain) || now() >= r->console_end;
}

static ns_t take_down(struct record *r)
{
    if (!at_rest(r->domain) || !console_is_done(r))
        return now() + PAUSE;
    return domain_destroy(r->domain) == -ERESTART ? AT_ONCE : drop_domain(r);
}

static ns_t preserve(struct record *r)
{
    if (!console_is_done(r)) /* with the last one the machine ends */
        return now() + PAUSE;
    r->state = STAYS;
    log_info("domain %s stays as it is\n", name_of(r));
    end_if_last();
    return NS_NEVER;
}

/* ----- policy ----- */

static enum boot_action action_of(const struct boot_domain *what, int reason)
{
    switch (reason) {
    case SHUTDOWN_poweroff:
        return what->on_poweroff;
    case SHUTDOWN_reboot:
    case SHUTDOWN_soft_reset:
        return what->on_reboot;
    case SHUTDOWN_suspend: /* somebody may want to save it */
        return BOOT_PRESERVE;
    default:
        return what->on_crash;
    }
}

/* One more start came to nothing. May there be another? 'how' is what the log says of it. */
static bool may_try_again(struct record *r, const char *how)
{
    uint32_t limit = r->image->what->restarts;
    bool again = ++r->soon <= limit;

    if (!again)
        log_error("domain %s %s, %u times in a row: it is not started anew (restarts=%u)\n", name_of(r), how, r->soon,
                  limit);
    else if (limit == BOOT_RESTARTS_UNLIMITED)
        log_info("domain %s %s and is started anew\n", name_of(r), how);
    else
        log_info("domain %s %s and is started anew (%u of %u times in a row)\n", name_of(r), how, r->soon, limit);
    return again;
}

static bool may_restart(struct record *r)
{
    ns_t lasted = now() - r->started;

    if (lasted < SECONDS(TOO_SOON_S))
        return may_try_again(r, "ended less than a minute after its start");
    r->soon = 0;
    log_info("domain %s ended after %lu s and is started anew\n", name_of(r), lasted / SECONDS(1));
    return true;
}
_Static_assert(TOO_SOON_S == 60, "what the log says");

/* It has ended for a reason that 'what' has an action for. Unless that is to leave it alone nobody resumes it from here on. */
static bool has_ended(struct domain *d, const struct boot_domain *what, enum boot_action *action)
{
    bool ended;

    spin_lock(&d->lock);
    ended = d->shut_down && !d->dying;
    if (ended) {
        *action = action_of(what, d->shutdown_reason);
        d->dying = *action != BOOT_PRESERVE;
    }
    spin_unlock(&d->lock);
    return ended;
}

static void begin_end(struct record *r, bool again, ns_t not_before)
{
    r->state = ENDS;
    r->again = again;
    r->not_before = not_before;
}

/* The work is done where the domain may run: others may have the other CPUs for themselves. */
static void go_where_it_runs(const struct record *r)
{
    cpumask_t cpus = r->image->what->cpus;
    unsigned cpu;

    cpus.bits[0] &= cpu_online.bits[0];
    cpu = cpumask_next(0, &cpus);
    if (cpu < NR_CPUS)
        timer_migrate(&slice_timer, cpu);
}

static ns_t look_after(struct record *r)
{
    struct domain *d = r->domain;
    enum boot_action action;

    if (READ_ONCE(d->put_with_last_frame)) { /* the tools have destroyed it */
        r->again = false;
        return drop_domain(r);
    }
    if (r->state == STAYS || !has_ended(d, r->image->what, &action))
        return NS_NEVER;
    if (action == BOOT_PRESERVE)
        return preserve(r);
    go_where_it_runs(r);
    begin_end(r, action == BOOT_RESTART && may_restart(r), AT_ONCE);
    return AT_ONCE;
}

/* ----- the next start ----- */

static ns_t begin_to_build(struct record *r)
{
    if (now() < r->not_before)
        return r->not_before;
    if (builder_of)
        return now() + PAUSE;
    builder_of = r;
    r->console_end = 0;
    builder_begin(r->image, domain_new_id(), false);
    r->state = IS_BUILT;
    return AT_ONCE;
}

static ns_t build_failed(struct record *r)
{
    log_error("domain %s cannot be built: %s", name_of(r), build_error_text());
    begin_end(r, may_try_again(r, "could not be built"), now() + RETRY);
    if (!r->domain)
        return is_without(r);
    r->domain->dying = true;
    return AT_ONCE;
}

static ns_t build(struct record *r)
{
    int rc = builder_step(&r->domain);

    if (rc == -ERESTART)
        return AT_ONCE;
    builder_of = NULL;
    if (rc)
        return build_failed(r);
    r->state = RUNS;
    r->started = now();
    builder_start(r->domain, r->image->what);
    return NS_NEVER;
}

/* ----- slices ----- */

/* When to go on with it */
static ns_t step(struct record *r)
{
    switch (r->state) {
    case RUNS:
    case STAYS:
        return look_after(r);
    case ENDS:
        return take_down(r);
    case WAITS:
        return begin_to_build(r);
    case IS_BUILT:
        return build(r);
    case OVER:
        break;
    }
    return NS_NEVER;
}

static ns_t work(void)
{
    ns_t until = now() + SLICE, next = NS_NEVER;

    for (unsigned i = 0; i < record_count; i++) {
        ns_t at;

        do
            at = step(&records[i]);
        while (at == AT_ONCE && now() < until && !this_cpu()->softirq_pending);
        next = min(next, at);
    }
    return next;
}

static void run_slice(void)
{
    ns_t next;

    if (!spin_trylock(&domain_work_lock)) {
        timer_set(&slice_timer, now() + PAUSE);
        return;
    }
    looked_for = false;
    smp_mb(); /* what happens after this look is seen by the next */
    next = work();
    spin_unlock(&domain_work_lock);
    if (next != NS_NEVER)
        timer_set(&slice_timer, next != AT_ONCE ? next : now() + (current->is_idle ? 0 : PAUSE));
    smp_mb();
    if (looked_for) /* that may have put off what restart_look had set */
        timer_set(&slice_timer, now());
}

static void begin_slice(void *arg) { softirq_raise(SOFTIRQ_RESTART); }

void restart_look(void)
{
    looked_for = true;
    smp_mb();
    timer_set(&slice_timer, now());
}

void __init restart_add(struct boot_image *image, struct domain *d)
{
    struct record *r = &records[record_count];

    if (!record_count) {
        timer_init(&slice_timer, begin_slice, NULL, 0);
        softirq_register(SOFTIRQ_RESTART, run_slice);
    }
    *r = (struct record){.state = RUNS, .image = image, .domain = d, .started = now()};
    record_count++;
}
