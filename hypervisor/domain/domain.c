/* Domains: creation, look-up, crash and shutdown, the end. */
#include "cpu/fpu.h"
#include "cpu/panic.h"
#include "domain/domain.h"
#include "domain/restart.h"
#include "hvm/hvm.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "memory/alloc.h"
#include "platform/console.h"
#include "platform/irq.h"
#include "platform/power.h"
#include "pv/mmu.h"
#include "sched/bvt.h"
#include "sched/pool.h"
#include "sched/time.h"

struct domain *domain0, *idle_domain;
struct list domain_list;
spinlock_t domain_list_lock = SPINLOCK_INIT;
spinlock_t domain_work_lock = SPINLOCK_INIT;

/* Domains by id, two levels: look-ups do not grow with the number of domains. Written under domain_list_lock. */
#define IDS_PER_PAGE 512
static struct domain **domain_ids[DIV_ROUND_UP(DOMID_FIRST_RESERVED, IDS_PER_PAGE)];

#define FIRST_ID 1U /* that is not domain 0's */
static unsigned next_id = FIRST_ID;
static spinlock_t next_id_lock = SPINLOCK_INIT;

static void audit_key(void) { frame_audit(); }

void domains_init(void)
{
    list_init(&domain_list);
    idle_domain = new_object(struct domain);
    if (!idle_domain)
        panic("no memory for the idle domain\n");
    idle_domain->id = DOMID_IDLE_VCPUS;
    strlcpy(idle_domain->name, "idle", sizeof(idle_domain->name));
    current = idle_vcpu_create(0);
    if (!current)
        panic("no memory for the idle vcpu\n");
    domain_free_init();
    key_register('q', "domains and their vcpus", domain_key_report);
    key_register('0', "domain 0's registers", domain0_registers_report);
    key_register('a', "audit of all frames and page tables", audit_key);
    key_register('m', "free memory", alloc_key_report);
    key_register('c', "hypercall counters", hypercall_key_report);
    key_register('e', "event channels", event_key_report);
    key_register('g', "grant tables", grant_key_report);
    key_register('r', "run queues", sched_key_report);
    key_register('t', "timers", timers_key_report);
}

static struct domain *find(domid_t id)
{
    struct domain **page;

    if (id >= DOMID_FIRST_RESERVED)
        return NULL;
    page = READ_ONCE(domain_ids[id / IDS_PER_PAGE]);
    return page ? READ_ONCE(page[id % IDS_PER_PAGE]) : NULL;
}

struct domain *domain_owner_of_frame(domid_t id) { return find(id); }

bool domain_id_in_use(domid_t id) { return find(id) != NULL; }

domid_t domain_set_next_id(domid_t id)
{
    unsigned was;

    spin_lock(&next_id_lock);
    was = next_id;
    next_id = id;
    spin_unlock(&next_id_lock);
    return (domid_t)was;
}

domid_t domain_new_id(void)
{
    for (unsigned tries = 0; tries < DOMID_FIRST_RESERVED; tries++) {
        unsigned id;

        spin_lock(&next_id_lock);
        id = next_id;
        next_id = id + 1 < DOMID_FIRST_RESERVED ? id + 1 : FIRST_ID;
        spin_unlock(&next_id_lock);
        if (!domain_id_in_use((domid_t)id))
            return (domid_t)id;
    }
    return 0;
}

