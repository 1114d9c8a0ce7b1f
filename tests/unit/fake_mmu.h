/*
 * The machine around the frame table and the PV MMU, for test_frame.c, test_mmu.c and fuzz_mmu.c: a few hundred frames of
 * RAM, two domains of two vcpus, each on a CPU of its own, and a model of what the CPUs' TLBs may still hold.
 *
 * The model is independent of Croft's counts. It follows the page tables in memory as the processor does, from the roots
 * of each vcpu, and remembers for each CPU until its next flush what it could write and what it could walk. Croft is right if
 *   - no CPU may write a frame that is in use as a page table or descriptor page,
 *   - no CPU may walk, as a page table, a frame that is writable,
 *   - what a CPU reaches belongs to its domain,
 *   - of a frame that was given back, Croft still knows which CPUs have to flush.
 * The file that includes this defines FAIL_TEST(text).
 */
#ifndef FAKE_MMU_H
#define FAKE_MMU_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake_hvm.h"

#include "cpu/tlb.h"
#include "domain/domain.h"
#include "domain/grant.h"
#include "domain/guest_access.h"
#include "cpu/cpu.h"
#include "cpu/fpu.h"
#include "cpu/smp.h"
#include "cpu/softirq.h"
#include "hvm/hvm.h"
#include "hypercall/dispatch.h"
#include "hypercall/memory.h"
#include "lib/log.h"
#include "memory/alloc.h"
#include "memory/map.h"
#include "platform/irq.h"
#include "pv/cpu_policy.h"
#include "pv/descriptor.h"
#include "pv/io_memory.h"
#include "pv/mmu.h"
#include "pv/mmu_types.h"

#define REQUIRE(c)                                                                                                     \
    do {                                                                                                               \
        if (!(c))                                                                                                      \
            FAIL_TEST(#c);                                                                                             \
    } while (0)

/* ---- RAM ---- */

#ifndef PAGE_POOL
#define PAGE_POOL                                                                                                      \
    0 /* frames at the end of RAM for alloc_pages, where a test needs frames of them; else they are the host's */
#endif
#define POOL_FIRST 288
#define RAM_FRAMES (POOL_FIRST + PAGE_POOL)
#define CROFT_FIRST 0 /* Croft's own; frame 0 is never given out */
#define IO_FIRST 6    /* valid, but device memory */
#define SHARED_RW 8   /* Croft's, shared with domain 1 */
#define SHARED_RO 9
#define HOLE_TABLES 10 /* an L3, an L2 and an L1 of Croft's, in each hypervisor slot */
#define M2P_FRAME 2    /* Croft's, a part of the machine-to-physical table */
#define SHARED_INFO 13 /* and 14: of each domain */
#define DOMAIN_FIRST 16
#define DOMAIN_FRAMES 120 /* each of the two; what remains is free */
#define FREE_FIRST (DOMAIN_FIRST + 2 * DOMAIN_FRAMES)
#define SHARED_INFO_OF(d) (SHARED_INFO + (d))
#define IO_FULL_MFN 0x100000UL
#define IO_READ_ONLY_MFN 0x100010UL
#define IO_FORBIDDEN_MFN 0x100020UL

typedef uint64_t page_table[512];
static page_table *ram;
static struct frame frames[RAM_FRAMES] __aligned(PAGE_SIZE);
static uint64_t m2p[RAM_FRAMES];
uint64_t host_l4[512];
static uint64_t hole_copy[3][512];

bool mfn_valid(mfn_t m) { return m.n < RAM_FRAMES; }
struct frame *frame_of(mfn_t m)
{
    /* Some callers name the frame in a message before they know that there is one. */
    static struct frame none;

    REQUIRE(m.n < RAM_FRAMES || !none.control);
    return m.n < RAM_FRAMES ? &frames[m.n] : &none;
}
mfn_t mfn_of(const struct frame *f) { return MFN((uint64_t)(f - frames)); }
void *mfn_to_virt(mfn_t m)
{
    REQUIRE(m.n < RAM_FRAMES);
    return ram[m.n];
}
mfn_t virt_to_mfn(const void *p) { return MFN((uint64_t)((const page_table *)p - ram)); }
maddr_t virt_to_maddr(const void *p) { return MADDR((uint64_t)((const char *)p - (const char *)ram)); }
void *maddr_to_virt(maddr_t a) { return (char *)ram + a.n; }
uint64_t m2p_read(mfn_t m) { return m2p[m.n]; }
bool m2p_holds(mfn_t m) { return m.n == M2P_FRAME; }
void m2p_write(mfn_t m, uint64_t gpfn)
{
    REQUIRE(m.n < RAM_FRAMES);
    m2p[m.n] = gpfn;
}
enum io_access io_frame_access(mfn_t m)
{
    if (m.n >= IO_FULL_MFN && m.n < IO_READ_ONLY_MFN)
        return IO_FULL;
    return m.n >= IO_READ_ONLY_MFN && m.n < IO_FORBIDDEN_MFN ? IO_READ_ONLY : IO_NONE;
}

static unsigned live_pages, pages_left = ~0U;
static bool pool_used[PAGE_POOL + 1];
void *alloc_pages(unsigned order)
{
    if (!pages_left)
        return NULL;
    pages_left -= pages_left != ~0U;
    live_pages++;
    for (unsigned m = POOL_FIRST; !order && m < RAM_FRAMES; m++)
        if (!pool_used[m - POOL_FIRST]) {
            pool_used[m - POOL_FIRST] = true;
            return memset(ram[m], 0, PAGE_SIZE);
        }
    return calloc(1, PAGE_SIZE << order);
}
void free_pages(void *p, unsigned order)
{
    uint64_t m = virt_to_mfn(p).n;

    if (!p)
        return;
    live_pages--;
    if (PAGE_POOL && m >= POOL_FIRST && m < RAM_FRAMES)
        pool_used[m - POOL_FIRST] = false;
    else
        free(p);
}
void *heap_alloc(size_t size) { return calloc(1, size); }
static bool is_static_object(const void *p);
void heap_free(void *p)
{
    if (!is_static_object(p))
        free(p);
}

static unsigned refusals, errors;
static bool verbose;
static void print_line(const char *fmt, va_list ap)
{
    if (verbose)
        vfprintf(stderr, fmt, ap);
}
void log_print(enum log_level level, const char *fmt, ...)
{
    va_list ap;

    errors += level == LOG_ERROR;
    va_start(ap, fmt);
    if (level == LOG_ERROR)
        vfprintf(stderr, fmt, ap);
    va_end(ap);
}
void guest_log(enum log_level level, const char *fmt, ...)
{
    char text[300];
    va_list ap;

    refusals++;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap); /* the sanitizers look at the arguments */
    va_end(ap);
    if (verbose)
        fputs(text, stderr);
}
void panic(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    FAIL_TEST("panic");
    abort();
}

