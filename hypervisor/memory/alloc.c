/*
 * The page allocator: free blocks of 2^order frames, aligned to their size, a block's buddy being the other half of the
 * block twice as large (Knowlton, "A fast storage allocator", CACM 1965).
 *
 * Each NUMA node has two zones, below 4 GiB and above: what need not be low is taken from above first, so that domains
 * find memory for devices with 32-bit addresses. A zone has a list of free blocks for each order, threaded through the
 * struct frames of the blocks' first frames (next, prev; 0 ends a list: frame 0 is never in the allocator).
 *
 * A free frame has DOMID_FREE and no references in its control word. Its type word is made of the bits below.
 * FREE_HEAD is set and cleared only under the zone's lock, and never set in a frame that is in use. So one look at a
 * buddy's type word tells whether it is the first of a free block of this zone and order, and if so, the lock that is
 * held protects it.
 */
#include "lib/string.h"
#include "cpu/percpu.h"
#include "cpu/tlb.h"
#include "domain/domain.h"
#include "lib/log.h"
#include "memory/alloc.h"
#include "memory/boot_memory.h"
#include "memory/frame.h"
#include "memory/map.h"
#include "platform/acpi.h"

#define FREE_HEAD (1UL << 63) /* the first frame of a free block */
#define FREE_USED (1UL << 62) /* was in use since Croft started: may hold a domain's data */
#define FREE_TAG(zone, order) (FREE_HEAD | (uint64_t)(zone) << 8 | (order))
#define FREE_ORDER(type) (0xffU & (unsigned)(type))

#define LOW_FRAMES (1UL << (32 - PAGE_SHIFT))
#define ZONES (MAX_NODES * 2)
#define ANY_ADDRESS (~0UL)
#define FRAME_SECTION 128 /* frames in a row of which either all or none are in the frame table: a page of it */

struct zone {
    spinlock_t lock;
    uint32_t orders; /* bit set: that list is not empty */
    uint32_t head[MAX_ORDER + 1];
    uint32_t blocks[MAX_ORDER + 1]; /* how many in each list */
    uint64_t free;                  /* frames */
} __aligned(64);

static struct zone zones[ZONES];
static unsigned node_count = 1;         /* nodes up to the highest that has memory */
static uint64_t node_frames[MAX_NODES]; /* ever given to the allocator */

static unsigned zone_of(mfn_t m)
{
    unsigned node = node_count > 1 ? acpi_node_of_maddr(mfn_to_maddr(m)) : 0;

    return min(node, MAX_NODES - 1U) * 2 + (m.n < LOW_FRAMES);
}

static uint64_t control_word(domid_t owner, unsigned refs, uint64_t flags)
{
    return (uint64_t)owner << 32 | refs | flags;
}

/* ----- free lists; the zone's lock is held ----- */

static void list_push(struct zone *z, uint64_t m, unsigned order)
{
    struct frame *f = frame_of(MFN(m));

    f->type = (f->type & FREE_USED) | FREE_TAG(z - zones, order);
    f->prev = 0;
    f->next = z->head[order];
    if (f->next)
        frame_of(MFN(f->next))->prev = (uint32_t)m;
    z->head[order] = (uint32_t)m;
    z->orders |= 1U << order;
    z->blocks[order]++;
}

static void list_take(struct zone *z, uint64_t m, unsigned order)
{
    struct frame *f = frame_of(MFN(m));

    if (f->next)
        frame_of(MFN(f->next))->prev = f->prev;
    if (f->prev)
        frame_of(MFN(f->prev))->next = f->next;
    else
        z->head[order] = f->next;
    if (!z->head[order])
        z->orders &= ~(1U << order);
    z->blocks[order]--;
    f->type &= FREE_USED;
}

static bool is_free_block(uint64_t m, const struct zone *z, unsigned order)
{
    if (!mfn_valid(MFN(m)))
        return false;
    return (READ_ONCE(frame_of(MFN(m))->type) & ~FREE_USED) == FREE_TAG(z - zones, order);
}

/* A block whose frames are marked free joins its buddies as far as they are free. */
static void insert_block(struct zone *z, uint64_t m, unsigned order)
{
    z->free += 1UL << order;
    while (order < MAX_ORDER) {
        uint64_t buddy = m ^ 1UL << order;

        if (!is_free_block(buddy, z, order))
            break;
        list_take(z, buddy, order);
        m &= ~(1UL << order);
        order++;
    }
    list_push(z, m, order);
}

