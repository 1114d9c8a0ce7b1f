/* What the builders of domains share (pv_build.c, pvh_build.c): see domain/builder.h. */
#ifndef DOMAIN_BOOT_BUILD_H
#define DOMAIN_BOOT_BUILD_H

#include "boot/boot_domains.h"
#include "boot/elf.h"
#include "boot/payload.h"
#include "lib/log.h"

#define PAGES_PER_MIB (1UL << (20 - PAGE_SHIFT))

struct domain;

/* A kernel, unpacked, and its initrd: all that a domain is built from. What of it lies in boot modules is Croft's until it is freed. */
struct boot_image {
    const struct boot_domain *what;
    struct payload payload;
    struct elf_image elf;
    struct elf_notes notes;
    bool keep; /* for the next time; else it is freed as soon as it has been copied */
};

/* Unpacks the kernel of 'what', which stays. Boot only: the libraries want a processor for themselves. Errors as build_error. */
int boot_image_unpack(struct boot_image *image, const struct boot_domain *what);
uint64_t boot_image_pages(const struct boot_image *image); /* what boot_image_free gives back */
void boot_image_free(struct boot_image *image);

/* "domain 0", "domain NAME" */
struct boot_title {
    char text[BOOT_DOMAIN_NAME + 8];
};
struct boot_title boot_build_title(const struct boot_domain *what);

/* Returns 'error', and keeps the text: one line with its end. */
int build_error(int error, const char *fmt, ...) __printf(2, 3);
const char *build_error_text(void); /* of the last one */

/*
 * A part of the work. 0: done, the next one comes. -ERESTART: there is more of it, and it is called again. Others: of build_error.
 */
typedef int build_step_t(void);
/* The next part of 'count'; *at counts them. 0: all are done. -ERESTART: there is more to do. */
int build_run(build_step_t *const *steps, unsigned count, unsigned *at);

/* 'title' is the domain in messages; options by the names that the user knows them by. */
/* Frames that are free, and those that will be when the image has been copied */
uint64_t boot_build_available(const struct boot_image *image);
/* The memory of 'pages' that was asked for is there; -ENOMEM */
int boot_build_check_free(const char *title, const char *option, uint64_t pages, uint64_t available);
/* and has room for the 'needed' pages of what the domain starts with, 'initrd' of which are the initrd's. -EINVAL */
int boot_build_check_room(const char *title, const char *option, uint64_t pages, uint64_t needed, uint64_t initrd);
/* The next vcpu of d's, on the CPUs that 'what' allows in turn. 0: there are all. -ERESTART, -ENOMEM, -EINVAL */
int boot_build_vcpu(const char *title, const char *option, struct domain *d, const struct boot_domain *what);

#endif
