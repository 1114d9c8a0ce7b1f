/* Mapping and copying what another domain grants, in every form. */
#include "grants.h"

#define HOST GNTMAP_host_map
#define BY_ENTRY (GNTMAP_host_map | GNTMAP_contains_pte)
#define FRAME_OF(e) (((e)&PTE_MFN_MASK) >> 12)

static struct child *g, *m, *o; /* granter, mapper, and one that has nothing to do with it */

static void mapped_and_unmapped(unsigned how)
{
    uint64_t address = how & GNTMAP_contains_pte ? entry_address(m, 1) : slot_address(1);
    uint64_t wrong = how & GNTMAP_contains_pte ? entry_address(m, 2) : slot_address(2);
    grant_handle_t h, h2;

    grant(g, 9, GTF_permit_access, m, 0);
    page_poke(g, 0, 3, 0x1111);
    check_equal(map(m, 1, how, g, 9, &h), GNTST_okay);
    check_equal(FRAME_OF(entry(m, 1)), page_frame(g, 0));
    check_equal(peek(m, 1, 3), 0x1111);
    poke(m, 1, 4, 0x2222);
    check_equal(page_peek(g, 0, 4), 0x2222);
    check_equal(grant_flags(g, 9) & MARKS, MARKS);
    check_equal(map(m, 2, how | GNTMAP_readonly, g, 9, &h2), GNTST_okay);
    check(h != h2, "two mappings, two handles");
    check(unmap_at(m, wrong, 0, h) < 0, "unmap at another mapping's address");
    check(unmap_at(m, slot_address(40), 0, h) < 0, "unmap where nothing is");
    check_equal(unmap_at(m, address, 0, h + 1000), GNTST_bad_handle);
    check_equal(unmap_at(m, address, 0, -1U), GNTST_bad_handle);
    check_equal(unmap_at(m, address, 0, h), GNTST_okay);
    check_equal(unmap_at(m, address, 0, h), GNTST_bad_handle);
    check_equal(entry(m, 1), 0);
    check_equal(grant_flags(g, 9) & MARKS, GTF_reading);
    check_equal(peek(m, 2, 4), 0x2222);
    check_equal(unmap_at(m, wrong, 0, h2), GNTST_okay);
    check_equal(grant_flags(g, 9), GTF_permit_access);
}

/* What is mapped read-only stays so, and what is mapped at all cannot be mapped once more by its frame number. */
static void read_only(void)
{
    unsigned long frame = page_frame(g, 0);
    grant_handle_t h;

    grant(g, 9, GTF_permit_access | GTF_readonly, m, 0);
    check_equal(map(m, 1, HOST, g, 9, NULL), GNTST_general_error);
    check_equal(map(m, 1, BY_ENTRY, g, 9, NULL), GNTST_general_error);
    check_equal(grant_flags(g, 9) & MARKS, 0);
    check_equal(entry(m, 1), 0);
    check_equal(map(m, 1, HOST | GNTMAP_readonly, g, 9, &h), GNTST_okay);
    check_equal(entry(m, 1) & PTE_W, 0);
    check_equal(peek(m, 1, 3), 0x1111);
    check_negative(write_entry(m, 1, make_pte(frame, PTE_RW)));
    check_negative(write_entry(m, 2, make_pte(frame, PTE_RW)));
    check_negative(write_entry(m, 2, make_pte(frame, PTE_RO)));
    check_equal(entry(m, 1) & PTE_W, 0);
    check_equal(entry(m, 2), 0);
    check_equal(unmap(m, 1, h), GNTST_okay);
    check_negative(write_entry(m, 1, make_pte(frame, PTE_RO)));
}

