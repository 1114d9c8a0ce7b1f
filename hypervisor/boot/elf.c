/*
 * ELF: enough of it for kernels. All offsets come from a file that may be damaged, so each is checked against the
 * file's size before it is used, without sums that could wrap.
 * Source: System V ABI, "Object Files"; notes: <xen/elfnote.h>.
 */
#include "boot/elf.h"

#include "hypercall/abi.h"
#include "lib/string.h"
#include "lib/util.h"

#define ELFCLASS64 2
#define ELFDATA2LSB 1
#define ET_EXEC 2
#define ET_DYN 3
#define EM_X86_64 62
#define PT_LOAD 1
#define PT_NOTE 4
#define SHT_NOTE 7

struct elf_header {
    uint8_t ident[16];
    uint16_t type, machine;
    uint32_t version;
    uint64_t entry, phoff, shoff;
    uint32_t flags;
    uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};
struct elf_program_header {
    uint32_t type, flags;
    uint64_t offset, vaddr, paddr, file_size, memory_size, align;
};
struct elf_section_header {
    uint32_t name, type;
    uint64_t flags, address, offset, size;
    uint32_t link, info;
    uint64_t align, entry_size;
};
struct elf_note {
    uint32_t name_size, desc_size, type;
};

static bool inside(const struct elf_image *e, uint64_t offset, uint64_t size)
{
    return offset <= e->size && size <= e->size - offset;
}

bool elf_is_elf(const void *data, size_t size) { return size >= 4 && !memcmp(data, "\177ELF", 4); }

/* The i-th entry of a table of headers; false if it lies outside the file. */
static bool read_header(const struct elf_image *e, uint64_t table, uint16_t entry_size, unsigned i, void *to, size_t n)
{
    uint64_t offset = (uint64_t)i * entry_size;

    if (entry_size < n || table > e->size || !inside(e, table + offset, n))
        return false;
    memcpy(to, e->data + table + offset, n);
    return true;
}

const char *elf_parse(struct elf_image *e, const void *data, size_t size)
{
    struct elf_header h;

    *e = (struct elf_image){.data = data, .size = size};
    if (!elf_is_elf(data, size))
        return "not an ELF file";
    if (size < sizeof(h))
        return "the ELF file is truncated";
    memcpy(&h, data, sizeof(h));
    if (h.ident[4] != ELFCLASS64 || h.ident[5] != ELFDATA2LSB || h.machine != EM_X86_64)
        return "the ELF file is not for 64-bit x86";
    if (h.type != ET_EXEC && h.type != ET_DYN)
        return "the ELF file is not an executable";
    e->entry = h.entry;
    for (unsigned i = 0; i < h.phnum; i++) {
        struct elf_program_header p;

        if (!read_header(e, h.phoff, h.phentsize, i, &p, sizeof(p)))
            return "the ELF file is truncated: its program headers lie outside it";
        if (p.type != PT_LOAD || !p.memory_size)
            continue;
        if (!inside(e, p.offset, p.file_size))
            return "the ELF file is truncated: a segment lies outside it";
        if (p.file_size > p.memory_size || p.vaddr + p.memory_size < p.vaddr || p.paddr + p.memory_size < p.paddr)
            return "the ELF file is corrupt: a segment has an absurd size";
        if (e->segment_count == ELF_MAX_SEGMENTS)
            return "the ELF file has too many segments";
        e->segments[e->segment_count++] = (struct elf_segment){p.offset, p.vaddr, p.paddr, p.file_size, p.memory_size};
    }
    return e->segment_count ? NULL : "the ELF file has no loadable segment";
}

static const char *const feature_names[] = {
    [XENFEAT_writable_page_tables] = "writable_page_tables",
    [XENFEAT_writable_descriptor_tables] = "writable_descriptor_tables",
    [XENFEAT_auto_translated_physmap] = "auto_translated_physmap",
    [XENFEAT_supervisor_mode_kernel] = "supervisor_mode_kernel",
    [XENFEAT_pae_pgdir_above_4gb] = "pae_pgdir_above_4gb",
    [XENFEAT_dom0] = "dom0",
};

/* "a|!b|c": the kernel can do with a, b and c. It is said to need b, but kernels write "!writable_page_tables" and run
 * without that, so the mark decides nothing. */
static void parse_features(struct elf_notes *notes, const char *text, size_t n)
{
    for (size_t i = 0; i < n && text[i]; i++) {
        if (text[i] == '!')
            i++;
        size_t start = i;

        while (i < n && text[i] && text[i] != '|')
            i++;
        for (unsigned f = 0; f < ARRAY_SIZE(feature_names); f++)
            if (feature_names[f] && strlen(feature_names[f]) == i - start &&
                !memcmp(feature_names[f], text + start, i - start))
                notes->features |= 1UL << f;
        if (i < n && !text[i])
            break;
    }
}

/* Numbers come with 4 or 8 bytes, depending on the kernel's word size. */
static uint64_t note_number(const uint8_t *desc, uint32_t n)
{
    uint64_t v = 0;

    memcpy(&v, desc, min(n, 8U));
    return v;
}

