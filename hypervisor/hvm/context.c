/*
 * See context.h. A stream is loaded in two passes: the first checks each record and changes nothing, the second loads what the first
 * let through and cannot fail.
 */
#include "hvm/context.h"

#include "cpu/cpu.h"
#include "cpu/fpu.h"
#include "domain/domain.h"
#include "hvm/vendor.h"
#include "hvm/vmcb.h"
#include "lib/log.h"
#include "lib/string.h"
#include "pv/cpuid.h"
#include "sched/time.h"

#define RFLAGS_KNOWN 0x3f7fd7UL
#define XSAVE_LEAST sizeof(struct hvm_hw_cpu_xsave)
#define XSAVE_AREA offsetof(struct hvm_hw_cpu_xsave, save_area)
#define MC_BANKS 2U /* as pv/msr.c shows them */
#define MTRR_WRITE_BACK 6U
#define MTRR_FIXED_ON (1UL << 10)
#define MTRR_ON (1UL << 11)
#define MTRR_CAP (1UL << 10 | 1UL << 8 | MTRR_VCNT) /* write-combining, fixed ranges, variable ranges */
#define MTRR_VALID (1UL << 11)                      /* of a variable range's mask */
#define ALL_WRITE_BACK 0x0606060606060606UL

#define IS_ALIGNED_RECORD(type) _Static_assert(sizeof(type) % 8 == 0, "records stay aligned")
IS_ALIGNED_RECORD(struct hvm_save_header);
IS_ALIGNED_RECORD(struct hvm_hw_cpu);
IS_ALIGNED_RECORD(struct hvm_hw_lapic);
IS_ALIGNED_RECORD(struct hvm_hw_mtrr);
IS_ALIGNED_RECORD(struct hvm_vmce_vcpu);

/* ---- CPU ---- */

/* Both have these by the same names. */
/* clang-format off */
#define EACH_REGISTER(X)                                                                                               \
    X(rax) X(rbx) X(rcx) X(rdx) X(rbp) X(rsi) X(rdi) X(rsp) X(r8) X(r9) X(r10) X(r11) X(r12) X(r13) X(r14) X(r15)      \
    X(rip) X(rflags)
/* clang-format on */

static uint32_t save_cpu(const struct vcpu *v, void *to)
{
    struct hvm_hw_cpu *c = to;

    if (v->down)
        return 0;
    memset(c, 0, sizeof(*c));
#define SAVE(r) c->r = v->regs.r;
    EACH_REGISTER(SAVE)
    hvm_vendor->save(v, c);
    c->dr0 = v->hvm->dr[0];
    c->dr1 = v->hvm->dr[1];
    c->dr2 = v->hvm->dr[2];
    c->dr3 = v->hvm->dr[3];
    c->msr_tsc_aux = v->pv.tsc_aux;
    c->tsc = rdtsc();
    c->pending_event = (uint32_t)v->hvm->pending_event;
    c->error_code = (uint32_t)(v->hvm->pending_event >> EVENT_ERROR_SHIFT);
    fpu_get_context(v, c->fpu_regs);
    c->flags = XEN_X86_FPU_INITIALISED;
    return sizeof(*c);
}

static const char *check_cpu(const struct vcpu *v, const void *from, uint32_t length)
{
    const struct hvm_hw_cpu *c = from;

    if (c->flags & ~XEN_X86_FPU_INITIALISED)
        return "flags that mean nothing";
    if (c->rflags & ~RFLAGS_KNOWN)
        return "RFLAGS has reserved bits";
    if (c->msr_efer & ~(EFER_GUEST | EFER_LMA))
        return "EFER has bits that its processor does not have";
    if (c->cr4 & ~hvm_cr4_allowed(v))
        return "CR4 has bits that its processor does not have";
    if (c->msr_tsc_aux >> 32)
        return "TSC_AUX has more than 32 bits";
    return hvm_vendor->check(v, c);
}

