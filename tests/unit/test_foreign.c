/* sources: hypervisor/domain/domain_destroy.c hypervisor/memory/frame.c hypervisor/hvm/p2m.c hypervisor/hvm/pod.c hypervisor/memory/audit.c hypervisor/pv/mmu_types.c hypervisor/pv/mmuext.c hypervisor/pv/mmu.c */
/* A privileged domain and the memory of another: mappings of its frames, changes to its page tables; and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define FAIL_TEST(text) fail_msg("%s", text)
#define PAGE_POOL 16
#include "fake_mmu.h"

#define D1 (&doms[0])
#define D2 (&doms[1])
#define L1 dom_mfn(0, ROOT_L1) /* the privileged domain's */
#define L1_OF_2 dom_mfn(1, ROOT_L1)
#define DATA_OF_2(i) dom_mfn(1, 8 + (i)) /* mapped writable by the owner */
#define SPARE_L1_OF_2 dom_mfn(1, 12)     /* a frame that nothing uses */
#define TABLES_OF(id) (((uint64_t)(id) + 1) << 16)

static int setup(void **state)
{
    start_machine();
    D1->is_privileged = true;
    check_all();
    return 0;
}

static int teardown(void **state)
{
    check_all();
    end_machine();
    return 0;
}

static long map(unsigned slot, uint64_t e, uint64_t foreign)
{
    struct mmu_update u = {.ptr = L1 << PAGE_SHIFT | slot * 8 | MMU_NORMAL_PT_UPDATE, .val = e};

    return mmu_update_on(&u, 1, foreign);
}
static long set_on(uint64_t table, unsigned slot, uint64_t e, uint64_t foreign)
{
    struct mmu_update u = {.ptr = table << PAGE_SHIFT | slot * 8 | MMU_NORMAL_PT_UPDATE, .val = e};

    return mmu_update_on(&u, 1, foreign);
}
static long ext_on(unsigned cmd, uint64_t mfn, uint64_t domid)
{
    struct mmuext_op op = {.cmd = cmd, .arg1.mfn = mfn};

    return mmuext_on(&op, 1, domid);
}
static uint32_t refs(uint64_t m) { return FRAME_REFS(frames[m].control); }
static uint32_t typed(uint64_t m) { return TYPE_COUNT(frames[m].type); }

static void mappings(void **state)
{
    uint64_t m = DATA_OF_2(0);
    uint32_t r = refs(m), t = typed(m);

    assert_int_equal(map(300, entry(m, RO), 2), 0);
    assert_int_equal(map(301, entry(m, RW), 2), 0);
    assert_int_equal(refs(m), r + 2);
    assert_int_equal(typed(m), t + 1);
    assert_true(frames[m].control & FRAME_FOREIGN);
    check_all();
    assert_int_equal(map(300, entry(m, RW), 2), 0);
    assert_int_equal(typed(m), t + 2);
    assert_int_equal(map(301, entry(m, RO), 2), 0); /* as it goes, and comes back */
    assert_int_equal(typed(m), t + 1);
    check_all();
    /* Own frames are not the other's, though it names it; the other's are not its own. */
    assert_int_equal(map(302, entry(dom_mfn(0, 8), RW), 2), -EINVAL);
    assert_int_equal(map(302, entry(m, RW), DOMID_SELF), -EINVAL);
    assert_int_equal(map(302, entry(m, RW), 1), -EINVAL);
    assert_int_equal(map(302, entry(dom_mfn(0, 8), RW), 1), 0);
    assert_int_equal(map(302, 0, DOMID_SELF), 0);
    assert_int_equal(map(302, entry(FREE_FIRST, RO), 2), -EINVAL);
    assert_int_equal(map(302, entry(HOLE_TABLES, RO), 2), -EINVAL);
    assert_int_equal(map(302, entry(m, RW), 3), -ESRCH);
    assert_int_equal(map(302, entry(m, RW), 0), -ESRCH);
    /* A page table of the other's: read-only */
    assert_int_equal(map(302, entry(L1_OF_2, RW), 2), -EINVAL);
    assert_int_equal(map(302, entry(L1_OF_2, RO), 2), 0);
    /* Its shared_info may be written. */
    assert_int_equal(map(303, entry(SHARED_INFO_OF(1), RW), 2), 0);
    check_all();
    for (unsigned slot = 300; slot < 304; slot++)
        assert_int_equal(map(slot, 0, 2), 0);
    assert_int_equal(refs(m), r);
    assert_int_equal(typed(m), t);
    assert_int_equal(D2->refs, 2);
}

