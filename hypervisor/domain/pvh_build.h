/*
 * The builder of PVH domains: from a kernel and an initrd (optional) to a domain whose vcpu 0 is
 * about to execute the kernel's first instruction.
 */
#ifndef DOMAIN_PVH_BUILD_H
#define DOMAIN_PVH_BUILD_H

#include "domain/boot_build.h"
#include "domain/pvh_acpi.h"
#include "hypercall/abi.h"

/* As builder_begin and builder_step (domain/builder.h), for domains with what->pvh. */
void pvh_build_begin(struct boot_image *image, domid_t id, bool at_boot);
int pvh_build_step(struct domain **d);

/*
 * A PVH domain's physical memory, as other builders for this ABI have it:
 *   0 ................... RAM, at most to PVH_LOW_END: the kernel where its file says; at the top initrd, then a page of start info
 *   PVH_ACPI_START ...... ACPI tables
 *   0xfee00000 .......... local APICs
 *   PVH_SPECIAL_START ... pages that are shared with Croft and others; of these there is only the console's
 *   PVH_HIGH_START ...... the rest of RAM
 */
#define PVH_LOW_END 0xc0000000UL
#define PVH_ACPI_START 0xfc000000UL
#define PVH_SPECIAL_START 0xfeff8000UL
#define PVH_SPECIAL_PAGES 8
#define PVH_CONSOLE (PVH_SPECIAL_START + 7 * PAGE_SIZE)
#define PVH_HIGH_START (1UL << 32)
#define PVH_EXTRA_PAGES (1 + PVH_ACPI_SIZE / PAGE_SIZE) /* beyond RAM: console, ACPI */
#define PVH_MAP_ENTRIES 5

/* All but what is called pages in bytes */
struct pvh_layout_request {
    uint64_t kernel_start, kernel_end; /* physical */
    uint64_t initrd_size;
    uint64_t pages; /* of RAM */
};
struct pvh_layout {
    uint64_t low_end, high_end; /* RAM ends there; high_end is PVH_HIGH_START if there is none */
    uint64_t initrd, initrd_pages, start_info;
    uint64_t pages_needed; /* the domain must not have less */
    uint32_t map_count;
    struct hvm_memmap_table_entry map[PVH_MAP_ENTRIES]; /* in order of address */
};

/* Returns null, or what is wrong (one line without end of line). Whether the domain is large enough is for the caller
 * to check (pages_needed); if not, 'initrd' and 'start_info' mean nothing. */
const char *pvh_layout(const struct pvh_layout_request *r, struct pvh_layout *l);

#endif
