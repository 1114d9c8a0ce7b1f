/*
 * What the static decompression libraries take from a C library, and the processor state they count on. They were
 * compiled for user space: they use SSE registers (CR0.EM and TS clear, CR4.OSFXSR set), and read the stack protector's
 * canary at %fs:0x28 (System V ABI for thread-local storage), so the FS base has to point at something like a thread
 * block. memcpy and its like are Croft's own (lib/string.c).
 */
#include "boot/decompress.h"

#include "cpu/instr.h"
#include "lib/log.h"
#include "memory/alloc.h"

#define CANARY_OFFSET 0x28

void *malloc(size_t size);
void *calloc(size_t count, size_t size);
void free(void *p);
void __stack_chk_fail(void) __noreturn;

static uint64_t thread_block[16] __aligned(16);
static struct {
    unsigned long cr0, cr4;
    uint64_t fs_base;
} saved;

/* Constructors of the linked libraries (liblzma chooses its CRC64 code in one); the linker script names the array. */
extern void (*const __init_array_start[])(void);
extern void (*const __init_array_end[])(void);
static bool constructed;

void decompress_begin(void)
{
    saved.cr0 = read_cr0();
    saved.cr4 = read_cr4();
    saved.fs_base = rdmsr(MSR_FS_BASE);
    write_cr0((saved.cr0 & ~(CR0_EM | CR0_TS)) | CR0_MP);
    write_cr4(saved.cr4 | CR4_OSFXSR | CR4_OSXMMEXCPT);
    thread_block[CANARY_OFFSET / 8] = rdtsc() | 1;
    wrmsr(MSR_FS_BASE, (unsigned long)thread_block);
    if (!constructed) {
        constructed = true;
        for (void (*const *fn)(void) = __init_array_start; fn < __init_array_end; fn++)
            (*fn)();
    }
}

void decompress_end(void)
{
    wrmsr(MSR_FS_BASE, saved.fs_base);
    write_cr4(saved.cr4);
    write_cr0(saved.cr0);
}

void *malloc(size_t size) { return heap_alloc(size ? size : 1); }
void free(void *p) { heap_free(p); }

void *calloc(size_t count, size_t size)
{
    size_t total;

    if (__builtin_mul_overflow(count, size, &total))
        return NULL;
    return malloc(total); /* zeroed already */
}

void __stack_chk_fail(void) { panic("a decompression library overwrote its stack\n"); }

/* Tracing hooks of libzstd, weak there: the weak reference's address 0 is out of reach from where Croft is linked.
 * 0: do not trace. */
unsigned long long ZSTD_trace_decompress_begin(const void *context);
void ZSTD_trace_decompress_end(unsigned long long trace, const void *info);
unsigned long long ZSTD_trace_decompress_begin(const void *context) { return 0; }
void ZSTD_trace_decompress_end(unsigned long long trace, const void *info) {}
