/* sources: hypervisor/hypercall/sysctl.c hypervisor/hypercall/sysctl_host.c hypervisor/domain/domain_info.c hypervisor/sched/pool.c */
/* sysctl on a machine of two CPUs, two nodes and three domains: versions, bounds, what is answered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fake_boot.h"

#include "boot/boot.h"
#include "boot/options.h"
#include "cpu/cpu.h"
#include "cpu/hotplug.h"
#include "cpu/topology.h"
#include "domain/domain.h"
#include "domain/domain_info.h"
#include "hvm/hvm.h"
#include "hypercall/dispatch.h"
#include "hypercall/domctl.h"
#include "hypercall/sysctl.h"
#include "hypercall/table.h"
#include "memory/alloc.h"
#include "memory/map.h"
#include "platform/acpi.h"
#include "platform/console.h"
#include "platform/pci.h"
#include "pv/cpu_policy.h"
#include "sched/pool.h"
#include "sched/time.h"

struct boot_info boot_info;
struct options options;
struct acpi_info acpi_info;
struct cpu_features cpu_features;
struct time_scale time_scale;
cpumask_t cpu_online;
uint64_t max_frame;

static struct percpu cpus[2];
static struct shared_info shared;
static struct domain domains[3];
static struct vcpu vcpus[3][2];
static const void *hole;
static char log_text[256];
static uint64_t log_start, log_end, log_cleared;
static char keys[80];
static uint64_t elements;
static unsigned resets;

struct percpu *this_cpu(void) { return &cpus[0]; }
struct percpu *percpu_of(unsigned cpu) { return cpu < 2 ? &cpus[cpu] : NULL; }
unsigned cpu_last_present(void) { return 1; }
static const char *missing = "there is none";
const char *hvm_missing(void) { return missing; }
static int hotplug_result;
static unsigned hotplug_cpu, downs, ups;
int cpu_take_down(unsigned cpu) { return hotplug_cpu = cpu, downs++, hotplug_result; }
int cpu_bring_up(unsigned cpu) { return hotplug_cpu = cpu, ups++, hotplug_result; }
#define CONTINUED 4711
long hypercall_continue(uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5) { return CONTINUED; }
void sched_place(struct vcpu *v, const cpumask_t *hard, const cpumask_t *allowed) { v->sched.allowed = *allowed; }
void sched_set_pool(unsigned cpu, uint32_t pool) {}
void vcpu_set_soft_affinity(struct vcpu *v, const cpumask_t *mask) {}
const char *sched_audit_vcpu(struct vcpu *v, bool still) { return NULL; }
unsigned cpu_count(void) { return 2; }
uint32_t cpu_core(unsigned cpu) { return cpu; }
uint32_t cpu_package(unsigned cpu) { return 7; }
unsigned topology_threads(void) { return 1; }
unsigned topology_cores(void) { return 2; }
uint32_t host_feature_word(unsigned word) { return 100 + word; }
int sysctl_get_cpu_policy(struct xen_sysctl_cpu_policy *op) { return -ENOBUFS; }
int sysctl_get_cpu_featureset(struct xen_sysctl_cpu_featureset *op) { return -EOPNOTSUPP; }
long sysctl_tbuf_op(struct xen_sysctl *op) { return 0; }
uint64_t hypercall_elements(unsigned nr) { return elements + nr; }
void hypercall_elements_reset(void) { resets++; }
void sched_counters_reset(void) { resets++; }
struct sched_counters sched_counters(unsigned cpu)
{
    return (struct sched_counters){1000 + cpu, 2000 + cpu, 3000 + cpu};
}
ns_t sched_idle_time(unsigned cpu) { return 5000 + cpu; }
uint64_t alloc_free_count(void) { return 300; }
uint64_t alloc_node_free(unsigned node) { return 100 + node * 100; }
uint64_t alloc_node_total(unsigned node) { return 500; }
mfn_t virt_to_mfn(const void *p) { return MFN(p == &shared ? 0x1234 : 0); }
uint32_t pci_read(struct pci_address a, unsigned offset, unsigned bytes) { return a.devfn ? 0xffff : 0x8086; }
size_t copy_from_guest(void *to, const void *guest, size_t n)
{
    if (!guest || guest == hole)
        return n;
    memcpy(to, guest, n);
    return 0;
}
size_t copy_to_guest(void *guest, const void *from, size_t n)
{
    if (!guest || guest == hole)
        return n;
    memcpy(guest, from, n);
    return 0;
}
long domctl_write_cpumap(const struct xenctl_bitmap *map, const cpumask_t *mask)
{
    return copy_to_guest(map->bitmap.p, mask, DIV_ROUND_UP(map->nr_bits, 8)) ? -EFAULT : 0;
}
void key_press(char key) { strncat(keys, &key, 1); }
struct domain *domain_next(struct domain *prev)
{
    struct domain *d = prev ? prev + 1 : domains;

    if (prev)
        prev->refs--;
    if (d == domains + ARRAY_SIZE(domains))
        return NULL;
    d->refs++;
    return d;
}
void domain_put(struct domain *d) { d->refs--; }
struct domain *domain_get_by_id(domid_t id)
{
    for (unsigned i = 0; i < ARRAY_SIZE(domains); i++)
        if (domains[i].id == id)
            return domains[i].refs++, &domains[i];
    return NULL;
}
void vcpu_get_runstate(struct vcpu *v, struct vcpu_runstate_info *out)
{
    *out = (struct vcpu_runstate_info){.time = {[RUNSTATE_running] = 11, [RUNSTATE_blocked] = 1000}};
}

/* A log of 256 bytes whose positions begin anywhere */
size_t log_ring_read(uint64_t *position, char *to, size_t n, bool clear)
{
    size_t done = 0;

    *position = min(max(max(*position, log_start), log_cleared), log_end);
    while (done < n && *position < log_end)
        to[done++] = log_text[(*position)++ % sizeof(log_text)];
    if (clear)
        log_cleared = max(log_cleared, *position);
    return done;
}
static void log_set(uint64_t start, const char *text)
{
    log_start = log_end = start;
    log_cleared = 0;
    for (; *text; text++)
        log_text[log_end++ % sizeof(log_text)] = *text;
}

