/*
 * A domain's view of device interrupts: PIRQ numbers. Below irq_gsi_count() they are GSIs for the domain that owns the
 * hardware; the numbers above are given out for MSI, and to other domains for anything. The table is allocated with the
 * first mapping, so that domains without devices pay nothing.
 */
#include "platform/irq_desc.h"

#include "cpu/smp.h"
#include "domain/domain.h"
#include "lib/log.h"
#include "memory/alloc.h"
#include "memory/map.h"
#include "platform/msi.h"

#define PIRQ_FREE_NUMBERS (VECTOR_DEVICE_LAST - VECTOR_DEVICE_FIRST + 1) /* above the GSIs: as many as vectors */

struct pirq {
    struct irq *irq;
    bool reserved, bound;
};

struct irq_domain {
    spinlock_t lock; /* pirqs[], eoi_map; irq-safe; taken before a descriptor's */
    unsigned count;
    struct pirq *pirqs;     /* null until the first is mapped; never replaced */
    mfn_t eoi_frame;        /* typed writable, of the domain */
    unsigned long *eoi_map; /* its address; null if there is none */
};

int irq_init_domain(struct domain *d)
{
    d->irq = new_object(struct irq_domain);
    if (!d->irq)
        return -ENOMEM;
    spin_lock_init(&d->irq->lock);
    return 0;
}

/* Outside of locks, because it allocates. */
static int make_table(struct domain *d)
{
    struct irq_domain *t = d->irq;
    unsigned count = irq_gsi_count() + PIRQ_FREE_NUMBERS;
    struct pirq *pirqs;
    unsigned long flags;

    if (!t)
        return -EINVAL;
    if (READ_ONCE(t->pirqs))
        return 0;
    pirqs = heap_alloc(count * sizeof(*pirqs));
    if (!pirqs)
        return -ENOMEM;
    flags = spin_lock_irqsave(&t->lock);
    if (!t->pirqs) {
        t->count = count;
        t->pirqs = pirqs;
        pirqs = NULL;
    }
    spin_unlock_irqrestore(&t->lock, flags);
    heap_free(pirqs); /* another CPU was first */
    return 0;
}

/* With the table's lock held: the mapped entry of this number, or null. */
static struct pirq *mapped_locked(struct irq_domain *t, unsigned pirq)
{
    return t->pirqs && pirq < t->count && t->pirqs[pirq].irq ? &t->pirqs[pirq] : NULL;
}

static int free_number_locked(const struct irq_domain *t)
{
    for (unsigned i = irq_gsi_count(); i < t->count; i++)
        if (!t->pirqs[i].irq && !t->pirqs[i].reserved)
            return (int)i;
    return -ENOSPC;
}

/* --- Mapping --- */

int pirq_map_gsi(struct domain *d, unsigned gsi, int *pirq)
{
    int err = make_table(d), number = *pirq;
    struct irq *irq;
    unsigned long flags;

    if (err)
        return err;
    irq = irq_of_gsi(gsi, &err);
    if (!irq)
        return err;
    flags = spin_lock_irqsave(&d->irq->lock);
    if (d->is_hardware)
        number = (int)gsi;
    else if (number < 0)
        number = free_number_locked(d->irq);
    if (number < 0)
        err = number;
    else if ((*pirq >= 0 && *pirq != number) || (unsigned)number >= d->irq->count)
        err = -EINVAL;
    else if (d->irq->pirqs[number].irq && d->irq->pirqs[number].irq != irq)
        err = -EEXIST;
    if (!err) {
        d->irq->pirqs[number].irq = irq;
        d->irq->pirqs[number].reserved = false;
        *pirq = number;
    }
    spin_unlock_irqrestore(&d->irq->lock, flags);
    return err;
}

