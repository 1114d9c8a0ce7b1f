/*
 * Reservations: giving pages back, taking them, exchanging them, and asking about the machine. Ownership must
 * follow exactly.
 */
#include "kit.h"

static xen_pfn_t extents[64];
static unsigned long next_pfn; /* pages from here on are mapped nowhere */

static long reserve(unsigned cmd, xen_pfn_t *list, unsigned long count, unsigned order, unsigned flags)
{
    struct xen_memory_reservation r = {
        .nr_extents = count, .extent_order = order, .mem_flags = flags, .domid = DOMID_SELF};

    set_xen_guest_handle(r.extent_start, list);
    return memory_op(cmd, &r);
}

static long give(xen_pfn_t mfn) { return reserve(XENMEM_decrease_reservation, &mfn, 1, 0, 0); }

static long pages_now(void)
{
    struct xen_memory_domain d = {.domid = DOMID_SELF};

    return memory_op(XENMEM_current_reservation, &d);
}

static void queries(void)
{
    struct xen_memory_domain d = {.domid = DOMID_SELF};
    struct xen_machphys_mapping mapping;
    struct xen_machphys_mfn_list l = {.max_extents = 64};
    static struct {
        uint64_t start, size;
        uint32_t type;
    } __attribute__((packed)) regions[64];
    struct xen_memory_map map = {.nr_entries = 64};
    uint64_t ram = 0;
    bool sorted = true;
    long max = memory_op(XENMEM_maximum_ram_page, NULL);

    check(pages_now() == (long)start_info->nr_pages, "current reservation %ld", pages_now());
    check(memory_op(XENMEM_maximum_reservation, &d) >= (long)start_info->nr_pages, "maximum reservation %ld",
          memory_op(XENMEM_maximum_reservation, &d));
    d.domid = 1234;
    check_equal(memory_op(XENMEM_current_reservation, &d), -ESRCH);
    check_equal(memory_op(XENMEM_maximum_reservation, &d), -ESRCH);
    check(max > 0x4000 && max < 0x10000, "the highest page of RAM is %lx", max);
    check_equal(memory_op(XENMEM_machphys_mapping, &mapping), 0);
    check(mapping.v_start == MACH2PHYS_VIRT_START && mapping.v_end > mapping.v_start &&
              mapping.max_mfn + 1 >= (unsigned long)max,
          "m2p at %lx-%lx, up to %lx", mapping.v_start, mapping.v_end, mapping.max_mfn);
    set_xen_guest_handle(map.buffer, regions);
    check_equal(memory_op(XENMEM_machine_memory_map, &map), 0);
    for (unsigned i = 0; i < map.nr_entries; i++) {
        if (regions[i].type == 1)
            ram += regions[i].size;
        sorted &= i == 0 || regions[i].start >= regions[i - 1].start + regions[i - 1].size;
    }
    check(map.nr_entries >= 3 && sorted && ram > 200UL << 20 && ram <= 256UL << 20,
          "machine map: %u regions, %lu MiB of RAM", map.nr_entries, ram >> 20);
    map.nr_entries = 1;
    check(memory_op(XENMEM_machine_memory_map, &map) <= 0 && map.nr_entries <= 1, "into a short buffer: %u",
          map.nr_entries);
    set_xen_guest_handle(l.extent_start, extents);
    check_equal(memory_op(XENMEM_machphys_mfn_list, &l), 0);
    check(l.nr_extents >= 1 && l.nr_extents <= 64, "the m2p lies in %u extents", l.nr_extents);
    check(memory_op(XENMEM_maximum_gpfn, &(struct xen_memory_domain){.domid = DOMID_SELF}) >= 0, "maximum gpfn");
    check_equal(memory_op(63, &d), -ENOSYS);
}

