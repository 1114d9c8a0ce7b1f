/* The instruction decoder: see decode.h. */
#include "pv/decode.h"
#include "cpu/instr.h"

struct cursor {
    const uint8_t *p;
    unsigned n, at;
    bool overrun;
};

static uint8_t next8(struct cursor *c)
{
    if (c->at >= c->n) {
        c->overrun = true;
        return 0;
    }
    return c->p[c->at++];
}

static uint64_t next_signed(struct cursor *c, unsigned bytes)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < bytes; i++)
        v |= (uint64_t)next8(c) << (8 * i);
    if (bytes == 8)
        return v;
    return (uint64_t)((int64_t)(v << (64 - 8 * bytes)) >> (64 - 8 * bytes));
}

#define REX_B 1
#define REX_X 2
#define REX_R 4
#define REX_W 8

struct prefixes {
    uint8_t rex;
    bool operand16, address_override, segment_given, f2, f3;
};

/* ModRM, SIB and displacement. False for the 16-bit addressing forms, which no code that Croft emulates uses. */
static bool decode_modrm(struct cursor *c, struct insn *i, const struct prefixes *pre, bool long_mode)
{
    uint8_t modrm = next8(c), mod = modrm >> 6, rm = modrm & 7;

    i->reg = (modrm >> 3 & 7) | (pre->rex & REX_R ? 8 : 0);
    i->rm = rm | (pre->rex & REX_B ? 8 : 0);
    i->base = i->index = INSN_NO_REG;
    if (mod == 3)
        return true;
    i->memory = true;
    if (i->address_size == 2)
        return false;
    i->base = i->rm;
    if (rm == 4) {
        uint8_t sib = next8(c);

        i->scale = sib >> 6;
        i->index = (sib >> 3 & 7) | (pre->rex & REX_X ? 8 : 0);
        if (i->index == 4)
            i->index = INSN_NO_REG;
        rm = sib & 7;
        i->base = rm | (pre->rex & REX_B ? 8 : 0);
        if (rm == 5 && mod == 0) {
            i->base = INSN_NO_REG;
            i->displacement = (int64_t)next_signed(c, 4);
        }
    } else if (rm == 5 && mod == 0) {
        i->base = long_mode ? INSN_RIP : INSN_NO_REG;
        i->displacement = (int64_t)next_signed(c, 4);
    }
    if (mod == 1)
        i->displacement = (int64_t)next_signed(c, 1);
    else if (mod == 2)
        i->displacement = (int64_t)next_signed(c, 4);
    if (!pre->segment_given && (i->base == 4 || i->base == 5))
        i->segment = SEG_SS;
    return true;
}

/* Width of an operand whose opcode's lowest bit tells byte from word/dword/qword. */
static uint8_t operand_size(uint8_t opcode, const struct prefixes *pre)
{
    if (!(opcode & 1))
        return 1;
    if (pre->rex & REX_W)
        return 8;
    return pre->operand16 ? 2 : 4;
}

static unsigned immediate_bytes(unsigned size) { return size < 4 ? size : 4; }

static const uint8_t group1[8] = {OP_ADD, OP_OR, OP_ADC, OP_SBB, OP_AND, OP_SUB, OP_XOR, OP_MOV /* CMP: not a write */};

/* Port instructions never take 64-bit operands. */
static uint8_t port_size(uint8_t opcode, const struct prefixes *pre)
{
    return !(opcode & 1) ? 1 : pre->operand16 ? 2 : 4;
}

