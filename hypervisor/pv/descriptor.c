/* Segment descriptors of PV guests: see descriptor.h. */
#include "pv/descriptor.h"
#include "cpu/desc.h"
#include "cpu/instr.h"
#include "domain/guest_access.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"
#include "lib/string.h"
#include "memory/map.h"
#include "pv/mmu.h"

/* Fields of a descriptor (SDM volume 3, 3.4.5) */
#define DESC_TYPE_SHIFT 40
#define DESC_TYPE_MASK (15UL << DESC_TYPE_SHIFT)
#define DESC_S (1UL << 44) /* code or data, as against system */
#define DESC_DPL_SHIFT 45
#define DESC_DPL (3UL << DESC_DPL_SHIFT)
#define DESC_PRESENT (1UL << 47)
#define DESC_CODE (1UL << 43)

#define DESCRIPTORS_PER_PAGE (PAGE_SIZE / 8)
#define SELECTOR_LDT 4
#define LDT_MAX_ENTRIES 8192

/* ----- rules ----- */

/*
 * What a guest may put where the processor reads descriptors. Paging keeps the guest in, whatever base and limit say,
 * so code and data segments need only be of the guest's privilege level; a system descriptor could change it (gates),
 * or hand the processor structures to write to (TSS), so there are none. What is not present does nothing.
 */
bool descriptor_allowed(uint64_t *desc)
{
    uint64_t v = *desc;

    if (!(v & DESC_PRESENT))
        return true;
    if (!(v & DESC_S))
        return !(v & DESC_TYPE_MASK); /* the reserved type 0: never loads */
    if ((v & DESC_DPL) != DESC_DPL)
        *desc = v | DESC_DPL;
    return true;
}

bool descriptor_validate(struct domain *d, uint64_t *desc)
{
    if (descriptor_allowed(desc))
        return true;
    guest_log(LOG_WARNING, "descriptor %016lx refused: only code and data segments are allowed\n", *desc);
    return false;
}

bool descriptor_validate_page(struct domain *d, uint64_t *page)
{
    for (unsigned i = 0; i < DESCRIPTORS_PER_PAGE; i++) {
        uint64_t desc = READ_ONCE(page[i]), fixed = desc;

        if (!desc)
            continue;
        if (!descriptor_validate(d, &fixed))
            return false;
        if (fixed != desc)
            WRITE_ONCE(page[i], fixed);
    }
    return true;
}

/* ----- windows ----- */

static unsigned long window_page(const struct vcpu *v, unsigned slot)
{
    return (unsigned long)v->pv.descriptor_window + slot * PAGE_SIZE;
}

static uint64_t *window_entry(const struct vcpu *v, unsigned slot) { return map_l1_slot(window_page(v, slot)); }

/* Behind the end of a guest's GDT: null descriptors, so that a selector there is a #GP and not a page fault. */
static const uint64_t no_descriptors[DESCRIPTORS_PER_PAGE] __aligned(PAGE_SIZE);

/* Writable for the processor's accessed bits. Not global: a switch of roots may forget it. */
void descriptor_window_set(struct vcpu *v, unsigned slot, mfn_t m)
{
    uint64_t *entry = window_entry(v, slot), value = 0;

    if (!mfn_eq(m, INVALID_MFN))
        value = m.n << PAGE_SHIFT | PTE_PRESENT | PTE_WRITE | PTE_ACCESSED | PTE_DIRTY | PTE_NX;
    else if (slot < GDT_WINDOW_PAGES)
        value = image_to_maddr(no_descriptors).n | PTE_PRESENT | PTE_ACCESSED | PTE_NX;
    if (READ_ONCE(*entry) == value)
        return;
    WRITE_ONCE(*entry, value);
    if (v == current)
        invlpg(window_page(v, slot)); /* other CPUs that ran v are dealt with when it comes to them */
    else
        v->pv.descriptor_cpu = 0; /* by descriptor_load */
}

struct table_register {
    uint16_t limit;
    uint64_t base;
} __packed;

#define GDT_LIMIT (LDT_SELECTOR + 16 - 1) /* the last of Croft's descriptors, of two slots */

