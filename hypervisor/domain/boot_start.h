/* The domains that Croft starts by itself: domain 0, and those without tools (boot/boot_domains.h). */
#ifndef DOMAIN_BOOT_START_H
#define DOMAIN_BOOT_START_H

/* Builds and starts all that the boot modules describe; ends in boot_fail if one cannot be built. Boot CPU, all CPUs started. */
void domains_start(void);

#endif
