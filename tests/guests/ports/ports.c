/* run: beside=yes */
/*
 * What a PV kernel does with hardware and cannot do itself: ports, MSRs, control and debug registers, CPUID. The
 * legal is emulated, the rest is #GP, and privileged instructions of user mode always are.
 */
#include "kit.h"

/* Each runs one instruction; 'value' in rax, 'port' in rdx, ecx. */
struct machine {
    uint64_t a, c, d;
};

static void in8(void *p)
{
    struct machine *m = p;

    asm volatile("inb %w1, %b0" : "+a"(m->a) : "d"(m->d));
}

static void in32(void *p)
{
    struct machine *m = p;
    uint32_t v;

    asm volatile("inl %w1, %0" : "=a"(v) : "d"(m->d));
    m->a = v;
}

static void out8(void *p)
{
    struct machine *m = p;

    asm volatile("outb %b0, %w1" : : "a"(m->a), "d"(m->d));
}

static void out32(void *p)
{
    struct machine *m = p;

    asm volatile("outl %0, %w1" : : "a"((uint32_t)m->a), "d"(m->d));
}

static void in_immediate(void *p)
{
    struct machine *m = p;

    asm volatile("inb $0x71, %b0" : "+a"(m->a));
}

static void rdmsr(void *p)
{
    struct machine *m = p;
    uint32_t low, high;

    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(m->c));
    m->a = (uint64_t)high << 32 | low;
}

static void wrmsr(void *p)
{
    struct machine *m = p;

    asm volatile("wrmsr" : : "a"((uint32_t)m->a), "d"((uint32_t)(m->a >> 32)), "c"(m->c));
}

static struct regs last;

static bool port_in(unsigned port, uint64_t *value)
{
    struct machine m = {.a = 0x100, .d = port};

    last = trap_of(in8, &m);
    *value = m.a & 0xff;
    return last.vector == NO_TRAP;
}

static bool port_out(unsigned port, uint64_t value)
{
    struct machine m = {.a = value, .d = port};

    last = trap_of(out8, &m);
    return last.vector == NO_TRAP;
}

static bool msr_read(uint32_t msr, uint64_t *value)
{
    struct machine m = {.c = msr};

    last = trap_of(rdmsr, &m);
    *value = m.a;
    return last.vector == NO_TRAP;
}

static bool msr_write(uint32_t msr, uint64_t value)
{
    struct machine m = {.a = value, .c = msr};

    last = trap_of(wrmsr, &m);
    return last.vector == NO_TRAP;
}

static long set_iopl(unsigned level)
{
    struct physdev_set_iopl s = {.iopl = level};

    return physdev_op(PHYSDEVOP_set_iopl, &s);
}

static uint8_t string_buffer[16];

static void rep_outs(void *p)
{
    uint64_t count = 16;

    asm volatile("rep outsb" : "+S"(p), "+c"(count) : "d"(0x80) : "memory");
    string_buffer[0] = count == 0;
}

static void rep_ins(void *p)
{
    uint64_t count = 8;

    asm volatile("rep insb" : "+D"(p), "+c"(count) : "d"(0x80) : "memory");
}

USER_TEXT(user_in, "movl $0x71, %edx; inb %dx, %al; ud2");
USER_TEXT(user_in80, "inb $0x80, %al; ud2");

