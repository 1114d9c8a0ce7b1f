/* Copies between frames, own or granted, and the transfer of frames to other domains. See domain/grant.h. */
#include "cpu/tlb.h"
#include "domain/grant_private.h"
#include "hvm/p2m.h"
#include "lib/log.h"
#include "lib/string.h"
#include "memory/alloc.h"
#include "memory/frame.h"
#include "memory/map.h"

/* A transitive entry of the granter's leads to an entry of another domain's, which grants to the granter. */
static int16_t follow(struct grant_copy_end *e)
{
    struct domain *next = e->pin.next_domain == e->granter->id ? NULL : domain_get_by_id(e->pin.next_domain);
    grant_ref_t ref = e->pin.next_ref;
    int16_t status;

    if (!next)
        return refuse(GNTST_general_error, "copy: grant %u of d%u is a transitive one of domain %u\n", e->ref,
                      e->granter->id, e->pin.next_domain);
    status = grant_pin(next, ref, e->granter->id, e->writable, GRANT_COPY_LAST, &e->pin);
    if (status != GNTST_okay) {
        domain_put(next);
        return status;
    }
    e->middle = e->granter;
    e->middle_ref = e->ref;
    e->granter = next;
    e->ref = ref;
    return GNTST_okay;
}

static int16_t open_granted(struct grant_copy_end *e)
{
    struct domain *granter = domain_get_by_id(e->what.domid);
    int16_t status;

    if (!granter)
        return refuse(GNTST_bad_domain, "copy: there is no domain %u\n", e->what.domid);
    e->ref = e->what.u.ref;
    status = grant_pin(granter, e->ref, current->domain->id, e->writable, GRANT_COPY, &e->pin);
    if (status != GNTST_okay) {
        domain_put(granter);
        return status;
    }
    e->granter = granter;
    if (!e->pin.transitive)
        return GNTST_okay;
    status = follow(e);
    if (status != GNTST_okay) {
        grant_unpin(granter, e->ref, e->writable);
        domain_put(granter);
        e->granter = NULL;
    }
    return status;
}

static int16_t open_own(struct grant_copy_end *e)
{
    struct domain *d = current->domain;
    mfn_t m;

    if (e->what.domid != DOMID_SELF)
        return refuse(GNTST_permission_denied, "copy: by frame number only own frames (DOMID_SELF), not domain %u's\n",
                      e->what.domid);
    m = d->hvm ? p2m_get_frame(d, GFN(e->what.u.gmfn), false) : MFN(e->what.u.gmfn);
    if (mfn_eq(m, INVALID_MFN) || (!d->hvm && !frame_get(m, d)))
        return refuse(GNTST_bad_page, "copy: frame 0x%lx does not belong to the domain\n",
                      (unsigned long)e->what.u.gmfn);
    if (e->writable) {
        bool ok = frame_get_writable(m, d);

        frame_put(m);
        if (!ok)
            return refuse(GNTST_general_error, "copy: frame 0x%lx may not be written\n", m.n);
    }
    e->pin = (struct grant_pin){.frame = m, .length = PAGE_SIZE};
    return GNTST_okay;
}

void grant_copy_close(struct grant_copy_end *e)
{
    if (!e->ready)
        return;
    e->ready = false;
    if (e->granter) {
        grant_unpin(e->granter, e->ref, e->writable);
        domain_put(e->granter);
    }
    if (e->middle) {
        grant_unpin(e->middle, e->middle_ref, e->writable);
        domain_put(e->middle);
    }
    if (e->writable)
        frame_put_writable(e->pin.frame);
    else
        frame_put(e->pin.frame);
}

/* Makes an end ready for [offset, offset + len), unless it is from the copy before. */
static int16_t open_end(struct grant_copy_end *e, const struct gnttab_copy_ptr *what, bool by_ref, bool writable,
                        uint16_t len)
{
    int16_t status;

    if (!e->ready || e->by_ref != by_ref || e->what.domid != what->domid ||
        (by_ref ? e->what.u.ref != what->u.ref : e->what.u.gmfn != what->u.gmfn)) {
        grant_copy_close(e);
        *e = (struct grant_copy_end){.by_ref = by_ref, .writable = writable, .what = *what};
        status = by_ref ? open_granted(e) : open_own(e);
        if (status != GNTST_okay)
            return status;
        e->ready = true;
    }
    if (what->offset < e->pin.start || what->offset + len > e->pin.start + e->pin.length)
        return refuse(GNTST_general_error, "copy: bytes %u to %u of a grant of bytes %u to %u\n", what->offset,
                      what->offset + len, e->pin.start, e->pin.start + e->pin.length);
    return GNTST_okay;
}

int16_t grant_copy(const struct gnttab_copy *op, struct grant_copy_end *source, struct grant_copy_end *destination)
{
    int16_t status;

    if (op->source.offset + op->len > PAGE_SIZE || op->dest.offset + op->len > PAGE_SIZE)
        return refuse(GNTST_bad_copy_arg, "copy: %u bytes from %u to %u are not within a page\n", op->len,
                      op->source.offset, op->dest.offset);
    status = open_end(source, &op->source, op->flags & GNTCOPY_source_gref, false, op->len);
    if (status == GNTST_okay)
        status = open_end(destination, &op->dest, op->flags & GNTCOPY_dest_gref, true, op->len);
    if (status == GNTST_okay)
        memmove((char *)mfn_to_virt(destination->pin.frame) + op->dest.offset,
                (const char *)mfn_to_virt(source->pin.frame) + op->source.offset, op->len);
    return status;
}

/* The frame is the caller's no more, whatever comes: it is free if the receiver does not get it. */
static int16_t transfer_to(struct domain *to, mfn_t m, grant_ref_t ref)
{
    struct domain *from = current->domain;
    uint64_t pfn;

    if (to == from)
        return refuse(GNTST_bad_domain, "transfer: to itself\n");
    if (to->hvm)
        return refuse(GNTST_general_error, "transfer: to d%u, which has frame numbers of its own\n", to->id);
    if (!alloc_reserve_frame(to))
        return refuse(GNTST_general_error, "transfer: d%u has %lu of %lu pages%s\n", to->id, to->tot_pages,
                      to->max_pages, to->dying ? " and is being destroyed" : "");
    if (!grant_transfer_begin(to, ref, from->id, &pfn)) {
        alloc_unreserve_frame(to);
        return GNTST_general_error;
    }
    m2p_write(m, pfn);
    alloc_give_taken_frame(m, to);
    grant_transfer_end(to, ref, m);
    return GNTST_okay;
}

int16_t grant_transfer(const struct gnttab_transfer *op)
{
    mfn_t m = MFN(op->mfn);
    struct domain *to;
    int16_t status;

    if (!frame_claim(m, current->domain))
        return refuse(GNTST_bad_page, "transfer: frame 0x%lx does not belong to the domain, or is mapped or in use\n",
                      m.n);
    if (!alloc_take_claimed_frame(m, current->domain)) {
        frame_unclaim(m);
        return refuse(GNTST_bad_page, "transfer: frame 0x%lx came in use\n", m.n);
    }
    /* Nobody has it mapped, but CPUs may know a mapping from before. */
    tlb_flush_mask(&cpu_online);
    to = domain_get_by_id(op->domid);
    status =
        to ? transfer_to(to, m, op->ref) : refuse(GNTST_bad_domain, "transfer: there is no domain %u\n", op->domid);
    if (status != GNTST_okay) {
        m2p_write(m, M2P_INVALID);
        free_frames(m, 0);
    }
    if (to)
        domain_put(to);
    return status;
}
