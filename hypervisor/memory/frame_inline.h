/*
 * The frame table's counts as inline functions, for the PV MMU's hot paths. The same rules as memory/frame.h, whose functions
 * (memory/frame.c) are these, out of line.
 */
#ifndef MEMORY_FRAME_INLINE_H
#define MEMORY_FRAME_INLINE_H

#include "cpu/tlb.h"
#include "domain/domain.h"
#include "memory/frame.h"

/* Beyond it no more are given. It is far from the end of 32 bits, so several at once may go over it. */
#define FRAME_REF_MAX 0x7fffffffU

static inline bool frame_cas(uint64_t *word, uint64_t *old, uint64_t new)
{
    return likely(__atomic_compare_exchange_n(word, old, new, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
}

void frame_last_put(struct frame *f, uint64_t control); /* the last reference went: frees it. control: with that one */
void frame_last_writable_put(struct frame *f);          /* frame_writable_put where the count may go to zero */
/* The WRITABLE part of frame_writables_get, in general: n references are taken already, and dropped if it fails. */
bool frame_types_get(struct frame *f, const struct domain *d, uint32_t n);
uint64_t frame_type_left(const struct frame *f); /* waits until TYPE_LEAVING is gone; returns the type word */

static inline void frame_mark_foreign(struct frame *f)
{
    if (!(READ_ONCE(f->control) & FRAME_FOREIGN))
        __atomic_fetch_or(&f->control, FRAME_FOREIGN, __ATOMIC_SEQ_CST);
}

/* The CPUs that may hold translations of a frame of d's. */
static inline const cpumask_t *frame_users(const struct frame *f, const struct domain *d)
{
    return unlikely(READ_ONCE(f->control) & FRAME_FOREIGN) ? &cpu_online : &d->dirty_cpus;
}

/* n references, few, are taken and dropped at once: all or none. */
static inline __attribute__((always_inline)) bool frame_refs_get(struct frame *f, domid_t owner, uint32_t n)
{
    uint64_t c = READ_ONCE(f->control);

    do {
        if (unlikely(FRAME_OWNER(c) != owner || FRAME_REFS(c) - 1 >= FRAME_REF_MAX))
            return false;
    } while (!frame_cas(&f->control, &c, c + n));
    return true;
}

static inline __attribute__((always_inline)) void frame_refs_put(struct frame *f, uint32_t n)
{
    uint64_t c = READ_ONCE(f->control);

    while (!frame_cas(&f->control, &c, c - n))
        ;
    if (unlikely(FRAME_REFS(c) <= n))
        frame_last_put(f, c - (n - 1));
}

static inline __attribute__((always_inline)) bool frame_writables_get(struct frame *f, const struct domain *d,
                                                                      uint32_t n)
{
    uint64_t t;

    if (unlikely(!frame_refs_get(f, d->id, n)))
        return false;
    t = READ_ONCE(f->type);
    /* Nearly always it is in use as that already: by the guest kernel's own mapping. */
    if (likely(t >> 32 == FRAME_WRITABLE && TYPE_COUNT(t) - 1 < FRAME_REF_MAX - 1 && !(f->control & FRAME_SHARED_RO)) &&
        frame_cas(&f->type, &t, t + n))
        return true;
    return frame_types_get(f, d, n);
}

static inline __attribute__((always_inline)) void frame_writables_put(struct frame *f, uint32_t n)
{
    uint64_t t = READ_ONCE(f->type);

    do {
        if (unlikely(t >> 32 != FRAME_WRITABLE || TYPE_COUNT(t) <= n)) {
            for (; n; n--)
                frame_last_writable_put(f);
            return;
        }
    } while (!frame_cas(&f->type, &t, t - n));
    frame_refs_put(f, n);
}

static inline bool frame_ref_get(struct frame *f, domid_t owner) { return frame_refs_get(f, owner, 1); }
static inline void frame_ref_put(struct frame *f) { frame_refs_put(f, 1); }
static inline bool frame_writable_get(struct frame *f, const struct domain *d) { return frame_writables_get(f, d, 1); }
static inline void frame_writable_put(struct frame *f) { frame_writables_put(f, 1); }

#endif
