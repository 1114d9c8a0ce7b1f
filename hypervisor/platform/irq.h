/*
 * Device interrupts: vectors, I/O APIC pins, MSI and MSI-X, and their way to domains as PIRQs.
 * Locks: each descriptor's own (irq-safe), taken after d->event.lock is NOT held; see docs/architecture.md.
 */
#ifndef PLATFORM_IRQ_H
#define PLATFORM_IRQ_H

#include "hypercall/abi.h"

struct domain;

void irq_init(void);                        /* I/O APICs found and masked, vectors free */
void irq_dispatch(unsigned vector);         /* from the interrupt entry: vectors 0x20-0xdf, interrupts off; does the EOI */
/* Croft's own use of a GSI (serial console): handler runs in interrupt context. -EBUSY, -ENODEV. */
int irq_request_gsi(unsigned gsi, void (*handler)(void *), void *arg);

/* PIRQs of a domain */
int irq_init_domain(struct domain *d);
void irq_destroy_domain(struct domain *d);
/* A guest bound the pirq to an event channel (EVTCHNOP_bind_pirq), or closed it. -EINVAL, -EPERM, -EBUSY, -ENOSPC */
int pirq_guest_bind(struct domain *d, unsigned pirq, bool share);
void pirq_guest_unbind(struct domain *d, unsigned pirq);
void pirq_guest_set_affinity(struct domain *d, unsigned pirq, unsigned vcpu);
/* The guest unmasked the event channel or said PHYSDEVOP_eoi */
void pirq_guest_eoi(struct domain *d, unsigned pirq);
void irq_key_report(void);

#endif
