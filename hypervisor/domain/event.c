/*
 * Event channels: the table of a domain's channels, delivery by the two-level ABI, and EVTCHNOP_*.
 * The locking is told in domain/event.h. FIFO delivery is in domain/event_fifo.c.
 *
 * A port that is being bound is RESERVED first: memory, other domains' locks and the interrupt code can then be used with
 * no lock held, and nobody else touches the port. Binding is the last step and cannot fail.
 */
#include "domain/event.h"

#include "cpu/smp.h"
#include "domain/event_private.h"
#include "domain/guest_console.h"
#include "domain/guest_access.h"
#include "hvm/hvm.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"
#include "lib/nospec.h"
#include "lib/string.h"
#include "memory/alloc.h"
#include "platform/irq.h"

_Static_assert(MAX_VCPUS <= 8 * sizeof(((struct event_domain *)NULL)->pollers), "a poller bit for each vcpu");
_Static_assert(sizeof(struct event_channel) == 32, "two channels a cache line");

#define FIRST_BUCKET_SLOTS 128U /* enough for two-level */
#define FIRST_PIRQ_SLOTS 256U
#define MAX_PIRQS 8192U
/* Are closed between two looks at whether to go on later */
#define PORTS_PER_SLICE 64U
#define PIRQ_BUSY (~0U) /* in pirq_ports: being unbound */
#define POLLER_LONGS ARRAY_SIZE(((struct event_domain *)NULL)->pollers)

/* Ports of the ABI in use. */
static uint32_t port_limit(const struct domain *d)
{
    return min(d->event.max_ports, d->event.fifo ? (uint32_t)EVTCHN_FIFO_NR_CHANNELS : (uint32_t)EVTCHN_2L_NR_CHANNELS);
}

static bool virq_is_global(unsigned virq)
{
    return virq != VIRQ_TIMER && virq != VIRQ_DEBUG && virq != VIRQ_XENOPROF && virq != VIRQ_XENPMU;
}

/* ---- Delivery ---- */

bool vcpu_event_deliverable(const struct vcpu *v)
{
    const volatile struct vcpu_info *info = v->info;

    if (v->hvm)
        return hvm_interrupt_pending((struct vcpu *)v);
    return info->evtchn_upcall_pending && !info->evtchn_upcall_mask;
}

void vcpu_mark_events_pending(struct vcpu *v)
{
    struct vcpu_info *info = READ_ONCE(v->info);

    /* The exchange is a full barrier: vcpu_kick looks at the vcpu's state after the flag is seen. */
    if (!__atomic_exchange_n(&info->evtchn_upcall_pending, 1, __ATOMIC_SEQ_CST)) {
        if (v->hvm)
            hvm_event_pending(v);
        vcpu_kick(v);
    }
}

/* Vcpus in SCHEDOP_poll wake up for a port even if it is masked. */
static void wake_pollers(struct domain *d, uint32_t port)
{
    unsigned id;

    for_each_set_bit (id, d->event.pollers, MAX_VCPUS) {
        struct vcpu *v = domain_vcpu(d, id);

        if (v && (v->event.poll_port == port || v->event.poll_port == EVENT_POLL_ANY))
            vcpu_unblock(v);
    }
}

static bool two_level_set_pending(struct domain *d, struct event_channel *c)
{
    volatile struct shared_info *s = d->shared_info;
    uint32_t port = c->port;
    struct vcpu_info *info;
    struct vcpu *v;

    if (unlikely(port >= EVTCHN_2L_NR_CHANNELS) || test_and_set_bit(port, s->evtchn_pending))
        return false;
    v = d->vcpus[READ_ONCE(c->notify_vcpu)];
    info = READ_ONCE(v->info);
    if (!test_bit(port, s->evtchn_mask) && !test_and_set_bit(port / BITS_PER_LONG, &info->evtchn_pending_sel))
        vcpu_mark_events_pending(v);
    return true;
}

static void two_level_unmask(struct domain *d, struct event_channel *c)
{
    volatile struct shared_info *s = d->shared_info;
    uint32_t port = c->port;
    struct vcpu *v = d->vcpus[c->notify_vcpu];
    struct vcpu_info *info = READ_ONCE(v->info);

    if (port < EVTCHN_2L_NR_CHANNELS && test_and_clear_bit(port, s->evtchn_mask) && test_bit(port, s->evtchn_pending) &&
        !test_and_set_bit(port / BITS_PER_LONG, &info->evtchn_pending_sel))
        vcpu_mark_events_pending(v);
}

void event_channel_set_pending(struct domain *d, struct event_channel *c)
{
    struct event_fifo *f = __atomic_load_n(&d->event.fifo, __ATOMIC_ACQUIRE);
    bool fresh = likely(f) ? event_fifo_set_pending(d, f, c) : two_level_set_pending(d, c);

    if (fresh && unlikely(READ_ONCE(d->event.pollers[0]) | READ_ONCE(d->event.pollers[1])))
        wake_pollers(d, c->port);
}

