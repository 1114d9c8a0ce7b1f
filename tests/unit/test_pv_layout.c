/* sources: hypervisor/domain/pv_layout.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "domain/pv_build.h"
#include "lib/util.h"

#define BASE 0xffffffff80000000UL
#define MIB (1UL << 20)

static struct pv_layout l;

/* What must hold for every layout, whatever the request was */
static void check(const struct pv_layout_request *r)
{
    uint64_t end = r->kernel_end, tables = 0;

    assert_int_equal(l.v_start, r->v_start);
    assert_int_equal((l.v_end) % (4 * MIB), 0);
    assert_int_equal(l.region_pages, (l.v_end - l.v_start) / PAGE_SIZE);
    if (!r->initrd_unmapped) {
        assert_true(l.v_start + l.initrd_pfn * PAGE_SIZE >= end);
        end = l.v_start + (l.initrd_pfn + l.initrd_pages) * PAGE_SIZE;
    }
    if (!r->p2m_elsewhere) {
        assert_true(l.p2m_va >= end);
        assert_int_equal(l.p2m_va, l.v_start + l.p2m_pfn * PAGE_SIZE);
        end = l.p2m_va + l.p2m_pages * PAGE_SIZE;
    }
    assert_true(l.start_info_va >= end && l.start_info_va < end + PAGE_SIZE);
    assert_int_equal(l.table_va, l.start_info_va + (r->console_page ? 2 : 1) * PAGE_SIZE);
    assert_int_equal(l.console_va, r->console_page ? l.start_info_va + PAGE_SIZE : 0);
    assert_int_equal(l.stack_va, l.table_va + l.table_pages * PAGE_SIZE);
    assert_true(l.v_end - (l.stack_va + PAGE_SIZE) >= 512 << 10);
    assert_true(l.initrd_pages * PAGE_SIZE >= r->initrd_size);
    assert_true(l.p2m_pages * PAGE_SIZE >= r->pages * 8);
    /* One table for each slot that the region touches, on each level */
    for (unsigned shift = 21; shift <= 39; shift += 9)
        tables += ((l.v_end - 1) >> shift) - (l.v_start >> shift) + 1;
    assert_int_equal(l.table_pages, tables + 1);
    /* What is not in the region follows it without a gap. */
    uint64_t pfn = l.region_pages;

    if (r->initrd_unmapped) {
        assert_int_equal(l.initrd_pfn, pfn);
        pfn += l.initrd_pages;
    }
    if (r->p2m_elsewhere) {
        assert_int_equal(l.p2m_va, r->p2m_address);
        assert_int_equal(l.p2m_pfn, pfn);
        pfn += l.p2m_pages + l.p2m_tables;
    }
    assert_int_equal(l.pages_needed, pfn);
}

static void linux_kernel(void **state)
{
    struct pv_layout_request r = {.v_start = BASE,
                                  .kernel_end = BASE + 0x4a00000,
                                  .initrd_size = 30000001,
                                  .initrd_unmapped = true,
                                  .p2m_elsewhere = true,
                                  .p2m_address = 0x8000000000,
                                  .pages = 2048 * MIB / PAGE_SIZE};

    assert_null(pv_layout(&r, &l));
    check(&r);
    assert_int_equal(l.v_end, BASE + 0x4c00000);
    assert_int_equal(l.start_info_va, BASE + 0x4a00000);
    assert_int_equal(l.p2m_tables, 2 + 1 + 1);
}

static void everything_mapped(void **state)
{
    struct pv_layout_request r = {
        .v_start = BASE, .kernel_end = BASE + 0x123456, .initrd_size = 5 * MIB, .pages = 16384};

    assert_null(pv_layout(&r, &l));
    check(&r);
    assert_int_equal(l.initrd_pfn, 0x124);
    assert_int_equal(l.pages_needed, l.region_pages);
}

