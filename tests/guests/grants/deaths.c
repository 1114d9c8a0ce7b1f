/*
 * One side dies, or both. A frame that is mapped stays as it is until it is unmapped, and so long its dead owner keeps
 * its number; what a dead domain had mapped is given back at once.
 */
#include "grants.h"

#define HOST GNTMAP_host_map

static bool is_dying(unsigned domid, unsigned pages)
{
    long flags = domain_flags(domid);

    return flags >= 0 && (flags & XEN_DOMINF_dying) && domctl_op.u.getdomaininfo.tot_pages == pages;
}

static void the_granter(bool by_child, bool overwrite)
{
    struct child *mapper;
    grant_handle_t h, h2;
    unsigned id;

    children_start(2);
    mapper = by_child ? second : NULL;
    id = first->domid;
    grant(first, 9, GTF_permit_access, mapper, 0);
    grant(first, 10, GTF_permit_access | GTF_readonly, mapper, 1);
    page_poke(first, 0, 5, 0x1234);
    page_poke(first, 1, 511, 0x5678);
    check_equal(map(mapper, 1, HOST, first, 9, &h), GNTST_okay);
    check_equal(map(mapper, 2, HOST | GNTMAP_readonly, first, 10, &h2), GNTST_okay);
    if (overwrite)
        check_equal(write_entry(mapper, 1, 0), 0);
    check_equal(child_destroy(first), 0);
    check(is_dying(id, 2), "two frames of d%u stay", id);
    if (!overwrite) {
        check_equal(peek(mapper, 1, 5), 0x1234);
        poke(mapper, 1, 5, 0x4321);
        check_equal(peek(mapper, 1, 5), 0x4321);
    }
    check_equal(peek(mapper, 2, 511), 0x5678);
    check(map(mapper, 3, HOST, first, 9, NULL) < 0, "a dead domain grants nothing");
    check(copy(mapper, (struct end){id, 9, 0}, (struct end){DOMID_SELF, page_frame(mapper, 0), 0}, 8) < 0,
          "not even a copy");
    check_equal(domctl(XEN_DOMCTL_destroydomain, id), 0);
    audit("the granter is dead");
    check_equal(unmap(mapper, 1, h), GNTST_okay);
    check(is_dying(id, 1), "one frame of d%u stays", id);
    check_equal(peek(mapper, 2, 511), 0x5678);
    check_equal(unmap(mapper, 2, h2), GNTST_okay);
    check(domain_gone(id), "d%u goes with the last mapping", id);
    child_end(second);
}

static void granter_of_domain0(void) { the_granter(false, false); }
static void granter_of_child(void) { the_granter(true, false); }
static void granter_overwritten(void) { the_granter(true, true); }

/* No reference is left over to a page: it can be a table. */
static long table_of_page_here(long *a)
{
    unsigned long frame = U(a[0]);
    void *page = mfn_to_virt(frame);
    long rc;

    if (page == NULL || page_set_flags(page, PTE_RO) != 0)
        return -1;
    rc = mmuext(MMUEXT_PIN_L1_TABLE, frame, 0);
    if (rc == 0)
        rc = mmuext(MMUEXT_UNPIN_TABLE, frame, 0);
    page_make_writable(page);
    return rc;
}

static void the_mapper(bool of_child)
{
    struct child *granter;

    children_start(2);
    granter = of_child ? first : NULL;
    grant(granter, 9, GTF_permit_access, second, 2);
    grant(granter, 10, GTF_permit_access | GTF_readonly, second, 1);
    for (unsigned i = 0; i < 16; i++) {
        page_poke(granter, 2, i, 0);
        check_quiet(map(second, i, HOST | (i & 1 ? GNTMAP_readonly : 0), granter, 9 + (i & 1), NULL) == GNTST_okay,
                    "mapping %u", i);
    }
    check_equal(map_at(second, 0, GNTMAP_device_map, id_of(granter), 9, NULL), GNTST_okay);
    check_equal(write_entry(second, 4, 0), 0);
    check_equal(grant_flags(granter, 9), GTF_permit_access | MARKS);
    check_negative(child_call(granter, table_of_page_here, (long)page_frame(granter, 2)));
    child_end(second);
    check_equal(grant_flags(granter, 9), GTF_permit_access);
    check_equal(grant_flags(granter, 10), GTF_permit_access | GTF_readonly);
    for (unsigned i = 0; i < 16; i++)
        page_poke(granter, 2, i, 0);
    check_equal(child_call(granter, table_of_page_here, (long)page_frame(granter, 2)), 0);
    child_end(first);
}

static void mapper_of_child(void) { the_mapper(true); }
static void mapper_of_domain0(void) { the_mapper(false); }