int pirq_map_msi(struct domain *d, struct pci_address a, bool msix, unsigned entry, uint64_t table_base, int *pirq)
{
    int err = make_table(d), number = *pirq;
    struct msi *m;
    struct irq *irq;
    unsigned long flags;

    if (err)
        return err;
    err = msi_create(a, msix, entry, table_base, &m);
    if (err)
        return err;
    irq = irq_create_msi(m, &err);
    if (!irq) {
        msi_destroy(m);
        return err;
    }
    flags = spin_lock_irqsave(&d->irq->lock);
    if (number < 0)
        number = free_number_locked(d->irq);
    if (number < 0)
        err = number;
    else if ((unsigned)number >= d->irq->count || (unsigned)number < irq_gsi_count())
        err = -EINVAL;
    else if (d->irq->pirqs[number].irq)
        err = -EEXIST;
    if (!err) {
        d->irq->pirqs[number] = (struct pirq){.irq = irq};
        *pirq = number;
    }
    spin_unlock_irqrestore(&d->irq->lock, flags);
    if (err)
        irq_destroy_msi(irq);
    return err;
}

int pirq_get_free(struct domain *d, uint32_t *pirq)
{
    int number, err = make_table(d);
    unsigned long flags;

    if (err)
        return err;
    flags = spin_lock_irqsave(&d->irq->lock);
    number = free_number_locked(d->irq);
    if (number >= 0)
        d->irq->pirqs[number].reserved = true;
    spin_unlock_irqrestore(&d->irq->lock, flags);
    if (number < 0)
        return number;
    *pirq = (uint32_t)number;
    return 0;
}

/* --- Binding; the table's lock is held --- */

static void mark_eoi_page(struct irq_domain *t, unsigned pirq, bool needed)
{
    if (!t->eoi_map || pirq >= PAGE_SIZE * 8)
        return;
    if (needed)
        set_bit(pirq, t->eoi_map);
    else
        clear_bit(pirq, t->eoi_map);
}

/* With irq->lock held. */
static struct irq_action *action_of(struct irq *irq, const struct domain *d)
{
    for (unsigned i = 0; i < irq->action_count; i++)
        if (irq->actions[i].d == d)
            return &irq->actions[i];
    return NULL;
}

static int bind_locked(struct irq *irq, struct domain *d, unsigned pirq, bool share)
{
    if (irq->handler || action_of(irq, d))
        return -EBUSY;
    if (irq->action_count && (!share || !irq->share || !irq->level))
        return -EBUSY;
    if (irq->action_count == IRQ_SHARE_MAX)
        return -ENOSPC;
    irq->share = share;
    irq->actions[irq->action_count++] = (struct irq_action){d, pirq, false};
    if (irq->action_count == 1)
        irq_enable(irq);
    return 0;
}

static void end_locked(struct irq *irq, struct irq_action *a)
{
    if (!a->in_flight)
        return;
    a->in_flight = false;
    if (--irq->in_flight == 0)
        irq_set_masked(irq, false);
}

static void unbind_locked(struct irq *irq, const struct domain *d)
{
    struct irq_action *a = action_of(irq, d);

    if (!a)
        return;
    if (irq->action_count == 1) {
        irq->in_flight = 0;
        irq_set_masked(irq, true);
    } else {
        end_locked(irq, a);
    }
    *a = irq->actions[--irq->action_count];
}

int pirq_guest_bind(struct domain *d, unsigned pirq, bool share)
{
    struct irq_domain *t = d->irq;
    unsigned long flags;
    struct pirq *p;
    int err;

    if (!t)
        return -EINVAL;
    flags = spin_lock_irqsave(&t->lock);
    p = mapped_locked(t, pirq);
    if (!p) {
        err = -EINVAL;
    } else {
        spin_lock(&p->irq->lock);
        err = bind_locked(p->irq, d, pirq, share);
        if (!err) {
            p->bound = true;
            mark_eoi_page(t, pirq, p->irq->level);
        }
        spin_unlock(&p->irq->lock);
    }
    spin_unlock_irqrestore(&t->lock, flags);
    return err;
}

static void unbind_pirq_locked(struct irq_domain *t, struct domain *d, unsigned pirq)
{
    struct pirq *p = &t->pirqs[pirq];

    if (!p->bound)
        return;
    spin_lock(&p->irq->lock);
    unbind_locked(p->irq, d);
    p->bound = false;
    mark_eoi_page(t, pirq, false);
    spin_unlock(&p->irq->lock);
}

void pirq_guest_unbind(struct domain *d, unsigned pirq)
{
    unsigned long flags;

    if (!d->irq)
        return;
    flags = spin_lock_irqsave(&d->irq->lock);
    if (mapped_locked(d->irq, pirq))
        unbind_pirq_locked(d->irq, d, pirq);
    spin_unlock_irqrestore(&d->irq->lock, flags);
}

