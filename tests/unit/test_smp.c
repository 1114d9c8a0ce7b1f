/* sources: hypervisor/cpu/smp.c */
/* libs: -fno-sanitize=address,undefined -fsanitize=thread --param tsan-distinguish-volatile=1 -pthread */
/*
 * Calls on other CPUs while those go off line and come back, a thread for each CPU: none hangs, and who was on line all the
 * time has done what was asked. An IPI to a CPU that is off line is lost, as INIT would have it. Two call, two come and go:
 * the thread of a caller cannot be interrupted, so nobody calls it.
 */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "boot/boot.h"
#include "boot/options.h"
#include "cpu/cpu.h"
#include "cpu/smp.h"
#include "cpu/tlb.h"
#include "domain/domain.h"
#include "domain/switch.h"
#include "lib/log.h"
#include "memory/alloc.h"
#include "memory/boot_memory.h"
#include "platform/acpi.h"
#include "platform/apic.h"
#include "platform/timers.h"
#include "sched/pool.h"
#include "sched/time.h"
#include "threads.h"

enum { CALLERS = 2, CPUS = 4 };

struct boot_info boot_info;
struct options options;
struct acpi_info acpi_info;
struct cpu_features cpu_features;
extern const uint8_t ap_trampoline[], ap_trampoline_data[], ap_trampoline_end[];
const uint8_t ap_trampoline[1], ap_trampoline_data[1], ap_trampoline_end[1];

/* What the start of CPUs uses, which is not tested here. */
void cpu_init_secondary(void) {}
unsigned cpu_count(void) { return CPUS; }
void apic_init_cpu(void) {}
bool apic_is_x2apic(void) { return false; }
void apic_send_init(uint32_t apic_id) {}
void apic_send_nmi(uint32_t apic_id) {}
void apic_send_startup(uint32_t apic_id, uint8_t page) {}
void timers_init_cpu(void) {}
void udelay(unsigned us) {}
void sched_add_idle(struct vcpu *v) {}
void pool_cpu_joins(unsigned cpu) {}
void idle_loop(void) { abort(); }
struct vcpu *idle_vcpu_create(unsigned cpu) { return NULL; }
void memory_restore_identity(void) {}
void memory_drop_identity(void) {}
void tlb_flush_global_local(void) {}
unsigned acpi_node_of_apic(uint32_t apic_id) { return 0; }
mfn_t alloc_frames(unsigned order, unsigned node) { return INVALID_MFN; }
void free_pages(void *p, unsigned order) {}
void *mfn_to_virt(mfn_t m) { return NULL; }
void log_print(enum log_level level, const char *fmt, ...) {}
void panic(const char *fmt, ...) { abort(); }

static struct percpu cpus[CPUS];
static __thread unsigned self;
static bool ipi[CPUS], end[CPUS], stays, loses, over; /* atomic */
struct time_scale time_scale = {.tsc_khz = UINT32_MAX};
static unsigned long done[CALLERS][CPUS], made[CALLERS], offs;

struct percpu *this_cpu(void) { return &cpus[self]; }
void apic_send_ipi(uint32_t apic_id, uint8_t vector)
{
    static __thread unsigned sent;

    sched_yield(); /* time for the next one to be called to go off line */
    if (__atomic_load_n(&loses, __ATOMIC_SEQ_CST) && sent++ % 4 == 0)
        return;
    if (cpumask_test(apic_id, &cpu_online))
        __atomic_store_n(&ipi[apic_id], true, __ATOMIC_SEQ_CST);
}

static void count(void *arg) { done[(uintptr_t)arg][self]++; }

static void *caller(void *arg)
{
    cpumask_t mask = {{((1UL << CPUS) - 1) & ~((1UL << CALLERS) - 1)}};

    self = (unsigned)(uintptr_t)arg;
    while (!__atomic_load_n(&over, __ATOMIC_SEQ_CST)) {
        unsigned long before = done[self][CPUS - 1];

        sched_yield();
        smp_call(&mask, count, arg);
        __atomic_fetch_add(&made[self], 1, __ATOMIC_SEQ_CST);
        /* The last CPU was on line all the time. */
        if (__atomic_load_n(&stays, __ATOMIC_SEQ_CST))
            assert_int_equal(done[self][CPUS - 1], before + 1);
    }
    __atomic_store_n(&end[self], true, __ATOMIC_SEQ_CST);
    return NULL;
}

static bool all_ended(void)
{
    for (unsigned c = 0; c < CALLERS; c++)
        if (!__atomic_load_n(&end[c], __ATOMIC_SEQ_CST))
            return false;
    return true;
}

static void off_and_on(unsigned *seed)
{
    unsigned long until[CALLERS];

    smp_leave();
    /* Each caller goes on meanwhile. */
    for (unsigned c = 0; c < CALLERS; c++)
        until[c] = __atomic_load_n(&made[c], __ATOMIC_SEQ_CST) + 1 + rand_r(seed) % 3;
    for (unsigned c = 0; c < CALLERS; c++)
        while (__atomic_load_n(&made[c], __ATOMIC_SEQ_CST) < until[c] && !__atomic_load_n(&end[c], __ATOMIC_SEQ_CST))
            sched_yield();
    __atomic_store_n(&ipi[self], false, __ATOMIC_SEQ_CST); /* INIT */
    cpumask_set(self, &cpu_online);                        /* as ap_main */
    smp_interrupt_call();
    __atomic_fetch_add(&offs, 1, __ATOMIC_SEQ_CST);
}

static void *called(void *arg)
{
    unsigned seed;

    self = (unsigned)(uintptr_t)arg;
    seed = self;
    while (!all_ended()) {
        if (__atomic_exchange_n(&ipi[self], false, __ATOMIC_SEQ_CST))
            smp_interrupt_call();
        else if (rand_r(&seed) % 8 == 0 && !(self == CPUS - 1 && stays))
            off_and_on(&seed);
        else
            sched_yield();
    }
    return NULL;
}

static void run(void)
{
    pthread_t threads[CPUS];

    alarm(20); /* a call that hangs */
    memset(end, 0, sizeof(end));
    offs = 0;
    memset(made, 0, sizeof(made));
    over = false;
    for (unsigned c = 0; c < CPUS; c++) {
        cpus[c].id = cpus[c].apic_id = c;
        smp_set_percpu(c, &cpus[c]);
        cpumask_set(c, &cpu_online);
    }
    threads_start(threads, 0, CALLERS, caller);
    threads_start(threads, CALLERS, CPUS, called);
    usleep(1000000);
    __atomic_store_n(&over, true, __ATOMIC_SEQ_CST);
    threads_join(threads, CPUS);
    alarm(0);
    print_message("%lu calls, %lu times off line\n", made[0] + made[1], offs);
    assert_true(made[0] && made[1] && offs > 0);
}

static void calls_while_cpus_come_and_go(void **state) { run(); }

static void lost_interrupts_are_made_up_for(void **state)
{
    time_scale.tsc_khz = 100; /* the patience of smp_call: a tenth of a millisecond or so */
    loses = stays = true;
    memset(done, 0, sizeof(done));
    run();
    loses = stays = false;
    time_scale.tsc_khz = UINT32_MAX;
}

static void who_stays_has_done_each_call(void **state)
{
    stays = true;
    memset(done, 0, sizeof(done));
    run();
    assert_int_equal(done[0][CPUS - 1] + done[1][CPUS - 1], made[0] + made[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_while_cpus_come_and_go),
        cmocka_unit_test(lost_interrupts_are_made_up_for),
        cmocka_unit_test(who_stays_has_done_each_call),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
