/* sources: hypervisor/hvm/context.c hypervisor/hvm/svm_state.c hypervisor/hvm/svm_audit.c hypervisor/hvm/vlapic.c hypervisor/lib/printf.c */
/*
 * The state of a PVH domain's vcpus in the ABI's form, with AMD-V's control block and the local APIC: what is saved comes back; what the
 * stock tools write starts a domain; and whatever is wrong with a stream, it is refused and changes nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fake_boot.h"

#include "cpu/cpu.h"
#include "cpu/fpu.h"
#include "domain/domain.h"
#include "hvm/context.h"
#include "hvm/svm_audit.h"
#include "hvm/svm_state.h"
#include "hvm/vendor.h"
#include "hvm/vmcb.h"
#include "pv/cpuid.h"
#include "sched/time.h"

#define AREA 832 /* of XSAVE, with AVX */

struct cpu_features cpu_features;
struct time_scale time_scale = {.tsc_khz = 2000000};

/* All that a stream can change */
static struct state {
    struct vcpu v[2];
    struct hvm_vcpu h[2];
    struct vmcb b[2];
    uint64_t xcr0[2];
    uint8_t fpu[2][AREA];
} s;
static struct domain d;
static struct hvm_domain hvm;
static struct percpu cpu;
static struct cpu_policy policy;
static ns_t clock_now = 1000000;
static uint64_t buffer[2048], second[2048];
static size_t size;

struct percpu *this_cpu(void) { return &cpu; }
ns_t now(void) { return clock_now; }
void hvm_vcpu_notify(struct vcpu *v) {}
void hvm_signal_nmi(struct vcpu *v) {}
void hvm_signal_init(struct vcpu *v) {}
void hvm_signal_startup(struct vcpu *v, uint8_t vector) {}
void timer_init(struct timer *t, void (*handler)(void *), void *arg, unsigned on) { *t = (struct timer){.arg = arg}; }
void timer_set(struct timer *t, ns_t expires)
{
    t->expires = expires;
    t->armed = true;
}
void timer_stop(struct timer *t) { t->armed = false; }
void timer_kill(struct timer *t) { t->armed = false; }
void timer_migrate(struct timer *t, unsigned on) {}
const struct cpu_policy *cpu_policy_of(const struct domain *of) { return &policy; }

uint64_t fpu_xcr0_max(void) { return 7; }
uint64_t fpu_get_xcr0(const struct vcpu *v) { return s.xcr0[v->id]; }
unsigned fpu_state_size(void) { return AREA; }
unsigned fpu_area_size(uint64_t xcr0) { return xcr0 & 4 ? AREA : 576; }
void fpu_get_state(const struct vcpu *v, void *to) { memcpy(to, s.fpu[v->id], AREA); }
void fpu_get_context(const struct vcpu *v, void *image) { memcpy(image, s.fpu[v->id], 512); }
void fpu_set_context(struct vcpu *v, const void *image)
{
    memset(s.fpu[v->id], 0, AREA);
    if (image)
        memcpy(s.fpu[v->id], image, 512);
}
bool fpu_check_state(uint64_t xcr0, const void *from, size_t n) { return !(xcr0 & ~7UL) && xcr0 & 1 && n <= AREA; }
bool fpu_set_state(struct vcpu *v, uint64_t xcr0, const void *from, size_t n)
{
    s.xcr0[v->id] = xcr0;
    memcpy(s.fpu[v->id], from, n);
    return true;
}

static const struct svm_limits limits = {.physical_bits = 48,
                                         .asids = 16,
                                         .long_mode = true,
                                         .cr4 = ~0UL >> 32,
                                         .efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE | EFER_SVME};
