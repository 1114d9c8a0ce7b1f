/* run: beside=yes */
/* Batched calls: order, results, errors within, nesting, continuations of long elements. */
#include "kit.h"

#define COUNT 600

static struct multicall_entry list[COUNT];

static void plain(void)
{
    unsigned wrong = 0;

    for (unsigned i = 0; i < COUNT; i++) {
        list[i].op = __HYPERVISOR_xen_version;
        list[i].args[0] = i & 1 ? XENVER_pagesize : 4711;
        list[i].result = 0x5555;
    }
    check_equal(multicall(list, COUNT), 0);
    for (unsigned i = 0; i < COUNT; i++)
        wrong += (long)list[i].result != (i & 1 ? 4096 : -ENOSYS);
    check(wrong == 0, "%u calls, every other an error: all results are right (%u not)", COUNT, wrong);
    check_equal(multicall(list, 0), 0);
}

static void unknown(void)
{
    static const unsigned long ops[] = {11, 37 + 6, 60, 63, 64, 127, 128, 1000, 0xffffffff, ~0UL, 1UL << 32 | 17};
    unsigned n = sizeof(ops) / sizeof(ops[0]);

    for (unsigned i = 0; i < n; i++) {
        memset(&list[i], 0, sizeof(list[i]));
        list[i].op = ops[i];
    }
    list[n].op = __HYPERVISOR_xen_version;
    list[n].args[0] = XENVER_pagesize;
    check_equal(multicall(list, n + 1), 0);
    for (unsigned i = 0; i + 1 < n; i++)
        check((long)list[i].result == -ENOSYS, "call %lx: %ld", ops[i], (long)list[i].result);
    check((long)list[n].result == 4096, "the call after them is made");
}

static void nesting(void)
{
    static struct multicall_entry inner;

    memset(list, 0, sizeof(list));
    inner.op = __HYPERVISOR_xen_version;
    inner.args[0] = XENVER_pagesize;
    inner.result = 77;
    list[0].op = __HYPERVISOR_multicall;
    list[0].args[0] = (unsigned long)&inner;
    list[0].args[1] = 1;
    list[1] = list[0];
    list[1].args[0] = (unsigned long)list;
    list[1].args[1] = 2;
    list[2].op = __HYPERVISOR_xen_version;
    list[2].args[0] = XENVER_pagesize;
    check_equal(multicall(list, 3), 0);
    check((long)list[0].result < 0 && (long)list[1].result < 0, "a multicall within a multicall: %ld, %ld",
          (long)list[0].result, (long)list[1].result);
    check(inner.result == 77, "the inner calls are not made");
    check((long)list[2].result == 4096, "the next call is");
    inner.op = __HYPERVISOR_iret; /* from whose stack? */
    check(multicall(&inner, 1) == 0 && (long)inner.result < 0, "iret within a multicall: %ld", (long)inner.result);
    inner.op = __HYPERVISOR_xen_version;
    check_equal(multicall(&inner, 1), 0); /* the state is not stuck */
    check(inner.result == 4096, "and a multicall works again");
}

/* Elements that wait or give the CPU away. */
static void scheduling(void)
{
    struct vcpu_set_singleshot_timer t = {.timeout_abs_ns = time_now() + 5000000};
    long port = bind_virq(VIRQ_TIMER, 0);
    uint64_t start = time_now();

    event_unmask((unsigned)port);
    memset(list, 0, sizeof(list));
    list[0].op = __HYPERVISOR_sched_op;
    list[0].args[0] = SCHEDOP_yield;
    list[0].result = 77;
    list[1].op = __HYPERVISOR_vcpu_op;
    list[1].args[0] = VCPUOP_set_singleshot_timer;
    list[1].args[2] = (unsigned long)&t;
    list[1].result = 77;
    list[2].op = __HYPERVISOR_xen_version;
    list[2].args[0] = XENVER_pagesize;
    t.timeout_abs_ns = start + 5000000;
    check_equal(multicall(list, 3), 0);
    check(list[0].result == 0 && list[1].result == 0 && list[2].result == 4096, "yield and a timer: %ld, %ld, %ld",
          (long)list[0].result, (long)list[1].result, (long)list[2].result);
    t.timeout_abs_ns = time_now() + 5000000;
    list[0] = list[1];
    list[1].op = __HYPERVISOR_sched_op;
    list[1].args[0] = SCHEDOP_block;
    list[1].result = 77;
    list[2].result = 0;
    check_equal(multicall(list, 3), 0);
    check(time_now() >= t.timeout_abs_ns, "block waits");
    check(list[1].result == 0 && list[2].result == 4096, "and the rest is done: %ld, %ld", (long)list[1].result,
          (long)list[2].result);
}

