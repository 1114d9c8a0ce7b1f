/*
 * Domains and their virtual CPUs.
 * A domain lives while it has references (domain_get/put): its life holds one, until domain_destroy has taken everything from
 * it, and its frames hold one, until the last of them is free: others may have mapped some. So the owner of a frame in use is
 * always there. With the last reference it leaves the list and is freed by a softirq (domain/domain_destroy.c).
 * Locks: domain_list_lock for the list; d->lock for life-cycle changes; d->mm_lock for page-table types (memory/frame.h);
 * others in their modules.
 */
#ifndef DOMAIN_DOMAIN_H
#define DOMAIN_DOMAIN_H

#include "cpu/percpu.h"
#include "domain/event.h"
#include "domain/grant.h"
#include "lib/list.h"
#include "lib/nospec.h"
#include "memory/frame.h"
#include "pv/pv.h"
#include "sched/sched.h"

#define DOMID_IDLE_VCPUS 0x7fffU /* the domain of the idle vcpus */
#define MAX_VCPUS 128            /* a domain; more than NR_CPUS is allowed */

struct cpu_policy;
struct fpu_state;
struct guest_console;
struct hvm_domain;
struct hvm_vcpu;

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

    struct sched_vcpu sched;
    struct event_vcpu event;
    struct pv_vcpu pv;
    struct hvm_vcpu *hvm; /* null: PV */

    struct timer singleshot, periodic, virtual_timer;
    ns_t periodic_period, periodic_last;
    ns_t virtual_at;          /* the run time at which virtual_timer fires, or 0 */
    uint64_t runstate_guest;  /* guest virtual address of the registered runstate area, or 0 */
    uint64_t time_info_guest; /* registered secondary vcpu_time_info, or 0 */
    struct vcpu_time_info time_info;
    struct fpu_state *fpu;
    uint64_t stats_hypercalls, stats_exceptions;
};

struct domain {
    struct list list; /* in domain_list, ordered by id */
    domid_t id;
    uint64_t serial; /* its own for ever, unlike the id; from 1 */
    volatile int refs;
    spinlock_t lock;
    bool is_privileged;  /* domain 0 */
    bool is_hardware;    /* owns the platform's devices */
    volatile bool dying; /* being taken down: gets no more frames, channels, mappings. Never cleared */
    volatile bool shut_down, crashed;
    bool started;           /* was unpaused once: what is decided before a domain runs (CPU policy) is fixed */
    volatile bool building; /* by Croft: others do not find it by its number yet */
    bool from_modules;      /* domain/restart.c looks after it when it ends */
    int shutdown_reason;
    char crash_reason[96];
    xen_domain_handle_t handle;
    char name[16]; /* for the log: "d0" */

    struct shared_info *shared_info; /* Croft's address; never null */
    uint32_t vcpu_count;             /* size of vcpus[] */
    struct vcpu *vcpus[MAX_VCPUS];
    volatile int pause_count;
    bool paused_for_audit; /* memory/audit.c */
    bool paused_by_tools;  /* XEN_DOMCTL_pausedomain; under lock */
    int teardown_step;     /* domain_destroy: what is done; used by whoever has 'teardown_busy' */
    volatile bool teardown_busy;
    struct domain *next_dead; /* domain_destroy.c */

    /* Memory */
    spinlock_t mm_lock; /* page-table types of this domain's frames */
    spinlock_t page_list_lock;
    uint32_t page_list;       /* first owned frame, 0: none (linked by frame->next/prev) */
    uint32_t released_list;   /* while dying: owned frames that were given back, but are in use by others */
    bool put_with_last_frame; /* the frames' reference to the domain goes when tot_pages gets to 0 */
    uint64_t tot_pages, max_pages;
    uint64_t claimed_pages; /* XENMEM_claim_pages: promised, not yet allocated; memory/alloc.c */
    cpumask_t dirty_cpus;   /* CPUs that may hold translations of it */
    uint64_t vm_assist;     /* bits of VMASST_TYPE_* */
    uint64_t p2m_max_pfn;
    unsigned node;

    struct event_domain event;
    struct grant_table grant;
    struct pv_domain pv;
    struct hvm_domain *hvm;        /* null: PV */
    struct irq_domain *irq;        /* PIRQs: platform/pirq.h; null: it has no devices */
    struct memory_map *memory_map; /* XENMEM_set_memory_map: hypercall/memory_map.c */
    struct cpu_policy *cpu_policy; /* null: the default of PV domains */

    struct guest_console *console; /* null: served by tools, or domain 0's */