/* Frames that are marked free, cut into blocks. They are of one zone but for the border at 4 GiB. */
static void insert_run(uint64_t m, uint64_t count)
{
    while (count) {
        unsigned order = min(ilog2(count), m ? (unsigned)__builtin_ctzl(m) : 0U);
        struct zone *z;

        order = min(order, (unsigned)MAX_ORDER);
        z = &zones[zone_of(MFN(m))];
        spin_lock(&z->lock);
        insert_block(z, m, order);
        spin_unlock(&z->lock);
        m += 1UL << order;
        count -= 1UL << order;
    }
}

/* ----- fault injection ----- */

static volatile uint64_t fault_in; /* allocations from now on; 0: none fails */
static volatile unsigned fault_domid;

uint64_t alloc_fault_set(uint64_t n, unsigned domid)
{
    uint64_t left = __atomic_exchange_n(&fault_in, 0, __ATOMIC_RELAXED);

    fault_domid = domid;
    __atomic_store_n(&fault_in, n, __ATOMIC_RELEASE);
    return left;
}

bool alloc_fault_due(void)
{
    uint64_t left = READ_ONCE(fault_in);

    if (likely(!left) || (fault_domid != DOMID_IDLE && current->domain->id != fault_domid))
        return false;
    do
        if (!left)
            return false;
    while (!__atomic_compare_exchange_n(&fault_in, &left, left - 1, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
    if (left > 1)
        return false;
    log_info("fault injection: an allocation fails\n");
    return true;
}

/* ----- taking blocks ----- */

/* The first block in the zone's lists that lies below 'limit' (a frame number); 0 if there is none. */
static uint64_t find_block(const struct zone *z, unsigned order, uint64_t limit, unsigned *found)
{
    bool whole_zone = (z - zones) % 2 ? limit >= LOW_FRAMES : limit == ANY_ADDRESS;
    uint32_t orders = z->orders & ~0U << order;

    for (; orders; orders &= orders - 1) {
        unsigned o = (unsigned)__builtin_ctz(orders);

        *found = o;
        if (whole_zone)
            return z->head[o];
        for (uint32_t m = z->head[o]; m; m = frame_of(MFN(m))->next)
            if (m + (1UL << order) <= limit)
                return m;
    }
    return 0;
}

static uint64_t take_from_zone(struct zone *z, unsigned order, uint64_t limit)
{
    unsigned found = 0;
    uint64_t m = 0;

    if (READ_ONCE(z->free) < 1UL << order)
        return 0;
    spin_lock(&z->lock);
    m = find_block(z, order, limit, &found);
    if (m) {
        list_take(z, m, found);
        while (found > order) { /* the lowest part is the one to give out */
            found--;
            list_push(z, m + (1UL << found), found);
        }
        z->free -= 1UL << order;
    }
    spin_unlock(&z->lock);
    return m;
}

/* A block that is in no list any more but still marked free; 0: there is none. The wanted node first, then others. */
static uint64_t take_block(unsigned order, unsigned node, uint64_t limit)
{
    if (order > MAX_ORDER || unlikely(alloc_fault_due()))
        return 0;
    if (node == NODE_ANY)
        node = this_cpu()->node;
    if (node >= node_count)
        node = 0;
    for (unsigned i = 0; i < node_count; i++) {
        unsigned n = (node + i) % node_count;
        uint64_t m = limit > LOW_FRAMES ? take_from_zone(&zones[n * 2], order, limit) : 0;

        if (!m)
            m = take_from_zone(&zones[n * 2 + 1], order, limit);
        if (m)
            return m;
    }
    return 0;
}

static void clear_frames(uint64_t m, uint64_t count)
{
    void *to = mfn_to_virt(MFN(m));
    uint64_t words = count * (PAGE_SIZE / 8);

    __asm__ volatile("rep stosq" : "+D"(to), "+c"(words) : "a"(0UL) : "memory");
}

enum clearing { CLEAR_ALL, CLEAR_USED };

/* Makes frames ready for a new owner: no CPU reaches them by a translation of their old use, and they are zero. */
static void prepare_frames(uint64_t m, uint64_t count, enum clearing what)
{
    const struct frame *f = frame_of(MFN(m));
    uint64_t stamp = 0, flags = 0;

    for (uint64_t i = 0; i < count; i++) {
        stamp = max(stamp, f[i].tlb_stamp);
        flags |= f[i].type;
    }
    if (stamp)
        tlb_flush_since(&cpu_online, stamp);
    if (what == CLEAR_ALL)
        clear_frames(m, count);
    else if (flags & FREE_USED)
        for (uint64_t i = 0; i < count; i++)
            if (f[i].type & FREE_USED)
                clear_frames(m + i, 1);
}

/* ----- for Croft ----- */

mfn_t alloc_frame_run(uint64_t count, unsigned node)
{
    unsigned order = count > 1 ? ilog2(count - 1) + 1 : 0;
    uint64_t m;

    if (!count || count > 1UL << MAX_ORDER)
        return INVALID_MFN;
    m = take_block(order, node, ANY_ADDRESS);
    if (!m)
        return INVALID_MFN;
    insert_run(m + count, (1UL << order) - count);
    prepare_frames(m, count, CLEAR_ALL);
    for (struct frame *f = frame_of(MFN(m)); count--; f++) {
        f->type = 0;
        f->tlb_stamp = 0;
        __atomic_store_n(&f->control, control_word(DOMID_CROFT, 1, 0), __ATOMIC_RELEASE);
    }
    return MFN(m);
}

void free_frame_run(mfn_t start, uint64_t count)
{
    for (uint64_t i = start.n; i < start.n + count; i++) {
        struct frame *f = frame_of(MFN(i));

        BUG_ON(READ_ONCE(f->control) != control_word(DOMID_CROFT, 1, 0));
        f->type = FREE_USED;
        WRITE_ONCE(f->control, control_word(DOMID_FREE, 0, 0));
    }
    insert_run(start.n, count);
}

mfn_t alloc_frames(unsigned order, unsigned node)
{
    return order > MAX_ORDER ? INVALID_MFN : alloc_frame_run(1UL << order, node);
}

void free_frames(mfn_t start, unsigned order) { free_frame_run(start, 1UL << order); }

void *alloc_pages(unsigned order)
{
    mfn_t m = alloc_frames(order, NODE_ANY);

    return mfn_eq(m, INVALID_MFN) ? NULL : mfn_to_virt(m);
}

void free_pages(void *p, unsigned order)
{
    if (p)
        free_frames(virt_to_mfn(p), order);
}

/* ----- for domains ----- */

/* Claims: the sum of all domains' d->claimed_pages. Taken inside of a page_list_lock. */
static spinlock_t claim_lock = SPINLOCK_INIT;
static uint64_t claimed;

uint64_t alloc_claimed_count(void) { return READ_ONCE(claimed); }

int alloc_claim(struct domain *d, uint64_t pages)
{
    int rc = 0;

    spin_lock(&d->page_list_lock);
    spin_lock(&claim_lock);
    if (!pages) {
        claimed -= d->claimed_pages;
        d->claimed_pages = 0;
    } else if (d->dying || d->claimed_pages || pages < d->tot_pages || pages > d->max_pages) {
        rc = -EINVAL;
    } else if (pages - d->tot_pages > alloc_free_count() - min(claimed, alloc_free_count())) {
        rc = -ENOMEM;
    } else {
        d->claimed_pages = pages - d->tot_pages;
        claimed += d->claimed_pages;
    }
    spin_unlock(&claim_lock);
    spin_unlock(&d->page_list_lock);
    return rc;
}

/* d wants pages: is there so much that is not promised to others? What it gets (*part) is no longer promised to it. */
static bool take_from_claim(struct domain *d, uint64_t count, uint64_t *part)
{
    uint64_t own = d->claimed_pages;
    bool ok;

    *part = 0;
    if (likely(!READ_ONCE(claimed)))
        return true;
    spin_lock(&claim_lock);
    ok = alloc_free_count() >= claimed - own + count;
    if (ok) {
        *part = min(own, count);
        d->claimed_pages -= *part;
        claimed -= *part;
    }
    spin_unlock(&claim_lock);
    return ok;
}

/* Counts the pages beforehand, so that two callers cannot pass the limit together. *part of them were claimed. */
static bool reserve_pages(struct domain *d, uint64_t count, uint64_t *part)
{
    bool fits;

    spin_lock(&d->page_list_lock);
    fits = !d->dying && d->tot_pages <= d->max_pages && count <= d->max_pages - d->tot_pages &&
           take_from_claim(d, count, part);
    if (fits)
        d->tot_pages += count;
    spin_unlock(&d->page_list_lock);
    return fits;
}

/* They are not to be had after all; what was claimed is promised as before: there may be smaller blocks. */
static void unreserve_pages(struct domain *d, uint64_t count, uint64_t part)
{
    bool last;

    spin_lock(&d->page_list_lock);
    d->tot_pages -= count;
    last = !d->tot_pages && d->put_with_last_frame;
    if (part && !d->dying) {
        spin_lock(&claim_lock);
        d->claimed_pages += part;
        claimed += part;
        spin_unlock(&claim_lock);
    }
    spin_unlock(&d->page_list_lock);
    if (unlikely(last))
        domain_put(d);
}

/*
 * Links frames that are ready to the domain's list and makes them its own. Both under the list's lock: from the moment
 * the control word says so another CPU may use the frame, and even give it back.
 */
static void give_to_domain(struct domain *d, uint64_t m, uint64_t count)
{
    struct frame *f = frame_of(MFN(m));
    uint64_t control = control_word(d->id, 1, FRAME_ALLOCATED);

    spin_lock(&d->page_list_lock);
    for (uint64_t i = 0; i < count; i++) {
        f[i].type = 0;
        f[i].tlb_stamp = 0;
        f[i].prev = i ? (uint32_t)(m + i - 1) : 0;
        f[i].next = i + 1 < count ? (uint32_t)(m + i + 1) : d->page_list;
        __atomic_store_n(&f[i].control, control, __ATOMIC_RELEASE);
    }
    if (d->page_list)
        frame_of(MFN(d->page_list))->prev = (uint32_t)(m + count - 1);
    d->page_list = (uint32_t)m;
    spin_unlock(&d->page_list_lock);
}

static mfn_t alloc_for_domain(struct domain *d, unsigned order, unsigned node, uint64_t limit, enum clearing what,
                              uint64_t gpfn)
{
    uint64_t count, claim, m;

    if (order > MAX_ORDER)
        return INVALID_MFN;
    count = 1UL << order;
    if (!reserve_pages(d, count, &claim))
        return INVALID_MFN;
    m = take_block(order, node, limit);
    if (!m) {
        unreserve_pages(d, count, claim);
        return INVALID_MFN;
    }
    prepare_frames(m, count, what);
    for (uint64_t i = 0; gpfn != M2P_INVALID && i < count; i++)
        m2p_write(MFN(m + i), gpfn + i);
    give_to_domain(d, m, count);
    if (unlikely(d->dying)) { /* since it was counted: its frames may have been collected already */
        for (uint64_t i = 0; i < count; i++)
            (void)frame_release(MFN(m + i), d);
        return INVALID_MFN;
    }
    return MFN(m);
}

mfn_t alloc_domain_frames(struct domain *d, unsigned order, unsigned node)
{
    return alloc_for_domain(d, order, node, ANY_ADDRESS, CLEAR_ALL, M2P_INVALID);
}

mfn_t alloc_domain_frames_numbered(struct domain *d, unsigned order, unsigned node, unsigned address_bits,
                                   uint64_t gpfn)
{
    uint64_t limit = ANY_ADDRESS;

    if (address_bits && address_bits < 64)
        limit = address_bits > PAGE_SHIFT ? 1UL << (address_bits - PAGE_SHIFT) : 0;
    if (limit >= 1UL << 32) /* no frame has a number that high */
        limit = ANY_ADDRESS;
    return alloc_for_domain(d, order, node, limit, CLEAR_ALL, gpfn);
}

mfn_t alloc_domain_frames_unzeroed(struct domain *d, unsigned order, unsigned node)
{
    return alloc_for_domain(d, order, node, ANY_ADDRESS, CLEAR_USED, M2P_INVALID);
}

void alloc_adopt_frame(mfn_t m, struct domain *d)
{
    struct frame *f = frame_of(m);

    spin_lock(&d->page_list_lock);
    f->prev = 0;
    f->next = d->released_list;
    if (f->next)
        frame_of(MFN(f->next))->prev = (uint32_t)m.n;
    d->released_list = (uint32_t)m.n;
    d->tot_pages++;
    spin_unlock(&d->page_list_lock);
}

bool alloc_next_to_release(struct domain *d, mfn_t *m)
{
    bool held = false;

    while (!held && READ_ONCE(d->page_list)) {
        spin_lock(&d->page_list_lock);
        *m = MFN(d->page_list);
        if (m->n) {
            struct frame *f = frame_of(*m);

            d->page_list = f->next;
            if (f->next)
                frame_of(MFN(f->next))->prev = 0;
            f->next = d->released_list;
            if (f->next)
                frame_of(MFN(f->next))->prev = (uint32_t)m->n;
            d->released_list = (uint32_t)m->n;
            held =
                frame_get(*m, d); /* false: its last reference has gone just now, and it is about to leave the list */
        }
        spin_unlock(&d->page_list_lock);
    }
    return held;
}

/* Takes a frame off its owner's list; true if it was the last one that a dying domain's reference stands for. */
static bool unlink_frame(mfn_t m, struct domain *owner)
{
    struct frame *f = frame_of(m);
    bool last;

    spin_lock(&owner->page_list_lock);
    if (f->next)
        frame_of(MFN(f->next))->prev = f->prev;
    if (f->prev)
        frame_of(MFN(f->prev))->next = f->next;
    else if (owner->page_list == m.n)
        owner->page_list = f->next;
    else
        owner->released_list = f->next;
    last = !--owner->tot_pages && owner->put_with_last_frame;
    spin_unlock(&owner->page_list_lock);
    return last;
}

void alloc_free_domain_frame(mfn_t m, struct domain *owner)
{
    struct frame *f = frame_of(m);
    bool last;

    BUG_ON(FRAME_REFS(READ_ONCE(f->control)));
    last = unlink_frame(m, owner);
    m2p_write(m, M2P_INVALID);
    f->type = FREE_USED;
    WRITE_ONCE(f->control, control_word(DOMID_FREE, 0, 0));
    insert_run(m.n, 1);
    if (unlikely(last))
        domain_put(owner);
}

bool alloc_take_claimed_frame(mfn_t m, struct domain *from)
{
    struct frame *f = frame_of(m);
    uint64_t c = READ_ONCE(f->control);

    do {
        if (FRAME_REFS(c) != 1)
            return false;
    } while (!__atomic_compare_exchange_n(&f->control, &c, control_word(DOMID_CROFT, 1, 0), false, __ATOMIC_ACQ_REL,
                                          __ATOMIC_RELAXED));
    f->type = 0;
    if (unlink_frame(m, from))
        domain_put(from);
    return true;
}

bool alloc_reserve_frame(struct domain *d)
{
    uint64_t claim;

    return reserve_pages(d, 1, &claim);
}

void alloc_unreserve_frame(struct domain *d) { unreserve_pages(d, 1, 0); }

void alloc_give_taken_frame(mfn_t m, struct domain *to)
{
    give_to_domain(to, m.n, 1);
    if (unlikely(to->dying)) /* its frames may have been collected already */
        (void)frame_release(m, to);
}

/* ----- boot and reports ----- */

/* Marks Croft's frames from the front of a row of valid frames as free; returns how many there are. */
static uint64_t mark_free(struct frame *f, uint64_t count)
{
    const struct frame *start = f, *end = f + count;

    for (; f < end && f->control == control_word(DOMID_CROFT, 1, 0); f++)
        f->control = control_word(DOMID_FREE, 0, 0);
    return (uint64_t)(f - start);
}

void alloc_add_range(mfn_t start, uint64_t count, unsigned node)
{
    uint64_t end = start.n + count, m = max(start.n, 1UL), run = m; /* [run, m): found to be good, not yet given */

    node = min(node, MAX_NODES - 1U);
    node_count = max(node_count, node + 1);
    while (m < end) {
        uint64_t section_end = min(end, ROUND_UP(m + 1, (uint64_t)FRAME_SECTION));

        if (mfn_valid(MFN(m)))
            m += mark_free(frame_of(MFN(m)), section_end - m);
        if (m < section_end) { /* one that is not for us */
            insert_run(run, m - run);
            node_frames[node] += m - run;
            run = ++m;
        }
    }
    if (m > run) {
        insert_run(run, m - run);
        node_frames[node] += m - run;
    }
}

uint64_t alloc_node_free(unsigned node)
{
    return node < MAX_NODES ? READ_ONCE(zones[node * 2].free) + READ_ONCE(zones[node * 2 + 1].free) : 0;
}

uint64_t alloc_free_count(void)
{
    uint64_t sum = 0;

    for (unsigned node = 0; node < node_count; node++)
        sum += alloc_node_free(node);
    return sum;
}

uint64_t alloc_node_total(unsigned node) { return node < MAX_NODES ? node_frames[node] : 0; }

uint64_t alloc_total_count(void)
{
    uint64_t sum = 0;

    for (unsigned node = 0; node < node_count; node++)
        sum += node_frames[node];
    return sum;
}

void alloc_key_report(void)
{
    log_info("memory: %lu of %lu KiB free\n", alloc_free_count() * 4, alloc_total_count() * 4);
    for (unsigned i = 0; i < node_count * 2; i++) {
        const struct zone *z = &zones[i];

        if (!z->free)
            continue;
        log_info("  node %u %s 4 GiB: %lu KiB free\n", i / 2, i % 2 ? "below" : "above", z->free * 4);
        for (unsigned order = 0; order <= MAX_ORDER; order++)
            if (z->blocks[order])
                log_info("    %u blocks of %lu KiB\n", z->blocks[order], 4UL << order);
    }
}
