/*
 * ACPI tables of a PVH domain: RSDP, XSDT, FADT, MADT, DSDT. They tell that there is no hardware but processors with their local
 * APICs, and how to switch off. Pure: bytes from numbers. Source: ACPI specification 6.4, chapters 5.2 and 20.
 */
#ifndef DOMAIN_PVH_ACPI_H
#define DOMAIN_PVH_ACPI_H

#include "lib/types.h"

#define PVH_ACPI_SIZE (2 * PAGE_SIZE) /* room for the tables of MAX_VCPUS */

/*
 * The sleep registers, two I/O ports of one byte (ACPI 4.8.3.7). A write of PVH_SLEEP_ENABLE to the first switches the domain off: S5 is
 * the only state that the DSDT has. Where nobody answers, reads as 0xff say that it woke up, and the guest goes on.
 */
#define PVH_SLEEP_CONTROL_PORT 0xb004
#define PVH_SLEEP_STATUS_PORT 0xb005
#define PVH_SLEEP_ENABLE 0x20 /* SLP_EN; the type is in bits 2-4 */
#define PVH_SLEEP_TYPE_S5 5
/* The reset register, one too: a write of PVH_RESET_VALUE starts the domain anew, or ends it where nobody does that. */
#define PVH_RESET_PORT 0xb006
#define PVH_RESET_VALUE 1

/*
 * Writes the tables as the guest finds them at physical 'address' (a multiple of 16); the RSDP comes first. vcpus: at most MAX_VCPUS;
 * the local APIC of each has twice its number as its id. Returns how many bytes were written.
 */
size_t pvh_acpi_write(uint8_t to[PVH_ACPI_SIZE], uint64_t address, unsigned vcpus);

#endif
