/* TLB flushes: see cpu/tlb.h. */
#include "cpu/tlb.h"
#include "cpu/instr.h"
#include "cpu/smp.h"
#include "lib/spinlock.h"

/* Starts above the stamp of frames that never had a type. */
volatile uint64_t tlb_clock = 1;

static uint64_t advance_clock(void) { return __atomic_add_fetch(&tlb_clock, 1, __ATOMIC_SEQ_CST); }

/* An interrupt between the steps may flush as well; then tlb_time ends lower than it could be, which only costs a
 * flush. */
static void publish(uint64_t time) { WRITE_ONCE(this_cpu()->tlb_time, time); }

void tlb_load_cr3(uint64_t cr3)
{
    uint64_t time = advance_clock();

    write_cr3(cr3);
    publish(time);
}

/* The entry code changes CR3 without telling anyone, so the register itself is asked. */
void tlb_flush_local(void)
{
    uint64_t time = advance_clock();

    write_cr3(read_cr3());
    publish(time);
}

void tlb_flush_global_local(void)
{
    unsigned long flags = irq_save();
    uint64_t time = advance_clock();
    unsigned long cr4 = read_cr4();

    if (cr4 & CR4_PGE) {
        write_cr4(cr4 & ~CR4_PGE);
        write_cr4(cr4);
    } else {
        write_cr3(read_cr3());
    }
    publish(time);
    irq_restore(flags);
}

static void flush_local(void *unused) { tlb_flush_local(); }

static void flush_page_local(void *va) { invlpg((unsigned long)va); }

static bool only_this_cpu(const cpumask_t *mask) { return !(mask->bits[0] & ~(1UL << cpu_id())); }

void tlb_flush_mask(const cpumask_t *mask)
{
    if (cpumask_empty(mask))
        return;
    if (only_this_cpu(mask))
        tlb_flush_local();
    else
        smp_call(mask, flush_local, NULL);
}

void tlb_flush_page_mask(const cpumask_t *mask, unsigned long va)
{
    if (cpumask_empty(mask))
        return;
    if (only_this_cpu(mask))
        invlpg(va);
    else
        smp_call(mask, flush_page_local, (void *)va);
}

/* Some other CPU is in the mask. */
void tlb_flush_since_slow(const cpumask_t *mask, uint64_t stamp)
{
    cpumask_t late = {{0}};
    unsigned cpu;

    for_each_cpu (cpu, mask) {
        struct percpu *pc = percpu_of(cpu);

        if (pc && READ_ONCE(pc->tlb_time) <= stamp)
            set_bit_nonatomic(cpu, late.bits);
    }
    tlb_flush_mask(&late);
}
