/* run: smp=2 append="dom0_max_vcpus=2" time=60 */
/*
 * The life of a domain, and its end in every state: as many pages are free after it as before, and the audit finds
 * nothing. In between, getdomaininfo tells the state; what is dying gets nothing more; what others hold stays until
 * they let go.
 */
#include "lifecycle.h"

#include "../../../hypervisor/hypercall/croft_abi.h"

static struct child c;

#define REASON(r) (XEN_DOMINF_shutdown | (r) << XEN_DOMINF_shutdownshift)

/* Waits for the domain to be in a state: its flags, as far as they are in 'care', are 'want'. */
static bool reaches(const char *state, long care, long want)
{
    uint64_t limit = time_now() + 2000000000UL;
    long flags;

    do
        flags = domain_flags(c.domid) & care;
    while (flags != want && time_now() < limit);
    return check(flags == want, "%s: flags %lx, wanted %lx", state, (unsigned long)flags, (unsigned long)want);
}

/* ---- What the child does ---- */

static long spin(long *a)
{
    a[0] = 1;
    for (;;)
        asm volatile("pause");
    return 0;
}

static long block(long *a)
{
    a[0] = 1;
    for (;;)
        sched_op(SCHEDOP_block, NULL); /* upcalls are masked: nothing ends that */
    return 0;
}

static long shut_down(long *a)
{
    struct sched_shutdown s = {.reason = (unsigned)a[0]};

    return sched_op(SCHEDOP_shutdown, &s);
}

static long crash(long *a)
{
    if (a[0] == 4) { /* what Croft copies must not go backwards then */
        set_trap_table(NULL);
        asm volatile("std; ud2");
    }
    if (a[0] == 0)
        set_trap_table(NULL);
    if (a[0] == 2)
        asm volatile("movq %0, %%rsp" : : "r"(VA_UNMAPPED));
    if (a[0] == 3)
        asm volatile("movq %0, %%rsp" : : "r"(VA_HOLE));
    if (a[0] == 1) {
        set_trap(6, 0, (void *)VA_UNMAPPED);
        set_trap(14, 0, (void *)VA_UNMAPPED);
    }
    asm volatile("ud2");
    return 0;
}

/* Long calls, one after the other: of memory, of page tables, of many elements. */
static long be_busy(long *a)
{
    static xen_pfn_t extents[40];
    static struct mmu_update updates[400];
    uint64_t *table = table_alloc();
    void *page = page_alloc();

    for (unsigned i = 0; i < 512; i++)
        mmu_write(table + i, make_pte(virt_to_mfn(page), PTE_RW));
    for (unsigned i = 0; i < 400; i++)
        updates[i] = (struct mmu_update){.ptr = virt_to_machine(table + i), .val = make_pte(virt_to_mfn(page), PTE_RO)};
    for (;;) {
        struct xen_memory_reservation r = {.nr_extents = 40, .domid = DOMID_SELF};

        for (unsigned i = 0; i < 40; i++)
            extents[i] = 600 + i;
        set_xen_guest_handle(r.extent_start, extents);
        memory_op(XENMEM_populate_physmap, &r);
        mmuext(MMUEXT_PIN_L1_TABLE, virt_to_mfn(table), 0);
        mmu_update(updates, 400, NULL, DOMID_SELF);
        mmuext(MMUEXT_UNPIN_TABLE, virt_to_mfn(table), 0);
        memory_op(XENMEM_decrease_reservation, &r);
        a[0]++;
    }
    return 0;
}

static long arm_timers(long *a)
{
    struct vcpu_set_singleshot_timer once = {.timeout_abs_ns = time_now() + 30000000};
    struct vcpu_set_periodic_timer often = {.period_ns = 10000000};
    struct sched_watchdog dog = {.id = 0, .timeout = 1};

    if (vcpu_op(VCPUOP_set_singleshot_timer, 0, &once) != 0 || vcpu_op(VCPUOP_set_periodic_timer, 0, &often) != 0 ||
        sched_op(SCHEDOP_watchdog, &dog) < 0)
        return -1;
    set_timer_op(time_now() + 20000000);
    return a[0];
}

/* Begins f and waits until it says that it runs. */
static bool runs(child_function_t *f, long argument)
{
    uint64_t limit = time_now() + 2000000000UL;

    child_begin(&c, f, (const long[CHILD_ARGS]){argument});
    while (c.talk->a[0] == argument && time_now() < limit)
        sched_op(SCHEDOP_yield, NULL);
    return check_quiet(c.talk->a[0] != argument, "d%u does not run", c.domid);
}

