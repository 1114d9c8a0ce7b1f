/*
 * The way from a guest into Croft and back: system calls and hypercalls, exceptions, interrupts.
 *
 * State at every label below unless said otherwise:
 *   rsp = &percpu->guest_regs of this CPU (the top of its main stack block), all registers of the guest saved there.
 * The guest's GS bases are in the processor: GS_BASE is that of the mode it runs in (kernel or user), KERNEL_GS_BASE the other;
 * Croft itself uses neither. SWAPGS is executed exactly where the guest changes between its user and kernel mode.
 * This file and pv/mode.c are the only places that know how a guest's kernel is deprivileged: here, kernel and user both
 * run in ring 3, each with a root table of its own.
 */
#include "offsets.h"

#define CROFT_CS 0xe008
#define GUEST_CS64 0xe033
#define GUEST_CS32 0xe023
#define GUEST_SS 0xe02b
#define EFLAGS_IF 0x200
#define EFLAGS_TF 0x100
#define EFLAGS_TF_IF 0x300
#define EFLAGS_RF 0x10000
#define EFLAGS_GUEST 0x250dd5           /* what a guest may set: CF PF AF ZF SF TF DF OF, RF AC ID */
#define EFLAGS_CLEARED 0x54500          /* of a handler's: TF DF NT RF AC */
#define VGCF_IN_SYSCALL 0x100
#define HYPERCALL_iret 23
#define PFEC_KERNEL_WRITES 7            /* error code: write, page is present, ring 3 */
#define MSR_KERNEL_GS_BASE_ 0xc0000102
#define CPUS 64

        .macro SAVE_GPRS r11_used=0     /* error code and vector are already pushed; r11_used: SYSCALL left rflags there */
        push    %rdi
        push    %rsi
        push    %rdx
        push    %rcx
        push    %rax
        push    %r8
        push    %r9
        push    %r10
        .if     \r11_used
        pushq   REGS_rflags - REGS_r10(%rsp)
        .else
        push    %r11
        .endif
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        .endm

        /* C gets nothing of the guest's in registers: no value of the guest's goes where the processor only speculates. */
        .macro CLEAR_GPRS
        xor     %eax, %eax
        xor     %ecx, %ecx
        xor     %edx, %edx
        xor     %esi, %esi
        xor     %r8d, %r8d
        xor     %r10d, %r10d
        xor     %r11d, %r11d
        xor     %ebx, %ebx
        CLEAR_OTHER_GPRS
        .endm
        .macro CLEAR_OTHER_GPRS         /* those that a hypercall does not use */
        xor     %r9d, %r9d
        xor     %ebp, %ebp
        xor     %r12d, %r12d
        xor     %r13d, %r13d
        xor     %r14d, %r14d
        xor     %r15d, %r15d
        .endm

        .macro RESTORE_GPRS
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        pop     %r11
        pop     %r10
        pop     %r9
        pop     %r8
        pop     %rax
        pop     %rcx
        pop     %rdx
        pop     %rsi
        pop     %rdi
        add     $8, %rsp
        .endm

        .macro EX_TABLE from, to
        .pushsection __ex_table, "a"
        .balign 4
        .long \from - ., \to - .
        .popsection
        .endm

        .macro GLOBAL name
        .globl  \name
        .hidden \name
\name:
        .endm

        .section .text.entry, "ax"

/*
 * SYSCALL lands in a stub of the CPU's own (it brings no stack): rcx = guest rip, r11 = guest rflags, rsp = guest's,
 * interrupts off. syscall_cpus holds for each CPU: scratch for rsp, top of its register frame.
 */
        .macro SYSCALL_STUBS name, entry
        .balign 32
GLOBAL \name
        cpu = 0
        .rept   CPUS
        .balign 32
        mov     %rsp, syscall_cpus + 16 * cpu(%rip)
        mov     syscall_cpus + 16 * cpu + 8(%rip), %rsp
        pushq   $GUEST_SS
        pushq   syscall_cpus + 16 * cpu(%rip)
        jmp     \entry
        cpu = cpu + 1
        .endr
        .endm
        SYSCALL_STUBS syscall_stubs, syscall_entry
        SYSCALL_STUBS syscall_smap_stubs, syscall_entry_smap
        SYSCALL_STUBS syscall32_stubs, syscall32_entry