static void ports(void)
{
    struct physdev_set_iobitmap bitmap = {.nr_ports = 0};
    static uint8_t bits[8192];
    struct machine m = {0};
    struct regs r;
    uint64_t v;

    printf("-- ports\n");
    check_equal(set_iopl(0), 0);
    check(!port_in(0x71, &v) && last.vector == 13 && last.error == 0, "in with I/O privilege 0: vector %lu error %lx",
          last.vector, last.error);
    check(!port_out(0x80, 0) && last.vector == 13, "out with I/O privilege 0: vector %lu", last.vector);
    check_equal(set_iopl(4), -EINVAL);
    check_equal(set_iopl(1), 0);
    check(port_out(0x80, 0), "out to 0x80");
    check(port_out(0x70, 0x0b) && port_in(0x71, &v) && (v == 0xff) == kit_is_child(), "the clock's register B: %lx", v);
    check(port_out(0x70, 0x0d), "clock index");
    check(!trapped(in_immediate, &m, NULL) && (m.a & 0x80) != 0, "register D by an immediate port: %lx", m.a);
    m.d = 0xcf8;
    m.a = 0x80000000;
    check(!trapped(out32, &m, NULL), "PCI configuration address");
    m.a = 0;
    check(!trapped(in32, &m, NULL) && m.a == (kit_is_child() ? 0xffffffff : 0x80000000), "reads back: %lx", m.a);
    m.d = 0xcfc;
    check(!trapped(in32, &m, NULL) && (m.a & 0xffff) == (kit_is_child() ? 0xffff : 0x8086), "the host bridge: %lx",
          m.a);
    check(port_in(0x61, &v), "port 0x61: %lx", v);

    /* The hypervisor's devices look absent, and stay as they are. */
    check(port_in(0x3fd, &v) && v == 0xff, "the hypervisor's serial port: %lx", v);
    check(port_out(0x3f9, 0), "a write to it is swallowed");
    check(port_in(0x21, &v) && v == 0xff, "interrupt controller 1: %lx", v);
    check(port_in(0xa1, &v) && v == 0xff, "interrupt controller 2: %lx", v);
    check(port_out(0x21, 0), "a write to it is swallowed");
    check(port_in(0x40, &v), "timer channel 0: %lx", v);

    check(!trapped(rep_outs, string_buffer, NULL) && string_buffer[0] == 1, "rep outsb");
    check(!trapped(rep_ins, string_buffer, NULL), "rep insb");
    r = trap_of(rep_outs, (void *)VA_UNMAPPED);
    check(r.vector == 14 && vcpu_info_of(0)->arch.cr2 == VA_UNMAPPED, "rep outsb from nowhere: vector %lu", r.vector);
    r = trap_of(rep_ins, (void *)VA_HOLE);
    check(r.vector == 14 || r.vector == 13, "rep insb into the hypervisor: vector %lu", r.vector);
    r = trap_of(rep_ins, (void *)start_info->pt_base);
    check(r.vector == 14, "rep insb into a page table: vector %lu", r.vector);

    printf("-- ports in user mode\n");
    USER_RUN(user_in, &r);
    check(r.vector == 13 && r.rip == USER_CODE + 5, "in at I/O privilege 1: vector %lu", r.vector);
    check_equal(set_iopl(3), 0);
    USER_RUN(user_in, &r);
    check(r.vector == 6, "in at I/O privilege 3: vector %lu", r.vector);
    check_equal(set_iopl(1), 0);
    memset(bits, 0xff, sizeof(bits));
    bits[0x71 / 8] &= (uint8_t) ~(1 << 0x71 % 8);
    set_xen_guest_handle(bitmap.bitmap, bits);
    bitmap.nr_ports = 65536;
    check_equal(physdev_op(PHYSDEVOP_set_iobitmap, &bitmap), 0);
    USER_RUN(user_in, &r);
    check(r.vector == 6, "in of a port that the bitmap opens: vector %lu", r.vector);
    USER_RUN(user_in80, &r);
    check(r.vector == 13, "in of a port that it does not: vector %lu", r.vector);
    bitmap.nr_ports = 65537;
    check_equal(physdev_op(PHYSDEVOP_set_iobitmap, &bitmap), -EINVAL);
    set_xen_guest_handle(bitmap.bitmap, (uint8_t *)VA_UNMAPPED);
    bitmap.nr_ports = 65536;
    if (physdev_op(PHYSDEVOP_set_iobitmap, &bitmap) == 0) {
        USER_RUN(user_in, &r);
        check(r.vector == 13 || r.vector == 14, "a bitmap that is not mapped opens nothing: vector %lu", r.vector);
    }
    set_xen_guest_handle(bitmap.bitmap, (uint8_t *)VA_HOLE);
    check_negative(physdev_op(PHYSDEVOP_set_iobitmap, &bitmap));
    set_xen_guest_handle(bitmap.bitmap, bits);
    bitmap.nr_ports = 0;
    check_equal(physdev_op(PHYSDEVOP_set_iobitmap, &bitmap), 0);
    USER_RUN(user_in, &r);
    check(r.vector == 13, "an empty bitmap opens nothing: vector %lu", r.vector);
}

