/* run: pvh=yes beside=yes time=60
 * case:nowhere="d1 crashed: vcpu 0 executes at physical address 0xe0000000" case:stranger="d1 crashed: .* by an instruction that is not emulated"
 * case:triple="d1 crashed: triple fault" case:task="d1 crashed: (switches tasks by hardware|triple fault)" case:stack="d1 crashed: .* stack .* at physical address 0xe00007"
 * case:interrupt="d1 crashed: .* stack .* at physical address 0xe00007" case:cr3="d1 crashed: .* page table, .* at physical address 0xe0000000"
 * case:nw="d1 crashed: the processor refuses the state|GUEST pvh_hostile: PASS" case:own_tables="d1 crashed"
 * case:console="d1 shut down: power off" case:halt="d1 shut down: power off" case:reset="d1 shut down: reboot" case:init="d1 shut down: power off"
 */
/*
 * A PVH kernel that wants to do harm: calls with bad arguments, from where there are none, in great numbers. With case=... on the command
 * line it does one thing that must end it, and nothing else.
 */
#include "../kit/pvh/pvh.h"

#define HOLE_STACK (HOLE_AT + 0x800)

/* ---- Its ends ---- */

static void remove_page(unsigned long at)
{
    struct xen_remove_from_physmap r = {.domid = DOMID_SELF, .gpfn = at >> 12};
    long rc = memory_op(XENMEM_remove_from_physmap, &r);

    if (rc != 0)
        printf("remove_from_physmap %lx: %ld\n", at, rc);
}

static void triple_fault(void)
{
    static const uint8_t none[10];

    asm volatile("lidt %0; ud2" : : "m"(none));
}

/* Out of long mode, where there are hardware tasks, and to one. */
extern char leave_long_mode[];
asm(".text; leave_long_mode: pushq $0x18; pushq $1f; lretq; .code32\n"
    "1: movl %cr0, %eax; andl $0x7fffffff, %eax; movl %eax, %cr0; movl $0xc0000080, %ecx; rdmsr; andl $~0x100, %eax; "
    "wrmsr\n"
    "movl $0x80, %eax; ltr %ax; ljmpl $0x88, $0; ud2; .code64\n");

static void task_switch(void)
{
    static uint8_t segments[2][128] __attribute__((aligned(128)));

    for (unsigned i = 0; i < 2; i++)
        kit_gdt[16 + i] = 103 | ((uint64_t)segments[i] & 0xffffff) << 16 | 0x89UL << 40;
    asm volatile("jmp leave_long_mode");
}

static void not_writable(void)
{
    struct fault f = ATTEMPT("movq %%cr0, %%rax; orq $0x20000000, %%rax; movq %%rax, %%cr0; nop; cpuid; nop", ,
                             OUT("a"(0), "b"(0), "c"(0), "d"(0)));

    check(f.vector == 13 || f.vector == NO_TRAP, "CR0.NW without CD: vector %lu", f.vector);
}

static void end(const char *how)
{
    printf("case %s\n", how);
    apic_enable();
    if (strfind(how, "nowhere")) {
        asm volatile("jmp *%0" : : "r"(HOLE_AT));
    } else if (strfind(how, "stranger")) {
        asm volatile("lock addl $1, (%0); lock xaddl %%eax, (%0); lock cmpxchg8b (%0)" : : "r"(HOLE_AT) : "eax", "edx");
    } else if (strfind(how, "triple")) {
        triple_fault();
    } else if (strfind(how, "task")) {
        task_switch();
    } else if (strfind(how, "stack")) {
        asm volatile("movq %0, %%rsp; ud2" : : "r"(HOLE_STACK));
    } else if (strfind(how, "interrupt")) {
        apic_send(ICR_SELF | 0x40, 0);
        asm volatile("movq %0, %%rsp; sti; nop; 1: nop; nop; jmp 1b" : : "r"(HOLE_STACK));
    } else if (strfind(how, "cr3")) {
        WRITE_CR(3, HOLE_AT);
    } else if (strfind(how, "nw")) {
        not_writable();
        return;
    } else if (strfind(how, "own_tables")) {
        remove_page((unsigned long)kit_pml4);
        asm volatile("movq %%cr3, %%rax; movq %%rax, %%cr3; 1: jmp 1b" : : : "rax");
    } else if (strfind(how, "console")) {
        remove_page(0xfefff000);
        outb(0xb004, 0x34);
    } else if (strfind(how, "halt")) {
        vcpu_halt();
    } else if (strfind(how, "reset")) {
        outb(0xb006, 1);
    } else if (strfind(how, "init")) {
        apic_send(ICR_INIT | ICR_ASSERT, 0);
    }
    spin_ns(100000000);
    check(false, "the domain goes on");
}

