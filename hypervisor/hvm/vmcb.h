/*
 * The virtual machine control block of AMD-V, and what its numbers mean.
 * Source: AMD64 Architecture Programmer's Manual, volume 2, appendices B (layout) and C (exit codes), and 15.9-15.21.
 */
#ifndef HVM_VMCB_H
#define HVM_VMCB_H

#include "lib/util.h"

/* intercepts[INTERCEPT_MISC1] */
#define INTERCEPT_INTR (1U << 0)
#define INTERCEPT_NMI (1U << 1)
#define INTERCEPT_SMI (1U << 2)
#define INTERCEPT_INIT (1U << 3)
#define INTERCEPT_VINTR (1U << 4)
#define INTERCEPT_CR0_SELECTIVE (1U << 5) /* writes that change more than TS and MP */
#define INTERCEPT_RDPMC (1U << 15)
#define INTERCEPT_CPUID (1U << 18)
#define INTERCEPT_IRET (1U << 20)
#define INTERCEPT_INVD (1U << 22)
#define INTERCEPT_PAUSE (1U << 23)
#define INTERCEPT_HLT (1U << 24)
#define INTERCEPT_INVLPGA (1U << 26)
#define INTERCEPT_IOIO (1U << 27)
#define INTERCEPT_MSR (1U << 28)
#define INTERCEPT_TASK_SWITCH (1U << 29)
#define INTERCEPT_FERR_FREEZE (1U << 30)
#define INTERCEPT_SHUTDOWN (1U << 31)
/* intercepts[INTERCEPT_MISC2] */
#define INTERCEPT_VMRUN (1U << 0)
#define INTERCEPT_VMMCALL (1U << 1)
#define INTERCEPT_VMLOAD (1U << 2)
#define INTERCEPT_VMSAVE (1U << 3)
#define INTERCEPT_STGI (1U << 4)
#define INTERCEPT_CLGI (1U << 5)
#define INTERCEPT_SKINIT (1U << 6)
#define INTERCEPT_ICEBP (1U << 8)
#define INTERCEPT_WBINVD (1U << 9)
#define INTERCEPT_MONITOR (1U << 10)
#define INTERCEPT_MWAIT (1U << 11)
#define INTERCEPT_MWAIT_CONDITIONAL (1U << 12)
#define INTERCEPT_XSETBV (1U << 13)
#define INTERCEPT_RDPRU (1U << 14)

/* tlb_control */
#define TLB_FLUSH_NOTHING 0
#define TLB_FLUSH_ALL_ASIDS 1
#define TLB_FLUSH_THIS_ASID 3 /* with the feature FlushByAsid */

/* vintr */
#define VINTR_TPR 0xfUL /* V_TPR: bits 3-0 are the priority, as CR8 has it */
#define VINTR_TPR_FIELD 0xffUL
#define VINTR_IRQ (1UL << 8)
#define VINTR_PRIORITY_SHIFT 16
#define VINTR_IGNORE_TPR (1UL << 20)
#define VINTR_MASKING (1UL << 24)
#define VINTR_VECTOR_SHIFT 32
#define VINTR_VECTOR (0xffUL << VINTR_VECTOR_SHIFT)
#define VINTR_NOW (VINTR_IRQ | VINTR_IGNORE_TPR | 15UL << VINTR_PRIORITY_SHIFT) /* as soon as the guest can take it */

#define INTERRUPT_SHADOW 1UL

/* exit_int_info and event_injection */
#define EVENT_VECTOR 0xffUL
#define EVENT_TYPE (7UL << 8)
#define EVENT_TYPE_INTR (0UL << 8)
#define EVENT_TYPE_NMI (2UL << 8)
#define EVENT_TYPE_EXCEPTION (3UL << 8)
#define EVENT_TYPE_SOFTWARE (4UL << 8)
#define EVENT_HAS_ERROR (1UL << 11)
#define EVENT_VALID (1UL << 31)
#define EVENT_ERROR_SHIFT 32

#define NESTED_PAGING 1UL
#define NPF_TABLE_WALK (1UL << 33) /* in exit_info1 of VMEXIT_NPF, above the error code: a walk of the guest's tables */

enum intercept_word {
    INTERCEPT_CR,
    INTERCEPT_DR,
    INTERCEPT_EXCEPTIONS,
    INTERCEPT_MISC1,
    INTERCEPT_MISC2,
    INTERCEPT_MISC3
};
#define INTERCEPT_READ(n) (1U << (n)) /* in the words of CR and DR */
#define INTERCEPT_WRITE(n) (1U << (16 + (n)))

