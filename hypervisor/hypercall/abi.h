/* The hypervisor's side of the public ABI: the one place that includes Xen's headers (Debian's libxen-dev). */
#ifndef HYPERCALL_ABI_H
#define HYPERCALL_ABI_H

#include "lib/types.h"

#define __XEN__ 1
#include <xen/xen.h>
/* domctl.h wants a structure of this one, whose hypervisor's side leans on headers that are not public. */
#undef __XEN__
#include <xen/hvm/save.h>
#define __XEN__ 1
#include <xen/domctl.h>
#include <xen/sysctl.h>
#include <xen/callback.h>
#include <xen/elfnote.h>
#include <xen/event_channel.h>
#include <xen/features.h>
#include <xen/grant_table.h>
#include <xen/hvm/params.h>
#include <xen/memory.h>
#include <xen/nmi.h>
#include <xen/physdev.h>
#include <xen/platform.h>
#include <xen/sched.h>
#include <xen/trace.h>
#include <xen/vcpu.h>
#include <xen/version.h>
#include <xen/xenoprof.h>
#include <xen/io/console.h>
#include <xen/arch-x86/cpuid.h>
#include <xen/arch-x86/cpufeatureset.h>
#include <xen/arch-x86/xen-mca.h>

#include "lib/errno.h"

#endif
