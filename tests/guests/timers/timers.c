/* run: icount=1 time=60 */
/* The three clocks and the timers: monotonic, in step, in time; runstate; placing vcpu_info and its time elsewhere. */
#include "kit.h"

#define MS 1000000UL
#define LATE (2 * MS) /* instructions are the clock here, so no busy host is to blame */

static long timer_port;
static volatile uint64_t fired_at;

static void note_time(unsigned port)
{
    (void)port;
    fired_at = time_now();
}

/* Waits for the timer with sched_op block; returns its lateness against 'when', or -1 if it did not come. */
static long wait_fired(uint64_t when)
{
    uint64_t limit = time_now() + 50 * MS;

    while (fired_at == 0 && time_now() < limit)
        asm volatile("pause");
    return fired_at == 0 ? -1 : (long)(fired_at - when);
}

static void check_fired(const char *what, uint64_t when)
{
    long late = wait_fired(when);

    check(fired_at != 0 && late >= -1000 && late < (long)LATE, "%s: %ld ns late", what, late);
}

static long singleshot(uint64_t when, unsigned flags)
{
    struct vcpu_set_singleshot_timer t = {.timeout_abs_ns = when, .flags = flags};

    fired_at = 0;
    return vcpu_op(VCPUOP_set_singleshot_timer, 0, &t);
}

static void one_shot(void)
{
    uint64_t when = time_now() + 5 * MS;
    long rc;

    fired_at = 0;
    check_equal(set_timer_op(when), 0);
    check_fired("set_timer_op", when);
    when = time_now() + 5 * MS;
    check_equal(singleshot(when, 0), 0);
    check_fired("singleshot", when);
    when = time_now() + 5 * MS;
    check_equal(singleshot(when, VCPU_SSHOTTMR_future), 0);
    check_fired("singleshot, future", when);
    /* "can be ignored by the hypervisor": refused and not fired, or accepted and fired at once */
    rc = singleshot(time_now() - 10 * MS, VCPU_SSHOTTMR_future);
    spin_ns(3 * MS);
    check((rc == -ETIME && fired_at == 0) || (rc == 0 && fired_at != 0),
          "a past timeout that should be in the future: %ld", rc);
    when = time_now() - 10 * MS;
    check_equal(singleshot(when, 0), 0);
    check_fired("singleshot in the past", when + 10 * MS);
    check_equal(singleshot(time_now() + 10 * MS, 0), 0);
    check_equal(vcpu_op(VCPUOP_stop_singleshot_timer, 0, NULL), 0);
    spin_ns(30 * MS);
    check(fired_at == 0, "a stopped one does not fire");
    check_equal(singleshot(time_now() + 1000 * MS, 0), 0);
    when = time_now() + 5 * MS;
    check_equal(singleshot(when, 0), 0); /* the later one replaces it */
    check_fired("replaced by a nearer one", when);
    fired_at = 0;
    spin_ns(5 * MS);
    check(fired_at == 0, "it fires once");
    check_equal(set_timer_op(time_now() + 5 * MS), 0);
    check_equal(set_timer_op(0), 0);
    spin_ns(20 * MS);
    check(fired_at == 0, "set_timer_op(0) cancels");
    check_negative(vcpu_op(VCPUOP_set_singleshot_timer, 77, &(struct vcpu_set_singleshot_timer){.timeout_abs_ns = 1}));
    singleshot(~0UL, 0); /* in 584 years, or never, or now: no harm */
    vcpu_op(VCPUOP_stop_singleshot_timer, 0, NULL);
    spin_ns(MS);
    fired_at = 0;
}

static void periodic(void)
{
    struct vcpu_set_periodic_timer p = {.period_ns = 10 * MS};
    uint64_t start;
    unsigned count;

    check_equal(vcpu_op(VCPUOP_set_periodic_timer, 0, &p), 0);
    event_counts[timer_port] = 0;
    start = time_now();
    while (time_now() < start + 200 * MS)
        asm volatile("pause");
    count = event_counts[timer_port];
    check(count >= 19 && count <= 21, "10 ms period over 200 ms: %u", count);
    check_equal(vcpu_op(VCPUOP_stop_periodic_timer, 0, NULL), 0);
    spin_ns(5 * MS);
    event_counts[timer_port] = 0;
    spin_ns(50 * MS);
    check(event_counts[timer_port] == 0, "stopped: %u", event_counts[timer_port]);
    p.period_ns = 1000;
    check_equal(vcpu_op(VCPUOP_set_periodic_timer, 0, &p), -EINVAL);
    p.period_ns = ~0UL;
    check_equal(vcpu_op(VCPUOP_set_periodic_timer, 0, &p), -EINVAL);
    check_negative(vcpu_op(VCPUOP_set_periodic_timer, 77, &p));
}

