/* Random code: in kernel and user mode, across the border of two pages that change, and outside 64-bit mode. */
#include "hostile.h"

#define REAL_PAGE(v) (0xb000 + (v)*PAGE_SIZE)
#define REAL_CODE 0x200     /* in it; modes.S */
#define TEST_SELECTORS 0x80 /* of kit_gdt: two for each vcpu */
#define LONGEST 144         /* code_make's and what is put before it */

uint8_t *code_pages[RANDOM_VCPUS];
uint64_t *low_table;
void mode_trip(unsigned how, uint32_t code, uint32_t page, unsigned selectors);
extern char real_code[], real_code_end[];

/* Those that are mostly its end: MOV to CR3 and CR0, LMSW, LGDT, LIDT; and HLT, after which only the other vcpu can start it. Never LTR: QEMU
 * (7.2) loads a null selector, and ends at the next exception. */
bool code_avoids(const uint8_t *bytes)
{
    static const uint8_t ltr[] = {0x0f, 0x00, 0xd8},
                         ends[][3] = {{0x0f, 0x22, 0xd8}, {0x0f, 0x22, 0xc0}, {0x0f, 0x01, 0xf0},
                                      {0x0f, 0x01, 0x11}, {0x0f, 0x01, 0x19}, {0xf4, 0x00, 0x00}};

    for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
        if (memcmp(bytes, ends[i], 3) == 0)
            return !one_in(30);
    return memcmp(bytes, ltr, 3) == 0;
}

static void enter(void *code) { ((void (*)(void))code)(); }

struct frame {
    uint64_t rip, cs, rflags, rsp, ss;
};

static void enter_by_iret(void *frame) { asm volatile("movq %0, %%rsp; iretq" : : "r"(frame) : "memory"); }

static void user_frame(struct frame *f, unsigned v, uint64_t code)
{
    *f = (struct frame){.rip = code,
                        .cs = one_in(3) ? USER_CODE32 : USER_CODE64,
                        .rflags = one_in(2) ? 0x202 : 0x3202,
                        .rsp = CODE_VA(v) + 3 * PAGE_SIZE - 8,
                        .ss = USER_DATA_SELECTOR};
    if (one_in(8))
        f->rip = any_address();
    if (one_in(8))
        f->cs = PICK(CODE64, CODE32, 0, 3, TSS_SELECTOR(v), any_number());
    if (one_in(8))
        f->ss = PICK(0, DATA, USER_CODE64, any_number());
    if (one_in(6))
        f->rflags = 0x202 ^ 1UL << below(22);
    if (one_in(12))
        f->rsp = any_address();
}

/* How the second page of code is mapped, when the first one runs into it */
static uint64_t second_entry(unsigned v)
{
    uint64_t good = low_entries(v)[1];

    switch (below(8)) {
    case 0:
        return 0;
    case 1:
        return good & ~PTE_U;
    case 2:
        return good | PTE_NX;
    case 3:
        return any_entry();
    case 4:
        return low_entries(!v)[below(CODE_PAGES)]; /* the other one's, which it may be changing */
    default:
        return good;
    }
}

bool run_code(void)
{
    unsigned v = this_vcpu(), where = (unsigned)below(8);
    unsigned offset = where < 3 ? (unsigned)(PAGE_SIZE - below(LONGEST)) : (unsigned)below(PAGE_SIZE);
    uint64_t code = CODE_VA(v) + offset, rax = any_plain_address();
    static struct frame frames[RANDOM_VCPUS];
    static uint8_t made[RANDOM_VCPUS][LONGEST + 16];
    bool ok;

    memcpy(made[v], (const uint8_t[]){0x48, 0xb8}, 2); /* rax: what zeros that are executed write to */
    memcpy(made[v] + 2, &rax, sizeof(rax));
    code_make(made[v] + 10);
    if (one_in(8)) /* changes itself in front of where it is: the bytes are what they were, or nearly */
        memcpy(made[v] + 10, (const uint8_t[]){0xc6, 0x05, (uint8_t)below(24), 0, 0, 0, (uint8_t)random()}, 7);
    memcpy(code_pages[v] + offset, made[v], LONGEST);
    if (where < 3)
        low_entries(v)[1] = second_entry(v);
    asm volatile("invlpg (%0)" : : "r"(CODE_VA(v) + PAGE_SIZE) : "memory");
    if (one_in(2)) {
        user_frame(&frames[v], v, code);
        ok = !trapped(enter_by_iret, &frames[v], NULL);
    } else {
        ok = !trapped(enter, (void *)code, NULL);
    }
    return ok;
}

/* ---- Memory ---- */

struct access {
    uint64_t at, value;
    unsigned how;
};