/* ---- CPUs, domains ---- */

#define CPUS 4
static struct percpu cpus[CPUS];
static uint64_t loaded_cr3[CPUS];
static __thread unsigned self;
static struct domain doms[2];
static struct vcpu vcpus[CPUS];
struct list domain_list;
spinlock_t domain_list_lock = SPINLOCK_INIT;
spinlock_t domain_work_lock = SPINLOCK_INIT;
struct domain *domain0;
cpumask_t cpu_online;

struct percpu *this_cpu(void) { return &cpus[self]; }
struct percpu *percpu_of(unsigned cpu) { return cpu < CPUS ? &cpus[cpu] : NULL; }
static bool is_static_object(const void *p)
{
    return (p >= (const void *)doms && p < (const void *)(doms + 2)) ||
           (p >= (const void *)vcpus && p < (const void *)(vcpus + CPUS));
}

/* The two are the list; a domain that has ended is not on it. */
static bool listed[2];
struct domain *domain_owner_of_frame(domid_t id)
{
    return (id == 1 || id == 2) && listed[id - 1] ? &doms[id - 1] : NULL;
}
void domain_unlist(struct domain *d)
{
    REQUIRE(listed[d - doms]);
    listed[d - doms] = false;
    list_remove(&d->list);
}
bool domain_get(struct domain *d)
{
    REQUIRE(d->refs >= 0);
    if (!d->refs)
        return false;
    __atomic_add_fetch(&d->refs, 1, __ATOMIC_SEQ_CST);
    return true;
}
void domain_put(struct domain *d)
{
    int refs = __atomic_sub_fetch(&d->refs, 1, __ATOMIC_SEQ_CST);

    REQUIRE(refs >= 0);
    if (!refs)
        domain_free_later(d);
}
struct domain *domain_get_by_id(domid_t id)
{
    struct domain *d = id == DOMID_SELF ? current->domain : domain_owner_of_frame(id);

