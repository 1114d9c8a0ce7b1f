/*
 * The clock and what guests see of it. See sched/time.h for the one idea: guests are given Croft's own scale and base.
 */
#include "sched/time.h"

#include "cpu/cpu.h"
#include "cpu/smp.h"
#include "cpu/tlb.h"
#include "domain/domain.h"
#include "domain/guest_access.h"
#include "lib/log.h"
#include "lib/string.h"
#include "platform/timers.h"
#include "pv/mode.h"

#define NS_PER_SECOND 1000000000UL

struct time_scale time_scale;

static bool tsc_in_step = true;

/* Nanoseconds from 1970 to now() == 0, and the lock of it and of all shared_info's wc_ fields. */
static spinlock_t wallclock_lock;
static uint64_t wallclock_base;

/* Beyond this a TSC would tick 2,048 times a nanosecond. */
#define SHIFT_LEAST (-11)

void time_scale_set(struct time_scale *s, uint64_t khz)
{
    int shift = 0;

    /* A tick is 10^6 / khz ns = mul / 2^32 * 2^shift: the shift for which mul / 2^32 is at least 1/2 and below 1. */
    while (khz << shift <= 1000000)
        shift++;
    while (shift <= 0 && shift > SHIFT_LEAST && khz > 1000000UL << (1 - shift))
        shift--;
    s->mul = (uint32_t)(shift >= 0 ? (1000000UL << 32) / (khz << shift) : (1000000UL << (32 - shift)) / khz);
    s->shift = (int8_t)shift;
    s->tsc_khz = khz;
}

uint64_t time_scale_tsc(const struct time_scale *s, ns_t t)
{
    uint64_t high = t >> 32, low = t << 32, quotient, remainder;

    if (t >= 1UL << 62)
        return ~0UL;
    /* 2^32 * t / mul, rounded up: the least x with x * mul >> 32 >= t. It fits: mul is 2^31 or more. */
    __asm__("divq %4" : "=a"(quotient), "=d"(remainder) : "a"(low), "d"(high), "r"((uint64_t)s->mul) : "cc");
    if (remainder)
        quotient++;
    if (s->shift >= 0)
        return s->tsc_base + ((quotient + (1UL << s->shift) - 1) >> s->shift);
    return s->tsc_base + (quotient << -s->shift);
}

uint64_t time_tsc_of(ns_t t) { return time_scale_tsc(&time_scale, t); }

void time_init(void)
{
    uint64_t khz = timers_measure_tsc_khz();

    if (!khz)
        boot_fail("the rate of the TSC could not be measured: no HPET, ACPI PM timer, PIT nor CPUID leaf 0x15\n");
    time_scale_set(&time_scale, khz);
    time_scale.tsc_base = rdtsc();
    wallclock_base = cmos_read_seconds() * NS_PER_SECOND - now();
    log_info("time: TSC %lu.%03lu MHz by %s%s\n", khz / 1000, khz % 1000, timers_platform_name(),
             cpu_features.invariant_tsc ? ", invariant" : "");
}

/*
 * Are the TSCs in step? All CPUs read theirs again and again, and nobody may see less than another saw before. Catches what
 * a guest could notice. No lock: on CPUs that an emulator takes away and gives back, handing one round takes minutes.
 */
#define STEP_ROUNDS 2000

struct step_check {
    uint64_t last, worst;
};

