/* run: intel=yes beside=yes */
/*
 * Every exception that software can raise, from kernel mode and from user mode: vector, error code, the saved rip,
 * cs, rflags and upcall mask, CR2 and DR6; software interrupts; the system call entry; the iret hypercall; NMI;
 * handler tables.
 */
#include "kit.h"

static uint8_t data[PAGE_SIZE] __attribute__((aligned(4096)));
static uint8_t read_only[PAGE_SIZE] __attribute__((aligned(4096)));
static volatile uint64_t watched;

/* SITE(name, before, instruction, after): a function whose one interesting instruction lies at name_at .. name_next. */
#define SITE(name, before, instruction, after)                                                                         \
    void name(void *p);                                                                                                \
    extern const char name##_at[], name##_next[];                                                                      \
    asm(".text\n.globl " #name "\n" #name ":\n" before "\n" #name "_at:\n" instruction "\n" #name "_next:\n" after     \
        "\nret\n")

SITE(site_de, "xorl %ecx, %ecx; xorl %edx, %edx; movl $1, %eax", "divl %ecx", "");
SITE(site_bp, "", "int3", "");
SITE(site_int3, "", ".byte 0xcd, 0x03", "");
SITE(site_of, "", "int $4", "");
SITE(site_ud, "", "ud2", "");
SITE(site_nm, "", "fnop", "");
SITE(site_gp, "movabsq $0x8000000000000000, %rax", "movq (%rax), %rax", "");
SITE(site_ss, "pushq %rbp; movabsq $0x8000000000000000, %rbp", "movq (%rbp), %rax", "popq %rbp");
SITE(site_xm,
     "subq $16, %rsp; movl $0x1d80, (%rsp); ldmxcsr (%rsp); addq $16, %rsp; xorps %xmm0, %xmm0; movl $1, %eax; "
     "cvtsi2ss %eax, %xmm1",
     "divss %xmm0, %xmm1", "");
SITE(site_ac, "pushfq; orl $0x40000, (%rsp); popfq", "movl 1(%rdi), %eax", "pushfq; andl $~0x40000, (%rsp); popfq");
SITE(site_pf_read, "", "movb (%rdi), %al", "");
SITE(site_pf_write, "", "movb $1, (%rdi)", "");
SITE(site_pf_jump, "", "jmp *%rdi", "");
SITE(site_int80, "", "int $0x80", "");
SITE(site_int41, "", "int $0x41", "");
SITE(site_tf, "pushfq; orl $0x100, (%rsp); popfq", "nop", "pushfq; andl $~0x100, (%rsp); popfq");
SITE(site_mf, "fninit; pushq $0x37b; fldcw (%rsp); popq %rax; fld1; fldz; fdivrp", "fwait", "");
SITE(site_watch, "", "movq $5, (%rdi)", "nop");

static bool upcall_masked(void) { return vcpu_info_of(0)->evtchn_upcall_mask != 0; }

static void expect(const char *what, void (*f)(void *), void *argument, const char *rip, unsigned vector, long error)
{
    bool masked = upcall_masked();
    struct regs r = trap_of(f, argument);

    check(r.vector == vector && r.error == (uint64_t)error, "%s: vector %lu error %lx", what, r.vector, r.error);
    check(r.rip == (uint64_t)rip, "%s: rip %lx, site %lx", what, r.rip, (uint64_t)rip);
    check((r.cs & 3) == 0 && (r.cs & 0xfffc) == (FLAT_KERNEL_CS & ~3), "%s: cs %x", what, r.cs);
    check((r.saved_mask & 0xff) == masked && !(r.rflags & RFLAGS_IF) == masked, "%s: saved mask %x, rflags %lx", what,
          r.saved_mask, r.rflags);
    check(upcall_masked() == masked, "%s: iret restores the mask", what);
}

static uint64_t read_cr2(void)
{
    uint64_t cr2;

    asm volatile("movq %%cr2, %0" : "=r"(cr2));
    return cr2;
}

