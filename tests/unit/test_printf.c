/* sources: */
/* lib/printf.c against the C library. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define snprintf hv_snprintf
#define vsnprintf hv_vsnprintf
#include "../../hypervisor/lib/printf.c"
#undef snprintf
#undef vsnprintf

/* Same text and same length, also when cut */
#define SAME(...)                                                                                                      \
    do {                                                                                                               \
        for (size_t size_ = 0; size_ <= 64; size_ += size_ < 8 ? 1 : 56) {                                             \
            char a_[80], b_[80];                                                                                       \
            memset(a_, '~', sizeof(a_));                                                                               \
            memset(b_, '~', sizeof(b_));                                                                               \
            int n_ = snprintf(a_, size_, __VA_ARGS__), m_ = hv_snprintf(b_, size_, __VA_ARGS__);                       \
            if (memcmp(a_, b_, sizeof(a_)))                                                                            \
                print_error("'%.*s' and '%.*s'\n", 60, a_, 60, b_);                                                    \
            assert_int_equal(n_, m_);                                                                                  \
            assert_memory_equal(a_, b_, size_ + 1);                                                                    \
        }                                                                                                              \
    } while (0)

#pragma GCC diagnostic ignored "-Wformat"
#pragma GCC diagnostic ignored "-Wformat-truncation"
#pragma GCC diagnostic ignored "-Wformat-overflow"

static void integers(void **state)
{
    static const long values[] = {0,
                                  1,
                                  -1,
                                  9,
                                  10,
                                  255,
                                  65535,
                                  123456,
                                  -123456,
                                  0x7fffffff,
                                  -0x7fffffff - 1L,
                                  0x7fffffffffffffffL,
                                  -0x7fffffffffffffffL - 1};

    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        long v = values[i];

        SAME("%ld|%lu|%lx|%lX", v, v, v, v);
        SAME("%d|%i|%u|%x", (int)v, (int)v, (int)v, (int)v);
        SAME("%12ld|%-12ld|%012ld|%+ld|% ld", v, v, v, v, v);
        SAME("%#lx|%#018lx|%#X", v, v, (int)v);
        SAME("%.3ld|%8.5ld|%-8.5ldx|%08.3ld", v, v, v, v);
        SAME("%*ld|%-*ld|%.*ld", 9, v, 9, v, 4, v);
        SAME("%*ld|", -9, v);
        SAME("%zu|%zx", (size_t)v, (size_t)v);
        SAME("%llx", (long long)v);
    }
    SAME("%.0d|", 0);
    SAME("%.d|", 7);
}

static void texts(void **state)
{
    SAME("%s|%10s|%-10s|", "text", "text", "text");
    SAME("%.2s|%10.3s|%-10.0s|%.*s", "text", "text", "text", 3, "text");
    SAME("%c|%3c|%-3c|", 'x', 'y', 'z');
    SAME("100%%");
    SAME("%s", "");
    SAME("%.3s", (char[]){'a', 'b', 'c'}); /* not terminated: no more than the precision is read */
}

static void pointers_and_oddities(void **state)
{
    char buf[64];

    assert_int_equal(hv_snprintf(buf, sizeof(buf), "%p", (void *)0x1234), 18);
    assert_string_equal(buf, "0x0000000000001234");
    hv_snprintf(buf, sizeof(buf), "%s", (char *)NULL);
    assert_string_equal(buf, "(null)");
    hv_snprintf(buf, sizeof(buf), "%y%");
    assert_string_equal(buf, "%y");
    assert_int_equal(hv_snprintf(NULL, 0, "%d", 1234), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers),
        cmocka_unit_test(texts),
        cmocka_unit_test(pointers_and_oddities),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