static void save(const struct vcpu *v, struct hvm_hw_cpu *c) { svm_state_save(v->hvm->vmcb, c); }
static const char *check(const struct vcpu *v, const struct hvm_hw_cpu *c)
{
    static struct vmcb scratch;

    return svm_state_check(v->hvm->vmcb, c, &limits, &scratch);
}
static void load(struct vcpu *v, const struct hvm_hw_cpu *c) { svm_state_load(v->hvm->vmcb, c); }
static uint64_t get(const struct vcpu *v, enum hvm_reg reg) { return v->hvm->vmcb->g_pat; }
static void set(struct vcpu *v, enum hvm_reg reg, uint64_t value) { v->hvm->vmcb->g_pat = value; }
static const struct hvm_vendor vendor = {.save = save, .check = check, .load = load, .get = get, .set = set};
const struct hvm_vendor *hvm_vendor = &vendor;
uint64_t hvm_cr4_allowed(const struct vcpu *v) { return CR4_PAE | CR4_PGE | CR4_PSE | CR4_OSFXSR | CR4_OSXSAVE; }
bool hvm_pat_legal(uint64_t pat) { return !(pat & 0xf8f8f8f8f8f8f8f8); }

/* A kernel in 64-bit mode on vcpu 0, vcpu 1 down */
static void running(struct vmcb *b)
{
    b->cr0 = CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_PE;
    b->cr3 = 0x1234000;
    b->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR;
    b->efer = EFER_SVME | EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
    b->cs = (struct vmcb_segment){0x10, 0xa9b, ~0U, 0};
    b->ss = (struct vmcb_segment){0x18, 0xc93, ~0U, 0};
    b->ds = b->es = b->fs = (struct vmcb_segment){0, 0, 0, 0};
    b->gs = (struct vmcb_segment){0, 0, 0, 0xffff888000000000};
    b->tr = (struct vmcb_segment){0x40, 0x8b, 0x206f, 0xfffffe0000003000};
    b->gdtr = (struct vmcb_segment){.limit = 0x7f, .base = 0xfffffe0000001000};
    b->idtr = (struct vmcb_segment){.limit = 0xfff, .base = 0xfffffe0000000000};
    b->lstar = 0xffffffff81a00000;
    b->star = 0x23001000000000;
    b->kernel_gs_base = 0x7f0000001000;
    b->cr2 = 0x7fff12345678;
}

static void control_block(struct vmcb *b)
{
    *b = (struct vmcb){.io_map = 0x100000,
                       .msr_map = 0x104000,
                       .n_cr3 = 0x108000,
                       .vintr = VINTR_MASKING,
                       .np_control = NESTED_PAGING,
                       .efer = EFER_SVME,
                       .cr0 = CR0_ET,
                       .dr6 = 0xffff0ff0,
                       .dr7 = 0x400,
                       .g_pat = 0x0007040600070406};
    b->intercepts[INTERCEPT_EXCEPTIONS] = ~0U;
    b->intercepts[INTERCEPT_MISC1] = ~(INTERCEPT_VINTR | INTERCEPT_IRET);
    b->intercepts[INTERCEPT_MISC2] = ~0U;
}

static int setup(void **state)
{
    memset(&s, 0, sizeof(s));
    memset(buffer, 0, sizeof(buffer));
    d = (struct domain){.id = 1, .vcpu_count = 2, .hvm = &hvm};
    policy = (struct cpu_policy){.xcr0 = 7};
    for (unsigned i = 0; i < 2; i++) {
        d.vcpus[i] = &s.v[i];
        s.v[i] = (struct vcpu){.domain = &d, .id = i, .hvm = &s.h[i], .down = true};
        s.h[i].vmcb = &s.b[i];
        s.xcr0[i] = 3;
        control_block(&s.b[i]);
        vlapic_init(&s.v[i], 2 * i);
    }
    running(&s.b[0]);
    for (uint64_t *r = (uint64_t *)&s.v[0].regs; r < (uint64_t *)(&s.v[0].regs + 1); r++)
        *r = (uint64_t)rand() << 32 | (uint64_t)rand();
    s.v[0].regs.rflags = 0x246;
    s.v[0].pv.tsc_aux = 5;
    s.v[0].down = false;
    s.v[0].initialised = true;
    s.h[0].dr[2] = 0xffffffff81000000;
    s.h[0].pending_event = EVENT_VALID | EVENT_TYPE_EXCEPTION | EVENT_HAS_ERROR | 14 | 2UL << EVENT_ERROR_SHIFT;
    memset(s.fpu[0], 0x5a, sizeof(s.fpu[0]));
    memset(s.fpu[0] + 512, 0, 64);
    s.fpu[0][512] = 7;
    vlapic_write_mmio(&s.v[0], 0xf0, 0x1ff);
    vlapic_write_mmio(&s.v[0], 0x380, 1000000); /* the timer: one shot, vector 0xec */
    vlapic_write_mmio(&s.v[0], 0x320, 0xec);
    vlapic_set_irq(&s.v[0], 0x41);
    vlapic_set_irq(&s.v[0], 0x52);
    vlapic_accept(&s.v[0], 0x52);
    size = hvm_context_save(&d, (uint8_t *)buffer);
    fake_log_clear();
    return 0;
}

