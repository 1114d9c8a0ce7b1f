/*
 * Time. One clock for all: nanoseconds since boot, from the TSC, whose rate was measured against the best
 * platform timer. The guests' time pages hold the same scale and base, so that a guest and Croft agree to the
 * nanosecond, on every CPU and for ever: the pages are written once.
 *
 * That leans on the TSCs of all CPUs being in step, which time_check_cpus proves after they were started. If they are
 * in step the pages carry XEN_PVCLOCK_TSC_STABLE_BIT, and a Linux guest then reads its clock from user space without a
 * call. If not, a warning is logged and the bit is left out: guests then keep time from going back by themselves.
 */
#ifndef SCHED_TIME_H
#define SCHED_TIME_H

#include "cpu/instr.h"
#include "hypercall/abi.h"
#include "sched/timer.h"

struct vcpu;
struct domain;

/* ns = (((tsc - tsc_base) << shift) * mul) >> 32, or >> -shift; as the ABI's vcpu_time_info */
struct time_scale {
    uint32_t mul;
    int8_t shift;
    uint64_t tsc_base;
    uint64_t tsc_khz;
};
extern struct time_scale time_scale; /* constant after time_init */

/* The scale for a TSC of this rate; mul is between 2^31 and 2^32. khz is not zero. */
void time_scale_set(struct time_scale *s, uint64_t khz);
static inline ns_t time_scale_ns(const struct time_scale *s, uint64_t tsc)
{
    uint64_t delta = tsc - s->tsc_base;

    delta = s->shift >= 0 ? delta << s->shift : delta >> -s->shift;
    return (ns_t)(((unsigned __int128)delta * s->mul) >> 32);
}
/* The first TSC value at which the clock shows t or more; all ones if that is further off than 2^62 ns. */
uint64_t time_scale_tsc(const struct time_scale *s, ns_t t);

void time_init(void);       /* calibrates (platform/timers.h), reads the wall clock */
void time_check_cpus(void); /* after all CPUs were started, before a domain is made: are their TSCs in step? */
#ifdef CROFT_HOST_TEST
ns_t now(void);
#else
static inline ns_t now(void) { return time_scale_ns(&time_scale, rdtsc()); }
#endif
uint64_t time_tsc_of(ns_t t); /* TSC value at which now() == t */

ns_t time_wallclock_ns(void); /* nanoseconds since 1970 (UTC) */
void time_set_wallclock(struct domain *caller, uint64_t sec, uint32_t nsec,
                        ns_t system_time);                            /* platform_op settime64 */
void time_update_wallclock(struct domain *d);                         /* writes shared_info's wc_* */
void time_move_shared_info(struct domain *d, struct shared_info *to); /* changes d->shared_info */
void time_update_vcpu(struct vcpu *v); /* writes vcpu_info's time; at creation, registration and rate changes */
/* v is current, its page tables are loaded: writes the runstate area that the guest registered, if it did. At the end of
 * every context switch, interrupts disabled. */
void time_switch_in(struct vcpu *v);
/* Registers guest virtual addresses (VCPUOP_register_*_memory_area; 0 ends it). v is of the current vcpu's domain, whose
 * kernel's page tables are loaded. -EFAULT. */
int time_register_runstate(struct vcpu *v, uint64_t guest);
int time_register_time_info(struct vcpu *v, uint64_t guest);

#endif
