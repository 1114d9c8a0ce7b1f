/* Numbers that a hypervisor may stumble over. */
#include "random.h"

static uint64_t states[RANDOM_VCPUS];

void random_seed(uint64_t seed)
{
    for (unsigned i = 0; i < RANDOM_VCPUS; i++)
        states[i] = (seed * RANDOM_VCPUS + i + 1) * 0x9e3779b97f4a7c15UL;
}

uint64_t random(void)
{
    uint64_t *s = &states[vcpu_id() % RANDOM_VCPUS];

    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s * 0x2545f4914f6cdd1dUL >> 16 | *s << 48;
}

uint64_t any_number(void)
{
    switch (below(12)) {
    case 0:
        return 0;
    case 1:
        return 1;
    case 2:
        return 1UL << below(64);
    case 3:
        return (1UL << below(64)) - 1;
    case 4:
        return ~0UL << below(64);
    case 5:
        return random();
    case 6:
        return (uint32_t)random();
    case 7:
        return 0x80000000UL + below(3) - 1;
    case 8:
        return below(5000);
    default:
        return below(33);
    }
}

uint64_t any_domain(void)
{
    uint64_t victim = (uint64_t)random_talk->a[ARG_VICTIM];

    return PICK(DOMID_SELF, DOMID_SELF, DOMID_SELF, DOMID_SELF, DOMID_SELF, DOMID_SELF, 0, victim, victim + 1, DOMID_IO,
                DOMID_XEN, DOMID_COW, DOMID_INVALID, DOMID_IDLE, below(100), any_number());
}

uint64_t any_value(void)
{
    switch (below(5)) {
    case 0:
        return any_address();
    case 1:
        return any_frame();
    case 2:
        return any_domain();
    default:
        return any_number();
    }
}

void count(unsigned index, bool success)
{
    struct random_counts *c = (void *)random_talk->data;

    c->tried[index]++;
    c->succeeded[index] += success;
}
