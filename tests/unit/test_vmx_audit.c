/* sources: hypervisor/hvm/vmx_audit.c hypervisor/lib/printf.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/instr.h"
#include "hvm/vmcb.h"
#include "hvm/vmcs.h"
#include "hvm/vmx_audit.h"
#include "lib/log.h"
#include "lib/printf.h"

static char logged[8192];

void log_print(enum log_level level, const char *fmt, ...)
{
    size_t n = strlen(logged);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(logged + n, sizeof(logged) - n, fmt, ap);
    va_end(ap);
}

#define NOT_CANONICAL (1UL << 47)
#define CR4_VMXE (1UL << 13)
#define PAT 0x0007040600070406UL
#define UNUSABLE ATTRIBUTES_UNUSABLE
#define FLAT 0xc093 /* attributes of data of 4 GiB */

/* As the processors' MSRs have it: what must be one are the controls without a name, and what may be are more than Croft knows. */
static const struct vmx_limits limits = {
    .physical_bits = 46,
    .linear_bits = 48,
    .pin = {0x16, 0xff},
    .processor = {0x04006172, 0xfff9fffe},
    .secondary = {0, 0x03ffffff},
    .exit = {0x00036dfb, 0x1fffffff},
    .entry = {0x000011fb, 0x000fffff},
    .cr0_ones = CR0_NE,
    .cr0_may = 0xffffffff,
    .cr4_ones = CR4_VMXE,
    .cr4_may = 0x00ff67ff,
    .efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE,
    .ept_vpid = 1UL << 14 | 1UL << 6,
};

/* The controls and the host's state, which are the same whatever the guest does */
static struct vmcs controls(void)
{
    return (struct vmcs){
        .vpid = 1,
        .msr_map = 0x100000,
        .virtual_apic = 0x104000,
        .ept_root = 0x108000 | EPTP_FORMAT,
        .pin_controls = 0x16 | PIN_INTR_EXITING | PIN_NMI_EXITING | PIN_VIRTUAL_NMIS,
        .processor_controls = 0x04006172 | PROC_TSC_OFFSET | PROC_HLT | PROC_MWAIT | PROC_RDPMC | PROC_TPR_SHADOW |
                              PROC_MOV_DR | PROC_ALL_PORTS | PROC_MSR_MAP | PROC_MONITOR | PROC_SECONDARY,
        .secondary_controls = PROC2_EPT | PROC2_RDTSCP | PROC2_VPID | PROC2_WBINVD | PROC2_UNRESTRICTED,
        .exceptions = 1U << X86_DB | 1U << X86_AC | 1U << X86_MC,
        .exit_controls = 0x00036dfb | EXIT_SAVE_DEBUG | EXIT_HOST_64 | EXIT_SAVE_PAT | EXIT_LOAD_PAT | EXIT_SAVE_EFER |
                         EXIT_LOAD_EFER,
        .entry_controls = 0x000011fb | ENTRY_LOAD_DEBUG | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER,
        .cr0_mask = CR0_NE | CR0_ET | CR0_CD | CR0_NW,
        .cr4_mask = ~0UL,
        .link = ~0UL,
        .host_es = 0,
        .host_cs = 0x8,
        .host_ss = 0x10,
        .host_tr = 0x40,
        .host_pat = PAT,
        .host_efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE,
        .host_cr0 = CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_PE,
        .host_cr3 = 0x2000,
        .host_cr4 = CR4_PAE | CR4_PGE | CR4_VMXE,
        .host_gs_base = 0xffff830000000000,
        .host_tr_base = 0xffff830000001000,
        .host_gdtr_base = 0xffff830000002000,
        .host_idtr_base = 0xffff830000003000,
        .host_rsp = 0xffff830000004000,
        .host_rip = 0xffff82d080200000,
    };
}

/* Real mode, as after a start-up signal with vector 0x9a */
static struct vmcs real_mode(void)
{
    struct vmcs b = controls();

    b.cr0 = CR0_NE | CR0_ET;
    b.cr0_shadow = CR0_ET;
    b.cr4 = CR4_VMXE;
    b.dr7 = 0x400;
    b.extra.dr6 = 0xffff0ff0;
    b.pat = PAT;
    b.rflags = EFLAGS_MBS;
    b.cs_selector = 0x9a00;
    b.cs_base = 0x9a000;
    b.cs_attributes = 0x9b;
    b.ds_attributes = b.es_attributes = b.fs_attributes = b.gs_attributes = b.ss_attributes = 0x93;
    b.cs_limit = b.ds_limit = b.es_limit = b.fs_limit = b.gs_limit = b.ss_limit = 0xffff;
    b.gdtr_limit = b.idtr_limit = b.ldtr_limit = b.tr_limit = 0xffff;
    b.ldtr_attributes = 0x82;
    b.tr_attributes = 0x8b;
    return b;
}

/* 32-bit protected mode without paging: how a PVH guest begins */
static struct vmcs protected_mode(void)
{
    struct vmcs b = real_mode();

    b.cr0 |= CR0_PE;
    b.cs_selector = 0x8;
    b.cs_base = 0;
    b.ds_selector = b.es_selector = b.fs_selector = b.gs_selector = b.ss_selector = 0x10;
    b.cs_attributes = 0xc09b;
    b.ds_attributes = b.es_attributes = b.fs_attributes = b.gs_attributes = b.ss_attributes = FLAT;
    b.cs_limit = b.ds_limit = b.es_limit = b.fs_limit = b.gs_limit = b.ss_limit = 0xffffffff;
    b.tr_limit = 0x67;
    b.rip = 0x1000000;
    return b;
}

static struct vmcs pae(void)
{
    struct vmcs b = protected_mode();

    b.cr0 |= CR0_PG | CR0_WP;
    b.cr3 = 0x1234020;
    b.cr4 |= CR4_PAE;
    b.efer = EFER_NXE;
    b.pdpte0 = 0x1235001;
    b.pdpte3 = 0x1236001;
    return b;
}

/* A task in virtual-8086 mode under that */
static struct vmcs virtual_8086(void)
{
    struct vmcs b = pae();

    b.rflags = EFLAGS_MBS | EFLAGS_IF | EFLAGS_VM;
    b.cs_selector = b.ss_selector = b.ds_selector = b.es_selector = b.fs_selector = b.gs_selector = 0xf000;
    b.cs_base = b.ss_base = b.ds_base = b.es_base = b.fs_base = b.gs_base = 0xf0000;
    b.cs_limit = b.ss_limit = b.ds_limit = b.es_limit = b.fs_limit = b.gs_limit = 0xffff;
    b.cs_attributes = b.ss_attributes = b.ds_attributes = b.es_attributes = b.fs_attributes = b.gs_attributes = 0xf3;
    b.rip = 0x100;
    return b;
}

/* A kernel in 64-bit mode, whose segments are all there so that each can be wrong */
static struct vmcs sixty_four_bit(void)
{
    struct vmcs b = protected_mode();

    b.cr0 = CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_MP | CR0_PE;
    b.cr3 = 0x1234000;
    b.cr4 = CR4_PAE | CR4_PGE | CR4_VMXE;
    b.efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
    b.entry_controls |= ENTRY_LONG_MODE;
    b.rflags = EFLAGS_MBS | EFLAGS_IF;
    b.cs_attributes = 0xa09b;
    b.ldtr_attributes = UNUSABLE;
    b.ldtr_limit = 0;
    b.gs_base = b.extra.kernel_gs_base = b.extra.lstar = 0xffffffff81000000;
    b.fs_base = 0x00007fffffffffff;
    b.rip = 0xffffffff81000000;
    return b;
}

