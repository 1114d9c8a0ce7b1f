/*
 * Time. One clock for all: nanoseconds since boot, from the TSC, whose rate was measured against the best
 * platform timer. The guests' time pages hold the same scale, so that a guest and Croft agree to the nanosecond.
 */
#ifndef SCHED_TIME_H
#define SCHED_TIME_H

#include "hypercall/abi.h"
#include "sched/timer.h"

struct vcpu;
struct domain;

/* ns = ((tsc << shift) * mul) >> 32, or tsc >> -shift; as the ABI's vcpu_time_info */
struct time_scale { uint32_t mul; int8_t shift; uint64_t tsc_base; uint64_t tsc_khz; };
extern struct time_scale time_scale;

void time_init(void);  /* calibrates (platform/timers.h), reads the wall clock */
ns_t now(void);
uint64_t time_tsc_of(ns_t t); /* TSC value at which now() == t */
ns_t time_wallclock_ns(void); /* nanoseconds since 1970 (UTC) */
void time_set_wallclock(struct domain *caller, uint64_t sec, uint32_t nsec, ns_t system_time); /* platform_op settime64 */
void time_update_wallclock(struct domain *d);  /* writes shared_info's wc_* */
void time_update_vcpu(struct vcpu *v);         /* writes vcpu_info's time; at creation, registration and rate changes */

#endif
