/* sources: hypervisor/domain/domain_destroy.c hypervisor/memory/frame.c hypervisor/memory/frame_claim.c hypervisor/hvm/p2m.c hypervisor/hvm/pod.c hypervisor/memory/audit.c hypervisor/pv/mmu_types.c hypervisor/pv/mmuext.c hypervisor/pv/mmu.c */
/*
 * The end of a domain, whatever state it is in and wherever it is interrupted: nothing is left of it but what others still
 * have mapped, and with the last of that it is gone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define FAIL_TEST(text) fail_msg("%s", text)
#define PAGE_POOL 32 /* for nested page tables */
#include "fake_mmu.h"
#include "hvm/hvm.h"

#define D1 (&doms[0])
#define D2 (&doms[1])
#define L1 dom_mfn(0, ROOT_L1)
#define L1_OF_2 dom_mfn(1, ROOT_L1)
#define DATA_OF_2(i) dom_mfn(1, 8 + (i))
#define INFO_FRAME dom_mfn(1, 20)
#define GDT_FRAME dom_mfn(1, 96)
#define TREE 4
#define TREE_ROOT(i) dom_mfn(1, 12 * (1 + (i)) + 7)

static int setup(void **state)
{
    start_machine();
    D1->is_privileged = true;
    return 0;
}
static int teardown(void **state)
{
    check_all();
    end_machine();
    return 0;
}

static long map_of_2(unsigned slot, uint64_t e)
{
    struct mmu_update u = {.ptr = L1 << PAGE_SHIFT | slot * 8, .val = e};

    self = 0;
    return mmu_update_on(&u, 1, 2);
}
static unsigned left_of_2(void)
{
    unsigned n = 0;

    for (unsigned m = 0; m < RAM_FRAMES; m++)
        n += frame_owner(&frames[m]) == 2;
    return n;
}
static bool gone(void)
{
    run_softirqs();
    return !listed[1];
}

/* Preemption: at one look at the clock, or from there on at each */
static unsigned looks, preempt_at;
static bool at_one(void) { return looks++ == preempt_at; }
static bool from_then_on(void) { return looks++ >= preempt_at; }
static bool always(void) { return true; }
static bool never_again(void) { return false; }

static unsigned destroy_all(void)
{
    unsigned calls = 1;

    for (; destroy_step(D2); calls++) {
        check_all();
        REQUIRE(calls < 1000);
    }
    return calls;
}

static void build_tree(unsigned i)
{
    uint64_t root = TREE_ROOT(i), l3 = root - 1, l2 = root - 2, other_l2 = root - 3;

    ram[root][0] = entry(l3, RW);
    ram[l3][0] = entry(l2, RW);
    ram[l3][1] = entry(other_l2, RW);
    for (unsigned j = 0; j < 4; j++) {
        uint64_t l1 = root - 7 + j;

        ram[j < 2 ? l2 : other_l2][j] = entry(l1, RW);
        for (unsigned k = 0; k < 4; k++)
            ram[l1][k * 100] = entry(DATA_OF_2(k), k % 2 ? RW : RO);
    }
}

static bool gdt_loaded;
static void release_gdt(struct vcpu *v)
{
    if (v != &vcpus[2] || !gdt_loaded)
        return;
    gdt_loaded = false;
    frame_put_segdesc(MFN(GDT_FRAME));
}

/* All that a domain can have */
static void fill(void)
{
    self = 2;
    for (unsigned i = 0; i < TREE; i++) {
        build_tree(i);
        assert_int_equal(mmuext(MMUEXT_PIN_L4_TABLE, TREE_ROOT(i)), 0);
    }
    assert_int_equal(mmuext(MMUEXT_PIN_L3_TABLE, TREE_ROOT(1) - 1), 0); /* a pin inside of a pinned tree */
    assert_int_equal(mmuext(MMUEXT_NEW_USER_BASEPTR, TREE_ROOT(2)), 0);
    assert_int_equal(mmuext(MMUEXT_UNPIN_TABLE, TREE_ROOT(2)), 0); /* held by the vcpu alone */
    /* vcpu_info, a GDT */
    assert_true(frame_get_writable(MFN(INFO_FRAME), D2));
    vcpus[2].info_mfn = MFN(INFO_FRAME);
    vcpus[2].info = (struct vcpu_info *)ram[INFO_FRAME];
    assert_true(frame_get_segdesc(MFN(GDT_FRAME), D2));
    gdt_loaded = true;
    in_descriptor_release = release_gdt;
    /* Frames given back that are mapped still */
    assert_true(frame_release(MFN(DATA_OF_2(1)), D2));
    /* Calls in the middle of which it is: something kept, something doomed, by itself and by its tools */
    preempt = always;
    between_slices = never_again;
    assert_int_equal(mmuext(MMUEXT_UNPIN_TABLE, TREE_ROOT(0)), CONTINUED);
    assert_non_null(vcpus[2].pv.held.doomed);
    build_tree(4);
    self = 3;
    assert_int_equal(mmuext(MMUEXT_PIN_L4_TABLE, TREE_ROOT(4)), CONTINUED);
    assert_non_null(vcpus[3].pv.held.kept);
    build_tree(5);
    self = 0;
    struct mmuext_op op = {.cmd = MMUEXT_PIN_L4_TABLE, .arg1.mfn = TREE_ROOT(5)};

    if (D2->hvm) { /* its tools cannot make it page tables */
        assert_int_equal(mmuext_on(&op, 1, 2), -EOPNOTSUPP);
    } else {
        assert_int_equal(mmuext_on(&op, 1, 2), CONTINUED);
        assert_non_null(D2->pv.held.kept);
    }
    preempt = NULL;
    between_slices = NULL;
    D2->claimed_pages = 5;
    event_work = 3;
    grant_work = 4;
    check_all();
}

