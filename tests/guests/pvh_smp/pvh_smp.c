/* run: pvh=yes beside=yes vcpus=4 smp=2 time=90 case:all_init="d1 shut down: power off" */
/*
 * Four vcpus: start, interrupts from each to each, off line and up again, INIT at any moment; pages that go away while others write
 * to them, and pages of Croft's that are moved about.
 */
#include "../kit/pvh/pvh.h"

#define VCPUS 4
#define SECOND 1000000000UL

static void (*volatile orders[VCPUS])(void);
static volatile bool stop;
static volatile unsigned targets[VCPUS], ready[VCPUS];

static void serve(void)
{
    unsigned v = vcpu_id();

    apic_enable();
    sti();
    ready[v]++;
    for (;;) {
        void (*f)(void) = orders[v];

        if (f != NULL) {
            f();
            orders[v] = NULL;
        }
        relax();
    }
}

static bool finish(unsigned v)
{
    uint64_t end = time_now() + 5 * SECOND;

    while (orders[v] != NULL && time_now() < end)
        relax();
    return check_quiet(orders[v] == NULL, "vcpu %u does not finish", v);
}

static bool on(unsigned v, void (*f)(void))
{
    if (v == 0) {
        f();
        return true;
    }
    orders[v] = f;
    return finish(v);
}

static bool start(unsigned v)
{
    unsigned before = ready[v];

    return check_quiet(vcpu_start(v, serve) && wait_for(&ready[v], before + 1, 5 * SECOND), "vcpu %u does not come", v);
}

static bool start_all(void)
{
    bool ok = true;

    for (unsigned v = 1; v < VCPUS; v++)
        ok &= start(v);
    return ok;
}

/* ---- Interrupts ---- */

static volatile unsigned nmis[VCPUS];
static bool count_nmi(struct regs *r)
{
    (void)r;
    nmis[vcpu_id()]++;
    return true;
}

static volatile uint32_t icr;
static void send_to_target(void) { apic_send(icr, targets[vcpu_id()]); }

static void all_ways(void)
{
    for (unsigned from = 0; from < VCPUS; from++)
        for (unsigned to = 0; to < VCPUS; to++) {
            unsigned vector = 0x50 + from * VCPUS + to;

            icr = vector;
            targets[from] = to;
            on(from, send_to_target);
            check_quiet(wait_for(&interrupt_counts[to][vector], 1, SECOND) && interrupt_counts[to][vector] == 1,
                        "from %u to %u: %u", from, to, interrupt_counts[to][vector]);
        }
    check(kit_failures() == 0, "interrupts from each to each");
}

static void shorthands(void)
{
    for (unsigned from = 0; from < VCPUS; from++) {
        unsigned all = 0x70 + from, others = 0x80 + from;

        icr = ICR_ALL | all;
        on(from, send_to_target);
        icr = ICR_OTHERS | others;
        on(from, send_to_target);
        for (unsigned to = 0; to < VCPUS; to++) {
            check_quiet(wait_for(&interrupt_counts[to][all], 1, SECOND), "to all, from %u to %u", from, to);
            if (to != from)
                check_quiet(wait_for(&interrupt_counts[to][others], 1, SECOND), "to others, from %u to %u", from, to);
        }
        check_quiet(interrupt_counts[from][others] == 0, "to others, not to itself");
    }
    check(kit_failures() == 0, "to all, to others");
    trap_hooks[2] = count_nmi;
    for (unsigned from = 0; from < VCPUS; from++) {
        targets[from] = (from + 1) % VCPUS;
        icr = ICR_NMI;
        on(from, send_to_target);
        check_quiet(wait_for(&nmis[(from + 1) % VCPUS], 1, SECOND), "an NMI from %u", from);
    }
    check(nmis[0] + nmis[1] + nmis[2] + nmis[3] == VCPUS, "NMIs to the next");
}

static void set_logical(void)
{
    apic_write(APIC_DFR, ~0U);
    apic_write(APIC_LDR, 1U << (24 + vcpu_id()));
}

