/* sources: hypervisor/domain/boot_build.c hypervisor/domain/pv_layout.c hypervisor/boot/payload.c hypervisor/boot/decompress.c hypervisor/boot/elf.c hypervisor/boot/options.c hypervisor/boot/boot_domains.c */
/* libs: -llzma -lzstd -llz4 -lz */
/*
 * Domains built in an array that stands for the machine's memory, then looked at as its kernel would: through its page
 * tables. The allocator gives small pieces in a random order, so that nothing is contiguous by chance.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <zlib.h>

#include "fake_boot.h"
#include "make_elf.h"

#include "memory/layout.h"

#define RAM_PAGES (48 * 256UL)
static uint8_t ram[RAM_PAGES << 12] __attribute__((aligned(4096)));
static uint64_t m2p[RAM_PAGES];

#include "../../hypervisor/domain/pv_build.c"

void *maddr_to_virt(maddr_t a) { return ram + a.n; }
void *mfn_to_virt(mfn_t m) { return ram + (m.n << PAGE_SHIFT); }
maddr_t virt_to_maddr(const void *p) { return MADDR((uint64_t)((const uint8_t *)p - ram)); }
void m2p_write(mfn_t m, uint64_t gpfn) { m2p[m.n] = gpfn; }

struct boot_info boot_info;
struct acpi_info acpi_info;
struct domain *domain0;
cpumask_t cpu_online;
unsigned cpu_count(void) { return 2; }
unsigned acpi_node_of_maddr(maddr_t a) { return 0; }
void decompress_begin(void) {}
void decompress_end(void) {}

/* ----- the machine: frames 0-1023 hold the modules; the rest is handed out in pieces of 8 frames ----- */
#define PIECE_ORDER 3
static uint64_t piece[RAM_PAGES], pieces, next_piece, given_back;

static void machine_reset(void)
{
    memset(&boot_info, 0, sizeof(boot_info));
    memset(&options, 0, sizeof(options));
    memset(&acpi_info, 0, sizeof(acpi_info));
    memset(&b, 0, sizeof(b));
    strlcpy(options.console, "com1", sizeof(options.console));
    memset(ram, 0xee, sizeof(ram));
    memset(m2p, 0xff, sizeof(m2p));
    cpu_online.bits[0] = 3;
    pieces = next_piece = given_back = 0;
    for (uint64_t m = 1024; m < RAM_PAGES; m += 1 << PIECE_ORDER)
        piece[pieces++] = m;
    for (uint64_t i = pieces - 1; i; i--) {
        uint64_t j = (uint64_t)rand() % (i + 1), t = piece[i];

        piece[i] = piece[j];
        piece[j] = t;
    }
    fake_log_clear();
}

static mfn_t take(struct domain *d, unsigned order, bool zero)
{
    if (order > PIECE_ORDER || next_piece == pieces || d->tot_pages + (1UL << order) > d->max_pages)
        return INVALID_MFN;
    uint64_t m = piece[next_piece++];

    d->tot_pages += 1UL << order;
    if (zero)
        memset(ram + (m << 12), 0, PAGE_SIZE << order);
    return MFN(m);
}
mfn_t alloc_domain_frames(struct domain *d, unsigned order, unsigned node) { return take(d, order, true); }
mfn_t alloc_domain_frames_unzeroed(struct domain *d, unsigned order, unsigned node) { return take(d, order, false); }
uint64_t alloc_free_count(void) { return (pieces - next_piece) << PIECE_ORDER; }
uint64_t alloc_total_count(void) { return pieces << PIECE_ORDER; }
void alloc_add_range(mfn_t start, uint64_t count, unsigned node) { given_back += count; }
void *heap_alloc(size_t size) { return calloc(1, size); }
void heap_free(void *p) { free(p); }

static struct domain the_domain;
static struct vcpu the_vcpus[MAX_VCPUS];
static struct shared_info *shared = (struct shared_info *)(ram + (1000 << 12));

struct domain *domain_create(domid_t id, unsigned max_vcpus, uint64_t max_pages, unsigned flags)
{
    bool is_hardware = flags == DOMAIN_HARDWARE;

