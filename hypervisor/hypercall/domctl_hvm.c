/* domctl: what only PVH domains have: their processors' state as one stream of records, and the size of a pool that is not there. */
#include "domain/guest_access.h"
#include "hvm/context.h"
#include "hvm/hvm.h"
#include "hypercall/dispatch.h"
#include "hypercall/domctl.h"
#include "lib/log.h"
#include "memory/alloc.h"

static long not_self(const struct domain *d, const char *call)
{
    return d == current->domain ? refuse(-EINVAL, "%s: of the caller itself\n", call) : 0;
}

long domctl_gethvmcontext(struct domain *d, struct xen_domctl *op)
{
    struct xen_domctl_hvmcontext *c = &op->u.hvmcontext;
    size_t room = hvm_context_size(d), size;
    uint8_t *buffer;
    long rc = not_self(d, "gethvmcontext");

    if (rc)
        return rc;
    if (!c->buffer.p) { /* how much could it be? */
        c->size = (uint32_t)room;
        return 0;
    }
    buffer = heap_alloc(room);
    if (!buffer)
        return refuse(-ENOMEM, "gethvmcontext of d%u: no memory\n", d->id);
    domain_pause(d);
    size = hvm_context_save(d, buffer);
    domain_unpause(d);
    if (c->size < size)
        rc = refuse(-ENOSPC, "gethvmcontext of d%u: %lu bytes, the buffer has %u\n", d->id, size, c->size);
    else if (copy_to_handle(c->buffer, 0, buffer, size))
        rc = -EFAULT;
    c->size = (uint32_t)size;
    heap_free(buffer);
    return rc;
}

long domctl_gethvmcontext_partial(struct domain *d, struct xen_domctl *op)
{
    struct xen_domctl_hvmcontext_partial *c = &op->u.hvmcontext_partial;
    size_t room = hvm_context_size(d);
    uint8_t *buffer = NULL;
    long rc = not_self(d, "gethvmcontext_partial");

    if (rc)
        return rc;
    if (c->buffer.p) {
        buffer = heap_alloc(room);
        if (!buffer)
            return refuse(-ENOMEM, "gethvmcontext_partial of d%u: no memory\n", d->id);
    }
    domain_pause(d);
    rc = hvm_context_save_one(d, c->type, c->instance, buffer, room);
    domain_unpause(d);
    if (rc >= 0) {
        size_t size = (size_t)rc;

        rc = 0;
        if (buffer && c->bufsz < size)
            rc = -ENOSPC;
        else if (buffer && copy_to_handle(c->buffer, 0, buffer, size))
            rc = -EFAULT;
        c->bufsz = size;
    }
    heap_free(buffer);
    return rc; /* tools ask for what may not be there: no log line */
}

long domctl_sethvmcontext(struct domain *d, struct xen_domctl *op)
{
    const struct xen_domctl_hvmcontext *c = &op->u.hvmcontext;
    uint8_t *buffer;
    long rc = not_self(d, "sethvmcontext");

    if (rc)
        return rc;
    if (!c->size ||
        c->size > 2 * hvm_context_size(d)) /* other Xens may have records that are none here, to be told so */
        return refuse(-EINVAL, "sethvmcontext of d%u: %u bytes; it can be about %lu\n", d->id, c->size,
                      hvm_context_size(d));
    buffer = heap_alloc(c->size);
    if (!buffer)
        return refuse(-ENOMEM, "sethvmcontext of d%u: no memory\n", d->id);
    if (copy_from_handle(buffer, c->buffer, 0, c->size)) {
        rc = -EFAULT;
    } else {
        domain_pause(d);
        rc = hvm_context_load(d, buffer, c->size);
        domain_unpause(d);
    }
    heap_free(buffer);
    return rc;
}

/* Nested page tables come from Croft's own memory, as they are needed. What the tools set is kept for who asks, and limits nothing. */
long domctl_get_paging_mempool_size(struct domain *d, struct xen_domctl *op)
{
    op->u.paging_mempool.size = d->hvm->paging_pool;
    return 0;
}

long domctl_set_paging_mempool_size(struct domain *d, struct xen_domctl *op)
{
    if (op->u.paging_mempool.size % PAGE_SIZE)
        return refuse(-EINVAL, "set_paging_mempool_size of d%u: %lu bytes are no number of pages\n", d->id,
                      (unsigned long)op->u.paging_mempool.size);
    d->hvm->paging_pool = op->u.paging_mempool.size;
    return 0;
}
