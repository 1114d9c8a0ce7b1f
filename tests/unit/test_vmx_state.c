/* sources: hypervisor/hvm/vmx_state.c hypervisor/hvm/vmx_audit.c hypervisor/hvm/svm_state.c hypervisor/hvm/svm_audit.c hypervisor/lib/printf.c */
/*
 * A VMCS' state in the ABI's form: what is saved comes back; what AMD-V has saved loads, in the form that VM entry takes; whatever is
 * wrong with a record, it is refused and changes nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/instr.h"
#include "hvm/svm_audit.h"
#include "hvm/svm_state.h"
#include "hvm/vmcb.h"
#include "hvm/vmcs.h"
#include "hvm/vmx_audit.h"
#include "hvm/vmx_state.h"
#include "lib/log.h"

#define CR4_VMXE (1UL << 13)
#define UNUSABLE ATTRIBUTES_UNUSABLE
#define NOT_CANONICAL (1UL << 47)

void log_print(enum log_level level, const char *fmt, ...) {}

static const struct vmx_limits limits = {
    .physical_bits = 46,
    .linear_bits = 48,
    .cr0_ones = CR0_NE,
    .cr0_may = 0xffffffff,
    .cr4_ones = CR4_VMXE,
    .cr4_may = 0x003767ff,
    .efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE,
};
static const struct svm_limits svm_limits = {.physical_bits = 48,
                                             .asids = 16,
                                             .long_mode = true,
                                             .cr4 = ~0UL >> 32,
                                             .efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE | EFER_SVME};

/* What a VMCS has before its vcpu has any state. Nothing of the host's: it is set when the vcpu runs. */
static struct vmcs empty(void)
{
    return (struct vmcs){.pin_controls = PIN_INTR_EXITING | PIN_NMI_EXITING | PIN_VIRTUAL_NMIS,
                         .processor_controls = PROC_HLT | PROC_TPR_SHADOW | PROC_SECONDARY,
                         .secondary_controls = PROC2_EPT | PROC2_VPID | PROC2_UNRESTRICTED,
                         .entry_controls = ENTRY_LOAD_DEBUG | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER,
                         .cr0_mask = CR0_NE | CR0_ET | CR0_CD | CR0_NW,
                         .cr4_mask = ~0UL,
                         .pat = 0x0007040600070406,
                         .link = ~0UL};
}

#define SEGMENT(s, sel, attr, lim, at)                                                                                 \
    do {                                                                                                               \
        b->s##_selector = (sel);                                                                                       \
        b->s##_attributes = (attr);                                                                                    \
        b->s##_limit = (lim);                                                                                          \
        b->s##_base = (at);                                                                                            \
    } while (0)

/* A kernel in 64-bit mode */
static struct vmcs running(void)
{
    struct vmcs copy = empty(), *b = &copy;

    b->entry_controls |= ENTRY_LONG_MODE;
    b->cr0 = CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_MP | CR0_PE;
    b->cr0_shadow = CR0_ET | CR0_NE;
    b->cr3 = 0x1234000;
    b->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_VMXE;
    b->cr4_shadow = CR4_PAE | CR4_PGE | CR4_OSFXSR;
    b->efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
    b->dr7 = 0x400;
    SEGMENT(cs, 0x10, 0xa09b, 0xffffffff, 0);
    SEGMENT(ss, 0x18, 0xc093, 0xffffffff, 0);
    SEGMENT(ds, 0, UNUSABLE, 0, 0);
    SEGMENT(es, 0, UNUSABLE, 0, 0);
    SEGMENT(fs, 0, UNUSABLE, 0, 0x7fffffff0000);
    SEGMENT(gs, 0, UNUSABLE, 0, 0xffff888000000000);
    SEGMENT(tr, 0x40, 0x8b, 0x206f, 0xfffffe0000003000);
    SEGMENT(ldtr, 0, UNUSABLE, 0, 0);
    b->gdtr_limit = 0x7f;
    b->gdtr_base = 0xfffffe0000001000;
    b->idtr_limit = 0xfff;
    b->idtr_base = 0xfffffe0000000000;
    b->sysenter_cs = 0x10;
    b->sysenter_esp = 0xfffffe0000004000;
    b->sysenter_eip = 0xffffffff81a01000;
    b->extra = (struct vmx_extra){.cr2 = 0x7fff12345678,
                                  .dr6 = 0xffff0ff0,
                                  .star = 0x23001000000000,
                                  .lstar = 0xffffffff81a00000,
                                  .cstar = 0xffffffff81a02000,
                                  .sfmask = 0x47700,
                                  .kernel_gs_base = 0x7f0000001000};
    return copy;
}

