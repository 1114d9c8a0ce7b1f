/* sources: hypervisor/hvm/vlapic.c */
/* The local APIC of a guest's vcpu, on a fake clock with fake timers. Numbers are the manuals', not the module's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "domain/domain.h"
#include "hvm/hvm.h"
#include "sched/time.h"

enum { VCPUS = 20, TSC_BASE = 1000000 };
enum {
    ID = 0x20,
    VERSION = 0x30,
    TPR = 0x80,
    APR = 0x90,
    PPR = 0xa0,
    EOI = 0xb0,
    RRD = 0xc0,
    LDR = 0xd0,
    DFR = 0xe0,
    SVR = 0xf0,
    ISR = 0x100,
    TMR = 0x180,
    IRR = 0x200,
    ESR = 0x280,
    CMCI = 0x2f0,
    ICR = 0x300,
    ICR2 = 0x310,
    LVTT = 0x320,
    LVTTHERMAL = 0x330,
    LVTPC = 0x340,
    LINT0 = 0x350,
    LINT1 = 0x360,
    LVTERR = 0x370,
    TMICT = 0x380,
    TMCCT = 0x390,
    TDCR = 0x3e0,
    SELF_IPI = 0x3f0,
};
enum { MASKED = 1 << 16, PERIODIC = 1 << 17, DEADLINE = 1 << 18, ON = 0x1ff, DIVIDE_1 = 0xb };
enum { LOWEST = 1 << 8, SMI = 2 << 8, NMI = 4 << 8, INIT = 5 << 8, STARTUP = 6 << 8 };
enum { LOGICAL = 1 << 11, ASSERT = 1 << 14, LEVEL = 1 << 15, SELF = 1 << 18, ALL = 2 << 18, OTHERS = 3 << 18 };
#define EN (1UL << 11)
#define EXTD (1UL << 10)
#define X2APIC (0xfee00000UL | EN | EXTD)
#define XAPIC (0xfee00000UL | EN)
#define OFF 0xfee00000UL

struct time_scale time_scale;
static ns_t clock_now;
static struct domain dom;
static struct vcpu vcpus[VCPUS];
static struct hvm_vcpu hvms[VCPUS];
static unsigned notified[VCPUS], nmis[VCPUS], inits[VCPUS], startups[VCPUS], startup_page, timer_sets;

ns_t now(void) { return clock_now; }
void hvm_vcpu_notify(struct vcpu *v) { notified[v->id]++; }
void hvm_signal_nmi(struct vcpu *v) { nmis[v->id]++; }
void hvm_signal_init(struct vcpu *v) { inits[v->id]++; }
void hvm_signal_startup(struct vcpu *v, uint8_t vector)
{
    startups[v->id]++;
    startup_page = vector;
}

void timer_init(struct timer *t, void (*handler)(void *), void *arg, unsigned cpu)
{
    *t = (struct timer){.handler = handler, .arg = arg, .cpu = cpu};
}
void timer_set(struct timer *t, ns_t expires)
{
    assert_true(expires != NS_NEVER);
    t->expires = expires;
    t->armed = true;
    timer_sets++;
}
void timer_stop(struct timer *t) { t->armed = false; }
void timer_kill(struct timer *t) { t->armed = false; }
void timer_migrate(struct timer *t, unsigned cpu) { t->cpu = cpu; }

static struct vlapic *apic(unsigned i) { return &hvms[i].vlapic; }
static struct timer *timer(unsigned i) { return &hvms[i].vlapic.timer; }

static void fire(unsigned i)
{
    timer(i)->armed = false;
    timer(i)->handler(timer(i)->arg);
}

/* Time passes; timers fire in time. */
static void pass(ns_t t)
{
    ns_t end = clock_now + t;

    for (;;) {
        int next = -1;

        for (int i = 0; i < VCPUS; i++)
            if (timer(i)->armed && timer(i)->expires <= end && (next < 0 || timer(i)->expires < timer(next)->expires))
                next = i;
        if (next < 0)
            break;
        clock_now = max(clock_now, timer(next)->expires);
        fire(next);
    }
    clock_now = end;
}

static uint32_t rd(unsigned i, uint32_t offset) { return vlapic_read_mmio(&vcpus[i], offset); }
static void wr(unsigned i, uint32_t offset, uint32_t value) { vlapic_write_mmio(&vcpus[i], offset, value); }
static uint64_t rdm(unsigned i, uint32_t offset)
{
    uint64_t value = 0x123456789;

    assert_true(vlapic_read_msr(&vcpus[i], 0x800 + offset / 16, &value));
    return value;
}
static void wrm(unsigned i, uint32_t offset, uint64_t value)
{
    assert_true(vlapic_write_msr(&vcpus[i], 0x800 + offset / 16, value));
}
static bool wrm_faults(unsigned i, uint32_t offset, uint64_t value)
{
    return !vlapic_write_msr(&vcpus[i], 0x800 + offset / 16, value);
}
static void write_deadline(unsigned i, uint64_t tsc) { assert_true(vlapic_write_msr(&vcpus[i], 0x6e0, tsc)); }
static uint64_t read_deadline(unsigned i)
{
    uint64_t value = 1;

    assert_true(vlapic_read_msr(&vcpus[i], 0x6e0, &value));
    return value;
}
static void set_base(unsigned i, uint64_t value) { assert_true(vlapic_write_base(&vcpus[i], value)); }
static int pending(unsigned i) { return vlapic_pending(&vcpus[i]); }

/* The processor takes what is pending. */
static void take(unsigned i, int vector)
{
    assert_int_equal(pending(i), vector);
    vlapic_accept(&vcpus[i], (uint8_t)vector);
}
static void done(unsigned i)
{
    if (apic(i)->base & EXTD)
        wrm(i, EOI, 0);
    else
        wr(i, EOI, 0);
}
static void take_and_end(unsigned i, int vector)
{
    take(i, vector);
    done(i);
}
/* A vector is in IRR, whatever the priority. */
static bool requested(unsigned i, unsigned vector) { return apic(i)->irr[vector / 64] >> (vector % 64) & 1; }
/* Which vcpus have got it, as a bitmap; and it is taken back. */
static uint32_t who_got(unsigned vector)
{
    uint32_t who = 0;

    for (unsigned i = 0; i < VCPUS; i++) {
        who |= (uint32_t)requested(i, vector) << i;
        apic(i)->irr[vector / 64] &= ~(1UL << (vector % 64));
    }
    return who;
}
static uint32_t who_counted(unsigned *counts)
{
    uint32_t who = 0;

    for (unsigned i = 0; i < VCPUS; i++) {
        assert_true(counts[i] <= 1);
        who |= counts[i] << i;
        counts[i] = 0;
    }
    return who;
}

static void begin(uint32_t id_step)
{
    memset(hvms, 0, sizeof(hvms));
    memset(vcpus, 0, sizeof(vcpus));
    memset(&dom, 0, sizeof(dom));
    memset(notified, 0, sizeof(notified));
    memset(nmis, 0, sizeof(nmis));
    memset(inits, 0, sizeof(inits));
    memset(startups, 0, sizeof(startups));
    dom.vcpu_count = VCPUS;
    time_scale = (struct time_scale){.mul = 1U << 31, .shift = 1, .tsc_base = TSC_BASE}; /* a tick is a nanosecond */
    clock_now = 5000000;
    timer_sets = 0;
    for (unsigned i = 0; i < VCPUS; i++) {
        vcpus[i].id = i;
        vcpus[i].processor = i % 3;
        vcpus[i].domain = &dom;
        vcpus[i].hvm = &hvms[i];
        dom.vcpus[i] = &vcpus[i];
        vlapic_init(&vcpus[i], i * id_step);
    }
}

