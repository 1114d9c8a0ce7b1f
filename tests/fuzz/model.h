/*
 * What the calls of fuzz_calls.c must have done, told without Croft's counts: who owns which frame, what is pinned and loaded, who
 * has mapped which grant, which ports are open. The use of each frame is counted anew after each step, from the roots down, by the
 * entries that are in memory; Croft's frame table has to say exactly that. From the same counts follows what the next call may do.
 */
#ifndef FUZZ_MODEL_H
#define FUZZ_MODEL_H

#include "machine.h"

#define NO_DOM 0xff
#define REFS 24      /* entries of grant tables that are used */
#define MAPPINGS 256 /* a page of them */

static uint8_t owner[RAM_END];         /* 0: free, or Croft's own; else the domain's number plus one */
static bool given[RAM_END];            /* the owner has it still: has not given it back */
static bool croft_page[RAM_END];       /* of Croft's, shared with the owner */
static uint8_t pinned[RAM_END];        /* level */
static uint8_t held_segdesc[RAM_END];  /* references of Croft's: GDT pages */
static uint8_t held_writable[RAM_END]; /* ... vcpu_info and the like */
static uint64_t kernel_root[CPUS], user_root[CPUS];
static bool alive[DOMS], privileged, io_memory;

struct mapping {
    unsigned flags; /* GNTMAP_host_map, GNTMAP_device_map: what is left of it; 0: none */
    bool readonly, by_entry;
    unsigned granter, ref;
    uint64_t frame, table, slot;
};
static struct mapping maps[DOMS][MAPPINGS];
struct pins {
    unsigned readers, writers;
    uint64_t frame;
    unsigned by;
};
static struct pins pins[DOMS][REFS];

enum { CLOSED, UNBOUND, INTERDOMAIN, VIRQ, IPI };
struct port {
    unsigned state, dom, port, vcpu, virq; /* dom: the number of the domain that may bind, or of the other end's */
};
static struct port ports[DOMS][MAX_PORTS];

/* ---- The use of each frame ---- */

struct use {
    uint16_t refs, typed;
    uint8_t type; /* enum frame_type */
};
static struct use use[RAM_END];
static uint64_t owned_by[DOMS][WORDS], granted_read[DOMS][WORDS], granted_write[DOMS][WORDS];
static uint64_t in_table[WORDS], in_writable[WORDS], is_free[WORDS];

static void count_use(uint64_t m, enum frame_type type)
{
    REQUIRE(is_ram(m) && owner[m]);
    use[m].refs++;
    if (type == FRAME_NONE)
        return;
    REQUIRE(!use[m].typed || use[m].type == type); /* never writable and a table, or of two levels */
    use[m].typed++;
    use[m].type = type;
}

static void count_leaf(unsigned dom, uint64_t e)
{
    uint64_t m = pte_mfn(e).n;
    bool writable = e & PTE_WRITE;

    REQUIRE(!(e & PTE_CACHE_L1) || (dom == 0 && io_memory));
    if (!is_ram(m)) {
        REQUIRE(m - IO_MFN < IO_COUNT && dom == 0 && io_memory);
        return;
    }
    count_use(m, writable ? FRAME_WRITABLE : FRAME_NONE);
    REQUIRE(owner[m] == dom + 1 || (dom == 0 && privileged) ||
            bit_get(writable ? granted_write[dom] : granted_read[dom], m));
}

static void count_table(uint64_t m, unsigned level)
{
    bool known;

    REQUIRE(is_ram(m));
    known = use[m].typed;
    count_use(m, FRAME_L1 + level - 1);
    if (known)
        return;
    for_each_entry(ram[m], i)
    {
        uint64_t e = ram[m][i];

        if (level == 4 && l4_slot_is_ours(i)) {
            REQUIRE(e == host_l4[i]);
        } else if (level > 1) {
            REQUIRE(!(e & DISALLOWED_TABLE) && (e & PTE_USER) && owner[pte_mfn(e).n % RAM_END] == owner[m]);
            count_table(pte_mfn(e).n, level - 1);
        } else {
            REQUIRE((e & PTE_USER) && !(e & PTE_GLOBAL));
            count_leaf(owner[m] - 1U, e);
        }
    }
}

