/* Descriptor tables of each CPU: IDT (shared), TSS, and Croft's page of the GDT, which sits in every vcpu's GDT. */
#ifndef CPU_DESC_H
#define CPU_DESC_H

#include "lib/types.h"

/* Selectors; those of guests (0xe023, 0xe02b, 0xe033) are fixed by the ABI. */
#define CROFT_CS 0xe008
#define CROFT_SS 0xe010
#define TSS_SELECTOR 0xe040
#define LDT_SELECTOR 0xe050

void desc_init_cpu(void); /* GDT, TSS, IDT, system-call MSRs of this CPU. Boot CPU first. */
mfn_t cpu_gdt_frame(unsigned cpu);
void desc_load_host_gdt(void); /* a GDT that holds only Croft's page: for idle */
/* This CPU's LDT descriptor: entries of 8 bytes at base; 0 entries: none. Loads LDTR. */
void desc_set_ldt(unsigned long base, unsigned entries);

#endif
