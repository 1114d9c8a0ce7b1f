/* What a guest did that Croft must answer, where the processor's maker does not matter: see hvm/vendor.h. */
#include "cpu/cpu.h"
#include "cpu/fpu.h"
#include "cpu/instr.h"
#include "domain/domain.h"
#include "hvm/vendor.h"
#include "hvm/vmcb.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"
#include "lib/string.h"
#include "memory/map.h"
#include "pv/cpuid.h"
#include "pv/msr.h"
#include "pv/traps.h"

#define MSR_HYPERCALL_PAGE 0x40000000U
#define X2APIC_MSRS 0x100U
#define STRING_BYTES 256U
#define DR6_ONES 0xffff0ff0UL
#define DR6_USED 0xe00fUL
#define CR0_KNOWN (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)
#define DR6_BD (1UL << 13)
#define DR7_ONE 0x400UL
#define DR7_ZERO 0xd000UL /* and all above bit 31 */
#define DR7_GD (1UL << 13)
#define DR6_BD (1UL << 13)

static uint64_t get(const struct vcpu *v, enum hvm_reg reg) { return hvm_vendor->get(v, reg); }

static bool protection_fault(struct vcpu *v)
{
    hvm_inject_exception(v, X86_GP, 0);
    return false;
}

bool hvm_exit_cpuid(struct vcpu *v, struct cpu_user_regs *regs)
{
    uint32_t out[4];

    pv_cpuid(v, regs->eax, regs->ecx, out);
    regs->rax = out[0];
    regs->rbx = out[1];
    regs->rcx = out[2];
    regs->rdx = out[3];
    return true;
}

void hvm_exit_hlt(struct vcpu *v, struct cpu_user_regs *regs)
{
    if (regs->rflags & EFLAGS_IF)
        vcpu_block();
    else
        hvm_halt_for_good(v);
}

bool hvm_exit_hypercall(struct vcpu *v, struct cpu_user_regs *regs)
{
    v->stats_hypercalls++;
    if (likely(hvm_vendor->in_64_bit_kernel(v)))
        return hypercall_translated(regs);
    if (get(v, HVM_CPL))
        regs->rax = -EPERM;
    else
        regs->rax = (uint32_t)refuse(-ENOSYS, "hypercall %u from 32-bit code\n", regs->eax);
    return true;
}

/* ---- MSRs ---- */

static bool write_efer(struct vcpu *v, uint64_t value)
{
    uint64_t old = get(v, HVM_EFER);

    if (value & ~(EFER_GUEST | EFER_LMA) || ((value ^ old) & EFER_LME && get(v, HVM_CR0) & CR0_PG))
        return false;
    hvm_vendor->set(v, HVM_EFER, (value & EFER_GUEST) | (old & EFER_LMA));
    return true;
}

bool hvm_pat_legal(uint64_t pat)
{
    for (unsigned i = 0; i < 64; i += 8) {
        uint64_t type = pat >> i & 0xff;

        if (type > 7 || type == 2 || type == 3)
            return false;
    }
    return true;
}

static bool write_pat(struct vcpu *v, uint64_t value)
{
    if (!hvm_pat_legal(value))
        return false;
    hvm_vendor->set(v, HVM_PAT, value);
    return true;
}

/* mov $number, %eax; vmmcall or vmcall; ret */
static bool write_hypercall_page(struct vcpu *v, uint64_t value)
{
    const uint8_t *call = hvm_vendor->vmcall, code[] = {0xb8, 0, 0, 0, 0, call[0], call[1], call[2], 0xc3};
    mfn_t m = value & ~PAGE_MASK ? INVALID_MFN : p2m_get_frame(v->domain, GFN(value >> PAGE_SHIFT), true);
    uint8_t *page;

    if (mfn_eq(m, INVALID_MFN)) {
        guest_log(LOG_WARNING, "hypercall page: frame %#lx is not there\n", value >> PAGE_SHIFT);
        return false;
    }
    page = mfn_to_virt(m);
    memset(page, 0xcc, PAGE_SIZE);
    for (unsigned nr = 0; nr < PAGE_SIZE / 32; nr++) {
        memcpy(page + 32 * nr, code, sizeof(code));
        page[32 * nr + 1] = (uint8_t)nr;
    }
    frame_put_writable(m);
    return true;
}

