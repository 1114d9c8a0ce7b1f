/*
 * memory_op: how much memory a domain has, and which. A PV domain names its memory by machine frame, so "decrease"
 * takes machine frames and "populate" gives machine frames for pseudo-physical numbers of the guest's choice, which
 * are kept in the machine-to-physical table and mean nothing else to Croft.
 * A frame leaves a domain by frame_release: it is free once its last mapping has gone, whoever holds that.
 * Source: <xen/memory.h>.
 */
#include "hypercall/memory.h"

#include "boot/boot.h"
#include "domain/guest_access.h"
#include "hvm/hvm.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"
#include "memory/alloc.h"
#include "memory/map.h"

#define M2P_GUEST_END (M2P_START + (1UL << 38)) /* the half of the slot that guests can read */
#define MAX_EXTENTS (~0UL >> MEMORY_CMD_BITS)   /* a continuation has to be able to count them */
#define ALL_NODES 0xffU                         /* XENMEMF_get_node of flags without a node */

int memory_target(domid_t id, struct domain **d)
{
    struct domain *self = current->domain;

    if (id != DOMID_SELF && id != self->id && !self->is_privileged)
        return refuse(-EPERM, "memory_op: domain %u is not its own\n", id);
    *d = domain_get_by_id(id);
    return *d ? 0 : -ESRCH;
}

mfn_t memory_alloc(struct domain *d, unsigned order, unsigned mem_flags, uint64_t gpfn)
{
    unsigned bits = XENMEMF_get_address_bits(mem_flags), node = XENMEMF_get_node(mem_flags);

    if (node == ALL_NODES || node >= MAX_NODES)
        node = NODE_ANY;
    return alloc_domain_frames_numbered(d, order, node, bits < 52 ? bits : 0, gpfn);
}

bool memory_release(mfn_t m, struct domain *d)
{
    m2p_write(m, M2P_INVALID); /* first: as soon as it is free it may be another's */
    return frame_release(m, d);
}

void memory_give_back(mfn_t m, uint64_t count, struct domain *d)
{
    for (uint64_t i = 0; i < count; i++)
        if (frame_get(mfn_add(m, i), d)) {
            memory_release(mfn_add(m, i), d);
            frame_put(mfn_add(m, i));
        }
}

/* What a slice of one of the reservation calls has to go on with */
struct reservation {
    struct domain *d;
    struct xen_memory_reservation r;
    unsigned long done; /* extents */
};

enum step { STEP_DONE, STEP_STOP }; /* stop: the call ends here, with the number of extents that were done */
typedef enum step extent_fn(struct reservation *v);

static enum step add_extent(struct reservation *v, bool populate)
{
    xen_pfn_t pfn = 0;

    if (populate && copy_from_handle(&pfn, v->r.extent_start, v->done, 1))
        return STEP_STOP;
    if (v->d->hvm && (!populate || v->r.extent_order % 9))
        return STEP_STOP;
    mfn_t m = memory_alloc(v->d, v->r.extent_order, v->r.mem_flags, populate ? pfn : M2P_INVALID);

    if (mfn_eq(m, INVALID_MFN)) {
        guest_log(LOG_DEBUG, "memory_op: no extent of order %u for d%u (it has %lu of %lu pages, free are %lu)\n",
                  v->r.extent_order, v->d->id, v->d->tot_pages, v->d->max_pages, alloc_free_count());
        return STEP_STOP;
    }
    if (v->d->hvm) {
        if (memory_physmap_populate(v->d, pfn, m, v->r.extent_order)) {
            memory_give_back(m, 1UL << v->r.extent_order, v->d);
            return STEP_STOP;
        }
        return STEP_DONE;
    }
    if ((populate || v->r.extent_start.p) && copy_to_handle(v->r.extent_start, v->done, &m.n, 1))
        return STEP_STOP;
    return STEP_DONE;
}

/* Frames that come when they are first used: for domains that Croft translates, by their tools. */
static enum step mark_extent(struct reservation *v)
{
    xen_pfn_t pfn;
    int error;

    if (copy_from_guest(&pfn, v->r.extent_start.p + v->done, sizeof(pfn)))
        return STEP_STOP;
    error = !v->d->hvm || v->d == current->domain ? -EOPNOTSUPP : memory_physmap_mark(v->d, pfn, v->r.extent_order);
    if (error)
        guest_log(LOG_DEBUG, "memory_op: extent of order %u at 0x%lx of d%u, on demand: error %d\n", v->r.extent_order,
                  pfn, v->d->id, -error);
    return error ? STEP_STOP : STEP_DONE;
}

static enum step increase_extent(struct reservation *v) { return add_extent(v, false); }
static enum step populate_extent(struct reservation *v)
{
    return v->r.mem_flags & XENMEMF_populate_on_demand ? mark_extent(v) : add_extent(v, true);
}

static enum step decrease_extent(struct reservation *v)
{
    xen_pfn_t first;