static void logical(void)
{
    unsigned before[VCPUS];

    for (unsigned v = 0; v < VCPUS; v++)
        on(v, set_logical);
    for (unsigned set = 1; set < 1U << VCPUS; set++) {
        for (unsigned v = 0; v < VCPUS; v++)
            before[v] = interrupt_counts[v][0x90];
        apic_write(APIC_ICR_HIGH, set << 24);
        apic_write(APIC_ICR, 0x800 | 0x90);
        for (unsigned v = 0; v < VCPUS; v++)
            if ((set >> v & 1) != 0)
                check_quiet(wait_for(&interrupt_counts[v][0x90], before[v] + 1, SECOND), "set %x, vcpu %u", set, v);
            else
                check_quiet(interrupt_counts[v][0x90] == before[v], "set %x, not vcpu %u", set, v);
    }
    for (unsigned i = 0; i < 20; i++) {
        uint64_t end = time_now() + SECOND;
        unsigned sum;

        apic_write(APIC_ICR_HIGH, 0xeU << 24);
        apic_write(APIC_ICR, 0x800 | 0x100 | 0x91);
        do {
            sum = 0;
            for (unsigned v = 0; v < VCPUS; v++)
                sum += interrupt_counts[v][0x91];
        } while (sum <= i && time_now() < end);
        check_quiet(sum == i + 1 && interrupt_counts[0][0x91] == 0, "lowest priority: %u, wanted %u", sum, i + 1);
    }
    check(kit_failures() == 0, "logical destinations, lowest priority");
}

/* ---- Off and on ---- */

static void halt_here(void)
{
    orders[vcpu_id()] = NULL;
    vcpu_halt();
}
static volatile unsigned spinning;
static void spin_for_ever(void)
{
    orders[vcpu_id()] = NULL;
    cli();
    for (;;)
        spinning++;
}

static void off_and_on(void)
{
    for (unsigned i = 0; i < 10; i++) {
        unsigned v = 1 + i % 3, before = interrupt_counts[v][0xa0];

        on(v, halt_here);
        spin_ns(3000000);
        apic_send(0xa0, v); /* does not wake it */
        spin_ns(1000000);
        check_quiet(interrupt_counts[v][0xa0] == before, "a halted vcpu takes interrupts");
        start(v);
        apic_send(0xa1, v);
        check_quiet(wait_for(&interrupt_counts[v][0xa1], i / 3 + 1, SECOND), "... and takes interrupts");
    }
    check(kit_failures() == 0, "off line by HLT, and up again");
    for (unsigned i = 0; i < 10; i++) {
        unsigned v = 1 + i % 3, before;

        on(v, spin_for_ever);
        apic_send(ICR_INIT | ICR_ASSERT, v);
        spin_ns(30000000);
        before = spinning;
        spin_ns(2000000);
        check_quiet(before == spinning, "INIT does not stop vcpu %u", v);
        start(v);
    }
    check(kit_failures() == 0, "INIT of a running vcpu");
}

/* HLT with interrupts disabled: an NMI ends it, but not one that has to wait until an NMI's handler is done. */
static volatile unsigned halts, ends;
static void halt_once(void)
{
    cli();
    halts++;
    asm volatile("hlt" : : : "memory");
    ends++;
    sti();
}

static bool halt_in_handler(struct regs *r)
{
    (void)r;
    if (vcpu_id() == 0)
        return true;
    nmis[vcpu_id()]++;
    halt_once();
    return true;
}

static bool sleeps(unsigned v)
{
    uint64_t end = time_now() + SECOND;

    while (vcpu_op(VCPUOP_is_up, v, NULL) != 0 && time_now() < end)
        relax();
    return vcpu_op(VCPUOP_is_up, v, NULL) == 0;
}