/* ---- The states ---- */

static void created(void)
{
    child_create(&c, 1);
    check_equal(domain_flags(c.domid), XEN_DOMINF_paused);
    check_equal(domctl_op.u.getdomaininfo.tot_pages, 0);
    check_equal(domctl_op.u.getdomaininfo.nr_online_vcpus, 0);
    child_end(&c);
}

static void created_without_vcpus(void)
{
    memset(&domctl_op, 0, sizeof(domctl_op));
    domctl_op.u.createdomain = (struct xen_domctl_createdomain){
        .max_vcpus = 128, .max_grant_frames = 1, .max_maptrack_frames = 0, .grant_opts = XEN_DOMCTL_GRANT_version(1)};
    check_equal(domctl(XEN_DOMCTL_createdomain, 0), 0);
    c = (struct child){.domid = domctl_op.domain};
    check_equal(domain_flags(c.domid), XEN_DOMINF_paused);
    check_equal(domctl(XEN_DOMCTL_unpausedomain, c.domid), 0);
    check_equal(domain_flags(c.domid), 0);
    check_equal(domctl(XEN_DOMCTL_destroydomain, c.domid), 0);
    check(domain_gone(c.domid), "a domain without vcpus goes");
}

static void populated(void)
{
    child_create(&c, 3);
    child_populate(&c);
    check_equal(domain_flags(c.domid), XEN_DOMINF_paused);
    check_equal(domctl_op.u.getdomaininfo.tot_pages, c.pages);
    child_end(&c);
}

static void filled(void)
{
    child_create(&c, 1);
    child_populate(&c);
    child_fill(&c);
    check_equal(domain_flags(c.domid), XEN_DOMINF_paused);
    child_end(&c);
}

static void ready(void)
{
    child_create(&c, 4);
    child_populate(&c);
    child_fill(&c);
    child_set_context(&c);
    child_connect(&c);
    check_equal(domain_flags(c.domid), XEN_DOMINF_paused);
    check_equal(domctl_op.u.getdomaininfo.nr_online_vcpus, 1);
    check_equal(domctl_op.u.getdomaininfo.max_vcpu_id, 3);
    child_end(&c);
}

static void running(void)
{
    /* On one CPU it never runs while it is asked for. */
    long busy = sysctl(XEN_SYSCTL_physinfo) == 0 && sysctl_op.u.physinfo.nr_cpus == 1 ? 0 : XEN_DOMINF_running;

    child_start(&c);
    runs(spin, 0);
    reaches("a busy loop", ~0, busy);
    check_equal(domctl(XEN_DOMCTL_pausedomain, c.domid), 0);
    check_equal(domctl(XEN_DOMCTL_pausedomain, c.domid), 0);
    check_equal(domain_flags(c.domid), XEN_DOMINF_paused);
    check_equal(domctl(XEN_DOMCTL_unpausedomain, c.domid), 0);
    reaches("paused twice, unpaused once", ~0, busy);
    child_end(&c);
}

static void blocked(void)
{
    child_start(&c);
    runs(block, 0);
    reaches("blocked", ~0, XEN_DOMINF_blocked);
    check_equal(domctl(XEN_DOMCTL_pausedomain, c.domid), 0);
    check_equal(domain_flags(c.domid), XEN_DOMINF_blocked | XEN_DOMINF_paused);
    child_end(&c);
}

static void busy(void)
{
    for (unsigned i = 0; i < 12; i++) {
        child_start(&c);
        if (!runs(be_busy, 0))
            return;
        spin_ns(100000 + i * 137000);
        child_end(&c);
    }
}

static void crashed(void)
{
    for (long how = 0; how < 5; how++) {
        char line[32];

        child_start(&c);
        log_mark();
        child_begin(&c, crash, (const long[CHILD_ARGS]){how});
        reaches("crashed", ~0, REASON(SHUTDOWN_crash));
        memcpy(line, "dX crashed: ", 13);
        line[1] = (char)('0' + c.domid % 10);
        check(log_has(line + (c.domid >= 10)), "the log says why");
        check(log_has("(CROFT)   rax"), "and where");
        child_end(&c);
    }
}

