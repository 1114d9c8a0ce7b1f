/* Is a VMCS one that VM entry accepts, and one that keeps the guest in? Pure: it reads the copy and the limits, nothing else. */
#ifndef HVM_VMX_AUDIT_H
#define HVM_VMX_AUDIT_H

#include "lib/util.h"

struct vmcs;

/* Controls that have to be one, and those that may be (appendix A.2 to A.5) */
struct vmx_allowed {
    uint32_t ones, may;
};

/* What the rules need to know of the processor */
struct vmx_limits {
    unsigned physical_bits; /* CPUID 8000_0008 EAX[7:0] */
    unsigned linear_bits;   /* CPUID 8000_0008 EAX[15:8]: a guest's MSRs and bases may have 57; less than 48 is as 48 */
    struct vmx_allowed pin, processor, secondary, exit, entry;
    uint64_t cr0_ones, cr0_may, cr4_ones, cr4_may; /* IA32_VMX_CR0_FIXED0 and so on; PE and PG are not in cr0_ones */
    uint64_t efer;                                 /* bits of EFER that exist */
    uint64_t ept_vpid;                             /* IA32_VMX_EPT_VPID_CAP */
    bool error_code_free; /* IA32_VMX_BASIC[56]: any exception may be injected with or without an error code */
};

/* Null, or which rule b breaks, the first in the order of SDM volume 3, 26.2 and 26.3: one line without end of line. */
const char *vmx_audit(const struct vmcs *b, const struct vmx_limits *l);
/* The same, but only those rules that a state brought by the tools can break: not those for Croft's controls and host state. */
const char *vmx_audit_state(const struct vmcs *b, const struct vmx_limits *l);
/* For tests: what vmx_audit can answer, at most n of it in texts. Returns how many rules there are. */
unsigned vmx_audit_rules(const char **texts, unsigned n);
/* Logs b for a crash report. */
void vmx_dump(const struct vmcs *b);

#endif
