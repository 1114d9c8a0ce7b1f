/*
 * Memory while booting.
 *
 * memory_init_early knows three sets of addresses, all in whole pages:
 *   ram      what the firmware calls RAM, below mem=: has struct frames;
 *   direct   what the direct map shows: ram, ACPI's tables, the modules;
 *   unused   ram that nobody uses yet: without the first MiB, the image and the modules.
 * It takes what it needs from the top of 'unused': page tables first, from below 4 GiB as only that can be reached;
 * once the direct map stands, the frame table and the machine-to-physical table from the very top, because low memory
 * is worth more to devices. What is left of 'unused' is what memory_init_late hands to the page allocator.
 */
#include "boot/boot.h"
#include "boot/options.h"
#include "cpu/cpu.h"
#include "cpu/smp.h"
#include "cpu/tlb.h"
#include "lib/bitmap.h"
#include "lib/log.h"
#include "lib/string.h"
#include "memory/alloc.h"
#include "memory/boot_memory.h"
#include "memory/frame.h"
#include "memory/map.h"
#include "platform/acpi.h"

#define MIB (1UL << 20)
#define LARGE_PAGE (2 * MIB)
#define ENTRIES 512UL /* of a page table: small pages in a large one */

/* ----- sets of addresses ----- */

#define SET_MAX (BOOT_MAX_RANGES + 2 * BOOT_MAX_MODULES + 32)
struct range {
    uint64_t start, end;
};
struct range_set {
    unsigned count;
    struct range r[SET_MAX];
}; /* sorted, apart from each other */

static struct range_set ram, direct, unused;

static void set_erase(struct range_set *s, unsigned i, unsigned n)
{
    memmove(&s->r[i], &s->r[i + n], (s->count - i - n) * sizeof(s->r[0]));
    s->count -= n;
}

static void set_insert(struct range_set *s, unsigned i, struct range r)
{
    if (s->count == SET_MAX)
        boot_fail("the firmware's memory map is in too many pieces (%u): cannot boot\n", s->count);
    memmove(&s->r[i + 1], &s->r[i], (s->count - i) * sizeof(s->r[0]));
    s->r[i] = r;
    s->count++;
}

static void set_add(struct range_set *s, struct range r)
{
    unsigned first = 0, n = 0;

    if (r.start >= r.end)
        return;
    while (first < s->count && s->r[first].end < r.start)
        first++;
    for (; first + n < s->count && s->r[first + n].start <= r.end; n++) {
        r.start = min(r.start, s->r[first + n].start);
        r.end = max(r.end, s->r[first + n].end);
    }
    set_erase(s, first, n);
    set_insert(s, first, r);
}

static void set_remove(struct range_set *s, struct range r)
{
    for (unsigned i = 0; i < s->count;) {
        struct range old = s->r[i];

        if (old.end <= r.start || old.start >= r.end) {
            i++;
            continue;
        }
        set_erase(s, i, 1);
        if (old.start < r.start)
            set_insert(s, i++, (struct range){old.start, r.start});
        if (old.end > r.end)
            set_insert(s, i++, (struct range){r.end, old.end});
    }
}

static bool set_contains(const struct range_set *s, uint64_t start, uint64_t end)
{
    for (unsigned i = 0; i < s->count && s->r[i].start <= start; i++)
        if (end <= s->r[i].end)
            return true;
    return false;
}

static bool set_touches(const struct range_set *s, uint64_t start, uint64_t end)
{
    for (unsigned i = 0; i < s->count && s->r[i].start < end; i++)
        if (start < s->r[i].end)
            return true;
    return false;
}

static uint64_t set_bytes(const struct range_set *s)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < s->count; i++)
        sum += s->r[i].end - s->r[i].start;
    return sum;
}

/* ----- memory before there is an allocator ----- */

static uint64_t early_limit = 1UL << 32; /* what can be reached */
static uint64_t early_bytes;             /* given out */
static bool late;

