/*
 * Croft's page tables. One walker makes all mappings: the direct map, the tables of memory/boot_memory.c, device
 * registers, the image with its permissions, and the L1 tables of the vcpus' descriptor windows.
 *
 * The L3 tables of all slots of the hole exist from memory_init_early on, so what guests have copied of host_l4 never
 * changes; all later changes are below.
 */
#include "lib/string.h"
#include "cpu/cpu.h"
#include "lib/bitmap.h"
#include "lib/errno.h"
#include "lib/log.h"
#include "lib/spinlock.h"
#include "memory/boot_memory.h"
#include "memory/map.h"

uint64_t host_l4[512] __aligned(4096) __attribute__((section(".bss.page_aligned")));

static spinlock_t map_lock = SPINLOCK_INIT;
static bool direct_map_ready; /* else tables are reached through the boot loader's identity mapping */

void map_direct_ready(void) { direct_map_ready = true; }

void *map_table_pointer(maddr_t a) { return direct_map_ready ? maddr_to_virt(a) : (void *)a.n; }

static unsigned level_shift(unsigned level) { return PAGE_SHIFT + 9 * (level - 1); }

/* The entry that maps va at 'level' (1-4), with the tables above it made if 'make'. Null with *error set: -ENOMEM,
 * -EEXIST (a large page is in the way), -ENOENT (no table, not to be made). */
static uint64_t *find_entry(uint64_t *root, unsigned long va, unsigned level, bool make, uint64_t flags, int *error)
{
    uint64_t *table = root;

    for (unsigned l = 4;; l--) {
        uint64_t *e = &table[va >> level_shift(l) & 511];

        if (l == level)
            return e;
        if (!(*e & PTE_PRESENT)) {
            maddr_t page = make ? memory_table_page() : MADDR(0);

            if (!page.n) {
                *error = make ? -ENOMEM : -ENOENT;
                return NULL;
            }
            WRITE_ONCE(*e, page.n | PTE_PRESENT | PTE_WRITE | PTE_ACCESSED | (flags & PTE_USER));
        } else if (*e & PTE_PSE) {
            *error = -EEXIST;
            return NULL;
        }
        table = map_table_pointer(MADDR(*e & PTE_ADDR));
    }
}

/* The largest leaf that alignment, the rest and the processor allow */
static unsigned leaf_level(unsigned long va, maddr_t to, size_t left)
{
    for (unsigned level = cpu_features.gbpages ? 3 : 2; level > 1; level--) {
        size_t size = 1UL << level_shift(level);

        if (left >= size && !((va | to.n) & (size - 1)))
            return level;
    }
    return 1;
}

/* What stands there differs at most in what the processor sets. */
static bool same_mapping(uint64_t a, uint64_t b) { return !((a ^ b) & ~(PTE_ACCESSED | PTE_DIRTY)); }

static int map_in(uint64_t *root, unsigned long va, maddr_t to, size_t size, uint64_t flags)
{
    while (size) {
        unsigned level = leaf_level(va, to, size);
        int error = 0;
        uint64_t *e, want;

        for (;; level--) { /* smaller leaves where a table of smaller ones is there already */
            e = find_entry(root, va, level, true, flags, &error);
            if (!e)
                return error;
            if (level == 1 || !(*e & PTE_PRESENT) || (*e & PTE_PSE))
                break;
        }
        want = to.n | flags | (level > 1 ? PTE_PSE : 0);
        if ((*e & PTE_PRESENT) && !same_mapping(*e, want))
            return -EEXIST;
        if (!(*e & PTE_PRESENT))
            WRITE_ONCE(*e, want);
        va += 1UL << level_shift(level);
        to.n += 1UL << level_shift(level);
        size -= 1UL << level_shift(level);
    }
    return 0;
}

int map_range(unsigned long va, maddr_t to, size_t size, uint64_t flags)
{
    int error;

    ASSERT(!((va | to.n | size) & ~PAGE_MASK) && va >= HOLE_START && va + size <= HOLE_END);
    spin_lock(&map_lock);
    error = map_in(host_l4, va, to, size, flags);
    spin_unlock(&map_lock);
    return error;
}

uint64_t *map_l1_slot(unsigned long va)
{
    int error;

    return find_entry(host_l4, va, 1, false, 0, &error);
}

bool map_make_l3_tables(void)
{
    for (unsigned slot = HOLE_L4_FIRST; slot < HOLE_L4_FIRST + HOLE_L4_COUNT; slot++) {
        bool guests = slot == (M2P_START >> 39 & 511), image = slot == (IMAGE_START >> 39 & 511);

        if (!(host_l4[slot] & PTE_PRESENT)) {
            maddr_t page = memory_table_page();

            if (!page.n)
                return false;
            host_l4[slot] = page.n;
        }
        /* Only guests' own slot has U, and no W on the way to its read-only pages; only the image's is executable. */
        host_l4[slot] = (host_l4[slot] & PTE_ADDR) | PTE_PRESENT | PTE_ACCESSED | (guests ? PTE_USER : PTE_WRITE) |
                        (image ? 0 : PTE_NX);
    }
    return true;
}

/* ----- the image ----- */

#define IMAGE_SIZE_MAX (1UL << 30) /* one L2 table */

