/* sources: hypervisor/hvm/p2m.c hypervisor/hvm/pod.c hypervisor/memory/frame.c hypervisor/memory/audit.c */
/*
 * Nested page tables with the real frame table: each way in and out, then random sequences against a plain array. A walk of
 * the test's own checks the entries as the processor reads them. After each step each frame has exactly the references of where it
 * is mapped; and a frame never becomes free, or its remover's, while a CPU may still have its translation.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/cpu.h"
#include "cpu/smp.h"
#include "cpu/tlb.h"
#include "domain/domain.h"
#include "domain/grant.h"
#include "hvm/hvm.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"
#include "memory/alloc.h"
#include "memory/map.h"
#include "pv/mmu_types.h"

#define BLOCK 512UL
#define GIB (BLOCK * BLOCK)
#define SMALL_FRAMES (16 * BLOCK) /* all but the first block are domain 1's, and the last, domain 2's */
#define BIG GIB                   /* 1 GiB of domain 1's, where a test wants it */
#define OF_2 (SMALL_FRAMES - BLOCK)
#define FREE_BLOCK 0UL
#define NOWHERE INVALID_MFN.n

static struct frame frames[2 * GIB];
static bool big;
static struct domain d1, d2, idle;
static struct vcpu idle_vcpu;
static struct hvm_domain hvm1;
static struct percpu cpu;
static struct p2m *const p = &hvm1.p2m;

struct list domain_list;
spinlock_t domain_list_lock, domain_work_lock;
struct cpu_features cpu_features;
cpumask_t cpu_online;
volatile uint64_t tlb_clock = 1;
uint64_t host_l4[512];

struct percpu *this_cpu(void) { return &cpu; }

/* ---- Memory: a table's machine address is the host's ---- */

bool mfn_valid(mfn_t m) { return m.n < SMALL_FRAMES || (big && m.n - BIG < GIB); }
struct frame *frame_of(mfn_t m)
{
    assert_true(mfn_valid(m));
    return &frames[m.n];
}
mfn_t mfn_of(const struct frame *f) { return MFN((uint64_t)(f - frames)); }
void *mfn_to_virt(mfn_t m) { return (void *)(m.n << PAGE_SHIFT); }
maddr_t virt_to_maddr(const void *v) { return MADDR((uint64_t)v); }

static unsigned live_pages, pages_left = ~0U;
void *alloc_pages(unsigned order)
{
    void *page;

    assert_int_equal(order, 0);
    if (!pages_left)
        return NULL;
    pages_left -= pages_left != ~0U;
    live_pages++;
    page = aligned_alloc(PAGE_SIZE, PAGE_SIZE);
    return memset(page, 0, PAGE_SIZE);
}
void free_pages(void *page, unsigned order)
{
    live_pages -= page != NULL;
    free(page);
}
void *heap_alloc(size_t size) { return calloc(1, size); }
void heap_free(void *o) { free(o); }

/* ---- What CPUs may still have: what is mapped, and what was since the last flush ---- */

static bool follow; /* the model is kept: there is one thread */
static bool in_tlb[SMALL_FRAMES];
static unsigned calls;

static void mark(void *unused, gfn_t gfn, mfn_t m, unsigned order, enum p2m_kind kind)
{
    for (uint64_t i = m.n; i < m.n + (1UL << order); i++)
        if (i < SMALL_FRAMES)
            in_tlb[i] = true;
}
static void load_tlb(void)
{
    if (follow)
        p2m_each(&d1, mark, NULL);
}
void smp_call(const cpumask_t *mask, void (*fn)(void *), void *arg)
{
    assert_ptr_equal(mask, &d1.dirty_cpus);
    __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    fn(arg);
    if (!follow)
        return;
    assert_int_equal(p->flushes, calls); /* counted before */
    memset(in_tlb, 0, sizeof(in_tlb));
    load_tlb();
}

static unsigned freed;
void alloc_free_domain_frame(mfn_t m, struct domain *owner)
{
    assert_ptr_equal(owner, &d1);
    assert_false(m.n < SMALL_FRAMES && in_tlb[m.n]);
    frames[m.n].control = (uint64_t)DOMID_FREE << 32;
    freed++;
}
void alloc_adopt_frame(mfn_t m, struct domain *d) {}
/* hvm/pod.c: test_pod.c is about that. */
mfn_t alloc_domain_frames(struct domain *d, unsigned order, unsigned node) { abort(); }
void m2p_write(mfn_t m, uint64_t n) { abort(); }
void domain_crash(struct domain *d, const char *fmt, ...) { abort(); }
void tlb_flush_local(void) {}
void tlb_flush_mask(const cpumask_t *mask) {}
void tlb_flush_since_slow(const cpumask_t *mask, uint64_t stamp) {}

/* ---- What the audit asks ---- */

