/* sources: hypervisor/domain/domain_destroy.c hypervisor/memory/frame.c hypervisor/hvm/p2m.c hypervisor/hvm/pod.c hypervisor/memory/audit.c hypervisor/pv/mmu_types.c hypervisor/pv/mmuext.c hypervisor/pv/mmu.c */
/* The PV MMU: what it accepts, what it refuses, long work in slices; then random operations with the audit and a model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define FAIL_TEST(text) fail_msg("%s", text)
static unsigned pick(unsigned n);
#include "fake_mmu_ops.h"

static uint64_t random_state;
static unsigned pick(unsigned n)
{
    random_state = random_state * 6364136223846793005UL + 1442695040888963407UL;
    return n <= 1 ? 0 : (unsigned)((random_state >> 33) % n);
}

#define D1 (&doms[0])
#define V0 (&vcpus[0])
#define ROOT_MFN(level) dom_mfn(0, 4 - (level)) /* the start's tables */
#define DATA(i) dom_mfn(0, 8 + (i))             /* mapped writable at the start, four of them */

/* Frames that nothing uses, for a tree of tables: contents as the test likes. */
static uint64_t spare(unsigned i) /* skips what the start maps */
{
    unsigned n = 4;

    for (;; n++)
        if (role_level(n) && !i--)
            return dom_mfn(0, n);
}

static int setup(void **state)
{
    start_machine();
    check_all();
    return 0;
}

static int teardown(void **state)
{
    check_all();
    end_machine();
    return 0;
}

static uint64_t *at(uint64_t m) { return ram[m]; }
static uint64_t type_of(uint64_t m) { return frames[m].type; }
static void refused(long rc)
{
    assert_int_equal(rc, -EINVAL);
    check_all();
}

/* ---- mmu_update ---- */

static void leaf_entries_that_are_refused(void **state)
{
    const uint64_t l1 = ROOT_MFN(1), old = at(l1)[300] = 0;

    refused(set_entry(l1, 300, entry(l1, RW)));            /* itself */
    refused(set_entry(l1, 300, entry(ROOT_MFN(4), RW)));   /* a table */
    refused(set_entry(l1, 300, entry(dom_mfn(1, 8), RW))); /* the other domain's */
    refused(set_entry(l1, 300, entry(dom_mfn(1, 8), RO)));
    refused(set_entry(l1, 300, entry(0, RO))); /* Croft's */
    refused(set_entry(l1, 300, entry(HOLE_TABLES, RO)));
    refused(set_entry(l1, 300, entry(FREE_FIRST, RO)));
    refused(set_entry(l1, 300, entry(SHARED_RO, RW)));
    refused(set_entry(l1, 300, entry(RAM_FRAMES, RW))); /* beyond RAM, no device */
    refused(set_entry(l1, 300, entry(0xffffffffffUL, RO)));
    refused(set_entry(l1, 300, entry(IO_FIRST, RO)));
    refused(set_entry(l1, 300, entry(IO_FORBIDDEN_MFN, RO)));
    self = 2;
    refused(set_entry(dom_mfn(1, ROOT_L1), 300, entry(IO_FULL_MFN, RO))); /* a domain without devices */
    refused(set_entry(dom_mfn(1, ROOT_L1), 300, entry(SHARED_RW, RO)));   /* shared with another domain */
    refused(set_entry(dom_mfn(1, ROOT_L1), 300,
                      entry(dom_mfn(1, 8), RO) | PTE_PCD)); /* past the caches: for devices only */
    refused(set_entry(dom_mfn(1, ROOT_L1), 300, entry(dom_mfn(1, 8), RW) | PTE_PWT));
    refused(set_entry(dom_mfn(1, ROOT_L1), 300, entry(dom_mfn(1, 8), RW) | PTE_PAT));
    assert_int_equal(set_entry(dom_mfn(1, ROOT_L1), 300, entry(dom_mfn(1, 8), RW)), 0);
    refused(set_entry(dom_mfn(1, ROOT_L1), 300, entry(dom_mfn(1, 8), RW) | PTE_PCD)); /* a small change */
    assert_int_equal(set_entry(dom_mfn(1, ROOT_L1), 300, 0), 0);
    self = 0;
    assert_true(at(l1)[300] == old);
    assert_int_equal(FRAME_REFS(frames[dom_mfn(1, 8)].control), 2);
}

static void leaf_entries_that_are_taken(void **state)
{
    const uint64_t l1 = ROOT_MFN(1), m = spare(0);

    assert_int_equal(set_entry(l1, 300, entry(m, RW)), 0);
    assert_true(type_of(m) == (TYPE_MAKE(FRAME_WRITABLE) | 1));
    assert_int_equal(set_entry(l1, 300, entry(m, RO)), 0); /* less: the type goes, the reference stays */
    assert_int_equal(TYPE_COUNT(type_of(m)), 0);
    assert_int_equal(FRAME_REFS(frames[m].control), 2);
    assert_int_equal(set_entry(l1, 300, entry(m, RW) | PTE_NX), 0);
    assert_int_equal(TYPE_COUNT(type_of(m)), 1);
    assert_int_equal(set_entry(l1, 300, entry(m, RW) | PTE_PCD), 0);
    assert_int_equal(TYPE_COUNT(type_of(m)), 1);
    assert_int_equal(set_entry(l1, 301, entry(l1, RO)), 0); /* a table may be read */
    assert_int_equal(set_entry(l1, 302, entry(SHARED_RO, RO)), 0);
    assert_int_equal(set_entry(l1, 303, entry(IO_FULL_MFN, RW)), 0);
    assert_int_equal(set_entry(l1, 304, entry(IO_READ_ONLY_MFN, RW)), 0);
    assert_false(at(l1)[304] & PTE_WRITE);
    assert_int_equal(set_entry(l1, 304, entry(IO_READ_ONLY_MFN, RW) | PTE_PCD), 0);
    assert_false(at(l1)[304] & PTE_WRITE);
    /* Corrected as the ABI has it: user always, global never. */
    assert_int_equal(set_entry(l1, 305, m << PAGE_SHIFT | PTE_PRESENT | PTE_GLOBAL), 0);
    assert_true(at(l1)[305] == (m << PAGE_SHIFT | PTE_PRESENT | PTE_USER));
    assert_int_equal(set_entry(l1, 305, m << PAGE_SHIFT | PTE_PRESENT | PTE_GLOBAL | PTE_NX), 0);
    assert_true(at(l1)[305] == (m << PAGE_SHIFT | PTE_PRESENT | PTE_USER | PTE_NX));
    check_all();
    for (unsigned i = 300; i < 306; i++)
        assert_int_equal(set_entry(l1, i, 0xdead000 + i * 2), 0); /* what is not present may hold anything */
    assert_int_equal(FRAME_REFS(frames[m].control), 1);
}