static void clear_pending(struct domain *d, struct event_channel *c)
{
    if (d->event.fifo)
        event_fifo_clear_pending(d->event.fifo, c);
    else if (c->port < EVTCHN_2L_NR_CHANNELS)
        clear_bit(c->port, d->shared_info->evtchn_pending);
}

/* To a bound port of d, from Croft. */
static void send_to_port(struct domain *d, uint32_t port)
{
    struct event_channel *c = event_channel_at(d, port);

    if (c && c->state != CHANNEL_FREE)
        event_channel_set_pending(d, c);
}

void event_send_virq(struct vcpu *v, unsigned virq)
{
    struct domain *d = v->domain;
    unsigned long flags;
    uint32_t port;

    if (!READ_ONCE(v->event.virq_to_port[virq]))
        return;
    flags = spin_lock_irqsave(&d->event.lock);
    port = v->event.virq_to_port[virq];
    if (port)
        send_to_port(d, port);
    spin_unlock_irqrestore(&d->event.lock, flags);
}

void event_send_global_virq(struct domain *d, unsigned virq)
{
    struct vcpu *v = d ? domain_vcpu(d, 0) : NULL;

    if (v)
        event_send_virq(v, virq);
}

void event_send_pirq(struct domain *d, unsigned pirq)
{
    unsigned long flags = spin_lock_irqsave(&d->event.lock);
    uint32_t port = pirq < d->event.pirq_slots ? d->event.pirq_ports[pirq] : 0;

    if (port && port != PIRQ_BUSY)
        send_to_port(d, port);
    spin_unlock_irqrestore(&d->event.lock, flags);
}

void event_send_port(struct domain *d, uint32_t port)
{
    unsigned long flags = spin_lock_irqsave(&d->event.lock);
    struct event_channel *c = event_channel_at(d, port);

    if (c && c->state == CHANNEL_CROFT)
        event_channel_set_pending(d, c);
    spin_unlock_irqrestore(&d->event.lock, flags);
}

static bool port_test(struct domain *d, uint32_t port, const volatile xen_ulong_t *bits, unsigned fifo_bit)
{
    unsigned long flags = spin_lock_irqsave(&d->event.lock); /* keeps the FIFO pages */
    bool set = d->event.fifo ? event_fifo_test(d->event.fifo, port, fifo_bit) : event_two_level_test(bits, port);

    spin_unlock_irqrestore(&d->event.lock, flags);
    return set;
}

bool event_port_pending(struct domain *d, unsigned port)
{
    return port_test(d, port, d->shared_info->evtchn_pending, EVTCHN_FIFO_PENDING);
}

bool event_port_masked(struct domain *d, unsigned port)
{
    return port_test(d, port, d->shared_info->evtchn_mask, EVTCHN_FIFO_MASKED);
}

bool event_port_valid(struct domain *d, unsigned port)
{
    unsigned long flags = spin_lock_irqsave(&d->event.lock);
    struct event_channel *c = event_channel_at(d, port);
    bool valid = c && c->state > CHANNEL_RESERVED;

    spin_unlock_irqrestore(&d->event.lock, flags);
    return valid;
}

/* ---- The table ---- */

int event_init_domain(struct domain *d)
{
    spin_lock_init(&d->event.lock);
    d->event.max_ports = EVTCHN_FIFO_NR_CHANNELS;
    d->event.first_free = d->event.close_from = 1; /* port 0 is never used */
    d->event.buckets = heap_alloc(FIRST_BUCKET_SLOTS * sizeof(d->event.buckets[0]));
    if (!d->event.buckets)
        return -ENOMEM;
    d->event.bucket_slots = FIRST_BUCKET_SLOTS;
    return 0;
}

void event_init_vcpu(struct vcpu *v) { memset(&v->event, 0, sizeof(v->event)); }

void event_set_limit(struct domain *d, uint32_t max_ports)
{
    d->event.max_ports = min(max_ports, (uint32_t)EVTCHN_FIFO_NR_CHANNELS);
}

/* Adds a bucket to a table that had 'ports' channels; somebody else may have done so meanwhile. No lock held. */
static int grow_table(struct domain *d, uint32_t ports)
{
    struct event_channel *bucket = heap_alloc(EVENT_BUCKET_SIZE * sizeof(*bucket)), **slots = NULL;
    uint32_t slot = ports >> EVENT_BUCKET_SHIFT, new_slots = 2 * slot;
    unsigned long flags;

    if (slot >= READ_ONCE(d->event.bucket_slots))
        slots = heap_alloc(new_slots * sizeof(slots[0]));
    if (!bucket || (slot >= READ_ONCE(d->event.bucket_slots) && !slots)) {
        heap_free(bucket);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < EVENT_BUCKET_SIZE; i++) {
        bucket[i].port = ports + i;
        bucket[i].priority = bucket[i].queue_priority = EVTCHN_FIFO_PRIORITY_DEFAULT;
    }
    flags = spin_lock_irqsave(&d->event.lock);
    if (d->event.ports == ports && !d->dying) {
        if (slot >= d->event.bucket_slots) {
            struct event_channel **old = d->event.buckets;

            memcpy(slots, old, d->event.bucket_slots * sizeof(slots[0]));
            d->event.buckets = slots;
            d->event.bucket_slots = new_slots;
            slots = old;
        }
        d->event.buckets[slot] = bucket;
        d->event.ports += EVENT_BUCKET_SIZE;
        bucket = NULL;
    }
    spin_unlock_irqrestore(&d->event.lock, flags);
    heap_free(slots);
    heap_free(bucket);
    return 0;
}

