/*
 * What differs between AMD-V and VT-x, as the rest of hvm/ uses it. svm.c and vmx.c mirror each other, function by function. v is
 * current, or does not run, unless said otherwise.
 */
#ifndef HVM_VENDOR_H
#define HVM_VENDOR_H

#include "domain/domain.h"
#include "domain/pvh_acpi.h"
#include "hvm/hvm.h"
#include "pv/decode.h"

enum hvm_reg { HVM_CR0, HVM_CR2, HVM_CR3, HVM_CR4, HVM_EFER, HVM_PAT, HVM_DR6, HVM_DR7, HVM_CPL /* not to be set */ };

struct hvm_segment {
    uint16_t selector;
    uint16_t attributes; /* SEGMENT_* of hvm/vmcb.h */
    uint32_t limit;
    uint64_t base;
};

/* What says how addresses are translated, but for CR4 */
struct hvm_paging {
    uint64_t cr0, cr3, efer;
};

struct hvm_vendor {
    const char *name;
    uint8_t vmcall[3]; /* the instruction of a hypercall */
    /* Once, on the boot CPU: null if it is there and usable, or why not: hvm_no_processor, or what is missing. Calls p2m_set_format. */
    const char *(*find)(void);
    /* On each CPU, when it comes on line, and, may be null, when it goes off line; interrupts disabled. */
    void (*init_cpu)(void);
    void (*close_cpu)(void);
    int (*create)(struct vcpu *v);   /* -ENOMEM */
    void (*destroy)(struct vcpu *v); /* not after a create that failed */
    /* The registers that are not in cpu_user_regs, all at once: as after INIT, in real mode at vector << 12; or in flat 32-bit mode. */
    void (*start_real)(struct vcpu *v, uint8_t vector);
    void (*start_flat)(struct vcpu *v);
    uint64_t (*get)(const struct vcpu *v, enum hvm_reg reg);
    void (*set)(struct vcpu *v, enum hvm_reg reg, uint64_t value);
    struct hvm_paging (*paging)(const struct vcpu *v);
    bool (*in_64_bit_kernel)(const struct vcpu *v); /* CPL 0, in 64-bit mode */
    struct hvm_segment (*segment)(const struct vcpu *v, enum insn_segment which);
    /*
     * The state that is not in cpu_user_regs, in the ABI's form; v does not run. save fills in what it has of the record. check: null,
     * or what of it, the pending event included, this processor would not take, one line; it changes nothing. load: what the check
     * let through.
     */
    void (*save)(const struct vcpu *v, struct hvm_hw_cpu *c);
    const char *(*check)(const struct vcpu *v, const struct hvm_hw_cpu *c);
    void (*load)(struct vcpu *v, const struct hvm_hw_cpu *c);
    /* Around the time in which v is current, with interrupts disabled; may be null. */
    void (*switch_in)(struct vcpu *v);
    void (*switch_out)(struct vcpu *v);
    /* Enters the guest once and answers why it came back. Interrupts disabled, enabled when it returns. */
    void (*run)(struct vcpu *v, struct cpu_user_regs *regs);
    void (*report)(const struct vcpu *v);
    unsigned exit_reasons;
    uint64_t (*exits)(unsigned reason, const char **name); /* how often, on all CPUs; name: null if it has none */
};
extern const struct hvm_vendor hvm_svm, hvm_vmx;
extern const char hvm_no_processor[];
extern const struct hvm_vendor *hvm_vendor; /* null: none is usable */

/* hvm.c: what waits */
void hvm_inject_exception(struct vcpu *v, unsigned vector, uint32_t error_code); /* at the next entry */
int hvm_pending_vector(struct vcpu *v);                /* that the guest has to take as soon as it can, or -1 */
uint8_t hvm_accept_vector(struct vcpu *v, int vector); /* it takes it now: what hvm_pending_vector gave, as a vector */
bool hvm_take_nmi(struct vcpu *v);                     /* one is to be injected now */
void hvm_halt_for_good(struct vcpu *v);                /* HLT with interrupts disabled */
void hvm_triple_fault(struct vcpu *v, uint64_t rip);   /* the processor shut down */
void hvm_load_breakpoints(const struct vcpu *v);       /* DR0-3 */

