/*
 * The builder of domain 0: from the first boot module (a kernel) and the second (an initrd, optional) to a domain
 * whose vcpu 0 is about to execute the kernel's first instruction.
 */
#ifndef DOMAIN_DOM0_BUILD_H
#define DOMAIN_DOM0_BUILD_H

#include "lib/types.h"

/* Builds domain 0 and leaves it ready: vcpu 0 initialised and not down, the others down. The caller wakes it. Ends in
 * boot_fail where the modules or the options are not good for it. Boot CPU, all CPUs started, interrupts enabled. */
void dom0_build(void);

/*
 * The bootstrap region and what lies behind it, as the comment "Start-of-day memory layout" in <xen/xen.h> has it.
 * Pseudo-physical frames:  0 ...................... region_pages ... initrd (if not mapped) ... p2m (if at INIT_P2M)
 * Virtual addresses:       v_start ................ v_end
 *                          kernel, initrd, p2m, start_info, page tables, stack, padding
 * Elements that lie elsewhere by the kernel's notes are missing in the region.
 */
struct dom0_layout_request {
    uint64_t v_start;     /* VIRT_BASE: where pseudo-physical frame 0 is mapped */
    uint64_t kernel_end;  /* virtual, first byte behind the kernel */
    uint64_t initrd_size; /* bytes */
    bool initrd_unmapped; /* MOD_START_PFN */
    bool p2m_elsewhere;   /* INIT_P2M */
    uint64_t p2m_address; /* ... its value */
    uint64_t pages;       /* memory of the domain */
};
struct dom0_layout {
    uint64_t v_start, v_end, region_pages;
    uint64_t initrd_pages, initrd_pfn;
    uint64_t p2m_va, p2m_pages, p2m_pfn;
    uint64_t p2m_tables; /* page tables for a p2m elsewhere, in the frames behind it */
    uint64_t start_info_va, table_va, table_pages, stack_va;
    uint64_t pages_needed; /* everything above; the domain must not have less */
};

/* Returns null, or what is wrong (one line without end of line). Whether the domain is large enough is for the caller
 * to check (pages_needed). */
const char *dom0_layout(const struct dom0_layout_request *r, struct dom0_layout *l);

#endif
