/*
 * CPU policies for the control interface: see cpu_policy.h. The tools read the default, change it by the domain's
 * configuration and write it back whole; most domains keep the default and then have no policy of their own.
 */
#include "pv/cpu_policy.h"
#include "boot/options.h"
#include "cpu/cpu.h"
#include "domain/domain.h"
#include "domain/guest_access.h"
#include "hvm/hvm.h"
#include "lib/log.h"
#include "lib/string.h"
#include "memory/alloc.h"
#include "pv/cpuid.h"

#define F(name) (1U << (XEN_X86_FEATURE_##name % 32))

/* As many as the lists of the tools can have: their own lists are never longer. */
#define MAX_LEAVES 128
#define MAX_MSRS 2
#define LEAF_HYPERVISOR_2 0x40000100U /* where a second hypervisor's leaves would be */
#define XSTATE_LEAF 0xdU
#define XSTATE_SUBLEAVES 63
#define FEATURE_SUBLEAVES 3U

#define MSR_PLATFORM_INFO 0xceU
#define MSR_ARCH_CAPABILITIES 0x10aU
static const uint32_t policy_msrs[MAX_MSRS] = {MSR_PLATFORM_INFO, MSR_ARCH_CAPABILITIES};

/* Where the words of a featureset come from; a leaf of 0: MSR_ARCH_CAPABILITIES. */
static const struct {
    uint32_t leaf, subleaf;
    uint8_t reg; /* of eax, ebx, ecx, edx */
} words[] = {
    {1, 0, 3}, {1, 0, 2},          {0x80000001, 0, 3}, {0x80000001, 0, 2}, {0xd, 1, 0},
    {7, 0, 1}, {7, 0, 2},          {0x80000007, 0, 3}, {0x80000008, 0, 1}, {7, 0, 3},
    {7, 1, 0}, {0x80000021, 0, 0}, {7, 1, 1},          {7, 2, 3},          {7, 1, 2},
    {7, 1, 3}, {0, 0, 0},          {0, 0, 3},          {0x80000021, 0, 2},
};

/* ----- sources: the machine, or a policy ----- */

enum { RAW, HOST };

struct source {
    const struct cpu_policy *policy; /* null: the machine */
    unsigned machine;                /* RAW: as it is; HOST: as Croft uses it */
};

/* What Croft was told not to use */
static void hide_unused(uint32_t leaf, uint32_t subleaf, struct cpuid_regs *r)
{
    if (leaf == 1)
        r->c &= cpu_features.xsave ? ~0U : ~(F(XSAVE) | F(OSXSAVE) | F(AVX) | F(FMA) | F(F16C));
    else if (leaf == 7 && subleaf == 0)
        r->b &= ~((cpu_features.smep ? 0 : F(SMEP)) | (cpu_features.smap ? 0 : F(SMAP)));
}

static struct cpuid_regs machine_leaf(unsigned kind, uint32_t leaf, uint32_t subleaf)
{
    uint32_t start = leaf >= LEAF_EXTENDED ? LEAF_EXTENDED : 0;
    uint32_t limit = start ? POLICY_EXTENDED : POLICY_BASIC;
    struct cpuid_regs r = cpuid(start, 0);

    if (leaf > r.a || leaf >= start + limit)
        return (struct cpuid_regs){0};
    r = cpuid(leaf, subleaf == XEN_CPUID_NO_SUBLEAF ? 0 : subleaf);
    if (kind == HOST) {
        if (leaf == start)
            r.a = min(r.a, start + limit - 1);
        hide_unused(leaf, subleaf, &r);
    }
    return r;
}

static struct cpuid_regs leaf_of(const struct source *s, uint32_t leaf, uint32_t subleaf)
{
    struct cpuid_view view;
    struct cpuid_regs r;
    const struct cpuid_regs *kept;

    if (!s->policy)
        return machine_leaf(s->machine, leaf, subleaf);
    if (leaf == XSTATE_LEAF) {
        view = cpuid_machine_view();
        r = cpuid_policy(s->policy, &view, leaf, subleaf);
        if (subleaf <= 1)
            r.b = 0; /* depends on XCR0 */
        return r;
    }
    kept = cpu_policy_slot((struct cpu_policy *)s->policy, leaf, subleaf);
    return kept ? *kept : (struct cpuid_regs){0};
}

