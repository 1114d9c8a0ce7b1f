/*
 * From a boot module to the ELF file of a kernel: a Linux bzImage with a compressed payload, a compressed ELF file, or
 * an ELF file as it is. Unpacking is done by the distribution's own libraries, linked into the image; the code around
 * them gives them what they need (libc_shim.c). Boot time only; the result may be kept, and freed, for as long as one likes.
 */
#ifndef BOOT_PAYLOAD_H
#define BOOT_PAYLOAD_H

#include "lib/types.h"

struct payload {
    const char *container;   /* "bzImage", "compressed file", "ELF file" */
    const char *compression; /* "gzip", "xz", "zstd", "lz4", or "none" */
    const uint8_t *data;     /* the ELF file */
    size_t size;
    void *pages;     /* of heap_alloc, or null if data lies in the module */
    size_t capacity; /* bytes of 'pages' */
    char error[112]; /* what is wrong, one line without end of line, if payload_unpack gave false */
};

bool payload_unpack(struct payload *p, const void *module, size_t size);
void payload_free(struct payload *p);

#endif
