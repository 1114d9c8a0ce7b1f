/* run: smp=1 mem=128 time=90 */
/*
 * Each allocation of Croft's in the calls that make some fails in turn, by fault injection (croft_op 7). The call fails, or does
 * with less, and when what it worked on has gone, as many pages are free as before.
 */
#include "child.h"

#include "../../../hypervisor/hypercall/croft_abi.h"

#define MOST 300 /* allocations in one scenario */

struct scenario {
    const char *what;
    void (*begin)(void);
    long (*act)(void); /* negative: what failed; the rest is for 'end' */
    void (*end)(void);
    bool by_child;
};

static struct child c;
static unsigned half_made; /* the number of a domain that is being made; 0: none */
static uint64_t buffer[2048];

static long fail_allocation(unsigned n, unsigned domid)
{
    return hypercall(__HYPERVISOR_croft_op, CROFT_OP_fail_allocation, n, domid, 0, 0);
}

static void child_begins(void) { child_start(&c); }
static void child_ends(void) { child_end(&c); }

/* ---- By domain 0, as a tool ---- */

static long act_create(void)
{
    struct xen_foreign_memory_map map = {.map = {.nr_entries = 100}};
    struct xen_mem_acquire_resource resource = {.type = XENMEM_resource_grant_table, .nr_frames = 4};
    struct evtchn_alloc_unbound channel = {.remote_dom = 0};
    static xen_pfn_t frames[4];
    long rc;

    memset(&domctl_op, 0, sizeof(domctl_op));
    domctl_op.u.createdomain = (struct xen_domctl_createdomain){.max_vcpus = 3,
                                                                .max_evtchn_port = -1U,
                                                                .max_grant_frames = 8,
                                                                .max_maptrack_frames = 8,
                                                                .grant_opts = XEN_DOMCTL_GRANT_version(2)};
    rc = domctl(XEN_DOMCTL_createdomain, 0);
    if (rc != 0)
        return rc;
    map.domid = resource.domid = channel.dom = (domid_t)(half_made = domctl_op.domain);
    domctl_op.u.max_vcpus.max = 3;
    rc = domctl(XEN_DOMCTL_max_vcpus, half_made);
    set_xen_guest_handle(map.map.buffer, buffer);
    if (rc == 0)
        rc = memory_op(XENMEM_set_memory_map, &map);
    domctl_op.u.cpu_policy.nr_leaves = domctl_op.u.cpu_policy.nr_msrs = 0;
    if (rc == 0)
        rc = domctl(XEN_DOMCTL_set_cpu_policy, half_made);
    set_xen_guest_handle(resource.frame_list, frames);
    if (rc == 0)
        rc = memory_op(XENMEM_acquire_resource, &resource);
    for (unsigned i = 0; i < 300 && rc == 0; i++)
        rc = event_channel_op(EVTCHNOP_alloc_unbound, &channel);
    return rc;
}

static void end_create(void)
{
    if (half_made != 0)
        check_quiet(domctl(XEN_DOMCTL_destroydomain, half_made) == 0 && domain_gone(half_made), "d%u stays", half_made);
    half_made = 0;
}

static void vcpu_begins(void)
{
    child_create(&c, 2);
    child_populate(&c);
    child_fill(&c);
    child_set_context(&c);
}

static long act_vcpu(void)
{
    static struct vcpu_guest_context context;
    long rc;

    domctl_op.u.vcpucontext.vcpu = 0;
    set_xen_guest_handle(domctl_op.u.vcpucontext.ctxt, &context);
    rc = domctl(XEN_DOMCTL_getvcpucontext, c.domid);
    memset(&domctl_op.u, 0, sizeof(domctl_op.u));
    if (rc == 0)
        rc = domctl(XEN_DOMCTL_getvcpuextstate, c.domid); /* its size */
    set_xen_guest_handle(domctl_op.u.vcpuextstate.buffer, buffer);
    if (rc == 0 && domctl_op.u.vcpuextstate.size != 0 && domctl_op.u.vcpuextstate.size <= sizeof(buffer)) {
        rc = domctl(XEN_DOMCTL_getvcpuextstate, c.domid);
        if (rc == 0)
            rc = domctl(XEN_DOMCTL_setvcpuextstate, c.domid);
    }
    return rc;
}

static long act_context(void)
{
    static struct vcpu_guest_context context;

    vcpu_context_fill(&context, 0, NULL);
    context.ctrlreg[3] = 0;
    domctl_op.u.vcpucontext.vcpu = 1;
    set_xen_guest_handle(domctl_op.u.vcpucontext.ctxt, &context);
    return domctl(XEN_DOMCTL_setvcpucontext, c.domid) == -ENOMEM ? -ENOMEM
                                                                 : 0; /* without a root it is refused, later */
}

