/* What only version 2 of the grant table has: parts of pages, and entries that lead to another domain's. For copies. */
#include "grants.h"

static struct child *g, *m, *o;

static int copy_from(struct child *who, struct child *of, unsigned ref, unsigned offset, unsigned length)
{
    return copy(who, (struct end){id_of(of), ref, offset}, (struct end){DOMID_SELF, page_frame(who, 5), 0}, length);
}

static int copy_to(struct child *who, struct child *of, unsigned ref, unsigned offset, unsigned length)
{
    return copy(who, (struct end){DOMID_SELF, page_frame(who, 5), 0}, (struct end){id_of(of), ref, offset}, length);
}

static void parts(void)
{
    for (unsigned i = 0; i < 512; i += 8)
        page_poke(g, 0, i, 0x1000 + i);
    grant_part(g, 40, m, 0, 256, 64);
    check_equal(copy_from(m, g, 40, 256, 64), GNTST_okay);
    check_equal(page_peek(m, 5, 0), 0x1020);
    check_equal(copy_from(m, g, 40, 319, 1), GNTST_okay);
    check(copy_from(m, g, 40, 255, 2) < 0, "from in front of the part");
    check(copy_from(m, g, 40, 319, 2) < 0, "from behind its end");
    check(copy_from(m, g, 40, 0, 4096) < 0, "from the whole page");
    check_equal(copy_to(m, g, 40, 264, 8), GNTST_okay);
    check(copy_to(m, g, 40, 316, 8) < 0, "to behind its end");
    check(copy_from(o, g, 40, 256, 8) < 0, "by a third domain");
    check(map(m, 1, GNTMAP_host_map | GNTMAP_readonly, g, 40, NULL) < 0, "a part is not mapped");
    grant_part(g, 40, m, 0, 4090, 10);
    check(copy_from(m, g, 40, 4090, 6) < 0, "a part that ends beyond the page");
    grant_part(g, 40, m, 0, 0, 0);
    check(copy_from(m, g, 40, 0, 1) < 0, "a part of no bytes");
    check_equal(grant_flags(g, 40) & MARKS, 0);
}

/* g lets o copy, o lets m copy what g lets it: m names o's entry. */
static void transitive(void)
{
    page_poke(g, 1, 0, 0x5151);
    page_poke(g, 1, 1, 0x5252);
    grant(g, 41, GTF_permit_access, o, 1);
    grant_transitive(o, 42, m, g, 41);
    check_equal(copy_from(m, o, 42, 0, 16), GNTST_okay);
    check(page_peek(m, 5, 0) == 0x5151 && page_peek(m, 5, 1) == 0x5252, "through two entries");
    page_poke(m, 5, 0, 0x5353);
    check_equal(copy_to(m, o, 42, 8, 8), GNTST_okay);
    check_equal(page_peek(g, 1, 1), 0x5353);
    check(map(m, 1, GNTMAP_host_map | GNTMAP_readonly, o, 42, NULL) < 0, "it is not mapped");
    check(copy_from(m, g, 41, 0, 8) < 0, "nor used but by that way");
    grant(g, 41, GTF_permit_access | GTF_readonly, o, 1);
    check_equal(copy_from(m, o, 42, 0, 8), GNTST_okay);
    check(copy_to(m, o, 42, 0, 8) < 0, "to a read-only one at its end");
    grant(g, 41, GTF_permit_access, m, 1);
    check(copy_from(m, o, 42, 0, 8) < 0, "whose end is not for the domain in the middle");
    grant_part(g, 41, o, 1, 8, 8);
    check_equal(copy_from(m, o, 42, 8, 8), GNTST_okay);
    check(copy_from(m, o, 42, 0, 8) < 0, "a part at its end");
    grant_transitive(g, 41, o, m, 43);
    check(copy_from(m, o, 42, 0, 8) < 0, "through three entries");
    grant_transitive(o, 42, m, o, 41);
    check(copy_from(m, o, 42, 0, 8) < 0, "to itself");
    grant_transitive(o, 42, m, g, 99999999);
    check(copy_from(m, o, 42, 0, 8) < 0, "to what is not there");
    check_equal((grant_flags(g, 41) | grant_flags(o, 42)) & MARKS, 0);
    grant_frame(g, 41, 0, 0, 0);
    grant_frame(o, 42, 0, 0, 0);
}

static void changes_of_version(void)
{
    grant_handle_t h;

    grant(g, 43, GTF_permit_access, m, 0);
    check_equal(map(m, 1, GNTMAP_host_map, g, 43, &h), GNTST_okay);
    check_equal(version_set(g, 1), -EBUSY);
    check_equal(version_set(g, 3), -EINVAL);
    check_equal(unmap(m, 1, h), GNTST_okay);
    /* A reserved entry may be in use, and is the same afterwards. */
    grant(g, 1, GTF_permit_access, m, 0);
    page_poke(g, 0, 7, 0x6161);
    check_equal(map(m, 1, GNTMAP_host_map, g, 1, &h), GNTST_okay);
    check_equal(version_set(g, 1), 0);
    check_equal(grant_flags(g, 1), GTF_permit_access | MARKS);
    check_equal(grant_flags(g, 43), 0);
    check_equal(peek(m, 1, 7), 0x6161);
    check_equal(version_set(g, 2), 0);
    check_equal(grant_flags(g, 1), GTF_permit_access | MARKS);
    check_equal(unmap(m, 1, h), GNTST_okay);
    check_equal(grant_flags(g, 1), GTF_permit_access);
    grant_frame(g, 1, 0, 0, 0);
}

void version_two(struct child *granter, struct child *mapper, struct child *other)
{
    g = granter;
    m = mapper;
    o = other;
    printf("-- version 2: d%u grants, d%u copies, d%u is in the middle\n", id_of(g), id_of(m), id_of(o));
    parts();
    transitive();
    changes_of_version();
}
