/*
 * Domains whose kernel runs in its own ring 0 with its own page tables, by the processor's help (AMD-V, VT-x): PVH. What is in this
 * folder knows the guest as a processor; the rest of Croft asks whether d->hvm or v->hvm is there and calls what is declared here.
 *
 *   hvm.c      the vcpu, whatever the processor's maker: the loop that enters the guest, what waits to be injected, its start
 *   exits.c    what the guest did that Croft must answer, where that does not depend on the maker
 *   svm.c      AMD-V: the control block, entry and exit; svm_audit.c: is the block one that the processor takes
 *   vmx.c      VT-x: the same, with vmx_audit.c
 *   p2m.c      nested page tables: the guest's physical memory; pod.c: what of it comes when it is first used
 *   walk.c     the guest's own page tables, for hypercalls and instructions
 *   vlapic.c   its local APIC
 *   context.c  its processors' state in the ABI's form, for the tools: hvm/context.h; svm_state.c, vmx_state.c: the makers' parts of it
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
struct vmx_vcpu;

struct hvm_domain {
    struct p2m p2m;
    uint64_t params[HVM_NR_PARAMS]; /* HVM_PARAM_* of <xen/hvm/params.h> */
    uint8_t callback_vector;        /* HVM_PARAM_CALLBACK_IRQ as a vector; 0: none */
    uint64_t paging_pool; /* bytes, as the tools set it: nested tables come from Croft's memory whatever it says */
    bool croft_acpi;      /* its ACPI tables are those of domain/pvh_acpi.h */
    char debug_text[120]; /* a line from the debug port; under d->lock */
    unsigned debug_used;
};

/* walk.c: 2 MiB of the guest's memory, which one entry of the p2m maps writable */
struct hvm_piece {
    uint64_t number;  /* physical address >> P2M_PIECE_SHIFT */
    uint64_t flushes; /* p2m.flushes, before this was looked up */
    char *at;         /* null: none was */
};

/* walk.c: a walk of the tables of a 64-bit kernel, good for as long as all that it saw is as it was */
struct hvm_walk {
    char *frame;   /* of the page; null: no walk */
    uint64_t page; /* its virtual address */
    uint64_t cr3, flushes;
    uint64_t rights;       /* PTE_WRITE (only if it is dirty, too), PTE_USER */
    const uint64_t *at[4]; /* the entries; of a large page some are the same */
    uint64_t entries[4];
};

struct hvm_vcpu {
    struct vlapic vlapic;
    union { /* by the vendor */
        struct vmcb *vmcb;
        struct vmx_vcpu *vmx;
    };
    uint64_t pending_event;    /* an exception, or what an exit interrupted, as EVENT_* of hvm/vmcb.h; 0: none */
    uint8_t upcall_vector;     /* HVMOP_set_evtchn_upcall_vector; 0: the domain's callback vector */
    volatile bool upcall_edge; /* evtchn_upcall_pending has gone from 0 to 1 since this was last looked at */
    bool nmi_blocked;          /* until the guest's next IRET */
    bool nmi_leaving;          /* ... which is the next instruction, at: */
    uint64_t nmi_iret_rip;
    bool waits_for_startup; /* is down until a start-up signal comes; this and the next three under d->lock */
    bool halted;            /* ... or an NMI: by HLT with interrupts disabled */
    volatile bool init_pending;
    volatile uint32_t startup; /* STARTUP_VALID and the vector, or 0 */
    uint64_t dr[4];
    uint32_t asid, asid_cpu;    /* its address space id, on that CPU, of ... */
    uint64_t asid_generation;   /* ... this generation of the CPU's; 0: none */
    uint64_t flushed;           /* p2m.flushes, before its TLB was last emptied */
    uint64_t walk_absent;       /* walk.c: the frame that the last walk found missing */
    struct hvm_piece pieces[8]; /* these two by current only, with interrupts disabled */
    struct hvm_walk walks[8];   /* by the lowest bits of the page's number */
};

/* Boot, on the boot CPU, then on each CPU that comes on line. */
void hvm_init(void);
void hvm_init_cpu(void);
void hvm_close_cpu(void); /* this CPU goes off line; interrupts disabled */
/* Null if there can be such domains, or why not, one line without end of line. */
const char *hvm_missing(void);

/* Makes d, which has no vcpus yet, one of them. -ENOMEM, -EOPNOTSUPP */
int hvm_init_domain(struct domain *d);
void hvm_destroy_domain(struct domain *d); /* its last reference has gone */
int hvm_create_vcpu(struct vcpu *v);       /* -ENOMEM */
void hvm_destroy_vcpu(struct vcpu *v);     /* v->hvm may be null */
/*
 * v, which is not initialised, begins as the PVH ABI has it (docs/misc/pvh in Xen's sources; <xen/arch-x86/hvm/start_info.h>):
 * 32-bit protected mode without paging, flat segments, at guest physical address 'entry', EBX = start_info.
 */
void hvm_start_pvh(struct vcpu *v, uint32_t entry, uint32_t start_info);

/* The context switch: what the processor holds beyond the registers in guest_regs. Interrupts disabled. */
void hvm_switch_out(struct vcpu *v);
void hvm_switch_in(struct vcpu *v);
/* Enters current's guest again and again; left by a context switch. On an empty stack, interrupts enabled or not. */
void hvm_run(void);

/* evtchn_upcall_pending of v has just been set: before vcpu_kick. Any context. */
void hvm_event_pending(struct vcpu *v);
bool hvm_interrupt_pending(struct vcpu *v); /* may current sleep? */
/* HVMOP_set_evtchn_upcall_vector, HVM_PARAM_CALLBACK_IRQ: false if the vector is none to be used */
bool hvm_set_upcall_vector(struct vcpu *v, uint8_t vector);
bool hvm_set_callback(struct domain *d, uint64_t value);
bool hvm_has_xsave(const struct vcpu *v);   /* CR4.OSXSAVE; v is current */
void hvm_report_vcpu(const struct vcpu *v); /* for crash reports */

/* Copies at guest virtual addresses of current, with its kernel's rights; all return how many bytes were not copied (walk.c). */
size_t hvm_copy_from_guest(void *to, uint64_t va, size_t n);
size_t hvm_copy_to_guest(uint64_t va, const void *from, size_t n); /* from null: zeros */

#endif
