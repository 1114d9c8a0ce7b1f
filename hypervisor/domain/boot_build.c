/* What the builders of domains share. */
#include "domain/boot_build.h"

#include "domain/domain.h"
#include "lib/printf.h"
#include "memory/alloc.h"
#include "memory/map.h"
#include "platform/acpi.h"
#include "sched/pool.h"

static char error_text[384];

int build_error(int error, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(error_text, sizeof(error_text), fmt, ap);
    va_end(ap);
    return error;
}

const char *build_error_text(void) { return error_text; }

int build_run(build_step_t *const *steps, unsigned count, unsigned *at)
{
    int rc = steps[*at]();

    if (rc)
        return rc;
    return ++*at < count ? -ERESTART : 0;
}

struct boot_title boot_build_title(const struct boot_domain *what)
{
    struct boot_title title = {""};

    snprintf(title.text, sizeof(title.text), "%s%s", what->is_domain0 ? "" : "domain ", what->name);
    return title;
}

/* ----- images ----- */

/* Frames of a boot module that the allocator gets once their contents are no longer needed */
static uint64_t module_frames(const struct boot_module *m, mfn_t *first)
{
    uint64_t start = ROUND_UP(m->start.n, PAGE_SIZE), end = ROUND_DOWN(m->start.n + m->size, PAGE_SIZE);

    *first = MFN(start >> PAGE_SHIFT);
    return end > start ? (end - start) >> PAGE_SHIFT : 0;
}

static void free_module(const struct boot_module *m)
{
    mfn_t first;
    uint64_t count = module_frames(m, &first);

    if (count)
        alloc_add_range(first, count, acpi_node_of_maddr(m->start));
}

int __init boot_image_unpack(struct boot_image *image, const struct boot_domain *what)
{
    const struct boot_title title = boot_build_title(what);
    const struct boot_module *kernel = what->kernel;
    struct payload *p = &image->payload;
    const char *error;

    image->what = what;
    image->keep = !what->is_domain0 && boot_domain_may_restart(what);
    if (!payload_unpack(p, maddr_to_virt(kernel->start), kernel->size))
        return build_error(-EINVAL, "%s's kernel: %s\n", title.text, p->error);
    if (p->pages) /* else it is run from where it is */
        free_module(kernel);
    error = elf_parse(&image->elf, p->data, p->size);
    if (!error)
        error = elf_parse_notes(&image->elf, &image->notes);
    if (error)
        return build_error(-EINVAL, "%s's kernel: %s\n", title.text, error);
    log_info("%s: kernel of %lu KiB, %s, compression %s, %zu KiB unpacked\n", title.text, kernel->size >> 10,
             p->container, p->compression, p->size >> 10);
    if (image->keep)
        log_info("%s: %lu KiB of it and its initrd stay in memory, to start it anew\n", title.text,
                 boot_image_pages(image) * PAGE_SIZE >> 10);
    return 0;
}

uint64_t boot_image_pages(const struct boot_image *image)
{
    const struct payload *p = &image->payload;
    mfn_t first;
    uint64_t kernel = p->pages ? DIV_ROUND_UP(p->capacity, PAGE_SIZE) : module_frames(image->what->kernel, &first);

    return kernel + (image->what->initrd ? module_frames(image->what->initrd, &first) : 0);
}

void boot_image_free(struct boot_image *image)
{
    if (!image->payload.pages)
        free_module(image->what->kernel);
    payload_free(&image->payload);
    if (image->what->initrd)
        free_module(image->what->initrd);
}

/* ----- checks ----- */

uint64_t boot_build_available(const struct boot_image *image)
{
    return alloc_free_count() + (image->keep ? 0 : boot_image_pages(image));
}

int boot_build_check_free(const char *title, const char *option, uint64_t pages, uint64_t available)
{
    if (pages <= available)
        return 0;
    return build_error(-ENOMEM, "%s: %s asks for %lu MiB, but only %lu MiB are free: give less\n", title, option,
                       pages / PAGES_PER_MIB, available / PAGES_PER_MIB);
}

int boot_build_check_room(const char *title, const char *option, uint64_t pages, uint64_t needed, uint64_t initrd)
{
    uint64_t least = DIV_ROUND_UP(needed, PAGES_PER_MIB);

    if (needed <= pages)
        return 0;
    if (needed - initrd <= pages)
        return build_error(-EINVAL,
                           "the initrd of %lu MiB does not fit into %s's memory of %lu MiB: give at least %s=%luM\n",
                           initrd / PAGES_PER_MIB, title, pages / PAGES_PER_MIB, option, least);
    return build_error(-EINVAL,
                       "%s's memory of %lu MiB is too small for its kernel and initrd: give at least %s=%luM\n", title,
                       pages / PAGES_PER_MIB, option, least);
}

/* ----- vcpus ----- */

/* The CPU of vcpu number 'id': those of the mask in turn. NR_CPUS: there are none. */
static unsigned cpu_in_turn(const cpumask_t *mask, unsigned id)
{
    unsigned cpu = cpumask_next(0, mask);

    for (unsigned i = 0; i < id && cpu < NR_CPUS; i++) {
        cpu = cpumask_next(cpu + 1, mask);
        if (cpu >= NR_CPUS)
            cpu = cpumask_next(0, mask);
    }
    return cpu;
}

int boot_build_vcpu(const char *title, const char *option, struct domain *d, const struct boot_domain *what)
{
    cpumask_t allowed = cpu_online;
    unsigned id = 0, cpu;
    struct vcpu *v;

    while (id < d->vcpu_count && d->vcpus[id])
        id++;
    if (id == d->vcpu_count)
        return 0;
    if (!cpumask_empty(&what->cpus))
        allowed.bits[0] &= what->cpus.bits[0];
    cpu = cpu_in_turn(&allowed, id);
    if (cpu >= NR_CPUS)
        return build_error(-EINVAL, "%s: none of the CPUs that cpus= names is there\n", title);
    v = vcpu_create(d, id, cpu);
    if (!v)
        return build_error(-ENOMEM, "not enough memory for %u vcpus of %s: give fewer by %s\n", d->vcpu_count, title,
                           option);
    if (!cpumask_empty(&what->cpus) && vcpu_set_affinity(v, &what->cpus))
        return build_error(-EINVAL, "%s: none of the CPUs that cpus= names is in CPU pool 0\n", title);
    return -ERESTART;
}
