/* run: cpus=1,2 smp=2 */
/*
 * Trace buffers as a tool of domain 0 uses them: set up by sysctl, mapped as the hypervisor's frames, read while they are written. What
 * is recorded of hypercalls, exceptions and the scheduler; hypercalls have the same results with and without; a header that lies does
 * no harm (the audit at the end sees to that).
 */
#define __XEN_TOOLS__ 1
#include "kit.h"
#include <xen/sysctl.h>
#include <xen/trace.h>

#define PAGES 2
#define CPUS 2
#define DATA (PAGES * PAGE_SIZE - sizeof(struct t_buf))
#define INFO_VA TEST_VA
#define BUFFER_VA(cpu) (TEST_VA + (1 + (cpu)*PAGES) * PAGE_SIZE)

static struct xen_sysctl op;
static struct xen_sysctl_tbuf_op *const t = &op.u.tbuf_op;

static long tbuf(uint32_t cmd)
{
    op.cmd = XEN_SYSCTL_tbuf_op;
    op.interface_version = XEN_SYSCTL_INTERFACE_VERSION;
    t->cmd = cmd;
    return hypercall(__HYPERVISOR_sysctl, U(&op), 0, 0, 0, 0);
}

static long size(uint32_t pages)
{
    t->size = pages;
    return tbuf(XEN_SYSCTL_TBUFOP_set_size);
}

static void mask(uint32_t events)
{
    t->evt_mask = events;
    check_quiet(tbuf(XEN_SYSCTL_TBUFOP_set_evt_mask) == 0, "event mask %x", events);
}

static long map(unsigned long va, unsigned long mfn, uint64_t flags, unsigned domid)
{
    struct mmu_update u;

    map_page(va, 0);
    u.ptr = virt_to_machine(pte_of(va));
    u.val = make_pte(mfn, flags);
    return hypercall(__HYPERVISOR_mmu_update, U(&u), 1, 0, domid, 0);
}

static struct t_buf *buffer(unsigned cpu) { return (struct t_buf *)BUFFER_VA(cpu); }

static void set_up(void)
{
    const struct t_info *info = (const struct t_info *)INFO_VA;
    const uint32_t *list;

    check_equal(tbuf(XEN_SYSCTL_TBUFOP_enable), -EINVAL);
    check_equal(tbuf(XEN_SYSCTL_TBUFOP_disable), 0);
    check_equal(tbuf(6), -EINVAL);
    check_equal(size(0), -EINVAL);
    check_equal(size(0x80000000), -EINVAL);
    check_equal(size(PAGES), 0);
    check_equal(size(PAGES), 0);
    check_equal(size(PAGES + 1), -EBUSY);
    check_equal(tbuf(XEN_SYSCTL_TBUFOP_get_info), 0);
    check_equal(t->size, PAGE_SIZE);
    check_negative(map(INFO_VA, t->buffer_mfn, PTE_RW, DOMID_XEN));
    check_equal(map(INFO_VA, t->buffer_mfn, PTE_RO, DOMID_XEN), 0);
    check_equal(info->tbuf_size, PAGES);
    for (unsigned cpu = 0; cpu < CPUS; cpu++) {
        list = (const uint32_t *)info + info->mfn_offset[cpu];
        for (unsigned i = 0; i < PAGES; i++)
            check_equal(map(BUFFER_VA(cpu) + i * PAGE_SIZE, list[i], PTE_RW, DOMID_XEN), 0);
        check(buffer(cpu)->prod == 0 && buffer(cpu)->cons == 0, "CPU %u's is empty", cpu);
    }
    check_equal(info->mfn_offset[CPUS], 0);
    /* Neither a page table nor a descriptor table can be made of it. */
    check_negative(mmuext(MMUEXT_PIN_L1_TABLE, list[0], 0));
}

/* Takes what all CPUs recorded; how many of them were 'event' with this first word (0: any). */
static unsigned lost;
static uint32_t last_words[TRACE_EXTRA_MAX];
static unsigned take(uint32_t event, uint32_t word)
{
    unsigned found = 0;

    for (unsigned cpu = 0; cpu < CPUS; cpu++) {
        struct t_buf *b = buffer(cpu);

        while (*(volatile uint32_t *)&b->prod != b->cons) {
            const uint32_t *r = (const uint32_t *)(b + 1) + b->cons % DATA / 4;
            unsigned n = TRC_HD_EXTRA(*r), stamp = TRC_HD_INCLUDES_CYCLE_COUNT(*r) ? 2 : 0;

            if (!check_quiet(b->cons % DATA + 4 * (1 + stamp + n) <= DATA, "record at %u ends in the buffer", b->cons))
                return 0;
            if (TRC_HD_TO_EVENT(*r) == TRC_LOST_RECORDS)
                lost += r[3];
            if (TRC_HD_TO_EVENT(*r) == event && (!word || r[1 + stamp] == word)) {
                memcpy(last_words, r + 1 + stamp, n * 4);
                found++;
            }
            b->cons = (b->cons + 4 * (1 + stamp + n)) % (2 * DATA);
        }
    }
    return found;
}

static void calls(void)
{
    static struct multicall_entry list[2] = {{.op = __HYPERVISOR_xen_version, .args = {XENVER_version}},
                                             {.op = __HYPERVISOR_console_io, .args = {~0UL}}};
    static struct mmu_update none;
    uint32_t done = 77;

    check_equal(hypercall(__HYPERVISOR_xen_version, XENVER_version, 0, 0, 0, 0), 4 << 16 | 17);
    check_equal(hypercall(__HYPERVISOR_mmu_update, U(&none), 0, U(&done), DOMID_SELF, 0), 0);
    check_equal(done, 0);
    check_negative(hypercall(__HYPERVISOR_mmu_update, U(&none), 1, 0, 1234, 0));
    check_equal(hypercall(__HYPERVISOR_multicall, U(list), 2, 0, 0, 0), 0);
    check_equal(list[0].result, 4 << 16 | 17);
    check_negative(list[1].result);
    check_equal(hypercall(62, 0, 0, 0, 0, 0), -ENOSYS);
    check_equal(hypercall(100, 0, 0, 0, 0, 0), -ENOSYS);
}

