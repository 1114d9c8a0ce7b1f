/*
 * How fast does the TSC count? Measured against the best reference there is, in the order HPET, ACPI PM timer, PIT.
 * Each end of the interval is taken as the tightest of several reads that have the reference between two TSC reads, so
 * that an emulator's or SMM's pause between them does not count.
 */
#include "platform/timers.h"

#include "boot/options.h"
#include "cpu/cpu.h"
#include "cpu/instr.h"
#include "lib/log.h"
#include "lib/spinlock.h"
#include "memory/map.h"
#include "platform/acpi.h"
#include "sched/time.h"

#define MEASURE_MS 20
#define SAMPLE_TRIES 8
#define FEMTOSECONDS_PER_MS 1000000000000UL
#define RATE_SHIFT 12 /* 20 ms of the fastest TSC times the fastest HPET stay below 2^63 */

/* HPET (IA-PC HPET specification 1.0a) */
#define HPET_CAPABILITIES 0x00 /* bit 13: 64-bit counter; bits 63-32: period in femtoseconds */
#define HPET_CONFIGURATION 0x10
#define HPET_COUNTER 0xf0
#define HPET_PERIOD_MAX 100000000U
#define HPET_ENABLE 1U

#define PM_TIMER_HZ 3579545UL

/* PIT (Intel 8254), channel 2, gated by port 0x61 */
#define PIT_HZ 1193182UL
#define PIT_CHANNEL2 0x42
#define PIT_COMMAND 0x43
#define PIT_CHANNEL2_MODE0 0xb0 /* channel 2, both bytes, mode 0 */
#define PIT_LATCH_CHANNEL2 0x80
#define PORT_61 0x61
#define PORT_61_GATE 0x01
#define PORT_61_SPEAKER 0x02
#define PORT_DELAY 0x80 /* an access takes about a microsecond */

static volatile uint8_t *hpet;
static uint32_t hpet_period;
static const char *platform_name = "none";

const char *timers_platform_name(void) { return platform_name; }

/* A counter to measure against: 'read' counts up and wraps at 'mask'; 'ticks_per_ms' is scaled by 2^RATE_SHIFT. */
struct reference {
    const char *name;
    uint64_t (*read)(void);
    uint64_t mask, ticks_per_ms;
};

static uint64_t hpet_read(void) { return *(volatile uint32_t *)(hpet + HPET_COUNTER); }
static uint64_t pm_timer_read(void) { return inl(acpi_info.pm_timer_port) & 0xffffff; }

static bool hpet_open(struct reference *r)
{
    if (options.hpet_off || !acpi_info.hpet.n)
        return false;
    if (!hpet)
        hpet = ioremap(acpi_info.hpet, PAGE_SIZE);
    if (!hpet)
        return false;
    hpet_period = (uint32_t)(*(volatile uint64_t *)(hpet + HPET_CAPABILITIES) >> 32);
    if (!hpet_period || hpet_period > HPET_PERIOD_MAX) {
        log_warning("HPET at 0x%lx has the impossible period %u fs; not used\n", acpi_info.hpet.n, hpet_period);
        return false;
    }
    *(volatile uint32_t *)(hpet + HPET_CONFIGURATION) |= HPET_ENABLE;
    *r = (struct reference){"HPET", hpet_read, 0xffffffff, (FEMTOSECONDS_PER_MS << RATE_SHIFT) / hpet_period};
    return true;
}

static bool pm_timer_open(struct reference *r)
{
    if (!acpi_info.pm_timer_port)
        return false;
    *r = (struct reference){"ACPI PM timer", pm_timer_read, 0xffffff, (PM_TIMER_HZ << RATE_SHIFT) / 1000};
    return true;
}

/* Counts down from the last value written, through zero and on; the latch command holds a value for the two reads. */
static uint64_t pit_read(void)
{
    uint64_t count;

    outb(PIT_COMMAND, PIT_LATCH_CHANNEL2);
    count = inb(PIT_CHANNEL2);
    count |= (uint64_t)inb(PIT_CHANNEL2) << 8;
    return 0xffff - count;
}

static bool pit_open(struct reference *r)
{
    outb(PORT_61, (uint8_t)((inb(PORT_61) & ~PORT_61_SPEAKER) | PORT_61_GATE));
    outb(PIT_COMMAND, PIT_CHANNEL2_MODE0);
    outb(PIT_CHANNEL2, 0xff);
    outb(PIT_CHANNEL2, 0xff); /* starts it */
    *r = (struct reference){"PIT", pit_read, 0xffff, (PIT_HZ << RATE_SHIFT) / 1000};
    return true;
}

struct sample {
    uint64_t tsc, count;
};

static struct sample take_sample(const struct reference *r)
{
    struct sample best = {0, 0};
    uint64_t best_gap = ~0UL;

    for (unsigned i = 0; i < SAMPLE_TRIES; i++) {
        uint64_t before = rdtsc(), count = r->read(), after = rdtsc();

        if (after - before < best_gap) {
            best_gap = after - before;
            best = (struct sample){before + (after - before) / 2, count};
        }
    }
    return best;
}

/* 0 if the counter stands still. */
static uint64_t measure_by(const struct reference *r)
{
    uint64_t target = r->ticks_per_ms * MEASURE_MS >> RATE_SHIFT, ticks;
    struct sample start = take_sample(r), end;
    uint64_t last = start.count;
    unsigned same = 0;

    for (;;) {
        uint64_t count = r->read();

        same = count == last ? same + 1 : 0;
        last = count;
        if (same > 100000)
            return 0;
        if (((count - start.count) & r->mask) >= target)
            break;
        cpu_relax();
    }
    end = take_sample(r);
    ticks = (end.count - start.count) & r->mask;
    /* kHz = TSC ticks per ms */
    return ticks ? (end.tsc - start.tsc) * r->ticks_per_ms / (ticks << RATE_SHIFT) : 0;
}

/* The processor's own word (SDM, CPUID leaves 0x15 and 0x16). */
static uint64_t khz_by_cpuid(void)
{
    struct cpuid_regs r;

    if (cpu_features.max_leaf >= 0x15) {
        r = cpuid(0x15, 0);
        if (r.a && r.b && r.c)
            return (uint64_t)r.c * r.b / r.a / 1000;
    }
    if (cpu_features.max_leaf >= 0x16) {
        r = cpuid(0x16, 0);
        if (r.a & 0xffff)
            return (r.a & 0xffffUL) * 1000;
    }
    return 0;
}

uint64_t timers_measure_tsc_khz(void)
{
    static bool (*const open[])(struct reference *) = {hpet_open, pm_timer_open, pit_open};
    unsigned long flags = irq_save();
    struct reference r;
    uint64_t khz = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(open) && !khz; i++) {
        if (!open[i](&r))
            continue;
        khz = measure_by(&r);
        if (khz)
            platform_name = r.name;
        else
            log_warning("%s does not count; not used\n", r.name);
    }
    if (!khz && (khz = khz_by_cpuid()) != 0)
        platform_name = "CPUID";
    irq_restore(flags);
    if (!khz) {
        khz = 1000000;
        log_warning("no timer to measure the TSC by: taking 1 GHz, so time runs wrong\n");
    }
    return khz;
}

void udelay(unsigned us)
{
    uint64_t span = time_scale.tsc_khz * us / 1000, start;

    if (!time_scale.tsc_khz) {
        while (us--)
            outb(PORT_DELAY, 0);
        return;
    }
    start = rdtsc();
    while (rdtsc() - start < span)
        cpu_relax();
}
