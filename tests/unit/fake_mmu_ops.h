/*
 * Random operations on the machine of fake_mmu.h: for the property test of test_mmu.c (random numbers) and for fuzz_mmu.c (the
 * fuzzer's bytes). The file that includes this defines pick(n): a number below n.
 */
#ifndef FAKE_MMU_OPS_H
#define FAKE_MMU_OPS_H

#include "fake_mmu.h"

/* References that the test holds, as other modules of Croft do */
#define MAX_HELD 24
static struct {
    mfn_t m;
    unsigned kind;
} held[MAX_HELD];
static unsigned held_count, preempt_one_in, step_depth;

static bool random_preempt(void) { return preempt_one_in && pick(preempt_one_in) == 0; }

static uint64_t random_frame(unsigned d, int level)
{
    uint64_t m = 0;

    for (unsigned i = 0; i < 8; i++) {
        unsigned n = pick(DOMAIN_FRAMES);

        m = dom_mfn(d, n);
        if (level < 0 || role_level(n) == (unsigned)level)
            break;
    }
    return m;
}

static uint64_t hostile_entry(unsigned d)
{
    static const uint64_t frame[] = {
        0,          1,           IO_FIRST,         SHARED_RW,        SHARED_RO,  HOLE_TABLES,
        FREE_FIRST, IO_FULL_MFN, IO_READ_ONLY_MFN, IO_FORBIDDEN_MFN, RAM_FRAMES, 0xffffffffffUL};
    uint64_t m = pick(3) ? frame[pick(ARRAY_SIZE(frame))] : random_frame(pick(4) ? 1 - d : d, -1);

    return entry(m, pick(2) ? RW : RO) ^ (pick(3) ? 0 : 1UL << pick(64));
}

static uint64_t random_entry(unsigned d, unsigned level)
{
    switch (pick(8)) {
    case 0:
        return pick(2) ? 0 : entry(random_frame(d, -1), RW & ~PTE_PRESENT);
    case 1:
        return hostile_entry(d);
    case 2:
        return entry(random_frame(d, -1), pick(2) ? RW : RO) | (pick(8) ? 0 : PTE_NX);
    }
    if (level > 1)
        return entry(random_frame(d, (int)level - 1), RW);
    return pick(3) ? entry(random_frame(d, 0), RW) : entry(random_frame(d, -1), RO);
}

static unsigned random_slot(unsigned level)
{
    static const uint16_t root_slots[] = {0, 1, 2, 255, 256, 257, 261, 271, 272, 511};

    if (level == 4)
        return root_slots[pick(ARRAY_SIZE(root_slots))];
    return pick(8) ? pick(4) : pick(512);
}

static uint64_t random_va(void)
{
    uint64_t va = 0;

    for (unsigned level = 4; level; level--)
        va = va << 9 | (pick(3) ? 0 : random_slot(level));
    va <<= 12;
    return pick(8) ? (uint64_t)((int64_t)(va << 16) >> 16) : va; /* canonical or not */
}

static void some_updates(unsigned d)
{
    struct mmu_update u[6];
    unsigned n = 1 + pick(6);

    for (unsigned i = 0; i < n; i++) {
        uint64_t m = pick(16) ? random_frame(d, 1 + (int)pick(4)) : pte_mfn(hostile_entry(d)).n;
        unsigned level = m >= DOMAIN_FIRST && m < FREE_FIRST ? role_level((m - DOMAIN_FIRST) % DOMAIN_FRAMES) : 1;
        unsigned kind = pick(16);

        u[i].ptr = m << PAGE_SHIFT | random_slot(level) * 8 |
                   (kind < 10   ? MMU_NORMAL_PT_UPDATE
                    : kind < 14 ? MMU_PT_UPDATE_PRESERVE_AD
                    : kind < 15 ? MMU_MACHPHYS_UPDATE
                                : pick(8));
        u[i].val = random_entry(d, level);
    }
    if (pick(16))
        mmu_update_n(u, n);
    else
        hypercall(hypercall_mmu_update, (uint64_t)u, n, pick(2) ? (uint64_t)&done : 0, pick(2) ? DOMID_IO : pick(4));
}