static struct xen_sysctl op;
static long call(uint32_t cmd)
{
    op.cmd = cmd;
    op.interface_version = XEN_SYSCTL_INTERFACE_VERSION;
    return hypercall_sysctl((uint64_t)&op, 0, 0, 0, 0);
}

bool domain_has_shared_info(const struct domain *d) { return d->shared_info != NULL; }

static int setup(void **state)
{
    memset(domains, 0, sizeof(domains));
    memset(vcpus, 0, sizeof(vcpus));
    for (unsigned i = 0; i < ARRAY_SIZE(domains); i++) {
        domains[i].id = (domid_t)(i * 3);
        domains[i].refs = 1;
        domains[i].vcpu_count = 2;
        domains[i].shared_info = &shared;
        for (unsigned j = 0; j < 2; j++) {
            domains[i].vcpus[j] = &vcpus[i][j];
            vcpus[i][j].domain = &domains[i];
            vcpus[i][j].id = j;
        }
    }
    cpus[0].current_vcpu = &vcpus[0][0];
    cpus[1].node = 1;
    cpumask_set(0, &cpu_online);
    cpumask_set(1, &cpu_online);
    pool_init();
    pool_cpu_joins(0);
    pool_cpu_joins(1);
    domains[0].is_hardware = true;
    hotplug_result = downs = ups = 0;
    acpi_info.node_count = 2;
    max_frame = 1000;
    cpu_features.paddr_bits = 40;
    options.sched_allowance_us = 5000;
    hole = NULL;
    memset(&op, 0, sizeof(op));
    fake_log_clear();
    return 0;
}

/* Every reference that was taken was given back. */
static int teardown(void **state)
{
    for (unsigned i = 0; i < ARRAY_SIZE(domains); i++)
        assert_int_equal(domains[i].refs, 1);
    return 0;
}

static void versions(void **state)
{
    op.cmd = XEN_SYSCTL_sched_id;
    op.interface_version = XEN_SYSCTL_INTERFACE_VERSION - 1;
    assert_int_equal(hypercall_sysctl((uint64_t)&op, 0, 0, 0, 0), -EACCES);
    assert_non_null(strstr(fake_log, "0x14"));
    assert_int_equal(hypercall_sysctl(0, 0, 0, 0, 0), -EFAULT);
    assert_int_equal(call(XEN_SYSCTL_sched_id), 0);
    assert_int_equal(op.u.sched_id.sched_id, 6);
}

