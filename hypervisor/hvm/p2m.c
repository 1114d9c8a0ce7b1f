/*
 * Nested page tables: see hvm/p2m.h. AMD64 APM volume 2, 15.25: the format is that of long mode's own page tables (5.3). That of EPT
 * (Intel SDM volume 3, 28.3.2) has the address, "present" (readable there) and "large" at the same places.
 */
#include "cpu/cpu.h"
#include "cpu/smp.h"
#include "domain/domain.h"
#include "hvm/hvm.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"
#include "memory/alloc.h"
#include "memory/map.h"

#define LEVELS 4
#define LEVEL_BITS 9
#define ENTRIES (1U << LEVEL_BITS)
#define PREEMPT_EVERY 32

static unsigned level_order(unsigned level) { return LEVEL_BITS * (level - 1); }
/* How many frames one entry covers */
static uint64_t level_frames(unsigned level) { return 1UL << level_order(level); }

/* ---- Entries: what depends on the format ---- */

/*
 * The nested walk counts as a user's access, and the guest's own tables say what may be read, written, run. Accessed and
 * dirty are there from the start, so that the processor never writes to an entry: plain stores are enough here. Memory is
 * write-back: the guest's own PAT has the last word.
 */
#define NPT_TABLE (PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_ACCESSED)
#define NPT_LEAF (NPT_TABLE | PTE_DIRTY)
#define EPT_TABLE 7UL                   /* readable, writable, executable */
#define EPT_LEAF (EPT_TABLE | 6UL << 3) /* write-back */
#define EPT_EXECUTE 4UL
/* All of an entry that is on demand: AMD-V ignores bits 63-1 of one that is not present, VT-x bits 63-3 (SDM volume 3, 29.3.2; bit 10
 * is not among them with mode-based execute control). No bit of the address is set. */
#define ENTRY_ON_DEMAND (1UL << 11)

/* Of a leaf that is a grant; both ignore bits 52-56. Nothing is executed there. */
#define ENTRY_GRANT (1UL << 52)

static struct {
    uint64_t table, leaf, grant; /* bits of an entry that points to a table, maps memory, or a grant for writing */
    bool gib_pages;
} format = {NPT_TABLE, NPT_LEAF, NPT_LEAF | PTE_NX | ENTRY_GRANT, false};

void p2m_set_format(bool ept, bool gib_pages)
{
    format.table = ept ? EPT_TABLE : NPT_TABLE;
    format.leaf = ept ? EPT_LEAF : NPT_LEAF;
    format.grant = ENTRY_GRANT | (ept ? EPT_LEAF & ~EPT_EXECUTE : NPT_LEAF | PTE_NX);
    format.gib_pages = gib_pages;
}

static bool is_present(uint64_t e) { return e & PTE_PRESENT; }
static bool is_on_demand(uint64_t e) { return e == ENTRY_ON_DEMAND; }
/* Of a present entry */
static bool is_leaf(uint64_t e, unsigned level) { return level == 1 || (e & PTE_PSE); }
static uint64_t make_leaf(mfn_t m, unsigned level)
{
    return mfn_to_maddr(m).n | format.leaf | (level > 1 ? PTE_PSE : 0);
}
static uint64_t make_grant(mfn_t m, bool writable)
{
    return mfn_to_maddr(m).n | (format.grant & ~(writable ? 0 : PTE_WRITE));
}
/* Of leaves */
static bool is_writable(uint64_t e) { return e & PTE_WRITE; }
static bool is_grant(uint64_t e) { return is_present(e) && e & ENTRY_GRANT; }
static uint64_t make_pointer(const uint64_t *table) { return virt_to_maddr(table).n | format.table; }
static mfn_t entry_mfn(uint64_t e) { return pte_mfn(e); }
static unsigned highest_leaf_level(void) { return format.gib_pages ? 3 : 2; }

/* ---- Tables ---- */

static bool is_pointer(uint64_t e, unsigned level) { return is_present(e) && !is_leaf(e, level); }
static uint64_t *table_of(uint64_t pointer) { return mfn_to_virt(entry_mfn(pointer)); }
static uint64_t *slot(uint64_t *table, uint64_t gfn, unsigned level)
{
    return &table[gfn >> level_order(level) & (ENTRIES - 1)];
}

/* After whatever was written before: a table is complete before it can be walked. */
static void set_entry(uint64_t *e, uint64_t value) { __atomic_store_n(e, value, __ATOMIC_RELEASE); }

