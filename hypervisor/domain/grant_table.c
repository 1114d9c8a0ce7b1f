/* The granter's side of grant tables: frames, versions, entries and who uses them. See domain/grant.h. */
#include "domain/grant_private.h"
#include "hvm/p2m.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"
#include "lib/nospec.h"
#include "lib/string.h"
#include "memory/alloc.h"
#include "memory/frame_inline.h"
#include "memory/map.h"

#define V1_PER_FRAME (PAGE_SIZE / sizeof(grant_entry_v1_t))
#define V2_PER_FRAME (PAGE_SIZE / sizeof(grant_entry_v2_t))
#define STATUS_PER_FRAME (PAGE_SIZE / sizeof(grant_status_t))
#define FRAMES_PER_STATUS_FRAME (STATUS_PER_FRAME / V2_PER_FRAME)
#define GRANT_ACTIVE_PER_PAGE (PAGE_SIZE / sizeof(struct grant_active))
#define ATTEMPTS 5 /* to read an entry that the guest changes meanwhile */
#define MAX_USERS 0xffff
#define PIN_POPULATE 1 /* beside GNTST_*, which are not positive */

enum kind { PAGE, SUB_PAGE, TRANSITIVE, UNKNOWN };

struct grant_active {
    uint16_t readers, writers; /* users; the rest is valid if there are any */
    domid_t by;
    uint16_t kind;
    uint32_t frame; /* TRANSITIVE: the next entry's number */
    uint16_t start; /* SUB_PAGE; TRANSITIVE: the next entry's domain */
    uint16_t length;
};
_Static_assert(sizeof(struct grant_active) == 16, "no division to find one");

/* An entry as it was read once: both versions brought to one form */
struct entry {
    uint16_t flags;
    domid_t by;
    uint16_t kind, start, length; /* as in struct grant_active */
    uint64_t frame;
};

static uint32_t per_frame(unsigned version) { return version == 2 ? V2_PER_FRAME : V1_PER_FRAME; }

static uint64_t *v1_entry(const struct grant_table *g, grant_ref_t ref)
{
    return (uint64_t *)g->shared[ref / V1_PER_FRAME] + ref % V1_PER_FRAME;
}

static grant_entry_v2_t *v2_entry(const struct grant_table *g, grant_ref_t ref)
{
    return (grant_entry_v2_t *)g->shared[ref / V2_PER_FRAME] + ref % V2_PER_FRAME;
}

static grant_status_t *status_of(const struct grant_table *g, grant_ref_t ref)
{
    return g->status[ref / STATUS_PER_FRAME] + ref % STATUS_PER_FRAME;
}

static struct grant_active *active_at(const struct grant_table *g, grant_ref_t ref)
{
    struct grant_active *page = g->active[ref / GRANT_ACTIVE_PER_PAGE];

    return page ? page + ref % GRANT_ACTIVE_PER_PAGE : NULL;
}

static bool in_use(const struct grant_active *a) { return a && (a->readers || a->writers); }

/* ---- The table's frames; g->lock is held ---- */

static void *new_frame(struct domain *d)
{
    void *page = alloc_pages(0);

    if (page)
        frame_share(virt_to_mfn(page), d, true);
    return page;
}

static bool grow_status(struct domain *d, uint32_t frames)
{
    struct grant_table *g = &d->grant;

    while (g->status_frames < DIV_ROUND_UP(frames, FRAMES_PER_STATUS_FRAME)) {
        grant_status_t *page = new_frame(d);

        if (!page)
            return false;
        g->status[g->status_frames++] = page;
    }
    return true;
}

static int grow(struct domain *d, uint32_t wanted)
{
    struct grant_table *g = &d->grant;

    if (!g->version || d->dying || wanted > g->max_frames)
        return -EINVAL;
    if (g->version == 2 && !grow_status(d, wanted))
        return -ENOMEM;
    while (g->frames < wanted) {
        void *page = new_frame(d);

        if (!page)
            return -ENOMEM;
        g->shared[g->frames++] = page;
        g->entries = g->frames * per_frame(g->version);
    }
    return 0;
}