static void count_mappings(unsigned d)
{
    for (unsigned i = 0; i < MAPPINGS; i++) {
        const struct mapping *p = &maps[d][i];

        if (!p->flags)
            continue;
        count_use(p->frame, p->readonly ? FRAME_NONE : FRAME_WRITABLE);
        bit_set(granted_read[d], p->frame);
        if (!p->readonly)
            bit_set(granted_write[d], p->frame);
    }
}

static void count_all(void)
{
    memset(use, 0, sizeof(use));
    memset(granted_read, 0, sizeof(granted_read));
    memset(granted_write, 0, sizeof(granted_write));
    for (unsigned d = 0; d < DOMS; d++)
        count_mappings(d);
    for (unsigned m = RAM_FIRST; m < RAM_END; m++) {
        if (!owner[m])
            continue;
        use[m].refs += given[m] + croft_page[m];
        for (unsigned i = 0; i < held_segdesc[m]; i++)
            count_use(m, FRAME_SEGDESC);
        for (unsigned i = 0; i < held_writable[m]; i++)
            count_use(m, FRAME_WRITABLE);
        if (pinned[m])
            count_table(m, pinned[m]);
    }
    for (unsigned cpu = 0; cpu < CPUS; cpu++) {
        if (kernel_root[cpu])
            count_table(kernel_root[cpu], 4);
        if (user_root[cpu])
            count_table(user_root[cpu], 4);
    }
}

/* ---- Croft says the same ---- */

#define CONTROL_FREE ((uint64_t)DOMID_FREE << 32)
#define CONTROL_CROFT (1 | (uint64_t)DOMID_CROFT << 32)

static void check_frame(uint64_t m, unsigned *croft)
{
    const struct frame *f = &frames[m];
    const struct use *u = &use[m];

    if (owner[m] && !u->refs) /* given back, and its last use went */
        owner[m] = 0;
    if (!owner[m]) {
        REQUIRE(f->control == CONTROL_FREE || f->control == CONTROL_CROFT);
        if (f->control == CONTROL_FREE)
            bit_set(is_free, m);
        *croft += f->control == CONTROL_CROFT;
        return;
    }
    bit_set(owned_by[owner[m] - 1], m);
    REQUIRE(FRAME_OWNER(f->control) == owner[m] && FRAME_REFS(f->control) == u->refs);
    REQUIRE(!(f->control & FRAME_ALLOCATED) == !given[m] && !(f->control & FRAME_SHARED) == !croft_page[m]);
    REQUIRE(TYPE_COUNT(f->type) == u->typed && !(f->type & TYPE_PINNED) == !pinned[m]);
    if (!u->typed)
        return;
    REQUIRE(TYPE_OF(f->type) == u->type && !(f->type & TYPE_FLUSHING));
    REQUIRE(!croft_page[m] || u->type == FRAME_WRITABLE);
    if (u->type > FRAME_WRITABLE)
        REQUIRE(f->type & TYPE_VALIDATED);
    bit_set(u->type == FRAME_WRITABLE ? in_writable : in_table, m);
}

/* What a CPU may still read, write and walk belongs to its domain, or is granted; what it may write is no table. */
static void check_tlb(unsigned cpu)
{
    unsigned d = cpu / 2;
    const struct reach *t = &tlb[cpu];

    tlb_load(cpu);
    for (unsigned i = 0; i < WORDS; i++) {
        uint64_t all = owned_by[0][i] | owned_by[1][i] | owned_by[2][i], own = owned_by[d][i], stale;

        if (d == 0 && privileged)
            own = all;
        REQUIRE(!(t->write[i] & in_table[i]) && !(t->walk[i] & in_writable[i]));
        REQUIRE(!((t->read[i] | t->walk[i]) & ~(own | granted_read[d][i] | is_free[i])));
        REQUIRE(!(t->write[i] & ~(own | granted_write[d][i] | is_free[i])));
        for (stale = (t->read[i] | t->walk[i]) & is_free[i]; stale; stale &= stale - 1)
            REQUIRE(cpus[cpu].tlb_time <= frames[RAM_FIRST + i * 64 + (unsigned)__builtin_ctzl(stale)].tlb_stamp);
    }
}

