/* run: beside=yes smp=4 append="dom0_max_vcpus=4" time=90 */
/*
 * What takes several vcpus to attack: races about the types of the same frames (races.c), arguments that others change while
 * they are read (changing.c), and floods of whatever takes Croft's time (floods.c).
 */
#include "hostile.h"

static void (*volatile job)(unsigned);
static volatile unsigned orders, done[TEAM];
static struct {
    uint64_t seed;
} __attribute__((aligned(64))) seeds[TEAM];

uint64_t random(unsigned v)
{
    uint64_t x = seeds[v].seed;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return seeds[v].seed = x;
}

static void member(void)
{
    unsigned v = vcpu_id();

    for (;;) {
        struct sched_poll nap = {.timeout = time_now() + 200000};

        if (done[v] == orders) {
            sched_op(SCHEDOP_poll, &nap);
            continue;
        }
        job(v);
        barrier();
        done[v]++;
    }
}

void team_run(void (*f)(unsigned v))
{
    job = f;
    barrier();
    orders++;
    f(0);
    for (unsigned v = 1; v < TEAM; v++)
        while (done[v] != orders)
            sched_op(SCHEDOP_yield, NULL);
}

static void team_start(void)
{
    static struct vcpu_guest_context context;

    for (unsigned v = 0; v < TEAM; v++)
        seeds[v].seed = (v + 1) * 0x9e3779b97f4a7c15UL;
    for (unsigned v = 1; v < TEAM; v++) {
        long rc;

        vcpu_context_fill(&context, v, member);
        rc = vcpu_op(VCPUOP_initialise, v, &context);
        if (rc == 0)
            rc = vcpu_op(VCPUOP_up, v, NULL);
        if (rc != 0)
            panic("vcpu %u does not start: %ld", v, rc);
    }
}

GUEST("hostile")
{
    vcpu_op(VCPUOP_stop_periodic_timer, 0, NULL);
    events_enable();
    team_start();
    races();
    changing();
    floods();
}