/*
 * exits.c: what the guest did. True: it is done, and the caller steps over the instruction. False: an exception waits, or the
 * instruction is to be executed again.
 */
#define EFER_GUEST (EFER_SCE | EFER_LME | EFER_NXE) /* what it may write; LMA follows */
uint64_t hvm_cr4_allowed(const struct vcpu *v);
bool hvm_pat_legal(uint64_t pat);
bool hvm_exit_cpuid(struct vcpu *v, struct cpu_user_regs *regs);
bool hvm_exit_rdmsr(struct vcpu *v, struct cpu_user_regs *regs);
bool hvm_exit_wrmsr(struct vcpu *v, struct cpu_user_regs *regs);
bool hvm_exit_xsetbv(struct vcpu *v, struct cpu_user_regs *regs);
bool hvm_exit_hypercall(struct vcpu *v, struct cpu_user_regs *regs);
/* Ports: text for the log, as on Bochs, QEMU and Xen; the registers of domain/pvh_acpi.h; nothing else. */
#define HVM_PORT_DEBUG 0xe9
static inline bool hvm_port_is_absent(const struct domain *d, uint16_t port)
{
    return port != HVM_PORT_DEBUG && !(d->hvm->croft_acpi && port >> 4 == PVH_SLEEP_CONTROL_PORT >> 4);
}
/* RAX after an IN of so many bytes from such a port */
static inline uint64_t hvm_absent_port_value(uint64_t rax, unsigned bytes)
{
    return bytes == 4 ? 0xffffffff : rax | (bytes == 2 ? 0xffff : 0xff);
}
/* IN and OUT of 1, 2 or 4 bytes */
bool hvm_exit_port(struct vcpu *v, struct cpu_user_regs *regs, uint16_t port, unsigned bytes, bool in);
/* INS and OUTS: from or to the linear address in memory (already with its segment), 'repeat': RCX times */
bool hvm_exit_port_string(struct vcpu *v, struct cpu_user_regs *regs, unsigned bytes, bool in, bool repeat);
/* Those that need the instruction itself: they step over it themselves, by its length. */
bool hvm_exit_control_register(struct vcpu *v, struct cpu_user_regs *regs, const struct insn *insn);
bool hvm_exit_debug_register(struct vcpu *v, struct cpu_user_regs *regs, const struct insn *insn);
/*
 * A nested page fault at that address. MEMORY_COMES: there is memory by now, or its domain is crashed: the guest tries again.
 * MEMORY_FORBIDDEN: a grant is mapped there, which may not be used like that.
 */
enum hvm_memory { MEMORY_ABSENT, MEMORY_COMES, MEMORY_FORBIDDEN };
enum hvm_memory hvm_memory_at(struct vcpu *v, uint64_t address, bool write, bool fetch);
/* An access to a physical address where nothing is mapped, maybe not yet. *length: of the instruction, if true. */
bool hvm_exit_memory(struct vcpu *v, struct cpu_user_regs *regs, uint64_t address, bool write, bool fetch,
                     unsigned *length);
void hvm_exit_hlt(struct vcpu *v, struct cpu_user_regs *regs); /* after the step */

/* walk.c */
size_t hvm_copy_to_user(uint64_t va, const void *from,
                        size_t n); /* as hvm_copy_to_guest, with the rights of the guest's user mode */
/* n bytes at a guest physical address, within a page. False: there is no memory. */
void hvm_report_walk(const struct vcpu *v, uint64_t va);
bool hvm_read_physical(const struct vcpu *v, uint64_t address, void *to, size_t n);
/* Do n bytes at rip, 1 to 4, equal code's low ones? Looks only where an earlier walk leads: false may also mean that there is none. */
bool hvm_code_is(struct vcpu *v, const struct hvm_paging *paging, uint64_t rip, uint32_t code, unsigned n);
/* The bytes at rip: returns how many could be read, up to n. */
unsigned hvm_fetch(struct vcpu *v, const struct cpu_user_regs *regs, uint8_t *to, unsigned n);
/* Decodes the instruction at rip. False: it cannot be read, or is none that the decoder knows. */
bool hvm_decode(struct vcpu *v, const struct cpu_user_regs *regs, struct insn *insn);

#endif