/* All of a record that vmx_state.c does not fill in */
static struct hvm_hw_cpu record_of(const struct vmcs *b)
{
    struct hvm_hw_cpu c = {.rip = 0xffffffff81000000, .rsp = 0xffffc90000003f00, .rflags = 0x246};

    vmx_state_save(b, &c);
    return c;
}

static const char *check(const struct vmcs *b, const struct hvm_hw_cpu *c)
{
    static struct vmcs scratch;
    struct vmcs before = *b;
    const char *why = vmx_state_check(b, c, &limits, &scratch);

    assert_memory_equal(&before, b, sizeof(before));
    return why;
}

static void accepted(const struct vmcs *b, const struct hvm_hw_cpu *c)
{
    const char *why = check(b, c);

    if (why)
        fail_msg("refused: %s", why);
}

static void what_is_saved(void **state)
{
    struct vmcs b = running();
    struct hvm_hw_cpu c;

    b.ds_attributes = UNUSABLE | 0xf093; /* the manual leaves them undefined */
    b.es_attributes = 0x1c0f3;
    b.fs_attributes = 0xd0f7;
    c = record_of(&b);
    assert_int_equal(c.cs_sel, 0x10);
    assert_int_equal(c.cs_arbytes, 0xa9b);
    assert_int_equal(c.cs_limit, 0xffffffff);
    assert_int_equal(c.ss_arbytes, 0xc93);
    assert_int_equal(c.ds_arbytes, 0xf13);
    assert_int_equal(c.es_arbytes, 0xc73);
    assert_int_equal(c.fs_arbytes, 0xdf7);
    assert_int_equal(c.fs_base, 0x7fffffff0000);
    assert_int_equal(c.tr_arbytes, 0x8b);
    assert_int_equal(c.tr_limit, 0x206f);
    assert_int_equal(c.tr_base, 0xfffffe0000003000);
    assert_int_equal(c.ldtr_arbytes, 0);
    assert_int_equal(c.gdtr_limit, 0x7f);
    assert_int_equal(c.idtr_base, 0xfffffe0000000000);
    assert_int_equal(c.cr0, CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_MP | CR0_PE);
    assert_int_equal(c.cr2, 0x7fff12345678);
    assert_int_equal(c.cr3, 0x1234000);
    assert_int_equal(c.cr4, CR4_PAE | CR4_PGE | CR4_OSFXSR);
    assert_int_equal(c.msr_efer, EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE);
    assert_int_equal(c.dr6, 0xffff0ff0);
    assert_int_equal(c.dr7, 0x400);
    assert_int_equal(c.msr_star, 0x23001000000000);
    assert_int_equal(c.msr_lstar, 0xffffffff81a00000);
    assert_int_equal(c.msr_cstar, 0xffffffff81a02000);
    assert_int_equal(c.msr_syscall_mask, 0x47700);
    assert_int_equal(c.shadow_gs, 0x7f0000001000);
    assert_int_equal(c.sysenter_cs, 0x10);
    assert_int_equal(c.sysenter_esp, 0xfffffe0000004000);
    assert_int_equal(c.sysenter_eip, 0xffffffff81a01000);
}

/* What the guest reads of CR0 and CR4 is neither the processor's nor the shadow alone. */
static void control_registers(void **state)
{
    struct vmcs b = running(), loaded = empty();
    struct hvm_hw_cpu c;

    b.cr0 = CR0_PG | CR0_NE | CR0_ET | CR0_PE | CR0_TS;        /* its own TS, PG and PE; the rest as in the shadow */
    b.cr0_shadow = CR0_CD | CR0_NW | CR0_ET | CR0_WP | CR0_AM; /* WP and AM are not masked: nobody reads them */
    b.cr4_shadow = CR4_PAE;
    c = record_of(&b);
    assert_int_equal(c.cr0, CR0_PG | CR0_PE | CR0_TS | CR0_ET | CR0_CD | CR0_NW);
    assert_int_equal(c.cr4, CR4_PAE);
    accepted(&b, &c);
    vmx_state_load(&loaded, &c, &limits);
    assert_int_equal(loaded.cr0, CR0_PG | CR0_PE | CR0_TS | CR0_ET | CR0_NE);
    assert_int_equal(loaded.cr0_shadow, c.cr0);
    assert_int_equal(loaded.cr4, CR4_PAE | CR4_VMXE);
    assert_int_equal(loaded.cr4_shadow, CR4_PAE);
    assert_int_equal(record_of(&loaded).cr0, c.cr0);
    b.cr4_mask = ~CR4_PGE; /* what the guest changes without an exit is the processor's */
    b.cr4 |= CR4_PGE;
    assert_int_equal(record_of(&b).cr4, CR4_PAE | CR4_PGE);
}

