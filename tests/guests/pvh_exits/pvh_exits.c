/* run: pvh=yes beside=yes time=60 */
/* Each instruction that makes a PVH guest leave to Croft does what the architecture says. */
#include "../kit/pvh/pvh.h"

#define PF 14
#define GP 13
#define UD 6
#define DB 1
#define DR6_BS 0x4000UL
#define DR6_BD 0x2000UL
#define CR4_PAE (1UL << 5)
#define CR4_OSXSAVE (1UL << 18)
#define CR4_PCIDE (1UL << 17)
#define IS_MAKER(ebx) ((ebx) == 0x68747541 || (ebx) == 0x756e6547) /* "Auth", "Genu": leaf 0 of CPUID */

static void faults_with_at(const char *code, struct fault f, uint64_t want)
{
    check(f.vector == want && f.error == 0, "%s: vector %lu, error %lx", code, f.vector, f.error);
}

static void check_cpuid(void)
{
    uint64_t a = ~0UL << 32, b = ~0UL, c = ~0UL << 32, d = ~0UL;

    asm volatile("cpuid" : "+a"(a), "+b"(b), "+c"(c), "+d"(d));
    check((a | b | c | d) >> 32 == 0 && IS_MAKER(b), "CPUID clears the upper halves: %lx %lx %lx %lx", a, b, c, d);
    check(ATTEMPT(".byte 0x66, 0x67, 0x2e, 0xf2, 0x0f, 0xa2", OUT(, "+a"(a), "+b"(b), "+c"(c), "+d"(d)), ).vector ==
              NO_TRAP,
          "CPUID with prefixes");
    asm volatile(".byte 0x48, 0x0f, 0xa2; nop" : "+a"(a) : : "rbx", "rcx", "rdx");
    check(ATTEMPT(".fill 14, 1, 0x66; .byte 0x0f, 0xa2", OUT(, "+a"(a), "+b"(b), "+c"(c), "+d"(d)), ).vector == GP,
          "CPUID of 16 bytes is #GP");
    asm volatile(".fill 13, 1, 0x2e; .byte 0x0f, 0xa2" : "+a"(a) : : "rbx", "rcx", "rdx");
    check(true, "CPUID of 15 bytes");
}

/* ---- Ports ---- */

static void check_ports(void)
{
    uint64_t a = 0x1122334455667788;

    asm volatile("inb $0x80, %%al" : "+a"(a));
    check(a == 0x11223344556677ff, "IN of 1 byte: %lx", a);
    a = 0x1122334455667788;
    asm volatile("inw $0x80, %%ax" : "+a"(a));
    check(a == 0x112233445566ffff, "IN of 2 bytes: %lx", a);
    a = 0x1122334455667788;
    asm volatile("inl $0x80, %%eax" : "+a"(a));
    check(a == 0xffffffff, "IN of 4 bytes: %lx", a);
    a = 0x1122334455667788;
    asm volatile("inl %%dx, %%eax" : "+a"(a) : "d"(0xcf8));
    check(a == 0xffffffff, "... by DX: %lx", a);
    a = 0x1122334455667788;
    asm volatile(".byte 0x48, 0xed" : "+a"(a) : "d"(0xffff)); /* REX.W means nothing here */
    check(a == 0xffffffff, "... at the end, with REX.W: %lx", a);
    a = 0;
    asm volatile("inb $0xe9, %%al" : "+a"(a));
    check(a == 0xe9, "the debug port: %lx", a);
    for (unsigned port = 0; port < 0x10000; port += 251)
        if (port >> 4 != 0xb00)
            asm volatile("outb %%al, %%dx; outw %%ax, %%dx; outl %%eax, %%dx; .byte 0x66, 0x2e, 0x48, 0xee"
                         :
                         : "a"(0), "d"(port));
    check(true, "OUT of all sizes");
}

/* INS to 'to', count times; the count that is left, and where it has come to, are in the result. */
struct string_result {
    struct fault f;
    uint64_t to, left;
};
#define INS(code, where, count)                                                                                        \
    ({                                                                                                                 \
        struct string_result ins = {.to = (where), .left = (count)};                                                   \
        ins.f = ATTEMPT(code "; 992: cld", OUT(, "+D"(ins.to), "+c"(ins.left)), "d"(0x80));                            \
        asm volatile("cld");                                                                                           \
        ins;                                                                                                           \
    })

static bool ones(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != 0xff)
            return false;
    return true;
}