int grant_init_domain(struct domain *d, uint32_t max_frames, uint32_t max_maptrack_frames, unsigned max_version)
{
    struct grant_table *g = &d->grant;
    uint32_t status = DIV_ROUND_UP(max_frames, FRAMES_PER_STATUS_FRAME);
    uint32_t active = max_frames * DIV_ROUND_UP(V1_PER_FRAME, GRANT_ACTIVE_PER_PAGE);
    void **tables;
    int rc;

    if (!max_frames || max_frames > GRANT_MAX_FRAMES || max_maptrack_frames > GRANT_MAX_MAPTRACK_FRAMES ||
        max_version < 1 || max_version > 2)
        return -EINVAL;
    tables = heap_alloc((max_frames + status + active) * sizeof(void *));
    if (!tables)
        return -ENOMEM;
    spin_lock_init(&g->lock);
    spin_lock_init(&g->map_lock);
    g->shared = tables;
    g->status = (grant_status_t **)(tables + max_frames);
    g->active = (struct grant_active **)(tables + max_frames + status);
    g->max_frames = max_frames;
    g->max_map_pages = max_maptrack_frames;
    g->max_version = max_version;
    g->version = 1;
    rc = grow(d, 1);
    if (rc) {
        memset(g, 0, sizeof(*g));
        heap_free(tables);
    }
    return rc;
}

void grant_destroy_domain(struct domain *d)
{
    struct grant_table *g = &d->grant;
    uint32_t frames, active = g->max_frames * DIV_ROUND_UP(V1_PER_FRAME, GRANT_ACTIVE_PER_PAGE);

    BUG_ON(g->mapped);
    spin_lock(&g->lock);
    frames = g->frames;
    g->version = 0;
    g->frames = g->entries = 0; /* from here on no entry is found */
    spin_unlock(&g->lock);
    for (uint32_t i = 0; i < frames; i++)
        frame_disown(virt_to_mfn(g->shared[i]), d);
    for (uint32_t i = 0; i < g->status_frames; i++)
        frame_disown(virt_to_mfn(g->status[i]), d);
    g->status_frames = 0;
    for (uint32_t i = 0; g->active && i < active; i++)
        free_pages(g->active[i], 0);
    heap_free(g->shared);
    g->shared = NULL;
    g->active = NULL;
}

int grant_acquire_frame(struct domain *d, bool status, unsigned long index, mfn_t *mfn)
{
    struct grant_table *g = &d->grant;
    int rc = -EINVAL;

    spin_lock(&g->lock);
    if (index < g->max_frames && (!status || (g->version == 2 && index * FRAMES_PER_STATUS_FRAME < g->max_frames)))
        rc = grow(d, (uint32_t)(status ? index * FRAMES_PER_STATUS_FRAME : index) + 1);
    if (!rc)
        *mfn = virt_to_mfn(status ? g->status[index] : g->shared[index]);
    spin_unlock(&g->lock);
    return rc;
}

unsigned grant_max_frames(const struct domain *d, bool status)
{
    return status ? DIV_ROUND_UP(d->grant.max_frames, FRAMES_PER_STATUS_FRAME) : d->grant.max_frames;
}

int16_t grant_setup(struct domain *d, uint32_t frames)
{
    struct grant_table *g = &d->grant;
    int rc;

    spin_lock(&g->lock);
    rc = grow(d, frames);
    spin_unlock(&g->lock);
    if (!rc)
        return GNTST_okay;
    return refuse(GNTST_general_error, "setup_table: no %u frames for d%u, at most %u: %d\n", frames, d->id,
                  g->max_frames, rc);
}

