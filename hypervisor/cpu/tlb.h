/*
 * TLB flushes, and the clock that lets most of them be left out: tlb_clock counts full flushes of guest
 * translations on any CPU. A frame that loses its last mapping or its type is stamped with the clock;
 * before it is used as something else, only CPUs that have not flushed since the stamp need a flush.
 */
#ifndef CPU_TLB_H
#define CPU_TLB_H

#include "cpu/cpumask.h"

extern volatile uint64_t tlb_clock;

void tlb_flush_local(void);                 /* all guest translations of this CPU; the hypervisor's global ones stay */
void tlb_flush_global_local(void);          /* everything */
void tlb_flush_mask(const cpumask_t *mask); /* tlb_flush_local on each and waits; interrupts enabled */
void tlb_flush_page_mask(const cpumask_t *mask, unsigned long va);
/* Flushes those CPUs of mask whose last full flush is not later than 'stamp'. */
void tlb_flush_since(const cpumask_t *mask, uint64_t stamp);
void tlb_load_cr3(uint64_t cr3);            /* loads CR3 on this CPU and advances the clock */

#endif