static uint64_t *new_table(struct p2m *p)
{
    uint64_t most = P2M_TABLES_MAX(READ_ONCE(p->d->max_pages) + p->pod.most_entries);
    uint64_t *table = p->table_pages < most ? alloc_pages(0) : NULL;

    p->table_pages += table != NULL;
    return table;
}

/*
 * Puts a table in the place of a leaf, a mark, or nothing, that translates as that did. CPUs may have the leaf cached and keep it until
 * the next flush; the references are the same.
 */
static bool make_table(struct p2m *p, uint64_t *e, unsigned level)
{
    uint64_t *table = new_table(p);

    if (!table)
        return false;
    for (unsigned i = 0; is_present(*e) && i < ENTRIES; i++)
        table[i] = make_leaf(mfn_add(entry_mfn(*e), i * level_frames(level - 1)), level - 1);
    for (unsigned i = 0; is_on_demand(*e) && i < ENTRIES; i++)
        table[i] = ENTRY_ON_DEMAND;
    set_entry(e, make_pointer(table));
    return true;
}

/* The entry of that level, with all tables above it; null: no memory. */
static uint64_t *make_entry(struct p2m *p, uint64_t gfn, unsigned level)
{
    uint64_t *table = p->root, *e;

    for (unsigned l = LEVELS;; l--) {
        e = slot(table, gfn, l);
        if (l == level)
            return e;
        if (!is_pointer(*e, l) && !make_table(p, e, l))
            return NULL;
        table = table_of(*e);
    }
}

int p2m_init(struct domain *d)
{
    struct p2m *p = &d->hvm->p2m;

    spin_lock_init(&p->lock);
    p->d = d;
    p->root = new_table(p);
    return p->root ? 0 : -ENOMEM;
}

static inline mfn_t lookup(const struct domain *d, gfn_t gfn, bool write)
{
    uint64_t *table = d->hvm->p2m.root, e;

    if (gfn.n > P2M_MAX_GFN)
        return INVALID_MFN;
    for (unsigned level = LEVELS;; level--) {
        e = READ_ONCE(*slot(table, gfn.n, level));
        if (!is_present(e))
            return INVALID_MFN;
        if (is_leaf(e, level))
            return write && !is_writable(e) ? INVALID_MFN : mfn_add(entry_mfn(e), gfn.n & (level_frames(level) - 1));
        table = table_of(e);
    }
}

mfn_t p2m_lookup(const struct domain *d, gfn_t gfn) { return lookup(d, gfn, false); }
mfn_t p2m_lookup_writable(const struct domain *d, gfn_t gfn) { return lookup(d, gfn, true); }

/* Where the walk ends, and what the entry is. gfn is in range. */
static uint64_t find(const struct p2m *p, uint64_t gfn, unsigned *level, uint64_t **at)
{
    uint64_t *table = p->root, e;

    for (*level = LEVELS;; --*level) {
        *at = slot(table, gfn, *level);
        e = READ_ONCE(**at);
        if (!is_pointer(e, *level))
            return e;
        table = table_of(e);
    }
}

mfn_t p2m_lookup_piece(const struct domain *d, gfn_t gfn)
{
    uint64_t *at, e;
    unsigned level;

    if (gfn.n > P2M_MAX_GFN)
        return INVALID_MFN;
    e = find(&d->hvm->p2m, gfn.n, &level, &at);
    if (level == 1 || !is_present(e) || !is_writable(e))
        return INVALID_MFN;
    return mfn_add(entry_mfn(e), gfn.n & (level_frames(level) - 1) & ~(level_frames(2) - 1));
}

static enum p2m_kind kind_of(uint64_t e)
{
    if (is_grant(e))
        return is_writable(e) ? P2M_GRANT_RW : P2M_GRANT_RO;
    return is_present(e) ? P2M_RAM : is_on_demand(e) ? P2M_ON_DEMAND : P2M_HOLE;
}

enum p2m_kind p2m_kind(const struct domain *d, gfn_t gfn)
{
    uint64_t *at;
    unsigned level;

    return gfn.n > P2M_MAX_GFN ? P2M_HOLE : kind_of(find(&d->hvm->p2m, gfn.n, &level, &at));
}

uint64_t p2m_next(const struct domain *d, uint64_t gfn, uint64_t end)
{
    uint64_t *at;
    unsigned level;

    while (gfn < end && gfn <= P2M_MAX_GFN) {
        if (kind_of(find(&d->hvm->p2m, gfn, &level, &at)) != P2M_HOLE)
            return gfn;
        gfn = (gfn | (level_frames(level) - 1)) + 1;
    }
    return end;
}

