/* sources: hypervisor/memory/alloc.c */
/*
 * The page allocator on a made-up machine: real memory for some frames in two pieces, one on each side of 4 GiB, on two
 * NUMA nodes, and a frame table for all of them. Random operations are checked against a model of who owns what.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "cpu/tlb.h"
#include "domain/domain.h"
#include "lib/log.h"
#include "memory/alloc.h"
#include "memory/frame.h"
#include "memory/map.h"
#include "platform/acpi.h"

#define LOW_START 0x100UL     /* frames of the machine */
#define LOW_COUNT 0x900UL     /* 9 MiB */
#define HIGH_START 0x100040UL /* just above 4 GiB, not aligned to much */
#define HIGH_COUNT 0x6c0UL
#define NODE1_START 0x100400UL
#define COUNT (LOW_COUNT + HIGH_COUNT)

static struct frame *frames;
static unsigned domain_puts;
static uint8_t *memory;
static uint64_t m2p[COUNT];
static struct percpu boot_cpu;
static uint64_t flushed_to;
static unsigned flushes;
struct acpi_info acpi_info;
cpumask_t cpu_online = {{3}};
volatile uint64_t tlb_clock;

static bool frame_index(mfn_t m, size_t *i)
{
    if (m.n - LOW_START < LOW_COUNT)
        *i = m.n - LOW_START;
    else if (m.n - HIGH_START < HIGH_COUNT)
        *i = LOW_COUNT + m.n - HIGH_START;
    else
        return false;
    return true;
}
static size_t index_of(mfn_t m)
{
    size_t i = 0;

    if (!frame_index(m, &i))
        fail_msg("frame 0x%lx is not of this machine", (unsigned long)m.n);
    return i;
}
static mfn_t mfn_at(size_t i) { return MFN(i < LOW_COUNT ? LOW_START + i : HIGH_START + i - LOW_COUNT); }

bool frame_get(mfn_t m, const struct domain *d)
{
    struct frame *f = frame_of(m);

    if (frame_owner(f) != d->id || !FRAME_REFS(f->control))
        return false;
    f->control++;
    return true;
}
bool frame_release(mfn_t m, struct domain *d)
{
    struct frame *f = frame_of(m);

    assert_true(frame_owner(f) == d->id && f->control & FRAME_ALLOCATED);
    f->control &= ~FRAME_ALLOCATED;
    if (!FRAME_REFS(--f->control))
        alloc_free_domain_frame(m, d);
    return true;
}
void domain_put(struct domain *d)
{
    assert_false(spin_is_locked(&d->page_list_lock));
    domain_puts++;
}

bool mfn_valid(mfn_t m)
{
    size_t i;

    return frame_index(m, &i);
}
struct frame *frame_of(mfn_t m) { return &frames[index_of(m)]; }
mfn_t mfn_of(const struct frame *f) { return mfn_at((size_t)(f - frames)); }
static void (*while_cleared)(void); /* runs once: between the counting of frames and their arrival */
void *mfn_to_virt(mfn_t m)
{
    void (*fn)(void) = while_cleared;

    while_cleared = NULL;
    if (fn)
        fn();
    return memory + index_of(m) * PAGE_SIZE;
}
mfn_t virt_to_mfn(const void *p) { return mfn_at((size_t)((const uint8_t *)p - memory) / PAGE_SIZE); }
uint64_t m2p_read(mfn_t m) { return m2p[index_of(m)]; }
static const struct domain *numbered_for; /* frames get their numbers before they are this domain's */
void m2p_write(mfn_t m, uint64_t gpfn)
{
    assert_true(!numbered_for || frame_owner(frame_of(m)) != numbered_for->id);
    m2p[index_of(m)] = gpfn;
}
struct percpu *this_cpu(void) { return &boot_cpu; }
unsigned acpi_node_of_maddr(maddr_t a) { return a.n >> PAGE_SHIFT >= NODE1_START; }
void tlb_flush_local(void) { fail_msg("this is a machine of two CPUs"); }
void tlb_flush_since_slow(const cpumask_t *mask, uint64_t stamp)
{
    assert_ptr_equal(mask, &cpu_online);
    flushed_to = stamp;
    flushes++;
}
void log_print(enum log_level level, const char *fmt, ...) {}
void panic(const char *fmt, ...)
{
    print_message("panic: %s", fmt);
    abort();
}

