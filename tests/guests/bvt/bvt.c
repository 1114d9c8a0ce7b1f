/* run: cpus=2 smp=2 icount=3 append="dom0_max_vcpus=3" time=60 */
/*
 * Borrowed Virtual Time: its parameters through Croft's own hypercall, set, read back, refused; and the shares of three busy
 * vcpus on two CPUs.
 */
#include "kit.h"

#include "../../../hypervisor/hypercall/croft_abi.h"

static struct croft_sched op;

static long croft(unsigned cmd) { return hypercall(__HYPERVISOR_croft_op, cmd, U(&op), 0, 0, 0); }

static long set(uint32_t vcpu, uint32_t flags)
{
    op.domid = DOMID_SELF;
    op.reserved = 0;
    op.vcpu = vcpu;
    op.flags = flags;
    return croft(CROFT_OP_sched_set);
}

static long get(uint32_t vcpu)
{
    memset(&op, 0xee, sizeof(op));
    op.domid = 0;
    op.reserved = 0;
    op.vcpu = vcpu;
    return croft(CROFT_OP_sched_get);
}

static void defaults(void)
{
    for (unsigned vcpu = 0; vcpu < 3; vcpu++) {
        check_equal(get(vcpu), 0);
        check(op.domid == 0 && op.vcpu == vcpu && op.weight == 256 && !op.reserved, "weight %u", op.weight);
        check(!op.flags && !op.warp && !op.limit && !op.unwarp, "no warp");
    }
}

static void set_and_read_back(void)
{
    op = (struct croft_sched){.weight = 512, .warp = 1000000, .limit = 2000000, .unwarp = 30000000};
    check_equal(set(0, CROFT_SCHED_SET_WEIGHT), 0);
    check_equal(get(0), 0);
    check(op.weight == 512 && !op.warp && !op.limit && !op.unwarp, "only the weight was set");
    op = (struct croft_sched){.weight = 7, .warp = 1000000, .limit = 200000000, .unwarp = 30000000};
    check_equal(set(0, CROFT_SCHED_SET_WARP), 0);
    check_equal(get(0), 0);
    check(op.weight == 512 && op.warp == 1000000 && op.limit == 200000000 && op.unwarp == 30000000,
          "only the warp was set");
    check(op.flags == CROFT_SCHED_WARPED, "warped from now on: flags %x", op.flags);
    for (uint64_t end = time_now() + 250000000; time_now() < end;)
        ;
    hypercall(__HYPERVISOR_sched_op, SCHEDOP_yield, 0, 0, 0, 0);
    check_equal(get(0), 0);
    check(!op.flags, "until its limit is used up: flags %x", op.flags);
    op =
        (struct croft_sched){.weight = 65535, .warp = CROFT_SCHED_WARP_MAX, .limit = CROFT_SCHED_TIME_MAX, .unwarp = 0};
    check_equal(set(1, CROFT_SCHED_SET_WEIGHT | CROFT_SCHED_SET_WARP), 0); /* a vcpu that is not up */
    check_equal(get(1), 0);
    check(op.weight == 65535 && op.warp == CROFT_SCHED_WARP_MAX && op.limit == CROFT_SCHED_TIME_MAX,
          "the greatest values");
    op = (struct croft_sched){.weight = 256};
    check_equal(set(0, CROFT_SCHED_SET_WEIGHT | CROFT_SCHED_SET_WARP), 0);
    check_equal(get(0), 0);
    check(op.weight == 256 && !op.warp && !op.flags, "and back");
}

static void refusals(void)
{
    op.weight = 0;
    check_equal(set(0, CROFT_SCHED_SET_WEIGHT), -EINVAL);
    op.weight = 65536;
    check_equal(set(0, CROFT_SCHED_SET_WEIGHT), -EINVAL);
    op.weight = 100;
    check_equal(set(0, 0), -EINVAL);
    check_equal(set(0, CROFT_SCHED_SET_WEIGHT | CROFT_SCHED_WARPED), -EINVAL);
    op.warp = CROFT_SCHED_WARP_MAX + 1;
    check_equal(set(0, CROFT_SCHED_SET_WEIGHT | CROFT_SCHED_SET_WARP), -EINVAL);
    op.warp = 0;
    op.limit = CROFT_SCHED_TIME_MAX + 1;
    check_equal(set(0, CROFT_SCHED_SET_WARP), -EINVAL);
    op.limit = 0;
    op.unwarp = ~0UL;
    check_equal(set(0, CROFT_SCHED_SET_WARP), -EINVAL);
    check_equal(set(3, CROFT_SCHED_SET_WEIGHT), -ENOENT);
    check_equal(set(~0U, CROFT_SCHED_SET_WEIGHT), -ENOENT);
    check_equal(get(0), 0);
    check(op.weight == 256 && !op.warp && !op.limit && !op.unwarp, "refused is not half done: weight %u", op.weight);
    op.reserved = 1;
    check_equal(croft(CROFT_OP_sched_get), -EINVAL);
    op.reserved = 0;
    op.domid = 77;
    check_equal(croft(CROFT_OP_sched_get), -ESRCH);
    op.domid = DOMID_XEN;
    check_equal(croft(CROFT_OP_sched_get), -ESRCH);
    check_equal(croft(1000), -ENOSYS);
    check_equal(croft(~0U), -ENOSYS);
    for (unsigned cmd = CROFT_OP_sched_get; cmd <= CROFT_OP_sched_set; cmd++) {
        check_equal(hypercall(__HYPERVISOR_croft_op, cmd, VA_UNMAPPED, 0, 0, 0), -EFAULT);
        check_equal(hypercall(__HYPERVISOR_croft_op, cmd, VA_HOLE, 0, 0, 0), -EFAULT);
    }
}

