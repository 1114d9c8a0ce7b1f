/* What the builders of domains at boot share (pv_build.c, pvh_build.c). What cannot be done ends in boot_fail. */
#ifndef DOMAIN_BOOT_BUILD_H
#define DOMAIN_BOOT_BUILD_H

#include "boot/boot_domains.h"
#include "boot/elf.h"
#include "boot/payload.h"

#define PAGES_PER_MIB (1UL << (20 - PAGE_SHIFT))

struct domain;

/* A kernel, unpacked: payload_free(&payload) when it has been copied. */
struct boot_image {
    struct payload payload;
    struct elf_image elf;
    struct elf_notes notes;
};

/* 'title' is the domain in messages: "domain 0", "domain NAME"; options by the names that the user knows them by. */
void boot_build_unpack(const char *title, const struct boot_module *kernel, struct boot_image *image);
/* Frames that are free, and those that will be when the kernel and the initrd (null: none) have been copied */
uint64_t boot_build_available(const struct boot_module *kernel, const struct boot_module *initrd,
                              const struct boot_image *image);
/* The memory of 'pages' that was asked for is there; */
void boot_build_check_free(const char *title, const char *option, uint64_t pages, uint64_t available);
/* and has room for the 'needed' pages of what the domain starts with, 'initrd' of which are the initrd's. */
void boot_build_check_room(const char *title, const char *option, uint64_t pages, uint64_t needed, uint64_t initrd);
/* All d->vcpu_count of them, on the CPUs that 'what' allows in turn */
void boot_build_vcpus(const char *title, const char *option, struct domain *d, const struct boot_domain *what);
/* The frames of a module that has been copied go to the allocator. */
void boot_build_give_back(const struct boot_module *m);

#endif