mfn_t grant_frame(struct domain *d, bool status, uint32_t i)
{
    struct grant_table *g = &d->grant;
    mfn_t m = INVALID_MFN;

    spin_lock(&g->lock);
    if (!status && i < g->frames)
        m = virt_to_mfn(g->shared[i]);
    else if (status && g->version == 2 && i < g->status_frames)
        m = virt_to_mfn(g->status[i]);
    spin_unlock(&g->lock);
    return m;
}

/* ---- Reading entries ---- */

/* How many a user gets of the frame */
static inline uint32_t references_of(enum grant_use use) { return use == GRANT_MAP ? 2 : 1; }

/* May 'by' use the entry in this way? */
static bool check(const struct domain *granter, grant_ref_t ref, const struct entry *e, domid_t by, bool writable,
                  enum grant_use use)
{
    const char *why;

    if ((e->flags & GTF_type_mask) == GTF_invalid)
        why = "it is empty";
    else if ((e->flags & GTF_type_mask) == GTF_accept_transfer)
        why = "it accepts a transfer";
    else if (e->kind == UNKNOWN)
        why = "version 1 has no transitive grants";
    else if (e->by != by)
        why = "it is for another domain";
    else if (writable && e->flags & GTF_readonly)
        why = "it is read-only";
    else if (use == GRANT_MAP && (e->kind != PAGE || e->flags & GTF_sub_page))
        why = "parts of pages and transitive grants are only for copies";
    else if (e->kind == TRANSITIVE && use == GRANT_COPY_LAST)
        why = "it is transitive, for a transitive one";
    else if (e->kind == SUB_PAGE && (uint32_t)e->start + e->length > PAGE_SIZE)
        why = "its part of the page is beyond the page";
    else
        return true;
    guest_log(LOG_WARNING, "grant %u of d%u (flags 0x%x, for d%u): %s\n", ref, granter->id, e->flags, e->by, why);
    return false;
}

static void give_frame(uint64_t n, bool writable, uint32_t references)
{
    if (writable)
        frame_writables_put(frame_of(MFN(n)), references);
    else
        frame_refs_put(frame_of(MFN(n)), references);
}

/* A frame's references for one user, if it is one like most: the granter's RAM, marked as foreign if it has to be. */
static inline __attribute__((always_inline)) bool take_plain(const struct domain *granter, uint64_t n, bool foreign,
                                                             bool writable, uint32_t references)
{
    struct frame *f = frame_of(MFN(n));

    if (unlikely(
            !mfn_valid(MFN(n)) || f->control & FRAME_SHARED || (foreign && !(f->control & FRAME_FOREIGN)) ||
            !(writable ? frame_writables_get(f, granter, references) : frame_refs_get(f, granter->id, references))))
        return false;
    if (likely(!foreign || f->control & FRAME_FOREIGN))
        return true;
    give_frame(n, writable, references); /* it was freed and came back to its owner, without the mark, a moment ago */
    return false;
}

/* The same for one that has no mark. Once it has references it keeps the mark. */
static bool take_unmarked(const struct domain *granter, uint64_t n, bool writable, uint32_t references)
{
    bool ok;

    if (!frame_get_foreign(MFN(n), granter, writable))
        return false;
    ok = take_plain(granter, n, true, writable, references);
    give_frame(n, writable, 1);
    return ok;
}

/* The same for every frame, with a word about what is wrong. GNTST_* */
static int16_t take_frame(const struct domain *granter, grant_ref_t ref, uint64_t n, bool foreign, bool writable,
                          uint32_t references)
{
    const struct frame *f;

    if (!mfn_valid(MFN(n)) || frame_owner(f = frame_of(MFN(n))) != granter->id)
        return refuse(GNTST_bad_page, "grant %u of d%u: frame 0x%lx does not belong to it\n", ref, granter->id, n);
    if (f->control & FRAME_SHARED)
        return refuse(GNTST_bad_page, "grant %u of d%u: frame 0x%lx is Croft's\n", ref, granter->id, n);
    if (take_plain(granter, n, foreign, writable, references) ||
        (foreign && take_unmarked(granter, n, writable, references)))
        return GNTST_okay;
    return refuse(GNTST_general_error, "grant %u of d%u: frame 0x%lx may not be written (type 0x%lx)\n", ref,
                  granter->id, n, f->type);
}

