/* run: time=40 */
/*
 * The system call of user mode, and the iret hypercall, away from the common case: flags that only the long way knows, events that are masked or
 * pending at that moment, handlers and stacks of every kind, a breakpoint on the kernel's stack. In children, which may die of
 * it: stacks that cannot be written or read.
 */
#include "child.h"

#define INFO_VA (USER_DATA + 0x10000UL) /* the shared info page, for user mode */
#define LOW_STACK 0x20000000UL
#define IRET_VA 0xffffff0000100000UL

uint64_t entry_flags, entry_rcx, entry_r11; /* set by probe_entry */
static uint64_t entry_stack;

/* What the kit's own entry does not look at: flags, rcx and r11 as they come. */
extern char probe_entry[];
asm(".text\n"
    "probe_entry: movq %rcx, entry_rcx(%rip); movq %r11, entry_r11(%rip); pushfq; popq entry_flags(%rip); jmp "
    "kit_syscall_entry\n");

static struct regs seen;
static unsigned calls;
static uint64_t seen_cr2, seen_error;
static bool masked_inside;
static uint8_t pending_inside;

static bool note(struct regs *r)
{
    seen = *r;
    seen_cr2 = vcpu_info_of(0)->arch.cr2;
    seen_error = r->error;
    calls++;
    entry_stack = (uint64_t)(r + 1);
    masked_inside = vcpu_info_of(0)->evtchn_upcall_mask != 0;
    pending_inside = vcpu_info_of(0)->evtchn_upcall_pending;
    set_debugreg(7, 0);
    if (r->vector == 14)
        r->rip += 2;
    r->error = 0;
    return true;
}

static struct regs run(const char *code, const char *end)
{
    struct regs r;

    calls = 0;
    trap_hooks[VECTOR_SYSCALL] = trap_hooks[14] = note;
    user_run(code, (size_t)(end - code), &r);
    trap_hooks[VECTOR_SYSCALL] = trap_hooks[14] = NULL;
    return r;
}
#define RUN(name) run(name, name##_end)

USER_TEXT(user_plain, "syscall; ud2");
USER_TEXT(user_flags, "pushq $0x244cd7; popfq; syscall; ud2");
USER_TEXT(user_step, "pushfq; orl $0x100, (%rsp); popfq; syscall; nop; nop; ud2");
USER_TEXT(user_masked, "movabsq $0x100000110000, %rbx; movb $1, 1(%rbx); syscall; ud2");
USER_TEXT(user_pending, "movabsq $0x100000110000, %rbx; movb $1, (%rbx); syscall; nop; ud2");
USER_TEXT(
    user_registers,
    "movl $0x101, %eax; movl $0x102, %ebx; movl $0x103, %edx; movl $0x104, %esi; movl $0x105, %edi; movl $0x106, %ebp; "
    "movl $0x107, %r8d; movl $0x108, %r9d; movl $0x109, %r10d; movl $0x10a, %r12d; movl $0x10b, %r13d; movl $0x10c, "
    "%r14d; movl $0x10d, %r15d; syscall; ud2");

/* The call arrived, from where the code says, and user mode went on behind it to its ud2. */
static void came(const char *what, const struct regs *r, unsigned offset)
{
    check(calls == 1 && seen.rip == USER_CODE + offset && (uint16_t)seen.cs == FLAT_USER_CS &&
              (uint16_t)seen.ss == FLAT_USER_SS && seen.rsp == USER_DATA + PAGE_SIZE && seen.rcx == seen.rip,
          "%s: %u calls, rip %lx cs %x ss %lx rsp %lx rcx %lx", what, calls, seen.rip, seen.cs, seen.ss, seen.rsp,
          seen.rcx);
    check(r->vector == 6, "%s: user mode goes on: vector %lu rip %lx", what, r->vector, r->rip);
}

static bool registers_hold(const struct regs *r)
{
    return r->rax == 0x101 && r->rbx == 0x102 && r->rdx == 0x103 && r->rsi == 0x104 && r->rdi == 0x105 &&
           r->rbp == 0x106 && r->r8 == 0x107 && r->r9 == 0x108 && r->r10 == 0x109 && r->r12 == 0x10a &&
           r->r13 == 0x10b && r->r14 == 0x10c && r->r15 == 0x10d;
}

