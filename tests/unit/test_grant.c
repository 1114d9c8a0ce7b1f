/* sources: hypervisor/memory/frame.c hypervisor/memory/frame_claim.c hypervisor/hvm/p2m.c hypervisor/hvm/pod.c hypervisor/memory/audit.c hypervisor/pv/mmu_types.c hypervisor/pv/mmuext.c hypervisor/pv/mmu.c hypervisor/pv/mmu_grant.c hypervisor/domain/domain_destroy.c hypervisor/domain/grant_table.c hypervisor/domain/grant_map.c hypervisor/domain/grant_copy.c hypervisor/hypercall/grant_table.c */
/*
 * Grants between two domains, with the real frame table and page tables, on the machine of fake_mmu.h: every form that is legal
 * and every one that is not, then random sequences. After each step each data frame has exactly the references of what can be
 * seen of it, and what a CPU may still hold of another domain's frame has a mapping that says so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define FAIL_TEST(text) fail_msg("%s", text)
#define PAGE_POOL 32
#include "fake_mmu.h"

static uint64_t random_state;
static unsigned pick(unsigned n)
{
    random_state = random_state * 6364136223846793005UL + 1442695040888963407UL;
    return n <= 1 ? 0 : (unsigned)((random_state >> 33) % n);
}

#define D1 (&doms[0])
#define D2 (&doms[1])
#define TABLE_FRAMES 4
#define SLOT 300 /* the first slot of free L1 entries of each domain */
#define VA(i) ((uint64_t)(SLOT + (i)) << PAGE_SHIFT)
#define DATA(d, i) dom_mfn(d, 8 + (i) % 4) /* mapped writable at the start */
#define ACCESS GTF_permit_access
#define MARKS (GTF_reading | GTF_writing)

/* ---- The allocator's part in a transfer ---- */

static bool receiver_full;
bool alloc_take_claimed_frame(mfn_t m, struct domain *from)
{
    if (FRAME_REFS(frames[m.n].control) != 1)
        return false;
    frames[m.n].control = 1 | (uint64_t)DOMID_CROFT << 32;
    from->tot_pages--;
    return true;
}
bool alloc_reserve_frame(struct domain *d)
{
    d->tot_pages += !receiver_full && !d->dying;
    return !receiver_full && !d->dying;
}
void alloc_unreserve_frame(struct domain *d) { d->tot_pages--; }
void alloc_give_taken_frame(mfn_t m, struct domain *to)
{
    frames[m.n].control = 1 | (uint64_t)to->id << 32 | FRAME_ALLOCATED;
    to_release[m.n] = true;
}
void free_frames(mfn_t m, unsigned order) { frames[m.n].control = (uint64_t)DOMID_FREE << 32; }

/* ---- The model ---- */

struct uses {
    unsigned all[RAM_FRAMES], writable[RAM_FRAMES];
};

static void count_use(void *arg, mfn_t m, bool writable)
{
    struct uses *u = arg;

    u->all[m.n]++;
    u->writable[m.n] += writable;
}

static bool is_granted(const struct domain *d, mfn_t m)
{
    struct uses u = {.all = {0}};

    grant_each_mapping(d, count_use, &u);
    return u.all[m.n];
}

static void check_grants(void)
{
    struct uses mapped[2] = {{.all = {0}}}, all = {.all = {0}};

    check_all();
    for (unsigned i = 0; i < 2; i++) {
        grant_each_mapping(&doms[i], count_use, &mapped[i]);
        grant_each_mapping(&doms[i], count_use, &all);
        REQUIRE(!spin_is_locked(&doms[i].grant.lock) && !spin_is_locked(&doms[i].grant.map_lock) && doms[i].refs == 2);
    }
    for (unsigned m = 0; m < RAM_FRAMES; m++)
        for (unsigned i = 0; TYPE_COUNT(frames[m].type) && TYPE_OF(frames[m].type) == FRAME_L1 && i < 512; i++)
            if ((ram[m][i] & PTE_PRESENT) && pte_mfn(ram[m][i]).n < RAM_FRAMES)
                count_use(&all, pte_mfn(ram[m][i]), ram[m][i] & PTE_WRITE);
    for (unsigned m = 0; m < RAM_FRAMES; m++) {
        domid_t owner = frame_owner(&frames[m]);
        uint64_t t = frames[m].type;

        if ((owner != 1 && owner != 2) || frames[m].control & FRAME_SHARED)
            continue;
        if (!TYPE_COUNT(t) || TYPE_OF(t) <= FRAME_WRITABLE) {
            REQUIRE(FRAME_REFS(frames[m].control) == all.all[m] + !!(frames[m].control & FRAME_ALLOCATED));
            REQUIRE(TYPE_COUNT(t) == all.writable[m]);
        }
        for (unsigned cpu = 0; cpu < CPUS; cpu++) {
            unsigned d = cpu / 2;

            if (owner == doms[d].id)
                continue;
            REQUIRE(!tlb[cpu].read[m] || mapped[d].all[m]);
            REQUIRE(!tlb[cpu].write[m] || mapped[d].writable[m]);
        }
    }
}

/* ---- Entries and calls ---- */

static grant_entry_v1_t *v1(struct domain *d, unsigned ref)
{
    return (grant_entry_v1_t *)d->grant.shared[ref / 512] + ref % 512;
}
static grant_entry_v2_t *v2(struct domain *d, unsigned ref)
{
    return (grant_entry_v2_t *)d->grant.shared[ref / 256] + ref % 256;
}
static unsigned marks(struct domain *d, unsigned ref)
{
    return (d->grant.version == 1 ? v1(d, ref)->flags : d->grant.status[0][ref]) & MARKS;
}
static void set_v1(struct domain *d, unsigned ref, unsigned flags, unsigned by, uint64_t mfn)
{
    *v1(d, ref) = (grant_entry_v1_t){(uint16_t)flags, (domid_t)by, (uint32_t)mfn};
}
static void set_v2(struct domain *d, unsigned ref, unsigned flags, unsigned by, uint64_t mfn)
{
    v2(d, ref)->full_page.frame = mfn;
    v2(d, ref)->hdr = (grant_entry_header_t){(uint16_t)flags, (domid_t)by};
}
static void set_grant(struct domain *d, unsigned ref, unsigned flags, unsigned by, uint64_t mfn)
{
    (d->grant.version == 1 ? set_v1 : set_v2)(d, ref, flags, by, mfn);
}

static long op(unsigned cmd, void *ops, unsigned n)
{
    return hypercall(hypercall_grant_table_op, cmd, (uint64_t)ops, n, 0);
}
static grant_handle_t handle;
static int map(uint64_t address, unsigned flags, unsigned dom, unsigned ref)
{
    struct gnttab_map_grant_ref m = {
        .host_addr = address, .flags = flags, .ref = ref, .dom = (domid_t)dom, .status = 99};

    assert_int_equal(op(GNTTABOP_map_grant_ref, &m, 1), 0);
    handle = m.handle;
    assert_int_equal(m.dom, dom);
    return m.status;
}
static int unmap(uint64_t address, uint64_t bus, grant_handle_t h)
{
    struct gnttab_unmap_grant_ref u = {.host_addr = address, .dev_bus_addr = bus, .handle = h, .status = 99};

    assert_int_equal(op(GNTTABOP_unmap_grant_ref, &u, 1), 0);
    return u.status;
}
static int replace(uint64_t address, uint64_t new_address, grant_handle_t h)
{
    struct gnttab_unmap_and_replace u = {.host_addr = address, .new_addr = new_address, .handle = h, .status = 99};

    assert_int_equal(op(GNTTABOP_unmap_and_replace, &u, 1), 0);
    return u.status;
}
static long set_version(unsigned version) { return op(GNTTABOP_set_version, &(struct gnttab_set_version){version}, 1); }
static uint64_t *pte(unsigned d, unsigned i) { return &ram[dom_mfn(d, ROOT_L1)][SLOT + i]; }
static uint64_t pte_address(unsigned d, unsigned i) { return dom_mfn(d, ROOT_L1) << PAGE_SHIFT | (SLOT + i) * 8; }
static void as(unsigned domain) { self = domain == 1 ? 0 : 2; }

