/* sources: hypervisor/domain/event.c hypervisor/domain/event_fifo.c */
/* FIFO event channels against a guest that follows the rules, and against one that does not. */
#include "fake_event.h"

static struct domain *d0, *d1;

/* ---- A guest's side, as the ABI describes it ---- */

enum { MAX_V = 3, MAX_P = 3 * 1024 };
static struct guest {
    struct domain *d;
    volatile event_word_t *array[4]; /* pages in use */
    unsigned pages;
    struct evtchn_fifo_control_block *control[MAX_V];
    uint32_t head[MAX_V][EVTCHN_FIFO_MAX_QUEUES];
    unsigned got[MAX_P];
    uint32_t order[64];
    unsigned handled;
} g;

static volatile event_word_t *word(uint32_t port) { return &g.array[port / 1024][port % 1024]; }
static bool is(uint32_t port, unsigned bit) { return *word(port) >> bit & 1; }
static void mask(uint32_t port) { __atomic_fetch_or(word(port), 1U << EVTCHN_FIFO_MASKED, __ATOMIC_SEQ_CST); }

/* Clears MASKED unless the event is pending; then Croft has to be called. */
static void unmask(uint32_t port)
{
    event_word_t w = *word(port), old;

    do {
        if (!(w & 1U << EVTCHN_FIFO_MASKED))
            return;
        if (w & 1U << EVTCHN_FIFO_PENDING) {
            assert_int_equal(unmask_port(port), 0);
            return;
        }
        old = w & ~(1U << EVTCHN_FIFO_BUSY);
        w = old;
    } while (!__atomic_compare_exchange_n(word(port), &w, old & ~(1U << EVTCHN_FIFO_MASKED), false, __ATOMIC_SEQ_CST,
                                          __ATOMIC_SEQ_CST));
}

