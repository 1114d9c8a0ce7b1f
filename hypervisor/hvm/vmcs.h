/*
 * The virtual machine control structure of VT-x, and what its numbers mean. The processor keeps it; its fields have encodings, and
 * are read and written by instructions. struct vmcs is a copy of those that Croft uses, for the auditor and the state's transfer.
 * Source: Intel SDM volume 3, chapters 24-27, appendices B (encodings) and C (exit reasons).
 */
#ifndef HVM_VMCS_H
#define HVM_VMCS_H

#include "lib/util.h"

/* pin_controls */
#define PIN_INTR_EXITING (1U << 0)
#define PIN_NMI_EXITING (1U << 3)
#define PIN_VIRTUAL_NMIS (1U << 5)
#define PIN_PREEMPTION_TIMER (1U << 6)
/* processor_controls */
#define PROC_INTR_WINDOW (1U << 2)
#define PROC_TSC_OFFSET (1U << 3)
#define PROC_HLT (1U << 7)
#define PROC_INVLPG (1U << 9)
#define PROC_MWAIT (1U << 10)
#define PROC_RDPMC (1U << 11)
#define PROC_CR3_LOAD (1U << 15)
#define PROC_CR3_STORE (1U << 16)
#define PROC_CR8_LOAD (1U << 19)
#define PROC_CR8_STORE (1U << 20)
#define PROC_TPR_SHADOW (1U << 21)
#define PROC_NMI_WINDOW (1U << 22)
#define PROC_MOV_DR (1U << 23)
#define PROC_ALL_PORTS (1U << 24)
#define PROC_PORT_MAP (1U << 25)
#define PROC_MONITOR_TRAP (1U << 27)
#define PROC_MSR_MAP (1U << 28)
#define PROC_MONITOR (1U << 29)
#define PROC_PAUSE (1U << 30)
#define PROC_SECONDARY (1U << 31)
/* secondary_controls */
#define PROC2_APIC_ACCESSES (1U << 0)
#define PROC2_EPT (1U << 1)
#define PROC2_RDTSCP (1U << 3)
#define PROC2_X2APIC (1U << 4)
#define PROC2_VPID (1U << 5)
#define PROC2_WBINVD (1U << 6)
#define PROC2_UNRESTRICTED (1U << 7) /* a guest in real mode, or without paging */
#define PROC2_APIC_REGISTERS (1U << 8)
#define PROC2_INTR_DELIVERY (1U << 9)
#define PROC2_INVPCID (1U << 12)
#define PROC2_VMFUNC (1U << 13)
#define PROC2_XSAVES (1U << 20)
/* exit_controls */
#define EXIT_SAVE_DEBUG (1U << 2)
#define EXIT_HOST_64 (1U << 9)
#define EXIT_ACK_INTR (1U << 15)
#define EXIT_SAVE_PAT (1U << 18)
#define EXIT_LOAD_PAT (1U << 19)
#define EXIT_SAVE_EFER (1U << 20)
#define EXIT_LOAD_EFER (1U << 21)
/* entry_controls */
#define ENTRY_LOAD_DEBUG (1U << 2)
#define ENTRY_LONG_MODE (1U << 9) /* "IA-32e mode guest": EFER.LMA */
#define ENTRY_SMM (1U << 10)
#define ENTRY_DEACTIVATE_DUAL (1U << 11)
#define ENTRY_LOAD_PAT (1U << 14)
#define ENTRY_LOAD_EFER (1U << 15)

/* interruptibility */
#define BLOCKED_BY_STI (1U << 0)
#define BLOCKED_BY_MOV_SS (1U << 1)
#define BLOCKED_BY_SMI (1U << 2)
#define BLOCKED_BY_NMI (1U << 3)
#define INTERRUPT_SHADOW_VMX (BLOCKED_BY_STI | BLOCKED_BY_MOV_SS)

/* pending_debug */
#define PENDING_BREAKPOINTS 0xfUL
#define PENDING_ENABLED_BREAKPOINT (1UL << 12)
#define PENDING_SINGLE_STEP (1UL << 14)
#define PENDING_RTM (1UL << 16)

/* debugctl */
#define DEBUGCTL_BTF (1UL << 1)

/* activity */
#define ACTIVITY_ACTIVE 0U

/* entry_event, exit_event and interrupted_event: vector, type, error code and valid as EVENT_* of hvm/vmcb.h, and: */
#define EVENT_TYPE_PRIVILEGED (5UL << 8)     /* INT1 */
#define EVENT_TYPE_SOFT_EXCEPTION (6UL << 8) /* INT3, INTO */
#define EVENT_NMI_UNBLOCKED (1U << 12)       /* of exit_event: by an IRET that faulted */

