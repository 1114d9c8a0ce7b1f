/*
 * The local APIC: see vlapic.h.
 *
 * Interrupts. A bit of IRR is set by an atomic operation, and then the vcpu is notified; before it enters its guest or
 * sleeps it asks vlapic_pending. So nobody needs a lock to send, and none gets lost: the vcpu either sees the bit or is
 * made to look again.
 *   - The highest vector in service (isr_top) and PPR are kept up to date by whatever changes ISR or TPR.
 *   - A bit of ISR is set only by vlapic_accept and cleared only by EOI and reset.
 *   - No vector below 16 gets into IRR: it is an error instead.
 *   - While SVR has no ENABLE, all LVT entries are masked, and no new interrupts are taken; those in IRR and ISR stay.
 *   - While the APIC is switched off in its base register, nobody finds it, and SVR has no ENABLE. It is reset when it
 *     goes off, and once more when it comes on.
 *
 * The timer. It is nothing but timer_due, the moment at which it fires next. What timer_due, the counts, the deadline
 * and the LVT entry say belongs together, and is read and changed only under timer_lock. Whoever takes the lock, to read
 * or to change, first lets happen what is due by now, by the state as it was till then (timer_catch_up): an interrupt, or
 * nothing if the entry is masked; and then the next period, or the end. So it does not matter
 *   - how late the host's timer is: what the guest reads never shows a moment whose interrupt is not there yet;
 *   - whether the handler, under way on another CPU, meets a timer that the vcpu has changed meanwhile: each timer_due
 *     leads to one interrupt at most, and the handler finds that there is nothing to do yet or any more.
 * The host's timer is armed while timer_due is not NS_NEVER and the entry is not masked, for timer_due or a moment
 * before it; or else its handler has not yet had the lock, and arms it then. While the entry is masked, time goes on
 * without it.
 * timer_lock is taken by vcpus and by timer handlers, never by an interrupt handler; under it only timers' own locks.
 */
#include "hvm/vlapic.h"

#include "domain/domain.h"
#include "hvm/hvm.h"
#include "lib/bitmap.h"
#include "lib/nospec.h"
#include "sched/time.h"

/* Registers by offset / 16, which is the MSR's number - MSR_X2APIC too */
enum {
    APIC_ID = 0x02,
    APIC_VERSION = 0x03,
    APIC_TPR = 0x08,
    APIC_APR = 0x09,
    APIC_PPR = 0x0a,
    APIC_EOI = 0x0b,
    APIC_RRD = 0x0c,
    APIC_LDR = 0x0d,
    APIC_DFR = 0x0e,
    APIC_SVR = 0x0f,
    APIC_ISR = 0x10, /* eight registers each */
    APIC_TMR = 0x18,
    APIC_IRR = 0x20,
    APIC_ESR = 0x28,
    APIC_ICR = 0x30,
    APIC_ICR_HIGH = 0x31,
    APIC_LVT = 0x32, /* LVT_COUNT registers */
    APIC_TIMER_INITIAL = 0x38,
    APIC_TIMER_CURRENT = 0x39,
    APIC_TIMER_DIVIDE = 0x3e,
    APIC_SELF_IPI = 0x3f,
    APIC_REGISTERS = 0x40
};

#define VERSION (0x14U | (LVT_COUNT - 1) << 16) /* no suppression of EOI broadcasts */
#define VECTOR_BITS 0xffU
#define FIRST_VECTOR 16U /* the lower ones are illegal */

#define SVR_ENABLE (1U << 8)
#define SVR_FOCUS_DISABLED (1U << 9) /* can be written, has no effect */
#define DFR_MODEL (0xfU << 28)
#define DFR_FLAT (0xfU << 28)
#define DFR_CLUSTER 0U
#define XAPIC_DESTINATION (0xffU << 24) /* in LDR and the high half of ICR */

#define ESR_SEND_ILLEGAL_VECTOR (1U << 5)
#define ESR_RECEIVE_ILLEGAL_VECTOR (1U << 6)
#define ESR_ILLEGAL_REGISTER (1U << 7)

#define ICR_MODE (7U << 8)
#define ICR_FIXED 0U
#define ICR_LOWEST_PRIORITY (1U << 8)
#define ICR_NMI (4U << 8)
#define ICR_INIT (5U << 8)
#define ICR_STARTUP (6U << 8)
#define ICR_LOGICAL (1U << 11)
#define ICR_PENDING (1U << 12) /* read-only, and never set */
#define ICR_ASSERT (1U << 14)
#define ICR_LEVEL (1U << 15)
#define ICR_SHORTHAND (3U << 18)
#define ICR_SELF (1U << 18)
#define ICR_ALL (2U << 18)
#define ICR_OTHERS (3U << 18)
#define ICR_BITS                                                                                                       \
    (VECTOR_BITS | ICR_MODE | ICR_LOGICAL | ICR_PENDING | ICR_ASSERT | ICR_LEVEL | ICR_SHORTHAND) /* not reserved */