void pirq_guest_set_affinity(struct domain *d, unsigned pirq, unsigned vcpu)
{
    const struct vcpu *v = domain_vcpu(d, vcpu);
    unsigned long flags;
    struct pirq *p;

    if (!d->irq || !v)
        return;
    flags = spin_lock_irqsave(&d->irq->lock);
    p = mapped_locked(d->irq, pirq);
    if (p && p->bound) {
        spin_lock(&p->irq->lock);
        irq_send_to(p->irq, v->processor);
        spin_unlock(&p->irq->lock);
    }
    spin_unlock_irqrestore(&d->irq->lock, flags);
}

void pirq_guest_eoi(struct domain *d, unsigned pirq)
{
    struct irq_action *a;
    unsigned long flags;
    struct pirq *p;

    if (!d->irq)
        return;
    flags = spin_lock_irqsave(&d->irq->lock);
    p = mapped_locked(d->irq, pirq);
    if (p && p->bound) {
        spin_lock(&p->irq->lock);
        a = action_of(p->irq, d);
        if (a)
            end_locked(p->irq, a);
        spin_unlock(&p->irq->lock);
    }
    spin_unlock_irqrestore(&d->irq->lock, flags);
}

int pirq_status(struct domain *d, unsigned pirq, uint32_t *flags_out)
{
    struct irq_domain *t = d->irq;
    unsigned long flags;
    struct pirq *p;
    int err = 0;

    *flags_out = 0;
    if (!t)
        return -EINVAL;
    flags = spin_lock_irqsave(&t->lock);
    p = mapped_locked(t, pirq);
    if (p) {
        spin_lock(&p->irq->lock);
        *flags_out = (p->irq->level ? XENIRQSTAT_needs_eoi : 0) | (p->irq->action_count > 1 ? XENIRQSTAT_shared : 0);
        spin_unlock(&p->irq->lock);
    } else if (pirq >= irq_gsi_count() + PIRQ_FREE_NUMBERS) {
        err = -EINVAL;
    }
    spin_unlock_irqrestore(&t->lock, flags);
    return err;
}

int pirq_set_eoi_page(struct domain *d, mfn_t page)
{
    struct irq_domain *t = d->irq;
    unsigned long flags;
    int err = 0;

    if (!t || !frame_get_writable(page, d))
        return -EINVAL;
    flags = spin_lock_irqsave(&t->lock);
    if (t->eoi_map) {
        err = -EBUSY;
    } else {
        t->eoi_frame = page;
        t->eoi_map = mfn_to_virt(page);
        for (unsigned i = 0; i < t->count; i++)
            if (t->pirqs[i].bound)
                mark_eoi_page(t, i, t->pirqs[i].irq->level);
    }
    spin_unlock_irqrestore(&t->lock, flags);
    if (err)
        frame_put_writable(page);
    return err;
}

/* --- Undoing --- */

int pirq_unmap(struct domain *d, int pirq)
{
    struct irq_domain *t = d->irq;
    struct irq *msi = NULL;
    unsigned long flags;
    int err = 0;

    if (!t || pirq < 0)
        return -EINVAL;
    flags = spin_lock_irqsave(&t->lock);
    if (mapped_locked(t, (unsigned)pirq)) {
        unbind_pirq_locked(t, d, (unsigned)pirq);
        if (t->pirqs[pirq].irq->source == IRQ_SOURCE_MSI)
            msi = t->pirqs[pirq].irq;
        t->pirqs[pirq] = (struct pirq){0};
    } else if (t->pirqs && (unsigned)pirq < t->count && t->pirqs[pirq].reserved) {
        t->pirqs[pirq].reserved = false;
    } else {
        err = -EINVAL;
    }
    spin_unlock_irqrestore(&t->lock, flags);
    if (msi)
        irq_destroy_msi(msi);
    return err;
}

void irq_destroy_domain(struct domain *d)
{
    struct irq_domain *t = d->irq;

    if (!t)
        return;
    for (unsigned i = 0; i < t->count; i++)
        pirq_unmap(d, (int)i); /* -EINVAL for those that are not mapped */
    if (t->eoi_map)
        frame_put_writable(t->eoi_frame);
    d->irq = NULL;
    heap_free(t->pirqs);
    heap_free(t);
}
