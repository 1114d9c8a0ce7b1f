/* The decompression libraries behind one interface. */
#ifndef BOOT_DECOMPRESS_H
#define BOOT_DECOMPRESS_H

#include "lib/types.h"

enum decompress_result {
    DECOMPRESS_OK,
    DECOMPRESS_CORRUPT,
    DECOMPRESS_TRUNCATED,
    DECOMPRESS_TOO_LARGE,
    DECOMPRESS_NO_MEMORY
};

/* Unpacks n bytes at 'from' into 'to'. *size: room there; after DECOMPRESS_OK, what was written. *code: the library's
 * own error number in case of DECOMPRESS_CORRUPT. Call between decompress_begin and decompress_end. */
typedef enum decompress_result decompress_fn(const uint8_t *from, size_t n, uint8_t *to, size_t *size, int *code);
decompress_fn decompress_gzip, decompress_xz, decompress_zstd, decompress_lz4;

const char *decompress_library(decompress_fn *fn); /* "zlib", "liblzma", ... for messages */

/* The libraries are ordinary hosted code: between these two calls the processor runs it (libc_shim.c). Interrupts stay
 * as they are; no vcpu may have state in the FPU registers. */
void decompress_begin(void);
void decompress_end(void);

#endif
