/*
 * The audit: walks every frame and every page table and checks the invariants of memory/frame.h against what the tables say.
 * It needs 8 bytes a frame for a while, and a machine where nobody changes tables: domains are paused around it, and nobody else has
 * domain_work_lock.
 */
#include "domain/domain.h"
#include "hvm/hvm.h"
#include "lib/log.h"
#include "lib/printf.h"
#include "memory/alloc.h"
#include "memory/frame.h"
#include "memory/map.h"
#include "pv/mmu_types.h"

#define CHUNK_FRAMES (PAGE_SIZE / sizeof(struct seen))
#define MAX_FINDINGS_SHOWN 20

/* References to a frame found in page tables and vcpus */
struct seen {
    uint32_t refs, typed;
};

struct audit {
    struct seen **chunks; /* by mfn / CHUNK_FRAMES, made on first use */
    unsigned order, findings;
};

static __printf(2, 3) void finding(struct audit *a, const char *fmt, ...)
{
    char text[160];
    va_list ap;

    if (++a->findings > MAX_FINDINGS_SHOWN)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    log_error("audit: %s\n", text);
}

static struct seen *seen_of(struct audit *a, mfn_t m)
{
    struct seen **chunk = &a->chunks[m.n / CHUNK_FRAMES];

    if (!*chunk)
        *chunk = alloc_pages(0);
    return *chunk ? &(*chunk)[m.n % CHUNK_FRAMES] : NULL;
}

static void count(struct audit *a, mfn_t m, enum frame_type need, const char *what)
{
    struct seen *s = seen_of(a, m);
    struct frame *f = frame_of(m);

    if (!s)
        return;
    s->refs++;
    if (need == FRAME_NONE)
        return;
    s->typed++;
    if (TYPE_OF(f->type) != need)
        finding(a, "frame 0x%lx is used as type %u by %s but has type 0x%lx", m.n, need, what, f->type);
}

static void audit_table(struct audit *a, mfn_t m, unsigned level, domid_t owner)
{
    const uint64_t *table = mfn_to_virt(m);

    for (unsigned i = 0; i < 512; i++) {
        uint64_t e = table[i];
        mfn_t to = pte_mfn(e);

        /* User roots go without the machine-to-physical table. */
        if (!(e & PTE_PRESENT))
            continue;
        if (level == 4 && l4_slot_is_ours(i)) {
            if (e != host_l4[i])
                finding(a, "L4 0x%lx slot %u is 0x%lx, not the hypervisor's", m.n, i, e);
            continue;
        }
        if (level > 1) {
            count(a, to, FRAME_L1 + level - 2, "a table above");
        } else if (!mfn_is_io(to)) {
            count(a, to, e & PTE_WRITE ? FRAME_WRITABLE : FRAME_NONE, "a mapping");
            if (frame_owner(frame_of(to)) != owner && !(frame_of(to)->control & FRAME_FOREIGN) && !m2p_holds(to))
                finding(a, "L1 0x%lx of d%u entry %u maps frame 0x%lx of d%u", m.n, owner, i, to.n,
                        frame_owner(frame_of(to)));
        }
    }
}

/* References of unfinished MMU work */
static void count_held(void *a, mfn_t m) { count(a, m, TYPE_OF(frame_of(m)->type), "unfinished work"); }

static void audit_vcpus(struct audit *a)
{
    struct domain *d;
    struct vcpu *v;

    list_for_each (d, &domain_list, list)
        for_each_vcpu (d, v) {
            if (v->pv.kernel_root.n)
                count(a, v->pv.kernel_root, FRAME_L4, "a vcpu's kernel root");
            if (v->pv.user_root.n)
                count(a, v->pv.user_root, FRAME_L4, "a vcpu's user root");
            mmu_each_held(&v->pv.held, count_held, a);
        }
    list_for_each (d, &domain_list, list)
        mmu_each_held(&d->pv.held, count_held, a);
}

static void count_mapping(void *a, mfn_t m, bool writable)
{
    count(a, m, writable ? FRAME_WRITABLE : FRAME_NONE, "a grant mapping");
}

