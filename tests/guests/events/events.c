/* run: icount=1 time=60 */
/* Event channels: all kinds of binding, delivery and masking, limits and errors; then the same over FIFO queues. */
#include "kit.h"

static long alloc_unbound(unsigned dom, unsigned remote)
{
    struct evtchn_alloc_unbound a = {.dom = (domid_t)dom, .remote_dom = (domid_t)remote};
    long rc = event_channel_op(EVTCHNOP_alloc_unbound, &a);

    return rc < 0 ? rc : (long)a.port;
}

static long bind_interdomain(unsigned dom, unsigned port)
{
    struct evtchn_bind_interdomain b = {.remote_dom = (domid_t)dom, .remote_port = port};
    long rc = event_channel_op(EVTCHNOP_bind_interdomain, &b);

    return rc < 0 ? rc : (long)b.local_port;
}

static long event_close(unsigned port)
{
    struct evtchn_close c = {.port = port};

    return event_channel_op(EVTCHNOP_close, &c);
}

static long event_bind_vcpu(unsigned port, unsigned vcpu)
{
    struct evtchn_bind_vcpu b = {.port = port, .vcpu = vcpu};

    return event_channel_op(EVTCHNOP_bind_vcpu, &b);
}

static struct evtchn_status status_of(unsigned port, long *rc)
{
    struct evtchn_status s = {.dom = DOMID_SELF, .port = port};

    *rc = event_channel_op(EVTCHNOP_status, &s);
    return s;
}

static void check_status(unsigned port, unsigned want)
{
    long rc;
    struct evtchn_status s = status_of(port, &rc);

    check(rc == 0 && s.status == want, "status of port %u: %ld, %u", port, rc, s.status);
}

static bool pending(unsigned port)
{
    return (((volatile unsigned long *)shared_info->evtchn_pending)[port / 64] >> port % 64 & 1) != 0;
}

static void channels(void)
{
    long a = alloc_unbound(DOMID_SELF, DOMID_SELF), b, c;

    check(a > 0 && a < 64, "alloc_unbound: port %ld", a);
    check_status((unsigned)a, EVTCHNSTAT_unbound);
    check_equal(event_send((unsigned)a), 0); /* to nobody: lost */
    check(!pending((unsigned)a), "nothing is pending");
    b = bind_interdomain(DOMID_SELF, (unsigned)a);
    check(b > 0 && b != a && b < 64, "bind_interdomain: port %ld", b);
    check_status((unsigned)a, EVTCHNSTAT_interdomain);
    check_status((unsigned)b, EVTCHNSTAT_interdomain);
    check_negative(bind_interdomain(DOMID_SELF, (unsigned)a)); /* taken */

    /* A binding may leave a notification behind; a masked port keeps it pending. */
    event_unmask((unsigned)a);
    event_unmask((unsigned)b);
    event_counts[a] = event_counts[b] = 0;
    check_equal(event_send((unsigned)a), 0);
    check(event_counts[b] == 1 && event_counts[a] == 0, "a -> b: %u, %u", event_counts[a], event_counts[b]);
    check_equal(event_send((unsigned)b), 0);
    check(event_counts[a] == 1, "b -> a: %u", event_counts[a]);
    event_mask((unsigned)b);
    event_send((unsigned)a);
    event_send((unsigned)a);
    check(event_counts[b] == 1 && pending((unsigned)b), "masked: pending, not delivered");
    event_unmask((unsigned)b);
    check(event_counts[b] == 2 && !pending((unsigned)b), "unmasked: delivered once");
    event_unmask((unsigned)b);
    check(event_counts[b] == 2, "unmask without pending delivers nothing");

    events_disable();
    event_send((unsigned)a);
    check(event_counts[b] == 2 && vcpu_info_of(0)->evtchn_upcall_pending != 0 &&
              vcpu_info_of(0)->evtchn_pending_sel == 1,
          "upcalls masked: pending");
    events_enable();
    check(event_counts[b] == 3, "delivered when they are open");

    check_equal(event_close((unsigned)a), 0);
    check_status((unsigned)a, EVTCHNSTAT_closed);
    check_status((unsigned)b, EVTCHNSTAT_unbound); /* the other end waits again */
    check_equal(event_close((unsigned)a), -EINVAL);
    check_equal(event_send((unsigned)a), -EINVAL);
    c = alloc_unbound(DOMID_SELF, DOMID_SELF);
    check(c == a, "the lowest free port comes first: %ld", c);
    check_equal(event_close((unsigned)b), 0);
    check_equal(event_close((unsigned)c), 0);
}

