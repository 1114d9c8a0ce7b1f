/* sources: hypervisor/platform/irq.c hypervisor/platform/pirq.c hypervisor/platform/msi.c hypervisor/lib/printf.c */
/* Device interrupts from the pin or message to the domain's PIRQ, on a fake I/O APIC and fake PCI devices. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "cpu/smp.h"
#include "domain/domain.h"
#include "lib/log.h"
#include "memory/alloc.h"
#include "memory/map.h"
#include "platform/acpi.h"
#include "platform/ioapic.h"
#include "platform/irq_desc.h"
#include "platform/msi.h"

/* ---- The machine ---- */
#define PINS 24
struct acpi_info acpi_info;
cpumask_t cpu_online = {{3}};
static struct ioapic_pin pins[PINS];
static unsigned eois;
static struct percpu cpus[2] = {{.id = 0, .apic_id = 0}, {.id = 1, .apic_id = 5}};

struct percpu *this_cpu(void) { return &cpus[0]; }
struct percpu *percpu_of(unsigned cpu) { return cpu < 2 ? &cpus[cpu] : NULL; }
void apic_eoi(void) { eois++; }
void ioapic_init(void)
{
    for (unsigned i = 0; i < PINS; i++)
        pins[i].masked = true;
}
unsigned ioapic_gsi_count(void) { return PINS; }
bool ioapic_has_gsi(unsigned gsi) { return gsi < PINS; }
void ioapic_program(unsigned gsi, const struct ioapic_pin *pin) { pins[gsi] = *pin; }
void ioapic_set_masked(unsigned gsi, const struct ioapic_pin *pin) { pins[gsi].masked = pin->masked; }
bool ioapic_owns_frame(mfn_t m) { return m.n == 0xfec00; }
bool mfn_valid(mfn_t m) { return m.n < 0x80000; } /* 2 GiB of RAM */
void *heap_alloc(size_t size) { return calloc(1, size); }
void heap_free(void *p) { free(p); }
void log_print(enum log_level level, const char *fmt, ...) {}
void guest_log(enum log_level level, const char *fmt, ...) {}

/* One page of each domain that it may register. */
static unsigned page_refs;
static unsigned long page[512];
void *mfn_to_virt(mfn_t m) { return page; }
bool frame_get_writable(mfn_t m, const struct domain *d)
{
    if (m.n != 7)
        return false;
    page_refs++;
    return true;
}
void frame_put_writable(mfn_t m) { page_refs--; }

static unsigned sent[2][256];
static struct domain domains[2];
static struct vcpu vcpus[2];
void event_send_pirq(struct domain *d, unsigned pirq) { sent[d - domains][pirq]++; }

/* Devices: 00:01.0 with MSI (64 bits, maskable) and 00:02.0 with MSI-X of 4 entries in the BAR at 0xf0000000. */
static uint8_t config[3][256];
static uint32_t msix_table[1024];

uint32_t pci_read(struct pci_address a, unsigned offset, unsigned bytes)
{
    uint32_t v = ~0U;

    if (!a.segment && !a.bus && !(a.devfn & 7) && a.devfn >> 3 < 3) {
        v = 0;
        memcpy(&v, config[a.devfn >> 3] + offset, bytes);
    }
    return v;
}
void pci_write(struct pci_address a, unsigned offset, unsigned bytes, uint32_t value)
{
    if (!a.segment && !a.bus && !(a.devfn & 7) && a.devfn >> 3 < 3)
        memcpy(config[a.devfn >> 3] + offset, &value, bytes);
}
unsigned pci_find_capability(struct pci_address a, unsigned id)
{
    return a.bus == 0 &&
                   ((a.devfn == 0x08 && id == PCI_CAPABILITY_MSI) || (a.devfn == 0x10 && id == PCI_CAPABILITY_MSIX))
               ? 0x50
               : 0;
}
static uint64_t mapped_at;
void *ioremap(maddr_t start, size_t size)
{
    mapped_at = start.n;
    return msix_table;
}

static const struct pci_address with_msi = {0, 0, 0x08}, with_msix = {0, 0, 0x10};

static void put32(unsigned device, unsigned offset, uint32_t v) { memcpy(config[device] + offset, &v, 4); }
static uint32_t get32(unsigned device, unsigned offset)
{
    uint32_t v;

    memcpy(&v, config[device] + offset, 4);
    return v;
}