/* ---- Calls ---- */

static uint8_t *zeros, *full;
static unsigned long at_end, read_only, in_hole, beyond, through_hole;

#define HUGE_LIST 0x0000200000000000UL

static void make_places(void)
{
    zeros = page_alloc();
    full = page_alloc();
    memset(full, 0xff, PAGE_SIZE);
    map_page(TEST_VA + 0x10000, (uint64_t)full | PTE_P | PTE_W);
    unmap_page(TEST_VA + 0x11000);
    at_end = TEST_VA + 0x11000 - 4;
    map_page(TEST_VA + 0x20000, (uint64_t)zeros | PTE_P);
    read_only = TEST_VA + 0x20000;
    in_hole = HOLE_AT;
    map_page(TEST_VA + 0x30000, FAR_AT | PTE_P | PTE_W);
    beyond = TEST_VA + 0x30000;
    kit_pml4[100] = HOLE_AT | PTE_P | PTE_W;
    through_hole = 100UL << 39;
}

/* What cannot be reached at all: -EFAULT */
static void check_pointers(void)
{
    const unsigned long places[] = {
        VA_UNMAPPED, VA_NONCANONICAL,   at_end, in_hole, beyond, through_hole, -8UL, 0xffff800000000000, -1UL,
        HUGE_LIST,   0xffff82800000ffff};
    static const unsigned calls[][2] = {{__HYPERVISOR_xen_version, XENVER_extraversion},
                                        {__HYPERVISOR_xen_version, XENVER_get_features},
                                        {__HYPERVISOR_memory_op, XENMEM_memory_map},
                                        {__HYPERVISOR_memory_op, XENMEM_add_to_physmap},
                                        {__HYPERVISOR_memory_op, XENMEM_remove_from_physmap},
                                        {__HYPERVISOR_memory_op, XENMEM_populate_physmap},
                                        {__HYPERVISOR_memory_op, XENMEM_increase_reservation},
                                        {__HYPERVISOR_memory_op, XENMEM_decrease_reservation},
                                        {__HYPERVISOR_event_channel_op, EVTCHNOP_alloc_unbound},
                                        {__HYPERVISOR_event_channel_op, EVTCHNOP_send},
                                        {__HYPERVISOR_event_channel_op, EVTCHNOP_status},
                                        {__HYPERVISOR_hvm_op, HVMOP_get_param},
                                        {__HYPERVISOR_hvm_op, HVMOP_set_param},
                                        {__HYPERVISOR_hvm_op, HVMOP_set_evtchn_upcall_vector},
                                        {__HYPERVISOR_sched_op, SCHEDOP_poll},
                                        {__HYPERVISOR_sched_op, SCHEDOP_shutdown},
                                        {__HYPERVISOR_grant_table_op, GNTTABOP_query_size}};

    for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        void *p = (void *)places[i];

        for (unsigned k = 0; k < sizeof(calls) / sizeof(calls[0]); k++) {
            long rc = hypercall(calls[k][0], calls[k][1], U(p), 1, 0, 0);

            /* Small requests fit in there. */
            check_quiet(rc == -EFAULT || (places[i] == at_end && rc == -EINVAL),
                        "call %u, %u, with an argument at %lx: %ld", calls[k][0], calls[k][1], U(p), rc);
        }
        check_quiet(multicall(p, 3) == -EFAULT, "a multicall at %lx", U(p));
    }
    check(true, "arguments that are not there");
    check(xen_version(XENVER_extraversion, (void *)read_only) == -EFAULT &&
              memory_op(XENMEM_memory_map, (void *)read_only) == -EFAULT && zeros[0] == 0,
          "answers to a read-only page are -EFAULT");
}

