/*
 * Timers: a pairing heap per CPU. Armed timers of a CPU hang below a root that expires first; a new one is compared with
 * the root and becomes its child or its parent. Only taking out a timer with children costs more, over many calls
 * O(log n) each.
 *
 * The hardware is armed for the root, and left alone when the root goes later: the interrupt that then comes too early
 * only arms it anew. A timer set from another CPU raises that CPU's timer softirq, which arms its hardware.
 *
 * Slop joins neighbours: when timers were run, the next interrupt comes no sooner than options.timer_slop later, and all
 * that expired by then run together. So a timer may be late by the slop, and is never early.
 *
 * The queue of a CPU that is off line is closed: no timer is armed there. Timers that belong to it, or are sent to it, go to
 * CPU 0, which never is.
 */
#include "sched/timer.h"

#include "boot/options.h"
#include "cpu/percpu.h"
#include "cpu/smp.h"
#include "cpu/softirq.h"
#include "lib/log.h"
#include "lib/spinlock.h"
#include "platform/apic.h"
#include "sched/time.h"

struct timer_queue {
    spinlock_t lock;
    struct timer *root;
    bool closed;
    struct timer *volatile running; /* whose handler is under way */
    ns_t hardware;                  /* when the hardware will interrupt; NS_NEVER: not armed */
    uint64_t interrupts, fired;
} __aligned(64);

static struct timer_queue timer_queues[NR_CPUS];

/* Two roots become one. */
static struct timer *heap_meld(struct timer *a, struct timer *b)
{
    if (b->expires < a->expires) {
        struct timer *t = a;

        a = b;
        b = t;
    }
    b->next = a->child;
    if (a->child)
        a->child->prev = b;
    b->prev = a;
    a->child = b;
    return a;
}

/* A list of siblings becomes one heap: melded in pairs from the left, then the pairs from the right. Null if empty. */
static struct timer *heap_combine(struct timer *list)
{
    struct timer *pairs = NULL, *root = NULL;

    while (list) {
        struct timer *a = list, *b = a->next;

        list = b ? b->next : NULL;
        if (b)
            a = heap_meld(a, b);
        a->next = pairs;
        pairs = a;
    }
    while (pairs) {
        struct timer *next = pairs->next;

        pairs->next = NULL;
        root = root ? heap_meld(root, pairs) : pairs;
        pairs = next;
    }
    if (root)
        root->next = root->prev = NULL;
    return root;
}

static inline void heap_insert(struct timer_queue *q, struct timer *t)
{
    struct timer *root = q->root;

    t->next = t->prev = t->child = NULL;
    if (!root) {
        q->root = t;
    } else if (t->expires < root->expires) {
        t->child = root;
        root->prev = t;
        q->root = t;
    } else {
        heap_meld(root, t);
    }
}

static void heap_remove(struct timer_queue *q, struct timer *t)
{
    struct timer *below = t->child ? heap_combine(t->child) : NULL;

    if (t == q->root) {
        q->root = below;
        return;
    }
    if (t->prev->child == t)
        t->prev->child = t->next;
    else
        t->prev->next = t->next;
    if (t->next)
        t->next->prev = t->prev;
    if (below) {
        q->root = heap_meld(q->root, below);
        q->root->next = q->root->prev = NULL;
    }
}

/* Locks the queue that the timer belongs to; interrupts are disabled. */
static struct timer_queue *queue_lock(struct timer *t)
{
    for (;;) {
        uint32_t cpu = READ_ONCE(t->cpu);
        struct timer_queue *q = &timer_queues[cpu];

        spin_lock(&q->lock);
        if (likely(t->cpu == cpu))
            return q;
        spin_unlock(&q->lock);
    }
}

/* The same where it may be armed. */
static struct timer_queue *open_queue_lock(struct timer *t)
{
    for (;;) {
        struct timer_queue *q = queue_lock(t);

        if (likely(!q->closed))
            return q;
        WRITE_ONCE(t->cpu, 0); /* it is not armed */
        spin_unlock(&q->lock);
    }
}

/* This CPU's hardware shall interrupt for the root, which has not expired at t, now. The queue's lock is held. */
static void hardware_arm(struct timer_queue *q, ns_t t)
{
    ns_t at = max(q->root->expires, t + options.timer_slop);

    if (at < q->hardware) {
        q->hardware = at;
        apic_timer_arm(time_tsc_of(at));
    }
}

/* A timer was inserted: does it come before the hardware's next interrupt? */
static inline void inserted(struct timer_queue *q, const struct timer *t)
{
    if (t->expires >= q->hardware)
        return;
    if (likely(t->cpu == cpu_id())) {
        q->hardware = t->expires;
        apic_timer_arm(time_tsc_of(t->expires));
    } else {
        softirq_raise_on(t->cpu, SOFTIRQ_TIMER);
    }
}

void timer_init(struct timer *t, void (*handler)(void *), void *arg, unsigned cpu)
{
    *t = (struct timer){.handler = handler, .arg = arg, .cpu = cpu};
}

