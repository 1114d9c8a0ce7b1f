/*
 * The guest's own page tables, walked in software: for the copies of hypercalls, and to read an instruction. Memory that comes on demand
 * comes between two attempts, unless the caller has interrupts disabled: then it is as if it were not there.
 *
 * Memory found here is not held by a reference. Instead interrupts are disabled from the look-up to the last access: this CPU is in
 * d->dirty_cpus while a vcpu of d is current, so whoever takes a frame out of the p2m waits for it before he gives the frame away
 * (hvm/p2m.h).
 */
#include "cpu/instr.h"
#include "domain/domain.h"
#include "hvm/vendor.h"
#include "hvm/vmcb.h"
#include "lib/log.h"
#include "lib/string.h"
#include "memory/map.h"

#define PAGE_OFFSET(a) ((a) & ~PAGE_MASK)
#define TRIES 8        /* of setting a bit of an entry that another vcpu is changing */
#define POPULATIONS 16 /* for one page: each table on the way, the page, and what a sweep took meanwhile */
#define NOTHING_ABSENT (~0UL)

struct format {
    unsigned levels, bits; /* how many tables; bits of the address that each one translates */
    unsigned entry_bytes;
};
static const struct format two_level = {2, 10, 4}, pae = {3, 9, 8}, four_level = {4, 9, 8};

static void *frame_of_guest(const struct vcpu *v, uint64_t gpa, bool write)
{
    gfn_t gfn = GFN(gpa >> PAGE_SHIFT);
    mfn_t m = write ? p2m_lookup_writable(v->domain, gfn) : p2m_lookup(v->domain, gfn);

    if (likely(!mfn_eq(m, INVALID_MFN)))
        return (char *)mfn_to_virt(m) + PAGE_OFFSET(gpa);
    v->hvm->walk_absent = gpa >> PAGE_SHIFT;
    return NULL;
}

/*
 * The same for current, with interrupts disabled. It remembers where large pieces of memory are, as of a count of the p2m's flushes:
 * entries are changed before the count, and whoever counts waits for this CPU.
 */
static inline void *frame_of_current(struct vcpu *v, uint64_t gpa, bool write)
{
    struct hvm_vcpu *h = v->hvm;
    uint64_t flushes = READ_ONCE(v->domain->hvm->p2m.flushes), number = gpa >> P2M_PIECE_SHIFT;
    struct hvm_piece *p = &h->pieces[number % ARRAY_SIZE(h->pieces)];
    mfn_t first;

    if (likely(p->number == number && p->at && p->flushes == flushes))
        return p->at + (gpa & (P2M_PIECE_SIZE - 1));
    first = p2m_lookup_piece(v->domain, GFN(gpa >> PAGE_SHIFT));
    if (mfn_eq(first, INVALID_MFN))
        return frame_of_guest(v, gpa, write);
    *p = (struct hvm_piece){.number = number, .flushes = flushes, .at = mfn_to_virt(first)};
    return p->at + (gpa & (P2M_PIECE_SIZE - 1));
}

bool hvm_read_physical(const struct vcpu *v, uint64_t address, void *to, size_t n)
{
    const void *from = frame_of_guest(v, address, false);

    if (from)
        memcpy(to, from, n);
    return from;
}

static uint64_t read_entry(const void *at, unsigned bytes)
{
    return bytes == 8 ? READ_ONCE(*(const uint64_t *)at) : READ_ONCE(*(const uint32_t *)at);
}

/* Sets A, or A and D, as the processor does. False: the entry has changed. */
static bool mark(void *at, unsigned bytes, uint64_t entry, uint64_t flags)
{
    uint32_t small = (uint32_t)entry;

    if ((entry & flags) == flags)
        return true;
    if (bytes == 8)
        return __atomic_compare_exchange_n((uint64_t *)at, &entry, entry | flags, false, __ATOMIC_SEQ_CST,
                                           __ATOMIC_RELAXED);
    return __atomic_compare_exchange_n((uint32_t *)at, &small, (uint32_t)(entry | flags), false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_RELAXED);
}

