/* sources: hypervisor/domain/domain_destroy.c hypervisor/memory/frame.c hypervisor/hvm/p2m.c hypervisor/hvm/pod.c hypervisor/memory/audit.c hypervisor/pv/mmu_types.c hypervisor/pv/mmuext.c hypervisor/pv/mmu.c */
/* The frame table's counts: the invariants of memory/frame.h, one by one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define FAIL_TEST(text) fail_msg("%s", text)
#include "fake_mmu.h"

#define D1 (&doms[0])
#define D2 (&doms[1])
#define DATA(i) dom_mfn(0, 8 + (i))   /* mapped writable at the start */
#define TABLE(i) dom_mfn(0, 12 + (i)) /* level 1, not in use */

static int setup(void **state)
{
    start_machine();
    check_all();
    return 0;
}

static int teardown(void **state)
{
    end_machine();
    return 0;
}

/* ---- 1: owner and references ---- */

static void only_the_owner_gets_a_reference(void **state)
{
    uint64_t m = DATA(0);

    assert_true(frame_get(MFN(m), D1));
    assert_false(frame_get(MFN(m), D2));
    assert_false(frame_get_writable(MFN(m), D2));
    assert_false(frame_get_segdesc(MFN(m), D2));
    frame_put(MFN(m));
}

static void frames_that_are_nobodys(void **state)
{
    static const uint64_t bad[] = {0,          1,           IO_FIRST, HOLE_TABLES,       FREE_FIRST,
                                   RAM_FRAMES, IO_FULL_MFN, ~0UL,     ~0UL >> PAGE_SHIFT};

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_false(frame_get(MFN(bad[i]), D1));
        assert_false(frame_get_writable(MFN(bad[i]), D1));
        assert_false(frame_get_segdesc(MFN(bad[i]), D1));
        assert_false(frame_release(MFN(bad[i]), D1));
    }
}

static void a_frame_stays_its_owners_while_it_is_mapped(void **state)
{
    uint64_t m = DATA(0);

    assert_true(frame_release(MFN(m), D1));
    assert_int_equal(frames_freed, 0);
    assert_false(frame_release(MFN(m), D1)); /* once only */
    assert_int_equal(frame_owner(frame_of(MFN(m))), 1);
    check_all();
    assert_int_equal(set_entry(dom_mfn(0, ROOT_L1), 8, 0), 0); /* the mapping goes */
    assert_int_equal(frames_freed, 1);
    assert_int_equal(frame_owner(frame_of(MFN(m))), DOMID_FREE);
    assert_false(frame_get(MFN(m), D1));
    /* The CPUs of its owner may still have the translation: its next owner must not see their writes. */
    assert_int_equal(tlb[0].write[m], 1);
    give_frame(MFN(m), D2);
    assert_int_equal(tlb[0].write[m] | tlb[1].write[m], 0);
    assert_true(frame_release(MFN(m), D2));
}

static void somebody_elses_release(void **state)
{
    assert_false(frame_release(MFN(DATA(0)), D2));
    assert_false(frame_release(MFN(SHARED_RW), D1)); /* it is not the domain's to give */
}

static void reference_counts_do_not_overflow(void **state)
{
    struct frame *f = frame_of(MFN(TABLE(0)));
    uint64_t control = f->control;

    f->control = (control & ~0xffffffffUL) | 0x80000000;
    assert_false(frame_get(MFN(TABLE(0)), D1));
    assert_false(frame_get_writable(MFN(TABLE(0)), D1));
    assert_int_equal(TYPE_COUNT(f->type), 0);
    f->control = control;
    assert_true(frame_get_writable(MFN(TABLE(0)), D1));
    f->type += 0x7ffffffe;
    assert_false(frame_get_writable(MFN(TABLE(0)), D1));
    f->type -= 0x7ffffffe;
    frame_put_writable(MFN(TABLE(0)));
    assert_true(f->control == control);
}

/* ---- 2 and 3: types ---- */