static void check_domain(unsigned d)
{
    unsigned pages = 0;

    for (unsigned m = RAM_FIRST; m < RAM_END; m++)
        pages += owner[m] == d + 1 && !croft_page[m];
    REQUIRE(listed[d] == (alive[d] || pages)); /* a dead one stays a shell as long as others use its frames */
    if (!listed[d])
        return;
    REQUIRE(doms[d].tot_pages == pages && doms[d].dying == !alive[d] && doms[d].refs == (alive[d] ? 2 : 1));
    REQUIRE(!spin_is_locked(&doms[d].mm_lock) && !spin_is_locked(&doms[d].page_list_lock) &&
            !spin_is_locked(&doms[d].grant.lock) && !spin_is_locked(&doms[d].grant.map_lock) &&
            !spin_is_locked(&doms[d].event.lock));
    REQUIRE(!doms[d].pv.held.kept && !doms[d].pv.held.doomed);
}

static void check_ports(unsigned d)
{
    static const uint8_t state[] = {CHANNEL_FREE, CHANNEL_UNBOUND, CHANNEL_INTERDOMAIN, CHANNEL_VIRQ, CHANNEL_IPI};

    for (unsigned i = 0; alive[d] && i < MAX_PORTS; i++) {
        const struct event_channel *c = event_channel_at(&doms[d], i);
        const struct port *p = &ports[d][i], *peer;

        REQUIRE((c ? c->state : CHANNEL_FREE) == state[p->state]);
        if (p->state == CLOSED)
            continue;
        REQUIRE(c->port == i && c->notify_vcpu == p->vcpu);
        if (p->state == UNBOUND)
            REQUIRE(c->source == p->dom);
        if (p->state != INTERDOMAIN)
            continue;
        peer = &ports[p->dom - 1][p->port];
        REQUIRE(c->remote == &doms[p->dom - 1] && c->peer == event_channel_at(&doms[p->dom - 1], p->port));
        REQUIRE(peer->state == INTERDOMAIN && peer->dom == d + 1 && peer->port == i);
    }
}

static void check_all(void)
{
    unsigned croft = 0;

    count_all();
    memset(owned_by, 0, sizeof(owned_by));
    memset(in_table, 0, sizeof(in_table));
    memset(in_writable, 0, sizeof(in_writable));
    memset(is_free, 0, sizeof(is_free));
    for (unsigned m = RAM_FIRST; m < RAM_END; m++)
        check_frame(m, &croft);
    REQUIRE(croft <= DOMS * 3); /* mappings, users of grants: a few pages each */
    for (unsigned d = 0; d < DOMS; d++) {
        check_domain(d);
        check_ports(d);
    }
    reach_round++;
    for (unsigned cpu = 0; cpu < CPUS; cpu++) {
        REQUIRE(vcpus[cpu].pv.kernel_root.n == kernel_root[cpu] && vcpus[cpu].pv.user_root.n == user_root[cpu]);
        REQUIRE(!vcpus[cpu].pv.held.kept && !vcpus[cpu].pv.held.doomed);
        check_tlb(cpu);
    }
}

/* ---- What a call may do ---- */

/* Types as they are, and as the entries of a call make them while it goes on */
static uint8_t trial[RAM_END];
static void trial_begin(void)
{
    for (unsigned m = 0; m < RAM_END; m++)
        trial[m] = use[m].typed ? use[m].type : FRAME_NONE;
}

