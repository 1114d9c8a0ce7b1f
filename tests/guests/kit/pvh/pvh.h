/*
 * The kit for PVH kernels. A guest is one C file with GUEST("pvh_name") { ... } that makes checks; the kit prints the verdict on
 * the domain's console and powers off when it returns. Its header says  pvh=yes  (see ../../run).
 *
 * The first 4 GiB of physical addresses are mapped at their own addresses, so that a pointer is a physical address; map_page
 * maps at others, from TEST_VA on.
 */
#ifndef PVH_H
#define PVH_H

#include "../common.h"
#include "selectors.h"
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/params.h>
#include <xen/arch-x86/hvm/start_info.h>

/* Physical addresses: where the kit has the shared info page; where nothing is (that the kit maps); beyond all memory */
#define SHARED_INFO_AT 0xf0000000UL
#define HOLE_AT 0xe0000000UL
#define FAR_AT 0x7000000000UL
#define APIC_AT 0xfee00000UL

#define MSR_APIC_BASE 0x1bU
#define MSR_TSC_DEADLINE 0x6e0U
#define MSR_X2APIC 0x800U
#define MSR_EFER 0xc0000080U
#define MSR_PAT 0x277U
#define APIC_BASE_EXTD (1UL << 10)
#define APIC_BASE_EN (1UL << 11)

/* What the builder left in the registers */
struct start_state {
    uint32_t eax, ebx, ecx, edx, esi, edi, ebp, esp, eflags, cr0, cr3, cr4, efer, dr6, dr7;
    uint8_t gdtr[8], idtr[8];
    uint32_t tr, ldtr;
};
extern struct start_state kit_start_state;
extern struct hvm_start_info *pvh_info;
extern bool kit_on_xen; /* or on Croft; elsewhere there are no hypercalls and no shared info */
extern struct shared_info *shared_info;
extern uint64_t kit_pml4[512], kit_gdt[];
extern uint64_t kit_idt[512]; /* stack 1 is used; 2 is free, the upper half of the main stack's room */
extern char kit_trampoline[], kit_trampoline_end[]; /* what is copied to TRAMPOLINE */
extern void (*kit_writer)(const char *text,
                          unsigned length); /* null: to the console, or, without one, the debug port */
long kit_hypercall_32(unsigned nr);
/* KIT_CALL for the text of an asm statement, and what it has become */
#define KIT_STRING(...) KIT_STRING_2(__VA_ARGS__)
#define KIT_STRING_2(...) #__VA_ARGS__
#define CALL_TEXT KIT_STRING(KIT_CALL)
static inline const uint8_t *call_bytes(void) { return (const uint8_t *)hypercall_page + 5; } /* behind mov $0, %eax */
static inline bool call_is_vmcall(void) { return call_bytes()[2] == 0xc1; }

/* Traps and interrupts */
extern trap_hook_t *trap_hooks[256];
uint64_t cr2_read(void);

/*
 * One instruction, or a few, that may fault: ATTEMPT("code", outputs, inputs) gives the fault, whose vector is NO_TRAP if there was
 * none; the registers are as the fault had them, but for the stack pointer. Operands need names: the first two are the macro's.
 */
struct fault {
    uint64_t resume, sp; /* where to go on */
    uint64_t vector, error, rip, cr2;
};
extern struct fault kit_faults[KIT_MAX_VCPUS];
#define OUT(...) __VA_ARGS__
#define ATTEMPT_STATE "+m"(attempt_fault->resume), "=m"(attempt_fault->sp)
#define ATTEMPT(code, outputs, inputs)                                                                                 \
    ({                                                                                                                 \
        struct fault *attempt_fault = &kit_faults[vcpu_id()];                                                          \
        attempt_fault->vector = NO_TRAP;                                                                               \
        asm volatile("movq %%rsp, %1\n\tmovq $991f, %0\n\t" code "\n991:\n\tmovq $0, %0"                               \
                     : ATTEMPT_STATE outputs                                                                           \
                     : OUT(inputs)                                                                                     \
                     : "memory", "cc");                                                                                \
        *attempt_fault;                                                                                                \
    })

