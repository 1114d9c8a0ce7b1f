/* sources: hypervisor/domain/domain_destroy.c hypervisor/domain/event.c hypervisor/domain/event_fifo.c hypervisor/domain/grant_copy.c hypervisor/domain/grant_map.c hypervisor/domain/grant_table.c hypervisor/hypercall/grant_table.c hypervisor/hypercall/memory.c hypervisor/hypercall/memory_exchange.c hypervisor/hypercall/memory_map.c hypervisor/memory/alloc.c hypervisor/hvm/p2m.c hypervisor/hvm/pod.c hypervisor/memory/audit.c hypervisor/memory/frame.c hypervisor/memory/frame_claim.c hypervisor/pv/mmu.c hypervisor/pv/mmu_grant.c hypervisor/pv/mmu_types.c hypervisor/pv/mmuext.c */
/*
 * Calls of three domains on the machine of machine.h, as the bytes tell: page tables, pins and roots, foreign mappings, grants,
 * memory, event channels, the end of domains. Before each call the model of model.h says whether it must be allowed; after it the
 * answer, the whole state and the audit are compared. Prints at the end how many operations there were.
 */
#include "model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

static const uint8_t *input, *input_end;

static unsigned byte(void) { return input < input_end ? *input++ : 0; }
static unsigned pick(unsigned n) { return byte() % n; }

/* ---- How often each kind of operation was allowed and refused ---- */

static struct outcome {
    const char *name;
    unsigned long refused, allowed;
} outcomes[48];

static void expect(bool should, bool did)
{
    struct outcome *o = outcomes;

    while (o->name && o->name != doing)
        o++;
    o->name = doing;
    *(did ? &o->allowed : &o->refused) += 1;
    if (should != did)
        fprintf(stderr, "%s by vcpu %u of d%u was %s\n", doing, self % 2, self / 2 + 1, did ? "allowed" : "refused");
    REQUIRE(should == did);
}

static void report(void)
{
    unsigned long told = 0;

    for (const struct outcome *o = outcomes; o->name; o++)
        told += o->allowed + o->refused;
    printf("fuzz_calls: %lu operations, %lu of them calls with an answer told before, %lu audits\n", operations, told,
           audits);
    for (const struct outcome *o = outcomes; o->name; o++)
        printf("  %-22s %10lu allowed %10lu refused\n", o->name, o->allowed, o->refused);
}

/* ---- Operands ---- */

/* A frame: any; one of d's; a table in use of d's of a level; one of d's that nothing uses. */
enum wanted { ANY, OWN, TABLE, UNUSED };
static bool is_wanted(uint64_t m, unsigned d, enum wanted what, unsigned level)
{
    if (!owns(d, m))
        return false;
    if (what == OWN)
        return !croft_page[m];
    return what == TABLE ? live_level(m) == level : use[m].refs == 1 && given[m];
}
static uint64_t some_frame(unsigned d, enum wanted what, unsigned level)
{
    unsigned start = byte();

    if (start == 255)
        return (const uint64_t[]){0, HOLE_L3, 100, IO_MFN + 3, 1UL << 35}[pick(5)];
    for (unsigned i = 0; what != ANY && i < RAM_COUNT; i++) {
        uint64_t m = RAM_FIRST + (start + i) % RAM_COUNT;

        if (is_wanted(m, d, what, level))
            return m;
    }
    return RAM_FIRST + start;
}

static unsigned some_slot(unsigned level)
{
    unsigned b = byte();

    if (level == 4)
        return (const uint16_t[]){0, 0, 0, 1, 255, 256, 257, 271, 272, 511}[b % 10];
    if (level > 1)
        return b % 4;
    return b < 250 ? b % 32 : 500 + b % 12;
}

static uint64_t some_va(void)
{
    uint64_t slot[4] = {0}, va;
    unsigned b = byte();

    slot[0] = some_slot(1);
    if (b % 8 == 0)
        for (unsigned i = 1; i < 4; i++)
            slot[i] = some_slot(i + 1);
    va = slot[3] << 39 | slot[2] << 30 | slot[1] << 21 | slot[0] << 12;
    return b < 240 ? (uint64_t)((int64_t)(va << 16) >> 16) : va; /* canonical, or not */
}

static uint64_t some_entry(unsigned d, unsigned level)
{
    unsigned kind = pick(16);
    uint64_t flags = kind & 1 ? RW : RO, e;

    if (kind == 0)
        return 0;
    if (level > 1)
        e = kind < 6 ? entry(some_frame(d, TABLE, level - 1), RW)
                     : entry(some_frame(d, kind < 13 ? UNUSED : ANY, 0), RW);
    else
        e = entry(some_frame(d, kind < 5 ? UNUSED : kind < 13 ? OWN : ANY, 0), flags);
    return pick(8) ? e : e ^ 1UL << pick(64);
}

static unsigned other_dom(unsigned d) { return (d + 1 + pick(DOMS - 1)) % DOMS; }

/* ---- Page tables ---- */

static bool will_write_entry(const struct who *w, uint64_t m, unsigned slot, uint64_t val)
{
    unsigned level = live_level(m);

    trial_begin();
    if (!owns(w->tables, m))
        return false;
    return level ? may_replace(w, level, slot, ram[m][slot], val) : may_be(w->tables, m, FRAME_WRITABLE);
}

static long mmu_update(uint64_t ptr, uint64_t val, uint64_t foreign)
{
    struct mmu_update u = {.ptr = ptr, .val = val};
    uint32_t done = 9;
    long rc = hypercall(hypercall_mmu_update, (uint64_t)&u, 1, (uint64_t)&done, foreign);

    REQUIRE(foreign != DOMID_SELF || done == (rc == 0));
    return rc;
}

