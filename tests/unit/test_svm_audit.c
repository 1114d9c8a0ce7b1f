/* sources: hypervisor/hvm/svm_audit.c hypervisor/lib/printf.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/instr.h"
#include "hvm/svm_audit.h"
#include "hvm/vmcb.h"
#include "lib/log.h"
#include "lib/printf.h"

static char logged[8192];

void log_print(enum log_level level, const char *fmt, ...)
{
    size_t n = strlen(logged);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(logged + n, sizeof(logged) - n, fmt, ap);
    va_end(ap);
}

#define NOT_CANONICAL (1UL << 47)
#define NOT_CANONICAL_TEXT " is not canonical: the processor would change it"

static const struct svm_limits limits = {
    .physical_bits = 48,
    .asids = 16,
    .long_mode = true,
    .flush_by_asid = true,
    .cr4 = CR4_PSE | CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_CET,
    .efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE | EFER_SVME,
};

/* Real mode, as after a reset */
static struct vmcb real_mode(void)
{
    struct vmcb b = {
        .io_map = 0x100000,
        .msr_map = 0x104000,
        .n_cr3 = 0x108000,
        .asid = 1,
        .vintr = VINTR_MASKING,
        .np_control = NESTED_PAGING,
        .cs = {.selector = 0xf000, .attributes = SEGMENT_P | SEGMENT_S | 0xb, .limit = 0xffff, .base = 0xffff0000},
        .efer = EFER_SVME,
        .cr0 = CR0_ET,
        .dr6 = 0xffff0ff0,
        .dr7 = 0x400,
        .rflags = EFLAGS_MBS,
        .rip = 0xfff0,
        .g_pat = 0x0007040600070406,
    };

    b.intercepts[INTERCEPT_EXCEPTIONS] = 1U << X86_DB | 1U << X86_AC | 1U << X86_MC;
    b.intercepts[INTERCEPT_MISC1] = INTERCEPT_INTR | INTERCEPT_NMI | INTERCEPT_INIT | INTERCEPT_RDPMC |
                                    INTERCEPT_CPUID | INTERCEPT_INVD | INTERCEPT_HLT | INTERCEPT_INVLPGA |
                                    INTERCEPT_IOIO | INTERCEPT_MSR | INTERCEPT_TASK_SWITCH | INTERCEPT_SHUTDOWN;
    b.intercepts[INTERCEPT_MISC2] = INTERCEPT_VMRUN | INTERCEPT_VMMCALL | INTERCEPT_VMLOAD | INTERCEPT_VMSAVE |
                                    INTERCEPT_STGI | INTERCEPT_CLGI | INTERCEPT_SKINIT | INTERCEPT_WBINVD |
                                    INTERCEPT_MONITOR | INTERCEPT_MWAIT | INTERCEPT_XSETBV;
    return b;
}

/* 32-bit protected mode without paging: how a PVH guest begins */
static struct vmcb protected_mode(void)
{
    struct vmcb b = real_mode();

    b.cr0 = CR0_PE | CR0_ET;
    b.cs = (struct vmcb_segment){.attributes = 0xc9b, .limit = ~0U};
    b.ds = b.es = b.ss = (struct vmcb_segment){.attributes = 0xc93, .limit = ~0U};
    b.tr = (struct vmcb_segment){.attributes = SEGMENT_P | 0xb, .limit = 0x67};
    b.rip = 0x1000000;
    return b;
}

static struct vmcb sixty_four_bit(void)
{
    struct vmcb b = protected_mode();

    b.cr0 = CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_MP | CR0_PE;
    b.cr3 = 0x1234000;
    b.cr4 = CR4_PAE | CR4_PGE | CR4_CET;
    b.efer = EFER_SVME | EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
    b.cs.attributes = 0xa9b;
    b.gs.base = b.kernel_gs_base = b.lstar = 0xffffffff81000000;
    b.fs.base = 0x00007fffffffffff;
    b.rip = 0xffffffff81000000;
    return b;
}

static void accepts_every_mode(void **state)
{
    struct vmcb b = real_mode();

    assert_null(svm_audit(&b, &limits));
    b = protected_mode();
    assert_null(svm_audit(&b, &limits));
    b.cr0 |= CR0_PG; /* 32-bit paging */
    assert_null(svm_audit(&b, &limits));
    b.cr0 &= ~CR0_PE; /* paged real mode, which only VMRUN can enter */
    assert_null(svm_audit(&b, &limits));
    b = sixty_four_bit();
    assert_null(svm_audit(&b, &limits));
    b.cs.attributes = 0xc9b; /* compatibility mode */
    assert_null(svm_audit(&b, &limits));
}