static void ipis_and_virqs(void)
{
    long ipi = bind_ipi(0), timer, debug, global;
    long rc;
    struct evtchn_status s;

    check(ipi > 0, "bind_ipi: %ld", ipi);
    check_status((unsigned)ipi, EVTCHNSTAT_ipi);
    event_unmask((unsigned)ipi);
    event_counts[ipi] = 0;
    check_equal(event_send((unsigned)ipi), 0);
    check(event_counts[ipi] == 1, "IPI to itself: %u", event_counts[ipi]);
    check_equal(event_bind_vcpu((unsigned)ipi, 0), -EINVAL);
    check_equal(bind_ipi(77), -ENOENT);
    check_equal(bind_ipi(~0U), -ENOENT);

    timer = bind_virq(VIRQ_TIMER, 0);
    check(timer > 0, "bind_virq timer: %ld", timer);
    s = status_of((unsigned)timer, &rc);
    check(rc == 0 && s.status == EVTCHNSTAT_virq && s.u.virq == VIRQ_TIMER && s.vcpu == 0, "its status");
    check_equal(bind_virq(VIRQ_TIMER, 0), -EEXIST);
    check_equal(bind_virq(VIRQ_TIMER, 77), -ENOENT);
    check_equal(bind_virq(NR_VIRQS, 0), -EINVAL);
    check_equal(bind_virq(~0U, 0), -EINVAL);
    check_equal(event_send((unsigned)timer), -EINVAL);
    check_equal(event_bind_vcpu((unsigned)timer, 0), -EINVAL);
    debug = bind_virq(VIRQ_DEBUG, 0);
    check(debug > 0, "bind_virq debug: %ld", debug);
    global = bind_virq(VIRQ_CONSOLE, 0);
    check(global > 0, "bind_virq console: %ld", global);
    check_equal(event_bind_vcpu((unsigned)global, 0), 0);
    check_equal(event_bind_vcpu((unsigned)global, 77), -ENOENT);
    check_equal(event_close((unsigned)ipi), 0);
    check_equal(event_close((unsigned)timer), 0);
    check_equal(event_close((unsigned)debug), 0);
    check_equal(event_close((unsigned)global), 0);
    timer = bind_virq(VIRQ_TIMER, 0);
    check(timer > 0, "a closed VIRQ can be bound again");
    event_close((unsigned)timer);
}

static void errors(void)
{
    struct evtchn_status s = {.dom = 1234, .port = 1};
    struct evtchn_unmask u = {.port = 1 << 20};
    struct evtchn_bind_pirq p = {.pirq = 0xffffff};
    struct evtchn_set_priority priority = {.port = 1, .priority = 3};
    struct evtchn_expand_array expand = {.array_gfn = virt_to_mfn(page_alloc())};
    struct evtchn_reset reset = {.dom = 1234};

    check_negative(alloc_unbound(1234, DOMID_SELF));
    check_negative(bind_interdomain(1234, 1));
    check_equal(bind_interdomain(DOMID_SELF, 1 << 20), -EINVAL);
    check_equal(bind_interdomain(DOMID_SELF, 0), -EINVAL);
    check_equal(event_close(0), -EINVAL);
    check_equal(event_close(1 << 20), -EINVAL);
    check_equal(event_close(~0U), -EINVAL);
    check_equal(event_send(0), -EINVAL);
    check_equal(event_send(~0U), -EINVAL);
    check_equal(event_channel_op(EVTCHNOP_status, &s), -ESRCH);
    s.dom = DOMID_SELF;
    s.port = ~0U;
    check_equal(event_channel_op(EVTCHNOP_status, &s), -EINVAL);
    check_equal(event_channel_op(EVTCHNOP_unmask, &u), -EINVAL);
    check_equal(event_channel_op(EVTCHNOP_bind_pirq, &p), -EINVAL);
    check_negative(event_channel_op(EVTCHNOP_set_priority, &priority)); /* no FIFO yet */
    check_negative(event_channel_op(EVTCHNOP_expand_array, &expand));
    check_negative(event_channel_op(EVTCHNOP_reset, &reset));
    check_equal(event_channel_op(99, &s), -ENOSYS);
    check_equal(event_bind_vcpu(~0U, 0), -EINVAL);
}