struct domain *domain_owner_of_frame(domid_t id) { return id == 1 ? &d1 : id == 2 ? &d2 : NULL; }
struct domain *domain_next(struct domain *prev) { return !prev ? &d1 : prev == &d1 ? &d2 : NULL; }
void domain_pause(struct domain *d) { d->pause_count++; }
void domain_unpause(struct domain *d) { d->pause_count--; }
void mmu_each_held(const struct mmu_held *held, void (*fn)(void *arg, mfn_t m), void *arg) {}
void grant_each_mapping(const struct domain *d, void (*fn)(void *arg, mfn_t m, bool writable), void *arg) {}
bool grant_counts_agree(const struct domain *d, const struct domain *by, uint64_t *pins, uint64_t *mappings)
{
    return true;
}
bool m2p_holds(mfn_t m) { return false; }

static char last_error[200];
void log_print(enum log_level level, const char *fmt, ...)
{
    va_list ap;

    if (level != LOG_ERROR)
        return;
    va_start(ap, fmt);
    vsnprintf(last_error, sizeof(last_error), fmt, ap);
    va_end(ap);
}
void panic(const char *fmt, ...)
{
    fputs(fmt, stderr);
    abort();
}

static bool (*preempt)(void);
bool hypercall_preempt_check(void) { return preempt && preempt(); }
static bool always(void) { return true; }

/* ---- Start and end ---- */

static void own(uint64_t first, uint64_t count, domid_t owner)
{
    for (uint64_t m = first; m < first + count; m++)
        frames[m] = (struct frame){.control = owner == DOMID_FREE ? (uint64_t)owner << 32
                                                                  : 1 | (uint64_t)owner << 32 | FRAME_ALLOCATED};
}

static int setup(void **state)
{
    memset(&d1, 0, sizeof(d1));
    memset(&d2, 0, sizeof(d2));
    memset(&hvm1, 0, sizeof(hvm1));
    memset(in_tlb, 0, sizeof(in_tlb));
    d1.id = 1;
    d2.id = 2;
    d1.hvm = &hvm1;
    idle_vcpu.domain = &idle;
    cpu.current_vcpu = &idle_vcpu;
    list_init(&domain_list);
    list_add_tail(&domain_list, &d1.list);
    list_add_tail(&domain_list, &d2.list);
    own(0, SMALL_FRAMES, 1);
    own(FREE_BLOCK, BLOCK, DOMID_FREE);
    own(OF_2, BLOCK, 2);
    max_frame = SMALL_FRAMES;
    big = false;
    cpu_features.gbpages = true;
    p2m_set_format(false, true);
    pages_left = ~0U;
    preempt = NULL;
    calls = freed = 0;
    follow = true;
    assert_int_equal(p2m_init(&d1), 0);
    return 0;
}

static int setup_big(void **state)
{
    setup(state);
    big = true;
    own(BIG, GIB, 1);
    max_frame = 2 * GIB;
    return 0;
}

/* Everything comes back. */
static int teardown(void **state)
{
    preempt = NULL;
    pages_left = ~0U;
    d1.dying = true;
    assert_true(p2m_release(&d1));
    for (uint64_t m = 0; m < max_frame; m++)
        if (mfn_valid(MFN(m)) && frame_owner(&frames[m]) == 1) {
            assert_int_equal(FRAME_REFS(frames[m].control), 1);
            assert_int_equal(TYPE_COUNT(frames[m].type), 0);
        }
    assert_int_equal(p->table_pages, live_pages);
    p2m_destroy(&d1);
    assert_int_equal(p->table_pages, 0);
    assert_int_equal(live_pages, 0);
    return 0;
}

/* ---- The processor's view ---- */

static uint64_t *find(uint64_t gfn, unsigned *level)
{
    const uint64_t table_bits = PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_ACCESSED;
    uint64_t *table = p->root, *e;

    for (*level = 4;; --*level) {
        e = &table[gfn >> (*level - 1) * 9 & 511];
        if (!(*e & PTE_PRESENT)) {
            assert_true(*e == 0);
            return NULL;
        }
        if (*level == 1 || (*e & PTE_PSE)) {
            assert_true(*level <= 2 || (*level == 3 && cpu_features.gbpages));
            assert_true((*e & ~PTE_ADDR) == (table_bits | PTE_DIRTY | (*level > 1 ? PTE_PSE : 0)));
            return e;
        }
        assert_true((*e & ~PTE_ADDR) == table_bits);
        table = mfn_to_virt(pte_mfn(*e));
    }
}
static uint64_t walk(uint64_t gfn)
{
    unsigned level;
    const uint64_t *e = find(gfn, &level);
    uint64_t inside = (1UL << (level - 1) * 9) - 1;

    if (!e)
        return NOWHERE;
    assert_int_equal(pte_mfn(*e).n & inside, 0);
    return pte_mfn(*e).n + (gfn & inside);
}
static unsigned level_of(uint64_t gfn)
{
    unsigned level;

    return find(gfn, &level) ? level : 0;
}