static void refused(void)
{
    unsigned granter = id_of(g);

    grant(g, 9, GTF_permit_access, m, 0);
    check(map(o, 1, HOST, g, 9, NULL) < 0, "a map by a third domain");
    check(map(m, 1, HOST, g, 8, NULL) < 0, "a map of an empty entry");
    check_equal(map(m, 1, HOST, g, 100000, NULL), GNTST_bad_gntref);
    check_equal(map(m, 1, HOST, g, -1U, NULL), GNTST_bad_gntref);
    check_equal(map_at(m, slot_address(1), HOST, 30000, 9, NULL), GNTST_bad_domain);
    check_equal(map_at(m, slot_address(1), HOST, DOMID_SELF, 9, NULL), GNTST_bad_domain);
    check_equal(map_at(m, slot_address(1), HOST, DOMID_IO, 9, NULL), GNTST_bad_domain);
    check_equal(map_at(m, slot_address(1), HOST, DOMID_XEN, 9, NULL), GNTST_bad_domain);
    check(map_at(m, VA_HOLE, HOST, granter, 9, NULL) < 0, "a map into the hypervisor");
    check(map_at(m, VA_UNMAPPED, HOST, granter, 9, NULL) < 0, "where no table is");
    check(map_at(m, VA_NONCANONICAL, HOST, granter, 9, NULL) < 0, "at no address");
    check(map_at(m, entry_address(m, 1) + 4, BY_ENTRY, granter, 9, NULL) < 0, "at half an entry");
    check(map_at(m, entry_address(g, 1), BY_ENTRY, granter, 9, NULL) < 0, "into the granter's table");
    check(map_at(m, entry_address(o, 1), BY_ENTRY, granter, 9, NULL) < 0, "into a third domain's table");
    check(map_at(m, page_frame(m, 1) << 12, BY_ENTRY, granter, 9, NULL) < 0, "into a page of data");
    check(map_at(m, 1UL << 51, BY_ENTRY, granter, 9, NULL) < 0, "where no memory is");
    check(map(m, 1, 0, g, 9, NULL) < 0, "a map for nobody");
    grant_frame(g, 10, GTF_permit_access, id_of(m), page_frame(o, 0));
    check(map(m, 1, HOST, g, 10, NULL) < 0, "a grant of a third domain's frame");
    grant_frame(g, 10, GTF_permit_access, id_of(m), page_frame(m, 0));
    check(map(m, 1, HOST, g, 10, NULL) < 0, "a grant of the mapper's own frame");
    grant_frame(g, 10, GTF_permit_access, id_of(m), 0x200);
    check(map(m, 1, HOST | GNTMAP_readonly, g, 10, NULL) < 0, "a grant of the hypervisor's");
    grant_frame(g, 10, GTF_permit_access, id_of(m), 0xfee00);
    check(map(m, 1, HOST | GNTMAP_readonly, g, 10, NULL) < 0, "a grant of what is not RAM");
    grant_frame(g, 10, GTF_permit_access, id_of(m), 0xffffffff);
    check(map(m, 1, HOST | GNTMAP_readonly, g, 10, NULL) < 0, "a grant of no frame");
    grant_frame(g, 10, GTF_permit_access, id_of(m), entry_address(g, 0) >> 12);
    check(map(m, 1, HOST, g, 10, NULL) < 0, "a grant of a page table, writable");
    grant_frame(g, 10, GTF_accept_transfer, id_of(m), page_frame(g, 0));
    check(map(m, 1, HOST, g, 10, NULL) < 0, "an entry that accepts a transfer");
    grant_frame(g, 10, GTF_permit_access, DOMID_SELF, page_frame(g, 0));
    check(map(m, 1, HOST, g, 10, NULL) < 0, "an entry for DOMID_SELF");
    grant_frame(g, 10, 0, 0, 0);
    check_equal(entry(m, 1), 0);
    check_equal(grant_flags(g, 9), GTF_permit_access);
}

