/* sysctl: the machine as the tools see it: CPUs, memory, nodes, devices, counters. */
#include "boot/boot.h"
#include "cpu/cpu.h"
#include "cpu/hotplug.h"
#include "cpu/topology.h"
#include "domain/domain.h"
#include "domain/guest_access.h"
#include "hvm/hvm.h"
#include "hypercall/dispatch.h"
#include "hypercall/sysctl.h"
#include "hypercall/table.h"
#include "lib/log.h"
#include "lib/string.h"
#include "memory/alloc.h"
#include "memory/frame.h"
#include "platform/acpi.h"
#include "platform/pci.h"
#include "pv/cpu_policy.h"
#include "sched/time.h"

static unsigned cpus(void) { return cpu_last_present() + 1; } /* up to the last, on line or not */

static unsigned nodes(void) { return max(min(acpi_info.node_count, (unsigned)MAX_NODES), 1U); }

/* All RAM that Croft uses, its own included */
static uint64_t ram_pages(void)
{
    uint64_t pages = 0;

    for (unsigned i = 0; i < boot_info.range_count; i++) {
        const struct boot_range *r = &boot_info.ranges[i];
        uint64_t first = DIV_ROUND_UP(r->start, PAGE_SIZE), end = min((r->start + r->size) >> PAGE_SHIFT, max_frame);

        if (r->type == BOOT_RAM && end > first)
            pages += end - first;
    }
    return pages;
}

static uint64_t claimed_pages(void)
{
    struct domain *d;
    uint64_t sum = 0;

    for (d = domain_next(NULL); d; d = domain_next(d))
        sum += d->claimed_pages;
    return sum;
}

long sysctl_physinfo(struct xen_sysctl *op)
{
    struct xen_sysctl_physinfo *p = &op->u.physinfo;

    memset(p, 0, sizeof(*p));
    p->threads_per_core = topology_threads();
    p->cores_per_socket = topology_cores();
    p->nr_cpus = cpu_count();
    p->max_cpu_id = cpus() - 1;
    p->nr_nodes = nodes();
    p->max_node_id = nodes() - 1;
    p->cpu_khz = (uint32_t)time_scale.tsc_khz;
    p->capabilities = XEN_SYSCTL_PHYSCAP_pv | XEN_SYSCTL_PHYSCAP_gnttab_v1 | XEN_SYSCTL_PHYSCAP_gnttab_v2;
    if (!hvm_missing())
        p->capabilities |= XEN_SYSCTL_PHYSCAP_hvm | XEN_SYSCTL_PHYSCAP_hap;
    p->total_pages = ram_pages();
    p->free_pages = alloc_free_count(); /* scrubbed when given out */
    p->outstanding_pages = claimed_pages();
    p->max_mfn = max_frame - 1;
    for (unsigned i = 0; i < ARRAY_SIZE(p->hw_cap); i++)
        p->hw_cap[i] = host_feature_word(i);
    return 0;
}

long sysctl_cputopoinfo(struct xen_sysctl *op)
{
    struct xen_sysctl_cputopoinfo *t = &op->u.cputopoinfo;
    unsigned n = t->cputopo.p ? min(t->num_cpus, cpus()) : 0;

    for (unsigned cpu = 0; cpu < n; cpu++) {
        struct xen_sysctl_cputopo c = {XEN_INVALID_CORE_ID, XEN_INVALID_SOCKET_ID, XEN_INVALID_NODE_ID};

        if (cpumask_test(cpu, &cpu_online))
            c = (struct xen_sysctl_cputopo){cpu_core(cpu), cpu_package(cpu), percpu_of(cpu)->node};
        if (copy_to_handle(t->cputopo, cpu, &c, 1))
            return -EFAULT;
    }
    t->num_cpus = cpus();
    return 0;
}

long sysctl_numainfo(struct xen_sysctl *op)
{
    struct xen_sysctl_numainfo *n = &op->u.numainfo;
    unsigned count = n->meminfo.p || n->distance.p ? min(n->num_nodes, nodes()) : 0;

    for (unsigned i = 0; i < count; i++) {
        struct xen_sysctl_meminfo m = {alloc_node_total(i) << PAGE_SHIFT, alloc_node_free(i) << PAGE_SHIFT};
        uint32_t distance[MAX_NODES];

        for (unsigned j = 0; j < count; j++)
            distance[j] = acpi_info.distance[i][j] ? acpi_info.distance[i][j] : i == j ? 10 : 20; /* ACPI's defaults */
        if (n->meminfo.p && copy_to_handle(n->meminfo, i, &m, 1))
            return -EFAULT;
        if (n->distance.p && copy_to_handle(n->distance, i * count, distance, count))
            return -EFAULT;
    }
    n->num_nodes = nodes();
    return 0;
}

#define PCI_AT_ONCE 64 /* the tools come again for the rest */