    assert_true(is_hardware || flags == DOMAIN_BUILDING);
    memset(&the_domain, 0, sizeof(the_domain));
    memset(the_vcpus, 0, sizeof(the_vcpus));
    memset(shared, 0, PAGE_SIZE);
    the_domain.vcpu_count = max_vcpus;
    the_domain.max_pages = max_pages;
    the_domain.is_privileged = the_domain.is_hardware = is_hardware;
    the_domain.shared_info = shared;
    return &the_domain;
}
int grant_init_domain(struct domain *d, uint32_t max_frames, uint32_t max_maptrack_frames, unsigned max_version)
{
    return 0;
}
struct vcpu *vcpu_create(struct domain *d, unsigned id, unsigned cpu)
{
    struct vcpu *v = &the_vcpus[id];

    v->id = id;
    v->domain = d;
    v->processor = cpu;
    v->down = true;
    v->info = id < 32 ? &shared->vcpu_info[id] : &v->no_info;
    return d->vcpus[id] = v;
}
static mfn_t root;
static unsigned root_steps; /* it is preempted so often */
int mmu_set_initial_root(struct vcpu *v, mfn_t m)
{
    root = m;
    return root_steps && root_steps-- ? -ERESTART : 0;
}
static cpumask_t affinity;
int vcpu_set_affinity(struct vcpu *v, const cpumask_t *mask)
{
    affinity = *mask;
    return 0;
}
static mfn_t console_ring;
static char console_name[BOOT_DOMAIN_NAME];
int guest_console_create(struct domain *d, const char *name, mfn_t ring, uint32_t *port)
{
    console_ring = ring;
    strlcpy(console_name, name, sizeof(console_name));
    *port = 77;
    return 0;
}
void pv_write_hypercall_page(void *page) { memset(page, 0xc3, PAGE_SIZE); }

/* ----- the kernel's view ----- */
static uint64_t entry_at(uint64_t va)
{
    uint64_t entry = root.n << 12 | 7;

    for (int shift = 39; shift >= 12; shift -= 9) {
        if (!(entry & 1))
            return 0;
        assert_true((entry & PTE_ADDR) >> 12 < RAM_PAGES);
        entry = ((uint64_t *)(ram + (entry & PTE_ADDR)))[va >> shift & 511];
    }
    return entry;
}
static uint8_t *seen(uint64_t va)
{
    uint64_t entry = entry_at(va);

    assert_true(entry & 1);
    return ram + (entry & PTE_ADDR) + va % PAGE_SIZE;
}
static void assert_seen(uint64_t va, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i += min(n - i, PAGE_SIZE - (va + i) % PAGE_SIZE))
        assert_memory_equal(seen(va + i), bytes + i, min(n - i, PAGE_SIZE - (va + i) % PAGE_SIZE));
}

static struct made_elf made;

static void add_module(const void *bytes, size_t n, uint64_t at, const char *text)
{
    struct boot_module *m = &boot_info.modules[boot_info.module_count++];

    memcpy(ram + at, bytes, n);
    m->start = MADDR(at);
    m->size = n;
    strlcpy(m->cmdline, text, sizeof(m->cmdline));
}

static struct boot_domains found;
static struct boot_image image; /* of the last domain */
static unsigned steps_taken;

static struct domain *build_from(struct boot_image *from, domid_t id, bool at_boot)
{
    struct domain *d = NULL;
    int rc;

    pv_build_begin(from, id, at_boot);
    for (steps_taken = 1; (rc = pv_build_step(&d)) == -ERESTART; steps_taken++)
        ;
    assert_null(b.runs);
    if (rc)
        boot_fail("%s", build_error_text());
    return d;
}

static struct domain *build_one(const struct boot_domain *what, domid_t id)
{
    memset(&image, 0, sizeof(image));
    if (boot_image_unpack(&image, what))
        boot_fail("%s", build_error_text());
    return build_from(&image, id, true);
}

static void build(void)
{
    char error[200];

    memset(&found, 0, sizeof(found));
    assert_true(boot_domains_parse(&boot_info, &found, error, sizeof(error)));
    for (unsigned i = 0; i < found.count; i++)
        build_one(&found.guests[i], (domid_t)(i + 1));
    if (found.domain0.kernel)
        domain0 = build_one(&found.domain0, 0);
}

