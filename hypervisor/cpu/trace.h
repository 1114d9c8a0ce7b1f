/*
 * Tracing: what happens on each CPU, with the time, in a buffer of the CPU's own which Debian's xentrace in domain 0 reads. The
 * events and their words are those of <xen/trace.h>. It is off until domain 0 asks for it (hypercall/sysctl_trace.c), and then
 * costs a look at trace_on at each place that could record something; hypercalls are traced by exchanging the entry code's table.
 *
 * The buffers belong to domain 0 as its shared_info does (FRAME_SHARED) and are never freed: who writes a record needs to look
 * only whether its CPU has one. Their set-up is under a lock; writing is not (cpu/trace_ring.h).
 */
#ifndef CPU_TRACE_H
#define CPU_TRACE_H

#include "cpu/cpumask.h"
#include "hypercall/abi.h"
#include "lib/util.h"

#define TRACE_PAGES_MAX 1024U /* of each CPU's buffer: so many are cleared in about half a millisecond */

extern bool trace_on;

/* Records an event with up to TRACE_EXTRA_MAX words; any context but that of an NMI, with any lock held. */
void trace_record(uint32_t event, const uint32_t *words, unsigned n);
#define TRACE(event, ...)                                                                                              \
    do {                                                                                                               \
        if (unlikely(trace_on)) {                                                                                      \
            const uint32_t words_[] = {__VA_ARGS__};                                                                   \
            trace_record(event, words_, ARRAY_SIZE(words_));                                                           \
        }                                                                                                              \
    } while (0)

void trace_init(void); /* boot: the softirq */
/*
 * Buffers of so many pages for each CPU. 0: they are there; -EINVAL: too many or none; -EBUSY: they are there with another size, which
 * stays; -ENOMEM; -ERESTART: there is more to do, call again.
 */
int trace_set_size(uint32_t pages);
int trace_enable(bool on); /* -EINVAL: there are no buffers */
void trace_set_event_mask(uint32_t mask);
void trace_set_cpu_mask(const cpumask_t *mask);
uint32_t trace_event_mask(void);
/* Frames with the list of all buffers (struct t_info), in a row; how many bytes. 0: there are no buffers yet. */
uint32_t trace_info(mfn_t *first);

#endif
