/*
 * The rules for a VMCB: first those whose breach VMRUN answers with VMEXIT_INVALID, which says nothing about what was wrong (AMD64
 * APM volume 2, 15.5.1, and what it refers to), then those without which the guest would not be confined. Each rule is a condition
 * that must not hold, and in the table its text. RIP has no rule: a RIP that is not canonical is the guest's own #GP.
 *
 * A guest changes much of this state without an exit. What it can reach so and VMRUN accepts, no rule forbids.
 */
#include "hvm/svm_audit.h"

#include "cpu/instr.h"
#include "hvm/vmcb.h"
#include "lib/log.h"
#include "lib/printf.h"

#define RULE(name, broken)                                                                                             \
    static bool name(const struct vmcb *b, const struct svm_limits *l) { return broken; }

/* S_CET: SH_STK_EN and WR_SHSTK_EN. The processor has no indirect branch tracking. */
#define S_CET_BITS 3UL
/* vintr (appendix B, offset 60h): enable bits of x2AVIC and AVIC */
#define VINTR_AVIC (3UL << 30)
#define EVENT_RESERVED 0x7ffff000UL
#define TLB_FLUSH_THIS_ASID_NOT_GLOBAL 7

#define V(name) (1U << X86_##name)
/* Not 28 to 30: #HV, #VC and #SX come with SEV and INIT redirection, which no guest has. */
#define EXCEPTIONS                                                                                                     \
    (V(DE) | V(DB) | V(BP) | V(OF) | V(BR) | V(UD) | V(NM) | V(DF) | V(TS) | V(NP) | V(SS) | V(GP) | V(PF) | V(MF) |   \
     V(AC) | V(MC) | V(XM) | V(CP))
#define EXCEPTIONS_WITH_ERROR (V(DF) | V(TS) | V(NP) | V(SS) | V(GP) | V(PF) | V(AC) | V(CP))

static bool long_mode(const struct vmcb *b) { return b->efer & EFER_LME && b->cr0 & CR0_PG; }
static bool nested_paging(const struct vmcb *b) { return b->np_control & NESTED_PAGING; }
static bool beyond_memory(uint64_t address, uint64_t bytes, const struct svm_limits *l)
{
    return (address & PAGE_MASK) > (1UL << l->physical_bits) - bytes; /* the low bits are ignored */
}
static bool page(uint64_t address) { return address && !(address & ~PAGE_MASK); }
static bool injects_any(const struct vmcb *b) { return b->event_injection & EVENT_VALID; }
static bool injects(const struct vmcb *b, uint64_t type)
{
    return (b->event_injection & (EVENT_VALID | EVENT_TYPE)) == (EVENT_VALID | type);
}
static bool injects_exception(const struct vmcb *b, uint32_t set)
{
    uint64_t vector = b->event_injection & EVENT_VECTOR;

    return injects(b, EVENT_TYPE_EXCEPTION) && vector < 32 && set >> vector & 1;
}
/* PAT's types: UC, WC, WT, WP, WB, UC- (APM volume 2, 7.8.1) */
static bool pat_legal(uint64_t pat)
{
    for (; pat; pat >>= 8)
        if ((pat & 0xff) > 7 || (pat & 0xff) == 2 || (pat & 0xff) == 3)
            return false;
    return true;
}