USER_TEXT(user_calls,
          "xorl %ebx, %ebx; xorl %ebp, %ebp; 1: movl %ebx, %eax; xorl %edi, %edi; xorl %esi, %esi; " CALL_TEXT "; "
          "cmpq $-1, %rax; jne 2f; incl %ebp; 2: incl %ebx; cmpl $64, %ebx; jb 1b; ud2");

static void check_callers(void)
{
    struct regs r;
    unsigned refused = 0;

    USER_RUN(user_calls, &r);
    check(r.vector == 6 && r.rbp == 64, "calls of user mode are -EPERM: %lu", r.rbp);
    for (unsigned nr = 0; nr < 64; nr++)
        refused += (int)kit_hypercall_32(nr) == -ENOSYS;
    check(refused == 64, "calls of 32-bit code are -ENOSYS: %u", refused);
    for (unsigned nr = 64; nr < 300; nr++)
        check_quiet(kit_raw_hypercall(nr, 0, 0, 0, 0, 0) == -ENOSYS, "call %u", nr);
    check_equal(kit_raw_hypercall(-1UL, 0, 0, 0, 0, 0), -ENOSYS);
    check_equal(kit_raw_hypercall(1UL << 32 | 17, 0, 0, 0, 0, 0), -ENOSYS);
}

static bool ends_us(unsigned nr, unsigned long cmd, unsigned long pointer)
{
    bool good = pointer == U(zeros) || pointer == U(full);

    return ((nr == __HYPERVISOR_sched_op || nr == __HYPERVISOR_sched_op_compat) && (cmd < 3 || good)) ||
           (nr == __HYPERVISOR_vcpu_op && (cmd == VCPUOP_down || cmd == VCPUOP_initialise)) ||
           nr == __HYPERVISOR_multicall || /* its answers would go all over its memory */
           (nr == __HYPERVISOR_event_channel_op && cmd == EVTCHNOP_reset);
}

static void check_numbers(void)
{
    const unsigned long pointers[] = {0x2000, U(zeros), U(full), VA_UNMAPPED, at_end, in_hole, through_hole, -1UL};
    const unsigned long third[] = {0, 1, 0x7ff0, 0xffffffff, -1UL};
    static const uint8_t pv_only[] = {__HYPERVISOR_set_trap_table,
                                      __HYPERVISOR_mmu_update,
                                      __HYPERVISOR_set_gdt,
                                      __HYPERVISOR_stack_switch,
                                      __HYPERVISOR_set_callbacks,
                                      __HYPERVISOR_fpu_taskswitch,
                                      __HYPERVISOR_set_debugreg,
                                      __HYPERVISOR_get_debugreg,
                                      __HYPERVISOR_update_descriptor,
                                      __HYPERVISOR_update_va_mapping,
                                      __HYPERVISOR_update_va_mapping_otherdomain,
                                      __HYPERVISOR_iret,
                                      __HYPERVISOR_set_segment_base,
                                      __HYPERVISOR_mmuext_op,
                                      __HYPERVISOR_callback_op};
    unsigned made = 0;

    for (unsigned i = 0; i < sizeof(pv_only); i++) {
        struct multicall_entry e = {.op = pv_only[i], .args = {U(zeros), 1, U(zeros), DOMID_SELF}};

        check_quiet(kit_raw_hypercall(pv_only[i], U(zeros), 1, U(zeros), DOMID_SELF, 0) == -ENOSYS, "call %u of PV",
                    pv_only[i]);
        check_quiet(multicall(&e, 1) == 0 && (long)e.result == -ENOSYS, "... in a multicall");
    }
    for (unsigned nr = 0; nr < 64; nr++)
        for (unsigned long cmd = 0; cmd < 34; cmd++) {
            unsigned long pointer = pointers[(nr + cmd) % 8], count = third[cmd % 5];

            memset(zeros, 0, PAGE_SIZE);
            memset(full, 0xff, PAGE_SIZE);
            if (!ends_us(nr, cmd, pointer)) {
                kit_raw_hypercall(nr, cmd, pointer, count, U(zeros), -1UL);
                made++;
            }
            if (!ends_us(nr, cmd, VA_UNMAPPED)) {
                kit_raw_hypercall(nr, cmd, VA_UNMAPPED, -1UL, -1UL, -1UL);
                made++;
            }
        }
    check(true, "%u calls of all numbers", made);
    check_equal(hypercall(__HYPERVISOR_domctl, U(zeros), 0, 0, 0, 0), -EPERM);
    check_equal(hypercall(__HYPERVISOR_sysctl, U(zeros), 0, 0, 0, 0), -EPERM);
    check_equal(hypercall(__HYPERVISOR_platform_op, U(zeros), 0, 0, 0, 0), -EPERM);
}

