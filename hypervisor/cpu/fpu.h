/*
 * The x87, SSE, AVX and AVX-512 state of vcpus, switched eagerly: while a vcpu is current the registers are its own;
 * Croft uses none of them. Every function that touches them wants CR0.TS clear. Without XSAVE (before 2008) FXSAVE
 * serves, and XCR0 does not exist.
 */
#ifndef CPU_FPU_H
#define CPU_FPU_H

#include "lib/types.h"

struct vcpu;

void fpu_init_cpu(void);       /* this CPU's registers and XCR0; the boot CPU first, which finds what there is */
int fpu_alloc(struct vcpu *v); /* v->fpu, in the initial state; XCR0 1 as after reset. -ENOMEM */
void fpu_free(struct vcpu *v);
void fpu_save(struct vcpu *v);    /* registers to memory: v was current. They may be overwritten afterwards. */
void fpu_restore(struct vcpu *v); /* memory to registers: v becomes current */
/* State of a vcpu that does not run from a 512-byte FXSAVE image, checked; null: the initial state. */
void fpu_set_context(struct vcpu *v, const void *image);

/* The XSAVE area of a vcpu that does not run, in the standard format: for saving a domain. Only with XSAVE. */
unsigned fpu_state_size(void);
void fpu_get_state(const struct vcpu *v, void *to);
/* False: components or header bits that this processor would not take. 'size' may be less than a whole area. */
bool fpu_check_state(uint64_t xcr0, const void *from, size_t size);
/* The same check, and if it is true the vcpu has that state. */
bool fpu_set_state(struct vcpu *v, uint64_t xcr0, const void *from, size_t size);

void fpu_get_context(const struct vcpu *v, void *image); /* the 512 bytes of FXSAVE, of a vcpu that does not run */
uint64_t fpu_xcr0_max(void); /* components that may be enabled: all that Croft switches; 0 without XSAVE */
/* The guest's XCR0. False, nothing changed: the processor would answer #GP. Loads it if v is current. */
bool fpu_set_xcr0(struct vcpu *v, uint64_t xcr0);
uint64_t fpu_get_xcr0(const struct vcpu *v);
void fpu_adopt_xcr0(struct vcpu *v); /* v is current and may have set XCR0 without Croft: that is its own from now on */
unsigned fpu_area_size(uint64_t xcr0); /* bytes of a standard XSAVE area with these components (CPUID 0xd EBX) */

#endif