static void blocking(void)
{
    uint64_t start = time_now(), end;

    events_disable();
    check_equal(singleshot(start + 20 * MS, 0), 0);
    check_equal(sched_op(SCHEDOP_block, NULL), 0);
    end = time_now();
    check(end >= start + 20 * MS && end < start + 20 * MS + LATE, "block until the timer: %lu us",
          (end - start) / 1000);
    check(fired_at != 0 && vcpu_info_of(0)->evtchn_upcall_mask == 0, "block opens events");
    check_equal(sched_op(SCHEDOP_yield, NULL), 0);
}

static void clocks(void)
{
    uint64_t last = 0, back = 0, biggest = 0, start = time_now(), tsc = tsc_read();
    volatile struct vcpu_time_info *t = &vcpu_info_of(0)->time;

    for (unsigned i = 0; i < 300000; i++) {
        uint64_t now = time_now();

        if (now < last)
            back++;
        else if (last != 0 && now - last > biggest)
            biggest = now - last;
        last = now;
    }
    check(back == 0, "time never goes back (%lu times); the biggest step %lu ns", back, biggest);
    check(start > 0 && start < 3600UL * 1000 * MS, "time since boot: %lu ms", start / MS);
    check(last > start && tsc_read() > tsc, "both clocks run");
    check((t->version & 1) == 0, "the version is even");
    check(t->tsc_to_system_mul != 0 && t->tsc_shift > -32 && t->tsc_shift < 32, "tsc_to_system_mul %x, shift %d",
          t->tsc_to_system_mul, t->tsc_shift);
    check((shared_info->wc_version & 1) == 0, "wall clock version");
    check(((uint64_t)shared_info->wc_sec_hi << 32 | shared_info->wc_sec) > 1577836800UL &&
              shared_info->wc_nsec < 1000000000,
          "wall clock %u s is after 2020", shared_info->wc_sec);
}

static uint64_t total(const struct vcpu_runstate_info *r) { return r->time[0] + r->time[1] + r->time[2] + r->time[3]; }

static void runstates(void)
{
    static struct vcpu_runstate_info area __attribute__((aligned(64)));
    struct vcpu_register_runstate_memory_area reg;
    struct vcpu_runstate_info a, b;
    uint64_t t0, t1, now;
    long rc;

    check_equal(vm_assist(VMASST_CMD_enable, VMASST_TYPE_runstate_update_flag), 0);
    memset(&area, 0x55, sizeof(area));
    reg.addr.v = &area;
    check_equal(vcpu_op(VCPUOP_register_runstate_memory_area, 0, &reg), 0);
    check(area.state == RUNSTATE_running, "the area is filled in at once: state %d", area.state);
    check((area.state_entry_time & XEN_RUNSTATE_UPDATE) == 0, "no update is in progress");
    check_equal(vcpu_op(VCPUOP_get_runstate_info, 0, &a), 0);
    t0 = time_now();
    singleshot(t0 + 30 * MS, 0);
    rc = sched_op(SCHEDOP_block, NULL);
    check_equal(vcpu_op(VCPUOP_get_runstate_info, 0, &b), 0);
    t1 = time_now();
    check(rc == 0 && b.state == RUNSTATE_running, "running");
    check(b.time[RUNSTATE_blocked] - a.time[RUNSTATE_blocked] > 20 * MS, "blocked for %lu us",
          (b.time[RUNSTATE_blocked] - a.time[RUNSTATE_blocked]) / 1000);
    check(total(&b) >= total(&a) && total(&b) - total(&a) <= t1 - t0 + 10 * MS &&
              total(&b) - total(&a) + 10 * MS >= t1 - t0,
          "the times add up to real time: %lu us of %lu us", (total(&b) - total(&a)) / 1000, (t1 - t0) / 1000);
    check(area.time[RUNSTATE_blocked] > 0 && area.state == RUNSTATE_running, "the area follows");
    check(area.state_entry_time <= time_now() && area.state_entry_time + 1000 * MS > time_now(),
          "its entry time is near");
    now =
        area.time[RUNSTATE_running] + (time_now() - area.state_entry_time) + area.time[1] + area.time[2] + area.time[3];
    check(now + 10 * MS >= total(&b), "the area adds up, too");
    check_negative(vcpu_op(VCPUOP_get_runstate_info, 77, &b));

    /* An area that goes away later is no reason to fail. */
    map_page(TEST_VA, make_pte(virt_to_mfn(page_alloc()), PTE_RW));
    reg.addr.p = TEST_VA + 128;
    check_equal(vcpu_op(VCPUOP_register_runstate_memory_area, 0, &reg), 0);
    update_va_mapping(TEST_VA, 0, UVMF_INVLPG);
    singleshot(time_now() + 5 * MS, 0);
    check_equal(sched_op(SCHEDOP_block, NULL), 0);
    reg.addr.p = 0;
    vcpu_op(VCPUOP_register_runstate_memory_area, 0, &reg);
}