static int setup(void **state)
{
    static bool once;

    if (!once) {
        acpi_info.override_count = 2;
        acpi_info.overrides[0] = (struct acpi_override){0, 2, false, false};
        acpi_info.overrides[1] = (struct acpi_override){9, 9, true, false};
        irq_init();
        once = true;
    }
    memset(config, 0, sizeof(config));
    config[1][PCI_COMMAND] = config[2][PCI_COMMAND] = 2;
    put32(1, 0x50, 0x01800005); /* 64 bits, maskable */
    put32(2, 0x50, 0x00030011); /* four entries */
    put32(2, 0x54, 0x00000801); /* in BAR 1, at 0x800 */
    put32(2, PCI_BAR0 + 4, 0xf0000000);
    memset(msix_table, 0, sizeof(msix_table));
    memset(sent, 0, sizeof(sent));
    memset(domains, 0, sizeof(domains));
    eois = 0;
    for (unsigned i = 0; i < 2; i++) {
        vcpus[i] = (struct vcpu){.domain = &domains[i], .processor = 1};
        domains[i].id = (domid_t)i;
        domains[i].vcpu_count = 1;
        domains[i].vcpus[0] = &vcpus[i];
        assert_int_equal(irq_init_domain(&domains[i]), 0);
    }
    domains[0].is_hardware = domains[0].is_privileged = true;
    return 0;
}

static int teardown(void **state)
{
    irq_destroy_domain(&domains[0]);
    irq_destroy_domain(&domains[1]);
    assert_int_equal(page_refs, 0);
    return 0;
}

static void fire(unsigned gsi) { irq_dispatch(pins[gsi].vector); }

/* ---- GSIs ---- */

static void test_edge(void **state)
{
    int pirq = -1;

    assert_int_equal(pirq_map_gsi(&domains[0], 3, &pirq), 0);
    assert_int_equal(pirq, 3);
    assert_true(pins[3].masked);
    assert_int_equal(pirq_guest_bind(&domains[0], 3, false), 0);
    assert_false(pins[3].masked);
    assert_false(pins[3].level);
    fire(3);
    fire(3);
    assert_int_equal(sent[0][3], 2);
    assert_int_equal(eois, 2);
    assert_false(pins[3].masked);
    pirq_guest_unbind(&domains[0], 3);
    assert_true(pins[3].masked);
    fire(3); /* was on its way */
    assert_int_equal(sent[0][3], 2);
    assert_int_equal(eois, 3);
}

static void test_level(void **state)
{
    int pirq = -1;
    uint32_t flags;

    assert_int_equal(pirq_map_gsi(&domains[0], 20, &pirq), 0);
    assert_int_equal(pirq_guest_bind(&domains[0], 20, true), 0);
    assert_true(pins[20].level && pins[20].active_low);
    assert_int_equal(pirq_status(&domains[0], 20, &flags), 0);
    assert_int_equal(flags, XENIRQSTAT_needs_eoi);
    fire(20);
    assert_int_equal(sent[0][20], 1);
    assert_true(pins[20].masked);
    assert_int_equal(eois, 1);
    pirq_guest_eoi(&domains[1], 20); /* not its own */
    assert_true(pins[20].masked);
    pirq_guest_eoi(&domains[0], 20);
    assert_false(pins[20].masked);
    pirq_guest_eoi(&domains[0], 20); /* again: nothing */
    assert_false(pins[20].masked);
    /* Closed while its end is due: stays masked until bound anew. */
    fire(20);
    pirq_guest_unbind(&domains[0], 20);
    assert_true(pins[20].masked);
    assert_int_equal(pirq_guest_bind(&domains[0], 20, true), 0);
    assert_false(pins[20].masked);
}

