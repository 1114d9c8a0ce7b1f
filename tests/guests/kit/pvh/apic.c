/* The local APIC, interrupts, other vcpus. */
#include "pvh.h"

volatile unsigned interrupt_counts[KIT_MAX_VCPUS][256];
bool interrupt_no_eoi;
void (*volatile vcpu_functions[KIT_MAX_VCPUS])(void);
volatile unsigned vcpu_starts[KIT_MAX_VCPUS];

void kit_interrupt(struct regs *r);
void kit_vcpu_main(unsigned vcpu) __attribute__((noreturn));

bool apic_is_x2(void) { return (rdmsr(MSR_APIC_BASE) & APIC_BASE_EXTD) != 0; }

uint32_t apic_read(unsigned reg)
{
    return apic_is_x2() ? (uint32_t)rdmsr(MSR_X2APIC + reg) : *(volatile uint32_t *)(APIC_AT + reg * 16);
}

void apic_write(unsigned reg, uint32_t value)
{
    if (apic_is_x2())
        wrmsr(MSR_X2APIC + reg, value);
    else
        *(volatile uint32_t *)(APIC_AT + reg * 16) = value;
}

void apic_enable(void) { apic_write(APIC_SVR, 0x1ff); }

void apic_send(uint32_t icr, unsigned vcpu)
{
    if (apic_is_x2()) {
        wrmsr(MSR_X2APIC + APIC_ICR, (uint64_t)(2 * vcpu) << 32 | icr);
    } else {
        apic_write(APIC_ICR_HIGH, 2 * vcpu << 24);
        apic_write(APIC_ICR, icr);
    }
}

void kit_interrupt(struct regs *r)
{
    __atomic_add_fetch(&interrupt_counts[vcpu_id()][r->vector], 1, __ATOMIC_SEQ_CST);
    if (r->vector != 0xff && !interrupt_no_eoi)
        apic_write(APIC_EOI, 0);
}

bool wait_for(volatile unsigned *counter, unsigned value, uint64_t ns)
{
    uint64_t end = time_now() + ns;

    while (*counter < value && time_now() < end)
        relax();
    return *counter >= value;
}

void vcpu_halt(void)
{
    for (;;)
        asm volatile("cli; hlt" : : : "memory");
}

void kit_vcpu_main(unsigned vcpu)
{
    __atomic_add_fetch(&vcpu_starts[vcpu], 1, __ATOMIC_SEQ_CST);
    if (vcpu_functions[vcpu] != NULL)
        vcpu_functions[vcpu]();
    vcpu_halt();
}

bool vcpu_start(unsigned vcpu, void (*f)(void))
{
    unsigned before = vcpu_starts[vcpu];

    vcpu_functions[vcpu] = f;
    apic_send(ICR_INIT | ICR_ASSERT, vcpu);
    apic_send(ICR_STARTUP | TRAMPOLINE >> 12, vcpu);
    apic_send(ICR_STARTUP | TRAMPOLINE >> 12, vcpu);
    return wait_for(&vcpu_starts[vcpu], before + 1, 5000000000UL);
}
