/*
 * Domains and their virtual CPUs.
 * A domain lives while it has references (domain_get/put): the list itself holds one. Locks: domain_list_lock for the
 * list; d->lock for life-cycle changes; d->mm_lock for page-table types (memory/frame.h); others in their modules.
 */
#ifndef DOMAIN_DOMAIN_H
#define DOMAIN_DOMAIN_H

#include "cpu/percpu.h"
#include "domain/event.h"
#include "lib/list.h"
#include "memory/frame.h"
#include "pv/pv.h"
#include "sched/sched.h"

#define DOMID_IDLE_VCPUS 0x7fffU /* the domain of the idle vcpus */
#define MAX_VCPUS 128            /* a domain; more than NR_CPUS is allowed */

struct grant_table;
struct fpu_state;

struct vcpu {
    struct cpu_user_regs regs; /* the guest's registers while it is not current; else percpu->guest_regs */
    struct domain *domain;
    uint32_t id;
    uint32_t processor;       /* CPU whose run queue it belongs to */
    struct vcpu_info *info;   /* Croft's address of it: in shared_info, or where the guest registered it; never null */
    struct vcpu_info no_info; /* stands in while a vcpu above XEN_LEGACY_MAX_VCPUS has none */
    mfn_t info_mfn;           /* frame held for it, or INVALID_MFN */

    /* Why it does not run; runnable when all are clear */
    volatile bool blocked; /* waits for an event */
    volatile bool down;    /* VCPUOP_down, or not yet brought up */
    volatile int pause_count;
    bool initialised; /* has a context */
    bool is_idle;
    bool polling;

    struct sched_vcpu sched;
    struct event_vcpu event;
    struct pv_vcpu pv;

    struct timer singleshot, periodic;
    ns_t periodic_period, periodic_last;
    uint64_t runstate_guest;  /* guest virtual address of the registered runstate area, or 0 */
    uint64_t time_info_guest; /* registered secondary vcpu_time_info, or 0 */
    struct vcpu_time_info time_info;
    struct fpu_state *fpu;
    uint64_t stats_hypercalls, stats_exceptions;
};

struct domain {
    struct list list; /* in domain_list, ordered by id */
    domid_t id;
    volatile int refs;
    spinlock_t lock;
    bool is_privileged; /* domain 0 */
    bool is_hardware;   /* owns the platform's devices */
    volatile bool dying, shut_down, crashed;
    int shutdown_reason;
    const char *crash_reason;
    xen_domain_handle_t handle;
    char name[16]; /* for the log: "d0" */

    struct shared_info *shared_info; /* Croft's address */
    uint32_t vcpu_count;             /* size of vcpus[] */
    struct vcpu *vcpus[MAX_VCPUS];
    volatile int pause_count;

    /* Memory */
    spinlock_t mm_lock; /* page-table types of this domain's frames */
    spinlock_t page_list_lock;
    uint32_t page_list; /* first owned frame, 0: none (linked by frame->next/prev) */
    uint64_t tot_pages, max_pages;
    cpumask_t dirty_cpus; /* CPUs that may hold translations of it */
    uint32_t vm_assist;   /* bits of VMASST_TYPE_* */
    uint64_t p2m_max_pfn;
    unsigned node;

    struct event_domain event;
    struct grant_table *grant;
    struct pv_domain pv;
    struct irq_domain *irq; /* PIRQs: platform/pirq.h */

    int64_t time_offset_seconds;
    ns_t watchdog_expires[2];
    struct timer watchdog[2];
    uint64_t guest_log_tokens;
    ns_t guest_log_refill; /* rate limit of guest_log */
};

extern struct domain *domain0, *idle_domain;
extern struct list domain_list;
extern spinlock_t domain_list_lock;

void domains_init(void);
struct domain *domain_create(domid_t id, unsigned max_vcpus, uint64_t max_pages); /* null: no memory or id in use */
struct vcpu *vcpu_create(struct domain *d, unsigned id, unsigned cpu);            /* null: no memory */
struct domain *domain_get_by_id(domid_t id); /* takes a reference; null if there is none; DOMID_SELF is current's */
struct domain *domain_owner_of_frame(domid_t id); /* without a reference: the caller holds a frame of it */
bool domain_get(struct domain *d);
void domain_put(struct domain *d);
/* The guest broke its own world: first reason wins; its vcpus stop; for domain 0 the machine reboots or halts. Any context. */
void domain_crash(struct domain *d, const char *fmt, ...) __printf(2, 3);
void domain_shutdown(struct domain *d, int reason); /* SHUTDOWN_* */
void domain_key_report(void);
void domain0_registers_report(void);
struct vcpu *idle_vcpu_create(unsigned cpu); /* null: no memory */

static inline struct vcpu *domain_vcpu(const struct domain *d, unsigned id)
{
    return id < d->vcpu_count ? d->vcpus[id] : NULL;
}
static inline bool vcpu_runnable(const struct vcpu *v)
{
    return !v->blocked && !v->down && !v->pause_count && !v->domain->pause_count;
}
#define for_each_vcpu(d, v)                                                                                            \
    for (unsigned i_ = 0; i_ < (d)->vcpu_count; i_++)                                                                  \
        if (((v) = (d)->vcpus[i_]) != NULL)

/* A domain whose mm_lock is held; functions that need the lock ask for one. */
struct domain_locked {
    struct domain *d;
};
static inline struct domain_locked domain_mm_lock(struct domain *d)
{
    spin_lock(&d->mm_lock);
    return (struct domain_locked){d};
}
static inline void domain_mm_unlock(struct domain_locked l) { spin_unlock(&l.d->mm_lock); }

#endif
