/* mmuext_op: roots, pinning, flushes, LDT, clear and copy. And the MMU's part in a vcpu's life. */
#include "cpu/instr.h"
#include "cpu/tlb.h"
#include "domain/guest_access.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"
#include "lib/string.h"
#include "pv/descriptor.h"
#include "pv/mmu.h"
#include "pv/mmu_types.h"
#include "pv/mode.h"

#define MMU_PREEMPTED 0x80000000U

/* A guest's bitmap of vcpus (as many bits as the domain has vcpus, in longs) to the CPUs where they may have translations. */
long mmu_vcpus_to_cpus(const struct domain *d, const void *guest_bitmap, cpumask_t *out)
{
    unsigned long bits[BITMAP_LONGS(MAX_VCPUS)] = {0};
    unsigned i, bytes = DIV_ROUND_UP(d->vcpu_count, 8);

    if (copy_from_guest(bits, guest_bitmap, bytes))
        return -EFAULT;
    memset(out, 0, sizeof(*out));
    for_each_set_bit (i, bits, d->vcpu_count)
        if (d->vcpus[i])
            cpumask_set(READ_ONCE(d->vcpus[i]->processor), out);
    /* A vcpu that moved since has flushed where it came from or marks that CPU dirty still. */
    for (i = 0; i < ARRAY_SIZE(out->bits); i++)
        out->bits[i] &= d->dirty_cpus.bits[i];
    return 0;
}

static long pin(struct mmu_context *c, mfn_t m, enum frame_type type)
{
    struct frame *f;
    uint64_t t;
    int rc = table_get(c, m, type);

    if (rc)
        return rc;
    f = frame_of(m);
    t = __atomic_fetch_or(&f->type, TYPE_PINNED, __ATOMIC_ACQ_REL);
    if (t & TYPE_PINNED) {
        table_put(c, m);
        return refuse(-EINVAL, "frame 0x%lx is pinned already\n", m.n);
    }
    return 0;
}

static long unpin(struct mmu_context *c, mfn_t m)
{
    uint64_t t;

    if (!frame_type_read(m, c->l.d, &t) || !type_is_table(TYPE_OF(t)) || !(t & TYPE_PINNED))
        return refuse(-EINVAL, "frame 0x%lx is not pinned\n", m.n);
    __atomic_fetch_and(&frame_of(m)->type, ~TYPE_PINNED, __ATOMIC_ACQ_REL);
    table_put(c, m);
    return 0;
}

/* The machine-to-physical table is for the guest's kernel: a root loaded for user mode goes without it. */
static void show_m2p(mfn_t root, bool show)
{
    ((uint64_t *)mfn_to_virt(root))[HOLE_L4_FIRST] = show ? host_l4[HOLE_L4_FIRST] : 0;
}

static long new_kernel_root(struct mmu_context *c, struct vcpu *v, mfn_t m)
{
    mfn_t old = v->pv.kernel_root;
    long rc;

    if (m.n == old.n) {
        if (v == current && v->pv.kernel_mode)
            tlb_load_cr3(v->pv.kernel_cr3);
        return 0;
    }
    rc = table_get(c, m, FRAME_L4);
    if (rc)
        return rc;
    show_m2p(m, true);
    v->pv.kernel_root = m;
    v->pv.kernel_cr3 = m.n << PAGE_SHIFT;
    c->ldt_stale = v->pv.ldt_mapped;
    if (v == current && v->pv.kernel_mode)
        tlb_load_cr3(v->pv.kernel_cr3);
    if (old.n)
        table_put(c, old);
    return 0;
}

static long new_user_root(struct mmu_context *c, struct vcpu *v, mfn_t m)
{
    mfn_t old = v->pv.user_root;
    long rc;

    if (m.n == old.n)
        return 0;
    if (m.n) {
        rc = table_get(c, m, FRAME_L4);
        if (rc)
            return rc;
        if (m.n != v->pv.kernel_root.n)
            show_m2p(m, false);
    }
    v->pv.user_root = m;
    v->pv.user_cr3 = m.n << PAGE_SHIFT;
    v->pv.user_root_set = m.n != 0;
    if (old.n)
        table_put(c, old);
    return 0;
}

int mmu_new_kernel_root(struct vcpu *v, mfn_t root)
{
    struct mmu_context c = {.frames = v->domain}; /* MOV to CR3 cannot be continued: all at once */
    long rc;

    c.l = domain_mm_lock(v->domain);
    rc = new_kernel_root(&c, v, root);
    domain_mm_unlock(c.l);
    if (c.ldt_stale)
        descriptor_flush_ldt(v);
    return (int)rc;
}

