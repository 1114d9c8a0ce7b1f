/* Building children and talking with them: see child.h. */
#include "child.h"

#define IMAGE_START ((unsigned long)hypercall_page)
#define WINDOW (0x0000180000000000UL)
#define WINDOW_SIZE (CHILD_MAX_PAGES * PAGE_SIZE)
#define ANSWER_LIMIT 5000000000UL
#define POLL_NS 3000000UL /* an event may be lost, if the test closes the channel */

extern char kit_pool[];

struct child_talk kit_talk __attribute__((aligned(4096)));
struct xen_domctl domctl_op;
struct xen_sysctl sysctl_op;
uint32_t child_max_port = -1U;
unsigned child_pool_pages = 48;

static struct vcpu_guest_context context;
static bool slots_used[CHILDREN];

/* ---- Calls for tools ---- */

long domctl(uint32_t cmd, unsigned domid)
{
    domctl_op.cmd = cmd;
    domctl_op.interface_version = XEN_DOMCTL_INTERFACE_VERSION;
    domctl_op.domain = (domid_t)domid;
    return hypercall(__HYPERVISOR_domctl, U(&domctl_op), 0, 0, 0, 0);
}

long sysctl(uint32_t cmd)
{
    sysctl_op.cmd = cmd;
    sysctl_op.interface_version = XEN_SYSCTL_INTERFACE_VERSION;
    return hypercall(__HYPERVISOR_sysctl, U(&sysctl_op), 0, 0, 0, 0);
}

long domain_flags(unsigned domid)
{
    long rc = domctl(XEN_DOMCTL_getdomaininfo, domid);

    if (rc != 0)
        return rc;
    return domctl_op.domain == domid ? (long)domctl_op.u.getdomaininfo.flags : -ESRCH;
}

unsigned long free_pages(void)
{
    if (sysctl(XEN_SYSCTL_physinfo) != 0)
        panic("no physinfo");
    return sysctl_op.u.physinfo.free_pages;
}

static uint32_t log_index = 0x7fffffff; /* nobody's: the log's beginning */

static uint32_t log_read(char *text, uint32_t size)
{
    memset(&sysctl_op, 0, sizeof(sysctl_op));
    sysctl_op.u.readconsole.incremental = 1;
    sysctl_op.u.readconsole.index = log_index;
    sysctl_op.u.readconsole.count = size;
    set_xen_guest_handle(sysctl_op.u.readconsole.buffer, text);
    if (sysctl(XEN_SYSCTL_readconsole) != 0)
        panic("no readconsole");
    log_index = sysctl_op.u.readconsole.index;
    return sysctl_op.u.readconsole.count;
}

static char log_text[16384];

void log_mark(void)
{
    while (log_read(log_text, sizeof(log_text) - 1) != 0)
        ;
}

bool log_has(const char *text)
{
    uint32_t from = log_index, n = log_read(log_text, sizeof(log_text) - 1);

    log_text[n] = '\0';
    log_index = from;
    return strfind(log_text, text);
}

void audit(const char *when)
{
    static char key[] = "a";

    log_mark();
    memset(&sysctl_op, 0, sizeof(sysctl_op));
    sysctl_op.u.debug_keys.nr_keys = 1;
    set_xen_guest_handle(sysctl_op.u.debug_keys.keys, key);
    check_quiet(sysctl(XEN_SYSCTL_debug_keys) == 0 && log_has("audit: 0 findings"), "%s: the audit has findings", when);
}

/* A second time, if it is not so: something may be used for the first time, and stay. */
void leaves_nothing(const char *what, void (*f)(void))
{
    unsigned long before, after;
    unsigned tries = 0;

    do {
        before = free_pages();
        f();
        after = free_pages();
    } while (before != after && ++tries < 2);
    check(before == after, "%s: %lu pages were free, %lu are", what, before, after);
    audit(what);
}

/* ---- Building ---- */

