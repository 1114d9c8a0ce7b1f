/* sources: hypervisor/cpu/trace_ring.c */
/* One CPU's trace buffer against a reader that follows the public header: order, the end of the buffer, what is lost, and readers
 * that lie. The pages around the buffer are watched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/trace_ring.h"

#define EVENT (TRC_SCHED_MIN + 1)
#define DATA (PAGE_SIZE - sizeof(struct t_buf))
#define GUARD 0xa5

static uint8_t memory[3 * PAGE_SIZE] __attribute__((aligned(4096)));
static struct t_buf *const shared = (struct t_buf *)(memory + PAGE_SIZE);
static uint32_t *const data = (uint32_t *)(memory + PAGE_SIZE + sizeof(struct t_buf));
static struct trace_ring ring;
static uint64_t written; /* records; each carries its number */
static unsigned fillers;

static int fresh(void **state)
{
    memset(memory, GUARD, sizeof(memory));
    memset(shared, 0, PAGE_SIZE);
    trace_ring_init(&ring, shared, PAGE_SIZE);
    written = fillers = 0;
    return 0;
}

static int nothing_else_touched(void **state)
{
    for (unsigned i = 0; i < PAGE_SIZE; i++) {
        assert_int_equal(memory[i], GUARD);
        assert_int_equal(memory[2 * PAGE_SIZE + i], GUARD);
    }
    return 0;
}

/* A record of n words, of which the first is its number and the others follow from it. */
static bool put(unsigned n)
{
    uint32_t words[TRACE_EXTRA_MAX];

    for (unsigned i = 0; i < n; i++)
        words[i] = (uint32_t)written + i * 1000;
    return trace_ring_write(&ring, EVENT, 0x100000000 + written++, words, n);
}

struct record {
    uint32_t event, n, words[TRACE_EXTRA_MAX];
    uint64_t tsc;
};

/* Takes the next record as a tool does that walks the buffer in place; false: there is none. */
static bool take(struct record *r)
{
    uint32_t cons = shared->cons, at = cons % DATA / 4, header = data[at];
    bool cycles = TRC_HD_INCLUDES_CYCLE_COUNT(header);

    if (cons == shared->prod)
        return false;
    assert_true(shared->prod < 2 * DATA);
    r->event = TRC_HD_TO_EVENT(header);
    r->n = TRC_HD_EXTRA(header);
    assert_true((at + 1 + 2 * cycles + r->n) * 4 <= DATA); /* none crosses the end */
    r->tsc = cycles ? data[at + 1] | (uint64_t)data[at + 2] << 32 : 0;
    memcpy(r->words, &data[at + 1 + 2 * cycles], r->n * 4);
    shared->cons = (cons + 4 * (1 + 2 * cycles + r->n)) % (2 * DATA);
    if (r->event == TRC_TRACE_WRAP_BUFFER) {
        assert_int_equal(shared->cons % DATA, 0);
        fillers++;
        return take(r);
    }
    return true;
}

static void check_record(const struct record *r, uint64_t number)
{
    assert_int_equal(r->event, EVENT);
    assert_int_equal(r->tsc, 0x100000000 + number);
    for (unsigned i = 0; i < r->n; i++)
        assert_int_equal(r->words[i], (uint32_t)number + i * 1000);
}

static void records_come_out_as_they_went_in(void **state)
{
    struct record r;
    uint64_t taken = 0;

    srand(1);
    for (unsigned round = 0; round < 5000; round++) {
        for (int i = rand() % 60; i; i--)
            put(rand() % (TRACE_EXTRA_MAX + 1));
        for (; take(&r); taken++)
            check_record(&r, taken);
        assert_int_equal(taken, written);
    }
    assert_true(fillers > 100);
}

/* Every length of what is left at the end: also the one that is too long for a filler without a time stamp. */
static void each_length_of_filler(void **state)
{
    for (unsigned left = 0; left <= 44; left += 4) {
        struct record r;

        fresh(NULL);
        /* 12 bytes each, and one of 12 + 4n: up to 'left' bytes before the end */
        while (DATA - ring.prod > left + 40) {
            put(0);
            assert_true(take(&r));
        }
        while (DATA - ring.prod > left) {
            uint32_t gap = DATA - ring.prod - left;
            unsigned n = gap >= 24 ? 0 : gap / 4 - 3;

            put(n);
            assert_true(take(&r));
        }
        assert_int_equal(DATA - ring.prod, left);
        put(TRACE_EXTRA_MAX);
        assert_true(take(&r));
        check_record(&r, written - 1);
        assert_int_equal(r.n, TRACE_EXTRA_MAX);
        assert_int_equal(fillers, left && left < 40);
        assert_false(take(&r));
    }
}