static void not_there(void **state)
{
    static const uint32_t missing[] = {0,
                                       13,
                                       24,
                                       28,
                                       30,
                                       ~0U,
                                       XEN_SYSCTL_page_offline_op,
                                       XEN_SYSCTL_lockprof_op,
                                       XEN_SYSCTL_coverage_op,
                                       XEN_SYSCTL_livepatch_op};
    static const uint32_t no_device[] = {XEN_SYSCTL_get_pmstat, XEN_SYSCTL_pm_op, XEN_SYSCTL_psr_cmt_op,
                                         XEN_SYSCTL_psr_alloc};

    for (unsigned i = 0; i < ARRAY_SIZE(missing); i++) {
        fake_log_clear();
        assert_int_equal(call(missing[i]), -ENOSYS);
        assert_non_null(strstr(fake_log, "sysctl"));
    }
    for (unsigned i = 0; i < ARRAY_SIZE(no_device); i++)
        assert_int_equal(call(no_device[i]), -ENODEV);
    fake_log_clear();
    assert_int_equal(hypercall_xsm_op(0, 0, 0, 0, 0), -ENOSYS);
    assert_string_equal(fake_log, "");
}

static char text[256];
static long read_log(bool clear, bool incremental, uint32_t index, uint32_t size)
{
    memset(text, 0, sizeof(text));
    op.u.readconsole =
        (struct xen_sysctl_readconsole){.clear = clear, .incremental = incremental, .index = index, .count = size};
    set_xen_guest_handle(op.u.readconsole.buffer, text);
    return call(XEN_SYSCTL_readconsole);
}

static void console(void **state)
{
    static const uint64_t starts[] = {0, 1000, (1UL << 32) - 7, (5UL << 32) - 3};

    for (unsigned i = 0; i < ARRAY_SIZE(starts); i++) {
        log_set(starts[i], "0123456789");
        assert_int_equal(read_log(false, false, 0, 100), 0);
        assert_string_equal(text, "0123456789");
        assert_int_equal(op.u.readconsole.count, 10);
        assert_int_equal(op.u.readconsole.index, (uint32_t)(starts[i] + 10));
        /* In pieces, from an index that does not matter: as 'xl dmesg' does */
        assert_int_equal(read_log(false, true, (uint32_t)(starts[i] + 100), 4), 0);
        assert_string_equal(text, "0123");
        assert_int_equal(read_log(false, true, op.u.readconsole.index, 4), 0);
        assert_string_equal(text, "4567");
        assert_int_equal(read_log(false, true, op.u.readconsole.index, 4), 0);
        assert_string_equal(text, "89");
        assert_int_equal(read_log(false, true, op.u.readconsole.index, 4), 0);
        assert_int_equal(op.u.readconsole.count, 0);
        /* Clearing in pieces loses nothing. */
        assert_int_equal(read_log(true, true, (uint32_t)starts[i], 4), 0);
        assert_string_equal(text, "0123");
        assert_int_equal(read_log(true, true, op.u.readconsole.index, 100), 0);
        assert_string_equal(text, "456789");
        assert_int_equal(read_log(false, false, 0, 100), 0);
        assert_int_equal(op.u.readconsole.count, 0);
    }
    log_set(0, "lost?");
    hole = text;
    assert_int_equal(read_log(true, false, 0, 100), -EFAULT);
    hole = NULL;
    assert_int_equal(read_log(false, false, 0, 100), 0);
    assert_string_equal(text, "lost?");
}

static void press(void **state)
{
    const char *asked = "qam";

    keys[0] = 0;
    set_xen_guest_handle(op.u.debug_keys.keys, asked);
    op.u.debug_keys.nr_keys = 3;
    assert_int_equal(call(XEN_SYSCTL_debug_keys), 0);
    assert_string_equal(keys, "qam");
    op.u.debug_keys.nr_keys = 65;
    assert_int_equal(call(XEN_SYSCTL_debug_keys), -EINVAL);
    op.u.debug_keys.nr_keys = 3;
    hole = asked;
    assert_int_equal(call(XEN_SYSCTL_debug_keys), -EFAULT);
    assert_string_equal(keys, "qam");
}

