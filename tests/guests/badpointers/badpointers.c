/* run: beside=yes */
/*
 * Every hypercall with pointers to nothing, to the hypervisor, to what is not writable, across the end of a
 * mapping and of the address space: an error each time, nothing written, and never a crash.
 */
#include "kit.h"

#define COUNT_DONE 2 /* an error, or 0 elements done */
#define ANY 1        /* some error, which one is left open (calls that another hypervisor may not have at all) */

struct call {
    const char *name;
    unsigned nr;
    unsigned long args[5];
    unsigned pointer;  /* which argument is the pointer */
    long want;         /* -errno, or ANY */
    bool null_allowed; /* a null pointer means something else */
};

#define MEMORY(cmd, want)                                                                                              \
    {                                                                                                                  \
        "memory_op " #cmd, __HYPERVISOR_memory_op, {XENMEM_##cmd}, 1, want, false                                      \
    }
#define EVENT(cmd)                                                                                                     \
    {                                                                                                                  \
        "event_channel_op " #cmd, __HYPERVISOR_event_channel_op, {EVTCHNOP_##cmd}, 1, -EFAULT, false                   \
    }
#define GRANT(cmd, want)                                                                                               \
    {                                                                                                                  \
        "grant_table_op " #cmd, __HYPERVISOR_grant_table_op, {GNTTABOP_##cmd, 0, 1}, 1, want, false                    \
    }
#define PHYSDEV_ANY(cmd)                                                                                               \
    {                                                                                                                  \
        "physdev_op " #cmd, __HYPERVISOR_physdev_op, {PHYSDEVOP_##cmd}, 1, ANY, false                                  \
    }
#define PHYSDEV(cmd)                                                                                                   \
    {                                                                                                                  \
        "physdev_op " #cmd, __HYPERVISOR_physdev_op, {PHYSDEVOP_##cmd}, 1, -EFAULT, false                              \
    }
#define VCPU(cmd)                                                                                                      \
    {                                                                                                                  \
        "vcpu_op " #cmd, __HYPERVISOR_vcpu_op, {VCPUOP_##cmd}, 2, -EFAULT, false                                       \
    }

