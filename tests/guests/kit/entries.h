/* Numbers shared by the assembly and the C of the kit. */
#ifndef KIT_ENTRIES_H
#define KIT_ENTRIES_H

#define KIT_STACK_SIZE 32768 /* a vcpu's block: lower half for entries from user mode, upper half its main stack */
#define KIT_MAX_VCPUS 4

/* Entries that are no exception get numbers above them in struct regs. */
#define VECTOR_EVENT 256
#define VECTOR_FAILSAFE 257
#define VECTOR_SYSCALL 258
#define VECTOR_SYSCALL32 259
#define VECTOR_SYSENTER 260

#endif
