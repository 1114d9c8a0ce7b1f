/*
 * grant_table_op: its operations come in arrays, which are worked off in slices (domain/grant_*.c has the operations themselves).
 * The result of each is in its own status; the call fails only for arguments that make no sense at all. Source:
 * <xen/grant_table.h>.
 */
#include "cpu/tlb.h"
#include "domain/grant_private.h"
#include "domain/guest_access.h"
#include "hvm/p2m.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"

/* The slice ends before the batch: the call goes on with what is left of it. */
static bool interrupted(bool begun) { return begun && hypercall_preempt_check(); }

static long go_on(unsigned cmd, const void *guest, uint32_t left)
{
    return hypercall_continue(cmd, (uint64_t)guest, left, 0, 0);
}

static __attribute__((noinline)) long map_slice(struct gnttab_map_grant_ref *guest, uint32_t count)
{
    struct gnttab_map_grant_ref op;
    struct domain *granter = NULL;
    bool stale = false;
    long rc = 0;

    for (const struct gnttab_map_grant_ref *first = guest, *end = guest + count; guest != end; guest++) {
        if (interrupted(guest != first)) {
            rc = go_on(GNTTABOP_map_grant_ref, guest, (uint32_t)(end - guest));
            break;
        }
        _Static_assert(offsetof(struct gnttab_map_grant_ref, dev_bus_addr) == 24 &&
                           offsetof(struct gnttab_map_grant_ref, dom) == 16 && sizeof(op) == 32,
                       "the first three words are read, the last two written");
        if (unlikely(!guest_read24((uint64_t *)&op, guest))) {
            rc = -EFAULT;
            break;
        }
        op.dev_bus_addr = 0;                     /* goes back to the guest whether it is known or not */
        if (!granter || granter->id != op.dom) { /* mostly all of a batch are of one domain */
            if (granter)
                domain_put(granter);
            granter = op.dom == DOMID_SELF ? NULL : domain_get_by_id(op.dom);
        }
        if (likely(granter))
            grant_map(&op, granter, &stale);
        else
            op.status = refuse(GNTST_bad_domain, "map_grant_ref: there is no domain %u\n", op.dom);
        if (unlikely(!guest_write16(&guest->dom, (uint64_t *)&op + 2))) {
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
static long unmap_part(struct gnttab_unmap_grant_ref *guest, uint32_t count, bool replace)
{
    struct grant_unmap finished[GRANT_UNMAP_SLICE], *next = finished;
    long rc = 0;

    for (const struct gnttab_unmap_grant_ref *end = guest + count; guest != end; guest++) {
        struct gnttab_unmap_grant_ref op;
        int16_t status;

        _Static_assert(sizeof(op) == 24 && sizeof(op) == sizeof(struct gnttab_unmap_and_replace) &&
                           offsetof(struct gnttab_unmap_grant_ref, dev_bus_addr) ==
                               offsetof(struct gnttab_unmap_and_replace, new_addr) &&
                           offsetof(struct gnttab_unmap_grant_ref, status) ==
                               offsetof(struct gnttab_unmap_and_replace, status),
                       "the two differ in the meaning of one member");
        if (unlikely(!guest_read24((uint64_t *)&op, guest))) {
            rc = -EFAULT;
            break;
        }
        status = grant_unmap_begin(next, op.handle, op.host_addr, replace ? 0 : op.dev_bus_addr,
                                   replace ? op.dev_bus_addr : 0);
        next += status == GNTST_okay;
        if (unlikely(!guest_write2(&guest->status, (uint16_t)status))) {
            rc = -EFAULT;
            break;
        }
    }
    if (likely(next != finished)) {
        if (likely(!current->domain->hvm))
            tlb_flush_mask(&current->domain->dirty_cpus);
        else
            p2m_flush(current->domain);
    }
    for (const struct grant_unmap *u = finished; u != next; u++)
        grant_unmap_end(u);
    return rc;
}

static __attribute__((noinline)) long unmap_slice(struct gnttab_unmap_grant_ref *guest, uint32_t count, unsigned cmd)
{
    long rc = 0;

    for (uint32_t done = 0; !rc && done < count; done += GRANT_UNMAP_SLICE) {
        if (interrupted(done))
            return go_on(cmd, guest + done, count - done);
        rc =
            unmap_part(guest + done, min(count - done, (uint32_t)GRANT_UNMAP_SLICE), cmd == GNTTABOP_unmap_and_replace);
    }
    return rc;
}

static long copy_slice(struct gnttab_copy *guest, uint32_t count)
{
    struct grant_copy_end source = {.ready = false}, destination = {.ready = false};
    struct gnttab_copy op;
    long rc = 0;

    for (uint32_t i = 0; i < count && !rc; i++) {
        if (interrupted(i)) {
            rc = go_on(GNTTABOP_copy, guest + i, count - i);
            break;
        }
        if (copy_from_guest(&op, guest + i, sizeof(op))) {
            rc = -EFAULT;
            break;
        }
        op.status = grant_copy(&op, &source, &destination);
        if (copy_to_guest(&guest[i].status, &op.status, sizeof(op.status)))
            rc = -EFAULT;
    }
    grant_copy_close(&source);
    grant_copy_close(&destination);
    return rc;
}

static long transfer_slice(struct gnttab_transfer *guest, uint32_t count)
{
    struct gnttab_transfer op;

    for (uint32_t i = 0; i < count; i++) {
        if (interrupted(i))
            return go_on(GNTTABOP_transfer, guest + i, count - i);
        if (copy_from_guest(&op, guest + i, sizeof(op)))
            return -EFAULT;
        op.status = grant_transfer(&op);
        if (copy_to_guest(&guest[i].status, &op.status, sizeof(op.status)))
            return -EFAULT;
    }
    return 0;
}

static long swap_slice(struct gnttab_swap_grant_ref *guest, uint32_t count)
{
    struct gnttab_swap_grant_ref op;

    for (uint32_t i = 0; i < count; i++) {
        if (interrupted(i))
            return go_on(GNTTABOP_swap_grant_ref, guest + i, count - i);
        if (copy_from_guest(&op, guest + i, sizeof(op)))
            return -EFAULT;
        op.status = grant_swap(current->domain, op.ref_a, op.ref_b);
        if (copy_to_guest(&guest[i].status, &op.status, sizeof(op.status)))
            return -EFAULT;
    }
    return 0;
}

/* Caches are coherent, and no domain has devices that go round them without the hypervisor's knowledge: there is nothing to do. */
static long cache_flush_slice(const struct gnttab_cache_flush *guest, uint32_t count)
{
    struct gnttab_cache_flush op;

    for (uint32_t i = 0; i < count; i++) {
        if (interrupted(i))
            return go_on(GNTTABOP_cache_flush, guest + i, count - i);
        if (copy_from_guest(&op, guest + i, sizeof(op)))
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

/* Apart from the two calls that have to be fast: these need more room on the stack, and registers. */
static __attribute__((noinline)) long other_op(uint32_t cmd, void *guest, uint32_t count)
{
    switch (cmd) {
    case GNTTABOP_copy:
        return copy_slice(guest, count);
    case GNTTABOP_transfer:
        return transfer_slice(guest, count);
    case GNTTABOP_swap_grant_ref:
        return swap_slice(guest, count);
    case GNTTABOP_cache_flush:
        return cache_flush_slice(guest, count);
    case GNTTABOP_setup_table:
    case GNTTABOP_query_size:
    case GNTTABOP_set_version:
    case GNTTABOP_get_version:
    case GNTTABOP_get_status_frames:
        return single(cmd, guest, count);
    default: /* dump_table as well */
        return refuse(-ENOSYS, "grant_table_op %u\n", cmd);
    }
}

long hypercall_grant_table_op(uint64_t a_cmd, uint64_t ops, uint64_t a_count, uint64_t a4, uint64_t a5)
{
    uint32_t cmd = (uint32_t)a_cmd, count = (uint32_t)a_count;
    void *guest = (void *)ops;

    if (unlikely((int32_t)count < 0))
        return refuse(-EINVAL, "grant_table_op %u: %u elements\n", cmd, count);
    if (cmd == GNTTABOP_map_grant_ref)
        return map_slice(guest, count);
    if (cmd == GNTTABOP_unmap_grant_ref || cmd == GNTTABOP_unmap_and_replace)
        return unmap_slice(guest, count, cmd);
    return other_op(cmd, guest, count);
}

/* Their own table, mappings and copies; they cannot give frames away, nor move a mapping. */
long hypercall_grant_table_op_translated(uint64_t cmd, uint64_t ops, uint64_t count, uint64_t a4, uint64_t a5)
{
    if ((int32_t)count < 0)
        return refuse(-EINVAL, "grant_table_op %u: %u elements\n", (uint32_t)cmd, (uint32_t)count);
    switch ((uint32_t)cmd) {
    case GNTTABOP_query_size:
    case GNTTABOP_set_version:
    case GNTTABOP_get_version:
        return single((uint32_t)cmd, (void *)ops, (uint32_t)count);
    case GNTTABOP_map_grant_ref:
        return map_slice((void *)ops, (uint32_t)count);
    case GNTTABOP_unmap_grant_ref:
        return unmap_slice((void *)ops, (uint32_t)count, GNTTABOP_unmap_grant_ref);
    case GNTTABOP_copy:
        return copy_slice((void *)ops, (uint32_t)count);
    default:
        return refuse(-ENOSYS, "grant_table_op %u: not for domains with translated frames yet\n", (uint32_t)cmd);
    }
}