static void one_domain(void **state)
{
    struct xen_domctl_getdomaininfo info;
    struct domain *d = &domains[1];

    d->tot_pages = 100;
    d->max_pages = 200;
    d->claimed_pages = 30;
    d->handle[3] = 0x5a;
    domain_info(d, &info);
    assert_int_equal(info.domain, 3);
    assert_int_equal(info.flags, 0);
    assert_int_equal(info.nr_online_vcpus, 2);
    assert_int_equal(info.max_vcpu_id, 1);
    assert_int_equal(info.cpu_time, 22);
    assert_int_equal(info.tot_pages, 100);
    assert_int_equal(info.max_pages, 200);
    assert_int_equal(info.outstanding_pages, 30);
    assert_int_equal(info.shared_info_frame, 0x1234);
    assert_int_equal(info.handle[3], 0x5a);

    vcpus[1][0].sched.running = true;
    vcpus[1][1].blocked = true;
    domain_info(d, &info);
    assert_int_equal(info.flags, XEN_DOMINF_running);
    vcpus[1][0].sched.running = false;
    vcpus[1][0].blocked = true;
    domain_info(d, &info);
    assert_int_equal(info.flags, XEN_DOMINF_blocked);
    vcpus[1][0].down = vcpus[1][1].down = true;
    domain_info(d, &info);
    assert_int_equal(info.flags, 0);
    assert_int_equal(info.nr_online_vcpus, 0);
    assert_int_equal(info.cpu_time, 22);
    d->shut_down = d->paused_by_tools = d->dying = true;
    domain_info(d, &info);
    assert_false(info.flags & XEN_DOMINF_dying); /* not before all is taken from it */
    d->put_with_last_frame = true;
    d->shutdown_reason = SHUTDOWN_crash;
    d->vcpus[0] = d->vcpus[1] = NULL;
    d->shared_info = NULL;
    domain_info(d, &info);
    assert_int_equal(info.flags, XEN_DOMINF_shutdown | XEN_DOMINF_paused | XEN_DOMINF_dying | SHUTDOWN_crash << 16);
    assert_int_equal(info.max_vcpu_id, XEN_INVALID_MAX_VCPU_ID);
    assert_int_equal(info.shared_info_frame, ~0UL);
}

static void domain_list_part(void **state)
{
    xen_domctl_getdomaininfo_t infos[4];

    memset(infos, 0xee, sizeof(infos));
    op.u.getdomaininfolist.max_domains = 4;
    set_xen_guest_handle(op.u.getdomaininfolist.buffer, infos);
    assert_int_equal(call(XEN_SYSCTL_getdomaininfolist), 0);
    assert_int_equal(op.u.getdomaininfolist.num_domains, 3);
    assert_int_equal(infos[0].domain, 0);
    assert_int_equal(infos[2].domain, 6);
    op.u.getdomaininfolist.first_domain = 1;
    op.u.getdomaininfolist.max_domains = 1;
    memset(infos, 0xee, sizeof(infos));
    assert_int_equal(call(XEN_SYSCTL_getdomaininfolist), 0);
    assert_int_equal(op.u.getdomaininfolist.num_domains, 1);
    assert_int_equal(infos[0].domain, 3);
    assert_int_equal(infos[1].domain, 0xeeee);
    op.u.getdomaininfolist.first_domain = 7;
    assert_int_equal(call(XEN_SYSCTL_getdomaininfolist), 0);
    assert_int_equal(op.u.getdomaininfolist.num_domains, 0);
    op.u.getdomaininfolist.first_domain = 0;
    op.u.getdomaininfolist.max_domains = 0;
    assert_int_equal(call(XEN_SYSCTL_getdomaininfolist), 0);
    assert_int_equal(op.u.getdomaininfolist.num_domains, 0);
    op.u.getdomaininfolist.max_domains = 4;
    hole = &infos[1];
    assert_int_equal(call(XEN_SYSCTL_getdomaininfolist), -EFAULT);
}

