/* sources: hypervisor/hypercall/domctl.c hypervisor/hypercall/domctl_vcpu.c hypervisor/hypercall/domctl_state.c hypervisor/hypercall/domctl_hvm.c hypervisor/pv/context.c */
/*
 * domctl: which call reaches what, what comes back to the caller, and the state of vcpus in and out. The domains are structures
 * only; what the handlers call is noted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fake_boot.h"

#include "cpu/fpu.h"
#include "domain/domain_info.h"
#include "domain/guest_access.h"
#include "hvm/context.h"
#include "hvm/hvm.h"
#include "hypercall/dispatch.h"
#include "hypercall/domctl.h"
#include "hypercall/pv_state.h"
#include "memory/alloc.h"
#include "pv/context.h"
#include "pv/cpu_policy.h"
#include "pv/descriptor.h"
#include "pv/mmu.h"
#include "pv/mmu_types.h"
#include "pv/mode.h"
#include "pv/traps.h"
#include "sched/bvt.h"
#include "sched/pool.h"
#include "sched/time.h"

static struct domain doms[3]; /* by id: domain 0, one that runs, one that is created */
static struct vcpu vcpus[3];
static bool there[3];
static struct percpu cpu;
struct domain *domain0 = &doms[0];
cpumask_t cpu_online = {{3}};
struct time_scale time_scale = {.tsc_khz = 2000000};
static const void *hole, *read_only; /* guest addresses that fault; that cannot be written */

struct percpu *this_cpu(void) { return &cpu; }
static bool touches(const void *bad, const void *p, size_t n)
{
    return bad && (const char *)p <= (const char *)bad && (const char *)bad < (const char *)p + n;
}
size_t copy_from_guest(void *to, const void *guest, size_t n)
{
    if ((!guest && n) || touches(hole, guest, n))
        return n;
    if (n)
        memcpy(to, guest, n);
    return 0;
}
size_t copy_to_guest(void *guest, const void *from, size_t n)
{
    if ((!guest && n) || touches(hole, guest, n) || touches(read_only, guest, n))
        return n;
    if (n)
        memcpy(guest, from, n);
    return 0;
}
#define CONTINUED 4711
static uint64_t continued;
long hypercall_continue(uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
    continued = a1;
    return CONTINUED;
}
static int heap_left = -1;
void *heap_alloc(size_t size) { return heap_left && (heap_left < 0 || heap_left--) ? calloc(1, size) : NULL; }
void heap_free(void *p) { free(p); }

/* ---- Domains ---- */

struct domain *domain_get_by_id(domid_t id)
{
    struct domain *d = id == DOMID_SELF ? current->domain : id < 3 && there[id] ? &doms[id] : NULL;

    if (d)
        d->refs++;
    return d;
}
struct domain *domain_get_from_id(domid_t id)
{
    for (; id < 3; id++)
        if (there[id])
            return domain_get_by_id(id);
    return NULL;
}
bool domain_get(struct domain *d) { return d->refs++, true; }
void domain_put(struct domain *d) { d->refs--; }
bool domain_id_in_use(domid_t id) { return id < 3 && there[id]; }
static bool no_memory;
static unsigned created_id;
domid_t domain_new_id(void)
{
    for (domid_t id = 1; id < 3; id++)
        if (!there[id])
            return id;
    return 0;
}
struct domain *domain_create(domid_t id, unsigned max_vcpus, uint64_t max_pages, unsigned flags)
{
    created_id = id;
    assert_int_equal(flags, 0);
    if (no_memory || id > 2 || there[id])
        return NULL;
    doms[id] = (struct domain){.id = id, .refs = 1, .vcpu_count = max_vcpus, .node = NODE_ANY};
    there[id] = true;
    return &doms[id];
}
static int destroy_steps, destroyed;
int domain_destroy(struct domain *d)
{
    assert_true(d->refs > 0);
    if (destroy_steps-- > 0)
        return -ERESTART;
    destroyed++;
    there[d->id] = false;
    return 0;
}
static int grant_result;
int grant_init_domain(struct domain *d, uint32_t max_frames, uint32_t max_maptrack_frames, unsigned max_version)
{
    return grant_result;
}
void domain_pause(struct domain *d)
{
    assert_ptr_not_equal(d, current->domain);
    d->pause_count++;
}
void domain_pause_nosync(struct domain *d) { d->pause_count++; }
void domain_unpause(struct domain *d) { assert_true(d->pause_count-- > 0); }
void vcpu_pause(struct vcpu *v) { v->pause_count++; }
void vcpu_unpause(struct vcpu *v) { assert_true(v->pause_count-- > 0); }
static unsigned resumed;
void domain_resume(struct domain *d) { resumed++; }
void domain_info(struct domain *d, struct xen_domctl_getdomaininfo *info)
{
    memset(info, 0, sizeof(*info));
    info->domain = d->id;
    info->tot_pages = 1234;
}
static uint32_t event_limit;
void event_set_limit(struct domain *d, uint32_t limit) { event_limit = limit; }
struct vcpu *vcpu_create(struct domain *d, unsigned id, unsigned on)
{
    struct vcpu *v;

    if (no_memory)
        return NULL;
    v = d->vcpus[id] = calloc(1, sizeof(*v));
    v->processor = on;
    return v;
}
static int64_t offset_shown; /* of the wall clock, when it was written last */
void time_update_wallclock(struct domain *d) { offset_shown = d->time_offset_seconds; }
void time_update_vcpu(struct vcpu *v) {}
ns_t now(void) { return 777; }
int vcpu_set_weight(struct vcpu *v, uint32_t weight)
{
    v->sched.weight = weight;
    return 0;
}
int vcpu_set_affinity(struct vcpu *v, const cpumask_t *mask)
{
    if (!(mask->bits[0] & cpu_online.bits[0]))
        return -EINVAL;
    v->sched.hard_affinity = *mask;
    v->sched.allowed.bits[0] = mask->bits[0] & cpu_online.bits[0];
    return 0;
}
void vcpu_set_soft_affinity(struct vcpu *v, const cpumask_t *mask) { v->sched.soft_affinity = *mask; }
/* There is a pool 3 with CPU 1, and a pool 4 without any. */
int pool_join(struct domain *d, uint32_t id)
{
    if (id == 0 || id == 3)
        d->pool = id;
    return id == 0 || id == 3 ? 0 : id == 4 ? -EINVAL : -ESRCH;
}
cpumask_t pool_cpus(const struct domain *d) { return (cpumask_t){{d->pool == 3 ? 2 : 3}}; }
void vcpu_get_runstate(struct vcpu *v, struct vcpu_runstate_info *r)
{
    memset(r, 0, sizeof(*r));
    r->time[RUNSTATE_running] = 99;
}
int domctl_get_cpu_policy(struct domain *d, struct xen_domctl_cpu_policy *op) { return 0; }
int domctl_set_cpu_policy(struct domain *d, struct xen_domctl_cpu_policy *op)
{
    op->err_leaf = 0x1234;
    return -EINVAL;
}
void pv_write_hypercall_page(void *page) { memset(page, 0xc3, PAGE_SIZE); }

