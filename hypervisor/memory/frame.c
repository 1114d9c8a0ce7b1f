/* The frame table's counts: see the invariants in memory/frame.h. The audit is in memory/audit.c. */
#include "cpu/tlb.h"
#include "domain/domain.h"
#include "lib/log.h"
#include "memory/alloc.h"
#include "memory/frame.h"
#include "memory/frame_inline.h"

uint64_t max_frame;

#define OWNER_SHIFT 32
#define CAS(p, old, new) __atomic_compare_exchange_n(p, old, new, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)

bool frame_get(mfn_t m, const struct domain *d) { return mfn_valid(m) && frame_ref_get(frame_of(m), d->id); }

void frame_put(mfn_t m) { frame_ref_put(frame_of(m)); }

void frame_last_put(struct frame *f, uint64_t control)
{
    ASSERT(FRAME_REFS(control) == 1 && !TYPE_COUNT(f->type) && !(control & (FRAME_ALLOCATED | FRAME_SHARED)));
    /* Read-only mappings took no type: whatever CPU of the owner may hold one must flush before the frame's next use. */
    f->tlb_stamp = tlb_clock;
    alloc_free_domain_frame(mfn_of(f), domain_owner_of_frame(FRAME_OWNER(control)));
}

void frame_last_writable_put(struct frame *f)
{
    uint64_t t = READ_ONCE(f->type);
    bool last;

    ASSERT(TYPE_OF(t) == FRAME_WRITABLE && TYPE_COUNT(t));
    do
        last = TYPE_COUNT(t) == 1;
    while (!frame_cas(&f->type, &t, last ? TYPE_MAKE(FRAME_WRITABLE) | TYPE_LEAVING : t - 1));
    /*
     * The clock is read when the last use has ended for all to see, as has the store that cleared its entry: read before, it may
     * be older than uses that came and went meanwhile. Whoever sees the count at zero waits for the stamp.
     */
    if (last) {
        f->tlb_stamp = tlb_clock;
        __atomic_store_n(&f->type, TYPE_MAKE(FRAME_WRITABLE), __ATOMIC_RELEASE);
    }
    frame_ref_put(f);
}

uint64_t frame_type_left(const struct frame *f)
{
    uint64_t t;

    while ((t = __atomic_load_n(&f->type, __ATOMIC_ACQUIRE)) & TYPE_LEAVING)
        cpu_relax();
    return t;
}

/*
 * It was a page table or a descriptor page: a CPU may still use it as that, from its paging-structure caches. Until the flush is
 * over nobody may let the guest write to it: its first user flushes, others, who need not hold the mm_lock, wait for that.
 */
static void frame_type_changed(struct frame *f, const struct domain *d, bool first)
{
    if (first) {
        tlb_flush_since(frame_users(f, d), f->tlb_stamp);
        __atomic_fetch_and(&f->type, ~TYPE_FLUSHING, __ATOMIC_RELEASE);
        return;
    }
    while (__atomic_load_n(&f->type, __ATOMIC_ACQUIRE) & TYPE_FLUSHING)
        cpu_relax();
}

bool frame_types_get(struct frame *f, const struct domain *d, uint32_t n)
{
    uint64_t t = READ_ONCE(f->type), next;

    for (;;) {
        next = t + n;
        if (TYPE_COUNT(t) == 0) {
            if (t & TYPE_LEAVING) {
                t = frame_type_left(f);
                continue;
            }
            next = TYPE_MAKE(FRAME_WRITABLE) | n | (TYPE_OF(t) > FRAME_WRITABLE ? TYPE_FLUSHING : 0);
        }
        if ((TYPE_COUNT(t) && (TYPE_OF(t) != FRAME_WRITABLE || TYPE_COUNT(t) >= FRAME_REF_MAX)) ||
            (f->control & FRAME_SHARED_RO)) {
            frame_refs_put(f, n);
            return false;
        }
        if (frame_cas(&f->type, &t, next))
            break;
    }
    if (next & TYPE_FLUSHING)
        frame_type_changed(f, d, TYPE_COUNT(next) == n);
    return true;
}

bool frame_get_writable(mfn_t m, const struct domain *d) { return mfn_valid(m) && frame_writable_get(frame_of(m), d); }

void frame_put_writable(mfn_t m) { frame_writable_put(frame_of(m)); }

bool frame_get_foreign(mfn_t m, const struct domain *d, bool writable)
{
    if (!mfn_valid(m) || !frame_ref_get(frame_of(m), d->id))
        return false;
    /* Before the reference is used for anything: a later change of type has to see the mark. */
    frame_mark_foreign(frame_of(m));
    if (!writable)
        return true;
    bool ok = frame_writable_get(frame_of(m), d);

    frame_ref_put(frame_of(m)); /* a writable one came with another */
    return ok;
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

void frame_disown(mfn_t m, struct domain *d)
{
    struct frame *f = frame_of(m);

    ASSERT(f->control & FRAME_SHARED);
    alloc_adopt_frame(m, d);
    __atomic_fetch_and(&f->control, ~(FRAME_SHARED | FRAME_SHARED_RO), __ATOMIC_RELEASE);
    frame_put(m); /* the reference that FRAME_SHARED stood for */
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
