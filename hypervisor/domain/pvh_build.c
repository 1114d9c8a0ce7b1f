/*
 * PVH domains that Croft itself builds. The steps, in the order of the log lines they write:
 *   unpack the kernel and read its notes; lay out its memory (pvh_layout.c); create the domain and its vcpus; allocate and map the
 *   memory and fill it: kernel, initrd; give the modules' and the unpacked kernel's memory back; ACPI tables (pvh_acpi.c); console;
 *   start info; vcpu 0.
 * The domain's frames are reached through the direct map. One domain is built after the other, and nothing is undone: what
 * cannot be done ends in boot_fail.
 */
#include "domain/pvh_build.h"

#include "boot/boot.h"
#include "domain/boot_build.h"
#include "domain/domain.h"
#include "domain/guest_console.h"
#include "hvm/hvm.h"
#include "hypercall/memory.h"
#include "lib/log.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "memory/alloc.h"
#include "memory/map.h"

#define PAGES_PER_TABLE 512
#define TABLES_LEAST 16 /* of the nested page tables: the root, and some for what lies outside of RAM */

/* The page of start info: all that the kernel is told, but for the ACPI tables */
struct start_page {
    struct hvm_start_info info;
    struct hvm_modlist_entry initrd;
    struct hvm_memmap_table_entry map[PVH_MAP_ENTRIES];
    char cmdline[BOOT_CMDLINE_SIZE];
};
_Static_assert(sizeof(struct start_page) <= PAGE_SIZE, "one page");

/* What one entry of the nested page tables can map, in powers of two of pages: 1 GiB, 2 MiB, 4 KiB */
static const unsigned orders[] = {18, 9, 0};

/* Frames of the guest's, [first, end) */
struct range {
    uint64_t first, end;
};

static struct builder {
    struct domain *d;
    const struct boot_domain *what;
    char title[BOOT_DOMAIN_NAME + 8];
    const struct boot_module *kernel, *initrd; /* initrd: null if there is none */
    struct boot_image image;
    uint64_t kernel_start, kernel_end; /* physical */
    uint64_t pages;                    /* of RAM */
    struct pvh_layout layout;
    uint64_t piece_count[ARRAY_SIZE(orders)];
} b __initdata;

static void __init load_kernel(void)
{
    const struct elf_notes *n = &b.image.notes;

    boot_build_unpack(b.title, b.kernel, &b.image);
    if (!elf_has_note(n, XEN_ELFNOTE_PHYS32_ENTRY))
        boot_fail(
            "%s's kernel has no Xen note PHYS32_ENTRY: it was not built to run as a PVH domain (Linux: CONFIG_PVH); "
            "use type=pv if it can be a PV domain\n",
            b.title);
    log_info("%s: %s %s, PVH entry 0x%lx\n", b.title, n->guest_os[0] ? n->guest_os : "?", n->guest_version,
             n->phys32_entry);
    b.kernel_start = ~0UL;
    for (unsigned i = 0; i < b.image.elf.segment_count; i++) {
        const struct elf_segment *s = &b.image.elf.segments[i];

        b.kernel_start = min(b.kernel_start, s->paddr);
        b.kernel_end = max(b.kernel_end, s->paddr + s->memory_size);
    }
    if (n->phys32_entry < b.kernel_start || n->phys32_entry >= b.kernel_end)
        boot_fail("%s's kernel: its Xen note PHYS32_ENTRY, 0x%lx, is not in the kernel\n", b.title, n->phys32_entry);
}

static void __init decide_memory(void)
{
    struct pvh_layout_request request = {
        .kernel_start = b.kernel_start,
        .kernel_end = b.kernel_end,
        .initrd_size = b.initrd ? b.initrd->size : 0,
        .pages = b.what->memory >> PAGE_SHIFT,
    };
    const char *error;

    b.pages = request.pages;
    boot_build_check_free(b.title, "memory", b.pages, boot_build_available(b.kernel, b.initrd, &b.image));
    error = pvh_layout(&request, &b.layout);
    if (error)
        boot_fail("%s: %s\n", b.title, error);
    boot_build_check_room(b.title, "memory", b.pages, b.layout.pages_needed, b.layout.initrd_pages);
}