static int setup(void **state)
{
    memset(pool_used, 0, sizeof(pool_used));
    start_machine();
    granted = is_granted;
    receiver_full = false;
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(grant_init_domain(&doms[i], TABLE_FRAMES, 2, 2), 0);
    as(2);
    check_grants();
    return 0;
}

static int teardown(void **state)
{
    preempt = NULL;
    check_grants();
    for (unsigned i = 0; i < 2; i++) {
        assert_true(grant_release_mappings(&doms[i]));
        /* Their vcpus run no more. */
        for (unsigned cpu = i * 2; cpu < i * 2 + 2; cpu++)
            memset(&tlb[cpu], 0, sizeof(tlb[cpu]));
    }
    for (unsigned i = 0; i < 2; i++)
        grant_destroy_domain(&doms[i]);
    granted = NULL;
    /* What the guests left of mappings goes with their page tables. */
    for (unsigned i = 0; i < 2; i++)
        for (unsigned s = 0; s < 64; s++) {
            as(i + 1);
            assert_int_equal(set_entry(dom_mfn(i, ROOT_L1), SLOT + s, 0), 0);
        }
    end_machine();
    return 0;
}

/* A frame that nothing uses */
static uint64_t unused_frame(unsigned d, unsigned n)
{
    for (unsigned i = FIRST_OTHER; i < DOMAIN_FRAMES; i++)
        if (frames[dom_mfn(d, i)].control == (1 | (uint64_t)(d + 1) << 32 | FRAME_ALLOCATED) && !n--)
            return dom_mfn(d, i);
    fail();
    return 0;
}

/* ---- Mapping ---- */

static void a_mapping_and_its_end(void **state)
{
    uint64_t m = DATA(0, 0);

    set_v1(D1, 9, ACCESS, 2, m);
    assert_int_equal(map(VA(0), GNTMAP_host_map | 5U << 16, 1, 9), GNTST_okay);
    check_grants();
    assert_true(*pte(1, 0) == (entry(m, RW | PTE_NX) | 5UL << 9));
    assert_int_equal(marks(D1, 9), MARKS);
    assert_true(frames[m].control & FRAME_FOREIGN);
    assert_int_equal(FRAME_REFS(frames[m].control), 4);
    assert_int_equal(unmap(VA(0), 0, handle), GNTST_okay);
    assert_true(*pte(1, 0) == 0);
    assert_int_equal(marks(D1, 9), 0);
    assert_int_equal(FRAME_REFS(frames[m].control), 2);
    assert_int_equal(unmap(VA(0), 0, handle), GNTST_bad_handle);
    check_grants();
}

static void read_only_and_by_entry(void **state)
{
    uint64_t m = DATA(0, 1);

    set_v1(D1, 9, ACCESS | GTF_readonly, 2, m);
    assert_int_equal(map(pte_address(1, 3), GNTMAP_host_map | GNTMAP_contains_pte | GNTMAP_application_map, 1, 9),
                     GNTST_general_error);
    assert_int_equal(map(pte_address(1, 3), GNTMAP_host_map | GNTMAP_contains_pte | GNTMAP_readonly, 1, 9), GNTST_okay);
    assert_true(*pte(1, 3) == entry(m, RO | PTE_DIRTY | PTE_NX));
    assert_int_equal(marks(D1, 9), GTF_reading);
    check_grants();
    assert_int_equal(unmap(VA(3), 0, handle), GNTST_general_error); /* that is the entry's virtual address */
    assert_int_equal(unmap(pte_address(1, 4), 0, handle), GNTST_general_error);
    assert_int_equal(unmap(pte_address(1, 3), 0, handle), GNTST_okay);
    check_grants();
    /* A page table may be looked at. */
    set_v1(D1, 10, ACCESS, 2, dom_mfn(0, ROOT_L1));
    assert_int_equal(map(VA(1), GNTMAP_host_map, 1, 10), GNTST_general_error);
    assert_int_equal(map(VA(1), GNTMAP_host_map | GNTMAP_readonly, 1, 10), GNTST_okay);
    check_grants();
    assert_int_equal(unmap(VA(1), 0, handle), GNTST_okay);
}

static void maps_that_are_refused(void **state)
{
    const unsigned flags = GNTMAP_host_map;

    set_v1(D1, 9, ACCESS, 2, DATA(0, 0));
    set_v1(D1, 10, ACCESS, 1, DATA(0, 0));
    set_v1(D1, 11, GTF_accept_transfer, 2, DATA(0, 0));
    set_v1(D1, 12, GTF_transitive, 2, DATA(0, 0));
    set_v1(D1, 13, ACCESS | GTF_sub_page, 2, DATA(0, 0));
    set_v1(D1, 14, ACCESS, 2, DATA(1, 0));
    set_v1(D1, 15, ACCESS, 2, SHARED_RW);
    set_v1(D1, 16, ACCESS, 2, IO_FIRST);
    set_v1(D1, 17, ACCESS, 2, IO_FULL_MFN);
    set_v1(D1, 18, ACCESS, 2, FREE_FIRST);
    set_v1(D1, 19, ACCESS, 2, HOLE_TABLES);
    set_v1(D1, 20, ACCESS, 2, 0xffffffff);
    assert_int_equal(map(VA(0), 0, 1, 9), GNTST_bad_gntref);
    assert_int_equal(map(VA(0), flags, 3, 9), GNTST_bad_domain);
    assert_int_equal(map(VA(0), flags, DOMID_SELF, 9), GNTST_bad_domain);
    assert_int_equal(map(VA(0), flags, 1, 8), GNTST_general_error);
    assert_int_equal(map(VA(0), flags, 1, 512), GNTST_bad_gntref);
    assert_int_equal(map(VA(0), flags, 1, ~0U), GNTST_bad_gntref);
    for (unsigned ref = 10; ref <= 13; ref++)
        assert_int_equal(map(VA(0), flags, 1, ref), GNTST_general_error);
    for (unsigned ref = 14; ref <= 20; ref++)
        assert_int_equal(map(VA(0), flags, 1, ref), GNTST_bad_page);
    assert_int_equal(map(HOLE_START, flags, 1, 9), GNTST_general_error);
    assert_int_equal(map(0x800000000000, flags, 1, 9), GNTST_general_error);
    assert_int_equal(map(1UL << 39, flags, 1, 9), GNTST_general_error);
    assert_int_equal(map(pte_address(1, 0) + 4, flags | GNTMAP_contains_pte, 1, 9), GNTST_general_error);
    assert_int_equal(map(pte_address(0, 0), flags | GNTMAP_contains_pte, 1, 9), GNTST_general_error);
    assert_int_equal(map(dom_mfn(1, ROOT_L2) << PAGE_SHIFT, flags | GNTMAP_contains_pte, 1, 9), GNTST_general_error);
    assert_int_equal(map(DATA(1, 0) << PAGE_SHIFT, flags | GNTMAP_contains_pte, 1, 9), GNTST_general_error);
    assert_int_equal(map(~7UL, flags | GNTMAP_contains_pte, 1, 9), GNTST_general_error);
    for (unsigned ref = 8; ref <= 20; ref++)
        assert_int_equal(marks(D1, ref), 0);
    D1->dying = true;
    assert_int_equal(map(VA(0), flags, 1, 9), GNTST_bad_gntref);
    D1->dying = false;
    assert_int_equal(D2->grant.mapped, 0);
    check_grants();
}

