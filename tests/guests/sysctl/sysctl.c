/* run: cpus=2 smp=2 */
/*
 * What domain 0's tools ask of the system: each sysctl, checked for plausibility; and the CPU policy of a domain that is
 * made for it. The same on Xen 4.17.
 */
#define __XEN_TOOLS__ 1
#include "kit.h"
#include <xen/sysctl.h>
#include <xen/arch-x86/cpufeatureset.h>

#define LEAVES 160
#define WORDS 32

static struct xen_sysctl op;
static xen_cpuid_leaf_t leaves[LEAVES];
static xen_msr_entry_t msrs[8];
static char text[PAGE_SIZE];

static long sysctl(uint32_t cmd)
{
    op.cmd = cmd;
    op.interface_version = XEN_SYSCTL_INTERFACE_VERSION;
    return hypercall(__HYPERVISOR_sysctl, U(&op), 0, 0, 0, 0);
}

static void versions(void)
{
    check_equal(sysctl(XEN_SYSCTL_sched_id), 0);
    check_equal(op.u.sched_id.sched_id, XEN_SCHEDULER_CREDIT2);
    op.interface_version--;
    check_equal(hypercall(__HYPERVISOR_sysctl, U(&op), 0, 0, 0, 0), -XEN_EACCES);
    check_equal(hypercall(__HYPERVISOR_sysctl, VA_UNMAPPED, 0, 0, 0, 0), -EFAULT);
    check_equal(hypercall(__HYPERVISOR_sysctl, VA_HOLE, 0, 0, 0, 0), -EFAULT);
    check_equal(sysctl(13), -ENOSYS);
    check_equal(sysctl(0xffffffff), -ENOSYS);
    check_negative(hypercall(__HYPERVISOR_xsm_op, U(text), 0, 0, 0, 0));
}

static long read_log(bool incremental, uint32_t index, uint32_t size)
{
    memset(text, 0, sizeof(text));
    memset(&op, 0, sizeof(op));
    op.u.readconsole.incremental = incremental;
    op.u.readconsole.index = index;
    op.u.readconsole.count = size;
    set_xen_guest_handle(op.u.readconsole.buffer, text);
    return sysctl(XEN_SYSCTL_readconsole);
}

static void console(void)
{
    unsigned total = 0;
    char first[8];

    check_equal(read_log(false, 0, 8), 0);
    check_equal(op.u.readconsole.count, 8);
    memcpy(first, text, 8);
    check(first[0] == '(' || first[0] == ' ', "the log begins with a prefix or the banner: %s", text);
    /* From an index that nobody has: from the beginning; then on to the end */
    check_equal(read_log(true, 0x7fffffff, sizeof(text)), 0);
    check(memcmp(text, first, 8) == 0, "incremental reading begins where the log does");
    while (op.u.readconsole.count) {
        total += op.u.readconsole.count;
        if (read_log(true, op.u.readconsole.index, sizeof(text)))
            break;
    }
    check(total > 500 && total < 1000000, "%u bytes of log", total);
    op.u.readconsole.count = 100;
    set_xen_guest_handle(op.u.readconsole.buffer, (char *)VA_UNMAPPED);
    op.u.readconsole.incremental = 0;
    check_equal(sysctl(XEN_SYSCTL_readconsole), -EFAULT);
}

static void machine(void)
{
    struct xen_sysctl_physinfo *p = &op.u.physinfo;
    xen_sysctl_cputopo_t topology[8];
    xen_sysctl_meminfo_t memory[8];
    xen_sysctl_cpuinfo_t idle[8];
    uint32_t distance[8];

    check_equal(sysctl(XEN_SYSCTL_physinfo), 0);
    check_equal(p->nr_cpus, 2);
    check(p->max_cpu_id >= 1, "last CPU %u", p->max_cpu_id);
    check_equal(p->nr_nodes, 1);
    check_equal(p->threads_per_core, 1);
    check(p->capabilities & XEN_SYSCTL_PHYSCAP_pv, "PV domains can be made");
    check(p->total_pages > 60000 && p->total_pages <= 65536, "%u pages", (unsigned)p->total_pages);
    check(p->free_pages > 1000 && p->free_pages < p->total_pages, "%u free", (unsigned)p->free_pages);
    check(p->max_mfn >= p->total_pages - 1000, "last frame %u", (unsigned)p->max_mfn);
    check(p->cpu_khz > 1000, "%u kHz", p->cpu_khz);
    check(p->hw_cap[0] & 1U << XEN_X86_FEATURE_FPU, "features %x", p->hw_cap[0]);

    memset(&op, 0, sizeof(op));
    check_equal(sysctl(XEN_SYSCTL_cputopoinfo), 0);
    check_equal(op.u.cputopoinfo.num_cpus, 2);
    set_xen_guest_handle(op.u.cputopoinfo.cputopo, topology);
    op.u.cputopoinfo.num_cpus = 8;
    check_equal(sysctl(XEN_SYSCTL_cputopoinfo), 0);
    check_equal(op.u.cputopoinfo.num_cpus, 2);
    check(topology[0].core != topology[1].core || topology[0].socket != topology[1].socket, "two cores");

    memset(&op, 0, sizeof(op));
    check_equal(sysctl(XEN_SYSCTL_numainfo), 0);
    check_equal(op.u.numainfo.num_nodes, 1);
    set_xen_guest_handle(op.u.numainfo.meminfo, memory);
    set_xen_guest_handle(op.u.numainfo.distance, distance);
    check_equal(sysctl(XEN_SYSCTL_numainfo), 0);
    check(memory[0].memfree <= memory[0].memsize && memory[0].memsize <= 256UL << 20, "%u MiB on node 0",
          (unsigned)(memory[0].memsize >> 20));
    check_equal(distance[0], 10);

    memset(&op, 0, sizeof(op));
    op.u.getcpuinfo.max_cpus = 8;
    set_xen_guest_handle(op.u.getcpuinfo.info, idle);
    check_equal(sysctl(XEN_SYSCTL_getcpuinfo), 0);
    check_equal(op.u.getcpuinfo.nr_cpus, 2);
    check(idle[0].idletime < time_now() + 1000000000UL, "idle time of CPU 0");

    memset(&op, 0, sizeof(op));
    op.u.availheap.node = -1;
    check_equal(sysctl(XEN_SYSCTL_availheap), 0);
    check(op.u.availheap.avail_bytes >> 20 < 256, "%u MiB available", (unsigned)(op.u.availheap.avail_bytes >> 20));
}

