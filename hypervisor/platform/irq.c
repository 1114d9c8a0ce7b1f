/*
 * Vectors, GSIs, and what happens when an interrupt arrives. An edge or message interrupt is acknowledged at once and
 * its events are sent. A level-triggered one is masked at the I/O APIC first, then acknowledged, and unmasked when every
 * domain that was told has said PHYSDEVOP_eoi: a domain that is slow or hostile keeps its own line quiet, not the CPU.
 */
#include "platform/irq_desc.h"

#include "cpu/cpumask.h"
#include "cpu/percpu.h"
#include "cpu/smp.h"
#include "domain/domain.h"
#include "lib/log.h"
#include "lib/printf.h"
#include "platform/acpi.h"
#include "platform/apic.h"
#include "platform/ioapic.h"
#include "platform/msi.h"

#define VECTOR_COUNT (VECTOR_DEVICE_LAST - VECTOR_DEVICE_FIRST + 1)
#define GSI_MAX 512
#define ISA_IRQS 16
#define VECTOR_SYSCALL 0x80 /* guests' "int $0x80" */
#define VECTOR_XEN_COMPAT 0x82

struct gsi {
    struct irq *irq;
    bool level, active_low;
};

static struct irq irqs[VECTOR_COUNT];
static BITMAP(vectors_used, VECTOR_COUNT);
static struct gsi gsis[GSI_MAX];
static uint16_t isa_gsi[ISA_IRQS];
/* CPUs to which nothing is sent; a bit is set before the descriptors are gone through with their locks */
static cpumask_t closed;
static spinlock_t lock = SPINLOCK_INIT; /* gsis, vectors_used; irq-safe; taken before a descriptor's */

void irq_init(void)
{
    for (unsigned i = 0; i < VECTOR_COUNT; i++) {
        spin_lock_init(&irqs[i].lock);
        irqs[i].vector = (uint8_t)(VECTOR_DEVICE_FIRST + i);
    }
    set_bit_nonatomic(VECTOR_SYSCALL - VECTOR_DEVICE_FIRST, vectors_used);
    set_bit_nonatomic(VECTOR_XEN_COMPAT - VECTOR_DEVICE_FIRST, vectors_used);
    for (unsigned i = 0; i < GSI_MAX; i++) /* ISA: edge, high; PCI: level, low */
        gsis[i].level = gsis[i].active_low = i >= ISA_IRQS;
    for (unsigned i = 0; i < ISA_IRQS; i++)
        isa_gsi[i] = (uint16_t)i;
    for (unsigned i = 0; i < acpi_info.override_count; i++) {
        const struct acpi_override *o = &acpi_info.overrides[i];

        if (o->irq >= ISA_IRQS || o->gsi >= GSI_MAX)
            continue;
        isa_gsi[o->irq] = (uint16_t)o->gsi;
        gsis[o->gsi].level = o->level;
        gsis[o->gsi].active_low = o->active_low;
    }
    ioapic_init();
}

unsigned irq_gsi_of_isa(unsigned isa_irq) { return isa_irq < ISA_IRQS ? isa_gsi[isa_irq] : isa_irq; }
unsigned irq_gsi_count(void) { return max(min(ioapic_gsi_count(), (unsigned)GSI_MAX), (unsigned)ISA_IRQS); }

/* --- Descriptors --- */

static struct irq *take_vector_locked(enum irq_source source)
{
    unsigned i = find_next_zero_bit(vectors_used, VECTOR_COUNT, 0);
    struct irq *irq = &irqs[i];
    unsigned long flags;

    if (i >= VECTOR_COUNT)
        return NULL;
    set_bit_nonatomic(i, vectors_used);
    flags = spin_lock_irqsave(&irq->lock);
    irq->source = source;
    irq->level = irq->active_low = irq->set_up = irq->share = false;
    irq->masked = true;
    irq->cpu = 0;
    irq->action_count = irq->in_flight = 0;
    irq->count = irq->stray = 0;
    spin_unlock_irqrestore(&irq->lock, flags);
    return irq;
}

struct irq *irq_of_gsi(unsigned gsi, int *err)
{
    unsigned long flags;
    struct irq *irq;

