/* sources: hypervisor/pv/msr.c */
/* MSR policy: what Linux touches, who may read what, hostile numbers. The processor's MSRs are a small table here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "cpu/cpu.h"
#include "cpu/instr.h"
#include "lib/log.h"
#include "memory/map.h"
#include "pv/msr.h"
#include "pv/traps.h"

struct cpu_features cpu_features;
static struct domain dom;
static struct vcpu vcpu;
static struct {
    uint32_t msr;
    uint64_t value;
} host[32];
static unsigned host_count, host_writes;
static const void *hypercall_page;

static uint64_t *host_msr(uint32_t msr)
{
    for (unsigned i = 0; i < host_count; i++)
        if (host[i].msr == msr)
            return &host[i].value;
    return NULL;
}
bool rdmsr_safe(uint32_t msr, uint64_t *v)
{
    uint64_t *p = host_msr(msr);

    if (p)
        *v = *p;
    return p != NULL;
}
bool wrmsr_safe(uint32_t msr, uint64_t v)
{
    uint64_t *p = host_msr(msr);

    if (!p || (msr >= MSR_FS_BASE && msr <= MSR_KERNEL_GS_BASE && (uint64_t)((int64_t)(v << 16) >> 16) != v))
        return false;
    *p = v;
    host_writes++;
    return true;
}
struct percpu *this_cpu(void) { return NULL; }
void *mfn_to_virt(mfn_t m) { return (void *)(m.n << PAGE_SHIFT); }
bool frame_get_writable(mfn_t m, const struct domain *d) { return m.n == 0x77; }
void frame_put_writable(mfn_t m) {}
void pv_write_hypercall_page(void *page) { hypercall_page = page; }
void guest_log(enum log_level level, const char *fmt, ...) {}

static void have(uint32_t msr, uint64_t value)
{
    assert_true(host_count < ARRAY_SIZE(host));
    host[host_count].msr = msr;
    host[host_count++].value = value;
}

static int setup(void **state)
{
    static const uint32_t msrs[] = {
        MSR_TSC,     0x17, 0x8b,       0x1a0,          MSR_PAT,    MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE,
        MSR_TSC_AUX, 0x49, 0xc0010010, 0xc001001a,     0xc0010058, 0xc0010061,  MSR_EFER,    MSR_LSTAR,
        MSR_STAR,    0x3a, 0x480,      MSR_X2APIC + 2, 0xc0010114, 0xc0010117};

    host_count = host_writes = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++)
        have(msrs[i], 0x1000 + i);
    memset(&dom, 0, sizeof(dom));
    memset(&vcpu, 0, sizeof(vcpu));
    vcpu.domain = &dom;
    cpu_features = (struct cpu_features){.amd = true, .rdtscp = true};
    return 0;
}

static uint64_t read_ok(uint32_t msr)
{
    uint64_t v = 0xdead;

    if (!msr_read(&vcpu, msr, &v))
        fail_msg("RDMSR of 0x%x is refused", msr);
    return v;
}
static void read_fails(uint32_t msr)
{
    uint64_t v;

    if (msr_read(&vcpu, msr, &v))
        fail_msg("RDMSR of 0x%x is allowed", msr);
}

/* The list of abi-in-use: reads and writes that domain 0 makes while it boots on an AMD processor */
static void what_linux_touches(void **state)
{
    static const uint32_t reads[] = {0x1b,       0x8b,       0x179,      0x17a,      0x277,      0x400,      0x401,
                                     0x403,      0x404,      0x405,      0x407,      0xc0000102, 0xc0010000, 0xc0010001,
                                     0xc0010002, 0xc0010003, 0xc0010007, 0xc0010015, 0xc0010055, 0xc0011029};
    static const uint32_t writes[] = {0x400, 0x401, 0x404, 0x405, 0xc0000101, 0xc0000103, 0xc0010007, 0xc0010015};

    for (unsigned i = 0; i < ARRAY_SIZE(reads); i++)
        read_ok(reads[i]);
    for (unsigned i = 0; i < ARRAY_SIZE(writes); i++)
        if (!msr_write(&vcpu, writes[i], 0))
            fail_msg("WRMSR of 0x%x is refused", writes[i]);
    assert_int_equal(host_writes, 2); /* GS base and TSC_AUX; nothing else reaches the processor */
    assert_int_equal(read_ok(0x179), 2);
    assert_true(read_ok(0x400) == ~0UL);
    assert_int_equal(read_ok(0x401), 0);
    assert_true(read_ok(0xc0011029) & 2); /* LFENCE serialises: nothing to set */
    assert_int_equal(read_ok(0xc0010055), 0);
}

