/*
 * XENMEM_exchange: a PV domain trades frames for others, in the same number, that are contiguous or lie below an
 * address: how a guest gets buffers for devices. The lists are worked off in chunks, each the smallest trade that comes
 * out even; a chunk is checked and its new frames are allocated before any frame is given up, so it happens wholly or
 * not at all. nr_exchanged, in guest memory, is the state between two slices: false values harm only the guest.
 */
#include "domain/guest_access.h"
#include "hypercall/dispatch.h"
#include "hypercall/memory.h"
#include "lib/log.h"
#include "memory/alloc.h"

/* One side is one extent, the other 2^|difference of the orders| extents, so one list of a chunk has one element. */
struct chunk {
    unsigned in_extents, out_extents, pages;
    uint64_t *in;  /* machine frames, as given */
    uint64_t *out; /* pseudo-physical frames, as given; machine frames once there are some */
    uint64_t single, many[1 << MEMORY_MAX_ORDER];
};

static mfn_t input_frame(const struct xen_memory_exchange *x, const struct chunk *c, unsigned i)
{
    return MFN(c->in[i >> x->in.extent_order] + (i & ((1U << x->in.extent_order) - 1)));
}

/* The domain keeps the first 'pages' frames of the chunk's input. */
static void unclaim_input(const struct xen_memory_exchange *x, struct domain *d, const struct chunk *c, unsigned pages)
{
    for (unsigned i = 0; i < pages; i++)
        frame_unclaim(input_frame(x, c, i));
    if (d->dying) /* its frames may have been gone through already: these would be forgotten */
        for (unsigned i = 0; i < pages; i++)
            memory_give_back(input_frame(x, c, i), 1, d);
}

/* Reads the chunk's lists and claims each frame to be given up: it must be the domain's, in no use, and there once. */
static long read_chunk(const struct xen_memory_exchange *x, struct domain *d, unsigned long index, struct chunk *c)
{
    if (copy_from_handle(c->in, x->in.extent_start, index * c->in_extents, c->in_extents) ||
        copy_from_handle(c->out, x->out.extent_start, index * c->out_extents, c->out_extents))
        return refuse(-EFAULT, "exchange: a list of extents is not there\n");
    for (unsigned i = 0; i < c->pages; i++) {
        mfn_t m = input_frame(x, c, i);

        if (!frame_claim(m, d)) {
            unclaim_input(x, d, c, i);
            return refuse(-EINVAL,
                          "exchange: frame 0x%lx does not belong to d%u, or is mapped or in use: unmap it before\n",
                          m.n, d->id);
        }
    }
    return 0;
}

/* The new frames of a chunk, with their numbers in the machine-to-physical table; all or none. */
static bool alloc_output(const struct xen_memory_exchange *x, struct domain *d, struct chunk *c)
{
    unsigned i;

    /* For a moment the domain has both. */
    __atomic_fetch_add(&d->max_pages, c->pages, __ATOMIC_SEQ_CST);
    for (i = 0; i < c->out_extents; i++) {
        mfn_t m = memory_alloc(d, x->out.extent_order, x->out.mem_flags, c->out[i]);

        if (mfn_eq(m, INVALID_MFN))
            break;
        c->out[i] = m.n;
    }
    __atomic_fetch_sub(&d->max_pages, c->pages, __ATOMIC_SEQ_CST);
    if (i == c->out_extents)
        return true;
    while (i--)
        memory_give_back(MFN(c->out[i]), 1UL << x->out.extent_order, d);
    return false;
}

