/*
 * Arguments that change while they are read: vcpu 0 makes a call again and again, the others fill its arguments, word by word and at
 * random, from a set that is legal and one that is not. What Croft checked must be what it used.
 */
#include "hostile.h"

#define CALLS 300
#define WORDS 16U

static volatile uint64_t *request; /* at the start of a page with nothing behind it */
static uint64_t good[WORDS], evil[WORDS];
static unsigned words;
static volatile bool over;
static long (*call)(void);
static unsigned errors, succeeded;
static uint64_t *l1, *scratch, hole_before;

#define SENTINEL 0xdead000UL /* in an entry of the table, not present: whatever clears or copies a page loses it */
#define SENTINEL_SLOT 20U
#define TARGET_SLOT 21U
#define REQUEST_SLOT 1U

static void all_at_once(unsigned v)
{
    if (v != 0) {
        while (!over)
            for (unsigned i = 0; i < words; i++) {
                uint64_t r = random(v);

                request[i] = r & 1 ? good[i] : evil[i];
                for (r = r >> 1 & 63; r != 0; r--)
                    asm volatile("pause");
            }
        return;
    }
    for (unsigned i = 0; i < CALLS; i++) {
        long rc = call();

        if (rc < 0)
            errors++;
        else
            succeeded++;
        check_quiet(rc >= -4095, "a result of %ld", rc);
    }
    over = true;
}

static void table_intact(const char *what)
{
    unsigned long tables[4];
    unsigned bad = 0;

    for (int level = 1; level <= 4; level++)
        tables[level - 1] = virt_to_mfn((void *)(U(entry_of(kernel_root, TEST_VA, level)) & PAGE_MASK));
    for (unsigned i = 0; i < 512; i++) {
        uint64_t e = *(volatile uint64_t *)&l1[i];

        for (unsigned t = 0; t < 4; t++)
            bad += (e & (PTE_P | PTE_W)) == (PTE_P | PTE_W) && (e & PTE_MFN_MASK) >> 12 == tables[t];
    }
    check_quiet(bad == 0, "%s: a page table is mapped writable", what);
    check_quiet(*(volatile uint64_t *)&l1[SENTINEL_SLOT] == SENTINEL, "%s: a page table was written", what);
    check_quiet(*entry_of(kernel_root, MACH2PHYS_VIRT_START, 4) == hole_before,
                "%s: a slot of the hypervisor's changed", what);
}

/* good_argument and evil_argument are of the same size. */
static void against(const char *what, long (*f)(void), const void *good_argument, const void *evil_argument,
                    size_t size)
{
    words = (unsigned)(size / 8);
    memcpy(good, good_argument, size);
    memcpy((void *)request, good_argument, size);
    memcpy(evil, evil_argument, size);
    call = f;
    over = false;
    errors = succeeded = 0;
    team_run(all_at_once);
    check(true, "%s: %u succeeded, %u failed", what, succeeded, errors);
    table_intact(what);
}

static unsigned long scratch_mfn(void) { return virt_to_mfn(scratch); }

static long call_mmu_update(void) { return mmu_update((void *)request, 1, NULL, DOMID_SELF); }

static void mmu_updates(void)
{
    struct mmu_update a = {virt_to_machine(&l1[TARGET_SLOT]), make_pte(scratch_mfn(), PTE_RO)},
                      b = {virt_to_machine(entry_of(kernel_root, MACH2PHYS_VIRT_START, 4)),
                           make_pte(virt_to_mfn(l1), PTE_RW)};

    against("mmu_update", call_mmu_update, &a, &b, sizeof(a));
    mmu_write(&l1[TARGET_SLOT], 0);
}

static long call_mmuext(void) { return mmuext_op((void *)request, 1, NULL, DOMID_SELF); }

static void mmuext_ops(void)
{
    struct mmuext_op a = {.cmd = MMUEXT_CLEAR_PAGE}, b = {.cmd = MMUEXT_COPY_PAGE};

    a.arg1.mfn = a.arg2.src_mfn = scratch_mfn();
    b.arg1.mfn = virt_to_mfn(l1);
    b.arg2.src_mfn = ~0UL;
    against("clearing and copying", call_mmuext, &a, &b, sizeof(a));
    a.cmd = MMUEXT_PIN_L1_TABLE;
    b.cmd = MMUEXT_UNPIN_TABLE;
    page_make_readonly(scratch);
    against("pin and unpin", call_mmuext, &a, &b, sizeof(a));
    mmuext(MMUEXT_UNPIN_TABLE, scratch_mfn(), 0);
    page_make_writable(scratch);
}

