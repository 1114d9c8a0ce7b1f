/* sources: hypervisor/boot/options.c hypervisor/boot/boot_domains.c */
/* Input: a command line, and the texts of boot modules, a line each. */
#include <stdint.h>
#include <stdlib.h>

#include "../unit/fake_boot.h"

#include "boot/boot_domains.h"
#include "boot/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void modules(char *lines)
{
    static struct boot_info info;
    static struct boot_domains found;
    char error[100];

    memset(&found, 0, sizeof(found));
    info.module_count = 0;
    for (char *line = strtok(lines, "\n"); line && info.module_count < BOOT_MAX_MODULES; line = strtok(NULL, "\n"))
        strlcpy(info.modules[info.module_count++].cmdline, line, sizeof(info.modules[0].cmdline));
    if (boot_domains_parse(&info, &found, error, sizeof(error)))
        for (unsigned i = 0; i < found.count; i++)
            if (!found.guests[i].vcpus || !found.guests[i].name[0] || !found.guests[i].memory)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *line = malloc(size + 1);

    memcpy(line, data, size);
    line[size] = 0;
    fake_log_clear();
    options_parse(line);
    if (strnlen(options.console, sizeof(options.console)) == sizeof(options.console) || options.loglvl < -1 ||
        options.loglvl > LOG_DEBUG)
        abort();
    modules(line);
    free(line);
    return 0;
}
