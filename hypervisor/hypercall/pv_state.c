/*
 * Hypercalls that set a PV vcpu's processor state: trap table, callbacks, stacks, segment bases, debug registers,
 * the FPU's task-switched flag; and the domain's assists.
 */
#include "hypercall/pv_state.h"
#include "cpu/instr.h"
#include "domain/guest_access.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"
#include "lib/nospec.h"
#include "lib/string.h"
#include "pv/context.h"
#include "pv/emulate.h"
#include "pv/mode.h"

/* ----- traps and callbacks ----- */

long hypercall_set_trap_table(uint64_t table, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
    struct vcpu *v = current;
    const struct trap_info *from = (const struct trap_info *)table;
    struct trap_info t;

    if (!from) { /* no table: no handlers */
        memset(v->pv.traps, 0, sizeof(v->pv.traps));
        mode_handlers_changed(v);
        return 0;
    }
    for (;; from++) {
        if (copy_from_guest(&t, from, sizeof(t)))
            return -EFAULT;
        if (!t.address)
            return 0;
        if (!address_canonical(t.address))
            return refuse(-EINVAL, "set_trap_table: handler of vector %u at %#lx\n", t.vector, t.address);
        t.cs = mode_fix_selector(t.cs);
        v->pv.traps[t.vector] = t;
        mode_handlers_changed(v);
        if (hypercall_preempt_check())
            return hypercall_continue((uint64_t)(from + 1), 0, 0, 0, 0);
    }
}

static long register_nmi(struct vcpu *v, uint64_t address)
{
    if (!address_canonical(address))
        return refuse(-EINVAL, "NMI callback at %#lx\n", address);
    if (!v->domain->is_hardware || v->id != 0)
        return refuse(-EINVAL, "NMI callback: for domain 0's vcpu 0 only\n");
    v->pv.nmi_callback = address;
    return 0;
}

static long register_callback(const struct callback_register *r)
{
    struct vcpu *v = current;
    bool mask = r->flags & CALLBACKF_mask_events;

    if (!address_canonical(r->address))
        return refuse(-EINVAL, "callback %u at %#lx\n", r->type, r->address);
    switch (r->type) {
    case CALLBACKTYPE_event:
        v->pv.event_callback = r->address;
        return 0;
    case CALLBACKTYPE_failsafe:
        v->pv.failsafe_callback = r->address;
        v->pv.failsafe_disables_events = mask;
        return 0;
    case CALLBACKTYPE_syscall:
        v->pv.syscall_callback = r->address;
        v->pv.syscall_disables_events = mask;
        mode_handlers_changed(v);
        return 0;
    case CALLBACKTYPE_syscall32:
        v->pv.syscall32_callback = r->address;
        v->pv.syscall32_disables_events = mask;
        return 0;
    case CALLBACKTYPE_sysenter:
        v->pv.sysenter_callback = r->address;
        v->pv.sysenter_disables_events = mask;
        return 0;
    case CALLBACKTYPE_nmi:
        return register_nmi(v, r->address);
    }
    return refuse(-ENOSYS, "callback_op: type %u\n", r->type);
}

static long unregister_callback(unsigned type)
{
    switch (type) {
    case CALLBACKTYPE_event:
    case CALLBACKTYPE_failsafe:
    case CALLBACKTYPE_syscall:
    case CALLBACKTYPE_syscall32:
    case CALLBACKTYPE_sysenter:
        return refuse(-EINVAL, "callback_op: type %u cannot be unregistered\n", type);
    case CALLBACKTYPE_nmi:
        current->pv.nmi_callback = 0;
        return 0;
    }
    return refuse(-ENOSYS, "callback_op: type %u\n", type);
}

long hypercall_callback_op(uint64_t cmd, uint64_t arg, uint64_t a3, uint64_t a4, uint64_t a5)
{
    struct callback_register r;
    struct callback_unregister u;

    switch ((unsigned)cmd) {
    case CALLBACKOP_register:
        if (copy_from_guest(&r, (const void *)arg, sizeof(r)))
            return -EFAULT;
        return register_callback(&r);
    case CALLBACKOP_unregister:
        if (copy_from_guest(&u, (const void *)arg, sizeof(u)))
            return -EFAULT;
        return unregister_callback(u.type);
    }
    return refuse(-ENOSYS, "callback_op: command %u\n", (unsigned)cmd);
}