static void host_and_device(void **state)
{
    uint64_t m = DATA(0, 0);

    set_v1(D1, 9, ACCESS, 2, m);
    assert_int_equal(map(VA(0), GNTMAP_host_map | GNTMAP_device_map, 1, 9), GNTST_okay);
    assert_int_equal(unmap(0, 0, handle), GNTST_okay); /* nothing named, nothing done */
    assert_int_equal(unmap(0, (m + 1) << PAGE_SHIFT, handle), GNTST_general_error);
    assert_int_equal(unmap(VA(0), 0, handle), GNTST_okay);
    check_grants();
    assert_int_equal(marks(D1, 9), MARKS);
    assert_true(*pte(1, 0) == 0);
    assert_int_equal(unmap(VA(0), m << PAGE_SHIFT, handle), GNTST_okay); /* its host part is gone: ignored */
    assert_int_equal(marks(D1, 9), 0);
    assert_int_equal(map(0, GNTMAP_device_map, 1, 9), GNTST_okay);
    assert_int_equal(unmap(0, m << PAGE_SHIFT, handle), GNTST_okay);
    assert_int_equal(unmap(0, m << PAGE_SHIFT, handle), GNTST_bad_handle);
    assert_int_equal(unmap(VA(0), 0, ~0U), GNTST_bad_handle);
    check_grants();
}

static void several_users_of_an_entry(void **state)
{
    grant_handle_t h[3];

    set_v1(D1, 9, ACCESS, 2, DATA(0, 0));
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(map(VA(i), GNTMAP_host_map | (i < 2 ? GNTMAP_readonly : 0), 1, 9), GNTST_okay);
        h[i] = handle;
    }
    check_grants();
    assert_int_equal(unmap(VA(0), 0, h[0]), GNTST_okay);
    assert_int_equal(marks(D1, 9), MARKS);
    assert_int_equal(unmap(VA(2), 0, h[2]), GNTST_okay);
    assert_int_equal(marks(D1, 9), GTF_reading);
    /* While it is in use the granter may not point it elsewhere; if it does, nobody is misled. */
    v1(D1, 9)->frame = (uint32_t)DATA(0, 1);
    assert_int_equal(map(VA(4), GNTMAP_host_map, 1, 9), GNTST_general_error);
    v1(D1, 9)->flags = 0;
    assert_int_equal(map(VA(4), GNTMAP_host_map, 1, 9), GNTST_general_error);
    assert_int_equal(unmap(VA(1), 0, h[1]), GNTST_okay);
    check_grants();
    set_v1(D1, 9, ACCESS, 2, DATA(0, 1));
    assert_int_equal(map(VA(4), GNTMAP_host_map, 1, 9), GNTST_okay);
    assert_true(pte_mfn(*pte(1, 4)).n == DATA(0, 1));
    assert_int_equal(unmap(VA(4), 0, handle), GNTST_okay);
}

/* Whatever the guest does to the page-table entry, the mapping keeps the frame until it is unmapped. */
static void entries_that_the_guest_overwrites(void **state)
{
    uint64_t m = DATA(0, 0);

    set_v1(D1, 9, ACCESS, 2, m);
    assert_int_equal(map(VA(0), GNTMAP_host_map, 1, 9), GNTST_okay);
    assert_int_equal(set_entry(dom_mfn(1, ROOT_L1), SLOT, 0), 0);
    check_grants();
    assert_int_equal(marks(D1, 9), MARKS);
    assert_int_equal(unmap(VA(0), 0, handle), GNTST_okay);
    check_grants();
    assert_int_equal(map(VA(0), GNTMAP_host_map, 1, 9), GNTST_okay);
    assert_int_equal(set_entry(dom_mfn(1, ROOT_L1), SLOT, entry(DATA(1, 0), RW)), 0);
    assert_int_equal(replace(VA(0), VA(7), handle), GNTST_general_error);
    assert_int_equal(unmap(VA(9), 0, handle), GNTST_okay); /* its own entry is gone, so the address does not matter */
    assert_true(*pte(1, 0) == entry(DATA(1, 0), RW));
    check_grants();
    /* A present entry is replaced: its references go. */
    assert_int_equal(map(VA(0), GNTMAP_host_map, 1, 9), GNTST_okay);
    check_grants();
    /* Another one's frame cannot be mapped, nor a read-only mapping be made writable. */
    assert_int_equal(set_entry(dom_mfn(1, ROOT_L1), SLOT + 1, entry(m, RO)), -EINVAL);
    assert_int_equal(unmap(VA(0), 0, handle), GNTST_okay);
    assert_int_equal(map(VA(0), GNTMAP_host_map | GNTMAP_readonly, 1, 9), GNTST_okay);
    assert_int_equal(set_entry(dom_mfn(1, ROOT_L1), SLOT, entry(m, RW)), -EINVAL);
    check_grants();
    assert_int_equal(unmap(VA(0), 0, handle), GNTST_okay);
}

/* What an entry of its own has the domain may make of it: less than the mapping has, or more. */
static void entries_that_differ_from_the_mapping(void **state)
{
    uint64_t m = DATA(1, 0), l1 = dom_mfn(1, ROOT_L1);

    set_v1(D2, 9, ACCESS, 2, m);
    for (unsigned device = 0; device < 2; device++) {
        unsigned flags = GNTMAP_host_map | (device ? GNTMAP_device_map : 0);

        for (unsigned readonly = 0; readonly < 2; readonly++) {
            assert_int_equal(map(VA(0), flags | (readonly ? GNTMAP_readonly : 0), 2, 9), GNTST_okay);
            assert_int_equal(set_entry(l1, SLOT, entry(m, readonly ? RW : RO)), 0);
            check_grants();
            assert_int_equal(unmap(VA(0), 0, handle), GNTST_okay);
            assert_true(*pte(1, 0) == 0);
            check_grants();
            if (device)
                assert_int_equal(unmap(0, m << PAGE_SHIFT, handle), GNTST_okay);
            check_grants();
            assert_int_equal(D2->grant.mapped, 0);
        }
    }
}

/* The granter gives the frame away while it is mapped, then its grant table goes: the frame is free with the last mapping. */
static void frames_outlive_their_owners_use(void **state)
{
    uint64_t m = unused_frame(0, 0);

    set_v1(D1, 9, ACCESS, 2, m);
    assert_int_equal(map(VA(0), GNTMAP_host_map, 1, 9), GNTST_okay);
    as(1);
    assert_true(frame_release(MFN(m), D1));
    as(2);
    check_grants();
    assert_true(frame_owner(&frames[m]) == 1);
    grant_destroy_domain(D1);
    check_grants();
    assert_int_equal(map(VA(1), GNTMAP_host_map, 1, 9), GNTST_bad_gntref);
    handle = 0;
    assert_int_equal(unmap(VA(0), 0, handle), GNTST_okay);
    check_grants();
    assert_true(frame_owner(&frames[m]) == DOMID_FREE);
}

static void replaced_by_another_entry(void **state)
{
    grant_handle_t first, second;

    set_v1(D1, 9, ACCESS, 2, DATA(0, 0));
    set_v1(D1, 10, ACCESS, 2, DATA(0, 1));
    assert_int_equal(set_entry(dom_mfn(1, ROOT_L1), SLOT + 5, entry(DATA(1, 2), RW)), 0);
    assert_int_equal(map(VA(0), GNTMAP_host_map, 1, 9), GNTST_okay);
    first = handle;
    assert_int_equal(replace(VA(0), 1UL << 39, first), GNTST_general_error);
    assert_int_equal(replace(VA(0), VA(0), first), GNTST_general_error);
    /* Not by another mapping, whose place would not be known any more. */
    assert_int_equal(map(VA(1), GNTMAP_host_map, 1, 10), GNTST_okay);
    second = handle;
    assert_int_equal(replace(VA(0), VA(1), first), GNTST_general_error);
    check_grants();
    assert_int_equal(replace(VA(0), VA(5), first), GNTST_okay);
    assert_true(*pte(1, 0) == entry(DATA(1, 2), RW) && *pte(1, 5) == 0);
    check_grants();
    assert_int_equal(replace(VA(1), 0, second), GNTST_okay);
    assert_true(*pte(1, 1) == 0);
    assert_int_equal(map(pte_address(1, 1), GNTMAP_host_map | GNTMAP_contains_pte, 1, 10), GNTST_okay);
    assert_int_equal(replace(pte_address(1, 1), VA(0), handle), GNTST_general_error);
    assert_int_equal(replace(pte_address(1, 1), 0, handle), GNTST_okay);
}

