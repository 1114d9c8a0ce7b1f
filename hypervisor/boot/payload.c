/*
 * Kernel payloads. A bzImage holds, behind its real-mode part, a program that would unpack the kernel by itself; its
 * setup header tells where the compressed kernel lies inside that program.
 * Source: Linux Documentation/arch/x86/boot.rst (boot protocol 2.08: payload_offset, payload_length).
 */
#include "boot/payload.h"

#include "boot/decompress.h"
#include "boot/elf.h"
#include "lib/log.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "lib/util.h"
#include "memory/alloc.h"

/* Offsets in the setup header */
#define SETUP_SECTS 0x1f1
#define BOOT_FLAG 0x1fe
#define HEADER_MAGIC 0x202
#define PROTOCOL_VERSION 0x206
#define PAYLOAD_OFFSET 0x248
#define PAYLOAD_LENGTH 0x24c
#define SETUP_HEADER_END 0x250
#define SECTOR 512

#define MAX_UNPACKED (1UL << (MAX_ORDER + PAGE_SHIFT))

static uint32_t read32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

static const struct {
    const char *magic;
    uint8_t length;
    const char *name;
    decompress_fn *unpack;
} formats[] = {
    {"\x1f\x8b\x08", 3, "gzip", decompress_gzip},
    {"\3757zXZ\0", 6, "xz", decompress_xz},
    {"\x28\xb5\x2f\xfd", 4, "zstd", decompress_zstd},
    {"\x02\x21\x4c\x18", 4, "lz4", decompress_lz4},
    {"BZh", 3, "bzip2", NULL},
    {"\x5d\0\0", 3, "lzma", NULL},
    {"\x89LZO", 4, "lzo", NULL},
    {"\x04\x22\x4d\x18", 4, "lz4 frame", NULL},
};

static bool fail(struct payload *p, const char *text)
{
    strlcpy(p->error, text, sizeof(p->error));
    return false;
}

/* Unpacks into fresh pages of 'capacity' bytes at least. */
static enum decompress_result unpack_into(struct payload *p, unsigned format, const uint8_t *from, size_t n,
                                          uint64_t capacity, int *code)
{
    enum decompress_result result;

    p->capacity = capacity;
    p->pages = heap_alloc(capacity);
    if (!p->pages)
        return DECOMPRESS_NO_MEMORY;
    size_t size = capacity;

    decompress_begin();
    result = formats[format].unpack(from, n, p->pages, &size, code);
    decompress_end();
    if (result == DECOMPRESS_OK) {
        p->data = p->pages;
        p->size = size;
    } else {
        payload_free(p);
    }
    return result;
}