static uint64_t lookup(uint64_t gfn)
{
    uint64_t m = p2m_lookup(&d1, (gfn_t){gfn}).n;

    if (gfn <= P2M_MAX_GFN)
        assert_int_equal(m, walk(gfn));
    return m;
}
static int add(uint64_t gfn, uint64_t m, unsigned order)
{
    int rc;

    load_tlb();
    rc = p2m_add(&d1, (gfn_t){gfn}, MFN(m), order);
    assert_false(spin_is_locked(&p->lock));
    return rc;
}
static uint64_t take(uint64_t gfn, int *error)
{
    uint64_t m;

    load_tlb();
    *error = 1;
    m = p2m_remove(&d1, (gfn_t){gfn}, error).n;
    assert_false(spin_is_locked(&p->lock));
    return m;
}
/* Removes it and gives the reference back. */
static uint64_t drop(uint64_t gfn)
{
    int error;
    uint64_t m = take(gfn, &error);

    assert_int_equal(error, 0);
    if (m != NOWHERE)
        frame_put_writable(MFN(m));
    return m;
}
static unsigned refs(uint64_t m) { return FRAME_REFS(frames[m].control); }
static void check_refs(uint64_t first, uint64_t count, unsigned n)
{
    for (uint64_t m = first; m < first + count; m++) {
        assert_int_equal(refs(m), n + 1);
        assert_int_equal(TYPE_COUNT(frames[m].type), n);
    }
}
static void check_mapped(uint64_t gfn, uint64_t m, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        assert_int_equal(lookup(gfn + i), m + i);
}
static unsigned audit(void)
{
    unsigned n = frame_audit();

    assert_false(spin_is_locked(&p->lock) || spin_is_locked(&d1.mm_lock) || spin_is_locked(&d2.mm_lock));
    return n;
}

/* ---- Each order ---- */

static void nothing_is_mapped_at_first(void **state)
{
    int error;

    assert_int_equal(p->table_pages, 1);
    assert_int_equal(lookup(0), NOWHERE);
    assert_int_equal(lookup(P2M_MAX_GFN), NOWHERE);
    assert_int_equal(lookup(P2M_MAX_GFN + 1), NOWHERE);
    assert_int_equal(lookup(~0UL), NOWHERE);
    assert_int_equal(p2m_next(&d1, 0, P2M_MAX_GFN + 2), P2M_MAX_GFN + 2);
    assert_int_equal(p2m_next(&d1, ~0UL - 1, ~0UL), ~0UL);
    assert_int_equal(p2m_next(&d1, 5, 5), 5);
    assert_int_equal(take(0, &error), NOWHERE);
    assert_int_equal(error, 0);
    assert_int_equal(take(P2M_MAX_GFN + 1, &error), NOWHERE);
    assert_int_equal(error, 0);
    assert_int_equal(p->table_pages, 1); /* none was made to find nothing */
    assert_int_equal(p->flushes, 0);
}

static void one_frame(void **state)
{
    int error;

    assert_int_equal(add(0x12345, 700, 0), 0);
    assert_int_equal(lookup(0x12345), 700);
    assert_int_equal(lookup(0x12346), NOWHERE);
    assert_int_equal(p->table_pages, 4);
    assert_int_equal(p->max_gfn, 0x12345);
    assert_int_equal(p->flushes, 0); /* there was nothing to forget */
    check_refs(700, 1, 1);
    assert_int_equal(add(P2M_MAX_GFN, 700, 0), 0); /* the same once more */
    check_refs(700, 1, 2);
    assert_int_equal(p->max_gfn, P2M_MAX_GFN);
    assert_int_equal(drop(P2M_MAX_GFN), 700);
    assert_int_equal(take(0x12345, &error), 700);
    assert_int_equal(p->flushes, 2);
    check_refs(700, 1, 1); /* the remover's */
    frame_put_writable(MFN(700));
    assert_int_equal(take(0x12345, &error), NOWHERE);
    assert_int_equal(p->flushes, 2);
    assert_int_equal(p->table_pages, 7); /* they stay */
    assert_int_equal(p->max_gfn, P2M_MAX_GFN);
    assert_int_equal(audit(), 0);
}

static void two_mebibytes(void **state)
{
    assert_int_equal(add(3 * BLOCK, 5 * BLOCK, 9), 0);
    assert_int_equal(level_of(3 * BLOCK), 2);
    assert_int_equal(p->table_pages, 3);
    check_mapped(3 * BLOCK, 5 * BLOCK, BLOCK);
    check_refs(5 * BLOCK, BLOCK, 1);
    assert_int_equal(lookup(3 * BLOCK - 1), NOWHERE);
    assert_int_equal(lookup(4 * BLOCK), NOWHERE);
    assert_int_equal(p->max_gfn, 4 * BLOCK - 1);
    assert_int_equal(audit(), 0);
    /* One goes: the others stay where they are. */
    assert_int_equal(drop(3 * BLOCK + 17), 5 * BLOCK + 17);
    assert_int_equal(p->table_pages, 4);
    assert_int_equal(p->flushes, 1);
    check_mapped(3 * BLOCK, 5 * BLOCK, 17);
    assert_int_equal(lookup(3 * BLOCK + 17), NOWHERE);
    check_mapped(3 * BLOCK + 18, 5 * BLOCK + 18, BLOCK - 18);
    check_refs(5 * BLOCK, 17, 1);
    check_refs(5 * BLOCK + 17, 1, 0);
    check_refs(5 * BLOCK + 18, BLOCK - 18, 1);
    assert_int_equal(audit(), 0);
}