#define LVT_MODE (7U << 8)
#define LVT_PENDING (1U << 12) /* read-only, and never set */
#define LVT_LOW_ACTIVE (1U << 13)
#define LVT_REMOTE_IRR (1U << 14) /* read-only, and never set */
#define LVT_LEVEL (1U << 15)
#define LVT_MASKED (1U << 16)
#define LVT_TIMER_PERIODIC (1U << 17)
#define LVT_TIMER_DEADLINE (1U << 18)
#define LVT_TIMER_MODE (LVT_TIMER_PERIODIC | LVT_TIMER_DEADLINE) /* both: reserved */
#define LVT_BITS (VECTOR_BITS | LVT_PENDING | LVT_MASKED)
#define LVT_LINT_BITS (LVT_BITS | LVT_MODE | LVT_LOW_ACTIVE | LVT_REMOTE_IRR | LVT_LEVEL)

#define TIMER_DIVIDE_BITS 0xbU

/* TSC ticks, years: deadlines further off never come, as they would not fit into the clock's arithmetic. */
#define DEADLINE_FAR (1UL << 60)

/* Access by memory in xAPIC mode, by MSRs in x2APIC mode */
enum { XR = 1, XW = 2, MR = 4, MW = 8 };

static const struct {
    uint8_t access;
    uint32_t bits; /* which can be written: by MSR, the others are #GP; by memory, they are lost */
} registers[APIC_REGISTERS] = {
    [APIC_ID] = {XR | XW | MR, 0},
    [APIC_VERSION] = {XR | MR, 0},
    [APIC_TPR] = {XR | XW | MR | MW, 0xff},
    [APIC_APR] = {XR, 0},
    [APIC_PPR] = {XR | MR, 0},
    [APIC_EOI] = {XW | MW, 0},
    [APIC_RRD] = {XR, 0},
    [APIC_LDR] = {XR | XW | MR, XAPIC_DESTINATION},
    [APIC_DFR] = {XR | XW, DFR_MODEL},
    [APIC_SVR] = {XR | XW | MR | MW, VECTOR_BITS | SVR_ENABLE | SVR_FOCUS_DISABLED},
    [APIC_ISR... APIC_ISR + 7] = {XR | MR, 0},
    [APIC_TMR... APIC_TMR + 7] = {XR | MR, 0},
    [APIC_IRR... APIC_IRR + 7] = {XR | MR, 0},
    [APIC_ESR] = {XR | XW | MR | MW, 0},
    [APIC_ICR] = {XR | XW | MR | MW, ICR_BITS},
    [APIC_ICR_HIGH] = {XR | XW, XAPIC_DESTINATION},
    [APIC_LVT + LVT_TIMER] = {XR | XW | MR | MW, LVT_BITS | LVT_TIMER_MODE},
    [APIC_LVT + LVT_THERMAL] = {XR | XW | MR | MW, LVT_BITS | LVT_MODE},
    [APIC_LVT + LVT_PERFORMANCE] = {XR | XW | MR | MW, LVT_BITS | LVT_MODE},
    [APIC_LVT + LVT_LINT0] = {XR | XW | MR | MW, LVT_LINT_BITS},
    [APIC_LVT + LVT_LINT1] = {XR | XW | MR | MW, LVT_LINT_BITS},
    [APIC_LVT + LVT_ERROR] = {XR | XW | MR | MW, LVT_BITS},
    [APIC_TIMER_INITIAL] = {XR | XW | MR | MW, ~0U},
    [APIC_TIMER_CURRENT] = {XR | MR, 0},
    [APIC_TIMER_DIVIDE] = {XR | XW | MR | MW, TIMER_DIVIDE_BITS},
    [APIC_SELF_IPI] = {MW, VECTOR_BITS},
};

static inline struct vlapic *vlapic(const struct vcpu *v) { return &v->hvm->vlapic; }
static inline uint64_t mode(const struct vlapic *l) { return READ_ONCE(l->base) & (APIC_BASE_EN | APIC_BASE_EXTD); }
static inline bool is_off(const struct vlapic *l) { return !(READ_ONCE(l->base) & APIC_BASE_EN); }
static inline bool is_x2apic(const struct vlapic *l) { return mode(l) == (APIC_BASE_EN | APIC_BASE_EXTD); }
static inline bool is_enabled(const struct vlapic *l) { return READ_ONCE(l->svr) & SVR_ENABLE; }

/* ---- Vectors and priorities ---- */

static inline int highest(const uint64_t *vectors)
{
    if (likely(!(READ_ONCE(vectors[0]) | READ_ONCE(vectors[1]) | READ_ONCE(vectors[2]) | READ_ONCE(vectors[3]))))
        return -1;
    for (int i = 3; i >= 0; i--) {
        uint64_t word = READ_ONCE(vectors[i]);

        if (word)
            return 64 * i + (int)ilog2(word);
    }
    return -1;
}

static inline uint32_t priority_class(uint32_t vector) { return vector & 0xf0; }

static void update_ppr(struct vlapic *l)
{
    uint32_t in_service = priority_class(l->isr_top);

    WRITE_ONCE(l->ppr, priority_class(l->tpr) >= in_service ? l->tpr : in_service);
}

static void set_tpr(struct vlapic *l, uint32_t value)
{
    l->tpr = value;
    update_ppr(l);
}