/* Machine */
static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t low, high;
    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return (uint64_t)high << 32 | low;
}
static inline void wrmsr(uint32_t msr, uint64_t value)
{
    asm volatile("wrmsr" : : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)) : "memory");
}
/* NO_TRAP, or the vector of the fault */
unsigned rdmsr_try(uint32_t msr, uint64_t *value);
unsigned wrmsr_try(uint32_t msr, uint64_t value);
static inline void outb(uint16_t port, uint8_t value) { asm volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static inline uint64_t flags_read(void)
{
    uint64_t flags;
    asm volatile("pushfq; popq %0" : "=r"(flags) : : "memory");
    return flags;
}
static inline void cli(void) { asm volatile("cli" : : : "memory"); }
static inline void sti(void) { asm volatile("sti" : : : "memory"); }
#define READ_CR(nr)                                                                                                    \
    ({                                                                                                                 \
        uint64_t cr_value;                                                                                             \
        asm volatile("movq %%cr" #nr ", %0" : "=r"(cr_value));                                                         \
        cr_value;                                                                                                      \
    })
#define WRITE_CR(nr, value) asm volatile("movq %0, %%cr" #nr : : "r"((uint64_t)(value)) : "memory")

/* Pages, cleared. Physical address and address are the same. */
void *page_alloc(void);
/* The entry for va: tables that are missing are made. */
uint64_t *pte_of(unsigned long va);
void map_page(unsigned long va, uint64_t pte);
void unmap_page(unsigned long va);

extern uint64_t user_flags; /* user_run begins with them */

/* The local APIC, in the mode that it is in; registers by their number, which is offset / 16. */
enum {
    APIC_ID = 0x02,
    APIC_VERSION = 0x03,
    APIC_TPR = 0x08,
    APIC_PPR = 0x0a,
    APIC_EOI = 0x0b,
    APIC_LDR = 0x0d,
    APIC_DFR = 0x0e,
    APIC_SVR = 0x0f,
    APIC_ISR = 0x10,
    APIC_IRR = 0x20,
    APIC_ESR = 0x28,
    APIC_ICR = 0x30,
    APIC_ICR_HIGH = 0x31,
    APIC_LVT_TIMER = 0x32,
    APIC_LVT_ERROR = 0x37,
    APIC_TIMER_INITIAL = 0x38,
    APIC_TIMER_CURRENT = 0x39,
    APIC_TIMER_DIVIDE = 0x3e,
    APIC_SELF_IPI = 0x3f,
};
#define ICR_NMI 0x400U
#define ICR_INIT 0x500U
#define ICR_STARTUP 0x600U
#define ICR_ASSERT 0x4000U
#define ICR_SELF 0x40000U
#define ICR_ALL 0x80000U
#define ICR_OTHERS 0xc0000U
bool apic_is_x2(void);
uint32_t apic_read(unsigned reg);
void apic_write(unsigned reg, uint32_t value);
void apic_enable(void); /* SVR: on, spurious vector 0xff */
void apic_send(uint32_t icr, unsigned vcpu);
/* Interrupts: each vector has a count; the kit's handler counts and gives EOI, but for spurious ones (0xff). */
extern volatile unsigned interrupt_counts[KIT_MAX_VCPUS][256];
extern bool interrupt_no_eoi;                                           /* the test gives EOI itself */
bool wait_for(volatile unsigned *counter, unsigned value, uint64_t ns); /* at least that */

/* Other vcpus: f runs on its stack, with interrupts disabled; it halts when f returns. False: it does not come. */
bool vcpu_start(unsigned vcpu, void (*f)(void));
extern void (*volatile vcpu_functions[KIT_MAX_VCPUS])(void);
extern volatile unsigned vcpu_starts[KIT_MAX_VCPUS]; /* how often it came to C */
void vcpu_halt(void) __attribute__((noreturn));      /* for good */

/* Events */
long hvm_param_get(unsigned index, uint64_t *value);
long hvm_param_set(unsigned index, uint64_t value);
long map_shared_info(unsigned long at);

#endif
