/* PCI configuration space (ports 0xcf8/0xcfc; MCFG windows for offsets above 255), and MSI / MSI-X capabilities. */
#ifndef PLATFORM_PCI_H
#define PLATFORM_PCI_H

#include "lib/types.h"

struct pci_address { uint16_t segment; uint8_t bus, devfn; };

void pci_init(void);
uint32_t pci_read(struct pci_address a, unsigned offset, unsigned bytes); /* bytes 1, 2, 4; all ones where there is nothing */
void pci_write(struct pci_address a, unsigned offset, unsigned bytes, uint32_t value);
/* Guest access through the 0xcf8 mechanism on behalf of domain 0: what it may not change (MSI address, data and enable that Croft set) is kept. */
uint32_t pci_guest_read(uint32_t cf8, unsigned offset, unsigned bytes);
void pci_guest_write(uint32_t cf8, unsigned offset, unsigned bytes, uint32_t value);

#endif