static void test_shared_level(void **state)
{
    int a = -1, b = -1;
    uint32_t flags;

    assert_int_equal(pirq_map_gsi(&domains[0], 21, &a), 0);
    assert_int_equal(pirq_map_gsi(&domains[1], 21, &b), 0);
    assert_true(b >= PINS); /* domains without the hardware get numbers above */
    assert_int_equal(pirq_guest_bind(&domains[0], (unsigned)a, true), 0);
    assert_int_equal(pirq_guest_bind(&domains[1], (unsigned)b, false), -EBUSY);
    assert_int_equal(pirq_guest_bind(&domains[1], (unsigned)b, true), 0);
    assert_int_equal(pirq_status(&domains[0], (unsigned)a, &flags), 0);
    assert_int_equal(flags, XENIRQSTAT_needs_eoi | XENIRQSTAT_shared);
    fire(21);
    assert_int_equal(sent[0][a] + sent[1][b], 2);
    pirq_guest_eoi(&domains[0], (unsigned)a);
    assert_true(pins[21].masked); /* the other is not done */
    pirq_guest_unbind(&domains[1], (unsigned)b);
    assert_false(pins[21].masked);
}

static void test_setup_gsi(void **state)
{
    int pirq = -1;

    assert_int_equal(irq_setup_gsi(PINS, true, true), -EINVAL);
    assert_int_equal(irq_setup_gsi(9, true, false), 0); /* as ACPI's override has it */
    assert_int_equal(irq_setup_gsi(9, true, false), -EEXIST);
    assert_int_equal(irq_setup_gsi(22, true, false), 0);
    assert_int_equal(pirq_map_gsi(&domains[0], 22, &pirq), 0);
    assert_int_equal(pirq_guest_bind(&domains[0], 22, true), 0);
    assert_true(pins[22].level && !pins[22].active_low);
    assert_int_equal(irq_setup_gsi(22, false, false), -EEXIST); /* in use */
    assert_true(pins[22].level);
}

static unsigned handled;
static void handler(void *arg) { handled += *(unsigned *)arg; }

static void test_croft_own(void **state)
{
    static unsigned one = 1;
    int pirq = 4;

    assert_int_equal(irq_gsi_of_isa(0), 2);
    assert_int_equal(irq_gsi_of_isa(4), 4);
    assert_int_equal(irq_request_gsi(PINS, handler, &one), -ENODEV);
    assert_int_equal(irq_request_gsi(4, handler, &one), 0);
    assert_int_equal(irq_request_gsi(4, handler, &one), -EBUSY);
    fire(4);
    assert_int_equal(handled, 1);
    assert_int_equal(eois, 1);
    assert_int_equal(pirq_map_gsi(&domains[0], 4, &pirq), 0); /* Linux maps all of ISA */
    assert_int_equal(pirq_guest_bind(&domains[0], 4, true), -EBUSY);
}

static void test_refusals(void **state)
{
    int pirq = 5;
    uint32_t flags;

    assert_int_equal(pirq_guest_bind(&domains[0], 3, false), -EINVAL); /* nothing mapped at all */
    assert_int_equal(pirq_unmap(&domains[0], 3), -EINVAL);
    assert_int_equal(pirq_map_gsi(&domains[0], 3, &pirq), -EINVAL); /* domain 0: pirq is the GSI */
    pirq = -1;
    assert_int_equal(pirq_map_gsi(&domains[0], PINS, &pirq), -EINVAL);
    assert_int_equal(pirq_map_gsi(&domains[0], 0x7fffffff, &pirq), -EINVAL);
    pirq = 0x7fffffff;
    assert_int_equal(pirq_map_gsi(&domains[1], 3, &pirq), -EINVAL);
    pirq = -1;
    assert_int_equal(pirq_map_gsi(&domains[0], 6, &pirq), 0);
    assert_int_equal(pirq_map_gsi(&domains[0], 6, &pirq), 0); /* again is fine */
    assert_int_equal(pirq_guest_bind(&domains[0], 6, false), 0);
    assert_int_equal(pirq_guest_bind(&domains[0], 6, false), -EBUSY);
    assert_int_equal(pirq_guest_bind(&domains[0], ~0U, false), -EINVAL);
    assert_int_equal(pirq_status(&domains[0], ~0U, &flags), -EINVAL);
    assert_int_equal(pirq_unmap(&domains[0], -1), -EINVAL);
    assert_int_equal(pirq_unmap(&domains[0], 0x7fffffff), -EINVAL);
    assert_int_equal(pirq_unmap(&domains[0], 6), 0); /* bound: unbinds */
    assert_true(pins[6].masked);
    pirq_guest_eoi(&domains[0], 6);
    pirq_guest_unbind(&domains[0], 6);
    pirq_guest_set_affinity(&domains[0], 6, 0);
}

