/*
 * A VMCS' state as the ABI carries it: see vmx_state.h. Two of a guest's registers are not what it reads: CR0 and CR4 have bits that VMX
 * operation wants, or does not take, and those that the masks keep from it are read from their shadows (Intel SDM volume 3, 25.3).
 */
#include "hvm/vmx_state.h"

#include "cpu/instr.h"
#include "hvm/vmcb.h"
#include "hvm/vmcs.h"
#include "hvm/vmx_audit.h"
#include "lib/string.h"

#define ATTRIBUTES 0xfffU
#define ATTRIBUTES_LOW 0xffU /* type, S, DPL, P: the same in both forms */
#define ATTRIBUTES_HIGH 0xf00U
#define ATTRIBUTES_DPL 0x60U
#define TYPE_ACCESSED 1U
#define TYPE_TSS_16 1U
#define TYPE_TSS 9U
#define LIMIT_WITHOUT_G 0xfffffU
#define LIMIT_OF_G 0xfffU
#define DR6_ONES 0xffff0ff0UL
#define DR6_USED 0xe00fUL
#define DR7_ONE 0x400UL
#define CR0_KNOWN (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)

/* clang-format off */
#define EACH_SEGMENT(X) X(cs) X(ds) X(es) X(fs) X(gs) X(ss) X(tr) X(ldtr)
/* clang-format on */

uint32_t vmx_attributes_to_abi(uint64_t attributes)
{
    uint32_t a = (uint32_t)((attributes & ATTRIBUTES_LOW) | (attributes >> 4 & ATTRIBUTES_HIGH));

    return attributes & ATTRIBUTES_UNUSABLE ? a & ~SEGMENT_P : a;
}

uint64_t vmx_attributes_from_abi(uint32_t attributes, uint64_t limit)
{
    if (!(attributes & SEGMENT_P))
        return ATTRIBUTES_UNUSABLE | (attributes & ATTRIBUTES_DPL); /* SS.DPL is the CPL even so */
    if (attributes & SEGMENT_S)
        attributes |= TYPE_ACCESSED;
    if (limit > LIMIT_WITHOUT_G)
        attributes |= SEGMENT_G;
    else if ((limit & LIMIT_OF_G) != LIMIT_OF_G)
        attributes &= ~SEGMENT_G;
    return (attributes & ATTRIBUTES_LOW) | (attributes & ATTRIBUTES_HIGH) << 4;
}

static uint64_t as_read(uint64_t value, uint64_t shadow, uint64_t mask) { return (value & ~mask) | (shadow & mask); }

void vmx_state_save(const struct vmcs *b, struct hvm_hw_cpu *c)
{
#define SAVE(s)                                                                                                        \
    c->s##_sel = (uint32_t)b->s##_selector;                                                                            \
    c->s##_arbytes = vmx_attributes_to_abi(b->s##_attributes);                                                         \
    c->s##_limit = (uint32_t)b->s##_limit;                                                                             \
    c->s##_base = b->s##_base;
    EACH_SEGMENT(SAVE)
    c->gdtr_limit = (uint32_t)b->gdtr_limit;
    c->gdtr_base = b->gdtr_base;
    c->idtr_limit = (uint32_t)b->idtr_limit;
    c->idtr_base = b->idtr_base;
    c->cr0 = as_read(b->cr0, b->cr0_shadow, b->cr0_mask);
    c->cr2 = b->extra.cr2;
    c->cr3 = b->cr3;
    c->cr4 = as_read(b->cr4, b->cr4_shadow, b->cr4_mask);
    c->dr6 = b->extra.dr6;
    c->dr7 = b->dr7;
    c->msr_efer = b->efer;
    c->msr_star = b->extra.star;
    c->msr_lstar = b->extra.lstar;
    c->msr_cstar = b->extra.cstar;
    c->msr_syscall_mask = b->extra.sfmask;
    c->shadow_gs = b->extra.kernel_gs_base;
    c->sysenter_cs = b->sysenter_cs;
    c->sysenter_esp = b->sysenter_esp;
    c->sysenter_eip = b->sysenter_eip;
}

