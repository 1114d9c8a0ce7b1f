/* A whole processor context for a vcpu that has none: VCPUOP_initialise (and later domctl setvcpucontext). */
#include "cpu/instr.h"
#include "cpu/fpu.h"
#include "hypercall/pv_state.h"
#include "lib/log.h"
#include "lib/string.h"
#include "pv/context.h"
#include "pv/descriptor.h"
#include "pv/mmu.h"
#include "pv/mode.h"

static bool in_hole(uint64_t a) { return a >= HOLE_START && a < HOLE_END; }
static bool callback_ok(uint64_t a) { return address_canonical(a) && !in_hole(a); }

int pv_set_context(struct vcpu *v, const struct vcpu_guest_context *c)
{
    mfn_t kernel = MFN(c->ctrlreg[3] >> PAGE_SHIFT), user = MFN(c->ctrlreg[1] >> PAGE_SHIFT);
    int rc;

    if (v->initialised)
        return -EEXIST;
    if (!callback_ok(c->event_callback_eip) || !callback_ok(c->failsafe_callback_eip) ||
        !callback_ok(c->syscall_callback_eip) || !address_canonical(c->fs_base) ||
        !address_canonical(c->gs_base_kernel) || !address_canonical(c->gs_base_user) ||
        !address_canonical(c->user_regs.rip))
        return refuse(-EINVAL, "context of vcpu %u: an address is not canonical or the hypervisor's\n", v->id);
    if (!(c->flags & VGCF_in_kernel) && !user.n)
        return refuse(-EINVAL, "context of vcpu %u starts in user mode without a user page table\n", v->id);
    for (unsigned i = 0; i < 256; i++)
        if (!callback_ok(c->trap_ctxt[i].address))
            return refuse(-EINVAL, "context of vcpu %u: handler of trap %u is not canonical or the hypervisor's\n",
                          v->id, i);

    if (c->gdt_ents > FIRST_RESERVED_GDT_ENTRY)
        return refuse(-EINVAL, "context of vcpu %u: GDT of %lu entries\n", v->id, c->gdt_ents);
    if (c->ldt_ents > UINT16_MAX)
        return refuse(-EINVAL, "context of vcpu %u: LDT of %lu entries\n", v->id, c->ldt_ents);

    rc = mmu_set_roots(v, kernel, user);
    if (rc)
        return rc;
    rc = descriptor_set_gdt(v, c->gdt_frames, (unsigned)c->gdt_ents);
    if (!rc)
        rc = descriptor_set_ldt(v, c->ldt_base, (unsigned)c->ldt_ents);
    if (rc) {
        mmu_release_vcpu(v);
        return rc;
    }
    v->regs = c->user_regs;
    v->regs.cs = mode_fix_selector(c->user_regs.cs);
    v->regs.ss = mode_fix_selector(c->user_regs.ss);
    v->regs.rflags = (c->user_regs.rflags & ~GUEST_EFLAGS_CLEAR) | EFLAGS_IF | EFLAGS_MBS;
    v->pv.iopl = (uint32_t)(c->user_regs.rflags >> 12) & 3;
    v->pv.kernel_mode = (c->flags & VGCF_in_kernel) != 0;
    v->pv.kernel_ss = mode_fix_selector((uint16_t)c->kernel_ss);
    v->pv.kernel_sp = c->kernel_sp;
    v->pv.failsafe_disables_events = (c->flags & VGCF_failsafe_disables_events) != 0;
    v->pv.syscall_disables_events = (c->flags & VGCF_syscall_disables_events) != 0;
    for (unsigned i = 0; i < 256; i++) {
        v->pv.traps[i] = c->trap_ctxt[i];
        v->pv.traps[i].vector = (uint8_t)i;
    }
    v->pv.event_callback = c->event_callback_eip;
    v->pv.failsafe_callback = c->failsafe_callback_eip;
    v->pv.syscall_callback = c->syscall_callback_eip;
    v->pv.fs_base = c->fs_base;
    v->pv.gs_base_kernel = c->gs_base_kernel;
    v->pv.gs_base_user = c->gs_base_user;
    v->pv.cr0_guest = 0x80050033UL | (c->ctrlreg[0] & CR0_TS);
    v->pv.ts_set = (c->ctrlreg[0] & CR0_TS) != 0;
    for (unsigned i = 0; i < 8; i++)
        if (i != 4 && i != 5)
            pv_set_debugreg(v, i, c->debugreg[i]);
    fpu_set_context(v, c->flags & VGCF_i387_valid ? c->fpu_ctxt.x : NULL);
    v->domain->vm_assist |= c->vm_assist & VM_ASSIST_KNOWN;
    v->initialised = true;
    return 0;
}
