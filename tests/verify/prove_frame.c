/* options: -eva-slevel 100 -eva-split-return-function eva_exchange:0,frame_cas:0 */
/*
 * memory/frame_inline.h and memory/frame.c: each change that they make to a control or type word is one that memory/frame.h allows,
 * whatever other CPUs do to the word between two steps. So counts do not run into their neighbours, only the owner of a frame in
 * use gets a reference, a page table in use never becomes WRITABLE, one that was a table is flushed for, and who drops the last
 * use makes others wait for its stamp. The ASSERTs on the way hold.
 *
 * A word is one of a class: owner and flags (or type and flags), which are given, and a count, any from a range. Where a
 * compare-and-exchange fails, or the word is read again, it is any of another class; all pairs of classes are looked at, and a
 * wait for a flag (TYPE_LEAVING, TYPE_FLUSHING) is taken to end.
 * Bounds: the classes below; 1 to 512 references at once, where the last one goes 1.
 */
#define eva_load(p) waited_for()
#include "memory/frame.h"
#ifdef NO_COUNT /* is looked at */
#undef FRAME_REFS
#define FRAME_REFS(c) 1U
#endif
#ifdef NO_OWNER /* is looked at */
#undef FRAME_OWNER
#define FRAME_OWNER(c) OWN
#endif
#ifdef NO_TYPE /* is looked at */
#undef TYPE_OF
#define TYPE_OF(t) FRAME_WRITABLE
#endif
#ifdef NO_LEAVING /* is set, nor waited for */
#undef TYPE_LEAVING
#define TYPE_LEAVING 0UL
#endif
#define OWN 5U
#define OTHER 7U

struct word {
    uint64_t base;
    uint32_t least, most; /* count */
};
static const struct word *before, *after;

static uint64_t any(const struct word *w) { return w->base + Frama_C_unsigned_int_interval(w->least, w->most); }
static uint64_t waited_for(void);

#include "memory/frame_inline.h"
#include "memory/frame.c"

#define MANY 0x7fffffffU
#define CONTROL(owner, flags, least, most)                                                                             \
    {                                                                                                                  \
        (uint64_t)(owner) << 32 | (flags), least, most                                                                 \
    }
#define CONTROLS(flags)                                                                                                \
    CONTROL(OWN, flags, 0, 0), CONTROL(OWN, flags, 1, MANY), CONTROL(OWN, flags, MANY + 1, UINT32_MAX),                \
        CONTROL(OTHER, flags, 1, UINT32_MAX)
static const struct word controls[] = {CONTROLS(0), CONTROLS(FRAME_ALLOCATED | FRAME_FOREIGN)};
/* The caller has the references that it drops, and others have some. */
static const struct word held[] = {CONTROL(OWN, 0, 1024, UINT32_MAX), CONTROL(OWN, FRAME_ALLOCATED, 1024, UINT32_MAX)};

#define TYPE(t, flags, least, most)                                                                                    \
    {                                                                                                                  \
        (uint64_t)(t) << 32 | (flags), least, most                                                                     \
    }
static const struct word types[] = {
    TYPE(FRAME_NONE, 0, 0, 0),
    TYPE(FRAME_WRITABLE, 0, 0, 0),
    TYPE(FRAME_WRITABLE, 1UL << 39, 0, 0), /* TYPE_LEAVING */
    TYPE(FRAME_WRITABLE, 0, 1, MANY),
    TYPE(FRAME_WRITABLE, 0, MANY + 1, UINT32_MAX),
    TYPE(FRAME_WRITABLE, TYPE_FLUSHING, 1, MANY),
    TYPE(FRAME_L1, 0, 0, 0),
    TYPE(FRAME_L1, TYPE_VALIDATED, 1, UINT32_MAX),
    TYPE(FRAME_L4, 0, 1, 1),
    TYPE(FRAME_L4, TYPE_VALIDATED | TYPE_PINNED, 1, UINT32_MAX),
    TYPE(FRAME_SEGDESC, 0, 0, 0),
    TYPE(FRAME_SEGDESC, TYPE_VALIDATED, 1, UINT32_MAX),
};
static const struct word written[] = {TYPE(FRAME_WRITABLE, 0, 1024, UINT32_MAX)};
static const struct word last[] = {TYPE(FRAME_WRITABLE, 0, 1, 1), TYPE(FRAME_WRITABLE, 0, 2, UINT32_MAX),
                                   TYPE(FRAME_WRITABLE, TYPE_FLUSHING, 2, UINT32_MAX)};

