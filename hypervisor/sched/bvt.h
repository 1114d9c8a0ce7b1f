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
    struct sched_vcpu *root; /* a balanced tree, least evt first, equal ones in the order of their coming */
    int64_t svt;             /* scheduler virtual time: the least avt of those that want to run; never goes back */
    int64_t offset;          /* svt + offset compares with the same sum of other queues */
    uint32_t svt_weight;     /* of the one whose avt svt was last */
    bool fresh;              /* its CPU idled since it met another queue: its place on the common scale means nothing */
    unsigned count;
    uint32_t seed, tickets;
};

void bvt_queue_init(struct bvt_queue *q);
void bvt_init(struct sched_vcpu *s);
/* Both take time that grows with the logarithm of the queue's length. s's virtual times stay as they are while it is in. */
void bvt_enqueue(struct bvt_queue *q, struct sched_vcpu *s);
void bvt_dequeue(struct bvt_queue *q, struct sched_vcpu *s);
/* The first of the queue, and the one after s; null if there is none. */
static inline struct sched_vcpu *bvt_first(const struct bvt_queue *q)
{
    struct sched_vcpu *s = q->root;

    while (s && s->left)
        s = s->left;
    return s;
}
struct sched_vcpu *bvt_next(const struct bvt_queue *q, const struct sched_vcpu *s);
#define bvt_for_each(s, q) for ((s) = bvt_first(q); (s); (s) = bvt_next(q, s))
/* s ran for 'ran' ns until 'now': its virtual times advance by ran / weight, exactly (remainders are kept). A warp that
 * has used up its limit ends. s is in no queue. */
void bvt_charge(struct sched_vcpu *s, ns_t ran, ns_t now);
/* Real time at a weight as virtual time. */
static inline int64_t bvt_virtual(ns_t real, uint32_t weight) { return (int64_t)(real * BVT_WEIGHT_DEFAULT / weight); }
/* What evt would be after running that long. */
int64_t bvt_evt_after(const struct sched_vcpu *s, ns_t ran);
/* Advances the queue's virtual time; running: the one that runs, charged, or null. */
static inline void bvt_update_svt(struct bvt_queue *q, const struct sched_vcpu *running)
{
    const struct sched_vcpu *least = running;

    if (q->root && (!running || q->root->least->avt - running->avt < 0))
        least = q->root->least;
    if (least && least->avt - q->svt > 0) {
        q->svt = least->avt;
        q->svt_weight = least->weight;
    }
}
/*
 * s wants to run again: no credit for the time it slept; its warp begins anew if it may. s is in no queue.
 *
 * Virtual times move in steps of the allowance: in each round all others wait, for their next step, at about the queue's
 * virtual time. Who only slept is there too, and would often come after all of them. So it stands in the queue as if it had
 * run for an allowance less, until it runs (bvt_start). It is a place in the queue only: who runs makes way for the queue
 * when he would have without (bvt_due), and what s runs it is charged in full.
 */
void bvt_wake(struct bvt_queue *q, struct sched_vcpu *s, ns_t now, ns_t allowance);
void bvt_start(struct sched_vcpu *s); /* out of the queue, s runs now */
/* By what virtual time the running one has to make way, when 'first' is the first in the queue. */
int64_t bvt_due(const struct bvt_queue *q, const struct sched_vcpu *first);
/*
 * Queues of different CPUs. A time of a queue plus its offset is on a scale common to all, on which those who have had
 * less than their share are behind; so they can be compared when a vcpu moves. Two queues that meet, with their virtual
 * times up to date, keep what is between them up to 'lag' (real ns, at the weight of the one ahead): what one is behind by
 * more than that it could not have had, because of a weight too great for one CPU or of affinities, and it is forgiven
 * by shifting the whole queue. A fresh queue is put level with the other.
 */
void bvt_meet(struct bvt_queue *a, struct bvt_queue *b, ns_t lag);
/* Empty, and about to get something from 'other': level with it. */
void bvt_level(struct bvt_queue *q, const struct bvt_queue *other);
/* s goes to another queue and keeps its place on the common scale. s is in no queue. */
void bvt_migrate(struct sched_vcpu *s, const struct bvt_queue *from, const struct bvt_queue *to);
/* Has the running one, whose evt is now run_evt, got ahead of that of 'next' by the allowance (real ns at its weight)? */
bool bvt_should_preempt(const struct sched_vcpu *running, int64_t run_evt, int64_t next_evt, ns_t allowance);
/* How long the running one, charged just now, may run until bvt_should_preempt is true or its warp ends. Between
 * BVT_SLICE_MIN and BVT_SLICE_MAX. */
ns_t bvt_slice(const struct sched_vcpu *running, int64_t run_evt, int64_t next_evt, ns_t allowance);
/* Weight 1..BVT_WEIGHT_MAX. s is in no queue. */
void bvt_set_weight(struct sched_vcpu *s, uint32_t weight);
/*
 * warp: by how much (virtual ns) it runs early, 0: not at all; limit: for how long in all (0: for ever); unwarp: how long it
 * must not have run warped before a wake-up gives it the whole limit again. s is in no queue.
 */
void bvt_set_warp(struct sched_vcpu *s, int64_t warp, ns_t limit, ns_t unwarp, ns_t now);

#endif