static void write_entry(unsigned d, const struct who *w, uint64_t foreign, bool named)
{
    unsigned b = pick(16), level = 1 + pick(4), slot, table_level;
    uint64_t m = some_frame(w->tables, b < 10 ? TABLE : OWN, level), val, old;
    unsigned cmd = b == 0 ? 2 : b == 1 ? 3 : 0; /* MMU_PT_UPDATE_PRESERVE_AD, _NO_TRANSLATE, MMU_NORMAL_PT_UPDATE */
    bool should, did;

    level = live_level(m) ? live_level(m) : level;
    slot = some_slot(level);
    val = some_entry(w->frames < DOMS && level == 1 ? w->frames : w->tables, level);
    table_level = live_level(m);
    old = is_ram(m) ? ram[m][slot] : 0;
    should = named && will_write_entry(w, m, slot, val);
    did = mmu_update(m << PAGE_SHIFT | slot * 8 | cmd, val, foreign) == 0;
    expect(should, did);
    if (!is_ram(m))
        return;
    if (!did) {
        REQUIRE(ram[m][slot] == old);
        return;
    }
    if (table_level)
        val = as_stored(table_level, val);
    REQUIRE(ram[m][slot] == (table_level && cmd == 2 ? val | (old & (PTE_ACCESSED | PTE_DIRTY)) : val));
}

static void op_update(unsigned d)
{
    doing = "mmu_update";
    write_entry(d, &(struct who){d, d}, pick(8) ? DOMID_SELF : d + 1U, true);
}

/* Frames of others in own tables, own and others' frames in others' tables: for the privileged one */
static void op_update_foreign(unsigned d)
{
    unsigned o = other_dom(d), kind = pick(8);
    bool there = d == 0 && privileged && listed[o];
    uint64_t l1;

    if (d && kind % 4) {
        op_update(d);
        return;
    }
    doing = "mmu_update (foreign)";
    if (kind == 4 && (l1 = l1_of(self, 0))) { /* the end of such a mapping, without a flush */
        for_each_entry(ram[l1], slot) if (is_ram(pte_mfn(ram[l1][slot]).n) && !owns(d, pte_mfn(ram[l1][slot]).n))
        {
            expect(true, mmu_update(l1 << PAGE_SHIFT | slot * 8, 0, DOMID_SELF) == 0);
            return;
        }
    }
    if (kind < 5)
        write_entry(d, &(struct who){d, o}, o + 1, there);
    else if (kind < 7)
        write_entry(d, &(struct who){o, o}, (o + 2) << 16 | (o + 1), there);
    else
        write_entry(d, &(struct who){d, NO_DOM}, DOMID_IO, d == 0 && io_memory);
}

static void op_machphys(unsigned d)
{
    uint64_t m = some_frame(d, OWN, 0), val = byte() + 0x1000;
    bool did;

    doing = "machphys_update";
    did = mmu_update(m << PAGE_SHIFT | MMU_MACHPHYS_UPDATE, val, DOMID_SELF) == 0;
    expect(owns(d, m), did);
    REQUIRE(!did || m2p[m] == val);
}

static void op_update_va(unsigned d)
{
    static const uint8_t flush[] = {UVMF_NONE, UVMF_TLB_FLUSH | UVMF_LOCAL, UVMF_TLB_FLUSH | UVMF_ALL};
    uint64_t va = some_va(), val = some_entry(d, 1), l1 = l1_of(self, va), old = 0;
    unsigned slot = va >> 12 & 511;
    bool should = l1, did;

    doing = "update_va_mapping";
    trial_begin();
    if (l1) {
        old = ram[l1][slot];
        should = may_replace(&(struct who){d, d}, 1, 0, old, val);
    }
    did = hypercall(hypercall_update_va_mapping, va, val, flush[pick(3)], 0) == 0;
    expect(should, did);
    if (l1)
        REQUIRE(ram[l1][slot] == (did ? as_stored(1, val) : old));
}

static long mmuext(struct mmuext_op op, uint64_t domid)
{
    uint32_t done = 9;
    long rc = hypercall(hypercall_mmuext_op, (uint64_t)&op, 1, (uint64_t)&done, domid);

    REQUIRE(done == (rc == 0) || (rc && done == 9));
    return rc;
}

static void op_pin(unsigned d)
{
    unsigned b = pick(8), level = 1 + pick(4);
    uint64_t m = some_frame(d, b < 2 ? TABLE : b < 6 ? UNUSED : ANY, level);
    bool did, should;

    doing = "pin";
    trial_begin();
    should = may_be_table(&(struct who){d, d}, m, level) && !pinned[m];
    did = mmuext((struct mmuext_op){.cmd = MMUEXT_PIN_L1_TABLE + level - 1, .arg1.mfn = m}, DOMID_SELF) == 0;
    expect(should, did);
    if (did)
        pinned[m] = (uint8_t)level;
}

static void op_unpin(unsigned d)
{
    uint64_t m = some_frame(d, pick(8) ? TABLE : ANY, 1 + pick(4));
    bool should = owns(d, m) && pinned[m], did;

    doing = "unpin";
    did = mmuext((struct mmuext_op){.cmd = MMUEXT_UNPIN_TABLE, .arg1.mfn = m}, DOMID_SELF) == 0;
    expect(should, did);
    if (did)
        pinned[m] = 0;
}

static void op_root(unsigned d)
{
    bool user = pick(2), should, did;
    uint64_t m = user && pick(4) == 0 ? 0 : some_frame(d, pick(4) ? TABLE : UNUSED, 4);
    uint64_t *root = user ? &user_root[self] : &kernel_root[self];

    doing = user ? "new user root" : "new kernel root";
    trial_begin();
    should = m == *root || (user && !m) || may_be_table(&(struct who){d, d}, m, 4);
    if (!user && pick(4) == 0) /* MOV to CR3 */
        did = mmu_new_kernel_root(&vcpus[self], MFN(m)) == 0;
    else
        did = mmuext((struct mmuext_op){.cmd = user ? MMUEXT_NEW_USER_BASEPTR : MMUEXT_NEW_BASEPTR, .arg1.mfn = m},
                     DOMID_SELF) == 0;
    expect(should, did);
    if (did)
        *root = m;
}

