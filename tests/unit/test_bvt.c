/* sources: hypervisor/sched/bvt.c */
/* The arithmetic of Borrowed Virtual Time, and a little machine of one CPU that schedules by it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "sched/bvt.h"

#define ALLOWANCE MILLISECS(2)

/* ---- A CPU ---- */

enum { MAX = 16 };
static struct cpu {
    struct bvt_queue q;
    struct sched_vcpu s[MAX];
    ns_t ran[MAX], now;
    int running; /* -1: idle */
    unsigned switches;
} m;

static int setup(void **state)
{
    memset(&m, 0, sizeof(m));
    bvt_queue_init(&m.q);
    m.running = -1;
    for (unsigned i = 0; i < MAX; i++)
        bvt_init(&m.s[i]);
    return 0;
}

static unsigned depth(const struct sched_vcpu *t) { return t ? 1 + max(depth(t->left), depth(t->right)) : 0; }

/* Sorted, counted, and every node knows the least avt below it. */
static void check_queue(void)
{
    struct sched_vcpu *s, *before = NULL, *least = NULL;
    unsigned n = 0;

    bvt_for_each(s, &m.q)
    {
        assert_true(s->queued);
        assert_true(!before || s->evt - before->evt > 0 ||
                    (s->evt == before->evt && (int32_t)(s->ticket - before->ticket) > 0));
        assert_true(s->evt == s->avt - (s->warped ? s->warp : 0) - s->early);
        assert_true(s->avt_remainder < s->weight);
        assert_true((!s->left || s->left->rank <= s->rank) && (!s->right || s->right->rank <= s->rank));
        if (!least || s->avt - least->avt < 0)
            least = s;
        before = s;
        n++;
    }
    assert_int_equal(n, m.q.count);
    assert_true(least ? m.q.root->least->avt == least->avt : !m.q.root);
}

static void wake(int i)
{
    if (m.running >= 0)
        bvt_update_svt(&m.q, &m.s[m.running]);
    bvt_wake(&m.q, &m.s[i], m.now, ALLOWANCE);
    bvt_enqueue(&m.q, &m.s[i]);
}

/* The running one runs for so long. */
static void run(ns_t t)
{
    m.now += t;
    if (m.running < 0)
        return;
    m.ran[m.running] += t;
    bvt_charge(&m.s[m.running], t, m.now);
    bvt_update_svt(&m.q, &m.s[m.running]);
}

static void pick(bool keep)
{
    struct sched_vcpu *first = bvt_first(&m.q), *r = m.running >= 0 ? &m.s[m.running] : NULL;

    if (r && keep && (!first || !bvt_should_preempt(r, r->evt, bvt_due(&m.q, first), ALLOWANCE)))
        return;
    if (first) {
        bvt_dequeue(&m.q, first);
        bvt_start(first);
    }
    if (r && keep)
        bvt_enqueue(&m.q, r);
    m.running = first ? (int)(first - m.s) : -1;
    m.switches++;
    check_queue();
}

static ns_t slice(void)
{
    struct sched_vcpu *first = bvt_first(&m.q), *r = &m.s[m.running];

    return first ? bvt_slice(r, r->evt, bvt_due(&m.q, first), ALLOWANCE) : MILLISECS(10);
}

static void run_for(ns_t t)
{
    ns_t end = m.now + t;

    while (m.now < end) {
        run(m.running < 0 ? 1000 : slice());
        pick(true);
    }
}

/* ---- Tests ---- */

static void test_shares(void **state)
{
    const uint32_t weights[] = {256, 512, 64, 1024, 300};
    uint64_t total_weight = 0, total = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(weights); i++) {
        bvt_set_weight(&m.s[i], weights[i]);
        total_weight += weights[i];
        wake(i);
    }
    pick(false);
    run_for(SECONDS(60));
    for (unsigned i = 0; i < ARRAY_SIZE(weights); i++)
        total += m.ran[i];
    assert_int_equal(total, m.now);
    for (unsigned i = 0; i < ARRAY_SIZE(weights); i++) {
        double share = (double)m.ran[i] / total * total_weight / weights[i];

        assert_true(share > 0.98 && share < 1.02);
    }
    /* The allowance keeps switches rare: one in 2 ms of the running one's time at most, here less. */
    assert_true(m.switches <= 60 * 1000 / 2 + 1);
}