static void expect_page_fault(const char *what, void (*f)(void *), unsigned long address, const char *rip, long error)
{
    vcpu_info_of(0)->arch.cr2 = 0;
    expect(what, f, (void *)address, rip, 14, error);
    check(vcpu_info_of(0)->arch.cr2 == address, "%s: cr2 %lx", what, vcpu_info_of(0)->arch.cr2);
    check(read_cr2() == address, "%s: mov from cr2", what);
}

/* Through the stack segment: #SS by the manuals, #GP in some emulators. */
static void stack_exception(void)
{
    struct regs r = trap_of(site_ss, NULL);

    check((r.vector == 12 || r.vector == 13) && r.error == 0 && r.rip == (uint64_t)site_ss_at,
          "#SS: vector %lu error %lx", r.vector, r.error);
}

/* Exceptions that QEMU's processors do not raise; others do. */
static void unlikely_exceptions(void)
{
    uint32_t mxcsr = 0x1f80;
    struct regs r = trap_of(site_xm, NULL);

    if (r.vector == NO_TRAP)
        printf("   no #XM here\n");
    else
        check(r.vector == 19 && r.rip == (uint64_t)site_xm_at, "#XM: vector %lu rip %lx", r.vector, r.rip);
    asm volatile("ldmxcsr %0" : : "m"(mxcsr));
    r = trap_of(site_ac, data);
    if (r.vector == NO_TRAP)
        printf("   no #AC here\n");
    else
        check(r.vector == 17 && r.error == 0 && r.rip == (uint64_t)site_ac_at, "#AC: vector %lu rip %lx", r.vector,
              r.rip);
}

static void kernel_exceptions(void)
{
    expect("#DE", site_de, NULL, site_de_at, 0, 0);
    expect("#BP", site_bp, NULL, site_bp_next, 3, 0);
    expect("int $3", site_int3, NULL, site_int3_next, 3, 0);
    expect("#OF by int $4", site_of, NULL, site_of_next, 4, 0);
    expect("#UD", site_ud, NULL, site_ud_at, 6, 0);
    check_equal(fpu_taskswitch(1), 0);
    expect("#NM", site_nm, NULL, site_nm_at, 7, 0);
    check(!trapped(site_nm, NULL, NULL), "#NM clears TS");
    expect("#GP", site_gp, NULL, site_gp_at, 13, 0);
    expect_page_fault("#PF read", site_pf_read, VA_UNMAPPED + 0x123, site_pf_read_at, 0);
    expect_page_fault("#PF write", site_pf_write, VA_UNMAPPED + 0x456, site_pf_write_at, 2);
    expect_page_fault("#PF write, read-only", site_pf_write, (unsigned long)read_only + 7, site_pf_write_at, 3);
    expect_page_fault("#PF jump", site_pf_jump, VA_UNMAPPED, (const char *)VA_UNMAPPED, 0x10);
    page_set_flags(data, PTE_RW | PTE_NX);
    expect_page_fault("#PF jump, NX", site_pf_jump, (unsigned long)data, (const char *)data, 0x11);
    expect("int $0x80", site_int80, NULL, site_int80_next, 0x80, 0);
    expect("#MF", site_mf, NULL, site_mf_at, 16, 0);
    asm volatile("fninit");
    stack_exception();
    unlikely_exceptions();
}

/* The hypervisor's part of the address space: to the guest nothing but the machine-to-physical table is there. */
static void hypervisor_addresses(void)
{
    static const unsigned long addresses[] = {0xffff808000000000UL, 0xffff810000000000UL, 0xffff820000001000UL,
                                              0xffff82d040200000UL, 0xffff828000200000UL, 0xffff830000001000UL,
                                              0xffff87fffffff000UL};

    for (unsigned i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
        struct regs r;

        r = trap_of(site_pf_read, (void *)addresses[i]);
        check(r.vector == 14 && (r.error & ~1UL) == 0, "read of %lx: vector %lu error %lx", addresses[i], r.vector,
              r.error);
        r = trap_of(site_pf_write, (void *)addresses[i]);
        check(r.vector == 14 && (r.error & ~1UL) == 2, "write to %lx: vector %lu error %lx", addresses[i], r.vector,
              r.error);
        r = trap_of(site_pf_jump, (void *)addresses[i]);
        check(r.vector == 14 && r.rip == addresses[i], "jump to %lx: vector %lu error %lx", addresses[i], r.vector,
              r.error);
    }
    expect_page_fault("write to the m2p", site_pf_write, HYPERVISOR_VIRT_START, site_pf_write_at, 3);
}

