/* run: smp=2 append="dom0_max_vcpus=2" time=60 */
/*
 * Event channels between domains: binding, sending and closing from each side, what others may not do with them, both
 * ways of delivery, limits, reset, and the death of one side.
 */
#include "child.h"

static struct child children[2], *first, *second;

static unsigned id_of(struct child *c) { return c != NULL ? c->domid : 0; }

/* ---- What a domain does when told ---- */

static long pending_here(long *a) { return (long)(shared_info->evtchn_pending[a[0] / 64] >> a[0] % 64 & 1); }

static long clear_here(long *a)
{
    __atomic_and_fetch(&shared_info->evtchn_pending[a[0] / 64], ~(1UL << a[0] % 64), __ATOMIC_SEQ_CST);
    return 0;
}

static bool pending(struct child *who, long port) { return child_call(who, pending_here, port) == 1; }
static void clear(struct child *who, long port) { child_call(who, clear_here, port); }

static long channel_op(struct child *who, unsigned cmd, void *op, size_t size)
{
    return op_by(who, __HYPERVISOR_event_channel_op, cmd, op, size, 0);
}
#define OP(who, cmd, op) channel_op(who, EVTCHNOP_##cmd, &(op), sizeof(op))

/* A port, or an error */
static long alloc_unbound(struct child *who, unsigned dom, unsigned remote)
{
    struct evtchn_alloc_unbound a = {.dom = (domid_t)dom, .remote_dom = (domid_t)remote};
    long rc = OP(who, alloc_unbound, a);

    return rc < 0 ? rc : (long)a.port;
}

static long bind(struct child *who, unsigned remote, long port)
{
    struct evtchn_bind_interdomain b = {.remote_dom = (domid_t)remote, .remote_port = (evtchn_port_t)port};
    long rc = OP(who, bind_interdomain, b);

    return rc < 0 ? rc : (long)b.local_port;
}

static long close(struct child *who, long port)
{
    struct evtchn_close c = {.port = (evtchn_port_t)port};

    return OP(who, close, c);
}

static long send(struct child *who, long port)
{
    struct evtchn_send s = {.port = (evtchn_port_t)port};

    return OP(who, send, s);
}

static long reset(struct child *who, unsigned dom)
{
    struct evtchn_reset r = {.dom = (domid_t)dom};

    return OP(who, reset, r);
}

/* Checks the state of a port: unbound or interdomain, with whom and with which port there. */
static void check_state(struct child *who, long port, unsigned state, unsigned dom, long remote_port)
{
    struct evtchn_status s = {.dom = DOMID_SELF, .port = (evtchn_port_t)port};
    long rc = OP(who, status, s);
    bool ok = rc == 0 && s.status == state;

    if (ok && state == EVTCHNSTAT_unbound)
        ok = s.u.unbound.dom == dom;
    if (ok && state == EVTCHNSTAT_interdomain)
        ok = s.u.interdomain.dom == dom && s.u.interdomain.port == (evtchn_port_t)remote_port;
    check(ok, "port %ld of d%u: %ld, state %u, wanted %u", port, id_of(who), rc, s.status, state);
}

static void children_start(unsigned count)
{
    first = &children[0];
    second = count > 1 ? &children[1] : NULL;
    child_start(first);
    if (count > 1)
        child_start(second);
}

static void children_end(void)
{
    child_end(first);
    if (second != NULL)
        child_end(second);
}

/* ---- Between two ---- */

static void check_sends(struct child *from, long from_port, struct child *to, long to_port)
{
    clear(from, from_port);
    clear(to, to_port);
    check_equal(send(from, from_port), 0);
    check(pending(to, to_port), "d%u port %ld -> d%u port %ld", id_of(from), from_port, id_of(to), to_port);
    check(from == to || !pending(from, from_port), "not the other way");
    clear(to, to_port);
}