/* ----- the model: an owner for each frame ----- */

enum { NOBODY, CROFT_OWNS, DOMAIN_OWNS };
static uint8_t owner[COUNT];
static uint64_t in_allocator;
static struct domain *dom;

static uint64_t model_count(unsigned who)
{
    uint64_t n = 0;

    for (size_t i = 0; i < COUNT; i++)
        n += owner[i] == who;
    return n;
}

/* Every frame's words, the domain's list and the counts agree with the model. */
static void check_all(void)
{
    uint64_t in_list = 0, last = 0;
    unsigned node_free[2] = {0, 0};

    for (size_t i = 0; i < COUNT; i++) {
        const struct frame *f = &frames[i];

        switch (owner[i]) {
        case NOBODY:
            assert_int_equal(f->control, (uint64_t)DOMID_FREE << 32);
            node_free[acpi_node_of_maddr(mfn_to_maddr(mfn_at(i)))]++;
            break;
        case CROFT_OWNS:
            assert_int_equal(f->control, (uint64_t)DOMID_CROFT << 32 | 1);
            break;
        case DOMAIN_OWNS:
            assert_int_equal(f->control, (uint64_t)dom->id << 32 | 1 | FRAME_ALLOCATED);
            break;
        }
        if (owner[i] != NOBODY)
            assert_int_equal(f->type, 0);
    }
    for (uint32_t m = dom->page_list; m; m = frame_of(MFN(m))->next) {
        assert_int_equal(owner[index_of(MFN(m))], DOMAIN_OWNS);
        assert_int_equal(frame_of(MFN(m))->prev, last);
        last = m;
        in_list++;
    }
    assert_int_equal(in_list, model_count(DOMAIN_OWNS));
    assert_int_equal(dom->tot_pages, in_list);
    assert_int_equal(alloc_free_count(), model_count(NOBODY));
    assert_int_equal(alloc_node_free(0), node_free[0]);
    assert_int_equal(alloc_node_free(1), node_free[1]);
    assert_int_equal(alloc_total_count(), in_allocator);
}

/* Notes a block as somebody's; it must have been free, and be zero. Leaves a mark in it. */
static void model_take(mfn_t m, uint64_t count, unsigned who)
{
    for (uint64_t i = 0; i < count; i++) {
        size_t at = index_of(mfn_add(m, i));
        uint8_t *page = mfn_to_virt(mfn_add(m, i));

        assert_int_equal(owner[at], NOBODY);
        owner[at] = (uint8_t)who;
        assert_true(page[0] == 0 && memcmp(page, page + 1, PAGE_SIZE - 1) == 0);
        memset(page, 0xa5, PAGE_SIZE);
        assert_int_equal(frames[at].tlb_stamp, 0);
    }
}
static void model_give(mfn_t m, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        owner[index_of(mfn_add(m, i))] = NOBODY;
}

/* As memory/frame.c does when the last reference goes. */
static void drop_domain_frame(mfn_t m)
{
    struct frame *f = frame_of(m);

    f->control = (uint64_t)dom->id << 32;
    f->type = TYPE_MAKE(FRAME_WRITABLE);
    f->tlb_stamp = ++tlb_clock;
    m2p_write(m, 12345);
    alloc_free_domain_frame(m, dom);
    assert_int_equal(m2p_read(m), M2P_INVALID);
    owner[index_of(m)] = NOBODY;
}

static void free_all_of_domain(void)
{
    while (dom->page_list)
        drop_domain_frame(MFN(dom->page_list));
}