/*
 * int n beyond 0x80. QEMU before 8 pushes n*16+2 in place of n*8+2 when the gate's DPL forbids it, so that the
 * hypervisor sees vector 2n: both are given a handler, and either will do.
 */
static void software_interrupts(void)
{
    struct regs r;

    r = trap_of(site_int41, NULL);
    check(r.vector == 13 && (r.error & 7) == 2, "int $0x41 without a handler: #GP, error %lx", r.error);
    check(r.rip == (uint64_t)site_int41_at, "... at the instruction");
    set_trap(0x41, 3, kit_stubs + 0x41 * 16);
    set_trap(0x82, 3, kit_stubs + 0x82 * 16);
    r = trap_of(site_int41, NULL);
    check((r.vector == 0x41 || r.vector == 0x82), "int $0x41 with a handler: vector %lx", r.vector);
    check(r.rip == (uint64_t)site_int41_next && r.error == 0, "... goes on after the instruction");
    set_trap(0x41, 0, kit_stubs + 0x41 * 16);
    set_trap(0x82, 0, kit_stubs + 0x82 * 16);
    r = trap_of(site_int41, NULL);
    check(r.vector == 13, "int $0x41, DPL 0, from the kernel: #GP");
}

static void masks(void)
{
    printf("-- with events masked\n");
    events_disable();
    expect("#UD, masked", site_ud, NULL, site_ud_at, 6, 0);
    expect("#GP, masked", site_gp, NULL, site_gp_at, 13, 0);
    expect("#PF read, masked", site_pf_read, (void *)VA_UNMAPPED, site_pf_read_at, 14, 0);
    events_enable();
}

static bool entered_masked;

static bool note_mask(struct regs *r)
{
    entered_masked = upcall_masked();
    r->rip += 2; /* over the ud2 */
    return true;
}

static void trap_flags(void)
{
    trap_hooks[6] = note_mask;
    entered_masked = true;
    site_ud(NULL);
    check(!entered_masked, "a handler without the IF flag runs with events open");
    set_trap(6, 4, kit_stubs + 6 * 16);
    site_ud(NULL);
    check(entered_masked, "a handler with the IF flag runs with events masked");
    check(!upcall_masked(), "iret opens events again");
    set_trap(6, 0, kit_stubs + 6 * 16);
    trap_hooks[6] = NULL;
}

static void debug_exceptions(void)
{
    struct regs r;

    set_debugreg(6, 0);
    r = trap_of(site_tf, NULL);
    check(r.vector == 1, "single step traps");
    check(r.rip == (uint64_t)site_tf_next, "single step: rip %lx", r.rip);
    check((r.rflags & RFLAGS_TF) != 0, "single step: TF is in the saved flags");
    check((get_debugreg(6) & 0x4000) != 0, "single step: DR6 %lx", get_debugreg(6));

    check_equal(set_debugreg(0, (unsigned long)&watched), 0);
    check_equal(set_debugreg(6, 0), 0);
    check_equal(set_debugreg(7, 0x000d0001), 0); /* L0, 8 bytes would be 2: here 4 bytes, on write */
    check(get_debugreg(0) == (unsigned long)&watched, "DR0 reads back");
    check((get_debugreg(7) & 0xffff0003) == 0x000d0001, "DR7 reads back: %lx", get_debugreg(7));
    r = trap_of(site_watch, (void *)&watched);
    check(r.vector == 1, "a watched write traps: vector %lu", r.vector);
    check(r.rip == (uint64_t)site_watch_next && watched == 5, "... after the write");
    check((get_debugreg(6) & 15) == 1, "DR6 tells which: %lx", get_debugreg(6));
    set_debugreg(7, 0);
    check(!trapped(site_watch, (void *)&watched, NULL), "no trap when DR7 is cleared");

    check_equal(set_debugreg(0, (unsigned long)site_ud_at), 0);
    set_debugreg(6, 0);
    check_equal(set_debugreg(7, 1), 0); /* on execution */
    r = trap_of(site_ud, NULL);
    check(r.vector == 1 && r.rip == (uint64_t)site_ud_at, "breakpoint on execution: vector %lu", r.vector);
    set_debugreg(7, 0);

    check_negative(set_debugreg(0, VA_HOLE));
    check_negative(set_debugreg(1, HYPERVISOR_VIRT_START));
    check_negative(set_debugreg(3, VA_NONCANONICAL));
    check_negative(set_debugreg(7, 1 << 13)); /* general detect */
    check_negative(set_debugreg(8, 0));
    check_negative(set_debugreg(-1, 0));
    check_negative((long)get_debugreg(8));
    check((get_debugreg(7) & 0xff) == 0, "a refused DR7 changes nothing");
    set_debugreg(0, 0);
}

