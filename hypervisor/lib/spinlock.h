/*
 * Spin locks, without order among those who wait: where Croft itself is run by something that takes CPUs away (an emulator,
 * a hypervisor below), a queue of waiters would wait for the one whose CPU is away, though the lock is free. The sections
 * are short, so that nobody starves.
 * The order in which locks may be taken is the table in docs/architecture.md ("Locks"). Locks that interrupt handlers take
 * are taken with the _irqsave form everywhere.
 */
#ifndef LIB_SPINLOCK_H
#define LIB_SPINLOCK_H

#include "lib/util.h"

typedef struct {
    uint32_t locked;
} spinlock_t;
/* clang-format off */
#define SPINLOCK_INIT {0}
/* clang-format on */

static inline void spin_lock_init(spinlock_t *l) { l->locked = 0; }
static inline bool spin_is_locked(spinlock_t *l) { return READ_ONCE(l->locked); }
static inline bool spin_trylock(spinlock_t *l)
{
    return !READ_ONCE(l->locked) && !__atomic_exchange_n(&l->locked, 1, __ATOMIC_ACQUIRE);
}
static inline void spin_lock(spinlock_t *l)
{
    while (unlikely(__atomic_exchange_n(&l->locked, 1, __ATOMIC_ACQUIRE)))
        while (READ_ONCE(l->locked))
            cpu_relax();
}
static inline void spin_unlock(spinlock_t *l) { __atomic_store_n(&l->locked, 0, __ATOMIC_RELEASE); }

#ifdef CROFT_HOST_TEST /* unit tests on the host: no interrupts there */
static inline unsigned long irq_save(void) { return 0; }
static inline void irq_restore(unsigned long flags) { (void)flags; }
static inline bool irqs_enabled(void) { return true; }
#else
/* Disables interrupts; returns the flags for irq_restore. */
static inline unsigned long irq_save(void)
{
    unsigned long flags;

    __asm__ volatile("pushf; pop %0; cli" : "=r"(flags)::"memory");
    return flags;
}
static inline void irq_restore(unsigned long flags) { __asm__ volatile("push %0; popf" ::"r"(flags) : "memory", "cc"); }
static inline bool irqs_enabled(void)
{
    unsigned long flags;

    __asm__ volatile("pushf; pop %0" : "=r"(flags));
    return flags & 1UL << 9; /* EFLAGS_IF */
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