static void load_cpu(struct vcpu *v, const void *from, uint32_t length)
{
    const struct hvm_hw_cpu *c = from;
    struct hvm_vcpu *h = v->hvm;

    memset(&v->regs, 0, sizeof(v->regs));
#define LOAD(r) v->regs.r = c->r;
    EACH_REGISTER(LOAD)
    v->regs.rflags |= EFLAGS_MBS;
    v->regs.cs = (uint16_t)c->cs_sel;
    v->regs.ss = (uint16_t)c->ss_sel;
    hvm_vendor->load(v, c);
    h->dr[0] = c->dr0;
    h->dr[1] = c->dr1;
    h->dr[2] = c->dr2;
    h->dr[3] = c->dr3;
    h->pending_event = 0;
    if (c->pending_event & EVENT_VALID && (c->pending_event & EVENT_TYPE) != EVENT_TYPE_SOFTWARE)
        h->pending_event =
            c->pending_event | (c->pending_event & EVENT_HAS_ERROR ? (uint64_t)c->error_code << EVENT_ERROR_SHIFT : 0);
    h->nmi_blocked = false;
    v->pv.nmi_pending = false;
    v->pv.tsc_aux = c->msr_tsc_aux;
    fpu_set_context(v, c->flags & XEN_X86_FPU_INITIALISED ? c->fpu_regs : NULL);
}

/* ---- XSAVE: the record's length follows from the components that may be in use ---- */

static uint32_t save_xsave(const struct vcpu *v, void *to)
{
    struct hvm_hw_cpu_xsave *x = to;
    uint64_t policy = cpu_policy_of(v->domain)->xcr0;

    if (v->down || !fpu_xcr0_max() || !policy)
        return 0;
    fpu_get_state(v, (uint8_t *)to + XSAVE_AREA); /* there is room for all of it */
    x->xfeature_mask = fpu_xcr0_max();
    x->xcr0 = fpu_get_xcr0(v);
    x->xcr0_accum = policy | x->xcr0 | x->save_area.xsave_hdr.xstate_bv;
    return (uint32_t)(XSAVE_AREA + fpu_area_size(x->xcr0_accum));
}

static const char *check_xsave(const struct vcpu *v, const void *from, uint32_t length)
{
    const struct hvm_hw_cpu_xsave *x = from;

    if (!fpu_xcr0_max())
        return "the processor has no XSAVE";
    if (length < XSAVE_LEAST)
        return "it is too short";
    if ((x->xcr0 | x->save_area.xsave_hdr.xstate_bv) & ~x->xcr0_accum)
        return "it has components that it says were never in use";
    if (!fpu_check_state(x->xcr0, (const uint8_t *)from + XSAVE_AREA, length - XSAVE_AREA))
        return "a state that this processor does not have";
    return NULL;
}

static void load_xsave(struct vcpu *v, const void *from, uint32_t length)
{
    const struct hvm_hw_cpu_xsave *x = from;

    fpu_set_state(v, x->xcr0, (const uint8_t *)from + XSAVE_AREA, length - XSAVE_AREA);
}

/* ---- The local APIC ---- */

static uint32_t save_lapic(const struct vcpu *v, void *to)
{
    vlapic_save(v, to, NULL);
    return sizeof(struct hvm_hw_lapic);
}

static const char *check_lapic(const struct vcpu *v, const void *from, uint32_t length)
{
    return vlapic_check_hidden(v, from);
}

static void load_lapic(struct vcpu *v, const void *from, uint32_t length) { vlapic_load_hidden(v, from); }

static uint32_t save_lapic_regs(const struct vcpu *v, void *to)
{
    vlapic_save(v, NULL, to);
    return sizeof(struct hvm_hw_lapic_regs);
}

static const char *check_lapic_regs(const struct vcpu *v, const void *from, uint32_t length)
{
    return vlapic_check_regs(from);
}

static void load_lapic_regs(struct vcpu *v, const void *from, uint32_t length) { vlapic_load_regs(v, from); }

/* ---- MTRRs: there are none; all memory is write-back, and PAT has the last word ---- */

static uint32_t save_mtrr(const struct vcpu *v, void *to)
{
    *(struct hvm_hw_mtrr *)to = (struct hvm_hw_mtrr){.msr_pat_cr = hvm_vendor->get(v, HVM_PAT),
                                                     .msr_mtrr_cap = MTRR_CAP,
                                                     .msr_mtrr_def_type = MTRR_WRITE_BACK | MTRR_ON};
    return sizeof(struct hvm_hw_mtrr);
}