/* In any window nobody is further from its share than a few allowances. */
static void test_short_windows(void **state)
{
    for (unsigned i = 0; i < 4; i++)
        wake(i);
    run_for(MILLISECS(100));
    for (unsigned round = 0; round < 100; round++) {
        memset(m.ran, 0, sizeof(m.ran));
        run_for(MILLISECS(50));
        for (unsigned i = 0; i < 4; i++)
            assert_true(m.ran[i] > MILLISECS(8) && m.ran[i] < MILLISECS(17));
    }
}

static void test_exact_charge(void **state)
{
    struct sched_vcpu *s = &m.s[0];

    bvt_set_weight(s, 1000);
    for (unsigned i = 0; i < 1000000; i++)
        bvt_charge(s, 7, 0);
    assert_int_equal(s->avt, 7000000UL * 256 / 1000);
    assert_int_equal(s->avt_remainder, 7000000UL * 256 % 1000);
}

static void test_no_credit_for_sleep(void **state)
{
    wake(0);
    pick(false);
    run_for(SECONDS(10)); /* 1 slept all the time */
    wake(1);
    m.ran[0] = m.ran[1] = 0;
    run_for(SECONDS(1));
    assert_true(m.ran[0] > MILLISECS(490) && m.ran[1] > MILLISECS(490));
    /* nor does one that sleeps lose what it is behind by */
    assert_true(m.s[1].avt - m.q.svt >= 0 || m.s[0].avt - m.q.svt >= 0);
}

/* Sleeping again and again for a moment earns nothing either: at most its fair share. */
static void test_napper(void **state)
{
    wake(0);
    wake(1);
    wake(2);
    pick(false);
    for (unsigned i = 0; i < 20000; i++) {
        run(min(slice(), MICROSECS(300)));
        if (m.running == 1) { /* naps for 50 us whenever it has run */
            pick(false);
            run(MICROSECS(50));
            wake(1);
        }
        pick(true);
    }
    assert_true(m.ran[1] <= m.now / 3 + MILLISECS(5));
}

/* One that sleeps most of the time is not behind all those who have their turn still before them in the round. */
static void test_wakes_are_prompt(void **state)
{
    ns_t due = MILLISECS(10), latest = 0;

    srand(5);
    for (unsigned i = 1; i < MAX; i++)
        wake((int)i);
    pick(false);
    while (m.now < SECONDS(20)) {
        bool sleeps = m.running != 0 && !m.s[0].queued;
        ns_t before = m.now;

        /* Timers are late by a little, as they are in truth. */
        run(m.running == 0 ? MICROSECS(100) : min(slice() + rand() % 50000, sleeps ? due - m.now : NS_NEVER));
        if (sleeps && m.now >= due) {
            wake(0);
        } else if (m.running == 0) {
            if (m.now > SECONDS(1)) /* in the first round all had woken */
                latest = max(latest, before - due);
            due = max(due + MILLISECS(10), m.now + 1);
            pick(false);
            continue;
        }
        pick(true);
    }
    assert_true(latest <= 2 * ALLOWANCE);
    assert_true(m.ran[0] >= MILLISECS(190)); /* it ran each time */
}

/* Who wakes comes first in the queue, but the running one has its turn still, and no more than that. */
static void test_wake_ends_no_turn(void **state)
{
    for (int i = 0; i < 3; i++)
        wake(i);
    pick(false);
    run_for(3 * ALLOWANCE); /* all had a turn */
    assert_int_equal(m.running, 0);
    run(MICROSECS(100));
    pick(true);
    m.s[3].avt = m.q.svt + MICROSECS(500);
    wake(3);
    assert_ptr_equal(bvt_first(&m.q), &m.s[3]);
    pick(true);
    assert_int_equal(m.running, 0);
    assert_int_equal(slice(), ALLOWANCE - MICROSECS(100)); /* as if 3 had not come */
    run(slice());
    pick(true);
    assert_int_equal(m.running, 3);
    assert_int_equal(slice(), ALLOWANCE - MICROSECS(500)); /* and then it has no more than the others */
}