/* Whose tables, and whose frames their leaves may name: NO_DOM: nobody's */
struct who {
    unsigned tables, frames;
};

static bool owns(unsigned d, uint64_t m) { return d < DOMS && is_ram(m) && owner[m] == d + 1; }

static bool may_be(unsigned d, uint64_t m, enum frame_type type)
{
    if (!owns(d, m) || (trial[m] && trial[m] != type))
        return false;
    trial[m] = (uint8_t)type;
    return true;
}

static bool may_map(const struct who *w, uint64_t e)
{
    uint64_t m = pte_mfn(e).n;

    if ((e & PTE_CACHE_L1) && !(w->tables == 0 && io_memory))
        return false;
    if (!is_ram(m))
        return w->tables == 0 && io_memory && m - IO_MFN < IO_COUNT;
    if (w->frames != w->tables && w->frames < DOMS && !alive[w->frames])
        return false;
    return e & PTE_WRITE ? may_be(w->frames, m, FRAME_WRITABLE) : owns(w->frames, m);
}

static bool may_be_table(const struct who *w, uint64_t m, unsigned level)
{
    enum frame_type type = FRAME_L1 + level - 1;

    if (!alive[w->tables] || !owns(w->tables, m) || croft_page[m])
        return false;
    if (trial[m])
        return trial[m] == type;
    trial[m] = (uint8_t)type;
    for_each_entry(ram[m], i)
    {
        uint64_t e = ram[m][i];

        if (level == 4 && l4_slot_is_ours(i))
            continue;
        if (level == 1 ? !may_map(w, e) : (e & DISALLOWED_TABLE) || !may_be_table(w, pte_mfn(e).n, level - 1))
            return false;
    }
    return true;
}

/* One entry of a table in use at this level */
static bool may_replace(const struct who *w, unsigned level, unsigned slot, uint64_t old, uint64_t e)
{
    uint64_t kind = PTE_ADDR | (level == 1 ? PTE_WRITE | PTE_CACHE_L1 : DISALLOWED_TABLE);

    if (level == 4 && l4_slot_is_ours(slot))
        return false;
    if (!(e & PTE_PRESENT) || ((old & PTE_PRESENT) && !((old ^ e) & kind)))
        return true;
    if (level == 1)
        return may_map(w, e);
    return !(e & DISALLOWED_TABLE) && may_be_table(w, pte_mfn(e).n, level - 1);
}

static unsigned live_level(uint64_t m)
{
    return is_ram(m) && use[m].typed && use[m].type >= FRAME_L1 && use[m].type <= FRAME_L4 ? use[m].type - FRAME_L1 + 1
                                                                                           : 0;
}

/* What is stored for an entry: guests' entries have the user bit, and leaves are not global. */
static uint64_t as_stored(unsigned level, uint64_t e)
{
    if (!(e & PTE_PRESENT))
        return e;
    return (e | PTE_USER) & ~(level == 1 ? PTE_GLOBAL : 0);
}

/* The L1 table that maps va in the CPU's kernel tables; 0: none */
static uint64_t l1_of(unsigned cpu, uint64_t va)
{
    uint64_t m = kernel_root[cpu];

    if (l4_slot_is_ours(va >> 39 & 511))
        return 0;
    for (unsigned shift = 39; shift >= 21; shift -= 9) {
        uint64_t e = ram[m][va >> shift & 511];

        if (!(e & PTE_PRESENT))
            return 0;
        m = pte_mfn(e).n;
    }
    return m;
}

static bool free_block(unsigned order)
{
    for (unsigned m = RAM_FIRST; m < RAM_END; m += 1U << order) {
        unsigned i = 0;

        while (i < 1U << order && frames[m + i].control == CONTROL_FREE)
            i++;
        if (i == 1U << order)
            return true;
    }
    return false;
}