static long clear_or_copy(struct domain *d, const struct mmuext_op *op)
{
    mfn_t to = MFN(op->arg1.mfn), from = MFN(op->arg2.src_mfn);
    bool copying = op->cmd == MMUEXT_COPY_PAGE;

    if (copying && !frame_get(from, d))
        return refuse(-EINVAL, "copy from frame 0x%lx, which this domain does not own\n", from.n);
    if (!frame_get_writable(to, d)) {
        if (copying)
            frame_put(from);
        return refuse(-EINVAL, "clear or copy of frame 0x%lx, which this domain may not write\n", to.n);
    }
    if (copying) {
        memcpy(mfn_to_virt(to), mfn_to_virt(from), PAGE_SIZE);
        frame_put(from);
    } else {
        memset(mfn_to_virt(to), 0, PAGE_SIZE);
    }
    frame_put_writable(to);
    return 0;
}

/* Everything that needs no mm_lock. -ENOSYS for what is not known. */
static long flush_op(struct vcpu *v, struct domain *d, const struct mmuext_op *op)
{
    cpumask_t mask;
    long rc;

    switch (op->cmd) {
    case MMUEXT_TLB_FLUSH_LOCAL:
        tlb_flush_local();
        return 0;
    case MMUEXT_INVLPG_LOCAL:
        if (op->arg1.linear_addr - HOLE_START >= HOLE_END - HOLE_START)
            invlpg(op->arg1.linear_addr);
        return 0;
    case MMUEXT_TLB_FLUSH_MULTI:
    case MMUEXT_INVLPG_MULTI:
        rc = mmu_vcpus_to_cpus(d, op->arg2.vcpumask.p, &mask);
        if (rc)
            return rc;
        if (op->cmd == MMUEXT_TLB_FLUSH_MULTI)
            tlb_flush_mask(&mask);
        else
            tlb_flush_page_mask(&mask, op->arg1.linear_addr);
        return 0;
    case MMUEXT_TLB_FLUSH_ALL:
        mask = d->dirty_cpus;
        tlb_flush_mask(&mask);
        return 0;
    case MMUEXT_INVLPG_ALL:
        mask = d->dirty_cpus;
        tlb_flush_page_mask(&mask, op->arg1.linear_addr);
        return 0;
    case MMUEXT_FLUSH_CACHE:
    case MMUEXT_FLUSH_CACHE_GLOBAL:
        if (!d->pv.io_memory)
            return refuse(-EPERM, "cache flush by a domain without device memory\n");
        wbinvd();
        return 0;
    case MMUEXT_SET_LDT:
        return descriptor_set_ldt(v, op->arg1.linear_addr, op->arg2.nr_ents);
    case MMUEXT_CLEAR_PAGE:
    case MMUEXT_COPY_PAGE:
        return clear_or_copy(d, op);
    default:
        return refuse(-ENOSYS, "mmuext_op command %u\n", op->cmd);
    }
}

static long table_op(struct mmu_context *c, struct vcpu *v, const struct mmuext_op *op)
{
    mfn_t m = MFN(op->arg1.mfn);

    switch (op->cmd) {
    case MMUEXT_PIN_L1_TABLE:
    case MMUEXT_PIN_L2_TABLE:
    case MMUEXT_PIN_L3_TABLE:
    case MMUEXT_PIN_L4_TABLE:
        return pin(c, m, FRAME_L1 + (op->cmd - MMUEXT_PIN_L1_TABLE));
    case MMUEXT_UNPIN_TABLE:
        return unpin(c, m);
    case MMUEXT_NEW_BASEPTR:
        return new_kernel_root(c, v, m);
    default:
        return new_user_root(c, v, m);
    }
}

static bool is_table_op(unsigned cmd)
{
    return cmd <= MMUEXT_UNPIN_TABLE || cmd == MMUEXT_NEW_BASEPTR || cmd == MMUEXT_NEW_USER_BASEPTR;
}

static bool allowed_on_others(unsigned cmd)
{
    return cmd <= MMUEXT_UNPIN_TABLE || cmd == MMUEXT_CLEAR_PAGE || cmd == MMUEXT_COPY_PAGE;
}

/*
 * The roots of a switch of processes in short: in place of table *root of d's comes m, a pinned L4 table of d's, and *root is not
 * used here alone, so that nothing is validated and nothing taken apart. The checks are those of table_get: a pinned table has a
 * type count, and one with a count is validated (memory/frame.h). False: it is not so, and nothing has changed. mm_lock held.
 */