static bool decode_one_byte(struct cursor *c, uint8_t op, struct insn *i, const struct prefixes *pre, bool long_mode)
{
    i->size = operand_size(op, pre);
    if (op < 0x38 && (op & 7) < 2) { /* ADD ... XOR Eb,Gb and Ev,Gv */
        i->op = group1[op >> 3];
        return decode_modrm(c, i, pre, long_mode) && i->memory;
    }
    if (op >= 0xec && op <= 0xef) {
        i->op = op < 0xee ? OP_IN : OP_OUT;
        i->size = port_size(op, pre);
        return true;
    }
    if (op >= 0xe4 && op <= 0xe7) {
        i->op = op < 0xe6 ? OP_IN : OP_OUT;
        i->size = port_size(op, pre);
        i->port_immediate = true;
        i->imm = next8(c);
        return true;
    }
    if (op >= 0x6c && op <= 0x6f) {
        i->op = op < 0x6e ? OP_INS : OP_OUTS;
        i->size = port_size(op, pre);
        i->repeat = pre->f3 || pre->f2;
        return true;
    }
    switch (op) {
    case 0x88:
    case 0x89:
        i->op = OP_MOV;
        return decode_modrm(c, i, pre, long_mode) && i->memory;
    case 0xc6:
    case 0xc7:
        i->op = OP_MOV;
        if (!decode_modrm(c, i, pre, long_mode) || !i->memory || (i->reg & 7))
            return false;
        i->immediate = true;
        i->imm = next_signed(c, immediate_bytes(i->size));
        return true;
    case 0x86:
    case 0x87:
        i->op = OP_XCHG;
        return decode_modrm(c, i, pre, long_mode) && i->memory;
    case 0x80:
    case 0x81:
    case 0x83:
        if (!decode_modrm(c, i, pre, long_mode) || !i->memory || (i->reg & 7) == 7)
            return false;
        i->op = group1[i->reg & 7];
        i->immediate = true;
        i->imm = next_signed(c, op == 0x83 ? 1 : immediate_bytes(i->size));
        return true;
    case 0xa2:
    case 0xa3: /* MOV moffs, accumulator */
        i->op = OP_MOV;
        i->memory = true;
        i->reg = 0;
        i->base = i->index = INSN_NO_REG;
        if (i->address_size == 2)
            return false;
        i->displacement = (int64_t)next_signed(c, i->address_size);
        if (i->address_size == 4)
            i->displacement = (uint32_t)i->displacement;
        return true;
    case 0xa4:
    case 0xa5:
    case 0xaa:
    case 0xab:
        i->op = op < 0xa8 ? OP_MOVS : OP_STOS;
        i->repeat = pre->f3 || pre->f2;
        return true;
    case 0xf6:
    case 0xf7:
        if (!decode_modrm(c, i, pre, long_mode) || !i->memory || ((i->reg & 7) != 2 && (i->reg & 7) != 3))
            return false;
        i->op = (i->reg & 7) == 2 ? OP_NOT : OP_NEG;
        return true;
    case 0xfe:
    case 0xff:
        if (!decode_modrm(c, i, pre, long_mode) || !i->memory || (i->reg & 7) > 1)
            return false;
        i->op = (i->reg & 7) ? OP_DEC : OP_INC;
        return true;
    case 0xf4:
        i->op = OP_HLT;
        return true;
    case 0xfa:
        i->op = OP_CLI;
        return true;
    case 0xfb:
        i->op = OP_STI;
        return true;
    }
    return false;
}

/* 0F 01: descriptor tables, machine status word, INVLPG, and what the register forms were given to later. */
static bool decode_group7(struct cursor *c, struct insn *i, const struct prefixes *pre, bool long_mode)
{
    uint8_t modrm = c->at < c->n ? c->p[c->at] : 0;

    if (!decode_modrm(c, i, pre, long_mode))
        return false;
    if (i->memory) {
        unsigned n = i->reg & 7; /* 0-3: SGDT, SIDT, LGDT, LIDT; 5: none of ours */

        i->op = n < 4 ? OP_DESCRIPTOR_TABLE : n == 4 ? OP_SMSW : n == 6 ? OP_LMSW : OP_INVLPG;
        i->size = 2;
        return n != 5;
    }
    switch (modrm) {
    case 0xd0:
        i->op = OP_XGETBV;
        return true;
    case 0xd1:
        i->op = OP_XSETBV;
        return true;
    case 0xf8:
        i->op = OP_SWAPGS;
        return true;
    case 0xf9:
        i->op = OP_RDTSCP;
        return true;
    }
    switch (i->reg & 7) {
    case 4:
        i->op = OP_SMSW;
        i->size = operand_size(1, pre);
        return true;
    case 6:
        i->op = OP_LMSW;
        i->size = 2;
        return true;
    }
    return false;
}