static uint64_t frame_address(uint64_t entry, const struct format *f)
{
    return entry & (f->entry_bytes == 8 ? PTE_ADDR : 0xfffff000UL);
}

static inline struct hvm_walk *walk_of(struct vcpu *v, uint64_t va)
{
    return &v->hvm->walks[va >> PAGE_SHIFT & (ARRAY_SIZE(v->hvm->walks) - 1)];
}

enum walk_result { WALK_OK, WALK_FAULT, WALK_AGAIN };

/* need: PTE_WRITE, PTE_USER, or both, if the access is one that needs them. *w: where the entries were. Inline: once for each format. */
static inline __attribute__((always_inline)) enum walk_result walk_once(struct vcpu *v, const struct format *f,
                                                                        uint64_t cr3, uint64_t va, uint64_t need,
                                                                        uint64_t *gpa, struct hvm_walk *w)
{
    uint64_t table = cr3 & (f == &four_level ? PTE_ADDR : f == &pae ? 0xffffffe0UL : 0xfffff000UL), rights = ~0UL;
    bool large = f != &two_level || hvm_vendor->get(v, HVM_CR4) & CR4_PSE;

    for (unsigned level = f->levels;; level--) {
        unsigned shift = PAGE_SHIFT + f->bits * (level - 1);
        uint64_t index = va >> shift & ((1UL << f->bits) - 1), entry, flags, size = 1UL << shift;
        bool leaf, pdpte = f == &pae && level == 3;
        void *at = frame_of_current(v, table + index * f->entry_bytes, true); /* its bits will be set */

        if (!at)
            return WALK_FAULT;
        entry = read_entry(at, f->entry_bytes);
        leaf = level == 1 || (entry & PTE_PSE && !pdpte && level < 4 && large);
        if (!(entry & PTE_PRESENT) || (!pdpte && (entry & need) != need))
            return WALK_FAULT;
        flags = PTE_ACCESSED | (leaf && need & PTE_WRITE ? PTE_DIRTY : 0);
        if (!pdpte && !mark(at, f->entry_bytes, entry, flags))
            return WALK_AGAIN;
        entry |= flags;
        rights &= entry;
        if (f == &four_level)
            for (unsigned i = leaf ? 0 : level - 1; i < level; i++) { /* of a large page the rest, too */
                w->at[i] = at;
                w->entries[i] = entry;
            }
        if (leaf) {
            *gpa = (frame_address(entry, f) & ~(size - 1)) | (va & (size - 1));
            if (f == &two_level && level == 2) /* PSE-36: more bits of the address */
                *gpa |= (entry >> 13 & 0xff) << 32;
            w->rights = entry & PTE_DIRTY ? rights : rights & ~(uint64_t)PTE_WRITE;
            return WALK_OK;
        }
        table = frame_address(entry, f);
    }
}

static enum walk_result walk_32(struct vcpu *v, uint64_t cr3, uint64_t va, uint64_t need, uint64_t *gpa)
{
    struct hvm_walk not_kept;

    if (hvm_vendor->get(v, HVM_CR4) & CR4_PAE)
        return walk_once(v, &pae, cr3, va, need, gpa, &not_kept);
    return walk_once(v, &two_level, cr3, va, need, gpa, &not_kept);
}