static unsigned image_pages(void) { return (unsigned)(((unsigned long)kit_pool - IMAGE_START) / PAGE_SIZE); }
static unsigned page_of(const void *p) { return (unsigned)(((unsigned long)p - IMAGE_START) / PAGE_SIZE); }
static unsigned long window(const struct child *c, unsigned page)
{
    return WINDOW + c->slot * WINDOW_SIZE + page * PAGE_SIZE;
}
void *child_window(const struct child *c, unsigned page) { return (void *)window(c, page); }
/* A page's address in the child */
static unsigned long address_in_child(unsigned page) { return IMAGE_START + page * PAGE_SIZE; }

/* The pages behind the image and the pool */
enum { START_INFO, FRAME_LIST, TABLE4, TABLE3, TABLE2, TABLE1, EXTRA_PAGES };
unsigned child_pool_limit(void) { return CHILD_MAX_PAGES - image_pages() - EXTRA_PAGES; }
static unsigned extra(unsigned which) { return image_pages() + child_pool_pages + which; }

long map_foreign(unsigned domid, unsigned long va, unsigned long mfn, uint64_t flags)
{
    struct mmu_update u = {.ptr = virt_to_machine(pte_of(va)), .val = make_pte(mfn, flags)};

    return mmu_update(&u, 1, NULL, domid);
}

void child_create_kind(struct child *c, unsigned vcpus, unsigned pages, bool pvh)
{
    long rc;

    memset(c, 0, sizeof(*c));
    while (c->slot < CHILDREN && slots_used[c->slot])
        c->slot++;
    c->vcpus = vcpus;
    c->pages = pages;
    if (c->slot == CHILDREN)
        panic("no slot for a child");
    slots_used[c->slot] = true;
    memset(&domctl_op, 0, sizeof(domctl_op));
    domctl_op.u.createdomain =
        (struct xen_domctl_createdomain){.flags = pvh ? XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap : 0,
                                         .max_vcpus = vcpus,
                                         .max_evtchn_port = child_max_port,
                                         .max_grant_frames = 8,
                                         .max_maptrack_frames = 8,
                                         .grant_opts = XEN_DOMCTL_GRANT_version(2),
                                         .arch.emulation_flags = pvh ? XEN_X86_EMU_LAPIC : 0};
    rc = domctl(XEN_DOMCTL_createdomain, 0);
    if (rc != 0)
        panic("createdomain: %ld", rc);
    c->domid = domctl_op.domain;
    domctl_op.u.max_vcpus.max = vcpus;
    rc = domctl(XEN_DOMCTL_max_vcpus, c->domid);
    if (rc != 0)
        panic("max_vcpus of d%u: %ld", c->domid, rc);
    domctl_op.u.max_mem.max_memkb = (c->pages + CHILD_SPARE_PAGES) * 4;
    rc = domctl(XEN_DOMCTL_max_mem, c->domid);
    if (rc != 0)
        panic("max_mem of d%u: %ld", c->domid, rc);
}

void child_create(struct child *c, unsigned vcpus)
{
    unsigned pages = image_pages() + child_pool_pages + EXTRA_PAGES;

    if (pages > CHILD_MAX_PAGES)
        panic("a child of %u pages", pages);
    child_create_kind(c, vcpus, pages, false);
}

void child_populate(struct child *c)
{
    struct xen_memory_reservation r = {.nr_extents = c->pages, .domid = (domid_t)c->domid};
    long rc;

    for (unsigned i = 0; i < c->pages; i++)
        c->frames[i] = virt_to_pfn((void *)address_in_child(i));
    set_xen_guest_handle(r.extent_start, c->frames);
    rc = memory_op(XENMEM_populate_physmap, &r);
    if (rc != (long)c->pages)
        panic("d%u gets %ld of %u pages", c->domid, rc, c->pages);
}

