/* sources: */
/* lib/string.c against the C library, its functions renamed so that both are there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define memcpy hv_memcpy
#define memmove hv_memmove
#define memset hv_memset
#define memcmp hv_memcmp
#define memchr hv_memchr
#define strlen hv_strlen
#define strnlen hv_strnlen
#define strcmp hv_strcmp
#define strncmp hv_strncmp
#define strchr hv_strchr
#define strrchr hv_strrchr
#define strstr hv_strstr
#define strlcpy hv_strlcpy
#define strtoul hv_strtoul
#include "../../hypervisor/lib/string.c"
#undef memcpy
#undef memmove
#undef memset
#undef memcmp
#undef memchr
#undef strlen
#undef strnlen
#undef strcmp
#undef strncmp
#undef strchr
#undef strrchr
#undef strstr
#undef strtoul

#undef min
#undef max

static int sign(int x) { return (x > 0) - (x < 0); }

/* All lengths around the thresholds, all alignments */
static void copies(void **state)
{
    enum { N = 300 };
    static uint8_t from[N + 64], to[N + 64], expected[N + 64];

    for (size_t i = 0; i < sizeof(from); i++)
        from[i] = (uint8_t)(i * 7 + 1);
    for (size_t n = 0; n <= N; n++) {
        for (size_t a = 0; a < 9; a++) {
            memset(to, 0xee, sizeof(to));
            memset(expected, 0xee, sizeof(expected));
            memcpy(expected + 8 - a % 8, from + a, n);
            assert_ptr_equal(hv_memcpy(to + 8 - a % 8, from + a, n), to + 8 - a % 8);
            assert_memory_equal(to, expected, sizeof(to));
            memset(expected + a, (int)n, n);
            assert_ptr_equal(hv_memset(to + a, (int)n, n), to + a);
            assert_memory_equal(to, expected, sizeof(to));
        }
    }
}

static void overlapping_moves(void **state)
{
    static uint8_t a[600], b[600];

    for (size_t n = 0; n <= 260; n += n < 40 ? 1 : 17) {
        for (int delta = -40; delta <= 40; delta++) {
            for (size_t i = 0; i < sizeof(a); i++)
                a[i] = b[i] = (uint8_t)(i * 13);
            memmove(a + 100 + delta, a + 100, n);
            hv_memmove(b + 100 + delta, b + 100, n);
            assert_memory_equal(a, b, sizeof(a));
        }
    }
}

static void comparisons(void **state)
{
    static const char *const texts[] = {
        "", "a", "ab", "abc", "abcabcabd", "abcabcabc", "\xff", "abcdefghijklmnop", "abcdefghijklmnoq"};

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        for (size_t j = 0; j < ARRAY_SIZE(texts); j++) {
            const char *s = texts[i], *t = texts[j];
            size_t n = strlen(s) < strlen(t) ? strlen(s) : strlen(t);

            assert_int_equal(sign(hv_strcmp(s, t)), sign(strcmp(s, t)));
            assert_int_equal(sign(hv_memcmp(s, t, n)), sign(memcmp(s, t, n)));
            assert_int_equal(sign(hv_strncmp(s, t, 2)), sign(strncmp(s, t, 2)));
            assert_ptr_equal(hv_strstr(s, t), strstr(s, t));
        }
        assert_int_equal(hv_strlen(texts[i]), strlen(texts[i]));
        assert_int_equal(hv_strnlen(texts[i], 3), strnlen(texts[i], 3));
        for (int c = 0; c < 256; c += 1) {
            assert_ptr_equal(hv_strchr(texts[i], c), strchr(texts[i], c));
            assert_ptr_equal(hv_strrchr(texts[i], c), strrchr(texts[i], c));
            assert_ptr_equal(hv_memchr(texts[i], c, strlen(texts[i])), memchr(texts[i], c, strlen(texts[i])));
        }
    }
}

static void bounded_copy(void **state)
{
    char to[4] = "xxx";

    assert_int_equal(hv_strlcpy(to, "ab", sizeof(to)), 2);
    assert_string_equal(to, "ab");
    assert_int_equal(hv_strlcpy(to, "abcdef", sizeof(to)), 6);
    assert_string_equal(to, "abc");
    assert_int_equal(hv_strlcpy(to, "zz", 0), 2);
    assert_string_equal(to, "abc");
}

static void numbers(void **state)
{
    static const char *const texts[] = {"0",
                                        "10",
                                        "0x1f",
                                        "0X1Fg",
                                        "017",
                                        "08",
                                        "0x",
                                        "0xg",
                                        "",
                                        "-",
                                        "-1",
                                        "+7",
                                        " \t42 ",
                                        "x",
                                        "18446744073709551615",
                                        "18446744073709551616",
                                        "99999999999999999999999",
                                        "zz",
                                        "7fffffff"};

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        for (int base = 0; base <= 36; base += base == 0 ? 8 : base == 8 ? 2 : base == 10 ? 6 : 20) {
            char *end, *hv_end;
            unsigned long v = strtoul(texts[i], &end, base), w = hv_strtoul(texts[i], &hv_end, base);

            if (v != w || end != hv_end)
                print_error("'%s' base %d\n", texts[i], base);
            assert_int_equal(v, w);
            assert_ptr_equal(end, hv_end);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies),       cmocka_unit_test(overlapping_moves), cmocka_unit_test(comparisons),
        cmocka_unit_test(bounded_copy), cmocka_unit_test(numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
