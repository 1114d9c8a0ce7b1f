/*
 * Other CPUs: started one after the other by INIT and start-up IPIs (Intel SDM volume 3, 9.4), called by IPI, stopped
 * by NMI. How one goes off line and comes back is in cpu/hotplug.c.
 *
 * A CPU that is late must not come up over memory that went elsewhere. So two steps of its way are guarded by the
 * ticket in the trampoline's page: the CPU takes it before it touches its stack, and hands it in before others may
 * see it. The boot CPU withdraws the ticket with the same atomic instruction when its patience ends; whoever comes
 * second gives up.
 */
#include "cpu/smp.h"
#include "boot/boot.h"
#include "boot/options.h"
#include "cpu/cpu.h"
#include "cpu/instr.h"
#include "cpu/percpu.h"
#include "cpu/tlb.h"
#include "domain/domain.h"
#include "domain/switch.h"
#include "lib/log.h"
#include "lib/spinlock.h"
#include "lib/string.h"
#include "memory/alloc.h"
#include "memory/boot_memory.h"
#include "memory/map.h"
#include "platform/acpi.h"
#include "platform/apic.h"
#include "platform/timers.h"
#include "sched/pool.h"
#include "sched/sched.h"
#include "sched/time.h"

/* The longest wait for each of the two steps. A real CPU needs some microseconds; an emulated one waits until its
 * host gives it time, which on a busy one may be long. */
#define STEP_TIMEOUT_US 1000000
#define POLL_US 50
#define INIT_DELAY_US 10000
#define STARTUP_DELAY_US 200
#define STOP_TIMEOUT_US 50000
/* A call that a CPU has not done for so long is told in the log, and announced to it again. */
#define LATE_MS 3000

#define TRAMPOLINE_PREFERRED 0x8000UL
#define TRAMPOLINE_FIRST 0x1000UL
#define TRAMPOLINE_END 0x9f000UL /* the firmware's data area may lie above */

enum { TICKET_NONE, TICKET_OFFERED, TICKET_TAKEN, TICKET_DONE };

/* As cpu/trampoline.S lays it out */
struct trampoline_data {
    uint32_t protected_offset, protected_cs, long_offset, long_cs;
    uint32_t cr3;
    uint16_t pad, gdt_limit;
    uint32_t gdt_base, pad1;
    uint64_t stack, entry;
    uint32_t apic_id, ticket;
};

extern const uint8_t ap_trampoline[], ap_trampoline_data[], ap_trampoline_end[];

cpumask_t cpu_online;
static struct percpu *percpus[NR_CPUS];

static struct trampoline_data *trampoline; /* in the page below 1 MiB */

struct percpu *percpu_of(unsigned cpu) { return cpu < NR_CPUS ? percpus[cpu] : NULL; }

void smp_set_percpu(unsigned cpu, struct percpu *pc) { percpus[cpu] = pc; }

/* --- Start --- */

mfn_t smp_trampoline_frame(void)
{
    uint64_t found = 0;

    for (unsigned i = 0; i < boot_info.range_count; i++) {
        const struct boot_range *r = &boot_info.ranges[i];
        uint64_t start = max(ROUND_UP(r->start, PAGE_SIZE), TRAMPOLINE_FIRST);
        uint64_t end = min(r->start + r->size, TRAMPOLINE_END);

        if (r->type != BOOT_RAM || start + PAGE_SIZE > end)
            continue;
        if (start <= TRAMPOLINE_PREFERRED && TRAMPOLINE_PREFERRED + PAGE_SIZE <= end)
            return maddr_to_mfn(MADDR(TRAMPOLINE_PREFERRED));
        if (!found)
            found = start;
    }
    return found ? maddr_to_mfn(MADDR(found)) : INVALID_MFN;
}

