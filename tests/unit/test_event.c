/* sources: hypervisor/domain/event.c hypervisor/domain/event_fifo.c */
/* Event channels: the table, EVTCHNOP_*, two-level delivery. */
#include "fake_event.h"

static struct domain *d0, *d1;

static int setup(void **state)
{
    setup_machine(state);
    d0 = make_domain(0, 2);
    d0->is_privileged = true;
    d0->irq = (void *)1;
    d1 = make_domain(1, 2);
    act_as(d0->vcpus[0]);
    kicks = refusals = pirq_eois = pirq_binds = pirq_unbinds = 0;
    pirq_bind_result = 0;
    in_pirq_bind = NULL;
    preempt = false;
    return 0;
}

/* The guest looks for events as the two-level ABI has it. Returns how many it found; got[port]++. */
static unsigned got[EVTCHN_2L_NR_CHANNELS];
static unsigned handle_events(struct vcpu *v)
{
    struct shared_info *s = v->domain->shared_info;
    unsigned n = 0;
    uint64_t sel;

    v->info->evtchn_upcall_pending = 0;
    sel = __atomic_exchange_n(&v->info->evtchn_pending_sel, 0, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < 64; i++) {
        uint64_t bits = sel >> i & 1 ? s->evtchn_pending[i] & ~s->evtchn_mask[i] : 0;

        for (unsigned b = 0; b < 64; b++) {
            if (bits >> b & 1) {
                clear_bit(i * 64 + b, s->evtchn_pending);
                got[i * 64 + b]++;
                n++;
            }
        }
    }
    return n;
}

static void test_hostile_arguments(void **state)
{
    struct evtchn_bind_virq virq = {.virq = NR_VIRQS};
    struct evtchn_bind_interdomain inter = {.remote_dom = 5};
    struct evtchn_bind_vcpu to = {.port = 1, .vcpu = 7};

    for (unsigned cmd = 0; cmd < 14; cmd++)
        assert_int_equal(op(cmd, (void *)bad_pointer), -EFAULT);
    assert_int_equal(op(15, NULL), -ENOSYS);
    assert_int_equal(op(~0U, NULL), -ENOSYS);
    assert_int_equal(op(EVTCHNOP_bind_virq, &virq), -EINVAL);
    virq = (struct evtchn_bind_virq){.virq = VIRQ_TIMER, .vcpu = 2};
    assert_int_equal(op(EVTCHNOP_bind_virq, &virq), -ENOENT);
    virq = (struct evtchn_bind_virq){.virq = VIRQ_CONSOLE, .vcpu = 1};
    assert_int_equal(op(EVTCHNOP_bind_virq, &virq), -EINVAL);
    assert_int_equal(op(EVTCHNOP_bind_interdomain, &inter), -ESRCH);
    inter.remote_dom = 1;
    inter.remote_port = ~0U;
    assert_int_equal(op(EVTCHNOP_bind_interdomain, &inter), -EINVAL);
    assert_int_equal(op(EVTCHNOP_bind_ipi, &(struct evtchn_bind_ipi){.vcpu = ~0U}), -ENOENT);
    assert_int_equal(op(EVTCHNOP_bind_vcpu, &to), -ENOENT);
    to.vcpu = 1;
    assert_int_equal(op(EVTCHNOP_bind_vcpu, &to), -EINVAL);
    for (uint32_t port = 0; port != 3; port++) {
        const uint32_t ports[] = {0, 4096, ~0U};

        assert_int_equal(send_port(ports[port]), -EINVAL);
        assert_int_equal(close_port(ports[port]), -EINVAL);
        assert_int_equal(op(EVTCHNOP_status, &(struct evtchn_status){.dom = DOMID_SELF, .port = ~0U - port}), -EINVAL);
    }
    assert_int_equal(op(EVTCHNOP_expand_array, &(struct evtchn_expand_array){FIRST_MFN}), -EINVAL);
    assert_int_equal(op(EVTCHNOP_reset, &(struct evtchn_reset){77}), -ESRCH);
    act_as(d1->vcpus[0]);
    assert_int_equal(op(EVTCHNOP_alloc_unbound, &(struct evtchn_alloc_unbound){.dom = 0}), -EPERM);
    assert_int_equal(op(EVTCHNOP_status, &(struct evtchn_status){.dom = 0, .port = 1}), -EPERM);
    assert_int_equal(op(EVTCHNOP_reset, &(struct evtchn_reset){0}), -EPERM);
    assert_int_equal(op(EVTCHNOP_bind_pirq, &(struct evtchn_bind_pirq){.pirq = 1}), -EPERM);
    assert_int_equal(d0->refs, 1);
}

