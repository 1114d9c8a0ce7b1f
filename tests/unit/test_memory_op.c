/* sources: hypervisor/hypercall/memory.c hypervisor/hypercall/memory_exchange.c hypervisor/hypercall/memory_map.c */
/*
 * memory_op on a machine of 4096 frames: an array of owners with counts, an allocator that takes the first free run, a
 * domain whose guest memory is this program's. Property: whatever is called, the sum of the frames stays, and each
 * frame has the owner that the calls gave it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fake_boot.h"
#include "fake_hvm.h"

#include "boot/boot.h"
#include "hypercall/dispatch.h"
#include "hypercall/memory.h"
#include "memory/alloc.h"
#include "memory/map.h"

#define FRAMES 4096
#define LOW_FRAMES 1024 /* below "20 bits" of address */

static struct {
    struct domain *owner;
    bool allocated;
    unsigned refs;
    uint64_t m2p;
} frames[FRAMES];
static struct domain dom0, dom1;
static struct vcpu vcpu0, vcpu1;
static struct percpu cpu;
static struct shared_info shared;
static bool preempt;
static uint64_t continued[5];
static unsigned continuations;
static const void *hole; /* guest address that faults */

struct boot_info boot_info;
uint64_t max_frame = FRAMES;
uint64_t host_l4[512];
static uint64_t l3[512], l2[512];

struct percpu *this_cpu(void) { return &cpu; }
static void run(struct vcpu *v) { cpu.current_vcpu = v; }

bool hypercall_preempt_check(void) { return preempt; }
long hypercall_continue(uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
    continued[0] = a1;
    continued[1] = a2;
    continuations++;
    return 12345;
}
size_t copy_from_guest(void *to, const void *guest, size_t n)
{
    if (!guest ||
        (hole && (const uint8_t *)guest <= (const uint8_t *)hole && (const uint8_t *)hole < (const uint8_t *)guest + n))
        return n;
    memcpy(to, guest, n);
    return 0;
}
size_t copy_to_guest(void *guest, const void *from, size_t n)
{
    if (!guest ||
        (hole && (const uint8_t *)guest <= (const uint8_t *)hole && (const uint8_t *)hole < (const uint8_t *)guest + n))
        return n;
    memcpy(guest, from, n);
    return 0;
}
struct domain *domain_get_by_id(domid_t id)
{
    struct domain *d = id == DOMID_SELF ? current->domain : id == 0 ? &dom0 : id == 1 ? &dom1 : NULL;

    if (d)
        d->refs++;
    return d;
}
void domain_put(struct domain *d) { d->refs--; }
static int heap_left = -1; /* allocations until they fail; negative: never */
void *heap_alloc(size_t size) { return heap_left && (heap_left < 0 || heap_left--) ? calloc(1, size) : NULL; }
void heap_free(void *p) { free(p); }
static uint64_t claim_pages, claim_free;
static struct domain *claim_domain;
int alloc_claim(struct domain *d, uint64_t pages)
{
    claim_domain = d;
    claim_pages = pages;
    return pages > claim_free ? -ENOMEM : 0;
}
static unsigned grant_frames = 3;
unsigned grant_max_frames(const struct domain *d, bool status) { return status ? 1 : grant_frames; }
int grant_acquire_frame(struct domain *d, bool status, unsigned long index, mfn_t *m)
{
    if (index >= grant_max_frames(d, status))
        return -EINVAL;
    *m = MFN(0x5000 + (status ? 0x100 : 0) + index);
    return 0;
}
void *mfn_to_virt(mfn_t m) { return m.n == 1 ? l3 : l2; }
uint64_t alloc_free_count(void) { return 0; }
void m2p_write(mfn_t m, uint64_t gpfn)
{
    assert_true(m.n < FRAMES);
    frames[m.n].m2p = gpfn;
}

