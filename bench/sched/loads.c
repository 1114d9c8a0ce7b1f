/* The loads of loads.h. */
#include "loads.h"

#define DENSE_MAX_PAGES 1024UL

void work_unit(void)
{
    unsigned long n = 128, x = 0;

    asm volatile("1: .rept 64\n incq %1\n .endr\n decq %0\n jnz 1b\n pause" : "+r"(n), "+r"(x) : : "cc");
}

static void work(struct figures *f, long units)
{
    for (long i = 0; i < units; i++) {
        work_unit();
        f->work++;
    }
}

static void sleep_until(uint64_t when)
{
    struct sched_poll nap = {.timeout = when};

    sched_op(SCHEDOP_poll, &nap);
}

static bool take_event(uint32_t port)
{
    unsigned long bit = 1UL << port % 64;

    return (__atomic_fetch_and(&shared_info->evtchn_pending[port / 64], ~bit, __ATOMIC_SEQ_CST) & bit) != 0;
}

static void wait_for_event(uint32_t port)
{
    struct sched_poll poll = {.nr_ports = 1};

    set_xen_guest_handle(poll.ports, &port);
    while (!take_event(port))
        sched_op(SCHEDOP_poll, &poll);
}

/* The timer's port; nobody takes upcalls for it. */
static uint32_t timer_port(void)
{
    long port = bind_virq(VIRQ_TIMER, 0);

    if (port < 0)
        panic("no timer: %ld", port);
    vcpu_op(VCPUOP_stop_periodic_timer, 0, NULL);
    return (uint32_t)port;
}

static void timer_set(uint64_t when)
{
    struct vcpu_set_singleshot_timer t = {.timeout_abs_ns = when};

    if (vcpu_op(VCPUOP_set_singleshot_timer, 0, &t) != 0)
        panic("the timer is refused");
}

long load_busy(long *a)
{
    (void)a;
    for (;;)
        work(figures_of(&kit_talk), 1);
}

long load_napper(long *a)
{
    for (;;) {
        work(figures_of(&kit_talk), a[0]);
        sleep_until(time_now() + (uint64_t)a[1]);
    }
}

long load_periodic(long *a)
{
    struct figures *f = figures_of(&kit_talk);
    uint32_t port = timer_port();
    uint64_t next = time_now() + (uint64_t)a[0];

    for (;;) {
        uint64_t now, late;

        timer_set(next);
        do {
            wait_for_event(port);
            now = time_now();
        } while (now < next);
        late = now - next;
        f->wakes++;
        f->late[late / (uint64_t)a[2] < BUCKETS - 1 ? late / (uint64_t)a[2] : BUCKETS - 1]++;
        f->latest = late > f->latest ? late : f->latest;
        work(f, a[1]);
        next += (uint64_t)a[0];
        if (next < time_now()) {
            f->missed++;
            next = time_now() + (uint64_t)a[0];
        }
    }
}

long load_event_storm(long *a)
{
    struct evtchn_alloc_unbound alloc = {.dom = DOMID_SELF, .remote_dom = DOMID_SELF};
    struct evtchn_bind_interdomain bind = {.remote_dom = DOMID_SELF};

    (void)a;
    if (event_channel_op(EVTCHNOP_alloc_unbound, &alloc) != 0)
        panic("no port");
    bind.remote_port = alloc.port;
    if (event_channel_op(EVTCHNOP_bind_interdomain, &bind) != 0)
        panic("no channel");
    event_unmask(alloc.port);
    events_enable();
    for (;;) {
        event_send(bind.local_port);
        event_send(kit_talk.port);
        figures_of(&kit_talk)->work++;
    }
}

long load_timer_storm(long *a)
{
    uint32_t port = timer_port();

    for (;;) {
        timer_set(time_now() + (uint64_t)a[0]);
        timer_set(time_now() + (uint64_t)a[0]);
        wait_for_event(port);
        figures_of(&kit_talk)->work++;
    }
}

long load_yield_storm(long *a)
{
    (void)a;
    for (;;) {
        sched_op(SCHEDOP_yield, NULL);
        figures_of(&kit_talk)->work++;
    }
}

long load_yielder(long *a)
{
    struct figures *f = figures_of(&kit_talk);

    for (;;) {
        uint64_t start = tsc_read(), ticks;

        sched_op(SCHEDOP_yield, NULL);
        ticks = tsc_read() - start;
        if (ticks >= (uint64_t) * (volatile long *)&a[0]) {
            f->switched++;
        } else {
            f->stayed++;
            f->stayed_ticks += ticks;
        }
    }
}

static void take_memory(unsigned long pages)
{
    static xen_pfn_t frames[DENSE_MAX_PAGES];
    static struct mmu_update updates[DENSE_MAX_PAGES];
    struct xen_memory_reservation r = {.nr_extents = pages, .domid = DOMID_SELF};
    uint64_t *table = NULL;

    for (unsigned long i = 0; i < pages; i++)
        frames[i] = DENSE_MAX_PAGES + i; /* numbers that nothing of the image has */
    set_xen_guest_handle(r.extent_start, frames);
    if (pages > DENSE_MAX_PAGES || memory_op(XENMEM_populate_physmap, &r) != (long)pages)
        panic("%lu pages are refused", pages);
    for (unsigned long i = 0; i < pages; i++) {
        if (i % 512 == 0) {
            map_page(TEST_VA + i * PAGE_SIZE, 0);
            table = pte_of(TEST_VA + i * PAGE_SIZE);
        }
        updates[i] = (struct mmu_update){.ptr = virt_to_machine(table + i % 512), .val = make_pte(frames[i], PTE_RW)};
    }
    if (mmu_update(updates, (unsigned)pages, NULL, DOMID_SELF) != 0)
        panic("mapping %lu pages is refused", pages);
}

long load_dense(long *a)
{
    struct figures *f = figures_of(&kit_talk);
    unsigned long at = 0;

    take_memory((unsigned long)a[0]);
    for (;;) {
        for (long i = 0; i < a[1]; i++) {
            work(f, 1);
            at = (at + 1) % (unsigned long)a[0];
            ++*(volatile uint64_t *)(TEST_VA + at * PAGE_SIZE);
            if (take_event(kit_talk.port)) {
                f->answered++;
                event_send(kit_talk.port);
            }
        }
        sleep_until(time_now() + (uint64_t)a[2]);
    }
}