static void eoi(struct vlapic *l)
{
    uint32_t top = l->isr_top;

    if (!top) /* nothing is in service */
        return;
    clear_bit_nonatomic(top, l->isr);
    l->isr_top = (uint32_t)max(highest(l->isr), 0);
    update_ppr(l);
}

/* The next three, any context: true if the vcpu is to be notified. */
static bool request(struct vlapic *l, uint32_t vector)
{
    return !test_and_set_bit(vector, l->irr); /* if it was there, its sender notifies */
}

/* The error entry delivers at the first error of a kind since ESR was written. */
static bool error(struct vlapic *l, uint32_t bit)
{
    uint32_t entry;

    if (__atomic_fetch_or(&l->esr_pending, bit, __ATOMIC_SEQ_CST) & bit)
        return false;
    entry = READ_ONCE(l->lvt[LVT_ERROR]);
    if (entry & LVT_MASKED)
        return false;
    if ((entry & VECTOR_BITS) >= FIRST_VECTOR)
        return request(l, entry & VECTOR_BITS);
    __atomic_fetch_or(&l->esr_pending, ESR_RECEIVE_ILLEGAL_VECTOR, __ATOMIC_SEQ_CST);
    return false;
}

static bool receive(struct vlapic *l, uint32_t vector)
{
    if (unlikely(vector < FIRST_VECTOR))
        return error(l, ESR_RECEIVE_ILLEGAL_VECTOR);
    return request(l, vector);
}

void vlapic_set_irq(struct vcpu *v, uint8_t vector)
{
    if (is_enabled(vlapic(v)) && receive(vlapic(v), vector))
        hvm_vcpu_notify(v);
}

bool vlapic_is_enabled(const struct vcpu *v) { return is_enabled(vlapic(v)); }

int vlapic_pending(const struct vcpu *v)
{
    const struct vlapic *l = vlapic(v);
    int vector = highest(l->irr);

    if (likely(vector < 0))
        return -1;
    if (priority_class((uint32_t)vector) <= priority_class(READ_ONCE(l->ppr)) || is_off(l))
        return -1;
    return vector;
}

bool vlapic_is_idle(const struct vcpu *v) { return highest(vlapic(v)->irr) < 0; }

bool vlapic_held_by_tpr(const struct vcpu *v)
{
    const struct vlapic *l = vlapic(v);
    int vector = highest(l->irr);

    return vector >= 0 && priority_class((uint32_t)vector) > priority_class(l->isr_top) &&
           priority_class((uint32_t)vector) <= priority_class(l->tpr) && !is_off(l);
}

void vlapic_accept(struct vcpu *v, uint8_t vector)
{
    struct vlapic *l = vlapic(v);

    clear_bit(vector, l->irr);
    set_bit_nonatomic(vector, l->isr);
    l->isr_top = max(l->isr_top, (uint32_t)vector);
    update_ppr(l);
}

void vlapic_unaccept(struct vcpu *v, uint8_t vector)
{
    struct vlapic *l = vlapic(v);

    if (l->isr_top != vector || vector < FIRST_VECTOR)
        return;
    eoi(l);
    request(l, vector);
}

uint32_t vlapic_get_cr8(const struct vcpu *v) { return vlapic(v)->tpr >> 4; }
void vlapic_set_cr8(struct vcpu *v, uint32_t value) { set_tpr(vlapic(v), (value & 0xf) << 4); }

/* ---- Timer: all with timer_lock, but for those that take it ---- */

static inline bool timer_masked(const struct vlapic *l) { return l->lvt[LVT_TIMER] & LVT_MASKED; }
static inline bool timer_has_deadline(const struct vlapic *l) { return l->lvt[LVT_TIMER] & LVT_TIMER_DEADLINE; }
static inline bool timer_periodic(const struct vlapic *l)
{
    return (l->lvt[LVT_TIMER] & LVT_TIMER_MODE) == LVT_TIMER_PERIODIC;
}

/* Nanoseconds of a count. The divider in bits 3, 1, 0: 2, 4, ... 128, 1 */
static ns_t timer_tick(const struct vlapic *l)
{
    uint32_t divide = (l->timer_divide & 3) | (l->timer_divide >> 1 & 4);

    return (ns_t)APIC_TIMER_TICK_NS << ((divide + 1) & 7);
}

static ns_t timer_period(const struct vlapic *l)
{
    return max(l->timer_initial * timer_tick(l), APIC_TIMER_MIN_PERIOD);
}

/* What is due by t happens. True if the vcpu is to be notified, unless it is the caller. */
static bool timer_catch_up(struct vlapic *l, ns_t t)
{
    if (likely(t < l->timer_due) || l->timer_due == NS_NEVER)
        return false;
    if (timer_periodic(l)) {
        l->timer_due += ((t - l->timer_due) / timer_period(l) + 1) * timer_period(l); /* missed ones come as one */
    } else {
        l->timer_due = NS_NEVER;
        l->tsc_deadline = 0;
    }
    return !timer_masked(l) && receive(l, l->lvt[LVT_TIMER] & VECTOR_BITS);
}