static void an_empty_domain(void **state)
{
    D2->pause_count = 0;
    for (unsigned i = 0; i < DOMAIN_FRAMES; i++) /* all but the root's tables go */
        if (role_level(i) && i > ROOT_L1)
            assert_true(frame_release(MFN(dom_mfn(1, i)), D2));
    D2->from_modules = true;
    looks_for_ended = 0;
    assert_int_equal(destroy_all(), 1);
    assert_int_equal(looks_for_ended, 1);
    assert_true(gone());
    assert_int_equal(left_of_2(), 0);
    assert_int_equal(removed_vcpus, 2);
    assert_int_equal(dom_exc, 2); /* it ends; it is gone */
}

static void a_domain_with_everything(void **state)
{
    fill();
    assert_true(destroy_all() < 20);
    assert_true(gone());
    assert_int_equal(left_of_2(), 0);
    assert_int_equal(D2->refs, 0);
    assert_int_equal(removed_vcpus, 2);
}

/* Interrupted once, at each place where it looks */
static void interrupted_at_each_step(void **state)
{
    unsigned calls;

    preempt_at = 0;
    do {
        if (preempt_at)
            setup(NULL);
        fill();
        looks = 0;
        preempt = at_one;
        calls = destroy_all();
        preempt = NULL;
        assert_true(gone());
        assert_int_equal(left_of_2(), 0);
        assert_int_equal(removed_vcpus, 2);
        end_machine();
        preempt_at++;
    } while (looks >= preempt_at);
    print_message("%u places, %u calls at the last\n", preempt_at, calls);
    assert_true(preempt_at > 20);
    setup(NULL);
}

/* Something urgent all the time: each call gets further all the same. */
static void interrupted_always(void **state)
{
    for (preempt_at = 0; preempt_at < 40; preempt_at += 3) {
        if (preempt_at)
            setup(NULL);
        fill();
        looks = 0;
        preempt = from_then_on;
        assert_true(destroy_all() < 200);
        preempt = NULL;
        assert_true(gone());
        assert_int_equal(left_of_2(), 0);
        end_machine();
    }
    setup(NULL);
}

/* What others have mapped stays, and so long a shell of the domain. */
static void frames_that_others_have_mapped(void **state)
{
    assert_int_equal(map_of_2(300, entry(DATA_OF_2(0), RW)), 0);
    assert_int_equal(map_of_2(301, entry(DATA_OF_2(0), RO)), 0);
    assert_int_equal(map_of_2(302, entry(L1_OF_2, RO)), 0); /* a table of it */
    assert_int_equal(map_of_2(303, entry(SHARED_INFO_OF(1), RW)), 0);
    fill();
    looks = 0;
    preempt_at = 2;
    preempt = from_then_on;
    destroy_all();
    preempt = NULL;
    assert_false(gone());
    assert_int_equal(left_of_2(), 3);
    assert_int_equal(D2->tot_pages, 3);
    assert_int_equal(D2->refs, 1);
    assert_false(domain_has_shared_info(D2));
    assert_ptr_equal(domain_owner_of_frame(2), D2); /* the number is in use */
    check_all();
    assert_int_equal(destroy_step(D2), 0); /* once more does no harm */
    assert_int_equal(D2->refs, 1);
    assert_int_equal(map_of_2(304, entry(DATA_OF_2(0), RO)), -EINVAL);
    ((uint64_t *)ram[DATA_OF_2(0)])[7] = 7; /* through the mapping */
    assert_int_equal(map_of_2(302, 0), 0);
    assert_int_equal(map_of_2(303, 0), 0);
    assert_int_equal(map_of_2(300, 0), 0);
    assert_false(gone());
    assert_int_equal(left_of_2(), 1);
    check_all();
    dom_exc = 0;
    assert_int_equal(map_of_2(301, 0), 0);
    assert_int_equal(left_of_2(), 0);
    assert_int_equal(D2->refs, 0);
    assert_true(listed[1]); /* until the softirq */
    assert_true(gone());
    assert_int_equal(dom_exc, 1);
    assert_int_equal(map_of_2(301, entry(DATA_OF_2(0), RO)), -ESRCH);
}

