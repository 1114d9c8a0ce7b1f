/* Start-up, console, traps, pages, user mode. */
#include "pvh.h"
#include <xen/io/console.h>

#define POOL_PAGES 128U
#define SLEEP_CONTROL_PORT 0xb004
#define SLEEP_S5 0x34
#define MSR_HYPERCALL_PAGE 0x40000000U
#define PORT_DEBUG 0xe9
#define XEN_SIGNATURE 0x566e6558

char hypercall_page[PAGE_SIZE] __attribute__((aligned(4096), section(".data.hypercall")));
static uint8_t pool[POOL_PAGES][PAGE_SIZE] __attribute__((aligned(4096), section(".bss.pool")));
static unsigned pool_used;
uint64_t kit_idt[512] __attribute__((aligned(4096)));
static struct {
    uint32_t reserved;
    uint64_t rsp[3];
    uint64_t reserved2;
    uint64_t ist[7];
    uint64_t reserved3;
    uint16_t reserved4, io_map;
} __attribute__((packed, aligned(128))) tss[KIT_MAX_VCPUS];

struct start_state kit_start_state = {.eax = 1}; /* in .data */
struct hvm_start_info *pvh_info;
bool kit_on_xen;
struct shared_info *shared_info;
trap_hook_t *trap_hooks[256];
struct fault kit_faults[KIT_MAX_VCPUS];
uint8_t *user_code_page, *user_data_page;
uint64_t user_flags = 0x202;

void (*kit_writer)(const char *text, unsigned length);
static struct xencons_interface *console;
static uint32_t console_port;
static volatile bool console_lock;

extern uint8_t *const kit_calls[], *const kit_calls_end[];
void kit_enter(unsigned vcpu, unsigned by_startup);
void kit_trap(struct regs *r);
void kit_interrupt(struct regs *r);
void kit_vcpu_main(unsigned vcpu) __attribute__((noreturn));

const char *kit_arguments(void) { return (const char *)pvh_info->cmdline_paddr; }

struct vcpu_info *vcpu_info_of(unsigned vcpu) { return &shared_info->vcpu_info[vcpu]; }

/* ---- Output ---- */

static void console_put(char c)
{
    while (*(volatile XENCONS_RING_IDX *)&console->out_prod - *(volatile XENCONS_RING_IDX *)&console->out_cons ==
           sizeof(console->out))
        sched_op(SCHEDOP_yield, NULL);
    console->out[console->out_prod & (sizeof(console->out) - 1)] = c;
    barrier();
    console->out_prod++;
}

void kit_write(const char *text, unsigned length)
{
    struct evtchn_send s = {.port = console_port};

    if (kit_writer != NULL) {
        kit_writer(text, length);
        return;
    }
    if (console == NULL) {
        for (unsigned i = 0; i < length; i++)
            outb(PORT_DEBUG, (uint8_t)text[i]);
        return;
    }
    while (__atomic_exchange_n(&console_lock, true, __ATOMIC_ACQUIRE))
        relax();
    for (unsigned i = 0; i < length; i++) {
        if (i % 1024 == 1023)
            event_channel_op(EVTCHNOP_send, &s);
        console_put(text[i]);
    }
    event_channel_op(EVTCHNOP_send, &s);
    __atomic_store_n(&console_lock, false, __ATOMIC_RELEASE);
}

static void console_drain(void)
{
    for (unsigned i = 0; console != NULL && i < 100000; i++)
        if (*(volatile XENCONS_RING_IDX *)&console->out_prod == *(volatile XENCONS_RING_IDX *)&console->out_cons)
            break;
        else
            sched_op(SCHEDOP_yield, NULL);
}

/* Where there is no Xen, nothing is known to switch off: a triple fault ends a virtual machine. */
static void triple_fault(void)
{
    static const struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) none;

    asm volatile("lidt %0; int3" : : "m"(none));
}

