/* Every form of an operation that a domain can try on grants to itself, with both versions of the table. */
#include "forms.h"

#define SLOTS 32UL /* pages from TEST_VA on whose entries are in one L1 table */

static unsigned version;
static grant_entry_v1_t *v1;
static grant_entry_v2_t *v2;
static volatile uint16_t *status;
static uint64_t *page, *other;
static grant_handle_t handle;

static uint64_t va(unsigned i) { return TEST_VA + i * PAGE_SIZE; }
static uint64_t entry_address(unsigned i) { return virt_to_machine(pte_of(TEST_VA)) + i * 8; }
static uint64_t entry(unsigned i) { return *(volatile uint64_t *)pte_of(va(i)); }

static void set_grant(unsigned ref, unsigned flags, unsigned dom, unsigned long mfn)
{
    if (version == 1) {
        v1[ref].frame = (uint32_t)mfn;
        v1[ref].domid = (domid_t)dom;
        barrier();
        v1[ref].flags = (uint16_t)flags;
    } else {
        v2[ref].full_page.frame = mfn;
        v2[ref].hdr.domid = (domid_t)dom;
        barrier();
        v2[ref].hdr.flags = (uint16_t)flags;
    }
}

static unsigned marks(unsigned ref)
{
    return (version == 1 ? ((volatile grant_entry_v1_t *)v1)[ref].flags : status[ref]) & (GTF_reading | GTF_writing);
}

static int map(uint64_t address, unsigned flags, unsigned dom, unsigned ref)
{
    struct gnttab_map_grant_ref m = {
        .host_addr = address, .flags = flags, .ref = ref, .dom = (domid_t)dom, .status = 99};
    long rc = grant_table_op(GNTTABOP_map_grant_ref, &m, 1);

    handle = m.handle;
    if (m.status == GNTST_okay)
        check_quiet(m.dev_bus_addr == virt_to_mfn(page) << 12 || ref != 9, "the bus address is 0x%lx", m.dev_bus_addr);
    return rc ? 1000 : m.status;
}

static int unmap(uint64_t address, uint64_t bus, grant_handle_t h)
{
    struct gnttab_unmap_grant_ref u = {.host_addr = address, .dev_bus_addr = bus, .handle = h, .status = 99};

    return grant_table_op(GNTTABOP_unmap_grant_ref, &u, 1) ? 1000 : u.status;
}

static int replace(uint64_t address, uint64_t new_address, grant_handle_t h)
{
    struct gnttab_unmap_and_replace u = {.host_addr = address, .new_addr = new_address, .handle = h, .status = 99};

    return grant_table_op(GNTTABOP_unmap_and_replace, &u, 1) ? 1000 : u.status;
}