    if (copy_from_handle(&first, v->r.extent_start, v->done, 1))
        return STEP_STOP;
    for (uint64_t i = 0; v->d->hvm && i < 1UL << v->r.extent_order; i++)
        if (memory_physmap_drop(v->d, first + i)) {
            guest_log(LOG_WARNING, "decrease_reservation: frame 0x%lx is not there, or a grant\n", first + i);
            return STEP_STOP;
        }
    for (uint64_t i = 0; !v->d->hvm && i < 1UL << v->r.extent_order; i++) {
        mfn_t m = MFN(first + i);
        bool released;

        if (!frame_get(m, v->d)) {
            guest_log(LOG_WARNING, "decrease_reservation: frame 0x%lx does not belong to d%u\n", m.n, v->d->id);
            return STEP_STOP;
        }
        released = memory_release(m, v->d);
        frame_put(m);
        if (!released) {
            guest_log(LOG_WARNING, "decrease_reservation: frame 0x%lx was given back before\n", m.n);
            return STEP_STOP;
        }
    }
    return STEP_DONE;
}

/* The three reservation calls: returns how many extents were done, in this slice and those before it. */
static long change_reservation(uint64_t cmd, uint64_t arg, extent_fn *step)
{
    struct reservation v = {.done = cmd >> MEMORY_CMD_BITS};
    unsigned long start = v.done;
    int error;

    if (copy_from_guest(&v.r, (const void *)arg, sizeof(v.r)))
        return refuse(-EFAULT, "memory_op: no request at 0x%lx\n", arg);
    if (v.r.nr_extents > MAX_EXTENTS || v.r.extent_order > MEMORY_MAX_ORDER || start > v.r.nr_extents ||
        (v.r.mem_flags & XENMEMF_populate_on_demand && step != populate_extent) ||
        !guest_range_ok(v.r.extent_start.p, v.r.nr_extents * sizeof(xen_pfn_t))) {
        guest_log(LOG_DEBUG, "memory_op: %lu extents of order %u, flags 0x%x: not done\n", v.r.nr_extents,
                  v.r.extent_order, v.r.mem_flags);
        return start;
    }
    error = memory_target(v.r.domid, &v.d);
    if (error)
        return error;
    for (; v.done < v.r.nr_extents; v.done++) {
        if (v.done > start && hypercall_preempt_check()) {
            domain_put(v.d);
            return hypercall_continue(v.done << MEMORY_CMD_BITS | (cmd & MEMORY_CMD_MASK), arg, 0, 0, 0);
        }
        if (step(&v) == STEP_STOP)
            break;
    }
    domain_put(v.d);
    return v.done;
}

/* The calls that tell one number about a domain */
static long domain_number(uint64_t op, uint64_t arg)
{
    struct xen_memory_domain request;
    struct domain *d;
    long result;
    int error;

    if (copy_from_guest(&request, (const void *)arg, sizeof(request)))
        return refuse(-EFAULT, "memory_op: no request at 0x%lx\n", arg);
    error = memory_target(request.domid, &d);
    if (error)
        return error;
    if (op == XENMEM_current_reservation)
        result = READ_ONCE(d->tot_pages);
    else if (op == XENMEM_maximum_reservation)
        result = READ_ONCE(d->max_pages);
    else if (d->hvm)
        result = (long)d->hvm->p2m.max_gfn;
    else { /* a PV guest writes the number of its frames there */
        unsigned long frames = READ_ONCE(d->shared_info->arch.max_pfn);

        result = frames ? frames - 1 : 0;
    }
    domain_put(d);
    return result < 0 ? -EOVERFLOW : result;
}

/*
 * The firmware's map as it came. Croft's own memory stays RAM in it: domain 0 takes what is not RAM out of its
 * pseudo-physical map and moves the memory behind it, page by page, which would be work for nothing.
 */
static long machine_memory_map(uint64_t arg)
{
    struct xen_memory_map map;

    if (!current->domain->is_privileged)
        return refuse(-EPERM, "machine_memory_map: for domain 0 only\n");
    if (copy_from_guest(&map, (const void *)arg, sizeof(map)))
        return refuse(-EFAULT, "machine_memory_map: no request at 0x%lx\n", arg);
    map.nr_entries = min(map.nr_entries, boot_info.range_count);
    for (unsigned i = 0; i < map.nr_entries; i++) {
        const struct boot_range *r = &boot_info.ranges[i];
        struct e820_entry entry = {r->start, r->size, r->type};

        if (copy_to_guest((struct e820_entry *)map.buffer.p + i, &entry, sizeof(entry)))
            return refuse(-EFAULT, "machine_memory_map: no buffer at 0x%lx\n", (unsigned long)map.buffer.p);
    }
    return copy_to_guest((void *)arg, &map, sizeof(map)) ? -EFAULT : 0;
}

