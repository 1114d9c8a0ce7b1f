        .text
/* long kit_try(void (*f)(void *), void *argument, uint64_t *resume_sp): 0 if f returned, 1 if a trap ended it. */
        .globl kit_try
kit_try:
        pushq %rbp
        pushq %rbx
        pushq %r12
        pushq %r13
        pushq %r14
        pushq %r15
        movq %rsp, (%rdx)
        subq $8, %rsp
        movq %rdi, %rax
        movq %rsi, %rdi
        call *%rax
        addq $8, %rsp
        xorl %eax, %eax
        jmp 1f
        .globl kit_try_resume
kit_try_resume:                         /* rsp = *resume_sp */
        movl $1, %eax
        cld
1:      popq %r15
        popq %r14
        popq %r13
        popq %r12
        popq %rbx
        popq %rbp
        ret

        .section .note.GNU-stack, "", @progbits
