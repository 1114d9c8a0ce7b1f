/* run: smp=2 append="dom0_max_vcpus=2" time=120 args="seconds=5 seed=1" */
/*
 * A guest that makes random hypercalls and executes random instructions, on two vcpus, beside a victim that checks
 * itself. What the random guest does to itself is its own affair: when it has ended or stands still, it is destroyed
 * and built anew with the next seed. The victim must not notice; the audit must find nothing after each; and when both
 * are gone as many pages must be free as before.
 *
 * It is a copy of this image, or a PVH kernel if one came as the initrd (../pvh_random).
 *
 * On the command line: seconds=N seed=N, vcpus=1 (two never do quite the same again), and "lives" for a line about
 * each of them. The long form is make fuzz-guest.
 */
#include "hostile.h"
#include "victim.h"

#include "../../../hypervisor/hypercall/croft_abi.h"

#define NS_PER_S 1000000000UL
#define LIFE NS_PER_S        /* of one random guest */
#define STILL (NS_PER_S / 3) /* so long without a step: it has stopped itself */
#define RANDOM_DOMID 90
#define LIFE_STEPS 100000U /* more than one can make */

static struct child hostile;
static unsigned long lives, ends[SHUTDOWN_MAX + 1], still, destroyed;
static const void *pvh_image; /* null: its kind is PV */
static uint64_t tried[NUMBERS + KINDS], succeeded[NUMBERS + KINDS];
static uint64_t beside, victim_had; /* the victim's time on the CPU, of that beside a random guest */
static long frames;

/* Until it has ended, stands still, or is old enough */
static void watch(unsigned vcpus)
{
    uint64_t began = time_now(), moved[RANDOM_VCPUS] = {began, began};
    long steps[RANDOM_VCPUS] = {0};

    while (time_now() - began < LIFE && victim_lives()) {
        long flags = domain_flags(hostile.domid);

        short_nap();
        if (!check_quiet(flags >= 0, "the random guest is not there: %ld", flags))
            return;
        if (flags & XEN_DOMINF_shutdown) {
            ends[(flags >> XEN_DOMINF_shutdownshift & XEN_DOMINF_shutdownmask) % (SHUTDOWN_MAX + 1)]++;
            return;
        }
        for (unsigned v = 0; v < vcpus; v++) {
            long now = ((volatile long *)hostile.talk->a)[ARG_PROGRESS + v];

            if (now != steps[v])
                moved[v] = time_now();
            steps[v] = now;
            if (time_now() - moved[v] > STILL) {
                still++;
                return;
            }
        }
    }
    destroyed++;
}

/* The random guest may have written over them. */
static bool counts_make_sense(const struct random_counts *c)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < NUMBERS + KINDS; i++) {
        if (c->tried[i] > LIFE_STEPS || c->succeeded[i] > c->tried[i])
            return false;
        sum += c->tried[i];
    }
    return sum <= LIFE_STEPS;
}

static void count_steps(void)
{
    const struct random_counts *c = (const void *)hostile.talk->data;

    if (!counts_make_sense(c))
        return;
    for (unsigned i = 0; i < NUMBERS + KINDS; i++) {
        tried[i] += c->tried[i];
        succeeded[i] += c->succeeded[i];
    }
}

/* Its text: the registers, if it panicked */
static void tell(unsigned long seed, unsigned vcpus)
{
    static struct vcpu_guest_context context;

    hostile.talk->text[150] = '\0';
    printf("   seed %lu: steps %ld, %ld; last call %lx; %s\n", seed, hostile.talk->a[ARG_PROGRESS],
           hostile.talk->a[ARG_PROGRESS + 1], hostile.talk->a[ARG_LAST], hostile.talk->text);
    for (unsigned v = 0; v < vcpus; v++) {
        domctl_op.u.vcpucontext.vcpu = v;
        set_xen_guest_handle(domctl_op.u.vcpucontext.ctxt, &context);
        if (domctl(XEN_DOMCTL_getvcpucontext, hostile.domid) == 0)
            printf("   vcpu %u: rip %x:%lx, rsp %lx, flags %lx\n", v, context.user_regs.cs, context.user_regs.rip,
                   context.user_regs.rsp, context.user_regs.rflags);
    }
}

static void one_life(unsigned long seed, unsigned vcpus)
{
    unsigned failures = kit_failures();
    uint64_t began, had;

    hypercall(__HYPERVISOR_croft_op, CROFT_OP_set_next_domid, RANDOM_DOMID, 0, 0, 0);
    if (pvh_image != NULL)
        child_start_pvh(&hostile, vcpus, pvh_image);
    else
        child_start_with(&hostile, vcpus);
    check_quiet(hostile.domid == RANDOM_DOMID, "the last random guest's number is in use");
    child_begin(&hostile, random_here,
                (const long[CHILD_ARGS]){[ARG_SEED] = (long)seed,
                                         [ARG_VCPUS] = vcpus,
                                         [ARG_VICTIM] = victim.domid,
                                         [ARG_VICTIM_FRAME] = (long)victim.frames[0],
                                         [ARG_FRAMES] = frames});
    began = time_now();
    had = victim_time();
    watch(vcpus);
    beside += time_now() - began;
    victim_had += victim_time() - had;
    count_steps();
    lives++;
    if (argument_present("lives"))
        tell(seed, vcpus);
    child_end(&hostile);
    audit("after a random guest");
    if (kit_failures() != failures)
        printf("   that was seed %lu, %u vcpus\n", seed, vcpus);
}