static void window_map(const struct child *c, bool mapped)
{
    static struct mmu_update updates[CHILD_MAX_PAGES];
    uint64_t first;
    long rc;

    if (entry_of(kernel_root, window(c, 0), 2) == NULL ||
        (*(volatile uint64_t *)entry_of(kernel_root, window(c, 0), 2) & PTE_P) == 0)
        map_page(window(c, 0), 0);
    first = virt_to_machine(pte_of(window(c, 0)));
    for (unsigned i = 0; i < c->pages; i++) {
        bool keep = mapped || address_in_child(i) == (unsigned long)&kit_talk;

        updates[i] = (struct mmu_update){.ptr = first + i * 8, .val = keep ? make_pte(c->frames[i], PTE_RW) : 0};
    }
    rc = mmu_update(updates, c->pages, NULL, c->domid);
    if (rc != 0)
        panic("the frames of d%u: %ld", c->domid, rc);
    mmuext(MMUEXT_TLB_FLUSH_ALL, 0, 0);
}

static void *in_window(const struct child *c, unsigned page) { return (void *)window(c, page); }

/* An entry for the child's page in one of its tables. */
static void set_entry(const struct child *c, unsigned table, unsigned slot, unsigned page, uint64_t flags)
{
    ((uint64_t *)in_window(c, extra(table)))[slot] = make_pte(c->frames[page], flags);
}

static void make_tables(const struct child *c)
{
    unsigned slot1 = IMAGE_START >> 12 & 511;

    for (unsigned table = TABLE4; table <= TABLE1; table++)
        memset(in_window(c, extra(table)), 0, PAGE_SIZE);
    set_entry(c, TABLE4, IMAGE_START >> 39 & 511, extra(TABLE3), PTE_TABLE);
    set_entry(c, TABLE3, IMAGE_START >> 30 & 511, extra(TABLE2), PTE_TABLE);
    set_entry(c, TABLE2, IMAGE_START >> 21 & 511, extra(TABLE1), PTE_TABLE);
    for (unsigned i = 0; i < c->pages; i++)
        set_entry(c, TABLE1, slot1 + i, i, i >= extra(TABLE4) ? PTE_RO : PTE_RW);
}

