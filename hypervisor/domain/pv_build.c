/*
 * PV domains that Croft itself builds: domain 0, and those without tools. The steps are in the table at the end:
 *   read the kernel's notes; decide how much memory the domain gets; lay out its start (pv_layout.c); create it and its vcpus;
 *   allocate the frames that the layout needs and fill them: kernel, initrd; give their memory back if they are not kept;
 *   allocate the rest; write the p2m and m2p; build the page tables; start_info; vcpu 0.
 * The domain's frames are reached through the direct map. domain/builder.h says who calls when.
 */
#include "domain/pv_build.h"

#include "boot/boot.h"
#include "boot/options.h"
#include "cpu/cpu.h"
#include "cpu/instr.h"
#include "domain/boot_build.h"
#include "domain/domain.h"
#include "domain/guest_console.h"
#include "lib/log.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "memory/alloc.h"
#include "memory/map.h"
#include "platform/acpi.h"
#include "pv/mmu.h"
#include "pv/traps.h"

#define RESERVE_MAX (128 * PAGES_PER_MIB) /* kept free by default: for Croft, other domains, exchanges of memory */
#define RESERVE_PART 16
#define MAX_RUNS 16384

/* How much is done at a time, after boot */
#define LARGEST_ORDER 9 /* of what is allocated and cleared */
#define COPY_STEP (256UL << 10)
#define LIST_STEP 8192UL /* frames; a multiple of what a page of the list has */
#define MAP_STEP 4096UL

#define TABLE_FLAGS (PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_ACCESSED | PTE_DIRTY)

/* A run of pseudo-physical frames whose machine frames follow each other as well */
struct run {
    uint64_t pfn, mfn, count;
};

static struct builder {
    struct domain *d;
    domid_t id;
    const struct boot_domain *what;
    struct boot_image *image;
    struct boot_title title;
    unsigned step;
    unsigned largest, order;                  /* of the pieces of memory: at most, and the next one's */
    enum log_level level;                     /* of what the log tells of the way */
    const char *memory_option, *vcpus_option; /* their names, for messages */
    const struct boot_module *initrd;         /* null if there is none */
    bool has_hypercall_page;
    uint64_t v_offset;                 /* virtual minus physical address in the ELF file */
    uint64_t kernel_start, kernel_end; /* virtual */
    uint64_t pages;                    /* memory of the domain */
    uint64_t allocated;                /* ... of which this many frames are there */
    struct pv_layout layout;
    struct run *runs;
    unsigned run_count;
    uint64_t root_pfn, next_table, tables_end; /* pseudo-physical frames for page tables */
    unsigned segment;                          /* of the kernel, which is copied now */
    uint64_t done;                             /* of the present step: bytes, frames; 0 when one begins */
} b;

#define build_log(...) log_print(b.level, __VA_ARGS__)

