/*
 * Retpolines: where the compiler, and pv/entry.S, would branch by a register. The return is predicted by what the call left, and
 * leads into a loop that waits; the target comes from memory, when it is known. (Intel, "Retpoline: A Branch Target Injection
 * Mitigation", 2018.)
 */
        .macro THUNK reg
        .section .text.thunk.\reg, "ax"
        .balign 32
        .globl  __x86_indirect_thunk_\reg
        .hidden __x86_indirect_thunk_\reg
__x86_indirect_thunk_\reg:
        call    2f
1:      pause
        lfence
        jmp     1b
2:      mov     %\reg, (%rsp)
        ret
        int3                            /* nothing is run ahead of behind the return */
        .endm

        .irp    reg, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
        THUNK   \reg
        .endr
        .section .note.GNU-stack, "", @progbits
