/* I/O APIC registers; see ioapic.h. */
#include "platform/ioapic.h"

#include "lib/errno.h"
#include "lib/log.h"
#include "lib/spinlock.h"
#include "memory/map.h"
#include "platform/acpi.h"

#define REG_ID 0
#define REG_VERSION 1
#define REG_ARBITRATION 2
#define REG_ENTRY 0x10 /* + 2 * pin, low half first */
#define SELECT 0x00    /* offsets in the memory window */
#define DATA 0x10
#define ENTRY_ACTIVE_LOW (1U << 13)
#define ENTRY_LEVEL (1U << 15)
#define ENTRY_MASKED (1U << 16)

struct ioapic {
    volatile uint8_t *window;
    maddr_t address;
    unsigned gsi_base, pins;
};

static struct ioapic ioapics[ARRAY_SIZE(acpi_info.ioapics)];
static unsigned ioapic_count, gsi_count;
static spinlock_t lock = SPINLOCK_INIT; /* select and data belong together; irq-safe */

static uint32_t read_locked(const struct ioapic *io, unsigned reg)
{
    *(volatile uint32_t *)(io->window + SELECT) = reg;
    return *(volatile uint32_t *)(io->window + DATA);
}

static void write_locked(const struct ioapic *io, unsigned reg, uint32_t value)
{
    *(volatile uint32_t *)(io->window + SELECT) = reg;
    *(volatile uint32_t *)(io->window + DATA) = value;
}

static const struct ioapic *ioapic_of_gsi(unsigned gsi)
{
    for (unsigned i = 0; i < ioapic_count; i++)
        if (gsi - ioapics[i].gsi_base < ioapics[i].pins)
            return &ioapics[i];
    return NULL;
}

static const struct ioapic *ioapic_at(maddr_t at)
{
    for (unsigned i = 0; i < ioapic_count; i++)
        if (ioapics[i].address.n == at.n)
            return &ioapics[i];
    return NULL;
}

void ioapic_init(void)
{
    for (unsigned i = 0; i < acpi_info.ioapic_count; i++) {
        const struct acpi_ioapic *a = &acpi_info.ioapics[i];
        struct ioapic io = {ioremap(a->address, PAGE_SIZE), a->address, a->gsi_base, 0};
        uint32_t version;

        if (!io.window) {
            log_warning("I/O APIC %u at 0x%lx cannot be mapped; its interrupts are lost\n", a->id, a->address.n);
            continue;
        }
        version = read_locked(&io, REG_VERSION);
        io.pins = (version >> 16 & 0xff) + 1;
        if (version == 0xffffffff || a->gsi_base > 0xffff) {
            log_warning("I/O APIC %u at 0x%lx does not answer or has an impossible GSI base (%u); left out\n", a->id,
                        a->address.n, a->gsi_base);
            continue;
        }
        for (unsigned pin = 0; pin < io.pins; pin++) {
            write_locked(&io, REG_ENTRY + 2 * pin, ENTRY_MASKED);
            write_locked(&io, REG_ENTRY + 2 * pin + 1, 0);
        }
        ioapics[ioapic_count++] = io;
        gsi_count = max(gsi_count, io.gsi_base + io.pins);
        log_info("I/O APIC %u: GSI %u-%u\n", a->id, io.gsi_base, io.gsi_base + io.pins - 1);
    }
    if (!ioapic_count)
        log_warning("no I/O APIC: devices have no interrupts but MSI\n");
}

unsigned ioapic_gsi_count(void) { return gsi_count; }
bool ioapic_has_gsi(unsigned gsi) { return ioapic_of_gsi(gsi) != NULL; }

static uint32_t low_half(const struct ioapic_pin *pin)
{
    return pin->vector | (pin->active_low ? ENTRY_ACTIVE_LOW : 0) | (pin->level ? ENTRY_LEVEL : 0) |
           (pin->masked ? ENTRY_MASKED : 0); /* fixed delivery, physical destination */
}

void ioapic_set_masked(unsigned gsi, const struct ioapic_pin *pin)
{
    const struct ioapic *io = ioapic_of_gsi(gsi);
    unsigned long flags;

    if (!io)
        return;
    flags = spin_lock_irqsave(&lock);
    write_locked(io, REG_ENTRY + 2 * (gsi - io->gsi_base), low_half(pin));
    spin_unlock_irqrestore(&lock, flags);
}

void ioapic_program(unsigned gsi, const struct ioapic_pin *pin)
{
    const struct ioapic *io = ioapic_of_gsi(gsi);
    unsigned long flags;

    if (!io)
        return;
    flags = spin_lock_irqsave(&lock);
    write_locked(io, REG_ENTRY + 2 * (gsi - io->gsi_base) + 1, pin->apic_id << 24);
    write_locked(io, REG_ENTRY + 2 * (gsi - io->gsi_base), low_half(pin));
    spin_unlock_irqrestore(&lock, flags);
}

int ioapic_read_register(maddr_t at, unsigned reg, uint32_t *value)
{
    const struct ioapic *io = ioapic_at(at);
    unsigned long flags;

    if (!io)
        return -ENODEV;
    if (reg > REG_ARBITRATION && (reg < REG_ENTRY || reg >= REG_ENTRY + 2 * io->pins))
        return -EINVAL;
    flags = spin_lock_irqsave(&lock);
    *value = read_locked(io, reg);
    spin_unlock_irqrestore(&lock, flags);
    return 0;
}

int ioapic_gsi_of_register(maddr_t at, unsigned reg)
{
    const struct ioapic *io = ioapic_at(at);

    if (!io || reg < REG_ENTRY || reg >= REG_ENTRY + 2 * io->pins || reg & 1)
        return -1;
    return (int)(io->gsi_base + (reg - REG_ENTRY) / 2);
}

bool ioapic_owns_frame(mfn_t m)
{
    for (unsigned i = 0; i < ioapic_count; i++)
        if (mfn_eq(maddr_to_mfn(ioapics[i].address), m))
            return true;
    return false;
}
