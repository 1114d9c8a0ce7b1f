/* sources: hypervisor/boot/options.c */
/* Input: a command line. */
#include <stdint.h>
#include <stdlib.h>

#include "../unit/fake_boot.h"

#include "boot/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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
    free(line);
    return 0;
}