static uint64_t msr_of(const struct source *s, uint32_t msr)
{
    uint64_t value;

    return !s->policy && rdmsr_safe(msr, &value) ? value : 0; /* a guest has none of the abilities shown there */
}

static uint32_t feature_word(const struct source *s, unsigned word)
{
    uint64_t msr;
    struct cpuid_regs r;

    if (!words[word].leaf) {
        if (!(leaf_of(s, 7, 0).d & F(ARCH_CAPS)))
            return 0;
        msr = msr_of(s, MSR_ARCH_CAPABILITIES);
        return (uint32_t)(words[word].reg ? msr >> 32 : msr);
    }
    if (words[word].leaf == 7 && words[word].subleaf > leaf_of(s, 7, 0).a)
        return 0;
    r = leaf_of(s, words[word].leaf, words[word].subleaf);
    return (uint32_t[]){r.a, r.b, r.c, r.d}[words[word].reg];
}

uint32_t host_feature_word(unsigned word) { return feature_word(&(struct source){.machine = HOST}, word); }

/* ----- out ----- */

struct writer {
    const struct source *source;
    XEN_GUEST_HANDLE_64(xen_cpuid_leaf_t) to;
    uint32_t room, count;
    int err;
};

static struct cpuid_regs put_leaf(struct writer *w, uint32_t leaf, uint32_t subleaf)
{
    struct cpuid_regs r = {0};
    struct xen_cpuid_leaf out;

    if (leaf != LEAF_HYPERVISOR &&
        leaf != LEAF_HYPERVISOR_2) /* made anew for each question; the tools want to see them */
        r = leaf_of(w->source, leaf, subleaf);
    if (w->err)
        return r;
    if (w->count == w->room) {
        w->err = -ENOBUFS;
        return r;
    }
    out = (struct xen_cpuid_leaf){leaf, subleaf, r.a, r.b, r.c, r.d};
    if (copy_to_handle(w->to, w->count, &out, 1))
        w->err = -EFAULT;
    w->count++;
    return r;
}

static void put_subleaves(struct writer *w, uint32_t leaf)
{
    struct cpuid_regs r;
    uint64_t components;

    switch (leaf) {
    case 0x4:
        for (unsigned i = 0; i < POLICY_CACHES && (put_leaf(w, leaf, i).a & 31); i++)
            ;
        break;
    case 0x7:
        r = put_leaf(w, leaf, 0);
        for (unsigned i = 1; i <= min(r.a, FEATURE_SUBLEAVES - 1); i++)
            put_leaf(w, leaf, i);
        break;
    case 0xb:
        put_leaf(w, leaf, 0);
        put_leaf(w, leaf, 1);
        break;
    case XSTATE_LEAF:
        r = put_leaf(w, leaf, 0);
        components = (uint64_t)r.d << 32 | r.a;
        r = put_leaf(w, leaf, 1);
        components |= (uint64_t)r.d << 32 | r.c;
        for (unsigned i = 2; i < XSTATE_SUBLEAVES; i++)
            if (components >> i & 1)
                put_leaf(w, leaf, i);
        break;
    default:
        put_leaf(w, leaf, XEN_CPUID_NO_SUBLEAF);
    }
}

/* In ascending order: the tools search by bisection. */
static int put_leaves(const struct source *s, XEN_GUEST_HANDLE_64(xen_cpuid_leaf_t) to, uint32_t *count)
{
    struct writer w = {.source = s, .to = to, .room = *count};
    uint32_t last_basic = min(leaf_of(s, 0, 0).a, POLICY_BASIC - 1);
    uint32_t last_extended = min(leaf_of(s, LEAF_EXTENDED, 0).a, LEAF_EXTENDED + POLICY_EXTENDED - 1);

    if (!to.p) {
        *count = MAX_LEAVES;
        return 0;
    }
    for (uint32_t leaf = 0; leaf <= last_basic; leaf++)
        put_subleaves(&w, leaf);
    put_leaf(&w, LEAF_HYPERVISOR, XEN_CPUID_NO_SUBLEAF);
    put_leaf(&w, LEAF_HYPERVISOR_2, XEN_CPUID_NO_SUBLEAF);
    for (uint32_t leaf = LEAF_EXTENDED; leaf <= last_extended; leaf++)
        put_subleaves(&w, leaf);
    *count = w.count;
    return w.err;
}