static void table_entries_that_are_refused(void **state)
{
    const uint64_t l2 = ROOT_MFN(2), l3 = ROOT_MFN(3), l4 = ROOT_MFN(4), m = spare(0);

    refused(set_entry(l2, 5, entry(m, RW | PTE_PSE)));
    refused(set_entry(l3, 5, entry(m, RW | PTE_PSE)));
    refused(set_entry(l2, 5, entry(m, RW | PTE_GLOBAL)));
    refused(set_entry(l2, 5, entry(m, RW | PTE_PCD)));
    refused(set_entry(l4, 5, entry(m, RW | PTE_PWT)));
    refused(set_entry(l2, 0, at(l2)[0] | PTE_PSE)); /* the present table, made large */
    refused(set_entry(l2, 0, at(l2)[0] | PTE_PWT)); /* ... read past the caches */
    refused(set_entry(l2, 5, entry(l2, RW)));       /* itself, higher ones */
    refused(set_entry(l2, 5, entry(l3, RW)));
    refused(set_entry(l4, 5, entry(l4, RW)));
    refused(set_entry(l4, 5, entry(l2, RW)));
    refused(set_entry(l3, 5, entry(ROOT_MFN(1), RW)));
    refused(set_entry(l2, 5, entry(DATA(0), RW))); /* writable */
    refused(set_entry(l2, 5, entry(dom_mfn(1, 4), RW)));
    refused(set_entry(l2, 5, entry(dom_mfn(1, ROOT_L1), RW)));
    refused(set_entry(l2, 5, entry(0, RW)));
    refused(set_entry(l2, 5, entry(IO_FULL_MFN, RW)));
    refused(set_entry(l2, 5, entry(0xffffffffffUL, RW)));
    at(m)[511] = entry(ROOT_MFN(4), RW); /* a bad last entry: everything is given back */
    at(m)[3] = entry(spare(1), RW);
    refused(set_entry(l2, 5, entry(m, RW)));
    assert_int_equal(FRAME_REFS(frames[spare(1)].control), 1);
    assert_int_equal(TYPE_COUNT(type_of(m)), 0);
    assert_true(frame_get_segdesc(MFN(spare(2)), D1));
    refused(set_entry(l2, 5, entry(spare(2), RW)));
    frame_put_segdesc(MFN(spare(2)));
    assert_int_equal(at(l2)[5], 0);
}

static void hypervisor_slots(void **state)
{
    const uint64_t l4 = ROOT_MFN(4), m = spare(0);

    for (unsigned slot = 256; slot < 272; slot++) {
        refused(set_entry(l4, slot, 0));
        refused(set_entry(l4, slot, entry(ROOT_MFN(3), RW)));
        refused(set_entry(l4, slot, host_l4[slot]));
        at(m)[slot] = entry(dom_mfn(1, 8), RW); /* what a new root has there does not count */
    }
    assert_int_equal(mmuext(MMUEXT_PIN_L4_TABLE, m), 0);
    assert_memory_equal(at(m) + 256, host_l4 + 256, 16 * 8);
    check_all();
    assert_int_equal(set_entry(l4, 255, entry(ROOT_MFN(3), RW)), 0);
    assert_int_equal(set_entry(l4, 272, entry(ROOT_MFN(3), RW)), 0);
}

static void frames_that_cannot_be_updated(void **state)
{
    refused(set_entry(dom_mfn(1, ROOT_L1), 8, 0));
    refused(set_entry(0, 0, 0));
    refused(set_entry(RAM_FRAMES, 0, 0));
    refused(set_entry(~0UL >> PAGE_SHIFT, 0, 0));
    refused(set_entry(SHARED_RO, 0, 1));
    assert_int_equal(set_entry(DATA(0), 7, 0x1234), 0); /* plain memory */
    assert_int_equal(at(DATA(0))[7], 0x1234);
    assert_true(frame_get_segdesc(MFN(spare(0)), D1));
    refused(set_entry(spare(0), 0, 1));
    frame_put_segdesc(MFN(spare(0)));
}

static void accessed_and_dirty_bits(void **state)
{
    const uint64_t l1 = ROOT_MFN(1), m = DATA(0);
    struct mmu_update u = {.ptr = l1 << PAGE_SHIFT | 8 * 8 | MMU_PT_UPDATE_PRESERVE_AD,
                           .val = m << PAGE_SHIFT | PTE_PRESENT | PTE_USER};

    assert_true(at(l1)[8] & PTE_DIRTY);
    assert_int_equal(mmu_update_n(&u, 1), 0);
    assert_true(at(l1)[8] == (u.val | PTE_ACCESSED | PTE_DIRTY));
    u.val |= PTE_NX; /* the same frame in the same use */
    assert_int_equal(mmu_update_n(&u, 1), 0);
    assert_true(at(l1)[8] == (u.val | PTE_ACCESSED | PTE_DIRTY));
    u.ptr = (u.ptr & ~7UL) | MMU_NORMAL_PT_UPDATE;
    assert_int_equal(mmu_update_n(&u, 1), 0);
    assert_true(at(l1)[8] == u.val);
}