static bool decode_two_byte(struct cursor *c, struct insn *i, const struct prefixes *pre, bool long_mode)
{
    uint8_t op = next8(c);

    i->size = operand_size(op, pre);
    switch (op) {
    case 0x01:
        return decode_group7(c, i, pre, long_mode);
    case 0x06:
        i->op = OP_CLTS;
        return true;
    case 0x08:
        i->op = OP_INVD;
        return true;
    case 0x09:
        i->op = OP_WBINVD;
        return true;
    case 0x20:
    case 0x21:
    case 0x22:
    case 0x23: {
        uint8_t modrm = next8(c); /* the mod field is ignored here: the operand is always a register */

        i->op = op == 0x20 ? OP_READ_CR : op == 0x21 ? OP_READ_DR : op == 0x22 ? OP_WRITE_CR : OP_WRITE_DR;
        i->size = long_mode ? 8 : 4;
        i->reg = (modrm >> 3 & 7) | (pre->rex & REX_R ? 8 : 0);
        i->rm = (modrm & 7) | (pre->rex & REX_B ? 8 : 0);
        return true;
    }
    case 0x30:
        i->op = OP_WRMSR;
        return true;
    case 0x31:
        i->op = OP_RDTSC;
        return true;
    case 0x32:
        i->op = OP_RDMSR;
        return true;
    case 0x33:
        i->op = OP_RDPMC;
        return true;
    case 0xa2:
        i->op = OP_CPUID;
        return true;
    case 0xab:
    case 0xb3:
    case 0xbb:
        i->op = op == 0xab ? OP_BTS : op == 0xb3 ? OP_BTR : OP_BTC;
        return decode_modrm(c, i, pre, long_mode) && i->memory;
    case 0xba:
        i->size = operand_size(1, pre);
        if (!decode_modrm(c, i, pre, long_mode) || !i->memory || (i->reg & 7) < 5)
            return false;
        i->op = OP_BTS + ((i->reg & 7) - 5);
        i->immediate = true;
        i->imm = next8(c);
        return true;
    case 0xb0:
    case 0xb1:
        i->op = OP_CMPXCHG;
        return decode_modrm(c, i, pre, long_mode) && i->memory;
    case 0xc0:
    case 0xc1:
        i->op = OP_XADD;
        return decode_modrm(c, i, pre, long_mode) && i->memory;
    case 0xc3: /* MOVNTI */
        i->op = OP_MOV;
        if (pre->operand16 || pre->f2 || pre->f3)
            return false;
        return decode_modrm(c, i, pre, long_mode) && i->memory;
    }
    return false;
}

/* May the instruction carry LOCK? (Else the processor answers #UD, and it would not have come here.) */
static bool lockable(const struct insn *i)
{
    return i->memory && ((i->op >= OP_ADD && i->op <= OP_XOR) || (i->op >= OP_XCHG && i->op <= OP_BTC));
}

static bool decode_plain_store(const uint8_t *p, struct insn *i)
{
    struct plain_store s;

    if (!insn_plain_store(p[0] | p[1] << 8 | p[2] << 16, &s))
        return false;
    i->op = s.exchange ? OP_XCHG : OP_MOV;
    i->length = PLAIN_STORE_LENGTH;
    i->size = i->address_size = 8;
    i->rex = i->memory = true;
    i->reg = s.reg;
    i->rm = i->base = s.base;
    return true;
}