static int put_msrs(const struct source *s, XEN_GUEST_HANDLE_64(xen_msr_entry_t) to, uint32_t *count)
{
    uint32_t room = *count;

    *count = MAX_MSRS;
    if (!to.p)
        return 0;
    if (room < MAX_MSRS)
        return -ENOBUFS;
    for (unsigned i = 0; i < MAX_MSRS; i++) {
        struct xen_msr_entry e = {.idx = policy_msrs[i], .val = msr_of(s, policy_msrs[i])};

        if (copy_to_handle(to, i, &e, 1))
            return -EFAULT;
    }
    return 0;
}

int sysctl_get_cpu_policy(struct xen_sysctl_cpu_policy *op)
{
    static const struct source sources[] = {
        [XEN_SYSCTL_cpu_policy_raw] = {.machine = RAW},
        [XEN_SYSCTL_cpu_policy_host] = {.machine = HOST},
        [XEN_SYSCTL_cpu_policy_pv_max] = {.policy = &pv_max_policy},
        [XEN_SYSCTL_cpu_policy_pv_default] = {.policy = &pv_default_policy},
        [XEN_SYSCTL_cpu_policy_hvm_max] = {.policy = &hvm_max_policy},
        [XEN_SYSCTL_cpu_policy_hvm_default] = {.policy = &hvm_default_policy},
    };
    int rc;

    if (op->_rsvd || op->index > XEN_SYSCTL_cpu_policy_hvm_default)
        return refuse(-EINVAL, "sysctl get_cpu_policy: policy %u, reserved %u\n", op->index, op->_rsvd);
    if (hvm_missing() && (op->index == XEN_SYSCTL_cpu_policy_hvm_max || op->index == XEN_SYSCTL_cpu_policy_hvm_default))
        return -EOPNOTSUPP; /* not a mistake: xen-cpuid asks for all */
    rc = put_leaves(&sources[op->index], op->leaves, &op->nr_leaves);
    return rc ? rc : put_msrs(&sources[op->index], op->msrs, &op->nr_msrs);
}

int sysctl_get_cpu_featureset(struct xen_sysctl_cpu_featureset *op)
{
    static const struct source sources[] = {
        [XEN_SYSCTL_cpu_featureset_raw] = {.machine = RAW},
        [XEN_SYSCTL_cpu_featureset_host] = {.machine = HOST},
        [XEN_SYSCTL_cpu_featureset_pv] = {.policy = &pv_default_policy},
        [XEN_SYSCTL_cpu_featureset_pv_max] = {.policy = &pv_max_policy},
        [XEN_SYSCTL_cpu_featureset_hvm] = {.policy = &hvm_default_policy},
        [XEN_SYSCTL_cpu_featureset_hvm_max] = {.policy = &hvm_max_policy},
    };
    uint32_t room = op->nr_features, n = min(room, (uint32_t)ARRAY_SIZE(words)), value;

    if (op->index > XEN_SYSCTL_cpu_featureset_hvm_max)
        return refuse(-EINVAL, "sysctl get_cpu_featureset: set %u\n", op->index);
    op->nr_features = ARRAY_SIZE(words);
    if (!op->features.p)
        return 0;
    if (hvm_missing() && (op->index == XEN_SYSCTL_cpu_featureset_hvm || op->index == XEN_SYSCTL_cpu_featureset_hvm_max))
        return -EOPNOTSUPP;
    for (unsigned i = 0; i < n; i++) {
        value = feature_word(&sources[op->index], i);
        if (copy_to_handle(op->features, i, &value, 1))
            return -EFAULT;
    }
    op->nr_features = n;
    return n < ARRAY_SIZE(words) ? -ENOBUFS : 0;
}

int domctl_get_cpu_policy(struct domain *d, struct xen_domctl_cpu_policy *op)
{
    struct source s = {.policy = cpu_policy_of(d)};
    int rc = put_leaves(&s, op->leaves, &op->nr_leaves);

    return rc ? rc : put_msrs(&s, op->msrs, &op->nr_msrs);
}

