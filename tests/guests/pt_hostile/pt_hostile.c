/* run: beside=yes */
/*
 * Attempts to break isolation through page tables: each must be refused, and leave things as they were. After each
 * group the entry that was attacked is compared with what it was.
 */
#include "kit.h"

static uint64_t *victim;     /* a level 1 entry that maps TEST_VA */
static uint64_t *scratch;    /* the page it maps */
static uint8_t own[1 << 16]; /* bitmap of this domain's frames, the first 2 GiB */
static unsigned long ram_end;

static void attempt(const char *what, void *entry, uint64_t value)
{
    uint64_t before = *(volatile uint64_t *)entry;
    long rc = mmu_write(entry, value);
    uint64_t after = *(volatile uint64_t *)entry;

    check(rc < 0 && after == before, "%s: %ld, entry %lx -> %lx", what, rc, before, after);
    if (after != before)
        mmu_write(entry, before);
}

static void touch(void *p) { *(volatile uint64_t *)p = 0xbad; }

static void page_tables_writable(void)
{
    for (int level = 1; level <= 4; level++) {
        uint64_t *table = (uint64_t *)((unsigned long)entry_of(kernel_root, TEST_VA, level) & PAGE_MASK);
        unsigned long mfn = virt_to_mfn(table);
        uint64_t before = *pte_of((unsigned long)table);
        struct regs r;

        printf("-- level %d table\n", level);
        check_negative(update_va_mapping((unsigned long)table, make_pte(mfn, PTE_RW), UVMF_INVLPG));
        check(*pte_of((unsigned long)table) == before, "its mapping is unchanged");
        attempt("mapped writable elsewhere", victim, make_pte(mfn, PTE_RW));
        attempt("mapped writable, user", victim, make_pte(mfn, PTE_USER_RW));
        check_negative(update_va_mapping(TEST_VA, make_pte(mfn, PTE_RW), UVMF_INVLPG));
        check_equal(mmu_write(victim, make_pte(mfn, PTE_RO)), 0); /* read-only is fine */
        mmuext(MMUEXT_INVLPG_LOCAL, TEST_VA, 0);
        if (level > 1) {
            /* A store that would make the tree worse must fault, or be refused, without effect. */
            volatile uint64_t *slot = (uint64_t *)TEST_VA + 300;
            uint64_t old = *slot;

            r = trap_of(touch, (void *)slot);
            check((r.vector == 14 && *slot == old) || (r.vector == NO_TRAP && (*slot & 1) == 0),
                  "a store there: trap %lu", r.vector);
        }
        check_equal(mmu_write(victim, make_pte(virt_to_mfn(scratch), PTE_RW)), 0);
        mmuext(MMUEXT_INVLPG_LOCAL, TEST_VA, 0);
        check_negative(mmuext(MMUEXT_CLEAR_PAGE, mfn, 0));
        check_negative(mmuext(MMUEXT_COPY_PAGE, mfn, virt_to_mfn(scratch)));
    }
}

/* The RAM of the machine by the firmware's map, less what is ours. */
static struct region {
    uint64_t start, size;
    uint32_t type;
} __attribute__((packed)) regions[64];
static struct xen_memory_map map = {.nr_entries = 64};

static bool is_ram(unsigned long mfn)
{
    for (unsigned i = 0; i < map.nr_entries; i++)
        if (regions[i].type == 1 && mfn << 12 >= regions[i].start &&
            (mfn + 1) << 12 <= regions[i].start + regions[i].size)
            return true;
    return false;
}

static void survey(void)
{
    xen_pfn_t grant_frames[1] = {0};
    struct gnttab_setup_table grants = {.dom = DOMID_SELF, .nr_frames = 1};

    set_xen_guest_handle(map.buffer, regions);
    if (kit_is_child()) { /* which may not ask */
        regions[0] = (struct region){.start = 1 << 20, .size = 1UL << 32, .type = 1};
        map.nr_entries = 1;
    } else {
        check_equal(memory_op(XENMEM_machine_memory_map, &map), 0);
    }
    for (unsigned long pfn = 0; pfn < (kit_is_child() ? PAGE_SIZE / 8 : start_info->nr_pages); pfn++)
        own[p2m[pfn] / 8] |= (uint8_t)(1 << p2m[pfn] % 8);
    own[start_info->shared_info >> 15] |= (uint8_t)(1 << (start_info->shared_info >> 12) % 8);
    set_xen_guest_handle(grants.frame_list, grant_frames); /* the grant table's frames may be mapped, too */
    check(grant_table_op(GNTTABOP_setup_table, &grants, 1) == 0 && grants.status == 0, "grant table: %d",
          grants.status);
    own[grant_frames[0] / 8] |= (uint8_t)(1 << grant_frames[0] % 8);
    ram_end = (unsigned long)memory_op(XENMEM_maximum_ram_page, NULL) + 1;
    check(ram_end > 0x4000 && ram_end < sizeof(own) * 8, "maximum RAM page %lx", ram_end);
}