/* A record of the stream in 'buffer' */
static void *find(unsigned type, unsigned instance)
{
    struct hvm_save_descriptor *at = (struct hvm_save_descriptor *)buffer;

    for (;; at = (void *)((char *)(at + 1) + at->length)) {
        if (at->typecode == type && at->instance == instance)
            return at + 1;
        if (!at->typecode)
            return NULL;
    }
}
#define FIND(type, instance) ((HVM_SAVE_TYPE(type) *)find(HVM_SAVE_CODE(type), instance))
static struct hvm_save_descriptor *descriptor(void *record) { return (struct hvm_save_descriptor *)record - 1; }

static void what_is_saved(void **state)
{
    const struct hvm_save_header *h = (void *)(buffer + 1);

    assert_true(size <= hvm_context_size(&d) && size % 8 == 0 && size <= sizeof(buffer));
    assert_int_equal(h->magic, HVM_FILE_MAGIC);
    assert_int_equal(h->gtsc_khz, 2000000);
    assert_non_null(FIND(CPU, 0));
    assert_null(FIND(CPU, 1)); /* it is down */
    assert_int_equal(FIND(CPU, 0)->rip, s.v[0].regs.rip);
    assert_int_equal(FIND(CPU, 0)->cs_arbytes, 0xa9b);
    assert_int_equal(FIND(CPU, 0)->msr_efer, EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE);
    assert_int_equal(FIND(CPU, 0)->pending_vector, 14);
    assert_int_equal(FIND(CPU, 0)->pending_type, 3);
    assert_true(FIND(CPU, 0)->pending_valid && FIND(CPU, 0)->pending_error_valid);
    assert_int_equal(FIND(CPU, 0)->error_code, 2);
    assert_int_equal(descriptor(find(CPU_XSAVE_CODE, 0))->length, 24 + AREA);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(FIND(MTRR, i)->msr_mtrr_def_type, 0x806);
        assert_int_equal(FIND(MTRR, i)->msr_pat_cr, 0x0007040600070406);
        assert_int_equal(FIND(LAPIC, i)->apic_base_msr, i ? 0xfee00800 : 0xfee00900);
        assert_int_equal(((uint32_t *)FIND(LAPIC_REGS, i)->data)[0x20 / 4], i * 2 << 24);
    }
    assert_int_equal(((uint32_t *)FIND(LAPIC_REGS, 0)->data)[0x390 / 4], 1000000);
    assert_int_equal(((uint32_t *)FIND(LAPIC_REGS, 0)->data)[0x220 / 4], 1U << 1);
    policy.xcr0 = 0;
    size = hvm_context_save(&d, (uint8_t *)buffer);
    assert_null(find(CPU_XSAVE_CODE, 0));
}

/* After a SYSRET the attributes of SS are the kernel's, and of a null SS nothing is left: the CPL is in a field of its own. */
static void privilege_level(void **state)
{
    s.b[0].cpl = 3;
    size = hvm_context_save(&d, (uint8_t *)buffer);
    assert_int_equal(FIND(CPU, 0)->ss_arbytes, 0xcf3);
    s.b[0].ss.attributes = 0;
    size = hvm_context_save(&d, (uint8_t *)buffer);
    assert_int_equal(FIND(CPU, 0)->ss_arbytes, 0x060);
    s.b[0].cpl = 0;
    assert_int_equal(hvm_context_load(&d, (uint8_t *)buffer, size), 0);
    assert_int_equal(s.b[0].cpl, 3);
}

