/* sources: hypervisor/pv/cpu_policy.c hypervisor/pv/cpuid.c */
/* CPU policies in the ABI's form: what is listed, what is refused, and what comes back. */
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
#include "hvm/hvm.h"
#include "memory/alloc.h"
#include "pv/cpu_policy.h"
#include "pv/cpuid.h"
#include "sched/time.h"

struct cpu_features cpu_features;
struct time_scale time_scale;

static struct percpu cpu;
static struct domain dom0, dom1;
static struct vcpu vcpu0 = {.domain = &dom0};
static unsigned allocated;
static const void *hole; /* guest address that faults */

static const char *missing;
const char *hvm_missing(void) { return missing; }
bool hvm_has_xsave(const struct vcpu *v) { return false; }
uint64_t fpu_xcr0_max(void) { return 7; }
struct percpu *this_cpu(void) { return &cpu; }
bool rdmsr_safe(uint32_t msr, uint64_t *value) { return false; }
void *heap_alloc(size_t size)
{
    allocated++;
    return calloc(1, size);
}
void heap_free(void *p)
{
    allocated -= p != NULL;
    free(p);
}
size_t copy_from_guest(void *to, const void *guest, size_t n)
{
    if (guest == hole)
        return n;
    memcpy(to, guest, n);
    return 0;
}
size_t copy_to_guest(void *guest, const void *from, size_t n)
{
    if (guest == hole)
        return n;
    memcpy(guest, from, n);
    return 0;
}

#define BIT(name) (1U << (XEN_X86_FEATURE_##name % 32))
#define ROOM 256

static xen_cpuid_leaf_t leaves[ROOM];
static xen_msr_entry_t msrs[8];
static uint32_t nr_leaves;

/* A processor of AMD's with AVX and an invariant TSC, without AVX-512 */
static struct cpuid_regs processor(uint32_t leaf, uint32_t subleaf)
{
    switch (leaf) {
    case 0:
        return (struct cpuid_regs){0xd, 0x68747541, 0x444d4163, 0x69746e65};
    case 1:
        return (struct cpuid_regs){0x60fb1, 0x800, ~BIT(RDRAND), ~0U};
    case 7:
        return subleaf ? (struct cpuid_regs){0} : (struct cpuid_regs){0, BIT(AVX2) | BIT(BMI1) | BIT(SMEP), 0, 0};
    case 0xd:
        return subleaf == 0   ? (struct cpuid_regs){7, 832, 832, 0}
               : subleaf == 1 ? (struct cpuid_regs){BIT(XSAVEOPT) | BIT(XSAVEC) | BIT(XSAVES), 832, 0, 0}
               : subleaf == 2 ? (struct cpuid_regs){256, 576, 0, 0}
                              : (struct cpuid_regs){0};
    case 0x80000000:
        return (struct cpuid_regs){0x80000021, 0x68747541, 0x444d4163, 0x69746e65};
    case 0x80000001:
        return (struct cpuid_regs){0x60fb1, 0, ~0U, ~0U};
    case 0x80000007:
        return (struct cpuid_regs){0, 0, 0, BIT(ITSC)};
    case 0x80000008:
        return (struct cpuid_regs){0x3030, ~0U, 0x1001, 0};
    }
    return (struct cpuid_regs){0};
}

static int setup(void **state)
{
    struct cpuid_view view = {.host = processor, .amd = true, .vcpu_count = 1, .xcr0_max = 7, .tsc_reliable = true};

    cpu.current_vcpu = &vcpu0;
    cpu_features = (struct cpu_features){.amd = true, .xsave = true, .invariant_tsc = true};
    cpu_policy_make(&pv_max_policy, &view, true);
    cpu_policy_make(&pv_default_policy, &view, false);
    view.hvm = true;
    cpu_policy_make(&hvm_max_policy, &view, true);
    cpu_policy_make(&hvm_default_policy, &view, false);
    missing = NULL;
    dom1 = (struct domain){.id = 1, .name = "d1", .vcpu_count = 1};
    hole = NULL;
    fake_log_clear();
    return 0;
}