static void maps(void)
{
    const unsigned host = GNTMAP_host_map, by_entry = GNTMAP_host_map | GNTMAP_contains_pte;
    grant_handle_t first;

    set_grant(9, GTF_permit_access, 0, virt_to_mfn(page));
    check_equal(map(va(1), host, 0, 9), GNTST_okay);
    check((entry(1) & 0x0000fffffffff003UL) == (virt_to_mfn(page) << 12 | PTE_P | PTE_W), "entry 0x%lx", entry(1));
    *(volatile uint64_t *)va(1) = 0x1111;
    check_equal(((volatile uint64_t *)page)[0], 0x1111);
    check_equal(marks(9), GTF_reading | GTF_writing);
    check_equal(unmap(va(2), 0, handle), GNTST_general_error);
    check_equal(unmap(va(1), 0, handle), GNTST_okay);
    check_equal(entry(1), 0);
    check_equal(marks(9), 0);
    check_equal(unmap(va(1), 0, handle), GNTST_bad_handle);
    check_equal(unmap(va(1), 0, 0x12345), GNTST_bad_handle);

    check_equal(
        map(entry_address(3), by_entry | GNTMAP_application_map | GNTMAP_readonly | 1U << _GNTMAP_guest_avail0, 0, 9),
        GNTST_okay);
    check((entry(3) & (PTE_MFN_MASK | PTE_P | PTE_W | PTE_U | 0xe00)) ==
              (virt_to_mfn(page) << 12 | PTE_P | PTE_U | 0x200),
          "read-only entry 0x%lx", entry(3));
    check_equal(marks(9), GTF_reading);
    check_equal(((volatile uint64_t *)va(3))[0], 0x1111);
    check_equal(unmap(entry_address(4), 0, handle), GNTST_general_error);
    check_equal(unmap(entry_address(3), 0, handle), GNTST_okay);
    check_equal(marks(9), 0);

    check_equal(map(va(1), host | GNTMAP_device_map, 0, 9), GNTST_okay);
    check_equal(unmap(0, 0, handle), GNTST_okay);
    check_equal(unmap(va(1), 0, handle), GNTST_okay);
    check_equal(marks(9), GTF_reading | GTF_writing);
    check(unmap(0, virt_to_mfn(other) << 12, handle) < 0, "another bus address");
    check_equal(unmap(0, virt_to_mfn(page) << 12, handle), GNTST_okay);
    check_equal(marks(9), 0);
    check_equal(map(0, GNTMAP_device_map, 0, 9), GNTST_okay);
    check_equal(unmap(0, virt_to_mfn(page) << 12, handle), GNTST_okay);

    check_equal(map(va(1), host | GNTMAP_readonly, 0, 9), GNTST_okay);
    first = handle;
    check_equal(map(va(2), host, 0, 9), GNTST_okay);
    check_equal(marks(9), GTF_reading | GTF_writing);
    check_equal(unmap(va(2), 0, handle), GNTST_okay);
    check_equal(marks(9), GTF_reading);
    check_equal(unmap(va(1), 0, first), GNTST_okay);
    check_equal(marks(9), 0);

    check(map(va(1), 0, 0, 9) < 0, "a map for nobody");
    check(map(va(1), host, 1234, 9) < 0, "a map of no domain");
    check(map(TEST_VA + (1UL << 39), host, 0, 9) < 0, "a map where no table is");
    check(map(VA_HOLE, host, 0, 9) < 0, "a map into the hypervisor");
    check(map(entry_address(3) + 4, by_entry, 0, 9) < 0, "a map at half an entry");
    check(map(virt_to_mfn(other) << 12, by_entry, 0, 9) < 0, "a map into a page of data");
    check(map(kernel_root << 12, by_entry, 0, 9) < 0, "a map into a root table");
    check(map(0x1000, by_entry, 0, 9) < 0, "a map into a frame that is not its own");
    set_grant(10, GTF_permit_access, 1, virt_to_mfn(page));
    check(map(va(1), host, 0, 10) < 0, "a grant to another domain");
    set_grant(10, GTF_accept_transfer, 0, virt_to_mfn(page));
    check(map(va(1), host, 0, 10) < 0, "an entry that accepts a transfer");
    set_grant(10, GTF_permit_access, 0, kernel_root);
    check(map(va(1), host, 0, 10) < 0, "a page table, writable");
    check_equal(map(va(1), host | GNTMAP_readonly, 0, 10), GNTST_okay);
    check_equal(((volatile uint64_t *)va(1))[511], ((volatile uint64_t *)mfn_to_virt(kernel_root))[511]);
    check_equal(unmap(va(1), 0, handle), GNTST_okay);
    set_grant(10, 0, 0, 0);
    check_equal(marks(10), 0);
}

static void replacing(void)
{
    check_equal(mmu_write(pte_of(va(5)), make_pte(virt_to_mfn(other), PTE_RW)), 0);
    other[0] = 0x2222;
    check_equal(map(va(1), GNTMAP_host_map, 0, 9), GNTST_okay);
    check(replace(va(1), TEST_VA + (1UL << 39), handle) < 0, "by an entry that is not there");
    check_equal(replace(va(1), va(5), handle), GNTST_okay);
    check_equal(*(volatile uint64_t *)va(1), 0x2222);
    check_equal(entry(5), 0);
    check_equal(update_va_mapping(va(1), 0, UVMF_INVLPG), 0);
}

static int copy(unsigned flags, unsigned long from, unsigned from_offset, unsigned long to, unsigned to_offset,
                unsigned length)
{
    struct gnttab_copy c = {.flags = (uint16_t)flags, .len = (uint16_t)length, .status = 99};

    c.source.domid = c.dest.domid = DOMID_SELF;
    c.source.u.gmfn = from;
    c.source.offset = (uint16_t)from_offset;
    c.dest.u.gmfn = to;
    c.dest.offset = (uint16_t)to_offset;
    if (flags & GNTCOPY_source_gref)
        c.source.domid = 0;
    if (flags & GNTCOPY_dest_gref)
        c.dest.domid = 0;
    return grant_table_op(GNTTABOP_copy, &c, 1) ? 1000 : c.status;
}

