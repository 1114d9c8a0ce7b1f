/* Croft's own page tables: the direct map, device registers, permissions of the image. */
#ifndef MEMORY_MAP_H
#define MEMORY_MAP_H

#include "lib/util.h"
#include "memory/layout.h"

/* Page-table entry bits */
#define PTE_PRESENT (1UL << 0)
#define PTE_WRITE (1UL << 1)
#define PTE_USER (1UL << 2)
#define PTE_PWT (1UL << 3)
#define PTE_PCD (1UL << 4)
#define PTE_ACCESSED (1UL << 5)
#define PTE_DIRTY (1UL << 6)
#define PTE_PSE (1UL << 7) /* in L2 and L3 */
#define PTE_PAT (1UL << 7) /* in L1 */
#define PTE_CACHE_L1 (PTE_PWT | PTE_PCD | PTE_PAT)
#define PTE_GLOBAL (1UL << 8)
#define PTE_NX (1UL << 63)
#define PTE_ADDR 0x000ffffffffff000UL

static inline mfn_t pte_mfn(uint64_t e) { return MFN((e & PTE_ADDR) >> PAGE_SHIFT); }

#ifdef CROFT_HOST_TEST /* a test brings its own machine */
void *maddr_to_virt(maddr_t a);
void *mfn_to_virt(mfn_t m);
maddr_t virt_to_maddr(const void *p);
mfn_t virt_to_mfn(const void *p);
#else
/* RAM by its machine address; valid for all RAM frames once memory_init_early has run. */
static inline void *maddr_to_virt(maddr_t a) { return (void *)(DIRECT_MAP_START + a.n); }
static inline void *mfn_to_virt(mfn_t m) { return maddr_to_virt(mfn_to_maddr(m)); }
static inline maddr_t virt_to_maddr(const void *p) /* of a direct-map address */
{
    return MADDR((unsigned long)p - DIRECT_MAP_START);
}
static inline mfn_t virt_to_mfn(const void *p) { return maddr_to_mfn(virt_to_maddr(p)); }
#endif

/* Of an address in the image (code, data, bss) */
static inline maddr_t image_to_maddr(const void *p) { return MADDR((unsigned long)p - IMAGE_START + IMAGE_PHYS); }

/* Maps 'size' bytes of device registers, uncached. Null when the window or memory is used up. Never unmapped. */
void *ioremap(maddr_t start, size_t size);
/* Maps memory that may lie outside RAM as E820 has it (ACPI tables), cached, read-only; same lifetime. */
const void *map_firmware(maddr_t start, size_t size);

/* Maps [va, va+size) to 'to' in Croft's own tables with these PTE flags (with PTE_PRESENT; bit 7 is the walker's);
 * large pages where alignment allows. All three are multiples of a page. What is mapped there in the same way stays;
 * a large page in the way is -EEXIST. -ENOMEM. Flushes nothing: for addresses that had no mapping. */
int map_range(unsigned long va, maddr_t to, size_t size, uint64_t flags);
/* Addresses of the IOREMAP window for the caller to map: size rounded up to pages, align a power of two; an unmapped
 * page is left in front and behind. Null when the window is used up. Never given back. */
void *map_reserve(size_t size, size_t align);
/* The L1 entry of an address of Croft's: null if there is no L1 table there (or a large page). */
uint64_t *map_l1_slot(unsigned long va);

/* A vcpu's window: DESCRIPTOR_WINDOW_PAGES pages of addresses (GDT, then LDT), whose L1 entries exist and are zero.
 * Null: no memory or no window left. Freeing clears the entries; whoever gets the window next flushes on its CPUs. */
#define DESCRIPTOR_WINDOW_PAGES 32
void *descriptor_window_alloc(void);
void descriptor_window_free(void *window);

/* For memory/boot_memory.c */
bool map_make_l3_tables(void);      /* of all slots of the hole; false: no memory */
void map_direct_ready(void);        /* the direct map can be used from now on */
void *map_table_pointer(maddr_t a); /* a page table, before and after that */
int map_protect_image(void);        /* changes the tables; the caller flushes. -ENOMEM */

extern uint64_t host_l4[512]; /* Croft's own root; slots 256-271 are copied into each guest's L4 */

#endif