#define TRIES 16 /* of what goes wrong only if the guest changes its memory at the same time */

/*
 * A sweep puts the mark there first, and takes the frame only if nobody has a reference then. So whoever gets his reference too late
 * finds the mark, or another frame, when he looks again.
 */
mfn_t p2m_hold(const struct domain *d, gfn_t gfn)
{
    for (unsigned i = 0; i < TRIES; i++) {
        mfn_t m = p2m_lookup(d, gfn);
        bool held = frame_get(m, d);

        if (mfn_eq(p2m_lookup(d, gfn), m))
            return held ? m : INVALID_MFN;
        if (held)
            frame_put(m);
    }
    return INVALID_MFN;
}

mfn_t p2m_get_frame(struct domain *d, gfn_t gfn, bool writable)
{
    mfn_t m = p2m_hold(d, gfn);
    bool ok = true;

    for (unsigned i = 0; mfn_eq(m, INVALID_MFN) && i < TRIES && p2m_kind(d, gfn) == P2M_ON_DEMAND; i++) {
        if (!pod_populate_now(d, gfn))
            return INVALID_MFN;
        m = p2m_hold(d, gfn);
    }
    if (mfn_eq(m, INVALID_MFN) || !writable)
        return m;
    ok = frame_get_writable(m, d);
    frame_put(m);
    return ok ? m : INVALID_MFN;
}

/* What matters is that the interrupt is taken: hvm/p2m.h */
static void leave_guest(void *unused) {}

void p2m_flush(struct domain *d)
{
    __atomic_fetch_add(&d->hvm->p2m.flushes, 1, __ATOMIC_SEQ_CST);
    smp_call(&d->dirty_cpus, leave_guest, NULL);
}

/* ---- Adding ---- */

static void put_frames(mfn_t m, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        frame_put_writable(mfn_add(m, i));
}

/* All or none */
static bool get_frames(const struct domain *d, mfn_t m, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        if (!frame_get_writable(mfn_add(m, i), d)) {
            put_frames(m, i);
            return false;
        }
    return true;
}

/* Leaves that are out of the tables, with their references still, for there was no flush yet */
struct old_leaf {
    mfn_t m;
    uint64_t count;
};
struct old_leaves {
    struct domain *d;
    struct old_leaf one, *list; /* list: &one, or a page */
    unsigned n, room;
};

static void drop_old(struct old_leaves *o)
{
    if (!o->n)
        return;
    p2m_flush(o->d);
    for (unsigned i = 0; i < o->n; i++)
        put_frames(o->list[i].m, o->list[i].count);
    o->n = 0;
}

static void add_old(struct old_leaves *o, uint64_t e, unsigned level)
{
    if (!is_present(e))
        return;
    if (o->n == o->room)
        drop_old(o);
    o->list[o->n++] = (struct old_leaf){entry_mfn(e), level_frames(level)};
}

/* The entry that shall map a page of that level, and all that may need memory. Null: there is none. */
static uint64_t *prepare(struct p2m *p, uint64_t gfn, unsigned level, struct old_leaves *old)
{
    uint64_t *e = make_entry(p, gfn, level);
    struct old_leaf *list;

    if (!e || (level > highest_leaf_level() && !make_entry(p, gfn, level - 1)))
        return NULL;
    if (!is_pointer(*e, level))
        return e;
    list = alloc_pages(0);
    if (!list)
        return NULL;
    old->list = list;
    old->room = PAGE_SIZE / sizeof(*list);
    return e;
}

/* One leaf, or, where a table is, as many below it. The references are taken. */
static void set_leaves(struct old_leaves *old, uint64_t *e, unsigned level, mfn_t m)
{
    uint64_t before = *e, *table;

    if (!is_pointer(before, level)) {
        if (is_on_demand(before))
            old->d->hvm->p2m.pod.entries -= level_frames(level);
        set_entry(e, make_leaf(m, level));
        add_old(old, before, level);
        return;
    }
    table = table_of(before);
    for (unsigned i = 0; i < ENTRIES; i++)
        set_leaves(old, &table[i], level - 1, mfn_add(m, i * level_frames(level - 1)));
}

static bool holds(uint64_t e, unsigned level, bool (*what)(uint64_t e))
{
    if (!is_pointer(e, level))
        return what(e);
    for (unsigned i = 0; i < ENTRIES; i++)
        if (holds(table_of(e)[i], level - 1, what))
            return true;
    return false;
}

