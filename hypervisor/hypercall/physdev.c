/*
 * physdev_op: what a domain asks about interrupts, ports and PCI devices. Requests about the machine's devices are
 * domain 0's; a domain may always ask about its own PIRQs and its own privilege for ports.
 */
#include "domain/domain.h"
#include "domain/guest_access.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"
#include "platform/acpi.h"
#include "platform/ioapic.h"
#include "platform/irq.h"
#include "platform/msi.h"
#include "platform/pci.h"

#define IOPL_MAX 3
#define PORT_COUNT 65536
#define RTE_LEVEL (1U << 15) /* of an I/O APIC's redirection entry */
#define RTE_ACTIVE_LOW (1U << 13)

/* Copies the caller's argument into 'x'; ends the function with -EFAULT where it cannot be read. */
#define COPY_IN(x, arg)                                                                                                \
    do {                                                                                                               \
        if (copy_from_guest(&(x), (const void *)(arg), sizeof(x)))                                                     \
            return -EFAULT;                                                                                            \
    } while (0)

static long copy_out(uint64_t arg, const void *x, size_t n) { return copy_to_guest((void *)arg, x, n) ? -EFAULT : 0; }

static struct pci_address address_of(uint16_t segment, uint8_t bus, uint8_t devfn)
{
    return (struct pci_address){segment, bus, devfn};
}

#define PCI_FORMAT "%04x:%02x:%02x.%u"
#define PCI_VALUES(a) (a).segment, (a).bus, (a).devfn >> 3, (a).devfn & 7

/* --- Any domain --- */

static long op_eoi(uint64_t arg)
{
    struct physdev_eoi eoi;
    uint32_t flags;

    COPY_IN(eoi, arg);
    if (pirq_status(current->domain, eoi.irq, &flags))
        return refuse(-EINVAL, "physdev eoi: there is no pirq %u\n", eoi.irq);
    pirq_guest_eoi(current->domain, eoi.irq);
    return 0;
}

static long op_irq_status_query(uint64_t arg)
{
    struct physdev_irq_status_query query;
    int err;

    COPY_IN(query, arg);
    err = pirq_status(current->domain, query.irq, &query.flags);
    if (err)
        return refuse(err, "physdev irq_status_query: there is no pirq %u\n", query.irq);
    return copy_out(arg, &query, sizeof(query));
}

static long op_pirq_eoi_gmfn(uint64_t arg)
{
    struct physdev_pirq_eoi_gmfn page;
    int err;

    COPY_IN(page, arg);
    err = pirq_set_eoi_page(current->domain, MFN(page.gmfn));
    if (err == -EBUSY)
        return refuse(err, "physdev pirq_eoi_gmfn: a page is registered already\n");
    if (err && !current->domain->irq)
        return err; /* every guest tries it at boot: no line about it */
    return err ? refuse(err, "physdev pirq_eoi_gmfn: frame 0x%lx is not a writable one of the domain's\n", page.gmfn)
               : 0;
}

static long op_set_iopl(uint64_t arg)
{
    struct physdev_set_iopl set;

    COPY_IN(set, arg);
    if (set.iopl > IOPL_MAX)
        return refuse(-EINVAL, "physdev set_iopl: level %u; 0 to 3 are possible\n", set.iopl);
    current->pv.iopl = set.iopl;
    return 0;
}

static long op_set_iobitmap(uint64_t arg)
{
    struct physdev_set_iobitmap set;

    COPY_IN(set, arg);
    if (set.nr_ports > PORT_COUNT)
        return refuse(-EINVAL, "physdev set_iobitmap: %u ports; there are %u\n", set.nr_ports, PORT_COUNT);
    if (!guest_range_ok(set.bitmap.p, DIV_ROUND_UP(set.nr_ports, 8)))
        return refuse(-EINVAL, "physdev set_iobitmap: the bitmap at %p is not in the guest's address space\n",
                      (void *)set.bitmap.p);
    current->pv.guest_io_bitmap = set.bitmap.p;
    current->pv.guest_io_bitmap_ports = set.nr_ports;
    return 0;
}

static long op_get_free_pirq(uint64_t arg)
{
    struct physdev_get_free_pirq get;
    int err;

    COPY_IN(get, arg);
    if (get.type != MAP_PIRQ_TYPE_MSI && get.type != MAP_PIRQ_TYPE_GSI)
        return refuse(-EINVAL, "physdev get_free_pirq: type %d; it is for GSI or MSI\n", get.type);
    err = pirq_get_free(current->domain, &get.pirq);
    if (err)
        return refuse(err, "physdev get_free_pirq: no pirq is free\n");
    err = (int)copy_out(arg, &get, sizeof(get));
    if (err)
        pirq_unmap(current->domain, (int)get.pirq);
    return err;
}

/* --- Domain 0: interrupts --- */

