/* What code under test calls of hvm/ for domains that its test does not have: whoever comes here has made a mistake. */
#ifndef FAKE_HVM_H
#define FAKE_HVM_H

#include <stdlib.h>

#include "domain/domain.h"
#include "hvm/hvm.h"
#include "hypercall/memory.h"

bool hvm_interrupt_pending(struct vcpu *v) { abort(); }
void hvm_event_pending(struct vcpu *v) { abort(); }
mfn_t hvm_frame_get_writable(struct domain *d, uint64_t number) { abort(); }
void hvm_destroy_vcpu(struct vcpu *v)
{
    if (v->hvm)
        abort();
}
long memory_add_to_physmap(uint64_t arg) { abort(); }
long memory_remove_from_physmap(uint64_t arg) { abort(); }
long memory_pod_target(uint64_t cmd, uint64_t arg) { abort(); }
int memory_physmap_populate(struct domain *d, uint64_t gfn, mfn_t m, unsigned order) { abort(); }
int memory_physmap_drop(struct domain *d, uint64_t gfn) { abort(); }
int memory_physmap_mark(struct domain *d, uint64_t gfn, unsigned order) { abort(); }

#endif
