/*
 * Borrowed Virtual Time: the arithmetic. Real time (ns) becomes virtual by * BVT_WEIGHT_DEFAULT / weight, so a vcpu of
 * twice the weight ages half as fast and gets twice the time. See Duda and Cheriton, "Borrowed-Virtual-Time (BVT)
 * scheduling", SOSP 1999; names there: A_i avt, E_i evt, W_i warp, L_i warp_limit, U_i unwarp_requirement, C allowance.
 */
#include "sched/bvt.h"

void bvt_queue_init(struct bvt_queue *q)
{
    *q = (struct bvt_queue){.svt_weight = BVT_WEIGHT_DEFAULT, .fresh = true, .seed = 1};
}

void bvt_init(struct sched_vcpu *s)
{
    s->weight = BVT_WEIGHT_DEFAULT;
    s->queued = false;
}

/*
 * The queue: a treap, that is a search tree by evt whose nodes also form a heap by a random rank, which keeps it
 * about as deep as the logarithm of its size whatever comes and goes. Every node knows who in its subtree has the least
 * avt. All functions below take a subtree, null if empty, and return what stands in its place afterwards.
 */
static bool comes_before(const struct sched_vcpu *a, const struct sched_vcpu *b)
{
    return a->evt != b->evt ? a->evt - b->evt < 0 : (int32_t)(a->ticket - b->ticket) < 0;
}

static struct sched_vcpu *lesser_avt(struct sched_vcpu *a, const struct sched_vcpu *below)
{
    return below && below->least->avt - a->avt < 0 ? below->least : a;
}

static struct sched_vcpu *with_least(struct sched_vcpu *t)
{
    t->least = lesser_avt(lesser_avt(t, t->left), t->right);
    return t;
}

/* What comes before s goes below *left, what comes after it below *right. */
static void tree_split(struct sched_vcpu *t, const struct sched_vcpu *s, struct sched_vcpu **left,
                       struct sched_vcpu **right)
{
    if (!t) {
        *left = *right = NULL;
    } else if (comes_before(t, s)) {
        *left = t;
        tree_split(t->right, s, &t->right, right);
        with_least(t);
    } else {
        *right = t;
        tree_split(t->left, s, left, &t->left);
        with_least(t);
    }
}

/* All of a comes before all of b. */
static struct sched_vcpu *tree_join(struct sched_vcpu *a, struct sched_vcpu *b)
{
    if (!a || !b)
        return a ? a : b;
    if (a->rank > b->rank) {
        a->right = tree_join(a->right, b);
        return with_least(a);
    }
    b->left = tree_join(a, b->left);
    return with_least(b);
}

static struct sched_vcpu *tree_insert(struct sched_vcpu *t, struct sched_vcpu *s)
{
    if (!t || s->rank > t->rank) {
        tree_split(t, s, &s->left, &s->right);
        return with_least(s);
    }
    if (comes_before(s, t))
        t->left = tree_insert(t->left, s);
    else
        t->right = tree_insert(t->right, s);
    return with_least(t);
}

static struct sched_vcpu *tree_remove(struct sched_vcpu *t, const struct sched_vcpu *s)
{
    if (t == s)
        return tree_join(t->left, t->right);
    if (comes_before(s, t))
        t->left = tree_remove(t->left, s);
    else
        t->right = tree_remove(t->right, s);
    return with_least(t);
}

struct sched_vcpu *bvt_next(const struct bvt_queue *q, const struct sched_vcpu *s)
{
    struct sched_vcpu *t = q->root, *next = NULL;

    while (t) {
        if (comes_before(s, t)) {
            next = t;
            t = t->left;
        } else {
            t = t->right;
        }
    }
    return next;
}

void bvt_enqueue(struct bvt_queue *q, struct sched_vcpu *s)
{
    q->seed = q->seed * 1664525 + 1013904223; /* Knuth and Lewis; what counts in comparisons are its high bits */
    s->rank = q->seed;
    s->ticket = q->tickets++;
    s->queued = true;
    s->left = s->right = NULL;
    s->least = s;
    q->root = q->root ? tree_insert(q->root, s) : s;
    q->count++;
}

void bvt_dequeue(struct bvt_queue *q, struct sched_vcpu *s)
{
    q->count--;
    q->root = q->count ? tree_remove(q->root, s) : NULL;
    s->queued = false;
}

static void set_evt(struct sched_vcpu *s) { s->evt = s->avt - (s->warped ? s->warp : 0) - s->early; }

static int64_t to_virtual(const struct sched_vcpu *s, ns_t real) { return bvt_virtual(real, s->weight); }

void bvt_charge(struct sched_vcpu *s, ns_t ran, ns_t now)
{
    uint64_t scaled = ran * BVT_WEIGHT_DEFAULT + s->avt_remainder;

    s->avt += (int64_t)(scaled / s->weight);
    s->avt_remainder = (uint32_t)(scaled % s->weight);
    if (s->warped) {
        s->warp_used += ran;
        s->unwarped_at = now;
        if (s->warp_limit && s->warp_used >= s->warp_limit)
            s->warped = false;
    }
    set_evt(s);
}

int64_t bvt_evt_after(const struct sched_vcpu *s, ns_t ran) { return s->evt + to_virtual(s, ran); }

void bvt_wake(struct bvt_queue *q, struct sched_vcpu *s, ns_t now, ns_t allowance)
{
    if (s->avt - q->svt < 0) {
        s->avt = q->svt;
        s->avt_remainder = 0;
    }
    /* Else it goes on with what is left of the last warp, if anything: naps do not lengthen it. */
    if (s->warp_enabled && now - s->unwarped_at >= s->unwarp_requirement) {
        s->warped = true;
        s->warp_used = 0;
    }
    s->early = to_virtual(s, allowance);
    set_evt(s);
}

void bvt_start(struct sched_vcpu *s)
{
    s->early = 0;
    set_evt(s);
}

int64_t bvt_due(const struct bvt_queue *q, const struct sched_vcpu *first)
{
    int64_t due = first->evt + first->early;
    const struct sched_vcpu *least = q->root ? q->root->least : first;

    return first->early && least->avt - due < 0 ? least->avt : due;
}

void bvt_level(struct bvt_queue *q, const struct bvt_queue *other)
{
    q->offset = other->svt + other->offset - q->svt;
    q->fresh = other->fresh;
}

void bvt_meet(struct bvt_queue *a, struct bvt_queue *b, ns_t lag)
{
    int64_t ahead = a->svt + a->offset - (b->svt + b->offset), too_far;

    if (ahead < 0) {
        bvt_meet(b, a, lag);
        return;
    }
    too_far = ahead - bvt_virtual(lag, a->svt_weight);
    if (b->fresh)
        b->offset += ahead;
    else if (a->fresh)
        a->offset -= ahead;
    else if (too_far > 0)
        b->offset += too_far;
    a->fresh = b->fresh = false;
}

void bvt_migrate(struct sched_vcpu *s, const struct bvt_queue *from, const struct bvt_queue *to)
{
    s->avt += from->offset - to->offset;
    set_evt(s);
}

bool bvt_should_preempt(const struct sched_vcpu *running, int64_t run_evt, int64_t next_evt, ns_t allowance)
{
    return run_evt - next_evt >= to_virtual(running, allowance);
}

ns_t bvt_slice(const struct sched_vcpu *running, int64_t run_evt, int64_t next_evt, ns_t allowance)
{
    int64_t behind = next_evt - run_evt + to_virtual(running, allowance); /* virtual ns until next's turn */
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
