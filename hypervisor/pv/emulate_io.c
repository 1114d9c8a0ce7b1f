/*
 * Port I/O of PV guests. Every IN and OUT of a guest faults; what the domain may use goes to the hardware, the rest
 * behaves as absent hardware does: ones on reading, nothing on writing. Domain 0 (the hardware domain) also has PCI
 * configuration through 0xcf8/0xcfc (by platform/pci.c, which guards what Croft set up), the CMOS clock, and channel 2
 * of the PIT with the speaker port, by which kernels measure time.
 */
#include "pv/emulate.h"
#include "cpu/instr.h"
#include "domain/guest_access.h"
#include "lib/log.h"
#include "memory/map.h"
#include "platform/pci.h"
#include "pv/mmu.h"
#include "pv/traps.h"

#define PORT_PIT_CHANNEL2 0x42
#define PORT_PIT_COMMAND 0x43
#define PORT_SPEAKER 0x61
#define PORT_CMOS_INDEX 0x70
#define PORT_CMOS_DATA 0x71
#define PORT_PCI_ADDRESS 0xcf8
#define PORT_PCI_DATA 0xcfc
#define PCI_ENABLE (1U << 31)

#define STRING_IO_SLICE 256 /* elements of a REP INS/OUTS between two looks at pending events */

static spinlock_t cmos_lock = SPINLOCK_INIT;

static uint32_t ones(unsigned bytes) { return bytes == 4 ? ~0U : (1U << (bytes * 8)) - 1; }

static uint32_t port_in(uint16_t port, unsigned bytes)
{
    return bytes == 1 ? inb(port) : bytes == 2 ? inw(port) : inl(port);
}

static void port_out(uint16_t port, unsigned bytes, uint32_t value)
{
    if (bytes == 1)
        outb(port, (uint8_t)value);
    else if (bytes == 2)
        outw(port, (uint16_t)value);
    else
        outl(port, value);
}

/* Ports that are shared with Croft and so never passed through as they are. */
static bool port_is_special(unsigned port, unsigned bytes)
{
    unsigned end = port + bytes;

    return (end > PORT_PCI_ADDRESS && port < PORT_PCI_DATA + 4) || (end > 0x40 && port <= PORT_PIT_COMMAND) ||
           (end > PORT_SPEAKER && port <= PORT_SPEAKER) || (end > PORT_CMOS_INDEX && port <= PORT_CMOS_DATA);
}

static bool ports_passed_through(const struct domain *d, unsigned port, unsigned bytes)
{
    if (!d->pv.io_ports || port + bytes > 0x10000 || port_is_special(port, bytes))
        return false;
    for (unsigned i = 0; i < bytes; i++)
        if (!test_bit(port + i, d->pv.io_ports))
            return false;
    return true;
}

/* Bytes of the PCI data port's dword that an access of 'left' bytes at 'port' takes at once: 1, 2 or 4. */
static unsigned pci_piece(uint16_t port, unsigned left)
{
    if ((port & 3) == 0 && left >= 4)
        return 4;
    return (port & 1) == 0 && left >= 2 ? 2 : 1;
}

/* One piece of an access by the hardware domain to a special port: how many bytes it took, 0 if it is none of them. */
static unsigned special_read(struct domain *d, uint16_t port, unsigned left, uint32_t *value)
{
    if (port == PORT_PCI_ADDRESS && left >= 4) {
        *value = d->pv.pci_cf8;
        return 4;
    }
    if (port >= PORT_PCI_DATA && port < PORT_PCI_DATA + 4) {
        unsigned n = pci_piece(port, left);

        *value = d->pv.pci_cf8 & PCI_ENABLE ? pci_guest_read(d->pv.pci_cf8, port & 3, n) : ones(n);
        return n;
    }
    switch (port) {
    case PORT_PIT_CHANNEL2:
    case PORT_SPEAKER:
        *value = inb(port);
        return 1;
    case PORT_CMOS_INDEX:
        *value = d->pv.cmos_index;
        return 1;
    case PORT_CMOS_DATA:
        spin_lock(&cmos_lock);
        outb(PORT_CMOS_INDEX, d->pv.cmos_index);
        *value = inb(PORT_CMOS_DATA);
        spin_unlock(&cmos_lock);
        return 1;
    }
    return 0;
}

