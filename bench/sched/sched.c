/*
 * The scheduler's measurements: domain 0 builds guests (loads.h), lets them run for a time and prints their figures, for
 * the scripts bench/sched-*. Words of the command line: scenario=NAME, and numbers (see each scenario): all know warm and ms,
 * how many milliseconds the guests run before they are measured, and then.
 *
 *   figures elapsed NS unit NS          how long it was measured; how long a unit of work takes by itself
 *   figures guest I NAME weight W cpu NS work UNITS wakes N       during that time
 *   figures late I latest NS missed N width NS, figures bucket B N     of a load_periodic: N wakes were late by B to B + 1 widths
 */
#include "loads.h"

#include "../../hypervisor/hypercall/croft_abi.h"

#define MILLISECOND 1000000UL

struct guest {
    struct child child;
    const char *name;
    unsigned weight;
    uint64_t cpu, work, wakes;
};
_Static_assert(sizeof(struct guest) <= PAGE_SIZE, "a page each");

static struct guest *guests[CHILDREN];
static unsigned count;
static uint64_t measured_from;

/* NAME=NUMBER on the command line */
static unsigned long number(const char *name, unsigned long otherwise)
{
    const char *line = (const char *)start_info->cmd_line, *s = line;
    unsigned long value = 0;

    while (*s != '\0' && !((s == line || s[-1] == ' ') && strprefix(s, name) && s[strlen(name)] == '='))
        s++;
    if (*s == '\0')
        return otherwise;
    for (s += strlen(name) + 1; *s >= '0' && *s <= '9'; s++)
        value = value * 10 + (unsigned long)(*s - '0');
    return value;
}

static uint64_t measured_time(void) { return number("ms", 1000) * MILLISECOND; }

static void sleep_for(uint64_t ns)
{
    struct sched_poll nap = {.timeout = time_now() + ns};

    while (time_now() < nap.timeout)
        sched_op(SCHEDOP_poll, &nap);
}

/* ---- Guests ---- */

static void set_weight(unsigned domid, unsigned weight)
{
    struct xen_domctl_scheduler_op *op = &domctl_op.u.scheduler_op;
    long rc;

    memset(&domctl_op, 0, sizeof(domctl_op));
    op->sched_id = XEN_SCHEDULER_CREDIT2;
    op->cmd = XEN_DOMCTL_SCHEDOP_putinfo;
    op->u.credit2.weight = (uint16_t)weight;
    rc = domctl(XEN_DOMCTL_scheduler_op, domid);
    if (rc != 0)
        panic("the weight of d%u: %ld", domid, rc);
}

/* Built, with its order given, but paused: it begins when all are there. */
static struct guest *add_paused(const char *name, unsigned weight, unsigned long more_pages, child_function_t *f,
                                const long *args)
{
    struct guest *g = guests[count++] = page_alloc();
    struct child *c = &g->child;

    child_create(c, 1);
    domctl_op.u.max_mem.max_memkb = (c->pages + CHILD_SPARE_PAGES + more_pages) * 4;
    if (domctl(XEN_DOMCTL_max_mem, c->domid) != 0)
        panic("max_mem of d%u", c->domid);
    child_populate(c);
    child_fill(c);
    child_set_context(c);
    child_connect(c);
    g->name = name;
    g->weight = weight;
    set_weight(c->domid, weight);
    child_order(c, f, args);
    return g;
}
#define add(name, weight, f, ...) add_paused(name, weight, 0, f, (const long[CHILD_ARGS]){__VA_ARGS__})

static void read_guest(const struct guest *g, uint64_t *cpu, uint64_t *work, uint64_t *wakes)
{
    if (domain_flags(g->child.domid) < 0)
        panic("d%u is gone", g->child.domid);
    *cpu = domctl_op.u.getdomaininfo.cpu_time;
    *work = figures_of(g->child.talk)->work;
    *wakes = figures_of(g->child.talk)->wakes;
}

static void begin(void)
{
    for (unsigned i = 0; i < count; i++)
        child_unpause(&guests[i]->child);
    sleep_for(number("warm", 1000) * MILLISECOND);
    for (unsigned i = 0; i < count; i++) {
        struct figures *f = figures_of(guests[i]->child.talk);

        read_guest(guests[i], &guests[i]->cpu, &guests[i]->work, &guests[i]->wakes);
        memset((void *)f->late, 0, sizeof(f->late));
        f->latest = f->missed = 0;
    }
    measured_from = time_now();
}