    return d && domain_get(d) ? d : NULL;
}
struct domain *domain_next(struct domain *prev)
{
    unsigned i = prev ? (unsigned)(prev - doms) + 1 : 0;

    if (prev)
        domain_put(prev);
    for (; i < 2; i++)
        if (listed[i] && domain_get(&doms[i]))
            return &doms[i];
    return NULL;
}

/* What the end of a domain needs of the others: domain/domain_destroy.c */
static void (*free_dead_domains)(void);
static unsigned dom_exc; /* VIRQs about the end of domains */
void softirq_register(enum softirq nr, void (*handler)(void)) { free_dead_domains = handler; }
static void run_softirqs(void)
{
    for (unsigned cpu = 0; cpu < CPUS; cpu++)
        if (__atomic_fetch_and(&cpus[cpu].softirq_pending, ~(1U << SOFTIRQ_DOMAIN), __ATOMIC_SEQ_CST) &
            1U << SOFTIRQ_DOMAIN)
            free_dead_domains();
}
static unsigned removed_vcpus;
void sched_remove_vcpu(struct vcpu *v) { removed_vcpus++; }
void sched_remove_domain(struct domain *d) {}
int pool_move_domain(struct domain *d, uint32_t id) { return (int)(d->pool = id); }
int alloc_claim(struct domain *d, uint64_t pages)
{
    d->claimed_pages = pages;
    return 0;
}
static unsigned event_work, grant_work; /* parts of it, between which they look whether there is something urgent */
static bool work_off(unsigned *parts)
{
    while (*parts) {
        --*parts;
        if (hypercall_preempt_check())
            return false;
    }
    return true;
}
bool event_release_domain(struct domain *d) { return work_off(&event_work); }
void event_destroy_domain(struct domain *d) {}
void time_move_shared_info(struct domain *d, struct shared_info *to) { d->shared_info = to; }
void event_send_global_virq(struct domain *d, unsigned virq) { dom_exc++; }
/* Weak: test_grant.c has the real ones. */
__attribute__((weak)) bool grant_release_mappings(struct domain *d) { return work_off(&grant_work); }
__attribute__((weak)) void grant_destroy_domain(struct domain *d) {}
__attribute__((weak)) void grant_each_mapping(const struct domain *d, void (*fn)(void *arg, mfn_t m, bool writable),
                                              void *arg)
{
}
__attribute__((weak)) bool grant_counts_agree(const struct domain *d, const struct domain *by, uint64_t *pins,
                                              uint64_t *mappings)
{
    return true;
}
void guest_console_destroy(struct domain *d) {}
static unsigned looks_for_ended; /* domain/restart.c is told */
void restart_look(void) { looks_for_ended++; }
void cpu_policy_destroy(struct domain *d) {}
void fpu_free(struct vcpu *v) {}
void descriptor_window_free(void *window) {}
bool memory_release(mfn_t m, struct domain *d)
{
    m2p_write(m, M2P_INVALID);
    return frame_release(m, d);
}
void domain_pause(struct domain *d) { d->pause_count++; }
void domain_unpause(struct domain *d) { d->pause_count--; }

/* hvm/p2m.c: guests with nested page tables do not run here, so nobody has to leave one. */
struct cpu_features cpu_features;
void smp_call(const cpumask_t *mask, void (*fn)(void *), void *arg) {}

/* ---- Translations that a CPU may hold ---- */

static struct {
    uint8_t write[RAM_FRAMES], read[RAM_FRAMES], walk[RAM_FRAMES];
} tlb[CPUS];
static uint8_t walked[RAM_FRAMES];
static bool (*granted)(const struct domain *d, mfn_t m); /* null: nothing is mapped of others */

/* Own frames; what another domain's tools have mapped; a privileged domain reads the machine-to-physical table. */
static void check_leaf(const struct domain *d, uint64_t m, uint64_t e)
{
    uint64_t control = frames[m].control;
    domid_t owner = FRAME_OWNER(control);

    REQUIRE(FRAME_REFS(control));
    if (owner == d->id || (granted && granted(d, MFN(m))))
        return;
    REQUIRE(doms[0].is_privileged);
    if (m == M2P_FRAME)
        REQUIRE(owner == DOMID_CROFT && !(e & PTE_WRITE));
    else
        REQUIRE(domain_owner_of_frame(owner) && (control & FRAME_FOREIGN));
}