static void machine_to_physical(void **state)
{
    struct mmu_update u = {.ptr = DATA(0) << PAGE_SHIFT | MMU_MACHPHYS_UPDATE, .val = 4711};

    assert_int_equal(mmu_update_n(&u, 1), 0);
    assert_int_equal(m2p[DATA(0)], 4711);
    u.ptr = dom_mfn(1, 8) << PAGE_SHIFT | MMU_MACHPHYS_UPDATE;
    refused(mmu_update_n(&u, 1));
    u.ptr = 0x123456UL << PAGE_SHIFT | MMU_MACHPHYS_UPDATE;
    refused(mmu_update_n(&u, 1));
    /* With device memory for the leaf entries' owner */
    u.ptr = dom_mfn(1, 8) << PAGE_SHIFT | MMU_MACHPHYS_UPDATE;
    refused(hypercall(hypercall_mmu_update, (uint64_t)&u, 1, 0, DOMID_IO));
    assert_int_equal(m2p[dom_mfn(1, 8)], 0);
}

static void batches_stop_at_the_first_error(void **state)
{
    const uint64_t l1 = ROOT_MFN(1) << PAGE_SHIFT;
    struct mmu_update u[4] = {{l1 | 300 * 8, entry(spare(0), RO)},
                              {l1 | 301 * 8, entry(spare(0), RO)},
                              {l1 | 302 * 8, entry(dom_mfn(1, 8), RO)},
                              {l1 | 303 * 8, entry(spare(0), RO)}};

    refused(mmu_update_n(u, 4));
    assert_int_equal(done, 2);
    assert_int_equal(at(ROOT_MFN(1))[303], 0);
    u[2].val = 0;
    assert_int_equal(mmu_update_n(u, 4), 0);
    bad_after = 2;
    assert_int_equal(mmu_update_n(u, 4), -EFAULT);
    assert_int_equal(done, 2);
    bad_after = ~0U;
    u[1].ptr |= 6;
    assert_int_equal(mmu_update_n(u, 4), -ENOSYS);
    assert_int_equal(hypercall(hypercall_mmu_update, (uint64_t)u, 1, (uint64_t)bad_pointer, DOMID_SELF), -EFAULT);
    assert_int_equal(hypercall(hypercall_mmu_update, (uint64_t)u, 1, 0, 2), -EPERM);
    assert_int_equal(hypercall(hypercall_mmu_update, (uint64_t)u, 1, 0, 3 << 16 | DOMID_SELF), -EPERM);
    assert_int_equal(hypercall(hypercall_mmu_update, (uint64_t)u, 1, 0, 2 << 16 | DOMID_SELF), 0);
    D1->is_privileged = true;
    assert_int_equal(hypercall(hypercall_mmu_update, (uint64_t)u, 1, 0, 3), -ESRCH);
    assert_int_equal(hypercall(hypercall_mmu_update, (uint64_t)u, 1, 0, 4 << 16 | DOMID_SELF), -ESRCH);
}

static bool always(void) { return true; }
static bool and_audit(void)
{
    check_all();
    return true;
}

static void batches_in_slices(void **state)
{
    struct mmu_update u[50];

    for (unsigned i = 0; i < 50; i++)
        u[i] = (struct mmu_update){ROOT_MFN(1) << PAGE_SHIFT | (300 + i) * 8, entry(spare(0), RW)};
    preempt = always;
    between_slices = and_audit;
    assert_int_equal(mmu_update_n(u, 50), 0);
    assert_int_equal(slices, 50);
    assert_int_equal(done, 50);
    assert_int_equal(TYPE_COUNT(type_of(spare(0))), 50);
}

/* ---- update_va_mapping ---- */

static long update_va(uint64_t va, uint64_t val, uint64_t flags)
{
    return hypercall(hypercall_update_va_mapping, va, val, flags, 0);
}

static void update_by_address(void **state)
{
    uint64_t vcpus_mask = 2;

    assert_int_equal(update_va(300 << PAGE_SHIFT, entry(spare(0), RW), UVMF_INVLPG | UVMF_LOCAL), 0);
    assert_true(at(ROOT_MFN(1))[300] == entry(spare(0), RW));
    check_model();
    assert_int_equal(update_va(300 << PAGE_SHIFT, 0, UVMF_TLB_FLUSH | (uint64_t)&vcpus_mask), 0);
    assert_int_equal(tlb[0].write[spare(0)], 1);
    assert_int_equal(tlb[1].write[spare(0)], 0);
    assert_int_equal(update_va(300 << PAGE_SHIFT, 0, UVMF_TLB_FLUSH | UVMF_ALL), 0);
    assert_int_equal(tlb[0].write[spare(0)], 0);
    assert_int_equal(update_va(300 << PAGE_SHIFT, 0, UVMF_TLB_FLUSH | (uint64_t)bad_pointer), -EFAULT);
    refused(update_va(300 << PAGE_SHIFT, entry(ROOT_MFN(1), RW), 0));
    refused(update_va(1UL << 21, 0, 0)); /* no tables */
    refused(update_va(1UL << 30, 0, 0));
    refused(update_va(1UL << 39, 0, 0));
    refused(update_va(~0UL, 0, 0));
}

/* The hypervisor's tables are behind every root: no address leads there, canonical or not. */
static void update_of_hypervisor_addresses(void **state)
{
    mfn_t m;

    for (uint64_t slot = 256; slot < 272; slot++) {
        const uint64_t va[] = {slot << 39, slot << 39 | 0xffffUL << 48, slot << 39 | 1UL << 60,
                               (slot << 39) + 0x7ffffff000UL, ((slot << 39) + 0x7ffffff000UL) | 0xffffUL << 48};

        for (unsigned i = 0; i < ARRAY_SIZE(va); i++) {
            refused(update_va(va[i], entry(spare(0), RW), 0));
            assert_false(mmu_get_page_of_va(V0, va[i], false, &m));
        }
    }
}

