/* run: beside=yes */
/* The page-table work that kernels do every day: all of it must be allowed, and have just the effect it should. */
#include "kit.h"

static bool writable(void *page) { return page_set_flags(page, PTE_RW) == 0; }

static void touch(void *p) { *(volatile uint64_t *)p = 0x1234567; }

static void look(void *p) { (void)*(volatile uint64_t *)p; }

static void pinning(void)
{
    static const unsigned pin[5] = {0, MMUEXT_PIN_L1_TABLE, MMUEXT_PIN_L2_TABLE, MMUEXT_PIN_L3_TABLE,
                                    MMUEXT_PIN_L4_TABLE};
    uint64_t *table[5];
    uint64_t *data = page_alloc();

    for (int l = 1; l <= 4; l++)
        table[l] = page_alloc();
    table[1][5] = make_pte(virt_to_mfn(data), PTE_RW);
    table[1][6] = make_pte(virt_to_mfn(data), PTE_RO);
    table[1][511] = 0xabcdef000; /* not present: anything */
    for (int l = 2; l <= 4; l++) {
        table[l][7] = make_pte(virt_to_mfn(table[l - 1]), PTE_TABLE);
        table[l][8] = make_pte(virt_to_mfn(table[l - 1]), PTE_TABLE); /* shared */
    }
    for (int l = 1; l <= 4; l++)
        page_make_readonly(table[l]);
    for (int l = 1; l <= 4; l++) {
        check(mmuext(pin[l], virt_to_mfn(table[l]), 0) == 0, "pin L%d", l);
        check_equal(mmuext(pin[l], virt_to_mfn(table[l]), 0), -EINVAL);
        check(!writable(table[l]), "a pinned L%d cannot become writable", l);
        check(l == 1 || !writable(table[1]), "nor can the L1 below it");
    }
    for (int l = 1; l <= 4; l++) {
        check(mmuext(MMUEXT_UNPIN_TABLE, virt_to_mfn(table[l]), 0) == 0, "unpin L%d", l);
        check_equal(mmuext(MMUEXT_UNPIN_TABLE, virt_to_mfn(table[l]), 0), -EINVAL);
        check(l == 4 || !writable(table[l]), "L%d is still held by the level above", l);
    }
    for (int l = 1; l <= 4; l++)
        check(writable(table[l]), "L%d can be writable again", l);
    touch(table[4]);
    check(table[1][511] == 0xabcdef000, "not-present entries keep their bits");
}

/* Many references to few tables, in all levels: counts, not copies. */
static void shared_tables(void)
{
    uint64_t *l4 = page_alloc(), *l3 = page_alloc(), *l2 = page_alloc(), *l1 = page_alloc(), *data = page_alloc();

    for (unsigned i = 0; i < 512; i++) {
        l1[i] = make_pte(virt_to_mfn(data), i & 1 ? PTE_RW : PTE_RO);
        l2[i] = make_pte(virt_to_mfn(l1), PTE_TABLE);
        l3[i] = make_pte(virt_to_mfn(l2), PTE_TABLE);
        if (i < 256)
            l4[i] = make_pte(virt_to_mfn(l3), PTE_TABLE);
    }
    page_make_readonly(l1);
    page_make_readonly(l2);
    page_make_readonly(l3);
    page_make_readonly(l4);
    check_equal(mmuext(MMUEXT_PIN_L4_TABLE, virt_to_mfn(l4), 0), 0);
    check_equal(mmuext(MMUEXT_UNPIN_TABLE, virt_to_mfn(l4), 0), 0);
    check(writable(l1) && writable(l2) && writable(l3) && writable(l4) && writable(data), "all free again");
}

