/* sources: hypervisor/cpu/trace.c hypervisor/cpu/trace_ring.c hypervisor/hypercall/sysctl_trace.c hypervisor/hypercall/hypercall_trace.c */
/* Tracing on three CPUs, one of which never came: set-up by sysctl, what a tool finds in t_info, masks, sessions, the event. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fake_boot.h"

#include "cpu/softirq.h"
#include "cpu/trace.h"
#include "domain/domain.h"
#include "hypercall/dispatch.h"
#include "hypercall/domctl.h"
#include "hypercall/sysctl.h"
#include "hypercall/table.h"
#include "memory/alloc.h"
#include "memory/map.h"

enum { FRAMES = 64, ABSENT = 1 };

static uint8_t ram[FRAMES][PAGE_SIZE] __attribute__((aligned(4096)));
static unsigned used = 1, limit = FRAMES, preempt_after = ~0U;
static enum { PRIVATE, READ_ONLY, WRITABLE } shared[FRAMES];
static struct percpu cpus[3] = {{.id = 0}, {.id = 1}, {.id = 2}};
static unsigned this, virqs;
static void (*softirq)(void);
static bool hypercalls_traced;
static uint64_t cpu_map;
static struct domain zero;
struct domain *domain0 = &zero;

struct percpu *this_cpu(void) { return &cpus[this]; }
struct percpu *percpu_of(unsigned cpu) { return cpu < 3 && cpu != ABSENT ? &cpus[cpu] : NULL; }
mfn_t virt_to_mfn(const void *p) { return MFN(((const uint8_t *)p - ram[0]) / PAGE_SIZE); }
void *mfn_to_virt(mfn_t m) { return ram[m.n]; }
mfn_t alloc_frame_run(uint64_t count, unsigned node)
{
    mfn_t m = MFN(used);

    if (used + count > limit)
        return INVALID_MFN;
    memset(ram[m.n], 0, count * PAGE_SIZE);
    used += count;
    return m;
}
void free_frame_run(mfn_t start, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        assert_int_equal(shared[start.n + i], PRIVATE);
    assert_in_range(start.n, 1, FRAMES - count);
    used = min(used, (unsigned)start.n); /* all are given back together */
}
void frame_share(mfn_t m, struct domain *d, bool writable)
{
    assert_ptr_equal(d, &zero);
    assert_int_equal(shared[m.n], PRIVATE);
    shared[m.n] = writable ? WRITABLE : READ_ONLY;
}
bool hypercall_preempt_check(void) { return !preempt_after--; }
void softirq_register(enum softirq nr, void (*handler)(void)) { softirq = handler; }
void event_send_global_virq(struct domain *d, unsigned virq)
{
    assert_ptr_equal(d, &zero);
    assert_int_equal(virq, VIRQ_TBUF);
    virqs++;
}
void hypercall_set_traced(bool traced) { hypercalls_traced = traced; }
long domctl_read_cpumap(cpumask_t *mask, const struct xenctl_bitmap *map)
{
    if (!map->nr_bits)
        return -EFAULT;
    memset(mask, 0, sizeof(*mask));
    mask->bits[0] = cpu_map;
    return 0;
}

static struct xen_sysctl op;
static long call(uint32_t cmd)
{
    op.u.tbuf_op.cmd = cmd;
    return sysctl_tbuf_op(&op);
}

static long size(uint32_t pages)
{
    op.u.tbuf_op.size = pages;
    return call(XEN_SYSCTL_TBUFOP_set_size);
}

static void mask(uint32_t events)
{
    op.u.tbuf_op.evt_mask = events;
    assert_int_equal(call(XEN_SYSCTL_TBUFOP_set_evt_mask), 0);
}

/* As xentrace finds a CPU's buffer; null: it has none. */
static struct t_buf *buffer_of(unsigned cpu)
{
    const struct t_info *t;
    const uint32_t *list;

    assert_int_equal(call(XEN_SYSCTL_TBUFOP_get_info), 0);
    t = (const void *)ram[op.u.tbuf_op.buffer_mfn];
    list = (const uint32_t *)t + t->mfn_offset[cpu];
    return t->mfn_offset[cpu] ? (struct t_buf *)ram[*list] : NULL;
}

/* How many records the CPU's buffer got since the last look, and the first word of the last. */
static uint32_t last_word, last_event;
static unsigned news(unsigned cpu)
{
    struct t_buf *b = buffer_of(cpu);
    unsigned n = 0;

    while (b->cons != b->prod) {
        const uint32_t *r = (const uint32_t *)(b + 1) + b->cons / 4;

        last_event = TRC_HD_TO_EVENT(r[0]);
        last_word = r[3];
        b->cons += 12 + 4 * TRC_HD_EXTRA(r[0]);
        n++;
    }
    return n;
}

