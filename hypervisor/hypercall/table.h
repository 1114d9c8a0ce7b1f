/* The hypercall table's form, shared with the entry code. */
#ifndef HYPERCALL_TABLE_H
#define HYPERCALL_TABLE_H

#include "hypercall/dispatch.h"

#define HYPERCALL_COUNT 64

struct hypercall {
    hypercall_handler_t *handler; /* null: -ENOSYS */
    const char *name;
    bool privileged;
    hypercall_handler_t *translated; /* for domains whose frames Croft translates; null: -ENOSYS */
};
extern const struct hypercall hypercall_table[HYPERCALL_COUNT];

/* By number: the handler, or hypercall_checked for privileged and unknown ones. */
extern hypercall_handler_t *const hypercall_entries[HYPERCALL_COUNT];
/* The table that the entry code takes: hypercall_entries, or one of hypercall_traced, which leads there. */
extern hypercall_handler_t *const *hypercall_entries_in_use;
hypercall_handler_t hypercall_traced; /* pv/entry.S */
/* hypercall_trace.c: records a call; event: TRC_PV_HYPERCALL_V2 or TRC_PV_HYPERCALL_SUBCALL. */
void hypercall_trace(uint32_t event, uint64_t nr, const uint64_t args[5]);
void hypercall_trace_entry(const struct cpu_user_regs *regs); /* from the entry code, in front of the call */
hypercall_handler_t hypercall_checked; /* pv/entry.S: checks, then goes on to the handler; number in rax */

#endif