static void domains(void)
{
    xen_domctl_getdomaininfo_t info[4];
    uint8_t map[8] = {0};

    memset(info, 0xee, sizeof(info));
    memset(&op, 0, sizeof(op));
    op.u.getdomaininfolist.max_domains = 4;
    set_xen_guest_handle(op.u.getdomaininfolist.buffer, info);
    check_equal(sysctl(XEN_SYSCTL_getdomaininfolist), 0);
    check_equal(op.u.getdomaininfolist.num_domains, 1);
    check_equal(info[0].domain, 0);
    check((info[0].flags & 0xffff) == XEN_DOMINF_running, "flags %x", info[0].flags);
    check_equal(info[0].shared_info_frame, start_info->shared_info >> 12);
    check(info[0].tot_pages >= start_info->nr_pages, "%u pages", (unsigned)info[0].tot_pages);
    check_equal(info[0].nr_online_vcpus, 1);
    check(info[0].cpu_time > 0 && info[0].cpu_time < time_now() + 1000000, "CPU time %u us",
          (unsigned)(info[0].cpu_time / 1000));
    op.u.getdomaininfolist.first_domain = 1;
    check_equal(sysctl(XEN_SYSCTL_getdomaininfolist), 0);
    check_equal(op.u.getdomaininfolist.num_domains, 0);

    memset(&op, 0, sizeof(op));
    op.u.cpupool_op.op = XEN_SYSCTL_CPUPOOL_OP_INFO;
    op.u.cpupool_op.cpumap.nr_bits = 64;
    set_xen_guest_handle(op.u.cpupool_op.cpumap.bitmap, map);
    check_equal(sysctl(XEN_SYSCTL_cpupool_op), 0);
    check_equal(map[0], 3);
    check_equal(op.u.cpupool_op.n_dom, 1);
    op.u.cpupool_op.cpupool_id = 1;
    check_equal(sysctl(XEN_SYSCTL_cpupool_op), -ENOENT);
    op.u.cpupool_op.op = XEN_SYSCTL_CPUPOOL_OP_FREEINFO;
    check_equal(sysctl(XEN_SYSCTL_cpupool_op), 0);
    check_equal(map[0], 0);

    memset(&op, 0, sizeof(op));
    op.u.scheduler_op.sched_id = XEN_SCHEDULER_CREDIT2;
    op.u.scheduler_op.cmd = XEN_SYSCTL_SCHEDOP_getinfo;
    check_equal(sysctl(XEN_SYSCTL_scheduler_op), 0);
    check(op.u.scheduler_op.u.sched_credit2.ratelimit_us >= 100, "rate limit %u us",
          op.u.scheduler_op.u.sched_credit2.ratelimit_us);
}

static xen_cpuid_leaf_t *leaf_of(uint32_t count, uint32_t leaf, uint32_t subleaf)
{
    for (uint32_t i = 0; i < count; i++)
        if (leaves[i].leaf == leaf && leaves[i].subleaf == subleaf)
            return &leaves[i];
    panic("leaf %x is not in the list", leaf);
}

static uint32_t get_policy(uint32_t index)
{
    memset(&op, 0, sizeof(op));
    op.u.cpu_policy.index = index;
    op.u.cpu_policy.nr_leaves = LEAVES;
    op.u.cpu_policy.nr_msrs = 8;
    set_xen_guest_handle(op.u.cpu_policy.leaves, leaves);
    set_xen_guest_handle(op.u.cpu_policy.msrs, msrs);
    check_equal(sysctl(XEN_SYSCTL_get_cpu_policy), 0);
    return op.u.cpu_policy.nr_leaves;
}