static void round_trip(void **state)
{
    struct vmcs b = running(), loaded = empty();
    struct hvm_hw_cpu c = record_of(&b), again;

    accepted(&loaded, &c);
    vmx_state_load(&loaded, &c, &limits);
    b.cr0_shadow = c.cr0;
    assert_memory_equal(&b, &loaded, sizeof(b));
    again = record_of(&loaded);
    assert_memory_equal(&c, &again, sizeof(c));
}

/* What belonged to the state before goes; what is the vcpu's, not the state's, stays. */
static void what_is_left_of_the_old(void **state)
{
    struct vmcs b = running(), old = running();
    struct hvm_hw_cpu c;

    old.interruptibility = BLOCKED_BY_NMI | BLOCKED_BY_STI;
    old.activity = 1;
    old.pending_debug = PENDING_SINGLE_STEP;
    old.processor_controls |= PROC_INTR_WINDOW | PROC_NMI_WINDOW;
    old.debugctl = 1;
    old.pdpte1 = 0x5001;
    old.host_rip = 5;
    old.vpid = 7;
    old.pat = 6;
    b.entry_controls &= ~(uint64_t)ENTRY_LONG_MODE;
    b.efer = EFER_NXE;
    b.extra.dr6 = 0x4001;
    b.dr7 = 0;
    c = record_of(&b);
    vmx_state_load(&old, &c, &limits);
    assert_int_equal(old.interruptibility | old.activity | old.pending_debug | old.debugctl, 0);
    assert_int_equal(old.processor_controls, b.processor_controls);
    assert_int_equal(old.entry_controls, b.entry_controls);
    assert_int_equal(old.extra.dr6, 0xffff4ff1);
    assert_int_equal(old.dr7, 0x400);
    assert_int_equal(old.pdpte1, 0x5001);
    assert_int_equal(old.host_rip, 5);
    assert_int_equal(old.vpid, 7);
    assert_int_equal(old.pat, 6);
}

static void attributes(void **state)
{
    /* What the record has, the limit, what the VMCS gets */
    static const struct {
        uint32_t abi, limit;
        uint64_t vmx;
    } cases[] = {
        {0x000, 0, UNUSABLE},
        {0x060, 0, UNUSABLE | 0x60}, /* SS of a user in 64-bit mode: its DPL is the CPL */
        {0xf7f, 0xffffffff, UNUSABLE | 0x60},
        {0xc93, 0xffffffff, 0xc093},
        {0xa9b, 0xffffffff, 0xa09b},
        {0xafb, 0xffffffff, 0xa0fb},
        {0x193, 0xffff, 0x1093},
        {0x093, 0xffff, 0x93},
        /* AMD-V does not look at the accessed bit of what is loaded */
        {0xc92, 0xffffffff, 0xc093},
        {0xa9a, 0xffffffff, 0xa09b},
        /* ... nor at G */
        {0x493, 0xffffffff, 0xc093},
        {0x29b, 0xffffffff, 0xa09b},
        {0x88b, 0x206f, 0x8b},
        {0xc93, 0xfffff, 0xc093}, /* both can be: as it is */
        {0x493, 0xfffff, 0x4093},
        /* System segments have no accessed bit */
        {0x082, 0, 0x82},
        {0x089, 0x67, 0x89},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint64_t got = vmx_attributes_from_abi(cases[i].abi, cases[i].limit);

        if (got != cases[i].vmx)
            fail_msg("%#x with limit %#x: %#lx", cases[i].abi, cases[i].limit, got);
    }
    for (uint32_t a = 0; a < 0x1000; a++) /* what both can have is the same there and back */
        if (a & SEGMENT_P && !(a & SEGMENT_S && !(a & 1)))
            assert_int_equal(vmx_attributes_to_abi(vmx_attributes_from_abi(a, a & SEGMENT_G ? 0xffffffff : 0xffff)), a);
}

