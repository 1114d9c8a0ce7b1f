/* sources: hypervisor/hypercall/hvm_op.c */
/* hvm_op: who may set and read which parameter of which domain, and to what. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fake_boot.h"

#include "domain/domain.h"
#include "domain/guest_access.h"
#include "hvm/hvm.h"
#include "hypercall/dispatch.h"

/* Domain 0, and two PVH domains */
static struct domain doms[3];
static struct hvm_domain hvms[3];
static struct vcpu vcpus[3];
static struct percpu cpu;
static const void *hole;
static uint8_t callback, upcall;

struct percpu *this_cpu(void) { return &cpu; }
size_t copy_from_guest(void *to, const void *guest, size_t n) { return guest == hole ? n : (memcpy(to, guest, n), 0); }
size_t copy_to_guest(void *guest, const void *from, size_t n)
{
    return guest == hole ? n : (memcpy(guest, from, n), 0);
}
struct domain *domain_get_by_id(domid_t id)
{
    struct domain *d = id == DOMID_SELF ? current->domain : id < 3 ? &doms[id] : NULL;

    if (d)
        d->refs++;
    return d;
}
void domain_put(struct domain *d) { d->refs--; }
bool hvm_set_callback(struct domain *d, uint64_t value) { return callback = (uint8_t)value, (uint8_t)value >= 16; }
bool hvm_set_upcall_vector(struct vcpu *v, uint8_t vector) { return upcall = vector, vector >= 16; }

static int setup(void **state)
{
    memset(hvms, 0, sizeof(hvms));
    for (unsigned i = 0; i < 3; i++) {
        doms[i] = (struct domain){.id = (domid_t)i, .vcpu_count = 1, .vcpus = {&vcpus[i]}, .hvm = i ? &hvms[i] : NULL};
        vcpus[i] = (struct vcpu){.domain = &doms[i], .hvm = i ? (struct hvm_vcpu *)&vcpus[i] : NULL};
    }
    doms[0].is_privileged = true;
    cpu.current_vcpu = &vcpus[0];
    hole = NULL;
    fake_log_clear();
    return 0;
}
static int settled(void **state)
{
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(doms[i].refs, 0);
    return 0;
}

static struct xen_hvm_param p;
static long set(unsigned domid, unsigned index, uint64_t value)
{
    p = (struct xen_hvm_param){.domid = (domid_t)domid, .index = index, .value = value};
    return hypercall_hvm_op(HVMOP_set_param, (uint64_t)&p, 0, 0, 0);
}
static long get(unsigned domid, unsigned index)
{
    p = (struct xen_hvm_param){.domid = (domid_t)domid, .index = index, .value = 0xbad};
    return hypercall_hvm_op(HVMOP_get_param, (uint64_t)&p, 0, 0, 0);
}

/* What xl create, save and restore set and read */
static void by_the_tools(void **state)
{
    static const unsigned kept[] = {
        HVM_PARAM_STORE_PFN,        HVM_PARAM_STORE_EVTCHN, HVM_PARAM_CONSOLE_PFN,          HVM_PARAM_CONSOLE_EVTCHN,
        HVM_PARAM_IOREQ_PFN,        HVM_PARAM_BUFIOREQ_PFN, HVM_PARAM_PAGING_RING_PFN,      HVM_PARAM_MONITOR_RING_PFN,
        HVM_PARAM_SHARING_RING_PFN, HVM_PARAM_IDENT_PT,     HVM_PARAM_VM_GENERATION_ID_ADDR};
    static const unsigned read[] = {
        HVM_PARAM_ACPI_IOPORTS_LOCATION, HVM_PARAM_IOREQ_SERVER_PFN, HVM_PARAM_MCA_CAP,
        HVM_PARAM_NR_IOREQ_SERVER_PAGES, HVM_PARAM_VIRIDIAN,         HVM_PARAM_VM86_TSS_SIZED,
        HVM_PARAM_X87_FIP_WIDTH,         HVM_PARAM_ACPI_S_STATE,     HVM_PARAM_CALLBACK_IRQ};

    for (unsigned i = 0; i < ARRAY_SIZE(kept); i++) {
        assert_int_equal(set(1, kept[i], 0xfeff0 + i), 0);
        assert_int_equal(get(1, kept[i]), 0);
        assert_int_equal(p.value, 0xfeff0 + i);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(read); i++) {
        assert_int_equal(get(1, read[i]), 0);
        assert_int_equal(p.value, 0);
    }
    assert_int_equal(set(1, HVM_PARAM_ALTP2M, 0), 0);
    assert_int_equal(set(1, HVM_PARAM_TIMER_MODE, 1), 0);
    assert_int_equal(set(1, HVM_PARAM_TRIPLE_FAULT_REASON, SHUTDOWN_reboot), 0);
    assert_int_equal(set(1, HVM_PARAM_X87_FIP_WIDTH, 8), 0);
    assert_int_equal(fake_log[0], 0);
    assert_int_equal(hvms[2].params[HVM_PARAM_STORE_PFN], 0);
}

