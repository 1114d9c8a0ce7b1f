/*
 * PVH domains that Croft itself builds. The steps are in the table at the end:
 *   read the kernel's notes; lay out its memory (pvh_layout.c); create the domain and its vcpus; allocate and map the memory and
 *   fill it: kernel, initrd; give their memory back if they are not kept; ACPI tables (pvh_acpi.c); console; start info; vcpu 0.
 * The domain's frames are reached through the direct map. domain/builder.h says who calls when.
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
#define COPY_STEP (256UL << 10) /* bytes that are copied at a time */
#define TABLES_LEAST 16         /* of the nested page tables: the root, and some for what lies outside of RAM */

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

#define FIRST_RANGES 2 /* hold what is copied */
#define RANGES 7

static struct builder {
    struct domain *d;
    domid_t id;
    const struct boot_domain *what;
    struct boot_image *image;
    struct boot_title title;
    unsigned step;
    bool huge;                         /* pieces of 1 GiB, which take long to clear */
    enum log_level level;              /* of what the log tells of the way */
    const struct boot_module *initrd;  /* null if there is none */
    uint64_t kernel_start, kernel_end; /* physical */
    uint64_t pages;                    /* of RAM */
    struct pvh_layout layout;
    struct range ranges[RANGES]; /* all that is to be populated, in this order; 'first' moves on */
    unsigned range;              /* the one that is at work */
    uint64_t piece_count[ARRAY_SIZE(orders)];
    unsigned segment; /* of the kernel, which is copied now */
    uint64_t done;    /* bytes of the present copy; 0 when one begins */
} b;

#define build_log(...) log_print(b.level, __VA_ARGS__)

static int no_memory(void) { return build_error(-ENOMEM, "not enough memory for %s\n", b.title.text); }

static int check_kernel(void)
{
    const struct elf_notes *n = &b.image->notes;
    const char *missing = hvm_missing();

    if (missing)
        return build_error(-EOPNOTSUPP, "%s: type=pvh is not possible on this machine: %s; use type=pv\n", b.title.text,
                           missing);
    if (!elf_has_note(n, XEN_ELFNOTE_PHYS32_ENTRY))
        return build_error(-EINVAL,
                           "%s's kernel has no Xen note PHYS32_ENTRY: it was not built to run as a PVH domain (Linux: "
                           "CONFIG_PVH); use type=pv if it can be a PV domain\n",
                           b.title.text);
    build_log("%s: %s %s, PVH entry 0x%lx\n", b.title.text, n->guest_os[0] ? n->guest_os : "?", n->guest_version,
              n->phys32_entry);
    b.kernel_start = ~0UL;
    for (unsigned i = 0; i < b.image->elf.segment_count; i++) {
        const struct elf_segment *s = &b.image->elf.segments[i];

        b.kernel_start = min(b.kernel_start, s->paddr);
        b.kernel_end = max(b.kernel_end, s->paddr + s->memory_size);
    }
    if (n->phys32_entry < b.kernel_start || n->phys32_entry >= b.kernel_end)
        return build_error(-EINVAL, "%s's kernel: its Xen note PHYS32_ENTRY, 0x%lx, is not in the kernel\n",
                           b.title.text, n->phys32_entry);
    return 0;
}

static int decide_memory(void)
{
    struct pvh_layout_request request = {
        .kernel_start = b.kernel_start,
        .kernel_end = b.kernel_end,
        .initrd_size = b.initrd ? b.initrd->size : 0,
        .pages = b.what->memory >> PAGE_SHIFT,
    };
    const char *error;
    int rc;

    b.pages = request.pages;
    rc = boot_build_check_free(b.title.text, "memory", b.pages, boot_build_available(b.image));
    if (rc)
        return rc;
    error = pvh_layout(&request, &b.layout);
    if (error)
        return build_error(-EINVAL, "%s: %s\n", b.title.text, error);
    return boot_build_check_room(b.title.text, "memory", b.pages, b.layout.pages_needed, b.layout.initrd_pages);
}

static int create_domain(void)
{
    uint64_t limit = b.pages + PVH_EXTRA_PAGES;

    b.d = domain_create(b.id, b.what->vcpus, limit, DOMAIN_BUILDING);
    if (!b.d || hvm_init_domain(b.d) || grant_init_domain(b.d, GRANT_DEFAULT_FRAMES, GRANT_DEFAULT_MAPTRACK_FRAMES, 2))
        return no_memory();
    build_log("%s: %u vcpus, %lu MiB of memory, at most %lu MiB\n", b.title.text, b.d->vcpu_count,
              b.pages / PAGES_PER_MIB, limit / PAGES_PER_MIB);
    return 0;
}