static void copies(void)
{
    const unsigned from_ref = GNTCOPY_source_gref, to_ref = GNTCOPY_dest_gref;

    for (unsigned i = 0; i < 512; i++) {
        page[i] = i;
        other[i] = 0;
    }
    set_grant(11, GTF_permit_access | GTF_readonly, 0, virt_to_mfn(page));
    set_grant(12, GTF_permit_access, 0, virt_to_mfn(other));
    check_equal(copy(from_ref, 11, 8, virt_to_mfn(other), 0, 16), GNTST_okay);
    check(other[0] == 1 && other[1] == 2 && other[2] == 0, "copied %lx %lx %lx", other[0], other[1], other[2]);
    check_equal(copy(from_ref | to_ref, 11, 0, 12, 0, 4096), GNTST_okay);
    check(!memcmp(page, other, 4096), "a whole page");
    check_equal(copy(to_ref, virt_to_mfn(page), 80, 12, 3, 5), GNTST_okay);
    check_equal(((uint8_t *)other)[3], 10);
    check(copy(to_ref, virt_to_mfn(page), 0, 11, 0, 8) < 0, "to a read-only grant");
    check(copy(from_ref, 13, 0, virt_to_mfn(other), 0, 8) < 0, "from an empty entry");
    check(copy(from_ref, 0xffffff, 0, virt_to_mfn(other), 0, 8) < 0, "from beyond the table");
    check(copy(from_ref, 11, 4092, virt_to_mfn(other), 0, 8) < 0, "beyond the source's page");
    check(copy(from_ref, 11, 0, virt_to_mfn(other), 4092, 8) < 0, "beyond the destination's page");
    check(copy(from_ref, 11, 0, kernel_root, 0, 8) < 0, "into a page table");
    check_equal(marks(11) | marks(12), 0);
}

static void parts_of_pages(void)
{
    set_grant(14, GTF_permit_access | GTF_sub_page, 0, virt_to_mfn(page));
    v2[14].sub_page.page_off = 256;
    v2[14].sub_page.length = 64;
    check_equal(copy(GNTCOPY_source_gref, 14, 256, virt_to_mfn(other), 0, 64), GNTST_okay);
    check_equal(other[0], 32);
    check(copy(GNTCOPY_source_gref, 14, 255, virt_to_mfn(other), 0, 8) < 0, "in front of the part");
    check(copy(GNTCOPY_source_gref, 14, 256, virt_to_mfn(other), 0, 65) < 0, "behind it");
    check(map(va(1), GNTMAP_host_map | GNTMAP_readonly, 0, 14) < 0, "a part is not mapped");
    set_grant(15, GTF_transitive, 0, 11);
    v2[15].transitive.trans_domid = 0;
    v2[15].transitive.gref = 11;
    check(map(va(1), GNTMAP_host_map | GNTMAP_readonly, 0, 15) < 0, "nor a transitive grant");
    check(copy(GNTCOPY_source_gref, 15, 0, virt_to_mfn(other), 0, 8) < 0, "which cannot be one to itself");
    check_equal(marks(14) | marks(15), 0);
}

static int swap(unsigned a, unsigned b)
{
    struct gnttab_swap_grant_ref s = {.ref_a = a, .ref_b = b, .status = 99};

    return grant_table_op(GNTTABOP_swap_grant_ref, &s, 1) ? 1000 : s.status;
}

static void batches(void)
{
    static struct gnttab_map_grant_ref m[SLOTS];
    static struct gnttab_unmap_grant_ref u[SLOTS];
    bool ok = true;

    for (unsigned i = 0; i < SLOTS; i++)
        m[i] = (struct gnttab_map_grant_ref){
            .host_addr = va(i), .flags = GNTMAP_host_map, .ref = i == 7 ? 100 : 9, .status = 99};
    check_equal(grant_table_op(GNTTABOP_map_grant_ref, m, SLOTS), 0);
    for (unsigned i = 0; i < SLOTS; i++) {
        ok = ok && (i == 7 ? m[i].status < 0 : m[i].status == GNTST_okay && *(volatile uint64_t *)va(i) == page[0]);
        u[i] = (struct gnttab_unmap_grant_ref){
            .host_addr = va(i), .handle = i == 7 ? 0x7654321 : m[i].handle, .status = 99};
    }
    check(ok, "a batch of maps, one of which is refused");
    check_equal(swap(9, 10), GNTST_eagain);
    check_equal(grant_table_op(GNTTABOP_unmap_grant_ref, u, SLOTS), 0);
    for (unsigned i = 0; i < SLOTS; i++)
        ok = ok && (i == 7 ? u[i].status < 0 : u[i].status == GNTST_okay && entry(i) == 0);
    check(ok, "and of unmaps");
    check_equal(marks(9), 0);
    check_equal(swap(9, 10), GNTST_okay);
    check(map(va(1), GNTMAP_host_map, 0, 9) < 0, "the grant is elsewhere");
    check_equal(map(va(1), GNTMAP_host_map, 0, 10), GNTST_okay);
    check_equal(unmap(va(1), 0, handle), GNTST_okay);
    check_equal(swap(10, 9), GNTST_okay);
    check_equal(swap(9, 9), GNTST_okay);
    check(swap(9, 0xffffff) < 0, "a swap beyond the table");
}