/* Its user: null selectors, and SS by SYSRET */
static struct vmcs user(void)
{
    struct vmcs b = sixty_four_bit();

    b.cs_selector = 0x33;
    b.cs_attributes = 0xa0fb;
    b.ss_selector = 0x2b;
    b.ss_attributes = 0xc0f3;
    b.ds_selector = b.es_selector = b.fs_selector = b.gs_selector = 0;
    b.ds_attributes = b.es_attributes = b.fs_attributes = b.gs_attributes = UNUSABLE;
    b.ds_limit = b.es_limit = b.fs_limit = b.gs_limit = 0;
    b.rip = 0x400000;
    return b;
}

/* A field, of the VMCS or of the limits, becomes (field & ~clear) | set. */
struct change {
    bool of_limits;
    size_t offset, size;
    uint64_t clear, set;
};
#define B(field, clear, set)                                                                                           \
    {                                                                                                                  \
        false, offsetof(struct vmcs, field), sizeof(((struct vmcs *)0)->field), clear, set                             \
    }
#define L(field, clear, set)                                                                                           \
    {                                                                                                                  \
        true, offsetof(struct vmx_limits, field), sizeof(((struct vmx_limits *)0)->field), clear, set                  \
    }
#define ON(field, set) B(field, 0, set)
#define OFF(field, clear) B(field, clear, 0)
#define IS(field, value) B(field, ~0UL, value)
#define EVENT(type, vector) IS(entry_event, EVENT_VALID | EVENT_TYPE_##type | (vector))
#define EXCEPTION(name) EVENT(EXCEPTION, X86_##name)
#define EXCEPTION_WITH_ERROR(name) EVENT(EXCEPTION, X86_##name | EVENT_HAS_ERROR)
#define RESTRICTED OFF(secondary_controls, PROC2_UNRESTRICTED)
#define LDT IS(ldtr_attributes, 0x82)
#define FREE L(error_code_free, 1, 1)

/* Without a text it stays valid: the other side of a rule's bound. */
struct audit_case {
    const char *text;
    struct change changes[5];
};

