/* MSI and MSI-X; see msi.h. */
#include "platform/msi.h"

#include "cpu/smp.h"
#include "lib/errno.h"
#include "lib/log.h"
#include "lib/printf.h"
#include "lib/spinlock.h"
#include "memory/frame.h"
#include "memory/map.h"
#include "platform/ioapic.h"

#define MSI_MAX (VECTOR_DEVICE_LAST - VECTOR_DEVICE_FIRST + 1) /* each needs a vector */

#define MSI_CONTROL 2
#define MSI_CONTROL_ENABLE 0x0001U
#define MSI_CONTROL_MULTIPLE 0x0070U /* how many messages are enabled, as a power of two */
#define MSI_CONTROL_64BIT 0x0080U
#define MSI_CONTROL_MASKABLE 0x0100U
#define MSI_ADDRESS 4
#define MSIX_CONTROL_SIZE 0x07ffU
#define MSIX_CONTROL_ENABLE 0x8000U
#define MSIX_TABLE 4
#define MSIX_TABLE_BAR 7U
#define MSIX_ENTRY_SIZE 16
#define MSIX_ENTRY_MASKED 1U
#define BAR_IO 1U
#define BAR_64BIT 4U /* of the type bits 6 */
#define MESSAGE_ADDRESS 0xfee00000U

struct msi {
    bool used, msix, wide, maskable, masked;
    struct pci_address address;
    uint16_t capability, entry;
    volatile uint32_t *slot; /* MSI-X: address low, high, data, control */
    uint8_t vector;
    uint32_t apic_id;
};

static struct msi messages[MSI_MAX];
static spinlock_t lock = SPINLOCK_INIT;        /* messages[].used, address, capability; irq-safe */
static spinlock_t create_lock = SPINLOCK_INIT; /* msi_create as a whole: it maps memory, so interrupts stay on */

/* ioremap is for ever: a device that is set up again gets the mapping it had. */
static struct {
    uint64_t page;
    volatile uint8_t *at;
} mapped[2 * MSI_MAX];
static unsigned mapped_count;

static bool same_device(struct pci_address a, struct pci_address b)
{
    return a.segment == b.segment && a.bus == b.bus && a.devfn == b.devfn;
}

static unsigned data_offset(const struct msi *m) { return m->capability + (m->wide ? 12 : 8); }
static unsigned mask_offset(const struct msi *m) { return data_offset(m) + 4; }

/* One above the last byte of an MSI capability. */
static unsigned capability_end(const struct msi *m) { return m->maskable ? mask_offset(m) + 8 : data_offset(m) + 2; }

static struct msi *find_locked(struct pci_address a, bool msix, unsigned entry)
{
    for (unsigned i = 0; i < MSI_MAX; i++)
        if (messages[i].used && messages[i].msix == msix && messages[i].entry == entry &&
            same_device(messages[i].address, a))
            return &messages[i];
    return NULL;
}

bool msi_in_use(struct pci_address a)
{
    unsigned long flags = spin_lock_irqsave(&lock);
    bool found = false;

    for (unsigned i = 0; i < MSI_MAX && !found; i++)
        found = messages[i].used && same_device(messages[i].address, a);
    spin_unlock_irqrestore(&lock, flags);
    return found;
}

/* --- Finding a device's message --- */

static uint64_t read_bar(struct pci_address a, unsigned bar)
{
    uint32_t low = pci_read(a, PCI_BAR0 + 4 * bar, 4);
    uint64_t base = low & ~15U;

    if (low & BAR_IO)
        return 0;
    if ((low & 6) == BAR_64BIT && bar < 5)
        base |= (uint64_t)pci_read(a, PCI_BAR0 + 4 * bar + 4, 4) << 32;
    return base;
}