static void between(struct child *a, struct child *b, struct child *other)
{
    unsigned ida = id_of(a), idb = id_of(b);
    long p, q, x;

    printf("-- d%u and d%u\n", ida, idb);
    p = alloc_unbound(a, DOMID_SELF, idb);
    check(p > 0, "d%u has port %ld", ida, p);
    check_state(a, p, EVTCHNSTAT_unbound, idb, 0);
    check_equal(send(a, p), 0); /* to nobody yet */
    check_equal(bind(other, ida, p), -EINVAL);
    check_equal(bind(b, ida, p + 1), -EINVAL);
    check_equal(bind(b, ida, 0), -EINVAL);
    check_equal(bind(b, ida, 0xffffffff), -EINVAL);
    check_equal(bind(b, id_of(other), p), -EINVAL);
    check_equal(bind(b, 30000, p), -ESRCH);
    check_equal(bind(b, DOMID_XEN, p), -ESRCH);
    q = bind(b, ida, p);
    check(q > 0, "d%u has port %ld", idb, q);
    check(pending(b, q), "a binding makes the port pending: the other end may have sent before");
    check_state(a, p, EVTCHNSTAT_interdomain, idb, q);
    check_state(b, q, EVTCHNSTAT_interdomain, ida, p);
    check_equal(bind(b, ida, p), -EINVAL);
    check_equal(bind(a, idb, q), -EINVAL);
    check_sends(a, p, b, q);
    check_sends(b, q, a, p);

    check_equal(close(a, p), 0); /* by the one that had allocated it */
    check_state(a, p, EVTCHNSTAT_closed, 0, 0);
    check_state(b, q, EVTCHNSTAT_unbound, ida, 0);
    check_equal(send(a, p), -EINVAL);
    check_equal(close(a, p), -EINVAL);
    check_equal(send(b, q), 0);
    check_equal(bind(other, idb, q), -EINVAL);
    p = bind(a, idb, q);
    check(p > 0, "bound again, from the other side");
    check_sends(a, p, b, q);
    check_sends(b, q, a, p);
    check_equal(close(b, q), 0); /* by the other one */
    check_state(a, p, EVTCHNSTAT_unbound, idb, 0);
    check_state(b, q, EVTCHNSTAT_closed, 0, 0);
    check_equal(send(b, q), -EINVAL);
    x = alloc_unbound(b, DOMID_SELF, ida);
    check_equal(x, q); /* the lowest free port */
    check(!pending(b, x), "with nothing pending");
    check_equal(close(a, p), 0);
    check_equal(close(b, x), 0);

    check_equal(send(a, 0), -EINVAL);
    check_equal(send(a, 4096), -EINVAL);
    check_equal(send(a, 0xffffffff), -EINVAL);
    check_equal(close(a, 0), -EINVAL);
    check_equal(close(a, 0x7fffffff), -EINVAL);
}

static void by_domain_0_for_others(void)
{
    long p = alloc_unbound(NULL, first->domid, second->domid), q, l;

    check(p > 0, "domain 0 gives d%u port %ld", first->domid, p);
    check_state(first, p, EVTCHNSTAT_unbound, second->domid, 0);
    check_equal(bind(NULL, first->domid, p), -EINVAL);
    q = bind(second, first->domid, p);
    check_sends(first, p, second, q);
    check_equal(alloc_unbound(first, second->domid, DOMID_SELF), -EPERM);
    check_equal(alloc_unbound(first, 0, DOMID_SELF), -EPERM);
    check_equal(alloc_unbound(NULL, 30000, 0), -ESRCH);
    check_equal(reset(first, second->domid), -EPERM);
    check_equal(close(first, p), 0);
    check_equal(close(second, q), 0);

    p = alloc_unbound(first, DOMID_SELF, DOMID_SELF);
    check_state(first, p, EVTCHNSTAT_unbound, first->domid, 0);
    l = bind(first, DOMID_SELF, p);
    check_sends(first, p, first, l);
    check_sends(first, l, first, p);
    check_equal(close(first, p), 0);
    check_equal(close(first, l), 0);
}