static void one_gibibyte(void **state)
{
    assert_int_equal(add(7 * GIB, BIG, 18), 0);
    assert_int_equal(level_of(7 * GIB), 3);
    assert_int_equal(p->table_pages, 2);
    check_mapped(7 * GIB, BIG, GIB);
    check_refs(BIG, GIB, 1);
    assert_int_equal(drop(7 * GIB + 9 * BLOCK + 3), BIG + 9 * BLOCK + 3);
    assert_int_equal(p->table_pages, 4);
    assert_int_equal(level_of(7 * GIB), 2);
    assert_int_equal(level_of(7 * GIB + 9 * BLOCK), 1);
    check_mapped(7 * GIB, BIG, 9 * BLOCK + 3);
    assert_int_equal(lookup(7 * GIB + 9 * BLOCK + 3), NOWHERE);
    check_mapped(7 * GIB + 9 * BLOCK + 4, BIG + 9 * BLOCK + 4, GIB - 9 * BLOCK - 4);
    check_refs(BIG, 9 * BLOCK + 3, 1);
    check_refs(BIG + 9 * BLOCK + 3, 1, 0);
    check_refs(BIG + 9 * BLOCK + 4, GIB - 9 * BLOCK - 4, 1);
    assert_int_equal(audit(), 0);
    /* Again whole, but in small pages where the tables are */
    assert_int_equal(add(7 * GIB, BIG, 18), 0);
    check_mapped(7 * GIB, BIG, GIB);
    check_refs(BIG, GIB, 1);
    assert_int_equal(p->table_pages, 4);
    assert_int_equal(live_pages, 4);
    assert_int_equal(audit(), 0);
}

static void a_gibibyte_without_such_pages(void **state)
{
    cpu_features.gbpages = false;
    p2m_set_format(false, false);
    assert_int_equal(add(GIB, BIG, 18), 0);
    assert_int_equal(level_of(GIB), 2);
    assert_int_equal(p->table_pages, 3);
    check_mapped(GIB, BIG, GIB);
    check_refs(BIG, GIB, 1);
    assert_int_equal(p->flushes, 0);
    assert_int_equal(add(GIB, BIG, 18), 0); /* itself in its own place */
    check_refs(BIG, GIB, 1);
    assert_int_equal(drop(2 * GIB - 1), BIG + GIB - 1);
    check_mapped(GIB, BIG, GIB - 1);
    assert_int_equal(live_pages, p->table_pages);
}

/* ---- Replacing: what was there is free only when it is forgotten (alloc_free_domain_frame looks) ---- */

static void release_owned(uint64_t first, uint64_t count)
{
    for (uint64_t m = first; m < first + count; m++)
        assert_true(frame_release(MFN(m), &d1));
}

static void small_by_small(void **state)
{
    assert_int_equal(add(10, 600, 0), 0);
    release_owned(600, 1);
    assert_int_equal(freed, 0);
    assert_int_equal(add(10, 601, 0), 0);
    assert_int_equal(p->flushes, 1);
    assert_int_equal(freed, 1);
    assert_int_equal(lookup(10), 601);
}

static void small_in_large(void **state)
{
    assert_int_equal(add(BLOCK, 2 * BLOCK, 9), 0);
    release_owned(2 * BLOCK, BLOCK);
    assert_int_equal(add(BLOCK + 5, 601, 0), 0);
    assert_int_equal(p->flushes, 1);
    assert_int_equal(freed, 1);
    check_mapped(BLOCK, 2 * BLOCK, 5);
    assert_int_equal(lookup(BLOCK + 5), 601);
    check_mapped(BLOCK + 6, 2 * BLOCK + 6, BLOCK - 6);
}

static void large_by_large(void **state)
{
    assert_int_equal(add(BLOCK, 2 * BLOCK, 9), 0);
    release_owned(2 * BLOCK, BLOCK);
    assert_int_equal(add(BLOCK, 3 * BLOCK, 9), 0);
    assert_int_equal(p->flushes, 1);
    assert_int_equal(freed, BLOCK);
    assert_int_equal(level_of(BLOCK), 2);
    check_mapped(BLOCK, 3 * BLOCK, BLOCK);
}