static void traced(unsigned cpu, uint32_t event, uint32_t word)
{
    this = cpu;
    TRACE(event, word);
    this = 0;
}

static void nothing_is_recorded_before_it_is_on(void **state)
{
    trace_init();
    assert_int_equal(call(XEN_SYSCTL_TBUFOP_get_info), 0);
    assert_int_equal(op.u.tbuf_op.size, 0);
    assert_int_equal(op.u.tbuf_op.evt_mask, TRC_ALL);
    assert_int_equal(call(XEN_SYSCTL_TBUFOP_enable), -EINVAL);
    assert_non_null(strstr(fake_log, "no buffers"));
    assert_false(trace_on);
    assert_int_equal(call(XEN_SYSCTL_TBUFOP_disable), 0);
    assert_int_equal(call(6), -EINVAL);
    trace_record(TRC_SCHED_WAKE, (const uint32_t[]){1, 2}, 2); /* no buffer: as if off */
}

static void sizes_are_checked_and_memory_comes_back(void **state)
{
    assert_int_equal(size(0), -EINVAL);
    assert_int_equal(size(TRACE_PAGES_MAX + 1), -EINVAL);
    assert_int_equal(size(~0U), -EINVAL);
    assert_int_equal(size(FRAMES / 2 + 1), -ENOMEM); /* not for the second CPU */
    assert_int_equal(used, 1);
    limit--;
    assert_int_equal(size((FRAMES - 2) / 2), -ENOMEM); /* not for t_info */
    limit++;
    assert_int_equal(used, 1);
    assert_int_equal(call(XEN_SYSCTL_TBUFOP_get_info), 0);
    assert_int_equal(op.u.tbuf_op.size, 0);
}

static void buffers_are_made_once_and_shared(void **state)
{
    const struct t_info *t;
    unsigned counts[3] = {0};

    preempt_after = 0; /* interrupted after the first CPU's */
    assert_int_equal(size(2), -ERESTART);
    assert_int_equal(call(XEN_SYSCTL_TBUFOP_get_info), 0);
    assert_int_equal(op.u.tbuf_op.size, 0);
    assert_int_equal(call(XEN_SYSCTL_TBUFOP_enable), -EINVAL);
    preempt_after = ~0U;
    assert_int_equal(size(2), 0);
    assert_int_equal(size(2), 0);
    assert_int_equal(size(3), -EBUSY);
    assert_int_equal(used, 1 + 5);
    for (unsigned i = 0; i < FRAMES; i++)
        counts[shared[i]]++;
    assert_int_equal(counts[WRITABLE], 4);
    assert_int_equal(counts[READ_ONLY], 1);

    assert_int_equal(call(XEN_SYSCTL_TBUFOP_get_info), 0);
    assert_int_equal(op.u.tbuf_op.size, PAGE_SIZE);
    assert_int_equal(shared[op.u.tbuf_op.buffer_mfn], READ_ONLY);
    t = (const void *)ram[op.u.tbuf_op.buffer_mfn];
    assert_int_equal(t->tbuf_size, 2);
    assert_null(buffer_of(ABSENT));
    assert_ptr_not_equal(buffer_of(0), buffer_of(2));
    for (unsigned cpu = 0; cpu < 3; cpu += 2)
        for (unsigned i = 0; i < 2; i++)
            assert_int_equal(shared[((const uint32_t *)t + t->mfn_offset[cpu])[i]], WRITABLE);
}

static void each_cpu_writes_its_own(void **state)
{
    assert_int_equal(call(XEN_SYSCTL_TBUFOP_enable), 0);
    assert_true(trace_on && hypercalls_traced);
    traced(0, TRC_SCHED_WAKE, 11);
    traced(2, TRC_SCHED_SLEEP, 22);
    traced(ABSENT, TRC_SCHED_WAKE, 33); /* has none */
    assert_int_equal(news(0), 1);
    assert_int_equal(last_word, 11);
    assert_int_equal(news(2), 1);
    assert_int_equal(last_event, TRC_SCHED_SLEEP);
    assert_int_equal(last_word, 22);
    assert_int_equal(call(XEN_SYSCTL_TBUFOP_disable), 0);
    assert_false(trace_on || hypercalls_traced);
    traced(0, TRC_SCHED_WAKE, 11);
    assert_int_equal(news(0), 0);
    assert_int_equal(call(XEN_SYSCTL_TBUFOP_enable), 0);
}