bool hvm_exit_rdmsr(struct vcpu *v, struct cpu_user_regs *regs)
{
    uint32_t msr = regs->ecx;
    uint64_t value;
    bool ok = true;

    if (msr - MSR_X2APIC < X2APIC_MSRS || msr == MSR_TSC_DEADLINE)
        ok = vlapic_read_msr(v, msr, &value);
    else if (msr == MSR_EFER)
        value = get(v, HVM_EFER);
    else if (msr == MSR_PAT)
        value = get(v, HVM_PAT);
    else if (msr == MSR_APIC_BASE)
        value = v->hvm->vlapic.base;
    else
        ok = msr_read(v, msr, &value);
    if (!ok)
        return protection_fault(v);
    regs->rax = (uint32_t)value;
    regs->rdx = value >> 32;
    return true;
}

bool hvm_exit_wrmsr(struct vcpu *v, struct cpu_user_regs *regs)
{
    uint32_t msr = regs->ecx;
    uint64_t value = (uint64_t)regs->edx << 32 | regs->eax;
    bool ok;

    if (msr - MSR_X2APIC < X2APIC_MSRS || msr == MSR_TSC_DEADLINE)
        ok = vlapic_write_msr(v, msr, value);
    else if (msr == MSR_EFER)
        ok = write_efer(v, value);
    else if (msr == MSR_PAT)
        ok = write_pat(v, value);
    else if (msr == MSR_APIC_BASE)
        ok = vlapic_write_base(v, value);
    else if (msr == MSR_HYPERCALL_PAGE)
        ok = write_hypercall_page(v, value);
    else
        ok = msr_write(v, msr, value);
    return ok || protection_fault(v);
}

bool hvm_exit_xsetbv(struct vcpu *v, struct cpu_user_regs *regs)
{
    if (get(v, HVM_CPL) || regs->ecx || !fpu_set_xcr0(v, (uint64_t)regs->edx << 32 | regs->eax))
        return protection_fault(v);
    return true;
}

/* ---- Control and debug registers ---- */

uint64_t hvm_cr4_allowed(const struct vcpu *v)
{
    const struct cpu_policy *p = cpu_policy_of(v->domain);

    return CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE | CR4_OSFXSR |
           CR4_OSXMMEXCPT | cpu_policy_cr4(p);
}

/* Only where the processor has the guest leave for it: VT-x */
static bool write_control0(struct vcpu *v, uint64_t value)
{
    uint64_t old = get(v, HVM_CR0), efer = get(v, HVM_EFER), cr4 = get(v, HVM_CR4);
    bool long_code = hvm_vendor->segment(v, SEG_CS).attributes & SEGMENT_L;

    if (value >> 32 || (value & (CR0_PG | CR0_PE)) == CR0_PG || (value & (CR0_NW | CR0_CD)) == CR0_NW)
        return protection_fault(v);
    if (value & ~old & CR0_PG && efer & EFER_LME) {
        if (!(cr4 & CR4_PAE) || long_code)
            return protection_fault(v);
        hvm_vendor->set(v, HVM_EFER, efer | EFER_LMA);
    } else if (old & ~value & CR0_PG) {
        if (cr4 & CR4_PCIDE || (efer & EFER_LMA && long_code))
            return protection_fault(v);
        hvm_vendor->set(v, HVM_EFER, efer & ~EFER_LMA);
    }
    hvm_vendor->set(v, HVM_CR0, (value & CR0_KNOWN) | CR0_ET);
    return true;
}

static bool write_control4(struct vcpu *v, uint64_t value)
{
    bool long_mode = get(v, HVM_EFER) & EFER_LMA;

    if (value & ~hvm_cr4_allowed(v) || (long_mode && !(value & CR4_PAE)))
        return protection_fault(v);
    if (value & ~get(v, HVM_CR4) & CR4_PCIDE && (!long_mode || get(v, HVM_CR3) & 0xfff))
        return protection_fault(v);
    hvm_vendor->set(v, HVM_CR4, value);
    return true;
}