static void __init create_domain(domid_t id)
{
    uint64_t limit = b.pages + PVH_EXTRA_PAGES;

    b.d = domain_create(id, b.what->vcpus, limit, false);
    if (!b.d || hvm_init_domain(b.d) || grant_init_domain(b.d, GRANT_DEFAULT_FRAMES, GRANT_DEFAULT_MAPTRACK_FRAMES, 2))
        boot_fail("not enough memory for %s\n", b.title);
    boot_build_vcpus(b.title, "vcpus", b.d, b.what);
    log_info("%s: %u vcpus, %lu MiB of memory, at most %lu MiB\n", b.title, b.d->vcpu_count, b.pages / PAGES_PER_MIB,
             limit / PAGES_PER_MIB);
}

/* Allocates and maps the largest piece at 'gfn' that is aligned, ends before 'end' and can be had. Returns its pages, 0 for none. */
static uint64_t __init populate_piece(uint64_t gfn, uint64_t end)
{
    for (unsigned i = 0; i < ARRAY_SIZE(orders); i++) {
        uint64_t count = 1UL << orders[i];
        mfn_t m;
        int error;

        if (gfn & (count - 1) || end - gfn < count)
            continue;
        m = alloc_domain_frames(b.d, orders[i], NODE_ANY);
        if (mfn_eq(m, INVALID_MFN))
            continue;
        error = p2m_add(b.d, GFN(gfn), m, orders[i]);
        if (error == -ENOMEM)
            boot_fail("not enough memory for the page tables of %s: give less by memory\n", b.title);
        BUG_ON(error);
        b.piece_count[i]++;
        return count;
    }
    return 0;
}

/* False: memory ran out. */
static bool __init populate(uint64_t first, uint64_t end)
{
    while (first < end) {
        uint64_t count = populate_piece(first, end);

        if (!count)
            return false;
        first += count;
    }
    return true;
}

/* Copies to a physical address of the domain's. */
static void __init copy_to_domain(uint64_t to, const void *from, uint64_t n)
{
    while (n) {
        mfn_t m = p2m_lookup(b.d, GFN(to >> PAGE_SHIFT));
        uint64_t part = min(n, PAGE_SIZE - to % PAGE_SIZE);

        BUG_ON(mfn_eq(m, INVALID_MFN));
        memcpy((uint8_t *)mfn_to_virt(m) + to % PAGE_SIZE, from, part);
        from = (const uint8_t *)from + part;
        to += part;
        n -= part;
    }
}

static void __init copy_modules(void)
{
    for (unsigned i = 0; i < b.image.elf.segment_count; i++) {
        const struct elf_segment *s = &b.image.elf.segments[i];

        copy_to_domain(s->paddr, b.image.elf.data + s->offset, s->file_size);
    }
    payload_free(&b.image.payload);
    log_info("%s: kernel at 0x%lx-0x%lx\n", b.title, b.kernel_start, b.kernel_end);
    if (b.initrd) {
        copy_to_domain(b.layout.initrd, maddr_to_virt(b.initrd->start), b.initrd->size);
        log_info("%s: initrd of %lu KiB at 0x%lx\n", b.title, b.initrd->size >> 10, b.layout.initrd);
        boot_build_give_back(b.initrd);
    }
    boot_build_give_back(b.kernel);
}

/*
 * The parts of low RAM that hold kernel, initrd and start info come first, and what the modules held is given back before the rest:
 * the domain may need it. With memory to spare all of low RAM is the first part, so that its pieces can be larger.
 */
static void __init choose_first(struct range *bottom, struct range *top)
{
    const uint64_t low = b.layout.low_end >> PAGE_SHIFT, large = 1UL << orders[1];

    *bottom = (struct range){0, low};
    *top = (struct range){low, low};
    if (alloc_free_count() >= b.pages + PVH_EXTRA_PAGES + b.pages / PAGES_PER_TABLE + TABLES_LEAST)
        return;
    bottom->first = ROUND_DOWN(b.kernel_start >> PAGE_SHIFT, large);
    bottom->end = min(low, ROUND_UP(DIV_ROUND_UP(b.kernel_end, PAGE_SIZE), large));
    top->first = max(bottom->end, ROUND_DOWN(b.layout.initrd >> PAGE_SHIFT, large));
}