static unsigned pages_of(unsigned d)
{
    unsigned n = 0;

    for (unsigned m = RAM_FIRST; m < RAM_END; m++)
        n += owner[m] == d + 1 && !croft_page[m];
    return n;
}

static void gets_frame(unsigned d, uint64_t m)
{
    REQUIRE(is_ram(m) && !owner[m]);
    for (unsigned i = 0; i < 512; i++)
        REQUIRE(!ram[m][i]);
    owner[m] = (uint8_t)(d + 1);
    given[m] = true;
}

static void close_port(unsigned d, unsigned i)
{
    struct port *p = &ports[d][i], *peer = p->state == INTERDOMAIN ? &ports[p->dom - 1][p->port] : NULL;

    if (peer) /* of the same domain as well */
        *peer = (struct port){.state = UNBOUND, .dom = d + 1, .vcpu = peer->vcpu};
    *p = (struct port){0};
}

static unsigned open_ports(unsigned d)
{
    unsigned n = 0;

    for (unsigned i = 1; i < MAX_PORTS; i++)
        n += ports[d][i].state != CLOSED;
    return n;
}

/* ---- The life of domains ---- */

static void model_share(unsigned d, const void *page)
{
    uint64_t m = virt_to_mfn(page).n;

    owner[m] = (uint8_t)(d + 1);
    croft_page[m] = true;
    given[m] = false;
}

static void model_start(unsigned d)
{
    uint64_t root = 0;

    start_domain(d, &root);
    alive[d] = true;
    for (unsigned m = RAM_FIRST; m < RAM_END; m++)
        if (frames[m].control & FRAME_ALLOCATED && FRAME_OWNER(frames[m].control) == d + 1) {
            owner[m] = (uint8_t)(d + 1);
            given[m] = true;
        }
    model_share(d, doms[d].shared_info);
    model_share(d, doms[d].grant.shared[0]);
    kernel_root[d * 2] = kernel_root[d * 2 + 1] = root;
    for (unsigned ref = 0; ref < REFS / 2; ref++) /* some grants to begin with */
        ((grant_entry_v1_t *)doms[d].grant.shared[0])[ref] = (grant_entry_v1_t){
            GTF_permit_access, (domid_t)((d + 1 + ref % 2) % DOMS + 1), (uint32_t)pte_mfn(ram[l1_of(d * 2, 0)][ref]).n};
    pinned[root] = 4;
}

/* Nothing is left but the frames that others use. */
static void model_end(unsigned d)
{
    alive[d] = false;
    for (unsigned m = RAM_FIRST; m < RAM_END; m++)
        if (owner[m] == d + 1)
            given[m] = croft_page[m] = pinned[m] = 0;
    for (unsigned i = 0; i < 2; i++)
        kernel_root[d * 2 + i] = user_root[d * 2 + i] = 0;
    for (unsigned i = 0; i < MAPPINGS; i++) {
        struct mapping *p = &maps[d][i];

        if (p->flags && alive[p->granter] && p->ref < REFS)
            *(p->readonly ? &pins[p->granter][p->ref].readers : &pins[p->granter][p->ref].writers) -= 1;
        *p = (struct mapping){0};
    }
    memset(pins[d], 0, sizeof(pins[d]));
    for (unsigned i = 1; i < MAX_PORTS; i++)
        if (ports[d][i].state != CLOSED)
            close_port(d, i);
    memset(ports[d], 0, sizeof(ports[d]));
}

static void model_reset(void)
{
    memset(owner, 0, sizeof(owner));
    memset(given, 0, sizeof(given));
    memset(croft_page, 0, sizeof(croft_page));
    memset(pinned, 0, sizeof(pinned));
    memset(held_segdesc, 0, sizeof(held_segdesc));
    memset(held_writable, 0, sizeof(held_writable));
    memset(maps, 0, sizeof(maps));
    memset(pins, 0, sizeof(pins));
    memset(ports, 0, sizeof(ports));
    memset(alive, 0, sizeof(alive));
}

#endif
