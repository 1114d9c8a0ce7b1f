/* The frame table's counts: see the invariants in memory/frame.h. The audit is in memory/audit.c. */
#include "cpu/tlb.h"
#include "domain/domain.h"
#include "lib/log.h"
#include "memory/alloc.h"
#include "memory/frame.h"

uint64_t max_frame;

#define REF_MAX 0x7fffffffU
#define OWNER_SHIFT 32
#define CAS(p, old, new) __atomic_compare_exchange_n(p, old, new, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)

static bool get_ref(struct frame *f, domid_t owner)
{
    uint64_t c = READ_ONCE(f->control);

    do {
        if (!FRAME_REFS(c) || FRAME_OWNER(c) != owner || unlikely(FRAME_REFS(c) >= REF_MAX))
            return false;
    } while (!CAS(&f->control, &c, c + 1));
    return true;
}

bool frame_get(mfn_t m, const struct domain *d)
{
    return mfn_valid(m) && get_ref(frame_of(m), d->id);
}

void frame_put(mfn_t m)
{
    struct frame *f = frame_of(m);
    uint64_t c = READ_ONCE(f->control), next;

    do {
        ASSERT(FRAME_REFS(c));
        next = c - 1;
    } while (!CAS(&f->control, &c, next));
    if (unlikely(!FRAME_REFS(next))) {
        struct domain *d;

        ASSERT(!TYPE_COUNT(f->type) && !(next & (FRAME_ALLOCATED | FRAME_SHARED)));
        /* Read-only mappings took no type: whatever CPU of the owner may hold one must flush before the frame's next use. */
        f->tlb_stamp = tlb_clock;
        d = domain_owner_of_frame(FRAME_OWNER(next));
        alloc_free_domain_frame(m, d);
    }
}

static bool get_writable_type(struct frame *f, const struct domain *d)
{
    uint64_t t = READ_ONCE(f->type), next;

    do {
        if (TYPE_COUNT(t) == 0) {
            next = TYPE_MAKE(FRAME_WRITABLE) | 1;
        } else {
            if (TYPE_OF(t) != FRAME_WRITABLE || unlikely(TYPE_COUNT(t) >= REF_MAX))
                return false;
            next = t + 1;
        }
    } while (!CAS(&f->type, &t, next));
    /* It was a page table: a CPU may still walk it from its paging-structure caches. */
    if (TYPE_COUNT(t) == 0 && TYPE_OF(t) != FRAME_WRITABLE && TYPE_OF(t) != FRAME_NONE)
        tlb_flush_since(&d->dirty_cpus, f->tlb_stamp);
    return true;
}

bool frame_get_writable(mfn_t m, const struct domain *d)
{
    struct frame *f;

    if (!mfn_valid(m))
        return false;
    f = frame_of(m);
    if (!get_ref(f, d->id))
        return false;
    if (likely(!(f->control & FRAME_SHARED_RO)) && likely(get_writable_type(f, d)))
        return true;
    frame_put(m);
    return false;
}

void frame_put_writable(mfn_t m)
{
    struct frame *f = frame_of(m);
    uint64_t t = READ_ONCE(f->type);

    ASSERT(TYPE_OF(t) == FRAME_WRITABLE && TYPE_COUNT(t));
    /* The stamp goes first: whoever sees the count at zero must see a stamp not older than the last use. */
    do {
        if (TYPE_COUNT(t) == 1)
            f->tlb_stamp = tlb_clock;
    } while (!CAS(&f->type, &t, t - 1));
    frame_put(m);
}

bool frame_release(mfn_t m, struct domain *d)
{
    struct frame *f;
    uint64_t c;

    if (!mfn_valid(m))
        return false;
    f = frame_of(m);
    c = READ_ONCE(f->control);
    do {
        if (!FRAME_REFS(c) || FRAME_OWNER(c) != d->id || !(c & FRAME_ALLOCATED))
            return false;
    } while (!CAS(&f->control, &c, c & ~FRAME_ALLOCATED));
    frame_put(m); /* the reference that FRAME_ALLOCATED stood for */
    return true;
}

void frame_share(mfn_t m, struct domain *d, bool writable)
{
    struct frame *f = frame_of(m);

    f->type = 0;
    __atomic_store_n(&f->control, 1 | (uint64_t)d->id << OWNER_SHIFT | FRAME_SHARED | (writable ? 0 : FRAME_SHARED_RO),
                     __ATOMIC_RELEASE);
}

int frame_unshare(mfn_t m)
{
    struct frame *f = frame_of(m);
    uint64_t c = READ_ONCE(f->control);

    ASSERT(c & FRAME_SHARED);
    do {
        if (FRAME_REFS(c) != 1)
            return -EBUSY;
    } while (!CAS(&f->control, &c, 1 | (uint64_t)DOMID_CROFT << OWNER_SHIFT));
    f->type = 0;
    tlb_flush_mask(&cpu_online);
    return 0;
}
