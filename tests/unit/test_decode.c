/* sources: hypervisor/pv/decode.c */
/* The instruction decoder: encodings made by the assembler, operands, and arithmetic compared with the processor's own.
 * */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lib/util.h"
#include "pv/decode.h"
#pragma GCC diagnostic ignored "-Woverride-init"

#define MEM .memory = true
#define IMM .immediate = true

/* Assembler text, what the decoder must make of it. Not named: 8-byte addresses, DS, no registers, length from the
 * assembler. */
/* clang-format off */
#define LONG_MODE(X) \
    /* privileged */ \
    X("cli", .op = OP_CLI, .size = 1) \
    X("sti", .op = OP_STI, .size = 4) \
    X("hlt", .op = OP_HLT, .size = 1) \
    X("rdmsr", .op = OP_RDMSR, .size = 1) \
    X("wrmsr", .op = OP_WRMSR, .size = 1) \
    X("rdtsc", .op = OP_RDTSC, .size = 4) \
    X("rdpmc", .op = OP_RDPMC, .size = 4) \
    X("cpuid", .op = OP_CPUID, .size = 1) \
    X("clts", .op = OP_CLTS, .size = 1) \
    X("invd", .op = OP_INVD, .size = 1) \
    X("wbinvd", .op = OP_WBINVD, .size = 4) \
    X(".byte 0xf3; wbinvd", .op = OP_WBINVD, .size = 4) \
    X("mov %cr0, %rax", .op = OP_READ_CR, .size = 8, .reg = 0, .rm = 0) \
    X("mov %cr4, %r11", .op = OP_READ_CR, .size = 8, .reg = 4, .rm = 11) \
    X("mov %cr8, %rdx", .op = OP_READ_CR, .size = 8, .reg = 8, .rm = 2) \
    X("mov %rdi, %cr3", .op = OP_WRITE_CR, .size = 8, .reg = 3, .rm = 7) \
    X("mov %r15, %cr2", .op = OP_WRITE_CR, .size = 8, .reg = 2, .rm = 15) \
    X("mov %db7, %rcx", .op = OP_READ_DR, .size = 8, .reg = 7, .rm = 1) \
    X("mov %r9, %db6", .op = OP_WRITE_DR, .size = 8, .reg = 6, .rm = 9) \
    X("lmsw %cx", .op = OP_LMSW, .size = 2, .reg = 6, .rm = 1) \
    X("lmsw (%rcx)", .op = OP_LMSW, .size = 2, .reg = 6, .rm = 1, MEM, .base = 1) \
    X("smsw %rax", .op = OP_SMSW, .size = 8, .reg = 4, .rm = 0) \
    X("smsw %eax", .op = OP_SMSW, .size = 4, .reg = 4, .rm = 0) \
    X("invlpg (%rdi)", .op = OP_INVLPG, .size = 2, .reg = 7, .rm = 7, MEM, .base = 7) \
    X("invlpg %gs:8(%r13)", .op = OP_INVLPG, .size = 2, .reg = 7, .rm = 13, MEM, .base = 13, .displacement = 8, \
      .segment = SEG_GS) \
    X("lgdt (%rax)", .op = OP_DESCRIPTOR_TABLE, .size = 2, .reg = 2, .rm = 0, MEM, .base = 0) \
    X("sidt (%rax)", .op = OP_DESCRIPTOR_TABLE, .size = 2, .reg = 1, .rm = 0, MEM, .base = 0) \
    X("xgetbv", .op = OP_XGETBV, .size = 4, .reg = 2, .rm = 0) \
    X("xsetbv", .op = OP_XSETBV, .size = 4, .reg = 2, .rm = 1) \
    X("swapgs", .op = OP_SWAPGS, .size = 4, .reg = 7, .rm = 0) \
    X("rdtscp", .op = OP_RDTSCP, .size = 4, .reg = 7, .rm = 1) \
    /* ports */ \
    X("inb $0x61, %al", .op = OP_IN, .size = 1, .port_immediate = true, .imm = 0x61) \
    X("inw $0xf8, %ax", .op = OP_IN, .size = 2, .port_immediate = true, .imm = 0xf8) \
    X("inl $0xf8, %eax", .op = OP_IN, .size = 4, .port_immediate = true, .imm = 0xf8) \
    X("outb %al, $0x80", .op = OP_OUT, .size = 1, .port_immediate = true, .imm = 0x80) \
    X("outl %eax, $0x80", .op = OP_OUT, .size = 4, .port_immediate = true, .imm = 0x80) \
    X("inb %dx, %al", .op = OP_IN, .size = 1) \
    X("inw %dx, %ax", .op = OP_IN, .size = 2) \
    X("inl %dx, %eax", .op = OP_IN, .size = 4) \
    X("outb %al, %dx", .op = OP_OUT, .size = 1) \
    X("outw %ax, %dx", .op = OP_OUT, .size = 2) \
    X("outl %eax, %dx", .op = OP_OUT, .size = 4) \
    X(".byte 0x48; inl %dx, %eax", .op = OP_IN, .size = 4, .rex = true) \
    X("insb", .op = OP_INS, .size = 1) \
    X("insw", .op = OP_INS, .size = 2) \
    X("rep insl", .op = OP_INS, .size = 4, .repeat = true) \
    X("rep outsb", .op = OP_OUTS, .size = 1, .repeat = true) \
    X("outsl %fs:(%rsi), %dx", .op = OP_OUTS, .size = 4, .segment = SEG_FS) \
    X(".byte 0x67; rep outsw", .op = OP_OUTS, .size = 2, .repeat = true, .address_size = 4) \
    /* stores */ \
    X("mov %rax, (%rbx)", .op = OP_MOV, .size = 8, .rex = true, .reg = 0, .rm = 3, MEM, .base = 3) \
    X("mov %r9, (%r10)", .op = OP_MOV, .size = 8, .rex = true, .reg = 9, .rm = 10, MEM, .base = 10) \
    X("xchg %r9, (%r10)", .op = OP_XCHG, .size = 8, .rex = true, .reg = 9, .rm = 10, MEM, .base = 10) \
    X("mov %r9, (%r12)", .op = OP_MOV, .size = 8, .rex = true, .reg = 9, .rm = 12, MEM, .base = 12, .segment = SEG_DS) \
    X("mov %rdx, (%rsp)", .op = OP_MOV, .size = 8, .rex = true, .reg = 2, .rm = 4, MEM, .base = 4, .segment = SEG_SS) \
    X("mov %rdx, 16(%rbp)", .op = OP_MOV, .size = 8, .rex = true, .reg = 2, .rm = 5, MEM, .base = 5, .displacement = 16, \
      .segment = SEG_SS) \
    X("mov %rdx, -8(%r13)", .op = OP_MOV, .size = 8, .rex = true, .reg = 2, .rm = 13, MEM, .base = 13, .displacement = -8) \
    X("mov %ecx, 0x1000(%rdi,%rsi,8)", .op = OP_MOV, .size = 4, .reg = 1, .rm = 4, MEM, .base = 7, .index = 6, .scale = 3, \
      .displacement = 0x1000) \
    X("mov %cx, (%rax,%r12,2)", .op = OP_MOV, .size = 2, .rex = true, .reg = 1, .rm = 4, MEM, .base = 0, .index = 12, \
      .scale = 1) \
    X("mov %ah, (%rax)", .op = OP_MOV, .size = 1, .reg = 4, .rm = 0, MEM, .base = 0) \
    X("mov %spl, (%rax)", .op = OP_MOV, .size = 1, .rex = true, .reg = 4, .rm = 0, MEM, .base = 0) \
    X("mov %rax, 0x12345678(,%rcx,4)", .op = OP_MOV, .size = 8, .rex = true, .reg = 0, .rm = 4, MEM, .index = 1, .scale = 2, \
      .displacement = 0x12345678) \
    X("mov %rax, -0x80000000", .op = OP_MOV, .size = 8, .rex = true, .reg = 0, .rm = 4, MEM, .displacement = -0x80000000L) \
    X("mov %rax, 0x100(%rip)", .op = OP_MOV, .size = 8, .rex = true, .reg = 0, .rm = 5, MEM, .base = INSN_RIP, \
      .displacement = 0x100) \
    X("mov %rax, %gs:0x40", .op = OP_MOV, .size = 8, .rex = true, .reg = 0, .rm = 4, MEM, .displacement = 0x40, \
      .segment = SEG_GS) \
    X("mov %rax, (%ebx)", .op = OP_MOV, .size = 8, .rex = true, .reg = 0, .rm = 3, MEM, .base = 3, .address_size = 4) \
    X("movabs %al, 0x1122334455667788", .op = OP_MOV, .size = 1, MEM, .displacement = 0x1122334455667788) \
    X("movabs %rax, 0x1122334455667788", .op = OP_MOV, .size = 8, .rex = true, MEM, .displacement = 0x1122334455667788) \
    X("movb $0x7f, (%rax)", .op = OP_MOV, .size = 1, .reg = 0, .rm = 0, MEM, .base = 0, IMM, .imm = 0x7f) \
    X("movw $0x1234, (%rax)", .op = OP_MOV, .size = 2, .reg = 0, .rm = 0, MEM, .base = 0, IMM, .imm = 0x1234) \
    X("movl $0x12345678, 4(%rax)", .op = OP_MOV, .size = 4, .reg = 0, .rm = 0, MEM, .base = 0, .displacement = 4, IMM, \
      .imm = 0x12345678) \
    X("movq $-2, (%r8)", .op = OP_MOV, .size = 8, .rex = true, .reg = 0, .rm = 8, MEM, .base = 8, IMM, .imm = -2UL) \
    X("movnti %rax, (%rdi)", .op = OP_MOV, .size = 8, .rex = true, .reg = 0, .rm = 7, MEM, .base = 7) \
    X("xchg %rax, (%rdi)", .op = OP_XCHG, .size = 8, .rex = true, .reg = 0, .rm = 7, MEM, .base = 7) \
    X("lock xchg %r10d, (%rdi)", .op = OP_XCHG, .size = 4, .rex = true, .reg = 10, .rm = 7, MEM, .base = 7, .lock = true) \
    X("lock cmpxchg %rcx, (%rdi)", .op = OP_CMPXCHG, .size = 8, .rex = true, .reg = 1, .rm = 7, MEM, .base = 7, .lock = true) \
    X("cmpxchg %cl, (%rdi)", .op = OP_CMPXCHG, .size = 1, .reg = 1, .rm = 7, MEM, .base = 7) \
    X("lock xadd %rcx, (%rdi)", .op = OP_XADD, .size = 8, .rex = true, .reg = 1, .rm = 7, MEM, .base = 7, .lock = true) \
    X("lock orq $0x40, (%rdi)", .op = OP_OR, .size = 8, .rex = true, .reg = 1, .rm = 7, MEM, .base = 7, .lock = true, IMM, \
      .imm = 0x40) \
    X("lock andb $0xdf, (%rdi)", .op = OP_AND, .size = 1, .reg = 4, .rm = 7, MEM, .base = 7, .lock = true, IMM, \
      .imm = 0xffffffffffffffdf) \
    X("lock andb $-3, 1(%rdi)", .op = OP_AND, .size = 1, .reg = 4, .rm = 7, MEM, .base = 7, .lock = true, IMM, \
      .imm = 0xfffffffffffffffd, .displacement = 1) \
    X("andl $0xfffff000, (%rdi)", .op = OP_AND, .size = 4, .reg = 4, .rm = 7, MEM, .base = 7, IMM, \
      .imm = 0xfffffffffffff000) \
    X("addw $0x1234, (%rdi)", .op = OP_ADD, .size = 2, .reg = 0, .rm = 7, MEM, .base = 7, IMM, .imm = 0x1234) \
    X("addq %rax, (%rdi)", .op = OP_ADD, .size = 8, .rex = true, .reg = 0, .rm = 7, MEM, .base = 7) \
    X("adcl %eax, (%rdi)", .op = OP_ADC, .size = 4, .reg = 0, .rm = 7, MEM, .base = 7) \
    X("sbbb %al, (%rdi)", .op = OP_SBB, .size = 1, .reg = 0, .rm = 7, MEM, .base = 7) \
    X("subq %r8, (%rdi)", .op = OP_SUB, .size = 8, .rex = true, .reg = 8, .rm = 7, MEM, .base = 7) \
    X("xorq %rax, (%rdi)", .op = OP_XOR, .size = 8, .rex = true, .reg = 0, .rm = 7, MEM, .base = 7) \
    X("lock incq (%rdi)", .op = OP_INC, .size = 8, .rex = true, .reg = 0, .rm = 7, MEM, .base = 7, .lock = true) \
    X("decb (%rdi)", .op = OP_DEC, .size = 1, .reg = 1, .rm = 7, MEM, .base = 7) \
    X("notl (%rdi)", .op = OP_NOT, .size = 4, .reg = 2, .rm = 7, MEM, .base = 7) \
    X("negq (%rdi)", .op = OP_NEG, .size = 8, .rex = true, .reg = 3, .rm = 7, MEM, .base = 7) \
    X("lock btsq $5, (%rdi)", .op = OP_BTS, .size = 8, .rex = true, .reg = 5, .rm = 7, MEM, .base = 7, .lock = true, IMM, \
      .imm = 5) \
    X("lock btrq $6, (%rdi)", .op = OP_BTR, .size = 8, .rex = true, .reg = 6, .rm = 7, MEM, .base = 7, .lock = true, IMM, \
      .imm = 6) \
    X("btcl $7, (%rdi)", .op = OP_BTC, .size = 4, .reg = 7, .rm = 7, MEM, .base = 7, IMM, .imm = 7) \
    X("lock btrq %rax, (%rdi)", .op = OP_BTR, .size = 8, .rex = true, .reg = 0, .rm = 7, MEM, .base = 7, .lock = true) \
    X("btsl %ecx, (%rdi)", .op = OP_BTS, .size = 4, .reg = 1, .rm = 7, MEM, .base = 7) \
    X("btcw %cx, (%rdi)", .op = OP_BTC, .size = 2, .reg = 1, .rm = 7, MEM, .base = 7) \
    X("stosq", .op = OP_STOS, .size = 8, .rex = true) \
    X("rep stosl", .op = OP_STOS, .size = 4, .repeat = true) \
    X("movsb", .op = OP_MOVS, .size = 1) \
    X("rep movsq", .op = OP_MOVS, .size = 8, .rex = true, .repeat = true)

