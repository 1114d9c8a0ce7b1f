/* run: smp=2 time=90 args="first_cpu=1" */
/*
 * Populate on demand, by the calls of the tools: a PVH domain with less memory than frames, whose only program reads or writes the pages
 * that it is told to. It uses what it has, is given pages back that hold zeros only, balloons by order, and ends if it uses too much.
 * (Where the processor has no AMD-V there is nothing to test.)
 */
#include "../kit/child.h"
#include <xen/hvm/save.h>

#define BLOCK 512UL
#define FRAMES (8 * BLOCK) /* 16 MiB */
#define PAGES (3 * BLOCK)  /* of memory */
#define FUDGE 64UL
#define CODE_FRAME 16UL
#define ORDERS_AT 0x800UL /* in that page */
#define VA TEST_VA
#define SECOND 1000000000UL

/* Flat 32-bit mode without paging. What it is told is at 0x10800: address, pages, write?; 1 when done; all that was read, by OR */
extern const char program[], program_end[];
asm(".pushsection .rodata\n"
    ".code32\n"
    "program: movl $0x10800, %esi\n"
    "1: movl (%esi), %edi\n"
    "   movl 4(%esi), %ecx\n"
    "   xorl %edx, %edx\n"
    "2: cmpl $0, 8(%esi)\n"
    "   je 3f\n"
    "   movl %edi, (%edi)\n"
    "3: orl (%edi), %edx\n"
    "   addl $4096, %edi\n"
    "   decl %ecx\n"
    "   jnz 2b\n"
    "   movl %edx, 16(%esi)\n"
    "   movl $1, 12(%esi)\n"
    "4: pause\n"
    "   cmpl $0, 12(%esi)\n"
    "   jne 4b\n"
    "   jmp 1b\n"
    "program_end:\n"
    ".code64\n"
    ".popsection\n");

struct orders {
    uint32_t address, pages, write;
    volatile uint32_t done;
    volatile uint32_t seen;
};

static unsigned id;
static xen_pfn_t list[FRAMES];
static struct orders *orders;
static bool without; /* there are no such domains here */

static long reserve(unsigned cmd, unsigned long first, unsigned long n, unsigned order, unsigned flags)
{
    struct xen_memory_reservation r = {
        .nr_extents = n, .extent_order = order, .mem_flags = flags, .domid = (domid_t)id};

    for (unsigned long i = 0; i < n; i++)
        list[i] = first + (i << order);
    set_xen_guest_handle(r.extent_start, list);
    return memory_op(cmd, &r);
}

static struct xen_pod_target target(unsigned cmd, unsigned long pages)
{
    struct xen_pod_target t = {.target_pages = pages, .domid = (domid_t)id};

    check_quiet(memory_op(cmd, &t) == 0, "pod_target %u of %lu pages", cmd, pages);
    return t;
}

static void check_numbers(const char *when, unsigned long total, unsigned long cached, unsigned long entries)
{
    struct xen_pod_target t = target(XENMEM_get_pod_target, 0);

    check(t.tot_pages == total && t.pod_cache_pages == cached && t.pod_entries == entries,
          "%s: %lu pages, %lu in the cache, %lu frames to come", when, (unsigned long)t.tot_pages,
          (unsigned long)t.pod_cache_pages, (unsigned long)t.pod_entries);
}

/* ---- Building ---- */

static bool create(void)
{
    long rc;

    memset(&domctl_op, 0, sizeof(domctl_op));
    domctl_op.u.createdomain = (struct xen_domctl_createdomain){.flags = XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap,
                                                                .max_vcpus = 1,
                                                                .max_evtchn_port = 100,
                                                                .max_grant_frames = 8,
                                                                .max_maptrack_frames = 8,
                                                                .grant_opts = XEN_DOMCTL_GRANT_version(1),
                                                                .arch = {.emulation_flags = XEN_X86_EMU_LAPIC}};
    rc = domctl(XEN_DOMCTL_createdomain, 0);
    without = rc == -XEN_EOPNOTSUPP;
    if (without || !check_quiet(rc == 0, "createdomain: %ld", rc))
        return false;
    id = domctl_op.domain;
    domctl_op.u.max_vcpus.max = 1;
    check_quiet(domctl(XEN_DOMCTL_max_vcpus, id) == 0, "max_vcpus");
    keep_off_first_cpus(id, 1);
    domctl_op.u.max_mem.max_memkb = (PAGES + FUDGE) * 4;
    return check_quiet(domctl(XEN_DOMCTL_max_mem, id) == 0, "max_mem");
}