long hypercall_set_callbacks(uint64_t event, uint64_t failsafe, uint64_t syscall, uint64_t a4, uint64_t a5)
{
    struct vcpu *v = current;

    if (!address_canonical(event) || !address_canonical(failsafe) || !address_canonical(syscall))
        return refuse(-EINVAL, "set_callbacks: %#lx, %#lx, %#lx\n", event, failsafe, syscall);
    v->pv.event_callback = event;
    v->pv.failsafe_callback = failsafe;
    v->pv.failsafe_disables_events = false;
    v->pv.syscall_callback = syscall;
    v->pv.syscall_disables_events = false;
    mode_handlers_changed(v);
    return 0;
}

long hypercall_nmi_op(uint64_t cmd, uint64_t arg, uint64_t a3, uint64_t a4, uint64_t a5)
{
    struct xennmi_callback cb;

    switch ((unsigned)cmd) {
    case XENNMI_register_callback:
        if (copy_from_guest(&cb, (const void *)arg, sizeof(cb)))
            return -EFAULT;
        return register_nmi(current, cb.handler_address);
    case XENNMI_unregister_callback:
        current->pv.nmi_callback = 0;
        return 0;
    }
    return refuse(-ENOSYS, "nmi_op: command %u\n", (unsigned)cmd);
}

/* ----- what a context switch of the guest changes ----- */

long hypercall_stack_switch(uint64_t ss, uint64_t sp, uint64_t a3, uint64_t a4, uint64_t a5)
{
    struct vcpu *v = current;

    v->pv.kernel_ss = mode_fix_selector((uint16_t)ss);
    v->pv.kernel_sp = sp;
    mode_kernel_stack_changed(v);
    return 0;
}

long hypercall_fpu_taskswitch(uint64_t set, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
    pv_set_ts(current, set != 0);
    return 0;
}

/* Loads a selector into the user's GS, whose base is parked while the kernel runs. One that does not load
 * becomes the null selector, as after an IRET to a bad one. */
static void load_user_gs(uint16_t selector)
{
    uint32_t sel = selector;

    __asm__ volatile("swapgs\n"
                     "1: mov %0, %%gs\n"
                     "   swapgs\n"
                     "   jmp 3f\n"
                     "2: xor %0, %0\n"
                     "   jmp 1b\n"
                     "3:\n"
                     ".pushsection __ex_table, \"a\"\n"
                     ".balign 4\n"
                     ".long 1b - ., 2b - .\n"
                     ".popsection"
                     : "+r"(sel)::"memory", "cc");
}

/* Hypercalls come from guest kernel mode: GS_BASE is the kernel's now and KERNEL_GS_BASE the user's (pv/emulate.c). */
long hypercall_set_segment_base(uint64_t which, uint64_t base, uint64_t a3, uint64_t a4, uint64_t a5)
{
    static const uint32_t msrs[] = {
        [SEGBASE_FS] = MSR_FS_BASE, [SEGBASE_GS_USER] = MSR_KERNEL_GS_BASE, [SEGBASE_GS_KERNEL] = MSR_GS_BASE};

    if (which == SEGBASE_GS_USER_SEL) {
        load_user_gs((uint16_t)base);
        return 0;
    }
    if (which >= ARRAY_SIZE(msrs) || !address_canonical(base))
        return refuse(-EINVAL, "set_segment_base: %lu, base %#lx\n", which, base);
    wrmsr(msrs[index_nospec(which, ARRAY_SIZE(msrs))], base);
    return 0;
}

/* ----- debug registers ----- */

#define DR6_ONES 0xffff0ff0UL /* reserved bits that read as one */
#define DR6_CLEAR 0x1000UL    /* reserved, zero */
#define DR7_ONE 0x400UL
#define DR7_CLEAR 0xd800UL /* reserved, zero */
#define DR7_GD (1UL << 13)
#define DR7_IO 2 /* R/W field: break on I/O; needs CR4.DE */

