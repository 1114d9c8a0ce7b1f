/* run: pvh=yes beside=yes time=60 */
/* The local APIC and the delivery of interrupts, NMIs and events, as a PVH guest sees them. */
#include "../kit/pvh/pvh.h"

#define MS 1000000UL
#define LVT_MASKED 0x10000U
#define LVT_PERIODIC 0x20000U
#define LVT_DEADLINE 0x40000U
#define GP 13

static volatile unsigned *const count = interrupt_counts[0];

static bool in_service(unsigned vector) { return (apic_read(APIC_ISR + vector / 32) >> vector % 32 & 1) != 0; }
static bool requested(unsigned vector) { return (apic_read(APIC_IRR + vector / 32) >> vector % 32 & 1) != 0; }

/* ---- Registers ---- */

static void check_reset_state(void)
{
    check(apic_read(APIC_ID) == 0 && (apic_read(APIC_VERSION) & 0xff) == 0x14, "id %x, version %x", apic_read(APIC_ID),
          apic_read(APIC_VERSION));
    check(apic_read(APIC_SVR) == 0xff && apic_read(APIC_TPR) == 0 && apic_read(APIC_LVT_TIMER) == LVT_MASKED &&
              apic_read(APIC_LVT_ERROR) == LVT_MASKED && apic_read(APIC_DFR) == ~0U,
          "the state after reset");
    apic_write(APIC_LVT_TIMER, 0x40);
    check(apic_read(APIC_LVT_TIMER) == (LVT_MASKED | 0x40), "entries are masked while it is off");
    apic_send(ICR_SELF | 0x40, 0);
    check(!requested(0x40), "... and nothing is requested");
    apic_enable();
    check(apic_read(APIC_SVR) == 0x1ff, "it is on");
}

/* Instructions that reach the registers in memory */
static void check_forms(void)
{
    volatile uint8_t *page = (volatile uint8_t *)APIC_AT;
    uint64_t a, b;

    asm volatile("movl $0x20, 0x80(%0)" : : "r"(page) : "memory");
    asm volatile("movl 0x80(%1), %k0" : "=r"(a) : "r"(page));
    check(a == 0x20, "MOV of a constant, MOV to a register: %lx", a);
    asm volatile("movl %k1, 0x80(%0)" : : "r"(page), "r"(0x31UL) : "memory");
    asm volatile("movl 0x80(%1), %%r9d; movq %%r9, %0" : "=r"(a) : "r"(page) : "r9");
    check(a == 0x31, "MOV of a register, to R9: %lx", a);
    asm volatile("movabsl 0xfee00080, %%eax" : "=a"(a));
    check(a == 0x31, "MOV from an absolute address: %lx", a);
    asm volatile("movabsl %%eax, 0xfee00080" : : "a"(0x42));
    check(apic_read(APIC_TPR) == 0x42, "... to one");
    a = 0x5500000053;
    asm volatile("xchgl %k0, 0x80(%1)" : "+r"(a) : "r"(page) : "memory");
    check(a == 0x42 && apic_read(APIC_TPR) == 0x53, "XCHG: %lx", a);
    asm volatile("orl $4, 0x80(%0)" : : "r"(page) : "memory");
    check(apic_read(APIC_TPR) == 0x57, "OR: %x", apic_read(APIC_TPR));
    asm volatile("andl %k1, 0x80(%0); addl $1, 0x80(%0)" : : "r"(page), "r"(0xf0UL) : "memory");
    check(apic_read(APIC_TPR) == 0x51, "AND, ADD: %x", apic_read(APIC_TPR));
    asm volatile("movl 0x80(%1,%2,4), %k0" : "=r"(a) : "r"(page - 0x40), "r"(0x10UL));
    asm volatile("addr32 movl 0x80(%k1), %k0" : "=r"(b) : "r"(page));
    check(a == 0x51 && b == 0x51, "by SIB, by a 32-bit address: %lx, %lx", a, b);
    asm volatile("movb $0x60, 0x80(%0); movw $0x60, 0x80(%0); movq %1, 0x80(%0); movl %k1, 0x82(%0)"
                 :
                 : "r"(page), "r"(0x60UL)
                 : "memory");
    check(apic_read(APIC_TPR) == 0x51, "other sizes and places change nothing: %x", apic_read(APIC_TPR));
    apic_write(APIC_TPR, 0);
}