static void shut_downs(void)
{
    for (long reason = 0; reason <= SHUTDOWN_MAX; reason++) {
        child_start(&c);
        check_equal(child_call(&c, shut_down, SHUTDOWN_MAX + 1), -EINVAL);
        child_begin(&c, shut_down, (const long[CHILD_ARGS]){reason});
        reaches("shut down", ~0, REASON(reason));
        if (reason == SHUTDOWN_suspend) {
            check_equal(domctl(XEN_DOMCTL_resumedomain, c.domid), 0);
            check(child_wait(&c), "and it goes on");
            check_equal(c.talk->result, 0);
            reaches("resumed", ~0, XEN_DOMINF_blocked);
        }
        child_end(&c);
    }
    for (unsigned reason = 0; reason <= SHUTDOWN_MAX; reason++) {
        struct sched_remote_shutdown s = {.reason = reason};

        child_start(&c);
        s.domain_id = (domid_t)c.domid;
        check_equal(sched_op(SCHEDOP_remote_shutdown, &s), 0);
        s.reason = SHUTDOWN_poweroff; /* the first reason counts */
        check_equal(sched_op(SCHEDOP_remote_shutdown, &s), 0);
        reaches("shut down by domain 0", ~XEN_DOMINF_blocked, REASON((long)reason));
        child_end(&c);
    }
}

static void with_timers(void)
{
    for (unsigned i = 0; i < 2; i++) {
        child_start(&c);
        check_equal(child_call(&c, arm_timers, 7), 7);
        if (i == 0)
            spin_ns(15000000);
        child_end(&c);
    }
    spin_ns(40000000); /* they would be due */
}

static void watchdog(void)
{
    child_start(&c);
    check_equal(child_call(&c, arm_timers, 7), 7);
    reaches("not looked after", ~XEN_DOMINF_blocked, REASON(SHUTDOWN_watchdog));
    child_end(&c);
}

/* ---- A domain that is destroyed while domain 0 has frames of it mapped ---- */

static long acquire(unsigned id, xen_pfn_t *frame)
{
    struct xen_mem_acquire_resource r = {
        .domid = (domid_t)c.domid, .type = XENMEM_resource_grant_table, .id = id, .nr_frames = 1};

    set_xen_guest_handle(r.frame_list, frame);
    return memory_op(XENMEM_acquire_resource, &r);
}

static void nothing_for_the_dying(void)
{
    struct evtchn_alloc_unbound channel = {.dom = (domid_t)c.domid, .remote_dom = 0};
    struct xen_memory_reservation r = {.nr_extents = 1, .domid = (domid_t)c.domid};
    struct mmuext_op pin = {.cmd = MMUEXT_PIN_L1_TABLE};
    xen_pfn_t extent = 1, frame;

    check_negative(domctl(XEN_DOMCTL_unpausedomain, c.domid));
    check_equal(domctl(XEN_DOMCTL_pausedomain, c.domid), 0);
    check_negative(event_channel_op(EVTCHNOP_alloc_unbound, &channel));
    set_xen_guest_handle(r.extent_start, &extent);
    check_equal(memory_op(XENMEM_populate_physmap, &r), 0);
    pin.arg1.mfn = c.frames[c.pages - 1];
    check_negative(mmuext_op(&pin, 1, NULL, c.domid));
    check_negative(map_foreign(c.domid, TEST_VA + PAGE_SIZE, child_frame(&c, &kit_talk), PTE_RW));
    check_negative(map_foreign(c.domid, TEST_VA + PAGE_SIZE, child_frame(&c, hypercall_page), PTE_RO));
    check_negative(acquire(XENMEM_resource_grant_table_id_shared, &frame));
    domctl_op.u.max_vcpus.max = c.vcpus;
    check_negative(domctl(XEN_DOMCTL_max_vcpus, c.domid));
    domctl_op.u.hypercall_init.gmfn = child_frame(&c, hypercall_page);
    check_negative(domctl(XEN_DOMCTL_hypercall_init, c.domid));
}

static void mapped(void)
{
    child_start(&c);
    c.talk->data[100] = 0x5a;
    check_equal(domctl(XEN_DOMCTL_destroydomain, c.domid), 0);
    check_equal(domain_flags(c.domid) & XEN_DOMINF_dying, XEN_DOMINF_dying);
    check_equal(domctl_op.u.getdomaininfo.tot_pages, 1);
    check_equal(domctl(XEN_DOMCTL_destroydomain, c.domid), 0);
    nothing_for_the_dying();
    audit("a dead domain's frame is mapped");
    check_equal(c.talk->data[100], 0x5a);
    check(domctl(XEN_DOMCTL_createdomain, c.domid) != 0, "its number is in use");
    child_let_go(&c);
    check(domain_gone(c.domid), "it goes with the mapping");
    check_equal(domctl(XEN_DOMCTL_destroydomain, c.domid), -ESRCH);
}