    uint32_t pool;                      /* of CPUs: sched/pool.h */
    uint32_t weight;                    /* of its vcpus: sched/bvt.h */
    uint32_t tsc_mode, tsc_incarnation; /* XEN_DOMCTL_settscinfo: kept for who asks */
    int64_t time_offset_seconds;
    ns_t watchdog_expires[2];
    struct timer watchdog[2];
    uint64_t guest_log_tokens;
    ns_t guest_log_refill; /* rate limit of guest_log */
};

extern struct domain *domain0, *idle_domain;
extern struct list domain_list;
extern spinlock_t domain_list_lock;
/*
 * Held by who changes domains, or needs them unchanged, without being the call of a vcpu, which pausing its domain would wait for: a
 * slice of domain/restart.c, the audit. Outside of all others; only the audit waits for it, and for the time of a slice.
 */
extern spinlock_t domain_work_lock;

void domains_init(void);
#define DOMAIN_HARDWARE 1U /* domain 0 */
#define DOMAIN_BUILDING 2U /* d->building is set: the creator clears it */
/* A domain without vcpus and frames, not paused, with a reference for the caller. Null: no memory or id in use. */
struct domain *domain_create(domid_t id, unsigned max_vcpus, uint64_t max_pages, unsigned flags);
/* A number for a new domain: the next that is free at this moment, so that one that was just in use does not come again soon. 0: none. */
domid_t domain_new_id(void);
domid_t domain_set_next_id(domid_t id); /* where domain_new_id begins; returns where it would have begun */
struct vcpu *vcpu_create(struct domain *d, unsigned id, unsigned cpu); /* null: no memory */
/* Takes a reference; null if there is none, or it is being built; DOMID_SELF is current's. */
struct domain *domain_get_by_id(domid_t id);
bool domain_id_in_use(domid_t id); /* at this moment, be it by a domain of which only the number is left */
struct domain *domain_owner_of_frame(domid_t id); /* without a reference: the caller holds a frame of it */
bool domain_get(struct domain *d);
void domain_put(struct domain *d); /* any context */
/* For walks over all domains without the list's lock: the one with the next higher id, with a reference, or null. Drops prev's;
 * null begins. */
struct domain *domain_next(struct domain *prev);
/* The first whose id is not lower, and that is not being built, with a reference, or null */
struct domain *domain_get_from_id(domid_t id);
/*
 * Ends a domain: takes everything from it, step by step. -ERESTART: there is more to do, call again. 0: done; what others have
 * mapped of it stays until they give it back, and so long its number is in use. The caller has a reference. Not for domain 0.
 */
int domain_destroy(struct domain *d);
/* False: it is at its end, and its shared_info is no longer the page that it once could map. */
bool domain_has_shared_info(const struct domain *d);
void domain_free_init(void); /* boot */
/* domain/domain_destroy.c: the last reference has gone. Any context. */
void domain_free_later(struct domain *d);
void domain_unlist(struct domain *d); /* off the list and the table of ids */
/* The guest broke its own world: first reason wins; its vcpus stop; for domain 0 the machine reboots or halts. Any context. */
void domain_crash(struct domain *d, const char *fmt, ...) __printf(2, 3);
void domain_shutdown(struct domain *d, int reason); /* SHUTDOWN_*; tells domain 0 */
void domain_resume(struct domain *d); /* undoes a shutdown: its vcpus go on behind the call that asked for it */
void domain_key_report(void);
void domain0_registers_report(void);
struct vcpu *idle_vcpu_create(unsigned cpu); /* null: no memory */

static inline struct vcpu *domain_vcpu(const struct domain *d, unsigned id)
{
    return id < d->vcpu_count ? d->vcpus[index_nospec(id, d->vcpu_count)] : NULL;
}
static inline bool vcpu_runnable(const struct vcpu *v)
{
    return !v->blocked && !v->down && !v->pause_count && !v->domain->pause_count;
}
#define for_each_vcpu(d, v)                                                                                            \
    for (unsigned i_ = 0; i_ < (d)->vcpu_count; i_++)                                                                  \
        if (((v) = (d)->vcpus[i_]) != NULL)

/* The machine frame that a call of d's names, with a WRITABLE reference: PV domains name them as they are. INVALID_MFN: it is not d's
 * to write. Interrupts enabled. */
mfn_t hvm_frame_get_writable(struct domain *d, uint64_t number);
static inline mfn_t domain_frame_get_writable(struct domain *d, uint64_t number)
{
    if (unlikely(d->hvm))
        return hvm_frame_get_writable(d, number);
    return frame_get_writable(MFN(number), d) ? MFN(number) : INVALID_MFN;
}

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
