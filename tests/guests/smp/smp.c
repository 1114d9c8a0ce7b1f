/* run: beside=yes smp=2 append="dom0_max_vcpus=2" time=40 */
/*
 * A second vcpu: starting, stopping, IPIs; and what must hold when two of them share page tables: no translation
 * outlives the call that ended it, and no page changes its use while one of them could still write it.
 */
#include "kit.h"

static struct vcpu_guest_context context;
static volatile unsigned command, answered, loops;
static volatile unsigned faults, poison_seen, stop_writing;
static long ipi[2];

enum { IDLE, READ, WRITE, HAMMER, BLOCK };

#define POISON 0xdeadbeefUL
#define HAMMER_ROUNDS 1000

/* The page fault that must come once a mapping is gone: the loop is told to stop. */
static bool note_fault(struct regs *r)
{
    if (vcpu_id() != 1)
        return false;
    faults++;
    stop_writing = 1;
    r->rip = r->rbx; /* the loop keeps its way out there */
    return true;
}

static void read_loop(void)
{
    while (command == READ) {
        uint64_t v = 0;

        asm volatile("leaq 1f(%%rip), %%rbx; movq (%1), %0; 1:" : "+r"(v) : "r"(TEST_VA) : "rbx", "memory");
        if (v == POISON)
            poison_seen++;
        loops++;
    }
}

static void write_loop(void)
{
    uint64_t n = 0;

    while (command == WRITE && !stop_writing) {
        asm volatile("leaq 1f(%%rip), %%rbx; movq %0, (%1); 1:" : : "r"(n), "r"(TEST_VA + 511 * 8) : "rbx", "memory");
        n += 2; /* never a present entry */
        loops++;
    }
    while (command == WRITE)
        asm volatile("pause");
}

static volatile unsigned hammered[2];
static uint64_t *hammer_table;
static uint64_t *hammer_pages[2];

static void hammer(unsigned v)
{
    uint64_t *pte = pte_of(TEST_VA2);

    for (unsigned i = 0; i < HAMMER_ROUNDS; i++) {
        long rc;

        rc = mmu_write(pte + i % 4, make_pte(virt_to_mfn(hammer_pages[v]), i & 1 ? PTE_RW : PTE_RO));
        check_quiet(rc == 0, "vcpu %u: mmu_update %ld", v, rc);
        rc = mmuext(MMUEXT_PIN_L1_TABLE, virt_to_mfn(hammer_table), 0);
        check_quiet(rc <= 0, "vcpu %u: pin %ld", v, rc);
        rc = mmuext(MMUEXT_UNPIN_TABLE, virt_to_mfn(hammer_table), 0);
        check_quiet(rc <= 0, "vcpu %u: unpin %ld", v, rc);
        if (i % 8 == v)
            mmuext(MMUEXT_TLB_FLUSH_ALL, 0, 0);
        if (i % 16 == 0)
            update_va_mapping(TEST_VA2 + 5 * PAGE_SIZE, make_pte(virt_to_mfn(hammer_pages[v]), PTE_RW),
                              UVMF_INVLPG | UVMF_ALL);
        hammered[v]++;
    }
}

static void second(void)
{
    static unsigned last;

    events_enable();
    for (;;) {
        unsigned now = command;

        answered = now;
        switch (now) {
        case READ:
            read_loop();
            break;
        case WRITE:
            write_loop();
            break;
        case HAMMER:
            hammer(1);
            while (command == HAMMER)
                asm volatile("pause");
            break;
        case BLOCK:
            events_disable();
            if (event_counts[ipi[1]] == last)
                sched_op(SCHEDOP_block, NULL);
            events_enable();
            last = event_counts[ipi[1]];
            break;
        default:
            asm volatile("pause");
        }
        loops++;
    }
}

/* Waits until the other vcpu has gone round its loop a few times more: what it read before is done. */
static bool others_loops(unsigned count)
{
    unsigned from = loops;
    uint64_t limit = time_now() + 3000000000UL;

    while (loops - from < count && time_now() < limit)
        asm volatile("pause");
    return loops - from >= count;
}

static bool order(unsigned what)
{
    uint64_t limit = time_now() + 3000000000UL;

    command = what;
    while (answered != what && time_now() < limit)
        asm volatile("pause");
    return check_quiet(answered == what, "vcpu 1 does not take order %u", what);
}

