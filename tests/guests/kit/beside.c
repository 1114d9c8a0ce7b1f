/*
 * With "beside" on its command line a test's main function runs not in domain 0 but in a child: without privilege, with
 * as many vcpus, beside a victim. The same checks must hold there (where they do not, the test asks kit_is_child), and the
 * victim must not notice anything. With "crash", too, the right end is that the child is crashed.
 */
#include "victim.h"

#define LIMIT (60 * 1000000000UL) /* ns */
#define LONG 300000000UL

void kit_beside(void);

static struct child guest;

static long main_here(__attribute__((unused)) long *a)
{
    kit_quiet = true;
    guest_main();
    return kit_checks();
}

/* Of a CPU, in per cent: the victim's, if all of the guest's vcpus are busy */
static unsigned long fair_share(void)
{
    unsigned long cpus;

    if (sysctl(XEN_SYSCTL_physinfo) != 0)
        panic("no physinfo");
    cpus = sysctl_op.u.physinfo.nr_cpus;
    return cpus > guest.vcpus ? 100 : cpus * 100 / (guest.vcpus + 1);
}

static bool ended(void) { return domain_flags(guest.domid) & XEN_DOMINF_shutdown; }

static void run(void)
{
    bool crash = argument_present("crash");
    uint64_t began, had, ns;

    child_pool_pages = 48;
    victim_start(0);
    child_pool_pages = child_pool_limit();
    if (domain_flags(0) < 0)
        panic("no domain 0");
    child_start_with(&guest, domctl_op.u.getdomaininfo.max_vcpu_id + 1);
    log_mark();
    began = time_now();
    had = victim_time();
    child_begin(&guest, main_here, (const long[CHILD_ARGS]){0});
    /* One that is to crash may have written over its page for answers before. */
    while ((crash || guest.talk->answered != guest.talk->order) && !ended() && time_now() - began < LIMIT &&
           victim_lives())
        short_nap();
    ns = time_now() - began;
    had = victim_time() - had;
    printf("   the victim had a CPU for %lu of %lu ms\n", had / 1000000, ns / 1000000);
    if (ns > LONG)
        check(had > ns * fair_share() / 200, "at least half of its share, which is %lu %%", fair_share());
    if (crash) {
        check(ended() && (domctl_op.u.getdomaininfo.flags >> XEN_DOMINF_shutdownshift & XEN_DOMINF_shutdownmask) ==
                             SHUTDOWN_crash,
              "the guest is crashed: flags %x", domctl_op.u.getdomaininfo.flags);
        check(log_has("crash"), "the log says so");
    } else if (check(!ended(), "the guest lives: flags %x: %s", domctl_op.u.getdomaininfo.flags, guest.talk->text)) {
        child_wait(&guest);
        check(guest.talk->result > 0, "its %ld checks", guest.talk->result);
    }
    child_end(&guest);
    victim_end();
}

void kit_beside(void)
{
    map_page(TEST_VA, 0);
    leaves_nothing(guest_name, run);
}