static void write_breakpoint(unsigned n, uint64_t value)
{
    switch (n) {
    case 0:
        write_dr0(value);
        break;
    case 1:
        write_dr1(value);
        break;
    case 2:
        write_dr2(value);
        break;
    case 3:
        write_dr3(value);
        break;
    }
}

void pv_load_debugregs(const struct vcpu *v)
{
    if (pv_debugregs_active(v)) {
        for (unsigned i = 0; i < 4; i++)
            write_breakpoint(i, v->pv.dr[i]);
        write_dr6(v->pv.dr[6] | DR6_ONES);
        write_dr7(v->pv.dr[7] | DR7_ONE);
    } else {
        write_dr7(DR7_ONE);
    }
}

static int set_control(struct vcpu *v, uint64_t value)
{
    bool was_active = pv_debugregs_active(v);

    if (value >> 32)
        return refuse(-EINVAL, "DR7: %#lx has reserved bits\n", value);
    value = (value & ~DR7_CLEAR) | DR7_ONE;
    if (value & DR7_GD)
        return refuse(-EPERM, "DR7: general detect is refused\n");
    for (unsigned i = 0; i < 4; i++) {
        unsigned rw = value >> (16 + 4 * i) & 3, enabled = value >> (2 * i) & 3;

        if (enabled && rw == DR7_IO)
            return refuse(-EPERM, "DR7: I/O breakpoint %u is refused: ports are emulated\n", i);
    }
    v->pv.dr[7] = value;
    if (v == current && (was_active || pv_debugregs_active(v)))
        pv_load_debugregs(v);
    return 0;
}

int pv_set_debugreg(struct vcpu *v, unsigned reg, uint64_t value)
{
    switch (reg) {
    case 0:
    case 1:
    case 2:
    case 3:
        if (!address_canonical(value))
            return refuse(-EINVAL, "DR%u: %#lx is no address\n", reg, value);
        if (!guest_range_ok((void *)value, 8))
            return refuse(-EPERM, "DR%u: %#lx is Croft's\n", reg, value);
        v->pv.dr[reg] = value;
        if (v == current && pv_debugregs_active(v))
            write_breakpoint(reg, value);
        return 0;
    case 4:
    case 6:
        if (value >> 32)
            return refuse(-EINVAL, "DR6: %#lx has reserved bits\n", value);
        v->pv.dr[6] = (value & ~DR6_CLEAR) | DR6_ONES;
        return 0;
    case 5:
    case 7:
        return set_control(v, value);
    }
    return refuse(-EINVAL, "debug register %u\n", reg);
}

bool pv_get_debugreg(const struct vcpu *v, unsigned reg, uint64_t *value)
{
    if (reg > 7)
        return false;
    if (reg == 4 || reg == 5)
        reg += 2;
    *value = v->pv.dr[reg];
    if (reg == 6)
        *value |= DR6_ONES;
    else if (reg == 7)
        *value |= DR7_ONE;
    return true;
}

long hypercall_set_debugreg(uint64_t reg, uint64_t value, uint64_t a3, uint64_t a4, uint64_t a5)
{
    return pv_set_debugreg(current, (unsigned)reg, value);
}

long hypercall_get_debugreg(uint64_t reg, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
    uint64_t value;

    if (!pv_get_debugreg(current, (unsigned)reg, &value))
        return refuse(-EINVAL, "get_debugreg: %lu\n", reg);
    return (long)value;
}

/* ----- assists ----- */

long hypercall_vm_assist(uint64_t cmd, uint64_t type, uint64_t a3, uint64_t a4, uint64_t a5)
{
    struct domain *d = current->domain;

    if (type >= 64 || !(VM_ASSIST_KNOWN & 1UL << type))
        return refuse(-EINVAL, "vm_assist: type %lu\n", type);
    switch ((unsigned)cmd) {
    case VMASST_CMD_enable:
        __atomic_fetch_or(&d->vm_assist, 1UL << type, __ATOMIC_SEQ_CST);
        return 0;
    case VMASST_CMD_disable:
        __atomic_fetch_and(&d->vm_assist, ~(1UL << type), __ATOMIC_SEQ_CST);
        return 0;
    }
    return refuse(-ENOSYS, "vm_assist: command %u\n", (unsigned)cmd);
}
