/* run: beside=yes append="dom0_max_vcpus=2 maxcpus=1" */
/*
 * Two vcpus on one CPU, each with its own values in all x87, SSE and AVX registers: kept over yields, timer ticks
 * and blocking. The task-switched flag is each vcpu's own.
 */
#include "kit.h"

#define ROUNDS 1500

static bool avx;
static volatile unsigned turns[2], finished[2], errors[2];
static struct {
    uint8_t ymm[16][32];
    uint8_t image[512];
} patterns[2] __attribute__((aligned(64))), results[2] __attribute__((aligned(64)));

#define EACH(x) x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7) x(8) x(9) x(10) x(11) x(12) x(13) x(14) x(15)
#define LOAD_SSE(n) "movups " #n "*32(%0), %%xmm" #n "\n"
#define STORE_SSE(n) "movups %%xmm" #n ", " #n "*32(%0)\n"
#define LOAD_AVX(n) "vmovups " #n "*32(%0), %%ymm" #n "\n"
#define STORE_AVX(n) "vmovups %%ymm" #n ", " #n "*32(%0)\n"

static void registers_load(unsigned v)
{
    uint32_t mxcsr = v == 0 ? 0x1f80 : 0x5f80; /* another rounding */
    uint16_t control = v == 0 ? 0x37f : 0x27f;
    uint64_t number = 1000 + v;

    asm volatile("fninit; fldcw %0; fildll %1; fildll %1" : : "m"(control), "m"(number));
    asm volatile("ldmxcsr %0" : : "m"(mxcsr));
    if (avx)
        asm volatile(EACH(LOAD_AVX) : : "r"(patterns[v].ymm) : "memory");
    else
        asm volatile(EACH(LOAD_SSE) : : "r"(patterns[v].ymm) : "memory");
}

static bool registers_hold(unsigned v)
{
    uint32_t mxcsr = 0;
    uint16_t control = 0;
    uint64_t number = 0;

    memset(results[v].ymm, 0, sizeof(results[v].ymm));
    if (avx)
        asm volatile(EACH(STORE_AVX) : : "r"(results[v].ymm) : "memory");
    else
        asm volatile(EACH(STORE_SSE) : : "r"(results[v].ymm) : "memory");
    asm volatile("stmxcsr %0; fnstcw %1; fistpll %2; fildll %2" : "=m"(mxcsr), "=m"(control), "=m"(number));
    for (unsigned n = 0; n < 16; n++)
        if (memcmp(results[v].ymm[n], patterns[v].ymm[n], avx ? 32 : 16) != 0)
            return false;
    return mxcsr == (v == 0 ? 0x1f80 : 0x5f80) && control == (v == 0 ? 0x37f : 0x27f) && number == 1000 + v;
}

static void work(unsigned v)
{
    registers_load(v);
    for (unsigned i = 0; i < ROUNDS; i++) {
        turns[v]++;
        if (i % 3 == 0)
            for (unsigned spin = 0; spin < 300; spin++)
                asm volatile("pause"); /* a tick may come here */
        else
            sched_op(SCHEDOP_yield, NULL);
        if (!registers_hold(v)) {
            errors[v]++;
            registers_load(v);
        }
    }
    finished[v] = 1;
}

static volatile bool second_part, third_part;
static volatile unsigned device_not_available[2];

static bool note_nm(struct regs *r)
{
    (void)r;
    device_not_available[vcpu_id()]++;
    return true; /* the hypervisor cleared TS */
}

static void other_vcpu(void)
{
    struct vcpu_set_periodic_timer p = {.period_ns = 10000000};

    if (avx) {
        uint64_t cr4;

        asm volatile("movq %%cr4, %0" : "=r"(cr4));
        asm volatile("movq %0, %%cr4" : : "r"(cr4 | 1UL << 18));
        asm volatile("xsetbv" : : "a"(7), "d"(0), "c"(0));
    }
    vcpu_op(VCPUOP_set_periodic_timer, 1, &p);
    work(1);
    while (!second_part)
        sched_op(SCHEDOP_yield, NULL);
    for (unsigned i = 0; i < 50; i++) {
        asm volatile("fninit; fld1; fstp %%st(0)" : : : "memory");
        sched_op(SCHEDOP_yield, NULL);
    }
    third_part = true;
    for (;;)
        sched_op(SCHEDOP_yield, NULL);
}