/* What the changes make of the 64-bit kernel */
static const struct audit_case kernel_cases[] = {
    {"pin-based controls: one that must be on is off", {OFF(pin_controls, 0x10)}},
    {"pin-based controls: one is on that the processor does not have", {ON(pin_controls, 0x100)}},
    {"processor-based controls: one that must be on is off", {OFF(processor_controls, 2)}},
    {"processor-based controls: one is on that the processor does not have", {ON(processor_controls, 1)}},
    {"secondary controls: one that must be on is off", {L(secondary.ones, 0, 1 << 11)}},
    {NULL, {L(secondary.ones, 0, 1 << 11), ON(secondary_controls, 1 << 11)}},
    {"secondary controls: one is on that the processor does not have", {ON(secondary_controls, 1U << 31)}},
    {"CR3-target count is more than 4", {IS(cr3_targets, 5)}},
    {NULL, {IS(cr3_targets, 4)}},
    {"the map of MSRs is not a page within the physical addresses", {ON(msr_map, 1)}},
    {"the map of MSRs is not a page within the physical addresses", {IS(msr_map, 1UL << 46)}},
    {NULL, {IS(msr_map, (1UL << 46) - PAGE_SIZE)}},
    {"the virtual-APIC page is not a page within the physical addresses", {ON(virtual_apic, 0x800)}},
    {"the virtual-APIC page is not a page within the physical addresses", {IS(virtual_apic, ~0UL << 12)}},
    {NULL, {IS(virtual_apic, (1UL << 46) - PAGE_SIZE)}},
    {NULL,
     {IS(virtual_apic, 1), IS(tpr_threshold, 16),
      B(processor_controls, PROC_TPR_SHADOW, PROC_CR8_LOAD | PROC_CR8_STORE)}},
    {"TPR threshold is more than 15", {IS(tpr_threshold, 16)}},
    {NULL, {IS(tpr_threshold, 15)}},
    {"x2APIC mode, APIC registers or interrupt delivery are virtual without a TPR shadow",
     {OFF(processor_controls, PROC_TPR_SHADOW), ON(secondary_controls, PROC2_X2APIC)}},
    {"x2APIC mode, APIC registers or interrupt delivery are virtual without a TPR shadow",
     {OFF(processor_controls, PROC_TPR_SHADOW), ON(secondary_controls, PROC2_APIC_REGISTERS)}},
    {"x2APIC mode, APIC registers or interrupt delivery are virtual without a TPR shadow",
     {OFF(processor_controls, PROC_TPR_SHADOW), ON(secondary_controls, PROC2_INTR_DELIVERY)}},
    {"virtual NMIs without exits for NMIs", {OFF(pin_controls, PIN_NMI_EXITING)}},
    {"NMI-window exiting without virtual NMIs",
     {OFF(pin_controls, PIN_VIRTUAL_NMIS), ON(processor_controls, PROC_NMI_WINDOW)}},
    {NULL, {ON(processor_controls, PROC_NMI_WINDOW)}},
    {"x2APIC mode and APIC accesses are both virtual",
     {ON(secondary_controls, PROC2_X2APIC), ON(secondary_controls, PROC2_APIC_ACCESSES)}},
    {"virtual-interrupt delivery without exits for interrupts",
     {ON(secondary_controls, PROC2_INTR_DELIVERY), OFF(pin_controls, PIN_INTR_EXITING)}},
    {"VPID is zero", {IS(vpid, 0)}},
    {NULL, {IS(vpid, 0xffff)}},
    {"EPT pointer: not write-back, or the processor does not have that", {OFF(ept_root, 7)}},
    {"EPT pointer: not write-back, or the processor does not have that", {L(ept_vpid, 1UL << 14, 1UL << 8)}},
    {"EPT pointer: not four levels, or the processor does not have them", {B(ept_root, 0x38, 4 << 3)}},
    {"EPT pointer: not four levels, or the processor does not have them", {L(ept_vpid, 1UL << 6, 1UL << 7)}},
    {"EPT pointer: bits 11-6 are not zero", {ON(ept_root, 1UL << 6)}},
    {"EPT pointer: bits 11-6 are not zero", {ON(ept_root, 1UL << 11)}},
    {"EPT pointer: beyond the physical addresses", {ON(ept_root, 1UL << 46)}},
    {NULL, {ON(ept_root, 1UL << 45)}},
    {"an unrestricted guest without EPT", {OFF(secondary_controls, PROC2_EPT)}},
    {"exit controls: one that must be on is off", {OFF(exit_controls, 1)}},
    {"exit controls: one is on that the processor does not have", {ON(exit_controls, 1U << 31)}},
    {"exit MSR-store count is not zero", {IS(exit_msr_stores, 1)}},
    {"exit MSR-load count is not zero", {IS(exit_msr_loads, 1)}},
    {"entry controls: one that must be on is off", {OFF(entry_controls, 1)}},
    {"entry controls: one is on that the processor does not have", {ON(entry_controls, 1U << 31)}},
    {"an entry to SMM, or one that ends the dual-monitor treatment", {ON(entry_controls, ENTRY_SMM)}},
    {"an entry to SMM, or one that ends the dual-monitor treatment", {ON(entry_controls, ENTRY_DEACTIVATE_DUAL)}},
    {"entry MSR-load count is not zero", {IS(entry_msr_loads, 1)}},

    {"event: reserved type", {IS(entry_event, EVENT_VALID | 1UL << 8)}},
    {"event: reserved type", {IS(entry_event, EVENT_VALID | 7UL << 8)}},
    {NULL, {IS(entry_event, 0x7fffffff)}},
    {NULL, {EVENT(INTR, 0xff)}},
    {"event: an NMI whose vector is not 2", {EVENT(NMI, 3)}},
    {NULL, {EVENT(NMI, 2)}},
    {"event: an exception whose vector is beyond 31", {EVENT(EXCEPTION, 32)}},
    {"event: an exception whose vector is beyond 31", {EVENT(EXCEPTION, 0xff)}},
    {"event: an error code where there is none", {EXCEPTION_WITH_ERROR(UD)}},
    {"event: an error code where there is none", {EXCEPTION_WITH_ERROR(CP)}},
    {"event: an error code where there is none", {EVENT(INTR, X86_GP | EVENT_HAS_ERROR)}},
    {"event: an error code where there is none", {EVENT(INTR, X86_GP | EVENT_HAS_ERROR), FREE}},
    {"event: an error code where there is none", {EVENT(NMI, X86_NMI | EVENT_HAS_ERROR)}},
    {"event: an error code where there is none", {EVENT(SOFTWARE, X86_GP | EVENT_HAS_ERROR)}},
    {"event: an exception without its error code", {EXCEPTION(DF)}},
    {"event: an exception without its error code", {EXCEPTION(TS)}},
    {"event: an exception without its error code", {EXCEPTION(NP)}},
    {"event: an exception without its error code", {EXCEPTION(SS)}},
    {"event: an exception without its error code", {EXCEPTION(GP)}},
    {"event: an exception without its error code", {EXCEPTION(PF)}},
    {"event: an exception without its error code", {EXCEPTION(AC)}},
    {NULL, {EXCEPTION_WITH_ERROR(GP), IS(entry_error, 0xffff)}},
    {NULL, {EXCEPTION(UD), IS(entry_error, 0x10000)}},
    {"event: bits 30-12 are not zero", {EVENT(INTR, 0x40 | 1UL << 12)}},
    {"event: bits 30-12 are not zero", {EVENT(INTR, 0x40 | 1UL << 30)}},
    {"event: the error code has more than 16 bits", {EXCEPTION_WITH_ERROR(PF), IS(entry_error, 0x10000)}},

    {"host CR0 has bits that it must not have in VMX operation, or lacks some", {OFF(host_cr0, CR0_NE)}},
    {"host CR0 has bits that it must not have in VMX operation, or lacks some", {OFF(host_cr0, CR0_PG)}},
    {"host CR0 has bits that it must not have in VMX operation, or lacks some", {OFF(host_cr0, CR0_PE)}},
    {"host CR0 has bits that it must not have in VMX operation, or lacks some", {ON(host_cr0, 1UL << 32)}},
    {"host CR4 has bits that it must not have in VMX operation, or lacks some", {OFF(host_cr4, CR4_VMXE)}},
    {"host CR4 has bits that it must not have in VMX operation, or lacks some", {ON(host_cr4, 1UL << 24)}},
    {"host CR4.CET without CR0.WP", {ON(host_cr4, CR4_CET), OFF(host_cr0, CR0_WP)}},
    {NULL, {ON(host_cr4, CR4_CET)}},
    {NULL, {OFF(host_cr0, CR0_WP)}},
    {"host CR3 has bits beyond the physical addresses", {ON(host_cr3, 1UL << 46)}},
    {NULL, {ON(host_cr3, 1UL << 45)}},
    {"host SYSENTER_ESP or SYSENTER_EIP is not canonical", {IS(host_sysenter_esp, NOT_CANONICAL)}},
    {"host SYSENTER_ESP or SYSENTER_EIP is not canonical", {IS(host_sysenter_eip, NOT_CANONICAL)}},
    {"host PAT has a reserved type", {IS(host_pat, 2)}},
    {"host EFER has bits that the processor does not have", {ON(host_efer, EFER_SVME)}},
    {"host EFER.LMA or EFER.LME is not as the host address-space size", {OFF(host_efer, EFER_LMA)}},
    {"host EFER.LMA or EFER.LME is not as the host address-space size", {OFF(host_efer, EFER_LME)}},
    {"a selector of the host's has a TI or RPL", {ON(host_es, 3)}},
    {"a selector of the host's has a TI or RPL", {ON(host_cs, 3)}},
    {"a selector of the host's has a TI or RPL", {ON(host_ss, 1)}},
    {"a selector of the host's has a TI or RPL", {ON(host_ds, 4)}},
    {"a selector of the host's has a TI or RPL", {ON(host_fs, 2)}},
    {"a selector of the host's has a TI or RPL", {ON(host_gs, 4)}},
    {"a selector of the host's has a TI or RPL", {ON(host_tr, 4)}},
    {"host CS is null", {IS(host_cs, 0)}},
    {"host TR is null", {IS(host_tr, 0)}},
    {"a base of the host's segments or tables is not canonical", {IS(host_fs_base, NOT_CANONICAL)}},
    {"a base of the host's segments or tables is not canonical", {IS(host_gs_base, NOT_CANONICAL)}},
    {"a base of the host's segments or tables is not canonical", {IS(host_tr_base, NOT_CANONICAL)}},
    {"a base of the host's segments or tables is not canonical", {IS(host_gdtr_base, NOT_CANONICAL)}},
    {"a base of the host's segments or tables is not canonical", {IS(host_idtr_base, NOT_CANONICAL)}},
    {"host address-space size is off, and Croft has 64 bits", {OFF(exit_controls, EXIT_HOST_64 | EXIT_LOAD_EFER)}},
    {"host CR4.PAE is off", {OFF(host_cr4, CR4_PAE)}},
    {"host RIP is not canonical", {IS(host_rip, NOT_CANONICAL)}},

    {"CR0 has bits that it must not have in VMX operation, or lacks some", {OFF(cr0, CR0_NE)}},
    {"CR0 has bits that it must not have in VMX operation, or lacks some", {ON(cr0, 1UL << 32)}},
    {"CR0 has bits that it must not have in VMX operation, or lacks some", {OFF(cr0, CR0_PE), RESTRICTED}},
    {"CR0.PG without CR0.PE", {OFF(cr0, CR0_PE)}},
    {"CR4 has bits that it must not have in VMX operation, or lacks some", {OFF(cr4, CR4_VMXE)}},
    {"CR4 has bits that it must not have in VMX operation, or lacks some", {ON(cr4, 1UL << 24)}},
    {"CR4 has bits that it must not have in VMX operation, or lacks some", {ON(cr4, 1UL << 63)}},
    {"CR4.CET without CR0.WP", {ON(cr4, CR4_CET), OFF(cr0, CR0_WP)}},
    {NULL, {ON(cr4, CR4_CET)}},
    {NULL, {OFF(cr0, CR0_WP)}},
    {"DEBUGCTL has reserved bits", {IS(debugctl, 1UL << 3)}},
    {"DEBUGCTL has reserved bits", {IS(debugctl, 1UL << 16)}},
    {"long mode without CR0.PG", {OFF(cr0, CR0_PG)}},
    {"long mode without CR4.PAE", {OFF(cr4, CR4_PAE)}},
    {"CR4.PCIDE without long mode", {ON(cr4, CR4_PCIDE), OFF(entry_controls, ENTRY_LONG_MODE)}},
    {NULL, {ON(cr4, CR4_PCIDE)}},
    {"CR3 has bits beyond the physical addresses", {ON(cr3, 1UL << 46)}},
    {"CR3 has bits beyond the physical addresses", {ON(cr3, 1UL << 63)}},
    {NULL, {ON(cr3, 1UL << 45)}},
    {"DR7[63:32] is not zero", {ON(dr7, 1UL << 32)}},
    {"SYSENTER_ESP is not canonical", {IS(sysenter_esp, NOT_CANONICAL)}},
    {"SYSENTER_EIP is not canonical", {IS(sysenter_eip, NOT_CANONICAL)}},
    {NULL, {IS(sysenter_esp, 1UL << 48), L(linear_bits, ~0UL, 57)}},
    {"SYSENTER_ESP is not canonical", {IS(sysenter_esp, 1UL << 56), L(linear_bits, ~0UL, 57)}},
    {"PAT has a reserved type", {IS(pat, 3UL << 56)}},
    {"PAT has a reserved type", {IS(pat, 0x80UL << 24)}},
    {"EFER has bits that the processor does not have", {ON(efer, EFER_SVME)}},
    {"EFER.LMA is not what the entry controls say", {OFF(efer, EFER_LMA)}},
    {"EFER.LMA is not what the entry controls say", {OFF(entry_controls, ENTRY_LONG_MODE)}},
    {"EFER.LMA is not EFER.LME with paging on", {OFF(efer, EFER_LME)}},

    {"TR: a selector of the LDT", {ON(tr_selector, 4)}},
    {"LDTR: a selector of the LDT", {LDT, ON(ldtr_selector, 4)}},
    {NULL, {ON(ldtr_selector, 4)}},
    {"SS.RPL is not CS.RPL", {ON(ss_selector, 3), RESTRICTED}},
    {NULL, {ON(ss_selector, 3)}},
    {"virtual-8086 mode: a base is not 16 times its selector", {ON(rflags, EFLAGS_VM)}},
    {"TR.base is not canonical", {IS(tr_base, NOT_CANONICAL)}},
    {"FS.base is not canonical", {IS(fs_base, NOT_CANONICAL)}},
    {"FS.base is not canonical", {IS(fs_base, NOT_CANONICAL), IS(fs_attributes, UNUSABLE)}},
    {"GS.base is not canonical", {IS(gs_base, NOT_CANONICAL)}},
    {"LDTR.base is not canonical", {LDT, IS(ldtr_base, NOT_CANONICAL)}},
    {NULL, {IS(ldtr_base, NOT_CANONICAL)}},
    {"CS.base has more than 32 bits", {IS(cs_base, 1UL << 32)}},
    {"SS.base has more than 32 bits", {IS(ss_base, 1UL << 32)}},
    {"DS.base has more than 32 bits", {IS(ds_base, 1UL << 32)}},
    {"ES.base has more than 32 bits", {IS(es_base, 1UL << 32)}},
    {NULL, {IS(es_base, 0xffffffff)}},
    {NULL, {IS(ds_base, 1UL << 32), IS(ds_attributes, UNUSABLE)}},

    {"CS: neither accessed code nor, for an unrestricted guest, accessed writable data", {IS(cs_attributes, 0xa09a)}},
    {"CS: neither accessed code nor, for an unrestricted guest, accessed writable data", {IS(cs_attributes, 0xa097)}},
    {"CS: neither accessed code nor, for an unrestricted guest, accessed writable data",
     {IS(cs_attributes, 0xa093), RESTRICTED}},
    {NULL, {IS(cs_attributes, 0xa099)}},
    {NULL, {IS(cs_attributes, 0xa09d)}},
    {NULL, {IS(cs_attributes, 0xa093)}},
    {"SS: not accessed writable data", {IS(ss_attributes, 0xc091)}},
    {"SS: not accessed writable data", {IS(ss_attributes, 0xc092)}},
    {"SS: not accessed writable data", {IS(ss_attributes, 0xc09b)}},
    {NULL, {IS(ss_attributes, 0xc097)}},
    {NULL, {IS(ss_attributes, UNUSABLE)}},
#define TYPE(s, name)                                                                                                  \
    {name ": not accessed, or code that cannot be read", {IS(s##_attributes, 0xc092)}},                                \
        {name ": not accessed, or code that cannot be read", {IS(s##_attributes, 0xc099)}},                            \
        {NULL, {IS(s##_attributes, 0xc09b)}}, {NULL, {IS(s##_attributes, 0xc091)}},                                    \
    {                                                                                                                  \
        NULL, { IS(s##_attributes, UNUSABLE | 0xc092) }                                                                \
    }
    TYPE(ds, "DS"),
    TYPE(es, "ES"),
    TYPE(fs, "FS"),
    TYPE(gs, "GS"),
#define SEGMENT(s, name)                                                                                               \
    {name ": a system segment", {OFF(s##_attributes, SEGMENT_S)}},                                                     \
        {name " is not present", {OFF(s##_attributes, SEGMENT_P)}},                                                    \
        {name ": reserved attributes", {ON(s##_attributes, 1 << 8)}},                                                  \
        {name ": reserved attributes", {ON(s##_attributes, 1 << 11)}},                                                 \
        {name ": reserved attributes", {ON(s##_attributes, 1 << 17)}},                                                 \
        {name ": reserved attributes", {ON(s##_attributes, 1U << 31)}},                                                \
        {name ": its limit cannot be with its G", {IS(s##_limit, 0xfffffffe)}},                                        \
        {name ": its limit cannot be with its G", {OFF(s##_attributes, 1 << 15)}},                                     \
        {NULL, {IS(s##_limit, 0xffffe), OFF(s##_attributes, 1 << 15)}}, {NULL, {IS(s##_limit, 0xfff)}},                \
    {                                                                                                                  \
        NULL, { ON(s##_attributes, 1 << 12) }                                                                          \
    }
    SEGMENT(cs, "CS"),
    SEGMENT(ss, "SS"),
    SEGMENT(ds, "DS"),
    SEGMENT(es, "ES"),
    SEGMENT(fs, "FS"),
    SEGMENT(gs, "GS"),
    {"CS: a data segment whose DPL is not 0", {IS(cs_attributes, 0xa0f3)}},
    {"CS.DPL is not SS.DPL", {IS(cs_attributes, 0xa0fb)}},
    {"CS.DPL is not SS.DPL", {IS(ss_attributes, 0xc0f3)}},
    {"CS.DPL is not SS.DPL", {IS(ss_attributes, UNUSABLE | 0x60)}},
    {"CS.DPL, of conforming code, is above SS.DPL", {IS(cs_attributes, 0xa0bf)}},
    {NULL, {IS(cs_attributes, 0xa09f), IS(ss_attributes, 0xc0f3)}},
    {"SS.DPL is not SS.RPL", {ON(ss_selector, 3), ON(cs_selector, 3), RESTRICTED}},
    {"SS.DPL is not 0 in real mode, or with data in CS", {IS(cs_attributes, 0xa093), IS(ss_attributes, 0xc0b3)}},
    {"DS.DPL is below its RPL", {ON(ds_selector, 1), RESTRICTED}},
    {"ES.DPL is below its RPL", {ON(es_selector, 1), RESTRICTED}},
    {"FS.DPL is below its RPL", {ON(fs_selector, 2), RESTRICTED}},
    {"GS.DPL is below its RPL", {ON(gs_selector, 3), RESTRICTED}},
    {NULL, {ON(gs_selector, 3)}},
    {"CS.L and CS.D in long mode", {ON(cs_attributes, SEGMENT_DB << 4)}},
    {"TR is unusable", {ON(tr_attributes, UNUSABLE)}},
    {"TR: not a busy TSS, or one of 16 bits in long mode", {IS(tr_attributes, 0x89)}},
    {"TR: not a busy TSS, or one of 16 bits in long mode", {IS(tr_attributes, 0x83)}},
    {"TR: not a system segment", {ON(tr_attributes, SEGMENT_S)}},
    {"TR is not present", {OFF(tr_attributes, SEGMENT_P)}},
    {"TR: reserved attributes", {ON(tr_attributes, 1 << 9)}},
    {"TR: reserved attributes", {ON(tr_attributes, 1 << 18)}},
    {"TR: its limit cannot be with its G", {IS(tr_limit, 1 << 20)}},
    {"TR: its limit cannot be with its G", {ON(tr_attributes, 1 << 15)}},
    {NULL, {LDT}},
    {"LDTR: not an LDT", {IS(ldtr_attributes, 0x83)}},
    {"LDTR: not a system segment", {IS(ldtr_attributes, 0x92)}},
    {"LDTR is not present", {IS(ldtr_attributes, 0x02)}},
    {"LDTR: reserved attributes", {IS(ldtr_attributes, 0x482)}},
    {"LDTR: reserved attributes", {IS(ldtr_attributes, 0x20082)}},
    {"LDTR: its limit cannot be with its G", {IS(ldtr_attributes, 0x8082)}},
    {NULL, {IS(ldtr_attributes, 0x8082), IS(ldtr_limit, 0xffff)}},

    {"GDTR.base is not canonical", {IS(gdtr_base, NOT_CANONICAL)}},
    {"IDTR.base is not canonical", {IS(idtr_base, NOT_CANONICAL)}},
    {"GDTR.limit has more than 16 bits", {IS(gdtr_limit, 0x10000)}},
    {"IDTR.limit has more than 16 bits", {IS(idtr_limit, 0x10000)}},
    {"RIP has more than 32 bits, and the code is not 64-bit", {OFF(cs_attributes, SEGMENT_L << 4)}},
    {NULL, {OFF(cs_attributes, SEGMENT_L << 4), IS(rip, 0xffffffff)}},
    {"RIP is beyond the linear addresses", {IS(rip, 1UL << 48)}},
    {NULL, {IS(rip, 1UL << 47)}},
    {NULL, {IS(rip, 1UL << 48), L(linear_bits, ~0UL, 57)}},
    {NULL, {IS(rsp, 1UL << 48)}},
    {"RFLAGS has reserved bits, or bit 1 is not set", {ON(rflags, 1UL << 22)}},
    {"RFLAGS has reserved bits, or bit 1 is not set", {ON(rflags, 1UL << 63)}},
    {"RFLAGS has reserved bits, or bit 1 is not set", {ON(rflags, 1UL << 15)}},
    {"RFLAGS has reserved bits, or bit 1 is not set", {ON(rflags, 1UL << 5)}},
    {"RFLAGS has reserved bits, or bit 1 is not set", {ON(rflags, 1UL << 3)}},
    {"RFLAGS has reserved bits, or bit 1 is not set", {OFF(rflags, EFLAGS_MBS)}},
    {NULL, {ON(rflags, 0x3d7fd7)}},
    {"event: an interrupt, and RFLAGS.IF is off", {EVENT(INTR, 0x41), OFF(rflags, EFLAGS_IF)}},
    {NULL, {EVENT(NMI, 2), OFF(rflags, EFLAGS_IF)}},
    {NULL, {EXCEPTION(UD), OFF(rflags, EFLAGS_IF)}},

    {"activity state is not 'active'", {IS(activity, 1)}},
    {"activity state is not 'active'", {IS(activity, 4)}},
    {"interruptibility has reserved bits", {ON(interruptibility, 1 << 4)}},
    {"interruptibility: blocking by STI and by MOV SS", {IS(interruptibility, 3)}},
    {NULL, {IS(interruptibility, BLOCKED_BY_STI | BLOCKED_BY_NMI)}},
    {NULL, {IS(interruptibility, BLOCKED_BY_MOV_SS), OFF(rflags, EFLAGS_IF)}},
    {"interruptibility: blocking by STI, and RFLAGS.IF is off",
     {IS(interruptibility, BLOCKED_BY_STI), OFF(rflags, EFLAGS_IF)}},
    {"event: an interrupt with blocking by STI or MOV SS", {EVENT(INTR, 0x41), IS(interruptibility, BLOCKED_BY_STI)}},
    {"event: an interrupt with blocking by STI or MOV SS",
     {EVENT(INTR, 0x41), IS(interruptibility, BLOCKED_BY_MOV_SS)}},
    {NULL, {EVENT(INTR, 0x41), IS(interruptibility, BLOCKED_BY_NMI)}},
    {"event: an NMI with blocking by MOV SS", {EVENT(NMI, 2), IS(interruptibility, BLOCKED_BY_MOV_SS)}},
    {"interruptibility: blocking by SMI", {IS(interruptibility, BLOCKED_BY_SMI)}},
    {"event: an NMI with blocking by STI, which some processors refuse",
     {EVENT(NMI, 2), IS(interruptibility, BLOCKED_BY_STI)}},
    {"event: an NMI with blocking by NMI", {EVENT(NMI, 2), IS(interruptibility, BLOCKED_BY_NMI)}},
    {NULL, {EXCEPTION(UD), IS(interruptibility, BLOCKED_BY_MOV_SS)}},
    {"pending debug exceptions: reserved bits", {IS(pending_debug, 1UL << 4)}},
    {"pending debug exceptions: reserved bits", {IS(pending_debug, 1UL << 13)}},
    {"pending debug exceptions: reserved bits", {IS(pending_debug, 1UL << 15)}},
    {"pending debug exceptions: reserved bits", {IS(pending_debug, 1UL << 63)}},
    {NULL, {IS(pending_debug, 0x1500f)}},
    {"pending debug exceptions: no single step, with RFLAGS.TF and blocking by STI or MOV SS",
     {ON(rflags, EFLAGS_TF), IS(interruptibility, BLOCKED_BY_STI)}},
    {"pending debug exceptions: no single step, with RFLAGS.TF and blocking by STI or MOV SS",
     {ON(rflags, EFLAGS_TF), IS(interruptibility, BLOCKED_BY_MOV_SS)}},
    {"pending debug exceptions: a single step, without RFLAGS.TF and with blocking by STI or MOV SS",
     {IS(pending_debug, 1UL << 14), IS(interruptibility, BLOCKED_BY_STI)}},
    {"pending debug exceptions: a single step, without RFLAGS.TF and with blocking by STI or MOV SS",
     {IS(pending_debug, 1UL << 14), IS(interruptibility, BLOCKED_BY_STI), ON(rflags, EFLAGS_TF),
      IS(debugctl, DEBUGCTL_BTF)}},
    {"DEBUGCTL is not zero", {IS(interruptibility, BLOCKED_BY_STI), ON(rflags, EFLAGS_TF), IS(debugctl, DEBUGCTL_BTF)}},
    {NULL, {IS(pending_debug, 1UL << 14), IS(interruptibility, BLOCKED_BY_STI), ON(rflags, EFLAGS_TF)}},
    {NULL, {ON(rflags, EFLAGS_TF)}},
    {"VMCS link pointer is not all ones", {IS(link, 0)}},
    {NULL, {IS(pdpte0, ~0UL)}}, /* which long mode does not have */

    {"a field has more bits than the VMCS has for it", {IS(vpid, 0x10000)}},
    {"a field has more bits than the VMCS has for it", {ON(es_selector, 0x10000)}},
    {"a field has more bits than the VMCS has for it", {IS(sysenter_cs, 1UL << 32)}},
    {"a field has more bits than the VMCS has for it", {ON(exceptions, 1UL << 63)}},
    {NULL, {IS(sysenter_cs, 0xffffffff)}},
    {"KernelGsBase is not canonical: Croft could not load it", {IS(extra.kernel_gs_base, NOT_CANONICAL)}},
    {"LSTAR is not canonical: Croft could not load it", {IS(extra.lstar, NOT_CANONICAL)}},
    {"CSTAR is not canonical: Croft could not load it", {IS(extra.cstar, NOT_CANONICAL)}},
    {"FMASK[63:32] is not zero: Croft could not load it", {IS(extra.sfmask, 1UL << 32)}},
    {NULL, {IS(extra.star, ~0UL), IS(extra.sfmask, 0xffffffff), IS(extra.cr2, NOT_CANONICAL)}},
    {"DR6[63:32] is not zero: Croft could not load it", {ON(extra.dr6, 1UL << 32)}},
    {"DEBUGCTL is not zero", {IS(debugctl, 1)}},
    {"CR0.CD or CR0.NW is on, which only their shadows may be", {ON(cr0, CR0_CD)}},
    {"CR0.CD or CR0.NW is on, which only their shadows may be", {ON(cr0, CR0_NW)}},
    {NULL, {ON(cr0_shadow, CR0_CD | CR0_NW)}},
    {"event: one of INT n, INT1, INT3 or INTO, which are to be executed again", {EVENT(SOFTWARE, 0x80)}},
    {"event: one of INT n, INT1, INT3 or INTO, which are to be executed again", {EVENT(PRIVILEGED, X86_DB)}},
    {"event: one of INT n, INT1, INT3 or INTO, which are to be executed again", {EVENT(SOFT_EXCEPTION, X86_BP)}},
    {"event: no exception has this vector", {EXCEPTION(NMI)}},
    {"event: no exception has this vector", {EXCEPTION(COP)}},
    {"event: no exception has this vector", {EXCEPTION(VE)}},
    {"event: no exception has this vector", {EXCEPTION(CP)}},
    {"event: no exception has this vector", {EVENT(EXCEPTION, 31)}},
    {"event: this exception never comes with, or without, an error code", {EXCEPTION(GP), FREE}},
    {"event: this exception never comes with, or without, an error code", {EXCEPTION(CP), FREE}},
    {"event: this exception never comes with, or without, an error code", {EXCEPTION_WITH_ERROR(UD), FREE}},
    {NULL, {EXCEPTION_WITH_ERROR(CP), FREE}},
    {NULL, {EXCEPTION_WITH_ERROR(GP), FREE}},
    {NULL, {EXCEPTION(BP)}},

    {"the map of ports is on, and Croft has none", {ON(processor_controls, PROC_PORT_MAP)}},
    {"VMFUNC is on: the guest could change its memory", {ON(secondary_controls, PROC2_VMFUNC)}},
    {"the processor's own virtual local APIC is on", {ON(secondary_controls, PROC2_APIC_ACCESSES)}},
    {"the processor's own virtual local APIC is on", {ON(secondary_controls, PROC2_X2APIC)}},
    {"the processor's own virtual local APIC is on", {ON(secondary_controls, PROC2_APIC_REGISTERS)}},
    {"the processor's own virtual local APIC is on", {ON(secondary_controls, PROC2_INTR_DELIVERY)}},
    {"CR8 has neither a shadow nor exits: the guest has the machine's TPR", {OFF(processor_controls, PROC_TPR_SHADOW)}},
    {"CR8 has neither a shadow nor exits: the guest has the machine's TPR",
     {B(processor_controls, PROC_TPR_SHADOW, PROC_CR8_LOAD)}},
    {"CR8 has neither a shadow nor exits: the guest has the machine's TPR",
     {B(processor_controls, PROC_TPR_SHADOW, PROC_CR8_STORE)}},
    {NULL, {B(processor_controls, PROC_TPR_SHADOW, PROC_CR8_LOAD | PROC_CR8_STORE)}},
    {"CR4's mask leaves bits to the guest", {OFF(cr4_mask, CR4_PGE)}},
    {NULL, {IS(cr4_mask, 0xffffffff)}},
    {"the map of MSRs is at zero", {IS(msr_map, 0)}},
    {"the EPT pointer is zero", {IS(ept_root, EPTP_FORMAT)}},
    {"the virtual-APIC page is at zero", {IS(virtual_apic, 0)}},
    {"pin-based controls: one is on that Croft does not know", {ON(pin_controls, 1 << 7)}},
    {"processor-based controls: one is on that Croft does not know", {ON(processor_controls, 1 << 12)}},
    {"secondary controls: one is on that Croft does not know", {ON(secondary_controls, 1 << 17)}},
    {"exit controls: one is on that Croft does not know", {ON(exit_controls, 1 << 12)}},
    {"entry controls: one is on that Croft does not know", {ON(entry_controls, 1 << 13)}},
    {NULL,
     {ON(processor_controls, PROC_INTR_WINDOW | PROC_INVLPG | PROC_CR3_LOAD | PROC_CR3_STORE | PROC_CR8_LOAD),
      ON(processor_controls, PROC_CR8_STORE | PROC_NMI_WINDOW | PROC_MONITOR_TRAP | PROC_PAUSE),
      ON(secondary_controls, PROC2_INVPCID | PROC2_XSAVES), ON(exit_controls, EXIT_ACK_INTR)}},
    {"interrupts make no exits", {OFF(pin_controls, PIN_INTR_EXITING)}},
    {"NMIs make no exits", {OFF(pin_controls, PIN_NMI_EXITING | PIN_VIRTUAL_NMIS)}},
    {"NMIs are not virtual: the guest's would block the machine's", {OFF(pin_controls, PIN_VIRTUAL_NMIS)}},
    {"NMIs are not virtual: the guest's would block the machine's",
     {EVENT(NMI, 2), IS(interruptibility, BLOCKED_BY_NMI), OFF(pin_controls, PIN_VIRTUAL_NMIS)}},
    {"the secondary controls are off", {OFF(processor_controls, PROC_SECONDARY)}},
    {"EPT is off: the guest would use machine addresses", {OFF(secondary_controls, PROC2_EPT | PROC2_UNRESTRICTED)}},
    {"VPIDs are off: each entry and exit empties the TLB", {OFF(secondary_controls, PROC2_VPID), IS(vpid, 0)}},
    {"unrestricted guest is off: it could not leave protected mode", {RESTRICTED}},
    {"WBINVD makes no exit", {OFF(secondary_controls, PROC2_WBINVD)}},
    {"HLT makes no exit", {OFF(processor_controls, PROC_HLT)}},
    {"RDPMC makes no exit", {OFF(processor_controls, PROC_RDPMC)}},
    {"MWAIT makes no exit", {OFF(processor_controls, PROC_MWAIT)}},
    {"MONITOR makes no exit", {OFF(processor_controls, PROC_MONITOR)}},
    {"MOV DR makes no exit: the guest has the machine's breakpoints", {OFF(processor_controls, PROC_MOV_DR)}},
    {"ports make no exits: the guest has all of them", {OFF(processor_controls, PROC_ALL_PORTS)}},
    {"the map of MSRs is off: every one makes an exit", {OFF(processor_controls, PROC_MSR_MAP)}},
    {"#DB makes no exit: it can loop for ever (CVE-2015-8104)", {OFF(exceptions, 1 << X86_DB)}},
    {"#AC makes no exit: it can loop for ever (CVE-2015-5307)", {OFF(exceptions, 1 << X86_AC)}},
    {"#MC makes no exit", {OFF(exceptions, 1 << X86_MC)}},
    {"CR0's mask leaves NE or ET to the guest", {OFF(cr0_mask, CR0_NE)}},
    {"CR0's mask leaves NE or ET to the guest", {OFF(cr0_mask, CR0_ET)}},
    {"CR0's mask leaves CD or NW to the guest: it could turn the caches off", {OFF(cr0_mask, CR0_CD)}},
    {"CR0's mask leaves CD or NW to the guest: it could turn the caches off", {OFF(cr0_mask, CR0_NW)}},
    {NULL, {IS(cr0_mask, ~0UL)}},
    {"CR4's mask leaves VMXE to the guest", {OFF(cr4_mask, CR4_VMXE)}},
    {"an exit does not save DR7", {OFF(exit_controls, EXIT_SAVE_DEBUG)}},
    {"an exit does not save PAT", {OFF(exit_controls, EXIT_SAVE_PAT)}},
    {"an exit does not load Croft's PAT", {OFF(exit_controls, EXIT_LOAD_PAT), IS(host_pat, 2)}},
    {"an exit does not save EFER", {OFF(exit_controls, EXIT_SAVE_EFER)}},
    {"an exit does not load Croft's EFER", {OFF(exit_controls, EXIT_LOAD_EFER), IS(host_efer, 0)}},
    {"an entry does not load DR7", {OFF(entry_controls, ENTRY_LOAD_DEBUG), IS(dr7, 1UL << 32)}},
    {"an entry does not load PAT", {OFF(entry_controls, ENTRY_LOAD_PAT), IS(pat, 2)}},
    {"an entry does not load EFER", {OFF(entry_controls, ENTRY_LOAD_EFER), IS(efer, 0)}},
};

static const struct audit_case user_cases[] = {
    {NULL, {EVENT(INTR, 0x41)}},
    {"CS.DPL is not SS.DPL", {IS(ss_attributes, FLAT)}}, /* AMD-V's, after a SYSRET */
    {"CS.DPL is not SS.DPL", {IS(ss_attributes, UNUSABLE)}},
    {NULL, {IS(ss_attributes, UNUSABLE | 0x60)}},
    {NULL, {OFF(cs_attributes, SEGMENT_L << 4), ON(cs_attributes, SEGMENT_DB << 4)}}, /* compatibility mode */
};

static const struct audit_case real_cases[] = {
    {NULL, {EXCEPTION(GP)}}, /* an error code is a thing of protected mode */
    {"event: an error code where there is none", {EXCEPTION_WITH_ERROR(GP)}},
    {"event: an error code where there is none", {EXCEPTION_WITH_ERROR(GP), FREE}},
    {"CR0 has bits that it must not have in VMX operation, or lacks some", {RESTRICTED}},
    {"SS.DPL is not 0 in real mode, or with data in CS", {IS(cs_attributes, 0x9f), IS(ss_attributes, 0xf3)}},
    {NULL, {IS(cs_attributes, 0x93)}},                           /* as one that was protected mode's data */
    {NULL, {IS(ds_limit, 0xffffffff), IS(ds_attributes, FLAT)}}, /* "unreal" mode */
    {NULL, {ON(efer, EFER_LME)}},
    {NULL, {ON(cr4, CR4_PAE), IS(pdpte0, ~0UL)}},
};

static const struct audit_case protected_cases[] = {
    {"CR0 has bits that it must not have in VMX operation, or lacks some", {RESTRICTED}},
    {NULL, {IS(cs_attributes, 0xc093)}},
    {NULL, {IS(tr_attributes, 0x83)}},
    {"TR: not a busy TSS, or one of 16 bits in long mode", {IS(tr_attributes, 0x81)}},
    {NULL, {ON(cr0, CR0_PG)}}, /* 32-bit paging */
    {NULL, {ON(cr0, CR0_PG), IS(pdpte0, ~0UL)}},
    {"EFER.LMA is not EFER.LME with paging on", {ON(cr0, CR0_PG), ON(efer, EFER_LME)}},
    {"RIP has more than 32 bits, and the code is not 64-bit", {IS(rip, 1UL << 32)}},
    {NULL, {ON(cs_attributes, SEGMENT_L << 4)}}, /* which means nothing here */
};

static const struct audit_case pae_cases[] = {
    {"a PDPTE has reserved bits", {ON(pdpte0, 2)}},
    {"a PDPTE has reserved bits", {IS(pdpte1, 0x1000 | 1 << 5 | 1)}},
    {"a PDPTE has reserved bits", {IS(pdpte2, 0x1000 | 1 << 8 | 1)}},
    {"a PDPTE has reserved bits", {ON(pdpte3, 1UL << 46)}},
    {"a PDPTE has reserved bits", {ON(pdpte3, 1UL << 63)}},
    {NULL, {ON(pdpte3, 1UL << 45 | 0xe18)}},
    {NULL, {IS(pdpte1, ~1UL)}}, /* it is not present */
    {NULL, {ON(pdpte0, 2), OFF(cr4, CR4_PAE)}},
};

#define NO_LONGER_16(s)                                                                                                \
    {"virtual-8086 mode: a base is not 16 times its selector", {ON(s##_base, 1)}},                                     \
        {"virtual-8086 mode: a limit is not 0xffff", {IS(s##_limit, 0xfffff)}},                                        \
    {                                                                                                                  \
        "virtual-8086 mode: attributes are not 0xf3", { IS(s##_attributes, 0x93) }                                     \
    }
static const struct audit_case virtual_8086_cases[] = {
    NO_LONGER_16(cs),
    NO_LONGER_16(ss),
    NO_LONGER_16(ds),
    NO_LONGER_16(es),
    NO_LONGER_16(fs),
    NO_LONGER_16(gs),
    {"RFLAGS.VM in long mode", {ON(entry_controls, ENTRY_LONG_MODE), ON(efer, EFER_LMA | EFER_LME)}},
    {"RFLAGS.VM in real mode", {OFF(cr0, CR0_PE | CR0_PG)}},
};

static const struct group {
    const char *name;
    struct vmcs (*from)(void);
    const struct audit_case *cases;
    size_t n;
} groups[] = {
    {"kernel", sixty_four_bit, kernel_cases, ARRAY_SIZE(kernel_cases)},
    {"user", user, user_cases, ARRAY_SIZE(user_cases)},
    {"real", real_mode, real_cases, ARRAY_SIZE(real_cases)},
    {"protected", protected_mode, protected_cases, ARRAY_SIZE(protected_cases)},
    {"pae", pae, pae_cases, ARRAY_SIZE(pae_cases)},
    {"virtual-8086", virtual_8086, virtual_8086_cases, ARRAY_SIZE(virtual_8086_cases)},
};

static void accepts_every_mode(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
        struct vmcs b = groups[i].from();
        const char *answer = vmx_audit(&b, &limits);

        if (answer)
            fail_msg("%s: %s", groups[i].name, answer);
        assert_null(vmx_audit_state(&b, &limits));
    }
}

static void apply(const struct change *c, struct vmcs *b, struct vmx_limits *l)
{
    char *field = (c->of_limits ? (char *)l : (char *)b) + c->offset;
    uint64_t v = 0;

    memcpy(&v, field, c->size);
    v = (v & ~c->clear) | c->set;
    memcpy(field, &v, c->size);
}

static void set_up(const struct group *g, const struct audit_case *c, struct vmcs *b, struct vmx_limits *l)
{
    *b = g->from();
    *l = limits;
    for (size_t k = 0; k < ARRAY_SIZE(c->changes) && c->changes[k].size; k++)
        apply(&c->changes[k], b, l);
}

static void each_rule(void **state)
{
    for (const struct group *g = groups; g < groups + ARRAY_SIZE(groups); g++)
        for (size_t i = 0; i < g->n; i++) {
            const char *answer, *expected = g->cases[i].text;
            struct vmx_limits l;
            struct vmcs b;

            set_up(g, &g->cases[i], &b, &l);
            answer = vmx_audit(&b, &l);
            if (!answer != !expected || (answer && strcmp(answer, expected)))
                fail_msg("%s, case %zu: '%s' in place of '%s'", g->name, i, answer ? answer : "valid",
                         expected ? expected : "valid");
        }
}

static bool has_case(const char *text)
{
    for (const struct group *g = groups; g < groups + ARRAY_SIZE(groups); g++)
        for (size_t i = 0; i < g->n; i++)
            if (g->cases[i].text && !strcmp(g->cases[i].text, text))
                return true;
    return false;
}

static void every_rule_has_a_case(void **state)
{
    const char *texts[300] = {NULL};
    unsigned n = vmx_audit_rules(texts, ARRAY_SIZE(texts));

    assert_in_range(n, 1, ARRAY_SIZE(texts));
    for (unsigned i = 0; i < n; i++) {
        assert_non_null(texts[i]);
        if (!has_case(texts[i]))
            fail_msg("no case for the rule '%s'", texts[i]);
        for (unsigned k = 0; k < i; k++) /* else one case could stand for two rules */
            assert_string_not_equal(texts[i], texts[k]);
    }
    /* No more than it was asked for */
    for (unsigned few = 0; few < n; few++) {
        memset(texts, 0, sizeof(texts));
        assert_int_equal(vmx_audit_rules(texts, few), n);
        assert_null(texts[few]);
        assert_true(!few || texts[few - 1]);
    }
}

/* A state that the tools bring meets the rules for it, whatever the controls and the host's state are, and those rules only. */
static void rules_for_a_state(void **state)
{
    unsigned found = 0;

    for (const struct group *g = groups; g < groups + ARRAY_SIZE(groups); g++)
        for (size_t i = 0; i < g->n; i++) {
            struct vmx_limits l;
            struct vmcs b;
            const char *answer, *after;

            set_up(g, &g->cases[i], &b, &l);
            answer = vmx_audit_state(&b, &l);
            assert_true(!answer || (g->cases[i].text && !strcmp(answer, g->cases[i].text)));
            found += answer != NULL;
            b.host_cs = b.host_tr = b.host_cr0 = b.exit_controls = b.ept_root = b.msr_map = b.cr4_mask = 0;
            after = vmx_audit_state(&b, &l);
            if (!answer != !after || (answer && strcmp(answer, after)))
                fail_msg("%s, case %zu: '%s' became '%s'", g->name, i, answer ? answer : "valid",
                         after ? after : "valid");
        }
    assert_in_range(found, 180, 400);
}

/* Each exception can be injected as it comes, and in no other way. */
static void exceptions(void **state)
{
    const uint32_t all = 0x000f7dfb | 1U << X86_CP, with_error = 0x00027d00 | 1U << X86_CP;

    for (unsigned free = 0; free < 2; free++)
        for (uint64_t vector = 0; vector < 32; vector++)
            for (unsigned error = 0; error < 2; error++) {
                uint32_t there = free ? all : all & ~(1U << X86_CP);
                bool legal = there >> vector & 1 && (with_error >> vector & 1) == error;
                struct vmx_limits l = limits;
                struct vmcs b = sixty_four_bit();

                l.error_code_free = free;
                b.entry_event = EVENT_VALID | EVENT_TYPE_EXCEPTION | vector | (error ? EVENT_HAS_ERROR : 0);
                if (!vmx_audit(&b, &l) != legal)
                    fail_msg("vector %lu, error code %u: %d", vector, error, !legal);
            }
}

static void dump(void **state)
{
    static const char *const parts[] = {"exit 1e qualification 0000000003f80000 length 2",
                                        "rip ffffffff81000000",
                                        "cr3 0000000001234000",
                                        "cr0 80010033 (reads 60000010)",
                                        "cs   0008 attr 0a09b limit ffffffff base 0000000000000000",
                                        "gs   0010",
                                        "ldtr 0000 attr 10000",
                                        "ept 10801e vpid 1",
                                        "inject 80000b0e:2",
                                        "host rip ffff82d080200000"};
    struct vmcs b = sixty_four_bit();
    unsigned lines = 0;

    b.exit_reason = EXIT_PORT;
    b.exit_qualification = 0x3f80000;
    b.exit_length = 2;
    b.cr0_shadow = CR0_CD | CR0_NW | CR0_ET;
    b.entry_event = EVENT_VALID | EVENT_TYPE_EXCEPTION | EVENT_HAS_ERROR | X86_PF;
    b.entry_error = 2;
    logged[0] = 0;
    vmx_dump(&b);
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
        if (!strstr(logged, parts[i]))
            fail_msg("no '%s' in:\n%s", parts[i], logged);
    for (const char *p = logged; (p = strchr(p, '\n')); p++)
        lines++;
    assert_in_range(lines, 10, 22);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_every_mode), cmocka_unit_test(each_rule),  cmocka_unit_test(every_rule_has_a_case),
        cmocka_unit_test(rules_for_a_state),  cmocka_unit_test(exceptions), cmocka_unit_test(dump),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