static void check_errors(void)
{
    apic_write(APIC_ESR, 0);
    apic_write(APIC_ESR, 0);
    check(apic_read(APIC_ESR) == 0, "ESR is clear");
    apic_write(APIC_LVT_ERROR, 0x45);
    apic_send(ICR_SELF | 5, 0);
    check(wait_for(&count[0x45], 1, MS), "an illegal vector to send: the error interrupt");
    apic_write(APIC_ESR, 0);
    check(apic_read(APIC_ESR) == 0x20, "ESR %x", apic_read(APIC_ESR));
    apic_write(APIC_LVT_TIMER, 3);
    apic_write(APIC_TIMER_DIVIDE, 0xb);
    apic_write(APIC_TIMER_INITIAL, 10);
    check(wait_for(&count[0x45], 2, 10 * MS), "an illegal vector that comes");
    apic_write(APIC_ESR, 0);
    check(apic_read(APIC_ESR) == 0x40, "ESR %x", apic_read(APIC_ESR));
    if (!apic_is_x2()) {
        *(volatile uint32_t *)(APIC_AT + 0x10) = 0;
        check(wait_for(&count[0x45], 3, MS), "a register that there is not");
        apic_write(APIC_ESR, 0);
        check(apic_read(APIC_ESR) == 0x80, "ESR %x", apic_read(APIC_ESR));
    }
    apic_write(APIC_LVT_ERROR, LVT_MASKED);
    apic_write(APIC_ESR, 0);
    count[0x45] = 0;
}

/* ---- The timer ---- */

static void check_timer(void)
{
    uint64_t t;
    unsigned n;

    apic_write(APIC_LVT_TIMER, 0x41);
    apic_write(APIC_TIMER_DIVIDE, 0xb);
    t = time_now();
    apic_write(APIC_TIMER_INITIAL, 500000); /* of 10 ns */
    n = apic_read(APIC_TIMER_CURRENT);
    check((n > 0 || time_now() - t >= 5000000) && n <= 500000, "it counts: %u", n);
    check(wait_for(&count[0x41], 1, 500 * MS), "one shot");
    t = time_now() - t;
    check(t >= 5 * MS - 10000 && t < 200 * MS, "... after %lu ns", t);
    spin_ns(12 * MS);
    check(count[0x41] == 1 && apic_read(APIC_TIMER_CURRENT) == 0, "... and no more");
    apic_write(APIC_LVT_TIMER, 0x41 | LVT_PERIODIC);
    apic_write(APIC_TIMER_DIVIDE, 0); /* by 2 */
    apic_write(APIC_TIMER_INITIAL, 100000);
    count[0x41] = 0;
    spin_ns(50 * MS);
    n = count[0x41];
    check(n >= 5 && n <= 26, "every 2 ms, for 50: %u", n);
    apic_write(APIC_LVT_TIMER, 0x41 | LVT_PERIODIC | LVT_MASKED);
    n = count[0x41];
    spin_ns(10 * MS);
    check(count[0x41] == n, "masked");
    apic_write(APIC_TIMER_INITIAL, 0);
    apic_write(APIC_LVT_TIMER, 0x41 | LVT_PERIODIC);
    apic_write(APIC_TIMER_DIVIDE, 0xb);
    apic_write(APIC_TIMER_INITIAL, 1);
    n = count[0x41];
    spin_ns(20 * MS);
    n = count[0x41] - n;
    apic_write(APIC_TIMER_INITIAL, 0);
    check(n > 0 && n <= 450, "a period of 10 ns is stretched: %u in 20 ms", n);
    apic_write(APIC_LVT_TIMER, 0x41 | LVT_DEADLINE);
    count[0x41] = 0;
    t = time_now();
    wrmsr(MSR_TSC_DEADLINE, tsc_read() + cpuid(0x40000003, 0).c * 5UL);
    check(rdmsr(MSR_TSC_DEADLINE) != 0, "a deadline is set");
    check(wait_for(&count[0x41], 1, 500 * MS), "it comes");
    t = time_now() - t;
    check(t >= 5 * MS - 10000 && rdmsr(MSR_TSC_DEADLINE) == 0, "... after %lu ns, once", t);
    wrmsr(MSR_TSC_DEADLINE, 1);
    check(wait_for(&count[0x41], 2, 10 * MS), "one in the past comes at once");
    wrmsr(MSR_TSC_DEADLINE, -1UL);
    spin_ns(5 * MS);
    check(count[0x41] == 2, "one in years does not");
    wrmsr(MSR_TSC_DEADLINE, 0);
    apic_write(APIC_TIMER_INITIAL, 100);
    spin_ns(MS);
    check(count[0x41] == 2, "no counting in that mode");
    apic_write(APIC_LVT_TIMER, LVT_MASKED);
    count[0x41] = 0;
}