/* The granter changes its mind while the page is mapped. */
static void changed_while_mapped(void)
{
    grant_handle_t h, h2;

    grant(g, 9, GTF_permit_access, m, 0);
    check_equal(map(m, 1, HOST | GNTMAP_readonly, g, 9, &h), GNTST_okay);
    check_equal(grant_flags(g, 9), GTF_permit_access | GTF_reading);
    check_equal(map(m, 2, HOST, g, 9, &h2), GNTST_okay);
    check_equal(grant_flags(g, 9), GTF_permit_access | MARKS);
    check_equal(unmap(m, 2, h2), GNTST_okay);
    check_equal(grant_flags(g, 9), GTF_permit_access | GTF_reading);
    grant(g, 9, GTF_permit_access, m, 1); /* without waiting for the end */
    check(map(m, 2, HOST, g, 9, NULL) < 0, "another frame than the one in use");
    grant(g, 9, GTF_permit_access, o, 0);
    check(map(o, 2, HOST, g, 9, NULL) < 0, "another domain than the one that uses it");
    grant_frame(g, 9, 0, 0, 0);
    check(map(m, 2, HOST, g, 9, NULL) < 0, "an entry that was emptied");
    check_equal(peek(m, 1, 3), 0x1111);
    check_equal(unmap(m, 1, h), GNTST_okay);
    grant(g, 9, GTF_permit_access, m, 1);
    page_poke(g, 1, 3, 0x3333);
    check_equal(map(m, 1, HOST, g, 9, &h), GNTST_okay);
    check_equal(peek(m, 1, 3), 0x3333);
    check_equal(unmap(m, 1, h), GNTST_okay);
}

static int replace(uint64_t address, uint64_t by, grant_handle_t h)
{
    struct gnttab_unmap_and_replace u = {.host_addr = address, .new_addr = by, .handle = h, .status = 99};

    return op_by(m, __HYPERVISOR_grant_table_op, GNTTABOP_unmap_and_replace, &u, sizeof(u), 1) != 0 ? 1000 : u.status;
}

static void replaced(void)
{
    grant_handle_t h, h2;

    grant(g, 9, GTF_permit_access, m, 0);
    page_poke(m, 2, 0, 0x4444);
    check_equal(write_entry(m, 5, make_pte(page_frame(m, 2), PTE_RW)), 0);
    check_equal(map(m, 1, HOST, g, 9, &h), GNTST_okay);
    check_equal(map(m, 2, HOST, g, 9, &h2), GNTST_okay);
    check(replace(slot_address(1), VA_UNMAPPED, h) < 0, "by what has no table");
    check(replace(slot_address(1), slot_address(2), h) < 0, "by another grant mapping");
    check(replace(slot_address(1), slot_address(1), h) < 0, "by itself");
    check(replace(slot_address(2), slot_address(5), h) < 0, "at another mapping's address");
    check_equal(peek(m, 1, 3), 0x1111);
    check_equal(replace(slot_address(1), slot_address(5), h), GNTST_okay);
    check_equal(peek(m, 1, 0), 0x4444);
    check_equal(entry(m, 5), 0);
    check_equal(grant_flags(g, 9) & MARKS, MARKS);
    check_equal(unmap(m, 2, h2), GNTST_okay);
    check_equal(grant_flags(g, 9) & MARKS, 0);
    check_equal(write_entry(m, 1, 0), 0);
}

/* The mapper overwrites the entry itself, or maps over another mapping: the handle stays, and so does the mark. */
static void overwritten(void)
{
    grant_handle_t h, h2;

    grant(g, 9, GTF_permit_access, m, 0);
    check_equal(map(m, 1, HOST, g, 9, &h), GNTST_okay);
    check_equal(write_entry(m, 1, 0), 0);
    check_equal(grant_flags(g, 9) & MARKS, MARKS);
    check_equal(map(m, 1, HOST | GNTMAP_readonly, g, 9, &h2), GNTST_okay);
    check_equal(unmap(m, 1, h), GNTST_okay); /* which may take the other's entry, of the same frame, with it */
    check_equal(grant_flags(g, 9) & MARKS, GTF_reading);
    check_equal(unmap(m, 1, h2), GNTST_okay);
    check_equal(grant_flags(g, 9) & MARKS, 0);
    check_equal(entry(m, 1), 0);

    grant(g, 11, GTF_permit_access, m, 1);
    check_equal(map(m, 1, HOST, g, 9, &h), GNTST_okay);
    check_equal(map(m, 1, HOST, g, 11, &h2), GNTST_okay);
    check_equal(FRAME_OF(entry(m, 1)), page_frame(g, 1));
    check_equal(unmap(m, 1, h), GNTST_okay);
    check_equal(FRAME_OF(entry(m, 1)), page_frame(g, 1));
    check_equal(unmap(m, 1, h2), GNTST_okay);
    check_equal(entry(m, 1), 0);
    check_equal((grant_flags(g, 9) | grant_flags(g, 11)) & MARKS, 0);
}