static void drop(uint64_t m)
{
    if (--frames[m].refs)
        return;
    frames[m].owner->tot_pages--;
    frames[m].owner = NULL;
}
bool frame_get(mfn_t m, const struct domain *d)
{
    if (m.n >= FRAMES || frames[m.n].owner != d || !frames[m.n].refs)
        return false;
    frames[m.n].refs++;
    return true;
}
void frame_put(mfn_t m) { drop(m.n); }
bool frame_release(mfn_t m, struct domain *d)
{
    if (m.n >= FRAMES || frames[m.n].owner != d || !frames[m.n].allocated)
        return false;
    frames[m.n].allocated = false;
    drop(m.n);
    return true;
}
bool frame_claim(mfn_t m, const struct domain *d)
{
    if (m.n >= FRAMES || frames[m.n].owner != d || !frames[m.n].allocated || frames[m.n].refs != 1)
        return false;
    frames[m.n].allocated = false;
    return true;
}
void frame_unclaim(mfn_t m)
{
    assert_true(frames[m.n].refs && !frames[m.n].allocated);
    frames[m.n].allocated = true;
}
static struct domain *thief; /* gets each frame that is allocated, as if it had been given back at once */
mfn_t alloc_domain_frames_numbered(struct domain *d, unsigned order, unsigned node, unsigned bits, uint64_t gpfn)
{
    uint64_t end = bits == 22 ? LOW_FRAMES : FRAMES, count = 1UL << order, i;

    if (d->tot_pages + count > d->max_pages)
        return INVALID_MFN;
    for (uint64_t m = 16; m + count <= end; m += count) {
        m = ROUND_UP(m, count);
        for (i = 0; i < count && m + i < end && !frames[m + i].owner; i++)
            ;
        if (i < count)
            continue;
        for (i = 0; i < count; i++) {
            frames[m + i].owner = d;
            frames[m + i].allocated = true;
            frames[m + i].refs = 1;
            if (gpfn != M2P_INVALID)
                frames[m + i].m2p = gpfn + i;
        }
        (thief ? thief : d)->tot_pages += count;
        for (i = 0; thief && i < count; i++) {
            frames[m + i].owner = thief;
            frames[m + i].m2p = 777;
        }
        return MFN(m);
    }
    return INVALID_MFN;
}
mfn_t alloc_domain_frames(struct domain *d, unsigned order, unsigned node)
{
    return alloc_domain_frames_numbered(d, order, node, 0, M2P_INVALID);
}

static uint64_t owned(const struct domain *d)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < FRAMES; i++)
        n += frames[i].owner == d;
    return n;
}

static int reset(void **state)
{
    memset(frames, 0, sizeof(frames));
    for (unsigned i = 0; i < FRAMES; i++)
        frames[i].m2p = M2P_INVALID;
    dom0 = (struct domain){.id = 0, .is_privileged = true, .max_pages = 2000, .shared_info = &shared};
    dom1 = (struct domain){.id = 1, .max_pages = 100, .shared_info = &shared};
    vcpu0.domain = &dom0;
    vcpu1.domain = &dom1;
    run(&vcpu0);
    preempt = false;
    continuations = 0;
    hole = NULL;
    thief = NULL;
    fake_log_clear();
    return 0;
}
static int settled(void **state)
{
    assert_int_equal(owned(&dom0), dom0.tot_pages);
    assert_int_equal(owned(&dom1), dom1.tot_pages);
    assert_int_equal(dom0.refs, 0);
    assert_int_equal(dom1.refs, 0);
    for (unsigned i = 0; i < FRAMES; i++)
        assert_true(!frames[i].owner || frames[i].refs == 1);
    return 0;
}

static xen_pfn_t list[2048];

static struct xen_memory_reservation reservation(unsigned long n, unsigned order)
{
    struct xen_memory_reservation r = {.nr_extents = n, .extent_order = order, .domid = DOMID_SELF};

    r.extent_start.p = list;
    return r;
}
static long call(uint64_t cmd, void *arg) { return hypercall_memory_op(cmd, (uint64_t)arg, 0, 0, 0); }

