/* Per-domain and per-vcpu state of the paravirtual interface, and what the rest of Croft calls of it. */
#ifndef PV_PV_H
#define PV_PV_H

#include "hypercall/abi.h"
#include "lib/util.h"

struct domain;
struct vcpu;
struct frame;

/* Typed references of unfinished MMU work: pv/mmu_types.c. Changed under the mm_lock of the frames' owner. */
struct held_list {
    struct held_list *next;
    uint64_t count;
    mfn_t mfn[];
};
#define HELD_FEW 6
struct mmu_held {
    struct held_list *kept, *doomed; /* a page each, but for the lowest of doomed, which is few */
    union {
        struct held_list list;
        char room[sizeof(struct held_list) + HELD_FEW * sizeof(mfn_t)];
    } few;
};

#define PV_MAX_GDT_FRAMES FIRST_RESERVED_GDT_PAGE
#define PV_IO_BITMAP_BYTES 8192

struct pv_domain {
    struct mmu_held held;    /* of others who work on its page tables: the builder, the end of the domain */
    unsigned long *io_ports; /* bitmap of 65,536 ports the domain may use; null: none */
    bool io_memory;          /* may map every frame that is not RAM and not Croft's (domain 0) */
    uint64_t leaf_refused;   /* bits that its L1 entries may not have: PTE_CACHE_L1, but with io_memory */
    uint32_t pci_cf8;        /* what it wrote last to port 0xcf8 */
    uint8_t cmos_index;      /* ... and to 0x70 */
};

#define IRET_USUAL 0x00010001U

struct pv_vcpu {
    struct trap_info traps[256];
    uint64_t event_callback, failsafe_callback, syscall_callback, syscall32_callback, sysenter_callback, nmi_callback;
    bool failsafe_disables_events, syscall_disables_events, syscall32_disables_events, sysenter_disables_events;
    union {
        struct {
            bool kernel_mode; /* guest's kernel (as against its user mode) is running */
            bool nmi_masked;  /* between an NMI's delivery and the iret hypercall */
            bool user_root_set;
            bool unused;
        };
        uint32_t iret_state; /* these in one: the entry code's iret wants IRET_USUAL, the kernel with a user root */
    };
    uint64_t syscall_frame, fault_frame;   /* where they go on the kernel stack; 0: C says (pv/mode.h) */
    bool syscall_is_usual, fault_is_usual; /* the handlers */
    uint64_t fault_cs;                     /* of that of page faults, as IRET takes it */
    uint64_t kernel_sp, kernel_ss;
    mfn_t kernel_root, user_root;  /* typed L4; user_root 0 if none yet */
    uint64_t kernel_cr3, user_cr3; /* what the entry code loads in the two modes */
    uint64_t cr0_guest;            /* CR0 as the guest sees it: TS, MP, EM ... */
    uint64_t cr2;
    uint64_t cr4_guest;
    uint32_t iopl; /* virtual */
    mfn_t gdt_frames[PV_MAX_GDT_FRAMES];
    uint32_t gdt_entries;
    uint64_t ldt_base; /* guest virtual */
    uint32_t ldt_entries;
    uint32_t ldt_mapped;                            /* pages of it in the window */
    uint32_t descriptor_cpu;                        /* CPU whose page is in the GDT window, plus one; 0: none yet */
    uint64_t fs_base, gs_base_kernel, gs_base_user; /* valid while the vcpu does not run */
    uint64_t dr[8];                                 /* debug registers: DR0-3, 6, 7 as the guest set them */
    uint8_t *guest_io_bitmap; /* guest virtual address of the user-mode I/O bitmap (physdev set_iobitmap) */
    uint32_t guest_io_bitmap_ports;
    bool nmi_pending;
    void *descriptor_window; /* 2 x 64 KiB of virtual addresses: GDT, LDT */
    struct mmu_held held;
    bool ts_set; /* real CR0.TS is set on the guest's behalf (fpu_taskswitch) */
    uint64_t tsc_aux;
};

#endif
