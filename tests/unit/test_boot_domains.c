/* sources: hypervisor/boot/boot_domains.c hypervisor/boot/options.c */
/* Which domains boot modules describe. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fake_boot.h"

#include "boot/boot_domains.h"

static struct boot_info info;
static struct boot_domains found;
static char error[200];

/* Modules with these texts; a text that ends in '!' is an empty module's. */
static bool parse(const char *const *texts)
{
    memset(&info, 0, sizeof(info));
    memset(&found, 0, sizeof(found));
    error[0] = 0;
    for (; *texts; texts++) {
        struct boot_module *m = &info.modules[info.module_count++];

        strlcpy(m->cmdline, *texts, sizeof(m->cmdline));
        m->size = strchr(*texts, '!') ? 0 : 100;
    }
    return boot_domains_parse(&info, &found, error, sizeof(error));
}
#define PARSE(...) parse((const char *const[]){__VA_ARGS__, NULL})
#define REFUSED(text, why)                                                                                             \
    do {                                                                                                               \
        assert_false(PARSE("root=/dev/vda1", text));                                                                   \
        if (!strstr(error, why))                                                                                       \
            fail_msg("'%s' gives '%s', not '%s'", text, error, why);                                                   \
    } while (0)

static void domain_0_alone(void **state)
{
    assert_true(PARSE("root=/dev/vda1 quiet"));
    assert_ptr_equal(found.domain0.kernel, &info.modules[0]);
    assert_null(found.domain0.initrd);
    assert_null(found.domain0.cmdline);
    assert_string_equal(found.domain0.name, "domain 0");
    assert_true(found.domain0.is_domain0);
    assert_int_equal(found.count, 0);
    assert_true(PARSE("root=/dev/vda1", "", "more"));
    assert_ptr_equal(found.domain0.initrd, &info.modules[1]);
    assert_true(PARSE("root=/dev/vda1", "!"));
    assert_null(found.domain0.initrd);
    info.module_count = 0;
    memset(&found, 0, sizeof(found));
    assert_true(boot_domains_parse(&info, &found, error, sizeof(error)));
    assert_null(found.domain0.kernel);
}

static void guests(void **state)
{
    assert_true(PARSE("domain=one memory=64M vcpus=2 cpus=1-2,5 type=pv -- console=hvc0  quiet", " initrd ",
                      "root=/dev/vda1", "domain=two", "initrd of domain 0", "  domain=a-b_c.3 --"));
    assert_int_equal(found.count, 3);
    assert_string_equal(found.guests[0].name, "one");
    assert_int_equal(found.guests[0].memory, 64 << 20);
    assert_int_equal(found.guests[0].vcpus, 2);
    assert_int_equal(found.guests[0].cpus.bits[0], 1 << 1 | 1 << 2 | 1 << 5);
    assert_string_equal(found.guests[0].cmdline, "console=hvc0  quiet");
    assert_false(found.guests[0].pvh || found.guests[1].pvh || found.domain0.pvh);
    assert_ptr_equal(found.guests[0].kernel, &info.modules[0]);
    assert_ptr_equal(found.guests[0].initrd, &info.modules[1]);
    assert_ptr_equal(found.domain0.kernel, &info.modules[2]);
    assert_ptr_equal(found.domain0.initrd, &info.modules[4]);
    assert_string_equal(found.guests[1].name, "two");
    assert_int_equal(found.guests[1].memory, 128 << 20);
    assert_int_equal(found.guests[1].vcpus, 1);
    assert_int_equal(found.guests[1].cpus.bits[0], 0);
    assert_string_equal(found.guests[1].cmdline, "");
    assert_null(found.guests[1].initrd);
    assert_string_equal(found.guests[2].name, "a-b_c.3");
    assert_string_equal(found.guests[2].cmdline, "");
    assert_true(PARSE("domain=only type=pvh", "domain=other type=pvh type=pv -- domain=x memory=y"));
    assert_null(found.domain0.kernel);
    assert_true(found.guests[0].pvh);
    assert_false(found.guests[1].pvh);
    assert_string_equal(found.guests[1].cmdline, "domain=x memory=y");
}