static bool as_latched(const struct grant_active *a, const struct entry *e)
{
    return !in_use(a) || (a->by == e->by && a->kind == e->kind && a->frame == e->frame && a->start == e->start &&
                          a->length == e->length);
}

static void decode_v1(uint64_t raw, struct entry *e)
{
    *e = (struct entry){.flags = (uint16_t)raw,
                        .by = (domid_t)(raw >> 16),
                        .frame = raw >> 32,
                        .length = PAGE_SIZE,
                        .kind = (raw & GTF_type_mask) == GTF_transitive ? UNKNOWN : PAGE};
}

static void decode_v2(const uint64_t raw[2], struct entry *e)
{
    *e = (struct entry){.flags = (uint16_t)raw[0], .by = (domid_t)(raw[0] >> 16), .frame = raw[1], .length = PAGE_SIZE};
    if ((e->flags & GTF_type_mask) == GTF_transitive) {
        e->kind = TRANSITIVE;
        e->start = (uint16_t)(raw[0] >> 32);
        e->frame = (uint32_t)raw[1];
    } else if (e->flags & GTF_sub_page) {
        e->kind = SUB_PAGE;
        e->start = (uint16_t)(raw[0] >> 32);
        e->length = (uint16_t)(raw[0] >> 48);
    }
}

/* How the two versions read an entry and mark it as in use. mark: false if the entry changed since it was read. */
static inline void read_entry(const struct grant_table *g, grant_ref_t ref, uint64_t raw[2])
{
    if (likely(g->version == 1)) {
        raw[0] = READ_ONCE(*v1_entry(g, ref));
    } else {
        const uint64_t *e = (const uint64_t *)v2_entry(g, ref);

        raw[0] = READ_ONCE(e[0]);
        raw[1] = READ_ONCE(e[1]);
    }
}

static inline bool mark_entry(const struct grant_table *g, grant_ref_t ref, const struct grant_active *a,
                              const uint64_t raw[2], unsigned marks)
{
    uint64_t old = raw[0], again[2] = {0};
    grant_status_t *status;

    if (likely(g->version == 1))
        return __atomic_compare_exchange_n(v1_entry(g, ref), &old, old | marks, false, __ATOMIC_SEQ_CST,
                                           __ATOMIC_RELAXED);
    status = status_of(g, ref);
    __atomic_fetch_or(status, (grant_status_t)marks,
                      __ATOMIC_SEQ_CST); /* a full barrier: the granter clears the entry, then looks */
    read_entry(g, ref, again);
    if (likely(again[0] == raw[0] && again[1] == raw[1]))
        return true;
    if (!a->writers)
        marks = a->readers ? marks & GTF_writing : marks;
    else
        marks = 0;
    __atomic_fetch_and(status, (grant_status_t)~marks, __ATOMIC_RELEASE);
    return false;
}

static void clear_marks(const struct grant_table *g, grant_ref_t ref, unsigned marks)
{
    uint16_t *where = likely(g->version == 1) ? (uint16_t *)v1_entry(g, ref) : status_of(g, ref);

    __atomic_fetch_and(where, (uint16_t)~marks, __ATOMIC_SEQ_CST);
}

/* The active entry; null: no memory */
static struct grant_active *make_active(struct grant_table *g, grant_ref_t ref)
{
    struct grant_active **page = &g->active[ref / GRANT_ACTIVE_PER_PAGE];

    if (unlikely(!*page))
        *page = alloc_pages(0);
    return active_at(g, ref);
}