static int teardown(void **state)
{
    cpu_policy_destroy(&dom1);
    assert_int_equal(allocated, 0);
    return 0;
}

static int get_system(uint32_t index)
{
    struct xen_sysctl_cpu_policy op = {.index = index, .nr_leaves = ROOM, .nr_msrs = 8};
    int rc;

    set_xen_guest_handle(op.leaves, leaves);
    set_xen_guest_handle(op.msrs, msrs);
    rc = sysctl_get_cpu_policy(&op);
    nr_leaves = op.nr_leaves;
    return rc;
}

static int get_domain(void)
{
    struct xen_domctl_cpu_policy op = {.nr_leaves = ROOM, .nr_msrs = 8};
    int rc;

    set_xen_guest_handle(op.leaves, leaves);
    set_xen_guest_handle(op.msrs, msrs);
    rc = domctl_get_cpu_policy(&dom1, &op);
    nr_leaves = op.nr_leaves;
    return rc;
}

static struct xen_domctl_cpu_policy answer;
static int set_domain(uint32_t msr_count)
{
    answer = (struct xen_domctl_cpu_policy){.nr_leaves = nr_leaves, .nr_msrs = msr_count};
    set_xen_guest_handle(answer.leaves, leaves);
    set_xen_guest_handle(answer.msrs, msrs);
    return domctl_set_cpu_policy(&dom1, &answer);
}

static xen_cpuid_leaf_t *find(uint32_t leaf, uint32_t subleaf)
{
    for (unsigned i = 0; i < nr_leaves; i++)
        if (leaves[i].leaf == leaf && leaves[i].subleaf == subleaf)
            return &leaves[i];
    fail_msg("leaf %#x, %#x is not listed", leaf, subleaf);
    return NULL;
}

#define NO XEN_CPUID_NO_SUBLEAF

static void listing(void **state)
{
    struct xen_sysctl_cpu_policy op = {.index = XEN_SYSCTL_cpu_policy_pv_max};
    static const uint32_t there[] = {XEN_SYSCTL_cpu_policy_raw, XEN_SYSCTL_cpu_policy_host,
                                     XEN_SYSCTL_cpu_policy_pv_max, XEN_SYSCTL_cpu_policy_pv_default};

    /* How large? The tools' own lists, of at most 120 leaves, have to fit as well. */
    assert_int_equal(sysctl_get_cpu_policy(&op), 0);
    assert_true(op.nr_leaves >= 120 && op.nr_leaves <= ROOM);
    assert_int_equal(op.nr_msrs, 2);
    for (unsigned i = 0; i < ARRAY_SIZE(there); i++) {
        assert_int_equal(get_system(there[i]), 0);
        for (unsigned j = 1; j < nr_leaves; j++)
            assert_true(leaves[j - 1].leaf < leaves[j].leaf ||
                        (leaves[j - 1].leaf == leaves[j].leaf && leaves[j - 1].subleaf < leaves[j].subleaf));
        assert_true(nr_leaves <= op.nr_leaves);
        assert_int_equal(msrs[0].idx, 0xce);
        assert_int_equal(msrs[1].idx, 0x10a);
        find(0x40000000, NO);
    }
    assert_int_equal(find(0, NO)->a, 0xd);
    assert_int_equal(find(0xd, 0)->a, 7);
    assert_int_equal(find(0xd, 0)->b, 0);
    assert_int_equal(find(1, NO)->b >> 16, 0); /* nothing of a vcpu */
    assert_int_equal(find(1, NO)->c & BIT(OSXSAVE), 0);
    assert_int_equal(find(0x80000007, NO)->d, 0);
    assert_int_equal(get_system(XEN_SYSCTL_cpu_policy_pv_max), 0);
    assert_int_equal(find(0x80000007, NO)->d, BIT(ITSC));

    assert_int_equal(get_system(XEN_SYSCTL_cpu_policy_hvm_max), 0);
    assert_int_equal(find(0x80000007, NO)->d, BIT(ITSC));
    assert_int_equal(find(7, 0)->b & BIT(SMEP), BIT(SMEP));
    assert_int_equal(get_system(XEN_SYSCTL_cpu_policy_hvm_default), 0);
    assert_int_equal(find(0x80000007, NO)->d, 0);
    assert_int_equal(find(7, 0)->b & BIT(SMEP), BIT(SMEP));
    missing = "there is none";
    assert_int_equal(get_system(XEN_SYSCTL_cpu_policy_hvm_max), -EOPNOTSUPP);
    assert_int_equal(get_system(XEN_SYSCTL_cpu_policy_hvm_default), -EOPNOTSUPP);
    assert_int_equal(get_system(6), -EINVAL);
    op._rsvd = 1;
    assert_int_equal(sysctl_get_cpu_policy(&op), -EINVAL);
}

