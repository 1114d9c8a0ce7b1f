#define _GNU_SOURCE
/* The machine around the event channel code, for test_event.c and test_event_fifo.c. */
#ifndef FAKE_EVENT_H
#define FAKE_EVENT_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "fake_hvm.h"

#include "domain/event_private.h"
#include "domain/guest_access.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"
#include "memory/alloc.h"
#include "memory/map.h"
#include "platform/irq.h"

/* ---- CPUs ---- */
static __thread struct percpu fake_cpu;
struct percpu *this_cpu(void) { return &fake_cpu; }

/* ---- Log ---- */
static unsigned refusals;
void log_print(enum log_level level, const char *fmt, ...) {}
void guest_log(enum log_level level, const char *fmt, ...) { refusals += level == LOG_WARNING; }
void panic(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    abort();
}

/* ---- Memory: heap with an optional failure, and pages that belong to domains ---- */
static int heap_left = -1; /* allocations until they fail; negative: never */
/* What another CPU does meanwhile, once */
static void (*while_allocating)(void);
void *heap_alloc(size_t size)
{
    void (*other)(void) = while_allocating;

    while_allocating = NULL;
    if (other)
        other();
    if (heap_left == 0)
        return NULL;
    if (heap_left > 0)
        heap_left--;
    return calloc(1, size);
}
void heap_free(void *p) { free(p); }

#define FAKE_PAGES 512
#define FIRST_MFN 0x1000UL
struct fake_page {
    uint8_t bytes[PAGE_SIZE];
};
static struct fake_page *fake_memory;
static const struct domain *page_owner[FAKE_PAGES];
static int page_refs[FAKE_PAGES];

void *mfn_to_virt(mfn_t m) { return fake_memory[m.n - FIRST_MFN].bytes; }
bool frame_get_writable(mfn_t m, const struct domain *d)
{
    if (m.n < FIRST_MFN || m.n >= FIRST_MFN + FAKE_PAGES || page_owner[m.n - FIRST_MFN] != d)
        return false;
    page_refs[m.n - FIRST_MFN]++;
    return true;
}
void frame_put_writable(mfn_t m)
{
    assert_true(page_refs[m.n - FIRST_MFN] > 0);
    page_refs[m.n - FIRST_MFN]--;
}
static int all_page_refs(void)
{
    int n = 0;

    for (unsigned i = 0; i < FAKE_PAGES; i++)
        n += page_refs[i];
    return n;
}
static mfn_t give_page(const struct domain *d)
{
    for (unsigned i = 0; i < FAKE_PAGES; i++) {
        if (!page_owner[i]) {
            page_owner[i] = d;
            memset(fake_memory[i].bytes, 0, PAGE_SIZE);
            return MFN(FIRST_MFN + i);
        }
    }
    fail_msg("no page left");
    return INVALID_MFN;
}

static const char bad_pointer[1];
size_t copy_from_guest(void *to, const void *guest, size_t n)
{
    if (guest == bad_pointer)
        return n;
    memcpy(to, guest, n);
    return 0;
}
static bool copy_out_fails;
size_t copy_to_guest(void *guest, const void *from, size_t n)
{
    if (guest == bad_pointer || copy_out_fails)
        return n;
    memcpy(guest, from, n);
    return 0;
}

/* ---- Domains ---- */
struct list domain_list;
spinlock_t domain_list_lock;
static struct domain *fake_domains[8];

bool domain_get(struct domain *d)
{
    __atomic_fetch_add(&d->refs, 1, __ATOMIC_SEQ_CST);
    return true;
}
void domain_put(struct domain *d) { assert_true(__atomic_fetch_sub(&d->refs, 1, __ATOMIC_SEQ_CST) > 1); }
struct domain *domain_get_by_id(domid_t id)
{
    struct domain *d = id == DOMID_SELF ? current->domain : id < ARRAY_SIZE(fake_domains) ? fake_domains[id] : NULL;

    if (d)
        domain_get(d);
    return d;
}
static struct domain *make_domain(domid_t id, unsigned vcpus)
{
    struct domain *d = calloc(1, sizeof(*d));