/* What VMRUN refuses: 15.5.1 in its order */
RULE(svme_clear, !(b->efer & EFER_SVME))
RULE(nw_without_cd, (b->cr0 & (CR0_CD | CR0_NW)) == CR0_NW)
RULE(cr0_high, b->cr0 >> 32)
RULE(cr3_mbz, b->cr3 >> l->physical_bits)
RULE(cr4_mbz, b->cr4 & ~l->cr4)
RULE(dr6_high, b->dr6 >> 32)
RULE(dr7_high, b->dr7 >> 32)
RULE(efer_mbz, b->efer & ~l->efer)
RULE(no_long_mode, !l->long_mode && (b->efer & (EFER_LMA | EFER_LME)))
RULE(long_without_pae, long_mode(b) && !(b->cr4 & CR4_PAE))
RULE(long_without_pe, long_mode(b) && !(b->cr0 & CR0_PE))
RULE(long_cs_l_and_d, long_mode(b) && b->cr4 & CR4_PAE && b->cs.attributes & SEGMENT_L && b->cs.attributes & SEGMENT_DB)
RULE(vmrun_allowed, !(b->intercepts[INTERCEPT_MISC2] & INTERCEPT_VMRUN))
RULE(msr_map_beyond, beyond_memory(b->msr_map, MSR_MAP_BYTES, l))
RULE(io_map_beyond, beyond_memory(b->io_map, IO_MAP_BYTES, l))
/* 15.20 */
RULE(event_type, injects_any(b) && !injects(b, EVENT_TYPE_INTR) && !injects(b, EVENT_TYPE_NMI) &&
                     !injects(b, EVENT_TYPE_EXCEPTION) && !injects(b, EVENT_TYPE_SOFTWARE))
RULE(event_nmi_as_exception, injects_exception(b, V(NMI)))
RULE(event_no_exception, injects(b, EVENT_TYPE_EXCEPTION) && !injects_exception(b, EXCEPTIONS))
RULE(event_cp_without_cet, injects_exception(b, V(CP)) && !(l->cr4 & CR4_CET))
RULE(event_not_in_64_bit, injects_exception(b, V(OF) | V(BR)) && long_mode(b) && b->cs.attributes & SEGMENT_L)
/* 15.5.1 again; 15.16 */
RULE(asid_zero, !b->asid)
RULE(asid_beyond, b->asid >= l->asids)
RULE(s_cet_reserved, b->s_cet & ~S_CET_BITS)
RULE(cet_without_wp, !(b->cr0 & CR0_WP) && b->cr4 & CR4_CET)
/* 15.25.4 */
RULE(n_cr3_mbz, nested_paging(b) && b->n_cr3 >> l->physical_bits)
RULE(g_pat_type, nested_paging(b) && !pat_legal(b->g_pat))

/*
 * What VMRUN, VMLOAD and the exit would silently change: they sign-extend addresses. Not SYSENTER_ESP and SYSENTER_EIP, which
 * have 32 bits: WRMSR takes any value.
 */
RULE(es_base, !address_canonical(b->es.base))
RULE(cs_base, !address_canonical(b->cs.base))
RULE(ss_base, !address_canonical(b->ss.base))
RULE(ds_base, !address_canonical(b->ds.base))
RULE(fs_base, !address_canonical(b->fs.base))
RULE(gs_base, !address_canonical(b->gs.base))
RULE(gdtr_base, !address_canonical(b->gdtr.base))
RULE(ldtr_base, !address_canonical(b->ldtr.base))
RULE(idtr_base, !address_canonical(b->idtr.base))
RULE(tr_base, !address_canonical(b->tr.base))
RULE(kernel_gs_base, !address_canonical(b->kernel_gs_base))
RULE(lstar, !address_canonical(b->lstar))
RULE(cstar, !address_canonical(b->cstar))
RULE(ssp, !address_canonical(b->ssp))
RULE(isst, !address_canonical(b->isst))

/* Croft's own: a state that a processor is never in, or an event that it would never deliver so, though VMRUN may load it */
RULE(lma_wrong, !(b->efer & EFER_LMA) == long_mode(b))
RULE(pcide_not_long, !(b->efer & EFER_LMA) && b->cr4 & CR4_PCIDE)
RULE(error_code_extra, injects_any(b) && b->event_injection & EVENT_HAS_ERROR &&
                           !(injects_exception(b, EXCEPTIONS_WITH_ERROR) && b->cr0 & CR0_PE))
RULE(error_code_missing,
     injects_exception(b, EXCEPTIONS_WITH_ERROR) && b->cr0 & CR0_PE && !(b->event_injection & EVENT_HAS_ERROR))
RULE(event_reserved, injects_any(b) && b->event_injection & EVENT_RESERVED)
RULE(tlb_control_reserved, b->tlb_control != TLB_FLUSH_NOTHING && b->tlb_control != TLB_FLUSH_ALL_ASIDS &&
                               b->tlb_control != TLB_FLUSH_THIS_ASID &&
                               b->tlb_control != TLB_FLUSH_THIS_ASID_NOT_GLOBAL)