static int swap(unsigned a, unsigned b)
{
    struct gnttab_swap_grant_ref s = {.ref_a = a, .ref_b = b, .status = 99};

    return op_by(g, __HYPERVISOR_grant_table_op, GNTTABOP_swap_grant_ref, &s, sizeof(s), 1) != 0 ? 1000 : s.status;
}

static void table_operations(void)
{
    struct gnttab_query_size q = {.dom = (domid_t)id_of(g)};
    struct gnttab_get_version v = {.dom = (domid_t)id_of(g)};
    struct gnttab_get_status_frames f = {.nr_frames = 1, .dom = (domid_t)id_of(g), .status = 99};
    struct gnttab_setup_table s = {.nr_frames = 1, .dom = (domid_t)id_of(g), .status = 99};
    bool may = m == NULL;
    grant_handle_t h;

    set_xen_guest_handle(f.frame_list, (uint64_t *)(kit_talk.data + 1024));
    check_equal(op_by(m, __HYPERVISOR_grant_table_op, GNTTABOP_get_status_frames, &f, sizeof(f), 1), 0);
    check(may || f.status == GNTST_permission_denied, "status frames of d%u: %d", id_of(g), f.status);
    set_xen_guest_handle(s.frame_list, (xen_pfn_t *)(kit_talk.data + 1024));
    check_equal(op_by(m, __HYPERVISOR_grant_table_op, GNTTABOP_setup_table, &s, sizeof(s), 1), 0);
    check_equal(s.status, may ? GNTST_okay : GNTST_permission_denied);
    s.nr_frames = 9; /* more than a child may have */
    check_equal(op_by(m, __HYPERVISOR_grant_table_op, GNTTABOP_setup_table, &s, sizeof(s), 1), 0);
    check(s.status < 0, "a table of 9 frames: %d", s.status);
    s.dom = 30000;
    check_equal(op_by(m, __HYPERVISOR_grant_table_op, GNTTABOP_setup_table, &s, sizeof(s), 1), 0);
    check_equal(s.status, GNTST_bad_domain);
    f.dom = 30000;
    check_equal(op_by(m, __HYPERVISOR_grant_table_op, GNTTABOP_get_status_frames, &f, sizeof(f), 1), 0);
    check_equal(f.status, GNTST_bad_domain);

    check_equal(op_by(m, __HYPERVISOR_grant_table_op, GNTTABOP_query_size, &q, sizeof(q), 1), 0);
    check_equal(q.status, may ? GNTST_okay : GNTST_permission_denied);
    check(!may || (q.nr_frames == 2 && q.max_nr_frames == 8), "%u of %u frames", q.nr_frames, q.max_nr_frames);
    check_equal(op_by(m, __HYPERVISOR_grant_table_op, GNTTABOP_get_version, &v, sizeof(v), 1), may ? 0 : -EPERM);

    grant(g, 9, GTF_permit_access, m, 0);
    grant(g, 10, GTF_permit_access, m, 1);
    check_equal(map(m, 1, HOST, g, 9, &h), GNTST_okay);
    check_equal(swap(9, 10), GNTST_eagain);
    check_equal(swap(10, 9), GNTST_eagain);
    check(version_set(g, 1) == 0 || version_set(g, 2) == 0, "the version it has can be set");
    check_equal(peek(m, 1, 3), 0x1111);
    check_equal(unmap(m, 1, h), GNTST_okay);
    check_equal(swap(9, 10), GNTST_okay);
    check_equal(map(m, 1, HOST, g, 9, &h), GNTST_okay);
    check_equal(FRAME_OF(entry(m, 1)), page_frame(g, 1));
    check_equal(unmap(m, 1, h), GNTST_okay);
    check_equal(swap(9, 10), GNTST_okay);
}