enum vmexit {
    VMEXIT_CR_READ = 0x00,  /* + number */
    VMEXIT_CR_WRITE = 0x10, /* + number */
    VMEXIT_DR_READ = 0x20,
    VMEXIT_DR_WRITE = 0x30,
    VMEXIT_EXCEPTION = 0x40, /* + vector */
    VMEXIT_INTR = 0x60,
    VMEXIT_NMI = 0x61,
    VMEXIT_SMI = 0x62,
    VMEXIT_INIT = 0x63,
    VMEXIT_VINTR = 0x64,
    VMEXIT_CR0_SELECTIVE = 0x65,
    VMEXIT_RDPMC = 0x6f,
    VMEXIT_CPUID = 0x72,
    VMEXIT_IRET = 0x74,
    VMEXIT_INVD = 0x76,
    VMEXIT_PAUSE = 0x77,
    VMEXIT_HLT = 0x78,
    VMEXIT_INVLPGA = 0x7a,
    VMEXIT_IOIO = 0x7b,
    VMEXIT_MSR = 0x7c,
    VMEXIT_TASK_SWITCH = 0x7d,
    VMEXIT_FERR_FREEZE = 0x7e,
    VMEXIT_SHUTDOWN = 0x7f,
    VMEXIT_VMRUN = 0x80,
    VMEXIT_VMMCALL = 0x81,
    VMEXIT_VMLOAD = 0x82,
    VMEXIT_VMSAVE = 0x83,
    VMEXIT_STGI = 0x84,
    VMEXIT_CLGI = 0x85,
    VMEXIT_SKINIT = 0x86,
    VMEXIT_ICEBP = 0x88,
    VMEXIT_WBINVD = 0x89,
    VMEXIT_MONITOR = 0x8a,
    VMEXIT_MWAIT = 0x8b,
    VMEXIT_MWAIT_CONDITIONAL = 0x8c,
    VMEXIT_XSETBV = 0x8d,
    VMEXIT_RDPRU = 0x8e,
    VMEXIT_NPF = 0x400,
};
#define VMEXIT_INVALID (~0UL)
#define VMEXIT_TABLE_SIZE 0x90 /* codes below this, but for VMEXIT_NPF */

/* exit_info1 of VMEXIT_IOIO; the port is in bits 31-16 */
#define IOIO_IN (1U << 0)
#define IOIO_STRING (1U << 2)
#define IOIO_REPEAT (1U << 3)
#define IOIO_SIZE(info) ((info) >> 4 & 7) /* bytes */
#define IOIO_PORT(info) ((uint16_t)((info) >> 16))

struct vmcb_segment {
    uint16_t selector;
    uint16_t attributes; /* bits 55-52 and 47-40 of a descriptor, together: type, S, DPL, P; AVL, L, D/B, G */
    uint32_t limit;      /* in bytes */
    uint64_t base;
};
#define SEGMENT_TYPE 0xfU
#define SEGMENT_S (1U << 4) /* code or data */
#define SEGMENT_DPL(attributes) ((attributes) >> 5 & 3U)
#define SEGMENT_P (1U << 7)
#define SEGMENT_L (1U << 9)
#define SEGMENT_DB (1U << 10)
#define SEGMENT_G (1U << 11)

struct vmcb {
    /* Control area */
    uint32_t intercepts[6];
    uint32_t reserved_018[9];
    uint16_t pause_threshold, pause_count;
    uint64_t io_map;  /* machine address of IO_MAP_BYTES: a bit a port */
    uint64_t msr_map; /* machine address of MSR_MAP_BYTES: two bits an MSR, read and write */
    uint64_t tsc_offset;
    uint32_t asid;
    uint32_t tlb_control;
    uint64_t vintr;
    uint64_t interrupt_shadow;
    uint64_t exit_code, exit_info1, exit_info2;
    uint64_t exit_int_info; /* an event whose delivery this exit interrupted */
    uint64_t np_control;
    uint64_t avic_apic_bar, ghcb;
    uint64_t event_injection;
    uint64_t n_cr3; /* root of the nested page tables */
    uint64_t lbr_control;
    uint64_t clean; /* bits of what is as the processor last left it; zero: nothing */
    uint64_t next_rip;
    uint8_t fetched_bytes, instruction[15];
    uint64_t avic_backing_page, reserved_0e8, avic_logical_table, avic_physical_table;
    uint64_t reserved_100[96];
    /* State save area, at 0x400 */
    struct vmcb_segment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
    uint8_t reserved_4a0[43], cpl;
    uint32_t reserved_4cc;
    uint64_t efer, reserved_4d8[14];
    uint64_t cr4, cr3, cr0, dr7, dr6, rflags, rip;
    uint64_t reserved_580[11];
    uint64_t rsp, s_cet, ssp, isst;
    uint64_t rax, star, lstar, cstar, sfmask, kernel_gs_base, sysenter_cs, sysenter_esp, sysenter_eip, cr2;
    uint64_t reserved_648[4];
    uint64_t g_pat, debugctl, last_branch_from, last_branch_to, last_exception_from, last_exception_to;
    uint64_t reserved_698[301];
};
_Static_assert(sizeof(struct vmcb) == PAGE_SIZE, "as the manual lays it out");
_Static_assert(offsetof(struct vmcb, io_map) == 0x40 && offsetof(struct vmcb, n_cr3) == 0xb0 &&
                   offsetof(struct vmcb, avic_physical_table) == 0xf8,
               "control area");
_Static_assert(offsetof(struct vmcb, es) == 0x400 && offsetof(struct vmcb, cpl) == 0x4cb &&
                   offsetof(struct vmcb, efer) == 0x4d0 && offsetof(struct vmcb, cr4) == 0x548 &&
                   offsetof(struct vmcb, rip) == 0x578 && offsetof(struct vmcb, rsp) == 0x5d8 &&
                   offsetof(struct vmcb, rax) == 0x5f8 && offsetof(struct vmcb, cr2) == 0x640 &&
                   offsetof(struct vmcb, g_pat) == 0x668,
               "state save area");

#define IO_MAP_BYTES (3 * PAGE_SIZE)
#define MSR_MAP_BYTES (2 * PAGE_SIZE)

#endif