static int check_kernel(void)
{
    static const struct {
        unsigned note;
        const char *name;
    } necessary[] = {
        {XEN_ELFNOTE_XEN_VERSION, "XEN_VERSION"}, {XEN_ELFNOTE_VIRT_BASE, "VIRT_BASE"}, {XEN_ELFNOTE_ENTRY, "ENTRY"}};
    const struct elf_notes *n = &b.image->notes;

    for (unsigned i = 0; i < ARRAY_SIZE(necessary); i++)
        if (!elf_has_note(n, necessary[i].note))
            return build_error(
                -EINVAL,
                "%s's kernel has no Xen note %s: it was not built to run as a PV domain (Linux: CONFIG_XEN_PV, "
                "CONFIG_XEN_DOM0)\n",
                b.title.text, necessary[i].name);
    if (strcmp(n->xen_version, "xen-3.0"))
        return build_error(-EINVAL, "%s's kernel: its Xen note XEN_VERSION is \"%s\", \"xen-3.0\" is needed\n",
                           b.title.text, n->xen_version);
    if (b.what->is_domain0 && elf_has_note(n, XEN_ELFNOTE_SUPPORTED_FEATURES) && !(n->features >> XENFEAT_dom0 & 1))
        return build_error(-EINVAL,
                           "domain 0's kernel: its Xen note SUPPORTED_FEATURES says that it cannot be domain 0 (Linux: "
                           "CONFIG_XEN_DOM0)\n");
    if (elf_has_note(n, XEN_ELFNOTE_HV_START_LOW) && n->hv_start_low > HOLE_START)
        return build_error(-EINVAL, "%s's kernel: its Xen note HV_START_LOW leaves no room for Croft at 0x%lx\n",
                           b.title.text, HOLE_START);
    build_log("%s: %s %s, entry 0x%lx, VIRT_BASE 0x%lx\n", b.title.text, n->guest_os[0] ? n->guest_os : "?",
              n->guest_version, n->entry, n->virt_base);

    /* Segments lie where their physical addresses say: a virtual one may be a mere offset (Linux's .data..percpu). */
    b.v_offset = n->virt_base - n->paddr_offset;
    b.kernel_start = ~0UL;
    for (unsigned i = 0; i < b.image->elf.segment_count; i++) {
        const struct elf_segment *s = &b.image->elf.segments[i];
        uint64_t start = s->paddr + b.v_offset, end = start + s->memory_size;

        if (s->paddr < n->paddr_offset || start < n->virt_base || end < start)
            return build_error(-EINVAL, "%s's kernel: a segment at 0x%lx does not lie behind VIRT_BASE\n", b.title.text,
                               s->paddr);
        b.kernel_start = min(b.kernel_start, start);
        b.kernel_end = max(b.kernel_end, end);
    }
    if (n->entry < b.kernel_start || n->entry >= b.kernel_end)
        return build_error(-EINVAL, "%s's kernel: its Xen note ENTRY, 0x%lx, is not in the kernel\n", b.title.text,
                           n->entry);
    /* Linux since 6.13 (and 6.1.121) makes its calls without the page and has no such note. */
    b.has_hypercall_page = elf_has_note(n, XEN_ELFNOTE_HYPERCALL_PAGE);
    if (b.has_hypercall_page && (n->hypercall_page % PAGE_SIZE || n->hypercall_page < b.kernel_start ||
                                 n->hypercall_page >= b.kernel_end || b.kernel_end - n->hypercall_page < PAGE_SIZE))
        return build_error(-EINVAL, "%s's kernel: its Xen note HYPERCALL_PAGE, 0x%lx, is not a page of the kernel\n",
                           b.title.text, n->hypercall_page);
    if (!strcmp(n->guest_os, "netbsd") || elf_has_note(n, XEN_ELFNOTE_BSD_SYMTAB))
        build_log("%s: the symbol table that its note BSD_SYMTAB asks for is not loaded\n", b.title.text);
    return 0;
}

static const char *compute_layout(void)
{
    struct pv_layout_request request = {
        .v_start = b.image->notes.virt_base,
        .kernel_end = b.kernel_end,
        .initrd_size = b.initrd ? b.initrd->size : 0,
        .initrd_unmapped = b.image->notes.mod_start_pfn,
        .p2m_elsewhere = elf_has_note(&b.image->notes, XEN_ELFNOTE_INIT_P2M),
        .p2m_address = b.image->notes.init_p2m,
        .console_page = !b.what->is_domain0,
        .pages = b.pages,
    };

    return pv_layout(&request, &b.layout);
}

static int decide_memory(void)
{
    uint64_t available = boot_build_available(b.image);
    uint64_t reserve = min(alloc_total_count() / RESERVE_PART, RESERVE_MAX);
    const char *error;
    int rc;

    if (!b.what->is_domain0)
        b.pages = b.what->memory >> PAGE_SHIFT;
    else if (options.dom0_mem)
        b.pages = options.dom0_mem >> PAGE_SHIFT;
    else
        b.pages = available > reserve ? available - reserve : 0;
    if (b.what->is_domain0)
        b.pages = max(b.pages, options.dom0_mem_min >> PAGE_SHIFT);
    if (b.what->is_domain0 && options.dom0_mem_max)
        b.pages = min(b.pages, options.dom0_mem_max >> PAGE_SHIFT);
    rc = boot_build_check_free(b.title.text, b.memory_option, b.pages, available);
    if (rc)
        return rc;
    error = compute_layout();
    if (error)
        return build_error(-EINVAL, "%s: %s\n", b.title.text, error);
    return boot_build_check_room(b.title.text, b.memory_option, b.pages, b.layout.pages_needed, b.layout.initrd_pages);
}

