/* Populate on demand: see hvm/pod.h. Source of the numbers' meaning: <xen/memory.h>, XENMEM_set_pod_target. */
#include "cpu/tlb.h"
#include "domain/domain.h"
#include "hvm/hvm.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"
#include "lib/string.h"
#include "memory/alloc.h"
#include "memory/frame_inline.h"
#include "memory/map.h"

#define BLOCK_ORDER 9
#define BLOCK (1UL << BLOCK_ORDER)
#define SMALL 1U /* levels of tables: of single frames, */
#define LARGE 2U /* ... of blocks */

#define SWEEP_FRAMES 512 /* looked at between two looks at the clock: up to 2 MiB to read */
#define SWEEP_BATCH 16   /* taken back with one flush */

/* ---- Stacks of frame numbers ---- */

#define CHUNK_FRAMES ((PAGE_SIZE - 2 * sizeof(void *)) / sizeof(uint32_t))
struct pod_chunk {
    struct pod_chunk *below; /* full */
    uint64_t used;
    uint32_t frames[CHUNK_FRAMES];
};
_Static_assert(sizeof(struct pod_chunk) == PAGE_SIZE, "one page each");

/* False: no memory */
static bool push(struct pod_stack *s, uint64_t m)
{
    struct pod_chunk *c = s->top;

    if (!c || c->used == CHUNK_FRAMES) {
        c = alloc_pages(0);
        if (!c)
            return false;
        c->below = s->top;
        s->top = c;
    }
    c->frames[c->used++] = (uint32_t)m;
    s->count++;
    return true;
}

static void free_chunk(struct pod_stack *s)
{
    struct pod_chunk *c = s->top;

    s->top = c->below;
    free_pages(c, 0);
}

/* It is not empty. */
static uint64_t pop(struct pod_stack *s)
{
    uint64_t m = s->top->frames[--s->top->used];

    s->count--;
    if (!s->top->used)
        free_chunk(s);
    return m;
}

/* ---- The cache; the lock is held ---- */

/* A single frame; the cache is not empty. */
static mfn_t take_single(struct pod *pod)
{
    pod->pages--;
    if (pod->singles.count)
        return MFN(pop(&pod->singles));
    if (pod->part == pod->part_end) {
        pod->part = pop(&pod->blocks);
        pod->part_end = pod->part + BLOCK;
    }
    return MFN(pod->part++);
}

static bool add_to_cache(struct pod *pod, mfn_t m, unsigned order)
{
    if (!push(order ? &pod->blocks : &pod->singles, m.n))
        return false;
    pod->pages += 1UL << order;
    return true;
}

/* As memory_release: the page is d's no longer. */
static void give_up(struct domain *d, mfn_t m)
{
    if (!frame_get(m, d)) /* d is dying, and has lost it already */
        return;
    m2p_write(m, M2P_INVALID);
    (void)frame_release(m, d);
    frame_put(m);
}

static bool is_zero(mfn_t m)
{
    const uint64_t *words = mfn_to_virt(m);

    for (unsigned i = 0; i < PAGE_SIZE / sizeof(*words); i += 4)
        if (READ_ONCE(words[i]) | READ_ONCE(words[i + 1]) | READ_ONCE(words[i + 2]) | READ_ONCE(words[i + 3]))
            return false;
    return true;
}

/* Is it in use where it was mapped, by one WRITABLE reference, and nowhere else? */
static bool only_mapped_once(mfn_t m)
{
    const struct frame *f = frame_of(m);
    uint64_t c = READ_ONCE(f->control), t = READ_ONCE(f->type);

    return FRAME_REFS(c) == 2 && (c & (FRAME_ALLOCATED | FRAME_SHARED)) == FRAME_ALLOCATED &&
           TYPE_OF(t) == FRAME_WRITABLE && TYPE_COUNT(t) == 1;
}

