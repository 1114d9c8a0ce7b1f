/* The calls that are PV's, and how calls are chosen. */
#include "hostile.h"

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

static void make_vcpu_context_op(struct call *c, uint8_t *request)
{
    struct vcpu_guest_context *context = (void *)request;

    make_vcpu_op(c, request);
    if (c->a[0] != VCPUOP_initialise)
        return;
    vcpu_context_fill(context, 1, (void (*)(void))any_address());
    for (unsigned i = 0; i < below(6); i++)
        ((uint64_t *)(void *)request)[below(sizeof(*context) / 8)] = any_value();
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

call_maker_t *const own_makers[NUMBERS] = {
    [__HYPERVISOR_set_trap_table] = make_trap_table,
    [__HYPERVISOR_mmu_update] = make_mmu_update,
    [__HYPERVISOR_set_gdt] = make_descriptors,
    [__HYPERVISOR_update_descriptor] = make_descriptors,
    [__HYPERVISOR_update_va_mapping] = make_update_va_mapping,
    [__HYPERVISOR_update_va_mapping_otherdomain] = make_update_va_mapping,
    [__HYPERVISOR_vcpu_op] = make_vcpu_context_op,
    [__HYPERVISOR_mmuext_op] = make_mmuext_op,
    [__HYPERVISOR_callback_op] = make_callback_op,
};

uint64_t frequent_call(void)
{
    return PICK(__HYPERVISOR_mmu_update, __HYPERVISOR_mmu_update, __HYPERVISOR_mmuext_op, __HYPERVISOR_mmuext_op,
                __HYPERVISOR_update_va_mapping, __HYPERVISOR_memory_op, __HYPERVISOR_grant_table_op,
                __HYPERVISOR_grant_table_op, __HYPERVISOR_event_channel_op, __HYPERVISOR_vcpu_op,
                __HYPERVISOR_multicall);
}

/* code_run makes the others, from where they make sense. */
bool call_is_possible(unsigned long nr)
{
    return nr != __HYPERVISOR_iret && (nr != __HYPERVISOR_sched_op_compat || one_in(50));
}

uint64_t any_spare_frame(void) { return start_info->nr_pages + 256 + below(64); }

uint64_t any_mapping_place(bool *is_entry)
{
    *is_entry = one_in(3);
    return *is_entry ? any_entry_address() : TEST_VA + below(SLOTS) * PAGE_SIZE;
}
