/* Ports, MSRs, registers, the APIC, signals: what makes a guest leave to Croft. */
#include "hostile.h"

#define NS_PER_MS 1000000UL

/* Most: no trap; the vectors of faults that instructions of this kind may give are no news. */
static bool went_well(struct fault f) { return f.vector == NO_TRAP; }

/* ---- Ports ---- */

static uint64_t any_port(void)
{
    return PICK(0x80, 0xe9, 0xcf8, 0xcfc, 0x60, 0x64, 0x70, 0xb004, 0xb006, 0xffff, below(0x10000));
}

static bool access_port(uint64_t port)
{
    uint64_t a = any_value();

    switch (below(8)) {
    case 0:
        return went_well(ATTEMPT("inb %%dx, %%al", OUT(, "+a"(a)), "d"(port)));
    case 1:
        return went_well(ATTEMPT("inw %%dx, %%ax", OUT(, "+a"(a)), "d"(port)));
    case 2:
        return went_well(ATTEMPT("inl %%dx, %%eax", OUT(, "+a"(a)), "d"(port)));
    case 3:
        return went_well(ATTEMPT(".byte 0x48, 0xed", OUT(, "+a"(a)), "d"(port)));
    case 4:
        if (port == 0xe9 && !one_in(50)) /* its lines fill the log */
            port = 0x80;
        return went_well(ATTEMPT("outb %%al, %%dx", , OUT("a"(a), "d"(port))));
    case 5:
        return went_well(ATTEMPT("outw %%ax, %%dx", , OUT("a"(a), "d"(port))));
    case 6:
        return went_well(ATTEMPT("outl %%eax, %%dx", , OUT("a"(a), "d"(port))));
    default:
        return went_well(ATTEMPT("inb $0x80, %%al; outb %%al, $0x80; outl %%eax, $0xff", OUT(, "+a"(a)), ));
    }
}

static bool access_port_string(uint64_t port)
{
    uint64_t at = one_in(3) ? any_address() : any_plain_address(),
             n = one_in(20) ? any_number() & 0xffffff : below(3000);
    struct fault f;

    switch (below(9)) {
    case 0:
        f = ATTEMPT("insb", OUT(, "+D"(at)), "d"(port));
        break;
    case 1:
        f = ATTEMPT("insl", OUT(, "+D"(at)), "d"(port));
        break;
    case 2:
        f = ATTEMPT("rep insb", OUT(, "+D"(at), "+c"(n)), "d"(port));
        break;
    case 3:
        f = ATTEMPT("rep insl", OUT(, "+D"(at), "+c"(n)), "d"(port));
        break;
    case 4:
        n %= 300;
        f = ATTEMPT("std; rep insw; cld", OUT(, "+D"(at), "+c"(n)), "d"(port));
        break;
    case 5:
        f = ATTEMPT("addr32 rep insb", OUT(, "+D"(at), "+c"(n)), "d"(port));
        break;
    case 6:
        f = ATTEMPT("rep outsl", OUT(, "+S"(at), "+c"(n)), "d"(port));
        break;
    case 7:
        f = ATTEMPT("std; rep outsb; cld", OUT(, "+S"(at), "+c"(n)), "d"(port == 0xe9 ? 0x80 : port));
        break;
    default:
        f = ATTEMPT("outsw", OUT(, "+S"(at)), "d"(port));
    }
    asm volatile("cld");
    return went_well(f);
}

bool access_ports(void) { return one_in(2) ? access_port(any_port()) : access_port_string(any_port()); }

/* ---- MSRs ---- */

bool access_msrs(void)
{
    uint32_t msr = (uint32_t)(one_in(8) ? any_number() : any_msr());
    uint64_t value;

    if (one_in(2))
        return rdmsr_try(msr, &value) == NO_TRAP;
    value = any_value();
    if (msr == 0x40000000 && one_in(2))
        value = any_frame() << 12;
    if (one_in(3) && rdmsr_try(msr, &value) == NO_TRAP)
        value ^= 1UL << below(64);
    return wrmsr_try(msr, value) == NO_TRAP;
}

/* ---- Registers ---- */

#define TRY_CR(nr, value) ATTEMPT("movq %[to], %%cr" #nr, , [to] "r"((uint64_t)(value)))
#define TRY_DR(nr, value) ATTEMPT("movq %[to], %%dr" #nr, , [to] "r"((uint64_t)(value)))

static struct fault write_control(void)
{
    switch (below(8)) {
    case 0: /* not PG, PE mostly */
        return TRY_CR(0, one_in(60) ? any_number() : READ_CR(0) ^ 1UL << (one_in(60) ? below(64) : 1 + below(30)));
    case 1:
        return TRY_CR(2, any_value());
    case 2:
        return TRY_CR(3, one_in(80) ? any_value() : U(kit_pml4) | (one_in(2) ? 0x18 : below(1 << 12)));
    case 3:
        return TRY_CR(8, one_in(2) ? below(16) : any_number());
    default:
        return TRY_CR(4, one_in(10) ? any_number() : READ_CR(4) ^ 1UL << below(32));
    }
}