static volatile uint8_t *map_page(uint64_t page)
{
    volatile uint8_t *at;

    for (unsigned i = 0; i < mapped_count; i++)
        if (mapped[i].page == page)
            return mapped[i].at;
    if (mapped_count == ARRAY_SIZE(mapped))
        return NULL;
    at = ioremap(MADDR(page), PAGE_SIZE);
    if (at) {
        mapped[mapped_count].page = page;
        mapped[mapped_count++].at = at;
    }
    return at;
}

static int find_msix_slot(struct msi *m, uint64_t table_base)
{
    struct pci_address a = m->address;
    uint32_t size = (pci_read(a, m->capability + MSI_CONTROL, 2) & MSIX_CONTROL_SIZE) + 1;
    uint32_t table = pci_read(a, m->capability + MSIX_TABLE, 4);
    unsigned bar = table & MSIX_TABLE_BAR;
    uint64_t base, at;
    volatile uint8_t *page;

    if (m->entry >= size || bar > 5)
        return -EINVAL;
    if (!(pci_read(a, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY))
        return -ENXIO;
    base = read_bar(a, bar);
    if (!base)
        base = table_base & ~15UL;
    at = base + (table & ~MSIX_TABLE_BAR) + (uint64_t)m->entry * MSIX_ENTRY_SIZE;
    /* A table in RAM, or over an APIC, is a lie that Croft must not write to. */
    if (!base || at >> 52 || mfn_valid(maddr_to_mfn(MADDR(at))) || ioapic_owns_frame(maddr_to_mfn(MADDR(at))) ||
        (at & ~0xfffffUL) == MESSAGE_ADDRESS)
        return -EINVAL;
    page = map_page(at & PAGE_MASK);
    if (!page)
        return -ENOMEM;
    m->slot = (volatile uint32_t *)(page + (at & ~PAGE_MASK));
    m->maskable = true;
    return 0;
}

static int find_message(struct msi *m, uint64_t table_base)
{
    uint32_t control;

    m->capability = (uint16_t)pci_find_capability(m->address, m->msix ? PCI_CAPABILITY_MSIX : PCI_CAPABILITY_MSI);
    if (!m->capability)
        return -ENODEV;
    if (m->msix)
        return find_msix_slot(m, table_base);
    if (m->entry)
        return -EINVAL;
    control = pci_read(m->address, m->capability + MSI_CONTROL, 2);
    m->wide = control & MSI_CONTROL_64BIT;
    m->maskable = control & MSI_CONTROL_MASKABLE;
    return 0;
}

int msi_create(struct pci_address a, bool msix, unsigned entry, uint64_t table_base, struct msi **out)
{
    struct msi new = {.used = true, .msix = msix, .address = a, .entry = (uint16_t)entry}, *m = NULL;
    unsigned long flags;
    int err;

    if (entry > MSIX_CONTROL_SIZE)
        return -EINVAL;
    spin_lock(&create_lock);
    err = find_message(&new, table_base);
    if (!err) {
        flags = spin_lock_irqsave(&lock);
        if (find_locked(a, msix, entry))
            err = -EEXIST;
        for (unsigned i = 0; i < MSI_MAX && !err && !m; i++)
            if (!messages[i].used)
                m = &messages[i];
        if (m)
            *m = new;
        else if (!err)
            err = -ENOSPC;
        spin_unlock_irqrestore(&lock, flags);
    }
    spin_unlock(&create_lock);
    if (err)
        return err;
    msi_set_masked(m, true);
    *out = m;
    return 0;
}

void msi_destroy(struct msi *m)
{
    unsigned long flags;

    msi_set_masked(m, true);
    flags = spin_lock_irqsave(&lock);
    m->used = false;
    spin_unlock_irqrestore(&lock, flags);
}

/* --- Registers --- */

static bool table_reachable(const struct msi *m) { return pci_read(m->address, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY; }

void msi_set_masked(struct msi *m, bool masked)
{
    m->masked = masked;
    if (!m->maskable)
        return; /* what comes in between is dropped by irq_dispatch */
    if (!m->msix) {
        pci_write(m->address, mask_offset(m), 4, masked);
    } else if (table_reachable(m)) {
        m->slot[3] = (m->slot[3] & ~MSIX_ENTRY_MASKED) | (masked ? MSIX_ENTRY_MASKED : 0);
        (void)m->slot[3]; /* the write has arrived when this is answered */
    }
}

static void write_message(struct msi *m)
{
    uint32_t address = MESSAGE_ADDRESS | m->apic_id << 12; /* fixed delivery, physical destination, edge */

    if (!m->msix) {
        pci_write(m->address, m->capability + MSI_ADDRESS, 4, address);
        if (m->wide)
            pci_write(m->address, m->capability + MSI_ADDRESS + 4, 4, 0);
        pci_write(m->address, data_offset(m), 2, m->vector);
    } else if (table_reachable(m)) {
        uint32_t control = m->slot[3];

        m->slot[3] = control | MSIX_ENTRY_MASKED; /* an entry is only to be changed while it is masked */
        m->slot[0] = address;
        m->slot[1] = 0;
        m->slot[2] = m->vector;
        m->slot[3] = control;
        (void)m->slot[3];
    }
}

void msi_set_message(struct msi *m, uint8_t vector, uint32_t apic_id)
{
    m->vector = vector;
    m->apic_id = apic_id;
    write_message(m);
}

void msi_enable(struct msi *m)
{
    unsigned at = m->capability + MSI_CONTROL;
    uint32_t control = pci_read(m->address, at, 2);

    pci_write(m->address, at, 2,
              m->msix ? control | MSIX_CONTROL_ENABLE : (control & ~MSI_CONTROL_MULTIPLE) | MSI_CONTROL_ENABLE);
}

int msi_restore(struct pci_address a)
{
    unsigned long flags = spin_lock_irqsave(&lock);
    int err = -ESRCH;

    for (unsigned i = 0; i < MSI_MAX; i++) {
        struct msi *m = &messages[i];

        if (!m->used || !same_device(m->address, a))
            continue;
        write_message(m);
        msi_set_masked(m, m->masked);
        msi_enable(m);
        err = 0;
    }
    spin_unlock_irqrestore(&lock, flags);
    return err;
}

void msi_describe(const struct msi *m, char *to, size_t size)
{
    snprintf(to, size, "%s %04x:%02x:%02x.%u entry %u", m->msix ? "MSI-X" : "MSI", m->address.segment, m->address.bus,
             m->address.devfn >> 3, m->address.devfn & 7U, m->entry);
}

/* --- Domain 0's writes --- */

/* The device's MSI, if it is in use and its capability touches the bytes. MSI-X registers need no guard: address and
 * data are in the table, and enable and function mask are domain 0's. */
static const struct msi *guarding(struct pci_address a, unsigned offset, unsigned bytes)
{
    const struct msi *m = find_locked(a, false, 0);

    return m && offset < capability_end(m) && offset + bytes > (unsigned)m->capability + MSI_CONTROL ? m : NULL;
}

bool msi_guards(struct pci_address a, unsigned offset, unsigned bytes)
{
    unsigned long flags = spin_lock_irqsave(&lock);
    bool found = guarding(a, offset, bytes);

    spin_unlock_irqrestore(&lock, flags);
    return found;
}

bool msi_filter_byte(struct pci_address a, unsigned offset, uint8_t *byte)
{
    unsigned long flags = spin_lock_irqsave(&lock);
    const struct msi *m = guarding(a, offset, 1);
    bool pass = !m || offset < (unsigned)m->capability + MSI_ADDRESS;

    if (m && offset == (unsigned)m->capability + MSI_CONTROL)
        *byte &= (uint8_t)~MSI_CONTROL_MULTIPLE; /* one message, as Croft set up */
    spin_unlock_irqrestore(&lock, flags);
    return pass;
}
