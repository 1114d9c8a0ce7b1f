/* What the boot loader told us, from multiboot 1 or 2, copied into Croft's own memory before anything else uses it. */
#ifndef BOOT_BOOT_H
#define BOOT_BOOT_H

#include "lib/types.h"

#define BOOT_MAX_MODULES 16
#define BOOT_MAX_RANGES 256
#define BOOT_CMDLINE_SIZE 2048

struct boot_module { maddr_t start; uint64_t size; char cmdline[BOOT_CMDLINE_SIZE]; };
/* E820 types: 1 RAM, 2 reserved, 3 ACPI data, 4 ACPI NVS, 5 bad */
enum { BOOT_RAM = 1, BOOT_RESERVED, BOOT_ACPI, BOOT_NVS, BOOT_BAD };
struct boot_range { uint64_t start, size; uint32_t type; };
struct boot_info {
    const char *protocol;      /* "multiboot 1", "multiboot 2" */
    char loader[64];
    char cmdline[BOOT_CMDLINE_SIZE];
    unsigned module_count;
    struct boot_module modules[BOOT_MAX_MODULES];
    unsigned range_count;
    struct boot_range ranges[BOOT_MAX_RANGES]; /* sorted, no overlaps */
    maddr_t rsdp;              /* copy given by the loader (multiboot 2), or 0: search */
    uint8_t rsdp_copy[36];
    maddr_t efi_system_table;  /* 0 if not started by UEFI */
    struct { bool present; uint32_t width, height, pitch; maddr_t address; uint8_t bpp; uint8_t rgb[6]; } framebuffer;
};
extern struct boot_info boot_info;

/* Parses; boot_fail()s with a line on what is missing. 'info' must be reachable at identity addresses (boot tables). */
void boot_parse(uint32_t magic, uint32_t info);

#endif