RULE(tlb_control_missing, b->tlb_control > TLB_FLUSH_ALL_ASIDS && !l->flush_by_asid)

/* Croft's own: what confines a guest. What must be intercepted has a table of its own. */
RULE(no_intr_masking, !(b->vintr & VINTR_MASKING))
RULE(no_nested_paging, !nested_paging(b))
RULE(np_control_more, b->np_control & ~NESTED_PAGING)
RULE(avic, (b->vintr & VINTR_AVIC) != 0)
RULE(lbr, b->lbr_control)
RULE(io_map_no_page, !page(b->io_map))
RULE(msr_map_no_page, !page(b->msr_map))
RULE(n_cr3_no_page, !page(b->n_cr3))

static const struct rule {
    bool (*broken)(const struct vmcb *b, const struct svm_limits *l);
    const char *text;
} rules[] = {
    {svme_clear, "EFER.SVME is zero"},
    {nw_without_cd, "CR0.NW without CR0.CD"},
    {cr0_high, "CR0[63:32] is not zero"},
    {cr3_mbz, "CR3 has bits beyond the physical addresses"},
    {cr4_mbz, "CR4 has bits that the processor does not have"},
    {dr6_high, "DR6[63:32] is not zero"},
    {dr7_high, "DR7[63:32] is not zero"},
    {efer_mbz, "EFER has bits that the processor does not have"},
    {no_long_mode, "EFER.LMA or EFER.LME, and the processor has no long mode"},
    {long_without_pae, "EFER.LME and CR0.PG without CR4.PAE"},
    {long_without_pe, "EFER.LME and CR0.PG without CR0.PE"},
    {long_cs_l_and_d, "CS.L and CS.D in long mode"},
    {vmrun_allowed, "VMRUN is not intercepted"},
    {msr_map_beyond, "MSRPM_BASE_PA: the map ends beyond the physical addresses"},
    {io_map_beyond, "IOPM_BASE_PA: the map ends beyond the physical addresses"},
    {event_type, "EVENTINJ: reserved type"},
    {event_nmi_as_exception, "EVENTINJ: NMI as an exception"},
    {event_no_exception, "EVENTINJ: no exception has this vector"},
    {event_cp_without_cet, "EVENTINJ: #CP, and the processor has no CET"},
    {event_not_in_64_bit, "EVENTINJ: #OF or #BR in 64-bit mode"},
    {asid_zero, "ASID is zero"},
    {asid_beyond, "ASID is beyond what the processor has"},
    {s_cet_reserved, "S_CET has reserved bits"},
    {cet_without_wp, "CR4.CET without CR0.WP"},
    {n_cr3_mbz, "N_CR3 has bits beyond the physical addresses"},
    {g_pat_type, "G_PAT has a reserved type"},
    {es_base, "ES.base is not canonical: the processor would change it"},
    {cs_base, "CS.base is not canonical: the processor would change it"},
    {ss_base, "SS.base is not canonical: the processor would change it"},
    {ds_base, "DS.base is not canonical: the processor would change it"},
    {fs_base, "FS.base is not canonical: the processor would change it"},
    {gs_base, "GS.base is not canonical: the processor would change it"},
    {gdtr_base, "GDTR.base is not canonical: the processor would change it"},
    {ldtr_base, "LDTR.base is not canonical: the processor would change it"},
    {idtr_base, "IDTR.base is not canonical: the processor would change it"},
    {tr_base, "TR.base is not canonical: the processor would change it"},
    {kernel_gs_base, "KernelGsBase is not canonical: the processor would change it"},
    {lstar, "LSTAR is not canonical: the processor would change it"},
    {cstar, "CSTAR is not canonical: the processor would change it"},
    {ssp, "SSP is not canonical: the processor would change it"},
    {isst, "ISST_ADDR is not canonical: the processor would change it"},
    {lma_wrong, "EFER.LMA is not what EFER.LME and CR0.PG make it"},
    {pcide_not_long, "CR4.PCIDE without long mode"},
    {error_code_extra, "EVENTINJ: an error code with an event that has none"},
    {error_code_missing, "EVENTINJ: an exception without its error code"},
    {event_reserved, "EVENTINJ has reserved bits"},
    {tlb_control_reserved, "TLB_CONTROL: reserved value"},
    {tlb_control_missing, "TLB_CONTROL: the processor has no FlushByAsid"},
    {no_intr_masking, "V_INTR_MASKING is off: the guest could block interrupts"},
    {no_nested_paging, "NP_ENABLE is off: the guest would use machine addresses"},
    {np_control_more, "a bit beside NP_ENABLE is on (SEV, GMET)"},
    {avic, "AVIC is on"},
    {lbr, "LBR virtualization, or that of VMLOAD and VMSAVE, is on"},
    {io_map_no_page, "IOPM_BASE_PA is zero or not a page"},
    {msr_map_no_page, "MSRPM_BASE_PA is zero or not a page"},
    {n_cr3_no_page, "N_CR3 is zero or not a page"},
};

