/*
 * Which domains the boot modules describe: domain 0 (a kernel, and an initrd), and domains without tools, which Croft itself starts.
 *
 * A module whose command line begins with "domain=NAME" is the kernel of a domain without tools. Words of the form name=value
 * follow, then "--", then the kernel's own command line. The next module is its initrd if its command line is "initrd".
 * Of the others the first is domain 0's kernel, the second its initrd. docs/domains.md describes it for users.
 */
#ifndef BOOT_BOOT_DOMAINS_H
#define BOOT_BOOT_DOMAINS_H

#include "boot/boot.h"
#include "cpu/cpumask.h"

#define BOOT_DOMAIN_NAME 24

/* What becomes of a domain that has ended: its memory is given back; that, and it is built anew; it stays as it is. */
enum boot_action { BOOT_DESTROY, BOOT_RESTART, BOOT_PRESERVE };

#define BOOT_RESTARTS_UNLIMITED UINT32_MAX

struct boot_domain {
    const struct boot_module *kernel, *initrd; /* initrd: null if there is none */
    const char *cmdline;                       /* of the kernel; null: the module's */
    char name[BOOT_DOMAIN_NAME];               /* for people; "domain 0" */
    bool is_domain0;                           /* the rest is in the options then */
    uint64_t memory;                           /* bytes */
    uint32_t vcpus;
    cpumask_t cpus; /* where they may run; none: everywhere */
    bool pvh;       /* else PV */
    enum boot_action on_poweroff, on_reboot, on_crash;
    uint32_t restarts; /* in a row that came too soon: domain/restart.h */
};

struct boot_domains {
    struct boot_domain domain0; /* kernel null: there is none */
    unsigned count;
    struct boot_domain guests[BOOT_MAX_MODULES];
};

static inline bool boot_domain_may_restart(const struct boot_domain *what)
{
    return what->on_poweroff == BOOT_RESTART || what->on_reboot == BOOT_RESTART || what->on_crash == BOOT_RESTART;
}

/* Fills 'out' (zeroed by the caller). Returns false and a line without its end in 'error' if a module's text is malformed. */
bool boot_domains_parse(const struct boot_info *info, struct boot_domains *out, char *error, size_t size);

#endif
