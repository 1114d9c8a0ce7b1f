/*
 * Does time go back between CPUs? A thread on each CPU reads a clock and compares it with the latest value that any
 * thread had published before this read began. Arguments: seconds. Exit status 1: it went back.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { CLOCKS = 4, TSC = 3, MAX_CPUS = 64 };
static const char *const names[CLOCKS] = {"CLOCK_MONOTONIC", "CLOCK_MONOTONIC_RAW", "CLOCK_REALTIME", "TSC"};
static const clockid_t ids[TSC] = {CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME};

static _Atomic uint64_t latest[CLOCKS], steps_back[CLOCKS], worst[CLOCKS], reads;
static uint64_t seconds = 10;

static uint64_t read_clock(int clock)
{
    struct timespec t;

    if (clock == TSC) {
        uint32_t low, high;

        __asm__ volatile("lfence; rdtsc; lfence" : "=a"(low), "=d"(high)::"memory");
        return (uint64_t)high << 32 | low;
    }
    clock_gettime(ids[clock], &t);
    return t.tv_sec * 1000000000UL + t.tv_nsec;
}

static void *watch(void *arg)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((intptr_t)arg, &set);
    if (sched_setaffinity(0, sizeof(set), &set)) {
        perror("sched_setaffinity");
        exit(1);
    }
    for (uint64_t start = read_clock(0); read_clock(0) - start < seconds * 1000000000UL; reads++) {
        for (int c = 0; c < CLOCKS; c++) {
            uint64_t before = latest[c], t = read_clock(c);

            if (t < before) {
                steps_back[c]++;
                if (before - t > worst[c])
                    worst[c] = before - t;
            }
            while (t > before &&
                   !__atomic_compare_exchange_n(&latest[c], &before, t, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
                ;
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    pthread_t threads[MAX_CPUS];
    int bad = 0;

    if (argc > 1)
        seconds = strtoul(argv[1], NULL, 10);
    if (cpus > MAX_CPUS)
        cpus = MAX_CPUS;
    for (intptr_t i = 0; i < cpus; i++)
        pthread_create(&threads[i], NULL, watch, (void *)i);
    for (long i = 0; i < cpus; i++)
        pthread_join(threads[i], NULL);
    for (int c = 0; c < CLOCKS; c++) {
        printf("%s: went back %lu times, at most by %lu\n", names[c], steps_back[c], worst[c]);
        bad |= steps_back[c] != 0;
    }
    printf("monotonic: %ld CPUs, %lu rounds of %lu s\n", cpus, reads, seconds);
    return bad;
}
