/* run: domain0=random smp=2 time=120 args="seconds=5 seed=1" */
/*
 * A PVH kernel that makes random calls, executes random code, and does whatever else makes a guest leave to Croft, on two vcpus that also
 * start, stop and interrupt each other; it changes its page tables and takes away its own memory. It is built, watched and destroyed
 * by the guest "random" (../random), which says what must hold. What becomes of it is its own affair: it goes on after a trap if it can.
 */
#include "hostile.h"

#define PATIENCE 50000000UL /* ticks of the TSC, some ten milliseconds, that the other vcpu may stand still */

extern char syscall_entry[];

uint64_t *tables[TABLES];
uint8_t *requests[RANDOM_VCPUS];
static struct call calls[RANDOM_VCPUS];
static volatile long results[RANDOM_VCPUS];
/* Entries above those that it changes for fun, and their addresses: put back after a trap */
static struct {
    uint64_t *at, value;
} links[4];

/* ---- Its memory ---- */

static long populate(unsigned long frame)
{
    xen_pfn_t list = frame;
    struct xen_memory_reservation r = {.nr_extents = 1, .domid = DOMID_SELF};

    set_xen_guest_handle(r.extent_start, &list);
    return memory_op(XENMEM_populate_physmap, &r);
}

/* By instructions that Croft emulates where nothing is: there a store has no effect. */
static uint8_t load(const uint8_t *at)
{
    uint8_t value;

    asm volatile("movb (%1), %0" : "=q"(value) : "r"(at) : "memory");
    return value;
}

static void store(void *at, uint64_t value) { asm volatile("movq %0, (%1)" : : "r"(value), "r"(at) : "memory"); }

static bool is_there(uint8_t *page)
{
    uint8_t old = load(page);

    asm volatile("xorb $0xff, (%0)" : : "r"(page) : "memory", "cc");
    if (load(page) == old)
        return false;
    asm volatile("xorb $0xff, (%0)" : : "r"(page) : "memory", "cc");
    return true;
}

void keep(uint8_t *page)
{
    if (!is_there(page))
        populate(U(page) >> 12);
}

/* An entry of the table of a level that leads to va */
static uint64_t *entry_for(unsigned long va, unsigned level)
{
    uint64_t *table = kit_pml4;

    for (unsigned l = 4; l > level; l--)
        table = (uint64_t *)(table[va >> (12 + 9 * (l - 1)) & 511] & PTE_MFN_MASK);
    return &table[va >> (12 + 9 * (level - 1)) & 511];
}

static void map_code(unsigned v)
{
    for (unsigned i = 0; i < CODE_PAGES; i++)
        low_entries(v)[i] = U(code_pages[v] + i * PAGE_SIZE) | PTE_USER_RW;
    low_entries(v)[CODE_PAGES] = U(code_pages[v] + CODE_PAGES * PAGE_SIZE) | PTE_USER_RW | PTE_NX; /* its stack */
}

static void map_grants(void)
{
    for (unsigned i = 0; i < 2; i++) {
        struct xen_add_to_physmap a = {
            .domid = DOMID_SELF, .space = XENMAPSPACE_grant_table, .idx = i, .gpfn = (GRANT_AT >> 12) + i};

        memory_op(XENMEM_add_to_physmap, &a);
    }
}

static uint8_t *alloc_some(unsigned pages)
{
    uint8_t *first = page_alloc();

    for (unsigned i = 1; i < pages; i++)
        page_alloc(); /* behind it */
    return first;
}

static void prepare(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < PAGES; i++)
        map_page(TEST_VA + (8 + i) * PAGE_SIZE, U(data_page(i)) | PTE_RW);
    low_table = page_alloc();
    for (unsigned v = 0; v < RANDOM_VCPUS; v++) {
        requests[v] = alloc_some(RANDOM_REQUEST_PAGES);
        code_pages[v] = alloc_some(CODE_PAGES + 1);
        map_code(v);
    }
    *entry_for(LOW_VA, 2) = U(low_table) | PTE_TABLE;
    asm volatile("invlpg (%0)" : : "r"(LOW_VA) : "memory");
    for (unsigned level = 1; level < 4; level++)
        tables[n++] = (uint64_t *)(U(entry_for(TEST_VA, level)) & PAGE_MASK);
    tables[n++] = low_table;
    while (n < TABLES)
        tables[n++] = page_alloc();
    for (unsigned level = 2; level <= 4; level++)
        links[level - 2].at = entry_for(TEST_VA, level);
    links[3].at = entry_for(LOW_VA, 2);
    for (unsigned i = 0; i < 4; i++)
        links[i].value = *links[i].at;
    map_grants();
}

/* ---- Its processor ---- */

static void load_tables(void)
{
    static const struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) gdt = {(TSS_SELECTOR(KIT_MAX_VCPUS) + 64) - 1, (uint64_t)(uintptr_t)kit_gdt},
                              idt = {4095, (uint64_t)(uintptr_t)kit_idt};

    asm volatile("lgdt %0; lidt %1; movl %2, %%ds; movl %2, %%es; movl %2, %%ss; movl %3, %%fs; movl %3, %%gs; lldt %w3"
                 :
                 : "m"(gdt), "m"(idt), "r"(DATA), "r"(0)
                 : "memory");
}

