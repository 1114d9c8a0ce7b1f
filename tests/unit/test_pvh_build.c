/* sources: hypervisor/domain/boot_build.c hypervisor/domain/pvh_layout.c hypervisor/domain/pvh_acpi.c hypervisor/boot/payload.c hypervisor/boot/decompress.c hypervisor/boot/elf.c hypervisor/boot/options.c hypervisor/boot/boot_domains.c */
/* libs: -llzma -lzstd -llz4 -lz */
/*
 * PVH domains built in memory that stands for the machine's, then looked at as their kernel would: by guest physical addresses,
 * through a list of what was mapped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "fake_boot.h"
#include "make_elf.h"

#include "memory/layout.h"

#define KIB (1UL << 10)
#define MIB (1UL << 20)
#define GIB (1UL << 30)
#define LARGE 512UL          /* pages of 2 MiB */
#define HUGE (LARGE * LARGE) /* of 1 GiB */

/* The machine: 8 MiB for modules, then blocks of 2 MiB; from 1 GiB on blocks of 1 GiB, which are never written in whole. */
#define RAM_SIZE (5 * GIB)
#define MODULE_BLOCKS 4
#define MOST_BLOCKS 40
static uint8_t *ram;

#include "../../hypervisor/domain/pvh_build.c"

void *maddr_to_virt(maddr_t a) { return ram + a.n; }
void *mfn_to_virt(mfn_t m) { return ram + (m.n << PAGE_SHIFT); }

struct boot_info boot_info;
cpumask_t cpu_online;
unsigned acpi_node_of_maddr(maddr_t a) { return 0; }
void decompress_begin(void) {}
void decompress_end(void) {}

/* ----- the allocator ----- */
static uint64_t block[MOST_BLOCKS], blocks, huge, next_huge, small[MOST_BLOCKS * LARGE], smalls;
static unsigned largest, most_allocated; /* orders: that there are; that was taken */
static uint64_t freed_frames;            /* of modules */

static void machine_reset(unsigned with_blocks, unsigned with_huge)
{
    memset(&boot_info, 0, sizeof(boot_info));
    memset(ram, 0xee, (MODULE_BLOCKS + MOST_BLOCKS) * 2 * MIB);
    assert_int_equal(madvise(ram + GIB, RAM_SIZE - GIB, MADV_DONTNEED), 0); /* zero from here on */
    cpu_online.bits[0] = 3;
    largest = MAX_ORDER;
    next_huge = smalls = freed_frames = 0;
    huge = with_huge;
    for (blocks = 0; blocks < with_blocks; blocks++)
        block[blocks] = (MODULE_BLOCKS + blocks) * LARGE;
    for (uint64_t i = blocks; i > 1; i--) {
        uint64_t j = (uint64_t)rand() % i, t = block[i - 1];

        block[i - 1] = block[j];
        block[j] = t;
    }
    fake_log_clear();
}

static mfn_t take(unsigned order)
{
    if (order == 18)
        return huge ? huge--, MFN(++next_huge * HUGE) : INVALID_MFN;
    if (order)
        return order == 9 && blocks ? MFN(block[--blocks]) : INVALID_MFN;
    if (!smalls && blocks) {
        blocks--;
        for (unsigned i = 0; i < LARGE; i++)
            small[smalls++] = block[blocks] + (i * 37 + 5) % LARGE;
    }
    return smalls ? MFN(small[--smalls]) : INVALID_MFN;
}

mfn_t alloc_domain_frames(struct domain *d, unsigned order, unsigned node)
{
    mfn_t m;

    if (order > largest || d->tot_pages + (1UL << order) > d->max_pages)
        return INVALID_MFN;
    m = take(order);
    if (mfn_eq(m, INVALID_MFN))
        return m;
    d->tot_pages += 1UL << order;
    most_allocated = max(most_allocated, order);
    if (order != 18)
        memset(mfn_to_virt(m), 0, PAGE_SIZE << order);
    return m;
}
uint64_t alloc_free_count(void) { return blocks * LARGE + smalls + huge * HUGE; }
void alloc_add_range(mfn_t start, uint64_t count, unsigned node)
{
    freed_frames += count;
    for (uint64_t i = 0; i < count; i++) {
        memset(mfn_to_virt(MFN(start.n + i)), 0xdd, PAGE_SIZE);
        small[smalls++] = start.n + i;
    }
}
static bool heap_empty;
void *heap_alloc(size_t size) { return heap_empty ? NULL : calloc(1, size); }
void heap_free(void *p) { free(p); }