static void single_records(void **state)
{
    struct hvm_hw_cpu c;

    assert_int_equal(hvm_context_save_one(&d, HVM_SAVE_CODE(CPU), 0, NULL, 0), sizeof(c));
    assert_int_equal(hvm_context_save_one(&d, HVM_SAVE_CODE(CPU), 0, (uint8_t *)&c, sizeof(c) - 1), -ENOSPC);
    assert_int_equal(hvm_context_save_one(&d, HVM_SAVE_CODE(CPU), 0, (uint8_t *)&c, sizeof(c)), sizeof(c));
    assert_int_equal(c.cr3, 0x1234000);
    assert_int_equal(hvm_context_save_one(&d, HVM_SAVE_CODE(CPU), 1, (uint8_t *)&c, sizeof(c)), -ENOENT);
    assert_int_equal(hvm_context_save_one(&d, HVM_SAVE_CODE(CPU), 2, (uint8_t *)&c, sizeof(c)), -ENOENT);
    assert_int_equal(hvm_context_save_one(&d, HVM_SAVE_CODE(IOAPIC), 0, (uint8_t *)&c, sizeof(c)), -EINVAL);
    assert_int_equal(hvm_context_save_one(&d, 0, 0, NULL, 0), -EINVAL);
}

static void round_trip(void **state)
{
    struct cpu_user_regs regs = s.v[0].regs;
    struct vmcb b = s.b[0];
    uint8_t fpu[AREA];
    uint64_t event = s.h[0].pending_event;

    memcpy(fpu, s.fpu[0], AREA);
    memset(&s.v[0].regs, 0, sizeof(regs));
    memset(s.fpu[0], 0, AREA);
    control_block(&s.b[0]);
    s.h[0].pending_event = 0;
    s.h[0].dr[2] = 0;
    s.v[0].pv.tsc_aux = 0;
    s.xcr0[0] = 1;
    s.v[0].down = true;
    s.v[1].down = false;
    vlapic_reset(&s.v[0]);
    assert_int_equal(hvm_context_load(&d, (uint8_t *)buffer, size), 0);
    assert_int_equal(fake_log[0], 0);
    assert_true(!s.v[0].down && s.v[0].initialised && s.v[1].down && s.h[1].waits_for_startup);
    assert_int_equal(s.v[0].regs.rip, regs.rip);
    assert_int_equal(s.v[0].regs.r15, regs.r15);
    assert_int_equal(s.v[0].regs.rflags, 0x246);
    assert_int_equal(s.v[0].pv.tsc_aux, 5);
    assert_int_equal(s.h[0].pending_event, event);
    assert_int_equal(s.xcr0[0], 3);
    assert_memory_equal(fpu, s.fpu[0], AREA);
    assert_memory_equal(&b, &s.b[0], sizeof(b));
    assert_int_equal(vlapic_pending(&s.v[0]), -1); /* 0x52 is in service */
    assert_true(s.h[0].vlapic.timer.armed && s.h[0].vlapic.timer_due == clock_now + 20000000);
    /* The same once more, but for the clock */
    assert_int_equal(hvm_context_save(&d, (uint8_t *)second), size);
    ((struct hvm_hw_cpu *)((char *)second + ((char *)FIND(CPU, 0) - (char *)buffer)))->tsc = FIND(CPU, 0)->tsc;
    assert_memory_equal(buffer, second, size);
}

