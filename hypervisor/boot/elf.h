/* ELF files of 64-bit x86 kernels, and the notes by which a kernel tells how it wants to be started as a PV or PVH domain. */
#ifndef BOOT_ELF_H
#define BOOT_ELF_H

#include "lib/types.h"

#define ELF_MAX_SEGMENTS 16

struct elf_segment {
    uint64_t offset, vaddr, paddr, file_size, memory_size;
}; /* a PT_LOAD with something in memory */
struct elf_image {
    const uint8_t *data;
    size_t size;
    uint64_t entry;
    unsigned segment_count;
    struct elf_segment segments[ELF_MAX_SEGMENTS];
};

/* Checks the file and lists its loadable segments, all of which lie inside it. Returns null, or what is wrong (one line
 * without end of line). 'data' must stay while 'e' is used. */
const char *elf_parse(struct elf_image *e, const void *data, size_t size);
bool elf_is_elf(const void *data, size_t size);

/* The XEN_ELFNOTE_* of <xen/elfnote.h>. 'present' has a bit for each of them that was found. */
struct elf_notes {
    uint32_t present;
    char guest_os[16], guest_version[16], xen_version[16], loader[16], pae_mode[16];
    uint64_t virt_base, entry, hypercall_page, paddr_offset, init_p2m, hv_start_low, suspend_cancel, phys32_entry;
    bool mod_start_pfn;
    uint64_t l1_valid_mask, l1_valid_value;
    uint64_t features; /* bits XENFEAT_* that the kernel can do with; from FEATURES and SUPPORTED_FEATURES */
};
static inline bool elf_has_note(const struct elf_notes *n, unsigned note) { return n->present >> note & 1; }

/* Reads the notes of a file that elf_parse accepted. Returns null, or what is wrong. No note at all is not an error. */
const char *elf_parse_notes(const struct elf_image *e, struct elf_notes *notes);

#endif