static void starting(void)
{
    static struct vcpu_guest_context bad;
    unsigned before = 0;

    check_equal(vcpu_op(VCPUOP_is_up, 0, NULL), 1);
    check_equal(vcpu_op(VCPUOP_is_up, 1, NULL), 0);
    check_equal(vcpu_op(VCPUOP_is_up, 2, NULL), -ENOENT);
    check_equal(vcpu_op(VCPUOP_is_up, 8191, NULL), -ENOENT);
    check_equal(vcpu_op(VCPUOP_is_up, ~0U, NULL), -ENOENT);
    check_equal(vcpu_op(VCPUOP_up, 1, NULL), -EINVAL); /* not initialised */
    check_equal(vcpu_op(VCPUOP_initialise, 1, NULL), -EFAULT);
    check_equal(vcpu_op(VCPUOP_initialise, 1, (void *)VA_UNMAPPED), -EFAULT);
    check_equal(vcpu_op(VCPUOP_initialise, 2, &context), -ENOENT);

    vcpu_context_fill(&context, 1, second);
    bad = context;
    bad.ctrlreg[3] = 0;
    check_negative(vcpu_op(VCPUOP_initialise, 1, &bad));
    bad.ctrlreg[3] = virt_to_mfn(page_alloc()) << 12;
    check_negative(vcpu_op(VCPUOP_initialise, 1, &bad));
    bad.ctrlreg[3] = 0x200UL << 12;
    check_negative(vcpu_op(VCPUOP_initialise, 1, &bad));
    bad.ctrlreg[3] = 1UL << 50;
    check_negative(vcpu_op(VCPUOP_initialise, 1, &bad));
    bad = context;
    bad.event_callback_eip = VA_NONCANONICAL;
    check_negative(vcpu_op(VCPUOP_initialise, 1, &bad));
    bad = context;
    bad.fs_base = VA_NONCANONICAL;
    check_negative(vcpu_op(VCPUOP_initialise, 1, &bad));
    bad = context;
    bad.gdt_ents = 512;
    bad.gdt_frames[0] = 0x200;
    check_negative(vcpu_op(VCPUOP_initialise, 1, &bad));
    bad.gdt_ents = 60000;
    check_negative(vcpu_op(VCPUOP_initialise, 1, &bad));
    bad = context;
    bad.ldt_ents = 9000;
    bad.ldt_base = TEST_VA;
    check_negative(vcpu_op(VCPUOP_initialise, 1, &bad));
    check_equal(vcpu_op(VCPUOP_is_up, 1, NULL), 0);

    check_equal(vcpu_op(VCPUOP_initialise, 1, &context), 0);
    check_equal(vcpu_op(VCPUOP_initialise, 1, &context), -EEXIST);
    check_equal(vcpu_op(VCPUOP_is_up, 1, NULL), 0);
    check_equal(vcpu_op(VCPUOP_up, 1, NULL), 0);
    check(others_loops(1000), "vcpu 1 runs");
    check_equal(vcpu_op(VCPUOP_is_up, 1, NULL), 1);
    check_equal(vcpu_op(VCPUOP_up, 1, NULL), 0); /* it is */

    check_equal(vcpu_op(VCPUOP_down, 1, NULL), 0);
    check_equal(vcpu_op(VCPUOP_is_up, 1, NULL), 0);
    for (unsigned i = 0; i < 50; i++) { /* it may take a while to stop, but not for ever */
        before = loops;
        spin_ns(10000000);
        if (loops == before)
            break;
    }
    check(loops == before, "vcpu 1 stands still: %u loops", loops - before);
    check_equal(vcpu_op(VCPUOP_up, 1, NULL), 0);
    check(others_loops(1000), "and goes on");
}

static void interrupts(void)
{
    uint64_t limit;
    unsigned missed = 0;

    ipi[1] = bind_ipi(1);
    ipi[0] = bind_ipi(0);
    event_unmask((unsigned)ipi[0]);
    event_unmask((unsigned)ipi[1]);
    event_counts[ipi[1]] = 0;
    for (unsigned i = 0; i < 500; i++) {
        unsigned before = event_counts[ipi[1]];

        check_quiet(event_send((unsigned)ipi[1]) == 0, "send");
        limit = time_now() + 1000000000UL;
        while (event_counts[ipi[1]] == before && time_now() < limit)
            asm volatile("pause");
        missed += event_counts[ipi[1]] == before;
    }
    check(missed == 0, "500 IPIs to a running vcpu: %u missed", missed);
    order(BLOCK);
    for (unsigned i = 0; i < 300; i++) {
        unsigned before = event_counts[ipi[1]];

        if (i % 3 == 0)
            spin_ns(100000); /* time to block */
        event_send((unsigned)ipi[1]);
        limit = time_now() + 1000000000UL;
        while (event_counts[ipi[1]] == before && time_now() < limit)
            asm volatile("pause");
        missed += event_counts[ipi[1]] == before;
    }
    check(missed == 0, "300 IPIs to a blocking vcpu: %u missed", missed);
    command = IDLE;
    event_send((unsigned)ipi[1]);
    check(others_loops(10), "it runs again");
}