static void test_affinity(void **state)
{
    int pirq = -1;

    assert_int_equal(pirq_map_gsi(&domains[0], 7, &pirq), 0);
    assert_int_equal(pirq_guest_bind(&domains[0], 7, false), 0);
    assert_int_equal(pins[7].apic_id, 0);
    pirq_guest_set_affinity(&domains[0], 7, 0);
    assert_int_equal(pins[7].apic_id, 5);
    pirq_guest_set_affinity(&domains[0], 7, 99);
    assert_int_equal(pins[7].apic_id, 5);
}

/* A CPU goes off line: what was sent there goes elsewhere, and nothing is sent there until it is back. */
static void test_closed_cpu(void **state)
{
    int pirq = -1, err;
    struct irq *irq = irq_of_gsi(10, &err);

    assert_int_equal(pirq_map_gsi(&domains[0], 10, &pirq), 0);
    assert_int_equal(pirq_guest_bind(&domains[0], 10, false), 0);
    pirq_guest_set_affinity(&domains[0], 10, 0);
    assert_int_equal(pins[10].apic_id, 5);
    irq_close_cpu(1);
    assert_int_equal(pins[10].apic_id, 0);
    assert_false(pins[10].masked);
    assert_int_equal(irq->cpu, 0);
    pirq_guest_set_affinity(&domains[0], 10, 0); /* its vcpu was there a moment ago */
    assert_int_equal(pins[10].apic_id, 0);
    irq_open_cpu(1);
    assert_int_equal(pins[10].apic_id, 0);
    pirq_guest_set_affinity(&domains[0], 10, 0);
    assert_int_equal(pins[10].apic_id, 5);
}

static void test_eoi_page(void **state)
{
    int level = -1, edge = -1, later = -1;

    memset(page, 0, sizeof(page));
    assert_int_equal(pirq_set_eoi_page(&domains[0], MFN(8)), -EINVAL);
    assert_int_equal(pirq_map_gsi(&domains[0], 23, &level), 0);
    assert_int_equal(pirq_guest_bind(&domains[0], 23, true), 0);
    assert_int_equal(pirq_set_eoi_page(&domains[0], MFN(7)), 0);
    assert_int_equal(pirq_set_eoi_page(&domains[0], MFN(7)), -EBUSY);
    assert_int_equal(page_refs, 1);
    assert_true(test_bit(23, page)); /* bound before */
    assert_int_equal(pirq_map_gsi(&domains[0], 19, &later), 0);
    assert_int_equal(pirq_guest_bind(&domains[0], 19, true), 0);
    assert_true(test_bit(19, page));
    assert_int_equal(pirq_map_gsi(&domains[0], 8, &edge), 0);
    assert_int_equal(pirq_guest_bind(&domains[0], 8, true), 0);
    assert_false(test_bit(8, page));
    pirq_guest_unbind(&domains[0], 19);
    assert_false(test_bit(19, page));
    assert_int_equal(pirq_unmap(&domains[0], 23), 0);
    assert_false(test_bit(23, page));
}

static void test_hole_in_vectors(void **state)
{
    assert_int_equal(irq_vector_of_gsi(PINS), -EINVAL);
    for (unsigned i = 0; i < PINS; i++) {
        int vector = irq_vector_of_gsi(i);

        assert_in_range(vector, VECTOR_DEVICE_FIRST, VECTOR_DEVICE_LAST);
        assert_int_not_equal(vector, 0x80);
        assert_int_equal(irq_vector_of_gsi(i), vector);
    }
    irq_dispatch(0);
    irq_dispatch(255);
    assert_int_equal(eois, 2);
    irq_key_report();
}

/* ---- MSI ---- */