/* A free port that may be used; null if the table has none. d->event.lock is held. */
static struct event_channel *find_free(struct domain *d)
{
    uint32_t end = min(d->event.ports, port_limit(d));
    bool lowest = true;

    for (uint32_t port = d->event.first_free; port < end; port++) {
        struct event_channel *c = event_channel_at(d, port);

        if (c->state != CHANNEL_FREE)
            continue;
        if (lowest)
            d->event.first_free = port;
        lowest = false;
        /* Still in a queue since it was closed: it would come up with the old vcpu and priority. */
        if (d->event.fifo && event_fifo_test(d->event.fifo, port, EVTCHN_FIFO_LINKED))
            continue;
        return c;
    }
    if (lowest)
        d->event.first_free = max(d->event.first_free, end);
    return NULL;
}

/* Reserves a port: 0, -ENOSPC, -ENOMEM, -EINVAL (the domain is dying). No lock held. */
static int channel_reserve(struct domain *d, struct event_channel **out)
{
    for (;;) {
        unsigned long flags = spin_lock_irqsave(&d->event.lock);
        struct event_channel *c = d->dying ? NULL : find_free(d);
        uint32_t ports = d->event.ports, limit = port_limit(d);
        int error;

        if (c)
            c->state = CHANNEL_RESERVED;
        spin_unlock_irqrestore(&d->event.lock, flags);
        *out = c;
        if (c)
            return 0;
        if (d->dying)
            return -EINVAL;
        if (ports >= limit)
            return refuse(-ENOSPC, "event channels: all %u ports of %s are in use\n", limit, d->name);
        error = grow_table(d, ports);
        if (error)
            return refuse(error, "event channels: no memory for more than %u ports of %s\n", ports, d->name);
    }
}

/* Both are held: the lock, and the channel is the caller's to free. */
static void channel_free(struct domain *d, struct event_channel *c)
{
    clear_pending(d, c);
    c->state = CHANNEL_FREE;
    c->notify_vcpu = 0;
    c->priority = EVTCHN_FIFO_PRIORITY_DEFAULT;
    c->source = 0;
    c->remote = NULL;
    c->peer = NULL;
    d->event.first_free = min(d->event.first_free, c->port);
}

/* A reserved port becomes a channel that needs nobody else. -EINVAL: meanwhile the domain is dying, and its table may be gone. */
static int channel_bind(struct domain *d, struct event_channel *c, enum channel_state state, unsigned vcpu,
                        uint32_t source)
{
    unsigned long flags = spin_lock_irqsave(&d->event.lock);
    int error = d->dying ? -EINVAL : 0;

    if (!error) {
        c->notify_vcpu = vcpu;
        c->source = source;
        c->state = state;
    }
    spin_unlock_irqrestore(&d->event.lock, flags);
    return error;
}

int event_bind_croft(struct domain *d, uint32_t *port)
{
    struct event_channel *c;
    int error = channel_reserve(d, &c);

    if (error)
        return error;
    *port = c->port;
    return channel_bind(d, c, CHANNEL_CROFT, 0, 0);
}

static unsigned long lock_two(struct domain *a, struct domain *b)
{
    unsigned long flags = irq_save();

    if (a == b) {
        spin_lock(&a->event.lock);
    } else {
        spin_lock(a->id < b->id ? &a->event.lock : &b->event.lock);
        spin_lock(a->id < b->id ? &b->event.lock : &a->event.lock);
    }
    return flags;
}

static void unlock_two(struct domain *a, struct domain *b, unsigned long flags)
{
    if (a != b)
        spin_unlock(&b->event.lock);
    spin_unlock_irqrestore(&a->event.lock, flags);
}

/* ---- Closing ---- */

/* A pirq goes: the interrupt code is called without the lock, and until it is through nobody can bind the pirq anew. */
static void pirq_release(struct domain *d, uint32_t pirq)
{
    unsigned long flags;

    pirq_guest_eoi(d, pirq);
    pirq_guest_unbind(d, pirq);
    flags = spin_lock_irqsave(&d->event.lock);
    d->event.pirq_ports[pirq] = 0;
    spin_unlock_irqrestore(&d->event.lock, flags);
}

/* Closes an interdomain channel, whose other end becomes unbound. False: it is one no longer; look again. */
static bool close_interdomain(struct domain *d, struct event_channel *c, struct domain *remote)
{
    unsigned long flags = lock_two(d, remote);
    bool same = c->state == CHANNEL_INTERDOMAIN && c->remote == remote;

    if (same) {
        struct event_channel *peer = c->peer;

        peer->state = CHANNEL_UNBOUND;
        peer->source = d->id;
        peer->remote = NULL;
        peer->peer = NULL;
        channel_free(d, c);
    }
    unlock_two(d, remote, flags);
    return same;
}

