/*
 * Consoles of domains without tools. A domain's event only arms a timer; its handler takes at most SLICE bytes from the ring, and
 * comes again after PERIOD while there are more: the rate of a serial line, so that a domain that floods its console waits for
 * itself. Lines of several domains do not mix: a line is written when it is complete, or when the ring is empty.
 *
 * What the domain writes into the ring's page is never trusted: Croft keeps its own two positions, and reads the domain's once.
 */
#include "domain/guest_console.h"

#include "domain/domain.h"
#include "hypercall/abi.h"
#include "lib/log.h"
#include "lib/string.h"
#include "memory/alloc.h"
#include "memory/map.h"
#include "platform/console.h"
#include "sched/time.h"

#define SLICE 64U
#define PERIOD MILLISECS(5)
#define LINE 256U
#define PREFIX (BOOT_DOMAIN_NAME + 4U)
#define RING(index, array) ((index) & (sizeof(array) - 1))

struct guest_console {
    struct domain *d;
    struct xencons_interface *ring; /* its frame is held */
    char name[BOOT_DOMAIN_NAME];
    uint32_t port;
    spinlock_t lock;        /* irq-safe: all below */
    XENCONS_RING_IDX taken; /* of 'out' */
    XENCONS_RING_IDX given; /* to 'in' */
    char line[LINE];
    unsigned used;
    struct timer timer;
};

static spinlock_t table_lock = SPINLOCK_INIT; /* irq-safe, outside a console's lock; keeps the consoles in the table */
static struct guest_console *consoles[GUEST_CONSOLES];
static char names[GUEST_CONSOLES][BOOT_DOMAIN_NAME]; /* of the last that had the number */

static spinlock_t screen_lock = SPINLOCK_INIT; /* irq-safe, inside a console's lock */
static const struct guest_console *open_line;  /* whose text without an end of line is the last on the screen */

/* Writes a line, or the part of one that there is. c->lock is held. */
static void flush(struct guest_console *c)
{
    bool whole = c->used && c->line[c->used - 1] == '\n';
    char text[PREFIX + LINE + 1];
    size_t n = 0;
    unsigned long flags;

    if (!c->used)
        return;
    flags = spin_lock_irqsave(&screen_lock);
    if (open_line != c) {
        if (open_line)
            text[n++] = '\n';
        text[n++] = '(';
        n += strlcpy(text + n, c->name, BOOT_DOMAIN_NAME);
        text[n++] = ')';
        text[n++] = ' ';
    }
    memcpy(text + n, c->line, c->used);
    console_write(text, n + c->used);
    open_line = whole ? NULL : c;
    spin_unlock_irqrestore(&screen_lock, flags);
    c->used = 0;
}

static void put(struct guest_console *c, char ch)
{
    if (ch == '\r' || !ch) /* console_write makes one of each end of line */
        return;
    c->line[c->used++] = ch;
    if (ch == '\n' || c->used == LINE)
        flush(c);
}

/* True if there is more. c->lock is held. */
static bool take_slice(struct guest_console *c, bool *some)
{
    struct xencons_interface *ring = c->ring;
    XENCONS_RING_IDX produced = __atomic_load_n(&ring->out_prod, __ATOMIC_ACQUIRE), left = produced - c->taken;

    if (left > sizeof(ring->out)) { /* nonsense: what it may mean is lost */
        c->taken = produced;
        left = 0;
    }
    *some = left;
    for (unsigned i = 0; i < SLICE && left; i++, left--)
        put(c, READ_ONCE(ring->out[RING(c->taken++, ring->out)]));
    if (!left)
        flush(c);
    __atomic_store_n(&ring->out_cons, c->taken, __ATOMIC_RELEASE);
    return left;
}

static void serve(void *arg)
{
    struct guest_console *c = arg;
    unsigned long flags = spin_lock_irqsave(&c->lock);
    bool some, more = take_slice(c, &some);

    spin_unlock_irqrestore(&c->lock, flags);
    if (some)
        event_send_port(c->d, c->port);
    if (more)
        timer_set(&c->timer, now() + PERIOD);
}

void guest_console_kick(struct domain *d)
{
    struct guest_console *c = READ_ONCE(d->console);

    if (c && !timer_armed(&c->timer))
        timer_set(&c->timer, now());
}