static void test_interdomain(void **state)
{
    uint32_t listen = alloc_unbound(1), local;
    struct evtchn_status st = {.dom = DOMID_SELF, .port = listen};

    assert_int_equal(send_port(listen), 0); /* nobody there yet: lost */
    assert_int_equal(op(EVTCHNOP_status, &st), 0);
    assert_int_equal(st.status, EVTCHNSTAT_unbound);
    assert_int_equal(st.u.unbound.dom, 1);

    /* Not for everybody */
    assert_int_equal(op(EVTCHNOP_bind_interdomain,
                        &(struct evtchn_bind_interdomain){.remote_dom = DOMID_SELF, .remote_port = listen}),
                     -EINVAL);
    act_as(d1->vcpus[1]);
    local = bind_interdomain(0, listen);
    assert_true(event_port_pending(d1, local)); /* always, after binding */
    assert_int_equal(handle_events(d1->vcpus[0]), 1);
    assert_int_equal(
        op(EVTCHNOP_bind_interdomain, &(struct evtchn_bind_interdomain){.remote_dom = 0, .remote_port = listen}),
        -EINVAL);

    kicks = 0;
    assert_int_equal(send_port(local), 0);
    assert_true(event_port_pending(d0, listen));
    assert_int_equal(d0->vcpus[0]->info->evtchn_upcall_pending, 1);
    assert_int_equal(kicks, 1);
    assert_int_equal(send_port(local), 0); /* still pending: nobody is told twice */
    assert_int_equal(kicks, 1);
    assert_int_equal(handle_events(d0->vcpus[0]), 1);

    /* To another vcpu; masked; unmasked */
    act_as(d0->vcpus[0]);
    assert_int_equal(op(EVTCHNOP_bind_vcpu, &(struct evtchn_bind_vcpu){listen, 1}), 0);
    set_bit(listen, d0->shared_info->evtchn_mask);
    act_as(d1->vcpus[0]);
    assert_int_equal(send_port(local), 0);
    assert_int_equal(d0->vcpus[1]->info->evtchn_upcall_pending, 0);
    assert_true(event_port_masked(d0, listen));
    act_as(d0->vcpus[0]);
    assert_int_equal(unmask_port(listen), 0);
    assert_int_equal(d0->vcpus[1]->info->evtchn_upcall_pending, 1);
    assert_int_equal(handle_events(d0->vcpus[1]), 1);

    /* Close: the other end waits for a new connection, and can be bound again */
    st.port = listen;
    assert_int_equal(op(EVTCHNOP_status, &st), 0);
    assert_int_equal(st.status, EVTCHNSTAT_interdomain);
    assert_int_equal(st.u.interdomain.port, local);
    act_as(d1->vcpus[0]);
    assert_int_equal(close_port(local), 0);
    assert_int_equal(close_port(local), -EINVAL);
    act_as(d0->vcpus[0]);
    assert_int_equal(op(EVTCHNOP_status, &st), 0);
    assert_int_equal(st.status, EVTCHNSTAT_unbound);
    act_as(d1->vcpus[0]);
    bind_interdomain(0, listen);
    /* The owner of the unbound end closes from the other side, with the higher domid */
    act_as(d0->vcpus[0]);
    assert_int_equal(close_port(listen), 0);
}

static void test_loopback(void **state)
{
    uint32_t a = alloc_unbound(DOMID_SELF), b = bind_interdomain(DOMID_SELF, a);

    handle_events(d0->vcpus[0]);
    assert_int_equal(send_port(a), 0);
    assert_true(event_port_pending(d0, b));
    assert_false(event_port_pending(d0, a));
    assert_int_equal(close_port(a), 0);
    assert_int_equal(close_port(b), 0);
}

