/*
 * Frames that their owner trades in: see frame_claim in memory/frame.h. By invariant 5 one reference in all means no use of
 * any type. While a frame is claimed its owner may map it anew; that is a reference of its own, and frame_put leaves the frame
 * alive until that one goes too, as for a frame given back while it is mapped.
 */
#include "domain/domain.h"
#include "memory/frame.h"
#include "memory/frame_inline.h"

bool frame_claim(mfn_t m, const struct domain *d)
{
    struct frame *f;
    uint64_t c;

    if (!mfn_valid(m))
        return false;
    f = frame_of(m);
    c = READ_ONCE(f->control);
    do {
        if (FRAME_OWNER(c) != d->id || FRAME_REFS(c) != 1 || !(c & FRAME_ALLOCATED))
            return false;
    } while (!frame_cas(&f->control, &c, c & ~FRAME_ALLOCATED));
    return true;
}

void frame_unclaim(mfn_t m)
{
    struct domain *d = domain_owner_of_frame(frame_owner(frame_of(m)));

    __atomic_fetch_or(&frame_of(m)->control, FRAME_ALLOCATED, __ATOMIC_SEQ_CST);
    if (unlikely(d->dying)) /* its frames may have been collected already, this one without effect */
        (void)frame_release(m, d);
}
