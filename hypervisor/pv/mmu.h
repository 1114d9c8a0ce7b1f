/* The PV MMU in direct mode: validation of page tables, updates, and what other modules need of it. */
#ifndef PV_MMU_H
#define PV_MMU_H

#include "domain/domain.h"
#include "memory/map.h"

/* Makes 'root' (owned by v's domain, filled in) the kernel root of a vcpu that does not run: validates the whole tree
 * (not preemptible: builder only), pins it and takes a typed reference. Errors as mmuext_op. */
int mmu_set_initial_root(struct vcpu *v, mfn_t root);
/* Gives back everything a vcpu holds: roots, GDT, LDT, held list. */
void mmu_release_vcpu(struct vcpu *v);

/* MOV to CR3 by the guest's kernel. Errors as mmuext_op. */
int mmu_new_kernel_root(struct vcpu *v, mfn_t root);
/* Roots of a vcpu that has none yet (VCPUOP_initialise); user may be frame 0: none. */
int mmu_set_roots(struct vcpu *v, mfn_t kernel, mfn_t user);
/* A guest's bitmap of vcpus as the set of CPUs that may hold their translations. -EFAULT. */
long mmu_vcpus_to_cpus(const struct domain *d, const void *guest_bitmap, cpumask_t *out);

/* Walks the current guest-kernel address space; returns the L1 entry of va (0 if there is none) and where it lies. */
uint64_t mmu_walk(const struct vcpu *v, unsigned long va, mfn_t *l1_mfn, unsigned *l1_slot);

/* A guest page for Croft's own reading: the mfn behind a guest virtual address with a reference taken; false if none. */
bool mmu_get_page_of_va(struct vcpu *v, unsigned long va, bool writable, mfn_t *mfn);

/* #PF with a write by the guest's kernel to a page that is a page table: emulates the instruction.
 * True: done, registers updated. False: not one of these, deliver the fault. */
bool mmu_emulate_pt_write(struct cpu_user_regs *regs, unsigned long va);

/* The write itself (used by the emulation): replaces bytes of an L1-L4 entry. 'old' is compared first if 'cmpxchg'.
 * Returns 0, -EINVAL (refused), or -EAGAIN (old did not match; *seen has the present value). */
int mmu_write_entry_bytes(struct vcpu *v, mfn_t table, unsigned offset, unsigned bytes, uint64_t value, bool cmpxchg,
                          uint64_t old, uint64_t *seen);

/* pv/descriptor.c: checks one descriptor, fixing the DPL. A null or not-present one is fine, data and code of ring 3 are;
 * call gates, TSS, LDT, code of rings 0-2 are not. */
bool descriptor_validate(struct domain *d, uint64_t *desc);
/* Typed SEGDESC references. */
bool frame_get_segdesc(mfn_t m, struct domain *d) __must_check;
void frame_put_segdesc(mfn_t m);
/* Installs the vcpu's descriptor-window mappings: entries 0..15 GDT frames, 16..31 LDT frames. mfn INVALID_MFN clears. */
void descriptor_window_set(struct vcpu *v, unsigned slot, mfn_t m);
void descriptor_load(struct vcpu *v); /* LGDT, LLDT for v on this CPU */
/* MMUEXT_SET_LDT: pages are mapped on demand. -EINVAL */
int descriptor_set_ldt(struct vcpu *v, unsigned long base, unsigned entries);
/* #PF in the LDT window: maps the guest's LDT page on demand. True if it did. */
bool descriptor_map_ldt_page(struct vcpu *v, unsigned offset);

#endif
