/*
 * What Croft does against speculation by predictors that a guest has trained. Compiled in for all processors: indirect branches
 * go through thunks (retpolines, cpu/thunks.S), guest-given indices are clamped (lib/nospec.h), registers are cleared on the way
 * from a guest into C (pv/entry.S). Where the processor has them: enhanced or automatic IBRS, and IBPB between domains.
 * What is not done: docs/security.md.
 */
#ifndef CPU_SPECULATION_H
#define CPU_SPECULATION_H

#include "lib/types.h"

struct domain;

/* Looks for what the features do not tell, and logs. Exceptions are handled already. */
void speculation_init_boot(void);
void speculation_init_cpu(void); /* this CPU: what stays on while Croft and guests run */
/* This CPU is about to run d after another vcpu: predictions of another domain's are dropped. Interrupts are off. */
void speculation_switch(const struct domain *d);

#endif