static int channel_close(struct domain *d, uint32_t port)
{
    for (;;) {
        unsigned long flags = spin_lock_irqsave(&d->event.lock);
        struct event_channel *c = event_channel_at(d, port);
        struct domain *remote;
        uint32_t source;
        bool held, closed = false;

        if (!c || c->state <= CHANNEL_RESERVED) {
            spin_unlock_irqrestore(&d->event.lock, flags);
            return -EINVAL;
        }
        source = c->source;
        switch (c->state) {
        case CHANNEL_INTERDOMAIN:
            remote = c->remote;
            held = domain_get(remote); /* it is there as long as the channel is, and that we hold by the lock */
            spin_unlock_irqrestore(&d->event.lock, flags);
            if (held) {
                closed = close_interdomain(d, c, remote);
                domain_put(remote);
            }
            if (!closed)
                continue;
            return 0;
        case CHANNEL_PIRQ:
            d->event.pirq_ports[source] = PIRQ_BUSY;
            channel_free(d, c);
            spin_unlock_irqrestore(&d->event.lock, flags);
            pirq_release(d, source);
            return 0;
        case CHANNEL_VIRQ:
            d->vcpus[virq_is_global(source) ? 0 : c->notify_vcpu]->event.virq_to_port[source] = 0;
            break;
        }
        channel_free(d, c);
        spin_unlock_irqrestore(&d->event.lock, flags);
        return 0;
    }
}

/* Back to two-level, if no channel is open. */
static bool fifo_end(struct domain *d)
{
    unsigned long flags = spin_lock_irqsave(&d->event.lock);
    struct event_fifo *f = d->event.fifo;
    uint32_t port;

    for (port = 1; f && port < d->event.ports; port++)
        if (event_channel_at(d, port)->state > CHANNEL_RESERVED)
            break;
    if (f && port < d->event.ports) {
        spin_unlock_irqrestore(&d->event.lock, flags);
        return false;
    }
    for (port = 1; f && port < d->event.ports; port++)
        event_channel_at(d, port)->pending_later = false;
    WRITE_ONCE(d->event.fifo, NULL);
    spin_unlock_irqrestore(&d->event.lock, flags);
    if (f)
        event_fifo_free(f);
    return true;
}

/*
 * Closes all channels, and ends FIFO delivery. False: preempted, or somebody has opened one meanwhile; close_from says where to go
 * on. The look at a port costs time even if it is closed: who goes on must not begin anew.
 */
static bool close_all(struct domain *d)
{
    for (uint32_t port = READ_ONCE(d->event.close_from); port < READ_ONCE(d->event.ports); port++) {
        (void)channel_close(d, port);
        if (port % PORTS_PER_SLICE == 0 && hypercall_preempt_check()) {
            WRITE_ONCE(d->event.close_from, port + 1);
            return false;
        }
    }
    WRITE_ONCE(d->event.close_from, 1);
    return fifo_end(d);
}

bool event_release_domain(struct domain *d)
{
    if (!d->event.releasing) { /* it may have been in the middle of a reset */
        d->event.releasing = true;
        WRITE_ONCE(d->event.close_from, 1);
    }
    return close_all(d);
}

void event_destroy_domain(struct domain *d)
{
    struct event_channel **buckets = d->event.buckets;
    uint32_t *pirq_ports = d->event.pirq_ports, ports;
    unsigned long flags;

    ASSERT(!d->event.fifo);
    flags = spin_lock_irqsave(&d->event.lock); /* reports may look at it */
    ports = d->event.ports;
    d->event.buckets = NULL;
    d->event.pirq_ports = NULL;
    d->event.ports = d->event.pirq_slots = d->event.bucket_slots = 0;
    spin_unlock_irqrestore(&d->event.lock, flags);
    for (uint32_t i = 0; i < ports >> EVENT_BUCKET_SHIFT; i++)
        heap_free(buckets[i]);
    heap_free(buckets);
    heap_free(pirq_ports);
}

/* ---- EVTCHNOP_*: the current domain is the caller ---- */

/* The domain a call names: 0, or -ESRCH, or -EPERM if it is not the caller's own and the caller has no right to others. */
static int named_domain(domid_t id, struct domain **out)
{
    struct domain *d = domain_get_by_id(id);

    *out = d;
    if (!d)
        return refuse(-ESRCH, "event channels: there is no domain %u\n", id);
    if (d != current->domain && !current->domain->is_privileged) {
        domain_put(d);
        return refuse(-EPERM, "event channels: a call for domain %u needs privilege\n", id);
    }
    return 0;
}

static domid_t real_domid(domid_t id) { return id == DOMID_SELF ? current->domain->id : id; }

