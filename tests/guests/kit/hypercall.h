/* The hypercalls, one thin wrapper each. Results are the ABI's: negative errno on failure. */
#ifndef KIT_HYPERCALL_H
#define KIT_HYPERCALL_H

#include <stdint.h>
#include <stddef.h>
#include <stdbool.h>

#define __XEN_INTERFACE_VERSION__ 0x00040d00
#include <xen/xen.h>
#include <xen/callback.h>
#include <xen/errno.h>
#include <xen/event_channel.h>
#include <xen/features.h>
#include <xen/grant_table.h>
#include <xen/memory.h>
#include <xen/physdev.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/version.h>

#define EPERM XEN_EPERM
#define ENOENT XEN_ENOENT
#define ESRCH XEN_ESRCH
#define ENOMEM XEN_ENOMEM
#define EFAULT XEN_EFAULT
#define EBUSY XEN_EBUSY
#define EEXIST XEN_EEXIST
#define EINVAL XEN_EINVAL
#define ENOSPC XEN_ENOSPC
#define ENOSYS XEN_ENOSYS
#define ETIME XEN_ETIME

extern char hypercall_page[];
long kit_raw_hypercall(unsigned long nr, unsigned long a1, unsigned long a2, unsigned long a3, unsigned long a4,
                       unsigned long a5);
void kit_iret(struct iret_context *c);

/* Through the hypercall page, as kernels do. */
static inline long hypercall(unsigned nr, unsigned long a1, unsigned long a2, unsigned long a3, unsigned long a4,
                             unsigned long a5)
{
    long result;
    register unsigned long r10 asm("r10") = a4;
    register unsigned long r8 asm("r8") = a5;

    asm volatile("call *%[entry]"
                 : "=a"(result), "+D"(a1), "+S"(a2), "+d"(a3), "+r"(r10), "+r"(r8)
                 : [entry] "b"(hypercall_page + nr * 32)
                 : "rcx", "r11", "r9", "memory", "cc");
    return result;
}

#define U(x) ((unsigned long)(x))

static inline long set_trap_table(const struct trap_info *t)
{
    return hypercall(__HYPERVISOR_set_trap_table, U(t), 0, 0, 0, 0);
}

static inline long mmu_update(const struct mmu_update *u, unsigned count, unsigned *done, unsigned foreign)
{
    return hypercall(__HYPERVISOR_mmu_update, U(u), count, U(done), foreign, 0);
}

static inline long set_gdt(const unsigned long *frames, unsigned entries)
{
    return hypercall(__HYPERVISOR_set_gdt, U(frames), entries, 0, 0, 0);
}

static inline long stack_switch(unsigned long ss, unsigned long sp)
{
    return hypercall(__HYPERVISOR_stack_switch, ss, sp, 0, 0, 0);
}

static inline long fpu_taskswitch(int set) { return hypercall(__HYPERVISOR_fpu_taskswitch, U(set), 0, 0, 0, 0); }

static inline long set_debugreg(int reg, unsigned long value)
{
    return hypercall(__HYPERVISOR_set_debugreg, U(reg), value, 0, 0, 0);
}

static inline unsigned long get_debugreg(int reg)
{
    return U(hypercall(__HYPERVISOR_get_debugreg, U(reg), 0, 0, 0, 0));
}

static inline long update_descriptor(uint64_t machine_address, uint64_t descriptor)
{
    return hypercall(__HYPERVISOR_update_descriptor, machine_address, descriptor, 0, 0, 0);
}

static inline long memory_op(unsigned cmd, void *arg)
{
    return hypercall(__HYPERVISOR_memory_op, cmd, U(arg), 0, 0, 0);
}

static inline long multicall(struct multicall_entry *list, unsigned count)
{
    return hypercall(__HYPERVISOR_multicall, U(list), count, 0, 0, 0);
}

static inline long update_va_mapping(unsigned long va, uint64_t pte, unsigned long flags)
{
    return hypercall(__HYPERVISOR_update_va_mapping, va, pte, flags, 0, 0);
}

static inline long update_va_mapping_otherdomain(unsigned long va, uint64_t pte, unsigned long flags, unsigned domid)
{
    return hypercall(__HYPERVISOR_update_va_mapping_otherdomain, va, pte, flags, domid, 0);
}

static inline long set_timer_op(uint64_t when) { return hypercall(__HYPERVISOR_set_timer_op, when, 0, 0, 0, 0); }

static inline long xen_version(unsigned cmd, void *arg)
{
    return hypercall(__HYPERVISOR_xen_version, cmd, U(arg), 0, 0, 0);
}

static inline long console_io(unsigned cmd, unsigned count, char *buffer)
{
    return hypercall(__HYPERVISOR_console_io, cmd, count, U(buffer), 0, 0);
}

static inline long grant_table_op(unsigned cmd, void *arg, unsigned count)
{
    return hypercall(__HYPERVISOR_grant_table_op, cmd, U(arg), count, 0, 0);
}

static inline long vm_assist(unsigned cmd, unsigned type)
{
    return hypercall(__HYPERVISOR_vm_assist, cmd, type, 0, 0, 0);
}

static inline long vcpu_op(unsigned cmd, unsigned vcpu, void *arg)
{
    return hypercall(__HYPERVISOR_vcpu_op, cmd, vcpu, U(arg), 0, 0);
}

static inline long set_segment_base(unsigned which, unsigned long base)
{
    return hypercall(__HYPERVISOR_set_segment_base, which, base, 0, 0, 0);
}

static inline long mmuext_op(struct mmuext_op *op, unsigned count, unsigned *done, unsigned foreign)
{
    return hypercall(__HYPERVISOR_mmuext_op, U(op), count, U(done), foreign, 0);
}

static inline long sched_op(unsigned cmd, void *arg) { return hypercall(__HYPERVISOR_sched_op, cmd, U(arg), 0, 0, 0); }

static inline long callback_op(unsigned cmd, void *arg)
{
    return hypercall(__HYPERVISOR_callback_op, cmd, U(arg), 0, 0, 0);
}

static inline long event_channel_op(unsigned cmd, void *arg)
{
    return hypercall(__HYPERVISOR_event_channel_op, cmd, U(arg), 0, 0, 0);
}

static inline long physdev_op(unsigned cmd, void *arg)
{
    return hypercall(__HYPERVISOR_physdev_op, cmd, U(arg), 0, 0, 0);
}

#endif