static uint64_t steps_made(void)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < NUMBERS + KINDS; i++)
        sum += tried[i];
    return sum;
}

/* Random guests, one after the other, beside one victim. Returns the next seed. */
static unsigned long run(unsigned long seed, uint64_t ns, unsigned vcpus)
{
    uint64_t began = time_now();
    unsigned long first = seed;

    victim_start(RANDOM_DOMID);
    beside = victim_had = 0;
    do
        one_life(seed++, vcpus);
    while ((time_now() - began < ns || seed - first < 2 || (ns != 0 && steps_made() < 1000)) && kit_failures() == 0);
    if (beside > NS_PER_S)
        check(victim_had > beside / 4, "the victim had the CPU for %lu of %lu ms", victim_had / 1000000,
              beside / 1000000);
    victim_end();
    return seed;
}

static void report(void)
{
    static const char *const kinds[] = RANDOM_KIND_NAMES;

    for (unsigned i = 0; i < NUMBERS; i++)
        if (tried[i] != 0)
            printf("   call %u: %lu tried, %lu succeeded\n", i, tried[i], succeeded[i]);
    for (unsigned i = 0; i < KINDS; i++)
        if (tried[NUMBERS + i] != 0)
            printf("   %s: %lu tried, %lu succeeded\n", kinds[i], tried[NUMBERS + i], succeeded[NUMBERS + i]);
    printf("   %lu lives: %lu crashed, %lu powered off, %lu ended otherwise, %lu stood still, %lu were destroyed\n",
           lives, ends[SHUTDOWN_crash], ends[SHUTDOWN_poweroff],
           ends[SHUTDOWN_reboot] + ends[SHUTDOWN_suspend] + ends[SHUTDOWN_watchdog] + ends[SHUTDOWN_soft_reset], still,
           destroyed);
    printf("   %lu steps\n", steps_made());
}

static bool all_kinds(void)
{
    static const unsigned both[] = {__HYPERVISOR_memory_op, __HYPERVISOR_grant_table_op, __HYPERVISOR_event_channel_op,
                                    NUMBERS + KIND_TABLE_WRITES},
                          pv[] = {__HYPERVISOR_mmu_update, __HYPERVISOR_mmuext_op, __HYPERVISOR_update_va_mapping};
    bool ok = true;

    for (unsigned i = 0; i < sizeof(both) / sizeof(both[0]); i++)
        ok &= succeeded[both[i]] > 0;
    for (unsigned i = 0; pvh_image == NULL && i < sizeof(pv) / sizeof(pv[0]); i++)
        ok &= succeeded[pv[i]] > 0;
    for (unsigned i = KIND_PORTS; pvh_image != NULL && i < KINDS; i++)
        ok &= succeeded[NUMBERS + i] > 0;
    return ok;
}

GUEST("random")
{
    unsigned long seed = argument_number("seed=", 1), seconds = argument_number("seconds=", 5), before, after, next;
    unsigned vcpus = argument_number("vcpus=", 2) == 1 ? 1 : RANDOM_VCPUS;

    map_page(TEST_VA, 0);
    if (start_info->mod_len != 0)
        pvh_image = (const void *)start_info->mod_start;
    if (sysctl(XEN_SYSCTL_physinfo) == 0)
        frames = (long)sysctl_op.u.physinfo.total_pages;
    run(seed, 0, vcpus); /* what is used for the first time, and stays */
    lives = still = destroyed = 0;
    memset(ends, 0, sizeof(ends));
    memset(tried, 0, sizeof(tried));
    memset(succeeded, 0, sizeof(succeeded));
    before = free_pages();
    printf("random guests from seed %lu on, for %lu s, %u vcpus each\n", seed, seconds, vcpus);
    next = run(seed, seconds * NS_PER_S, vcpus);
    after = free_pages();
    printf("   the last seed was %lu\n", next - 1);
    report();
    check(before < after + 8 && after < before + 8, "%lu pages were free, %lu are", before, after);
    for (unsigned more = 0; before != after && more < 4; more++) { /* first uses come to an end, leaks do not */
        before = after;
        next = run(next, (seconds < 10 ? seconds : 10) * NS_PER_S, vcpus);
        after = free_pages();
        printf("   after some more lives %lu are\n", after);
    }
    check(before == after, "as many pages are free before and after some lives");
    check(all_kinds(), "some of each kind succeeded");
}