static void hypercalls(void)
{
    calls();
    check(buffer(0)->prod == 0 && buffer(1)->prod == 0, "nothing while it is off");
    mask(TRC_PV);
    check_equal(tbuf(XEN_SYSCTL_TBUFOP_enable), 0);
    calls();
    check_equal(tbuf(XEN_SYSCTL_TBUFOP_disable), 0);
    check_equal(take(TRC_PV_HYPERCALL_V2, __HYPERVISOR_xen_version), 1);
    check_equal(tbuf(XEN_SYSCTL_TBUFOP_enable), 0);
    calls();
    check_equal(take(TRC_PV_HYPERCALL_V2, __HYPERVISOR_mmu_update | TRC_PV_HYPERCALL_V2_ARG_32(1)), 2);
    check_equal(last_words[1], 1); /* how many updates */
    calls();
    check_equal(take(TRC_PV_HYPERCALL_SUBCALL, __HYPERVISOR_xen_version), 1);
    mask(TRC_SCHED);
    take(0, 0);
    calls();
    check_equal(take(TRC_PV_HYPERCALL_V2, 0), 0);
    mask(TRC_ALL);
}

static void undefined(void *argument)
{
    (void)argument;
    asm volatile("ud2");
}
static void unmapped(void *argument)
{
    (void)argument;
    *(volatile char *)VA_UNMAPPED = 1;
}

static void exceptions(void)
{
    struct regs r;

    trapped(undefined, NULL, &r);
    check_equal(take(TRC_PV_TRAP | TRC_64_FLAG, (uint32_t)r.rip), 1);
    check_equal(last_words[2], 6);
    trapped(unmapped, NULL, &r);
    check_equal(take(TRC_PV_PAGE_FAULT | TRC_64_FLAG, (uint32_t)r.rip), 1);
    check(last_words[2] == (uint32_t)VA_UNMAPPED && last_words[3] == VA_UNMAPPED >> 32, "the address");
    check_equal(last_words[4] & 2, 2); /* a write */
}

static void sleep_for_a_while(void)
{
    long timer = hypercall(__HYPERVISOR_set_timer_op, time_now() + 20000000, 0, 0, 0, 0);
    long block = hypercall(__HYPERVISOR_sched_op, SCHEDOP_block, 0, 0, 0, 0); /* nothing slow in between */

    check(timer == 0 && block == 0, "timer: %ld, block: %ld", timer, block);
}

static void scheduler(void)
{
    long port = bind_virq(VIRQ_TIMER, 0);

    event_unmask((unsigned)port);
    check_equal(hypercall(__HYPERVISOR_vcpu_op, VCPUOP_stop_periodic_timer, 0, 0, 0, 0), 0);
    events_enable(); /* a tick that has come already */
    take(0, 0);
    sleep_for_a_while();
    check(event_counts[port] > 0, "the timer ended it");
    mask(0);
    check_equal(take(TRC_SCHED_RUNSTATE_CHANGE | RUNSTATE_running << 8 | RUNSTATE_blocked << 4, 0), 1);
    mask(TRC_ALL);
    sleep_for_a_while();
    mask(0);
    check(take(TRC_SCHED_SWITCH, 0) >= 2, "there and back");
    mask(TRC_ALL);
}

static void full(void)
{
    long port = bind_virq(VIRQ_TBUF, 0);
    unsigned told;

    event_unmask((unsigned)port);
    take(0, 0);
    events_enable();
    lost = 0;
    for (unsigned i = 0; i < 5000; i++)
        hypercall(__HYPERVISOR_xen_version, XENVER_version, 0, 0, 0, 0);
    told = event_counts[port];
    check(told > 0, "the reader is told");
    check(take(TRC_PV_HYPERCALL_V2, __HYPERVISOR_xen_version) <= DATA / 16, "what fits is there");
    hypercall(__HYPERVISOR_xen_version, XENVER_version, 0, 0, 0, 0);
    take(0, 0);
    check(lost > 4000 && lost < 5100, "%u lost", lost);
}

static void liar(void)
{
    static const uint32_t lies[] = {1, 3, DATA, DATA + 4, 2 * DATA - 4, 2 * DATA, 2 * DATA + 4, 0x80000000, ~0U};

    for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]) * 200; i++) {
        for (unsigned cpu = 0; cpu < CPUS; cpu++) {
            buffer(cpu)->cons = lies[i / 200];
            buffer(cpu)->prod = lies[i % 9] * i;
        }
        hypercall(__HYPERVISOR_xen_version, XENVER_version, 0, 0, 0, 0);
    }
    check_equal(tbuf(XEN_SYSCTL_TBUFOP_disable), 0);
    for (unsigned cpu = 0; cpu < CPUS; cpu++) {
        for (unsigned i = 0; i < PAGES; i++)
            check_equal(map(BUFFER_VA(cpu) + i * PAGE_SIZE, 0, 0, DOMID_XEN), 0);
    }
    check_equal(tbuf(XEN_SYSCTL_TBUFOP_enable), 0); /* on until the end */
}

GUEST("trace")
{
    set_up();
    hypercalls();
    exceptions();
    scheduler();
    full();
    liar();
}