/* What libxc does for a new domain: MTRRs for each vcpu, then vcpu 0 in flat 32-bit mode. */
static void start_of_a_domain(void **state)
{
    struct {
        struct hvm_save_descriptor header_d;
        HVM_SAVE_TYPE(HEADER) header;
        struct hvm_save_descriptor d;
        HVM_SAVE_TYPE(MTRR) mtrr;
        struct hvm_save_descriptor end_d;
    } m = {.d = {HVM_SAVE_CODE(MTRR), 1, HVM_SAVE_LENGTH(MTRR)}};
    struct {
        struct hvm_save_descriptor header_d;
        HVM_SAVE_TYPE(HEADER) header;
        struct hvm_save_descriptor d;
        HVM_SAVE_TYPE(CPU) cpu;
        struct hvm_save_descriptor end_d;
    } c = {.d = {HVM_SAVE_CODE(CPU), 0, HVM_SAVE_LENGTH(CPU)},
           .cpu = {.cs_limit = ~0U,
                   .ds_limit = ~0U,
                   .es_limit = ~0U,
                   .ss_limit = ~0U,
                   .tr_limit = 0x67,
                   .cs_arbytes = 0xc9b,
                   .ds_arbytes = 0xc93,
                   .es_arbytes = 0xc93,
                   .ss_arbytes = 0xc93,
                   .tr_arbytes = 0x8b,
                   .cr0 = CR0_PE | CR0_ET,
                   .rip = 0x1000200,
                   .dr6 = 0xffff0ff0,
                   .dr7 = 0x400,
                   .rbx = 0x7ffe000}};

    memcpy(&m, buffer, sizeof(m.header_d) + sizeof(m.header));
    memcpy(&c, buffer, sizeof(m.header_d) + sizeof(m.header));
    m.mtrr = *FIND(MTRR, 0);
    assert_int_equal(hvm_context_load(&d, (uint8_t *)&m, sizeof(m)), 0);
    assert_true(s.v[0].down && s.v[1].down);
    assert_int_equal(hvm_context_load(&d, (uint8_t *)&c, sizeof(c)), 0);
    assert_true(!s.v[0].down && s.v[0].initialised && s.v[1].down && !s.v[1].initialised);
    assert_int_equal(s.v[0].regs.rip, 0x1000200);
    assert_int_equal(s.v[0].regs.rbx, 0x7ffe000);
    assert_int_equal(s.v[0].regs.rax, 0);
    assert_int_equal(s.v[0].regs.rflags, EFLAGS_MBS);
    assert_int_equal(s.b[0].cr0, CR0_PE | CR0_ET);
    assert_int_equal(s.b[0].efer, EFER_SVME);
    assert_int_equal(s.b[0].cpl, 0);
    assert_int_equal(s.h[0].pending_event, 0);
    assert_int_equal(s.fpu[0][0], 0); /* as after reset */
    assert_int_equal(s.b[0].cs.attributes, 0xc9b);
    assert_int_equal(s.b[0].gs.base, 0);
    /* Nothing but a header: all are down. */
    c.d = (struct hvm_save_descriptor){0, 0, 0};
    assert_int_equal(hvm_context_load(&d, (uint8_t *)&c, sizeof(c)), 0);
    assert_true(s.v[0].down && s.v[1].down);
    d.dying = true;
    assert_int_equal(hvm_context_load(&d, (uint8_t *)&c, sizeof(c)), -EINVAL);
}

static void refused(const char *text)
{
    static struct state before;

    before = s;
    fake_log_clear();
    if (hvm_context_load(&d, (uint8_t *)buffer, size) != -EINVAL || memcmp(&before, &s, sizeof(s)) ||
        spin_is_locked(&d.lock))
        fail_msg("not refused, or it changed something: %s", text);
    if (!strstr(fake_log, text) || strchr(fake_log, '\n') != fake_log + strlen(fake_log) - 1)
        fail_msg("'%s' says nothing of '%s'", fake_log, text);
}

/* Each change is undone after it. */
#define REFUSED(field, value, text)                                                                                    \
    do {                                                                                                               \
        __typeof__(field) *at_ = &(field), was_ = *at_;                                                                \
        *at_ = (__typeof__(field))(value);                                                                             \
        refused(text);                                                                                                 \
        *at_ = was_;                                                                                                   \
    } while (0)