static void op_clear_copy(unsigned d)
{
    bool copy = pick(2), did;
    uint64_t to = some_frame(d, pick(8) ? OWN : ANY, 0), from = some_frame(d, pick(8) ? OWN : ANY, 0);

    doing = copy ? "copy page" : "clear page";
    if (owns(d, to) && croft_page[to])
        return; /* its own loss, but the model knows ports and grants */
    trial_begin();
    did = mmuext((struct mmuext_op){.cmd = copy ? MMUEXT_COPY_PAGE : MMUEXT_CLEAR_PAGE,
                                    .arg1.mfn = to,
                                    .arg2.src_mfn = from},
                 DOMID_SELF) == 0;
    expect(may_be(d, to, FRAME_WRITABLE) && (!copy || owns(d, from)), did);
    for (unsigned i = 0; did && i < 512; i++)
        REQUIRE(ram[to][i] == (copy ? ram[from][i] : 0));
}

/* The guest makes a table in a page that is no table, as a kernel does before it pins; from here, for there need be no mapping. */
static void op_build(unsigned d)
{
    unsigned level = 1 + pick(4);
    uint64_t m = some_frame(d, pick(4) ? UNUSED : OWN, 0);

    doing = "build";
    if (!owns(d, m) || croft_page[m] || live_level(m) || use[m].type == FRAME_SEGDESC)
        return;
    memset(ram[m], 0, PAGE_SIZE);
    for (unsigned i = pick(6); i; i--) {
        unsigned slot = some_slot(level);

        ram[m][slot] = some_entry(d, level);
    }
}

/* A store by whatever this CPU may still have in its TLB */
static void op_store(unsigned d)
{
    uint64_t m = some_frame(d, pick(2) ? OWN : ANY, 0);
    unsigned slot = some_slot(1);

    doing = "store";
    if (is_ram(m) && bit_get(tlb[self].write, m) && !(owner[m] && croft_page[m]))
        ram[m][slot] = some_entry(d, 1 + pick(4));
}

static void op_emulated(unsigned d)
{
    unsigned level = 1 + pick(4), bytes = 1U << pick(4), slot, offset, shift;
    uint64_t m = some_frame(d, pick(8) ? TABLE : OWN, level), seen = 0, mask, val, old;
    bool should, did;

    doing = "emulated store";
    slot = some_slot(live_level(m) ? live_level(m) : level);
    val = some_entry(d, level);
    offset = pick(8 / bytes) * bytes;
    shift = offset * 8;
    mask = bytes == 8 ? ~0UL : ((1UL << bytes * 8) - 1) << shift;
    old = is_ram(m) ? ram[m][slot] : 0;
    val = (old & ~mask) | (val & mask);
    trial_begin();
    should = owns(d, m) && live_level(m) && may_replace(&(struct who){d, d}, live_level(m), slot, old, val);
    did = mmu_write_entry_bytes(&vcpus[self], MFN(m), slot * 8 + offset, bytes, (val & mask) >> shift, false, 0,
                                &seen) == 0;
    expect(should, did);
    if (is_ram(m))
        REQUIRE(ram[m][slot] == (did ? as_stored(live_level(m), val) : old));
}

/* What other modules of Croft hold: descriptor pages, pages that they write */
static void op_hold(unsigned d)
{
    bool segdesc = pick(2), should = true, did;
    uint64_t m = some_frame(d, pick(4) ? UNUSED : OWN, 0);
    uint8_t *held = is_ram(m) ? segdesc ? &held_segdesc[m] : &held_writable[m] : NULL;

    doing = segdesc ? "descriptor page" : "page of Croft's use";
    if (held && *held && owns(d, m) && pick(2)) {
        if (segdesc)
            frame_put_segdesc(MFN(m));
        else
            frame_put_writable(MFN(m));
        --*held;
        return;
    }
    if (held && *held > 100)
        return;
    trial_begin();
    for (unsigned i = 0; segdesc && is_ram(m) && i < 512; i++)
        should &= !is_system_descriptor(ram[m][i]);
    should = (should || (is_ram(m) && trial[m])) && may_be(d, m, segdesc ? FRAME_SEGDESC : FRAME_WRITABLE) &&
             !(segdesc && croft_page[m]);
    did = segdesc ? frame_get_segdesc(MFN(m), &doms[d]) : frame_get_writable(MFN(m), &doms[d]);
    expect(should, did);
    if (did)
        ++*held;
}

/* ---- Grants: entries of version 1 ---- */

static grant_entry_v1_t *grant_at(unsigned d, unsigned ref)
{
    return (grant_entry_v1_t *)doms[d].grant.shared[ref / 512] + ref % 512;
}
static bool has_ref(unsigned d, unsigned ref) { return d < DOMS && alive[d] && ref < doms[d].grant.frames * 512; }
static unsigned some_granter(unsigned d) { return pick(8) ? other_dom(d) : pick(DOMS + 1); }
/* Mostly one of the granter's that is of this type and for d */
static unsigned some_ref(unsigned granter, unsigned d, unsigned type)
{
    unsigned b = byte();

    for (unsigned i = 0; has_ref(granter, 0) && b < 220 && i < REFS; i++) {
        unsigned ref = (b + i) % REFS;

        if (grant_at(granter, ref)->domid == d + 1 && (grant_at(granter, ref)->flags & GTF_type_mask) == type)
            return ref;
    }
    return b < 250 ? b % REFS : 512 + b % REFS; /* in a frame that mostly is not there */
}

static void op_grant(unsigned d)
{
    static const uint16_t flags[] = {GTF_permit_access,
                                     GTF_permit_access,
                                     GTF_permit_access,
                                     GTF_permit_access | GTF_readonly,
                                     GTF_accept_transfer,
                                     GTF_accept_transfer,
                                     GTF_permit_access | GTF_sub_page,
                                     GTF_transitive,
                                     GTF_invalid};
    unsigned ref = pick(REFS), by = some_granter(d) + 1;
    uint16_t f = flags[pick(ARRAY_SIZE(flags))];

    doing = "grant";
    *grant_at(d, ref) = (grant_entry_v1_t){f, (domid_t)by, (uint32_t)some_frame(d, pick(8) ? OWN : ANY, 0)};
}