static void small_buffers(void **state)
{
    struct xen_sysctl_cpu_policy op = {.index = XEN_SYSCTL_cpu_policy_pv_max, .nr_leaves = 3, .nr_msrs = 2};

    memset(leaves, 0xee, sizeof(leaves));
    set_xen_guest_handle(op.leaves, leaves);
    set_xen_guest_handle(op.msrs, msrs);
    assert_int_equal(sysctl_get_cpu_policy(&op), -ENOBUFS);
    assert_int_equal(leaves[3].leaf, 0xeeeeeeee);
    op.nr_leaves = ROOM;
    op.nr_msrs = 1;
    assert_int_equal(sysctl_get_cpu_policy(&op), -ENOBUFS);
    op.nr_leaves = ROOM;
    hole = &leaves[5];
    assert_int_equal(sysctl_get_cpu_policy(&op), -EFAULT);
    hole = &msrs[1];
    op.nr_leaves = ROOM;
    op.nr_msrs = 2;
    assert_int_equal(sysctl_get_cpu_policy(&op), -EFAULT);
}

static void featuresets(void **state)
{
    uint32_t words[32];
    struct xen_sysctl_cpu_featureset op = {.index = XEN_SYSCTL_cpu_featureset_pv_max};

    assert_int_equal(sysctl_get_cpu_featureset(&op), 0);
    assert_int_equal(op.nr_features, 19);
    memset(words, 0xee, sizeof(words));
    set_xen_guest_handle(op.features, words);
    op.nr_features = 32;
    assert_int_equal(sysctl_get_cpu_featureset(&op), 0);
    assert_int_equal(op.nr_features, 19);
    assert_int_equal(words[19], 0xeeeeeeee);
    assert_true(words[XEN_X86_FEATURE_SSE2 / 32] & BIT(SSE2));
    assert_true(words[XEN_X86_FEATURE_AVX2 / 32] & BIT(AVX2));
    assert_true(words[XEN_X86_FEATURE_XSAVEC / 32] & BIT(XSAVEC));
    assert_true(words[XEN_X86_FEATURE_ITSC / 32] & BIT(ITSC));
    assert_false(words[XEN_X86_FEATURE_SMEP / 32] & BIT(SMEP));
    assert_false(words[XEN_X86_FEATURE_SVM / 32] & BIT(SVM));
    op.nr_features = 2;
    words[2] = 0xeeeeeeee;
    assert_int_equal(sysctl_get_cpu_featureset(&op), -ENOBUFS);
    assert_int_equal(op.nr_features, 2);
    assert_int_equal(words[2], 0xeeeeeeee);
    op.nr_features = 32;
    op.index = XEN_SYSCTL_cpu_featureset_hvm;
    assert_int_equal(sysctl_get_cpu_featureset(&op), 0);
    assert_true(words[XEN_X86_FEATURE_SMEP / 32] & BIT(SMEP));
    assert_false(words[XEN_X86_FEATURE_ITSC / 32] & BIT(ITSC));
    assert_false(words[XEN_X86_FEATURE_SVM / 32] & BIT(SVM));
    op.nr_features = 32;
    op.index = XEN_SYSCTL_cpu_featureset_hvm_max;
    assert_int_equal(sysctl_get_cpu_featureset(&op), 0);
    assert_true(words[XEN_X86_FEATURE_ITSC / 32] & BIT(ITSC));
    missing = "there is none";
    assert_int_equal(sysctl_get_cpu_featureset(&op), -EOPNOTSUPP);
    op.index = XEN_SYSCTL_cpu_featureset_hvm;
    assert_int_equal(sysctl_get_cpu_featureset(&op), -EOPNOTSUPP);
    op.index = 6;
    assert_int_equal(sysctl_get_cpu_featureset(&op), -EINVAL);
    op = (struct xen_sysctl_cpu_featureset){.index = XEN_SYSCTL_cpu_featureset_host, .nr_features = 19};
    set_xen_guest_handle(op.features, words);
    assert_int_equal(sysctl_get_cpu_featureset(&op), 0);
    assert_int_equal(words[5], host_feature_word(5));
    assert_false(words[5] & (BIT(SMEP) | BIT(SMAP))); /* switched off in cpu_features */
}