/* In xAPIC mode, whatever it was in */
void apic_on(void)
{
    wrmsr_try(MSR_APIC_BASE, APIC_AT);
    wrmsr_try(MSR_APIC_BASE, APIC_AT | APIC_BASE_EN);
    apic_enable();
}

static void restore(void *unused)
{
    unsigned v = this_vcpu();

    (void)unused;
    cli();
    load_tables();
    for (unsigned i = 0; i < 4; i++)
        *links[i].at = links[i].value;
    map_code(v);
    WRITE_CR(4, 0x6a0);
    WRITE_CR(3, kit_pml4);
    WRITE_CR(0, 0x80010033);
    WRITE_CR(8, 0);
    asm volatile("movq %0, %%dr7" : : "r"(0x400UL));
    wrmsr(MSR_EFER, 0x901);
    wrmsr(0xc0000081, (uint64_t)CODE64 << 32 | (uint64_t)(USER_DATA_SELECTOR - 8) << 48);
    wrmsr(0xc0000082, U(syscall_entry));
    wrmsr(0xc0000084, RFLAGS_IF | RFLAGS_TF | RFLAGS_AC | RFLAGS_NT);
    wrmsr(0xc0000101, 0);
    if (!one_in(4))
        return;
    apic_on();
    if (one_in(2))
        wrmsr_try(MSR_APIC_BASE, APIC_AT | APIC_BASE_EN | APIC_BASE_EXTD);
    vcpu_op(VCPUOP_stop_periodic_timer, v, NULL);
}

static bool go_on(struct regs *r)
{
    (void)r;
    return true;
}

static bool clear_debug(struct regs *r)
{
    r->rflags &= ~(RFLAGS_TF | RFLAGS_AC);
    asm volatile("movq %0, %%dr7; movq %1, %%dr6" : : "r"(0x400UL), "r"(0xffff0ff0UL));
    return true;
}

static void repair(void *unused)
{
    unsigned v = this_vcpu();

    restore(unused);
    for (unsigned i = 0; i < RANDOM_REQUEST_PAGES; i++)
        keep(requests[v] + i * PAGE_SIZE);
    for (unsigned i = 0; i <= CODE_PAGES; i++)
        keep(code_pages[v] + i * PAGE_SIZE);
    keep(data_page((unsigned)below(PAGES)));
    map_shared_info(SHARED_INFO_AT);
    map_grants();
}

/* ---- Steps ---- */

static void make_the_call(void *argument)
{
    struct call *c = argument;

    results[this_vcpu()] = kit_raw_hypercall(c->nr, c->a[0], c->a[1], c->a[2], c->a[3], c->a[4]);
}

/* The arguments in front of a border: of pages, behind which there may be none, or of the memory */
static void move_request(struct call *c, uint8_t *request)
{
    unsigned room = 8 * (1 + (unsigned)below(8));
    uint8_t *to = (uint8_t *)(one_in(4) ? MEMORY_END : TEST_VA + (8 + below(PAGES + 1)) * PAGE_SIZE) - room;

    for (unsigned i = 0; i < room; i += 8)
        store(to + i, *(uint64_t *)(void *)(request + i));
    for (unsigned i = 0; i < 5; i++)
        if (c->a[i] == U(request))
            c->a[i] = U(to);
}

static void call_step(unsigned v)
{
    struct call *c = &calls[v];
    uint8_t *request = requests[one_in(20) ? !v : v];

    if (!is_there((uint8_t *)SHARED_INFO_AT + PAGE_SIZE - 8)) /* the clock is there */
        map_shared_info(SHARED_INFO_AT);
    call_make(c, request);
    ((volatile uint32_t *)&random_talk->a[ARG_LAST])[v] = (uint32_t)c->nr << 16 | (uint16_t)c->a[0];
    results[v] = -1;
    if (one_in(8))
        move_request(c, request);
    count(c->nr < NUMBERS ? (unsigned)c->nr : NUMBERS - 1, !trapped(make_the_call, c, NULL) && results[v] >= 0);
}

static void change_grant(void)
{
    grant_entry_v1_t *e = (grant_entry_v1_t *)GRANT_AT + below(16);

    e->domid = (domid_t)any_domain();
    e->frame = (uint32_t)any_frame();
    e->flags = (uint16_t)(one_in(4) ? any_number() : below(8));
}

/* Mostly entries of the lowest level: what is wrong above them ends it if the processor comes by (no memory for a table). */
static void write_entry(void *unused)
{
    unsigned level = one_in(12) ? (unsigned)below(TABLES) : 0, slot = (unsigned)below(SLOTS);
    uint64_t e = any_entry();

    (void)unused;
    if ((level == 1 || level == 2) && !one_in(20))
        e = U(tables[below(TABLES)]) | PTE_TABLE;
    if (level == 0 && slot >= 8 && slot < 8 + PAGES) /* any_plain_address */
        e = U(data_page((unsigned)below(PAGES))) | (e & ~PTE_MFN_MASK & ~PTE_PSE);
    tables[level][slot] = e;
    if (one_in(2))
        asm volatile("invlpg (%0)" : : "r"(TEST_VA + below(SLOTS) * PAGE_SIZE) : "memory");
    else if (one_in(4))
        WRITE_CR(3, kit_pml4);
}

