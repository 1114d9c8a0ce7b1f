/* Within the random guest: its memory, and what it does. */
#ifndef HOSTILE_H
#define HOSTILE_H

#include "child.h"
#include "random/random.h"

#define PAGES 12U /* of data, at TEST_VA as well */
#define TABLES 8U /* pages that are, or may become, page tables; the first three are those of TEST_VA */
#define SLOTS 64U /* for mappings, from TEST_VA on */
#define CODE_VA (TEST_VA + PAGE_SIZE)
#define GRANT_VA (TEST_VA + (SLOTS - 2) * PAGE_SIZE)

extern uint8_t *data_pages[PAGES];
extern uint64_t *tables[TABLES];
extern uint8_t *requests[RANDOM_VCPUS], *code_pages[RANDOM_VCPUS];

uint64_t any_entry(void);
uint64_t any_entry_address(void); /* machine address of an entry of a page table */

/* Does something without a hypercall of its own. Returns what to count it as. */
enum random_kind code_run(void);
extern volatile bool code_trapped[RANDOM_VCPUS];
/* The random guest's only function: without an end, but that something it did ends it. */
long random_here(long *a);

#endif