static void policies(void)
{
    uint32_t words[WORDS] = {0}, n = get_policy(XEN_SYSCTL_cpu_policy_pv_default);
    struct cpuid_result x = cpuid_forced(7, 0);

    check_equal(op.u.cpu_policy.nr_msrs, 2);
    check_equal(leaf_of(n, 7, 0)->b, x.b);
    check_equal(leaf_of(n, 0, XEN_CPUID_NO_SUBLEAF)->b, cpuid_forced(0, 0).b);
    x = cpuid_forced(1, 0);
    check((x.c & leaf_of(n, 1, XEN_CPUID_NO_SUBLEAF)->c) == (leaf_of(n, 1, XEN_CPUID_NO_SUBLEAF)->c),
          "what the default policy has, this domain is told");
    check_equal(leaf_of(n, 0xd, 0)->a, cpuid_forced(0xd, 0).a);
    op.u.cpu_policy.nr_leaves = 3;
    check_equal(sysctl(XEN_SYSCTL_get_cpu_policy), -XEN_ENOBUFS);
    op.u.cpu_policy.nr_leaves = LEAVES;
    op.u.cpu_policy.index = 6;
    check_equal(sysctl(XEN_SYSCTL_get_cpu_policy), -EINVAL);
    n = get_policy(XEN_SYSCTL_cpu_policy_raw);
    check_equal(leaf_of(n, 0x80000001, XEN_CPUID_NO_SUBLEAF)->d, cpuid(0x80000001, 0).d);

    memset(&op, 0, sizeof(op));
    check_equal(sysctl(XEN_SYSCTL_get_cpu_featureset), 0);
    check_equal(op.u.cpu_featureset.nr_features, 19);
    op.u.cpu_featureset.index = XEN_SYSCTL_cpu_featureset_pv;
    set_xen_guest_handle(op.u.cpu_featureset.features, words);
    check_equal(sysctl(XEN_SYSCTL_get_cpu_featureset), 0);
    check_equal(words[XEN_X86_FEATURE_FSGSBASE / 32], cpuid_forced(7, 0).b);
    op.u.cpu_featureset.nr_features = 1;
    check_equal(sysctl(XEN_SYSCTL_get_cpu_featureset), -XEN_ENOBUFS);
}

static struct xen_domctl domctl_op;
static long domctl(uint32_t cmd)
{
    domctl_op.cmd = cmd;
    domctl_op.interface_version = XEN_DOMCTL_INTERFACE_VERSION;
    return hypercall(__HYPERVISOR_domctl, U(&domctl_op), 0, 0, 0, 0);
}

static long set_policy(uint32_t n)
{
    memset(&domctl_op.u, 0, sizeof(domctl_op.u));
    domctl_op.u.cpu_policy.nr_leaves = n;
    set_xen_guest_handle(domctl_op.u.cpu_policy.leaves, leaves);
    set_xen_guest_handle(domctl_op.u.cpu_policy.msrs, msrs);
    return domctl(XEN_DOMCTL_set_cpu_policy);
}

static void policy_of_a_domain(void)
{
    struct xen_domctl_createdomain *c = &domctl_op.u.createdomain;
    const uint32_t bmi1 = 1U << (XEN_X86_FEATURE_BMI1 % 32);
    uint32_t n;

    *c = (struct xen_domctl_createdomain){.max_vcpus = 1,
                                          .max_evtchn_port = -1U,
                                          .max_grant_frames = 4,
                                          .max_maptrack_frames = 4,
                                          .grant_opts = XEN_DOMCTL_GRANT_version(2)};
    if (!check_equal(domctl(XEN_DOMCTL_createdomain), 0))
        return;
    n = get_policy(XEN_SYSCTL_cpu_policy_pv_default);
    check(leaf_of(n, 7, 0)->b & bmi1, "BMI1 is there");
    check_equal(set_policy(n), 0);
    leaf_of(n, 7, 0)->b &= ~bmi1;
    check_equal(set_policy(n), 0);
    memset(leaves, 0, sizeof(leaves));
    domctl_op.u.cpu_policy.nr_leaves = LEAVES;
    domctl_op.u.cpu_policy.nr_msrs = 8;
    check_equal(domctl(XEN_DOMCTL_get_cpu_policy), 0);
    n = domctl_op.u.cpu_policy.nr_leaves;
    check((leaf_of(n, 7, 0)->b & bmi1) == 0, "and can be taken away");
    leaves[0] = (xen_cpuid_leaf_t){.leaf = 0xe, .subleaf = XEN_CPUID_NO_SUBLEAF};
    check_equal(set_policy(1), -XEN_ERANGE);
    check_equal(domctl_op.u.cpu_policy.err_leaf, 0xe);
    check_equal(set_policy(1000), -XEN_E2BIG);
    check(cpuid_forced(7, 0).b & bmi1, "this domain keeps it");
    check_equal(domctl(XEN_DOMCTL_unpausedomain), 0);
    check_equal(set_policy(0), -EEXIST);
    check_equal(domctl(XEN_DOMCTL_destroydomain), 0);
}

GUEST("sysctl")
{
    versions();
    console();
    machine();
    domains();
    policies();
    policy_of_a_domain();
}