static int setup_machine(void **state)
{
    if (frames)
        return 0; /* the allocator has no way back: one machine for all tests, all free between them */
    frames = calloc(COUNT, sizeof(*frames));
    memory = aligned_alloc(PAGE_SIZE, COUNT * PAGE_SIZE);
    dom = calloc(1, sizeof(*dom));
    dom->id = 7;
    dom->max_pages = COUNT;
    memset(memory, 0x5a, COUNT * PAGE_SIZE);
    for (size_t i = 0; i < COUNT; i++) {
        frames[i].control = (uint64_t)DOMID_CROFT << 32 | 1;
        owner[i] = CROFT_OWNS;
    }
    /* Some frames in the middle are not for the allocator: a range is not all RAM. */
    for (size_t i = 0x123; i < 0x140; i++) {
        frames[i].control = (uint64_t)DOMID_IO << 32 | 1;
        owner[i] = 99;
    }
    /* The range begins and ends where there is no frame table. */
    alloc_add_range(MFN(LOW_START - 0x80), LOW_COUNT + 0x180, 0);
    alloc_add_range(MFN(HIGH_START), NODE1_START - HIGH_START, 0);
    alloc_add_range(MFN(NODE1_START), HIGH_START + HIGH_COUNT - NODE1_START, 1);
    for (size_t i = 0; i < COUNT; i++)
        if (owner[i] == CROFT_OWNS) {
            owner[i] = NOBODY;
            in_allocator++;
        }
    return 0;
}

static void test_boot_leaves_out_what_is_not_ram(void **state)
{
    assert_int_equal(in_allocator, COUNT - 0x1d);
    assert_int_equal(frames[0x123].control, (uint64_t)DOMID_IO << 32 | 1);
    assert_int_equal(frames[0x13f].control, (uint64_t)DOMID_IO << 32 | 1);
    check_all();
}

/* Must come before the others: they use the frames. */
static void test_unzeroed_only_before_first_use(void **state)
{
    mfn_t m = alloc_domain_frames_unzeroed(dom, 3, NODE_ANY), again;
    uint8_t *page = mfn_to_virt(m);

    assert_int_equal(page[0], 0x5a);
    for (unsigned i = 0; i < 8; i++)
        owner[index_of(mfn_add(m, i))] = DOMAIN_OWNS;
    check_all();
    memset(page, 0x77, 8 * PAGE_SIZE);
    free_all_of_domain();
    check_all();
    /* The next to ask gets the same frames, now used: zero. */
    for (unsigned i = 0; i < 8; i++) {
        again = alloc_domain_frames_unzeroed(dom, 0, NODE_ANY);
        page = mfn_to_virt(again);
        owner[index_of(again)] = DOMAIN_OWNS;
        if (again.n >= m.n && again.n < m.n + 8)
            assert_true(page[0] == 0 && memcmp(page, page + 1, PAGE_SIZE - 1) == 0);
        else
            assert_int_equal(page[0], 0x5a);
    }
    free_all_of_domain();
    check_all();
}

static void test_high_memory_first_low_on_request(void **state)
{
    mfn_t m = alloc_frames(0, 0);

    assert_true(m.n >= HIGH_START && m.n < NODE1_START);
    free_frames(m, 0);
    m = alloc_frames(4, 1);
    assert_true(m.n >= NODE1_START && !(m.n & 15));
    free_frames(m, 4);
    m = alloc_domain_frames_numbered(dom, 4, 1, 32, M2P_INVALID);
    assert_true(m.n < LOW_START + LOW_COUNT);
    model_take(m, 16, DOMAIN_OWNS);
    m = alloc_domain_frames_numbered(dom, 0, NODE_ANY, 21, M2P_INVALID); /* below 2 MiB */
    assert_true(m.n < 0x200);
    model_take(m, 1, DOMAIN_OWNS);
    assert_true(mfn_eq(alloc_domain_frames_numbered(dom, 0, NODE_ANY, 12, M2P_INVALID), INVALID_MFN));
    assert_true(mfn_eq(alloc_domain_frames_numbered(dom, 8, NODE_ANY, 20, M2P_INVALID), INVALID_MFN));
    numbered_for = dom;
    m = alloc_domain_frames_numbered(dom, 2, NODE_ANY, 33, 100); /* reaches above 4 GiB */
    numbered_for = NULL;
    assert_true(m.n >= HIGH_START);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(m2p_read(mfn_add(m, i)), 100 + i);
    model_take(m, 4, DOMAIN_OWNS);
    check_all();
    free_all_of_domain();
    check_all();
}