/* Not zeroed; the highest that there is. */
static maddr_t early_alloc(uint64_t size, uint64_t align)
{
    for (unsigned i = unused.count; i--;) {
        uint64_t end = min(unused.r[i].end, early_limit), at;

        if (end <= unused.r[i].start || end - unused.r[i].start < size)
            continue;
        at = ROUND_DOWN(end - size, align);
        if (at < unused.r[i].start)
            continue;
        set_remove(&unused, (struct range){at, at + size});
        early_bytes += size;
        return MADDR(at);
    }
    boot_fail("not enough memory: no room for Croft's tables in %lu MiB of RAM%s\n", set_bytes(&ram) / MIB,
              options.mem ? ": give a larger mem=" : "");
}

maddr_t memory_table_page(void)
{
    maddr_t page;
    void *p;

    if (late) {
        p = alloc_pages(0);
        return p ? virt_to_maddr(p) : MADDR(0);
    }
    page = early_alloc(PAGE_SIZE, PAGE_SIZE);
    memset(map_table_pointer(page), 0, PAGE_SIZE);
    return page;
}

void memory_table_free(maddr_t page) { free_pages(maddr_to_virt(page), 0); }

/* ----- what memory there is ----- */

static struct range pages_inside(uint64_t start, uint64_t size)
{
    return (struct range){ROUND_UP(start, PAGE_SIZE), ROUND_DOWN(start + size, PAGE_SIZE)};
}
static struct range pages_around(uint64_t start, uint64_t size)
{
    return (struct range){ROUND_DOWN(start, PAGE_SIZE), ROUND_UP(start + size, PAGE_SIZE)};
}
static struct range image_range(void) { return (struct range){IMAGE_PHYS, image_to_maddr(__image_end).n}; }

static void __init find_memory(void)
{
    uint64_t limit = min(DIRECT_MAP_SIZE, 1UL << cpu_features.paddr_bits), reachable = limit, left_out = 0;

    if (options.mem)
        limit = min(limit, ROUND_DOWN(options.mem, PAGE_SIZE));
    for (unsigned i = 0; i < boot_info.range_count; i++) {
        const struct boot_range *b = &boot_info.ranges[i];
        struct range r = pages_inside(b->start, b->size), around = pages_around(b->start, b->size);

        if (b->type == BOOT_RAM) {
            uint64_t end = min(r.end, limit);

            if (r.end > r.start && r.end > end)
                left_out += r.end - max(end, r.start);
            r.end = end;
            set_add(&ram, r);
            set_add(&direct, r);
        } else if (b->type == BOOT_ACPI || b->type == BOOT_NVS) {
            around.end = min(around.end, reachable);
            set_add(&direct, around);
        }
    }
    for (unsigned i = 0; i < ram.count; i++)
        set_add(&unused, ram.r[i]);
    set_remove(&unused, (struct range){0, MIB});
    set_remove(&unused, image_range());
    set_add(&direct, image_range());
    for (unsigned i = 0; i < boot_info.module_count; i++) {
        const struct boot_module *m = &boot_info.modules[i];
        struct range r = pages_around(m->start.n, m->size);

        r.end = min(r.end, reachable);
        set_remove(&unused, r);
        set_add(&direct, r);
    }
    if (!ram.count)
        boot_fail("no usable memory%s\n", options.mem ? ": mem= is too small" : " in the firmware's memory map");
    max_frame = ram.r[ram.count - 1].end >> PAGE_SHIFT;
    log_info("Memory: %lu MiB of RAM in %u ranges, up to 0x%lx\n", set_bytes(&ram) / MIB, ram.count,
             ram.r[ram.count - 1].end);
    if (left_out)
        log_warning("Memory: %lu MiB left out (%s)\n", left_out / MIB,
                    options.mem ? "mem=" : "beyond what Croft or the processor can address");
}

bool memory_is_direct_mapped(maddr_t start, uint64_t size)
{
    return start.n + size >= start.n && set_contains(&direct, start.n, start.n + size);
}

uint64_t memory_ram_frames(void) { return set_bytes(&ram) >> PAGE_SHIFT; }

static void __init map_or_fail(unsigned long va, maddr_t to, size_t size, uint64_t flags)
{
    int error = map_range(va, to, size, flags);

    if (error)
        panic("cannot map 0x%lx bytes at 0x%lx: %d\n", size, va, error);
}