/*
 * The fast ways of SYSCALL in 64-bit mode: the iret hypercall, and a system call of the guest's user mode. Each saves only the
 * registers that it uses, and whatever is unusual goes the long way from the start: all registers saved, then C.
 * What holds from the stub to the last instruction:
 *  - Interrupts are off, and so are TF, DF, NT and AC (MSR_SYSCALL_MASK).
 *  - rsp is in this CPU's frame of the guest's registers. NMI, #DB (a guest's breakpoint on its own stack), #MC and #DF come on
 *    stacks of their own, find ring 0 in the frame, look at no register of the guest's and return here: they may come anywhere,
 *    also where a root, GS bases and kernel_mode do not fit together yet, and where rsp is the guest's (before SYSRET).
 *  - Only the numbered instructions touch guest memory, all above the hole, and may fault. That #PF pushes its frame and the
 *    registers below rsp: what lies there is lost, and the guest's memory is not read or written again.
 *  - Nothing of the vcpu's has changed when the long way begins, but for the upcall mask, which iret sets again. A fault in the
 *    frame of a system call or page fault comes later: it ends the domain.
 * smap: guest memory is reached with AC set. The way out loads all of rflags; CLAC is for the other ways.
 */
#define FROM_RSP(x) ((x) - REGS_rsp)    /* offsets from where rsp points after the stub */
#define FROM_FLAGS(x) ((x) - REGS_rflags)
        .macro SYSCALL_ENTRY suffix, smap
        .balign 16
syscall_entry\suffix:
        cmp     $HYPERCALL_iret, %rax
        je      iret_fast\suffix
        push    %r11
        mov     FROM_FLAGS(CPU_current_vcpu)(%rsp), %r11
        cmpb    $0, VCPU_kernel_mode(%r11)
        jne     hypercall

/*
 * A system call: the handler that the guest's kernel registered finds on its kernel stack rcx, r11, rip, cs, rflags, rsp, ss.
 * The common case only: nothing is pending; events are not masked, so that the upcall mask to be saved is 0 and rflags go as
 * they are (IF is on and IOPL 0 in ring 3); the handler masks events, and syscall_frame, where its frame lies on the kernel stack,
 * is not 0 (pv/mode.h).
 * rsp = &rflags, r11 = current; rcx = the guest's rip until the frame is written.
 */
        cmpl    $0, FROM_FLAGS(CPU_softirq_pending)(%rsp)
        jne     syscall_long
        push    %rax
        mov     VCPU_info(%r11), %rax
        cmpw    $0, INFO_upcall_pending(%rax)   /* and the mask */
        jne     syscall_long_rax
        mov     VCPU_syscall_frame(%r11), %rax
        test    %rax, %rax
        jz      syscall_long_rax
        movb    $1, VCPU_kernel_mode(%r11)
        mov     VCPU_kernel_cr3(%r11), %r11
        mov     %r11, %cr3
        swapgs
        .if     \smap
        stac
        .endif
10:     mov     %rcx, (%rax)
11:     mov     %rcx, 16(%rax)
12:     movq    $GUEST_CS64, 24(%rax)
13:     movq    $GUEST_SS, 48(%rax)
        mov     8 + FROM_FLAGS(REGS_rsp)(%rsp), %r11
14:     mov     %r11, 40(%rax)
        mov     8(%rsp), %r11
15:     mov     %r11, 8(%rax)
16:     mov     %r11, 32(%rax)
        mov     8 + FROM_FLAGS(CPU_current_vcpu)(%rsp), %rcx
        and     $~EFLAGS_CLEARED, %r11d
        mov     %rax, 8 + FROM_FLAGS(REGS_rsp)(%rsp)
        mov     VCPU_info(%rcx), %rax
        movb    $1, INFO_upcall_mask(%rax)
        mov     VCPU_syscall_callback(%rcx), %rcx       /* canonical: SYSRET must not fault in ring 0 on the guest's stack */
        pop     %rax
        mov     FROM_FLAGS(REGS_rsp)(%rsp), %rsp
        sysretq
        EX_TABLE 10b, syscall_fault
        EX_TABLE 11b, syscall_fault
        EX_TABLE 12b, syscall_fault
        EX_TABLE 13b, syscall_fault
        EX_TABLE 14b, syscall_fault
        EX_TABLE 15b, syscall_fault
        EX_TABLE 16b, syscall_fault

