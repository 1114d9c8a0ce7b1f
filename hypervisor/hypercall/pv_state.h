/* Processor state of a PV vcpu that hypercalls and emulated instructions share. */
#ifndef HYPERCALL_PV_STATE_H
#define HYPERCALL_PV_STATE_H

#include "domain/domain.h"

/* Debug registers 0-7 of the current vcpu (4 and 5 are 6 and 7). A breakpoint lies outside of Croft and never asks for
 * general detect. -EINVAL: no such register or value; -EPERM: an address of Croft's, or GD. */
int pv_set_debugreg(struct vcpu *v, unsigned reg, uint64_t value);
bool pv_get_debugreg(const struct vcpu *v, unsigned reg, uint64_t *value);
/* Loads v's breakpoints (or none) into the processor: at a switch to v. */
void pv_load_debugregs(const struct vcpu *v);
static inline bool pv_debugregs_active(const struct vcpu *v) { return v->pv.dr[7] & 0xff; }

#endif