static void foreign_frames(void)
{
    unsigned long tried = 0, accepted = 0, as_table = 0, pinned = 0, machphys = 0, roots = 0;
    uint64_t *l2 = entry_of(kernel_root, TEST_VA, 2) + 1;

    for (unsigned long mfn = 0x100; mfn < ram_end; mfn++) {
        if (!is_ram(mfn) || (own[mfn / 8] >> mfn % 8 & 1) != 0)
            continue;
        tried++;
        if (mmu_write(victim, make_pte(mfn, PTE_RW)) == 0) {
            accepted++;
            printf("frame %lx could be mapped\n", mfn);
        }
        if (tried % 16 == 0) {
            accepted += mmu_write(victim, make_pte(mfn, PTE_RO)) == 0;
            accepted += mmu_write(victim, make_pte(mfn, PTE_USER_RO)) == 0;
            accepted += update_va_mapping(TEST_VA, make_pte(mfn, PTE_RO), UVMF_NONE) == 0;
            as_table += mmu_write(l2, make_pte(mfn, PTE_TABLE)) == 0;
            as_table += mmu_write_machine(mfn << 12 | 8, 0) == 0;
            pinned += mmuext(MMUEXT_PIN_L1_TABLE, mfn, 0) == 0;
            pinned += mmuext(MMUEXT_UNPIN_TABLE, mfn, 0) == 0;
            pinned += mmuext(MMUEXT_CLEAR_PAGE, mfn, 0) == 0;
            pinned += mmuext(MMUEXT_COPY_PAGE, mfn, virt_to_mfn(scratch)) == 0;
            pinned += mmuext(MMUEXT_COPY_PAGE, virt_to_mfn(scratch), mfn) == 0;
            roots += mmuext(MMUEXT_NEW_USER_BASEPTR, mfn, 0) == 0;
            machphys += mmu_write_machine(mfn << 12 | MMU_MACHPHYS_UPDATE, 0) == 0;
        }
    }
    check(tried > 10000, "%lu frames of others", tried);
    check(accepted == 0, "mapped: %lu", accepted);
    check(as_table == 0, "used as a table: %lu", as_table);
    check(pinned == 0, "pinned, cleared, copied: %lu", pinned);
    check(roots == 0, "as user root: %lu", roots);
    check(machphys == 0, "m2p entries changed: %lu", machphys);
    check_equal(mmu_write(victim, make_pte(virt_to_mfn(scratch), PTE_RW)), 0);
}

static void frames_beyond(void)
{
    static const unsigned long beyond[] = {1UL << 28, 1UL << 36, 0xffffffffffUL};

    for (unsigned i = 0; i < 3; i++) {
        attempt("frame beyond the address width", victim, make_pte(beyond[i], PTE_RW));
        attempt("... as a table", entry_of(kernel_root, TEST_VA, 2) + 1, make_pte(beyond[i], PTE_TABLE));
        check_negative(mmuext(MMUEXT_PIN_L4_TABLE, beyond[i], 0));
        check_negative(mmuext(MMUEXT_UNPIN_TABLE, beyond[i], 0));
        check_negative(mmuext(MMUEXT_NEW_BASEPTR, beyond[i], 0));
        check_negative(mmuext(MMUEXT_NEW_USER_BASEPTR, beyond[i], 0));
        check_negative(mmuext(MMUEXT_CLEAR_PAGE, beyond[i], 0));
        check_negative(mmu_write_machine(beyond[i] << 12, 0));
        check_negative(mmu_write_machine(beyond[i] << 12 | MMU_MACHPHYS_UPDATE, 0));
    }
    check_negative(mmuext(MMUEXT_PIN_L1_TABLE, ~0UL, 0));
    check_negative(mmuext(MMUEXT_NEW_BASEPTR, 0, 0));
    check_negative(mmuext(MMUEXT_NEW_BASEPTR, ~0UL, 0));
    attempt("the local APIC, writable", victim, make_pte(0xfee00, PTE_RW | PTE_PCD));
    mmu_write(victim, make_pte(0xfec00, PTE_RW | PTE_PCD)); /* may become a read-only mapping */
    check((*victim & PTE_MFN_MASK) >> 12 != 0xfec00 || (*victim & PTE_W) == 0, "the I/O APIC, writable: entry %lx",
          *victim);
    check_equal(mmu_write(victim, make_pte(virt_to_mfn(scratch), PTE_RW)), 0);
}

