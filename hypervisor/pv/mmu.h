/* The PV MMU in direct mode: validation of page tables, updates, and what other modules need of it. */
#ifndef PV_MMU_H
#define PV_MMU_H

#include "domain/domain.h"
#include "memory/map.h"

/* Makes 'root' (owned by v's domain, filled in) the kernel root of a vcpu that does not run: validates the whole tree, pins it and
 * takes a typed reference. -ERESTART: preempted, call again. Other errors as mmuext_op. For Croft's own builder. */
int mmu_set_initial_root(struct vcpu *v, mfn_t root);
/* The domain whose frames or page tables a call names, with a reference; others than its own need privilege. -EPERM, -ESRCH. */
long mmu_domain_get(unsigned domid, struct domain **d);
/* Gives back everything a vcpu that does not run holds: roots, GDT, LDT, unfinished work. False: preempted, call again. */
bool mmu_release_vcpu(struct vcpu *v);
/* A dying domain: takes apart the tables that nobody uses any more (false: preempted); unpins a frame of it, if it is pinned. */
bool mmu_release_tables(struct domain *d);
void mmu_release_frame(struct domain *d, mfn_t m);

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

/* The same in short for the whole of an entry of an L1 table that v's kernel sees read-only at va, a multiple of 8; v is current.
 * False: something is not as usual, and nothing was done. *seen: what the entry was. */
bool mmu_write_l1_short(struct vcpu *v, unsigned long va, uint64_t value, uint64_t *seen);

/* The place of an L1 entry */
struct mmu_place {
    mfn_t table;
    unsigned slot;
};
/*
 * pv/mmu_grant.c, for the current vcpu: makes the entry at 'address' (a virtual address, or the machine address of the entry itself)
 * map a frame (flags: PTE_*), for which the caller has taken the entry's reference. False, with a log line: no L1 table there.
 * *stale: what was there was present, so the TLBs need a flush.
 */
bool mmu_grant_map(uint64_t address, bool by_entry, mfn_t frame, uint64_t flags, struct mmu_place *place, bool *stale);
/*
 * Undoes it: the entry must be at 'address' still, and becomes what is at new_address (virtual; which becomes empty), or empty.
 * One that does not map the frame any more is left alone; that is well, too. False, with a log line: it is not as told. The
 * caller flushes the TLBs, then drops the reference of the entry that *old says has gone (0: none).
 */
bool mmu_grant_unmap(const struct mmu_place *place, mfn_t frame, uint64_t address, bool by_entry, uint64_t new_address,
                     uint64_t *old);

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