static void streams_that_are_refused(void **state)
{
    struct hvm_save_header *h = (void *)(buffer + 1);
    size_t all = size;

    for (size = 0; size < all; size += 4)
        refused("it ends within a record");
    REFUSED(h->magic, 1, "magic number");
    REFUSED(h->version, 2, "version 2");
    REFUSED(descriptor(h)->length, 16, "header");
    REFUSED(descriptor(h)->typecode, 2, "header");
    REFUSED(descriptor(h)->length, ~0U, "ends within");
    REFUSED(descriptor(FIND(CPU, 0))->typecode, HVM_SAVE_CODE(IOAPIC), "none of this type");
    REFUSED(descriptor(FIND(CPU, 0))->typecode, 99, "none of this type");
    REFUSED(descriptor(FIND(CPU, 0))->typecode, HVM_SAVE_CODE(HEADER), "none of this type");
    REFUSED(descriptor(FIND(CPU, 0))->instance, 2, "no such vcpu");
    REFUSED(descriptor(FIND(CPU, 0))->instance, 0xffff, "no such vcpu");
    REFUSED(descriptor(FIND(CPU, 0))->length, sizeof(struct hvm_hw_cpu) - 8, "length is wrong");
    REFUSED(descriptor(find(CPU_XSAVE_CODE, 0))->length, 24 + AREA - 4, "length is wrong");
    REFUSED(descriptor(find(CPU_XSAVE_CODE, 0))->length, 0, "length is wrong");
    REFUSED(descriptor(find(CPU_XSAVE_CODE, 0))->length, 24, "too short");
}

static void processors_that_are_refused(void **state)
{
    struct hvm_hw_cpu *c = FIND(CPU, 0);

    REFUSED(c->flags, 2, "flags that mean nothing");
    REFUSED(c->rflags, 1UL << 22, "RFLAGS");
    REFUSED(c->rflags, 1UL << 15, "RFLAGS");
    REFUSED(c->msr_efer, c->msr_efer | EFER_SVME, "EFER");
    REFUSED(c->msr_efer, EFER_LME | EFER_NXE, "EFER.LMA");
    REFUSED(c->cr4, c->cr4 | CR4_SMEP, "CR4");
    REFUSED(c->cr4, 0, "PAE");
    REFUSED(c->cr0, c->cr0 | 1UL << 32, "CR0 has reserved bits");
    REFUSED(c->cr0, c->cr0 | 1UL << 7, "CR0 has reserved bits");
    REFUSED(c->cr0, c->cr0 & ~CR0_PE, "CR0.PG without CR0.PE");
    REFUSED(c->cr0, c->cr0 | CR0_NW, "NW");
    REFUSED(c->cr3, 1UL << 48, "CR3");
    REFUSED(c->dr6, c->dr6 | 1UL << 32, "DR6");
    REFUSED(c->dr7, 1UL << 32, "DR7");
    REFUSED(c->msr_tsc_aux, 1UL << 32, "TSC_AUX");
    REFUSED(c->cs_sel, 0x10000, "segment");
    REFUSED(c->ldtr_arbytes, 0x1000, "segment");
    REFUSED(c->cs_arbytes, 0xe9b, "CS");
    REFUSED(c->fs_base, 1UL << 47, "FS.base");
    REFUSED(c->shadow_gs, 1UL << 47, "KernelGsBase");
    REFUSED(c->msr_lstar, 1UL << 47, "LSTAR");
    REFUSED(c->idtr_base, 1UL << 47, "IDTR.base");
    REFUSED(c->pending_event, EVENT_VALID | 1 << 8, "EVENTINJ: reserved type");
    REFUSED(c->pending_event, EVENT_VALID | EVENT_TYPE_EXCEPTION | 9, "EVENTINJ");
    REFUSED(c->pending_event, EVENT_VALID | EVENT_TYPE_EXCEPTION | 14, "without its error code");
    REFUSED(c->pending_event, EVENT_VALID | 1 << 12, "EVENTINJ has reserved bits");
}

