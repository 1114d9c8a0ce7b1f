/* What the tools are told of a domain: for domctl getdomaininfo and sysctl getdomaininfolist. */
#ifndef DOMAIN_DOMAIN_INFO_H
#define DOMAIN_DOMAIN_INFO_H

#include "hypercall/abi.h"

struct domain;

/* Fills all of *info. The caller has a reference to d. A picture of a running domain: its parts are not of one moment. */
void domain_info(struct domain *d, struct xen_domctl_getdomaininfo *info);

#endif
