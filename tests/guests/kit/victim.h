/*
 * The victim: a child that lives beside others, grants one of them some pages and offers it some event channels, and
 * looks all the while whether its own memory, page tables, registers and time are as they should be.
 */
#ifndef VICTIM_H
#define VICTIM_H

#include "child.h"

extern struct child victim;

/* By domain 0. TEST_VA must have a table. neighbour: the number of the domain that may use its grants and channels. */
void victim_start(unsigned neighbour);
bool victim_lives(void);    /* checks that it goes on and has found nothing: to be called every now and then */
uint64_t victim_time(void); /* ns that it had a CPU */
void victim_end(void);      /* checks it for the last time, and destroys it */

#endif