/* ----- in ----- */

static bool subset(const struct cpuid_regs *r, const struct cpuid_regs *max)
{
    return !((r->a & ~max->a) | (r->b & ~max->b) | (r->c & ~max->c) | (r->d & ~max->d));
}

static const struct cpuid_regs *slot_of(const struct cpu_policy *p, uint32_t leaf, uint32_t subleaf)
{
    return cpu_policy_slot((struct cpu_policy *)p, leaf, subleaf);
}

static const char *kind_of(const struct domain *d) { return d->hvm ? "PVH" : "PV"; }

/*
 * Is the leaf no more than domains of this kind can have? Takes out what does not come from the policy, and what the tools copy from
 * the machine in good faith.
 */
static bool leaf_ok(uint32_t leaf, struct cpuid_regs *r, const struct cpuid_regs *max)
{
    switch (leaf) {
    case 0x0:
    case LEAF_EXTENDED: /* the last leaf, and the maker */
        return r->a <= max->a && r->b == max->b && r->c == max->c && r->d == max->d;
    case 0x2:
    case 0x4:
    case 0x80000002 ... 0x80000006:
    case 0x80000019:
    case 0x8000001a: /* descriptions */
        return true;
    case 0x1: /* eax, ebx: model and cache line */
        r->b &= 0xffff;
        r->c &= ~(F(HYPERVISOR) | F(OSXSAVE));
        r->d &= ~F(HTT);
        return !((r->c & ~max->c) | (r->d & ~max->d));
    case 0x7:
        r->b &= ~(F(HLE) | F(RTM));
        r->c &= ~F(OSPKE);
        return r->a <= max->a && subset(&(struct cpuid_regs){0, r->b, r->c, r->d}, max);
    case 0x80000001: /* eax, ebx: model */
        r->c &= ~F(CMP_LEGACY);
        return !((r->c & ~max->c) | (r->d & ~max->d));
    case 0x80000007: /* asked for, for a domain that is not to migrate, without a look at the machine */
        r->d &= ~F(ITSC) | max->d;
        break;
    case 0x80000008: /* sizes of addresses are the machine's, the number of CPUs the domain's */
        r->a = max->a;
        r->c = 0;
        break;
    }
    return subset(r, max);
}

static int take_leaf(struct cpu_policy *p, const struct cpu_policy *max, const struct xen_cpuid_leaf *in)
{
    struct cpuid_regs r = {in->a, in->b, in->c, in->d}, *slot = cpu_policy_slot(p, in->leaf, in->subleaf);
    bool has_subleaves = in->leaf == 0x4 || in->leaf == 0x7 || in->leaf == 0xb || in->leaf == XSTATE_LEAF;

    if (in->leaf == LEAF_HYPERVISOR || in->leaf == LEAF_HYPERVISOR_2)
        return in->subleaf == XEN_CPUID_NO_SUBLEAF ? 0 : -ERANGE; /* always whole */
    if (in->leaf >= POLICY_BASIC && in->leaf - LEAF_EXTENDED >= POLICY_EXTENDED)
        return -ERANGE;
    if (has_subleaves ? in->subleaf > 63 : in->subleaf != XEN_CPUID_NO_SUBLEAF)
        return -ERANGE;
    if (in->leaf == 0xb || (in->leaf == XSTATE_LEAF && in->subleaf != 1))
        return 0;                  /* follow from the number of vcpus and the features */
    if (in->leaf == XSTATE_LEAF) { /* sizes and supervisor components follow too */
        r.b = r.c = r.d = 0;
    } else if (!slot) { /* a subleaf that domains have not */
        return r.a | r.b | r.c | r.d ? -EINVAL : 0;
    }
    if (in->leaf == 0x7 && in->subleaf) {
        if (!subset(&r, slot_of(max, in->leaf, in->subleaf)))
            return -EINVAL;
    } else if (!leaf_ok(in->leaf, &r, slot_of(max, in->leaf, in->subleaf))) {
        return -EINVAL;
    }
    *slot = r;
    return 0;
}