/* What the tools do for an ordinary domain: read the default, copy some bits from the machine, write it back. */
static void default_costs_nothing(void **state)
{
    assert_int_equal(get_system(XEN_SYSCTL_cpu_policy_pv_default), 0);
    find(1, NO)->d |= BIT(HTT);
    find(0x80000001, NO)->c |= BIT(CMP_LEGACY);
    find(7, 0)->b |= BIT(HLE) | BIT(RTM); /* for domains saved by old versions */
    pv_max_policy.extended[7].d = 0;
    find(0x80000007, NO)->d = BIT(ITSC); /* "nomigrate", on a machine without it */
    assert_int_equal(set_domain(0), 0);
    assert_null(dom1.cpu_policy);
    assert_ptr_equal(cpu_policy_of(&dom1), &pv_default_policy);
    assert_int_equal(allocated, 0);
}

/* What a kernel in ring 0 can have, only PVH domains are given; the limits are those of the kind. */
static void kinds_of_domains(void **state)
{
    struct hvm_domain h = {.callback_vector = 0};

    dom1.hvm = &h;
    assert_int_equal(get_system(XEN_SYSCTL_cpu_policy_hvm_default), 0);
    find(1, NO)->d |= BIT(HTT); /* as libxc describes the processors */
    find(0x80000008, NO)->c = 0x1003;
    assert_int_equal(set_domain(0), 0);
    assert_null(dom1.cpu_policy);
    assert_ptr_equal(cpu_policy_of(&dom1), &hvm_default_policy);
    find(7, 0)->b &= ~BIT(BMI1);
    assert_int_equal(set_domain(0), 0);
    assert_int_equal(get_domain(), 0);
    assert_int_equal(find(7, 0)->b & (BIT(SMEP) | BIT(BMI1)), BIT(SMEP));
    find(0x80000001, NO)->c |= BIT(SVM);
    assert_int_equal(set_domain(0), -EINVAL);
    cpu_policy_destroy(&dom1);
    dom1.hvm = NULL;
    assert_int_equal(get_system(XEN_SYSCTL_cpu_policy_hvm_default), 0);
    assert_int_equal(set_domain(0), -EINVAL); /* too much for a PV domain */
    assert_null(dom1.cpu_policy);
}

static void round_trip(void **state)
{
    assert_int_equal(get_system(XEN_SYSCTL_cpu_policy_pv_default), 0);
    find(7, 0)->b &= ~BIT(BMI1);
    find(0x80000007, NO)->d = BIT(ITSC);
    memcpy(&find(0x80000002, NO)->a, "Myth", 4);
    assert_int_equal(set_domain(2), 0);
    assert_non_null(dom1.cpu_policy);
    assert_true(sizeof(struct cpu_policy) <= 1024);
    assert_int_equal(get_domain(), 0);
    assert_int_equal(find(7, 0)->b, BIT(AVX2));
    assert_int_equal(find(0x80000007, NO)->d, BIT(ITSC));
    assert_memory_equal(&find(0x80000002, NO)->a, "Myth", 4);
    /* As restore does it */
    assert_int_equal(set_domain(2), 0);
    assert_int_equal(find(7, 0)->b, BIT(AVX2));
    /* Single leaves replace single leaves. */
    leaves[0] = (xen_cpuid_leaf_t){7, 0, 0, 0, 0, 0};
    nr_leaves = 1;
    assert_int_equal(set_domain(0), 0);
    assert_int_equal(get_domain(), 0);
    assert_int_equal(find(7, 0)->b, 0);
    assert_int_equal(find(0x80000007, NO)->d, BIT(ITSC));
}