/*
 * The iret hypercall: struct iret_context on the guest kernel's stack. The common case only: nothing is pending that is not
 * masked, no NMI's handler ends, and there is a user root. rsp = &rsp and ss of the hardware frame. SYSCALL left rcx and r11 to
 * us and rax held the number. The guest's frame is read before anything but the upcall mask changes; r11 = its address until the
 * last of it is read.
 */
        .balign 16
iret_fast\suffix:
        mov     FROM_RSP(CPU_current_vcpu)(%rsp), %rax
        cmpl    $VCPU_IRET_USUAL, VCPU_iret_state(%rax)
        jne     iret_long                       /* user mode, perhaps: rcx and r11 are still whole */
        cmpl    $0, FROM_RSP(CPU_softirq_pending)(%rsp)
        jne     iret_long
        mov     VCPU_info(%rax), %rcx
        mov     (%rsp), %r11
        cmp     hole_end(%rip), %r11
        jb      iret_long
        .if     \smap
        stac
        .endif
30:     testl   $VGCF_IN_SYSCALL, 24(%r11)
        jnz     iret_long_clac\suffix
31:     mov     48(%r11), %eax                  /* rflags */
        test    $EFLAGS_IF, %eax
        sete    INFO_upcall_mask(%rcx)
        jz      3f
        cmpb    $0, INFO_upcall_pending(%rcx)
        jne     iret_long_clac\suffix
4:      and     $EFLAGS_IF | EFLAGS_GUEST, %eax /* bit 1 is always one to IRET */
        mov     %rax, FROM_RSP(REGS_rflags)(%rsp)
32:     mov     32(%r11), %rax
        mov     %rax, FROM_RSP(REGS_rip)(%rsp)
33:     movzwl  64(%r11), %eax
        mov     %rax, FROM_RSP(REGS_ss)(%rsp)
34:     movzwl  40(%r11), %ecx
        mov     %rcx, FROM_RSP(REGS_cs)(%rsp)
35:     mov     (%r11), %rax
        mov     %rax, FROM_RSP(REGS_rax)(%rsp)
36:     mov     56(%r11), %rax
        mov     %rax, (%rsp)
        mov     FROM_RSP(CPU_current_vcpu)(%rsp), %rax
        not     %ecx
        test    $3, %ecx
37:     mov     16(%r11), %rcx
38:     mov     8(%r11), %r11
        jnz     2f                              /* to the guest's kernel */
        movb    $0, VCPU_kernel_mode(%rax)
        mov     VCPU_user_cr3(%rax), %rax
        mov     %rax, %cr3
        swapgs
1:      mov     FROM_RSP(REGS_rax)(%rsp), %rax
        sub     $REGS_rsp - REGS_rip, %rsp
        jmp     iret_to_guest
2:      orq     $3, FROM_RSP(REGS_cs)(%rsp)
        jmp     1b
3:      or      $EFLAGS_IF, %eax
        jmp     4b
iret_fast_fault\suffix:
        mov     %r11, (%rsp)
iret_long_clac\suffix:
        .if     \smap
        clac
        .endif
        jmp     iret_long
        EX_TABLE 30b, iret_fast_fault\suffix
        EX_TABLE 31b, iret_fast_fault\suffix
        EX_TABLE 32b, iret_fast_fault\suffix
        EX_TABLE 33b, iret_fast_fault\suffix
        EX_TABLE 34b, iret_fast_fault\suffix
        EX_TABLE 35b, iret_fast_fault\suffix
        EX_TABLE 36b, iret_fast_fault\suffix
        EX_TABLE 37b, iret_fast_fault\suffix
        EX_TABLE 38b, iret_fast_fault\suffix
        .endm
        SYSCALL_ENTRY "", 0
        SYSCALL_ENTRY _smap, 1
        .balign 8