static void updates(void)
{
    uint64_t *a = page_alloc(), *b = page_alloc();
    volatile uint64_t *va = (uint64_t *)TEST_VA;
    struct mmu_update u[3];
    unsigned done = 0;
    uint64_t *pte;
    long rc;

    a[0] = 0xa;
    b[0] = 0xb;
    map_page(TEST_VA, make_pte(virt_to_mfn(a), PTE_RW));
    check(*va == 0xa, "a new mapping shows the page");
    pte = pte_of(TEST_VA);
    u[0].ptr = virt_to_machine(pte);
    u[0].val = make_pte(virt_to_mfn(b), PTE_P);
    u[1].ptr = virt_to_machine(pte + 1);
    u[1].val = make_pte(virt_to_mfn(a), PTE_RW);
    u[2].ptr = virt_to_machine(pte + 2);
    u[2].val = 0x1110; /* not present */
    check_equal(mmu_update(u, 3, &done, DOMID_SELF), 0);
    check(done == 3, "done is %u", done);
    check_equal(mmuext(MMUEXT_INVLPG_LOCAL, TEST_VA, 0), 0);
    check(*va == 0xb && va[512] == 0xa, "both new mappings are there");
    check(pte[2] == 0x1110, "a not-present entry reads back");
    check(trapped(touch, (void *)va, NULL), "the read-only one cannot be written");

    check_equal(
        mmu_write_machine(virt_to_machine(pte + 1) | MMU_PT_UPDATE_NO_TRANSLATE, make_pte(virt_to_mfn(a), PTE_RW)), 0);

    /* Accessed and dirty */
    check_equal(mmu_write(pte, make_pte(virt_to_mfn(a), PTE_P | PTE_W)), 0);
    mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0);
    check((*pte & (PTE_A | PTE_D)) == 0, "A and D are clear after a normal update");
    look((void *)va);
    check((*(volatile uint64_t *)pte & (PTE_A | PTE_D)) == PTE_A, "reading sets A");
    touch((void *)va);
    check((*(volatile uint64_t *)pte & (PTE_A | PTE_D)) == (PTE_A | PTE_D), "writing sets D");
    rc = mmu_write_machine(virt_to_machine(pte) | MMU_PT_UPDATE_PRESERVE_AD, make_pte(virt_to_mfn(a), PTE_P));
    check(rc == 0 && (*pte & (PTE_A | PTE_D | PTE_W)) == (PTE_A | PTE_D), "a preserving update keeps A and D: %ld, %lx",
          rc, *pte);
    check_equal(mmu_write(pte, make_pte(virt_to_mfn(a), PTE_P)), 0);
    check((*(volatile uint64_t *)pte & (PTE_A | PTE_D)) == 0, "a normal update clears them");

    /* Software bits, cache attributes, NX */
    check_equal(mmu_write(pte, make_pte(virt_to_mfn(a), PTE_RW | 0xe00)), 0);
    check((*pte & 0xe00) == 0xe00, "bits 9-11 are the guest's");
    check_equal(mmu_write(pte, make_pte(virt_to_mfn(a), PTE_RW | PTE_NX)), 0);
    check((*pte & PTE_NX) != 0, "NX reads back");
    check_equal(mmu_write(pte, make_pte(virt_to_mfn(a), PTE_RW)), 0);

    /* An error in the middle stops there. */
    u[0].val = make_pte(virt_to_mfn(b), PTE_RW);
    u[1].val = make_pte(virt_to_mfn(pte), PTE_RW); /* a page table, writable */
    u[2].val = 0x2220;
    done = 0;
    check_negative(mmu_update(u, 3, &done, DOMID_SELF));
    check(done == 1, "done is %u", done);
    check(pte[2] == 0x1110 && (pte[1] & PTE_MFN_MASK) >> 12 == virt_to_mfn(a), "the rest is untouched");
    mmuext(MMUEXT_INVLPG_LOCAL, TEST_VA, 0);
    check(*va == 0xb, "the first was done");
    mmu_write(pte + 1, 0);
    mmu_write(pte + 2, 0);
}

