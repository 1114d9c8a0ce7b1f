/*
 * The machine of fuzz_calls.c: a few hundred frames of RAM in the real page allocator, three domains of two vcpus, each vcpu on a
 * CPU of its own. All that a guest's calls reach is Croft's own code; here is what is below it (memory, TLBs, scheduler).
 */
#ifndef FUZZ_MACHINE_H
#define FUZZ_MACHINE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/fake_hvm.h"

#include "boot/boot.h"
#include "cpu/cpu.h"
#include "cpu/fpu.h"
#include "cpu/smp.h"
#include "cpu/softirq.h"
#include "cpu/tlb.h"
#include "domain/event_private.h"
#include "domain/grant_private.h"
#include "domain/guest_access.h"
#include "hypercall/dispatch.h"
#include "hypercall/memory.h"
#include "lib/log.h"
#include "memory/alloc.h"
#include "memory/map.h"
#include "platform/acpi.h"
#include "platform/irq.h"
#include "pv/cpu_policy.h"
#include "pv/descriptor.h"
#include "pv/io_memory.h"
#include "pv/mmu.h"
#include "pv/mmu_types.h"

static unsigned long operations, audits;
static const char *doing = "start"; /* the operation, for the message */

#define REQUIRE(c)                                                                                                     \
    do {                                                                                                               \
        if (!(c)) {                                                                                                    \
            fprintf(stderr, "%s:%d: %s (in %s, d%u)\n", __FILE__, __LINE__, #c, doing, self / 2 + 1);                  \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

#define DOMS 3
#define CPUS (2 * DOMS)
#define CROFT_FRAMES 16 /* Croft's own, never given out */
#define RAM_FIRST 256   /* the allocator's: one block */
#define RAM_END 512     /* so that frame numbers are RAM_FIRST plus a byte */
#define RAM_COUNT (RAM_END - RAM_FIRST)
#define HOLE_L3 1 /* Croft's table in each hypervisor slot */
#define IO_MFN 0x100000UL
#define IO_COUNT 16
#define MAX_PAGES 48 /* of a domain: there is room for all three, their grant tables and the audit */
#define FIRST_FRAMES 26
#define MAX_PORTS 24

typedef uint64_t page_table[512];
static page_table ram[RAM_END] __attribute__((aligned(4096)));
static struct frame frames[RAM_END];
static uint64_t m2p[RAM_END];
static unsigned self; /* the CPU that runs */
static struct percpu cpus[CPUS];
static struct domain doms[DOMS];
static struct vcpu vcpus[CPUS];
static bool listed[DOMS], runs[CPUS];

uint64_t host_l4[512];
struct boot_info boot_info;
struct acpi_info acpi_info;
struct list domain_list;
spinlock_t domain_list_lock, domain_work_lock;
struct domain *domain0;
cpumask_t cpu_online;
volatile uint64_t tlb_clock;

/* ---- Memory ---- */

bool mfn_valid(mfn_t m) { return m.n < CROFT_FRAMES || (m.n >= RAM_FIRST && m.n < RAM_END); }
struct frame *frame_of(mfn_t m)
{
    static struct frame none; /* some name the frame in a message before they know that there is one */

    return m.n < RAM_END ? &frames[m.n] : &none;
}
mfn_t mfn_of(const struct frame *f) { return MFN((uint64_t)(f - frames)); }
void *mfn_to_virt(mfn_t m)
{
    REQUIRE(mfn_valid(m));
    return ram[m.n];
}
mfn_t virt_to_mfn(const void *p) { return MFN((uint64_t)((const page_table *)p - ram)); }
maddr_t virt_to_maddr(const void *p) { return MADDR((uint64_t)((const char *)p - (const char *)ram)); }
uint64_t m2p_read(mfn_t m) { return m2p[m.n]; }
void m2p_write(mfn_t m, uint64_t gpfn)
{
    REQUIRE(mfn_valid(m));
    m2p[m.n] = gpfn;
}
enum io_access io_frame_access(mfn_t m) { return m.n - IO_MFN < IO_COUNT ? IO_FULL : IO_NONE; }
unsigned acpi_node_of_maddr(maddr_t a) { return 0; }
void *heap_alloc(size_t size) { return calloc(1, size); }
void heap_free(void *p)
{
    bool fixed = ((uintptr_t)p - (uintptr_t)doms < sizeof(doms)) || ((uintptr_t)p - (uintptr_t)vcpus < sizeof(vcpus));

    if (!fixed)
        free(p);
}

/* ---- Log ---- */

static bool verbose;
void log_print(enum log_level level, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    if (level == LOG_ERROR)
        vfprintf(stderr, fmt, ap);
    va_end(ap);
}
void guest_log(enum log_level level, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    if (verbose)
        vfprintf(stderr, fmt, ap);
    va_end(ap);
}
void panic(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    REQUIRE(!"panic");
    __builtin_unreachable();
}

/* ---- Translations: what each CPU may still hold, a bit a frame. A dead domain's vcpus load nothing any more. ---- */

#define WORDS (RAM_COUNT / 64)
struct reach {
    uint64_t read[WORDS], write[WORDS], walk[WORDS];
};
static struct reach tlb[CPUS], reached[RAM_END];
static unsigned reach_round, reached_in[RAM_END];

static void bit_set(uint64_t *bits, uint64_t m) { bits[(m - RAM_FIRST) / 64] |= 1UL << m % 64; }
static bool bit_get(const uint64_t *bits, uint64_t m) { return bits[(m - RAM_FIRST) / 64] >> m % 64 & 1; }
static bool is_ram(uint64_t m) { return m >= RAM_FIRST && m < RAM_END; }
static void reach_add(struct reach *to, const struct reach *r)
{
    for (unsigned i = 0; i < WORDS; i++) {
        to->read[i] |= r->read[i];
        to->write[i] |= r->write[i];
        to->walk[i] |= r->walk[i];
    }
}

/* The first entry from i on that is in a group of eight with anything in it. */
static unsigned next_entry(const uint64_t *t, unsigned i)
{
    while (i < 512 && !(i & 7) && !(t[i] | t[i + 1] | t[i + 2] | t[i + 3] | t[i + 4] | t[i + 5] | t[i + 6] | t[i + 7]))
        i += 8;
    return i;
}
#define for_each_entry(t, i)                                                                                           \
    for (unsigned i = next_entry(t, 0); i < 512; i = next_entry(t, i + 1))                                             \
        if ((t)[i] & PTE_PRESENT)

/* What the processor finds from a table, whatever the frames' types are. */
static const struct reach *walk(uint64_t m, unsigned level)
{
    struct reach *r = &reached[m];

    if (reached_in[m] == reach_round)
        return r;
    reached_in[m] = reach_round;
    memset(r, 0, sizeof(*r));
    bit_set(r->walk, m);
    for_each_entry(ram[m], i)
    {
        uint64_t e = ram[m][i], to = pte_mfn(e).n;

        if (!is_ram(to) || (level == 4 && l4_slot_is_ours(i)))
            continue;
        if (level > 1) {
            reach_add(r, walk(to, level - 1));
        } else {
            bit_set(r->read, to);
            if (e & PTE_WRITE)
                bit_set(r->write, to);
        }
    }
    return r;
}
static void tlb_load(unsigned cpu)
{
    const struct pv_vcpu *pv = &vcpus[cpu].pv;

    if (runs[cpu] && pv->kernel_root.n)
        reach_add(&tlb[cpu], walk(pv->kernel_root.n, 4));
    if (runs[cpu] && pv->user_root.n)
        reach_add(&tlb[cpu], walk(pv->user_root.n, 4));
}
static void flush_cpu(unsigned cpu)
{
    uint64_t time = ++tlb_clock;

    memset(&tlb[cpu], 0, sizeof(tlb[cpu]));
    reach_round++;
    tlb_load(cpu);
    cpus[cpu].tlb_time = time;
}
void tlb_flush_local(void) { flush_cpu(self); }
void tlb_load_cr3(uint64_t cr3) { flush_cpu(self); }
void tlb_flush_mask(const cpumask_t *mask)
{
    unsigned cpu;

    for_each_cpu (cpu, mask)
        flush_cpu(cpu);
}
void tlb_flush_page_mask(const cpumask_t *mask, unsigned long va) {}
/* hvm/p2m.c: guests with nested page tables do not run here, so nobody has to leave one. */
struct cpu_features cpu_features;
void smp_call(const cpumask_t *mask, void (*fn)(void *), void *arg) {}
void tlb_flush_since_slow(const cpumask_t *mask, uint64_t stamp)
{
    unsigned cpu;

    for_each_cpu (cpu, mask)
        if (cpus[cpu].tlb_time <= stamp)
            flush_cpu(cpu);
}

/* ---- Domains ---- */

struct percpu *this_cpu(void) { return &cpus[self]; }
struct domain *domain_owner_of_frame(domid_t id)
{
    return id >= 1 && id <= DOMS && listed[id - 1] ? &doms[id - 1] : NULL;
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
    d->refs += d->refs > 0;
    return d->refs > 0;
}
void domain_put(struct domain *d)
{
    REQUIRE(d->refs > 0);
    if (!--d->refs)
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
    for (; i < DOMS; i++)
        if (listed[i] && domain_get(&doms[i]))
            return &doms[i];
    return NULL;
}
static void (*free_dead_domains)(void);
void softirq_register(enum softirq nr, void (*handler)(void)) { free_dead_domains = handler; }
static void run_softirqs(void)
{
    for (unsigned cpu = 0; cpu < CPUS; cpu++) {
        bool pending = cpus[cpu].softirq_pending & 1U << SOFTIRQ_DOMAIN;

        cpus[cpu].softirq_pending = 0;
        if (pending)
            free_dead_domains();
    }
}
void sched_remove_vcpu(struct vcpu *v) { runs[v - vcpus] = false; }
void sched_remove_domain(struct domain *d) {}
int pool_move_domain(struct domain *d, uint32_t id) { return 0; }
void domain_pause(struct domain *d) { d->pause_count++; }
void domain_unpause(struct domain *d) { d->pause_count--; }
void vcpu_kick(struct vcpu *v) {}
void vcpu_unblock(struct vcpu *v) {}
int pirq_guest_bind(struct domain *d, unsigned pirq, bool share) { return -EINVAL; }
void pirq_guest_unbind(struct domain *d, unsigned pirq) {}
void pirq_guest_set_affinity(struct domain *d, unsigned pirq, unsigned vcpu) {}
void pirq_guest_eoi(struct domain *d, unsigned pirq) {}
void time_move_shared_info(struct domain *d, struct shared_info *to) { d->shared_info = to; }
void guest_console_destroy(struct domain *d) {}
void restart_look(void) {}
void guest_console_kick(struct domain *d) {}
void cpu_policy_destroy(struct domain *d) {}
void fpu_free(struct vcpu *v) {}
void descriptor_window_free(void *window) {}
void descriptor_flush_ldt(struct vcpu *v) {}
void descriptor_release(struct vcpu *v) {}
int descriptor_set_ldt(struct vcpu *v, unsigned long base, unsigned entries) { return 0; }
static bool is_system_descriptor(uint64_t e) { return (e >> 47 & 1) && !(e >> 44 & 1); }
bool descriptor_validate_page(struct domain *d, uint64_t *page)
{
    for (unsigned i = 0; i < 512; i++)
        if (is_system_descriptor(page[i]))
            return false;
    return true;
}

/* ---- Calls: guest memory is the host's ---- */

size_t copy_from_guest(void *to, const void *guest, size_t n)
{
    if (!guest)
        return n;
    memcpy(to, guest, n);
    return 0;
}
size_t copy_to_guest(void *guest, const void *from, size_t n)
{
    if (!guest)
        return n;
    memcpy(guest, from, n);
    return 0;
}

#define CONTINUED 0x777777L
static uint64_t continued[5];
static unsigned preempt_every, preempt_count; /* 0: never */
bool hypercall_preempt_check(void) { return preempt_every && ++preempt_count % preempt_every == 0; }
long hypercall_continue(uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
    const uint64_t a[5] = {a1, a2, a3, a4, a5};

    memcpy(continued, a, sizeof(a));
    return CONTINUED;
}
static long hypercall(hypercall_handler_t *call, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4)
{
    long rc = call(a1, a2, a3, a4, 0);

    for (unsigned slices = 0; rc == CONTINUED; slices++) {
        REQUIRE(slices < 10000);
        rc = call(continued[0], continued[1], continued[2], continued[3], continued[4]);
    }
    return rc;
}

/* ---- Start and end ---- */

#define RW (PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_ACCESSED | PTE_DIRTY)
#define RO (PTE_PRESENT | PTE_USER | PTE_ACCESSED)
static uint64_t entry(uint64_t m, uint64_t flags) { return m << PAGE_SHIFT | flags; }

/* A domain as the tools leave it: the first four of its frames are page tables, which map the rest of them writable. */
static void start_domain(unsigned n, uint64_t *root)
{
    struct domain *d = &doms[n];
    uint64_t m[FIRST_FRAMES];

    memset(d, 0, sizeof(*d));
    d->id = (domid_t)(n + 1);
    d->vcpu_count = 2;
    d->refs = 2; /* its life, its frames */
    d->max_pages = MAX_PAGES;
    d->shared_info = alloc_pages(0);
    frame_share(virt_to_mfn(d->shared_info), d, true);
    list_add_tail(&domain_list, &d->list);
    listed[n] = true;
    d->pv.leaf_refused = PTE_CACHE_L1;
    REQUIRE(event_init_domain(d) == 0 && grant_init_domain(d, 2, 1, 1) == 0);
    event_set_limit(d, MAX_PORTS);
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
        event_init_vcpu(v);
        cpumask_set(cpu, &d->dirty_cpus);
        cpus[cpu].current_vcpu = v;
        runs[cpu] = true;
    }
    for (unsigned i = 0; i < FIRST_FRAMES; i++) {
        m[i] = alloc_domain_frames(d, 0, NODE_ANY).n;
        REQUIRE(is_ram(m[i]));
        if (i >= 4)
            ram[m[3]][i - 4] = entry(m[i], RW);
    }
    for (unsigned i = 0; i < 3; i++)
        ram[m[i]][0] = entry(m[i + 1], RW);
    int rc;

    while ((rc = mmu_set_initial_root(d->vcpus[0], MFN(m[0]))) == -ERESTART)
        ;
    REQUIRE(rc == 0 && mmu_set_roots(d->vcpus[1], MFN(m[0]), MFN(0)) == 0);
    *root = m[0];
}

static void start_machine(void)
{
    static bool begun;

    memset(cpus, 0, sizeof(cpus));
    memset(tlb, 0, sizeof(tlb));
    memset(runs, 0, sizeof(runs));
    memset(vcpus, 0, sizeof(vcpus));
    memset(m2p, 0xff, sizeof(m2p)); /* as at boot: M2P_INVALID */
    list_init(&domain_list);
    domain_free_init();
    domain0 = &doms[0];
    self = preempt_every = preempt_count = 0;
    tlb_clock = 1;
    cpu_online.bits[0] = (1UL << CPUS) - 1;
    for (unsigned i = 0; i < CPUS; i++) {
        cpus[i].id = i;
        cpus[i].current_vcpu = &vcpus[i];
    }
    for (unsigned i = 0; i < HOLE_L4_COUNT; i++)
        host_l4[HOLE_L4_FIRST + i] = entry(HOLE_L3, PTE_PRESENT | PTE_WRITE);
    if (!begun) {
        max_frame = RAM_END;
        for (unsigned m = 0; m < RAM_END; m++)
            frames[m].control = 1 | (uint64_t)DOMID_CROFT << 32;
        alloc_add_range(MFN(RAM_FIRST), RAM_COUNT, 0);
        begun = true;
    }
    for (unsigned m = 0; m < RAM_END; m++)
        frames[m].tlb_stamp = 0;
    REQUIRE(alloc_free_count() == RAM_COUNT); /* one block: each run begins in the same state */
}

void domain_crash(struct domain *d, const char *fmt, ...) { abort(); } /* hvm/pod.c: of no domain here */

/* hvm/hvm.c: a domain with nested page tables, but no vcpu that runs */
void vlapic_destroy(struct vcpu *v) {}
void hvm_destroy_domain(struct domain *d)
{
    p2m_destroy(d);
    heap_free(d->hvm);
    d->hvm = NULL;
}

#endif
