/*
 * What random guests, PV (../../random) and PVH (../../pvh_random), have in common: numbers that a hypervisor may stumble over, calls that
 * nearly make sense, random code; and what they tell domain 0, which is the guest "random".
 */
#ifndef RANDOM_RANDOM_H
#define RANDOM_RANDOM_H

#include "../talk.h"

#define RANDOM_VCPUS 2U
#define NUMBERS 64U /* of hypercalls */

/* What is no hypercall: counted behind them */
enum random_kind {
    KIND_TABLE_WRITES, /* instructions that write into page tables */
    KIND_CODE,         /* random instructions */
    KIND_ACCESSES,     /* of memory */
    KIND_PORTS,        /* from here on PVH */
    KIND_MSRS,
    KIND_REGISTERS, /* control and debug registers, CPUID, caches */
    KIND_APIC,
    KIND_SIGNALS, /* interrupts, INIT, start-up signals and NMIs to the other vcpu */
    KIND_MODES,
    KINDS
};
#define RANDOM_KIND_NAMES                                                                                              \
    {                                                                                                                  \
        "writes into page tables", "random code", "accesses of memory", "ports", "MSRs", "registers", "APIC",          \
            "signals", "modes"                                                                                         \
    }

/* In the talk page's data, which may be anything in the end */
struct random_counts {
    volatile uint32_t tried[NUMBERS + KINDS], succeeded[NUMBERS + KINDS]; /* of instructions: those that did not trap */
};
_Static_assert(sizeof(struct random_counts) <= sizeof(((struct child_talk *)0)->data), "the counts' room");

/* The guest's arguments; behind them, what it tells while it runs: for each vcpu the steps, and (32 bits each) the last call or
 * kind of step. */
enum {
    ARG_SEED,
    ARG_VCPUS,
    ARG_VICTIM,
    ARG_VICTIM_FRAME,
    ARG_FRAMES,
    ARG_PROGRESS,
    ARG_LAST = ARG_PROGRESS + RANDOM_VCPUS
};

/* ---- Numbers: one sequence a vcpu (numbers.c) ---- */

void random_seed(uint64_t seed);
uint64_t random(void);
static inline uint64_t below(uint64_t limit) { return random() % limit; }
static inline bool one_in(unsigned n) { return below(n) == 0; }
#define PICK(...)                                                                                                      \
    ({                                                                                                                 \
        const uint64_t picks[] = {__VA_ARGS__};                                                                        \
        picks[below(sizeof(picks) / sizeof(picks[0]))];                                                                \
    })
uint64_t any_number(void);
uint64_t any_domain(void);
uint64_t any_value(void); /* of all these, and the next two */
static inline uint64_t small_or_any(unsigned limit) { return one_in(10) ? any_number() : below(limit); }
void count(unsigned index, bool success);

/* What the guest has to give */
extern struct child_talk *const random_talk;
uint64_t any_address(void);
uint64_t any_frame(void); /* as the guest names its frames to Croft */

/* ---- Calls (calls.c) ---- */

struct call {
    unsigned long nr, a[5];
};
typedef void call_maker_t(struct call *c, uint8_t *request);
/* A call that may make sense, and what it points to. request: where that is put, RANDOM_REQUEST_PAGES pages. */
#define RANDOM_REQUEST_PAGES 4
void call_make(struct call *c, uint8_t *request);
void fill_words(uint8_t *to, size_t size); /* of 32 and 64 bits, as most structures have them */
uint64_t count_of(unsigned limit);         /* mostly some; sometimes none, or far too many */
call_maker_t make_memory_op, make_vcpu_op; /* the common ones, for what the guest adds to them */

/* What the guest has to give */
extern call_maker_t *const own_makers[NUMBERS]; /* in place of the common ones; null: it has none */
uint64_t frequent_call(void);                   /* the numbers of two of three calls */
bool call_is_possible(unsigned long nr);
uint64_t any_spare_frame(void);             /* where memory could be asked for */
uint64_t any_mapping_place(bool *is_entry); /* of a grant: an address, or that of an entry */

/* ---- Code (code.c) ---- */

unsigned code_make(uint8_t *to); /* up to 128 bytes, with a UD2 at the end; returns where that is */
uint64_t any_msr(void);
/* What the guest has to give: is the instruction not to be made now? */
bool code_avoids(const uint8_t *bytes);

#endif
