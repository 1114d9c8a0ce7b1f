/* sources: hypervisor/boot/elf.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "make_elf.h"

#include "boot/elf.h"
#include "hypercall/abi.h"

static struct made_elf made;
static struct elf_image image;
static struct elf_notes notes;

#define HEADER ((Elf64_Ehdr *)made.bytes)
#define SEGMENT(i) ((Elf64_Phdr *)(made.bytes + 64) + (i))
#define REFUSED(text) assert_non_null(strstr(elf_parse(&image, made.bytes, made.size) ?: "accepted", text))

static void good_kernel(void **state)
{
    made_kernel(&made);
    made_number(&made, XEN_ELFNOTE_INIT_P2M, 0x8000000000);
    made_note(&made, XEN_ELFNOTE_MOD_START_PFN, "\1\0\0\0", 4);
    made_note(&made, XEN_ELFNOTE_SUPPORTED_FEATURES, "\1\x88\0\0", 4);
    made_note(&made, XEN_ELFNOTE_L1_MFN_VALID, "\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0", 16);
    made_number(&made, XEN_ELFNOTE_HV_START_LOW, 0xffff800000000000);
    made_text(&made, XEN_ELFNOTE_FEATURES, "!writable_page_tables|pae_pgdir_above_4gb|news");
    made_text(&made, XEN_ELFNOTE_PAE_MODE, "yes");
    assert_null(elf_parse(&image, made.bytes, made.size));
    assert_int_equal(image.segment_count, 2);
    assert_int_equal(image.segments[1].paddr, MADE_PHYSICAL + 0x4000);
    assert_int_equal(image.segments[1].memory_size, MADE_BSS);
    assert_null(elf_parse_notes(&image, &notes));
    assert_string_equal(notes.guest_os, "test");
    assert_string_equal(notes.xen_version, "xen-3.0");
    assert_string_equal(notes.pae_mode, "yes");
    assert_int_equal(notes.virt_base, MADE_BASE);
    assert_int_equal(notes.init_p2m, 0x8000000000);
    assert_true(notes.mod_start_pfn);
    assert_int_equal(notes.l1_valid_value, 1);
    assert_true(elf_has_note(&notes, XEN_ELFNOTE_ENTRY));
    assert_false(elf_has_note(&notes, XEN_ELFNOTE_PADDR_OFFSET));
    assert_int_equal(notes.features, 1UL << XENFEAT_writable_page_tables | 1UL << XENFEAT_pae_pgdir_above_4gb |
                                         1UL << XENFEAT_dom0 | 1UL << XENFEAT_linux_rsdp_unrestricted);
}

static void bad_headers(void **state)
{
    made_kernel(&made);
    made.bytes[0] = 'X';
    REFUSED("not an ELF file");
    made_kernel(&made);
    made.size = 3;
    REFUSED("not an ELF file");
    made.size = 63;
    REFUSED("truncated");
    made_kernel(&made);
    HEADER->e_ident[4] = 1;
    REFUSED("not for 64-bit x86");
    made_kernel(&made);
    HEADER->e_machine = EM_AARCH64;
    REFUSED("not for 64-bit x86");
    made_kernel(&made);
    HEADER->e_type = ET_REL;
    REFUSED("not an executable");
    made_kernel(&made);
    HEADER->e_phoff = ~0UL - 10;
    REFUSED("program headers");
    made_kernel(&made);
    HEADER->e_phoff = made.size - 60;
    REFUSED("program headers");
    made_kernel(&made);
    HEADER->e_phentsize = 8;
    REFUSED("program headers");
    made_kernel(&made);
    HEADER->e_phnum = 0;
    REFUSED("no loadable segment");
    made_kernel(&made);
    HEADER->e_phnum = 0xffff;
    REFUSED("program headers");
}

static void bad_segments(void **state)
{
    made_kernel(&made);
    SEGMENT(1)->p_offset = ~0UL;
    REFUSED("segment lies outside");
    made_kernel(&made);
    SEGMENT(1)->p_filesz = made.size;
    REFUSED("segment lies outside");
    made_kernel(&made);
    SEGMENT(1)->p_memsz = 1;
    REFUSED("absurd size");
    made_kernel(&made);
    SEGMENT(0)->p_memsz = ~0UL;
    REFUSED("absurd size");
    made_kernel(&made);
    SEGMENT(0)->p_paddr = ~0UL - 5;
    REFUSED("absurd size");
    made_kernel(&made);
    HEADER->e_phnum = 40;
    for (unsigned i = 3; i < 40; i++)
        *SEGMENT(i) = *SEGMENT(0);
    REFUSED("too many segments");
}

static const char *parse_notes(void)
{
    assert_null(elf_parse(&image, made.bytes, made.size));
    return elf_parse_notes(&image, &notes) ?: "accepted";
}

static void bad_notes(void **state)
{
    made_begin(&made);
    assert_string_equal(parse_notes(), "accepted");
    assert_int_equal(notes.present, 0);
    made_kernel(&made);
    SEGMENT(2)->p_offset = made.size + 1;
    assert_non_null(strstr(parse_notes(), "notes lie outside"));
    made_kernel(&made);
    SEGMENT(2)->p_filesz = ~0UL;
    assert_non_null(strstr(parse_notes(), "notes lie outside"));
    made_kernel(&made);
    *(uint32_t *)(made.bytes + 0x5000) = 0xffffffff;
    assert_non_null(strstr(parse_notes(), "note lies outside"));
    made_kernel(&made);
    *(uint32_t *)(made.bytes + 0x5004) = 0xfffffffe;
    assert_non_null(strstr(parse_notes(), "note lies outside"));
    made_kernel(&made);
    made_note(&made, XEN_ELFNOTE_INIT_P2M, "abc", 3);
    assert_non_null(strstr(parse_notes(), "neither 4 nor 8"));
    made_kernel(&made);
    made_note(&made, XEN_ELFNOTE_L1_MFN_VALID, "abcdefgh", 8);
    assert_non_null(strstr(parse_notes(), "L1_MFN_VALID"));
    made_kernel(&made); /* texts without an end, or of no length; features of all sorts of separators */
    made_note(&made, XEN_ELFNOTE_GUEST_OS, "abcdefghijklmnopqrstuvwxyz", 26);
    made_note(&made, XEN_ELFNOTE_LOADER, "", 0);
    made_note(&made, XEN_ELFNOTE_FEATURES, "|||!|dom0!|!dom0", 16);
    made_note(&made, XEN_ELFNOTE_SUPPORTED_FEATURES, "", 0);
    assert_string_equal(parse_notes(), "accepted");
    assert_string_equal(notes.guest_os, "abcdefghijklmno");
    assert_string_equal(notes.loader, "");
    assert_int_equal(notes.features, 1UL << XENFEAT_dom0);
}