static bool ticket_change(uint32_t from, uint32_t to)
{
    return __atomic_compare_exchange_n(&trampoline->ticket, &from, to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static bool ticket_wait(uint32_t wanted, unsigned us)
{
    for (unsigned t = 0; t < us; t += POLL_US) {
        if (__atomic_load_n(&trampoline->ticket, __ATOMIC_ACQUIRE) >= wanted)
            return true;
        udelay(POLL_US);
    }
    return false;
}

/* Where a started CPU arrives from the trampoline: on its own stack, interrupts off. */
static __noreturn void ap_main(void)
{
    struct percpu *pc = this_cpu();

    cpu_init_secondary();
    apic_init_cpu();
    if (!ticket_change(TICKET_TAKEN, TICKET_DONE))
        for (;;) {
            cli();
            __asm__ volatile("hlt");
        }
    timers_init_cpu();
    sched_add_idle(pc->current_vcpu);
    cpumask_set(pc->id, &cpu_online);
    /* Flushes that were asked of CPUs on line before, and calls of those who have seen this one, whose IPI is lost. */
    tlb_flush_global_local();
    smp_interrupt_call();
    sti();
    idle_loop();
}

static bool install_trampoline(void)
{
    mfn_t frame = smp_trampoline_frame();
    uint32_t base = (uint32_t)mfn_to_maddr(frame).n;
    uint8_t *page;

    if (mfn_eq(frame, INVALID_MFN))
        return false;
    page = mfn_to_virt(frame);
    memcpy(page, ap_trampoline, ap_trampoline_end - ap_trampoline);
    trampoline = (struct trampoline_data *)(page + (ap_trampoline_data - ap_trampoline));
    trampoline->protected_offset += base;
    trampoline->long_offset += base;
    trampoline->gdt_base += base;
    trampoline->cr3 = (uint32_t)this_cpu()->host_cr3;
    trampoline->entry = (uint64_t)ap_main;
    trampoline->ticket = TICKET_NONE;
    return true;
}

/* A stack block with its percpu for the CPU that will have this id. Null: no memory. */
static struct percpu *percpu_create(unsigned id, uint32_t apic_id)
{
    unsigned node = acpi_node_of_apic(apic_id);
    mfn_t block = alloc_frames(CPU_STACK_ORDER, node);
    struct percpu *pc;

    if (mfn_eq(block, INVALID_MFN))
        return NULL;
    pc = (struct percpu *)((uint8_t *)mfn_to_virt(block) + PERCPU_OFFSET);
    pc->id = id;
    pc->apic_id = apic_id;
    pc->host_cr3 = this_cpu()->host_cr3;
    pc->node = node;
    return pc;
}

static void percpu_free(struct percpu *pc) { free_pages((uint8_t *)pc - PERCPU_OFFSET, CPU_STACK_ORDER); }

enum start_result { STARTED, NO_ANSWER, STUCK };

static enum start_result start(struct percpu *pc)
{
    trampoline->stack = (uint64_t)&pc->guest_regs - 8; /* on a 16-byte boundary, as the compiler wants it */
    trampoline->apic_id = pc->apic_id;
    __atomic_store_n(&trampoline->ticket, TICKET_OFFERED, __ATOMIC_SEQ_CST);
    /* The second start-up IPI is for CPUs that missed the first; one that runs takes no notice. */
    apic_send_startup(pc->apic_id, (uint8_t)smp_trampoline_frame().n);
    if (!ticket_wait(TICKET_TAKEN, STARTUP_DELAY_US))
        apic_send_startup(pc->apic_id, (uint8_t)smp_trampoline_frame().n);
    if (!ticket_wait(TICKET_TAKEN, STEP_TIMEOUT_US) && ticket_change(TICKET_OFFERED, TICKET_NONE)) {
        apic_send_init(pc->apic_id);
        return NO_ANSWER;
    }
    if (!ticket_wait(TICKET_DONE, STEP_TIMEOUT_US) && ticket_change(TICKET_TAKEN, TICKET_NONE))
        return STUCK;
    while (!cpumask_test(pc->id, &cpu_online))
        cpu_relax();
    return STARTED;
}

/* Since the Pentium Pro no time has to pass between INIT and the start-up IPI, but the Pentium 4's need some. */
static unsigned init_delay_us(void) { return cpu_features.amd || cpu_features.family == 6 ? 0 : INIT_DELAY_US; }

bool smp_restart(unsigned cpu)
{
    struct percpu *pc = percpu_of(cpu);
    enum start_result r;

    pc->park = CPU_RUNS;
    pc->softirq_pending = pc->in_interrupt = 0;
    memory_restore_identity();
    apic_send_init(pc->apic_id);
    udelay(init_delay_us());
    r = start(pc);
    if (r == STUCK) /* as at boot: never again */
        smp_set_percpu(cpu, NULL);
    memory_drop_identity();
    return r == STARTED;
}

static bool wanted(const struct acpi_cpu *c)
{
    if (!c->enabled || c->apic_id == this_cpu()->apic_id)
        return false;
    return c->apic_id < 0xff || apic_is_x2apic();
}

void smp_start_all(void)
{
    unsigned limit = min(options.maxcpus ? options.maxcpus : NR_CPUS, (uint32_t)NR_CPUS);
    unsigned id = 1, others = 0, left_out = 0;
    struct percpu *pc = NULL;

    for (unsigned i = 0; i < acpi_info.cpu_count; i++)
        others += wanted(&acpi_info.cpus[i]);
    if (!others || limit == 1) {
        log_info("CPUs: 1%s\n", others ? " (maxcpus=1)" : "");
        return;
    }
    if (!install_trampoline()) {
        log_warning("no RAM below 640 KiB to start other CPUs in: only the boot CPU is used\n");
        return;
    }
    /* One INIT for all, so that its delay is waited for once. */
    for (unsigned i = 0; i < acpi_info.cpu_count; i++)
        if (wanted(&acpi_info.cpus[i]))
            apic_send_init(acpi_info.cpus[i].apic_id);
    udelay(INIT_DELAY_US);

    for (unsigned i = 0; i < acpi_info.cpu_count && id < limit; i++) {
        uint32_t apic_id = acpi_info.cpus[i].apic_id;
        struct vcpu *idle;

        if (!wanted(&acpi_info.cpus[i]))
            continue;
        /* The idle vcpu of an id outlives a CPU that did not start: the next one gets it. */
        idle = pc ? pc->current_vcpu : idle_vcpu_create(id);
        if (pc)
            percpu_free(pc);
        pc = percpu_create(id, apic_id);
        if (!pc || !idle) {
            log_warning("no memory for CPU %u (APIC id %u): left out, and those after it\n", id, apic_id);
            break;
        }
        pc->current_vcpu = idle;
        smp_set_percpu(id, pc);
        switch (start(pc)) {
        case STARTED:
            pool_cpu_joins(id);
            pc = NULL;
            id++;
            continue;
        case NO_ANSWER:
            log_warning("CPU with APIC id %u does not start: left out; Croft goes on without it\n", apic_id);
            smp_set_percpu(id, NULL);
            left_out++;
            continue;
        case STUCK: /* it runs somewhere in Croft: its memory and its number stay its own */
            log_warning("CPU with APIC id %u began to start and got stuck: left out, and those after it\n", apic_id);
            smp_set_percpu(id, NULL);
            pc = NULL;
            break;
        }
        break;
    }
    if (pc)
        percpu_free(pc);
    log_info("CPUs: %u of %u%s\n", cpu_count(), others + 1,
             id == limit && limit < others + 1 - left_out ? " (the limit, see maxcpus=)" : "");
}

/* --- Calls --- */

/*
 * A CPU has one call under way at most, and there is no lock: callers do not wait for each other. 'incoming' tells a
 * CPU whose calls are for it; it takes itself off the caller's 'waiting' when it is done, and then looks at that call
 * no more.
 *
 * A CPU that goes off line leaves cpu_online first and then looks for calls once more; one that comes enters it and then
 * looks. Callers announce the call, and then look whether the CPU is on line: if not they take the call back, unless that
 * CPU has just taken it. So each call is either seen by the CPU or taken back, whatever happened between.
 */
static struct call {
    void (*fn)(void *);
    void *arg;
    cpumask_t waiting;  /* CPUs that have not done it yet */
    cpumask_t incoming; /* of this CPU: callers */
} __aligned(64) calls[NR_CPUS];

/* No interrupt is lost on a processor that keeps to the manual; where one is, things still go on. */
static void remind(const cpumask_t *late)
{
    unsigned cpu;

    for_each_cpu (cpu, late) {
        log_warning("CPU %u has not done what CPU %u waits for, for %u ms: called again\n", cpu, cpu_id(), LATE_MS);
        apic_send_ipi(percpus[cpu]->apic_id, VECTOR_CALL);
    }
}

static void wait_for(const struct call *mine)
{
    uint64_t patience = time_scale.tsc_khz * LATE_MS, began = rdtsc();
    cpumask_t late;

    while ((late.bits[0] = __atomic_load_n(&mine->waiting.bits[0], __ATOMIC_ACQUIRE))) {
        if (unlikely(rdtsc() - began > patience)) {
            remind(&late);
            began = rdtsc();
        }
        cpu_relax();
    }
}

void smp_call(const cpumask_t *mask, void (*fn)(void *), void *arg)
{
    unsigned self = cpu_id(), cpu;
    cpumask_t others = {{mask->bits[0] & READ_ONCE(cpu_online.bits[0]) & ~(1UL << self)}};
    struct call *mine = &calls[self];
    unsigned long flags;

    _Static_assert(NR_CPUS <= BITS_PER_LONG, "a cpumask is one word");
    if (others.bits[0]) {
        /* While it waits this CPU serves the calls of others: so no two wait for each other. */
        BUG_ON(!irqs_enabled() || this_cpu()->in_interrupt);
        mine->fn = fn;
        mine->arg = arg;
        __atomic_store_n(&mine->waiting.bits[0], others.bits[0], __ATOMIC_SEQ_CST);
        for_each_cpu (cpu, &others)
            /* If somebody else's call waits there already, so does the interrupt that announces it. */
            if (!__atomic_fetch_or(&calls[cpu].incoming.bits[0], 1UL << self, __ATOMIC_SEQ_CST))
                apic_send_ipi(percpus[cpu]->apic_id, VECTOR_CALL);
        for_each_cpu (cpu, &others)
            if (unlikely(!cpumask_test(cpu, &cpu_online)) && test_and_clear_bit(self, calls[cpu].incoming.bits))
                cpumask_clear(cpu, &mine->waiting);
    }
    if (cpumask_test(self, mask)) {
        flags = irq_save();
        fn(arg);
        irq_restore(flags);
    }
    wait_for(mine);
}

static unsigned lost_by; /* 1 + the CPU whose next interrupt for a call is lost; 0: none */

void smp_lose_call(void) { WRITE_ONCE(lost_by, cpu_id() + 1); }

bool smp_call_lost(void)
{
    bool lost = unlikely(READ_ONCE(lost_by) == cpu_id() + 1);

    if (lost)
        WRITE_ONCE(lost_by, 0);
    return lost;
}

void smp_interrupt_call(void)
{
    unsigned self = cpu_id(), caller;
    cpumask_t callers = {{__atomic_exchange_n(&calls[self].incoming.bits[0], 0, __ATOMIC_SEQ_CST)}};

    for_each_cpu (caller, &callers) {
        calls[caller].fn(calls[caller].arg);
        cpumask_clear(self, &calls[caller].waiting);
    }
}

void smp_leave(void)
{
    cpumask_clear(cpu_id(), &cpu_online);
    smp_interrupt_call();
}

void smp_send_wake(unsigned cpu)
{
    struct percpu *pc = percpu_of(cpu);

    if (pc)
        apic_send_ipi(pc->apic_id, VECTOR_WAKE);
}

/* --- Stop --- */

static volatile bool stopping;
static cpumask_t stopped;
static uint32_t stopper;

void smp_stop_others(void)
{
    uint64_t others = cpu_online.bits[0] & ~(1UL << cpu_id());
    unsigned cpu;

    stopper = cpu_id();
    __atomic_store_n(&stopping, true, __ATOMIC_SEQ_CST);
    if (!others)
        return;
    for_each_cpu (cpu, &cpu_online)
        if (cpu != stopper)
            apic_send_nmi(percpus[cpu]->apic_id);
    for (unsigned t = 0; t < STOP_TIMEOUT_US && (others & ~READ_ONCE(stopped.bits[0])); t += POLL_US)
        udelay(POLL_US);
}

bool smp_nmi_stop(void)
{
    if (!stopping || cpu_id() == stopper)
        return false;
    cpumask_set(cpu_id(), &stopped);
    for (;;) {
        cli();
        __asm__ volatile("hlt");
    }
}