static void by_address(void **state)
{
    uint64_t m = DATA_OF_2(0), va = 300UL << PAGE_SHIFT;

    assert_int_equal(hypercall(hypercall_update_va_mapping_otherdomain, va, entry(m, RW), 0, 2), 0);
    assert_true(ram[L1][300] == entry(m, RW));
    check_all();
    assert_int_equal(hypercall(hypercall_update_va_mapping, va + PAGE_SIZE, entry(m, RO), 0, 0), -EINVAL);
    assert_int_equal(hypercall(hypercall_update_va_mapping_otherdomain, va, 0, 0, 2), 0);
    assert_int_equal(hypercall(hypercall_update_va_mapping_otherdomain, va, entry(m, RW), 0, 7), -ESRCH);
    D1->is_privileged = false;
    assert_int_equal(hypercall(hypercall_update_va_mapping_otherdomain, va, entry(m, RW), 0, 2), -EPERM);
    assert_int_equal(D2->refs, 2);
    assert_int_equal(D1->refs, 2);
}

static long map_machine(unsigned slot, uint64_t e, uint64_t foreign)
{
    struct mmu_update u = {.ptr = L1 << PAGE_SHIFT | slot * 8 | MMU_PT_UPDATE_NO_TRANSLATE, .val = e};

    return mmu_update_on(&u, 1, foreign);
}