/* A channel whose other end is Croft, as that of a console */
static void test_croft(void **state)
{
    struct evtchn_status st = {.dom = DOMID_SELF};
    uint32_t port;

    assert_int_equal(event_bind_croft(d0, &port), 0);
    st.port = port;
    assert_int_equal(op(EVTCHNOP_status, &st), 0);
    assert_int_equal(st.status, EVTCHNSTAT_interdomain);
    assert_int_equal(st.u.interdomain.dom, DOMID_XEN);
    console_kicks = 0;
    assert_int_equal(send_port(port), 0);
    assert_int_equal(console_kicks, 1);
    assert_false(event_port_pending(d0, port));
    event_send_port(d0, port);
    assert_true(event_port_pending(d0, port));
    assert_int_equal(handle_events(d0->vcpus[0]), 1);
    assert_int_equal(op(EVTCHNOP_bind_vcpu, &(struct evtchn_bind_vcpu){.port = port, .vcpu = 1}), 0);
    event_send_port(d0, port);
    assert_int_equal(handle_events(d0->vcpus[1]), 1);
    /* Nobody else can bind it. */
    act_as(d1->vcpus[0]);
    assert_int_equal(
        op(EVTCHNOP_bind_interdomain, &(struct evtchn_bind_interdomain){.remote_dom = 0, .remote_port = port}),
        -EINVAL);
    act_as(d0->vcpus[0]);
    assert_int_equal(close_port(port), 0);
    event_send_port(d0, port);
    event_send_port(d0, ~0U);
    assert_int_equal(handle_events(d0->vcpus[1]), 0);
    assert_int_equal(send_port(port), -EINVAL);
}

static void test_virqs(void **state)
{
    struct evtchn_bind_virq timer = {.virq = VIRQ_TIMER, .vcpu = 1}, console = {.virq = VIRQ_CONSOLE};

    event_send_virq(d0->vcpus[1], VIRQ_TIMER); /* not bound: nothing */
    assert_int_equal(op(EVTCHNOP_bind_virq, &timer), 0);
    assert_int_equal(op(EVTCHNOP_bind_virq, &timer), -EEXIST);
    assert_int_equal(op(EVTCHNOP_bind_virq, &console), 0);
    event_send_virq(d0->vcpus[0], VIRQ_TIMER); /* the other vcpu's */
    assert_false(event_port_pending(d0, timer.port));
    event_send_virq(d0->vcpus[1], VIRQ_TIMER);
    assert_true(event_port_pending(d0, timer.port));
    assert_int_equal(d0->vcpus[1]->info->evtchn_upcall_pending, 1);
    assert_int_equal(d0->vcpus[0]->info->evtchn_upcall_pending, 0);
    assert_int_equal(op(EVTCHNOP_bind_vcpu, &(struct evtchn_bind_vcpu){timer.port, 0}), -EINVAL);

    assert_int_equal(op(EVTCHNOP_bind_vcpu, &(struct evtchn_bind_vcpu){console.port, 1}), 0);
    handle_events(d0->vcpus[1]);
    event_send_global_virq(d0, VIRQ_CONSOLE);
    event_send_global_virq(NULL, VIRQ_CONSOLE);
    assert_int_equal(d0->vcpus[1]->info->evtchn_upcall_pending, 1);
    assert_int_equal(close_port(console.port), 0);
    event_send_global_virq(d0, VIRQ_CONSOLE);
    assert_int_equal(op(EVTCHNOP_bind_virq, &console), 0);
    assert_false(event_port_pending(d0, console.port));
    assert_int_equal(send_port(console.port), -EINVAL);
}

static void test_ipis(void **state)
{
    uint32_t port = bind_ipi(1);

    assert_int_equal(op(EVTCHNOP_bind_vcpu, &(struct evtchn_bind_vcpu){port, 0}), -EINVAL);
    assert_int_equal(send_port(port), 0);
    assert_int_equal(d0->vcpus[1]->info->evtchn_upcall_pending, 1);
    assert_int_equal(handle_events(d0->vcpus[1]), 1);
    assert_int_equal(got[port] > 0, 1);
}

static void interrupt_at_once(struct domain *d, unsigned pirq) { event_send_pirq(d, pirq); }