/* All ports there are: then -ENOSPC, and again after they are closed. */
static void limits(void)
{
    unsigned count = 0, closed = 0;
    long p, last = 0;

    while ((p = alloc_unbound(DOMID_SELF, DOMID_SELF)) > 0 && count < 200000) {
        count++;
        last = p;
    }
    check(p == -ENOSPC, "the end of ports: %ld", p);
    check(count >= 1000 && count <= EVTCHN_2L_NR_CHANNELS, "%u ports, the last %ld", count, last);
    for (long i = 1; i <= last; i++)
        closed += event_close((unsigned)i) == 0;
    check(closed >= count, "%u closed", closed);
    p = alloc_unbound(DOMID_SELF, DOMID_SELF);
    check(p == 1 || p > 0, "a port again: %ld", p);
    event_close((unsigned)p);
}

static void polling(void)
{
    evtchn_port_t ports[4];
    struct sched_poll poll = {.nr_ports = 1};
    long ipi = bind_ipi(0);
    uint64_t start, end;

    set_xen_guest_handle(poll.ports, ports);
    ports[0] = (evtchn_port_t)ipi;
    event_mask((unsigned)ipi);
    event_send((unsigned)ipi);
    poll.timeout = 0;
    check_equal(sched_op(SCHEDOP_poll, &poll), 0); /* pending: at once, though without a limit */
    check(pending((unsigned)ipi), "poll leaves the port pending");
    __atomic_and_fetch(&shared_info->evtchn_pending[0], ~(1UL << ipi), __ATOMIC_SEQ_CST);
    start = time_now();
    poll.timeout = start + 20000000;
    check_equal(sched_op(SCHEDOP_poll, &poll), 0);
    end = time_now();
    check(end >= start + 20000000 && end < start + 22000000, "poll waits until its timeout: %lu us",
          (end - start) / 1000);
    start = time_now();
    poll.timeout = start - 1000000;
    check_equal(sched_op(SCHEDOP_poll, &poll), 0);
    check(time_now() < start + 2000000, "a timeout in the past is none");
    ports[0] = ~0U;
    check_equal(sched_op(SCHEDOP_poll, &poll), -EINVAL);
    poll.nr_ports = 129;
    check_equal(sched_op(SCHEDOP_poll, &poll), -EINVAL);
    poll.nr_ports = ~0U;
    check_equal(sched_op(SCHEDOP_poll, &poll), -EINVAL);
    event_close((unsigned)ipi);
}

/* FIFO */
static volatile event_word_t *words;
static volatile struct evtchn_fifo_control_block *control;
static unsigned fifo_order[64], fifo_count;
static unsigned fifo_seen[64];

