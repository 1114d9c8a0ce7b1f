/*
 * Writable page tables: a PV kernel maps its page tables read-only and still now and then writes an entry with a plain
 * instruction (22 times a fork and exec in Linux). The fault comes here; the instruction is decoded, what it would
 * store is worked out, and the entry is updated as by mmu_update, with all its checks. One entry, one instruction;
 * everything else is a fault of the guest's.
 */
#include "cpu/instr.h"
#include "domain/guest_access.h"
#include "lib/log.h"
#include "pv/emulate.h"
#include "pv/mmu.h"

#define ATTEMPTS 16 /* of a compare and exchange against the guest's other vcpus; then the guest just tries again */

struct target {
    mfn_t table;
    unsigned offset, bytes;
};

static uint64_t read_entry(const struct target *t)
{
    const volatile void *p = (const char *)mfn_to_virt(t->table) + t->offset;

    switch (t->bytes) {
    case 1:
        return *(const volatile uint8_t *)p;
    case 2:
        return *(const volatile uint16_t *)p;
    case 4:
        return *(const volatile uint32_t *)p;
    }
    return *(const volatile uint64_t *)p;
}

/* Store without regard to what was there. */
static bool store(struct vcpu *v, const struct target *t, uint64_t value)
{
    uint64_t seen;

    return mmu_write_entry_bytes(v, t->table, t->offset, t->bytes, value, false, 0, &seen) == 0;
}

/* Source operand: the immediate or the register, cut to the operand's size. */
static uint64_t source_of(const struct insn *i, struct cpu_user_regs *regs)
{
    if (!i->immediate)
        return insn_reg_read(regs, i->reg, i->size, i->rex);
    return i->size == 8 ? i->imm : i->imm & ((1UL << (i->size * 8)) - 1);
}

/* Read, compute, compare and exchange. *old_out is what was there, for XCHG and XADD. */
static bool read_modify_write(struct vcpu *v, const struct target *t, const struct insn *i, uint64_t source,
                              uint64_t *rflags, uint64_t *old_out)
{
    enum insn_op op = i->op == OP_XADD ? OP_ADD : i->op; /* XCHG stores the source, as MOV */
    uint64_t old = read_entry(t);

    for (unsigned n = 0; n < ATTEMPTS; n++) {
        uint64_t flags = *rflags, seen = old;
        uint64_t value = insn_alu(op, i->size, old, source, &flags);
        int rc = mmu_write_entry_bytes(v, t->table, t->offset, t->bytes, value, true, old, &seen);

        if (rc == 0) {
            *rflags = flags;
            *old_out = old;
            return true;
        }
        if (rc != -EAGAIN)
            return false;
        old = seen;
    }
    return false;
}

static bool compare_exchange(struct vcpu *v, const struct target *t, const struct insn *i, struct cpu_user_regs *regs)
{
    uint64_t expected = insn_reg_read(regs, 0, i->size, true), seen = read_entry(t);

    if (seen == expected) {
        int rc = mmu_write_entry_bytes(v, t->table, t->offset, t->bytes, insn_reg_read(regs, i->reg, i->size, i->rex),
                                       true, expected, &seen);

        if (rc && rc != -EAGAIN)
            return false;
        if (!rc)
            seen = expected;
    }
    if (seen != expected)
        insn_reg_write(regs, 0, i->size, true, seen);
    insn_compare(i->size, expected, seen, &regs->rflags);
    return true;
}

static void step(struct cpu_user_regs *regs, const struct insn *i, unsigned reg, bool back)
{
    uint64_t *r = insn_reg(regs, reg);

    *r += back ? -(uint64_t)i->size : i->size;
    if (i->address_size == 4)
        *r = (uint32_t)*r;
}

#define RCX 1
#define RSI 6
#define RDI 7

/* One iteration of STOS or MOVS. 'again': REP goes on, rip stays. */
static bool string_store(struct vcpu *v, const struct target *t, const struct insn *i, struct cpu_user_regs *regs,
                         bool *again)
{
    bool back = regs->rflags & EFLAGS_DF;
    uint64_t value = 0, base;

    if (i->op == OP_STOS) {
        value = insn_reg_read(regs, 0, i->size, true);
    } else {
        uint64_t from = i->address_size == 4 ? (uint32_t)regs->rsi : regs->rsi;

        if (!pv_segment_base(v, i->segment, true, &base) ||
            copy_from_guest(&value, (const void *)(from + base), i->size))
            return false;
    }
    if (!store(v, t, value))
        return false;
    step(regs, i, RDI, back);
    if (i->op == OP_MOVS)
        step(regs, i, RSI, back);
    if (i->repeat) {
        uint64_t *count = insn_reg(regs, RCX);

        *count = i->address_size == 4 ? (uint32_t)(*count - 1) : *count - 1;
        *again = *count != 0;
    }
    return true;
}