static const char *check_mtrr(const struct vcpu *v, const void *from, uint32_t length)
{
    const struct hvm_hw_mtrr *m = from;

    if (!hvm_pat_legal(m->msr_pat_cr))
        return "PAT has a reserved type";
    if (!(m->msr_mtrr_def_type & MTRR_ON))
        return NULL;
    if ((uint8_t)m->msr_mtrr_def_type != MTRR_WRITE_BACK)
        return "memory that is not write-back";
    for (unsigned i = 0; m->msr_mtrr_def_type & MTRR_FIXED_ON && i < NUM_FIXED_MSR; i++)
        if (m->msr_mtrr_fixed[i] != ALL_WRITE_BACK)
            return "memory that is not write-back";
    for (unsigned i = 0; i < MTRR_VCNT; i++)
        if (m->msr_mtrr_var[2 * i + 1] & MTRR_VALID && (uint8_t)m->msr_mtrr_var[2 * i] != MTRR_WRITE_BACK)
            return "memory that is not write-back";
    return NULL;
}

static void load_mtrr(struct vcpu *v, const void *from, uint32_t length)
{
    hvm_vendor->set(v, HVM_PAT, ((const struct hvm_hw_mtrr *)from)->msr_pat_cr);
}

/* ---- What says that something is not there ---- */

static uint32_t save_vmce(const struct vcpu *v, void *to)
{
    *(struct hvm_vmce_vcpu *)to = (struct hvm_vmce_vcpu){.caps = MC_BANKS};
    return sizeof(struct hvm_vmce_vcpu);
}

static const char *check_vmce(const struct vcpu *v, const void *from, uint32_t length)
{
    const struct hvm_vmce_vcpu *m = from;

    return m->caps > MC_BANKS || m->mcg_ext_ctl ? "machine checks of more kinds than there are" : NULL;
}

static uint32_t save_tsc_adjust(const struct vcpu *v, void *to)
{
    *(struct hvm_tsc_adjust *)to = (struct hvm_tsc_adjust){0};
    return sizeof(struct hvm_tsc_adjust);
}

static const char *check_tsc_adjust(const struct vcpu *v, const void *from, uint32_t length)
{
    return ((const struct hvm_tsc_adjust *)from)->tsc_adjust ? "a TSC that was adjusted" : NULL;
}

static uint32_t save_none(const struct vcpu *v, void *to) { return 0; }

static const char *check_msrs(const struct vcpu *v, const void *from, uint32_t length)
{
    const struct hvm_msr *m = from;

    if (length < offsetof(struct hvm_msr, msr) ||
        (length - offsetof(struct hvm_msr, msr)) / sizeof(m->msr[0]) != m->count ||
        (length - offsetof(struct hvm_msr, msr)) % sizeof(m->msr[0]))
        return "its length is not that of its MSRs";
    for (uint32_t i = 0; i < m->count; i++)
        if (m->msr[i]._rsvd || m->msr[i].val)
            return "an MSR that is not there";
    return NULL;
}

static void load_nothing(struct vcpu *v, const void *from, uint32_t length) {}

/* ---- Records ---- */

static const struct record {
    uint16_t code;
    uint32_t length; /* 0: it varies */
    const char *name;
    uint32_t (*save)(const struct vcpu *v, void *to); /* returns its length; 0: the vcpu has none */
    const char *(*check)(const struct vcpu *v, const void *from, uint32_t length);
    void (*load)(struct vcpu *v, const void *from, uint32_t length);
} records[] = {
#define RECORD(type, save, check, load)                                                                                \
    {                                                                                                                  \
        HVM_SAVE_CODE(type), HVM_SAVE_LENGTH(type), #type, save, check, load                                           \
    }
    RECORD(CPU, save_cpu, check_cpu, load_cpu),
    RECORD(LAPIC, save_lapic, check_lapic, load_lapic),
    RECORD(LAPIC_REGS, save_lapic_regs, check_lapic_regs, load_lapic_regs),
    RECORD(MTRR, save_mtrr, check_mtrr, load_mtrr),
    {CPU_XSAVE_CODE, 0, "CPU_XSAVE", save_xsave, check_xsave, load_xsave},
    RECORD(VMCE_VCPU, save_vmce, check_vmce, load_nothing),
    RECORD(TSC_ADJUST, save_tsc_adjust, check_tsc_adjust, load_nothing),
    {CPU_MSR_CODE, 0, "CPU_MSR", save_none, check_msrs, load_nothing},
};

static const struct record *record_of(unsigned code)
{
    for (unsigned i = 0; i < ARRAY_SIZE(records); i++)
        if (records[i].code == code)
            return &records[i];
    return NULL;
}