static void walk_table(unsigned cpu, mfn_t m, unsigned level)
{
    const struct domain *d = vcpus[cpu].domain;

    REQUIRE(m.n < RAM_FRAMES);
    if (walked[m.n]) {
        REQUIRE(walked[m.n] == level);
        return;
    }
    walked[m.n] = level;
    tlb[cpu].walk[m.n] = 1;
    for (unsigned i = 0; i < 512; i++) {
        uint64_t e = ram[m.n][i];
        mfn_t to = pte_mfn(e);

        if (!(e & PTE_PRESENT))
            continue;
        if (level == 4 && l4_slot_is_ours(i)) {
            REQUIRE(e == host_l4[i]);
        } else if (level > 1) {
            REQUIRE(!(e & DISALLOWED_TABLE));
            walk_table(cpu, to, level - 1);
        } else if (to.n >= RAM_FRAMES || frame_owner(&frames[to.n]) == DOMID_IO) {
            enum io_access a = io_frame_access(to);

            REQUIRE(d->pv.io_memory && a != IO_NONE && (a == IO_FULL || !(e & PTE_WRITE)));
        } else {
            check_leaf(d, to.n, e);
            REQUIRE(d->pv.io_memory || !(e & PTE_CACHE_L1));
            REQUIRE(!(e & PTE_WRITE) || !(frames[to.n].control & FRAME_SHARED_RO));
            tlb[cpu].read[to.n] = 1;
            /* The bit of the last level alone: the tables above may get theirs at any time. */
            tlb[cpu].write[to.n] |= (e & PTE_WRITE) != 0;
        }
    }
}

/* Everything that this CPU can load now */
static void tlb_load(unsigned cpu)
{
    const struct vcpu *v = &vcpus[cpu];

    memset(walked, 0, sizeof(walked));
    if (v->pv.kernel_root.n)
        walk_table(cpu, v->pv.kernel_root, 4);
    if (v->pv.user_root.n)
        walk_table(cpu, v->pv.user_root, 4);
}

static void (*in_flush)(void);
static unsigned flushes;
volatile uint64_t tlb_clock = 1;

static void flush_cpu(unsigned cpu)
{
    uint64_t time = ++tlb_clock;

    flushes++;
    memset(&tlb[cpu], 0, sizeof(tlb[cpu]));
    tlb_load(cpu);
    cpus[cpu].tlb_time = time;
}
void tlb_flush_local(void)
{
    if (in_flush)
        in_flush();
    flush_cpu(self);
}
void tlb_load_cr3(uint64_t cr3)
{
    loaded_cr3[self] = cr3;
    flush_cpu(self);
}
void tlb_flush_mask(const cpumask_t *mask)
{
    unsigned cpu;

    if (in_flush)
        in_flush();
    for_each_cpu (cpu, mask)
        flush_cpu(cpu);
}
void tlb_flush_page_mask(const cpumask_t *mask, unsigned long va) {}
void tlb_flush_since_slow(const cpumask_t *mask, uint64_t stamp)
{
    cpumask_t late = {{0}};
    unsigned cpu;

    for_each_cpu (cpu, mask)
        if (cpus[cpu].tlb_time <= stamp)
            cpumask_set(cpu, &late);
    if (!cpumask_empty(&late))
        tlb_flush_mask(&late);
}

static void check_model(void)
{
    for (unsigned cpu = 0; cpu < CPUS; cpu++)
        tlb_load(cpu);
    for (unsigned m = 0; m < RAM_FRAMES; m++) {
        const struct frame *f = &frames[m];
        enum frame_type type = TYPE_COUNT(f->type) ? TYPE_OF(f->type) : FRAME_NONE;

        if (frame_owner(f) == 1 || frame_owner(f) == 2)
            REQUIRE(FRAME_REFS(f->control));
        REQUIRE(TYPE_COUNT(f->type) <= FRAME_REFS(f->control) || frame_owner(f) == DOMID_FREE);
        for (unsigned cpu = 0; cpu < CPUS; cpu++) {
            if (type >= FRAME_L1)
                REQUIRE(!tlb[cpu].write[m]);
            if (type == FRAME_WRITABLE)
                REQUIRE(!tlb[cpu].walk[m]);
            if (frame_owner(f) == DOMID_FREE && (tlb[cpu].read[m] || tlb[cpu].walk[m]))
                REQUIRE(cpus[cpu].tlb_time <= f->tlb_stamp);
        }
        if (type != FRAME_L1)
            continue;
        for (unsigned i = 0; i < 512; i++) {
            uint64_t e = ram[m][i];

            if ((e & PTE_PRESENT) && (e & PTE_WRITE) && pte_mfn(e).n < RAM_FRAMES &&
                frame_owner(&frames[pte_mfn(e).n]) != DOMID_IO)
                REQUIRE(TYPE_OF(frames[pte_mfn(e).n].type) == FRAME_WRITABLE && TYPE_COUNT(frames[pte_mfn(e).n].type));
        }
    }
    for (unsigned i = 0; i < 3; i++)
        REQUIRE(!memcmp(hole_copy[i], ram[HOLE_TABLES + i], PAGE_SIZE));
}

