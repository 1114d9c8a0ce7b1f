/* The local APIC, in xAPIC or x2APIC mode. */
#ifndef PLATFORM_APIC_H
#define PLATFORM_APIC_H

#include "lib/types.h"

void apic_init_boot(void); /* maps it, chooses the mode, masks the 8259s */
/* Enables it on this CPU: spurious vector, TPR 0, LINT0 off, LINT1 NMI on the boot CPU, error. */
void apic_init_cpu(void);
uint32_t apic_read_id(void);
void apic_eoi(void);
void apic_send_ipi(uint32_t apic_id, uint8_t vector);
void apic_send_nmi(uint32_t apic_id);
void apic_send_init(uint32_t apic_id);
void apic_send_startup(uint32_t apic_id, uint8_t page);
void apic_timer_calibrate(void);            /* after TSC calibration; uses TSC-deadline where present */
void apic_timer_arm(uint64_t tsc_deadline); /* one-shot interrupt on VECTOR_TIMER at or soon after that TSC value */
void apic_timer_stop(void);
/* A device's interrupt waits at this CPU; interrupts disabled, or it may not wait any more. */
bool apic_device_pending(void);
bool apic_is_x2apic(void);

#endif