bool hvm_exit_control_register(struct vcpu *v, struct cpu_user_regs *regs, const struct insn *insn)
{
    if (insn->op == OP_WRITE_CR && insn->reg == 0 && !get(v, HVM_CPL))
        return write_control0(v, *insn_reg(regs, insn->rm));
    if (insn->op == OP_WRITE_CR && insn->reg == 4 && !get(v, HVM_CPL))
        return write_control4(v, *insn_reg(regs, insn->rm));
    if (insn->op == OP_WRITE_CR && insn->reg == 8 && !get(v, HVM_CPL) && *insn_reg(regs, insn->rm) <= 0xf) {
        vlapic_set_cr8(v, (uint32_t)*insn_reg(regs, insn->rm));
        return true;
    }
    return protection_fault(v);
}

static bool write_debug_register(struct vcpu *v, unsigned reg, uint64_t value)
{
    if (reg < 4) {
        v->hvm->dr[reg] = value;
        hvm_load_breakpoints(v);
    } else if (value >> 32) {
        return protection_fault(v);
    } else if (reg == 6) {
        hvm_vendor->set(v, HVM_DR6, (value & DR6_USED) | DR6_ONES);
    } else {
        hvm_vendor->set(v, HVM_DR7, (value & ~DR7_ZERO) | DR7_ONE);
        hvm_load_breakpoints(v);
    }
    return true;
}

bool hvm_exit_debug_register(struct vcpu *v, struct cpu_user_regs *regs, const struct insn *insn)
{
    unsigned reg = insn->reg;

    if (insn->op != OP_READ_DR && insn->op != OP_WRITE_DR)
        return protection_fault(v);
    if (reg == 4 || reg == 5) { /* the old names of 6 and 7 */
        if (get(v, HVM_CR4) & CR4_DE) {
            hvm_inject_exception(v, X86_UD, 0);
            return false;
        }
        reg += 2;
    }
    if (reg > 7 || get(v, HVM_CPL)) {
        hvm_inject_exception(v, reg > 7 ? X86_UD : X86_GP, 0);
        return false;
    }
    if (unlikely(get(v, HVM_DR7) & DR7_GD)) { /* the guest asked for it: "general detect" */
        hvm_vendor->set(v, HVM_DR7, get(v, HVM_DR7) & ~DR7_GD);
        hvm_vendor->set(v, HVM_DR6, get(v, HVM_DR6) | DR6_BD);
        hvm_inject_exception(v, X86_DB, 0);
        return false;
    }
    if (insn->op == OP_WRITE_DR)
        return write_debug_register(v, reg, *insn_reg(regs, insn->rm));
    *insn_reg(regs, insn->rm) = reg < 4 ? v->hvm->dr[reg] : get(v, reg == 6 ? HVM_DR6 : HVM_DR7);
    return true;
}

/* ---- Ports: there is nothing but the debug port, and two of ACPI ---- */

static void debug_port(struct vcpu *v, char c)
{
    struct hvm_domain *h = v->domain->hvm;
    char line[sizeof(h->debug_text)] = "";

    spin_lock(&v->domain->lock);
    if (c != '\n' && c != '\r' && c)
        h->debug_text[h->debug_used++] = c;
    if (c == '\n' || h->debug_used == sizeof(h->debug_text) - 1) {
        memcpy(line, h->debug_text, h->debug_used);
        line[h->debug_used] = 0;
        h->debug_used = 0;
    }
    spin_unlock(&v->domain->lock);
    if (line[0])
        guest_log(LOG_INFO, "%s\n", line);
}

static void acpi_port(struct domain *d, uint16_t port, uint8_t value)
{
    if (port == PVH_SLEEP_CONTROL_PORT && value & PVH_SLEEP_ENABLE)
        domain_shutdown(d, SHUTDOWN_poweroff);
    else if (port == PVH_RESET_PORT && value == PVH_RESET_VALUE)
        domain_shutdown(d, SHUTDOWN_reboot);
}