static long op_alloc_unbound(struct evtchn_alloc_unbound *a, struct domain **owner)
{
    struct event_channel *c;
    struct domain *d;
    int error = named_domain(a->dom, &d);

    if (error)
        return error;
    error = channel_reserve(d, &c);
    if (!error) {
        a->port = c->port;
        error = channel_bind(d, c, CHANNEL_UNBOUND, 0, real_domid(a->remote_dom));
    }
    if (error) {
        domain_put(d);
        return error;
    }
    *owner = d;
    return 0;
}

static long op_bind_interdomain(struct evtchn_bind_interdomain *a)
{
    struct domain *d = current->domain, *remote = domain_get_by_id(a->remote_dom);
    struct event_channel *c, *peer;
    unsigned long flags;
    int error;

    if (!remote)
        return refuse(-ESRCH, "event channels: bind to domain %u, which does not exist\n", a->remote_dom);
    error = channel_reserve(d, &c);
    if (error) {
        domain_put(remote);
        return error;
    }
    flags = lock_two(d, remote);
    peer = event_channel_at(remote, a->remote_port);
    if (!peer || peer->state != CHANNEL_UNBOUND || peer->source != d->id || remote->dying) {
        channel_free(d, c);
        error = -EINVAL;
    } else {
        *c = (struct event_channel){
            .state = CHANNEL_INTERDOMAIN,
            .priority = c->priority,
            .queue_priority = c->queue_priority,
            .queue_vcpu = c->queue_vcpu,
            .port = c->port,
            .remote = remote,
            .peer = peer,
        };
        peer->state = CHANNEL_INTERDOMAIN;
        peer->remote = d;
        peer->peer = c;
        a->local_port = c->port;
        event_channel_set_pending(d, c); /* the peer may have sent before it was bound */
    }
    unlock_two(d, remote, flags);
    domain_put(remote);
    if (error)
        guest_log(LOG_WARNING, "event channels: port %u of domain %u does not wait for us\n", a->remote_port,
                  a->remote_dom);
    return error;
}

static long op_bind_virq(struct evtchn_bind_virq *a)
{
    struct domain *d = current->domain;
    struct event_channel *c;
    unsigned long flags;
    struct vcpu *v;
    int error;

    if (a->virq >= NR_VIRQS || (virq_is_global(a->virq) && a->vcpu))
        return refuse(-EINVAL, "event channels: VIRQ %u on vcpu %u\n", a->virq, a->vcpu);
    v = domain_vcpu(d, a->vcpu);
    if (!v)
        return refuse(-ENOENT, "event channels: VIRQ %u on vcpu %u, which does not exist\n", a->virq, a->vcpu);
    error = channel_reserve(d, &c);
    if (error)
        return error;

    flags = spin_lock_irqsave(&d->event.lock);
    if (v->event.virq_to_port[a->virq]) {
        channel_free(d, c);
        error = -EEXIST;
    } else {
        c->state = CHANNEL_VIRQ;
        c->notify_vcpu = v->id;
        c->source = a->virq;
        v->event.virq_to_port[a->virq] = a->port = c->port;
    }
    spin_unlock_irqrestore(&d->event.lock, flags);
    if (error)
        guest_log(LOG_WARNING, "event channels: VIRQ %u of vcpu %u is bound\n", a->virq, a->vcpu);
    return error;
}

static long op_bind_ipi(struct evtchn_bind_ipi *a)
{
    struct domain *d = current->domain;
    struct event_channel *c;
    int error;

    if (!domain_vcpu(d, a->vcpu))
        return refuse(-ENOENT, "event channels: IPI to vcpu %u, which does not exist\n", a->vcpu);
    error = channel_reserve(d, &c);
    if (error)
        return error;
    a->port = c->port;
    return channel_bind(d, c, CHANNEL_IPI, a->vcpu, 0);
}

/* Makes pirq_ports[] long enough. No lock held. */
static int grow_pirqs(struct domain *d, uint32_t pirq)
{
    uint32_t slots = max(FIRST_PIRQ_SLOTS, 2U << ilog2(pirq | 1)), *ports;
    unsigned long flags;

    if (pirq < READ_ONCE(d->event.pirq_slots))
        return 0;
    ports = heap_alloc(slots * sizeof(ports[0]));
    if (!ports)
        return -ENOMEM;
    flags = spin_lock_irqsave(&d->event.lock);
    if (d->event.pirq_slots < slots) {
        uint32_t *old = d->event.pirq_ports;

        if (old)
            memcpy(ports, old, d->event.pirq_slots * sizeof(ports[0]));
        d->event.pirq_ports = ports;
        d->event.pirq_slots = slots;
        ports = old;
    }
    spin_unlock_irqrestore(&d->event.lock, flags);
    heap_free(ports);
    return 0;
}