static void update_with_device_memory(void **state)
{
    assert_int_equal(
        hypercall(hypercall_update_va_mapping_otherdomain, 300 << PAGE_SHIFT, entry(IO_FULL_MFN, RW), 0, DOMID_IO), 0);
    refused(hypercall(hypercall_update_va_mapping_otherdomain, 301 << PAGE_SHIFT, entry(spare(0), RW), 0, DOMID_IO));
    assert_int_equal(
        hypercall(hypercall_update_va_mapping_otherdomain, 301 << PAGE_SHIFT, entry(dom_mfn(1, 8), RW), 0, 2), -EPERM);
    assert_int_equal(hypercall(hypercall_update_va_mapping_otherdomain, 301 << PAGE_SHIFT, entry(spare(0), RW), 0, 1),
                     0);
    self = 2;
    assert_int_equal(
        hypercall(hypercall_update_va_mapping_otherdomain, 300 << PAGE_SHIFT, entry(IO_FULL_MFN, RW), 0, DOMID_IO),
        -EPERM);
    self = 0;
}

static void pages_of_addresses(void **state)
{
    mfn_t m;

    assert_true(mmu_get_page_of_va(V0, 8 << PAGE_SHIFT, true, &m));
    assert_int_equal(m.n, DATA(0));
    frame_put(m);
    assert_false(mmu_get_page_of_va(V0, 300 << PAGE_SHIFT, false, &m));
    assert_int_equal(set_entry(ROOT_MFN(1), 300, entry(DATA(0), RO)), 0);
    assert_false(mmu_get_page_of_va(V0, 300 << PAGE_SHIFT, true, &m));
    assert_int_equal(set_entry(ROOT_MFN(1), 301, entry(IO_FULL_MFN, RW)), 0);
    assert_false(mmu_get_page_of_va(V0, 301 << PAGE_SHIFT, false, &m));
    assert_false(mmu_get_page_of_va(V0, 1UL << 40, false, &m));
}

/* ---- mmuext_op ---- */

static void pins(void **state)
{
    uint64_t m = spare(0);

    assert_int_equal(mmuext(MMUEXT_PIN_L1_TABLE, m), 0);
    refused(mmuext(MMUEXT_PIN_L1_TABLE, m));
    refused(mmuext(MMUEXT_PIN_L2_TABLE, m));
    assert_int_equal(TYPE_COUNT(type_of(m)), 1);
    assert_int_equal(mmuext(MMUEXT_UNPIN_TABLE, m), 0);
    refused(mmuext(MMUEXT_UNPIN_TABLE, m));
    refused(mmuext(MMUEXT_UNPIN_TABLE, ROOT_MFN(1)));
    refused(mmuext(MMUEXT_UNPIN_TABLE, 0));
    refused(mmuext(MMUEXT_UNPIN_TABLE, RAM_FRAMES));
    refused(mmuext(MMUEXT_UNPIN_TABLE, dom_mfn(1, ROOT))); /* another domain's, pinned */
    refused(mmuext(MMUEXT_PIN_L4_TABLE, dom_mfn(1, 7)));
    refused(mmuext(MMUEXT_PIN_L1_TABLE, DATA(0)));
    refused(mmuext(MMUEXT_PIN_L1_TABLE, IO_FULL_MFN));
    refused(mmuext(MMUEXT_PIN_L1_TABLE, FREE_FIRST));
    assert_int_equal(mmuext(MMUEXT_PIN_L1_TABLE, ROOT_MFN(1)), 0); /* one in use */
    assert_int_equal(TYPE_COUNT(type_of(ROOT_MFN(1))), 2);
    check_all();
    assert_int_equal(mmuext(MMUEXT_UNPIN_TABLE, ROOT_MFN(1)), 0);
    assert_int_equal(mmuext(MMUEXT_UNPIN_TABLE, ROOT_MFN(4)), 0); /* the start's root stays, as the vcpus' root */
    assert_true(type_of(ROOT_MFN(4)) & TYPE_VALIDATED);
}

static void a_pinned_frame_that_is_released(void **state)
{
    uint64_t m = spare(0);

    assert_int_equal(mmuext(MMUEXT_PIN_L1_TABLE, m), 0);
    assert_true(frame_release(MFN(m), D1));
    check_all();
    assert_int_equal(frames_freed, 0);
    assert_int_equal(mmuext(MMUEXT_UNPIN_TABLE, m), 0);
    assert_int_equal(frames_freed, 1);
}

/* A root with 2 L3, 2 L2 each, 4 L1 each: 23 tables; all L1 map some data. */
#define TREE_TABLES 23
static uint64_t build_tree(void)
{
    unsigned n = 0;
    uint64_t root = spare(n++);

    for (unsigned i = 0; i < 2; i++) {
        uint64_t l3 = spare(n++);

        at(root)[i * 511] = entry(l3, RW);
        for (unsigned j = 0; j < 2; j++) {
            uint64_t l2 = spare(n++);

            at(l3)[j * 100] = entry(l2, RW);
            for (unsigned k = 0; k < 4; k++) {
                uint64_t l1 = spare(n++);

                at(l2)[k * 17] = entry(l1, RW);
                at(l1)[k] = entry(DATA(k), RW);
                at(l1)[k + 100] = entry(l2, RO);
                at(l1)[511] = entry(spare(TREE_TABLES + j), RW);
            }
        }
    }
    REQUIRE(n == TREE_TABLES);
    return root;
}