/* A field, of the VMCB or of the limits, becomes (field & ~clear) | set. */
struct change {
    bool of_limits;
    size_t offset, size;
    uint64_t clear, set;
};
#define B(field, clear, set)                                                                                           \
    {                                                                                                                  \
        false, offsetof(struct vmcb, field), sizeof(((struct vmcb *)0)->field), clear, set                             \
    }
#define L(field, clear, set)                                                                                           \
    {                                                                                                                  \
        true, offsetof(struct svm_limits, field), sizeof(((struct svm_limits *)0)->field), clear, set                  \
    }
#define ON(field, set) B(field, 0, set)
#define OFF(field, clear) B(field, clear, 0)
#define IS(field, value) B(field, ~0UL, value)
#define EVENT(type, vector) IS(event_injection, EVENT_VALID | EVENT_TYPE_##type | (vector))
#define EXCEPTION(name) EVENT(EXCEPTION, X86_##name)
#define EXCEPTION_WITH_ERROR(name) EVENT(EXCEPTION, X86_##name | EVENT_HAS_ERROR)
#define MISC1(name) OFF(intercepts[INTERCEPT_MISC1], INTERCEPT_##name)
#define MISC2(name) OFF(intercepts[INTERCEPT_MISC2], INTERCEPT_##name)

