/*
 * The model-specific registers that a PV guest's kernel may read and write, from one table. Whatever is not in it
 * answers #GP.
 */
#ifndef PV_MSR_H
#define PV_MSR_H

#include "domain/domain.h"

/* RDMSR and WRMSR by v's kernel; v is current and in guest kernel mode. False: #GP. */
bool msr_read(struct vcpu *v, uint32_t msr, uint64_t *value);
bool msr_write(struct vcpu *v, uint32_t msr, uint64_t value);

#endif