#define MSR_TSC 0x10
#define MSR_APIC_BASE 0x1b
#define MSR_SYSENTER_EIP 0x176
#define MSR_MISC_ENABLE 0x1a0
#define MSR_DEBUGCTL 0x1d9
#define MSR_PAT 0x277
#define MSR_EFER 0xc0000080
#define MSR_STAR 0xc0000081
#define MSR_LSTAR 0xc0000082
#define MSR_CSTAR 0xc0000083
#define MSR_FMASK 0xc0000084
#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102

static void msrs(void)
{
    static const uint32_t dangerous[] = {MSR_STAR,   MSR_LSTAR,    MSR_CSTAR,  MSR_FMASK,     MSR_SYSENTER_EIP,
                                         0x174,      0x175,        MSR_PAT,    MSR_APIC_BASE, 0x200,
                                         0x2ff,      MSR_DEBUGCTL, 0x48,       0x49,          0x79,
                                         0xc0010117, 0xc0010114,   0xc0010015, 0x802,         0x830,
                                         0x6e0,      0x6a0,        0xda0};
    uint64_t v, before, memory = 0x5151;

    printf("-- MSRs\n");
    check(msr_read(MSR_EFER, &v) && (v & 0x500) == 0x500, "EFER: %lx", v);
    before = v;
    check(msr_read(MSR_APIC_BASE, &v), "APIC base: %lx", v);
    check(!msr_read(0x12345678, &v) && last.vector == 13 && last.error == 0, "an MSR that is none: vector %lu",
          last.vector);
    check(!msr_write(0x12345678, 0) && last.vector == 13, "writing it: vector %lu", last.vector);
    check(!msr_read(0xc0011fff, &v) && last.vector == 13, "another: vector %lu", last.vector);

    check(msr_write(MSR_FS_BASE, (uint64_t)&memory), "writing FS base");
    asm volatile("movq %%fs:0, %0" : "=r"(v));
    check(v == memory, "it is in force");
    check(msr_read(MSR_FS_BASE, &v) && v == (uint64_t)&memory, "and reads back");
    check(!msr_write(MSR_FS_BASE, VA_NONCANONICAL) && last.vector == 13, "a non-canonical base: vector %lu",
          last.vector);
    check(!msr_write(MSR_GS_BASE, VA_NONCANONICAL) && last.vector == 13, "a non-canonical GS base: vector %lu",
          last.vector);
    check(!msr_write(MSR_KERNEL_GS_BASE, VA_NONCANONICAL) && last.vector == 13, "... kernel GS base: vector %lu",
          last.vector);
    check(msr_write(MSR_GS_BASE, (uint64_t)&memory), "writing GS base");
    asm volatile("movq %%gs:0, %0" : "=r"(v));
    check(v == memory, "it is in force");
    check(msr_write(MSR_KERNEL_GS_BASE, 0x1234000) && msr_read(MSR_KERNEL_GS_BASE, &v) && v == 0x1234000,
          "kernel GS base: %lx", v);
    set_segment_base(SEGBASE_GS_USER, 0x5678000);
    check(msr_read(MSR_KERNEL_GS_BASE, &v) && v == 0x5678000, "is the user's base of set_segment_base: %lx", v);
    msr_write(MSR_FS_BASE, 0);

    /* Whatever a write to these answers, the hypervisor's own setting stays: system calls and paging go on. */
    msr_write(MSR_EFER, before & ~1UL);
    msr_write(MSR_EFER, before & ~0x800UL);
    msr_write(MSR_EFER, 0);
    check(msr_read(MSR_EFER, &v) && (v & 0x500) == 0x500, "EFER after writes: %lx", v);
    for (unsigned i = 0; i < sizeof(dangerous) / sizeof(dangerous[0]); i++) {
        bool zero = msr_write(dangerous[i], 0), ones = msr_write(dangerous[i], 0xffff800012345678UL);

        printf("   MSR %x: write of 0 %s, of an address %s\n", dangerous[i], zero ? "taken" : "#GP",
               ones ? "taken" : "#GP");
        check_quiet(xen_version(XENVER_pagesize, NULL) == 4096, "hypercalls work after MSR %x", dangerous[i]);
    }
    check(xen_version(XENVER_pagesize, NULL) == 4096, "the machine goes on");
}