static void machine(void **state)
{
    struct xen_sysctl_physinfo *p = &op.u.physinfo;

    boot_info.range_count = 3;
    boot_info.ranges[0] = (struct boot_range){0, 0x9fc00, BOOT_RAM};
    boot_info.ranges[1] = (struct boot_range){0x100000, 0x100000, BOOT_RAM};
    boot_info.ranges[2] = (struct boot_range){0x200000, 0x100000, BOOT_RESERVED};
    domains[1].claimed_pages = 7;
    domains[2].claimed_pages = 3;
    assert_int_equal(call(XEN_SYSCTL_physinfo), 0);
    assert_int_equal(p->nr_cpus, 2);
    assert_int_equal(p->max_cpu_id, 1);
    assert_int_equal(p->nr_nodes, 2);
    assert_int_equal(p->max_node_id, 1);
    assert_int_equal(p->threads_per_core, 1);
    assert_int_equal(p->cores_per_socket, 2);
    assert_int_equal(p->total_pages, 0x9f + 0x100);
    assert_int_equal(p->free_pages, 300);
    assert_int_equal(p->outstanding_pages, 10);
    assert_int_equal(p->max_mfn, 999);
    assert_int_equal(p->hw_cap[7], 107);
    assert_int_equal(p->capabilities,
                     XEN_SYSCTL_PHYSCAP_pv | XEN_SYSCTL_PHYSCAP_gnttab_v1 | XEN_SYSCTL_PHYSCAP_gnttab_v2);
    missing = NULL;
    assert_int_equal(call(XEN_SYSCTL_physinfo), 0);
    assert_int_equal(p->capabilities, XEN_SYSCTL_PHYSCAP_pv | XEN_SYSCTL_PHYSCAP_hvm | XEN_SYSCTL_PHYSCAP_hap |
                                          XEN_SYSCTL_PHYSCAP_gnttab_v1 | XEN_SYSCTL_PHYSCAP_gnttab_v2);
    missing = "there is none";
}

static void topology(void **state)
{
    xen_sysctl_cputopo_t t[3];
    xen_sysctl_meminfo_t m[3];
    uint32_t distance[9];

    assert_int_equal(call(XEN_SYSCTL_cputopoinfo), 0);
    assert_int_equal(op.u.cputopoinfo.num_cpus, 2);
    set_xen_guest_handle(op.u.cputopoinfo.cputopo, t);
    memset(t, 0xee, sizeof(t));
    op.u.cputopoinfo.num_cpus = 3;
    assert_int_equal(call(XEN_SYSCTL_cputopoinfo), 0);
    assert_int_equal(op.u.cputopoinfo.num_cpus, 2);
    assert_int_equal(t[1].core, 1);
    assert_int_equal(t[1].socket, 7);
    assert_int_equal(t[1].node, 1);
    assert_int_equal(t[2].core, 0xeeeeeeee);
    memset(t, 0xee, sizeof(t));
    op.u.cputopoinfo.num_cpus = 1;
    assert_int_equal(call(XEN_SYSCTL_cputopoinfo), 0);
    assert_int_equal(op.u.cputopoinfo.num_cpus, 2); /* as many as there are */
    assert_int_equal(t[1].core, 0xeeeeeeee);

    memset(&op, 0, sizeof(op));
    assert_int_equal(call(XEN_SYSCTL_numainfo), 0);
    assert_int_equal(op.u.numainfo.num_nodes, 2);
    acpi_info.distance[0][0] = acpi_info.distance[1][1] = 10;
    acpi_info.distance[0][1] = 31;
    memset(m, 0xee, sizeof(m));
    memset(distance, 0xee, sizeof(distance));
    set_xen_guest_handle(op.u.numainfo.meminfo, m);
    set_xen_guest_handle(op.u.numainfo.distance, distance);
    op.u.numainfo.num_nodes = 3;
    assert_int_equal(call(XEN_SYSCTL_numainfo), 0);
    assert_int_equal(op.u.numainfo.num_nodes, 2);
    assert_int_equal(m[1].memsize, 500 << 12);
    assert_int_equal(m[1].memfree, 200 << 12);
    assert_int_equal(m[2].memsize, 0xeeeeeeeeeeeeeeeeUL);
    assert_int_equal(distance[1], 31);
    assert_int_equal(distance[2], 20); /* not given: ACPI's default */
    assert_int_equal(distance[3], 10);
    assert_int_equal(distance[4], 0xeeeeeeee);
    memset(distance, 0xee, sizeof(distance));
    op.u.numainfo.num_nodes = 1;
    assert_int_equal(call(XEN_SYSCTL_numainfo), 0);
    assert_int_equal(distance[1], 0xeeeeeeee);
}