bool hvm_exit_port(struct vcpu *v, struct cpu_user_regs *regs, uint16_t port, unsigned bytes, bool in)
{
    if (in) {
        if (port == HVM_PORT_DEBUG && bytes == 1) /* the value by which it is recognised */
            regs->rax = (regs->rax & ~0xffUL) | HVM_PORT_DEBUG;
        else
            regs->rax = hvm_absent_port_value(regs->rax, bytes);
    } else if (port == HVM_PORT_DEBUG && bytes == 1) {
        debug_port(v, (char)regs->eax);
    } else if (unlikely(v->domain->hvm->croft_acpi) && bytes == 1) {
        acpi_port(v->domain, port, regs->al);
    }
    return true;
}

/* A register that a string instruction has moved on, by its address size: 32 bits clear the upper half, 16 leave the rest. */
static uint64_t string_register(uint64_t old, uint64_t new, uint64_t mask)
{
    return mask == 0xffff ? (old & ~mask) | (new &mask) : new &mask;
}

/* A store to va, which cannot be, by the guest's own tables */
static void store_fault(struct vcpu *v, uint64_t va)
{
    uint8_t byte;

    hvm_vendor->set(v, HVM_CR2, va);
    hvm_inject_exception(v, X86_PF,
                         PFEC_WRITE | (get(v, HVM_CPL) == 3 ? PFEC_USER : 0) |
                             (hvm_copy_from_guest(&byte, va, 1) ? 0 : PFEC_PRESENT));
}

bool hvm_exit_port_string(struct vcpu *v, struct cpu_user_regs *regs, unsigned bytes, bool in, bool repeat)
{
    uint8_t ones[STRING_BYTES];
    uint64_t mask, count, done = 1, to;
    struct insn insn;
    size_t left;

    if (!hvm_decode(v, regs, &insn) || insn.op != (in ? OP_INS : OP_OUTS)) {
        hvm_inject_exception(v, X86_UD, 0);
        return false;
    }
    mask = insn.address_size == 8 ? ~0UL : insn.address_size == 4 ? 0xffffffffUL : 0xffffUL;
    count = repeat ? regs->rcx & mask : 1;
    if (!count)
        return true;
    if (in) {
        if (!(regs->rflags & EFLAGS_DF))
            done = min(count, (uint64_t)(STRING_BYTES / bytes));
        memset(ones, 0xff, sizeof(ones));
        to = (insn.address_size == 8 ? 0 : hvm_vendor->segment(v, SEG_ES).base) + (regs->rdi & mask);
        if (insn.address_size == 8 && !address_canonical(to))
            return protection_fault(v);
        left =
            get(v, HVM_CPL) == 3 ? hvm_copy_to_user(to, ones, done * bytes) : hvm_copy_to_guest(to, ones, done * bytes);
        if (left)
            store_fault(v, to + done * bytes - left);
        done -= DIV_ROUND_UP(left, bytes);
        to = regs->rdi + (regs->rflags & EFLAGS_DF ? -(done * bytes) : done * bytes);
        regs->rdi = string_register(regs->rdi, to, mask);
    } else {
        done = count; /* what nobody listens to need not be read */
        to = regs->rsi + (regs->rflags & EFLAGS_DF ? -(done * bytes) : done * bytes);
        regs->rsi = string_register(regs->rsi, to, mask);
    }
    if (repeat)
        regs->rcx = string_register(regs->rcx, count - done, mask);
    return count == done;
}

/* ---- Memory that is not there ---- */

/* MOV from memory has the form of MOV to memory, with the opcode two less. */
static bool decode_load(struct vcpu *v, const struct cpu_user_regs *regs, struct insn *insn)
{
    struct hvm_segment cs = hvm_vendor->segment(v, SEG_CS);
    bool long_mode = get(v, HVM_EFER) & EFER_LMA && cs.attributes & SEGMENT_L;
    uint8_t bytes[INSN_MAX_LENGTH];
    unsigned n = hvm_fetch(v, regs, bytes, sizeof(bytes)), i = 0;

    while (i < n && (bytes[i] == 0x66 || bytes[i] == 0x67 || bytes[i] == 0x2e || bytes[i] == 0x3e || bytes[i] == 0x64 ||
                     bytes[i] == 0x65 || bytes[i] == 0x26 || bytes[i] == 0x36))
        i++;
    if (i < n && long_mode && bytes[i] >> 4 == 4)
        i++;
    if (i >= n)
        return false;
    if ((bytes[i] & 0xfe) == 0x8a)
        bytes[i] -= 2;
    else if ((bytes[i] & 0xfe) == 0xa0)
        bytes[i] += 2;
    else
        return false;
    return insn_decode(bytes, n, long_mode, insn) == DECODE_OK && insn->op == OP_MOV;
}