static void the_hole(void)
{
    uint64_t *root = mfn_to_virt(kernel_root);
    unsigned long l3 = *entry_of(kernel_root, TEST_VA, 4) & PTE_MFN_MASK;

    for (unsigned slot = 256; slot < 272; slot++) {
        uint64_t before = root[slot];
        long rc = mmu_write(&root[slot], l3 | PTE_TABLE), rc0 = mmu_write(&root[slot], 0);
        long rc1 = mmu_write_machine(virt_to_machine(&root[slot]) | MMU_PT_UPDATE_PRESERVE_AD, l3 | PTE_TABLE);

        check(rc < 0 && rc0 < 0 && rc1 < 0 && root[slot] == before, "L4 slot %u: %ld, %ld, %ld", slot, rc, rc0, rc1);
    }
    for (unsigned i = 0; i < 3; i++) {
        static const unsigned long va[] = {HYPERVISOR_VIRT_START, VA_HOLE, HYPERVISOR_VIRT_END - PAGE_SIZE};

        check_negative(update_va_mapping(va[i], make_pte(virt_to_mfn(scratch), PTE_RW), UVMF_INVLPG));
        check_negative(update_va_mapping(va[i], 0, UVMF_INVLPG));
    }
    check_negative(update_va_mapping(VA_NONCANONICAL, make_pte(virt_to_mfn(scratch), PTE_RW), UVMF_INVLPG));
    check_negative(update_va_mapping(VA_UNMAPPED, make_pte(virt_to_mfn(scratch), PTE_RW), UVMF_INVLPG));
    check(machine_to_phys_mapping[virt_to_mfn(scratch)] == virt_to_pfn(scratch), "the m2p is still there");
}

/* A new root whose hypervisor slots hold the guest's own entries: they must not stay. */
static void forged_root(void)
{
    uint64_t *root = page_alloc(), *l3 = page_alloc(), *l2 = page_alloc(), *l1 = page_alloc();
    uint64_t forged;
    long rc;

    l1[0] = make_pte(virt_to_mfn(scratch), PTE_RW);
    l2[0] = make_pte(virt_to_mfn(l1), PTE_TABLE);
    l3[0] = make_pte(virt_to_mfn(l2), PTE_TABLE);
    forged = make_pte(virt_to_mfn(l3), PTE_TABLE);
    for (unsigned i = 256; i < 272; i++)
        root[i] = forged;
    page_make_readonly(l1);
    page_make_readonly(l2);
    page_make_readonly(l3);
    page_make_readonly(root);
    rc = mmuext(MMUEXT_PIN_L4_TABLE, virt_to_mfn(root), 0);
    if (rc == 0) {
        unsigned kept = 0;

        for (unsigned i = 256; i < 272; i++)
            kept += (root[i] & PTE_MFN_MASK) == (forged & PTE_MFN_MASK);
        check(kept == 0, "a pinned root keeps %u forged slots", kept);
        check_equal(mmuext(MMUEXT_UNPIN_TABLE, virt_to_mfn(root), 0), 0);
    } else
        check(rc < 0, "a root with forged slots: %ld", rc);
    check(page_set_flags(l3, PTE_RW) == 0, "the forged slots hold no reference");
}

