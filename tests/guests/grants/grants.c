/* run: smp=2 append="dom0_max_vcpus=2" time=60 */
/*
 * Grants between domains: from a child to domain 0, from domain 0 to a child, between children; in every form that is
 * legal and in those that are not; and the death of one side or of both. This file has the operations, which any of
 * the domains can be told to do; what each keeps for itself (its table, its pages) is in its own copy of the variables.
 */
#include "grants.h"

static struct child children[3];
struct child *first, *second, *third;

static unsigned version = 1;
static grant_entry_v1_t *const v1 = (void *)TABLE_VA;
static grant_entry_v2_t *const v2 = (void *)TABLE_VA;
static volatile uint16_t *const status = (void *)(TABLE_VA + 4 * PAGE_SIZE);
static uint64_t *pages[PAGES];

uint64_t slot_address(unsigned slot) { return TEST_VA + slot * PAGE_SIZE; }

/* ---- What a domain does when told ---- */

static long prepare_here(long *a)
{
    xen_pfn_t frames[2];
    struct gnttab_setup_table s = {.dom = DOMID_SELF, .nr_frames = 2, .status = 99};

    version = 1;
    for (unsigned i = 0; i < PAGES; i++)
        pages[i] = page_alloc();
    map_page(TEST_VA, 0);
    map_page(TABLE_VA, 0);
    set_xen_guest_handle(s.frame_list, frames);
    if (grant_table_op(GNTTABOP_setup_table, &s, 1) != 0 || s.status != GNTST_okay)
        return s.status;
    a[0] = mmu_write(pte_of(TABLE_VA), make_pte(frames[0], PTE_RW)) |
           mmu_write(pte_of(TABLE_VA + PAGE_SIZE), make_pte(frames[1], PTE_RW));
    return a[0];
}

static long set_version_here(long *a)
{
    struct gnttab_set_version s = {.version = (uint32_t)a[0]};
    uint64_t frame = 0;
    struct gnttab_get_status_frames get = {.nr_frames = 1, .dom = DOMID_SELF, .status = 99};
    long rc = grant_table_op(GNTTABOP_set_version, &s, 1);

    version = s.version;
    if (rc != 0 || version == 1)
        return rc;
    set_xen_guest_handle(get.frame_list, &frame);
    if (grant_table_op(GNTTABOP_get_status_frames, &get, 1) != 0 || get.status != GNTST_okay)
        return 1000;
    return mmu_write(pte_of(U(status)), make_pte(frame, PTE_RW));
}

/* ref, flags, domain, frame, v2: kind (0 page, 1 part, 2 transitive), and two numbers that belong to it */
static long grant_here(long *a)
{
    unsigned ref = (unsigned)a[0];

    if (version == 1) {
        v1[ref].flags = 0;
        barrier();
        v1[ref].frame = (uint32_t)a[3];
        v1[ref].domid = (domid_t)a[2];
        barrier();
        v1[ref].flags = (uint16_t)a[1];
        return 0;
    }
    v2[ref].hdr.flags = 0;
    barrier();
    v2[ref].hdr.domid = (domid_t)a[2];
    if (a[4] == 2) {
        v2[ref].transitive.trans_domid = (domid_t)a[5];
        v2[ref].transitive.gref = (grant_ref_t)a[6];
    } else {
        v2[ref].full_page.frame = (uint64_t)a[3];
        if (a[4] == 1) {
            v2[ref].sub_page.page_off = (uint16_t)a[5];
            v2[ref].sub_page.length = (uint16_t)a[6];
        }
    }
    barrier();
    v2[ref].hdr.flags = (uint16_t)a[1];
    return 0;
}

static long flags_here(long *a)
{
    if (version == 1)
        return ((volatile grant_entry_v1_t *)v1)[a[0]].flags;
    return ((volatile grant_entry_v2_t *)v2)[a[0]].hdr.flags | status[a[0]];
}

static long entry_address_here(long *a) { return (long)(virt_to_machine(pte_of(TEST_VA)) + U(a[0]) * 8); }
static long entry_here(long *a) { return *(volatile long *)pte_of(slot_address((unsigned)a[0])); }
static long peek_here(long *a) { return ((volatile long *)slot_address((unsigned)a[0]))[a[1]]; }
static long page_peek_here(long *a) { return ((volatile long *)pages[a[0]])[a[1]]; }
static long page_frame_here(long *a) { return (long)virt_to_mfn(pages[a[0]]); }

static long write_entry_here(long *a)
{
    long rc = mmu_write(pte_of(slot_address((unsigned)a[0])), U(a[1]));

    if (rc == 0)
        mmuext(MMUEXT_INVLPG_LOCAL, slot_address((unsigned)a[0]), 0);
    return rc;
}

static long poke_here(long *a)
{
    ((volatile long *)slot_address((unsigned)a[0]))[a[1]] = a[2];
    return 0;
}

static long page_poke_here(long *a)
{
    ((volatile long *)pages[a[0]])[a[1]] = a[2];
    return 0;
}

/* ---- Telling ---- */

long version_set(struct child *who, unsigned v) { return child_call(who, set_version_here, v); }

void grant_frame(struct child *who, unsigned ref, unsigned flags, unsigned to, unsigned long frame)
{
    child_call(who, grant_here, ref, flags, to, (long)frame);
}

void grant(struct child *who, unsigned ref, unsigned flags, struct child *to, unsigned page)
{
    grant_frame(who, ref, flags, id_of(to), page_frame(who, page));
}

void grant_part(struct child *who, unsigned ref, struct child *to, unsigned page, unsigned offset, unsigned length)
{
    child_call(who, grant_here, ref, GTF_permit_access | GTF_sub_page, id_of(to), (long)page_frame(who, page), 1,
               offset, length);
}