static void some_mmuext(unsigned d)
{
    static const uint8_t other[] = {MMUEXT_TLB_FLUSH_LOCAL,
                                    MMUEXT_INVLPG_LOCAL,
                                    MMUEXT_TLB_FLUSH_MULTI,
                                    MMUEXT_INVLPG_MULTI,
                                    MMUEXT_TLB_FLUSH_ALL,
                                    MMUEXT_INVLPG_ALL,
                                    MMUEXT_FLUSH_CACHE,
                                    MMUEXT_SET_LDT,
                                    MMUEXT_CLEAR_PAGE,
                                    MMUEXT_COPY_PAGE,
                                    MMUEXT_FLUSH_CACHE_GLOBAL,
                                    18,
                                    200};
    static uint64_t all_vcpus[2] = {3};
    struct mmuext_op op[4];
    unsigned n = 1 + pick(4);

    memset(op, 0, sizeof(op));
    for (unsigned i = 0; i < n; i++) {
        unsigned level = 1 + pick(4), kind = pick(16);

        op[i].arg1.mfn = pick(16) ? random_frame(d, (int)level) : pte_mfn(hostile_entry(d)).n;
        if (kind < 5) {
            op[i].cmd = MMUEXT_PIN_L1_TABLE + level - 1;
        } else if (kind < 10) {
            op[i].cmd = MMUEXT_UNPIN_TABLE;
        } else if (kind < 13) {
            op[i].cmd = pick(2) ? MMUEXT_NEW_BASEPTR : MMUEXT_NEW_USER_BASEPTR;
            op[i].arg1.mfn = pick(4) ? random_frame(d, 4) : op[i].cmd == MMUEXT_NEW_USER_BASEPTR ? 0 : op[i].arg1.mfn;
        } else {
            op[i].cmd = other[pick(ARRAY_SIZE(other))];
            if (op[i].cmd == MMUEXT_COPY_PAGE)
                op[i].arg2.src_mfn = random_frame(d, -1);
            else if (op[i].cmd == MMUEXT_SET_LDT)
                op[i].arg2.nr_ents = 16;
            else
                op[i].arg2.vcpumask.p = (void *)(pick(8) ? (char *)all_vcpus : bad_pointer);
        }
    }
    mmuext_n(op, n);
}

/* The guest makes a table of good entries in a page that it may write, as a kernel does before it pins. */
static void build_table(unsigned d)
{
    unsigned n = pick(DOMAIN_FRAMES), level = role_level(n);
    mfn_t m = MFN(dom_mfn(d, n));

    if (!frame_get_writable(m, &doms[d]))
        return;
    memset(ram[m.n], 0, PAGE_SIZE);
    for (unsigned i = 1 + pick(6); i; i--) {
        if (level > 1)
            ram[m.n][random_slot(level)] = entry(random_frame(d, (int)level - 1), RW);
        else if (level == 1)
            ram[m.n][random_slot(1)] = pick(4) ? entry(random_frame(d, 0), RW) : entry(random_frame(d, -1), RO);
    }
    frame_put_writable(m);
}

/* The guest writes wherever this CPU may still write, stale translations included. */
static void poke(unsigned d)
{
    uint64_t m = random_frame(doms[0].is_privileged ? pick(2) : d, (int)pick(5));

    if (tlb[self].write[m])
        ram[m][random_slot(4)] = random_entry(d, 1 + pick(4));
}

static void take_reference(unsigned d)
{
    mfn_t m = MFN(pick(8) ? random_frame(d, pick(2) ? 0 : -1) : pte_mfn(hostile_entry(d)).n);
    unsigned kind = pick(3);
    bool ok;

    if (held_count == MAX_HELD)
        return;
    ok = kind == 0   ? frame_get(m, &doms[d])
         : kind == 1 ? frame_get_writable(m, &doms[d])
                     : frame_get_segdesc(m, &doms[d]);
    if (ok) {
        held[held_count].m = m;
        held[held_count++].kind = kind;
    }
}

