/* Addresses, frames and entries. */
#include "hostile.h"

struct child_talk *const random_talk = &kit_talk;

uint64_t any_address(void)
{
    unsigned v = vcpu_id() % RANDOM_VCPUS;

    switch (below(40)) {
    case 0:
        return 0;
    case 1:
        return VA_UNMAPPED + below(PAGE_SIZE);
    case 2:
        return VA_NONCANONICAL;
    case 3:
        return PICK(0x0000800000000000UL, 0x00007fffffffffffUL, 0x00007ffffffffff8UL, 0xffff7ffffffffff8UL);
    case 4:
        return VA_HOLE;
    case 5:
        return HYPERVISOR_VIRT_START + below(1UL << 43);
    case 6:
        return HYPERVISOR_VIRT_END - below(16);
    case 7:
        return ~0UL - below(PAGE_SIZE);
    case 8:
        return any_number();
    case 9:
        return U(tables[below(TABLES)]) + below(PAGE_SIZE);
    case 10:
        return U(requests[!v]) + below(PAGE_SIZE); /* what the other vcpu is about to use */
    case 11:
        if (!one_in(10))
            return any_number();
        return start_info->pt_base + below(start_info->nr_pt_frames * PAGE_SIZE);
    case 12:
        if (one_in(20)) /* its own feet */
            return U(hypercall_page) + below(U(kit_image_end) - U(hypercall_page));
        return GRANT_VA + below(2 * PAGE_SIZE);
    case 13:
        return U(shared_info) + below(PAGE_SIZE);
    case 14:
        return TEST_VA + (1 + below(SLOTS)) * PAGE_SIZE - below(16);
    case 15:
    case 16:
    case 17:
        return U(data_pages[below(PAGES)]) + (below(PAGE_SIZE) & ~7UL);
    case 18:
        return U(data_pages[below(PAGES)]) + below(PAGE_SIZE);
    case 19:
    case 20:
    case 21:
    case 22:
    case 23:
        return U(requests[v]) + (below(RANDOM_REQUEST_PAGES * PAGE_SIZE) & ~7UL);
    default:
        return TEST_VA + below(SLOTS) * PAGE_SIZE + (one_in(4) ? below(PAGE_SIZE) : 0);
    }
}

uint64_t any_frame(void)
{
    switch (one_in(60) ? 20 + below(4) : below(20)) { /* its own feet seldom enough to live for a while */
    case 0:
        return (uint64_t)random_talk->a[ARG_VICTIM_FRAME] + below(300);
    case 1:
        return below((uint64_t)random_talk->a[ARG_FRAMES]);
    case 2:
        return (uint64_t)random_talk->a[ARG_FRAMES] + below(16) - 8;
    case 3:
        return PICK(0, 0xa0, 0xb8, 0xf0, 0xfec00, 0xfed00, 0xfee00);
    case 4:
        return any_number();
    case 5:
        return any_number() >> 12;
    case 6:
    case 7:
    case 8:
    case 9:
    case 10:
        return virt_to_mfn(tables[below(TABLES)]);
    case 20:
        return kernel_root;
    case 21:
        return start_info->shared_info >> 12;
    case 22:
        return virt_to_mfn((void *)(start_info->pt_base + below(start_info->nr_pt_frames) * PAGE_SIZE));
    case 23:
        return p2m[virt_to_pfn(hypercall_page) + below(start_info->nr_pages)];
    default:
        return virt_to_mfn(data_pages[below(PAGES)]);
    }
}

uint64_t any_entry(void)
{
    uint64_t e =
        make_pte(any_frame() & 0xffffffffffUL,
                 PICK(PTE_RO, PTE_RO, PTE_RW, PTE_RW, PTE_TABLE, PTE_TABLE, PTE_USER_RO, PTE_USER_RW, PTE_P,
                      PTE_P | PTE_W, PTE_RW | PTE_NX, PTE_RW | PTE_PSE, PTE_RW | PTE_G, PTE_RW | PTE_PCD | PTE_PWT));

    if (one_in(6))
        e ^= 1UL << below(12);
    if (one_in(12))
        e ^= 1UL << (40 + below(24));
    return one_in(8) ? 0 : one_in(30) ? random() : e;
}

uint64_t any_entry_address(void)
{
    uint64_t frame = virt_to_mfn(tables[below(TABLES)]);

    if (one_in(12))
        frame = any_frame();
    return frame << 12 | (one_in(3) ? below(512) : below(SLOTS)) * 8;
}