/* ----- the domain ----- */
static struct domain the_domain;
static struct hvm_domain the_hvm;
static struct vcpu the_vcpus[MAX_VCPUS];

struct domain *domain_create(domid_t id, unsigned max_vcpus, uint64_t max_pages, unsigned flags)
{
    memset(&the_domain, 0, sizeof(the_domain));
    memset(&the_hvm, 0, sizeof(the_hvm));
    memset(the_vcpus, 0, sizeof(the_vcpus));
    the_domain.id = id;
    the_domain.vcpu_count = max_vcpus;
    the_domain.max_pages = max_pages;
    assert_int_equal(flags, DOMAIN_BUILDING);
    return &the_domain;
}
int grant_init_domain(struct domain *d, uint32_t max_frames, uint32_t max_maptrack_frames, unsigned max_version)
{
    return 0;
}
struct vcpu *vcpu_create(struct domain *d, unsigned id, unsigned cpu)
{
    struct vcpu *v = &the_vcpus[id];

    assert_ptr_equal(d->hvm, &the_hvm); /* it becomes one of its kind before it has vcpus */
    v->id = id;
    v->domain = d;
    v->processor = cpu;
    v->down = true;
    return d->vcpus[id] = v;
}
int vcpu_set_affinity(struct vcpu *v, const cpumask_t *mask) { return 0; }

static mfn_t console_ring;
static char console_name[BOOT_DOMAIN_NAME];
int guest_console_create(struct domain *d, const char *name, mfn_t ring, uint32_t *port)
{
    console_ring = ring;
    strlcpy(console_name, name, sizeof(console_name));
    *port = 77;
    return 0;
}

static struct e820_entry map[PVH_MAP_ENTRIES];
static unsigned map_count;
int memory_map_set(struct domain *d, const struct e820_entry *entries, unsigned count)
{
    assert_true(count <= PVH_MAP_ENTRIES);
    memcpy(map, entries, count * sizeof(map[0]));
    map_count = count;
    return 0;
}

static const char *missing;
static uint32_t started_at, started_with;
static const struct vcpu *started;
const char *hvm_missing(void) { return missing; }
void hvm_start_pvh(struct vcpu *v, uint32_t entry, uint32_t start_info)
{
    assert_false(v->initialised);
    started = v;
    started_at = entry;
    started_with = start_info;
}

/* ----- its physical memory ----- */
static struct mapping {
    uint64_t gfn, mfn, count;
} mapping[MOST_BLOCKS * LARGE];
static unsigned mappings, most_mappings = ARRAY_SIZE(mapping);

int hvm_init_domain(struct domain *d)
{
    d->hvm = &the_hvm;
    mappings = 0;
    return 0;
}
int p2m_add(struct domain *d, gfn_t gfn, mfn_t mfn, unsigned order)
{
    uint64_t count = 1UL << order;

    assert_true(order == 0 || order == 9 || order == 18);
    assert_int_equal((gfn.n | mfn.n) & (count - 1), 0);
    for (unsigned i = 0; i < mappings; i++) {
        assert_true(gfn.n >= mapping[i].gfn + mapping[i].count || mapping[i].gfn >= gfn.n + count);
        assert_true(mfn.n >= mapping[i].mfn + mapping[i].count || mapping[i].mfn >= mfn.n + count);
    }
    if (mappings == most_mappings)
        return -ENOMEM;
    mapping[mappings++] = (struct mapping){gfn.n, mfn.n, count};
    return 0;
}
mfn_t p2m_lookup(const struct domain *d, gfn_t gfn)
{
    for (unsigned i = 0; i < mappings; i++)
        if (gfn.n - mapping[i].gfn < mapping[i].count)
            return MFN(mapping[i].mfn + gfn.n - mapping[i].gfn);
    return INVALID_MFN;
}