bool pod_keep(struct domain *d, mfn_t m)
{
    struct p2m *p = &d->hvm->p2m;
    bool kept;

    if (!READ_ONCE(p->pod.entries) || !only_mapped_once(m))
        return false;
    /* Others may have it in their TLBs still, to be flushed when the frame is used anew: that is now. */
    if (frame_of(m)->control & FRAME_FOREIGN)
        tlb_flush_mask(&cpu_online);
    memset(mfn_to_virt(m), 0, PAGE_SIZE);
    spin_lock(&p->lock);
    kept = !d->dying && p->pod.entries > p->pod.pages && only_mapped_once(m) && add_to_cache(&p->pod, m, 0);
    if (kept) {
        m2p_write(m, M2P_INVALID);
        frame_put_writable(m);
    }
    spin_unlock(&p->lock);
    return kept;
}

void pod_trim(struct domain *d)
{
    struct p2m *p = &d->hvm->p2m;

    spin_lock(&p->lock);
    while (!d->dying && p->pod.pages > p->pod.entries)
        give_up(d, take_single(&p->pod));
    spin_unlock(&p->lock);
}

static void release_stack(struct pod_stack *s, unsigned *done)
{
    for (; s->top && *done < 32; ++*done)
        free_chunk(s);
}

bool pod_release(struct p2m *p)
{
    struct pod *pod = &p->pod;

    pod->pages = pod->singles.count = pod->blocks.count = 0;
    pod->part = pod->part_end = 0;
    while (pod->singles.top || pod->blocks.top) {
        unsigned done = 0;

        release_stack(&pod->singles, &done);
        release_stack(&pod->blocks, &done);
        if ((pod->singles.top || pod->blocks.top) && hypercall_preempt_check())
            return false;
    }
    return true;
}

/* ---- What the tools ask for ---- */

int pod_mark(struct domain *d, gfn_t gfn, unsigned order)
{
    struct p2m *p = &d->hvm->p2m;
    uint64_t fresh;
    int rc = -EINVAL;

    if ((order && order != BLOCK_ORDER) || gfn.n > P2M_MAX_GFN || gfn.n & ((1UL << order) - 1))
        return -EINVAL;
    spin_lock(&p->lock);
    if (!d->dying) {
        rc = p2m_mark(p, gfn.n, order ? LARGE : SMALL, &fresh);
        p->pod.entries += fresh;
        p->pod.most_entries = max(p->pod.most_entries, p->pod.entries);
    }
    spin_unlock(&p->lock);
    return rc;
}

/* How many pages the cache lacks for d to have so many in all; the lock is held. */
static uint64_t lacking(const struct domain *d, const struct pod *pod, uint64_t target)
{
    uint64_t total = READ_ONCE(d->tot_pages), used = total - min(total, pod->pages);
    uint64_t wanted;

    if (d->dying || target <= total || (used && !pod->entries))
        return 0;
    wanted = target - used;
    if (used) /* it has been built: more than there are marks is the balloon driver's to ask for */
        wanted = min(wanted, pod->entries);
    return wanted - min(wanted, pod->pages);
}

/* One block or page for the cache, which lacks as many. -ENOMEM */
static int add_one(struct domain *d, uint64_t lack)
{
    struct p2m *p = &d->hvm->p2m;
    unsigned order = lack >= BLOCK ? BLOCK_ORDER : 0;
    mfn_t m = alloc_domain_frames(d, order, d->node);
    bool added;

    if (mfn_eq(m, INVALID_MFN) && order) {
        order = 0;
        m = alloc_domain_frames(d, 0, d->node);
    }
    if (mfn_eq(m, INVALID_MFN))
        return -ENOMEM;
    spin_lock(&p->lock);
    added = !d->dying && add_to_cache(&p->pod, m, order);
    spin_unlock(&p->lock);
    for (uint64_t i = 0; !added && i < 1UL << order; i++)
        give_up(d, mfn_add(m, i));
    return added ? 0 : -ENOMEM;
}