static bool range_valid(gfn_t gfn, mfn_t mfn, unsigned order)
{
    if (order != level_order(1) && order != level_order(2) && order != level_order(3))
        return false;
    return gfn.n <= P2M_MAX_GFN && !((gfn.n | mfn.n) & ((1UL << order) - 1));
}

int p2m_add(struct domain *d, gfn_t gfn, mfn_t mfn, unsigned order)
{
    struct p2m *p = &d->hvm->p2m;
    struct old_leaves old = {.d = d, .list = &old.one, .room = 1};
    unsigned level = 1 + order / LEVEL_BITS;
    uint64_t *e = NULL, count;
    int rc = 0;

    if (!range_valid(gfn, mfn, order))
        return -EINVAL;
    count = 1UL << order;
    if (!get_frames(d, mfn, count))
        return -EINVAL;
    spin_lock(&p->lock);
    if (d->dying) /* p2m_release may have been here already */
        rc = -EINVAL;
    else if (!(e = prepare(p, gfn.n, level, &old)))
        rc = -ENOMEM;
    else if (holds(*e, level, is_grant))
        rc = -EBUSY;
    if (!rc) {
        set_leaves(&old, e, level, mfn);
        p->max_gfn = max(p->max_gfn, gfn.n + count - 1);
    }
    spin_unlock(&p->lock);
    if (rc)
        put_frames(mfn, count);
    drop_old(&old);
    if (old.list != &old.one)
        free_pages(old.list, 0);
    return rc;
}

/* ---- Removing ---- */

mfn_t p2m_remove(struct domain *d, gfn_t gfn, int *error)
{
    struct p2m *p = &d->hvm->p2m;
    mfn_t m = INVALID_MFN;
    uint64_t *e;

    *error = 0;
    spin_lock(&p->lock);
    if (p2m_kind(d, gfn) != P2M_HOLE) {
        e = make_entry(p, gfn.n, 1);
        if (!e) {
            *error = -ENOMEM;
        } else if (is_grant(*e)) {
            *error = -EBUSY;
        } else if (is_on_demand(*e)) {
            *error = P2M_WAS_ON_DEMAND;
            p->pod.entries--;
            set_entry(e, 0);
        } else {
            m = entry_mfn(*e);
            set_entry(e, 0);
        }
    }
    spin_unlock(&p->lock);
    if (!mfn_eq(m, INVALID_MFN))
        p2m_flush(d);
    return m;
}

/* ---- Grants ---- */

int p2m_add_grant(struct domain *d, gfn_t gfn, mfn_t mfn, bool writable)
{
    struct p2m *p = &d->hvm->p2m;
    uint64_t *e;
    int rc = 0;

    if (gfn.n > P2M_MAX_GFN)
        return -EINVAL;
    spin_lock(&p->lock);
    if (d->dying) {
        rc = -EINVAL;
    } else if (p2m_kind(d, gfn) != P2M_HOLE) {
        rc = -EEXIST;
    } else if (!(e = make_entry(p, gfn.n, 1))) {
        rc = -ENOMEM;
    } else {
        set_entry(e, make_grant(mfn, writable));
        p->max_gfn = max(p->max_gfn, gfn.n);
    }
    spin_unlock(&p->lock);
    return rc;
}

bool p2m_remove_grant(struct domain *d, gfn_t gfn, mfn_t mfn)
{
    struct p2m *p = &d->hvm->p2m;
    unsigned level;
    uint64_t *at;
    bool there;

    spin_lock(&p->lock);
    there = is_grant(find(p, gfn.n, &level, &at)) && mfn_eq(entry_mfn(*at), mfn);
    if (there)
        set_entry(at, 0);
    spin_unlock(&p->lock);
    return there;
}

/* ---- The end ---- */

/* Goes on to the next leaf, and takes it out, or to the end of a table: some hundred loads at most. Marks go on the way. */
static void release_next(struct domain *d)
{
    struct p2m *p = &d->hvm->p2m;
    uint64_t *table = p->root, *e;
    unsigned level = LEVELS;

    spin_lock(&p->lock);
    for (;;) {
        e = slot(table, p->release_gfn, level);
        if (is_pointer(*e, level)) {
            table = table_of(*e);
            level--;
            continue;
        }
        p->release_gfn = (p->release_gfn | (level_frames(level) - 1)) + 1;
        if (is_on_demand(*e)) {
            p->pod.entries -= level_frames(level);
            set_entry(e, 0);
        }
        if (is_present(*e) || !(p->release_gfn & (level_frames(level + 1) - 1)))
            break;
    }
    if (is_present(*e)) {
        p->dropping = entry_mfn(*e);
        p->dropping_writable = is_writable(*e);
        p->dropping_count = level_frames(level);
        set_entry(e, 0);
    }
    spin_unlock(&p->lock);
    if (p->dropping_count) /* no vcpu runs, so this costs nothing */
        p2m_flush(d);
}