/* Each kind of flush: after the call has returned, the old page must not be seen. */
static void flushes(void)
{
    static uint64_t both = 3;
    static const char *const names[] = {"INVLPG all",           "INVLPG multi",          "TLB_FLUSH all",
                                        "TLB_FLUSH multi",      "mmuext INVLPG_ALL",     "mmuext INVLPG_MULTI",
                                        "mmuext TLB_FLUSH_ALL", "mmuext TLB_FLUSH_MULTI"};
    uint64_t *page[2] = {page_alloc(), page_alloc()};

    map_page(TEST_VA, make_pte(virt_to_mfn(page[0]), PTE_RW));
    order(READ);
    for (unsigned kind = 0; kind < 8; kind++) {
        bool alive = true;

        poison_seen = 0;
        for (unsigned i = 0; i < 25 && alive; i++) {
            uint64_t *old = page[i & 1], *fresh = page[~i & 1];
            const unsigned long uvm[] = {UVMF_INVLPG | UVMF_ALL,
                                         UVMF_INVLPG | (unsigned long)&both,
                                         UVMF_TLB_FLUSH | UVMF_ALL,
                                         UVMF_TLB_FLUSH | (unsigned long)&both,
                                         0,
                                         0,
                                         0,
                                         0};
            struct mmuext_op op = {.cmd = (unsigned[]){MMUEXT_INVLPG_ALL, MMUEXT_INVLPG_MULTI, MMUEXT_TLB_FLUSH_ALL,
                                                       MMUEXT_TLB_FLUSH_MULTI}[kind & 3]};

            fresh[0] = 0;
            alive = others_loops(3);
            update_va_mapping(TEST_VA, make_pte(virt_to_mfn(fresh), PTE_RW), uvm[kind]);
            if (kind >= 4) {
                op.arg1.linear_addr = TEST_VA;
                op.arg2.vcpumask.p = &both;
                mmuext_op(&op, 1, NULL, DOMID_SELF);
            }
            *(volatile uint64_t *)old = POISON; /* through its own address; nobody may see it at TEST_VA now */
            alive = alive && others_loops(5);
            *(volatile uint64_t *)old = 0;
        }
        check(alive && poison_seen == 0, "%s: the old page was seen %u times", names[kind], poison_seen);
    }
    order(IDLE);
}

/*
 * vcpu 1 writes a page all the time. vcpu 0 takes its mappings away without asking for a flush, and the page comes
 * to another use: as a page table, or given back and taken again (until then a stale translation does no harm).
 * The hypervisor must see to it that the writing has ended by then.
 */
static bool writing_has_ended(volatile uint64_t *page)
{
    uint64_t a = page[511];

    spin_ns(300000);
    return page[511] == a;
}

static bool fault_came(void)
{
    uint64_t limit = time_now() + 2000000000UL;

    while (faults == 0 && time_now() < limit)
        asm volatile("pause");
    return faults != 0;
}

/* Makes vcpu 1 write a fresh page at TEST_VA, then unmaps that without a flush. */
static uint64_t *start_writing(void)
{
    uint64_t *page = page_alloc();

    faults = stop_writing = 0;
    map_page(TEST_VA, make_pte(virt_to_mfn(page), PTE_RW));
    mmuext(MMUEXT_TLB_FLUSH_ALL, 0, 0);
    order(WRITE);
    check_quiet(others_loops(20), "vcpu 1 does not write");
    check_quiet(update_va_mapping(TEST_VA, 0, UVMF_NONE) == 0, "unmapping");
    return page;
}