/* Maps the image anew under a root of its own; *l3_entry gets the entry that leads to the result. */
static bool build_image_map(uint64_t *l3_entry)
{
    const struct {
        char *start, *end;
        uint64_t flags;
    } part[] = {
        {__text_start, __text_end, 0},
        {__rodata_start, __rodata_end, PTE_NX},
        {__data_start, __image_end, PTE_NX | PTE_WRITE},
    };
    maddr_t root_page = memory_table_page();
    uint64_t *root, *l3;
    int error = 0;

    if (!root_page.n)
        return false;
    root = map_table_pointer(root_page);
    for (unsigned i = 0; i < ARRAY_SIZE(part) && !error; i++)
        error = map_in(root, (unsigned long)part[i].start, image_to_maddr(part[i].start),
                       (size_t)(part[i].end - part[i].start),
                       part[i].flags | PTE_PRESENT | PTE_ACCESSED | PTE_DIRTY | PTE_GLOBAL);
    if (error)
        return false;
    l3 = find_entry(root, IMAGE_START, 3, false, 0, &error);
    *l3_entry = *l3;
    /* Root and L3 were only scaffolding: host_l4 has its own. */
    memory_table_free(virt_to_maddr(l3)); /* the image is at its first entry */
    memory_table_free(root_page);
    return true;
}

int map_protect_image(void)
{
    uint64_t l3_entry;
    int error = 0;
    uint64_t *e = find_entry(host_l4, IMAGE_START, 3, false, 0, &error);

    ASSERT(e && (size_t)(__image_end - __text_start) <= IMAGE_SIZE_MAX);
    if (!build_image_map(&l3_entry))
        return -ENOMEM;
    WRITE_ONCE(*e, l3_entry);
    return 0;
}

/* ----- the window for device registers ----- */

static unsigned long reserve_next = IOREMAP_START;

void *map_reserve(size_t size, size_t align)
{
    unsigned long va;

    size = ROUND_UP(size, PAGE_SIZE);
    spin_lock(&map_lock);
    va = ROUND_UP(reserve_next + PAGE_SIZE, max(align, PAGE_SIZE));
    if (!size || size > IOREMAP_END - IOREMAP_START || va + size + PAGE_SIZE > IOREMAP_END)
        va = 0;
    else
        reserve_next = va + size;
    spin_unlock(&map_lock);
    return (void *)va;
}

/* Addresses may have any alignment; the offset in the page is kept. */
static void *map_device(maddr_t start, size_t size, uint64_t flags)
{
    maddr_t first = MADDR(start.n & PAGE_MASK);
    size_t offset = start.n - first.n, whole;
    uint8_t *va;

    if (!size || size > IOREMAP_END - IOREMAP_START || start.n + size < start.n ||
        (start.n + size - 1) >> cpu_features.paddr_bits)
        return NULL;
    whole = ROUND_UP(offset + size, PAGE_SIZE);
    va = map_reserve(whole, whole >= 1UL << 21 ? 1UL << 21 : PAGE_SIZE);
    if (!va || map_range((unsigned long)va, first, whole, flags))
        return NULL;
    return va + offset;
}

void *ioremap(maddr_t start, size_t size)
{
    return map_device(start, size,
                      PTE_PRESENT | PTE_WRITE | PTE_NX | PTE_PCD | PTE_PWT | PTE_GLOBAL | PTE_ACCESSED | PTE_DIRTY);
}

const void *map_firmware(maddr_t start, size_t size)
{
    if (memory_is_direct_mapped(start, size))
        return maddr_to_virt(start);
    return map_device(start, size, PTE_PRESENT | PTE_NX | PTE_GLOBAL | PTE_ACCESSED);
}

/* ----- descriptor windows ----- */

#define WINDOW_SIZE (DESCRIPTOR_WINDOW_PAGES * PAGE_SIZE)
#define WINDOWS 8192 /* vcpus that can exist at a time */

static BITMAP(windows_used, WINDOWS);

void *descriptor_window_alloc(void)
{
    unsigned long i, va;
    int error = 0;

    spin_lock(&map_lock);
    i = find_next_zero_bit(windows_used, WINDOWS, 0);
    va = DESCRIPTOR_START + i * WINDOW_SIZE;
    /* A window lies within one L1 table, which 16 windows share and which stays when they are freed. */
    if (i == WINDOWS || !find_entry(host_l4, va, 1, true, 0, &error))
        va = 0;
    else
        set_bit_nonatomic(i, windows_used);
    spin_unlock(&map_lock);
    return (void *)va;
}

void descriptor_window_free(void *window)
{
    unsigned long va = (unsigned long)window, i = (va - DESCRIPTOR_START) / WINDOW_SIZE;
    uint64_t *e;

    if (!window)
        return;
    ASSERT(i < WINDOWS && !(va % WINDOW_SIZE) && test_bit(i, windows_used));
    e = map_l1_slot(va);
    for (unsigned page = 0; page < DESCRIPTOR_WINDOW_PAGES; page++)
        WRITE_ONCE(e[page], 0);
    spin_lock(&map_lock);
    clear_bit_nonatomic(i, windows_used);
    spin_unlock(&map_lock);
}
