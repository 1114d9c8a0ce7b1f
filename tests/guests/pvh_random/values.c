/* Addresses, frames and entries. */
#include "hostile.h"

struct child_talk *const random_talk = (struct child_talk *)CHILD_PVH_TALK;

uint64_t any_plain_address(void)
{
    uint64_t page = one_in(2) ? DATA_AT + below(PAGES) * PAGE_SIZE : TEST_VA + (8 + below(PAGES)) * PAGE_SIZE;

    return page + (one_in(3) ? below(PAGE_SIZE) : below(PAGE_SIZE) & ~7UL);
}

uint64_t any_address(void)
{
    unsigned v = this_vcpu();

    switch (below(40)) {
    case 0:
        return below(PAGE_SIZE);
    case 1:
        return VA_UNMAPPED + below(PAGE_SIZE);
    case 2:
        return VA_NONCANONICAL;
    case 3:
        return PICK(0x0000800000000000UL, 0x00007fffffffffffUL, 0x00007ffffffffff8UL, 0xffff7ffffffffff8UL);
    case 4:
        return PICK(0xffff800000000000UL, 0xffff828000000000UL, ~0UL - below(PAGE_SIZE));
    case 5:
        return any_number();
    case 6:
        return HOLE_AT + below(1UL << 20);
    case 7:
        return one_in(3) ? APIC_AT + below(PAGE_SIZE) : SHARED_INFO_AT + below(PAGE_SIZE);
    case 8:
        return U(tables[below(TABLES)]) + below(PAGE_SIZE);
    case 9:
        return U(requests[!v]) + below(PAGE_SIZE); /* what the other vcpu is about to use */
    case 10:
        if (one_in(20)) /* its own feet */
            return 0x100000 + below(U(kit_image_end) - 0x100000);
        return GRANT_AT + below(2 * PAGE_SIZE);
    case 11:
        return MEMORY_END - below(16);
    case 12:
        return TEST_VA + (1 + below(SLOTS)) * PAGE_SIZE - below(16);
    case 13:
        return CODE_VA(below(RANDOM_VCPUS)) + below(CODE_PAGES * PAGE_SIZE);
    case 14:
    case 15:
    case 16:
    case 17:
    case 18:
        return U(requests[v]) + (below(RANDOM_REQUEST_PAGES * PAGE_SIZE) & ~7UL);
    case 19:
    case 20:
    case 21:
        return TEST_VA + below(SLOTS) * PAGE_SIZE + (one_in(4) ? below(PAGE_SIZE) : 0);
    default:
        return any_plain_address();
    }
}

/* What it cannot well do without */
static uint64_t own_feet(void)
{
    return PICK(U(kit_pml4), kit_pml4[0] & PTE_MFN_MASK, U(kit_idt), U(kit_gdt) & PAGE_MASK,
                U(kit_stacks) + below(RANDOM_VCPUS * KIT_STACK_SIZE), 0x100000 + below(U(kit_image_end) - 0x100000),
                TRAMPOLINE, CHILD_PVH_TALK, U(low_table), U(requests[below(RANDOM_VCPUS)])) >>
           12;
}

uint64_t any_frame(void)
{
    switch (one_in(200) ? 20 : below(16)) { /* its own feet seldom enough to live for a while */
    case 0:
        return (HOLE_AT >> 12) + below(64);
    case 1:
        return (GRANT_AT >> 12) + below(4);
    case 2:
        return PICK(APIC_AT >> 12, SHARED_INFO_AT >> 12, 0xa0, 0xb8, 0xf0, 0xfec00, 0xfed00);
    case 3:
        return PICK(FAR_AT >> 12, (1UL << 36) - 1, 1UL << 36, 1UL << 40, 1UL << 52, ~0UL);
    case 4:
        return any_number();
    case 5:
        return (MEMORY_END >> 12) + below(8) - 4;
    case 6:
        return one_in(2) ? (uint64_t)random_talk->a[ARG_VICTIM_FRAME] + below(300)
                         : below((uint64_t)random_talk->a[ARG_FRAMES]);
    case 20:
        return own_feet();
    default:
        return (DATA_AT >> 12) + below(PAGES);
    }
}

uint64_t any_entry(void)
{
    uint64_t frame = one_in(3) ? any_frame() : (DATA_AT >> 12) + below(PAGES);
    uint64_t e = (frame & 0xffffffffffUL) << 12 | PICK(PTE_RO, PTE_RW, PTE_RW, PTE_RW, PTE_USER_RO, PTE_USER_RW, PTE_P,
                                                       PTE_P | PTE_W, PTE_RW | PTE_NX, PTE_RW | PTE_PSE, PTE_RW | PTE_G,
                                                       PTE_RW | PTE_PCD | PTE_PWT);

    if (one_in(6))
        e ^= 1UL << below(12);
    if (one_in(12))
        e ^= 1UL << (40 + below(24));
    return one_in(8) ? 0 : one_in(60) ? random() : e;
}