/* ---- Priorities ---- */

static unsigned order[8];
static volatile unsigned ordered;
static bool note_order(struct regs *r)
{
    order[ordered++ & 7] = (unsigned)r->vector;
    apic_write(APIC_EOI, 0);
    return true;
}

static bool nest(struct regs *r)
{
    order[ordered++ & 7] = (unsigned)r->vector;
    apic_send(ICR_SELF | 0x55, 0); /* the same class: has to wait */
    apic_send(ICR_SELF | 0x81, 0); /* higher: comes in between */
    sti();
    asm volatile("nop; nop");
    order[ordered++ & 7] = 1;
    cli();
    check_quiet(in_service(0x50) && requested(0x55), "0x50 is in service, 0x55 requested");
    apic_write(APIC_EOI, 0);
    return true;
}

static void check_priorities(void)
{
    static const unsigned vectors[] = {0x33, 0xa0, 0x52, 0x71, 0xfe};

    cli();
    for (unsigned i = 0; i < 5; i++) {
        trap_hooks[vectors[i]] = note_order;
        apic_send(ICR_SELF | vectors[i], 0);
        check_quiet(requested(vectors[i]), "%x is requested", vectors[i]);
    }
    ordered = 0;
    sti();
    asm volatile("nop; nop");
    check(ordered == 5 && order[0] == 0xfe && order[1] == 0xa0 && order[2] == 0x71 && order[3] == 0x52 &&
              order[4] == 0x33,
          "the highest first: %u: %x %x %x %x %x", ordered, order[0], order[1], order[2], order[3], order[4]);
    ordered = 0;
    apic_write(APIC_TPR, 0x70);
    apic_send(ICR_SELF | 0x71, 0);
    apic_send(ICR_SELF | 0xa0, 0);
    asm volatile("nop; nop");
    check(ordered == 1 && order[0] == 0xa0 && READ_CR(8) == 7 && apic_read(APIC_PPR) == 0x70,
          "TPR keeps 0x71 back: %u, CR8 %lu, PPR %x", ordered, READ_CR(8), apic_read(APIC_PPR));
    WRITE_CR(8, 6);
    asm volatile("nop; nop");
    check(ordered == 2 && order[1] == 0x71, "... until CR8 falls: %u", ordered);
    check(apic_read(APIC_TPR) == 0x60, "TPR is CR8's: %x", apic_read(APIC_TPR));
    WRITE_CR(8, 15);
    apic_send(ICR_SELF | 0xfe, 0);
    asm volatile("nop; nop");
    check(ordered == 2, "CR8 of 15 keeps all back");
    WRITE_CR(8, 0);
    asm volatile("nop; nop");
    check(ordered == 3, "0xfe comes then");
    trap_hooks[0x50] = nest;
    trap_hooks[0x55] = trap_hooks[0x81] = note_order;
    ordered = 0;
    apic_send(ICR_SELF | 0x50, 0);
    asm volatile("nop; nop");
    check(ordered == 4 && order[0] == 0x50 && order[1] == 0x81 && order[2] == 1 && order[3] == 0x55,
          "only higher ones come in between: %u: %x %x %x %x", ordered, order[0], order[1], order[2], order[3]);
    for (unsigned i = 0; i < 256; i++)
        if (trap_hooks[i] == note_order || trap_hooks[i] == nest)
            trap_hooks[i] = NULL;
}