static void pin_a_tree(void **state)
{
    uint64_t root = build_tree(), before = frames[DATA(0)].control;

    assert_int_equal(mmuext(MMUEXT_PIN_L4_TABLE, root), 0);
    check_all();
    assert_int_equal(TYPE_COUNT(type_of(DATA(0))), 5);
    for (unsigned i = 0; i < TREE_TABLES; i++) {
        assert_true(type_of(spare(i)) & TYPE_VALIDATED);
        refused(set_entry(ROOT_MFN(1), 300, entry(spare(i), RW)));
    }
    assert_int_equal(mmuext(MMUEXT_UNPIN_TABLE, root), 0);
    for (unsigned i = 0; i < TREE_TABLES; i++)
        assert_int_equal(TYPE_COUNT(type_of(spare(i))), 0);
    assert_true(frames[DATA(0)].control == before);
}

/* A fault in the last leaf: nothing of the tree stays. */
/* The builder's own: whatever more urgent there is, each slice makes progress, and nothing of the way is left. */
static void first_root_in_slices(void **state)
{
    struct vcpu *v = D1->vcpus[1];
    uint64_t root = build_tree();
    unsigned slices = 1;
    int rc;

    assert_true(mmu_release_vcpu(v));
    check_all();
    preempt = always;
    for (; (rc = mmu_set_initial_root(v, MFN(root))) == -ERESTART; slices++) {
        assert_non_null(v->pv.held.kept);
        assert_int_equal(v->pv.kernel_root.n, 0);
        check_all();
    }
    preempt = NULL;
    assert_int_equal(rc, 0);
    assert_true(slices > 3);
    assert_true(!v->pv.held.kept && !v->pv.held.doomed);
    assert_int_equal(v->pv.kernel_root.n, root);
    assert_true(type_of(root) & TYPE_PINNED);
    assert_int_equal(TYPE_COUNT(type_of(root)), 2);
    check_all();
    /* One that cannot be: nothing is left of it either. */
    assert_true(mmu_release_vcpu(v));
    assert_int_equal(mmuext(MMUEXT_UNPIN_TABLE, root), 0);
    at(root)[1] = entry(DATA(0), RW | PTE_PSE);
    preempt = always;
    while ((rc = mmu_set_initial_root(v, MFN(root))) == -ERESTART)
        check_all();
    preempt = NULL;
    assert_int_equal(rc, -EINVAL);
    assert_int_equal(v->pv.kernel_root.n, 0);
    assert_true(mmu_release_vcpu(v));
    for (unsigned i = 0; i < TREE_TABLES; i++)
        assert_int_equal(TYPE_COUNT(type_of(spare(i))), 0);
}

static void pin_a_tree_with_a_fault(void **state)
{
    uint64_t root = build_tree(), last = spare(TREE_TABLES - 1);

    at(last)[511] = entry(dom_mfn(1, 8), RW);
    for (unsigned slow = 0; slow < 2; slow++) {
        preempt = slow ? always : NULL;
        between_slices = and_audit;
        refused(mmuext(MMUEXT_PIN_L4_TABLE, root));
        assert_null(V0->pv.held.kept);
        assert_int_equal(mmuext_n(NULL, 0), 0); /* what the error left to do */
        for (unsigned i = 0; i < TREE_TABLES; i++) {
            assert_int_equal(TYPE_COUNT(type_of(spare(i))), 0);
            assert_int_equal(FRAME_REFS(frames[spare(i)].control), 1);
        }
        assert_null(V0->pv.held.doomed);
    }
}

struct snapshot {
    uint64_t type[RAM_FRAMES], control[RAM_FRAMES];
};
static void take_snapshot(struct snapshot *s)
{
    for (unsigned i = 0; i < RAM_FRAMES; i++) {
        s->type[i] = TYPE_COUNT(type_of(i)) ? type_of(i) : 0;
        s->control[i] = frames[i].control;
    }
}

static unsigned validated_before;
static unsigned validated_tables(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < RAM_FRAMES; i++)
        n += TYPE_COUNT(type_of(i)) && (type_of(i) & TYPE_VALIDATED);
    return n;
}
static bool more_each_time(void)
{
    unsigned n = validated_tables();

    check_all();
    for (unsigned i = 0; i < RAM_FRAMES; i++)
        if (TYPE_COUNT(type_of(i)) && type_is_table(TYPE_OF(type_of(i))))
            REQUIRE(type_of(i) & TYPE_VALIDATED);
    REQUIRE(n > validated_before);
    validated_before = n;
    return true;
}
static bool less_each_time(void)
{
    unsigned n = validated_tables();

    check_all();
    REQUIRE(n < validated_before);
    validated_before = n;
    return true;
}

static void preempted_work_ends_in_the_same_state(void **state)
{
    static struct snapshot empty, fast, slow;
    uint64_t root = build_tree();

    take_snapshot(&empty);
    assert_int_equal(mmuext(MMUEXT_PIN_L4_TABLE, root), 0);
    assert_int_equal(slices, 1);
    take_snapshot(&fast);
    assert_int_equal(mmuext(MMUEXT_UNPIN_TABLE, root), 0);
    take_snapshot(&slow);
    assert_memory_equal(&slow, &empty, sizeof(slow));

    preempt = always;
    validated_before = validated_tables();
    between_slices = more_each_time;
    assert_int_equal(mmuext(MMUEXT_PIN_L4_TABLE, root), 0);
    assert_in_range(slices, 10, TREE_TABLES + 1);
    take_snapshot(&slow);
    assert_memory_equal(&slow, &fast, sizeof(slow));
    assert_null(V0->pv.held.kept);

    validated_before = validated_tables();
    between_slices = less_each_time;
    assert_int_equal(mmuext(MMUEXT_UNPIN_TABLE, root), 0);
    assert_in_range(slices, 10, TREE_TABLES + 1);
    take_snapshot(&slow);
    assert_memory_equal(&slow, &empty, sizeof(slow));
    assert_null(V0->pv.held.doomed);
    assert_int_equal(live_pages, 0);
}

