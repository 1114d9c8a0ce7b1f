/* Croft from its first C line to its first guest: the table of contents. */
#include "boot/boot.h"
#include "boot/options.h"
#include "cpu/cpu.h"
#include "cpu/instr.h"
#include "cpu/smp.h"
#include "cpu/softirq.h"
#include "cpu/trace.h"
#include "domain/boot_start.h"
#include "domain/domain.h"
#include "domain/switch.h"
#include "hvm/hvm.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"
#include "main.h"
#include "memory/alloc.h"
#include "memory/boot_memory.h"
#include "platform/acpi.h"
#include "platform/apic.h"
#include "platform/console.h"
#include "platform/irq.h"
#include "platform/pci.h"
#include "platform/power.h"
#include "pv/mode.h"
#include "sched/pool.h"
#include "sched/time.h"

void main(uint32_t magic, uint32_t info)
{
    boot_parse(magic, info);
    options_parse(boot_info.cmdline);
    alloc_fault_set(options.fail_allocation, DOMID_IDLE);
    console_init_early();
    log_info("Croft " CROFT_VERSION ", started by %s (%s), options: %s\n", boot_info.loader, boot_info.protocol,
             boot_info.cmdline);
    cpu_init_boot();
    memory_init_early();
    acpi_init();
    memory_init_late();
    apic_init_boot();
    apic_init_cpu();
    domains_init();
    pv_init();
    hvm_init();
    trace_init();
    sched_init();
    sched_add_idle(current);
    pool_cpu_joins(0);
    pci_init();
    irq_init();
    time_init();
    apic_timer_calibrate();
    power_init();
    timers_init_cpu();
    sti();
    console_init_irq();
    smp_start_all();
    time_check_cpus();
    memory_protect_image();
    memory_drop_identity();
    domains_start();
    idle_loop();
}