static void stale_writes_to_tables(void)
{
    unsigned changed = 0, never = 0;

    trap_hooks[14] = note_fault;
    for (unsigned round = 0; round < 15; round++) {
        uint64_t *page = start_writing();

        check_quiet(update_va_mapping((unsigned long)page, make_pte(virt_to_mfn(page), PTE_RO), UVMF_NONE) == 0,
                    "read-only");
        check_quiet(mmuext(MMUEXT_PIN_L1_TABLE, virt_to_mfn(page), 0) == 0, "pinning");
        changed += !writing_has_ended(page);
        never += !fault_came();
        order(IDLE);
        mmuext(MMUEXT_UNPIN_TABLE, virt_to_mfn(page), 0);
        mmuext(MMUEXT_TLB_FLUSH_ALL, 0, 0);
    }
    trap_hooks[14] = NULL;
    check(changed == 0, "a page table was written through a stale translation %u times", changed);
    check(never == 0, "the writer met no fault %u times", never);
}

static void stale_writes_to_freed(void)
{
    unsigned reused = 0, changed = 0, never = 0;

    trap_hooks[14] = note_fault;
    for (unsigned round = 0; round < 10; round++) {
        uint64_t *page = start_writing();
        unsigned long pfn = virt_to_pfn(page), old = virt_to_mfn(page);
        xen_pfn_t extent = old;
        struct xen_memory_reservation r = {.nr_extents = 1, .domid = DOMID_SELF};

        set_xen_guest_handle(r.extent_start, &extent);
        check_quiet(update_va_mapping((unsigned long)page, 0, UVMF_NONE) == 0, "unmapping its own address");
        check_quiet(memory_op(XENMEM_decrease_reservation, &r) == 1, "giving it back");
        extent = pfn;
        check_quiet(memory_op(XENMEM_populate_physmap, &r) == 1, "taking one");
        p2m[pfn] = extent;
        check_quiet(update_va_mapping((unsigned long)page, make_pte(extent, PTE_RW), UVMF_INVLPG) == 0, "mapping it");
        if (extent == old) {
            reused++;
            changed += !writing_has_ended(page);
            never += !fault_came();
        }
        mmuext(MMUEXT_TLB_FLUSH_ALL, 0, 0);
        order(IDLE);
    }
    trap_hooks[14] = NULL;
    check(changed == 0 && never == 0,
          "a page that was given back and taken again (%u times): written stale %u times, no fault %u times", reused,
          changed, never);
}

static void hammering(void)
{
    uint64_t limit = time_now() + 20000000000UL;

    hammer_table = table_alloc();
    hammer_pages[0] = page_alloc();
    hammer_pages[1] = page_alloc();
    map_page(TEST_VA2, 0);
    order(HAMMER);
    hammer(0);
    while (hammered[1] < HAMMER_ROUNDS && time_now() < limit)
        asm volatile("pause");
    check(hammered[0] == HAMMER_ROUNDS && hammered[1] == HAMMER_ROUNDS, "both at the same tables: %u, %u rounds",
          hammered[0], hammered[1]);
    order(IDLE);
    mmuext(MMUEXT_UNPIN_TABLE, virt_to_mfn(hammer_table), 0);
    check(page_set_flags(hammer_table, PTE_RW) == 0, "no reference is left over");
    for (unsigned i = 0; i < 4; i++)
        mmu_write(pte_of(TEST_VA2) + i, 0);
    mmu_write(pte_of(TEST_VA2) + 5, 0);
    for (unsigned v = 0; v < 2; v++)
        check(page_set_flags(hammer_pages[v], PTE_RO) == 0 &&
                  mmuext(MMUEXT_PIN_L1_TABLE, virt_to_mfn(hammer_pages[v]), 0) == 0,
              "nor a writable one");
}

static void two_clocks(void)
{
    uint64_t worst = 0, last = 0;

    for (unsigned i = 0; i < 100000; i++) {
        uint64_t now = time_of(&shared_info->vcpu_info[i & 1].time);

        if (now < last && last - now > worst)
            worst = last - now;
        last = now;
    }
    if (argument_present("loose-clock")) /* for hypervisors that calibrate each CPU's TSC anew */
        printf("   the two time pages differ by up to %lu ns\n", worst);
    else
        check(worst <= 2000, "the two time pages agree to 2 us: back by %lu ns", worst);
}

GUEST("smp")
{
    events_enable();
    vcpu_op(VCPUOP_stop_periodic_timer, 0, NULL);
    starting();
    interrupts();
    two_clocks();
    flushes();
    stale_writes_to_tables();
    stale_writes_to_freed();
    hammering();
    check_equal(vcpu_op(VCPUOP_down, 1, NULL), 0);
}
