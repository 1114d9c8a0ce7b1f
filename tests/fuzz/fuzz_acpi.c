/* sources: hypervisor/platform/acpi.c */
/* ACPI: the input is a table's signature (its first byte chooses one) and body; the header is made right, so that the
 * parsers behind the checksum are reached. Then the lists must be within their bounds. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/make_acpi.h"

#include "boot/boot.h"
#include "boot/options.h"
#include "lib/log.h"
#include "memory/map.h"
#include "platform/acpi.h"

struct boot_info boot_info;
struct options options;

void log_print(enum log_level level, const char *fmt, ...) {}

static void *copies[64];
static unsigned copy_count;

const void *map_firmware(maddr_t start, size_t size)
{
    void *p;

    if (start.n > FAKE_MEMORY || size > FAKE_MEMORY - start.n || copy_count == 64)
        return NULL;
    p = malloc(size);
    memcpy(p, fake_memory + start.n, size);
    copies[copy_count++] = p;
    return p;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"APIC", "FACP", "HPET", "MCFG", "SRAT", "SLIT"};
    uint64_t tables[2];
    unsigned count = 1;

    if (size < 1 || size > 0x8000)
        return 0;
    fake_used = 0x10000;
    /* With the high bit the second half is another table, so that SLIT meets SRAT. */
    if (data[0] & 0x80 && size > 2) {
        size_t half = (size - 1) / 2;

        tables[0] = add_table(names[data[0] % 6], data + 1, half);
        tables[1] = add_table(names[(data[0] >> 3) % 6], data + 1 + half, size - 1 - half);
        count = 2;
    } else {
        tables[0] = add_table(names[data[0] % 6], data + 1, size - 1);
    }
    set_rsdp(boot_info.rsdp_copy, add_root(false, tables, count), 0);
    acpi_init();
    if (acpi_info.cpu_count > 256 || acpi_info.ioapic_count > 16 || acpi_info.override_count > 32 ||
        acpi_info.mcfg_count > 8 || acpi_info.memory_node_count > 64 || !acpi_info.node_count ||
        acpi_info.node_count > 16)
        abort();
    for (unsigned i = 0; i < acpi_info.memory_node_count; i++)
        if (acpi_node_of_maddr(MADDR(acpi_info.memory_nodes[i].start)) >= acpi_info.node_count)
            abort();
    while (copy_count)
        free(copies[--copy_count]);
    return 0;
}
