/*
 * Everything at once: while domains come and go on one CPU, another one does to them whatever domain 0 can do to a
 * domain, at any moment of their lives. Nothing of that is to be left over.
 */
#include "lifecycle.h"

#define NOBODY 30000 /* no domain's number */
#define ROUNDS 60
#define STORM_VA (TEST_VA + 16 * PAGE_SIZE) /* a slot that only the second vcpu uses */

static struct child c;
static volatile unsigned target, stop; /* domain */
static volatile unsigned long target_frame;
static unsigned long calls, successes;

/* Its own generator: numbers that are the same in each run, but for the timing */
static unsigned random_below(unsigned limit)
{
    static uint32_t state = 12345;

    state = state * 1664525 + 1013904223;
    return (state >> 8) % limit;
}

static struct xen_domctl op; /* the second vcpu's */
static struct vcpu_guest_context context;

static long tool(uint32_t cmd)
{
    op.cmd = cmd;
    op.interface_version = XEN_DOMCTL_INTERFACE_VERSION;
    op.domain = (domid_t)target;
    return hypercall(__HYPERVISOR_domctl, U(&op), 0, 0, 0, 0);
}

static long tool_call(unsigned which)
{
    uint8_t map = (uint8_t)(1 + random_below(3));

    memset(&op.u, 0, sizeof(op.u));
    switch (which) {
    case 0:
        return tool(XEN_DOMCTL_getdomaininfo);
    case 1:
        return tool(XEN_DOMCTL_pausedomain);
    case 2:
        return tool(XEN_DOMCTL_unpausedomain);
    case 3:
        op.u.max_vcpus.max = 2;
        return tool(XEN_DOMCTL_max_vcpus);
    case 4:
        op.u.max_mem.max_memkb = 1024;
        return tool(XEN_DOMCTL_max_mem);
    case 5:
        op.u.vcpuaffinity.flags = XEN_VCPUAFFINITY_HARD;
        op.u.vcpuaffinity.cpumap_hard.nr_bits = 8;
        set_xen_guest_handle(op.u.vcpuaffinity.cpumap_hard.bitmap, &map);
        return tool(XEN_DOMCTL_setvcpuaffinity);
    case 6:
        op.u.scheduler_op.sched_id = XEN_SCHEDULER_CREDIT2;
        op.u.scheduler_op.cmd = XEN_DOMCTL_SCHEDOP_putinfo;
        op.u.scheduler_op.u.credit2.weight = (uint16_t)(1 + random_below(1000));
        return tool(XEN_DOMCTL_scheduler_op);
    case 7:
        set_xen_guest_handle(op.u.vcpucontext.ctxt, &context);
        return tool(XEN_DOMCTL_getvcpucontext);
    case 8: /* with what was read, of this domain or of another one */
        set_xen_guest_handle(op.u.vcpucontext.ctxt, &context);
        return tool(XEN_DOMCTL_setvcpucontext);
    case 9:
        op.u.settimeoffset.time_offset_seconds = random_below(1000);
        return tool(XEN_DOMCTL_settimeoffset);
    case 10:
        return tool(XEN_DOMCTL_resumedomain);
    case 11:
        op.u.hypercall_init.gmfn = target_frame;
        return tool(XEN_DOMCTL_hypercall_init);
    case 12:
        return tool(XEN_DOMCTL_getvcpuinfo);
    case 13:
        op.u.vcpuextstate.size = 0;
        return tool(XEN_DOMCTL_getvcpuextstate);
    default:
        op.u.cpu_policy.nr_leaves = 0;
        return tool(XEN_DOMCTL_set_cpu_policy);
    }
}

static long memory_call(bool populate)
{
    static xen_pfn_t extents[8];
    struct xen_memory_reservation r = {.nr_extents = 8, .domid = (domid_t)target};

    for (unsigned i = 0; i < 8; i++)
        extents[i] = populate ? 400 + i : target_frame + i;
    set_xen_guest_handle(r.extent_start, extents);
    return memory_op(populate ? XENMEM_populate_physmap : XENMEM_decrease_reservation, &r);
}

static long frame_call(unsigned which)
{
    struct mmuext_op m = {.cmd = which == 0 ? MMUEXT_PIN_L1_TABLE : MMUEXT_UNPIN_TABLE};
    struct xen_mem_acquire_resource resource = {
        .domid = (domid_t)target, .type = XENMEM_resource_grant_table, .nr_frames = 1};
    struct xen_memory_reservation claim = {.nr_extents = random_below(2) * 10, .domid = (domid_t)target};
    xen_pfn_t frame = target_frame;
    long rc = 0;

    switch (which) {
    case 0:
    case 1:
        m.arg1.mfn = frame;
        return mmuext_op(&m, 1, NULL, target);
    case 2:
        set_xen_guest_handle(resource.frame_list, &frame);
        resource.frame = random_below(4);
        rc = memory_op(XENMEM_acquire_resource, &resource); /* fall through */
    case 3:
        if (rc == 0)
            rc = map_foreign(target, STORM_VA, frame, random_below(2) != 0 ? PTE_RW : PTE_RO);
        if (rc == 0) {
            (void)*(volatile uint64_t *)STORM_VA;
            rc = update_va_mapping(STORM_VA, 0, UVMF_INVLPG);
        }
        return rc;
    default:
        return memory_op(XENMEM_claim_pages, &claim);
    }
}