/* ---- From AMD-V ---- */

static struct vmcb svm_kernel(void)
{
    struct vmcb b = {.cr0 = CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_PE,
                     .cr3 = 0x1234000,
                     .cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR,
                     .efer = EFER_SVME | EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE,
                     .dr6 = 0xffff0ff0,
                     .dr7 = 0x400,
                     .cs = {0x10, 0x29b, ~0U, 0},
                     .ss = {0, 0x400, ~0U, 0}, /* null, of which one bit was left */
                     .gs = {0, 0, 0, 0xffff888000000000},
                     .tr = {0x40, 0x8b, 0x206f, 0xfffffe0000003000},
                     .ldtr = {0, 0, 0xffff, 0},
                     .lstar = 0xffffffff81a00000,
                     .star = 0x23001000000000,
                     .kernel_gs_base = 0x7f0000001000};
    return b;
}

static struct vmcs loaded_from(const struct vmcb *from, uint64_t rip, uint64_t rflags)
{
    struct hvm_hw_cpu c = {.rip = rip, .rflags = rflags};
    struct vmcs b = empty();

    svm_state_save(from, &c);
    accepted(&b, &c);
    vmx_state_load(&b, &c, &limits);
    return b;
}

static void from_amd_kernel(void **state)
{
    struct vmcb from = svm_kernel();
    struct vmcs b = loaded_from(&from, 0xffffffff81000000, 0x46);

    assert_int_equal(b.cs_attributes, 0xa09b);
    assert_int_equal(b.ss_attributes, UNUSABLE);
    assert_int_equal(b.ds_attributes, UNUSABLE);
    assert_int_equal(b.gs_attributes, UNUSABLE);
    assert_int_equal(b.gs_base, 0xffff888000000000);
    assert_int_equal(b.ldtr_attributes, UNUSABLE);
    assert_int_equal(b.tr_attributes, 0x8b);
    assert_true(b.entry_controls & ENTRY_LONG_MODE);
    assert_int_equal(b.efer, EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE);
    assert_int_equal(b.extra.kernel_gs_base, 0x7f0000001000);
}

/* After a SYSRET the block has a user's CS and CPL, and of SS the kernel's attributes. */
static void from_amd_user(void **state)
{
    struct vmcb from = svm_kernel(), back = {.efer = EFER_SVME};
    struct hvm_hw_cpu c = {.rip = 0};
    struct vmcs b;

    from.cs = (struct vmcb_segment){0x33, 0xafb, ~0U, 0};
    from.ss = (struct vmcb_segment){0x2b, 0xc93, ~0U, 0};
    from.cpl = 3;
    b = loaded_from(&from, 0x400000, 0x202);
    assert_int_equal(b.ss_attributes, 0xc0f3);
    from.ss.attributes = 0; /* null */
    b = loaded_from(&from, 0x400000, 0x202);
    assert_int_equal(b.ss_attributes, UNUSABLE | 0x60);
    vmx_state_save(&b, &c);
    svm_state_load(&back, &c);
    assert_int_equal(back.cpl, 3);
}

static void from_amd_start(void **state)
{
    struct vmcb from = {.cr0 = CR0_ET,
                        .efer = EFER_SVME,
                        .dr6 = 0xffff0ff0,
                        .dr7 = 0x400,
                        .cs = {0x9a00, 0x9b, 0xffff, 0x9a000},
                        .ldtr = {0, 0x82, 0xffff, 0},
                        .tr = {0, 0x8b, 0xffff, 0}};
    struct vmcs b;

    from.ds = from.es = from.fs = from.gs = from.ss = (struct vmcb_segment){0, 0x93, 0xffff, 0};
    b = loaded_from(&from, 0, 2);
    assert_int_equal(b.cr0, CR0_ET | CR0_NE);
    assert_int_equal(b.cr0_shadow, CR0_ET);
    assert_int_equal(b.cs_attributes, 0x9b);
    from.cs.attributes = 0x92; /* data, as firmware may have it in real mode */
    b = loaded_from(&from, 0, 2);
    assert_int_equal(b.cs_attributes, 0x93);
    from.cr0 |= CR0_PE; /* flat */
    from.cs = (struct vmcb_segment){0x8, 0xc9b, ~0U, 0};
    from.ds = from.es = from.fs = from.gs = from.ss = (struct vmcb_segment){0x10, 0xc93, ~0U, 0};
    b = loaded_from(&from, 0x1000000, 2);
    assert_int_equal(b.cs_attributes, 0xc09b);
    assert_false(b.entry_controls & ENTRY_LONG_MODE);
}

