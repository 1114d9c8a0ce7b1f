/*
 * The end of a domain. domain_destroy takes everything from it in steps, each of which can be interrupted: events, what it holds
 * of others, what its vcpus hold, its page tables and frames. Frames that others have mapped stay theirs to give back; until then
 * the domain is a shell with a number. The last reference puts it on a list, from which a softirq frees it: domain_put is called
 * with locks held.
 */
#include "cpu/fpu.h"
#include "cpu/softirq.h"
#include "domain/domain.h"
#include "domain/guest_console.h"
#include "domain/restart.h"
#include "hypercall/dispatch.h"
#include "hypercall/memory.h"
#include "hvm/hvm.h"
#include "lib/log.h"
#include "memory/alloc.h"
#include "memory/map.h"
#include "platform/irq.h"
#include "pv/cpu_policy.h"
#include "pv/mmu.h"
#include "sched/pool.h"
#include "sched/time.h"

static struct domain *dead; /* domains to be freed: pushed by domain_free_later, taken as a whole */

enum { STEP_STOP, STEP_EVENTS, STEP_VCPUS, STEP_FRAMES, STEP_PAGES, STEP_DONE };

static void stop(struct domain *d)
{
    struct vcpu *v;

    domain_pause(d);
    for_each_vcpu (d, v) {
        if (v->hvm)
            vlapic_destroy(v); /* its timer wakes the vcpu */
        sched_remove_vcpu(v);
    }
    sched_remove_domain(d);
    pool_move_domain(d, 0); /* its own may end before the last of its frames is given back */
    alloc_claim(d, 0);
}

/* False: preempted. */
static bool release_vcpus(struct domain *d)
{
    struct vcpu *v;

    for_each_vcpu (d, v) {
        if (!mfn_eq(v->info_mfn, INVALID_MFN)) {
            mfn_t m = v->info_mfn;

            v->info = &v->no_info;
            v->info_mfn = INVALID_MFN;
            frame_put_writable(m);
        }
        if (!mmu_release_vcpu(v))
            return false;
    }
    return true;
}

/* Unpins and gives back each frame. False: preempted. */
static bool release_frames(struct domain *d)
{
    unsigned done = 0;
    mfn_t m;

    for (;;) {
        if (!mmu_release_tables(d) || (done && done % 32 == 0 && hypercall_preempt_check()))
            return false;
        if (!alloc_next_to_release(d, &m))
            return true;
        mmu_release_frame(d, m);
        memory_release(m, d);
        frame_put(m);
        done++;
    }
}

/* In the place of a dead domain's: whoever still looks there finds nothing, and what it writes does no harm. */
static struct shared_info no_shared_info;

bool domain_has_shared_info(const struct domain *d) { return READ_ONCE(d->shared_info) != &no_shared_info; }

/* Croft's own pages that the domain had mapped, or others from it. */
static void give_up_pages(struct domain *d)
{
    mfn_t shared_info = virt_to_mfn(d->shared_info);
    struct vcpu *v;

    for_each_vcpu (d, v)
        v->info = &v->no_info;
    time_move_shared_info(d, &no_shared_info);
    grant_destroy_domain(d);
    frame_disown(shared_info, d);
}

int domain_destroy(struct domain *d)
{
    bool frames_gone;

    ASSERT(!d->is_hardware);
    spin_lock(&d->lock);
    d->dying = true;
    spin_unlock(&d->lock);
    /* Whoever saw the domain alive and has its lock for a frame is through after this; the others see that it is dying. */
    domain_mm_unlock(domain_mm_lock(d));
    spin_lock(&d->page_list_lock);
    spin_unlock(&d->page_list_lock);
    if (__atomic_exchange_n(&d->teardown_busy, true, __ATOMIC_ACQUIRE))
        return -ERESTART; /* another CPU is at it */
    if (d->teardown_step == STEP_DONE) {
        __atomic_store_n(&d->teardown_busy, false, __ATOMIC_RELEASE);
        return 0;
    }
    switch (d->teardown_step) {
    case STEP_STOP:
        stop(d);
        d->teardown_step = STEP_EVENTS; /* fall through */
    case STEP_EVENTS:
        guest_console_destroy(d);
        if (!event_release_domain(d))
            goto preempted;
        d->teardown_step = STEP_VCPUS; /* fall through */
    case STEP_VCPUS:
        if (!grant_release_mappings(d) || !release_vcpus(d))
            goto preempted;
        d->teardown_step = STEP_FRAMES; /* fall through */
    case STEP_FRAMES:
        if ((d->hvm && !p2m_release(d)) || !release_frames(d))
            goto preempted;
        d->teardown_step = STEP_PAGES; /* fall through */
    case STEP_PAGES:
        event_destroy_domain(d);
        give_up_pages(d);
        d->teardown_step = STEP_DONE;
    }
    spin_lock(&d->page_list_lock);
    d->put_with_last_frame = true;
    frames_gone = !d->tot_pages;
    spin_unlock(&d->page_list_lock);
    if (frames_gone)
        domain_put(d);
    log_debug("%s destroyed%s\n", d->name, frames_gone ? "" : "; others have mapped frames of it");
    __atomic_store_n(&d->teardown_busy, false, __ATOMIC_RELEASE);
    event_send_global_virq(domain0, VIRQ_DOM_EXC);
    if (d->from_modules)
        restart_look();
    domain_put(d); /* its life; the caller has one more */
    return 0;

preempted:
    __atomic_store_n(&d->teardown_busy, false, __ATOMIC_RELEASE);
    return -ERESTART;
}

/* ---- The last reference has gone ---- */

void domain_free_later(struct domain *d)
{
    d->next_dead = READ_ONCE(dead);
    while (!__atomic_compare_exchange_n(&dead, &d->next_dead, d, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        ;
    softirq_raise(SOFTIRQ_DOMAIN);
}

static void free_domain(struct domain *d)
{
    domain_unlist(d);
    for (unsigned i = 0; i < d->vcpu_count; i++) {
        struct vcpu *v = d->vcpus[i];

        if (!v)
            continue;
        fpu_free(v);
        descriptor_window_free(v->pv.descriptor_window);
        hvm_destroy_vcpu(v);
        heap_free(v);
    }
    if (d->hvm)
        hvm_destroy_domain(d);
    cpu_policy_destroy(d);
    heap_free(d->memory_map);
    heap_free(d->pv.io_ports);
    heap_free(d);
}

static void free_dead(void)
{
    struct domain *d = __atomic_exchange_n(&dead, NULL, __ATOMIC_ACQ_REL), *next;

    if (!d)
        return;
    for (; d; d = next) {
        next = d->next_dead;
        free_domain(d);
    }
    event_send_global_virq(domain0, VIRQ_DOM_EXC);
}

void domain_free_init(void) { softirq_register(SOFTIRQ_DOMAIN, free_dead); }