/* Attributes of segments: as hvm/vmcb.h has them (its bits 11-8 are at 15-12 here), and: */
#define ATTRIBUTES_UNUSABLE (1U << 16)

/* exit_qualification of a violation of EPT */
#define EPT_READ (1U << 0)
#define EPT_WRITE (1U << 1)
#define EPT_FETCH (1U << 2)
#define EPT_LINEAR_VALID (1U << 7)
#define EPT_LINEAR (1U << 8) /* by the address itself; else: a walk of the guest's tables */
#define EPT_NMI_UNBLOCKED (1U << 12)
/* ept_root: write-back, four levels */
#define EPTP_FORMAT (6U | 3U << 3)
#define EPTP_FORMAT_MASK 0xfffU

/* exit_qualification of an access to a port; the port is in bits 31-16 */
#define PORT_IN (1U << 3)
#define PORT_STRING (1U << 4)
#define PORT_REPEAT (1U << 5)
#define PORT_BYTES(qualification) (((qualification)&7) + 1)
#define PORT_NUMBER(qualification) ((uint16_t)((qualification) >> 16))

enum vmx_exit {
    EXIT_EXCEPTION = 0,
    EXIT_INTR = 1,
    EXIT_TRIPLE_FAULT = 2,
    EXIT_INIT = 3,
    EXIT_STARTUP = 4,
    EXIT_INTR_WINDOW = 7,
    EXIT_NMI_WINDOW = 8,
    EXIT_TASK_SWITCH = 9,
    EXIT_CPUID = 10,
    EXIT_GETSEC = 11,
    EXIT_HLT = 12,
    EXIT_INVD = 13,
    EXIT_RDPMC = 15,
    EXIT_VMCALL = 18,
    EXIT_VMCLEAR = 19,
    EXIT_VMLAUNCH = 20,
    EXIT_VMPTRLD = 21,
    EXIT_VMPTRST = 22,
    EXIT_VMREAD = 23,
    EXIT_VMRESUME = 24,
    EXIT_VMWRITE = 25,
    EXIT_VMXOFF = 26,
    EXIT_VMXON = 27,
    EXIT_CR = 28,
    EXIT_DR = 29,
    EXIT_PORT = 30,
    EXIT_RDMSR = 31,
    EXIT_WRMSR = 32,
    EXIT_BAD_STATE = 33,
    EXIT_BAD_MSRS = 34,
    EXIT_MWAIT = 36,
    EXIT_MONITOR = 39,
    EXIT_ENTRY_MACHINE_CHECK = 41,
    EXIT_TPR_BELOW = 43,
    EXIT_EPT_VIOLATION = 48,
    EXIT_EPT_MISCONFIGURATION = 49,
    EXIT_INVEPT = 50,
    EXIT_PREEMPTION_TIMER = 52,
    EXIT_INVVPID = 53,
    EXIT_WBINVD = 54,
    EXIT_XSETBV = 55,
    EXIT_VMFUNC = 59,
    EXIT_TABLE_SIZE = 64
};
#define EXIT_ENTRY_FAILED (1U << 31) /* of exit_reason: the guest never ran */

/* Every field that Croft uses: name, encoding */
/* clang-format off */
#define VMCS_CONTROLS(X)                                                                                               \
    X(vpid, 0x0000) X(msr_map, 0x2004) X(tsc_offset, 0x2010) X(virtual_apic, 0x2012) X(ept_root, 0x201a)               \
    X(pin_controls, 0x4000) X(processor_controls, 0x4002) X(exceptions, 0x4004) X(fault_mask, 0x4006)                  \
    X(fault_match, 0x4008) X(cr3_targets, 0x400a) X(exit_controls, 0x400c) X(exit_msr_stores, 0x400e)                  \
    X(exit_msr_loads, 0x4010) X(entry_controls, 0x4012) X(entry_msr_loads, 0x4014) X(entry_event, 0x4016)              \
    X(entry_error, 0x4018) X(entry_length, 0x401a) X(tpr_threshold, 0x401c) X(secondary_controls, 0x401e)              \
    X(cr0_mask, 0x6000) X(cr4_mask, 0x6002) X(cr0_shadow, 0x6004) X(cr4_shadow, 0x6006)