/* All registers come through an exception and back, and a handler can change them. */
static struct regs register_frame;

static bool note_registers(struct regs *r)
{
    register_frame = *r;
    r->rax ^= 0xffff;
    r->r15 ^= 0xffff;
    return true;
}

static void registers(void)
{
    uint64_t out[16] = {0};
    bool same = true;

    trap_hooks[3] = note_registers;
    asm volatile("pushq %%rbp\n pushq %0\n"
                 "movq $0x101, %%rax\n movq $0x102, %%rbx\n movq $0x103, %%rcx\n movq $0x104, %%rdx\n"
                 "movq $0x105, %%rsi\n movq $0x106, %%rdi\n movq $0x107, %%rbp\n movq $0x108, %%r8\n"
                 "movq $0x109, %%r9\n movq $0x10a, %%r10\n movq $0x10b, %%r11\n movq $0x10c, %%r12\n"
                 "movq $0x10d, %%r13\n movq $0x10e, %%r14\n movq $0x10f, %%r15\n int3\n"
                 "xchgq %%rax, (%%rsp)\n"
                 "movq %%rbx, 8(%%rax)\n movq %%rcx, 16(%%rax)\n movq %%rdx, 24(%%rax)\n movq %%rsi, 32(%%rax)\n"
                 "movq %%rdi, 40(%%rax)\n movq %%rbp, 48(%%rax)\n movq %%r8, 56(%%rax)\n movq %%r9, 64(%%rax)\n"
                 "movq %%r10, 72(%%rax)\n movq %%r11, 80(%%rax)\n movq %%r12, 88(%%rax)\n movq %%r13, 96(%%rax)\n"
                 "movq %%r14, 104(%%rax)\n movq %%r15, 112(%%rax)\n popq %%rbx\n movq %%rbx, (%%rax)\n popq %%rbp\n"
                 :
                 : "r"(out)
                 : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
                   "memory");
    trap_hooks[3] = NULL;
    same = register_frame.rax == 0x101 && register_frame.rbx == 0x102 && register_frame.rcx == 0x103 &&
           register_frame.rdx == 0x104 && register_frame.rsi == 0x105 && register_frame.rdi == 0x106 &&
           register_frame.rbp == 0x107 && register_frame.r8 == 0x108 && register_frame.r9 == 0x109 &&
           register_frame.r10 == 0x10a && register_frame.r11 == 0x10b && register_frame.r12 == 0x10c &&
           register_frame.r13 == 0x10d && register_frame.r14 == 0x10e && register_frame.r15 == 0x10f;
    check(same, "a handler sees all registers");
    same = true;
    for (unsigned i = 0; i < 15; i++) {
        uint64_t want = 0x101 + i;

        if (i == 0 || i == 14)
            want ^= 0xffff;
        same &= check_quiet(out[i] == want, "register %u is %lx, wanted %lx", i, out[i], want);
    }
    check(same, "all registers come back, the changed ones changed");
}

