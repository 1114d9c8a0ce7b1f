/* sources: hypervisor/boot/payload.c hypervisor/boot/decompress.c hypervisor/boot/elf.c */
/* libs: -llzma -lzstd -llz4 -lz */
/* Kernels packed by the tools that kernel builds use, then damaged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_boot.h"
#include "make_elf.h"

#include "boot/decompress.h"
#include "boot/payload.h"
#include "memory/alloc.h"

static bool no_memory;
static unsigned pages_out, inside;

void *heap_alloc(size_t size)
{
    if (no_memory || size > PAGE_SIZE << MAX_ORDER)
        return NULL;
    pages_out++;
    return calloc(1, size);
}
void heap_free(void *p)
{
    pages_out -= p != NULL;
    free(p);
}
void decompress_begin(void) { inside++; }
void decompress_end(void) { inside--; }

static struct made_elf kernel;
static struct payload payload;

struct blob {
    uint8_t *bytes;
    size_t size;
};

/* The kernel's text through a shell command */
static struct blob pack(const char *command, const void *from, size_t n)
{
    char in[] = "/tmp/croft-test-XXXXXX", line[256];
    struct blob b = {malloc(1 << 20), 0};
    int fd = mkstemp(in);

    assert_true(fd >= 0 && write(fd, from, n) == (ssize_t)n);
    close(fd);
    snprintf(line, sizeof(line), "%s <%s", command, in);
    FILE *f = popen(line, "r");

    b.size = fread(b.bytes, 1, 1 << 20, f);
    assert_int_equal(pclose(f), 0);
    unlink(in);
    return b;
}

static void append_size(struct blob *b, uint32_t size)
{
    memcpy(b->bytes + b->size, &size, 4);
    b->size += 4;
}

/* A bzImage around a payload: two setup sectors, 256 bytes of other code, the payload, some more */
static struct blob wrap(const struct blob *p)
{
    const uint32_t offset = 256, length = (uint32_t)p->size;
    struct blob b = {calloc(1, 3 * 512 + offset + p->size + 100), 3 * 512 + offset + p->size + 100};

    b.bytes[0x1f1] = 2;
    memcpy(b.bytes + 0x1fe, "\x55\xaa", 2);
    memcpy(b.bytes + 0x202, "HdrS\x0f\x02", 6);
    memcpy(b.bytes + 0x248, &offset, 4);
    memcpy(b.bytes + 0x24c, &length, 4);
    memcpy(b.bytes + 3 * 512 + offset, p->bytes, p->size);
    return b;
}

static bool unpack(const struct blob *b)
{
    /* Exactly as large as it is, so that the sanitizer sees each read behind it */
    uint8_t *copy = malloc(b->size ? b->size : 1);

    memcpy(copy, b->bytes, b->size);
    bool ok = payload_unpack(&payload, copy, b->size);

    if (ok) {
        assert_int_equal(payload.size, kernel.size);
        assert_memory_equal(payload.data, kernel.bytes, kernel.size);
        payload_free(&payload);
    } else {
        assert_true(payload.error[0] && !strchr(payload.error, '\n'));
        assert_null(payload.pages);
    }
    assert_int_equal(pages_out, 0);
    assert_int_equal(inside, 0);
    free(copy);
    return ok;
}
static void refused(const struct blob *b, const char *text)
{
    assert_false(unpack(b));
    if (!strstr(payload.error, text))
        print_error("error: %s\n", payload.error);
    assert_non_null(strstr(payload.error, text));
}

static const struct {
    const char *name, *command;
    bool has_size;
} formats[] = {
    {"gzip", "gzip -n -f -9", true},          {"xz", "xz --check=crc32 --x86 --lzma2=dict=32MiB", false},
    {"xz", "xz --check=crc64", false},        {"zstd", "zstd -q -22 --ultra", false},
    {"zstd", "zstd -q -3 --no-check", false}, {"lz4", "lz4 -q -l -9 -", false},
};

static int make_kernel(void **state)
{
    made_kernel(&kernel);
    return 0;
}

static void bzimages(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        struct blob p = pack(formats[i].command, kernel.bytes, kernel.size);

        if (!formats[i].has_size)
            append_size(&p, (uint32_t)kernel.size);
        struct blob b = wrap(&p);

        assert_true(unpack(&b));
        assert_string_equal(payload.container, "bzImage");
        assert_string_equal(payload.compression, formats[i].name);
        free(p.bytes);
        free(b.bytes);
    }
}

static void compressed_files(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        struct blob p = pack(formats[i].command, kernel.bytes, kernel.size);

        assert_true(unpack(&p));
        assert_string_equal(payload.compression, formats[i].name);
        free(p.bytes);
    }
}

