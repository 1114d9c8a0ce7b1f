/* Hypercalls that nearly make sense. */
#include "random.h"

#include "../../../../hypervisor/hypercall/croft_abi.h"
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/params.h>

#define LISTS 2048 /* within a request: where lists are that a structure there points to */

uint64_t count_of(unsigned limit) { return one_in(20) ? any_number() : one_in(20) ? 0 : 1 + below(limit); }

void fill_words(uint8_t *to, size_t size)
{
    uint64_t *word = (uint64_t *)(void *)to;

    for (size_t i = 0; i < size / 8; i++)
        word[i] = one_in(3) ? any_value()
                            : (one_in(3) ? any_domain() & 0x7fff : below(16)) |
                                  (one_in(3) ? any_domain() & 0x7fff : below(16)) << 32;
}

void make_memory_op(struct call *c, uint8_t *request)
{
    struct xen_memory_reservation *r = (void *)request;
    struct xen_memory_exchange *x = (void *)request;
    xen_pfn_t *list = (void *)(request + LISTS);
    unsigned op = (unsigned)PICK(XENMEM_populate_physmap, XENMEM_decrease_reservation, XENMEM_exchange,
                                 XENMEM_increase_reservation, small_or_any(30));

    fill_words(request, 128);
    for (unsigned i = 0; i < 64; i++)
        list[i] = one_in(3) ? any_spare_frame() : any_frame();
    c->a[0] = op | (one_in(20) ? any_number() << 6 : 0);
    c->a[1] = U(request);
    if (op == XENMEM_populate_physmap || op == XENMEM_decrease_reservation || op == XENMEM_increase_reservation ||
        op == XENMEM_exchange) {
        *r = (struct xen_memory_reservation){.nr_extents = count_of(4), .domid = (domid_t)any_domain()};
        r->extent_order = one_in(8) ? (unsigned)small_or_any(12) : 0;
        r->mem_flags = one_in(4) ? (unsigned)any_number() : 0;
        set_xen_guest_handle(r->extent_start, one_in(8) ? (void *)any_address() : list);
    }
    if (op == XENMEM_exchange) {
        x->out = x->in;
        if (one_in(4))
            x->out.nr_extents = small_or_any(8);
        if (one_in(8))
            x->out.extent_order = (unsigned)small_or_any(4);
        set_xen_guest_handle(x->out.extent_start, one_in(4) ? (void *)any_address() : list + 32);
        x->nr_exchanged = one_in(8) ? any_number() : 0;
    }
}

static void make_grant_table_op(struct call *c, uint8_t *request)
{
    unsigned cmd = (unsigned)small_or_any(14);
    uint64_t victim = (uint64_t)random_talk->a[ARG_VICTIM];

    fill_words(request, 512);
    for (unsigned i = 0; i < 4; i++) {
        domid_t whose = (domid_t)(one_in(3) ? any_domain() : one_in(2) ? victim : DOMID_SELF);
        grant_ref_t ref = one_in(4) ? (grant_ref_t)small_or_any(1100) : 8 + (grant_ref_t)below(5);
        bool is_entry = false;
        uint64_t host = any_mapping_place(&is_entry);

        if (cmd == GNTTABOP_map_grant_ref) {
            ((struct gnttab_map_grant_ref *)(void *)request)[i] =
                (struct gnttab_map_grant_ref){.host_addr = host,
                                              .flags = one_in(8) ? (uint32_t)any_number()
                                                                 : GNTMAP_host_map | (one_in(4) ? 0 : GNTMAP_readonly) |
                                                                       (is_entry ? GNTMAP_contains_pte : 0),
                                              .ref = ref,
                                              .dom = whose};
        } else if (cmd == GNTTABOP_unmap_grant_ref) {
            ((struct gnttab_unmap_grant_ref *)(void *)request)[i] =
                (struct gnttab_unmap_grant_ref){.host_addr = host,
                                                .dev_bus_addr = one_in(8) ? any_number() : 0,
                                                .handle = (grant_handle_t)small_or_any(8)};
        } else if (cmd == GNTTABOP_copy) {
            struct gnttab_copy *copy = &((struct gnttab_copy *)(void *)request)[i];

            copy->flags = (uint16_t)small_or_any(4);
            copy->source.domid = copy->flags & GNTCOPY_source_gref ? whose : DOMID_SELF;
            copy->dest.domid = copy->flags & GNTCOPY_dest_gref ? whose : DOMID_SELF;
            copy->source.u.gmfn = copy->flags & GNTCOPY_source_gref ? ref : any_frame();
            copy->dest.u.gmfn = copy->flags & GNTCOPY_dest_gref ? ref : any_frame();
            copy->source.offset = (uint16_t)small_or_any(4100);
            copy->dest.offset = (uint16_t)small_or_any(4100);
            copy->len = (uint16_t)small_or_any(4100);
        } else if (cmd == GNTTABOP_transfer) {
            ((struct gnttab_transfer *)(void *)request)[i] =
                (struct gnttab_transfer){.mfn = any_frame(), .domid = whose, .ref = ref};
        } else if (cmd == GNTTABOP_setup_table) {
            struct gnttab_setup_table *s = &((struct gnttab_setup_table *)(void *)request)[i];

            s->dom = (domid_t)(one_in(3) ? any_domain() : DOMID_SELF);
            s->nr_frames = (uint32_t)small_or_any(10);
            set_xen_guest_handle(s->frame_list, (void *)(one_in(3) ? any_address() : U(request + LISTS)));
        } else if (cmd == GNTTABOP_set_version) {
            ((struct gnttab_set_version *)(void *)request)[i].version = (uint32_t)small_or_any(4);
        }
    }
    c->a[0] = cmd;
    c->a[1] = U(request);
    c->a[2] = count_of(4);
}