static bool always(void) { return true; }
static bool random_preempt(void) { return pick(3) == 0; }

static void batches_and_limits(void **state)
{
    static struct gnttab_map_grant_ref m[600];
    static struct gnttab_unmap_grant_ref u[600];

    for (unsigned i = 0; i < 600; i++) {
        set_v1(D1, 9 + i % 16, ACCESS, 2, DATA(0, i));
        m[i] = (struct gnttab_map_grant_ref){
            .host_addr = VA(i % 64), .flags = GNTMAP_device_map, .ref = 9 + i % 16, .dom = 1};
        m[i].flags |= i < 64 ? GNTMAP_host_map : 0;
    }
    preempt = always;
    assert_int_equal(op(GNTTABOP_map_grant_ref, m, 600), 0);
    assert_int_equal(slices, 600);
    for (unsigned i = 0; i < 600; i++)
        assert_int_equal(m[i].status, i < 512 ? GNTST_okay : GNTST_no_space); /* two pages of 256 */
    check_grants();
    for (unsigned i = 0; i < 600; i++)
        u[i] = (struct gnttab_unmap_grant_ref){m[i].host_addr, m[i].dev_bus_addr, i < 512 ? m[i].handle : 512 + i, 99};
    flushes = 0;
    assert_int_equal(op(GNTTABOP_unmap_grant_ref, u, 600), 0);
    assert_int_equal(slices, DIV_ROUND_UP(600, 32)); /* parts of up to 32: at most one flush of the two CPUs each */
    for (unsigned i = 0; i < 600; i++)
        assert_int_equal(u[i].status, i < 512 ? GNTST_okay : GNTST_bad_handle);
    preempt = NULL;
    check_grants();
    assert_int_equal(op(GNTTABOP_map_grant_ref, bad_pointer, 1), -EFAULT);
    assert_int_equal(op(GNTTABOP_unmap_grant_ref, bad_pointer, 1), -EFAULT);
    assert_int_equal(op(GNTTABOP_copy, bad_pointer, 1), -EFAULT);
    assert_int_equal(op(GNTTABOP_map_grant_ref, m, 0x80000000), -EINVAL);
    assert_int_equal(op(GNTTABOP_map_grant_ref, m, 0), 0);
    assert_int_equal(op(GNTTABOP_dump_table, m, 1), -ENOSYS);
    assert_int_equal(op(99, m, 1), -ENOSYS);
}

/* ---- Between read and mark the granter changes its entry ---- */

static void take_entry_back(void) { v1(D1, 9)->flags = 0; }
static void entries_that_change(void **state)
{
    /* The frame is a page table until the WRITABLE reference is taken, which flushes: there the granter strikes. */
    uint64_t m = unused_frame(0, 0);

    set_v1(D1, 9, ACCESS, 2, m);
    frames[m].type = TYPE_MAKE(FRAME_L1);
    frames[m].tlb_stamp = ~0UL >> 1;
    in_flush = take_entry_back;
    assert_int_equal(map(VA(0), GNTMAP_host_map, 1, 9), GNTST_general_error);
    in_flush = NULL;
    assert_int_equal(marks(D1, 9), 0);
    check_grants();
}

/* ---- Copies ---- */

static struct gnttab_copy copy_of(unsigned flags, unsigned from, uint64_t source, unsigned to, uint64_t destination,
                                  unsigned len)
{
    struct gnttab_copy c = {.flags = (uint16_t)flags, .len = (uint16_t)len, .status = 99};

    c.source.domid = (domid_t)from;
    c.source.u.gmfn = source;
    c.dest.domid = (domid_t)to;
    c.dest.u.gmfn = destination;
    return c;
}
static int copy(struct gnttab_copy c)
{
    assert_int_equal(op(GNTTABOP_copy, &c, 1), 0);
    return c.status;
}
#define FROM_REF GNTCOPY_source_gref
#define TO_REF GNTCOPY_dest_gref

static void copies(void **state)
{
    uint64_t theirs = DATA(0, 0), mine = DATA(1, 0);
    struct gnttab_copy c;

    ram[theirs][0] = 0x1234;
    set_v1(D1, 9, ACCESS | GTF_readonly, 2, theirs);
    assert_int_equal(copy(copy_of(FROM_REF, 1, 9, DOMID_SELF, mine, 8)), GNTST_okay);
    assert_true(ram[mine][0] == 0x1234);
    check_grants();
    assert_int_equal(marks(D1, 9), 0);
    assert_int_equal(copy(copy_of(TO_REF, DOMID_SELF, mine, 1, 9, 8)), GNTST_general_error);
    set_v1(D1, 10, ACCESS, 2, theirs);
    c = copy_of(TO_REF, DOMID_SELF, mine, 1, 10, 8);
    c.dest.offset = 4088;
    assert_int_equal(copy(c), GNTST_okay);
    assert_true(ram[theirs][511] == 0x1234);
    c.dest.offset = 4089;
    assert_int_equal(copy(c), GNTST_bad_copy_arg);
    assert_int_equal(copy(copy_of(FROM_REF | TO_REF, 1, 9, 1, 10, 4096)), GNTST_okay);
    assert_int_equal(copy(copy_of(0, DOMID_SELF, mine, DOMID_SELF, DATA(1, 1), 4096)), GNTST_okay);
    assert_true(ram[DATA(1, 1)][0] == 0x1234);
    assert_int_equal(copy(copy_of(0, 2, mine, DOMID_SELF, mine, 8)), GNTST_permission_denied);
    assert_int_equal(copy(copy_of(0, 1, theirs, DOMID_SELF, mine, 8)), GNTST_permission_denied);
    assert_int_equal(copy(copy_of(0, DOMID_SELF, theirs, DOMID_SELF, mine, 8)), GNTST_bad_page);
    assert_int_equal(copy(copy_of(0, DOMID_SELF, mine, DOMID_SELF, theirs, 8)), GNTST_bad_page);
    assert_int_equal(copy(copy_of(0, DOMID_SELF, ~0UL, DOMID_SELF, mine, 8)), GNTST_bad_page);
    assert_int_equal(copy(copy_of(0, DOMID_SELF, mine, DOMID_SELF, dom_mfn(1, ROOT_L1), 8)), GNTST_general_error);
    assert_int_equal(copy(copy_of(FROM_REF, 3, 9, DOMID_SELF, mine, 8)), GNTST_bad_domain);
    assert_int_equal(copy(copy_of(FROM_REF, 1, 8, DOMID_SELF, mine, 8)), GNTST_general_error);
    assert_int_equal(copy(copy_of(FROM_REF, 1, 600, DOMID_SELF, mine, 8)), GNTST_bad_gntref);
    assert_int_equal(copy(copy_of(FROM_REF, DOMID_SELF, 9, DOMID_SELF, mine, 8)), GNTST_general_error);
    check_grants();
    /* A run that shares an end pins it once; what is in between may fail. */
    {
        struct gnttab_copy run[4] = {
            copy_of(FROM_REF, 1, 9, DOMID_SELF, mine, 8), copy_of(FROM_REF, 1, 9, DOMID_SELF, ~0UL, 8),
            copy_of(FROM_REF, 1, 9, DOMID_SELF, mine, 8), copy_of(0, DOMID_SELF, mine, DOMID_SELF, mine, 8)};

        run[3].dest.offset = 4;
        assert_int_equal(op(GNTTABOP_copy, run, 4), 0);
        assert_int_equal(run[0].status, GNTST_okay);
        assert_int_equal(run[1].status, GNTST_bad_page);
        assert_int_equal(run[2].status, GNTST_okay);
        assert_int_equal(run[3].status, GNTST_okay);
        assert_int_equal(marks(D1, 9), 0);
    }
}

