/* sources: */
/* Saving and restoring with the host's own XSAVE, which user programs may execute; only XCR0 is pretended. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/instr.h"

static uint64_t fake_xcr0;
static unsigned xcr0_writes;
#define xsetbv(i, v) (fake_xcr0 = (v), xcr0_writes++)
#define xgetbv(i) fake_xcr0
#include "../../hypervisor/cpu/fpu.c"

struct cpu_features cpu_features;
static struct percpu cpu;
static struct vcpu a, b;

struct percpu *this_cpu(void) { return &cpu; }
void *heap_alloc(size_t size)
{
    void *p = aligned_alloc(64, (size + 63) & ~63UL);

    memset(p, 0, size);
    return p;
}
void heap_free(void *p) { free(p); }
void panic(const char *fmt, ...) { abort(); }
void guest_log(enum log_level level, const char *fmt, ...) {}

static int begin(void **state)
{
    uint32_t max_leaf = cpuid(0, 0).a;

    cpu_features.xsave = cpuid(1, 0).c >> 27 & 1 && max_leaf >= 0xd; /* OSXSAVE: the host's kernel allows it */
    cpu_features.max_ext_leaf = 0x80000008;
    fpu_init_cpu();
    assert_int_equal(fpu_alloc(&a), 0);
    assert_int_equal(fpu_alloc(&b), 0);
    xcr0_writes = 0;
    return 0;
}

static int finish(void **state)
{
    fpu_free(&a);
    fpu_free(&b);
    assert_null(a.fpu);
    return 0;
}

#define SET_XMM15(v) __asm__ volatile("movq %0, %%xmm15" ::"r"((uint64_t)(v)) : "xmm15")
#define GET_XMM15(v) __asm__ volatile("movq %%xmm15, %0" : "=r"(v))

static void each_vcpu_has_its_own_registers(void **state)
{
    uint64_t seen;

    fpu_restore(&a);
    GET_XMM15(seen);
    assert_int_equal(seen, 0);
    SET_XMM15(0x1111);
    fpu_save(&a);
    fpu_restore(&b);
    GET_XMM15(seen);
    assert_int_equal(seen, 0);
    SET_XMM15(0x2222);
    fpu_save(&b);
    for (unsigned i = 0; i < 3; i++) {
        fpu_restore(&a);
        GET_XMM15(seen);
        fpu_save(&a);
        assert_int_equal(seen, 0x1111);
        fpu_restore(&b);
        GET_XMM15(seen);
        fpu_save(&b);
        assert_int_equal(seen, 0x2222);
    }
}

static void a_context_is_taken_over(void **state)
{
    struct area image;
    uint64_t seen, value = 0x123456789abcdef0;

    memset(&image, 0, sizeof(image));
    image.fcw = FCW_INITIAL;
    image.mxcsr = ~0U; /* reserved bits would fault */
    memcpy((char *)&image + 160 + 15 * 16, &value, sizeof(value));
    fpu_set_context(&a, &image);
    assert_int_equal(a.fpu->area.mxcsr & ~mxcsr_mask, 0);
    a.fpu->area.mxcsr = MXCSR_INITIAL;
    fpu_restore(&a);
    GET_XMM15(seen);
    assert_int_equal(seen, value);
    fpu_save(&a);
    fpu_set_context(&a, NULL);
    fpu_restore(&a);
    GET_XMM15(seen);
    assert_int_equal(seen, 0);
    fpu_save(&a);
}

static void xcr0_is_checked_as_the_processor_does(void **state)
{
    uint64_t max = fpu_xcr0_max();

    if (!max)
        skip();
    assert_int_equal(fpu_get_xcr0(&a), 1);
    assert_false(fpu_set_xcr0(&a, 0));
    assert_false(fpu_set_xcr0(&a, XCR0_SSE));
    assert_false(fpu_set_xcr0(&a, XCR0_X87 | XCR0_AVX));
    assert_false(fpu_set_xcr0(&a, XCR0_X87 | XCR0_SSE | 1UL << 5));
    assert_false(fpu_set_xcr0(&a, max | 1UL << 9));
    assert_false(fpu_set_xcr0(&a, max | 1UL << 63));
    assert_int_equal(xcr0_writes, 0);
    assert_true(fpu_set_xcr0(&a, max));
    assert_int_equal(fpu_get_xcr0(&a), max);
    assert_int_equal(xcr0_writes, 0);
    cpu.current_vcpu = &a;
    assert_true(fpu_set_xcr0(&a, XCR0_X87));
    assert_int_equal(fake_xcr0, XCR0_X87);
    cpu.current_vcpu = NULL;
}

static void xcr0_follows_the_vcpu(void **state)
{
    uint64_t max = fpu_xcr0_max();

    if (!max)
        skip();
    fake_xcr0 = max;
    assert_true(fpu_set_xcr0(&a, XCR0_X87));
    assert_true(fpu_set_xcr0(&b, max));
    fpu_restore(&a);
    assert_int_equal(fake_xcr0, XCR0_X87);
    fpu_save(&a);
    assert_int_equal(fake_xcr0, max);
    fpu_restore(&b);
    assert_int_equal(fake_xcr0, max);
    fpu_save(&b);
    assert_int_equal(fake_xcr0, max);
    fpu_restore(&a); /* never saved: its domain died */
    fpu_restore(&b);
    assert_int_equal(fake_xcr0, max);
}

static void sizes_are_those_of_cpuid(void **state)
{
    uint64_t max = fpu_xcr0_max();

    if (!max)
        skip();
    assert_int_equal(fpu_area_size(XCR0_X87), 576);
    assert_int_equal(fpu_area_size(XCR0_X87 | XCR0_SSE), 576);
    if (max & XCR0_AVX)
        assert_int_equal(fpu_area_size(XCR0_X87 | XCR0_SSE | XCR0_AVX), 832);
    assert_true(fpu_area_size(max) <= cpuid(0xd, 0).c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_vcpu_has_its_own_registers, begin, finish),
        cmocka_unit_test_setup_teardown(a_context_is_taken_over, begin, finish),
        cmocka_unit_test_setup_teardown(xcr0_is_checked_as_the_processor_does, begin, finish),
        cmocka_unit_test_setup_teardown(xcr0_follows_the_vcpu, begin, finish),
        cmocka_unit_test_setup_teardown(sizes_are_those_of_cpuid, begin, finish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