static int create_vcpu(void) { return boot_build_vcpu(b.title.text, "vcpus", b.d, b.what); }

/*
 * The parts of low RAM that hold kernel, initrd and start info come first, and what the modules held is given back before the rest:
 * the domain may need it. With memory to spare all of low RAM is the first part, so that its pieces can be larger.
 */
static int choose_ranges(void)
{
    const uint64_t low = b.layout.low_end >> PAGE_SHIFT, large = 1UL << orders[1];
    struct range bottom = {0, low}, top = {low, low};

    if (alloc_free_count() < b.pages + PVH_EXTRA_PAGES + b.pages / PAGES_PER_TABLE + TABLES_LEAST) {
        bottom.first = ROUND_DOWN(b.kernel_start >> PAGE_SHIFT, large);
        bottom.end = min(low, ROUND_UP(DIV_ROUND_UP(b.kernel_end, PAGE_SIZE), large));
        top.first = max(bottom.end, ROUND_DOWN(b.layout.initrd >> PAGE_SHIFT, large));
    }
    b.ranges[0] = bottom;
    b.ranges[1] = top;
    b.ranges[2] = (struct range){0, bottom.first};
    b.ranges[3] = (struct range){bottom.end, top.first};
    b.ranges[4] = (struct range){PVH_HIGH_START >> PAGE_SHIFT, b.layout.high_end >> PAGE_SHIFT};
    b.ranges[5] = (struct range){PVH_CONSOLE >> PAGE_SHIFT, (PVH_CONSOLE >> PAGE_SHIFT) + 1};
    b.ranges[6] = (struct range){PVH_ACPI_START >> PAGE_SHIFT, (PVH_ACPI_START + PVH_ACPI_SIZE) >> PAGE_SHIFT};
    return 0;
}

/* Allocates and maps the largest piece at the front of the range that is aligned and can be had. -ENOMEM: none; -ENOSPC: no tables. */
static int populate_piece(struct range *r)
{
    for (unsigned i = b.huge ? 0 : 1; i < ARRAY_SIZE(orders); i++) {
        uint64_t count = 1UL << orders[i];
        mfn_t m;
        int error;

        if (r->first & (count - 1) || r->end - r->first < count)
            continue;
        m = alloc_domain_frames(b.d, orders[i], NODE_ANY);
        if (mfn_eq(m, INVALID_MFN))
            continue;
        error = p2m_add(b.d, GFN(r->first), m, orders[i]);
        if (error == -ENOMEM)
            return -ENOSPC;
        BUG_ON(error);
        b.piece_count[i]++;
        r->first += count;
        return 0;
    }
    return -ENOMEM;
}

/* A piece of the ranges before number 'end'. Errors as populate_piece. */
static int populate(unsigned end)
{
    struct range *r = &b.ranges[b.range];
    int rc = 0;

    if (b.range == end)
        return 0;
    if (r->first < r->end)
        rc = populate_piece(r);
    else
        b.range++;
    return rc ? rc : -ERESTART;
}

static int no_tables(void)
{
    return build_error(-ENOMEM, "not enough memory for the page tables of %s: give less by memory\n", b.title.text);
}

static int populate_first(void)
{
    int rc = populate(FIRST_RANGES);

    if (rc == -ENOMEM)
        return build_error(rc, "not enough free memory for %s's kernel and initrd: add memory to the machine\n",
                           b.title.text);
    return rc == -ENOSPC ? no_tables() : rc;
}

/* Copies to a physical address of the domain's. */
static void copy_to_domain(uint64_t to, const void *from, uint64_t n)
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

/* The same, a part at a time: b.done bytes of it are there. */
static int copy_part(uint64_t to, const void *from, uint64_t n)
{
    uint64_t part = min(n - b.done, COPY_STEP);

    copy_to_domain(to + b.done, (const uint8_t *)from + b.done, part);
    b.done += part;
    if (b.done < n)
        return -ERESTART;
    b.done = 0;
    return 0;
}