static void parts_of_pages_and_transitive_grants(void **state)
{
    uint64_t theirs = DATA(0, 0), mine = DATA(1, 0);
    struct gnttab_copy c = copy_of(FROM_REF, 1, 20, DOMID_SELF, mine, 8);

    as(1);
    assert_int_equal(set_version(2), 0);
    as(2);
    ram[theirs][2] = 0x77;
    set_v2(D1, 20, ACCESS | GTF_sub_page, 2, theirs);
    v2(D1, 20)->sub_page.page_off = 16;
    v2(D1, 20)->sub_page.length = 8;
    assert_int_equal(copy(c), GNTST_general_error);
    c.source.offset = 16;
    assert_int_equal(copy(c), GNTST_okay);
    assert_true(ram[mine][0] == 0x77);
    c.len = 9;
    assert_int_equal(copy(c), GNTST_general_error);
    assert_int_equal(map(VA(0), GNTMAP_host_map | GNTMAP_readonly, 1, 20), GNTST_general_error);
    v2(D1, 20)->sub_page.length = 4090;
    assert_int_equal(copy(c), GNTST_general_error);
    /* Domain 1 passes on what domain 2 granted to it. */
    set_v1(D2, 30, ACCESS | GTF_readonly, 1, DATA(1, 2));
    ram[DATA(1, 2)][0] = 0x99;
    set_v2(D1, 21, GTF_transitive, 2, 30);
    v2(D1, 21)->transitive.trans_domid = 2;
    v2(D1, 21)->transitive.gref = 30;
    assert_int_equal(copy(copy_of(FROM_REF, 1, 21, DOMID_SELF, mine, 8)), GNTST_okay);
    assert_true(ram[mine][0] == 0x99);
    assert_int_equal(marks(D1, 21), 0);
    assert_int_equal(marks(D2, 30), 0);
    assert_int_equal(copy(copy_of(TO_REF, DOMID_SELF, mine, 1, 21, 8)), GNTST_general_error);
    assert_int_equal(map(VA(0), GNTMAP_host_map | GNTMAP_readonly, 1, 21), GNTST_general_error);
    v2(D1, 21)->transitive.trans_domid = 1; /* not of itself, not of nobody, not of a transitive one */
    assert_int_equal(copy(copy_of(FROM_REF, 1, 21, DOMID_SELF, mine, 8)), GNTST_general_error);
    v2(D1, 21)->transitive.trans_domid = 7;
    assert_int_equal(copy(copy_of(FROM_REF, 1, 21, DOMID_SELF, mine, 8)), GNTST_general_error);
    check_grants();
    assert_int_equal(marks(D1, 21), 0);
}

/* ---- Versions, frames, the rest ---- */

static void versions(void **state)
{
    struct gnttab_get_version get = {.dom = 1};
    xen_pfn_t list[TABLE_FRAMES + 1];
    struct gnttab_setup_table s = {.dom = DOMID_SELF, .nr_frames = 2};
    struct gnttab_get_status_frames f = {.dom = DOMID_SELF, .nr_frames = 1};
    struct gnttab_query_size q = {.dom = 1};
    mfn_t m;

    f.frame_list.p = list;
    s.frame_list.p = list;
    assert_int_equal(op(GNTTABOP_get_version, &get, 1), -EPERM);
    D2->is_privileged = true;
    assert_int_equal(op(GNTTABOP_get_version, &get, 1), 0);
    assert_int_equal(get.version, 1);
    assert_int_equal(op(GNTTABOP_query_size, &q, 1), 0);
    assert_true(q.status == GNTST_okay && q.nr_frames == 1 && q.max_nr_frames == TABLE_FRAMES);
    D2->is_privileged = false;
    assert_int_equal(op(GNTTABOP_query_size, &q, 1), 0);
    assert_int_equal(q.status, GNTST_permission_denied);
    as(1);
    set_v1(D1, 1, ACCESS, 2, DATA(0, 0));
    set_v1(D1, 9, ACCESS, 2, DATA(0, 0));
    as(2);
    assert_int_equal(map(VA(0), GNTMAP_host_map, 1, 1), GNTST_okay);
    assert_int_equal(map(VA(1), GNTMAP_host_map, 1, 9), GNTST_okay);
    as(1);
    assert_int_equal(op(GNTTABOP_get_status_frames, &f, 1), 0);
    assert_int_equal(f.status, GNTST_general_error);
    assert_int_equal(grant_acquire_frame(D1, true, 0, &m), -EINVAL);
    assert_int_equal(set_version(3), -EINVAL);
    assert_int_equal(set_version(1), 0);
    assert_int_equal(set_version(2), -EBUSY);
    as(2);
    assert_int_equal(unmap(VA(1), 0, handle), GNTST_okay);
    as(1);
    assert_int_equal(set_version(2), 0);
    assert_int_equal(op(GNTTABOP_get_status_frames, &f, 1), 0);
    assert_int_equal(f.status, GNTST_okay);
    assert_true(list[0] == virt_to_mfn(D1->grant.status[0]).n);
    /* The reserved entry, and that it is in use, came along. */
    assert_true(v2(D1, 1)->full_page.frame == DATA(0, 0) && v2(D1, 1)->hdr.flags == ACCESS &&
                v2(D1, 1)->hdr.domid == 2);
    assert_int_equal(marks(D1, 1), MARKS);
    assert_int_equal(v2(D1, 9)->hdr.flags, 0);
    assert_int_equal(set_entry(dom_mfn(0, ROOT_L1), SLOT, entry(list[0], RW)), 0); /* stays mapped over a change back */
    assert_int_equal(op(GNTTABOP_setup_table, &s, 1), 0);
    assert_true(s.status == GNTST_okay && list[1] == virt_to_mfn(D1->grant.shared[1]).n);
    assert_int_equal(D1->grant.entries, 512);
    s.nr_frames = TABLE_FRAMES + 1;
    assert_int_equal(op(GNTTABOP_setup_table, &s, 1), 0);
    assert_int_equal(s.status, GNTST_general_error);
    check_grants();
    assert_int_equal(set_version(1), 0);
    assert_int_equal(marks(D1, 1), MARKS);
    assert_int_equal(set_version(2), 0);
    as(2);
    handle = 0;
    assert_int_equal(unmap(VA(0), 0, handle), GNTST_okay);
    assert_int_equal(marks(D1, 1), 0);
    as(1);
    set_v2(D1, 2, ACCESS, 2, 1UL << 32); /* no frame of version 1 */
    assert_int_equal(set_version(1), 0);
    assert_int_equal(v1(D1, 2)->flags, 0);
    assert_int_equal(grant_acquire_frame(D1, false, TABLE_FRAMES - 1, &m), 0);
    assert_int_equal(grant_acquire_frame(D1, false, TABLE_FRAMES, &m), -EINVAL);
    assert_int_equal(grant_acquire_frame(D1, false, ~0UL, &m), -EINVAL);
    assert_int_equal(D1->grant.entries, TABLE_FRAMES * 512);
    D1->grant.max_version = 1;
    assert_int_equal(set_version(2), -ENOSYS);
    assert_int_equal(set_entry(dom_mfn(0, ROOT_L1), SLOT, 0), 0);
    check_grants();
}