static int no_memory(void) { return build_error(-ENOMEM, "not enough memory for %s\n", b.title.text); }

/* Ports of domain 0: all but those that Croft drives itself or emulates. */
static int __init give_ports(void)
{
    static const struct {
        uint16_t first, last;
    } croft[] = {
        {0x20, 0x21},   {0xa0, 0xa1}, /* interrupt controllers */
        {0x40, 0x43},                 /* PIT: emulated */
        {0x4d0, 0x4d1},               /* edge or level of the interrupt controllers */
        {0xcf8, 0xcff},               /* PCI configuration: emulated */
    };
    static const struct {
        const char *name;
        uint16_t port;
    } com[] = {{"com1", 0x3f8}, {"com2", 0x2f8}};
    unsigned long *ports = heap_alloc(PV_IO_BITMAP_BYTES);

    if (!ports)
        return no_memory();
    memset(ports, 0xff, PV_IO_BITMAP_BYTES);
    for (unsigned i = 0; i < ARRAY_SIZE(croft); i++)
        for (unsigned port = croft[i].first; port <= croft[i].last; port++)
            clear_bit_nonatomic(port, ports);
    for (unsigned i = 0; i < ARRAY_SIZE(com); i++) {
        unsigned port = options.com[i].port ? options.com[i].port : com[i].port;

        for (unsigned j = 0; j < 8 && strstr(options.console, com[i].name); j++)
            clear_bit_nonatomic(port + j, ports);
    }
    b.d->pv.io_ports = ports;
    b.d->pv.io_memory = true;
    b.d->pv.leaf_refused = 0;
    return 0;
}

static int create_domain(void)
{
    bool domain0 = b.what->is_domain0;
    uint64_t limit = domain0 ? max(b.pages, options.dom0_mem_max >> PAGE_SHIFT) : b.pages;
    unsigned vcpus = b.what->vcpus;

    if (domain0)
        vcpus = options.dom0_max_vcpus ? options.dom0_max_vcpus : cpu_count();
    if (vcpus > MAX_VCPUS) {
        log_warning("dom0_max_vcpus=%u: more than %u are not possible\n", vcpus, MAX_VCPUS);
        vcpus = MAX_VCPUS;
    }
    b.d = domain_create(b.id, vcpus, limit, domain0 ? DOMAIN_HARDWARE : DOMAIN_BUILDING);
    if (!b.d || grant_init_domain(b.d, GRANT_DEFAULT_FRAMES, GRANT_DEFAULT_MAPTRACK_FRAMES, 2))
        return no_memory();
    build_log("%s: %u vcpus, %lu MiB of memory, at most %lu MiB\n", b.title.text, vcpus, b.pages / PAGES_PER_MIB,
              limit / PAGES_PER_MIB);
    return domain0 ? give_ports() : 0;
}

static int create_vcpu(void) { return boot_build_vcpu(b.title.text, b.vcpus_option, b.d, b.what); }

/* Keeps in mind that the next pseudo-physical frames are these. False: there are too many runs. */
static bool add_run(uint64_t mfn, uint64_t count)
{
    struct run *last = b.run_count ? &b.runs[b.run_count - 1] : NULL;

    if (last && last->mfn + last->count == mfn)
        last->count += count;
    else if (b.run_count == MAX_RUNS)
        return false;
    else
        b.runs[b.run_count++] = (struct run){b.allocated, mfn, count};
    b.allocated += count;
    return true;
}