static void flags_and_registers(void)
{
    struct regs r;

    check_equal(callback_set(CALLBACKTYPE_syscall, CALLBACKF_mask_events, probe_entry), 0);
    r = RUN(user_plain);
    came("plain", &r, 2);
    check(masked_inside && (seen.saved_mask & 0xff) == 0 && (seen.rflags & RFLAGS_IF) && seen.r11 == seen.rflags,
          "plain: events masked inside, open before: %x, rflags %lx", seen.saved_mask, seen.rflags);
    check(entry_stack == stack_for_user_entries(0), "plain: on the kernel stack");
    check((entry_rcx >> 39 & 0x1ff) - 256 >= 16 && (entry_r11 >> 39 & 0x1ff) - 256 >= 16,
          "rcx %lx and r11 %lx tell nothing of the hypervisor's", entry_rcx, entry_r11);

    r = RUN(user_flags);
    came("flags", &r, 8);
    check((seen.rflags | 2) == (0x244cd7 | RFLAGS_IF) && seen.r11 == seen.rflags, "flags are saved: %lx, r11 %lx",
          seen.rflags, seen.r11);
    check((entry_flags & (RFLAGS_TF | 0x400 | RFLAGS_NT | RFLAGS_AC)) == 0 && (entry_flags & RFLAGS_IF),
          "the handler's flags: %lx", entry_flags);

    r = RUN(user_registers);
    came("registers", &r, (unsigned)(user_registers_end - user_registers) - 2);
    check(registers_hold(&seen), "the handler sees all registers");
    check(registers_hold(&r) && r.rcx == USER_CODE + (uint64_t)(user_registers_end - user_registers) - 2,
          "all registers come back");

    r = RUN(user_step);
    check(calls == 1 && (seen.rflags & RFLAGS_TF) && !(entry_flags & RFLAGS_TF),
          "single step: in the saved flags (%lx), not in the handler's (%lx)", seen.rflags, entry_flags);
    check(r.vector == 1 && r.rip >= USER_CODE + 11 && r.rip <= USER_CODE + 12 && (r.cs & 3) == 3,
          "single step goes on in user mode: vector %lu rip %lx", r.vector, r.rip);
}

static unsigned events;
static uint64_t event_rip, event_cs;

static bool note_event(struct regs *r)
{
    vcpu_info_of(0)->evtchn_upcall_pending = 0;
    events++;
    event_rip = r->rip;
    event_cs = r->cs;
    return true;
}

/* Page faults of user mode: the same, where the handler masks events. Each instruction that faults has two bytes. */
#define LEAD "movabsq $0x7f1234567000, %rdi; "
USER_TEXT(user_read, LEAD "movb (%rdi), %al; ud2");
USER_TEXT(user_write, "movabsq $0x100000000000, %rdi; movb %al, (%rdi); ud2");
USER_TEXT(user_high, "movabsq $0xffff900000000000, %rdi; movb (%rdi), %al; ud2");
USER_TEXT(user_hole, "movabsq $0xffff830000001000, %rdi; movb (%rdi), %al; ud2");
USER_TEXT(user_read_flags, LEAD "pushq $0x244cd7; popfq; movb (%rdi), %al; ud2");
USER_TEXT(user_read_masked, LEAD "movabsq $0x100000110000, %rbx; movb $1, 1(%rbx); movb (%rdi), %al; ud2");
USER_TEXT(user_read_pending, LEAD "movabsq $0x100000110000, %rbx; movb $1, (%rbx); movb (%rdi), %al; ud2");
USER_TEXT(
    user_read_registers, LEAD
    "movl $0x101, %eax; movl $0x102, %ebx; movl $0x103, %edx; movl $0x104, %esi; movl $0x106, %ebp; movl $0x107, %r8d; "
    "movl $0x108, %r9d; movl $0x109, %r10d; movl $0x10a, %r12d; movl $0x10b, %r13d; movl $0x10c, %r14d; movl $0x10d, "
    "%r15d; movl $0x10e, %ecx; movl $0x10f, %r11d; movb (%rdi), %al; ud2");

