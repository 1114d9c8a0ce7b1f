/*
 * grant_table_op: its operations come in arrays, which are worked off in slices (domain/grant_*.c has the operations themselves).
 * The result of each is in its own status; the call fails only for arguments that make no sense at all. Source:
 * <xen/grant_table.h>.
 */
#include "cpu/tlb.h"
#include "domain/grant_private.h"
#include "domain/guest_access.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"

#define MORE 1L /* the slice ended before the batch */

/* A slice of a batch: 'done' counts, from the caller's pointer on. */
struct batch {
    void *guest;
    uint32_t count, done;
};

static bool interrupted(const struct batch *b) { return b->done && hypercall_preempt_check(); }

static long map_slice(struct batch *b)
{
    struct gnttab_map_grant_ref op, *guest = b->guest;
    struct domain *granter = NULL;
    bool stale = false;
    long rc = 0;

    for (; b->done < b->count; b->done++) {
        if (interrupted(b)) {
            rc = MORE;
            break;
        }
        _Static_assert(sizeof(op) == 32, "two halves");
        if (unlikely(!guest_read16((uint64_t *)&op, guest + b->done) ||
                     !guest_read16((uint64_t *)&op + 2, &guest[b->done].dom))) {
            rc = -EFAULT;
            break;
        }
        if (!granter || granter->id != op.dom) { /* mostly all of a batch are of one domain */
            if (granter)
                domain_put(granter);
            granter = op.dom == DOMID_SELF ? NULL : domain_get_by_id(op.dom);
        }
        if (likely(granter))
            grant_map(&op, granter, &stale);
        else
            op.status = refuse(GNTST_bad_domain, "map_grant_ref: there is no domain %u\n", op.dom);
        if (unlikely(!guest_write16(&guest[b->done].dom, (uint64_t *)&op + 2))) {
            rc = -EFAULT;
            break;
        }
    }
    if (granter)
        domain_put(granter);
    if (unlikely(stale))
        tlb_flush_mask(&current->domain->dirty_cpus);
    return rc;
}

/* Unmaps in two steps: the entries of a part of the batch go, then all TLBs are flushed, then the rest goes. */
static long unmap_part(struct batch *b, bool replace)
{
    struct grant_unmap finished[GRANT_UNMAP_SLICE];
    uint32_t n = 0;
    long rc = 0;

    for (uint32_t end = min(b->count, b->done + GRANT_UNMAP_SLICE); b->done < end && !rc; b->done++) {
        struct gnttab_unmap_grant_ref *unmap = b->guest, op;
        int16_t status;

        _Static_assert(sizeof(op) == sizeof(struct gnttab_unmap_and_replace) &&
                           offsetof(struct gnttab_unmap_grant_ref, dev_bus_addr) ==
                               offsetof(struct gnttab_unmap_and_replace, new_addr) &&
                           offsetof(struct gnttab_unmap_grant_ref, status) ==
                               offsetof(struct gnttab_unmap_and_replace, status),
                       "the two differ in the meaning of one member");
        /* Three words by two reads: of the middle one the second counts. */
        if (unlikely(!guest_read16((uint64_t *)&op, unmap + b->done) ||
                     !guest_read16((uint64_t *)&op + 1, &unmap[b->done].dev_bus_addr))) {
            rc = -EFAULT;
            break;
        }
        status = grant_unmap_begin(&finished[n], op.handle, op.host_addr, replace ? 0 : op.dev_bus_addr,
                                   replace ? op.dev_bus_addr : 0);
        n += status == GNTST_okay;
        if (copy_to_guest(&unmap[b->done].status, &status, sizeof(status)))
            rc = -EFAULT;
    }
    if (n)
        tlb_flush_mask(&current->domain->dirty_cpus);
    for (uint32_t i = 0; i < n; i++)
        grant_unmap_end(&finished[i]);
    return rc;
}

static long unmap_slice(struct batch *b, bool replace)
{
    long rc = 0;

    while (!rc && b->done < b->count) {
        if (interrupted(b))
            return MORE;
        rc = unmap_part(b, replace);
    }
    return rc;
}