static void machine_to_physical(void)
{
    void *page = page_alloc();
    unsigned long mfn = virt_to_mfn(page), pfn = virt_to_pfn(page);

    check_equal(mmu_write_machine(mfn << 12 | MMU_MACHPHYS_UPDATE, 0x12345), 0);
    check(((volatile unsigned long *)machine_to_phys_mapping)[mfn] == 0x12345, "the m2p changed");
    check_equal(mmu_write_machine(mfn << 12 | MMU_MACHPHYS_UPDATE, pfn), 0);
    check(((volatile unsigned long *)machine_to_phys_mapping)[mfn] == pfn, "and back");
}

static void flush_kinds(void)
{
    static uint64_t vcpus[1] = {1};
    uint64_t *page[2] = {page_alloc(), page_alloc()};
    volatile uint64_t *va = (uint64_t *)TEST_VA;
    const struct {
        const char *name;
        unsigned long flags;
    } kinds[] = {
        {"INVLPG local", UVMF_INVLPG | UVMF_LOCAL},
        {"INVLPG all", UVMF_INVLPG | UVMF_ALL},
        {"INVLPG multi", UVMF_INVLPG | (unsigned long)vcpus},
        {"TLB_FLUSH local", UVMF_TLB_FLUSH | UVMF_LOCAL},
        {"TLB_FLUSH all", UVMF_TLB_FLUSH | UVMF_ALL},
        {"TLB_FLUSH multi", UVMF_TLB_FLUSH | (unsigned long)vcpus},
    };
    struct mmuext_op op;
    long rc;

    page[0][0] = 100;
    page[1][0] = 101;
    for (unsigned i = 0; i < 2 * sizeof(kinds) / sizeof(kinds[0]); i++) {
        rc = update_va_mapping(TEST_VA, make_pte(virt_to_mfn(page[i & 1]), PTE_RW), kinds[i / 2].flags);
        check(rc == 0 && *va == 100 + (i & 1), "update_va_mapping, %s: %ld, sees %lu", kinds[i / 2].name, rc, *va);
    }
    for (unsigned i = 0; i < 12; i++) {
        static const unsigned commands[] = {MMUEXT_TLB_FLUSH_LOCAL, MMUEXT_INVLPG_LOCAL,  MMUEXT_TLB_FLUSH_MULTI,
                                            MMUEXT_INVLPG_MULTI,    MMUEXT_TLB_FLUSH_ALL, MMUEXT_INVLPG_ALL};

        rc = update_va_mapping(TEST_VA, make_pte(virt_to_mfn(page[i & 1]), PTE_RW), UVMF_NONE);
        check_quiet(rc == 0, "update_va_mapping without flush: %ld", rc);
        op.cmd = commands[i / 2];
        op.arg1.linear_addr = TEST_VA;
        op.arg2.vcpumask.p = vcpus;
        rc = mmuext_op(&op, 1, NULL, DOMID_SELF);
        check(rc == 0 && *va == 100 + (i & 1), "mmuext %u: %ld, sees %lu", op.cmd, rc, *va);
    }
    vcpus[0] = ~0UL; /* vcpus that do not exist are no error */
    check_equal(update_va_mapping(TEST_VA, make_pte(virt_to_mfn(page[0]), PTE_RW), UVMF_INVLPG | (unsigned long)vcpus),
                0);
    rc = mmuext(MMUEXT_FLUSH_CACHE, 0, 0);
    check(rc == 0 || rc < 0, "flush_cache: %ld", rc);
}

static void page_operations(void)
{
    uint8_t *a = page_alloc(), *b = page_alloc();
    bool same = true;

    for (unsigned i = 0; i < PAGE_SIZE; i++)
        a[i] = (uint8_t)(i * 7);
    check_equal(mmuext(MMUEXT_COPY_PAGE, virt_to_mfn(b), virt_to_mfn(a)), 0);
    check(memcmp(a, b, PAGE_SIZE) == 0, "copy_page copies");
    check_equal(mmuext(MMUEXT_CLEAR_PAGE, virt_to_mfn(a), 0), 0);
    for (unsigned i = 0; i < PAGE_SIZE; i++)
        same &= a[i] == 0 && b[i] == (uint8_t)(i * 7);
    check(same, "clear_page clears that page only");
    page_make_readonly(a);
    check_equal(mmuext(MMUEXT_COPY_PAGE, virt_to_mfn(b), virt_to_mfn(a)), 0); /* a read-only source will do */
    check(b[77] == 0, "copied from a read-only page");
}