/* ---- Frames: d1's frame 5 is plain, 6 a pinned L2, 7 an L4 ---- */

static struct frame frames[16];
static uint8_t page[PAGE_SIZE];
struct frame *frame_of(mfn_t m) { return &frames[m.n]; }
bool mfn_valid(mfn_t m) { return m.n < 16; }
void *mfn_to_virt(mfn_t m) { return page; }
bool frame_get(mfn_t m, const struct domain *d)
{
    if (d->id != 1 || m.n < 5 || m.n > 7)
        return false;
    frames[m.n].control++;
    return true;
}
void frame_put(mfn_t m) { frames[m.n].control--; }
bool frame_get_writable(mfn_t m, const struct domain *d) { return m.n == 5 && frame_get(m, d); }
void frame_put_writable(mfn_t m) { frame_put(m); }

/* ---- Contexts ---- */

static int roots_result, gdt_result, release_rounds;
int mmu_set_roots(struct vcpu *v, mfn_t kernel, mfn_t user)
{
    if (roots_result)
        return roots_result;
    v->pv.kernel_root = kernel;
    v->pv.user_root = user;
    return 0;
}
bool mmu_release_vcpu(struct vcpu *v)
{
    v->pv.kernel_root = v->pv.user_root = MFN(0);
    return release_rounds-- <= 0;
}
int descriptor_set_gdt(struct vcpu *v, const uint64_t *list, unsigned entries)
{
    if (gdt_result)
        return gdt_result;
    v->pv.gdt_entries = entries;
    for (unsigned i = 0; i < DIV_ROUND_UP(entries, 512); i++)
        v->pv.gdt_frames[i] = MFN(list[i]);
    return 0;
}
int descriptor_set_ldt(struct vcpu *v, unsigned long base, unsigned entries)
{
    v->pv.ldt_base = base;
    v->pv.ldt_entries = entries;
    return 0;
}
int pv_set_debugreg(struct vcpu *v, unsigned reg, uint64_t value)
{
    v->pv.dr[reg] = value;
    return 0;
}
static uint8_t fpu_image[512];
void fpu_set_context(struct vcpu *v, const void *image)
{
    if (image)
        memcpy(fpu_image, image, 512);
    else
        memset(fpu_image, 0, 512);
}
void fpu_get_context(const struct vcpu *v, void *image) { memcpy(image, fpu_image, 512); }
#define AREA 832
static uint64_t xcr0_max = 7, xcr0_set;
static uint8_t area[AREA];
uint64_t fpu_xcr0_max(void) { return xcr0_max; }
uint64_t fpu_get_xcr0(const struct vcpu *v) { return 3; }
unsigned fpu_state_size(void) { return AREA; }
void fpu_get_state(const struct vcpu *v, void *to) { memcpy(to, area, AREA); }
bool fpu_set_state(struct vcpu *v, uint64_t xcr0, const void *from, size_t size)
{
    if (xcr0 & ~xcr0_max || size > AREA)
        return false;
    xcr0_set = xcr0;
    memcpy(area, from, size);
    return true;
}

/* ---- PVH: its number 10 is d1's frame 5, 11 a frame of Croft's, 12 is on demand ---- */

static const char *missing;
static int hvm_result, load_result;
static struct hvm_domain hvm;
static struct hvm_vcpu hvm_vcpu;
static const uint8_t stream[24] = "the state of all vcpus";
static uint8_t loaded[48];
const char *hvm_missing(void) { return missing; }
int hvm_init_domain(struct domain *d)
{
    hvm = (struct hvm_domain){.callback_vector = 0};
    d->hvm = hvm_result ? NULL : &hvm;
    return hvm_result;
}
mfn_t p2m_hold(const struct domain *d, gfn_t gfn)
{
    mfn_t m = gfn.n == 10 ? MFN(5) : gfn.n == 11 ? MFN(6) : INVALID_MFN;

    return frame_get(m, d) ? m : INVALID_MFN;
}
enum p2m_kind p2m_kind(const struct domain *d, gfn_t gfn) { return gfn.n == 12 ? P2M_ON_DEMAND : P2M_HOLE; }
static uint64_t on_demand, cached;
struct pod_numbers pod_numbers(struct domain *d) { return (struct pod_numbers){cached, cached, on_demand}; }
size_t hvm_context_size(const struct domain *d) { return 32; }
size_t hvm_context_save(const struct domain *d, uint8_t *to)
{
    assert_true(d->pause_count > 0);
    memcpy(to, stream, sizeof(stream));
    return sizeof(stream);
}
long hvm_context_save_one(const struct domain *d, unsigned type, unsigned instance, uint8_t *to, size_t room)
{
    assert_true(d->pause_count > 0);
    if (type != 2 || instance)
        return type == 2 ? -ENOENT : -EINVAL;
    if (to)
        memset(to, 0x22, 16);
    return 16;
}
int hvm_context_load(struct domain *d, const uint8_t *from, size_t size)
{
    assert_true(d->pause_count > 0);
    memcpy(loaded, from, size);
    return load_result;
}
void hvm_get_registers(const struct vcpu *v, struct vcpu_guest_context *c) { c->user_regs.rip = v->regs.rip; }
int hvm_set_registers(struct vcpu *v, const struct vcpu_guest_context *c) { return v->regs.rax = c->user_regs.rax, 0; }