static void masks_choose_class_kind_and_cpu(void **state)
{
    mask(TRC_SCHED);
    assert_false(hypercalls_traced);
    traced(0, TRC_SCHED_WAKE, 1);
    traced(0, TRC_SCHED_RUNSTATE_CHANGE | 0x120, 1);
    traced(0, TRC_PV_TRAP | TRC_64_FLAG, 1);
    assert_int_equal(news(0), 2);
    mask(TRC_SCHED_MIN); /* class and kind */
    traced(0, TRC_SCHED_WAKE, 1);
    traced(0, TRC_SCHED_RUNSTATE_CHANGE, 1);
    assert_int_equal(news(0), 1);
    mask(TRC_PV_SUBCALL);
    assert_false(hypercalls_traced);
    mask(TRC_PV_ENTRY);
    assert_true(hypercalls_traced);
    traced(0, TRC_PV_PAGE_FAULT | TRC_64_FLAG, 1);
    traced(0, TRC_PV_HYPERCALL_SUBCALL, 1);
    traced(0, TRC_SCHED_RUNSTATE_CHANGE, 1); /* the kind's bit alone does not do */
    assert_int_equal(news(0), 1);
    mask(0);
    traced(0, TRC_SCHED_WAKE, 1);
    assert_int_equal(news(0), 0);
    mask(TRC_ALL);

    op.u.tbuf_op.cpu_mask.nr_bits = 0;
    assert_int_equal(call(XEN_SYSCTL_TBUFOP_set_cpu_mask), -EFAULT);
    op.u.tbuf_op.cpu_mask.nr_bits = 8;
    cpu_map = 1U << 2;
    assert_int_equal(call(XEN_SYSCTL_TBUFOP_set_cpu_mask), 0);
    traced(0, TRC_SCHED_WAKE, 1);
    traced(2, TRC_SCHED_WAKE, 1);
    assert_int_equal(news(0), 0);
    assert_int_equal(news(2), 1);
    cpu_map = ~0UL;
    assert_int_equal(call(XEN_SYSCTL_TBUFOP_set_cpu_mask), 0);
}

static void hypercalls_show_their_arguments(void **state)
{
    const uint64_t args[5] = {0xa0, 0xa1, 0xa2, 0xa3, 0xa4};

    hypercall_trace(TRC_PV_HYPERCALL_V2, __HYPERVISOR_mmu_update, args);
    assert_int_equal(news(0), 1);
    assert_int_equal(last_event, TRC_PV_HYPERCALL_V2);
    assert_int_equal(last_word, __HYPERVISOR_mmu_update | TRC_PV_HYPERCALL_V2_ARG_32(1));
    hypercall_trace(TRC_PV_HYPERCALL_SUBCALL, ~0UL, args);
    assert_int_equal(news(0), 1);
    assert_int_equal(last_word, ~0U);
}

static void the_reader_is_told_and_the_past_is_forgotten(void **state)
{
    cpus[0].softirq_pending = 0;
    for (unsigned i = 0; i < 2 * PAGE_SIZE / 16; i++) /* more than fits */
        traced(0, TRC_SCHED_WAKE, i);
    assert_int_equal(cpus[0].softirq_pending, 1U << SOFTIRQ_TRACE);
    fake_log_clear();
    softirq();
    assert_int_equal(virqs, 1);
    assert_string_equal(fake_log, "");
    /* What was lost is not told to the next session. */
    assert_int_equal(call(XEN_SYSCTL_TBUFOP_disable), 0);
    assert_int_equal(call(XEN_SYSCTL_TBUFOP_enable), 0);
    buffer_of(0)->cons = buffer_of(0)->prod;
    traced(0, TRC_SCHED_WAKE, 77);
    assert_int_equal(buffer_of(0)->prod - buffer_of(0)->cons, 16);
}

static void a_reader_that_lies_is_named_once(void **state)
{
    buffer_of(2)->cons = ~0U;
    cpus[2].softirq_pending = 0;
    traced(2, TRC_SCHED_WAKE, 1);
    assert_int_equal(cpus[2].softirq_pending, 1U << SOFTIRQ_TRACE);
    fake_log_clear();
    this = 2;
    softirq();
    this = 0;
    assert_non_null(strstr(fake_log, "CPU 2"));
    cpus[2].softirq_pending = 0;
    traced(2, TRC_SCHED_WAKE, 1);
    assert_int_equal(cpus[2].softirq_pending, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_recorded_before_it_is_on),
        cmocka_unit_test(sizes_are_checked_and_memory_comes_back),
        cmocka_unit_test(buffers_are_made_once_and_shared),
        cmocka_unit_test(each_cpu_writes_its_own),
        cmocka_unit_test(masks_choose_class_kind_and_cpu),
        cmocka_unit_test(hypercalls_show_their_arguments),
        cmocka_unit_test(the_reader_is_told_and_the_past_is_forgotten),
        cmocka_unit_test(a_reader_that_lies_is_named_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