static uint32_t take_out(uint32_t port)
{
    event_word_t old = *word(port);

    while (!__atomic_compare_exchange_n(word(port), &old, old & ~(1U << EVTCHN_FIFO_LINKED | EVTCHN_FIFO_LINK_MASK),
                                        false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        ;
    return old & EVTCHN_FIFO_LINK_MASK;
}

static void (*on_event)(uint32_t port);

static void take_one(unsigned v, unsigned priority, uint32_t *ready)
{
    uint32_t port = g.head[v][priority], next;

    if (!port)
        port = __atomic_load_n(&g.control[v]->head[priority], __ATOMIC_SEQ_CST);
    assert_true(port && port < g.pages * 1024);
    next = take_out(port);
    if (!next)
        *ready &= ~(1U << priority);
    if (is(port, EVTCHN_FIFO_PENDING) && !is(port, EVTCHN_FIFO_MASKED)) {
        __atomic_fetch_and(word(port), ~(1U << EVTCHN_FIFO_PENDING), __ATOMIC_SEQ_CST);
        g.got[port]++;
        g.order[g.handled++ % 64] = port;
        if (on_event)
            on_event(port);
    }
    g.head[v][priority] = next;
}

/* The upcall on vcpu v: everything that is queued, highest priority first. */
static unsigned handle_events(unsigned v)
{
    unsigned before = g.handled;
    uint32_t ready;

    g.d->vcpus[v]->info->evtchn_upcall_pending = 0;
    smp_mb();
    ready = __atomic_exchange_n(&g.control[v]->ready, 0, __ATOMIC_SEQ_CST);
    while (ready) {
        take_one(v, __builtin_ctz(ready), &ready);
        ready |= __atomic_exchange_n(&g.control[v]->ready, 0, __ATOMIC_SEQ_CST);
    }
    return g.handled - before;
}

static void give_control(struct domain *d, unsigned v)
{
    struct evtchn_init_control a = {.control_gfn = give_page(d).n, .offset = 64, .vcpu = v};

    assert_int_equal(op(EVTCHNOP_init_control, &a), 0);
    assert_int_equal(a.link_bits, 17);
    g.control[v] = (void *)((char *)mfn_to_virt(MFN(a.control_gfn)) + 64);
}
static void give_array(struct domain *d)
{
    mfn_t m = give_page(d);

    assert_int_equal(op(EVTCHNOP_expand_array, &(struct evtchn_expand_array){m.n}), 0);
    if (g.pages < ARRAY_SIZE(g.array))
        g.array[g.pages++] = mfn_to_virt(m);
}
static long set_priority(uint32_t port, uint32_t p)
{
    return op(EVTCHNOP_set_priority, &(struct evtchn_set_priority){port, p});
}
static long bind_vcpu(uint32_t port, uint32_t v) { return op(EVTCHNOP_bind_vcpu, &(struct evtchn_bind_vcpu){port, v}); }

static int setup(void **state)
{
    setup_machine(state);
    d0 = make_domain(0, MAX_V);
    d0->is_privileged = true;
    d0->irq = (void *)1;
    d1 = make_domain(1, 1);
    memset(&g, 0, sizeof(g));
    g.d = d0;
    kicks = refusals = 0;
    on_event = NULL;
    act_as(d0->vcpus[0]);
    return 0;
}
static int setup_fifo(void **state)
{
    setup(state);
    for (unsigned v = 0; v < MAX_V; v++)
        give_control(d0, v);
    give_array(d0);
    return 0;
}

static void test_hostile_arguments(void **state)
{
    struct evtchn_init_control a = {.control_gfn = give_page(d0).n};
    uint32_t port = bind_ipi(0);

    assert_int_equal(set_priority(port, 3), -ENOSYS);
    assert_int_equal(op(EVTCHNOP_expand_array, &(struct evtchn_expand_array){give_page(d0).n}), -EOPNOTSUPP);
    a.vcpu = MAX_V;
    assert_int_equal(op(EVTCHNOP_init_control, &a), -ENOENT);
    a.vcpu = 0;
    a.offset = PAGE_SIZE - sizeof(struct evtchn_fifo_control_block) + 8;
    assert_int_equal(op(EVTCHNOP_init_control, &a), -EINVAL);
    a.offset = 4;
    assert_int_equal(op(EVTCHNOP_init_control, &a), -EINVAL);
    a.offset = ~7U;
    assert_int_equal(op(EVTCHNOP_init_control, &a), -EINVAL);
    a.offset = 0;
    a.control_gfn = give_page(d1).n; /* not ours */
    assert_int_equal(op(EVTCHNOP_init_control, &a), -EINVAL);
    a.control_gfn = ~0UL;
    assert_int_equal(op(EVTCHNOP_init_control, &a), -EINVAL);
    assert_int_equal(all_page_refs(), 0);
    give_control(d0, 0);
    a.control_gfn = give_page(d0).n;
    assert_int_equal(op(EVTCHNOP_init_control, &a), -EINVAL); /* once */
    assert_int_equal(op(EVTCHNOP_expand_array, &(struct evtchn_expand_array){~0UL}), -EINVAL);
    assert_int_equal(set_priority(port, 16), -EINVAL);
    assert_int_equal(set_priority(port + 1, 3), -EINVAL);
    assert_int_equal(set_priority(~0U, 3), -EINVAL);
    assert_int_equal(all_page_refs(), 1);
    for (unsigned i = 0; i < 128; i++)
        give_array(d0);
    assert_int_equal(op(EVTCHNOP_expand_array, &(struct evtchn_expand_array){give_page(d0).n}), -ENOSPC);
    assert_int_equal(all_page_refs(), 129);
}

/* What is pending when the domain changes over, or before the page of its word is there, comes later. */
static void test_pending_before(void **state)
{
    uint32_t a = bind_ipi(0), b = bind_ipi(1), c;

    assert_int_equal(send_port(a), 0);
    give_control(d0, 0);
    give_control(d0, 1);
    assert_int_equal(send_port(b), 0);
    assert_false(event_port_pending(d0, b));
    give_array(d0);
    assert_true(event_port_pending(d0, a));
    assert_true(event_port_pending(d0, b));
    assert_int_equal(handle_events(0), 1);
    assert_int_equal(handle_events(1), 1);
    do
        c = bind_ipi(1);
    while (c < 1500);
    assert_int_equal(send_port(c), 0);
    assert_int_equal(handle_events(1), 0);
    give_array(d0);
    assert_int_equal(handle_events(1), 1);
    assert_int_equal(g.got[c], 1);
    /* A vcpu without a control block gets nothing, and nothing breaks. */
    assert_int_equal(send_port(bind_ipi(2)), 0);
}

static void test_order(void **state)
{
    uint32_t p[6];

    for (unsigned i = 0; i < 6; i++)
        p[i] = bind_ipi(0);
    assert_int_equal(set_priority(p[4], 0), 0);
    assert_int_equal(set_priority(p[5], EVTCHN_FIFO_PRIORITY_MIN), 0);
    send_port(p[5]);
    send_port(p[3]);
    send_port(p[0]);
    send_port(p[1]);
    send_port(p[0]);
    send_port(p[4]);
    assert_int_equal(kicks, 1);
    assert_int_equal(handle_events(0), 5);
    assert_int_equal(g.order[0], p[4]);
    assert_int_equal(g.order[1], p[3]);
    assert_int_equal(g.order[2], p[0]);
    assert_int_equal(g.order[3], p[1]);
    assert_int_equal(g.order[4], p[5]);
    assert_int_equal(handle_events(0), 0);
    /* The queues work on after being emptied: the same tail again, another one, and so on. */
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(send_port(p[i % 3]), 0);
        assert_int_equal(send_port(p[i % 2]), 0);
        assert_true(handle_events(0) > 0);
        assert_false(event_port_pending(d0, p[i % 3]) || event_port_pending(d0, p[i % 2]));
    }
}

static void test_mask(void **state)
{
    uint32_t a = bind_ipi(0);

    mask(a);
    assert_true(event_port_masked(d0, a));
    assert_int_equal(send_port(a), 0);
    assert_int_equal(kicks, 0);
    assert_int_equal(handle_events(0), 0);
    unmask(a);
    assert_int_equal(kicks, 1);
    assert_int_equal(handle_events(0), 1);
    mask(a);
    unmask(a);
    assert_int_equal(handle_events(0), 0);
}

/* A port that moves while it is linked: each queue stays whole. */
static void test_move(void **state)
{
    uint32_t listen, p[3];

    act_as(d1->vcpus[0]);
    listen = alloc_unbound(0);
    act_as(d0->vcpus[0]);
    p[0] = bind_interdomain(1, listen);
    p[1] = bind_ipi(0);
    p[2] = bind_ipi(1);
    assert_int_equal(handle_events(0), 1);
    send_port(p[1]);
    send_port(p[2]);
    act_as(d1->vcpus[0]);
    send_port(listen); /* tail of vcpu 0's queue */
    act_as(d0->vcpus[0]);
    assert_int_equal(bind_vcpu(p[0], 1), 0);
    send_port(p[1]);
    assert_int_equal(handle_events(0), 2);
    /* p[0] is still vcpu 0's tail in Croft's books; now it is linked for vcpu 1 */
    act_as(d1->vcpus[0]);
    send_port(listen);
    act_as(d0->vcpus[0]);
    send_port(p[1]);
    assert_int_equal(handle_events(0), 1);
    assert_int_equal(handle_events(1), 2);
    /* and by priority */
    for (unsigned i = 0; i < 50; i++) {
        assert_int_equal(set_priority(p[1], i % 16), 0);
        send_port(p[1]);
        if (i & 1)
            assert_int_equal(handle_events(0), 1);
    }
}

/* A port closed while linked is not given out again before the guest has taken it out. */
static void test_close_linked(void **state)
{
    uint32_t a = bind_ipi(0), b;

    send_port(a);
    assert_int_equal(close_port(a), 0);
    b = bind_ipi(1);
    assert_int_not_equal(a, b);
    assert_int_equal(handle_events(0), 0);
    assert_int_equal(g.control[0]->ready, 0);
    assert_int_equal(bind_ipi(1), a);
    send_port(a);
    assert_int_equal(handle_events(1), 1);
}

static void test_reset(void **state)
{
    uint32_t a = bind_ipi(0);

    send_port(a);
    assert_true(all_page_refs() > 0);
    assert_int_equal(op(EVTCHNOP_reset, &(struct evtchn_reset){DOMID_SELF}), 0);
    assert_int_equal(all_page_refs(), 0);
    a = bind_ipi(0); /* two-level now */
    send_port(a);
    assert_true(test_bit(a, d0->shared_info->evtchn_pending));
    /* and FIFO once more */
    give_control(d0, 0);
    g.pages = 0;
    memset(g.head, 0, sizeof(g.head));
    give_array(d0);
    assert_int_equal(handle_events(0), 1);
}

static void test_many_ports(void **state)
{
    uint32_t n = 0;
    struct evtchn_bind_ipi a = {.vcpu = 0};

    for (unsigned i = 0; i < 127; i++)
        give_array(d0);
    while (op(EVTCHNOP_bind_ipi, &a) == 0)
        n++;
    assert_int_equal(n, EVTCHN_FIFO_NR_CHANNELS - 1);
    g.pages = 128;
    for (uint32_t port = 1; port < EVTCHN_FIFO_NR_CHANNELS; port += 1000)
        assert_int_equal(send_port(port), 0);
    assert_true(event_port_pending(d0, 131001));
    assert_false(event_port_pending(d0, 131002));
}

/* Random legal use: nothing is lost, nothing comes that was not sent. */
static void test_random_use(void **state)
{
    enum { PORTS = 60, STEPS = 300000 };
    static bool sent[PORTS], masked[PORTS];
    uint32_t port[PORTS], far[PORTS];
    unsigned before[MAX_P];

    srand(2);
    for (unsigned i = 0; i < PORTS; i++) {
        act_as(d1->vcpus[0]);
        far[i] = alloc_unbound(0);
        act_as(d0->vcpus[0]);
        port[i] = bind_interdomain(1, far[i]);
        sent[i] = true; /* by binding */
        masked[i] = false;
    }
    for (unsigned step = 0; step < STEPS; step++) {
        unsigned i = rand() % PORTS;

        switch (rand() % 8) {
        case 0:
            assert_int_equal(bind_vcpu(port[i], rand() % MAX_V), 0);
            break;
        case 1:
            assert_int_equal(set_priority(port[i], rand() % 16), 0);
            break;
        case 2:
            masked[i] = !masked[i];
            masked[i] ? mask(port[i]) : unmask(port[i]);
            break;
        case 3:
            memcpy(before, g.got, sizeof(before));
            for (unsigned v = 0; v < MAX_V; v++)
                handle_events(v);
            for (unsigned j = 0; j < PORTS; j++) {
                assert_int_equal(g.got[port[j]] - before[port[j]], sent[j] && !masked[j]);
                assert_int_equal(is(port[j], EVTCHN_FIFO_PENDING), sent[j] && masked[j]);
                if (!masked[j])
                    sent[j] = false;
            }
            break;
        default:
            act_as(d1->vcpus[0]);
            assert_int_equal(send_port(far[i]), 0);
            act_as(d0->vcpus[0]);
            sent[i] = true;
        }
    }
}

/* Two domains at once: what is sent last is always seen. */
enum { PAIRS = 16, ROUNDS = 150000 };
static uint32_t near_port[PAIRS], far_port[PAIRS], pair_of[MAX_P];
static volatile uint32_t sequence[PAIRS], seen[PAIRS];

static void see(uint32_t port) { seen[pair_of[port]] = __atomic_load_n(&sequence[pair_of[port]], __ATOMIC_SEQ_CST); }

static void *sender(void *arg)
{
    act_as(d1->vcpus[0]);
    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned k = i * 7 % PAIRS;

        __atomic_fetch_add(&sequence[k], 1, __ATOMIC_SEQ_CST);
        send_port(far_port[k]);
    }
    return NULL;
}

