/*
 * How a PV guest's kernel is deprivileged: decided here and in entry.S, nowhere else. The one mode of today is the classic
 * 64-bit arrangement: guest kernel and guest user both in ring 3, told apart by pv.kernel_mode, each with a root table.
 */
#ifndef PV_MODE_H
#define PV_MODE_H

#include "cpu/instr.h"
#include "domain/domain.h"

/* entry.S */
extern const char exception_stubs[], page_fault[], page_fault_smap[], general_protection[], general_protection_smap[],
    syscall_stubs[], syscall_smap_stubs[], syscall32_stubs[], sysenter_entry[], iret_to_guest[], ret_to_guest[];
extern uint64_t syscall_cpus[];
__noreturn void reset_stack_and_leave(void (*fn)(void)); /* fn null: to the current vcpu's guest */
extern bool smap_enabled;

/* Current, running user mode, goes to kernel mode or the reverse: SWAPGS, root table. No effect if it is there already.
 * mode_to_user fails if there is no user root. */
void mode_to_kernel(struct vcpu *v);
bool mode_to_user(struct vcpu *v);
static inline uint64_t mode_cr3(const struct vcpu *v) { return v->pv.kernel_mode ? v->pv.kernel_cr3 : v->pv.user_cr3; }

void pv_init(void); /* boot */

/*
 * pv.kernel_sp of v, current or not running, has changed: finds where the entry code puts the frames of system calls and of
 * page faults. 0 (the long way, by C) if the handler is unusual, or the stack not above the hole, where kernels have theirs.
 */
#define SYSCALL_FRAME_BYTES 56
#define FAULT_FRAME_BYTES 64
static inline void mode_kernel_stack_changed(struct vcpu *v)
{
    uint64_t top = v->pv.kernel_sp & ~15UL;
    bool usual = top - FAULT_FRAME_BYTES >= HOLE_END;

    v->pv.syscall_frame = usual && v->pv.syscall_is_usual ? top - SYSCALL_FRAME_BYTES : 0;
    v->pv.fault_frame = usual && v->pv.fault_is_usual ? top - FAULT_FRAME_BYTES : 0;
}

/* Selectors a guest context may hold: ring 3, and CS 64-bit flat or what the guest's tables say. */
static inline uint16_t mode_fix_selector(uint16_t sel) { return (sel & ~3) ? sel | 3 : sel; }

/* The same for the handlers of system calls and page faults: usual is one that has an address, and masks events. */
static inline void mode_handlers_changed(struct vcpu *v)
{
    const struct trap_info *t = &v->pv.traps[X86_PF];

    v->pv.syscall_is_usual = v->pv.syscall_callback && v->pv.syscall_disables_events;
    v->pv.fault_is_usual = t->address && TI_GET_IF(t);
    v->pv.fault_cs = mode_fix_selector(t->cs);
    mode_kernel_stack_changed(v);
}

#define GUEST_EFLAGS_CLEAR (EFLAGS_IOPL | EFLAGS_VM | EFLAGS_VIF | EFLAGS_VIP | EFLAGS_NT)

#endif