static void large_over_small(void **state)
{
    for (unsigned i = 0; i < BLOCK; i += 1 + i % 2)
        assert_int_equal(add(BLOCK + i, 3 * BLOCK - i, 0), 0);
    release_owned(2 * BLOCK + 1, BLOCK);
    assert_int_equal(add(BLOCK, 4 * BLOCK, 9), 0);
    check_mapped(BLOCK, 4 * BLOCK, BLOCK);
    check_refs(4 * BLOCK, BLOCK, 1);
    assert_int_equal(freed, BLOCK);
    assert_true(p->flushes >= 1 && p->flushes <= 2);
    assert_int_equal(p->table_pages, 4); /* the table stays */
    assert_int_equal(live_pages, 4);
}

static void moved_within_itself(void **state)
{
    assert_int_equal(add(BLOCK, 2 * BLOCK, 9), 0);
    for (unsigned i = 0; i < BLOCK; i++)
        assert_int_equal(add(BLOCK + i, 3 * BLOCK - 1 - i, 0), 0);
    check_refs(2 * BLOCK, BLOCK, 1);
    assert_int_equal(add(BLOCK, 2 * BLOCK, 9), 0);
    check_refs(2 * BLOCK, BLOCK, 1);
    check_mapped(BLOCK, 2 * BLOCK, BLOCK);
}

static void gibibyte_over_all_kinds(void **state)
{
    assert_int_equal(add(GIB + 5 * BLOCK, BLOCK, 9), 0);
    assert_int_equal(add(GIB + 6 * BLOCK + 6, 2 * BLOCK, 0), 0);
    assert_int_equal(add(GIB + 511 * BLOCK + 511, 2 * BLOCK + 1, 0), 0);
    release_owned(BLOCK, BLOCK + 2);
    assert_int_equal(add(GIB, BIG, 18), 0);
    assert_int_equal(freed, BLOCK + 2);
    assert_int_equal(p->flushes, 1);
    check_mapped(GIB, BIG, GIB);
    check_refs(BIG, GIB, 1);
    assert_int_equal(level_of(GIB), 2);
    assert_int_equal(level_of(GIB + 511 * BLOCK), 1);
    assert_int_equal(audit(), 0);
}

/* ---- Refusals ---- */

static void what_is_out_of_range(void **state)
{
    static const struct {
        uint64_t gfn, mfn;
        unsigned order;
    } bad[] = {
        {P2M_MAX_GFN + 1, 600, 0},
        {~0UL, 600, 0},
        {P2M_MAX_GFN + 1, BLOCK, 9},
        {1, BLOCK, 9},
        {BLOCK, BLOCK + 1, 9},
        {BLOCK, GIB, 18},
        {GIB, BLOCK, 18},
        {0, BLOCK, 1},
        {0, BLOCK, 8},
        {0, 0, 27},
        {0, 0, 64},
        {0, SMALL_FRAMES, 0},
        {0, SMALL_FRAMES, 9},
        {0, ~0UL, 0},
        {0, ~0UL << 9, 9},
        {0, ~0UL << 18, 18},
        {0, 1UL << 52, 0},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(add(bad[i].gfn, bad[i].mfn, bad[i].order), -EINVAL);
    check_refs(BLOCK, OF_2 - BLOCK, 0);
    assert_int_equal(p->table_pages, 1);
    assert_int_equal(p->max_gfn, 0);
}

static void frames_that_are_not_its_own(void **state)
{
    assert_int_equal(add(10, 600, 0), 0);
    assert_int_equal(add(BLOCK, 3 * BLOCK, 9), 0);
    frames[700].type = TYPE_MAKE(FRAME_L1) | TYPE_VALIDATED | 1; /* a table in use */
    frames[700].control++;
    frames[701].control |= FRAME_SHARED_RO;
    assert_int_equal(add(10, OF_2, 0), -EINVAL);
    assert_int_equal(add(10, FREE_BLOCK + 1, 0), -EINVAL);
    assert_int_equal(add(10, 700, 0), -EINVAL);
    assert_int_equal(add(10, 701, 0), -EINVAL);
    assert_int_equal(add(BLOCK, OF_2, 9), -EINVAL);
    assert_int_equal(add(BLOCK, BLOCK, 9), -EINVAL); /* two in the middle of it */
    assert_int_equal(lookup(10), 600);
    check_mapped(BLOCK, 3 * BLOCK, BLOCK);
    assert_int_equal(level_of(BLOCK), 2);
    assert_int_equal(refs(700), 2);
    assert_int_equal(refs(701), 1);
    frames[700].type = 0;
    frames[700].control--;
    check_refs(BLOCK, 600 - BLOCK, 0);
    check_refs(602, 2 * BLOCK - 602, 0);
    check_refs(600, 1, 1);
    frames[701].control &= ~FRAME_SHARED_RO;
    /* The last of a block is someone else's. */
    own(2 * BLOCK - 1, 1, 2);
    assert_int_equal(add(BLOCK, BLOCK, 9), -EINVAL);
    check_refs(BLOCK, 600 - BLOCK, 0);
    assert_int_equal(p->flushes, 0);
}

static void a_dying_domain(void **state)
{
    assert_int_equal(add(10, 600, 0), 0);
    d1.dying = true;
    assert_int_equal(add(10, 601, 0), -EINVAL);
    assert_int_equal(add(BLOCK, BLOCK, 9), -EINVAL);
    check_refs(BLOCK, 600 - BLOCK, 0);
    assert_int_equal(lookup(10), 600);
    assert_int_equal(drop(10), 600); /* that goes on */
}

/* ---- No memory: at each allocation in turn ---- */

static uint64_t translations(uint64_t first, uint64_t count)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++)
        sum = sum * 31 + lookup(first + i);
    return sum;
}

