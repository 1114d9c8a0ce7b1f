/* Trace buffers: which there are, who reads them, what is recorded. See cpu/trace.h; one buffer's rules are in cpu/trace_ring.h. */
#include "cpu/trace.h"

#include "cpu/instr.h"
#include "cpu/softirq.h"
#include "cpu/trace_ring.h"
#include "domain/domain.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"
#include "lib/spinlock.h"
#include "memory/alloc.h"
#include "memory/map.h"

bool trace_on;

static uint32_t event_mask = TRC_ALL;
static cpumask_t traced_cpus = {{[0 ... ARRAY_SIZE(((cpumask_t *)NULL)->bits) - 1] = ~0UL}};
static unsigned session; /* how often tracing was switched on */

static struct cpu_trace {
    struct trace_ring ring;
    unsigned session; /* of the last record */
    bool complained;  /* about this session's reader */
} __aligned(64) cpus[NR_CPUS];

static spinlock_t setup_lock; /* what follows, and changes of what is above */
static uint32_t buffer_pages;
static struct t_info *info; /* set last: the buffers are there */
static uint32_t info_bytes;

/* Where the first list of frames begins in t_info, in words; the lists' places are told in 16 bits. */
#define INFO_LISTS DIV_ROUND_UP(sizeof(struct t_info) + NR_CPUS * sizeof(uint16_t), sizeof(uint32_t))
_Static_assert(INFO_LISTS + (NR_CPUS - 1) * TRACE_PAGES_MAX <= 0xffff, "every list of frames can be found");

/* An event has bits for its class and for its kind within the class; the mask wants one of each. */
static bool wanted(uint32_t event)
{
    uint32_t both = event & event_mask;

    return (both & TRC_ALL) >> TRC_CLS_SHIFT && both >> TRC_SUBCLS_SHIFT & 15;
}

void trace_record(uint32_t event, const uint32_t *words, unsigned n)
{
    unsigned long flags;
    struct cpu_trace *c;

    if (!wanted(event))
        return;
    flags = irq_save();
    c = &cpus[cpu_id()];
    if (c->ring.shared && cpumask_test(cpu_id(), &traced_cpus)) {
        if (c->session != session) {
            c->session = session;
            c->ring.lost = 0; /* it was lost for somebody else */
            c->complained = false;
        }
        /* Not from here: the caller may hold locks that waking the reader takes. */
        if (trace_ring_write(&c->ring, event, rdtsc(), words, n) || unlikely(c->ring.bad_cons && !c->complained))
            softirq_raise(SOFTIRQ_TRACE);
    }
    irq_restore(flags);
}

static void tell_reader(void)
{
    struct cpu_trace *c = &cpus[cpu_id()];

    if (c->ring.bad_cons && !c->complained) {
        c->complained = true;
        log_warning(
            "trace: domain 0 says that it has read the buffer of CPU %u up to 0x%x, which cannot be: records are lost "
            "until it says something else\n",
            cpu_id(), READ_ONCE(c->ring.shared->cons));
    }
    event_send_global_virq(domain0, VIRQ_TBUF);
}

void trace_init(void)
{
    spin_lock_init(&setup_lock);
    softirq_register(SOFTIRQ_TRACE, tell_reader);
}

/* ----- set-up; setup_lock is held ----- */

static void drop_buffers(void)
{
    for (unsigned cpu = 0; cpu < NR_CPUS; cpu++) {
        if (cpus[cpu].ring.shared)
            free_frame_run(virt_to_mfn(cpus[cpu].ring.shared), buffer_pages);
        cpus[cpu].ring.shared = NULL;
    }
    buffer_pages = 0;
}

/* A buffer for each CPU that was ever started. */
static int make_buffers(void)
{
    bool progress = false;

    for (unsigned cpu = 0; cpu < NR_CPUS; cpu++) {
        mfn_t m;

        if (!percpu_of(cpu) || cpus[cpu].ring.shared)
            continue;
        if (progress && hypercall_preempt_check())
            return -ERESTART;
        m = alloc_frame_run(buffer_pages, percpu_of(cpu)->node);
        if (mfn_eq(m, INVALID_MFN))
            return -ENOMEM;
        trace_ring_init(&cpus[cpu].ring, mfn_to_virt(m), buffer_pages << PAGE_SHIFT);
        progress = true;
    }
    return 0;
}

