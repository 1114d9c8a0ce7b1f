/*
 * The rules for a VMCS: first those whose breach VM entry answers with a failure that does not say what was wrong (Intel SDM volume 3,
 * 26.2 and 26.3), then those without which the guest would not be confined. Each rule is a condition that must not hold, and in a
 * table its text.
 *
 * A guest changes much of this state without an exit. What it can reach so and VM entry accepts, no rule forbids.
 *
 * What is not in the VMCS but in memory no rule looks at: the maps, and the TPR in the virtual-APIC page, which the TPR threshold must
 * not be above (26.2.1.1).
 */
#include "hvm/vmx_audit.h"

#include "cpu/instr.h"
#include "hvm/vmcb.h"
#include "hvm/vmcs.h"
#include "lib/log.h"

#define RULE(name, broken)                                                                                             \
    static bool name(const struct vmcs *b, const struct vmx_limits *l) { return broken; }

/* IA32_VMX_EPT_VPID_CAP (appendix A.10) */
#define EPT_CAP_4_LEVELS (1UL << 6)
#define EPT_CAP_WRITE_BACK (1UL << 14)
/* Four, unless IA32_VMX_MISC says otherwise (A.6). Croft has none. */
#define CR3_TARGETS_MOST 4U
#define CR4_VMXE (1UL << 13)

/* The controls of the names in hvm/vmcs.h: what others do, and what fields they need, nobody has looked at. */
#define PIN_KNOWN (PIN_INTR_EXITING | PIN_NMI_EXITING | PIN_VIRTUAL_NMIS | PIN_PREEMPTION_TIMER)
#define PROC_KNOWN                                                                                                     \
    (PROC_INTR_WINDOW | PROC_TSC_OFFSET | PROC_HLT | PROC_INVLPG | PROC_MWAIT | PROC_RDPMC | PROC_CR3_LOAD |           \
     PROC_CR3_STORE | PROC_CR8_LOAD | PROC_CR8_STORE | PROC_TPR_SHADOW | PROC_NMI_WINDOW | PROC_MOV_DR |               \
     PROC_ALL_PORTS | PROC_MONITOR_TRAP | PROC_MSR_MAP | PROC_MONITOR | PROC_PAUSE | PROC_SECONDARY)
#define PROC2_KNOWN                                                                                                    \
    (PROC2_EPT | PROC2_RDTSCP | PROC2_VPID | PROC2_WBINVD | PROC2_UNRESTRICTED | PROC2_INVPCID | PROC2_XSAVES)
#define EXIT_KNOWN                                                                                                     \
    (EXIT_SAVE_DEBUG | EXIT_HOST_64 | EXIT_ACK_INTR | EXIT_SAVE_PAT | EXIT_LOAD_PAT | EXIT_SAVE_EFER | EXIT_LOAD_EFER)
#define ENTRY_KNOWN (ENTRY_LOAD_DEBUG | ENTRY_LONG_MODE | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER)
#define PROC2_OWN_APIC (PROC2_APIC_ACCESSES | PROC2_X2APIC | PROC2_APIC_REGISTERS | PROC2_INTR_DELIVERY)

#define EVENT_RESERVED 0x7ffff000UL
#define EVENT_TYPE_RESERVED (1UL << 8)
#define EVENT_TYPE_OTHER (7UL << 8) /* that of the monitor trap flag */
#define ERROR_CODE_BITS 0xffffUL
#define RFLAGS_RESERVED (~0x3fffffUL | 1UL << 15 | 1UL << 5 | 1UL << 3)
#define DEBUGCTL_RESERVED (~0xffc7UL)
#define PENDING_RESERVED (~(PENDING_BREAKPOINTS | PENDING_ENABLED_BREAKPOINT | PENDING_SINGLE_STEP | PENDING_RTM))
#define INTERRUPTIBILITY_RESERVED (~0xfUL) /* bit 4 comes with SGX, which no guest has */
#define PDPTE_P 1UL
#define PDPTE_RESERVED 0x1e6UL

/* Attributes of segments (24.4.1) */
#define SEGMENT_L_VMX (SEGMENT_L << 4)
#define SEGMENT_DB_VMX (SEGMENT_DB << 4)
#define SEGMENT_G_VMX (SEGMENT_G << 4)
#define SEGMENT_RESERVED 0xfffe0f00U
#define SEGMENT_VIRTUAL_8086 0xf3U
#define TYPE_ACCESSED 1U
#define TYPE_READABLE 2U /* of a code segment */
#define TYPE_CODE 8U
#define TYPE_CONFORMING 4U
#define TYPE_DATA 3U      /* writable, accessed */
#define TYPE_DATA_DOWN 7U /* the same, expanding downwards */
#define TYPE_LDT 2U
#define TYPE_BUSY_TSS_16 3U
#define TYPE_BUSY_TSS 11U
#define SELECTOR_RPL 3U
#define SELECTOR_TI 4U

#define V(name) (1U << X86_##name)
/* Not 28 to 30, which are AMD's. #CP is there where IA32_VMX_BASIC[56] is. */
#define EXCEPTIONS                                                                                                     \
    (V(DE) | V(DB) | V(BP) | V(OF) | V(BR) | V(UD) | V(NM) | V(DF) | V(TS) | V(NP) | V(SS) | V(GP) | V(PF) | V(MF) |   \
     V(AC) | V(MC) | V(XM))
#define EXCEPTIONS_WITH_ERROR (V(DF) | V(TS) | V(NP) | V(SS) | V(GP) | V(PF) | V(AC))