static void reserved_bits(void)
{
    uint64_t *l2 = entry_of(kernel_root, TEST_VA, 2), *l3 = entry_of(kernel_root, TEST_VA, 3),
             *l4 = entry_of(kernel_root, TEST_VA, 4);

    attempt("2 MiB page", l2 + 1, (make_pte(virt_to_mfn(scratch), PTE_RW) & ~0x1ff000UL) | PTE_PSE);
    attempt("2 MiB page, read-only", l2 + 1, (make_pte(virt_to_mfn(scratch), PTE_RO) & ~0x1ff000UL) | PTE_PSE);
    attempt("2 MiB page at 0", l2 + 1, PTE_RW | PTE_PSE);
    attempt("1 GiB page", l3 + 1, PTE_RW | PTE_PSE);
    attempt("PSE in an L4 entry", l4 + 1, *l4 | PTE_PSE);
    attempt("PSE in an L3 entry", l3 + 1, *l3 | PTE_PSE);
    attempt("PSE in an L2 entry", l2 + 1, *l2 | PTE_PSE);
    attempt("a table read past the caches: PCD in an L2 entry", l2, *l2 | PTE_PCD);
    attempt("... PWT in an L3 entry", l3, *l3 | PTE_PWT);
    attempt("... PCD in an L4 entry", l4, *l4 | PTE_PCD);
    if (kit_is_child()) { /* domain 0 has devices: it may */
        attempt("a page past the caches: PCD", victim, make_pte(virt_to_mfn(scratch), PTE_RW | PTE_PCD));
        attempt("... PWT, read-only", victim, make_pte(virt_to_mfn(scratch), PTE_RO | PTE_PWT));
        attempt("... PAT", victim, make_pte(virt_to_mfn(scratch), PTE_RW | PTE_PSE));
        attempt("... of a page table", victim, make_pte(virt_to_mfn(l2), PTE_RO | PTE_PCD));
    }
    for (unsigned bit = 40; bit < 52; bit++)
        attempt("an address bit above the width", victim, make_pte(virt_to_mfn(scratch), PTE_RW) | 1UL << bit);
    for (unsigned bit = 40; bit < 52; bit += 11)
        attempt("... in an L2 entry", l2 + 1, *l2 | 1UL << bit);
}

/* In these the level of the frame does not fit the level of the entry. */
static void wrong_levels(void)
{
    uint64_t *entry[5];
    unsigned long table[5]; /* mfn of the table of each level */

    for (int l = 1; l <= 4; l++) {
        entry[l] = entry_of(kernel_root, TEST_VA, l) + 1;
        table[l] = virt_to_mfn((void *)((unsigned long)entry[l] & PAGE_MASK));
    }
    attempt("L2 entry -> data page in use", entry[2], make_pte(virt_to_mfn(scratch), PTE_TABLE));
    attempt("L2 entry -> L2 table", entry[2], make_pte(table[2], PTE_TABLE));
    attempt("L2 entry -> L3 table", entry[2], make_pte(table[3], PTE_TABLE));
    attempt("L2 entry -> L4 table", entry[2], make_pte(table[4], PTE_TABLE));
    attempt("L3 entry -> L1 table", entry[3], make_pte(table[1], PTE_TABLE));
    attempt("L3 entry -> L3 table", entry[3], make_pte(table[3], PTE_TABLE));
    attempt("L3 entry -> L4 table", entry[3], make_pte(table[4], PTE_TABLE));
    attempt("L4 entry -> L1 table", entry[4], make_pte(table[1], PTE_TABLE));
    attempt("L4 entry -> L2 table", entry[4], make_pte(table[2], PTE_TABLE));
    attempt("L4 entry -> itself, writable", entry[4], make_pte(table[4], PTE_TABLE));
    attempt("L4 entry -> data page in use", entry[4], make_pte(virt_to_mfn(scratch), PTE_TABLE));

    for (unsigned pin = MMUEXT_PIN_L1_TABLE; pin <= MMUEXT_PIN_L4_TABLE; pin++) {
        long rc;

        for (unsigned l = 1; l <= 4; l++) {
            if (l == pin + 1)
                continue;
            rc = mmuext(pin, table[l], 0);
            check(rc < 0, "an L%u pinned as L%u: %ld", l, pin + 1, rc);
        }
        rc = mmuext(pin, virt_to_mfn(scratch), 0);
        check(rc < 0, "a writable page pinned as L%u: %ld", pin + 1, rc);
        rc = mmuext(pin, start_info->shared_info >> 12, 0);
        check(rc < 0, "the shared info page pinned as L%u: %ld", pin + 1, rc);
    }
    check_negative(mmuext(MMUEXT_UNPIN_TABLE, virt_to_mfn(scratch), 0));
    check_negative(mmuext(MMUEXT_UNPIN_TABLE, table[1], 0));
    check_negative(mmuext(MMUEXT_UNPIN_TABLE, table[2], 0));
    check_negative(mmuext(MMUEXT_UNPIN_TABLE, table[3], 0));
    check_negative(mmuext(MMUEXT_NEW_BASEPTR, virt_to_mfn(scratch), 0));
    check_negative(mmuext(MMUEXT_NEW_BASEPTR, table[3], 0));
    check_negative(mmuext(MMUEXT_NEW_BASEPTR, table[1], 0));
    check_negative(mmuext(MMUEXT_NEW_USER_BASEPTR, virt_to_mfn(scratch), 0));
    check_negative(mmuext(MMUEXT_NEW_USER_BASEPTR, table[2], 0));
    check_negative(mmuext(MMUEXT_NEW_BASEPTR, start_info->shared_info >> 12, 0));
}

