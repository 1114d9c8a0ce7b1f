/* From the boot modules to running domains. */
#include "domain/boot_start.h"

#include "boot/boot_domains.h"
#include "domain/domain.h"
#include "domain/pv_build.h"
#include "domain/pvh_build.h"
#include "lib/log.h"
#include "memory/alloc.h"
#include "platform/console.h"

#define EXAMPLE "vmlinuz root=/dev/vda1 console=hvc0"

static struct boot_domains found __initdata;
static struct domain *built[BOOT_MAX_MODULES] __initdata;

void __init domains_start(void)
{
    char error[256];

    if (!boot_domains_parse(&boot_info, &found, error, sizeof(error)))
        boot_fail("%s\n", error);
    if (!found.domain0.kernel && !found.count)
        boot_fail("no domain 0 kernel: give one as the first module, for example QEMU's -initrd \"" EXAMPLE
                  ",initrd.img\" or GRUB's module2 /" EXAMPLE "\n");
    /* Domain 0 last: what it gets by default is what is left. */
    for (unsigned i = 0; i < found.count; i++)
        built[i] = (found.guests[i].pvh ? pvh_build : pv_build)(&found.guests[i], (domid_t)(i + 1));
    if (found.domain0.kernel)
        domain0 = pv_build(&found.domain0, 0);
    console_keyboard_start();
    log_info("%s; %lu MiB free; three times Ctrl-A gives the keyboard to Croft\n",
             domain0 ? "domain 0 starts" : "no domain 0", alloc_free_count() >> 8);
    for (unsigned i = 0; i < found.count; i++) {
        log_info("%s, domain %s, starts\n", built[i]->name, found.guests[i].name);
        built[i]->started = true;
        vcpu_wake(built[i]->vcpus[0]);
        domain_put(built[i]); /* its builder's reference */
    }
    if (domain0)
        vcpu_wake(domain0->vcpus[0]);
}
