/* What event.c and event_fifo.c share. */
#ifndef DOMAIN_EVENT_PRIVATE_H
#define DOMAIN_EVENT_PRIVATE_H

#include "domain/domain.h"
#include "lib/nospec.h"

#define EVENT_BUCKET_SIZE (1U << EVENT_BUCKET_SHIFT)

enum channel_state {
    CHANNEL_FREE,
    CHANNEL_RESERVED, /* being bound or unbound by somebody who let go of the lock; nobody else touches it */
    CHANNEL_UNBOUND,
    CHANNEL_INTERDOMAIN,
    CHANNEL_PIRQ,
    CHANNEL_VIRQ,
    CHANNEL_IPI,
    CHANNEL_CROFT, /* to Croft: its events are for the domain's console */
};

struct event_channel {
    uint8_t state;
    uint8_t priority;
    uint8_t queue_priority; /* FIFO: the queue it was last linked into */
    bool pending_later;     /* FIFO: became pending before the guest gave the page of its event word */
    uint16_t notify_vcpu;
    uint16_t queue_vcpu;
    uint32_t port;         /* its own number */
    uint32_t source;       /* UNBOUND: domid that may bind; PIRQ: pirq; VIRQ: virq */
    struct domain *remote; /* INTERDOMAIN: */
    struct event_channel *peer;
};

/* The channel at a port, or null if the table does not reach so far. d->event.lock is held. */
static inline struct event_channel *event_channel_at(struct domain *d, uint32_t port)
{
    if (unlikely(port >= d->event.ports))
        return NULL;
    port = (uint32_t)index_nospec(port, d->event.ports);
    return &d->event.buckets[port >> EVENT_BUCKET_SHIFT][port & (EVENT_BUCKET_SIZE - 1)];
}

/* Makes a channel of d pending, notifies its vcpu and wakes pollers. Needs a lock that keeps the channel as it is. */
void event_channel_set_pending(struct domain *d, struct event_channel *c);

/* One bit of shared_info's arrays; false beyond their end. */
static inline bool event_two_level_test(const volatile xen_ulong_t *bits, uint32_t port)
{
    return port < EVTCHN_2L_NR_CHANNELS && test_bit(port, bits);
}

/* event_fifo.c. 'fifo' is d->event.fifo, read once. */

/* The page given as control block of vcpu 'id' / as next page of event words. -EINVAL, -ENOENT, -ENOMEM, -ENOSPC. */
int event_fifo_init_control(struct domain *d, uint64_t gfn, uint32_t offset, uint32_t id);
int event_fifo_expand_array(struct domain *d, uint64_t gfn);
/* False if it was pending before (then nobody needs to be told). */
bool event_fifo_set_pending(struct domain *d, struct event_fifo *fifo, struct event_channel *c);
void event_fifo_clear_pending(struct event_fifo *fifo, struct event_channel *c);
void event_fifo_unmask(struct domain *d, struct event_fifo *fifo, struct event_channel *c);
bool event_fifo_test(struct event_fifo *fifo, uint32_t port, unsigned bit); /* EVTCHN_FIFO_PENDING, MASKED, LINKED */
/* Gives the pages back. No lock held; nobody can reach f any more. */
void event_fifo_free(struct event_fifo *f);

#endif
