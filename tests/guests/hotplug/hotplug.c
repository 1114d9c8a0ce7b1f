/* run: cpus=4 smp=4 append="dom0_max_vcpus=4" time=90 */
/*
 * CPUs off line and on again, and CPU pools, under four vcpus of which one changes all that, one is always busy, one naps by
 * SCHEDOP_poll, and one waits for its timer and flushes all TLBs: whichever CPU goes, each of them goes on.
 */
#define __XEN_TOOLS__ 1
#include "kit.h"
#include <xen/domctl.h>
#include <xen/platform.h>
#include <xen/sysctl.h>

#define CPUS 4
#define ROUNDS 24
#define MS 1000000UL
#define GIVE_UP (10000 * MS) /* on a busy host */

static volatile unsigned counts[CPUS];
static long timer_port; /* vcpu 3's */

static void busy(void)
{
    for (;;) {
        counts[1]++;
        asm volatile("pause");
    }
}

static void naps(void)
{
    for (;;) {
        struct sched_poll nap = {.timeout = time_now() + MS};

        sched_op(SCHEDOP_poll, &nap);
        counts[2]++;
    }
}

static void waits(void)
{
    for (;;) {
        unsigned before = event_counts[timer_port];

        events_disable();
        set_timer_op(time_now() + MS);
        while (event_counts[timer_port] == before) {
            sched_op(SCHEDOP_block, NULL);
            events_disable();
        }
        events_enable();
        check_quiet(mmuext(MMUEXT_TLB_FLUSH_ALL, 0, 0) == 0, "a flush of all TLBs fails");
        counts[3]++;
    }
}

static void start(unsigned v, void (*f)(void))
{
    static struct vcpu_guest_context context;

    vcpu_context_fill(&context, v, f);
    if (vcpu_op(VCPUOP_initialise, v, &context) || vcpu_op(VCPUOP_up, v, NULL))
        panic("vcpu %u does not start", v);
}

/* Everybody gets somewhere. */
static bool all_go_on(const char *when)
{
    uint64_t limit = time_now() + GIVE_UP;
    bool ok = true;

    for (unsigned v = 1; v < CPUS; v++) {
        unsigned from = counts[v];

        while (counts[v] - from < 3 && time_now() < limit)
            asm volatile("pause");
        ok = check_quiet(counts[v] - from >= 3, "vcpu %u stands still %s", v, when) && ok;
    }
    return ok;
}

static struct xen_sysctl op;
static uint8_t map[8];

static long sysctl(uint32_t cmd)
{
    op.cmd = cmd;
    op.interface_version = XEN_SYSCTL_INTERFACE_VERSION;
    return hypercall(__HYPERVISOR_sysctl, U(&op), 0, 0, 0, 0);
}

static long hotplug(unsigned cpu, unsigned what)
{
    memset(&op, 0, sizeof(op));
    op.u.cpu_hotplug.cpu = cpu;
    op.u.cpu_hotplug.op = what;
    return sysctl(XEN_SYSCTL_cpu_hotplug);
}
static long off(unsigned cpu) { return hotplug(cpu, XEN_SYSCTL_CPU_HOTPLUG_OFFLINE); }
static long on(unsigned cpu) { return hotplug(cpu, XEN_SYSCTL_CPU_HOTPLUG_ONLINE); }

static unsigned cpus_on_line(void)
{
    memset(&op, 0, sizeof(op));
    return sysctl(XEN_SYSCTL_physinfo) ? 0 : op.u.physinfo.nr_cpus;
}

/* XENPF_cpu_online, XENPF_cpu_offline, as the kernel of domain 0 makes them */
static long by_kernel(unsigned cpu, unsigned cmd)
{
    struct xen_platform_op p = {.cmd = cmd, .interface_version = XENPF_INTERFACE_VERSION};

    p.u.cpu_ol.cpuid = cpu;
    return hypercall(__HYPERVISOR_platform_op, U(&p), 0, 0, 0, 0);
}

static uint32_t kernels_flags(unsigned cpu, uint32_t *last)
{
    struct xen_platform_op p = {.cmd = XENPF_get_cpuinfo, .interface_version = XENPF_INTERFACE_VERSION};

    p.u.pcpu_info.xen_cpuid = cpu;
    if (hypercall(__HYPERVISOR_platform_op, U(&p), 0, 0, 0, 0))
        return ~0U;
    *last = p.u.pcpu_info.max_present;
    return p.u.pcpu_info.flags;
}