/* Hypercalls keep all registers but rax, rcx, r11. */
static void hypercall_registers(void)
{
    uint64_t b = 2, c = 0, d = 4, s = 0, di = XENVER_version, r12 = 12, r15 = 15;
    register uint64_t r8 asm("r8") = 8;
    register uint64_t r9 asm("r9") = 9;
    register uint64_t r10 asm("r10") = 10;
    long result;

    asm volatile(
        "movq %[twelve], %%r12; movq %[fifteen], %%r15; call *%[entry]; movq %%r12, %[twelve]; movq %%r15, %[fifteen]"
        : "=a"(result), "+b"(b), "=c"(c), "+d"(d), "+S"(s), "+D"(di), "+r"(r8), "+r"(r9),
          "+r"(r10), [twelve] "+m"(r12), [fifteen] "+m"(r15)
        : [entry] "r"(hypercall_page + __HYPERVISOR_xen_version * 32)
        : "r11", "r12", "r15", "memory");
    check(result >> 16 == 4 && b == 2 && r9 == 9 && r12 == 12 && r15 == 15, "a hypercall keeps rbx, r9, r12, r15");
    (void)r10;
    (void)r8;
}

/* User mode */
USER_TEXT(user_ud, "ud2");
USER_TEXT(user_de, "xorl %ecx, %ecx; divl %ecx");
USER_TEXT(user_bp, "int3");
USER_TEXT(user_of, "int $4");
USER_TEXT(user_int80, "movl $0x1234, %eax; int $0x80");
USER_TEXT(user_int41, "int $0x41");
USER_TEXT(user_gp, "movabsq $0x8000000000000000, %rax; movq (%rax), %rax");
USER_TEXT(user_syscall, "movl $77, %eax; movl $5, %edi; syscall; ud2");
USER_TEXT(user_hypercall, "movl $17, %eax; xorl %edi, %edi; syscall; ud2");
USER_TEXT(user_read, "popq %rdi; movb (%rdi), %al; ud2");
USER_TEXT(user_write, "popq %rdi; movb %al, (%rdi); ud2");
USER_TEXT(user_jump, "popq %rdi; jmp *%rdi");
USER_TEXT(user_tf, "pushfq; orl $0x100, (%rsp); popfq; nop; ud2");
USER_TEXT(user_flags, "pushq $0x3202; popfq; pushfq; popq %rax; ud2");
USER_TEXT(user_loop, "1: jmp 1b");

static uint64_t entry_stack;

static bool note_stack(struct regs *r)
{
    entry_stack = (uint64_t)(r + 1);
    entered_masked = upcall_masked();
    return false;
}

static void expect_user(const char *what, const char *code, const char *end, unsigned offset, unsigned vector,
                        long error)
{
    struct regs r;

    trap_hooks[vector] = note_stack;
    entry_stack = 0;
    user_run(code, (size_t)(end - code), &r);
    trap_hooks[vector] = NULL;
    check(r.vector == vector && r.error == (uint64_t)error, "user %s: vector %lu error %lx", what, r.vector, r.error);
    check(r.rip == USER_CODE + offset, "user %s: rip %lx", what, r.rip);
    check((uint16_t)r.cs == FLAT_USER_CS && (uint16_t)r.ss == FLAT_USER_SS, "user %s: cs %x ss %lx", what, r.cs, r.ss);
    check((r.saved_mask & 0xff) == 0 && (r.rflags & RFLAGS_IF) != 0, "user %s: saved mask %x", what, r.saved_mask);
    check(entry_stack == stack_for_user_entries(0), "user %s: on the stack that stack_switch gave", what);
}

#define EXPECT_USER(what, name, offset, vector, error) expect_user(what, name, name##_end, offset, vector, error)

/* 'code' pops the address from the user's stack first. */
static void user_access(const char *what, const char *code, const char *end, unsigned long address, long error,
                        long error_mask)
{
    struct iret_context frame = {
        .rip = USER_CODE, .cs = FLAT_USER_CS, .rflags = 0x202, .rsp = USER_DATA + PAGE_SIZE - 8, .ss = FLAT_USER_SS};
    struct regs r;

    user_setup();
    memcpy(user_code_page, code, (size_t)(end - code));
    *(uint64_t *)(user_data_page + PAGE_SIZE - 8) = address;
    user_run_at(&frame, &r);
    check(r.vector == 14 && ((long)r.error & error_mask) == error && vcpu_info_of(0)->arch.cr2 == address,
          "user %s %lx: vector %lu error %lx cr2 %lx", what, address, r.vector, r.error, vcpu_info_of(0)->arch.cr2);
}