#define EMIT(text, ...) ".byte 2f - 1f\n1: " text "\n2:\n"
__asm__(".pushsection .rodata\nlong_mode_code:\n" LONG_MODE(EMIT) ".popsection\n");
extern const uint8_t long_mode_code[];

static const struct { const char *text; struct insn insn; } long_mode_cases[] = {
#define EXPECT(text_, ...) {text_, {.address_size = 8, .segment = SEG_DS, .base = INSN_NO_REG, .index = INSN_NO_REG, __VA_ARGS__}},
    LONG_MODE(EXPECT)
};

#define CHECK(field) do { if (got.field != want->field) \
    fail_msg("%s: " #field " is %lld, not %lld", text, (long long)got.field, (long long)want->field); } while (0)
/* clang-format on */

static void check_insn(const char *text, const uint8_t *code, unsigned length, bool long_mode, const struct insn *want)
{
    uint8_t exact[INSN_MAX_LENGTH + 1];
    struct insn got;

    for (unsigned n = 0; n < length; n++) {
        uint8_t *part = malloc(n ? n : 1); /* ASan sees a read past the end */

        memcpy(part, code, n);
        if (insn_decode(part, n, long_mode, &got) != DECODE_SHORT)
            fail_msg("%s: %u of %u bytes are not 'short'", text, n, length);
        free(part);
    }
    memset(exact, 0xcc, sizeof(exact));
    memcpy(exact, code, length);
    if (insn_decode(exact, sizeof(exact), long_mode, &got) != DECODE_OK)
        fail_msg("%s: not decoded", text);
    if (got.length != length)
        fail_msg("%s: length %u, not %u", text, got.length, length);
    CHECK(op);
    CHECK(size);
    CHECK(address_size);
    CHECK(segment);
    CHECK(lock);
    CHECK(repeat);
    CHECK(memory);
    CHECK(immediate);
    CHECK(port_immediate);
    CHECK(reg);
    CHECK(rm);
    CHECK(base);
    CHECK(index);
    CHECK(scale);
    CHECK(displacement);
    CHECK(imm);
    if (want->rex)
        CHECK(rex);
}

static void long_mode_encodings(void **state)
{
    const uint8_t *p = long_mode_code;

    for (unsigned i = 0; i < ARRAY_SIZE(long_mode_cases); i++) {
        check_insn(long_mode_cases[i].text, p + 1, *p, true, &long_mode_cases[i].insn);
        p += 1 + *p;
    }
}

/* clang-format off */
#define COMPAT(X) \
    X("inb %dx, %al", .op = OP_IN, .size = 1) \
    X("outl %eax, $0x70", .op = OP_OUT, .size = 4, .port_immediate = true, .imm = 0x70) \
    X("rep insw", .op = OP_INS, .size = 2, .repeat = true) \
    X("outsb %es:(%esi), %dx", .op = OP_OUTS, .size = 1, .segment = SEG_ES) \
    X("outsb %ss:(%esi), %dx", .op = OP_OUTS, .size = 1, .segment = SEG_SS) \
    X("addr16 insb", .op = OP_INS, .size = 1, .address_size = 2) \
    X("cpuid", .op = OP_CPUID, .size = 1) \
    X("rdtsc", .op = OP_RDTSC, .size = 4)
__asm__(".pushsection .rodata\n.code32\ncompat_code:\n" COMPAT(EMIT) ".code64\n.popsection\n");
extern const uint8_t compat_code[];
static const struct { const char *text; struct insn insn; } compat_cases[] = {
#define EXPECT32(text_, ...) {text_, {.address_size = 4, .segment = SEG_DS, .base = INSN_NO_REG, .index = INSN_NO_REG, __VA_ARGS__}},
    COMPAT(EXPECT32)
};
/* clang-format on */

static void compat_encodings(void **state)
{
    const uint8_t *p = compat_code;

    for (unsigned i = 0; i < ARRAY_SIZE(compat_cases); i++) {
        check_insn(compat_cases[i].text, p + 1, *p, false, &compat_cases[i].insn);
        p += 1 + *p;
    }
}

static void not_ours(void **state)
{
    static const struct {
        const char *what;
        uint8_t bytes[16];
        unsigned n;
    } cases[] = {
        {"nop", {0x90}, 1},
        {"cmp %al, (%rax): no write", {0x38, 0x00}, 2},
        {"cmpl $1, (%rax)", {0x83, 0x38, 0x01}, 3},
        {"add %eax, %ebx: no memory", {0x01, 0xc3}, 2},
        {"lock mov", {0xf0, 0x89, 0x03}, 3},
        {"lock cli", {0xf0, 0xfa}, 2},
        {"call *(%rax)", {0xff, 0x10}, 2},
        {"test $1, (%rax)", {0xf6, 0x00, 0x01}, 3},
        {"xabort", {0xc6, 0xf8, 0x00}, 3},
        {"c7 /1", {0xc7, 0x08, 0, 0, 0, 0}, 6},
        {"bt $1, (%rax): no write", {0x0f, 0xba, 0x20, 0x01}, 4},
        {"ud2", {0x0f, 0x0b}, 2},
        {"vmcall", {0x0f, 0x01, 0xc1}, 3},
        {"clac", {0x0f, 0x01, 0xca}, 3},
        {"group 7 /5, memory", {0x0f, 0x01, 0x28}, 3},
        {"fifteen prefixes",
         {0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0xfa},
         16},
    };
    struct insn i;

    for (unsigned n = 0; n < ARRAY_SIZE(cases); n++)
        if (insn_decode(cases[n].bytes, cases[n].n, true, &i) != DECODE_UNKNOWN)
            fail_msg("%s is not 'unknown'", cases[n].what);
    /* Fourteen prefixes and one byte of opcode are just allowed. */
    assert_int_equal(insn_decode(&cases[ARRAY_SIZE(cases) - 1].bytes[1], 15, true, &i), DECODE_OK);
    assert_int_equal(i.length, 15);
    /* A REX prefix before another prefix has no effect: mov %eax, (%rbx) in 16 bits */
    assert_int_equal(insn_decode((const uint8_t[]){0x48, 0x66, 0x89, 0x03}, 4, true, &i), DECODE_OK);
    assert_int_equal(i.size, 2);
    assert_false(i.rex);
}

static void registers(void **state)
{
    struct cpu_user_regs r = {.rax = 0x1122334455667788, .rbx = 0x99aabbccddeeff00, .rsp = 0x1000, .r15 = 15, .rdi = 7};

    assert_ptr_equal(insn_reg(&r, 0), &r.rax);
    assert_ptr_equal(insn_reg(&r, 1), &r.rcx);
    assert_ptr_equal(insn_reg(&r, 2), &r.rdx);
    assert_ptr_equal(insn_reg(&r, 3), &r.rbx);
    assert_ptr_equal(insn_reg(&r, 4), &r.rsp);
    assert_ptr_equal(insn_reg(&r, 5), &r.rbp);
    assert_ptr_equal(insn_reg(&r, 6), &r.rsi);
    assert_ptr_equal(insn_reg(&r, 7), &r.rdi);
    assert_ptr_equal(insn_reg(&r, 8), &r.r8);
    assert_ptr_equal(insn_reg(&r, 15), &r.r15);
    assert_int_equal(insn_reg_read(&r, 4, 1, false), 0x77); /* ah */
    assert_int_equal(insn_reg_read(&r, 4, 1, true), 0);     /* spl */
    assert_int_equal(insn_reg_read(&r, 0, 4, false), 0x55667788);
    insn_reg_write(&r, 7, 1, false, 0x123); /* bh */
    assert_true(r.rbx == 0x99aabbccddee2300);
    insn_reg_write(&r, 7, 1, true, 0x123); /* dil */
    assert_true(r.rdi == 0x23);
    insn_reg_write(&r, 0, 2, false, 0xabcd1234);
    assert_true(r.rax == 0x1122334455661234);
    insn_reg_write(&r, 0, 4, false, 0xffffffffabcd1234);
    assert_true(r.rax == 0xabcd1234);
}

static void addresses(void **state)
{
    struct cpu_user_regs r = {.rbx = 0x1000, .rcx = 0x10, .rip = 0x400000};
    struct insn i = {.base = 3, .index = 1, .scale = 3, .displacement = -8, .address_size = 8, .length = 7};

    assert_true(insn_address(&i, &r, 0) == 0x1000 + 0x80 - 8);
    assert_true(insn_address(&i, &r, 0xffff888000000000) == 0xffff888000001078);
    i.base = INSN_RIP;
    i.index = INSN_NO_REG;
    assert_true(insn_address(&i, &r, 0) == 0x400000 + 7 - 8);
    i.base = 3;
    i.address_size = 4;
    r.rbx = 0xffffffff00000004;
    assert_true(insn_address(&i, &r, 0) == 0xfffffffc);
}

/* ----- arithmetic against the processor ----- */

#define FLAGS_CARED 0x8d5UL /* OF SF ZF AF PF CF */

/* Flags in and out, clear of the red zone */
#define BEFORE "lea -128(%%rsp), %%rsp; push %1; popf; "
#define AFTER "; pushf; pop %1; lea 128(%%rsp), %%rsp"

#define NATIVE2(name, insn)                                                                                            \
    static uint64_t native_##name(unsigned size, uint64_t old, uint64_t src, uint64_t *flags)                          \
    {                                                                                                                  \
        uint64_t f = (*flags & FLAGS_CARED) | 2;                                                                       \
        switch (size) {                                                                                                \
        case 1:                                                                                                        \
            __asm__(BEFORE insn "b %b2, %b0" AFTER : "+q"(old), "+r"(f) : "q"(src) : "cc");                            \
            old &= 0xff;                                                                                               \
            break;                                                                                                     \
        case 2:                                                                                                        \
            __asm__(BEFORE insn "w %w2, %w0" AFTER : "+r"(old), "+r"(f) : "r"(src) : "cc");                            \
            old &= 0xffff;                                                                                             \
            break;                                                                                                     \
        case 4:                                                                                                        \
            __asm__(BEFORE insn "l %k2, %k0" AFTER : "+r"(old), "+r"(f) : "r"(src) : "cc");                            \
            old = (uint32_t)old;                                                                                       \
            break;                                                                                                     \
        default:                                                                                                       \
            __asm__(BEFORE insn "q %q2, %q0" AFTER : "+r"(old), "+r"(f) : "r"(src) : "cc");                            \
        }                                                                                                              \
        *flags = f;                                                                                                    \
        return old;                                                                                                    \
    }
NATIVE2(add, "add")
NATIVE2(or, "or")
NATIVE2(adc, "adc")
NATIVE2(sbb, "sbb")
NATIVE2(and, "and")
NATIVE2(sub, "sub")
NATIVE2(xor, "xor")

#define NATIVE1(name, insn)                                                                                            \
    static uint64_t native_##name(unsigned size, uint64_t old, uint64_t src, uint64_t *flags)                          \
    {                                                                                                                  \
        uint64_t f = (*flags & FLAGS_CARED) | 2;                                                                       \
        switch (size) {                                                                                                \
        case 1:                                                                                                        \
            __asm__(BEFORE insn "b %b0" AFTER : "+q"(old), "+r"(f)::"cc");                                             \
            old &= 0xff;                                                                                               \
            break;                                                                                                     \
        case 2:                                                                                                        \
            __asm__(BEFORE insn "w %w0" AFTER : "+r"(old), "+r"(f)::"cc");                                             \
            old &= 0xffff;                                                                                             \
            break;                                                                                                     \
        case 4:                                                                                                        \
            __asm__(BEFORE insn "l %k0" AFTER : "+r"(old), "+r"(f)::"cc");                                             \
            old = (uint32_t)old;                                                                                       \
            break;                                                                                                     \
        default:                                                                                                       \
            __asm__(BEFORE insn "q %q0" AFTER : "+r"(old), "+r"(f)::"cc");                                             \
        }                                                                                                              \
        *flags = f;                                                                                                    \
        return old;                                                                                                    \
    }
NATIVE1(inc, "inc")
NATIVE1(dec, "dec")
NATIVE1(not, "not")
NATIVE1(neg, "neg")

#define NATIVE_BIT(name, insn)                                                                                         \
    static uint64_t native_##name(unsigned size, uint64_t old, uint64_t src, uint64_t *flags)                          \
    {                                                                                                                  \
        uint64_t f = (*flags & FLAGS_CARED) | 2;                                                                       \
        switch (size) {                                                                                                \
        case 2:                                                                                                        \
            __asm__(BEFORE insn "w %w2, %w0" AFTER : "+r"(old), "+r"(f) : "r"(src) : "cc");                            \
            old &= 0xffff;                                                                                             \
            break;                                                                                                     \
        case 4:                                                                                                        \
            __asm__(BEFORE insn "l %k2, %k0" AFTER : "+r"(old), "+r"(f) : "r"(src) : "cc");                            \
            old = (uint32_t)old;                                                                                       \
            break;                                                                                                     \
        default:                                                                                                       \
            __asm__(BEFORE insn "q %q2, %q0" AFTER : "+r"(old), "+r"(f) : "r"(src) : "cc");                            \
        }                                                                                                              \
        *flags = f;                                                                                                    \
        return old;                                                                                                    \
    }
NATIVE_BIT(bts, "bts")
NATIVE_BIT(btr, "btr")
NATIVE_BIT(btc, "btc")

static const struct {
    enum insn_op op;
    uint64_t (*native)(unsigned, uint64_t, uint64_t, uint64_t *);
    uint64_t defined; /* flags that the manual defines for it */
} operations[] = {
    {OP_ADD, native_add, FLAGS_CARED}, {OP_OR, native_or, 0x8c5},         {OP_ADC, native_adc, FLAGS_CARED},
    {OP_SBB, native_sbb, FLAGS_CARED}, {OP_AND, native_and, 0x8c5},       {OP_SUB, native_sub, FLAGS_CARED},
    {OP_XOR, native_xor, 0x8c5},       {OP_INC, native_inc, FLAGS_CARED}, {OP_DEC, native_dec, FLAGS_CARED},
    {OP_NOT, native_not, FLAGS_CARED}, {OP_NEG, native_neg, FLAGS_CARED}, {OP_BTS, native_bts, 1},
    {OP_BTR, native_btr, 1},           {OP_BTC, native_btc, 1},
};

static uint64_t interesting(unsigned n)
{
    static const uint64_t edges[] = {0,
                                     1,
                                     2,
                                     0xf,
                                     0x10,
                                     0x7f,
                                     0x80,
                                     0xff,
                                     0x7fff,
                                     0x8000,
                                     0xffff,
                                     0x7fffffff,
                                     0x80000000,
                                     0xffffffff,
                                     0x7fffffffffffffff,
                                     0x8000000000000000,
                                     ~0UL,
                                     ~0UL - 1};

    if (n < ARRAY_SIZE(edges))
        return edges[n];
    return (uint64_t)random() << 33 ^ (uint64_t)random() << 11 ^ (uint64_t)random();
}

static void arithmetic(void **state)
{
    srandom(1);
    for (unsigned o = 0; o < ARRAY_SIZE(operations); o++)
        for (unsigned size = operations[o].op >= OP_BTS ? 2 : 1; size <= 8; size *= 2)
            for (unsigned a = 0; a < 40; a++)
                for (unsigned b = 0; b < 40; b++) {
                    uint64_t old = interesting(a), src = interesting(b);
                    uint64_t flags = (uint64_t)random() & FLAGS_CARED, expected_flags = flags,
                             got_flags = flags | 0x200;
                    uint64_t mask = size == 8 ? ~0UL : (1UL << size * 8) - 1;
                    uint64_t expected = operations[o].native(size, old & mask, src, &expected_flags);
                    uint64_t got = insn_alu(operations[o].op, size, old, src, &got_flags);

                    if (got != expected || ((got_flags ^ expected_flags) & operations[o].defined) ||
                        !(got_flags & 0x200))
                        fail_msg("operation %u size %u: %lx, %lx gives %lx flags %lx, not %lx flags %lx",
                                 operations[o].op, size, old, src, got, got_flags, expected, expected_flags);
                }
}

static void stores(void **state)
{
    uint64_t flags = 0x246;

    assert_true(insn_alu(OP_MOV, 4, 0x55, 0x1234567890, &flags) == 0x34567890);
    assert_true(insn_alu(OP_XCHG, 8, 0x55, 0x1234567890, &flags) == 0x1234567890);
    assert_int_equal(flags, 0x246);
    insn_compare(8, 5, 5, &flags);
    assert_true(flags & 0x40);
    insn_compare(8, 5, 6, &flags);
    assert_int_equal(flags & 0x41, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(long_mode_encodings),
        cmocka_unit_test(compat_encodings),
        cmocka_unit_test(not_ours),
        cmocka_unit_test(registers),
        cmocka_unit_test(addresses),
        cmocka_unit_test(arithmetic),
        cmocka_unit_test(stores),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
