/* run: beside=yes */
/*
 * The iret hypercall with frames that no kernel should make: selectors of the hypervisor, data as code, addresses
 * that are none, flags that only ring 0 may set. What comes of each is a fault or the failsafe callback, or
 * harmless unprivileged running.
 */
#include "kit.h"

/* Where the frames lead: reports the real code segment, tries what only ring 0 can do, and ends. */
asm(".text\n.globl iret_target\niret_target:\n movw %cs, %ax\n movzwl %ax, %eax\n pushfq\n popq %rbx\n ud2\n");
extern const char iret_target[];
USER_TEXT(user_target, "movw %cs, %ax; movzwl %ax, %eax; pushfq; popq %rbx; movl $1, %r12d; ud2");
USER_TEXT(user_nop, "nop; nop; ud2");

static uint8_t stack[PAGE_SIZE] __attribute__((aligned(4096)));

#define LOW_STACK 0x20000000UL

static void go(void *frame)
{
    static struct iret_context copy;

    copy = *(struct iret_context *)frame;
    kit_iret(&copy);
}

static const struct attack {
    const char *name;
    uint64_t cs, ss, rip, rflags; /* rip 0: the target; rflags 0: 0x202 */
    uint64_t flags;
    bool user;
    bool must_fault;
} attacks[] = {
    {"plain", FLAT_KERNEL_CS & ~3, FLAT_KERNEL_SS, 0, 0, 0, false, false},
    {"cs 0", 0, FLAT_KERNEL_SS, 0, 0, 0, false, true},
    {"cs null, RPL 3", 3, FLAT_KERNEL_SS, 0, 0, 0, true, true},
    {"hypervisor's code segment", 0xe008, FLAT_KERNEL_SS, 0, 0, 0, false, true},
    {"hypervisor's code segment, RPL 3", 0xe00b, FLAT_KERNEL_SS, 0, 0, 0, true, true},
    {"hypervisor's data segment as stack", FLAT_KERNEL_CS & ~3, 0xe010, 0, 0, 0, false, false},
    {"hypervisor's data segment, RPL 3", FLAT_KERNEL_CS & ~3, 0xe013, 0, 0, 0, false, false},
    {"slot 3 of the reserved part", 0xe018, FLAT_KERNEL_SS, 0, 0, 0, false, true},
    {"data segment as code", FLAT_KERNEL_SS & ~3, FLAT_KERNEL_SS, 0, 0, 0, false, true},
    {"code segment as stack", FLAT_KERNEL_CS & ~3, FLAT_KERNEL_CS, 0, 0, 0, false, true},
    {"beyond the table", 0xfff8, FLAT_KERNEL_SS, 0, 0, 0, false, true},
    {"beyond the table, RPL 3", 0xfffb, FLAT_KERNEL_SS, 0, 0, 0, true, true},
    {"LDT, which there is none", 0xc, FLAT_KERNEL_SS, 0, 0, 0, false, true},
    {"task state segment", 0xe040, FLAT_KERNEL_SS, 0, 0, 0, false, true},
    {"upper bits in cs", 0xdeadbeef0000e030UL, FLAT_KERNEL_SS, 0, 0, 0, false, false},
    {"32-bit code segment", FLAT_RING3_CS32 & ~3, FLAT_KERNEL_SS, 0, 0, 0, false, true},
    {"stack segment 0", FLAT_KERNEL_CS & ~3, 0, 0, 0, 0, false, false},
    {"stack segment beyond the table", FLAT_KERNEL_CS & ~3, 0xfffb, 0, 0, 0, false, true},
    {"rip not canonical", FLAT_KERNEL_CS & ~3, FLAT_KERNEL_SS, VA_NONCANONICAL, 0, 0, false, true},
    {"rip just not canonical", FLAT_KERNEL_CS & ~3, FLAT_KERNEL_SS, 0x800000000000UL, 0, 0, false, true},
    {"rip in the m2p", FLAT_KERNEL_CS & ~3, FLAT_KERNEL_SS, HYPERVISOR_VIRT_START, 0, 0, false, true},
    {"rip in the hypervisor", FLAT_KERNEL_CS & ~3, FLAT_KERNEL_SS, 0xffff828000200000UL, 0, 0, false, true},
    {"rip in the direct map", FLAT_KERNEL_CS & ~3, FLAT_KERNEL_SS, 0xffff830000100000UL, 0, 0, false, true},
    {"rip unmapped", FLAT_KERNEL_CS & ~3, FLAT_KERNEL_SS, VA_UNMAPPED, 0, 0, false, true},
    {"syscall return, plain", FLAT_KERNEL_CS & ~3, FLAT_KERNEL_SS, 0, 0, VGCF_in_syscall, false, false},
    {"syscall return, rip not canonical", FLAT_KERNEL_CS & ~3, FLAT_KERNEL_SS, VA_NONCANONICAL, 0, VGCF_in_syscall,
     false, true},
    {"syscall return, rip just not canonical", FLAT_KERNEL_CS & ~3, FLAT_KERNEL_SS, 0x800000000000UL, 0,
     VGCF_in_syscall, false, true},
    {"syscall return, rip in the hypervisor", FLAT_KERNEL_CS & ~3, FLAT_KERNEL_SS, 0xffff828000200000UL, 0,
     VGCF_in_syscall, false, true},
    {"flags all ones", FLAT_KERNEL_CS & ~3, FLAT_KERNEL_SS, 0, 0x202, ~0UL, false, false},
    {"user, plain", FLAT_USER_CS, FLAT_USER_SS, 0, 0, 0, true, false},
    {"user, 32-bit code segment at a high address", FLAT_USER_CS32, FLAT_USER_SS, 0, 0, 0, true, true},
    {"user, rip not canonical", FLAT_USER_CS, FLAT_USER_SS, VA_NONCANONICAL, 0, 0, true, true},
    {"user, rip just not canonical", FLAT_USER_CS, FLAT_USER_SS, 0x800000000000UL, 0, 0, true, true},
    {"user, rip in the hypervisor", FLAT_USER_CS, FLAT_USER_SS, 0xffff828000200000UL, 0, 0, true, true},
    {"user, rip in the kernel", FLAT_USER_CS, FLAT_USER_SS, (uint64_t)-0x7ff00000L, 0, 0, true, true},
    {"user, stack segment of the hypervisor", FLAT_USER_CS, 0xe010, 0, 0, 0, true, false},
    {"user, stack segment 0", FLAT_USER_CS, 0, 0, 0, 0, true, false},
    {"user, code as stack", FLAT_USER_CS, FLAT_USER_CS, 0, 0, 0, true, true},
    {"user, syscall return", FLAT_USER_CS, FLAT_USER_SS, 0, 0, VGCF_in_syscall, true, false},
    {"user, syscall return, rip not canonical", FLAT_USER_CS, FLAT_USER_SS, VA_NONCANONICAL, 0, VGCF_in_syscall, true,
     true},
    {"user, syscall return, rip just not canonical", FLAT_USER_CS, FLAT_USER_SS, 0x800000000000UL, 0, VGCF_in_syscall,
     true, true},
    {"user, syscall return, rip in the hypervisor", FLAT_USER_CS, FLAT_USER_SS, 0xffff828000200000UL, 0,
     VGCF_in_syscall, true, true},
    {"user, syscall return, hypervisor's cs", 0xe00b, 0xe010, 0, 0, VGCF_in_syscall, true, false},
    {"user, I/O privilege 3", FLAT_USER_CS, FLAT_USER_SS, 0, 0x3202, 0, true, false},
    {"user, I/O privilege 3 by syscall return", FLAT_USER_CS, FLAT_USER_SS, 0, 0x3202, VGCF_in_syscall, true, false},
    {"user, interrupts off", FLAT_USER_CS, FLAT_USER_SS, 0, 0x002, 0, true, false},
    {"user, interrupts off by syscall return", FLAT_USER_CS, FLAT_USER_SS, 0, 0x002, VGCF_in_syscall, true, false},
    {"user, VM", FLAT_USER_CS, FLAT_USER_SS, 0, 0x20202, 0, true, false},
    {"user, VM by syscall return", FLAT_USER_CS, FLAT_USER_SS, 0, 0x20202, VGCF_in_syscall, true, false},
    {"user, virtual interrupt flags", FLAT_USER_CS, FLAT_USER_SS, 0, 0x180202, 0, true, false},
    {"user, reserved bits", FLAT_USER_CS, FLAT_USER_SS, 0, 0xffffffffff000202UL, 0, true, false},
    {"user, nested task", FLAT_USER_CS, FLAT_USER_SS, 0, 0x4202, 0, true, false},
    {"kernel, nested task", FLAT_KERNEL_CS & ~3, FLAT_KERNEL_SS, 0, 0x4202, 0, false, false},
    {"kernel, I/O privilege 3", FLAT_KERNEL_CS & ~3, FLAT_KERNEL_SS, 0, 0x3202, 0, false, false},
    {"kernel, VM", FLAT_KERNEL_CS & ~3, FLAT_KERNEL_SS, 0, 0x20202, 0, false, false},
    {"kernel, interrupts off", FLAT_KERNEL_CS & ~3, FLAT_KERNEL_SS, 0, 0x002, 0, false, false},
};

