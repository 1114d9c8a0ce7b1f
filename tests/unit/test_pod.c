/* sources: hypervisor/hvm/pod.c hypervisor/hvm/p2m.c hypervisor/memory/frame.c hypervisor/memory/audit.c hypervisor/hypercall/memory.c hypervisor/hypercall/memory_physmap.c */
/*
 * Populate on demand with the real tables and frames, on 64 MiB: domain 1 is built by the calls that libxc makes, uses its
 * memory as a guest does, and balloons. What it wrote it finds again, what it has not written is zero; whatever is done, its pages add up;
 * nothing is left when it ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "fake_boot.h"

#include "boot/boot.h"
#include "cpu/cpu.h"
#include "cpu/smp.h"
#include "cpu/tlb.h"
#include "domain/domain.h"
#include "hvm/hvm.h"
#include "hypercall/dispatch.h"
#include "hypercall/memory.h"
#include "memory/alloc.h"
#include "memory/map.h"
#include "pv/mmu_types.h"

#define FRAMES 0x4000UL
#define BLOCK 512UL
#define MAXMEM (8 * BLOCK) /* of domain 1, in pages: 16 MiB */
#define MEMORY (3 * BLOCK) /* ... and what it has */
#define FUDGE 256UL        /* tools allow it some more */
#define NOWHERE INVALID_MFN.n

static struct frame frames[FRAMES];
static uint64_t m2p[FRAMES];
static char *memory; /* of the machine */
static struct domain d0, d1;
static struct vcpu v0, v1;
static struct hvm_domain hvm1;
static struct percpu cpu;
static struct pod *const pod = &hvm1.p2m.pod;

struct list domain_list;
spinlock_t domain_list_lock, domain_work_lock;
struct cpu_features cpu_features;
cpumask_t cpu_online;
volatile uint64_t tlb_clock = 1;
uint64_t host_l4[512];
struct boot_info boot_info;

struct percpu *this_cpu(void) { return &cpu; }
bool mfn_valid(mfn_t m) { return m.n < FRAMES; }
struct frame *frame_of(mfn_t m)
{
    assert_true(mfn_valid(m));
    return &frames[m.n];
}
mfn_t mfn_of(const struct frame *f) { return MFN((uint64_t)(f - frames)); }
void *mfn_to_virt(mfn_t m) { return memory + (m.n << PAGE_SHIFT); }
maddr_t virt_to_maddr(const void *v) { return MADDR((uint64_t)((const char *)v - memory)); }
mfn_t virt_to_mfn(const void *v) { return maddr_to_mfn(virt_to_maddr(v)); }
uint64_t m2p_read(mfn_t m) { return m2p[m.n]; }
void m2p_write(mfn_t m, uint64_t n) { m2p[m.n] = n; }

/* ---- Flushes: a test may do something meanwhile, as another CPU would ---- */

static void (*meanwhile)(void);
static unsigned flushes, tlb_flushes;
void smp_call(const cpumask_t *mask, void (*fn)(void *), void *arg)
{
    void (*what)(void) = meanwhile;

    __atomic_add_fetch(&flushes, 1, __ATOMIC_SEQ_CST);
    meanwhile = NULL;
    if (what)
        what();
}
void tlb_flush_local(void) {}
void tlb_flush_mask(const cpumask_t *mask) { tlb_flushes++; }
void tlb_flush_since_slow(const cpumask_t *mask, uint64_t stamp) {}

/* ---- The allocator: the first run that is free; what it gives is zero ---- */

static pthread_mutex_t alloc_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned pages_left = ~0U; /* allocations until they fail */
static uint64_t first_free;

static mfn_t take_run(domid_t owner, uint64_t flags, unsigned order)
{
    uint64_t count = 1UL << order, m = INVALID_MFN.n;

    pthread_mutex_lock(&alloc_lock);
    if (pages_left) {
        pages_left -= pages_left != ~0U;
        while (first_free < FRAMES && FRAME_REFS(frames[first_free].control))
            first_free++;
        for (m = ROUND_UP(first_free, count); m < FRAMES; m += count) {
            uint64_t i = 0;

            while (i < count && !FRAME_REFS(frames[m + i].control))
                i++;
            if (i == count)
                break;
        }
        assert_true(m < FRAMES);
        memset(mfn_to_virt(MFN(m)), 0, count << PAGE_SHIFT);
        for (uint64_t i = 0; i < count; i++)
            frames[m + i] = (struct frame){.control = 1 | (uint64_t)owner << 32 | flags};
    }
    pthread_mutex_unlock(&alloc_lock);
    return MFN(m);
}
static void free_one(uint64_t m)
{
    pthread_mutex_lock(&alloc_lock);
    memset(mfn_to_virt(MFN(m)), 0xcc, PAGE_SIZE);
    frames[m].control = (uint64_t)DOMID_FREE << 32;
    first_free = min(first_free, m);
    pthread_mutex_unlock(&alloc_lock);
}
void *alloc_pages(unsigned order)
{
    mfn_t m = take_run(DOMID_CROFT, 0, order);

    return mfn_eq(m, INVALID_MFN) ? NULL : mfn_to_virt(m);
}
void free_pages(void *page, unsigned order)
{
    assert_int_equal(order, 0);
    if (page)
        free_one(virt_to_mfn(page).n);
}
mfn_t alloc_domain_frames(struct domain *d, unsigned order, unsigned node)
{
    mfn_t m;

    assert_ptr_equal(d, &d1);
    if (d->dying || d->tot_pages + (1UL << order) > d->max_pages)
        return INVALID_MFN;
    m = take_run(d->id, FRAME_ALLOCATED, order);
    if (!mfn_eq(m, INVALID_MFN))
        __atomic_fetch_add(&d->tot_pages, 1UL << order, __ATOMIC_SEQ_CST);
    return m;
}
mfn_t alloc_domain_frames_numbered(struct domain *d, unsigned order, unsigned node, unsigned bits, uint64_t gpfn)
{
    mfn_t m = alloc_domain_frames(d, order, node);

    assert_int_equal(bits, 0);
    for (unsigned i = 0; !mfn_eq(m, INVALID_MFN) && i < 1U << order; i++)
        m2p_write(mfn_add(m, i), gpfn + i);
    return m;
}
void alloc_free_domain_frame(mfn_t m, struct domain *owner)
{
    assert_ptr_equal(owner, &d1);
    __atomic_fetch_sub(&owner->tot_pages, 1, __ATOMIC_SEQ_CST);
    m2p[m.n] = M2P_INVALID;
    free_one(m.n);
}
void alloc_adopt_frame(mfn_t m, struct domain *d) { abort(); }
uint64_t alloc_free_count(void)
{
    uint64_t n = 0;

    for (uint64_t m = 0; m < FRAMES; m++)
        n += !FRAME_REFS(frames[m].control);
    return n;
}
void *heap_alloc(size_t size) { return calloc(1, size); }
void heap_free(void *p) { free(p); }

