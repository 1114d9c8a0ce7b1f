/*
 * A control block's state as the ABI carries it: see svm_state.h. Segments' attributes have the control block's own form there, and a
 * pending event that of its EVENTINJ field (AMD64 APM volume 2, appendix B and 15.20).
 */
#include "hvm/svm_state.h"

#include "cpu/instr.h"
#include "hvm/svm_audit.h"
#include "hvm/vmcb.h"
#include "lib/string.h"

#define ATTRIBUTES 0xfffU
#define SEGMENT_DPL_SHIFT 5
#define SEGMENT_DPL_BITS (3U << SEGMENT_DPL_SHIFT)
#define DR6_ONES 0xffff0ff0UL
#define DR6_USED 0xe00fUL
#define DR7_ONE 0x400UL
#define CR0_KNOWN (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)

/* clang-format off */
#define EACH_SEGMENT(X) X(cs) X(ds) X(es) X(fs) X(gs) X(ss) X(tr) X(ldtr)
/* clang-format on */

void svm_state_save(const struct vmcb *b, struct hvm_hw_cpu *c)
{
#define SAVE(s)                                                                                                        \
    c->s##_sel = b->s.selector;                                                                                        \
    c->s##_arbytes = b->s.attributes;                                                                                  \
    c->s##_limit = b->s.limit;                                                                                         \
    c->s##_base = b->s.base;
    EACH_SEGMENT(SAVE)
    /* After a SYSRET, or when it is null, SS has any DPL: the CPL is in its own field (15.5.1). */
    c->ss_arbytes = (c->ss_arbytes & ~SEGMENT_DPL_BITS) | (uint32_t)b->cpl << SEGMENT_DPL_SHIFT;
    c->gdtr_limit = b->gdtr.limit;
    c->gdtr_base = b->gdtr.base;
    c->idtr_limit = b->idtr.limit;
    c->idtr_base = b->idtr.base;
    c->cr0 = b->cr0;
    c->cr2 = b->cr2;
    c->cr3 = b->cr3;
    c->cr4 = b->cr4;
    c->dr6 = b->dr6;
    c->dr7 = b->dr7;
    c->msr_efer = b->efer & ~EFER_SVME;
    c->msr_star = b->star;
    c->msr_lstar = b->lstar;
    c->msr_cstar = b->cstar;
    c->msr_syscall_mask = b->sfmask;
    c->shadow_gs = b->kernel_gs_base;
    c->sysenter_cs = b->sysenter_cs;
    c->sysenter_esp = b->sysenter_esp;
    c->sysenter_eip = b->sysenter_eip;
}

void svm_state_load(struct vmcb *b, const struct hvm_hw_cpu *c)
{
#define LOAD(s) b->s = (struct vmcb_segment){(uint16_t)c->s##_sel, (uint16_t)c->s##_arbytes, c->s##_limit, c->s##_base};
    EACH_SEGMENT(LOAD)
    b->gdtr = (struct vmcb_segment){.limit = c->gdtr_limit, .base = c->gdtr_base};
    b->idtr = (struct vmcb_segment){.limit = c->idtr_limit, .base = c->idtr_base};
    b->cpl = SEGMENT_DPL(b->ss.attributes);
    b->cr0 = c->cr0;
    b->cr2 = c->cr2;
    b->cr3 = c->cr3;
    b->cr4 = c->cr4;
    b->dr6 = (c->dr6 & ~0xffffffffUL) | (c->dr6 & DR6_USED) | DR6_ONES;
    b->dr7 = c->dr7 | DR7_ONE;
    b->efer = c->msr_efer | EFER_SVME;
    b->star = c->msr_star;
    b->lstar = c->msr_lstar;
    b->cstar = c->msr_cstar;
    b->sfmask = c->msr_syscall_mask;
    b->kernel_gs_base = c->shadow_gs;
    b->sysenter_cs = c->sysenter_cs;
    b->sysenter_esp = c->sysenter_esp;
    b->sysenter_eip = c->sysenter_eip;
    b->s_cet = b->ssp = b->isst = 0;
    b->interrupt_shadow = 0;
    b->intercepts[INTERCEPT_MISC1] &= ~(INTERCEPT_IRET | INTERCEPT_VINTR);
    b->vintr &= ~VINTR_NOW;
}

/* What has more bits in the record than in the block */
static bool segments_fit(const struct hvm_hw_cpu *c)
{
#define FITS(s) &&!((c->s##_sel >> 16) | (c->s##_arbytes & ~ATTRIBUTES))
    return true EACH_SEGMENT(FITS);
}

const char *svm_state_check(const struct vmcb *b, const struct hvm_hw_cpu *c, const struct svm_limits *l,
                            struct vmcb *scratch)
{
    if (!segments_fit(c))
        return "a segment's selector or attributes have reserved bits";
    if (c->cr0 & ~CR0_KNOWN)
        return "CR0 has reserved bits";
    if ((c->cr0 & (CR0_PG | CR0_PE)) == CR0_PG)
        return "CR0.PG without CR0.PE";
    *scratch = *b;
    svm_state_load(scratch, c);
    scratch->event_injection = c->pending_event;
    if (c->pending_event & EVENT_HAS_ERROR)
        scratch->event_injection |= (uint64_t)c->error_code << EVENT_ERROR_SHIFT;
    if (!scratch->asid) /* it never ran */
        scratch->asid = 1;
    return svm_audit(scratch, l);
}
