/*
 * The kit: what a test guest needs to be a PV kernel. A guest is one C file with GUEST("name") { ... } that makes
 * checks; the kit prints the verdict and powers off when it returns.
 *
 * Memory: the image, a pool of pages (page_alloc) and the bootstrap page tables are all mapped from VIRT_BASE on
 * by the builder, so that virtual address, pfn and mfn are tied by virt_to_pfn and the physical-to-machine list.
 */
#ifndef KIT_H
#define KIT_H

#include "common.h"

#define VIRT_BASE 0xffffffff80000000UL

/* One more free L4 slot (40) for tests; an address of the hypervisor's */
#define TEST_VA2 0x0000140000000000UL
#define VA_HOLE 0xffff820000001000UL

extern struct start_info *start_info;
extern struct shared_info *shared_info;
extern unsigned long *p2m;

/* Children (child.h) run the same image, without privilege. */
static inline bool kit_is_child(void) { return start_info != NULL && (start_info->flags & SIF_PRIVILEGED) == 0; }
void kit_child_main(void) __attribute__((noreturn));
void kit_child_write(const char *text, unsigned length);

extern trap_hook_t *trap_hooks[VECTOR_SYSENTER + 1];
extern uint64_t kit_failsafe_selectors[4]; /* ds, es, fs, gs of the last failsafe entry */
extern char kit_event_entry[], kit_syscall_entry[], kit_syscall32_entry[], kit_sysenter_entry[], kit_nmi_entry[],
    kit_failsafe_entry[], kit_start[], kit_vcpu_start[];

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
void event_unmask(unsigned port);                   /* delivers at once what is pending */
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
extern unsigned long user_root;
void user_setup(void);
void user_run_at(const struct iret_context *frame, struct regs *r);

/* Machine */
static inline struct cpuid_result cpuid_forced(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid_result x;
    asm volatile(XEN_CPUID : "=a"(x.a), "=b"(x.b), "=c"(x.c), "=d"(x.d) : "a"(leaf), "c"(subleaf));
    return x;
}
#endif