/* What the changes make of the 64-bit VMCB. Without a text it stays valid: the other side of a rule's bound. */
static const struct {
    const char *text;
    struct change changes[3];
} cases[] = {
    {"EFER.SVME is zero", {OFF(efer, EFER_SVME)}},
    {"CR0.NW without CR0.CD", {ON(cr0, CR0_NW)}},
    {NULL, {ON(cr0, CR0_NW | CR0_CD)}},
    {NULL, {ON(cr0, CR0_CD)}},
    {"CR0[63:32] is not zero", {ON(cr0, 1UL << 32)}},
    {"CR0[63:32] is not zero", {ON(cr0, 1UL << 63)}},
    {"CR3 has bits beyond the physical addresses", {ON(cr3, 1UL << 48)}},
    {"CR3 has bits beyond the physical addresses", {ON(cr3, 1UL << 63)}},
    {NULL, {ON(cr3, 1UL << 47)}},
    {"CR4 has bits that the processor does not have", {ON(cr4, CR4_UMIP)}},
    {"CR4 has bits that the processor does not have", {ON(cr4, 1UL << 63)}},
    {"DR6[63:32] is not zero", {ON(dr6, 1UL << 32)}},
    {"DR7[63:32] is not zero", {ON(dr7, 1UL << 32)}},
    {"EFER has bits that the processor does not have", {ON(efer, 1UL << 63)}},
    {"EFER.LMA or EFER.LME, and the processor has no long mode", {L(long_mode, 1, 0)}},
    {"EFER.LME and CR0.PG without CR4.PAE", {OFF(cr4, CR4_PAE)}},
    {"EFER.LME and CR0.PG without CR0.PE", {OFF(cr0, CR0_PE)}},
    {"CS.L and CS.D in long mode", {ON(cs.attributes, SEGMENT_DB)}},
    {"VMRUN is not intercepted", {MISC2(VMRUN)}},
    {"MSRPM_BASE_PA: the map ends beyond the physical addresses", {IS(msr_map, (1UL << 48) - PAGE_SIZE)}},
    {"MSRPM_BASE_PA: the map ends beyond the physical addresses", {IS(msr_map, ~0UL << 12)}},
    {NULL, {IS(msr_map, (1UL << 48) - 2 * PAGE_SIZE)}},
    {"IOPM_BASE_PA: the map ends beyond the physical addresses", {IS(io_map, (1UL << 48) - 2 * PAGE_SIZE)}},
    {NULL, {IS(io_map, (1UL << 48) - 3 * PAGE_SIZE)}},
    {"EVENTINJ: reserved type", {IS(event_injection, EVENT_VALID | 1UL << 8)}},
    {"EVENTINJ: reserved type", {IS(event_injection, EVENT_VALID | 5UL << 8)}},
    {"EVENTINJ: reserved type", {IS(event_injection, EVENT_VALID | 7UL << 8)}},
    {NULL, {IS(event_injection, 7UL << 8)}},
    {NULL, {EVENT(INTR, 0xff)}},
    {NULL, {EVENT(NMI, 2)}},
    {NULL, {EVENT(NMI, 0xff)}},
    {"EVENTINJ: NMI as an exception", {EVENT(EXCEPTION, 2)}},
    {"EVENTINJ: no exception has this vector", {EXCEPTION(COP)}},
    {"EVENTINJ: no exception has this vector", {EXCEPTION(SPV)}},
    {"EVENTINJ: no exception has this vector", {EXCEPTION(VE)}},
    {"EVENTINJ: no exception has this vector", {EVENT(EXCEPTION, 32)}},
    {"EVENTINJ: no exception has this vector", {EVENT(EXCEPTION, 32 + X86_UD)}},
    {"EVENTINJ: no exception has this vector", {EVENT(EXCEPTION, 0xff)}},
    {NULL, {EXCEPTION(UD)}},
    {"EVENTINJ: #CP, and the processor has no CET", {EXCEPTION_WITH_ERROR(CP), L(cr4, CR4_CET, 0), OFF(cr4, CR4_CET)}},
    {NULL, {EXCEPTION_WITH_ERROR(CP)}},
    {"EVENTINJ: #OF or #BR in 64-bit mode", {EXCEPTION(OF)}},
    {"EVENTINJ: #OF or #BR in 64-bit mode", {EXCEPTION(BR)}},
    {NULL, {EXCEPTION(BR), OFF(cs.attributes, SEGMENT_L)}},
    {NULL, {EVENT(SOFTWARE, X86_OF)}},
    {"ASID is zero", {IS(asid, 0)}},
    {"ASID is beyond what the processor has", {IS(asid, 16)}},
    {NULL, {IS(asid, 15)}},
    {"S_CET has reserved bits", {ON(s_cet, 4)}},
    {NULL, {ON(s_cet, 3)}},
    {"CR4.CET without CR0.WP", {OFF(cr0, CR0_WP)}},
    {NULL, {OFF(cr0, CR0_WP), OFF(cr4, CR4_CET)}},
    {"N_CR3 has bits beyond the physical addresses", {ON(n_cr3, 1UL << 48)}},
    {"G_PAT has a reserved type", {IS(g_pat, 2)}},
    {"G_PAT has a reserved type", {IS(g_pat, 3UL << 56)}},
    {"G_PAT has a reserved type", {IS(g_pat, 0x08UL << 24)}},
    {"G_PAT has a reserved type", {IS(g_pat, 0x80UL << 24)}},
    {NULL, {IS(g_pat, 0x0000000706050401)}},

    {"ES.base" NOT_CANONICAL_TEXT, {IS(es.base, NOT_CANONICAL)}},
    {"CS.base" NOT_CANONICAL_TEXT, {IS(cs.base, NOT_CANONICAL)}},
    {"SS.base" NOT_CANONICAL_TEXT, {IS(ss.base, NOT_CANONICAL)}},
    {"DS.base" NOT_CANONICAL_TEXT, {IS(ds.base, NOT_CANONICAL)}},
    {"FS.base" NOT_CANONICAL_TEXT, {IS(fs.base, NOT_CANONICAL)}},
    {"GS.base" NOT_CANONICAL_TEXT, {IS(gs.base, NOT_CANONICAL)}},
    {"GDTR.base" NOT_CANONICAL_TEXT, {IS(gdtr.base, NOT_CANONICAL)}},
    {"LDTR.base" NOT_CANONICAL_TEXT, {IS(ldtr.base, NOT_CANONICAL)}},
    {"IDTR.base" NOT_CANONICAL_TEXT, {IS(idtr.base, NOT_CANONICAL)}},
    {"TR.base" NOT_CANONICAL_TEXT, {IS(tr.base, NOT_CANONICAL)}},
    {"KernelGsBase" NOT_CANONICAL_TEXT, {IS(kernel_gs_base, NOT_CANONICAL)}},
    {"LSTAR" NOT_CANONICAL_TEXT, {IS(lstar, NOT_CANONICAL)}},
    {"CSTAR" NOT_CANONICAL_TEXT, {IS(cstar, NOT_CANONICAL)}},
    {"SSP" NOT_CANONICAL_TEXT, {IS(ssp, NOT_CANONICAL)}},
    {"ISST_ADDR" NOT_CANONICAL_TEXT, {IS(isst, NOT_CANONICAL)}},
    {NULL, {IS(sysenter_esp, NOT_CANONICAL), IS(sysenter_eip, NOT_CANONICAL)}},
    {NULL, {IS(rip, NOT_CANONICAL), IS(rsp, NOT_CANONICAL)}},

    {"EFER.LMA is not what EFER.LME and CR0.PG make it", {OFF(efer, EFER_LMA)}},
    {"EFER.LMA is not what EFER.LME and CR0.PG make it", {OFF(cr0, CR0_PG)}},
    {NULL, {OFF(efer, EFER_LMA), OFF(cr0, CR0_PG)}},
    {"CR4.PCIDE without long mode", {ON(cr4, CR4_PCIDE), OFF(efer, EFER_LMA | EFER_LME)}},
    {NULL, {ON(cr4, CR4_PCIDE)}},
    {"EVENTINJ: an error code with an event that has none", {EXCEPTION_WITH_ERROR(UD)}},
    {"EVENTINJ: an error code with an event that has none", {EVENT(INTR, X86_GP | EVENT_HAS_ERROR)}},
    {"EVENTINJ: an error code with an event that has none", {EVENT(SOFTWARE, X86_GP | EVENT_HAS_ERROR)}},
    {"EVENTINJ: an exception without its error code", {EXCEPTION(GP)}},
    {"EVENTINJ: an exception without its error code", {EXCEPTION(DF)}},
    {NULL, {EXCEPTION_WITH_ERROR(GP)}},
    {NULL, {EXCEPTION_WITH_ERROR(PF), ON(event_injection, ~0UL << EVENT_ERROR_SHIFT)}},
    {"EVENTINJ has reserved bits", {EVENT(INTR, 0x40 | 1UL << 12)}},
    {"EVENTINJ has reserved bits", {EVENT(INTR, 0x40 | 1UL << 30)}},
    {"TLB_CONTROL: reserved value", {IS(tlb_control, 2)}},
    {"TLB_CONTROL: reserved value", {IS(tlb_control, 8)}},
    {NULL, {IS(tlb_control, TLB_FLUSH_THIS_ASID)}},
    {NULL, {IS(tlb_control, 7)}},
    {"TLB_CONTROL: the processor has no FlushByAsid", {IS(tlb_control, TLB_FLUSH_THIS_ASID), L(flush_by_asid, 1, 0)}},
    {NULL, {IS(tlb_control, TLB_FLUSH_ALL_ASIDS), L(flush_by_asid, 1, 0)}},

    {"V_INTR_MASKING is off: the guest could block interrupts", {OFF(vintr, VINTR_MASKING)}},
    {"NP_ENABLE is off: the guest would use machine addresses", {OFF(np_control, NESTED_PAGING)}},
    {"a bit beside NP_ENABLE is on (SEV, GMET)", {ON(np_control, 2)}},
    {"AVIC is on", {ON(vintr, 1UL << 31)}},
    {"AVIC is on", {ON(vintr, 1UL << 30)}},
    {"LBR virtualization, or that of VMLOAD and VMSAVE, is on", {ON(lbr_control, 1)}},
    {"LBR virtualization, or that of VMLOAD and VMSAVE, is on", {ON(lbr_control, 2)}},
    {"IOPM_BASE_PA is zero or not a page", {IS(io_map, 0)}},
    {"IOPM_BASE_PA is zero or not a page", {ON(io_map, 1)}},
    {"MSRPM_BASE_PA is zero or not a page", {IS(msr_map, 0)}},
    {"MSRPM_BASE_PA is zero or not a page", {ON(msr_map, 0x800)}},
    {"N_CR3 is zero or not a page", {IS(n_cr3, 0)}},
    {"N_CR3 is zero or not a page", {ON(n_cr3, 8)}},

    {"#DB is not intercepted: it can loop for ever (CVE-2015-8104)", {OFF(intercepts[INTERCEPT_EXCEPTIONS], 1 << 1)}},
    {"#AC is not intercepted: it can loop for ever (CVE-2015-5307)", {OFF(intercepts[INTERCEPT_EXCEPTIONS], 1 << 17)}},
    {"#MC is not intercepted", {OFF(intercepts[INTERCEPT_EXCEPTIONS], 1 << 18)}},
    {"INTR is not intercepted", {MISC1(INTR)}},
    {"NMI is not intercepted", {MISC1(NMI)}},
    {"INIT is not intercepted", {MISC1(INIT)}},
    {"RDPMC is not intercepted", {MISC1(RDPMC)}},
    {"CPUID is not intercepted", {MISC1(CPUID)}},
    {"INVD is not intercepted", {MISC1(INVD)}},
    {"HLT is not intercepted", {MISC1(HLT)}},
    {"INVLPGA is not intercepted", {MISC1(INVLPGA)}},
    {"IOIO_PROT is off: the guest has all ports", {MISC1(IOIO)}},
    {"MSR_PROT is off: the guest has all MSRs", {MISC1(MSR)}},
    {"task switches are not intercepted", {MISC1(TASK_SWITCH)}},
    {"shutdown is not intercepted: it would be the machine's", {MISC1(SHUTDOWN)}},
    {"VMMCALL is not intercepted", {MISC2(VMMCALL)}},
    {"VMLOAD is not intercepted", {MISC2(VMLOAD)}},
    {"VMSAVE is not intercepted", {MISC2(VMSAVE)}},
    {"STGI is not intercepted", {MISC2(STGI)}},
    {"CLGI is not intercepted", {MISC2(CLGI)}},
    {"SKINIT is not intercepted", {MISC2(SKINIT)}},
    {"WBINVD is not intercepted", {MISC2(WBINVD)}},
    {"MONITOR is not intercepted", {MISC2(MONITOR)}},
    {"MWAIT is not intercepted", {MISC2(MWAIT)}},
    {"XSETBV is not intercepted", {MISC2(XSETBV)}},
};