static bool breaks_controls(uint64_t controls, struct vmx_allowed a) { return a.ones & ~controls; }
static bool has_other(uint64_t controls, struct vmx_allowed a) { return controls & ~(uint64_t)a.may; }
static bool has_unknown(uint64_t controls, uint32_t known, struct vmx_allowed a)
{
    return controls & ~(uint64_t)(known | a.ones);
}
static uint64_t secondary(const struct vmcs *b)
{
    return b->processor_controls & PROC_SECONDARY ? b->secondary_controls : 0;
}
static bool unrestricted(const struct vmcs *b) { return secondary(b) & PROC2_UNRESTRICTED; }
static bool tpr_shadow(const struct vmcs *b) { return b->processor_controls & PROC_TPR_SHADOW; }
static bool virtual_nmis(const struct vmcs *b) { return b->pin_controls & PIN_VIRTUAL_NMIS; }
static bool long_mode(const struct vmcs *b) { return b->entry_controls & ENTRY_LONG_MODE; }
static bool code_64(const struct vmcs *b) { return long_mode(b) && b->cs_attributes & SEGMENT_L_VMX; }
static bool v8086(const struct vmcs *b) { return b->rflags & EFLAGS_VM; }
static bool pae_paging(const struct vmcs *b)
{
    return b->cr0 & CR0_PG && b->cr4 & CR4_PAE && !long_mode(b) && secondary(b) & PROC2_EPT;
}
/* Bits 13 and 14 of a field's encoding are its width (appendix B): VMWRITE drops what is above. */
static bool too_wide(uint64_t value, unsigned encoding)
{
    static const unsigned bits[] = {16, 64, 32, 64};
    unsigned width = bits[encoding >> 13 & 3];

    return width < 64 && value >> width;
}
static bool wide_field(const struct vmcs *b)
{
#define X(name, encoding) || too_wide(b->name, encoding)
    return false VMCS_FIELDS(X);
#undef X
}
static bool page_in(uint64_t address, const struct vmx_limits *l)
{
    return !(address & ~PAGE_MASK || address >> l->physical_bits);
}
static bool extends(uint64_t address, unsigned bits) /* the sign of its lowest bits */
{
    return (uint64_t)((int64_t)(address << (64 - bits)) >> (64 - bits)) == address;
}
static bool canonical(uint64_t address, const struct vmx_limits *l)
{
    return extends(address, max(l->linear_bits, 48U));
}
/* PAT's types: UC, WC, WT, WP, WB, UC- (11.12.2) */
static bool pat_legal(uint64_t pat)
{
    for (; pat; pat >>= 8)
        if ((pat & 0xff) > 7 || (pat & 0xff) == 2 || (pat & 0xff) == 3)
            return false;
    return true;
}

/* 26.2.1.1: execution controls */
RULE(pin_ones, breaks_controls(b->pin_controls, l->pin))
RULE(pin_may, has_other(b->pin_controls, l->pin))
RULE(processor_ones, breaks_controls(b->processor_controls, l->processor))
RULE(processor_may, has_other(b->processor_controls, l->processor))
RULE(secondary_ones, (b->processor_controls & PROC_SECONDARY) && breaks_controls(b->secondary_controls, l->secondary))
RULE(secondary_may, has_other(secondary(b), l->secondary))
RULE(cr3_targets, b->cr3_targets > CR3_TARGETS_MOST)
RULE(msr_map, (b->processor_controls & PROC_MSR_MAP) && !page_in(b->msr_map, l))
RULE(virtual_apic, tpr_shadow(b) && !page_in(b->virtual_apic, l))
RULE(tpr_threshold, tpr_shadow(b) && !(secondary(b) & PROC2_INTR_DELIVERY) && b->tpr_threshold > 15)
RULE(apic_without_shadow,
     !tpr_shadow(b) && (secondary(b) & (PROC2_X2APIC | PROC2_APIC_REGISTERS | PROC2_INTR_DELIVERY)) != 0)
RULE(virtual_nmis_alone, virtual_nmis(b) && !(b->pin_controls & PIN_NMI_EXITING))
RULE(nmi_window_alone, (b->processor_controls & PROC_NMI_WINDOW) && !virtual_nmis(b))
RULE(x2apic_and_accesses, (~secondary(b) & (PROC2_X2APIC | PROC2_APIC_ACCESSES)) == 0)
RULE(delivery_without_exits, secondary(b) & PROC2_INTR_DELIVERY && !(b->pin_controls & PIN_INTR_EXITING))
RULE(vpid_zero, secondary(b) & PROC2_VPID && !b->vpid)
RULE(ept_type,
     secondary(b) & PROC2_EPT && ((b->ept_root & 7) != (EPTP_FORMAT & 7) || !(l->ept_vpid & EPT_CAP_WRITE_BACK)))
RULE(ept_levels,
     secondary(b) & PROC2_EPT && ((b->ept_root & 0x38) != (EPTP_FORMAT & 0x38) || !(l->ept_vpid & EPT_CAP_4_LEVELS)))
RULE(ept_more, secondary(b) & PROC2_EPT && (b->ept_root & EPTP_FORMAT_MASK) != EPTP_FORMAT)
RULE(ept_beyond, secondary(b) & PROC2_EPT && b->ept_root >> l->physical_bits)
RULE(unrestricted_without_ept, unrestricted(b) && !(secondary(b) & PROC2_EPT))
/* 26.2.1.2: exit controls */
RULE(exit_ones, breaks_controls(b->exit_controls, l->exit))
RULE(exit_may, has_other(b->exit_controls, l->exit))
RULE(exit_stores, b->exit_msr_stores)
RULE(exit_loads, b->exit_msr_loads)
/* 26.2.1.3: entry controls */
RULE(entry_ones, breaks_controls(b->entry_controls, l->entry))
RULE(entry_may, has_other(b->entry_controls, l->entry))
RULE(entry_smm, (b->entry_controls & (ENTRY_SMM | ENTRY_DEACTIVATE_DUAL)) != 0)
RULE(entry_loads, b->entry_msr_loads)

/* 26.2.1.3 as well: the event */
static bool injects_any(const struct vmcs *b) { return b->entry_event & EVENT_VALID; }
static bool injects(const struct vmcs *b, uint64_t type)
{
    return (b->entry_event & (EVENT_VALID | EVENT_TYPE)) == (EVENT_VALID | type);
}
static bool injects_exception(const struct vmcs *b, uint32_t set)
{
    uint64_t vector = b->entry_event & EVENT_VECTOR;

    return injects(b, EVENT_TYPE_EXCEPTION) && vector < 32 && set >> vector & 1;
}
static bool has_error(const struct vmcs *b) { return injects_any(b) && b->entry_event & EVENT_HAS_ERROR; }
static uint32_t exceptions(const struct vmx_limits *l) { return EXCEPTIONS | (l->error_code_free ? V(CP) : 0); }
static uint32_t exceptions_with_error(const struct vmx_limits *l)
{
    return EXCEPTIONS_WITH_ERROR | (l->error_code_free ? V(CP) : 0);
}
RULE(event_type, injects(b, EVENT_TYPE_RESERVED) || injects(b, EVENT_TYPE_OTHER))
RULE(event_nmi, injects(b, EVENT_TYPE_NMI) && (b->entry_event & EVENT_VECTOR) != X86_NMI)
RULE(event_vector, injects(b, EVENT_TYPE_EXCEPTION) && (b->entry_event & EVENT_VECTOR) > 31)
RULE(error_code_extra,
     has_error(b) && !(b->cr0 & CR0_PE && injects_exception(b, l->error_code_free ? ~0U : EXCEPTIONS_WITH_ERROR)))