/* By the port that domains have that Croft builds, or else by the call */
void poweroff(void)
{
    struct sched_shutdown s = {.reason = SHUTDOWN_poweroff};

    if (!kit_on_xen)
        triple_fault();
    console_drain();
    for (;;) {
        outb(SLEEP_CONTROL_PORT, SLEEP_S5);
        sched_op(SCHEDOP_shutdown, &s);
    }
}

long hvm_param_get(unsigned index, uint64_t *value)
{
    struct xen_hvm_param p = {.domid = DOMID_SELF, .index = index};
    long rc = hypercall(__HYPERVISOR_hvm_op, HVMOP_get_param, U(&p), 0, 0, 0);

    *value = p.value;
    return rc;
}

long hvm_param_set(unsigned index, uint64_t value)
{
    struct xen_hvm_param p = {.domid = DOMID_SELF, .index = index, .value = value};

    return hypercall(__HYPERVISOR_hvm_op, HVMOP_set_param, U(&p), 0, 0, 0);
}

long map_shared_info(unsigned long at)
{
    struct xen_add_to_physmap a = {.domid = DOMID_SELF, .space = XENMAPSPACE_shared_info, .gpfn = at >> 12};

    return memory_op(XENMEM_add_to_physmap, &a);
}

/* ---- Traps ---- */

uint64_t cr2_read(void) { return READ_CR(2); }

void kit_trap(struct regs *r)
{
    trap_hook_t *hook = trap_hooks[r->vector];
    struct fault *f = &kit_faults[vcpu_id()];

    if (hook != NULL && hook(r))
        return;
    if (r->vector >= 32) {
        kit_interrupt(r);
        return;
    }
    if (f->resume != 0) {
        f->vector = r->vector;
        f->error = r->error;
        f->rip = r->rip;
        f->cr2 = cr2_read();
        r->rip = f->resume;
        r->rsp = f->sp;
        r->rflags &= ~(RFLAGS_TF | RFLAGS_DF | RFLAGS_NT | RFLAGS_AC);
        return;
    }
    trap_catch(r, CODE64, DATA, cr2_read());
}

unsigned rdmsr_try(uint32_t msr, uint64_t *value)
{
    uint32_t low, high;
    struct fault f = ATTEMPT("rdmsr", OUT(, "=a"(low), "=d"(high)), OUT("c"(msr)));

    *value = f.vector == NO_TRAP ? (uint64_t)high << 32 | low : 0;
    return (unsigned)f.vector;
}