/* What nearly always is wanted: a whole page by an entry of version 1 that nobody uses. False, with nothing done: the long way. */
static inline bool pin_plain(struct domain *granter, struct grant_active *a, grant_ref_t ref, domid_t by, bool writable,
                             uint32_t references, struct grant_pin *pin)
{
    struct grant_table *g = &granter->grant;
    uint64_t *where, raw, seen;
    unsigned marks = writable ? GTF_reading | GTF_writing : GTF_reading;

    if (unlikely(g->version != 1 || in_use(a)))
        return false;
    where = v1_entry(g, ref);
    raw = seen = READ_ONCE(*where);
    if (unlikely(((uint32_t)raw & ~(writable ? 0U : (unsigned)GTF_readonly)) !=
                 ((uint32_t)by << 16 | GTF_permit_access)) ||
        unlikely(!take_plain(granter, raw >> 32, by != granter->id, writable, references)))
        return false;
    if (unlikely(!__atomic_compare_exchange_n(where, &seen, raw | marks, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))) {
        give_frame(raw >> 32, writable, references);
        return false;
    }
    *a = (struct grant_active){.readers = !writable,
                               .writers = writable,
                               .by = by,
                               .kind = PAGE,
                               .frame = (uint32_t)(raw >> 32),
                               .length = PAGE_SIZE};
    pin->transitive = false;
    pin->frame = MFN(raw >> 32);
    pin->start = 0;
    pin->length = PAGE_SIZE;
    return true;
}

/*
 * What an entry names: a domain with nested page tables has numbers of its own. It may put another frame behind a number while an
 * entry is in use: each user keeps the frame that was there when it came, with references. What is latched is the granter's number.
 * That frame is held until they are taken (*held; else INVALID_MFN).
 */
static uint64_t machine_frame(const struct domain *granter, const struct entry *e, mfn_t *held)
{
    *held = INVALID_MFN;
    if (likely(!granter->hvm) || e->kind == TRANSITIVE)
        return e->frame;
    *held = p2m_hold(granter, GFN(e->frame));
    return held->n;
}

static void unhold(mfn_t held)
{
    if (unlikely(!mfn_eq(held, INVALID_MFN)))
        frame_put(held);
}

/* PIN_POPULATE: the granter's frame is to come first (*frame). */
static __attribute__((noinline)) int16_t pin_any(struct domain *granter, grant_ref_t ref, domid_t by, bool writable,
                                                 enum grant_use use, struct grant_pin *pin, gfn_t *frame)
{
    struct grant_table *g = &granter->grant;
    uint32_t references = references_of(use);
    struct grant_active *a;

    if (unlikely(ref >= g->entries || granter->dying))
        return refuse(GNTST_bad_gntref, "grant %u of d%u: there are %u\n", ref, granter->id, g->entries);
    ref = (grant_ref_t)index_nospec(ref, g->entries);
    a = make_active(g, ref);
    if (unlikely(!a))
        return refuse(GNTST_no_space, "grant %u of d%u: no memory to use it\n", ref, granter->id);
    if (unlikely(a->readers == MAX_USERS || a->writers == MAX_USERS))
        return refuse(GNTST_general_error, "grant %u of d%u: it has too many users\n", ref, granter->id);
    for (unsigned i = 0; i < ATTEMPTS; i++) {
        uint64_t raw[2], n;
        struct entry e;
        mfn_t held;

        read_entry(g, ref, raw);
        if (likely(g->version == 1))
            decode_v1(raw[0], &e);
        else
            decode_v2(raw, &e);
        if (unlikely(!check(granter, ref, &e, by, writable, use)))
            return GNTST_general_error;
        if (unlikely(!as_latched(a, &e)))
            return refuse(GNTST_general_error, "grant %u of d%u: it was changed while it is in use\n", ref,
                          granter->id);
        n = machine_frame(granter, &e, &held);
        if (likely(e.kind != TRANSITIVE)) {
            int16_t status;

            *frame = GFN(e.frame);
            if (unlikely(granter->hvm && mfn_eq(held, INVALID_MFN) && p2m_kind(granter, *frame) == P2M_ON_DEMAND))
                return PIN_POPULATE;
            status = take_frame(granter, ref, n, by != granter->id, writable, references);
            unhold(held);
            if (unlikely(status != GNTST_okay))
                return status;
        }
        if (likely(mark_entry(g, ref, a, raw, writable ? GTF_reading | GTF_writing : GTF_reading))) {
            *(writable ? &a->writers : &a->readers) += 1;
            a->by = e.by;
            a->kind = e.kind;
            a->frame = (uint32_t)e.frame;
            a->start = e.start;
            a->length = e.length;
            *pin = (struct grant_pin){.transitive = e.kind == TRANSITIVE,
                                      .frame = MFN(n),
                                      .start = e.kind == TRANSITIVE ? 0 : e.start,
                                      .length = e.length,
                                      .next_domain = e.start,
                                      .next_ref = (grant_ref_t)e.frame};
            return GNTST_okay;
        }
        if (e.kind != TRANSITIVE)
            give_frame(n, writable, references);
    }
    return refuse(GNTST_general_error, "grant %u of d%u: it changes all the time\n", ref, granter->id);
}