static void give_and_take(void)
{
    unsigned long pfn = next_pfn++, mfn = p2m[pfn];
    long before = pages_now(), rc;

    check_equal(give(mfn), 1);
    check(pages_now() == before - 1, "one page less");
    check_equal(give(mfn), 0); /* not ours any more */
    check(pages_now() == before - 1, "and no second time");
    map_page(TEST_VA, 0);
    check_negative(mmu_write(pte_of(TEST_VA), make_pte(mfn, PTE_RO)));
    check_negative(mmuext(MMUEXT_PIN_L1_TABLE, mfn, 0));
    check_negative(mmu_write_machine(mfn << 12 | MMU_MACHPHYS_UPDATE, pfn));

    extents[0] = pfn;
    check_equal(reserve(XENMEM_populate_physmap, extents, 1, 0, 0), 1);
    check(pages_now() == before, "taken again");
    check(machine_to_phys_mapping[extents[0]] == pfn, "with its m2p entry");
    p2m[pfn] = extents[0];
    map_page(TEST_VA, make_pte(extents[0], PTE_RW));
    *(volatile uint64_t *)TEST_VA = 0x77;
    check(*(volatile uint64_t *)TEST_VA == 0x77, "it is memory");
    check_equal(update_va_mapping(TEST_VA, 0, UVMF_INVLPG), 0);

    check_equal(reserve(XENMEM_populate_physmap, extents, 1, 0, 0) <= 1, 1);
    check_equal(give(0x200), 0);     /* the hypervisor's */
    check_equal(give(1UL << 36), 0); /* nobody's */
    check_equal(give(~0UL), 0);
    give(start_info->shared_info >> 12); /* may be taken, but not away */
    check(shared_info->vcpu_info[0].time.tsc_to_system_mul != 0, "the shared info page is still there");
    check(machine_to_phys_mapping[p2m[0]] == 0, "and so is the first page");

    rc = reserve(XENMEM_increase_reservation, extents, 1, 0, 0);
    check(rc == 1 || (rc == 0 && pages_now() >= before), "increase_reservation: %ld", rc);
    if (rc == 1) {
        check_equal(mmu_write(pte_of(TEST_VA), make_pte(extents[0], PTE_RW)), 0);
        check_equal(mmu_write(pte_of(TEST_VA), 0), 0);
        check_equal(give(extents[0]), 1);
    }
    check(reserve(XENMEM_increase_reservation, extents, 1, 30, 0) <= 0, "an extent of 2^30 pages");
    check(reserve(XENMEM_populate_physmap, extents, 1, 30, 0) <= 0, "the same by populate_physmap");
    check(reserve(XENMEM_decrease_reservation, extents, 1, 30, 0) <= 0, "the same by decrease_reservation");
    check(reserve(XENMEM_decrease_reservation, extents, ~0UL, 0, 0) <= 0, "endless extents");
    check(reserve(XENMEM_populate_physmap, extents, 1UL << 62, 0, 0) <= 0, "endless extents to populate");
}

/* A page that is in use when it is given back stays until the last use is gone. */
static void in_use(void)
{
    uint64_t *mapped = page_alloc(), *table = page_alloc();
    unsigned long mapped_mfn = virt_to_mfn(mapped), table_mfn = virt_to_mfn(table);
    unsigned long pfn = virt_to_pfn(mapped);
    long rc, before = pages_now();

    mapped[0] = 0x4444;
    rc = give(mapped_mfn);
    check(rc == 1 || rc == 0, "giving back a mapped page: %ld", rc);
    if (rc == 1) {
        check(mapped[0] == 0x4444, "it can still be read");
        mapped[0] = 0x5555;
        give(mapped_mfn); /* a second time: no more than the first */
        check_equal(update_va_mapping((unsigned long)mapped, 0, UVMF_INVLPG), 0);
        check(pages_now() == before - 1, "then it is gone, once: %ld pages of %ld", pages_now(), before);
        check_negative(update_va_mapping((unsigned long)mapped, make_pte(mapped_mfn, PTE_RW), UVMF_INVLPG));
        extents[0] = pfn;
        check_equal(reserve(XENMEM_populate_physmap, extents, 1, 0, 0), 1);
        p2m[pfn] = extents[0];
        check_equal(update_va_mapping((unsigned long)mapped, make_pte(extents[0], PTE_RW), UVMF_INVLPG), 0);
        mapped[0] = 2;
    }

    update_va_mapping((unsigned long)table, 0, UVMF_INVLPG);
    check_equal(mmuext(MMUEXT_PIN_L1_TABLE, table_mfn, 0), 0);
    rc = give(table_mfn);
    check(rc == 1 || rc == 0, "giving back a pinned table: %ld", rc);
    mmu_write_machine(table_mfn << 12,
                      make_pte(virt_to_mfn(mapped), PTE_RW)); /* allowed or not; the count must be right */
    rc = mmuext(MMUEXT_UNPIN_TABLE, table_mfn, 0);
    check(rc == 0, "unpinning it then: %ld", rc);
    check_negative(mmuext(MMUEXT_PIN_L1_TABLE, table_mfn, 0));
    memset(mapped, 0, PAGE_SIZE);
    page_make_readonly(mapped);
    check_equal(mmuext(MMUEXT_PIN_L1_TABLE, virt_to_mfn(mapped), 0), 0); /* the table's reference to it is gone */
    check_equal(mmuext(MMUEXT_UNPIN_TABLE, virt_to_mfn(mapped), 0), 0);
}

static long exchange(xen_pfn_t *in, unsigned in_order, unsigned long in_count, xen_pfn_t *out, unsigned out_order,
                     unsigned long out_count, struct xen_memory_exchange *x)
{
    memset(x, 0, sizeof(*x));
    set_xen_guest_handle(x->in.extent_start, in);
    x->in.nr_extents = in_count;
    x->in.extent_order = in_order;
    x->in.domid = DOMID_SELF;
    set_xen_guest_handle(x->out.extent_start, out);
    x->out.nr_extents = out_count;
    x->out.extent_order = out_order;
    x->out.domid = DOMID_SELF;
    return memory_op(XENMEM_exchange, x);
}

