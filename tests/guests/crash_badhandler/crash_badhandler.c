/* run: beside=yes expect="(d0(v0)?|[Dd]omain 0).*crash" */
/*
 * The right end of this one is that the domain is crashed with a reason, and the hypervisor goes on: the handler
 * of an exception is not mapped, nor is that of the page fault that follows.
 */
#include "kit.h"

GUEST("crash_badhandler")
{
    set_trap(14, 0, (void *)VA_UNMAPPED);
    set_trap(6, 0, (void *)VA_UNMAPPED);
    asm volatile("ud2");
    check(false, "the domain goes on");
}