static void test_msi(void **state)
{
    int pirq = -1;
    unsigned vector;

    assert_int_equal(pirq_map_msi(&domains[0], with_msi, false, 0, 0, &pirq), 0);
    assert_true(pirq >= PINS);
    assert_int_equal(get32(1, 0x60), 1); /* masked */
    assert_int_equal(config[1][0x52] & 1, 0);
    assert_int_equal(pirq_guest_bind(&domains[0], (unsigned)pirq, false), 0);
    assert_int_equal(get32(1, 0x54), 0xfee00000);
    vector = config[1][0x5c];
    assert_in_range(vector, VECTOR_DEVICE_FIRST, VECTOR_DEVICE_LAST);
    assert_int_equal(config[1][0x52] & 1, 1);
    assert_int_equal(get32(1, 0x60), 0);
    irq_dispatch(vector);
    assert_int_equal(sent[0][pirq], 1);
    assert_int_equal(eois, 1);
    pirq_guest_set_affinity(&domains[0], (unsigned)pirq, 0);
    assert_int_equal(get32(1, 0x54), 0xfee05000);
    /* The device lost its state. */
    put32(1, 0x54, 0);
    put32(1, 0x5c, 0);
    assert_int_equal(msi_restore(with_msi), 0);
    assert_int_equal(get32(1, 0x54), 0xfee05000);
    assert_int_equal(config[1][0x5c], vector);
    assert_int_equal(msi_restore(with_msix), -ESRCH);
    pirq_guest_unbind(&domains[0], (unsigned)pirq);
    assert_int_equal(get32(1, 0x60), 1);
    assert_true(msi_in_use(with_msi));
    assert_int_equal(pirq_unmap(&domains[0], pirq), 0);
    assert_false(msi_in_use(with_msi));
    irq_dispatch(vector); /* was on its way */
    assert_int_equal(sent[0][pirq], 1);
    assert_int_equal(eois, 2);
}

static void test_msi_refusals(void **state)
{
    struct pci_address nobody = {0, 0, 0x18};
    int pirq = -1, second = -1;

    assert_int_equal(pirq_map_msi(&domains[0], nobody, false, 0, 0, &pirq), -ENODEV);
    assert_int_equal(pirq_map_msi(&domains[0], with_msi, true, 0, 1, &pirq), -ENODEV);
    assert_int_equal(pirq_map_msi(&domains[0], with_msi, false, 1, 0, &pirq), -EINVAL);
    assert_int_equal(pirq_map_msi(&domains[0], with_msi, false, 0, 0, &pirq), 0);
    assert_int_equal(pirq_map_msi(&domains[0], with_msi, false, 0, 0, &second), -EEXIST);
    assert_int_equal(pirq_unmap(&domains[0], pirq), 0);
    pirq = 3; /* a GSI's number */
    assert_int_equal(pirq_map_msi(&domains[0], with_msi, false, 0, 0, &pirq), -EINVAL);
    assert_false(msi_in_use(with_msi));
}

static void test_msix(void **state)
{
    int pirq[4] = {-1, -1, -1, -1};

    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pirq_map_msi(&domains[0], with_msix, true, i, 0xf0000000, &pirq[i]), 0);
    assert_int_equal(mapped_at, 0xf0000000);
    assert_int_equal(pirq_guest_bind(&domains[0], (unsigned)pirq[2], false), 0);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(msix_table[0x200 + 4 * i + 3], i != 2);
    assert_int_equal(msix_table[0x200 + 8], 0xfee00000);
    irq_dispatch(msix_table[0x200 + 10]);
    assert_int_equal(sent[0][pirq[2]], 1);
    assert_int_equal(config[2][0x53] & 0x80, 0x80);
    irq_key_report();
    pirq_guest_unbind(&domains[0], (unsigned)pirq[2]);
    assert_int_equal(msix_table[0x200 + 11], 1);
    /* Decoding is off: the table must not be touched. */
    assert_int_equal(pirq_guest_bind(&domains[0], (unsigned)pirq[3], false), 0);
    config[2][PCI_COMMAND] = 0;
    msix_table[0x200 + 15] = 0x77;
    assert_int_equal(pirq_unmap(&domains[0], pirq[3]), 0);
    assert_int_equal(msix_table[0x200 + 15], 0x77);
}

