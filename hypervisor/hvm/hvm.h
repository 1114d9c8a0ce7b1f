/*
 * Domains whose kernel runs in its own ring 0 with its own page tables, by the processor's help (AMD-V): PVH. What is in this
 * folder knows the guest as a processor; the rest of Croft asks whether d->hvm or v->hvm is there and calls what is declared here.
 *
 *   hvm.c      the vcpu, whatever the processor's maker: the loop that enters the guest, what waits to be injected, its start
 *   exits.c    what the guest did that Croft must answer, where that does not depend on the maker
 *   svm.c      AMD-V: the control block, entry and exit
 *   p2m.c      nested page tables: the guest's physical memory
 *   walk.c     the guest's own page tables, for hypercalls and instructions
 *   vlapic.c   its local APIC
 */
#ifndef HVM_HVM_H
#define HVM_HVM_H

#include "hvm/p2m.h"
#include "hvm/vlapic.h"
#include "hypercall/abi.h"
#include "lib/spinlock.h"

struct domain;
struct vcpu;
struct vmcb;

#define HVM_NO_VECTOR 0xffffU

struct hvm_domain {
    struct p2m p2m;
    uint64_t params[HVM_NR_PARAMS]; /* HVM_PARAM_* of <xen/hvm/params.h> */
    uint8_t callback_vector;        /* HVM_PARAM_CALLBACK_IRQ as a vector; 0: none */
};

/* An event to be delivered at the next entry, in the form that the maker's control block has it too: EVENT_* of hvm/vmcb.h */
struct hvm_vcpu {
    struct vlapic vlapic;
    struct vmcb *vmcb;
    uint64_t pending_event;     /* an exception, or what an exit interrupted; 0: none */
    uint8_t upcall_vector;      /* HVMOP_set_evtchn_upcall_vector; 0: the domain's callback vector */
    volatile bool upcall_edge;  /* evtchn_upcall_pending has gone from 0 to 1 since it was last looked at */
    bool nmi_blocked;           /* until the guest's next IRET */
    uint64_t xss;
    uint64_t dr[4];
    uint32_t asid;              /* on v->processor, of ... */
    uint64_t asid_generation;   /* ... this generation of that CPU; 0: none */
    uint64_t flushed;           /* p2m.flushes that its translations are later than */
    uint64_t exits;
};

/* Null if there can be such domains, or why not, one line without end of line. */
const char *hvm_missing(void);
/* Makes d, which has no vcpus yet, one of them. -ENOMEM, -EOPNOTSUPP */
int hvm_init_domain(struct domain *d);
/*
 * v, which is not initialised, begins as the PVH ABI has it (docs/misc/pvh in Xen's sources; <xen/arch-x86/hvm/start_info.h>):
 * 32-bit protected mode without paging, flat segments, at guest physical address 'entry', EBX = start_info.
 */
void hvm_start_pvh(struct vcpu *v, uint32_t entry, uint32_t start_info);

#endif
