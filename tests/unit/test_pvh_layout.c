/* sources: hypervisor/domain/pvh_layout.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "domain/pvh_build.h"
#include "lib/util.h"

#define KIB (1UL << 10)
#define MIB (1UL << 20)
#define GIB (1UL << 30)
#define PAGES(bytes) ((bytes) / PAGE_SIZE)

static struct pvh_layout l;

/* What must hold for every layout of a domain that is large enough */
static void check(const struct pvh_layout_request *r)
{
    uint64_t ram = 0, end = 0;

    assert_true(l.pages_needed <= r->pages);
    assert_int_equal(l.initrd % PAGE_SIZE, 0);
    assert_int_equal(l.start_info % PAGE_SIZE, 0);
    assert_true(l.initrd >= r->kernel_end);
    assert_true(l.initrd + r->initrd_size <= l.start_info);
    assert_true(l.start_info + PAGE_SIZE <= l.low_end);
    assert_true(l.low_end <= PVH_LOW_END);
    assert_int_equal(l.initrd_pages, (r->initrd_size + PAGE_SIZE - 1) / PAGE_SIZE);
    /* In order, without overlaps */
    for (unsigned i = 0; i < l.map_count; i++) {
        assert_true(l.map[i].addr >= end);
        assert_true(l.map[i].size);
        assert_int_equal((l.map[i].addr | l.map[i].size) % PAGE_SIZE, 0);
        assert_int_equal(l.map[i].reserved, 0);
        end = l.map[i].addr + l.map[i].size;
        ram += l.map[i].type == XEN_HVM_MEMMAP_TYPE_RAM ? l.map[i].size : 0;
    }
    assert_int_equal(ram, r->pages * PAGE_SIZE);
}

/* Which type the map has for an address; 0: none */
static unsigned type_of(uint64_t address)
{
    for (unsigned i = 0; i < l.map_count; i++)
        if (address - l.map[i].addr < l.map[i].size)
            return l.map[i].type;
    return 0;
}

static void small_domain(void **state)
{
    struct pvh_layout_request r = {
        .kernel_start = 16 * MIB, .kernel_end = 40 * MIB + 5, .initrd_size = 3 * MIB + 1, .pages = PAGES(64 * MIB)};

    assert_null(pvh_layout(&r, &l));
    check(&r);
    assert_int_equal(l.low_end, 64 * MIB);
    assert_int_equal(l.high_end, PVH_HIGH_START);
    assert_int_equal(l.start_info, 64 * MIB - 4 * KIB);
    assert_int_equal(l.initrd, 61 * MIB - 8 * KIB);
    assert_int_equal(l.pages_needed, PAGES(43 * MIB) + 3);
    assert_int_equal(l.map_count, 4);
    assert_int_equal(type_of(0), XEN_HVM_MEMMAP_TYPE_RAM);
    assert_int_equal(type_of(64 * MIB - 1), XEN_HVM_MEMMAP_TYPE_RAM);
    assert_int_equal(type_of(64 * MIB), 0);
    assert_int_equal(type_of(PVH_ACPI_START), XEN_HVM_MEMMAP_TYPE_ACPI);
    assert_int_equal(type_of(PVH_ACPI_START + PVH_ACPI_SIZE - 1), XEN_HVM_MEMMAP_TYPE_ACPI);
    assert_int_equal(type_of(0xfee00000), XEN_HVM_MEMMAP_TYPE_RESERVED);
    assert_int_equal(type_of(PVH_CONSOLE), XEN_HVM_MEMMAP_TYPE_RESERVED);
    assert_int_equal(type_of(PVH_CONSOLE + PAGE_SIZE), 0);
    assert_int_equal(type_of(4 * GIB), 0);
}

static void around_the_hole(void **state)
{
    static const uint64_t sizes[] = {3 * GIB - 4 * KIB, 3 * GIB, 3 * GIB + 4 * KIB, 4 * GIB, 1024 * GIB};

    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct pvh_layout_request r = {
            .kernel_start = MIB, .kernel_end = 2 * MIB, .initrd_size = 5 * MIB, .pages = PAGES(sizes[i])};

        assert_null(pvh_layout(&r, &l));
        check(&r);
        assert_int_equal(l.low_end, min(sizes[i], 3 * GIB));
        assert_int_equal(l.high_end, sizes[i] > 3 * GIB ? sizes[i] + GIB : 4 * GIB);
        assert_int_equal(l.map_count, sizes[i] > 3 * GIB ? 5 : 4);
        assert_int_equal(type_of(3 * GIB), 0);
    }
}

/* The least memory: with a page less it is not enough. */
static void exact(void **state)
{
    for (uint64_t initrd = 0; initrd < 3 * PAGE_SIZE; initrd += PAGE_SIZE / 2) {
        struct pvh_layout_request r = {
            .kernel_start = 0, .kernel_end = MIB + 1, .initrd_size = initrd, .pages = PAGES(8 * MIB)};

        assert_null(pvh_layout(&r, &l));
        check(&r);
        uint64_t least = l.pages_needed;

        r.pages = least;
        assert_null(pvh_layout(&r, &l));
        check(&r);
        assert_int_equal(l.initrd, MIB + PAGE_SIZE);
        r.pages = least - 1;
        assert_null(pvh_layout(&r, &l));
        assert_int_equal(l.pages_needed, least);
        r.pages = 0;
        assert_null(pvh_layout(&r, &l));
        assert_int_equal(l.pages_needed, least);
    }
}

#define REFUSED(r, text) assert_non_null(strstr(pvh_layout(&(r), &l) ?: "accepted", text))

static void refusals(void **state)
{
    const struct pvh_layout_request good = {.kernel_start = MIB, .kernel_end = 2 * MIB, .pages = PAGES(64 * MIB)};
    struct pvh_layout_request r = good;

    r.kernel_end = MIB;
    REFUSED(r, "the kernel's physical addresses");
    r.kernel_end = 3 * GIB + 1;
    REFUSED(r, "do not lie below 3 GiB");
    r.kernel_end = ~0UL;
    REFUSED(r, "do not lie below 3 GiB");
    r = good;
    r.initrd_size = 3 * GIB - 2 * MIB;
    REFUSED(r, "the kernel and the initrd do not fit below 3 GiB");
    r.initrd_size = ~0UL;
    REFUSED(r, "a size is absurd");
    r = good;
    r.pages = ~0UL;
    REFUSED(r, "a size is absurd");
    r.pages = (1UL << 35) + 1;
    REFUSED(r, "a size is absurd");
    r.pages = 1UL << 35;
    assert_null(pvh_layout(&r, &l));
    check(&r);
}

/* Random requests: what is accepted is consistent. */
static void random_requests(void **state)
{
    srand(7);
    for (unsigned i = 0; i < 100000; i++) {
        struct pvh_layout_request r = {.kernel_start = (uint64_t)rand() << rand() % 4,
                                       .initrd_size = (uint64_t)rand() >> rand() % 20,
                                       .pages = (uint64_t)rand() >> rand() % 20};

        r.kernel_end = r.kernel_start + (uint64_t)rand() % (256 * MIB);
        if (!pvh_layout(&r, &l) && l.pages_needed <= r.pages)
            check(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_domain), cmocka_unit_test(around_the_hole), cmocka_unit_test(exact),
        cmocka_unit_test(refusals),     cmocka_unit_test(random_requests),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