/* The memory behind va; need as above; null: it would be a page fault. */
static void *walk(struct vcpu *v, const struct hvm_paging *paging, uint64_t va, uint64_t need)
{
    bool long_mode = paging->efer & EFER_LMA;
    struct hvm_walk *w = walk_of(v, va);
    enum walk_result r = WALK_AGAIN;
    uint64_t gpa = (uint32_t)va;
    void *at;

    if (!(paging->cr0 & CR0_PG))
        return frame_of_current(v, gpa, need & PTE_WRITE);
    if (long_mode ? !address_canonical(va) : va >> 32)
        return NULL;
    w->frame = NULL;
    w->flushes = READ_ONCE(v->domain->hvm->p2m.flushes);
    for (unsigned i = 0; i < TRIES && r == WALK_AGAIN; i++)
        r = long_mode ? walk_once(v, &four_level, paging->cr3, va, need, &gpa, w)
                      : walk_32(v, paging->cr3, va, need, &gpa);
    if (r != WALK_OK)
        return NULL;
    at = frame_of_current(v, gpa, true);
    if (!at)
        return frame_of_current(v, gpa, need & PTE_WRITE);
    if (long_mode) {
        w->page = va & PAGE_MASK;
        w->cr3 = paging->cr3;
        w->frame = (char *)at - PAGE_OFFSET(va);
    }
    return at;
}

/* The same by an earlier walk, if all its entries are still there; null: they are not. */
static inline void *walked(struct vcpu *v, const struct hvm_paging *paging, uint64_t va, uint64_t need)
{
    const struct hvm_walk *w = walk_of(v, va);
    uint64_t changes;

    if (w->page != (va & PAGE_MASK) || !w->frame || w->cr3 != paging->cr3 || !(paging->efer & EFER_LMA) ||
        (w->rights & need) != need || w->flushes != READ_ONCE(v->domain->hvm->p2m.flushes))
        return NULL;
    _Static_assert(ARRAY_SIZE(w->at) == 4, "all of them");
    changes = (READ_ONCE(*w->at[0]) ^ w->entries[0]) | (READ_ONCE(*w->at[1]) ^ w->entries[1]) |
              (READ_ONCE(*w->at[2]) ^ w->entries[2]) | (READ_ONCE(*w->at[3]) ^ w->entries[3]);
    return changes ? NULL : w->frame + PAGE_OFFSET(va);
}

static inline void transfer(void *at, void *to, const void *from, size_t n)
{
    if (to)
        memcpy(to, at, n);
    else if (from)
        memcpy(at, from, n);
    else
        memset(at, 0, n);
}

/* Copies 'n' bytes between Croft and one page of the guest's: to the guest from 'from', or from it to 'to'. */
static inline bool copy_walked(struct vcpu *v, uint64_t va, void *to, const void *from, size_t n, uint64_t need)
{
    unsigned long flags = irq_save();
    struct hvm_paging paging = hvm_vendor->paging(v);
    void *at = walked(v, &paging, va, need);

    if (likely(at))
        transfer(at, to, from, n);
    irq_restore(flags);
    return at;
}

static bool copy_once(struct vcpu *v, uint64_t va, void *to, const void *from, size_t n, uint64_t need)
{
    unsigned long flags = irq_save();
    struct hvm_paging paging = hvm_vendor->paging(v);
    void *at;

    v->hvm->walk_absent = NOTHING_ABSENT;
    at = walk(v, &paging, va, need);
    if (at)
        transfer(at, to, from, n);
    irq_restore(flags);
    return at;
}

/* The frame that the last attempt found missing is there now. */
static bool absent_comes(const struct vcpu *v)
{
    gfn_t gfn = GFN(v->hvm->walk_absent);

    return gfn.n != NOTHING_ABSENT && irqs_enabled() && p2m_kind(v->domain, gfn) == P2M_ON_DEMAND &&
           pod_populate_now(v->domain, gfn);
}

static bool copy_in_page(struct vcpu *v, uint64_t va, void *to, const void *from, size_t n, uint64_t need)
{
    for (unsigned i = 0; i <= POPULATIONS; i++) {
        if (likely(copy_once(v, va, to, from, n, need)))
            return true;
        if (!absent_comes(v))
            break;
    }
    return false;
}

