/*
 * What becomes of domains without tools when they end: on_poweroff=, on_reboot=, on_crash= of their modules' lines (docs/domains.md).
 *
 * Each such domain has a record here, from boot on. restart_look only sets a timer; all work is done in slices by one softirq, on one
 * CPU at a time, one of those that the domain may use, and at most a third of the time if that CPU has something else to do. A slice
 * looks at each record and goes a step on with it:
 *
 *   RUNS       there is a domain; nothing to do until it has shut down, or the tools have destroyed it
 *   STAYS      it has ended and is preserved, for the tools to look at and to destroy
 *   ENDS       it has ended, and is taken down: its console is read to the end, then domain_destroy
 *   WAITS      there is none; it is to be built as soon as no other is
 *   IS_BUILT   the builder is at it (domain/builder.h)
 *   OVER       there is none, nor will be: its image was freed
 *
 * Invariants:
 * 1. Records, and all that a slice changes, are written with domain_work_lock held. A slice takes it by trylock and comes again
 *    later: it is never waited for with a slice's work undone, and a slice waits for no vcpu and no other softirq, so that the audit,
 *    which pauses domains with the lock held, cannot stand in its way, nor it in the audit's.
 * 2. In RUNS, STAYS and ENDS a record holds a reference to its domain (the builder's), and 'domain' is not null. It may be dying all
 *    the same: the tools destroy what they like. What has been destroyed by them is not started anew.
 * 3. A domain in ENDS is dying: no resume brings it back, and once none of its vcpus is on a CPU, none will be. Only then is it taken
 *    apart, so that domain_destroy does not wait for one, which may be the very one from which this CPU came into the softirq.
 * 4. In IS_BUILT the domain, if it is there, is found by nobody (d->building). There is one record at most in that state.
 * 5. An image (kernel, initrd) that is kept is there in all states but OVER.
 * 6. Without a domain 0 the machine ends when each record is in OVER or STAYS.
 */
#ifndef DOMAIN_RESTART_H
#define DOMAIN_RESTART_H

struct boot_image;
struct domain;

/* A domain that is about to start, with its builder's reference; its image stays, and is freed here if it is kept. Boot. */
void restart_add(struct boot_image *image, struct domain *d);
/* A domain with d->from_modules has ended, or was destroyed. Any context. */
void restart_look(void);

#endif