static unsigned special_write(struct domain *d, uint16_t port, unsigned left, uint32_t value)
{
    if (port == PORT_PCI_ADDRESS && left >= 4) {
        d->pv.pci_cf8 = value;
        return 4;
    }
    if (port >= PORT_PCI_DATA && port < PORT_PCI_DATA + 4) {
        unsigned n = pci_piece(port, left);

        if (d->pv.pci_cf8 & PCI_ENABLE)
            pci_guest_write(d->pv.pci_cf8, port & 3, n, value & ones(n));
        return n;
    }
    value &= 0xff;
    switch (port) {
    case PORT_PIT_COMMAND: /* only what concerns channel 2 alone: its mode, or a read-back of it */
        if (value >> 6 == 2 || (value >> 6 == 3 && !(value & 6)))
            outb(port, (uint8_t)value);
        return 1;
    case PORT_PIT_CHANNEL2:
        outb(port, (uint8_t)value);
        return 1;
    case PORT_SPEAKER: /* gate and speaker; the rest of the port is about NMI */
        outb(port, (uint8_t)((inb(port) & 0x0c) | (value & 3)));
        return 1;
    case PORT_CMOS_INDEX: /* bit 7 would disable NMI */
        d->pv.cmos_index = value & 0x7f;
        return 1;
    case PORT_CMOS_DATA:
        spin_lock(&cmos_lock);
        outb(PORT_CMOS_INDEX, d->pv.cmos_index);
        outb(PORT_CMOS_DATA, (uint8_t)value);
        spin_unlock(&cmos_lock);
        return 1;
    }
    return 0;
}

uint32_t pv_port_read(struct domain *d, uint16_t port, unsigned bytes)
{
    uint32_t result = 0;

    if (ports_passed_through(d, port, bytes))
        return port_in(port, bytes);
    if (!d->is_hardware && !d->pv.io_ports)
        return ones(bytes);
    for (unsigned at = 0, n; at < bytes; at += n) {
        uint16_t p = (uint16_t)(port + at);
        uint32_t value = 0;

        n = d->is_hardware ? special_read(d, p, bytes - at, &value) : 0;
        if (!n) {
            n = 1;
            value = ports_passed_through(d, p, 1) ? inb(p) : 0xff;
        }
        result |= value << (at * 8);
    }
    return result;
}

void pv_port_write(struct domain *d, uint16_t port, unsigned bytes, uint32_t value)
{
    if (ports_passed_through(d, port, bytes)) {
        port_out(port, bytes, value);
        return;
    }
    if (!d->is_hardware && !d->pv.io_ports)
        return;
    for (unsigned at = 0, n; at < bytes; at += n) {
        uint16_t p = (uint16_t)(port + at);
        uint32_t piece = value >> (at * 8);

        n = d->is_hardware ? special_write(d, p, bytes - at, piece) : 0;
        if (!n) {
            n = 1;
            if (ports_passed_through(d, p, 1))
                outb(p, (uint8_t)piece);
        }
    }
}

/* ----- who may ----- */

/* One byte of the guest kernel's memory, whatever root is loaded. */
static bool read_kernel_byte(struct vcpu *v, unsigned long va, uint8_t *byte)
{
    mfn_t m;

    if (!guest_range_ok((void *)va, 1) || !mmu_get_page_of_va(v, va, false, &m))
        return false;
    *byte = ((const volatile uint8_t *)mfn_to_virt(m))[va & ~PAGE_MASK];
    frame_put(m);
    return true;
}

/* The guest's virtual IOPL, or its I/O bitmap (physdev_op set_iobitmap), as the TSS would have it. */
static bool access_allowed(struct vcpu *v, unsigned port, unsigned bytes)
{
    unsigned long at = (unsigned long)v->pv.guest_io_bitmap;
    uint8_t low, high = 0xff;
    unsigned bits;

    if (pv_iopl_allows(v))
        return true;
    if (!at || port + bytes > v->pv.guest_io_bitmap_ports)
        return false;
    at += port / 8;
    if (!read_kernel_byte(v, at, &low))
        return false;
    if (port % 8 + bytes > 8 && !read_kernel_byte(v, at + 1, &high))
        return false;
    bits = (low | (unsigned)high << 8) >> (port % 8);
    return !(bits & ((1U << bytes) - 1));
}