static long call_copy(void)
{
    long rc = grant_table_op(GNTTABOP_copy, (void *)request, 1);

    return rc != 0 ? rc : ((volatile struct gnttab_copy *)request)->status;
}

static void grant_copies(void)
{
    struct gnttab_copy a = {.source = {.u.gmfn = scratch_mfn(), .domid = DOMID_SELF, .offset = 0},
                            .dest = {.u.gmfn = scratch_mfn(), .domid = DOMID_SELF, .offset = 2048},
                            .len = 64},
                       b = {.source = {.u.gmfn = ~0UL, .domid = DOMID_XEN, .offset = 4095},
                            .dest = {.u.gmfn = virt_to_mfn(l1), .domid = DOMID_SELF, .offset = SENTINEL_SLOT * 8},
                            .len = 4096};

    against("grant copy", call_copy, &a, &b, sizeof(a));
}

static long call_multicall(void) { return multicall((void *)request, 2); }

static void multicalls(void)
{
    struct multicall_entry a[2] = {{.op = __HYPERVISOR_xen_version, .args = {XENVER_pagesize}},
                                   {.op = __HYPERVISOR_update_va_mapping,
                                    .args = {TEST_VA + TARGET_SLOT * PAGE_SIZE, 0}}},
                           b[2] = {
                               {.op = __HYPERVISOR_multicall, .args = {U(request), 2}},
                               {.op = ~0UL, .args = {MACH2PHYS_VIRT_START, make_pte(virt_to_mfn(l1), PTE_RW), ~0UL}}};

    against("multicall", call_multicall, a, b, sizeof(a));
}

static long call_poll(void) { return sched_op(SCHEDOP_poll, (void *)request); }

static void polls(void)
{
    static evtchn_port_t ports[1];
    struct sched_poll a = {.nr_ports = 1, .timeout = 1}, b = {.nr_ports = ~0U, .timeout = 2};

    set_xen_guest_handle(a.ports, ports);
    set_xen_guest_handle(b.ports, (evtchn_port_t *)VA_HOLE);
    against("poll", call_poll, &a, &b, sizeof(a));
}

static long call_decrease(void) { return memory_op(XENMEM_decrease_reservation, (void *)request); }
static long call_exchange(void) { return memory_op(XENMEM_exchange, (void *)request); }

static void memory_ops(void)
{
    static xen_pfn_t none[1], table[1];
    struct xen_memory_reservation a = {.nr_extents = 1, .domid = DOMID_SELF},
                                  b = {.nr_extents = 1UL << 40, .extent_order = 63, .domid = DOMID_IO};
    struct xen_memory_exchange c = {.in = a, .out = a}, d = {.in = b, .out = b, .nr_exchanged = ~0UL};

    table[0] = virt_to_mfn(l1);
    set_xen_guest_handle(a.extent_start, none);
    set_xen_guest_handle(b.extent_start, (xen_pfn_t *)VA_HOLE);
    against("decrease_reservation", call_decrease, &a, &b, sizeof(a));
    set_xen_guest_handle(c.in.extent_start, table); /* a table in use: never */
    set_xen_guest_handle(c.out.extent_start, none);
    set_xen_guest_handle(d.in.extent_start, (xen_pfn_t *)VA_NONCANONICAL);
    set_xen_guest_handle(d.out.extent_start, (xen_pfn_t *)U(l1));
    against("exchange", call_exchange, &c, &d, sizeof(c));
}

static long call_traps(void) { return set_trap_table((void *)request); }
static long call_callback(void) { return callback_op(CALLBACKOP_register, (void *)request); }