static struct regs faulted(const char *what, const char *code, const char *end, uint64_t cr2, uint64_t error)
{
    struct regs r;

    vcpu_info_of(0)->arch.cr2 = 0;
    r = run(code, end);
    check(calls == 1 && seen.rip == USER_CODE + (uint64_t)(end - code) - 4 && (uint16_t)seen.cs == FLAT_USER_CS &&
              (uint16_t)seen.ss == FLAT_USER_SS && seen.rsp == USER_DATA + PAGE_SIZE,
          "%s: %u faults, rip %lx cs %x ss %lx rsp %lx", what, calls, seen.rip, seen.cs, seen.ss, seen.rsp);
    check(seen_cr2 == cr2 && seen_error == error, "%s: cr2 %lx, error %lx", what, seen_cr2, seen_error);
    check(r.vector == 6, "%s: user mode goes on: vector %lu rip %lx", what, r.vector, r.rip);
    return r;
}
#define FAULTED(what, name, cr2, error) faulted(what, name, name##_end, cr2, error)

static bool fault_registers_hold(struct regs r)
{
    bool own = r.rdi == VA_UNMAPPED && r.rcx == 0x10e && r.r11 == 0x10f;

    r.rdi = 0x105;
    return own && registers_hold(&r);
}

static void page_faults(void)
{
    struct regs r;

    set_trap(14, 4, kit_stubs + 14 * 16);
    FAULTED("read", user_read, VA_UNMAPPED, 4);
    check(masked_inside && (seen.saved_mask & 0xff) == 0 && (seen.rflags & RFLAGS_IF),
          "events masked inside, open before: %x", seen.saved_mask);
    check(entry_stack == stack_for_user_entries(0), "on the kernel stack");
    FAULTED("write, read-only", user_write, USER_CODE, 7);
    FAULTED("read of the kernel's half", user_high, 0xffff900000000000, 4);
    FAULTED("read of the hypervisor", user_hole, 0xffff830000001000, 4);
    FAULTED("flags", user_read_flags, VA_UNMAPPED, 4);
    check((seen.rflags & 0x244cd5) == 0x244cd5, "flags are saved: %lx", seen.rflags);
    r = FAULTED("registers", user_read_registers, VA_UNMAPPED, 4);
    check(fault_registers_hold(seen) && fault_registers_hold(r), "all registers come and go");
    map_page(INFO_VA, make_pte(start_info->shared_info >> 12, PTE_USER_RW));
    r = FAULTED("masked", user_read_masked, VA_UNMAPPED, 4);
    check((seen.saved_mask & 0xff) == 1 && !(seen.rflags & RFLAGS_IF) && masked_inside,
          "masked: the saved mask is %x, rflags %lx", seen.saved_mask, seen.rflags);
    check((r.saved_mask & 0xff) == 1, "masked: and again behind the fault: %x", r.saved_mask);
    events_enable();
    trap_hooks[VECTOR_EVENT] = note_event;
    events = 0;
    FAULTED("pending", user_read_pending, VA_UNMAPPED, 4);
    trap_hooks[VECTOR_EVENT] = NULL;
    check(pending_inside && masked_inside && events == 1 && (event_cs & 3) == 3, "pending: it comes after the handler");

    set_trap(14, 0, kit_stubs + 14 * 16);
    FAULTED("a handler that does not mask events", user_read, VA_UNMAPPED, 4);
    check(!masked_inside, "a handler that does not mask events: they are open");
    set_trap(14, 4, kit_stubs + 14 * 16);
    FAULTED("one that does, again", user_read, VA_UNMAPPED, 4);
    check(masked_inside, "one that does, again: they are masked");
    set_trap_table(NULL); /* must not leave the old one behind */
    traps_setup();
}