/* How many pages an addition needs; nothing changes before it has them. */
static unsigned pages_for(uint64_t gfn, uint64_t m, unsigned order)
{
    uint64_t base = gfn & ~(BLOCK - 1), before = translations(base, BLOCK), max_gfn = p->max_gfn, flushes = p->flushes;
    unsigned n = refs(m), count = TYPE_COUNT(frames[m].type);

    for (unsigned needed = 0;; needed++) {
        int rc;

        pages_left = needed;
        rc = add(gfn, m, order);
        pages_left = ~0U;
        if (!rc)
            return needed;
        assert_int_equal(rc, -ENOMEM);
        assert_true(translations(base, BLOCK) == before);
        assert_int_equal(refs(m), n);
        assert_int_equal(TYPE_COUNT(frames[m].type), count);
        assert_int_equal(p->max_gfn, max_gfn);
        assert_int_equal(p->flushes, flushes);
        assert_int_equal(live_pages, p->table_pages);
        assert_int_equal(audit(), 0);
        assert_true(needed < 8);
    }
}

static void adding_without_memory(void **state)
{
    /* What a failed call has made is there for the next: one more each time is enough. */
    assert_in_range(pages_for(0x12345, 700, 0), 1, 3);
    assert_int_equal(pages_for(0x12346, 701, 0), 0);
    assert_in_range(pages_for(5 * GIB, BLOCK, 9), 1, 2);
    assert_int_equal(pages_for(5 * GIB + 3, 701, 0), 1);   /* a table for the split */
    assert_int_equal(pages_for(5 * GIB, 2 * BLOCK, 9), 1); /* the list of old ones */
    assert_int_equal(live_pages, p->table_pages);
}

static void removing_without_memory(void **state)
{
    int error;
    uint64_t gfn = 3 * GIB + 77 * BLOCK + 7, m = BIG + 77 * BLOCK + 7;

    assert_int_equal(add(3 * GIB, BIG, 18), 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(level_of(gfn), 3);
        pages_left = i; /* enough for the first of two tables, which stays */
        assert_int_equal(take(gfn, &error), NOWHERE);
        assert_int_equal(error, -ENOMEM);
        check_mapped(3 * GIB, BIG, GIB);
        check_refs(BIG, GIB, 1);
        assert_int_equal(p->flushes, 0);
    }
    assert_int_equal(level_of(gfn), 2);
    pages_left = 1;
    assert_int_equal(take(gfn, &error), m);
    assert_int_equal(error, 0);
    frame_put_writable(MFN(m));
    check_refs(m, 1, 0);
    assert_int_equal(lookup(gfn), NOWHERE);
}

static void no_memory_for_the_root(void **state)
{
    struct hvm_domain none = {0};
    struct domain d = {.hvm = &none};

    pages_left = 0;
    assert_int_equal(p2m_init(&d), -ENOMEM);
    d.dying = true;
    assert_true(p2m_release(&d));
    p2m_each(&d, mark, NULL);
    p2m_destroy(&d);
    pages_left = ~0U;
}

/* ---- The end ---- */

static unsigned release_all(void)
{
    unsigned n = 1;

    for (d1.dying = true; !p2m_release(&d1); n++) {
        assert_false(spin_is_locked(&p->lock));
        assert_true(n < 20000);
    }
    assert_true(p2m_release(&d1));
    return n;
}

static void release_in_pieces(void **state)
{
    unsigned tables;

    assert_int_equal(add(BLOCK, BLOCK, 9), 0);
    for (unsigned i = 0; i < BLOCK; i++)
        assert_int_equal(add(2 * BLOCK + i, 4 * BLOCK - i, 0), 0);
    assert_int_equal(add(7 * GIB, 700, 0), 0);
    assert_int_equal(add(P2M_MAX_GFN, 700, 0), 0);
    release_owned(BLOCK, 4 * BLOCK - BLOCK);
    tables = p->table_pages;
    preempt = always;
    d1.dying = true;
    assert_false(p2m_release(&d1));
    assert_int_equal(audit(), 0); /* in the middle of a large page */
    assert_in_range(release_all(), 2 * BLOCK / 32, 3 * BLOCK / 32 + 2);
    assert_int_equal(freed, 3 * BLOCK);
    assert_int_equal(p->table_pages, tables);
    assert_int_equal(lookup(P2M_MAX_GFN), NOWHERE);
    assert_int_equal(audit(), 0);
}

