/* run: icount=1 time=60 */
/* What calls cost, read by the benchmarks; there is nothing to fail but the calls themselves. */
#include "kit.h"
#include "rate.h"

#define ROUNDS RATE_ROUNDS

/*
 * Handlers of a few instructions, to measure the hypervisor and not the kit. The system call's counts r15 down and
 * leaves by the kit's own entry at 0.
 */
extern char rate_syscall_entry[], rate_ud2_entry[];
asm(".text\n"
    "rate_syscall_entry: decq %r15; jz 1f; popq %rcx; popq %r11; pushq $0x100; jmp hypercall_page + 23 * 32\n"
    "1: jmp kit_syscall_entry\n"
    "rate_ud2_entry: popq %rcx; popq %r11; addq $2, (%rsp); pushq $0; jmp hypercall_page + 23 * 32\n");

static void iret_to_next(void)
{
    static struct iret_context c = {.cs = FLAT_KERNEL_CS & ~3, .ss = FLAT_KERNEL_SS, .rflags = 2};

    asm volatile("leaq 1f(%%rip), %%rax; movq %%rax, %c[rip](%0); movq %%rsp, %c[rsp](%0); movq %0, %%rsp; movl $23, "
                 "%%eax; syscall; 1:"
                 :
                 : "r"(&c), [rip] "i"(__builtin_offsetof(struct iret_context, rip)),
                   [rsp] "i"(__builtin_offsetof(struct iret_context, rsp))
                 : "rax", "rcx", "r11", "memory", "cc");
}

#define USER_CALLS 2000
USER_TEXT(user_calls, "movl $2000, %r15d; 1: syscall; jmp 1b");
USER_TEXT(user_nothing, "ud2");

