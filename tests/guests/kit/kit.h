/*
 * The kit: what a test guest needs to be a PV kernel. A guest is one C file with GUEST("name") { ... } that makes
 * checks; the kit prints the verdict and powers off when it returns.
 *
 * Memory: the image, a pool of pages (page_alloc) and the bootstrap page tables are all mapped from VIRT_BASE on
 * by the builder, so that virtual address, pfn and mfn are tied by virt_to_pfn and the physical-to-machine list.
 */
#ifndef KIT_H
#define KIT_H

#include "entries.h"
#include "hypercall.h"

#define VIRT_BASE 0xffffffff80000000UL
#define PAGE_SIZE 4096UL
#define PAGE_MASK (~(PAGE_SIZE - 1))

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

/* A free L4 slot (32) of the lower half for tests, and one more (40). */
#define TEST_VA 0x0000100000000000UL
#define TEST_VA2 0x0000140000000000UL
/* Addresses that nothing is at: unmapped, non-canonical, the hypervisor's. */
#define VA_UNMAPPED 0x00007f1234567000UL
#define VA_NONCANONICAL 0x8000000000000000UL
#define VA_HOLE 0xffff820000001000UL

#define RFLAGS_TF 0x100UL
#define RFLAGS_IF 0x200UL
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

#define GUEST(name)                                                                                                    \
    const char guest_name[] = name;                                                                                    \
    void guest_main(void);                                                                                             \
    void guest_main(void)

extern const char guest_name[];
void guest_main(void);

extern struct start_info *start_info;
extern struct shared_info *shared_info;
extern unsigned long *p2m;

/* Children (child.h) run the same image, without privilege. */
static inline bool kit_is_child(void) { return start_info != NULL && (start_info->flags & SIF_PRIVILEGED) == 0; }
void kit_child_main(void) __attribute__((noreturn));
void kit_child_write(const char *text, unsigned length);

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
extern bool kit_quiet; /* nothing is printed but what is wrong */
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
extern trap_hook_t *trap_hooks[VECTOR_SYSENTER + 1];
extern uint64_t kit_failsafe_selectors[4]; /* ds, es, fs, gs of the last failsafe entry */
extern char kit_stubs[], kit_event_entry[], kit_syscall_entry[], kit_syscall32_entry[], kit_sysenter_entry[],
    kit_nmi_entry[], kit_failsafe_entry[], kit_start[], kit_vcpu_start[];
extern uint8_t kit_stacks[KIT_MAX_VCPUS * KIT_STACK_SIZE];

/* Runs f(argument). A trap without a hook ends it: true, with the registers in *r (which may be null). */
bool trapped(void (*f)(void *), void *argument, struct regs *r);
/* The same by value: vector NO_TRAP if f returned. */
#define NO_TRAP 0xffffU
struct regs trap_of(void (*f)(void *), void *argument);
unsigned vcpu_id(void);
unsigned long stack_for_user_entries(unsigned vcpu);
void traps_setup(void); /* (again) the kit's handlers and callbacks, for vcpu 0 */
void set_trap(unsigned vector, unsigned flags, void *address); /* flags: DPL | 4 to mask events */
/* Fills a vcpu_guest_context with the kit's settings, to start f on vcpu: cr3 and all. */
void vcpu_context_fill(struct vcpu_guest_context *c, unsigned vcpu, void (*f)(void));

/* Events (two-level). A handler is called with the upcall mask set. */
typedef void event_handler_t(unsigned port);
extern event_handler_t *event_handlers[64];
extern volatile unsigned event_counts[64];
void event_mask(unsigned port);
void event_unmask(unsigned port); /* delivers at once what is pending */
struct vcpu_info *vcpu_info_of(unsigned vcpu);
extern struct vcpu_info *vcpu_infos[KIT_MAX_VCPUS]; /* null: in the shared info page */
long callback_set(unsigned type, unsigned flags, void *address);
static inline void events_disable(void)
{
    *(volatile uint8_t *)&vcpu_info_of(vcpu_id())->evtchn_upcall_mask = 1;
    asm volatile("" ::: "memory");
}
void events_enable(void);
long bind_virq(unsigned virq, unsigned vcpu);
long bind_ipi(unsigned vcpu);
long event_send(unsigned port);