/* At most; XSAVE is the only one that varies and is saved. */
static size_t record_room(const struct record *r)
{
    return r->length ? r->length : r->code == CPU_XSAVE_CODE ? XSAVE_AREA + fpu_state_size() : 0;
}

size_t hvm_context_size(const struct domain *d)
{
    const size_t descriptor = sizeof(struct hvm_save_descriptor);
    size_t size = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(records); i++)
        size += descriptor + record_room(&records[i]);
    return descriptor + sizeof(struct hvm_save_header) + size * d->vcpu_count + descriptor;
}

static uint8_t *put_descriptor(uint8_t *to, uint16_t code, uint16_t instance, uint32_t length)
{
    *(struct hvm_save_descriptor *)to = (struct hvm_save_descriptor){code, instance, length};
    return to + sizeof(struct hvm_save_descriptor);
}

size_t hvm_context_save(const struct domain *d, uint8_t *to)
{
    uint8_t *at = put_descriptor(to, HVM_SAVE_CODE(HEADER), 0, sizeof(struct hvm_save_header));
    struct vcpu *v;

    *(struct hvm_save_header *)at = (struct hvm_save_header){.magic = HVM_FILE_MAGIC,
                                                             .version = HVM_FILE_VERSION,
                                                             .changeset = ~0UL,
                                                             .cpuid = cpuid(1, 0).a,
                                                             .gtsc_khz = (uint32_t)time_scale.tsc_khz};
    at += sizeof(struct hvm_save_header);
    for (unsigned i = 0; i < ARRAY_SIZE(records); i++)
        for_each_vcpu (d, v) {
            uint32_t length = records[i].save(v, at + sizeof(struct hvm_save_descriptor));

            if (length)
                at = put_descriptor(at, records[i].code, (uint16_t)v->id, length) + length;
        }
    at = put_descriptor(at, HVM_SAVE_CODE(END), 0, 0);
    return (size_t)(at - to);
}

long hvm_context_save_one(const struct domain *d, unsigned type, unsigned instance, uint8_t *to, size_t room)
{
    const struct record *r = record_of(type);
    struct vcpu *v = domain_vcpu(d, instance);
    uint32_t length;

    if (!r)
        return -EINVAL;
    if (!v)
        return -ENOENT;
    if (!to)
        return (long)record_room(r);
    if (room < record_room(r))
        return -ENOSPC;
    length = r->save(v, to);
    return length ? (long)length : -ENOENT;
}

/* ---- Loading ---- */

static int bad_record(const struct domain *d, const struct hvm_save_descriptor *s, const char *name, const char *why)
{
    return refuse(-EINVAL, "sethvmcontext of d%u: record %u (%s) of vcpu %u: %s\n", d->id, s->typecode, name,
                  s->instance, why);
}

static int check_header(const struct domain *d, const struct hvm_save_descriptor *s)
{
    const struct hvm_save_header *h = (const struct hvm_save_header *)(s + 1);

    if (s->typecode != HVM_SAVE_CODE(HEADER) || s->instance || s->length != sizeof(*h))
        return refuse(-EINVAL, "sethvmcontext of d%u: it does not begin with a header\n", d->id);
    if (h->magic != HVM_FILE_MAGIC || h->version != HVM_FILE_VERSION)
        return refuse(-EINVAL, "sethvmcontext of d%u: magic number 0x%x, version %u\n", d->id, h->magic, h->version);
    return 0;
}

static int check_record(const struct domain *d, const struct hvm_save_descriptor *s)
{
    const struct record *r = record_of(s->typecode);
    struct vcpu *v = domain_vcpu(d, s->instance);
    const char *why;

    if (!r)
        return bad_record(d, s, "?", "PVH domains have none of this type");
    if (!v)
        return bad_record(d, s, r->name, "there is no such vcpu");
    if (r->length ? s->length != r->length : !s->length || s->length % 8)
        return bad_record(d, s, r->name, "its length is wrong");
    why = r->check(v, s + 1, s->length);
    return why ? bad_record(d, s, r->name, why) : 0;
}

/* The record behind this one */
static const struct hvm_save_descriptor *next_record(const struct hvm_save_descriptor *s)
{
    return (const struct hvm_save_descriptor *)((const uint8_t *)(s + 1) + s->length);
}