/* ---- The rest of Croft ---- */

struct domain *domain_owner_of_frame(domid_t id) { return id == 1 ? &d1 : id ? NULL : &d0; }
struct domain *domain_next(struct domain *prev) { return !prev ? &d0 : prev == &d0 ? &d1 : NULL; }
void domain_pause(struct domain *d) { d->pause_count++; }
void domain_unpause(struct domain *d) { d->pause_count--; }
void domain_put(struct domain *d) { d->refs--; }
struct domain *domain_get_by_id(domid_t id)
{
    struct domain *d = id == DOMID_SELF ? current->domain : id == 1 ? &d1 : id ? NULL : &d0;

    if (d)
        d->refs++;
    return d;
}
static char crash_text[300];
void domain_crash(struct domain *d, const char *fmt, ...)
{
    va_list ap;

    assert_ptr_equal(d, &d1);
    if (d->crashed)
        return;
    d->crashed = true;
    va_start(ap, fmt);
    vsnprintf(crash_text, sizeof(crash_text), fmt, ap);
    va_end(ap);
}
void mmu_each_held(const struct mmu_held *held, void (*fn)(void *arg, mfn_t m), void *arg) {}
void grant_each_mapping(const struct domain *d, void (*fn)(void *arg, mfn_t m, bool writable), void *arg) {}
bool grant_counts_agree(const struct domain *d, const struct domain *by, uint64_t *pins, uint64_t *mappings)
{
    return true;
}
int grant_acquire_frame(struct domain *d, bool status, unsigned long index, mfn_t *m) { return -EINVAL; }
long memory_exchange(void *guest) { abort(); }
long memory_set_map(uint64_t arg) { abort(); }
long memory_get_map(uint64_t arg) { abort(); }
long memory_claim_pages(uint64_t arg) { abort(); }
long memory_acquire_resource(uint64_t arg) { abort(); }

static unsigned preempted; /* so many times more the answer is yes */
bool hypercall_preempt_check(void) { return preempted && preempted--; }
static uint64_t continued[2];
#define CONTINUED 12345
long hypercall_continue(uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
    continued[0] = a1;
    continued[1] = a2;
    return CONTINUED;
}
size_t copy_from_guest(void *to, const void *guest, size_t n) { return guest ? memcpy(to, guest, n), 0 : n; }
size_t copy_to_guest(void *guest, const void *from, size_t n) { return guest ? memcpy(guest, from, n), 0 : n; }

/* ---- Start and end ---- */

static uint64_t free_at_start;