/* What the other vcpu is using now: its code, its entries, its arguments */
static void disturb(void *unused)
{
    unsigned other = !this_vcpu();

    (void)unused;
    switch (below(3)) {
    case 0:
        code_pages[other][below(CODE_PAGES * PAGE_SIZE)] = (uint8_t)random();
        break;
    case 1:
        low_entries(other)[below(CODE_PAGES + 1)] = one_in(2) ? any_entry() : 0;
        break;
    default:
        ((volatile uint64_t *)requests[other])[below(64)] = any_value();
    }
}

static bool (*const kinds[])(void) = {
    [KIND_CODE] = run_code,        [KIND_ACCESSES] = access_memory,     [KIND_PORTS] = access_ports,
    [KIND_MSRS] = access_msrs,     [KIND_REGISTERS] = access_registers, [KIND_APIC] = access_apic,
    [KIND_SIGNALS] = send_signals, [KIND_MODES] = change_mode,
};

static void step(void *unused)
{
    static const uint8_t weights[] = {KIND_CODE,  KIND_CODE, KIND_ACCESSES, KIND_ACCESSES,  KIND_PORTS,
                                      KIND_PORTS, KIND_MSRS, KIND_MSRS,     KIND_REGISTERS, KIND_REGISTERS,
                                      KIND_APIC,  KIND_APIC, KIND_SIGNALS,  KIND_SIGNALS,   KIND_MODES};
    unsigned v = this_vcpu(), what = (unsigned)below(32);

    (void)unused;
    ((volatile uint32_t *)&random_talk->a[ARG_LAST])[v] = what << 16 | 0xffff;
    if (what < sizeof(weights)) {
        if (weights[what] == KIND_MODES)
            restore(NULL);
        count(NUMBERS + weights[what], kinds[weights[what]]());
    } else if (what < 18) {
        count(NUMBERS + KIND_TABLE_WRITES, !trapped(write_entry, NULL, NULL));
    } else if (what == 18) {
        change_grant();
    } else if (what == 19) {
        trapped(disturb, NULL, NULL);
    } else {
        call_step(v);
    }
}

/* It may have been stopped, by this one or by itself; or it sleeps, and cannot take an interrupt. */
static void help_other(void *unused)
{
    unsigned other = !this_vcpu();

    (void)unused;
    memcpy((void *)TRAMPOLINE, kit_trampoline, (size_t)(kit_trampoline_end - kit_trampoline));
    apic_on();
    if (one_in(3))
        apic_send(ICR_INIT | ICR_ASSERT, other);
    apic_send(ICR_STARTUP | TRAMPOLINE >> 12, other);
}

static void steps(void)
{
    unsigned v = this_vcpu();
    volatile long *progress = &random_talk->a[ARG_PROGRESS];
    uint64_t since = tsc_read();
    long seen = 0;

    kit_faults[v].resume = 0; /* it may have been stopped in the middle of an ATTEMPT */
    trapped(restore, NULL, NULL);
    for (;;) {
        if (trapped(step, NULL, NULL))
            trapped(repair, NULL, NULL);
        else if (one_in(12))
            trapped(restore, NULL, NULL);
        progress[v]++;
        if (progress[!v] != seen) {
            seen = progress[!v];
            since = tsc_read();
        } else if (random_talk->a[ARG_VCPUS] > 1 && tsc_read() - since > PATIENCE) {
            trapped(help_other, NULL, NULL);
            since = tsc_read();
        }
    }
}

static void tell(const char *text, unsigned length)
{
    if (random_talk->text_length + length >= sizeof(random_talk->text))
        return;
    memcpy(random_talk->text + random_talk->text_length, text, length);
    random_talk->text_length += length;
}

GUEST("pvh_random")
{
    kit_writer = tell;
    while (random_talk->order == 0)
        relax();
    random_seed((uint64_t)random_talk->a[ARG_SEED]);
    prepare();
    for (unsigned i = 0; i < 256; i++) /* wherever the stack pointer is */
        if ((kit_idt[2 * i] >> 32 & 7) == 0)
            kit_idt[2 * i] |= 2UL << 32;
    trap_hooks[1] = clear_debug;
    trap_hooks[2] = go_on;
    apic_enable();
    for (unsigned v = 0; v < RANDOM_VCPUS; v++)
        vcpu_functions[v] = steps;
    if (random_talk->a[ARG_VCPUS] > 1) {
        apic_send(ICR_INIT | ICR_ASSERT, 1);
        apic_send(ICR_STARTUP | TRAMPOLINE >> 12, 1);
    }
    steps();
}
