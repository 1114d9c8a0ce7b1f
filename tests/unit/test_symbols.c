/* sources: hypervisor/lib/symbols.c */
/* The lookup on a text section and a table of the test's own, in the form that tools/gen-symbols writes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/symbols.h"

__asm__(".text\n"
        ".globl __text_start, __text_end\n"
        "__text_start: .skip 0x100\n"
        "__text_end:\n"
        ".section .rodata\n"
        ".balign 4\n"
        ".globl symbol_table_count, symbol_table, symbol_names\n"
        "symbol_table_count: .long 3\n"
        "symbol_table: .long 0x10, 0, 0x20, 6, 0x80, 10\n"
        "symbol_names: .asciz \"first\", \"mid\", \"last\"\n"
        ".text\n");
extern const char __text_start[], __text_end[];

static void check(unsigned long at, const char *name, unsigned long offset)
{
    unsigned long got = ~0UL;
    const char *s = symbol_lookup((unsigned long)__text_start + at, &got);

    assert_non_null(s);
    assert_string_equal(s, name);
    assert_int_equal(got, offset);
}

static void finds_the_symbol_below(void **state)
{
    check(0x10, "first", 0);
    check(0x1f, "first", 15);
    check(0x20, "mid", 0);
    check(0x7f, "mid", 0x5f);
    check(0x80, "last", 0);
    check(0xff, "last", 0x7f);
}

static void outside_is_nothing(void **state)
{
    unsigned long offset;

    assert_null(symbol_lookup((unsigned long)__text_start - 1, &offset));
    assert_null(symbol_lookup((unsigned long)__text_start + 0xf, &offset));
    assert_null(symbol_lookup((unsigned long)__text_end, &offset));
    assert_null(symbol_lookup(0, &offset));
    assert_null(symbol_lookup(~0UL, &offset));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_symbol_below),
        cmocka_unit_test(outside_is_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