static void refused(void **state)
{
    assert_int_equal(set(1, HVM_PARAM_ALTP2M, 1), -EINVAL);
    assert_int_equal(set(1, HVM_PARAM_NESTEDHVM, 1), -EINVAL);
    assert_int_equal(set(1, HVM_PARAM_VIRIDIAN, 1), -EINVAL);
    assert_int_equal(set(1, HVM_PARAM_MCA_CAP, 1), -EINVAL);
    assert_int_equal(set(1, HVM_PARAM_TIMER_MODE, 4), -EINVAL);
    assert_int_equal(set(1, HVM_PARAM_TRIPLE_FAULT_REASON, SHUTDOWN_MAX + 1), -EINVAL);
    assert_int_equal(set(1, HVM_PARAM_X87_FIP_WIDTH, 4), -EINVAL);
    assert_int_equal(set(1, HVM_PARAM_CALLBACK_IRQ, 2UL << 56 | 15), -EINVAL);
    assert_int_equal(set(1, HVM_PARAM_PAE_ENABLED, 1), -EINVAL);
    assert_int_equal(set(1, HVM_NR_PARAMS, 1), -EINVAL);
    assert_int_equal(get(1, ~0U), -EINVAL);
    assert_int_equal(get(1, HVM_PARAM_DM_DOMAIN), -EINVAL);
    assert_int_equal(set(1, HVM_PARAM_IOREQ_SERVER_PFN, 5), 0);
    assert_int_equal(set(1, HVM_PARAM_IOREQ_SERVER_PFN, 5), 0);
    assert_int_equal(set(1, HVM_PARAM_IOREQ_SERVER_PFN, 6), -EEXIST);
    assert_int_equal(set(0, HVM_PARAM_STORE_PFN, 6), -EINVAL); /* PV */
    assert_int_equal(set(7, HVM_PARAM_STORE_PFN, 6), -ESRCH);
    for (unsigned i = 0; i < HVM_NR_PARAMS; i++)
        assert_int_equal(hvms[1].params[i], i == HVM_PARAM_IOREQ_SERVER_PFN ? 5 : 0);
    hole = &p;
    assert_int_equal(get(1, HVM_PARAM_STORE_PFN), -EFAULT);
}

static void by_the_guest(void **state)
{
    cpu.current_vcpu = &vcpus[1];
    hvms[1].params[HVM_PARAM_STORE_PFN] = 77;
    assert_int_equal(get(DOMID_SELF, HVM_PARAM_STORE_PFN), 0);
    assert_int_equal(p.value, 77);
    assert_int_equal(get(1, HVM_PARAM_CONSOLE_EVTCHN), 0);
    assert_int_equal(get(1, HVM_PARAM_IOREQ_PFN), -EPERM);
    assert_int_equal(set(1, HVM_PARAM_STORE_PFN, 5), -EPERM);
    assert_int_equal(set(1, HVM_PARAM_TRIPLE_FAULT_REASON, 0), -EPERM);
    assert_int_equal(set(DOMID_SELF, HVM_PARAM_CALLBACK_IRQ, 2UL << 56 | 0xf3), 0);
    assert_int_equal(callback, 0xf3);
    assert_int_equal(get(2, HVM_PARAM_STORE_PFN), -EPERM);
    assert_int_equal(set(2, HVM_PARAM_CALLBACK_IRQ, 2UL << 56 | 0xf3), -EPERM);
    {
        struct xen_hvm_evtchn_upcall_vector u = {.vcpu = 0, .vector = 0xf4};

        assert_int_equal(hypercall_hvm_op(HVMOP_set_evtchn_upcall_vector, (uint64_t)&u, 0, 0, 0), 0);
        assert_int_equal(upcall, 0xf4);
        u.vcpu = 1;
        assert_int_equal(hypercall_hvm_op(HVMOP_set_evtchn_upcall_vector, (uint64_t)&u, 0, 0, 0), -ENOENT);
    }
    assert_int_equal(hypercall_hvm_op(99, 0, 0, 0, 0), -ENOSYS);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, settled)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(by_the_tools), TEST(refused), TEST(by_the_guest)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
