/* Where things lie in a PVH domain's physical memory: arithmetic only, so that it can be tested by itself. */
#include "domain/pvh_build.h"

#include "hvm/vlapic.h"
#include "lib/util.h"

#define MAX_PAGES (1UL << 35) /* half of what the nested page tables reach */

static void add(struct pvh_layout *l, uint64_t start, uint64_t end, uint32_t type)
{
    if (end > start)
        l->map[l->map_count++] = (struct hvm_memmap_table_entry){.addr = start, .size = end - start, .type = type};
}

static void make_map(struct pvh_layout *l)
{
    add(l, 0, l->low_end, XEN_HVM_MEMMAP_TYPE_RAM);
    add(l, PVH_ACPI_START, PVH_ACPI_START + PVH_ACPI_SIZE, XEN_HVM_MEMMAP_TYPE_ACPI);
    add(l, APIC_BASE_ADDRESS, APIC_BASE_ADDRESS + PAGE_SIZE, XEN_HVM_MEMMAP_TYPE_RESERVED);
    add(l, PVH_SPECIAL_START, PVH_SPECIAL_START + PVH_SPECIAL_PAGES * PAGE_SIZE, XEN_HVM_MEMMAP_TYPE_RESERVED);
    add(l, PVH_HIGH_START, l->high_end, XEN_HVM_MEMMAP_TYPE_RAM);
}

const char *pvh_layout(const struct pvh_layout_request *r, struct pvh_layout *l)
{
    uint64_t kernel_pages = DIV_ROUND_UP(r->kernel_end, PAGE_SIZE), low_pages;

    *l = (struct pvh_layout){0};
    if (r->initrd_size > 1UL << 40 || r->pages > MAX_PAGES)
        return "a size is absurd";
    if (r->kernel_end <= r->kernel_start || r->kernel_end > PVH_LOW_END)
        return "the kernel's physical addresses do not lie below 3 GiB";
    l->initrd_pages = DIV_ROUND_UP(r->initrd_size, PAGE_SIZE);
    l->pages_needed = kernel_pages + l->initrd_pages + 1;
    if (l->pages_needed > PVH_LOW_END / PAGE_SIZE)
        return "the kernel and the initrd do not fit below 3 GiB";
    low_pages = min(r->pages, PVH_LOW_END / PAGE_SIZE);
    l->low_end = low_pages * PAGE_SIZE;
    l->high_end = PVH_HIGH_START + (r->pages - low_pages) * PAGE_SIZE;
    l->start_info = l->low_end - PAGE_SIZE;
    l->initrd = l->start_info - l->initrd_pages * PAGE_SIZE;
    make_map(l);
    return NULL;
}