void descriptor_load(struct vcpu *v)
{
    struct table_register gdtr = {GDT_LIMIT, (unsigned long)v->pv.descriptor_window};
    unsigned cpu = cpu_id();

    if (v->pv.descriptor_cpu != cpu + 1) {
        /* This CPU may remember the window as it was when v last ran here. */
        descriptor_window_set(v, FIRST_RESERVED_GDT_PAGE, cpu_gdt_frame(cpu));
        for (unsigned slot = 0; slot < GDT_WINDOW_PAGES + LDT_WINDOW_PAGES; slot++)
            invlpg(window_page(v, slot));
        v->pv.descriptor_cpu = cpu + 1;
    }
    __asm__ volatile("lgdt %0" ::"m"(gdtr));
    desc_set_ldt(window_page(v, GDT_WINDOW_PAGES), v->pv.ldt_entries);
}

/* ----- GDT ----- */

int descriptor_set_gdt(struct vcpu *v, const uint64_t *frames, unsigned entries)
{
    unsigned pages = (unsigned)DIV_ROUND_UP(entries, DESCRIPTORS_PER_PAGE);
    unsigned old_pages = (unsigned)DIV_ROUND_UP(v->pv.gdt_entries, DESCRIPTORS_PER_PAGE);
    mfn_t old[PV_MAX_GDT_FRAMES];

    if (entries > FIRST_RESERVED_GDT_ENTRY)
        return refuse(-EINVAL, "set_gdt: %u entries, at most %u\n", entries, FIRST_RESERVED_GDT_ENTRY);
    for (unsigned i = 0; i < pages; i++) {
        if (frame_get_segdesc(MFN(frames[i]), v->domain))
            continue;
        while (i--)
            frame_put_segdesc(MFN(frames[i]));
        return refuse(-EINVAL, "set_gdt: a frame is not the domain's, is writable or a page table, or holds a refused "
                               "descriptor\n");
    }

    memcpy(old, v->pv.gdt_frames, sizeof(old));
    for (unsigned i = 0; i < PV_MAX_GDT_FRAMES; i++) {
        v->pv.gdt_frames[i] = i < pages ? MFN(frames[i]) : MFN(0);
        descriptor_window_set(v, i, i < pages ? MFN(frames[i]) : INVALID_MFN);
    }
    v->pv.gdt_entries = entries;
    for (unsigned i = 0; i < old_pages; i++)
        frame_put_segdesc(old[i]);
    return 0;
}

long hypercall_set_gdt(uint64_t list, uint64_t entries, uint64_t a3, uint64_t a4, uint64_t a5)
{
    uint64_t frames[PV_MAX_GDT_FRAMES];
    unsigned n = (unsigned)entries;

    if (n > FIRST_RESERVED_GDT_ENTRY)
        return refuse(-EINVAL, "set_gdt: %u entries, at most %u\n", n, FIRST_RESERVED_GDT_ENTRY);
    if (copy_from_guest(frames, (const void *)list, DIV_ROUND_UP(n, DESCRIPTORS_PER_PAGE) * sizeof(frames[0])))
        return -EFAULT;
    return descriptor_set_gdt(current, frames, n);
}

long hypercall_update_descriptor(uint64_t address, uint64_t desc, uint64_t a3, uint64_t a4, uint64_t a5)
{
    struct domain *d = current->domain;
    mfn_t m = MFN(address >> PAGE_SHIFT);
    uint64_t *at;

    if (address & 7)
        return refuse(-EINVAL, "update_descriptor: %#lx is not a multiple of 8\n", address);
    if (!descriptor_validate(d, &desc))
        return -EINVAL;
    /* A page that is writable anyhow, or one in use for descriptors; never a page table. */
    if (frame_get_writable(m, d)) {
        at = (uint64_t *)((char *)mfn_to_virt(m) + (address & ~PAGE_MASK));
        WRITE_ONCE(*at, desc);
        frame_put_writable(m);
    } else if (frame_get_segdesc(m, d)) {
        at = (uint64_t *)((char *)mfn_to_virt(m) + (address & ~PAGE_MASK));
        WRITE_ONCE(*at, desc);
        frame_put_segdesc(m);
    } else {
        return refuse(-EINVAL, "update_descriptor: frame %#lx is not the domain's or is a page table\n", m.n);
    }
    return 0;
}