int16_t grant_pin(struct domain *granter, grant_ref_t ref, domid_t by, bool writable, enum grant_use use,
                  struct grant_pin *pin)
{
    struct grant_table *g = &granter->grant;
    struct grant_active *a;
    int16_t status = GNTST_okay;
    grant_ref_t within;
    gfn_t frame;

    for (unsigned i = 0; i < ATTEMPTS; i++) {
        spin_lock(&g->lock);
        within = (grant_ref_t)index_nospec(ref, g->entries);
        if (unlikely(ref >= g->entries || granter->dying || granter->hvm || !(a = active_at(g, within)) ||
                     !pin_plain(granter, a, within, by, writable, references_of(use), pin)))
            status = pin_any(granter, ref, by, writable, use, pin, &frame);
        spin_unlock(&g->lock);
        if (likely(status != PIN_POPULATE))
            return status;
        if (!pod_populate_now(granter, frame))
            break;
    }
    return refuse(GNTST_general_error, "grant %u of d%u: its frame does not come\n", ref, granter->id);
}

void grant_unpin(struct domain *granter, grant_ref_t ref, bool writable)
{
    struct grant_table *g = &granter->grant;
    struct grant_active *a;
    unsigned marks;

    spin_lock(&g->lock);
    if (likely(ref < g->entries)) { /* else: the table is gone */
        a = active_at(g, ref);
        ASSERT(a && (writable ? a->writers : a->readers));
        *(writable ? &a->writers : &a->readers) -= 1;
        marks = writable && !a->writers ? GTF_writing : 0;
        if (!in_use(a))
            marks |= GTF_reading;
        if (marks)
            clear_marks(g, ref, marks);
    }
    spin_unlock(&g->lock);
}

/* ---- Transfer ---- */

bool grant_transfer_begin(struct domain *to, grant_ref_t ref, domid_t from, uint64_t *pfn)
{
    struct grant_table *g = &to->grant;
    bool ok = false;

    spin_lock(&g->lock);
    for (unsigned i = 0; !ok && i < ATTEMPTS && ref < g->entries; i++) {
        uint64_t raw[2];
        uint32_t header;

        read_entry(g, ref, raw);
        *pfn = g->version == 1 ? raw[0] >> 32 : raw[1];
        header = (uint32_t)raw[0];
        if (header != ((uint32_t)from << 16 | GTF_accept_transfer))
            break;
        ok = __atomic_compare_exchange_n(g->version == 1 ? (uint32_t *)v1_entry(g, ref) : (uint32_t *)v2_entry(g, ref),
                                         &header, header | GTF_transfer_committed, false, __ATOMIC_SEQ_CST,
                                         __ATOMIC_RELAXED);
    }
    spin_unlock(&g->lock);
    if (!ok)
        guest_log(LOG_WARNING, "transfer: grant %u of d%u does not accept a frame of d%u\n", ref, to->id, from);
    return ok;
}