static void populate_and_decrease(void **state)
{
    struct xen_memory_reservation r = reservation(10, 3);

    for (unsigned i = 0; i < 10; i++)
        list[i] = 1000 + i * 8;
    assert_int_equal(call(XENMEM_populate_physmap, &r), 10);
    assert_int_equal(dom0.tot_pages, 80);
    for (unsigned i = 0; i < 10; i++)
        for (unsigned j = 0; j < 8; j++)
            assert_int_equal(frames[list[i] + j].m2p, 1000 + i * 8 + j);
    assert_int_equal(call(XENMEM_decrease_reservation, &r), 10);
    assert_int_equal(dom0.tot_pages, 0);
    for (unsigned i = 0; i < FRAMES; i++)
        assert_int_equal(frames[i].m2p, M2P_INVALID);
    assert_int_equal(call(XENMEM_decrease_reservation, &r), 0); /* not its own any more */
    assert_int_equal(call(XENMEM_increase_reservation, &r), 10);
    r.extent_start.p = NULL; /* the list is not wanted */
    assert_int_equal(call(XENMEM_increase_reservation, &r), 10);
    assert_int_equal(dom0.tot_pages, 160);
}

static void limits_and_faults(void **state)
{
    struct xen_memory_reservation r = reservation(300, 3);

    assert_int_equal(call(XENMEM_populate_physmap, &r), 250); /* max_pages */
    r = reservation(1, 10);
    assert_int_equal(call(XENMEM_populate_physmap, &r), 0); /* too large */
    r = reservation(~0UL, 0);
    assert_int_equal(call(XENMEM_populate_physmap, &r), 0);
    r = reservation(1UL << 58, 0);
    assert_int_equal(call(XENMEM_decrease_reservation, &r), 0);
    r = reservation(5, 0);
    r.extent_start.p = (xen_pfn_t *)HOLE_START;
    assert_int_equal(call(XENMEM_decrease_reservation, &r), 0);
    r = reservation(5, 0);
    r.mem_flags = XENMEMF_populate_on_demand;
    assert_int_equal(call(XENMEM_populate_physmap, &r), 0);
    assert_int_equal(call(XENMEM_populate_physmap, NULL), -EFAULT);
    r = reservation(5, 0);
    hole = &list[2];
    assert_int_equal(call(XENMEM_decrease_reservation, &r), 2); /* up to where the list ends */
    hole = NULL;
    dom0.max_pages = 3000;
    list[0] = list[1] = 5;
    hole = &list[1];
    assert_int_equal(call(XENMEM_populate_physmap, &r), 1);
    hole = NULL;
    list[0] = FRAMES + 5;
    assert_int_equal(call(XENMEM_decrease_reservation, &r), 0);
    list[0] = ~0UL;
    assert_int_equal(call(XENMEM_decrease_reservation, &r), 0);
}

/* Between the allocation and what the call does next the domain may lose its frames: they are not touched then. */
static void lost_meanwhile(void **state)
{
    struct xen_memory_reservation r = reservation(2, 2);

    thief = &dom1;
    list[0] = 1000;
    list[1] = 2000;
    assert_int_equal(call(XENMEM_populate_physmap, &r), 2);
    memory_give_back(MFN(list[0]), 4, &dom0);
    assert_int_equal(dom0.tot_pages, 0);
    assert_int_equal(dom1.tot_pages, 8);
    for (unsigned i = 0; i < FRAMES; i++)
        assert_int_equal(frames[i].m2p, frames[i].owner ? 777 : M2P_INVALID);
    memory_give_back(MFN(list[0]), 8, &dom1);
    assert_int_equal(dom1.tot_pages, 0);
}

