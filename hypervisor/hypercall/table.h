/* The hypercall table's form, shared with the entry code. */
#ifndef HYPERCALL_TABLE_H
#define HYPERCALL_TABLE_H

#include "hypercall/dispatch.h"

#define HYPERCALL_COUNT 64
#define HYPERCALL_SHIFT 5 /* log2 of the size of an entry */

struct hypercall {
    hypercall_handler_t *handler; /* null: -ENOSYS */
    const char *name;
    bool privileged; /* domain 0 only: others get -EPERM */
    uint64_t pad;
};
_Static_assert(sizeof(struct hypercall) == 1 << HYPERCALL_SHIFT, "the entry code indexes the table by shifting");

extern const struct hypercall hypercall_table[HYPERCALL_COUNT];

#endif