static void xsetbv(void *p)
{
    asm volatile("xsetbv" : : "a"((uint32_t)(unsigned long)p), "d"((uint32_t)((unsigned long)p >> 32)), "c"(0));
}

static void xsetbv1(void *p) { asm volatile("xsetbv" : : "a"((uint32_t)(unsigned long)p), "d"(0), "c"(1)); }

static void xstate(void)
{
    static const uint64_t bad[] = {0, 2, 4, 6, 1UL << 62, 1UL << 40 | 3, 0xffffffffffffffff};
    struct cpuid_result one = cpuid_forced(1, 0);
    struct regs r;
    uint64_t cr4;

    if ((one.c >> 26 & 1) == 0) {
        printf("   no XSAVE here\n");
        return;
    }
    asm volatile("movq %%cr4, %0" : "=r"(cr4));
    asm volatile("movq %0, %%cr4" : : "r"(cr4 | 1UL << 18));
    asm volatile("movq %%cr4, %0" : "=r"(cr4));
    check((cr4 >> 18 & 1) == 1, "cr4.OSXSAVE can be set");
    check((cpuid_forced(1, 0).c >> 27 & 1) == 1, "CPUID shows OSXSAVE");
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        r = trap_of(xsetbv, (void *)bad[i]);
        check(r.vector == 13, "xsetbv 0 with %lx: vector %lu", bad[i], r.vector);
    }
    r = trap_of(xsetbv1, (void *)3);
    check(r.vector == 13, "xsetbv of register 1: vector %lu", r.vector);
    check(!trapped(xsetbv, (void *)3, NULL), "xsetbv with x87 and SSE");
    avx = (one.c >> 28 & 1) == 1;
    if (avx)
        check(!trapped(xsetbv, (void *)7, NULL), "xsetbv with AVX");
}

GUEST("fpu")
{
    static struct vcpu_guest_context context;
    struct vcpu_set_periodic_timer p = {.period_ns = 10000000};
    long timer;
    unsigned before;

    events_enable();
    xstate();
    printf("   AVX: %s\n", avx ? "yes" : "no");
    for (unsigned v = 0; v < 2; v++)
        for (unsigned n = 0; n < 16; n++)
            for (unsigned i = 0; i < 32; i++)
                patterns[v].ymm[n][i] = (uint8_t)(n * 37 + i * 11 + v * 129 + 1);
    vcpu_context_fill(&context, 1, other_vcpu);
    check_equal(vcpu_op(VCPUOP_initialise, 1, &context), 0);
    check_equal(vcpu_op(VCPUOP_up, 1, NULL), 0);
    timer = bind_virq(VIRQ_TIMER, 0);
    event_unmask((unsigned)timer);
    check_equal(vcpu_op(VCPUOP_set_periodic_timer, 0, &p), 0);
    work(0);
    while (!finished[1])
        sched_op(SCHEDOP_yield, NULL);
    check(errors[0] == 0 && errors[1] == 0, "registers lost: %u times on vcpu 0, %u on vcpu 1, in %u turns", errors[0],
          errors[1], turns[0] + turns[1]);
    check(turns[1] == ROUNDS, "vcpu 1 had its turns");

    printf("-- task switched\n");
    trap_hooks[7] = note_nm;
    check_equal(fpu_taskswitch(1), 0);
    second_part = true;
    while (!third_part)
        sched_op(SCHEDOP_yield, NULL);
    check(device_not_available[0] == 0 && device_not_available[1] == 0, "vcpu 1 is not concerned: %u, %u",
          device_not_available[0], device_not_available[1]);
    asm volatile("fnop");
    check(device_not_available[0] == 1, "vcpu 0 is, after many switches: %u", device_not_available[0]);
    asm volatile("fnop");
    check(device_not_available[0] == 1, "once");
    check_equal(fpu_taskswitch(1), 0);
    check_equal(fpu_taskswitch(0), 0);
    before = device_not_available[0];
    asm volatile("fnop");
    check(device_not_available[0] == before, "set and cleared: no trap");
}