static void op_revoke(unsigned d)
{
    grant_entry_v1_t *e = grant_at(d, pick(REFS));

    doing = "revoke";
    if (!(e->flags & (GTF_reading | GTF_writing)))
        e->flags = 0;
}

/* Does the entry let domain 'by' use its frame so? trial has the frame's type after it. */
static bool may_use_grant(unsigned granter, unsigned ref, unsigned by, bool write, bool map)
{
    const grant_entry_v1_t *e;

    if (!has_ref(granter, ref))
        return false;
    e = grant_at(granter, ref);
    if ((e->flags & GTF_type_mask) != GTF_permit_access || e->domid != by + 1 || (write && e->flags & GTF_readonly) ||
        (map && e->flags & GTF_sub_page))
        return false;
    if (ref < REFS && (pins[granter][ref].readers || pins[granter][ref].writers) &&
        (pins[granter][ref].frame != e->frame || pins[granter][ref].by != by))
        return false; /* in use as another one */
    if (!owns(granter, e->frame) || croft_page[e->frame])
        return false;
    return !write || may_be(granter, e->frame, FRAME_WRITABLE);
}

/* The place of an L1 entry that the guest names; false: there is none */
static bool find_place(unsigned d, uint64_t address, bool by_entry, uint64_t *table, uint64_t *slot)
{
    if (by_entry) {
        *table = address >> PAGE_SHIFT;
        *slot = (address & 4095) / 8;
        return address % 8 == 0 && owns(d, *table) && live_level(*table) == 1;
    }
    *table = l1_of(self, address);
    *slot = address >> 12 & 511;
    return *table;
}

static uint64_t some_place(unsigned d, bool by_entry)
{
    if (!by_entry)
        return some_va();
    return some_frame(d, TABLE, pick(8) ? 1 : 2) << PAGE_SHIFT | (some_slot(1) * 8 + (pick(16) ? 0 : 4));
}

static long grant_op(unsigned cmd, void *op) { return hypercall(hypercall_grant_table_op, cmd, (uint64_t)op, 1, 0); }

static unsigned mapped_by(unsigned d)
{
    unsigned n = 0;

    for (unsigned i = 0; i < MAPPINGS; i++)
        n += maps[d][i].flags != 0;
    return n;
}

static void op_map(unsigned d)
{
    unsigned granter = some_granter(d), ref = some_ref(granter, d, GTF_permit_access), b = byte();
    bool by_entry = b & 1, readonly = b & 2, host = b % 16 != 15, should, placed;
    unsigned flags = (host ? GNTMAP_host_map : 0) | (b % 16 > 12 ? GNTMAP_device_map : 0);
    uint64_t address = some_place(d, by_entry), table = 0, slot = 0, frame;
    struct gnttab_map_grant_ref op = {.host_addr = address, .ref = ref, .dom = (domid_t)(granter + 1), .status = 99};
    struct mapping *p;

    doing = "map grant";
    if (ref >= REFS)
        return; /* the model has no room for such */
    op.flags = flags | (by_entry ? GNTMAP_contains_pte : 0) | (readonly ? GNTMAP_readonly : 0);
    trial_begin();
    placed = find_place(d, address, by_entry, &table, &slot);
    should = flags && granter < DOMS && listed[granter] && may_use_grant(granter, ref, d, !readonly, true) &&
             (!host || placed) && mapped_by(d) < MAPPINGS;
    frame = should ? grant_at(granter, ref)->frame : 0;
    REQUIRE(grant_op(GNTTABOP_map_grant_ref, &op) == 0);
    expect(should, op.status == GNTST_okay);
    if (!should)
        return;
    REQUIRE(op.handle < MAPPINGS && op.dev_bus_addr == frame << PAGE_SHIFT);
    p = &maps[d][op.handle];
    REQUIRE(!p->flags);
    *p = (struct mapping){flags, readonly, by_entry, granter, ref, frame, host ? table : 0, host ? slot : 0};
    *(readonly ? &pins[granter][ref].readers : &pins[granter][ref].writers) += 1;
    pins[granter][ref].frame = frame;
    pins[granter][ref].by = d;
    if (host)
        REQUIRE((ram[table][slot] & (PTE_ADDR | PTE_PRESENT | PTE_WRITE | PTE_USER)) ==
                entry(frame, PTE_PRESENT | PTE_USER | (readonly ? 0 : PTE_WRITE)));
    REQUIRE(grant_at(granter, ref)->flags & (readonly ? GTF_reading : GTF_writing));
}

static void mapping_ends(struct mapping *p)
{
    if (alive[p->granter]) {
        struct pins *q = &pins[p->granter][p->ref];

        *(p->readonly ? &q->readers : &q->writers) -= 1;
        if (!q->readers && !q->writers)
            REQUIRE(!(grant_at(p->granter, p->ref)->flags & (GTF_reading | GTF_writing)));
    }
    *p = (struct mapping){0};
}

/* Is the mapping's own entry still there? */
static bool entry_there(unsigned d, const struct mapping *p)
{
    uint64_t e = ram[p->table][p->slot];

    return owns(d, p->table) && live_level(p->table) == 1 && (e & PTE_PRESENT) && pte_mfn(e).n == p->frame;
}

