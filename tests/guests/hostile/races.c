/*
 * Four vcpus pin, unpin, link, map, clear and write the same pages, as page tables of any level and as data, in no order. Each call
 * may fail; but a page that one vcpu could write while it is another's table would show: what they write are entries that map
 * a page table writable, and the hypervisor's audit looks for those.
 */
#include "hostile.h"

#define PAGES 8U
#define ROUNDS 2500
#define SLOTS 16U /* of the L1 table, from this on: */
#define FIRST_SLOT 16U
#define LINKS 3U /* entries of the L2 table, from 1 on */

enum { PIN, UNPIN, OWN_RO, OWN_RW, MAP, LINK, CLEAR, STORE_TABLE, STORE_PAGE, STORE_ALIAS, KINDS };
static const char *const names[KINDS] = {"pin",  "unpin", "read-only",        "writable",        "map",
                                         "link", "clear", "store to a table", "store to a page", "... by its alias"};
static unsigned succeeded[KINDS][TEAM];
static uint8_t *pages[PAGES];
static uint64_t *l1, *l2;

struct store {
    volatile uint64_t *where;
    uint64_t what;
};

static void store(void *p)
{
    const struct store *s = p;

    *s->where = s->what;
}

static bool stores(volatile void *where, uint64_t what) { return !trapped(store, &(struct store){where, what}, NULL); }

/* Mostly nothing, so that the page may become a table; else an entry that must never be in force. */
static uint64_t content(unsigned v)
{
    static const uint64_t flags[] = {PTE_RW, PTE_USER_RW, PTE_TABLE};

    return below(v, 6) != 0 ? 0 : make_pte(virt_to_mfn(below(v, 2) != 0 ? l1 : l2), flags[below(v, 3)]);
}

static bool attack(unsigned v, unsigned kind)
{
    static const uint64_t leaf[] = {0, PTE_RO, PTE_RW, PTE_USER_RW};
    uint8_t *page = pages[below(v, PAGES)];
    unsigned long mfn = virt_to_mfn(page);
    unsigned slot = FIRST_SLOT + below(v, SLOTS), link = 1 + below(v, LINKS);
    uint64_t flags = leaf[below(v, 4)], entry = flags != 0 ? make_pte(mfn, flags) : 0;

    switch (kind) {
    case PIN:
        return mmuext(MMUEXT_PIN_L1_TABLE + below(v, 3), mfn, 0) == 0;
    case UNPIN:
        return mmuext(MMUEXT_UNPIN_TABLE, mfn, 0) == 0;
    case OWN_RO:
        return update_va_mapping(U(page), make_pte(mfn, PTE_RO), UVMF_INVLPG | UVMF_ALL) == 0;
    case OWN_RW:
        return update_va_mapping(U(page), make_pte(mfn, PTE_RW), UVMF_INVLPG | UVMF_ALL) == 0;
    case MAP:
        return mmu_write(&l1[slot], entry) == 0;
    case LINK:
        return mmu_write(&l2[link], below(v, 2) != 0 ? make_pte(mfn, PTE_TABLE) : 0) == 0;
    case CLEAR:
        return mmuext(MMUEXT_CLEAR_PAGE, mfn, 0) == 0;
    case STORE_TABLE: /* emulated: the page that holds the table is mapped read-only */
        return stores(&l1[slot], entry);
    case STORE_PAGE:
        return stores((uint64_t *)page + below(v, 512), content(v));
    default:
        return stores((uint64_t *)(TEST_VA + slot * PAGE_SIZE) + below(v, 512), content(v));
    }
}

static void all_at_once(unsigned v)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned kind = below(v, KINDS);

        succeeded[kind][v] += attack(v, kind);
    }
}

void races(void)
{
    unsigned usable = 0;

    map_page(TEST_VA, 0);
    l1 = (uint64_t *)(U(pte_of(TEST_VA)) & PAGE_MASK);
    l2 = entry_of(kernel_root, TEST_VA, 2);
    for (unsigned i = 0; i < PAGES; i++)
        pages[i] = page_alloc();
    team_run(all_at_once);
    for (unsigned kind = 0; kind < KINDS; kind++) {
        unsigned sum = 0;

        for (unsigned v = 0; v < TEAM; v++)
            sum += succeeded[kind][v];
        check(sum != 0, "%s: %u succeeded", names[kind], sum);
    }
    /* Whatever state they are in, the way out of it is the usual one. */
    for (unsigned i = 0; i < SLOTS; i++)
        check_quiet(mmu_write(&l1[FIRST_SLOT + i], 0) == 0, "slot %u is cleared", i);
    for (unsigned i = 0; i < LINKS; i++)
        check_quiet(mmu_write(&l2[1 + i], 0) == 0, "link %u is cleared", i);
    for (unsigned i = 0; i < PAGES; i++) {
        mmuext(MMUEXT_UNPIN_TABLE, virt_to_mfn(pages[i]), 0);
        usable += page_set_flags(pages[i], PTE_RW) == 0 && stores(pages[i], 1);
    }
    check(usable == PAGES, "%u of %u pages can be written again", usable, PAGES);
}
