/*
 * FIFO event channels. Each port has a 32-bit word in pages that the guest gave ("event array"), each vcpu a control
 * block with 16 queue heads, one a priority. A word has flags and the number of the next port in its queue:
 *   PENDING  set by Croft, cleared by the guest when it handles the event
 *   MASKED   the guest's
 *   LINKED   the port is in a queue: set by Croft, cleared (with the link) by the guest when it takes the port out
 *   BUSY     set by Croft to make the guest's compare-and-exchange fail while it changes a link
 * Croft appends at the tail, whose number only Croft knows; the guest takes from the head. If the tail's word is no longer
 * LINKED when Croft wants to append, the guest has emptied the queue, and the new port is made the head.
 *
 * All of it lies in the guest's memory and may hold anything at any time. Croft never follows a number that it reads
 * there: tails are kept here, and a port read from a word is not used. What a hostile guest can break is its own queue.
 * Its other weapon, changing a word for ever so that Croft's compare-and-exchange never succeeds, is met by BUSY and a
 * bound on the tries.
 *
 * One lock for all queues of a domain: a port may move between queues (EVTCHNOP_bind_vcpu, set_priority) while it is
 * linked, and with one lock that needs no care. It is taken only when a port has to be linked.
 */
#include "domain/event_private.h"
#include "lib/log.h"
#include "memory/alloc.h"
#include "memory/map.h"

#define PENDING (1U << EVTCHN_FIFO_PENDING)
#define MASKED (1U << EVTCHN_FIFO_MASKED)
#define LINKED (1U << EVTCHN_FIFO_LINKED)
#define BUSY (1U << EVTCHN_FIFO_BUSY)
#define LINK EVTCHN_FIFO_LINK_MASK

#define WORDS_PER_PAGE ((uint32_t)(PAGE_SIZE / sizeof(event_word_t)))
#define MAX_PAGES (EVTCHN_FIFO_NR_CHANNELS / WORDS_PER_PAGE)
#define LINK_TRIES 4

struct fifo_vcpu {
    volatile struct evtchn_fifo_control_block *control; /* in the guest's page; null: not given yet */
    mfn_t mfn;
    uint32_t tail[EVTCHN_FIFO_MAX_QUEUES]; /* 0: empty */
};

struct event_fifo {
    spinlock_t lock; /* irq-safe; tails, and the LINKED bits that Croft sets */
    uint32_t pages;
    volatile event_word_t *array[MAX_PAGES];
    mfn_t array_mfn[MAX_PAGES];
    uint32_t vcpu_count;
    struct fifo_vcpu vcpus[];
};

/* The word of a port; null as long as the guest did not give its page. */
static volatile event_word_t *word_of(struct event_fifo *f, uint32_t port)
{
    volatile event_word_t *page;

    if (unlikely(port >= EVTCHN_FIFO_NR_CHANNELS))
        return NULL;
    page = __atomic_load_n(&f->array[port / WORDS_PER_PAGE], __ATOMIC_ACQUIRE);
    return likely(page) ? &page[port % WORDS_PER_PAGE] : NULL;
}

/* One try to make 'port' the successor of the tail word, if that is still linked: 1 done, 0 it is not, -1 try again. */
static int try_link(volatile event_word_t *tail, event_word_t *seen, uint32_t port)
{
    event_word_t new = (*seen & ~(BUSY | LINK)) | port;

    if (!(*seen & LINKED))
        return 0;
    return __atomic_compare_exchange_n(tail, seen, new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST) ? 1 : -1;
}

/* Appends 'port' behind the tail. False: the guest has taken the tail out, the queue is empty. */
static bool link_behind(volatile event_word_t *tail, uint32_t port)
{
    event_word_t seen = *tail;
    int done = try_link(tail, &seen, port);

    if (likely(done >= 0))
        return done;
    seen = __atomic_or_fetch(tail, BUSY, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < LINK_TRIES; i++) {
        done = try_link(tail, &seen, port);
        if (done >= 0)
            break;
    }
    if (done <= 0) /* also when a guest that ignores BUSY went on changing the word: its queue is its own loss */
        __atomic_fetch_and(tail, ~BUSY, __ATOMIC_SEQ_CST);
    return done > 0;
}

