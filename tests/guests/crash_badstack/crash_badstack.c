/* run: beside=yes expect="(d0(v0)?|[Dd]omain 0).*crash" */
/*
 * The right end of this one is that the domain is crashed with a reason, and the hypervisor goes on: the kernel
 * stack is not mapped when an exception comes.
 */
#include "kit.h"

GUEST("crash_badstack")
{
    asm volatile("movq %0, %%rsp; ud2" : : "r"(VA_UNMAPPED));
    check(false, "the domain goes on");
}
