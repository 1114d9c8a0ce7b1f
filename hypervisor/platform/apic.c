/*
 * The local APIC (Intel SDM volume 3, chapter 11). One access function pair hides the two modes: memory-mapped
 * registers (xAPIC) and MSRs (x2APIC). x2APIC is used if firmware switched it on, if the option asks for it, or if an
 * APIC id needs more than eight bits.
 */
#include "platform/apic.h"

#include "boot/options.h"
#include "cpu/cpu.h"
#include "cpu/instr.h"
#include "cpu/smp.h"
#include "lib/log.h"
#include "lib/spinlock.h"
#include "memory/map.h"
#include "platform/acpi.h"
#include "sched/time.h"

/* Register offsets; the MSR is MSR_X2APIC + offset / 16. */
#define APIC_ID 0x20
#define APIC_TPR 0x80
#define APIC_EOI 0xb0
#define APIC_SVR 0xf0
#define APIC_ISR 0x100 /* eight registers, 16 bytes apart */
#define APIC_IRR 0x200 /* as ISR */
#define APIC_ESR 0x280
#define APIC_LVT_CMCI 0x2f0
#define APIC_ICR 0x300
#define APIC_ICR_HIGH 0x310
#define APIC_LVT_TIMER 0x320
#define APIC_LVT_THERMAL 0x330
#define APIC_LVT_PERF 0x340
#define APIC_LVT_LINT0 0x350
#define APIC_LVT_LINT1 0x360
#define APIC_LVT_ERROR 0x370
#define APIC_TIMER_INITIAL 0x380
#define APIC_TIMER_CURRENT 0x390
#define APIC_TIMER_DIVIDE 0x3e0
#define APIC_VERSION 0x30

#define SVR_ENABLE (1U << 8)
#define LVT_MASKED (1U << 16)
#define LVT_DELIVER_NMI (4U << 8)
#define LVT_TIMER_DEADLINE (2U << 17)
#define DIVIDE_BY_1 0xb
#define ICR_DELIVER_NMI (4U << 8)
#define ICR_DELIVER_INIT (5U << 8)
#define ICR_DELIVER_STARTUP (6U << 8)
#define ICR_PENDING (1U << 12)
#define ICR_ASSERT (1U << 14)

#define APIC_BASE_BSP (1UL << 8)
#define APIC_BASE_X2APIC (1UL << 10)
#define APIC_BASE_ENABLE (1UL << 11)

static volatile uint8_t *registers; /* xAPIC window, or null */
static bool x2apic;
/* Timer counts per TSC tick, 32.32 fixed point; 0 with TSC-deadline. */
static uint64_t counts_per_tsc;

static uint32_t apic_read(unsigned reg)
{
    if (x2apic)
        return (uint32_t)rdmsr(MSR_X2APIC + reg / 16);
    return *(volatile uint32_t *)(registers + reg);
}

static void apic_write(unsigned reg, uint32_t value)
{
    if (x2apic)
        wrmsr(MSR_X2APIC + reg / 16, value);
    else
        *(volatile uint32_t *)(registers + reg) = value;
}

bool apic_is_x2apic(void) { return x2apic; }
uint32_t apic_read_id(void) { return x2apic ? apic_read(APIC_ID) : apic_read(APIC_ID) >> 24; }
void apic_eoi(void) { apic_write(APIC_EOI, 0); }

/* --- Start --- */

/* The two 8259s are of no use, but after a reset they may still raise a spurious interrupt 7: vectors that are no
 * exceptions, then everything masked. */
static void mask_8259(void)
{
    static const struct {
        uint8_t port, value;
    } sequence[] = {
        /* clang-format off */
        {0x20, 0x11}, {0xa0, 0x11},                           /* ICW1: edge, cascade, ICW4 follows */
        {0x21, VECTOR_DEVICE_FIRST}, {0xa1, VECTOR_DEVICE_FIRST + 8}, /* ICW2: vectors */
        {0x21, 0x04}, {0xa1, 0x02},                           /* ICW3: the second one is on input 2 */
        {0x21, 0x01}, {0xa1, 0x01},                           /* ICW4: 8086 mode */
        {0x21, 0xff}, {0xa1, 0xff},                           /* OCW1: all masked */
        /* clang-format on */
    };

    for (unsigned i = 0; i < ARRAY_SIZE(sequence); i++)
        outb(sequence[i].port, sequence[i].value);
}