/* Unpacks to much more than the first guess of eight times the size */
static void compresses_well(void **state)
{
    static uint8_t large[24 << 20];
    struct blob p;

    memcpy(large, kernel.bytes, kernel.size);
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        p = pack(formats[i].command, large, sizeof(large));
        assert_true(payload_unpack(&payload, p.bytes, p.size));
        assert_int_equal(payload.size, sizeof(large));
        assert_memory_equal(payload.data, large, sizeof(large));
        payload_free(&payload);
        free(p.bytes);
    }
}

static void plain_elf(void **state)
{
    struct blob b = {kernel.bytes, kernel.size}, image;

    assert_true(unpack(&b));
    assert_string_equal(payload.compression, "none");
    image = wrap(&b);
    assert_true(unpack(&image));
    assert_string_equal(payload.container, "bzImage");
    free(image.bytes);
}

static void no_kernels(void **state)
{
    struct blob text = {(uint8_t *)"This is not a kernel at all, but some text.", 43}, empty = {NULL, 0}, p, b;

    empty.bytes = text.bytes;
    refused(&text, "not a kernel");
    refused(&empty, "almost empty");
    p = pack("gzip", text.bytes, text.size);
    refused(&p, "not an ELF file");
    free(p.bytes);
    p = pack("lz4 -q -", kernel.bytes, kernel.size);
    refused(&p, "compressed with lz4 frame; use gzip");
    free(p.bytes);
    b = wrap(&text);
    refused(&b, "neither a bzImage");
    b.bytes[0x206] = 5;
    refused(&b, "boot protocol 2.05, 2.08 is needed");
    b.bytes[0x206] = 15;
    memset(b.bytes + 0x24c, 0xff, 4);
    refused(&b, "the bzImage is truncated");
    memset(b.bytes + 0x24c, 0, 4);
    refused(&b, "no payload");
    memset(b.bytes + 0x248, 0xff, 4);
    refused(&b, "the bzImage is truncated");
    free(b.bytes);
}

static void truncated(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        struct blob p = pack(formats[i].command, kernel.bytes, kernel.size), b;

        for (size_t n = 0; n < p.size; n += n < 64 ? 1 : 997) {
            struct blob part = {p.bytes, n};

            assert_false(unpack(&part)); /* as a file */
            part.bytes = malloc(n + 4);
            memcpy(part.bytes, p.bytes, n);
            append_size(&part, (uint32_t)kernel.size);
            b = wrap(&part);
            assert_false(unpack(&b)); /* in a bzImage */
            free(b.bytes);
            free(part.bytes);
        }
        append_size(&p, (uint32_t)kernel.size);
        b = wrap(&p);
        b.size -= 200;
        refused(&b, "the bzImage is truncated");
        free(p.bytes);
        free(b.bytes);
    }
}

static void corrupt(void **state)
{
    srand(3);
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        struct blob p = pack(formats[i].command, kernel.bytes, kernel.size), b;

        append_size(&p, (uint32_t)kernel.size);
        for (unsigned round = 0; round < 200; round++) {
            b = wrap(&p);
            for (unsigned j = 0; j < 8; j++)
                b.bytes[3 * 512 + 256 + 16 + rand() % (p.size - 20)] ^= (uint8_t)(1 + rand() % 255);
            bool ok = payload_unpack(&payload, b.bytes, b.size);

            if (ok)
                payload_free(&payload); /* formats without a checksum may not notice */
            else
                assert_non_null(strstr(payload.error, formats[i].name));
            if (!strcmp(formats[i].name, "xz"))
                assert_false(ok);
            assert_int_equal(pages_out, 0);
            free(b.bytes);
        }
        free(p.bytes);
    }
}

static void wrong_sizes(void **state)
{
    static const uint32_t sizes[] = {0, 1, 4096, 0x7fff, 0x8001, 0x100000, 0x40000001, 0xffffffff};

    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        struct blob p = pack(formats[i].command, kernel.bytes, kernel.size);

        if (!formats[i].has_size)
            append_size(&p, 0);
        for (size_t j = 0; j < ARRAY_SIZE(sizes); j++) {
            memcpy(p.bytes + p.size - 4, &sizes[j], 4);
            struct blob b = wrap(&p);

            refused(&b, sizes[j] && sizes[j] <= 0x40000000 ? formats[i].name : "corrupt or truncated");
            free(b.bytes);
        }
        free(p.bytes);
    }
}

static void out_of_memory(void **state)
{
    struct blob p = pack(formats[1].command, kernel.bytes, kernel.size);

    no_memory = true;
    refused(&p, "not enough memory to unpack the xz payload");
    no_memory = false;
    free(p.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bzimages),  cmocka_unit_test(compressed_files), cmocka_unit_test(compresses_well),
        cmocka_unit_test(plain_elf), cmocka_unit_test(no_kernels),       cmocka_unit_test(truncated),
        cmocka_unit_test(corrupt),   cmocka_unit_test(wrong_sizes),      cmocka_unit_test(out_of_memory),
    };

    return cmocka_run_group_tests(tests, make_kernel, NULL);
}