static long machphys_mapping(uint64_t arg)
{
    struct xen_machphys_mapping mapping = {.v_start = M2P_START, .v_end = M2P_GUEST_END, .max_mfn = max_frame - 1};

    return copy_to_guest((void *)arg, &mapping, sizeof(mapping)) ? -EFAULT : 0;
}

/* The frame behind 2 MiB of the machine-to-physical table in Croft's own tables; 0 where nothing or small pages are. */
static uint64_t m2p_extent(unsigned long va)
{
    const uint64_t *table = host_l4;

    for (unsigned shift = 39; shift >= 21; shift -= 9) {
        uint64_t entry = table[va >> shift & 511];

        if (!(entry & PTE_PRESENT))
            return 0;
        if (shift < 39 && entry & PTE_PSE) {
            uint64_t inside = va & ((1UL << shift) - 1);

            return (pte_mfn(entry).n & ~((1UL << (shift - PAGE_SHIFT)) - 1)) + (inside >> PAGE_SHIFT);
        }
        table = mfn_to_virt(pte_mfn(entry));
    }
    return 0;
}

#define M2P_EXTENT_BYTES (2UL << 20)

bool m2p_holds(mfn_t m)
{
    uint64_t count = DIV_ROUND_UP(max_frame * sizeof(uint64_t), M2P_EXTENT_BYTES);

    for (uint64_t i = 0; i < count; i++) {
        uint64_t first = m2p_extent(M2P_RW_START + i * M2P_EXTENT_BYTES);

        if (first && m.n - first < M2P_EXTENT_BYTES / PAGE_SIZE)
            return true;
    }
    return false;
}

static long machphys_mfn_list(uint64_t arg)
{
    struct xen_machphys_mfn_list list;
    uint64_t mfn = 0;
    unsigned count;

    if (!current->domain->is_privileged)
        return refuse(-EPERM, "machphys_mfn_list: for domain 0 only\n");
    if (copy_from_guest(&list, (const void *)arg, sizeof(list)))
        return refuse(-EFAULT, "machphys_mfn_list: no request at 0x%lx\n", arg);
    count = (unsigned)min(DIV_ROUND_UP(max_frame * sizeof(uint64_t), M2P_EXTENT_BYTES), (uint64_t)list.max_extents);
    for (unsigned i = 0; i < count; i++) {
        uint64_t extent = m2p_extent(M2P_RW_START + i * M2P_EXTENT_BYTES);

        /* Where no RAM is there is no table: tools that map the whole list get what they had before. */
        mfn = extent ? extent : mfn;
        if (copy_to_handle(list.extent_start, i, &mfn, 1))
            return refuse(-EFAULT, "machphys_mfn_list: no buffer at 0x%lx\n", (unsigned long)list.extent_start.p);
    }
    list.nr_extents = count;
    return copy_to_guest((void *)arg, &list, sizeof(list)) ? -EFAULT : 0;
}

long hypercall_memory_op(uint64_t cmd, uint64_t arg, uint64_t a3, uint64_t a4, uint64_t a5)
{
    uint64_t op = cmd & MEMORY_CMD_MASK;

    switch (op) {
    case XENMEM_increase_reservation:
        return change_reservation(cmd, arg, increase_extent);
    case XENMEM_decrease_reservation:
        return change_reservation(cmd, arg, decrease_extent);
    case XENMEM_populate_physmap:
        return change_reservation(cmd, arg, populate_extent);
    case XENMEM_exchange:
        if (current->hvm)
            return refuse(-EOPNOTSUPP, "memory_op: exchange is for domains that know their machine frames\n");
        return memory_exchange((void *)arg);
    case XENMEM_add_to_physmap:
        return memory_add_to_physmap(arg);
    case XENMEM_remove_from_physmap:
        return memory_remove_from_physmap(arg);
    case XENMEM_maximum_ram_page:
        return max_frame;
    case XENMEM_current_reservation:
    case XENMEM_maximum_reservation:
    case XENMEM_maximum_gpfn:
        return domain_number(op, arg);
    case XENMEM_machine_memory_map:
        return machine_memory_map(arg);
    case XENMEM_machphys_mapping:
        return machphys_mapping(arg);
    case XENMEM_machphys_mfn_list:
        return machphys_mfn_list(arg);
    case XENMEM_memory_map:
        return memory_get_map(arg);
    case XENMEM_set_memory_map:
        return memory_set_map(arg);
    case XENMEM_set_pod_target:
    case XENMEM_get_pod_target:
        return memory_pod_target(op, arg);
    case XENMEM_claim_pages:
        return memory_claim_pages(arg);
    case XENMEM_acquire_resource:
        return memory_acquire_resource(arg);
    case XENMEM_get_sharing_freed_pages: /* nothing is shared */
    case XENMEM_get_sharing_shared_pages:
        return 0;
    case XENMEM_get_vnumainfo: /* what a guest without virtual NUMA nodes is told */
        return -EOPNOTSUPP;
    default:
        return refuse(-ENOSYS, "memory_op %lu: not implemented\n", op);
    }
}
