/*
 * The builder of PV domains: from a kernel and an initrd (optional) to a domain whose vcpu 0 is about
 * to execute the kernel's first instruction.
 */
#ifndef DOMAIN_PV_BUILD_H
#define DOMAIN_PV_BUILD_H

#include "domain/boot_build.h"
#include "hypercall/abi.h"

/* As builder_begin and builder_step (domain/builder.h), for domain 0 (at boot only) and domains without what->pvh. */
void pv_build_begin(struct boot_image *image, domid_t id, bool at_boot);
int pv_build_step(struct domain **d);

/*
 * The bootstrap region and what lies behind it, as the comment "Start-of-day memory layout" in <xen/xen.h> has it.
 * Pseudo-physical frames:  0 ...................... region_pages ... initrd (if not mapped) ... p2m (if at INIT_P2M)
 * Virtual addresses:       v_start ................ v_end
 *                          kernel, initrd, p2m, start_info, console (if asked for), page tables, stack, padding
 * Elements that lie elsewhere by the kernel's notes are missing in the region.
 */
struct pv_layout_request {
    uint64_t v_start;     /* VIRT_BASE: where pseudo-physical frame 0 is mapped */
    uint64_t kernel_end;  /* virtual, first byte behind the kernel */
    uint64_t initrd_size; /* bytes */
    bool initrd_unmapped; /* MOD_START_PFN */
    bool p2m_elsewhere;   /* INIT_P2M */
    uint64_t p2m_address; /* ... its value */
    uint64_t pages;       /* memory of the domain */
    bool console_page;    /* one behind start_info, for the console's ring */
};
struct pv_layout {
    uint64_t v_start, v_end, region_pages;
    uint64_t initrd_pages, initrd_pfn;
    uint64_t p2m_va, p2m_pages, p2m_pfn;
    uint64_t p2m_tables; /* page tables for a p2m elsewhere, in the frames behind it */
    uint64_t start_info_va, console_va, table_va, table_pages, stack_va;
    uint64_t pages_needed; /* everything above; the domain must not have less */
};

/* Returns null, or what is wrong (one line without end of line). Whether the domain is large enough is for the caller
 * to check (pages_needed). */
const char *pv_layout(const struct pv_layout_request *r, struct pv_layout *l);

#endif