static struct percpu cpu;
static struct domain d = {.id = OWN};
static struct frame f;
static const uint64_t *proved; /* the word that others change */
static bool getting;           /* a get, not a put */

struct percpu *this_cpu(void) { return &cpu; }

/* A word that is read until a flag is gone: each wait ends. */
static uint64_t waited_for(void)
{
    before = after->base & 3UL << 38 ? &types[1] : after;
    return any(before);
}

/* An ASSERT that does not hold */
void panic(const char *fmt, ...)
{
    /*@ assert never: \false; */
    for (;;)
        ;
}

static void check_control(const struct word *class, uint64_t old, uint64_t new)
{
    uint32_t count = (uint32_t)old, now = (uint32_t) new;

    /*@ assert owner_and_flags_stay: (new >> 32) == (old >> 32); */
    if (getting) {
        /*@ assert owner: (class->base >> 32) % 65536 == 5; */
        /*@ assert in_use: 1 <= count; */
        /*@ assert more: 2 <= now <= 0x7fffffff + 512; */
    }
}

static void check_type(const struct word *class, uint64_t old, uint64_t new)
{
    uint32_t now = (uint32_t) new;

    /*@ assert becomes_writable: (new >> 32) % 16 == 1; */
    if (!getting) {
        /*@ assert was_writable: (old >> 32) % 16 == 1; */
        /*@ assert flags_stay: now == 0 || (new >> 32) == (old >> 32); */
        /*@ assert leaving: now != 0 || (new >> 39) % 2 == 1; */
    } else if (class->most) {
        /*@ assert stays: (new >> 32) == (old >> 32); */
        /*@ assert more: 2 <= now <= 0x7fffffff + 512; */
    } else {
        /*@ assert waited: (old >> 39) % 2 == 0; */
        /*@ assert flushed: (old >> 32) % 16 <= 1 || (new >> 38) % 2 == 1; */
        /*@ assert counted: 1 <= now <= 512; */
    }
}

bool eva_exchange(uint64_t *word, uint64_t *old, uint64_t new)
{
    if (word == proved) {
        if (Frama_C_interval(0, 1)) {
            before = after;
            *word = *old = any(after); /* also for who reads it anew */
            return false;
        }
        if (word == &f.control)
            check_control(before, *old, new);
        else
            check_type(before, *old, new);
    }
    *word = new;
    return true;
}

static void prove(const struct word *words, unsigned count, uint64_t *word, void (*call)(uint32_t n), uint32_t n_max)
{
    uint32_t n = Frama_C_unsigned_int_interval(1, n_max);

    proved = word;
    /*@ loop unroll 20; */
    for (unsigned i = 0; i < count; i++) {
        /*@ loop unroll 20; */
        for (unsigned j = 0; j < count; j++) {
            before = &words[i];
            after = &words[j];
            f.control = ((uint64_t)OWN << 32 | FRAME_ALLOCATED) + 2000;
            f.type = 0;
            *word = any(before);
            call(n);
        }
    }
}

static void refs_get(uint32_t n) { (void)frame_refs_get(&f, OWN, n); }
static void refs_put(uint32_t n) { frame_refs_put(&f, n); }
static void writables_get(uint32_t n) { (void)frame_writables_get(&f, &d, n); }
static void writables_put(uint32_t n) { frame_writables_put(&f, n); }
static void last_put(uint32_t n) { frame_last_writable_put(&f); }

int main(void)
{
    getting = true;
    prove(controls, ARRAY_SIZE(controls), &f.control, refs_get, 512);
    prove(types, ARRAY_SIZE(types), &f.type, writables_get, 512);
    getting = false;
    prove(held, ARRAY_SIZE(held), &f.control, refs_put, 512);
    prove(written, ARRAY_SIZE(written), &f.type, writables_put, 512);
    prove(last, ARRAY_SIZE(last), &f.type, last_put, 1);
    return 0;
}