/* SMI is the firmware's. A #DB or #AC whose delivery raises itself never ends, and no interrupt is taken in between. */
static const struct intercept_rule {
    enum intercept_word word;
    uint32_t bit;
    const char *text;
} intercept_rules[] = {
    {INTERCEPT_EXCEPTIONS, V(DB), "#DB is not intercepted: it can loop for ever (CVE-2015-8104)"},
    {INTERCEPT_EXCEPTIONS, V(AC), "#AC is not intercepted: it can loop for ever (CVE-2015-5307)"},
    {INTERCEPT_EXCEPTIONS, V(MC), "#MC is not intercepted"},
    {INTERCEPT_MISC1, INTERCEPT_INTR, "INTR is not intercepted"},
    {INTERCEPT_MISC1, INTERCEPT_NMI, "NMI is not intercepted"},
    {INTERCEPT_MISC1, INTERCEPT_INIT, "INIT is not intercepted"},
    {INTERCEPT_MISC1, INTERCEPT_RDPMC, "RDPMC is not intercepted"},
    {INTERCEPT_MISC1, INTERCEPT_CPUID, "CPUID is not intercepted"},
    {INTERCEPT_MISC1, INTERCEPT_INVD, "INVD is not intercepted"},
    {INTERCEPT_MISC1, INTERCEPT_HLT, "HLT is not intercepted"},
    {INTERCEPT_MISC1, INTERCEPT_INVLPGA, "INVLPGA is not intercepted"},
    {INTERCEPT_MISC1, INTERCEPT_IOIO, "IOIO_PROT is off: the guest has all ports"},
    {INTERCEPT_MISC1, INTERCEPT_MSR, "MSR_PROT is off: the guest has all MSRs"},
    {INTERCEPT_MISC1, INTERCEPT_TASK_SWITCH, "task switches are not intercepted"},
    {INTERCEPT_MISC1, INTERCEPT_SHUTDOWN, "shutdown is not intercepted: it would be the machine's"},
    {INTERCEPT_MISC2, INTERCEPT_VMMCALL, "VMMCALL is not intercepted"},
    {INTERCEPT_MISC2, INTERCEPT_VMLOAD, "VMLOAD is not intercepted"},
    {INTERCEPT_MISC2, INTERCEPT_VMSAVE, "VMSAVE is not intercepted"},
    {INTERCEPT_MISC2, INTERCEPT_STGI, "STGI is not intercepted"},
    {INTERCEPT_MISC2, INTERCEPT_CLGI, "CLGI is not intercepted"},
    {INTERCEPT_MISC2, INTERCEPT_SKINIT, "SKINIT is not intercepted"},
    {INTERCEPT_MISC2, INTERCEPT_WBINVD, "WBINVD is not intercepted"},
    {INTERCEPT_MISC2, INTERCEPT_MONITOR, "MONITOR is not intercepted"},
    {INTERCEPT_MISC2, INTERCEPT_MWAIT, "MWAIT is not intercepted"},
    {INTERCEPT_MISC2, INTERCEPT_XSETBV, "XSETBV is not intercepted"},
};