static void check_strings(void)
{
    uint8_t *first = page_alloc(), *second = page_alloc(), *at = (uint8_t *)TEST_VA + 0x10000;
    unsigned long va = (unsigned long)at;
    struct string_result r;

    map_page(va, (uint64_t)first | PTE_RW);
    map_page(va + PAGE_SIZE, (uint64_t)second | PTE_RW);
    unmap_page(va + 2 * PAGE_SIZE);
    r = INS("insb", va + 5, 7);
    check(r.to == va + 6 && r.left == 7 && at[5] == 0xff && at[6] == 0 && at[4] == 0, "INS of one byte");
    r = INS("rep insb", va + 3000, 2000);
    check(r.to == va + 5000 && r.left == 0 && ones(at + 3000, 2000) && at[2999] == 0 && at[5000] == 0,
          "REP INS across a page border: %lx, %lu left", r.to, r.left);
    memset(at, 0, 2 * PAGE_SIZE);
    r = INS("std; rep insl", va + PAGE_SIZE + 8, 10);
    check(r.to == va + PAGE_SIZE + 8 - 40 && r.left == 0 && ones(at + PAGE_SIZE + 8 - 36, 40) &&
              at[PAGE_SIZE - 29] == 0 && at[PAGE_SIZE + 12] == 0,
          "... downwards: %lx, %lu left", r.to, r.left);
    memset(at, 0, 2 * PAGE_SIZE);
    r = INS("rep insw", va + PAGE_SIZE - 1, 1);
    check(r.left == 0 && ones(at + PAGE_SIZE - 1, 2) && at[PAGE_SIZE + 1] == 0, "... one that spans the border");
    r = INS("rep insb", va, 0);
    check(r.f.vector == NO_TRAP && r.to == va && r.left == 0, "... zero times");
    r = INS("rep insb", VA_UNMAPPED, 0);
    check(r.f.vector == NO_TRAP, "... zero times to nowhere");
    r = INS("rep insb", va + 2 * PAGE_SIZE - 20, 100);
    check(r.f.vector == PF && r.f.cr2 == va + 2 * PAGE_SIZE && r.f.error == 2,
          "... into a page that is not there: vector %lu, CR2 %lx, error %lx", r.f.vector, r.f.cr2, r.f.error);
    check(ones(at + 2 * PAGE_SIZE - 20, 20) && r.to == va + 2 * PAGE_SIZE && r.left == 80,
          "... up to it: at %lx, %lu left", r.to, r.left);
    r = INS("rep insl", va + 2 * PAGE_SIZE - 10, 5);
    check(r.f.vector == PF && r.f.cr2 == va + 2 * PAGE_SIZE && r.to == va + 2 * PAGE_SIZE - 2 && r.left == 3,
          "... by 4 bytes: CR2 %lx, at %lx, %lu left", r.f.cr2, r.to, r.left);
    r = INS("std; rep insw", va + 2 * PAGE_SIZE, 2);
    check(r.f.vector == PF && r.f.cr2 == va + 2 * PAGE_SIZE && r.to == va + 2 * PAGE_SIZE && r.left == 2,
          "... downwards from there: CR2 %lx, at %lx, %lu left", r.f.cr2, r.to, r.left);
    r = INS("insl", va + 2 * PAGE_SIZE - 2, 1);
    check(r.f.vector == PF && r.f.cr2 == va + 2 * PAGE_SIZE && r.to == va + 2 * PAGE_SIZE - 2,
          "... half of it in: CR2 %lx", r.f.cr2);
    r = INS("insb", VA_NONCANONICAL, 1);
    check(r.f.vector == GP, "... to an address that is none: vector %lu", r.f.vector);
    map_page(va, (uint64_t)first | PTE_P);
    r = INS("insb", va + 9, 1);
    check(r.f.vector == PF && r.f.cr2 == va + 9 && r.f.error == 3, "... to a read-only page: vector %lu, error %lx",
          r.f.vector, r.f.error);
    memset(first, 0, PAGE_SIZE);
    r = INS("addr32 rep insb", (uint64_t)first | 0x5500000000, 3 | 0x5500000000UL);
    check(r.to == (uint64_t)first + 3 && r.left == 0 && ones(first, 3) && first[3] == 0,
          "... by 32-bit addresses: %lx, %lx", r.to, r.left);
    asm volatile("rep outsb" : "+S"(va), "+c"(r.left) : "d"(0x80));
    r.left = 100000;
    va = (unsigned long)first;
    asm volatile("rep outsl" : "+S"(va), "+c"(r.left) : "d"(0x80));
    check(va == (unsigned long)first + 400000 && r.left == 0, "REP OUTS: %lx, %lu left", va, r.left);
    asm volatile("std; outsw; cld" : "+S"(va) : "d"(0x80));
    check(va == (unsigned long)first + 400000 - 2, "OUTS downwards");
    r = INS(".byte 0xf3, 0x66, 0x67, 0x2e, 0x6c", (uint64_t)first, 2);
    check(r.left == 0, "INS with prefixes");
}

