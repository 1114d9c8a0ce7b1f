/* sources: hypervisor/pv/descriptor.c */
/* Descriptor rules, and the GDT and LDT of a vcpu: what is taken, mapped and given back. Frames are faked by a count.
 * */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "cpu/desc.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"
#include "memory/map.h"
#include "pv/descriptor.h"
#include "pv/mmu.h"

/* ----- the world around ----- */

static struct percpu cpu;
static struct domain dom;
static struct vcpu vcpu;
static uint64_t window[GDT_WINDOW_PAGES + LDT_WINDOW_PAGES];
static char window_base[(GDT_WINDOW_PAGES + LDT_WINDOW_PAGES) * 4096] __attribute__((aligned(4096)));
static int segdesc_refs[64], writable_refs[64], plain_refs[64];
static uint64_t bad_frame = ~0UL; /* cannot become a descriptor page */
static uint64_t writable_frame = ~0UL;
static unsigned ldt_loaded;
static mfn_t ldt_pages[16];
static const void *hypercall_memory;
static size_t hypercall_memory_size;

static uint64_t ram[64][512];

struct percpu *this_cpu(void) { return &cpu; }
void *mfn_to_virt(mfn_t m)
{
    assert_true(m.n < 64);
    return ram[m.n];
}
uint64_t *map_l1_slot(unsigned long va) { return &window[(va - (unsigned long)window_base) >> 12]; }
mfn_t cpu_gdt_frame(unsigned n) { return MFN(0x1000 + n); }
void desc_set_ldt(unsigned long base, unsigned entries) { ldt_loaded = entries; }

bool frame_get_segdesc(mfn_t m, struct domain *d)
{
    assert_ptr_equal(d, &dom);
    if (m.n >= 64 || m.n == bad_frame || m.n == writable_frame)
        return false;
    segdesc_refs[m.n]++;
    return true;
}
void frame_put_segdesc(mfn_t m)
{
    assert_true(m.n < 64 && segdesc_refs[m.n] > 0);
    segdesc_refs[m.n]--;
}
bool frame_get_writable(mfn_t m, const struct domain *d)
{
    if (m.n != writable_frame)
        return false;
    writable_refs[m.n]++;
    return true;
}
void frame_put_writable(mfn_t m) { writable_refs[m.n]--; }
void frame_put(mfn_t m) { plain_refs[m.n]--; }
bool mmu_get_page_of_va(struct vcpu *v, unsigned long va, bool writable, mfn_t *mfn)
{
    unsigned page = (unsigned)((va - v->pv.ldt_base) >> 12);

    if (page >= 16 || !ldt_pages[page].n)
        return false;
    *mfn = ldt_pages[page];
    plain_refs[mfn->n]++;
    return true;
}
size_t copy_from_guest(void *to, const void *guest, size_t n)
{
    if (!hypercall_memory || n > hypercall_memory_size)
        return n;
    memcpy(to, hypercall_memory, n);
    return 0;
}
void guest_log(enum log_level level, const char *fmt, ...) {}

static int setup(void **state)
{
    memset(&cpu, 0, sizeof(cpu));
    memset(&vcpu, 0, sizeof(vcpu));
    memset(window, 0, sizeof(window));
    memset(segdesc_refs, 0, sizeof(segdesc_refs));
    memset(plain_refs, 0, sizeof(plain_refs));
    memset(ldt_pages, 0, sizeof(ldt_pages));
    bad_frame = writable_frame = ~0UL;
    hypercall_memory = NULL;
    dom.id = 0;
    vcpu.domain = &dom;
    vcpu.pv.descriptor_window = window_base;
    cpu.current_vcpu = &vcpu;
    return 0;
}

static unsigned total_segdesc(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < 64; i++)
        n += (unsigned)segdesc_refs[i];
    return n;
}

/* ----- rules ----- */

#define PRESENT (1UL << 47)
#define S (1UL << 44)
#define DPL(n) ((uint64_t)(n) << 45)
#define TYPE(n) ((uint64_t)(n) << 40)

