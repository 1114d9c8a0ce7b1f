/* Platform timers that measure the TSC: HPET, ACPI PM timer, PIT; and the CMOS clock. */
#ifndef PLATFORM_TIMERS_H
#define PLATFORM_TIMERS_H

#include "lib/types.h"

/* Over about 20 ms by the best timer present; panics never: falls back to CPUID 0x15/0x16. */
uint64_t timers_measure_tsc_khz(void);
const char *timers_platform_name(void);
uint64_t cmos_read_seconds(void); /* since 1970, UTC; 0 if the clock cannot be read */
void udelay(unsigned us);         /* busy wait by TSC after calibration, by port 0x80 before */

/* The clock's registers as read (seconds, minutes, hours, day, month, year, century or 0, status B). */
struct cmos_time {
    uint8_t second, minute, hour, day, month, year, century, status_b;
};
/* Seconds since 1970; 0 if a field is impossible. */
uint64_t cmos_decode(const struct cmos_time *raw);

#endif