static void test_domain_limit(void **state)
{
    mfn_t m;

    dom->max_pages = 9;
    m = alloc_domain_frames(dom, 3, NODE_ANY);
    model_take(m, 8, DOMAIN_OWNS);
    assert_true(mfn_eq(alloc_domain_frames(dom, 1, NODE_ANY), INVALID_MFN));
    assert_true(mfn_eq(alloc_domain_frames(dom, 63, NODE_ANY), INVALID_MFN));
    m = alloc_domain_frames(dom, 0, NODE_ANY);
    model_take(m, 1, DOMAIN_OWNS);
    assert_true(mfn_eq(alloc_domain_frames(dom, 0, NODE_ANY), INVALID_MFN));
    dom->max_pages = 2; /* below what it has */
    assert_true(mfn_eq(alloc_domain_frames(dom, 0, NODE_ANY), INVALID_MFN));
    check_all();
    free_all_of_domain();
    dom->max_pages = COUNT;
    check_all();
}

/* A frame leaves its domain, which is the receiver as well here, and comes back; or is freed in between. */
static void test_frames_that_change_hands(void **state)
{
    mfn_t m = alloc_domain_frames(dom, 2, NODE_ANY), middle = mfn_add(m, 1);
    uint64_t limit = dom->max_pages;

    model_take(m, 4, DOMAIN_OWNS);
    frame_of(middle)->control++; /* somebody maps it */
    assert_false(alloc_take_claimed_frame(middle, dom));
    frame_of(middle)->control--;
    check_all();
    frame_of(middle)->control &= ~FRAME_ALLOCATED; /* claimed */
    assert_true(alloc_take_claimed_frame(middle, dom));
    owner[index_of(middle)] = CROFT_OWNS;
    check_all();
    dom->max_pages = dom->tot_pages;
    assert_false(alloc_reserve_frame(dom));
    dom->max_pages = limit;
    assert_true(alloc_reserve_frame(dom));
    alloc_unreserve_frame(dom);
    check_all();
    assert_true(alloc_reserve_frame(dom));
    alloc_give_taken_frame(middle, dom);
    owner[index_of(middle)] = DOMAIN_OWNS;
    check_all();
    dom->dying = true;
    assert_false(alloc_reserve_frame(dom));
    dom->dying = false;
    free_all_of_domain();
    check_all();
}

static void test_flushes_for_used_frames_only(void **state)
{
    mfn_t m = alloc_frames(5, 0);
    uint64_t stamp;

    free_frames(m, 5);
    flushes = 0;
    assert_true(mfn_eq(alloc_frames(5, 0), m)); /* Croft's own last use leaves no guest translation */
    assert_int_equal(flushes, 0);
    free_frames(m, 5);
    m = alloc_domain_frames(dom, 0, NODE_ANY);
    owner[index_of(m)] = DOMAIN_OWNS;
    drop_domain_frame(m);
    stamp = tlb_clock;
    /* It joined its neighbours: whoever gets the block it is in flushes for it. */
    m = alloc_frames(5, 0);
    assert_int_equal(flushes, 1);
    assert_int_equal(flushed_to, stamp);
    free_frames(m, 5);
    assert_true(mfn_eq(alloc_frames(5, 0), m));
    assert_int_equal(flushes, 1);
    free_frames(m, 5);
    check_all();
}