/* Allocates the largest piece that can be had, as long as the domain has fewer than 'target' frames. -ENOMEM: memory ran out. */
static int allocate_piece(uint64_t target, bool zeroed)
{
    mfn_t m;

    if (b.allocated == target) {
        b.order = b.largest;
        return 0;
    }
    b.order = min(b.order, ilog2(target - b.allocated));
    m = zeroed ? alloc_domain_frames(b.d, b.order, NODE_ANY) : alloc_domain_frames_unzeroed(b.d, b.order, NODE_ANY);
    if (!mfn_eq(m, INVALID_MFN))
        return add_run(m.n, 1UL << b.order) ? -ERESTART : -ENOSPC;
    if (!b.order)
        return -ENOMEM;
    b.order--;
    return -ERESTART;
}

static int in_pieces(void) { return build_error(-ENOMEM, "memory is in too many pieces to build %s\n", b.title.text); }

/* The run with 'pfn' in it */
static const struct run *find_run(uint64_t pfn)
{
    unsigned low = 0, high = b.run_count;

    BUG_ON(pfn >= b.allocated);
    while (high - low > 1) {
        unsigned middle = (low + high) / 2;

        if (b.runs[middle].pfn <= pfn)
            low = middle;
        else
            high = middle;
    }
    return &b.runs[low];
}

static mfn_t mfn_of_pfn(uint64_t pfn)
{
    const struct run *r = find_run(pfn);

    return MFN(r->mfn + pfn - r->pfn);
}

static void *page_of_pfn(uint64_t pfn) { return mfn_to_virt(mfn_of_pfn(pfn)); }
static uint64_t pfn_of_va(uint64_t va) { return (va - b.layout.v_start) >> PAGE_SHIFT; }