static void devices(void **state)
{
    physdev_pci_device_t devs[100] = {[1].devfn = 8};
    uint32_t nodes[100];

    assert_int_equal(call(XEN_SYSCTL_pcitopoinfo), -EINVAL);
    memset(nodes, 0xee, sizeof(nodes));
    set_xen_guest_handle(op.u.pcitopoinfo.devs, devs);
    set_xen_guest_handle(op.u.pcitopoinfo.nodes, nodes);
    op.u.pcitopoinfo.num_devs = 100;
    assert_int_equal(call(XEN_SYSCTL_pcitopoinfo), 0);
    assert_true(op.u.pcitopoinfo.num_devs > 0 && op.u.pcitopoinfo.num_devs < 100);
    assert_int_equal(nodes[0], XEN_INVALID_NODE_ID);
    assert_int_equal(nodes[1], XEN_INVALID_DEV);
    assert_int_equal(nodes[op.u.pcitopoinfo.num_devs], 0xeeeeeeee);
}

static void idle_and_heap(void **state)
{
    xen_sysctl_cpuinfo_t info[3] = {{0}, {0}, {77}};

    op.u.getcpuinfo.max_cpus = 3;
    set_xen_guest_handle(op.u.getcpuinfo.info, info);
    assert_int_equal(call(XEN_SYSCTL_getcpuinfo), 0);
    assert_int_equal(op.u.getcpuinfo.nr_cpus, 2);
    assert_int_equal(info[1].idletime, 5001);
    assert_int_equal(info[2].idletime, 77);
    op.u.getcpuinfo.max_cpus = 1;
    assert_int_equal(call(XEN_SYSCTL_getcpuinfo), 0);
    assert_int_equal(op.u.getcpuinfo.nr_cpus, 1);

    memset(&op, 0, sizeof(op));
    op.u.availheap.node = -1;
    assert_int_equal(call(XEN_SYSCTL_availheap), 0);
    assert_int_equal(op.u.availheap.avail_bytes, 300 << 12);
    op.u.availheap.node = 1;
    op.u.availheap.max_bitwidth = 64;
    assert_int_equal(call(XEN_SYSCTL_availheap), 0);
    assert_int_equal(op.u.availheap.avail_bytes, 200 << 12);
    op.u.availheap.max_bitwidth = 32;
    assert_int_equal(call(XEN_SYSCTL_availheap), -EOPNOTSUPP);
    op.u.availheap.max_bitwidth = 0;
    op.u.availheap.node = 2;
    assert_int_equal(call(XEN_SYSCTL_availheap), -EINVAL);
    op.u.availheap.node = -2;
    assert_int_equal(call(XEN_SYSCTL_availheap), -EINVAL);
}

static void performance(void **state)
{
    xen_sysctl_perfc_desc_t desc[16];
    xen_sysctl_perfc_val_t val[256];
    uint32_t sum = 0, n;

    vcpus[0][0].stats_hypercalls = 5;
    vcpus[2][1].stats_hypercalls = 6;
    vcpus[2][1].stats_exceptions = 9;
    op.u.perfc_op.cmd = XEN_SYSCTL_PERFCOP_query;
    assert_int_equal(call(XEN_SYSCTL_perfc_op), 0);
    n = op.u.perfc_op.nr_counters;
    assert_true(n && n < 16 && op.u.perfc_op.nr_vals < 256);
    memset(val, 0xee, sizeof(val));
    set_xen_guest_handle(op.u.perfc_op.desc, desc);
    set_xen_guest_handle(op.u.perfc_op.val, val);
    elements = 50;
    assert_int_equal(call(XEN_SYSCTL_perfc_op), 0);
    for (unsigned i = 0; i < n; i++) {
        assert_true(strnlen(desc[i].name, sizeof(desc[i].name)) < sizeof(desc[i].name));
        sum += desc[i].nr_vals;
    }
    assert_int_equal(sum, op.u.perfc_op.nr_vals);
    assert_int_equal(val[0], 11);
    assert_int_equal(val[1], 9);
    assert_int_equal(val[2], 50);
    assert_int_equal(val[2 + HYPERCALL_COUNT + 1], 1001);
    assert_int_equal(val[sum], 0xeeeeeeee);
    op.u.perfc_op.cmd = XEN_SYSCTL_PERFCOP_reset;
    resets = 0;
    assert_int_equal(call(XEN_SYSCTL_perfc_op), 0);
    assert_int_equal(resets, 2);
    assert_int_equal(vcpus[2][1].stats_hypercalls, 0);
    op.u.perfc_op.cmd = 3;
    assert_int_equal(call(XEN_SYSCTL_perfc_op), -EINVAL);
}

