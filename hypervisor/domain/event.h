/*
 * Event channels: two-level and FIFO delivery, VIRQs, IPIs, PIRQs, interdomain.
 *
 * Locks: d->event.lock (irq-safe) protects a domain's channel table. A pair of interdomain channels changes only with the
 * locks of both domains (in order of domid), so either lock alone keeps the pair as it is: a sender takes its own
 * domain's only. Delivery itself is atomic operations on pages shared with the guest; linking into a FIFO queue has a
 * short lock of its own inside (struct event_fifo).
 * Order: irq descriptor > event > fifo > run queue. So pirq_* of platform/irq.h is never called with the event lock held.
 */
#ifndef DOMAIN_EVENT_H
#define DOMAIN_EVENT_H

#include "hypercall/abi.h"
#include "lib/spinlock.h"

struct domain;
struct vcpu;
struct event_channel; /* domain/event_private.h */
struct event_fifo;

#define EVENT_BUCKET_SHIFT 5 /* channels a bucket: allocated on demand */
#define EVENT_POLL_ANY (~0U)

struct event_domain {
    spinlock_t lock;
    uint32_t max_ports;             /* limit; ports below are valid for this ABI (2-level: 4096, FIFO: 131072) */
    uint32_t ports;                 /* table size now, in channels */
    uint32_t first_free;            /* no free port is below it */
    uint32_t close_from;            /* where closing all of them goes on */
    bool releasing;                 /* event_release_domain has begun */
    uint32_t bucket_slots;          /* size of buckets[] */
    struct event_channel **buckets; /* the buckets themselves stay until the domain goes */
    struct event_fifo *fifo;        /* null: two-level */
    uint32_t pirq_slots;            /* size of pirq_ports[] */
    uint32_t *pirq_ports;           /* 0: not bound */
    unsigned long pollers[2];       /* bitmap of vcpus in SCHEDOP_poll; one that is not blocked may be left in it */
};
struct event_vcpu {
    uint32_t virq_to_port[NR_VIRQS]; /* global ones: on vcpu 0, whoever is notified */
    uint32_t poll_port;              /* while it polls: the one it waits for, or EVENT_POLL_ANY */
};

int event_init_domain(struct domain *d); /* -ENOMEM */
void event_init_vcpu(struct vcpu *v);
void event_set_limit(struct domain *d, uint32_t max_ports); /* before the domain runs */
/* A dying domain, none of whose vcpus runs or will: closes all channels, whose peers are left unbound, and gives the FIFO pages
 * back. False: preempted, call again. Interrupts enabled. */
bool event_release_domain(struct domain *d);
/* After that, or if d never had a channel: frees the table. */
void event_destroy_domain(struct domain *d);

/* Delivery; any context. */
void event_send_virq(struct vcpu *v, unsigned virq);          /* per-vcpu VIRQ (timer, debug, ...) */
void event_send_global_virq(struct domain *d, unsigned virq); /* console, dom_exc, ... to the vcpu it is bound on */
void event_send_pirq(struct domain *d, unsigned pirq);
void event_send_port(struct domain *d, uint32_t port); /* one of event_bind_croft */
/* A new channel of d's whose other end is Croft: the console of a domain without tools. -ENOMEM, -ENOSPC, -EINVAL. No lock held. */
int event_bind_croft(struct domain *d, uint32_t *port);
/* By number, whatever is bound there; false for a port that this ABI does not have. */
bool event_port_pending(struct domain *d, unsigned port);
bool event_port_masked(struct domain *d, unsigned port);
bool event_port_valid(struct domain *d, unsigned port); /* is a channel open there */
/* Sets the vcpu's upcall-pending flag and wakes or interrupts it. For event.c and time code. */
void vcpu_mark_events_pending(struct vcpu *v);
/* True if v has an upcall pending that is not masked. */
bool vcpu_event_deliverable(const struct vcpu *v);
void event_key_report(void);

#endif