static void timer_arm(struct vlapic *l)
{
    uint32_t cpu = l->v->processor;

    if (l->timer_due == NS_NEVER || timer_masked(l)) {
        timer_stop(&l->timer);
        return;
    }
    if (unlikely(l->timer.cpu != cpu))
        timer_migrate(&l->timer, cpu);
    timer_set(&l->timer, l->timer_due);
}

static void timer_fired(void *arg)
{
    struct vlapic *l = arg;
    bool notify;

    spin_lock(&l->timer_lock);
    notify = timer_catch_up(l, now());
    timer_arm(l);
    spin_unlock(&l->timer_lock);
    if (notify)
        hvm_vcpu_notify(l->v);
}

/* The vcpu, which is current, begins to read or change the timer. It looks for interrupts before it enters the guest. */
static ns_t timer_begin(struct vlapic *l)
{
    ns_t t;

    spin_lock(&l->timer_lock);
    t = now();
    timer_catch_up(l, t);
    return t;
}

static void timer_end(struct vlapic *l) { spin_unlock(&l->timer_lock); }

/* ... and has changed it. What is in the past already needs no host's timer. */
static void timer_end_changed(struct vlapic *l, ns_t t)
{
    timer_catch_up(l, t);
    timer_arm(l);
    timer_end(l);
}

/* Counts left at t, which is before timer_due */
static uint32_t timer_count(const struct vlapic *l, ns_t t)
{
    if (l->timer_due == NS_NEVER || timer_has_deadline(l))
        return 0;
    return (uint32_t)min(DIV_ROUND_UP(l->timer_due - t, timer_tick(l)), (ns_t)l->timer_initial); /* stretched period */
}

static uint32_t read_timer_current(struct vlapic *l)
{
    uint32_t count = timer_count(l, timer_begin(l));

    timer_end(l);
    return count;
}

static void write_timer_initial(struct vlapic *l, uint32_t value)
{
    ns_t t = timer_begin(l);

    if (!timer_has_deadline(l)) {
        l->timer_initial = value;
        l->timer_due = !value ? NS_NEVER : timer_periodic(l) ? t + timer_period(l) : t + value * timer_tick(l);
    }
    timer_end_changed(l, t);
}

/* The count goes on from where it is. */
static void write_timer_divide(struct vlapic *l, uint32_t value)
{
    ns_t t = timer_begin(l);
    uint32_t count = timer_count(l, t);

    l->timer_divide = value;
    if (count)
        l->timer_due = t + count * timer_tick(l);
    timer_end_changed(l, t);
}

static void write_lvt_timer(struct vlapic *l, uint32_t value)
{
    ns_t t = timer_begin(l);

    if ((value ^ l->lvt[LVT_TIMER]) & LVT_TIMER_DEADLINE) { /* to or from deadlines: what was armed ends */
        l->timer_due = NS_NEVER;
        l->timer_initial = 0;
        l->tsc_deadline = 0;
    }
    l->lvt[LVT_TIMER] = value;
    timer_end_changed(l, t);
}

static uint64_t read_deadline(struct vlapic *l)
{
    uint64_t tsc;

    timer_begin(l);
    tsc = l->tsc_deadline;
    timer_end(l);
    return tsc;
}

/* When the TSC will be, or was, 'tsc' */
static ns_t deadline_ns(uint64_t tsc)
{
    if (tsc <= time_scale.tsc_base)
        return 0;
    return tsc - time_scale.tsc_base < DEADLINE_FAR ? time_scale_ns(&time_scale, tsc) : NS_NEVER;
}

static void write_deadline(struct vlapic *l, uint64_t tsc)
{
    ns_t t = timer_begin(l);

    if (timer_has_deadline(l)) {
        l->tsc_deadline = tsc;
        l->timer_due = tsc ? deadline_ns(tsc) : NS_NEVER;
    }
    timer_end_changed(l, t);
}

/* ---- Sending ---- */

static void deliver(struct vcpu *to, uint32_t icr)
{
    uint8_t vector = icr & VECTOR_BITS;

    switch (icr & ICR_MODE) {
    case ICR_FIXED:
    case ICR_LOWEST_PRIORITY:
        vlapic_set_irq(to, vector);
        break;
    case ICR_NMI:
        hvm_signal_nmi(to);
        break;
    case ICR_INIT:
        hvm_signal_init(to);
        break;
    case ICR_STARTUP:
        hvm_signal_startup(to, vector);
        break;
    }
}

static bool has_id(const struct vlapic *l, uint32_t id)
{
    if (is_off(l))
        return false;
    return (is_x2apic(l) ? l->id : (uint8_t)l->id) == id;
}

/* Null if there is none. Ids are numbers of vcpus, or twice that, which saves the search. */
static struct vcpu *find_id(const struct domain *d, uint32_t id)
{
    struct vcpu *v;

    for (unsigned shift = 2; shift--;) {
        v = domain_vcpu(d, id >> shift);
        if (v && READ_ONCE(v->hvm) && has_id(vlapic(v), id))
            return v;
    }
    for_each_vcpu (d, v)
        if (READ_ONCE(v->hvm) && has_id(vlapic(v), id))
            return v;
    return NULL;
}

