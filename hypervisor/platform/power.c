/* The end of the machine's run: halt, reboot, power off. All stop the other CPUs first and work from any context. */
#include "platform/power.h"

#include "boot/options.h"
#include "cpu/instr.h"
#include "cpu/smp.h"
#include "hypercall/abi.h"
#include "lib/log.h"
#include "lib/string.h"
#include "memory/map.h"
#include "platform/acpi.h"
#include "platform/console.h"
#include "platform/pci.h"
#include "platform/timers.h"

#define SLP_EN (1U << 13) /* PM1 control register (ACPI 4.8.3.2) */
#define KEYBOARD_STATUS 0x64
#define KEYBOARD_BUSY 0x02
#define KEYBOARD_PULSE_RESET 0xfe
#define RESET_CONTROL 0xcf9 /* of the chip sets since the PIIX3 */
#define SETTLE_US 100000    /* a reset that works has worked by then */
#define REBOOT_DELAY_S 5

enum { SPACE_MEMORY, SPACE_IO, SPACE_PCI }; /* ACPI address spaces */

static void __noreturn stop_here(void)
{
    for (;;) {
        cli();
        __asm__ volatile("hlt");
    }
}

/* The other CPUs may have held any lock: from here on none is waited for. */
static void stop_others(void)
{
    cli();
    smp_stop_others();
    console_panic_mode();
}

void machine_halt(void)
{
    stop_others();
    log_error("the machine is halted\n");
    stop_here();
}

static volatile uint8_t *reset_register; /* in memory; null if it is not there, or elsewhere */

void power_init(void)
{
    if (acpi_info.reset_supported && acpi_info.reset_space == SPACE_MEMORY)
        reset_register = ioremap(MADDR(acpi_info.reset_address), 1);
}

static void reset_by_acpi(void)
{
    uint64_t at = acpi_info.reset_address;

    if (!acpi_info.reset_supported)
        return;
    switch (acpi_info.reset_space) {
    case SPACE_MEMORY:
        if (reset_register)
            *reset_register = acpi_info.reset_value;
        break;
    case SPACE_IO:
        outb((uint16_t)at, acpi_info.reset_value);
        break;
    case SPACE_PCI: /* bus 0; device, function and offset are in 16 bits each */
        pci_write((struct pci_address){0, 0, (uint8_t)((at >> 32 & 31) << 3 | (at >> 16 & 7))}, at & 0xffff, 1,
                  acpi_info.reset_value);
        break;
    }
    udelay(SETTLE_US);
}

static void reset_by_keyboard(void)
{
    for (unsigned tries = 0; tries < 100000 && inb(KEYBOARD_STATUS) & KEYBOARD_BUSY; tries++)
        cpu_relax();
    outb(KEYBOARD_STATUS, KEYBOARD_PULSE_RESET);
    udelay(SETTLE_US);
    outb(RESET_CONTROL, 0x02);
    outb(RESET_CONTROL, 0x06);
    udelay(SETTLE_US);
}

static void __noreturn reset_by_triple_fault(void)
{
    static const struct {
        uint16_t limit;
        uint64_t base;
    } __packed empty = {0, 0};

    __asm__ volatile("lidt %0; int3" ::"m"(empty));
    stop_here();
}

void machine_reboot(void)
{
    stop_others();
    if (options.noreboot) {
        log_error("a reboot was asked for; the machine is halted instead, because of the option noreboot\n");
        stop_here();
    }
    log_error("rebooting\n");
    if (!options.reboot[0] || strcmp(options.reboot, "acpi") == 0)
        reset_by_acpi();
    if (strcmp(options.reboot, "triple") != 0)
        reset_by_keyboard();
    reset_by_triple_fault();
}

void machine_power_off(uint32_t pm1a, uint32_t pm1b)
{
    stop_others();
    if (!acpi_info.pm1a_control) {
        log_error("power-off is not possible without ACPI's FADT: switch the machine off\n");
        stop_here();
    }
    log_error("powering off\n");
    outw(acpi_info.pm1a_control, (uint16_t)(pm1a | SLP_EN));
    if (acpi_info.pm1b_control)
        outw(acpi_info.pm1b_control, (uint16_t)(pm1b | SLP_EN));
    udelay(10 * SETTLE_US);
    log_error("the machine did not power off (PM1a control at port 0x%x): switch it off\n", acpi_info.pm1a_control);
    stop_here();
}

void machine_all_ended(void)
{
    log_error("all domains have ended\n");
    machine_halt();
}

void machine_domain0_ended(int shutdown_reason)
{
    switch (shutdown_reason) {
    case SHUTDOWN_poweroff:
        log_error("domain 0 has ended (power-off)\n");
        machine_halt();
    case SHUTDOWN_reboot:
        log_error("domain 0 asks for a reboot\n");
        machine_reboot();
    case SHUTDOWN_watchdog:
        log_error("domain 0's watchdog expired\n");
        machine_reboot();
    case SHUTDOWN_crash:
        log_error("domain 0 crashed%s\n", options.noreboot ? "" : ": rebooting in 5 seconds");
        break;
    default:
        log_error("domain 0 ended with reason %d\n", shutdown_reason);
        break;
    }
    stop_others();
    if (!options.noreboot)
        udelay(REBOOT_DELAY_S * 1000000);
    machine_reboot();
}
