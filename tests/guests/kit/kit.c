/* Start-up, traps, vcpus. */
#include "kit.h"

static uint8_t shared_info_page[PAGE_SIZE] __attribute__((aligned(4096)));

struct start_info *start_info;
struct shared_info *shared_info = (struct shared_info *)shared_info_page;
trap_hook_t *trap_hooks[VECTOR_SYSENTER + 1];
uint64_t kit_failsafe_selectors[4];

void kit_main(struct start_info *si);
void kit_trap(struct regs *r);
void kit_beside(void);

const char *kit_arguments(void) { return (const char *)start_info->cmd_line; }

void kit_write(const char *text, unsigned length)
{
    if (kit_is_child())
        kit_child_write(text, length);
    else
        console_io(CONSOLEIO_write, length, (char *)text);
}

unsigned long stack_for_user_entries(unsigned vcpu)
{
    return (unsigned long)kit_stacks + vcpu * KIT_STACK_SIZE + KIT_STACK_SIZE / 2;
}

void poweroff(void)
{
    struct sched_shutdown s = {.reason = SHUTDOWN_poweroff};

    for (;;)
        sched_op(SCHEDOP_shutdown, &s);
}

void set_trap(unsigned vector, unsigned flags, void *address)
{
    struct trap_info t[2] = {
        {.vector = (uint8_t)vector, .flags = (uint8_t)flags, .cs = FLAT_KERNEL_CS, .address = (unsigned long)address},
    };

    set_trap_table(t);
}

void kit_event(void);

void kit_trap(struct regs *r)
{
    trap_hook_t *hook = trap_hooks[r->vector];

    if (hook != NULL && hook(r)) {
        if (r->vector != VECTOR_SYSCALL)
            r->error = 0;
        return;
    }
    if (r->vector == VECTOR_EVENT) {
        kit_event();
        r->error = 0;
        return;
    }
    trap_catch(r, FLAT_KERNEL_CS & ~3U, FLAT_KERNEL_SS, vcpu_info_of(vcpu_id())->arch.cr2);
    r->error = 0;
}

long callback_set(unsigned type, unsigned flags, void *address)
{
    struct callback_register c = {.type = (uint16_t)type, .flags = (uint16_t)flags, .address = (unsigned long)address};

    return callback_op(CALLBACKOP_register, &c);
}

void traps_setup(void)
{
    struct trap_info t[40];
    unsigned n = 0;
    long rc;

    memset(t, 0, sizeof(t));
    for (unsigned i = 0; i < 32; i++) {
        if (i == 2 || i == 15)
            continue;
        t[n].vector = (uint8_t)i;
        t[n].flags = i == 3 || i == 4 ? 3 : 0;
        t[n].cs = FLAT_KERNEL_CS;
        t[n++].address = (unsigned long)kit_stubs + i * 16;
    }
    t[n].vector = 0x80;
    t[n].flags = 3;
    t[n].cs = FLAT_KERNEL_CS;
    t[n++].address = (unsigned long)kit_stubs + 0x80 * 16;
    rc = set_trap_table(t);
    if (rc != 0)
        panic("set_trap_table: %ld", rc);
    if (callback_set(CALLBACKTYPE_event, 0, kit_event_entry) != 0 ||
        callback_set(CALLBACKTYPE_failsafe, CALLBACKF_mask_events, kit_failsafe_entry) != 0 ||
        callback_set(CALLBACKTYPE_syscall, CALLBACKF_mask_events, kit_syscall_entry) != 0 ||
        (!kit_is_child() && callback_set(CALLBACKTYPE_nmi, 0, kit_nmi_entry) != 0))
        panic("a callback was refused");
    stack_switch(FLAT_KERNEL_SS, stack_for_user_entries(0));
}

void vcpu_context_fill(struct vcpu_guest_context *c, unsigned vcpu, void (*f)(void))
{
    memset(c, 0, sizeof(*c));
    c->flags = VGCF_IN_KERNEL | VGCF_syscall_disables_events | VGCF_failsafe_disables_events;
    c->user_regs.rip = (unsigned long)kit_vcpu_start;
    c->user_regs.rdi = (unsigned long)f;
    c->user_regs.rsp = (unsigned long)kit_stacks + (vcpu + 1) * KIT_STACK_SIZE;
    c->user_regs.cs = FLAT_KERNEL_CS;
    c->user_regs.ss = FLAT_KERNEL_SS;
    c->user_regs.rflags = 0x202;
    for (unsigned i = 0; i < 32; i++) {
        if (i == 2 || i == 15)
            continue;
        c->trap_ctxt[i].vector = (uint8_t)i; /* a table by vector, not a list */
        c->trap_ctxt[i].flags = i == 3 || i == 4 ? 3 : 0;
        c->trap_ctxt[i].cs = FLAT_KERNEL_CS;
        c->trap_ctxt[i].address = (unsigned long)kit_stubs + i * 16;
    }
    c->kernel_ss = FLAT_KERNEL_SS;
    c->kernel_sp = stack_for_user_entries(vcpu);
    c->ctrlreg[3] = kernel_root << 12;
    c->event_callback_eip = (unsigned long)kit_event_entry;
    c->failsafe_callback_eip = (unsigned long)kit_failsafe_entry;
    c->syscall_callback_eip = (unsigned long)kit_syscall_entry;
}

void kit_main(struct start_info *si)
{
    long rc;

    start_info = si;
    p2m = (unsigned long *)si->mfn_list;
    kernel_root = virt_to_mfn((void *)si->pt_base);
    rc = update_va_mapping((unsigned long)shared_info_page, (si->shared_info & PAGE_MASK) | PTE_RW, UVMF_INVLPG);
    if (rc != 0)
        panic("mapping shared_info: %ld", rc);
    for (unsigned i = 0; i < 64; i++)
        shared_info->evtchn_mask[i] = ~0UL;
    traps_setup();
    if (kit_is_child()) {
        kit_checks_reset();
        trap_forget();
        kit_child_main();
    }
    printf("guest %s starts\n", guest_name);
    if (argument_present("beside"))
        kit_beside();
    else
        guest_main();
    verdict();
}