void vmx_state_load(struct vmcs *b, const struct hvm_hw_cpu *c, const struct vmx_limits *l)
{
#define LOAD(s)                                                                                                        \
    b->s##_selector = (uint16_t)c->s##_sel;                                                                            \
    b->s##_attributes = vmx_attributes_from_abi(c->s##_arbytes, c->s##_limit);                                         \
    b->s##_limit = c->s##_limit;                                                                                       \
    b->s##_base = c->s##_base;
    EACH_SEGMENT(LOAD)
    b->gdtr_limit = c->gdtr_limit;
    b->gdtr_base = c->gdtr_base;
    b->idtr_limit = c->idtr_limit;
    b->idtr_base = c->idtr_base;
    b->cr0 = (c->cr0 & ~(CR0_CD | CR0_NW)) | l->cr0_ones;
    b->cr0_shadow = c->cr0;
    b->extra.cr2 = c->cr2;
    b->cr3 = c->cr3;
    b->cr4 = c->cr4 | l->cr4_ones;
    b->cr4_shadow = c->cr4;
    b->extra.dr6 = (c->dr6 & ~0xffffffffUL) | (c->dr6 & DR6_USED) | DR6_ONES;
    b->dr7 = c->dr7 | DR7_ONE;
    b->efer = c->msr_efer;
    b->entry_controls &= ~(uint64_t)ENTRY_LONG_MODE;
    if (c->msr_efer & EFER_LMA)
        b->entry_controls |= ENTRY_LONG_MODE;
    b->extra.star = c->msr_star;
    b->extra.lstar = c->msr_lstar;
    b->extra.cstar = c->msr_cstar;
    b->extra.sfmask = c->msr_syscall_mask;
    b->extra.kernel_gs_base = c->shadow_gs;
    b->sysenter_cs = c->sysenter_cs;
    b->sysenter_esp = c->sysenter_esp;
    b->sysenter_eip = c->sysenter_eip;
    b->interruptibility = 0;
    b->activity = ACTIVITY_ACTIVE;
    b->pending_debug = 0;
    b->debugctl = 0; /* the record has none */
    b->processor_controls &= ~(uint64_t)(PROC_INTR_WINDOW | PROC_NMI_WINDOW);
}

/* What has more bits in the record than in the VMCS */
static bool segments_fit(const struct hvm_hw_cpu *c)
{
#define FITS(s) &&!((c->s##_sel >> 16) | (c->s##_arbytes & ~ATTRIBUTES))
    return true EACH_SEGMENT(FITS);
}

static bool tss_is_available(uint32_t attributes)
{
    uint32_t type = attributes & (SEGMENT_P | SEGMENT_S | SEGMENT_TYPE);

    return type == (SEGMENT_P | TYPE_TSS) || type == (SEGMENT_P | TYPE_TSS_16);
}

/* Of the record's events INT n is never injected, but executed again: hvm/context.c. */
static void set_event(struct vmcs *b, const struct hvm_hw_cpu *c)
{
    b->entry_event = (c->pending_event & EVENT_TYPE) == EVENT_TYPE_SOFTWARE ? 0 : c->pending_event;
    b->entry_error = c->pending_event & EVENT_HAS_ERROR ? c->error_code : 0;
}

const char *vmx_state_check(const struct vmcs *b, const struct hvm_hw_cpu *c, const struct vmx_limits *l,
                            struct vmcs *scratch)
{
    if (!segments_fit(c))
        return "a segment's selector or attributes have reserved bits";
    if (c->cr0 & ~CR0_KNOWN)
        return "CR0 has reserved bits";
    if ((c->cr0 & (CR0_CD | CR0_NW)) == CR0_NW)
        return "CR0.NW without CR0.CD";
    if (c->sysenter_cs >> 32)
        return "SYSENTER_CS has more than 32 bits";
    if (tss_is_available(c->tr_arbytes))
        return "TR: a TSS that is not busy, which VT-x never has there";
    *scratch = *b;
    vmx_state_load(scratch, c, l);
    set_event(scratch, c);
    scratch->rip = c->rip;
    scratch->rsp = c->rsp;
    scratch->rflags = c->rflags | EFLAGS_MBS; /* as hvm/context.c loads it */
    return vmx_audit_state(scratch, l);
}