static long op_apic_read(uint64_t arg)
{
    struct physdev_apic apic;
    int err;

    COPY_IN(apic, arg);
    err = ioapic_read_register(MADDR(apic.apic_physbase), apic.reg, &apic.value);
    if (err)
        return refuse(err, "physdev apic_read: no register 0x%x in an I/O APIC at 0x%lx\n", apic.reg,
                      apic.apic_physbase);
    return copy_out(arg, &apic, sizeof(apic));
}

/* Vectors, destinations and masks are Croft's; of what a kernel writes to a pin, trigger and polarity are taken. */
static long op_apic_write(uint64_t arg)
{
    struct physdev_apic apic;
    uint32_t old;
    int err, gsi;

    COPY_IN(apic, arg);
    err = ioapic_read_register(MADDR(apic.apic_physbase), apic.reg, &old);
    if (err)
        return refuse(err, "physdev apic_write: no register 0x%x in an I/O APIC at 0x%lx\n", apic.reg,
                      apic.apic_physbase);
    gsi = ioapic_gsi_of_register(MADDR(apic.apic_physbase), apic.reg);
    if (gsi >= 0) {
        err = irq_setup_gsi((unsigned)gsi, apic.value & RTE_LEVEL, apic.value & RTE_ACTIVE_LOW);
        return err == -EEXIST ? 0 : err;
    }
    guest_log(LOG_DEBUG, "physdev apic_write: register 0x%x is Croft's; the write is ignored\n", apic.reg);
    return 0;
}

static long op_alloc_irq_vector(uint64_t arg)
{
    struct physdev_irq irq;
    int vector;

    COPY_IN(irq, arg);
    vector = irq_vector_of_gsi(irq.irq);
    if (vector < 0)
        return refuse(vector, "physdev alloc_irq_vector: GSI %u has no pin, or no vector is free\n", irq.irq);
    irq.vector = (uint32_t)vector;
    return copy_out(arg, &irq, sizeof(irq));
}

static long op_setup_gsi(uint64_t arg)
{
    struct physdev_setup_gsi setup;
    int err;

    COPY_IN(setup, arg);
    if (setup.gsi < 0)
        return refuse(-EINVAL, "physdev setup_gsi: GSI %d\n", setup.gsi);
    err = irq_setup_gsi((unsigned)setup.gsi, setup.triggering, setup.polarity);
    if (err == -EEXIST) { /* usual: kernels ask again for shared lines */
        guest_log(LOG_DEBUG, "physdev setup_gsi: GSI %d is set up already\n", setup.gsi);
        return err;
    }
    return err ? refuse(err, "physdev setup_gsi: GSI %d has no pin, or no vector is free\n", setup.gsi) : 0;
}

static int map_msi(struct domain *d, const struct physdev_map_pirq *map, int *pirq)
{
    bool msix = map->table_base != 0, with_segment = map->type == MAP_PIRQ_TYPE_MSI_SEG;
    struct pci_address a =
        address_of(with_segment ? (uint16_t)(map->bus >> 16) : 0, (uint8_t)map->bus, (uint8_t)map->devfn);
    int err;

    if (map->devfn & ~0xff || (!with_segment && map->bus & ~0xff) || (with_segment && map->bus & 0xff00) ||
        map->entry_nr < 0)
        return refuse(-EINVAL, "physdev map_pirq: bus 0x%x, devfn 0x%x, entry %d cannot be\n", map->bus, map->devfn,
                      map->entry_nr);
    err = pirq_map_msi(d, a, msix, msix ? (unsigned)map->entry_nr : 0, map->table_base, pirq);
    if (err == -ENODEV)
        return refuse(err, "physdev map_pirq: " PCI_FORMAT " is not there or has no %s\n", PCI_VALUES(a),
                      msix ? "MSI-X" : "MSI");
    if (err == -ENXIO)
        return refuse(err,
                      "physdev map_pirq: " PCI_FORMAT " does not decode memory, so its MSI-X table is out of reach\n",
                      PCI_VALUES(a));
    if (err)
        return refuse(
            err, "physdev map_pirq: " PCI_FORMAT " entry %d: error %d (in use, no such entry, or no vector free)\n",
            PCI_VALUES(a), map->entry_nr, -err);
    return 0;
}

