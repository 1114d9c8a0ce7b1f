/* Exceptions and interrupts as a PV guest sees them. */
#ifndef PV_TRAPS_H
#define PV_TRAPS_H

#include "domain/domain.h"

/* Makes the guest take exception 'vector' when it is resumed: builds the bounce frame on the guest kernel's stack, switches
 * to guest kernel mode, changes regs. A guest without a handler for it, or with a bad stack, is crashed with a reason.
 * error_code is used for the vectors that have one. For #PF set v->pv.cr2 and vcpu_info's cr2 by pv_inject_page_fault. */
void pv_inject_exception(struct cpu_user_regs *regs, unsigned vector, uint32_t error_code);
void pv_inject_page_fault(struct cpu_user_regs *regs, unsigned long cr2, uint32_t error_code);
static inline bool pv_guest_kernel_mode(const struct vcpu *v) { return v->pv.kernel_mode; }

/* pv/emulate.c: #GP in a guest. True: the instruction was emulated (regs advanced). False: inject the #GP. */
bool pv_emulate_privileged(struct cpu_user_regs *regs);
/* #UD in a guest: forced emulation (ud2; "xen"; cpuid), or a cpuid under faulting. */
bool pv_emulate_forced(struct cpu_user_regs *regs);
/* CPUID as the domain may see it. */
void pv_cpuid(const struct vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

/* pv/mode.c */
void pv_write_hypercall_page(void *page);

#endif