static long copy_slice(struct batch *b)
{
    struct grant_copy_end source = {.ready = false}, destination = {.ready = false};
    struct gnttab_copy op, *guest = b->guest;
    long rc = 0;

    for (; b->done < b->count && !rc; b->done++) {
        if (interrupted(b)) {
            rc = MORE;
            break;
        }
        if (copy_from_guest(&op, guest + b->done, sizeof(op))) {
            rc = -EFAULT;
            break;
        }
        op.status = grant_copy(&op, &source, &destination);
        if (copy_to_guest(&guest[b->done].status, &op.status, sizeof(op.status)))
            rc = -EFAULT;
    }
    grant_copy_close(&source);
    grant_copy_close(&destination);
    return rc;
}

static long transfer_slice(struct batch *b)
{
    struct gnttab_transfer op, *guest = b->guest;

    for (; b->done < b->count; b->done++) {
        if (interrupted(b))
            return MORE;
        if (copy_from_guest(&op, guest + b->done, sizeof(op)))
            return -EFAULT;
        op.status = grant_transfer(&op);
        if (copy_to_guest(&guest[b->done].status, &op.status, sizeof(op.status)))
            return -EFAULT;
    }
    return 0;
}

static long swap_slice(struct batch *b)
{
    struct gnttab_swap_grant_ref op, *guest = b->guest;

    for (; b->done < b->count; b->done++) {
        if (interrupted(b))
            return MORE;
        if (copy_from_guest(&op, guest + b->done, sizeof(op)))
            return -EFAULT;
        op.status = grant_swap(current->domain, op.ref_a, op.ref_b);
        if (copy_to_guest(&guest[b->done].status, &op.status, sizeof(op.status)))
            return -EFAULT;
    }
    return 0;
}

/* Caches are coherent, and no domain has devices that go round them without the hypervisor's knowledge: there is nothing to do. */
static long cache_flush_slice(struct batch *b)
{
    struct gnttab_cache_flush op, *guest = b->guest;

    for (; b->done < b->count; b->done++) {
        if (interrupted(b))
            return MORE;
        if (copy_from_guest(&op, guest + b->done, sizeof(op)))
            return -EFAULT;
        if (op.offset >= PAGE_SIZE || op.length > PAGE_SIZE || op.offset + op.length > PAGE_SIZE)
            return refuse(-EINVAL, "cache_flush: %u bytes at %u are not within a page\n", op.length, op.offset);
        if (op.length && op.op)
            return refuse(-EOPNOTSUPP, "cache_flush: operation 0x%x is not offered\n", op.op);
    }
    return 0;
}

/* ---- One element a call ---- */

/* The domain whose table a call is about, with a reference. GNTST_* */
static int16_t table_domain(domid_t id, struct domain **d)
{
    const struct domain *self = current->domain;

    *d = domain_get_by_id(id);
    if (!*d)
        return refuse(GNTST_bad_domain, "grant_table_op: there is no domain %u\n", id);
    if (*d == self || self->is_privileged)
        return GNTST_okay;
    domain_put(*d);
    return refuse(GNTST_permission_denied, "grant_table_op: the table of d%u needs privilege\n", id);
}

static long setup_table(struct gnttab_setup_table *guest)
{
    struct gnttab_setup_table op;
    struct domain *d;

    if (copy_from_guest(&op, guest, sizeof(op)))
        return -EFAULT;
    op.status = table_domain(op.dom, &d);
    if (op.status == GNTST_okay) {
        op.status = grant_setup(d, op.nr_frames);
        for (uint32_t i = 0; op.status == GNTST_okay && i < op.nr_frames; i++) {
            xen_pfn_t frame = grant_frame(d, false, i).n;

            if (copy_to_handle(op.frame_list, i, &frame, 1))
                op.status = GNTST_bad_virt_addr;
        }
        domain_put(d);
    }
    return copy_to_guest(&guest->status, &op.status, sizeof(op.status)) ? -EFAULT : 0;
}

static long get_status_frames(struct gnttab_get_status_frames *guest)
{
    struct gnttab_get_status_frames op;
    struct domain *d;

    if (copy_from_guest(&op, guest, sizeof(op)))
        return -EFAULT;
    op.status = table_domain(op.dom, &d);
    if (op.status == GNTST_okay) {
        for (uint32_t i = 0; op.status == GNTST_okay && i < op.nr_frames; i++) {
            mfn_t m = grant_frame(d, true, i);

            if (mfn_eq(m, INVALID_MFN))
                op.status = refuse(GNTST_general_error, "get_status_frames: d%u has no %u\n", d->id, op.nr_frames);
            else if (copy_to_handle(op.frame_list, i, &m.n, 1))
                op.status = GNTST_bad_virt_addr;
        }
        domain_put(d);
    }
    return copy_to_guest(&guest->status, &op.status, sizeof(op.status)) ? -EFAULT : 0;
}