/* Long elements are continued within the batch: many page-table writes, and memory given back and taken again. */
static void continuations(void)
{
    static struct mmu_update updates[2048];
    static xen_pfn_t extents[4000];
    unsigned pages =
        kit_is_child() ? 0 : sizeof(extents) / sizeof(extents[0]); /* a child has none that it does not use */
    unsigned long first = start_info->nr_pages - pages;
    struct xen_memory_reservation r = {.nr_extents = pages, .domid = DOMID_SELF};
    uint64_t *page = page_alloc(), *pte;
    unsigned done = 0, wrong = 0;

    map_page(TEST_VA, make_pte(virt_to_mfn(page), PTE_RW));
    pte = pte_of(TEST_VA);
    for (unsigned i = 0; i < 2048; i++) {
        updates[i].ptr = virt_to_machine(pte + i % 512);
        updates[i].val = make_pte(virt_to_mfn(page), i & 1 ? PTE_RW : PTE_RO) | (uint64_t)(i & 7) << 9;
    }
    memset(list, 0, sizeof(list));
    list[0].op = __HYPERVISOR_mmu_update;
    list[0].args[0] = (unsigned long)updates;
    list[0].args[1] = 2048;
    list[0].args[2] = (unsigned long)&done;
    list[0].args[3] = DOMID_SELF;
    list[0].result = 77;

    set_xen_guest_handle(r.extent_start, extents);
    for (unsigned i = 0; i < pages; i++)
        extents[i] = p2m[first + i];
    list[1].op = __HYPERVISOR_memory_op;
    list[1].args[0] = XENMEM_decrease_reservation;
    list[1].args[1] = (unsigned long)&r;
    list[2].op = __HYPERVISOR_xen_version;
    list[2].args[0] = XENVER_pagesize;
    check_equal(multicall(list, 3), 0);
    check(list[0].result == 0 && done == 2048, "2048 page-table writes in an element: %ld, done %u",
          (long)list[0].result, done);
    for (unsigned i = 0; i < 512; i++)
        wrong += (pte[i] >> 9 & 7) != (i & 7);
    check(wrong == 0, "all are there");
    check(list[1].result == pages, "pages given back: %ld of %u", (long)list[1].result, pages);
    check(list[2].result == 4096, "and the call after it");

    for (unsigned i = 0; i < pages; i++)
        extents[i] = first + i;
    list[1].args[0] = XENMEM_populate_physmap;
    list[1].args[1] = (unsigned long)&r;
    list[1].op = __HYPERVISOR_memory_op;
    r.nr_extents = pages;
    set_xen_guest_handle(r.extent_start, extents);
    list[2].result = 0;
    check_equal(multicall(list + 1, 2), 0);
    check(list[1].result == pages && list[2].result == 4096, "taken again: %ld, %ld", (long)list[1].result,
          (long)list[2].result);
    for (unsigned i = 0; i < pages; i++) {
        wrong += machine_to_phys_mapping[extents[i]] != first + i;
        p2m[first + i] = extents[i];
    }
    check(wrong == 0, "with the right m2p entries");
}

GUEST("multicall")
{
    events_enable();
    vcpu_op(VCPUOP_stop_periodic_timer, 0, NULL);
    plain();
    unknown();
    nesting();
    scheduling();
    continuations();
}