/* The same by one entry of mmu_update: what hangs on it is validated, and taken apart, before the call is over. */
static void a_tree_by_mmu_update(void **state)
{
    uint64_t root = build_tree();

    preempt = always;
    between_slices = and_audit;
    assert_int_equal(set_entry(ROOT_MFN(4), 1, at(root)[0]), 0);
    assert_true(slices > 5);
    assert_null(V0->pv.held.kept);
    assert_int_equal(set_entry(ROOT_MFN(4), 1, 0), 0);
    assert_true(slices > 5);
    assert_null(V0->pv.held.doomed);
    for (unsigned i = 0; i < TREE_TABLES; i++)
        assert_int_equal(TYPE_COUNT(type_of(spare(i))), 0);
}

static bool come_back;
static bool never_again(void) { return come_back; }

/* The guest does not come back to its call: the parts that are done stay typed until its next call, or its end. */
static void calls_that_are_left_alone(void **state)
{
    uint64_t root = build_tree();

    preempt = always;
    come_back = false;
    between_slices = never_again;
    assert_int_equal(mmuext(MMUEXT_PIN_L4_TABLE, root), CONTINUED);
    assert_non_null(V0->pv.held.kept);
    check_all();
    refused(set_entry(ROOT_MFN(1), 300, entry(dom_mfn(1, 8), RO)));
    assert_null(V0->pv.held.kept);
    preempt = NULL;
    assert_int_equal(mmuext(MMUEXT_PIN_L4_TABLE, root), 0);
    preempt = always;
    assert_int_equal(mmuext(MMUEXT_UNPIN_TABLE, root), CONTINUED);
    assert_non_null(V0->pv.held.doomed);
    check_all();
    /* Doomed parts found again */
    preempt = NULL;
    assert_int_equal(mmuext(MMUEXT_PIN_L4_TABLE, root), 0);
    assert_null(V0->pv.held.doomed);
    check_all();
    preempt = always;
    assert_int_equal(mmuext(MMUEXT_UNPIN_TABLE, root), CONTINUED);
    assert_false(mmu_release_vcpu(V0)); /* this is preempted as well */
    assert_non_null(V0->pv.held.doomed);
    check_all();
    while (!mmu_release_vcpu(V0))
        check_all();
    assert_null(V0->pv.held.doomed);
}

/* The root of a tree whose tables vcpu 0 was about to take apart when its call was interrupted */
static uint64_t doomed_tree(void)
{
    uint64_t root = build_tree();

    assert_int_equal(mmuext(MMUEXT_PIN_L4_TABLE, root), 0);
    preempt = always;
    come_back = false;
    between_slices = never_again;
    assert_int_equal(mmuext(MMUEXT_UNPIN_TABLE, root), CONTINUED);
    assert_non_null(V0->pv.held.doomed);
    return root;
}

/* What one vcpu is about to take apart, another one takes into use. */
static void doomed_tables_that_are_found_again(void **state)
{
    uint64_t root = doomed_tree();

    preempt = NULL;
    self = 1;
    assert_int_equal(mmuext(MMUEXT_PIN_L4_TABLE, root), 0);
    check_all();
    self = 0;
    assert_int_equal(mmuext_n(NULL, 0), 0);
    assert_null(V0->pv.held.doomed);
    check_all();
    for (unsigned i = 0; i < TREE_TABLES; i++)
        assert_int_equal(TYPE_COUNT(type_of(spare(i))), 1);
}

static void no_memory_for_lists(void **state)
{
    uint64_t root = build_tree();

    pages_left = 0;
    assert_int_equal(mmuext(MMUEXT_PIN_L4_TABLE, root), 0);
    assert_int_equal(mmuext(MMUEXT_UNPIN_TABLE, root), 0);
    for (unsigned i = 0; i < TREE_TABLES; i++)
        assert_int_equal(TYPE_COUNT(type_of(spare(i))), 0);
}

static void roots(void **state)
{
    uint64_t root = build_tree();

    V0->pv.ldt_mapped = 1;
    ldt_flushes = 0;
    preempt = always;
    between_slices = and_audit;
    assert_int_equal(mmuext(MMUEXT_NEW_BASEPTR, root), 0);
    assert_int_equal(ldt_flushes, 1);
    assert_int_equal(V0->pv.kernel_root.n, root);
    assert_int_equal(loaded_cr3[0], root << PAGE_SHIFT);
    assert_int_equal(TYPE_COUNT(type_of(root)), 1);
    refused(mmuext(MMUEXT_NEW_BASEPTR, 0));
    refused(mmuext(MMUEXT_NEW_BASEPTR, spare(1)));
    refused(mmuext(MMUEXT_NEW_BASEPTR, dom_mfn(1, ROOT)));
    assert_int_equal(mmuext(MMUEXT_NEW_BASEPTR, root), 0);
    assert_int_equal(mmuext(MMUEXT_NEW_USER_BASEPTR, root), 0);
    assert_int_equal(TYPE_COUNT(type_of(root)), 2);
    check_all();
    refused(mmuext(MMUEXT_NEW_USER_BASEPTR, spare(1)));
    assert_int_equal(mmuext(MMUEXT_NEW_USER_BASEPTR, 0), 0);
    assert_int_equal(V0->pv.user_cr3, 0);
    assert_int_equal(mmuext(MMUEXT_NEW_BASEPTR, ROOT_MFN(4)), 0);
    assert_int_equal(TYPE_COUNT(type_of(root)), 0);
    assert_null(V0->pv.held.doomed);
}

/* MOV to CR3 cannot be continued: it ends, however urgent other things are. */
static void a_root_by_mov_to_cr3(void **state)
{
    uint64_t root = build_tree();

    preempt = always;
    assert_int_equal(mmu_new_kernel_root(V0, MFN(root)), 0);
    check_all();
    assert_int_equal(mmu_new_kernel_root(V0, MFN(DATA(0))), -EINVAL);
    assert_int_equal(mmu_new_kernel_root(V0, MFN(ROOT_MFN(4))), 0);
    for (unsigned i = 0; i < TREE_TABLES; i++)
        assert_int_equal(TYPE_COUNT(type_of(spare(i))), 0);
    assert_null(V0->pv.held.doomed);
    assert_null(V0->pv.held.kept);
}

