/* What the builders of domains at boot share. */
#include "domain/boot_build.h"

#include "domain/domain.h"
#include "lib/log.h"
#include "memory/alloc.h"
#include "memory/map.h"
#include "platform/acpi.h"
#include "sched/pool.h"

void __init boot_build_unpack(const char *title, const struct boot_module *kernel, struct boot_image *image)
{
    struct payload *p = &image->payload;
    const char *error;

    if (!payload_unpack(p, maddr_to_virt(kernel->start), kernel->size))
        boot_fail("%s's kernel: %s\n", title, p->error);
    error = elf_parse(&image->elf, p->data, p->size);
    if (!error)
        error = elf_parse_notes(&image->elf, &image->notes);
    if (error)
        boot_fail("%s's kernel: %s\n", title, error);
    log_info("%s: kernel of %lu KiB, %s, compression %s, %zu KiB unpacked\n", title, kernel->size >> 10, p->container,
             p->compression, p->size >> 10);
}

/* Frames of the boot modules that the allocator gets once their contents were copied */
static uint64_t __init module_frames(const struct boot_module *m, mfn_t *first)
{
    uint64_t start = ROUND_UP(m->start.n, PAGE_SIZE), end = ROUND_DOWN(m->start.n + m->size, PAGE_SIZE);

    *first = MFN(start >> PAGE_SHIFT);
    return end > start ? (end - start) >> PAGE_SHIFT : 0;
}

void __init boot_build_give_back(const struct boot_module *m)
{
    mfn_t first;
    uint64_t count = module_frames(m, &first);

    if (count)
        alloc_add_range(first, count, acpi_node_of_maddr(m->start));
}

uint64_t __init boot_build_available(const struct boot_module *kernel, const struct boot_module *initrd,
                                     const struct boot_image *image)
{
    mfn_t first;
    uint64_t reclaimable = module_frames(kernel, &first) + (initrd ? module_frames(initrd, &first) : 0) +
                           (image->payload.pages ? 1UL << image->payload.order : 0);

    return alloc_free_count() + reclaimable;
}

void __init boot_build_check_free(const char *title, const char *option, uint64_t pages, uint64_t available)
{
    if (pages > available)
        boot_fail("%s: %s asks for %lu MiB, but only %lu MiB are free: give less\n", title, option,
                  pages / PAGES_PER_MIB, available / PAGES_PER_MIB);
}

void __init boot_build_check_room(const char *title, const char *option, uint64_t pages, uint64_t needed,
                                  uint64_t initrd)
{
    uint64_t least = DIV_ROUND_UP(needed, PAGES_PER_MIB);

    if (needed <= pages)
        return;
    if (needed - initrd <= pages)
        boot_fail("the initrd of %lu MiB does not fit into %s's memory of %lu MiB: give at least %s=%luM\n",
                  initrd / PAGES_PER_MIB, title, pages / PAGES_PER_MIB, option, least);
    boot_fail("%s's memory of %lu MiB is too small for its kernel and initrd: give at least %s=%luM\n", title,
              pages / PAGES_PER_MIB, option, least);
}

/* The CPUs that its vcpus may run on, and are placed on in turn */
static cpumask_t __init allowed_cpus(const char *title, const struct boot_domain *what)
{
    cpumask_t allowed = what->cpus;

    if (cpumask_empty(&allowed))
        return cpu_online;
    allowed.bits[0] &= cpu_online.bits[0];
    if (cpumask_empty(&allowed))
        boot_fail("%s: none of the CPUs that cpus= names is there\n", title);
    return allowed;
}

void __init boot_build_vcpus(const char *title, const char *option, struct domain *d, const struct boot_domain *what)
{
    cpumask_t allowed = allowed_cpus(title, what);
    unsigned cpu = cpumask_next(0, &allowed);

    for (unsigned i = 0; i < d->vcpu_count; i++) {
        struct vcpu *v = vcpu_create(d, i, cpu);

        if (!v)
            boot_fail("not enough memory for %u vcpus of %s: give fewer by %s\n", d->vcpu_count, title, option);
        if (!cpumask_empty(&what->cpus))
            vcpu_set_affinity(v, &what->cpus);
        cpu = cpumask_next(cpu + 1, &allowed);
        if (cpu >= NR_CPUS)
            cpu = cpumask_next(0, &allowed);
    }
}
