/* run: cpus=2,4 smp=2 append="dom0_max_vcpus=2" time=40 */
/*
 * Translations of another domain's frames: domain 0's second vcpu, alone on CPU 1, writes to a frame of a child's that
 * runs on CPU 0 only. The mapping goes without a flush, so the writes go on; but not a moment longer than the frame is
 * what it was: a page of the child's, and not a page table, free, or somebody else's.
 */
#include "child.h"

#define ROUNDS 12
#define WORD 511 /* of the page, which is written */

static struct child c, next;
static volatile unsigned long loops, faults;
static volatile unsigned stop;
static unsigned stale_rounds;

static bool note_fault(struct regs *r)
{
    if (vcpu_id() != 1)
        return false;
    faults++;
    stop = 1;
    r->rip = r->rbx; /* the loop keeps its way out there */
    return true;
}

static void write_loop(void *where)
{
    uint64_t n = 0;

    while (stop == 0) {
        asm volatile("leaq 1f(%%rip), %%rbx; movq %0, (%1); 1:" : : "r"(n), "r"(where) : "rbx", "memory");
        n += 2; /* never a present entry */
        loops++;
    }
}

static bool writes_more(unsigned long count)
{
    unsigned long from = loops;
    uint64_t limit = time_now() + 1000000000UL;

    while (loops - from < count && stop == 0 && time_now() < limit)
        asm volatile("pause");
    return loops - from >= count;
}

static void start_writing(void)
{
    loops = faults = stop = 0;
    second_begin(write_loop, (void *)(TEST_VA + WORD * 8));
    check_quiet(writes_more(50), "the second vcpu does not write");
}

/* Takes the mapping away, and nobody is told. */
static void unmap_quietly(void)
{
    check_quiet(mmu_write(pte_of(TEST_VA), 0) == 0, "unmapping");
    stale_rounds += writes_more(50);
}

/* The writer has met a page fault by now, or will with its next write. */
static void check_ended(const char *when)
{
    uint64_t limit = time_now() + 200000000UL;

    while (faults == 0 && time_now() < limit)
        asm volatile("pause");
    check_quiet(faults != 0, "%s: the writes go on", when);
    stop = 1;
    second_wait();
    mmuext(MMUEXT_TLB_FLUSH_ALL, 0, 0);
}

static void start_on_cpu0(struct child *child)
{
    child_create(child, 1);
    pin_vcpu(child->domid, 0, 0);
    child_populate(child);
    child_fill(child);
    child_set_context(child);
    child_connect(child);
    child_unpause(child);
}

/* ---- What the child does ---- */

static uint64_t *page;

static long frame_here(long *a)
{
    if (page == NULL || a[0] != 0)
        page = page_alloc();
    return (long)virt_to_mfn(page);
}

static long make_table_here(long *a)
{
    a[1] = page_set_flags(page, PTE_RO);
    return mmuext(MMUEXT_PIN_L1_TABLE, virt_to_mfn(page), 0);
}

static long is_changing_here(long *a)
{
    long before = ((volatile long *)page)[WORD];

    spin_ns(U(a[0]));
    return ((volatile long *)page)[WORD] != before;
}

static long end_table_here(long *a)
{
    a[1] = mmuext(MMUEXT_UNPIN_TABLE, virt_to_mfn(page), 0);
    return page_set_flags(page, PTE_RW);
}

/* Gives the page's frame back and takes one for it: which one it is now. */
static long trade_here(long *a)
{
    xen_pfn_t extent = virt_to_mfn(page);
    struct xen_memory_reservation r = {.nr_extents = 1, .domid = DOMID_SELF};

    set_xen_guest_handle(r.extent_start, &extent);
    a[1] = update_va_mapping(U(page), 0, UVMF_INVLPG) == 0 ? memory_op(XENMEM_decrease_reservation, &r) : -1;
    extent = virt_to_pfn(page);
    if (a[1] != 1 || memory_op(XENMEM_populate_physmap, &r) != 1)
        return -1;
    p2m[virt_to_pfn(page)] = extent;
    return update_va_mapping(U(page), make_pte(extent, PTE_RW), UVMF_INVLPG) == 0 ? (long)extent : -2;
}

/* ---- The cases ---- */

