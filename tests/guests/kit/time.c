/* The clock. */
#include "common.h"

bool relax_leaves;

uint64_t tsc_read(void)
{
    uint32_t low, high;

    asm volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}

uint64_t time_of(const struct vcpu_time_info *page)
{
    const volatile struct vcpu_time_info *t = page;
    uint64_t now;
    uint32_t version;

    do {
        uint64_t delta;

        version = t->version;
        barrier();
        delta = tsc_read() - t->tsc_timestamp;
        if (t->tsc_shift < 0)
            delta >>= -t->tsc_shift;
        else
            delta <<= t->tsc_shift;
        now = t->system_time + (uint64_t)((unsigned __int128)delta * t->tsc_to_system_mul >> 32);
        barrier();
    } while ((version & 1) != 0 || version != t->version);
    return now;
}

uint64_t time_now(void) { return time_of(&vcpu_info_of(vcpu_id())->time); }

void spin_ns(uint64_t ns)
{
    uint64_t end = time_now() + ns;

    while (time_now() < end)
        relax();
}
