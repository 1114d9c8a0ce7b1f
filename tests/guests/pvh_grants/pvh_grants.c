/* run: pvh=yes time=30 */
/*
 * Mappings of grants, at physical addresses where nothing is. The domain grants to itself, which is enough to see them: who reads and
 * writes where, what may only be read, what is no memory of its own to give up, and what is left when a mapping goes.
 */
#include "../kit/pvh/pvh.h"
#include <xen/grant_table.h>

#define GP 13 /* vectors */
#define TABLE_AT HOLE_AT
#define MAP_AT (HOLE_AT + 0x100000UL)
#define FIRST_REF 8U

static grant_entry_v1_t *table = (void *)TABLE_AT;
static domid_t self;
static grant_handle_t handle;

static void grant(unsigned ref, const void *page, unsigned flags)
{
    table[ref].domid = self;
    table[ref].frame = (uint32_t)((unsigned long)page / PAGE_SIZE);
    barrier();
    table[ref].flags = (uint16_t)(GTF_permit_access | flags);
}

static int map(unsigned long at, unsigned flags, unsigned ref)
{
    struct gnttab_map_grant_ref m = {.host_addr = at, .flags = flags, .ref = ref, .dom = self, .status = 99};

    check_quiet(grant_table_op(GNTTABOP_map_grant_ref, &m, 1) == 0, "map_grant_ref");
    handle = m.handle;
    return m.status;
}

static int unmap(unsigned long at, grant_handle_t h)
{
    struct gnttab_unmap_grant_ref u = {.host_addr = at, .handle = h, .status = 99};

    check_quiet(grant_table_op(GNTTABOP_unmap_grant_ref, &u, 1) == 0, "unmap_grant_ref");
    return u.status;
}

static long decrease(unsigned long at)
{
    xen_pfn_t frame = at / PAGE_SIZE;
    struct xen_memory_reservation r = {.nr_extents = 1, .domid = DOMID_SELF};

    set_xen_guest_handle(r.extent_start, &frame);
    return memory_op(XENMEM_decrease_reservation, &r);
}

static long add_table(unsigned long at)
{
    struct xen_add_to_physmap a = {
        .domid = DOMID_SELF, .space = XENMAPSPACE_grant_table, .idx = 0, .gpfn = at / PAGE_SIZE};

    return memory_op(XENMEM_add_to_physmap, &a);
}

static unsigned load(unsigned long at)
{
    uint64_t value;

    return (unsigned)ATTEMPT("movq (%[at]), %[value]", OUT(, [value] "=&r"(value)), [at] "r"(at)).vector;
}
static unsigned store(unsigned long at) { return (unsigned)ATTEMPT("movq $5, (%[at])", , [at] "r"(at)).vector; }
static unsigned add(unsigned long at) { return (unsigned)ATTEMPT("addq $5, (%[at])", , [at] "r"(at)).vector; }
/* By an instruction that Croft knows, where there may be nothing */
static uint64_t peek(unsigned long at)
{
    uint64_t value;

    asm volatile("movq (%1), %0" : "=r"(value) : "r"(at) : "memory");
    return value;
}
/* What is there is a RET. */
static unsigned run_at(unsigned long at) { return (unsigned)ATTEMPT("callq *%[at]", , [at] "r"(at)).vector; }