static void share(mfn_t m, uint64_t count, bool writable)
{
    for (uint64_t i = 0; i < count; i++)
        frame_share(MFN(m.n + i), domain0, writable);
}

static int make_info(void)
{
    uint32_t lists = 0, next = INFO_LISTS, *words;
    struct t_info *t;
    mfn_t m;

    for (unsigned cpu = 0; cpu < NR_CPUS; cpu++)
        lists += cpus[cpu].ring.shared ? buffer_pages : 0;
    info_bytes = ROUND_UP((uint32_t)((INFO_LISTS + lists) * sizeof(uint32_t)), PAGE_SIZE);
    m = alloc_frame_run(info_bytes >> PAGE_SHIFT, NODE_ANY);
    if (mfn_eq(m, INVALID_MFN))
        return -ENOMEM;
    t = mfn_to_virt(m);
    words = (uint32_t *)t;
    t->tbuf_size = (uint16_t)buffer_pages;
    for (unsigned cpu = 0; cpu < NR_CPUS; cpu++) {
        mfn_t buffer;

        if (!cpus[cpu].ring.shared)
            continue;
        buffer = virt_to_mfn(cpus[cpu].ring.shared);
        t->mfn_offset[cpu] = (uint16_t)next;
        for (uint32_t i = 0; i < buffer_pages; i++)
            words[next++] = (uint32_t)(buffer.n + i);
        share(buffer, buffer_pages, true);
    }
    share(m, info_bytes >> PAGE_SHIFT, false);
    info = t;
    return 0;
}

static int set_size(uint32_t pages)
{
    int rc;

    if (buffer_pages && buffer_pages != pages)
        return refuse(-EBUSY, "trace buffers have %u pages for each CPU, and stay so\n", buffer_pages);
    if (info)
        return 0;
    buffer_pages = pages;
    rc = make_buffers();
    if (!rc)
        rc = make_info();
    if (rc == -ENOMEM) {
        drop_buffers();
        return refuse(rc, "trace buffers: no memory for %u pages in a row for each CPU\n", pages);
    }
    return rc;
}

int trace_set_size(uint32_t pages)
{
    int rc;

    if (!pages || pages > TRACE_PAGES_MAX)
        return refuse(-EINVAL, "trace buffers of %u pages; 1 to %u are possible\n", pages, TRACE_PAGES_MAX);
    spin_lock(&setup_lock);
    rc = set_size(pages);
    spin_unlock(&setup_lock);
    return rc;
}

/* The entry code asks nothing: it gets another table. */
static void choose_hypercall_table(void) { hypercall_set_traced(trace_on && wanted(TRC_PV_HYPERCALL_V2)); }

int trace_enable(bool on)
{
    int rc = 0;

    spin_lock(&setup_lock);
    if (on && !info) {
        rc = refuse(-EINVAL, "trace: there are no buffers yet\n");
    } else if (on != trace_on) {
        session += on;
        smp_wmb(); /* who sees that it is on sees the session and the buffers */
        WRITE_ONCE(trace_on, on);
        choose_hypercall_table();
    }
    spin_unlock(&setup_lock);
    return rc;
}

void trace_set_event_mask(uint32_t mask)
{
    spin_lock(&setup_lock);
    event_mask = mask;
    choose_hypercall_table();
    spin_unlock(&setup_lock);
}

void trace_set_cpu_mask(const cpumask_t *mask)
{
    spin_lock(&setup_lock);
    traced_cpus = *mask;
    spin_unlock(&setup_lock);
}

uint32_t trace_event_mask(void) { return event_mask; }

uint32_t trace_info(mfn_t *first)
{
    *first = info ? virt_to_mfn(info) : MFN(0);
    return info ? info_bytes : 0;
}