static long pin(unsigned v, uint8_t hard)
{
    struct xen_domctl d = {.cmd = XEN_DOMCTL_setvcpuaffinity, .interface_version = XEN_DOMCTL_INTERFACE_VERSION};

    map[0] = hard;
    d.u.vcpuaffinity.vcpu = v;
    d.u.vcpuaffinity.flags = XEN_VCPUAFFINITY_HARD;
    d.u.vcpuaffinity.cpumap_hard.nr_bits = 8;
    set_xen_guest_handle(d.u.vcpuaffinity.cpumap_hard.bitmap, map);
    return hypercall(__HYPERVISOR_domctl, U(&d), 0, 0, 0, 0);
}

/* What it may use, as the tools see it */
static uint8_t pinned(unsigned v)
{
    struct xen_domctl d = {.cmd = XEN_DOMCTL_getvcpuaffinity, .interface_version = XEN_DOMCTL_INTERFACE_VERSION};

    map[0] = 0;
    d.u.vcpuaffinity.vcpu = v;
    d.u.vcpuaffinity.flags = XEN_VCPUAFFINITY_HARD;
    d.u.vcpuaffinity.cpumap_hard.nr_bits = 8;
    set_xen_guest_handle(d.u.vcpuaffinity.cpumap_hard.bitmap, map);
    return hypercall(__HYPERVISOR_domctl, U(&d), 0, 0, 0, 0) ? 0 : map[0];
}

static void refusals(void)
{
    uint32_t last = 0;

    check_equal(off(0), -EINVAL);
    check_equal(off(CPUS), -EINVAL);
    check_equal(off(~0U), -EINVAL);
    check_equal(on(CPUS), -EINVAL);
    check_equal(on(1), -EEXIST);
    check_equal(hotplug(1, XEN_SYSCTL_CPU_HOTPLUG_SMT_DISABLE), -XEN_EOPNOTSUPP);
    check_equal(by_kernel(1, XENPF_cpu_online), 0);
    check_equal(by_kernel(CPUS, XENPF_cpu_offline), -EINVAL);
    check_equal(kernels_flags(CPUS, &last), XEN_PCPU_FLAGS_INVALID);
    check_equal(last, CPUS - 1);
    check_equal(cpus_on_line(), CPUS);
}

static void one_by_one(void)
{
    uint32_t last = 0;

    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned cpu = 1 + round % (CPUS - 1);
        bool kernel = round % 2;
        long rc;

        /* vcpu 0, which makes the call, is at times pinned to the CPU that goes. */
        check_quiet(pin(round % CPUS, (uint8_t)(1U << cpu)) == 0, "not pinned");
        rc = kernel ? by_kernel(cpu, XENPF_cpu_offline) : off(cpu);
        check_quiet(rc == 0, "round %u: CPU %u off: %ld", round, cpu, rc);
        check_quiet(pinned(round % CPUS) == 0xff, "round %u: affinity %x, with that CPU off", round,
                    pinned(round % CPUS));
        check_quiet(cpus_on_line() == CPUS - 1, "%u CPUs on line", cpus_on_line());
        check_quiet(kernels_flags(cpu, &last) == 0 && last == CPUS - 1, "flags %x", kernels_flags(cpu, &last));
        if (!all_go_on("with a CPU off line"))
            return;
        check_quiet(off(cpu) == -EEXIST, "off line twice");
        rc = kernel ? by_kernel(cpu, XENPF_cpu_online) : on(cpu);
        check_quiet(rc == 0, "round %u: CPU %u on: %ld", round, cpu, rc);
        check_quiet(kernels_flags(cpu, &last) == XEN_PCPU_FLAGS_ONLINE, "flags %x", kernels_flags(cpu, &last));
        check_quiet(pin(1, (uint8_t)(1U << cpu)) == 0, "not pinned to the CPU that came");
        if (!all_go_on("with all CPUs on line"))
            return;
        check_quiet(pin(1, 0xff) == 0, "not pinned to all");
    }
    check(true, "%u times a CPU off line and back", ROUNDS);
}

static void all_but_one(void)
{
    for (unsigned cpu = 1; cpu < CPUS; cpu++)
        check_equal(off(cpu), 0);
    check_equal(cpus_on_line(), 1);
    check(all_go_on("on one CPU"), "all go on, on one CPU");
    for (unsigned cpu = 1; cpu < CPUS; cpu++)
        check_equal(on(cpu), 0);
    check(all_go_on("on all CPUs again"), "all go on, on all CPUs");
}