/* Firmware's word on which node a device is near is in ACPI's namespace, which Croft does not interpret. */
long sysctl_pcitopoinfo(struct xen_sysctl *op)
{
    struct xen_sysctl_pcitopoinfo *t = &op->u.pcitopoinfo;
    uint32_t n = min(t->num_devs, (uint32_t)PCI_AT_ONCE), node;
    physdev_pci_device_t dev;

    if (!n || !t->devs.p || !t->nodes.p)
        return refuse(-EINVAL, "sysctl pcitopoinfo: no devices, or no room for the answers\n");
    for (uint32_t i = 0; i < n; i++) {
        if (copy_from_handle(&dev, t->devs, i, 1))
            return -EFAULT;
        node = pci_read((struct pci_address){dev.seg, dev.bus, dev.devfn}, PCI_VENDOR, 2) == 0xffff
                   ? XEN_INVALID_DEV
                   : XEN_INVALID_NODE_ID;
        if (copy_to_handle(t->nodes, i, &node, 1))
            return -EFAULT;
    }
    t->num_devs = n;
    return 0;
}

long sysctl_getcpuinfo(struct xen_sysctl *op)
{
    struct xen_sysctl_getcpuinfo *g = &op->u.getcpuinfo;
    unsigned n = min(g->max_cpus, cpus());

    for (unsigned cpu = 0; cpu < n; cpu++) {
        struct xen_sysctl_cpuinfo info = {cpumask_test(cpu, &cpu_online) ? sched_idle_time(cpu) : 0};

        if (copy_to_handle(g->info, cpu, &info, 1))
            return -EFAULT;
    }
    g->nr_cpus = n;
    return 0;
}

long sysctl_availheap(struct xen_sysctl *op)
{
    struct xen_sysctl_availheap *a = &op->u.availheap;

    if (a->node < -1 || a->node >= (int)nodes())
        return refuse(-EINVAL, "sysctl availheap: there is no node %d\n", a->node);
    if (a->min_bitwidth > PAGE_SHIFT || (a->max_bitwidth && a->max_bitwidth < cpu_features.paddr_bits))
        return refuse(-EOPNOTSUPP, "sysctl availheap: addresses of %u to %u bits only\n", a->min_bitwidth,
                      a->max_bitwidth);
    a->avail_bytes = (a->node == -1 ? alloc_free_count() : alloc_node_free((unsigned)a->node)) << PAGE_SHIFT;
    return 0;
}

/* ----- counters ----- */

enum { COUNT_CALLS, COUNT_EXCEPTIONS, COUNT_ELEMENTS, COUNT_SWITCHES, COUNT_PREEMPTIONS, COUNT_PULLS, COUNTERS };

static const struct {
    const char *name;
    unsigned values; /* 0: one a CPU */
} counters[COUNTERS] = {
    [COUNT_CALLS] = {"hypercalls of live vcpus", 1},
    [COUNT_EXCEPTIONS] = {"exceptions of live vcpus", 1},
    [COUNT_ELEMENTS] = {"elements of multicalls by number", HYPERCALL_COUNT},
    [COUNT_SWITCHES] = {"vcpu switches by CPU", 0},
    [COUNT_PREEMPTIONS] = {"preemptions by CPU", 0},
    [COUNT_PULLS] = {"vcpus pulled from others by CPU", 0},
};

static uint64_t sum_of_vcpus(bool exceptions)
{
    struct domain *d;
    struct vcpu *v;
    uint64_t sum = 0;

    for (d = domain_next(NULL); d; d = domain_next(d))
        for_each_vcpu (d, v)
            sum += exceptions ? v->stats_exceptions : v->stats_hypercalls;
    return sum;
}

static uint64_t counter(unsigned which, unsigned i)
{
    switch (which) {
    case COUNT_CALLS:
    case COUNT_EXCEPTIONS:
        return sum_of_vcpus(which == COUNT_EXCEPTIONS);
    case COUNT_ELEMENTS:
        return hypercall_elements(i);
    case COUNT_SWITCHES:
        return sched_counters(i).switches;
    case COUNT_PREEMPTIONS:
        return sched_counters(i).preemptions;
    default:
        return sched_counters(i).pulls;
    }
}

static void reset_counters(void)
{
    struct domain *d;
    struct vcpu *v;

    for (d = domain_next(NULL); d; d = domain_next(d))
        for_each_vcpu (d, v)
            v->stats_hypercalls = v->stats_exceptions = 0;
    hypercall_elements_reset();
    sched_counters_reset();
}

static long query_counters(struct xen_sysctl_perfc_op *p)
{
    uint32_t written = 0;

    for (unsigned i = 0; i < COUNTERS; i++) {
        struct xen_sysctl_perfc_desc desc = {.nr_vals = counters[i].values ? counters[i].values : cpus()};

        strlcpy(desc.name, counters[i].name, sizeof(desc.name));
        if (p->desc.p && copy_to_handle(p->desc, i, &desc, 1))
            return -EFAULT;
        for (unsigned j = 0; p->val.p && j < desc.nr_vals; j++) {
            xen_sysctl_perfc_val_t value = (uint32_t)counter(i, j);

            if (copy_to_handle(p->val, written + j, &value, 1))
                return -EFAULT;
        }
        written += desc.nr_vals;
    }
    p->nr_counters = COUNTERS;
    p->nr_vals = written;
    return 0;
}

long sysctl_perfc_op(struct xen_sysctl *op)
{
    switch (op->u.perfc_op.cmd) {
    case XEN_SYSCTL_PERFCOP_query:
        return query_counters(&op->u.perfc_op);
    case XEN_SYSCTL_PERFCOP_reset:
        reset_counters();
        return 0;
    }
    return refuse(-EINVAL, "sysctl perfc_op: command %u\n", op->u.perfc_op.cmd);
}
