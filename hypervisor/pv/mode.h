/*
 * How a PV guest's kernel is deprivileged: decided here and in entry.S, nowhere else. The one mode of today is the classic
 * 64-bit arrangement: guest kernel and guest user both in ring 3, told apart by pv.kernel_mode, each with a root table.
 */
#ifndef PV_MODE_H
#define PV_MODE_H

#include "domain/domain.h"

/* entry.S */
extern const char exception_stubs[], syscall_stubs[], syscall32_stubs[], sysenter_entry[], iret_to_guest[],
    ret_to_guest[];
extern uint64_t syscall_cpus[];
__noreturn void reset_stack_and_leave(void (*fn)(void)); /* fn null: to the current vcpu's guest */
extern bool smap_enabled;

/* Current, running user mode, goes to kernel mode or the reverse: SWAPGS, root table. No effect if it is there already.
 * mode_to_user fails if there is no user root. */
void mode_to_kernel(struct vcpu *v);
bool mode_to_user(struct vcpu *v);
static inline uint64_t mode_cr3(const struct vcpu *v) { return v->pv.kernel_mode ? v->pv.kernel_cr3 : v->pv.user_cr3; }

void pv_init(void); /* boot */

/* Selectors a guest context may hold: ring 3, and CS 64-bit flat or what the guest's tables say. */
static inline uint16_t mode_fix_selector(uint16_t sel) { return (sel & ~3) ? sel | 3 : sel; }

#define GUEST_EFLAGS_CLEAR (EFLAGS_IOPL | EFLAGS_VM | EFLAGS_VIF | EFLAGS_VIP | EFLAGS_NT)

#endif