static void apply(const struct change *c, struct vmcb *b, struct svm_limits *l)
{
    char *field = (c->of_limits ? (char *)l : (char *)b) + c->offset;
    uint64_t v = 0;

    memcpy(&v, field, c->size);
    v = (v & ~c->clear) | c->set;
    memcpy(field, &v, c->size);
}

static void each_rule(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct vmcb b = sixty_four_bit();
        struct svm_limits l = limits;

        for (size_t k = 0; k < ARRAY_SIZE(cases[i].changes) && cases[i].changes[k].size; k++)
            apply(&cases[i].changes[k], &b, &l);
        const char *answer = svm_audit(&b, &l), *expected = cases[i].text;

        if (!answer != !expected || (answer && strcmp(answer, expected)))
            fail_msg("case %zu: '%s' in place of '%s'", i, answer ? answer : "valid", expected ? expected : "valid");
    }
}

static void every_rule_has_a_case(void **state)
{
    const char *texts[200] = {NULL};
    unsigned n = svm_audit_rules(texts, ARRAY_SIZE(texts));

    assert_in_range(n, 1, ARRAY_SIZE(texts));
    for (unsigned i = 0; i < n; i++) {
        bool found = false;

        assert_non_null(texts[i]);
        for (size_t k = 0; k < ARRAY_SIZE(cases) && !found; k++)
            found = cases[k].text && !strcmp(cases[k].text, texts[i]);
        if (!found)
            fail_msg("no case for the rule '%s'", texts[i]);
        for (unsigned k = 0; k < i; k++) /* else one case could stand for two rules */
            assert_string_not_equal(texts[i], texts[k]);
    }
    /* No more than it was asked for */
    for (unsigned few = 0; few < n; few++) {
        memset(texts, 0, sizeof(texts));
        assert_int_equal(svm_audit_rules(texts, few), n);
        assert_null(texts[few]);
        assert_true(!few || texts[few - 1]);
    }
}

