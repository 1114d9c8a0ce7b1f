/* A second vcpu that does what the first one tells it. */
#include "kit.h"

static void (*volatile work)(void *);
static void *volatile work_argument;
static volatile unsigned ordered, done;

static void second(void)
{
    for (;;) {
        struct sched_poll nap = {.timeout = time_now() + 1000000};

        if (done == ordered) {
            sched_op(SCHEDOP_poll, &nap);
            continue;
        }
        work(work_argument);
        barrier();
        done++;
    }
}

void second_start(void)
{
    static struct vcpu_guest_context context;
    long rc;

    vcpu_context_fill(&context, 1, second);
    rc = vcpu_op(VCPUOP_initialise, 1, &context);
    if (rc == 0)
        rc = vcpu_op(VCPUOP_up, 1, NULL);
    if (rc != 0)
        panic("the second vcpu does not start: %ld", rc);
}

void second_begin(void (*f)(void *), void *argument)
{
    work = f;
    work_argument = argument;
    barrier();
    ordered++;
}

bool second_done(void) { return done == ordered; }

bool second_wait(void)
{
    uint64_t limit = time_now() + 5000000000UL;

    while (!second_done() && time_now() < limit)
        asm volatile("pause");
    return check_quiet(second_done(), "the second vcpu does not come to an end");
}