static int setup(void **state)
{
    begin(1);
    return 0;
}

static void enable_all(uint64_t base)
{
    for (unsigned i = 0; i < VCPUS; i++) {
        set_base(i, XAPIC);
        wr(i, SVR, ON);
        set_base(i, base);
    }
}

/* ---- Registers ---- */

static const struct reg {
    uint32_t offset, reset, bits, ones; /* bits that can be written; those that are always set */
    bool read, write, x2read, x2write, side_effect;
} regs[] = {
    {ID, 0, 0, 0, 1, 1, 1, 0, 0},
    {VERSION, 0x00050014, 0, 0x00050014, 1, 0, 1, 0, 0},
    {TPR, 0, 0xff, 0, 1, 1, 1, 1, 0},
    {APR, 0, 0, 0, 1, 0, 0, 0, 0},
    {PPR, 0, 0, 0, 1, 0, 1, 0, 0},
    {EOI, 0, 0, 0, 0, 1, 0, 1, 0},
    {RRD, 0, 0, 0, 1, 0, 0, 0, 0},
    {LDR, 0, 0xff000000, 0, 1, 1, 1, 0, 0},
    {DFR, 0xffffffff, 0xf0000000, 0x0fffffff, 1, 1, 0, 0, 0},
    {SVR, 0xff, 0x3ff, 0, 1, 1, 1, 1, 0},
    {ESR, 0, 0, 0, 1, 1, 1, 1, 0},
    {ICR, 0, 0xcdfff, 0, 1, 1, 1, 1, 1},
    {ICR2, 0, 0xff000000, 0, 1, 1, 0, 0, 0},
    {LVTT, 0x10000, 0x710ff, 0, 1, 1, 1, 1, 0},
    {LVTTHERMAL, 0x10000, 0x117ff, 0, 1, 1, 1, 1, 0},
    {LVTPC, 0x10000, 0x117ff, 0, 1, 1, 1, 1, 0},
    {LINT0, 0x10000, 0x1f7ff, 0, 1, 1, 1, 1, 0},
    {LINT1, 0x10000, 0x1f7ff, 0, 1, 1, 1, 1, 0},
    {LVTERR, 0x10000, 0x110ff, 0, 1, 1, 1, 1, 0},
    {TMICT, 0, 0xffffffff, 0, 1, 1, 1, 1, 0},
    {TMCCT, 0, 0, 0, 1, 0, 1, 0, 0},
    {TDCR, 0, 0xb, 0, 1, 1, 1, 1, 0},
    {SELF_IPI, 0, 0xff, 0, 0, 0, 0, 1, 1},
};

static const struct reg *reg_of(uint32_t offset)
{
    static const struct reg vectors = {.read = true, .x2read = true};

    if (offset >= ISR && offset < ESR)
        return &vectors;
    for (unsigned i = 0; i < ARRAY_SIZE(regs); i++)
        if (regs[i].offset == offset)
            return &regs[i];
    return NULL;
}

static bool is_lvt(uint32_t offset) { return offset >= LVTT && offset <= LVTERR; }

static void test_reset_values(void **state)
{
    assert_int_equal(apic(0)->base, 0xfee00900);
    assert_int_equal(apic(1)->base, 0xfee00800);
    for (uint32_t offset = 0; offset < 0x1000; offset += 16) {
        const struct reg *r = reg_of(offset);

        assert_int_equal(rd(1, offset), offset == ID ? 1U << 24 : r ? r->reset : 0);
    }
    assert_int_equal(vlapic_get_cr8(&vcpus[0]), 0);
    assert_int_equal(read_deadline(0), 0);
    assert_int_equal(pending(0), -1);
    assert_false(timer(0)->armed);
}

static void test_xapic_masks(void **state)
{
    wr(3, SVR, 0x3ff);
    for (uint32_t offset = 0; offset < 0x1000; offset += 16) {
        const struct reg *r = reg_of(offset);
        uint32_t before = rd(3, offset), read_only = 0x1000 | (offset == LINT0 || offset == LINT1 ? 0x4000 : 0);

        if (r && r->side_effect)
            continue;
        wr(3, offset, ~0U);
        if (!r || !r->write || offset == ID || offset == EOI || offset == ESR) {
            if (offset != ESR)
                assert_int_equal(rd(3, offset), before);
            continue;
        }
        assert_int_equal(rd(3, offset), (r->bits & ~(is_lvt(offset) ? read_only : 0)) | r->ones);
        wr(3, offset, 0);
        assert_int_equal(rd(3, offset), r->ones);
        wr(3, SVR, 0x3ff);
        wr(3, LVTERR, MASKED);
    }
    wr(3, ICR2, ~0U);
    wr(3, ICR, 0xfff33000 | SMI); /* reserved bits, the read-only ones, a mode without effect */
    assert_int_equal(rd(3, ICR), SMI);
    assert_int_equal(rd(3, ICR2), 0xff000000);
}

static void test_mmio_between_registers(void **state)
{
    for (uint32_t offset = 0; offset < 0x1000; offset++) {
        if (offset % 16 == 0)
            continue;
        wr(0, offset, ~0U);
        assert_int_equal(rd(0, offset), 0);
    }
    wr(0, ESR, 0);
    assert_int_equal(rd(0, ESR), 0);
    for (uint32_t offset = 0; offset < 0x1000; offset += 16)
        assert_int_equal(rd(0, offset), reg_of(offset) ? reg_of(offset)->reset : 0);
    for (unsigned i = 0; i < 3; i++) /* far outside of the page: nothing bad */
        assert_int_equal(rd(0, (uint32_t[]){0x1000, 0xfffffff0, 0x80000020}[i]), 0);
}

static void test_x2apic_registers(void **state)
{
    set_base(2, X2APIC);
    wrm(2, SVR, 0x1ff);
    for (uint32_t msr = 0x800; msr < 0x900; msr++) {
        uint32_t offset = (msr - 0x800) * 16;
        const struct reg *r = reg_of(offset);
        uint64_t value;

        assert_int_equal(vlapic_read_msr(&vcpus[2], msr, &value), r && r->x2read);
        if (!r || !r->x2write) {
            assert_false(vlapic_write_msr(&vcpus[2], msr, 0));
            continue;
        }
        if (offset == ICR)
            continue;
        for (unsigned bit = 0; bit < 64; bit++)
            assert_int_equal(vlapic_write_msr(&vcpus[2], msr, 1UL << bit), r->bits >> (bit & 31) & (bit < 32));
    }
    assert_true(wrm_faults(2, LVTT, PERIODIC | DEADLINE));
    for (unsigned bit = 0; bit < 32; bit++) /* of ICR, with a mode that has no effect */
        assert_int_equal(wrm_faults(2, ICR, SMI | 1UL << bit), !((0xcdfffU | SMI) >> bit & 1));
    assert_int_equal(rdm(2, ID), 2);
    wrm(2, ICR, 0x1234567800000000 | SMI | 0x1000);
    assert_int_equal(rdm(2, ICR), 0x1234567800000000 | SMI);
    assert_false(vlapic_write_msr(&vcpus[2], 0x7ff, 0));
    assert_false(vlapic_write_msr(&vcpus[2], 0x900, 0));
    assert_false(vlapic_write_msr(&vcpus[2], ~0U, 0));
}

