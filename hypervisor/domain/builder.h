/*
 * Building a domain from a kernel and an initrd: at boot (domain/boot_start.c), and when a domain is started anew (domain/restart.c). So
 * it goes in steps, each of which takes well below a millisecond but at boot, and an error is a number and a line of text: what is done
 * about it is the caller's choice.
 *
 * One domain is built at a time, for the builders are static. At boot that is so by itself; later each step is done with
 * domain_work_lock held, and none is begun before the one before is done. A domain that is being built is not found by its number
 * (d->building): nobody but its builder changes it, and its frames stay its own until it is begun to be destroyed.
 */
#ifndef DOMAIN_BUILDER_H
#define DOMAIN_BUILDER_H

#include "domain/boot_build.h"
#include "hypercall/abi.h"

/* PV or PVH, as image->what says: begins, with that number, ... */
void builder_begin(struct boot_image *image, domid_t id, bool at_boot);
/*
 * ... and goes on. -ERESTART: call again. 0: *d is ready: vcpu 0 is initialised and not down, the others are down. Other errors:
 * build_error_text() says why. *d is set once there is a domain, with a reference for the caller; after an error it is to be destroyed.
 * Interrupts enabled.
 */
int builder_step(struct domain **d);
/* A domain without tools runs from now on, and is there for all. */
void builder_start(struct domain *d, const struct boot_domain *what);

#endif