static bool fifo_event(struct regs *r)
{
    (void)r;
    __atomic_exchange_n(&vcpu_info_of(0)->evtchn_upcall_pending, 0, __ATOMIC_SEQ_CST);
    for (uint32_t ready; (ready = __atomic_exchange_n(&control->ready, 0, __ATOMIC_SEQ_CST)) != 0;)
        for (unsigned q = 0; q < 16; q++) {
            uint32_t port;

            if ((ready >> q & 1) == 0)
                continue;
            port = control->head[q];
            while (port != 0) {
                event_word_t old = words[port], next;

                do
                    next = old & ~((1U << EVTCHN_FIFO_LINKED) | EVTCHN_FIFO_LINK_MASK);
                while (
                    !__atomic_compare_exchange_n(&words[port], &old, next, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
                control->head[q] = old & EVTCHN_FIFO_LINK_MASK;
                if ((old >> EVTCHN_FIFO_PENDING & 1) != 0 && (old >> EVTCHN_FIFO_MASKED & 1) == 0) {
                    __atomic_and_fetch(&words[port], ~(1U << EVTCHN_FIFO_PENDING), __ATOMIC_SEQ_CST);
                    if (port < 64)
                        fifo_seen[port]++;
                    if (fifo_count < 64)
                        fifo_order[fifo_count++] = port;
                }
                port = old & EVTCHN_FIFO_LINK_MASK;
            }
        }
    return true;
}

static void fifo_unmask(unsigned port)
{
    __atomic_and_fetch(&words[port], ~(1U << EVTCHN_FIFO_MASKED), __ATOMIC_SEQ_CST);
    event_unmask(port);
}

static void fifo(void)
{
    void *block = page_alloc(), *array = page_alloc(), *array2 = page_alloc();
    struct evtchn_init_control init = {.control_gfn = virt_to_mfn(block), .offset = 0, .vcpu = 0};
    struct evtchn_expand_array expand = {.array_gfn = virt_to_mfn(array)};
    struct evtchn_set_priority priority;
    struct evtchn_reset reset = {.dom = DOMID_SELF};
    long before = bind_ipi(0), ipi[6];
    unsigned failures = 0;

    printf("-- FIFO\n");
    init.offset = 4;
    check_negative(event_channel_op(EVTCHNOP_init_control, &init));
    init.offset = PAGE_SIZE - 8;
    check_negative(event_channel_op(EVTCHNOP_init_control, &init));
    init.offset = 0;
    init.vcpu = 77;
    check_equal(event_channel_op(EVTCHNOP_init_control, &init), -ENOENT);
    init.vcpu = 0;
    init.control_gfn = 0x200;
    check_negative(event_channel_op(EVTCHNOP_init_control, &init));
    init.control_gfn = kernel_root;
    check_negative(event_channel_op(EVTCHNOP_init_control, &init));
    init.control_gfn = 1UL << 40;
    check_negative(event_channel_op(EVTCHNOP_init_control, &init));
    init.control_gfn = virt_to_mfn(block);
    init.offset = 64;
    check_equal(event_channel_op(EVTCHNOP_init_control, &init), 0);
    check(init.link_bits == EVTCHN_FIFO_LINK_BITS, "link bits %u", init.link_bits);
    control = (void *)((uint8_t *)block + 64);
    words = array;
    trap_hooks[VECTOR_EVENT] = fifo_event;
    check_negative(event_channel_op(EVTCHNOP_init_control, &init)); /* once only */

    expand.array_gfn = kernel_root;
    check_negative(event_channel_op(EVTCHNOP_expand_array, &expand));
    expand.array_gfn = 0x200;
    check_negative(event_channel_op(EVTCHNOP_expand_array, &expand));
    expand.array_gfn = virt_to_mfn(array);
    check_equal(event_channel_op(EVTCHNOP_expand_array, &expand), 0);
    check(page_set_flags(array, PTE_RO) == 0 && mmuext(MMUEXT_PIN_L1_TABLE, virt_to_mfn(array), 0) < 0,
          "an event array cannot become a page table");
    page_make_writable(array);

    fifo_unmask((unsigned)before);
    fifo_seen[before] = 0;
    check_equal(event_send((unsigned)before), 0);
    check(fifo_seen[before] == 1, "a port bound before FIFO is delivered: %u", fifo_seen[before]);
    for (unsigned i = 0; i < 6; i++) {
        ipi[i] = bind_ipi(0);
        failures += ipi[i] <= 0 || ipi[i] >= 64;
        fifo_unmask((unsigned)ipi[i]);
        priority.port = (evtchn_port_t)ipi[i];
        priority.priority = 12 - 2 * i;
        failures += event_channel_op(EVTCHNOP_set_priority, &priority) != 0;
    }
    check(failures == 0, "six ports with priorities");
    priority.priority = 16;
    check_equal(event_channel_op(EVTCHNOP_set_priority, &priority), -EINVAL);

    events_disable();
    fifo_count = 0;
    for (unsigned i = 0; i < 6; i++)
        event_send((unsigned)ipi[i]);
    for (unsigned i = 0; i < 6; i++)
        event_send((unsigned)ipi[i]); /* again while linked: no second entry */
    events_enable();
    check(fifo_count == 6, "six events for twelve sends: %u", fifo_count);
    for (unsigned i = 0; i < 6; i++)
        failures += fifo_order[i] != ipi[5 - i];
    check(failures == 0, "in the order of priority");

    /* In one queue: in the order of sending. */
    for (unsigned i = 0; i < 6; i++) {
        priority.port = (evtchn_port_t)ipi[i];
        priority.priority = 7;
        event_channel_op(EVTCHNOP_set_priority, &priority);
        fifo_seen[ipi[i]] = 0;
    }
    for (unsigned i = 0; i < 6; i++)
        event_send((unsigned)ipi[i]); /* the queue of a port changes when it is next linked */
    events_disable();
    fifo_count = 0;
    for (unsigned i = 0; i < 6; i++)
        event_send((unsigned)ipi[(i * 5 + 2) % 6]);
    events_enable();
    for (unsigned i = 0; i < 6; i++)
        failures += fifo_order[i] != ipi[(i * 5 + 2) % 6];
    check(fifo_count == 6 && failures == 0, "in the order of sending: %u", fifo_count);

    /* Masked in the word */
    __atomic_or_fetch(&words[ipi[0]], 1U << EVTCHN_FIFO_MASKED, __ATOMIC_SEQ_CST);
    fifo_seen[ipi[0]] = 0;
    event_send((unsigned)ipi[0]);
    check(fifo_seen[ipi[0]] == 0 && (words[ipi[0]] >> EVTCHN_FIFO_PENDING & 1) != 0, "masked: pending, not delivered");
    fifo_unmask((unsigned)ipi[0]);
    check(fifo_seen[ipi[0]] == 1, "unmasked: delivered: %u", fifo_seen[ipi[0]]);

    /* A guest that writes nonsense into the words hurts only itself. */
    for (unsigned round = 0; round < 200; round++) {
        events_disable();
        for (unsigned i = 0; i < 6; i++) {
            event_send((unsigned)ipi[i]);
            words[ipi[i]] = (round * 0x9e3779b9U + i * 0x85ebca6bU) | (round & 1 ? 1U << EVTCHN_FIFO_BUSY : 0);
        }
        control->head[7] = round * 77777;
        for (unsigned i = 0; i < 6; i++)
            event_send((unsigned)ipi[i]);
        for (unsigned i = 0; i < 1024; i++)
            words[i] = i % 64 == 0 ? ~0U : 0;
        control->ready = 0;
    }
    memset(array, 0, PAGE_SIZE);
    events_enable();
    check_equal(xen_version(XENVER_pagesize, NULL), 4096);

    /* Ports beyond one page of words. */
    expand.array_gfn = virt_to_mfn(array2);
    check_equal(event_channel_op(EVTCHNOP_expand_array, &expand), 0);
    for (unsigned i = 0; i < 6; i++)
        check_quiet(event_close((unsigned)ipi[i]) == 0, "close");
    {
        unsigned count = 0;
        long p, last = 0;

        while (count < 1500 && (p = alloc_unbound(DOMID_SELF, DOMID_SELF)) > 0) {
            count++;
            last = p;
        }
        check(count == 1500 && last > 1024, "1500 ports on two pages: %u, the last %ld", count, last);
    }
    events_disable();
    check_equal(event_channel_op(EVTCHNOP_reset, &reset), 0);
    check_equal(event_send((unsigned)before), -EINVAL);
}

GUEST("events")
{
    check_equal(vcpu_op(VCPUOP_stop_periodic_timer, 0, NULL), 0);
    events_enable();
    channels();
    ipis_and_virqs();
    errors();
    limits();
    polling();
    fifo();
}