static uint64_t moved;

static void read_cr0(void *p)
{
    (void)p;
    asm volatile("movq %%cr0, %0" : "=r"(moved));
}
static void read_cr3(void *p)
{
    (void)p;
    asm volatile("movq %%cr3, %0" : "=r"(moved));
}
static void read_cr4(void *p)
{
    (void)p;
    asm volatile("movq %%cr4, %0" : "=r"(moved));
}
static void read_cr8(void *p)
{
    (void)p;
    asm volatile("movq %%cr8, %0" : "=r"(moved));
}
static void write_cr0(void *p) { asm volatile("movq %0, %%cr0" : : "r"(p)); }
static void write_cr3(void *p) { asm volatile("movq %0, %%cr3" : : "r"(p) : "memory"); }
static void write_cr4(void *p) { asm volatile("movq %0, %%cr4" : : "r"(p)); }
static void write_cr8(void *p) { asm volatile("movq %0, %%cr8" : : "r"(p)); }
static void read_dr6(void *p)
{
    (void)p;
    asm volatile("movq %%dr6, %0" : "=r"(moved));
}
static void write_dr0(void *p) { asm volatile("movq %0, %%dr0" : : "r"(p)); }
static void write_dr7(void *p) { asm volatile("movq %0, %%dr7" : : "r"(p)); }
static void do_clts(void *p)
{
    (void)p;
    asm volatile("clts");
}
static void do_fnop(void *p)
{
    (void)p;
    asm volatile("fnop");
}
static void do_hlt(void *p)
{
    (void)p;
    asm volatile("hlt");
}
static void do_cli(void *p)
{
    (void)p;
    asm volatile("cli");
}
static void do_sti(void *p)
{
    (void)p;
    asm volatile("sti");
}
static void do_lgdt(void *p) { asm volatile("lgdt (%0)" : : "r"(p)); }
static void do_lidt(void *p) { asm volatile("lidt (%0)" : : "r"(p)); }
static void do_lldt(void *p)
{
    (void)p;
    asm volatile("lldt %w0" : : "r"(0));
}
static void do_ltr(void *p)
{
    (void)p;
    asm volatile("ltr %w0" : : "r"(0xe040));
}
static void do_lmsw(void *p)
{
    (void)p;
    asm volatile("lmsw %w0" : : "r"(0));
}
static void do_swapgs(void *p)
{
    (void)p;
    asm volatile("swapgs");
}
static void do_sysret(void *p) { asm volatile("sysretq" : : "c"(p)); }
static void do_sysexit(void *p) { asm volatile("sysexitl" : : "c"(p), "d"(p)); }
static void do_invd(void *p)
{
    (void)p;
    asm volatile("invd");
}
static void do_wbinvd(void *p)
{
    (void)p;
    asm volatile("wbinvd");
}
static void do_invlpg(void *p) { asm volatile("invlpg (%0)" : : "r"(p)); }
static void do_rdpmc(void *p)
{
    (void)p;
    asm volatile("rdpmc" : : "c"(0) : "rax", "rdx");
}
static void do_vmrun(void *p) { asm volatile("vmrun" : : "a"(p)); }
static void do_vmcall(void *p)
{
    (void)p;
    asm volatile("vmcall");
}
static void do_clgi(void *p)
{
    (void)p;
    asm volatile("clgi");
}
static void do_monitor(void *p) { asm volatile("monitor" : : "a"(p), "c"(0), "d"(0)); }
static void do_mwait(void *p)
{
    (void)p;
    asm volatile("mwait" : : "a"(0), "c"(0));
}