static void test_runs_give_back_their_tail(void **state)
{
    mfn_t m = alloc_frame_run(37, NODE_ANY);

    model_take(m, 37, CROFT_OWNS);
    check_all();
    free_frame_run(m, 37);
    model_give(m, 37);
    check_all();
    assert_true(mfn_eq(alloc_frame_run(0, NODE_ANY), INVALID_MFN));
    assert_true(mfn_eq(alloc_frame_run(~0UL, NODE_ANY), INVALID_MFN));
    assert_null(alloc_pages(MAX_ORDER));
    assert_null(alloc_pages(MAX_ORDER + 1));
    free_pages(NULL, 0);
}

/* Blocks that are all free again join to the largest possible: it can be had in pieces of 2 MiB at their places. */
static void test_buddies_join(void **state)
{
    unsigned largest = 0, expected = 0;
    mfn_t got[COUNT / 512];

    for (uint64_t m = 0; m < HIGH_START + HIGH_COUNT; m += 512) {
        bool whole = true;
        size_t at;

        for (uint64_t i = 0; i < 512 && whole; i++)
            whole = frame_index(MFN(m + i), &at) && owner[at] == NOBODY;
        /* 0x100400: node 1 begins there, so no block crosses it, and none of 512 does */
        expected += whole;
    }
    for (mfn_t m; !mfn_eq(m = alloc_frames(9, NODE_ANY), INVALID_MFN); largest++) {
        assert_int_equal(m.n & 511, 0);
        got[largest] = m;
    }
    assert_int_equal(largest, expected);
    while (largest--)
        free_frames(got[largest], 9);
    check_all();
}

#define HELD_MAX 300

static void test_random_operations(void **state)
{
    static struct {
        mfn_t m;
        uint64_t count;
    } held[HELD_MAX];
    unsigned n = 0, seed = 1, nodes[] = {0, 1, NODE_ANY};

    for (unsigned step = 0; step < 40000; step++) {
        unsigned what = (unsigned)rand_r(&seed) % 8, order = (unsigned)rand_r(&seed) % 8;
        unsigned node = nodes[rand_r(&seed) % 3], pick = (unsigned)rand_r(&seed);
        uint64_t free_before = alloc_free_count(), count = 1UL << order;
        mfn_t m = INVALID_MFN;

        if (!(step / 2000 % 2))
            what = what % 4 + what / 7; /* times when memory gets scarce */
        switch (what) {
        case 0:
        case 1:
            if (n == HELD_MAX)
                break;
            count = what ? 1 + pick % 100 : count;
            m = what ? alloc_frame_run(count, node) : alloc_frames(order, node);
            if (mfn_eq(m, INVALID_MFN)) {
                assert_int_equal(alloc_free_count(), free_before);
                break;
            }
            model_take(m, count, CROFT_OWNS);
            held[n].m = m;
            held[n++].count = count;
            break;
        case 2:
        case 3:
            m = what == 2 ? alloc_domain_frames(dom, order, node)
                          : alloc_domain_frames_numbered(dom, order, node, 21 + pick % 14, M2P_INVALID);
            if (mfn_eq(m, INVALID_MFN))
                assert_int_equal(alloc_free_count(), free_before);
            else
                model_take(m, count, DOMAIN_OWNS);
            break;
        case 4:
        case 5:
            if (!n)
                break;
            pick %= n;
            model_give(held[pick].m, held[pick].count);
            free_frame_run(held[pick].m, held[pick].count);
            held[pick] = held[--n];
            break;
        default: /* some of the domain's frames, from anywhere */
            for (unsigned tries = 0; tries < 60; tries++) {
                size_t i = (size_t)rand_r(&seed) % COUNT;

                if (owner[i] == DOMAIN_OWNS)
                    drop_domain_frame(mfn_at(i));
            }
        }
        if (!(step % 50))
            check_all();
    }
    while (n--) {
        model_give(held[n].m, held[n].count);
        free_frame_run(held[n].m, held[n].count);
    }
    free_all_of_domain();
    check_all();
    test_buddies_join(state);
}