static __attribute__((noinline)) size_t copy(uint64_t va, void *to, const void *from, size_t n, uint64_t need)
{
    struct vcpu *v = current;

    while (n) {
        size_t part = min(n, PAGE_SIZE - PAGE_OFFSET(va));

        if (!copy_walked(v, va, to, from, part, need) && !copy_in_page(v, va, to, from, part, need))
            break;
        va += part;
        n -= part;
        if (to)
            to = (char *)to + part;
        else if (from)
            from = (const char *)from + part;
    }
    return n;
}

size_t hvm_copy_from_guest(void *to, uint64_t va, size_t n)
{
    struct vcpu *v = current;

    if (likely(n <= PAGE_SIZE - PAGE_OFFSET(va))) /* the arguments of most calls */
        return copy_walked(v, va, to, NULL, n, 0) || copy_in_page(v, va, to, NULL, n, 0) ? 0 : n;
    return copy(va, to, NULL, n, 0);
}

size_t hvm_copy_to_guest(uint64_t va, const void *from, size_t n) { return copy(va, NULL, from, n, PTE_WRITE); }

size_t hvm_copy_to_user(uint64_t va, const void *from, size_t n)
{
    return copy(va, NULL, from, n, PTE_WRITE | PTE_USER);
}

bool hvm_code_is(struct vcpu *v, const struct hvm_paging *paging, uint64_t rip, uint32_t code, unsigned n)
{
    unsigned long flags = irq_save();
    const void *at = walked(v, paging, rip, 0);
    uint32_t found;
    bool same = false;

    if (at && PAGE_OFFSET(rip) <= PAGE_SIZE - sizeof(found)) {
        __builtin_memcpy(&found, at, sizeof(found)); /* no call */
        same = !((found ^ code) << (32 - 8 * n));
    }
    irq_restore(flags);
    return same;
}

unsigned hvm_fetch(struct vcpu *v, const struct cpu_user_regs *regs, uint8_t *to, unsigned n)
{
    struct hvm_segment cs = hvm_vendor->segment(v, SEG_CS);
    bool long_mode = hvm_vendor->get(v, HVM_EFER) & EFER_LMA && cs.attributes & SEGMENT_L;
    uint64_t va = long_mode ? regs->rip : (uint32_t)(cs.base + regs->rip);

    return n - (unsigned)hvm_copy_from_guest(to, va, n);
}

bool hvm_decode(struct vcpu *v, const struct cpu_user_regs *regs, struct insn *insn)
{
    struct hvm_segment cs = hvm_vendor->segment(v, SEG_CS);
    bool long_mode = hvm_vendor->get(v, HVM_EFER) & EFER_LMA && cs.attributes & SEGMENT_L;
    uint8_t bytes[INSN_MAX_LENGTH];
    unsigned n = hvm_fetch(v, regs, bytes, sizeof(bytes));

    return insn_decode(bytes, n, long_mode, insn) == DECODE_OK;
}

/* The entries through which a 64-bit guest's address goes, for a report of its crash. v is current, or does not run. */
void hvm_report_walk(const struct vcpu *v, uint64_t va)
{
    uint64_t table = hvm_vendor->get(v, HVM_CR3) & PTE_ADDR, entry;

    if (!(hvm_vendor->get(v, HVM_EFER) & EFER_LMA))
        return;
    for (unsigned level = 4; level; level--) {
        uint64_t index = va >> (PAGE_SHIFT + 9 * (level - 1)) & 511;
        mfn_t m = p2m_hold(v->domain, GFN(table >> PAGE_SHIFT));

        if (mfn_eq(m, INVALID_MFN)) {
            log_info("address %016lx: its table %lx is not there\n", va, table);
            return;
        }
        entry = READ_ONCE(((const uint64_t *)mfn_to_virt(m))[index]);
        frame_put(m);
        log_info("address %016lx: entry %lu of table %lx (level %u, machine frame %lx): %lx\n", va, index, table, level,
                 m.n, entry);
        if (!(entry & PTE_PRESENT) || (entry & PTE_PSE && level < 4))
            return;
        table = entry & PTE_ADDR;
    }
}