/* Tables with a bad entry deep inside are not taken, and leave no reference behind. */
static void bad_inside(void)
{
    uint64_t *l4 = page_alloc(), *l3 = page_alloc(), *l2 = page_alloc(), *l1 = page_alloc();
    const uint64_t bad[] = {make_pte(virt_to_mfn(pte_of(TEST_VA)), PTE_RW), make_pte(1UL << 36, PTE_RW),
                            make_pte(0x200, PTE_RW), make_pte(virt_to_mfn(l1), PTE_RW)};

    l4[3] = make_pte(virt_to_mfn(l3), PTE_TABLE);
    l3[3] = make_pte(virt_to_mfn(l2), PTE_TABLE);
    l2[3] = make_pte(virt_to_mfn(l1), PTE_TABLE);
    l1[0] = make_pte(virt_to_mfn(scratch), PTE_RW);
    page_make_readonly(l4);
    page_make_readonly(l3);
    page_make_readonly(l2);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        page_make_writable(l1);
        l1[511] = bad[i];
        page_make_readonly(l1);
        check_negative(mmuext(MMUEXT_PIN_L4_TABLE, virt_to_mfn(l4), 0));
        check_negative(mmuext(MMUEXT_PIN_L1_TABLE, virt_to_mfn(l1), 0));
        check_negative(mmuext(MMUEXT_NEW_USER_BASEPTR, virt_to_mfn(l4), 0));
        check_negative(mmuext(MMUEXT_NEW_BASEPTR, virt_to_mfn(l4), 0));
    }
    check(page_set_flags(l1, PTE_RW) == 0 && page_set_flags(l2, PTE_RW) == 0 && page_set_flags(l3, PTE_RW) == 0 &&
              page_set_flags(l4, PTE_RW) == 0,
          "no references are left");
    /* Mapped writable somewhere: no table. */
    l1[511] = 0;
    page_make_readonly(l2);
    page_make_readonly(l3);
    page_make_readonly(l4);
    check_negative(mmuext(MMUEXT_PIN_L4_TABLE, virt_to_mfn(l4), 0));
    check(page_set_flags(l2, PTE_RW) == 0 && page_set_flags(l3, PTE_RW) == 0, "no references are left, a second time");
    /* A table that maps itself writable. */
    l1[0] = make_pte(virt_to_mfn(l1), PTE_RW);
    page_make_readonly(l1);
    check_negative(mmuext(MMUEXT_PIN_L1_TABLE, virt_to_mfn(l1), 0));
}

/*
 * Tables in cycles. Read-only linear tables are legal in the ABI (a hypervisor may refuse them); writable ones
 * never.
 */
