/*
 * Ticket locks. The order in which they may be taken is the table in docs/architecture.md ("Locks"). Locks that interrupt
 * handlers take are taken with the _irqsave form everywhere.
 */
#ifndef LIB_SPINLOCK_H
#define LIB_SPINLOCK_H

#include "lib/util.h"

typedef struct { union { uint32_t both; struct { uint16_t owner, next; }; }; } spinlock_t;
#define SPINLOCK_INIT {{0}}

static inline void spin_lock_init(spinlock_t *l) { l->both = 0; }
static inline void spin_lock(spinlock_t *l)
{
    uint16_t ticket = __atomic_fetch_add(&l->next, 1, __ATOMIC_ACQUIRE);

    while (unlikely(__atomic_load_n(&l->owner, __ATOMIC_ACQUIRE) != ticket))
        cpu_relax();
}
static inline void spin_unlock(spinlock_t *l)
{
    __atomic_store_n(&l->owner, (uint16_t)(l->owner + 1), __ATOMIC_RELEASE);
}
static inline bool spin_trylock(spinlock_t *l)
{
    spinlock_t old = {{READ_ONCE(l->both)}}, new = old;

    if (old.owner != old.next)
        return false;
    new.next++;
    return __atomic_compare_exchange_n(&l->both, &old.both, new.both, false, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}
static inline bool spin_is_locked(spinlock_t *l)
{
    spinlock_t v = {{READ_ONCE(l->both)}};
    return v.owner != v.next;
}

#ifdef CROFT_HOST_TEST /* unit tests on the host: no interrupts there */
static inline unsigned long irq_save(void) { return 0; }
static inline void irq_restore(unsigned long flags) { (void)flags; }
#else
/* Disables interrupts; returns the flags for irq_restore. */
static inline unsigned long irq_save(void)
{
    unsigned long flags;

    __asm__ volatile("pushf; pop %0; cli" : "=r"(flags)::"memory");
    return flags;
}
static inline void irq_restore(unsigned long flags)
{
    __asm__ volatile("push %0; popf" ::"r"(flags) : "memory", "cc");
}
#endif

static inline unsigned long spin_lock_irqsave(spinlock_t *l)
{
    unsigned long flags = irq_save();

    spin_lock(l);
    return flags;
}
static inline void spin_unlock_irqrestore(spinlock_t *l, unsigned long flags)
{
    spin_unlock(l);
    irq_restore(flags);
}

#endif