static struct start_info *start_info(void) { return (struct start_info *)seen(the_vcpus[0].regs.rsi); }

/* Everything that is so for each domain, and for each domain 0 */
static void check_domain(uint64_t pages)
{
    bool privileged = the_domain.is_privileged;
    const struct start_info *si = start_info();
    struct vcpu *v = &the_vcpus[0];
    uint64_t tables = 0;

    assert_string_equal(si->magic, "xen-3.0-x86_64");
    assert_int_equal(si->nr_pages, pages);
    assert_int_equal(the_domain.tot_pages, pages);
    assert_int_equal(si->shared_info, (uint8_t *)shared - ram);
    assert_int_equal(si->flags & (SIF_PRIVILEGED | SIF_INITDOMAIN), privileged ? SIF_PRIVILEGED | SIF_INITDOMAIN : 0);
    /* The region maps frame after frame, tables read-only, by the list that the kernel gets; m2p is its reverse. */
    for (uint64_t pfn = 0; pfn < pages; pfn++) {
        uint64_t mfn = *(uint64_t *)seen(si->mfn_list + pfn * 8);

        assert_true(mfn >= 1024 && mfn < RAM_PAGES);
        assert_int_equal(m2p[mfn], pfn);
        uint64_t va = MADE_BASE + (pfn << 12), entry = pfn < b.layout.region_pages ? entry_at(va) : 0;

        if (!entry)
            continue;
        bool table = va >= si->pt_base && va < si->pt_base + (si->nr_pt_frames << 12);

        tables += table;
        assert_int_equal(entry & PTE_ADDR, mfn << 12);
        assert_int_equal(entry & 0xfff, table ? 0x65 : 0x67);
    }
    assert_int_equal(tables, si->nr_pt_frames);
    assert_int_equal(entry_at(b.layout.v_end), 0);
    assert_int_equal(entry_at(si->pt_base) & PTE_ADDR, root.n << 12);
    for (unsigned slot = HOLE_L4_FIRST; slot < HOLE_L4_FIRST + HOLE_L4_COUNT; slot++)
        assert_int_equal(((uint64_t *)(ram + (root.n << 12)))[slot], 0);
    /* The kernel's segments; what is not in the file is zero; the hypercall page is in the text. */
    assert_seen(MADE_BASE + MADE_PHYSICAL, made.bytes + 0x1000, 0x1000);
    assert_int_equal(*seen(MADE_BASE + MADE_PHYSICAL + 0x1000), 0xc3);
    assert_seen(MADE_BASE + MADE_PHYSICAL + 0x2000, made.bytes + 0x3000, MADE_TEXT - 0x2000);
    assert_seen(MADE_BASE + MADE_PHYSICAL + 0x4000, made.bytes + 0x4000, 0x1000);
    for (uint64_t i = 0x1000; i < MADE_BSS; i += 8)
        assert_int_equal(*(uint64_t *)seen(MADE_BASE + MADE_PHYSICAL + 0x4000 + i), 0);
    /* The vcpu */
    assert_int_equal(v->regs.rip, MADE_BASE + MADE_PHYSICAL + 0x10);
    assert_int_equal(v->regs.rsp, si->pt_base + (si->nr_pt_frames << 12) + PAGE_SIZE);
    assert_int_equal(v->regs.rflags, 0x202);
    assert_int_equal(v->regs.cs, FLAT_KERNEL_CS);
    assert_int_equal(v->regs.ss, FLAT_KERNEL_SS);
    assert_true(v->pv.kernel_mode && v->initialised && !v->down && v->info->evtchn_upcall_mask == 1);
    if (!privileged) {
        assert_false(the_domain.is_hardware || the_domain.pv.io_memory || the_domain.pv.io_ports);
        return;
    }
    assert_true(the_domain.is_hardware && the_domain.pv.io_memory);
    assert_ptr_equal(domain0, &the_domain);
    assert_false(test_bit(0x3f8, the_domain.pv.io_ports) || test_bit(0x43, the_domain.pv.io_ports) ||
                 test_bit(0xcfc, the_domain.pv.io_ports) || test_bit(0x21, the_domain.pv.io_ports));
    assert_true(test_bit(0x2f8, the_domain.pv.io_ports) && test_bit(0x80, the_domain.pv.io_ports) &&
                test_bit(0xffff, the_domain.pv.io_ports));
    free(the_domain.pv.io_ports);
}