/* Croft's own pages of it, mapped by domain 0, become ordinary frames with its death. */
static void own_pages_mapped(void)
{
    volatile struct shared_info *si = (void *)(TEST_VA + PAGE_SIZE);
    volatile grant_entry_v1_t *table = (void *)(TEST_VA + 2 * PAGE_SIZE);
    xen_pfn_t frame = 0;

    child_start(&c);
    check_equal(domain_flags(c.domid) < 0, 0);
    check_equal(map_foreign(c.domid, U(si), domctl_op.u.getdomaininfo.shared_info_frame, PTE_RW), 0);
    check_equal(acquire(XENMEM_resource_grant_table_id_shared, &frame), 0);
    check_equal(map_foreign(c.domid, U(table), frame, PTE_RW), 0);
    table[3].frame = 0x77777;
    si->arch.nmi_reason = 0x1234;
    check_equal(child_destroy(&c), 0);
    check_equal(domain_flags(c.domid) & XEN_DOMINF_dying, XEN_DOMINF_dying);
    check_equal(domctl_op.u.getdomaininfo.tot_pages, 2);
    check(si->arch.nmi_reason == 0x1234 && table[3].frame == 0x77777, "the pages are as they were");
    audit("a dead domain's own pages are mapped");
    check_equal(update_va_mapping(U(si), 0, UVMF_INVLPG), 0);
    check_equal(domain_flags(c.domid) & XEN_DOMINF_dying, XEN_DOMINF_dying);
    check_equal(update_va_mapping(U(table), 0, UVMF_INVLPG), 0);
    check(domain_gone(c.domid), "it goes with the second");
}

/* ---- Many, and at once ---- */

static void cycles(void)
{
    for (unsigned i = 0; i < 200; i++) {
        child_create(&c, 1 + i % 3);
        child_populate(&c);
        if (i % 4 != 0) {
            child_fill(&c);
            child_set_context(&c);
        }
        if (i % 4 > 1) {
            child_connect(&c);
            child_unpause(&c);
        }
        child_end(&c);
    }
}

static struct xen_domctl second_op;
static volatile unsigned gate;
static volatile long second_result;

static void destroy_too(void *op)
{
    while (gate == 0)
        ;
    second_result = hypercall(__HYPERVISOR_domctl, U(op), 0, 0, 0, 0);
}

static void destroyed_by_two(void)
{
    unsigned both = 0;

    for (unsigned i = 0; i < 30; i++) {
        long rc;

        child_start(&c);
        if (i % 2 == 0)
            child_let_go(&c);
        second_op = (struct xen_domctl){.cmd = XEN_DOMCTL_destroydomain,
                                        .interface_version = XEN_DOMCTL_INTERFACE_VERSION,
                                        .domain = (domid_t)c.domid};
        gate = 0;
        second_begin(destroy_too, &second_op);
        spin_ns(2000000);
        gate = 1;
        spin_ns(i * 5000);
        rc = domctl(XEN_DOMCTL_destroydomain, c.domid);
        if (!second_wait())
            return;
        child_let_go(&c);
        check_quiet((rc == 0 || rc == -ESRCH) && (second_result == 0 || second_result == -ESRCH), "results %ld, %ld",
                    rc, second_result);
        both += rc == 0 && second_result == 0;
        check_quiet(domain_gone(c.domid), "d%u stays", c.domid);
    }
    check(both >= 10, "both were at it in %u of 30", both);
}

static long set_next_domid(unsigned long id)
{
    return hypercall(__HYPERVISOR_croft_op, CROFT_OP_set_next_domid, id, 0, 0, 0);
}

static long bind_to(uint32_t port)
{
    struct evtchn_bind_interdomain bind = {.remote_dom = 0, .remote_port = port};

    return op_by(&c, __HYPERVISOR_event_channel_op, EVTCHNOP_bind_interdomain, &bind, sizeof(bind), 0);
}