static void a_full_buffer_keeps_the_old_and_counts_the_new(void **state)
{
    uint64_t kept, lost;
    struct record r;

    while (!ring.lost)
        put(4);
    kept = written - 1;
    assert_in_range(kept, (DATA - 28 - 36) / 28, DATA / 28);
    for (unsigned i = 0; i < 99; i++)
        put(i % 8);
    lost = written - kept;
    for (uint64_t i = 0; i < kept; i++) {
        assert_true(take(&r));
        check_record(&r, i);
    }
    assert_false(take(&r));
    put(2);
    assert_true(take(&r));
    assert_int_equal(r.event, TRC_LOST_RECORDS);
    assert_int_equal(r.n, 4);
    assert_int_equal(r.words[0], lost);
    assert_int_equal(r.words[2] | (uint64_t)r.words[3] << 32, 0x100000000 + kept); /* since when */
    assert_true(take(&r));
    check_record(&r, written - 1);
    assert_false(take(&r));
    put(2); /* told once */
    assert_true(take(&r));
    check_record(&r, written - 1);
}

/* Full at every place of the buffer: nothing unread is overwritten, and taken and lost add up. */
static void a_slow_reader_gets_whole_records(void **state)
{
    uint64_t expected = 0;
    unsigned times_lost = 0;
    struct record r;

    srand(3);
    for (unsigned round = 0; round < 20000; round++) {
        for (int i = rand() % 12; i; i--)
            put(rand() % (TRACE_EXTRA_MAX + 1));
        for (int i = rand() % 11; i && take(&r); i--)
            if (r.event == TRC_LOST_RECORDS) {
                expected += r.words[0];
                times_lost++;
            } else {
                check_record(&r, expected++);
            }
    }
    assert_true(times_lost > 1000);
}

static void the_reader_is_told_once_when_it_is_half_full(void **state)
{
    unsigned told = 0, at = 0;
    struct record r;

    for (unsigned i = 0; i < 200; i++)
        if (put(0)) {
            told++;
            at = ring.prod;
        }
    assert_int_equal(told, 1);
    assert_in_range(at, DATA / 2, DATA / 2 + 12);
    while (take(&r))
        ;
    told = 0;
    for (unsigned i = 0; i < 200; i++)
        told += put(0);
    assert_int_equal(told, 1);
}

/* Whatever is written into the header: no write goes astray (the guards), and nothing is lost but records. */
static void a_reader_that_lies_loses_records_only(void **state)
{
    static const uint32_t lies[] = {
        1, 2, DATA - 1, DATA, DATA + 4, 2 * DATA - 4, 2 * DATA, 2 * DATA + 4, 0x7fffffff, 0x80000000, ~0U};
    struct record r;
    uint32_t prod;

    srand(2);
    for (unsigned i = 0; i < 200000; i++) {
        shared->cons = rand() % 2 ? lies[rand() % (sizeof(lies) / 4)] : (uint32_t)rand() * 3U;
        if (rand() % 3 == 0)
            shared->prod = (uint32_t)rand() * 3U;
        prod = ring.prod;
        put(rand() % (TRACE_EXTRA_MAX + 1));
        assert_true(ring.prod < 2 * DATA && ring.prod % 4 == 0);
        if (ring.prod != prod)
            assert_int_equal(shared->prod, ring.prod);
    }
    /* An impossible one counts as a full buffer, and is told. */
    shared->cons = 2 * DATA;
    prod = ring.prod;
    put(0);
    assert_true(ring.bad_cons);
    assert_int_equal(ring.prod, prod);
    shared->cons = (ring.prod + 4) % (2 * DATA); /* more than the buffer holds would be unread */
    put(0);
    assert_true(ring.bad_cons);
    assert_int_equal(ring.prod, prod);
    /* Mended: it goes on. */
    shared->cons = shared->prod = ring.prod;
    put(1);
    assert_false(ring.bad_cons);
    assert_true(take(&r));
    assert_int_equal(r.event, TRC_LOST_RECORDS);
    assert_true(take(&r));
    check_record(&r, written - 1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, fresh, nothing_else_touched)
    const struct CMUnitTest tests[] = {
        T(records_come_out_as_they_went_in),
        T(each_length_of_filler),
        T(a_full_buffer_keeps_the_old_and_counts_the_new),
        T(a_slow_reader_gets_whole_records),
        T(the_reader_is_told_once_when_it_is_half_full),
        T(a_reader_that_lies_loses_records_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