static const void *seen(uint64_t address)
{
    mfn_t m = p2m_lookup(&the_domain, GFN(address >> PAGE_SHIFT));

    assert_false(mfn_eq(m, INVALID_MFN));
    return (uint8_t *)mfn_to_virt(m) + address % PAGE_SIZE;
}
static void assert_seen(uint64_t at, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0, part; i < n; i += part) {
        part = min(n - i, PAGE_SIZE - (at + i) % PAGE_SIZE);
        assert_memory_equal(seen(at + i), bytes + i, part);
    }
}
static void assert_zero(uint64_t from, uint64_t to)
{
    for (; from < to; from = (from | (PAGE_SIZE - 1)) + 1) {
        const uint8_t *p = seen(from);
        size_t n = PAGE_SIZE - from % PAGE_SIZE;

        assert_int_equal(p[0], 0);
        assert_memory_equal(p, p + 1, n - 1);
    }
}
static unsigned pieces_of(uint64_t count)
{
    unsigned n = 0;

    for (unsigned i = 0; i < mappings; i++)
        n += mapping[i].count == count;
    return n;
}

/* ----- modules ----- */
static struct made_elf made;
static struct boot_domains found;
static uint8_t initrd[3 * MIB + 1234];
static size_t initrd_size;

static void make_kernel(void)
{
    made_begin(&made);
    made_text(&made, XEN_ELFNOTE_GUEST_OS, "test");
    made_number(&made, XEN_ELFNOTE_PHYS32_ENTRY, MADE_PHYSICAL + 0x10);
}

static void add_module(const void *bytes, size_t n, uint64_t at, const char *text)
{
    struct boot_module *m = &boot_info.modules[boot_info.module_count++];

    memcpy(ram + at, bytes, n);
    m->start = MADDR(at);
    m->size = n;
    strlcpy(m->cmdline, text, sizeof(m->cmdline));
}

static struct boot_image image;
static unsigned steps_taken;

static void build_from_image(domid_t id, bool at_boot)
{
    struct domain *d = NULL;
    int rc;

    pvh_build_begin(&image, id, at_boot);
    for (steps_taken = 1; (rc = pvh_build_step(&d)) == -ERESTART; steps_taken++)
        ;
    if (rc)
        boot_fail("%s", build_error_text());
    assert_ptr_equal(d, &the_domain);
}

static void build(const char *words, size_t with_initrd)
{
    char error[200];

    initrd_size = with_initrd;
    add_module(made.bytes, made.size, 0x3210, words);
    if (initrd_size)
        add_module(initrd, initrd_size, 0x20000, "initrd");
    memset(&found, 0, sizeof(found));
    assert_true(boot_domains_parse(&boot_info, &found, error, sizeof(error)));
    assert_true(found.guests[0].pvh);
    memset(&image, 0, sizeof(image));
    if (boot_image_unpack(&image, &found.guests[0]))
        boot_fail("%s", build_error_text());
    build_from_image(5, true);
}

/* ----- what is so for each domain ----- */
static const struct hvm_start_info *start_info(void) { return seen(started_with); }

static void check_memory(uint64_t size)
{
    const struct hvm_start_info *si = start_info();
    const struct hvm_memmap_table_entry *table = seen(si->memmap_paddr);
    uint64_t mapped = 0, low = min(size, 3 * GIB);

    assert_int_equal(si->memmap_entries, map_count);
    for (unsigned i = 0; i < map_count; i++) {
        assert_int_equal(map[i].start, table[i].addr);
        assert_int_equal(map[i].size, table[i].size);
        assert_int_equal(map[i].type, table[i].type);
    }
    assert_int_equal(map[0].start, 0);
    assert_int_equal(map[0].size, low);
    for (unsigned i = 0; i < mappings; i++) { /* none overlaps another: the fake looked */
        uint64_t start = mapping[i].gfn << PAGE_SHIFT, end = start + (mapping[i].count << PAGE_SHIFT);

        mapped += end - start;
        if (end <= low || start == PVH_CONSOLE || (start >= 4 * GIB && end <= 4 * GIB + size - low))
            continue;
        assert_true(start >= PVH_ACPI_START && end <= PVH_ACPI_START + PVH_ACPI_SIZE);
    }
    assert_int_equal(mapped, size + 3 * PAGE_SIZE);
    assert_int_equal(the_domain.tot_pages, mapped / PAGE_SIZE);
    assert_int_equal(the_domain.max_pages, mapped / PAGE_SIZE);
    assert_memory_equal(seen(si->rsdp_paddr), "RSD PTR ", 8);
    assert_int_equal(si->rsdp_paddr, PVH_ACPI_START);
}