static long map_in_domain(struct domain *d, uint64_t arg, struct physdev_map_pirq *map)
{
    int pirq = map->pirq, err;

    switch (map->type) {
    case MAP_PIRQ_TYPE_GSI:
        if (map->index < 0)
            return refuse(-EINVAL, "physdev map_pirq: GSI %d\n", map->index);
        err = pirq_map_gsi(d, (unsigned)map->index, &pirq);
        if (err)
            return refuse(err, "physdev map_pirq: GSI %d as pirq %d: error %d\n", map->index, map->pirq, -err);
        break;
    case MAP_PIRQ_TYPE_MSI:
    case MAP_PIRQ_TYPE_MSI_SEG:
        err = map_msi(d, map, &pirq);
        if (err)
            return err;
        break;
    case MAP_PIRQ_TYPE_MULTI_MSI: /* kernels fall back to a single message */
        guest_log(LOG_DEBUG, "physdev map_pirq: several messages of one MSI are not supported; use one, or MSI-X\n");
        return -EOPNOTSUPP;
    default:
        return refuse(-EINVAL, "physdev map_pirq: unknown type %d\n", map->type);
    }
    map->pirq = pirq;
    if (copy_out(arg, map, sizeof(*map))) {
        if (map->type != MAP_PIRQ_TYPE_GSI)
            pirq_unmap(d, pirq);
        return -EFAULT;
    }
    return 0;
}

static long op_map_pirq(uint64_t arg)
{
    struct physdev_map_pirq map;
    struct domain *d;
    long err;

    COPY_IN(map, arg);
    d = domain_get_by_id(map.domid);
    if (!d)
        return refuse(-ESRCH, "physdev map_pirq: there is no domain %u\n", map.domid);
    err = map_in_domain(d, arg, &map);
    domain_put(d);
    return err;
}

static long op_unmap_pirq(uint64_t arg)
{
    struct physdev_unmap_pirq unmap;
    struct domain *d;
    int err;

    COPY_IN(unmap, arg);
    d = domain_get_by_id(unmap.domid);
    if (!d)
        return refuse(-ESRCH, "physdev unmap_pirq: there is no domain %u\n", unmap.domid);
    err = pirq_unmap(d, unmap.pirq);
    domain_put(d);
    return err ? refuse(err, "physdev unmap_pirq: pirq %d is not mapped\n", unmap.pirq) : 0;
}

/* --- Domain 0: PCI devices --- */

static long device_added(struct pci_address a, const char *kind)
{
    if (pci_read(a, PCI_VENDOR, 2) == 0xffff)
        return refuse(-ENODEV, "physdev: " PCI_FORMAT " was announced but does not answer\n", PCI_VALUES(a));
    log_debug("PCI: " PCI_FORMAT " (%s)\n", PCI_VALUES(a), kind);
    return 0;
}

static long device_removed(struct pci_address a)
{
    if (msi_in_use(a))
        return refuse(-EBUSY, "physdev: " PCI_FORMAT " still has interrupts mapped; unmap them first\n", PCI_VALUES(a));
    return 0;
}

static long op_pci_device_add(uint64_t arg)
{
    struct physdev_pci_device_add add; /* without the optional array */
    bool virtual;

    if (copy_from_guest(&add, (const void *)arg, offsetof(struct physdev_pci_device_add, optarr)))
        return -EFAULT;
    /* A virtual function reads its vendor id as all ones. */
    virtual = add.flags & XEN_PCI_DEV_VIRTFN;
    return device_added(virtual ? address_of(add.seg, add.physfn.bus, add.physfn.devfn)
                                : address_of(add.seg, add.bus, add.devfn),
                        virtual                         ? "has a virtual function"
                        : add.flags & XEN_PCI_DEV_EXTFN ? "extended function"
                                                        : "function");
}

static long op_manage_pci(uint64_t arg, bool add)
{
    struct physdev_manage_pci manage;

    COPY_IN(manage, arg);
    return add ? device_added(address_of(0, manage.bus, manage.devfn), "function")
               : device_removed(address_of(0, manage.bus, manage.devfn));
}

static long op_manage_pci_add_ext(uint64_t arg)
{
    struct physdev_manage_pci_ext manage;

    COPY_IN(manage, arg);
    if (manage.is_virtfn)
        return device_added(address_of(0, manage.physfn.bus, manage.physfn.devfn), "has a virtual function");
    return device_added(address_of(0, manage.bus, manage.devfn), "function");
}

static long op_pci_device(uint64_t cmd, uint64_t arg)
{
    struct physdev_pci_device device;
    struct pci_address a;
    int err;

    COPY_IN(device, arg);
    a = address_of(device.seg, device.bus, device.devfn);
    switch (cmd) {
    case PHYSDEVOP_pci_device_remove:
        return device_removed(a);
    case PHYSDEVOP_restore_msi_ext:
        err = msi_restore(a);
        return err ? refuse(err, "physdev restore_msi: " PCI_FORMAT " has no MSI in use\n", PCI_VALUES(a)) : 0;
    default: /* prepare_msix, release_msix: nothing to do, Croft finds the table when an entry is mapped */
        if (!pci_find_capability(a, PCI_CAPABILITY_MSIX))
            return refuse(-ENODEV, "physdev: " PCI_FORMAT " has no MSI-X\n", PCI_VALUES(a));
        return 0;
    }
}

