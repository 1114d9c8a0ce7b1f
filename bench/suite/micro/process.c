/* Rows of new processes: each is waited for before the next is made. */
#include <sys/wait.h>
#include <unistd.h>

#include "micro.h"

static void nothing(void *data) {}

static void start_program(void *data)
{
    execl(self, self, "-0", (char *)0);
    need(false, self);
}

static void start_shell(void *data)
{
    /* A second command keeps the shell from giving its own process to the first one. */
    execl("/bin/sh", "sh", "-c", "\"$0\" -0; :", self, (char *)0);
    need(false, "/bin/sh");
}

static double repeat(void (*body)(void *data), long count)
{
    uint64_t start = now();

    for (long i = 0; i < count; i++)
        await(child(body, NULL));
    return (double)(now() - start) / count;
}

static double fork_exit(long count) { return repeat(nothing, count); }
static double fork_exec(long count) { return repeat(start_program, count); }
static double fork_sh(long count) { return repeat(start_shell, count); }

const struct row process_rows[] = {
    {"fork_exit", 400, fork_exit},
    {"fork_exec", 200, fork_exec},
    {"fork_sh", 80, fork_sh},
    {0},
};