static long op_bind_pirq(struct evtchn_bind_pirq *a)
{
    struct domain *d = current->domain;
    struct event_channel *c;
    unsigned long flags;
    int error;

    if (a->pirq >= MAX_PIRQS || a->flags & ~BIND_PIRQ__WILL_SHARE)
        return refuse(-EINVAL, "event channels: PIRQ %u, flags %#x\n", a->pirq, a->flags);
    if (!d->irq)
        return refuse(-EPERM, "event channels: PIRQ %u: the domain has no devices\n", a->pirq);
    error = grow_pirqs(d, a->pirq);
    if (!error)
        error = channel_reserve(d, &c);
    if (error)
        return error;

    /* The pirq leads to the port from now on: an interrupt may come before pirq_guest_bind returns. */
    flags = spin_lock_irqsave(&d->event.lock);
    if (d->event.pirq_ports[a->pirq]) {
        channel_free(d, c);
        error = -EEXIST;
    } else {
        c->source = a->pirq;
        d->event.pirq_ports[a->pirq] = c->port;
    }
    spin_unlock_irqrestore(&d->event.lock, flags);
    if (error)
        return refuse(error, "event channels: PIRQ %u is bound\n", a->pirq);

    error = pirq_guest_bind(d, a->pirq, a->flags & BIND_PIRQ__WILL_SHARE);
    flags = spin_lock_irqsave(&d->event.lock);
    if (error) {
        d->event.pirq_ports[a->pirq] = 0;
        channel_free(d, c);
    } else {
        c->state = CHANNEL_PIRQ;
        a->port = c->port;
    }
    spin_unlock_irqrestore(&d->event.lock, flags);
    return error;
}

static long op_send(uint32_t port)
{
    struct domain *d = current->domain;
    unsigned long flags = spin_lock_irqsave(&d->event.lock);
    struct event_channel *c = event_channel_at(d, port);
    long result = 0;
    bool croft = false;

    if (likely(c && c->state == CHANNEL_INTERDOMAIN))
        event_channel_set_pending(c->remote, c->peer); /* d's lock alone keeps the pair */
    else if (c && c->state == CHANNEL_IPI)
        event_channel_set_pending(d, c);
    else if (c && c->state == CHANNEL_CROFT)
        croft = true;
    else if (!c || c->state != CHANNEL_UNBOUND) /* an unbound one loses its events until it is bound */
        result = -EINVAL;
    spin_unlock_irqrestore(&d->event.lock, flags);
    if (unlikely(croft))
        guest_console_kick(d);
    if (unlikely(result))
        guest_log(LOG_WARNING, "event channels: send to port %u, which is none to send to\n", port);
    return result;
}

static long op_status(struct evtchn_status *a)
{
    struct event_channel *c;
    unsigned long flags;
    struct domain *d;
    int error = named_domain(a->dom, &d);

    if (error)
        return error;
    memset(&a->u, 0, sizeof(a->u));
    a->vcpu = 0;
    a->status = EVTCHNSTAT_closed;
    flags = spin_lock_irqsave(&d->event.lock);
    c = event_channel_at(d, a->port);
    if (!c) {
        error = -EINVAL; /* tools walk the ports until they see this: no log line */
    } else {
        a->vcpu = c->notify_vcpu;
        switch (c->state) {
        case CHANNEL_UNBOUND:
            a->status = EVTCHNSTAT_unbound;
            a->u.unbound.dom = c->source;
            break;
        case CHANNEL_INTERDOMAIN:
            a->status = EVTCHNSTAT_interdomain;
            a->u.interdomain.dom = c->remote->id;
            a->u.interdomain.port = c->peer->port;
            break;
        case CHANNEL_PIRQ:
            a->status = EVTCHNSTAT_pirq;
            a->u.pirq = c->source;
            break;
        case CHANNEL_VIRQ:
            a->status = EVTCHNSTAT_virq;
            a->u.virq = c->source;
            break;
        case CHANNEL_IPI:
            a->status = EVTCHNSTAT_ipi;
            break;
        case CHANNEL_CROFT:
            a->status = EVTCHNSTAT_interdomain;
            a->u.interdomain.dom = DOMID_XEN;
            break;
        }
    }
    spin_unlock_irqrestore(&d->event.lock, flags);
    domain_put(d);
    return error;
}

static long op_bind_vcpu(const struct evtchn_bind_vcpu *a)
{
    struct domain *d = current->domain;
    struct event_channel *c;
    unsigned long flags;
    bool pirq = false;
    uint32_t source = 0;
    int error = 0;

    if (!domain_vcpu(d, a->vcpu))
        return refuse(-ENOENT, "event channels: port %u to vcpu %u, which does not exist\n", a->port, a->vcpu);
    flags = spin_lock_irqsave(&d->event.lock);
    c = event_channel_at(d, a->port);
    if (!c || c->state <= CHANNEL_RESERVED || c->state == CHANNEL_IPI ||
        (c->state == CHANNEL_VIRQ && !virq_is_global(c->source))) {
        error = -EINVAL;
    } else {
        WRITE_ONCE(c->notify_vcpu, a->vcpu);
        pirq = c->state == CHANNEL_PIRQ;
        source = c->source;
    }
    spin_unlock_irqrestore(&d->event.lock, flags);
    if (pirq)
        pirq_guest_set_affinity(d, source, a->vcpu);
    if (error)
        guest_log(LOG_WARNING, "event channels: port %u cannot be bound to another vcpu\n", a->port);
    return error;
}

