/* Reports of the processor's state: at the end of everything, and for debug keys. panic() itself is in lib/log.h. */
#ifndef CPU_PANIC_H
#define CPU_PANIC_H

#include "lib/util.h"

struct cpu_user_regs;

/* As panic; the report shows these registers and the call trace that leads to them. */
void panic_regs(const struct cpu_user_regs *regs, const char *fmt, ...) __printf(2, 3) __noreturn;
/* To the log: registers and control registers; the call trace of the caller. */
void dump_regs(const struct cpu_user_regs *regs);
void dump_stack(void);

#endif
