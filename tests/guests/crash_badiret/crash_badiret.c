/* run: beside=yes expect="(d0(v0)?|[Dd]omain 0).*crash" */
/*
 * The right end of this one is that the domain is crashed with a reason, and the hypervisor goes on: the iret
 * hypercall with a stack that is not mapped.
 */
#include "kit.h"

GUEST("crash_badiret")
{
    kit_iret((struct iret_context *)VA_UNMAPPED);
    check(false, "the domain goes on");
}