/* Stores to a level 1 table through its read-only mapping are emulated, whatever instruction makes them. */
static uint64_t *ptw_pte;
static uint64_t ptw_page[2];
static uint64_t seen;

static void ptw_mov(void *p)
{
    asm volatile("movq %1, (%0)" : : "r"(p), "r"(make_pte(ptw_page[1], PTE_RW)) : "memory");
}

static void ptw_mov_zero(void *p) { asm volatile("movq $0, (%0)" : : "r"(p) : "memory"); }

static void ptw_xchg(void *p)
{
    seen = make_pte(ptw_page[1], PTE_RO);
    asm volatile("xchgq %1, (%0)" : : "r"(p), "r"(seen) : "memory");
}

static void ptw_cmpxchg(void *p)
{
    uint64_t old = *(volatile uint64_t *)p;
    uint8_t equal;

    asm volatile("lock cmpxchgq %3, (%2); sete %1"
                 : "+a"(old), "=q"(equal)
                 : "r"(p), "r"(make_pte(ptw_page[1], PTE_RW))
                 : "memory");
    seen = equal;
}

static void ptw_cmpxchg_fails(void *p)
{
    uint64_t old = 0x5555000;
    uint8_t equal;

    asm volatile("lock cmpxchgq %3, (%2); sete %1" : "+a"(old), "=q"(equal) : "r"(p), "r"(0UL) : "memory");
    seen = !equal && old == *(volatile uint64_t *)p;
}

static void ptw_or(void *p) { asm volatile("lock orq $0x200, (%0)" : : "r"(p) : "memory"); }

static void ptw_and(void *p) { asm volatile("lock andq $~0x2, (%0)" : : "r"(p) : "memory"); }

static void ptw_btr(void *p) { asm volatile("lock btrq $1, (%0)" : : "r"(p) : "memory"); }

static void ptw_bts(void *p) { asm volatile("lock btsq $10, (%0)" : : "r"(p) : "memory"); }

static void ptw_xadd(void *p) { asm volatile("lock xaddq %1, (%0)" : : "r"(p), "r"(0x200UL) : "memory"); }

static void ptw_stos(void *p) { asm volatile("stosq" : "+D"(p) : "a"(make_pte(ptw_page[1], PTE_RO)) : "memory"); }

static void ptw_indexed(void *p)
{
    asm volatile("movq %2, -0x1000(%0, %1, 8)" : : "r"(p), "r"(0x200UL), "r"(make_pte(ptw_page[1], PTE_RW)) : "memory");
}

static void ptw_absent(void *p) { asm volatile("movq %1, (%0)" : : "r"(p), "r"(0x7fff000UL << 1) : "memory"); }