/* Cluster of 16 in the high half, one bit of the low half */
static uint32_t x2apic_ldr(const struct vlapic *l) { return l->id >> 4 << 16 | 1U << (l->id & 15); }

static bool has_logical_id(const struct vlapic *l, uint32_t destination)
{
    uint32_t ldr = READ_ONCE(l->ldr) >> 24;

    if (is_x2apic(l))
        return destination >> 16 == x2apic_ldr(l) >> 16 && (uint16_t)(destination & x2apic_ldr(l));
    if (destination > 0xff)
        return false;
    switch (READ_ONCE(l->dfr) & DFR_MODEL) {
    case DFR_FLAT:
        return destination & ldr;
    case DFR_CLUSTER:
        return (destination >> 4 == ldr >> 4 || destination >> 4 == 0xf) && destination & ldr & 0xf;
    }
    return false;
}

static bool is_broadcast(const struct vlapic *sender, uint32_t destination)
{
    return destination == (is_x2apic(sender) ? ~0U : 0xffU);
}

static bool is_destination(const struct vcpu *from, const struct vcpu *to, uint32_t icr, uint32_t destination)
{
    switch (icr & ICR_SHORTHAND) {
    case ICR_ALL:
        return true;
    case ICR_OTHERS:
        return to != from;
    }
    if (is_broadcast(vlapic(from), destination))
        return true;
    return icr & ICR_LOGICAL ? has_logical_id(vlapic(to), destination) : has_id(vlapic(to), destination);
}

/* To every destination; or to the one with the lowest processor priority of them. */
static void send_to_many(struct vcpu *v, uint32_t icr, uint32_t destination)
{
    bool to_one = (icr & ICR_MODE) == ICR_LOWEST_PRIORITY;
    struct vcpu *to, *best = NULL;

    for_each_vcpu (v->domain, to) {
        if (!READ_ONCE(to->hvm) || is_off(vlapic(to)) || !is_destination(v, to, icr, destination))
            continue;
        if (!to_one)
            deliver(to, icr);
        else if (is_enabled(vlapic(to)) && (!best || READ_ONCE(vlapic(to)->ppr) < READ_ONCE(vlapic(best)->ppr)))
            best = to;
    }
    if (best)
        deliver(best, icr);
}

/* False: nothing goes out. */
static bool can_send(struct vlapic *l, uint32_t icr)
{
    switch (icr & ICR_MODE) {
    case ICR_FIXED:
    case ICR_LOWEST_PRIORITY:
        if (likely((icr & VECTOR_BITS) >= FIRST_VECTOR))
            return true;
        error(l, ESR_SEND_ILLEGAL_VECTOR); /* l is current's: it looks for the interrupt itself */
        return false;
    case ICR_INIT:
        return (icr & (ICR_ASSERT | ICR_LEVEL)) != ICR_LEVEL; /* INIT's de-assertion has no meaning any more */
    case ICR_NMI:
    case ICR_STARTUP:
        return true;
    }
    return false; /* SMI, and what is reserved */
}

static void send(struct vcpu *v, uint32_t icr, uint32_t destination)
{
    struct vcpu *to;

    if (!can_send(vlapic(v), icr))
        return;
    if ((icr & ICR_SHORTHAND) == ICR_SELF) {
        deliver(v, icr);
    } else if (icr & (ICR_SHORTHAND | ICR_LOGICAL) || is_broadcast(vlapic(v), destination)) {
        send_to_many(v, icr, destination);
    } else {
        to = find_id(v->domain, destination);
        if (to)
            deliver(to, icr);
    }
}

static void self_ipi(struct vcpu *v, uint32_t vector) { send(v, ICR_FIXED | ICR_SELF | vector, 0); }

/* ---- Registers ---- */

static void write_lvt(struct vlapic *l, unsigned nr, uint32_t value)
{
    if (!is_enabled(l))
        value |= LVT_MASKED;
    value &= ~(LVT_PENDING | LVT_REMOTE_IRR);
    if (nr == LVT_TIMER)
        write_lvt_timer(l, value);
    else
        WRITE_ONCE(l->lvt[nr], value);
}

static void write_svr(struct vlapic *l, uint32_t value)
{
    WRITE_ONCE(l->svr, value);
    if (value & SVR_ENABLE)
        return;
    for (unsigned i = 0; i < LVT_COUNT; i++) /* which masks them */
        write_lvt(l, i, l->lvt[i]);
}

/* One of eight registers of 32 vectors each */
static inline uint32_t vectors_read(const uint64_t *vectors, unsigned i)
{
    return (uint32_t)(READ_ONCE(vectors[i / 2 & 3]) >> 32 * (i & 1));
}

