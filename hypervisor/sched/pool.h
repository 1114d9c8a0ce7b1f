/*
 * Where vcpus may run: pools of CPUs, hard affinity, and CPUs that leave the machine or join it.
 *
 * A CPU that is on line is in one pool, or free. A domain is in one pool; pool 0 is there from the start and has domain 0.
 * A vcpu may run on those CPUs of its domain's pool that are in its hard affinity: sched.allowed, which is all that the
 * scheduler looks at. Invariants:
 *
 * 1. With pool_lock free: the CPUs of pools and the free ones are on line, and none is in two sets. A pool with domains has
 *    CPUs. sched.allowed of every vcpu is its hard affinity on the CPUs of its pool, and not empty.
 * 2. With the run queues' locks free as well: a vcpu that runs or waits does so on an allowed CPU, or is on its way from
 *    there: that CPU has been told to schedule, or is in the middle of it (sched_switch_done). So a CPU that was taken from
 *    its pool is soon left by all, and nobody comes.
 *
 * Sets are changed under pool_lock, and then each vcpu that it may concern is placed anew, with its queue's lock: who chose
 * a CPU by the old set had that lock until the vcpu was there, so it is seen and sent on. A vcpu that is created meanwhile
 * is either found by that walk, or looks itself afterwards (pool_place_vcpu, when it is in d->vcpus). pool_audit checks it.
 *
 * A vcpu whose hard affinity has no CPU left loses it: it may use all CPUs then, which the log tells; it is not given back.
 * So does a domain that changes its pool (as Xen does). Soft affinity stays in the former case.
 */
#ifndef SCHED_POOL_H
#define SCHED_POOL_H

#include "cpu/cpumask.h"
#include "lib/util.h"

#define POOL_MAX 64
#define POOL_ANY (~0U)  /* the next free number; any CPU that will do */
#define POOL_NONE (~0U) /* of a CPU: free, or off line */

struct domain;
struct vcpu;

void pool_init(void);
/* *id is the wanted number or POOL_ANY; then the one it got. -EEXIST, -EINVAL: not below POOL_MAX, -ENOSPC */
int pool_create(uint32_t *id);
int pool_destroy(uint32_t id); /* -ENOENT, -EBUSY: has CPUs or domains */
/* -ENOENT: no such pool; -ENODEV: the CPU is not free; POOL_ANY: the first that is */
int pool_add_cpu(uint32_t id, uint32_t cpu);
/* -ENOENT: no such pool; -EADDRNOTAVAIL: the CPU is not in it; -EBUSY: its last CPU, and it has domains. POOL_ANY: the last */
int pool_remove_cpu(uint32_t id, uint32_t cpu);
/* A new domain, without vcpus. -ESRCH: no such pool, -EINVAL: it has no CPUs */
int pool_join(struct domain *d, uint32_t id);
/* -ENOENT: no such pool, or it has no CPUs; -EINVAL: d is dying, and the pool is not 0 */
int pool_move_domain(struct domain *d, uint32_t id);
struct pool_info {
    uint32_t id, domains;
    cpumask_t cpus;
};
bool pool_info(uint32_t first, struct pool_info *out); /* the pool of that number or the next; false: there is none */
cpumask_t pool_free_cpus(void);
cpumask_t pool_cpus(const struct domain *d); /* of its pool, at this moment */

void pool_cpu_joins(unsigned cpu); /* it has come on line: into pool 0 */
int pool_cpu_leaves(unsigned cpu); /* it goes off line: no longer free. -EBUSY: it is not free */
/* Nothing has v's home there any more: for a CPU that has gone off line. */
void pool_vacate_cpu(unsigned cpu);

int vcpu_set_affinity(struct vcpu *v, const cpumask_t *mask); /* hard. -EINVAL: has no CPU of its pool */
void pool_place_vcpu(struct vcpu *v);                         /* a new vcpu that is in d->vcpus */
/* The invariants; logs what is wrong and returns how much. 'still': no CPU does anything meanwhile (unit tests). */
unsigned pool_audit(bool still);
void pools_key_report(void);

#endif
