/*
 * Out of 64-bit mode and back, with interrupts disabled. There are no handlers of exceptions on the way: one ends the guest.
 */
#include "../kit/entries.h"
#include "../kit/pvh/selectors.h"

#define CR0_PG 0x80000000
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100
#define REAL_CODE 0x200 /* code.c */
#define REAL_STACK 0x1f0

        .text
/* Where SYSCALL leads */
        .globl syscall_entry
syscall_entry:
        ud2

/*
 * void mode_trip(unsigned how, uint32_t code, uint32_t page, unsigned selectors): how 0: to the 32-bit code (it ends in RET) within
 * long mode; 1: without paging; 2: in real mode. page: below 1 MiB, with a copy of real_code at its beginning and 16-bit code at
 * REAL_CODE in it. selectors: of 16-bit code and, behind that, data, both at 'page'.
 */
        .globl mode_trip
mode_trip:
        pushq %rbx
        pushq %rbp
        pushq %r12
        pushq %r13
        pushq %r14
        pushq %r15
        pushfq
        cli
        movl $DATA, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %ss
        movl %edx, %ebx                 /* page */
        movl %ecx, %ebp                 /* selectors */
        pushq $CODE32
        pushq $1f
        lretq
        .code32
1:      pushl %edi
        pushl %ebx
        testl %edi, %edi
        jz 2f
        movl %cr0, %eax
        andl $~CR0_PG, %eax
        movl %eax, %cr0
        movl $MSR_EFER, %ecx
        rdmsr
        andl $~EFER_LME, %eax
        wrmsr
        cmpl $2, %edi
        je to_real
2:      pushl %ebp
        call *%esi
        popl %ebp
back:   popl %ebx
        popl %edi
        testl %edi, %edi
        jz 3f
        movl $0x6a0, %eax
        movl %eax, %cr4
        movl $kit_pml4, %eax
        movl %eax, %cr3
        movl $MSR_EFER, %ecx
        movl $0x901, %eax
        xorl %edx, %edx
        wrmsr
        movl $0x80010033, %eax
        movl %eax, %cr0
3:      ljmpl $CODE64, $4f
        .code64
4:      movl $DATA, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %ss
        movl %esp, %esp
        popfq
        popq %r15
        popq %r14
        popq %r13
        popq %r12
        popq %rbp
        popq %rbx
        ret

        .code32
/* ebx: page, ebp: selectors. The stack is noted in the page. */
to_real:
        movl %esp, REAL_STACK(%ebx)
        pushl %ebp                      /* a far pointer to the 16-bit code's beginning */
        pushl $0
        lretl
/* From there, in flat 32-bit protected mode again */
        .globl from_real
from_real:
        movl $DATA, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %ss
        movl REAL_STACK(%ebx), %esp
        jmp back

/* At the beginning of a page: its offsets are from there. ebx, ebp as above. */
        .code16
        .globl real_code, real_code_end
real_code:
        leal 8(%ebp), %eax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        movl $0xffe, %esp
        movl %ebx, REAL_STACK - 4       /* the page's address, whatever the code does */
        movl %cr0, %eax
        andb $0xfe, %al
        movl %eax, %cr0
        movl %ebx, %ecx
        shrl $4, %ecx
        pushw %cx
        pushw $1f - real_code
        lretw
1:      movw %cx, %ds
        movw %cx, %es
        movw %cx, %ss
        movw $REAL_CODE, %ax
        call *%ax
        movw %cs, %ax
        movw %ax, %ds
        movl REAL_STACK - 4, %ebx
        movl %cr0, %eax
        orb $1, %al
        movl %eax, %cr0
        .byte 0x66, 0xea                /* ljmpl $CODE32, $from_real */
        .long from_real
        .word CODE32
real_code_end:

        .section .note.GNU-stack, "", @progbits
