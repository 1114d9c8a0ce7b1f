/*
 * Floods: all vcpus at once do what keeps Croft itself busy, each for a while. The victim beside must have its share of the CPUs all
 * the same (kit/beside.c).
 */
#include "hostile.h"

#define NS_EACH 150000000UL

static void (*flood)(unsigned v);
static unsigned long counts[TEAM];
static uint64_t until;
static long ipis[TEAM];
static void *roots[TEAM];

static void all_at_once(unsigned v)
{
    counts[v] = 0;
    while (time_now() < until) {
        flood(v);
        counts[v]++;
    }
}

static void refused(unsigned v) { mmu_write_machine((random(v) & PTE_MFN_MASK) | 2, 0); }

static void console(unsigned v)
{
    static char text[] = "flood\n";

    (void)v;
    if (kit_is_child()) /* domain 0's are its own affair, and fill the log of this test */
        console_io(CONSOLEIO_write, sizeof(text) - 1, text);
}

static void events(unsigned v) { event_send((unsigned)ipis[(v + 1) % TEAM]); }
static void timers(unsigned v) { set_timer_op(time_now() + below(v, 2000)); }

static void periodic(unsigned v)
{
    struct vcpu_set_periodic_timer t = {.period_ns = 1000000};

    vcpu_op(VCPUOP_set_periodic_timer, v, &t);
    vcpu_op(VCPUOP_stop_periodic_timer, v, NULL);
}

static void yields(unsigned v)
{
    (void)v;
    sched_op(SCHEDOP_yield, NULL);
}

static void naps(unsigned v)
{
    struct sched_poll poll = {.timeout = time_now() + below(v, 2000)};

    sched_op(SCHEDOP_poll, &poll);
}

static void flushes(unsigned v)
{
    (void)v;
    mmuext(MMUEXT_TLB_FLUSH_ALL, 0, 0);
}

static void load(void *p) { *(volatile uint64_t *)p; }

static void faults(unsigned v)
{
    (void)v;
    trapped(load, (void *)VA_UNMAPPED, NULL);
}

static void cpuids(unsigned v)
{
    (void)v;
    cpuid_forced(1, 0);
}

static void pins(unsigned v)
{
    mmuext(MMUEXT_PIN_L4_TABLE, virt_to_mfn(roots[v]), 0);
    mmuext(MMUEXT_UNPIN_TABLE, virt_to_mfn(roots[v]), 0);
}

static void up_and_down(unsigned v)
{
    vcpu_op(VCPUOP_up, v == 1 ? 2 : 1, NULL);
    vcpu_op(VCPUOP_is_up, v, NULL);
}

void floods(void)
{
    static const struct {
        const char *what;
        void (*f)(unsigned v);
    } all[] = {{"refused calls, each with a line for the log", refused},
               {"writes to the console", console},
               {"events to each other", events},
               {"timers that are due", timers},
               {"periodic timers", periodic},
               {"yields", yields},
               {"short sleeps", naps},
               {"flushes of all TLBs", flushes},
               {"page faults", faults},
               {"emulated instructions", cpuids},
               {"pins of roots", pins},
               {"vcpus that are up", up_and_down}};

    for (unsigned v = 0; v < TEAM; v++) {
        ipis[v] = bind_ipi(v);
        check_quiet(ipis[v] > 0, "an IPI's port for vcpu %u: %ld", v, ipis[v]);
        roots[v] = table_alloc();
    }
    for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        unsigned long sum = 0;

        flood = all[i].f;
        until = time_now() + NS_EACH;
        team_run(all_at_once);
        for (unsigned v = 0; v < TEAM; v++)
            sum += counts[v];
        set_timer_op(0);
        check(sum > TEAM, "%s: %lu", all[i].what, sum);
    }
}
