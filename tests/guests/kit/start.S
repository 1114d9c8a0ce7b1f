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
#include "entry.inc"

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

        .macro POP_SYSCALL
        popq %rcx
        popq %r11
        .endm

        VECTOR_STUBS POP_SYSCALL

        .macro OTHER_ENTRY name, number
        .globl \name
\name:
        POP_SYSCALL
        pushq $0
        pushq $\number
        jmp kit_common
        .endm

        OTHER_ENTRY kit_event_entry, VECTOR_EVENT
        OTHER_ENTRY kit_syscall_entry, VECTOR_SYSCALL
        OTHER_ENTRY kit_syscall32_entry, VECTOR_SYSCALL32
        OTHER_ENTRY kit_sysenter_entry, VECTOR_SYSENTER
        OTHER_ENTRY kit_nmi_entry, 2

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

kit_common:
        CALL_KIT_TRAP
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
        CALL_ARGUMENTS
        syscall
        ret

        .section .note.GNU-stack, "", @progbits