/* ---- Shadows and windows ---- */

static volatile uint64_t came_at;
static bool note_rip(struct regs *r)
{
    came_at = r->rip;
    apic_write(APIC_EOI, 0);
    return true;
}

static void check_shadows(void)
{
    uint64_t after;

    trap_hooks[0x60] = note_rip;
    cli();
    apic_send(ICR_SELF | 0x60, 0);
    asm volatile("sti; nop; 1: nop; cli; leaq 1b(%%rip), %0" : "=r"(after) : : "memory");
    check(came_at == after, "STI holds an interrupt back for one instruction: at %lx, wanted %lx", came_at, after);
    apic_send(ICR_SELF | 0x60, 0);
    asm volatile("sti; cpuid; 1: nop; cli; leaq 1b(%%rip), %0" : "=r"(after) : "a"(0) : "rbx", "rcx", "rdx", "memory");
    check(came_at == after, "... for one that is intercepted: at %lx, wanted %lx", came_at, after);
    came_at = 0;
    apic_send(ICR_SELF | 0x60, 0);
    asm volatile("sti; cli; nop" : : : "memory");
    check(came_at == 0 && requested(0x60), "STI and CLI: nothing comes in between");
    asm volatile("pushfq; orq $0x200, (%%rsp); popfq; 1: nop; cli; leaq 1b(%%rip), %0" : "=r"(after) : : "memory");
    check(came_at == after, "POPF holds nothing back: at %lx, wanted %lx", came_at, after);
    came_at = 0;
    asm volatile(
        "movl %%ss, %%ebx; movl $0xfee00300, %%edi; sti; nop; movl $0x40060, (%%rdi); 1: movl %%ebx, %%ss; nop; cli"
        :
        :
        : "rbx", "rdi", "memory");
    check(came_at != 0, "an interrupt before MOV SS");
    trap_hooks[0x60] = NULL;
}

static void check_window(void)
{
    uint64_t t;

    cli();
    count[0x61] = 0;
    apic_write(APIC_LVT_TIMER, 0x61);
    apic_write(APIC_TIMER_DIVIDE, 0xb);
    apic_write(APIC_TIMER_INITIAL, 10000);
    spin_ns(5 * MS);
    check(count[0x61] == 0 && requested(0x61), "interrupts are off: it waits");
    t = time_now();
    sti();
    asm volatile("nop");
    check(count[0x61] == 1, "they are on: it comes, after %lu ns", time_now() - t);
    apic_write(APIC_LVT_TIMER, LVT_MASKED);
}

/* ---- NMIs ---- */

static volatile unsigned nmis, nmis_inside, again;
static volatile bool seen_inside;
static bool nmi_hook(struct regs *r)
{
    (void)r;
    nmis++;
    if (again) {
        again--;
        apic_send(ICR_SELF | ICR_NMI, 0);
        (void)cpuid(0, 0);
        spin_ns(MS);
        seen_inside = nmis != nmis_inside + 1;
        nmis_inside = nmis;
    }
    return true;
}