static void pairs(void)
{
    children_start(2);
    between(first, NULL, second);
    between(NULL, first, second);
    between(first, second, NULL);
    by_domain_0_for_others();
    children_end();
}

/* ---- Ports of a child that need nobody else ---- */

static long timer_here(long *a)
{
    struct vcpu_set_singleshot_timer once = {.timeout_abs_ns = time_now() + 2000000};
    uint64_t limit = time_now() + 2000000000UL;

    if (vcpu_op(VCPUOP_set_singleshot_timer, 0, &once) != 0)
        return -1;
    while (pending_here(a) == 0 && time_now() < limit)
        ;
    return pending_here(a);
}

static void alone(void)
{
    struct evtchn_bind_virq virq = {.virq = VIRQ_TIMER}, bad = {.virq = NR_VIRQS};
    struct evtchn_bind_virq global = {.virq = VIRQ_DOM_EXC}, ours = {.virq = VIRQ_DOM_EXC};
    struct evtchn_bind_ipi ipi = {.vcpu = 0}, far = {.vcpu = 1};
    struct evtchn_bind_pirq pirq = {.pirq = 4};
    struct evtchn_bind_vcpu to = {.vcpu = 0};
    bool has_global;

    children_start(1);
    check_equal(OP(first, bind_virq, virq), 0);
    check_state(first, virq.port, EVTCHNSTAT_virq, 0, 0);
    check_equal(OP(first, bind_virq, virq), -EEXIST);
    check_equal(send(first, virq.port), -EINVAL);
    check_equal(child_call(first, timer_here, virq.port), 1);
    check_equal(OP(first, bind_virq, bad), -EINVAL);
    bad = (struct evtchn_bind_virq){.virq = VIRQ_TIMER, .vcpu = 1};
    check_equal(OP(first, bind_virq, bad), -ENOENT);
    bad = (struct evtchn_bind_virq){.virq = VIRQ_DOM_EXC, .vcpu = 1};
    check_equal(OP(first, bind_virq, bad), -EINVAL);
    check_equal(OP(first, bind_ipi, ipi), 0);
    check_state(first, ipi.port, EVTCHNSTAT_ipi, 0, 0);
    check_equal(send(first, ipi.port), 0);
    check(pending(first, ipi.port), "an IPI to itself");
    check_equal(OP(first, bind_ipi, far), -ENOENT);
    check_equal(OP(first, bind_pirq, pirq), -EPERM);
    to.port = ipi.port;
    check_equal(OP(first, bind_vcpu, to), -EINVAL);
    to.port = first->talk->port;
    check_equal(OP(first, bind_vcpu, to), 0);
    to.vcpu = 7;
    check_equal(OP(first, bind_vcpu, to), -ENOENT);
    check_equal(bind(NULL, first->domid, ipi.port), -EINVAL);
    check_equal(bind(NULL, first->domid, virq.port), -EINVAL);

    /* What domain 0 is told of other domains, a child that asks for it is not. */
    has_global = OP(first, bind_virq, global) == 0;
    check_equal(OP(NULL, bind_virq, ours), 0);
    child_start(second = &children[1]);
    clear(NULL, ours.port);
    check_equal(child_destroy(second), 0);
    check(domain_gone(second->domid), "the second goes");
    check(pending(NULL, ours.port), "VIRQ_DOM_EXC came to domain 0");
    check(!has_global || !pending(first, global.port), "and to nobody else");
    check_equal(close(NULL, ours.port), 0);
    second = NULL;
    children_end();
}

/* ---- Limits and reset ---- */

/* Opens ports to domain a[0] until there are no more: how many, and in a[1] the error. */
static long open_all_here(long *a)
{
    long n = 0;

    for (;; n++) {
        struct evtchn_alloc_unbound op = {.dom = DOMID_SELF, .remote_dom = (domid_t)a[0]};

        a[1] = event_channel_op(EVTCHNOP_alloc_unbound, &op);
        if (a[1] != 0)
            return n;
    }
}

static long reset_here(long *a)
{
    struct evtchn_reset r = {.dom = (domid_t)a[0]};

    return event_channel_op(EVTCHNOP_reset, &r);
}

