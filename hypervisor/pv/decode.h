/*
 * A small instruction decoder for the two families that Croft emulates: privileged instructions and port I/O (#GP), and
 * writes to memory (page tables mapped read-only). It is pure: bytes in, a description out; registers and memory are
 * the caller's business. Everything else is DECODE_UNKNOWN, and the guest gets its fault.
 * Source: Intel SDM volume 2, chapter 2 and appendix A; AMD APM volume 3.
 */
#ifndef PV_DECODE_H
#define PV_DECODE_H

#include "hypercall/abi.h"

#define INSN_MAX_LENGTH 15
#define INSN_NO_REG 0xff
#define INSN_RIP 16 /* as base: relative to the next instruction */

/* clang-format off */
enum insn_op {
    /* Privileged instructions and ports */
    OP_CLI, OP_STI, OP_HLT, OP_IN, OP_OUT, OP_INS, OP_OUTS, OP_RDMSR, OP_WRMSR, OP_RDTSC, OP_RDTSCP, OP_RDPMC,
    OP_CPUID, OP_READ_CR, OP_WRITE_CR, OP_READ_DR, OP_WRITE_DR, OP_CLTS, OP_LMSW, OP_SMSW, OP_INVLPG, OP_INVD,
    OP_WBINVD, OP_XGETBV, OP_XSETBV, OP_SWAPGS, OP_DESCRIPTOR_TABLE, /* LGDT, LIDT, SGDT, SIDT */
    /* Writes to memory, in the order of the group 1 opcodes first */
    OP_ADD, OP_OR, OP_ADC, OP_SBB, OP_AND, OP_SUB, OP_XOR,
    OP_MOV, OP_XCHG, OP_CMPXCHG, OP_XADD, OP_INC, OP_DEC, OP_NOT, OP_NEG, OP_BTS, OP_BTR, OP_BTC, OP_STOS, OP_MOVS,
};
/* clang-format on */

enum insn_segment { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS };

struct insn {
    uint8_t op;           /* enum insn_op */
    uint8_t length;       /* bytes, prefixes included */
    uint8_t size;         /* operand, in bytes: 1, 2, 4, 8 */
    uint8_t address_size; /* 2, 4, 8 */
    uint8_t segment;      /* enum insn_segment of the memory operand */
    bool rex, lock, repeat;
    bool memory;                /* the r/m operand is memory */
    bool immediate;             /* the source is imm, not reg */
    bool port_immediate;        /* IN, OUT: the port is imm, not DX */
    uint8_t reg;                /* ModRM.reg with REX.R; for CR and DR: which */
    uint8_t rm;                 /* ModRM.rm with REX.B, if not memory */
    uint8_t base, index, scale; /* registers or INSN_NO_REG, INSN_RIP; scale: shift count */
    int64_t displacement;
    uint64_t imm; /* sign-extended to 64 bits */
};

enum decode_result { DECODE_OK, DECODE_SHORT /* more bytes are needed */, DECODE_UNKNOWN };

/* Decodes the instruction at p, of which n bytes are there. long_mode: 64-bit code; else 32-bit code. */
enum decode_result insn_decode(const uint8_t *p, unsigned n, bool long_mode, struct insn *insn);

/*
 * MOV or XCHG of a 64-bit register and where another one points: how kernels write page tables. code: the instruction's first
 * eight bytes, of 64-bit code. False: it is something else.
 */
#define PLAIN_STORE_LENGTH 3
struct plain_store {
    bool exchange;
    uint8_t reg, base; /* numbers of registers */
};
static inline bool insn_plain_store(uint64_t code, struct plain_store *s)
{
    uint32_t form = code & 0xc0fff8, rm = code >> 16 & 7; /* REX.W, opcode, ModRM without displacement */

    s->exchange = form == 0x8748;
    if ((!s->exchange && form != 0x8948) || rm == 4 || rm == 5)
        return false;
    s->reg = (code >> 19 & 7) | (code & 4) << 1;
    s->base = rm | (code & 1) << 3;
    return true;
}

/* The register with this number in an instruction (0 rax, 1 rcx, ... 15 r15). */
extern const uint8_t insn_reg_offsets[16];
static inline uint64_t *insn_reg(struct cpu_user_regs *regs, unsigned number)
{
    return (uint64_t *)((char *)regs + insn_reg_offsets[number & 15]);
}
/* Its value as an operand of 'size' bytes (ah ... bh where no REX prefix selects the others), and the write of one:
 * 4 bytes clear the upper half, 1 and 2 leave the rest. */
uint64_t insn_reg_read(struct cpu_user_regs *regs, unsigned number, unsigned size, bool rex);
void insn_reg_write(struct cpu_user_regs *regs, unsigned number, unsigned size, bool rex, uint64_t value);

/* Linear address of the memory operand; segment_base is that of insn->segment. regs->rip is the instruction's start. */
uint64_t insn_address(const struct insn *insn, struct cpu_user_regs *regs, uint64_t segment_base);

/* What 'op' (OP_ADD ... OP_XOR, OP_INC ... OP_BTC, OP_MOV) makes of the destination's old value; changes the arithmetic
 * flags in *rflags as the processor does (AF after logic operations is cleared). Values are of 'size' bytes. For the
 * bit operations the source is the bit number, taken modulo the operand's width. */
uint64_t insn_alu(enum insn_op op, unsigned size, uint64_t old, uint64_t source, uint64_t *rflags);
/* The flags of CMP old, source. */
void insn_compare(unsigned size, uint64_t old, uint64_t source, uint64_t *rflags);

#endif