static void types_exclude_each_other(void **state)
{
    mfn_t m = MFN(TABLE(0));

    assert_true(frame_get_writable(m, D1));
    assert_true(frame_get_writable(m, D1));
    assert_false(frame_get_segdesc(m, D1));
    assert_int_equal(mmuext(MMUEXT_PIN_L1_TABLE, m.n), -EINVAL);
    frame_put_writable(m);
    assert_int_equal(mmuext(MMUEXT_PIN_L1_TABLE, m.n), -EINVAL);
    frame_put_writable(m);
    assert_int_equal(mmuext(MMUEXT_PIN_L1_TABLE, m.n), 0);
    check_all();
    assert_false(frame_get_writable(m, D1));
    assert_false(frame_get_segdesc(m, D1));
    assert_true(frame_get(m, D1)); /* to read */
    frame_put(m);
    assert_int_equal(mmuext(MMUEXT_UNPIN_TABLE, m.n), 0);
    assert_true(frame_get_segdesc(m, D1));
    assert_true(frame_get_segdesc(m, D1));
    assert_false(frame_get_writable(m, D1));
    assert_int_equal(mmuext(MMUEXT_PIN_L1_TABLE, m.n), -EINVAL);
    frame_put_segdesc(m);
    check_all();
    frame_put_segdesc(m);
    assert_true(frame_get_writable(m, D1));
    frame_put_writable(m);
    assert_int_equal(FRAME_REFS(frame_of(m)->control), 1);
}

static void descriptor_pages_are_validated(void **state)
{
    mfn_t m = MFN(TABLE(0));

    ram[m.n][17] = 1UL << 47 | 9UL << 40; /* a TSS */
    assert_false(frame_get_segdesc(m, D1));
    assert_int_equal(TYPE_COUNT(frame_of(m)->type), 0);
    assert_int_equal(FRAME_REFS(frame_of(m)->control), 1);
    ram[m.n][17] = 0;
    assert_true(frame_get_segdesc(m, D1));
    frame_put_segdesc(m);
}

/* A frame that a CPU may still write through a stale translation does not become a table before that CPU's flush. */
static void stale_writers_are_flushed(void **state)
{
    uint64_t m = DATA(0);
    unsigned before;

    assert_int_equal(set_entry(dom_mfn(0, ROOT_L1), 8, 0), 0);
    assert_int_equal(tlb[0].write[m] & tlb[1].write[m], 1);
    assert_int_equal(mmuext(MMUEXT_PIN_L1_TABLE, m), 0);
    assert_int_equal(tlb[0].write[m] | tlb[1].write[m], 0);
    check_all();
    /* No more than needed: a table again, there is nothing to forget. */
    before = flushes;
    assert_int_equal(mmuext(MMUEXT_UNPIN_TABLE, m), 0);
    assert_int_equal(mmuext(MMUEXT_PIN_L1_TABLE, m), 0);
    assert_int_equal(flushes, before);
    assert_int_equal(mmuext(MMUEXT_UNPIN_TABLE, m), 0);
}

static void stale_writers_are_flushed_for_descriptors(void **state)
{
    uint64_t m = DATA(0);

    assert_int_equal(set_entry(dom_mfn(0, ROOT_L1), 8, 0), 0);
    assert_true(frame_get_segdesc(MFN(m), D1));
    assert_int_equal(tlb[0].write[m] | tlb[1].write[m], 0);
    check_all();
    frame_put_segdesc(MFN(m));
}

static void a_late_flush_is_enough(void **state)
{
    uint64_t m = DATA(0);
    unsigned before;

    assert_int_equal(set_entry(dom_mfn(0, ROOT_L1), 8, 0), 0);
    flush_cpu(0);
    flush_cpu(1);
    before = flushes;
    assert_int_equal(mmuext(MMUEXT_PIN_L1_TABLE, m), 0);
    assert_int_equal(flushes, before);
    assert_int_equal(mmuext(MMUEXT_UNPIN_TABLE, m), 0);
}

/* A table that a CPU may still walk from its paging-structure caches is not written before that CPU's flush. */
static void stale_walkers_are_flushed(void **state)
{
    uint64_t m = TABLE(0);

    assert_int_equal(set_entry(dom_mfn(0, ROOT_L2), 1, entry(m, RW)), 0);
    check_model();
    assert_int_equal(tlb[0].walk[m] & tlb[1].walk[m], 1);
    assert_int_equal(set_entry(dom_mfn(0, ROOT_L2), 1, 0), 0);
    assert_int_equal(tlb[0].walk[m] & tlb[1].walk[m], 1);
    assert_true(frame_get_writable(MFN(m), D1));
    assert_int_equal(tlb[0].walk[m] | tlb[1].walk[m], 0);
    frame_put_writable(MFN(m));
}

