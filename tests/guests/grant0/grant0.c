/*
 * The grant table of a domain that is alone: set-up, sizes, versions, wrong arguments; and its own pages granted
 * to itself, in every form (forms.c).
 */
#include "forms.h"

static xen_pfn_t frames[128];

static long setup(unsigned dom, unsigned count, int *status)
{
    struct gnttab_setup_table s = {.dom = (domid_t)dom, .nr_frames = count, .status = 99};
    long rc;

    set_xen_guest_handle(s.frame_list, frames);
    rc = grant_table_op(GNTTABOP_setup_table, &s, 1);
    *status = s.status;
    return rc;
}

static bool setup_refused(unsigned dom, unsigned count)
{
    int status;
    long rc = setup(dom, count, &status);

    return rc < 0 || status < 0;
}

static void to_itself(grant_entry_v1_t *table)
{
    uint64_t *page = page_alloc();
    struct gnttab_map_grant_ref m = {.host_addr = TEST_VA, .flags = GNTMAP_host_map, .ref = 9, .dom = DOMID_SELF};
    struct gnttab_unmap_grant_ref u = {.host_addr = TEST_VA};
    struct gnttab_copy c = {.source = {.u = {.gmfn = virt_to_mfn(page)}, .domid = DOMID_SELF},
                            .dest = {.u = {.gmfn = virt_to_mfn(page)}, .domid = DOMID_SELF, .offset = 2048},
                            .len = 64};
    long rc;

    map_page(TEST_VA, 0);
    page[0] = 0x77;
    table[9].frame = (uint32_t)virt_to_mfn(page);
    table[9].domid = 0;
    barrier();
    table[9].flags = GTF_permit_access;
    m.dom = 0;
    rc = grant_table_op(GNTTABOP_map_grant_ref, &m, 1);
    if (rc == -ENOSYS) {
        printf("   mapping grants is not there\n");
        return;
    }
    check(rc == 0 && m.status == GNTST_okay, "mapping an own grant: %ld, status %d", rc, m.status);
    if (m.status == GNTST_okay) {
        check(*(volatile uint64_t *)TEST_VA == 0x77, "shows the page");
        check((table[9].flags & (GTF_reading | GTF_writing)) == (GTF_reading | GTF_writing),
              "the entry is marked in use: %x", table[9].flags);
        u.handle = m.handle;
        rc = grant_table_op(GNTTABOP_unmap_grant_ref, &u, 1);
        check(rc == 0 && u.status == GNTST_okay, "unmapping: %ld, status %d", rc, u.status);
        check((table[9].flags & (GTF_reading | GTF_writing)) == 0, "the marks are gone");
        u.status = 0;
        rc = grant_table_op(GNTTABOP_unmap_grant_ref, &u, 1);
        check(rc < 0 || u.status < 0, "not twice: %d", u.status);
    }
    table[9].flags = GTF_permit_access | GTF_readonly;
    rc = grant_table_op(GNTTABOP_map_grant_ref, &m, 1);
    check(rc < 0 || m.status < 0, "a read-only grant is not mapped writable: %d", m.status);
    m.ref = 10;
    rc = grant_table_op(GNTTABOP_map_grant_ref, &m, 1);
    check(rc < 0 || m.status < 0, "nor an empty entry: %d", m.status);
    m.ref = 0x7fffffff;
    rc = grant_table_op(GNTTABOP_map_grant_ref, &m, 1);
    check(rc < 0 || m.status < 0, "nor one beyond the table: %d", m.status);
    table[9].flags = GTF_permit_access;
    table[9].frame = 0x200;
    m.ref = 9;
    rc = grant_table_op(GNTTABOP_map_grant_ref, &m, 1);
    check(rc < 0 || m.status < 0, "nor a frame of the hypervisor: %d", m.status);
    table[9].frame = (uint32_t)kernel_root;
    rc = grant_table_op(GNTTABOP_map_grant_ref, &m, 1);
    check(rc < 0 || m.status < 0, "nor a page table, writable: %d", m.status);
    table[9].flags = 0;
    rc = grant_table_op(GNTTABOP_copy, &c, 1);
    check(rc == -ENOSYS || (rc == 0 && c.status == GNTST_okay && page[256] == 0x77), "copy within own pages: %ld, %d",
          rc, c.status);
    c.dest.u.gmfn = kernel_root;
    c.status = 0;
    rc = grant_table_op(GNTTABOP_copy, &c, 1);
    check(rc < 0 || c.status < 0, "copy into a page table: %d", c.status);
    c.dest.u.gmfn = virt_to_mfn(page);
    c.dest.offset = 4090;
    c.status = 0;
    rc = grant_table_op(GNTTABOP_copy, &c, 1);
    check(rc < 0 || c.status < 0, "copy across the end of a page: %d", c.status);
    c.source.u.gmfn = 0x200;
    c.dest.offset = 0;
    c.status = 0;
    rc = grant_table_op(GNTTABOP_copy, &c, 1);
    check(rc < 0 || c.status < 0, "copy from the hypervisor: %d", c.status);
}