static void test_msix_refusals(void **state)
{
    int pirq = -1;

    assert_int_equal(pirq_map_msi(&domains[0], with_msix, true, 4, 0xf0000000, &pirq), -EINVAL);
    assert_int_equal(pirq_map_msi(&domains[0], with_msix, true, 0x7fffffff, 0xf0000000, &pirq), -EINVAL);
    put32(2, PCI_BAR0 + 4, 0x1000); /* RAM */
    assert_int_equal(pirq_map_msi(&domains[0], with_msix, true, 0, 0x1000, &pirq), -EINVAL);
    put32(2, 0x54, 0x801);
    put32(2, PCI_BAR0 + 4, 0xfee00000); /* the local APIC */
    assert_int_equal(pirq_map_msi(&domains[0], with_msix, true, 0, 0, &pirq), -EINVAL);
    put32(2, PCI_BAR0 + 4, 0xfec00000); /* the I/O APIC */
    assert_int_equal(pirq_map_msi(&domains[0], with_msix, true, 0, 0, &pirq), -EINVAL);
    put32(2, PCI_BAR0 + 4, 0);
    assert_int_equal(pirq_map_msi(&domains[0], with_msix, true, 0, ~0UL, &pirq), -EINVAL);
    assert_int_equal(pirq_map_msi(&domains[0], with_msix, true, 0, 0xf0000000, &pirq), 0); /* a virtual function */
    config[2][PCI_COMMAND] = 0;
    pirq = -1;
    assert_int_equal(pirq_map_msi(&domains[0], with_msix, true, 1, 0xf0000000, &pirq), -ENXIO);
    assert_int_equal(pirq, -1);
}

static void test_guest_writes(void **state)
{
    uint8_t byte = 0xff;
    int pirq = -1;

    assert_false(msi_guards(with_msi, 0x54, 4)); /* not Croft's yet */
    assert_int_equal(pirq_map_msi(&domains[0], with_msi, false, 0, 0, &pirq), 0);
    assert_false(msi_guards(with_msi, 0x04, 4));
    assert_false(msi_guards(with_msi, 0x50, 2));
    assert_true(msi_guards(with_msi, 0x50, 4));
    assert_true(msi_guards(with_msi, 0x52, 2));
    assert_true(msi_guards(with_msi, 0x54, 4));
    assert_true(msi_guards(with_msi, 0x67, 1));
    assert_false(msi_guards(with_msi, 0x68, 4));
    assert_false(msi_guards((struct pci_address){0, 1, 0x08}, 0x54, 4));
    assert_true(msi_filter_byte(with_msi, 0x52, &byte)); /* control: enable passes, the number of messages not */
    assert_int_equal(byte, 0x8f);
    assert_false(msi_filter_byte(with_msi, 0x54, &byte));
    assert_false(msi_filter_byte(with_msi, 0x60, &byte));
    assert_true(msi_filter_byte(with_msi, 0x68, &byte));
}

static void test_free_pirq(void **state)
{
    uint32_t a, b;
    int pirq;

    assert_int_equal(pirq_get_free(&domains[0], &a), 0);
    assert_int_equal(pirq_get_free(&domains[0], &b), 0);
    assert_int_not_equal(a, b);
    pirq = (int)a;
    assert_int_equal(pirq_map_msi(&domains[0], with_msi, false, 0, 0, &pirq), 0);
    assert_int_equal(pirq, a);
    assert_int_equal(pirq_unmap(&domains[0], (int)b), 0);
    assert_int_equal(pirq_unmap(&domains[0], (int)b), -EINVAL);
}

/* Vectors come back: many times over what there is. */
static void test_reuse(void **state)
{
    for (unsigned i = 0; i < 1000; i++) {
        int pirq = -1;

        assert_int_equal(pirq_map_msi(&domains[i & 1], with_msi, false, 0, 0, &pirq), 0);
        assert_int_equal(pirq_guest_bind(&domains[i & 1], (unsigned)pirq, false), 0);
        if (i % 3) {
            assert_int_equal(pirq_unmap(&domains[i & 1], pirq), 0);
        } else {
            irq_destroy_domain(&domains[i & 1]);
            assert_int_equal(irq_init_domain(&domains[i & 1]), 0);
        }
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    static const struct CMUnitTest tests[] = {
        T(test_edge),      T(test_level),        T(test_shared_level), T(test_setup_gsi),     T(test_croft_own),
        T(test_refusals),  T(test_affinity),     T(test_closed_cpu),   T(test_eoi_page),      T(test_hole_in_vectors),
        T(test_msi),       T(test_msi_refusals), T(test_msix),         T(test_msix_refusals), T(test_guest_writes),
        T(test_free_pirq), T(test_reuse),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