/* One outcome for each instruction: emulated, #GP or #UD. All are harmless. */
static const struct {
    const char *name;
    void (*f)(void *);
    bool may_pass;
} instructions[] = {
    {"hlt", do_hlt, true},           {"lgdt", do_lgdt, false},         {"lidt", do_lidt, false},
    {"lldt", do_lldt, false},        {"ltr", do_ltr, false},           {"lmsw", do_lmsw, true},
    {"swapgs", do_swapgs, true},     {"sysret", do_sysret, false},     {"sysexitl", do_sysexit, false},
    {"invd", do_invd, true},         {"wbinvd", do_wbinvd, true},      {"invlpg", do_invlpg, true},
    {"vmrun", do_vmrun, false},      {"vmcall", do_vmcall, false},     {"clgi", do_clgi, false},
    {"monitor", do_monitor, true},   {"mwait", do_mwait, true},        {"rdpmc", do_rdpmc, true},
    {"mov to cr8", write_cr8, true}, {"mov from cr8", read_cr8, true}, {"cli", do_cli, true},
    {"sti", do_sti, true},
};

static void privileged(void)
{
    static uint8_t operand[16] = {0xff, 0x0f};
    struct regs r;

    printf("-- privileged instructions in the kernel\n");
    events_disable();
    for (unsigned i = 0; i < sizeof(instructions) / sizeof(instructions[0]); i++) {
        r = trap_of(instructions[i].f, operand);
        check(r.vector == 13 || r.vector == 6 || (r.vector == NO_TRAP && instructions[i].may_pass), "%s: %s %lu",
              instructions[i].name, r.vector == NO_TRAP ? "passes" : "vector", r.vector == NO_TRAP ? 0 : r.vector);
    }
    check(vcpu_info_of(0)->evtchn_upcall_mask == 1, "cli and sti do not touch the upcall mask");
    events_enable();
    check(get_debugreg(7) != ~0UL && xen_version(XENVER_pagesize, NULL) == 4096, "all is well after them");
}

