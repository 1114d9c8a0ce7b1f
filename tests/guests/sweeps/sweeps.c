/* run: intel=yes smp=2 time=60 */
/*
 * All numbers: every MSR of the ranges that processors have, read and written, and every leaf of CPUID; and the debugger's
 * exceptions at the edges of Croft (debug.c). By domain 0, and by a child, which has less. Whatever is answered, what is the
 * processor's own must stay as Croft wants it, and nothing that is read may tell where Croft is.
 */
#include "sweeps.h"

struct msr {
    uint32_t number;
    uint64_t value;
};

static void rdmsr(void *p)
{
    struct msr *m = p;
    uint32_t low, high;

    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(m->number));
    m->value = (uint64_t)high << 32 | low;
}

static void wrmsr(void *p)
{
    const struct msr *m = p;

    asm volatile("wrmsr" : : "a"((uint32_t)m->value), "d"((uint32_t)(m->value >> 32)), "c"(m->number));
}

/* True if it did not trap; a trap is #GP(0). */
static bool allowed(void (*f)(void *), struct msr *m)
{
    struct regs r = trap_of(f, m);

    check_quiet(r.vector == NO_TRAP || (r.vector == 13 && r.error == 0), "MSR %x: trap %lu error %lx", m->number,
                r.vector, r.error);
    return r.vector == NO_TRAP;
}

static bool is_crofts(uint64_t value) { return value >= HYPERVISOR_VIRT_START && value < HYPERVISOR_VIRT_END; }

static unsigned all, readable, writable; /* each domain's own */

static void one_msr(uint32_t number)
{
    static const uint64_t values[] = {0, ~0UL, 1, 1UL << 63, VA_HOLE, VA_NONCANONICAL};
    struct msr before = {.number = number}, after = before, m = before;
    bool can_read = allowed(rdmsr, &before), takes = false;

    readable += can_read;
    check_quiet(!can_read || !is_crofts(before.value), "MSR %x shows an address of the hypervisor's: %lx", number,
                before.value);
    for (unsigned i = 0; i < (can_read ? sizeof(values) / sizeof(values[0]) : 2); i++) {
        m.value = values[i];
        takes |= allowed(wrmsr, &m);
    }
    writable += takes;
    if (!can_read)
        return;
    if (takes) {
        m.value = before.value;
        check_quiet(allowed(wrmsr, &m), "MSR %x takes back its %lx", number, before.value);
    }
    check_quiet(allowed(rdmsr, &after), "MSR %x can be read no more", number);
    check_quiet(number == 0x10 || after.value == before.value, "MSR %x was %lx, is %lx", number, before.value,
                after.value);
    check_quiet(xen_version(XENVER_pagesize, NULL) == 4096, "no hypercalls after MSR %x", number);
}

static long msrs_here(long *a)
{
    uint64_t last = time_now();

    for (uint32_t n = 0; n < (uint32_t)a[1]; n++, all++) {
        uint64_t t = time_now();

        one_msr((uint32_t)a[0] + n);
        check_quiet(t >= last, "MSR %lx: the time went from %lu to %lu", (unsigned long)a[0] + n, last, t);
        last = t;
    }
    return 0;
}

static long msrs_end_here(long *a)
{
    (void)a;
    printf("   %u MSRs: %u can be read, %u take a write\n", all, readable, writable);
    return readable > 10 && writable > 10 ? 0 : 1;
}

/* In parts: a child has to answer from time to time */
static bool msrs(struct child *c)
{
    static const struct {
        uint32_t first, count;
    } ranges[] = {{0, 0x2000}, {0x40000000, 0x200}, {0xc0000000, 0x2000}, {0xc0010000, 0x2000}, {0xfffffff0, 16}};
    long wrong = 0;

    for (unsigned i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
        for (uint32_t n = 0; n < ranges[i].count; n += 0x200)
            wrong += child_call(c, msrs_here, ranges[i].first + n,
                                ranges[i].count - n < 0x200 ? ranges[i].count - n : 0x200);
    return wrong + child_call(c, msrs_end_here) == 0;
}

/* Leaves from a[0] on */
static long cpuids_here(long *a)
{
    uint32_t base = (uint32_t)a[0], sum = 0;

    for (uint32_t leaf = base; leaf < base + 0x40 && leaf >= base; leaf++)
        for (uint32_t sub = 0; sub < 72; sub = sub < 8 ? sub + 1 : sub * 2) {
            struct cpuid_result x = cpuid_forced(leaf, sub == 64 ? ~0U : sub), y;

            y = cpuid_forced(leaf, sub == 64 ? ~0U : sub);
            sum |= x.a | x.b | x.c | x.d;
            /* What belongs to a CPU may differ between two: the APIC's number and topology */
            check_quiet(leaf == 1 || leaf == 11 || leaf == 0x1e || leaf == 0x1f || leaf == 0x8000001e ||
                            memcmp(&x, &y, sizeof(x)) == 0,
                        "CPUID %x, %x: two answers", leaf, sub);
        }
    return sum != 0;
}

static bool cpuids(struct child *c)
{
    static const uint32_t bases[] = {0, 0x40000000, 0x40000100, 0x80000000, 0x8fffffff, 0xc0000000, 0xfffffff0};
    long says = 0;

    for (unsigned i = 0; i < sizeof(bases) / sizeof(bases[0]); i++)
        says |= child_call(c, cpuids_here, bases[i]);
    return says == 1;
}

static void by(struct child *c, const char *who)
{
    unsigned before = kit_failures();

    check(msrs(c) && kit_failures() == before, "%s: all MSRs", who);
    check(cpuids(c) && kit_failures() == before, "%s: all leaves of CPUID", who);
    debugger(c, who);
}

GUEST("sweeps")
{
    static struct child c;

    by(NULL, "domain 0");
    child_start(&c);
    by(&c, "a child");
    child_end(&c);
    storms();
    audit("after all of it");
}
