/* Calls of zlib, liblzma, libzstd and liblz4. Their own headers only; what they need at run time is in libc_shim.c. */
#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "boot/decompress.h"

#include "lib/string.h"
#include "lib/util.h"

enum decompress_result decompress_gzip(const uint8_t *from, size_t n, uint8_t *to, size_t *size, int *code)
{
    z_stream z;

    memset(&z, 0, sizeof(z));
    if (n > UINT32_MAX || *size > UINT32_MAX)
        return DECOMPRESS_TOO_LARGE;
    z.next_in = (Bytef *)from;
    z.avail_in = (uInt)n;
    z.next_out = to;
    z.avail_out = (uInt)*size;
    *code = inflateInit2(&z, 16 + MAX_WBITS); /* 16: a gzip header is there */
    if (*code != Z_OK)
        return DECOMPRESS_NO_MEMORY;
    *code = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    *size = z.total_out;
    if (*code == Z_STREAM_END)
        return DECOMPRESS_OK;
    if (*code == Z_MEM_ERROR)
        return DECOMPRESS_NO_MEMORY;
    if (*code == Z_BUF_ERROR || *code == Z_OK)
        return z.avail_out ? DECOMPRESS_TRUNCATED : DECOMPRESS_TOO_LARGE;
    return DECOMPRESS_CORRUPT;
}

enum decompress_result decompress_xz(const uint8_t *from, size_t n, uint8_t *to, size_t *size, int *code)
{
    lzma_stream s = LZMA_STREAM_INIT;

    s.next_in = from;
    s.avail_in = n;
    s.next_out = to;
    s.avail_out = *size;
    *code = lzma_stream_decoder(&s, UINT64_MAX, 0);
    if (*code != LZMA_OK)
        return DECOMPRESS_NO_MEMORY;
    do
        *code = lzma_code(&s, LZMA_FINISH);
    while (*code == LZMA_OK);
    *size = s.total_out;
    size_t room = s.avail_out;

    lzma_end(&s);
    switch (*code) {
    case LZMA_STREAM_END:
        return DECOMPRESS_OK;
    case LZMA_MEM_ERROR:
        return DECOMPRESS_NO_MEMORY;
    case LZMA_BUF_ERROR:
        return room ? DECOMPRESS_TRUNCATED : DECOMPRESS_TOO_LARGE;
    default:
        return DECOMPRESS_CORRUPT;
    }
}

/* The frame alone, without what may follow: libzstd would try that as a further frame, also of its old formats. */
enum decompress_result decompress_zstd(const uint8_t *from, size_t n, uint8_t *to, size_t *size, int *code)
{
    size_t frame = ZSTD_findFrameCompressedSize(from, n), result;

    if (ZSTD_isError(frame)) {
        *code = (int)-frame;
        return *code == ZSTD_error_srcSize_wrong ? DECOMPRESS_TRUNCATED : DECOMPRESS_CORRUPT;
    }
    ZSTD_DCtx *context = ZSTD_createDCtx();

    if (!context)
        return DECOMPRESS_NO_MEMORY;
    result = ZSTD_decompressDCtx(context, to, *size, from, frame);
    ZSTD_freeDCtx(context);
    if (ZSTD_isError(result)) {
        *code = (int)-result;
        return *code == ZSTD_error_dstSize_tooSmall ? DECOMPRESS_TOO_LARGE : DECOMPRESS_CORRUPT;
    }
    *size = result;
    return DECOMPRESS_OK;
}

/* The legacy frame format, which `lz4 -l` writes: the magic number, then blocks, each led by its compressed size, that
 * hold 8 MiB of text (the last one less). Frames may follow each other. */
enum decompress_result decompress_lz4(const uint8_t *from, size_t n, uint8_t *to, size_t *size, int *code)
{
    const uint32_t magic = 0x184c2102, block_size = 8U << 20;
    size_t written = 0, position = 0;
    uint32_t length;

    *code = 0;
    while (position < n) {
        if (n - position < sizeof(length))
            return DECOMPRESS_TRUNCATED;
        memcpy(&length, from + position, sizeof(length));
        position += sizeof(length);
        if (length == magic)
            continue;
        if (length > (uint32_t)LZ4_COMPRESSBOUND(block_size))
            return DECOMPRESS_CORRUPT;
        if (length > n - position)
            return DECOMPRESS_TRUNCATED;
        int room = (int)min(*size - written, (size_t)block_size);
        int got = LZ4_decompress_safe((const char *)from + position, (char *)to + written, (int)length, room);

        if (got < 0) { /* a full block that does not fit looks like this as well */
            *code = got;
            return room < (int)block_size ? DECOMPRESS_TOO_LARGE : DECOMPRESS_CORRUPT;
        }
        position += length;
        written += got;
    }
    *size = written;
    return DECOMPRESS_OK;
}

const char *decompress_library(decompress_fn *fn)
{
    return fn == decompress_gzip   ? "zlib"
           : fn == decompress_xz   ? "liblzma"
           : fn == decompress_zstd ? "libzstd"
                                   : "liblz4";
}
