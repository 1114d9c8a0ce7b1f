/* sources: hypervisor/pv/cpuid.c */
/* CPUID policy, over a processor that has every feature, and one that has none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "cpu/cpu.h"
#include "cpu/fpu.h"
#include "domain/domain.h"
#include "hvm/hvm.h"
#include "pv/cpuid.h"
#include "pv/traps.h"
#include "sched/time.h"

struct cpu_features cpu_features;
struct time_scale time_scale;
uint64_t fpu_xcr0_max(void) { return 7; }
bool hvm_has_xsave(const struct vcpu *v) { return false; }

/* ----- fake processors ----- */

static struct cpuid_regs full(uint32_t leaf, uint32_t subleaf)
{
    switch (leaf) {
    case 0:
        return (struct cpuid_regs){0x20, 0x68747541, 0x444d4163, 0x69746e65};
    case 0x80000000:
        return (struct cpuid_regs){0x80000028, 0x68747541, 0x444d4163, 0x69746e65};
    case 0xd:
        if (subleaf == 0)
            return (struct cpuid_regs){~0U, 832, 11008, ~0U};
        if (subleaf == 2)
            return (struct cpuid_regs){256, 576, 0, 0};
        if (subleaf >= 5 && subleaf <= 7)
            return (struct cpuid_regs){subleaf == 5   ? 64
                                       : subleaf == 6 ? 512
                                                      : 1024,
                                       subleaf == 5   ? 1088
                                       : subleaf == 6 ? 1152
                                                      : 1664,
                                       0, 0};
        break;
    }
    return (struct cpuid_regs){~0U, ~0U, ~0U, ~0U};
}
static struct cpuid_regs none(uint32_t leaf, uint32_t subleaf)
{
    return (struct cpuid_regs){leaf == 0 ? 1 : leaf == 0x80000000 ? 0x80000008 : 0, 0, 0, 0};
}

static struct cpuid_view view(void)
{
    return (struct cpuid_view){.host = full,
                               .amd = true,
                               .vcpu_count = 1,
                               .xcr0_max = 0xe7,
                               .machine_address_bits = 40,
                               .tsc_reliable = true,
                               .tsc_khz = 2000000,
                               .tsc_mul = 0x80000000,
                               .tsc_shift = 0};
}

/* The default policy of that processor */
static struct cpuid_regs ask(const struct cpuid_view *w, uint32_t leaf, uint32_t subleaf)
{
    struct cpu_policy p;

    cpu_policy_make(&p, w, false);
    return cpuid_policy(&p, w, leaf, subleaf);
}