/* The hypervisor reads a structure there. */
static const struct call readers[] = {
    {"set_trap_table", __HYPERVISOR_set_trap_table, {0}, 0, -EFAULT, true},
    {"mmu_update", __HYPERVISOR_mmu_update, {0, 1, 0, DOMID_SELF}, 0, -EFAULT, false},
    {"mmuext_op", __HYPERVISOR_mmuext_op, {0, 1, 0, DOMID_SELF}, 0, -EFAULT, false},
    {"set_gdt", __HYPERVISOR_set_gdt, {0, 512}, 0, -EFAULT, false},
    {"multicall", __HYPERVISOR_multicall, {0, 1}, 0, -EFAULT, false},
    {"console_io write", __HYPERVISOR_console_io, {CONSOLEIO_write, 64}, 2, -EFAULT, false},
    {"sched_op shutdown", __HYPERVISOR_sched_op, {SCHEDOP_shutdown}, 1, -EFAULT, false},
    {"sched_op poll", __HYPERVISOR_sched_op, {SCHEDOP_poll}, 1, -EFAULT, false},
    {"sched_op remote_shutdown", __HYPERVISOR_sched_op, {SCHEDOP_remote_shutdown}, 1, -EFAULT, false},
    {"sched_op shutdown_code", __HYPERVISOR_sched_op, {SCHEDOP_shutdown_code}, 1, -EFAULT, false},
    {"sched_op watchdog", __HYPERVISOR_sched_op, {SCHEDOP_watchdog}, 1, -EFAULT, false},
    {"sched_op pin_override", __HYPERVISOR_sched_op, {SCHEDOP_pin_override}, 1, ANY, false},
    {"callback_op register", __HYPERVISOR_callback_op, {CALLBACKOP_register}, 1, -EFAULT, false},
    {"callback_op unregister", __HYPERVISOR_callback_op, {CALLBACKOP_unregister}, 1, -EFAULT, false},
    MEMORY(increase_reservation, COUNT_DONE),
    MEMORY(decrease_reservation, COUNT_DONE),
    MEMORY(populate_physmap, COUNT_DONE),
    MEMORY(current_reservation, -EFAULT),
    MEMORY(maximum_reservation, -EFAULT),
    MEMORY(exchange, -EFAULT),
    MEMORY(machphys_mfn_list, -EFAULT),
    MEMORY(memory_map, ANY),
    MEMORY(machine_memory_map, -EFAULT),
    MEMORY(maximum_gpfn, -EFAULT),
    MEMORY(set_memory_map, ANY),
    MEMORY(add_to_physmap, ANY),
    MEMORY(remove_from_physmap, ANY),
    MEMORY(add_to_physmap_batch, ANY),
    MEMORY(set_pod_target, ANY),
    MEMORY(get_pod_target, ANY),
    MEMORY(machphys_compat_mfn_list, ANY),
    VCPU(set_periodic_timer),
    VCPU(set_singleshot_timer),
    VCPU(register_vcpu_info),
    VCPU(register_runstate_memory_area),
    VCPU(register_vcpu_time_memory_area),
    EVENT(alloc_unbound),
    EVENT(bind_interdomain),
    EVENT(bind_virq),
    EVENT(bind_pirq),
    EVENT(bind_ipi),
    EVENT(close),
    EVENT(send),
    EVENT(status),
    EVENT(bind_vcpu),
    EVENT(unmask),
    EVENT(reset),
    EVENT(init_control),
    EVENT(expand_array),
    EVENT(set_priority),
    GRANT(map_grant_ref, ANY),
    GRANT(unmap_grant_ref, ANY),
    GRANT(setup_table, -EFAULT),
    GRANT(transfer, ANY),
    GRANT(copy, ANY),
    GRANT(query_size, -EFAULT),
    GRANT(unmap_and_replace, ANY),
    GRANT(set_version, -EFAULT),
    GRANT(get_status_frames, ANY),
    GRANT(get_version, -EFAULT),
    GRANT(swap_grant_ref, ANY),
    PHYSDEV(eoi),
    PHYSDEV(irq_status_query),
    PHYSDEV(set_iopl),
    PHYSDEV(set_iobitmap),
    PHYSDEV(apic_read),
    PHYSDEV(apic_write),
    PHYSDEV(alloc_irq_vector),
    PHYSDEV(map_pirq),
    PHYSDEV(unmap_pirq),
    PHYSDEV(manage_pci_add),
    PHYSDEV(setup_gsi),
    PHYSDEV(pci_device_add),
    PHYSDEV(pci_device_remove),
    PHYSDEV_ANY(pirq_eoi_gmfn_v1),
    PHYSDEV(pirq_eoi_gmfn_v2),
    PHYSDEV(get_free_pirq),
    PHYSDEV(pci_mmcfg_reserved),
    PHYSDEV(restore_msi),
    PHYSDEV(prepare_msix),
    PHYSDEV_ANY(dbgp_op),
    {"platform_op", __HYPERVISOR_platform_op, {0}, 0, -EFAULT, false},
    {"sysctl", __HYPERVISOR_sysctl, {0}, 0, ANY, false},
    {"domctl", __HYPERVISOR_domctl, {0}, 0, ANY, false},
    {"xsm_op", __HYPERVISOR_xsm_op, {0}, 0, ANY, false},
    {"nmi_op register", __HYPERVISOR_nmi_op, {0}, 1, ANY, false},
    {"hvm_op set_param", __HYPERVISOR_hvm_op, {0}, 1, ANY, false},
    {"hvm_op get_param", __HYPERVISOR_hvm_op, {1}, 1, ANY, false},
    {"kexec_op get_range", __HYPERVISOR_kexec_op, {0}, 1, ANY, false},
    {"xenpmu_op", __HYPERVISOR_xenpmu_op, {0}, 1, ANY, false},
    {"dm_op", __HYPERVISOR_dm_op, {0x7ff0, 1}, 2, ANY, false},
    {"mca", __HYPERVISOR_arch_0, {0}, 0, ANY, false},
    {"croft_op sched_get", __HYPERVISOR_arch_7, {0}, 1, -EFAULT, false},
    {"croft_op sched_next", __HYPERVISOR_arch_7, {1}, 1, -EFAULT, false},
    {"croft_op sched_set", __HYPERVISOR_arch_7, {2}, 1, -EFAULT, false},
    {"xen_version get_features", __HYPERVISOR_xen_version, {XENVER_get_features}, 1, -EFAULT, false},
    {"physdev_op_compat", __HYPERVISOR_physdev_op_compat, {0}, 0, ANY, false},
    {"event_channel_op_compat", __HYPERVISOR_event_channel_op_compat, {0}, 0, ANY, false},
};

