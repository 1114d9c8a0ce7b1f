/* Whole processor contexts: VCPUOP_initialise, and domctl's set- and getvcpucontext. */
#include "cpu/instr.h"
#include "cpu/fpu.h"
#include "domain/guest_access.h"
#include "hypercall/pv_state.h"
#include "lib/log.h"
#include "lib/string.h"
#include "pv/context.h"
#include "pv/descriptor.h"
#include "pv/mmu.h"
#include "pv/mode.h"

static bool callback_ok(uint64_t a) { return address_canonical(a) && !in_hole(a); }

/* The tables of a vcpu that has none. */
static int set_memory(struct vcpu *v, const struct vcpu_guest_context *c)
{
    int rc = mmu_set_roots(v, MFN(c->ctrlreg[3] >> PAGE_SHIFT), MFN(c->ctrlreg[1] >> PAGE_SHIFT));

    if (rc)
        return rc;
    rc = descriptor_set_gdt(v, c->gdt_frames, (unsigned)c->gdt_ents);
    if (!rc)
        rc = descriptor_set_ldt(v, c->ldt_base, (unsigned)c->ldt_ents);
    if (rc)
        while (!mmu_release_vcpu(v))
            ;
    return rc;
}

/* Tools may change the registers of a vcpu that has a context, but not what holds references to frames. */
static int check_memory_unchanged(const struct vcpu *v, const struct vcpu_guest_context *c)
{
    bool same = c->ctrlreg[3] >> PAGE_SHIFT == v->pv.kernel_root.n &&
                c->ctrlreg[1] >> PAGE_SHIFT == v->pv.user_root.n && c->gdt_ents == v->pv.gdt_entries &&
                c->ldt_ents == v->pv.ldt_entries && (!c->ldt_ents || c->ldt_base == v->pv.ldt_base);

    for (unsigned i = 0; same && i < DIV_ROUND_UP(c->gdt_ents, 512); i++)
        same = c->gdt_frames[i] == v->pv.gdt_frames[i].n;
    return same ? 0
                : refuse(-EOPNOTSUPP, "context of d%uv%u: page tables, GDT and LDT cannot be changed\n", v->domain->id,
                         v->id);
}

int pv_set_context(struct vcpu *v, const struct vcpu_guest_context *c)
{
    int rc;

    if (!callback_ok(c->event_callback_eip) || !callback_ok(c->failsafe_callback_eip) ||
        !callback_ok(c->syscall_callback_eip) || !address_canonical(c->fs_base) ||
        !address_canonical(c->gs_base_kernel) || !address_canonical(c->gs_base_user) ||
        !address_canonical(c->user_regs.rip))
        return refuse(-EINVAL, "context of vcpu %u: an address is not canonical or the hypervisor's\n", v->id);
    if (!(c->flags & VGCF_in_kernel) && !(c->ctrlreg[1] >> PAGE_SHIFT))
        return refuse(-EINVAL, "context of vcpu %u starts in user mode without a user page table\n", v->id);
    for (unsigned i = 0; i < 256; i++)
        if (!callback_ok(c->trap_ctxt[i].address))
            return refuse(-EINVAL, "context of vcpu %u: handler of trap %u is not canonical or the hypervisor's\n",
                          v->id, i);

    if (c->gdt_ents > FIRST_RESERVED_GDT_ENTRY)
        return refuse(-EINVAL, "context of vcpu %u: GDT of %lu entries\n", v->id, c->gdt_ents);
    if (c->ldt_ents > UINT16_MAX)
        return refuse(-EINVAL, "context of vcpu %u: LDT of %lu entries\n", v->id, c->ldt_ents);

    rc = v->initialised ? check_memory_unchanged(v, c) : set_memory(v, c);
    if (rc)
        return rc;
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
    mode_handlers_changed(v);
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

void pv_get_context(const struct vcpu *v, struct vcpu_guest_context *c)
{
    memset(c, 0, sizeof(*c));
    fpu_get_context(v, c->fpu_ctxt.x);
    c->flags = VGCF_i387_valid;
    if (v->pv.kernel_mode)
        c->flags |= VGCF_in_kernel;
    if (v->pv.failsafe_disables_events)
        c->flags |= VGCF_failsafe_disables_events;
    if (v->pv.syscall_disables_events)
        c->flags |= VGCF_syscall_disables_events;
    if (!v->down)
        c->flags |= VGCF_online;
    c->user_regs = v->regs;
    c->user_regs.rflags |= (uint64_t)v->pv.iopl << 12;
    memcpy(c->trap_ctxt, v->pv.traps, sizeof(c->trap_ctxt));
    c->ldt_base = v->pv.ldt_entries ? v->pv.ldt_base : 0;
    c->ldt_ents = v->pv.ldt_entries;
    for (unsigned i = 0; i < DIV_ROUND_UP(v->pv.gdt_entries, 512); i++)
        c->gdt_frames[i] = v->pv.gdt_frames[i].n;
    c->gdt_ents = v->pv.gdt_entries;
    c->kernel_ss = v->pv.kernel_ss;
    c->kernel_sp = v->pv.kernel_sp;
    c->ctrlreg[0] = v->pv.cr0_guest | (v->pv.ts_set ? CR0_TS : 0);
    c->ctrlreg[1] = v->pv.user_root.n << PAGE_SHIFT;
    c->ctrlreg[2] = v->pv.cr2;
    c->ctrlreg[3] = v->pv.kernel_root.n << PAGE_SHIFT;
    c->ctrlreg[4] = v->pv.cr4_guest;
    for (unsigned i = 0; i < 8; i++)
        c->debugreg[i] = i == 4 || i == 5 ? 0 : v->pv.dr[i];
    c->event_callback_eip = v->pv.event_callback;
    c->failsafe_callback_eip = v->pv.failsafe_callback;
    c->syscall_callback_eip = v->pv.syscall_callback;
    c->vm_assist = v->domain->vm_assist;
    c->fs_base = v->pv.fs_base;
    c->gs_base_kernel = v->pv.gs_base_kernel;
    c->gs_base_user = v->pv.gs_base_user;
}
