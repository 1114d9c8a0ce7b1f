/* sources: hypervisor/boot/elf.c */
/* Input: an ELF file. Every segment of an accepted one lies inside it. */
#include <stdint.h>
#include <stdlib.h>

#include "../unit/fake_boot.h"

#include "boot/elf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct elf_image e;
    struct elf_notes notes;

    if (elf_parse(&e, data, size))
        return 0;
    for (unsigned i = 0; i < e.segment_count; i++)
        if (e.segments[i].offset > size || e.segments[i].file_size > size - e.segments[i].offset ||
            e.segments[i].file_size > e.segments[i].memory_size)
            abort();
    (void)elf_parse_notes(&e, &notes);
    return 0;
}