/* ... by nobody: a second CPU that wants to write waits until the first one's flush is over. */
static volatile bool second_has_it;
static mfn_t contended;
static pthread_t second_cpu;

static void *second_writer(void *unused)
{
    self = 1;
    if (frame_get_writable(contended, D1))
        second_has_it = true;
    return NULL;
}

static void while_flushing(void)
{
    in_flush = NULL;
    assert_int_equal(pthread_create(&second_cpu, NULL, second_writer, NULL), 0);
    usleep(100000);
    assert_false(second_has_it);
}

static void a_second_writer_waits_for_the_flush(void **state)
{
    contended = MFN(TABLE(0));
    second_has_it = false;
    assert_int_equal(set_entry(dom_mfn(0, ROOT_L2), 1, entry(contended.n, RW)), 0);
    check_model();
    assert_int_equal(set_entry(dom_mfn(0, ROOT_L2), 1, 0), 0);
    in_flush = while_flushing;
    assert_true(frame_get_writable(contended, D1));
    assert_null(in_flush);
    assert_int_equal(pthread_join(second_cpu, NULL), 0);
    assert_true(second_has_it);
    assert_true(frame_of(contended)->type == (TYPE_MAKE(FRAME_WRITABLE) | 2));
    frame_put_writable(contended);
    frame_put_writable(contended);
}

/*
 * Between two instructions of the last user's put another vcpu maps the frame, uses it on both CPUs, and unmaps it without a
 * flush: the stamp has to be from after that. The frame table is read-only until the first store.
 */
static void during_put(int signal)
{
    uint64_t l1 = dom_mfn(0, ROOT_L1), m = DATA(0);

    assert_int_equal(mprotect(frames, PAGE_SIZE, PROT_READ | PROT_WRITE), 0);
    assert_int_equal(set_entry(l1, 8, entry(m, RW)), 0);
    flush_cpu(0);
    flush_cpu(1);
    assert_int_equal(set_entry(l1, 8, 0), 0);
    assert_int_equal(tlb[0].write[m] & tlb[1].write[m], 1);
}

static void the_stamp_is_not_older_than_the_last_use(void **state)
{
    struct sigaction before, during = {.sa_handler = during_put};
    uint64_t m = DATA(0);

    assert_true(frame_get_writable(MFN(m), D1));
    assert_int_equal(set_entry(dom_mfn(0, ROOT_L1), 8, 0), 0);
    assert_int_equal(sigaction(SIGSEGV, &during, &before), 0);
    assert_int_equal(mprotect(frames, PAGE_SIZE, PROT_READ), 0);
    frame_put_writable(MFN(m));
    assert_int_equal(sigaction(SIGSEGV, &before, NULL), 0);
    assert_int_equal(tlb[0].write[m] & tlb[1].write[m], 1);
    assert_int_equal(mmuext(MMUEXT_PIN_L1_TABLE, m), 0);
    assert_int_equal(tlb[0].write[m] | tlb[1].write[m], 0);
    check_all();
    assert_int_equal(mmuext(MMUEXT_UNPIN_TABLE, m), 0);
}

/* ---- Croft's own frames that a domain may map ---- */

static void shared_frames(void **state)
{
    mfn_t rw = MFN(SHARED_RW), ro = MFN(SHARED_RO);

    assert_true(frame_get_writable(rw, D1));
    assert_int_equal(frame_unshare(rw), -EBUSY);
    frame_put_writable(rw);
    assert_false(frame_get_writable(ro, D1));
    assert_int_equal(FRAME_REFS(frame_of(ro)->control), 1);
    assert_true(frame_get(ro, D1));
    assert_int_equal(frame_unshare(ro), -EBUSY);
    frame_put(ro);
    assert_false(frame_get(rw, D2));
    assert_int_equal(frame_unshare(rw), 0);
    assert_int_equal(frame_owner(frame_of(rw)), DOMID_CROFT);
    assert_false(frame_get(rw, D1));
    check_all();
}