static uint64_t memory_read(struct vcpu *v, uint64_t address, unsigned bytes)
{
    if (address >> PAGE_SHIFT == APIC_BASE_ADDRESS >> PAGE_SHIFT && vlapic_has_page(v))
        return bytes == 4 ? vlapic_read_mmio(v, address & ~PAGE_MASK) : 0;
    return bytes == 8 ? ~0UL : (1UL << 8 * bytes) - 1;
}

static void memory_write(struct vcpu *v, uint64_t address, unsigned bytes, uint64_t value)
{
    if (address >> PAGE_SHIFT == APIC_BASE_ADDRESS >> PAGE_SHIFT && vlapic_has_page(v) && bytes == 4)
        vlapic_write_mmio(v, address & ~PAGE_MASK, (uint32_t)value);
}

static bool emulate_store(struct vcpu *v, struct cpu_user_regs *regs, const struct insn *i, uint64_t address)
{
    uint64_t source = i->immediate ? i->imm : insn_reg_read(regs, i->reg, i->size, i->rex), old;

    if (i->op == OP_MOV) {
        memory_write(v, address, i->size, source);
        return true;
    }
    if (i->op != OP_XCHG && (i->op > OP_XOR || i->op < OP_ADD))
        return false;
    old = memory_read(v, address, i->size);
    memory_write(v, address, i->size, i->op == OP_XCHG ? source : insn_alu(i->op, i->size, old, source, &regs->rflags));
    if (i->op == OP_XCHG)
        insn_reg_write(regs, i->reg, i->size, i->rex, old);
    return true;
}

enum hvm_memory hvm_memory_at(struct vcpu *v, uint64_t address, bool write, bool fetch)
{
    gfn_t gfn = GFN(address >> PAGE_SHIFT);

    switch (p2m_kind(v->domain, gfn)) {
    case P2M_ON_DEMAND:
        pod_fault(v->domain, gfn);
        return MEMORY_COMES;
    case P2M_GRANT_RO:
        return write || fetch ? MEMORY_FORBIDDEN : MEMORY_COMES;
    case P2M_GRANT_RW:
        return fetch ? MEMORY_FORBIDDEN : MEMORY_COMES;
    case P2M_RAM: /* it has come meanwhile */
        return MEMORY_COMES;
    case P2M_HOLE:
        break;
    }
    return MEMORY_ABSENT;
}

bool hvm_exit_memory(struct vcpu *v, struct cpu_user_regs *regs, uint64_t address, bool write, bool fetch,
                     unsigned *length)
{
    struct insn insn;
    bool done = false;

    switch (hvm_memory_at(v, address, write, fetch)) {
    case MEMORY_COMES:
        return false;
    case MEMORY_FORBIDDEN: /* as on Xen */
        hvm_inject_exception(v, X86_GP, 0);
        return false;
    case MEMORY_ABSENT:
        break;
    }
    if (fetch) {
        domain_crash(v->domain, "vcpu %u executes at physical address 0x%lx, where it has no memory\n", v->id, address);
        return false;
    }
    if (!write && decode_load(v, regs, &insn)) {
        insn_reg_write(regs, insn.reg, insn.size, insn.rex, memory_read(v, address, insn.size));
        done = true;
    } else if (hvm_decode(v, regs, &insn)) { /* what reads and writes may come as a read (QEMU) */
        done = emulate_store(v, regs, &insn, address);
    }
    if (!done)
        domain_crash(v->domain,
                     "vcpu %u %s physical address 0x%lx, where it has no memory, by an instruction that is not "
                     "emulated (rip 0x%lx)\n",
                     v->id, write ? "writes to" : "reads", address, (unsigned long)regs->rip);
    *length = insn.length;
    return done;
}