static long pool_op(uint32_t what, uint32_t id, uint32_t cpu)
{
    memset(&op, 0, sizeof(op));
    op.u.cpupool_op.op = what;
    op.u.cpupool_op.cpupool_id = id;
    op.u.cpupool_op.cpu = cpu;
    op.u.cpupool_op.sched_id = XEN_SCHEDULER_CREDIT2;
    op.u.cpupool_op.cpumap.nr_bits = 8;
    set_xen_guest_handle(op.u.cpupool_op.cpumap.bitmap, map);
    return sysctl(XEN_SYSCTL_cpupool_op);
}

static void pools(void)
{
    check_equal(pool_op(XEN_SYSCTL_CPUPOOL_OP_CREATE, XEN_SYSCTL_CPUPOOL_PAR_ANY, 0), 0);
    check_equal(op.u.cpupool_op.cpupool_id, 1);
    for (unsigned cpu = 1; cpu < CPUS; cpu++)
        check_equal(pool_op(XEN_SYSCTL_CPUPOOL_OP_RMCPU, 0, cpu), 0);
    check_equal(pool_op(XEN_SYSCTL_CPUPOOL_OP_RMCPU, 0, 0), -EBUSY);
    check(all_go_on("in a pool of one CPU"), "all go on in a pool of one CPU");
    check_equal(pool_op(XEN_SYSCTL_CPUPOOL_OP_ADDCPU, 1, 2), 0);
    check_equal(off(2), -XEN_EADDRNOTAVAIL); /* in another pool */
    check_equal(off(3), 0);                  /* free */
    check_equal(pool_op(XEN_SYSCTL_CPUPOOL_OP_FREEINFO, 0, 0), 0);
    check_equal(map[0], 2);
    check_equal(pool_op(XEN_SYSCTL_CPUPOOL_OP_ADDCPU, 1, 3), -XEN_ENODEV);
    check_equal(pool_op(XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN, 1, 0), -EPERM); /* domain 0 */
    check_equal(pin(1, 1U << 2), -EINVAL);
    check_equal(pool_op(XEN_SYSCTL_CPUPOOL_OP_DESTROY, 1, 0), -EBUSY);
    check_equal(pool_op(XEN_SYSCTL_CPUPOOL_OP_RMCPU, 1, 2), 0);
    check_equal(pool_op(XEN_SYSCTL_CPUPOOL_OP_DESTROY, 1, 0), 0);
    check_equal(on(3), 0);
    for (unsigned cpu = 1; cpu < CPUS - 1; cpu++)
        check_equal(pool_op(XEN_SYSCTL_CPUPOOL_OP_ADDCPU, 0, XEN_SYSCTL_CPUPOOL_PAR_ANY), 0);
    check_equal(pool_op(XEN_SYSCTL_CPUPOOL_OP_INFO, 0, 0), 0);
    check_equal(map[0], 0xf);
    check(all_go_on("in one pool again"), "all go on in one pool");
}

/* Croft's own look at it: debug key r */
static void audit(void)
{
    static char key = 'r', text[4 * PAGE_SIZE];

    memset(&op, 0, sizeof(op));
    op.u.debug_keys.nr_keys = 1;
    set_xen_guest_handle(op.u.debug_keys.keys, &key);
    check_equal(sysctl(XEN_SYSCTL_debug_keys), 0);
    memset(&op, 0, sizeof(op));
    op.u.readconsole.count = sizeof(text) - 1;
    set_xen_guest_handle(op.u.readconsole.buffer, text);
    check_equal(sysctl(XEN_SYSCTL_readconsole), 0);
    check(strfind(text, "audit of pools: 0 findings"), "the audit finds nothing");
}

GUEST("hotplug")
{
    check_equal(vcpu_op(VCPUOP_stop_periodic_timer, 3, NULL), 0);
    timer_port = bind_virq(VIRQ_TIMER, 3);
    check(timer_port > 0, "bind_virq: %ld", timer_port);
    event_unmask((unsigned)timer_port);
    start(1, busy);
    start(2, naps);
    start(3, waits);
    check(all_go_on("at the beginning"), "all vcpus run");
    refusals();
    one_by_one();
    all_but_one();
    pools();
    audit();
}