/* The last mapping goes while the domain is in the middle of its end. */
static void unmapped_meanwhile(void **state)
{
    assert_int_equal(map_of_2(300, entry(DATA_OF_2(0), RW)), 0);
    fill();
    looks = 0;
    preempt_at = 9;
    preempt = from_then_on;
    for (unsigned i = 0; destroy_step(D2); i++)
        if (i == 3) {
            preempt = NULL;
            assert_int_equal(map_of_2(300, 0), 0);
            preempt = from_then_on;
        }
    preempt = NULL;
    assert_true(gone());
    assert_int_equal(left_of_2(), 0);
}

/* A reference to the domain itself, by someone who works on it */
static void someone_has_a_reference(void **state)
{
    struct domain *d = domain_get_by_id(2);

    destroy_all();
    assert_int_equal(left_of_2(), 0);
    assert_false(gone());
    assert_int_equal(d->refs, 1);
    assert_int_equal(destroy_step(d), 0);
    assert_false(gone());
    domain_put(d);
    assert_true(gone());
    assert_false(domain_get(d));
    assert_null(domain_get_by_id(2));
}

/* Frames in the middle of an exchange by its tools, on another CPU */
static void claimed_frames(void **state)
{
    const uint64_t traded = dom_mfn(1, 12), kept = dom_mfn(1, 13);

    assert_true(frame_claim(MFN(traded), D2));
    assert_true(frame_claim(MFN(kept), D2));
    destroy_all();
    assert_false(gone());
    assert_int_equal(left_of_2(), 2);
    frame_put(MFN(traded));
    assert_false(gone());
    frame_unclaim(MFN(kept)); /* there was nothing to trade it for */
    assert_int_equal(left_of_2(), 0);
    assert_true(gone());
}

/* Another CPU is at it. */
static void two_at_a_time(void **state)
{
    D2->teardown_busy = true;
    assert_int_equal(destroy_step(D2), -ERESTART);
    assert_true(D2->dying);
    D2->teardown_busy = false;
    destroy_all();
    assert_false(D2->teardown_busy);
    assert_true(gone());
}

/* Lists of references need pages; without any the steps are longer. */
static void without_memory(void **state)
{
    fill();
    pages_left = 0;
    preempt = always;
    destroy_all();
    preempt = NULL;
    pages_left = ~0U;
    assert_true(gone());
    assert_int_equal(left_of_2(), 0);
}

/* Frames in nested page tables, some of them given back, one in three places */
#define NESTED 90
static void fill_nested(void)
{
    D2->hvm = heap_alloc(sizeof(*D2->hvm));
    assert_int_equal(p2m_init(D2), 0);
    for (unsigned i = 0; i < NESTED; i++)
        assert_int_equal(p2m_add(D2, (gfn_t){i + (i % 3 << 9)}, MFN(DATA_OF_2(i % 4)), 0), 0);
    assert_true(frame_release(MFN(DATA_OF_2(2)), D2));
}

static void with_nested_page_tables(void **state)
{
    for (preempt_at = 0; preempt_at < 30; preempt_at++) {
        if (preempt_at)
            setup(NULL);
        fill_nested();
        fill();
        looks = 0;
        preempt = preempt_at % 2 ? at_one : from_then_on;
        destroy_all();
        preempt = NULL;
        assert_int_equal(p2m_add(D2, (gfn_t){0}, MFN(DATA_OF_2(0)), 0), -EINVAL);
        assert_true(mfn_eq(p2m_lookup(D2, (gfn_t){0}), INVALID_MFN));
        assert_int_equal(left_of_2(), 0);
        assert_true(gone());
        end_machine(); /* no page is left */
    }
    setup(NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(an_empty_domain),
        TEST(a_domain_with_everything),
        TEST(interrupted_at_each_step),
        TEST(interrupted_always),
        TEST(frames_that_others_have_mapped),
        TEST(unmapped_meanwhile),
        TEST(someone_has_a_reference),
        TEST(claimed_frames),
        TEST(two_at_a_time),
        TEST(without_memory),
        TEST(with_nested_page_tables),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
