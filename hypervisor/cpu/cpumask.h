/* Sets of CPUs. */
#ifndef CPU_CPUMASK_H
#define CPU_CPUMASK_H

#include "lib/bitmap.h"

#define NR_CPUS 64

typedef struct {
    BITMAP(bits, NR_CPUS);
} cpumask_t;

static inline bool cpumask_test(unsigned cpu, const cpumask_t *m) { return test_bit(cpu, m->bits); }
static inline void cpumask_set(unsigned cpu, cpumask_t *m) { set_bit(cpu, m->bits); }
static inline void cpumask_clear(unsigned cpu, cpumask_t *m) { clear_bit(cpu, m->bits); }
static inline unsigned cpumask_next(unsigned from, const cpumask_t *m) { return find_next_bit(m->bits, NR_CPUS, from); }
static inline bool cpumask_empty(const cpumask_t *m) { return cpumask_next(0, m) >= NR_CPUS; }
#define for_each_cpu(cpu, m) for_each_set_bit (cpu, (m)->bits, NR_CPUS)

extern cpumask_t cpu_online; /* CPUs that run Croft; they come and go (cpu/hotplug.h), CPU 0 stays */

#endif