/* reg can be read in the present mode. */
static uint32_t read_register(struct vlapic *l, unsigned reg)
{
    switch (reg) {
    case APIC_ID:
        return is_x2apic(l) ? l->id : l->id << 24;
    case APIC_VERSION:
        return VERSION;
    case APIC_TPR:
        return l->tpr;
    case APIC_APR:
        return max(l->ppr, priority_class((uint32_t)max(highest(l->irr), 0)));
    case APIC_PPR:
        return l->ppr;
    case APIC_LDR:
        return is_x2apic(l) ? x2apic_ldr(l) : l->ldr;
    case APIC_DFR:
        return l->dfr;
    case APIC_SVR:
        return l->svr;
    case APIC_ISR ... APIC_ISR + 7:
        return vectors_read(l->isr, reg - APIC_ISR);
    case APIC_TMR ... APIC_TMR + 7:
        return vectors_read(l->tmr, reg - APIC_TMR);
    case APIC_IRR ... APIC_IRR + 7:
        return vectors_read(l->irr, reg - APIC_IRR);
    case APIC_ESR:
        return l->esr;
    case APIC_ICR:
        return l->icr_low;
    case APIC_ICR_HIGH:
        return l->icr_high;
    case APIC_LVT ... APIC_LVT + LVT_COUNT - 1:
        return l->lvt[reg - APIC_LVT];
    case APIC_TIMER_INITIAL:
        return l->timer_initial;
    case APIC_TIMER_CURRENT:
        return read_timer_current(l);
    case APIC_TIMER_DIVIDE:
        return l->timer_divide;
    }
    return 0;
}

/* reg can be written in the present mode, and value has no other bits than the table says. ICR: in xAPIC mode. */
static void write_register(struct vcpu *v, unsigned reg, uint32_t value)
{
    struct vlapic *l = vlapic(v);

    switch (reg) {
    case APIC_TPR:
        set_tpr(l, value);
        break;
    case APIC_EOI:
        eoi(l);
        break;
    case APIC_LDR:
        WRITE_ONCE(l->ldr, value);
        break;
    case APIC_DFR:
        WRITE_ONCE(l->dfr, value | ~DFR_MODEL);
        break;
    case APIC_SVR:
        write_svr(l, value);
        break;
    case APIC_ESR:
        l->esr = __atomic_exchange_n(&l->esr_pending, 0, __ATOMIC_SEQ_CST);
        break;
    case APIC_ICR:
        l->icr_low = value & ~ICR_PENDING;
        send(v, l->icr_low, l->icr_high >> 24);
        break;
    case APIC_ICR_HIGH:
        l->icr_high = value;
        break;
    case APIC_LVT ... APIC_LVT + LVT_COUNT - 1:
        write_lvt(l, reg - APIC_LVT, value);
        break;
    case APIC_TIMER_INITIAL:
        write_timer_initial(l, value);
        break;
    case APIC_TIMER_DIVIDE:
        write_timer_divide(l, value);
        break;
    case APIC_SELF_IPI:
        self_ipi(v, value);
        break;
    }
}

/* The register behind an offset of the page, or 0, which is none */
static unsigned register_at(struct vlapic *l, uint32_t offset)
{
    unsigned reg = offset / 16;

    if (offset % 16)
        return 0;
    if (reg < APIC_REGISTERS) {
        reg = (unsigned)index_nospec(reg, APIC_REGISTERS);
        if (registers[reg].access & (XR | XW))
            return reg;
    }
    error(l, ESR_ILLEGAL_REGISTER); /* l is current's: it looks for the interrupt itself */
    return 0;
}

uint32_t vlapic_read_mmio(struct vcpu *v, uint32_t offset)
{
    unsigned reg = register_at(vlapic(v), offset);

    return registers[reg].access & XR ? read_register(vlapic(v), reg) : 0;
}

void vlapic_write_mmio(struct vcpu *v, uint32_t offset, uint32_t value)
{
    unsigned reg = register_at(vlapic(v), offset);

    if (registers[reg].access & XW)
        write_register(v, reg, value & registers[reg].bits);
}

bool vlapic_read_msr(struct vcpu *v, uint32_t msr, uint64_t *value)
{
    struct vlapic *l = vlapic(v);
    uint32_t reg = msr - MSR_X2APIC;

    if (msr == MSR_TSC_DEADLINE) {
        *value = read_deadline(l);
        return true;
    }
    if (reg >= APIC_REGISTERS || !is_x2apic(l))
        return false;
    reg = (uint32_t)index_nospec(reg, APIC_REGISTERS);
    if (!(registers[reg].access & MR))
        return false;
    *value = read_register(l, reg);
    if (reg == APIC_ICR)
        *value |= (uint64_t)l->icr_high << 32;
    return true;
}

static bool write_x2apic_icr(struct vcpu *v, uint64_t value)
{
    struct vlapic *l = vlapic(v);
    uint32_t icr = (uint32_t)value & ~ICR_PENDING;

    if (unlikely(icr & ~ICR_BITS))
        return false;
    l->icr_low = icr;
    l->icr_high = (uint32_t)(value >> 32);
    send(v, icr, l->icr_high);
    return true;
}