static void step_check_cpu(void *arg)
{
    struct step_check *c = arg;

    for (unsigned i = 0; i < STEP_ROUNDS; i++) {
        uint64_t last = __atomic_load_n(&c->last, __ATOMIC_SEQ_CST), worst = c->worst, tsc;

        __asm__ volatile("lfence" ::: "memory"); /* the TSC is not read before 'last' */
        tsc = rdtsc();
        if (tsc >= last)
            __atomic_compare_exchange_n(&c->last, &last, tsc, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
        else
            while (last - tsc > worst && !__atomic_compare_exchange_n(&c->worst, &worst, last - tsc, false,
                                                                      __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
                ;
    }
}

void time_check_cpus(void)
{
    struct step_check c = {.last = 0};

    if (cpu_count() < 2)
        return;
    smp_call(&cpu_online, step_check_cpu, &c);
    if (!c.worst)
        return;
    tsc_in_step = false;
    log_warning("time: the CPUs' TSCs differ by up to %lu ns; guests are told not to rely on them\n",
                time_scale_ns(&time_scale, time_scale.tsc_base + c.worst));
}

ns_t time_wallclock_ns(void) { return READ_ONCE(wallclock_base) + now(); }

/* wallclock_lock is held. */
static void write_wallclock(struct domain *d)
{
    volatile struct shared_info *s = d->shared_info;
    uint64_t seconds = wallclock_base / NS_PER_SECOND + (uint64_t)d->time_offset_seconds;
    uint32_t version;

    if (!s)
        return;
    version = s->wc_version | 1; /* the guest may have written it: any odd value will do, then the next even one */
    s->wc_version = version;
    smp_wmb();
    s->wc_sec = (uint32_t)seconds;
    s->wc_sec_hi = (uint32_t)(seconds >> 32);
    s->wc_nsec = (uint32_t)(wallclock_base % NS_PER_SECOND);
    smp_wmb();
    s->wc_version = version + 1;
}

void time_update_wallclock(struct domain *d)
{
    unsigned long flags = spin_lock_irqsave(&wallclock_lock);

    write_wallclock(d);
    spin_unlock_irqrestore(&wallclock_lock, flags);
}

void time_move_shared_info(struct domain *d, struct shared_info *to)
{
    unsigned long flags = spin_lock_irqsave(&wallclock_lock);

    WRITE_ONCE(d->shared_info, to);
    spin_unlock_irqrestore(&wallclock_lock, flags);
}

void time_set_wallclock(struct domain *caller, uint64_t sec, uint32_t nsec, ns_t system_time)
{
    unsigned long flags = spin_lock_irqsave(&wallclock_lock);
    struct domain *d;

    wallclock_base = sec * NS_PER_SECOND + nsec - system_time;
    spin_unlock_irqrestore(&wallclock_lock, flags);
    spin_lock(&domain_list_lock);
    list_for_each (d, &domain_list, list)
        time_update_wallclock(d);
    spin_unlock(&domain_list_lock);
    log_debug("time: wall clock set to %lu s by %s\n", sec, caller->name);
}

/* The vcpu's time page in Croft's own memory (v->time_info), next version. */
static void time_page_make(struct vcpu *v)
{
    v->time_info = (struct vcpu_time_info){
        .version = v->time_info.version + 2,
        .tsc_timestamp = time_scale.tsc_base,
        .system_time = 0,
        .tsc_to_system_mul = time_scale.mul,
        .tsc_shift = time_scale.shift,
        .flags = tsc_in_step ? XEN_PVCLOCK_TSC_STABLE_BIT : 0,
    };
}

/* As the ABI wants it: version odd, the values, version even. */
static void time_page_publish(volatile struct vcpu_time_info *to, const struct vcpu_time_info *from)
{
    to->version = from->version - 1;
    smp_wmb();
    to->tsc_timestamp = from->tsc_timestamp;
    to->system_time = from->system_time;
    to->tsc_to_system_mul = from->tsc_to_system_mul;
    to->tsc_shift = from->tsc_shift;
    to->flags = from->flags;
    smp_wmb();
    to->version = from->version;
}

/* The same at a guest virtual address. */
static int time_page_copy(uint64_t guest, const struct vcpu_time_info *from)
{
    struct vcpu_time_info *to = (struct vcpu_time_info *)guest;
    struct vcpu_time_info odd = *from;

    odd.version--;
    if (copy_to_guest(to, &odd, sizeof(odd)))
        return -EFAULT;
    smp_wmb();
    return copy_to_guest(&to->version, &from->version, sizeof(to->version)) ? -EFAULT : 0;
}

void time_update_vcpu(struct vcpu *v)
{
    time_page_make(v);
    time_page_publish(&v->info->time, &v->time_info);
    if (v->time_info_guest && v == current)
        (void)time_page_copy(v->time_info_guest, &v->time_info);
}

int time_register_time_info(struct vcpu *v, uint64_t guest)
{
    if (guest && !v->time_info.version)
        time_page_make(v);
    if (guest && time_page_copy(guest, &v->time_info))
        return -EFAULT;
    v->time_info_guest = guest;
    return 0;
}

/* What the guest sees while it runs: RUNSTATE_running since it was switched in. */
static int runstate_copy(struct vcpu *v, uint64_t guest)
{
    struct vcpu_runstate_info *to = (struct vcpu_runstate_info *)guest, r;

    memset(&r, 0, sizeof(r));
    r.state = v->sched.runstate;
    r.state_entry_time = v->sched.runstate_entry;
    memcpy(r.time, v->sched.runstate_time, sizeof(r.time));
    if (!(v->domain->vm_assist & 1U << VMASST_TYPE_runstate_update_flag))
        return copy_to_guest(to, &r, sizeof(r)) ? -EFAULT : 0;

    /* The update bit is set before anything changes and cleared after: a reader on another vcpu tries again. */
    r.state_entry_time |= XEN_RUNSTATE_UPDATE;
    if (copy_to_guest(&to->state_entry_time, &r.state_entry_time, sizeof(r.state_entry_time)))
        return -EFAULT;
    smp_wmb();
    if (copy_to_guest(to, &r, sizeof(r)))
        return -EFAULT;
    smp_wmb();
    r.state_entry_time &= ~XEN_RUNSTATE_UPDATE;
    return copy_to_guest(&to->state_entry_time, &r.state_entry_time, sizeof(r.state_entry_time)) ? -EFAULT : 0;
}

void time_switch_in(struct vcpu *v)
{
    bool user = !v->pv.kernel_mode;

    if (!v->runstate_guest)
        return;
    /* The address is the kernel's; its root has more than the user's. */
    if (user)
        tlb_load_cr3(v->pv.kernel_cr3);
    (void)runstate_copy(v, v->runstate_guest); /* if it is not mapped just now, the next switch tries again */
    if (user)
        tlb_load_cr3(mode_cr3(v));
}

int time_register_runstate(struct vcpu *v, uint64_t guest)
{
    struct vcpu_runstate_info r;

    if (guest && v == current && runstate_copy(v, guest))
        return -EFAULT;
    if (guest && v != current) {
        vcpu_get_runstate(v, &r);
        if (copy_to_guest((struct vcpu_runstate_info *)guest, &r, sizeof(r)))
            return -EFAULT;
    }
    v->runstate_guest = guest;
    return 0;
}
