/*
 * The console of a domain without tools: the ring of <xen/io/console.h> in a page of the domain's, with Croft at the other end in
 * place of xenconsoled. What the domain writes comes out on the serial line, with its name in front of each line; what is typed goes
 * to it when it has the keyboard (platform/console.c).
 */
#ifndef DOMAIN_GUEST_CONSOLE_H
#define DOMAIN_GUEST_CONSOLE_H

#include "boot/boot_domains.h"
#include "memory/frame.h"

#define GUEST_CONSOLES BOOT_MAX_MODULES

struct domain;

/*
 * 'name' is copied; a console of a name that there was before has its number, so that the keyboard stays where it is. 'ring' is a frame
 * of d's that is mapped writable. *port: d's event channel to Croft. One caller at a time. -EINVAL, -ENOMEM, -ENOSPC
 */
int guest_console_create(struct domain *d, const char *name, mfn_t ring, uint32_t *port);
void guest_console_destroy(struct domain *d); /* if it has one; interrupts enabled */
/* Has all that the domain wrote come out? If not, it will, though the domain may say nothing more. True if it has no console. */
bool guest_console_drained(struct domain *d);
/* The domain's event: there is something in the ring, or room. Any context. */
void guest_console_kick(struct domain *d);
/* By number, below GUEST_CONSOLES. False: there is none. Any context. */
bool guest_console_name(unsigned number, char name[BOOT_DOMAIN_NAME]);
/* Something was typed for it: what does not fit is lost. 'number' may be of one that has ended. Any context. */
void guest_console_type(unsigned number, const char *text, size_t n);

#endif