static void rules(void **state)
{
    static const struct {
        const char *what;
        uint64_t desc, result;
        bool ok;
    } cases[] = {
        {"null", 0, 0, true},
        {"not present: any system type", TYPE(12) | 0x1234, TYPE(12) | 0x1234, true},
        {"not present: DPL is left", S | TYPE(2), S | TYPE(2), true},
        {"64-bit code, DPL 3", 0x00affb000000ffff, 0x00affb000000ffff, true},
        {"64-bit code, DPL 0: raised", 0x00af9b000000ffff, 0x00affb000000ffff, true},
        {"64-bit code, DPL 1: raised", 0x00afbb000000ffff, 0x00affb000000ffff, true},
        {"32-bit code, DPL 0: raised", 0x00cf9b000000ffff, 0x00cffb000000ffff, true},
        {"data, DPL 0: raised", 0x00cf93000000ffff, 0x00cff3000000ffff, true},
        {"data with a base", 0x12cff3345678ffff, 0x12cff3345678ffff, true},
        {"conforming code", 0x00affe000000ffff, 0x00affe000000ffff, true},
        {"expand-down data", 0x00cff6000000ffff, 0x00cff6000000ffff, true},
        {"LDT", PRESENT | TYPE(2), 0, false},
        {"TSS, available", PRESENT | TYPE(9), 0, false},
        {"TSS, busy", PRESENT | TYPE(11), 0, false},
        {"call gate", PRESENT | TYPE(12), 0, false},
        {"call gate, DPL 3", PRESENT | DPL(3) | TYPE(12), 0, false},
        {"16-bit call gate", PRESENT | TYPE(4), 0, false},
        {"task gate", PRESENT | TYPE(5), 0, false},
        {"interrupt gate", PRESENT | TYPE(14), 0, false},
        {"trap gate", PRESENT | TYPE(15), 0, false},
        {"reserved type 0", PRESENT | 0x55, PRESENT | 0x55, true},
        {"upper half of a 16-byte descriptor", 0x00000000ffff8200, 0x00000000ffff8200, true},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        uint64_t d = cases[i].desc;

        if (descriptor_allowed(&d) != cases[i].ok)
            fail_msg("%s: %s", cases[i].what, cases[i].ok ? "refused" : "allowed");
        if (cases[i].ok && d != cases[i].result)
            fail_msg("%s: became %016lx, not %016lx", cases[i].what, d, cases[i].result);
    }
}

/* Whatever bits a guest thinks of: what is allowed and present is code or data at DPL 3, or never loads. */
static void rules_random(void **state)
{
    srandom(2);
    for (unsigned i = 0; i < 1000000; i++) {
        uint64_t d = (uint64_t)random() << 42 ^ (uint64_t)random() << 21 ^ (uint64_t)random(), before = d;

        if (!descriptor_allowed(&d))
            continue;
        assert_true((d & ~DPL(3)) == (before & ~DPL(3)));
        if ((d & PRESENT) && (d & S))
            assert_true((d & DPL(3)) == DPL(3));
        if ((d & PRESENT) && !(d & S))
            assert_true((d & TYPE(15)) == 0);
    }
}

static void page(void **state)
{
    static uint64_t p[512];

    memset(p, 0, sizeof(p));
    assert_true(descriptor_validate_page(&dom, p));
    p[511] = 0x00af9b000000ffff;
    assert_true(descriptor_validate_page(&dom, p));
    assert_true(p[511] == 0x00affb000000ffff);
    p[300] = PRESENT | TYPE(12);
    assert_false(descriptor_validate_page(&dom, p));
}

/* ----- GDT ----- */

/* The frame behind a window's page; none where the null descriptors are, read-only. */
static uint64_t slot(unsigned n) { return window[n] & PTE_WRITE ? pte_mfn(window[n]).n : ~0UL; }