/* A domain with nested page tables has its frames named by its own numbers, but for what is said to be a machine frame. */
static void numbers_of_the_other(void **state)
{
    static struct hvm_domain nested;
    mfn_t unused = MFN(dom_mfn(1, 0));
    uint64_t m = DATA_OF_2(0), n = DATA_OF_2(1), gfn = 0x123456, va = 303UL << PAGE_SHIFT;
    uint32_t r = refs(m), t = typed(m);
    int error;

    D2->hvm = &nested;
    assert_int_equal(p2m_init(D2), 0);
    assert_int_equal(p2m_add(D2, GFN(gfn), MFN(m), 0), 0);
    assert_int_equal(map(300, entry(gfn, RW), 2), 0);
    assert_true(ram[L1][300] == entry(m, RW));
    assert_int_equal(refs(m), r + 2);
    assert_int_equal(typed(m), t + 2);
    check_all();
    assert_int_equal(map(301, entry(gfn, RO), 2), 0);
    assert_true(ram[L1][301] == entry(m, RO));
    assert_int_equal(map(302, entry(gfn + 1, RO), 2), -ENOENT);
    assert_int_equal(map(302, entry(m, RO), 2), -ENOENT);
    assert_int_equal(map_machine(302, entry(n, RW), 2), 0);
    assert_true(ram[L1][302] == entry(n, RW));
    assert_int_equal(map_machine(304, entry(dom_mfn(0, 8), RW), 2), -EINVAL);
    assert_int_equal(hypercall(hypercall_update_va_mapping_otherdomain, va, entry(gfn, RO), 0, 2), 0);
    assert_true(ram[L1][303] == entry(m, RO));
    assert_int_equal(hypercall(hypercall_update_va_mapping_otherdomain, va, entry(gfn + 1, RO), 0, 2), -ENOENT);
    check_all();
    /* Another frame comes in the place of that: who has the first keeps it. */
    assert_true(mfn_eq(p2m_remove(D2, GFN(gfn), &error), MFN(m)));
    frame_put_writable(MFN(m));
    assert_int_equal(p2m_add(D2, GFN(gfn), MFN(n), 0), 0);
    assert_int_equal(map(304, entry(gfn, RO), 2), 0);
    assert_true(ram[L1][304] == entry(n, RO) && ram[L1][301] == entry(m, RO));
    check_all();
    /* What is on demand comes if there is a page for it. */
    assert_int_equal(pod_mark(D2, GFN(gfn + 1), 0), 0);
    assert_int_equal(map(302, 0, 2), 0);
    assert_int_equal(map(302, entry(gfn + 1, RO), 2), -ENOMEM);
    assert_null(crashed_domain);
    while (frames[unused.n].control != (1 | 2UL << 32 | FRAME_ALLOCATED))
        unused.n++;
    page_for_cache = unused;
    assert_int_equal(pod_set_target(D2, D2->tot_pages + 1), 0);
    ram[unused.n][7] = 0x77;
    assert_int_equal(map(302, entry(gfn + 1, RW), 2), 0);
    assert_true(ram[L1][302] == entry(unused.n, RW));
    assert_int_equal(refs(unused.n), 3);
    check_all();
    assert_int_equal(map(302, 0, 2), 0);
    assert_true(mfn_eq(p2m_remove(D2, GFN(gfn + 1), &error), unused));
    frame_put_writable(unused);
    assert_int_equal(set_on(L1_OF_2, 300, 0, TABLES_OF(2) | 2), -EINVAL);
    assert_int_equal(ext_on(MMUEXT_PIN_L1_TABLE, SPARE_L1_OF_2, 2), -EOPNOTSUPP);
    for (unsigned slot = 300; slot < 305; slot++)
        assert_int_equal(map(slot, 0, 2), 0);
    assert_true(mfn_eq(p2m_remove(D2, GFN(gfn), &error), MFN(n)));
    frame_put_writable(MFN(n));
    p2m_destroy(D2);
    D2->hvm = NULL;
    assert_int_equal(refs(m), r);
    assert_int_equal(typed(m), t);
    assert_int_equal(D2->refs, 2);
}

static void the_machine_to_physical_table(void **state)
{
    assert_int_equal(map(300, entry(M2P_FRAME, RO), DOMID_XEN), 0);
    assert_int_equal(refs(M2P_FRAME), 2);
    check_all();
    assert_int_equal(map(301, entry(M2P_FRAME, RW), DOMID_XEN), -EINVAL);
    assert_int_equal(map(301, entry(HOLE_TABLES, RO), DOMID_XEN), -EINVAL);
    assert_int_equal(map(301, entry(DATA_OF_2(0), RO), DOMID_XEN), -EINVAL);
    assert_int_equal(map(301, entry(M2P_FRAME, RO), DOMID_SELF), -EINVAL);
    assert_int_equal(map(301, entry(M2P_FRAME, RO), 2), -EINVAL);
    assert_int_equal(set_on(L1_OF_2, 300, entry(M2P_FRAME, RO), TABLES_OF(2) | DOMID_XEN), 0);
    assert_int_equal(refs(M2P_FRAME), 3);
    check_all();
    assert_int_equal(set_on(L1_OF_2, 300, 0, TABLES_OF(2) | DOMID_XEN), 0);
    assert_int_equal(map(300, 0, DOMID_XEN), 0);
    assert_int_equal(refs(M2P_FRAME), 1);
    D1->is_privileged = false;
    assert_int_equal(map(300, entry(M2P_FRAME, RO), DOMID_XEN), -EPERM);
}

