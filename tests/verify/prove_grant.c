/*
 * domain/grant_table.c: for every content of the granter's pages and every reference that pin_any lets through (below 'entries'), reading,
 * marking and unmarking an entry stay within the table's pages, and what a decoded entry says is of the right kind.
 * Bounds: a table of two frames, one status frame.
 */
#define eva_load(p) (*(p))
#include "domain/grant_table.c"

#define FRAMES 2
static uint64_t pages[FRAMES][PAGE_SIZE / 8];
static grant_status_t status[PAGE_SIZE / sizeof(grant_status_t)];
static struct grant_active active[GRANT_ACTIVE_PER_PAGE];

bool eva_exchange(uint64_t *word, uint64_t *old, uint64_t new)
{
    *word = Frama_C_interval(0, 1) ? new : *old;
    return Frama_C_interval(0, 1);
}

static void prove(struct grant_table *g, unsigned version)
{
    uint64_t raw[2] = {0};
    struct grant_active *a;
    struct entry e;
    grant_ref_t ref;

    g->version = version;
    g->entries = g->frames * per_frame(version);
#ifdef NO_LIMIT /* of references: one more */
    ref = Frama_C_unsigned_int_interval(0, g->entries);
#else
    ref = Frama_C_unsigned_int_interval(0, g->entries - 1);
#endif
    a = active_at(g, ref);
    read_entry(g, ref, raw);
    if (version == 1)
        decode_v1(raw[0], &e);
    else
        decode_v2(raw, &e);
    /*@ assert kind: e.kind <= 3; */
    /*@ assert version == 1 ==> e.length == 4096 && e.start == 0; */
    if (a)
        (void)mark_entry(g, ref, a, raw, GTF_reading | GTF_writing);
    clear_marks(g, ref, GTF_reading);
}

int main(void)
{
    void *shared[FRAMES] = {pages[0], pages[1]};
    grant_status_t *status_pages[1] = {status};
    struct grant_active *active_pages[FRAMES * V1_PER_FRAME / GRANT_ACTIVE_PER_PAGE] = {active, active, active, NULL};
    struct grant_table g = {.frames = FRAMES, .shared = shared, .status = status_pages, .active = active_pages};

    Frama_C_make_unknown((char *)pages, sizeof(pages));
    Frama_C_make_unknown((char *)status, sizeof(status));
    Frama_C_make_unknown((char *)active, sizeof(active));
    prove(&g, 1);
    prove(&g, 2);
    return 0;
}