static void attack(const struct attack *a)
{
    struct iret_context frame = {
        .cs = a->cs, .ss = a->ss, .rip = a->rip, .rflags = a->rflags, .flags = a->flags, .rax = 1, .rcx = 2, .r11 = 3};
    struct regs r;
    bool ran;

    frame.rsp = a->user ? USER_DATA + PAGE_SIZE : (uint64_t)stack + PAGE_SIZE;
    if (a->cs == (FLAT_RING3_CS32 & ~3))
        frame.rsp = LOW_STACK + PAGE_SIZE; /* 32-bit code cuts the stack pointer, and there the fault is delivered */
    if (frame.rip == 0)
        frame.rip = a->user ? USER_CODE : (uint64_t)iret_target;
    if (frame.rflags == 0)
        frame.rflags = 0x202;
    memcpy(user_code_page, user_target, (size_t)(user_target_end - user_target));
    r = trap_of(go, &frame);
    ran = r.vector == 6;
    check(r.vector == 6 || (r.vector >= 10 && r.vector <= 14) || r.vector == VECTOR_FAILSAFE,
          "%s: vector %lu error %lx rip %lx", a->name, r.vector, r.error, r.rip);
    check_quiet(!ran || !a->must_fault, "%s: it ran", a->name);
    if (ran) {
        check_quiet((r.rax & 3) == 3, "%s: ran with cs %lx", a->name, r.rax);
        check_quiet((r.rbx & (RFLAGS_IOPL | RFLAGS_VM | RFLAGS_IF)) == RFLAGS_IF, "%s: ran with flags %lx", a->name,
                    r.rbx);
        check_quiet(((r.cs & 3) == 3) == a->user, "%s: its mode, cs %x", a->name, r.cs);
    }
    check_quiet(xen_version(XENVER_pagesize, NULL) == 4096, "%s: hypercalls go on", a->name);
    events_enable();
}