static void values(void **state)
{
    assert_int_equal(read_ok(MSR_EFER), 0xd01);
    assert_true(msr_write(&vcpu, MSR_EFER, 0xd01));
    assert_int_equal(read_ok(MSR_APIC_BASE), 0xfee00900);
    vcpu.id = 1;
    assert_int_equal(read_ok(MSR_APIC_BASE), 0xfee00800);
    assert_true(msr_write(&vcpu, MSR_PAT, 0)); /* ignored */
    assert_int_equal(read_ok(MSR_PAT), 0x1004);
    assert_int_equal(host_writes, 0);
}

static void segment_bases(void **state)
{
    assert_true(msr_write(&vcpu, MSR_FS_BASE, 0x7fff00000000));
    assert_true(read_ok(MSR_FS_BASE) == 0x7fff00000000);
    assert_true(msr_write(&vcpu, MSR_KERNEL_GS_BASE, 0xffff888000000000));
    assert_true(read_ok(MSR_KERNEL_GS_BASE) == 0xffff888000000000);
    assert_false(msr_write(&vcpu, MSR_GS_BASE, 0x800000000000)); /* not canonical */
}

static void tsc_aux(void **state)
{
    assert_true(msr_write(&vcpu, MSR_TSC_AUX, 0xffffffff));
    assert_true(read_ok(MSR_TSC_AUX) == 0xffffffff);
    assert_false(msr_write(&vcpu, MSR_TSC_AUX, 0x100000000));
    cpu_features.rdtscp = false;
    read_fails(MSR_TSC_AUX);
    assert_false(msr_write(&vcpu, MSR_TSC_AUX, 0));
}

static void hardware_domain_only(void **state)
{
    static const uint32_t msrs[] = {0xc0010010, 0xc001001a, 0xc0010058, 0xc0010061};

    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++)
        read_fails(msrs[i]);
    dom.is_hardware = true;
    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++)
        read_ok(msrs[i]);
    read_fails(0xc0010062); /* the processor has none */
    assert_true(msr_write(&vcpu, 0xc0010010, 0));
    assert_false(msr_write(&vcpu, 0xc001001a, 0));
    assert_int_equal(host_writes, 0);
}

/* Of the other vendor: not there */
static void vendor(void **state)
{
    cpu_features.amd = false;
    read_fails(0xc0010015);
    read_fails(0xc0011029);
    assert_false(msr_write(&vcpu, 0xc0010007, 0));
    assert_true(read_ok(0x1a0) & (1U << 11));
    read_ok(0x17);
    cpu_features.amd = true;
    read_fails(0x17);
    read_fails(0x1a0);
}

/* Croft's own, and what does not exist */
static void hostile(void **state)
{
    static const uint32_t msrs[] = {0,
                                    MSR_STAR,
                                    MSR_LSTAR,
                                    MSR_CSTAR,
                                    MSR_SYSCALL_MASK,
                                    MSR_SYSENTER_EIP,
                                    0x3a,
                                    0x480,
                                    MSR_X2APIC + 2,
                                    MSR_TSC_DEADLINE,
                                    MSR_XSS,
                                    0xc0010114,
                                    0xc0010117,
                                    0x40000001,
                                    0x408,
                                    ~0U};

    dom.is_hardware = dom.is_privileged = true;
    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++) {
        read_fails(msrs[i]);
        assert_false(msr_write(&vcpu, msrs[i], 0));
    }
    srandom(3);
    for (unsigned i = 0; i < 200000; i++) {
        uint32_t msr = (uint32_t)random() ^ (uint32_t)random() << 16;
        uint64_t v;

        if (msr >= MSR_FS_BASE && msr <= MSR_TSC_AUX)
            continue;
        msr_read(&vcpu, msr, &v);
        msr_write(&vcpu, msr, (uint64_t)random());
    }
    assert_int_equal(host_writes, 0);
}

static void prediction_barrier(void **state)
{
    assert_true(msr_write(&vcpu, 0x49, 1));
    assert_int_equal(host_writes, 1);
    assert_false(msr_write(&vcpu, 0x49, 2));
}

static void hypercall_msr(void **state)
{
    hypercall_page = NULL;
    assert_false(msr_write(&vcpu, 0x40000000, 0x76000));
    assert_false(msr_write(&vcpu, 0x40000000, 0x77001)); /* the second page: there is one */
    assert_null(hypercall_page);
    assert_true(msr_write(&vcpu, 0x40000000, 0x77000));
    assert_ptr_equal(hypercall_page, mfn_to_virt(MFN(0x77)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_linux_touches, setup),
        cmocka_unit_test_setup(values, setup),
        cmocka_unit_test_setup(segment_bases, setup),
        cmocka_unit_test_setup(tsc_aux, setup),
        cmocka_unit_test_setup(hardware_domain_only, setup),
        cmocka_unit_test_setup(vendor, setup),
        cmocka_unit_test_setup(hostile, setup),
        cmocka_unit_test_setup(prediction_barrier, setup),
        cmocka_unit_test_setup(hypercall_msr, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
