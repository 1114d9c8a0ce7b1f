/* run: smp=2 append="dom0_max_vcpus=2" time=60 args="rounds=12 seed=1" */
/*
 * Memory that goes bad: domain 0 writes random words over all that a running child lets it map writable (its code, stacks,
 * handlers, lists of frames, requests, the page that it shares with Croft), while the child changes page tables, sends
 * events and uses grants. The child may end as it likes. A victim beside it must not notice, the audit must find nothing, and no
 * page may be lost.
 *
 * On the command line: rounds=N seed=N.
 */
#include "victim.h"

#define MS 1000000UL /* ns */
#define LIFE (400 * MS)
#define WINDOW(i) (TEST_VA + (i)*PAGE_SIZE)

static struct child child;
static unsigned long seed, words, ends[8], lived;
static unsigned rounds;

static uint64_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* ---- The child ---- */

static long work_here(long *a)
{
    static struct gnttab_setup_table grants;
    static xen_pfn_t grant_frame;
    uint64_t *page = page_alloc(), *table = page_alloc();
    long port = bind_ipi(0);

    kit_quiet = true;
    set_xen_guest_handle(grants.frame_list, &grant_frame);
    for (;;) {
        grants.dom = DOMID_SELF;
        grants.nr_frames = 1;
        hypercall(__HYPERVISOR_grant_table_op, GNTTABOP_setup_table, U(&grants), 1, 0, 0);
        page_set_flags(table, PTE_RO);
        mmuext(MMUEXT_PIN_L1_TABLE, virt_to_mfn(table), 0);
        mmu_write(table + 3, make_pte(virt_to_mfn(page), PTE_RW));
        mmuext(MMUEXT_UNPIN_TABLE, virt_to_mfn(table), 0);
        page_set_flags(table, PTE_RW);
        event_send((unsigned)port);
        update_va_mapping(U(page), make_pte(virt_to_mfn(page), PTE_RW), UVMF_INVLPG | UVMF_ALL);
        *page += 1;
        if (a[0]) /* written over */
            return 0;
    }
}

/* ---- Domain 0 ---- */

/* Maps what can be mapped, and returns how many pages that is: page tables and descriptors cannot. */
static unsigned map_all(void)
{
    unsigned mapped = 0;

    if (domain_flags(child.domid) < 0)
        panic("the child is gone");
    for (unsigned i = 0; i <= child.pages; i++) {
        unsigned long frame = i < child.pages ? child.frames[i] : domctl_op.u.getdomaininfo.shared_info_frame;

        if (map_foreign(child.domid, WINDOW(mapped), frame, PTE_RW) == 0)
            mapped++;
    }
    return mapped;
}

static void unmap(unsigned pages)
{
    for (unsigned i = 0; i < pages; i++)
        check_quiet(update_va_mapping(WINDOW(i), 0, UVMF_INVLPG | UVMF_ALL) == 0, "a page stays mapped");
}

/* One bit, or all of a word: nonsense, or something that may be a frame, an entry or an address of the child's. */
static void spoil(unsigned pages)
{
    volatile uint64_t *word = (uint64_t *)WINDOW(next_random() % pages) + next_random() % 512;

    switch (next_random() % 4) {
    case 0:
        *word ^= 1UL << next_random() % 64;
        break;
    case 1:
        *word = next_random();
        break;
    case 2:
        *word = child.frames[next_random() % child.pages];
        break;
    default:
        *word = make_pte(child.frames[next_random() % child.pages], next_random() & 0xfff);
    }
    words++;
}

static void one_life(void)
{
    uint64_t began;
    unsigned pages;
    long flags;

    child_start_with(&child, 2);
    child_begin(&child, work_here, (const long[CHILD_ARGS]){0});
    short_nap();
    pages = map_all();
    check_quiet(pages > child.pages / 2, "%u of %u pages can be mapped", pages, child.pages);
    began = time_now();
    do {
        for (unsigned i = 0; i < 20; i++)
            spoil(pages);
        if (next_random() % 8 == 0)
            short_nap();
        flags = domain_flags(child.domid);
    } while (check_quiet(flags >= 0, "the child is gone: %ld", flags) && !(flags & XEN_DOMINF_shutdown) &&
             time_now() - began < LIFE && victim_lives());
    if (flags & XEN_DOMINF_shutdown)
        ends[flags >> XEN_DOMINF_shutdownshift & 7]++;
    else
        lived++;
    unmap(pages);
    child_end(&child);
    audit("after a child");
}

static void run(void)
{
    victim_start(0);
    for (unsigned i = 0; i < rounds && kit_failures() == 0; i++)
        one_life();
    victim_end();
}

GUEST("corrupted")
{
    kit_quiet = true;
    rounds = (unsigned)argument_number("rounds=", 12);
    seed = argument_number("seed=", 1) * 2654435761UL + 1;
    map_page(TEST_VA, 0);
    leaves_nothing("children whose memory goes bad", run);
    kit_quiet = false;
    check(words > 1000, "%lu words were written over; %lu children lived, %lu crashed, %lu ended otherwise", words,
          lived, ends[SHUTDOWN_crash], ends[0] + ends[1] + ends[2] + ends[4] + ends[5] + ends[6] + ends[7]);
}