/* With the trap flag: one instruction, then #DB. */
static void single_step(void)
{
    static const uint64_t flags[] = {0, VGCF_in_syscall};

    for (unsigned i = 0; i < 2; i++) {
        struct iret_context frame = {.cs = FLAT_USER_CS,
                                     .ss = FLAT_USER_SS,
                                     .rip = USER_CODE,
                                     .rflags = 0x302,
                                     .rsp = USER_DATA + PAGE_SIZE,
                                     .flags = flags[i]};
        struct regs r;

        memcpy(user_code_page, user_nop, (size_t)(user_nop_end - user_nop));
        r = trap_of(go, &frame);
        check(r.vector == 1 && r.rip > USER_CODE - 1 && r.rip <= USER_CODE + 1,
              "trap flag, iret flags %lx: vector %lu rip %lx", flags[i], r.vector, r.rip);
    }
}

/* Bad stack pointers for user mode are the user's own affair. */
static void user_stacks(void)
{
    static const uint64_t stacks[] = {0, VA_NONCANONICAL, VA_HOLE, ~0UL, VIRT_BASE};

    for (unsigned i = 0; i < sizeof(stacks) / sizeof(stacks[0]); i++) {
        struct iret_context frame = {
            .cs = FLAT_USER_CS, .ss = FLAT_USER_SS, .rip = USER_CODE, .rflags = 0x202, .rsp = stacks[i]};
        struct regs r;

        memcpy(user_code_page, user_nop, (size_t)(user_nop_end - user_nop));
        r = trap_of(go, &frame);
        check(r.vector == 6 && r.rsp == stacks[i], "user rsp %lx: vector %lu", stacks[i], r.vector);
    }
}

/* The same by the iretq instruction, in the kernel. */
static void iretq(void *p)
{
    const struct iret_context *f = p;

    asm volatile("pushq %0; pushq %1; pushq %2; pushq %3; pushq %4; iretq"
                 :
                 : "m"(f->ss), "m"(f->rsp), "m"(f->rflags), "m"(f->cs), "m"(f->rip)
                 : "memory");
}

static void native(void)
{
    static const struct {
        const char *name;
        uint64_t cs, ss, rip, rflags;
    } frames[] = {
        {"cs with RPL 0", FLAT_KERNEL_CS & ~3, FLAT_KERNEL_SS, 0, 0x202},
        {"hypervisor's cs", 0xe008, 0xe010, 0, 0x202},
        {"hypervisor's cs, RPL 3", 0xe00b, FLAT_KERNEL_SS, 0, 0x202},
        {"data as cs", FLAT_KERNEL_SS, FLAT_KERNEL_SS, 0, 0x202},
        {"ss beyond the table", FLAT_KERNEL_CS, 0xfffb, 0, 0x202},
        {"rip not canonical", FLAT_KERNEL_CS, FLAT_KERNEL_SS, VA_NONCANONICAL, 0x202},
    };

    for (unsigned i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
        struct iret_context f = {
            .cs = frames[i].cs, .ss = frames[i].ss, .rflags = frames[i].rflags, .rsp = (uint64_t)stack + PAGE_SIZE};
        struct regs r;

        f.rip = frames[i].rip != 0 ? frames[i].rip : (uint64_t)iret_target;
        r = trap_of(iretq, &f);
        check(r.vector >= 10 && r.vector <= 14, "iretq, %s: vector %lu error %lx", frames[i].name, r.vector, r.error);
    }
}

GUEST("iret_hostile")
{
    vcpu_op(VCPUOP_stop_periodic_timer, 0, NULL);
    events_enable();
    user_setup();
    map_page(LOW_STACK, make_pte(virt_to_mfn(page_alloc()), PTE_RW));
    for (unsigned i = 0; i < sizeof(attacks) / sizeof(attacks[0]); i++)
        attack(&attacks[i]);
    single_step();
    user_stacks();
    native();
}