void forms(struct child *granter, struct child *mapper, struct child *other)
{
    g = granter;
    m = mapper;
    o = other;
    mapped_and_unmapped(HOST);
    mapped_and_unmapped(BY_ENTRY);
    read_only();
    refused();
    changed_while_mapped();
    replaced();
    overwritten();
    table_operations();
}

/* ---- Copies ---- */

static struct end ref_of(struct child *of, unsigned ref, unsigned offset)
{
    return (struct end){id_of(of), ref, offset};
}

static struct end own(unsigned page, unsigned offset) { return (struct end){DOMID_SELF, page_frame(m, page), offset}; }

void copies(struct child *granter, struct child *mapper, struct child *other)
{
    g = granter;
    m = mapper;
    o = other;
    grant(g, 20, GTF_permit_access, m, 3);
    grant(g, 21, GTF_permit_access | GTF_readonly, m, 4);
    for (unsigned i = 0; i < 8; i++) {
        page_poke(g, 3, i, 0x100 + i);
        page_poke(g, 4, 504 + i, 0x200 + i);
        page_poke(m, 3, i, 0x300 + i);
    }
    check_equal(copy(m, ref_of(g, 20, 8), own(4, 16), 16), GNTST_okay);
    check(page_peek(m, 4, 2) == 0x101 && page_peek(m, 4, 3) == 0x102, "copied from the grant");
    check_equal(copy(m, own(3, 0), ref_of(g, 20, 40), 8), GNTST_okay);
    check(page_peek(g, 3, 5) == 0x300 && page_peek(g, 3, 6) == 0x106, "copied to the grant");
    check_equal(copy(m, ref_of(g, 21, 4088), ref_of(g, 20, 0), 8), GNTST_okay);
    check_equal(page_peek(g, 3, 0), 0x207);
    check_equal(copy(m, ref_of(g, 21, 4096), own(4, 0), 0), GNTST_okay);
    check_equal(copy(m, ref_of(g, 21, 0), ref_of(g, 20, 0), 4096), GNTST_okay);
    check_equal(page_peek(g, 3, 511), 0x207);
    check_equal(copy(m, ref_of(g, 21, 4089), own(4, 0), 8), GNTST_bad_copy_arg);
    check_equal(copy(m, ref_of(g, 21, 0), own(4, 4089), 8), GNTST_bad_copy_arg);
    check_equal(copy(m, ref_of(g, 21, 1), own(4, 0), 4096), GNTST_bad_copy_arg);
    check_equal(copy(m, ref_of(g, 21, 65535), own(4, 0), 65535), GNTST_bad_copy_arg);
    check(copy(m, own(3, 0), ref_of(g, 21, 0), 8) < 0, "to a grant that is read-only");
    check_equal(page_peek(g, 4, 0), 0);
    check(copy(m, ref_of(g, 22, 0), own(4, 0), 8) < 0, "from an empty entry");
    check_equal(copy(m, ref_of(g, 0x7fffffff, 0), own(4, 0), 8), GNTST_bad_gntref);
    check_equal(copy(m, (struct end){30000, 20, 0}, own(4, 0), 8), GNTST_bad_domain);
    check(copy(o, ref_of(g, 20, 0), (struct end){DOMID_SELF, page_frame(o, 4), 0}, 8) < 0, "by a third domain");
    check(copy(m, (struct end){DOMID_SELF, page_frame(g, 3), 0}, own(4, 0), 8) < 0, "of another's frame by its number");
    check(copy(m, own(3, 0), (struct end){DOMID_SELF, page_frame(g, 3), 0}, 8) < 0, "and to it");
    check(copy(m, own(3, 0), (struct end){DOMID_SELF, entry_address(m, 0) >> 12, 0}, 8) < 0, "to an own page table");
    check(copy(m, own(3, 0), (struct end){DOMID_SELF, 1UL << 40, 0}, 8) < 0, "to no frame");
    check_equal((grant_flags(g, 20) | grant_flags(g, 21)) & MARKS, 0);
}

