/* ACPI static tables, checked (signature, length, checksum) and turned into plain lists. A missing or corrupt table
 * that Croft can live without is a warning; RSDP or MADT missing leads to one CPU and no I/O APIC, said in the log. */
#ifndef PLATFORM_ACPI_H
#define PLATFORM_ACPI_H

#include "cpu/cpumask.h"

struct acpi_cpu {
    uint32_t apic_id, acpi_id;
    bool enabled;
};
struct acpi_ioapic {
    uint8_t id;
    maddr_t address;
    uint32_t gsi_base;
};
struct acpi_override {
    uint8_t irq;
    uint32_t gsi;
    bool level, active_low;
}; /* ISA irq -> GSI */
struct acpi_mcfg {
    maddr_t base;
    uint16_t segment;
    uint8_t bus_start, bus_end;
};
struct acpi_memory_node {
    uint64_t start, size;
    unsigned node;
};
struct acpi_info {
    maddr_t rsdp;
    unsigned cpu_count;
    struct acpi_cpu cpus[256];
    maddr_t lapic_address;
    unsigned ioapic_count;
    struct acpi_ioapic ioapics[16];
    unsigned override_count;
    struct acpi_override overrides[32];
    maddr_t hpet;
    unsigned mcfg_count;
    struct acpi_mcfg mcfg[8];
    uint16_t pm_timer_port;
    bool pm_timer_32bit;
    uint16_t pm1a_control, pm1b_control;
    uint16_t sci;
    bool reset_supported;
    uint8_t reset_space;
    uint64_t reset_address;
    uint8_t reset_value;
    uint8_t century; /* CMOS register of the century, or 0 */
    unsigned memory_node_count;
    struct acpi_memory_node memory_nodes[64];
    unsigned node_count;
    uint8_t distance[16][16];
};
extern struct acpi_info acpi_info; /* constant after acpi_init */

void acpi_init(void); /* uses boot_info, map_firmware */
/* The parser alone, for tests: false and a log line if the table is not usable. */
bool acpi_parse_table(const void *table, size_t size);
unsigned acpi_node_of_apic(uint32_t apic_id);
unsigned acpi_node_of_maddr(maddr_t a);

#endif