/* ----- LDT ----- */

void descriptor_flush_ldt(struct vcpu *v)
{
    if (!v->pv.ldt_mapped)
        return;
    for (unsigned i = 0; i < LDT_WINDOW_PAGES; i++) {
        uint64_t entry = READ_ONCE(*window_entry(v, GDT_WINDOW_PAGES + i));

        if (!(entry & PTE_PRESENT))
            continue;
        descriptor_window_set(v, GDT_WINDOW_PAGES + i, INVALID_MFN);
        frame_put_segdesc(pte_mfn(entry));
    }
    v->pv.ldt_mapped = 0;
}

int descriptor_set_ldt(struct vcpu *v, unsigned long base, unsigned entries)
{
    if (entries > LDT_MAX_ENTRIES || (base & ~PAGE_MASK) || !guest_range_ok((void *)base, (size_t)entries * 8))
        return refuse(-EINVAL, "set LDT: %u entries at %#lx\n", entries, base);
    if (v->pv.ldt_entries == entries && v->pv.ldt_base == base && !v->pv.ldt_mapped)
        return 0;
    descriptor_flush_ldt(v);
    v->pv.ldt_base = base;
    v->pv.ldt_entries = entries;
    if (v == current)
        desc_set_ldt(window_page(v, GDT_WINDOW_PAGES), entries);
    return 0;
}

bool descriptor_map_ldt_page(struct vcpu *v, unsigned offset)
{
    unsigned page = offset >> PAGE_SHIFT;
    mfn_t m;
    bool ok;

    if (offset >= v->pv.ldt_entries * 8 || (READ_ONCE(*window_entry(v, GDT_WINDOW_PAGES + page)) & PTE_PRESENT))
        return false;
    if (!mmu_get_page_of_va(v, v->pv.ldt_base + page * PAGE_SIZE, false, &m))
        return false;
    ok = frame_get_segdesc(m, v->domain);
    frame_put(m);
    if (!ok) {
        guest_log(LOG_WARNING, "LDT page at %#lx is writable, a page table, or holds a refused descriptor\n",
                  v->pv.ldt_base + page * PAGE_SIZE);
        return false;
    }
    descriptor_window_set(v, GDT_WINDOW_PAGES + page, m);
    v->pv.ldt_mapped++;
    return true;
}

/* ----- others ----- */

void descriptor_release(struct vcpu *v)
{
    descriptor_flush_ldt(v);
    v->pv.ldt_entries = 0;
    for (unsigned i = 0; i < DIV_ROUND_UP(v->pv.gdt_entries, DESCRIPTORS_PER_PAGE); i++) {
        descriptor_window_set(v, i, INVALID_MFN);
        frame_put_segdesc(v->pv.gdt_frames[i]);
        v->pv.gdt_frames[i] = MFN(0);
    }
    v->pv.gdt_entries = 0;
}

bool descriptor_read(struct vcpu *v, uint16_t selector, uint64_t *desc)
{
    unsigned index = selector >> 3, page = index / DESCRIPTORS_PER_PAGE;
    mfn_t m;

    if (selector & SELECTOR_LDT) {
        uint64_t *entry;

        if (index >= v->pv.ldt_entries)
            return false;
        entry = window_entry(v, GDT_WINDOW_PAGES + page);
        if (!(READ_ONCE(*entry) & PTE_PRESENT) && !descriptor_map_ldt_page(v, index * 8))
            return false;
        m = pte_mfn(READ_ONCE(*entry));
    } else if (index < v->pv.gdt_entries) {
        m = v->pv.gdt_frames[page];
    } else if (page == FIRST_RESERVED_GDT_PAGE) {
        m = cpu_gdt_frame(cpu_id());
    } else {
        return false;
    }
    *desc = ((const volatile uint64_t *)mfn_to_virt(m))[index % DESCRIPTORS_PER_PAGE];
    return true;
}
