/* The end of the machine's run. */
#ifndef PLATFORM_POWER_H
#define PLATFORM_POWER_H

#include "lib/util.h"

void power_init(void); /* after acpi_init: maps the reset register, for which there is no memory later */
__noreturn void machine_halt(void);
__noreturn void machine_reboot(void); /* ACPI reset register, then keyboard controller, then triple fault */
/* The values that domain 0 gave to XENPF_enter_acpi_sleep are written to the PM1 control registers. */
__noreturn void machine_power_off(uint32_t pm1a, uint32_t pm1b);
__noreturn void machine_all_ended(void); /* the last domain of a machine without domain 0: halts, and says so */
/* Domain 0 is gone: reboots, or halts with noreboot, and says so. */
__noreturn void machine_domain0_ended(int shutdown_reason);

#endif
