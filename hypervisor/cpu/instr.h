/* Privileged and special instructions as functions, and the architecture's constants. Names as in the manuals. */
#ifndef CPU_INSTR_H
#define CPU_INSTR_H

#include "lib/util.h"

#define CR0_PE (1UL << 0)
#define CR0_MP (1UL << 1)
#define CR0_EM (1UL << 2)
#define CR0_TS (1UL << 3)
#define CR0_ET (1UL << 4)
#define CR0_NE (1UL << 5)
#define CR0_WP (1UL << 16)
#define CR0_AM (1UL << 18)
#define CR0_NW (1UL << 29)
#define CR0_CD (1UL << 30)
#define CR0_PG (1UL << 31)
#define CR4_VME (1UL << 0)
#define CR4_PVI (1UL << 1)
#define CR4_TSD (1UL << 2)
#define CR4_DE (1UL << 3)
#define CR4_PSE (1UL << 4)
#define CR4_PAE (1UL << 5)
#define CR4_MCE (1UL << 6)
#define CR4_PGE (1UL << 7)
#define CR4_PCE (1UL << 8)
#define CR4_OSFXSR (1UL << 9)
#define CR4_OSXMMEXCPT (1UL << 10)
#define CR4_UMIP (1UL << 11)
#define CR4_VMXE (1UL << 13)
#define CR4_FSGSBASE (1UL << 16)
#define CR4_PCIDE (1UL << 17)
#define CR4_OSXSAVE (1UL << 18)
#define CR4_SMEP (1UL << 20)
#define CR4_SMAP (1UL << 21)
#define CR4_CET (1UL << 23)

#define EFLAGS_CF (1UL << 0)
#define EFLAGS_MBS (1UL << 1) /* always one */
#define EFLAGS_TF (1UL << 8)
#define EFLAGS_IF (1UL << 9)
#define EFLAGS_DF (1UL << 10)
#define EFLAGS_IOPL (3UL << 12)
#define EFLAGS_NT (1UL << 14)
#define EFLAGS_RF (1UL << 16)
#define EFLAGS_VM (1UL << 17)
#define EFLAGS_AC (1UL << 18)
#define EFLAGS_VIF (1UL << 19)
#define EFLAGS_VIP (1UL << 20)

#define MSR_TSC 0x10
#define MSR_APIC_BASE 0x1b
#define MSR_PRED_CMD 0x49
#define PRED_CMD_IBPB 1UL
#define MSR_SYSENTER_CS 0x174
#define MSR_SYSENTER_ESP 0x175
#define MSR_SYSENTER_EIP 0x176
#define MSR_PAT 0x277
#define MSR_TSC_DEADLINE 0x6e0
#define MSR_X2APIC 0x800 /* + register offset >> 4 */
#define MSR_XSS 0xda0
#define MSR_EFER 0xc0000080
#define EFER_SCE (1UL << 0)
#define EFER_LME (1UL << 8)
#define EFER_LMA (1UL << 10)
#define EFER_NXE (1UL << 11)
#define EFER_SVME (1UL << 12)
#define MSR_STAR 0xc0000081
#define MSR_LSTAR 0xc0000082
#define MSR_CSTAR 0xc0000083
#define MSR_SYSCALL_MASK 0xc0000084
#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102
#define MSR_TSC_AUX 0xc0000103

/* Exception vectors */
/* clang-format off */
enum { X86_DE, X86_DB, X86_NMI, X86_BP, X86_OF, X86_BR, X86_UD, X86_NM, X86_DF, X86_COP, X86_TS, X86_NP,
       X86_SS, X86_GP, X86_PF, X86_SPV, X86_MF, X86_AC, X86_MC, X86_XM, X86_VE, X86_CP };
/* clang-format on */

/* Page-fault error code bits */
#define PFEC_PRESENT (1U << 0)
#define PFEC_WRITE (1U << 1)
#define PFEC_USER (1U << 2)
#define PFEC_RSVD (1U << 3)
#define PFEC_INSN (1U << 4)

static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t lo, hi;
    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
    return (uint64_t)hi << 32 | lo;
}
static inline void wrmsr(uint32_t msr, uint64_t v)
{
    __asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}
/* As rdmsr and wrmsr, but false where the processor answers #GP. */
bool rdmsr_safe(uint32_t msr, uint64_t *v);
bool wrmsr_safe(uint32_t msr, uint64_t v);

#define READ_CR(n)                                                                                                     \
    static inline unsigned long read_cr##n(void)                                                                       \
    {                                                                                                                  \
        unsigned long v;                                                                                               \
        __asm__ volatile("mov %%cr" #n ", %0" : "=r"(v));                                                              \
        return v;                                                                                                      \
    }                                                                                                                  \
    static inline void write_cr##n(unsigned long v) { __asm__ volatile("mov %0, %%cr" #n ::"r"(v) : "memory"); }
READ_CR(0)
READ_CR(2)
READ_CR(3)
READ_CR(4)
#define READ_DR(n)                                                                                                     \
    static inline unsigned long read_dr##n(void)                                                                       \
    {                                                                                                                  \
        unsigned long v;                                                                                               \
        __asm__ volatile("mov %%dr" #n ", %0" : "=r"(v));                                                              \
        return v;                                                                                                      \
    }                                                                                                                  \
    static inline void write_dr##n(unsigned long v) { __asm__ volatile("mov %0, %%dr" #n ::"r"(v)); }
READ_DR(0)
READ_DR(1)
READ_DR(2)
READ_DR(3)
READ_DR(6)
READ_DR(7)

struct cpuid_regs {
    uint32_t a, b, c, d;
};
static inline struct cpuid_regs cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid_regs r;
    __asm__ volatile("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "a"(leaf), "c"(subleaf));
    return r;
}
static inline uint64_t rdtsc(void)
{
    uint32_t lo, hi;
    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi)::"memory");
    return (uint64_t)hi << 32 | lo;
}
static inline uint64_t xgetbv(uint32_t i)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(i));
    return (uint64_t)hi << 32 | lo;
}
static inline void xsetbv(uint32_t i, uint64_t v)
{
    __asm__ volatile("xsetbv" ::"c"(i), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)));
}
#ifdef CROFT_HOST_TEST /* no effect there */
static inline void invlpg(unsigned long va) { (void)va; }
static inline void wbinvd(void) {}
#else
static inline void invlpg(unsigned long va) { __asm__ volatile("invlpg (%0)" ::"r"(va) : "memory"); }
static inline void wbinvd(void) { __asm__ volatile("wbinvd" ::: "memory"); }
#endif
static inline void clts(void) { __asm__ volatile("clts"); }
static inline void cli(void) { __asm__ volatile("cli" ::: "memory"); }
static inline void sti(void) { __asm__ volatile("sti" ::: "memory"); }

#define PORT_IO(suffix, type)                                                                                          \
    static inline type in##suffix(uint16_t port)                                                                       \
    {                                                                                                                  \
        type v;                                                                                                        \
        __asm__ volatile("in %1, %0" : "=a"(v) : "Nd"(port));                                                          \
        return v;                                                                                                      \
    }                                                                                                                  \
    static inline void out##suffix(uint16_t port, type v) { __asm__ volatile("out %0, %1" ::"a"(v), "Nd"(port)); }
PORT_IO(b, uint8_t)
PORT_IO(w, uint16_t)
PORT_IO(l, uint32_t)

#endif