#define VMCS_SEGMENTS(X)                                                                                               \
    X(es_selector, 0x0800) X(cs_selector, 0x0802) X(ss_selector, 0x0804) X(ds_selector, 0x0806)                        \
    X(fs_selector, 0x0808) X(gs_selector, 0x080a) X(ldtr_selector, 0x080c) X(tr_selector, 0x080e)                      \
    X(es_limit, 0x4800) X(cs_limit, 0x4802) X(ss_limit, 0x4804) X(ds_limit, 0x4806)                                    \
    X(fs_limit, 0x4808) X(gs_limit, 0x480a) X(ldtr_limit, 0x480c) X(tr_limit, 0x480e)                                  \
    X(gdtr_limit, 0x4810) X(idtr_limit, 0x4812)                                                                        \
    X(es_attributes, 0x4814) X(cs_attributes, 0x4816) X(ss_attributes, 0x4818) X(ds_attributes, 0x481a)                \
    X(fs_attributes, 0x481c) X(gs_attributes, 0x481e) X(ldtr_attributes, 0x4820) X(tr_attributes, 0x4822)              \
    X(es_base, 0x6806) X(cs_base, 0x6808) X(ss_base, 0x680a) X(ds_base, 0x680c)                                        \
    X(fs_base, 0x680e) X(gs_base, 0x6810) X(ldtr_base, 0x6812) X(tr_base, 0x6814)                                      \
    X(gdtr_base, 0x6816) X(idtr_base, 0x6818)
#define VMCS_GUEST(X)                                                                                                  \
    X(link, 0x2800) X(debugctl, 0x2802) X(pat, 0x2804) X(efer, 0x2806)                                                 \
    X(pdpte0, 0x280a) X(pdpte1, 0x280c) X(pdpte2, 0x280e) X(pdpte3, 0x2810)                                            \
    X(interruptibility, 0x4824) X(activity, 0x4826) X(sysenter_cs, 0x482a)                                             \
    X(cr0, 0x6800) X(cr3, 0x6802) X(cr4, 0x6804) X(dr7, 0x681a) X(rsp, 0x681c) X(rip, 0x681e) X(rflags, 0x6820)        \
    X(pending_debug, 0x6822) X(sysenter_esp, 0x6824) X(sysenter_eip, 0x6826)
#define VMCS_HOST(X)                                                                                                   \
    X(host_es, 0x0c00) X(host_cs, 0x0c02) X(host_ss, 0x0c04) X(host_ds, 0x0c06) X(host_fs, 0x0c08) X(host_gs, 0x0c0a)  \
    X(host_tr, 0x0c0c) X(host_pat, 0x2c00) X(host_efer, 0x2c02) X(host_sysenter_cs, 0x4c00)                            \
    X(host_cr0, 0x6c00) X(host_cr3, 0x6c02) X(host_cr4, 0x6c04) X(host_fs_base, 0x6c06) X(host_gs_base, 0x6c08)        \
    X(host_tr_base, 0x6c0a) X(host_gdtr_base, 0x6c0c) X(host_idtr_base, 0x6c0e) X(host_sysenter_esp, 0x6c10)           \
    X(host_sysenter_eip, 0x6c12) X(host_rsp, 0x6c14) X(host_rip, 0x6c16)
#define VMCS_EXIT(X) /* read only */                                                                                   \
    X(guest_physical, 0x2400) X(instruction_error, 0x4400) X(exit_reason, 0x4402) X(exit_event, 0x4404)                \
    X(exit_error, 0x4406) X(interrupted_event, 0x4408) X(interrupted_error, 0x440a) X(exit_length, 0x440c)             \
    X(exit_qualification, 0x6400) X(guest_linear, 0x640a)
#define VMCS_FIELDS(X) VMCS_CONTROLS(X) VMCS_SEGMENTS(X) VMCS_GUEST(X) VMCS_HOST(X) VMCS_EXIT(X)
/* clang-format on */

enum vmcs_field {
#define X(name, encoding) VMCS_##name = encoding,
    VMCS_FIELDS(X)
#undef X
        VMCS_preemption_timer = 0x482e /* there is no such field if the processor has no PIN_PREEMPTION_TIMER */
};

/* What has no field, for the processor does not switch it: Croft does. */
struct vmx_extra {
    uint64_t cr2, dr6, star, lstar, cstar, sfmask, kernel_gs_base;
};

struct vmcs {
#define X(name, encoding) uint64_t name;
    VMCS_FIELDS(X)
#undef X
    struct vmx_extra extra;
};

#endif