static bool needs_x2apic(void)
{
    for (unsigned i = 0; i < acpi_info.cpu_count; i++)
        if (acpi_info.cpus[i].enabled && acpi_info.cpus[i].apic_id > 254)
            return true;
    return false;
}

void apic_init_boot(void)
{
    uint64_t base = rdmsr(MSR_APIC_BASE);
    bool wanted = cpu_features.x2apic && (options.x2apic || needs_x2apic());
    maddr_t at = MADDR(base & 0x000ffffffffff000UL);

    mask_8259();
    x2apic = wanted || base & APIC_BASE_X2APIC;
    if (!x2apic) {
        if (acpi_info.lapic_address.n && acpi_info.lapic_address.n != at.n)
            log_warning("APIC: firmware says 0x%lx, the processor 0x%lx; using the latter\n", acpi_info.lapic_address.n,
                        at.n);
        registers = ioremap(at, PAGE_SIZE);
        if (!registers)
            panic("APIC: cannot map the local APIC at 0x%lx\n", at.n);
    }
    log_info("APIC: %s mode\n", x2apic ? "x2APIC" : "xAPIC");
}

static void enable_in_mode(void)
{
    uint64_t base = rdmsr(MSR_APIC_BASE) | APIC_BASE_ENABLE;

    wrmsr(MSR_APIC_BASE, base); /* x2APIC may only be entered from the enabled state */
    if (x2apic)
        wrmsr(MSR_APIC_BASE, base | APIC_BASE_X2APIC);
}

void apic_init_cpu(void)
{
    unsigned max_lvt;
    bool boot_cpu;

    enable_in_mode();
    boot_cpu = rdmsr(MSR_APIC_BASE) & APIC_BASE_BSP;
    max_lvt = apic_read(APIC_VERSION) >> 16 & 0xff;

    apic_write(APIC_SVR, SVR_ENABLE | VECTOR_SPURIOUS);
    apic_write(APIC_TPR, 0);
    apic_write(APIC_LVT_TIMER, LVT_MASKED | VECTOR_TIMER);
    apic_write(APIC_LVT_LINT0, LVT_MASKED);
    apic_write(APIC_LVT_LINT1, boot_cpu ? LVT_DELIVER_NMI : LVT_MASKED);
    if (max_lvt >= 4)
        apic_write(APIC_LVT_PERF, LVT_MASKED);
    if (max_lvt >= 5)
        apic_write(APIC_LVT_THERMAL, LVT_MASKED);
    if (max_lvt >= 6)
        apic_write(APIC_LVT_CMCI, LVT_MASKED);
    /* What firmware left in service would block everything of its priority and below for ever. */
    for (unsigned reg = 0; reg < 8; reg++)
        for (uint32_t bits = apic_read(APIC_ISR + 16 * reg); bits; bits &= bits - 1)
            apic_eoi();
    apic_write(APIC_ESR, 0);
    apic_write(APIC_LVT_ERROR, VECTOR_ERROR);
    if (cpu_features.tsc_deadline) {
        apic_write(APIC_LVT_TIMER, LVT_TIMER_DEADLINE | VECTOR_TIMER);
        smp_mb(); /* SDM 11.5.4.1: the mode must be set before the deadline is */
    } else {
        apic_write(APIC_TIMER_DIVIDE, DIVIDE_BY_1);
        apic_write(APIC_TIMER_INITIAL, 0);
        apic_write(APIC_LVT_TIMER, VECTOR_TIMER);
    }
}

