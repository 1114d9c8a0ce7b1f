/* The micro benchmarks: what each file of rows offers to main.c, and what they share. */
#ifndef MICRO_H
#define MICRO_H

#include <stdbool.h>
#include <stdint.h>

/* A row measures 'count' operations and returns nanoseconds for one. It runs in a process of its own and may leave open
 * files, memory and signal handlers behind, but no child and no file. */
struct row {
    const char *name;
    long count;
    double (*measure)(long count);
};

/* Arrays that end with a row without a name */
extern const struct row call_rows[], process_rows[], switch_rows[], latency_rows[], file_rows[], memory_rows[];
/* Rows that need another machine, at the address 'peer', on which serve() runs (it does not return) */
extern const struct row peer_rows[];
extern const char *peer;
void serve(void);

/* This program's own file */
extern const char *self;
/* A folder of its own on a file system in memory, for files */
extern const char *folder;

/* CLOCK_MONOTONIC, in nanoseconds */
uint64_t now(void);
/* Ends the row with an error that names what and errno, if ok is false. */
void need(bool ok, const char *what);
/* Forks; the child runs body(data) and exits. Returns its pid. */
int child(void (*body)(void *data), void *data);
/* Waits for the child, which must have ended with status 0. */
void await(int pid);
/* A shared mapping of a new file of so many bytes, all written */
void *map_file(long size, int *fd);

#endif