    d->id = id;
    d->refs = 1;
    snprintf(d->name, sizeof(d->name), "d%u", id);
    d->vcpu_count = vcpus;
    d->shared_info = calloc(1, PAGE_SIZE);
    assert_int_equal(event_init_domain(d), 0);
    for (unsigned i = 0; i < vcpus; i++) {
        struct vcpu *v = d->vcpus[i] = calloc(1, sizeof(*v));

        v->domain = d;
        v->id = i;
        v->info = i < XEN_LEGACY_MAX_VCPUS ? &d->shared_info->vcpu_info[i] : &v->no_info;
        v->info->evtchn_upcall_mask = 1;
        event_init_vcpu(v);
    }
    list_add_tail(&domain_list, &d->list);
    fake_domains[id] = d;
    return d;
}
static void free_domain(struct domain *d)
{
    while (!event_release_domain(d))
        ;
    event_destroy_domain(d);
    for (unsigned i = 0; i < FAKE_PAGES; i++)
        if (page_owner[i] == d)
            page_owner[i] = NULL;
    list_remove(&d->list);
    fake_domains[d->id] = NULL;
    assert_int_equal(d->refs, 1);
    for (unsigned i = 0; i < d->vcpu_count; i++)
        free(d->vcpus[i]);
    free(d->shared_info);
    free(d);
}
static int setup_machine(void **state)
{
    fake_memory = calloc(FAKE_PAGES, sizeof(*fake_memory));
    memset(page_owner, 0, sizeof(page_owner));
    memset(page_refs, 0, sizeof(page_refs));
    list_init(&domain_list);
    heap_left = -1;
    copy_out_fails = false;
    return 0;
}
static int end_machine(void **state)
{
    for (unsigned i = 0; i < ARRAY_SIZE(fake_domains); i++)
        if (fake_domains[i])
            free_domain(fake_domains[i]);
    assert_int_equal(all_page_refs(), 0);
    free(fake_memory);
    return 0;
}

/* ---- Scheduler ---- */
static unsigned kicks;
void vcpu_unblock(struct vcpu *v)
{
    clear_bit(v->id, v->domain->event.pollers);
    v->blocked = false;
}
void vcpu_kick(struct vcpu *v)
{
    __atomic_fetch_add(&kicks, 1, __ATOMIC_RELAXED);
    vcpu_unblock(v);
}

/* ---- Hypercalls ---- */
#define CONTINUED 0x7777L
static bool preempt;
bool hypercall_preempt_check(void) { return preempt; }
long hypercall_continue(uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5) { return CONTINUED; }

/* ---- Interrupts: none of these may be called with the event lock held ---- */
static unsigned pirq_eois, pirq_binds, pirq_unbinds, pirq_affinity;
static int pirq_bind_result;
static void (*in_pirq_bind)(struct domain *d, unsigned pirq);
int pirq_guest_bind(struct domain *d, unsigned pirq, bool share)
{
    assert_false(spin_is_locked(&d->event.lock));
    if (in_pirq_bind)
        in_pirq_bind(d, pirq);
    pirq_binds++;
    return pirq_bind_result;
}
void pirq_guest_unbind(struct domain *d, unsigned pirq)
{
    assert_false(spin_is_locked(&d->event.lock));
    pirq_unbinds++;
}
void pirq_guest_set_affinity(struct domain *d, unsigned pirq, unsigned vcpu)
{
    assert_false(spin_is_locked(&d->event.lock));
    pirq_affinity = vcpu;
}
static unsigned console_kicks;
void guest_console_kick(struct domain *d) { console_kicks++; }
void pirq_guest_eoi(struct domain *d, unsigned pirq)
{
    assert_false(spin_is_locked(&d->event.lock));
    pirq_eois++;
}

/* ---- Calls as a guest makes them ---- */
static void act_as(struct vcpu *v) { current = v; }
static long op(unsigned cmd, void *arg) { return hypercall_event_channel_op(cmd, (uint64_t)arg, 0, 0, 0); }
static uint32_t bind_ipi(unsigned vcpu)
{
    struct evtchn_bind_ipi a = {.vcpu = vcpu};

    assert_int_equal(op(EVTCHNOP_bind_ipi, &a), 0);
    return a.port;
}
static uint32_t alloc_unbound(domid_t remote)
{
    struct evtchn_alloc_unbound a = {.dom = DOMID_SELF, .remote_dom = remote};

    assert_int_equal(op(EVTCHNOP_alloc_unbound, &a), 0);
    return a.port;
}
static uint32_t bind_interdomain(domid_t remote, uint32_t port)
{
    struct evtchn_bind_interdomain a = {.remote_dom = remote, .remote_port = port};

    assert_int_equal(op(EVTCHNOP_bind_interdomain, &a), 0);
    return a.local_port;
}
static long send_port(uint32_t port) { return op(EVTCHNOP_send, &(struct evtchn_send){port}); }
static long close_port(uint32_t port) { return op(EVTCHNOP_close, &(struct evtchn_close){port}); }
static long unmask_port(uint32_t port) { return op(EVTCHNOP_unmask, &(struct evtchn_unmask){port}); }

#endif
