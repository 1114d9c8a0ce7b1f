/* run: beside=yes time=60 */
/*
 * Every hypercall number with arguments that are nothing, everything, or plausible: no answer is wrong, but the
 * hypervisor and this domain must live. Left out is only what is asked to end or to stop the domain.
 */
#include "kit.h"

#define PAGE_VA TEST_VA /* a page of arguments, with nothing behind it */
#define ROUNDS 400

static uint64_t seed = 88172645463325252UL;
static uint64_t *page;
static unsigned long spare_mfn;

static uint64_t random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static uint64_t value(void)
{
    switch (random() % 26) {
    case 0:
        return 1;
    case 1:
        return 2;
    case 2:
        return 3;
    case 3:
        return DOMID_SELF;
    case 4:
        return DOMID_IO;
    case 5:
        return DOMID_XEN;
    case 6:
        return DOMID_INVALID;
    case 7:
        return ~0UL;
    case 8:
        return PAGE_VA;
    case 9:
        return PAGE_VA + 2048;
    case 10:
        return PAGE_VA + PAGE_SIZE - 8;
    case 11:
        return VA_HOLE;
    case 12:
        return VA_NONCANONICAL;
    case 13:
        return VA_UNMAPPED;
    case 14:
        return spare_mfn;
    case 15:
        return spare_mfn << 12;
    case 16:
        return 1UL << 31;
    case 17:
        return 1UL << 63;
    case 18:
        return random() % 64;
    case 19:
        return random() & 0xffffffff;
    case 20:
        return random();
    case 21:
        return 0x80000001;
    case 22:
        return 512;
    case 23:
        return (random() % 16) << 32 | random() % 16;
    default:
        return 0;
    }
}

/* What would rightly end, stop or silence this domain. */
static bool excluded(unsigned long nr, const uint64_t *a)
{
    unsigned cmd = (unsigned)a[0];

    switch (nr) {
    case __HYPERVISOR_iret:
        return true; /* a guest of its own */
    case __HYPERVISOR_sched_op_compat:
    case __HYPERVISOR_kexec_op: /* hands over the machine */
        return true;
    case __HYPERVISOR_sched_op:
        return cmd != SCHEDOP_yield && cmd != SCHEDOP_remote_shutdown && cmd <= SCHEDOP_watchdog;
    case __HYPERVISOR_vcpu_op:
        return cmd == VCPUOP_down;
    case __HYPERVISOR_console_io:
        return cmd == CONSOLEIO_write && (unsigned)a[1] != 0 && a[2] >= PAGE_VA &&
               a[2] < PAGE_VA + PAGE_SIZE; /* only noise */
    case __HYPERVISOR_multicall:
        return a[0] >= PAGE_VA && a[0] < PAGE_VA + PAGE_SIZE; /* could contain any of the above */
    case __HYPERVISOR_update_va_mapping:
    case __HYPERVISOR_update_va_mapping_otherdomain:
        return a[0] >= VIRT_BASE; /* the guest's own feet */
    }
    return false;
}

static void restore(void)
{
    events_disable();
    traps_setup();
    fpu_taskswitch(0);
    set_debugreg(7, 0);
    vcpu_op(VCPUOP_stop_periodic_timer, 0, NULL);
    vcpu_op(VCPUOP_stop_singleshot_timer, 0, NULL);
    update_va_mapping(PAGE_VA, make_pte(virt_to_mfn(page), PTE_RW), UVMF_INVLPG);
}

static bool skip_trap(struct regs *r)
{
    r->rflags &= ~RFLAGS_TF;
    return true;
}

static uint64_t arguments[5];
static unsigned long number;
static long result;

static void call(void *p)
{
    (void)p;
    result = kit_raw_hypercall(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4]);
}

static bool one(void)
{
    struct regs r;

    if (excluded(number, arguments))
        return false;
    r = trap_of(call, NULL);
    restore();
    check_quiet(r.vector == NO_TRAP, "hypercall %lu (%lx, %lx, %lx, %lx, %lx): trap %lu", number, arguments[0],
                arguments[1], arguments[2], arguments[3], arguments[4], r.vector);
    return true;
}

GUEST("hypercall_sweep")
{
    static const unsigned long beyond[] = {
        65,        100,  126,        127,        128,        129,       255,
        256,       1000, 0x7fffffff, 0x80000000, 0xffffffff, 1UL << 32, 1UL << 32 | 17,
        1UL << 63, ~0UL};
    unsigned calls = 0, wrong = 0;

    trap_hooks[1] = skip_trap; /* debug registers may be set by chance */
    trap_hooks[2] = skip_trap; /* an NMI to itself */
    page = page_alloc();
    spare_mfn = virt_to_mfn(page_alloc());
    map_page(PAGE_VA, make_pte(virt_to_mfn(page), PTE_RW));
    restore();
    for (number = 0; number <= 64; number++) {
        unsigned before = calls;

        for (unsigned pattern = 0; pattern < 4; pattern++)
            for (unsigned i = 0; i < 24; i++) {
                memset(page, (int[]){0, 0xff, 1, 0x7f}[pattern], PAGE_SIZE);
                for (unsigned k = 0; k < 5; k++)
                    arguments[k] = (uint64_t[]){0, ~0UL, 1, PAGE_VA, DOMID_SELF, VA_HOLE}[(pattern + k * i) % 6];
                arguments[0] = i; /* mostly the command */
                calls += one();
            }
        for (unsigned round = 0; round < ROUNDS; round++) {
            for (unsigned i = 0; i < 32; i++)
                page[i] = page[256 + i] = value();
            for (unsigned k = 0; k < 5; k++)
                arguments[k] = value();
            calls += one();
        }
        check(xen_version(XENVER_pagesize, NULL) == 4096, "hypercall %lu: %u calls", number, calls - before);
    }
    for (unsigned i = 0; i < sizeof(beyond) / sizeof(beyond[0]); i++) {
        number = beyond[i];
        memset(arguments, 0, sizeof(arguments));
        /* Only the low half of rax need count. */
        if ((uint32_t)number <= 64)
            continue;
        one();
        wrong += result != -ENOSYS;
    }
    check(wrong == 0, "numbers beyond the table: -ENOSYS (%u not)", wrong);
    check(calls > 10000, "%u calls in all", calls);
}