static void test_memory_used_up(void **state)
{
    uint64_t n = 0;

    while (!mfn_eq(alloc_domain_frames(dom, 0, NODE_ANY), INVALID_MFN))
        n++;
    assert_int_equal(n, in_allocator);
    assert_int_equal(alloc_free_count(), 0);
    assert_int_equal(dom->tot_pages, n);
    assert_null(alloc_pages(0));
    for (size_t i = 0; i < COUNT; i++)
        if (owner[i] == NOBODY)
            owner[i] = DOMAIN_OWNS;
    check_all();
    free_all_of_domain();
    check_all();
}

/* ----- fault injection ----- */

static void test_the_third_allocation_fails(void **state)
{
    struct domain calling = {.id = 5};
    struct vcpu v = {.domain = &calling};
    void *page[4];

    assert_int_equal(alloc_fault_set(3, DOMID_IDLE), 0);
    for (unsigned i = 0; i < 4; i++)
        page[i] = alloc_pages(0);
    assert_true(page[0] && page[1] && !page[2] && page[3]);
    assert_int_equal(alloc_fault_set(2, 5), 0);
    boot_cpu.current_vcpu = &v;
    calling.id = 6; /* another's are not counted */
    page[2] = alloc_pages(0);
    assert_non_null(page[2]);
    calling.id = 5;
    free_pages(page[2], 0);
    page[2] = alloc_pages(0);
    assert_non_null(page[2]);
    assert_int_equal(alloc_fault_set(1, 5), 1); /* that order is taken back */
    assert_true(mfn_eq(alloc_domain_frames(dom, 0, NODE_ANY), INVALID_MFN));
    assert_int_equal(dom->tot_pages, 0);
    assert_int_equal(alloc_fault_set(0, 0), 0);
    boot_cpu.current_vcpu = NULL;
    for (unsigned i = 0; i < 4; i++)
        free_pages(page[i], 0);
    check_all();
}

/* ----- claims ----- */

static struct domain *other_domain(domid_t id)
{
    struct domain *d = calloc(1, sizeof(*d));

    d->id = id;
    d->max_pages = COUNT;
    return d;
}

