/*
 * TLB flushes, and the clock that lets most of them be left out: tlb_clock counts full flushes of guest translations
 * on any CPU. A frame that loses its last mapping or its type is stamped with the clock; before it is used as
 * something else, only CPUs that have not flushed since the stamp need a flush.
 *
 * Why a CPU whose tlb_time is later than the stamp is clean: a flush first advances the clock, then empties the TLB,
 * then publishes the new value as the CPU's tlb_time. The stamp was read after the entry was cleared; a later value
 * was made after that, and the TLB was emptied later still.
 */
#ifndef CPU_TLB_H
#define CPU_TLB_H

#include "cpu/cpumask.h"
#include "cpu/percpu.h"

extern volatile uint64_t tlb_clock;

void tlb_flush_local(void);                 /* all guest translations of this CPU; the hypervisor's global ones stay */
void tlb_flush_global_local(void);          /* everything */
void tlb_flush_mask(const cpumask_t *mask); /* tlb_flush_local on each and waits; interrupts enabled */
void tlb_flush_page_mask(const cpumask_t *mask, unsigned long va);
void tlb_load_cr3(uint64_t cr3); /* loads CR3 on this CPU and advances the clock */
void tlb_flush_since_slow(const cpumask_t *mask, uint64_t stamp);

/* Flushes those CPUs of mask whose last full flush is not later than 'stamp'. Interrupts enabled, unless mask holds
 * this CPU at most. Nearly always it does, and nothing is left to do. */
static inline void tlb_flush_since(const cpumask_t *mask, uint64_t stamp)
{
    struct percpu *pc = this_cpu();

    _Static_assert(NR_CPUS <= BITS_PER_LONG, "a cpumask is one word");
    if (likely(!(mask->bits[0] & ~(1UL << pc->id)))) {
        if (mask->bits[0] && unlikely(pc->tlb_time <= stamp))
            tlb_flush_local();
        return;
    }
    tlb_flush_since_slow(mask, stamp);
}

#endif