enum decode_result insn_decode(const uint8_t *p, unsigned n, bool long_mode, struct insn *i)
{
    struct cursor c = {.p = p, .n = n < INSN_MAX_LENGTH ? n : INSN_MAX_LENGTH};
    struct prefixes pre = {0};
    uint8_t op;
    bool ok;

    *i = (struct insn){.segment = SEG_DS, .base = INSN_NO_REG, .index = INSN_NO_REG};
    if (long_mode && n >= PLAIN_STORE_LENGTH && decode_plain_store(p, i))
        return DECODE_OK;
    for (;;) {
        op = next8(&c);
        if (long_mode && (op & 0xf0) == 0x40) {
            pre.rex = op;
            i->rex = true;
            continue;
        }
        if (op == 0x66)
            pre.operand16 = true;
        else if (op == 0x67)
            pre.address_override = true;
        else if (op == 0xf0)
            i->lock = true;
        else if (op == 0xf2)
            pre.f2 = true;
        else if (op == 0xf3)
            pre.f3 = true;
        else if (op == 0x64 || op == 0x65)
            i->segment = op == 0x64 ? SEG_FS : SEG_GS, pre.segment_given = true;
        else if ((op & 0xe7) == 0x26) {
            if (!long_mode) /* ES, CS, SS, DS overrides do nothing in 64-bit code */
                i->segment = op >> 3 & 3, pre.segment_given = true;
        } else
            break;
        pre.rex = 0; /* a REX prefix counts only right before the opcode */
        i->rex = false;
    }
    i->address_size = long_mode ? (pre.address_override ? 4 : 8) : (pre.address_override ? 2 : 4);
    ok = op == 0x0f ? decode_two_byte(&c, i, &pre, long_mode) : decode_one_byte(&c, op, i, &pre, long_mode);
    if (c.overrun)
        return n < INSN_MAX_LENGTH ? DECODE_SHORT : DECODE_UNKNOWN;
    if (!ok || (i->lock && !lockable(i)))
        return DECODE_UNKNOWN;
    i->length = (uint8_t)c.at;
    return DECODE_OK;
}

const uint8_t insn_reg_offsets[16] = {
    offsetof(struct cpu_user_regs, rax), offsetof(struct cpu_user_regs, rcx), offsetof(struct cpu_user_regs, rdx),
    offsetof(struct cpu_user_regs, rbx), offsetof(struct cpu_user_regs, rsp), offsetof(struct cpu_user_regs, rbp),
    offsetof(struct cpu_user_regs, rsi), offsetof(struct cpu_user_regs, rdi), offsetof(struct cpu_user_regs, r8),
    offsetof(struct cpu_user_regs, r9),  offsetof(struct cpu_user_regs, r10), offsetof(struct cpu_user_regs, r11),
    offsetof(struct cpu_user_regs, r12), offsetof(struct cpu_user_regs, r13), offsetof(struct cpu_user_regs, r14),
    offsetof(struct cpu_user_regs, r15),
};

static uint64_t size_mask(unsigned size) { return size == 8 ? ~0UL : (1UL << (size * 8)) - 1; }

uint64_t insn_reg_read(struct cpu_user_regs *regs, unsigned number, unsigned size, bool rex)
{
    if (size == 1 && !rex && number >= 4 && number < 8)
        return *insn_reg(regs, number - 4) >> 8 & 0xff;
    return *insn_reg(regs, number) & size_mask(size);
}

void insn_reg_write(struct cpu_user_regs *regs, unsigned number, unsigned size, bool rex, uint64_t value)
{
    uint64_t *r = insn_reg(regs, number), mask = size_mask(size);

    if (size == 1 && !rex && number >= 4 && number < 8) {
        r = insn_reg(regs, number - 4);
        *r = (*r & ~0xff00UL) | (value & 0xff) << 8;
    } else if (size >= 4) {
        *r = value & mask;
    } else {
        *r = (*r & ~mask) | (value & mask);
    }
}