static void check_domain(uint64_t size, const char *cmdline)
{
    const struct hvm_start_info *si = start_info();
    uint64_t kernel_end = MADE_PHYSICAL + 0x4000 + MADE_BSS, behind = started_with;

    assert_ptr_equal(started, &the_vcpus[0]);
    assert_int_equal(started_at, MADE_PHYSICAL + 0x10);
    assert_true(the_vcpus[0].initialised && !the_vcpus[0].down);
    for (unsigned i = 1; i < the_domain.vcpu_count; i++)
        assert_true(!the_vcpus[i].initialised && the_vcpus[i].down);
    assert_int_equal(si->magic, 0x336ec578);
    assert_int_equal(si->version, 1);
    assert_int_equal(si->flags, 0);
    assert_string_equal(seen(si->cmdline_paddr), cmdline);
    assert_int_equal(si->nr_modules, initrd_size ? 1 : 0);
    if (initrd_size) {
        const struct hvm_modlist_entry *module = seen(si->modlist_paddr);

        assert_int_equal(module->size, initrd_size);
        assert_int_equal(module->paddr % PAGE_SIZE, 0);
        assert_int_equal(module->cmdline_paddr, 0);
        assert_seen(module->paddr, initrd, initrd_size);
        behind = module->paddr;
        assert_zero(behind + initrd_size, started_with);
    }
    check_memory(size);
    /* The kernel's segments, and nothing of what the frames held before. */
    assert_seen(MADE_PHYSICAL, made.bytes + 0x1000, MADE_TEXT);
    assert_seen(MADE_PHYSICAL + 0x4000, made.bytes + 0x4000, 0x1000);
    if (size < GIB) {
        assert_zero(0, MADE_PHYSICAL);
        assert_zero(MADE_PHYSICAL + 0x5000, behind);
        assert_true(kernel_end <= behind);
    }
    /* The console */
    assert_zero(PVH_CONSOLE, PVH_CONSOLE + PAGE_SIZE);
    assert_ptr_equal(mfn_to_virt(console_ring), seen(PVH_CONSOLE));
    assert_int_equal(the_hvm.params[HVM_PARAM_CONSOLE_PFN], PVH_CONSOLE >> PAGE_SHIFT);
    assert_int_equal(the_hvm.params[HVM_PARAM_CONSOLE_EVTCHN], 77);
    assert_int_equal(the_hvm.params[HVM_PARAM_STORE_PFN], 0);
    assert_int_equal(the_hvm.params[HVM_PARAM_STORE_EVTCHN], 0);
}

static void with_initrd(void **state)
{
    machine_reset(20, 0);
    make_kernel();
    build("domain=one type=pvh memory=24M vcpus=3 -- console=hvc0 x", 123457);
    check_domain(24 * MIB, "console=hvc0 x");
    assert_string_equal(console_name, "one");
    assert_int_equal(the_domain.id, 5);
    assert_int_equal(the_domain.vcpu_count, 3);
    assert_int_equal(the_vcpus[1].processor, 1);
    assert_int_equal(the_vcpus[2].processor, 0);
    assert_int_equal(pieces_of(LARGE), 12);
    assert_int_equal(pieces_of(1), 3);
    assert_int_equal(started_with, 24 * MIB - 4 * KIB);
    assert_non_null(strstr(fake_log, "domain one: test , PVH entry 0x100010\n"));
    assert_non_null(strstr(fake_log, "domain one: initrd of 120 KiB at 0x17e0000\n"));
    assert_non_null(
        strstr(fake_log, "domain one: 6147 frames, mapped by pieces of 1 GiB (0), 2 MiB (12) and 4 KiB (3)\n"));
}

/* Without an initrd, and with memory that is no multiple of 2 MiB */
static void odd_size(void **state)
{
    machine_reset(20, 0);
    make_kernel();
    build("domain=two type=pvh memory=5004K", 0);
    check_domain(5004 * KIB, "");
    assert_int_equal(pieces_of(LARGE), 2);
    assert_int_equal(pieces_of(1), (5004 - 4096) / 4 + 3);
}