static int reset(void **state)
{
    memset(doms, 0, sizeof(doms));
    memset(vcpus, 0, sizeof(vcpus));
    memset(frames, 0, sizeof(frames));
    for (unsigned i = 0; i < 2; i++) {
        doms[i] = (struct domain){.id = (domid_t)i, .vcpu_count = 2, .node = NODE_ANY, .weight = 256};
        doms[i].vcpus[0] = &vcpus[i];
        vcpus[i].domain = &doms[i];
        there[i] = true;
    }
    doms[0].is_hardware = doms[0].is_privileged = true;
    frames[6].type = TYPE_MAKE(FRAME_L2) | TYPE_VALIDATED | TYPE_PINNED | 1;
    frames[7].type = TYPE_MAKE(FRAME_L4) | TYPE_VALIDATED | 1;
    there[2] = no_memory = false;
    missing = NULL;
    hvm_result = load_result = 0;
    cpu.current_vcpu = &vcpus[0];
    hole = read_only = NULL;
    heap_left = -1;
    destroy_steps = destroyed = roots_result = gdt_result = release_rounds = grant_result = 0;
    fake_log_clear();
    return 0;
}
static int settled(void **state)
{
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(doms[i].refs, 0);
        assert_false(spin_is_locked(&doms[i].lock) || spin_is_locked(&doms[i].page_list_lock));
        assert_int_equal(vcpus[i].pause_count, 0);
    }
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(frames[i].control, 0);
    for (unsigned i = 0; i < MAX_VCPUS; i++)
        free(doms[2].vcpus[i]);
    return 0;
}

static struct xen_domctl op;
static long call(unsigned cmd, unsigned id)
{
    op.cmd = cmd;
    op.interface_version = XEN_DOMCTL_INTERFACE_VERSION;
    op.domain = (domid_t)id;
    return hypercall_domctl((uint64_t)&op, 0, 0, 0, 0);
}
#define CALL(name, id) call(XEN_DOMCTL_##name, id)
#define FRESH() memset(&op, 0, sizeof(op))

static void decoding(void **state)
{
    FRESH();
    assert_int_equal(hypercall_domctl(0, 0, 0, 0, 0), -EFAULT);
    op.interface_version = XEN_DOMCTL_INTERFACE_VERSION - 1;
    op.cmd = XEN_DOMCTL_getdomaininfo;
    assert_int_equal(hypercall_domctl((uint64_t)&op, 0, 0, 0, 0), -EACCES);
    for (unsigned cmd = 0; cmd < 2000; cmd += cmd < 100 ? 1 : 50) /* numbers that nobody has */
        if (cmd == 0 || cmd == 6 || cmd == 7 || (cmd >= 30 && cmd <= 32) || cmd > 86)
            assert_int_equal(call(cmd, 1), -ENOSYS);
    assert_int_equal(call(~0U, 1), -ENOSYS);
    assert_int_equal(call(1U << 31, 1), -ENOSYS);
    for (unsigned cmd = 2; cmd < 100; cmd++) { /* a domain that is not there */
        long rc = call(cmd, 2);

        assert_true(rc == -ESRCH || rc == -ENOSYS);
        rc = call(cmd, 0x7ff4);
        assert_true(rc == -ESRCH || rc == -ENOSYS);
    }
}

static void what_comes_back(void **state)
{
    FRESH();
    assert_int_equal(CALL(getdomaininfo, 1), 0);
    assert_int_equal(op.u.getdomaininfo.tot_pages, 1234);
    there[1] = false;
    there[2] = true;
    doms[2].id = 2;
    assert_int_equal(CALL(getdomaininfo, 1), 0); /* the next */
    assert_int_equal(op.domain, 2);
    doms[2].refs = 0;
    there[1] = true;
    read_only = &op;
    assert_int_equal(CALL(getdomaininfo, 1), -EFAULT);
    assert_int_equal(CALL(pausedomain, 1), 0); /* nothing to bring back */
    assert_int_equal(CALL(unpausedomain, 1), 0);
    read_only = NULL;
    assert_int_equal(CALL(set_cpu_policy, 1), -EINVAL); /* the place of the error does */
    assert_int_equal(op.u.cpu_policy.err_leaf, 0x1234);
    FRESH();
    assert_int_equal(CALL(get_address_size, 1), 0);
    assert_int_equal(op.u.address_size.size, 64);
    assert_int_equal(CALL(set_address_size, 1), 0);
    op.u.address_size.size = 32;
    assert_int_equal(CALL(set_address_size, 1), -EINVAL);
    assert_int_equal(CALL(gettscinfo, 1), 0);
    assert_int_equal(op.u.tsc_info.gtsc_khz, 2000000);
    assert_int_equal(CALL(get_paging_mempool_size, 1), -EOPNOTSUPP);
    assert_int_equal(CALL(shadow_op, 1), -EINVAL);
}

static struct xen_domctl_createdomain new_domain(void)
{
    return (struct xen_domctl_createdomain){.max_vcpus = 3,
                                            .max_evtchn_port = 1023,
                                            .max_grant_frames = -1,
                                            .max_maptrack_frames = -1,
                                            .grant_opts = XEN_DOMCTL_GRANT_version(2)};
}

static void creation(void **state)
{
    FRESH();
    op.u.createdomain = new_domain();
    op.u.createdomain.handle[3] = 0x33;
    assert_int_equal(CALL(createdomain, 2), 0);
    assert_int_equal(op.domain, 2);
    assert_true(doms[2].paused_by_tools && doms[2].pause_count == 1 && doms[2].handle[3] == 0x33);
    assert_int_equal(doms[2].vcpu_count, 3);
    assert_int_equal(event_limit, 1024);
    assert_int_equal(CALL(createdomain, 2), -EEXIST);
    assert_int_equal(CALL(createdomain, 1), -EEXIST);
    op.u.max_vcpus.max = 2;
    assert_int_equal(CALL(max_vcpus, 2), -EINVAL);
    op.u.max_vcpus.max = 3;
    assert_int_equal(CALL(max_vcpus, 2), 0);
    assert_int_equal(CALL(max_vcpus, 2), 0); /* they are there */
    assert_true(doms[2].vcpus[0]->processor == 0 && doms[2].vcpus[1]->processor == 1 &&
                doms[2].vcpus[2]->processor == 0);
    FRESH();
    op.u.max_mem.max_memkb = 4097;
    assert_int_equal(CALL(max_mem, 2), 0);
    assert_int_equal(doms[2].max_pages, 1024);
    op.u.max_mem.max_memkb = ~0UL;
    assert_int_equal(CALL(max_mem, 2), 0);
    assert_int_equal(doms[2].max_pages, UINT32_MAX);
    /* A pause by tools counts once. */
    assert_int_equal(CALL(pausedomain, 2), 0);
    assert_int_equal(doms[2].pause_count, 1);
    assert_int_equal(CALL(unpausedomain, 2), 0);
    assert_int_equal(CALL(unpausedomain, 2), 0);
    assert_int_equal(doms[2].pause_count, 0);
    assert_true(doms[2].started);
    doms[2].dying = true;
    assert_int_equal(CALL(unpausedomain, 2), -EINVAL);
    doms[2].vcpus[2] = (free(doms[2].vcpus[2]), NULL);
    op.u.max_vcpus.max = 3;
    assert_int_equal(CALL(max_vcpus, 2), -EINVAL);
    /* Its end, in pieces */
    destroy_steps = 1;
    assert_int_equal(CALL(destroydomain, 2), CONTINUED);
    assert_int_equal(continued, (uint64_t)&op);
    assert_int_equal(CALL(destroydomain, 2), 0);
    assert_int_equal(CALL(destroydomain, 2), -ESRCH);
    assert_int_equal(CALL(destroydomain, 0), -EINVAL);
    assert_int_equal(CALL(destroydomain, DOMID_SELF), -EINVAL);
    assert_int_equal(CALL(pausedomain, 0), -EINVAL);
    assert_int_equal(CALL(resumedomain, 0), -EINVAL);
}