/* 'sized': the last four bytes are the unpacked size, as in all payloads of a bzImage; else it is found by trying. */
static bool unpack(struct payload *p, const uint8_t *from, size_t n, bool sized)
{
    enum decompress_result result;
    unsigned format;
    int code = 0;

    for (format = 0; format < ARRAY_SIZE(formats); format++)
        if (n > formats[format].length && !memcmp(from, formats[format].magic, formats[format].length))
            break;
    if (format == ARRAY_SIZE(formats))
        return fail(p, "not a kernel: neither a bzImage, nor an ELF file, nor a compressed one");
    p->compression = formats[format].name;
    if (!formats[format].unpack) {
        snprintf(p->error, sizeof(p->error), "the payload is compressed with %s; use gzip, xz, zstd or lz4",
                 p->compression);
        return false;
    }
    if (formats[format].unpack == decompress_gzip)
        sized = true; /* the format itself ends in it */
    if (sized) {
        uint64_t size = read32(from + n - 4);

        if (!size || size > MAX_UNPACKED) {
            snprintf(p->error, sizeof(p->error),
                     "the %s payload says that it unpacks to %lu bytes: it is corrupt or truncated", p->compression,
                     size);
            return false;
        }
        if (formats[format].unpack != decompress_gzip)
            n -= 4;
        result = unpack_into(p, format, from, n, size, &code);
        if (result == DECOMPRESS_OK && p->size != size) {
            payload_free(p);
            result = DECOMPRESS_TRUNCATED;
        }
        if (result == DECOMPRESS_TOO_LARGE) /* the size is wrong, then */
            result = DECOMPRESS_CORRUPT;
    } else {
        uint64_t size = ROUND_UP((uint64_t)n * 8, 1UL << 20);

        do {
            result = unpack_into(p, format, from, n, min(size, MAX_UNPACKED), &code);
            size *= 2;
        } while (result == DECOMPRESS_TOO_LARGE && size < 2 * MAX_UNPACKED);
    }
    switch (result) {
    case DECOMPRESS_OK:
        return true;
    case DECOMPRESS_NO_MEMORY:
        snprintf(p->error, sizeof(p->error), "not enough memory to unpack the %s payload of %zu KiB", p->compression,
                 n >> 10);
        break;
    case DECOMPRESS_TOO_LARGE:
        snprintf(p->error, sizeof(p->error), "the %s payload unpacks to more than 1 GiB", p->compression);
        break;
    case DECOMPRESS_TRUNCATED:
        snprintf(p->error, sizeof(p->error), "the %s payload is truncated", p->compression);
        break;
    case DECOMPRESS_CORRUPT:
        snprintf(p->error, sizeof(p->error), "the %s payload is corrupt (%s error %d)", p->compression,
                 decompress_library(formats[format].unpack), code);
        break;
    }
    return false;
}

static bool unpack_bzimage(struct payload *p, const uint8_t *module, size_t size)
{
    unsigned sectors = module[SETUP_SECTS] ? module[SETUP_SECTS] : 4; /* 0 means 4, for the oldest kernels' sake */
    unsigned version = module[PROTOCOL_VERSION] | module[PROTOCOL_VERSION + 1] << 8;
    uint64_t start, length;

    p->container = "bzImage";
    if (version < 0x208) {
        snprintf(p->error, sizeof(p->error), "the bzImage is too old: boot protocol %u.%02u, 2.08 is needed",
                 version >> 8, version & 255);
        return false;
    }
    start = (uint64_t)(sectors + 1) * SECTOR + read32(module + PAYLOAD_OFFSET);
    length = read32(module + PAYLOAD_LENGTH);
    if (start > size || length > size - start) {
        snprintf(p->error, sizeof(p->error), "the bzImage is truncated: %zu bytes, and its payload ends at %lu", size,
                 start + length);
        return false;
    }
    if (length < 16)
        return fail(p, "the bzImage has no payload");
    if (elf_is_elf(module + start, length)) { /* CONFIG_KERNEL_UNCOMPRESSED */
        p->compression = "none";
        p->data = module + start;
        p->size = length;
        return true;
    }
    return unpack(p, module + start, length, true);
}

bool payload_unpack(struct payload *p, const void *module, size_t size)
{
    const uint8_t *bytes = module;

    memset(p, 0, sizeof(*p));
    p->compression = "none";
    if (elf_is_elf(module, size)) {
        p->container = "ELF file";
        p->data = module;
        p->size = size;
        return true;
    }
    if (size >= SETUP_HEADER_END && bytes[BOOT_FLAG] == 0x55 && bytes[BOOT_FLAG + 1] == 0xaa &&
        !memcmp(bytes + HEADER_MAGIC, "HdrS", 4)) {
        if (!unpack_bzimage(p, module, size))
            return false;
    } else {
        p->container = "compressed file";
        if (size < 16)
            return fail(p, "not a kernel: the module is almost empty");
        if (!unpack(p, module, size, false))
            return false;
    }
    if (!elf_is_elf(p->data, p->size)) {
        payload_free(p);
        return fail(p, "the payload is not an ELF file");
    }
    return true;
}

void payload_free(struct payload *p)
{
    heap_free(p->pages);
    p->pages = NULL;
    p->capacity = 0;
    p->data = NULL;
    p->size = 0;
}
