/* Hypercalls that nearly make sense. */
#include "hostile.h"

#include "../../../hypervisor/hypercall/croft_abi.h"

#define LISTS 2048 /* within a request: where lists are that a structure there points to */

static uint64_t small_or_any(unsigned limit) { return one_in(10) ? any_number() : below(limit); }
/* Mostly some; sometimes none, or far too many */
static uint64_t count_of(unsigned limit) { return one_in(20) ? any_number() : one_in(20) ? 0 : 1 + below(limit); }

/* Words of 32 and 64 bits, as most structures have */
static void fill_words(uint8_t *to, size_t size)
{
    uint64_t *word = (uint64_t *)(void *)to;

    for (size_t i = 0; i < size / 8; i++)
        word[i] = one_in(3) ? any_value()
                            : (one_in(3) ? any_domain() & 0x7fff : below(16)) |
                                  (one_in(3) ? any_domain() & 0x7fff : below(16)) << 32;
}

static void make_mmu_update(struct call *c, uint8_t *request)
{
    struct mmu_update *u = (void *)request;

    for (unsigned i = 0; i < 32; i++)
        u[i] = (struct mmu_update){.ptr = any_entry_address() | (one_in(4) ? below(8) : 0), .val = any_entry()};
    c->a[1] = count_of(one_in(8) ? 32 : 4);
    c->a[2] = one_in(4) ? any_address() : 0;
    c->a[3] = one_in(6) ? any_domain() | any_number() << 16 : DOMID_SELF;
}

static void make_mmuext_op(struct call *c, uint8_t *request)
{
    struct mmuext_op *op = (void *)request;

    for (unsigned i = 0; i < 16; i++) {
        op[i].cmd = (unsigned)small_or_any(22);
        op[i].arg1.mfn =
            op[i].cmd == MMUEXT_INVLPG_ALL || op[i].cmd == MMUEXT_INVLPG_MULTI || op[i].cmd == MMUEXT_SET_LDT
                ? any_address()
                : any_frame();
        op[i].arg2.src_mfn = op[i].cmd == MMUEXT_COPY_PAGE ? any_frame() : one_in(2) ? any_address() : below(600);
    }
    c->a[1] = count_of(one_in(8) ? 16 : 3);
    c->a[2] = one_in(4) ? any_address() : 0;
    c->a[3] = one_in(6) ? any_domain() : DOMID_SELF;
}

static void make_update_va_mapping(struct call *c, uint8_t *request)
{
    (void)request;
    c->a[0] = one_in(4) ? any_address() : TEST_VA + below(SLOTS) * PAGE_SIZE;
    c->a[1] = any_entry();
    c->a[2] = one_in(4) ? any_address() : below(8);
    c->a[3] = any_domain(); /* of the other form */
}