static void limits(void)
{
    child_max_port = 40;
    children_start(1);
    child_max_port = -1U;
    check_equal(child_call(first, open_all_here, 0), 39); /* 0 is never used, and one was there */
    check_equal(first->talk->a[1], -ENOSPC);
    check_equal(alloc_unbound(NULL, first->domid, 0), -ENOSPC);
    check_equal(close(first, 17), 0);
    check_equal(alloc_unbound(NULL, first->domid, 0), 17);
    child_end(first);

    children_start(1);
    check_equal(child_call(first, open_all_here, 0), 4094);
    check_equal(first->talk->a[1], -ENOSPC);
    child_end(first); /* with all of them open */
}

static void reconnect(void)
{
    check_equal(close(NULL, first->port), 0);
    child_connect(first);
    check_equal(child_call(first, pending_here, 5), 0);
}

static void resets(void)
{
    children_start(1);
    check_equal(child_call(first, open_all_here, 0), 4094);
    check_equal(child_call(first, reset_here, DOMID_SELF), 0);
    check_state(NULL, first->port, EVTCHNSTAT_unbound, first->domid, 0);
    check_equal(child_call(first, reset_here, DOMID_SELF), 0); /* of nothing */
    reconnect();
    check_equal(child_call(first, open_all_here, 0), 4094);
    check_equal(reset(NULL, first->domid), 0);
    check_state(NULL, first->port, EVTCHNSTAT_unbound, first->domid, 0);
    reconnect();
    check_equal(reset(NULL, 30000), -ESRCH);
    children_end();
}

/* ---- FIFO ---- */

static void *control_page, *array_page;

static long fifo_begin_here(long *a)
{
    struct evtchn_init_control control = {.vcpu = 0, .offset = 64};
    struct evtchn_expand_array array;

    control_page = page_alloc();
    array_page = page_alloc();
    array.array_gfn = virt_to_mfn(array_page);
    if (event_channel_op(EVTCHNOP_expand_array, &array) != -XEN_EOPNOTSUPP)
        return -1;
    control.control_gfn = U(a[0]); /* another domain's */
    if (event_channel_op(EVTCHNOP_init_control, &control) != -EINVAL)
        return -2;
    control.control_gfn = kernel_root; /* a page table */
    if (event_channel_op(EVTCHNOP_init_control, &control) != -EINVAL)
        return -3;
    control.control_gfn = virt_to_mfn(control_page);
    control.offset = 4092;
    if (event_channel_op(EVTCHNOP_init_control, &control) != -EINVAL)
        return -4;
    control.offset = 64;
    control.vcpu = 1;
    if (event_channel_op(EVTCHNOP_init_control, &control) != -ENOENT)
        return -5;
    control.vcpu = 0;
    if (event_channel_op(EVTCHNOP_init_control, &control) != 0 || control.link_bits != EVTCHN_FIFO_LINK_BITS)
        return -6;
    if (event_channel_op(EVTCHNOP_init_control, &control) != -EINVAL)
        return -7;
    if (event_channel_op(EVTCHNOP_expand_array, &array) != 0)
        return -8;
    array.array_gfn = U(a[0]);
    if (event_channel_op(EVTCHNOP_expand_array, &array) != -EINVAL)
        return -9;
    return page_set_flags(control_page, PTE_RO) | page_set_flags(array_page, PTE_RO) |
           page_set_flags(control_page, PTE_RW) | page_set_flags(array_page, PTE_RW);
}

static long word_here(long *a) { return ((volatile event_word_t *)array_page)[a[0]]; }

static long head_here(long *a)
{
    volatile struct evtchn_fifo_control_block *b = (void *)((uint8_t *)control_page + 64);

    a[1] = b->ready;
    return b->head[a[0]];
}

