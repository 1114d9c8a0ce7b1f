/*
 * Event channels: two-level and FIFO delivery, VIRQs, IPIs, PIRQs, interdomain.
 * Locks: d->event.lock (irq-safe) for a domain's channel table; two domains' locks in order of domid.
 */
#ifndef DOMAIN_EVENT_H
#define DOMAIN_EVENT_H

#include "hypercall/abi.h"
#include "lib/spinlock.h"

struct domain;
struct vcpu;
struct event_channel;              /* private to event.c, event_fifo.c */
struct event_fifo;

#define EVENT_BUCKET_SHIFT 5       /* channels a bucket: allocated on demand */

struct event_domain {
    spinlock_t lock;
    uint32_t max_ports;            /* limit; ports below are valid for this ABI (2-level: 4096, FIFO: 131072) */
    uint32_t ports;                /* table size now, in channels */
    struct event_channel **buckets;
    struct event_fifo *fifo;       /* null: two-level */
};
struct event_vcpu {
    uint32_t virq_to_port[NR_VIRQS];
    unsigned long poll_mask;       /* nonzero: in SCHEDOP_poll; see event.c */
    int poll_port;
};

int event_init_domain(struct domain *d);
void event_init_vcpu(struct vcpu *v);
void event_destroy_domain(struct domain *d);

/* Delivery; any context. */
void event_send_virq(struct vcpu *v, unsigned virq);          /* per-vcpu VIRQ (timer, debug, ...) */
void event_send_global_virq(struct domain *d, unsigned virq); /* console, dom_exc, ... to the vcpu it is bound on */
void event_send_pirq(struct domain *d, unsigned pirq);
bool event_port_pending(struct domain *d, unsigned port);
bool event_port_masked(struct domain *d, unsigned port);
/* Sets the vcpu's upcall-pending flag and wakes or interrupts it. For event.c and time code. */
void vcpu_mark_events_pending(struct vcpu *v);
/* True if v has an upcall pending that is not masked. */
bool vcpu_event_deliverable(const struct vcpu *v);
void event_key_report(void);

#endif
