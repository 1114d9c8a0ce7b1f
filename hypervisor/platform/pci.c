/* PCI configuration space; see pci.h. Offsets below 256 of segment 0 go by the ports (they work on every PC and need no
 * mapping), all else by the memory windows that ACPI's MCFG lists. */
#include "platform/pci.h"

#include "cpu/instr.h"
#include "lib/log.h"
#include "lib/spinlock.h"
#include "memory/map.h"
#include "platform/acpi.h"
#include "platform/console.h"
#include "platform/msi.h"

#define PORT_ADDRESS 0xcf8
#define PORT_DATA 0xcfc
#define ADDRESS_ENABLE (1U << 31)
#define BUS_WINDOW (1UL << 20)
#define CAPABILITIES_MAX 48 /* as many as fit: a list that is longer runs in a circle */

static spinlock_t lock = SPINLOCK_INIT;                            /* address and data port belong together; irq-safe */
static volatile uint8_t *windows[ARRAY_SIZE(acpi_info.mcfg)][256]; /* mapped when first used */

void pci_init(void)
{
    for (unsigned i = 0; i < acpi_info.mcfg_count; i++)
        log_info("PCI: segment %u, buses %u-%u at 0x%lx\n", acpi_info.mcfg[i].segment, acpi_info.mcfg[i].bus_start,
                 acpi_info.mcfg[i].bus_end, acpi_info.mcfg[i].base.n);
}

/* When the machine is brought down, the holder may be stopped for ever. */
static unsigned long ports_lock(void) { return console_in_panic() ? irq_save() : spin_lock_irqsave(&lock); }
static void ports_unlock(unsigned long flags)
{
    if (console_in_panic())
        irq_restore(flags);
    else
        spin_unlock_irqrestore(&lock, flags);
}

static volatile uint8_t *window_of(struct pci_address a)
{
    for (unsigned i = 0; i < acpi_info.mcfg_count; i++) {
        const struct acpi_mcfg *m = &acpi_info.mcfg[i];

        if (m->segment != a.segment || a.bus < m->bus_start || a.bus > m->bus_end)
            continue;
        if (!READ_ONCE(windows[i][a.bus])) /* two CPUs at once map it twice: harmless */
            WRITE_ONCE(windows[i][a.bus], ioremap(MADDR(m->base.n + a.bus * BUS_WINDOW), BUS_WINDOW));
        return windows[i][a.bus] ? windows[i][a.bus] + a.devfn * PAGE_SIZE : NULL;
    }
    return NULL;
}

static bool access_ok(unsigned offset, unsigned bytes)
{
    return (bytes == 1 || bytes == 2 || bytes == 4) && offset < 4096 && (offset & 3) + bytes <= 4;
}

static bool by_ports(struct pci_address a, unsigned offset) { return a.segment == 0 && offset < 256; }

static uint32_t port_address(struct pci_address a, unsigned offset)
{
    return ADDRESS_ENABLE | (uint32_t)a.bus << 16 | (uint32_t)a.devfn << 8 | (offset & 0xfc);
}

uint32_t pci_read(struct pci_address a, unsigned offset, unsigned bytes)
{
    uint16_t port = (uint16_t)(PORT_DATA + (offset & 3));
    volatile uint8_t *p;
    unsigned long flags;
    uint32_t v;

    if (!access_ok(offset, bytes))
        return ~0U;
    if (by_ports(a, offset)) {
        flags = ports_lock();
        outl(PORT_ADDRESS, port_address(a, offset));
        v = bytes == 1 ? inb(port) : bytes == 2 ? inw(port) : inl(port);
        ports_unlock(flags);
        return v;
    }
    p = window_of(a);
    if (!p)
        return ~0U;
    p += offset;
    return bytes == 1 ? *p : bytes == 2 ? *(volatile uint16_t *)p : *(volatile uint32_t *)p;
}

void pci_write(struct pci_address a, unsigned offset, unsigned bytes, uint32_t value)
{
    uint16_t port = (uint16_t)(PORT_DATA + (offset & 3));
    volatile uint8_t *p;
    unsigned long flags;

    if (!access_ok(offset, bytes))
        return;
    if (by_ports(a, offset)) {
        flags = ports_lock();
        outl(PORT_ADDRESS, port_address(a, offset));
        if (bytes == 1)
            outb(port, (uint8_t)value);
        else if (bytes == 2)
            outw(port, (uint16_t)value);
        else
            outl(port, value);
        ports_unlock(flags);
        return;
    }
    p = window_of(a);
    if (!p)
        return;
    p += offset;
    if (bytes == 1)
        *p = (uint8_t)value;
    else if (bytes == 2)
        *(volatile uint16_t *)p = (uint16_t)value;
    else
        *(volatile uint32_t *)p = value;
}

unsigned pci_find_capability(struct pci_address a, unsigned id)
{
    unsigned at;

    if (pci_read(a, PCI_VENDOR, 2) == 0xffff || !(pci_read(a, PCI_STATUS, 2) & PCI_STATUS_CAPABILITIES))
        return 0;
    at = pci_read(a, PCI_CAPABILITY_POINTER, 1) & 0xfc;
    for (unsigned n = 0; n < CAPABILITIES_MAX && at >= 0x40; n++) {
        uint32_t head = pci_read(a, at, 2);

        if ((head & 0xff) == id)
            return at;
        at = head >> 8 & 0xfc;
    }
    return 0;
}

/* --- Domain 0's ports --- */

/* AMD's northbridges take bits 11-8 of the register number in bits 27-24 of the address. */
static unsigned guest_offset(uint32_t cf8, unsigned offset)
{
    return (cf8 >> 16 & 0xf00) | (cf8 & 0xfc) | (offset & 3);
}

static struct pci_address guest_address(uint32_t cf8)
{
    return (struct pci_address){0, (uint8_t)(cf8 >> 16), (uint8_t)(cf8 >> 8)};
}

uint32_t pci_guest_read(uint32_t cf8, unsigned offset, unsigned bytes)
{
    if (!(cf8 & ADDRESS_ENABLE))
        return ~0U;
    return pci_read(guest_address(cf8), guest_offset(cf8, offset), bytes);
}

void pci_guest_write(uint32_t cf8, unsigned offset, unsigned bytes, uint32_t value)
{
    struct pci_address a = guest_address(cf8);
    unsigned at = guest_offset(cf8, offset);

    if (!(cf8 & ADDRESS_ENABLE) || !access_ok(at, bytes))
        return;
    if (!msi_guards(a, at, bytes)) {
        pci_write(a, at, bytes, value);
        return;
    }
    /* Some of these bytes are Croft's: the others are written one by one. */
    for (unsigned i = 0; i < bytes; i++) {
        uint8_t byte = (uint8_t)(value >> 8 * i);

        if (msi_filter_byte(a, at + i, &byte))
            pci_write(a, at + i, 1, byte);
    }
}