static void unsharing_flushes(void **state)
{
    assert_int_equal(set_entry(dom_mfn(0, ROOT_L1), 200, entry(SHARED_RW, RW)), 0);
    check_all();
    assert_int_equal(frame_unshare(MFN(SHARED_RW)), -EBUSY);
    assert_int_equal(set_entry(dom_mfn(0, ROOT_L1), 200, 0), 0);
    assert_int_equal(frame_unshare(MFN(SHARED_RW)), 0);
    assert_int_equal(tlb[0].write[SHARED_RW] | tlb[1].write[SHARED_RW], 0);
}

/* Croft writes to these pages on its own (event bits, times): they must not become tables or descriptors. */
static void shared_frames_do_not_become_tables(void **state)
{
    for (uint64_t m = SHARED_RW; m <= SHARED_RO; m++) {
        for (unsigned cmd = MMUEXT_PIN_L1_TABLE; cmd <= MMUEXT_PIN_L4_TABLE; cmd++)
            assert_int_equal(mmuext(cmd, m), -EINVAL);
        assert_int_equal(set_entry(dom_mfn(0, ROOT_L2), 1, entry(m, RW)), -EINVAL);
        assert_int_equal(mmuext(MMUEXT_NEW_BASEPTR, m), -EINVAL);
        assert_false(frame_get_segdesc(MFN(m), D1));
        assert_int_equal(FRAME_REFS(frame_of(MFN(m))->control), 1);
    }
}

/* ---- 4, 5: the audit sees what is wrong ---- */

static void audit_finds(uint64_t *word, uint64_t value)
{
    uint64_t right = *word;

    *word = value;
    assert_true(frame_audit() > 0);
    *word = right;
    assert_int_equal(frame_audit(), 0);
}

static void the_audit_finds_faults(void **state)
{
    struct frame *l1 = frame_of(MFN(dom_mfn(0, ROOT_L1))), *data = frame_of(MFN(DATA(0)));
    uint64_t *table = ram[dom_mfn(0, ROOT_L1)];

    audit_finds(&l1->type, l1->type & ~TYPE_VALIDATED);
    audit_finds(&l1->type, l1->type + 1);
    audit_finds(&l1->type, TYPE_MAKE(FRAME_L2) | TYPE_VALIDATED | 1);
    audit_finds(&data->type, data->type - 1);
    audit_finds(&data->type, TYPE_MAKE(FRAME_SEGDESC) | TYPE_VALIDATED | 1);
    audit_finds(&data->control, data->control - 1);
    audit_finds(&data->control, (data->control & ~(0xffffUL << 32)) | 2UL << 32);
    audit_finds(&table[0], entry(dom_mfn(0, ROOT_L1), RW)); /* a writable mapping of a table */
    audit_finds(&table[0], entry(dom_mfn(1, 8), RO));       /* another domain's frame */
    audit_finds(&ram[dom_mfn(0, ROOT)][260], entry(1, RW));
    audit_finds(&frames[SHARED_RW].type, TYPE_MAKE(FRAME_SEGDESC) | TYPE_VALIDATED | 1);
    /* a kernel root that lost a reference */
    audit_finds(&frames[dom_mfn(0, ROOT)].type, frames[dom_mfn(0, ROOT)].type - 1);
    audit_finds(&frames[TABLE(0)].control, 1UL << 32);     /* no references, not free */
    audit_finds(&frames[TABLE(0)].control, 1 | 7UL << 32); /* an owner that is not there */
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(only_the_owner_gets_a_reference),
        TEST(frames_that_are_nobodys),
        TEST(a_frame_stays_its_owners_while_it_is_mapped),
        TEST(somebody_elses_release),
        TEST(reference_counts_do_not_overflow),
        TEST(types_exclude_each_other),
        TEST(descriptor_pages_are_validated),
        TEST(stale_writers_are_flushed),
        TEST(stale_writers_are_flushed_for_descriptors),
        TEST(a_late_flush_is_enough),
        TEST(stale_walkers_are_flushed),
        TEST(a_second_writer_waits_for_the_flush),
        TEST(the_stamp_is_not_older_than_the_last_use),
        TEST(shared_frames),
        TEST(unsharing_flushes),
        TEST(shared_frames_do_not_become_tables),
        TEST(the_audit_finds_faults),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