static void gdt(void **state)
{
    uint64_t two[] = {5, 6}, one[] = {7}, bad[] = {8, 9, 10};

    assert_int_equal(descriptor_set_gdt(&vcpu, two, 513), 0);
    assert_int_equal(total_segdesc(), 2);
    assert_true(slot(0) == 5 && slot(1) == 6 && slot(2) == ~0UL);
    assert_true((window[2] & (PTE_PRESENT | PTE_USER)) == PTE_PRESENT && window[2] & PTE_NX);
    assert_true(window[0] & PTE_WRITE && window[0] & PTE_NX && !(window[0] & (PTE_USER | PTE_GLOBAL)));

    /* A refused change changes nothing. */
    bad_frame = 10;
    assert_int_equal(descriptor_set_gdt(&vcpu, bad, 3 * 512), -EINVAL);
    assert_int_equal(descriptor_set_gdt(&vcpu, bad, FIRST_RESERVED_GDT_ENTRY + 1), -EINVAL);
    assert_int_equal(total_segdesc(), 2);
    assert_true(slot(0) == 5 && slot(1) == 6);
    assert_int_equal(vcpu.pv.gdt_entries, 513);

    assert_int_equal(descriptor_set_gdt(&vcpu, one, 16), 0);
    assert_int_equal(total_segdesc(), 1);
    assert_true(slot(0) == 7 && slot(1) == ~0UL);

    descriptor_release(&vcpu);
    assert_int_equal(total_segdesc(), 0);
    assert_true(slot(0) == ~0UL);
    assert_int_equal(vcpu.pv.gdt_entries, 0);
}

static void gdt_hypercall(void **state)
{
    uint64_t frames[PV_MAX_GDT_FRAMES];

    for (unsigned i = 0; i < PV_MAX_GDT_FRAMES; i++)
        frames[i] = 20 + i;
    assert_int_equal(hypercall_set_gdt(0x1000, 512, 0, 0, 0), -EFAULT);
    hypercall_memory = frames;
    hypercall_memory_size = sizeof(frames);
    assert_int_equal(hypercall_set_gdt(0x1000, FIRST_RESERVED_GDT_ENTRY + 1, 0, 0, 0), -EINVAL);
    assert_int_equal(hypercall_set_gdt(0x1000, ~0U, 0, 0, 0), -EINVAL);
    assert_int_equal(hypercall_set_gdt(0x1000, FIRST_RESERVED_GDT_ENTRY, 0, 0, 0), 0);
    assert_int_equal(total_segdesc(), PV_MAX_GDT_FRAMES);
    assert_true(slot(13) == 33 && slot(14) == ~0UL);
    assert_int_equal(hypercall_set_gdt(0, 0, 0, 0, 0), 0);
    assert_int_equal(total_segdesc(), 0);
}

/* Another vcpu's window: the CPU where it runs next must not trust its TLB. */
static void gdt_of_another(void **state)
{
    static struct vcpu other;
    uint64_t one[] = {3};

    other = vcpu;
    other.pv.descriptor_cpu = 1;
    assert_int_equal(descriptor_set_gdt(&other, one, 8), 0);
    assert_int_equal(other.pv.descriptor_cpu, 0);
    descriptor_release(&other);
}

static void update_descriptor(void **state)
{
    /* Refused before any memory is touched */
    assert_int_equal(hypercall_update_descriptor(0x5004, 0, 0, 0, 0), -EINVAL);
    assert_int_equal(hypercall_update_descriptor(0x5000, PRESENT | TYPE(12), 0, 0, 0), -EINVAL);
    bad_frame = 5;
    assert_int_equal(hypercall_update_descriptor(0x5000, 0, 0, 0, 0), -EINVAL);
    assert_int_equal(hypercall_update_descriptor(~7UL, 0, 0, 0, 0), -EINVAL);
    assert_int_equal(total_segdesc(), 0);

    /* A page in use for descriptors, and one that is writable: written with the DPL put right */
    assert_int_equal(hypercall_update_descriptor(0x6010, 0x00af9b000000ffff, 0, 0, 0), 0);
    assert_true(ram[6][2] == 0x00affb000000ffff);
    writable_frame = 7;
    assert_int_equal(hypercall_update_descriptor(0x7ff8, 0x00cff3000000ffff, 0, 0, 0), 0);
    assert_true(ram[7][511] == 0x00cff3000000ffff);
    assert_int_equal(writable_refs[7], 0);
    assert_int_equal(total_segdesc(), 0);
}

