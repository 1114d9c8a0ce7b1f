/*
 * Memory while booting: which RAM there is, the direct map, the frame table and the machine-to-physical table,
 * and the hand-over of all that is left to the page allocator.
 */
#ifndef MEMORY_BOOT_MEMORY_H
#define MEMORY_BOOT_MEMORY_H

#include "lib/types.h"

/* After boot_parse, options_parse and cpu_init_boot: from here on all RAM is in the direct map and has a struct frame.
 * Ends in boot_fail if there is too little memory. */
void memory_init_early(void);
/* After acpi_init (NUMA nodes): all RAM that is not in use goes to the page allocator. */
void memory_init_late(void);
/* After the last CPU has started, with interrupts enabled: */
void memory_drop_identity(void); /* the boot mapping of the low 4 GiB goes */
/* It is there again, in Croft's own root, for a CPU that starts. One caller at a time, until it is dropped. */
void memory_restore_identity(void);
void memory_protect_image(void); /* text R-X, constants R, data RW; W^X from here on */

/* One zeroed page for a page table, from wherever it comes at this time. Address 0: no memory. */
maddr_t memory_table_page(void);
void memory_table_free(maddr_t page); /* after memory_init_late */
/* Is all of [start, start+size) in the direct map (RAM, ACPI tables)? */
bool memory_is_direct_mapped(maddr_t start, uint64_t size);
uint64_t memory_ram_frames(void); /* frames of RAM that Croft manages, its own included */

/* Borders of the image (croft.lds.S), all on page boundaries */
extern char __text_start[], __text_end[], __rodata_start[], __rodata_end[], __data_start[], __image_end[];

#endif