#define RAM_FLAGS (PTE_PRESENT | PTE_WRITE | PTE_NX | PTE_GLOBAL | PTE_ACCESSED | PTE_DIRTY)
#define GUESTS_FLAGS (PTE_PRESENT | PTE_USER | PTE_NX | PTE_ACCESSED)

static void __init map_direct(void)
{
    if (!map_make_l3_tables())
        panic("no memory for page tables\n");
    for (unsigned i = 0; i < direct.count; i++)
        map_or_fail(DIRECT_MAP_START + direct.r[i].start, MADDR(direct.r[i].start), direct.r[i].end - direct.r[i].start,
                    RAM_FLAGS);
    map_direct_ready();
    early_limit = ~0UL;
}

/* ----- the frame table and the machine-to-physical table ----- */

/*
 * Both exist only where there is RAM. A section is what one 4 KiB page of the frame table describes: 128 frames. A bit
 * for each tells whether it is there; four sections share a page of the machine-to-physical table.
 */
#define SECTION_FRAMES FRAMES_PER_SECTION
#define SECTION_BYTES (SECTION_FRAMES * PAGE_SIZE)
#define M2P_PAGE_BYTES (PAGE_SIZE / sizeof(uint64_t) * PAGE_SIZE) /* RAM that one page of it describes */

unsigned long *frame_sections;
uint64_t frame_section_count;

static void __init find_sections(void)
{
    uint64_t bytes;

    frame_section_count = DIV_ROUND_UP(max_frame, SECTION_FRAMES);
    bytes = ROUND_UP(BITMAP_LONGS(frame_section_count) * sizeof(long), PAGE_SIZE);
    frame_sections = maddr_to_virt(early_alloc(bytes, PAGE_SIZE));
    memset(frame_sections, 0, bytes);
    for (unsigned i = 0; i < ram.count; i++)
        for (uint64_t s = ram.r[i].start / SECTION_BYTES; s <= (ram.r[i].end - 1) / SECTION_BYTES; s++)
            set_bit_nonatomic(s, frame_sections);
}

/* Is there RAM for the i-th page of a table whose pages describe so many bytes each? */
static bool page_wanted(uint64_t i, uint64_t bytes_described)
{
    return set_touches(&ram, i * bytes_described, (i + 1) * bytes_described);
}

typedef void fill_page_fn(void *page, uint64_t index);

/*
 * Makes a sparse table: pages where there is RAM, large ones where 512 in a row are wanted. 'also', if not 0, is a
 * second address for all of it, for guests; then all pages are large, for tools map the table by 2 MiB
 * (XENMEM_machphys_mfn_list). Returns its size in bytes.
 */
static uint64_t __init make_table(unsigned long va, unsigned long also, uint64_t bytes_described, fill_page_fn *fill)
{
    uint64_t pages = DIV_ROUND_UP(max_frame << PAGE_SHIFT, bytes_described), size = 0, step;

    for (uint64_t i = 0; i < pages; i += step) {
        uint64_t row = 0;
        maddr_t at;

        step = 1;
        if (also) {
            if (!page_wanted(i / ENTRIES, bytes_described * ENTRIES)) {
                step = ENTRIES;
                continue;
            }
            row = ENTRIES;
        } else if (!page_wanted(i, bytes_described)) {
            continue;
        }
        if (!row && !(i % ENTRIES))
            while (row < ENTRIES && page_wanted(i + row, bytes_described))
                row++;
        if (row == ENTRIES)
            step = ENTRIES;
        at = early_alloc(step * PAGE_SIZE, step * PAGE_SIZE);
        for (uint64_t j = 0; j < step; j++)
            fill((uint8_t *)maddr_to_virt(at) + j * PAGE_SIZE, i + j);
        map_or_fail(va + i * PAGE_SIZE, at, step * PAGE_SIZE, RAM_FLAGS);
        if (also)
            map_or_fail(also + i * PAGE_SIZE, at, step * PAGE_SIZE, GUESTS_FLAGS);
        size += step * PAGE_SIZE;
    }
    return size;
}