/* What a guest may set itself: values that mean something to it, or to its tools, only. */
static bool is_its_own(unsigned index)
{
    return index == HVM_PARAM_CALLBACK_IRQ || index == HVM_PARAM_STORE_EVTCHN || index == HVM_PARAM_CONSOLE_EVTCHN ||
           index == HVM_PARAM_VM86_TSS || index == HVM_PARAM_VM86_TSS_SIZED ||
           index == HVM_PARAM_ACPI_IOPORTS_LOCATION || index == HVM_PARAM_VM_GENERATION_ID_ADDR ||
           index == HVM_PARAM_X87_FIP_WIDTH;
}

static void check_hvm_op(void)
{
    struct xen_hvm_param p;
    struct xen_hvm_evtchn_upcall_vector u = {.vcpu = 99, .vector = 0x60};
    uint64_t value;

    for (unsigned index = 0; index < HVM_NR_PARAMS; index++)
        if (!is_its_own(index)) {
            long rc = hvm_param_set(index, 0x1234);

            check_quiet(rc == -EPERM || rc == -EINVAL, "parameter %u can be set", index);
        }
    check_equal(hvm_param_set(HVM_PARAM_X87_FIP_WIDTH, 4), -EINVAL);
    check(hvm_param_get(HVM_PARAM_CONSOLE_PFN, &value) == 0 && value == 0xfefff, "parameters stay");
    check_equal(hvm_param_get(HVM_NR_PARAMS, &value), -EINVAL);
    check_equal(hvm_param_get(-1U, &value), -EINVAL);
    check_equal(hvm_param_set(HVM_NR_PARAMS, 0), -EINVAL);
    p = (struct xen_hvm_param){.domid = 0, .index = HVM_PARAM_CALLBACK_IRQ, .value = 2UL << 56 | 0x50};
    check_negative(hypercall(__HYPERVISOR_hvm_op, HVMOP_set_param, U(&p), 0, 0, 0));
    p.domid = 4711;
    check_negative(hypercall(__HYPERVISOR_hvm_op, HVMOP_get_param, U(&p), 0, 0, 0));
    check_equal(hvm_param_set(HVM_PARAM_CALLBACK_IRQ, 2UL << 56 | 0x0f), -EINVAL);
    hvm_param_set(HVM_PARAM_CALLBACK_IRQ, -1UL);
    hvm_param_set(HVM_PARAM_CALLBACK_IRQ, 0);
    check_equal(hypercall(__HYPERVISOR_hvm_op, HVMOP_set_evtchn_upcall_vector, U(&u), 0, 0, 0), -ENOENT);
    u = (struct xen_hvm_evtchn_upcall_vector){.vcpu = 0, .vector = 0xf};
    check_equal(hypercall(__HYPERVISOR_hvm_op, HVMOP_set_evtchn_upcall_vector, U(&u), 0, 0, 0), -EINVAL);
    for (unsigned long op = 2; op < 40; op++) {
        long rc;

        if (op == HVMOP_set_evtchn_upcall_vector)
            continue;
        memset(zeros, 0xff, PAGE_SIZE);
        rc = hypercall(__HYPERVISOR_hvm_op, op, U(zeros), 0, 0, 0);
        check_quiet(rc < 0, "hvm_op %lu: %ld", op, rc);
    }
    memset(zeros, 0, PAGE_SIZE);
}

/* ---- Memory ---- */