static void test_concurrent_use(void **state)
{
    pthread_t thread;
    unsigned turns = 0;

    on_event = see;
    for (unsigned i = 0; i < PAIRS; i++) {
        act_as(d1->vcpus[0]);
        far_port[i] = alloc_unbound(0);
        act_as(d0->vcpus[0]);
        near_port[i] = bind_interdomain(1, far_port[i]);
        pair_of[near_port[i]] = i;
        sequence[i] = seen[i] = 0;
    }
    pthread_create(&thread, NULL, sender, NULL);
    for (;;) {
        bool done = pthread_tryjoin_np(thread, NULL) == 0;

        for (unsigned v = 0; v < MAX_V; v++)
            if (d0->vcpus[v]->info->evtchn_upcall_pending)
                handle_events(v);
        if (done)
            break;
        turns++;
        bind_vcpu(near_port[turns % PAIRS], turns % MAX_V);
        set_priority(near_port[turns * 3 % PAIRS], turns % 16);
        mask(near_port[turns % PAIRS]);
        unmask(near_port[turns % PAIRS]);
    }
    for (unsigned v = 0; v < MAX_V; v++)
        handle_events(v);
    for (unsigned i = 0; i < PAIRS; i++)
        assert_int_equal(seen[i], sequence[i]);
}