static void op_unmap(unsigned d)
{
    unsigned handle = byte(), b = byte();
    bool replace = b % 8 == 0, named, should, there = false, took = false;
    uint64_t table = 0, slot = 0, address, new_address = 0, new_table = 0, new_slot = 0, moved = 0;
    struct gnttab_unmap_grant_ref op = {.handle = handle, .status = 99};
    struct mapping *p = &maps[d][handle];
    unsigned left;

    doing = replace ? "unmap and replace" : "unmap grant";
    for (unsigned i = 0; b < 240 && !p->flags && i < MAPPINGS; i++)
        p = &maps[d][op.handle = (handle + i) % MAPPINGS];
    left = p->flags;
    address = p->by_entry ? p->table << PAGE_SHIFT | p->slot * 8 : p->slot << PAGE_SHIFT;
    if (b % 16 == 5)
        address = some_place(d, p->by_entry);
    op.host_addr = b % 16 == 6 ? 0 : address;
    if (replace)
        op.dev_bus_addr = new_address = some_va();
    else if (b % 16 >= 14)
        op.dev_bus_addr = (p->frame + (b > 128 ? 0 : pick(2))) << PAGE_SHIFT;
    should = p->flags;
    if (should && op.dev_bus_addr && !replace && p->flags & GNTMAP_device_map) {
        should = op.dev_bus_addr == p->frame << PAGE_SHIFT;
        left &= ~GNTMAP_device_map;
    }
    if (should && op.host_addr && p->flags & GNTMAP_host_map) {
        named = find_place(d, op.host_addr, p->by_entry, &table, &slot) && table == p->table && slot == p->slot;
        there = entry_there(d, p);
        should = there ? named : !new_address;
        left &= ~GNTMAP_host_map;
        if (should && there && new_address) { /* an own or empty entry elsewhere takes the place */
            should = !p->by_entry && find_place(d, new_address, false, &new_table, &new_slot) &&
                     (new_table != table || new_slot != slot);
            moved = should ? ram[new_table][new_slot] : 0;
            if (should && (moved & PTE_PRESENT) && is_ram(pte_mfn(moved).n) && !owns(d, pte_mfn(moved).n))
                should = false;
            took = should;
        }
    }
    REQUIRE(grant_op(replace ? GNTTABOP_unmap_and_replace : GNTTABOP_unmap_grant_ref, &op) == 0);
    expect(should, op.status == GNTST_okay);
    if (!should)
        return;
    if (there)
        REQUIRE(ram[p->table][p->slot] == moved && (!took || !ram[new_table][new_slot]));
    p->flags = left;
    if (!left)
        mapping_ends(p);
}

/* One end of a copy: its frame, or 0 if it may not be used */
static uint64_t copy_end(unsigned d, const struct gnttab_copy_ptr *c, bool by_ref, bool write)
{
    unsigned o = c->domid - 1U;

    if (by_ref)
        return o < DOMS && listed[o] && may_use_grant(o, c->u.ref, d, write, false) ? grant_at(o, c->u.ref)->frame : 0;
    if (c->domid != DOMID_SELF || !owns(d, c->u.gmfn) || (write && !may_be(d, c->u.gmfn, FRAME_WRITABLE)))
        return 0;
    return c->u.gmfn;
}

static void some_copy_end(unsigned d, struct gnttab_copy_ptr *c, bool by_ref)
{
    if (by_ref) {
        unsigned granter = some_granter(d);

        c->domid = (domid_t)(granter + 1);
        c->u.ref = some_ref(granter, d, GTF_permit_access);
    } else {
        c->domid = pick(16) ? DOMID_SELF : (domid_t)(other_dom(d) + 1);
        c->u.gmfn = some_frame(d, pick(8) ? OWN : ANY, 0);
    }
    c->offset = (uint16_t)(pick(4) ? pick(64) * 8 : pick(20) * 256);
}

static void op_copy(unsigned d)
{
    struct gnttab_copy op = {.status = 99};
    static uint8_t before[PAGE_SIZE], source[PAGE_SIZE];
    uint64_t from, to;
    bool should;

    doing = "grant copy";
    op.flags = (uint16_t)pick(4);
    some_copy_end(d, &op.source, op.flags & GNTCOPY_source_gref);
    some_copy_end(d, &op.dest, op.flags & GNTCOPY_dest_gref);
    op.len = (uint16_t)(pick(8) ? pick(64) * 8 : 4096);
    if (op.len == 4096 && pick(2))
        op.source.offset = op.dest.offset = 0;
    trial_begin();
    from = copy_end(d, &op.source, op.flags & GNTCOPY_source_gref, false);
    to = copy_end(d, &op.dest, op.flags & GNTCOPY_dest_gref, true);
    should = from && to && op.source.offset + op.len <= (int)PAGE_SIZE && op.dest.offset + op.len <= (int)PAGE_SIZE;
    if (to && croft_page[to])
        return; /* as for clear_page */
    if (should) {
        memcpy(source, ram[from], PAGE_SIZE);
        memcpy(before, ram[to], PAGE_SIZE);
        memcpy(before + op.dest.offset, source + op.source.offset, op.len);
    }
    REQUIRE(grant_op(GNTTABOP_copy, &op) == 0);
    expect(should, op.status == GNTST_okay);
    REQUIRE(!should || !memcmp(before, ram[to], PAGE_SIZE));
}

static void op_transfer(unsigned d)
{
    unsigned to = some_granter(d), ref = some_ref(to, d, GTF_accept_transfer);
    uint64_t m = some_frame(d, pick(8) ? UNUSED : ANY, 0);
    struct gnttab_transfer op = {.mfn = m, .domid = (domid_t)(to + 1), .ref = ref, .status = 99};
    bool free = is_wanted(m, d, UNUSED, 0), should = false;
    const grant_entry_v1_t *e;

    doing = "transfer";
    if (to < DOMS && to != d && has_ref(to, ref) && pages_of(to) < MAX_PAGES) {
        e = grant_at(to, ref);
        should = free && e->flags == GTF_accept_transfer && e->domid == d + 1;
    }
    REQUIRE(grant_op(GNTTABOP_transfer, &op) == 0);
    expect(should, op.status == GNTST_okay);
    if (free) { /* it is gone in any case */
        owner[m] = should ? (uint8_t)(to + 1) : 0;
        given[m] = should;
    }
    if (should)
        REQUIRE(grant_at(to, ref)->frame == m && grant_at(to, ref)->flags & GTF_transfer_completed);
}