static void test_x2apic_reset_values(void **state)
{
    begin(2);
    set_base(9, X2APIC);
    for (unsigned i = 0; i < ARRAY_SIZE(regs); i++)
        if (regs[i].x2read && regs[i].offset != ID && regs[i].offset != LDR)
            assert_int_equal(rdm(9, regs[i].offset), regs[i].reset);
    assert_int_equal(rdm(9, ID), 18);
    assert_int_equal(rdm(9, LDR), 0x00010004);
}

static void test_msrs_in_other_modes(void **state)
{
    for (unsigned pass = 0; pass < 2; pass++) {
        for (uint32_t msr = 0x800; msr < 0x900; msr++) {
            uint64_t value;

            assert_false(vlapic_read_msr(&vcpus[0], msr, &value));
            assert_false(vlapic_write_msr(&vcpus[0], msr, 0));
        }
        assert_int_equal(read_deadline(0), 0);
        write_deadline(0, 1);
        assert_int_equal(read_deadline(0), 0);
        set_base(0, OFF);
    }
}

/* ---- IA32_APIC_BASE ---- */

static void test_mode_changes(void **state)
{
    static const uint64_t modes[] = {OFF, XAPIC, X2APIC, OFF | EXTD};
    static const bool allowed[3][4] = {{1, 1, 0, 0}, {1, 1, 1, 0}, {1, 0, 1, 0}};

    for (unsigned from = 0; from < 3; from++) {
        for (unsigned to = 0; to < 4; to++) {
            begin(1);
            set_base(0, modes[from ? 1 : 0]);
            set_base(0, modes[from]);
            assert_int_equal(vlapic_write_base(&vcpus[0], modes[to]), allowed[from][to]);
            assert_int_equal(apic(0)->base, modes[allowed[from][to] ? to : from] | 0x100);
            assert_int_equal(vlapic_has_page(&vcpus[0]), (allowed[from][to] ? to : from) == 1);
        }
    }
}

static void test_base_bits(void **state)
{
    for (unsigned bit = 0; bit < 64; bit++) {
        bool free = bit == 8 || bit == 10 || bit == 11;

        if (!free)
            assert_false(vlapic_write_base(&vcpus[0], XAPIC ^ 1UL << bit));
    }
    set_base(0, XAPIC); /* without BSP: it stays */
    assert_int_equal(apic(0)->base, XAPIC | 0x100);
    set_base(1, XAPIC | 0x100);
    assert_int_equal(apic(1)->base, XAPIC);
}

static void test_switching_off_forgets(void **state)
{
    wr(0, SVR, ON);
    wr(0, TPR, 0x20);
    wr(0, LVTT, PERIODIC | 0x55);
    wr(0, TMICT, 100000);
    vlapic_set_irq(&vcpus[0], 0x31);
    set_base(0, X2APIC); /* all of it stays */
    assert_int_equal(rdm(0, TPR), 0x20);
    assert_int_equal(rdm(0, SVR), ON);
    assert_int_equal(rdm(0, LVTT), PERIODIC | 0x55);
    assert_int_equal(pending(0), 0x31);
    set_base(0, OFF);
    assert_int_equal(pending(0), -1);
    assert_false(timer(0)->armed);
    vlapic_set_irq(&vcpus[0], 0x32);
    apic(0)->irr[1] |= 1; /* one that was under way */
    assert_int_equal(pending(0), -1);
    set_base(0, XAPIC);
    assert_int_equal(pending(0), -1);
    test_reset_values(state);
}

/* ---- Priorities ---- */

static void test_priorities(void **state)
{
    wr(0, SVR, ON);
    vlapic_set_irq(&vcpus[0], 0x41);
    vlapic_set_irq(&vcpus[0], 0x45);
    vlapic_set_irq(&vcpus[0], 0x31);
    vlapic_set_irq(&vcpus[0], 0x45);
    assert_int_equal(notified[0], 3);
    assert_int_equal(rd(0, IRR + 0x20), 1U << 5 | 1U << 1);
    assert_int_equal(rd(0, IRR + 0x10), 1U << 17);
    assert_int_equal(rd(0, APR), 0x40);
    take(0, 0x45);
    assert_int_equal(rd(0, PPR), 0x40);
    assert_int_equal(rd(0, ISR + 0x20), 1U << 5);
    assert_int_equal(pending(0), -1); /* 0x41 is of the same class */
    vlapic_set_irq(&vcpus[0], 0x50);
    take(0, 0x50);
    vlapic_set_irq(&vcpus[0], 0x45); /* again, while it is in service */
    assert_int_equal(rd(0, PPR), 0x50);
    assert_int_equal(pending(0), -1);
    wr(0, EOI, 0x1234); /* any value */
    assert_int_equal(rd(0, PPR), 0x40);
    assert_int_equal(rd(0, ISR + 0x20), 1U << 5);
    assert_int_equal(pending(0), -1);
    done(0);
    assert_int_equal(rd(0, PPR), 0);
    take_and_end(0, 0x45);
    take_and_end(0, 0x41);
    take_and_end(0, 0x31);
    assert_int_equal(pending(0), -1);
    vlapic_accept(&vcpus[0], 0x61);
    vlapic_accept(&vcpus[0], 0x51); /* whatever the order is in which they are taken */
    assert_int_equal(rd(0, PPR), 0x60);
    done(0);
    assert_int_equal(rd(0, PPR), 0x50);
    done(0);
    done(0); /* nothing is in service */
    assert_int_equal(rd(0, PPR), 0);
}

static void test_tpr(void **state)
{
    wr(0, SVR, ON);
    vlapic_set_irq(&vcpus[0], 0x41);
    wr(0, TPR, 0x40);
    assert_int_equal(pending(0), -1);
    assert_true(vlapic_held_by_tpr(&vcpus[0]));
    assert_int_equal(vlapic_get_cr8(&vcpus[0]), 4);
    wr(0, TPR, 0x3f);
    assert_false(vlapic_held_by_tpr(&vcpus[0]));
    assert_int_equal(rd(0, PPR), 0x3f);
    take(0, 0x41);
    vlapic_set_irq(&vcpus[0], 0x42);
    assert_false(vlapic_held_by_tpr(&vcpus[0])); /* by what is in service */
    wr(0, TPR, 0x50);
    assert_false(vlapic_held_by_tpr(&vcpus[0]));
    vlapic_set_irq(&vcpus[0], 0x51);
    assert_true(vlapic_held_by_tpr(&vcpus[0]));
    wr(0, TPR, 0);
    take_and_end(0, 0x51);
    done(0);
    take_and_end(0, 0x42);
    vlapic_set_irq(&vcpus[0], 0x41);
    wr(0, TPR, 0x3f);
    take(0, 0x41);
    assert_int_equal(rd(0, PPR), 0x40);
    wr(0, TPR, 0x43);
    assert_int_equal(rd(0, PPR), 0x43);
    wr(0, TPR, 0x5a);
    assert_int_equal(rd(0, PPR), 0x5a);
    done(0);
    vlapic_set_cr8(&vcpus[0], 3);
    assert_int_equal(rd(0, TPR), 0x30);
    vlapic_set_cr8(&vcpus[0], ~0U);
    assert_int_equal(rd(0, TPR), 0xf0);
    vlapic_set_irq(&vcpus[0], 0xff);
    assert_int_equal(pending(0), -1);
    vlapic_set_cr8(&vcpus[0], 0xe);
    take_and_end(0, 0xff);
    vlapic_set_irq(&vcpus[0], 0x10);
    vlapic_set_cr8(&vcpus[0], 1);
    assert_int_equal(pending(0), -1);
    vlapic_set_cr8(&vcpus[0], 0);
    take_and_end(0, 0x10);
}