static inline __attribute__((always_inline)) bool root_replace_short(const struct domain *d, mfn_t *root, mfn_t m)
{
    const uint64_t mask = TYPE_MASK | TYPE_VALIDATED | TYPE_PINNED;
    struct frame *f, *old;
    uint64_t t, t_old;

    if (unlikely(m.n == root->n || !root->n || !mfn_valid(m) || d->dying))
        return false;
    f = frame_of(m);
    old = frame_of(*root);
    t_old = READ_ONCE(old->type);
    if (unlikely(TYPE_COUNT(t_old) < 2 || !frame_ref_get(f, d->id))) /* first: it is d's only as long as there is one */
        return false;
    t = READ_ONCE(f->type);
    if (unlikely((t & mask) != (TYPE_MAKE(FRAME_L4) | TYPE_VALIDATED | TYPE_PINNED) || (f->control & FRAME_SHARED))) {
        frame_ref_put(f);
        return false;
    }
    WRITE_ONCE(f->type, t + 1); /* of a table, it changes under the mm_lock alone */
    WRITE_ONCE(old->type, t_old - 1);
    frame_ref_put(old);
    *root = m;
    return true;
}

/* Elements that root_replace_short does, from the first on, for current: how many. Of the next one nothing is kept. */
static inline __attribute__((always_inline)) uint32_t new_roots_short(struct vcpu *v, const struct mmuext_op *ops,
                                                                      uint32_t count)
{
    struct domain *d = v->domain;
    uint32_t i = 0;

    if (unlikely(count & MMU_PREEMPTED || v->pv.held.doomed || v->pv.held.kept || v->pv.ldt_mapped))
        return 0;
    while (i < count && (!i || likely(!hypercall_preempt_check()))) {
        struct mmuext_op op;
        struct domain_locked l;
        mfn_t m;
        bool ok;

        _Static_assert(sizeof(op) == 24, "read by guest_read24");
        if (unlikely(!guest_read24((uint64_t *)&op, ops + i)))
            break;
        m = MFN(op.arg1.mfn);
        l = domain_mm_lock(d);
        if (op.cmd == MMUEXT_NEW_BASEPTR && likely(v->pv.kernel_mode)) {
            ok = root_replace_short(d, &v->pv.kernel_root, m);
            if (likely(ok)) {
                show_m2p(m, true);
                v->pv.kernel_cr3 = m.n << PAGE_SHIFT;
                tlb_load_cr3(v->pv.kernel_cr3);
            }
        } else if (op.cmd == MMUEXT_NEW_USER_BASEPTR && likely(m.n != v->pv.kernel_root.n)) {
            ok = root_replace_short(d, &v->pv.user_root, m);
            if (likely(ok)) {
                show_m2p(m, false);
                v->pv.user_cr3 = m.n << PAGE_SHIFT;
            }
        } else {
            ok = false;
        }
        domain_mm_unlock(l);
        if (unlikely(!ok))
            break;
        i++;
    }
    return i;
}

/* The elements of a call by v from number i on; on another domain d than v's there are pinning, unpinning, clearing and copying. */
static long operations(struct vcpu *v, struct domain *d, const struct mmuext_op *ops, uint32_t i, uint32_t count,
                       uint64_t a_done, uint64_t a_domid)
{
    bool foreign = d != v->domain;
    struct mmu_context c = {.frames = d, .held = foreign ? &d->pv.held : &v->pv.held};
    uint32_t done = 0;
    long rc = 0;

    if (count & MMU_PREEMPTED) {
        count &= ~MMU_PREEMPTED;
        if (a_done && copy_from_guest(&done, (void *)a_done, sizeof(done)))
            return -EFAULT;
    }
    if (c.held->doomed) {
        c.l = domain_mm_lock(d);
        rc = mmu_drain_doomed(&c) ? 0 : MMU_RESTART;
        domain_mm_unlock(c.l);
    }
    for (; !rc && i < count; i++) {
        struct mmuext_op op;

        if (i && hypercall_preempt_check()) {
            rc = MMU_RESTART;
            break;
        }
        if (copy_from_guest(&op, ops + i, sizeof(op))) {
            rc = -EFAULT;
            break;
        }
        if (unlikely(foreign && !allowed_on_others(op.cmd))) {
            rc = refuse(-EPERM, "mmuext_op command %u on d%u: only for its own vcpus\n", op.cmd, d->id);
        } else if (is_table_op(op.cmd)) {
            bool drained = true;

            c.l = domain_mm_lock(d);
            rc = table_op(&c, v, &op);
            if (c.held->kept && rc != MMU_RESTART)
                mmu_drop_kept(&c);
            if (c.held->doomed)
                drained = mmu_drain_doomed(&c);
            domain_mm_unlock(c.l);
            if (c.ldt_stale)
                descriptor_flush_ldt(v);
            if (!rc && !drained) {
                i++;
                rc = MMU_RESTART;
                break;
            }
        } else {
            rc = flush_op(v, d, &op);
        }
        if (rc)
            break;
    }
    done += i;
    if (a_done && copy_to_guest((void *)a_done, &done, sizeof(done)))
        return -EFAULT;
    if (rc == MMU_RESTART)
        return hypercall_continue((uint64_t)(ops + i), (count - i) | MMU_PREEMPTED, a_done, a_domid, 0);
    return rc;
}