/* What Croft shares with domain 0 (its trace buffers) may be mapped as the hypervisor's as well, as Croft shared it; no more. */
static void what_croft_shares(void **state)
{
    uint64_t m = SHARED_INFO_OF(0), r = refs(m), t = typed(m), control = frames[m].control;

    assert_int_equal(map(300, entry(m, RW), DOMID_XEN), 0);
    assert_int_equal(map(301, entry(m, RO), DOMID_XEN), 0);
    assert_int_equal(refs(m), r + 2);
    assert_int_equal(typed(m), t + 1);
    check_all();
    assert_int_equal(set_on(L1_OF_2, 300, entry(m, RO), TABLES_OF(2) | DOMID_XEN), 0);
    check_all();
    assert_int_equal(set_on(L1_OF_2, 300, 0, TABLES_OF(2) | DOMID_XEN), 0);
    assert_int_equal(map(300, 0, DOMID_XEN), 0);
    assert_int_equal(map(301, 0, DOMID_XEN), 0);
    assert_int_equal(refs(m), r);
    assert_int_equal(typed(m), t);

    frames[m].control |= FRAME_SHARED_RO;
    assert_int_equal(map(300, entry(m, RW), DOMID_XEN), -EINVAL);
    assert_int_equal(map(300, entry(m, RO), DOMID_XEN), 0);
    check_all();
    assert_int_equal(map(300, 0, DOMID_XEN), 0);
    frames[m].control = control;
    /* Not another domain's, not an ordinary frame */
    assert_int_equal(map(300, entry(SHARED_INFO_OF(1), RO), DOMID_XEN), -EINVAL);
    assert_int_equal(map(300, entry(dom_mfn(0, 8), RO), DOMID_XEN), -EINVAL);
    D1->is_privileged = false;
    assert_int_equal(map(300, entry(m, RO), DOMID_XEN), -EPERM);
}

/* Where a frame was ever mapped by another, all CPUs flush before it becomes something else. */
static void a_change_of_type_flushes_all(void **state)
{
    uint64_t m = DATA_OF_2(0);

    assert_int_equal(map(300, entry(m, RW), 2), 0);
    check_model();
    assert_true(tlb[0].write[m]);
    assert_int_equal(map(300, 0, 2), 0);
    self = 2;
    assert_int_equal(set_entry(L1_OF_2, 8, 0), 0); /* its own mapping */
    assert_int_equal(typed(m), 0);
    flushes = 0;
    assert_int_equal(mmuext(MMUEXT_PIN_L1_TABLE, m), 0);
    assert_int_equal(flushes, CPUS);
    assert_false(tlb[0].write[m] || tlb[1].write[m]);
    check_all();
    /* And back: nobody walks it any more. */
    assert_int_equal(mmuext(MMUEXT_UNPIN_TABLE, m), 0);
    self = 0;
    flushes = 0;
    assert_int_equal(map(300, entry(m, RW), 2), 0);
    assert_int_equal(flushes, CPUS);
    self = 2;
    assert_int_equal(mmuext(MMUEXT_PIN_L1_TABLE, m), -EINVAL); /* while it is mapped */
    self = 0;
    assert_int_equal(map(300, entry(m, RO), 2), 0);
    self = 2;
    assert_int_equal(mmuext(MMUEXT_PIN_L1_TABLE, m), 0);
    check_all();
    self = 0;
    assert_int_equal(map(300, entry(m, RW), 2), -EINVAL);
    /* A frame that nobody else had mapped: the owner's CPUs alone. */
    self = 2;
    m = DATA_OF_2(1);
    assert_int_equal(set_entry(L1_OF_2, 9, 0), 0);
    flushes = 0;
    assert_int_equal(mmuext(MMUEXT_PIN_L1_TABLE, m), 0);
    assert_int_equal(flushes, 2);
    /* The mark goes with the frame. */
    self = 0;
    assert_int_equal(map(300, 0, 2), 0);
    self = 2;
    m = DATA_OF_2(0);
    assert_int_equal(mmuext(MMUEXT_UNPIN_TABLE, m), 0);
    assert_true(frame_release(MFN(m), D2));
    give_frame(MFN(m), D2);
    assert_false(frames[m].control & FRAME_FOREIGN);
}