static void preemption(void **state)
{
    struct xen_memory_reservation r = reservation(4, 0);
    unsigned slices = 0;
    uint64_t cmd = XENMEM_populate_physmap;
    long rc;

    preempt = true;
    while ((rc = call(cmd, &r)) == 12345) {
        cmd = continued[0];
        assert_int_equal(continued[1], (uint64_t)&r);
        assert_int_equal(cmd & MEMORY_CMD_MASK, XENMEM_populate_physmap);
        assert_int_equal(cmd >> MEMORY_CMD_BITS, ++slices);
    }
    assert_int_equal(rc, 4);
    assert_int_equal(slices, 3);
    assert_int_equal(dom0.tot_pages, 4);
    assert_int_equal(call(XENMEM_populate_physmap | 9 << MEMORY_CMD_BITS, &r),
                     9); /* said to be past the end: nothing */
    assert_int_equal(dom0.tot_pages, 4);
}

static void other_domains(void **state)
{
    struct xen_memory_reservation r = reservation(4, 0);

    r.domid = 1;
    assert_int_equal(call(XENMEM_populate_physmap, &r), 4);
    assert_int_equal(dom1.tot_pages, 4);
    r.domid = 7;
    assert_int_equal(call(XENMEM_populate_physmap, &r), -ESRCH);
    run(&vcpu1);
    r.domid = 0;
    assert_int_equal(call(XENMEM_populate_physmap, &r), -EPERM);
    r.domid = 1;
    assert_int_equal(call(XENMEM_decrease_reservation, &r), 4);
    struct xen_memory_domain d = {.domid = 0};

    assert_int_equal(call(XENMEM_current_reservation, &d), -EPERM);
    d.domid = DOMID_SELF;
    assert_int_equal(call(XENMEM_maximum_reservation, &d), 100);
    assert_int_equal(call(XENMEM_machine_memory_map, &r), -EPERM);
    assert_int_equal(call(XENMEM_machphys_mfn_list, &r), -EPERM);
}

/* What Linux does for DMA buffers: 2^order scattered frames for a low run of them, and back. */
static void exchange(void **state)
{
    struct xen_memory_reservation r = reservation(64, 0);
    static xen_pfn_t in[64], out[64];
    struct xen_memory_exchange x = {.nr_exchanged = 0};

    for (unsigned i = 0; i < 64; i++)
        list[i] = 100 + i;
    assert_int_equal(call(XENMEM_populate_physmap, &r), 64);
    memcpy(in, list, sizeof(in));
    out[0] = 500;
    out[1] = 600;
    x.in = reservation(64, 0);
    x.in.extent_start.p = in;
    x.out = reservation(2, 5);
    x.out.extent_start.p = out;
    x.out.mem_flags = XENMEMF_address_bits(22);
    dom0.max_pages = 64; /* it has all that it may have: an exchange changes nothing about that */
    preempt = true;
    assert_int_equal(call(XENMEM_exchange, &x), 12345);
    assert_int_equal(x.nr_exchanged, 32);
    assert_int_equal(call(XENMEM_exchange, &x), 0);
    assert_int_equal(x.nr_exchanged, 64);
    preempt = false;
    assert_int_equal(dom0.tot_pages, 64);
    assert_int_equal(dom0.max_pages, 64);
    for (unsigned i = 0; i < 32; i++) {
        assert_int_equal(frames[out[0] + i].m2p, 500 + i);
        assert_int_equal(frames[out[1] + i].m2p, 600 + i);
    }
    /* Back to single frames */
    struct xen_memory_exchange y = {.nr_exchanged = 0};

    in[0] = out[1];
    for (unsigned i = 0; i < 32; i++)
        out[i] = 100 + i;
    y.in = reservation(1, 5);
    y.in.extent_start.p = in;
    y.out = reservation(32, 0);
    y.out.extent_start.p = out;
    assert_int_equal(call(XENMEM_exchange, &y), 0);
    assert_int_equal(y.nr_exchanged, 1);
    assert_int_equal(dom0.tot_pages, 64);
    for (unsigned i = 0; i < 32; i++)
        assert_int_equal(frames[out[i]].m2p, 100 + i);
}