/* Each has mapped of the other, and of itself. */
static void map_each_other(void)
{
    children_start(2);
    grant(first, 9, GTF_permit_access, second, 0);
    grant(second, 9, GTF_permit_access, first, 0);
    grant(first, 10, GTF_permit_access, first, 1);
    check_quiet(map(second, 1, HOST, first, 9, NULL) == GNTST_okay, "mapping");
    check_quiet(map(first, 1, HOST, second, 9, NULL) == GNTST_okay, "mapping");
    check_quiet(map(first, 2, HOST, first, 10, NULL) == GNTST_okay, "mapping");
}

static void both_in_turn(void)
{
    map_each_other();
    check_equal(child_destroy(first), 0);
    check(is_dying(first->domid, 1), "the second still has a frame of the first");
    check_equal(child_destroy(second), 0);
    check(domain_gone(first->domid) && domain_gone(second->domid), "both go");
}

static void both_the_other_way(void)
{
    map_each_other();
    check_equal(child_destroy(second), 0);
    check(is_dying(second->domid, 1), "the first still has a frame of the second");
    check_equal(child_destroy(first), 0);
    check(domain_gone(first->domid) && domain_gone(second->domid), "both go");
}

static volatile unsigned gate;

static void destroy_second(void *op)
{
    while (gate == 0)
        ;
    hypercall(__HYPERVISOR_domctl, U(op), 0, 0, 0, 0);
}

static void both_at_once(void)
{
    static struct xen_domctl op;

    for (unsigned i = 0; i < 20; i++) {
        map_each_other();
        child_let_go(second);
        op = (struct xen_domctl){.cmd = XEN_DOMCTL_destroydomain,
                                 .interface_version = XEN_DOMCTL_INTERFACE_VERSION,
                                 .domain = (domid_t)second->domid};
        gate = 0;
        second_begin(destroy_second, &op);
        spin_ns(2000000);
        gate = 1;
        spin_ns(i * 3000);
        check_quiet(child_destroy(first) == 0, "destroying the first");
        second_wait();
        check_quiet(domain_gone(first->domid) && domain_gone(second->domid), "both go: %lx, %lx",
                    domain_flags(first->domid), domain_flags(second->domid));
    }
}

/* One page with three that have mapped it: they die one after the other, the owner as the 'when'th. */
static void among_four(void)
{
    for (unsigned when = 0; when < 3; when++) {
        struct child *order[3];
        grant_handle_t h;
        unsigned n = 0;

        children_start(3);
        grant(first, 9, GTF_permit_access, second, 0);
        grant(first, 10, GTF_permit_access, third, 0);
        grant(first, 11, GTF_permit_access, NULL, 0);
        check_quiet(map(second, 1, HOST, first, 9, NULL) == GNTST_okay, "mapping");
        check_quiet(map(third, 1, HOST | GNTMAP_readonly, first, 10, NULL) == GNTST_okay, "mapping");
        check_quiet(map(NULL, 1, HOST, first, 11, &h) == GNTST_okay, "mapping");
        poke(NULL, 1, 0, 0x99);
        check_quiet(peek(third, 1, 0) == 0x99, "all see it");
        for (unsigned i = 0; i < 3; i++)
            order[i] = i == when ? first : n++ == 0 ? second : third;
        for (unsigned i = 0; i < 3; i++) {
            check_quiet(child_destroy(order[i]) == 0, "destroying one");
            check_quiet(peek(NULL, 1, 0) == 0x99, "it is still there");
        }
        check(is_dying(first->domid, 1), "only domain 0 has it");
        check(domain_gone(second->domid) && domain_gone(third->domid), "the others are gone");
        check_equal(unmap(NULL, 1, h), GNTST_okay);
        check(domain_gone(first->domid), "and now all are");
    }
}

/* The granter gives the frame back, and lives: its owner has it until it is unmapped. */
static long give_back_here(long *a)
{
    xen_pfn_t frame = U(a[0]);
    struct xen_memory_reservation r = {.nr_extents = 1, .domid = DOMID_SELF};

    set_xen_guest_handle(r.extent_start, &frame);
    if (update_va_mapping(U(mfn_to_virt(frame)), 0, UVMF_INVLPG | UVMF_ALL) != 0)
        return -1;
    return memory_op(XENMEM_decrease_reservation, &r);
}

static void given_back(void)
{
    unsigned long frame, before;
    grant_handle_t h;

    children_start(2);
    grant(first, 9, GTF_permit_access, second, 0);
    page_poke(first, 0, 1, 0xabc);
    frame = page_frame(first, 0);
    check_equal(map(second, 1, HOST, first, 9, &h), GNTST_okay);
    before = free_pages();
    check_equal(child_call(first, give_back_here, (long)frame), 1);
    check_equal(free_pages(), before);
    check_equal(peek(second, 1, 1), 0xabc);
    poke(second, 1, 1, 0xdef);
    check(map(second, 2, HOST, first, 9, NULL) == GNTST_okay, "it is the owner's, as long as it is there");
    check_equal(write_entry(second, 2, 0), 0);
    check_equal(peek(second, 1, 1), 0xdef);
    check_equal(unmap(second, 1, h), GNTST_okay);
    check_equal(unmap(second, 2, h + 1), GNTST_okay);
    check_equal(free_pages(), before + 1);
    check(map(second, 2, HOST, first, 9, NULL) < 0, "and then no more");
    children_end();
}

