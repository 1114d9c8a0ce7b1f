/*
 * Does time go back between CPUs? A thread on each CPU reads a clock and compares it with the latest value that any
 * thread had published before this read began. Exit status 1: it went back.
 * And by how much do the clocks differ? If a reading goes from one CPU to another quicker than back, at the least, one of the
 * two clocks is ahead by half of that.
 * Arguments: seconds; "load": a thread on each CPU that computes, besides.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CLOCKS = 4, TSC = 3, MAX_CPUS = 64 };
static const char *const names[CLOCKS] = {"CLOCK_MONOTONIC", "CLOCK_MONOTONIC_RAW", "CLOCK_REALTIME", "TSC"};
static const clockid_t ids[TSC] = {CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME};

static _Atomic uint64_t latest[CLOCKS], steps_back[CLOCKS], worst[CLOCKS], reads;
static uint64_t seconds = 10;
static long cpus;

/* CLOCK_MONOTONIC as it was read last, and in the low bits by which CPU; the least time from a reading on one CPU to one after
 * it on another, [from][to]; readings that seemed to be before the one they came after */
static _Atomic uint64_t mark, mark_back;
static uint64_t least[MAX_CPUS][MAX_CPUS];

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

static void stay_on(intptr_t cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set)) {
        perror("sched_setaffinity");
        exit(1);
    }
}

static void compare(long cpu)
{
    uint64_t before = mark, t = read_clock(0), from = before % MAX_CPUS;
    int64_t took = (int64_t)(t - before / MAX_CPUS);

    if (took < 0)
        mark_back++;
    else if (before && from != (uint64_t)cpu && (uint64_t)took < least[from][cpu])
        least[from][cpu] = took;
    mark = t * MAX_CPUS + cpu;
}

static void report_comparison(void)
{
    uint64_t differ = 0, known = 0;

    for (long i = 0; i < cpus; i++) {
        for (long j = i + 1; j < cpus; j++) {
            uint64_t up = least[i][j], down = least[j][i], d = (up > down ? up - down : down - up) / 2;

            if (up == UINT64_MAX || down == UINT64_MAX) {
                printf("compared: CPUs %ld and %ld did not meet\n", i, j);
                return;
            }
            differ = d > differ ? d : differ;
            known = (up + down) / 2 > known ? (up + down) / 2 : known;
        }
    }
    printf("compared: two CPUs' clocks differ by %lu ns at most, known to %lu ns; %lu times back\n", differ, known,
           mark_back);
}

static void *compute(void *arg)
{
    volatile uint64_t x = 1;

    stay_on((intptr_t)arg);
    for (;;)
        x = x * 6364136223846793005UL + 1442695040888963407UL;
    return NULL;
}

static void *watch(void *arg)
{
    stay_on((intptr_t)arg);
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
        compare((intptr_t)arg);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[MAX_CPUS], load;
    int bad = 0;

    cpus = sysconf(_SC_NPROCESSORS_ONLN);
    if (argc > 1)
        seconds = strtoul(argv[1], NULL, 10);
    if (cpus > MAX_CPUS)
        cpus = MAX_CPUS;
    memset(least, 0xff, sizeof(least));
    for (intptr_t i = 0; i < cpus; i++) {
        pthread_create(&threads[i], NULL, watch, (void *)i);
        if (argc > 2 && !strcmp(argv[2], "load"))
            pthread_create(&load, NULL, compute, (void *)i);
    }
    for (long i = 0; i < cpus; i++)
        pthread_join(threads[i], NULL);
    for (int c = 0; c < CLOCKS; c++) {
        printf("%s: went back %lu times, at most by %lu\n", names[c], steps_back[c], worst[c]);
        bad |= steps_back[c] != 0;
    }
    if (cpus > 1)
        report_comparison();
    bad |= mark_back != 0;
    printf("monotonic: %ld CPUs, %lu rounds of %lu s\n", cpus, reads, seconds);
    return bad;
}
