/* Rows of memory: mappings and faults. */
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "micro.h"

#define PAGE 4096L
#define MAPPED (1024 * 1024L)

/* A MiB of a file mapped, a byte of each page read, unmapped. */
static double map_touch_unmap(long count)
{
    uint64_t start;
    int fd;

    map_file(MAPPED, &fd);
    start = now();
    for (long i = 0; i < count; i++) {
        volatile char *at = mmap(NULL, MAPPED, PROT_READ, MAP_SHARED, fd, 0);

        need(at != MAP_FAILED, "mmap");
        for (long j = 0; j < MAPPED; j += PAGE)
            at[j];
        munmap((void *)at, MAPPED);
    }
    return (double)(now() - start) / count;
}

static volatile long faults;
static char *page;

/* The write is tried again when this returns; after the last fault it is let through. */
static void on_fault(int signal)
{
    if (--faults == 0)
        mprotect(page, PAGE, PROT_READ | PROT_WRITE);
}

/* A write to a page that may only be read, with its signal */
static double protection_fault(long count)
{
    struct sigaction action = {.sa_handler = on_fault};
    uint64_t start;
    int fd;

    page = map_file(PAGE, &fd);
    sigaction(SIGSEGV, &action, NULL);
    faults = count;
    need(!mprotect(page, PAGE, PROT_READ), "mprotect");
    start = now();
    *(volatile char *)page = 1;
    return (double)(now() - start) / count;
}

/* ns for the first write to each of so many pages */
static double touch(volatile char *at, long pages)
{
    uint64_t start = now();

    for (long i = 0; i < pages; i++)
        at[i * PAGE] = 1;
    return (double)(now() - start) / pages;
}

/* Pages of a file that are in memory but not mapped here */
static double page_fault(long count)
{
    char *at;
    int fd;

    at = map_file(count * PAGE, &fd);
    munmap(at, count * PAGE);
    at = mmap(NULL, count * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    need(at != MAP_FAILED, "mmap");
    return touch(at, count);
}

/* New pages, which the kernel clears */
static double page_fault_new(long count)
{
    char *at = mmap(NULL, count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    need(at != MAP_FAILED, "mmap");
    madvise(at, count * PAGE, MADV_NOHUGEPAGE);
    return touch(at, count);
}

const struct row memory_rows[] = {
    {"mmap", 60, map_touch_unmap},
    {"protection_fault", 4000, protection_fault},
    {"page_fault", 4000, page_fault},
    {"page_fault_new", 4000, page_fault_new},
    {0},
};