bool apic_device_pending(void)
{
    for (unsigned reg = VECTOR_DEVICE_FIRST / 32; reg <= VECTOR_DEVICE_LAST / 32; reg++)
        if (apic_read(APIC_IRR + 16 * reg))
            return true;
    return false;
}

/* --- Interrupts to other CPUs --- */

static void wait_icr_idle(void)
{
    for (unsigned tries = 0; apic_read(APIC_ICR) & ICR_PENDING && tries < 1000000; tries++)
        cpu_relax();
}

static void send(uint32_t apic_id, uint32_t command)
{
    unsigned long flags;

    if (x2apic) {
        /* The MSR write does not order earlier stores, which the receiver is meant to see. */
        __asm__ volatile("mfence; lfence" ::: "memory");
        wrmsr(MSR_X2APIC + APIC_ICR / 16, (uint64_t)apic_id << 32 | command);
        return;
    }
    flags = irq_save(); /* an interrupt handler must not send between the two halves */
    wait_icr_idle();
    apic_write(APIC_ICR_HIGH, apic_id << 24);
    apic_write(APIC_ICR, command);
    irq_restore(flags);
}

void apic_send_ipi(uint32_t apic_id, uint8_t vector) { send(apic_id, ICR_ASSERT | vector); }
void apic_send_nmi(uint32_t apic_id) { send(apic_id, ICR_ASSERT | ICR_DELIVER_NMI); }
void apic_send_init(uint32_t apic_id) { send(apic_id, ICR_ASSERT | ICR_DELIVER_INIT); }
void apic_send_startup(uint32_t apic_id, uint8_t page) { send(apic_id, ICR_ASSERT | ICR_DELIVER_STARTUP | page); }

/* --- The timer --- */

void apic_timer_calibrate(void)
{
    uint64_t tsc_start, tsc_end, span = time_scale.tsc_khz * 10; /* 10 ms */
    uint32_t counted;
    unsigned long flags;

    if (cpu_features.tsc_deadline) {
        log_info("APIC: timer by TSC deadline\n");
        return;
    }
    flags = irq_save();
    apic_write(APIC_LVT_TIMER, LVT_MASKED | VECTOR_TIMER);
    apic_write(APIC_TIMER_DIVIDE, DIVIDE_BY_1);
    apic_write(APIC_TIMER_INITIAL, 0xffffffff);
    tsc_start = rdtsc();
    while (rdtsc() - tsc_start < span)
        cpu_relax();
    counted = 0xffffffff - apic_read(APIC_TIMER_CURRENT);
    tsc_end = rdtsc();
    apic_write(APIC_TIMER_INITIAL, 0);
    apic_write(APIC_LVT_TIMER, VECTOR_TIMER);
    irq_restore(flags);
    counts_per_tsc = ((uint64_t)counted << 32) / (tsc_end - tsc_start);
    if (!counts_per_tsc)
        panic("APIC: the local APIC's timer does not count\n");
    log_info("APIC: timer at %lu kHz\n", counts_per_tsc * time_scale.tsc_khz >> 32);
}

void apic_timer_arm(uint64_t tsc_deadline)
{
    uint64_t now_tsc, count = 1;

    if (cpu_features.tsc_deadline) {
        wrmsr(MSR_TSC_DEADLINE, tsc_deadline ? tsc_deadline : 1); /* 0 would disarm */
        return;
    }
    now_tsc = rdtsc();
    if (tsc_deadline > now_tsc) {
        unsigned __int128 counts = (unsigned __int128)(tsc_deadline - now_tsc) * counts_per_tsc >> 32;

        /* Far deadlines come as an early interrupt, after which the timer code arms again. */
        count = counts >= 0xffffffff ? 0xffffffff : (uint64_t)counts + 1;
    }
    apic_write(APIC_TIMER_INITIAL, (uint32_t)count);
}

void apic_timer_stop(void)
{
    if (cpu_features.tsc_deadline)
        wrmsr(MSR_TSC_DEADLINE, 0);
    else
        apic_write(APIC_TIMER_INITIAL, 0);
}