static void test_pirqs(void **state)
{
    struct evtchn_bind_pirq a = {.pirq = 9};

    assert_int_equal(op(EVTCHNOP_bind_pirq, &(struct evtchn_bind_pirq){.pirq = 9, .flags = 2}), -EINVAL);
    assert_int_equal(op(EVTCHNOP_bind_pirq, &(struct evtchn_bind_pirq){.pirq = ~0U}), -EINVAL);
    pirq_bind_result = -EBUSY;
    assert_int_equal(op(EVTCHNOP_bind_pirq, &a), -EBUSY);
    pirq_bind_result = 0;
    in_pirq_bind = interrupt_at_once; /* an interrupt before the bind is through is not lost */
    assert_int_equal(op(EVTCHNOP_bind_pirq, &a), 0);
    in_pirq_bind = NULL;
    assert_true(event_port_pending(d0, a.port));
    assert_int_equal(op(EVTCHNOP_bind_pirq, &a), -EEXIST);
    assert_int_equal(op(EVTCHNOP_bind_vcpu, &(struct evtchn_bind_vcpu){a.port, 1}), 0);
    assert_int_equal(pirq_affinity, 1);
    handle_events(d0->vcpus[0]);
    event_send_pirq(d0, 9);
    event_send_pirq(d0, 10);
    event_send_pirq(d0, 100000);
    assert_int_equal(d0->vcpus[1]->info->evtchn_upcall_pending, 1);
    assert_int_equal(unmask_port(a.port), 0);
    assert_int_equal(pirq_eois, 1);
    /* The table grows with the numbers */
    assert_int_equal(op(EVTCHNOP_bind_pirq, &(struct evtchn_bind_pirq){.pirq = 5000}), 0);
    event_send_pirq(d0, 9);
    assert_int_equal(close_port(a.port), 0);
    assert_int_equal(pirq_eois, 2);
    assert_int_equal(pirq_unbinds, 1);
    event_send_pirq(d0, 9);
    assert_int_equal(op(EVTCHNOP_bind_pirq, &a), 0);
    assert_false(event_port_pending(d0, a.port));
}

static void test_limits(void **state)
{
    struct evtchn_bind_ipi a = {.vcpu = 0};
    uint32_t n = 0;

    event_set_limit(d1, 100);
    act_as(d1->vcpus[0]);
    while (op(EVTCHNOP_bind_ipi, &a) == 0)
        n++;
    assert_int_equal(n, 99); /* port 0 is none */
    assert_int_equal(op(EVTCHNOP_bind_ipi, &a), -ENOSPC);
    assert_int_equal(close_port(57), 0);
    assert_int_equal(bind_ipi(1), 57);

    act_as(d0->vcpus[0]);
    for (n = 0; op(EVTCHNOP_bind_ipi, &a) == 0; n++)
        assert_int_equal(a.port, n + 1); /* the lowest free one */
    assert_int_equal(n, EVTCHN_2L_NR_CHANNELS - 1);
    for (uint32_t port = 1; port < EVTCHN_2L_NR_CHANNELS; port++)
        assert_int_equal(send_port(port), 0);
    assert_int_equal(handle_events(d0->vcpus[0]), EVTCHN_2L_NR_CHANNELS - 1);
}

static void test_no_memory(void **state)
{
    struct evtchn_bind_ipi a = {.vcpu = 0};

    heap_left = 0;
    assert_int_equal(op(EVTCHNOP_bind_ipi, &a), -ENOMEM);
    assert_int_equal(op(EVTCHNOP_bind_pirq, &(struct evtchn_bind_pirq){.pirq = 9}), -ENOMEM);
    heap_left = 1; /* a bucket, but no FIFO */
    assert_int_equal(op(EVTCHNOP_bind_ipi, &a), 0);
    assert_int_equal(op(EVTCHNOP_init_control, &(struct evtchn_init_control){.control_gfn = give_page(d0).n}), -ENOMEM);
    assert_int_equal(all_page_refs(), 0);
}

