/* What the kits for PV (kit.h) and PVH kernels (pvh/pvh.h) share: checks and the verdict, output, strings, traps, the clock. */
#ifndef KIT_COMMON_H
#define KIT_COMMON_H

#include "entries.h"
#include "hypercall.h"

#define PAGE_SIZE 4096UL
#define PAGE_MASK (~(PAGE_SIZE - 1))

#define CPUID_VENDOR_INTEL 0x756e6547 /* "Genu", of leaf 0 */

#define PTE_P 0x1UL
#define PTE_W 0x2UL
#define PTE_U 0x4UL
#define PTE_PWT 0x8UL
#define PTE_PCD 0x10UL
#define PTE_A 0x20UL
#define PTE_D 0x40UL
#define PTE_PSE 0x80UL
#define PTE_G 0x100UL
#define PTE_NX (1UL << 63)
#define PTE_MFN_MASK 0x000ffffffffff000UL

#define PTE_RO (PTE_P | PTE_A | PTE_D)
#define PTE_RW (PTE_RO | PTE_W)
#define PTE_TABLE (PTE_P | PTE_W | PTE_U | PTE_A | PTE_D)
#define PTE_USER_RO (PTE_RO | PTE_U)
#define PTE_USER_RW (PTE_RW | PTE_U)

#define RFLAGS_TF 0x100UL
#define RFLAGS_IF 0x200UL
#define RFLAGS_DF 0x400UL
#define RFLAGS_IOPL 0x3000UL
#define RFLAGS_NT 0x4000UL
#define RFLAGS_VM 0x20000UL
#define RFLAGS_AC 0x40000UL

/* Made by start.S; the order is the order on the stack. */
struct regs {
    uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
    uint64_t vector;
    uint64_t error; /* handlers leave the flags for the iret hypercall here */
    uint64_t rip;
    uint32_t cs;
    uint32_t saved_mask; /* low byte: the upcall mask before this entry */
    uint64_t rflags, rsp, ss;
};

/* A free L4 slot (32) of the lower half for tests; addresses that nothing is at: unmapped, non-canonical */
#define TEST_VA 0x0000100000000000UL
#define VA_UNMAPPED 0x00007f1234567000UL
#define VA_NONCANONICAL 0x8000000000000000UL

#define GUEST(name)                                                                                                    \
    const char guest_name[] = name;                                                                                    \
    void guest_main(void);                                                                                             \
    void guest_main(void)

extern const char guest_name[];
void guest_main(void);

/* What a kit has to give */
const char *kit_arguments(void);                   /* the guest's command line */
void kit_write(const char *text, unsigned length); /* a line, or a part of one */
struct vcpu_info *vcpu_info_of(unsigned vcpu);
extern char kit_stubs[], kit_image_end[];

/* Output and checks */
void printf(const char *format, ...) __attribute__((format(printf, 1, 2)));
void vprintf(const char *format, __builtin_va_list list);
void vsnprintf(char *to, size_t size, const char *format, __builtin_va_list list); /* cuts what does not fit */
void panic(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
void poweroff(void) __attribute__((noreturn));
void verdict(void) __attribute__((noreturn));
/* One line "ok ..." or "FAIL ..."; the first failure becomes the verdict's reason. */
bool check_at(bool ok, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* As check, but silent when it is well: for checks in long loops. */
bool check_quiet_at(bool ok, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The condition is evaluated first, so that what it sets can be printed. */
#define check(condition, ...)                                                                                          \
    ({                                                                                                                 \
        bool check_ok = (condition);                                                                                   \
        check_at(check_ok, __VA_ARGS__);                                                                               \
    })
#define check_quiet(condition, ...)                                                                                    \
    ({                                                                                                                 \
        bool check_ok = (condition);                                                                                   \
        check_quiet_at(check_ok, __VA_ARGS__);                                                                         \
    })
bool check_equal_at(const char *what, long got, long want);
bool check_negative_at(const char *what, long got);
#define check_equal(expression, want) check_equal_at(#expression, (long)(expression), (long)(want))
#define check_negative(expression) check_negative_at(#expression, (long)(expression))
extern bool kit_quiet;       /* nothing is printed but what is wrong */
void kit_checks_reset(void); /* none yet */
unsigned kit_checks(void);
unsigned kit_failures(void);
bool argument_present(const char *word);                                  /* on the guest's command line */
unsigned long argument_number(const char *name, unsigned long otherwise); /* "name=": the last one counts */

/* Strings */
void *memset(void *p, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
bool strprefix(const char *s, const char *prefix);
bool strfind(const char *s, const char *part);

/* Traps. A hook sees the entry first; if it returns true, the guest goes on with the registers it left. */
typedef bool trap_hook_t(struct regs *r);
/* Runs f(argument). A trap without a hook ends it: true, with the registers in *r (which may be null). */
bool trapped(void (*f)(void *), void *argument, struct regs *r);
/* The same by value: vector NO_TRAP if f returned. */
#define NO_TRAP 0xffffU
struct regs trap_of(void (*f)(void *), void *argument);
/* A kit's own handler: r goes on where 'trapped' was called, with these selectors; panics if nobody did. */
void trap_catch(struct regs *r, uint32_t cs, uint64_t ss, uint64_t cr2);
void trap_forget(void); /* all calls of 'trapped' */
extern uint8_t kit_stacks[KIT_MAX_VCPUS * KIT_STACK_SIZE];
unsigned vcpu_id(void);

/*
 * User mode. Copies code to USER_CODE and runs it there until a trap without a hook; r gets the registers. Stack: the top of
 * USER_DATA's page. USER_TEXT(name, "asm") defines such code; it gives name[] and name_end[].
 */
#define USER_CODE TEST_VA
#define USER_DATA (TEST_VA + 0x100000UL)
extern uint8_t *user_code_page,
    *user_data_page; /* other addresses, writable, of the first pages at USER_CODE and USER_DATA */
void user_run(const void *code, size_t size, struct regs *r);
#define USER_TEXT(name, text)                                                                                          \
    extern const char name[], name##_end[];                                                                            \
    asm(".pushsection .rodata\n" #name ":\n" text "\n" #name "_end:\n.popsection\n")
#define USER_RUN(name, r) user_run(name, (size_t)(name##_end - name), r)

struct cpuid_result {
    uint32_t a, b, c, d;
};
static inline struct cpuid_result cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid_result x;
    asm volatile("cpuid" : "=a"(x.a), "=b"(x.b), "=c"(x.c), "=d"(x.d) : "a"(leaf), "c"(subleaf));
    return x;
}

/*
 * In a loop that waits. With relax_leaves a PVH kernel leaves its guest here: in Bochs 2.7 no interrupt of the machine's ends the run of a
 * guest that was entered with its own interrupts disabled, and Croft's own limit of such a run is much longer than what is waited for.
 */
extern bool relax_leaves;
static inline void relax(void)
{
    if (relax_leaves)
        cpuid(0, 0);
    else
        asm volatile("pause" : : : "memory");
}

/* Time */
uint64_t tsc_read(void);
uint64_t time_of(const struct vcpu_time_info *t); /* ns since boot, by the time page */
uint64_t time_now(void);
void spin_ns(uint64_t ns);

#define barrier() asm volatile("" ::: "memory")

#endif
