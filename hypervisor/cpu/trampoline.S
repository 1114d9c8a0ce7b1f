/*
 * The first instructions of a CPU that is woken by a start-up IPI: copied to a page below 1 MiB (cpu/smp.c), where
 * the CPU begins in real mode at offset 0 of the page, CS = page / 16. Through protected mode to long mode on Croft's
 * own tables, where the page is still there at its physical address. A CPU that holds no valid ticket stops here for
 * ever. ebx = address of the page, from the second label on. There is no stack before the last step.
 */
#define OFFSET(label) ((label) - ap_trampoline)
#define TICKET_OFFERED 1
#define TICKET_TAKEN 2

        .macro GLOBAL name
        .globl  \name
        .hidden \name
\name:
        .endm

        .section .rodata.trampoline, "a"
        .balign 16
        .code16
GLOBAL ap_trampoline
        cli
        cld
        xor     %ebx, %ebx
        mov     %cs, %bx
        mov     %bx, %ds
        shl     $4, %ebx
        lgdtl   OFFSET(gdt_pointer)
        mov     $0x11, %eax             /* PE, ET; caches on */
        mov     %eax, %cr0
        ljmpl   *OFFSET(far_protected)

        .code32
protected:
        mov     $24, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     $0x20, %eax             /* CR4.PAE */
        mov     %eax, %cr4
        mov     OFFSET(data_cr3)(%ebx), %eax
        mov     %eax, %cr3
        mov     $0xc0000080, %ecx       /* EFER: SCE, LME, NXE */
        rdmsr
        or      $0x901, %eax
        wrmsr
        mov     $0x80010033, %eax       /* PG WP NE ET MP PE */
        mov     %eax, %cr0
        ljmpl   *OFFSET(far_long)(%ebx)

        .code64
long_mode:
        mov     %ebx, %esi              /* CPUID needs ebx: rsi = page from here on */
        xor     %eax, %eax              /* which CPU is this? as cpu_read_apic_id */
        cpuid
        cmp     $0xb, %eax
        jb      1f
        mov     $0xb, %eax
        xor     %ecx, %ecx
        cpuid
        test    %ebx, %ebx
        jnz     2f
1:      mov     $1, %eax
        cpuid
        mov     %ebx, %edx
        shr     $24, %edx
2:      cmp     %edx, OFFSET(data_apic_id)(%rsi)
        jne     park
        mov     $TICKET_OFFERED, %eax
        mov     $TICKET_TAKEN, %ecx
        lock cmpxchg %ecx, OFFSET(data_ticket)(%rsi)
        jne     park
        mov     OFFSET(data_stack)(%rsi), %rsp
        xor     %eax, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %fs
        mov     %eax, %gs
        xor     %ebp, %ebp
        call    *OFFSET(data_entry)(%rsi)
park:
        cli
        hlt
        jmp     park

        .balign 8
gdt:
        .quad   0
        .quad   0x00cf9b000000ffff      /* 8: 32-bit code */
        .quad   0x00af9b000000ffff      /* 16: 64-bit code */
        .quad   0x00cf93000000ffff      /* 24: data */
gdt_end:

/* What cpu/smp.c fills in: struct trampoline_data there. Pointers into this page are relative to it until then. */
        .balign 8
GLOBAL ap_trampoline_data
far_protected:
        .long   OFFSET(protected)
        .long   8
far_long:
        .long   OFFSET(long_mode)
        .long   16
data_cr3:
        .long   0
        .word   0               /* so that the base below is aligned */
gdt_pointer:
        .word   gdt_end - gdt - 1
gdt_base:
        .long   OFFSET(gdt)
        .long   0
data_stack:
        .quad   0
data_entry:
        .quad   0
data_apic_id:
        .long   0
data_ticket:
        .long   0
GLOBAL ap_trampoline_end
        .section .note.GNU-stack, "", @progbits