/* ---- MSRs ---- */

static const uint32_t msr_ranges[][2] = {{0, 0x1fff},
                                         {0x40000000, 0x400000ff},
                                         {0xc0000000, 0xc0001fff},
                                         {0xc0010000, 0xc0011fff},
                                         {0x2000, 0x2001},
                                         {0x7fffffff, 0x80000001},
                                         {0xbffffffe, 0xbfffffff},
                                         {0xc0002000, 0xc0002001},
                                         {0xc0012000, 0xc0012001},
                                         {0xffffffff, 0xffffffff}};

static bool sweep_one(uint32_t msr, unsigned *readable, unsigned *writable)
{
    uint64_t before, after;
    unsigned r = rdmsr_try(msr, &before), zero = wrmsr_try(msr, 0), all, again = NO_TRAP;

    all = wrmsr_try(msr, ~0UL);
    if (r == NO_TRAP) {
        wrmsr_try(msr, before);
        again = rdmsr_try(msr, &after);
        *readable += 1;
    }
    *writable += zero == NO_TRAP || all == NO_TRAP;
    return check_quiet((r == NO_TRAP || r == GP) && (zero == NO_TRAP || zero == GP) && (all == NO_TRAP || all == GP) &&
                           again == NO_TRAP,
                       "MSR %x: %u, %u, %u, %u", msr, r, zero, all, again) &&
           check_quiet(r != NO_TRAP || before == after || (msr == 0x10 || msr == 0xe7 || msr == 0xe8),
                       "MSR %x: %lx, later %lx", msr, before, after);
}

static void check_msrs(void)
{
    unsigned readable, writable;

    for (unsigned i = 0; i < sizeof(msr_ranges) / sizeof(msr_ranges[0]); i++) {
        uint32_t msr = msr_ranges[i][0] - 1;

        readable = writable = 0;
        do
            sweep_one(++msr, &readable, &writable);
        while (msr != msr_ranges[i][1]);
        check(true, "MSRs %x-%x: %u can be read, %u written", msr_ranges[i][0], msr, readable, writable);
    }
}

static void check_efer(void)
{
    uint64_t efer = rdmsr(MSR_EFER), now;

    check(efer == 0xd01, "EFER %lx", efer);
    for (unsigned bit = 0; bit < 64; bit++) {
        unsigned vector = wrmsr_try(MSR_EFER, efer ^ 1UL << bit);
        bool may = bit == 0 || bit == 11 || bit == 10; /* SCE, NXE; LMA has no effect */

        now = rdmsr(MSR_EFER);
        check_quiet(vector == (may ? NO_TRAP : GP), "EFER bit %u: vector %u", bit, vector);
        check_quiet(now == (bit == 0 || bit == 11 ? efer ^ 1UL << bit : efer), "EFER bit %u: %lx", bit, now);
        wrmsr(MSR_EFER, efer);
    }
    check(rdmsr(MSR_EFER) == efer, "EFER bit by bit");
}

static void check_pat(void)
{
    uint64_t pat = rdmsr(MSR_PAT);

    check(pat == 0x0007040600070406, "PAT %lx", pat);
    for (unsigned type = 0; type < 256; type++)
        for (unsigned entry = 0; entry < 64; entry += 24) {
            bool may = type < 2 || (type >= 4 && type < 8);
            uint64_t value = (pat & ~(0xffUL << entry)) | (uint64_t)type << entry;
            unsigned vector = wrmsr_try(MSR_PAT, value);

            check_quiet(vector == (may ? NO_TRAP : GP) && rdmsr(MSR_PAT) == (may ? value : pat),
                        "PAT type %u: vector %u", type, vector);
            wrmsr(MSR_PAT, pat);
        }
    check(rdmsr(MSR_PAT) == pat, "PAT: all types");
}