RULE(error_code_missing,
     injects_exception(b, EXCEPTIONS_WITH_ERROR) && b->cr0 & CR0_PE && !has_error(b) && !l->error_code_free)
RULE(event_reserved, injects_any(b) && b->entry_event & EVENT_RESERVED)
RULE(error_code_wide, has_error(b) && b->entry_error & ~ERROR_CODE_BITS)

/* 26.2.2: host's control registers and MSRs */
RULE(host_cr0, (~b->host_cr0 & (l->cr0_ones | CR0_PE | CR0_PG)) || b->host_cr0 & ~l->cr0_may)
RULE(host_cr4, ~b->host_cr4 & l->cr4_ones || b->host_cr4 & ~l->cr4_may)
RULE(host_cet, (b->host_cr4 & CR4_CET) && !(b->host_cr0 & CR0_WP))
RULE(host_cr3, b->host_cr3 >> l->physical_bits)
RULE(host_sysenter, !address_canonical(b->host_sysenter_esp) || !address_canonical(b->host_sysenter_eip))
RULE(host_pat, (b->exit_controls & EXIT_LOAD_PAT) && !pat_legal(b->host_pat))
RULE(host_efer, (b->exit_controls & EXIT_LOAD_EFER) && b->host_efer & ~l->efer)
RULE(host_efer_mode,
     (b->exit_controls & EXIT_LOAD_EFER) && (!(b->host_efer & EFER_LMA) != !(b->exit_controls & EXIT_HOST_64) ||
                                             !(b->host_efer & EFER_LME) != !(b->exit_controls & EXIT_HOST_64)))
/* 26.2.3: host's segments */
RULE(host_selectors, (b->host_es | b->host_cs | b->host_ss | b->host_ds | b->host_fs | b->host_gs | b->host_tr) &
                         (SELECTOR_RPL | SELECTOR_TI))
RULE(host_cs, !b->host_cs)
RULE(host_tr, !b->host_tr)
RULE(host_bases, !address_canonical(b->host_fs_base) || !address_canonical(b->host_gs_base) ||
                     !address_canonical(b->host_tr_base) || !address_canonical(b->host_gdtr_base) ||
                     !address_canonical(b->host_idtr_base))
/* 26.2.4: its address-space size */
RULE(host_not_64, !(b->exit_controls & EXIT_HOST_64))
RULE(host_pae, !(b->host_cr4 & CR4_PAE))
RULE(host_rip, !address_canonical(b->host_rip))

/* 26.3.1.1: guest's control registers, debug registers and MSRs */
RULE(cr0_fixed, (~b->cr0 & (l->cr0_ones | (unrestricted(b) ? 0 : CR0_PE | CR0_PG))) || b->cr0 & ~l->cr0_may)
RULE(pg_without_pe, (b->cr0 & CR0_PG) && !(b->cr0 & CR0_PE))
RULE(cr4_fixed, ~b->cr4 & l->cr4_ones || b->cr4 & ~l->cr4_may)
RULE(cet_without_wp, (b->cr4 & CR4_CET) && !(b->cr0 & CR0_WP))
RULE(debugctl_reserved, (b->entry_controls & ENTRY_LOAD_DEBUG) && b->debugctl & DEBUGCTL_RESERVED)
RULE(long_without_pg, long_mode(b) && !(b->cr0 & CR0_PG))
RULE(long_without_pae, long_mode(b) && !(b->cr4 & CR4_PAE))
RULE(pcide_not_long, !long_mode(b) && b->cr4 & CR4_PCIDE)
RULE(cr3_mbz, b->cr3 >> l->physical_bits)
RULE(dr7_high, (b->entry_controls & ENTRY_LOAD_DEBUG) && b->dr7 >> 32)
RULE(sysenter_esp, !canonical(b->sysenter_esp, l))
RULE(sysenter_eip, !canonical(b->sysenter_eip, l))
RULE(pat_type, (b->entry_controls & ENTRY_LOAD_PAT) && !pat_legal(b->pat))
RULE(efer_mbz, (b->entry_controls & ENTRY_LOAD_EFER) && b->efer & ~l->efer)
RULE(lma_not_control, (b->entry_controls & ENTRY_LOAD_EFER) && !(b->efer & EFER_LMA) == long_mode(b))
RULE(lma_not_lme,
     (b->entry_controls & ENTRY_LOAD_EFER) && b->cr0 & CR0_PG && !(b->efer & EFER_LMA) != !(b->efer & EFER_LME))

/* 26.3.1.2: guest's segments, in its order: selectors, bases, limits, attributes from bit 0 on */
static uint64_t type(uint64_t attributes) { return attributes & SEGMENT_TYPE; }
static bool usable(uint64_t attributes) { return !(attributes & ATTRIBUTES_UNUSABLE); }
static bool is_plain(const struct vmcs *b, uint64_t attributes) { return !v8086(b) && usable(attributes); }
static bool bad_granularity(uint64_t attributes, uint64_t limit) /* G, and the limit in bytes */
{
    return attributes & SEGMENT_G_VMX ? (limit & 0xfff) != 0xfff : limit >> 20 != 0;
}
static bool bad_data_type(uint64_t attributes)
{
    return !(attributes & TYPE_ACCESSED) || (attributes & TYPE_CODE && !(attributes & TYPE_READABLE));
}
static bool is_conforming(uint64_t attributes)
{
    return (attributes & (TYPE_CODE | TYPE_CONFORMING)) == (TYPE_CODE | TYPE_CONFORMING);
}
static bool below_rpl(uint64_t attributes, uint64_t selector)
{
    return !is_conforming(attributes) && SEGMENT_DPL(attributes) < (selector & SELECTOR_RPL);
}

#define EACH_OF_SIX(X) X(cs) X(ss) X(ds) X(es) X(fs) X(gs)
#define NOT_V8086_BASE(s) || b->s##_base != b->s##_selector << 4
#define NOT_V8086_LIMIT(s) || b->s##_limit != 0xffff
#define NOT_V8086_ATTRIBUTES(s) || b->s##_attributes != SEGMENT_VIRTUAL_8086