/* Those that Croft emulates where there is no memory come first. */
#define EMULATED 15U
static void access(void *argument)
{
    struct access *x = argument;
    uint64_t value = x->value, flags;

    switch (x->how) {
    case 0:
        asm volatile("movb %b1, (%0)" : : "r"(x->at), "r"(value) : "memory");
        break;
    case 1:
        asm volatile("movw %w1, (%0)" : : "r"(x->at), "r"(value) : "memory");
        break;
    case 2:
        asm volatile("movl %k1, (%0)" : : "r"(x->at), "r"(value) : "memory");
        break;
    case 3:
        asm volatile("movq %1, (%0)" : : "r"(x->at), "r"(value) : "memory");
        break;
    case 4:
        asm volatile("movb (%1), %b0" : "+r"(value) : "r"(x->at) : "memory");
        break;
    case 5:
        asm volatile("movw (%1), %w0" : "+r"(value) : "r"(x->at) : "memory");
        break;
    case 6:
        asm volatile("movl (%1), %k0" : "+r"(value) : "r"(x->at) : "memory");
        break;
    case 7:
        asm volatile("movq (%1), %0" : "+r"(value) : "r"(x->at) : "memory");
        break;
    case 8:
        asm volatile("movl $0x12345678, (%0)" : : "r"(x->at) : "memory");
        break;
    case 9:
        asm volatile("xchgq %1, (%0)" : : "r"(x->at), "r"(value) : "memory");
        break;
    case 10:
        asm volatile("addl %k1, (%0)" : : "r"(x->at), "r"(value) : "memory", "cc");
        break;
    case 11:
        asm volatile("sbbq %1, (%0); pushfq; popq %%rax" : : "r"(x->at), "r"(value) : "memory", "cc", "rax");
        break;
    case 12:
        asm volatile("orw %w1, (%0)" : : "r"(x->at), "r"(value) : "memory", "cc");
        break;
    case 13:
        asm volatile("xorb $0x55, (%0)" : : "r"(x->at) : "memory", "cc");
        break;
    case 14:
        asm volatile("lock andq %1, (%0)" : : "r"(x->at), "r"(value) : "memory", "cc");
        break;
    case 15:
        asm volatile("movq (%0), %%rax; lock cmpxchgq %1, (%0)" : : "r"(x->at), "r"(value) : "memory", "rax", "cc");
        break;
    case 16:
        asm volatile("lock btsq %1, (%0)" : : "r"(x->at), "r"(value % 64) : "memory", "cc");
        break;
    case 17:
        asm volatile("lock xaddq %1, (%0)" : : "r"(x->at), "r"(value) : "memory", "cc");
        break;
    case 18:
        asm volatile("movq %1, %%rcx; andl $0xfff, %%ecx; rep stosb" : "+D"(x->at) : "r"(value) : "memory", "rcx");
        break;
    case 19:
        asm volatile("movups %%xmm0, (%0)" : : "r"(x->at) : "memory");
        break;
    case 20:
        asm volatile("pushfq; popq %0; movzbl (%1), %k0; testb $1, (%1)" : "=&r"(flags) : "r"(x->at) : "memory", "cc");
        break;
    case 21:
        asm volatile("movq %%rsp, %%rax; movq %0, %%rsp; pushq %%rax; popq %%rcx; movq %%rax, %%rsp"
                     :
                     : "r"(x->at)
                     : "memory", "rax", "rcx");
        break;
    default:
        asm volatile("cmpxchg16b (%0)" : : "r"(x->at) : "memory", "rax", "rbx", "rcx", "rdx", "cc");
    }
}

bool access_memory(void)
{
    struct access x = {.at = any_address(), .value = any_value(), .how = (unsigned)below(EMULATED)};

    if (one_in(3)) { /* by any instruction, where it mostly has memory */
        x.how = (unsigned)below(24);
        if (!one_in(40)) {
            uint8_t *page = data_page((unsigned)below(PAGES - 1));

            keep(page);
            keep(page + PAGE_SIZE);
            x.at = U(page) + below(PAGE_SIZE);
        }
    }
    if (x.how == 9 || x.how >= 14) /* QEMU (7.2) may stop for ever if a locked instruction's operand is not aligned */
        x.at &= ~15UL;
    return !trapped(access, &x, NULL);
}

/* ---- Outside 64-bit mode: what is not its end there ---- */

struct piece {
    uint8_t length, bytes[15];
};