/* Mappings by grants, and the users that the granters' tables count */
static void audit_grants(struct audit *a)
{
    struct domain *d, *by;
    uint64_t pins, mappings;

    list_for_each (d, &domain_list, list) {
        grant_each_mapping(d, count_mapping, a);
        list_for_each (by, &domain_list, list)
            if (!grant_counts_agree(d, by, &pins, &mappings))
                finding(a, "d%u counts %lu uses of its grants by d%u, which has %lu mappings of them", d->id, pins,
                        by->id, mappings);
    }
}

struct nested {
    struct audit *a;
    const struct domain *d;
    uint64_t cached;
};

/* One finding a leaf: it may map very many frames. */
static void count_leaf(void *arg, gfn_t gfn, mfn_t m, unsigned order, enum p2m_kind kind)
{
    struct nested *n = arg;

    if (kind != P2M_RAM) {
        if (!mfn_valid(m) || order)
            finding(n->a, "d%u maps guest frame 0x%lx to 0x%lx by a grant, of order %u", n->d->id, gfn.n, m.n, order);
        else
            count(n->a, m, kind == P2M_GRANT_RW ? FRAME_WRITABLE : FRAME_NONE, "a grant in a nested page table");
        return;
    }
    if (m.n & ((1UL << order) - 1)) {
        finding(n->a, "d%u maps guest frame 0x%lx to 0x%lx by a page of order %u", n->d->id, gfn.n, m.n, order);
        return;
    }
    for (uint64_t i = 0; i < 1UL << order; i++) {
        mfn_t f = mfn_add(m, i);

        if (!mfn_valid(f) || frame_owner(frame_of(f)) != n->d->id) {
            finding(n->a, "d%u maps guest frame 0x%lx to 0x%lx, which is not its own", n->d->id, gfn.n + i, f.n);
            return;
        }
        count(n->a, f, FRAME_WRITABLE, "a nested page table");
    }
}

/* A page of a domain's cache: hvm/pod.h. All uses have been counted, but those by grants. */
static void check_cached(void *arg, mfn_t m)
{
    struct nested *n = arg;
    const struct seen *s;

    n->cached++;
    if (!mfn_valid(m) || frame_owner(frame_of(m)) != n->d->id || !(frame_of(m)->control & FRAME_ALLOCATED))
        finding(n->a, "the cache of d%u has frame 0x%lx, which is not its own", n->d->id, m.n);
    else if ((s = seen_of(n->a, m)) && s->refs)
        finding(n->a, "the cache of d%u has frame 0x%lx, which is mapped", n->d->id, m.n);
}

static void audit_cache(struct audit *a, struct domain *d)
{
    const struct pod *pod = &d->hvm->p2m.pod;
    struct nested n = {.a = a, .d = d};
    uint64_t marked = p2m_marked(d);

    if (marked != pod->entries)
        finding(a, "d%u has %lu marked frames, %lu are counted", d->id, marked, pod->entries);
    if (d->dying) /* its cache goes in pieces */
        return;
    pod_each(pod, check_cached, &n);
    if (n.cached != pod->pages || n.cached > d->tot_pages)
        finding(a, "the cache of d%u has %lu pages, %lu are counted, of %lu in all", d->id, n.cached, pod->pages,
                d->tot_pages);
}

static void audit_nested(struct audit *a)
{
    struct domain *d;

    list_for_each (d, &domain_list, list)
        if (d->hvm)
            p2m_each(d, count_leaf, &(struct nested){.a = a, .d = d});
    list_for_each (d, &domain_list, list)
        if (d->hvm)
            audit_cache(a, d);
}

/* Nobody changes types or mappings between the locks and the end of the count. */
static void lock_domains(void)
{
    struct domain *d;

    list_for_each (d, &domain_list, list)
        spin_lock(&d->mm_lock);
    list_for_each (d, &domain_list, list)
        if (d->hvm)
            spin_lock(&d->hvm->p2m.lock);
}

static void unlock_domains(void)
{
    struct domain *d;

    list_for_each (d, &domain_list, list) {
        if (d->hvm)
            spin_unlock(&d->hvm->p2m.lock);
        spin_unlock(&d->mm_lock);
    }
}

/* References that exist outside of page tables (event arrays, vcpu_info, GDT pages, ...) make the counts larger than what was
 * seen, for frames that are not tables; a count smaller than what was seen is always wrong. */