static void writable_tables(void)
{
    uint64_t *page[2] = {page_alloc(), page_alloc()};
    const uint64_t start = make_pte(virt_to_mfn(page[0]), PTE_RW), other = make_pte(virt_to_mfn(page[1]), 0);
    const struct {
        const char *name;
        void (*f)(void *);
        uint64_t result;
    } stores[] = {
        {"mov", ptw_mov, other | PTE_RW},
        {"mov immediate 0", ptw_mov_zero, 0},
        {"xchg", ptw_xchg, other | PTE_RO},
        {"lock cmpxchg", ptw_cmpxchg, other | PTE_RW},
        {"lock cmpxchg that fails", ptw_cmpxchg_fails, start},
        {"lock or", ptw_or, start | 0x200},
        {"lock and", ptw_and, start & ~PTE_W},
        {"lock btr", ptw_btr, start & ~PTE_W},
        {"lock bts", ptw_bts, start | 0x400},
        {"lock xadd", ptw_xadd, start + 0x200},
        {"stos", ptw_stos, other | PTE_RO},
        {"mov with an index", ptw_indexed, other | PTE_RW},
        {"mov of a not-present entry", ptw_absent, 0x7fff000UL << 1},
    };

    ptw_page[0] = virt_to_mfn(page[0]);
    ptw_page[1] = virt_to_mfn(page[1]);
    page[0][0] = 50;
    page[1][0] = 51;
    check_equal(vm_assist(VMASST_CMD_enable, VMASST_TYPE_writable_pagetables), 0);
    map_page(TEST_VA, start);
    ptw_pte = pte_of(TEST_VA);
    for (unsigned i = 0; i < sizeof(stores) / sizeof(stores[0]); i++) {
        struct regs r;
        uint64_t got;

        check_quiet(mmu_write(ptw_pte, start) == 0, "resetting the entry");
        mmuext(MMUEXT_INVLPG_LOCAL, TEST_VA, 0);
        seen = 1;
        r = trap_of(stores[i].f, ptw_pte);
        /* The hypervisor may add bits of its own to a present entry of a guest kernel: user, global. */
        got = *(volatile uint64_t *)ptw_pte;
        if (got & PTE_P)
            got &= ~(PTE_U | PTE_G | 0x7ff0000000000000UL);
        check(r.vector == NO_TRAP && got == stores[i].result && seen != 0, "%s: trap %lu, entry %lx, wanted %lx",
              stores[i].name, r.vector, got, stores[i].result);
    }
    mmu_write(ptw_pte, start);
    mmuext(MMUEXT_INVLPG_LOCAL, TEST_VA, 0);
    *(volatile uint64_t *)ptw_pte = make_pte(virt_to_mfn(page[1]), PTE_RW);
    mmuext(MMUEXT_INVLPG_LOCAL, TEST_VA, 0);
    check(*(volatile uint64_t *)TEST_VA == 51, "an emulated store maps");
    /* The references move with it: the page that is no longer mapped can become a table, the mapped one cannot. */
    check_equal(mmu_write(ptw_pte, 0), 0);
    page_make_readonly(page[1]);
    page[0][0] = 0;
    page_make_readonly(page[0]);
    check_negative(mmuext(MMUEXT_PIN_L1_TABLE, virt_to_mfn(ptw_pte) + 0x10000000, 0));
    check_equal(mmuext(MMUEXT_PIN_L1_TABLE, virt_to_mfn(page[0]), 0), 0);
    check_equal(mmuext(MMUEXT_UNPIN_TABLE, virt_to_mfn(page[0]), 0), 0);
}

/* Another root: unpinned, then pinned; the processor runs on it, and the old one is free meanwhile. */
static void roots(void)
{
    uint64_t *old = mfn_to_virt(kernel_root), *fresh = page_alloc();
    unsigned long old_mfn = kernel_root;
    void *user = table_alloc();

    for (unsigned i = 0; i < 512; i++)
        if (i < 256 || i >= 272)
            fresh[i] = old[i];
    fresh[256] = fresh[271] = 0;
    page_make_readonly(fresh);
    check_equal(mmuext(MMUEXT_NEW_BASEPTR, virt_to_mfn(fresh), 0), 0);
    check(!writable(fresh), "a root in use is not writable");
    check(machine_to_phys_mapping[virt_to_mfn(fresh)] == virt_to_pfn(fresh), "the m2p is there on the new root");
    map_under(virt_to_mfn(fresh), TEST_VA2, make_pte(virt_to_mfn(page_alloc()), PTE_RW));
    check(!trapped(touch, (void *)TEST_VA2, NULL), "a mapping in the new root");
    check_equal(mmuext(MMUEXT_NEW_BASEPTR, old_mfn, 0), 0);
    check(trapped(touch, (void *)TEST_VA2, NULL), "is not in the old one");
    check(writable(fresh), "an unused, unpinned root can be writable");
    page_make_readonly(fresh);
    check_equal(mmuext(MMUEXT_PIN_L4_TABLE, virt_to_mfn(fresh), 0), 0);
    check_equal(mmuext(MMUEXT_NEW_BASEPTR, virt_to_mfn(fresh), 0), 0);
    check_equal(mmuext(MMUEXT_UNPIN_TABLE, virt_to_mfn(fresh), 0), 0);
    check(!writable(fresh), "unpinned but in use: not writable");
    check_equal(mmuext(MMUEXT_NEW_BASEPTR, old_mfn, 0), 0);
    check_equal(mmuext(MMUEXT_NEW_BASEPTR, old_mfn, 0), 0); /* the same again */
    check(writable(fresh), "free again");

    check_equal(mmuext(MMUEXT_NEW_USER_BASEPTR, virt_to_mfn(user), 0), 0);
    check(!writable(user), "a user root in use is not writable");
    check_equal(mmuext(MMUEXT_NEW_USER_BASEPTR, 0, 0), 0);
    check(writable(user), "after user baseptr 0 it is free");
}

