/* sources: hypervisor/boot/payload.c hypervisor/boot/decompress.c hypervisor/boot/elf.c */
/* libs: -llzma -lzstd -llz4 -lz */
/* Input: a boot module. An odd first byte puts the rest as the payload into a bzImage. */
#include <stdint.h>
#include <stdlib.h>

#include "../unit/fake_boot.h"

#include "boot/decompress.h"
#include "boot/payload.h"
#include "memory/alloc.h"

#define MAX_FUZZ_SIZE (4UL << 20) /* larger ones only take time */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

void *heap_alloc(size_t size) { return size <= MAX_FUZZ_SIZE ? calloc(1, size) : NULL; }
void heap_free(void *p) { free(p); }
void decompress_begin(void) {}
void decompress_end(void) {}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint32_t payload_offset = 0, setup = 5 * 512;
    struct payload p;
    uint8_t *module;

    if (!size)
        return 0;
    if (data[0] & 1) {
        uint32_t length = (uint32_t)size - 1;

        module = calloc(1, setup + length);
        memcpy(module + 0x1fe, "\x55\xaa", 2);
        memcpy(module + 0x202, "HdrS\x0f\x02", 6);
        memcpy(module + 0x248, &payload_offset, 4);
        memcpy(module + 0x24c, &length, 4);
        memcpy(module + setup, data + 1, length);
        size = setup + length;
    } else {
        module = malloc(size);
        memcpy(module, data + 1, --size);
    }
    if (payload_unpack(&p, module, size))
        payload_free(&p);
    else if (!p.error[0] || p.pages)
        abort();
    free(module);
    return 0;
}
