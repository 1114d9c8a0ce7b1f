/* The I/O APICs' registers (Intel 82093AA): pins by their global system interrupt (GSI). The callers (platform/irq.c)
 * hold the lock of the descriptor that owns a pin; the index/data pair has a lock of its own here. */
#ifndef PLATFORM_IOAPIC_H
#define PLATFORM_IOAPIC_H

#include "lib/types.h"

struct ioapic_pin {
    uint8_t vector;
    bool level, active_low, masked;
    uint32_t apic_id;
};

void ioapic_init(void);          /* maps those of ACPI, masks every pin */
unsigned ioapic_gsi_count(void); /* one above the highest GSI */
bool ioapic_has_gsi(unsigned gsi);
void ioapic_program(unsigned gsi, const struct ioapic_pin *pin);
void ioapic_set_masked(unsigned gsi, const struct ioapic_pin *pin); /* writes only the half with the mask */
/* Whole registers of the I/O APIC at this address, for domain 0. -ENODEV: there is none; -EINVAL: no such register. */
int ioapic_read_register(maddr_t at, unsigned reg, uint32_t *value);
/* The GSI whose redirection entry 'reg' (low half) is; -1 if it is something else. */
int ioapic_gsi_of_register(maddr_t at, unsigned reg);
bool ioapic_owns_frame(mfn_t m); /* is an I/O APIC in this page? */

#endif
