/* Platform timers that measure the TSC: HPET, ACPI PM timer, PIT; and the CMOS clock. */
#ifndef PLATFORM_TIMERS_H
#define PLATFORM_TIMERS_H

#include "lib/types.h"

uint64_t timers_measure_tsc_khz(void); /* over about 20 ms by the best timer present; panics never: falls back to CPUID 0x15/0x16 */
const char *timers_platform_name(void);
uint64_t cmos_read_seconds(void);      /* since 1970, UTC */
void udelay(unsigned us);              /* busy wait by TSC after calibration, by port 0x80 before */

#endif