static void op_swap(unsigned d)
{
    struct gnttab_swap_grant_ref op = {.ref_a = some_ref(d, NO_DOM, 0), .ref_b = some_ref(d, NO_DOM, 0), .status = 99};
    bool should = has_ref(d, op.ref_a) && has_ref(d, op.ref_b);

    doing = "swap grants";
    if (should && op.ref_a != op.ref_b)
        for (unsigned i = 0; i < REFS; i++)
            should &= (i != op.ref_a && i != op.ref_b) || !(pins[d][i].readers | pins[d][i].writers);
    REQUIRE(grant_op(GNTTABOP_swap_grant_ref, &op) == 0);
    expect(should, op.status == GNTST_okay);
}

static void op_setup_table(unsigned d)
{
    xen_pfn_t list[4] = {0};
    struct gnttab_setup_table op = {.dom = pick(8) ? DOMID_SELF : (domid_t)(other_dom(d) + 1), .nr_frames = pick(4)};
    unsigned o = op.dom == DOMID_SELF ? d : op.dom - 1U;
    bool should = op.nr_frames <= 2 && alive[o] && (o == d || (d == 0 && privileged)), grows;

    doing = "setup_table";
    grows = should && op.nr_frames > doms[o].grant.frames;
    op.frame_list.p = list;
    REQUIRE(grant_op(GNTTABOP_setup_table, &op) == 0);
    expect(should, op.status == GNTST_okay);
    if (grows)
        model_share(o, doms[o].grant.shared[1]);
    for (unsigned i = 0; should && i < op.nr_frames; i++)
        REQUIRE(owns(o, list[i]) && croft_page[list[i]]);
}

/* ---- Memory ---- */

static long reservation(unsigned cmd, xen_pfn_t *list, unsigned n, unsigned order)
{
    struct xen_memory_reservation r = {.nr_extents = n, .extent_order = order, .domid = DOMID_SELF};

    r.extent_start.p = list;
    return hypercall(hypercall_memory_op, cmd, (uint64_t)&r, 0, 0);
}

static void op_decrease(unsigned d)
{
    xen_pfn_t list[3];
    unsigned n = 1 + pick(3), good = 0;
    long rc;

    doing = "decrease";
    for (unsigned i = 0; i < n; i++)
        list[i] = some_frame(d, pick(2) ? UNUSED : pick(8) ? OWN : ANY, 0);
    while (good < n && owns(d, list[good]) && given[list[good]])
        given[list[good++]] = false;
    rc = reservation(XENMEM_decrease_reservation, list, n, 0);
    expect(good == n, rc == n);
    REQUIRE(rc == good);
}

static void op_increase(unsigned d)
{
    unsigned order = pick(4) ? 0 : pick(4), n = 1 + pick(3), got = 0, pages = pages_of(d);
    bool populate = pick(2);
    xen_pfn_t list[3] = {7, 8, 9};
    long rc;

    doing = "increase";
    if (order) /* what is left for a second one depends on which block was taken */
        n = 1;
    while (got < n && pages + ((got + 1) << order) <= MAX_PAGES &&
           (order ? free_block(order) : alloc_free_count() > got))
        got++;
    rc = reservation(populate ? XENMEM_populate_physmap : XENMEM_increase_reservation, list, n, order);
    expect(got == n, rc == n);
    REQUIRE(rc == got);
    for (unsigned i = 0; i < got; i++)
        for (unsigned j = 0; j < 1U << order; j++) {
            gets_frame(d, list[i] + j);
            REQUIRE(m2p[list[i] + j] == (populate ? 7 + i + j : M2P_INVALID));
        }
}

static void op_exchange(unsigned d)
{
    unsigned in_order = pick(2), out_order = pick(2), n = 2;
    xen_pfn_t in[2], out[2] = {7, 9};
    struct xen_memory_exchange x = {.nr_exchanged = 0};
    bool should = true;
    long rc;

    doing = "exchange";
    for (unsigned i = 0; i < n; i++)
        in[i] = some_frame(d, pick(8) ? UNUSED : ANY, 0);
    /* One chunk: two frames for a pair, a pair for two, a pair for a pair, or one for one. */
    if (!in_order && !out_order)
        n = 1;
    x.in = (struct xen_memory_reservation){
        .nr_extents = n >> in_order, .extent_order = in_order, .domid = DOMID_SELF, .extent_start.p = in};
    x.out = (struct xen_memory_reservation){
        .nr_extents = n >> out_order, .extent_order = out_order, .domid = DOMID_SELF, .extent_start.p = out};
    if (in_order)
        in[1] = in[0] + 1;
    for (unsigned i = 0; i < n; i++)
        should &= is_wanted(in[i], d, UNUSED, 0);
    should &= n == 1 || in[0] != in[1];
    should &= out_order ? free_block(1) : alloc_free_count() >= n;
    rc = hypercall(hypercall_memory_op, XENMEM_exchange, (uint64_t)&x, 0, 0);
    expect(should, rc == 0);
    REQUIRE(x.nr_exchanged == (should ? x.in.nr_extents : 0));
    if (!should)
        return;
    for (unsigned i = 0; i < n; i++)
        owner[in[i]] = given[in[i]] = 0;
    for (unsigned i = 0; i < n; i++)
        gets_frame(d, out_order ? out[0] + i : out[i]);
}

/* ---- Event channels ---- */

static long event_op(unsigned cmd, void *op) { return hypercall(hypercall_event_channel_op, cmd, (uint64_t)op, 0, 0); }
/* Mostly one of d's that is open */
static unsigned some_port(unsigned d)
{
    unsigned b = byte();

    for (unsigned i = 0; b < 220 && i < MAX_PORTS; i++)
        if (ports[d][(b + i) % MAX_PORTS].state != CLOSED)
            return (b + i) % MAX_PORTS;
    return b;
}
static struct port *port_at(unsigned d, unsigned i)
{
    static struct port none;