static void check_all(void)
{
    check_model();
    REQUIRE(frame_audit() == 0);
    for (unsigned i = 0; i < 2; i++)
        REQUIRE(!spin_is_locked(&doms[i].mm_lock));
}

/* ---- The frames' way to a domain and back, as the page allocator does it ---- */

static unsigned frames_freed;
static bool to_release[RAM_FRAMES]; /* alloc_next_to_release has yet to tell */
static void give_frame(mfn_t m, struct domain *d)
{
    struct frame *f = frame_of(m);

    REQUIRE(frame_owner(f) == DOMID_FREE && !FRAME_REFS(f->control));
    tlb_flush_since(&cpu_online, f->tlb_stamp);
    memset(ram[m.n], 0, PAGE_SIZE);
    f->type = 0;
    f->control = 1 | (uint64_t)d->id << 32 | FRAME_ALLOCATED;
    d->tot_pages++;
    to_release[m.n] = true;
}
void alloc_adopt_frame(mfn_t m, struct domain *d)
{
    d->tot_pages++;
    live_pages -= m.n >= POOL_FIRST;
}
bool alloc_next_to_release(struct domain *d, mfn_t *m)
{
    for (*m = MFN(0); m->n < RAM_FRAMES; m->n++)
        if (to_release[m->n] && frame_owner(&frames[m->n]) == d->id) {
            to_release[m->n] = false;
            if (frame_get(*m, d))
                return true;
        }
    return false;
}
void alloc_free_domain_frame(mfn_t m, struct domain *owner)
{
    struct frame *f = frame_of(m);

    REQUIRE(!FRAME_REFS(f->control) && owner == domain_owner_of_frame(frame_owner(f)) && !TYPE_COUNT(f->type));
    f->type = 0x5a5a5a5000000000;
    f->control = m.n < POOL_FIRST ? (uint64_t)DOMID_FREE << 32 : 1 | (uint64_t)DOMID_CROFT << 32;
    if (m.n >= POOL_FIRST)
        pool_used[m.n - POOL_FIRST] = false;
    to_release[m.n] = false;
    __atomic_add_fetch(&frames_freed, 1, __ATOMIC_SEQ_CST);
    if (!__atomic_sub_fetch(&owner->tot_pages, 1, __ATOMIC_SEQ_CST) && owner->put_with_last_frame)
        domain_put(owner);
}

/* ---- Descriptors: present system descriptors are refused ---- */

bool descriptor_validate_page(struct domain *d, uint64_t *page)
{
    for (unsigned i = 0; i < 512; i++)
        if ((page[i] >> 47 & 1) && !(page[i] >> 44 & 1))
            return false;
    return true;
}
static unsigned ldt_flushes;
static void (*in_descriptor_release)(struct vcpu *v);
void descriptor_flush_ldt(struct vcpu *v)
{
    REQUIRE(!spin_is_locked(&v->domain->mm_lock));
    v->pv.ldt_mapped = 0;
    ldt_flushes++;
}
int descriptor_set_ldt(struct vcpu *v, unsigned long base, unsigned entries) { return entries > 8192 ? -EINVAL : 0; }
void descriptor_release(struct vcpu *v)
{
    if (in_descriptor_release)
        in_descriptor_release(v);
}

/* ---- Hypercalls ---- */

static char bad_pointer[4096];
static unsigned bad_after = ~0U; /* copies until one fails */
static bool guest_memory(const void *p)
{
    return (uintptr_t)p >= sizeof(bad_pointer) && (uintptr_t)p - (uintptr_t)bad_pointer >= sizeof(bad_pointer);
}
size_t copy_from_guest(void *to, const void *guest, size_t n)
{
    if (!guest_memory(guest) || !bad_after)
        return n;
    bad_after -= bad_after != ~0U;
    memcpy(to, guest, n);
    return 0;
}
size_t copy_to_guest(void *guest, const void *from, size_t n)
{
    if (!guest_memory(guest))
        return n;
    memcpy(guest, from, n);
    return 0;
}