GUEST("grant0")
{
    struct gnttab_query_size q = {.dom = DOMID_SELF};
    struct gnttab_set_version version = {.version = 1};
    struct gnttab_get_version get = {.dom = DOMID_SELF};
    grant_entry_v1_t *table;
    int status;
    long rc;

    map_page(TEST_VA2, 0);
    check_equal(grant_table_op(GNTTABOP_query_size, &q, 1), 0);
    check(q.status == GNTST_okay && q.max_nr_frames >= 1 && q.max_nr_frames <= 4096 && q.nr_frames <= q.max_nr_frames,
          "query_size: %u of %u frames", q.nr_frames, q.max_nr_frames);
    q.dom = 1234;
    rc = grant_table_op(GNTTABOP_query_size, &q, 1);
    check(rc < 0 || q.status < 0, "query_size of no domain: %ld, %d", rc, q.status);

    check(setup(DOMID_SELF, 2, &status) == 0 && status == GNTST_okay, "setup_table of two frames: %d", status);
    check(frames[0] != 0 && frames[1] != 0 && frames[0] != frames[1], "frames %lx, %lx", frames[0], frames[1]);
    check_equal(mmu_write(pte_of(TEST_VA2), make_pte(frames[0], PTE_RW)), 0);
    table = (void *)TEST_VA2;
    table[20].frame = 0x1234;
    check(((volatile grant_entry_v1_t *)table)[20].frame == 0x1234, "the table can be written");
    check(table[100].flags == 0 && table[400].flags == 0, "and is empty");
    check_negative(mmuext(MMUEXT_PIN_L1_TABLE, frames[0], 0));
    check_negative(mmuext(MMUEXT_NEW_USER_BASEPTR, frames[0], 0));
    check(setup_refused(1234, 1), "setup_table of no domain");
    check(setup_refused(DOMID_SELF, 100000), "setup_table of too many frames");
    check(setup_refused(DOMID_SELF, ~0U), "setup_table of far too many");

    check_equal(grant_table_op(GNTTABOP_get_version, &get, 1), 0);
    check(get.version == 1, "version %u", get.version);
    check_equal(grant_table_op(GNTTABOP_set_version, &version, 1), 0);
    version.version = 3;
    check_negative(grant_table_op(GNTTABOP_set_version, &version, 1));
    version.version = 0;
    check_negative(grant_table_op(GNTTABOP_set_version, &version, 1));
    check_equal(grant_table_op(GNTTABOP_get_version, &get, 1), 0);
    check(get.version == 1, "is still %u", get.version);
    get.dom = 1234;
    check_negative(grant_table_op(GNTTABOP_get_version, &get, 1));
    check_negative(grant_table_op(77, &get, 1));
    check_negative(grant_table_op(GNTTABOP_query_size, &q, 0x80000000));

    to_itself(table);
    grant_forms(table);
    /* The table's frames are not this domain's to give away. */
    {
        struct xen_memory_reservation r = {.nr_extents = 1, .domid = DOMID_SELF};

        set_xen_guest_handle(r.extent_start, frames);
        table[20].frame = 0x1234;
        memory_op(XENMEM_decrease_reservation, &r); /* may be taken, but not away */
        check(table[20].frame == 0x1234, "a grant frame that was given back is still there");
        table[20].frame = 0x4321;
        check(((volatile grant_entry_v1_t *)table)[20].frame == 0x4321, "and writable");
    }
}
