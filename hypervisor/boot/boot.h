/* What the boot loader told us, from multiboot 1 or 2, copied into Croft's own memory before anything else uses it. */
#ifndef BOOT_BOOT_H
#define BOOT_BOOT_H

#include "lib/types.h"

#define BOOT_MAX_MODULES 16
#define BOOT_MAX_RANGES 256
#define BOOT_CMDLINE_SIZE 2048

#define MULTIBOOT1_MAGIC 0x2badb002U /* in EAX at the entry: "Multiboot Specification" 0.6.96, 3.2 */
#define MULTIBOOT2_MAGIC 0x36d76289U /* "Multiboot2 Specification" 2.0, 3.3 */

/* cmdline: without the file name that some loaders put in front */
struct boot_module {
    maddr_t start;
    uint64_t size;
    char cmdline[BOOT_CMDLINE_SIZE];
};
/* E820 types: 1 RAM, 2 reserved, 3 ACPI data, 4 ACPI NVS, 5 bad */
enum { BOOT_RAM = 1, BOOT_RESERVED, BOOT_ACPI, BOOT_NVS, BOOT_BAD };
struct boot_range {
    uint64_t start, size;
    uint32_t type;
};
struct boot_info {
    const char *protocol; /* "multiboot 1", "multiboot 2" */
    char loader[64];
    char cmdline[BOOT_CMDLINE_SIZE];
    unsigned module_count;
    struct boot_module modules[BOOT_MAX_MODULES];
    unsigned range_count;
    struct boot_range ranges[BOOT_MAX_RANGES]; /* sorted, no overlaps, neighbours of one type merged */
    maddr_t rsdp; /* machine address of rsdp_copy (in Croft's image) if the loader gave the RSDP, or 0: search */
    uint8_t rsdp_copy[36];
    maddr_t efi_system_table; /* 0 if not started by UEFI */
    struct {
        bool present;
        uint32_t width, height, pitch;
        maddr_t address;
        uint8_t bpp;
        uint8_t rgb[6];
    } framebuffer;
};
extern struct boot_info boot_info;

/* Parses; boot_fail()s with a line on what is missing. 'info' must be reachable at identity addresses (boot tables). */
void boot_parse(uint32_t magic, uint32_t info);

/* A window of physical memory: [start, start+size) can be read at 'base'. The parser reads nothing outside it. */
struct boot_memory {
    const uint8_t *base;
    uint64_t start, size;
};
/* The parser alone: fills 'out' (zeroed by the caller). Returns null, or what is wrong (a line without its end). */
const char *boot_parse_multiboot(struct boot_info *out, uint32_t magic, uint32_t info,
                                 const struct boot_memory *memory);

/* Sorts 'count' ranges, resolves overlaps (the type that allows less wins: bad, reserved, NVS, ACPI, RAM), merges
 * neighbours, and writes at most 'max' to 'out'. Returns how many there are; more than 'max' means they did not fit. */
unsigned boot_normalise_ranges(const struct boot_range *in, unsigned count, struct boot_range *out, unsigned max);

#endif
