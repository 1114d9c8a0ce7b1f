/*
 * vmx_enter(regs, launched): runs the guest once, whose control structure is the processor's current one. rdi = its registers (all but
 * rsp, rip, rflags, which are in the structure), sil = it ran before without being cleared since. eax = 0, or 1: the processor has
 * refused to (VMfail), and nothing has changed. Called with interrupts disabled, and so it returns.
 *
 * The exit loads all that is the host's and is in the structure; general registers are all that is left.
 */
#include "offsets.h"

#define VMCS_HOST_RSP 0x6c14

        .section .text.entry, "ax"
        .globl  vmx_enter, vmx_exited
        .hidden vmx_enter, vmx_exited
        .balign 16
vmx_enter:
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        push    %rdi
        mov     $VMCS_HOST_RSP, %eax
        vmwrite %rsp, %rax
        test    %sil, %sil              /* no instruction before the jump changes the flags */
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
        mov     REGS_rax(%rdi), %rax
        mov     REGS_rcx(%rdi), %rcx
        mov     REGS_rdx(%rdi), %rdx
        mov     REGS_rsi(%rdi), %rsi
        mov     REGS_rdi(%rdi), %rdi
        jnz     1f
        vmlaunch
        jmp     2f
1:      vmresume
2:      mov     $1, %eax
        jmp     3f
vmx_exited:
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
        mov     %rax, REGS_rax(%rdi)
        mov     %rcx, REGS_rcx(%rdi)
        mov     %rdx, REGS_rdx(%rdi)
        mov     %rsi, REGS_rsi(%rdi)
        popq    REGS_rdi(%rdi)
        xor     %eax, %eax
        /* No value of the guest's goes where the processor only speculates. */
3:      xor     %ecx, %ecx
        xor     %edx, %edx
        xor     %esi, %esi
        xor     %edi, %edi
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
        add     $256 + 8, %rsp
        lfence
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        ret
        .section .note.GNU-stack, "", @progbits