/* An error code is a thing of protected mode. */
static void error_codes_in_real_mode(void **state)
{
    struct vmcb b = real_mode();

    b.event_injection = EVENT_VALID | EVENT_TYPE_EXCEPTION | X86_GP;
    assert_null(svm_audit(&b, &limits));
    b.event_injection |= EVENT_HAS_ERROR;
    assert_string_equal(svm_audit(&b, &limits), "EVENTINJ: an error code with an event that has none");
}

static void dump(void **state)
{
    static const char *const parts[] = {"exit 7b info 0000000003f80018",
                                        "bytes 0fa2\n",
                                        "rip ffffffff81000000",
                                        "cr3 0000000001234000",
                                        "cpl 3",
                                        "cs   0000 attr a9b limit ffffffff base 0000000000000000",
                                        "gs   0000",
                                        "asid 1 tlb 0",
                                        "n_cr3 108000"};
    struct vmcb b = sixty_four_bit();
    unsigned lines = 0;

    b.exit_code = VMEXIT_IOIO;
    b.exit_info1 = 0x3f80018;
    b.fetched_bytes = 2;
    memcpy(b.instruction, "\x0f\xa2\x90", 3);
    b.cpl = 3;
    logged[0] = 0;
    svm_dump(&b);
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
        if (!strstr(logged, parts[i]))
            fail_msg("no '%s' in:\n%s", parts[i], logged);
    for (const char *p = logged; (p = strchr(p, '\n')); p++)
        lines++;
    assert_in_range(lines, 10, 16);
    b.fetched_bytes = 0xff; /* whatever the field says, only its 15 bytes */
    svm_dump(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_every_mode),
        cmocka_unit_test(each_rule),
        cmocka_unit_test(every_rule_has_a_case),
        cmocka_unit_test(error_codes_in_real_mode),
        cmocka_unit_test(dump),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