static void test_all_vectors(void **state)
{
    wr(0, SVR, ON);
    for (unsigned vector = 16; vector < 256; vector++)
        vlapic_set_irq(&vcpus[0], (uint8_t)vector);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(rd(0, IRR + 16 * i), i ? ~0U : 0xffff0000);
        assert_int_equal(rd(0, TMR + 16 * i), 0);
    }
    for (int vector = 255; vector >= 16; vector--)
        take_and_end(0, vector);
    assert_int_equal(pending(0), -1);
}

/* ---- Destinations ---- */

static void ipi(unsigned from, uint32_t icr, uint32_t destination)
{
    if (apic(from)->base & EXTD) {
        wrm(from, ICR, (uint64_t)destination << 32 | icr);
        return;
    }
    wr(from, ICR2, destination << 24);
    wr(from, ICR, icr);
}

static const uint32_t everyone = (1U << VCPUS) - 1;

static void test_physical(void **state)
{
    static const uint64_t bases[] = {XAPIC, X2APIC};

    for (unsigned step = 1; step <= 3; step++) {
        for (unsigned m = 0; m < 2; m++) {
            begin(step);
            enable_all(bases[m]);
            for (uint32_t id = 0; id < 80; id++) {
                ipi(1, 0x40, id);
                assert_int_equal(who_got(0x40), id % step || id / step >= VCPUS ? 0 : 1U << id / step);
            }
            ipi(1, 0x41, bases[m] == XAPIC ? 0xff : 0xffffffff);
            assert_int_equal(who_got(0x41), everyone);
            ipi(1, 0x41, bases[m] == XAPIC ? 0xfe : 0xff);
            assert_int_equal(who_got(0x41), 0);
        }
    }
}

/* Ids of more than 8 bits: xAPIC mode has the low byte. */
static void test_long_ids(void **state)
{
    begin(33);
    enable_all(XAPIC);
    assert_int_equal(rd(8, ID), 8U << 24);
    ipi(0, 0x40, 8);
    assert_int_equal(who_got(0x40), 1U << 8);
    set_base(8, X2APIC);
    assert_int_equal(rdm(8, ID), 264);
    ipi(0, 0x40, 8);
    assert_int_equal(who_got(0x40), 0);
    ipi(8, 0x40, 264);
    assert_int_equal(who_got(0x40), 1U << 8);
}

static void test_shorthands(void **state)
{
    static const uint64_t bases[] = {XAPIC, X2APIC};

    for (unsigned m = 0; m < 2; m++) {
        begin(1);
        enable_all(bases[m]);
        ipi(2, SELF | 0x40, 7);
        assert_int_equal(who_got(0x40), 1U << 2);
        ipi(2, ALL | 0x40, 7);
        assert_int_equal(who_got(0x40), everyone);
        ipi(2, OTHERS | LOGICAL | 0x40, 7);
        assert_int_equal(who_got(0x40), everyone & ~(1U << 2));
        ipi(2, OTHERS | NMI, 7);
        assert_int_equal(who_counted(nmis), everyone & ~(1U << 2));
    }
    wrm(2, SELF_IPI, 0x77);
    assert_int_equal(who_got(0x77), 1U << 2);
    assert_int_equal(rdm(2, ICR), 7UL << 32 | OTHERS | NMI);
}

static void test_logical_flat(void **state)
{
    enable_all(XAPIC);
    for (unsigned i = 0; i < 8; i++)
        wr(i, LDR, 1U << (24 + i));
    wr(8, LDR, 0x81U << 24);
    ipi(9, LOGICAL | 0x40, 0x21);
    assert_int_equal(who_got(0x40), 1U << 5 | 1 | 1U << 8);
    ipi(9, LOGICAL | 0x40, 0);
    assert_int_equal(who_got(0x40), 0);
    ipi(9, LOGICAL | 0x40, 0xff);
    assert_int_equal(who_got(0x40), everyone);
    wr(5, DFR, 0x10000000); /* no model at all */
    ipi(9, LOGICAL | 0x40, 0x20);
    assert_int_equal(who_got(0x40), 0);
}

static void test_logical_cluster(void **state)
{
    enable_all(XAPIC);
    for (unsigned i = 0; i < VCPUS; i++) {
        wr(i, DFR, 0);
        wr(i, LDR, (i / 4) << 28 | 1U << (24 + i % 4));
    }
    ipi(9, LOGICAL | 0x40, 0x23);
    assert_int_equal(who_got(0x40), 1U << 8 | 1U << 9);
    ipi(9, LOGICAL | 0x40, 0xf4); /* of all clusters */
    assert_int_equal(who_got(0x40), 0x44444);
    ipi(9, LOGICAL | 0x40, 0xff);
    assert_int_equal(who_got(0x40), everyone);
    ipi(9, LOGICAL | 0x40, 0x20);
    assert_int_equal(who_got(0x40), 0);
}

static void test_logical_x2apic(void **state)
{
    enable_all(X2APIC);
    assert_int_equal(rdm(17, LDR), 0x00010002);
    ipi(0, LOGICAL | 0x40, 0x0000000a);
    assert_int_equal(who_got(0x40), 1U << 1 | 1U << 3);
    ipi(0, LOGICAL | 0x40, 0x0001000f);
    assert_int_equal(who_got(0x40), 0xf0000);
    ipi(0, LOGICAL | 0x40, 0x00020001);
    assert_int_equal(who_got(0x40), 0);
    ipi(0, LOGICAL | 0x40, 0x00010000);
    assert_int_equal(who_got(0x40), 0);
    ipi(0, LOGICAL | 0x40, 0xffffffff);
    assert_int_equal(who_got(0x40), everyone);
}

/* While the processors change to x2APIC mode one after the other */
static void test_mixed_modes(void **state)
{
    enable_all(XAPIC);
    set_base(1, X2APIC);
    set_base(3, X2APIC);
    for (unsigned from = 0; from < 2; from++) {
        for (unsigned to = 0; to < VCPUS; to++) {
            ipi(from, 0x40, to);
            assert_int_equal(who_got(0x40), 1U << to);
        }
        ipi(from, 0x40, from ? 0xffffffff : 0xff);
        assert_int_equal(who_got(0x40), everyone);
    }
    wr(2, LDR, 0x10U << 24);
    ipi(1, LOGICAL | 0x40, 0x10);
    assert_int_equal(who_got(0x40), 1U << 2);
    ipi(1, LOGICAL | 0x40, 0x110);
    assert_int_equal(who_got(0x40), 0);
    ipi(1, LOGICAL | 0x40, 0x8);
    assert_int_equal(who_got(0x40), 1U << 3);
}

