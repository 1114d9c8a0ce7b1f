/* What a VMCS holds of a vcpu's state, in the form of <xen/arch-x86/hvm/save.h>. Pure: these look at nothing else. */
#ifndef HVM_VMX_STATE_H
#define HVM_VMX_STATE_H

#include "hypercall/abi.h"

struct vmcs;
struct vmx_limits;

/*
 * Segments' attributes in the form of the ABI, of hvm/vmcb.h and of AMD-V, and back. What is unusable here is not present there. Back,
 * the bits of which AMD-V takes no notice become those that VM entry takes: accessed, and G by the limit in bytes.
 */
uint32_t vmx_attributes_to_abi(uint64_t attributes);
uint64_t vmx_attributes_from_abi(uint32_t attributes, uint64_t limit);

void vmx_state_save(const struct vmcs *b, struct hvm_hw_cpu *c);
/* Null, or why b could not have that state, one line without end of line. 'scratch' is a copy that may be written. */
const char *vmx_state_check(const struct vmcs *b, const struct hvm_hw_cpu *c, const struct vmx_limits *l,
                            struct vmcs *scratch);
/*
 * What the check let through. Blocking by STI, MOV SS or NMI, and what waited for the end of one, are gone. PDPTEs are as they were: they
 * are in the guest's memory, and with PAE paging the caller has to read them there.
 */
void vmx_state_load(struct vmcs *b, const struct hvm_hw_cpu *c, const struct vmx_limits *l);

#endif