void grant_transitive(struct child *who, unsigned ref, struct child *to, struct child *of, unsigned of_ref)
{
    child_call(who, grant_here, ref, GTF_transitive, id_of(to), 0, 2, id_of(of), of_ref);
}

unsigned grant_flags(struct child *who, unsigned ref) { return (unsigned)child_call(who, flags_here, ref); }
uint64_t entry_address(struct child *who, unsigned slot) { return U(child_call(who, entry_address_here, slot)); }
uint64_t entry(struct child *who, unsigned slot) { return U(child_call(who, entry_here, slot)); }
uint64_t peek(struct child *who, unsigned slot, unsigned word) { return U(child_call(who, peek_here, slot, word)); }
unsigned long page_frame(struct child *who, unsigned page) { return U(child_call(who, page_frame_here, page)); }

long write_entry(struct child *who, unsigned slot, uint64_t value)
{
    return child_call(who, write_entry_here, slot, (long)value);
}

void poke(struct child *who, unsigned slot, unsigned word, uint64_t value)
{
    child_call(who, poke_here, slot, word, (long)value);
}

uint64_t page_peek(struct child *who, unsigned page, unsigned word)
{
    return U(child_call(who, page_peek_here, page, word));
}

void page_poke(struct child *who, unsigned page, unsigned word, uint64_t value)
{
    child_call(who, page_poke_here, page, word, (long)value);
}

int map_at(struct child *who, uint64_t address, unsigned flags, unsigned granter, unsigned ref, grant_handle_t *handle)
{
    struct gnttab_map_grant_ref m = {
        .host_addr = address, .flags = flags, .ref = ref, .dom = (domid_t)granter, .status = 99};
    long rc = op_by(who, __HYPERVISOR_grant_table_op, GNTTABOP_map_grant_ref, &m, sizeof(m), 1);

    if (handle != NULL)
        *handle = m.handle;
    return rc != 0 ? 1000 : m.status;
}

int map(struct child *who, unsigned slot, unsigned flags, struct child *granter, unsigned ref, grant_handle_t *handle)
{
    uint64_t address = flags & GNTMAP_contains_pte ? entry_address(who, slot) : slot_address(slot);

    return map_at(who, address, flags, id_of(granter), ref, handle);
}

int unmap_at(struct child *who, uint64_t address, uint64_t bus, grant_handle_t handle)
{
    struct gnttab_unmap_grant_ref u = {.host_addr = address, .dev_bus_addr = bus, .handle = handle, .status = 99};

    return op_by(who, __HYPERVISOR_grant_table_op, GNTTABOP_unmap_grant_ref, &u, sizeof(u), 1) != 0 ? 1000 : u.status;
}

int unmap(struct child *who, unsigned slot, grant_handle_t handle)
{
    return unmap_at(who, slot_address(slot), 0, handle);
}

int copy(struct child *who, struct end from, struct end to, unsigned length)
{
    struct gnttab_copy c = {.len = (uint16_t)length, .status = 99};

    c.source.domid = (domid_t)from.domid;
    c.source.offset = (uint16_t)from.offset;
    c.source.u.gmfn = from.what;
    c.dest.domid = (domid_t)to.domid;
    c.dest.offset = (uint16_t)to.offset;
    c.dest.u.gmfn = to.what;
    c.flags = (uint16_t)((from.domid != DOMID_SELF ? GNTCOPY_source_gref : 0) |
                         (to.domid != DOMID_SELF ? GNTCOPY_dest_gref : 0));
    return op_by(who, __HYPERVISOR_grant_table_op, GNTTABOP_copy, &c, sizeof(c), 1) != 0 ? 1000 : c.status;
}

void children_start(unsigned count)
{
    first = count > 0 ? &children[0] : NULL;
    second = count > 1 ? &children[1] : NULL;
    third = count > 2 ? &children[2] : NULL;
    for (unsigned i = 0; i < count; i++) {
        child_start(&children[i]);
        check_quiet(child_call(&children[i], prepare_here) == 0, "a child's table");
    }
}

void children_end(void)
{
    if (third != NULL)
        child_end(third);
    if (second != NULL)
        child_end(second);
    if (first != NULL)
        child_end(first);
}

/* ---- All forms, between all ---- */

static void between(const char *what, struct child *granter, struct child *mapper, struct child *other)
{
    printf("-- %s: d%u grants, d%u maps\n", what, id_of(granter), id_of(mapper));
    forms(granter, mapper, other);
    copies(granter, mapper, other);
    batches(granter, mapper);
}

static void all_forms(void)
{
    children_start(2);
    between("version 1", first, NULL, second);
    between("version 1", NULL, first, second);
    between("version 1", first, second, NULL);
    check_equal(version_set(first, 2), 0);
    between("version 2", first, NULL, second);
    between("version 2", first, second, NULL);
    check_equal(version_set(NULL, 2), 0);
    between("version 2", NULL, first, second);
    check_equal(version_set(second, 2), 0);
    version_two(first, NULL, second);
    version_two(first, second, NULL);
    version_two(NULL, second, first);
    check_equal(version_set(NULL, 1), 0);
    check_equal(version_set(first, 1), 0);
    between("version 1 again", first, second, NULL);
    transfers(NULL, first); /* domain 0 has room for a frame then */
    transfers(first, NULL);
    transfers(first, second);
    children_end();
}

GUEST("grants")
{
    check_equal(child_call(NULL, prepare_here), 0);
    second_start();
    children_start(3);
    children_end();
    leaves_nothing("all forms", all_forms);
    races();
    deaths();
}
