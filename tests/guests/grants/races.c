/*
 * Two CPUs with the same grants: the same handles, the same slots, and a granter that changes its table all the time.
 * Single calls may fail then; what must hold is that all counts are right again at the end.
 */
#include "grants.h"

#define HOST GNTMAP_host_map
#define HANDLES 24
#define ROUNDS 3000

static unsigned random_below(uint32_t *state, unsigned limit)
{
    *state = *state * 1664525 + 1013904223;
    return (*state >> 8) % limit;
}

/* Maps at one of four slots, and unmaps some handle at one of them; the result is how many calls succeeded. */
static long anything(unsigned granter, uint32_t seed, unsigned rounds)
{
    uint32_t state = seed;
    long successes = 0;

    for (unsigned i = 0; i < rounds; i++) {
        struct gnttab_map_grant_ref m = {.host_addr = slot_address(random_below(&state, 4)),
                                         .flags = HOST | (random_below(&state, 2) ? GNTMAP_readonly : 0),
                                         .ref = 9 + random_below(&state, 2),
                                         .dom = (domid_t)granter,
                                         .status = 99};
        struct gnttab_unmap_grant_ref u = {
            .host_addr = slot_address(random_below(&state, 4)), .handle = random_below(&state, HANDLES), .status = 99};

        if (random_below(&state, 3) == 0)
            grant_table_op(GNTTABOP_map_grant_ref, &m, 1);
        else
            grant_table_op(GNTTABOP_unmap_grant_ref, &u, 1);
        successes += m.status == GNTST_okay || u.status == GNTST_okay;
    }
    return successes;
}

/* From the last handle down: the lowest ones are the next to be given out. */
static long unmap_all_here(long *a)
{
    long n = 0;

    for (unsigned handle = (unsigned)a[0]; handle-- > 0;)
        for (unsigned slot = 0; slot < 4; slot++) {
            struct gnttab_unmap_grant_ref u = {.host_addr = slot_address(slot), .handle = handle, .status = 99};

            grant_table_op(GNTTABOP_unmap_grant_ref, &u, 1);
            if (u.status != GNTST_okay)
                continue;
            n++;
            break;
        }
    for (unsigned slot = 0; slot < 4; slot++)
        if (*(volatile uint64_t *)pte_of(slot_address(slot)) != 0)
            return -1;
    return n;
}

static volatile long second_successes;
static volatile unsigned stop;

static void anything_too(void *granter) { second_successes = anything((unsigned)(unsigned long)granter, 99, ROUNDS); }

static void check_nothing_in_use(const char *what)
{
    check_quiet(child_call(NULL, unmap_all_here, 8192) >= 0, "%s: entries of domain 0 are left", what);
    check(((grant_flags(first, 9) | grant_flags(first, 10)) & MARKS) == 0, "%s: flags %x, %x", what,
          grant_flags(first, 9), grant_flags(first, 10));
}

static void same_handles(void)
{
    long own;

    children_start(1);
    grant(first, 9, GTF_permit_access, NULL, 0);
    grant(first, 10, GTF_permit_access | GTF_readonly, NULL, 1);
    second_begin(anything_too, (void *)(unsigned long)first->domid);
    own = anything(first->domid, 7, ROUNDS);
    second_wait();
    check(own > 100 && second_successes > 100, "%ld and %ld calls succeeded", own, second_successes);
    check_nothing_in_use("the same handles");
    children_end();
}

/* The granter: versions, swaps and entries, over and over. Ends with two entries for domain a[1], of version 1. */
static long change_all_here(long *a)
{
    uint64_t limit = time_now() + U(a[0]);
    domid_t to = (domid_t)a[1];
    grant_entry_v1_t *v1 = (void *)TABLE_VA;
    grant_entry_v2_t *v2 = (void *)TABLE_VA;
    struct gnttab_set_version s = {.version = 1};
    static uint8_t granted[2 * PAGE_SIZE] __attribute__((aligned(4096)));
    long changes = 0;

    for (unsigned i = 0; time_now() < limit || s.version != 1 || changes < 2; i++) {
        struct gnttab_swap_grant_ref swap = {.ref_a = 9, .ref_b = 10};

        for (unsigned ref = 9; ref < 11; ref++) {
            unsigned long frame = virt_to_mfn(granted + (ref - 9) * PAGE_SIZE);

            if (s.version == 1) {
                v1[ref] = (grant_entry_v1_t){.domid = to, .frame = (uint32_t)frame};
                barrier();
                v1[ref].flags = GTF_permit_access;
            } else {
                v2[ref].hdr.domid = to;
                v2[ref].full_page.frame = frame;
                barrier();
                v2[ref].hdr.flags = GTF_permit_access;
            }
        }
        spin_ns(20000);
        grant_table_op(GNTTABOP_swap_grant_ref, &swap, 1);
        if (i % 4 == 3) { /* now and then it is not in use */
            unsigned old = s.version;

            s.version = 3 - old;
            grant_table_op(GNTTABOP_set_version, &s, 1);
            changes += s.version != old;
        }
        if (time_now() > limit + 2000000000UL)
            return -1;
    }
    return changes;
}

static void until_told(void *granter)
{
    long a[CHILD_ARGS] = {64};

    while (stop == 0) {
        second_successes += anything((unsigned)(unsigned long)granter, (uint32_t)time_now(), 50);
        unmap_all_here(a);
    }
}

static void changing_table(void)
{
    children_start(1);
    stop = 0;
    second_successes = 0;
    second_begin(until_told, (void *)(unsigned long)first->domid);
    child_begin(first, change_all_here, (const long[CHILD_ARGS]){200000000, 0});
    if (child_wait(first)) {
        stop = 1;
        second_wait();
        check(first->talk->result > 0 && second_successes > 100, "the version changed %ld times, %ld calls succeeded",
              first->talk->result, second_successes);
    }
    stop = 1;
    second_wait();
    check_nothing_in_use("a changing table");
    children_end();
}

/* Domain 0's list of mappings grows when it has to and stays: it is to have all its pages beforehand. */
static void grow_list(void)
{
    static grant_handle_t handles[2 * ROUNDS];
    struct gnttab_unmap_grant_ref u = {0};
    unsigned n = 0;

    children_start(1);
    grant(first, 9, GTF_permit_access, NULL, 0);
    for (; n < 2 * ROUNDS; n++) {
        if (map_at(NULL, 0, GNTMAP_device_map, first->domid, 9, &handles[n]) != GNTST_okay)
            break;
    }
    check(n == 2 * ROUNDS, "domain 0 has %u mappings", n);
    u.dev_bus_addr = page_frame(first, 0) << 12;
    while (n-- > 0) {
        u.handle = handles[n];
        grant_table_op(GNTTABOP_unmap_grant_ref, &u, 1);
        check_quiet(u.status == GNTST_okay, "unmap of %u: %d", u.handle, u.status);
    }
    children_end();
}

void races(void)
{
    grow_list();
    leaves_nothing("the same handles", same_handles);
    leaves_nothing("a changing table", changing_table);
}