hole_end:
        .quad   HOLE_END_

iret_long:                              /* of the kernel's registers rcx and r11 may be lost, which it has on its stack */
        mov     $HYPERCALL_iret, %eax
        push    %r11
        pushq   $GUEST_CS64
        push    %rcx
        pushq   $0
        SAVE_GPRS
        CLEAR_GPRS
        mov     CPU_current_vcpu(%rsp), %rbx
        cmpb    $0, VCPU_kernel_mode(%rbx)
        jne     iret_hypercall
        mov     %rsp, %rdi
        sti
        call    pv_syscall
        jmp     ret_to_guest

syscall_long_rax:                       /* a system call: rsp = &rflags with rax below, nothing has changed yet */
        pop     %rax
syscall_long:
        mov     (%rsp), %r11
        pushq   $GUEST_CS64
        push    %rcx
        pushq   $0
        SAVE_GPRS
        CLEAR_GPRS
        mov     %rsp, %rdi
        sti
        call    pv_syscall
        jmp     ret_to_guest
syscall_fault:                          /* the same, but the mode has changed: C ends the domain */
        pop     %rax
        mov     (%rsp), %r11
        pushq   $GUEST_CS64
        push    %rcx
        pushq   $0
        SAVE_GPRS
        CLEAR_GPRS
        mov     %rsp, %rdi
        call    pv_bad_kernel_stack
        jmp     ret_to_guest

        .balign 16
hypercall:                              /* rsp = &rflags, r11 = current */
        pushq   $GUEST_CS64
        push    %rcx
        pushq   $0
        SAVE_GPRS r11_used=1
        mov     %r11, %rbx
        CLEAR_OTHER_GPRS

        /* A hypercall: number in rax, arguments in rdi, rsi, rdx, r10, r8 */
        sti
        incq    VCPU_stats_hypercalls(%rbx)
        cmp     $HYPERCALL_COUNT_, %rax
        jae     1f
        sbb     %r11, %r11              /* all ones; none where the jump was mispredicted (lib/nospec.h) */
        and     %r11, %rax
        mov     %r10, %rcx
        mov     hypercall_entries_in_use(%rip), %r11
        mov     (%r11,%rax,8), %r11
        call    __x86_indirect_thunk_r11
        cmpb    $0, CPU_hypercall_restart(%rsp)
        jne     2f
        mov     %rax, REGS_rax(%rsp)
        jmp     ret_to_guest
1:      mov     %rax, %rdi
        call    hypercall_refused
        mov     %rax, REGS_rax(%rsp)
        jmp     ret_to_guest
2:      mov     %rsp, %rdi
        call    hypercall_restart
        jmp     ret_to_guest

/* A privileged hypercall, as if called in the handler's place: rax = number, rbx = current, arguments where C has them. */
GLOBAL hypercall_checked
        mov     VCPU_domain(%rbx), %r11
        cmpb    $0, DOMAIN_is_privileged(%r11)
        je      1f
        lea     hypercall_table(%rip), %r11
        imul    $HYPERCALL_size, %eax, %r10d
        mov     HYPERCALL_handler(%r11, %r10), %r11
        test    %r11, %r11
        jz      1f
        jmp     __x86_indirect_thunk_r11
1:      mov     %rax, %rdi
        jmp     hypercall_refused

/* A hypercall while they are traced, called in the handler's place: all that the handler gets is in the guest's registers. */
GLOBAL hypercall_traced
        lea     8(%rsp), %rdi
        call    hypercall_trace_entry
        mov     8 + REGS_rdi(%rsp), %rdi
        mov     8 + REGS_rsi(%rsp), %rsi
        mov     8 + REGS_rdx(%rsp), %rdx
        mov     8 + REGS_r10(%rsp), %rcx
        mov     8 + REGS_r8(%rsp), %r8
        mov     8 + REGS_rax(%rsp), %rax
        lea     hypercall_entries(%rip), %r11
        mov     (%r11,%rax,8), %r11
        jmp     __x86_indirect_thunk_r11