#define CONTINUED 0x777777L
static uint64_t continued[5];
static bool (*preempt)(void); /* null: never */
bool hypercall_preempt_check(void) { return preempt && preempt(); }
long hypercall_continue(uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
    continued[0] = a1;
    continued[1] = a2;
    continued[2] = a3;
    continued[3] = a4;
    continued[4] = a5;
    return CONTINUED;
}

static unsigned slices;
static bool (*between_slices)(void); /* false: the guest never comes back to the call */
static long hypercall(hypercall_handler_t *call, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4)
{
    uint64_t a[5] = {a1, a2, a3, a4, 0};
    unsigned cpu = self;
    long rc;

    for (slices = 1; (rc = call(a[0], a[1], a[2], a[3], a[4])) == CONTINUED; slices++) {
        unsigned n = slices;

        REQUIRE(n < 100000);
        memcpy(a, continued, sizeof(a));
        if ((between_slices && !between_slices()) || vcpus[cpu].domain->dying)
            break;
        self = cpu;
        slices = n;
    }
    return rc;
}
static uint32_t done;
/* 'foreign' as the call takes it: whose frames, and above, plus one, whose tables */
static long mmu_update_on(struct mmu_update *u, unsigned n, uint64_t foreign)
{
    long rc;

    done = 0;
    rc = hypercall(hypercall_mmu_update, (uint64_t)u, n, (uint64_t)&done, foreign);
    REQUIRE(rc == CONTINUED || (rc == 0 && done == n) || (rc < 0 && done < n));
    return rc;
}
static long mmu_update_n(struct mmu_update *u, unsigned n) { return mmu_update_on(u, n, DOMID_SELF); }
static long mmuext_on(struct mmuext_op *op, unsigned n, uint64_t domid)
{
    long rc;

    done = 0;
    rc = hypercall(hypercall_mmuext_op, (uint64_t)op, n, (uint64_t)&done, domid);
    REQUIRE(rc == CONTINUED || (rc == 0 && done == n) || (rc < 0 && done < n));
    return rc;
}
static long mmuext_n(struct mmuext_op *op, unsigned n) { return mmuext_on(op, n, DOMID_SELF); }
static long mmuext(unsigned cmd, uint64_t mfn)
{
    struct mmuext_op op = {.cmd = cmd, .arg1.mfn = mfn};

    return mmuext_n(&op, 1);
}
/* Entry 'slot' of the table in frame m */
static long set_entry(uint64_t m, unsigned slot, uint64_t e)
{
    struct mmu_update u = {.ptr = m << PAGE_SHIFT | slot * 8 | MMU_NORMAL_PT_UPDATE, .val = e};

    return mmu_update_n(&u, 1);
}

/* ---- Start and end ---- */

#define RW (PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_ACCESSED | PTE_DIRTY)
#define RO (PTE_PRESENT | PTE_USER | PTE_ACCESSED)
static uint64_t entry(uint64_t m, uint64_t flags) { return m << PAGE_SHIFT | flags; }
static uint64_t dom_mfn(unsigned d, unsigned i) { return DOMAIN_FIRST + d * DOMAIN_FRAMES + i; }

/* What each frame of a domain is for, if nobody does otherwise */
enum { ROOT, ROOT_L3, ROOT_L2, ROOT_L1, FIRST_OTHER };
static unsigned role_level(unsigned i) /* 0: data */
{
    static const uint8_t level[] = {1, 1, 1, 1, 2, 2, 3, 4, 0, 0, 0, 0};

    return i < FIRST_OTHER ? 4 - i : level[i % sizeof(level)];
}