/* How long a unit of work takes when nothing else runs */
static uint64_t unit_ns(void)
{
    uint64_t start;

    work_unit();
    start = time_now();
    for (unsigned i = 0; i < 100; i++)
        work_unit();
    return (time_now() - start) / 100;
}

static void print_late(unsigned i, uint64_t width)
{
    const struct figures *f = figures_of(guests[i]->child.talk);

    printf("figures late %u latest %lu missed %lu width %lu\n", i, f->latest, f->missed, width);
    for (unsigned b = 0; b < BUCKETS; b++)
        if (f->late[b] != 0)
            printf("figures bucket %u %u\n", b, f->late[b]);
}

static void end(uint64_t unit)
{
    uint64_t elapsed = time_now() - measured_from;

    for (unsigned i = 0; i < count; i++) {
        struct guest *g = guests[i];
        uint64_t cpu, work, wakes;

        read_guest(g, &cpu, &work, &wakes);
        g->cpu = cpu - g->cpu;
        g->work = work - g->work;
        g->wakes = wakes - g->wakes;
    }
    for (unsigned i = 0; i < count; i++)
        domctl(XEN_DOMCTL_pausedomain, guests[i]->child.domid);
    printf("figures elapsed %lu unit %lu\n", elapsed, unit);
    for (unsigned i = 0; i < count; i++)
        printf("figures guest %u %s weight %u cpu %lu work %lu wakes %lu\n", i, guests[i]->name, guests[i]->weight,
               guests[i]->cpu, guests[i]->work, guests[i]->wakes);
}

static void run(void)
{
    uint64_t unit = unit_ns();

    begin();
    sleep_for(measured_time());
    end(unit);
}

static void set_warp(unsigned domid, uint64_t warp, uint64_t limit, uint64_t unwarp)
{
    struct croft_sched op = {
        .domid = (domid_t)domid, .flags = CROFT_SCHED_SET_WARP, .warp = warp, .limit = limit, .unwarp = unwarp};
    long rc = hypercall(__HYPERVISOR_croft_op, CROFT_OP_sched_set, U(&op), 0, 0, 0);

    if (rc != 0)
        panic("the warp of d%u: %ld", domid, rc);
}

/* ---- Scenarios ---- */

/* n: busy guests, of weights 1, 2, 4, 8, 1, ... times 128 */
static void shares(void)
{
    for (unsigned i = 0; i < number("n", 4); i++)
        add("busy", 128U << i % 4, load_busy, 0);
    run();
}

/* n: busy guests, and one that works 'units' units and sleeps 'nap' us, of equal weight */
static void nap(void)
{
    for (unsigned i = 0; i < number("n", 3); i++)
        add("busy", 256, load_busy, 0);
    add("napper", 256, load_napper, (long)number("units", 20), (long)number("nap", 1000) * 1000);
    run();
}

/* n: busy guests, and one that wakes 100 times a second and works 'units' units; warp: 1 to give it one */
static void latency(void)
{
    struct guest *g = add("periodic", 256, load_periodic, 10 * MILLISECOND, (long)number("units", 1), 25000);

    for (unsigned i = 0; i < number("n", 16); i++)
        add("busy", 256, load_busy, 0);
    if (number("warp", 0) != 0)
        set_warp(g->child.domid, 20 * MILLISECOND, 2 * MILLISECOND, 5 * MILLISECOND);
    run();
    print_late(0, 25000);
}

/* A busy guest beside four hostile ones */
static void isolation(void)
{
    add("victim", 256, load_busy, 0);
    add("busy", 256, load_busy, 0);
    add("events", 256, load_event_storm, 0);
    add("timers", 256, load_timer_storm, 20000);
    add("yields", 256, load_yield_storm, 0);
    run();
}