/* Puts a port that is pending and not masked into its queue, unless it is in one, and tells the vcpu. */
static void link_channel(struct domain *d, struct event_fifo *f, struct event_channel *c, volatile event_word_t *word)
{
    uint16_t id = READ_ONCE(c->notify_vcpu);
    uint8_t priority = READ_ONCE(c->priority);
    struct vcpu *v = domain_vcpu(d, id);
    struct fifo_vcpu *q = &f->vcpus[id];
    volatile struct evtchn_fifo_control_block *control;
    volatile event_word_t *tail;
    unsigned long flags;
    uint32_t *old_tail;
    bool linked = false;

    control = likely(v && id < f->vcpu_count) ? __atomic_load_n(&q->control, __ATOMIC_ACQUIRE) : NULL;
    if (unlikely(!control))
        return;
    flags = spin_lock_irqsave(&f->lock);
    if (__atomic_fetch_or(word, LINKED, __ATOMIC_SEQ_CST) & LINKED) {
        spin_unlock_irqrestore(&f->lock, flags);
        return;
    }
    /* The port was not linked, so a queue that still has it as its tail is empty. Forget that tail: with LINKED set
     * again, for this queue or another, it would look like one with something in it. */
    old_tail = &f->vcpus[c->queue_vcpu].tail[c->queue_priority];
    if (*old_tail == c->port)
        *old_tail = 0;
    tail = q->tail[priority] ? word_of(f, q->tail[priority]) : NULL;
    if (tail)
        linked = link_behind(tail, c->port);
    if (!linked)
        control->head[priority] = c->port;
    q->tail[priority] = c->port;
    c->queue_vcpu = id;
    c->queue_priority = priority;
    spin_unlock_irqrestore(&f->lock, flags);

    if (!linked && !(__atomic_fetch_or(&control->ready, 1U << priority, __ATOMIC_SEQ_CST) & 1U << priority))
        vcpu_mark_events_pending(v);
}

bool event_fifo_set_pending(struct domain *d, struct event_fifo *f, struct event_channel *c)
{
    volatile event_word_t *word = word_of(f, c->port);
    event_word_t old;

    if (unlikely(!word)) {
        /* Kept until the page comes. It may be coming just now: event_fifo_expand_array publishes it and then looks. */
        __atomic_store_n(&c->pending_later, true, __ATOMIC_SEQ_CST);
        word = word_of(f, c->port);
        if (!word || !__atomic_exchange_n(&c->pending_later, false, __ATOMIC_SEQ_CST))
            return false;
    }
    /* This one operation decides: a guest that unmasks later sees PENDING and calls EVTCHNOP_unmask; one that takes the
     * port out of its queue later looks at PENDING after that. */
    old = __atomic_fetch_or(word, PENDING, __ATOMIC_SEQ_CST);
    if (!(old & (MASKED | LINKED)))
        link_channel(d, f, c, word);
    return !(old & PENDING);
}

void event_fifo_clear_pending(struct event_fifo *f, struct event_channel *c)
{
    volatile event_word_t *word = word_of(f, c->port);

    c->pending_later = false;
    if (word)
        __atomic_fetch_and(word, ~PENDING, __ATOMIC_SEQ_CST);
}

void event_fifo_unmask(struct domain *d, struct event_fifo *f, struct event_channel *c)
{
    volatile event_word_t *word = word_of(f, c->port);

    if (!word)
        return;
    if ((__atomic_and_fetch(word, ~MASKED, __ATOMIC_SEQ_CST) & (PENDING | LINKED)) == PENDING)
        link_channel(d, f, c, word);
}

bool event_fifo_test(struct event_fifo *f, uint32_t port, unsigned bit)
{
    volatile event_word_t *word = word_of(f, port);

    return word && *word >> bit & 1;
}

