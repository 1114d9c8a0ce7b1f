/* PCI configuration space (ports 0xcf8/0xcfc; MCFG windows for offsets above 255 and other segments). */
#ifndef PLATFORM_PCI_H
#define PLATFORM_PCI_H

#include "lib/types.h"

struct pci_address {
    uint16_t segment;
    uint8_t bus, devfn;
};

#define PCI_VENDOR 0x00
#define PCI_COMMAND 0x04
#define PCI_COMMAND_MEMORY 2U
#define PCI_STATUS 0x06
#define PCI_STATUS_CAPABILITIES 0x10U
#define PCI_HEADER_TYPE 0x0e
#define PCI_BAR0 0x10
#define PCI_CAPABILITY_POINTER 0x34
#define PCI_CAPABILITY_MSI 0x05
#define PCI_CAPABILITY_MSIX 0x11

void pci_init(void);
/* bytes 1, 2, 4, not crossing a 32-bit word; reads give all ones where there is nothing. Any context, but the first
 * access that needs an MCFG window maps it and must be where memory may be allocated. */
uint32_t pci_read(struct pci_address a, unsigned offset, unsigned bytes);
void pci_write(struct pci_address a, unsigned offset, unsigned bytes, uint32_t value);
/* Offset of the capability with this id, 0 if the device has none. */
unsigned pci_find_capability(struct pci_address a, unsigned id);
/* Domain 0's access to ports 0xcfc + offset (offset 0-3, 1, 2 or 4 bytes) with its value of 0xcf8. What it may not
 * change (address and data of an MSI that Croft set) is kept. */
uint32_t pci_guest_read(uint32_t cf8, unsigned offset, unsigned bytes);
void pci_guest_write(uint32_t cf8, unsigned offset, unsigned bytes, uint32_t value);

#endif