    none = (struct port){0};
    return d < DOMS && alive[d] && i < MAX_PORTS ? &ports[d][i] : &none;
}
static bool has_port(unsigned d) { return open_ports(d) < MAX_PORTS - 1; }
static void opens(unsigned d, unsigned i, struct port p)
{
    REQUIRE(i > 0 && i < MAX_PORTS && ports[d][i].state == CLOSED);
    ports[d][i] = p;
}

static void op_alloc_unbound(unsigned d)
{
    unsigned who = pick(4) ? d : pick(DOMS), remote = pick(DOMS);
    struct evtchn_alloc_unbound op = {.dom = who == d ? DOMID_SELF : (domid_t)(who + 1),
                                      .remote_dom = remote == d && pick(2) ? DOMID_SELF : (domid_t)(remote + 1)};
    bool should = (who == d || (d == 0 && privileged)) && alive[who] && has_port(who);

    doing = "alloc_unbound";
    expect(should, event_op(EVTCHNOP_alloc_unbound, &op) == 0);
    if (should)
        opens(who, op.port, (struct port){.state = UNBOUND, .dom = remote + 1});
}

static void op_bind_interdomain(unsigned d)
{
    unsigned remote = pick(DOMS), port = pick(MAX_PORTS);
    struct evtchn_bind_interdomain op = {.remote_dom = (domid_t)(remote + 1), .remote_port = port};
    struct port *peer;
    bool should;

    doing = "bind_interdomain";
    for (unsigned i = pick(8) ? 0 : MAX_PORTS; i < MAX_PORTS; i++) {
        if (port_at(remote, port)->state == UNBOUND && port_at(remote, port)->dom == d + 1)
            break;
        op.remote_port = port = (port + 1) % MAX_PORTS;
    }
    peer = port_at(remote, port);
    should = alive[remote] && peer->state == UNBOUND && peer->dom == d + 1 && has_port(d);
    expect(should, event_op(EVTCHNOP_bind_interdomain, &op) == 0);
    if (!should)
        return;
    opens(d, op.local_port, (struct port){.state = INTERDOMAIN, .dom = remote + 1, .port = port});
    *peer = (struct port){.state = INTERDOMAIN, .dom = d + 1, .port = op.local_port, .vcpu = peer->vcpu};
    REQUIRE(event_port_pending(&doms[d], op.local_port));
}

static void op_bind_local(unsigned d)
{
    bool virq = pick(2), should;
    unsigned vcpu = pick(3), nr = pick(3) ? pick(4) : byte();
    struct evtchn_bind_virq v = {.virq = nr, .vcpu = vcpu};
    struct evtchn_bind_ipi ipi = {.vcpu = vcpu};
    bool per_vcpu = nr == VIRQ_TIMER || nr == VIRQ_DEBUG || nr == VIRQ_XENOPROF || nr == VIRQ_XENPMU;

    doing = virq ? "bind_virq" : "bind_ipi";
    should = vcpu < 2 && has_port(d) && (!virq || (nr < NR_VIRQS && (per_vcpu || !vcpu)));
    for (unsigned i = 0; virq && i < MAX_PORTS; i++)
        should &= ports[d][i].state != VIRQ || ports[d][i].virq != nr || (per_vcpu && ports[d][i].vcpu != vcpu);
    expect(should, (virq ? event_op(EVTCHNOP_bind_virq, &v) : event_op(EVTCHNOP_bind_ipi, &ipi)) == 0);
    if (should)
        opens(d, virq ? v.port : ipi.port,
              (struct port){.state = virq ? VIRQ : IPI, .vcpu = vcpu, .virq = virq ? nr : 0});
}

static void op_close(unsigned d)
{
    struct evtchn_close op = {.port = some_port(d)};
    bool should = port_at(d, op.port)->state != CLOSED;

    doing = "close";
    expect(should, event_op(EVTCHNOP_close, &op) == 0);
    if (should)
        close_port(d, op.port);
}

/* A port's bit, and nobody else's, in the pages of all domains */
static void op_send(unsigned d)
{
    struct evtchn_send op = {.port = some_port(d)};
    struct port *p;
    unsigned long before[DOMS] = {0};
    bool should;

    doing = "send";
    p = port_at(d, op.port);
    should = p->state == INTERDOMAIN || p->state == IPI || p->state == UNBOUND;
    if (pick(2))
        memset(doms[d].shared_info->evtchn_pending, 0, sizeof(doms[d].shared_info->evtchn_pending));
    for (unsigned i = 0; i < DOMS; i++)
        before[i] = alive[i] ? doms[i].shared_info->evtchn_pending[0] : 0;
    if (p->state == INTERDOMAIN)
        before[p->dom - 1] |= 1UL << p->port;
    if (p->state == IPI)
        before[d] |= 1UL << op.port;
    expect(should, event_op(EVTCHNOP_send, &op) == 0);
    for (unsigned i = 0; i < DOMS; i++)
        REQUIRE(!alive[i] || doms[i].shared_info->evtchn_pending[0] == before[i]);
}

static void op_bind_vcpu(unsigned d)
{
    struct evtchn_bind_vcpu op = {.port = some_port(d), .vcpu = pick(3)};
    struct port *p = port_at(d, op.port);
    bool global = p->state == VIRQ && p->virq != VIRQ_TIMER && p->virq != VIRQ_DEBUG && p->virq != VIRQ_XENOPROF &&
                  p->virq != VIRQ_XENPMU;
    bool should = op.vcpu < 2 && (p->state == UNBOUND || p->state == INTERDOMAIN || global);

    doing = "bind_vcpu";
    expect(should, event_op(EVTCHNOP_bind_vcpu, &op) == 0);
    if (should)
        p->vcpu = op.vcpu;
}