static void handlers(void)
{
    struct trap_info a[2] = {{.vector = 6, .cs = FLAT_KERNEL_CS, .address = U(kit_stubs) + 6 * 16}},
                     b[2] = {{.vector = 14, .flags = 0xff, .cs = 0xe008, .address = VA_NONCANONICAL},
                             {.vector = 255, .cs = 0xe008, .address = VA_HOLE}};
    struct callback_register c = {.type = CALLBACKTYPE_event, .address = U(kit_event_entry)},
                             d = {.type = CALLBACKTYPE_failsafe, .flags = 0xffff, .address = VA_NONCANONICAL};

    b[1].vector = 0; /* the list's end, unless its address came along */
    against("set_trap_table", call_traps, a, b, sizeof(a));
    against("callback_op", call_callback, &c, &d, sizeof(c));
    traps_setup();
}

static long call_descriptors(void) { return set_gdt((void *)request, 512 * 2); }

static void descriptors(void)
{
    unsigned long a[2] = {scratch_mfn(), scratch_mfn()}, b[2] = {virt_to_mfn(l1), ~0UL};

    memset(scratch, 0, PAGE_SIZE);
    page_make_readonly(scratch);
    against("set_gdt", call_descriptors, a, b, sizeof(a));
    check_quiet(set_gdt(NULL, 0) == 0, "the GDT is given back");
    page_make_writable(scratch);
}

static void iret_from_request(void *p)
{
    (void)p;
    kit_iret((struct iret_context *)request);
}

USER_TEXT(user_ud, "ud2");

static long call_iret(void)
{
    struct regs r;

    if (!trapped(iret_from_request, NULL, &r))
        panic("iret returned");
    events_enable();
    return r.vector == 6 ? 0 : -1;
}

static void irets(void)
{
    struct iret_context a = {.rip = USER_CODE,
                             .cs = FLAT_USER_CS,
                             .rflags = 0x202,
                             .rsp = USER_DATA + PAGE_SIZE,
                             .ss = FLAT_USER_SS},
                        b = {.flags = VGCF_in_syscall,
                             .rip = VA_NONCANONICAL,
                             .cs = 0xe00b,
                             .rflags = 0x3202,
                             .rsp = VA_HOLE,
                             .ss = 0xe010};
    struct regs r;

    USER_RUN(user_ud, &r);
    against("iret", call_iret, &a, &b, sizeof(a));
}

/* The instruction itself, while it is decoded: a store to the page table, which the processor refuses and Croft decides. */
static void store_by_request(void *p)
{
    (void)p;
    asm volatile("call *%0" : : "r"(request), "D"(&l1[TARGET_SLOT]), "a"(0UL), "c"(1UL) : "memory", "cc");
}

static long call_store(void) { return trapped(store_by_request, NULL, NULL) ? -1 : 0; }

static void instructions(void)
{
    /* mov %rax,(%rdi); ret beside lock cmpxchg %rcx,(%rdi); ret and rep stosq; ret */
    static const uint8_t a[8] = {0x48, 0x89, 0x07, 0xc3, 0xcc, 0xcc, 0xcc, 0xcc},
                         b[8] = {0xf0, 0x48, 0x0f, 0xb1, 0x0f, 0xc3, 0xcc, 0xcc},
                         c[8] = {0xf3, 0x48, 0xab, 0xc3, 0xcc, 0xcc, 0xcc, 0xcc};

    against("an instruction, one of two", call_store, a, b, sizeof(a));
    against("... of another two", call_store, b, c, sizeof(b));
    mmu_write(&l1[TARGET_SLOT], 0);
}

void changing(void)
{
    uint64_t *page = page_alloc();

    scratch = page_alloc();
    map_page(TEST_VA + REQUEST_SLOT * PAGE_SIZE, make_pte(virt_to_mfn(page), PTE_RW));
    l1 = (uint64_t *)(U(pte_of(TEST_VA)) & PAGE_MASK);
    hole_before = *entry_of(kernel_root, MACH2PHYS_VIRT_START, 4);
    check_equal(mmu_write(&l1[SENTINEL_SLOT], SENTINEL), 0);
    request = (uint64_t *)(TEST_VA + REQUEST_SLOT * PAGE_SIZE);
    mmu_updates();
    mmuext_ops();
    grant_copies();
    multicalls();
    polls();
    memory_ops();
    handlers();
    descriptors();
    irets();
    instructions();
    mmu_write(&l1[SENTINEL_SLOT], 0);
}