static void __init fill_memory(void)
{
    struct range bottom, top;

    choose_first(&bottom, &top);
    if (!populate(bottom.first, bottom.end) || !populate(top.first, top.end))
        boot_fail("not enough free memory for %s's kernel and initrd: add memory to the machine\n", b.title);
    copy_modules();
    if (!populate(0, bottom.first) || !populate(bottom.end, top.first) ||
        !populate(PVH_HIGH_START >> PAGE_SHIFT, b.layout.high_end >> PAGE_SHIFT) ||
        !populate(PVH_CONSOLE >> PAGE_SHIFT, (PVH_CONSOLE >> PAGE_SHIFT) + 1) ||
        !populate(PVH_ACPI_START >> PAGE_SHIFT, (PVH_ACPI_START + PVH_ACPI_SIZE) >> PAGE_SHIFT))
        boot_fail("%s: memory asks for %lu MiB, but only %lu MiB could be had: give less\n", b.title,
                  b.pages / PAGES_PER_MIB, b.d->tot_pages / PAGES_PER_MIB);
    log_info("%s: %lu frames, mapped by pieces of 1 GiB (%lu), 2 MiB (%lu) and 4 KiB (%lu)\n", b.title, b.d->tot_pages,
             b.piece_count[0], b.piece_count[1], b.piece_count[2]);
}

static void __init write_acpi(void)
{
    uint8_t *tables = heap_alloc(PVH_ACPI_SIZE);

    if (!tables)
        boot_fail("not enough memory for %s\n", b.title);
    b.d->hvm->croft_acpi = true;
    copy_to_domain(PVH_ACPI_START, tables, pvh_acpi_write(tables, PVH_ACPI_START, b.d->vcpu_count));
    heap_free(tables);
}

/* What a start page tells of memory is also what XENMEM_memory_map does. */
static void __init set_memory_map(void)
{
    struct e820_entry entries[PVH_MAP_ENTRIES];

    for (unsigned i = 0; i < b.layout.map_count; i++)
        entries[i] = (struct e820_entry){b.layout.map[i].addr, b.layout.map[i].size, b.layout.map[i].type};
    if (memory_map_set(b.d, entries, b.layout.map_count))
        boot_fail("not enough memory for %s\n", b.title);
}

/* There is no xenstore: its parameters stay 0. */
static void __init create_console(void)
{
    uint32_t port;

    if (guest_console_create(b.d, b.what->name, p2m_lookup(b.d, GFN(PVH_CONSOLE >> PAGE_SHIFT)), &port))
        boot_fail("not enough memory for the console of %s\n", b.title);
    b.d->hvm->params[HVM_PARAM_CONSOLE_PFN] = PVH_CONSOLE >> PAGE_SHIFT;
    b.d->hvm->params[HVM_PARAM_CONSOLE_EVTCHN] = port;
}

static void __init write_start_info(void)
{
    const uint64_t at = b.layout.start_info;
    struct start_page *page = mfn_to_virt(p2m_lookup(b.d, GFN(at >> PAGE_SHIFT)));

    page->info.magic = XEN_HVM_START_MAGIC_VALUE;
    page->info.version = 1; /* with a memory map */
    page->info.cmdline_paddr = at + offsetof(struct start_page, cmdline);
    page->info.rsdp_paddr = PVH_ACPI_START;
    page->info.memmap_paddr = at + offsetof(struct start_page, map);
    page->info.memmap_entries = b.layout.map_count;
    memcpy(page->map, b.layout.map, sizeof(page->map));
    if (b.initrd) {
        page->info.nr_modules = 1;
        page->info.modlist_paddr = at + offsetof(struct start_page, initrd);
        page->initrd.paddr = b.layout.initrd;
        page->initrd.size = b.initrd->size;
    }
    strlcpy(page->cmdline, b.what->cmdline, sizeof(page->cmdline));
    log_info("%s: command line: %s\n", b.title, page->cmdline);
}

static void __init start_vcpu(void)
{
    struct vcpu *v = b.d->vcpus[0];

    hvm_start_pvh(v, (uint32_t)b.image.notes.phys32_entry, (uint32_t)b.layout.start_info);
    v->initialised = true;
    v->down = false;
}

struct domain *__init pvh_build(const struct boot_domain *what, domid_t id)
{
    const char *missing = hvm_missing();

    memset(&b, 0, sizeof(b));
    b.what = what;
    b.kernel = what->kernel;
    b.initrd = what->initrd;
    snprintf(b.title, sizeof(b.title), "domain %s", what->name);
    if (missing)
        boot_fail("%s: type=pvh is not possible on this machine: %s; use type=pv\n", b.title, missing);
    load_kernel();
    decide_memory();
    create_domain(id);
    fill_memory();
    write_acpi();
    set_memory_map();
    create_console();
    write_start_info();
    start_vcpu();
    log_info("%s: %lu MiB of memory stay free\n", b.title, alloc_free_count() / PAGES_PER_MIB);
    return b.d;
}