/* 32-bit code; what it may change are eax, ecx, edx, ebx and edi. */
static const struct piece pieces32[] = {
    {9, {0xb8, 1, 0, 0, 0, 0x0f, 0xa2, 0x90, 0x90}},                             /* CPUID */
    {4, {0xe4, 0x80, 0xe7, 0x80}},                                               /* IN, OUT */
    {7, {0xba, 0xff, 0xff, 0, 0, 0xed, 0xef}},                                   /* ... of 4 bytes, at the end */
    {15, {0xba, 0x80, 0, 0, 0, 0xb9, 7, 0, 0, 0, 0x57, 0xf3, 0x6c, 0x5f, 0x90}}, /* REP INS to where edi is */
    {14, {0xba, 0x80, 0, 0, 0, 0xb9, 0xff, 0xff, 0, 0, 0xf3, 0x6e, 0x90, 0x90}},
    {7, {0xb9, 0x77, 0x02, 0, 0, 0x0f, 0x32}}, /* RDMSR of the PAT, and WRMSR */
    {9, {0xb9, 0x77, 0x02, 0, 0, 0x0f, 0x32, 0x0f, 0x30}},
    {6, {0x0f, 0x20, 0xe0, 0x0f, 0x22, 0xe0}}, /* MOV from CR4 and to it */
    {6, {0x0f, 0x20, 0xc0, 0x0f, 0x22, 0xc0}}, /* ... CR0 */
    {6, {0x0f, 0x21, 0xf8, 0x0f, 0x23, 0xf8}}, /* ... DR7 */
    {5, {0xa1, 0, 0, 0, 0xe0}},                /* a load from the hole, and a store */
    {5, {0xa3, 0, 0, 0, 0xe0}},
    {10, {0xc7, 0x05, 8, 0, 0, 0xe0, 1, 2, 3, 4}},
    {5, {0xa1, 0x20, 0, 0xe0, 0xfe}}, /* the APIC's id, and its priority */
    {10, {0xc7, 0x05, 0x80, 0, 0xe0, 0xfe, 0, 0, 0, 0}},
    {2, {0x0f, 0x09}},                   /* WBINVD */
    {5, {0x31, 0xff, 0x0f, 0x01, 0xd9}}, /* VMMCALL; the kit's instruction goes in */
};
#define CALL_PIECE (sizeof(pieces32) / sizeof(pieces32[0]) - 1)

/* 16-bit code */
static const struct piece pieces16[] = {
    {2, {0x0f, 0xa2}},
    {4, {0xe4, 0x80, 0xe7, 0x80}},
    {11, {0xba, 0x80, 0, 0xb9, 9, 0, 0xbf, 0, 0x07, 0xf3, 0x6c}},          /* REP INS */
    {12, {0xba, 0x80, 0, 0xb9, 9, 0, 0xbf, 0xf8, 0xff, 0x66, 0x6d, 0x90}}, /* INSL near the segment's end */
    {8, {0xba, 0x80, 0, 0xb9, 0, 0x40, 0xf3, 0x6f}},                       /* REP OUTS */
    {8, {0x66, 0xb9, 0x77, 0x02, 0, 0, 0x0f, 0x32}},
    {6, {0x0f, 0x20, 0xe0, 0x0f, 0x22, 0xe0}},
    {6, {0x0f, 0x21, 0xf8, 0x0f, 0x23, 0xf8}},
    {2, {0x0f, 0x09}},
    {3, {0x0f, 0x01, 0xd9}},
};

static void make_pieces(uint8_t *to, const struct piece *pieces, unsigned n, unsigned call)
{
    for (unsigned i = (unsigned)below(4); i < 5; i++) {
        unsigned which = (unsigned)below(n);

        memcpy(to, pieces[which].bytes, pieces[which].length);
        to += pieces[which].length;
        if (which == call)
            memcpy(to - KIT_CALL_LENGTH, call_bytes(), KIT_CALL_LENGTH);
        if (one_in(60))
            *to++ = (uint8_t)random();
    }
    *to = 0xc3;
}

bool change_mode(void)
{
    unsigned v = this_vcpu(), how = (unsigned)below(3), selectors = TEST_SELECTORS + 16 * v;
    uint8_t *page = (uint8_t *)REAL_PAGE(v);

    if (how == 2) {
        memcpy(page, real_code, (size_t)(real_code_end - real_code));
        make_pieces(page + REAL_CODE, pieces16, sizeof(pieces16) / sizeof(pieces16[0]),
                    sizeof(pieces16) / sizeof(pieces16[0]) - 1);
        kit_gdt[selectors / 8] = 0x00009b000000ffffUL | U(page) << 16;
        kit_gdt[selectors / 8 + 1] = 0x000093000000ffffUL | U(page) << 16;
    } else {
        make_pieces(code_pages[v], pieces32, sizeof(pieces32) / sizeof(pieces32[0]), CALL_PIECE);
    }
    mode_trip(how, (uint32_t)U(code_pages[v]), (uint32_t)U(page), selectors);
    return true;
}