static void placements(void)
{
    static struct vcpu_time_info second __attribute__((aligned(64)));
    struct vcpu_register_time_memory_area area;
    uint8_t *page = page_alloc();
    struct vcpu_register_vcpu_info info = {.mfn = virt_to_mfn(page), .offset = 4096 - 32};
    uint64_t a, b = 0;
    long rc;

    area.addr.v = &second;
    rc = vcpu_op(VCPUOP_register_vcpu_time_memory_area, 0, &area);
    if (rc != -ENOSYS) {
        check(rc == 0 && second.tsc_to_system_mul == vcpu_info_of(0)->time.tsc_to_system_mul, "a second time area: %ld",
              rc);
        a = time_now();
        b = time_of(&second);
        check(b >= a && b - a < 10 * MS, "agrees with the first: %lu ns apart", b - a);
    } else
        check(true, "no second time area");

    check_negative(vcpu_op(VCPUOP_register_vcpu_info, 0, &info)); /* crosses the page */
    info.offset = 4;
    check_negative(vcpu_op(VCPUOP_register_vcpu_info, 0, &info)); /* not aligned */
    info.offset = 0;
    info.mfn = 0x200;
    check_negative(vcpu_op(VCPUOP_register_vcpu_info, 0, &info));
    info.mfn = kernel_root;
    check_negative(vcpu_op(VCPUOP_register_vcpu_info, 0, &info));
    info.mfn = virt_to_mfn(page);
    info.offset = 512;
    check_negative(vcpu_op(VCPUOP_register_vcpu_info, 77, &info));
    events_disable();
    check_equal(vcpu_op(VCPUOP_register_vcpu_info, 0, &info), 0);
    check(((struct vcpu_info *)(void *)(page + 512))->evtchn_upcall_mask == 1, "the content moved with it");
    vcpu_infos[0] = (struct vcpu_info *)(void *)(page + 512);
    check_equal(vcpu_op(VCPUOP_register_vcpu_info, 0, &info), -EINVAL); /* once only */
    check(page_set_flags(page, PTE_RO) == 0 && mmuext(MMUEXT_PIN_L1_TABLE, info.mfn, 0) < 0,
          "its page cannot become a table");
    page_make_writable(page);
    events_enable();
    a = time_now();
    check(a >= b, "the clock goes on there");
    check_equal(singleshot(a + 5 * MS, 0), 0);
    check_fired("a timer event arrives through the new vcpu_info", a + 5 * MS);
}

static void watchdog(void)
{
    struct sched_watchdog w = {.id = 0, .timeout = 3000};
    long id = sched_op(SCHEDOP_watchdog, &w);

    check(id > 0, "a watchdog of 3000 s: id %ld", id);
    w.id = (uint32_t)id;
    check_equal(sched_op(SCHEDOP_watchdog, &w), 0);
    w.id = 77;
    check_equal(sched_op(SCHEDOP_watchdog, &w), -EINVAL);
    w.id = (uint32_t)id;
    w.timeout = 0;
    check_equal(sched_op(SCHEDOP_watchdog, &w), 0);
}

GUEST("timers")
{
    check_equal(vcpu_op(VCPUOP_stop_periodic_timer, 0, NULL), 0);
    timer_port = bind_virq(VIRQ_TIMER, 0);
    check(timer_port > 0, "bind_virq: %ld", timer_port);
    event_handlers[timer_port] = note_time;
    events_enable();
    event_unmask((unsigned)timer_port);
    clocks();
    one_shot();
    periodic();
    blocking();
    runstates();
    watchdog();
    placements();
}