static long act_memory(void)
{
    struct xen_memory_reservation r = {.nr_extents = 8, .domid = (domid_t)c.domid};
    xen_pfn_t extents[8] = {0};

    set_xen_guest_handle(r.extent_start, extents);
    return memory_op(XENMEM_populate_physmap, &r) == 8 ? 0 : -ENOMEM;
}

static long act_audit(void)
{
    static char key[] = "a";

    memset(&domctl_op, 0, sizeof(domctl_op));
    memset(&sysctl_op, 0, sizeof(sysctl_op));
    sysctl_op.u.debug_keys.nr_keys = 1;
    set_xen_guest_handle(sysctl_op.u.debug_keys.keys, key);
    return sysctl(XEN_SYSCTL_debug_keys);
}

static void nothing(void) {}

/* ---- Page tables: taken apart by way of lists, for which there may be no memory ---- */

#define LEAF_TABLES 80U
static uint64_t *top, *leaves[LEAF_TABLES];

static void tables_begin(void)
{
    if (top == NULL) {
        top = table_alloc();
        for (unsigned i = 0; i < LEAF_TABLES; i++)
            leaves[i] = table_alloc();
    }
    page_make_writable(top);
    for (unsigned i = 0; i < LEAF_TABLES; i++)
        top[i] = make_pte(virt_to_mfn(leaves[i]), PTE_TABLE);
    page_make_readonly(top);
}

static long act_tables(void)
{
    long rc = mmuext(MMUEXT_PIN_L2_TABLE, virt_to_mfn(top), 0);

    return rc != 0 ? rc : mmuext(MMUEXT_UNPIN_TABLE, virt_to_mfn(top), 0);
}

static void tables_end(void)
{
    mmuext(MMUEXT_UNPIN_TABLE, virt_to_mfn(top), 0);
    page_make_writable(top);
    for (unsigned i = 0; i < LEAF_TABLES; i++) {
        page_make_writable(leaves[i]);
        page_make_readonly(leaves[i]);
    }
}

/* ---- By a child ---- */

static long ports_here(__attribute__((unused)) long *a)
{
    struct evtchn_alloc_unbound channel = {.dom = DOMID_SELF, .remote_dom = 0};
    long rc = 0;

    for (unsigned i = 0; i < 600 && rc == 0; i++)
        rc = event_channel_op(EVTCHNOP_alloc_unbound, &channel);
    return rc;
}

static long fifo_here(__attribute__((unused)) long *a)
{
    struct evtchn_init_control control = {.control_gfn = virt_to_mfn(page_alloc()), .vcpu = 0};
    struct evtchn_expand_array array = {.array_gfn = virt_to_mfn(page_alloc())};
    long rc = event_channel_op(EVTCHNOP_init_control, &control);

    return rc != 0 ? rc : event_channel_op(EVTCHNOP_expand_array, &array);
}

static long grants_here(__attribute__((unused)) long *a)
{
    static uint64_t frames[8];
    struct gnttab_setup_table setup = {.dom = DOMID_SELF, .nr_frames = 8, .status = 99};
    struct gnttab_set_version version = {.version = 2};
    struct gnttab_get_status_frames get = {.nr_frames = 1, .dom = DOMID_SELF, .status = 99};
    long rc;

    set_xen_guest_handle(setup.frame_list, frames);
    rc = grant_table_op(GNTTABOP_setup_table, &setup, 1);
    if (rc == 0)
        rc = setup.status;
    if (rc == 0)
        rc = grant_table_op(GNTTABOP_set_version, &version, 1);
    set_xen_guest_handle(get.frame_list, frames);
    if (rc == 0)
        rc = grant_table_op(GNTTABOP_get_status_frames, &get, 1);
    return rc != 0 ? rc : get.status;
}

/* More of its own mappings than one page holds, for devices: without an entry in a page table */
static long mappings_here(__attribute__((unused)) long *a)
{
    static uint64_t frames[1];
    struct gnttab_setup_table setup = {.dom = DOMID_SELF, .nr_frames = 1, .status = 99};
    grant_entry_v1_t *table = (void *)TEST_VA;
    long rc;

    set_xen_guest_handle(setup.frame_list, frames);
    rc = grant_table_op(GNTTABOP_setup_table, &setup, 1);
    if (rc != 0 || setup.status != 0)
        return rc != 0 ? rc : setup.status;
    map_page(TEST_VA, make_pte(frames[0], PTE_RW));
    table[8].domid = (domid_t)kit_talk.a[0];
    table[8].frame = (uint32_t)virt_to_mfn(page_alloc());
    barrier();
    table[8].flags = GTF_permit_access;
    for (unsigned i = 0; i < 1000; i++) {
        struct gnttab_map_grant_ref m = {.flags = GNTMAP_device_map, .ref = 8, .dom = (domid_t)kit_talk.a[0]};

        rc = grant_table_op(GNTTABOP_map_grant_ref, &m, 1);
        if (rc != 0 || m.status != 0)
            return rc != 0 ? rc : m.status;
    }
    return 0;
}