static void test_lowest_priority(void **state)
{
    enable_all(X2APIC);
    ipi(0, LOGICAL | LOWEST | 0x40, 0x6);
    assert_int_equal(who_got(0x40), 1U << 1);
    wrm(1, TPR, 0x10);
    ipi(0, LOGICAL | LOWEST | 0x40, 0x6);
    assert_int_equal(who_got(0x40), 1U << 2);
    vlapic_set_irq(&vcpus[2], 0x20);
    take(2, 0x20);
    ipi(0, LOGICAL | LOWEST | 0x40, 0x6);
    assert_int_equal(who_got(0x40), 1U << 1);
    wrm(1, SVR, 0xff);
    ipi(0, LOGICAL | LOWEST | 0x40, 0x6);
    assert_int_equal(who_got(0x40), 1U << 2);
    wrm(2, SVR, 0xff);
    ipi(0, LOGICAL | LOWEST | 0x40, 0x6);
    assert_int_equal(who_got(0x40), 0);
    ipi(0, LOWEST | 0x40, 5); /* to one anyway */
    assert_int_equal(who_got(0x40), 1U << 5);
    for (unsigned i = 0; i < VCPUS - 1; i++)
        wrm(i, TPR, 0x80);
    ipi(0, LOWEST | 0x40, 0xffffffff);
    assert_int_equal(who_got(0x40), 1U << (VCPUS - 1));
    ipi(0, LOWEST | OTHERS | 0x40, 0);
    assert_int_equal(who_got(0x40), 1U << (VCPUS - 1));
}

/* Which of them take part */
static void test_those_that_are_off(void **state)
{
    for (unsigned i = 0; i < 3; i++) {
        wr(i, SVR, ON);
        set_base(i, X2APIC);
    }
    set_base(5, OFF);
    vcpus[6].hvm = NULL; /* not there yet */
    dom.vcpus[7] = NULL;
    ipi(0, 0x40, 0xffffffff);
    assert_int_equal(who_got(0x40), 7);
    ipi(0, NMI, 0xffffffff);
    assert_int_equal(who_counted(nmis), everyone & ~(7U << 5));
    for (uint32_t id = 3; id < 9; id++) {
        ipi(0, 0x40, id);
        ipi(0, NMI, id);
        ipi(0, ASSERT | INIT, id);
        ipi(0, ASSERT | STARTUP | 0x99, id);
    }
    assert_int_equal(who_got(0x40), 0);
    assert_int_equal(who_counted(nmis), 3U << 3 | 1U << 8);
    assert_int_equal(who_counted(inits), 3U << 3 | 1U << 8);
    assert_int_equal(who_counted(startups), 3U << 3 | 1U << 8);
}

/* ---- Other modes of delivery ---- */

static void test_signals(void **state)
{
    enable_all(XAPIC);
    ipi(0, INIT | LEVEL | ASSERT, 3);
    assert_int_equal(who_counted(inits), 1U << 3);
    ipi(0, INIT | LEVEL, 3); /* de-assertion */
    ipi(0, INIT | LEVEL | ALL, 0);
    assert_int_equal(who_counted(inits), 0);
    ipi(0, INIT | ASSERT, 3);
    assert_int_equal(who_counted(inits), 1U << 3);
    ipi(0, INIT, 3);
    assert_int_equal(who_counted(inits), 1U << 3);
    ipi(0, STARTUP | 0x9a, 3);
    assert_int_equal(startup_page, 0x9a);
    assert_int_equal(who_counted(startups), 1U << 3);
    ipi(0, STARTUP | 0, 4);
    assert_int_equal(startup_page, 0);
    assert_int_equal(who_counted(startups), 1U << 4);
    ipi(0, STARTUP | OTHERS | 0x12, 0);
    assert_int_equal(who_counted(startups), everyone & ~1U);
    ipi(0, NMI | 2, 3); /* the vector has no meaning */
    assert_int_equal(who_counted(nmis), 1U << 3);
    ipi(0, NMI | SELF, 0);
    assert_int_equal(who_counted(nmis), 1);
    ipi(0, SMI | ALL, 0);
    ipi(0, 3 << 8 | ALL | 0x40, 0);
    ipi(0, 7 << 8 | ALL | 0x40, 0);
    assert_int_equal(who_got(0x40), 0);
    assert_int_equal(who_counted(nmis) | who_counted(inits) | who_counted(startups), 0);
    wr(0, ESR, 0);
    assert_int_equal(rd(0, ESR), 0);
    assert_int_equal(notified[0], 0);
}

/* ---- Errors ---- */

static void test_esr(void **state)
{
    wr(0, SVR, ON);
    wr(0, LVTERR, 0xfe);
    ipi(0, 15, 1);
    assert_int_equal(rd(0, ESR), 0); /* until it is written */
    take_and_end(0, 0xfe);
    ipi(0, LOWEST | 0, 1); /* the same once more: no interrupt */
    assert_int_equal(pending(0), -1);
    wr(0, ESR, ~0U);
    assert_int_equal(rd(0, ESR), 1U << 5);
    assert_int_equal(rd(0, ESR), 1U << 5);
    wr(0, ESR, 0);
    assert_int_equal(rd(0, ESR), 0);
    ipi(0, SELF | 3, 0);
    take_and_end(0, 0xfe); /* armed anew */

    vlapic_set_irq(&vcpus[0], 5);
    assert_int_equal(notified[0], 1);
    take_and_end(0, 0xfe);
    rd(0, 0x3f0);
    take_and_end(0, 0xfe);
    wr(0, CMCI, 0);
    wr(0, 0x400, 0);
    assert_int_equal(pending(0), -1);
    wr(0, ESR, 0);
    assert_int_equal(rd(0, ESR), 1U << 5 | 1U << 6 | 1U << 7);
    assert_int_equal(who_got(3) | who_got(5) | who_got(15), 0);

    wr(0, ESR, 0);
    wr(0, LVTERR, MASKED | 0xfe);
    ipi(0, SELF | 3, 0);
    assert_int_equal(pending(0), -1);
    wr(0, ESR, 0);
    wr(0, LVTERR, 0x0f); /* not a vector for an error either */
    ipi(0, SELF | 3, 0);
    assert_int_equal(pending(0), -1);
    wr(0, ESR, 0);
    assert_int_equal(rd(0, ESR), 1U << 5 | 1U << 6);
}

static void test_esr_x2apic(void **state)
{
    enable_all(X2APIC);
    wrm(0, SELF_IPI, 15);
    assert_true(wrm_faults(0, ESR, 1));
    assert_int_equal(rdm(0, ESR), 0);
    wrm(0, ESR, 0);
    assert_int_equal(rdm(0, ESR), 1U << 5);
    assert_int_equal(pending(0), -1);
    assert_true(wrm_faults(0, SELF_IPI, 0x140));
    assert_true(wrm_faults(0, EOI, 1));
}

/* ---- Software disable ---- */