static void check_special_msrs(void)
{
    uint64_t base = rdmsr(MSR_APIC_BASE), value;
    uint8_t *page = page_alloc();

    check(base == (APIC_AT | APIC_BASE_EN | 0x100), "APIC base %lx", base);
    check(wrmsr_try(MSR_APIC_BASE, base + 0x1000) == GP && wrmsr_try(MSR_APIC_BASE, base | 1UL << 50) == GP &&
              wrmsr_try(MSR_APIC_BASE, (base & ~APIC_BASE_EN) | APIC_BASE_EXTD) == GP,
          "APIC base: elsewhere, reserved, EXTD alone: #GP");
    check(wrmsr_try(0x40000000, (uint64_t)page | 1) == GP && wrmsr_try(0x40000000, HOLE_AT) == GP &&
              wrmsr_try(0x40000000, FAR_AT) == GP && wrmsr_try(0x40000000, APIC_AT) == GP,
          "hypercall pages that are none: #GP");
    check(wrmsr_try(0x40000000, (uint64_t)page) == NO_TRAP && page[0] == 0xb8 && page[32 * 17 + 1] == 17 &&
              page[32 * 17 + 5] == 0x0f,
          "a hypercall page");
    check(wrmsr_try(0xc0000100, 0x1000) == NO_TRAP && rdmsr(0xc0000100) == 0x1000, "FS base");
    wrmsr(0xc0000100, 0);
    if ((cpuid(0x80000001, 0).d >> 27 & 1) != 0) {
        uint32_t aux;

        wrmsr(0xc0000103, 0x1234);
        asm volatile("rdtscp" : "=c"(aux) : : "rax", "rdx");
        check(aux == 0x1234, "TSC_AUX: %x", aux);
        check(wrmsr_try(0xc0000103, 1UL << 32) == GP, "TSC_AUX has 32 bits");
    }
    check(rdmsr_try(0x10, &value) == NO_TRAP && value <= tsc_read(), "the TSC");
    check(rdmsr_try(0xc0010114, &value) == GP && rdmsr_try(0xc0010117, &value) == GP, "no MSRs of AMD-V");
}

/* ---- Control and debug registers ---- */

static void check_cr4(void)
{
    uint64_t cr4 = READ_CR(4), could = 0, f7b = cpuid(7, 0).b, f1c = cpuid(1, 0).c, want = 0x7ff;

    for (unsigned bit = 0; bit < 64; bit++) {
        uint64_t value = cr4 ^ 1UL << bit, now;
        struct fault f = ATTEMPT("movq %[value], %%cr4", , [value] "r"(value));

        now = READ_CR(4);
        check_quiet(now == (f.vector == NO_TRAP ? value : cr4) &&
                        (f.vector == NO_TRAP || (f.vector == GP && f.error == 0)),
                    "CR4 bit %u: vector %lu, %lx", bit, f.vector, now);
        could |= f.vector == NO_TRAP ? 1UL << bit : 0;
        WRITE_CR(4, cr4);
    }
    want &= ~CR4_PAE;
    want |= (f1c >> 17 & 1) << 17 | (f1c >> 26 & 1) << 18 | (f7b & 1) << 16 | (f7b >> 7 & 1) << 20 |
            (f7b >> 20 & 1) << 21 | (uint64_t)(cpuid(7, 0).c >> 2 & 1) << 11;
    check(could == want, "CR4: the bits that can change are %lx, wanted %lx", could, want);
    if ((f1c >> 17 & 1) != 0) {
        WRITE_CR(3, (uint64_t)kit_pml4 | 8);
        check(ATTEMPT("movq %[value], %%cr4", , [value] "r"(cr4 | CR4_PCIDE)).vector == GP,
              "PCIDE with bits in CR3 is #GP");
        WRITE_CR(3, (uint64_t)kit_pml4);
    }
    check(ATTEMPT(".byte 0x66, 0x0f, 0x22, 0xe0", , "a"(cr4)).vector == NO_TRAP, "MOV to CR4 with a prefix");
    check(ATTEMPT(".byte 0x44, 0x0f, 0x20, 0xe0", OUT(, "=a"(could)), ).vector == UD, "CR12 is #UD");
}

static volatile unsigned debug_count;
static uint64_t debug_rip[4], debug_dr6;