/* A domain gets the number that was chosen for it, at once after the last one that had it: what that was granted is its own. */
static void numbered(void)
{
    static struct child other;
    struct evtchn_alloc_unbound channel = {.dom = DOMID_SELF, .remote_dom = 77};
    struct evtchn_close close;
    long next = set_next_domid(77);

    check(next > 0 && next < DOMID_FIRST_RESERVED, "the number before: %ld", next);
    child_start(&c);
    check_equal(c.domid, 77);
    check_equal(event_channel_op(EVTCHNOP_alloc_unbound, &channel), 0);
    check_equal(bind_to(channel.port), 0);
    check_equal(set_next_domid(77), 78);
    child_start(&other); /* 77 is in use */
    check_equal(other.domid, 78);
    child_end(&c);
    check_equal(set_next_domid(77), 79);
    child_start(&c);
    check_equal(c.domid, 77);
    check_equal(bind_to(channel.port), 0);
    check_negative(bind_to(channel.port)); /* it waits for nobody now */
    child_end(&c);
    child_end(&other);
    close.port = channel.port;
    check_equal(event_channel_op(EVTCHNOP_close, &close), 0);
    check_equal(set_next_domid(0), -EINVAL);
    check_equal(set_next_domid(DOMID_FIRST_RESERVED), -EINVAL);
    check_equal(set_next_domid(1UL << 32 | 5), -EINVAL);
    check_equal(set_next_domid((unsigned long)next), 78);
}

static void refusals(void)
{
    struct xen_domctl_createdomain good = {.max_vcpus = 1,
                                           .max_evtchn_port = -1U,
                                           .max_grant_frames = 4,
                                           .max_maptrack_frames = 4,
                                           .grant_opts = XEN_DOMCTL_GRANT_version(2)};

    check_equal(domctl(XEN_DOMCTL_destroydomain, 0), -EINVAL);
    check_negative(domctl(XEN_DOMCTL_pausedomain, 0));
    check_equal(domctl(XEN_DOMCTL_destroydomain, 30000), -ESRCH);
    check_equal(domctl(XEN_DOMCTL_destroydomain, DOMID_SELF), -EINVAL);
    check_equal(domctl(XEN_DOMCTL_destroydomain, DOMID_IO), -ESRCH);
    check_equal(domctl(XEN_DOMCTL_destroydomain, 0x7fff), -ESRCH); /* the idle vcpus' */
    memset(&domctl_op, 0, sizeof(domctl_op));
#define REFUSED(field, value)                                                                                          \
    do {                                                                                                               \
        domctl_op.u.createdomain = good;                                                                               \
        domctl_op.u.createdomain.field = value;                                                                        \
        check_negative(domctl(XEN_DOMCTL_createdomain, 0));                                                            \
    } while (0)
    REFUSED(max_vcpus, 0);
    REFUSED(max_vcpus, 100000);
    REFUSED(max_grant_frames, 0);
    REFUSED(max_grant_frames, 0x7fffffff);
    REFUSED(max_maptrack_frames, 0x7fffffff);
    REFUSED(grant_opts, 0);
    REFUSED(grant_opts, 3);
    REFUSED(flags, XEN_DOMCTL_CDF_hvm);
    REFUSED(flags, 0x80000000);
    REFUSED(cpupool_id, 1);
    REFUSED(vmtrace_size, 4096);
    child_create(&c, 2);
    domctl_op.u.createdomain = good;
    check_equal(domctl(XEN_DOMCTL_createdomain, c.domid), -EEXIST);
    domctl_op.u.max_vcpus.max = 3;
    check_negative(domctl(XEN_DOMCTL_max_vcpus, c.domid));
    child_end(&c);
}

GUEST("lifecycle")
{
    map_page(TEST_VA, 0);
    second_start();
    for (unsigned i = 0; i < 4; i++) { /* what grows once and stays: window, page lists, log, heap */
        child_start(&c);
        child_end(&c);
    }
    leaves_nothing("created", created);
    leaves_nothing("created without vcpus", created_without_vcpus);
    leaves_nothing("populated", populated);
    leaves_nothing("filled", filled);
    leaves_nothing("ready", ready);
    leaves_nothing("running", running);
    leaves_nothing("blocked", blocked);
    leaves_nothing("busy", busy);
    leaves_nothing("crashed", crashed);
    leaves_nothing("shut down", shut_downs);
    leaves_nothing("with timers", with_timers);
    leaves_nothing("shut down by its watchdog", watchdog);
    leaves_nothing("mapped", mapped);
    leaves_nothing("its own pages mapped", own_pages_mapped);
    leaves_nothing("numbered", numbered);
    leaves_nothing("200 times", cycles);
    leaves_nothing("destroyed by two", destroyed_by_two);
    leaves_nothing("two vcpus", two_vcpus);
    leaves_nothing("everything at once", everything_at_once);
    leaves_nothing("no memory", no_memory);
    leaves_nothing("refused", refusals);
    leaves_nothing("without privilege", without_privilege);
}