static void exchanges(void)
{
    struct xen_memory_exchange x;
    xen_pfn_t in[4], out[4], first;
    unsigned long pfn = (next_pfn + 7) & ~7UL;
    long before = pages_now();
    long rc;

    next_pfn = pfn + 8;
    in[0] = p2m[pfn];
    out[0] = pfn;
    check_equal(exchange(in, 0, 1, out, 0, 1, &x), 0);
    check(x.nr_exchanged == 1 && out[0] != in[0] && machine_to_phys_mapping[out[0]] == pfn, "one page: mfn %lx -> %lx",
          in[0], out[0]);
    check(pages_now() == before, "as many pages as before");
    check_equal(give(in[0]), 0); /* the old one is not ours */
    p2m[pfn] = out[0];

    for (unsigned i = 0; i < 4; i++)
        in[i] = p2m[pfn + i];
    out[0] = pfn;
    rc = exchange(in, 0, 4, out, 2, 1, &x);
    check(rc == 0 && x.nr_exchanged == 4 && (out[0] & 3) == 0, "four pages for four together: %ld, mfn %lx", rc,
          out[0]);
    for (unsigned i = 0; i < 4; i++) {
        check_quiet(machine_to_phys_mapping[out[0] + i] == pfn + i, "m2p of page %u", i);
        p2m[pfn + i] = out[0] + i;
    }
    first = out[0];
    for (unsigned i = 0; i < 4; i++)
        out[i] = pfn + i;
    rc = exchange(&first, 2, 1, out, 0, 4, &x);
    check(rc == 0, "and back to single ones: %ld", rc);
    for (unsigned i = 0; rc == 0 && i < 4; i++)
        p2m[pfn + i] = out[i];
    check(pages_now() == before, "still as many pages");

    in[0] = p2m[pfn];
    out[0] = pfn;
    check_negative(exchange(in, 0, 1, out, 1, 1, &x)); /* not as much out as in */
    check_negative(exchange(in, 0, 2, out, 0, 1, &x));
    check_negative(exchange(in, 0, ~0UL, out, 0, ~0UL, &x));
    check_negative(exchange(in, 40, 1, out, 40, 1, &x));
    in[0] = 0x200;
    check_negative(exchange(in, 0, 1, out, 0, 1, &x));
    in[0] = 1UL << 36;
    check_negative(exchange(in, 0, 1, out, 0, 1, &x));
    in[0] = kernel_root;
    check_negative(exchange(in, 0, 1, out, 0, 1, &x));
    in[0] = in[1] = p2m[pfn];
    out[0] = pfn;
    out[1] = pfn + 1;
    check_negative(exchange(in, 0, 2, out, 0, 2, &x)); /* one page twice */
    check(pages_now() == before, "refused ones change no count: %ld pages of %ld", pages_now(), before);
    in[0] = virt_to_mfn(page_alloc());
    out[0] = pfn;
    rc = exchange(in, 0, 1, out, 0, 1, &x);
    check(rc < 0, "a mapped page is not exchanged: %ld", rc);
    memset(&x, 0, sizeof(x));
    x.nr_exchanged = 5;
    x.in.domid = x.out.domid = DOMID_SELF;
    check_negative(memory_op(XENMEM_exchange, &x));
}

/* Many at once: the call is continued. And no page may come twice. */
static void many(void)
{
    static xen_pfn_t list[6000];
    static uint8_t seen[1 << 13];
    unsigned count = sizeof(list) / sizeof(list[0]), doubles = 0, wrong = 0;
    unsigned long first = start_info->nr_pages - count;
    long before = pages_now();

    for (unsigned i = 0; i < count; i++)
        list[i] = p2m[first + i];
    check_equal(reserve(XENMEM_decrease_reservation, list, count, 0, 0), count);
    check(pages_now() == before - (long)count, "%u pages less", count);
    check_equal(reserve(XENMEM_decrease_reservation, list, count, 0, 0), 0);
    for (unsigned i = 0; i < count; i++)
        list[i] = first + i;
    check_equal(reserve(XENMEM_populate_physmap, list, count, 0, 0), count);
    check(pages_now() == before, "all taken again");
    for (unsigned i = 0; i < count; i++) {
        wrong += machine_to_phys_mapping[list[i]] != first + i;
        if (list[i] / 8 < sizeof(seen)) {
            doubles += seen[list[i] / 8] >> list[i] % 8 & 1;
            seen[list[i] / 8] |= (uint8_t)(1 << list[i] % 8);
        }
        p2m[first + i] = list[i];
    }
    check(doubles == 0 && wrong == 0, "each page once (%u doubles), with its m2p entry (%u wrong)", doubles, wrong);
    list[0] = first;
    check(reserve(XENMEM_populate_physmap, list, 1, 0, 0) <= 1, "one more than the reservation");
}

GUEST("memory")
{
    events_enable();
    vcpu_op(VCPUOP_stop_periodic_timer, 0, NULL);
    next_pfn = 8192; /* far above the bootstrap mapping */
    queries();
    give_and_take();
    in_use();
    exchanges();
    many();
}
