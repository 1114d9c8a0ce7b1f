/* What a control block holds of a vcpu's state, in the form of <xen/arch-x86/hvm/save.h>. Pure: these look at nothing else. */
#ifndef HVM_SVM_STATE_H
#define HVM_SVM_STATE_H

#include "hypercall/abi.h"

struct vmcb;
struct svm_limits;

void svm_state_save(const struct vmcb *b, struct hvm_hw_cpu *c);
/* Null, or why b could not have that state, one line without end of line. 'scratch' is a block that may be written. */
const char *svm_state_check(const struct vmcb *b, const struct hvm_hw_cpu *c, const struct svm_limits *l,
                            struct vmcb *scratch);
/* What the check let through. An interrupt shadow, and what waited for the end of an NMI, are gone. */
void svm_state_load(struct vmcb *b, const struct hvm_hw_cpu *c);

#endif