static struct fault access_debug(void)
{
    uint64_t value = any_value();

    switch (below(10)) {
    case 0:
        return TRY_DR(0, value);
    case 1:
        return TRY_DR(1, value);
    case 2:
        return TRY_DR(2, value);
    case 3:
        return TRY_DR(3, value);
    case 4:
        return TRY_DR(6, value);
    case 5:
        return TRY_DR(7, one_in(2) ? (uint32_t)random() : value);
    case 6:
        return ATTEMPT("movq %%dr0, %[to]; movq %%dr3, %[to]", OUT(, [to] "=r"(value)), );
    case 7:
        return ATTEMPT("movq %%dr6, %[to]; movq %%dr7, %[to]", OUT(, [to] "=r"(value)), );
    default:
        return ATTEMPT(".byte 0x0f, 0x21, 0xe0; .byte 0x0f, 0x23, 0xe8", OUT(, "+a"(value)), );
    }
}

static struct fault access_other(void)
{
    uint64_t a = any_value(), b = any_address(), c = any_value(), d = any_value();
    uint8_t table[16];

    switch (below(16)) {
    case 0:
    case 1:
        a = one_in(2) ? any_number() : PICK(0, 1, 7, 0xd, 0x40000000, 0x80000000, 0x80000008) + below(0x30);
        c = one_in(4) ? any_number() : below(8);
        return ATTEMPT("cpuid", OUT(, "+a"(a), "=b"(b), "+c"(c), "=d"(d)), );
    case 2:
        return ATTEMPT("xsetbv", , OUT("a"(a & 0xff), "c"(one_in(8) ? c : 0), "d"(one_in(8) ? d : 0)));
    case 3:
        return ATTEMPT("invlpg (%[at])", , [at] "r"(b));
    case 4:
        return ATTEMPT("wbinvd; invd", , );
    case 5:
        return ATTEMPT("invpcid (%[at]), %[type]", , OUT([at] "r"(any_plain_address()), [type] "r"(below(6))));
    case 6:
        return ATTEMPT("lldt %w[to]", , [to] "r"(one_in(3) ? d : 0));
    case 7:
        return ATTEMPT("sgdt %[table]; sidt %[table]; str %%ax; sldt %%ax; smsw %%eax",
                       OUT(, [table] "=m"(table), "+a"(a)), );
    case 8:
        return ATTEMPT("movl %k[to], %%ds; movl %k[to], %%es; movl %k[to], %%fs; movl %k[to], %%gs",
                       , [to] "r"(one_in(2) ? DATA : d & 0xffff));
    case 9:
        return ATTEMPT("rdpmc", OUT(, "+a"(a), "=d"(d)), "c"(c));
    case 10:
        return ATTEMPT("monitor; mwait", , OUT("a"(b), "c"(0), "d"(0)));
    case 11:
        return ATTEMPT("rdtscp; xorl %%ecx, %%ecx; xgetbv", OUT(, "+a"(a), "=c"(c), "=d"(d)), );
    case 12:
        return ATTEMPT("swapgs; swapgs; clts", , );
    case 13:
        return ATTEMPT("fninit; fldpi; movq %[to], %%xmm1; pxor %%xmm0, %%xmm1", , [to] "r"(c));
    case 14:
        return ATTEMPT(".byte 0xc5, 0xfc, 0x77", , ); /* VZEROUPPER */
    default:
        return ATTEMPT("pushfq; btsq %[bit], (%%rsp); popfq; nop; nop; pushq $2; popfq", , [bit] "r"(below(22)));
    }
}

bool access_registers(void)
{
    switch (below(3)) {
    case 0:
        return went_well(write_control());
    case 1:
        return went_well(access_debug());
    default:
        return went_well(access_other());
    }
}

/* ---- The APIC ---- */

static uint64_t any_apic_register(void)
{
    return one_in(4) ? below(64)
                     : PICK(APIC_ID, APIC_TPR, APIC_EOI, APIC_LDR, APIC_DFR, APIC_SVR, APIC_ISR + below(8),
                            APIC_IRR + below(8), APIC_ESR, APIC_ICR, APIC_ICR_HIGH, 0x32 + below(6), APIC_TIMER_INITIAL,
                            APIC_TIMER_CURRENT, APIC_TIMER_DIVIDE, APIC_SELF_IPI);
}

/* INIT and start-up signals are another matter: send_signals. */
static uint64_t any_apic_value(unsigned reg)
{
    uint64_t value = one_in(3) ? any_number() : (one_in(2) ? below(256) : random() & 0x700ff);

    if (reg == APIC_ICR && !one_in(20) && (value & 0x700) >= ICR_INIT)
        value &= ~0x700UL;
    return value;
}

