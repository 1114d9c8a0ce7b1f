/* run: beside=yes expect="(d0(v0)?|[Dd]omain 0).*crash" */
/*
 * The right end of this one is that the domain is crashed with a reason, and the hypervisor goes on: an exception
 * that the guest has no handler for.
 */
#include "kit.h"

GUEST("crash_nohandler")
{
    set_trap_table(NULL); /* null: no handler for anything */
    asm volatile("ud2");
    check(false, "the domain goes on");
}