static void ends(void **state)
{
    const struct boot_domain *g = found.guests;

    assert_true(PARSE("domain=a", "domain=b on_poweroff=restart on_reboot=preserve on_crash=restart restarts=0",
                      "domain=c on_reboot=destroy restarts=unlimited", "domain=d on_crash=preserve restarts=1000000 --",
                      "domain=e on_reboot=destroy on_poweroff=restart",
                      "domain=f on_reboot=preserve on_crash=restart"));
    assert_true(g[0].on_poweroff == BOOT_DESTROY && g[0].on_reboot == BOOT_RESTART && g[0].on_crash == BOOT_DESTROY);
    assert_int_equal(g[0].restarts, 5);
    assert_true(g[1].on_poweroff == BOOT_RESTART && g[1].on_reboot == BOOT_PRESERVE && g[1].on_crash == BOOT_RESTART);
    assert_int_equal(g[1].restarts, 0);
    assert_true(g[2].on_poweroff == BOOT_DESTROY && g[2].on_reboot == BOOT_DESTROY && g[2].on_crash == BOOT_DESTROY);
    assert_true(g[2].restarts == BOOT_RESTARTS_UNLIMITED);
    assert_true(g[3].on_crash == BOOT_PRESERVE);
    assert_int_equal(g[3].restarts, 1000000);
    assert_true(boot_domain_may_restart(&g[0]) && boot_domain_may_restart(&g[1]) && !boot_domain_may_restart(&g[2]) &&
                boot_domain_may_restart(&g[3]) && boot_domain_may_restart(&g[4]) && boot_domain_may_restart(&g[5]));
}

static void as_many_as_modules(void **state)
{
    char text[BOOT_MAX_MODULES][32];
    const char *texts[BOOT_MAX_MODULES + 1] = {NULL};

    for (unsigned i = 0; i < BOOT_MAX_MODULES; i++) {
        snprintf(text[i], sizeof(text[i]), "domain=d%u", i);
        texts[i] = text[i];
    }
    assert_true(parse(texts));
    assert_int_equal(found.count, BOOT_MAX_MODULES);
}

static void refusals(void **state)
{
    REFUSED("domain= --", "boot module 2, which is to be a domain's kernel: 'domain=' is malformed: give letters");
    REFUSED("domain=a/b --", "'domain=a/b' is malformed");
    REFUSED("domain=123456789012345678901234 --",
            "is malformed: give letters, digits, '-', '_' and '.', fewer than 24");
    REFUSED("domain=x memory=1M --", "'memory=1M' is malformed: give a size of at least 4M");
    REFUSED("domain=x memory=12Q --", "'memory=12Q' is malformed");
    REFUSED("domain=x memory --", "'memory=' is malformed");
    REFUSED("domain=x vcpus=0 --", "'vcpus=0' is malformed: give 1 to 128");
    REFUSED("domain=x vcpus=129 --", "'vcpus=129' is malformed");
    REFUSED("domain=x vcpus=4x --", "'vcpus=4x' is malformed");
    REFUSED("domain=x vcpus=99999999999999999999 --", "is malformed");
    REFUSED("domain=x cpus= --", "'cpus=' is malformed: give numbers and ranges");
    REFUSED("domain=x cpus=2-1 --", "'cpus=2-1' is malformed");
    REFUSED("domain=x cpus=64 --", "'cpus=64' is malformed");
    REFUSED("domain=x cpus=1, --", "'cpus=1,' is malformed");
    REFUSED("domain=x cpus=1- --", "'cpus=1-' is malformed");
    REFUSED("domain=x cpus=18446744073709551615 --", "is malformed");
    REFUSED("domain=x type=hvm --", "'type=hvm' is malformed: give pv or pvh");
    REFUSED("domain=x type= --", "'type=' is malformed");
    REFUSED("domain=x on_crash=reboot --", "'on_crash=reboot' is malformed: give destroy, restart or preserve");
    REFUSED("domain=x on_reboot= --", "'on_reboot=' is malformed: give destroy, restart or preserve");
    REFUSED("domain=x on_poweroff=restarts --", "'on_poweroff=restarts' is malformed");
    REFUSED("domain=x on_watchdog=destroy --", "the word 'on_watchdog' is not known");
    REFUSED("domain=x restarts=-1 --", "'restarts=-1' is malformed: give 0 to 1000000, or unlimited");
    REFUSED("domain=x restarts=1000001 --", "'restarts=1000001' is malformed");
    REFUSED("domain=x restarts=4294967295 --", "'restarts=4294967295' is malformed");
    REFUSED("domain=x restarts= --", "'restarts=' is malformed");
    REFUSED("domain=x root=/dev/vda1",
            "the word 'root' is not known: the kernel's own command line comes behind \"--\"");
    REFUSED("domain=x 0123456789012345678901234567890123456789012345678901234567890123 --",
            "longer than 63 characters");
    assert_false(PARSE("domain=x", "domain=y", "domain=x"));
    assert_string_equal(error, "boot module 3: there is a domain named 'x' already");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(domain_0_alone),     cmocka_unit_test(guests),   cmocka_unit_test(ends),
        cmocka_unit_test(as_many_as_modules), cmocka_unit_test(refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