static void exchange_refused(void **state)
{
    struct xen_memory_reservation r = reservation(4, 0);
    static xen_pfn_t in[4], out[4];
    struct xen_memory_exchange good = {.nr_exchanged = 0}, x;

    assert_int_equal(call(XENMEM_populate_physmap, &r), 4);
    memcpy(in, list, sizeof(in));
    good.in = reservation(4, 0);
    good.in.extent_start.p = in;
    good.out = reservation(1, 2);
    good.out.extent_start.p = out;
    x = good;
    x.in.nr_extents = 3;
    assert_int_equal(call(XENMEM_exchange, &x), -EINVAL);
    x = good;
    x.in.nr_extents = 1UL << 62;
    x.out.nr_extents = 1UL << 60;
    assert_int_equal(call(XENMEM_exchange, &x), -EINVAL);
    x = good;
    x.out.domid = 1;
    assert_int_equal(call(XENMEM_exchange, &x), -EINVAL);
    x = good;
    x.nr_exchanged = 5;
    assert_int_equal(call(XENMEM_exchange, &x), -EINVAL);
    x.nr_exchanged = 3;
    assert_int_equal(call(XENMEM_exchange, &x), -EINVAL);
    x = good;
    x.in.extent_order = 10;
    x.out.extent_order = 12;
    assert_int_equal(call(XENMEM_exchange, &x), -EPERM);
    x = good;
    x.out.extent_start.p = (xen_pfn_t *)HOLE_START;
    assert_int_equal(call(XENMEM_exchange, &x), -EFAULT);
    x = good;
    in[3] = 4000; /* not its own: the others stay as they are */
    assert_int_equal(call(XENMEM_exchange, &x), -EINVAL);
    assert_int_equal(x.nr_exchanged, 0);
    in[3] = list[3];
    for (unsigned i = 0; i < FRAMES; i++) /* no memory */
        if (!frames[i].owner)
            frames[i].owner = &dom1;
    assert_int_equal(call(XENMEM_exchange, &x), -ENOMEM);
    assert_int_equal(dom0.tot_pages, 4);
    for (unsigned i = 0; i < FRAMES; i++)
        if (frames[i].owner == &dom1)
            frames[i].owner = NULL;
    in[3] = in[2]; /* one of them twice */
    assert_int_equal(call(XENMEM_exchange, &x), -EINVAL);
    in[3] = list[3];
    assert_true(frame_get(MFN(in[1]), &dom0)); /* one of them in use */
    assert_int_equal(call(XENMEM_exchange, &x), -EINVAL);
    assert_int_equal(dom0.tot_pages, 4);
    assert_non_null(strstr(fake_log, "unmap it before"));
    frame_put(MFN(in[1]));
    for (unsigned i = 0; i < 4; i++) /* what was refused is the domain's as before */
        assert_true(frames[in[i]].owner == &dom0 && frames[in[i]].allocated && frames[in[i]].refs == 1);
    hole = in;
    assert_int_equal(call(XENMEM_exchange, &good), -EFAULT);
    hole = NULL;
    assert_int_equal(call(XENMEM_exchange, NULL), -EFAULT);
}

