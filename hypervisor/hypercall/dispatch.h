/*
 * Hypercalls: one const table (number, name, handler, who may call). The entry code puts the five arguments into the C
 * argument registers and calls hypercall_dispatch.
 */
#ifndef HYPERCALL_DISPATCH_H
#define HYPERCALL_DISPATCH_H

#include "hypercall/abi.h"
#include "lib/util.h"

typedef long hypercall_handler_t(uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5);

/* Ends a slice of long work: the same call will be made again with these arguments, after softirqs and pending events
 * were looked after. Use: return hypercall_continue(cmd, arg, ...). Works in a multicall as well. */
long hypercall_continue(uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5);
/* Is there something more urgent? Ask every few microseconds of work. */
bool hypercall_preempt_check(void);
/* A call of current, whose frames Croft translates: all that it is, and where its result goes, is in regs. False: it shall be made
 * again, with the arguments that regs have now. */
bool hypercall_translated(struct cpu_user_regs *regs) __must_check;

void hypercall_set_traced(bool traced); /* by cpu/trace.c */

/* How often a call was made as an element of a multicall; since boot or the reset */
uint64_t hypercall_elements(unsigned nr);
void hypercall_elements_reset(void);
void hypercall_key_report(void); /* counters */

hypercall_handler_t hypercall_set_trap_table, hypercall_mmu_update, hypercall_set_gdt, hypercall_stack_switch,
    hypercall_set_callbacks, hypercall_fpu_taskswitch, hypercall_platform_op, hypercall_set_debugreg,
    hypercall_get_debugreg, hypercall_update_descriptor, hypercall_memory_op, hypercall_multicall,
    hypercall_update_va_mapping, hypercall_set_timer_op, hypercall_xen_version, hypercall_console_io,
    hypercall_grant_table_op, hypercall_vm_assist, hypercall_update_va_mapping_otherdomain, hypercall_iret,
    hypercall_vcpu_op, hypercall_set_segment_base, hypercall_mmuext_op, hypercall_sched_op, hypercall_callback_op,
    hypercall_event_channel_op, hypercall_physdev_op, hypercall_sysctl, hypercall_xsm_op, hypercall_domctl,
    hypercall_mca, hypercall_xenpmu_op, hypercall_nmi_op, hypercall_sched_op_compat, hypercall_event_channel_op_compat,
    hypercall_physdev_op_compat, hypercall_croft_op, hypercall_hvm_op, hypercall_grant_table_op_translated;

#endif