static long exchange_chunk(const struct xen_memory_exchange *x, struct domain *d, unsigned long index, struct chunk *c)
{
    long error = read_chunk(x, d, index, c);

    if (error)
        return error;
    if (!alloc_output(x, d, c)) {
        unclaim_input(x, d, c, c->pages);
        guest_log(LOG_DEBUG, "exchange: no extent of order %u below 2^%u\n", x->out.extent_order,
                  XENMEMF_get_address_bits(x->out.mem_flags));
        return -ENOMEM;
    }
    for (unsigned i = 0; i < c->pages; i++) {
        mfn_t m = input_frame(x, c, i);

        m2p_write(m, M2P_INVALID); /* first: as soon as it is free it may be another's */
        frame_put(m);
    }
    if (copy_to_handle(x->out.extent_start, index * c->out_extents, c->out, c->out_extents))
        return refuse(-EFAULT, "exchange: the list of new frames cannot be written\n");
    return 0;
}

static long check_request(const struct xen_memory_exchange *x)
{
    if (x->in.extent_order > MEMORY_MAX_ORDER || x->out.extent_order > MEMORY_MAX_ORDER)
        return refuse(-EPERM, "exchange: extents of order %u for order %u: above %u\n", x->in.extent_order,
                      x->out.extent_order, MEMORY_MAX_ORDER);
    if (x->in.nr_extents > 1UL << 40 || x->out.nr_extents > 1UL << 40 || x->nr_exchanged > x->in.nr_extents ||
        x->in.nr_extents << x->in.extent_order != x->out.nr_extents << x->out.extent_order ||
        x->in.domid != x->out.domid)
        return refuse(-EINVAL,
                      "exchange: %lu extents of order %u for %lu of order %u, %lu done: does not come out even\n",
                      x->in.nr_extents, x->in.extent_order, x->out.nr_extents, x->out.extent_order, x->nr_exchanged);
    if (!guest_range_ok(x->in.extent_start.p, x->in.nr_extents * sizeof(xen_pfn_t)) ||
        !guest_range_ok(x->out.extent_start.p, x->out.nr_extents * sizeof(xen_pfn_t)))
        return refuse(-EFAULT, "exchange: a list of extents is not in guest memory\n");
    return 0;
}

long memory_exchange(void *guest)
{
    struct xen_memory_exchange x, *at = guest;
    struct chunk c;
    struct domain *d;
    unsigned long index, first, end;
    long result;

    if (copy_from_guest(&x, guest, sizeof(x)))
        return refuse(-EFAULT, "exchange: no request at 0x%lx\n", (unsigned long)guest);
    result = check_request(&x);
    if (result)
        return result;
    c.in_extents = x.out.extent_order > x.in.extent_order ? 1U << (x.out.extent_order - x.in.extent_order) : 1;
    c.out_extents = x.in.extent_order > x.out.extent_order ? 1U << (x.in.extent_order - x.out.extent_order) : 1;
    c.pages = c.in_extents << x.in.extent_order;
    c.in = c.in_extents > 1 ? c.many : &c.single;
    c.out = c.in_extents > 1 ? &c.single : c.many;
    if (x.nr_exchanged % c.in_extents)
        return refuse(-EINVAL, "exchange: %lu extents done is not a multiple of %u\n", x.nr_exchanged, c.in_extents);
    result = memory_target(x.in.domid, &d);
    if (result)
        return result;
    first = x.nr_exchanged / c.in_extents;
    end = x.in.nr_extents / c.in_extents;
    for (index = first; index < end && !result; index += !result) {
        if (index > first && hypercall_preempt_check()) {
            x.nr_exchanged = index * c.in_extents;
            domain_put(d);
            if (copy_to_guest(&at->nr_exchanged, &x.nr_exchanged, sizeof(x.nr_exchanged)))
                return -EFAULT;
            return hypercall_continue(XENMEM_exchange, (uint64_t)guest, 0, 0, 0);
        }
        result = exchange_chunk(&x, d, index, &c);
    }
    domain_put(d);
    x.nr_exchanged = index * c.in_extents;
    if (copy_to_guest(&at->nr_exchanged, &x.nr_exchanged, sizeof(x.nr_exchanged)))
        return -EFAULT;
    return result;
}