void grant_transfer_end(struct domain *to, grant_ref_t ref, mfn_t m)
{
    struct grant_table *g = &to->grant;

    spin_lock(&g->lock);
    if (ref < g->entries) {
        if (g->version == 1)
            WRITE_ONCE(((grant_entry_v1_t *)v1_entry(g, ref))->frame, (uint32_t)m.n);
        else
            WRITE_ONCE(v2_entry(g, ref)->full_page.frame, m.n);
        smp_wmb();
        __atomic_fetch_or(g->version == 1 ? (uint16_t *)v1_entry(g, ref) : &v2_entry(g, ref)->hdr.flags,
                          GTF_transfer_completed, __ATOMIC_RELEASE);
    }
    spin_unlock(&g->lock);
}

/* ---- The owner's operations ---- */

/* Reads the reserved entries, which survive a change of version: the tools may have them mapped. -EBUSY: one cannot. */
static int save_reserved(const struct grant_table *g, struct entry saved[GNTTAB_NR_RESERVED_ENTRIES])
{
    for (grant_ref_t ref = 0; ref < GNTTAB_NR_RESERVED_ENTRIES; ref++) {
        uint64_t raw[2];

        read_entry(g, ref, raw);
        if (g->version == 1) {
            decode_v1(raw[0], &saved[ref]);
            continue;
        }
        decode_v2(raw, &saved[ref]);
        saved[ref].flags |= *status_of(g, ref) & (GTF_reading | GTF_writing);
        if (saved[ref].kind == PAGE && saved[ref].frame == (uint32_t)saved[ref].frame)
            continue;
        if (in_use(active_at(g, ref)))
            return -EBUSY;
        saved[ref] = (struct entry){0}; /* version 1 has no words for it */
    }
    return 0;
}

static void restore_reserved(struct grant_table *g, const struct entry saved[GNTTAB_NR_RESERVED_ENTRIES])
{
    for (grant_ref_t ref = 0; ref < GNTTAB_NR_RESERVED_ENTRIES; ref++) {
        const struct entry *e = &saved[ref];
        grant_entry_v2_t *to;

        if (g->version == 1) {
            WRITE_ONCE(*v1_entry(g, ref), e->frame << 32 | (uint64_t)e->by << 16 | e->flags);
            continue;
        }
        *status_of(g, ref) = e->flags & (GTF_reading | GTF_writing);
        to = v2_entry(g, ref);
        to->full_page.frame = e->frame;
        to->hdr.domid = e->by;
        smp_wmb();
        WRITE_ONCE(to->hdr.flags, (uint16_t)(e->flags & ~(GTF_reading | GTF_writing)));
    }
}

static int set_version_locked(struct domain *d, unsigned version)
{
    struct grant_table *g = &d->grant;
    struct entry saved[GNTTAB_NR_RESERVED_ENTRIES];
    int rc;

    for (grant_ref_t ref = GNTTAB_NR_RESERVED_ENTRIES; ref < g->entries; ref++) {
        if (!active_at(g, ref))
            ref |= GRANT_ACTIVE_PER_PAGE - 1;
        else if (in_use(active_at(g, ref)))
            return refuse(-EBUSY, "set_version: grant %u is in use\n", ref);
    }
    if (version == 2 && !grow_status(d, g->frames))
        return refuse(-ENOMEM, "set_version: no memory for status frames\n");
    rc = save_reserved(g, saved);
    if (rc)
        return refuse(rc, "set_version: a reserved entry of version 2 is in use\n");
    for (uint32_t i = 0; i < g->frames; i++)
        memset(g->shared[i], 0, PAGE_SIZE);
    for (uint32_t i = 0; i < g->status_frames; i++)
        memset(g->status[i], 0, PAGE_SIZE);
    g->version = version;
    g->entries = g->frames * per_frame(version);
    restore_reserved(g, saved);
    return 0;
}