static long op_restore_msi(uint64_t arg)
{
    struct physdev_restore_msi restore;
    int err;

    COPY_IN(restore, arg);
    err = msi_restore(address_of(0, restore.bus, restore.devfn));
    return err ? refuse(err, "physdev restore_msi: %02x:%02x.%u has no MSI in use\n", restore.bus, restore.devfn >> 3,
                        restore.devfn & 7)
               : 0;
}

/* Domain 0 confirms (or not) that ACPI's namespace reserves a window; Croft uses those of the MCFG table as they are. */
static long op_pci_mmcfg_reserved(uint64_t arg)
{
    struct physdev_pci_mmcfg_reserved r;

    COPY_IN(r, arg);
    for (unsigned i = 0; i < acpi_info.mcfg_count; i++)
        if (acpi_info.mcfg[i].base.n == r.address && acpi_info.mcfg[i].segment == r.segment)
            return 0;
    return refuse(-ENODEV, "physdev pci_mmcfg_reserved: no window at 0x%lx for segment %u in the MCFG table\n",
                  r.address, r.segment);
}

/* --- The calls --- */

static long not_there(uint64_t cmd)
{
    static unsigned long said; /* once each */

    if (cmd >= BITS_PER_LONG || !test_and_set_bit(cmd, &said))
        guest_log(LOG_DEBUG, "physdev: operation %lu is not supported\n", cmd);
    return -ENOSYS;
}

static long privileged_op(uint64_t cmd, uint64_t arg)
{
    switch (cmd) {
    case PHYSDEVOP_apic_read:
        return op_apic_read(arg);
    case PHYSDEVOP_apic_write:
        return op_apic_write(arg);
    case PHYSDEVOP_alloc_irq_vector:
        return op_alloc_irq_vector(arg);
    case PHYSDEVOP_setup_gsi:
        return op_setup_gsi(arg);
    case PHYSDEVOP_map_pirq:
        return op_map_pirq(arg);
    case PHYSDEVOP_unmap_pirq:
        return op_unmap_pirq(arg);
    case PHYSDEVOP_pci_device_add:
        return op_pci_device_add(arg);
    case PHYSDEVOP_manage_pci_add:
    case PHYSDEVOP_manage_pci_remove:
        return op_manage_pci(arg, cmd == PHYSDEVOP_manage_pci_add);
    case PHYSDEVOP_manage_pci_add_ext:
        return op_manage_pci_add_ext(arg);
    case PHYSDEVOP_pci_device_remove:
    case PHYSDEVOP_restore_msi_ext:
    case PHYSDEVOP_prepare_msix:
    case PHYSDEVOP_release_msix:
        return op_pci_device(cmd, arg);
    case PHYSDEVOP_restore_msi:
        return op_restore_msi(arg);
    case PHYSDEVOP_pci_mmcfg_reserved:
        return op_pci_mmcfg_reserved(arg);
    default: /* dbgp_op and free_irq_vector among them */
        return not_there(cmd);
    }
}

long hypercall_physdev_op(uint64_t cmd, uint64_t arg, uint64_t a3, uint64_t a4, uint64_t a5)
{
    switch (cmd) {
    case PHYSDEVOP_eoi:
        return op_eoi(arg);
    case PHYSDEVOP_irq_status_query:
        return op_irq_status_query(arg);
    case PHYSDEVOP_pirq_eoi_gmfn_v2:
        return op_pirq_eoi_gmfn(arg);
    case PHYSDEVOP_pirq_eoi_gmfn_v1: /* its eoi would unmask the event channel as well; kernels do without it */
        return not_there(cmd);
    case PHYSDEVOP_set_iopl:
        return op_set_iopl(arg);
    case PHYSDEVOP_set_iobitmap:
        return op_set_iobitmap(arg);
    case PHYSDEVOP_get_free_pirq:
        return op_get_free_pirq(arg);
    default:
        if (!current->domain->is_privileged)
            return refuse(-EPERM, "physdev: operation %lu is domain 0's\n", cmd);
        return privileged_op(cmd, arg);
    }
}

/* The first form of the call: one structure with the operation's number in front of its arguments. */
long hypercall_physdev_op_compat(uint64_t arg, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
    uint32_t cmd;

    COPY_IN(cmd, arg + offsetof(struct physdev_op, cmd));
    switch (cmd) {
    case PHYSDEVOP_irq_status_query:
    case PHYSDEVOP_set_iopl:
    case PHYSDEVOP_set_iobitmap:
    case PHYSDEVOP_apic_read:
    case PHYSDEVOP_apic_write:
    case PHYSDEVOP_alloc_irq_vector:
        return hypercall_physdev_op(cmd, arg + offsetof(struct physdev_op, u), 0, 0, 0);
    default:
        return not_there(cmd);
    }
}