static void a_frame_given_back_while_mapped(void **state)
{
    uint64_t m = DATA_OF_2(0);

    assert_int_equal(map(300, entry(m, RW), 2), 0);
    self = 2;
    assert_int_equal(set_entry(L1_OF_2, 8, 0), 0);
    assert_true(frame_release(MFN(m), D2));
    assert_int_equal(frame_owner(&frames[m]), 2);
    assert_int_equal(frames_freed, 0);
    check_all();
    self = 0;
    assert_int_equal(map(300, 0, DOMID_SELF), 0);
    assert_int_equal(frames_freed, 1);
    assert_int_equal(frame_owner(&frames[m]), DOMID_FREE);
    check_all();
    assert_int_equal(map(300, entry(m, RW), 2), -EINVAL);
}

static void tables_of_another(void **state)
{
    uint64_t tables = TABLES_OF(2), m = DATA_OF_2(0);
    uint32_t r = refs(m);
    struct mmu_update two[2] = {{L1_OF_2 << PAGE_SHIFT | 310 * 8, entry(m, RW)},
                                {L1 << PAGE_SHIFT | 310 * 8, entry(m, RO)}};

    assert_int_equal(set_on(L1_OF_2, 300, entry(m, RW), tables | 2), 0);
    assert_int_equal(refs(m), r + 1);
    assert_false(frames[m].control & FRAME_FOREIGN);
    check_all();
    assert_int_equal(mmu_update_on(two, 2, tables | 2), -EINVAL); /* the second is in a table of the caller's */
    assert_int_equal(done, 1);
    assert_int_equal(set_on(L1_OF_2, 301, entry(dom_mfn(0, 8), RW), tables | 2), -EINVAL);
    /* A frame of the caller's in the other's table */
    r = refs(dom_mfn(0, 8));
    assert_int_equal(set_on(L1_OF_2, 301, entry(dom_mfn(0, 8), RW), tables | DOMID_SELF), 0);
    assert_int_equal(refs(dom_mfn(0, 8)), r + 1);
    assert_true(frames[dom_mfn(0, 8)].control & FRAME_FOREIGN);
    check_all();
    self = 2; /* which may take it away, but not put it back */
    assert_int_equal(set_entry(L1_OF_2, 301, 0), 0);
    assert_int_equal(set_entry(L1_OF_2, 301, entry(dom_mfn(0, 8), RW)), -EINVAL);
    self = 0;
    assert_int_equal(refs(dom_mfn(0, 8)), r);
    /* Data, by the same call */
    assert_int_equal(set_on(SPARE_L1_OF_2, 5, 0x1234, tables | 2), 0);
    assert_int_equal(ram[SPARE_L1_OF_2][5], 0x1234);
    /* The machine-to-physical table's entries of its frames */
    two[0] = (struct mmu_update){m << PAGE_SHIFT | MMU_MACHPHYS_UPDATE, 77};
    assert_int_equal(mmu_update_on(two, 1, tables | 2), 0);
    assert_int_equal(m2p[m], 77);
    two[0].val = 78;
    assert_int_equal(mmu_update_on(two, 1, 2), 0);
    assert_int_equal(m2p[m], 78);
    assert_int_equal(mmu_update_on(two, 1, tables | DOMID_SELF), -EINVAL);
    assert_int_equal(mmu_update_on(two, 1, DOMID_SELF), -EINVAL);
    assert_int_equal(mmu_update_on(two, 1, DOMID_XEN), -EINVAL);
    assert_int_equal(m2p[m], 78);
    assert_int_equal(mmu_update_on(two, 1, TABLES_OF(9) | 2), -ESRCH);
    assert_int_equal(mmu_update_on(two, 1, tables | 9), -ESRCH);
    assert_int_equal(D1->refs, 2);
    assert_int_equal(D2->refs, 2);
}

static bool always(void) { return true; }
static bool and_audit(void)
{
    check_all();
    return true;
}
static bool leave(void) { return false; }