static void becomes_a_table(void)
{
    unsigned changed = 0;

    for (unsigned i = 0; i < ROUNDS; i++) {
        long frame = child_call(&c, frame_here, 0);

        check_quiet(map_foreign(c.domid, TEST_VA, U(frame), PTE_RW) == 0, "mapping");
        start_writing();
        unmap_quietly();
        check_quiet(child_call(&c, make_table_here) == 0, "it becomes a table");
        changed += child_call(&c, is_changing_here, 1000000) != 0;
        check_ended("a page table");
        check_quiet(child_call(&c, end_table_here) == 0, "and a page again");
    }
    check(changed == 0, "a child's page table was written by domain 0 in %u of %u rounds", changed, ROUNDS);
}

static void becomes_free(void)
{
    unsigned reused = 0, changed = 0;

    for (unsigned i = 0; i < ROUNDS; i++) {
        long frame = child_call(&c, frame_here, 0);

        check_quiet(map_foreign(c.domid, TEST_VA, U(frame), PTE_RW) == 0, "mapping");
        start_writing();
        unmap_quietly();
        if (child_call(&c, trade_here) == frame) {
            reused++;
            changed += child_call(&c, is_changing_here, 1000000) != 0;
            check_ended("a frame that was freed and given anew");
        }
        stop = 1;
        second_wait();
        mmuext(MMUEXT_TLB_FLUSH_ALL, 0, 0);
    }
    check(reused > 0 && changed == 0, "a frame was freed and given anew %u times, and written %u times", reused,
          changed);
}

static void owner_dies(void)
{
    unsigned reused = 0;

    for (unsigned i = 0; i < 4; i++) {
        long frame = child_call(&c, frame_here, 0);
        bool again = false;

        check_quiet(map_foreign(c.domid, TEST_VA, U(frame), PTE_RW) == 0, "mapping");
        start_writing();
        unmap_quietly();
        child_end(&c);
        child_create(&next, 1);
        child_populate(&next);
        for (unsigned j = 0; j < next.pages; j++)
            again = again || next.frames[j] == U(frame);
        if (again) {
            reused++;
            check_ended("a dead domain's frame that another has");
        }
        stop = 1;
        second_wait();
        mmuext(MMUEXT_TLB_FLUSH_ALL, 0, 0);
        child_end(&next);
        start_on_cpu0(&c);
    }
    check(reused > 0, "a dead domain's frame came to another %u times", reused);
}

/* By a grant: unmapping it is the end, for all CPUs, whether the entry is still there or not. */

static grant_entry_v1_t *const table = (void *)TEST_VA2;

static long grant_here(long *a)
{
    xen_pfn_t frame;
    struct gnttab_setup_table s = {.dom = DOMID_SELF, .nr_frames = 1, .status = 99};

    set_xen_guest_handle(s.frame_list, &frame);
    map_page(TEST_VA2, 0);
    if (grant_table_op(GNTTABOP_setup_table, &s, 1) != 0 || s.status != GNTST_okay ||
        mmu_write(pte_of(TEST_VA2), make_pte(frame, PTE_RW)) != 0)
        return -1;
    table[9].frame = (uint32_t)virt_to_mfn(page);
    table[9].domid = 0;
    barrier();
    table[9].flags = GTF_permit_access;
    return a[0];
}

static void grant_unmapped(void)
{
    unsigned changed = 0;

    child_call(&c, frame_here, 0);
    check_equal(child_call(&c, grant_here, 0), 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct gnttab_map_grant_ref m = {
            .host_addr = TEST_VA, .flags = GNTMAP_host_map, .ref = 9, .dom = (domid_t)c.domid, .status = 99};
        struct gnttab_unmap_grant_ref u = {.host_addr = TEST_VA, .status = 99};

        grant_table_op(GNTTABOP_map_grant_ref, &m, 1);
        check_quiet(m.status == GNTST_okay, "map_grant_ref: %d", m.status);
        start_writing();
        if (i % 2 != 0)
            unmap_quietly();
        u.handle = m.handle;
        grant_table_op(GNTTABOP_unmap_grant_ref, &u, 1);
        check_quiet(u.status == GNTST_okay, "unmap_grant_ref: %d", u.status);
        changed += child_call(&c, is_changing_here, 1000000) != 0;
        check_ended("a grant that is unmapped");
    }
    check(changed == 0, "a grant was written after it was unmapped in %u of %u rounds", changed, ROUNDS);
}

GUEST("stale")
{
    map_page(TEST_VA, 0);
    trap_hooks[14] = note_fault;
    second_start();
    pin_vcpu(0, 0, 0);
    pin_vcpu(0, 1, 1);
    start_on_cpu0(&c);
    becomes_a_table();
    becomes_free();
    owner_dies();
    grant_unmapped();
    child_end(&c);
    audit("at the end");
    printf("   a stale translation was in use in %u rounds\n", stale_rounds);
}
