/*
 * No memory: one domain has taken all of it. Domains are made with no page free, with one, with two, until it works:
 * each step fails once for every page that it wants, and what it has taken by then is free again.
 */
#include "lifecycle.h"

#define EXTENTS 256
#define MOST_PAGES 200

static struct child hog, rest, c;
static xen_pfn_t extents[EXTENTS], kept[MOST_PAGES];

static long populate(struct child *who, unsigned long count, unsigned order)
{
    struct xen_memory_reservation r = {.nr_extents = count, .extent_order = order, .domid = (domid_t)who->domid};

    for (unsigned i = 0; i < count; i++)
        extents[i] = 0;
    set_xen_guest_handle(r.extent_start, extents);
    return memory_op(XENMEM_populate_physmap, &r);
}

static void make_hog(struct child *who)
{
    child_create(who, 1);
    domctl_op.u.max_mem.max_memkb = 1UL << 30;
    check_quiet(domctl(XEN_DOMCTL_max_mem, who->domid) == 0, "max_mem");
}

/* A few pages of 'hog' come back one by one; 'rest' takes all the others. */
static void take_all(void)
{
    make_hog(&hog);
    for (unsigned i = 0; i < MOST_PAGES; i++) {
        check_quiet(populate(&hog, 1, 0) == 1, "page %u to give back", i);
        kept[i] = extents[0];
    }
    make_hog(&rest);
    for (int order = 9; order >= 0; order -= 3)
        while (populate(&rest, 32, (unsigned)order) == 32)
            ;
    while (populate(&rest, 1, 0) == 1)
        ;
    check_quiet(free_pages() == 0, "%lu pages are free", free_pages());
}

static void give_one_back(unsigned i)
{
    struct xen_memory_reservation r = {.nr_extents = 1, .domid = (domid_t)hog.domid};

    extents[0] = kept[i];
    set_xen_guest_handle(r.extent_start, extents);
    check_quiet(memory_op(XENMEM_decrease_reservation, &r) == 1, "giving page %u back", i);
}

static long step_grant_frames(void)
{
    struct xen_mem_acquire_resource r = {
        .domid = (domid_t)c.domid, .type = XENMEM_resource_grant_table, .nr_frames = 4};

    set_xen_guest_handle(r.frame_list, extents);
    return memory_op(XENMEM_acquire_resource, &r);
}

static long step_ports(void)
{
    struct evtchn_alloc_unbound a = {.dom = (domid_t)c.domid, .remote_dom = 0};
    long rc = 0;

    for (unsigned i = 0; i < 200 && rc == 0; i++)
        rc = event_channel_op(EVTCHNOP_alloc_unbound, &a);
    return rc;
}

static long step_memory_map(void)
{
    static uint8_t entries[128 * 20]; /* address, size and type of each */
    struct xen_foreign_memory_map map = {.domid = (domid_t)c.domid, .map = {.nr_entries = 128}};

    set_xen_guest_handle(map.map.buffer, entries);
    return memory_op(XENMEM_set_memory_map, &map);
}

static long step_policy(void)
{
    domctl_op.u.cpu_policy.nr_leaves = domctl_op.u.cpu_policy.nr_msrs = 0;
    return domctl(XEN_DOMCTL_set_cpu_policy, c.domid);
}

static long step_vcpus(void)
{
    domctl_op.u.max_vcpus.max = 5;
    return domctl(XEN_DOMCTL_max_vcpus, c.domid);
}

static long step_populate(void)
{
    domctl_op.u.max_mem.max_memkb = 64;
    if (domctl(XEN_DOMCTL_max_mem, c.domid) != 0)
        return -1;
    return populate(&c, 8, 0) == 8 ? 0 : -ENOMEM;
}

static long (*const steps[])(void) = {step_vcpus,      step_ports,  step_grant_frames,
                                      step_memory_map, step_policy, step_populate};
#define STEPS (sizeof(steps) / sizeof(steps[0]))

/* How many steps were done. */
static unsigned try_to_make(void)
{
    unsigned n = 0;
    long rc;

    memset(&domctl_op, 0, sizeof(domctl_op));
    domctl_op.u.createdomain = (struct xen_domctl_createdomain){.max_vcpus = 5,
                                                                .max_evtchn_port = -1U,
                                                                .max_grant_frames = 8,
                                                                .max_maptrack_frames = 8,
                                                                .grant_opts = XEN_DOMCTL_GRANT_version(2)};
    rc = domctl(XEN_DOMCTL_createdomain, 0);
    if (rc != 0) {
        check_quiet(rc == -ENOMEM, "createdomain: %ld", rc);
        return 0;
    }
    c = (struct child){.domid = domctl_op.domain};
    for (rc = 0; n < STEPS && rc == 0; n++)
        rc = steps[n]();
    check_quiet(rc == 0 || rc == -ENOMEM, "step %u: %ld", n, rc);
    rc = domctl(XEN_DOMCTL_destroydomain, c.domid);
    check_quiet(rc == 0 && domain_gone(c.domid), "destroying what is half made: %ld", rc);
    return rc == 0 && n == STEPS ? n + 1 : n;
}

void no_memory(void)
{
    unsigned done[STEPS + 2] = {0}, pages;

    take_all();
    for (pages = 0; pages < MOST_PAGES && done[STEPS + 1] == 0; pages++) {
        unsigned long before = free_pages(), after;

        done[try_to_make()]++;
        after = free_pages();
        check_quiet(after + 8 >= before && after <= before + 8, "%lu pages were free, %lu are", before, after);
        give_one_back(pages);
    }
    child_end(&rest);
    child_end(&hog);
    printf("   with %u pages it works; steps:", pages);
    for (unsigned i = 0; i < STEPS + 2; i++)
        printf(" %u", done[i]);
    printf("\n");
    check_quiet(done[0] != 0 && done[1] != 0 && done[STEPS + 1] != 0, "from the first step to the last");
}
