/*
 * svm_enter(regs, guest, host): runs the guest once. rdi = its registers (all but rax, rsp, rip, rflags, which are in the control
 * block), rsi = machine address of its control block, rdx = of this CPU's block of host state. Called with interrupts disabled.
 *
 * CLGI holds off everything, NMIs too, from before the guest's state is loaded until the host's is back: the task register, and so
 * the stacks of NMI and #DF, are the guest's in between. IF is set under it: the guest runs with the processor's interrupts open
 * (V_INTR_MASKING), one that waits ends the guest's run at once, and is taken at STGI. Interrupts are enabled on return.
 */
#include "offsets.h"

        .section .text.entry, "ax"
        .globl  svm_enter
        .hidden svm_enter
        .balign 16
svm_enter:
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        push    %rdx
        push    %rdi
        clgi
        sti
        mov     %rsi, %rax
        mov     REGS_r15(%rdi), %r15
        mov     REGS_r14(%rdi), %r14
        mov     REGS_r13(%rdi), %r13
        mov     REGS_r12(%rdi), %r12
        mov     REGS_rbp(%rdi), %rbp
        mov     REGS_rbx(%rdi), %rbx
        mov     REGS_r11(%rdi), %r11
        mov     REGS_r10(%rdi), %r10
        mov     REGS_r9(%rdi), %r9
        mov     REGS_r8(%rdi), %r8
        mov     REGS_rcx(%rdi), %rcx
        mov     REGS_rdx(%rdi), %rdx
        mov     REGS_rsi(%rdi), %rsi
        mov     REGS_rdi(%rdi), %rdi
        vmload  %rax
        vmrun   %rax
        vmsave  %rax                    /* rax and rsp are the host's again, the others the guest's */
        push    %rdi
        mov     8(%rsp), %rdi
        mov     %r15, REGS_r15(%rdi)
        mov     %r14, REGS_r14(%rdi)
        mov     %r13, REGS_r13(%rdi)
        mov     %r12, REGS_r12(%rdi)
        mov     %rbp, REGS_rbp(%rdi)
        mov     %rbx, REGS_rbx(%rdi)
        mov     %r11, REGS_r11(%rdi)
        mov     %r10, REGS_r10(%rdi)
        mov     %r9, REGS_r9(%rdi)
        mov     %r8, REGS_r8(%rdi)
        mov     %rcx, REGS_rcx(%rdi)
        mov     %rdx, REGS_rdx(%rdi)
        mov     %rsi, REGS_rsi(%rdi)
        popq    REGS_rdi(%rdi)
        mov     8(%rsp), %rax
        vmload  %rax
        /* No value of the guest's goes where the processor only speculates. */
        xor     %ecx, %ecx
        xor     %edx, %edx
        xor     %esi, %esi
        xor     %r8d, %r8d
        xor     %r9d, %r9d
        xor     %r10d, %r10d
        xor     %r11d, %r11d
        /* Nor do returns go where the guest's calls were: 32 entries of our own, none of them ever reached. */
        .rept   32
        call    1f
        int3
1:
        .endr
        add     $256 + 16, %rsp
        lfence
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        stgi
        ret
        .section .note.GNU-stack, "", @progbits