uint64_t insn_address(const struct insn *i, struct cpu_user_regs *regs, uint64_t segment_base)
{
    uint64_t a = (uint64_t)i->displacement;

    if (i->base == INSN_RIP)
        a += regs->rip + i->length;
    else if (i->base != INSN_NO_REG)
        a += *insn_reg(regs, i->base);
    if (i->index != INSN_NO_REG)
        a += *insn_reg(regs, i->index) << i->scale;
    if (i->address_size == 4)
        a = (uint32_t)a;
    return a + segment_base;
}

#define FLAG_CF (1UL << 0)
#define FLAG_PF (1UL << 2)
#define FLAG_AF (1UL << 4)
#define FLAG_ZF (1UL << 6)
#define FLAG_SF (1UL << 7)
#define FLAG_OF (1UL << 11)

static uint64_t result_flags(uint64_t r, unsigned size)
{
    return (r == 0 ? FLAG_ZF : 0) | (r >> (size * 8 - 1) & 1 ? FLAG_SF : 0) |
           (__builtin_parity((unsigned)(r & 0xff)) ? 0 : FLAG_PF);
}

/* a + b + carry, or with 'subtract' a - b - carry; all six flags into *f. */
static uint64_t add_sub(unsigned size, uint64_t a, uint64_t b, unsigned carry, bool subtract, uint64_t *f)
{
    uint64_t mask = size_mask(size), sign = 1UL << (size * 8 - 1), r;

    if (subtract) {
        r = (a - b - carry) & mask;
        *f = (a < b || (carry && a == b) ? FLAG_CF : 0) | ((a ^ b) & (a ^ r) & sign ? FLAG_OF : 0);
    } else {
        r = (a + b + carry) & mask;
        *f = (r < a || (carry && r == a) ? FLAG_CF : 0) | (~(a ^ b) & (a ^ r) & sign ? FLAG_OF : 0);
    }
    *f |= ((a ^ b ^ r) & 0x10 ? FLAG_AF : 0) | result_flags(r, size);
    return r;
}

#define FLAGS_ALL (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

uint64_t insn_alu(enum insn_op op, unsigned size, uint64_t old, uint64_t source, uint64_t *rflags)
{
    uint64_t mask = size_mask(size), set = 0, affected = FLAGS_ALL, r, bit;

    old &= mask;
    source &= mask;
    switch (op) {
    case OP_ADD:
        r = add_sub(size, old, source, 0, false, &set);
        break;
    case OP_ADC:
        r = add_sub(size, old, source, *rflags & FLAG_CF, false, &set);
        break;
    case OP_SUB:
        r = add_sub(size, old, source, 0, true, &set);
        break;
    case OP_SBB:
        r = add_sub(size, old, source, *rflags & FLAG_CF, true, &set);
        break;
    case OP_INC:
        r = add_sub(size, old, 1, 0, false, &set);
        affected &= ~FLAG_CF;
        break;
    case OP_DEC:
        r = add_sub(size, old, 1, 0, true, &set);
        affected &= ~FLAG_CF;
        break;
    case OP_NEG:
        r = add_sub(size, 0, old, 0, true, &set);
        break;
    case OP_OR:
    case OP_AND:
    case OP_XOR:
        r = op == OP_OR ? old | source : op == OP_AND ? old & source : old ^ source;
        set = result_flags(r, size);
        break;
    case OP_NOT:
        return ~old & mask;
    case OP_BTS:
    case OP_BTR:
    case OP_BTC: /* the other flags are undefined: left as they are */
        bit = 1UL << (source & (size * 8 - 1));
        r = op == OP_BTS ? old | bit : op == OP_BTR ? old & ~bit : old ^ bit;
        set = old & bit ? FLAG_CF : 0;
        affected = FLAG_CF;
        break;
    default: /* OP_MOV and its like */
        return source;
    }
    *rflags = (*rflags & ~affected) | (set & affected);
    return r;
}

void insn_compare(unsigned size, uint64_t old, uint64_t source, uint64_t *rflags)
{
    insn_alu(OP_SUB, size, old, source, rflags);
}
