/* sources: hypervisor/memory/heap.c */
/* The heap over a plain page allocator: sizes, alignment, zeroing, no two objects overlap, pages go back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lib/log.h"
#include "memory/alloc.h"
#include "memory/frame.h"
#include "memory/map.h"

#define PAGES 4096UL

static struct frame frames[PAGES];
static uint8_t *memory;
static bool taken[PAGES];
static uint64_t taken_count, limit = PAGES;

struct frame *frame_of(mfn_t m)
{
    assert_true(m.n > 0 && m.n < PAGES);
    return &frames[m.n];
}
void *mfn_to_virt(mfn_t m) { return memory + m.n * PAGE_SIZE; }
mfn_t virt_to_mfn(const void *p) { return MFN((uint64_t)((const uint8_t *)p - memory) / PAGE_SIZE); }

mfn_t alloc_frame_run(uint64_t count, unsigned node)
{
    uint64_t row = 0;

    if (count > PAGES || taken_count + count > limit)
        return INVALID_MFN;
    for (uint64_t m = 1; m < PAGES; m++) {
        row = taken[m] ? 0 : row + 1;
        if (row < count)
            continue;
        m -= count - 1;
        for (uint64_t i = m; i < m + count; i++) {
            taken[i] = true;
            frames[i] = (struct frame){.control = (uint64_t)DOMID_CROFT << 32 | 1, .next = 0xdead, .prev = 0xdead};
            memset(memory + i * PAGE_SIZE, 0, PAGE_SIZE);
        }
        taken_count += count;
        return MFN(m);
    }
    return INVALID_MFN;
}
void free_frame_run(mfn_t start, uint64_t count)
{
    for (uint64_t i = start.n; i < start.n + count; i++) {
        assert_true(taken[i]);
        taken[i] = false;
        frames[i].type = 0;
    }
    taken_count -= count;
}
static bool fault_due; /* for one allocation */
bool alloc_fault_due(void)
{
    bool due = fault_due;

    fault_due = false;
    return due;
}
mfn_t alloc_frames(unsigned order, unsigned node) { return alloc_frame_run(1UL << order, node); }
void free_frames(mfn_t start, unsigned order) { free_frame_run(start, 1UL << order); }

static jmp_buf panicked;
static bool panic_expected;
void panic(const char *fmt, ...)
{
    if (panic_expected)
        longjmp(panicked, 1);
    print_message("panic: %s", fmt);
    abort();
}

static int setup_machine(void **state)
{
    memory = aligned_alloc(1UL << 20, PAGES * PAGE_SIZE);
    memset(memory, 0xcc, PAGES * PAGE_SIZE);
    return memory == NULL;
}

static bool is_all(const uint8_t *p, size_t n, uint8_t byte)
{
    while (n--)
        if (*p++ != byte)
            return false;
    return true;
}

static void check_size(size_t size)
{
    uint8_t *p = heap_alloc(size);

    assert_non_null(p);
    assert_int_equal((uintptr_t)p % (size >= 64 ? 64 : 16), 0);
    assert_true(is_all(p, size, 0));
    memset(p, 0xff, size);
    heap_free(p);
}

static void test_sizes_alignment_zero(void **state)
{
    for (size_t size = 0; size < 5000; size++)
        check_size(size);
    for (unsigned shift = 12; shift < 23; shift++)
        for (int delta = -1; delta <= 1; delta++)
            check_size((1UL << shift) + (size_t)delta);
    heap_free(NULL);
}

static void test_large_takes_whole_pages_only(void **state)
{
    uint64_t before = taken_count;
    void *p = heap_alloc(9 * PAGE_SIZE + 1);

    assert_int_equal(taken_count, before + 10);
    heap_free(p);
    assert_int_equal(taken_count, before);
}

static void test_absurd_sizes(void **state)
{
    assert_null(heap_alloc(~0UL));
    assert_null(heap_alloc(~0UL - PAGE_SIZE));
    assert_null(heap_alloc(PAGES * PAGE_SIZE));
}

static void test_no_memory(void **state)
{
    void *last = NULL;
    unsigned n = 0;

    limit = taken_count + 2;
    for (void **p; (p = heap_alloc(1000)) != NULL; last = p, n++)
        *p = last;
    assert_in_range(n, 8, 12);
    assert_null(heap_alloc(2 * PAGE_SIZE));
    while (last) {
        void *next = *(void **)last;

        heap_free(last);
        last = next;
    }
    limit = PAGES;
}

static void test_wrong_free_is_caught(void **state)
{
    uint8_t *volatile p = heap_alloc(100);

    panic_expected = true;
    if (!setjmp(panicked)) {
        heap_free(p + 8);
        panic_expected = false;
        fail_msg("an address inside an object was freed");
    }
    panic_expected = false;
    heap_free(p);
    p = heap_alloc(3 * PAGE_SIZE);
    panic_expected = true;
    if (!setjmp(panicked)) {
        heap_free(p + PAGE_SIZE);
        panic_expected = false;
        fail_msg("an address inside a large object was freed");
    }
    panic_expected = false;
    heap_free(p);
}

#define OBJECTS 1500

static void test_random_operations(void **state)
{
    static struct {
        uint8_t *p;
        size_t size;
    } object[OBJECTS];
    unsigned seed = 1;

    for (unsigned step = 0; step < 200000; step++) {
        unsigned i = (unsigned)rand_r(&seed) % OBJECTS;

        if (object[i].p) {
            /* Nobody else wrote into it. */
            assert_true(is_all(object[i].p, object[i].size, (uint8_t)i));
            heap_free(object[i].p);
            object[i].p = NULL;
        } else if (step < 190000) {
            size_t size = (size_t)rand_r(&seed) % (rand_r(&seed) % 20 ? 600 : 20000);

            object[i].p = heap_alloc(size);
            object[i].size = size;
            if (!object[i].p)
                continue;
            assert_true(is_all(object[i].p, size, 0));
            memset(object[i].p, (int)i, size);
        }
    }
    for (unsigned i = 0; i < OBJECTS; i++)
        heap_free(object[i].p);
    /* Each of the seven classes may keep a page. */
    assert_in_range(taken_count, 0, 7);
}

/* An empty page goes back at once: free memory does not depend on what was allocated before, nor on the order of frees. */
static void test_an_injected_fault(void **state)
{
    void *p = heap_alloc(100); /* there is room for more on its page */

    fault_due = true;
    assert_null(heap_alloc(100));
    assert_non_null(p);
    heap_free(p);
}

static void test_pages_go_back(void **state)
{
    unsigned before = taken_count;
    void *a[2] = {heap_alloc(2048), heap_alloc(2048)}, *b = heap_alloc(2048);

    assert_int_equal(taken_count, before + 2);
    heap_free(b); /* the other page is full */
    assert_int_equal(taken_count, before + 1);
    heap_free(a[0]);
    assert_int_equal(taken_count, before + 1);
    heap_free(a[1]);
    assert_int_equal(taken_count, before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_alignment_zero), cmocka_unit_test(test_large_takes_whole_pages_only),
        cmocka_unit_test(test_absurd_sizes),         cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_wrong_free_is_caught), cmocka_unit_test(test_random_operations),
        cmocka_unit_test(test_an_injected_fault),    cmocka_unit_test(test_pages_go_back),
    };

    return cmocka_run_group_tests(tests, setup_machine, NULL);
}