#define USER_ACCESS(what, name, address, error, mask) user_access(what, name, name##_end, address, error, mask)

static void user_mode(void)
{
    struct regs r;

    EXPECT_USER("#UD", user_ud, 0, 6, 0);
    EXPECT_USER("#DE", user_de, 2, 0, 0);
    EXPECT_USER("#BP", user_bp, 1, 3, 0);
    EXPECT_USER("#OF", user_of, 2, 4, 0);
    EXPECT_USER("#GP", user_gp, 10, 13, 0);
    EXPECT_USER("int $0x80", user_int80, 7, 0x80, 0);
    EXPECT_USER("syscall", user_syscall, 12, VECTOR_SYSCALL, 0);
    check(entered_masked, "the system call entry masks events, as registered");
    EXPECT_USER("hypercall is a system call", user_hypercall, 9, VECTOR_SYSCALL, 0);
    USER_RUN(user_syscall, &r);
    check(r.rax == 77 && r.rdi == 5 && r.rcx == r.rip && (r.r11 & 0x202) == 0x202,
          "system call: rax, rdi, rcx, r11 as they should be");
    USER_RUN(user_int41, &r);
    check(r.vector == 13 && r.rip == USER_CODE, "user int $0x41, DPL 0: #GP (vector %lu error %lx)", r.vector, r.error);
    USER_RUN(user_tf, &r);
    check(r.vector == 1 && r.rip == USER_CODE + 10, "user single step: vector %lu rip %lx", r.vector, r.rip);
    USER_RUN(user_flags, &r);
    check(r.vector == 6 && (r.rax & (RFLAGS_IOPL | RFLAGS_IF)) == RFLAGS_IF, "user popf does not change IOPL: %lx",
          r.rax);

    USER_ACCESS("reads", user_read, VA_UNMAPPED, 4, -1);
    USER_ACCESS("writes", user_write, VA_UNMAPPED, 6, -1);
    USER_ACCESS("writes read-only", user_write, USER_CODE, 7, -1);
    USER_ACCESS("jumps to", user_jump, VA_UNMAPPED, 0x14, -1);
    USER_ACCESS("jumps to NX", user_jump, USER_DATA, 0x15, -1);
    USER_ACCESS("reads the kernel", user_read, (unsigned long)data, 4, ~1);
    USER_ACCESS("writes the kernel", user_write, (unsigned long)data, 6, ~1);
    USER_ACCESS("reads the m2p", user_read, HYPERVISOR_VIRT_START, 4, ~1);
    USER_ACCESS("reads the hypervisor", user_read, 0xffff830000001000UL, 4, ~1);
    USER_ACCESS("writes the hypervisor", user_write, 0xffff830000001000UL, 6, ~1);
    USER_ACCESS("jumps into the hypervisor", user_jump, 0xffff830000001000UL, 4, 0xc);
}

/* A system call answered by iret with VGCF_in_syscall, and one answered without: user mode goes on. */
static unsigned calls;
static uint64_t answer_flags;

static bool answer(struct regs *r)
{
    if (++calls == 3)
        return false;
    r->rax += 1000;
    r->error = answer_flags;
    return true;
}

USER_TEXT(user_three_calls,
          "movl $1, %eax; movl $0x55, %ebx; syscall; movq %rax, %r12; syscall; movq %rax, %r13; syscall; ud2");

static void system_calls(void)
{
    static const uint64_t flags[] = {0, VGCF_in_syscall};

    for (unsigned i = 0; i < 2; i++) {
        struct regs r;

        calls = 0;
        answer_flags = flags[i];
        trap_hooks[VECTOR_SYSCALL] = answer;
        USER_RUN(user_three_calls, &r);
        trap_hooks[VECTOR_SYSCALL] = NULL;
        check(r.vector == VECTOR_SYSCALL && calls == 3 && r.r12 == 1001 && r.r13 == 2001 && r.rbx == 0x55,
              "three system calls, iret flags %lx: %u calls, %lu, %lu", flags[i], calls, r.r12, r.r13);
        check((r.rflags & RFLAGS_IF) != 0 && (r.saved_mask & 0xff) == 0, "events are open in user mode after it");
    }
}