static void flushes_by_mmuext(void **state)
{
    uint64_t mask = 3;
    struct mmuext_op op[] = {{.cmd = MMUEXT_TLB_FLUSH_LOCAL},
                             {.cmd = MMUEXT_INVLPG_LOCAL, .arg1.linear_addr = 8 << PAGE_SHIFT},
                             {.cmd = MMUEXT_INVLPG_LOCAL, .arg1.linear_addr = HOLE_START},
                             {.cmd = MMUEXT_TLB_FLUSH_MULTI, .arg2.vcpumask.p = &mask},
                             {.cmd = MMUEXT_INVLPG_MULTI, .arg2.vcpumask.p = &mask},
                             {.cmd = MMUEXT_TLB_FLUSH_ALL},
                             {.cmd = MMUEXT_INVLPG_ALL},
                             {.cmd = MMUEXT_FLUSH_CACHE},
                             {.cmd = MMUEXT_SET_LDT, .arg2.nr_ents = 10}};

    flushes = 0;
    assert_int_equal(mmuext_n(op, ARRAY_SIZE(op)), 0);
    assert_int_equal(flushes, 1 + 2 + 2);
    op[3].arg2.vcpumask.p = bad_pointer;
    assert_int_equal(mmuext_n(op, ARRAY_SIZE(op)), -EFAULT);
    assert_int_equal(done, 3);
    self = 2;
    assert_int_equal(mmuext(MMUEXT_FLUSH_CACHE, 0), -EPERM);
    self = 0;
    assert_int_equal(mmuext(99, 0), -ENOSYS);
    assert_int_equal(hypercall(hypercall_mmuext_op, (uint64_t)op, 1, 0, 2), -EPERM);
    assert_int_equal(hypercall(hypercall_mmuext_op, (uint64_t)bad_pointer, 1, 0, DOMID_SELF), -EFAULT);
}

static void clear_and_copy(void **state)
{
    struct mmuext_op op = {.cmd = MMUEXT_COPY_PAGE, .arg1.mfn = DATA(0), .arg2.src_mfn = ROOT_MFN(1)};

    assert_int_equal(mmuext_n(&op, 1), 0);
    assert_memory_equal(at(DATA(0)), at(ROOT_MFN(1)), PAGE_SIZE);
    op.arg2.src_mfn = dom_mfn(1, 8);
    refused(mmuext_n(&op, 1));
    op.arg2.src_mfn = DATA(1);
    op.arg1.mfn = ROOT_MFN(1);
    refused(mmuext_n(&op, 1));
    op.arg1.mfn = dom_mfn(1, 8);
    refused(mmuext_n(&op, 1));
    assert_int_equal(FRAME_REFS(frames[DATA(1)].control), 2);
    assert_int_equal(mmuext(MMUEXT_CLEAR_PAGE, DATA(0)), 0);
    assert_int_equal(at(DATA(0))[8], 0);
    refused(mmuext(MMUEXT_CLEAR_PAGE, ROOT_MFN(1)));
    refused(mmuext(MMUEXT_CLEAR_PAGE, SHARED_RO));
}

/* ---- Emulated writes ---- */

static int write_bytes(uint64_t table, unsigned offset, unsigned bytes, uint64_t value, bool cmpxchg, uint64_t old,
                       uint64_t *seen)
{
    return mmu_write_entry_bytes(V0, MFN(table), offset, bytes, value, cmpxchg, old, seen);
}

static void writes_of_parts_of_entries(void **state)
{
    const uint64_t l1 = ROOT_MFN(1), e = entry(DATA(0), RW);
    uint64_t seen;

    assert_int_equal(write_bytes(l1, 300 * 8, 8, e, false, 0, &seen), 0);
    assert_true(at(l1)[300] == e && seen == 0);
    assert_int_equal(write_bytes(l1, 300 * 8 + 7, 1, 0x80, false, 0, &seen), 0); /* NX */
    assert_true(at(l1)[300] == (e | PTE_NX));
    assert_int_equal(write_bytes(l1, 300 * 8, 4, (uint32_t)(e & ~PTE_WRITE), false, 0, &seen), 0);
    assert_true(seen == (uint32_t)e && at(l1)[300] == ((e & ~PTE_WRITE) | PTE_NX));
    assert_int_equal(TYPE_COUNT(type_of(DATA(0))), 1);
    assert_int_equal(write_bytes(l1, 300 * 8 + 1, 2, 0xffff, true, 0x1234, &seen), -EAGAIN);
    assert_true(seen == (e >> 8 & 0xffff) && at(l1)[300] == ((e & ~PTE_WRITE) | PTE_NX));
    assert_int_equal(write_bytes(l1, 300 * 8, 1, e & 0xff, true, (e & ~PTE_WRITE) & 0xff, &seen), 0);
    assert_true(at(l1)[300] == (e | PTE_NX));
    assert_int_equal(write_bytes(l1, 300 * 8, 8, 0, true, e | PTE_NX, &seen), 0);
    assert_int_equal(at(l1)[300], 0);
    refused(write_bytes(l1, 300 * 8, 8, entry(l1, RW), false, 0, &seen));
    refused(write_bytes(ROOT_MFN(4), 256 * 8, 8, 0, false, 0, &seen));
    refused(write_bytes(ROOT_MFN(4), 256 * 8 + 3, 1, 0, false, 0, &seen));
    refused(write_bytes(DATA(0), 0, 8, 0, false, 0, &seen)); /* no table */
    refused(write_bytes(dom_mfn(1, ROOT_L1), 0, 8, 0, false, 0, &seen));
    refused(write_bytes(RAM_FRAMES, 0, 8, 0, false, 0, &seen));
    refused(write_bytes(l1, 4, 8, 0, false, 0, &seen)); /* across entries */
    refused(write_bytes(l1, PAGE_SIZE, 8, 0, false, 0, &seen));
}

