/* Makes small ELF kernels with Xen notes for tests. */
#ifndef MAKE_ELF_H
#define MAKE_ELF_H

#include <elf.h>
#include <stdint.h>
#include <string.h>

#include <xen/elfnote.h>

#define MADE_BASE 0xffffffff80000000UL
#define MADE_PHYSICAL 0x100000UL
#define MADE_TEXT 0x3000u /* bytes of the first segment, with a pattern */
#define MADE_BSS 0x5000u  /* memory of the second segment; a page of it comes from the file */

struct made_elf {
    uint8_t bytes[0x8000];
    size_t size, notes;
};

static inline void made_note(struct made_elf *e, uint32_t type, const void *desc, uint32_t n)
{
    uint32_t head[3] = {4, n, type};

    memcpy(e->bytes + e->notes, head, 12);
    memcpy(e->bytes + e->notes + 12, "Xen", 4);
    memcpy(e->bytes + e->notes + 16, desc, n);
    e->notes += 16 + (n + 3) / 4 * 4;
    ((Elf64_Phdr *)(e->bytes + 64))[2].p_filesz = e->notes - ((Elf64_Phdr *)(e->bytes + 64))[2].p_offset;
}
static inline void made_number(struct made_elf *e, uint32_t type, uint64_t v) { made_note(e, type, &v, 8); }
static inline void made_text(struct made_elf *e, uint32_t type, const char *s)
{
    made_note(e, type, s, (uint32_t)strlen(s) + 1);
}

/* A file without notes: header, three program headers, text at 0x1000, data at 0x4000, notes from 0x5000 */
static inline void made_begin(struct made_elf *e)
{
    static const uint8_t ident[16] = {0x7f, 'E', 'L', 'F', 2, 1, 1};
    Elf64_Ehdr *h = (Elf64_Ehdr *)e->bytes;
    Elf64_Phdr *p = (Elf64_Phdr *)(e->bytes + 64);

    memset(e, 0, sizeof(*e));
    memcpy(h->e_ident, ident, 16);
    h->e_type = ET_EXEC;
    h->e_machine = EM_X86_64;
    h->e_version = 1;
    h->e_entry = MADE_PHYSICAL;
    h->e_phoff = 64;
    h->e_ehsize = 64;
    h->e_phentsize = sizeof(*p);
    h->e_phnum = 3;
    p[0] = (Elf64_Phdr){.p_type = PT_LOAD,
                        .p_offset = 0x1000,
                        .p_vaddr = MADE_BASE + MADE_PHYSICAL,
                        .p_paddr = MADE_PHYSICAL,
                        .p_filesz = MADE_TEXT,
                        .p_memsz = MADE_TEXT};
    p[1] = (Elf64_Phdr){.p_type = PT_LOAD,
                        .p_offset = 0x4000,
                        .p_vaddr = 0,
                        .p_paddr = MADE_PHYSICAL + 0x4000,
                        .p_filesz = 0x1000,
                        .p_memsz = MADE_BSS};
    p[2] = (Elf64_Phdr){.p_type = PT_NOTE, .p_offset = 0x5000};
    for (unsigned i = 0; i < MADE_TEXT + 0x1000; i++)
        e->bytes[0x1000 + i] = (uint8_t)(i * 31 + i / 256);
    e->size = sizeof(e->bytes);
    e->notes = 0x5000;
}

/* With the notes that every PV kernel has */
static inline void made_kernel(struct made_elf *e)
{
    made_begin(e);
    made_text(e, XEN_ELFNOTE_GUEST_OS, "test");
    made_text(e, XEN_ELFNOTE_GUEST_VERSION, "1.0");
    made_text(e, XEN_ELFNOTE_XEN_VERSION, "xen-3.0");
    made_text(e, XEN_ELFNOTE_LOADER, "generic");
    made_number(e, XEN_ELFNOTE_VIRT_BASE, MADE_BASE);
    made_number(e, XEN_ELFNOTE_ENTRY, MADE_BASE + MADE_PHYSICAL + 0x10);
    made_number(e, XEN_ELFNOTE_HYPERCALL_PAGE, MADE_BASE + MADE_PHYSICAL + 0x1000);
}

#endif
