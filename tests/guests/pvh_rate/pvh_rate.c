/* run: pvh=yes icount=1 time=60 */
/*
 * What it costs a PVH kernel to leave to its hypervisor, read by the benchmarks. Without Xen's calls (bench/pvh runs it on KVM too) it
 * measures what there is.
 */
#include "../kit/pvh/pvh.h"
#include "../kit/rate.h"

#define PORT_ABSENT 0x2f9
#define CONFIG_ADDRESS 0xcf8
#define TSC_DEADLINE_BIT 24
#define LVT_TSC_DEADLINE 0x40000U
#define LVT_MASKED 0x10000U
#define TIMER_VECTOR 0x50
#define UPCALL_VECTOR 0x60
#define QUIET_ROUNDS 100000000U /* for what has started the domain to come to rest */
#define FAR_TICKS 100000000000UL

static unsigned bad;
static struct evtchn_send own;

static void read_port(uint16_t port)
{
    uint8_t value;

    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
}

static void measure_processor(void)
{
    uint64_t deadline = tsc_read() + FAR_TICKS;

    MEASURE("port_read", RATE_ROUNDS, read_port(PORT_ABSENT));
    MEASURE("port_write", RATE_ROUNDS, outb(PORT_ABSENT, 0));
    MEASURE("config_address", RATE_ROUNDS, asm volatile("outl %0, %1" : : "a"(0x80000000), "d"(CONFIG_ADDRESS)));
    MEASURE("cpuid", RATE_ROUNDS, cpuid(0x40000000, 0));
    MEASURE("rdmsr_apic_base", RATE_ROUNDS, rdmsr(MSR_APIC_BASE));
    MEASURE("cr4_write", RATE_ROUNDS, WRITE_CR(4, READ_CR(4)));
    apic_enable();
    MEASURE("apic_eoi", RATE_ROUNDS, apic_write(APIC_EOI, 0));
    if (cpuid(1, 0).c >> TSC_DEADLINE_BIT & 1) {
        apic_write(APIC_LVT_TIMER, LVT_TSC_DEADLINE | LVT_MASKED | TIMER_VECTOR);
        MEASURE("tsc_deadline", RATE_ROUNDS, wrmsr(MSR_TSC_DEADLINE, deadline + i));
        wrmsr(MSR_TSC_DEADLINE, 0);
    }
}

static void no_event(void)
{
    shared_info->vcpu_info[0].evtchn_upcall_pending = 0;
    shared_info->vcpu_info[0].evtchn_pending_sel = 0;
    shared_info->evtchn_pending[0] = 0;
}

static bool upcall(struct regs *r)
{
    (void)r;
    no_event();
    apic_write(APIC_EOI, 0);
    return true;
}

static void measure_events(void)
{
    struct evtchn_bind_ipi b = {.vcpu = 0};
    struct xen_hvm_evtchn_upcall_vector u = {.vcpu = 0, .vector = UPCALL_VECTOR};

    bad += event_channel_op(EVTCHNOP_bind_ipi, &b) != 0;
    own.port = b.port;
    MEASURE("event_send_masked", RATE_ROUNDS, no_event(); bad += event_channel_op(EVTCHNOP_send, &own) != 0);
    shared_info->evtchn_mask[b.port / 64] &= ~(1UL << b.port % 64);
    no_event();
    trap_hooks[UPCALL_VECTOR] = upcall;
    bad += hypercall(__HYPERVISOR_hvm_op, HVMOP_set_evtchn_upcall_vector, U(&u), 0, 0, 0) != 0;
    MEASURE("event_send", RATE_ROUNDS, no_event(); bad += event_channel_op(EVTCHNOP_send, &own) != 0);
    sti();
    MEASURE("event_send_and_upcall", RATE_ROUNDS, bad += event_channel_op(EVTCHNOP_send, &own) != 0);
    cli();
    shared_info->evtchn_mask[b.port / 64] |= 1UL << b.port % 64;
}

static void measure_calls(void)
{
    struct vcpu_set_singleshot_timer timer = {.timeout_abs_ns = time_now() + FAR_TICKS};

    MEASURE("xen_version", RATE_ROUNDS, bad += xen_version(XENVER_version, NULL) <= 0);
    MEASURE("set_singleshot_timer", RATE_ROUNDS, timer.timeout_abs_ns += 1000;
            bad += vcpu_op(VCPUOP_set_singleshot_timer, 0, &timer) != 0);
    vcpu_op(VCPUOP_stop_singleshot_timer, 0, NULL);
    MEASURE("sched_yield", RATE_ROUNDS, bad += sched_op(SCHEDOP_yield, NULL) != 0);
    measure_events();
}

GUEST("pvh_rate")
{
    for (unsigned i = 0; i < QUIET_ROUNDS; i++)
        asm volatile("");
    rate_measure_empty_loop();
    measure_processor();
    if (kit_on_xen)
        measure_calls();
    rate_print();
    check(bad == 0, "all calls succeeded: %u did not", bad);
}