static void start_domain(unsigned n)
{
    struct domain *d = &doms[n];

    memset(d, 0, sizeof(*d));
    d->id = (domid_t)(n + 1);
    d->vcpu_count = 2;
    d->pv.io_memory = n == 0;
    d->pv.leaf_refused = n == 0 ? 0 : PTE_CACHE_L1;
    d->refs = 2; /* its life, its frames */
    d->shared_info = mfn_to_virt(MFN(SHARED_INFO_OF(n)));
    tlb_flush_since(&cpu_online, frames[SHARED_INFO_OF(n)].tlb_stamp);
    frame_share(MFN(SHARED_INFO_OF(n)), d, true);
    list_add_tail(&domain_list, &d->list);
    listed[n] = true;
    for (unsigned i = 0; i < 2; i++) {
        unsigned cpu = n * 2 + i;
        struct vcpu *v = d->vcpus[i] = &vcpus[cpu];

        memset(v, 0, sizeof(*v));
        v->domain = d;
        v->id = i;
        v->processor = cpu;
        v->pv.kernel_mode = true;
        v->info = &d->shared_info->vcpu_info[i];
        v->info_mfn = INVALID_MFN;
        cpumask_set(cpu, &d->dirty_cpus);
        cpus[cpu].current_vcpu = v;
    }
    for (unsigned i = 0; i < DOMAIN_FRAMES; i++)
        give_frame(MFN(dom_mfn(n, i)), d);
    ram[dom_mfn(n, ROOT)][0] = entry(dom_mfn(n, ROOT_L3), RW);
    ram[dom_mfn(n, ROOT_L3)][0] = entry(dom_mfn(n, ROOT_L2), RW);
    ram[dom_mfn(n, ROOT_L2)][0] = entry(dom_mfn(n, ROOT_L1), RW);
    for (unsigned i = 0; i < DOMAIN_FRAMES; i++)
        if (role_level(i) == 0)
            ram[dom_mfn(n, ROOT_L1)][i] = entry(dom_mfn(n, i), RW);
    REQUIRE(mmu_set_initial_root(d->vcpus[0], MFN(dom_mfn(n, ROOT))) == 0);
    REQUIRE(mmu_set_roots(d->vcpus[1], MFN(dom_mfn(n, ROOT)), MFN(0)) == 0);
}

static void start_machine(void)
{
    void *memory = ram ? ram : aligned_alloc(PAGE_SIZE, RAM_FRAMES * PAGE_SIZE);

    ram = memory;
    memset(ram, 0, RAM_FRAMES * PAGE_SIZE);
    memset(frames, 0, sizeof(frames));
    memset(cpus, 0, sizeof(cpus));
    memset(tlb, 0, sizeof(tlb));
    memset(host_l4, 0, sizeof(host_l4));
    max_frame = RAM_FRAMES;
    list_init(&domain_list);
    memset(listed, 0, sizeof(listed));
    memset(to_release, 0, sizeof(to_release));
    domain_free_init();
    domain0 = &doms[0];
    self = 0;
    tlb_clock = 1;
    preempt = NULL;
    between_slices = NULL;
    in_flush = NULL;
    event_work = grant_work = 0;
    in_descriptor_release = NULL;
    bad_after = pages_left = ~0U;
    cpu_online.bits[0] = (1UL << CPUS) - 1;
    for (unsigned i = 0; i < CPUS; i++)
        cpus[i].id = i;
    for (unsigned m = 0; m < RAM_FRAMES; m++)
        frames[m].control = m >= DOMAIN_FIRST && m < POOL_FIRST  ? (uint64_t)DOMID_FREE << 32
                            : m == IO_FIRST || m == IO_FIRST + 1 ? 1 | (uint64_t)DOMID_IO << 32
                                                                 : 1 | (uint64_t)DOMID_CROFT << 32;
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned slot = 0; slot < 512; slot++)
            ram[HOLE_TABLES + i][slot] = i < 2 ? entry(HOLE_TABLES + i + 1, PTE_PRESENT | PTE_WRITE)
                                               : entry(CROFT_FIRST + 1, PTE_PRESENT | PTE_WRITE);
        memcpy(hole_copy[i], ram[HOLE_TABLES + i], PAGE_SIZE);
    }
    for (unsigned i = 0; i < HOLE_L4_COUNT; i++)
        host_l4[HOLE_L4_FIRST + i] = entry(HOLE_TABLES, PTE_PRESENT | PTE_WRITE);
    start_domain(0);
    start_domain(1);
    frame_share(MFN(SHARED_RW), &doms[0], true);
    frame_share(MFN(SHARED_RO), &doms[0], false);
    refusals = errors = flushes = frames_freed = dom_exc = removed_vcpus = 0;
}