/* They are held as long as the domain uses them: they cannot be tables. */
static long fifo_pages_pin_here(long *a)
{
    void *page = a[0] == 0 ? control_page : array_page;
    long rc;

    page_set_flags(page, PTE_RO);
    rc = mmuext(MMUEXT_PIN_L1_TABLE, virt_to_mfn(page), 0);
    if (rc == 0)
        mmuext(MMUEXT_UNPIN_TABLE, virt_to_mfn(page), 0);
    page_set_flags(page, PTE_RW);
    return rc;
}

static void fifo(void)
{
    struct evtchn_set_priority priority = {.priority = 3};
    const event_word_t both = 1U << EVTCHN_FIFO_PENDING | 1U << EVTCHN_FIFO_LINKED;
    long p, q;

    children_start(1);
    check_equal(child_call(first, fifo_begin_here, (long)child_frame(NULL, &control_page)), 0);
    check_negative(child_call(first, fifo_pages_pin_here, 0));
    check_negative(child_call(first, fifo_pages_pin_here, 1));
    p = alloc_unbound(first, DOMID_SELF, 0);
    priority.port = (evtchn_port_t)p;
    check_equal(OP(first, set_priority, priority), 0);
    q = bind(NULL, first->domid, p);
    check_equal(child_call(first, word_here, p), 0);
    check_equal(send(NULL, q), 0);
    check_equal(child_call(first, word_here, p), both);
    check_equal(child_call(first, head_here, 3), p);
    check(first->talk->a[1] >> 3 & 1, "the queue is ready");
    check(!pending(first, p), "nothing comes the old way");
    check_sends(first, p, NULL, q); /* domain 0 is two-level */
    check_equal(close(NULL, q), 0);
    check_state(first, p, EVTCHNSTAT_unbound, 0, 0);
    /* Ports that two-level does not have */
    check(child_call(first, open_all_here, 0) > 4096, "more ports than two-level has");
    check_equal(first->talk->a[1], -ENOSPC);
    check_equal(child_call(first, reset_here, DOMID_SELF), 0);
    check_equal(child_call(first, fifo_pages_pin_here, 0), 0);
    check_equal(child_call(first, fifo_pages_pin_here, 1), 0);
    reconnect(); /* two-level again */
    check_equal(child_call(first, fifo_begin_here, (long)child_frame(NULL, &control_page)), 0);
    children_end(); /* with the pages in use */
}

/* ---- One side dies ---- */

static void deaths(void)
{
    volatile struct child_talk *talk;
    unsigned id;
    long p, q, l;

    children_start(2);
    id = first->domid;
    p = alloc_unbound(first, DOMID_SELF, 0);
    q = bind(NULL, id, p);
    p = alloc_unbound(first, DOMID_SELF, second->domid);
    l = bind(second, id, p);
    check_state(second, l, EVTCHNSTAT_interdomain, id, p);
    p = alloc_unbound(first, DOMID_SELF, 0);
    talk = first->talk; /* and so its number stays */
    check_equal(domctl(XEN_DOMCTL_destroydomain, id), 0);
    check_state(NULL, q, EVTCHNSTAT_unbound, id, 0);
    check_state(second, l, EVTCHNSTAT_unbound, id, 0);
    check_equal(send(NULL, q), 0);
    check_equal(send(second, l), 0);
    check(bind(NULL, id, p) < 0, "bind to a port of a dead domain");
    check(alloc_unbound(NULL, id, 0) < 0, "a port for it");
    check(reset(NULL, id) <= 0, "its reset");
    check_equal(talk->order, talk->answered);
    child_let_go(first);
    check(domain_gone(id), "it goes");
    check_equal(bind(NULL, id, p), -ESRCH);
    check_state(NULL, q, EVTCHNSTAT_unbound, id, 0); /* whoever has that number next may bind it */
    check_equal(close(NULL, q), 0);
    check_equal(close(second, l), 0);
    child_end(second);
}

static volatile unsigned stop;