/* 32-bit code in user mode: exceptions, int $0x80, and the system call entry of its own (AMD's syscall instruction). */
#define CODE32 0x40000000UL

static struct regs run32(const void *code, size_t size)
{
    static uint8_t *page;
    struct iret_context frame = {
        .rip = CODE32, .cs = FLAT_USER_CS32, .rflags = 0x202, .rsp = CODE32 + PAGE_SIZE, .ss = FLAT_USER_SS32};
    struct regs r;

    if (page == NULL) {
        page = page_alloc();
        map_page(CODE32, make_pte(virt_to_mfn(page), PTE_USER_RW));
        if (mmu_write(entry_of(user_root, CODE32, 4), *entry_of(kernel_root, CODE32, 4)) != 0)
            panic("user root");
    }
    memcpy(page, code, size);
    user_run_at(&frame, &r);
    return r;
}

#define RUN32(...) run32((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void user_mode_32(void)
{
    struct regs r = RUN32(0x0f, 0x0b);

    check(r.vector == 6 && r.rip == CODE32 && (uint16_t)r.cs == FLAT_USER_CS32,
          "32-bit user #UD: vector %lu rip %lx cs %x", r.vector, r.rip, r.cs);
    r = RUN32(0x40, 0x0f, 0x0b); /* inc %eax in 32 bits, a prefix in 64 */
    check(r.vector == 6 && r.rip == CODE32 + 1 && r.rax == 1, "it is 32-bit code: rip %lx rax %lx", r.rip, r.rax);
    r = RUN32(0xcd, 0x80);
    check(r.vector == 0x80 && r.rip == CODE32 + 2, "32-bit user int $0x80: vector %lu", r.vector);
    /* mov $FLAT_RING3_DS32, %eax; mov %eax, %ds; mov 0, %eax. With a null ds it would be a #GP. */
    r = RUN32(0xb8, 0x2b, 0xe0, 0x00, 0x00, 0x8e, 0xd8, 0xa1, 0x00, 0x00, 0x00, 0x00);
    check(r.vector == 14 && r.error == 4, "32-bit user #PF: vector %lu error %lx", r.vector, r.error);
    r = RUN32(0xf4);
    check(r.vector == 13, "32-bit user hlt: vector %lu", r.vector);
    check_equal(callback_set(CALLBACKTYPE_syscall32, CALLBACKF_mask_events, kit_syscall32_entry), 0);
    check_equal(callback_set(CALLBACKTYPE_sysenter, CALLBACKF_mask_events, kit_sysenter_entry), 0);
    r = RUN32(0x0f, 0x05);
    check(r.vector == VECTOR_SYSCALL32 || r.vector == 6, "32-bit user syscall: vector %lu (#UD on Intel's)", r.vector);
    if (r.vector == VECTOR_SYSCALL32)
        check(r.rip == CODE32 + 2 && ((uint16_t)r.cs & 3) == 3, "... rip %lx cs %x", r.rip, r.cs);
    r = RUN32(0x0f, 0x34);
    check(r.vector == VECTOR_SYSENTER || r.vector == 6 || r.vector == 13,
          "32-bit user sysenter: vector %lu (#UD on AMD's)", r.vector);
}

/* Flags of the user's that would change how Croft runs, if it kept them: direction, alignment check, nested task, single step */
USER_TEXT(user_sysenter, "std; sysenter; ud2");
USER_TEXT(user_sysenter_flags, "pushfq; orl $0x44500, (%rsp); popfq; sysenter; ud2");

