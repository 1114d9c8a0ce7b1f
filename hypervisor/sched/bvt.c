/*
 * Borrowed Virtual Time: the arithmetic. Real time (ns) becomes virtual by * BVT_WEIGHT_DEFAULT / weight, so a vcpu of
 * twice the weight ages half as fast and gets twice the time. See Duda and Cheriton, "Borrowed-Virtual-Time (BVT)
 * scheduling", SOSP 1999; names there: A_i avt, E_i evt, W_i warp, L_i warp_limit, U_i unwarp_requirement, C allowance.
 */
#include "sched/bvt.h"

void bvt_queue_init(struct bvt_queue *q)
{
    list_init(&q->list);
    q->svt = 0;
    q->count = 0;
}

void bvt_init(struct sched_vcpu *s)
{
    s->weight = BVT_WEIGHT_DEFAULT;
    list_init(&s->queue);
}

static void set_evt(struct sched_vcpu *s) { s->evt = s->avt - (s->warped ? s->warp : 0); }

static int64_t to_virtual(const struct sched_vcpu *s, ns_t real)
{
    return (int64_t)(real * BVT_WEIGHT_DEFAULT / s->weight);
}

void bvt_enqueue(struct bvt_queue *q, struct sched_vcpu *s)
{
    struct list *at = q->list.prev;

    /* From the back: who has just run is usually the furthest ahead. */
    while (at != &q->list && list_entry(at, struct sched_vcpu, queue)->evt - s->evt > 0)
        at = at->prev;
    list_insert_(&s->queue, at, at->next);
    q->count++;
}

void bvt_dequeue(struct bvt_queue *q, struct sched_vcpu *s)
{
    list_remove(&s->queue);
    q->count--;
}

void bvt_charge(struct sched_vcpu *s, ns_t ran, ns_t now)
{
    uint64_t scaled = ran * BVT_WEIGHT_DEFAULT + s->avt_remainder;

    s->avt += (int64_t)(scaled / s->weight);
    s->avt_remainder = (uint32_t)(scaled % s->weight);
    if (s->warped) {
        s->warp_used += ran;
        if (s->warp_limit && s->warp_used >= s->warp_limit) {
            s->warped = false;
            s->unwarped_at = now;
        }
    }
    set_evt(s);
}

int64_t bvt_evt_after(const struct sched_vcpu *s, ns_t ran) { return s->evt + to_virtual(s, ran); }

void bvt_update_svt(struct bvt_queue *q, const struct sched_vcpu *running)
{
    const struct sched_vcpu *s, *least = running;

    list_for_each (s, &q->list, queue)
        if (!least || s->avt - least->avt < 0)
            least = s;
    if (least && least->avt - q->svt > 0)
        q->svt = least->avt;
}

void bvt_wake(struct bvt_queue *q, struct sched_vcpu *s, ns_t now)
{
    if (s->avt - q->svt < 0) {
        s->avt = q->svt;
        s->avt_remainder = 0;
    }
    if (s->warp_enabled && (s->warped || now - s->unwarped_at >= s->unwarp_requirement)) {
        s->warped = true;
        s->warp_used = 0;
    }
    set_evt(s);
}

void bvt_migrate(struct sched_vcpu *s, const struct bvt_queue *from, const struct bvt_queue *to)
{
    s->avt += to->svt - from->svt;
    set_evt(s);
}

bool bvt_should_preempt(const struct sched_vcpu *running, int64_t run_evt, const struct sched_vcpu *next,
                        ns_t allowance)
{
    return run_evt - next->evt >= to_virtual(running, allowance);
}

ns_t bvt_slice(const struct sched_vcpu *running, int64_t run_evt, const struct sched_vcpu *next, ns_t allowance)
{
    int64_t behind = next->evt - run_evt + to_virtual(running, allowance); /* virtual ns until next's turn */
    ns_t slice;

    if (behind <= 0)
        return BVT_SLICE_MIN;
    if (behind > (int64_t)BVT_SLICE_MAX)
        behind = BVT_SLICE_MAX;
    slice = DIV_ROUND_UP((uint64_t)behind * running->weight, BVT_WEIGHT_DEFAULT);
    if (running->warped && running->warp_limit)
        slice = min(slice, running->warp_limit - running->warp_used);
    return max(BVT_SLICE_MIN, min(slice, BVT_SLICE_MAX));
}

void bvt_set_weight(struct sched_vcpu *s, uint32_t weight)
{
    s->weight = weight;
    s->avt_remainder = 0;
}

void bvt_set_warp(struct sched_vcpu *s, int64_t warp, ns_t limit, ns_t unwarp, ns_t now)
{
    s->warp_enabled = warp > 0;
    s->warped = s->warp_enabled;
    s->warp = warp;
    s->warp_limit = limit;
    s->unwarp_requirement = unwarp;
    s->warp_used = 0;
    s->unwarped_at = now;
    set_evt(s);
}