/* Without AVX its state goes, and what builds on it. */
static void dependent_features(void **state)
{
    struct cpuid_view view = {.host = processor, .amd = true, .vcpu_count = 1, .xcr0_max = 7};

    assert_int_equal(get_system(XEN_SYSCTL_cpu_policy_pv_default), 0);
    find(1, NO)->c &= ~BIT(AVX);
    assert_int_equal(set_domain(0), 0);
    assert_int_equal(get_domain(), 0);
    assert_int_equal(find(0xd, 0)->a, 3);
    assert_int_equal(find(0xd, 0)->c, 576);
    assert_int_equal(find(7, 0)->b & BIT(AVX2), 0);
    assert_int_equal(cpuid_policy(cpu_policy_of(&dom1), &view, 0xd, 2).a, 0);
    find(1, NO)->c &= ~BIT(XSAVE);
    assert_int_equal(set_domain(0), 0);
    assert_int_equal(cpu_policy_of(&dom1)->xcr0, 0);
    assert_int_equal(cpuid_policy(cpu_policy_of(&dom1), &view, 1, 0).c & BIT(OSXSAVE), 0);
    assert_int_equal(cpuid_policy(cpu_policy_of(&dom1), &view, 0xd, 1).a, 0);
}

static void lower_limits(void **state)
{
    struct cpuid_view view = {.host = processor, .amd = true, .vcpu_count = 1, .xcr0_max = 7};

    assert_int_equal(get_system(XEN_SYSCTL_cpu_policy_pv_default), 0);
    find(0, NO)->a = 4;
    find(0x80000000, NO)->a = 0x80000001;
    assert_int_equal(set_domain(0), 0);
    assert_int_equal(cpuid_policy(cpu_policy_of(&dom1), &view, 7, 0).b, 0);
    assert_int_equal(cpuid_policy(cpu_policy_of(&dom1), &view, 0x80000008, 0).a, 0);
    assert_int_equal(cpu_policy_of(&dom1)->xcr0, 0);
    assert_int_equal(get_domain(), 0);
    assert_int_equal(leaves[nr_leaves - 1].leaf, 0x80000001);
}

static void refuse_leaf(xen_cpuid_leaf_t leaf, int rc)
{
    leaves[0] = leaf;
    nr_leaves = 1;
    if (set_domain(0) != rc)
        fail_msg("leaf %#x, %#x: not %d", leaf.leaf, leaf.subleaf, rc);
    assert_int_equal(answer.err_leaf, leaf.leaf);
    assert_int_equal(answer.err_subleaf, leaf.subleaf);
    assert_int_equal(answer.err_msr, ~0U);
    assert_null(dom1.cpu_policy);
    assert_non_null(strstr(fake_log, "d1"));
}