static void masked_and_pending(void)
{
    struct regs r;

    map_page(INFO_VA, make_pte(start_info->shared_info >> 12, PTE_USER_RW));
    r = RUN(user_masked);
    came("masked", &r, 16);
    check((seen.saved_mask & 0xff) == 1 && !(seen.rflags & RFLAGS_IF) && masked_inside,
          "masked: the saved mask is %x, rflags %lx", seen.saved_mask, seen.rflags);
    check((r.saved_mask & 0xff) == 1 && !(r.rflags & RFLAGS_IF), "masked: and again behind the call: %x", r.saved_mask);
    events_enable();

    trap_hooks[VECTOR_EVENT] = note_event;
    r = RUN(user_pending);
    trap_hooks[VECTOR_EVENT] = NULL;
    came("pending", &r, 15);
    check(pending_inside && masked_inside && (seen.saved_mask & 0xff) == 0,
          "pending: it waits for the end of the call");
    check(events == 1 && event_rip == USER_CODE + 15 && (event_cs & 3) == 3,
          "pending: then it comes, in user mode: %u, rip %lx cs %lx", events, event_rip, event_cs);
}

static void handlers(void)
{
    struct regs r;

    check_equal(callback_set(CALLBACKTYPE_syscall, 0, kit_syscall_entry), 0);
    r = RUN(user_plain);
    came("a handler that does not mask events", &r, 2);
    check(!masked_inside, "a handler that does not mask events: they are open");

    check_equal(hypercall(__HYPERVISOR_set_callbacks, U(kit_event_entry), U(kit_failsafe_entry), 0, 0, 0), 0);
    r = RUN(user_plain);
    check(calls == 0 && r.vector == 6 && r.rip == USER_CODE, "no handler: #UD (vector %lu rip %lx)", r.vector, r.rip);
    check_negative(callback_set(CALLBACKTYPE_syscall, CALLBACKF_mask_events, (void *)VA_NONCANONICAL));
    r = RUN(user_plain);
    check(calls == 0 && r.vector == 6 && r.rip == USER_CODE, "a refused handler is none");
    traps_setup();
    r = RUN(user_plain);
    came("with a handler again", &r, 2);
}

/* Breakpoints on the kernel's stack hit the hypervisor as it writes the frame: nobody hears of it, and nothing is lost. */
static void breakpoint(void)
{
    for (unsigned word = 2; word < 7; word++) { /* the handler itself writes to the first two */
        struct regs r;

        check_equal(set_debugreg(0, stack_for_user_entries(0) - 56 + 8 * word), 0);
        check_equal(set_debugreg(7, 0x00090001), 0); /* 8 bytes, on write */
        r = RUN(user_plain);
        came("breakpoint on the frame", &r, 2);
    }
}

static void stacks(void)
{
    static const int shifts[] = {0, -1, -8, -15, -16};
    struct regs r;

    for (unsigned i = 0; i < sizeof(shifts) / sizeof(shifts[0]); i++) {
        check_equal(stack_switch(FLAT_KERNEL_SS, stack_for_user_entries(0) + (unsigned long)shifts[i]), 0);
        r = RUN(user_plain);
        came("a stack pointer that is not aligned", &r, 2);
        check(entry_stack == ((stack_for_user_entries(0) + (unsigned long)shifts[i]) & ~15UL), "frame at %lx",
              entry_stack);
    }
    map_page(LOW_STACK, make_pte(virt_to_mfn(page_alloc()), PTE_RW));
    check_equal(stack_switch(FLAT_KERNEL_SS, LOW_STACK + PAGE_SIZE), 0);
    r = RUN(user_plain);
    came("a stack in the lower half", &r, 2);
    check(entry_stack == LOW_STACK + PAGE_SIZE, "frame at %lx", entry_stack);
    stack_switch(FLAT_KERNEL_SS, stack_for_user_entries(0));
}

/* ---- What a child dies of ---- */

static struct child c;

