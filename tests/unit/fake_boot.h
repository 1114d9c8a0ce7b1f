/* For tests of boot code: the log goes to a buffer, boot_fail and panic come back to FAILS_WITH; strlcpy for libcs
 * without it. */
#ifndef FAKE_BOOT_H
#define FAKE_BOOT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/log.h"

size_t strlcpy(char *to, const char *from, size_t size);

static char fake_log[1 << 16]; /* all lines since fake_log_clear */
static char fake_failure[512]; /* the last boot_fail or panic */
static jmp_buf fake_failed;
static bool fake_failure_expected;

static inline void fake_log_clear(void) { fake_log[0] = 0; }

size_t strlcpy(char *to, const char *from, size_t size)
{
    size_t n = strlen(from);

    if (size) {
        size_t part = n < size ? n : size - 1;

        memcpy(to, from, part);
        to[part] = 0;
    }
    return n;
}

void log_print(enum log_level level, const char *fmt, ...)
{
    size_t n = strlen(fake_log);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(fake_log + n, sizeof(fake_log) - n, fmt, ap);
    va_end(ap);
}

void guest_log(enum log_level level, const char *fmt, ...)
{
    size_t n = strlen(fake_log);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(fake_log + n, sizeof(fake_log) - n, fmt, ap);
    va_end(ap);
}

static void __noreturn fake_fail(const char *fmt, va_list ap)
{
    vsnprintf(fake_failure, sizeof(fake_failure), fmt, ap);
    if (!fake_failure_expected) {
        fprintf(stderr, "unexpected failure: %s", fake_failure);
        __builtin_trap();
    }
    longjmp(fake_failed, 1);
}

void boot_fail(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fake_fail(fmt, ap);
}

void panic(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fake_fail(fmt, ap);
}

/* Runs a statement that must end in boot_fail or panic; true if the message contains 'text'. */
#define FAILS_WITH(statement, text)                                                                                    \
    ({                                                                                                                 \
        bool failed_ = false;                                                                                          \
        fake_failure_expected = true;                                                                                  \
        fake_failure[0] = 0;                                                                                           \
        if (!setjmp(fake_failed)) {                                                                                    \
            statement;                                                                                                 \
        } else                                                                                                         \
            failed_ = true;                                                                                            \
        fake_failure_expected = false;                                                                                 \
        if (failed_ && !strstr(fake_failure, text))                                                                    \
            fprintf(stderr, "message is: %s", fake_failure);                                                           \
        failed_ &&strstr(fake_failure, text) != NULL;                                                                  \
    })

#endif
