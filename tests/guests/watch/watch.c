/* run: helper=yes */
/*
 * Domain 0 of  run --beside  of a PVH guest, which is domain 1: starts a victim (kit/victim.h) and sees to it that it comes to no
 * harm until domain 1 has ended.
 */
#include "victim.h"

#define LIMIT (100 * 1000000000UL) /* ns */
#define NEIGHBOUR 1

static bool ended(void)
{
    long flags = domain_flags(NEIGHBOUR);

    return flags < 0 || (flags & XEN_DOMINF_shutdown) != 0;
}

GUEST("watch")
{
    uint64_t began, had, ns;

    map_page(TEST_VA, 0);
    victim_start(NEIGHBOUR);
    began = time_now();
    had = victim_time();
    while (!ended() && time_now() - began < LIMIT && victim_lives())
        short_nap();
    ns = time_now() - began;
    had = victim_time() - had;
    printf("   the victim had a CPU for %lu of %lu ms\n", had / 1000000, ns / 1000000);
    check(ended(), "domain %u has ended", NEIGHBOUR);
    victim_end();
}