static void check_nmi(void)
{
    trap_hooks[2] = nmi_hook;
    cli();
    apic_send(ICR_SELF | ICR_NMI, 0);
    asm volatile("nop; nop");
    check(nmis == 1, "an NMI comes with interrupts off: %u", nmis);
    nmis = nmis_inside = 0;
    again = 3;
    sti();
    apic_send(ICR_SELF | ICR_NMI, 0);
    for (unsigned i = 0; i < 1000 && nmis < 4; i++)
        spin_ns(1000);
    cli();
    check(nmis == 4 && !seen_inside, "one in its handler waits for IRET: %u", nmis);
    nmis = 0;
    apic_write(APIC_LVT_TIMER, 0x62);
    apic_send(ICR_SELF | 0x62, 0);
    apic_send(ICR_SELF | ICR_NMI, 0);
    check_quiet(nmis == 1, "NMI and interrupt: %u", nmis);
    sti();
    asm volatile("nop");
    check(nmis == 1 && count[0x62] == 1, "an NMI and an interrupt, each once");
    trap_hooks[2] = NULL;
}

/* ---- Events ---- */

static volatile unsigned upcalls;
static bool upcall(struct regs *r)
{
    struct vcpu_info *v = &shared_info->vcpu_info[0];

    upcalls++;
    v->evtchn_upcall_pending = 0;
    v->evtchn_pending_sel = 0;
    for (unsigned i = 0; i < 64; i++)
        shared_info->evtchn_pending[i] = 0;
    if (r->vector == 0x64)
        apic_write(APIC_EOI, 0);
    return true;
}

static void check_events(void)
{
    struct evtchn_bind_ipi b = {.vcpu = 0};
    struct evtchn_send s;
    struct xen_hvm_evtchn_upcall_vector u = {.vcpu = 0, .vector = 0x64};
    unsigned before;

    check_equal(event_channel_op(EVTCHNOP_bind_ipi, &b), 0);
    s.port = b.port;
    trap_hooks[0x63] = trap_hooks[0x64] = upcall;
    shared_info->evtchn_mask[0] &= ~(1UL << b.port);
    sti();
    check_equal(hvm_param_set(HVM_PARAM_CALLBACK_IRQ, 2UL << 56 | 0x63), 0);
    check_equal(event_channel_op(EVTCHNOP_send, &s), 0);
    check(wait_for(&upcalls, 1, MS) && upcalls == 1, "an event by the callback vector: %u", upcalls);
    check(!in_service(0x63), "... without the APIC");
    WRITE_CR(8, 15);
    event_channel_op(EVTCHNOP_send, &s);
    check(wait_for(&upcalls, 2, MS), "... whatever the priority");
    WRITE_CR(8, 0);
    cli();
    event_channel_op(EVTCHNOP_send, &s);
    spin_ns(MS);
    check(upcalls == 2 && shared_info->vcpu_info[0].evtchn_upcall_pending == 1, "... not with interrupts off");
    sti();
    asm volatile("nop");
    check(upcalls == 3, "... but then");
    check_equal(hypercall(__HYPERVISOR_hvm_op, HVMOP_set_evtchn_upcall_vector, U(&u), 0, 0, 0), 0);
    before = upcalls;
    event_channel_op(EVTCHNOP_send, &s);
    check(wait_for(&upcalls, before + 1, MS) && upcalls == before + 1, "an event by the vcpu's vector: %u",
          upcalls - before);
    WRITE_CR(8, 15);
    event_channel_op(EVTCHNOP_send, &s);
    spin_ns(MS);
    check(upcalls == before + 1 && requested(0x64), "... by the APIC's priority");
    WRITE_CR(8, 0);
    check(wait_for(&upcalls, before + 2, MS), "... when it allows");
    cli();
    event_channel_op(EVTCHNOP_send, &s);
    asm volatile("sti; hlt" : : : "memory");
    check(upcalls == before + 3, "an event ends HLT");
    shared_info->evtchn_mask[0] |= 1UL << b.port;
    trap_hooks[0x63] = trap_hooks[0x64] = NULL;
}

/* ---- Modes ---- */

