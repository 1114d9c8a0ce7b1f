/* The kit's GDT, and what the assembly and the C share. */
#ifndef PVH_SELECTORS_H
#define PVH_SELECTORS_H

#define CODE64 0x08
#define DATA 0x10
#define CODE32 0x18
#define USER_DATA_SELECTOR 0x23
#define USER_CODE64 0x2b
#define USER_CODE32 0x33
#define TSS_SELECTOR(vcpu) (0x40 + 16 * (vcpu))

#define TRAMPOLINE 0x8000 /* where a start-up signal begins, in real mode */

/* The instruction of a hypercall: the kit puts the one there that the hypercall page has, VMCALL on processors with VT-x. */
/* clang-format off */
#define KIT_CALL 2999: vmmcall; .pushsection .kit.calls, "a"; .quad 2999b; .popsection
/* clang-format on */
#define KIT_CALL_LENGTH 3

#endif