static uint8_t initrd[123457];

static void linux_like(void **state)
{
    machine_reset();
    made_kernel(&made);
    made_number(&made, XEN_ELFNOTE_INIT_P2M, 0x8000000000);
    made_number(&made, XEN_ELFNOTE_MOD_START_PFN, 1);
    made_number(&made, XEN_ELFNOTE_SUPPORTED_FEATURES, 1UL << XENFEAT_dom0);
    for (size_t i = 0; i < sizeof(initrd); i++)
        initrd[i] = (uint8_t)(i * 7 + i / 999);
    add_module(made.bytes, made.size, 0x3210, "console=hvc0 root=/dev/vda1");
    add_module(initrd, sizeof(initrd), 0x20000, "");
    options.dom0_mem = 24 << 20;
    options.dom0_max_vcpus = 3;
    build();
    check_domain(24 * 256);
    const struct start_info *si = start_info();

    assert_int_equal(si->mfn_list, 0x8000000000);
    assert_true(si->flags & SIF_MOD_START_PFN);
    assert_int_equal(si->mod_len, sizeof(initrd));
    for (size_t i = 0; i < sizeof(initrd); i++)
        assert_int_equal(
            ram[(*(uint64_t *)seen(si->mfn_list + (si->mod_start + i / PAGE_SIZE) * 8) << 12) + i % PAGE_SIZE],
            initrd[i]);
    assert_string_equal((char *)si->cmd_line, "console=hvc0 root=/dev/vda1");
    assert_int_equal(si->nr_p2m_frames, 24 * 256 * 8 / PAGE_SIZE + 3);
    const struct dom0_vga_console_info *screen = (void *)((uint8_t *)si + si->console.dom0.info_off);

    assert_int_equal(screen->video_type, XEN_VGATYPE_TEXT_MODE_3);
    assert_true(the_vcpus[1].down && the_vcpus[2].down);
    assert_int_equal(the_vcpus[1].processor, 1);
    assert_int_equal(the_vcpus[2].processor, 0);
    assert_int_equal(given_back, (0x3210 + made.size) / PAGE_SIZE - 4 + sizeof(initrd) / PAGE_SIZE);
}

static void all_in_the_region(void **state)
{
    machine_reset();
    made_kernel(&made);
    add_module(made.bytes, made.size, 0, "a b");
    add_module(initrd, sizeof(initrd), 0x20000, "");
    strlcpy(boot_info.cmdline, "loglvl=all -- more words", sizeof(boot_info.cmdline));
    boot_info.efi_system_table = MADDR(0x1234);
    acpi_info.rsdp = MADDR(0xabcd00);
    options.dom0_max_vcpus = 1000;
    build();
    uint64_t reserve = alloc_total_count() / 16, pages = the_domain.tot_pages;

    assert_true(alloc_free_count() + 64 >= reserve - given_back && alloc_free_count() <= reserve);
    check_domain(pages);
    const struct start_info *si = start_info();

    assert_false(si->flags & SIF_MOD_START_PFN);
    assert_seen(si->mod_start, initrd, sizeof(initrd));
    assert_int_equal(si->nr_p2m_frames, 0);
    assert_string_equal((char *)si->cmd_line, "a b more words acpi_rsdp=0xabcd00");
    assert_int_equal(si->console.dom0.info_size, 0);
    assert_non_null(strstr(fake_log, "dom0_max_vcpus=1000: more than 128"));
    assert_int_equal(the_domain.vcpu_count, MAX_VCPUS);
}

