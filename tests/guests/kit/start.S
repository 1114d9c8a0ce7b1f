/*
 * Start code, ELF notes and trap entries of a test guest.
 *
 * A bounce frame of the ABI is, from the stack pointer up: rcx, r11, [error code], rip, cs (saved upcall mask in
 * bits 32-39), rflags, rsp, ss. Each entry turns it into struct regs (kit.h) and calls kit_trap; the way back is
 * the iret hypercall.
 */
#define __ASSEMBLY__ 1
#include <xen/elfnote.h>
#include "entries.h"

#define HYPERCALL_IRET (hypercall_page + 23 * 32)

        .macro NOTE_STRING type, text
        .pushsection .note.Xen, "a", @note
        .balign 4
        .long 4, 2f - 1f, \type
        .asciz "Xen"
1:      .asciz "\text"
2:      .balign 4
        .popsection
        .endm

        .macro NOTE_QUAD type, value
        .pushsection .note.Xen, "a", @note
        .balign 4
        .long 4, 8, \type
        .asciz "Xen"
        .quad \value
        .popsection
        .endm

        NOTE_STRING XEN_ELFNOTE_GUEST_OS, "croft-test"
        NOTE_STRING XEN_ELFNOTE_GUEST_VERSION, "1"
        NOTE_STRING XEN_ELFNOTE_XEN_VERSION, "xen-3.0"
        NOTE_STRING XEN_ELFNOTE_LOADER, "generic"
        NOTE_STRING XEN_ELFNOTE_PAE_MODE, "yes"
        NOTE_QUAD XEN_ELFNOTE_VIRT_BASE, VIRT_BASE
        NOTE_QUAD XEN_ELFNOTE_PADDR_OFFSET, 0
        NOTE_QUAD XEN_ELFNOTE_ENTRY, kit_start
        NOTE_QUAD XEN_ELFNOTE_HYPERCALL_PAGE, hypercall_page

        .section .text.hypercall_page, "ax"
        .balign 4096
        .globl hypercall_page
hypercall_page:
        .fill 4096, 1, 0xcc

        .text
/* Entry from the builder: rsi = start_info, on the bootstrap stack. */
        .globl kit_start
kit_start:
        cld
        leaq kit_stacks + KIT_STACK_SIZE(%rip), %rsp
        xorl %ebp, %ebp
        movq %rsi, %rdi
        call kit_main
1:      ud2
        jmp 1b

/* Entry of a secondary vcpu: rsp = its stack (16-byte aligned), rdi = function. */
        .globl kit_vcpu_start
kit_vcpu_start:
        cld
        xorl %ebp, %ebp
        call *%rdi
1:      ud2
        jmp 1b

/*
 * Vector stubs, 16 bytes apart. Those that the processor gives an error code leave it on the stack, the others
 * push 0.
 */
        .balign 16
        .globl kit_stubs
kit_stubs:
        .set vector, 0
        .rept 256
        .balign 16
        popq %rcx
        popq %r11
        .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17)
        pushq $0
        .endif
        pushq $vector
        jmp kit_common
        .set vector, vector + 1
        .endr

        .globl kit_event_entry
kit_event_entry:
        popq %rcx
        popq %r11
        pushq $0
        pushq $VECTOR_EVENT
        jmp kit_common

        .globl kit_syscall_entry
kit_syscall_entry:
        popq %rcx
        popq %r11
        pushq $0
        pushq $VECTOR_SYSCALL
        jmp kit_common

        .globl kit_syscall32_entry
kit_syscall32_entry:
        popq %rcx
        popq %r11
        pushq $0
        pushq $VECTOR_SYSCALL32
        jmp kit_common

        .globl kit_sysenter_entry
kit_sysenter_entry:
        popq %rcx
        popq %r11
        pushq $0
        pushq $VECTOR_SYSENTER
        jmp kit_common

        .globl kit_nmi_entry
kit_nmi_entry:
        popq %rcx
        popq %r11
        pushq $0
        pushq $2
        jmp kit_common

/* Failsafe: rcx, r11, ds, es, fs, gs, then rip and so on. */
        .globl kit_failsafe_entry
kit_failsafe_entry:
        popq %rcx
        popq %r11
        popq kit_failsafe_selectors+0
        popq kit_failsafe_selectors+8
        popq kit_failsafe_selectors+16
        popq kit_failsafe_selectors+24
        pushq $0
        pushq $VECTOR_FAILSAFE
        jmp kit_common

/* Stack: vector, error code, rip, cs, rflags, rsp, ss; all other registers as the guest had them. */
kit_common:
        cld
        pushq %rdi
        pushq %rsi
        pushq %rdx
        pushq %rcx
        pushq %rax
        pushq %r8
        pushq %r9
        pushq %r10
        pushq %r11
        pushq %rbx
        pushq %rbp
        pushq %r12
        pushq %r13
        pushq %r14
        pushq %r15
        movq %rsp, %rdi
        movq %rsp, %rbp
        andq $-16, %rsp
        call kit_trap
        movq %rbp, %rsp
        popq %r15
        popq %r14
        popq %r13
        popq %r12
        popq %rbp
        popq %rbx
        popq %r11
        popq %r10
        popq %r9
        popq %r8
        popq %rax
        popq %rcx
        popq %rdx
        popq %rsi
        popq %rdi
        addq $8, %rsp                   /* the error code's place now holds the flags of the iret hypercall */
        jmp HYPERCALL_IRET

/*
 * void kit_iret(struct iret_context *c): the iret hypercall on exactly these nine words. Does not return if it
 * works.
 */
        .globl kit_iret
kit_iret:
        movq %rdi, %rsp
        movl $23, %eax
        syscall
        ud2

/* long kit_raw_hypercall(nr, a1, a2, a3, a4, a5): by the syscall instruction, so that nr can be anything. */
        .globl kit_raw_hypercall
kit_raw_hypercall:
        movq %rdi, %rax
        movq %rsi, %rdi
        movq %rdx, %rsi
        movq %rcx, %rdx
        movq %r8, %r10
        movq %r9, %r8
        syscall
        ret

        .section .note.GNU-stack, "", @progbits
