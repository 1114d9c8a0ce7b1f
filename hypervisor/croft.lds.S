/* The image: linked at IMAGE_START, loaded at IMAGE_PHYS, one segment so that multiboot 1's address fields can describe it. */
#include "memory/layout.h"

#undef IMAGE_BASE
OUTPUT_FORMAT(elf64-x86-64)
ENTRY(boot_start)
PHDRS { load PT_LOAD FLAGS(7); }

SECTIONS
{
    /* Not at 0: the file offset is the same modulo the segment's alignment, and loaders look for the headers in the first 8 KiB. */
    . = 0xffff828000000000 + 0x1000;
    .text : AT(ADDR(.text) - 0xffff828000000000 + 0x200000) {
        __text_start = .;
        KEEP(*(.multiboot))
        *(.text.entry)
        *(.text .text.*)
        . = ALIGN(4096);
        __init_start = .;
        *(.init.text)
        . = ALIGN(4096);
        __init_end = .;
        __text_end = .;
    } :load
    .rodata : AT(ADDR(.rodata) - 0xffff828000000000 + 0x200000) {
        __rodata_start = .;
        *(.rodata .rodata.*)
        . = ALIGN(8);
        __ex_table_start = .;
        KEEP(*(__ex_table))
        __ex_table_end = .;
        *(.eh_frame .eh_frame_hdr .gcc_except_table)
        *(.symbols)
        . = ALIGN(8);
        __init_array_start = .;
        KEEP(*(SORT(.init_array.*) .init_array))
        __init_array_end = .;
        . = ALIGN(4096);
        __rodata_end = .;
    } :load
    .data : AT(ADDR(.data) - 0xffff828000000000 + 0x200000) {
        __data_start = .;
        *(.data.page_aligned)
        *(.data .data.*)
        *(.got .got.plt .data.rel.ro .data.rel.ro.*)
        *(.tdata .tdata.* .init.data)
        . = ALIGN(4096);
        __load_end = .;
    } :load
    .bss : AT(ADDR(.bss) - 0xffff828000000000 + 0x200000) {
        *(.bss.stack_aligned)
        *(.bss.page_aligned)
        *(.tbss .tbss.* .bss .bss.* COMMON)
        . = ALIGN(4096);
        __image_end = .;
    } :load
    /DISCARD/ : { *(.comment .note .note.* .fini_array .ctors .dtors) }
}
