/* sources: hypervisor/boot/multiboot.c */
/* Input: a byte that chooses the protocol, then what a boot loader left at physical address 64 KiB. */
#include <stdint.h>
#include <stdlib.h>

#include "../unit/fake_boot.h"

#include "boot/boot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct boot_info info;

    if (!size)
        return 0;
    struct boot_memory memory = {data + 1, 0x10000, size - 1};

    memset(&info, 0, sizeof(info));
    if (boot_parse_multiboot(&info, data[0] & 1 ? MULTIBOOT1_MAGIC : MULTIBOOT2_MAGIC, 0x10000, &memory))
        return 0;
    if (info.range_count > BOOT_MAX_RANGES || info.module_count > BOOT_MAX_MODULES)
        abort();
    for (unsigned i = 1; i < info.range_count; i++)
        if (info.ranges[i].start < info.ranges[i - 1].start + info.ranges[i - 1].size || !info.ranges[i].size)
            abort();
    if (strnlen(info.cmdline, sizeof(info.cmdline)) == sizeof(info.cmdline))
        abort();
    return 0;
}