bool vlapic_write_msr(struct vcpu *v, uint32_t msr, uint64_t value)
{
    struct vlapic *l = vlapic(v);
    uint32_t reg = msr - MSR_X2APIC;

    if (msr == MSR_TSC_DEADLINE) {
        write_deadline(l, value);
        return true;
    }
    if (reg >= APIC_REGISTERS || !is_x2apic(l))
        return false;
    if (reg == APIC_ICR) /* this one and the next are what there is most of */
        return write_x2apic_icr(v, value);
    if (reg == APIC_EOI && !value) {
        eoi(l);
        return true;
    }
    reg = (uint32_t)index_nospec(reg, APIC_REGISTERS);
    if (!(registers[reg].access & MW) || value & ~(uint64_t)registers[reg].bits)
        return false;
    if (reg == APIC_LVT + LVT_TIMER && (value & LVT_TIMER_MODE) == LVT_TIMER_MODE)
        return false;
    write_register(v, reg, (uint32_t)value);
    return true;
}

/* ---- Modes and life ---- */

bool vlapic_has_page(const struct vcpu *v) { return mode(vlapic(v)) == APIC_BASE_EN; }

bool vlapic_write_base(struct vcpu *v, uint64_t value)
{
    const uint64_t modes = APIC_BASE_EN | APIC_BASE_EXTD, x2apic = modes;
    struct vlapic *l = vlapic(v);
    uint64_t from = mode(l), to = value & modes;

    if ((value & ~(modes | APIC_BASE_BSP)) != APIC_BASE_ADDRESS)
        return false;
    if (to == APIC_BASE_EXTD || (!from && to == x2apic) || (from == x2apic && to == APIC_BASE_EN))
        return false;
    if (!from && to)
        vlapic_reset(v); /* what was sent to it when it went off */
    WRITE_ONCE(l->base, (l->base & ~modes) | to);
    if (from && !to)
        vlapic_reset(v);
    return true;
}

void vlapic_reset(struct vcpu *v)
{
    struct vlapic *l = vlapic(v);

    WRITE_ONCE(l->svr, 0xff); /* first: no more interrupts */
    spin_lock(&l->timer_lock);
    for (unsigned i = 0; i < LVT_COUNT; i++)
        WRITE_ONCE(l->lvt[i], LVT_MASKED);
    l->timer_due = NS_NEVER;
    l->timer_divide = l->timer_initial = 0;
    l->tsc_deadline = 0;
    timer_arm(l);
    for (unsigned i = 0; i < ARRAY_SIZE(l->irr); i++) { /* with the lock: the timer's is not set any more */
        __atomic_store_n(&l->irr[i], 0, __ATOMIC_SEQ_CST);
        l->isr[i] = l->tmr[i] = 0;
    }
    spin_unlock(&l->timer_lock);
    l->isr_top = 0;
    set_tpr(l, 0);
    WRITE_ONCE(l->ldr, 0);
    WRITE_ONCE(l->dfr, ~0U);
    l->icr_low = l->icr_high = l->esr = 0;
    __atomic_store_n(&l->esr_pending, 0, __ATOMIC_SEQ_CST);
}

void vlapic_init(struct vcpu *v, uint32_t id)
{
    struct vlapic *l = vlapic(v);

    l->v = v;
    l->id = id;
    spin_lock_init(&l->timer_lock);
    timer_init(&l->timer, timer_fired, l, v->processor);
    vlapic_reset(v);
    /* Last: from now on other vcpus find it. */
    __atomic_store_n(&l->base, APIC_BASE_ADDRESS | APIC_BASE_EN | (v->id ? 0 : APIC_BASE_BSP), __ATOMIC_RELEASE);
}

void vlapic_destroy(struct vcpu *v)
{
    struct vlapic *l = vlapic(v);

    spin_lock(&l->timer_lock);
    l->timer_due = NS_NEVER; /* a handler under way does not arm it again */
    spin_unlock(&l->timer_lock);
    timer_kill(&l->timer);
}

/* ---- In the ABI's form ---- */

#define HARDWARE_DISABLED 1U /* of 'disabled': by its base register, by SVR */
#define SOFTWARE_DISABLED 2U

static uint32_t record_read(const struct hvm_hw_lapic_regs *r, unsigned reg)
{
    return *(const uint32_t *)(r->data + reg * 16);
}

static void record_vectors(const struct hvm_hw_lapic_regs *r, unsigned reg, uint64_t *vectors)
{
    for (unsigned i = 0; i < 4; i++)
        vectors[i] = record_read(r, reg + 2 * i) | (uint64_t)record_read(r, reg + 2 * i + 1) << 32;
}

/* timer_lock is held. What is due already counts no more. */
static uint32_t count_now(const struct vlapic *l, ns_t t) { return t < l->timer_due ? timer_count(l, t) : 0; }

void vlapic_save(const struct vcpu *v, struct hvm_hw_lapic *hidden, struct hvm_hw_lapic_regs *regs)
{
    struct vlapic *l = vlapic(v);

    spin_lock(&l->timer_lock);
    if (hidden)
        *hidden = (struct hvm_hw_lapic){.apic_base_msr = l->base,
                                        .disabled = (is_off(l) ? HARDWARE_DISABLED : 0) |
                                                    (is_enabled(l) ? 0 : SOFTWARE_DISABLED),
                                        .timer_divisor = (uint32_t)(timer_tick(l) / APIC_TIMER_TICK_NS),
                                        .tdt_msr = l->tsc_deadline};
    for (unsigned reg = 0; regs && reg < APIC_REGISTERS; reg++) {
        uint32_t *to = (uint32_t *)(regs->data + reg * 16);

        to[0] = to[1] = to[2] = to[3] = 0;
        if (registers[reg].access & (XR | MR))
            to[0] = reg == APIC_TIMER_CURRENT ? count_now(l, now()) : read_register(l, reg);
    }
    spin_unlock(&l->timer_lock);
}