#define READ_DR(nr)                                                                                                    \
    ({                                                                                                                 \
        uint64_t dr_value;                                                                                             \
        asm volatile("movq %%dr" #nr ", %0" : "=r"(dr_value));                                                         \
        dr_value;                                                                                                      \
    })
#define WRITE_DR(nr, value) asm volatile("movq %0, %%dr" #nr : : "r"((uint64_t)(value)) : "memory")
#define TRY_DR(nr, value) (ATTEMPT("movq %[to], %%dr" #nr, , [to] "r"((uint64_t)(value))).vector)

static bool debug_hook(struct regs *r)
{
    debug_dr6 = READ_DR(6);
    if (debug_count < 4)
        debug_rip[debug_count] = r->rip;
    if (++debug_count == 2)
        r->rflags &= ~RFLAGS_TF;
    r->rflags |= 0x10000; /* RF: a breakpoint on code hits once */
    WRITE_DR(6, 0xffff0ff0);
    return true;
}

static uint64_t watched;

static void check_debug_registers(void)
{
    uint64_t va, cr4 = READ_CR(4);

    WRITE_DR(0, 0x1111);
    WRITE_DR(1, 0x2222);
    WRITE_DR(2, 0x3333);
    WRITE_DR(3, VA_UNMAPPED);
    check(READ_DR(0) == 0x1111 && READ_DR(1) == 0x2222 && READ_DR(2) == 0x3333 && READ_DR(3) == VA_UNMAPPED,
          "DR0-3 keep what they get");
    WRITE_DR(6, 0);
    WRITE_DR(7, 0);
    check(READ_DR(6) == 0xffff0ff0 && READ_DR(7) == 0x400, "DR6, DR7: %lx, %lx", READ_DR(6), READ_DR(7));
    check(TRY_DR(6, 1UL << 32) == GP && TRY_DR(7, 1UL << 32) == GP, "... upper bits are #GP");
    check(ATTEMPT(".byte 0x0f, 0x21, 0xe0", OUT(, "=a"(va)), ).vector == NO_TRAP, "DR4 is DR6 without CR4.DE");
    WRITE_CR(4, cr4 | 8);
    check(ATTEMPT(".byte 0x0f, 0x21, 0xe0", OUT(, "=a"(va)), ).vector == UD &&
              ATTEMPT(".byte 0x0f, 0x23, 0xe8", , "a"(0x400UL)).vector == UD,
          "DR4 and DR5 are #UD with it");
    WRITE_CR(4, cr4);
    if (cpuid(0, 0).b !=
        CPUID_VENDOR_INTEL) /* on VT-x the processor sees to it before it asks; Bochs 2.7 asks first, for DR0 */
        check(ATTEMPT(".byte 0x44, 0x0f, 0x21, 0xc0", OUT(, "=a"(va)), ).vector == UD, "DR8 is #UD");
    trap_hooks[DB] = debug_hook;
    debug_count = 0;
    WRITE_DR(1, &watched);
    WRITE_DR(7, 0x400 | 8 | 0xd << 20); /* G1: writes of 8 bytes (len 11, rw 01) would be 1101 */
    watched = 1;
    barrier();
    WRITE_DR(7, 0x400);
    if (debug_count == 0) /* QEMU's VMRUN (7.2) loads DR7 and does nothing about it */
        printf("   breakpoints are not taken in a guest here\n");
    else
        check(debug_count == 1 && (debug_dr6 & 0xf) == 2, "a breakpoint on data: %u, DR6 %lx", debug_count, debug_dr6);
    debug_count = 0;
    asm volatile("leaq 1f(%%rip), %0; movq %0, %%dr0; movq $0x402, %%rax; movq %%rax, %%dr7; 1: nop; "
                 "movq $0x400, %%rax; movq %%rax, %%dr7"
                 : "=&r"(va)
                 :
                 : "rax", "memory");
    if (debug_count != 0)
        check(debug_count == 1 && (debug_dr6 & 0xf) == 1 && debug_rip[0] == va, "a breakpoint on code: %u, DR6 %lx",
              debug_count, debug_dr6);
    trap_hooks[DB] = NULL;
}

static void check_general_detect(void)
{
    struct fault f;

    WRITE_DR(6, 0xffff0ff0);
    f = ATTEMPT("movq %[gd], %%dr7; movq %%dr0, %%rax", OUT(, "=a"((uint64_t){0})), [gd] "r"(0x2400UL));
    check(f.vector == DB && (READ_DR(6) & DR6_BD) != 0 && READ_DR(7) == 0x400,
          "DR7.GD: access to a debug register is #DB: vector %lu, DR6 %lx, DR7 %lx", f.vector, READ_DR(6), READ_DR(7));
    WRITE_DR(6, 0xffff0ff0);
    WRITE_DR(7, 0x400);
}

/* ---- What there is not ---- */

/* With an address in RAX that would do */
#define undefined(code) faults_with_at(code, ATTEMPT(code, , OUT("a"(page), "c"(0))), UD)

static void check_undefined(void)
{
    void *page = page_alloc();

    undefined(".byte 0x0f, 0x01, 0xd8"); /* VMRUN */
    undefined(".byte 0x0f, 0x01, 0xda"); /* VMLOAD */
    undefined(".byte 0x0f, 0x01, 0xdb"); /* VMSAVE */
    undefined(".byte 0x0f, 0x01, 0xdc"); /* STGI */
    undefined(".byte 0x0f, 0x01, 0xdd"); /* CLGI */
    undefined(".byte 0x0f, 0x01, 0xde"); /* SKINIT */
    undefined(".byte 0x0f, 0x01, 0xdf"); /* INVLPGA */
    if (call_is_vmcall())
        undefined("vmmcall");
    else
        undefined("vmcall");
    check(ATTEMPT("monitor", , OUT("a"(TEST_VA), "c"(0), "d"(0))).vector == UD, "MONITOR is #UD");
    check(ATTEMPT("mwait", , OUT("a"(0), "c"(0))).vector == UD, "MWAIT is #UD");
    check(ATTEMPT("rdpmc", OUT(, "=a"((uint32_t){0}), "=d"((uint32_t){0})), "c"(0)).vector == GP, "RDPMC is #GP");
    undefined("ud2");
    check(ATTEMPT("wbinvd; invd; .byte 0x66, 0x0f, 0x09", , ).vector == NO_TRAP, "WBINVD and INVD");
}

static void check_xsetbv(void)
{
    uint64_t cr4 = READ_CR(4);
    uint32_t a, d;

    if ((cpuid(1, 0).c >> 26 & 1) == 0)
        return;
    check(ATTEMPT("xsetbv", , OUT("c"(0), "a"(3), "d"(0))).vector == UD, "XSETBV without OSXSAVE is #UD");
    WRITE_CR(4, cr4 | CR4_OSXSAVE);
    check((cpuid(1, 0).c >> 27 & 1) != 0, "CPUID shows OSXSAVE");
    check(ATTEMPT("xsetbv", , OUT("c"(0), "a"(3), "d"(0))).vector == NO_TRAP, "XSETBV of x87 and SSE");
    asm volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    check(a == 3 && d == 0, "XGETBV: %x", a);
    check(ATTEMPT("xsetbv", , OUT("c"(0), "a"(0), "d"(0))).vector == GP, "... of nothing is #GP");
    check(ATTEMPT("xsetbv", , OUT("c"(0), "a"(5), "d"(0))).vector == GP, "... of AVX without SSE is #GP");
    check(ATTEMPT("xsetbv", , OUT("c"(0), "a"(3), "d"(0x80000000))).vector == GP, "... of what there is not is #GP");
    check(ATTEMPT("xsetbv", , OUT("c"(1), "a"(3), "d"(0))).vector == GP, "... of register 1 is #GP");
    check(ATTEMPT("xsetbv", , OUT("c"(0), "a"(cpuid(0xd, 0).a), "d"(cpuid(0xd, 0).d))).vector == NO_TRAP,
          "... of all that CPUID has: %x", cpuid(0xd, 0).a);
    xen_version(XENVER_version, NULL);
    sched_op(SCHEDOP_yield, NULL);
    asm volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    check(a == cpuid(0xd, 0).a, "... stays: %x", a);
    WRITE_CR(4, cr4);
}

/* ---- HLT, software interrupts, user mode ---- */

static volatile unsigned taken;
static uint64_t taken_rip;
static bool take(struct regs *r)
{
    taken++;
    taken_rip = r->rip;
    if (r->vector >= 32 && r->vector != 0x55)
        apic_write(APIC_EOI, 0);
    return true;
}

static void check_interrupts(void)
{
    uint64_t va;

    apic_enable();
    trap_hooks[0x40] = trap_hooks[0x55] = trap_hooks[3] = take;
    apic_send(ICR_SELF | 0x40, 0);
    taken = 0;
    asm volatile("sti; hlt; 1: cli; leaq 1b(%%rip), %0" : "=r"(va) : : "memory");
    check(taken == 1 && taken_rip == va, "STI and HLT with an interrupt pending: %u, at %lx, wanted %lx", taken,
          taken_rip, va);
    apic_write(APIC_LVT_TIMER, 0x40);
    apic_write(APIC_TIMER_DIVIDE, 0xb);
    apic_write(APIC_TIMER_INITIAL, 100000);
    asm volatile("sti; .byte 0xf3, 0x66, 0xf4; 1: cli; leaq 1b(%%rip), %0" : "=r"(va) : : "memory");
    check(taken == 2 && taken_rip == va, "HLT with prefixes, until the timer: %u, at %lx", taken, taken_rip);
    taken = 0;
    asm volatile("int3; 1: leaq 1b(%%rip), %0" : "=r"(va) : : "memory");
    check(taken == 1 && taken_rip == va, "INT3");
    asm volatile("int $0x55; 1: leaq 1b(%%rip), %0" : "=r"(va) : : "memory");
    check(taken == 2 && taken_rip == va, "INT n");
    check(ATTEMPT(".byte 0xce", , ).vector == UD, "INTO is #UD in 64-bit mode");
    trap_hooks[0x40] = trap_hooks[0x55] = trap_hooks[3] = NULL;
    if (ATTEMPT(".byte 0xf1", , ).vector == UD) {
        printf("   the processor has no INT1\n"); /* QEMU */
        return;
    }
    trap_hooks[DB] = take;
    taken = 0;
    asm volatile(".byte 0xf1; 1: leaq 1b(%%rip), %0" : "=r"(va) : : "memory");
    check(taken == 1 && taken_rip == va, "INT1: %u, at %lx", taken, taken_rip);
    trap_hooks[DB] = NULL;
}

USER_TEXT(user_out, "outb %al, $0x80; ud2");
USER_TEXT(user_ins, "movl $0x100000, %edi; movl $0x80, %edx; insb; ud2");
USER_TEXT(user_ins_own, "movabsq $0x100000100010, %rdi; movl $0x80, %edx; insb; ud2");
USER_TEXT(user_hlt, "hlt; ud2");
USER_TEXT(user_rdmsr, "movl $0x10, %ecx; rdmsr; ud2");
USER_TEXT(user_wrmsr, "movl $0x174, %ecx; wrmsr; ud2");
USER_TEXT(user_cr4, "movq %rax, %cr4; ud2");
USER_TEXT(user_dr, "movq %rax, %dr0; ud2");
USER_TEXT(user_cpuid, "xorl %eax, %eax; cpuid; ud2");
USER_TEXT(user_call, "movl $17, %eax; " CALL_TEXT "; ud2");
USER_TEXT(user_wbinvd, "wbinvd; ud2");
USER_TEXT(user_vmrun, ".byte 0x0f, 0x01, 0xd8; ud2");
USER_TEXT(user_xsetbv, "movl $3, %eax; xorl %ecx, %ecx; xorl %edx, %edx; .byte 0x0f, 0x01, 0xd1; ud2");
USER_TEXT(user_apic, "movl $0xfee00020, %eax; movl (%rax), %eax; ud2");

#define USER_FAULTS(name, want)                                                                                        \
    do {                                                                                                               \
        struct regs r;                                                                                                 \
        USER_RUN(name, &r);                                                                                            \
        check(r.vector == (want), #name ": vector %lu, rip %lx", r.vector, r.rip);                                     \
    } while (0)

static void check_user(void)
{
    struct regs r;

    USER_FAULTS(user_out, GP);
    USER_FAULTS(user_hlt, GP);
    USER_FAULTS(user_rdmsr, GP);
    USER_FAULTS(user_wrmsr, GP);
    USER_FAULTS(user_cr4, GP);
    USER_FAULTS(user_dr, GP);
    USER_FAULTS(user_wbinvd, GP);
    USER_FAULTS(user_apic, PF);
    USER_RUN(user_vmrun, &r);
    check(r.vector == UD || r.vector == GP, "user_vmrun: vector %lu", r.vector);
    USER_RUN(user_xsetbv, &r);
    check(r.vector == UD || r.vector == GP, "user_xsetbv: vector %lu", r.vector);
    USER_RUN(user_cpuid, &r);
    check(r.vector == UD && r.rip == USER_CODE + 4 && IS_MAKER(r.rbx), "user_cpuid: vector %lu", r.vector);
    USER_RUN(user_call, &r);
    check(r.vector == UD && (long)r.rax == -EPERM, "user_call: vector %lu, %ld", r.vector, (long)r.rax);
    user_flags = 0x3202;
    USER_RUN(user_out, &r);
    check(r.vector == UD && r.rip == USER_CODE + 2, "OUT with IOPL 3: vector %lu", r.vector);
    USER_RUN(user_ins, &r);
    check(r.vector == PF && r.error == 7 && cr2_read() == 0x100000,
          "INS with IOPL 3 into the kernel's memory: vector %lu, error %lx, CR2 %lx", r.vector, r.error, cr2_read());
    USER_RUN(user_ins_own, &r);
    check(r.vector == UD && user_data_page[16] == 0xff, "... into its own: vector %lu", r.vector);
    user_flags = 0x202;
}

/* ---- Single steps ---- */

#define STEP(code, inputs)                                                                                             \
    do {                                                                                                               \
        uint64_t step_after;                                                                                           \
        debug_count = 0;                                                                                               \
        asm volatile("leaq 1f(%%rip), %[after]; pushfq; orq $0x100, (%%rsp); popfq; " code "; 1: nop; nop"             \
                     : [after] "=&r"(step_after)                                                                       \
                     : inputs                                                                                          \
                     : "rax", "rbx", "rcx", "rdx", "rdi", "rsi", "memory", "cc");                                      \
        check(debug_count == 2 && debug_rip[0] == step_after && debug_rip[1] == step_after + 1 && debug_dr6 & DR6_BS,  \
              "a step over %s: %u, %lx, %lx, wanted %lx, DR6 %lx", code, debug_count, debug_rip[0], debug_rip[1],      \
              step_after, debug_dr6);                                                                                  \
    } while (0)

static void check_steps(void)
{
    uint64_t va;

    trap_hooks[DB] = debug_hook;
    STEP("nop", );
    STEP("cpuid", );
    STEP("outb %%al, $0x80", );
    STEP("inl $0x80, %%eax", );
    asm volatile("movl $0x10, %%ecx" : : : "rcx");
    STEP("wbinvd", );
    STEP("movq %%cr4, %%rax", );
    STEP("movq %%dr3, %%rax", );
    STEP("movq %[cr4], %%cr4", [cr4] "r"(READ_CR(4)));
    STEP("movq %[dr], %%dr3", [dr] "r"(0UL));
    STEP("movl %[apic], %%eax", [apic] "m"(*(uint32_t *)(APIC_AT + 0x20)));
    STEP("movl $0x30, %[apic]", [apic] "m"(*(uint32_t *)(APIC_AT + 0x80)));
    STEP("movb %[hole], %%al", [hole] "m"(*(uint8_t *)HOLE_AT));
    debug_count = 0;
    asm volatile("movl $0x277, %%ecx; leaq 1f(%%rip), %0; pushfq; orq $0x100, (%%rsp); popfq; rdmsr; 1: nop; nop"
                 : "=&r"(va)
                 :
                 : "rax", "rcx", "rdx", "memory", "cc");
    check(debug_count == 2 && debug_rip[0] == va && debug_rip[1] == va + 1, "a step over RDMSR");
    debug_count = 0;
    asm volatile("movl $0x277, %%ecx; rdmsr; leaq 1f(%%rip), %0; pushfq; orq $0x100, (%%rsp); popfq; wrmsr; 1: nop; nop"
                 : "=&r"(va)
                 :
                 : "rax", "rcx", "rdx", "memory", "cc");
    check(debug_count == 2 && debug_rip[0] == va && debug_rip[1] == va + 1, "a step over WRMSR");
    debug_count = 0;
    asm volatile("xorl %%edi, %%edi; xorl %%esi, %%esi; movl $17, %%eax; leaq 1f(%%rip), %0; pushfq; orq $0x100, "
                 "(%%rsp); popfq; " CALL_TEXT "; 1: nop; nop"
                 : "=&r"(va)
                 :
                 : "rax", "rdi", "rsi", "memory", "cc");
    check(debug_count == 2 && debug_rip[0] == va && debug_rip[1] == va + 1, "a step over VMMCALL or VMCALL");
    trap_hooks[DB] = NULL;
    apic_write(APIC_TPR, 0);
}

GUEST("pvh_exits")
{
    check_cpuid();
    check_ports();
    check_strings();
    check_efer();
    check_pat();
    check_special_msrs();
    check_cr4();
    check_debug_registers();
    check_general_detect();
    check_undefined();
    check_xsetbv();
    check_interrupts();
    check_user();
    check_steps();
    check_msrs();
}