RULE(tr_ti, (b->tr_selector & SELECTOR_TI))
RULE(ldtr_ti, usable(b->ldtr_attributes) && b->ldtr_selector & SELECTOR_TI)
RULE(ss_rpl, !v8086(b) && !unrestricted(b) && (b->ss_selector ^ b->cs_selector) & SELECTOR_RPL)
RULE(v8086_base, v8086(b) && (false EACH_OF_SIX(NOT_V8086_BASE)))
RULE(tr_base, !canonical(b->tr_base, l))
RULE(fs_base, !canonical(b->fs_base, l))
RULE(gs_base, !canonical(b->gs_base, l))
RULE(ldtr_base, usable(b->ldtr_attributes) && !canonical(b->ldtr_base, l))
RULE(cs_base, b->cs_base >> 32)
RULE(ss_base, usable(b->ss_attributes) && b->ss_base >> 32)
RULE(ds_base, usable(b->ds_attributes) && b->ds_base >> 32)
RULE(es_base, usable(b->es_attributes) && b->es_base >> 32)
RULE(v8086_limit, v8086(b) && (false EACH_OF_SIX(NOT_V8086_LIMIT)))
RULE(v8086_attributes, v8086(b) && (false EACH_OF_SIX(NOT_V8086_ATTRIBUTES)))