static void read_back(void **state)
{
    uint64_t frames[] = {4, 5}, d = 0;

    ram[5][3] = 0x1234;
    ram[9][1] = 0x5678;
    assert_int_equal(descriptor_set_gdt(&vcpu, frames, 600), 0);
    assert_true(descriptor_read(&vcpu, (512 + 3) << 3 | 3, &d));
    assert_true(d == 0x1234);
    assert_false(descriptor_read(&vcpu, 600 << 3, &d));   /* beyond the GDT */
    assert_false(descriptor_read(&vcpu, 15 << 12, &d));   /* behind Croft's page */
    assert_false(descriptor_read(&vcpu, 1 << 3 | 4, &d)); /* no LDT */
    assert_int_equal(descriptor_set_ldt(&vcpu, 0x7f0000000000, 2), 0);
    ldt_pages[0] = MFN(9);
    assert_true(descriptor_read(&vcpu, 1 << 3 | 4, &d));
    assert_true(d == 0x5678);
    assert_false(descriptor_read(&vcpu, 2 << 3 | 4, &d));
    descriptor_release(&vcpu);
    assert_int_equal(total_segdesc(), 0);
}

/* ----- LDT ----- */

#define LDT_AT 0x7f0000000000UL

static void ldt(void **state)
{
    assert_int_equal(descriptor_set_ldt(&vcpu, LDT_AT + 8, 10), -EINVAL);
    assert_int_equal(descriptor_set_ldt(&vcpu, LDT_AT, 8193), -EINVAL);
    assert_int_equal(descriptor_set_ldt(&vcpu, HOLE_START, 10), -EINVAL);
    assert_int_equal(descriptor_set_ldt(&vcpu, HOLE_START - 4096, 513), -EINVAL);
    assert_int_equal(descriptor_set_ldt(&vcpu, LDT_AT, 600), 0);
    assert_int_equal(ldt_loaded, 600);

    /* Nothing there: the fault is the guest's */
    assert_false(descriptor_map_ldt_page(&vcpu, 0));
    ldt_pages[0] = MFN(11);
    ldt_pages[1] = MFN(12);
    ldt_pages[2] = MFN(13);
    assert_true(descriptor_map_ldt_page(&vcpu, 8));
    assert_true(slot(16) == 11);
    assert_false(descriptor_map_ldt_page(&vcpu, 16)); /* is mapped: another fault then */
    assert_true(descriptor_map_ldt_page(&vcpu, 599 * 8));
    assert_false(descriptor_map_ldt_page(&vcpu, 600 * 8)); /* beyond the limit */
    assert_int_equal(total_segdesc(), 2);
    for (unsigned i = 0; i < 64; i++)
        assert_int_equal(plain_refs[i], 0);

    descriptor_flush_ldt(&vcpu);
    assert_int_equal(total_segdesc(), 0);
    assert_true(slot(16) == ~0UL && slot(17) == ~0UL);
    assert_true(descriptor_map_ldt_page(&vcpu, 0)); /* comes back on demand */

    bad_frame = 12;
    assert_false(descriptor_map_ldt_page(&vcpu, 4096));
    assert_int_equal(descriptor_set_ldt(&vcpu, 0, 0), 0);
    assert_int_equal(ldt_loaded, 0);
    assert_int_equal(total_segdesc(), 0);
    for (unsigned i = 0; i < 64; i++)
        assert_int_equal(plain_refs[i], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(rules, setup),
        cmocka_unit_test_setup(rules_random, setup),
        cmocka_unit_test_setup(page, setup),
        cmocka_unit_test_setup(gdt, setup),
        cmocka_unit_test_setup(gdt_hypercall, setup),
        cmocka_unit_test_setup(gdt_of_another, setup),
        cmocka_unit_test_setup(update_descriptor, setup),
        cmocka_unit_test_setup(read_back, setup),
        cmocka_unit_test_setup(ldt, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