/* ---- Many at once ---- */

static long map_many_here(long *a)
{
    static struct gnttab_map_grant_ref maps[SLOTS];
    static struct gnttab_unmap_grant_ref unmaps[SLOTS];
    unsigned bad = 0;

    for (unsigned i = 0; i < SLOTS; i++)
        maps[i] = (struct gnttab_map_grant_ref){.host_addr = slot_address(i),
                                                .flags = HOST | (i & 1 ? GNTMAP_readonly : 0),
                                                .ref = i % 50 == 7 ? 200 : 30 + i % 2,
                                                .dom = (domid_t)a[0],
                                                .status = 99};
    if (grant_table_op(GNTTABOP_map_grant_ref, maps, SLOTS) != 0)
        return -1;
    for (unsigned i = 0; i < SLOTS; i++) {
        bool refused = i % 50 == 7;

        bad += refused ? maps[i].status >= 0 : maps[i].status != GNTST_okay;
        bad += !refused && *(volatile long *)slot_address(i) != a[1 + i % 2];
        unmaps[i] = (struct gnttab_unmap_grant_ref){
            .host_addr = slot_address(i), .handle = refused ? -1U : maps[i].handle, .status = 99};
    }
    if (grant_table_op(GNTTABOP_unmap_grant_ref, unmaps, SLOTS) != 0)
        return -2;
    for (unsigned i = 0; i < SLOTS; i++) {
        bad += i % 50 == 7 ? unmaps[i].status != GNTST_bad_handle : unmaps[i].status != GNTST_okay;
        bad += *(volatile uint64_t *)pte_of(slot_address(i)) != 0;
    }
    return bad;
}

/* As many as there is room for, without page-table entries; then all of them are given back. */
static long exhaust_here(long *a)
{
    static grant_handle_t handles[8192];
    struct gnttab_map_grant_ref map = {.flags = GNTMAP_device_map, .ref = 30, .dom = (domid_t)a[0]};
    unsigned n = 0, bad = 0;
    uint64_t bus = 0;

    for (; n < 8192; n++) {
        grant_table_op(GNTTABOP_map_grant_ref, &map, 1);
        if (map.status != GNTST_okay)
            break;
        handles[n] = map.handle;
        bus = map.dev_bus_addr;
    }
    a[1] = map.status;
    for (unsigned i = 0; i < n; i++) {
        struct gnttab_unmap_grant_ref u = {.dev_bus_addr = bus, .handle = handles[i]};

        grant_table_op(GNTTABOP_unmap_grant_ref, &u, 1);
        bad += u.status != GNTST_okay;
    }
    a[2] = bad;
    return n;
}

void batches(struct child *granter, struct child *mapper)
{
    long n;

    g = granter;
    m = mapper;
    grant(g, 30, GTF_permit_access, m, 0);
    grant(g, 31, GTF_permit_access | GTF_readonly, m, 1);
    page_poke(g, 0, 0, 0xa);
    page_poke(g, 1, 0, 0xb);
    check_equal(child_call(m, map_many_here, id_of(g), 0xa, 0xb), 0);
    check_equal((grant_flags(g, 30) | grant_flags(g, 31)) & MARKS, 0);
    if (m == NULL) /* has room for more than a test wants to fill */
        return;
    n = child_call(m, exhaust_here, id_of(g));
    check(n >= 1024 && n < 8192, "%ld mappings by d%u", n, id_of(m));
    check_equal(m->talk->a[1], GNTST_no_space);
    check_equal(m->talk->a[2], 0);
    check_equal(grant_flags(g, 30) & MARKS, 0);
}