static void test_software_disable(void **state)
{
    wr(0, SVR, ON);
    for (uint32_t offset = LVTT; offset <= LVTERR; offset += 16)
        wr(0, offset, 0x55);
    wr(0, LVTT, PERIODIC | 0x55);
    wr(0, TMICT, 100000);
    vlapic_set_irq(&vcpus[0], 0x66);
    assert_true(timer(0)->armed);
    wr(0, SVR, 0x7f);
    assert_false(timer(0)->armed);
    for (uint32_t offset = LVTT; offset <= LVTERR; offset += 16) {
        assert_int_equal(rd(0, offset), MASKED | 0x55 | (offset == LVTT ? PERIODIC : 0));
        wr(0, offset, 0x56); /* they cannot be unmasked */
        assert_int_equal(rd(0, offset), MASKED | 0x56);
    }
    notified[0] = 0;
    vlapic_set_irq(&vcpus[0], 0x67);
    vlapic_set_irq(&vcpus[0], 0x3);
    ipi(0, SELF | 0x68, 0);
    pass(1000000);
    assert_int_equal(notified[0], 0);
    take_and_end(0, 0x66); /* was there before */
    assert_int_equal(pending(0), -1);
    ipi(0, 0x40, 1); /* it can send, to those that listen */
    ipi(0, NMI, 1);
    assert_int_equal(who_got(0x40), 0);
    wr(1, SVR, ON);
    ipi(0, 0x40, 1);
    assert_int_equal(who_got(0x40), 2);
    assert_int_equal(who_counted(nmis), 2);
    wr(0, SVR, ON);
    assert_int_equal(rd(0, LVTT), MASKED | 0x56); /* stay masked */
    wr(0, ESR, 0);
    assert_int_equal(rd(0, ESR), 0);
}

/* ---- Timer ---- */

static void test_one_shot(void **state)
{
    wr(0, SVR, ON);
    wr(0, TDCR, DIVIDE_1);
    wr(0, LVTT, 0x80);
    wr(0, TMICT, 1000); /* 10 us */
    assert_int_equal(rd(0, TMCCT), 1000);
    pass(2500);
    assert_int_equal(rd(0, TMCCT), 750);
    pass(1);
    assert_int_equal(rd(0, TMCCT), 750);
    pass(7498);
    assert_int_equal(rd(0, TMCCT), 1);
    assert_int_equal(pending(0), -1);
    assert_int_equal(notified[0], 0);
    pass(1);
    assert_int_equal(notified[0], 1);
    assert_int_equal(rd(0, TMCCT), 0);
    assert_int_equal(rd(0, TMICT), 1000);
    take_and_end(0, 0x80);
    pass(1000000);
    assert_int_equal(pending(0), -1);
    wr(0, TMICT, 1000); /* and again; then moved; then stopped */
    pass(9000);
    wr(0, TMICT, 1000);
    pass(9000);
    assert_int_equal(pending(0), -1);
    wr(0, TMICT, 0);
    assert_false(timer(0)->armed);
    assert_int_equal(rd(0, TMCCT), 0);
    pass(9000);
    assert_int_equal(pending(0), -1);
    wr(0, TDCR, 0xa);
    wr(0, TMICT, ~0U); /* the longest of all: 5,498 seconds */
    pass(SECONDS(5497));
    assert_int_equal(pending(0), -1);
    pass(SECONDS(2));
    take_and_end(0, 0x80);
}

static void test_divide(void **state)
{
    static const unsigned divisors[] = {[0] = 2, [1] = 4, [2] = 8, [3] = 16, [8] = 32, [9] = 64, [10] = 128, [11] = 1};

    wr(0, SVR, ON);
    wr(0, LVTT, 0x80);
    for (unsigned i = 0; i < ARRAY_SIZE(divisors); i++) {
        if (!divisors[i])
            continue;
        wr(0, TDCR, i);
        wr(0, TMICT, 100);
        pass(1000UL * divisors[i] - 1);
        assert_int_equal(pending(0), -1);
        pass(1);
        take_and_end(0, 0x80);
    }
    wr(0, TDCR, DIVIDE_1); /* changed under way: the count goes on */
    wr(0, TMICT, 100);
    pass(500);
    wr(0, TDCR, 0);
    assert_int_equal(rd(0, TMCCT), 50);
    pass(999);
    assert_int_equal(pending(0), -1);
    pass(1);
    take_and_end(0, 0x80);
    wr(0, TDCR, 1); /* nothing runs */
    pass(1000000);
    assert_int_equal(pending(0), -1);
}

static void test_masked(void **state)
{
    wr(0, SVR, ON);
    wr(0, TDCR, DIVIDE_1);
    wr(0, LVTT, MASKED | 0x80);
    wr(0, TMICT, 1000);
    assert_false(timer(0)->armed); /* no need */
    pass(4000);
    assert_int_equal(rd(0, TMCCT), 600);
    wr(0, LVTT, 0x80); /* in time */
    pass(5999);
    assert_int_equal(pending(0), -1);
    pass(1);
    take_and_end(0, 0x80);
    wr(0, LVTT, MASKED | 0x80);
    wr(0, TMICT, 1000);
    pass(10000);
    wr(0, LVTT, 0x80); /* too late: it is lost */
    assert_int_equal(rd(0, TMCCT), 0);
    pass(100000);
    assert_int_equal(pending(0), -1);
    wr(0, LVTT, MASKED | PERIODIC | 0x80);
    wr(0, TMICT, 10000);
    pass(250000);
    assert_int_equal(rd(0, TMCCT), 5000);
    wr(0, LVTT, PERIODIC | 0x81);
    pass(49999);
    assert_int_equal(pending(0), -1);
    pass(1);
    take_and_end(0, 0x81);
}

static void test_periodic(void **state)
{
    wr(0, SVR, ON);
    wr(0, TDCR, DIVIDE_1);
    wr(0, LVTT, PERIODIC | 0x80);
    wr(0, TMICT, 10000);
    for (unsigned i = 0; i < 10; i++) {
        pass(99999);
        assert_int_equal(pending(0), -1);
        assert_int_equal(rd(0, TMCCT), 1);
        pass(1);
        assert_int_equal(rd(0, TMCCT), 10000);
        take_and_end(0, 0x80);
    }
    clock_now += 550000; /* the host is late */
    assert_int_equal(rd(0, TMCCT), 5000);
    take_and_end(0, 0x80);
    fire(0); /* finds nothing to do */
    assert_int_equal(pending(0), -1);
    assert_int_equal(notified[0], 10);
    assert_int_equal(timer(0)->expires, clock_now + 50000);
    wr(0, LVTT, 0x82); /* the last one */
    pass(50000);
    take_and_end(0, 0x82);
    pass(1000000);
    assert_int_equal(pending(0), -1);
}

static void test_shortest_period(void **state)
{
    unsigned before;

    wr(0, SVR, ON);
    wr(0, TDCR, DIVIDE_1);
    wr(0, LVTT, PERIODIC | 0x80);
    wr(0, TMICT, 1);
    before = timer_sets;
    pass(1000000);
    assert_in_range(timer_sets - before, 19, 21);
    take_and_end(0, 0x80);
    pass(1);
    assert_int_equal(rd(0, TMCCT), 1); /* not more than the initial count */
    wr(0, LVTT, 0x80);                 /* one-shot: as short as it likes */
    wr(0, TMICT, 1);
    pass(10);
    take_and_end(0, 0x80);
    wr(0, TMICT, 100);
    wr(0, LVTT, PERIODIC | 0x80); /* made periodic under way */
    pass(1000);
    take_and_end(0, 0x80);
    pass(49999);
    assert_int_equal(pending(0), -1);
    pass(1);
    take_and_end(0, 0x80);
}

static uint64_t tsc_in(ns_t t) { return TSC_BASE + clock_now + t; }