long hypercall_mmuext_op(uint64_t a_ops, uint64_t a_count, uint64_t a_done, uint64_t a_domid, uint64_t a5)
{
    const struct mmuext_op *ops = (const struct mmuext_op *)a_ops;
    uint32_t i, count = (uint32_t)a_count;
    struct vcpu *v = current;
    struct domain *d;
    long rc;

    if (likely((uint16_t)a_domid == DOMID_SELF || (uint16_t)a_domid == v->domain->id)) {
        i = new_roots_short(v, ops, count);
        if (likely(i && i == count && !a_done))
            return 0;
        return operations(v, v->domain, ops, i, count, a_done, a_domid);
    }
    rc = mmu_domain_get((uint16_t)a_domid, &d);
    if (rc)
        return rc;
    if (d->hvm)
        rc = refuse(-EOPNOTSUPP, "mmuext_op: for d%u, which makes its own page tables\n", d->id);
    else
        rc = operations(v, d, ops, 0, count, a_done, a_domid);
    domain_put(d);
    return rc;
}

int mmu_set_initial_root(struct vcpu *v, mfn_t root)
{
    struct mmu_context c = {.frames = v->domain, .held = &v->pv.held};
    int rc;

    c.l = domain_mm_lock(v->domain);
    /* The ABI hands the first tables over pinned: the guest unpins them when it has its own. */
    rc = (int)pin(&c, root, FRAME_L4);
    if (c.held->kept && rc != MMU_RESTART)
        mmu_drop_kept(&c);
    if (!rc)
        rc = table_get(&c, root, FRAME_L4);
    domain_mm_unlock(c.l);
    if (rc)
        return rc == MMU_RESTART ? -ERESTART : rc;
    v->pv.kernel_root = root;
    v->pv.kernel_cr3 = root.n << PAGE_SHIFT;
    return 0;
}

int mmu_set_roots(struct vcpu *v, mfn_t kernel, mfn_t user)
{
    struct mmu_context c = {.frames = v->domain};
    int rc;

    c.l = domain_mm_lock(v->domain);
    rc = table_get(&c, kernel, FRAME_L4);
    if (!rc && user.n) {
        rc = table_get(&c, user, FRAME_L4);
        if (rc)
            table_put(&c, kernel);
    }
    if (!rc) {
        show_m2p(kernel, true);
        if (user.n && user.n != kernel.n)
            show_m2p(user, false);
    }
    domain_mm_unlock(c.l);
    if (rc)
        return rc;
    v->pv.kernel_root = kernel;
    v->pv.kernel_cr3 = kernel.n << PAGE_SHIFT;
    v->pv.user_root = user;
    v->pv.user_cr3 = user.n << PAGE_SHIFT;
    v->pv.user_root_set = user.n != 0;
    return 0;
}

/* ---- The end of a domain: its vcpus do not run, nobody else may begin anything with its tables (d->dying) ---- */

bool mmu_release_tables(struct domain *d)
{
    struct mmu_context c = {.frames = d, .held = &d->pv.held};
    bool done;

    c.l = domain_mm_lock(d);
    mmu_drop_kept(&c);
    done = mmu_drain_doomed(&c);
    domain_mm_unlock(c.l);
    return done;
}

bool mmu_release_vcpu(struct vcpu *v)
{
    struct mmu_context c = {.frames = v->domain, .held = &v->pv.held};
    bool done;

    descriptor_release(v);
    c.l = domain_mm_lock(v->domain);
    mmu_drop_kept(&c);
    if (v->pv.kernel_root.n)
        table_put(&c, v->pv.kernel_root);
    if (v->pv.user_root.n)
        table_put(&c, v->pv.user_root);
    v->pv.kernel_root = v->pv.user_root = MFN(0);
    v->pv.kernel_cr3 = v->pv.user_cr3 = 0;
    v->pv.user_root_set = false;
    done = mmu_drain_doomed(&c);
    domain_mm_unlock(c.l);
    return done;
}

void mmu_release_frame(struct domain *d, mfn_t m)
{
    struct mmu_context c = {.frames = d, .held = &d->pv.held};

    if (!(READ_ONCE(frame_of(m)->type) & TYPE_PINNED))
        return;
    c.l = domain_mm_lock(d);
    if (frame_of(m)->type & TYPE_PINNED)
        (void)unpin(&c, m);
    domain_mm_unlock(c.l);
}