static void control_registers(void)
{
    struct regs r;
    uint64_t cr4;

    printf("-- control registers\n");
    check(!trapped(read_cr0, NULL, NULL) && (moved & 0x80000001) == 0x80000001, "cr0 %lx", moved);
    r = trap_of(write_cr0, (void *)(moved | 8));
    check(r.vector == NO_TRAP, "setting TS by cr0: vector %lu", r.vector);
    r = trap_of(do_fnop, NULL);
    check(r.vector == 7, "then #NM: vector %lu", r.vector);
    read_cr0(NULL);
    r = trap_of(write_cr0, (void *)(moved | 8));
    check(!trapped(do_clts, NULL, NULL) && !trapped(do_fnop, NULL, NULL), "clts clears it");
    read_cr0(NULL);
    r = trap_of(write_cr0, (void *)(moved & ~0x80000000UL));
    check(r.vector == 13 || r.vector == NO_TRAP, "paging off: vector %lu", r.vector);
    r = trap_of(write_cr0, (void *)(moved & ~0x10000UL));
    check(r.vector == 13 || r.vector == NO_TRAP, "write protection off: vector %lu", r.vector);
    check(!trapped(read_cr0, NULL, NULL) && (moved & 0x80010001) == 0x80010001, "cr0 is still %lx", moved);
    check(!trapped(read_cr3, NULL, NULL) && moved >> 12 == kernel_root, "cr3 %lx", moved);
    check(!trapped(write_cr3, (void *)moved, NULL), "writing the same cr3");
    r = trap_of(write_cr3, (void *)virt_to_machine(string_buffer));
    check(r.vector == 13, "a writable page as cr3: vector %lu", r.vector);
    r = trap_of(write_cr3, (void *)0x200000UL);
    check(r.vector == 13, "a frame of another as cr3: vector %lu", r.vector);
    check(!trapped(read_cr3, NULL, NULL) && moved >> 12 == kernel_root, "cr3 is still %lx", moved);
    check(!trapped(read_cr4, NULL, NULL) && (moved & 0x20) != 0, "cr4 %lx", moved);
    cr4 = moved;
    check(!trapped(write_cr4, (void *)cr4, NULL), "writing the same cr4");
    r = trap_of(write_cr4, (void *)(cr4 ^ 0x20));
    check(r.vector == 13 || r.vector == NO_TRAP, "PAE off: vector %lu", r.vector);
    r = trap_of(write_cr4, (void *)(cr4 | 1UL << 13 | 1UL << 20 | 1UL << 21));
    check(r.vector == 13 || r.vector == NO_TRAP, "VMX, SMEP, SMAP on: vector %lu", r.vector);
    check(!trapped(read_cr4, NULL, NULL) && (moved & 0x302000) == 0 && (moved & 0x20) != 0, "cr4 is still %lx", moved);

    check(!trapped(read_dr6, NULL, NULL), "dr6 %lx", moved);
    check(!trapped(write_dr0, (void *)VIRT_BASE, NULL) && get_debugreg(0) == VIRT_BASE, "mov to dr0");
    r = trap_of(write_dr0, (void *)VA_HOLE);
    check(r.vector == 13 && get_debugreg(0) == VIRT_BASE, "the hypervisor's address in dr0: vector %lu", r.vector);
    r = trap_of(write_dr7, (void *)(1UL << 13));
    check(r.vector == 13, "general detect in dr7: vector %lu", r.vector);
    set_debugreg(0, 0);
}

static void forced_other(void *p)
{
    (void)p;
    asm volatile(XEN_EMULATE_PREFIX "nop");
}

static void cpuids(void)
{
    struct cpuid_result forced, native, leaf;
    struct regs r;

    printf("-- CPUID\n");
    leaf = cpuid_forced(0x40000000, 0);
    check(leaf.b == 0x566e6558 && leaf.c == 0x65584d4d && leaf.d == 0x4d4d566e && leaf.a >= 0x40000002,
          "signature, last leaf %x", leaf.a);
    leaf = cpuid_forced(0x40000001, 0);
    check(leaf.a == (uint32_t)xen_version(XENVER_version, NULL), "version leaf %x", leaf.a);
    leaf = cpuid_forced(0x40000002, 0);
    check(leaf.a == 1, "hypercall pages: %u", leaf.a);
    forced = cpuid_forced(0, 0);
    native = cpuid(0, 0);
    check(forced.a >= 7 && forced.b == native.b && forced.c == native.c && forced.d == native.d, "vendor, last leaf %x",
          forced.a);
    forced = cpuid_forced(1, 0);
    check((forced.c >> 31 & 1) == 1, "the hypervisor bit");
    check((forced.c >> 5 & 1) == 0, "no VMX");
    check((forced.d >> 25 & 3) == 3 && (forced.d & 1) == 1, "FPU, SSE, SSE2");
    forced = cpuid_forced(0x80000001, 0);
    check((forced.c >> 2 & 1) == 0, "no SVM");
    check((forced.d >> 29 & 1) == 1 && (forced.d >> 20 & 1) == 1, "long mode, NX");
    check((forced.d >> 26 & 1) == 0, "no 1 GiB pages");
    forced = cpuid_forced(7, 0);
    check((forced.b >> 7 & 1) == 0 && (forced.b >> 20 & 1) == 0, "no SMEP, no SMAP");
    check((forced.c >> 16 & 1) == 0, "no five-level paging");
    forced = cpuid_forced(0x80000008, 0);
    check((forced.a & 0xff) >= 36 && (forced.a >> 8 & 0xff) == 48, "address sizes %x", forced.a);
    cpuid_forced(0xffffffff, 0);
    cpuid_forced(0x12345678, 0x87654321);
    cpuid_forced(0xd, 0xffffffff);
    r = trap_of(forced_other, NULL);
    check(r.vector == 6, "the prefix before another instruction: vector %lu", r.vector);
}