#define BIT(name) (1U << (XEN_X86_FEATURE_##name % 32))
#define HIDDEN(r, name)                                                                                                \
    do {                                                                                                               \
        if ((r)&BIT(name))                                                                                             \
            fail_msg(#name " is shown");                                                                               \
    } while (0)
#define SHOWN(r, name)                                                                                                 \
    do {                                                                                                               \
        if (!((r)&BIT(name)))                                                                                          \
            fail_msg(#name " is hidden");                                                                              \
    } while (0)

static void hidden(void **state)
{
    struct cpuid_view w = view();
    struct cpuid_regs r;

    for (int hardware = 0; hardware < 2; hardware++) {
        w.hardware_domain = hardware;
        r = ask(&w, 1, 0);
        HIDDEN(r.c, VMX);
        HIDDEN(r.c, SMX);
        HIDDEN(r.c, MONITOR);
        HIDDEN(r.c, PCID);
        HIDDEN(r.c, X2APIC);
        HIDDEN(r.c, TSC_DEADLINE);
        HIDDEN(r.c, PDCM);
        HIDDEN(r.c, DTES64);
        HIDDEN(r.d, VME);
        HIDDEN(r.d, PSE);
        HIDDEN(r.d, PGE);
        HIDDEN(r.d, PSE36);
        HIDDEN(r.d, MTRR);
        HIDDEN(r.d, DS);
        r = ask(&w, 7, 0);
        HIDDEN(r.b, SMEP);
        HIDDEN(r.b, SMAP);
        HIDDEN(r.b, INVPCID);
        HIDDEN(r.b, MPX);
        HIDDEN(r.b, TSC_ADJUST);
        HIDDEN(r.b, PROC_TRACE);
        HIDDEN(r.b, RTM);
        HIDDEN(r.c, UMIP);
        HIDDEN(r.c, PKU);
        HIDDEN(r.c, OSPKE);
        HIDDEN(r.c, CET_SS);
        HIDDEN(r.c, ENQCMD);
        HIDDEN(r.d, CET_IBT);
        HIDDEN(r.d, IBRSB);
        HIDDEN(r.d, ARCH_CAPS);
        r = ask(&w, 0x80000001, 0);
        HIDDEN(r.c, SVM);
        HIDDEN(r.c, EXTAPIC);
        HIDDEN(r.c, CR8_LEGACY);
        HIDDEN(r.c, TOPOEXT);
        HIDDEN(r.c, DBEXT);
        HIDDEN(r.c, MONITORX);
        HIDDEN(r.d, PAGE1GB);
        HIDDEN(r.d, PSE);
        HIDDEN(r.d, PGE);
        HIDDEN(r.d, MTRR);
        HIDDEN(ask(&w, 0xd, 1).a, XSAVES);
    }
}

static void shown(void **state)
{
    struct cpuid_view w = view();
    struct cpuid_regs r = ask(&w, 1, 0);

    SHOWN(r.c, SSE4_2);
    SHOWN(r.c, CX16);
    SHOWN(r.c, XSAVE);
    SHOWN(r.c, OSXSAVE);
    SHOWN(r.c, AVX);
    SHOWN(r.c, HYPERVISOR);
    SHOWN(r.d, FPU);
    SHOWN(r.d, APIC);
    SHOWN(r.d, MCE);
    SHOWN(r.d, SSE2);
    r = ask(&w, 7, 0);
    SHOWN(r.b, FSGSBASE);
    SHOWN(r.b, AVX2);
    SHOWN(r.b, AVX512F);
    SHOWN(r.b, ERMS);
    r = ask(&w, 0x80000001, 0);
    SHOWN(r.d, SYSCALL);
    SHOWN(r.d, NX);
    SHOWN(r.d, LM);
    SHOWN(r.d, RDTSCP);
    SHOWN(r.d, FPU);
    SHOWN(r.c, LAHF_LM);
}

/* Nothing is shown that the processor has not got, but for what is made up. */
static void nothing_invented(void **state)
{
    struct cpuid_view w = view();
    struct cpuid_regs r;

    w.host = none;
    w.xcr0_max = 0;
    r = ask(&w, 1, 0);
    assert_int_equal(r.c, BIT(HYPERVISOR));
    assert_int_equal(r.d, 0);
    for (uint32_t leaf = 2; leaf < 0x30; leaf++) {
        r = ask(&w, leaf, 0);
        assert_int_equal(r.a | r.b | r.c | r.d, 0);
    }
    for (uint32_t leaf = 0x80000001; leaf < 0x80000030; leaf++) {
        r = ask(&w, leaf, 0);
        assert_int_equal(r.a | r.b | r.c | r.d, 0);
    }
}

static void without_xsave(void **state)
{
    struct cpuid_view w = view();
    struct cpuid_regs r;

    w.xcr0_max = 0;
    r = ask(&w, 1, 0);
    HIDDEN(r.c, XSAVE);
    HIDDEN(r.c, OSXSAVE);
    HIDDEN(r.c, AVX);
    HIDDEN(ask(&w, 7, 0).b, AVX2);
    HIDDEN(ask(&w, 7, 0).b, AVX512F);
    assert_int_equal(ask(&w, 0xd, 0).a, 0);
    w.xcr0_max = 7;
    SHOWN(ask(&w, 7, 0).b, AVX2);
    HIDDEN(ask(&w, 7, 0).b, AVX512F);
    HIDDEN(ask(&w, 7, 1).a, AVX512_BF16);
}

static void xstate(void **state)
{
    struct cpuid_view w = view();
    struct cpuid_regs r;

    w.xcr0_max = 7;
    r = ask(&w, 0xd, 0);
    assert_int_equal(r.a, 7);
    assert_int_equal(r.b, 832);
    assert_int_equal(r.c, 832);
    assert_int_equal(r.d, 0);
    w.xcr0_max = 0xe7;
    assert_int_equal(ask(&w, 0xd, 0).c, 1664 + 1024);
    w.xcr0_max = 3;
    assert_int_equal(ask(&w, 0xd, 0).c, 576);
    assert_int_equal(ask(&w, 0xd, 2).a, 0);
    assert_int_equal(ask(&w, 0xd, 9).a, 0); /* PKRU */
    assert_int_equal(ask(&w, 0xd, 64).a, 0);
    assert_int_equal(ask(&w, 0xd, ~0U).a, 0);
}

static void limits(void **state)
{
    struct cpuid_view w = view();

    assert_int_equal(ask(&w, 0, 0).a, 0xd);
    assert_int_equal(ask(&w, 0, 0).b, 0x68747541);
    assert_int_equal(ask(&w, 0x80000000, 0).a, 0x80000021);
    assert_int_equal(ask(&w, 0xe, 0).a, 0);
    assert_int_equal(ask(&w, 0xa, 0).a, 0);        /* performance counters */
    assert_int_equal(ask(&w, 0x8000000a, 0).a, 0); /* SVM */
    assert_int_equal(ask(&w, 0x8000001f, 0).a, 0); /* memory encryption */
    assert_int_equal(ask(&w, 0xffffffff, 0).a, 0);
    w.amd = false;
    assert_int_equal(ask(&w, 0x80000000, 0).a, 0x80000008);
}

static void topology(void **state)
{
    struct cpuid_view w = view();
    struct cpuid_regs r;

    r = ask(&w, 1, 0);
    assert_int_equal(r.b >> 24, 0);
    assert_int_equal(r.b >> 16 & 0xff, 1);
    HIDDEN(r.d, HTT);

    w.vcpu_count = 3;
    w.vcpu_id = 2;
    r = ask(&w, 1, 0);
    assert_int_equal(r.b >> 24, 4);
    assert_int_equal(r.b >> 16 & 0xff, 8); /* ids 0, 2, 4 take three bits */
    SHOWN(r.d, HTT);
    r = ask(&w, 0x80000008, 0);
    assert_int_equal(r.a >> 8, 48);
    assert_int_equal(r.c >> 12 & 15, 3);
    assert_int_equal(r.c & 0xff, 7);
    r = ask(&w, 0xb, 0);
    assert_int_equal(r.a, 1);
    assert_int_equal(r.b, 1);
    assert_int_equal(r.c, 0x100);
    assert_int_equal(r.d, 4);
    r = ask(&w, 0xb, 1);
    assert_int_equal(r.a, 3);
    assert_int_equal(r.b, 3);
    assert_int_equal(r.c, 0x201);
    r = ask(&w, 0xb, 2);
    assert_int_equal(r.a | r.b, 0);
    assert_int_equal(r.c, 2);

    /* Ids of different vcpus differ below the package's shift, for every count. */
    for (w.vcpu_count = 1; w.vcpu_count <= 128; w.vcpu_count++) {
        w.vcpu_id = w.vcpu_count - 1;
        assert_true(w.vcpu_id * 2 < 1U << ask(&w, 0xb, 1).a);
    }
    w.amd = false;
    w.vcpu_count = 4;
    r = ask(&w, 4, 0);
    assert_int_equal(r.a >> 26, 3);
}

static void hypervisor_leaves(void **state)
{
    struct cpuid_view w = view();
    struct cpuid_regs r = ask(&w, 0x40000000, 0);
    char signature[13] = {0};

    memcpy(signature, &r.b, 4);
    memcpy(signature + 4, &r.c, 4);
    memcpy(signature + 8, &r.d, 4);
    assert_string_equal(signature, "XenVMMXenVMM");
    assert_int_equal(r.a, 0x40000005);
    assert_int_equal(ask(&w, 0x40000001, 0).a, 0x40011);
    assert_int_equal(ask(&w, 0x40000002, 0).a, 1);
    assert_int_equal(ask(&w, 0x40000003, 0).c, 2000000);
    assert_int_equal(ask(&w, 0x40000003, 0).a, 6);
    assert_int_equal(ask(&w, 0x40000003, 1).c, 0x80000000);
    assert_int_equal(ask(&w, 0x40000003, 2).a, 2000000);
    assert_int_equal(ask(&w, 0x40000005, 0).b, 40);
    for (uint32_t leaf = 0x40000006; leaf < 0x40010000; leaf++) {
        r = ask(&w, leaf, 0);
        assert_int_equal(r.a | r.b | r.c | r.d, 0);
    }
}

static void invariant_tsc(void **state)
{
    struct cpuid_view w = view();

    HIDDEN(ask(&w, 0x80000007, 0).d, ITSC);
    w.hardware_domain = true;
    assert_int_equal(ask(&w, 0x80000007, 0).d, BIT(ITSC));
    w.tsc_reliable = false;
    assert_int_equal(ask(&w, 0x80000007, 0).d, 0);
}

/* The real way in, on the processor that runs the test */
static void on_this_processor(void **state)
{
    static struct domain d = {.is_hardware = true, .vcpu_count = 2};
    static struct vcpu v = {.domain = &d, .id = 1};
    uint32_t out[4];

    cpuid_init();
    pv_cpuid(&v, 1, 0, out);
    assert_int_equal(out[1] >> 24, 2);
    SHOWN(out[2], HYPERVISOR);
    HIDDEN(out[2], VMX);
    SHOWN(out[3], SSE2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hidden),           cmocka_unit_test(shown),
        cmocka_unit_test(nothing_invented), cmocka_unit_test(without_xsave),
        cmocka_unit_test(xstate),           cmocka_unit_test(limits),
        cmocka_unit_test(topology),         cmocka_unit_test(hypervisor_leaves),
        cmocka_unit_test(invariant_tsc),    cmocka_unit_test(on_this_processor),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