/* Copies to pseudo-physical address 'to' of the domain. */
static void copy_to_domain(uint64_t to, const void *from, uint64_t n)
{
    while (n) {
        const struct run *r = find_run(to >> PAGE_SHIFT);
        uint64_t in_run = to - (r->pfn << PAGE_SHIFT);
        uint64_t part = min(n, (r->count << PAGE_SHIFT) - in_run);

        memcpy((uint8_t *)mfn_to_virt(MFN(r->mfn)) + in_run, from, part);
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

static int allocate_needed(void)
{
    int rc;

    if (!b.runs)
        b.runs = heap_alloc(MAX_RUNS * sizeof(*b.runs));
    if (!b.runs)
        return no_memory();
    rc = allocate_piece(b.layout.pages_needed, true);
    if (rc == -ENOMEM)
        return build_error(rc, "not enough free memory for %s's kernel and initrd: add memory to the machine\n",
                           b.title.text);
    return rc == -ENOSPC ? in_pieces() : rc;
}

static int copy_kernel(void)
{
    const struct elf_image *elf = &b.image->elf;
    const struct elf_segment *s = &elf->segments[b.segment];

    if (copy_part(s->paddr + b.v_offset - b.layout.v_start, elf->data + s->offset, s->file_size) ||
        ++b.segment < elf->segment_count)
        return -ERESTART;
    build_log("%s: kernel at 0x%lx-0x%lx\n", b.title.text, b.kernel_start, b.kernel_end);
    return 0;
}

static int copy_initrd(void)
{
    if (!b.initrd)
        return 0;
    if (copy_part(b.layout.initrd_pfn << PAGE_SHIFT, maddr_to_virt(b.initrd->start), b.initrd->size))
        return -ERESTART;
    build_log("%s: initrd of %lu KiB at frame 0x%lx%s\n", b.title.text, b.initrd->size >> 10, b.layout.initrd_pfn,
              b.image->notes.mod_start_pfn ? ", not mapped" : "");
    return 0;
}

static int drop_image(void)
{
    if (!b.image->keep)
        boot_image_free(b.image);
    return 0;
}

/* Domain 0 may see what was there before (the firmware's, modules'), and clearing all memory takes long. */
static int allocate_rest(void)
{
    int rc = allocate_piece(b.pages, !b.what->is_domain0);

    if (rc == -ENOSPC)
        return in_pieces();
    if (rc != -ENOMEM)
        return rc;
    if (!b.what->is_domain0 || options.dom0_mem || options.dom0_mem_min)
        return build_error(rc, "%s: %s asks for %lu MiB, but only %lu MiB could be had: give less\n", b.title.text,
                           b.memory_option, b.pages / PAGES_PER_MIB, b.allocated / PAGES_PER_MIB);
    b.pages = b.allocated; /* the list of frames stays a little longer than needed */
    return 0;
}

/* The list of machine frames, in the domain's memory, and its reverse in Croft's. */
static int write_p2m(void)
{
    const struct run *r = find_run(b.done);
    uint64_t end = min(b.done + LIST_STEP, b.allocated), *page = NULL;

    for (uint64_t pfn = b.done; pfn < end; pfn++) {
        unsigned slot = pfn % (PAGE_SIZE / sizeof(*page));
        mfn_t m;

        r += pfn == r->pfn + r->count;
        m = MFN(r->mfn + pfn - r->pfn);
        if (!slot)
            page = page_of_pfn(b.layout.p2m_pfn + pfn * sizeof(*page) / PAGE_SIZE);
        page[slot] = m.n;
        m2p_write(m, pfn);
    }
    b.done = end;
    if (end < b.allocated)
        return -ERESTART;
    b.done = 0;
    build_log("%s: %lu frames in %u runs, list at 0x%lx\n", b.title.text, end, b.run_count, b.layout.p2m_va);
    return 0;
}

static uint64_t *new_table(uint64_t *pfn)
{
    BUG_ON(b.next_table >= b.tables_end); /* pv_layout counted them */
    *pfn = b.next_table++;
    return page_of_pfn(*pfn);
}

/* The L1 entry of 'va', with the tables on the way to it */
static uint64_t *entry_of(uint64_t va)
{
    uint64_t *table = page_of_pfn(b.root_pfn), pfn;

    for (unsigned shift = 39; shift > PAGE_SHIFT; shift -= 9) {
        uint64_t *entry = &table[va >> shift & 511];

        if (!*entry) {
            table = new_table(&pfn);
            *entry = mfn_to_maddr(mfn_of_pfn(pfn)).n | TABLE_FLAGS;
        } else {
            table = mfn_to_virt(pte_mfn(*entry));
        }
    }
    return &table[va >> PAGE_SHIFT & 511];
}

/* Maps 'count' frames from 'pfn' on at 'va', some at a time: b.done of them are. */
static int map_part(uint64_t va, uint64_t pfn, uint64_t count)
{
    uint64_t *entry = NULL, end = min(b.done + MAP_STEP, count);

    for (uint64_t i = b.done; i < end; i++) {
        uint64_t at = va + i * PAGE_SIZE;

        entry = entry && at >> PAGE_SHIFT & 511 ? entry + 1 : entry_of(at);
        *entry = mfn_to_maddr(mfn_of_pfn(pfn + i)).n | TABLE_FLAGS;
    }
    b.done = end;
    if (end < count)
        return -ERESTART;
    b.done = 0;
    return 0;
}

static int map_region(void)
{
    const struct pv_layout *l = &b.layout;

    if (!b.done) {
        b.next_table = b.root_pfn = pfn_of_va(l->table_va);
        b.tables_end = b.root_pfn + l->table_pages;
        b.next_table++;
    }
    return map_part(l->v_start, 0, l->region_pages);
}

static int protect_tables(void)
{
    for (uint64_t i = 0; i < b.layout.table_pages; i++)
        *entry_of(b.layout.table_va + i * PAGE_SIZE) &= ~PTE_WRITE;
    return 0;
}

static int map_p2m(void)
{
    const struct pv_layout *l = &b.layout;

    if (!l->p2m_tables)
        return 0;
    if (!b.done) {
        b.next_table = l->p2m_pfn + l->p2m_pages;
        b.tables_end = b.next_table + l->p2m_tables;
    }
    return map_part(l->p2m_va, l->p2m_pfn, l->p2m_pages);
}

static int set_root(void)
{
    int rc = mmu_set_initial_root(b.d->vcpus[0], mfn_of_pfn(b.root_pfn));

    if (rc == -ERESTART)
        return rc;
    if (rc)
        return build_error(rc, "%s: its first page tables were refused (error %d)\n", b.title.text, -rc);
    build_log("%s: mapped 0x%lx-0x%lx, page tables at 0x%lx\n", b.title.text, b.layout.v_start, b.layout.v_end,
              b.layout.table_va);
    return 0;
}

/* The kernel's command line: the module's; for domain 0 what follows "--" in Croft's, and where ACPI is if only UEFI knows. */
static void write_command_line(char *to, size_t size)
{
    const char *given = b.what->cmdline ? b.what->cmdline : b.what->kernel->cmdline;
    const char *extra = b.what->is_domain0 ? strstr(boot_info.cmdline, "-- ") : NULL;
    char rsdp[40] = "";
    int n;

    if (extra && extra != boot_info.cmdline && extra[-1] != ' ')
        extra = NULL;
    if (b.what->is_domain0 && boot_info.efi_system_table.n && acpi_info.rsdp.n && !strstr(given, "acpi_rsdp="))
        snprintf(rsdp, sizeof(rsdp), " acpi_rsdp=0x%lx", acpi_info.rsdp.n);
    n = snprintf(to, size, "%s%s%s%s", given, extra ? " " : "", extra ? extra + 3 : "", rsdp);
    if ((size_t)n >= size)
        log_warning("%s: its command line of %d characters is cut to %zu\n", b.title.text, n, size - 1);
    build_log("%s: command line: %s\n", b.title.text, to);
}

/* The screen as the loader left it, for the kernel's console driver; returns the size of the description. */
static uint32_t __init write_console_info(struct dom0_vga_console_info *info)
{
    if (boot_info.framebuffer.present) {
        info->video_type = boot_info.efi_system_table.n ? XEN_VGATYPE_EFI_LFB : XEN_VGATYPE_VESA_LFB;
        info->u.vesa_lfb.width = (uint16_t)boot_info.framebuffer.width;
        info->u.vesa_lfb.height = (uint16_t)boot_info.framebuffer.height;
        info->u.vesa_lfb.bytes_per_line = (uint16_t)boot_info.framebuffer.pitch;
        info->u.vesa_lfb.bits_per_pixel = boot_info.framebuffer.bpp;
        info->u.vesa_lfb.lfb_base = (uint32_t)boot_info.framebuffer.address.n;
        info->u.vesa_lfb.ext_lfb_base = (uint32_t)(boot_info.framebuffer.address.n >> 32);
        info->u.vesa_lfb.lfb_size =
            (uint32_t)DIV_ROUND_UP((uint64_t)boot_info.framebuffer.pitch * boot_info.framebuffer.height, 1UL << 16);
        info->u.vesa_lfb.red_pos = boot_info.framebuffer.rgb[0];
        info->u.vesa_lfb.red_size = boot_info.framebuffer.rgb[1];
        info->u.vesa_lfb.green_pos = boot_info.framebuffer.rgb[2];
        info->u.vesa_lfb.green_size = boot_info.framebuffer.rgb[3];
        info->u.vesa_lfb.blue_pos = boot_info.framebuffer.rgb[4];
        info->u.vesa_lfb.blue_size = boot_info.framebuffer.rgb[5];
        return sizeof(*info);
    }
    if (boot_info.efi_system_table.n)
        return 0;
    info->video_type = XEN_VGATYPE_TEXT_MODE_3; /* what a BIOS leaves: 80 x 25 characters */
    info->u.text_mode_3.font_height = 16;
    info->u.text_mode_3.rows = 25;
    info->u.text_mode_3.columns = 80;
    info->u.text_mode_3.cursor_y = 24;
    return sizeof(*info);
}

static int write_start_info(void)
{
    const struct pv_layout *l = &b.layout;
    struct start_info *si = page_of_pfn(pfn_of_va(l->start_info_va));
    const uint32_t info_offset = ROUND_UP((uint32_t)sizeof(*si), 8U);

    _Static_assert(sizeof(struct start_info) + sizeof(struct dom0_vga_console_info) + 8 <= PAGE_SIZE, "share a page");
    strlcpy(si->magic, "xen-3.0-x86_64", sizeof(si->magic));
    si->nr_pages = b.pages;
    si->shared_info = virt_to_maddr(b.d->shared_info).n;
    si->flags = b.what->is_domain0 ? SIF_PRIVILEGED | SIF_INITDOMAIN : 0;
    si->pt_base = l->table_va;
    si->nr_pt_frames = l->table_pages;
    si->mfn_list = l->p2m_va;
    if (b.initrd) {
        si->mod_len = b.initrd->size;
        si->mod_start = b.image->notes.mod_start_pfn ? l->initrd_pfn : l->v_start + (l->initrd_pfn << PAGE_SHIFT);
        si->flags |= b.image->notes.mod_start_pfn ? SIF_MOD_START_PFN : 0;
    }
    if (l->p2m_tables) {
        si->first_p2m_pfn = l->p2m_pfn;
        si->nr_p2m_frames = l->p2m_pages + l->p2m_tables;
    }
    write_command_line((char *)si->cmd_line, sizeof(si->cmd_line));
    if (b.what->is_domain0) {
        si->console.dom0.info_size = write_console_info((void *)((uint8_t *)si + info_offset));
        si->console.dom0.info_off = si->console.dom0.info_size ? info_offset : 0;
    } else {
        mfn_t ring = mfn_of_pfn(pfn_of_va(l->console_va));

        si->console.domU.mfn = ring.n;
        if (guest_console_create(b.d, b.what->name, ring, &si->console.domU.evtchn))
            return build_error(-ENOMEM, "not enough memory for the console of %s\n", b.title.text);
    }
    return 0;
}

/* How the ABI starts a vcpu: "Start-of-day" in <xen/xen.h> names RSI; flat segments; upcalls masked. */
static int start_vcpu(void)
{
    struct vcpu *v = b.d->vcpus[0];

    if (b.has_hypercall_page)
        pv_write_hypercall_page(page_of_pfn(pfn_of_va(b.image->notes.hypercall_page)));
    v->regs.rip = b.image->notes.entry;
    v->regs.rsp = b.layout.stack_va + PAGE_SIZE;
    v->regs.rsi = b.layout.start_info_va;
    v->regs.rflags = EFLAGS_IF | EFLAGS_MBS;
    v->regs.cs = FLAT_KERNEL_CS;
    v->regs.ss = FLAT_KERNEL_SS;
    v->pv.kernel_sp = v->regs.rsp;
    v->pv.kernel_ss = FLAT_KERNEL_SS;
    v->pv.kernel_mode = true;
    v->info->evtchn_upcall_mask = 1;
    v->initialised = true;
    v->down = false;
    build_log("%s: %lu MiB of memory stay free\n", b.title.text, alloc_free_count() / PAGES_PER_MIB);
    return 0;
}

static build_step_t *const steps[] = {
    check_kernel, decide_memory, create_domain,    create_vcpu, allocate_needed, copy_kernel,
    copy_initrd,  drop_image,    allocate_rest,    write_p2m,   map_region,      protect_tables,
    map_p2m,      set_root,      write_start_info, start_vcpu,
};

void pv_build_begin(struct boot_image *image, domid_t id, bool at_boot)
{
    const struct boot_domain *what = image->what;

    memset(&b, 0, sizeof(b));
    b.image = image;
    b.what = what;
    b.id = id;
    b.title = boot_build_title(what);
    b.initrd = what->initrd;
    b.largest = b.order = at_boot ? MAX_ORDER : LARGEST_ORDER;
    b.level = at_boot ? LOG_INFO : LOG_DEBUG;
    b.memory_option = what->is_domain0 ? "dom0_mem" : "memory";
    b.vcpus_option = what->is_domain0 ? "dom0_max_vcpus" : "vcpus";
}

int pv_build_step(struct domain **d)
{
    int rc = build_run(steps, ARRAY_SIZE(steps), &b.step);

    *d = b.d;
    if (rc != -ERESTART) {
        heap_free(b.runs);
        b.runs = NULL;
    }
    return rc;
}