static struct fault access_page(uint64_t at, uint64_t value)
{
    switch (below(9)) {
    case 0:
        return ATTEMPT("movb (%[at]), %b[to]", OUT(, [to] "+r"(value)), [at] "r"(at + below(16)));
    case 1:
        return ATTEMPT("movw (%[at]), %w[to]", OUT(, [to] "+r"(value)), [at] "r"(at + below(16)));
    case 2:
        return ATTEMPT("movq (%[at]), %[to]", OUT(, [to] "+r"(value)), [at] "r"(at));
    case 3:
        return ATTEMPT("movq %[value], (%[at])", , OUT([value] "r"(value), [at] "r"(at)));
    case 4:
        return ATTEMPT("xchgl %k[value], (%[at])", OUT(, [value] "+r"(value)), [at] "r"(at));
    case 5:
        return ATTEMPT("orl %k[value], (%[at])", , OUT([value] "r"(value), [at] "r"(at)));
    case 6:
        return ATTEMPT("movl (%[at]), %k[to]", OUT(, [to] "+r"(value)), [at] "r"(at));
    default:
        return ATTEMPT("movl %k[value], (%[at])", , OUT([value] "r"(value), [at] "r"(at)));
    }
}

bool access_apic(void)
{
    unsigned reg = (unsigned)any_apic_register();
    uint64_t value = any_apic_value(reg);

    switch (below(16)) {
    case 0: /* another mode */
        return wrmsr_try(MSR_APIC_BASE,
                         one_in(3) ? any_number() : APIC_AT | PICK(0, APIC_BASE_EN, APIC_BASE_EN | APIC_BASE_EXTD)) ==
               NO_TRAP;
    case 1: /* a timer, in one way or another */
        apic_write(APIC_LVT_TIMER, (uint32_t)(0x20 + below(0xe0)) | (uint32_t)below(4) << 17);
        apic_write(APIC_TIMER_DIVIDE, (uint32_t)below(16));
        apic_write(APIC_TIMER_INITIAL, (uint32_t)(one_in(8) ? any_number() : below(100000)));
        wrmsr_try(MSR_TSC_DEADLINE, tsc_read() + below(1000000));
        return true;
    case 2:
    case 3:
    case 4:
    case 5:
        return one_in(2) ? rdmsr_try(MSR_X2APIC + reg, &value) == NO_TRAP
                         : wrmsr_try(MSR_X2APIC + reg, value) == NO_TRAP;
    default:
        return went_well(access_page(APIC_AT + reg * 16, value));
    }
}

/* ---- Signals ---- */

/* Interrupts for a moment: those that wait are taken. */
static void let_in(void *unused)
{
    (void)unused;
    asm volatile("sti; nop; nop; pause; cli" : : : "memory");
}

/* Until an interrupt, which the timer gives; the other vcpu may be faster */
static void sleep(void *unused)
{
    (void)unused;
    apic_on();
    apic_write(APIC_TPR, 0);
    apic_write(APIC_LVT_TIMER, 0x40);
    apic_write(APIC_TIMER_DIVIDE, 0xb);
    apic_write(APIC_TIMER_INITIAL, (uint32_t)(1 + below(NS_PER_MS)));
    asm volatile("sti; hlt; cli" : : : "memory");
}

static void software_interrupt(void *unused)
{
    (void)unused;
    switch (below(4)) {
    case 0:
        asm volatile("int3");
        break;
    case 1:
        asm volatile("int $0x80");
        break;
    case 2:
        asm volatile("int $14");
        break;
    default:
        asm volatile("int $2");
    }
}

bool send_signals(void)
{
    unsigned other = !this_vcpu();

    switch (below(16)) {
    case 0:
        apic_send(ICR_INIT | ICR_ASSERT, other);
        return true;
    case 1:
    case 2:
        apic_send(ICR_STARTUP | (one_in(60) ? (uint32_t)below(256) : TRAMPOLINE >> 12), other);
        return true;
    case 3:
    case 4:
        apic_send(ICR_NMI, other);
        return true;
    case 5:
        apic_send(ICR_NMI | ICR_SELF, 0); /* refused: there is no such way */
        vcpu_op(VCPUOP_send_nmi, one_in(2) ? other : !other, NULL);
        return true;
    case 6:
        return !trapped(sleep, NULL, NULL);
    case 7:
        return !trapped(software_interrupt, NULL, NULL);
    case 8:
        apic_send((uint32_t)PICK(ICR_ALL, ICR_OTHERS, ICR_SELF) | (uint32_t)(0x20 + below(0xe0)), 0);
        return true;
    case 9:
        apic_send((uint32_t)(below(256) | (random() & 0x8900)), other);
        return true;
    default:
        if (one_in(2))
            apic_send((uint32_t)(0x20 + below(0xe0)), one_in(2) ? other : !other);
        return !trapped(let_in, NULL, NULL);
    }
}