static void test_claims(void **state)
{
    struct domain *other = other_domain(8);
    uint64_t all = alloc_free_count();
    mfn_t m;

    m = alloc_domain_frames(dom, 3, NODE_ANY);
    dom->max_pages = 1000;
    assert_int_equal(alloc_claim(dom, 7), -EINVAL); /* less than it has */
    assert_int_equal(alloc_claim(dom, 1001), -EINVAL);
    assert_int_equal(alloc_claim(dom, ~0UL), -EINVAL);
    assert_int_equal(alloc_claim(dom, 0), 0);
    assert_int_equal(alloc_claim(dom, 1000), 0);
    assert_int_equal(dom->claimed_pages, 992);
    assert_int_equal(alloc_claimed_count(), 992);
    assert_int_equal(alloc_claim(dom, 900), -EINVAL); /* it has one */
    assert_int_equal(alloc_claim(other, all - 1000 + 1), -ENOMEM);
    assert_int_equal(other->claimed_pages, 0);
    assert_int_equal(alloc_claim(other, all - 1000), 0);
    assert_int_equal(alloc_claimed_count(), alloc_free_count());
    /* Each gets what was promised to it. Croft itself is not bound. */
    m = alloc_domain_frames(dom, 4, NODE_ANY);
    assert_false(mfn_eq(m, INVALID_MFN));
    assert_int_equal(dom->claimed_pages, 976);
    assert_int_equal(other->claimed_pages, all - 1000);
    assert_int_equal(alloc_claim(other, 0), 0);
    assert_int_equal(alloc_claimed_count(), 976);
    m = alloc_frames(0, NODE_ANY);
    assert_false(mfn_eq(m, INVALID_MFN));
    free_frames(m, 0);
    /* Without a claim, the others get what is not promised, and no page more. */
    uint64_t n = 0;

    while (!mfn_eq(alloc_domain_frames(other, 0, NODE_ANY), INVALID_MFN))
        n++;
    assert_int_equal(n, all - 1000);
    assert_int_equal(alloc_free_count(), 976);
    assert_int_equal(other->tot_pages, n);
    /* There is no block of that size: nothing is lost of the claim. */
    assert_true(mfn_eq(alloc_domain_frames(dom, 9, NODE_ANY), INVALID_MFN) || dom->claimed_pages == 976 - 512);
    assert_true(mfn_eq(alloc_domain_frames_numbered(dom, 0, NODE_ANY, 13, M2P_INVALID), INVALID_MFN));
    assert_int_equal(dom->claimed_pages + dom->tot_pages, 1000);
    assert_int_equal(alloc_claimed_count(), dom->claimed_pages);
    while (!mfn_eq(alloc_domain_frames(dom, 0, NODE_ANY), INVALID_MFN))
        ;
    assert_int_equal(dom->tot_pages, 1000);
    assert_int_equal(alloc_claimed_count(), 0);
    assert_int_equal(alloc_free_count(), 0);
    while (other->page_list) {
        frame_of(MFN(other->page_list))->control = (uint64_t)other->id << 32;
        alloc_free_domain_frame(MFN(other->page_list), other);
    }
    free_all_of_domain();
    dom->max_pages = COUNT;
    check_all();
    /* A dying domain: none, and what it has is given up by 0. */
    assert_int_equal(alloc_claim(other, 100), 0);
    other->dying = true;
    assert_int_equal(alloc_claim(other, 0), 0);
    assert_int_equal(alloc_claim(other, 100), -EINVAL);
    assert_true(mfn_eq(alloc_domain_frames(other, 0, NODE_ANY), INVALID_MFN));
    assert_false(alloc_reserve_frame(other));
    assert_int_equal(alloc_claimed_count(), 0);
    assert_int_equal(other->tot_pages, 0);
    assert_int_equal(domain_puts, 0);
    free(other);
    check_all();
}

/* ----- the end of a domain ----- */

static unsigned collect(struct domain *d)
{
    unsigned n = 0;
    mfn_t m;

    for (; alloc_next_to_release(d, &m); n++) {
        struct frame *f = frame_of(m);

        assert_true(FRAME_REFS(f->control) >= 2);
        assert_true(frame_release(m, d));
        if (!FRAME_REFS(--f->control))
            alloc_free_domain_frame(m, d);
    }
    return n;
}

static void test_each_frame_is_released_once(void **state)
{
    struct domain *d = other_domain(9);
    mfn_t m, held[3];
    unsigned n = 0;

    for (unsigned i = 0; i < 3; i++) {
        held[i] = alloc_domain_frames(d, 2, NODE_ANY);
        frame_of(held[i])->control++; /* somebody else's */
    }
    m = alloc_domain_frames(d, 0, NODE_ANY);
    frame_of(m)->control = (uint64_t)d->id << 32; /* its last reference goes just now */
    d->dying = true;
    assert_int_equal(collect(d), 12);
    assert_int_equal(d->page_list, 0);
    assert_int_equal(d->tot_pages, 4);
    assert_false(alloc_next_to_release(d, &m));
    /* A page of Croft's joins them. */
    mfn_t page = alloc_frames(0, NODE_ANY);

    frame_of(page)->control = (uint64_t)d->id << 32 | 1;
    alloc_adopt_frame(page, d);
    assert_int_equal(d->tot_pages, 5);
    for (m = MFN(0); n < COUNT; n++)
        if (frames[n].control == (uint64_t)d->id << 32) {
            alloc_free_domain_frame(mfn_at(n), d);
            break;
        }
    assert_int_equal(d->tot_pages, 4);
    d->put_with_last_frame = true;
    domain_puts = 0;
    for (unsigned i = 0; i < 3; i++) { /* the middle of the list, its start, its end */
        mfn_t x = i == 0 ? held[1] : i == 1 ? page : held[2];

        frame_of(x)->control--;
        alloc_free_domain_frame(x, d);
        assert_int_equal(d->tot_pages, 3 - i);
        assert_int_equal(domain_puts, 0);
    }
    frame_of(held[0])->control--;
    alloc_free_domain_frame(held[0], d);
    assert_int_equal(domain_puts, 1);
    assert_int_equal(d->tot_pages, 0);
    assert_int_equal(d->released_list, 0);
    domain_puts = 0;
    free(d);
    check_all();
}