static void cycles(void)
{
    uint64_t *root = mfn_to_virt(kernel_root), *l3 = table_alloc(), *l2 = table_alloc();
    long rc = mmu_write(&root[300], make_pte(kernel_root, PTE_RO | PTE_U));

    if (rc == 0) {
        volatile uint64_t *linear =
            (uint64_t *)(0xffff000000000000UL | 300UL << 39 | 300UL << 30 | 300UL << 21 | 300UL << 12);
        struct regs r = trap_of(touch, (void *)&linear[310]);

        check(linear[511] == root[511], "a linear table shows the root");
        check(r.vector == 14 && root[310] == 0, "and is read-only: trap %lu", r.vector);
        check_equal(mmu_write(&root[300], 0), 0);
        mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0);
    } else
        check(rc < 0, "read-only linear tables are refused: %ld", rc);

    check_equal(mmuext(MMUEXT_PIN_L3_TABLE, virt_to_mfn(l3), 0), 0);
    check_equal(mmuext(MMUEXT_PIN_L2_TABLE, virt_to_mfn(l2), 0), 0);
    attempt("L3 table in itself", &l3[0], make_pte(virt_to_mfn(l3), PTE_TABLE));
    attempt("L2 table in itself", &l2[0], make_pte(virt_to_mfn(l2), PTE_TABLE));
    check_equal(mmu_write(&l3[1], make_pte(virt_to_mfn(l2), PTE_TABLE)), 0);
    attempt("L3 table below its L2", &l2[0], make_pte(virt_to_mfn(l3), PTE_TABLE));
    check_equal(mmu_write(&l3[1], 0), 0);
    check_equal(mmuext(MMUEXT_UNPIN_TABLE, virt_to_mfn(l3), 0), 0);
    check_equal(mmuext(MMUEXT_UNPIN_TABLE, virt_to_mfn(l2), 0), 0);
    check(page_set_flags(l3, PTE_RW) == 0 && page_set_flags(l2, PTE_RW) == 0, "both are free again");
}

/* Direct stores to a level 1 table with bad values, sizes and alignments. */
static void store_bad_frame(void *p) { *(volatile uint64_t *)p = make_pte(virt_to_mfn(pte_of(TEST_VA)), PTE_RW); }

static void store_foreign(void *p) { *(volatile uint64_t *)p = make_pte(0x200, PTE_RW); }

static void store_beyond(void *p) { *(volatile uint64_t *)p = make_pte(1UL << 36, PTE_RW); }

static void store_across(void *p) { *(volatile uint64_t *)((uintptr_t)p + 4) = make_pte(virt_to_mfn(scratch), PTE_RW); }

static void store_sse(void *p) { asm volatile("movups %%xmm0, (%0)" : : "r"(p) : "memory"); }

static void store_cmpxchg16(void *p)
{
    uint64_t *pair = (uint64_t *)((uintptr_t)p & ~15UL);

    asm volatile("lock cmpxchg16b (%0)" : : "r"(pair), "a"(pair[0]), "d"(pair[1]), "b"(0x5000), "c"(0x6000) : "memory");
}

static void store_cmpxchg_bad(void *p)
{
    uint64_t old = *(volatile uint64_t *)p;

    asm volatile("lock cmpxchgq %2, (%1)" : "+a"(old) : "r"(p), "r"(make_pte(kernel_root, PTE_RW)) : "memory");
}

static void store_or_writable(void *p) { asm volatile("lock orq $2, (%0)" : : "r"(p) : "memory"); }

static void emulated_stores(void)
{
    static const struct {
        const char *name;
        void (*f)(void *);
    } stores[] = {{"page table, writable", store_bad_frame},
                  {"frame of another", store_foreign},
                  {"frame beyond memory", store_beyond},
                  {"across two entries", store_across},
                  {"16 bytes by SSE", store_sse},
                  {"16 bytes by cmpxchg16b", store_cmpxchg16},
                  {"cmpxchg of the root, writable", store_cmpxchg_bad}};
    uint64_t *pte = victim + 2; /* 16-byte aligned or not: cmpxchg16b takes the pair that contains it */
    uint64_t before[5];
    struct regs r;

    asm volatile("pcmpeqd %%xmm0, %%xmm0" : : : "memory");
    mmu_write(pte, make_pte(virt_to_mfn(scratch), PTE_RW));
    for (unsigned i = 0; i < sizeof(stores) / sizeof(stores[0]); i++) {
        memcpy(before, victim, sizeof(before));
        r = trap_of(stores[i].f, pte);
        check(r.vector == 14 || r.vector == 13, "store of %s: trap %lu", stores[i].name, r.vector);
        check(memcmp(before, victim, sizeof(before)) == 0, "... without effect");
    }
    /* Read-only to a table, made writable by setting the bit. */
    check_equal(mmu_write(pte, make_pte(virt_to_mfn(pte), PTE_RO)), 0);
    r = trap_of(store_or_writable, pte);
    check(r.vector == 14 && (*(volatile uint64_t *)pte & PTE_W) == 0,
          "lock or of the writable bit: trap %lu, entry %lx", r.vector, *pte);
    check_equal(mmu_write(pte, 0), 0);
}