/* What is asked of each of the six if 'applies' */
#define SEGMENT_RULES(s, applies)                                                                                      \
    RULE(s##_system, (applies) && !(b->s##_attributes & SEGMENT_S))                                                    \
    RULE(s##_absent, (applies) && !(b->s##_attributes & SEGMENT_P))                                                    \
    RULE(s##_reserved, (applies) && b->s##_attributes & SEGMENT_RESERVED)                                              \
    RULE(s##_granularity, (applies) && bad_granularity(b->s##_attributes, b->s##_limit))
#define DATA_RULES(s)                                                                                                  \
    RULE(s##_type, is_plain(b, b->s##_attributes) && bad_data_type(b->s##_attributes))                                 \
    RULE(s##_dpl, is_plain(b, b->s##_attributes) && !unrestricted(b) && below_rpl(b->s##_attributes, b->s##_selector))
SEGMENT_RULES(cs, !v8086(b))
SEGMENT_RULES(ss, is_plain(b, b->ss_attributes))
SEGMENT_RULES(ds, is_plain(b, b->ds_attributes))
SEGMENT_RULES(es, is_plain(b, b->es_attributes))
SEGMENT_RULES(fs, is_plain(b, b->fs_attributes))
SEGMENT_RULES(gs, is_plain(b, b->gs_attributes))
DATA_RULES(ds)
DATA_RULES(es)
DATA_RULES(fs)
DATA_RULES(gs)

static bool cs_is_data(const struct vmcs *b) { return type(b->cs_attributes) == TYPE_DATA; }
static bool cs_is_code(const struct vmcs *b)
{
    return (b->cs_attributes & (TYPE_CODE | TYPE_ACCESSED)) == (TYPE_CODE | TYPE_ACCESSED);
}
RULE(cs_type, !v8086(b) && !cs_is_code(b) && !(unrestricted(b) && cs_is_data(b)))
RULE(ss_type,
     is_plain(b, b->ss_attributes) && type(b->ss_attributes) != TYPE_DATA && type(b->ss_attributes) != TYPE_DATA_DOWN)
RULE(cs_data_dpl, !v8086(b) && cs_is_data(b) && SEGMENT_DPL(b->cs_attributes))
RULE(cs_dpl, !v8086(b) && cs_is_code(b) && !is_conforming(b->cs_attributes) &&
                 SEGMENT_DPL(b->cs_attributes) != SEGMENT_DPL(b->ss_attributes))
RULE(cs_conforming_dpl,
     !v8086(b) && is_conforming(b->cs_attributes) && SEGMENT_DPL(b->cs_attributes) > SEGMENT_DPL(b->ss_attributes))
RULE(ss_dpl, !v8086(b) && !unrestricted(b) && SEGMENT_DPL(b->ss_attributes) != (b->ss_selector & SELECTOR_RPL))
RULE(ss_real_dpl, !v8086(b) && (cs_is_data(b) || !(b->cr0 & CR0_PE)) && SEGMENT_DPL(b->ss_attributes))
RULE(cs_l_and_d, !v8086(b) && code_64(b) && b->cs_attributes & SEGMENT_DB_VMX)

RULE(tr_unusable, !usable(b->tr_attributes))
RULE(tr_type, type(b->tr_attributes) != TYPE_BUSY_TSS && (long_mode(b) || type(b->tr_attributes) != TYPE_BUSY_TSS_16))
RULE(tr_system, (b->tr_attributes & SEGMENT_S))
RULE(tr_absent, !(b->tr_attributes & SEGMENT_P))
RULE(tr_reserved, (b->tr_attributes & SEGMENT_RESERVED))
RULE(tr_granularity, bad_granularity(b->tr_attributes, b->tr_limit))
RULE(ldtr_type, usable(b->ldtr_attributes) && type(b->ldtr_attributes) != TYPE_LDT)
RULE(ldtr_system, usable(b->ldtr_attributes) && b->ldtr_attributes & SEGMENT_S)
RULE(ldtr_absent, usable(b->ldtr_attributes) && !(b->ldtr_attributes & SEGMENT_P))
RULE(ldtr_reserved, usable(b->ldtr_attributes) && b->ldtr_attributes & SEGMENT_RESERVED)
RULE(ldtr_granularity, usable(b->ldtr_attributes) && bad_granularity(b->ldtr_attributes, b->ldtr_limit))
/* 26.3.1.3 */
RULE(gdtr_base, !canonical(b->gdtr_base, l))
RULE(idtr_base, !canonical(b->idtr_base, l))
RULE(gdtr_limit, b->gdtr_limit >> 16)
RULE(idtr_limit, b->idtr_limit >> 16)
/* 26.3.1.4. In 64-bit code RIP may be one past the canonical addresses: the #GP is the guest's own. */
RULE(rip_high, !code_64(b) && b->rip >> 32)
RULE(rip_beyond, code_64(b) && !extends(b->rip, max(l->linear_bits, 48U) + 1))
RULE(rflags_reserved, (b->rflags & RFLAGS_RESERVED) || !(b->rflags & EFLAGS_MBS))
RULE(vm_in_long_mode, v8086(b) && long_mode(b))
RULE(vm_without_pe, v8086(b) && !(b->cr0 & CR0_PE))
RULE(intr_without_if, injects(b, EVENT_TYPE_INTR) && !(b->rflags & EFLAGS_IF))
/* 26.3.1.5. Croft has no other activity state: a vcpu that halts leaves the processor. */
static bool steps(const struct vmcs *b) { return b->rflags & EFLAGS_TF && !(b->debugctl & DEBUGCTL_BTF); }
RULE(not_active, b->activity != ACTIVITY_ACTIVE)
RULE(blocking_reserved, (b->interruptibility & INTERRUPTIBILITY_RESERVED))
RULE(blocking_both, (~b->interruptibility & INTERRUPT_SHADOW_VMX) == 0)
RULE(sti_without_if, (b->interruptibility & BLOCKED_BY_STI) && !(b->rflags & EFLAGS_IF))
RULE(intr_blocked, injects(b, EVENT_TYPE_INTR) && b->interruptibility & INTERRUPT_SHADOW_VMX)
RULE(nmi_by_mov_ss, injects(b, EVENT_TYPE_NMI) && b->interruptibility & BLOCKED_BY_MOV_SS)
RULE(blocked_by_smi, (b->interruptibility & BLOCKED_BY_SMI))
RULE(nmi_by_sti, injects(b, EVENT_TYPE_NMI) && b->interruptibility & BLOCKED_BY_STI)
RULE(nmi_by_nmi, injects(b, EVENT_TYPE_NMI) && virtual_nmis(b) && b->interruptibility & BLOCKED_BY_NMI)
RULE(debug_reserved, (b->pending_debug & PENDING_RESERVED))
RULE(debug_step_missing,
     (b->interruptibility & INTERRUPT_SHADOW_VMX) && steps(b) && !(b->pending_debug & PENDING_SINGLE_STEP))
RULE(debug_step_extra,
     (b->interruptibility & INTERRUPT_SHADOW_VMX) && !steps(b) && b->pending_debug & PENDING_SINGLE_STEP)
RULE(link, b->link != ~0UL)
/* 26.3.1.6 */
static bool bad_pdpte(uint64_t entry, const struct vmx_limits *l)
{
    return entry & PDPTE_P && (entry & PDPTE_RESERVED || entry >> l->physical_bits);
}
RULE(pdptes, pae_paging(b) && (bad_pdpte(b->pdpte0, l) || bad_pdpte(b->pdpte1, l) || bad_pdpte(b->pdpte2, l) ||
                               bad_pdpte(b->pdpte3, l)))

/* Croft's own: what it writes to MSRs and debug registers itself, where a #GP would be its own; and events that never come so */
RULE(field_width, wide_field(b))
RULE(kernel_gs_base, !canonical(b->extra.kernel_gs_base, l))
RULE(lstar, !canonical(b->extra.lstar, l))
RULE(cstar, !canonical(b->extra.cstar, l))
RULE(sfmask_high, b->extra.sfmask >> 32)
RULE(dr6_high, b->extra.dr6 >> 32)
RULE(debugctl, b->debugctl)
RULE(cr0_caches, (b->cr0 & (CR0_CD | CR0_NW)) != 0)
RULE(event_software,
     injects(b, EVENT_TYPE_SOFTWARE) || injects(b, EVENT_TYPE_PRIVILEGED) || injects(b, EVENT_TYPE_SOFT_EXCEPTION))
RULE(event_no_exception, injects(b, EVENT_TYPE_EXCEPTION) && !injects_exception(b, exceptions(l)))
RULE(error_code_odd, injects(b, EVENT_TYPE_EXCEPTION) && b->cr0 & CR0_PE &&
                         injects_exception(b, exceptions_with_error(l)) != has_error(b))

/* Croft's own: what confines a guest. What must be on has a table of its own. */
RULE(port_map, (b->processor_controls & PROC_PORT_MAP))
RULE(vmfunc, secondary(b) & PROC2_VMFUNC)
RULE(own_apic, (secondary(b) & PROC2_OWN_APIC) != 0)
RULE(cr8_open, !tpr_shadow(b) && ~b->processor_controls & (PROC_CR8_LOAD | PROC_CR8_STORE))
RULE(cr4_mask_rest, ~b->cr4_mask & ~CR4_VMXE & 0xffffffff)
RULE(msr_map_zero, !b->msr_map)
RULE(ept_zero, !(b->ept_root & PAGE_MASK))
RULE(virtual_apic_zero, tpr_shadow(b) && !b->virtual_apic)
RULE(pin_unknown, has_unknown(b->pin_controls, PIN_KNOWN, l->pin))
RULE(processor_unknown, has_unknown(b->processor_controls, PROC_KNOWN, l->processor))
RULE(secondary_unknown, has_unknown(secondary(b), PROC2_KNOWN, l->secondary))
RULE(exit_unknown, has_unknown(b->exit_controls, EXIT_KNOWN, l->exit))
RULE(entry_unknown, has_unknown(b->entry_controls, ENTRY_KNOWN, l->entry))

struct rule {
    bool (*broken)(const struct vmcs *b, const struct vmx_limits *l);
    const char *text;
};

static const struct rule control_rules[] = {
    {pin_ones, "pin-based controls: one that must be on is off"},
    {pin_may, "pin-based controls: one is on that the processor does not have"},
    {processor_ones, "processor-based controls: one that must be on is off"},
    {processor_may, "processor-based controls: one is on that the processor does not have"},
    {secondary_ones, "secondary controls: one that must be on is off"},
    {secondary_may, "secondary controls: one is on that the processor does not have"},
    {cr3_targets, "CR3-target count is more than 4"},
    {msr_map, "the map of MSRs is not a page within the physical addresses"},
    {virtual_apic, "the virtual-APIC page is not a page within the physical addresses"},
    {tpr_threshold, "TPR threshold is more than 15"},
    {apic_without_shadow, "x2APIC mode, APIC registers or interrupt delivery are virtual without a TPR shadow"},
    {virtual_nmis_alone, "virtual NMIs without exits for NMIs"},
    {nmi_window_alone, "NMI-window exiting without virtual NMIs"},
    {x2apic_and_accesses, "x2APIC mode and APIC accesses are both virtual"},
    {delivery_without_exits, "virtual-interrupt delivery without exits for interrupts"},
    {vpid_zero, "VPID is zero"},
    {ept_type, "EPT pointer: not write-back, or the processor does not have that"},
    {ept_levels, "EPT pointer: not four levels, or the processor does not have them"},
    {ept_more, "EPT pointer: bits 11-6 are not zero"},
    {ept_beyond, "EPT pointer: beyond the physical addresses"},
    {unrestricted_without_ept, "an unrestricted guest without EPT"},
    {exit_ones, "exit controls: one that must be on is off"},
    {exit_may, "exit controls: one is on that the processor does not have"},
    {exit_stores, "exit MSR-store count is not zero"},
    {exit_loads, "exit MSR-load count is not zero"},
    {entry_ones, "entry controls: one that must be on is off"},
    {entry_may, "entry controls: one is on that the processor does not have"},
    {entry_smm, "an entry to SMM, or one that ends the dual-monitor treatment"},
    {entry_loads, "entry MSR-load count is not zero"},
};

static const struct rule event_rules[] = {
    {event_type, "event: reserved type"},
    {event_nmi, "event: an NMI whose vector is not 2"},
    {event_vector, "event: an exception whose vector is beyond 31"},
    {error_code_extra, "event: an error code where there is none"},
    {error_code_missing, "event: an exception without its error code"},
    {event_reserved, "event: bits 30-12 are not zero"},
    {error_code_wide, "event: the error code has more than 16 bits"},
};

static const struct rule host_rules[] = {
    {host_cr0, "host CR0 has bits that it must not have in VMX operation, or lacks some"},
    {host_cr4, "host CR4 has bits that it must not have in VMX operation, or lacks some"},
    {host_cet, "host CR4.CET without CR0.WP"},
    {host_cr3, "host CR3 has bits beyond the physical addresses"},
    {host_sysenter, "host SYSENTER_ESP or SYSENTER_EIP is not canonical"},
    {host_pat, "host PAT has a reserved type"},
    {host_efer, "host EFER has bits that the processor does not have"},
    {host_efer_mode, "host EFER.LMA or EFER.LME is not as the host address-space size"},
    {host_selectors, "a selector of the host's has a TI or RPL"},
    {host_cs, "host CS is null"},
    {host_tr, "host TR is null"},
    {host_bases, "a base of the host's segments or tables is not canonical"},
    {host_not_64, "host address-space size is off, and Croft has 64 bits"},
    {host_pae, "host CR4.PAE is off"},
    {host_rip, "host RIP is not canonical"},
};

/* A row for each of the six, of DS, ES, FS and GS */
#define FOUR(rule, text)                                                                                               \
    {ds_##rule, "DS" text}, {es_##rule, "ES" text}, {fs_##rule, "FS" text}, { gs_##rule, "GS" text }
#define SIX(rule, text) {cs_##rule, "CS" text}, {ss_##rule, "SS" text}, FOUR(rule, text)

static const struct rule guest_rules[] = {
    {cr0_fixed, "CR0 has bits that it must not have in VMX operation, or lacks some"},
    {pg_without_pe, "CR0.PG without CR0.PE"},
    {cr4_fixed, "CR4 has bits that it must not have in VMX operation, or lacks some"},
    {cet_without_wp, "CR4.CET without CR0.WP"},
    {debugctl_reserved, "DEBUGCTL has reserved bits"},
    {long_without_pg, "long mode without CR0.PG"},
    {long_without_pae, "long mode without CR4.PAE"},
    {pcide_not_long, "CR4.PCIDE without long mode"},
    {cr3_mbz, "CR3 has bits beyond the physical addresses"},
    {dr7_high, "DR7[63:32] is not zero"},
    {sysenter_esp, "SYSENTER_ESP is not canonical"},
    {sysenter_eip, "SYSENTER_EIP is not canonical"},
    {pat_type, "PAT has a reserved type"},
    {efer_mbz, "EFER has bits that the processor does not have"},
    {lma_not_control, "EFER.LMA is not what the entry controls say"},
    {lma_not_lme, "EFER.LMA is not EFER.LME with paging on"},
    {tr_ti, "TR: a selector of the LDT"},
    {ldtr_ti, "LDTR: a selector of the LDT"},
    {ss_rpl, "SS.RPL is not CS.RPL"},
    {v8086_base, "virtual-8086 mode: a base is not 16 times its selector"},
    {tr_base, "TR.base is not canonical"},
    {fs_base, "FS.base is not canonical"},
    {gs_base, "GS.base is not canonical"},
    {ldtr_base, "LDTR.base is not canonical"},
    {cs_base, "CS.base has more than 32 bits"},
    {ss_base, "SS.base has more than 32 bits"},
    {ds_base, "DS.base has more than 32 bits"},
    {es_base, "ES.base has more than 32 bits"},
    {v8086_limit, "virtual-8086 mode: a limit is not 0xffff"},
    {v8086_attributes, "virtual-8086 mode: attributes are not 0xf3"},
    {cs_type, "CS: neither accessed code nor, for an unrestricted guest, accessed writable data"},
    {ss_type, "SS: not accessed writable data"},
    FOUR(type, ": not accessed, or code that cannot be read"),
    SIX(system, ": a system segment"),
    {cs_data_dpl, "CS: a data segment whose DPL is not 0"},
    {cs_dpl, "CS.DPL is not SS.DPL"},
    {cs_conforming_dpl, "CS.DPL, of conforming code, is above SS.DPL"},
    {ss_dpl, "SS.DPL is not SS.RPL"},
    {ss_real_dpl, "SS.DPL is not 0 in real mode, or with data in CS"},
    FOUR(dpl, ".DPL is below its RPL"),
    SIX(absent, " is not present"),
    SIX(reserved, ": reserved attributes"),
    {cs_l_and_d, "CS.L and CS.D in long mode"},
    SIX(granularity, ": its limit cannot be with its G"),
    {tr_unusable, "TR is unusable"},
    {tr_type, "TR: not a busy TSS, or one of 16 bits in long mode"},
    {tr_system, "TR: not a system segment"},
    {tr_absent, "TR is not present"},
    {tr_reserved, "TR: reserved attributes"},
    {tr_granularity, "TR: its limit cannot be with its G"},
    {ldtr_type, "LDTR: not an LDT"},
    {ldtr_system, "LDTR: not a system segment"},
    {ldtr_absent, "LDTR is not present"},
    {ldtr_reserved, "LDTR: reserved attributes"},
    {ldtr_granularity, "LDTR: its limit cannot be with its G"},
    {gdtr_base, "GDTR.base is not canonical"},
    {idtr_base, "IDTR.base is not canonical"},
    {gdtr_limit, "GDTR.limit has more than 16 bits"},
    {idtr_limit, "IDTR.limit has more than 16 bits"},
    {rip_high, "RIP has more than 32 bits, and the code is not 64-bit"},
    {rip_beyond, "RIP is beyond the linear addresses"},
    {rflags_reserved, "RFLAGS has reserved bits, or bit 1 is not set"},
    {vm_in_long_mode, "RFLAGS.VM in long mode"},
    {vm_without_pe, "RFLAGS.VM in real mode"},
    {intr_without_if, "event: an interrupt, and RFLAGS.IF is off"},
    {not_active, "activity state is not 'active'"},
    {blocking_reserved, "interruptibility has reserved bits"},
    {blocking_both, "interruptibility: blocking by STI and by MOV SS"},
    {sti_without_if, "interruptibility: blocking by STI, and RFLAGS.IF is off"},
    {intr_blocked, "event: an interrupt with blocking by STI or MOV SS"},
    {nmi_by_mov_ss, "event: an NMI with blocking by MOV SS"},
    {blocked_by_smi, "interruptibility: blocking by SMI"},
    {nmi_by_sti, "event: an NMI with blocking by STI, which some processors refuse"},
    {nmi_by_nmi, "event: an NMI with blocking by NMI"},
    {debug_reserved, "pending debug exceptions: reserved bits"},
    {debug_step_missing, "pending debug exceptions: no single step, with RFLAGS.TF and blocking by STI or MOV SS"},
    {debug_step_extra, "pending debug exceptions: a single step, without RFLAGS.TF and with blocking by STI or MOV SS"},
    {link, "VMCS link pointer is not all ones"},
    {pdptes, "a PDPTE has reserved bits"},
};

static const struct rule croft_state_rules[] = {
    {field_width, "a field has more bits than the VMCS has for it"},
    {kernel_gs_base, "KernelGsBase is not canonical: Croft could not load it"},
    {lstar, "LSTAR is not canonical: Croft could not load it"},
    {cstar, "CSTAR is not canonical: Croft could not load it"},
    {sfmask_high, "FMASK[63:32] is not zero: Croft could not load it"},
    {dr6_high, "DR6[63:32] is not zero: Croft could not load it"},
    {debugctl, "DEBUGCTL is not zero"},
    {cr0_caches, "CR0.CD or CR0.NW is on, which only their shadows may be"},
    {event_software, "event: one of INT n, INT1, INT3 or INTO, which are to be executed again"},
    {event_no_exception, "event: no exception has this vector"},
    {error_code_odd, "event: this exception never comes with, or without, an error code"},
};

static const struct rule croft_rules[] = {
    {port_map, "the map of ports is on, and Croft has none"},
    {vmfunc, "VMFUNC is on: the guest could change its memory"},
    {own_apic, "the processor's own virtual local APIC is on"},
    {cr8_open, "CR8 has neither a shadow nor exits: the guest has the machine's TPR"},
    {cr4_mask_rest, "CR4's mask leaves bits to the guest"},
    {msr_map_zero, "the map of MSRs is at zero"},
    {ept_zero, "the EPT pointer is zero"},
    {virtual_apic_zero, "the virtual-APIC page is at zero"},
    {pin_unknown, "pin-based controls: one is on that Croft does not know"},
    {processor_unknown, "processor-based controls: one is on that Croft does not know"},
    {secondary_unknown, "secondary controls: one is on that Croft does not know"},
    {exit_unknown, "exit controls: one is on that Croft does not know"},
    {entry_unknown, "entry controls: one is on that Croft does not know"},
};

static const struct chapter {
    const struct rule *rules;
    unsigned n;
    bool of_state;
} chapters[] = {
    {control_rules, ARRAY_SIZE(control_rules), false},
    {event_rules, ARRAY_SIZE(event_rules), true},
    {host_rules, ARRAY_SIZE(host_rules), false},
    {guest_rules, ARRAY_SIZE(guest_rules), true},
    {croft_state_rules, ARRAY_SIZE(croft_state_rules), true},
    {croft_rules, ARRAY_SIZE(croft_rules), false},
};

/* A #DB or #AC whose delivery raises itself never ends, and no interrupt is taken in between. */
static const struct must_rule {
    size_t field; /* in struct vmcs */
    uint64_t bits;
    const char *text;
} must_rules[] = {
#define MUST(field, bits, text)                                                                                        \
    {                                                                                                                  \
        offsetof(struct vmcs, field), bits, text                                                                       \
    }
    MUST(pin_controls, PIN_INTR_EXITING, "interrupts make no exits"),
    MUST(pin_controls, PIN_NMI_EXITING, "NMIs make no exits"),
    MUST(pin_controls, PIN_VIRTUAL_NMIS, "NMIs are not virtual: the guest's would block the machine's"),
    MUST(processor_controls, PROC_SECONDARY, "the secondary controls are off"),
    MUST(secondary_controls, PROC2_EPT, "EPT is off: the guest would use machine addresses"),
    MUST(secondary_controls, PROC2_VPID, "VPIDs are off: each entry and exit empties the TLB"),
    MUST(secondary_controls, PROC2_UNRESTRICTED, "unrestricted guest is off: it could not leave protected mode"),
    MUST(secondary_controls, PROC2_WBINVD, "WBINVD makes no exit"),
    MUST(processor_controls, PROC_HLT, "HLT makes no exit"),
    MUST(processor_controls, PROC_RDPMC, "RDPMC makes no exit"),
    MUST(processor_controls, PROC_MWAIT, "MWAIT makes no exit"),
    MUST(processor_controls, PROC_MONITOR, "MONITOR makes no exit"),
    MUST(processor_controls, PROC_MOV_DR, "MOV DR makes no exit: the guest has the machine's breakpoints"),
    MUST(processor_controls, PROC_ALL_PORTS, "ports make no exits: the guest has all of them"),
    MUST(processor_controls, PROC_MSR_MAP, "the map of MSRs is off: every one makes an exit"),
    MUST(exceptions, V(DB), "#DB makes no exit: it can loop for ever (CVE-2015-8104)"),
    MUST(exceptions, V(AC), "#AC makes no exit: it can loop for ever (CVE-2015-5307)"),
    MUST(exceptions, V(MC), "#MC makes no exit"),
    MUST(cr0_mask, CR0_NE | CR0_ET, "CR0's mask leaves NE or ET to the guest"),
    MUST(cr0_mask, CR0_CD | CR0_NW, "CR0's mask leaves CD or NW to the guest: it could turn the caches off"),
    MUST(cr4_mask, CR4_VMXE, "CR4's mask leaves VMXE to the guest"),
    MUST(exit_controls, EXIT_SAVE_DEBUG, "an exit does not save DR7"),
    MUST(exit_controls, EXIT_SAVE_PAT, "an exit does not save PAT"),
    MUST(exit_controls, EXIT_LOAD_PAT, "an exit does not load Croft's PAT"),
    MUST(exit_controls, EXIT_SAVE_EFER, "an exit does not save EFER"),
    MUST(exit_controls, EXIT_LOAD_EFER, "an exit does not load Croft's EFER"),
    MUST(entry_controls, ENTRY_LOAD_DEBUG, "an entry does not load DR7"),
    MUST(entry_controls, ENTRY_LOAD_PAT, "an entry does not load PAT"),
    MUST(entry_controls, ENTRY_LOAD_EFER, "an entry does not load EFER"),
};

static bool must_is_broken(const struct must_rule *r, const struct vmcs *b)
{
    return ~*(const uint64_t *)((const char *)b + r->field) & r->bits;
}

static const char *audit(const struct vmcs *b, const struct vmx_limits *l, bool only_state)
{
    for (const struct chapter *c = chapters; c < chapters + ARRAY_SIZE(chapters); c++)
        for (unsigned i = 0; (c->of_state || !only_state) && i < c->n; i++)
            if (c->rules[i].broken(b, l))
                return c->rules[i].text;
    for (unsigned i = 0; !only_state && i < ARRAY_SIZE(must_rules); i++)
        if (must_is_broken(&must_rules[i], b))
            return must_rules[i].text;
    return NULL;
}

const char *vmx_audit(const struct vmcs *b, const struct vmx_limits *l) { return audit(b, l, false); }
const char *vmx_audit_state(const struct vmcs *b, const struct vmx_limits *l) { return audit(b, l, true); }

unsigned vmx_audit_rules(const char **texts, unsigned n)
{
    unsigned all = 0;

    for (const struct chapter *c = chapters; c < chapters + ARRAY_SIZE(chapters); c++)
        for (unsigned i = 0; i < c->n; i++, all++)
            if (all < n)
                texts[all] = c->rules[i].text;
    for (unsigned i = 0; i < ARRAY_SIZE(must_rules); i++, all++)
        if (all < n)
            texts[all] = must_rules[i].text;
    return all;
}

#define SEGMENTS(n1, n2)                                                                                               \
    log_info("%-4s %04lx attr %05lx limit %08lx base %016lx  %-4s %04lx attr %05lx limit %08lx base %016lx\n", #n1,    \
             b->n1##_selector, b->n1##_attributes, b->n1##_limit, b->n1##_base, #n2, b->n2##_selector,                 \
             b->n2##_attributes, b->n2##_limit, b->n2##_base)

static void dump_exit(const struct vmcs *b)
{
    log_info("exit %lx qualification %016lx length %lu event %lx:%lx during %lx:%lx\n", b->exit_reason,
             b->exit_qualification, b->exit_length, b->exit_event, b->exit_error, b->interrupted_event,
             b->interrupted_error);
    log_info("physical %016lx linear %016lx instruction error %lu\n", b->guest_physical, b->guest_linear,
             b->instruction_error);
}

static void dump_controls(const struct vmcs *b)
{
    log_info("controls pin %08lx processor %08lx %08lx exit %08lx entry %08lx\n", b->pin_controls,
             b->processor_controls, b->secondary_controls, b->exit_controls, b->entry_controls);
    log_info("exceptions %08lx faults %08lx:%08lx cr0 mask %08lx cr4 mask %08lx\n", b->exceptions, b->fault_mask,
             b->fault_match, b->cr0_mask, b->cr4_mask);
    log_info("msr map %lx ept %lx vpid %lx virtual apic %lx tpr threshold %lu tsc offset %016lx\n", b->msr_map,
             b->ept_root, b->vpid, b->virtual_apic, b->tpr_threshold, b->tsc_offset);
    log_info("blocking %lx activity %lx debug %lx inject %08lx:%lx length %lu\n", b->interruptibility, b->activity,
             b->pending_debug, b->entry_event, b->entry_error, b->entry_length);
}

static void dump_host(const struct vmcs *b)
{
    log_info("host rip %016lx rsp %016lx cr0 %08lx cr3 %lx cr4 %08lx efer %lx\n", b->host_rip, b->host_rsp, b->host_cr0,
             b->host_cr3, b->host_cr4, b->host_efer);
    log_info("host cs %04lx ss %04lx tr %04lx at %016lx fs %016lx gs %016lx\n", b->host_cs, b->host_ss, b->host_tr,
             b->host_tr_base, b->host_fs_base, b->host_gs_base);
}

void vmx_dump(const struct vmcs *b)
{
    dump_exit(b);
    log_info("rip %016lx rsp %016lx rflags %08lx\n", b->rip, b->rsp, b->rflags);
    log_info("cr0 %08lx (reads %08lx) cr2 %016lx cr3 %016lx cr4 %08lx (reads %08lx) efer %lx\n", b->cr0, b->cr0_shadow,
             b->extra.cr2, b->cr3, b->cr4, b->cr4_shadow, b->efer);
    log_info("dr6 %08lx dr7 %08lx pat %016lx debugctl %lx\n", b->extra.dr6, b->dr7, b->pat, b->debugctl);
    SEGMENTS(cs, ss);
    SEGMENTS(ds, es);
    SEGMENTS(fs, gs);
    SEGMENTS(ldtr, tr);
    log_info("gdtr limit %04lx base %016lx  idtr limit %04lx base %016lx\n", b->gdtr_limit, b->gdtr_base, b->idtr_limit,
             b->idtr_base);
    log_info("star %016lx lstar %016lx cstar %016lx sfmask %lx\n", b->extra.star, b->extra.lstar, b->extra.cstar,
             b->extra.sfmask);
    log_info("kernel gs %016lx sysenter %lx:%016lx esp %016lx\n", b->extra.kernel_gs_base, b->sysenter_cs,
             b->sysenter_eip, b->sysenter_esp);
    log_info("pdptes %016lx %016lx %016lx %016lx\n", b->pdpte0, b->pdpte1, b->pdpte2, b->pdpte3);
    dump_controls(b);
    dump_host(b);
}
