/* run: pvh=yes beside=yes vcpus=2 smp=2 time=60 case:stores="d1 crashed|GUEST pvh_race: PASS" */
/*
 * One vcpu makes the other leave its guest, again and again, while it changes what Croft then reads: the instruction, its page, the page
 * tables and the arguments of calls. Whatever comes of it is the guest's own affair, and no harm to Croft. With case=stores it also stores
 * and loads where there is no memory: what Croft then finds may be no store any more, which is its end.
 */
#include "../kit/pvh/pvh.h"

#define SECOND 1000000000UL
#define CODE (TEST_VA + 0x50000)
#define ARGUMENT (TEST_VA + 0x60000)

static volatile bool stop;
static volatile unsigned changes;
static uint8_t *code_pages[32], *argument;
static uint64_t *code_pte, *argument_pte, *argument_table;
static uint64_t seed = 88172645463325252UL;

static uint64_t next(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

/*
 * Each in a page of its own, with RETs behind it; they keep to rax, rcx, rdx and rbx, or to memory at rdi, which is the hole. What changes is
 * the page: so the processor executes one of them, and Croft may find another one.
 */
static const uint8_t instructions[][16] = {
    {0x0f, 0xa2, 0xc3},             /* CPUID */
    {0x2e, 0x3e, 0x0f, 0xa2, 0xc3}, /* ... with prefixes */
    {0xec, 0xc3},                   /* IN */
    {0xed, 0xc3},                   /* IN by DX */
    {0x0f, 0x32, 0xc3},             /* RDMSR */
    {0x0f, 0x20, 0xe0, 0xc3},       /* MOV from CR4 */
    {0x0f, 0x21, 0xd8, 0xc3},       /* MOV from DR3 */
    {0x0f, 0x22, 0xe0, 0xc3},       /* MOV to CR4 */
    {0x0f, 0x23, 0xd8, 0xc3},       /* MOV to DR3 */
    {0x0f, 0x09, 0xc3},             /* WBINVD */
    {0x0f, 0x0b, 0xc3},             /* UD2 */
    {0x90, 0x90, 0x90, 0xc3},
    {0x89, 0x07, 0xc3}, /* stores and loads */
    {0x8b, 0x07, 0xc3},
    {0x48, 0x89, 0x47, 0x08, 0xc3},
    {0xc7, 0x87, 0x80, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0xc3},
    {0x83, 0x0f, 0x01, 0xc3}, /* OR */
    {0x87, 0x07, 0xc3},       /* XCHG */
};
#define STORES 6U /* the last ones */
static unsigned usable /* of them */ = sizeof(instructions) / sizeof(instructions[0]) - STORES;

static void change_code(void)
{
    while (!stop) {
        *(volatile uint64_t *)code_pte = next() % 16 == 0 ? 0 : (uint64_t)code_pages[next() % usable] | PTE_RW;
        changes++;
    }
}

static void change_arguments(void)
{
    static const uint64_t tables[] = {0, HOLE_AT | PTE_TABLE, FAR_AT | PTE_TABLE, ~0UL};
    uint64_t good = *argument_table;

    while (!stop) {
        ((volatile uint64_t *)argument)[next() % 8] = next() >> next() % 64;
        switch (next() % 8) {
        case 0:
            *(volatile uint64_t *)argument_pte = next() & ~PTE_U;
            break;
        case 1:
            *(volatile uint64_t *)argument_table = tables[next() % 4];
            break;
        case 2:
            *(volatile uint64_t *)argument_pte = HOLE_AT | PTE_RW;
            break;
        default:
            *(volatile uint64_t *)argument_table = good;
            *(volatile uint64_t *)argument_pte = (uint64_t)argument | PTE_RW;
        }
        changes++;
    }
    *argument_table = good;
    *argument_pte = (uint64_t)argument | PTE_RW;
}

static void begin(void (*f)(void))
{
    stop = false;
    changes = 0;
    if (!vcpu_start(1, f))
        panic("the second vcpu does not start");
}

static void check_code(void)
{
    uint64_t end = time_now() + 2 * SECOND;
    unsigned runs = 0, faults[16] = {0};

    begin(change_code);
    while (time_now() < end) {
        uint64_t a = 0x660, b = 0, c = 0x277, d = 0x80, to = HOLE_AT;
        struct fault f =
            ATTEMPT("call *%[code]", OUT(, "+a"(a), "+b"(b), "+c"(c), "+d"(d), "+D"(to)), [code] "r"(CODE));

        faults[f.vector & 15] += f.vector != NO_TRAP;
        runs++;
        asm volatile("invlpg (%0)" : : "r"(CODE) : "memory");
        check_quiet(f.vector == NO_TRAP || f.vector == 6 || f.vector == 13 || f.vector == 14, "vector %lu", f.vector);
    }
    stop = true;
    spin_ns(SECOND / 20);
    check(runs > 100, "changing code: %u runs, %u of #UD, %u of #GP, %u of #PF, %u changes", runs, faults[6],
          faults[13], faults[14], changes);
}

static void check_arguments(void)
{
    static const unsigned calls[][2] = {
        {__HYPERVISOR_xen_version, XENVER_get_features},  {__HYPERVISOR_xen_version, XENVER_capabilities},
        {__HYPERVISOR_event_channel_op, EVTCHNOP_status}, {__HYPERVISOR_event_channel_op, EVTCHNOP_bind_ipi},
        {__HYPERVISOR_hvm_op, HVMOP_get_param},           {__HYPERVISOR_grant_table_op, GNTTABOP_query_size},
        {__HYPERVISOR_vcpu_op, VCPUOP_get_runstate_info}};
    uint64_t end = time_now() + 2 * SECOND;
    unsigned ok = 0, faults = 0, other = 0;

    begin(change_arguments);
    for (unsigned i = 0; time_now() < end; i++) {
        const unsigned *call = calls[i % (sizeof(calls) / sizeof(calls[0]))];
        long rc = kit_raw_hypercall(call[0], call[1], ARGUMENT + (i % 3 ? 0 : PAGE_SIZE - 4), 1, 0, 0);

        ok += rc >= 0;
        faults += rc == -EFAULT;
        other += rc < 0 && rc != -EFAULT;
    }
    stop = true;
    spin_ns(SECOND / 20);
    check(ok > 0 && faults > 0, "changing arguments and tables: %u calls done, %u faults, %u refused, %u changes", ok,
          faults, other, changes);
}

GUEST("pvh_race")
{
    for (unsigned i = 0; i < sizeof(instructions) / sizeof(instructions[0]); i++) {
        unsigned length = 16;

        while (instructions[i][length - 1] == 0)
            length--;
        code_pages[i] = page_alloc();
        memset(code_pages[i], 0xc3, PAGE_SIZE);
        memcpy(code_pages[i], instructions[i], length);
    }
    argument = page_alloc();
    map_page(CODE, (uint64_t)code_pages[0] | PTE_RW);
    map_page(ARGUMENT, (uint64_t)argument | PTE_RW);
    map_page(ARGUMENT + (1UL << 21), 0);
    code_pte = pte_of(CODE);
    argument_pte = pte_of(ARGUMENT);
    /* The entry that leads to that table, of the level above; the code is below another. */
    argument_table = NULL;
    for (unsigned i = 0; i < 512; i++) {
        uint64_t *level3 = (uint64_t *)(kit_pml4[TEST_VA >> 39 & 511] & PTE_MFN_MASK);
        uint64_t *level2 = (uint64_t *)(level3[TEST_VA >> 30 & 511] & PTE_MFN_MASK);

        if ((level2[i] & PTE_MFN_MASK) == ((uint64_t)argument_pte & PAGE_MASK))
            argument_table = &level2[i];
    }
    if (argument_table == NULL)
        panic("no table");
    if (argument_present("case=stores"))
        usable += STORES;
    check_code();
    check_arguments();
}