static void swapping(void **state)
{
    struct gnttab_swap_grant_ref s = {.ref_a = 9, .ref_b = 10};

    set_v1(D1, 9, ACCESS, 2, DATA(0, 0));
    assert_int_equal(map(VA(0), GNTMAP_host_map, 1, 9), GNTST_okay);
    as(1);
    assert_int_equal(op(GNTTABOP_swap_grant_ref, &s, 1), 0);
    assert_int_equal(s.status, GNTST_eagain);
    as(2);
    assert_int_equal(unmap(VA(0), 0, handle), GNTST_okay);
    as(1);
    assert_int_equal(op(GNTTABOP_swap_grant_ref, &s, 1), 0);
    assert_true(s.status == GNTST_okay && v1(D1, 10)->flags == ACCESS && !v1(D1, 9)->flags);
    s.ref_b = 512;
    assert_int_equal(op(GNTTABOP_swap_grant_ref, &s, 1), 0);
    assert_int_equal(s.status, GNTST_bad_gntref);
    assert_int_equal(set_version(2), 0);
    set_v2(D1, 9, ACCESS, 2, 77);
    s.ref_b = 10;
    assert_int_equal(op(GNTTABOP_swap_grant_ref, &s, 1), 0);
    assert_true(s.status == GNTST_okay && v2(D1, 10)->full_page.frame == 77);
    v2(D1, 10)->full_page.frame = 0;
}

static int transfer(uint64_t mfn, unsigned to, unsigned ref)
{
    struct gnttab_transfer t = {.mfn = mfn, .domid = (domid_t)to, .ref = ref, .status = 99};

    assert_int_equal(op(GNTTABOP_transfer, &t, 1), 0);
    return t.status;
}

static void transfers(void **state)
{
    uint64_t m = unused_frame(1, 0);

    ram[m][0] = 0x55;
    set_v1(D1, 9, GTF_accept_transfer, 2, 1234);
    assert_int_equal(transfer(DATA(1, 0), 1, 9), GNTST_bad_page); /* mapped */
    assert_int_equal(transfer(DATA(0, 0), 1, 9), GNTST_bad_page);
    assert_int_equal(transfer(m, 1, 9), GNTST_okay);
    assert_true(frame_owner(&frames[m]) == 1 && m2p[m] == 1234 && ram[m][0] == 0x55);
    assert_int_equal(v1(D1, 9)->flags, GTF_accept_transfer | GTF_transfer_committed | GTF_transfer_completed);
    assert_int_equal(v1(D1, 9)->frame, m);
    check_grants();
    /* A frame whose transfer fails is lost to its owner, says the ABI. */
    m = unused_frame(1, 0);
    assert_int_equal(transfer(m, 1, 9), GNTST_general_error);
    assert_true(frame_owner(&frames[m]) == DOMID_FREE);
    receiver_full = true;
    set_v1(D1, 10, GTF_accept_transfer, 2, 1234);
    assert_int_equal(transfer(unused_frame(1, 0), 1, 10), GNTST_general_error);
    assert_int_equal(v1(D1, 10)->flags, GTF_accept_transfer);
    receiver_full = false;
    assert_int_equal(transfer(unused_frame(1, 0), 5, 10), GNTST_bad_domain);
    set_v1(D1, 10, GTF_accept_transfer, 3, 1234);
    assert_int_equal(transfer(unused_frame(1, 0), 1, 10), GNTST_general_error);
    as(1);
    assert_int_equal(set_version(2), 0);
    as(2);
    set_v2(D1, 10, GTF_accept_transfer, 2, 4321);
    m = unused_frame(1, 0);
    assert_int_equal(transfer(m, 1, 10), GNTST_okay);
    assert_true(v2(D1, 10)->full_page.frame == m && m2p[m] == 4321);
}

/* A granter with nested page tables names its frames by its own numbers; it can copy, and nothing else. */
static void numbers_of_the_granter(void **state)
{
    static struct hvm_domain nested;
    uint64_t m = DATA(0, 0), n = DATA(0, 1), mine = DATA(1, 0), gfn = 0x77777, spare;
    struct gnttab_copy c;
    grant_handle_t first;
    int error;

    nested = (struct hvm_domain){.callback_vector = 0};
    D1->hvm = &nested;
    assert_int_equal(p2m_init(D1), 0);
    assert_int_equal(p2m_add(D1, GFN(gfn), MFN(m), 0), 0);
    set_v1(D1, 9, ACCESS, 2, gfn);
    set_v1(D1, 10, ACCESS, 2, m);
    assert_int_equal(map(VA(0), GNTMAP_host_map, 1, 10), GNTST_bad_page);
    assert_int_equal(map(VA(0), GNTMAP_host_map, 1, 9), GNTST_okay);
    first = handle;
    assert_true(pte_mfn(*pte(1, 0)).n == m);
    assert_int_equal(marks(D1, 9), MARKS);
    check_all();
    /* The number gets another frame while the entry is in use: each mapping has its own. */
    assert_true(mfn_eq(p2m_remove(D1, GFN(gfn), &error), MFN(m)));
    frame_put_writable(MFN(m));
    assert_int_equal(map(VA(1), GNTMAP_host_map, 1, 9), GNTST_bad_page);
    assert_int_equal(p2m_add(D1, GFN(gfn), MFN(n), 0), 0);
    assert_int_equal(map(VA(1), GNTMAP_host_map, 1, 9), GNTST_okay);
    assert_true(pte_mfn(*pte(1, 1)).n == n && pte_mfn(*pte(1, 0)).n == m);
    check_all();
    assert_int_equal(unmap(VA(1), 0, handle), GNTST_okay);
    assert_int_equal(marks(D1, 9), MARKS);
    assert_int_equal(unmap(VA(0), 0, first), GNTST_okay);
    assert_int_equal(marks(D1, 9), 0);
    ram[n][0] = 0x4321;
    assert_int_equal(copy(copy_of(FROM_REF, 1, 9, DOMID_SELF, mine, 8)), GNTST_okay);
    assert_true(ram[mine][0] == 0x4321);
    set_v1(D1, 11, GTF_accept_transfer, 2, 1234);
    assert_int_equal(transfer(unused_frame(1, 0), 1, 11), GNTST_general_error);
    assert_int_equal(v1(D1, 11)->flags, GTF_accept_transfer);
    /* It copies itself, from what the other one grants. */
    set_v1(D2, 9, ACCESS | GTF_readonly, 1, mine);
    ram[mine][0] = 0x99;
    as(1);
    c = copy_of(FROM_REF, 2, 9, DOMID_SELF, gfn, 8);
    assert_int_equal(hypercall(hypercall_grant_table_op_translated, GNTTABOP_copy, (uint64_t)&c, 1, 0), 0);
    assert_int_equal(c.status, GNTST_okay);
    assert_true(ram[n][0] == 0x99);
    c = copy_of(FROM_REF, 2, 9, DOMID_SELF, n, 8);
    assert_int_equal(hypercall(hypercall_grant_table_op_translated, GNTTABOP_copy, (uint64_t)&c, 1, 0), 0);
    assert_int_equal(c.status, GNTST_bad_page);
    assert_int_equal(hypercall(hypercall_grant_table_op_translated, GNTTABOP_copy, (uint64_t)&c, ~0U, 0), -EINVAL);
    assert_int_equal(hypercall(hypercall_grant_table_op_translated, GNTTABOP_transfer, 0, 1, 0), -ENOSYS);
    assert_int_equal(hypercall(hypercall_grant_table_op_translated, GNTTABOP_unmap_and_replace, 0, 1, 0), -ENOSYS);
    as(2);
    /* What is on demand comes for who uses the grant; if there is no page, that is the granter's end. */
    spare = unused_frame(0, 0);
    page_for_cache = MFN(spare);
    assert_int_equal(pod_mark(D1, GFN(gfn + 1), 0), 0);
    assert_int_equal(pod_set_target(D1, D1->tot_pages + 1), 0);
    assert_int_equal(pod_mark(D1, GFN(gfn + 2), 0), 0);
    set_v1(D1, 12, ACCESS, 2, gfn + 1);
    set_v1(D1, 13, ACCESS, 2, gfn + 2);
    assert_int_equal(map(VA(0), GNTMAP_host_map, 1, 12), GNTST_okay);
    assert_true(pte_mfn(*pte(1, 0)).n == spare);
    check_all();
    assert_int_equal(unmap(VA(0), 0, handle), GNTST_okay);
    assert_null(crashed_domain);
    ram[spare][5] = 1; /* no sweep gets that */
    assert_int_equal(map(VA(0), GNTMAP_host_map, 1, 13), GNTST_general_error);
    assert_ptr_equal(crashed_domain, D1);
    assert_int_equal(marks(D1, 13), 0);
    check_all();
    assert_true(mfn_eq(p2m_remove(D1, GFN(gfn + 1), &error), MFN(spare)));
    frame_put_writable(MFN(spare));
    assert_true(mfn_eq(p2m_remove(D1, GFN(gfn), &error), MFN(n)));
    frame_put_writable(MFN(n));
    p2m_destroy(D1);
    D1->hvm = NULL;
}