/* RAM is Croft's at first; holes and the first MiB (firmware, ISA devices) are nobody's, one reference for ever. */
static void __init fill_frames(void *page, uint64_t index)
{
    struct frame *f = page, *end = f + SECTION_FRAMES;
    uint64_t at = index * SECTION_BYTES;
    const struct frame ram_frame = {.control = (uint64_t)DOMID_CROFT << 32 | 1};
    const struct frame nobodys = {.control = (uint64_t)DOMID_IO << 32 | 1};

    if (at >= MIB && set_contains(&ram, at, at + SECTION_BYTES)) /* nearly all are: a short loop */
        for (; f < end; f++)
            *f = ram_frame;
    for (; f < end; f++, at += PAGE_SIZE)
        *f = at >= MIB && set_contains(&ram, at, at + PAGE_SIZE) ? ram_frame : nobodys;
}

static void __init fill_m2p(void *page, uint64_t index) { memset(page, 0xff, PAGE_SIZE); }

void __init memory_init_early(void)
{
    uint64_t frames, m2p;

    find_memory();
    map_direct();
    log_info("Memory: direct map of %lu MiB, largest pages %s\n", set_bytes(&direct) / MIB,
             cpu_features.gbpages ? "1 GiB" : "2 MiB");
    find_sections();
    frames = make_table(FRAME_TABLE_START, 0, SECTION_BYTES, fill_frames);
    m2p = make_table(M2P_RW_START, M2P_START, M2P_PAGE_BYTES, fill_m2p);
    log_info("Memory: frame table of %lu KiB, machine-to-physical table of %lu KiB\n", frames >> 10, m2p >> 10);
}

/* ----- after ACPI ----- */

/* Where the node of 'start' may end: the next border of the firmware's list, or 'end'. */
static uint64_t __init node_border(uint64_t start, uint64_t end)
{
    for (unsigned i = 0; i < acpi_info.memory_node_count; i++) {
        const struct acpi_memory_node *n = &acpi_info.memory_nodes[i];

        if (n->start > start)
            end = min(end, n->start);
        if (n->start + n->size > start)
            end = min(end, n->start + n->size);
    }
    return end;
}

void __init memory_init_late(void)
{
    uint64_t own, total = set_bytes(&ram), share;

    for (unsigned i = 0; i < unused.count; i++)
        for (uint64_t at = unused.r[i].start, border; at < unused.r[i].end; at = border) {
            border = ROUND_DOWN(node_border(at, unused.r[i].end), PAGE_SIZE);
            if (border <= at) /* a border within a page: the page goes to the node it begins in */
                border = at + PAGE_SIZE;
            alloc_add_range(MFN(at >> PAGE_SHIFT), (border - at) >> PAGE_SHIFT, acpi_node_of_maddr(MADDR(at)));
        }
    late = true;
    own = early_bytes + (uint64_t)(__image_end - __text_start);
    share = own * 10000 / total;
    log_info("Memory: Croft itself takes %lu KiB, %lu.%02lu %% of the machine; %lu MiB are free\n", own >> 10,
             share / 100, share % 100, alloc_free_count() * PAGE_SIZE / MIB);
}

/* ----- after the last CPU has started ----- */

static void flush_this_cpu(void *unused_arg) { tlb_flush_global_local(); }

static uint64_t identity; /* the root's entry for it, while it is not there */

void memory_drop_identity(void)
{
    identity = host_l4[0];
    WRITE_ONCE(host_l4[0], 0);
    smp_call(&cpu_online, flush_this_cpu, NULL);
}

void memory_restore_identity(void) { WRITE_ONCE(host_l4[0], identity); }

void __init memory_protect_image(void)
{
    if (map_protect_image())
        panic("no memory to protect the image\n");
    smp_call(&cpu_online, flush_this_cpu, NULL);
    log_info("Memory: image protected: %lu KiB of code, %lu KiB of constants, %lu KiB of data\n",
             (unsigned long)(__text_end - __text_start) >> 10, (unsigned long)(__rodata_end - __rodata_start) >> 10,
             (unsigned long)(__image_end - __data_start) >> 10);
}