static void pools(void **state)
{
    uint8_t map[8] = {0xee, 0xee};

    set_xen_guest_handle(op.u.cpupool_op.cpumap.bitmap, map);
    op.u.cpupool_op.cpumap.nr_bits = 8;
    op.u.cpupool_op.op = XEN_SYSCTL_CPUPOOL_OP_INFO;
    assert_int_equal(call(XEN_SYSCTL_cpupool_op), 0);
    assert_int_equal(map[0], 3);
    assert_int_equal(map[1], 0xee);
    assert_int_equal(op.u.cpupool_op.n_dom, 3);
    assert_int_equal(op.u.cpupool_op.sched_id, 6);
    op.u.cpupool_op.cpupool_id = 1;
    fake_log_clear();
    assert_int_equal(call(XEN_SYSCTL_cpupool_op), -ENOENT);
    assert_string_equal(fake_log, ""); /* that is how tools find the end */
    op.u.cpupool_op.op = XEN_SYSCTL_CPUPOOL_OP_FREEINFO;
    assert_int_equal(call(XEN_SYSCTL_cpupool_op), 0);
    assert_int_equal(map[0], 0);
    /* Another one, as xl does it */
    op.u.cpupool_op.op = XEN_SYSCTL_CPUPOOL_OP_CREATE;
    op.u.cpupool_op.cpupool_id = XEN_SYSCTL_CPUPOOL_PAR_ANY;
    op.u.cpupool_op.sched_id = XEN_SCHEDULER_CREDIT;
    assert_int_equal(call(XEN_SYSCTL_cpupool_op), -EINVAL);
    op.u.cpupool_op.sched_id = XEN_SCHEDULER_CREDIT2;
    assert_int_equal(call(XEN_SYSCTL_cpupool_op), 0);
    assert_int_equal(op.u.cpupool_op.cpupool_id, 1);
    op.u.cpupool_op.op = XEN_SYSCTL_CPUPOOL_OP_RMCPU;
    op.u.cpupool_op.cpupool_id = 0;
    op.u.cpupool_op.cpu = 1;
    assert_int_equal(call(XEN_SYSCTL_cpupool_op), 0);
    op.u.cpupool_op.op = XEN_SYSCTL_CPUPOOL_OP_FREEINFO;
    assert_int_equal(call(XEN_SYSCTL_cpupool_op), 0);
    assert_int_equal(map[0], 2);
    op.u.cpupool_op.op = XEN_SYSCTL_CPUPOOL_OP_ADDCPU;
    op.u.cpupool_op.cpupool_id = 1;
    op.u.cpupool_op.cpu = XEN_SYSCTL_CPUPOOL_PAR_ANY;
    assert_int_equal(call(XEN_SYSCTL_cpupool_op), 0);
    op.u.cpupool_op.op = XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN;
    op.u.cpupool_op.domid = 0;
    assert_int_equal(call(XEN_SYSCTL_cpupool_op), -EPERM);
    op.u.cpupool_op.domid = 77;
    assert_int_equal(call(XEN_SYSCTL_cpupool_op), -ESRCH);
    op.u.cpupool_op.domid = 6;
    assert_int_equal(call(XEN_SYSCTL_cpupool_op), 0);
    assert_int_equal(vcpus[2][1].sched.allowed.bits[0], 2);
    op.u.cpupool_op.op = XEN_SYSCTL_CPUPOOL_OP_INFO;
    assert_int_equal(call(XEN_SYSCTL_cpupool_op), 0);
    assert_int_equal(op.u.cpupool_op.n_dom, 1);
    assert_int_equal(map[0], 2);
    op.u.cpupool_op.op = XEN_SYSCTL_CPUPOOL_OP_DESTROY;
    op.u.cpupool_op.cpupool_id = 1;
    fake_log_clear();
    assert_int_equal(call(XEN_SYSCTL_cpupool_op), -EBUSY);
    assert_non_null(strstr(fake_log, "pool 1"));
    op.u.cpupool_op.op = 99;
    assert_int_equal(call(XEN_SYSCTL_cpupool_op), -ENOSYS);
}