/* A guest that scribbles over its pages all the time: Croft neither hangs nor leaves its own memory (ASan). */
static volatile bool stop;

static void *scribble(void *arg)
{
    unsigned seed = 3;

    while (!stop) {
        unsigned i = rand_r(&seed);

        if (i % 4 == 0)
            ((volatile uint32_t *)g.control[i / 4 % MAX_V])[i / 64 % 18] = rand_r(&seed) * 3;
        else
            *word(i % 64) = rand_r(&seed) * 5 ^ (i % 3 ? 1U << EVTCHN_FIFO_LINKED : 0);
    }
    return NULL;
}

static void test_hostile_pages(void **state)
{
    uint32_t ports[40];
    pthread_t thread;
    unsigned n = 0;

    srand(4);
    stop = false;
    pthread_create(&thread, NULL, scribble, NULL);
    for (unsigned i = 0; i < 40; i++) {
        struct evtchn_bind_ipi a = {.vcpu = i % MAX_V};

        if (op(EVTCHNOP_bind_ipi, &a) == 0)
            ports[n++] = a.port;
    }
    assert_true(n > 0);
    for (unsigned i = 0; i < 200000; i++) {
        uint32_t port = ports[rand() % n];

        switch (rand() % 4) {
        case 0:
            set_priority(port, rand() % 16);
            break;
        case 1:
            unmask_port(port);
            break;
        default:
            assert_int_equal(send_port(port), 0);
        }
    }
    stop = true;
    pthread_join(thread, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f, s) cmocka_unit_test_setup_teardown(f, s, end_machine)
        TEST(test_hostile_arguments, setup),  TEST(test_pending_before, setup),
        TEST(test_order, setup_fifo),         TEST(test_mask, setup_fifo),
        TEST(test_move, setup_fifo),          TEST(test_close_linked, setup_fifo),
        TEST(test_reset, setup_fifo),         TEST(test_many_ports, setup_fifo),
        TEST(test_random_use, setup_fifo),    TEST(test_concurrent_use, setup_fifo),
        TEST(test_hostile_pages, setup_fifo),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