static void release_a_gibibyte(void **state)
{
    assert_int_equal(add(GIB, BIG, 18), 0);
    preempt = always;
    assert_in_range(release_all(), GIB / 32, GIB / 32 + 2);
    check_refs(BIG, GIB, 0);
}

static void release_without_interruption(void **state)
{
    assert_int_equal(add(5, 700, 0), 0);
    pages_left = 0; /* it needs none */
    assert_int_equal(release_all(), 1);
    check_refs(700, 1, 0);
}

/* ---- The audit ---- */

static void the_audit_finds_planted_errors(void **state)
{
    uint64_t *small, *large, good_small, good_large;
    unsigned level;

    assert_int_equal(add(10, 700, 0), 0);
    assert_int_equal(add(BLOCK, 3 * BLOCK, 9), 0);
    assert_int_equal(audit(), 0);
    small = find(10, &level);
    large = find(BLOCK, &level);
    good_small = *small;
    good_large = *large;
    *small = (good_small & ~PTE_ADDR) | OF_2 << PAGE_SHIFT;
    assert_int_equal(audit(), 1);
    assert_non_null(strstr(last_error, "which is not its own"));
    *small = (good_small & ~PTE_ADDR) | FREE_BLOCK << PAGE_SHIFT;
    assert_int_equal(audit(), 1);
    *small = (good_small & ~PTE_ADDR) | SMALL_FRAMES << PAGE_SHIFT;
    assert_int_equal(audit(), 1);
    *small = (good_small & ~PTE_ADDR) | 701UL << PAGE_SHIFT; /* its own, but without a reference */
    assert_true(audit() > 0);
    *small = good_small;
    *large = good_large + (1UL << PAGE_SHIFT);
    assert_int_equal(audit(), 1);
    assert_non_null(strstr(last_error, "order 9"));
    *large = (good_large & ~PTE_ADDR) | OF_2 << PAGE_SHIFT;
    assert_int_equal(audit(), 1); /* one for all of them */
    *large = good_large;
    frames[700].type--; /* a reference lost */
    assert_true(audit() > 0);
    frames[700].type++;
    frames[700].control--;
    assert_true(audit() > 0);
    frames[700].control++;
    assert_int_equal(audit(), 0);
}

/* ---- Several at once ---- */

#define THREADS 4
static unsigned got[BLOCK], wrong;
static unsigned go, removed; /* no bools: the sanitizer for them would read a volatile one just once */

static void *remover(void *unused)
{
    int error;

    while (!READ_ONCE(go))
        ;
    for (uint64_t i = 0; i < BLOCK; i++) {
        mfn_t m = p2m_remove(&d1, (gfn_t){BLOCK + i}, &error);

        if (mfn_eq(m, INVALID_MFN))
            continue;
        if (m.n != 3 * BLOCK + i)
            __atomic_add_fetch(&wrong, 1, __ATOMIC_SEQ_CST);
        __atomic_add_fetch(&got[i], 1, __ATOMIC_SEQ_CST);
        frame_put_writable(m);
    }
    return NULL;
}
static void *looker(void *unused)
{
    while (!READ_ONCE(removed))
        for (uint64_t i = 0; i < BLOCK; i++) {
            uint64_t m = p2m_lookup(&d1, (gfn_t){BLOCK + i}).n;

            if (m != NOWHERE && m != 3 * BLOCK + i)
                __atomic_add_fetch(&wrong, 1, __ATOMIC_SEQ_CST);
        }
    return NULL;
}