static void nmi_and_halt(void)
{
    for (unsigned i = 1; i <= 20; i++) {
        unsigned v = 1 + i % 3, before = nmis[v];

        orders[v] = halt_once;
        check_quiet(wait_for(&halts, i, SECOND), "vcpu %u does not halt", v);
        if (i % 2 == 0) /* else it may be on its way still */
            check_quiet(sleeps(v), "vcpu %u is up", v);
        apic_send(0xa2, v); /* waits */
        check_quiet(ends == i - 1, "an interrupt wakes a vcpu that does not take interrupts");
        if (i % 4 < 2)
            apic_send(ICR_NMI, v);
        else
            vcpu_op(VCPUOP_send_nmi, v, NULL);
        check_quiet(finish(v) && ends == i && nmis[v] == before + 1, "an NMI and HLT: %u ends of %u, %u NMIs", ends, i,
                    nmis[v] - before);
    }
    check(kit_failures() == 0, "an NMI wakes a vcpu that halted with interrupts disabled");
    trap_hooks[2] = halt_in_handler;
    for (unsigned i = 21; i <= 26; i++) {
        unsigned v = 1 + i % 3, before = nmis[v];

        apic_send(ICR_NMI, v);
        check_quiet(wait_for(&halts, i, SECOND), "vcpu %u does not halt in its handler", v);
        if (i % 2 == 0)
            check_quiet(sleeps(v), "vcpu %u is up", v);
        apic_send(ICR_NMI, v);
        spin_ns(2000000);
        check_quiet(sleeps(v) && ends == 20 && nmis[v] == before + 1, "a second NMI: %u ends, %u NMIs", ends - 20,
                    nmis[v] - before);
        start(v);
        check_quiet(nmis[v] == before + 1, "an NMI of before its start");
    }
    trap_hooks[2] = count_nmi;
    check(kit_failures() == 0, "... but not in an NMI's handler, which a start-up signal ends");
}

static void attack(void)
{
    unsigned v = vcpu_id();

    for (;;)
        for (unsigned to = 1; to < VCPUS; to++) {
            apic_send(ICR_INIT | ICR_ASSERT, to != v ? to : to % 3 + 1);
            apic_send(ICR_STARTUP | TRAMPOLINE >> 12, to);
        }
}

static void attack_all(void)
{
    for (;;)
        apic_send(ICR_ALL | ICR_INIT | ICR_ASSERT, 0);
}

static void init_storm(void)
{
    uint64_t end;
    unsigned starts[VCPUS];

    for (unsigned v = 1; v < VCPUS; v++) {
        starts[v] = vcpu_starts[v];
        vcpu_functions[v] = attack;
        orders[v] = attack;
    }
    end = time_now() + SECOND;
    for (unsigned i = 0; time_now() < end; i++) {
        apic_send(ICR_INIT | ICR_ASSERT, 1 + i % 3);
        apic_send(ICR_STARTUP | TRAMPOLINE >> 12, 1 + i % 3);
    }
    for (unsigned v = 1; v < VCPUS; v++) {
        vcpu_functions[v] = vcpu_halt;
        orders[v] = NULL;
    }
    for (unsigned i = 0; i < 20; i++)
        apic_send(ICR_INIT | ICR_OTHERS | ICR_ASSERT, 0);
    spin_ns(50000000);
    printf("   starts: %u, %u, %u\n", vcpu_starts[1] - starts[1], vcpu_starts[2] - starts[2],
           vcpu_starts[3] - starts[3]);
    for (unsigned v = 1; v < VCPUS; v++)
        orders[v] = NULL;
    check(start_all(), "INIT and start-up signals from each to each, all at once");
}

/* ---- Pages ---- */

#define WRITTEN (TEST_VA + 0x40000)

static uint64_t load(unsigned long va)
{
    uint64_t value;

    asm volatile("movq (%1), %0" : "=r"(value) : "r"(va) : "memory");
    return value;
}

static volatile unsigned long writes[VCPUS];
static void write_on(void)
{
    unsigned v = vcpu_id();

    while (!stop) {
        asm volatile("movq %0, (%1)" : : "r"(0x1111111111111111UL * v), "r"(WRITTEN + 8 * v) : "memory");
        writes[v]++;
    }
}

static long change(unsigned cmd, unsigned long frame)
{
    xen_pfn_t list = frame;
    struct xen_memory_reservation r = {.nr_extents = 1, .domid = DOMID_SELF};

    set_xen_guest_handle(r.extent_start, &list);
    return memory_op(cmd, &r);
}

static long remove_frame(unsigned long frame)
{
    struct xen_remove_from_physmap r = {.domid = DOMID_SELF, .gpfn = frame};

    return memory_op(XENMEM_remove_from_physmap, &r);
}