/* The machine has only as much as is asked for if the initrd's own memory counts. */
static void tight(void **state)
{
    machine_reset(11, 0);
    make_kernel();
    build("domain=one type=pvh memory=24M on_reboot=destroy --", sizeof(initrd));
    check_domain(24 * MIB, "");
    assert_int_equal(pieces_of(LARGE), 11);
    assert_int_equal(pieces_of(1), LARGE + 3);
    /* ... and in frames that do not hang together */
    machine_reset(11, 0);
    largest = 0;
    make_kernel();
    build("domain=one type=pvh memory=24M on_reboot=destroy --", sizeof(initrd));
    check_domain(24 * MIB, "");
    assert_int_equal(pieces_of(LARGE), 0);
}

static void large(void **state)
{
    machine_reset(40, 4);
    make_kernel();
    build("domain=one type=pvh memory=4G --", sizeof(initrd));
    check_domain(4 * GIB, "");
    assert_int_equal(pieces_of(HUGE), 4);
    assert_int_equal(pieces_of(LARGE), 0);
    assert_int_equal(map_count, 5);
    assert_int_equal(map[4].start, 4 * GIB);
    assert_int_equal(map[4].size, GIB);
    machine_reset(40, 3); /* what is not aligned is in smaller pieces */
    make_kernel();
    build("domain=one type=pvh memory=3080M --", 0);
    check_domain(3080 * MIB, "");
    assert_int_equal(pieces_of(HUGE), 3);
    assert_int_equal(pieces_of(LARGE), 4);
}

/* Built once more from what was kept, as when it is started anew */
static void anew(void **state)
{
    uint64_t modules;

    machine_reset(20, 1);
    make_kernel();
    build("domain=one type=pvh memory=9M vcpus=2 -- x", sizeof(initrd));
    check_domain(9 * MIB, "x");
    assert_true(image.keep);
    modules = (0x3210 + made.size) / PAGE_SIZE - 4 + sizeof(initrd) / PAGE_SIZE;
    assert_int_equal(boot_image_pages(&image), modules);
    assert_non_null(strstr(fake_log, " KiB of it and its initrd stay in memory, to start it anew\n"));
    for (unsigned i = 0; i < 3; i++) {
        fake_log_clear();
        most_allocated = 0;
        build_from_image(6, false);
        check_domain(9 * MIB, "x");
        assert_int_equal(the_domain.id, 6);
        assert_int_equal(most_allocated, 9); /* orders: more takes too long to clear */
        assert_true(steps_taken > 4 + sizeof(initrd) / (256 * KIB));
    }
    assert_int_equal(freed_frames, 0);
    boot_image_free(&image);
    assert_int_equal(freed_frames, modules);
    /* With no policy that restarts nothing is kept. */
    machine_reset(20, 0);
    make_kernel();
    build("domain=one type=pvh memory=9M on_reboot=destroy", sizeof(initrd));
    assert_false(image.keep);
    assert_int_equal(freed_frames, modules);
}

/* What fails later than at boot fails with an error, and what there is of the domain is for the caller to destroy. */
static void anew_without_memory(void **state)
{
    struct domain *d = NULL;
    int rc;

    machine_reset(20, 0);
    make_kernel();
    build("domain=one type=pvh memory=9M", sizeof(initrd));
    blocks = smalls = 0;
    pvh_build_begin(&image, 6, false);
    while ((rc = pvh_build_step(&d)) == -ERESTART)
        ;
    assert_int_equal(rc, -ENOMEM);
    assert_null(d);
    assert_string_equal(build_error_text(), "domain one: memory asks for 9 MiB, but only 0 MiB are free: give less\n");
    machine_reset(20, 0);
    boot_info.module_count = 2;
    most_mappings = 3;
    pvh_build_begin(&image, 6, false);
    while ((rc = pvh_build_step(&d)) == -ERESTART)
        ;
    most_mappings = ARRAY_SIZE(mapping);
    assert_int_equal(rc, -ENOMEM);
    assert_ptr_equal(d, &the_domain);
    assert_non_null(strstr(build_error_text(), "not enough memory for the page tables of domain one"));
}