static void check_modes(void)
{
    uint64_t base = rdmsr(MSR_APIC_BASE), value;
    uint32_t page;

    check(rdmsr_try(MSR_X2APIC + APIC_ID, &value) == GP, "no registers by MSR in xAPIC mode");
    apic_write(APIC_TPR, 0x30);
    wrmsr(MSR_APIC_BASE, base | APIC_BASE_EXTD);
    check(rdmsr(MSR_APIC_BASE) == (base | APIC_BASE_EXTD) && apic_is_x2(), "x2APIC mode");
    check(apic_read(APIC_ID) == 0 && apic_read(APIC_TPR) == 0x30 && apic_read(APIC_LDR) == 1, "registers stay; LDR %x",
          apic_read(APIC_LDR));
    asm volatile("movl (%1), %0" : "=r"(page) : "r"(APIC_AT + 0x20));
    check(page == ~0U, "no registers in memory then: %x", page);
    check(rdmsr_try(MSR_X2APIC + APIC_DFR, &value) == GP && rdmsr_try(MSR_X2APIC + APIC_ICR_HIGH, &value) == GP &&
              rdmsr_try(MSR_X2APIC + 0x40, &value) == GP && rdmsr_try(MSR_X2APIC + APIC_EOI, &value) == GP,
          "MSRs that there are not: #GP");
    check(wrmsr_try(MSR_X2APIC + APIC_EOI, 1) == GP && wrmsr_try(MSR_X2APIC + APIC_ID, 0) == GP &&
              wrmsr_try(MSR_X2APIC + APIC_TPR, 0x100) == GP && wrmsr_try(MSR_X2APIC + APIC_TPR, 1UL << 32) == GP &&
              wrmsr_try(MSR_X2APIC + APIC_SVR, 1U << 20) == GP && wrmsr_try(MSR_X2APIC + APIC_ICR, 1U << 13) == GP &&
              wrmsr_try(MSR_X2APIC + APIC_LVT_TIMER, LVT_PERIODIC | LVT_DEADLINE) == GP &&
              wrmsr_try(MSR_X2APIC + APIC_ESR, 1) == GP,
          "bits that there are not: #GP");
    apic_write(APIC_TPR, 0);
    count[0x66] = 0;
    apic_write(APIC_SELF_IPI, 0x66);
    check(wait_for(&count[0x66], 1, MS), "the register for interrupts to itself");
    apic_send(0x66, 0);
    check(wait_for(&count[0x66], 2, MS), "to its own id");
    wrmsr(MSR_X2APIC + APIC_ICR, 1UL << 32 | 0x800 | 0x66);
    check(wait_for(&count[0x66], 3, MS), "to its logical id");
    wrmsr(MSR_X2APIC + APIC_ICR, 0xffffffffUL << 32 | 0x66);
    check(wait_for(&count[0x66], 4, MS), "to all");
    check_errors();
    check_timer();
    check(wrmsr_try(MSR_APIC_BASE, base) == GP, "from x2APIC to xAPIC mode is #GP");
    wrmsr(MSR_APIC_BASE, base & ~APIC_BASE_EN);
    check(rdmsr_try(MSR_X2APIC + APIC_ID, &value) == GP && rdmsr(MSR_APIC_BASE) == (base & ~APIC_BASE_EN), "off");
    check(wrmsr_try(MSR_APIC_BASE, base | APIC_BASE_EXTD) == GP, "from off to x2APIC mode is #GP");
    wrmsr(MSR_APIC_BASE, base);
    check(apic_read(APIC_SVR) == 0xff && apic_read(APIC_LVT_TIMER) == LVT_MASKED, "on again, as after reset");
    apic_enable();
    apic_send(ICR_SELF | 0x66, 0);
    check(wait_for(&count[0x66], 5, MS), "and it works");
}

GUEST("pvh_apic")
{
    check_reset_state();
    sti();
    check_forms();
    check_errors();
    check_timer();
    check_priorities();
    check_shadows();
    check_window();
    check_nmi();
    sti();
    check_modes();
    check_events();
}