/* Where the instruction writes, to be sure that it is what faulted. */
static bool destination(struct vcpu *v, const struct insn *i, struct cpu_user_regs *regs, unsigned long *va)
{
    uint64_t base;

    if (i->op == OP_STOS || i->op == OP_MOVS) {
        *va = i->address_size == 4 ? (uint32_t)regs->rdi : regs->rdi;
        return true;
    }
    if (i->segment < SEG_FS)
        base = 0;
    else if (!pv_segment_base(v, i->segment, true, &base))
        return false;
    *va = insn_address(i, regs, base);
    /* A bit number in a register reaches beyond the operand. */
    if (i->op >= OP_BTS && i->op <= OP_BTC && !i->immediate) {
        int64_t bit = (int64_t)(*insn_reg(regs, i->reg) << (64 - i->size * 8)) >> (64 - i->size * 8);

        *va += (bit >> ilog2(i->size * 8U)) * i->size;
    }
    return true;
}

/* Is m a page table in use of d's? A look without a lock: mmu_write_entry_bytes decides. */
static bool is_page_table(const struct domain *d, mfn_t m)
{
    uint64_t type;

    if (!mfn_valid(m) || frame_owner(frame_of(m)) != d->id)
        return false;
    type = READ_ONCE(frame_of(m)->type);
    return TYPE_COUNT(type) && TYPE_OF(type) >= FRAME_L1 && TYPE_OF(type) <= FRAME_L4;
}

/*
 * The short way for the instructions with which Linux clears entries one by one: a plain store to an L1 table, in 64-bit code,
 * as a guest's kernel runs it, where DS has no base. False: it is something else; nothing was done.
 */
static bool plain_store(struct vcpu *v, struct cpu_user_regs *regs, unsigned long va)
{
    struct plain_store s;
    uint64_t code[2], *reg, seen;

    if (unlikely((regs->rip & ~PAGE_MASK) > PAGE_SIZE - sizeof(code) || (regs->rflags & EFLAGS_TF) || va & 7))
        return false;
    if (unlikely(!guest_read16(code, (const void *)regs->rip) || !insn_plain_store(code[0], &s)))
        return false;
    reg = insn_reg(regs, s.reg);
    if (unlikely(*insn_reg(regs, s.base) != va || !mmu_write_l1_short(v, va, *reg, &seen)))
        return false;
    if (s.exchange)
        *reg = seen;
    regs->rip += PLAIN_STORE_LENGTH;
    regs->rflags &= ~EFLAGS_RF;
    return true;
}

bool mmu_emulate_pt_write(struct cpu_user_regs *regs, unsigned long va)
{
    struct vcpu *v = current;
    struct insn i;
    struct domain_locked l;
    struct target t;
    uint64_t entry, source, old;
    unsigned long to;
    mfn_t l1;
    unsigned slot;
    bool long_mode, again = false, ok;

    if (likely(plain_store(v, regs, va)))
        return true;
    l = domain_mm_lock(v->domain);
    entry = mmu_walk(v, va, &l1, &slot);
    domain_mm_unlock(l);
    if ((entry & (PTE_PRESENT | PTE_WRITE)) != PTE_PRESENT || !is_page_table(v->domain, pte_mfn(entry)))
        return false;
    if (!pv_fetch_insn(v, regs, &i, &long_mode) || i.op < OP_ADD || !destination(v, &i, regs, &to) || to != va)
        return false;
    t = (struct target){pte_mfn(entry), (unsigned)(va & ~PAGE_MASK), i.size};
    if ((t.offset & 7) + t.bytes > 8) {
        guest_log(LOG_WARNING, "write of %u bytes to a page table at %#lx, across entries\n", t.bytes, va);
        return false;
    }

    switch (i.op) {
    case OP_MOV:
        ok = store(v, &t, source_of(&i, regs));
        break;
    case OP_STOS:
    case OP_MOVS:
        ok = string_store(v, &t, &i, regs, &again);
        break;
    case OP_CMPXCHG:
        ok = compare_exchange(v, &t, &i, regs);
        break;
    default:
        source = source_of(&i, regs);
        ok = read_modify_write(v, &t, &i, source, &regs->rflags, &old);
        if (ok && (i.op == OP_XCHG || i.op == OP_XADD))
            insn_reg_write(regs, i.reg, i.size, i.rex, old);
        break;
    }
    if (ok && !again)
        pv_finish_insn(regs, i.length, long_mode);
    return ok;
}