USER_TEXT(user_cli, "cli; ud2");
USER_TEXT(user_sti, "sti; ud2");
USER_TEXT(user_hlt, "hlt; ud2");
USER_TEXT(user_rdmsr, "movl $0xc0000080, %ecx; rdmsr; ud2");
USER_TEXT(user_wrmsr, "movl $0xc0000101, %ecx; wrmsr; ud2");
USER_TEXT(user_cr0, "movq %cr0, %rax; ud2");
USER_TEXT(user_cr2, "movq %cr2, %rax; ud2");
USER_TEXT(user_cr3, "movq %cr3, %rax; ud2");
USER_TEXT(user_cr3w, "movq %rax, %cr3; ud2");
USER_TEXT(user_cr4w, "movq %rax, %cr4; ud2");
USER_TEXT(user_dr, "movq %dr7, %rax; ud2");
USER_TEXT(user_drw, "movq %rax, %dr7; ud2");
USER_TEXT(user_clts, "clts; ud2");
USER_TEXT(user_lgdt, "lgdt (%rsp); ud2");
USER_TEXT(user_lidt, "lidt (%rsp); ud2");
USER_TEXT(user_ltr, "ltr %ax; ud2");
USER_TEXT(user_invlpg, "invlpg (%rsp); ud2");
USER_TEXT(user_wbinvd, "wbinvd; ud2");
USER_TEXT(user_swapgs, "swapgs; ud2");
USER_TEXT(user_sysret, "sysretq; ud2");
USER_TEXT(user_iret0, "pushq $0; pushq %rsp; pushq $2; pushq $0xe008; pushq $0; iretq; ud2");
USER_TEXT(user_xsetbv, "xorl %ecx, %ecx; movl $1, %eax; xorl %edx, %edx; xsetbv; ud2");
USER_TEXT(user_cpuid, "movl $0x40000000, %eax; " XEN_EMULATE_PREFIX "cpuid; ud2");

static void user_privileged(void)
{
    struct regs r;

    printf("-- privileged instructions in user mode\n");
#define REFUSED(name)                                                                                                  \
    USER_RUN(name, &r);                                                                                                \
    check(r.vector == 13 && r.rip < USER_CODE + sizeof(int) * 64, #name ": vector %lu error %lx", r.vector, r.error)
    check_equal(set_iopl(0), 0);
    REFUSED(user_cli);
    REFUSED(user_sti);
    REFUSED(user_hlt);
    REFUSED(user_rdmsr);
    REFUSED(user_wrmsr);
    REFUSED(user_cr0);
    REFUSED(user_cr2);
    REFUSED(user_cr3);
    REFUSED(user_cr3w);
    REFUSED(user_cr4w);
    REFUSED(user_dr);
    REFUSED(user_drw);
    REFUSED(user_clts);
    REFUSED(user_lgdt);
    REFUSED(user_lidt);
    REFUSED(user_ltr);
    REFUSED(user_invlpg);
    REFUSED(user_wbinvd);
    REFUSED(user_swapgs);
    REFUSED(user_iret0);
    USER_RUN(user_sysret, &r);
    check(r.vector == 13 || r.vector == 6, "user_sysret: vector %lu", r.vector);
    USER_RUN(user_xsetbv, &r);
    check(r.vector == 13 || r.rip == USER_CODE + 9, "user_xsetbv: vector %lu", r.vector);
    USER_RUN(user_cpuid, &r);
    check(r.vector == 6 && (uint32_t)r.rbx == 0x566e6558, "the forced CPUID works in user mode: vector %lu rbx %lx",
          r.vector, r.rbx);
}

GUEST("ports")
{
    events_enable();
    vcpu_op(VCPUOP_stop_periodic_timer, 0, NULL);
    ports();
    msrs();
    control_registers();
    privileged();
    cpuids();
    user_privileged();
}
