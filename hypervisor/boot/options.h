/* Croft's command line, parsed from one table (options.c), which docs/options.md is made from (tools/gen-options). */
#ifndef BOOT_OPTIONS_H
#define BOOT_OPTIONS_H

#include "lib/types.h"

struct options {
    uint64_t dom0_mem, dom0_mem_min, dom0_mem_max; /* bytes; 0: default */
    uint32_t dom0_max_vcpus;                       /* 0: as many as CPUs */
    uint32_t maxcpus;                              /* 0: all */
    bool noreboot;
    int loglvl, guest_loglvl; /* highest enum log_level that reaches the console; -1: none */
    char console[32];         /* a list of "com1", "com2", "vga" (accepted), or "none" */
    struct {
        uint32_t baud;
        uint16_t port;
        uint8_t irq;
    } com[2]; /* baud 0: leave; port 0: legacy default */
    bool x2apic, smap, smep, hpet_off, acpi_off;
    char reboot[16];             /* "acpi", "kbd", "triple", "" = try all in that order */
    uint64_t mem;                /* use only RAM below this, 0: all */
    uint32_t sched_allowance_us; /* BVT context-switch allowance */
    uint32_t timer_slop;         /* ns: sched/timer.c */
    uint32_t fail_allocation;    /* alloc_fault_set from the start on; 0: none */
};
extern struct options options;

/* Unknown option: a warning that names it. Malformed value: a warning, and the default. */
void options_parse(const char *cmdline);
/* A size in the form that options have: K, M, G or T; a bare number counts KiB. False: malformed, nothing changed. */
bool option_parse_size(const char *value, uint64_t *out);

/* One line of the table, for the documentation. */
struct option_text {
    const char *name, *values, *initial, *help;
};
/* The i-th option's text, or null after the last one. */
const struct option_text *option_text(unsigned i);

#endif