/* What VT-x has saved is a state for AMD-V. */
static void to_amd(void **state)
{
    static struct vmcb scratch;
    struct vmcb b = {.io_map = 0x100000,
                     .msr_map = 0x104000,
                     .n_cr3 = 0x108000,
                     .vintr = VINTR_MASKING,
                     .np_control = NESTED_PAGING,
                     .efer = EFER_SVME,
                     .g_pat = 0x0007040600070406};
    struct vmcs from = running();
    struct hvm_hw_cpu c = record_of(&from);
    const char *why;

    b.intercepts[INTERCEPT_EXCEPTIONS] = b.intercepts[INTERCEPT_MISC1] = b.intercepts[INTERCEPT_MISC2] = ~0U;
    why = svm_state_check(&b, &c, &svm_limits, &scratch);
    if (why)
        fail_msg("%s", why);
    svm_state_load(&b, &c);
    assert_int_equal(b.cs.attributes, 0xa9b);
    assert_int_equal(b.ds.attributes, 0);
    assert_int_equal(b.cr4, CR4_PAE | CR4_PGE | CR4_OSFXSR);
    assert_int_equal(b.cpl, 0);
}

/* ---- What is refused ---- */

#define REFUSED(field, value, text)                                                                                    \
    do {                                                                                                               \
        struct hvm_hw_cpu changed = c;                                                                                 \
        const char *why;                                                                                               \
        changed.field = (value);                                                                                       \
        why = check(&b, &changed);                                                                                     \
        if (!why || strcmp(why, text))                                                                                 \
            fail_msg("%s = %#lx: '%s' in place of '%s'", #field, (unsigned long)changed.field, why ? why : "accepted", \
                     text);                                                                                            \
    } while (0)

static void records_that_are_refused(void **state)
{
    struct vmcs b = running();
    struct hvm_hw_cpu c = record_of(&b);
    static const char reserved[] = "a segment's selector or attributes have reserved bits";
    static const char idle[] = "TR: a TSS that is not busy, which VT-x never has there";

    accepted(&b, &c);
    REFUSED(cs_sel, 0x10010, reserved);
    REFUSED(gs_sel, 0x10000, reserved);
    REFUSED(ldtr_arbytes, 0x1000, reserved);
    REFUSED(ss_arbytes, 0x10c93, reserved);
    REFUSED(cr0, c.cr0 | 1UL << 32, "CR0 has reserved bits");
    REFUSED(cr0, c.cr0 | 1UL << 7, "CR0 has reserved bits");
    REFUSED(cr0, c.cr0 | CR0_NW, "CR0.NW without CR0.CD");
    c.cr0 = CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG;
    accepted(&b, &c);
    c.cr0 = CR0_PE | CR0_PG;
    accepted(&b, &c);
    REFUSED(cr0, c.cr0 & ~CR0_PE, "CR0.PG without CR0.PE");
    REFUSED(cr0, c.cr0 & ~CR0_PG, "long mode without CR0.PG");
    REFUSED(sysenter_cs, 1UL << 32, "SYSENTER_CS has more than 32 bits");
    REFUSED(tr_arbytes, 0x89, idle);
    REFUSED(tr_arbytes, 0x81, idle);
    REFUSED(tr_arbytes, 0x83, "TR: not a busy TSS, or one of 16 bits in long mode");
    REFUSED(tr_arbytes, 0x82, "TR: not a busy TSS, or one of 16 bits in long mode");
    REFUSED(tr_arbytes, 0x99, "TR: not a busy TSS, or one of 16 bits in long mode"); /* no TSS at all */
    REFUSED(tr_arbytes, 0, "TR is unusable");
    REFUSED(cr4, 0, "long mode without CR4.PAE");
    REFUSED(cr4, c.cr4 | 1UL << 24, "CR4 has bits that it must not have in VMX operation, or lacks some");
    REFUSED(msr_efer, c.msr_efer | EFER_SVME, "EFER has bits that the processor does not have");
    REFUSED(msr_efer, EFER_LME, "EFER.LMA is not EFER.LME with paging on");
    REFUSED(msr_efer, EFER_LMA, "EFER.LMA is not EFER.LME with paging on");
    REFUSED(cr3, 1UL << 46, "CR3 has bits beyond the physical addresses");
    REFUSED(dr6, 1UL << 32, "DR6[63:32] is not zero: Croft could not load it");
    REFUSED(dr7, 1UL << 32, "DR7[63:32] is not zero");
    REFUSED(cs_arbytes, 0xe9b, "CS.L and CS.D in long mode");
    REFUSED(cs_arbytes, 0xafb, "CS.DPL is not SS.DPL");
    REFUSED(cs_arbytes, 0, "CS: neither accessed code nor, for an unrestricted guest, accessed writable data");
    REFUSED(cs_limit, 0xfff00000, "CS: its limit cannot be with its G");
    REFUSED(ss_base, 1UL << 32, "SS.base has more than 32 bits");
    REFUSED(fs_base, NOT_CANONICAL, "FS.base is not canonical");
    REFUSED(idtr_base, NOT_CANONICAL, "IDTR.base is not canonical");
    REFUSED(gdtr_limit, 0x10000, "GDTR.limit has more than 16 bits");
    REFUSED(sysenter_eip, NOT_CANONICAL, "SYSENTER_EIP is not canonical");
    REFUSED(msr_lstar, NOT_CANONICAL, "LSTAR is not canonical: Croft could not load it");
    REFUSED(msr_cstar, NOT_CANONICAL, "CSTAR is not canonical: Croft could not load it");
    REFUSED(shadow_gs, NOT_CANONICAL, "KernelGsBase is not canonical: Croft could not load it");
    REFUSED(msr_syscall_mask, 1UL << 32, "FMASK[63:32] is not zero: Croft could not load it");
    REFUSED(rip, 1UL << 48, "RIP is beyond the linear addresses");
    REFUSED(rflags, c.rflags | 1UL << 15, "RFLAGS has reserved bits, or bit 1 is not set");
    REFUSED(rflags, c.rflags | EFLAGS_VM, "virtual-8086 mode: a base is not 16 times its selector");
}

