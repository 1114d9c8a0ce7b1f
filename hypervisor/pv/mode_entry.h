/* C functions that only the entry assembly and its fault handling call. Each gets the guest's registers. */
#ifndef PV_MODE_ENTRY_H
#define PV_MODE_ENTRY_H

struct cpu_user_regs;

void pv_deliver_event(struct cpu_user_regs *regs);
void pv_syscall(struct cpu_user_regs *regs);
void pv_syscall32(struct cpu_user_regs *regs);
void pv_sysenter(struct cpu_user_regs *regs);
void pv_bad_kernel_stack(struct cpu_user_regs *regs);
void pv_iret(struct cpu_user_regs *regs);
void pv_iret_fault(struct cpu_user_regs *regs);
void pv_iret_no_user_root(struct cpu_user_regs *regs);
void pv_iret_to_guest_failed(struct cpu_user_regs *regs);
void pv_selector_failed(struct cpu_user_regs *regs);

void exception_from_guest(struct cpu_user_regs *regs);
void guest_kernel_writes(struct cpu_user_regs *regs, unsigned long cr2);
void exception_in_hypervisor(struct cpu_user_regs *regs);
void interrupt_dispatch(struct cpu_user_regs *regs);

#endif