/* ----- refusals ----- */
static void build_with(uint64_t entry, uint64_t paddr, const char *words)
{
    machine_reset(20, 0);
    made_begin(&made);
    if (entry)
        made_number(&made, XEN_ELFNOTE_PHYS32_ENTRY, entry);
    for (unsigned i = 0; paddr && i < 2; i++)
        ((Elf64_Phdr *)(made.bytes + 64))[i].p_paddr = paddr + i * 0x4000;
    build(words, 0);
}
static void build_large_initrd(const char *words)
{
    machine_reset(20, 0);
    make_kernel();
    build(words, sizeof(initrd));
}
static void build_without_tables(void)
{
    machine_reset(20, 0);
    make_kernel();
    heap_empty = true;
    build("domain=x type=pvh memory=8M", 0);
}
static void build_few(unsigned with_blocks, const char *words)
{
    machine_reset(with_blocks, 0);
    make_kernel();
    build(words, 0);
}

static void refusals(void **state)
{
    missing = "no such thing";
    assert_true(FAILS_WITH(build_with(MADE_PHYSICAL, 0, "domain=x type=pvh"),
                           "domain x: type=pvh is not possible on this machine: no such thing; use type=pv\n"));
    missing = NULL;
    assert_true(FAILS_WITH(build_with(0, 0, "domain=x type=pvh"), "domain x's kernel has no Xen note PHYS32_ENTRY"));
    assert_true(FAILS_WITH(build_with(MADE_PHYSICAL - 1, 0, "domain=x type=pvh"), "is not in the kernel"));
    assert_true(FAILS_WITH(build_with(MADE_PHYSICAL + 0x4000 + MADE_BSS, 0, "domain=x type=pvh"),
                           "PHYS32_ENTRY, 0x109000, is not in the kernel"));
    assert_true(FAILS_WITH(build_with(1UL << 32 | MADE_PHYSICAL, 0, "domain=x type=pvh"), "is not in the kernel"));
    assert_true(FAILS_WITH(build_with(1UL << 32, 1UL << 32, "domain=x type=pvh memory=8M"), "do not lie below 3 GiB"));
    assert_true(FAILS_WITH(build_with(3 * GIB - 0x1000, 3 * GIB - 0x1000, "domain=x type=pvh memory=8M"),
                           "do not lie below 3 GiB"));
    assert_true(
        FAILS_WITH(build_with(64 * MIB, 64 * MIB, "domain=x type=pvh memory=8M"),
                   "domain x's memory of 8 MiB is too small for its kernel and initrd: give at least memory=65M"));
    assert_true(
        FAILS_WITH(build_large_initrd("domain=x type=pvh memory=4M"),
                   "the initrd of 3 MiB does not fit into domain x's memory of 4 MiB: give at least memory=5M"));
    assert_true(FAILS_WITH(build_with(MADE_PHYSICAL, 0, "domain=x type=pvh memory=100G"),
                           "domain x: memory asks for 102400 MiB, but only 40 MiB are free: give less"));
    assert_true(FAILS_WITH(build_with(MADE_PHYSICAL, 0, "domain=x type=pvh memory=8M cpus=2-3"),
                           "domain x: none of the CPUs that cpus= names is there"));
    assert_true(FAILS_WITH(build_few(4, "domain=x type=pvh memory=8216K"), "asks for 8 MiB, but only"));
    assert_true(FAILS_WITH(build_without_tables(), "not enough memory for domain x"));
    heap_empty = false;
    most_mappings = 3;
    assert_true(FAILS_WITH(build_few(20, "domain=x type=pvh memory=8M"), "page tables of domain x"));
    most_mappings = ARRAY_SIZE(mapping);
    assert_true(FAILS_WITH(build_few(0, "domain=x type=pvh memory=4M"), "only 0 MiB are free"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_initrd), cmocka_unit_test(odd_size), cmocka_unit_test(tight),
        cmocka_unit_test(large),       cmocka_unit_test(anew),     cmocka_unit_test(anew_without_memory),
        cmocka_unit_test(refusals),
    };

    srand(5);
    for (size_t i = 0; i < sizeof(initrd); i++)
        initrd[i] = (uint8_t)(i * 7 + i / 999);
    ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (ram == MAP_FAILED)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