syscall32_entry:                        /* SYSCALL in compatibility mode */
        push    %r11
        pushq   $GUEST_CS32
        push    %rcx
        pushq   $0
        SAVE_GPRS
        CLEAR_GPRS
        mov     %rsp, %rdi
        sti
        call    pv_syscall32
        jmp     ret_to_guest

/* SYSENTER: MSR_SYSENTER_ESP is the end of the hardware frame; nothing of the caller is known but what it left in registers */
GLOBAL sysenter_entry
        pushq   $GUEST_SS
        pushq   $0
        pushf
        pushq   $3                      /* no selector: the guest's handler knows that this is a SYSENTER */
        pushq   $0
        pushq   $0
        SAVE_GPRS
        CLEAR_GPRS
        orq     $EFLAGS_TF_IF, REGS_rflags(%rsp)
        andq    $~0x100, REGS_rflags(%rsp)
        mov     %rsp, %rdi
        pushq   $2                      /* SYSENTER clears IF and VM only: with NT the way out's IRETQ would fault */
        popf
        sti
        call    pv_sysenter
        jmp     ret_to_guest

/*
 * HYPERVISOR_iret: struct iret_context on the guest kernel's stack: rax, r11, rcx, flags, rip, cs, rflags, rsp, ss.
 * rbx = current, interrupts off.
 */
        .balign 16
iret_hypercall:
        mov     REGS_rsp(%rsp), %rsi
        movabs  $0xffff880000000000, %rdx
        cmp     %rdx, %rsi
        jb      iret_slow
        lea     72(%rsi), %rdx
        cmp     %rsi, %rdx
        jb      iret_slow
        cmpb    $0, smap_enabled(%rip)
        jne     iret_slow
20:     mov     (%rsi), %rax
21:     mov     8(%rsi), %r11
22:     mov     16(%rsi), %rcx
23:     mov     24(%rsi), %rdi          /* flags */
24:     mov     32(%rsi), %rdx          /* rip */
25:     mov     40(%rsi), %r8d          /* cs */
26:     mov     48(%rsi), %r9d          /* rflags */
27:     mov     56(%rsi), %r10          /* rsp */
28:     mov     64(%rsi), %r12d         /* ss */
        mov     %rax, REGS_rax(%rsp)
        mov     %rdx, REGS_rip(%rsp)
        mov     %r10, REGS_rsp(%rsp)
        test    $VGCF_IN_SYSCALL, %edi
        jnz     1f
        mov     %r11, REGS_r11(%rsp)
        mov     %rcx, REGS_rcx(%rsp)
        jmp     2f
1:      mov     %rdx, REGS_rcx(%rsp)    /* as SYSRET leaves them */
        mov     %r9, REGS_r11(%rsp)
        mov     $GUEST_SS, %r12d
        mov     $GUEST_CS64, %r8d
2:      movzwl  %r12w, %r12d
        mov     %r12, REGS_ss(%rsp)
        /* upcall mask = not IF */
        mov     VCPU_info(%rbx), %rax
        mov     %r9d, %ecx
        shr     $9, %ecx
        not     %ecx
        and     $1, %ecx
        mov     %cl, INFO_upcall_mask(%rax)
        and     $EFLAGS_GUEST, %r9d
        or      $0x202, %r9d
        mov     %r9, REGS_rflags(%rsp)
        movb    $0, VCPU_nmi_masked(%rbx)
        mov     %r8d, %ecx
        and     $3, %ecx
        or      $3, %r8d
        movzwl  %r8w, %r8d
        mov     %r8, REGS_cs(%rsp)
        cmp     $3, %ecx
        jne     ret_to_guest_irqs_off   /* to the guest's kernel */
        mov     VCPU_user_cr3(%rbx), %rdx
        test    %rdx, %rdx
        jz      iret_no_user_root
        mov     %rdx, %cr3
        swapgs
        movb    $0, VCPU_kernel_mode(%rbx)
        jmp     ret_to_guest_irqs_off
iret_no_user_root:
        mov     %rsp, %rdi
        call    pv_iret_no_user_root
        jmp     ret_to_guest
