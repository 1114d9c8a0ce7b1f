/* Pages, page tables and user mode. */
#include "kit.h"

#define POOL_PAGES 512

static uint8_t pool[POOL_PAGES][PAGE_SIZE] __attribute__((aligned(4096), section(".bss.pool")));
static unsigned pool_used, pool_size = POOL_PAGES;

unsigned long *p2m;
unsigned long kernel_root, user_root;
uint8_t *user_code_page, *user_data_page;

void *page_alloc(void)
{
    if (pool_used == pool_size)
        panic("out of pool pages");
    return pool[pool_used++];
}

void pool_reset(unsigned pages)
{
    pool_used = 0;
    pool_size = pages;
    user_root = 0;
}

void *mfn_to_virt(unsigned long mfn)
{
    unsigned long pfn, end = virt_to_pfn((void *)start_info->pt_base) + start_info->nr_pt_frames;

    if (mfn >= MACH2PHYS_NR_ENTRIES)
        return NULL;
    pfn = machine_to_phys_mapping[mfn];
    return pfn < end && p2m[pfn] == mfn ? (void *)(VIRT_BASE + pfn * PAGE_SIZE) : NULL;
}

uint64_t *entry_of(unsigned long root, unsigned long va, int level)
{
    unsigned long mfn = root;

    for (int l = 4;; l--) {
        uint64_t *table = mfn_to_virt(mfn);
        uint64_t *entry;

        if (table == NULL)
            return NULL;
        entry = &table[va >> (12 + 9 * (l - 1)) & 511];
        if (l == level)
            return entry;
        if ((*(volatile uint64_t *)entry & PTE_P) == 0)
            return NULL;
        mfn = (*(volatile uint64_t *)entry & PTE_MFN_MASK) >> 12;
    }
}

long mmu_write_machine(uint64_t pointer, uint64_t value)
{
    struct mmu_update u = {.ptr = pointer, .val = value};

    return mmu_update(&u, 1, NULL, DOMID_SELF);
}

long mmu_write(void *entry, uint64_t value) { return mmu_write_machine(virt_to_machine(entry), value); }

long mmuext(unsigned cmd, unsigned long arg1, unsigned long arg2)
{
    struct mmuext_op op = {.cmd = cmd};

    op.arg1.mfn = arg1;
    op.arg2.src_mfn = arg2;
    return mmuext_op(&op, 1, NULL, DOMID_SELF);
}

long page_set_flags(void *page, uint64_t flags)
{
    return update_va_mapping((unsigned long)page, make_pte(virt_to_mfn(page), flags), UVMF_INVLPG);
}

void page_make_readonly(void *page)
{
    long rc = page_set_flags(page, PTE_RO);

    if (rc != 0)
        panic("page %p read-only: %ld", page, rc);
}

void page_make_writable(void *page)
{
    long rc = page_set_flags(page, PTE_RW);

    if (rc != 0)
        panic("page %p writable: %ld", page, rc);
}

void *table_alloc(void)
{
    void *page = page_alloc();

    page_make_readonly(page);
    return page;
}

void map_under(unsigned long root, unsigned long va, uint64_t pte)
{
    long rc;

    for (int level = 4; level > 1; level--) {
        uint64_t *entry = entry_of(root, va, level);

        if (entry == NULL)
            panic("no table of level %d for %lx", level, va);
        if ((*(volatile uint64_t *)entry & PTE_P) == 0) {
            rc = mmu_write(entry, make_pte(virt_to_mfn(table_alloc()), PTE_TABLE));
            if (rc != 0)
                panic("new table below level %d for %lx: %ld", level, va, rc);
        }
    }
    rc = mmu_write(entry_of(root, va, 1), pte);
    if (rc != 0)
        panic("mapping %lx: %ld", va, rc);
}

void user_setup(void)
{
    uint64_t *root;
    long rc;

    if (user_root != 0)
        return;
    user_code_page = page_alloc();
    user_data_page = page_alloc();
    map_page(USER_CODE, make_pte(virt_to_mfn(user_code_page), PTE_USER_RO));
    map_page(USER_DATA, make_pte(virt_to_mfn(user_data_page), PTE_USER_RW | PTE_NX));
    root = table_alloc();
    user_root = virt_to_mfn(root);
    rc = mmuext(MMUEXT_PIN_L4_TABLE, user_root, 0);
    if (rc != 0)
        panic("pinning the user root: %ld", rc);
    rc = mmu_write(entry_of(user_root, USER_CODE, 4), *entry_of(kernel_root, USER_CODE, 4));
    if (rc != 0)
        panic("filling the user root: %ld", rc);
    rc = mmuext(MMUEXT_NEW_USER_BASEPTR, user_root, 0);
    if (rc != 0)
        panic("new user baseptr: %ld", rc);
}

/* On a frame of its own: the hypercall reads it from the stack pointer on. */
static void iret_to(void *frame)
{
    static struct iret_context copy[KIT_MAX_VCPUS];
    unsigned v = vcpu_id();

    copy[v] = *(struct iret_context *)frame;
    kit_iret(&copy[v]);
}

void user_run_at(const struct iret_context *frame, struct regs *r)
{
    if (!trapped(iret_to, (void *)frame, r))
        panic("iret to user mode returned");
}

void user_run(const void *code, size_t size, struct regs *r)
{
    struct iret_context frame = {
        .rip = USER_CODE,
        .cs = FLAT_USER_CS,
        .rflags = 0x202,
        .rsp = USER_DATA + PAGE_SIZE,
        .ss = FLAT_USER_SS,
    };

    if (size > PAGE_SIZE)
        panic("user code too long");
    user_setup();
    memcpy(user_code_page, code, size);
    user_run_at(&frame, r);
}