const char *vlapic_check_hidden(const struct vcpu *v, const struct hvm_hw_lapic *hidden)
{
    const uint64_t modes = APIC_BASE_EN | APIC_BASE_EXTD;

    if ((hidden->apic_base_msr & ~(modes | APIC_BASE_BSP)) != APIC_BASE_ADDRESS)
        return "its APIC is not at the usual address";
    if ((hidden->apic_base_msr & modes) == APIC_BASE_EXTD)
        return "its APIC is in no mode that there is";
    if (!(hidden->apic_base_msr & APIC_BASE_BSP) != (v->id != 0))
        return "vcpu 0 is the boot processor, and no other";
    return NULL;
}

const char *vlapic_check_regs(const struct hvm_hw_lapic_regs *regs)
{
    uint64_t requested[4], in_service[4];

    for (unsigned reg = APIC_LVT; reg < APIC_LVT + LVT_COUNT; reg++)
        if (record_read(regs, reg) & ~registers[reg].bits)
            return "an entry of its APIC's vector table has reserved bits";
    if ((record_read(regs, APIC_LVT + LVT_TIMER) & LVT_TIMER_MODE) == LVT_TIMER_MODE)
        return "its APIC's timer is in no mode that there is";
    if (record_read(regs, APIC_SVR) & ~registers[APIC_SVR].bits || record_read(regs, APIC_TPR) >> 8 ||
        record_read(regs, APIC_TIMER_DIVIDE) & ~TIMER_DIVIDE_BITS)
        return "a register of its APIC has reserved bits";
    record_vectors(regs, APIC_IRR, requested);
    record_vectors(regs, APIC_ISR, in_service);
    if ((requested[0] | in_service[0]) & ((1UL << FIRST_VECTOR) - 1))
        return "its APIC has an interrupt below vector 16";
    return NULL;
}

/* timer_lock is held: what the registers say of the timer is new. */
static void timer_begin_anew(struct vlapic *l, uint32_t count)
{
    if (timer_has_deadline(l)) {
        l->timer_initial = 0;
        l->timer_due = l->tsc_deadline ? deadline_ns(l->tsc_deadline) : NS_NEVER;
    } else {
        l->timer_due =
            !l->timer_initial ? NS_NEVER : now() + (timer_periodic(l) ? timer_period(l) : count * timer_tick(l));
    }
    timer_arm(l);
}

void vlapic_load_hidden(struct vcpu *v, const struct hvm_hw_lapic *hidden)
{
    struct vlapic *l = vlapic(v);

    spin_lock(&l->timer_lock);
    WRITE_ONCE(l->base, hidden->apic_base_msr);
    l->tsc_deadline = hidden->tdt_msr;
    if (timer_has_deadline(l))
        timer_begin_anew(l, 0);
    spin_unlock(&l->timer_lock);
}

void vlapic_load_regs(struct vcpu *v, const struct hvm_hw_lapic_regs *regs)
{
    struct vlapic *l = vlapic(v);
    uint32_t masked = record_read(regs, APIC_SVR) & SVR_ENABLE ? 0 : LVT_MASKED, count;

    spin_lock(&l->timer_lock);
    WRITE_ONCE(l->svr, record_read(regs, APIC_SVR));
    for (unsigned i = 0; i < LVT_COUNT; i++)
        WRITE_ONCE(l->lvt[i], (record_read(regs, APIC_LVT + i) & ~(LVT_PENDING | LVT_REMOTE_IRR)) | masked);
    record_vectors(regs, APIC_IRR, l->irr);
    record_vectors(regs, APIC_ISR, l->isr);
    l->isr_top = (uint32_t)max(highest(l->isr), 0);
    set_tpr(l, record_read(regs, APIC_TPR));
    WRITE_ONCE(l->ldr, record_read(regs, APIC_LDR) & XAPIC_DESTINATION); /* in x2APIC mode it follows from the id */
    WRITE_ONCE(l->dfr, record_read(regs, APIC_DFR) | ~DFR_MODEL);
    l->icr_low = record_read(regs, APIC_ICR) & ICR_BITS & ~ICR_PENDING;
    l->icr_high = record_read(regs, APIC_ICR_HIGH);
    l->esr = record_read(regs, APIC_ESR) & VECTOR_BITS;
    l->esr_pending = 0;
    l->timer_divide = record_read(regs, APIC_TIMER_DIVIDE);
    l->timer_initial = record_read(regs, APIC_TIMER_INITIAL);
    count = min(record_read(regs, APIC_TIMER_CURRENT), l->timer_initial);
    timer_begin_anew(l, count ? count : l->timer_initial);
    spin_unlock(&l->timer_lock);
}