static void no_transfer(void)
{
    struct gnttab_transfer t = {.mfn = virt_to_mfn(page), .domid = 0, .ref = 10, .status = 99};

    set_grant(10, GTF_accept_transfer, 0, 0);
    check(grant_table_op(GNTTABOP_transfer, &t, 1) < 0 || t.status == GNTST_bad_page, "a transfer of a page in use: %d",
          t.status);
    t.mfn = 0x200;
    check(grant_table_op(GNTTABOP_transfer, &t, 1) < 0 || t.status == GNTST_bad_page, "of one of the hypervisor's: %d",
          t.status);
    set_grant(10, 0, 0, 0);
}

static long set_version(unsigned v)
{
    struct gnttab_set_version s = {.version = v};

    return grant_table_op(GNTTABOP_set_version, &s, 1);
}

static void all_forms(void)
{
    maps();
    replacing();
    copies();
    batches();
    no_transfer();
}

void grant_forms(grant_entry_v1_t *table)
{
    uint64_t frame = 0;
    struct gnttab_get_status_frames get = {.nr_frames = 1, .dom = DOMID_SELF, .status = 99};
    struct gnttab_cache_flush flush = {.length = 1, .offset = 4096, .op = GNTTAB_CACHE_CLEAN};

    v1 = table;
    v2 = (grant_entry_v2_t *)table;
    page = page_alloc();
    other = page_alloc();
    for (unsigned i = 0; i < SLOTS; i++)
        map_page(va(i), 0);
    version = 1;
    all_forms();
    check_negative(grant_table_op(GNTTABOP_cache_flush, &flush, 1));
    check_negative(grant_table_op(GNTTABOP_dump_table, &flush, 1));
    set_xen_guest_handle(get.frame_list, &frame);
    check(grant_table_op(GNTTABOP_get_status_frames, &get, 1) < 0 || get.status < 0,
          "version 1 has no status frames: %d", get.status);

    /* The reserved entries survive a change of version, used or not; the others do not, and must not be in use. */
    set_grant(1, GTF_permit_access, 0, virt_to_mfn(page));
    check_equal(map(va(1), GNTMAP_host_map, 0, 9), GNTST_okay);
    check_negative(set_version(2));
    check_equal(unmap(va(1), 0, handle), GNTST_okay);
    check_equal(map(va(1), GNTMAP_host_map, 0, 1), GNTST_okay);
    check_equal(set_version(2), 0);
    version = 2;
    check_equal(grant_table_op(GNTTABOP_get_status_frames, &get, 1), 0);
    check_equal(get.status, GNTST_okay);
    map_page(TEST_VA2 + PAGE_SIZE, make_pte(frame, PTE_RW));
    status = (uint16_t *)(TEST_VA2 + PAGE_SIZE);
    check(v2[1].hdr.flags == GTF_permit_access && v2[1].full_page.frame == virt_to_mfn(page),
          "entry 1: flags %x, frame %lx", v2[1].hdr.flags, (unsigned long)v2[1].full_page.frame);
    check_equal(marks(1), GTF_reading | GTF_writing);
    check_equal(unmap(va(1), 0, handle), GNTST_okay);
    check_equal(marks(1), 0);
    check_equal(v2[9].hdr.flags, 0);
    all_forms();
    parts_of_pages();
    check_equal(mmu_write(pte_of(TEST_VA2 + PAGE_SIZE), 0), 0);
    check_equal(set_version(1), 0);
    version = 1;
    check(v1[1].flags == GTF_permit_access && v1[1].frame == virt_to_mfn(page), "entry 1 again: flags %x", v1[1].flags);
    check_equal(v1[9].flags, 0);
}