iret_slow:
        mov     %rsp, %rdi
        sti
        call    pv_iret                 /* the same in C */
        jmp     ret_to_guest
iret_fault:
        mov     %rsp, %rdi
        call    pv_iret_fault
        jmp     ret_to_guest
        EX_TABLE 20b, iret_fault
        EX_TABLE 21b, iret_fault
        EX_TABLE 22b, iret_fault
        EX_TABLE 23b, iret_fault
        EX_TABLE 24b, iret_fault
        EX_TABLE 25b, iret_fault
        EX_TABLE 26b, iret_fault
        EX_TABLE 27b, iret_fault
        EX_TABLE 28b, iret_fault

/* Back to the guest: softirqs, then events and what else waits, then the registers. */
        .balign 16
GLOBAL ret_to_guest
        cli
ret_to_guest_irqs_off:
        cmpl    $0, CPU_softirq_pending(%rsp)
        jne     1f
        mov     CPU_current_vcpu(%rsp), %rbx
        mov     VCPU_info(%rbx), %rax
        cmpb    $0, INFO_upcall_pending(%rax)
        jne     3f
4:      RESTORE_GPRS
GLOBAL iret_to_guest
        iretq
3:      cmpb    $0, INFO_upcall_mask(%rax)
        jne     4b
        mov     %rsp, %rdi
        call    pv_deliver_event
        jmp     ret_to_guest
1:      sti
        call    softirq_run
        jmp     ret_to_guest

/* Exceptions and interrupts. Stubs push an error code where the processor does not, and the vector beside it. */
        .macro STUB vector, has_error
        .balign 16
        .if     !\has_error
        pushq   $0
        .endif
        movl    $\vector, 4(%rsp)
        .if     \vector >= 32
        jmp     interrupt_common
        .else
        .if     \vector == 1 || \vector == 2 || \vector == 8 || \vector == 18
        jmp     ist_common
        .else
        jmp     exception_common
        .endif
        .endif
        .endm

        .balign 16
GLOBAL exception_stubs
vector = 0
        .rept   256
        .if     vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30
        STUB    vector, 1
        .else
        STUB    vector, 0
        .endif
vector = vector + 1
        .endr

/*
 * #PF, the gate's own stub: a fault of the guest's user mode in its half of the addresses goes to the handler that the guest's
 * kernel registered, on its kernel stack: rcx, r11, error code, rip, cs, rflags, rsp, ss. The common case only, as for a system call
 * (above, where the rules of such a way are): nothing pending or masked, a usual handler (fault_frame is not 0), no traces.
 * All else, and what happens in Croft, goes on as any exception. rsp = &error code; from the pushes on rdi = current.
 */
#define FROM_RDX(x) ((x) - REGS_rdx)
        .macro PAGE_FAULT suffix, smap
        .balign 16
GLOBAL page_fault\suffix
        movl    $14, 4(%rsp)
        testb   $3, REGS_cs - REGS_error_code(%rsp)
        jz      exception_common
        push    %rdi
        push    %rsi
        push    %rdx
        mov     FROM_RDX(CPU_current_vcpu)(%rsp), %rdi
        cmpb    $0, VCPU_kernel_mode(%rdi)
        jne     page_fault_kernel\suffix
        cmpl    $0, FROM_RDX(CPU_softirq_pending)(%rsp)
        jne     page_fault_long
        cmpq    $0, VCPU_fault_frame(%rdi)
        je      page_fault_long
        cmpb    $0, trace_on(%rip)
        jne     page_fault_long
        mov     VCPU_info(%rdi), %rsi
        cmpw    $0, INFO_upcall_pending(%rsi)   /* and the mask */
        jne     page_fault_long
        mov     %cr2, %rdx
        test    %rdx, %rdx
        js      page_fault_long                 /* the LDT's window, or what the guest must not learn of */
        mov     %rdx, VCPU_cr2(%rdi)
        mov     %rdx, INFO_cr2(%rsi)
        incq    VCPU_stats_exceptions(%rdi)
        mov     VCPU_fault_frame(%rdi), %rsi
        movb    $1, VCPU_kernel_mode(%rdi)
        mov     VCPU_kernel_cr3(%rdi), %rdx
        mov     %rdx, %cr3
        swapgs
        .if     \smap
        stac
        .endif
