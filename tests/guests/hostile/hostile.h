#ifndef HOSTILE_H
#define HOSTILE_H

#include "kit.h"

#define TEAM 4U /* vcpus */

/* Runs f on all vcpus at once, with the vcpu's number; back when all have come to its end. */
void team_run(void (*f)(unsigned v));

uint64_t random(unsigned v);
static inline unsigned below(unsigned v, unsigned limit) { return (unsigned)(random(v) % limit); }

void races(void);
void changing(void);
void floods(void);

#endif