GUEST("rate")
{
    uint64_t *page = page_alloc(), *process[2], start;
    struct vcpu_set_singleshot_timer timer = {.flags = 0};
    struct regs r;
    struct mmu_update u;
    long port, bad = 0, other;

    vcpu_op(VCPUOP_stop_periodic_timer, 0, NULL);
    rate_measure_empty_loop();

    MEASURE("xen_version", ROUNDS, bad += xen_version(XENVER_version, NULL) <= 0);
    MEASURE("stack_switch", ROUNDS, bad += stack_switch(FLAT_KERNEL_SS, stack_for_user_entries(0)) != 0);
    MEASURE("set_segment_base", ROUNDS, bad += set_segment_base(SEGBASE_FS, 0) != 0);

    map_page(TEST_VA, make_pte(virt_to_mfn(page), PTE_RW));
    u.ptr = virt_to_machine(pte_of(TEST_VA));
    MEASURE("mmu_update", ROUNDS, u.val = i & 1 ? make_pte(virt_to_mfn(page), PTE_RW) : 0;
            bad += mmu_update(&u, 1, NULL, DOMID_SELF) != 0);
    MEASURE("mmu_update_same_frame", ROUNDS, u.val = make_pte(virt_to_mfn(page), i & 1 ? PTE_RW : PTE_RO);
            bad += mmu_update(&u, 1, NULL, DOMID_SELF) != 0);
    MEASURE("update_va_mapping", ROUNDS,
            bad += update_va_mapping(TEST_VA, i & 1 ? make_pte(virt_to_mfn(page), PTE_RW) : 0, UVMF_NONE) != 0);
    MEASURE("update_va_mapping_invlpg", ROUNDS,
            bad += update_va_mapping(TEST_VA, i & 1 ? make_pte(virt_to_mfn(page), PTE_RW) : 0, UVMF_INVLPG) != 0);
    MEASURE("emulated_pt_write", ROUNDS,
            *(volatile uint64_t *)pte_of(TEST_VA) = i & 1 ? make_pte(virt_to_mfn(page), PTE_RW) : 0);
    MEASURE("new_baseptr_same", ROUNDS, bad += mmuext(MMUEXT_NEW_BASEPTR, kernel_root, 0) != 0);
    MEASURE("invlpg_local", ROUNDS, bad += mmuext(MMUEXT_INVLPG_LOCAL, TEST_VA, 0) != 0);

    {
        struct gnttab_setup_table setup = {.dom = DOMID_SELF, .nr_frames = 1};
        struct gnttab_map_grant_ref map = {.host_addr = TEST_VA, .flags = GNTMAP_host_map, .ref = 9};
        struct gnttab_unmap_grant_ref unmap = {.host_addr = TEST_VA};
        struct gnttab_copy copy = {.source = {.u = {.ref = 9}, .domid = DOMID_SELF},
                                   .dest = {.u = {.gmfn = virt_to_mfn(page)}, .domid = DOMID_SELF, .offset = 2048},
                                   .len = 64,
                                   .flags = GNTCOPY_source_gref};
        xen_pfn_t frame;
        uint64_t map_time = 0, unmap_time = 0, t0, t1, t2;

        set_xen_guest_handle(setup.frame_list, &frame);
        bad += grant_table_op(GNTTABOP_setup_table, &setup, 1) != 0;
        map_page(TEST_VA2, make_pte(frame, PTE_RW));
        ((volatile uint64_t *)TEST_VA2)[9] = virt_to_mfn(page) << 32 | GTF_permit_access;
        for (unsigned i = 0; i < ROUNDS; i++) {
            t0 = tsc_read();
            bad += grant_table_op(GNTTABOP_map_grant_ref, &map, 1) != 0 || map.status;
            t1 = tsc_read();
            unmap.handle = map.handle;
            bad += grant_table_op(GNTTABOP_unmap_grant_ref, &unmap, 1) != 0 || unmap.status;
            t2 = tsc_read();
            map_time += t1 - t0;
            unmap_time += t2 - t1;
        }
        rate_report("grant_map", map_time, ROUNDS);
        rate_report("grant_unmap", unmap_time, ROUNDS);
        MEASURE("grant_copy_64", ROUNDS, bad += grant_table_op(GNTTABOP_copy, &copy, 1) != 0 || copy.status);
    }

    /*
     * A process like a small one of Linux: the kernel's L4 slots, one L3, two L2, six L1 with 25 pages each; L1
     * pinned before.
     */
    process[0] = page_alloc();
    process[0][511] = ((uint64_t *)mfn_to_virt(kernel_root))[511];
    process[1] = page_alloc();
    process[0][5] = make_pte(virt_to_mfn(process[1]), PTE_TABLE);
    for (unsigned i = 0; i < 2; i++) {
        uint64_t *l2 = page_alloc();

        process[1][i * 100] = make_pte(virt_to_mfn(l2), PTE_TABLE);
        for (unsigned k = 0; k < 3; k++) {
            uint64_t *l1 = page_alloc();

            l2[k * 50] = make_pte(virt_to_mfn(l1), PTE_TABLE);
            for (unsigned n = 0; n < 25; n++)
                l1[n * 7] = make_pte(virt_to_mfn(page), PTE_RW | PTE_U);
            page_make_readonly(l1);
            if (i == 0 && k == 0)
                MEASURE("pin_and_unpin_l1", ROUNDS / 10, bad += mmuext(MMUEXT_PIN_L1_TABLE, virt_to_mfn(l1), 0) != 0;
                        bad += mmuext(MMUEXT_UNPIN_TABLE, virt_to_mfn(l1), 0) != 0);
            bad += mmuext(MMUEXT_PIN_L1_TABLE, virt_to_mfn(l1), 0) != 0;
        }
        page_make_readonly(l2);
    }
    page_make_readonly(process[0]);
    page_make_readonly(process[1]);
    {
        uint64_t pin = 0, unpin = 0, t0, t1, t2;

        for (unsigned i = 0; i < 100; i++) {
            t0 = tsc_read();
            bad += mmuext(MMUEXT_PIN_L4_TABLE, virt_to_mfn(process[0]), 0) != 0;
            t1 = tsc_read();
            bad += mmuext(MMUEXT_UNPIN_TABLE, virt_to_mfn(process[0]), 0) != 0;
            t2 = tsc_read();
            pin += t1 - t0;
            unpin += t2 - t1;
        }
        rate_report("pin_process", pin, 100);
        rate_report("unpin_process", unpin, 100);
    }
    bad += mmuext(MMUEXT_PIN_L4_TABLE, virt_to_mfn(process[0]), 0) != 0;
    MEASURE("new_baseptr_and_back", ROUNDS / 2, bad += mmuext(MMUEXT_NEW_BASEPTR, virt_to_mfn(process[0]), 0) != 0;
            bad += mmuext(MMUEXT_NEW_BASEPTR, kernel_root, 0) != 0);

    port = bind_virq(VIRQ_TIMER, 0);
    timer.timeout_abs_ns = time_now() + 100000000000UL;
    MEASURE("set_singleshot_timer", ROUNDS, timer.timeout_abs_ns += 1000;
            bad += vcpu_op(VCPUOP_set_singleshot_timer, 0, &timer) != 0);
    vcpu_op(VCPUOP_stop_singleshot_timer, 0, NULL);
    other = bind_ipi(0);
    event_unmask((unsigned)other);
    MEASURE("event_send_masked_upcall", ROUNDS, shared_info->evtchn_pending[0] = 0;
            bad += event_send((unsigned)other) != 0);
    events_enable();
    MEASURE("event_send_and_upcall", ROUNDS, bad += event_send((unsigned)other) != 0);
    MEASURE("sched_yield", ROUNDS, bad += sched_op(SCHEDOP_yield, NULL) != 0);
    MEASURE("rdmsr_gs_base", ROUNDS, asm volatile("rdmsr" : : "c"(0xc0000102) : "rax", "rdx"));
    MEASURE("cpuid_forced", ROUNDS, cpuid_forced(0x40000000, 0));
    MEASURE("cr2_read", ROUNDS, asm volatile("movq %%cr2, %%rax" : : : "rax"));

    bad += callback_set(CALLBACKTYPE_syscall, CALLBACKF_mask_events, rate_syscall_entry) != 0;
    USER_RUN(user_calls, &r); /* once, to have everything set up */
    start = tsc_read();
    USER_RUN(user_calls, &r);
    start = tsc_read() - start;
    check(r.vector == VECTOR_SYSCALL && r.r15 == 0, "the system calls ended as they should");
    {
        uint64_t once = tsc_read();

        USER_RUN(user_nothing, &r);
        rate_report("syscall", start - (tsc_read() - once), USER_CALLS); /* less the way there and back */
    }
    /* A kernel with a user root, as it is but for its first moments */
    MEASURE("iret_kernel", ROUNDS, iret_to_next());
    set_trap(6, 0, rate_ud2_entry);
    MEASURE("exception_and_iret", ROUNDS, asm volatile("ud2"));
    rate_print();
    check(bad == 0 && port > 0, "all calls succeeded: %ld did not", bad);
}