int grant_set_version(struct domain *d, unsigned version)
{
    struct grant_table *g = &d->grant;
    int rc = 0;

    if (version != 1 && version != 2)
        return refuse(-EINVAL, "set_version: %u\n", version);
    if (version > g->max_version)
        return refuse(-ENOSYS, "set_version: %u is not offered to this domain\n", version);
    spin_lock(&g->lock);
    if (!g->version)
        rc = -EINVAL;
    else if (version != g->version)
        rc = set_version_locked(d, version);
    spin_unlock(&g->lock);
    return rc;
}

static int16_t swap_entries(const struct grant_table *g, grant_ref_t a, grant_ref_t b)
{
    if (a == b)
        return GNTST_okay;
    if (in_use(active_at(g, a)) || in_use(active_at(g, b)))
        return refuse(GNTST_eagain, "swap_grant_ref: %u or %u is in use\n", a, b);
    if (g->version == 1) {
        uint64_t old = *v1_entry(g, a);

        WRITE_ONCE(*v1_entry(g, a), *v1_entry(g, b));
        WRITE_ONCE(*v1_entry(g, b), old);
    } else {
        grant_entry_v2_t old = *v2_entry(g, a);

        *v2_entry(g, a) = *v2_entry(g, b);
        *v2_entry(g, b) = old;
    }
    return GNTST_okay;
}

int16_t grant_swap(struct domain *d, grant_ref_t a, grant_ref_t b)
{
    struct grant_table *g = &d->grant;
    int16_t status;

    spin_lock(&g->lock);
    if (a < g->entries && b < g->entries)
        status = swap_entries(g, (grant_ref_t)index_nospec(a, g->entries), (grant_ref_t)index_nospec(b, g->entries));
    else
        status = refuse(GNTST_bad_gntref, "swap_grant_ref: %u and %u: there are %u\n", a, b, g->entries);
    spin_unlock(&g->lock);
    return status;
}

/* ---- Reports ---- */

/* Users of d's entries from one domain, or from all (null), and the number of entries in use */
static uint64_t count_pins(const struct domain *d, const struct domain *by, uint32_t *used)
{
    const struct grant_table *g = &d->grant;
    uint64_t pins = 0;

    *used = 0;
    for (grant_ref_t ref = 0; ref < g->entries; ref++) {
        const struct grant_active *a = active_at(g, ref);

        if (!a) {
            ref |= GRANT_ACTIVE_PER_PAGE - 1;
        } else if (in_use(a) && (!by || a->by == by->id)) {
            pins += a->readers + a->writers;
            ++*used;
        }
    }
    return pins;
}

struct owned {
    domid_t owner;
    uint64_t count;
};

static void count_owned(void *arg, mfn_t m, bool writable)
{
    struct owned *o = arg;

    o->count += frame_owner(frame_of(m)) == o->owner;
}

bool grant_counts_agree(const struct domain *d, const struct domain *by, uint64_t *pins, uint64_t *mappings)
{
    struct owned o = {.owner = d->id};
    uint32_t used;

    grant_each_mapping(by, count_owned, &o);
    *mappings = o.count;
    *pins = count_pins(d, by, &used);
    return !d->grant.version || *pins == *mappings; /* without a table nobody counts them any more */
}

void grant_key_report(void)
{
    struct domain *d;

    for (d = domain_next(NULL); d; d = domain_next(d)) {
        struct grant_table *g = &d->grant;
        uint64_t pins;
        uint32_t used;

        spin_lock(&g->lock);
        pins = count_pins(d, NULL, &used);
        spin_unlock(&g->lock);
        log_info("%s: grant table version %u, %u of %u frames; %u grants in use by %lu; has mapped %u, "
                 "in %u pages of %u\n",
                 d->name, g->version, g->frames, g->max_frames, used, pins, g->mapped, g->map_pages, g->max_map_pages);
    }
}