static int take_msr(const struct xen_msr_entry *in)
{
    if (in->flags)
        return -EINVAL;
    for (unsigned i = 0; i < MAX_MSRS; i++)
        if (policy_msrs[i] == in->idx)
            return in->val ? -EINVAL : 0; /* domains have none of it */
    return -ERANGE;
}

static int refuse_leaf(int rc, const struct domain *d, const struct xen_cpuid_leaf *in)
{
    const struct cpuid_regs *slot = slot_of(cpu_policy_max(d), in->leaf, in->subleaf);
    struct cpuid_regs max = slot ? *slot : (struct cpuid_regs){0};

    if (rc == -ERANGE)
        return refuse(rc, "set_cpu_policy of %s: there is no leaf %#x, %#x\n", d->name, in->leaf, in->subleaf);
    return refuse(
        rc,
        "set_cpu_policy of %s: leaf %#x, %#x: bits %08x %08x %08x %08x of eax to edx are not for %s domains on "
        "this machine\n",
        d->name, in->leaf, in->subleaf, in->a & ~max.a, in->b & ~max.b, in->c & ~max.c, in->d & ~max.d, kind_of(d));
}

static int take_lists(struct cpu_policy *p, struct domain *d, struct xen_domctl_cpu_policy *op)
{
    struct xen_cpuid_leaf leaf;
    struct xen_msr_entry msr;
    int rc;

    for (uint32_t i = 0; i < op->nr_leaves; i++) {
        if (copy_from_handle(&leaf, op->leaves, i, 1))
            return -EFAULT;
        rc = take_leaf(p, cpu_policy_max(d), &leaf);
        if (rc) {
            op->err_leaf = leaf.leaf;
            op->err_subleaf = leaf.subleaf;
            return refuse_leaf(rc, d, &leaf);
        }
    }
    for (uint32_t i = 0; i < op->nr_msrs; i++) {
        if (copy_from_handle(&msr, op->msrs, i, 1))
            return -EFAULT;
        rc = take_msr(&msr);
        if (rc) {
            op->err_msr = msr.idx;
            return refuse(rc, "set_cpu_policy of %s: MSR %#x = %#lx: not for %s domains\n", d->name, msr.idx,
                          (unsigned long)msr.val, kind_of(d));
        }
    }
    return 0;
}

/* Gives d what it may have; the caller frees what is left in *fresh. */
static int install(struct domain *d, struct cpu_policy **fresh)
{
    int rc = 0;

    spin_lock(&d->lock);
    if (d->started) {
        rc = -EEXIST;
    } else if (d->cpu_policy) {
        *d->cpu_policy = **fresh; /* stays where it is: a reader may have it in hand */
    } else if (memcmp(*fresh, cpu_policy_default(d), sizeof(**fresh))) {
        __atomic_store_n(&d->cpu_policy, *fresh, __ATOMIC_RELEASE);
        *fresh = NULL;
    }
    spin_unlock(&d->lock);
    return rc;
}

int domctl_set_cpu_policy(struct domain *d, struct xen_domctl_cpu_policy *op)
{
    struct cpu_policy *p;
    int rc;

    op->err_leaf = op->err_subleaf = op->err_msr = ~0U;
    if (d == current->domain)
        return refuse(-EINVAL, "set_cpu_policy: a domain cannot change its own\n");
    if (op->nr_leaves > MAX_LEAVES || op->nr_msrs > MAX_MSRS)
        return refuse(-E2BIG, "set_cpu_policy of %s: %u leaves, %u MSRs\n", d->name, op->nr_leaves, op->nr_msrs);
    p = new_object(struct cpu_policy);
    if (!p)
        return -ENOMEM;
    *p = *cpu_policy_of(d);
    rc = take_lists(p, d, op);
    if (!rc) {
        cpu_policy_trim(p, cpu_policy_max(d)->xcr0);
        rc = install(d, &p);
        if (rc)
            guest_log(LOG_WARNING, "set_cpu_policy of %s: it has run already\n", d->name);
    }
    heap_free(p);
    return rc;
}

void cpu_policy_destroy(struct domain *d)
{
    heap_free(d->cpu_policy);
    d->cpu_policy = NULL;
}