static void written_and_read(volatile uint64_t *page)
{
    volatile uint64_t *mapped = (void *)MAP_AT;
    grant_handle_t first;

    page[1] = 0x1111;
    grant(FIRST_REF, (void *)page, 0);
    check_equal(peek(MAP_AT), -1UL); /* nothing is there */
    check_equal(map(MAP_AT, GNTMAP_host_map, FIRST_REF), GNTST_okay);
    first = handle;
    check_equal(mapped[1], 0x1111);
    mapped[2] = 0x2222;
    check_equal(page[2], 0x2222);
    check((table[FIRST_REF].flags & (GTF_reading | GTF_writing)) == (GTF_reading | GTF_writing), "it is in use: %x",
          table[FIRST_REF].flags);
    ((volatile uint8_t *)mapped)[0] = 0xc3; /* RET: it is there, but not to be executed */
    check_equal(run_at(MAP_AT), GP);
    check_equal(run_at((unsigned long)page), NO_TRAP);
    /* A call's argument there */
    {
        struct xen_memory_domain *d = (void *)(MAP_AT + 64);

        d->domid = DOMID_SELF;
        check(memory_op(XENMEM_maximum_reservation, d) > 0, "a call reads what is mapped");
    }
    check_equal(map(MAP_AT, GNTMAP_host_map, FIRST_REF), GNTST_general_error);
    check_equal(decrease(MAP_AT), 0);
    check_equal(add_table(MAP_AT), -EBUSY);
    check_equal(mapped[1], 0x1111);
    check_equal(unmap(MAP_AT + PAGE_SIZE, first), GNTST_general_error);
    check_equal(unmap(MAP_AT, first), GNTST_okay);
    check_equal(unmap(MAP_AT, first), GNTST_bad_handle);
    check_equal(peek(MAP_AT + 8), -1UL);
    check_equal(page[2], 0x2222);
    check((table[FIRST_REF].flags & (GTF_reading | GTF_writing)) == 0, "and no more: %x", table[FIRST_REF].flags);
}

static void only_read(volatile uint64_t *page)
{
    volatile uint64_t *mapped = (void *)MAP_AT;
    struct xen_feature_info *info = (void *)MAP_AT;
    struct xen_feature_info own = {.submap_idx = 0};

    memset((void *)page, 0, PAGE_SIZE);
    grant(FIRST_REF + 1, (void *)page, GTF_readonly);
    check_equal(map(MAP_AT, GNTMAP_host_map, FIRST_REF + 1), GNTST_general_error);
    check_equal(map(MAP_AT, GNTMAP_host_map | GNTMAP_readonly, FIRST_REF + 1), GNTST_okay);
    page[3] = 0x3333;
    check_equal(mapped[3], 0x3333);
    check_equal(load(MAP_AT), NO_TRAP);
    check_equal(store(MAP_AT + 24), GP);
    check_equal(add(MAP_AT + 24), GP);
    check_equal(run_at(MAP_AT), GP);
    check_equal(page[3], 0x3333);
    check_equal(xen_version(XENVER_get_features, &own), 0);
    check_equal(xen_version(XENVER_get_features, info), -EFAULT); /* Croft does not write there, either */
    check(own.submap != 0 && page[0] == 0, "nothing was written");
    check_equal(unmap(MAP_AT, handle), GNTST_okay);
}

static void again_and_again(volatile uint64_t *page)
{
    volatile uint64_t *mapped = (void *)(MAP_AT + 5 * PAGE_SIZE);
    unsigned wrong = 0;

    grant(FIRST_REF, (void *)page, 0);
    for (unsigned i = 0; i < 2000; i++) {
        if (map((unsigned long)mapped, GNTMAP_host_map, FIRST_REF) != GNTST_okay)
            wrong++;
        page[7] = i;
        wrong += peek((unsigned long)(mapped + 7)) != i;
        if (unmap((unsigned long)mapped, handle) != GNTST_okay || peek((unsigned long)(mapped + 7)) != -1UL)
            wrong++;
    }
    check(wrong == 0, "2000 times: %u were wrong", wrong);
}

GUEST("pvh_grants")
{
    volatile uint64_t *page = page_alloc();

    self = (domid_t)cpuid(0x40000004, 0).c;
    check_equal(add_table(TABLE_AT), 0);
    written_and_read(page);
    only_read(page);
    again_and_again(page);
    /* One is still mapped when the domain ends. */
    check_equal(map(MAP_AT, GNTMAP_host_map, FIRST_REF), GNTST_okay);
}
