/* Where the elements of a PV domain's start lie: arithmetic only, so that it can be tested by itself. */
#include "domain/pv_build.h"

#include "lib/util.h"
#include "memory/layout.h"

#define MIN_PADDING (512UL << 10) /* behind the last element */
#define REGION_ALIGN (4UL << 20)  /* the region ends on such a boundary */
#define CANONICAL_END (1UL << 47)

static uint64_t slots(uint64_t start, uint64_t size, unsigned shift)
{
    return ((start + size - 1) >> shift) - (start >> shift) + 1;
}

/* Tables of levels 1 to 3 for a range that does not wrap */
static uint64_t tables(uint64_t start, uint64_t size)
{
    return slots(start, size, 21) + slots(start, size, 30) + slots(start, size, 39);
}

/* Bytes from 'start' to the end of what a guest may map there; 0 if it may not map anything. */
static uint64_t room(uint64_t start)
{
    if (start < CANONICAL_END)
        return CANONICAL_END - start;
    return start >= HOLE_END ? 0 - start : 0;
}

const char *pv_layout(const struct pv_layout_request *r, struct pv_layout *l)
{
    uint64_t offset, limit = room(r->v_start);

    *l = (struct pv_layout){.v_start = r->v_start};
    if (r->v_start % PAGE_SIZE || !limit)
        return "the kernel's note VIRT_BASE is not an address that a kernel can have";
    if (r->kernel_end <= r->v_start || r->kernel_end - r->v_start > limit - PAGE_SIZE)
        return "the kernel does not lie behind the address in its note VIRT_BASE";
    if (r->initrd_size > 1UL << 40 || r->pages > 1UL << 36)
        return "a size is absurd";

    offset = ROUND_UP(r->kernel_end - r->v_start, PAGE_SIZE);
    l->initrd_pages = DIV_ROUND_UP(r->initrd_size, PAGE_SIZE);
    l->p2m_pages = DIV_ROUND_UP(r->pages * sizeof(uint64_t), PAGE_SIZE);
    if (!r->initrd_unmapped) {
        l->initrd_pfn = offset / PAGE_SIZE;
        offset += l->initrd_pages * PAGE_SIZE;
    }
    if (!r->p2m_elsewhere) {
        l->p2m_pfn = offset / PAGE_SIZE;
        l->p2m_va = r->v_start + offset;
        offset += l->p2m_pages * PAGE_SIZE;
    }
    if (offset > limit)
        return "the kernel and what is mapped behind it do not fit into the address space";
    l->start_info_va = r->v_start + offset;
    offset += PAGE_SIZE;
    if (r->console_page) {
        l->console_va = r->v_start + offset;
        offset += PAGE_SIZE;
    }
    l->table_va = r->v_start + offset;
    offset += PAGE_SIZE; /* the stack */

    /* The tables map themselves: one more can make the region longer, which can need one more. */
    uint64_t size;

    for (l->table_pages = 4;; l->table_pages++) {
        size = ROUND_UP(r->v_start + offset + l->table_pages * PAGE_SIZE + MIN_PADDING, REGION_ALIGN) - r->v_start;
        if (size > limit || size < offset)
            return "the kernel and what is mapped behind it do not fit into the address space";
        if (1 + tables(r->v_start, size) <= l->table_pages)
            break;
    }
    l->stack_va = l->table_va + l->table_pages * PAGE_SIZE;
    l->v_end = r->v_start + size;
    l->region_pages = l->pages_needed = size / PAGE_SIZE;
    if (r->initrd_unmapped) {
        l->initrd_pfn = l->pages_needed;
        l->pages_needed += l->initrd_pages;
    }
    if (r->p2m_elsewhere) {
        uint64_t bytes = l->p2m_pages * PAGE_SIZE;

        if (r->p2m_address % PAGE_SIZE || room(r->p2m_address) < bytes ||
            (r->p2m_address - r->v_start < size || r->v_start - r->p2m_address < bytes))
            return "the kernel's note INIT_P2M is not an address where the list of frames can be";
        l->p2m_va = r->p2m_address;
        l->p2m_pfn = l->pages_needed;
        l->p2m_tables = tables(r->p2m_address, bytes);
        l->pages_needed += l->p2m_pages + l->p2m_tables;
    }
    return NULL;
}
