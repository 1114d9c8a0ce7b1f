/*
 * MSI and MSI-X capabilities (PCI Local Bus 3.0, 6.8). Croft writes the message address and data and the mask bits; the
 * enable bits are left to domain 0 as well. A struct msi is one message of one device function.
 * Locks: msi_create and msi_destroy take the module's own; the others are called with the lock of m's irq descriptor held.
 */
#ifndef PLATFORM_MSI_H
#define PLATFORM_MSI_H

#include "platform/pci.h"

struct msi;

/* Finds the capability and reserves the message, masked. 'entry' counts MSI-X table entries; table_base is the table's
 * BAR as domain 0 knows it, used where the device's own BARs read as zero (SR-IOV virtual functions).
 * -ENODEV no device or capability, -EINVAL entry or table cannot be, -EEXIST in use already, -ENOSPC, -ENXIO memory
 * decoding is off, -ENOMEM. May map memory: interrupts on. */
int msi_create(struct pci_address a, bool msix, unsigned entry, uint64_t table_base, struct msi **out);
void msi_destroy(struct msi *m); /* masks it first */
void msi_set_message(struct msi *m, uint8_t vector, uint32_t apic_id);
void msi_set_masked(struct msi *m, bool masked);
void msi_enable(struct msi *m); /* sets the function's enable bit */
/* Writes everything again after the device lost its state. -ESRCH: no message of this device is in use. */
int msi_restore(struct pci_address a);
bool msi_in_use(struct pci_address a);
void msi_describe(const struct msi *m, char *to, size_t size);

/* Domain 0's writes to configuration space: does one touch what Croft keeps? If so, each byte: false if it is to be
 * left out, else *byte is what may be written. */
bool msi_guards(struct pci_address a, unsigned offset, unsigned bytes);
bool msi_filter_byte(struct pci_address a, unsigned offset, uint8_t *byte);

#endif