static long add(unsigned space, unsigned long index, unsigned long frame, unsigned domain)
{
    struct xen_add_to_physmap a = {.domid = (domid_t)domain, .space = space, .idx = index, .gpfn = frame};

    return memory_op(XENMEM_add_to_physmap, &a);
}

static long reserve(unsigned cmd, unsigned long frame, unsigned long count, unsigned order)
{
    static xen_pfn_t list[4];
    struct xen_memory_reservation r = {.nr_extents = count, .extent_order = order, .domid = DOMID_SELF};

    for (unsigned i = 0; i < 4; i++)
        list[i] = frame;
    set_xen_guest_handle(r.extent_start, list);
    return memory_op(cmd, &r);
}

/* A plain MOV: what Croft emulates */
static uint64_t load(const void *p)
{
    uint64_t value;

    asm volatile("movq (%1), %0" : "=r"(value) : "r"(p) : "memory");
    return value;
}

static void check_memory(void)
{
    static const unsigned long frames[] = {1UL << 36, 1UL << 40, 1UL << 52, -1UL, -2UL, 1UL << 63};
    uint8_t *page = page_alloc();
    unsigned long *hole = (unsigned long *)HOLE_AT;
    struct xen_remove_from_physmap r = {.domid = DOMID_SELF, .gpfn = HOLE_AT >> 12};

    for (unsigned i = 0; i < 6; i++) {
        check_quiet(add(XENMAPSPACE_shared_info, 0, frames[i], DOMID_SELF) < 0, "shared info at frame %lx", frames[i]);
        check_quiet(reserve(XENMEM_populate_physmap, frames[i], 1, 0) <= 0, "memory at frame %lx", frames[i]);
        check_quiet(reserve(XENMEM_decrease_reservation, frames[i], 1, 0) <= 0, "... taken away");
        r.gpfn = frames[i];
        check_quiet(memory_op(XENMEM_remove_from_physmap, &r) < 0, "frame %lx removed", frames[i]);
    }
    check_negative(add(XENMAPSPACE_shared_info, 1, HOLE_AT >> 12, DOMID_SELF));
    check_negative(add(XENMAPSPACE_shared_info, 0, HOLE_AT >> 12, 0));
    check_negative(add(XENMAPSPACE_shared_info, 0, HOLE_AT >> 12, 4711));
    check_negative(add(XENMAPSPACE_grant_table, -1UL, HOLE_AT >> 12, DOMID_SELF));
    check_negative(add(XENMAPSPACE_grant_table, 1UL << 63 | 5000, HOLE_AT >> 12, DOMID_SELF));
    check_negative(add(XENMAPSPACE_grant_table, 5000, HOLE_AT >> 12, DOMID_SELF));
    for (unsigned space = 2; space < 40; space++)
        check_quiet(add(space, 0, HOLE_AT >> 12, DOMID_SELF) < 0, "space %u", space);
    r.gpfn = HOLE_AT >> 12;
    check_equal(memory_op(XENMEM_remove_from_physmap, &r), -ENOENT);
    check_equal(reserve(XENMEM_populate_physmap, HOLE_AT >> 12, 4, 63), 0);
    check_equal(reserve(XENMEM_populate_physmap, HOLE_AT >> 12, 4, 32), 0);
    check_equal(reserve(XENMEM_populate_physmap, HOLE_AT >> 12, 4, 18), 0);
    check(reserve(XENMEM_populate_physmap, HOLE_AT >> 12, 1, 9) <= 0, "512 pages more than it may have are refused");
    check(load(hole) == ~0UL, "a hole reads as ones");
    check_equal(add(XENMAPSPACE_grant_table, 0, HOLE_AT >> 12, DOMID_SELF), 0);
    hole[0] = 0x1234;
    check_equal(add(XENMAPSPACE_grant_table, 0, (HOLE_AT >> 12) + 1, DOMID_SELF), 0);
    check(load(hole + 512) == 0x1234, "a grant frame at two places");
    check_equal(memory_op(XENMEM_remove_from_physmap, &r), 0);
    check(load(hole) == ~0UL, "... at one");
    r.gpfn++;
    check_equal(memory_op(XENMEM_remove_from_physmap, &r), 0);
    check(load(hole + 512) == ~0UL, "... at none");
    hole[3] = 0; /* nobody's */
    check(reserve(XENMEM_decrease_reservation, U(page) >> 12, 1, 0) == 1, "a page goes");
    check(reserve(XENMEM_decrease_reservation, U(page) >> 12, 1, 0) == 0, "... once");
    check(load(page) == ~0UL, "... and is a hole");
    check(reserve(XENMEM_populate_physmap, HOLE_AT >> 12, 1, 0) == 1 && load(hole) == 0,
          "one comes elsewhere, cleared");
    hole[5] = 55;
    check(reserve(XENMEM_populate_physmap, (HOLE_AT >> 12) + 9, 2, 0) <= 1, "no more than it had");
    check(load(hole + 5) == 55, "it stays");
}

