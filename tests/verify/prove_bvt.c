/* options: -warn-unsigned-overflow */
/*
 * sched/bvt.c, all of its arithmetic but for the queue: no division by zero, no shift or conversion out of range, no unsigned
 * overflow (signed virtual times wrap, as sched/bvt.h says), and what the assertions below say.
 * Bounds: weight 1 to BVT_WEIGHT_MAX; a run and an allowance of up to 2^52 ns (52 days); real time up
 * to 2^62 ns; limits of a warp: none, 1 ns, 1 ms, 1 s, 2^52 ns.
 */
#include "sched/bvt.h"
#ifdef NO_MAXIMUM /* of a slice */
#undef min
#define min(a, b) (a)
#endif
#include "sched/bvt.c"

#define RUN_MAX (1L << 52)

static struct sched_vcpu any_vcpu(ns_t limit)
{
    struct sched_vcpu s = {0};

    s.avt = Frama_C_long_long_interval(INT64_MIN, INT64_MAX);
    s.evt = Frama_C_long_long_interval(INT64_MIN, INT64_MAX);
    s.early = Frama_C_long_long_interval(INT64_MIN, INT64_MAX);
    s.weight = Frama_C_unsigned_int_interval(1, BVT_WEIGHT_MAX);
#ifdef NO_WEIGHT
    s.weight = Frama_C_unsigned_int_interval(0, BVT_WEIGHT_MAX);
#endif
    s.avt_remainder = Frama_C_unsigned_int_interval(0, BVT_WEIGHT_MAX - 1);
    s.warped = Frama_C_interval(0, 1);
    s.warp_enabled = Frama_C_interval(0, 1);
    s.warp = Frama_C_long_long_interval(INT64_MIN, INT64_MAX);
    s.warp_limit = limit;
    s.warp_used = Frama_C_long_long_interval(0, limit ? limit - 1 : RUN_MAX); /* else the warp has ended */
    return s;
}

static bool prove(ns_t limit)
{
    struct sched_vcpu s = any_vcpu(limit), t;
    struct bvt_queue q, other;
    ns_t ran = Frama_C_long_long_interval(0, RUN_MAX), now = Frama_C_long_long_interval(0, 1L << 62);
    ns_t slice;

    t = s;
    bvt_charge(&t, ran, now);
    /*@ assert t.avt_remainder < 65535; */
    bvt_queue_init(&q);
    q.svt = Frama_C_long_long_interval(INT64_MIN, INT64_MAX);
    q.offset = Frama_C_long_long_interval(INT64_MIN, INT64_MAX);
    q.svt_weight = Frama_C_unsigned_int_interval(1, BVT_WEIGHT_MAX);
    other = q;
    s.unwarped_at = Frama_C_long_long_interval(0, now);
    bvt_level(&q, &other);
    bvt_migrate(&s, &q, &other);
    t = s;
    bvt_start(&t);
    /*@ assert t.early == 0; */
    slice = bvt_slice(&s, s.evt, Frama_C_long_long_interval(INT64_MIN, INT64_MAX), ran);
    /*@ assert 100000 <= slice <= 10000000000; */
    return bvt_should_preempt(&s, s.evt, q.svt, ran);
}

int main(void)
{
    static const ns_t limits[] = {0, 1, MILLISECS(1), SECONDS(1), RUN_MAX};

    for (unsigned i = 0; i < ARRAY_SIZE(limits); i++)
        (void)prove(limits[i]);
    return 0;
}
