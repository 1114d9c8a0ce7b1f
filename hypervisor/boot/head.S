/*
 * The first instructions: multiboot 1 or 2 hands over in 32-bit protected mode, paging off, EAX = magic,
 * EBX = address of its information. Builds the boot page tables (identity for 4 GiB, the image at
 * IMAGE_START), enters long mode and calls main(magic, info) on the boot CPU's stack block.
 */
#include "memory/layout.h"
#include "offsets.h"

#define PHYS(sym) ((sym) - 0xffff828000000000 + 0x200000)
#define MULTIBOOT1_MAGIC 0x1BADB002
#define MULTIBOOT1_FLAGS 0x00010003     /* page-aligned modules, memory map, address fields valid */
#define MULTIBOOT2_MAGIC 0xE85250D6

        .section .multiboot, "ax"
        .balign 4
multiboot1:
        .long MULTIBOOT1_MAGIC
        .long MULTIBOOT1_FLAGS
        .long -(MULTIBOOT1_MAGIC + MULTIBOOT1_FLAGS)
        .long PHYS(multiboot1)
        .long PHYS(__text_start)
        .long PHYS(__load_end)
        .long PHYS(__image_end)
        .long PHYS(boot_start)

        .balign 8
multiboot2:
        .long MULTIBOOT2_MAGIC
        .long 0
        .long multiboot2_end - multiboot2
        .long -(MULTIBOOT2_MAGIC + (multiboot2_end - multiboot2))
        .word 1, 0                      /* information request: we can use */
        .long 8 + 4 * 7
        .long 1, 3, 6, 14, 15, 12, 8    /* command line, modules, memory map, RSDPs, EFI table, framebuffer */
        .balign 8
        .word 6, 0                      /* modules on page boundaries */
        .long 8
        .word 5, 1                      /* framebuffer: any, optional */
        .long 20
        .long 0, 0, 0
        .balign 8
        .word 0, 0
        .long 8
multiboot2_end:

        .code32
        .globl boot_start
        .hidden boot_start
boot_start:
        cli
        cld
        mov     %eax, %esi              /* esi: magic, ebx: information, kept until long mode */
        mov     $PHYS(boot_stack + CPU_REGS_IN_BLOCK), %esp
        mov     $0x80000001, %eax
        push    %ebx
        cpuid
        pop     %ebx
        bt      $29, %edx               /* long mode */
        jnc     no_long_mode

        /* Identity: four L2 tables of 2 MiB pages */
        mov     $PHYS(boot_l2), %edi
        mov     $0x83, %eax             /* present, writable, large */
        mov     $2048, %ecx
1:      mov     %eax, (%edi)
        movl    $0, 4(%edi)
        add     $0x200000, %eax
        add     $8, %edi
        loop    1b
        mov     $PHYS(boot_l3), %edi
        mov     $PHYS(boot_l2) + 3, %eax
        mov     $4, %ecx
1:      mov     %eax, (%edi)
        add     $0x1000, %eax
        add     $8, %edi
        loop    1b
        /* The image: 16 x 2 MiB from IMAGE_PHYS */
        mov     $PHYS(boot_image_l2), %edi
        mov     $0x200000 + 0x83, %eax
        mov     $16, %ecx
1:      mov     %eax, (%edi)
        add     $0x200000, %eax
        add     $8, %edi
        loop    1b
        movl    $PHYS(boot_image_l2) + 3, PHYS(boot_image_l3)
        movl    $PHYS(boot_l3) + 3, PHYS(host_l4)
        movl    $PHYS(boot_image_l3) + 3, PHYS(host_l4) + 261 * 8

        mov     $0x20, %eax             /* CR4.PAE */
        mov     %eax, %cr4
        mov     $PHYS(host_l4), %eax
        mov     %eax, %cr3
        mov     $0xc0000080, %ecx       /* EFER: LME, SCE; NXE if there */
        rdmsr
        or      $0x101, %eax
        mov     %eax, %edi
        push    %ebx
        push    %edi
        mov     $0x80000001, %eax
        cpuid
        pop     %eax
        pop     %ebx
        bt      $20, %edx
        jnc     no_long_mode            /* NX is required */
        or      $0x800, %eax
        xor     %edx, %edx
        mov     $0xc0000080, %ecx
        wrmsr
        mov     $0x80010033, %eax       /* PG WP NE ET MP PE */
        mov     %eax, %cr0
        lgdtl   PHYS(boot_gdt_pointer)
        ljmp    $8, $PHYS(long_mode_low)

no_long_mode:                           /* said on the first serial port: there is no console yet */
        mov     $PHYS(no_long_mode_text), %esi
1:      lodsb
        test    %al, %al
        jz      2f
        mov     $0x3f8, %edx
        outb    %al, %dx
        jmp     1b
2:      hlt
        jmp     2b
no_long_mode_text:
        .asciz "(CROFT) ERROR: this processor lacks long mode or NX: Croft needs a 64-bit x86 processor with NX enabled\r\n"

        .code64
long_mode_low:
        movabs  $long_mode_high, %rax
        jmp     *%rax
        .section .text.entry, "ax"
long_mode_high:
        lea     boot_gdt(%rip), %rax
        mov     %rax, boot_gdt_pointer + 2(%rip)
        lgdt    boot_gdt_pointer(%rip)
        xor     %eax, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %fs
        mov     %eax, %gs
        mov     $16, %eax
        mov     %eax, %ss
        lea     boot_stack + CPU_REGS_IN_BLOCK - 8(%rip), %rsp  /* 16-byte aligned: the decompression libraries use SSE */
        xor     %ebp, %ebp
        mov     %esi, %edi              /* main(magic, info) */
        mov     %ebx, %esi
        call    main
        ud2

        .section .data, "aw"
        .balign 8
boot_gdt:
        .quad 0
        .quad 0x00af9b000000ffff        /* 64-bit code */
        .quad 0x00cf93000000ffff        /* data */
boot_gdt_end:
        .word 0, 0, 0
boot_gdt_pointer:
        .word boot_gdt_end - boot_gdt - 1
        .quad PHYS(boot_gdt)

        .section .bss.stack_aligned, "aw", @nobits
        .balign 32768
        .globl boot_stack
        .hidden boot_stack
boot_stack:
        .skip 32768
        .section .bss.page_aligned, "aw", @nobits
        .balign 4096
boot_l3:        .skip 4096
boot_l2:        .skip 4 * 4096
boot_image_l3:  .skip 4096
boot_image_l2:  .skip 4096