/* Two guests that yield to each other; first one alone, to learn how long a yield takes that switches nothing */
static void switches(void)
{
    uint64_t loop = tsc_read(), alone, elapsed, switched = 0, stayed = 0, stayed_ticks = 0;
    volatile uint64_t counted = 0;

    for (unsigned i = 0; i < 1000; i++) { /* the guests' loop, without the yield */
        uint64_t start = tsc_read();

        if (tsc_read() - start < 1000000)
            counted++;
    }
    loop = (tsc_read() - loop) / 1000;
    for (unsigned i = 0; i < 2; i++)
        add("yielder", 256, load_yielder, (long)(~0UL >> 1));
    child_unpause(&guests[0]->child);
    sleep_for(20 * MILLISECOND);
    alone = figures_of(guests[0]->child.talk)->stayed_ticks / figures_of(guests[0]->child.talk)->stayed;
    guests[0]->child.talk->a[0] = guests[1]->child.talk->a[0] = (long)(alone + alone / 2);
    child_unpause(&guests[1]->child);
    sleep_for(20 * MILLISECOND);
    for (unsigned i = 0; i < 2; i++) {
        const struct figures *f = figures_of(guests[i]->child.talk);

        switched -= f->switched;
        stayed -= f->stayed;
        stayed_ticks -= f->stayed_ticks;
    }
    elapsed = time_now();
    sleep_for(measured_time());
    elapsed = time_now() - elapsed;
    for (unsigned i = 0; i < 2; i++) {
        const struct figures *f = figures_of(guests[i]->child.talk);

        switched += f->switched;
        stayed += f->stayed;
        stayed_ticks += f->stayed_ticks;
    }
    printf("figures switch elapsed %lu switched %lu stayed %lu stayed_ns %lu loop %lu alone %lu\n", elapsed, switched,
           stayed, stayed_ticks, loop, alone);
}

/* The script's QEMU plugin counts the hypervisor's instructions from one to the next: bench/profile.c */
static __attribute__((noinline)) void mark(void) { barrier(); }

/* Frames of the grant tables of all */
static unsigned long grant_frames(void)
{
    unsigned long frames = 0;

    for (unsigned i = 0; i < count; i++) {
        struct gnttab_query_size q = {.dom = (domid_t)guests[i]->child.domid};

        if (grant_table_op(GNTTABOP_query_size, &q, 1) != 0 || q.status != GNTST_okay)
            panic("d%u has no grant table", guests[i]->child.domid);
        frames += q.nr_frames;
    }
    return frames;
}

static void print_memory(const char *when, unsigned long before)
{
    unsigned long used = before - free_pages(), own = 0;

    for (unsigned i = 0; i < count; i++) {
        if (domain_flags(guests[i]->child.domid) < 0)
            panic("d%u is gone", guests[i]->child.domid);
        own += domctl_op.u.getdomaininfo.tot_pages;
    }
    printf("figures memory %s used %lu own %lu grant %lu\n", when, used, own, grant_frames());
}

/* n: guests of 'pages' more pages each; 'units', 'nap': as of nap */
static void density(void)
{
    unsigned long n = number("n", 128), pages = number("pages", 768), before = free_pages();
    uint64_t unit = unit_ns(), late = 0, asked = 0;
    uint64_t answered[CHILDREN];

    for (unsigned i = 0; i < n; i++) {
        mark();
        add_paused("dense", 256, pages, load_dense,
                   (const long[CHILD_ARGS]){(long)pages, (long)number("units", 100), (long)number("nap", 1000) * 1000});
        mark();
    }
    print_memory("created", before);
    begin();
    for (; time_now() - measured_from < measured_time(); asked += n) {
        for (unsigned i = 0; i < n; i++) {
            answered[i] = figures_of(guests[i]->child.talk)->answered;
            event_send(guests[i]->child.port);
        }
        sleep_for(2000 * MILLISECOND);
        for (unsigned i = 0; i < n; i++)
            late += figures_of(guests[i]->child.talk)->answered == answered[i];
    }
    end(unit);
    print_memory("running", before);
    printf("figures answers asked %lu late %lu\n", asked, late);
}

static const struct {
    const char *word;
    void (*f)(void);
} scenarios[] = {
    {"scenario=shares", shares},       {"scenario=nap", nap},         {"scenario=latency", latency},
    {"scenario=isolation", isolation}, {"scenario=switch", switches}, {"scenario=density", density},
};

GUEST("sched")
{
    for (unsigned i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++)
        if (argument_present(scenarios[i].word)) {
            scenarios[i].f();
            check(true, "%s", scenarios[i].word);
            return;
        }
    panic("no such scenario");
}
