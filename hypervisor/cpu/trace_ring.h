/*
 * A trace buffer: what one CPU writes and a tool of domain 0 reads, in pages that both have mapped. Here is the arithmetic
 * alone, without CPUs or clocks: cpu/trace.h has those.
 *
 * Invariants:
 *  1. Only its CPU writes a ring, with interrupts off: there is no lock.
 *  2. Where Croft writes follows from its own 'prod', which no domain can reach. Of what is shared it reads 'cons' alone, once for
 *     each record, and uses it only to tell how much room there is: a wrong one costs records, nothing else.
 *  3. prod and cons count modulo twice the size, so that full and empty differ (<xen/trace.h>). A record never crosses the end
 *     of the buffer: what is left there is filled by a record of its own.
 */
#ifndef CPU_TRACE_RING_H
#define CPU_TRACE_RING_H

#include "hypercall/abi.h"

struct trace_ring {
    struct t_buf *shared; /* the header, in front of the records; null: there is no buffer */
    uint32_t size;        /* bytes for records */
    uint32_t prod;        /* below 2 * size */
    uint32_t lost;        /* records for which there was no room, since the last one that was written */
    uint64_t lost_since;  /* time stamp of the first of them */
    bool bad_cons;        /* the last one looked at cannot be: taken for a full buffer */
};

/* bytes: all of the buffer with its header, a multiple of 4 and at least a page, zeroed. */
void trace_ring_init(struct trace_ring *r, struct t_buf *shared, uint32_t bytes);
/*
 * Appends a record with n words (up to TRACE_EXTRA_MAX) behind its time stamp, or counts it as lost; what was lost is told, in a
 * record of its own, as soon as there is room. True: the buffer has just become half full, so the reader should be told.
 */
bool trace_ring_write(struct trace_ring *r, uint32_t event, uint64_t tsc, const uint32_t *words, unsigned n);

#endif