/* The header comes from Croft; the processor begins at 'entry' in flat mode. */
static void set_context(uint32_t entry)
{
    static uint8_t stream[8192];
    struct hvm_save_descriptor *s = (void *)stream;
    struct hvm_hw_cpu *c;

    memset(&domctl_op, 0, sizeof(domctl_op));
    domctl_op.u.hvmcontext.size = sizeof(stream);
    set_xen_guest_handle(domctl_op.u.hvmcontext.buffer, stream);
    check_quiet(domctl(XEN_DOMCTL_gethvmcontext, id) == 0, "gethvmcontext");
    s = (void *)((uint8_t *)(s + 1) + s->length);
    *s = (struct hvm_save_descriptor){.typecode = HVM_SAVE_CODE(CPU), .length = sizeof(*c)};
    c = (void *)(s + 1);
    memset(c, 0, sizeof(*c));
    c->cr0 = 0x11; /* PE, ET */
    c->rip = entry;
    c->rflags = 2;
    c->dr6 = 0xffff0ff0;
    c->dr7 = 0x400;
    c->cs_limit = c->ds_limit = c->es_limit = c->fs_limit = c->gs_limit = c->ss_limit = ~0U;
    c->tr_limit = 0x67;
    c->cs_arbytes = 0xc9b;
    c->ds_arbytes = c->es_arbytes = c->fs_arbytes = c->gs_arbytes = c->ss_arbytes = 0xc93;
    c->tr_arbytes = 0x8b;
    c->ldtr_arbytes = 0x82;
    s = (void *)(c + 1);
    *s = (struct hvm_save_descriptor){.typecode = HVM_SAVE_CODE(END)};
    memset(&domctl_op, 0, sizeof(domctl_op));
    domctl_op.u.hvmcontext.size = (uint32_t)((uint8_t *)(s + 1) - stream);
    set_xen_guest_handle(domctl_op.u.hvmcontext.buffer, stream);
    check_quiet(domctl(XEN_DOMCTL_sethvmcontext, id) == 0, "sethvmcontext");
}

/* As libxc builds: target, frames in blocks, then what is put there. */
static bool start(void)
{
    if (!create())
        return false;
    target(XENMEM_set_pod_target, PAGES);
    check_quiet(reserve(XENMEM_populate_physmap, 0, FRAMES / BLOCK, 9, XENMEMF_populate_on_demand) == FRAMES / BLOCK,
                "frames to come");
    check_numbers("built", PAGES, PAGES, FRAMES);
    check_equal(map_foreign(id, VA, CODE_FRAME, PTE_RW), 0);
    check_numbers("the program is there", PAGES, PAGES - BLOCK, FRAMES - BLOCK);
    memcpy((void *)VA, program, (size_t)(program_end - program));
    orders = (void *)(VA + ORDERS_AT);
    orders->done = 1;
    set_context(CODE_FRAME * PAGE_SIZE);
    return true;
}

static bool has_crashed(void)
{
    long flags = domain_flags(id);

    return flags >= 0 && (flags & XEN_DOMINF_shutdown);
}

/* False: it has crashed on the way. */
static bool use(unsigned long first, unsigned long pages, bool write)
{
    uint64_t end = time_now() + 20 * SECOND;

    orders->address = (uint32_t)(first * PAGE_SIZE);
    orders->pages = (uint32_t)pages;
    orders->write = write;
    barrier();
    orders->done = 0;
    while (orders->done == 0 && !has_crashed() && time_now() < end)
        short_nap();
    check_quiet(orders->done != 0 || has_crashed(), "no answer in 20 s");
    return orders->done != 0;
}

static void finish(void)
{
    check_equal(map_foreign(id, VA, 0, 0), 0);
    check_equal(domctl(XEN_DOMCTL_destroydomain, id), 0);
    check(domain_gone(id), "it is gone");
}

/* ---- Lives ---- */

static void used_and_ballooned(void)
{
    if (!start())
        return;
    domctl(XEN_DOMCTL_unpausedomain, id);
    check(use(BLOCK, 2 * BLOCK, true), "it writes to what it has");
    check_numbers("all in use", PAGES, 0, FRAMES - PAGES);
    check_equal(map_foreign(id, VA + PAGE_SIZE, PAGES + 3, PTE_RO), -XEN_ENOMEM);
    /* Every frame: those that hold something do so still, the others take turns with the zeros of the first block. */
    check(use(PAGES, FRAMES - PAGES, false) && orders->seen == 0, "it reads zeros from what is to come: 0x%x",
          orders->seen);
    check(use(BLOCK, 2 * BLOCK, false) && orders->seen == (4 * BLOCK - 1) * PAGE_SIZE, "what it wrote is there: 0x%x",
          orders->seen);
    check(target(XENMEM_get_pod_target, 0).tot_pages == PAGES, "with the pages that it has");
    audit("after sweeps");
    domctl(XEN_DOMCTL_pausedomain, id);
    check_equal(reserve(XENMEM_decrease_reservation, PAGES, FRAMES - PAGES, 0, 0), FRAMES - PAGES);
    check(target(XENMEM_get_pod_target, 0).tot_pages == PAGES, "ballooned down, it has as many pages");
    domctl(XEN_DOMCTL_unpausedomain, id);
    check(use(BLOCK, 2 * BLOCK, true), "and can write to all of them");
    check(use(0, CODE_FRAME, true) && use(CODE_FRAME + 1, PAGES - CODE_FRAME - 1, true), "to each");
    check_numbers("nothing is to come", PAGES, 0, 0);
    audit("ballooned");
    finish();
}

static void too_much_is_used(void)
{
    if (!start())
        return;
    log_mark();
    domctl(XEN_DOMCTL_unpausedomain, id);
    check(!use(BLOCK, FRAMES - BLOCK, true), "it writes to more than it has");
    check(
        log_has("crashed: it uses more than its 'memory', 6144 KiB, and has not given back what 'maxmem' is above it"),
        "and the log says so");
    check(target(XENMEM_get_pod_target, 0).pod_cache_pages == 0, "no page was left");
    finish();
}

static void never_run(void)
{
    if (start())
        finish();
}

GUEST("pod")
{
    map_page(VA, 0);
    map_page(VA + PAGE_SIZE, 0);
    leaves_nothing("built and destroyed", never_run);
    if (without) {
        check(true, "there are no PVH domains on this processor");
        return;
    }
    leaves_nothing("used and ballooned", used_and_ballooned);
    leaves_nothing("used too much", too_much_is_used);
}
