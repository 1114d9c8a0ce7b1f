/* One CPU's trace buffer: see cpu/trace_ring.h for the rules. The layout is that of <xen/trace.h>. */
#include "cpu/trace_ring.h"

#include "lib/string.h"
#include "lib/util.h"

#define RECORD_BYTES(words) (uint32_t)(sizeof(uint32_t) + sizeof(uint64_t) + (words) * sizeof(uint32_t))
#define FILLER_MAX (RECORD_BYTES(TRACE_EXTRA_MAX) - sizeof(uint32_t))

/* What TRC_LOST_RECORDS tells */
struct lost_records {
    uint32_t count;
    uint16_t domain, vcpu; /* nobody's in particular */
    uint32_t since[2];     /* time stamp, low word first */
};
#define LOST_WORDS (sizeof(struct lost_records) / sizeof(uint32_t))

void trace_ring_init(struct trace_ring *r, struct t_buf *shared, uint32_t bytes)
{
    *r = (struct trace_ring){.shared = shared, .size = bytes - sizeof(*shared)};
}

/* Bytes that the reader has not taken yet. */
static uint32_t used(struct trace_ring *r)
{
    uint32_t cons = READ_ONCE(r->shared->cons), bytes;

    bytes = r->prod >= cons ? r->prod - cons : r->prod + 2 * r->size - cons;
    r->bad_cons = cons >= 2 * r->size || bytes > r->size;
    return r->bad_cons ? r->size : bytes;
}

static uint32_t *at_prod(struct trace_ring *r) { return (uint32_t *)(r->shared + 1) + r->prod % r->size / 4; }
static uint32_t left_to_end(const struct trace_ring *r) { return r->size - r->prod % r->size; }
static void advance(struct trace_ring *r, uint32_t bytes) { r->prod = (r->prod + bytes) % (2 * r->size); }

static uint32_t *stamp(uint32_t *to, uint64_t tsc)
{
    *to++ = (uint32_t)tsc;
    *to++ = (uint32_t)(tsc >> 32);
    return to;
}

/* From prod to the end of the buffer, at most FILLER_MAX bytes. */
static void fill_to_end(struct trace_ring *r, uint64_t tsc)
{
    uint32_t *to = at_prod(r), bytes = left_to_end(r), words = bytes / 4 - 1, header = TRC_TRACE_WRAP_BUFFER;

    if (words > TRACE_EXTRA_MAX) {
        words -= 2;
        header |= TRC_HD_CYCLE_FLAG;
    }
    *to++ = header | words << TRACE_EXTRA_SHIFT;
    if (header & TRC_HD_CYCLE_FLAG)
        to = stamp(to, tsc);
    memset(to, 0, words * sizeof(uint32_t));
    advance(r, bytes);
}

static void append(struct trace_ring *r, uint32_t event, uint64_t tsc, const uint32_t *words, unsigned n)
{
    uint32_t *to;

    if (left_to_end(r) < RECORD_BYTES(n))
        fill_to_end(r, tsc);
    to = at_prod(r);
    *to++ = event | n << TRACE_EXTRA_SHIFT | TRC_HD_CYCLE_FLAG;
    memcpy(stamp(to, tsc), words, n * sizeof(uint32_t));
    advance(r, RECORD_BYTES(n));
}

bool trace_ring_write(struct trace_ring *r, uint32_t event, uint64_t tsc, const uint32_t *words, unsigned n)
{
    uint32_t before = used(r), need = RECORD_BYTES(n) + (r->lost ? RECORD_BYTES(LOST_WORDS) : 0), written,
             start = r->prod;

    if (left_to_end(r) < need)
        need += FILLER_MAX;
    if (r->size - before < need) {
        if (!r->lost++)
            r->lost_since = tsc;
        return false;
    }
    if (r->lost) {
        struct lost_records l = {r->lost, 0, 0, {(uint32_t)r->lost_since, (uint32_t)(r->lost_since >> 32)}};

        append(r, TRC_LOST_RECORDS, tsc, (const uint32_t *)&l, LOST_WORDS);
        r->lost = 0;
    }
    append(r, event, tsc, words, n);
    smp_wmb(); /* the records, then where they end */
    WRITE_ONCE(r->shared->prod, r->prod);
    written = r->prod >= start ? r->prod - start : r->prod + 2 * r->size - start;
    return before < r->size / 2 && before + written >= r->size / 2;
}