/* The processor marks the page dirty just before the exchange: the caller must learn of it. */
static uint64_t *dirtied;
static void set_dirty(void)
{
    *dirtied |= PTE_DIRTY;
    in_flush = NULL;
}

static void an_exchange_does_not_lose_dirty_bits(void **state)
{
    const uint64_t l1 = ROOT_MFN(1), m = spare(0), old = entry(DATA(0), RW & ~PTE_DIRTY);
    uint64_t seen;

    /* A frame that was a table: its writable mapping flushes, in the middle of the exchange. */
    assert_int_equal(set_entry(ROOT_MFN(2), 1, entry(m, RW)), 0);
    check_model();
    assert_int_equal(set_entry(ROOT_MFN(2), 1, 0), 0);
    assert_int_equal(set_entry(l1, 300, old), 0);
    dirtied = &at(l1)[300];
    in_flush = set_dirty;
    assert_int_equal(write_bytes(l1, 300 * 8, 8, entry(m, RW), true, old, &seen), -EAGAIN);
    assert_null(in_flush);
    assert_true(seen == (old | PTE_DIRTY) && at(l1)[300] == (old | PTE_DIRTY));
    check_all();
    assert_int_equal(TYPE_COUNT(type_of(m)), 0);
    /* Nor does a write of a part that holds other bits: it is made again. */
    in_flush = set_dirty;
    at(l1)[300] &= ~PTE_DIRTY;
    frames[m].type = TYPE_MAKE(FRAME_L1);
    frames[m].tlb_stamp = tlb_clock;
    assert_int_equal(write_bytes(l1, 300 * 8 + 1, 2, entry(m, RW) >> 8 & 0xffff, false, 0, &seen), 0);
    assert_null(in_flush);
    assert_true(at(l1)[300] == (entry(m, RW) | PTE_DIRTY));
    check_all();
}

/* A table that only waits to be taken apart has stopped being one by the time of the write. */
static void writes_to_doomed_tables(void **state)
{
    uint64_t seen, table;
    unsigned slot = 0;

    (void)doomed_tree();
    table = V0->pv.held.doomed->mfn[0].n;
    while (!(at(table)[slot] & PTE_PRESENT))
        slot++;
    refused(write_bytes(table, slot * 8, 8, 0, false, 0, &seen));
    assert_null(V0->pv.held.doomed);
    for (unsigned i = 0; i < TREE_TABLES; i++)
        assert_int_equal(TYPE_COUNT(type_of(spare(i))), 0);
}

static void writes_that_attach_tables(void **state)
{
    uint64_t root = build_tree(), seen;

    preempt = always; /* not to be continued */
    assert_int_equal(write_bytes(ROOT_MFN(4), 8, 8, at(root)[0], false, 0, &seen), 0);
    check_all();
    assert_int_equal(write_bytes(ROOT_MFN(4), 8, 8, 0, false, 0, &seen), 0);
    assert_null(V0->pv.held.doomed);
    for (unsigned i = 0; i < TREE_TABLES; i++)
        assert_int_equal(TYPE_COUNT(type_of(spare(i))), 0);
}

/* ---- Random operations ---- */

static unsigned domains_ended;
static void random_operations(uint64_t seed, unsigned steps, bool privileged)
{
    start_steps(privileged);
    random_state = seed;
    destroy_one_in = privileged ? 100 : 0;
    for (unsigned i = 0; i < steps; i++) {
        if (i % 512 == 0)
            preempt_one_in = (i / 512 % 4) * (i / 512 % 4) + (i / 512 % 2);
        one_step(pick(CPUS));
        check_model();
        if (i % 8 == 0)
            check_all();
    }
    domains_ended += dom_exc;
    end_steps();
}

#define RANDOM_RUNS 12
#define RANDOM_STEPS 4000
static void property_random_operations(void **state)
{
    for (uint64_t seed = 1; seed <= RANDOM_RUNS; seed++) {
        print_message("seed %lu\n", seed);
        random_operations(seed, RANDOM_STEPS, false);
    }
}

/* The first domain is privileged: it maps frames of the other, changes its tables, ends it and makes it anew. */
static void property_privileged_operations(void **state)
{
    domains_ended = 0;
    for (uint64_t seed = 1; seed <= RANDOM_RUNS; seed++) {
        print_message("seed %lu\n", seed);
        random_operations(seed, RANDOM_STEPS, true);
    }
    assert_true(domains_ended > 2 * RANDOM_RUNS);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(leaf_entries_that_are_refused),
        TEST(leaf_entries_that_are_taken),
        TEST(table_entries_that_are_refused),
        TEST(hypervisor_slots),
        TEST(frames_that_cannot_be_updated),
        TEST(accessed_and_dirty_bits),
        TEST(machine_to_physical),
        TEST(batches_stop_at_the_first_error),
        TEST(batches_in_slices),
        TEST(first_root_in_slices),
        TEST(update_by_address),
        TEST(update_of_hypervisor_addresses),
        TEST(update_with_device_memory),
        TEST(pages_of_addresses),
        TEST(pins),
        TEST(a_pinned_frame_that_is_released),
        TEST(pin_a_tree),
        TEST(pin_a_tree_with_a_fault),
        TEST(preempted_work_ends_in_the_same_state),
        TEST(a_tree_by_mmu_update),
        TEST(calls_that_are_left_alone),
        TEST(doomed_tables_that_are_found_again),
        TEST(no_memory_for_lists),
        TEST(roots),
        TEST(a_root_by_mov_to_cr3),
        TEST(flushes_by_mmuext),
        TEST(clear_and_copy),
        TEST(writes_of_parts_of_entries),
        TEST(an_exchange_does_not_lose_dirty_bits),
        TEST(writes_to_doomed_tables),
        TEST(writes_that_attach_tables),
        cmocka_unit_test(property_random_operations),
        cmocka_unit_test(property_privileged_operations),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