static void give_reference(unsigned i)
{
    mfn_t m = held[i].m;
    unsigned kind = held[i].kind;

    held[i] = held[--held_count];
    if (kind == 0)
        frame_put(m);
    else if (kind == 1)
        frame_put_writable(m);
    else
        frame_put_segdesc(m);
}

static void release_or_refill(unsigned d)
{
    uint64_t m = random_frame(d, -1);

    if (pick(4) == 0) {
        frame_release(MFN(m), &doms[pick(8) ? d : 1 - d]);
        return;
    }
    for (unsigned i = 0; i < DOMAIN_FRAMES; i++)
        if (frame_owner(&frames[dom_mfn(d, i)]) == DOMID_FREE) {
            give_frame(MFN(dom_mfn(d, i)), &doms[d]);
            return;
        }
}

static void write_entry(unsigned d)
{
    uint64_t m = random_frame(d, 1 + (int)pick(4)), seen = 0;
    unsigned level = role_level((m - DOMAIN_FIRST) % DOMAIN_FRAMES);
    unsigned offset = random_slot(level ? level : 1) * 8, bytes = 1U << pick(4);

    offset += pick(8 / bytes) * bytes;
    mmu_write_entry_bytes(&vcpus[self], MFN(m), offset, bytes, random_entry(d, level), pick(2),
                          pick(2) ? ram[m][offset / 8] : 0, &seen);
}

static void share_again(void)
{
    mfn_t m = MFN(SHARED_RW + pick(2));

    if (frames[m.n].control & FRAME_SHARED) {
        int rc = frame_unshare(m);

        REQUIRE(rc == 0 || rc == -EBUSY);
    } else {
        frame_share(m, &doms[0], m.n == SHARED_RW);
    }
}

/* ---- What a privileged domain does to the other one ---- */

#define OTHER_ID 2U

static uint64_t foreign_entry(void)
{
    if (pick(16) == 0)
        return entry(pick(2) ? M2P_FRAME : SHARED_INFO_OF(1), pick(2) ? RW : RO);
    return entry(random_frame(1, pick(2) ? 0 : -1), pick(2) ? RW : RO);
}

/* Frames of the other in own tables */
static void map_foreign(void)
{
    struct mmu_update u[6];
    unsigned n = 1 + pick(6);

    if (pick(8) == 0) {
        hypercall(hypercall_update_va_mapping_otherdomain, random_va(), foreign_entry(), UVMF_TLB_FLUSH | UVMF_ALL,
                  pick(8) ? OTHER_ID : DOMID_XEN);
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        u[i].ptr = random_frame(0, pick(8) ? 1 : -1) << PAGE_SHIFT | random_slot(1) * 8 |
                   (pick(8)   ? MMU_NORMAL_PT_UPDATE
                    : pick(2) ? MMU_PT_UPDATE_PRESERVE_AD
                              : MMU_MACHPHYS_UPDATE);
        u[i].val = pick(8) ? foreign_entry() : random_entry(0, 1);
    }
    mmu_update_on(u, n, pick(8) ? OTHER_ID : DOMID_XEN);
}

/* The other's tables: with its own frames, with the caller's, with the machine-to-physical table */
static void update_of_other(void)
{
    struct mmu_update u[6];
    unsigned n = 1 + pick(6), from = pick(4) ? 1 : 0;

    for (unsigned i = 0; i < n; i++) {
        uint64_t m = random_frame(1, 1 + (int)pick(4));
        unsigned level = role_level((m - DOMAIN_FIRST) % DOMAIN_FRAMES);

        u[i].ptr = m << PAGE_SHIFT | random_slot(level ? level : 1) * 8 |
                   (pick(8) ? MMU_NORMAL_PT_UPDATE : MMU_MACHPHYS_UPDATE);
        u[i].val = random_entry(from, level);
    }
    mmu_update_on(u, n, (OTHER_ID + 1) << 16 | (from ? OTHER_ID : pick(4) ? DOMID_SELF : DOMID_XEN));
}

