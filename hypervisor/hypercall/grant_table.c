/*
 * Grant tables, as far as a lone domain needs them: version 1 tables of up to GRANT_MAX_FRAMES frames, made when they
 * are first asked for. Mapping, copying and transfer between domains are not there yet. Locks: grant->lock for the
 * frames.
 */
#include "hypercall/grant_table.h"
#include "domain/domain.h"
#include "domain/guest_access.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"
#include "memory/alloc.h"
#include "memory/map.h"

#define GRANT_MAX_FRAMES 64 /* 32,768 entries */

struct grant_table {
    spinlock_t lock;
    unsigned count;
    void *frames[GRANT_MAX_FRAMES];
};

/* The domain's table; made on first use. Null: no memory. */
static struct grant_table *table_of(struct domain *d)
{
    struct grant_table *t = __atomic_load_n(&d->grant, __ATOMIC_ACQUIRE), *none = NULL;

    if (t)
        return t;
    t = new_object(struct grant_table);
    if (!t)
        return NULL;
    spin_lock_init(&t->lock);
    if (__atomic_compare_exchange_n(&d->grant, &none, t, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return t;
    heap_free(t); /* another vcpu was faster */
    return none;
}

/* Makes the table at least 'wanted' frames long. */
static bool grow(struct domain *d, struct grant_table *t, unsigned wanted)
{
    bool ok = true;

    spin_lock(&t->lock);
    while (t->count < wanted) {
        void *page = alloc_pages(0);

        if (!page) {
            ok = false;
            break;
        }
        frame_share(virt_to_mfn(page), d, true);
        t->frames[t->count] = page;
        WRITE_ONCE(t->count, t->count + 1);
    }
    spin_unlock(&t->lock);
    return ok;
}

/* Another domain's table is the business of the control interface, which goes by domid; a domain has its own. */
static int16_t check_domain(domid_t id)
{
    if (id == DOMID_SELF || id == current->domain->id)
        return GNTST_okay;
    guest_log(LOG_WARNING, "grant_table_op: table of domain %u\n", id);
    return GNTST_permission_denied;
}

static long setup_table(void *guest)
{
    struct domain *d = current->domain;
    struct gnttab_setup_table op;
    struct grant_table *t;

    if (copy_from_guest(&op, guest, sizeof(op)))
        return -EFAULT;
    op.status = check_domain(op.dom);
    if (op.status == GNTST_okay && op.nr_frames > GRANT_MAX_FRAMES) {
        guest_log(LOG_WARNING, "grant_table_op setup_table: %u frames, at most %u\n", op.nr_frames, GRANT_MAX_FRAMES);
        op.status = GNTST_general_error;
    }
    if (op.status == GNTST_okay) {
        t = table_of(d);
        if (!t || !grow(d, t, op.nr_frames)) {
            op.status = GNTST_general_error;
        } else {
            for (unsigned i = 0; i < op.nr_frames; i++) {
                xen_pfn_t frame = virt_to_mfn(t->frames[i]).n;

                if (copy_to_handle(op.frame_list, i, &frame, 1))
                    return -EFAULT;
            }
        }
    }
    return copy_to_guest(guest, &op, sizeof(op)) ? -EFAULT : 0;
}

static long query_size(void *guest)
{
    struct grant_table *t = __atomic_load_n(&current->domain->grant, __ATOMIC_ACQUIRE);
    struct gnttab_query_size op;

    if (copy_from_guest(&op, guest, sizeof(op)))
        return -EFAULT;
    op.status = check_domain(op.dom);
    if (op.status == GNTST_okay) {
        op.nr_frames = t ? READ_ONCE(t->count) : 0;
        op.max_nr_frames = GRANT_MAX_FRAMES;
    }
    return copy_to_guest(guest, &op, sizeof(op)) ? -EFAULT : 0;
}

static long set_version(void *guest)
{
    struct gnttab_set_version op;
    long rc = 0;

    if (copy_from_guest(&op, guest, sizeof(op)))
        return -EFAULT;
    if (op.version == 2)
        rc = -ENOSYS; /* kernels ask, and go on with version 1 */
    else if (op.version != 1)
        rc = refuse(-EINVAL, "grant_table_op set_version: %u\n", op.version);
    op.version = 1;
    if (copy_to_guest(guest, &op, sizeof(op)))
        rc = -EFAULT;
    return rc;
}

static long get_version(void *guest)
{
    struct gnttab_get_version op;

    if (copy_from_guest(&op, guest, sizeof(op)))
        return -EFAULT;
    if (op.dom != DOMID_SELF && op.dom != current->domain->id)
        return refuse(-EPERM, "grant_table_op get_version: of domain %u\n", op.dom);
    op.version = 1;
    return copy_to_guest(guest, &op, sizeof(op)) ? -EFAULT : 0;
}

/* Version 1 has no status frames. */
static long get_status_frames(void *guest)
{
    struct gnttab_get_status_frames op;

    if (copy_from_guest(&op, guest, sizeof(op)))
        return -EFAULT;
    op.status = check_domain(op.dom);
    if (op.status == GNTST_okay && op.nr_frames)
        op.status = GNTST_general_error;
    return copy_to_guest(guest, &op, sizeof(op)) ? -EFAULT : 0;
}

long hypercall_grant_table_op(uint64_t cmd, uint64_t ops, uint64_t count, uint64_t a4, uint64_t a5)
{
    void *guest = (void *)ops;

    cmd = (uint32_t)cmd;
    count = (uint32_t)count;
    switch (cmd) {
    case GNTTABOP_setup_table:
    case GNTTABOP_query_size:
    case GNTTABOP_set_version:
    case GNTTABOP_get_status_frames:
    case GNTTABOP_get_version:
        if (count != 1)
            return refuse(-EINVAL, "grant_table_op %lu: %lu elements, not 1\n", cmd, count);
        break;
    default:
        return refuse(-ENOSYS, "grant_table_op %lu\n", cmd);
    }
    switch (cmd) {
    case GNTTABOP_setup_table:
        return setup_table(guest);
    case GNTTABOP_query_size:
        return query_size(guest);
    case GNTTABOP_set_version:
        return set_version(guest);
    case GNTTABOP_get_version:
        return get_version(guest);
    }
    return get_status_frames(guest);
}

void grant_table_destroy(struct domain *d)
{
    struct grant_table *t = d->grant;

    if (!t)
        return;
    d->grant = NULL;
    for (unsigned i = 0; i < t->count; i++) {
        BUG_ON(frame_unshare(virt_to_mfn(t->frames[i])));
        free_pages(t->frames[i], 0);
    }
    heap_free(t);
}