void make_vcpu_op(struct call *c, uint8_t *request)
{
    c->a[0] = small_or_any(15);
    c->a[1] = one_in(6) ? any_number() : below(RANDOM_VCPUS);
    c->a[2] = U(request);
    fill_words(request, 64);
    if (c->a[0] == VCPUOP_down && !one_in(50))
        c->a[0] = VCPUOP_is_up;
    else if (c->a[0] >= VCPUOP_register_runstate_memory_area && one_in(2))
        *(uint64_t *)(void *)request = one_in(2) ? any_address() : time_now() + below(1000000);
}

static void make_sched_op(struct call *c, uint8_t *request)
{
    struct sched_poll *poll = (void *)request;

    fill_words(request, 64);
    c->a[0] = small_or_any(9);
    c->a[1] = U(request);
    switch (c->a[0]) {
    case SCHEDOP_poll:
        poll->nr_ports = (unsigned)small_or_any(10);
        poll->timeout = one_in(8) ? any_number() : time_now() + below(200000);
        set_xen_guest_handle(poll->ports, (void *)(one_in(3) ? any_address() : U(request + LISTS)));
        break;
    case SCHEDOP_block:
        set_timer_op(time_now() + below(300000));
        if (!one_in(50))
            c->a[0] = SCHEDOP_yield;
        break;
    case SCHEDOP_shutdown:
    case SCHEDOP_watchdog:
        if (!one_in(50))
            c->a[0] = SCHEDOP_shutdown_code;
    }
}

static void make_multicall(struct call *c, uint8_t *request)
{
    struct multicall_entry *m = (void *)(request + 3 * PAGE_SIZE);

    for (unsigned i = 0; i < 8; i++) {
        struct call part = {.nr = __HYPERVISOR_multicall};

        if (!one_in(20))
            do
                call_make(&part, request + PAGE_SIZE * below(2));
            while (part.nr == __HYPERVISOR_multicall);
        m[i].op = part.nr;
        for (unsigned k = 0; k < 5; k++)
            m[i].args[k] = part.a[k];
    }
    c->a[0] = U(m);
    c->a[1] = count_of(8);
}

/* Commands with some structure of words */
static void make_words(struct call *c, uint8_t *request)
{
    fill_words(request, 256);
    c->a[0] = small_or_any(c->nr == __HYPERVISOR_physdev_op ? 34 : 16);
    c->a[1] = U(request);
    c->a[2] = one_in(2) ? U(request) : any_value();
}

static void make_numbers(struct call *c, uint8_t *request)
{
    fill_words(request, 256);
    c->a[0] = small_or_any(40);
    if (c->nr == __HYPERVISOR_croft_op && one_in(2))
        c->a[0] = CROFT_OP_set_virtual_timer;
}

static void make_hvm_op(struct call *c, uint8_t *request)
{
    struct xen_hvm_param *p = (void *)request;

    fill_words(request, 64);
    c->a[0] = one_in(2) ? below(2) : small_or_any(26);
    c->a[1] = U(request);
    if (c->a[0] > HVMOP_get_param)
        return;
    *p = (struct xen_hvm_param){
        .domid = (domid_t)any_domain(), .index = (uint32_t)small_or_any(HVM_NR_PARAMS), .value = any_value()};
    if (one_in(2)) {
        p->index = HVM_PARAM_CALLBACK_IRQ;
        p->value = one_in(2) ? 0 : 2UL << 56 | below(256);
    }
}

static call_maker_t *const makers[NUMBERS] = {
    [__HYPERVISOR_memory_op] = make_memory_op,
    [__HYPERVISOR_multicall] = make_multicall,
    [__HYPERVISOR_grant_table_op] = make_grant_table_op,
    [__HYPERVISOR_vcpu_op] = make_vcpu_op,
    [__HYPERVISOR_sched_op] = make_sched_op,
    [__HYPERVISOR_hvm_op] = make_hvm_op,
    [__HYPERVISOR_event_channel_op] = make_words,
    [__HYPERVISOR_physdev_op] = make_words,
    [__HYPERVISOR_xen_version] = make_words,
    [__HYPERVISOR_nmi_op] = make_words,
    [__HYPERVISOR_platform_op] = make_words,
    [__HYPERVISOR_domctl] = make_words,
    [__HYPERVISOR_sysctl] = make_words,
    [__HYPERVISOR_croft_op] = make_numbers,
    [__HYPERVISOR_vm_assist] = make_numbers,
    [__HYPERVISOR_set_segment_base] = make_numbers,
    [__HYPERVISOR_set_debugreg] = make_numbers,
    [__HYPERVISOR_get_debugreg] = make_numbers,
};

void call_make(struct call *c, uint8_t *request)
{
    call_maker_t *maker;

    do
        c->nr = one_in(3) ? below(NUMBERS) : frequent_call();
    while (!call_is_possible(c->nr));
    maker = own_makers[c->nr] != NULL ? own_makers[c->nr] : makers[c->nr];
    c->a[0] = U(request);
    for (unsigned i = 1; i < 5; i++)
        c->a[i] = any_value();
    if (maker != NULL)
        maker(c, request);
    if (one_in(10))
        ((uint64_t *)(void *)request)[below(32)] = any_value();
    if (one_in(16))
        c->a[below(5)] = any_value();
    if (one_in(100))
        c->nr = any_number();
}
