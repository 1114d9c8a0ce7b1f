/* Within the random guest: its numbers, its memory, its calls. */
#ifndef HOSTILE_H
#define HOSTILE_H

#include "random.h"

#define PAGES 12U       /* of data, at TEST_VA as well */
#define TABLES 8U       /* pages that are, or may become, page tables; the first three are those of TEST_VA */
#define REQUEST_PAGES 4 /* one after the other; a vcpu has as many of its own */
#define SLOTS 64U       /* for mappings, from TEST_VA on */
#define CODE_VA (TEST_VA + PAGE_SIZE)
#define GRANT_VA (TEST_VA + (SLOTS - 2) * PAGE_SIZE)

extern uint8_t *data_pages[PAGES];
extern uint64_t *tables[TABLES];
extern uint8_t *requests[RANDOM_VCPUS], *code_pages[RANDOM_VCPUS];

uint64_t random(void);
static inline uint64_t below(uint64_t limit) { return random() % limit; }
static inline bool one_in(unsigned n) { return below(n) == 0; }
#define PICK(...)                                                                                                      \
    ({                                                                                                                 \
        const uint64_t picks[] = {__VA_ARGS__};                                                                        \
        picks[below(sizeof(picks) / sizeof(picks[0]))];                                                                \
    })

/* Values that mean something, or nearly */
uint64_t any_number(void);
uint64_t any_address(void);
uint64_t any_frame(void);
uint64_t any_domain(void);
uint64_t any_entry(void);
uint64_t any_entry_address(void); /* machine address of an entry of a page table */
uint64_t any_value(void);

struct call {
    unsigned long nr, a[5];
};
/* A call that may make sense, and what it points to. request: where that is put. */
void call_make(struct call *c, uint8_t *request);
/* Does something without a hypercall of its own. Returns what to count it as. */
unsigned code_run(void);
extern volatile bool code_trapped[RANDOM_VCPUS];

#endif