static void test_warp_order(void **state)
{
    wake(0);
    pick(false);
    run_for(MILLISECS(100));
    bvt_set_warp(&m.s[1], MILLISECS(50), 0, 0, m.now);
    wake(1);
    wake(2);
    assert_ptr_equal(bvt_first(&m.q), &m.s[1]);
    assert_true(bvt_should_preempt(&m.s[0], m.s[0].evt, m.s[1].evt, ALLOWANCE)); /* at once */
    assert_false(bvt_should_preempt(&m.s[0], m.s[0].evt, m.s[2].evt + m.s[2].early, ALLOWANCE));
    pick(true);
    assert_int_equal(m.running, 1);
    /* It borrows, it is not given: after 50 ms more than the others it waits for them. */
    memset(m.ran, 0, sizeof(m.ran));
    run_for(MILLISECS(48));
    assert_int_equal(m.ran[0] + m.ran[2], 0);
    run_for(SECONDS(10));
    for (unsigned i = 0; i < 3; i++)
        assert_true(m.ran[i] > MILLISECS(3250) && m.ran[i] < MILLISECS(3450));
}

static void test_warp_limits(void **state)
{
    struct sched_vcpu *s = &m.s[0];

    wake(1);
    bvt_set_warp(s, MILLISECS(50), MILLISECS(5), MILLISECS(30), m.now);
    wake(0);
    pick(false);
    assert_int_equal(m.running, 0);
    assert_true(slice() <= MILLISECS(5));
    run(slice());
    assert_false(s->warped);
    assert_int_equal(s->evt, s->avt);
    pick(true);
    assert_int_equal(m.running, 1);
    /* Sleeps and wakes before the requirement is met: not warped; later: warped, with all of its limit. */
    bvt_dequeue(&m.q, s);
    run(MILLISECS(10));
    wake(0);
    assert_false(s->warped);
    bvt_dequeue(&m.q, s);
    run(MILLISECS(30));
    wake(0);
    assert_true(s->warped);
    assert_int_equal(s->warp_used, 0);
    bvt_dequeue(&m.q, s);
    bvt_set_warp(s, 0, 0, 0, m.now);
    assert_false(s->warped || s->warp_enabled);
    assert_int_equal(s->evt, s->avt - s->early);
}

/* Who moves keeps its place among those of both CPUs, as far as the two differ for a reason. */
static void test_migrate(void **state)
{
    struct bvt_queue other;
    struct sched_vcpu *s = &m.s[0];
    int64_t ahead;

    bvt_queue_init(&other);
    other.svt = 5000000000;
    wake(0);
    wake(1);
    pick(false);
    run_for(MILLISECS(100));
    /* It idled: level with the first that it meets */
    bvt_meet(&m.q, &other, MILLISECS(10));
    assert_int_equal(m.q.svt + m.q.offset, other.svt + other.offset);
    /* Behind by less than the lag: remembered */
    other.svt += MILLISECS(7);
    bvt_meet(&m.q, &other, MILLISECS(10));
    assert_int_equal(m.q.svt + m.q.offset + MILLISECS(7), other.svt + other.offset);
    bvt_dequeue(&m.q, bvt_first(&m.q));
    ahead = s->avt - m.q.svt;
    bvt_migrate(s, &m.q, &other);
    assert_int_equal(s->avt - other.svt, ahead - (int64_t)MILLISECS(7));
    assert_int_equal(s->evt, s->avt);
    bvt_migrate(s, &other, &m.q);
    assert_int_equal(s->avt - m.q.svt, ahead);
    /* By more: forgiven, whichever comes first; by the weight of who is ahead */
    for (unsigned i = 0; i < 4; i++) {
        (i < 2 ? &m.q : &other)->svt += SECONDS(3);
        m.q.svt_weight = other.svt_weight = BVT_WEIGHT_DEFAULT / 2;
        if (i % 2)
            bvt_meet(&m.q, &other, MILLISECS(10));
        else
            bvt_meet(&other, &m.q, MILLISECS(10));
        ahead = m.q.svt + m.q.offset - (other.svt + other.offset);
        assert_int_equal(ahead, (i < 2 ? 1 : -1) * (int64_t)MILLISECS(20));
    }
    /* One that idled has neither claim nor debt. */
    for (unsigned i = 0; i < 4; i++) {
        (i < 2 ? &m.q : &other)->svt += MILLISECS(5);
        (i % 2 ? &m.q : &other)->fresh = true;
        bvt_meet(&m.q, &other, MILLISECS(10));
        assert_int_equal(m.q.svt + m.q.offset, other.svt + other.offset);
        assert_false(m.q.fresh || other.fresh);
    }
    /* An empty one that gets something is level with where it comes from. */
    bvt_queue_init(&other);
    bvt_level(&other, &m.q);
    assert_int_equal(m.q.svt + m.q.offset, other.svt + other.offset);
    assert_false(other.fresh);
}