/* The hypervisor writes there. */
static const struct call writers[] = {
    {"xen_version extraversion", __HYPERVISOR_xen_version, {XENVER_extraversion}, 1, -EFAULT, false},
    {"xen_version compile_info", __HYPERVISOR_xen_version, {XENVER_compile_info}, 1, -EFAULT, false},
    {"xen_version capabilities", __HYPERVISOR_xen_version, {XENVER_capabilities}, 1, -EFAULT, false},
    {"xen_version changeset", __HYPERVISOR_xen_version, {XENVER_changeset}, 1, -EFAULT, false},
    {"xen_version platform_parameters", __HYPERVISOR_xen_version, {XENVER_platform_parameters}, 1, -EFAULT, false},
    {"xen_version guest_handle", __HYPERVISOR_xen_version, {XENVER_guest_handle}, 1, -EFAULT, false},
    {"xen_version commandline", __HYPERVISOR_xen_version, {XENVER_commandline}, 1, -EFAULT, false},
    {"memory_op machphys_mapping", __HYPERVISOR_memory_op, {XENMEM_machphys_mapping}, 1, -EFAULT, false},
    {"vcpu_op get_runstate_info", __HYPERVISOR_vcpu_op, {VCPUOP_get_runstate_info}, 2, -EFAULT, false},
    {"vcpu_op get_physid", __HYPERVISOR_vcpu_op, {VCPUOP_get_physid}, 2, ANY, false},
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static uint8_t read_only[PAGE_SIZE] __attribute__((aligned(4096)));
static uint8_t page_copy[PAGE_SIZE] __attribute__((aligned(4096)));

static const struct pointer {
    const char *what;
    unsigned long address;
} pointers[] = {
    {"null", 0},
    {"low", 0x1000},
    {"unmapped", VA_UNMAPPED},
    {"non-canonical, low end", 0x0000800000000000UL},
    {"non-canonical, straddling", 0x00007ffffffffffcUL},
    {"non-canonical, high", 0xffff7ffffffff000UL},
    {"non-canonical, middle", VA_NONCANONICAL},
    {"m2p (readable for guests)", HYPERVISOR_VIRT_START},
    {"before the hole, straddling", 0xffff7ffffffffffcUL},
    {"hypervisor's hole", VA_HOLE},
    {"hypervisor's direct map", 0xffff830000100000UL},
    {"end of the hole", HYPERVISOR_VIRT_END - 4},
    {"top, wrapping", ~7UL},
    {"end of a mapping", TEST_VA + PAGE_SIZE - 1},
};

static long call(const struct call *c, unsigned long address)
{
    unsigned long a[5];

    memcpy(a, c->args, sizeof(a));
    a[c->pointer] = address;
    return hypercall(c->nr, a[0], a[1], a[2], a[3], a[4]);
}

static bool acceptable(long got, long want)
{
    if (want == COUNT_DONE)
        return got <= 0 && got >= -4095;
    if (kit_is_child() && got == -EPERM)
        return true;
    return want == ANY ? got < 0 && got >= -4095 : got == want;
}

/* All refusals of one call make one line. */
static void sweep(const struct call *c)
{
    bool ok = true;

    for (unsigned i = 0; i < COUNT(pointers); i++) {
        long got;

        if (pointers[i].address == 0 && c->null_allowed)
            continue;
        got = call(c, pointers[i].address);
        if (!acceptable(got, c->want)) {
            ok = false;
            printf("  %s, %s (%lx): %ld, wanted %ld\n", c->name, pointers[i].what, pointers[i].address, got, c->want);
        }
    }
    check(ok, "%s", c->name);
}

static void sweep_writer(const struct call *c)
{
    void *table = (void *)start_info->pt_base;
    long got;

    sweep(c);
    got = call(c, (unsigned long)read_only);
    check_quiet(acceptable(got, c->want), "%s to a read-only page: %ld", c->name, got);
    memcpy(page_copy, table, PAGE_SIZE);
    got = call(c, (unsigned long)table + 2048);
    check_quiet(acceptable(got, c->want), "%s to a page table: %ld", c->name, got);
    check_quiet(memcmp(page_copy, table, PAGE_SIZE) == 0, "%s changed a page table", c->name);
}

/* Pointers inside the structures that calls take. */
static void inner_pointers(void)
{
    long privileged = kit_is_child() ? -EPERM : -EFAULT;

    for (unsigned i = 0; i < COUNT(pointers); i++) {
        unsigned long p = pointers[i].address;
        struct sched_poll poll = {.nr_ports = 4, .timeout = 1};
        struct xen_memory_map map = {.nr_entries = 64};
        struct xen_memory_reservation r = {.nr_extents = 4, .domid = DOMID_SELF};
        struct xen_memory_exchange x = {.in = {.nr_extents = 1, .domid = DOMID_SELF},
                                        .out = {.nr_extents = 1, .domid = DOMID_SELF}};
        struct xen_machphys_mfn_list l = {.max_extents = 8};
        struct gnttab_setup_table g = {.dom = DOMID_SELF, .nr_frames = 1};
        struct vcpu_register_runstate_memory_area area;
        struct mmuext_op flush = {.cmd = MMUEXT_TLB_FLUSH_MULTI};
        struct multicall_entry m = {.op = __HYPERVISOR_xen_version, .args = {XENVER_extraversion, p}};
        bool inside = p == TEST_VA + PAGE_SIZE - 1; /* its first bytes are mapped: short accesses are well */
        long got;

        set_xen_guest_handle(poll.ports, (evtchn_port_t *)p);
        got = sched_op(SCHEDOP_poll, &poll);
        check_quiet(got == -EFAULT, "poll, ports %s: %ld", pointers[i].what, got);

        if (p != 0) { /* null asks for the count */
            set_xen_guest_handle(map.buffer, (void *)p);
            got = memory_op(XENMEM_machine_memory_map, &map);
            check_quiet(got == privileged, "machine_memory_map, buffer %s: %ld", pointers[i].what, got);
        }
        set_xen_guest_handle(r.extent_start, (xen_pfn_t *)p);
        got = memory_op(XENMEM_decrease_reservation, &r);
        check_quiet(got <= 0, "decrease_reservation, extents %s: %ld", pointers[i].what, got);
        got = memory_op(XENMEM_populate_physmap, &r);
        check_quiet(got <= 0, "populate_physmap, extents %s: %ld", pointers[i].what, got);

        set_xen_guest_handle(x.in.extent_start, (xen_pfn_t *)p);
        set_xen_guest_handle(x.out.extent_start, (xen_pfn_t *)p);
        got = memory_op(XENMEM_exchange, &x);
        check_quiet(got < 0, "exchange, extents %s: %ld", pointers[i].what, got);

        set_xen_guest_handle(l.extent_start, (xen_pfn_t *)p);
        got = memory_op(XENMEM_machphys_mfn_list, &l);
        check_quiet(got == privileged, "machphys_mfn_list, extents %s: %ld", pointers[i].what, got);

        set_xen_guest_handle(g.frame_list, (xen_pfn_t *)p);
        g.status = 0;
        got = grant_table_op(GNTTABOP_setup_table, &g, 1);
        check_quiet(got < 0 || g.status < 0, "setup_table, list %s: %ld, status %d", pointers[i].what, got, g.status);

        if (p != 0 && !inside) { /* the hypervisor may accept any guest address here and fail to write later */
            area.addr.p = p;
            got = vcpu_op(VCPUOP_register_runstate_memory_area, 0, &area);
            check_quiet(got == -EFAULT ||
                            (got == 0 && (p == VA_UNMAPPED || p == 0x1000 || p == ~7UL || (p >> 47) == 0)),
                        "runstate area %s: %ld", pointers[i].what, got);
            sched_op(SCHEDOP_yield, NULL);
        }
        if (!inside) {
            flush.arg2.vcpumask.p = (void *)p;
            got = mmuext_op(&flush, 1, NULL, DOMID_SELF);
            check_quiet(got < 0, "flush, vcpu mask %s: %ld", pointers[i].what, got);
        }
        got = multicall(&m, 1);
        check_quiet(got == 0 && (long)m.result == -EFAULT, "multicall element, %s: %ld, result %ld", pointers[i].what,
                    got, (long)m.result);
        got = mmu_update(&(struct mmu_update){.ptr = virt_to_machine(pte_of(TEST_VA)), .val = *pte_of(TEST_VA)}, 1,
                         (unsigned *)p, DOMID_SELF);
        check_quiet(got == 0 || got == -EFAULT, "mmu_update, done %s: %ld", pointers[i].what, got);
    }
    check(true, "pointers within structures");
}

/* Long lists whose later elements cannot be read: the error comes, and the elements before it count as done. */
static void lists_off_the_edge(void)
{
    struct mmu_update *u = (struct mmu_update *)(TEST_VA + PAGE_SIZE) - 2;
    struct multicall_entry *m = (struct multicall_entry *)(TEST_VA + PAGE_SIZE) - 2;
    unsigned done = 99;
    long rc;

    u[0].ptr = u[1].ptr = virt_to_machine(pte_of(TEST_VA));
    u[0].val = u[1].val = *pte_of(TEST_VA);
    rc = mmu_update(u, 5, &done, DOMID_SELF);
    check(rc == -EFAULT && done == 2, "mmu_update off the edge: %ld, done %u", rc, done);
    m[0].op = m[1].op = __HYPERVISOR_xen_version;
    m[0].args[0] = m[1].args[0] = XENVER_pagesize;
    m[0].result = m[1].result = 0;
    rc = multicall(m, 5);
    check(rc == -EFAULT && m[0].result == 4096 && m[1].result == 4096, "multicall off the edge: %ld", rc);
    rc = mmu_update((void *)VA_UNMAPPED, 0, NULL, DOMID_SELF);
    check(rc == 0 || rc == -EFAULT, "mmu_update of nothing: %ld", rc);
    check_negative(mmu_update(u, 0x7fffffff, NULL, DOMID_SELF));
}

/* The multicall list itself must be writable for the results. */
static void read_only_multicall(void)
{
    struct multicall_entry m = {.op = __HYPERVISOR_xen_version, .args = {XENVER_pagesize}};

    page_make_writable(read_only);
    memcpy(read_only, &m, sizeof(m));
    page_make_readonly(read_only);
    check_equal(multicall((void *)read_only, 1), -EFAULT);
    check(((struct multicall_entry *)(void *)read_only)->result == 0, "nothing was written");
}

/* A hypercall needs no stack, so a bad stack pointer is no fault of it. */
static void bad_stack_pointers(void)
{
    static const unsigned long stacks[] = {0, VA_UNMAPPED, VA_NONCANONICAL, VA_HOLE, HYPERVISOR_VIRT_START, ~0UL, 7};

    events_disable();
    for (unsigned i = 0; i < COUNT(stacks); i++) {
        long result;

        asm volatile("movq %%rsp, %%rbx; movq %[sp], %%rsp; syscall; movq %%rbx, %%rsp"
                     : "=a"(result)
                     : "0"(__HYPERVISOR_xen_version), "D"(XENVER_pagesize), "S"(0), [sp] "r"(stacks[i])
                     : "rbx", "rcx", "r11", "memory");
        check(result == 4096, "hypercall with rsp %lx: %ld", stacks[i], result);
    }
    events_enable();
}

GUEST("badpointers")
{
    map_page(TEST_VA, make_pte(virt_to_mfn(page_alloc()), PTE_RW));
    page_make_readonly(read_only);
    for (unsigned i = 0; i < COUNT(readers); i++)
        sweep(&readers[i]);
    for (unsigned i = 0; i < COUNT(writers); i++)
        sweep_writer(&writers[i]);
    inner_pointers();
    lists_off_the_edge();
    read_only_multicall();
    bad_stack_pointers();
    for (unsigned i = 0, bad = 0; i < PAGE_SIZE; i++)
        if (read_only[i] != 0 && i >= sizeof(struct multicall_entry) && bad++ == 0)
            check(false, "the read-only page changed at %u", i);
    check_equal(xen_version(XENVER_pagesize, NULL), 4096);
}