static void other_domains(void)
{
    struct mmu_update u = {.ptr = virt_to_machine(victim), .val = make_pte(virt_to_mfn(scratch), PTE_RW)};
    struct mmuext_op op = {.cmd = MMUEXT_PIN_L1_TABLE, .arg1 = {virt_to_mfn(scratch)}};

    check_negative(mmu_update(&u, 1, NULL, 1234));
    check_negative(mmu_update(&u, 1, NULL, DOMID_INVALID));
    check_negative(mmu_update(&u, 1, NULL, DOMID_IDLE));
    check_negative(mmu_update(&u, 1, NULL, DOMID_SELF | 1235 << 16));
    check_negative(mmuext_op(&op, 1, NULL, 1234));
    check_negative(mmuext_op(&op, 1, NULL, DOMID_IDLE));
    check_negative(update_va_mapping_otherdomain(TEST_VA, u.val, UVMF_INVLPG, 1234));
    check_equal(mmu_write(victim, 0), 0); /* so that nothing can be taken for a small change of the same mapping */
    /* As I/O memory, own RAM and the hypervisor's RAM are out of reach. */
    check_negative(mmu_update(&u, 1, NULL, DOMID_IO));
    u.val = make_pte(0x200, PTE_RW);
    check_negative(mmu_update(&u, 1, NULL, DOMID_IO));
    /* The hypervisor's shared frames may be read, never written. */
    check_negative(mmu_update(&u, 1, NULL, DOMID_XEN));
    u.val = make_pte(virt_to_mfn(scratch), PTE_RW);
    check_negative(mmu_update(&u, 1, NULL, DOMID_XEN));
    check_equal(mmu_update(&u, 1, NULL, DOMID_SELF), 0);
}

static void odd_requests(void)
{
    struct mmu_update u = {.ptr = virt_to_machine(victim), .val = make_pte(virt_to_mfn(scratch), PTE_RW)};
    long rc;

    for (unsigned bits = 4; bits < 8; bits++) {
        rc = mmu_write_machine(virt_to_machine(victim) | bits, make_pte(kernel_root, PTE_RW));
        check(rc < 0, "mmu_update, command %u: %ld", bits, rc);
    }
    rc = mmu_write_machine(virt_to_machine(scratch) + 8, make_pte(kernel_root, PTE_RW));
    check(rc < 0 || scratch[1] == make_pte(kernel_root, PTE_RW), "mmu_update of a plain page: %ld", rc);
    scratch[1] = 0;
    rc = mmu_write_machine(start_info->shared_info & PAGE_MASK, 0);
    check(rc <= 0, "mmu_update of shared_info: %ld", rc);
    for (unsigned cmd = 0; cmd < 40; cmd++)
        if (cmd == 14 || cmd > MMUEXT_UNMARK_SUPER) {
            rc = mmuext(cmd, virt_to_mfn(scratch), 0);
            check_quiet(rc < 0, "mmuext %u: %ld", cmd, rc);
        }
    check_negative(mmuext(~0U, 0, 0));
    check_negative(mmuext(MMUEXT_MARK_SUPER, virt_to_mfn(scratch) & ~511UL, 0));
    check_negative(mmuext(MMUEXT_SET_LDT, TEST_VA + 8, 1));
    check_negative(mmuext(MMUEXT_SET_LDT, TEST_VA, 8193));
    check_negative(mmuext(MMUEXT_SET_LDT, VA_HOLE, 1));
    rc = update_va_mapping(TEST_VA, u.val, UVMF_FLUSHTYPE_MASK);
    check(rc <= 0, "update_va_mapping with both kinds of flush: %ld", rc);
    check_negative(update_va_mapping(TEST_VA, u.val, UVMF_INVLPG | (VA_UNMAPPED & ~7UL)));
    check_negative(update_va_mapping(TEST_VA, u.val, UVMF_INVLPG | VA_HOLE));
    mmuext(MMUEXT_INVLPG_LOCAL, VA_HOLE, 0);
    mmuext(MMUEXT_INVLPG_LOCAL, VA_NONCANONICAL, 0);
    mmuext(MMUEXT_INVLPG_ALL, VA_HOLE, 0);
    check(true, "invlpg of odd addresses");
    check_equal(mmu_write(victim, make_pte(virt_to_mfn(scratch), PTE_RW)), 0);
}