bool p2m_release(struct domain *d)
{
    struct p2m *p = &d->hvm->p2m;
    unsigned done = 0;

    ASSERT(d->dying);
    /* Whoever adds and saw the domain alive is through after this; the others see that it is dying. */
    spin_lock(&p->lock);
    spin_unlock(&p->lock);
    if (!pod_release(p))
        return false;
    for (; p->dropping_count || (p->root && p->release_gfn <= p->max_gfn); done++) {
        if (done && done % PREEMPT_EVERY == 0 && hypercall_preempt_check())
            return false;
        if (!p->dropping_count) {
            release_next(d);
        } else {
            p->dropping_count--;
            (p->dropping_writable ? frame_put_writable : frame_put)(mfn_add(p->dropping, p->dropping_count));
        }
    }
    return true;
}

static void free_tables(struct p2m *p, uint64_t *table, unsigned level)
{
    for (unsigned i = 0; level > 1 && i < ENTRIES; i++)
        if (is_pointer(table[i], level))
            free_tables(p, table_of(table[i]), level - 1);
    free_pages(table, 0);
    p->table_pages--;
}

void p2m_destroy(struct domain *d)
{
    struct p2m *p = &d->hvm->p2m;

    if (p->root)
        free_tables(p, p->root, LEVELS);
    p->root = NULL;
}

/* ---- For hvm/pod.c ---- */

void p2m_find(struct p2m *p, uint64_t gfn, struct p2m_place *to)
{
    uint64_t e = find(p, gfn, &to->level, &to->e);

    to->kind = kind_of(e);
    to->m = to->kind == P2M_RAM ? mfn_add(entry_mfn(e), gfn & (level_frames(to->level) - 1)) : INVALID_MFN;
}

uint64_t *p2m_make_entry(struct p2m *p, uint64_t gfn, unsigned level) { return make_entry(p, gfn, level); }
void p2m_set_leaf(uint64_t *e, mfn_t m, unsigned level) { set_entry(e, make_leaf(m, level)); }
void p2m_set_mark(uint64_t *e) { set_entry(e, ENTRY_ON_DEMAND); }

/* Returns how many frames had no mark before. */
static uint64_t set_marks(uint64_t *e, unsigned level)
{
    uint64_t fresh = 0;

    if (is_pointer(*e, level)) {
        for (unsigned i = 0; i < ENTRIES; i++)
            fresh += set_marks(&table_of(*e)[i], level - 1);
    } else if (!is_on_demand(*e)) {
        fresh = level_frames(level);
        p2m_set_mark(e);
    }
    return fresh;
}

int p2m_mark(struct p2m *p, uint64_t gfn, unsigned level, uint64_t *fresh)
{
    uint64_t *e = make_entry(p, gfn, level);

    *fresh = 0;
    if (!e)
        return -ENOMEM;
    if (holds(*e, level, is_present))
        return -EEXIST;
    *fresh = set_marks(e, level);
    p->max_gfn = max(p->max_gfn, gfn + level_frames(level) - 1);
    return 0;
}

/* ---- The audit ---- */

struct each {
    p2m_leaf_fn *fn;
    void *arg;
};

static void each_leaf(const struct each *each, uint64_t *table, uint64_t gfn, unsigned level)
{
    for (unsigned i = 0; i < ENTRIES; i++, gfn += level_frames(level)) {
        if (is_pointer(table[i], level))
            each_leaf(each, table_of(table[i]), gfn, level - 1);
        else if (is_present(table[i]))
            each->fn(each->arg, (gfn_t){gfn}, entry_mfn(table[i]), level_order(level), kind_of(table[i]));
    }
}

void p2m_each(struct domain *d, p2m_leaf_fn *fn, void *arg)
{
    const struct each each = {fn, arg};

    if (d->hvm->p2m.root)
        each_leaf(&each, d->hvm->p2m.root, 0, LEVELS);
}

static uint64_t count_marked(const uint64_t *table, unsigned level)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < ENTRIES; i++) {
        if (is_pointer(table[i], level))
            n += count_marked(table_of(table[i]), level - 1);
        else if (is_on_demand(table[i]))
            n += level_frames(level);
    }
    return n;
}

uint64_t p2m_marked(struct domain *d) { return d->hvm->p2m.root ? count_marked(d->hvm->p2m.root, LEVELS) : 0; }