static void op_status(unsigned d)
{
    static const uint8_t status[] = {EVTCHNSTAT_closed, EVTCHNSTAT_unbound, EVTCHNSTAT_interdomain, EVTCHNSTAT_virq,
                                     EVTCHNSTAT_ipi};
    unsigned o = pick(2) ? d : pick(DOMS);
    struct evtchn_status op = {.dom = o == d ? DOMID_SELF : (domid_t)(o + 1), .port = 1 + pick(MAX_PORTS - 1)};
    bool may = (o == d || (d == 0 && privileged)) && alive[o];
    long rc;

    doing = "status";
    rc = event_op(EVTCHNOP_status, &op);
    if (may && op.port < doms[o].event.ports)
        REQUIRE(rc == 0 && op.status == status[ports[o][op.port].state]);
    else
        REQUIRE(rc < 0);
}

static void op_reset(unsigned d)
{
    unsigned o = pick(4) ? d : pick(DOMS);
    struct evtchn_reset op = {.dom = o == d ? DOMID_SELF : (domid_t)(o + 1)};
    bool should = (o == d || (d == 0 && privileged)) && listed[o];

    doing = "reset";
    expect(should, event_op(EVTCHNOP_reset, &op) == 0);
    for (unsigned i = 1; should && i < MAX_PORTS; i++)
        if (ports[o][i].state != CLOSED)
            close_port(o, i);
}

/* ---- The end of a domain, and a new one under its number ---- */

static void release_held(unsigned d)
{
    for (unsigned m = RAM_FIRST; m < RAM_END; m++) {
        for (; owner[m] == d + 1 && held_segdesc[m]; held_segdesc[m]--)
            frame_put_segdesc(MFN(m));
        for (; owner[m] == d + 1 && held_writable[m]; held_writable[m]--)
            frame_put_writable(MFN(m));
    }
}

static void destroy(unsigned d)
{
    int rc;

    release_held(d);
    REQUIRE(domain_get(&doms[d]));
    while ((rc = domain_destroy(&doms[d])) != 0)
        REQUIRE(rc == -ERESTART);
    domain_put(&doms[d]);
    model_end(d);
}

static void op_destroy(void)
{
    unsigned d = 1 + pick(DOMS - 1);

    doing = "destroy";
    if (alive[d])
        destroy(d);
}

static void op_create(void)
{
    doing = "create";
    for (unsigned d = 1; d < DOMS; d++)
        if (!listed[d])
            model_start(d);
}

/* ---- Steps ---- */

/* What an error has left to be taken apart goes with the vcpu's next call. */
static void settle(void)
{
    struct vcpu *v = current;

    for (unsigned o = 0; o < DOMS; o++)
        if (listed[o] && (o == self / 2 ? v->pv.held.doomed : doms[o].pv.held.doomed))
            REQUIRE(hypercall(hypercall_mmuext_op, 0, 0, 0, o + 1) == 0);
}

static void one_step(void)
{
    unsigned op = byte(), d;

    self = byte() % CPUS;
    d = self / 2;
    operations += op >= 242 || alive[d];
    if (op >= 254)
        op_destroy();
    else if (op >= 242)
        op_create();
    else if (alive[d]) {
        /* clang-format off */
        static void (*const ops[])(unsigned) = {
            op_update, op_update, op_update, op_update_foreign, op_update_foreign, op_update_va, op_update_va,
            op_pin, op_pin, op_unpin, op_root, op_clear_copy, op_build, op_build, op_store, op_emulated,
            op_hold, op_machphys, op_grant, op_grant, op_grant, op_revoke, op_map, op_map, op_map, op_map,
            op_unmap, op_unmap, op_copy, op_copy, op_transfer, op_swap, op_decrease, op_increase, op_increase,
            op_increase, op_exchange, op_setup_table, op_bind_vcpu, op_alloc_unbound, op_alloc_unbound,
            op_bind_interdomain, op_bind_interdomain, op_bind_local, op_close, op_send, op_send, op_status,
        };
        /* clang-format on */

        if (op == 241)
            op_reset(d);
        else
            ops[op % ARRAY_SIZE(ops)](d);
        settle();
    }
    run_softirqs();
    check_all();
}

static void audit(void)
{
    unsigned findings;

    REQUIRE(alloc_free_count() > 0); /* it needs a page */
    self = 0;
    findings = frame_audit();
    REQUIRE(findings == 0);
    audits++;
}

/* Ends all domains; no frame may be missing. */
static void end_machine(void)
{
    doing = "the end";
    self = 0;
    preempt_every = 0;
    for (unsigned d = DOMS; d-- > 0;)
        if (alive[d])
            destroy(d);
    run_softirqs();
    check_all();
    for (unsigned d = 0; d < DOMS; d++)
        REQUIRE(!listed[d]);
    REQUIRE(alloc_free_count() == RAM_COUNT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool begun;
    unsigned mode, audit_every;

    if (!begun) {
        begun = true;
        verbose = getenv("VERBOSE");
        atexit(report);
    }
    input = data;
    input_end = data + size;
    mode = byte();
    doing = "start";
    model_reset();
    start_machine();
    privileged = doms[0].is_privileged = false;
    for (unsigned d = 0; d < DOMS; d++)
        model_start(d);
    privileged = doms[0].is_privileged = mode & 1;
    io_memory = doms[0].pv.io_memory = mode & 2;
    doms[0].pv.leaf_refused = io_memory ? 0 : PTE_CACHE_L1;
    preempt_every = mode >> 2 & 3;
    audit_every = getenv("AUDIT_EACH") ? 1 : 1U << (mode >> 4 & 3); /* the model counts all of it anew after each */
    check_all();
    for (unsigned i = 1; input < input_end; i++) {
        one_step();
        if (i % audit_every == 0)
            audit();
    }
    audit();
    end_machine();
    return 0;
}

/* Some inputs are new ones: all bytes mean something, so random ones go deep as well. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    uint64_t x = seed;

    if (seed % 4)
        return LLVMFuzzerMutate(data, size, max_size);
    for (size_t i = 0; i < max_size; i++) {
        x = x * 6364136223846793005UL + 1442695040888963407UL;
        data[i] = (uint8_t)(x >> 56);
    }
    return max_size;
}
