/*
 * Device interrupts: vectors, I/O APIC pins, MSI and MSI-X, and their way to domains as PIRQs.
 * Locks, outer first, all irq-safe: the domain's PIRQ table, GSI and vector tables, a descriptor, d->event.lock (irq_dispatch
 * sends events with the descriptor's lock held). So nothing here is called with d->event.lock held.
 */
#ifndef PLATFORM_IRQ_H
#define PLATFORM_IRQ_H

#include "hypercall/abi.h"

struct domain;

void irq_init(void);                /* I/O APICs found and masked, vectors free */
void irq_dispatch(unsigned vector); /* from the interrupt entry: vectors 0x20-0xdf, interrupts off; does the EOI */
/* Croft's own use of a GSI (serial console): handler runs in interrupt context. -EBUSY, -ENODEV. */
int irq_request_gsi(unsigned gsi, void (*handler)(void *), void *arg);
/* The CPU goes off line: what was sent there goes elsewhere, now and until it is opened. With all CPUs open to begin with. */
void irq_close_cpu(unsigned cpu);
void irq_open_cpu(unsigned cpu);
unsigned irq_gsi_of_isa(unsigned isa_irq); /* by ACPI's overrides */
unsigned irq_gsi_count(void);              /* PIRQs below are the GSI of that number; at least 16 */

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

/* For hypercall/physdev.c (platform/pirq.c). 'pirq' in: wanted number, or negative for any; out: the one mapped.
 * -EINVAL no such GSI or number, -EEXIST, -ENOSPC, -ENOMEM; MSI also what msi_create returns. */
struct pci_address;
int pirq_map_gsi(struct domain *d, unsigned gsi, int *pirq);
int pirq_map_msi(struct domain *d, struct pci_address a, bool msix, unsigned entry, uint64_t table_base, int *pirq);
int pirq_unmap(struct domain *d, int pirq);          /* unbinds it if need be. -EINVAL: it is not mapped */
int pirq_get_free(struct domain *d, uint32_t *pirq); /* reserves a number for pirq_map_msi. -ENOSPC, -ENOMEM */
int pirq_status(struct domain *d, unsigned pirq, uint32_t *flags); /* XENIRQSTAT_*. -EINVAL */
/* The guest's page in which a set bit says that the pirq needs PHYSDEVOP_eoi. -EBUSY there is one, -EINVAL bad frame. */
int pirq_set_eoi_page(struct domain *d, mfn_t page);
/* Trigger and polarity of a pin. -EINVAL no such GSI, -EEXIST it has them already or is in use with others. */
int irq_setup_gsi(unsigned gsi, bool level, bool active_low);
int irq_vector_of_gsi(unsigned gsi); /* gives it one if it has none. -EINVAL, -ENOSPC */

#endif
