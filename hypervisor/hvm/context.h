/*
 * The state of a PVH domain's processors in the form of <xen/hvm/save.h>: a stream of records, each with a descriptor in front: the
 * header, then for each vcpu that is up CPU and XSAVE, for each vcpu LAPIC, LAPIC_REGS, MTRR, VMCE_VCPU and TSC_ADJUST, then END.
 * No other records: such a domain has no devices.
 *
 * The domain is not current's, and paused.
 */
#ifndef HVM_CONTEXT_H
#define HVM_CONTEXT_H

#include "hypercall/abi.h"

struct domain;
struct vcpu;

size_t hvm_context_size(const struct domain *d); /* bytes that are always enough */
size_t hvm_context_save(const struct domain *d,
                        uint8_t *to); /* returns how many it wrote, a multiple of 8; 'to' is aligned so */
/* One record without its descriptor. Its bytes, at most 'room', or -EINVAL (no such type), -ENOENT (no such vcpu, or it has none),
 * -ENOSPC. 'to' null: how many there would be. */
long hvm_context_save_one(const struct domain *d, unsigned type, unsigned instance, uint8_t *to, size_t room);
/*
 * Takes the state of a stream: vcpus with a CPU record are up with it, all others down, as after INIT. -EINVAL, with a log line: it is
 * malformed, or has what such a domain does not have here; nothing has changed then. 'from' is aligned to 8.
 */
int hvm_context_load(struct domain *d, const uint8_t *from, size_t size);

/* In the form of PV's contexts: general, control and debug registers, FPU. v does not run. */
void hvm_get_registers(const struct vcpu *v, struct vcpu_guest_context *c);
/* Takes the general registers, RIP and RFLAGS of it, which is all that tools change. -EINVAL */
int hvm_set_registers(struct vcpu *v, const struct vcpu_guest_context *c);

#endif
