/* The random guest: a call, an instruction or a change of its own memory after the other, on each of its vcpus. */
#include "hostile.h"

uint8_t *data_pages[PAGES];
uint64_t *tables[TABLES];
uint8_t *requests[RANDOM_VCPUS];
volatile bool code_trapped[RANDOM_VCPUS];

static struct call calls[RANDOM_VCPUS];
static volatile long results[RANDOM_VCPUS];

/* The debugger's exceptions, NMIs and the FPU's come of what was done before, and need nothing but to be cleared. */
static bool clear_debug(struct regs *r)
{
    r->rflags &= ~(RFLAGS_TF | RFLAGS_AC);
    set_debugreg(7, 0);
    return true;
}

static bool go_on(struct regs *r)
{
    if (r->vector == 7)
        fpu_taskswitch(0);
    return true;
}

static void restore(unsigned v)
{
    events_disable();
    traps_setup();
    stack_switch(FLAT_KERNEL_SS, stack_for_user_entries(v));
    fpu_taskswitch(0);
    set_debugreg(7, 0);
    vcpu_op(VCPUOP_stop_periodic_timer, v, NULL);
    mmuext(MMUEXT_NEW_USER_BASEPTR, user_root, 0);
}

static void prepare(void)
{
    xen_pfn_t frames[2];
    struct gnttab_setup_table s = {.dom = DOMID_SELF, .nr_frames = 2};

    user_setup();
    for (unsigned level = 1; level < 4; level++)
        tables[level - 1] = (void *)(U(entry_of(kernel_root, TEST_VA, (int)level)) & PAGE_MASK);
    tables[3] = mfn_to_virt(user_root);
    for (unsigned i = 4; i < TABLES; i++)
        tables[i] = table_alloc();
    for (unsigned i = 0; i < PAGES; i++) {
        data_pages[i] = page_alloc();
        map_page(TEST_VA + (8 + i) * PAGE_SIZE, make_pte(virt_to_mfn(data_pages[i]), PTE_RW));
    }
    for (unsigned v = 0; v < RANDOM_VCPUS; v++) {
        requests[v] = page_alloc();
        for (unsigned i = 1; i < RANDOM_REQUEST_PAGES; i++)
            page_alloc(); /* behind it */
        code_pages[v] = page_alloc();
        map_page(CODE_VA + v * PAGE_SIZE, make_pte(virt_to_mfn(code_pages[v]), PTE_USER_RW));
    }
    set_xen_guest_handle(s.frame_list, frames);
    if (grant_table_op(GNTTABOP_setup_table, &s, 1) == 0 && s.status == GNTST_okay)
        for (unsigned i = 0; i < 2; i++)
            map_page(GRANT_VA + i * PAGE_SIZE, make_pte(frames[i], PTE_RW));
    trap_hooks[1] = clear_debug;
    trap_hooks[2] = trap_hooks[7] = go_on;
}

static void make_the_call(void *argument)
{
    struct call *c = argument;

    results[vcpu_id() % RANDOM_VCPUS] = kit_raw_hypercall(c->nr, c->a[0], c->a[1], c->a[2], c->a[3], c->a[4]);
}

static void change_grant(void)
{
    grant_entry_v1_t *e = (grant_entry_v1_t *)GRANT_VA + below(16);

    e->domid = (domid_t)any_domain();
    e->frame = (uint32_t)any_frame();
    e->flags = (uint16_t)(one_in(4) ? any_number() : below(8));
}

/* How its own pages are mapped; and, in those that it can write, what may become a page table */
static void change_pages(void)
{
    uint64_t *page = one_in(2) ? tables[below(TABLES)] : (uint64_t *)(void *)data_pages[below(PAGES)];

    if (one_in(2)) {
        page_set_flags(page, PICK(PTE_RO, PTE_RO, PTE_RW, 0));
        return;
    }
    if (one_in(4))
        memset(page, 0, PAGE_SIZE);
    for (unsigned i = 0; i < below(8); i++)
        page[below(SLOTS)] = any_entry();
}

static void step(void *unused)
{
    unsigned v = vcpu_id() % RANDOM_VCPUS;
    uint64_t what = below(16);

    (void)unused;
    ((volatile uint32_t *)&random_talk->a[ARG_LAST])[v] = (uint32_t)what << 16 | 0xffff;
    if (what < 3) {
        enum random_kind kind = code_run();

        count(NUMBERS + kind, !code_trapped[v]);
    } else if (what == 3) {
        change_pages();
    } else if (what == 4) {
        change_grant();
    } else {
        call_make(&calls[v], requests[one_in(20) ? !v : v]);
        ((volatile uint32_t *)&random_talk->a[ARG_LAST])[v] = (uint32_t)calls[v].nr << 16 | (uint16_t)calls[v].a[0];
        count(calls[v].nr < NUMBERS ? (unsigned)calls[v].nr : NUMBERS - 1,
              !trapped(make_the_call, &calls[v], NULL) && results[v] >= 0);
    }
    if (one_in(16))
        events_enable();
}

static void repair(unsigned v)
{
    update_va_mapping(U(shared_info), make_pte(start_info->shared_info >> 12, PTE_RW), UVMF_INVLPG);
    for (unsigned i = 0; i < RANDOM_REQUEST_PAGES; i++)
        page_set_flags(requests[v] + i * PAGE_SIZE, PTE_RW);
    page_set_flags(code_pages[v], PTE_RW);
    restore(v);
}

/* Calls that decide how its own exceptions are delivered: what they set seldom stays for long, or it would not live long */
static bool changes_delivery(unsigned long nr)
{
    return nr == __HYPERVISOR_set_trap_table || nr == __HYPERVISOR_set_callbacks || nr == __HYPERVISOR_callback_op ||
           nr == __HYPERVISOR_stack_switch || nr == __HYPERVISOR_set_gdt || nr == __HYPERVISOR_multicall;
}

static void steps(void *unused)
{
    unsigned v = vcpu_id() % RANDOM_VCPUS;

    (void)unused;
    restore(v);
    for (;;) {
        if (trapped(step, NULL, NULL))
            repair(v);
        else if (changes_delivery(calls[v].nr) ? !one_in(8) : one_in(12))
            restore(v);
        ((volatile long *)random_talk->a)[ARG_PROGRESS + v]++;
    }
}

long random_here(long *a)
{
    random_seed((uint64_t)a[ARG_SEED]);
    prepare();
    if (a[ARG_VCPUS] > 1) {
        second_start();
        second_begin(steps, NULL);
    }
    steps(NULL);
    return 0;
}