static void batches(void)
{
    uint64_t *pages[8];
    struct multicall_entry m[20];
    struct mmuext_op op = {.cmd = MMUEXT_TLB_FLUSH_LOCAL};
    bool ok = true;

    memset(m, 0, sizeof(m));
    map_page(TEST_VA, 0);
    for (unsigned i = 0; i < 8; i++) {
        pages[i] = page_alloc();
        pages[i][0] = 900 + i;
        m[i].op = __HYPERVISOR_update_va_mapping;
        m[i].args[0] = TEST_VA + i * PAGE_SIZE;
        m[i].args[1] = make_pte(virt_to_mfn(pages[i]), PTE_RW);
        m[i].args[2] = UVMF_NONE;
        m[i].result = 77;
    }
    m[8].op = __HYPERVISOR_mmuext_op;
    m[8].args[0] = (unsigned long)&op;
    m[8].args[1] = 1;
    m[8].args[3] = DOMID_SELF;
    check_equal(multicall(m, 9), 0);
    for (unsigned i = 0; i < 9; i++)
        ok &= m[i].result == 0;
    check(ok, "all results are 0");
    for (unsigned i = 0; i < 8; i++)
        ok &= *(volatile uint64_t *)(TEST_VA + i * PAGE_SIZE) == 900 + i;
    check(ok, "eight mappings by one multicall");
    for (unsigned i = 0; i < 8; i++)
        update_va_mapping(TEST_VA + i * PAGE_SIZE, 0, UVMF_INVLPG);
    check(trapped(look, (void *)(TEST_VA + PAGE_SIZE), NULL), "and gone");
}

static void assists(void)
{
    static const unsigned known[] = {VMASST_TYPE_4gb_segments,        VMASST_TYPE_4gb_segments_notify,
                                     VMASST_TYPE_writable_pagetables, VMASST_TYPE_pae_extended_cr3,
                                     VMASST_TYPE_architectural_iopl,  VMASST_TYPE_runstate_update_flag,
                                     VMASST_TYPE_m2p_strict};

    for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        long on = vm_assist(VMASST_CMD_enable, known[i]), off = vm_assist(VMASST_CMD_disable, known[i]);

        bool optional = known[i] == VMASST_TYPE_4gb_segments_notify || known[i] == VMASST_TYPE_architectural_iopl ||
                        known[i] == VMASST_TYPE_m2p_strict;

        check((on == 0 && off == 0) || (optional && on == -EINVAL && off == -EINVAL), "vm_assist %u: %ld, %ld",
              known[i], on, off);
    }
    check_negative(vm_assist(VMASST_CMD_enable, 20));
    check_negative(vm_assist(VMASST_CMD_enable, 64));
    check_negative(vm_assist(VMASST_CMD_enable, ~0U));
    check_equal(vm_assist(7, VMASST_TYPE_writable_pagetables), -ENOSYS);
}

GUEST("pt_legal")
{
    pinning();
    shared_tables();
    updates();
    machine_to_physical();
    flush_kinds();
    page_operations();
    writable_tables();
    roots();
    batches();
    assists();
}