/* The APIC's page under its shared info, which it does not need any more */
static void check_apic_page(void)
{
    long rc = add(XENMAPSPACE_shared_info, 0, APIC_AT >> 12, DOMID_SELF);
    struct xen_remove_from_physmap r = {.domid = DOMID_SELF, .gpfn = APIC_AT >> 12};

    printf("   shared info at the APIC's page: %ld\n", rc);
    load((void *)(APIC_AT + 0x20));
    if (rc == 0)
        check_equal(memory_op(XENMEM_remove_from_physmap, &r), 0);
    check(apic_read(APIC_VERSION) >> 24 == 0 && (apic_read(APIC_VERSION) & 0xff) == 0x14, "the APIC is there");
}

/* Touches of what is not there, which Croft emulates */
static void check_holes(void)
{
    static const unsigned long places[] = {HOLE_AT, HOLE_AT + 0xffd, 0x5000000, 0xfed00000, 0xffffffff - 7};

    for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        uint64_t b = 0, w = 0, l = 0, q = 0, x = 0x55, flags;

        asm volatile("movb (%4), %b0; movw (%4), %w1; movl (%4), %k2; movq (%4), %3"
                     : "+&r"(b), "+&r"(w), "+&r"(l), "=&r"(q)
                     : "r"(places[i]));
        check_quiet(b == 0xff && w == 0xffff && l == 0xffffffff && q == ~0UL, "loads at %lx: %lx %lx %lx %lx",
                    places[i], b, w, l, q);
        asm volatile("movb %b0, (%1); movw %w0, (%1); movl %k0, (%1); movq %0, (%1); movl $7, (%1); orl $1, (%1); "
                     "andl %k0, (%1)"
                     :
                     : "r"(x), "r"(places[i])
                     : "memory");
        asm volatile("xchgl %k0, (%2); addl $1, (%2); pushfq; popq %1"
                     : "+&r"(x), "=&r"(flags)
                     : "r"(places[i])
                     : "memory");
        check_quiet(x == 0xffffffff && (flags & 0x41) == 0x41, "XCHG and ADD at %lx: %lx, flags %lx", places[i], x,
                    flags);
    }
    check(true, "holes read as ones and take everything");
}

static void floods(void)
{
    unsigned long n = argument_number("flood=", 30000), t = time_now();

    for (unsigned long i = 0; i < n; i++)
        asm volatile("outb %%al, $0x80" : : "a"(0));
    t = time_now() - t;
    printf("   %lu exits of %lu ns\n", n, t / n);
    for (unsigned long i = 0; i < n; i++)
        asm volatile("outb %%al, $0xe9" : : "a"(i % 70 == 0 ? '\n' : 'x'));
    for (unsigned long i = 0; i < n / 10; i++)
        kit_raw_hypercall(i, -1UL, -1UL, -1UL, -1UL, -1UL);
    for (unsigned i = 0; i < 100; i++)
        printf("a flood of the console, line %u of 100\n", i);
    check(true, "floods");
}

GUEST("pvh_hostile")
{
    for (const char *s = kit_arguments(); *s != '\0'; s++)
        if (strprefix(s, "case=")) {
            end(s + 5);
            return;
        }
    make_places();
    check_callers();
    check_pointers();
    check_hvm_op();
    check_holes();
    check_memory();
    check_apic_page();
    check_numbers();
    floods();
}