10:     mov     %rcx, (%rsi)
11:     mov     %r11, 8(%rsi)
        mov     FROM_RDX(REGS_error_code)(%rsp), %edx
12:     mov     %rdx, 16(%rsi)
        mov     FROM_RDX(REGS_rip)(%rsp), %rdx
13:     mov     %rdx, 24(%rsi)
        movzwl  FROM_RDX(REGS_cs)(%rsp), %edx   /* and an upcall mask of 0 */
14:     mov     %rdx, 32(%rsi)
        mov     FROM_RDX(REGS_rsp)(%rsp), %rdx
15:     mov     %rdx, 48(%rsi)
        movzwl  FROM_RDX(REGS_ss)(%rsp), %edx
16:     mov     %rdx, 56(%rsi)
        mov     FROM_RDX(REGS_rflags)(%rsp), %rdx
17:     mov     %rdx, 40(%rsi)
        and     $~EFLAGS_CLEARED, %edx
        mov     %rdx, FROM_RDX(REGS_rflags)(%rsp)
        mov     VCPU_fault_handler(%rdi), %rdx
        mov     %rdx, FROM_RDX(REGS_rip)(%rsp)
        mov     VCPU_fault_cs(%rdi), %rdx
        mov     %rdx, FROM_RDX(REGS_cs)(%rsp)
        mov     %rsi, FROM_RDX(REGS_rsp)(%rsp)
        movq    $GUEST_SS, FROM_RDX(REGS_ss)(%rsp)
        mov     VCPU_info(%rdi), %rdx
        movb    $1, INFO_upcall_mask(%rdx)
        pop     %rdx
        pop     %rsi
        pop     %rdi
        add     $8, %rsp
        jmp     iret_to_guest                   /* not SYSRET: Linux's handlers run on a code segment of its own */
page_fault_kernel\suffix:                       /* nearly always it writes to a page that it may only read: a page table */
        pop     %rdx
        pop     %rsi
        pop     %rdi
        cmpl    $PFEC_KERNEL_WRITES, (%rsp)
        jne     exception_common
        SAVE_GPRS
        CLEAR_GPRS
        cld
        .if     \smap
        clac
        .endif
        mov     %rsp, %rdi
        mov     %cr2, %rsi
        sti
        call    guest_kernel_writes
        jmp     ret_to_guest
        EX_TABLE 10b, page_fault_stack
        EX_TABLE 11b, page_fault_stack
        EX_TABLE 12b, page_fault_stack
        EX_TABLE 13b, page_fault_stack
        EX_TABLE 14b, page_fault_stack
        EX_TABLE 15b, page_fault_stack
        EX_TABLE 16b, page_fault_stack
        EX_TABLE 17b, page_fault_stack
        .endm
        PAGE_FAULT "", 0
        PAGE_FAULT _smap, 1
page_fault_long:
        pop     %rdx
        pop     %rsi
        pop     %rdi
        jmp     exception_common
page_fault_stack:                       /* the frame cannot be written: C ends the domain */
        pop     %rdx
        pop     %rsi
        pop     %rdi
        SAVE_GPRS
        CLEAR_GPRS
        mov     %rsp, %rdi
        call    pv_bad_kernel_stack
        jmp     ret_to_guest

/*
 * #GP, the gate's own stub: the RDMSR by which Linux's kernel reads the user's GS base at each switch of processes. Whatever is
 * not just that, and in the half of the addresses above the hole, where code is 64-bit, goes on as any exception. rsp = &error code.
 */
#define FROM_RDI(x) ((x) - REGS_rdi)
        .macro GENERAL_PROTECTION suffix, smap
        .balign 16