bool domain_get(struct domain *d)
{
    int refs = READ_ONCE(d->refs);

    do {
        if (!refs)
            return false;
    } while (!__atomic_compare_exchange_n(&d->refs, &refs, refs + 1, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
    return true;
}

void domain_put(struct domain *d)
{
    int refs = __atomic_sub_fetch(&d->refs, 1, __ATOMIC_ACQ_REL);

    ASSERT(refs >= 0);
    if (!refs)
        domain_free_later(d);
}

struct domain *domain_next(struct domain *prev)
{
    struct list *at;
    struct domain *d = NULL;

    spin_lock(&domain_list_lock);
    at = prev ? prev->list.next : domain_list.next; /* prev is on the list: we have a reference */
    for (; at != &domain_list; at = at->next) {
        d = container_of(at, struct domain, list);
        if (domain_get(d))
            break;
        d = NULL;
    }
    spin_unlock(&domain_list_lock);
    if (prev)
        domain_put(prev);
    return d;
}

struct domain *domain_get_by_id(domid_t id)
{
    struct domain *d;

    if (id == DOMID_SELF) {
        d = current->domain;
        return domain_get(d) ? d : NULL;
    }
    spin_lock(&domain_list_lock);
    d = find(id);
    if (d && (d->building || !domain_get(d)))
        d = NULL;
    spin_unlock(&domain_list_lock);
    return d;
}

static bool enter_list(struct domain *d)
{
    struct domain ***page = &domain_ids[d->id / IDS_PER_PAGE];
    struct domain **fresh = NULL, *other;
    bool ok = false;

    if (!*page)
        fresh = alloc_pages(0);
    spin_lock(&domain_list_lock);
    if (!*page) {
        *page = fresh;
        fresh = NULL;
    }
    if (*page && !(*page)[d->id % IDS_PER_PAGE]) {
        (*page)[d->id % IDS_PER_PAGE] = d;
        list_for_each (other, &domain_list, list)
            if (other->id > d->id)
                break;
        list_add_tail(&other->list, &d->list);
        ok = true;
    }
    spin_unlock(&domain_list_lock);
    if (fresh)
        free_pages(fresh, 0);
    return ok;
}

struct domain *domain_get_from_id(domid_t id)
{
    struct domain *d;

    spin_lock(&domain_list_lock);
    list_for_each (d, &domain_list, list)
        if (d->id >= id && !d->building && domain_get(d))
            break;
    if (&d->list == &domain_list)
        d = NULL;
    spin_unlock(&domain_list_lock);
    return d;
}

void domain_unlist(struct domain *d)
{
    spin_lock(&domain_list_lock);
    domain_ids[d->id / IDS_PER_PAGE][d->id % IDS_PER_PAGE] = NULL;
    list_remove(&d->list);
    spin_unlock(&domain_list_lock);
}

struct domain *domain_create(domid_t id, unsigned max_vcpus, uint64_t max_pages, unsigned flags)
{
    static uint64_t serials;
    bool is_hardware = flags & DOMAIN_HARDWARE;
    struct domain *d = new_object(struct domain);

    if (!d)
        return NULL;
    d->id = id;
    d->serial = __atomic_add_fetch(&serials, 1, __ATOMIC_RELAXED);
    snprintf(d->name, sizeof(d->name), "d%u", id);
    d->refs = 3; /* its life, its frames, the caller */
    d->is_privileged = d->is_hardware = is_hardware;
    d->building = flags & DOMAIN_BUILDING;
    d->vcpu_count = min(max_vcpus, (unsigned)MAX_VCPUS);
    d->max_pages = max_pages;
    d->node = NODE_ANY;
    d->weight = BVT_WEIGHT_DEFAULT;
    d->pv.leaf_refused = PTE_CACHE_L1;
    d->shared_info = alloc_pages(0);
    if (!d->shared_info)
        goto no_memory;
    frame_share(virt_to_mfn(d->shared_info), d, true);
    if (event_init_domain(d) || (is_hardware && irq_init_domain(d)))
        goto no_memory;
    if (!enter_list(d)) {
        event_destroy_domain(d);
        irq_destroy_domain(d);
        goto no_memory;
    }
    time_update_wallclock(d);
    return d;

no_memory:
    if (d->shared_info) {
        frame_unshare(virt_to_mfn(d->shared_info));
        free_pages(d->shared_info, 0);
    }
    heap_free(d);
    return NULL;
}

static int pv_create_vcpu(struct vcpu *v)
{
    v->info->evtchn_upcall_mask = 1;
    v->pv.cr0_guest = 0x80050033UL;
    v->pv.dr[6] = 0xffff0ff0UL;
    v->pv.dr[7] = 0x400;
    v->pv.descriptor_window = descriptor_window_alloc();
    if (!v->pv.descriptor_window)
        return -ENOMEM;
    for (unsigned slot = 0; slot < FIRST_RESERVED_GDT_PAGE; slot++)
        descriptor_window_set(v, slot, INVALID_MFN);
    return 0;
}

struct vcpu *vcpu_create(struct domain *d, unsigned id, unsigned cpu)
{
    struct vcpu *v;

    if (id >= d->vcpu_count || d->vcpus[id])
        return NULL;
    v = new_object(struct vcpu);
    if (!v)
        return NULL;
    v->domain = d;
    v->id = id;
    v->info_mfn = INVALID_MFN;
    v->info = id < XEN_LEGACY_MAX_VCPUS ? &d->shared_info->vcpu_info[id] : &v->no_info;
    v->down = true;
    if (fpu_alloc(v) || (d->hvm ? hvm_create_vcpu(v) : pv_create_vcpu(v))) {
        fpu_free(v);
        heap_free(v);
        return NULL;
    }
    event_init_vcpu(v);
    sched_init_vcpu(v, cpu);
    if (d->weight != BVT_WEIGHT_DEFAULT)
        vcpu_set_weight(v, d->weight);
    time_update_vcpu(v);
    d->vcpus[id] = v;
    pool_place_vcpu(v);
    return v;
}

struct vcpu *idle_vcpu_create(unsigned cpu)
{
    struct vcpu *v = new_object(struct vcpu);

    if (!v)
        return NULL;
    v->domain = idle_domain;
    v->id = cpu;
    v->processor = cpu;
    v->is_idle = true;
    v->info = &v->no_info;
    v->info->evtchn_upcall_mask = 1;
    v->pv.kernel_mode = true;
    return v;
}

static const char *shutdown_name(int reason)
{
    static const char *const names[] = {"power off", "reboot", "suspend", "crash", "watchdog", "soft reset"};

    return (unsigned)reason < ARRAY_SIZE(names) ? names[reason] : "unknown reason";
}

static void report_vcpu(const struct vcpu *v, const struct cpu_user_regs *r)
{
    if (v->hvm)
        hvm_report_vcpu(v);
    log_info("%sv%u rip %04x:%016lx rsp %04x:%016lx rflags %08lx %s mode\n", v->domain->name, v->id, r->cs,
             (unsigned long)r->rip, r->ss, (unsigned long)r->rsp, (unsigned long)r->rflags,
             v->pv.kernel_mode ? "kernel" : "user");
    log_info("  rax %016lx rbx %016lx rcx %016lx rdx %016lx\n", (unsigned long)r->rax, (unsigned long)r->rbx,
             (unsigned long)r->rcx, (unsigned long)r->rdx);
    log_info("  rsi %016lx rdi %016lx rbp %016lx r8  %016lx\n", (unsigned long)r->rsi, (unsigned long)r->rdi,
             (unsigned long)r->rbp, (unsigned long)r->r8);
    log_info("  r9  %016lx r10 %016lx r11 %016lx r12 %016lx\n", (unsigned long)r->r9, (unsigned long)r->r10,
             (unsigned long)r->r11, (unsigned long)r->r12);
    log_info("  r13 %016lx r14 %016lx r15 %016lx cr2 %016lx cr3 %016lx\n", (unsigned long)r->r13, (unsigned long)r->r14,
             (unsigned long)r->r15, (unsigned long)v->pv.cr2, (unsigned long)v->pv.kernel_cr3);
}

void domain_shutdown(struct domain *d, int reason)
{
    if (d->is_hardware) {
        log_info("domain 0 shut down: %s\n", shutdown_name(reason));
        if (reason == SHUTDOWN_crash && current->domain == d && !d->crashed)
            report_vcpu(current, guest_regs());
        machine_domain0_ended(reason);
    }
    spin_lock(&d->lock);
    if (!d->shut_down) {
        d->shutdown_reason = reason;
        d->shut_down = true;
        domain_pause_nosync(d);
    }
    spin_unlock(&d->lock);
    log_info("%s shut down: %s\n", d->name, shutdown_name(reason));
    event_send_global_virq(domain0, VIRQ_DOM_EXC);
    if (d->from_modules)
        restart_look();
}

void domain_resume(struct domain *d)
{
    bool was_shut_down;

    spin_lock(&d->lock);
    was_shut_down = d->shut_down && !d->dying;
    if (was_shut_down) {
        d->shut_down = false;
        d->crashed = false;
        d->shutdown_reason = -1;
    }
    spin_unlock(&d->lock);
    if (was_shut_down)
        domain_unpause(d);
}

void domain_crash(struct domain *d, const char *fmt, ...)
{
    char text[256];
    va_list ap;

    if (__atomic_exchange_n(&d->crashed, true, __ATOMIC_ACQ_REL))
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    log_error("%s crashed: %s", d->name, text);
    strlcpy(d->crash_reason, text, sizeof(d->crash_reason));
    if (current->domain == d)
        report_vcpu(current, guest_regs());
    domain_shutdown(d, SHUTDOWN_crash);
}

void domain_key_report(void)
{
    struct domain *d;
    struct vcpu *v;

    for (d = domain_next(NULL); d; d = domain_next(d)) {
        log_info("%s: %lu of %lu pages, %u vcpus%s%s%s%s\n", d->name, d->tot_pages, d->max_pages, d->vcpu_count,
                 d->is_privileged ? ", privileged" : "",
                 d->dying     ? ", dying"
                 : d->crashed ? ", crashed"
                              : "",
                 d->pause_count ? ", paused" : "", d->shut_down ? ", shut down" : "");
        for_each_vcpu (d, v)
            if (v->initialised)
                log_info("  v%u on CPU %u: %s%s%s pending %u masked %u, rip 0x%lx\n", v->id, v->processor,
                         v->sched.running ? "running" : "", v->blocked ? "blocked" : "", v->down ? "down" : "",
                         v->info->evtchn_upcall_pending, v->info->evtchn_upcall_mask,
                         (unsigned long)(v == current ? guest_regs()->rip : v->regs.rip));
    }
}

void domain0_registers_report(void)
{
    struct vcpu *v;

    if (!domain0)
        return;
    for_each_vcpu (domain0, v)
        if (v->initialised)
            report_vcpu(v, v == current ? guest_regs() : &v->regs);
}