/* The number for a console of that name: the one that it had, one that nobody had, any. GUEST_CONSOLES: none is free. */
static unsigned choose_number(const char *name)
{
    unsigned unused = GUEST_CONSOLES, any = GUEST_CONSOLES;

    for (unsigned i = GUEST_CONSOLES; i--;) {
        if (consoles[i])
            continue;
        if (!strcmp(names[i], name))
            return i;
        any = i;
        unused = names[i][0] ? unused : i;
    }
    return unused < GUEST_CONSOLES ? unused : any;
}

int guest_console_create(struct domain *d, const char *name, mfn_t ring, uint32_t *port)
{
    unsigned number = choose_number(name);
    struct guest_console *c;
    unsigned long flags;
    int error = -ENOMEM;

    if (number == GUEST_CONSOLES)
        return -ENOSPC;
    if (!frame_get_writable(ring, d))
        return -EINVAL;
    c = new_object(struct guest_console);
    if (c)
        error = event_bind_croft(d, port);
    if (error) {
        heap_free(c);
        frame_put_writable(ring);
        return error;
    }
    c->d = d;
    c->ring = mfn_to_virt(ring);
    c->port = *port;
    strlcpy(c->name, name, sizeof(c->name));
    spin_lock_init(&c->lock);
    timer_init(&c->timer, serve, c, 0);
    d->console = c;
    flags = spin_lock_irqsave(&table_lock);
    consoles[number] = c;
    strlcpy(names[number], name, sizeof(names[number]));
    spin_unlock_irqrestore(&table_lock, flags);
    return 0;
}

bool guest_console_drained(struct domain *d)
{
    unsigned long flags = spin_lock_irqsave(&table_lock); /* the tools may destroy the domain meanwhile */
    bool drained = true;

    for (unsigned i = 0; i < GUEST_CONSOLES; i++) {
        struct guest_console *c = consoles[i];

        if (!c || c->d != d)
            continue;
        spin_lock(&c->lock);
        drained = READ_ONCE(c->ring->out_prod) == c->taken && !c->used;
        spin_unlock(&c->lock);
        if (!drained)
            guest_console_kick(d);
    }
    spin_unlock_irqrestore(&table_lock, flags);
    return drained;
}

void guest_console_destroy(struct domain *d)
{
    struct guest_console *c = d->console;
    unsigned long flags;

    if (!c)
        return;
    d->console = NULL;
    flags = spin_lock_irqsave(&table_lock);
    for (unsigned i = 0; i < GUEST_CONSOLES; i++)
        if (consoles[i] == c)
            consoles[i] = NULL;
    spin_unlock_irqrestore(&table_lock, flags);
    timer_kill(&c->timer);
    flags = spin_lock_irqsave(&screen_lock);
    if (open_line == c)
        open_line = NULL;
    spin_unlock_irqrestore(&screen_lock, flags);
    frame_put_writable(virt_to_mfn(c->ring));
    heap_free(c);
}

bool guest_console_name(unsigned number, char name[BOOT_DOMAIN_NAME])
{
    unsigned long flags = spin_lock_irqsave(&table_lock);
    struct guest_console *c = consoles[number];

    if (c)
        strlcpy(name, c->name, BOOT_DOMAIN_NAME);
    spin_unlock_irqrestore(&table_lock, flags);
    return c;
}

void guest_console_type(unsigned number, const char *text, size_t n)
{
    unsigned long flags = spin_lock_irqsave(&table_lock);
    struct guest_console *c = consoles[number];

    if (c) {
        struct xencons_interface *ring = c->ring;
        XENCONS_RING_IDX used;

        spin_lock(&c->lock);
        used = c->given - READ_ONCE(ring->in_cons);
        for (; n && used < sizeof(ring->in); n--, used++)
            WRITE_ONCE(ring->in[RING(c->given++, ring->in)], *text++);
        __atomic_store_n(&ring->in_prod, c->given, __ATOMIC_RELEASE);
        spin_unlock(&c->lock);
        event_send_port(c->d, c->port);
    }
    spin_unlock_irqrestore(&table_lock, flags);
}
