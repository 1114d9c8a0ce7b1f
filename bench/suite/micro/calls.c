/* Rows of system calls that come back at once, of signals, and of work that makes no call at all. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "micro.h"

#define SOCKETS 100

/* A thousand dependent steps of a generator of Marsaglia's (xorshift) */
static double integer(long count)
{
    uint64_t start = now(), x = 88172645463325252ULL;

    for (long i = 0; i < count; i++) {
        for (int j = 0; j < 1000; j++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
        }
        __asm__ volatile("" : "+r"(x));
    }
    return (double)(now() - start) / count;
}

static double null_call(long count)
{
    uint64_t start = now();

    for (long i = 0; i < count; i++)
        syscall(SYS_getppid);
    return (double)(now() - start) / count;
}

static double null_read(long count)
{
    int fd = open("/dev/zero", O_RDONLY);
    uint64_t start = now();
    char byte;

    for (long i = 0; i < count; i++)
        need(read(fd, &byte, 1) == 1, "/dev/zero");
    return (double)(now() - start) / count;
}

static double null_write(long count)
{
    int fd = open("/dev/null", O_WRONLY);
    uint64_t start = now();
    char byte = 0;

    for (long i = 0; i < count; i++)
        need(write(fd, &byte, 1) == 1, "/dev/null");
    return (double)(now() - start) / count;
}

static double stat_file(long count)
{
    uint64_t start = now();
    struct stat s;

    for (long i = 0; i < count; i++)
        need(!stat(self, &s), self);
    return (double)(now() - start) / count;
}

static double open_close(long count)
{
    uint64_t start = now();

    for (long i = 0; i < count; i++) {
        int fd = open(self, O_RDONLY);

        need(fd >= 0, self);
        close(fd);
    }
    return (double)(now() - start) / count;
}

/* None of the sockets has anything to read. */
static double select_sockets(long count)
{
    fd_set all, set;
    int highest = 0;
    uint64_t start;

    FD_ZERO(&all);
    for (int i = 0; i < SOCKETS; i++) {
        int fd = socket(AF_INET, SOCK_DGRAM, 0);

        need(fd >= 0 && fd < FD_SETSIZE, "socket");
        FD_SET(fd, &all);
        highest = fd;
    }
    start = now();
    for (long i = 0; i < count; i++) {
        struct timeval none = {0, 0};

        set = all;
        need(select(highest + 1, &set, NULL, NULL, &none) == 0, "select");
    }
    return (double)(now() - start) / count;
}

static volatile long caught;

static void catch (int signal) { caught++; }

static double signal_install(long count)
{
    struct sigaction action = {.sa_handler = catch};
    uint64_t start = now();

    for (long i = 0; i < count; i++)
        sigaction(SIGUSR1, &action, NULL);
    return (double)(now() - start) / count;
}

/* Sent to itself, caught, returned from */
static double signal_handle(long count)
{
    struct sigaction action = {.sa_handler = catch};
    int pid = getpid();
    uint64_t start, end;

    sigaction(SIGUSR1, &action, NULL);
    start = now();
    for (long i = 0; i < count; i++)
        kill(pid, SIGUSR1);
    end = now();
    need(caught == count, "signals caught");
    return (double)(end - start) / count;
}

const struct row call_rows[] = {
    {"integer", 4000, integer},
    {"null_call", 40000, null_call},
    {"null_read", 40000, null_read},
    {"null_write", 40000, null_write},
    {"stat", 10000, stat_file},
    {"open_close", 10000, open_close},
    {"select_100", 2000, select_sockets},
    {"signal_install", 20000, signal_install},
    {"signal_handle", 10000, signal_handle},
    {0},
};