static void queries(void **state)
{
    struct xen_memory_domain d = {.domid = DOMID_SELF};
    struct xen_machphys_mapping mapping;
    struct __packed {
        uint64_t start, size;
        uint32_t type;
    } e820[4] = {{0}};
    struct xen_memory_map map = {.nr_entries = 4};
    struct xen_machphys_mfn_list l = {.max_extents = 8};

    assert_int_equal(call(XENMEM_current_reservation, &d), 0);
    assert_int_equal(call(XENMEM_maximum_gpfn, &d), 0);
    shared.arch.max_pfn = 1234;
    assert_int_equal(call(XENMEM_maximum_gpfn, &d), 1233);
    assert_int_equal(call(XENMEM_maximum_ram_page, NULL), FRAMES);
    assert_int_equal(call(XENMEM_machphys_mapping, &mapping), 0);
    assert_int_equal(mapping.v_start, M2P_START);
    assert_int_equal(mapping.max_mfn, FRAMES - 1);
    boot_info.range_count = 2;
    boot_info.ranges[0] = (struct boot_range){0, 0x9fc00, BOOT_RAM};
    boot_info.ranges[1] = (struct boot_range){0x100000, 0x700000, BOOT_RESERVED};
    map.buffer.p = e820;
    assert_int_equal(call(XENMEM_machine_memory_map, &map), 0);
    assert_int_equal(map.nr_entries, 2);
    assert_int_equal(e820[1].size, 0x700000);
    assert_int_equal(e820[1].type, BOOT_RESERVED);
    assert_int_equal(sizeof(e820[0]), 20);
    map.nr_entries = 1;
    e820[1].type = 77;
    assert_int_equal(call(XENMEM_machine_memory_map, &map), 0);
    assert_int_equal(map.nr_entries, 1);
    assert_int_equal(e820[1].type, 77);
    host_l4[M2P_RW_START >> 39 & 511] = 0x1003;
    l3[0] = 0x2003;
    l2[0] = 0x40000083;
    l.extent_start.p = list;
    assert_int_equal(call(XENMEM_machphys_mfn_list, &l), 0);
    assert_int_equal(l.nr_extents, 1);
    assert_int_equal(list[0], 0x40000);
    assert_int_equal(call(XENMEM_get_vnumainfo, NULL), -EOPNOTSUPP);
    assert_int_equal(call(XENMEM_get_sharing_freed_pages, NULL), 0);
    assert_int_equal(call(63, NULL), -ENOSYS);
    assert_non_null(strstr(fake_log, "memory_op 63: not implemented"));
}

/* ---- memory_map.c ---- */

static void memory_maps(void **state)
{
    struct e820_entry set[129], got[129];
    struct xen_foreign_memory_map m = {.domid = 1};
    struct xen_memory_map g = {.nr_entries = 128};

    for (unsigned i = 0; i < 129; i++)
        set[i] = (struct e820_entry){i * 0x1000, 0x800, 1 + i % 2};
    m.map.buffer.p = set;
    g.buffer.p = got;
    run(&vcpu1);
    assert_int_equal(call(XENMEM_memory_map, &g), -ENOSYS); /* none was set */
    m.map.nr_entries = 2;
    assert_int_equal(call(XENMEM_set_memory_map, &m), -EPERM);
    m.domid = DOMID_SELF;
    assert_int_equal(call(XENMEM_set_memory_map, &m), -EPERM);
    run(&vcpu0);
    m.domid = 9;
    assert_int_equal(call(XENMEM_set_memory_map, &m), -ESRCH);
    m.domid = 1;
    m.map.nr_entries = 129;
    assert_int_equal(call(XENMEM_set_memory_map, &m), -EINVAL);
    m.map.nr_entries = ~0U;
    assert_int_equal(call(XENMEM_set_memory_map, &m), -EINVAL);
    m.map.nr_entries = 128;
    assert_int_equal(call(XENMEM_set_memory_map, NULL), -EFAULT);
    hole = &set[127];
    assert_int_equal(call(XENMEM_set_memory_map, &m), -EFAULT);
    hole = NULL;
    heap_left = 0;
    assert_int_equal(call(XENMEM_set_memory_map, &m), -ENOMEM);
    heap_left = -1;
    assert_null(dom1.memory_map);
    assert_int_equal(call(XENMEM_set_memory_map, &m), 0);
    run(&vcpu1);
    assert_int_equal(call(XENMEM_memory_map, &g), 0);
    assert_int_equal(g.nr_entries, 128);
    assert_memory_equal(got, set, 128 * sizeof(set[0]));
    /* Replaced by a shorter one */
    run(&vcpu0);
    m.map.nr_entries = 2;
    assert_int_equal(call(XENMEM_set_memory_map, &m), 0);
    assert_int_equal(call(XENMEM_memory_map, &g), -ENOSYS); /* the caller's own */
    run(&vcpu1);
    g.nr_entries = 1;
    memset(got, 0x55, sizeof(got));
    assert_int_equal(call(XENMEM_memory_map, &g), 0);
    assert_int_equal(g.nr_entries, 1);
    assert_memory_equal(got, set, sizeof(set[0]));
    assert_int_equal(got[1].type, 0x55555555);
    g.nr_entries = 128;
    assert_int_equal(call(XENMEM_memory_map, &g), 0);
    assert_int_equal(g.nr_entries, 2);
    assert_memory_equal(got, set, 2 * sizeof(set[0]));
    assert_int_equal(got[2].type, 0x55555555);
    hole = &got[1];
    assert_int_equal(call(XENMEM_memory_map, &g), -EFAULT);
    hole = NULL;
    assert_int_equal(call(XENMEM_memory_map, NULL), -EFAULT);
    /* An empty one is none. */
    run(&vcpu0);
    m.map.nr_entries = 0;
    m.map.buffer.p = set;
    assert_int_equal(call(XENMEM_set_memory_map, &m), 0);
    run(&vcpu1);
    assert_int_equal(call(XENMEM_memory_map, &g), -ENOSYS);
    /* Croft's own, for domains that it builds */
    assert_int_equal(memory_map_set(&dom1, set, 129), -EINVAL);
    heap_left = 0;
    assert_int_equal(memory_map_set(&dom1, set, 5), -ENOMEM);
    heap_left = -1;
    assert_int_equal(memory_map_set(&dom1, set, 128), 0);
    assert_int_equal(memory_map_set(&dom1, set + 1, 5), 0);
    g.nr_entries = 128;
    assert_int_equal(call(XENMEM_memory_map, &g), 0);
    assert_int_equal(g.nr_entries, 5);
    assert_memory_equal(got, set + 1, 5 * sizeof(set[0]));
    heap_free(dom1.memory_map);
    dom1.memory_map = NULL;
}

