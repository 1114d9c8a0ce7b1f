/*
 * The arithmetic of Borrowed Virtual Time and its queue, without locks, clocks or CPUs: sched.c has those.
 * All virtual times wrap: they are compared by their difference.
 */
#ifndef SCHED_BVT_H
#define SCHED_BVT_H

#include "sched/sched.h"

#define BVT_WEIGHT_DEFAULT 256U
#define BVT_WEIGHT_MAX 65535U
#define BVT_SLICE_MIN MICROSECS(100)
#define BVT_SLICE_MAX SECONDS(10)

struct bvt_queue {
    struct list list; /* of sched_vcpu.queue, least evt first, equal ones in the order of their coming */
    int64_t svt;      /* scheduler virtual time: the least avt of those that want to run; never goes back */
    unsigned count;
};

void bvt_queue_init(struct bvt_queue *q);
void bvt_init(struct sched_vcpu *s);
void bvt_enqueue(struct bvt_queue *q, struct sched_vcpu *s);
void bvt_dequeue(struct bvt_queue *q, struct sched_vcpu *s);
static inline struct sched_vcpu *bvt_first(struct bvt_queue *q)
{
    return q->count ? list_first(&q->list, struct sched_vcpu, queue) : NULL;
}
/* s ran for 'ran' ns until 'now': its virtual times advance by ran / weight, exactly (remainders are kept). A warp that
 * has used up its limit ends. s is in no queue. */
void bvt_charge(struct sched_vcpu *s, ns_t ran, ns_t now);
/* What evt would be after running that long. */
int64_t bvt_evt_after(const struct sched_vcpu *s, ns_t ran);
/* Advances the queue's virtual time; running: the one that runs, charged, or null. */
void bvt_update_svt(struct bvt_queue *q, const struct sched_vcpu *running);
/* s wants to run again: no credit for the time it slept; its warp begins anew if it may. s is in no queue. */
void bvt_wake(struct bvt_queue *q, struct sched_vcpu *s, ns_t now);
/* s goes to another CPU's queue: it is as far ahead or behind there as it was here. s is in no queue. */
void bvt_migrate(struct sched_vcpu *s, const struct bvt_queue *from, const struct bvt_queue *to);
/* Has the running one, whose evt is now run_evt, got ahead of 'next' by the allowance (real ns at its weight)? */
bool bvt_should_preempt(const struct sched_vcpu *running, int64_t run_evt, const struct sched_vcpu *next,
                        ns_t allowance);
/* How long the running one, charged just now, may run until bvt_should_preempt is true or its warp ends. Between
 * BVT_SLICE_MIN and BVT_SLICE_MAX. */
ns_t bvt_slice(const struct sched_vcpu *running, int64_t run_evt, const struct sched_vcpu *next, ns_t allowance);
/* Weight 1..BVT_WEIGHT_MAX. s is in no queue. */
void bvt_set_weight(struct sched_vcpu *s, uint32_t weight);
/* warp: by how much (virtual ns) it runs early, 0: not at all; limit: how long in one go (0: for ever); unwarp: how long
 * it must have been without before it may again. s is in no queue. */
void bvt_set_warp(struct sched_vcpu *s, int64_t warp, ns_t limit, ns_t unwarp, ns_t now);

#endif