static void compare(struct audit *a, mfn_t m)
{
    struct frame *f = frame_of(m);
    const struct seen *s = seen_of(a, m);
    uint32_t refs = FRAME_REFS(f->control), typed = TYPE_COUNT(f->type);
    uint32_t known = s->refs, known_typed = s->typed;
    bool table = type_is_table(TYPE_OF(f->type)) && typed;

    if (f->control & FRAME_ALLOCATED)
        known++;
    if (f->control & FRAME_SHARED)
        known++;
    if (f->type & TYPE_PINNED) {
        known++;
        known_typed++;
    }
    if (known > refs)
        finding(a, "frame 0x%lx has %u references, %u are in use", m.n, refs, known);
    if (known_typed > typed || (table && known_typed != typed))
        finding(a, "frame 0x%lx type 0x%lx: %u typed references, %u are in use", m.n, f->type, typed, known_typed);
    if (typed > refs)
        finding(a, "frame 0x%lx has more typed references (%u) than references (%u)", m.n, typed, refs);
    if (typed && TYPE_OF(f->type) > FRAME_WRITABLE && (f->control & FRAME_SHARED))
        finding(a, "frame 0x%lx is Croft's own and has type 0x%lx", m.n, f->type);
    if (table && !(f->type & TYPE_VALIDATED))
        finding(a, "frame 0x%lx is a page table that is not validated: type 0x%lx", m.n, f->type);
}

static void each_frame(struct audit *a, void (*fn)(struct audit *, mfn_t))
{
    for (mfn_t m = MFN(0); m.n < max_frame; m.n++)
        if (mfn_valid(m))
            fn(a, m);
}

static void visit(struct audit *a, mfn_t m)
{
    struct frame *f = frame_of(m);
    domid_t owner = frame_owner(f);

    if (!FRAME_REFS(f->control) && owner != DOMID_FREE)
        finding(a, "frame 0x%lx has no references but belongs to d%u", m.n, owner);
    if (owner < DOMID_FIRST_RESERVED && !domain_owner_of_frame(owner))
        finding(a, "frame 0x%lx belongs to d%u, which does not exist", m.n, owner);
    if (TYPE_COUNT(f->type) && type_is_table(TYPE_OF(f->type)) && owner < DOMID_FIRST_RESERVED)
        audit_table(a, m, type_level(TYPE_OF(f->type)), owner);
}

static void check(struct audit *a, mfn_t m)
{
    if (frame_owner(frame_of(m)) < DOMID_FIRST_RESERVED && seen_of(a, m))
        compare(a, m);
}

static unsigned audit(void)
{
    struct audit a = {0};
    uint64_t bytes = DIV_ROUND_UP(max_frame, CHUNK_FRAMES) * sizeof(struct seen *);
    struct domain *d;

    a.chunks = heap_alloc(bytes);
    if (!a.chunks) {
        log_error("audit: no memory for it\n");
        return 1;
    }
    spin_lock(&domain_work_lock);
    /* None comes or goes without domain_list_lock, but with it held nobody can be waited for: so pause first. */
    for (d = domain_next(NULL); d; d = domain_next(d))
        if (d != current->domain) {
            domain_pause(d);
            d->paused_for_audit = true;
        }
    spin_lock(&domain_list_lock);
    lock_domains();
    each_frame(&a, visit);
    audit_nested(&a);
    audit_vcpus(&a);
    audit_grants(&a);
    each_frame(&a, check);
    unlock_domains();
    spin_unlock(&domain_list_lock);
    for (d = domain_next(NULL); d; d = domain_next(d))
        if (d->paused_for_audit) {
            d->paused_for_audit = false;
            domain_unpause(d);
        }
    spin_unlock(&domain_work_lock);
    for (uint64_t i = 0; i < bytes / sizeof(struct seen *); i++)
        if (a.chunks[i])
            free_pages(a.chunks[i], 0);
    heap_free(a.chunks);
    log_info("audit: %u findings\n", a.findings);
    return a.findings;
}

/* One at a time: a second one would wait for the first, which waits for the vcpu that made the call. */
unsigned frame_audit(void)
{
    static bool at_work;
    unsigned findings;

    if (__atomic_exchange_n(&at_work, true, __ATOMIC_ACQUIRE)) {
        log_error("audit: there is one already\n");
        return 1;
    }
    findings = audit();
    __atomic_store_n(&at_work, false, __ATOMIC_RELEASE);
    return findings;
}
