/*
 * CPU policies in the ABI's form (lists of CPUID leaves and MSRs), for the control interface: the machine's, what PV and
 * PVH domains can have and have by default, and that of one domain. What a policy is: pv/cpuid.h.
 */
#ifndef PV_CPU_POLICY_H
#define PV_CPU_POLICY_H

#include "hypercall/abi.h"

struct domain;

/* sysctl. nr_* out: how many there are (null handle), or were written. -EINVAL: no such policy; -EOPNOTSUPP: of PVH
 * domains, and this machine cannot have any; -ENOBUFS: more than there is room for; -EFAULT. */
int sysctl_get_cpu_policy(struct xen_sysctl_cpu_policy *op);
int sysctl_get_cpu_featureset(struct xen_sysctl_cpu_featureset *op);
/* One word of the machine's featureset, in the order of <xen/arch-x86/cpufeatureset.h>. */
uint32_t host_feature_word(unsigned word);

/*
 * domctl. The caller has a reference to d; both change *op, which goes back to the guest also after an error of set:
 * err_leaf, err_subleaf, err_msr say what was refused (all ones: not that).
 * get: errors as above. set: the leaves given replace those that d has; -EINVAL: d is the caller, or more than this machine
 * can give; -ERANGE: no such leaf or MSR; -E2BIG: too many; -EEXIST: d has run; -ENOMEM, -EFAULT.
 */
int domctl_get_cpu_policy(struct domain *d, struct xen_domctl_cpu_policy *op);
int domctl_set_cpu_policy(struct domain *d, struct xen_domctl_cpu_policy *op);
/* d is gone: gives its own policy back. */
void cpu_policy_destroy(struct domain *d);

#endif