/* The first control block turns the domain from two-level to FIFO. What is pending is kept for the event words. */
static int fifo_enable(struct domain *d)
{
    struct event_fifo *f = heap_alloc(sizeof(*f) + d->vcpu_count * sizeof(f->vcpus[0]));
    unsigned long flags;

    if (!f)
        return -ENOMEM;
    f->vcpu_count = d->vcpu_count;
    flags = spin_lock_irqsave(&d->event.lock);
    if (d->event.fifo) {
        spin_unlock_irqrestore(&d->event.lock, flags);
        heap_free(f);
        return 0;
    }
    for (uint32_t port = 1; port < d->event.ports; port++) {
        struct event_channel *c = event_channel_at(d, port);

        c->queue_vcpu = 0;
        c->queue_priority = c->priority = EVTCHN_FIFO_PRIORITY_DEFAULT;
        c->pending_later = c->state != CHANNEL_FREE && event_two_level_test(d->shared_info->evtchn_pending, port);
    }
    __atomic_store_n(&d->event.fifo, f, __ATOMIC_RELEASE);
    spin_unlock_irqrestore(&d->event.lock, flags);
    return 0;
}

int event_fifo_init_control(struct domain *d, uint64_t gfn, uint32_t offset, uint32_t id)
{
    struct event_fifo *f;
    unsigned long flags;
    int error = 0;
    mfn_t m;

    if (!domain_vcpu(d, id))
        return refuse(-ENOENT, "event channels: control block for vcpu %u, which does not exist\n", id);
    if (offset > PAGE_SIZE - sizeof(struct evtchn_fifo_control_block) || offset & 7)
        return refuse(-EINVAL, "event channels: offset %#x of the control block is not usable\n", offset);
    m = domain_frame_get_writable(d, gfn);
    if (mfn_eq(m, INVALID_MFN))
        return refuse(-EINVAL, "event channels: frame %#lx of the control block is not the domain's to write\n", gfn);
    if (!d->event.fifo)
        error = fifo_enable(d);
    if (error)
        goto put;

    flags = spin_lock_irqsave(&d->event.lock);
    f = d->event.fifo;
    if (!f || f->vcpus[id].control) {
        error = -EINVAL;
    } else {
        f->vcpus[id].mfn = m;
        __atomic_store_n(&f->vcpus[id].control, (void *)((char *)mfn_to_virt(m) + offset), __ATOMIC_RELEASE);
    }
    spin_unlock_irqrestore(&d->event.lock, flags);
    if (!error)
        return 0;
    guest_log(LOG_WARNING, "event channels: vcpu %u has a control block\n", id);
put:
    frame_put_writable(m);
    return error;
}

/* Ports whose words lie in the new page and that became pending before. d->event.lock is held. */
static void send_late(struct domain *d, struct event_fifo *f, uint32_t page)
{
    uint32_t end = min(d->event.ports, (page + 1) * WORDS_PER_PAGE);

    for (uint32_t port = page * WORDS_PER_PAGE; port < end; port++) {
        struct event_channel *c = event_channel_at(d, port);

        if (c->pending_later && __atomic_exchange_n(&c->pending_later, false, __ATOMIC_SEQ_CST))
            event_channel_set_pending(d, c);
    }
}

int event_fifo_expand_array(struct domain *d, uint64_t gfn)
{
    mfn_t m = domain_frame_get_writable(d, gfn);
    struct event_fifo *f;
    unsigned long flags;
    int error = 0;

    if (mfn_eq(m, INVALID_MFN))
        return refuse(-EINVAL, "event channels: frame %#lx for the event array is not the domain's to write\n", gfn);
    flags = spin_lock_irqsave(&d->event.lock);
    f = d->event.fifo;
    if (!f) {
        error = -EOPNOTSUPP;
    } else if (f->pages == MAX_PAGES) {
        error = -ENOSPC;
    } else {
        f->array_mfn[f->pages] = m;
        __atomic_store_n(&f->array[f->pages], mfn_to_virt(m), __ATOMIC_SEQ_CST);
        smp_mb(); /* event_fifo_set_pending stores pending_later and then looks for the page */
        send_late(d, f, f->pages++);
    }
    spin_unlock_irqrestore(&d->event.lock, flags);
    if (error) {
        frame_put_writable(m);
        guest_log(LOG_WARNING, "event channels: event array not extended: %s\n",
                  error == -ENOSPC ? "it is complete" : "no control block was given before");
    }
    return error;
}

void event_fifo_free(struct event_fifo *f)
{
    for (uint32_t i = 0; i < f->vcpu_count; i++)
        if (f->vcpus[i].control)
            frame_put_writable(f->vcpus[i].mfn);
    for (uint32_t i = 0; i < f->pages; i++)
        frame_put_writable(f->array_mfn[i]);
    heap_free(f);
}
