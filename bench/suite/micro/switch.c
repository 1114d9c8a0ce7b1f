/*
 * Rows of context switches, named PROCESSES and KiB: a byte goes round a ring of processes joined by pipes; whoever has it reads
 * through an array of so many KiB. What one process needs for the same reads, writes and array is taken off.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "micro.h"

#define MOST 16

struct ring {
    int pipes[MOST][2];
    int processes; /* how many */
    int place;     /* the process for which a child is made: reads from pipes[place], writes to the next */
    long words;    /* in the array */
    long rounds;
};

/* Takes the byte, reads through the array, passes the byte on. */
static void pass(int from, int to, const volatile long *array, long words)
{
    long sum = 0;
    char byte;

    need(read(from, &byte, 1) == 1, "pipe");
    for (long i = 0; i < words; i++)
        sum += array[i];
    __asm__ volatile("" ::"r"(sum));
    need(write(to, &byte, 1) == 1, "pipe");
}

/* Each process has an array of its own, in memory of its own. */
static long *new_array(long words)
{
    long *array = malloc(words * sizeof(long) + 1);

    need(array != NULL, "malloc");
    memset(array, 1, words * sizeof(long));
    return array;
}

static void member(void *data)
{
    struct ring *ring = data;
    long *array = new_array(ring->words);

    for (long i = 0; i < ring->rounds; i++)
        pass(ring->pipes[ring->place][0], ring->pipes[(ring->place + 1) % ring->processes][1], array, ring->words);
}

/* One pass through a pipe of its own, and the array, with no switch: nanoseconds */
static double overhead(long words, long count)
{
    long *array = new_array(words);
    uint64_t start;
    int own[2];

    need(!pipe(own) && write(own[1], "", 1) == 1, "pipe");
    start = now();
    for (long i = 0; i < count; i++)
        pass(own[0], own[1], array, words);
    start = now() - start;
    free(array);
    return (double)start / count;
}

static double measure(int processes, long kib, long count)
{
    struct ring ring = {.processes = processes, .words = kib * 1024 / sizeof(long), .rounds = count / processes + 1};
    double one, all;
    int pids[MOST];
    long *array;
    uint64_t start;
    char byte;

    one = overhead(ring.words, ring.rounds);
    for (int i = 0; i < processes; i++)
        need(!pipe(ring.pipes[i]), "pipe");
    ring.rounds++; /* a first round, in which the children get their arrays, is not timed */
    for (ring.place = 1; ring.place < processes; ring.place++)
        pids[ring.place] = child(member, &ring);
    array = new_array(ring.words);
    need(write(ring.pipes[1][1], "", 1) == 1, "pipe");
    pass(ring.pipes[0][0], ring.pipes[1][1], array, ring.words);
    start = now();
    for (long i = 0; i < ring.rounds - 2; i++)
        pass(ring.pipes[0][0], ring.pipes[1][1], array, ring.words);
    need(read(ring.pipes[0][0], &byte, 1) == 1, "pipe");
    all = now() - start;
    for (int i = 1; i < processes; i++)
        await(pids[i]);
    return all / ((ring.rounds - 1) * processes) - one;
}

static double switch_2p_0k(long count) { return measure(2, 0, count); }
static double switch_2p_16k(long count) { return measure(2, 16, count); }
static double switch_2p_64k(long count) { return measure(2, 64, count); }
static double switch_8p_16k(long count) { return measure(8, 16, count); }
static double switch_8p_64k(long count) { return measure(8, 64, count); }
static double switch_16p_16k(long count) { return measure(16, 16, count); }
static double switch_16p_64k(long count) { return measure(16, 64, count); }

const struct row switch_rows[] = {
    {"switch_2p_0k", 4000, switch_2p_0k},     {"switch_2p_16k", 3200, switch_2p_16k},
    {"switch_2p_64k", 1600, switch_2p_64k},   {"switch_8p_16k", 3200, switch_8p_16k},
    {"switch_8p_64k", 1600, switch_8p_64k},   {"switch_16p_16k", 3200, switch_16p_16k},
    {"switch_16p_64k", 1600, switch_16p_64k}, {0},
};