static void sysenter_of_64_bit_code(void)
{
    bool intel = cpuid(0, 0).b == 0x756e6547;
    struct regs r;

    for (unsigned i = 0; i < 3; i++) {
        USER_RUN(user_sysenter, &r);
        check(r.vector == (intel ? VECTOR_SYSENTER : 6) && ((uint16_t)r.cs & 3) == 3,
              "64-bit user sysenter: vector %lu", r.vector);
        USER_RUN(user_sysenter_flags, &r);
        check(r.vector == (intel ? VECTOR_SYSENTER : 6) || r.vector == 1, "... with flags: vector %lu", r.vector);
        check(xen_version(XENVER_pagesize, NULL) == 4096, "... hypercalls go on");
    }
}

/* kernel -> kernel by iretq: the mask stays, for the guest's IF is the upcall mask. */
static void native_iret(void)
{
    uint64_t sp;

    for (unsigned masked = 0; masked < 2; masked++) {
        if (masked)
            events_disable();
        asm volatile("movq %%rsp, %%rax\n"
                     "pushq %1\n pushq %%rax\n pushfq\n pushq %2\n pushq $1f\n iretq\n"
                     "1: movq %%rsp, %0\n"
                     : "=r"(sp)
                     : "i"(FLAT_KERNEL_SS), "i"(FLAT_KERNEL_CS)
                     : "rax", "memory");
        check(sp != 0 && upcall_masked() == masked, "iretq within the kernel works, mask %u", masked);
    }
    events_enable();
}

static volatile unsigned nmis;

static bool count_nmi(struct regs *r)
{
    (void)r;
    nmis++;
    return true;
}

static void nmi(void)
{
    long rc;

    if (kit_is_child()) /* for domain 0 only */
        return;
    trap_hooks[2] = count_nmi;
    rc = vcpu_op(VCPUOP_send_nmi, 0, NULL);
    check_equal(rc, 0);
    check(nmis == 1, "an NMI arrives: %u", nmis);
    events_disable();
    check_equal(vcpu_op(VCPUOP_send_nmi, 0, NULL), 0);
    check(nmis == 2, "events masked or not: %u", nmis);
    events_enable();
    check_negative(vcpu_op(VCPUOP_send_nmi, 77, NULL));
    trap_hooks[2] = NULL;
}

static void tables(void)
{
    struct trap_info t[3] = {{.vector = 6, .cs = FLAT_KERNEL_CS, .address = VA_NONCANONICAL}};
    struct callback_register c = {.type = CALLBACKTYPE_event, .address = VA_NONCANONICAL};
    struct callback_unregister u = {.type = CALLBACKTYPE_event};

    check_equal(set_trap_table(t), -EINVAL);
    check_equal(set_trap_table((void *)VA_UNMAPPED), -EFAULT);
    check_equal(callback_op(CALLBACKOP_register, &c), -EINVAL);
    c.address = (unsigned long)kit_event_entry;
    c.type = 99;
    check_equal(callback_op(CALLBACKOP_register, &c), -ENOSYS);
    check_equal(callback_op(CALLBACKOP_unregister, &u), -EINVAL);
    u.type = CALLBACKTYPE_nmi;
    check_equal(callback_op(CALLBACKOP_unregister, &u), 0);
    check_equal(callback_op(99, &u), -ENOSYS);
    c.type = CALLBACKTYPE_nmi;
    c.address = (unsigned long)kit_nmi_entry;
    check_equal(callback_op(CALLBACKOP_register, &c), kit_is_child() ? -EINVAL : 0);
    expect("#UD, after refused tables", site_ud, NULL, site_ud_at, 6, 0);

    /* A handler's code selector has its RPL corrected. */
    t[0].cs = FLAT_KERNEL_CS & ~3;
    t[0].address = (unsigned long)kit_stubs + 6 * 16;
    check_equal(set_trap_table(t), 0);
    expect("#UD, selector with RPL 0", site_ud, NULL, site_ud_at, 6, 0);
}

GUEST("traps")
{
    page_make_readonly(read_only);
    events_enable();
    kernel_exceptions();
    hypervisor_addresses();
    software_interrupts();
    masks();
    trap_flags();
    debug_exceptions();
    registers();
    hypercall_registers();
    user_mode();
    user_mode_32();
    sysenter_of_64_bit_code();
    system_calls();
    native_iret();
    nmi();
    tables();
}