static void test_slice_bounds(void **state)
{
    struct sched_vcpu *a = &m.s[0], *b = &m.s[1];

    bvt_set_weight(a, BVT_WEIGHT_MAX);
    a->evt = 0;
    b->evt = INT64_MAX / 4;
    assert_int_equal(bvt_slice(a, a->evt, b->evt, ALLOWANCE), BVT_SLICE_MAX);
    b->evt = -(INT64_MAX / 4);
    assert_int_equal(bvt_slice(a, a->evt, b->evt, ALLOWANCE), BVT_SLICE_MIN);
    assert_true(bvt_should_preempt(a, a->evt, b->evt, ALLOWANCE));
    bvt_set_weight(a, 1);
    b->evt = 0;
    assert_int_equal(bvt_slice(a, a->evt, b->evt, ALLOWANCE), ALLOWANCE);
    /* The slice is just long enough. */
    for (unsigned i = 0; i < 10000; i++) {
        ns_t t;

        bvt_set_weight(a, 1 + rand() % BVT_WEIGHT_MAX);
        b->evt = rand() % 100000000;
        t = bvt_slice(a, 0, b->evt, ALLOWANCE);
        if (t > BVT_SLICE_MIN && t < BVT_SLICE_MAX) {
            a->evt = 0;
            assert_true(bvt_should_preempt(a, bvt_evt_after(a, t + a->weight / 256 + 1), b->evt, ALLOWANCE));
            assert_false(bvt_should_preempt(a, bvt_evt_after(a, t - t / 1000 - 1000), b->evt, ALLOWANCE) &&
                         t > ALLOWANCE + 2000);
        }
    }
}

/* Virtual time may wrap. */
static void test_wrap(void **state)
{
    for (unsigned i = 0; i < 3; i++) {
        m.s[i].avt = m.s[i].evt = INT64_MAX - 1000000;
        bvt_enqueue(&m.q, &m.s[i]);
    }
    m.q.svt = INT64_MAX - 1000000;
    pick(false);
    run_for(SECONDS(3));
    assert_true(m.q.svt < 0);
    for (unsigned i = 0; i < 3; i++)
        assert_true(m.ran[i] > MILLISECS(980) && m.ran[i] < MILLISECS(1020));
}

/* Random wakes, sleeps, weights and warps: the queue stays sorted, virtual time never goes back, nobody starves. */
static void test_random(void **state)
{
    bool awake[MAX] = {0};
    ns_t waiting_since[MAX] = {0};

    srand(5);
    for (unsigned step = 0; step < 300000; step++) {
        int i = rand() % 8;
        int64_t svt = m.q.svt;

        switch (rand() % 6) {
        case 0:
            if (!awake[i]) {
                awake[i] = true;
                waiting_since[i] = m.now;
                wake(i);
            }
            break;
        case 1:
            if (awake[i]) {
                awake[i] = false;
                if (m.running == i)
                    pick(false);
                else
                    bvt_dequeue(&m.q, &m.s[i]);
            }
            break;
        case 2:
            if (!awake[i]) {
                bvt_set_weight(&m.s[i], 64 + rand() % 1000);
                bvt_set_warp(&m.s[i], rand() % 3 ? 0 : MILLISECS(rand() % 20), MILLISECS(1 + rand() % 10),
                             MILLISECS(20), m.now);
            }
            break;
        default:
            run(m.running < 0 ? 1000 : rand() % 2 ? slice() : (ns_t)(rand() % 1000000));
            pick(m.running >= 0);
        }
        if (m.running < 0 && m.q.count)
            pick(false);
        if (m.running >= 0)
            waiting_since[m.running] = m.now;
        assert_true(m.q.svt - svt >= 0);
        check_queue();
        for (i = 0; i < 8; i++)
            if (awake[i])
                assert_true(m.now - waiting_since[i] < SECONDS(2));
    }
}

/*
 * Random sets on one CPU, at random moments: nobody has had more than its share and an allowance; nor less by more than
 * what the others are ahead by together, of which it bears its part by weight. And the shortest slice, for each.
 */