/* By domain 0's second vcpu: channels to a domain that may end at any moment. */
static void bind_and_send(void *domid)
{
    struct evtchn_alloc_unbound a = {.dom = (domid_t)(unsigned long)domid, .remote_dom = 0};

    while (stop == 0) {
        struct evtchn_bind_interdomain b = {.remote_dom = a.dom};
        struct evtchn_status s = {.dom = a.dom, .port = 2};
        struct evtchn_close c;

        if (event_channel_op(EVTCHNOP_alloc_unbound, &a) != 0)
            continue;
        b.remote_port = a.port;
        event_channel_op(EVTCHNOP_status, &s);
        if (event_channel_op(EVTCHNOP_bind_interdomain, &b) != 0)
            continue;
        event_send(b.local_port);
        c.port = b.local_port;
        check_quiet(event_channel_op(EVTCHNOP_close, &c) == 0, "closing");
    }
}

static void dies_in_use(void)
{
    for (unsigned i = 0; i < 20; i++) {
        bool runs = i % 2 != 0; /* else it has no channel before */

        if (runs)
            children_start(1);
        else
            child_create(first = &children[0], 1);
        stop = 0;
        second_begin(bind_and_send, (void *)(unsigned long)first->domid);
        spin_ns(runs ? 1000000 + i * 50000 : i * 2000);
        if (i % 4 == 3)
            check_quiet(reset(NULL, first->domid) == 0, "reset");
        child_end(first);
        stop = 1;
        second_wait();
    }
}

/* Sends for ever, to the other child. */
static long send_here(long *a)
{
    struct evtchn_send s = {.port = (evtchn_port_t)a[0]};

    for (;;) {
        event_channel_op(EVTCHNOP_send, &s);
        a[1]++;
    }
    return 0;
}

static void receiver_dies(void)
{
    for (unsigned i = 0; i < 10; i++) {
        uint64_t limit = time_now() + 2000000000UL;
        long p, q;

        children_start(2);
        p = alloc_unbound(first, DOMID_SELF, second->domid);
        q = bind(second, first->domid, p);
        child_begin(second, send_here, (const long[CHILD_ARGS]){q});
        while (second->talk->a[1] < 10 && time_now() < limit)
            sched_op(SCHEDOP_yield, NULL);
        check_quiet(second->talk->a[1] >= 10, "it sends");
        child_end(i % 2 != 0 ? first : second);
        child_end(i % 2 != 0 ? second : first);
    }
}

/* Binds port a[0] of domain 0, and closes that at the moment when domain 0 may close its end. */
static long bind_and_close_here(long *a)
{
    struct evtchn_bind_interdomain b = {.remote_dom = 0, .remote_port = (evtchn_port_t)a[0]};
    struct evtchn_close c;

    if (event_channel_op(EVTCHNOP_bind_interdomain, &b) != 0)
        return -1;
    a[1] = 1;
    c.port = b.local_port;
    return event_channel_op(EVTCHNOP_close, &c);
}

static void closed_by_both(void)
{
    children_start(1);
    for (unsigned i = 0; i < 200; i++) {
        long p = alloc_unbound(NULL, DOMID_SELF, first->domid);
        uint64_t limit = time_now() + 1000000000UL;

        child_begin(first, bind_and_close_here, (const long[CHILD_ARGS]){p});
        while (first->talk->a[1] == 0 && time_now() < limit)
            asm volatile("pause");
        check_quiet(close(NULL, p) == 0, "domain 0 closes");
        check_quiet(child_wait(first) && first->talk->result == 0, "the child closes: %ld", first->talk->result);
    }
    check_equal(child_call(first, open_all_here, 0), 4094); /* none is lost */
    children_end();
}

GUEST("channels")
{
    second_start();
    children_start(2);
    children_end();
    leaves_nothing("pairs", pairs);
    leaves_nothing("alone", alone);
    leaves_nothing("limits", limits);
    leaves_nothing("resets", resets);
    leaves_nothing("FIFO", fifo);
    leaves_nothing("one side dies", deaths);
    leaves_nothing("dies in use", dies_in_use);
    leaves_nothing("one dies while the other sends", receiver_dies);
    leaves_nothing("closed by both", closed_by_both);
}
