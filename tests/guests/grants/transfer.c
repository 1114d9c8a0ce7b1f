/* Frames that go from one domain to another for good. */
#include "grants.h"

#define WANTED_PFN 0x333

static struct child *f, *t; /* from, to */

/* A page that is mapped nowhere any more: its frame. */
static long take_out_here(long *a)
{
    uint64_t *page = page_alloc();

    page[0] = U(a[0]);
    if (update_va_mapping(U(page), 0, UVMF_INVLPG | UVMF_ALL) != 0)
        return -1;
    return (long)virt_to_mfn(page);
}

static long m2p_here(long *a) { return (long)machine_to_phys_mapping[a[0]]; }

static int transfer(unsigned long frame, unsigned to, unsigned ref)
{
    struct gnttab_transfer op = {.mfn = frame, .domid = (domid_t)to, .ref = ref, .status = 99};

    return op_by(f, __HYPERVISOR_grant_table_op, GNTTABOP_transfer, &op, sizeof(op), 1) != 0 ? 1000 : op.status;
}

static unsigned long pages_of(struct child *c)
{
    domain_flags(id_of(c));
    return domctl_op.u.getdomaininfo.tot_pages;
}

/* What is refused before the frame has left its domain */
static void not_its_own(void)
{
    unsigned long pages = pages_of(f);

    grant_frame(t, 50, GTF_accept_transfer, id_of(f), WANTED_PFN);
    check_equal(transfer(page_frame(f, 0), id_of(t), 50), GNTST_bad_page);
    check_equal(transfer(entry_address(f, 0) >> 12, id_of(t), 50), GNTST_bad_page);
    check_equal(transfer(page_frame(t, 0), id_of(t), 50), GNTST_bad_page);
    check_equal(transfer(0x200, id_of(t), 50), GNTST_bad_page);
    check_equal(transfer(1UL << 40, id_of(t), 50), GNTST_bad_page);
    check_equal(pages_of(f), pages);
    check_equal(grant_flags(t, 50), GTF_accept_transfer);
}

/* What is refused later costs the frame. */
static void not_wanted(void)
{
    unsigned long pages = pages_of(f);

    check_equal(transfer(U(child_call(f, take_out_here, 1)), 30000, 50), GNTST_bad_domain);
    check_equal(transfer(U(child_call(f, take_out_here, 1)), id_of(f), 50), GNTST_bad_domain);
    check(transfer(U(child_call(f, take_out_here, 1)), id_of(t), 51) < 0, "to an empty entry");
    check(transfer(U(child_call(f, take_out_here, 1)), id_of(t), 9999999) < 0, "to no entry");
    grant(t, 51, GTF_permit_access, f, 0);
    check(transfer(U(child_call(f, take_out_here, 1)), id_of(t), 51) < 0, "to an entry that permits access");
    grant_frame(t, 51, GTF_accept_transfer, 30000, WANTED_PFN);
    check(transfer(U(child_call(f, take_out_here, 1)), id_of(t), 51) < 0, "to an entry for another domain");
    grant_frame(t, 51, 0, 0, 0);
    check_equal(pages_of(f), pages - 6);
}

void transfers(struct child *from, struct child *to)
{
    unsigned long frame, pages, had;

    f = from;
    t = to;
    printf("-- transfer from d%u to d%u\n", id_of(f), id_of(t));
    not_its_own();
    if (f != NULL) /* domain 0 is to have as many pages afterwards */
        not_wanted();
    pages = pages_of(f);
    had = pages_of(t);
    frame = U(child_call(f, take_out_here, 0x7777));
    check_equal(transfer(frame, id_of(t), 50), GNTST_okay);
    check_equal(grant_flags(t, 50), GTF_accept_transfer | GTF_transfer_committed | GTF_transfer_completed);
    check_equal(pages_of(f), pages - 1);
    check_equal(pages_of(t), had + 1);
    check_equal(child_call(t, m2p_here, (long)frame), WANTED_PFN);
    check_negative(write_entry(f, 3, make_pte(frame, PTE_RO)));
    check_equal(write_entry(t, 3, make_pte(frame, PTE_RW)), 0);
    check_equal(peek(t, 3, 0), 0x7777);
    check_equal(transfer(frame, id_of(t), 50), GNTST_bad_page);
    check_equal(write_entry(t, 3, 0), 0);
    grant_frame(t, 50, 0, 0, 0);
}
