/*
 * Segment descriptors of PV guests: the rules, the GDT and LDT windows, loading them. Each vcpu has a window of 128 KiB
 * of Croft's address space (v->pv.descriptor_window): 16 pages of GDT, of which the guest gives up to 14 and Croft's
 * own (one a CPU: flat selectors, TSS, LDT descriptor) is page 14; then 16 of LDT, mapped when the processor first
 * touches them. The GDT pages hold typed references (SEGDESC), so that the guest cannot write them.
 */
#ifndef PV_DESCRIPTOR_H
#define PV_DESCRIPTOR_H

#include "domain/domain.h"

#define GDT_WINDOW_PAGES 16
#define LDT_WINDOW_PAGES 16

/* Checks the 512 descriptors of a page that is to become SEGDESC, as descriptor_validate does each; may fix their DPL.
 * False: one is not allowed (logged). The caller has made sure that the guest cannot write the page. */
bool descriptor_validate_page(struct domain *d, uint64_t *page);
/* The rule alone, without the log: for tests. */
bool descriptor_allowed(uint64_t *desc);

/* MMUEXT_SET_LDT: 'entries' descriptors at guest address 'base' (page aligned); 0 entries: none. v is current. -EINVAL.
 * */
int descriptor_set_ldt(struct vcpu *v, unsigned long base, unsigned entries);
/* Gives back the LDT pages that were mapped: when the LDT or the kernel root changes. v is current or does not run. */
void descriptor_flush_ldt(struct vcpu *v);
/* Replaces the GDT of v, current or not running: 'entries' descriptors in 'frames'. -EINVAL. */
int descriptor_set_gdt(struct vcpu *v, const uint64_t *frames, unsigned entries);
/* The end of a vcpu that does not run: gives back GDT and LDT pages. */
void descriptor_release(struct vcpu *v);
/* The descriptor behind a selector of v's, current; false if there is none. */
bool descriptor_read(struct vcpu *v, uint16_t selector, uint64_t *desc);

#endif
