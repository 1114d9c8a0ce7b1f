/* The interrupt descriptor, between irq.c (hardware side) and pirq.c (domains' side). One descriptor a vector; a
 * vector means the same on every CPU, and is sent to one CPU at a time. */
#ifndef PLATFORM_IRQ_DESC_H
#define PLATFORM_IRQ_DESC_H

#include "lib/spinlock.h"
#include "platform/irq.h"

#define IRQ_SHARE_MAX 4 /* domains that may have one level-triggered line together */

struct msi;
enum irq_source { IRQ_SOURCE_NONE, IRQ_SOURCE_GSI, IRQ_SOURCE_MSI };

struct irq_action {
    struct domain *d;
    unsigned pirq;
    bool in_flight; /* delivered, its EOI is due */
};

struct irq {
    spinlock_t lock; /* everything below but 'vector' */
    uint8_t vector;
    enum irq_source source;
    bool level, active_low; /* GSI; an MSI is edge-triggered */
    bool set_up;            /* level and active_low come from domain 0 */
    bool masked;
    uint32_t gsi;
    struct msi *msi;
    uint32_t cpu;               /* where it is sent */
    void (*handler)(void *arg); /* Croft's own use */
    void *arg;
    bool share;
    unsigned action_count, in_flight; /* in_flight: actions with that flag; the pin is masked meanwhile */
    struct irq_action actions[IRQ_SHARE_MAX];
    uint64_t count, stray;
};

/* The descriptor of a GSI, with a vector given to it if it had none; null with *err. */
struct irq *irq_of_gsi(unsigned gsi, int *err);
struct irq *irq_create_msi(struct msi *m, int *err);
void irq_destroy_msi(struct irq *irq); /* no action left; destroys the struct msi too */
/* With irq->lock held: */
void irq_set_masked(struct irq *irq, bool masked);
void irq_send_to(struct irq *irq, unsigned cpu);
void irq_enable(struct irq *irq); /* first binding: programs the hardware, unmasked */

#endif