/* ----- the instructions ----- */

static void advance(struct cpu_user_regs *regs, unsigned reg, const struct insn *i, int64_t by)
{
    uint64_t *r = insn_reg(regs, reg);

    *r = i->address_size == 4 ? (uint32_t)(*r + (uint64_t)by) : *r + (uint64_t)by;
}

#define RCX 1
#define RSI 6
#define RDI 7

static bool emulate_string(struct vcpu *v, struct cpu_user_regs *regs, const struct insn *i, bool long_mode)
{
    bool in = i->op == OP_INS;
    unsigned reg = in ? RDI : RSI;
    int64_t step = regs->rflags & EFLAGS_DF ? -(int64_t)i->size : i->size;
    uint64_t count = 1, base;

    if (i->address_size == 2 || !pv_segment_base(v, in ? SEG_ES : i->segment, long_mode, &base))
        return false;
    if (i->repeat)
        count = i->address_size == 4 ? regs->ecx : regs->rcx;
    for (unsigned slice = 0; count; slice++) {
        uint64_t offset = *insn_reg(regs, reg), address;
        uint32_t value = 0;
        size_t left;

        if (slice == STRING_IO_SLICE)
            return true; /* rip still points here: the guest comes again */
        address = (i->address_size == 4 ? (uint32_t)offset : offset) + base;
        if (!long_mode)
            address = (uint32_t)address;
        if (in) {
            value = pv_port_read(v->domain, (uint16_t)regs->rdx, i->size);
            left = copy_to_guest((void *)address, &value, i->size);
        } else {
            left = copy_from_guest(&value, (const void *)address, i->size);
        }
        if (left) {
            pv_inject_page_fault(regs, address + i->size - left,
                                 (in ? PFEC_WRITE : 0) | (v->pv.kernel_mode ? 0 : PFEC_USER));
            return true;
        }
        if (!in)
            pv_port_write(v->domain, (uint16_t)regs->rdx, i->size, value);
        advance(regs, reg, i, step);
        if (i->repeat)
            advance(regs, RCX, i, -1);
        count--;
    }
    pv_finish_insn(regs, i->length, long_mode);
    return true;
}

bool pv_emulate_port_insn(struct vcpu *v, struct cpu_user_regs *regs, const struct insn *i, bool long_mode)
{
    uint16_t port = i->port_immediate ? (uint16_t)i->imm : (uint16_t)regs->rdx;

    if (!access_allowed(v, port, i->size))
        return false;
    if (i->op == OP_INS || i->op == OP_OUTS)
        return emulate_string(v, regs, i, long_mode);
    if (i->op == OP_IN)
        insn_reg_write(regs, 0, i->size, true, pv_port_read(v->domain, port, i->size));
    else
        pv_port_write(v->domain, port, i->size, (uint32_t)insn_reg_read(regs, 0, i->size, true));
    pv_finish_insn(regs, i->length, long_mode);
    return true;
}

/* In 64-bit code, with at most the operand-size prefix: so kernels look for hardware. Which port it is does not matter. */
bool pv_emulate_absent_port(struct vcpu *v, struct cpu_user_regs *regs)
{
    const struct domain *d = v->domain;
    unsigned size = 4, length = 1;
    uint64_t bytes[2];
    uint8_t op;

    if (d->is_hardware || d->pv.io_ports || !(v->pv.kernel_mode || regs->cs == FLAT_USER_CS64) || !pv_iopl_allows(v) ||
        (regs->rip & ~PAGE_MASK) > PAGE_SIZE - sizeof(bytes) || !guest_read16(bytes, (const void *)regs->rip))
        return false;
    op = (uint8_t)bytes[0];
    if (op == 0x66) {
        op = (uint8_t)(bytes[0] >> 8);
        size = length = 2;
    }
    if ((op & 0xf4) != 0xe4) /* e4 to e7: the port is in the next byte; ec to ef: in DX */
        return false;
    if (!(op & 8))
        length++;
    if (!(op & 1))
        size = 1;
    if (!(op & 2)) {
        if (size == 4)
            regs->rax = 0;
        regs->rax |= ones(size);
    }
    pv_finish_insn(regs, length, true);
    return true;
}