static void claims(void **state)
{
    struct xen_memory_reservation r = {.nr_extents = 50, .domid = 1};

    claim_free = 60;
    assert_int_equal(call(XENMEM_claim_pages, &r), 0);
    assert_ptr_equal(claim_domain, &dom1);
    assert_int_equal(claim_pages, 50);
    r.nr_extents = 61;
    assert_int_equal(call(XENMEM_claim_pages, &r), -ENOMEM);
    assert_non_null(strstr(fake_log, "61 pages for d1: so many are not free"));
    r.nr_extents = 0;
    assert_int_equal(call(XENMEM_claim_pages, &r), 0);
    assert_int_equal(claim_pages, 0);
    claim_domain = NULL;
    r.extent_order = 1;
    assert_int_equal(call(XENMEM_claim_pages, &r), -EINVAL);
    r.extent_order = 0;
    r.mem_flags = 1;
    assert_int_equal(call(XENMEM_claim_pages, &r), -EINVAL);
    r.mem_flags = 0;
    r.extent_start.p = list;
    assert_int_equal(call(XENMEM_claim_pages, &r), -EINVAL);
    r.extent_start.p = NULL;
    r.domid = 9;
    assert_int_equal(call(XENMEM_claim_pages, &r), -ESRCH);
    assert_int_equal(call(XENMEM_claim_pages, NULL), -EFAULT);
    run(&vcpu1);
    r.domid = DOMID_SELF;
    assert_int_equal(call(XENMEM_claim_pages, &r), -EPERM);
    assert_null(claim_domain);
}