/* A port whose number does not reach the guest is not left behind. */
static void test_copy_out_fails(void **state)
{
    struct evtchn_bind_virq virq = {.virq = VIRQ_DEBUG};
    struct evtchn_alloc_unbound there = {.dom = 1, .remote_dom = 0};

    copy_out_fails = true;
    assert_int_equal(op(EVTCHNOP_bind_virq, &virq), -EFAULT);
    assert_int_equal(op(EVTCHNOP_alloc_unbound, &there), -EFAULT);
    assert_int_equal(op(EVTCHNOP_bind_pirq, &(struct evtchn_bind_pirq){.pirq = 3}), -EFAULT);
    copy_out_fails = false;
    assert_int_equal(op(EVTCHNOP_bind_virq, &virq), 0);
    assert_int_equal(virq.port, 1);
    assert_int_equal(op(EVTCHNOP_alloc_unbound, &there), 0);
    assert_int_equal(there.port, 1);
    assert_int_equal(op(EVTCHNOP_bind_pirq, &(struct evtchn_bind_pirq){.pirq = 3}), 0);
}

static void destroy_d1(void)
{
    d1->dying = true;
    event_destroy_domain(d1);
}

/* A domain whose table is about to grow for domain 0 is destroyed by another CPU: nothing is put into what is gone. */
static void test_dies_while_its_table_grows(void **state)
{
    struct evtchn_alloc_unbound there = {.dom = 1, .remote_dom = 0};

    while_allocating = destroy_d1; /* before its first port */
    assert_int_equal(op(EVTCHNOP_alloc_unbound, &there), -EINVAL);
    assert_null(while_allocating);
    assert_int_equal(d1->event.ports, 0);
}

static void test_poll(void **state)
{
    uint32_t a = bind_ipi(0), b = bind_ipi(0);
    struct vcpu *v = d0->vcpus[1];

    set_bit(a, d0->shared_info->evtchn_mask);
    v->blocked = true;
    v->event.poll_port = a;
    set_bit(1, d0->event.pollers);
    assert_int_equal(send_port(b), 0);
    assert_true(v->blocked);
    assert_int_equal(send_port(a), 0); /* masked, and the vcpu it is bound to is another one */
    assert_false(v->blocked);
    assert_int_equal(d0->event.pollers[0], 0);
}

static void test_upcall_flags(void **state)
{
    struct vcpu *v = d0->vcpus[0];

    v->blocked = true;
    vcpu_mark_events_pending(v);
    assert_false(v->blocked);
    assert_false(vcpu_event_deliverable(v));
    v->info->evtchn_upcall_mask = 0;
    assert_true(vcpu_event_deliverable(v));
}

static void test_reset(void **state)
{
    uint32_t listen, n = 0;
    struct evtchn_bind_virq timer = {.virq = VIRQ_TIMER};
    long result;

    act_as(d1->vcpus[0]);
    listen = alloc_unbound(0);
    act_as(d0->vcpus[0]);
    bind_interdomain(1, listen);
    assert_int_equal(op(EVTCHNOP_bind_virq, &timer), 0);
    assert_int_equal(op(EVTCHNOP_bind_pirq, &(struct evtchn_bind_pirq){.pirq = 3}), 0);
    for (unsigned i = 0; i < 500; i++)
        bind_ipi(0);
    preempt = true;
    /* Each slice goes on where the last one ended: it takes no more of them than there are ports. */
    while ((result = op(n ? EVTCHNOP_reset_cont : EVTCHNOP_reset, &(struct evtchn_reset){DOMID_SELF})) == CONTINUED)
        assert_true(++n < 10);
    assert_int_equal(result, 0);
    assert_true(n >= 7);
    /* One that was begun and left alone does not shorten the next. */
    bind_ipi(0);
    assert_int_equal(op(EVTCHNOP_reset, &(struct evtchn_reset){DOMID_SELF}), CONTINUED);
    preempt = false;
    assert_int_equal(bind_ipi(0), 1);
    assert_int_equal(op(EVTCHNOP_reset, &(struct evtchn_reset){DOMID_SELF}), 0);
    assert_int_equal(pirq_unbinds, 1);
    assert_int_equal(bind_ipi(0), 1);
    assert_true(event_port_valid(d0, 1));
    assert_false(event_port_valid(d0, 2));
    act_as(d1->vcpus[0]);
    assert_int_equal(send_port(listen), 0); /* unbound again */
}

static void test_destroy(void **state)
{
    uint32_t listen = alloc_unbound(1);

    act_as(d1->vcpus[0]);
    bind_interdomain(0, listen);
    free_domain(d1);
    act_as(d0->vcpus[0]);
    assert_int_equal(send_port(listen), 0);
    assert_int_equal(close_port(listen), 0);
}