/* One call of domain_destroy, as by the tools of the other domain */
static int destroy_step(struct domain *d)
{
    int rc;

    REQUIRE(domain_get(d));
    rc = domain_destroy(d);
    REQUIRE(rc == 0 || rc == -ERESTART);
    REQUIRE(d->dying && d->pause_count <= 1 && !spin_is_locked(&d->lock) && !spin_is_locked(&d->page_list_lock));
    if (!rc) { /* what is left is only what others hold of it */
        for (unsigned m = 0; m < RAM_FRAMES; m++) {
            if (frame_owner(&frames[m]) != d->id)
                continue;
            REQUIRE(!(frames[m].control & (FRAME_ALLOCATED | FRAME_SHARED)));
            REQUIRE(!TYPE_COUNT(frames[m].type) || !type_is_table(TYPE_OF(frames[m].type)));
        }
        for (unsigned i = 0; i < d->vcpu_count; i++) {
            const struct vcpu *v = d->vcpus[i];

            REQUIRE(!v->pv.kernel_root.n && !v->pv.user_root.n && !v->pv.held.kept && !v->pv.held.doomed);
            REQUIRE(v->info == &v->no_info && mfn_eq(v->info_mfn, INVALID_MFN));
        }
        REQUIRE(!d->pv.held.kept && !d->pv.held.doomed && !d->claimed_pages);
    }
    domain_put(d);
    return rc;
}

static void end_domain(unsigned n)
{
    struct domain *d = &doms[n];

    self = n * 2;
    for (unsigned m = 0; m < RAM_FRAMES; m++)
        if (frame_owner(&frames[m]) == d->id && (frames[m].type & TYPE_PINNED) && TYPE_COUNT(frames[m].type))
            REQUIRE(mmuext(MMUEXT_UNPIN_TABLE, m) == 0);
    for (unsigned i = 0; i < 2; i++) {
        REQUIRE(mmu_release_vcpu(d->vcpus[i]));
        REQUIRE(!d->vcpus[i]->pv.held.kept && !d->vcpus[i]->pv.held.doomed);
    }
    REQUIRE(mmu_release_tables(d)); /* left by others who did not come back */
}

/* Ends both domains; every frame must come back. */
static void end_machine(void)
{
    preempt = NULL;
    between_slices = NULL;
    in_flush = NULL;
    bad_after = pages_left = ~0U;
    self = 0;
    run_softirqs();
    if (listed[1] && doms[1].dying) /* or is a shell already */
        REQUIRE(destroy_step(&doms[1]) == 0);
    for (unsigned i = 0; i < 2; i++)
        if (listed[i] && !doms[i].dying)
            end_domain(i);
    run_softirqs();
    check_all();
    for (unsigned m = DOMAIN_FIRST; m < POOL_FIRST; m++) {
        struct domain *d = domain_owner_of_frame(frame_owner(&frames[m]));

        if (d && (frames[m].control & FRAME_ALLOCATED))
            REQUIRE(frame_release(MFN(m), d));
        REQUIRE(frame_owner(&frames[m]) == DOMID_FREE);
    }
    for (unsigned m = SHARED_RW; m <= SHARED_RO; m++)
        if (frames[m].control & FRAME_SHARED)
            REQUIRE(frame_unshare(MFN(m)) == 0);
    for (unsigned i = 0; i < 2; i++) {
        if (listed[i])
            REQUIRE(frame_unshare(MFN(SHARED_INFO_OF(i))) == 0);
        REQUIRE(listed[i] == !doms[i].dying && doms[i].refs == (listed[i] ? 2 : 0) && !doms[i].tot_pages);
    }
    REQUIRE(frames[M2P_FRAME].control == (1 | (uint64_t)DOMID_CROFT << 32));
    check_all();
    REQUIRE(live_pages == 0);
    free(ram);
    ram = NULL;
}

/* hvm/pod.c: the page for a cache that a test has, if it is as the domain's pages are when they come; who was crashed */
static mfn_t page_for_cache;
static struct domain *crashed_domain;
mfn_t alloc_domain_frames(struct domain *d, unsigned order, unsigned node)
{
    mfn_t m = page_for_cache;

    page_for_cache = MFN(0);
    return m.n && !order ? m : INVALID_MFN;
}
void domain_crash(struct domain *d, const char *fmt, ...) { crashed_domain = d; }

/* hvm/hvm.c: a domain with nested page tables, but no vcpu that runs */
void vlapic_destroy(struct vcpu *v) {}
void hvm_destroy_domain(struct domain *d)
{
    p2m_destroy(d);
    heap_free(d->hvm);
    d->hvm = NULL;
}

#endif