static long exchange_here(__attribute__((unused)) long *a)
{
    static xen_pfn_t in[4], out[4];
    struct xen_memory_exchange x = {.in = {.nr_extents = 4, .domid = DOMID_SELF},
                                    .out = {.nr_extents = 4, .domid = DOMID_SELF}};

    for (unsigned i = 0; i < 4; i++) {
        void *page = page_alloc();

        in[i] = virt_to_mfn(page);
        out[i] = virt_to_pfn(page);
        if (update_va_mapping(U(page), 0, UVMF_INVLPG) != 0)
            return 1;
    }
    set_xen_guest_handle(x.in.extent_start, in);
    set_xen_guest_handle(x.out.extent_start, out);
    return memory_op(XENMEM_exchange, &x);
}

static long more_memory_here(__attribute__((unused)) long *a)
{
    static xen_pfn_t extents[16];
    struct xen_memory_reservation r = {.nr_extents = 16, .domid = DOMID_SELF};

    for (unsigned i = 0; i < 16; i++)
        extents[i] = 400 + i;
    set_xen_guest_handle(r.extent_start, extents);
    return memory_op(XENMEM_populate_physmap, &r) == 16 ? 0 : -ENOMEM;
}

static long second_vcpu_here(__attribute__((unused)) long *a)
{
    static struct vcpu_guest_context context;

    vcpu_context_fill(&context, 1, NULL);
    return vcpu_op(VCPUOP_initialise, 1, &context);
}

static void two_vcpus_begin(void) { child_start_with(&c, 2); }

#define BY_CHILD(name)                                                                                                 \
    static long act_##name(void) { return child_call(&c, name##_here, c.domid); }
BY_CHILD(ports)
BY_CHILD(fifo)
BY_CHILD(grants)
BY_CHILD(mappings)
BY_CHILD(exchange)
BY_CHILD(more_memory)
BY_CHILD(second_vcpu)

static const struct scenario scenarios[] = {
    {"making a domain", nothing, act_create, end_create, false},
    {"a vcpu's registers, read; its extended state", vcpu_begins, act_vcpu, child_ends, false},
    {"a vcpu's registers, written", vcpu_begins, act_context, child_ends, false},
    {"memory for a domain", vcpu_begins, act_memory, child_ends, false},
    {"page tables taken apart", tables_begin, act_tables, tables_end, false},
    {"the audit", nothing, act_audit, nothing, false},
    {"event channels", child_begins, act_ports, child_ends, true},
    {"FIFO events", child_begins, act_fifo, child_ends, true},
    {"a grant table", child_begins, act_grants, child_ends, true},
    {"mappings of grants", child_begins, act_mappings, child_ends, true},
    {"exchange of memory", child_begins, act_exchange, child_ends, true},
    {"more memory", child_begins, act_more_memory, child_ends, true},
    {"a second vcpu", two_vcpus_begin, act_second_vcpu, child_ends, true},
};

/* n: which allocation fails; 0: none. Returns whether it came to that one. */
static bool once(const struct scenario *s, unsigned n)
{
    unsigned long before = free_pages(), after;
    long rc, left;

    s->begin();
    fail_allocation(n, s->by_child ? c.domid : 0);
    rc = s->act();
    left = fail_allocation(0, 0);
    s->end();
    after = free_pages();
    if (n != 0)
        check_quiet(before == after, "%s, allocation %u: %lu pages were free, %lu are", s->what, n, before, after);
    check_quiet(rc != CHILD_SILENT && (rc == 0 || (n != 0 && left == 0)), "%s, allocation %u: %ld", s->what, n, rc);
    return n != 0 && left == 0;
}

GUEST("allocations")
{
    events_enable();
    vcpu_op(VCPUOP_stop_periodic_timer, 0, NULL);
    check_equal(fail_allocation(1000000, 0), 0);
    check_equal(fail_allocation(1U << 31, 0), 1000000);
    check_equal(hypercall(__HYPERVISOR_croft_op, CROFT_OP_fail_allocation, 1UL << 32, 0, 0, 0), -EINVAL);
    check(fail_allocation(0, 0) > 999990, "an order is taken back");
    for (unsigned i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
        const struct scenario *s = &scenarios[i];
        unsigned n = 1;

        once(s, 0); /* what is used for the first time, and stays */
        while (n < MOST && once(s, n))
            n++;
        check(n > 1 && n < MOST, "%s: %u allocations, each failed once", s->what, n - 1);
        audit(s->what);
    }
}