static void test_deadline(void **state)
{
    wr(0, SVR, ON);
    write_deadline(0, tsc_in(100)); /* not in this mode */
    assert_int_equal(read_deadline(0), 0);
    wr(0, LVTT, DEADLINE | 0x90);
    write_deadline(0, tsc_in(1000));
    assert_int_equal(read_deadline(0), tsc_in(1000));
    wr(0, TMICT, 5); /* nor this in that one */
    assert_int_equal(rd(0, TMICT), 0);
    assert_int_equal(rd(0, TMCCT), 0);
    wr(0, TDCR, DIVIDE_1);
    pass(999);
    assert_int_equal(pending(0), -1);
    pass(1);
    assert_int_equal(notified[0], 1);
    assert_int_equal(read_deadline(0), 0);
    take_and_end(0, 0x90);
    timer_sets = 0;
    for (unsigned i = 0; i < 4; i++) { /* the past: at once, and without the host's timer */
        write_deadline(0, (uint64_t[]){tsc_in(0), tsc_in(0) - 1, 1, TSC_BASE}[i]);
        assert_int_equal(read_deadline(0), 0);
        take_and_end(0, 0x90);
    }
    assert_int_equal(timer_sets, 0);
    for (unsigned i = 0; i < 4; i++) { /* never */
        uint64_t tsc = (uint64_t[]){~0UL, 1UL << 63, TSC_BASE + 5 + (1UL << 63), TSC_BASE + (1UL << 60)}[i];

        write_deadline(0, tsc);
        pass(SECONDS(1000));
        assert_int_equal(pending(0), -1);
        assert_int_equal(read_deadline(0), tsc);
    }
    write_deadline(0, tsc_in(1000));
    write_deadline(0, tsc_in(2000)); /* moved */
    pass(1500);
    assert_int_equal(pending(0), -1);
    write_deadline(0, 0); /* off */
    assert_false(timer(0)->armed);
    pass(1000);
    assert_int_equal(pending(0), -1);
}

static void test_deadline_mode_changes(void **state)
{
    wr(0, SVR, ON);
    wr(0, LVTT, DEADLINE | 0x90);
    write_deadline(0, tsc_in(1000));
    wr(0, LVTT, MASKED | DEADLINE | 0x90);
    assert_int_equal(read_deadline(0), tsc_in(1000));
    assert_false(timer(0)->armed);
    wr(0, LVTT, DEADLINE | 0x91);
    assert_true(timer(0)->armed);
    wr(0, LVTT, 0x91);
    assert_false(timer(0)->armed);
    assert_int_equal(read_deadline(0), 0);
    wr(0, LVTT, DEADLINE | 0x91);
    pass(2000);
    assert_int_equal(pending(0), -1);
    wr(0, LVTT, PERIODIC | 0x91);
    wr(0, TMICT, 100000);
    wr(0, LVTT, DEADLINE | 0x91);
    assert_false(timer(0)->armed);
    assert_int_equal(rd(0, TMICT), 0);
    pass(SECONDS(1));
    assert_int_equal(pending(0), -1);
    wr(0, LVTT, MASKED | DEADLINE | 0x91); /* passes while masked: disarmed, no interrupt */
    write_deadline(0, tsc_in(100));
    pass(100);
    assert_int_equal(read_deadline(0), 0);
    wr(0, LVTT, DEADLINE | 0x91);
    pass(100);
    assert_int_equal(pending(0), -1);
}

static void test_timer_vector_is_illegal(void **state)
{
    wr(0, SVR, ON);
    wr(0, LVTERR, 0xfe);
    wr(0, LVTT, 0x0f);
    wr(0, TMICT, 10);
    pass(1000);
    assert_int_equal(notified[0], 1);
    take_and_end(0, 0xfe);
    wr(0, ESR, 0);
    assert_int_equal(rd(0, ESR), 1U << 6);
}

/* The host's timer and the vcpu meet in any order: one interrupt for each time. */
static void test_late_handlers(void **state)
{
    wr(0, SVR, ON);
    wr(0, LVTT, DEADLINE | 0x90);
    write_deadline(0, tsc_in(100));
    clock_now += 200;
    assert_int_equal(read_deadline(0), 0); /* seen before the handler comes */
    take_and_end(0, 0x90);
    fire(0);
    assert_int_equal(pending(0), -1);

    write_deadline(0, tsc_in(100));
    clock_now += 200;
    write_deadline(0, tsc_in(100)); /* the first one was due: it comes */
    take_and_end(0, 0x90);
    timer(0)->handler(timer(0)->arg); /* of the first one */
    assert_int_equal(pending(0), -1);
    assert_true(timer(0)->armed);
    pass(100);
    take_and_end(0, 0x90);

    write_deadline(0, tsc_in(100));
    clock_now += 99;
    write_deadline(0, 0);
    clock_now += 100;
    timer(0)->handler(timer(0)->arg);
    assert_int_equal(pending(0), -1);

    write_deadline(0, tsc_in(100));
    clock_now += 100;
    wr(0, LVTT, MASKED | DEADLINE | 0x90); /* too late */
    take_and_end(0, 0x90);

    vcpus[0].processor = 7; /* the host's timer follows the vcpu */
    wr(0, LVTT, DEADLINE | 0x90);
    write_deadline(0, tsc_in(100));
    assert_int_equal(timer(0)->cpu, 7);
}

/* ---- INIT, the end ---- */

static void test_init(void **state)
{
    begin(2);
    enable_all(X2APIC);
    wrm(4, LVTT, DEADLINE | 0x90);
    write_deadline(4, tsc_in(1000));
    wrm(4, TPR, 0x33);
    wrm(4, SELF_IPI, 3);
    wrm(4, ESR, 0);
    wrm(4, SELF_IPI, 3);
    vlapic_set_irq(&vcpus[4], 0x55);
    take(4, 0x55);
    vlapic_set_irq(&vcpus[4], 0x66);
    vlapic_reset(&vcpus[4]);
    assert_int_equal(apic(4)->base, X2APIC);
    assert_int_equal(rdm(4, ID), 8);
    assert_int_equal(rdm(4, LDR), 0x100);
    for (unsigned i = 0; i < ARRAY_SIZE(regs); i++)
        if (regs[i].x2read && regs[i].offset != ID && regs[i].offset != LDR)
            assert_int_equal(rdm(4, regs[i].offset), regs[i].reset);
    wrm(4, ESR, 0);
    assert_int_equal(rdm(4, ESR), 0);
    assert_int_equal(read_deadline(4), 0);
    assert_false(timer(4)->armed);
    timer(4)->handler(timer(4)->arg); /* was under way */
    assert_int_equal(pending(4), -1);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(apic(4)->irr[i] | apic(4)->isr[i], 0);
    wrm(4, SVR, ON);
    vlapic_set_irq(&vcpus[4], 0x21);
    take_and_end(4, 0x21);

    begin(1); /* and in xAPIC mode */
    for (unsigned i = 0; i < ARRAY_SIZE(regs); i++)
        if (regs[i].write && !regs[i].side_effect)
            wr(1, regs[i].offset, 0x55555555);
    vlapic_reset(&vcpus[1]);
    assert_int_equal(apic(1)->base, XAPIC);
    test_reset_values(state);
}

static void test_destroy(void **state)
{
    wr(0, SVR, ON);
    wr(0, LVTT, PERIODIC | 0x80);
    wr(0, TMICT, 100000);
    vlapic_destroy(&vcpus[0]);
    clock_now += SECONDS(1);
    timer(0)->handler(timer(0)->arg);
    assert_false(timer(0)->armed);
}

/* ---- Random ---- */