static void copy_page(void *to, const void *from)
{
    size_t n = PAGE_SIZE / 8;

    asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

void child_fill(struct child *c)
{
    struct start_info *si = in_window(c, extra(START_INFO));
    unsigned long *list = in_window(c, extra(FRAME_LIST));
    struct mmuext_op pin = {.cmd = MMUEXT_PIN_L4_TABLE};
    long rc;

    window_map(c, true);
    c->talk = in_window(c, page_of(&kit_talk));
    for (unsigned i = 0; i < image_pages(); i++)
        copy_page(in_window(c, i), (void *)address_in_child(i));
    memset(c->talk, 0, sizeof(*c->talk));
    memset(in_window(c, image_pages()), 0, child_pool_pages * PAGE_SIZE);
    memset(list, 0, PAGE_SIZE);
    for (unsigned i = 0; i < c->pages; i++)
        list[virt_to_pfn((void *)address_in_child(i))] = c->frames[i];
    make_tables(c);

    memset(si, 0, PAGE_SIZE);
    memcpy(si->magic, "xen-3.0-x86_64", 15);
    si->nr_pages = c->pages;
    if (domain_flags(c->domid) < 0)
        panic("d%u is not there", c->domid);
    si->shared_info = domctl_op.u.getdomaininfo.shared_info_frame << 12;
    si->pt_base = address_in_child(extra(TABLE4));
    si->nr_pt_frames = 4;
    si->mfn_list = address_in_child(extra(FRAME_LIST));

    domctl_op.u.hypercall_init.gmfn = c->frames[page_of(hypercall_page)];
    rc = domctl(XEN_DOMCTL_hypercall_init, c->domid);
    if (rc != 0)
        panic("hypercall_init of d%u: %ld", c->domid, rc);
    window_map(c, false);
    pin.arg1.mfn = c->frames[extra(TABLE4)];
    rc = mmuext_op(&pin, 1, NULL, c->domid);
    if (rc != 0)
        panic("pinning the tables of d%u: %ld", c->domid, rc);
}

void child_set_context(struct child *c)
{
    long rc;

    vcpu_context_fill(&context, 0, NULL);
    context.flags |= VGCF_online;
    context.user_regs.rip = (unsigned long)kit_start;
    context.user_regs.rsi = address_in_child(extra(START_INFO));
    context.ctrlreg[3] = c->frames[extra(TABLE4)] << 12;
    domctl_op.u.vcpucontext.vcpu = 0;
    set_xen_guest_handle(domctl_op.u.vcpucontext.ctxt, &context);
    rc = domctl(XEN_DOMCTL_setvcpucontext, c->domid);
    if (rc != 0)
        panic("setvcpucontext of d%u: %ld", c->domid, rc);
}

void child_connect(struct child *c)
{
    struct evtchn_alloc_unbound a = {.dom = (domid_t)c->domid, .remote_dom = 0};
    struct evtchn_bind_interdomain b = {.remote_dom = (domid_t)c->domid};
    long rc = event_channel_op(EVTCHNOP_alloc_unbound, &a);

    b.remote_port = c->talk->port = a.port;
    if (rc == 0)
        rc = event_channel_op(EVTCHNOP_bind_interdomain, &b);
    if (rc != 0)
        panic("no channel to d%u: %ld", c->domid, rc);
    c->port = b.local_port;
}

void child_unpause(struct child *c)
{
    long rc = domctl(XEN_DOMCTL_unpausedomain, c->domid);

    if (rc != 0)
        panic("unpausedomain of d%u: %ld", c->domid, rc);
}

void child_start_with(struct child *c, unsigned vcpus)
{
    child_create(c, vcpus);
    child_populate(c);
    child_fill(c);
    child_set_context(c);
    child_connect(c);
    child_unpause(c);
}

void child_start(struct child *c) { child_start_with(c, 1); }

/* ---- The end ---- */

void child_let_go(struct child *c)
{
    struct evtchn_close close = {.port = c->port};

    if (c->port != 0)
        event_channel_op(EVTCHNOP_close, &close);
    c->port = 0;
    if (c->talk != NULL)
        update_va_mapping((unsigned long)c->talk, 0, UVMF_INVLPG | UVMF_ALL);
    c->talk = NULL;
    slots_used[c->slot] = false;
}

long child_destroy(struct child *c)
{
    child_let_go(c);
    return domctl(XEN_DOMCTL_destroydomain, c->domid);
}

bool domain_gone(unsigned domid)
{
    uint64_t limit = time_now() + 2000000000UL;

    while (domain_flags(domid) != -ESRCH)
        if (time_now() > limit)
            return false;
    return true;
}

void child_end(struct child *c)
{
    long rc = child_destroy(c);

    check_quiet(rc == 0, "destroydomain of d%u: %ld", c->domid, rc);
    check_quiet(domain_gone(c->domid), "d%u stays: flags %lx", c->domid, domain_flags(c->domid));
}

unsigned long child_frame(struct child *c, void *p) { return c != NULL ? c->frames[page_of(p)] : virt_to_mfn(p); }

/* ---- Talking ---- */

void short_nap(void)
{
    struct sched_poll poll = {.timeout = time_now() + 5000000};

    sched_op(SCHEDOP_poll, &poll);
}

/* Until the port has an event or some time has passed; nobody handles the event. */
static void wait_for_port(uint32_t port, const volatile uint32_t *value, uint32_t old)
{
    struct sched_poll poll = {.nr_ports = 1, .timeout = time_now() + POLL_NS};

    set_xen_guest_handle(poll.ports, &port);
    __atomic_and_fetch(&shared_info->evtchn_pending[port / 64], ~(1UL << port % 64), __ATOMIC_SEQ_CST);
    if (*value == old && sched_op(SCHEDOP_poll, &poll) != 0)
        sched_op(SCHEDOP_yield, NULL);
}

void child_order(struct child *c, child_function_t *f, const long *args)
{
    memcpy(c->talk->a, args, sizeof(c->talk->a));
    c->talk->f = f;
    barrier();
    c->talk->order++;
}

void child_begin(struct child *c, child_function_t *f, const long *args)
{
    child_order(c, f, args);
    event_send(c->port);
}

bool child_wait(struct child *c)
{
    uint64_t limit = time_now() + ANSWER_LIMIT;
    uint32_t before;

    while ((before = c->talk->answered) != c->talk->order && time_now() < limit)
        wait_for_port(c->port, &c->talk->answered, before);
    if (c->talk->text_length != 0)
        printf("d%u: %s", c->domid, c->talk->text);
    c->talk->text_length = 0;
    check_quiet(c->talk->failures == 0, "d%u: %u checks failed there", c->domid, c->talk->failures);
    return check_quiet(before == c->talk->order, "d%u does not answer: flags %lx", c->domid, domain_flags(c->domid));
}

long child_call_at(struct child *c, child_function_t *f, const long *args)
{
    if (c == NULL) {
        memcpy(kit_talk.a, args, sizeof(kit_talk.a));
        return f(kit_talk.a);
    }
    child_begin(c, f, args);
    return child_wait(c) ? c->talk->result : CHILD_SILENT;
}

static long hypercall_here(long *a) { return hypercall((unsigned)a[0], U(a[1]), U(kit_talk.data), U(a[2]), 0, 0); }

long op_by(struct child *c, unsigned nr, unsigned cmd, void *op, size_t size, unsigned count)
{
    long rc;

    if (size > sizeof(kit_talk.data))
        panic("a request of %lu bytes", size);
    memcpy(talk_of(c)->data, op, size);
    rc = child_call(c, hypercall_here, nr, cmd, count);
    memcpy(op, talk_of(c)->data, size);
    return rc;
}

void kit_child_write(const char *text, unsigned length)
{
    struct child_talk *t = &kit_talk;

    if (t->text_length + length >= sizeof(t->text) ||
        (kit_quiet && !strprefix(text, "FAIL") && !strprefix(text, "GUEST")))
        return;
    memcpy(t->text + t->text_length, text, length);
    t->text_length += length;
    t->text[t->text_length] = '\0';
}

/* The child's main function: its variables are copies of domain 0's, of which some must not be. */
void kit_child_main(void)
{
    struct child_talk *t = &kit_talk;

    pool_reset(child_pool_pages);
    memset(event_handlers, 0, sizeof(event_handlers));
    memset((void *)event_counts, 0, sizeof(event_counts));
    memset(trap_hooks, 0, sizeof(trap_hooks));
    for (;;) {
        uint32_t order = t->order;

        if (order == t->answered) {
            wait_for_port(t->port, &t->order, order);
            continue;
        }
        t->result = t->f(t->a);
        t->failures = kit_failures();
        barrier();
        t->answered = order;
        event_send(t->port);
    }
}

static void set_affinity(unsigned domid, unsigned vcpu, uint8_t map)
{
    memset(&domctl_op.u, 0, sizeof(domctl_op.u));
    domctl_op.u.vcpuaffinity.vcpu = vcpu;
    domctl_op.u.vcpuaffinity.flags = XEN_VCPUAFFINITY_HARD;
    domctl_op.u.vcpuaffinity.cpumap_hard.nr_bits = 8;
    set_xen_guest_handle(domctl_op.u.vcpuaffinity.cpumap_hard.bitmap, &map);
    check_quiet(domctl(XEN_DOMCTL_setvcpuaffinity, domid) == 0, "d%uv%u on CPUs %x", domid, vcpu, map);
}

void pin_vcpu(unsigned domid, unsigned vcpu, unsigned cpu) { set_affinity(domid, vcpu, (uint8_t)(1U << cpu)); }

void keep_off_first_cpus(unsigned domid, unsigned vcpus)
{
    unsigned long first = argument_number("first_cpu=", 0);

    for (unsigned v = 0; first != 0 && v < vcpus; v++)
        set_affinity(domid, v, (uint8_t)(0xff << first));
}