static void pin_of_other(void)
{
    struct mmuext_op op[4];
    unsigned n = 1 + pick(4);

    memset(op, 0, sizeof(op));
    for (unsigned i = 0; i < n; i++) {
        unsigned level = 1 + pick(4), kind = pick(16);

        op[i].arg1.mfn = pick(16) ? random_frame(1, (int)level) : pte_mfn(hostile_entry(1)).n;
        op[i].cmd = kind < 6    ? MMUEXT_PIN_L1_TABLE + level - 1
                    : kind < 12 ? MMUEXT_UNPIN_TABLE
                    : kind < 13 ? MMUEXT_CLEAR_PAGE
                    : kind < 15 ? MMUEXT_COPY_PAGE
                                : MMUEXT_NEW_BASEPTR;
        if (op[i].cmd == MMUEXT_COPY_PAGE)
            op[i].arg2.src_mfn = random_frame(1, -1);
    }
    mmuext_on(op, n, OTHER_ID);
}

static unsigned destroy_one_in; /* of the steps on the other domain; 0: never */

static void step_on_other(void)
{
    if (doms[1].dying ? listed[1] && doms[1].refs && pick(3) == 0 : destroy_one_in && pick(destroy_one_in) == 0) {
        destroy_step(&doms[1]);
        return;
    }
    switch (pick(8)) {
    default:
        map_foreign();
        break;
    case 4 ... 5:
        update_of_other();
        break;
    case 6 ... 7:
        pin_of_other();
        break;
    }
}

static void one_step(unsigned cpu);

/* A guest's other vcpus, and the other guest, run between two slices of a call; the guest may never come back to it. */
static bool others_run(void)
{
    if (!step_depth && pick(4) == 0)
        one_step((self + 1 + pick(CPUS - 1)) % CPUS);
    return pick(32) != 0;
}

static void one_step(unsigned cpu)
{
    unsigned d = cpu / 2;

    self = cpu;
    if (doms[d].dying) { /* its vcpus do not run; a new one takes its number once that is free */
        if (!listed[d] && pick(8) == 0)
            start_domain(d);
        return;
    }
    if (d == 0 && doms[0].is_privileged && pick(3) == 0) {
        step_depth++;
        step_on_other();
        step_depth--;
        run_softirqs();
        return;
    }
    step_depth++;
    switch (pick(32)) {
    default:
        some_updates(d);
        break;
    case 8 ... 15:
        some_mmuext(d);
        break;
    case 16 ... 17:
        hypercall(hypercall_update_va_mapping, random_va(), random_entry(d, 1), pick(16), 0);
        break;
    case 18:
        hypercall(hypercall_update_va_mapping_otherdomain, random_va(), random_entry(d, 1), UVMF_TLB_FLUSH | UVMF_ALL,
                  pick(2) ? DOMID_IO : pick(4));
        break;
    case 19 ... 21:
        build_table(d);
        break;
    case 22 ... 23:
        poke(d);
        break;
    case 24:
        take_reference(d);
        break;
    case 25:
        if (held_count)
            give_reference(pick(held_count));
        break;
    case 26:
        release_or_refill(d);
        break;
    case 27 ... 28:
        write_entry(d);
        break;
    case 29:
        mmu_new_kernel_root(&vcpus[self], MFN(random_frame(d, 4)));
        break;
    case 30:
        vcpus[self].pv.kernel_mode = pick(2);
        break;
    case 31:
        if (pick(4) == 0) {
            share_again();
        } else {
            mfn_t m;

            if (mmu_get_page_of_va(&vcpus[self], random_va(), pick(2), &m))
                frame_put(m);
        }
        break;
    }
    step_depth--;
    run_softirqs();
}

static void start_steps(bool privileged)
{
    start_machine();
    doms[0].is_privileged = privileged;
    destroy_one_in = 0;
    held_count = step_depth = preempt_one_in = 0;
    preempt = random_preempt;
    between_slices = others_run;
}

static void end_steps(void)
{
    while (held_count)
        give_reference(0);
    end_machine();
}

#endif