static long op_unmask(uint32_t port)
{
    struct domain *d = current->domain;
    unsigned long flags = spin_lock_irqsave(&d->event.lock);
    struct event_channel *c = event_channel_at(d, port);
    bool pirq = c && c->state == CHANNEL_PIRQ;
    uint32_t source = c ? c->source : 0;

    if (c && d->event.fifo)
        event_fifo_unmask(d, d->event.fifo, c);
    else if (c)
        two_level_unmask(d, c);
    spin_unlock_irqrestore(&d->event.lock, flags);
    if (pirq)
        pirq_guest_eoi(d, source);
    return c ? 0 : refuse(-EINVAL, "event channels: unmask of port %u, which does not exist\n", port);
}

static long op_set_priority(const struct evtchn_set_priority *a)
{
    struct domain *d = current->domain;
    struct event_channel *c;
    unsigned long flags;
    int error = 0;

    if (a->priority > EVTCHN_FIFO_PRIORITY_MIN)
        return refuse(-EINVAL, "event channels: priority %u of port %u\n", a->priority, a->port);
    flags = spin_lock_irqsave(&d->event.lock);
    c = event_channel_at(d, a->port);
    if (!c || c->state <= CHANNEL_RESERVED)
        error = -EINVAL;
    else if (!d->event.fifo)
        error = -ENOSYS;
    else
        WRITE_ONCE(c->priority, (uint8_t)a->priority);
    spin_unlock_irqrestore(&d->event.lock, flags);
    if (error)
        guest_log(LOG_WARNING, "event channels: priority of port %u: %s\n", a->port,
                  error == -ENOSYS ? "two-level ports have none" : "it is not open");
    return error;
}

static long op_reset(domid_t id, uint64_t arg, bool continued)
{
    struct domain *d;
    int error = named_domain(id, &d);
    bool done;

    if (error)
        return error;
    if (!continued)
        WRITE_ONCE(d->event.close_from, 1);
    done = close_all(d);
    domain_put(d);
    return done ? 0 : hypercall_continue(EVTCHNOP_reset_cont, arg, 0, 0, 0);
}

union event_args {
    struct evtchn_alloc_unbound alloc_unbound;
    struct evtchn_bind_interdomain bind_interdomain;
    struct evtchn_bind_virq bind_virq;
    struct evtchn_bind_pirq bind_pirq;
    struct evtchn_bind_ipi bind_ipi;
    struct evtchn_close close;
    struct evtchn_send send;
    struct evtchn_status status;
    struct evtchn_bind_vcpu bind_vcpu;
    struct evtchn_unmask unmask;
    struct evtchn_reset reset;
    struct evtchn_init_control init_control;
    struct evtchn_expand_array expand_array;
    struct evtchn_set_priority set_priority;
};

static const uint8_t arg_size[] = {
    [EVTCHNOP_bind_interdomain] = sizeof(struct evtchn_bind_interdomain),
    [EVTCHNOP_bind_virq] = sizeof(struct evtchn_bind_virq),
    [EVTCHNOP_bind_pirq] = sizeof(struct evtchn_bind_pirq),
    [EVTCHNOP_close] = sizeof(struct evtchn_close),
    [EVTCHNOP_send] = sizeof(struct evtchn_send),
    [EVTCHNOP_status] = sizeof(struct evtchn_status),
    [EVTCHNOP_alloc_unbound] = sizeof(struct evtchn_alloc_unbound),
    [EVTCHNOP_bind_ipi] = sizeof(struct evtchn_bind_ipi),
    [EVTCHNOP_bind_vcpu] = sizeof(struct evtchn_bind_vcpu),
    [EVTCHNOP_unmask] = sizeof(struct evtchn_unmask),
    [EVTCHNOP_reset] = sizeof(struct evtchn_reset),
    [EVTCHNOP_init_control] = sizeof(struct evtchn_init_control),
    [EVTCHNOP_expand_array] = sizeof(struct evtchn_expand_array),
    [EVTCHNOP_set_priority] = sizeof(struct evtchn_set_priority),
    [EVTCHNOP_reset_cont] = sizeof(struct evtchn_reset),
};

/* Gives a new port's number to the guest; if that fails the port is closed again. Drops the reference to owner, if any. */
static long give_port(void *guest, const union event_args *a, size_t size, struct domain *owner, uint32_t port)
{
    long result = 0;

    if (copy_to_guest(guest, a, size)) {
        channel_close(owner ? owner : current->domain, port);
        result = -EFAULT;
    }
    if (owner)
        domain_put(owner);
    return result;
}

static long init_control(struct evtchn_init_control *a, void *guest)
{
    /* The answer is always the same: give it first, while nothing is changed. */
    a->link_bits = EVTCHN_FIFO_LINK_BITS;
    if (copy_to_guest(guest, a, sizeof(*a)))
        return -EFAULT;
    return event_fifo_init_control(current->domain, a->control_gfn, a->offset, a->vcpu);
}