static void walk(void)
{
    unsigned n = 0;

    memset(&op, 0, sizeof(op));
    while (croft(CROFT_OP_sched_next) == 0) {
        check(op.domid == 0 && op.vcpu == n, "d%uv%u", op.domid, op.vcpu);
        n++;
        op.vcpu++;
    }
    check_equal(n, 3);
    check_equal(croft(CROFT_OP_sched_next), -ENOENT);
    op.domid = DOMID_SELF;
    check_equal(croft(CROFT_OP_sched_next), -ENOENT);
}

static void allowance(void)
{
    long before = croft(CROFT_OP_sched_get_allowance);

    check_equal(before, 5000);
    check_equal(hypercall(__HYPERVISOR_croft_op, CROFT_OP_sched_set_allowance, 0, 0, 0, 0), 0);
    check_equal(croft(CROFT_OP_sched_get_allowance), 0);
    check_equal(hypercall(__HYPERVISOR_croft_op, CROFT_OP_sched_set_allowance, CROFT_SCHED_ALLOWANCE_MAX + 1, 0, 0, 0),
                -EINVAL);
    check_equal(hypercall(__HYPERVISOR_croft_op, CROFT_OP_sched_set_allowance, (unsigned long)before, 0, 0, 0), 0);
    check_equal(croft(CROFT_OP_sched_get_allowance), before);
}

static void busy(void)
{
    for (;;)
        asm volatile("pause");
}

/* What each vcpu gets in a second, in hundredths of a CPU. */
static void measure(int *got)
{
    struct vcpu_runstate_info before[3], after[3];
    uint64_t start = time_now(), length;

    for (unsigned i = 0; i < 3; i++)
        check_quiet(vcpu_op(VCPUOP_get_runstate_info, i, &before[i]) == 0, "runstate of vcpu %u", i);
    spin_ns(1000000000);
    length = time_now() - start;
    for (unsigned i = 0; i < 3; i++) {
        check_quiet(vcpu_op(VCPUOP_get_runstate_info, i, &after[i]) == 0, "runstate of vcpu %u", i);
        got[i] = (int)((after[i].time[RUNSTATE_running] - before[i].time[RUNSTATE_running]) * 100 / length);
    }
}

static void check_shares(const char *what, const int *share)
{
    int got[3];

    spin_ns(200000000); /* until the balance is found */
    measure(got);
    for (unsigned i = 0; i < 3; i++)
        check(got[i] > share[i] - 4 && got[i] < share[i] + 4, "%s: vcpu %u has %d of %d", what, i, got[i], share[i]);
}

static void shares(void)
{
    static struct vcpu_guest_context context;

    op = (struct croft_sched){.weight = 256};
    check_equal(set(1, CROFT_SCHED_SET_WEIGHT | CROFT_SCHED_SET_WARP), 0);
    for (unsigned vcpu = 1; vcpu < 3; vcpu++) {
        vcpu_context_fill(&context, vcpu, busy);
        check_equal(vcpu_op(VCPUOP_initialise, vcpu, &context), 0);
        check_equal(vcpu_op(VCPUOP_up, vcpu, NULL), 0);
    }
    check_shares("equal weights", (int[]){67, 67, 67});
    op = (struct croft_sched){.weight = 512};
    check_equal(set(0, CROFT_SCHED_SET_WEIGHT), 0);
    check_shares("twice the weight", (int[]){100, 50, 50});
}

GUEST("bvt")
{
    defaults();
    set_and_read_back();
    refusals();
    walk();
    allowance();
    shares();
}
