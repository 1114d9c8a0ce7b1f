/* Is a VMCB one that VMRUN accepts, and one that keeps the guest in? Pure: it reads the VMCB and the limits, nothing else. */
#ifndef HVM_SVM_AUDIT_H
#define HVM_SVM_AUDIT_H

#include "lib/util.h"

struct vmcb;

/* What the rules need to know of the processor */
struct svm_limits {
    unsigned physical_bits; /* CPUID 8000_0008 EAX[7:0] */
    uint32_t asids;         /* CPUID 8000_000A EBX: ASIDs are 0 (the host) to asids - 1 */
    bool long_mode;         /* CPUID 8000_0001 EDX[29] */
    bool flush_by_asid;     /* CPUID 8000_000A EDX[6] */
    uint64_t cr4;           /* bits of CR4 that exist */
    uint64_t efer;          /* bits of EFER that exist, SVME too */
};

/* Null, or which rule b breaks, the first in the order of APM volume 2, 15.5.1: one line without end of line. */
const char *svm_audit(const struct vmcb *b, const struct svm_limits *l);
/* For tests: what svm_audit can answer, at most n of it in texts. Returns how many rules there are. */
unsigned svm_audit_rules(const char **texts, unsigned n);
/* Logs b for a crash report. */
void svm_dump(const struct vmcb *b);

#endif