static int map_at(uint64_t gfn, unsigned flags, unsigned ref)
{
    struct gnttab_map_grant_ref m = {
        .host_addr = gfn << PAGE_SHIFT, .flags = flags, .ref = ref, .dom = 2, .status = 99, .dev_bus_addr = 99};

    assert_int_equal(hypercall(hypercall_grant_table_op_translated, GNTTABOP_map_grant_ref, (uint64_t)&m, 1, 0), 0);
    handle = m.handle;
    assert_true(m.dev_bus_addr == 0);
    return m.status;
}
static int unmap_at(uint64_t gfn, grant_handle_t h)
{
    struct gnttab_unmap_grant_ref u = {.host_addr = gfn << PAGE_SHIFT, .handle = h, .status = 99};

    assert_int_equal(hypercall(hypercall_grant_table_op_translated, GNTTABOP_unmap_grant_ref, (uint64_t)&u, 1, 0), 0);
    return u.status;
}

/* A domain with nested page tables maps at its own frame numbers, where nothing is. */
static void mapped_at_guest_frames(void **state)
{
    static struct hvm_domain nested;
    uint64_t m = DATA(1, 0), n = DATA(1, 1), own = DATA(0, 0), gfn = 0x912345678, flushes; /* all bits of a number */
    uint32_t refs = FRAME_REFS(frames[m].control), refs_n = FRAME_REFS(frames[n].control);
    uint32_t typed = TYPE_COUNT(frames[m].type), typed_n = TYPE_COUNT(frames[n].type);
    grant_handle_t first, second;
    int error;

    nested = (struct hvm_domain){.callback_vector = 0};
    D1->hvm = &nested;
    assert_int_equal(p2m_init(D1), 0);
    assert_int_equal(p2m_add(D1, GFN(gfn - 1), MFN(own), 0), 0);
    assert_int_equal(pod_mark(D1, GFN(gfn - 2), 0), 0);
    set_v1(D2, 9, ACCESS, 1, m);
    set_v1(D2, 10, ACCESS | GTF_readonly, 1, n);
    as(1);
    assert_int_equal(map_at(gfn, GNTMAP_host_map, 9), GNTST_okay);
    first = handle;
    assert_true(mfn_eq(p2m_lookup(D1, GFN(gfn)), MFN(m)) && mfn_eq(p2m_lookup_writable(D1, GFN(gfn)), MFN(m)));
    assert_int_equal(p2m_kind(D1, GFN(gfn)), P2M_GRANT_RW);
    assert_int_equal(FRAME_REFS(frames[m].control), refs + 2);
    assert_int_equal(TYPE_COUNT(frames[m].type), typed + 2);
    assert_int_equal(marks(D2, 9), MARKS);
    check_all();
    assert_int_equal(map_at(gfn + 1, GNTMAP_host_map, 10), GNTST_general_error); /* read-only it may */
    assert_int_equal(map_at(gfn + 1, GNTMAP_host_map | GNTMAP_readonly, 10), GNTST_okay);
    second = handle;
    assert_true(mfn_eq(p2m_lookup(D1, GFN(gfn + 1)), MFN(n)));
    assert_true(mfn_eq(p2m_lookup_writable(D1, GFN(gfn + 1)), INVALID_MFN));
    assert_int_equal(p2m_kind(D1, GFN(gfn + 1)), P2M_GRANT_RO);
    assert_int_equal(FRAME_REFS(frames[n].control), refs_n + 2);
    assert_int_equal(TYPE_COUNT(frames[n].type), typed_n);
    check_all();
    /* Where something is, in another form, or nowhere */
    for (uint64_t taken = gfn - 2; taken <= gfn + 1; taken++)
        assert_int_equal(map_at(taken, GNTMAP_host_map, 9), GNTST_general_error);
    assert_int_equal(map_at(gfn + 2, GNTMAP_device_map, 9), GNTST_general_error);
    assert_int_equal(map_at(gfn + 2, GNTMAP_host_map | GNTMAP_device_map, 9), GNTST_general_error);
    assert_int_equal(map_at(gfn + 2, GNTMAP_host_map | GNTMAP_contains_pte, 9), GNTST_general_error);
    assert_int_equal(map_at(P2M_MAX_GFN + 1, GNTMAP_host_map, 9), GNTST_general_error);
    assert_int_equal(map_at(gfn + 2, GNTMAP_host_map, 11), GNTST_general_error);
    assert_int_equal(map_at(gfn + 2, 0, 9), GNTST_bad_gntref);
    assert_int_equal(D1->grant.mapped, 2);
    assert_int_equal(FRAME_REFS(frames[m].control), refs + 2);
    check_all();
    /* It is not the domain's to give up, to replace or to grant. */
    assert_true(mfn_eq(p2m_remove(D1, GFN(gfn), &error), INVALID_MFN));
    assert_int_equal(error, -EBUSY);
    assert_int_equal(p2m_add(D1, GFN(gfn), MFN(own), 0), -EBUSY);
    assert_int_equal(pod_mark(D1, GFN(gfn + 1), 0), -EEXIST);
    assert_true(mfn_eq(p2m_hold(D1, GFN(gfn)), INVALID_MFN));
    assert_true(mfn_eq(p2m_get_frame(D1, GFN(gfn), true), INVALID_MFN));
    check_all();
    /* Unmapped where it is, and only there */
    flushes = nested.p2m.flushes;
    assert_int_equal(unmap_at(gfn + 1, first), GNTST_general_error);
    assert_int_equal(unmap_at(gfn & 0xffffffff, first), GNTST_general_error);
    assert_int_equal(nested.p2m.flushes, flushes);
    assert_int_equal(unmap_at(gfn, first), GNTST_okay);
    assert_int_equal(nested.p2m.flushes, flushes + 1);
    assert_int_equal(unmap_at(gfn, first), GNTST_bad_handle);
    assert_int_equal(p2m_kind(D1, GFN(gfn)), P2M_HOLE);
    assert_int_equal(FRAME_REFS(frames[m].control), refs);
    assert_int_equal(TYPE_COUNT(frames[m].type), typed);
    assert_int_equal(marks(D2, 9), 0);
    assert_int_equal(unmap_at(gfn + 1, second), GNTST_okay);
    assert_int_equal(FRAME_REFS(frames[n].control), refs_n);
    assert_int_equal(TYPE_COUNT(frames[n].type), typed_n);
    assert_int_equal(marks(D2, 10), 0);
    check_all();
    /* No memory for a table: nothing is left behind. */
    pages_left = 0;
    assert_int_equal(map_at(5, GNTMAP_host_map, 9), GNTST_general_error);
    pages_left = ~0U;
    assert_int_equal(FRAME_REFS(frames[m].control), refs);
    assert_int_equal(marks(D2, 9), 0);
    /* The end of the mapper gives both back. */
    assert_int_equal(map_at(gfn, GNTMAP_host_map, 9), GNTST_okay);
    assert_int_equal(map_at(gfn + 1, GNTMAP_host_map | GNTMAP_readonly, 10), GNTST_okay);
    as(2);
    D1->dying = true;
    assert_true(grant_release_mappings(D1));
    check_all();
    assert_true(p2m_release(D1));
    D1->dying = false;
    assert_int_equal(FRAME_REFS(frames[m].control), refs);
    assert_int_equal(TYPE_COUNT(frames[m].type), typed);
    assert_int_equal(FRAME_REFS(frames[n].control), refs_n);
    assert_int_equal(TYPE_COUNT(frames[n].type), typed_n);
    assert_int_equal(marks(D2, 9), 0);
    p2m_destroy(D1);
    D1->hvm = NULL;
}