static int highest_of(const bool *set)
{
    for (int i = 255; i >= 0; i--)
        if (set[i])
            return i;
    return -1;
}

/* The priorities' rules, against two plain arrays */
static void test_random_interrupts(void **state)
{
    bool irr[256] = {0}, isr[256] = {0};
    uint32_t tpr = 0;

    srand(11);
    set_base(0, X2APIC);
    wrm(0, SVR, ON);
    for (unsigned step = 0; step < 300000; step++) {
        unsigned vector = 16 + rand() % 240;
        int top = highest_of(isr), want = highest_of(irr);
        uint32_t ppr = (int)(tpr & 0xf0) >= (top & 0xf0) || top < 0 ? tpr : top & 0xf0;

        assert_int_equal(rdm(0, PPR), ppr);
        assert_true(top < 0 || (uint32_t)(top & 0xf0) <= (ppr & 0xf0));
        if (want >= 0 && (uint32_t)(want & 0xf0) <= (ppr & 0xf0))
            want = -1;
        assert_int_equal(pending(0), want);
        if (step % 64 == 0)
            for (unsigned i = 0; i < 256; i++) {
                assert_int_equal(rdm(0, IRR + i / 32 * 16) >> (i % 32) & 1, irr[i]);
                assert_int_equal(rdm(0, ISR + i / 32 * 16) >> (i % 32) & 1, isr[i]);
            }
        switch (rand() % 6) {
        case 0:
            vlapic_set_irq(&vcpus[0], (uint8_t)vector);
            irr[vector] = true;
            break;
        case 1:
            wrm(0, SELF_IPI, vector);
            irr[vector] = true;
            break;
        case 2:
            if (rand() % 4)
                break;
            tpr = rand() % 3 ? (uint32_t)rand() & 0x3f : (uint32_t)rand() & 0xff;
            wrm(0, TPR, tpr);
            break;
        case 3:
        case 4:
            if (want < 0)
                break;
            vlapic_accept(&vcpus[0], (uint8_t)want);
            irr[want] = false;
            isr[want] = true;
            break;
        default:
            wrm(0, EOI, 0);
            if (top >= 0)
                isr[top] = false;
        }
    }
}

static void check_invariants(unsigned i)
{
    const struct vlapic *l = apic(i);
    int p = pending(i);
    uint32_t top = 0;

    for (unsigned vector = 0; vector < 256; vector++)
        if (l->isr[vector / 64] >> (vector % 64) & 1)
            top = vector;
    assert_int_equal(l->isr_top, top);
    assert_true((l->ppr & 0xf0) >= (top & 0xf0) && l->ppr >= (l->tpr & 0xf0));
    assert_true(p < 0 || (p & 0xf0) > (int)(l->ppr & 0xf0));
    assert_int_equal((l->irr[0] | l->isr[0]) & 0xffff, 0);
    for (unsigned n = 0; n < 6; n++)
        assert_true(l->svr & 0x100 || l->lvt[n] & MASKED);
    if (!(l->base & EN))
        assert_false(l->svr & 0x100 || p >= 0 || timer(i)->armed);
    assert_int_equal(timer(i)->armed, l->timer_due != NS_NEVER && !(l->lvt[LVT_TIMER] & MASKED));
    if (timer(i)->armed)
        assert_true(timer(i)->expires <= l->timer_due);
    if (l->tsc_deadline)
        assert_true(l->lvt[LVT_TIMER] & DEADLINE);
}

static uint64_t random_value(void)
{
    switch (rand() % 6) {
    case 0:
        return 0;
    case 1:
        return ~0UL;
    case 2:
        return 1UL << (rand() % 64);
    case 3:
        return (uint64_t)rand() % 0x200;
    case 4:
        return (uint64_t)rand() & 0xfffff;
    default:
        return (uint64_t)rand() << 33 ^ (uint64_t)rand() << 11 ^ (uint64_t)rand();
    }
}

/* All that a guest can do, with any values */
static void test_hostile(void **state)
{
    static const uint64_t bases[] = {OFF, XAPIC, XAPIC, X2APIC, X2APIC};
    unsigned long good = 0, interrupts = 0;

    srand(12);
    for (unsigned step = 0; step < 500000; step++) {
        unsigned i = rand() % 4;
        uint64_t value = random_value(), got;
        int p;

        switch (rand() % 9) {
        case 0:
            if (rand() % 20 == 0)
                vlapic_write_base(&vcpus[i], rand() % 2 ? bases[rand() % 5] : value);
            break;
        case 1:
            good += vlapic_write_msr(&vcpus[i], 0x800 + rand() % 0x50, value);
            break;
        case 2:
            good += vlapic_read_msr(&vcpus[i], 0x800 + rand() % 0x50, &got);
            break;
        case 3:
            if (vlapic_has_page(&vcpus[i]))
                wr(i, (uint32_t)(rand() % 0x60) * 16, (uint32_t)value);
            break;
        case 4:
            if (vlapic_has_page(&vcpus[i]))
                rd(i, (uint32_t)rand() % 0x1000);
            break;
        case 5:
            write_deadline(i, rand() % 2 ? tsc_in((ns_t)rand() % 1000) : value);
            read_deadline(i);
            break;
        case 6:
            if (apic(i)->base & EN && !(apic(i)->svr & 0x100)) {
                if (apic(i)->base & EXTD)
                    wrm(i, SVR, ON);
                else
                    wr(i, SVR, ON);
            }
            pass((ns_t)rand() % 100000);
            break;
        case 7:
            vlapic_set_irq(&vcpus[i], (uint8_t)value);
            vlapic_set_cr8(&vcpus[i], rand() % 4 ? 0 : (uint32_t)value);
            if (rand() % 500 == 0)
                vlapic_reset(&vcpus[i]);
            break;
        default:
            p = pending(i);
            if (p >= 0) {
                vlapic_accept(&vcpus[i], (uint8_t)p);
                interrupts++;
            }
            if (apic(i)->base & EN && rand() % 2)
                done(i);
        }
        check_invariants(i);
    }
    assert_true(good > 10000 && interrupts > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup(f, setup)
        TEST(test_reset_values),
        TEST(test_xapic_masks),
        TEST(test_mmio_between_registers),
        TEST(test_x2apic_registers),
        TEST(test_x2apic_reset_values),
        TEST(test_msrs_in_other_modes),
        TEST(test_mode_changes),
        TEST(test_base_bits),
        TEST(test_switching_off_forgets),
        TEST(test_priorities),
        TEST(test_tpr),
        TEST(test_all_vectors),
        TEST(test_physical),
        TEST(test_long_ids),
        TEST(test_shorthands),
        TEST(test_logical_flat),
        TEST(test_logical_cluster),
        TEST(test_logical_x2apic),
        TEST(test_mixed_modes),
        TEST(test_lowest_priority),
        TEST(test_those_that_are_off),
        TEST(test_signals),
        TEST(test_esr),
        TEST(test_esr_x2apic),
        TEST(test_software_disable),
        TEST(test_one_shot),
        TEST(test_divide),
        TEST(test_masked),
        TEST(test_periodic),
        TEST(test_shortest_period),
        TEST(test_deadline),
        TEST(test_deadline_mode_changes),
        TEST(test_timer_vector_is_illegal),
        TEST(test_late_handlers),
        TEST(test_init),
        TEST(test_destroy),
        TEST(test_random_interrupts),
        TEST(test_hostile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