static long event_call(unsigned which)
{
    struct evtchn_alloc_unbound a = {.dom = (domid_t)target, .remote_dom = 0};
    struct evtchn_bind_interdomain b = {.remote_dom = (domid_t)target};
    struct sched_remote_shutdown s = {.domain_id = (domid_t)target, .reason = SHUTDOWN_suspend};
    struct evtchn_reset r = {.dom = (domid_t)target};
    struct evtchn_close close;
    long rc;

    if (which == 0)
        return sched_op(SCHEDOP_remote_shutdown, &s);
    if (which == 1)
        return event_channel_op(EVTCHNOP_reset, &r);
    rc = event_channel_op(EVTCHNOP_alloc_unbound, &a);
    b.remote_port = a.port;
    if (rc == 0)
        rc = event_channel_op(EVTCHNOP_bind_interdomain, &b);
    if (rc != 0)
        return rc;
    event_send(b.local_port);
    close.port = b.local_port;
    return event_channel_op(EVTCHNOP_close, &close);
}

static void storm(void *end)
{
    while (*(volatile unsigned *)end == 0) {
        unsigned which = random_below(26);
        long rc;

        if (target == NOBODY)
            continue;
        if (which < 15)
            rc = tool_call(which);
        else if (which < 18)
            rc = memory_call(which != 17);
        else if (which < 23)
            rc = frame_call(which - 18);
        else
            rc = event_call(which - 23);
        calls++;
        successes += rc >= 0;
    }
}

static long busy_here(long *a)
{
    static uint64_t *table;

    if (table == NULL)
        table = table_alloc();
    for (;;) {
        mmuext(MMUEXT_PIN_L1_TABLE, virt_to_mfn(table), 0);
        mmuext(MMUEXT_UNPIN_TABLE, virt_to_mfn(table), 0);
        a[1]++;
    }
    return 0;
}

/* Half built: the storm begins behind what would fail in it. */
static void half_build(unsigned i)
{
    child_create(&c, 2);
    if (i % 4 != 0) {
        child_populate(&c);
        target_frame = c.frames[c.pages - 8 - i % 8];
    }
    target = c.domid;
}

void everything_at_once(void)
{
    calls = successes = 0;
    target = NOBODY;
    stop = 0;
    second_begin(storm, (void *)&stop);
    for (unsigned i = 0; i < ROUNDS; i++) {
        half_build(i);
        spin_ns(i % 8 * 50000);
        child_end(&c);
        target = NOBODY;
    }
    /* Those that run: the storm begins when they are built, for it would stop the building. */
    for (unsigned i = 0; i < ROUNDS; i++) {
        child_create(&c, 2);
        child_populate(&c);
        child_fill(&c);
        child_set_context(&c);
        child_connect(&c);
        child_unpause(&c);
        child_begin(&c, busy_here, (const long[CHILD_ARGS]){0});
        target_frame = c.frames[i * 7 % c.pages];
        target = c.domid;
        spin_ns(100000 + i % 32 * 50000);
        child_end(&c);
        target = NOBODY;
    }
    stop = 1;
    second_wait();
    printf("   %lu calls by the second vcpu, of which %lu succeeded\n", calls, successes);
    check_quiet(successes > 100, "a storm of %lu calls", successes);
}

/* ---- Two vcpus of a child, on both CPUs ---- */

static void busy_too(void *a) { busy_here(a); }

static long both_busy_here(long *a)
{
    static long own[CHILD_ARGS];

    second_start();
    second_begin(busy_too, own);
    return busy_here(a);
}

void two_vcpus(void)
{
    for (unsigned i = 0; i < 12; i++) {
        uint64_t limit = time_now() + 2000000000UL;

        child_create(&c, 2);
        child_populate(&c);
        child_fill(&c);
        child_set_context(&c);
        child_connect(&c);
        child_unpause(&c);
        child_begin(&c, both_busy_here, (const long[CHILD_ARGS]){0});
        while (c.talk->a[1] == 0 && time_now() < limit)
            sched_op(SCHEDOP_yield, NULL);
        check_quiet(c.talk->a[1] != 0, "it is busy");
        spin_ns(1000000 + i * 200000);
        if (domain_flags(c.domid) < 0 || domctl_op.u.getdomaininfo.nr_online_vcpus != 2)
            check_quiet(false, "two vcpus are up");
        child_end(&c);
    }
}