static int check_stream(const struct domain *d, const uint8_t *from, size_t size)
{
    const struct hvm_save_descriptor *s = (const struct hvm_save_descriptor *)from;
    int error;

    for (bool first = true;; first = false, s = next_record(s)) {
        size_t left = size - (size_t)((const uint8_t *)s - from);

        if (left < sizeof(*s) || left - sizeof(*s) < s->length)
            return refuse(-EINVAL, "sethvmcontext of d%u: it ends within a record, after %lu bytes\n", d->id, size);
        if (!first && s->typecode == HVM_SAVE_CODE(END))
            return s->length ? bad_record(d, s, "END", "its length is wrong") : 0;
        error = first ? check_header(d, s) : check_record(d, s);
        if (error)
            return error;
    }
}

/* What happens to each vcpu: up with its new state, or as after INIT, to be started by another */
static void set_down(struct vcpu *v, bool down)
{
    struct hvm_vcpu *h = v->hvm;

    h->init_pending = false;
    h->startup = 0;
    h->waits_for_startup = down;
    h->halted = false;
    v->down = down;
    v->blocked = false;
    if (!down)
        v->initialised = true;
}

int hvm_context_load(struct domain *d, const uint8_t *from, size_t size)
{
    const struct hvm_save_descriptor *s = (const struct hvm_save_descriptor *)from;
    int error = check_stream(d, from, size);
    struct vcpu *v;

    if (error)
        return error;
    spin_lock(&d->lock);
    if (d->dying) {
        spin_unlock(&d->lock);
        return -EINVAL;
    }
    for_each_vcpu (d, v)
        set_down(v, true);
    for (s = next_record(s); s->typecode != HVM_SAVE_CODE(END); s = next_record(s)) {
        v = domain_vcpu(d, s->instance);
        record_of(s->typecode)->load(v, s + 1, s->length);
        if (s->typecode == HVM_SAVE_CODE(CPU))
            set_down(v, false);
    }
    spin_unlock(&d->lock);
    return 0;
}

/* ---- As PV's contexts ---- */

void hvm_get_registers(const struct vcpu *v, struct vcpu_guest_context *c)
{
    struct hvm_hw_cpu cpu = {.flags = 0};

    hvm_vendor->save(v, &cpu);
    memset(c, 0, sizeof(*c));
    fpu_get_context(v, c->fpu_ctxt.x);
    c->flags = VGCF_i387_valid | (v->down ? 0 : VGCF_online);
    if (!SEGMENT_DPL(cpu.ss_arbytes))
        c->flags |= VGCF_in_kernel;
    c->user_regs = v->regs;
    c->user_regs.cs = (uint16_t)cpu.cs_sel;
    c->user_regs.ds = (uint16_t)cpu.ds_sel;
    c->user_regs.es = (uint16_t)cpu.es_sel;
    c->user_regs.fs = (uint16_t)cpu.fs_sel;
    c->user_regs.gs = (uint16_t)cpu.gs_sel;
    c->user_regs.ss = (uint16_t)cpu.ss_sel;
    c->ctrlreg[0] = cpu.cr0;
    c->ctrlreg[2] = cpu.cr2;
    c->ctrlreg[3] = cpu.cr3;
    c->ctrlreg[4] = cpu.cr4;
    for (unsigned i = 0; i < 4; i++)
        c->debugreg[i] = v->hvm->dr[i];
    c->debugreg[6] = cpu.dr6;
    c->debugreg[7] = cpu.dr7;
    c->fs_base = cpu.fs_base;
    c->gs_base_kernel = c->flags & VGCF_in_kernel ? cpu.gs_base : cpu.shadow_gs;
    c->gs_base_user = c->flags & VGCF_in_kernel ? cpu.shadow_gs : cpu.gs_base;
    c->vm_assist = v->domain->vm_assist;
}

int hvm_set_registers(struct vcpu *v, const struct vcpu_guest_context *c)
{
    const struct cpu_user_regs *from = &c->user_regs;

    if (!v->initialised)
        return refuse(-EINVAL, "setvcpucontext: d%uv%u has no state yet: that of PVH domains comes by sethvmcontext\n",
                      v->domain->id, v->id);
    if (from->rflags & ~RFLAGS_KNOWN)
        return refuse(-EINVAL, "setvcpucontext of d%uv%u: RFLAGS has reserved bits\n", v->domain->id, v->id);
#define TAKE(r) v->regs.r = from->r;
    EACH_REGISTER(TAKE)
    v->regs.rflags |= EFLAGS_MBS;
    return 0;
}