static void resources(void **state)
{
    struct xen_mem_acquire_resource r = {.domid = 1, .type = XENMEM_resource_grant_table};

    assert_int_equal(call(XENMEM_acquire_resource, &r), 0);
    assert_int_equal(r.nr_frames, 3);
    r.id = XENMEM_resource_grant_table_id_status;
    assert_int_equal(call(XENMEM_acquire_resource, &r), 0);
    assert_int_equal(r.nr_frames, 1);
    r.frame_list.p = list;
    assert_int_equal(call(XENMEM_acquire_resource, &r), 0);
    assert_int_equal(list[0], 0x5100);
    r.id = XENMEM_resource_grant_table_id_shared;
    r.frame = 1;
    r.nr_frames = 2;
    assert_int_equal(call(XENMEM_acquire_resource, &r), 0);
    assert_true(list[0] == 0x5001 && list[1] == 0x5002);
    r.nr_frames = 3;
    assert_int_equal(call(XENMEM_acquire_resource, &r), -EINVAL);
    r.frame = ~0UL; /* wraps */
    assert_int_equal(call(XENMEM_acquire_resource, &r), -EINVAL);
    r.frame = 0;
    r.nr_frames = 1025;
    assert_int_equal(call(XENMEM_acquire_resource, &r), -E2BIG);
    r.nr_frames = 2;
    hole = &list[1];
    assert_int_equal(call(XENMEM_acquire_resource, &r), -EFAULT);
    hole = NULL;
    r.pad = 1;
    assert_int_equal(call(XENMEM_acquire_resource, &r), -EINVAL);
    r.pad = 0;
    r.id = 2;
    assert_int_equal(call(XENMEM_acquire_resource, &r), -EINVAL);
    r.id = 0;
    r.type = XENMEM_resource_ioreq_server;
    assert_int_equal(call(XENMEM_acquire_resource, &r), -EOPNOTSUPP);
    r.type = 77;
    assert_int_equal(call(XENMEM_acquire_resource, &r), -EINVAL);
    r.type = XENMEM_resource_grant_table;
    r.domid = 9;
    assert_int_equal(call(XENMEM_acquire_resource, &r), -ESRCH);
    assert_int_equal(call(XENMEM_acquire_resource, NULL), -EFAULT);
    run(&vcpu1);
    r.domid = DOMID_SELF;
    assert_int_equal(call(XENMEM_acquire_resource, &r), -EPERM);
}

/* Random calls; the frames always add up. */
static void random_calls(void **state)
{
    srand(6);
    for (unsigned round = 0; round < 20000; round++) {
        static xen_pfn_t in[16], out[16];
        struct xen_memory_reservation r = reservation(rand() % 8, rand() % 4);
        struct xen_memory_exchange x = {.nr_exchanged = 0};
        unsigned a = rand() % 3, b_ = rand() % 3;

        run(rand() % 4 ? &vcpu0 : &vcpu1);
        preempt = rand() % 2;
        for (unsigned i = 0; i < 16; i++) {
            list[i] = rand() % 8 ? (xen_pfn_t)rand() % 2048 : (xen_pfn_t)rand() << 40;
            in[i] = (xen_pfn_t)rand() % 2048 & -(1UL << a);
            out[i] = (xen_pfn_t)rand();
        }
        switch (rand() % 4) {
        case 0:
            call(XENMEM_populate_physmap, &r);
            break;
        case 1:
            call(XENMEM_decrease_reservation, &r);
            break;
        case 2:
            call(XENMEM_increase_reservation, &r);
            break;
        default:
            x.in = reservation(4, a);
            x.out = reservation(b_ > a ? 4 >> (b_ - a) : 4 << (a - b_), b_);
            x.in.extent_start.p = in;
            x.out.extent_start.p = out;
            call(XENMEM_exchange, &x);
        }
        settled(NULL);
        if (round % 64 == 0)
            fake_log_clear();
    }
    assert_true(dom0.max_pages == 2000 && dom1.max_pages == 100);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, reset, settled)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(populate_and_decrease), TEST(limits_and_faults), TEST(lost_meanwhile),   TEST(preemption),
        TEST(other_domains),         TEST(exchange),          TEST(exchange_refused), TEST(queries),
        TEST(random_calls),          TEST(memory_maps),       TEST(claims),           TEST(resources),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