long hypercall_event_channel_op(uint64_t cmd, uint64_t arg, uint64_t a3, uint64_t a4, uint64_t a5)
{
    void *guest = (void *)arg;
    struct domain *owner = NULL;
    union event_args a;
    uint32_t size;
    long result;

    if (likely((uint32_t)cmd == EVTCHNOP_send)) {
        if (unlikely(copy_from_guest(&a.send, guest, sizeof(a.send))))
            return -EFAULT;
        return op_send(a.send.port);
    }
    if ((uint32_t)cmd >= ARRAY_SIZE(arg_size))
        return refuse(-ENOSYS, "event channels: there is no operation %u\n", (uint32_t)cmd);
    size = arg_size[index_nospec((uint32_t)cmd, ARRAY_SIZE(arg_size))];
    if (copy_from_guest(&a, guest, size))
        return -EFAULT;

    switch ((uint32_t)cmd) {
    case EVTCHNOP_alloc_unbound:
        result = op_alloc_unbound(&a.alloc_unbound, &owner);
        return result ? result : give_port(guest, &a, size, owner, a.alloc_unbound.port);
    case EVTCHNOP_bind_interdomain:
        result = op_bind_interdomain(&a.bind_interdomain);
        return result ? result : give_port(guest, &a, size, NULL, a.bind_interdomain.local_port);
    case EVTCHNOP_bind_virq:
        result = op_bind_virq(&a.bind_virq);
        return result ? result : give_port(guest, &a, size, NULL, a.bind_virq.port);
    case EVTCHNOP_bind_ipi:
        result = op_bind_ipi(&a.bind_ipi);
        return result ? result : give_port(guest, &a, size, NULL, a.bind_ipi.port);
    case EVTCHNOP_bind_pirq:
        result = op_bind_pirq(&a.bind_pirq);
        return result ? result : give_port(guest, &a, size, NULL, a.bind_pirq.port);
    case EVTCHNOP_close:
        result = channel_close(current->domain, a.close.port);
        return result ? refuse(result, "event channels: close of port %u, which is not open\n", a.close.port) : 0;
    case EVTCHNOP_status:
        result = op_status(&a.status);
        return !result && copy_to_guest(guest, &a, size) ? -EFAULT : result;
    case EVTCHNOP_bind_vcpu:
        return op_bind_vcpu(&a.bind_vcpu);
    case EVTCHNOP_unmask:
        return op_unmask(a.unmask.port);
    case EVTCHNOP_reset:
    case EVTCHNOP_reset_cont:
        return op_reset(a.reset.dom, arg, (uint32_t)cmd == EVTCHNOP_reset_cont);
    case EVTCHNOP_init_control:
        return init_control(&a.init_control, guest);
    case EVTCHNOP_expand_array:
        return event_fifo_expand_array(current->domain, a.expand_array.array_gfn);
    default:
        return op_set_priority(&a.set_priority);
    }
}

long hypercall_event_channel_op_compat(uint64_t arg, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
    struct evtchn_op *op = (void *)arg;
    uint32_t cmd;

    if (copy_from_guest(&cmd, &op->cmd, sizeof(cmd)))
        return -EFAULT;
    if (cmd > EVTCHNOP_unmask) /* newer than this form of the call */
        return refuse(-ENOSYS, "event channels: there is no operation %u in the old call\n", cmd);
    return hypercall_event_channel_op(cmd, (uint64_t)&op->u, 0, 0, 0);
}

/* ---- Debug key ---- */

static void report_domain(struct domain *d)
{
    static const char *const names[] = {"free", "being bound", "unbound", "interdomain",
                                        "PIRQ", "VIRQ",        "IPI",     "Croft"};

    log_info("%s: %s, %u ports in the table, limit %u\n", d->name, d->event.fifo ? "FIFO" : "two-level", d->event.ports,
             port_limit(d));
    for (uint32_t port = 1; port < READ_ONCE(d->event.ports); port++) {
        unsigned long flags = spin_lock_irqsave(&d->event.lock);
        struct event_channel *at = event_channel_at(d, port);
        struct event_channel c = at ? *at : (struct event_channel){.state = CHANNEL_FREE};
        unsigned remote = c.state == CHANNEL_INTERDOMAIN ? c.remote->id : 0;
        uint32_t remote_port = c.state == CHANNEL_INTERDOMAIN ? c.peer->port : 0;

        spin_unlock_irqrestore(&d->event.lock, flags);
        if (c.state == CHANNEL_FREE)
            continue;
        if (c.state == CHANNEL_INTERDOMAIN)
            log_info("  %u: to d%u port %u, vcpu %u%s%s\n", port, remote, remote_port, c.notify_vcpu,
                     event_port_pending(d, port) ? " pending" : "", event_port_masked(d, port) ? " masked" : "");
        else
            log_info("  %u: %s %u, vcpu %u%s%s\n", port, names[c.state], c.source, c.notify_vcpu,
                     event_port_pending(d, port) ? " pending" : "", event_port_masked(d, port) ? " masked" : "");
    }
}

void event_key_report(void)
{
    struct domain *d;

    spin_lock(&domain_list_lock);
    list_for_each (d, &domain_list, list)
        if (d->event.buckets)
            report_domain(d);
    spin_unlock(&domain_list_lock);
}