static void test_lag(void **state)
{
    const double most = ALLOWANCE + BVT_SLICE_MIN;

    srand(3);
    for (unsigned round = 0; round < 200; round++) {
        unsigned n = 2 + rand() % (MAX - 1);
        double total = 0;

        setup(state);
        for (unsigned i = 0; i < n; i++) {
            bvt_set_weight(&m.s[i], rand() % 4 ? 1U + rand() % 1000 : 1U + rand() % BVT_WEIGHT_MAX);
            total += m.s[i].weight;
            wake(i);
        }
        pick(false);
        for (unsigned look = 0; look < 50; look++) {
            run_for(rand() % MILLISECS(100));
            for (unsigned i = 0; i < n; i++) {
                double share = m.s[i].weight / total, ahead = m.ran[i] - share * m.now;

                assert_true(ahead <= most);
                assert_true(ahead >= -(1 + n * share) * most);
            }
        }
    }
}

/* However it naps, a vcpu runs warped for no longer than its limit before it has been without for the requirement; and
 * what it borrows it gives back. */
static void test_warp_bounded(void **state)
{
    srand(4);
    for (unsigned round = 0; round < 50; round++) {
        ns_t limit = MILLISECS(1 + rand() % 10), unwarp = MILLISECS(10 + rand() % 100), warped = 0, longest = 0,
             run_of = 0;
        ns_t last = 0;

        setup(state);
        wake(1);
        wake(2);
        pick(false);
        m.now = SECONDS(1);
        bvt_set_warp(&m.s[0], MILLISECS(200), limit, unwarp, m.now);
        wake(0);
        pick(true);
        memset(m.ran, 0, sizeof(m.ran));
        while (m.now < SECONDS(11)) {
            bool was = m.running == 0 && m.s[0].warped;
            ns_t t = min(slice(), (ns_t)(rand() % 2000000));

            if (was && m.now - last >= unwarp)
                run_of = 0;
            run(t);
            if (was) {
                warped += t;
                run_of += t;
                longest = max(longest, run_of);
                last = m.now;
            }
            if (m.running == 0 && rand() % 2) { /* a nap */
                pick(false);
                run(rand() % 1000000);
                wake(0);
            }
            pick(true);
        }
        assert_true(longest <= limit + BVT_SLICE_MIN);
        assert_true(warped <= (SECONDS(10) / unwarp + 1) * (limit + BVT_SLICE_MIN));
        assert_true(warped >= limit);
        assert_true(m.ran[0] <= (m.now - SECONDS(1)) / 3 + MILLISECS(200) + 2 * ALLOWANCE);
    }
}

/* Thousands come and go, in the worst orders: the tree stays shallow, equal ones keep their order. */
static void test_queue(void **state)
{
    enum { MANY = 4096 };
    static struct sched_vcpu many[MANY];
    struct sched_vcpu *s;

    for (unsigned order = 0; order < 3; order++) {
        unsigned n = 0;

        for (unsigned i = 0; i < MANY; i++) {
            bvt_init(&many[i]);
            many[i].avt = many[i].evt = order == 0 ? (int)i : order == 1 ? -(int)i : 0;
            bvt_enqueue(&m.q, &many[i]);
        }
        check_queue();
        assert_true(depth(m.q.root) < 48); /* about 30; a list would have 4096 */
        bvt_for_each(s, &m.q)
        {
            assert_ptr_equal(s, &many[order == 1 ? MANY - 1 - n : n]);
            n++;
        }
        for (unsigned i = 0; i < MANY / 2; i++)
            bvt_dequeue(&m.q, &many[i * 2]);
        check_queue();
        assert_ptr_equal(bvt_first(&m.q), &many[order == 1 ? MANY - 1 : 1]);
        while ((s = bvt_first(&m.q)) != NULL)
            bvt_dequeue(&m.q, s);
        check_queue();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup(f, setup)
        TEST(test_shares),       TEST(test_short_windows), TEST(test_exact_charge),     TEST(test_no_credit_for_sleep),
        TEST(test_napper),       TEST(test_warp_order),    TEST(test_warp_limits),      TEST(test_migrate),
        TEST(test_slice_bounds), TEST(test_wrap),          TEST(test_random),           TEST(test_queue),
        TEST(test_lag),          TEST(test_warp_bounded),  TEST(test_wakes_are_prompt), TEST(test_wake_ends_no_turn),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
