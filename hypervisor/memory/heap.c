/*
 * The heap: objects of 32 to 2048 bytes (powers of two) cut from single pages, anything larger in whole pages.
 *
 * What a page is used for stands in the type word of its frame, which is free for such use in frames of Croft's:
 *   small objects: HEAP_SMALL, size class, objects in use, and the number of the first free object (chained through the
 *                  free objects themselves); pages with free objects are in their class's list (frame->next, prev);
 *   large ones:    HEAP_LARGE and how many pages.
 * So an object needs no header, and is aligned to its size class. Locks: one per class; pages are allocated and freed
 * outside it.
 */
#include "lib/string.h"
#include "lib/log.h"
#include "lib/spinlock.h"
#include "memory/alloc.h"
#include "memory/frame.h"
#include "memory/map.h"

#define HEAP_SMALL (1UL << 60)
#define HEAP_LARGE (1UL << 61)
#define HEAP_KIND (HEAP_SMALL | HEAP_LARGE)
#define LARGE_PAGES(type) (0xffffffffUL & (type))

#define SMALLEST_SHIFT 5 /* 32 bytes */
#define LARGEST_SHIFT 11 /* 2 KiB */
#define CLASSES (LARGEST_SHIFT - SMALLEST_SHIFT + 1)
#define NO_OBJECT 0xffU /* ends a chain: a page has at most 128 objects */

struct class {
    spinlock_t lock;
    uint32_t partial; /* pages with a free object, 0: none */
};
static struct class classes[CLASSES];

/* The type word of a page of small objects */
struct small {
    unsigned class, used, first;
};

static struct small small_unpack(uint64_t type)
{
    return (struct small){type >> 16 & 0xff, type >> 8 & 0xff, type & 0xff};
}
static uint64_t small_pack(struct small s)
{
    return HEAP_SMALL | (uint64_t)s.class << 16 | (uint64_t)s.used << 8 | s.first;
}
static unsigned class_shift(unsigned class) { return class + SMALLEST_SHIFT; }
static unsigned class_objects(unsigned class) { return (unsigned)(PAGE_SIZE >> class_shift(class)); }

static void partial_add(struct class *c, mfn_t m)
{
    struct frame *f = frame_of(m);

    f->prev = 0;
    f->next = c->partial;
    if (f->next)
        frame_of(MFN(f->next))->prev = (uint32_t)m.n;
    c->partial = (uint32_t)m.n;
}

static void partial_remove(struct class *c, mfn_t m)
{
    struct frame *f = frame_of(m);

    if (f->next)
        frame_of(MFN(f->next))->prev = f->prev;
    if (f->prev)
        frame_of(MFN(f->prev))->next = f->next;
    else
        c->partial = f->next;
}

/* A fresh page, all of its objects chained. */
static mfn_t new_page(unsigned class)
{
    mfn_t m = alloc_frames(0, NODE_ANY);
    unsigned objects = class_objects(class);

    if (mfn_eq(m, INVALID_MFN))
        return m;
    for (unsigned i = 0; i < objects; i++)
        ((uint8_t *)mfn_to_virt(m))[i << class_shift(class)] = (uint8_t)(i + 1 < objects ? i + 1 : NO_OBJECT);
    frame_of(m)->type = small_pack((struct small){class, 0, 0});
    return m;
}

static void *small_alloc(unsigned class)
{
    struct class *c = &classes[class];
    struct small s;
    uint8_t *object;
    mfn_t m, spare = INVALID_MFN;

    spin_lock(&c->lock);
    if (!c->partial) {
        spin_unlock(&c->lock);
        m = new_page(class);
        if (mfn_eq(m, INVALID_MFN))
            return NULL;
        spin_lock(&c->lock);
        if (c->partial) /* somebody was faster, or gave an object back */
            spare = m;
        else
            partial_add(c, m);
    }
    m = MFN(c->partial);
    s = small_unpack(frame_of(m)->type);
    object = (uint8_t *)mfn_to_virt(m) + ((size_t)s.first << class_shift(class));
    s.first = *object;
    s.used++;
    frame_of(m)->type = small_pack(s);
    if (s.first == NO_OBJECT)
        partial_remove(c, m);
    spin_unlock(&c->lock);
    if (!mfn_eq(spare, INVALID_MFN))
        free_frames(spare, 0);
    memset(object, 0, 1UL << class_shift(class));
    return object;
}

static void small_free(uint8_t *object, mfn_t m)
{
    struct frame *f = frame_of(m);
    struct small s = small_unpack(f->type); /* only the class: the rest may change until the lock is held */
    size_t offset = (size_t)object & ~PAGE_MASK;
    struct class *c;
    bool empty;

    BUG_ON(s.class >= CLASSES || offset & ((1UL << class_shift(s.class)) - 1));
    c = &classes[s.class];
    spin_lock(&c->lock);
    s = small_unpack(f->type);
    BUG_ON(!s.used);
    if (s.first == NO_OBJECT)
        partial_add(c, m);
    *object = (uint8_t)s.first;
    s.first = (unsigned)(offset >> class_shift(s.class));
    s.used--;
    f->type = small_pack(s);
    empty = !s.used;
    if (empty)
        partial_remove(c, m);
    spin_unlock(&c->lock);
    if (empty)
        free_frames(m, 0);
}

void *heap_alloc(size_t size)
{
    uint64_t pages = size / PAGE_SIZE + (size % PAGE_SIZE != 0);
    mfn_t m;

    if (unlikely(alloc_fault_due()))
        return NULL;
    if (size <= 1UL << LARGEST_SHIFT)
        return small_alloc(size <= 1UL << SMALLEST_SHIFT ? 0 : ilog2(size - 1) + 1 - SMALLEST_SHIFT);
    m = alloc_frame_run(pages, NODE_ANY);
    if (mfn_eq(m, INVALID_MFN))
        return NULL;
    frame_of(m)->type = HEAP_LARGE | pages;
    return mfn_to_virt(m);
}

void heap_free(void *p)
{
    mfn_t m;
    uint64_t type;

    if (!p)
        return;
    m = virt_to_mfn(p);
    type = READ_ONCE(frame_of(m)->type);
    if ((type & HEAP_KIND) == HEAP_SMALL) {
        small_free(p, m);
    } else {
        BUG_ON((type & HEAP_KIND) != HEAP_LARGE || ((size_t)p & ~PAGE_MASK));
        free_frame_run(m, LARGE_PAGES(type));
    }
}