static struct domain *ending;
static void the_domain_ends(void)
{
    ending->dying = true;
    collect(ending);
    ending->put_with_last_frame = true;
}

/* Its end overtakes frames that are being cleared for it. */
static void test_frames_on_their_way_to_a_dying_domain(void **state)
{
    struct domain *d = ending = other_domain(9);

    while_cleared = the_domain_ends;
    assert_true(mfn_eq(alloc_domain_frames(d, 3, NODE_ANY), INVALID_MFN));
    assert_null(while_cleared);
    assert_int_equal(d->tot_pages, 0);
    assert_int_equal(d->page_list, 0);
    assert_int_equal(domain_puts, 1);
    domain_puts = 0;
    check_all();
    /* A reserved frame that does not come */
    memset(d, 0, sizeof(*d));
    d->id = 9;
    d->max_pages = 1;
    assert_true(alloc_reserve_frame(d));
    assert_false(alloc_reserve_frame(d));
    the_domain_ends();
    alloc_unreserve_frame(d);
    assert_int_equal(domain_puts, 1);
    domain_puts = 0;
    /* One that comes */
    d->dying = d->put_with_last_frame = false;
    assert_true(alloc_reserve_frame(d));
    mfn_t m = alloc_frames(0, NODE_ANY);

    the_domain_ends();
    alloc_give_taken_frame(m, d);
    assert_int_equal(domain_puts, 1);
    domain_puts = 0;
    assert_int_equal(d->tot_pages, 0);
    free(d);
    check_all();
}

/* A frame goes from one domain to another. */
static void test_transfer(void **state)
{
    struct domain *d = other_domain(9);
    mfn_t m = alloc_domain_frames(dom, 0, NODE_ANY);

    frame_of(m)->control = (uint64_t)dom->id << 32 | 2; /* claimed, and mapped since */
    assert_false(alloc_take_claimed_frame(m, dom));
    frame_of(m)->control--;
    assert_true(alloc_reserve_frame(d));
    assert_true(alloc_take_claimed_frame(m, dom));
    assert_int_equal(dom->tot_pages, 0);
    alloc_give_taken_frame(m, d);
    assert_int_equal(d->tot_pages, 1);
    assert_int_equal(d->page_list, m.n);
    assert_int_equal(frame_of(m)->control, (uint64_t)d->id << 32 | 1 | FRAME_ALLOCATED);
    d->dying = true;
    assert_int_equal(collect(d), 1);
    assert_int_equal(d->tot_pages, 0);
    free(d);
    check_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_boot_leaves_out_what_is_not_ram),
        cmocka_unit_test(test_unzeroed_only_before_first_use),
        cmocka_unit_test(test_high_memory_first_low_on_request),
        cmocka_unit_test(test_domain_limit),
        cmocka_unit_test(test_frames_that_change_hands),
        cmocka_unit_test(test_flushes_for_used_frames_only),
        cmocka_unit_test(test_runs_give_back_their_tail),
        cmocka_unit_test(test_buddies_join),
        cmocka_unit_test(test_random_operations),
        cmocka_unit_test(test_memory_used_up),
        cmocka_unit_test(test_the_third_allocation_fails),
        cmocka_unit_test(test_claims),
        cmocka_unit_test(test_each_frame_is_released_once),
        cmocka_unit_test(test_frames_on_their_way_to_a_dying_domain),
        cmocka_unit_test(test_transfer),
    };

    return cmocka_run_group_tests(tests, setup_machine, NULL);
}