static int setup(void **state)
{
    memset(&d0, 0, sizeof(d0));
    memset(&d1, 0, sizeof(d1));
    memset(&hvm1, 0, sizeof(hvm1));
    d0.is_privileged = true;
    d0.max_pages = FRAMES;
    d1.id = 1;
    d1.hvm = &hvm1;
    d1.node = NODE_ANY;
    d1.max_pages = MEMORY + FUDGE;
    v0.domain = &d0;
    v1.domain = &d1;
    cpu.current_vcpu = &v0;
    list_init(&domain_list);
    list_add_tail(&domain_list, &d0.list);
    list_add_tail(&domain_list, &d1.list);
    pages_left = ~0U;
    preempted = 0;
    meanwhile = NULL;
    flushes = tlb_flushes = 0;
    crash_text[0] = 0;
    fake_log_clear();
    if (!memory) {
        memory = mmap(NULL, FRAMES << PAGE_SHIFT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        max_frame = FRAMES;
        for (unsigned i = 0; i < FRAMES; i++) {
            frames[i].control = i ? (uint64_t)DOMID_FREE << 32 : 1 | (uint64_t)DOMID_CROFT << 32;
            m2p[i] = M2P_INVALID;
        }
    }
    free_at_start = alloc_free_count();
    assert_int_equal(p2m_init(&d1), 0);
    return 0;
}

static int teardown(void **state)
{
    preempted = 0;
    pages_left = ~0U;
    assert_false(spin_is_locked(&hvm1.p2m.lock));
    assert_int_equal(d0.refs, 0);
    d1.dying = true;
    d1.put_with_last_frame = false;
    assert_true(p2m_release(&d1));
    assert_int_equal(pod->entries, 0);
    for (uint64_t m = 0; m < FRAMES; m++)
        if (frame_owner(&frames[m]) == 1) {
            assert_int_equal(FRAME_REFS(frames[m].control), 1);
            assert_true(frame_release(MFN(m), &d1));
        }
    assert_int_equal(d1.tot_pages, 0);
    p2m_destroy(&d1);
    assert_int_equal(alloc_free_count(), free_at_start);
    return 0;
}

/* ---- What tools and guest call ---- */

static xen_pfn_t list[MAXMEM];
static long reserve(uint64_t cmd, domid_t domid, unsigned long n, unsigned order, unsigned flags)
{
    struct xen_memory_reservation r = {.nr_extents = n, .extent_order = order, .mem_flags = flags, .domid = domid};

    r.extent_start.p = list;
    return hypercall_memory_op(cmd, (uint64_t)&r, 0, 0, 0);
}
static long mark(uint64_t gfn, unsigned order)
{
    list[0] = gfn;
    return reserve(XENMEM_populate_physmap, 1, 1, order, XENMEMF_populate_on_demand);
}
static long target_call(uint64_t cmd, uint64_t pages, struct xen_pod_target *t)
{
    long rc;

    *t = (struct xen_pod_target){.target_pages = pages, .domid = 1};
    do
        rc = hypercall_memory_op(cmd, (uint64_t)t, 0, 0, 0);
    while (rc == CONTINUED && continued[0] == cmd && continued[1] == (uint64_t)t);
    return rc;
}
static long set_target(uint64_t pages)
{
    struct xen_pod_target t;

    return target_call(XENMEM_set_pod_target, pages, &t);
}
/* As XENMEM_get_pod_target tells them */
static void check_numbers(uint64_t total, uint64_t cached, uint64_t entries)
{
    struct xen_pod_target t;
    void *before = cpu.current_vcpu;

    cpu.current_vcpu = &v0;
    assert_int_equal(target_call(XENMEM_get_pod_target, 0, &t), 0);
    cpu.current_vcpu = before;
    assert_int_equal(t.tot_pages, total);
    assert_int_equal(t.pod_cache_pages, cached);
    assert_int_equal(t.pod_entries, entries);
}
static unsigned audit(void)
{
    unsigned n = frame_audit();

    assert_false(spin_is_locked(&hvm1.p2m.lock));
    return n;
}

/* As libxc does it: the target first, then all that is above it in blocks. */
static void build(uint64_t maxmem, uint64_t pages)
{
    assert_int_equal(set_target(pages), 0);
    for (unsigned i = 0; i < maxmem / BLOCK; i++)
        list[i] = i * BLOCK;
    assert_int_equal(reserve(XENMEM_populate_physmap, 1, maxmem / BLOCK, 9, XENMEMF_populate_on_demand),
                     maxmem / BLOCK);
    check_numbers(pages, pages, maxmem);
}

/* The guest gives one frame up, or wants one. */
static bool give(uint64_t gfn)
{
    long rc;

    list[0] = gfn;
    cpu.current_vcpu = &v1;
    rc = reserve(XENMEM_decrease_reservation, DOMID_SELF, 1, 0, 0);
    cpu.current_vcpu = &v0;
    return rc == 1;
}
static bool want(uint64_t gfn)
{
    long rc;

    list[0] = gfn;
    cpu.current_vcpu = &v1;
    rc = reserve(XENMEM_populate_physmap, DOMID_SELF, 1, 0, 0);
    cpu.current_vcpu = &v0;
    return rc == 1;
}

/* An access of the guest's: it faults until the memory is there. Null: crashed, or a hole */
static uint64_t *access(uint64_t gfn)
{
    while (!d1.crashed && p2m_kind(&d1, GFN(gfn)) == P2M_ON_DEMAND)
        pod_fault(&d1, GFN(gfn));
    mfn_t m = p2m_lookup(&d1, GFN(gfn));

    return mfn_eq(m, INVALID_MFN) ? NULL : mfn_to_virt(m);
}
static void touch(uint64_t gfn, uint64_t value) { access(gfn)[gfn % BLOCK] = value; }
static void touch_all(uint64_t gfn, uint64_t count)
{
    for (uint64_t i = gfn; i < gfn + count; i++)
        touch(i, i + 1);
}
static void check_touched(uint64_t gfn, uint64_t count)
{
    for (uint64_t i = gfn; i < gfn + count; i++)
        assert_int_equal(access(i)[i % BLOCK], i + 1);
}
static void check_zero(uint64_t gfn)
{
    const uint64_t *page = access(gfn);

    for (unsigned i = 0; i < PAGE_SIZE / 8; i++)
        assert_int_equal(page[i], 0);
}
static uint64_t frame_at(uint64_t gfn) { return p2m_lookup(&d1, GFN(gfn)).n; }

static void cached_is_zero(void *arg, mfn_t m)
{
    const uint64_t *page = mfn_to_virt(m);

    for (unsigned i = 0; i < PAGE_SIZE / 8; i++)
        assert_int_equal(page[i], 0);
    assert_int_equal(FRAME_REFS(frames[m.n].control), 1);
    assert_int_equal(TYPE_COUNT(frames[m.n].type), 0);
    assert_int_equal(m2p[m.n], M2P_INVALID);
    ++*(uint64_t *)arg;
}
/* What holds always */
static void check_sums(void)
{
    uint64_t cached = 0, mapped = 0;

    pod_each(pod, cached_is_zero, &cached);
    assert_int_equal(cached, pod->pages);
    for (uint64_t i = 0; i < MAXMEM; i++)
        if (frame_at(i) != NOWHERE) {
            mapped++;
            assert_int_equal(m2p[frame_at(i)], i);
        }
    assert_int_equal(p2m_marked(&d1), pod->entries);
    assert_int_equal(cached + mapped, d1.tot_pages);
}

/* ---- Building ---- */

static void built_and_used(void **state)
{
    build(MAXMEM, MEMORY);
    assert_int_equal(pod->blocks.count, MEMORY / BLOCK);
    assert_int_equal(hvm1.p2m.max_gfn, MAXMEM - 1);
    for (uint64_t i = 0; i <= MAXMEM; i += 7)
        assert_int_equal(p2m_kind(&d1, GFN(i)), i < MAXMEM ? P2M_ON_DEMAND : P2M_HOLE);
    assert_int_equal(frame_at(5), NOWHERE);
    /* The first use of a block brings all of it. */
    check_zero(BLOCK + 17);
    check_numbers(MEMORY, MEMORY - BLOCK, MAXMEM - BLOCK);
    for (uint64_t i = 0; i < BLOCK; i++) {
        assert_int_equal(frame_at(BLOCK + i), frame_at(BLOCK) + i);
        assert_int_equal(FRAME_REFS(frames[frame_at(BLOCK + i)].control), 2);
        assert_int_equal(TYPE_COUNT(frames[frame_at(BLOCK + i)].type), 1);
        assert_int_equal(m2p[frame_at(BLOCK + i)], BLOCK + i);
    }
    touch_all(BLOCK, BLOCK);
    check_touched(BLOCK, BLOCK);
    check_sums();
    pod_fault(&d1, GFN(BLOCK)); /* a fault that another vcpu has dealt with; a hole; beyond all */
    pod_fault(&d1, GFN(MAXMEM));
    assert_true(pod_populate_now(&d1, GFN(P2M_MAX_GFN + 1)));
    check_numbers(MEMORY, MEMORY - BLOCK, MAXMEM - BLOCK);
    assert_int_equal(flushes, 0);
    assert_int_equal(audit(), 0);
}

static void built_by_small_pages(void **state)
{
    assert_int_equal(set_target(20), 0);
    for (unsigned i = 0; i < 40; i++)
        list[i] = i;
    assert_int_equal(reserve(XENMEM_populate_physmap, 1, 40, 0, XENMEMF_populate_on_demand), 40);
    check_numbers(20, 20, 40);
    touch_all(3, 5);
    check_numbers(20, 15, 35);
    assert_int_equal(p2m_kind(&d1, GFN(2)), P2M_ON_DEMAND);
    assert_int_equal(p2m_next(&d1, 2, 3), 2);
    check_touched(3, 5);
    check_sums();
    assert_int_equal(audit(), 0);
}

/* The cache has single pages only: a block's mark is split, and each page comes by itself. */
static void blocks_from_single_pages(void **state)
{
    assert_int_equal(set_target(100), 0);
    assert_int_equal(mark(0, 9), 1);
    check_numbers(100, 100, BLOCK);
    check_zero(40);
    check_numbers(100, 99, BLOCK - 1);
    assert_int_equal(frame_at(41), NOWHERE);
    assert_int_equal(p2m_kind(&d1, GFN(41)), P2M_ON_DEMAND);
    check_sums();
}

/* A single mark takes one page off a block; what is left of it is used up before the next one. */
static void single_pages_from_blocks(void **state)
{
    assert_int_equal(set_target(2 * BLOCK), 0);
    for (unsigned i = 0; i < BLOCK + 5; i++)
        list[i] = 1 + i;
    assert_int_equal(reserve(XENMEM_populate_physmap, 1, BLOCK + 5, 0, XENMEMF_populate_on_demand), BLOCK + 5);
    assert_int_equal(mark(4 * BLOCK, 9), 1);
    touch(9, 10);
    assert_int_equal(pod->blocks.count, 1);
    check_sums();
    touch_all(100, 200);
    assert_int_equal(pod->blocks.count, 1);
    touch(4 * BLOCK + 3, 4 * BLOCK + 4);
    assert_int_equal(pod->blocks.count, 0);
    check_numbers(2 * BLOCK, BLOCK - 201, BLOCK + 5 - 201);
    check_touched(100, 200);
    check_sums();
    assert_int_equal(audit(), 0);
}

static void marks_that_are_refused(void **state)
{
    struct xen_memory_reservation r = {.nr_extents = 1, .mem_flags = XENMEMF_populate_on_demand, .domid = 1};

    assert_int_equal(mark(0, 1), 0);
    assert_int_equal(mark(0, 8), 0);
    assert_int_equal(mark(0, 18), 0);
    assert_int_equal(mark(1, 9), 0);
    assert_int_equal(mark(P2M_MAX_GFN + 1, 0), 0);
    assert_int_equal(mark(~0UL, 0), 0);
    assert_int_equal(pod_mark(&d1, GFN(0), 18), -EINVAL);
    assert_int_equal(reserve(XENMEM_increase_reservation, 1, 1, 0, XENMEMF_populate_on_demand), 0);
    assert_int_equal(reserve(XENMEM_decrease_reservation, 1, 1, 0, XENMEMF_populate_on_demand), 0);
    assert_int_equal(hypercall_memory_op(XENMEM_populate_physmap, (uint64_t)&r, 0, 0, 0), 0);   /* no list */
    assert_int_equal(reserve(XENMEM_populate_physmap, 0, 1, 0, XENMEMF_populate_on_demand), 0); /* PV */
    cpu.current_vcpu = &v1;
    assert_int_equal(mark(0, 0), 0); /* itself */
    assert_int_equal(set_target(5), -EPERM);
    cpu.current_vcpu = &v0;
    assert_int_equal(hvm1.p2m.table_pages, 1);
    /* RAM stays what it is. */
    assert_true(want(BLOCK + 3));
    assert_int_equal(mark(BLOCK, 9), 0);
    assert_int_equal(mark(BLOCK + 3, 0), 0);
    assert_int_equal(pod_mark(&d1, GFN(BLOCK), 9), -EEXIST);
    assert_int_equal(mark(BLOCK + 2, 0), 1);
    check_numbers(1, 0, 1);
    assert_int_equal(mark(BLOCK + 2, 0), 1); /* again */
    check_numbers(1, 0, 1);
    assert_int_equal(mark(0, 9), 1);
    assert_int_equal(mark(7, 0), 1); /* within a block */
    assert_int_equal(mark(0, 9), 1); /* and around it */
    check_numbers(1, 0, 1 + BLOCK);
    d1.dying = true;
    assert_int_equal(mark(2 * BLOCK, 9), 0);
    assert_int_equal(pod_mark(&d1, GFN(2 * BLOCK), 9), -EINVAL);
    d1.dying = false;
    for (pages_left = 0; !mark(9UL << 27, 0);) {
        check_numbers(1, 0, 1 + BLOCK);
        pages_left++;
        assert_true(pages_left < 5);
    }
    pages_left = ~0U;
    check_numbers(1, 0, 2 + BLOCK);
    assert_int_equal(audit(), 0);
}

static void targets(void **state)
{
    struct xen_pod_target t;

    assert_int_equal(hypercall_memory_op(XENMEM_set_pod_target, 0, 0, 0, 0), -EFAULT);
    t.domid = 9;
    assert_int_equal(hypercall_memory_op(XENMEM_set_pod_target, (uint64_t)&t, 0, 0, 0), -ESRCH);
    t.domid = 0; /* PV */
    assert_int_equal(hypercall_memory_op(XENMEM_get_pod_target, (uint64_t)&t, 0, 0, 0), -EOPNOTSUPP);
    /* A domain that has nothing on demand: nothing happens. */
    assert_true(want(5));
    assert_int_equal(target_call(XENMEM_set_pod_target, 100, &t), 0);
    assert_int_equal(t.tot_pages, 1);
    check_numbers(1, 0, 0);
    assert_true(give(5));
    /* In pieces; more than it may have */
    preempted = 2;
    assert_int_equal(set_target(3 * BLOCK), 0);
    assert_int_equal(preempted, 0);
    check_numbers(3 * BLOCK, 3 * BLOCK, 0);
    assert_int_equal(set_target(MEMORY + FUDGE + 1), -ENOMEM);
    assert_non_null(strstr(fake_log, "pod_target: no memory for d1 to have 1793 pages: it has 1792"));
    check_numbers(MEMORY + FUDGE, MEMORY + FUDGE, 0);
    assert_int_equal(set_target(5), 0); /* less: not by force */
    check_numbers(MEMORY + FUDGE, MEMORY + FUDGE, 0);
}

static void target_without_memory(void **state)
{
    pages_left = 0;
    assert_int_equal(set_target(2 * BLOCK), -ENOMEM);
    check_numbers(0, 0, 0);
    pages_left = 1; /* the block, but not the list's page */
    assert_int_equal(set_target(2 * BLOCK), -ENOMEM);
    check_numbers(0, 0, 0);
    assert_int_equal(alloc_free_count(), free_at_start - 1); /* the root */
    pages_left = ~0U;
    assert_int_equal(set_target(2 * BLOCK), 0);
}

/* Once it has been used, the target is about marks without pages only. */
static void targets_later(void **state)
{
    build(MAXMEM, MEMORY);
    d1.max_pages = MAXMEM + FUDGE;
    touch_all(0, BLOCK);
    assert_int_equal(set_target(MEMORY - 1), 0);
    check_numbers(MEMORY, MEMORY - BLOCK, MAXMEM - BLOCK);
    assert_int_equal(set_target(MEMORY + 100), 0);
    check_numbers(MEMORY + 100, MEMORY - BLOCK + 100, MAXMEM - BLOCK);
    assert_int_equal(set_target(MAXMEM + FUDGE), 0); /* as many as there are marks */
    check_numbers(MAXMEM, MAXMEM - BLOCK, MAXMEM - BLOCK);
    check_sums();
    touch_all(0, MAXMEM);
    check_numbers(MAXMEM, 0, 0);
    assert_int_equal(set_target(MAXMEM + 1), 0);
    check_numbers(MAXMEM, 0, 0);
    check_touched(0, MAXMEM);
}

/* ---- Ballooning ---- */

static void down_to_the_target(void **state)
{
    build(MAXMEM, MEMORY);
    touch_all(0, BLOCK);
    /* What was never used, from the end, as a balloon driver does that does not write to what it gives up */
    for (uint64_t i = MAXMEM - 1; i >= MEMORY; i--)
        assert_true(give(i));
    check_numbers(MEMORY, MEMORY - BLOCK, MEMORY - BLOCK);
    assert_int_equal(p2m_kind(&d1, GFN(MEMORY)), P2M_HOLE);
    assert_false(give(MEMORY)); /* a hole */
    assert_int_equal(flushes, 0);
    touch_all(0, MEMORY);
    check_numbers(MEMORY, 0, 0);
    /* From here on it is a domain as any other. */
    assert_true(give(3));
    check_numbers(MEMORY - 1, 0, 0);
    assert_true(want(3));
    check_numbers(MEMORY, 0, 0);
    check_zero(3);
    touch(3, 4);
    check_touched(0, MEMORY);
    check_sums();
    assert_int_equal(audit(), 0);
}

/* One that writes to each page before it gives it up (Linux with xen_scrub_pages): page and mark come and go together. */
static void down_with_scrubbing(void **state)
{
    build(MAXMEM, MEMORY);
    for (uint64_t i = MAXMEM - 1; i >= MEMORY; i--) {
        touch(i, ~0UL);
        assert_true(give(i));
    }
    assert_int_equal(d1.tot_pages, MEMORY);
    check_sums();
    touch_all(0, MEMORY);
    check_numbers(MEMORY, 0, 0);
    check_touched(0, MEMORY);
    assert_false(d1.crashed);
    assert_int_equal(audit(), 0);
}

/* Fewer marks than pages: pages go back. */
static void below_the_target(void **state)
{
    build(MAXMEM, MEMORY);
    touch_all(0, BLOCK);
    for (uint64_t i = MAXMEM - 1; i >= BLOCK + 10; i--)
        assert_true(give(i));
    check_numbers(BLOCK + 10, 10, 10);
    check_sums();
    for (uint64_t i = 0; i < BLOCK; i += 2) /* used ones: nothing waits for them */
        assert_true(give(i));
    check_numbers(BLOCK + 10 - BLOCK / 2, 10, 10);
    touch_all(BLOCK, 10);
    check_numbers(BLOCK + 10 - BLOCK / 2, 0, 0);
    check_sums();
    assert_int_equal(audit(), 0);
}

static void pages_that_others_have(void **state)
{
    mfn_t m;

    build(MAXMEM, MEMORY);
    touch_all(0, BLOCK);
    m = MFN(frame_at(7));
    assert_true(frame_get_foreign(m, &d1, true));
    assert_true(give(7));
    check_numbers(MEMORY, MEMORY - BLOCK,
                  MAXMEM - BLOCK); /* it is the domain's until it is given back, but in no cache */
    frame_put_writable(m);
    check_numbers(MEMORY - 1, MEMORY - BLOCK, MAXMEM - BLOCK);
    assert_int_equal(tlb_flushes, 0);
    /* What others had: their CPUs forget it first. */
    m = MFN(frame_at(8));
    assert_true(frame_get_foreign(m, &d1, false));
    frame_put(m);
    assert_true(give(8));
    assert_int_equal(tlb_flushes, 1);
    check_numbers(MEMORY - 1, MEMORY - BLOCK + 1, MAXMEM - BLOCK);
    check_sums();
    assert_int_equal(audit(), 0);
}

static void keeping_without_memory(void **state)
{
    build(MAXMEM, MEMORY);
    touch_all(0, BLOCK);
    pages_left = 1; /* for the split; none for the list */
    assert_true(give(7));
    pages_left = ~0U;
    check_numbers(MEMORY - 1, MEMORY - BLOCK, MAXMEM - BLOCK); /* gone to Croft */
    check_sums();
}

/* Populating where marks are replaces them. */
static void populated_by_call(void **state)
{
    build(MAXMEM, MEMORY);
    assert_true(want(5));
    check_numbers(MEMORY + 1, MEMORY, MAXMEM - 1);
    list[0] = BLOCK;
    d1.max_pages = MAXMEM;
    assert_int_equal(reserve(XENMEM_populate_physmap, 1, 1, 9, 0), 1);
    check_numbers(MEMORY + 1 + BLOCK, MEMORY, MAXMEM - 1 - BLOCK);
    assert_int_equal(mark(BLOCK, 9), 0);
    check_sums();
    assert_int_equal(p2m_add(&d1, GFN(2 * BLOCK), MFN(frame_at(5)), 0),
                     0); /* without a call: the mark is counted all the same */
    assert_int_equal(p2m_marked(&d1), pod->entries);
    assert_int_equal(p2m_add(&d1, GFN(3 * BLOCK), MFN(frame_at(BLOCK)), 9), 0);
    assert_int_equal(p2m_marked(&d1), pod->entries);
    assert_int_equal(audit(), 0);
}

/* ---- The sweep ---- */

static void zeros_come_back(void **state)
{
    build(MAXMEM, MEMORY);
    touch_all(0, MEMORY - 2 * BLOCK);
    for (uint64_t i = 1; i < 3; i++)
        touch(i * BLOCK + 1, i * BLOCK + 2); /* one page of each block */
    check_numbers(MEMORY, 0, MAXMEM - MEMORY);
    assert_int_equal(flushes, 0);
    touch_all(4 * BLOCK, 2 * (BLOCK - 1) - POD_RECENT);
    assert_false(d1.crashed);
    assert_true(flushes > 0 && flushes < 100);
    check_touched(0, BLOCK);
    check_touched(4 * BLOCK, 2 * (BLOCK - 1) - POD_RECENT);
    assert_int_equal(access(BLOCK + 1)[1], BLOCK + 2);
    check_sums();
    assert_int_equal(d1.tot_pages, MEMORY);
    assert_int_equal(audit(), 0);
}

static void nothing_comes_back(void **state)
{
    build(MAXMEM, MEMORY);
    touch_all(0, MEMORY);
    assert_int_equal(pod_populate(&d1, GFN(MEMORY), false), POD_EXHAUSTED);
    assert_false(d1.crashed);
    assert_null(access(MEMORY));
    assert_true(d1.crashed);
    assert_non_null(
        strstr(crash_text, "it uses more than its 'memory', 6144 KiB, and has not given back what 'maxmem'"));
    assert_non_null(strstr(crash_text, "frame 0x600"));
    assert_false(pod_populate_now(&d1, GFN(MEMORY)));
    check_touched(0, MEMORY);
    check_sums();
}

/* Its pages are looked at in pieces; the last one of all is the one. */
static void the_only_zero(void **state)
{
    unsigned pieces = 1;

    build(MAXMEM, MEMORY);
    touch_all(0, MEMORY);
    access(MEMORY - 1)[(MEMORY - 1) % BLOCK] = 0;
    while (pod_populate(&d1, GFN(5 * BLOCK), true) == POD_AGAIN)
        pieces++;
    assert_int_equal(pieces, 3);
    assert_int_not_equal(frame_at(5 * BLOCK), NOWHERE);
    assert_int_equal(p2m_kind(&d1, GFN(MEMORY - 1)), P2M_ON_DEMAND);
    check_sums();
    /* Not for ever back and forth: the one that has just come is not taken for the one before. */
    assert_null(access(MEMORY - 1));
    assert_true(d1.crashed);
}

static uint64_t written_gfn;
static mfn_t written;
static void write_meanwhile(void)
{
    assert_int_equal(p2m_kind(&d1, GFN(written_gfn)), P2M_ON_DEMAND); /* nobody else gets to it */
    *(uint64_t *)mfn_to_virt(written) = 77;
}
static void written_during_the_sweep(void **state)
{
    build(MAXMEM, MEMORY);
    touch_all(0, MEMORY);
    access(9)[9] = access(11)[11] = 0;
    written_gfn = 9;
    written = MFN(frame_at(9));
    meanwhile = write_meanwhile;
    check_zero(MEMORY);
    assert_int_equal(frame_at(9), written.n); /* put back as it was */
    assert_int_equal(access(9)[0], 77);
    assert_int_equal(frame_at(11), NOWHERE);
    check_numbers(MEMORY, 0, MAXMEM - MEMORY);
    check_sums();
    assert_int_equal(audit(), 0);
}

/* Someone has looked the number up, and gets his reference in the middle of the sweep. */
static void hold_meanwhile(void) { assert_true(frame_get(written, &d1)); }
static void held_during_the_sweep(void **state)
{
    build(MAXMEM, MEMORY);
    touch_all(0, MEMORY);
    access(9)[9] = 0;
    written = p2m_hold(&d1, GFN(9));
    assert_int_equal(written.n, frame_at(9));
    assert_int_equal(pod_populate(&d1, GFN(MEMORY), true), POD_AGAIN);
    assert_int_equal(frame_at(9), written.n);
    frame_put(written);
    meanwhile = hold_meanwhile;
    while (meanwhile)
        assert_int_not_equal(pod_populate(&d1, GFN(MEMORY), true), POD_DONE);
    assert_int_equal(frame_at(9), written.n);
    assert_int_equal(frame_at(MEMORY), NOWHERE);
    frame_put(written);
    check_zero(MEMORY);
    assert_int_equal(frame_at(9), NOWHERE);
    assert_true(mfn_eq(p2m_hold(&d1, GFN(9)), INVALID_MFN));
    check_sums();
}

static void what_a_sweep_leaves(void **state)
{
    build(MAXMEM, MEMORY);
    touch_all(0, MEMORY);
    access(9)[9] = access(10)[10] = access(11)[11] = 0;
    assert_true(frame_get_foreign(MFN(frame_at(9)), &d1, false)); /* had by others once */
    frame_put(MFN(frame_at(9)));
    assert_int_equal(p2m_add(&d1, GFN(MEMORY + 5), MFN(frame_at(10)), 0), 0); /* mapped twice */
    assert_int_equal(give(11), true);
    check_numbers(MEMORY, 1, MAXMEM - MEMORY - 1);
    touch(MEMORY, 1);
    assert_null(access(MEMORY + 1));
    assert_true(d1.crashed);
}

static void sweep_without_memory(void **state)
{
    build(MAXMEM, MEMORY);
    touch_all(0, MEMORY);
    access(9)[9] = 0;
    pages_left = 0; /* no table for the split of the block */
    assert_int_equal(pod_populate(&d1, GFN(MEMORY), true), POD_AGAIN);
    pages_left = 1; /* a table, but no page for the list */
    pod->sweep_gfn = pod->sweep_left = 0;
    while (pod_populate(&d1, GFN(MEMORY), true) == POD_AGAIN)
        ;
    assert_int_not_equal(frame_at(9), NOWHERE);
    check_sums();
    pages_left = 1; /* the list, but no table for what comes */
    while (pod_populate(&d1, GFN(MEMORY), true) == POD_AGAIN)
        ;
    check_numbers(MEMORY, 1, MAXMEM - MEMORY + 1);
    assert_int_equal(pod_populate(&d1, GFN(MEMORY), true), POD_NO_TABLE);
    pages_left = 0;
    assert_false(pod_populate_now(&d1, GFN(MEMORY)));
    assert_non_null(strstr(crash_text, "no memory of Croft's for a nested page table"));
    pages_left = ~0U;
    check_sums();
    assert_int_equal(audit(), 0);
}

/* ---- What others want of it ---- */

static void frames_that_calls_name(void **state)
{
    mfn_t m;

    build(MAXMEM, MEMORY);
    m = p2m_get_frame(&d1, GFN(5), true);
    assert_int_equal(m.n, frame_at(5));
    assert_int_equal(FRAME_REFS(frames[m.n].control), 3);
    assert_int_equal(TYPE_COUNT(frames[m.n].type), 2);
    frame_put_writable(m);
    m = p2m_get_frame(&d1, GFN(BLOCK + 5), false);
    assert_int_equal(FRAME_REFS(frames[m.n].control), 3);
    assert_int_equal(TYPE_COUNT(frames[m.n].type), 1);
    frame_put(m);
    assert_int_equal(p2m_get_frame(&d1, GFN(MAXMEM), true).n, NOWHERE);
    assert_int_equal(p2m_get_frame(&d1, GFN(~0UL), false).n, NOWHERE);
    touch_all(0, MEMORY);
    assert_int_equal(p2m_get_frame(&d1, GFN(MEMORY), false).n, NOWHERE);
    assert_true(d1.crashed);
}

/* A guest of much 'maxmem' balloons page by page: so many tables it may have. */
static void tables_for_what_is_marked(void **state)
{
    uint64_t blocks = P2M_TABLES_MAX(MEMORY + FUDGE) + 100;

    assert_int_equal(set_target(MEMORY), 0);
    for (uint64_t i = 0; i < blocks; i++)
        assert_int_equal(mark(i * BLOCK, 9), 1);
    for (uint64_t i = 0; i < blocks; i++)
        assert_true(give(i * BLOCK));
    assert_int_equal(pod->entries, blocks * (BLOCK - 1));
}

static void the_end_in_pieces(void **state)
{
    build(MAXMEM, MEMORY);
    touch_all(0, BLOCK);
    for (uint64_t i = MAXMEM - 1; i >= MEMORY; i--)
        assert_true(give(i));
    d1.dying = true;
    assert_int_equal(pod_populate(&d1, GFN(MEMORY - 1), true), POD_EXHAUSTED);
    assert_false(pod_populate_now(&d1, GFN(MEMORY - 1)));
    assert_false(d1.crashed);
    preempted = 1;
    assert_false(p2m_release(&d1));
    assert_int_equal(audit(), 0);
    assert_true(p2m_release(&d1));
    assert_int_equal(audit(), 0);
    check_numbers(MEMORY, 0, 0); /* its pages are still to be given back, as all others */
}

static void last_cached(void *arg, mfn_t m) { *(struct frame **)arg = frame_of(m); }

static void the_audit_finds_planted_errors(void **state)
{
    struct frame *cached, good;
    int error;

    build(MAXMEM, MEMORY);
    touch_all(0, BLOCK);
    assert_int_equal(audit(), 0);
    pod->entries++;
    assert_int_equal(audit(), 1);
    assert_non_null(strstr(fake_log, "d1 has 3584 marked frames, 3585 are counted"));
    pod->entries--;
    pod->pages++;
    assert_int_equal(audit(), 1);
    pod->pages--;
    assert_true(give(5)); /* into the cache */
    cached = frame_of(MFN(0));
    pod_each(&(struct pod){.singles = pod->singles}, last_cached, &cached);
    good = *cached;
    cached->control = (good.control & ~(0xffffUL << 32)) | (uint64_t)DOMID_CROFT << 32;
    assert_int_equal(audit(), 1);
    assert_non_null(strstr(fake_log, "which is not its own"));
    cached->control = good.control & ~FRAME_ALLOCATED;
    assert_int_equal(audit(), 1);
    *cached = good;
    assert_int_equal(p2m_add(&d1, GFN(5), mfn_of(cached), 0), 0);
    assert_int_equal(audit(), 1);
    assert_non_null(strstr(fake_log, "which is mapped"));
    assert_int_equal(p2m_remove(&d1, GFN(5), &error).n, mfn_of(cached).n);
    frame_put_writable(mfn_of(cached));
    assert_int_equal(audit(), 0);
}

/* ---- Random use, against a model of what is in each page ---- */

static uint64_t random_state;
static unsigned pick(unsigned n)
{
    random_state = random_state * 6364136223846793005UL + 1442695040888963407UL;
    return (unsigned)((random_state >> 33) % n);
}

static void random_use(void **state)
{
    static uint64_t model[MAXMEM]; /* the word that the page holds; NOWHERE: a hole */
    unsigned crashes = 0;

    for (unsigned seed = 1; seed < 9; seed++) {
        random_state = seed;
        build(MAXMEM, MEMORY);
        memset(model, 0, sizeof(model));
        for (unsigned n = 0; n < 6000 && !d1.crashed; n++) {
            uint64_t gfn = pick(4) ? pick(MAXMEM) : pick(BLOCK), value = pick(3) && seed % 4 ? 0 : pick(1000), *page;

            switch (pick(seed % 4 ? 6 : 50)) { /* every fourth uses too much */
            case 0:
            case 1:
                if (give(gfn))
                    model[gfn] = NOWHERE;
                else
                    assert_true(model[gfn] == NOWHERE);
                break;
            case 2:
                if (model[gfn] == NOWHERE && want(gfn))
                    model[gfn] = 0;
                break;
            case 3:
                if (pick(8) == 0)
                    assert_int_equal(set_target(MEMORY + pick(FUDGE)), 0);
                break;
            default:
                page = access(gfn);
                assert_true(d1.crashed || (page == NULL) == (model[gfn] == NOWHERE));
                if (page) {
                    assert_int_equal(page[gfn % BLOCK], model[gfn]);
                    page[gfn % BLOCK] = model[gfn] = value;
                }
            }
            if (n % 97 == 0)
                check_sums();
        }
        check_sums();
        assert_int_equal(audit(), 0);
        crashes += d1.crashed;
        for (uint64_t i = 0; i < MAXMEM; i++)
            if (frame_at(i) != NOWHERE)
                assert_int_equal(((uint64_t *)mfn_to_virt(MFN(frame_at(i))))[i % BLOCK], model[i]);
        teardown(NULL);
        setup(NULL);
    }
    assert_in_range(crashes, 1, 7);
}

/* ---- Several vcpus, and who holds frames ---- */

#define THREADS 3
static unsigned wrong, stop;
static void *user(void *arg)
{
    uint64_t own = (uint64_t)arg;

    for (unsigned round = 0; round < 40 && !d1.crashed; round++)
        for (uint64_t gfn = own; gfn < MAXMEM && !d1.crashed; gfn += 64 + THREADS) {
            mfn_t m = p2m_get_frame(&d1, GFN(gfn), true);
            uint64_t *word;

            if (mfn_eq(m, INVALID_MFN))
                continue;
            /* While it is held it stays where it is, and nobody else's. */
            word = mfn_to_virt(m);
            if (word[0])
                __atomic_add_fetch(&wrong, 1, __ATOMIC_SEQ_CST);
            word[0] = gfn + 1;
            if (!mfn_eq(p2m_lookup(&d1, GFN(gfn)), m) || READ_ONCE(word[0]) != gfn + 1)
                __atomic_add_fetch(&wrong, 1, __ATOMIC_SEQ_CST);
            word[0] = 0;
            frame_put_writable(m);
        }
    return NULL;
}
static void *holder(void *unused)
{
    while (!READ_ONCE(stop))
        for (uint64_t gfn = 0; gfn < MAXMEM; gfn += 5) {
            mfn_t m = p2m_hold(&d1, GFN(gfn));

            if (!mfn_eq(m, INVALID_MFN))
                frame_put(m);
        }
    return NULL;
}

static void sweeps_and_holders(void **state)
{
    pthread_t threads[THREADS], other;

    build(MAXMEM, MEMORY);
    stop = wrong = 0;
    pthread_create(&other, NULL, holder, NULL);
    for (uint64_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, user, (void *)(i * 7 + 1));
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    WRITE_ONCE(stop, 1);
    pthread_join(other, NULL);
    assert_int_equal(wrong, 0);
    assert_false(d1.crashed);
    assert_int_equal(d1.tot_pages, MEMORY);
    check_sums();
    assert_int_equal(audit(), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(built_and_used),
        TEST(built_by_small_pages),
        TEST(blocks_from_single_pages),
        TEST(single_pages_from_blocks),
        TEST(marks_that_are_refused),
        TEST(targets),
        TEST(target_without_memory),
        TEST(targets_later),
        TEST(down_to_the_target),
        TEST(down_with_scrubbing),
        TEST(below_the_target),
        TEST(pages_that_others_have),
        TEST(keeping_without_memory),
        TEST(populated_by_call),
        TEST(zeros_come_back),
        TEST(nothing_comes_back),
        TEST(the_only_zero),
        TEST(written_during_the_sweep),
        TEST(held_during_the_sweep),
        TEST(what_a_sweep_leaves),
        TEST(sweep_without_memory),
        TEST(frames_that_calls_name),
        TEST(tables_for_what_is_marked),
        TEST(the_end_in_pieces),
        TEST(the_audit_finds_planted_errors),
        TEST(random_use),
        TEST(sweeps_and_holders),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