int pod_set_target(struct domain *d, uint64_t pages)
{
    struct p2m *p = &d->hvm->p2m;

    for (bool first = true;; first = false) {
        uint64_t lack;

        if (!first && hypercall_preempt_check())
            return -ERESTART;
        spin_lock(&p->lock);
        lack = lacking(d, &p->pod, pages);
        spin_unlock(&p->lock);
        if (!lack)
            return 0;
        if (add_one(d, lack))
            return -ENOMEM;
    }
}

struct pod_numbers pod_numbers(struct domain *d)
{
    struct p2m *p = &d->hvm->p2m;
    struct pod_numbers n;

    spin_lock(&p->lock);
    n = (struct pod_numbers){READ_ONCE(d->tot_pages), p->pod.pages, p->pod.entries};
    spin_unlock(&p->lock);
    return n;
}

/* ---- The sweep; the lock is held ---- */

struct swept {
    uint64_t *e, gfn;
    mfn_t m;
};

static bool is_recent(const struct pod *pod, uint64_t gfn)
{
    for (unsigned i = 0; i < POD_RECENT; i++)
        if (pod->recent[i] == gfn + 1) /* 0: none */
            return true;
    return false;
}

static void remember(struct pod *pod, uint64_t gfn) { pod->recent[pod->next_recent++ % POD_RECENT] = gfn + 1; }

/* Puts marks in the place of up to SWEEP_BATCH pages that may be taken back. Returns how many. */
static unsigned find_zeros(struct p2m *p, struct swept *s)
{
    struct pod *pod = &p->pod;
    unsigned n = 0;

    if (!pod->sweep_left)
        pod->sweep_left = p->max_gfn + 1;
    for (unsigned i = 0; i < SWEEP_FRAMES && n < SWEEP_BATCH && pod->sweep_left; i++) {
        uint64_t gfn = pod->sweep_gfn, step = 1;
        struct p2m_place place;

        p2m_find(p, gfn, &place);
        if (place.kind != P2M_RAM)
            step = (1UL << BLOCK_ORDER * (place.level - 1)) - (gfn & ((1UL << BLOCK_ORDER * (place.level - 1)) - 1));
        else if (only_mapped_once(place.m) && !(frame_of(place.m)->control & FRAME_FOREIGN) && !is_recent(pod, gfn) &&
                 is_zero(place.m) && (place.e = p2m_make_entry(p, gfn, SMALL))) {
            p2m_set_mark(place.e);
            s[n++] = (struct swept){place.e, gfn, place.m};
        }
        pod->sweep_left -= min(step, pod->sweep_left);
        pod->sweep_gfn = gfn + step > p->max_gfn ? 0 : gfn + step;
    }
    return n;
}

/*
 * One part of a sweep. Where a page is to be taken back its mark is there first: after the flush the guest cannot write to it any more,
 * and waits for the lock if it meets the mark. If the page is still zero and nobody else's then, it goes.
 */
static enum pod_result sweep(struct domain *d)
{
    struct p2m *p = &d->hvm->p2m;
    struct swept s[SWEEP_BATCH];
    unsigned n = find_zeros(p, s);
    uint64_t before = p->pod.pages;
    bool again = false;

    if (n)
        p2m_flush(d);
    for (unsigned i = 0; i < n; i++) {
        if (is_zero(s[i].m) && only_mapped_once(s[i].m) && add_to_cache(&p->pod, s[i].m, 0)) {
            p->pod.entries++;
            m2p_write(s[i].m, M2P_INVALID);
            frame_put_writable(s[i].m);
        } else {
            p2m_set_leaf(s[i].e, s[i].m, SMALL);
            again = again || !only_mapped_once(s[i].m); /* for a moment: next time */
        }
    }
    if (p->pod.pages > before || again)
        p->pod.sweep_left = 0; /* the next one looks at all of them */
    if (p->pod.pages > before)
        return POD_DONE;
    return p->pod.sweep_left || again ? POD_AGAIN : POD_EXHAUSTED;
}

/* ---- Populating ---- */