static void without_tools(void **state)
{
    machine_reset();
    made_kernel(&made);
    made_number(&made, XEN_ELFNOTE_SUPPORTED_FEATURES, 1); /* it cannot be domain 0, nor need it */
    add_module(made.bytes, made.size, 0, "domain=one memory=16M vcpus=2 cpus=1 -- console=hvc0 x");
    add_module(initrd, sizeof(initrd), 0x20000, "initrd");
    strlcpy(boot_info.cmdline, "loglvl=all -- for domain 0", sizeof(boot_info.cmdline));
    boot_info.efi_system_table = MADDR(0x1234);
    acpi_info.rsdp = MADDR(0xabcd00);
    options.dom0_mem = 24 << 20;
    options.dom0_max_vcpus = 5;
    build();
    check_domain(16 * 256);
    const struct start_info *si = start_info();

    assert_int_equal(the_domain.max_pages, 16 * 256);
    assert_int_equal(the_domain.vcpu_count, 2);
    assert_int_equal(the_vcpus[0].processor, 1);
    assert_int_equal(the_vcpus[1].processor, 1);
    assert_int_equal(affinity.bits[0], 2);
    assert_string_equal((char *)si->cmd_line, "console=hvc0 x");
    assert_seen(si->mod_start, initrd, sizeof(initrd));
    /* Nothing of what its frames held before */
    for (uint64_t pfn = b.layout.pages_needed; pfn < 16 * 256; pfn++) {
        const uint8_t *page = ram + (*(uint64_t *)seen(si->mfn_list + pfn * 8) << 12);

        assert_int_equal(page[0], 0);
        assert_memory_equal(page, page + 1, PAGE_SIZE - 1);
    }
    /* The console's ring: a page of the region by itself, mapped writable. */
    assert_string_equal(console_name, "one");
    assert_int_equal(si->console.domU.evtchn, 77);
    assert_int_equal(si->console.domU.mfn, console_ring.n);
    uint64_t va = MADE_BASE + (m2p[console_ring.n] << 12);

    assert_int_equal(entry_at(va) & 0xfff, 0x67);
    assert_int_equal(va, the_vcpus[0].regs.rsi + PAGE_SIZE);
    assert_true(va < si->pt_base);
    assert_int_equal(si->store_mfn, 0);
    assert_int_equal(si->store_evtchn, 0);
}

/* Built once more from what was kept, as when it is started anew: more in a step than is good for others is not done. */
static void anew(void **state)
{
    uint64_t modules;

    machine_reset();
    made_kernel(&made);
    add_module(made.bytes, made.size, 0, "domain=one memory=12M vcpus=2 -- console=hvc0 x");
    add_module(initrd, sizeof(initrd), 0x20000, "initrd");
    build();
    check_domain(12 * 256);
    assert_true(image.keep);
    modules = made.size / PAGE_SIZE + sizeof(initrd) / PAGE_SIZE;
    assert_int_equal(boot_image_pages(&image), modules);
    assert_int_equal(given_back, 0);
    for (unsigned i = 0; i < 3; i++) {
        next_piece = 0; /* the one before was destroyed */
        fake_log_clear();
        root_steps = 5 * i;
        build_from(&image, 9, false);
        assert_int_equal(root_steps, 0);
        check_domain(12 * 256);
        assert_string_equal((char *)start_info()->cmd_line, "console=hvc0 x");
        assert_seen(start_info()->mod_start, initrd, sizeof(initrd));
        assert_true(steps_taken > 12 * 256 >> PIECE_ORDER);
    }
    assert_int_equal(given_back, 0);
    boot_image_free(&image);
    assert_int_equal(given_back, modules);
    assert_null(image.payload.pages);
    /* Another one that may not be: nothing is kept. */
    machine_reset();
    add_module(made.bytes, made.size, 0, "domain=one memory=12M on_reboot=preserve --");
    build();
    assert_false(image.keep);
    assert_int_equal(given_back, made.size / PAGE_SIZE);
}