    *err = -EINVAL;
    if (gsi >= GSI_MAX || !ioapic_has_gsi(gsi))
        return NULL;
    flags = spin_lock_irqsave(&lock);
    irq = gsis[gsi].irq;
    if (!irq) {
        irq = take_vector_locked(IRQ_SOURCE_GSI);
        if (irq) {
            irq->gsi = gsi;
            irq->level = gsis[gsi].level;
            irq->active_low = gsis[gsi].active_low;
            gsis[gsi].irq = irq;
        }
    }
    spin_unlock_irqrestore(&lock, flags);
    *err = irq ? 0 : -ENOSPC;
    return irq;
}

struct irq *irq_create_msi(struct msi *m, int *err)
{
    unsigned long flags = spin_lock_irqsave(&lock);
    struct irq *irq = take_vector_locked(IRQ_SOURCE_MSI);

    if (irq)
        irq->msi = m;
    spin_unlock_irqrestore(&lock, flags);
    *err = irq ? 0 : -ENOSPC;
    return irq;
}

void irq_destroy_msi(struct irq *irq)
{
    unsigned long flags = spin_lock_irqsave(&lock);

    spin_lock(&irq->lock);
    msi_destroy(irq->msi);
    irq->msi = NULL;
    irq->source = IRQ_SOURCE_NONE; /* one still on its way is a stray */
    spin_unlock(&irq->lock);
    clear_bit_nonatomic(irq->vector - VECTOR_DEVICE_FIRST, vectors_used);
    spin_unlock_irqrestore(&lock, flags);
}

/* --- Hardware --- */

/* Destinations have eight bits without interrupt remapping; CPUs above get nothing from devices. */
static uint32_t destination(unsigned cpu)
{
    const struct percpu *p = percpu_of(cpu);

    if (!p || p->apic_id > 254)
        p = percpu_of(0);
    return p ? p->apic_id : 0;
}

static struct ioapic_pin pin_of(const struct irq *irq)
{
    return (struct ioapic_pin){irq->vector, irq->level, irq->active_low, irq->masked, destination(irq->cpu)};
}

void irq_set_masked(struct irq *irq, bool masked)
{
    struct ioapic_pin pin;

    irq->masked = masked;
    if (irq->source == IRQ_SOURCE_GSI) {
        pin = pin_of(irq);
        ioapic_set_masked(irq->gsi, &pin);
    } else if (irq->source == IRQ_SOURCE_MSI) {
        msi_set_masked(irq->msi, masked);
    }
}

static void program(struct irq *irq)
{
    struct ioapic_pin pin = pin_of(irq);

    if (irq->source == IRQ_SOURCE_GSI)
        ioapic_program(irq->gsi, &pin);
    else if (irq->source == IRQ_SOURCE_MSI)
        msi_set_message(irq->msi, irq->vector, pin.apic_id);
}

void irq_send_to(struct irq *irq, unsigned cpu)
{
    if (cpumask_test(cpu, &closed))
        cpu = 0;
    if (irq->cpu == cpu)
        return;
    irq->cpu = cpu;
    program(irq);
}

/* The next CPU that takes interrupts. */
static unsigned next_open(unsigned cpu)
{
    do
        cpu = cpumask_next(cpu + 1, &cpu_online);
    while (cpu < NR_CPUS && cpumask_test(cpu, &closed));
    return cpu < NR_CPUS ? cpu : 0;
}

void irq_close_cpu(unsigned cpu)
{
    unsigned to = cpu;

    cpumask_set(cpu, &closed);
    for (unsigned i = 0; i < VECTOR_COUNT; i++) {
        struct irq *irq = &irqs[i];
        unsigned long flags = spin_lock_irqsave(&irq->lock);

        if (irq->cpu == cpu) {
            to = next_open(to); /* in turn, so that one CPU does not get all */
            irq_send_to(irq, to);
        }
        spin_unlock_irqrestore(&irq->lock, flags);
    }
}

void irq_open_cpu(unsigned cpu) { cpumask_clear(cpu, &closed); }

void irq_enable(struct irq *irq)
{
    if (irq->source == IRQ_SOURCE_GSI) {
        irq->masked = false;
        program(irq);
    } else if (irq->source == IRQ_SOURCE_MSI) {
        program(irq);
        msi_enable(irq->msi);
        irq_set_masked(irq, false);
    }
}