static void make_memory_op(struct call *c, uint8_t *request)
{
    struct xen_memory_reservation *r = (void *)request;
    struct xen_memory_exchange *x = (void *)request;
    xen_pfn_t *list = (void *)(request + LISTS);
    unsigned op = (unsigned)PICK(XENMEM_populate_physmap, XENMEM_decrease_reservation, XENMEM_exchange,
                                 XENMEM_increase_reservation, small_or_any(30));

    fill_words(request, 128);
    for (unsigned i = 0; i < 64; i++)
        list[i] = one_in(3) ? start_info->nr_pages + 256 + below(64) : any_frame();
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
    uint64_t victim = (uint64_t)kit_talk.a[ARG_VICTIM];

    fill_words(request, 512);
    for (unsigned i = 0; i < 4; i++) {
        domid_t whose = (domid_t)(one_in(3) ? any_domain() : one_in(2) ? victim : DOMID_SELF);
        grant_ref_t ref = one_in(4) ? (grant_ref_t)small_or_any(1100) : 8 + (grant_ref_t)below(5);
        uint64_t host = one_in(3) ? any_entry_address() : TEST_VA + below(SLOTS) * PAGE_SIZE;

        if (cmd == GNTTABOP_map_grant_ref) {
            ((struct gnttab_map_grant_ref *)(void *)request)[i] =
                (struct gnttab_map_grant_ref){.host_addr = host,
                                              .flags = one_in(8) ? (uint32_t)any_number()
                                                                 : GNTMAP_host_map | (one_in(4) ? 0 : GNTMAP_readonly) |
                                                                       (host < TEST_VA ? GNTMAP_contains_pte : 0),
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

static void make_vcpu_op(struct call *c, uint8_t *request)
{
    struct vcpu_guest_context *context = (void *)request;

    c->a[0] = small_or_any(15);
    c->a[1] = one_in(6) ? any_number() : below(RANDOM_VCPUS);
    c->a[2] = U(request);
    fill_words(request, 64);
    if (c->a[0] == VCPUOP_initialise) {
        vcpu_context_fill(context, 1, (void (*)(void))any_address());
        for (unsigned i = 0; i < below(6); i++)
            ((uint64_t *)(void *)request)[below(sizeof(*context) / 8)] = any_value();
    } else if (c->a[0] == VCPUOP_down && !one_in(50)) {
        c->a[0] = VCPUOP_is_up;
    } else if (c->a[0] >= VCPUOP_register_runstate_memory_area && one_in(2)) {
        *(uint64_t *)(void *)request = one_in(2) ? any_address() : time_now() + below(1000000);
    }
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

static void make_trap_table(struct call *c, uint8_t *request)
{
    struct trap_info *t = (void *)request;

    c->a[0] = U(t);
    for (unsigned i = 0; i < 40; i++) {
        unsigned vector = (unsigned)below(256);

        t[i] = (struct trap_info){.vector = (uint8_t)vector,
                                  .flags = (uint8_t)below(8),
                                  .cs = (uint16_t)(one_in(10) ? any_number() : FLAT_KERNEL_CS),
                                  .address = one_in(10) ? any_address() : U(kit_stubs) + vector * 16};
    }
    if (!one_in(20))
        memset(&t[below(40)], 0, sizeof(*t));
}

static uint64_t any_descriptor(void)
{
    return one_in(3)   ? random()
           : one_in(2) ? 0x00affb000000ffffUL ^ 1UL << below(64)
                       : 0x00cff3000000ffffUL ^ 1UL << below(64);
}

static void make_descriptors(struct call *c, uint8_t *request)
{
    uint64_t *frames = (void *)request;

    for (unsigned i = 0; i < 16; i++)
        frames[i] = any_frame();
    if (c->nr == __HYPERVISOR_set_gdt) {
        c->a[1] = one_in(6) ? any_number() : below(1024);
        return;
    }
    c->a[0] = any_frame() << 12 | (one_in(6) ? below(PAGE_SIZE) : below(512) * 8);
    c->a[1] = any_descriptor();
}

static void make_callback_op(struct call *c, uint8_t *request)
{
    struct callback_register *r = (void *)request;

    fill_words(request, 64);
    c->a[0] = small_or_any(3);
    c->a[1] = U(request);
    *r = (struct callback_register){
        .type = (uint16_t)small_or_any(8), .flags = (uint16_t)small_or_any(4), .address = U(kit_event_entry)};
    if (one_in(8))
        r->address = any_address();
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

static void (*const makers[])(struct call *c, uint8_t *request) = {
    [__HYPERVISOR_set_trap_table] = make_trap_table,
    [__HYPERVISOR_mmu_update] = make_mmu_update,
    [__HYPERVISOR_set_gdt] = make_descriptors,
    [__HYPERVISOR_update_descriptor] = make_descriptors,
    [__HYPERVISOR_memory_op] = make_memory_op,
    [__HYPERVISOR_multicall] = make_multicall,
    [__HYPERVISOR_update_va_mapping] = make_update_va_mapping,
    [__HYPERVISOR_update_va_mapping_otherdomain] = make_update_va_mapping,
    [__HYPERVISOR_grant_table_op] = make_grant_table_op,
    [__HYPERVISOR_vcpu_op] = make_vcpu_op,
    [__HYPERVISOR_mmuext_op] = make_mmuext_op,
    [__HYPERVISOR_sched_op] = make_sched_op,
    [__HYPERVISOR_callback_op] = make_callback_op,
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
    c->nr = one_in(3) ? below(NUMBERS)
                      : PICK(__HYPERVISOR_mmu_update, __HYPERVISOR_mmu_update, __HYPERVISOR_mmuext_op,
                             __HYPERVISOR_mmuext_op, __HYPERVISOR_update_va_mapping, __HYPERVISOR_memory_op,
                             __HYPERVISOR_grant_table_op, __HYPERVISOR_grant_table_op, __HYPERVISOR_event_channel_op,
                             __HYPERVISOR_vcpu_op, __HYPERVISOR_multicall);
    if (c->nr == __HYPERVISOR_iret || (c->nr == __HYPERVISOR_sched_op_compat && !one_in(50)))
        c->nr = __HYPERVISOR_xen_version; /* code_run makes these, from where they make sense */
    c->a[0] = U(request);
    for (unsigned i = 1; i < 5; i++)
        c->a[i] = any_value();
    if (c->nr < sizeof(makers) / sizeof(makers[0]) && makers[c->nr] != NULL)
        makers[c->nr](c, request);
    if (one_in(10))
        ((uint64_t *)(void *)request)[below(32)] = any_value();
    if (one_in(16))
        c->a[below(5)] = any_value();
    if (one_in(100))
        c->nr = any_number();
}
