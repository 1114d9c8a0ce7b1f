/* Rows of files that are made, filled and deleted, on a file system in memory. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "micro.h"

static char block[10240];

static void path(char *to, long i) { sprintf(to, "%s/%ld", folder, i); }

static void create(long count, long size)
{
    char name[64];

    for (long i = 0; i < count; i++) {
        int fd;

        path(name, i);
        fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0600);
        need(fd >= 0 && write(fd, block, size) == size, name);
        close(fd);
    }
}

static void delete_all(long count)
{
    char name[64];

    for (long i = 0; i < count; i++) {
        path(name, i);
        need(!unlink(name), name);
    }
}

static double timed_create(long count, long size)
{
    uint64_t start = now();

    create(count, size);
    start = now() - start;
    delete_all(count);
    return (double)start / count;
}

static double timed_delete(long count, long size)
{
    uint64_t start;

    create(count, size);
    start = now();
    delete_all(count);
    return (double)(now() - start) / count;
}

static double create_0k(long count) { return timed_create(count, 0); }
static double create_10k(long count) { return timed_create(count, sizeof(block)); }
static double delete_0k(long count) { return timed_delete(count, 0); }
static double delete_10k(long count) { return timed_delete(count, sizeof(block)); }

const struct row file_rows[] = {
    {"file_create_0k", 1000, create_0k},
    {"file_delete_0k", 1000, delete_0k},
    {"file_create_10k", 1000, create_10k},
    {"file_delete_10k", 1000, delete_10k},
    {0},
};