static void wrmsr_hypercall_page(void *address)
{
    asm volatile("wrmsr" : : "a"((uint32_t)U(address)), "d"((uint32_t)(U(address) >> 32)), "c"(0x40000000));
}

/* Whatever writes into a frame that is named by its number, or trades it: not while it is a page table. */
static void written_by_its_number(void)
{
    uint64_t *table = page_alloc(), good;
    unsigned long mfn = virt_to_mfn(table);
    xen_pfn_t in = mfn, out = virt_to_pfn(table);
    struct xen_memory_exchange x = {.in = {.nr_extents = 1, .domid = DOMID_SELF},
                                    .out = {.nr_extents = 1, .domid = DOMID_SELF}};
    struct gnttab_transfer transfer = {.mfn = mfn, .domid = DOMID_SELF};
    struct gnttab_copy copy = {.source = {.u.gmfn = virt_to_mfn(scratch), .domid = DOMID_SELF},
                               .dest = {.u.gmfn = mfn, .domid = DOMID_SELF},
                               .len = 8};
    struct vcpu_register_vcpu_info info = {.mfn = mfn};
    struct evtchn_init_control control = {.control_gfn = mfn};
    struct evtchn_expand_array array = {.array_gfn = mfn};

    table[0] = make_pte(virt_to_mfn(scratch), PTE_RW);
    set_xen_guest_handle(x.in.extent_start, &in);
    set_xen_guest_handle(x.out.extent_start, &out);
    page_make_readonly(table);
    check_equal(mmuext(MMUEXT_PIN_L1_TABLE, mfn, 0), 0);
    good = *(volatile uint64_t *)table;            /* with the bits that Croft adds */
    for (unsigned round = 0; round < 2; round++) { /* then as a table that is in use, not pinned */
        check_negative(memory_op(XENMEM_exchange, &x));
        check(grant_table_op(GNTTABOP_transfer, &transfer, 1) < 0 || transfer.status < 0, "transfer: %d",
              transfer.status);
        check(grant_table_op(GNTTABOP_copy, &copy, 1) < 0 || copy.status < 0, "copy: %d", copy.status);
        check_negative(mmuext(MMUEXT_CLEAR_PAGE, mfn, 0));
        check_negative(mmuext(MMUEXT_COPY_PAGE, mfn, virt_to_mfn(scratch)));
        check(trapped(wrmsr_hypercall_page, (void *)(mfn << 12), NULL), "a hypercall page by its MSR");
        check_negative(vcpu_op(VCPUOP_register_vcpu_info, 0, &info));
        check_negative(event_channel_op(EVTCHNOP_init_control, &control));
        check_negative(event_channel_op(EVTCHNOP_expand_array, &array));
        check_negative(set_gdt(&mfn, 16));
        check_negative(update_descriptor(mfn << 12, 0));
        check_negative(xen_version(XENVER_extraversion, table));
        check(table[0] == good && table[1] == 0, "the table is as it was: %lx, %lx", table[0], table[1]);
        check_negative(page_set_flags(table, PTE_RW));
        if (round == 0) {
            check_equal(mmu_write(entry_of(kernel_root, TEST_VA, 2) + 7, make_pte(mfn, PTE_TABLE)), 0);
            check_equal(mmuext(MMUEXT_UNPIN_TABLE, mfn, 0), 0);
        }
    }
    check_equal(mmu_write(entry_of(kernel_root, TEST_VA, 2) + 7, 0), 0);
    mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0);
    check_equal(page_set_flags(table, PTE_RW), 0);
}

GUEST("pt_hostile")
{
    scratch = page_alloc();
    map_page(TEST_VA, make_pte(virt_to_mfn(scratch), PTE_RW));
    victim = pte_of(TEST_VA);
    survey();
    page_tables_writable();
    foreign_frames();
    frames_beyond();
    the_hole();
    forged_root();
    reserved_bits();
    wrong_levels();
    bad_inside();
    cycles();
    emulated_stores();
    other_domains();
    odd_requests();
    written_by_its_number();
    scratch[0] = 1;
    mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0);
    check(*(volatile uint64_t *)TEST_VA == 1, "in the end TEST_VA still maps its page");
}