unsigned wrmsr_try(uint32_t msr, uint64_t value)
{
    return (unsigned)ATTEMPT("wrmsr", , OUT("c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)))).vector;
}

static void idt_fill(void)
{
    for (unsigned i = 0; i < 256; i++) {
        uint64_t to = (uint64_t)kit_stubs + 16 * i;
        /* Double faults, NMIs and machine checks have a stack of their own; INT3 and INTO are user mode's, too. */
        uint64_t ist = i == 8 || i == 2 || i == 18 ? 1 : 0, dpl = i == 3 || i == 4 ? 3 : 0;

        kit_idt[2 * i] = (to & 0xffff) | (uint64_t)CODE64 << 16 | ist << 32 | (0x8e00UL | dpl << 13) << 32 |
                         (to >> 16 & 0xffff) << 48;
        kit_idt[2 * i + 1] = to >> 32;
    }
}

static void load_tss(unsigned v)
{
    uint64_t base = (uint64_t)&tss[v], stack = (uint64_t)kit_stacks + v * KIT_STACK_SIZE;
    uint64_t *entry = &kit_gdt[TSS_SELECTOR(v) / 8];

    tss[v].io_map = sizeof(tss[v]);
    tss[v].rsp[0] = stack + KIT_STACK_SIZE / 2;
    tss[v].ist[0] = stack + KIT_STACK_SIZE / 4;
    tss[v].ist[1] = stack + KIT_STACK_SIZE / 4 * 3;
    entry[0] = (sizeof(tss[v]) - 1) | (base & 0xffffff) << 16 | 0x89UL << 40 | (base >> 24 & 0xff) << 56;
    entry[1] = base >> 32;
    asm volatile("ltr %w0" : : "r"(TSS_SELECTOR(v)) : "memory");
}

/* ---- Pages ---- */

void *page_alloc(void)
{
    unsigned i = __atomic_fetch_add(&pool_used, 1, __ATOMIC_SEQ_CST);

    if (i >= POOL_PAGES)
        panic("the pool is empty");
    return pool[i];
}

uint64_t *pte_of(unsigned long va)
{
    uint64_t *table = kit_pml4;

    for (unsigned shift = 39; shift > 12; shift -= 9) {
        uint64_t *entry = &table[va >> shift & 511];

        if ((*entry & PTE_P) == 0)
            *entry = (uint64_t)page_alloc() | PTE_P | PTE_W | PTE_U | PTE_A;
        if (*entry & PTE_PSE)
            panic("%lx is in a large page", va);
        table = (uint64_t *)(*entry & PTE_MFN_MASK);
    }
    return &table[va >> 12 & 511];
}

void map_page(unsigned long va, uint64_t pte)
{
    *(volatile uint64_t *)pte_of(va) = pte;
    asm volatile("invlpg (%0)" : : "r"(va) : "memory");
}

void unmap_page(unsigned long va) { map_page(va, 0); }

/* ---- User mode ---- */

static void enter_user(void *unused)
{
    (void)unused;
    asm volatile("pushq %0; pushq %1; pushq %4; pushq %2; pushq %3; iretq"
                 :
                 : "i"(USER_DATA_SELECTOR), "r"(USER_DATA + PAGE_SIZE), "i"(USER_CODE64), "r"(USER_CODE),
                   "r"(user_flags)
                 : "memory");
}

void user_run(const void *code, size_t size, struct regs *r)
{
    if (user_code_page == NULL) {
        user_code_page = page_alloc();
        user_data_page = page_alloc();
        map_page(USER_CODE, (uint64_t)user_code_page | PTE_P | PTE_U);
        map_page(USER_DATA, (uint64_t)user_data_page | PTE_P | PTE_W | PTE_U | PTE_NX);
    }
    if (size > PAGE_SIZE)
        panic("user code too long");
    memcpy(user_code_page, code, size);
    if (!trapped(enter_user, NULL, r))
        panic("iret to user mode returned");
}

/* ---- The beginning ---- */

static void find_console(void)
{
    uint64_t frame, port;

    if (hvm_param_get(HVM_PARAM_CONSOLE_PFN, &frame) != 0 || frame == 0 ||
        hvm_param_get(HVM_PARAM_CONSOLE_EVTCHN, &port) != 0)
        return;
    console = (struct xencons_interface *)(frame << 12);
    console_port = (uint32_t)port;
}

static void choose_calls(void)
{
    wrmsr(MSR_HYPERCALL_PAGE, (uint64_t)hypercall_page);
    relax_leaves = cpuid(0, 0).b == CPUID_VENDOR_INTEL;
    for (uint8_t *const *site = kit_calls; site < kit_calls_end; site++)
        memcpy(*site, call_bytes(), KIT_CALL_LENGTH);
}

static void find_xen(void)
{
    choose_calls();
    find_console();
    if (map_shared_info(SHARED_INFO_AT) != 0)
        panic("no shared info");
    shared_info = (struct shared_info *)SHARED_INFO_AT;
    for (unsigned i = 0; i < 64; i++)
        shared_info->evtchn_mask[i] = ~0UL;
}

void kit_enter(unsigned vcpu, unsigned by_startup)
{
    if (by_startup) {
        load_tss(vcpu);
        kit_vcpu_main(vcpu);
    }
    pvh_info = (struct hvm_start_info *)(uint64_t)kit_start_state.ebx;
    idt_fill();
    load_tss(0);
    memcpy((void *)TRAMPOLINE, kit_trampoline, (size_t)(kit_trampoline_end - kit_trampoline));
    kit_on_xen = cpuid(0x40000000, 0).b == XEN_SIGNATURE;
    if (kit_on_xen)
        find_xen();
    printf("guest %s starts\n", guest_name);
    guest_main();
    verdict();
}