static void no_cache_flush(void **state)
{
    struct gnttab_cache_flush c = {.offset = 0, .length = 0, .op = GNTTAB_CACHE_CLEAN};

    assert_int_equal(op(GNTTABOP_cache_flush, &c, 1), 0);
    c.length = 64;
    assert_int_equal(op(GNTTABOP_cache_flush, &c, 1), -EOPNOTSUPP);
    c.offset = 4090;
    assert_int_equal(op(GNTTABOP_cache_flush, &c, 1), -EINVAL);
}

static void without_memory(void **state)
{
    set_v1(D1, 9, ACCESS, 2, DATA(0, 0));
    pages_left = 0;
    assert_int_equal(map(VA(0), GNTMAP_host_map, 1, 9), GNTST_no_space);
    pages_left = 1; /* the list's page, but not the active entries' */
    assert_int_equal(map(VA(0), GNTMAP_host_map, 1, 9), GNTST_no_space);
    pages_left = ~0U;
    assert_int_equal(D2->grant.mapped, 0);
    assert_int_equal(map(VA(0), GNTMAP_host_map, 1, 9), GNTST_okay);
    assert_int_equal(unmap(VA(0), 0, handle), GNTST_okay);
    pages_left = 0;
    as(1);
    assert_int_equal(set_version(2), -ENOMEM);
    pages_left = ~0U;
    assert_int_equal(grant_init_domain(D1, 0, 2, 2), -EINVAL);
    assert_int_equal(grant_init_domain(D1, GRANT_MAX_FRAMES + 1, 2, 2), -EINVAL);
    assert_int_equal(grant_init_domain(D1, 2, 2, 3), -EINVAL);
}

/* ---- Random sequences ---- */

static struct {
    grant_handle_t handle;
    uint64_t address;
} live[2][64];
static unsigned live_count[2];

static void random_grant(void)
{
    unsigned d = pick(2), ref = 8 + pick(12);
    static const uint16_t flags[] = {ACCESS,
                                     ACCESS,
                                     ACCESS,
                                     ACCESS | GTF_readonly,
                                     ACCESS | GTF_sub_page,
                                     GTF_transitive,
                                     GTF_accept_transfer,
                                     0,
                                     ACCESS | MARKS};
    uint64_t m = pick(8) ? DATA(d, pick(4)) : pick(2) ? dom_mfn(d, pick(12)) : pick(RAM_FRAMES + 2);

    set_grant(&doms[d], ref, flags[pick(ARRAY_SIZE(flags))], pick(8) ? 2 - d : 1 + d, m);
}

static void random_map(void)
{
    unsigned me = self / 2, i = pick(24);
    bool by_entry = pick(3) == 0;
    unsigned flags = (pick(6) ? GNTMAP_host_map : 0) | (pick(6) ? 0 : GNTMAP_device_map) |
                     (pick(2) ? GNTMAP_readonly : 0) | (by_entry ? GNTMAP_contains_pte : 0);
    uint64_t address = by_entry ? pte_address(me, i) : VA(i);

    if (pick(12) == 0)
        address ^= 1UL << pick(48);
    if (live_count[me] < 64 && map(address, flags, pick(10) ? 2 - me : pick(4), 8 + pick(13)) == GNTST_okay) {
        live[me][live_count[me]].address = address;
        live[me][live_count[me]++].handle = handle;
    }
}

static void random_unmap(void)
{
    unsigned me = self / 2, n = pick(live_count[me]);
    uint64_t address, bus = pick(8) ? 0 : (uint64_t)pick(RAM_FRAMES) << PAGE_SHIFT;
    int status;

    if (!live_count[me])
        return;
    address = pick(6) ? live[me][n].address : VA(pick(24));
    handle = live[me][n].handle;
    status = pick(5) ? unmap(address, bus, handle) : replace(address, pick(2) ? VA(pick(24)) : 0, handle);
    if (status == GNTST_okay && unmap(0, 0, handle) == GNTST_bad_handle)
        live[me][n] = live[me][--live_count[me]];
}

static void random_step(void)
{
    unsigned me;

    self = pick(CPUS);
    me = self / 2;
    switch (pick(10)) {
    case 0:
    case 1:
        random_grant();
        break;
    case 2:
    case 3:
    case 4:
        random_map();
        break;
    case 5:
    case 6:
        random_unmap();
        break;
    case 7: {
        uint64_t m = pick(2) ? DATA(me, pick(4)) : DATA(1 - me, pick(4));

        (void)set_entry(dom_mfn(me, ROOT_L1), SLOT + pick(24), pick(2) ? 0 : entry(m, pick(2) ? RW : RO));
        break;
    }
    case 8: {
        struct gnttab_copy c =
            copy_of(pick(4), pick(4) ? 1 - me + 1 : DOMID_SELF, pick(3) ? 8 + pick(12) : DATA(me, pick(4)),
                    pick(4) ? DOMID_SELF : 1 - me + 1, pick(3) ? DATA(me, pick(4)) : 8 + pick(12), pick(4100));

        c.source.offset = (uint16_t)pick(64);
        if (c.flags & TO_REF || c.dest.u.gmfn >= RAM_FRAMES ||
            role_level((unsigned)(c.dest.u.gmfn - dom_mfn(me, 0))) == 0)
            (void)copy(c);
        break;
    }
    case 9:
        if (pick(4) == 0)
            (void)set_version(1 + pick(2));
        break;
    }
}

/* Both domains end with whatever is mapped, in this order: nothing is left. */
static void end_domains(unsigned first)
{
    for (unsigned n = 0; n < 2; n++) {
        unsigned i = (first + n) % 2;
        struct domain *d = &doms[i];

        self = (1 - i) * 2;
        domain_get(d);
        for (unsigned cpu = i * 2; cpu < i * 2 + 2; cpu++)
            memset(&tlb[cpu], 0, sizeof(tlb[cpu])); /* its vcpus run no more */
        preempt = random_preempt;
        while (domain_destroy(d))
            check_all();
        preempt = NULL;
        domain_put(d);
        check_all();
    }
    run_softirqs();
    for (unsigned m = DOMAIN_FIRST; m < POOL_FIRST; m++)
        REQUIRE(frame_owner(&frames[m]) == DOMID_FREE && !FRAME_REFS(frames[m].control));
    for (unsigned i = 0; i < PAGE_POOL; i++)
        REQUIRE(!pool_used[i]);
    REQUIRE(!listed[0] && !listed[1] && live_pages == 0);
    granted = NULL;
    free(ram);
    ram = NULL;
}

static void property_random_operations(void **state)
{
    for (unsigned seed = 1; seed <= 8; seed++) {
        random_state = seed;
        setup(NULL);
        live_count[0] = live_count[1] = 0;
        for (unsigned i = 0; i < 1500; i++) {
            random_step();
            check_grants();
        }
        end_domains(seed % 2);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_mapping_and_its_end),
        TEST(read_only_and_by_entry),
        TEST(maps_that_are_refused),
        TEST(host_and_device),
        TEST(several_users_of_an_entry),
        TEST(entries_that_the_guest_overwrites),
        TEST(entries_that_differ_from_the_mapping),
        TEST(frames_outlive_their_owners_use),
        TEST(replaced_by_another_entry),
        TEST(batches_and_limits),
        TEST(entries_that_change),
        TEST(copies),
        TEST(numbers_of_the_granter),
        TEST(mapped_at_guest_frames),
        TEST(parts_of_pages_and_transitive_grants),
        TEST(versions),
        TEST(swapping),
        TEST(transfers),
        TEST(no_cache_flush),
        TEST(without_memory),
        cmocka_unit_test(property_random_operations),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