void timer_set(struct timer *t, ns_t expires)
{
    unsigned long flags = irq_save();
    struct timer_queue *q = open_queue_lock(t);

    if (t->armed)
        heap_remove(q, t);
    t->expires = expires;
    t->armed = true;
    heap_insert(q, t);
    inserted(q, t);
    spin_unlock_irqrestore(&q->lock, flags);
}

void timer_stop(struct timer *t)
{
    unsigned long flags;
    struct timer_queue *q;

    if (!READ_ONCE(t->armed))
        return;
    flags = irq_save();
    q = queue_lock(t);
    if (t->armed)
        heap_remove(q, t);
    t->armed = false;
    spin_unlock_irqrestore(&q->lock, flags);
}

void timer_kill(struct timer *t)
{
    unsigned cpu;

    do { /* the handler may have armed it anew */
        timer_stop(t);
        for_each_cpu (cpu, &cpu_online)
            while (timer_queues[cpu].running == t)
                cpu_relax();
    } while (timer_armed(t));
}

/* Both queues are locked. */
static void move(struct timer *t, struct timer_queue *from, struct timer_queue *to)
{
    if (t->armed) /* stays so all the time: timer_stop looks at it without the lock */
        heap_remove(from, t);
    WRITE_ONCE(t->cpu, (uint32_t)(to - timer_queues));
    if (t->armed) {
        heap_insert(to, t);
        inserted(to, t);
    }
}

void timer_migrate(struct timer *t, unsigned cpu)
{
    unsigned long flags = irq_save();
    struct timer_queue *from, *to = &timer_queues[cpu];

    for (;;) {
        from = queue_lock(t);
        if (from == to)
            break;
        if (spin_trylock(&to->lock)) {
            if (likely(!to->closed))
                break;
            spin_unlock(&to->lock);
            to = &timer_queues[0];
        }
        spin_unlock(&from->lock);
        cpu_relax();
    }
    if (from != to) {
        move(t, from, to);
        spin_unlock(&to->lock);
    }
    spin_unlock_irqrestore(&from->lock, flags);
}

void timers_close_cpu(unsigned cpu)
{
    struct timer_queue *from = &timer_queues[cpu], *to = &timer_queues[0];
    unsigned long flags = irq_save();

    for (;;) {
        spin_lock(&from->lock);
        if (spin_trylock(&to->lock))
            break;
        spin_unlock(&from->lock);
        cpu_relax();
    }
    from->closed = true;
    while (from->root)
        move(from->root, from, to);
    spin_unlock(&to->lock);
    spin_unlock_irqrestore(&from->lock, flags);
}

void timer_interrupt(void)
{
    struct timer_queue *q = &timer_queues[cpu_id()];

    /* Written by this CPU only, with interrupts disabled; another one that reads it too early finds its timer in the
     * heap when this CPU's softirq runs. */
    WRITE_ONCE(q->hardware, NS_NEVER);
    q->interrupts++;
    softirq_raise(SOFTIRQ_TIMER);
}

void timers_run(void)
{
    struct timer_queue *q = &timer_queues[cpu_id()];
    unsigned long flags = spin_lock_irqsave(&q->lock);
    ns_t at = 0;

    while (q->root && q->root->expires <= (at = now())) {
        struct timer *t = q->root;
        void (*handler)(void *) = t->handler;
        void *arg = t->arg;

        q->running = t; /* before it is no longer armed: timer_kill looks at both without the lock */
        heap_remove(q, t);
        WRITE_ONCE(t->armed, false);
        q->fired++;
        spin_unlock_irqrestore(&q->lock, flags);
        handler(arg); /* the timer's memory may be armed anew, but stays until running is cleared (timer_kill) */
        flags = spin_lock_irqsave(&q->lock);
        q->running = NULL;
    }
    if (q->root)
        hardware_arm(q, at);
    spin_unlock_irqrestore(&q->lock, flags);
}

void timers_init_cpu(void)
{
    struct timer_queue *q = &timer_queues[cpu_id()];
    unsigned long flags = spin_lock_irqsave(&q->lock);

    q->hardware = NS_NEVER;
    q->closed = false;
    spin_unlock_irqrestore(&q->lock, flags);
    softirq_register(SOFTIRQ_TIMER, timers_run);
}

static void report_queue(unsigned cpu)
{
    struct timer_queue *q = &timer_queues[cpu];
    unsigned long flags = spin_lock_irqsave(&q->lock);
    struct timer first = q->root ? *q->root : (struct timer){.expires = NS_NEVER};
    uint64_t interrupts = q->interrupts, fired = q->fired;
    ns_t hardware = q->hardware;

    spin_unlock_irqrestore(&q->lock, flags);
    log_info("  CPU %u: %lu interrupts, %lu timers fired\n", cpu, interrupts, fired);
    if (first.expires != NS_NEVER)
        log_info("    first: in %ld us, handler %p(%p)\n", (long)(first.expires - now()) / 1000, (void *)first.handler,
                 first.arg);
    if (hardware != NS_NEVER)
        log_info("    hardware armed: in %ld us\n", (long)(hardware - now()) / 1000);
}

void timers_key_report(void)
{
    unsigned cpu;

    log_info("Timers at %lu us since boot\n", now() / 1000);
    for_each_cpu (cpu, &cpu_online)
        report_queue(cpu);
}
