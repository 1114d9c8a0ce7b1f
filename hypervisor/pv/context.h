/* Processor contexts of PV vcpus as the ABI carries them. */
#ifndef PV_CONTEXT_H
#define PV_CONTEXT_H

#include "domain/domain.h"

#define VM_ASSIST_KNOWN                                                                                                \
    (1UL << VMASST_TYPE_4gb_segments | 1UL << VMASST_TYPE_4gb_segments_notify |                                        \
     1UL << VMASST_TYPE_writable_pagetables | 1UL << VMASST_TYPE_pae_extended_cr3 |                                    \
     1UL << VMASST_TYPE_architectural_iopl | 1UL << VMASST_TYPE_runstate_update_flag | 1UL << VMASST_TYPE_m2p_strict)

/* Gives a vcpu a context; all of it is checked first. One that has a context keeps its page tables and descriptor tables: they
 * must be the same. -EINVAL, -EOPNOTSUPP, and as mmuext_op. v does not run. */
int pv_set_context(struct vcpu *v, const struct vcpu_guest_context *c);
/* The context of a vcpu that does not run. */
void pv_get_context(const struct vcpu *v, struct vcpu_guest_context *c);

#endif