static void one_of_several_removers_gets_it(void **state)
{
    pthread_t threads[THREADS], reader;

    follow = false;
    for (unsigned round = 0; round < 20; round++) {
        assert_int_equal(add(BLOCK, 3 * BLOCK, 9), 0);
        memset(got, 0, sizeof(got));
        go = removed = 0;
        pthread_create(&reader, NULL, looker, NULL);
        for (unsigned i = 0; i < THREADS; i++)
            pthread_create(&threads[i], NULL, remover, NULL);
        WRITE_ONCE(go, 1);
        for (unsigned i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        WRITE_ONCE(removed, 1);
        pthread_join(reader, NULL);
        for (unsigned i = 0; i < BLOCK; i++)
            assert_int_equal(got[i], 1);
        assert_int_equal(wrong, 0);
        check_refs(3 * BLOCK, BLOCK, 0);
    }
}

/* ---- Random sequences ---- */

static uint64_t random_state;
static unsigned pick(unsigned n)
{
    random_state = random_state * 6364136223846793005UL + 1442695040888963407UL;
    return (unsigned)((random_state >> 33) % n);
}

#define SPAN (4 * BLOCK)
#define BASE (GIB - SPAN / 2) /* on both sides of a table's border */
static uint64_t model[SPAN];

static bool may_map(uint64_t m) { return m < SMALL_FRAMES && frame_owner(&frames[m]) == 1; }

static void check_model(void)
{
    static unsigned mapped[SMALL_FRAMES];
    uint64_t next = BASE + SPAN;

    memset(mapped, 0, sizeof(mapped));
    for (unsigned i = SPAN; i--;) {
        next = model[i] == NOWHERE ? next : BASE + i;
        assert_int_equal(p2m_next(&d1, BASE + i, BASE + SPAN), next);
    }
    for (unsigned i = 0; i < SPAN; i++) {
        assert_int_equal(lookup(BASE + i), model[i]);
        if (model[i] != NOWHERE)
            mapped[model[i]]++;
    }
    for (unsigned m = 0; m < SMALL_FRAMES; m++) {
        bool allocated = frames[m].control & FRAME_ALLOCATED;

        assert_int_equal(refs(m), mapped[m] + allocated);
        if (frame_owner(&frames[m]) == 1)
            assert_int_equal(TYPE_COUNT(frames[m].type), mapped[m]);
        assert_true(refs(m) ? frame_owner(&frames[m]) != DOMID_FREE : frame_owner(&frames[m]) == DOMID_FREE);
    }
    assert_int_equal(live_pages, p->table_pages);
}

static void random_add(void)
{
    unsigned order = pick(4) ? 0 : 9;
    uint64_t count = 1UL << order, i = pick(SPAN) & ~(count - 1), m = pick(SMALL_FRAMES) & ~(count - 1);
    bool allowed = true;
    int rc;

    for (uint64_t j = 0; j < count; j++)
        allowed = allowed && may_map(m + j);
    pages_left = pick(4) ? ~0U : pick(3);
    rc = add(BASE + i, m, order);
    if (rc != -ENOMEM || !allowed || pages_left)
        assert_int_equal(rc, allowed ? 0 : -EINVAL);
    pages_left = ~0U;
    for (uint64_t j = 0; !rc && j < count; j++)
        model[i + j] = m + j;
}

static void random_remove(void)
{
    unsigned i = pick(SPAN);
    bool elsewhere;
    uint64_t m;
    int error;

    pages_left = pick(8) ? ~0U : 0;
    m = take(BASE + i, &error);
    if (error == -ENOMEM && !pages_left)
        assert_int_equal(m, NOWHERE);
    else
        assert_true(!error && m == model[i]);
    pages_left = ~0U;
    if (error || m == NOWHERE)
        return;
    model[i] = NOWHERE;
    elsewhere = false;
    for (unsigned j = 0; j < SPAN; j++)
        elsewhere = elsewhere || model[j] == m;
    assert_true(elsewhere == in_tlb[m]); /* the CPUs may know it from there */
    frame_put_writable(MFN(m));
}

static void random_sequences(void **state)
{
    for (random_state = 1; random_state < 6; random_state++) {
        uint64_t seed = random_state;

        if (seed > 1)
            setup(NULL);
        for (unsigned i = 0; i < SPAN; i++)
            model[i] = NOWHERE;
        for (unsigned n = 0; n < 800; n++) {
            uint64_t m = pick(SMALL_FRAMES);

            switch (pick(8)) {
            case 0: /* the owner gives one back: it lives on where it is mapped */
                if (may_map(m) && (frames[m].control & FRAME_ALLOCATED) && pick(2))
                    assert_true(frame_release(MFN(m), &d1));
                break;
            case 1:
                own(m, frame_owner(&frames[m]) == DOMID_FREE, 1); /* and gets it anew */
                break;
            case 2:
            case 3:
            case 4:
                random_remove();
                break;
            default:
                random_add();
            }
            check_model();
            if (n % 100 == 0)
                assert_int_equal(audit(), 0);
        }
        teardown(NULL);
        random_state = seed;
    }
    setup(NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define TEST_BIG(f) cmocka_unit_test_setup_teardown(f, setup_big, teardown)
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(nothing_is_mapped_at_first),
        TEST(one_frame),
        TEST(two_mebibytes),
        TEST_BIG(one_gibibyte),
        TEST_BIG(a_gibibyte_without_such_pages),
        TEST(small_by_small),
        TEST(small_in_large),
        TEST(large_by_large),
        TEST(large_over_small),
        TEST(moved_within_itself),
        TEST_BIG(gibibyte_over_all_kinds),
        TEST(what_is_out_of_range),
        TEST(frames_that_are_not_its_own),
        TEST(a_dying_domain),
        TEST(adding_without_memory),
        TEST_BIG(removing_without_memory),
        TEST(no_memory_for_the_root),
        TEST(release_in_pieces),
        TEST_BIG(release_a_gibibyte),
        TEST(release_without_interruption),
        TEST(the_audit_finds_planted_errors),
        TEST(one_of_several_removers_gets_it),
        TEST(random_sequences),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