static bool clear(const uint64_t *p)
{
    for (unsigned i = 0; i < 512; i++)
        if (p[i] != 0)
            return false;
    return true;
}

static void page_goes(void)
{
    unsigned long frame = (unsigned long)page_alloc() >> 12, other = HOLE_AT >> 12;
    unsigned holes = 0, clean = 0, rounds = 30;

    map_page(WRITTEN, frame << 12 | PTE_RW);
    stop = false;
    for (unsigned v = 1; v < VCPUS; v++)
        orders[v] = write_on;
    for (unsigned i = 0; i < rounds; i++) {
        long rc;

        for (unsigned v = 1; v < VCPUS; v++) {
            unsigned long before = writes[v], end = time_now() + SECOND;

            while (writes[v] < before + 10 && time_now() < end)
                relax();
        }
        rc = i % 2 ? change(XENMEM_decrease_reservation, frame) : remove_frame(frame);
        check_quiet(rc == (i % 2 ? 1 : 0), "round %u: the page does not go: %ld", i, rc);
        /* Likely the same frame of the machine: whoever still wrote to it would be seen. */
        check_quiet(change(XENMEM_populate_physmap, other) == 1, "round %u: a page comes", i);
        holes += load(WRITTEN + 8) == ~0UL && load(WRITTEN + 24) == ~0UL;
        spin_ns(2000000);
        clean += clear((uint64_t *)(other << 12));
        check_quiet(remove_frame(other) == 0 && change(XENMEM_populate_physmap, frame) == 1, "round %u: it comes back",
                    i);
    }
    stop = true;
    for (unsigned v = 1; v < VCPUS; v++)
        finish(v);
    check(holes == rounds, "a page that goes while others write to it is a hole: %u of %u", holes, rounds);
    check(clean == rounds, "... and they write to no other: %u of %u", clean, rounds);
}

static volatile unsigned moved[VCPUS], failed[VCPUS];
static void move_about(void)
{
    unsigned v = vcpu_id();

    for (unsigned i = 0; !stop; i++) {
        unsigned long frame = (HOLE_AT >> 12) + i * 7 % 5;
        struct xen_add_to_physmap a = {.domid = DOMID_SELF,
                                       .space = (i + v) % 3 ? XENMAPSPACE_grant_table : XENMAPSPACE_shared_info,
                                       .idx = (i + v) % 3 ? (i + v) % 3 - 1 : 0,
                                       .gpfn = frame};
        long rc = i % 4 == 3 ? remove_frame(frame) : memory_op(XENMEM_add_to_physmap, &a);

        moved[v]++;
        failed[v] += rc != 0 && rc != -ENOENT;
        asm volatile("movl %k0, 0xf00(%1); movl 0xf00(%1), %k0"
                     :
                     : "r"((uint64_t)i), "r"(HOLE_AT + i % 5 * 4096)
                     : "memory");
    }
}

static void pages_move(void)
{
    stop = false;
    for (unsigned v = 1; v < VCPUS; v++)
        orders[v] = move_about;
    spin_ns(SECOND);
    stop = true;
    for (unsigned v = 1; v < VCPUS; v++)
        finish(v);
    check(failed[1] + failed[2] + failed[3] == 0, "frames of Croft's moved about: %u times, %u refused",
          moved[1] + moved[2] + moved[3], failed[1] + failed[2] + failed[3]);
    for (unsigned i = 0; i < 5; i++)
        remove_frame((HOLE_AT >> 12) + i);
    check(load(HOLE_AT) == ~0UL, "they are gone");
}

GUEST("pvh_smp")
{
    apic_enable();
    sti();
    check(start_all() && vcpu_starts[1] == 1 && vcpu_starts[2] == 1 && vcpu_starts[3] == 1,
          "three vcpus start, once each");
    if (argument_present("case=all_init")) {
        for (unsigned v = 1; v < VCPUS; v++)
            orders[v] = attack_all;
        attack_all();
    }
    all_ways();
    shorthands();
    logical();
    off_and_on();
    nmi_and_halt();
    init_storm();
    page_goes();
    pages_move();
}
