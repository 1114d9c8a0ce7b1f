/* The calls that a PVH guest makes in its own way, and how calls are chosen. */
#include "hostile.h"

static void make_physmap_op(struct call *c, uint8_t *request)
{
    struct xen_add_to_physmap *a = (void *)request;
    struct xen_remove_from_physmap *r = (void *)request;

    if (one_in(2)) {
        make_memory_op(c, request);
        return;
    }
    c->a[0] = PICK(XENMEM_add_to_physmap, XENMEM_remove_from_physmap) | (one_in(20) ? any_number() << 6 : 0);
    c->a[1] = U(request);
    if ((c->a[0] & 63) == XENMEM_remove_from_physmap)
        *r = (struct xen_remove_from_physmap){.domid = (domid_t)any_domain(), .gpfn = any_frame()};
    else
        *a = (struct xen_add_to_physmap){.domid = (domid_t)any_domain(),
                                         .size = (uint16_t)small_or_any(4),
                                         .space = (unsigned)small_or_any(6),
                                         .idx = one_in(8) ? any_number() : below(3),
                                         .gpfn = any_frame()};
}

/* Off line and up go the other one, seldom; NMIs to both. */
static void make_vcpu_call(struct call *c, uint8_t *request)
{
    make_vcpu_op(c, request);
    if (c->a[0] == VCPUOP_up && !one_in(20))
        c->a[0] = VCPUOP_send_nmi;
}

call_maker_t *const own_makers[NUMBERS] = {
    [__HYPERVISOR_memory_op] = make_physmap_op,
    [__HYPERVISOR_vcpu_op] = make_vcpu_call,
};

uint64_t frequent_call(void)
{
    return PICK(__HYPERVISOR_memory_op, __HYPERVISOR_memory_op, __HYPERVISOR_memory_op, __HYPERVISOR_grant_table_op,
                __HYPERVISOR_grant_table_op, __HYPERVISOR_event_channel_op, __HYPERVISOR_hvm_op, __HYPERVISOR_vcpu_op,
                __HYPERVISOR_sched_op, __HYPERVISOR_multicall);
}

bool call_is_possible(unsigned long nr) { return nr != __HYPERVISOR_sched_op_compat || one_in(50); }

uint64_t any_spare_frame(void) { return one_in(3) ? (HOLE_AT >> 12) + below(64) : (DATA_AT >> 12) + below(PAGES); }

/* There are no entries of its that Croft would write. */
uint64_t any_mapping_place(bool *is_entry)
{
    *is_entry = one_in(6);
    return any_frame() << 12;
}
