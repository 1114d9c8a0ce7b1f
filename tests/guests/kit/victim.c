/* The victim: see victim.h. */
#include "victim.h"

#define PATIENCE (30 * 1000000000UL) /* ns, for its next round: the host's own load comes on top */
#define PAGES 24U
#define WORDS (PAGE_SIZE / 8)
#define GRANTED 3U /* of the pages, those from 0 on: read-only for the neighbour */
#define TABLE_VA TEST_VA
#define FS_BASE 0x00001234567000UL

/* Its arguments; it tells the rounds that it has made, and its time at the last of them. */
enum { STOP, NEIGHBOUR, ROUNDS, TIME };

struct child victim;
static long rounds_seen; /* by domain 0, at this time: */
static uint64_t seen_at;

static uint64_t *pages[PAGES];
static uint64_t round_of[PAGES];

static uint64_t pattern(unsigned page, unsigned word, uint64_t round)
{
    return (page * 0x9e3779b97f4a7c15UL + word) * 0x2545f4914f6cdd1dUL ^ round;
}

static void fill(unsigned page, uint64_t round)
{
    round_of[page] = round;
    for (unsigned i = 0; i < WORDS; i++)
        pages[page][i] = pattern(page, i, round);
}

static bool intact(unsigned page)
{
    for (unsigned i = 0; i < WORDS; i++)
        if (pages[page][i] != pattern(page, i, round_of[page])) {
            check_quiet(false, "the victim's page %u, word %u: %lx, wanted %lx", page, i, pages[page][i],
                        pattern(page, i, round_of[page]));
            return false;
        }
    return true;
}

/* Entries as Croft makes them stay as they are, but for the processor's two bits. */
static uint64_t tables_sum(void)
{
    uint64_t sum = 0;

    for (unsigned level = 4; level > 0; level--) {
        volatile uint64_t *entry = entry_of(kernel_root, VIRT_BASE, (int)level);

        if (entry == NULL)
            return 0;
        entry = (void *)((unsigned long)entry & PAGE_MASK);
        for (unsigned i = 0; i < 512; i++)
            sum = sum * 31 + (entry[i] & ~(PTE_A | PTE_D));
    }
    return sum;
}

static void offer(unsigned neighbour)
{
    grant_entry_v1_t *table = (void *)TABLE_VA;
    xen_pfn_t frame;
    struct gnttab_setup_table s = {.dom = DOMID_SELF, .nr_frames = 1, .status = 99};
    struct evtchn_alloc_unbound u = {.dom = DOMID_SELF, .remote_dom = (domid_t)neighbour};

    set_xen_guest_handle(s.frame_list, &frame);
    if (grant_table_op(GNTTABOP_setup_table, &s, 1) != 0 || s.status != GNTST_okay)
        panic("no grant table: %d", s.status);
    map_page(TABLE_VA, make_pte(frame, PTE_RW));
    for (unsigned i = 0; i <= GRANTED; i++) {
        table[8 + i].domid = (domid_t)neighbour;
        table[8 + i].frame = (uint32_t)virt_to_mfn(i < GRANTED ? (void *)pages[i] : page_alloc());
        barrier();
        table[8 + i].flags = GTF_permit_access | (i < GRANTED ? GTF_readonly : 0);
    }
    for (unsigned i = 0; i < 4; i++)
        event_channel_op(EVTCHNOP_alloc_unbound, &u);
}

static bool registers_stay(uint64_t round)
{
    uint64_t x[2] = {round, ~round}, y[2] = {0}, r12, r15;

    asm volatile(
        "movups %[x], %%xmm0\n movups %[x], %%xmm15\n movq %[round], %%r12\n leaq 7(%[round]), %%r15\n"
        "movl $20000, %%ecx\n 1: decl %%ecx\n jnz 1b\n"
        "pxor %%xmm15, %%xmm0\n por %%xmm15, %%xmm0\n movups %%xmm0, %[y]\n movq %%r12, %[r12]\n movq %%r15, %[r15]"
        : [y] "=m"(y), [r12] "=r"(r12), [r15] "=r"(r15)
        : [x] "m"(x), [round] "D"(round)
        : "rcx", "r12", "r15", "memory", "cc");
    return memcmp(x, y, sizeof(x)) == 0 && r12 == round && r15 == round + 7;
}

/* In user's words: this vcpu's FS base and debug registers are its own. */
static bool state_stays(void)
{
    uint32_t low, high;

    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(0xc0000100));
    return (((uint64_t)high << 32) | low) == FS_BASE && get_debugreg(3) == TEST_VA2 && get_debugreg(7) == 0x400;
}

static long victim_here(long *a)
{
    uint64_t tables, last = time_now();

    for (unsigned i = 0; i < PAGES; i++) {
        pages[i] = page_alloc();
        fill(i, 0);
    }
    offer((unsigned)a[NEIGHBOUR]);
    set_segment_base(SEGBASE_FS, FS_BASE);
    set_debugreg(3, TEST_VA2);
    tables = tables_sum();
    for (unsigned i = 0; *(volatile long *)&a[STOP] == 0; i++) {
        unsigned page = i % PAGES;
        uint64_t t = time_now();

        if (!check_quiet(t >= last, "the victim's time went back from %lu to %lu", last, t) || !intact(page) ||
            !check_quiet(tables_sum() == tables, "the victim's page tables changed") ||
            !check_quiet(registers_stay(t), "the victim's registers changed") ||
            !check_quiet(state_stays(), "the victim's FS base or debug registers changed: %lx, %lx", get_debugreg(3),
                         get_debugreg(7)))
            return 1;
        if (page >= GRANTED)
            fill(page, i);
        last = t;
        a[TIME] = (long)t;
        a[ROUNDS]++;
    }
    return 0;
}

/* ---- In domain 0 ---- */

void victim_start(unsigned neighbour)
{
    child_start(&victim);
    child_begin(&victim, victim_here, (const long[CHILD_ARGS]){[NEIGHBOUR] = neighbour});
    rounds_seen = 0;
    seen_at = time_now();
}

bool victim_lives(void)
{
    uint64_t t = time_now();
    long rounds = ((volatile long *)victim.talk->a)[ROUNDS];

    if (rounds != rounds_seen) {
        rounds_seen = rounds;
        seen_at = t;
    }
    return check_quiet(victim.talk->answered != victim.talk->order, "the victim found something: %s",
                       victim.talk->text) &&
           check_quiet(domain_flags(victim.domid) >= 0 && (domctl_op.u.getdomaininfo.flags & XEN_DOMINF_shutdown) == 0,
                       "the victim ended") &&
           check_quiet(t - seen_at < PATIENCE, "the victim has not had the CPU for %lu ns", t - seen_at) &&
           check_quiet((uint64_t)((volatile long *)victim.talk->a)[TIME] < time_now() + 1000000,
                       "the victim's time is ahead");
}

uint64_t victim_time(void) { return domain_flags(victim.domid) < 0 ? 0 : domctl_op.u.getdomaininfo.cpu_time; }

void victim_end(void)
{
    victim.talk->a[STOP] = 1;
    check(child_wait(&victim) && victim.talk->result == 0, "the victim is unharmed after %ld rounds",
          victim.talk->a[ROUNDS]);
    child_end(&victim);
}
