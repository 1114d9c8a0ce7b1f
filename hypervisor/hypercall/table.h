/* The hypercall table's form, shared with the entry code. */
#ifndef HYPERCALL_TABLE_H
#define HYPERCALL_TABLE_H

#include "hypercall/dispatch.h"

#define HYPERCALL_COUNT 64

struct hypercall {
    hypercall_handler_t *handler; /* null: -ENOSYS */
    const char *name;
    bool privileged;
};
extern const struct hypercall hypercall_table[HYPERCALL_COUNT];

/* What the entry code calls, by number: the handler, or hypercall_checked for privileged and unknown ones. */
extern hypercall_handler_t *const hypercall_entries[HYPERCALL_COUNT];
hypercall_handler_t hypercall_checked; /* pv/entry.S: checks, then goes on to the handler; number in rax */

#endif