/* ---- In the middle of it ---- */

/* Maps, copies and unmaps as long as the other one is there; the result is how often. */
static long use_here(long *a)
{
    static uint64_t buffer[8];
    long rounds = 0;

    for (;; rounds++) {
        struct gnttab_map_grant_ref m = {
            .host_addr = slot_address(7), .flags = HOST, .ref = 9, .dom = (domid_t)a[0], .status = 99};
        struct gnttab_unmap_grant_ref u = {.host_addr = slot_address(7)};
        struct gnttab_copy c = {.flags = GNTCOPY_source_gref, .len = 64};

        c.source.domid = (domid_t)a[0];
        c.source.u.ref = 9;
        c.dest.domid = DOMID_SELF;
        c.dest.u.gmfn = virt_to_mfn(buffer);
        c.dest.offset = (uint16_t)(U(buffer) & 4095 & ~63UL);
        grant_table_op(GNTTABOP_map_grant_ref, &m, 1);
        grant_table_op(GNTTABOP_copy, &c, 1);
        if (m.status == GNTST_okay) {
            (*(volatile uint64_t *)slot_address(7))++;
            u.handle = m.handle;
            grant_table_op(GNTTABOP_unmap_grant_ref, &u, 1);
            a[1] = rounds;
        } else {
            return rounds;
        }
    }
}

static void use(void *domid)
{
    long a[CHILD_ARGS] = {(long)domid};

    use_here(a);
}

static void granter_in_use_by_domain0(void)
{
    for (unsigned i = 0; i < 20; i++) {
        children_start(1);
        grant(first, 9, GTF_permit_access, NULL, 0);
        second_begin(use, (void *)(unsigned long)first->domid);
        spin_ns(2000000 + i * 70000);
        check_quiet(!second_done(), "domain 0's second vcpu uses the grant");
        check_quiet(child_destroy(first) == 0, "destroying the granter");
        second_wait();
        check_quiet(domain_gone(first->domid), "d%u stays: %lx", first->domid, domain_flags(first->domid));
    }
}

/* Waits until the second child is at it, and a little longer. */
static void wait_for_use(unsigned i)
{
    uint64_t limit = time_now() + 2000000000UL;

    child_begin(second, use_here, (const long[CHILD_ARGS]){first->domid});
    while (second->talk->a[1] == 0 && time_now() < limit)
        sched_op(SCHEDOP_yield, NULL);
    check_quiet(second->talk->a[1] > 0, "d%u does not use the grant", second->domid);
    spin_ns(i * 70000);
}

static void one_in_use_by_the_other(bool granter_dies)
{
    for (unsigned i = 0; i < 10; i++) {
        children_start(2);
        grant(first, 9, GTF_permit_access, second, 0);
        wait_for_use(i);
        if (granter_dies) {
            check_quiet(child_destroy(first) == 0, "destroying the granter");
            child_wait(second);
            check_quiet(domain_gone(first->domid), "d%u stays", first->domid);
            child_end(second);
        } else {
            child_end(second);
            check_quiet((grant_flags(first, 9) & MARKS) == 0, "its marks stay");
            child_end(first);
        }
    }
}

static void granter_in_use_by_child(void) { one_in_use_by_the_other(true); }
static void mapper_in_use(void) { one_in_use_by_the_other(false); }

void deaths(void)
{
    leaves_nothing("a granter dies, mapped by domain 0", granter_of_domain0);
    leaves_nothing("a granter dies, mapped by a child", granter_of_child);
    leaves_nothing("a granter dies, its mapper has overwritten an entry", granter_overwritten);
    leaves_nothing("a mapper dies, of a child's", mapper_of_child);
    leaves_nothing("a mapper dies, of domain 0's", mapper_of_domain0);
    leaves_nothing("both in turn", both_in_turn);
    leaves_nothing("both the other way", both_the_other_way);
    leaves_nothing("both at once", both_at_once);
    leaves_nothing("four with one page", among_four);
    leaves_nothing("given back while mapped", given_back);
    leaves_nothing("a granter dies, in use by domain 0", granter_in_use_by_domain0);
    leaves_nothing("a granter dies, in use by a child", granter_in_use_by_child);
    leaves_nothing("a mapper dies while it maps", mapper_in_use);
}