static void events(void **state)
{
    struct vmcs b = running();
    struct hvm_hw_cpu c = record_of(&b);

    REFUSED(pending_event, EVENT_VALID | 1 << 8, "event: reserved type");
    REFUSED(pending_event, EVENT_VALID | EVENT_TYPE_NMI | 3, "event: an NMI whose vector is not 2");
    REFUSED(pending_event, EVENT_VALID | EVENT_TYPE_EXCEPTION | 9, "event: no exception has this vector");
    REFUSED(pending_event, EVENT_VALID | EVENT_TYPE_EXCEPTION | 14, "event: an exception without its error code");
    REFUSED(pending_event, EVENT_VALID | 0x41 | 1 << 12, "event: bits 30-12 are not zero");
    c.error_code = 0x10000;
    REFUSED(pending_event, EVENT_VALID | EVENT_TYPE_EXCEPTION | EVENT_HAS_ERROR | 14,
            "event: the error code has more than 16 bits");
    c.pending_event = EVENT_VALID | EVENT_TYPE_EXCEPTION | 6; /* an error code that nobody reads */
    accepted(&b, &c);
    c.error_code = 2;
    c.pending_event = EVENT_VALID | EVENT_TYPE_EXCEPTION | EVENT_HAS_ERROR | 14;
    accepted(&b, &c);
    c.pending_event = EVENT_VALID | EVENT_TYPE_SOFTWARE | 0x80; /* INT n: to be executed again */
    accepted(&b, &c);
    c.pending_event = EVENT_VALID | EVENT_TYPE_NMI | 2;
    b.interruptibility = BLOCKED_BY_NMI | BLOCKED_BY_MOV_SS; /* of the state that goes */
    accepted(&b, &c);
    c.pending_event = EVENT_VALID | 0x41;
    accepted(&b, &c);
    REFUSED(rflags, 0x46, "event: an interrupt, and RFLAGS.IF is off");
    REFUSED(pending_event, EVENT_VALID | EVENT_TYPE_PRIVILEGED | X86_DB,
            "event: one of INT n, INT1, INT3 or INTO, which are to be executed again");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_saved), cmocka_unit_test(control_registers),
        cmocka_unit_test(round_trip),    cmocka_unit_test(what_is_left_of_the_old),
        cmocka_unit_test(attributes),    cmocka_unit_test(from_amd_kernel),
        cmocka_unit_test(from_amd_user), cmocka_unit_test(from_amd_start),
        cmocka_unit_test(to_amd),        cmocka_unit_test(records_that_are_refused),
        cmocka_unit_test(events),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