static long enter_on(long *a)
{
    unsigned long sp = (unsigned long)a[0];

    if (sp == 0) { /* a page of its own, read-only */
        uint8_t *page = page_alloc();

        page_make_readonly(page);
        sp = (unsigned long)page + PAGE_SIZE;
    }
    user_setup();
    set_trap(14, 4, kit_stubs + 14 * 16);
    callback_set(CALLBACKTYPE_syscall, CALLBACKF_mask_events, kit_syscall_entry);
    stack_switch(FLAT_KERNEL_SS, sp);
    if (a[1])
        RUN(user_read);
    else
        RUN(user_plain);
    return 0;
}

/* From a frame at a[0], a part of which is in a page that is there. */
static long iret_from(long *a)
{
    map_page(IRET_VA, make_pte(virt_to_mfn(page_alloc()), PTE_RW));
    user_setup();
    kit_iret((struct iret_context *)a[0]);
    return 0;
}

/* A page fault of user mode whose handler has a code segment that cannot be loaded. */
static long fault_to_segment(long *a)
{
    const struct trap_info table[] = {{14, 4, (uint16_t)a[0], (unsigned long)kit_stubs + 14 * 16}, {0}};

    user_setup();
    set_trap_table(table);
    hypercall(__HYPERVISOR_set_callbacks, U(kit_event_entry), 0, U(kit_syscall_entry), 0, 0); /* no failsafe callback */
    RUN(user_read);
    return 0;
}

static void dies(const char *what, child_function_t *f, long argument, bool fault, const char *text)
{
    uint64_t limit = time_now() + 3000000000UL;
    long flags;

    log_mark();
    child_start(&c);
    child_begin(&c, f, (const long[CHILD_ARGS]){argument, fault});
    do
        flags = domain_flags(c.domid);
    while (flags >= 0 && !(flags & XEN_DOMINF_shutdown) && time_now() < limit);
    check(flags >= 0 && (flags & XEN_DOMINF_shutdown) &&
              (flags >> XEN_DOMINF_shutdownshift & XEN_DOMINF_shutdownmask) == SHUTDOWN_crash,
          "%s: the child is crashed (flags %lx)", what, flags);
    check(log_has(text), "%s: the log says: %s", what, text);
    child_end(&c);
}

static void deaths(void)
{
    static const struct {
        const char *name;
        unsigned long sp;
    } bad[] = {
        {"entry on a stack that is not mapped, lower half", VA_UNMAPPED},
        {"entry on a stack that is not mapped", 0xffffc00000001000UL},
        {"entry on a stack that is no address", VA_NONCANONICAL},
        {"entry on a stack that is just no address", 0x800000000038UL},
        {"entry on a stack in the hypervisor", VA_HOLE},
        {"entry on the m2p", HYPERVISOR_VIRT_START + PAGE_SIZE},
        {"entry on the last bytes of the hypervisor's", 0xffff880000000030UL},
        {"entry on a read-only stack", 0},
    };

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        for (unsigned fault = 0; fault < 2; fault++)
            dies(bad[i].name, enter_on, (long)bad[i].sp, fault, "cannot be written");
    dies("fault to a segment behind the table", fault_to_segment, 0x1000, false,
         "a selector of its context is bad (cs 0x1003");
    dies("fault to a segment of the hypervisor's", fault_to_segment, 0xe008, false,
         "a selector of its context is bad (cs 0xe00b");
    for (unsigned bytes = 8; bytes < 72; bytes += 16) {
        char ends[] = "its stack at 0xffffff0000100f_8 not readable",
             begins[] = "its stack at 0xffffff00000fff_8 not readable";

        ends[29] = begins[29] = "0123456789abcdef"[(PAGE_SIZE - bytes) >> 4 & 15];
        dies("iret from a frame that ends in the next page", iret_from, (long)(IRET_VA + PAGE_SIZE - bytes), false,
             ends);
        dies("iret from a frame that begins in the page before", iret_from, (long)(IRET_VA - bytes), false, begins);
    }
    audit("after all of them");
}

GUEST("syscalls")
{
    vcpu_op(VCPUOP_stop_periodic_timer, 0, NULL);
    events_enable();
    user_setup();
    flags_and_registers();
    masked_and_pending();
    page_faults();
    handlers();
    breakpoint();
    stacks();
    deaths();
}