/* A compressed kernel's module is of no use once it is unpacked. */
static void anew_unpacked(void **state)
{
    static uint8_t packed[0x10000];
    uLongf n = sizeof(packed) - 32;
    z_stream z = {0};

    machine_reset();
    made_kernel(&made);
    assert_int_equal(deflateInit2(&z, 0, Z_DEFLATED, 16 + MAX_WBITS, 9, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = made.bytes;
    z.avail_in = (uInt)made.size;
    z.next_out = packed;
    z.avail_out = (uInt)n;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    assert_true(z.total_out > PAGE_SIZE);
    add_module(packed, z.total_out, 0, "domain=one memory=12M on_crash=restart on_reboot=destroy");
    build();
    check_domain(12 * 256);
    assert_int_equal(given_back, z.total_out / PAGE_SIZE);
    assert_int_equal(boot_image_pages(&image), made.size / PAGE_SIZE);
    memset(ram, 0xee, 1024 * PAGE_SIZE); /* somebody else's by now */
    next_piece = 0;
    build_from(&image, 9, false);
    check_domain(12 * 256);
    boot_image_free(&image);
    assert_int_equal(given_back, z.total_out / PAGE_SIZE);
}

/* What fails later than at boot fails with an error, and what there is of the domain is for the caller to destroy. */
static void anew_without_memory(void **state)
{
    struct domain *d = NULL;
    int rc;

    machine_reset();
    made_kernel(&made);
    add_module(made.bytes, made.size, 0, "domain=one memory=12M --");
    build();
    next_piece = pieces - 12 * 256 / (1 << PIECE_ORDER) + 1;
    pv_build_begin(&image, 9, false);
    while ((rc = pv_build_step(&d)) == -ERESTART)
        ;
    assert_int_equal(rc, -ENOMEM);
    assert_null(d);
    assert_string_equal(build_error_text(),
                        "domain one: memory asks for 12 MiB, but only 11 MiB are free: give less\n");
    next_piece = 0;
    pv_build_begin(&image, 9, false);
    do
        rc = pv_build_step(&d);
    while (rc == -ERESTART && !d);
    next_piece = pieces - 1; /* others have it now */
    while ((rc = pv_build_step(&d)) == -ERESTART)
        ;
    assert_int_equal(rc, -ENOMEM);
    assert_ptr_equal(d, &the_domain);
    assert_non_null(strstr(build_error_text(), "not enough free memory for domain one's kernel and initrd"));
    assert_null(b.runs);
    boot_image_free(&image);
}

static void framebuffer_and_limits(void **state)
{
    machine_reset();
    made_kernel(&made);
    add_module(made.bytes, made.size, 0, "acpi_rsdp=1");
    boot_info.efi_system_table = MADDR(0x1234);
    acpi_info.rsdp = MADDR(0xabcd00);
    boot_info.framebuffer.present = true;
    boot_info.framebuffer.address = MADDR(0x480000000);
    boot_info.framebuffer.pitch = 4096;
    boot_info.framebuffer.height = 768;
    boot_info.framebuffer.bpp = 32;
    options.dom0_mem_min = 10 << 20;
    options.dom0_mem_max = 12 << 20;
    memset(boot_info.modules[0].cmdline + 11, 'x', 1500);
    build();
    check_domain(12 * 256);
    assert_int_equal(the_domain.max_pages, 12 * 256);
    const struct start_info *si = start_info();
    const struct dom0_vga_console_info *screen = (void *)((uint8_t *)si + si->console.dom0.info_off);

    assert_int_equal(screen->video_type, XEN_VGATYPE_EFI_LFB);
    assert_int_equal(screen->u.vesa_lfb.ext_lfb_base, 4);
    assert_int_equal(screen->u.vesa_lfb.lfb_size, 48);
    assert_int_equal(strlen((char *)si->cmd_line), MAX_GUEST_CMDLINE - 1);
    assert_null(strstr((char *)si->cmd_line, "0xabcd00"));
    assert_non_null(strstr(fake_log, "is cut to 1023"));
}

/* A kernel without one of the notes that are needed */
static void build_without(uint32_t note)
{
    machine_reset();
    made_begin(&made);
    if (note != XEN_ELFNOTE_XEN_VERSION)
        made_text(&made, XEN_ELFNOTE_XEN_VERSION, "xen-3.0");
    if (note != XEN_ELFNOTE_VIRT_BASE)
        made_number(&made, XEN_ELFNOTE_VIRT_BASE, MADE_BASE);
    if (note != XEN_ELFNOTE_ENTRY)
        made_number(&made, XEN_ELFNOTE_ENTRY, MADE_BASE + MADE_PHYSICAL);
    add_module(made.bytes, made.size, 0, "");
    build();
}
static void build_with(uint32_t note, uint64_t value)
{
    machine_reset();
    made_kernel(&made);
    made_number(&made, note, value);
    add_module(made.bytes, made.size, 0, "");
    build();
}
static void build_guest(const char *words)
{
    machine_reset();
    made_kernel(&made);
    add_module(made.bytes, made.size, 0, words);
    build();
}
static void build_options(uint64_t mem, size_t initrd_size)
{
    static uint8_t zeros[3 << 20];

    machine_reset();
    made_kernel(&made);
    add_module(made.bytes, made.size, 0, "");
    if (initrd_size)
        add_module(zeros, initrd_size, 0x10000, "");
    options.dom0_mem = mem;
    build();
}

static void refusals(void **state)
{
    machine_reset();
    add_module("This is not a kernel, but some text", 36, 0, "");
    assert_true(FAILS_WITH(build(), "domain 0's kernel: not a kernel"));
    assert_true(FAILS_WITH(build_without(XEN_ELFNOTE_XEN_VERSION), "has no Xen note XEN_VERSION"));
    assert_true(FAILS_WITH(build_without(XEN_ELFNOTE_VIRT_BASE), "has no Xen note VIRT_BASE"));
    assert_true(FAILS_WITH(build_without(XEN_ELFNOTE_ENTRY), "has no Xen note ENTRY"));
    assert_true(FAILS_WITH(build_with(XEN_ELFNOTE_SUPPORTED_FEATURES, 1),
                           "SUPPORTED_FEATURES says that it cannot be domain 0"));
    assert_true(FAILS_WITH(build_with(XEN_ELFNOTE_HV_START_LOW, 0xffff900000000000), "HV_START_LOW"));
    assert_true(FAILS_WITH(build_with(XEN_ELFNOTE_ENTRY, 0), "ENTRY, 0x0, is not in the kernel"));
    assert_true(FAILS_WITH(build_with(XEN_ELFNOTE_ENTRY, MADE_BASE + MADE_PHYSICAL + 0x9000), "is not in the kernel"));
    assert_true(FAILS_WITH(build_with(XEN_ELFNOTE_HYPERCALL_PAGE, MADE_BASE), "HYPERCALL_PAGE"));
    assert_true(FAILS_WITH(build_with(XEN_ELFNOTE_HYPERCALL_PAGE, MADE_BASE + MADE_PHYSICAL + 8), "HYPERCALL_PAGE"));
    assert_true(FAILS_WITH(build_with(XEN_ELFNOTE_VIRT_BASE, MADE_BASE + 1), "VIRT_BASE"));
    assert_true(FAILS_WITH(build_with(XEN_ELFNOTE_VIRT_BASE, -0x1000UL), "does not lie behind VIRT_BASE"));
    assert_true(FAILS_WITH(build_with(XEN_ELFNOTE_PADDR_OFFSET, 0x200000), "does not lie behind VIRT_BASE"));
    assert_true(FAILS_WITH(build_with(XEN_ELFNOTE_INIT_P2M, 77), "INIT_P2M"));
    assert_true(FAILS_WITH(build_options(1UL << 40, 0), "only 44 MiB are free: give less"));
    assert_true(FAILS_WITH(build_options(~0UL, 0), "are free: give less"));
    assert_true(FAILS_WITH(build_options(4096, 0), "too small for its kernel and initrd: give at least dom0_mem=4M"));
    assert_true(FAILS_WITH(build_options(6 << 20, 3 << 20),
                           "the initrd of 3 MiB does not fit into domain 0's memory of 6 MiB"));
    assert_true(FAILS_WITH(build_guest("domain=x memory=100G"), "domain x: memory asks for 102400 MiB, but only"));
    assert_true(
        FAILS_WITH(build_guest("domain=x memory=8M cpus=2-3"), "domain x: none of the CPUs that cpus= names is there"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linux_like),
        cmocka_unit_test(all_in_the_region),
        cmocka_unit_test(without_tools),
        cmocka_unit_test(framebuffer_and_limits),
        cmocka_unit_test(anew),
        cmocka_unit_test(anew_unpacked),
        cmocka_unit_test(anew_without_memory),
        cmocka_unit_test(refusals),
    };

    srand(5);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