/* A kernel for PVH only has this one note; Linux writes 4 bytes or 8, by its version. */
static void pvh_entry(void **state)
{
    made_begin(&made);
    made_note(&made, XEN_ELFNOTE_PHYS32_ENTRY, "\x10\0\x20\0", 4);
    assert_string_equal(parse_notes(), "accepted");
    assert_true(elf_has_note(&notes, XEN_ELFNOTE_PHYS32_ENTRY));
    assert_false(elf_has_note(&notes, XEN_ELFNOTE_ENTRY));
    assert_int_equal(notes.phys32_entry, 0x200010);
    made_begin(&made);
    made_number(&made, XEN_ELFNOTE_PHYS32_ENTRY, 0x123456789abc);
    assert_string_equal(parse_notes(), "accepted");
    assert_int_equal(notes.phys32_entry, 0x123456789abc);
    made_begin(&made);
    made_note(&made, XEN_ELFNOTE_PHYS32_ENTRY, "\x10\0", 2);
    assert_non_null(strstr(parse_notes(), "neither 4 nor 8"));
    made_kernel(&made);
    assert_string_equal(parse_notes(), "accepted");
    assert_false(elf_has_note(&notes, XEN_ELFNOTE_PHYS32_ENTRY));
}

/* Some kernels have the notes in a section only. */
static void notes_in_section(void **state)
{
    Elf64_Shdr *s = (Elf64_Shdr *)(made.bytes + 0x6000);

    made_kernel(&made);
    SEGMENT(2)->p_type = PT_NULL;
    HEADER->e_shoff = 0x6000;
    HEADER->e_shentsize = sizeof(*s);
    HEADER->e_shnum = 2;
    s[1] = (Elf64_Shdr){.sh_type = SHT_NOTE, .sh_offset = 0x5000, .sh_size = SEGMENT(2)->p_filesz};
    assert_string_equal(parse_notes(), "accepted");
    assert_string_equal(notes.xen_version, "xen-3.0");
    HEADER->e_shoff = made.size; /* lost sections are no error */
    assert_string_equal(parse_notes(), "accepted");
    assert_int_equal(notes.present, 0);
}

/* Every truncation, and many random damages: no answer is wrong, no read outside (the sanitizers watch). */
static void damage(void **state)
{
    made_kernel(&made);
    for (size_t n = 0; n <= made.size; n += n < 256 ? 1 : 61) {
        uint8_t *copy = malloc(n ? n : 1);

        memcpy(copy, made.bytes, n);
        if (!elf_parse(&image, copy, n))
            (void)elf_parse_notes(&image, &notes);
        free(copy);
    }
    srand(2);
    for (unsigned round = 0; round < 20000; round++) {
        made_kernel(&made);
        for (unsigned i = 0; i < 4; i++)
            made.bytes[rand() % 2 ? rand() % 256 : 0x5000 + rand() % 256] = (uint8_t)rand();
        uint8_t *copy = malloc(made.size);

        memcpy(copy, made.bytes, made.size);
        if (!elf_parse(&image, copy, made.size))
            (void)elf_parse_notes(&image, &notes);
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_kernel), cmocka_unit_test(bad_headers), cmocka_unit_test(bad_segments),
        cmocka_unit_test(bad_notes),   cmocka_unit_test(pvh_entry),   cmocka_unit_test(notes_in_section),
        cmocka_unit_test(damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
