/* console_io: domain 0's console over Croft's serial line. Other domains have a console ring, served by domain 0. */
#include "domain/domain.h"
#include "domain/guest_access.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"
#include "platform/console.h"

#define CHUNK 256U

static long console_io_write(uint64_t count, const char *text)
{
    char chunk[CHUNK];

    while (count) {
        size_t n = min(count, (uint64_t)CHUNK);

        if (copy_from_guest(chunk, text, n))
            return -EFAULT;
        console_write(chunk, n);
        text += n;
        count -= n;
        if (count && hypercall_preempt_check())
            return hypercall_continue(CONSOLEIO_write, count, (uint64_t)text, 0, 0);
    }
    return 0;
}

/* Returns how many characters there were; less than one chunk is enough for anyone who types. */
static long console_io_read(uint64_t count, char *to)
{
    char chunk[CHUNK];
    size_t n;

    if (!guest_range_ok(to, count))
        return -EFAULT;
    n = console_read(chunk, min(count, (uint64_t)CHUNK));
    if (n && copy_to_guest(to, chunk, n))
        return -EFAULT;
    return (long)n;
}

long hypercall_console_io(uint64_t cmd, uint64_t count, uint64_t buffer, uint64_t a4, uint64_t a5)
{
    if (!current->domain->is_privileged)
        return -EPERM; /* every guest tries it at boot: no line about it */
    count = (uint32_t)count;
    switch ((unsigned)cmd) {
    case CONSOLEIO_write:
        return console_io_write(count, (const char *)buffer);
    case CONSOLEIO_read:
        return console_io_read(count, (char *)buffer);
    }
    return refuse(-ENOSYS, "console_io: command %u\n", (unsigned)cmd);
}