static void hotplug(void **state)
{
    op.u.cpu_hotplug.cpu = 5;
    op.u.cpu_hotplug.op = XEN_SYSCTL_CPU_HOTPLUG_OFFLINE;
    hotplug_result = -ERESTART; /* it was made on that very CPU: again from another one */
    assert_int_equal(call(XEN_SYSCTL_cpu_hotplug), CONTINUED);
    hotplug_result = -EBUSY;
    assert_int_equal(call(XEN_SYSCTL_cpu_hotplug), -EBUSY);
    assert_true(hotplug_cpu == 5 && downs == 2 && !ups);
    op.u.cpu_hotplug.op = XEN_SYSCTL_CPU_HOTPLUG_ONLINE;
    hotplug_result = 0;
    assert_int_equal(call(XEN_SYSCTL_cpu_hotplug), 0);
    assert_true(downs == 2 && ups == 1);
    op.u.cpu_hotplug.op = XEN_SYSCTL_CPU_HOTPLUG_SMT_DISABLE;
    fake_log_clear();
    assert_int_equal(call(XEN_SYSCTL_cpu_hotplug), -EOPNOTSUPP);
    assert_non_null(strstr(fake_log, "one by one"));
    op.u.cpu_hotplug.op = 99;
    assert_int_equal(call(XEN_SYSCTL_cpu_hotplug), -EOPNOTSUPP);
    assert_true(downs == 2 && ups == 1);
}

static void scheduler(void **state)
{
    struct xen_sysctl_scheduler_op *s = &op.u.scheduler_op;

    s->sched_id = XEN_SCHEDULER_CREDIT2;
    s->cmd = XEN_SYSCTL_SCHEDOP_getinfo;
    assert_int_equal(call(XEN_SYSCTL_scheduler_op), 0);
    assert_int_equal(s->u.sched_credit2.ratelimit_us, 5000);
    s->cmd = XEN_SYSCTL_SCHEDOP_putinfo;
    s->u.sched_credit2.ratelimit_us = 2000;
    assert_int_equal(call(XEN_SYSCTL_scheduler_op), 0);
    assert_int_equal(options.sched_allowance_us, 2000);
    s->u.sched_credit2.ratelimit_us = 99;
    assert_int_equal(call(XEN_SYSCTL_scheduler_op), -EINVAL);
    s->u.sched_credit2.ratelimit_us = 500001;
    assert_int_equal(call(XEN_SYSCTL_scheduler_op), -EINVAL);
    assert_int_equal(options.sched_allowance_us, 2000);
    s->cmd = 2;
    assert_int_equal(call(XEN_SYSCTL_scheduler_op), -EINVAL);
    s->sched_id = XEN_SCHEDULER_CREDIT;
    assert_int_equal(call(XEN_SYSCTL_scheduler_op), -EINVAL);
    s->cpupool_id = 1;
    assert_int_equal(call(XEN_SYSCTL_scheduler_op), -ESRCH);
}

/* The answer goes back also if there was more of it than room; not after other errors. */
static void copy_back(void **state)
{
    assert_int_equal(call(XEN_SYSCTL_get_cpu_policy), -ENOBUFS);
    assert_int_equal(call(XEN_SYSCTL_get_cpu_featureset), -EOPNOTSUPP);
    op.u.cpu_levelling_caps.caps = 7;
    assert_int_equal(call(XEN_SYSCTL_get_cpu_levelling_caps), 0);
    assert_int_equal(op.u.cpu_levelling_caps.caps, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(versions),         TEST(not_there), TEST(console),  TEST(press),     TEST(one_domain),
        TEST(domain_list_part), TEST(machine),   TEST(topology), TEST(devices),   TEST(idle_and_heap),
        TEST(performance),      TEST(pools),     TEST(hotplug),  TEST(scheduler), TEST(copy_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