static void test_old_call(void **state)
{
    struct evtchn_op a = {.cmd = EVTCHNOP_bind_ipi, .u.bind_ipi.vcpu = 1};

    assert_int_equal(hypercall_event_channel_op_compat((uint64_t)&a, 0, 0, 0, 0), 0);
    a = (struct evtchn_op){.cmd = EVTCHNOP_send, .u.send.port = a.u.bind_ipi.port};
    assert_int_equal(hypercall_event_channel_op_compat((uint64_t)&a, 0, 0, 0, 0), 0);
    assert_int_equal(handle_events(d0->vcpus[1]), 1);
    a.cmd = EVTCHNOP_reset;
    assert_int_equal(hypercall_event_channel_op_compat((uint64_t)&a, 0, 0, 0, 0), -ENOSYS);
    assert_int_equal(hypercall_event_channel_op_compat((uint64_t)bad_pointer, 0, 0, 0, 0), -EFAULT);
}

/* Random calls by two domains against a model of who is connected to whom. */
enum { PORTS = 40, STEPS = 60000 };
static void test_random_calls(void **state)
{
    struct {
        bool open;
        int peer;
    } model[2][PORTS + 1] = {0}; /* peer: port in the other domain, 0 unbound */
    struct domain *const d[2] = {d0, d1};

    srand(1);
    event_set_limit(d0, PORTS + 1);
    event_set_limit(d1, PORTS + 1);
    for (unsigned step = 0; step < STEPS; step++) {
        unsigned me = rand() % 2, other = !me;
        uint32_t port = 1 + rand() % PORTS, their = 1 + rand() % PORTS;
        bool bound = model[me][port].open && model[me][port].peer;

        act_as(d[me]->vcpus[rand() % 2]);
        switch (rand() % 5) {
        case 0: {
            struct evtchn_alloc_unbound a = {.dom = DOMID_SELF, .remote_dom = other};

            if (op(EVTCHNOP_alloc_unbound, &a) == 0) {
                assert_false(model[me][a.port].open);
                model[me][a.port].open = true;
                model[me][a.port].peer = 0;
            }
            break;
        }
        case 1: {
            struct evtchn_bind_interdomain a = {.remote_dom = other, .remote_port = their};
            long r = op(EVTCHNOP_bind_interdomain, &a);

            if (r != -ENOSPC)
                assert_int_equal(r, model[other][their].open && !model[other][their].peer ? 0 : -EINVAL);
            if (!r) {
                assert_false(model[me][a.local_port].open);
                model[me][a.local_port].open = true;
                model[me][a.local_port].peer = their;
                model[other][their].peer = a.local_port;
                handle_events(d[me]->vcpus[0]);
                handle_events(d[me]->vcpus[1]);
            }
            break;
        }
        case 2:
            assert_int_equal(close_port(port), model[me][port].open ? 0 : -EINVAL);
            if (bound)
                model[other][model[me][port].peer].peer = 0;
            model[me][port].open = false;
            model[me][port].peer = 0;
            break;
        case 3:
            assert_int_equal(op(EVTCHNOP_bind_vcpu, &(struct evtchn_bind_vcpu){port, rand() % 2}),
                             model[me][port].open ? 0 : -EINVAL);
            break;
        default:
            memset(got, 0, sizeof(got));
            assert_int_equal(send_port(port), model[me][port].open ? 0 : -EINVAL);
            assert_int_equal(handle_events(d[other]->vcpus[0]) + handle_events(d[other]->vcpus[1]), bound);
            if (bound)
                assert_int_equal(got[model[me][port].peer], 1);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, end_machine)
        TEST(test_hostile_arguments),
        TEST(test_interdomain),
        TEST(test_loopback),
        TEST(test_croft),
        TEST(test_virqs),
        TEST(test_ipis),
        TEST(test_pirqs),
        TEST(test_limits),
        TEST(test_no_memory),
        TEST(test_copy_out_fails),
        TEST(test_dies_while_its_table_grows),
        TEST(test_poll),
        TEST(test_upcall_flags),
        TEST(test_reset),
        TEST(test_destroy),
        TEST(test_old_call),
        TEST(test_random_calls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