/* A second vcpu (dom0_max_vcpus=2) that works for the first, one function at a time; second_wait checks its end. */
void second_start(void);
void second_begin(void (*f)(void *), void *argument);
bool second_done(void);
bool second_wait(void);

/* Time */
uint64_t tsc_read(void);
uint64_t time_of(const struct vcpu_time_info *t); /* ns since boot, by the time page */
uint64_t time_now(void);
void spin_ns(uint64_t ns);

/* Pages. All come zeroed, and a pool page is writable through its own address. */
void *page_alloc(void);
void pool_reset(unsigned pages); /* a child's beginning */
static inline unsigned long virt_to_pfn(const void *p) { return ((unsigned long)p - VIRT_BASE) / PAGE_SIZE; }
static inline unsigned long virt_to_mfn(const void *p) { return p2m[virt_to_pfn(p)]; }
static inline unsigned long virt_to_machine(const void *p)
{
    return virt_to_mfn(p) * PAGE_SIZE + ((unsigned long)p & (PAGE_SIZE - 1));
}
void *mfn_to_virt(unsigned long mfn); /* null if it is none of the image, the pool and the bootstrap tables */
extern unsigned long kernel_root;     /* mfn of the L4 in use */
extern char kit_image_end[];

/* The entry that maps va at a level (1-4) under root: its virtual address (read-only memory), or null. */
uint64_t *entry_of(unsigned long root, unsigned long va, int level);
static inline uint64_t *pte_of(unsigned long va) { return entry_of(kernel_root, va, 1); }
long mmu_write(void *entry, uint64_t value);              /* mmu_update of one entry, by its virtual address */
long mmu_write_machine(uint64_t pointer, uint64_t value); /* ... by machine address | command */
long mmuext(unsigned cmd, unsigned long arg1, unsigned long arg2);
long page_set_flags(void *page, uint64_t flags); /* remaps a pool page at its own address */
void page_make_readonly(void *page);             /* panics if refused */
void page_make_writable(void *page);
void *table_alloc(void); /* a zeroed page, already read-only */
/* Maps va under root with pte, making the tables that are missing. panics if refused. */
void map_under(unsigned long root, unsigned long va, uint64_t pte);
static inline void map_page(unsigned long va, uint64_t pte) { map_under(kernel_root, va, pte); }
static inline uint64_t make_pte(unsigned long mfn, uint64_t flags) { return mfn << 12 | flags; }

/* User mode. One user address space, in the kernel's root as well. */
#define USER_CODE TEST_VA
#define USER_DATA (TEST_VA + 0x100000UL)
extern unsigned long user_root;
extern uint8_t *user_code_page; /* writable aliases of the first pages at USER_CODE and USER_DATA */
extern uint8_t *user_data_page;
void user_setup(void);
/* Copies code to USER_CODE and runs it in user mode until a trap without a hook; r gets the registers. Stack: the top
 * of USER_DATA's page. */
void user_run(const void *code, size_t size, struct regs *r);
void user_run_at(const struct iret_context *frame, struct regs *r);
/* Defines a piece of user-mode code: USER_TEXT(name, "asm"); gives name[] and name_end[]. */
#define USER_TEXT(name, text)                                                                                          \
    extern const char name[], name##_end[];                                                                            \
    asm(".pushsection .rodata\n" #name ":\n" text "\n" #name "_end:\n.popsection\n")
#define USER_RUN(name, r) user_run(name, (size_t)(name##_end - name), r)

/* Machine */
struct cpuid_result {
    uint32_t a, b, c, d;
};
static inline struct cpuid_result cpuid_forced(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid_result x;
    asm volatile(XEN_CPUID : "=a"(x.a), "=b"(x.b), "=c"(x.c), "=d"(x.d) : "a"(leaf), "c"(subleaf));
    return x;
}
static inline struct cpuid_result cpuid_native(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid_result x;
    asm volatile("cpuid" : "=a"(x.a), "=b"(x.b), "=c"(x.c), "=d"(x.d) : "a"(leaf), "c"(subleaf));
    return x;
}
#define barrier() asm volatile("" ::: "memory")

#endif