/* A pin of a tree of another's tables, in slices; what is left in the middle belongs to no vcpu. */
static void pins_on_another(void **state)
{
    uint64_t root = dom_mfn(1, 7 + 12), l3 = dom_mfn(1, 6 + 12), l2[2] = {dom_mfn(1, 4 + 12), dom_mfn(1, 5 + 12)};

    ram[root][0] = entry(l3, RW);
    for (unsigned i = 0; i < 2; i++) {
        ram[l3][i] = entry(l2[i], RW);
        for (unsigned j = 0; j < 4; j++) {
            ram[l2[i]][j] = entry(dom_mfn(1, 24 + i * 12 + j), RW);
            ram[dom_mfn(1, 24 + i * 12 + j)][3] = entry(DATA_OF_2(0), RW);
        }
    }
    assert_int_equal(ext_on(MMUEXT_PIN_L4_TABLE, dom_mfn(0, 7 + 12), 2), -EINVAL); /* the caller's own */
    assert_int_equal(ext_on(MMUEXT_PIN_L4_TABLE, root, DOMID_SELF), -EINVAL);
    assert_int_equal(ext_on(MMUEXT_PIN_L4_TABLE, root, 2), 0);
    assert_true(frames[root].type & TYPE_PINNED);
    check_all();
    assert_int_equal(ext_on(MMUEXT_PIN_L4_TABLE, root, 2), -EINVAL);
    assert_int_equal(ext_on(MMUEXT_UNPIN_TABLE, root, DOMID_SELF), -EINVAL);
    self = 2; /* the owner may unpin */
    assert_int_equal(mmuext(MMUEXT_UNPIN_TABLE, root), 0);
    self = 0;
    preempt = always;
    between_slices = and_audit;
    assert_int_equal(ext_on(MMUEXT_PIN_L4_TABLE, root, 2), 0);
    assert_true(slices > 5);
    assert_null(vcpus[0].pv.held.kept);
    assert_null(D2->pv.held.kept);
    assert_int_equal(ext_on(MMUEXT_UNPIN_TABLE, root, 2), 0);
    assert_true(slices > 5);
    assert_int_equal(typed(l2[0]), 0);
    between_slices = leave;
    assert_int_equal(ext_on(MMUEXT_PIN_L4_TABLE, root, 2), CONTINUED);
    assert_non_null(D2->pv.held.kept);
    assert_int_equal(D2->refs, 2);
    check_all();
    self = 1;
    preempt = NULL;
    assert_int_equal(ext_on(MMUEXT_PIN_L4_TABLE, root, 2), 0);
    assert_null(D2->pv.held.kept);
    preempt = always;
    assert_int_equal(ext_on(MMUEXT_UNPIN_TABLE, root, 2), CONTINUED);
    assert_non_null(D2->pv.held.doomed);
    check_all();
}

static void what_is_only_for_own_vcpus(void **state)
{
    static const unsigned refused[] = {MMUEXT_NEW_BASEPTR,   MMUEXT_NEW_USER_BASEPTR, MMUEXT_TLB_FLUSH_LOCAL,
                                       MMUEXT_TLB_FLUSH_ALL, MMUEXT_INVLPG_ALL,       MMUEXT_SET_LDT,
                                       MMUEXT_FLUSH_CACHE,   MMUEXT_TLB_FLUSH_MULTI,  200};
    struct mmuext_op copy = {.cmd = MMUEXT_COPY_PAGE, .arg1.mfn = SPARE_L1_OF_2, .arg2.src_mfn = DATA_OF_2(0)};

    for (unsigned i = 0; i < ARRAY_SIZE(refused); i++)
        assert_int_equal(ext_on(refused[i], dom_mfn(1, ROOT), 2), -EPERM);
    memset(ram[DATA_OF_2(0)], 0x5a, PAGE_SIZE);
    assert_int_equal(mmuext_on(&copy, 1, 2), 0);
    assert_memory_equal(ram[SPARE_L1_OF_2], ram[DATA_OF_2(0)], PAGE_SIZE);
    assert_int_equal(ext_on(MMUEXT_CLEAR_PAGE, SPARE_L1_OF_2, 2), 0);
    assert_int_equal(ram[SPARE_L1_OF_2][9], 0);
    assert_int_equal(ext_on(MMUEXT_CLEAR_PAGE, L1_OF_2, 2), -EINVAL);
    assert_int_equal(ext_on(MMUEXT_CLEAR_PAGE, dom_mfn(0, 8), 2), -EINVAL);
    copy.arg2.src_mfn = dom_mfn(0, 8);
    assert_int_equal(mmuext_on(&copy, 1, 2), -EINVAL);
    assert_int_equal(ext_on(MMUEXT_UNPIN_TABLE, 0, 9), -ESRCH);
}