const char *svm_audit(const struct vmcb *b, const struct svm_limits *l)
{
    for (unsigned i = 0; i < ARRAY_SIZE(rules); i++)
        if (rules[i].broken(b, l))
            return rules[i].text;
    for (unsigned i = 0; i < ARRAY_SIZE(intercept_rules); i++)
        if (!(b->intercepts[intercept_rules[i].word] & intercept_rules[i].bit))
            return intercept_rules[i].text;
    return NULL;
}

unsigned svm_audit_rules(const char **texts, unsigned n)
{
    for (unsigned i = 0; i < ARRAY_SIZE(rules) && i < n; i++)
        texts[i] = rules[i].text;
    for (unsigned i = 0; i < ARRAY_SIZE(intercept_rules) && ARRAY_SIZE(rules) + i < n; i++)
        texts[ARRAY_SIZE(rules) + i] = intercept_rules[i].text;
    return ARRAY_SIZE(rules) + ARRAY_SIZE(intercept_rules);
}

static void dump_segments(const char *n1, const struct vmcb_segment *s1, const char *n2, const struct vmcb_segment *s2)
{
    log_info("%-4s %04x attr %03x limit %08x base %016lx  %-4s %04x attr %03x limit %08x base %016lx\n", n1,
             s1->selector, s1->attributes, s1->limit, s1->base, n2, s2->selector, s2->attributes, s2->limit, s2->base);
}

static void dump_controls(const struct vmcb *b)
{
    const uint32_t *i = b->intercepts;

    log_info("intercepts cr %08x dr %08x exceptions %08x misc %08x %08x %08x\n", i[INTERCEPT_CR], i[INTERCEPT_DR],
             i[INTERCEPT_EXCEPTIONS], i[INTERCEPT_MISC1], i[INTERCEPT_MISC2], i[INTERCEPT_MISC3]);
    log_info("io map %lx msr map %lx n_cr3 %lx np %lx lbr %lx clean %lx tsc offset %016lx\n", b->io_map, b->msr_map,
             b->n_cr3, b->np_control, b->lbr_control, b->clean, b->tsc_offset);
    log_info("asid %u tlb %u vintr %016lx shadow %lx inject %016lx\n", b->asid, b->tlb_control, b->vintr,
             b->interrupt_shadow, b->event_injection);
}

static void dump_exit(const struct vmcb *b)
{
    char bytes[2 * sizeof(b->instruction) + 1] = "";

    for (unsigned i = 0; i < b->fetched_bytes && i < sizeof(b->instruction); i++)
        snprintf(bytes + 2 * i, sizeof(bytes) - 2 * i, "%02x", b->instruction[i]);
    log_info("exit %lx info %016lx %016lx during %016lx next rip %016lx bytes %s\n", b->exit_code, b->exit_info1,
             b->exit_info2, b->exit_int_info, b->next_rip, bytes);
}

void svm_dump(const struct vmcb *b)
{
    dump_exit(b);
    log_info("rip %016lx rsp %016lx rax %016lx rflags %08lx cpl %u\n", b->rip, b->rsp, b->rax, b->rflags, b->cpl);
    log_info("cr0 %08lx cr2 %016lx cr3 %016lx cr4 %08lx efer %lx\n", b->cr0, b->cr2, b->cr3, b->cr4, b->efer);
    log_info("dr6 %08lx dr7 %08lx pat %016lx s_cet %lx ssp %016lx\n", b->dr6, b->dr7, b->g_pat, b->s_cet, b->ssp);
    dump_segments("cs", &b->cs, "ss", &b->ss);
    dump_segments("ds", &b->ds, "es", &b->es);
    dump_segments("fs", &b->fs, "gs", &b->gs);
    dump_segments("gdtr", &b->gdtr, "idtr", &b->idtr);
    dump_segments("ldtr", &b->ldtr, "tr", &b->tr);
    log_info("star %016lx lstar %016lx cstar %016lx sfmask %lx\n", b->star, b->lstar, b->cstar, b->sfmask);
    log_info("kernel gs %016lx sysenter %lx:%016lx esp %016lx\n", b->kernel_gs_base, b->sysenter_cs, b->sysenter_eip,
             b->sysenter_esp);
    dump_controls(b);
}
