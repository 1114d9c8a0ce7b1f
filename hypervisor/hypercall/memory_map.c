/*
 * memory_op: a domain's memory map as its tools set it, claims of memory to come, and pages of Croft's that tools may map
 * (XENMEM_acquire_resource). Source: <xen/memory.h>.
 */
#include "domain/guest_access.h"
#include "hypercall/dispatch.h"
#include "hypercall/memory.h"
#include "lib/log.h"
#include "lib/string.h"
#include "memory/alloc.h"

#define MAX_ENTRIES 128U /* what the ABI has room for (E820MAX) */
#define MAX_RESOURCE_FRAMES 1024U

struct memory_map {
    uint32_t count;
    struct e820_entry entries[];
};

static struct memory_map *new_map(uint32_t count)
{
    struct memory_map *map = heap_alloc(sizeof(*map) + count * sizeof(map->entries[0]));

    if (map)
        map->count = count;
    return map;
}

static void replace_map(struct domain *d, struct memory_map *map)
{
    struct memory_map *old;

    spin_lock(&d->lock);
    old = d->memory_map;
    d->memory_map = map;
    spin_unlock(&d->lock);
    heap_free(old);
}

int memory_map_set(struct domain *d, const struct e820_entry *entries, unsigned count)
{
    struct memory_map *map;

    if (count > MAX_ENTRIES)
        return -EINVAL;
    map = new_map(count);
    if (!map)
        return -ENOMEM;
    memcpy(map->entries, entries, count * sizeof(entries[0]));
    replace_map(d, map);
    return 0;
}

long memory_set_map(uint64_t arg)
{
    struct xen_foreign_memory_map request;
    struct memory_map *map;
    struct domain *d;
    int error;

    if (copy_from_guest(&request, (const void *)arg, sizeof(request)))
        return refuse(-EFAULT, "set_memory_map: no request at 0x%lx\n", arg);
    if (request.map.nr_entries > MAX_ENTRIES)
        return refuse(-EINVAL, "set_memory_map: %u entries, at most %u\n", request.map.nr_entries, MAX_ENTRIES);
    if (!current->domain->is_privileged)
        return refuse(-EPERM, "set_memory_map of domain %u needs privilege\n", request.domid);
    error = memory_target(request.domid, &d);
    if (error)
        return error;
    map = new_map(request.map.nr_entries);
    if (!map) {
        domain_put(d);
        return refuse(-ENOMEM, "set_memory_map: no memory\n");
    }
    if (copy_from_guest(map->entries, request.map.buffer.p, map->count * sizeof(map->entries[0]))) {
        heap_free(map);
        domain_put(d);
        return -EFAULT;
    }
    replace_map(d, map);
    domain_put(d);
    return 0;
}

long memory_get_map(uint64_t arg)
{
    struct domain *d = current->domain;
    struct e820_entry entries[MAX_ENTRIES];
    struct xen_memory_map request;
    uint32_t count = 0;

    if (copy_from_guest(&request, (const void *)arg, sizeof(request)))
        return refuse(-EFAULT, "memory_map: no request at 0x%lx\n", arg);
    spin_lock(&d->lock);
    if (d->memory_map) {
        count = d->memory_map->count;
        memcpy(entries, d->memory_map->entries, count * sizeof(entries[0]));
    }
    spin_unlock(&d->lock);
    if (!count)
        return -ENOSYS;                                  /* a guest then takes its memory to be in one piece */
    request.nr_entries = min(request.nr_entries, count); /* as many as there is room for: the ABI's rule */
    if (copy_to_guest(request.buffer.p, entries, request.nr_entries * sizeof(entries[0])) ||
        copy_to_guest((void *)arg, &request, sizeof(request)))
        return -EFAULT;
    return 0;
}

long memory_claim_pages(uint64_t arg)
{
    struct xen_memory_reservation r;
    struct domain *d;
    long rc;

    if (!current->domain->is_privileged)
        return refuse(-EPERM, "claim_pages needs privilege\n");
    if (copy_from_guest(&r, (const void *)arg, sizeof(r)))
        return refuse(-EFAULT, "claim_pages: no request at 0x%lx\n", arg);
    if (r.extent_start.p || r.extent_order || r.mem_flags)
        return refuse(-EINVAL, "claim_pages: addresses, order or flags\n");
    rc = memory_target(r.domid, &d);
    if (rc)
        return rc;
    rc = alloc_claim(d, r.nr_extents);
    if (rc)
        guest_log(LOG_WARNING, "claim_pages: %lu pages for d%u: %s\n", r.nr_extents, d->id,
                  rc == -ENOMEM ? "so many are not free; give less memory, or balloon another domain down"
                                : "it has a claim");
    domain_put(d);
    return rc;
}

long memory_acquire_resource(uint64_t arg)
{
    struct xen_mem_acquire_resource r;
    struct domain *d;
    bool status;
    long rc = 0;

    if (!current->domain->is_privileged)
        return refuse(-EPERM, "acquire_resource needs privilege\n");
    if (copy_from_guest(&r, (const void *)arg, sizeof(r)))
        return refuse(-EFAULT, "acquire_resource: no request at 0x%lx\n", arg);
    status = r.id == XENMEM_resource_grant_table_id_status;
    if (r.pad || r.type != XENMEM_resource_grant_table || (r.id != XENMEM_resource_grant_table_id_shared && !status))
        return refuse(r.type > XENMEM_resource_vmtrace_buf || r.type == XENMEM_resource_grant_table || r.pad
                          ? -EINVAL
                          : -EOPNOTSUPP,
                      "acquire_resource: type %u, id %u\n", r.type, r.id);
    rc = memory_target(r.domid, &d);
    if (rc)
        return rc;
    if (!r.frame_list.p) { /* how many can there be? */
        r.nr_frames = grant_max_frames(d, status);
        rc = copy_to_guest((void *)arg, &r, sizeof(r)) ? -EFAULT : 0;
    } else if (r.nr_frames > MAX_RESOURCE_FRAMES) {
        rc = refuse(-E2BIG, "acquire_resource: %u frames, at most %u\n", r.nr_frames, MAX_RESOURCE_FRAMES);
    } else {
        for (uint32_t i = 0; !rc && i < r.nr_frames; i++) {
            xen_pfn_t frame;
            mfn_t m = MFN(0);

            rc = grant_acquire_frame(d, status, r.frame + i, &m);
            frame = m.n;
            if (!rc && copy_to_handle(r.frame_list, i, &frame, 1))
                rc = -EFAULT;
        }
    }
    domain_put(d);
    return rc;
}