/* In another pool: its vcpus begin there. */
static void creation_in_pool(void **state)
{
    FRESH();
    op.u.createdomain = new_domain();
    op.u.createdomain.cpupool_id = 3;
    assert_int_equal(CALL(createdomain, 2), 0);
    assert_int_equal(doms[2].pool, 3);
    FRESH();
    op.u.max_vcpus.max = 3;
    assert_int_equal(CALL(max_vcpus, 2), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(doms[2].vcpus[i]->processor, 1);
    assert_int_equal(CALL(destroydomain, 2), 0);
}

static void creation_refused(void **state)
{
#define REFUSED(field, value, error)                                                                                   \
    do {                                                                                                               \
        FRESH();                                                                                                       \
        op.u.createdomain = new_domain();                                                                              \
        op.u.createdomain.field = value;                                                                               \
        assert_int_equal(CALL(createdomain, 2), error);                                                                \
        assert_false(there[2]);                                                                                        \
    } while (0)
    REFUSED(flags, XEN_DOMCTL_CDF_hvm, -EINVAL);
    REFUSED(flags, XEN_DOMCTL_CDF_hap, -EINVAL);
    REFUSED(flags, XEN_DOMCTL_CDF_nested_virt, -EINVAL);
    REFUSED(flags, XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap, -EINVAL); /* without a local APIC */
    REFUSED(flags, XEN_DOMCTL_CDF_iommu, -EINVAL);
    REFUSED(flags, 1U << 31, -EINVAL);
    REFUSED(iommu_opts, 1, -EINVAL);
    REFUSED(vmtrace_size, 4096, -EINVAL);
    REFUSED(arch.emulation_flags, 1, -EINVAL);
    REFUSED(grant_opts, XEN_DOMCTL_GRANT_version(3), -EINVAL);
    destroyed = 0;
    REFUSED(cpupool_id, 1, -ESRCH);
    REFUSED(cpupool_id, 4, -EINVAL);
    assert_int_equal(destroyed, 2);
    destroyed = 0;
    REFUSED(max_vcpus, 0, -ERANGE);
    REFUSED(max_vcpus, MAX_VCPUS + 1, -ERANGE);
    no_memory = true;
    REFUSED(max_vcpus, 1, -ENOMEM);
    FRESH();
    op.u.createdomain = new_domain();
    assert_int_equal(CALL(createdomain, 0), -ENOMEM); /* any number */
    no_memory = false;
    grant_result = -ENOMEM;
    destroy_steps = 2;
    REFUSED(max_vcpus, 1, -ENOMEM);
    assert_int_equal(destroyed, 1);
}

static struct xen_domctl_createdomain new_pvh(void)
{
    struct xen_domctl_createdomain c = new_domain();

    c.flags = XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap;
    c.arch.emulation_flags = XEN_X86_EMU_LAPIC;
    return c;
}

static void creation_of_pvh(void **state)
{
    FRESH();
    op.u.createdomain = new_pvh();
    missing = "no reason";
    assert_int_equal(CALL(createdomain, 2), -EOPNOTSUPP);
    missing = NULL;
    op.u.createdomain.flags &= ~XEN_DOMCTL_CDF_hap;
    assert_int_equal(CALL(createdomain, 2), -EINVAL);
    op.u.createdomain = new_pvh();
    op.u.createdomain.arch.emulation_flags |= XEN_X86_EMU_IOAPIC;
    assert_int_equal(CALL(createdomain, 2), -EINVAL);
    op.u.createdomain = new_pvh();
    op.u.createdomain.flags |= XEN_DOMCTL_CDF_nested_virt;
    assert_int_equal(CALL(createdomain, 2), -EINVAL);
    assert_int_equal(destroyed, 0);
    op.u.createdomain = new_pvh();
    hvm_result = -ENOMEM;
    assert_int_equal(CALL(createdomain, 2), -ENOMEM);
    assert_int_equal(destroyed, 1);
    assert_false(there[2]);
    hvm_result = 0;
    op.u.createdomain = new_pvh();
    op.u.createdomain.flags |= XEN_DOMCTL_CDF_oos_off;
    assert_int_equal(CALL(createdomain, 2), 0);
    assert_ptr_equal(doms[2].hvm, &hvm);
    assert_int_equal(CALL(destroydomain, 2), 0);
}

/* What only such domains have, and what they have not. */
static void pvh_domains(void **state)
{
    uint8_t buffer[48] = {0};
    uint64_t list[4] = {10, 11, 12, 5};
    struct vcpu_guest_context c = {.flags = 0};

    FRESH();
    assert_int_equal(CALL(gethvmcontext, 1), -EOPNOTSUPP); /* PV */
    assert_int_equal(CALL(sethvmcontext, 1), -EOPNOTSUPP);
    assert_int_equal(CALL(set_paging_mempool_size, 1), -EOPNOTSUPP);
    doms[1].hvm = &hvm;
    vcpus[1].hvm = &hvm_vcpu;
    assert_int_equal(CALL(get_vcpu_msrs, 1), -EOPNOTSUPP);
    assert_int_equal(CALL(set_address_size, 1), -EOPNOTSUPP);
    op.u.paging_mempool.size = 3 << 20;
    assert_int_equal(CALL(set_paging_mempool_size, 1), 0);
    op.u.paging_mempool.size = 5;
    assert_int_equal(CALL(set_paging_mempool_size, 1), -EINVAL);
    assert_int_equal(CALL(get_paging_mempool_size, 1), 0);
    assert_int_equal(op.u.paging_mempool.size, 3 << 20);
    FRESH();
    assert_int_equal(CALL(shadow_op, 1), 0); /* off */
    op.u.shadow_op.op = XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION;
    assert_int_equal(CALL(shadow_op, 1), 0);
    assert_int_equal(op.u.shadow_op.mb, 3);
    op.u.shadow_op.op = XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY;
    assert_int_equal(CALL(shadow_op, 1), -EOPNOTSUPP);
    FRESH();
    assert_int_equal(CALL(gethvmcontext, 1), 0);
    assert_int_equal(op.u.hvmcontext.size, 32);
    set_xen_guest_handle(op.u.hvmcontext.buffer, buffer);
    op.u.hvmcontext.size = sizeof(stream) - 1;
    assert_int_equal(CALL(gethvmcontext, 1), -ENOSPC);
    op.u.hvmcontext.size = sizeof(buffer);
    assert_int_equal(CALL(gethvmcontext, 1), 0);
    assert_int_equal(op.u.hvmcontext.size, sizeof(stream));
    assert_memory_equal(buffer, stream, sizeof(stream));
    assert_int_equal(CALL(sethvmcontext, 1), 0);
    assert_memory_equal(loaded, stream, sizeof(stream));
    load_result = -EINVAL;
    assert_int_equal(CALL(sethvmcontext, 1), -EINVAL);
    op.u.hvmcontext.size = 65;
    assert_int_equal(CALL(sethvmcontext, 1), -EINVAL);
    op.u.hvmcontext.size = 0;
    assert_int_equal(CALL(sethvmcontext, 1), -EINVAL);
    op.u.hvmcontext.size = 32;
    hole = buffer;
    assert_int_equal(CALL(sethvmcontext, 1), -EFAULT);
    assert_int_equal(CALL(gethvmcontext, 1), -EFAULT);
    hole = NULL;
    heap_left = 0;
    op.u.hvmcontext.size = 32;
    assert_int_equal(CALL(gethvmcontext, 1), -ENOMEM);
    assert_int_equal(CALL(sethvmcontext, 1), -ENOMEM);
    heap_left = -1;
    FRESH();
    op.u.hvmcontext_partial.type = 2;
    assert_int_equal(CALL(gethvmcontext_partial, 1), 0);
    assert_int_equal(op.u.hvmcontext_partial.bufsz, 16);
    set_xen_guest_handle(op.u.hvmcontext_partial.buffer, buffer);
    assert_int_equal(CALL(gethvmcontext_partial, 1), 0);
    assert_int_equal(buffer[15], 0x22);
    op.u.hvmcontext_partial.bufsz = 15;
    assert_int_equal(CALL(gethvmcontext_partial, 1), -ENOSPC);
    op.u.hvmcontext_partial.instance = 1;
    assert_int_equal(CALL(gethvmcontext_partial, 1), -ENOENT);
    op.u.hvmcontext_partial.type = 99;
    assert_int_equal(CALL(gethvmcontext_partial, 1), -EINVAL);
    FRESH();
    frames[6].control = FRAME_SHARED;
    op.u.getpageframeinfo3.num = 4;
    set_xen_guest_handle(op.u.getpageframeinfo3.array, list);
    assert_int_equal(CALL(getpageframeinfo3, 1), 0);
    assert_int_equal(list[0], XEN_DOMCTL_PFINFO_NOTAB);
    assert_int_equal(list[1], XEN_DOMCTL_PFINFO_XTAB);
    assert_int_equal(list[2], XEN_DOMCTL_PFINFO_XALLOC);
    assert_int_equal(list[3], XEN_DOMCTL_PFINFO_XTAB);
    on_demand = cached = 5; /* enough pages for all that is on demand; one too few */
    assert_int_equal(CALL(getpageframeinfo3, 1), 0);
    on_demand++;
    assert_int_equal(CALL(getpageframeinfo3, 1), -EBUSY);
    on_demand = cached = 0;
    frames[6].control = 0;
    FRESH();
    vcpus[1].initialised = true;
    vcpus[1].regs.rip = 0x1234;
    set_xen_guest_handle(op.u.vcpucontext.ctxt, &c);
    assert_int_equal(CALL(getvcpucontext, 1), 0);
    assert_int_equal(c.user_regs.rip, 0x1234);
    c.user_regs.rax = 1; /* as resume does it */
    assert_int_equal(CALL(setvcpucontext, 1), 0);
    assert_int_equal(vcpus[1].regs.rax, 1);
    assert_false(vcpus[1].down);
}

static void pages(void **state)
{
    xen_pfn_t list[5] = {5, 6, 7, 8, ~0UL};

    FRESH();
    op.u.getpageframeinfo3.num = 5;
    op.u.getpageframeinfo3.array.p = list;
    assert_int_equal(CALL(getpageframeinfo3, 1), 0);
    assert_int_equal(list[0], XEN_DOMCTL_PFINFO_NOTAB);
    assert_int_equal(list[1], XEN_DOMCTL_PFINFO_L2TAB | XEN_DOMCTL_PFINFO_LPINTAB);
    assert_int_equal(list[2], XEN_DOMCTL_PFINFO_L4TAB);
    assert_int_equal(list[3], XEN_DOMCTL_PFINFO_XTAB);
    assert_int_equal(list[4], XEN_DOMCTL_PFINFO_XTAB);
    hole = &list[1];
    assert_int_equal(CALL(getpageframeinfo3, 1), -EFAULT);
    hole = NULL;
    op.u.getpageframeinfo3.num = 1025;
    assert_int_equal(CALL(getpageframeinfo3, 1), -E2BIG);
    op.u.getpageframeinfo3.num = 1;
    assert_int_equal(CALL(getpageframeinfo3, 0), -EINVAL);
    FRESH();
    op.u.hypercall_init.gmfn = 5;
    assert_int_equal(CALL(hypercall_init, 1), 0);
    assert_int_equal(page[4095], 0xc3);
    op.u.hypercall_init.gmfn = 6;
    assert_int_equal(CALL(hypercall_init, 1), -EACCES);
}

static void contexts(void **state)
{
    static struct vcpu_guest_context in_any, out_any;
    struct vcpu_guest_context *in = &in_any, *out = &out_any;
    struct vcpu *v = &vcpus[1];

    FRESH();
    memset(&in_any, 0, sizeof(in_any));
    op.u.vcpucontext.ctxt.p = &out_any;
    assert_int_equal(CALL(getvcpucontext, 1), -ENODATA);
    op.u.vcpucontext.vcpu = 1;
    assert_int_equal(CALL(getvcpucontext, 1), -ESRCH);
    op.u.vcpucontext.ctxt.p = &in_any;
    assert_int_equal(CALL(setvcpucontext, 1), -ENOENT);
    op.u.vcpucontext.vcpu = ~0U;
    assert_int_equal(CALL(setvcpucontext, 1), -ENOENT);
    op.u.vcpucontext.vcpu = 0;
    assert_int_equal(CALL(setvcpucontext, 0), -EINVAL);
    assert_int_equal(CALL(getvcpucontext, 0), -EINVAL);
    op.u.vcpucontext.ctxt.p = NULL;
    assert_int_equal(CALL(setvcpucontext, 1), -EOPNOTSUPP);
    op.u.vcpucontext.ctxt.p = &in_any;

    in->flags = VGCF_in_kernel | VGCF_online | VGCF_i387_valid | VGCF_syscall_disables_events;
    in->user_regs.rip = 0xffffffff81000000;
    in->user_regs.rflags = 0x3202;
    in->user_regs.rax = 42;
    in->ctrlreg[3] = 7 << PAGE_SHIFT;
    in->ctrlreg[1] = 6 << PAGE_SHIFT;
    in->gdt_ents = 600;
    in->gdt_frames[0] = 11;
    in->gdt_frames[1] = 12;
    in->trap_ctxt[14].address = 0xffffffff81001000;
    in->event_callback_eip = 0xffffffff81002000;
    in->gs_base_kernel = 0xffff888000000000;
    in->fpu_ctxt.x[100] = 9;
    in->vm_assist = ~0UL;
    in->debugreg[7] = 0x455;
#define BAD(field, value, error)                                                                                       \
    do {                                                                                                               \
        __typeof__(in->field) good_ = in->field;                                                                       \
        in->field = value;                                                                                             \
        assert_int_equal(CALL(setvcpucontext, 1), error);                                                              \
        assert_false(v->initialised);                                                                                  \
        in->field = good_;                                                                                             \
    } while (0)
    BAD(user_regs.rip, 1UL << 60, -EINVAL);
    BAD(event_callback_eip, HOLE_START, -EINVAL);
    BAD(failsafe_callback_eip, HOLE_END - 1, -EINVAL);
    BAD(syscall_callback_eip, 1UL << 47, -EINVAL);
    BAD(fs_base, 1UL << 47, -EINVAL);
    BAD(gs_base_kernel, 1UL << 63, -EINVAL);
    BAD(gs_base_user, 1UL << 47, -EINVAL);
    BAD(trap_ctxt[255].address, HOLE_START + 5, -EINVAL);
    BAD(gdt_ents, FIRST_RESERVED_GDT_ENTRY + 1, -EINVAL);
    BAD(gdt_ents, ~0UL, -EINVAL);
    BAD(ldt_ents, 0x10000, -EINVAL);
    roots_result = -EINVAL;
    BAD(ctrlreg[3], 1 << PAGE_SHIFT, -EINVAL);
    roots_result = 0;
    gdt_result = -EINVAL;
    release_rounds = 3;
    BAD(gdt_frames[0], 3, -EINVAL);
    assert_int_equal(v->pv.kernel_root.n, 0);
    gdt_result = 0;
    doms[1].dying = true;
    BAD(kernel_sp, 0, -EINVAL);
    doms[1].dying = false;
    hole = &in->debugreg[7];
    BAD(kernel_sp, 0, -EFAULT);
    hole = NULL;
    heap_left = 0;
    BAD(kernel_sp, 0, -ENOMEM);
    heap_left = -1;
    assert_int_equal(doms[1].pause_count, 0);

    v->down = true;
    assert_int_equal(CALL(setvcpucontext, 1), 0);
    assert_true(v->initialised && !v->down);
    assert_int_equal(v->pv.iopl, 3);
    assert_false(v->regs.rflags & 0x3000);
    op.u.vcpucontext.ctxt.p = &out_any;
    assert_int_equal(CALL(getvcpucontext, 1), 0);
    assert_int_equal(out->flags, in->flags);
    assert_true(out->user_regs.rip == in->user_regs.rip && out->user_regs.rax == 42 && out->user_regs.rflags == 0x3202);
    assert_true(out->ctrlreg[3] == in->ctrlreg[3] && out->ctrlreg[1] == in->ctrlreg[1]);
    assert_true(out->gdt_ents == 600 && out->gdt_frames[1] == 12 && out->gdt_frames[2] == 0);
    assert_true(out->trap_ctxt[14].address == in->trap_ctxt[14].address &&
                out->event_callback_eip == in->event_callback_eip);
    assert_true(out->gs_base_kernel == in->gs_base_kernel && out->fpu_ctxt.x[100] == 9 && out->debugreg[7] == 0x455);
    assert_int_equal(out->vm_assist, VM_ASSIST_KNOWN);
    /* What comes out may go in again; other tables may not. */
    op.u.vcpucontext.ctxt.p = &out_any;
    out->user_regs.rax = 43;
    assert_int_equal(CALL(setvcpucontext, 1), 0);
    assert_int_equal(v->regs.rax, 43);
    out->ctrlreg[3] = 9 << PAGE_SHIFT;
    assert_int_equal(CALL(setvcpucontext, 1), -EOPNOTSUPP);
    out->ctrlreg[3] = in->ctrlreg[3];
    out->gdt_frames[1] = 13;
    assert_int_equal(CALL(setvcpucontext, 1), -EOPNOTSUPP);
    out->gdt_frames[1] = 12;
    out->ldt_ents = 1;
    assert_int_equal(CALL(setvcpucontext, 1), -EOPNOTSUPP);
    read_only = &out->flags;
    assert_int_equal(CALL(getvcpucontext, 1), -EFAULT);
    FRESH();
    assert_int_equal(CALL(getvcpuinfo, 1), 0);
    assert_true(op.u.getvcpuinfo.online && op.u.getvcpuinfo.cpu_time == 99);
    op.u.getvcpuinfo.vcpu = 1;
    assert_int_equal(CALL(getvcpuinfo, 1), -ESRCH);
}

static void extended_state(void **state)
{
    static uint8_t buffer[16 + 3 * PAGE_SIZE] __aligned(8);
    uint64_t *header = (uint64_t *)buffer;

    FRESH();
    assert_int_equal(CALL(getvcpuextstate, 1), 0);
    assert_true(op.u.vcpuextstate.size == 16 + AREA && op.u.vcpuextstate.xfeature_mask == 7);
    op.u.vcpuextstate.buffer.p = header;
    op.u.vcpuextstate.size--;
    assert_int_equal(CALL(getvcpuextstate, 1), -EINVAL);
    op.u.vcpuextstate.size++;
    memset(area, 0x77, AREA);
    assert_int_equal(CALL(getvcpuextstate, 1), 0);
    assert_true(header[0] == 3 && header[1] == 7 && buffer[16] == 0x77 && buffer[15 + AREA] == 0x77 &&
                !buffer[16 + AREA]);
    memset(area, 0, AREA);
    assert_int_equal(CALL(setvcpuextstate, 1), 0);
    assert_true(xcr0_set == 3 && area[AREA - 1] == 0x77);
    header[0] = 8;
    assert_int_equal(CALL(setvcpuextstate, 1), -EINVAL);
    header[0] = 3;
    hole = buffer + 16 + AREA - 1;
    assert_int_equal(CALL(setvcpuextstate, 1), -EFAULT);
    assert_int_equal(CALL(getvcpuextstate, 1), -EFAULT);
    hole = NULL;
    heap_left = 0;
    assert_int_equal(CALL(setvcpuextstate, 1), -ENOMEM);
    assert_int_equal(CALL(getvcpuextstate, 1), -ENOMEM);
    heap_left = -1;
    op.u.vcpuextstate.size = 15;
    assert_int_equal(CALL(setvcpuextstate, 1), -EINVAL);
    op.u.vcpuextstate.size = 17 + 2 * PAGE_SIZE;
    assert_int_equal(CALL(setvcpuextstate, 1), -EINVAL);
    op.u.vcpuextstate.size = ~0UL;
    assert_int_equal(CALL(setvcpuextstate, 1), -EINVAL);
    op.u.vcpuextstate.size = 16;
    assert_int_equal(CALL(setvcpuextstate, 1), 0);
    assert_int_equal(CALL(setvcpuextstate, 0), -ESRCH);
    assert_int_equal(CALL(getvcpuextstate, 0), -ESRCH);
    xcr0_max = 0;
    assert_int_equal(CALL(setvcpuextstate, 1), -EINVAL);
    assert_int_equal(CALL(getvcpuextstate, 1), 0);
    assert_int_equal(op.u.vcpuextstate.size, 0);
    xcr0_max = 7;

    FRESH();
    op.u.ext_vcpucontext.size = sizeof(op.u.ext_vcpucontext);
    op.u.ext_vcpucontext.syscall32_callback_eip = 0xffffffff81000000;
    op.u.ext_vcpucontext.sysenter_disables_events = 1;
    assert_int_equal(CALL(set_ext_vcpucontext, 1), 0);
    op.u.ext_vcpucontext.sysenter_callback_eip = HOLE_START;
    assert_int_equal(CALL(set_ext_vcpucontext, 1), -EINVAL);
    op.u.ext_vcpucontext.sysenter_callback_eip = 1UL << 50;
    assert_int_equal(CALL(set_ext_vcpucontext, 1), -EINVAL);
    op.u.ext_vcpucontext.sysenter_callback_eip = 0;
    op.u.ext_vcpucontext.size = 4;
    assert_int_equal(CALL(set_ext_vcpucontext, 1), -EINVAL);
    assert_int_equal(CALL(set_ext_vcpucontext, 0), -ESRCH);
    FRESH();
    assert_int_equal(CALL(get_ext_vcpucontext, 1), 0);
    assert_true(op.u.ext_vcpucontext.syscall32_callback_eip == 0xffffffff81000000 &&
                op.u.ext_vcpucontext.sysenter_disables_events == 1);
}

static void msrs(void **state)
{
    struct xen_domctl_vcpu_msr list[2] = {{.index = 0xc0000103, .value = 5}, {.index = 0x1234}};

    FRESH();
    assert_int_equal(CALL(get_vcpu_msrs, 1), 0);
    assert_int_equal(op.u.vcpu_msrs.msr_count, 1);
    op.u.vcpu_msrs.msrs.p = list;
    op.u.vcpu_msrs.msr_count = 2;
    assert_int_equal(CALL(set_vcpu_msrs, 1), 0); /* one that is zero need not be known */
    assert_int_equal(vcpus[1].pv.tsc_aux, 5);
    list[1].value = 1;
    assert_int_equal(CALL(set_vcpu_msrs, 1), -EINVAL);
    list[0].value = 1UL << 32;
    assert_int_equal(CALL(set_vcpu_msrs, 1), -EINVAL);
    list[0].value = 6;
    list[0].reserved = 1;
    assert_int_equal(CALL(set_vcpu_msrs, 1), -EINVAL);
    assert_int_equal(vcpus[1].pv.tsc_aux, 5);
    op.u.vcpu_msrs.msr_count = 0;
    assert_int_equal(CALL(get_vcpu_msrs, 1), -ENOBUFS); /* and how many there are comes back */
    assert_int_equal(op.u.vcpu_msrs.msr_count, 1);
    assert_int_equal(CALL(get_vcpu_msrs, 1), 0);
    assert_true(list[0].index == 0xc0000103 && list[0].value == 5 && !list[0].reserved);
    vcpus[1].pv.tsc_aux = 0;
    assert_int_equal(CALL(get_vcpu_msrs, 1), 0);
    assert_int_equal(op.u.vcpu_msrs.msr_count, 0);
    FRESH();
    op.u.tsc_info.tsc_mode = 1;
    assert_int_equal(CALL(settscinfo, 1), -EOPNOTSUPP);
    op.u.tsc_info.tsc_mode = 3;
    assert_int_equal(CALL(settscinfo, 1), -EOPNOTSUPP);
    op.u.tsc_info.tsc_mode = 2;
    assert_int_equal(CALL(settscinfo, 0), -EOPNOTSUPP);
    assert_int_equal(CALL(settscinfo, 1), 0);
    assert_int_equal(doms[1].tsc_mode, 2);
}

/* What a restored domain brings of its time base. */
static void time_base(void **state)
{
    FRESH();
    op.u.settimeoffset.time_offset_seconds = -3600;
    assert_int_equal(CALL(settimeoffset, 1), 0);
    assert_int_equal(offset_shown, -3600);
    FRESH();
    assert_int_equal(CALL(gettscinfo, 1), 0);
    assert_int_equal(op.u.tsc_info.elapsed_nsec, 777);
    assert_int_equal(CALL(settscinfo, 1), 0); /* as it was saved */
    op.u.tsc_info.gtsc_khz = 2000000 + 1900;  /* the same rate, measured anew */
    op.u.tsc_info.incarnation = 3;
    assert_int_equal(CALL(settscinfo, 1), 0);
    op.u.tsc_info.gtsc_khz = 0; /* a new domain */
    assert_int_equal(CALL(settscinfo, 1), 0);
    assert_string_equal(fake_log, "");
    op.u.tsc_info.gtsc_khz = 2000000 + 2100;
    assert_int_equal(CALL(settscinfo, 1), 0);
    assert_non_null(strstr(fake_log, "ran at 2002100 kHz where it was saved, and runs at 2000000 kHz here"));
    fake_log_clear();
    op.u.tsc_info.gtsc_khz = 1000000;
    assert_int_equal(CALL(settscinfo, 1), 0);
    assert_non_null(strstr(fake_log, "ran at 1000000 kHz"));
    FRESH();
    assert_int_equal(CALL(gettscinfo, 1), 0);
    assert_true(op.u.tsc_info.incarnation == 3 && op.u.tsc_info.gtsc_khz == 2000000);
}

static void affinities_and_weights(void **state)
{
    uint8_t hard[16] = {2, 0}, soft[16] = {1}, all[16];

    FRESH();
    op.u.vcpuaffinity.cpumap_hard.bitmap.p = hard;
    op.u.vcpuaffinity.cpumap_hard.nr_bits = 8;
    op.u.vcpuaffinity.cpumap_soft.bitmap.p = soft;
    op.u.vcpuaffinity.cpumap_soft.nr_bits = 8;
    assert_int_equal(CALL(setvcpuaffinity, 1), -EINVAL); /* neither */
    op.u.vcpuaffinity.flags = 0x80;
    assert_int_equal(CALL(setvcpuaffinity, 1), -EINVAL);
    op.u.vcpuaffinity.flags = XEN_VCPUAFFINITY_HARD | XEN_VCPUAFFINITY_SOFT;
    assert_int_equal(CALL(setvcpuaffinity, 1), 0);
    assert_int_equal(vcpus[1].sched.hard_affinity.bits[0], 2);
    assert_int_equal(soft[0], 0); /* what is effective comes back */
    hard[0] = 0xf0;
    assert_int_equal(CALL(setvcpuaffinity, 1), -EINVAL); /* CPUs that are not there */
    op.u.vcpuaffinity.vcpu = 1;
    assert_int_equal(CALL(setvcpuaffinity, 1), -ESRCH);
    op.u.vcpuaffinity.vcpu = 0;
    /* A wider map of the tools': zeroes beyond; nothing beyond a narrow one */
    memset(all, 0xff, sizeof(all));
    op.u.vcpuaffinity.flags = XEN_VCPUAFFINITY_HARD;
    op.u.vcpuaffinity.cpumap_hard.bitmap.p = all;
    op.u.vcpuaffinity.cpumap_hard.nr_bits = 80;
    assert_int_equal(CALL(getvcpuaffinity, 1), 0);
    assert_true(all[0] == 2 && !all[8] && !all[9] && all[10] == 0xff);
    memset(all, 0xff, sizeof(all));
    op.u.vcpuaffinity.cpumap_hard.nr_bits = 3;
    assert_int_equal(CALL(getvcpuaffinity, 1), 0);
    assert_true(all[0] == 2 && all[1] == 0xff);
    hole = all;
    assert_int_equal(CALL(getvcpuaffinity, 1), -EFAULT);
    assert_int_equal(CALL(setvcpuaffinity, 1), -EFAULT);
    hole = NULL;

    FRESH();
    assert_int_equal(CALL(scheduler_op, 1), -EINVAL);
    op.u.scheduler_op.sched_id = XEN_SCHEDULER_CREDIT2;
    op.u.scheduler_op.cmd = XEN_DOMCTL_SCHEDOP_getinfo;
    assert_int_equal(CALL(scheduler_op, 1), 0);
    assert_int_equal(op.u.scheduler_op.u.credit2.weight, 256);
    op.u.scheduler_op.cmd = XEN_DOMCTL_SCHEDOP_putinfo;
    op.u.scheduler_op.u.credit2.weight = 512;
    assert_int_equal(CALL(scheduler_op, 1), 0);
    assert_true(doms[1].weight == 512 && vcpus[1].sched.weight == 512);
    op.u.scheduler_op.u.credit2.weight = 0;
    assert_int_equal(CALL(scheduler_op, 1), 0);
    assert_int_equal(doms[1].weight, 512);
    op.u.scheduler_op.u.credit2.cap = 50;
    assert_int_equal(CALL(scheduler_op, 1), -EOPNOTSUPP);
    op.u.scheduler_op.cmd = 77;
    assert_int_equal(CALL(scheduler_op, 1), -EINVAL);

    FRESH();
    memset(all, 0, sizeof(all));
    op.u.nodeaffinity.nodemap.bitmap.p = all;
    op.u.nodeaffinity.nodemap.nr_bits = 128;
    assert_int_equal(CALL(setnodeaffinity, 1), -EINVAL);
    all[0] = 4;
    assert_int_equal(CALL(setnodeaffinity, 1), 0);
    assert_int_equal(doms[1].node, 2);
    assert_int_equal(CALL(getnodeaffinity, 1), 0);
    assert_true(all[0] == 4 && !all[1]);
    all[1] = 1;
    assert_int_equal(CALL(setnodeaffinity, 1), 0);
    assert_int_equal(doms[1].node, NODE_ANY);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, reset, settled)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(decoding),
        TEST(what_comes_back),
        TEST(creation),
        TEST(creation_in_pool),
        TEST(creation_refused),
        TEST(pages),
        TEST(creation_in_pool),
        TEST(creation_of_pvh),
        TEST(pages),
        TEST(creation_in_pool),
        TEST(pvh_domains),
        TEST(pages),
        TEST(contexts),
        TEST(extended_state),
        TEST(msrs),
        TEST(time_base),
        TEST(affinities_and_weights),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
