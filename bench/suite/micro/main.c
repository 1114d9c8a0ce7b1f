/*
 * micro [-d DIVISOR] [ROW...]: small measurements of an operating system, in the style of lmbench: what a call, a process, a
 * switch, a message, a fault cost. Prints a line "micro ROW NANOSECONDS" for each row, or "micro ROW failed". The number of
 * operations is fixed, so that runs on a deterministic clock repeat; DIVISOR makes it smaller where they are slow.
 *   micro -l                      lists the rows with their numbers of operations
 *   micro -t NAME COMMAND [ARG]   runs a command with its output dropped, prints "macro NAME NANOSECONDS"
 *   micro -0                      does nothing: what the rows fork_exec and fork_sh start
 *   micro -p ADDRESS [ROW...]     rows of messages to the machine at that address, where micro -s runs
 *   micro -s                      answers their messages, on port 7007
 * Linked statically: it needs nothing else where it runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "micro.h"

#define SETTLE_US 100000 /* the line before has left the console, and what ended has been cleaned up */

const char *self, *folder;

static const struct row *const alone[] = {call_rows, process_rows, switch_rows, latency_rows, file_rows, memory_rows};
static const struct row *const with_peer[] = {peer_rows};
static const struct row *const *tables = alone;
static unsigned n_tables = sizeof(alone) / sizeof(alone[0]);

/* At an address that no other program has (bench/bench.mk): bench/suite/inside tells by it where measuring begins and ends. */
__attribute__((section(".mark"))) uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

void need(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "micro: %s: %s\n", what, strerror(errno));
    _exit(1);
}

int child(void (*body)(void *data), void *data)
{
    int pid = fork();

    need(pid >= 0, "fork");
    if (pid)
        return pid;
    body(data);
    _exit(0);
}

void await(int pid)
{
    int status;

    need(waitpid(pid, &status, 0) == pid && status == 0, "child");
}

void *map_file(long size, int *fd)
{
    char name[64];
    void *at;

    snprintf(name, sizeof(name), "%s/map", folder);
    *fd = open(name, O_CREAT | O_EXCL | O_RDWR, 0600);
    need(*fd >= 0 && !unlink(name) && !ftruncate(*fd, size), "file to map");
    at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    need(at != MAP_FAILED, "mmap");
    memset(at, 1, size);
    return at;
}

/* Runs a row in a process of its own. */
static bool run(const struct row *row, long divisor)
{
    long count = row->count / divisor;
    int pid, status;

    usleep(SETTLE_US);
    fflush(stdout);
    pid = fork();
    if (!pid) {
        printf("micro %s %.1f\n", row->name, row->measure(count ? count : 1));
        fflush(stdout);
        _exit(0);
    }
    if (pid > 0 && waitpid(pid, &status, 0) == pid && status == 0)
        return true;
    printf("micro %s failed\n", row->name);
    return false;
}

static const struct row *find(const char *name)
{
    for (unsigned i = 0; i < n_tables; i++)
        for (const struct row *row = tables[i]; row->name; row++)
            if (!strcmp(row->name, name))
                return row;
    fprintf(stderr, "micro: no row is named %s (micro -l lists them)\n", name);
    exit(2);
}

static bool run_all(long divisor)
{
    bool ok = true;

    for (unsigned i = 0; i < n_tables; i++)
        for (const struct row *row = tables[i]; row->name; row++)
            ok &= run(row, divisor);
    return ok;
}

static void list(void)
{
    for (unsigned i = 0; i < n_tables; i++)
        for (const struct row *row = tables[i]; row->name; row++)
            printf("%s %ld\n", row->name, row->count);
}

static int time_command(const char *name, char **command)
{
    int pid, status;
    uint64_t start;

    usleep(SETTLE_US);
    start = now();
    pid = fork();
    if (!pid) {
        int null = open("/dev/null", O_WRONLY);

        need(null >= 0 && dup2(null, 1) == 1, "/dev/null");
        execvp(command[0], command);
        need(false, command[0]);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status) {
        printf("macro %s failed\n", name);
        return 1;
    }
    printf("macro %s %.1f\n", name, (double)(now() - start));
    return 0;
}

int main(int argc, char **argv)
{
    static char made[] = "/dev/shm/micro.XXXXXX";
    long divisor = 1;
    bool ok = true;
    int option;

    self = argv[0];
    while ((option = getopt(argc, argv, "+0d:lp:st:")) != -1) {
        switch (option) {
        case '0':
            return 0;
        case 'l':
            list();
            return 0;
        case 't':
            return optind < argc ? time_command(optarg, argv + optind) : 2;
        case 'p':
            peer = optarg;
            tables = with_peer;
            n_tables = 1;
            break;
        case 's':
            serve();
            break;
        case 'd':
            divisor = atol(optarg);
            break;
        }
        if (option == '?' || divisor < 1) {
            fprintf(stderr,
                    "usage: micro [-d DIVISOR] [-p ADDRESS] [ROW...] | -l | -s | -t NAME COMMAND [ARGUMENT...]\n");
            return 2;
        }
    }
    for (int i = optind; i < argc; i++)
        find(argv[i]);
    folder = mkdtemp(made);
    need(folder != NULL, made);
    if (optind == argc)
        ok = run_all(divisor);
    for (int i = optind; i < argc; i++)
        ok &= run(find(argv[i]), divisor);
    rmdir(folder);
    return !ok;
}
