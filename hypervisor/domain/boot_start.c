/* From the boot modules to running domains. */
#include "domain/boot_start.h"

#include "boot/boot_domains.h"
#include "domain/builder.h"
#include "domain/domain.h"
#include "domain/restart.h"
#include "lib/log.h"
#include "memory/alloc.h"
#include "platform/console.h"

#define EXAMPLE "vmlinuz root=/dev/vda1 console=hvc0"

/* These stay: who may be started anew is so from them. */
static struct boot_domains found;
static struct boot_image images[BOOT_MAX_MODULES];

static struct domain *built[BOOT_MAX_MODULES] __initdata;
static struct boot_image domain0_image __initdata;

static struct domain *__init build(struct boot_image *image, const struct boot_domain *what, domid_t id)
{
    struct domain *d = NULL;
    int rc = boot_image_unpack(image, what);

    if (!rc) {
        builder_begin(image, id, true);
        do
            rc = builder_step(&d);
        while (rc == -ERESTART);
    }
    if (rc)
        boot_fail("%s", build_error_text());
    return d;
}

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
        built[i] = build(&images[i], &found.guests[i], domain_new_id());
    if (found.domain0.kernel)
        domain0 = build(&domain0_image, &found.domain0, 0);
    console_keyboard_start();
    log_info("%s; %lu MiB free; three times Ctrl-A gives the keyboard to Croft\n",
             domain0 ? "domain 0 starts" : "no domain 0", alloc_free_count() >> 8);
    for (unsigned i = 0; i < found.count; i++)
        restart_add(&images[i], built[i]);
    for (unsigned i = 0; i < found.count; i++)
        builder_start(built[i], &found.guests[i]);
    if (domain0)
        vcpu_wake(domain0->vcpus[0]);
}
