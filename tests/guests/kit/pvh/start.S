/* Start code, ELF note, tables and trap entries of a PVH test guest. */
#define __ASSEMBLY__ 1
#include <xen/elfnote.h>
#include "../entries.h"
#include "../entry.inc"
#include "selectors.h"

        .pushsection .note.Xen, "a", @note
        .balign 4
        .long 4, 4, XEN_ELFNOTE_PHYS32_ENTRY
        .asciz "Xen"
        .long kit_start
        .popsection

        .text
        .code32
/* From the builder: protected mode without paging, ebx = start info. What is there is noted for pvh_hello. */
        .globl kit_start
kit_start:
        movl %eax, kit_start_state+0
        movl %ebx, kit_start_state+4
        movl %ecx, kit_start_state+8
        movl %edx, kit_start_state+12
        movl %esi, kit_start_state+16
        movl %edi, kit_start_state+20
        movl %ebp, kit_start_state+24
        movl %esp, kit_start_state+28
        movl $kit_stacks + KIT_STACK_SIZE, %esp
        pushfl
        popl kit_start_state+32
        movl %cr0, %eax
        movl %eax, kit_start_state+36
        movl %cr3, %eax
        movl %eax, kit_start_state+40
        movl %cr4, %eax
        movl %eax, kit_start_state+44
        movl $0xc0000080, %ecx
        rdmsr
        movl %eax, kit_start_state+48
        movl %dr6, %eax
        movl %eax, kit_start_state+52
        movl %dr7, %eax
        movl %eax, kit_start_state+56
        sgdt kit_start_state+60
        sidt kit_start_state+68
        xorl %eax, %eax
        str %ax
        movl %eax, kit_start_state+76
        sldt %ax
        movl %eax, kit_start_state+80
        xorl %esi, %esi

/* esi: 1 after a start-up signal. Flat segments in the processor, whatever their selectors. */
to_long_mode:
        lgdtl gdt_pointer
        movl $0x6a0, %eax               /* PAE, PGE, OSFXSR, OSXMMEXCPT */
        movl %eax, %cr4
        movl $kit_pml4, %eax
        movl %eax, %cr3
        movl $0xc0000080, %ecx
        movl $0x901, %eax               /* NXE, LME, SCE */
        xorl %edx, %edx
        wrmsr
        movl $0x80010033, %eax          /* PG, WP, NE, ET, MP, PE */
        movl %eax, %cr0
        ljmpl $CODE64, $in_long_mode

        .code64
in_long_mode:
        movl $DATA, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %ss
        xorl %eax, %eax
        movl %eax, %fs
        movl %eax, %gs
        lldt %ax
        movl $1, %eax
        cpuid
        movl %ebx, %edi
        shrl $25, %edi                  /* APIC ids are twice the vcpu's number */
        leal 1(%rdi), %eax
        imull $KIT_STACK_SIZE, %eax
        addl $kit_stacks, %eax
        movl %eax, %esp
        xorl %ebp, %ebp
        lidtq idt_pointer
        movl %esi, %esi
        call kit_enter
1:      ud2
        jmp 1b

        .code32
ap_32:
        movl $DATA, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %ss
        movl $1, %esi
        jmp to_long_mode

/* Copied to TRAMPOLINE */
        .code16
        .globl kit_trampoline, kit_trampoline_end
kit_trampoline:
        cli
        movw %cs, %ax
        movw %ax, %ds
        incl kit_trampoline_count - kit_trampoline
        lgdtl trampoline_gdt - kit_trampoline
        movl %cr0, %eax
        orb $1, %al
        movl %eax, %cr0
        .byte 0x66, 0xea                /* ljmpl $CODE32, $ap_32 */
        .long ap_32
        .word CODE32
        .balign 4
trampoline_gdt:
        .word gdt_end - gdt - 1
        .long gdt
        .balign 4
kit_trampoline_count:
        .long 0
kit_trampoline_end:
        .globl kit_trampoline_count

        .code64
        VECTOR_STUBS

kit_common:
        CALL_KIT_TRAP
        addq $16, %rsp
        iretq

/* long kit_raw_hypercall(nr, a1, a2, a3, a4, a5): without the page, so that nr can be anything. */
        .globl kit_raw_hypercall
kit_raw_hypercall:
        CALL_ARGUMENTS
        KIT_CALL
        ret

/* long kit_hypercall_32(nr): from 32-bit code of ring 0; what is in eax then, zero-extended. */
        .globl kit_hypercall_32
kit_hypercall_32:
        movl %edi, %eax
        xorl %edi, %edi
        xorl %esi, %esi
        pushq $CODE32
        pushq $1f
        lretq
        .code32
1:      KIT_CALL
        ljmpl $CODE64, $2f
        .code64
2:      ret

        .data
        .balign 16
        .globl kit_gdt
kit_gdt:
gdt:    .quad 0
        .quad 0x00af9b000000ffff        /* CODE64 */
        .quad 0x00cf93000000ffff        /* DATA */
        .quad 0x00cf9b000000ffff        /* CODE32 */
        .quad 0x00cff3000000ffff        /* USER_DATA_SELECTOR */
        .quad 0x00affb000000ffff        /* USER_CODE64 */
        .quad 0x00cffb000000ffff        /* USER_CODE32 */
        .quad 0
        .fill 2 * KIT_MAX_VCPUS, 8, 0   /* TSSs */
        .fill 8, 8, 0                   /* for tests */
gdt_end:
        .balign 16
gdt_pointer:
        .word gdt_end - gdt - 1
        .quad gdt
        .balign 16
idt_pointer:
        .word 4095
        .quad kit_idt

/* The first 4 GiB at their own addresses, by pages of 2 MiB */
        .balign 4096
        .globl kit_pml4
kit_pml4:
        .quad kit_pdpt + 0x67
        .fill 511, 8, 0
kit_pdpt:
        .set i, 0
        .rept 4
        .quad kit_pd + 4096 * i + 0x67
        .set i, i + 1
        .endr
        .fill 508, 8, 0
kit_pd:
        .set i, 0
        .rept 2048
        .quad (i << 21) + 0xe3
        .set i, i + 1
        .endr

        .section .note.GNU-stack, "", @progbits