static void the_rest_that_is_refused(void **state)
{
    uint32_t *r = (uint32_t *)FIND(LAPIC_REGS, 0)->data;
    struct hvm_hw_mtrr *m = FIND(MTRR, 1);
    struct hvm_hw_cpu_xsave *x = find(CPU_XSAVE_CODE, 0);
    struct hvm_vmce_vcpu *e = FIND(VMCE_VCPU, 1);

    REFUSED(FIND(LAPIC, 0)->apic_base_msr, 0xfec00900, "usual address");
    REFUSED(FIND(LAPIC, 0)->apic_base_msr, 0xfee00500, "in no mode");
    REFUSED(FIND(LAPIC, 0)->apic_base_msr, 0xfee00800, "boot processor");
    REFUSED(FIND(LAPIC, 1)->apic_base_msr, 0xfee00900, "boot processor");
    REFUSED(r[0x320 / 4], 3U << 17, "timer");
    REFUSED(r[0x350 / 4], 1U << 17, "vector table");
    REFUSED(r[0xf0 / 4], 1U << 12, "reserved bits");
    REFUSED(r[0x80 / 4], 0x100, "reserved bits");
    REFUSED(r[0x3e0 / 4], 4, "reserved bits");
    REFUSED(r[0x200 / 4], 1U << 15, "below vector 16");
    REFUSED(r[0x100 / 4], 1, "below vector 16");
    REFUSED(m->msr_pat_cr, 8, "PAT");
    REFUSED(m->msr_mtrr_def_type, 0x800, "write-back");
    REFUSED(m->msr_mtrr_def_type, 0xc06, "write-back");
    REFUSED(m->msr_mtrr_var[3], 0x800, "write-back");
    REFUSED(x->xcr0, 2, "does not have");
    REFUSED(x->xcr0, 15, "never in use");
    REFUSED(x->xcr0_accum, 3, "never in use");
    REFUSED(e->caps, 3, "machine checks");
    REFUSED(e->mcg_ext_ctl, 1, "machine checks");
    REFUSED(FIND(TSC_ADJUST, 1)->tsc_adjust, 1, "adjusted");
}

static void machine_specific_registers(void **state)
{
    struct hvm_save_descriptor *at = descriptor(FIND(TSC_ADJUST, 1)); /* the last: a list of two MSRs takes its place */
    struct hvm_msr *m = (void *)(at + 1);
    struct hvm_save_descriptor *end;

    *at = (struct hvm_save_descriptor){CPU_MSR_CODE, 1, 40};
    memset(m, 0, 40);
    m->count = 2;
    m->msr[0].index = 0x48;
    end = (void *)((char *)m + 40);
    *end = (struct hvm_save_descriptor){0, 0, 0};
    size = (size_t)((char *)(end + 1) - (char *)buffer);
    assert_int_equal(hvm_context_load(&d, (uint8_t *)buffer, size), 0);
    REFUSED(m->msr[0].val, 1, "MSR");
    REFUSED(m->msr[1]._rsvd, 1, "MSR");
    REFUSED(m->count, 1, "length");
    REFUSED(m->count, ~0U, "length");
    REFUSED(at->length, 32, "length");
}

static void registers(void **state)
{
    static struct vcpu_guest_context c;

    hvm_get_registers(&s.v[0], &c);
    assert_int_equal(c.user_regs.rip, s.v[0].regs.rip);
    assert_int_equal(c.user_regs.cs, 0x10);
    assert_int_equal(c.ctrlreg[3], 0x1234000);
    assert_int_equal(c.gs_base_kernel, 0xffff888000000000);
    assert_int_equal(c.gs_base_user, 0x7f0000001000);
    assert_int_equal(c.flags, VGCF_online | VGCF_i387_valid | VGCF_in_kernel);
    assert_memory_equal(c.fpu_ctxt.x, s.fpu[0], 512);
    c.user_regs.rax = 1;
    c.ctrlreg[3] = 0;
    assert_int_equal(hvm_set_registers(&s.v[0], &c), 0);
    assert_int_equal(s.v[0].regs.rax, 1);
    assert_int_equal(s.b[0].cr3, 0x1234000);
    c.user_regs.rflags = 1UL << 31;
    c.user_regs.rax = 2;
    assert_int_equal(hvm_set_registers(&s.v[0], &c), -EINVAL);
    assert_int_equal(s.v[0].regs.rax, 1);
    c.user_regs.rflags = 2;
    assert_int_equal(hvm_set_registers(&s.v[1], &c), -EINVAL);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_saved),
        TEST(privilege_level),
        TEST(single_records),
        TEST(round_trip),
        TEST(start_of_a_domain),
        TEST(streams_that_are_refused),
        TEST(processors_that_are_refused),
        TEST(the_rest_that_is_refused),
        TEST(machine_specific_registers),
        TEST(registers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
