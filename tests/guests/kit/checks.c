/* Checks and the verdict. */
#include <stdarg.h>
#include "common.h"

bool kit_quiet;
static unsigned checks, failures;
static char first_failure[200];

void verdict(void)
{
    if (checks == 0)
        check(false, "no check was made");
    printf("%u checks, %u failed\n", checks, failures);
    if (failures == 0)
        printf("GUEST %s: PASS\n", guest_name);
    else
        printf("GUEST %s: FAIL (%s)\n", guest_name, first_failure);
    if (argument_present("stay")) /* whoever runs this wants to look at the hypervisor */
        for (;;)
            relax();
    poweroff();
}

void panic(const char *format, ...)
{
    va_list list;

    va_start(list, format);
    printf("\nGUEST %s: FAIL (panic: ", guest_name);
    vprintf(format, list);
    printf(")\n");
    va_end(list);
    poweroff();
}

static void report(bool ok, const char *format, va_list list)
{
    char text[200];

    vsnprintf(text, sizeof(text), format, list);
    if (!ok || !kit_quiet)
        printf("%s %s\n", ok ? "ok" : "FAIL", text);
    if (!ok && failures++ == 0)
        memcpy(first_failure, text, sizeof(first_failure));
}

bool check_at(bool ok, const char *format, ...)
{
    va_list list;

    checks++;
    va_start(list, format);
    report(ok, format, list);
    va_end(list);
    return ok;
}

bool check_quiet_at(bool ok, const char *format, ...)
{
    va_list list;

    checks++;
    va_start(list, format);
    if (!ok)
        report(ok, format, list);
    va_end(list);
    return ok;
}

bool check_equal_at(const char *what, long got, long want)
{
    if (got == want)
        return check(true, "%s = %ld", what, got);
    return check(false, "%s = %ld (0x%lx), wanted %ld (0x%lx)", what, got, (unsigned long)got, want,
                 (unsigned long)want);
}

bool check_negative_at(const char *what, long got)
{
    if (got < 0 && got >= -4095)
        return check(true, "%s = %ld", what, got);
    return check(false, "%s = %ld (0x%lx), wanted an error", what, got, (unsigned long)got);
}

void kit_checks_reset(void) { checks = failures = 0; }
unsigned kit_checks(void) { return checks; }
unsigned kit_failures(void) { return failures; }

bool argument_present(const char *word) { return strfind(kit_arguments(), word); }

unsigned long argument_number(const char *name, unsigned long otherwise)
{
    unsigned long value = otherwise;

    for (const char *s = kit_arguments(); *s != '\0'; s++) {
        if (!strprefix(s, name))
            continue;
        value = 0;
        for (const char *digit = s + strlen(name); *digit >= '0' && *digit <= '9'; digit++)
            value = value * 10 + (unsigned long)(*digit - '0');
    }
    return value;
}