static void note_text(char *to, size_t size, const uint8_t *desc, uint32_t n)
{
    size_t length = strnlen((const char *)desc, min((size_t)n, size - 1));

    memcpy(to, desc, length);
    to[length] = 0;
}

static const char *take_note(struct elf_notes *notes, uint32_t type, const uint8_t *desc, uint32_t n)
{
    uint64_t *number = NULL;

    switch (type) {
    case XEN_ELFNOTE_ENTRY:
        number = &notes->entry;
        break;
    case XEN_ELFNOTE_HYPERCALL_PAGE:
        number = &notes->hypercall_page;
        break;
    case XEN_ELFNOTE_VIRT_BASE:
        number = &notes->virt_base;
        break;
    case XEN_ELFNOTE_PADDR_OFFSET:
        number = &notes->paddr_offset;
        break;
    case XEN_ELFNOTE_INIT_P2M:
        number = &notes->init_p2m;
        break;
    case XEN_ELFNOTE_HV_START_LOW:
        number = &notes->hv_start_low;
        break;
    case XEN_ELFNOTE_SUSPEND_CANCEL:
        number = &notes->suspend_cancel;
        break;
    case XEN_ELFNOTE_PHYS32_ENTRY:
        number = &notes->phys32_entry;
        break;
    case XEN_ELFNOTE_XEN_VERSION:
        note_text(notes->xen_version, sizeof(notes->xen_version), desc, n);
        break;
    case XEN_ELFNOTE_GUEST_OS:
        note_text(notes->guest_os, sizeof(notes->guest_os), desc, n);
        break;
    case XEN_ELFNOTE_GUEST_VERSION:
        note_text(notes->guest_version, sizeof(notes->guest_version), desc, n);
        break;
    case XEN_ELFNOTE_LOADER:
        note_text(notes->loader, sizeof(notes->loader), desc, n);
        break;
    case XEN_ELFNOTE_PAE_MODE:
        note_text(notes->pae_mode, sizeof(notes->pae_mode), desc, n);
        break;
    case XEN_ELFNOTE_FEATURES:
        parse_features(notes, (const char *)desc, n);
        break;
    case XEN_ELFNOTE_SUPPORTED_FEATURES:
        notes->features |= note_number(desc, n);
        break;
    case XEN_ELFNOTE_MOD_START_PFN:
        notes->mod_start_pfn = note_number(desc, n) != 0;
        break;
    case XEN_ELFNOTE_L1_MFN_VALID:
        if (n < 16)
            return "the kernel's note L1_MFN_VALID is too short";
        notes->l1_valid_mask = note_number(desc, 8);
        notes->l1_valid_value = note_number(desc + 8, 8);
        break;
    }
    if (number) {
        if (n != 4 && n != 8)
            return "a Xen note of the kernel has a number that is neither 4 nor 8 bytes long";
        *number = note_number(desc, n);
    }
    if (type <= XEN_ELFNOTE_MAX)
        notes->present |= 1U << type;
    return NULL;
}

static const char *walk_notes(const uint8_t *p, uint64_t size, struct elf_notes *notes)
{
    while (size >= sizeof(struct elf_note)) {
        struct elf_note note;

        memcpy(&note, p, sizeof(note));
        uint64_t name = ROUND_UP((uint64_t)note.name_size, 4), desc = ROUND_UP((uint64_t)note.desc_size, 4);

        p += sizeof(note);
        size -= sizeof(note);
        /* The last description need not be padded. */
        if (name > size || note.desc_size > size - name)
            return "the ELF file is corrupt: a note lies outside its segment";
        if (note.name_size == 4 && !memcmp(p, "Xen", 4)) {
            const char *error = take_note(notes, note.type, p + name, note.desc_size);

            if (error)
                return error;
        }
        if (desc > size - name)
            break;
        p += name + desc;
        size -= name + desc;
    }
    return NULL;
}

const char *elf_parse_notes(const struct elf_image *e, struct elf_notes *notes)
{
    struct elf_header h;
    const char *error;

    memset(notes, 0, sizeof(*notes));
    memcpy(&h, e->data, sizeof(h));
    for (unsigned i = 0; i < h.phnum; i++) {
        struct elf_program_header p;

        if (!read_header(e, h.phoff, h.phentsize, i, &p, sizeof(p)))
            return "the ELF file is truncated: its program headers lie outside it";
        if (p.type != PT_NOTE)
            continue;
        if (!inside(e, p.offset, p.file_size))
            return "the ELF file is truncated: its notes lie outside it";
        error = walk_notes(e->data + p.offset, p.file_size, notes);
        if (error)
            return error;
    }
    if (notes->present)
        return NULL;
    /* Some kernels have the notes in a section only. */
    for (unsigned i = 0; i < h.shnum; i++) {
        struct elf_section_header s;

        if (!read_header(e, h.shoff, h.shentsize, i, &s, sizeof(s)))
            break; /* sections are not needed to run; a stripped file may have lost them */
        if (s.type != SHT_NOTE || !inside(e, s.offset, s.size))
            continue;
        error = walk_notes(e->data + s.offset, s.size, notes);
        if (error)
            return error;
    }
    return NULL;
}