static void refused(void **state)
{
    refuse_leaf((xen_cpuid_leaf_t){1, NO, 0, 0, BIT(VMX), 0}, -EINVAL);
    refuse_leaf((xen_cpuid_leaf_t){1, NO, 0, 0, BIT(RDRAND), 0}, -EINVAL); /* the machine has it not */
    refuse_leaf((xen_cpuid_leaf_t){1, NO, 0, 0, 0, BIT(PSE)}, -EINVAL);
    refuse_leaf((xen_cpuid_leaf_t){7, 0, 0, BIT(AVX512F), 0, 0}, -EINVAL);
    refuse_leaf((xen_cpuid_leaf_t){7, 0, 1, 0, 0, 0}, -EINVAL);
    refuse_leaf((xen_cpuid_leaf_t){7, 1, BIT(AVX_VNNI), 0, 0, 0}, -EINVAL);
    refuse_leaf((xen_cpuid_leaf_t){7, 2, 0, 0, 0, 1}, -EINVAL);
    refuse_leaf((xen_cpuid_leaf_t){6, NO, 4, 0, 0, 0}, -EINVAL);
    refuse_leaf((xen_cpuid_leaf_t){0xd, 1, BIT(XSAVES), 0, 0, 0}, -EINVAL);
    refuse_leaf((xen_cpuid_leaf_t){0, NO, 0xe, 0x68747541, 0x444d4163, 0x69746e65}, -EINVAL);
    refuse_leaf((xen_cpuid_leaf_t){0, NO, 0xd, 0x756e6547, 0x6c65746e, 0x49656e69}, -EINVAL); /* another maker */
    refuse_leaf((xen_cpuid_leaf_t){0x80000001, NO, 0, 0, BIT(SVM), 0}, -EINVAL);
    refuse_leaf((xen_cpuid_leaf_t){0x80000007, NO, 0, 0, 0, BIT(HW_PSTATE)}, -EINVAL);
    refuse_leaf((xen_cpuid_leaf_t){0x8000000a, NO, 1, 0, 0, 0}, -EINVAL);
    refuse_leaf((xen_cpuid_leaf_t){0xe, NO, 0, 0, 0, 0}, -ERANGE);
    refuse_leaf((xen_cpuid_leaf_t){0x80000022, NO, 0, 0, 0, 0}, -ERANGE);
    refuse_leaf((xen_cpuid_leaf_t){0xffffffff, NO, 0, 0, 0, 0}, -ERANGE);
    refuse_leaf((xen_cpuid_leaf_t){0x40000001, NO, 0, 0, 0, 0}, -ERANGE);
    refuse_leaf((xen_cpuid_leaf_t){0x40000000, 0, 0, 0, 0, 0}, -ERANGE);
    refuse_leaf((xen_cpuid_leaf_t){1, 0, 0, 0, 0, 0}, -ERANGE);
    refuse_leaf((xen_cpuid_leaf_t){4, NO, 0, 0, 0, 0}, -ERANGE);
    refuse_leaf((xen_cpuid_leaf_t){7, 64, 0, 0, 0, 0}, -ERANGE);
    refuse_leaf((xen_cpuid_leaf_t){0xd, 64, 0, 0, 0, 0}, -ERANGE);
}

static void refused_msrs(void **state)
{
    nr_leaves = 0;
    msrs[0] = (xen_msr_entry_t){0xce, 0, 1U << 31};
    assert_int_equal(set_domain(1), -EINVAL);
    assert_int_equal(answer.err_msr, 0xce);
    assert_int_equal(answer.err_leaf, ~0U);
    msrs[0] = (xen_msr_entry_t){0x10a, 1, 0};
    assert_int_equal(set_domain(1), -EINVAL);
    msrs[0] = (xen_msr_entry_t){0x1b, 0, 0};
    assert_int_equal(set_domain(1), -ERANGE);
    assert_int_equal(answer.err_msr, 0x1b);
}

static void refused_calls(void **state)
{
    struct domain *d = vcpu0.domain;

    nr_leaves = 129;
    assert_int_equal(set_domain(0), -E2BIG);
    nr_leaves = 0;
    assert_int_equal(set_domain(3), -E2BIG);
    nr_leaves = 1;
    hole = &leaves[0];
    assert_int_equal(set_domain(0), -EFAULT);
    hole = &msrs[0];
    leaves[0] = (xen_cpuid_leaf_t){7, 0, 0, 0, 0, 0};
    assert_int_equal(set_domain(1), -EFAULT);
    assert_null(dom1.cpu_policy);
    vcpu0.domain = &dom1;
    assert_int_equal(set_domain(0), -EINVAL);
    vcpu0.domain = d;
    dom1.started = true;
    assert_int_equal(set_domain(0), -EEXIST);
    assert_null(dom1.cpu_policy);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(listing),          TEST(small_buffers),      TEST(featuresets),  TEST(default_costs_nothing),
        TEST(kinds_of_domains), TEST(dependent_features), TEST(lower_limits), TEST(refused),
        TEST(round_trip),       TEST(dependent_features), TEST(lower_limits), TEST(refused),
        TEST(refused_msrs),     TEST(refused_calls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