static void without_privilege(void **state)
{
    D1->is_privileged = false;
    assert_int_equal(map(300, entry(DATA_OF_2(0), RO), 2), -EPERM);
    assert_int_equal(map(300, entry(DATA_OF_2(0), RO), 3), -EPERM); /* nor does it learn who is there */
    assert_int_equal(set_on(L1_OF_2, 300, 0, TABLES_OF(2) | 2), -EPERM);
    assert_int_equal(set_on(L1_OF_2, 300, 0, TABLES_OF(2) | DOMID_SELF), -EPERM);
    assert_int_equal(set_on(L1, 300, 0, TABLES_OF(1) | 2), -EPERM);
    assert_int_equal(set_on(L1, 300, 0, TABLES_OF(1) | 1), 0);
    assert_int_equal(set_on(L1, 300, 0, TABLES_OF(DOMID_SELF) | DOMID_SELF), 0);
    assert_int_equal(ext_on(MMUEXT_UNPIN_TABLE, dom_mfn(1, ROOT), 2), -EPERM);
    assert_int_equal(ext_on(MMUEXT_CLEAR_PAGE, SPARE_L1_OF_2, 2), -EPERM);
    self = 2;
    assert_int_equal(set_on(L1, 300, 0, TABLES_OF(1) | 1), -EPERM);
    assert_int_equal(D1->refs, 2);
    assert_int_equal(D2->refs, 2);
}

/* Nothing of a dying domain can be mapped, nor become a table. */
static void a_dying_domain(void **state)
{
    assert_int_equal(map(300, entry(DATA_OF_2(0), RW), 2), 0);
    event_work = 1;
    preempt = always;
    assert_int_equal(destroy_step(D2), -ERESTART);
    preempt = NULL;
    assert_int_equal(map(301, entry(DATA_OF_2(1), RW), 2), -EINVAL);
    assert_int_equal(map(301, entry(DATA_OF_2(1), RO), 2), -EINVAL);
    assert_int_equal(ext_on(MMUEXT_PIN_L1_TABLE, SPARE_L1_OF_2, 2), -EINVAL);
    assert_int_equal(set_on(dom_mfn(1, ROOT_L2), 1, entry(SPARE_L1_OF_2, RW), TABLES_OF(2) | 2), -EINVAL);
    check_all();
    while (destroy_step(D2))
        check_all();
    assert_int_equal(map(301, entry(DATA_OF_2(0), RO), 2), -EINVAL);
    assert_int_equal(map(300, 0, 2), 0);
    run_softirqs();
    assert_int_equal(map(301, entry(DATA_OF_2(0), RO), 2), -ESRCH);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(mappings),
        TEST(by_address),
        TEST(numbers_of_the_other),
        TEST(the_machine_to_physical_table),
        TEST(what_croft_shares),
        TEST(a_change_of_type_flushes_all),
        TEST(a_frame_given_back_while_mapped),
        TEST(tables_of_another),
        TEST(pins_on_another),
        TEST(what_is_only_for_own_vcpus),
        TEST(without_privilege),
        TEST(a_dying_domain),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