/* A frame that is in the cache always can get this reference: no domain's tables are in it, and it has one reference. */
static void map(struct domain *d, uint64_t *e, uint64_t gfn, mfn_t m, unsigned level)
{
    uint64_t count = 1UL << BLOCK_ORDER * (level - 1);

    for (uint64_t i = 0; i < count; i++) {
        BUG_ON(!frame_get_writable(mfn_add(m, i), d));
        m2p_write(mfn_add(m, i), gfn + i);
    }
    p2m_set_leaf(e, m, level);
    d->hvm->p2m.pod.entries -= count;
}

/* The lock is held. */
static enum pod_result populate(struct domain *d, uint64_t gfn, bool may_sweep)
{
    struct p2m *p = &d->hvm->p2m;
    struct pod *pod = &p->pod;
    enum pod_result r = POD_DONE;
    struct p2m_place place;
    uint64_t *e;

    p2m_find(p, gfn, &place);
    if (place.kind != P2M_ON_DEMAND)
        return POD_DONE;
    if (d->dying)
        return POD_EXHAUSTED;
    if (place.level == LARGE && pod->blocks.count) {
        pod->pages -= BLOCK;
        map(d, place.e, gfn & ~(BLOCK - 1), MFN(pop(&pod->blocks)), LARGE);
        remember(pod, gfn);
        return POD_DONE;
    }
    if (!pod->pages)
        r = may_sweep ? sweep(d) : POD_EXHAUSTED;
    if (r != POD_DONE)
        return r;
    e = p2m_make_entry(p, gfn, SMALL);
    if (!e)
        return POD_NO_TABLE;
    map(d, e, gfn, take_single(pod), SMALL);
    remember(pod, gfn);
    return POD_DONE;
}

enum pod_result pod_populate(struct domain *d, gfn_t gfn, bool may_sweep)
{
    struct p2m *p = &d->hvm->p2m;
    enum pod_result r;

    if (gfn.n > P2M_MAX_GFN)
        return POD_DONE;
    spin_lock(&p->lock);
    r = populate(d, gfn.n, may_sweep);
    spin_unlock(&p->lock);
    return r;
}

static void crash(struct domain *d, gfn_t gfn, enum pod_result r)
{
    struct pod_numbers n = pod_numbers(d);

    if (d->dying)
        return;
    if (r == POD_NO_TABLE)
        domain_crash(d, "no memory of Croft's for a nested page table, at its frame 0x%lx\n", gfn.n);
    else
        domain_crash(
            d,
            "it uses more than its 'memory', %lu KiB, and has not given back what 'maxmem' is above it: at frame "
            "0x%lx there is no page left, %lu KiB are still to come\n",
            n.total * 4, gfn.n, n.entries * 4);
}

void pod_fault(struct domain *d, gfn_t gfn)
{
    enum pod_result r = pod_populate(d, gfn, true);

    if (r == POD_EXHAUSTED || r == POD_NO_TABLE)
        crash(d, gfn, r);
}

bool pod_populate_now(struct domain *d, gfn_t gfn)
{
    enum pod_result r;

    do
        r = pod_populate(d, gfn, true);
    while (r == POD_AGAIN);
    if (r != POD_DONE)
        crash(d, gfn, r);
    return r == POD_DONE;
}

/* ---- The audit ---- */

static void each_of_stack(const struct pod_stack *s, uint64_t frames, void (*fn)(void *arg, mfn_t m), void *arg)
{
    for (const struct pod_chunk *c = s->top; c; c = c->below)
        for (uint64_t i = 0; i < c->used * frames; i++)
            fn(arg, MFN(c->frames[i / frames] + i % frames));
}

void pod_each(const struct pod *pod, void (*fn)(void *arg, mfn_t m), void *arg)
{
    each_of_stack(&pod->singles, 1, fn, arg);
    each_of_stack(&pod->blocks, BLOCK, fn, arg);
    for (uint64_t m = pod->part; m < pod->part_end; m++)
        fn(arg, MFN(m));
}