int irq_setup_gsi(unsigned gsi, bool level, bool active_low)
{
    int err;
    struct irq *irq = irq_of_gsi(gsi, &err);
    unsigned long flags;

    if (!irq)
        return err;
    flags = spin_lock_irqsave(&irq->lock);
    if (irq->level == level && irq->active_low == active_low) {
        err = irq->set_up ? -EEXIST : 0;
        irq->set_up = true;
    } else if (irq->handler || irq->action_count) {
        err = -EEXIST; /* in use as it is */
    } else {
        irq->level = level;
        irq->active_low = active_low;
        irq->set_up = true;
        program(irq); /* masked */
    }
    spin_unlock_irqrestore(&irq->lock, flags);
    return err;
}

int irq_vector_of_gsi(unsigned gsi)
{
    int err;
    struct irq *irq = irq_of_gsi(gsi, &err);

    return irq ? irq->vector : err;
}

int irq_request_gsi(unsigned gsi, void (*handler)(void *), void *arg)
{
    int err;
    struct irq *irq = irq_of_gsi(gsi, &err);
    unsigned long flags;

    if (!irq)
        return err == -EINVAL ? -ENODEV : err;
    flags = spin_lock_irqsave(&irq->lock);
    if (irq->handler || irq->action_count) {
        err = -EBUSY;
    } else {
        irq->handler = handler;
        irq->arg = arg;
        irq_enable(irq);
    }
    spin_unlock_irqrestore(&irq->lock, flags);
    return err;
}

/* --- An interrupt arrives --- */

void irq_dispatch(unsigned vector)
{
    struct irq *irq;
    void (*handler)(void *) = NULL;
    void *arg = NULL;

    if (vector < VECTOR_DEVICE_FIRST || vector > VECTOR_DEVICE_LAST) {
        apic_eoi();
        return;
    }
    irq = &irqs[vector - VECTOR_DEVICE_FIRST];
    spin_lock(&irq->lock);
    irq->count++;
    if (irq->handler) {
        handler = irq->handler;
        arg = irq->arg;
    } else {
        if (!irq->action_count)
            irq->stray++;
        if (irq->level && !irq->masked) /* without an action it stays masked until somebody binds it */
            irq_set_masked(irq, true);
        apic_eoi();
        for (unsigned i = 0; i < irq->action_count; i++) {
            struct irq_action *a = &irq->actions[i];

            if (irq->level && !a->in_flight) {
                a->in_flight = true;
                irq->in_flight++;
            }
            event_send_pirq(a->d, a->pirq);
        }
    }
    spin_unlock(&irq->lock);
    if (handler) { /* Croft's own are never taken away again */
        if (!irq->level)
            apic_eoi();
        handler(arg);
        if (irq->level)
            apic_eoi();
    }
}

void irq_key_report(void)
{
    for (unsigned i = 0; i < VECTOR_COUNT; i++) {
        struct irq *irq = &irqs[i];
        char what[64] = "", owner[48] = "";
        int n = 0;
        unsigned long flags = spin_lock_irqsave(&irq->lock);

        if (irq->source == IRQ_SOURCE_GSI)
            snprintf(what, sizeof(what), "GSI %u %s %s", irq->gsi, irq->level ? "level" : "edge",
                     irq->active_low ? "low" : "high");
        else if (irq->source == IRQ_SOURCE_MSI)
            msi_describe(irq->msi, what, sizeof(what));
        if (irq->handler)
            n = snprintf(owner, sizeof(owner), " Croft");
        for (unsigned a = 0; a < irq->action_count && n < (int)sizeof(owner); a++)
            n += snprintf(owner + n, sizeof(owner) - n, " d%u:%u%s", irq->actions[a].d->id, irq->actions[a].pirq,
                          irq->actions[a].in_flight ? "*" : "");
        spin_unlock_irqrestore(&irq->lock, flags);
        if (irq->source != IRQ_SOURCE_NONE || irq->count)
            log_info("vector 0x%02x: %s, CPU %u%s, %lu interrupts (%lu stray):%s\n", irq->vector,
                     what[0] ? what : "free", irq->cpu, irq->masked ? ", masked" : "", irq->count, irq->stray,
                     owner[0] ? owner : " nobody");
    }
    log_info("(* after a pirq: its end-of-interrupt is due)\n");
}