static long query_size(struct gnttab_query_size *guest)
{
    struct gnttab_query_size op;
    struct domain *d;

    if (copy_from_guest(&op, guest, sizeof(op)))
        return -EFAULT;
    op.status = table_domain(op.dom, &d);
    if (op.status == GNTST_okay) {
        op.nr_frames = READ_ONCE(d->grant.frames);
        op.max_nr_frames = d->grant.max_frames;
        domain_put(d);
    }
    return copy_to_guest(guest, &op, sizeof(op)) ? -EFAULT : 0;
}

static long set_version(struct gnttab_set_version *guest)
{
    struct gnttab_set_version op;
    long rc;

    if (copy_from_guest(&op, guest, sizeof(op)))
        return -EFAULT;
    rc = grant_set_version(current->domain, op.version);
    op.version = READ_ONCE(current->domain->grant.version);
    return copy_to_guest(guest, &op, sizeof(op)) ? -EFAULT : rc;
}

static long get_version(struct gnttab_get_version *guest)
{
    struct gnttab_get_version op;
    struct domain *d;
    int16_t status;

    if (copy_from_guest(&op, guest, sizeof(op)))
        return -EFAULT;
    status = table_domain(op.dom, &d);
    if (status != GNTST_okay)
        return status == GNTST_bad_domain ? -ESRCH : -EPERM;
    op.version = READ_ONCE(d->grant.version);
    domain_put(d);
    return copy_to_guest(guest, &op, sizeof(op)) ? -EFAULT : 0;
}

static long single(uint64_t cmd, void *guest, uint32_t count)
{
    if (count != 1)
        return refuse(-EINVAL, "grant_table_op %lu: %u elements, not 1\n", cmd, count);
    switch (cmd) {
    case GNTTABOP_setup_table:
        return setup_table(guest);
    case GNTTABOP_query_size:
        return query_size(guest);
    case GNTTABOP_set_version:
        return set_version(guest);
    case GNTTABOP_get_version:
        return get_version(guest);
    default:
        return get_status_frames(guest);
    }
}

long hypercall_grant_table_op(uint64_t a_cmd, uint64_t ops, uint64_t a_count, uint64_t a4, uint64_t a5)
{
    struct batch b = {.guest = (void *)ops, .count = (uint32_t)a_count};
    uint32_t cmd = (uint32_t)a_cmd;
    size_t size;
    long rc;

    if (unlikely((int32_t)b.count < 0))
        return refuse(-EINVAL, "grant_table_op %u: %u elements\n", cmd, b.count);
    switch (cmd) {
    case GNTTABOP_map_grant_ref:
        size = sizeof(struct gnttab_map_grant_ref);
        rc = map_slice(&b);
        break;
    case GNTTABOP_unmap_grant_ref:
        size = sizeof(struct gnttab_unmap_grant_ref);
        rc = unmap_slice(&b, false);
        break;
    case GNTTABOP_unmap_and_replace:
        size = sizeof(struct gnttab_unmap_and_replace);
        rc = unmap_slice(&b, true);
        break;
    case GNTTABOP_copy:
        size = sizeof(struct gnttab_copy);
        rc = copy_slice(&b);
        break;
    case GNTTABOP_transfer:
        size = sizeof(struct gnttab_transfer);
        rc = transfer_slice(&b);
        break;
    case GNTTABOP_swap_grant_ref:
        size = sizeof(struct gnttab_swap_grant_ref);
        rc = swap_slice(&b);
        break;
    case GNTTABOP_cache_flush:
        size = sizeof(struct gnttab_cache_flush);
        rc = cache_flush_slice(&b);
        break;
    case GNTTABOP_setup_table:
    case GNTTABOP_query_size:
    case GNTTABOP_set_version:
    case GNTTABOP_get_version:
    case GNTTABOP_get_status_frames:
        return single(cmd, b.guest, b.count);
    default: /* dump_table as well */
        return refuse(-ENOSYS, "grant_table_op %u\n", cmd);
    }
    return likely(rc != MORE) ? rc : hypercall_continue(cmd, ops + b.done * size, b.count - b.done, 0, 0);
}