static void refusals(void **state)
{
    static const struct {
        struct pv_layout_request r;
        const char *text;
    } cases[] = {
        {{.v_start = BASE + 5, .kernel_end = BASE + MIB, .pages = 1000}, "VIRT_BASE"},
        {{.v_start = 0xffff800000000000, .kernel_end = 0xffff800000100000, .pages = 1000}, "VIRT_BASE"},
        {{.v_start = 1UL << 47, .kernel_end = (1UL << 47) + MIB, .pages = 1000}, "VIRT_BASE"},
        {{.v_start = BASE, .kernel_end = BASE, .pages = 1000}, "does not lie behind"},
        {{.v_start = BASE, .kernel_end = MIB, .pages = 1000}, "does not lie behind"},
        {{.v_start = BASE, .kernel_end = -PAGE_SIZE + 1, .pages = 1000}, "does not lie behind"},
        {{.v_start = BASE, .kernel_end = -2 * PAGE_SIZE, .pages = 1000}, "do not fit"},
        {{.v_start = -4 * MIB, .kernel_end = -2 * MIB, .pages = 1000000}, "do not fit"},
        {{.v_start = BASE, .kernel_end = BASE + MIB, .initrd_size = 2048 * MIB, .pages = 1000}, "do not fit"},
        {{.v_start = BASE, .kernel_end = BASE + MIB, .initrd_size = ~0UL, .pages = 1000}, "absurd"},
        {{.v_start = BASE, .kernel_end = BASE + MIB, .pages = ~0UL}, "absurd"},
        {{.v_start = BASE, .kernel_end = BASE + MIB, .pages = 1000, .p2m_elsewhere = true, .p2m_address = 1},
         "INIT_P2M"},
        {{.v_start = BASE,
          .kernel_end = BASE + MIB,
          .pages = 1000,
          .p2m_elsewhere = true,
          .p2m_address = 0xffff810000000000},
         "INIT_P2M"},
        {{.v_start = BASE, .kernel_end = BASE + MIB, .pages = 1000, .p2m_elsewhere = true, .p2m_address = BASE},
         "INIT_P2M"},
        {{.v_start = BASE,
          .kernel_end = BASE + MIB,
          .pages = 1000,
          .p2m_elsewhere = true,
          .p2m_address = BASE - PAGE_SIZE},
         "INIT_P2M"},
        {{.v_start = BASE,
          .kernel_end = BASE + MIB,
          .pages = 1000,
          .p2m_elsewhere = true,
          .p2m_address = (1UL << 47) - PAGE_SIZE},
         "INIT_P2M"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const char *error = pv_layout(&cases[i].r, &l);

        if (!error || !strstr(error, cases[i].text))
            print_error("case %zu: %s\n", i, error ? error : "accepted");
        assert_non_null(error);
        assert_non_null(strstr(error, cases[i].text));
    }
}

/* Also layouts that end with the address space: sums that become zero there are no error. */
static void random_requests(void **state)
{
    unsigned accepted = 0;

    srand(4);
    for (unsigned round = 0; round < 200000; round++) {
        static const uint64_t bases[] = {BASE,      0,       0x400000, (1UL << 47) - 64 * MIB, 0xffff880000000000,
                                         -64 * MIB, -4 * MIB};
        struct pv_layout_request r = {
            .v_start = bases[rand() % ARRAY_SIZE(bases)],
            .initrd_size = rand() % 4 ? (uint64_t)rand() % (64 * MIB) : 0,
            .initrd_unmapped = rand() % 2,
            .p2m_elsewhere = rand() % 2,
            .console_page = rand() % 2,
            .p2m_address = rand() % 2 ? 0x8000000000 : ((uint64_t)rand() << 33 | (uint64_t)rand() << 2) & PAGE_MASK,
            .pages = (uint64_t)rand() % (1UL << (1 + rand() % 24)),
        };

        r.kernel_end = r.v_start + 1 + (uint64_t)rand() % (64 * MIB);
        if (!pv_layout(&r, &l)) {
            accepted++;
            if (l.v_end) /* 0: the very end of the address space */
                check(&r);
        }
    }
    assert_true(accepted > 50000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linux_kernel),
        cmocka_unit_test(everything_mapped),
        cmocka_unit_test(refusals),
        cmocka_unit_test(random_requests),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