GLOBAL general_protection\suffix
        movl    $13, 4(%rsp)
        testb   $3, REGS_cs - REGS_error_code(%rsp)
        jz      exception_common
        cmp     $MSR_KERNEL_GS_BASE_, %ecx
        jne     exception_common
        cmpl    $0, (%rsp)
        jne     exception_common
        push    %rdi
        mov     FROM_RDI(CPU_current_vcpu)(%rsp), %rdi
        cmpb    $0, VCPU_kernel_mode(%rdi)
        je      general_protection_long
        cmpl    $0, FROM_RDI(CPU_softirq_pending)(%rsp)
        jne     general_protection_long
        mov     VCPU_info(%rdi), %rdi
        cmpb    $0, INFO_upcall_pending(%rdi)
        jne     general_protection_long
        testl   $EFLAGS_TF, FROM_RDI(REGS_rflags)(%rsp)
        jnz     general_protection_long
        mov     FROM_RDI(REGS_rip)(%rsp), %rdi
        cmp     hole_end(%rip), %rdi
        jb      general_protection_long
        .if     \smap
        stac
        .endif
40:     cmpw    $0x320f, (%rdi)
        jne     general_protection_long         /* C executes CLAC */
        rdmsr
        mov     FROM_RDI(CPU_current_vcpu)(%rsp), %rdi
        incq    VCPU_stats_exceptions(%rdi)
        addq    $2, FROM_RDI(REGS_rip)(%rsp)
        andl    $~EFLAGS_RF, FROM_RDI(REGS_rflags)(%rsp)
        pop     %rdi
        add     $8, %rsp
        jmp     iret_to_guest
        EX_TABLE 40b, general_protection_long
        .endm
        GENERAL_PROTECTION "", 0
        GENERAL_PROTECTION _smap, 1
general_protection_long:
        pop     %rdi

        .balign 16
exception_common:
        SAVE_GPRS
        CLEAR_GPRS
        cld                             /* C relies on it, and a gate leaves the guest's DF as it is */
        testb   $3, REGS_cs(%rsp)
        jz      exception_in_croft
        mov     %rsp, %rdi
        call    exception_from_guest
        jmp     ret_to_guest
exception_in_croft:
        mov     %rsp, %rdi
        call    exception_in_hypervisor
        RESTORE_GPRS
        iretq

        .balign 16
interrupt_common:
        SAVE_GPRS
        CLEAR_GPRS
        mov     %rsp, %rdi
        cld
        testb   $3, REGS_cs(%rsp)
        jz      1f
        call    interrupt_dispatch
        jmp     ret_to_guest_irqs_off
1:      call    interrupt_dispatch
        RESTORE_GPRS
        iretq

/* #DB, NMI, #DF, #MC arrive on stacks of their own. From a guest, the frame moves to the main stack first. */
        .balign 16
ist_common:
        testb   $3, REGS_cs - REGS_error_code(%rsp)
        jz      1f
        push    %rax
        push    %rbx
        lea     16(%rsp), %rax          /* error code, rip, cs, rflags, rsp, ss */
        mov     %rsp, %rbx
        and     $-CPU_STACK_SIZE_, %rsp
        add     $(CPU_REGS_IN_BLOCK + REGS_es), %rsp
        pushq   40(%rax)
        pushq   32(%rax)
        pushq   24(%rax)
        pushq   16(%rax)
        pushq   8(%rax)
        pushq   (%rax)
        mov     8(%rbx), %rax
        mov     (%rbx), %rbx
        jmp     exception_common
1:      SAVE_GPRS
        CLEAR_GPRS
        cld
        mov     %rsp, %rdi
        call    exception_in_hypervisor
        RESTORE_GPRS
        iretq

/* reset_stack_and_leave(fn): leaves whatever C was doing and calls fn on an empty main stack; fn does not return,
 * or returns to the guest. rdi = fn, or 0 for "to the guest". */
GLOBAL reset_stack_and_leave
        and     $-CPU_STACK_SIZE_, %rsp
        add     $CPU_REGS_IN_BLOCK, %rsp
        xor     %ebp, %ebp
        test    %rdi, %rdi
        jz      ret_to_guest
        call    __x86_indirect_thunk_rdi
        ud2

        .section .bss.page_aligned, "aw", @nobits
        .balign 4096
GLOBAL syscall_cpus
        .skip   16 * CPUS
        .section .note.GNU-stack, "", @progbits