static int copy_kernel(void)
{
    const struct elf_image *elf = &b.image->elf;
    const struct elf_segment *s = &elf->segments[b.segment];

    if (copy_part(s->paddr, elf->data + s->offset, s->file_size) || ++b.segment < elf->segment_count)
        return -ERESTART;
    build_log("%s: kernel at 0x%lx-0x%lx\n", b.title.text, b.kernel_start, b.kernel_end);
    return 0;
}

static int copy_initrd(void)
{
    if (!b.initrd)
        return 0;
    if (copy_part(b.layout.initrd, maddr_to_virt(b.initrd->start), b.initrd->size))
        return -ERESTART;
    build_log("%s: initrd of %lu KiB at 0x%lx\n", b.title.text, b.initrd->size >> 10, b.layout.initrd);
    return 0;
}

static int drop_image(void)
{
    if (!b.image->keep)
        boot_image_free(b.image);
    return 0;
}

static int populate_rest(void)
{
    int rc = populate(RANGES);

    if (rc == -ENOMEM)
        return build_error(rc, "%s: memory asks for %lu MiB, but only %lu MiB could be had: give less\n", b.title.text,
                           b.pages / PAGES_PER_MIB, b.d->tot_pages / PAGES_PER_MIB);
    if (rc)
        return rc == -ENOSPC ? no_tables() : rc;
    build_log("%s: %lu frames, mapped by pieces of 1 GiB (%lu), 2 MiB (%lu) and 4 KiB (%lu)\n", b.title.text,
              b.d->tot_pages, b.piece_count[0], b.piece_count[1], b.piece_count[2]);
    return 0;
}

static int write_acpi(void)
{
    uint8_t *tables = heap_alloc(PVH_ACPI_SIZE);

    if (!tables)
        return no_memory();
    b.d->hvm->croft_acpi = true;
    copy_to_domain(PVH_ACPI_START, tables, pvh_acpi_write(tables, PVH_ACPI_START, b.d->vcpu_count));
    heap_free(tables);
    return 0;
}

/* What a start page tells of memory is also what XENMEM_memory_map does. */
static int set_memory_map(void)
{
    struct e820_entry entries[PVH_MAP_ENTRIES];

    for (unsigned i = 0; i < b.layout.map_count; i++)
        entries[i] = (struct e820_entry){b.layout.map[i].addr, b.layout.map[i].size, b.layout.map[i].type};
    return memory_map_set(b.d, entries, b.layout.map_count) ? no_memory() : 0;
}

/* There is no xenstore: its parameters stay 0. */
static int create_console(void)
{
    uint32_t port;

    if (guest_console_create(b.d, b.what->name, p2m_lookup(b.d, GFN(PVH_CONSOLE >> PAGE_SHIFT)), &port))
        return build_error(-ENOMEM, "not enough memory for the console of %s\n", b.title.text);
    b.d->hvm->params[HVM_PARAM_CONSOLE_PFN] = PVH_CONSOLE >> PAGE_SHIFT;
    b.d->hvm->params[HVM_PARAM_CONSOLE_EVTCHN] = port;
    return 0;
}

static int write_start_info(void)
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
    build_log("%s: command line: %s\n", b.title.text, page->cmdline);
    return 0;
}

static int start_vcpu(void)
{
    struct vcpu *v = b.d->vcpus[0];

    hvm_start_pvh(v, (uint32_t)b.image->notes.phys32_entry, (uint32_t)b.layout.start_info);
    v->initialised = true;
    v->down = false;
    build_log("%s: %lu MiB of memory stay free\n", b.title.text, alloc_free_count() / PAGES_PER_MIB);
    return 0;
}

static build_step_t *const steps[] = {
    check_kernel,   decide_memory,  create_domain,  create_vcpu,      choose_ranges,
    populate_first, copy_kernel,    copy_initrd,    drop_image,       populate_rest,
    write_acpi,     set_memory_map, create_console, write_start_info, start_vcpu,
};

void pvh_build_begin(struct boot_image *image, domid_t id, bool at_boot)
{
    memset(&b, 0, sizeof(b));
    b.image = image;
    b.what = image->what;
    b.id = id;
    b.title = boot_build_title(b.what);
    b.initrd = b.what->initrd;
    b.huge = at_boot;
    b.level = at_boot ? LOG_INFO : LOG_DEBUG;
}

int pvh_build_step(struct domain **d)
{
    int rc = build_run(steps, ARRAY_SIZE(steps), &b.step);

    *d = b.d;
    return rc;
}
