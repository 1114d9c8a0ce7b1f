/* run: args="alpha beta" audit=no */
/* The first signs of life: what a kernel is given at its start, and the calls that tell where it runs. */
#include "kit.h"

static void check_start_info(void)
{
    unsigned long pages = start_info->nr_pages;

    printf("magic %s, %lu pages, flags %x, args '%s'\n", start_info->magic, pages, start_info->flags,
           (char *)start_info->cmd_line);
    check(strprefix(start_info->magic, "xen-3.0-x86_64"), "start_info magic");
    check(pages >= 15000 && pages <= 16384, "nr_pages for dom0_mem=64M is near 16384");
    check((start_info->flags & (SIF_PRIVILEGED | SIF_INITDOMAIN)) == (SIF_PRIVILEGED | SIF_INITDOMAIN),
          "privileged initial domain");
    check(start_info->shared_info != 0 && (start_info->shared_info & 4095) == 0, "shared_info is a page");
    check(start_info->nr_pt_frames >= 4 && start_info->nr_pt_frames < 64, "nr_pt_frames %lu", start_info->nr_pt_frames);
    check((start_info->pt_base & 4095) == 0 && start_info->pt_base > (unsigned long)kit_image_end,
          "page tables lie above the image");
    check(start_info->mfn_list >= (unsigned long)kit_image_end, "p2m list lies above the image");
    check(start_info->mod_len == 0, "no module: mod_len 0");
    check(strfind((char *)start_info->cmd_line, "alpha beta"), "command line arrives");
}

static void check_m2p(void)
{
    unsigned long wrong = 0, doubles = 0;

    for (unsigned long pfn = 0; pfn < start_info->nr_pages; pfn++) {
        wrong += machine_to_phys_mapping[p2m[pfn]] != pfn;
        doubles += pfn > 0 && p2m[pfn] == p2m[pfn - 1];
    }
    check(wrong == 0, "m2p inverts p2m for all pages (%lu do not)", wrong);
    check(doubles == 0, "no mfn twice in a row");
}

/* The builder maps its tables read-only, all else writable. */
static void check_bootstrap_tables(void)
{
    unsigned long first = start_info->pt_base, last = first + (start_info->nr_pt_frames - 1) * PAGE_SIZE;
    unsigned long bad = 0;

    for (unsigned long va = first; va <= last; va += PAGE_SIZE) {
        uint64_t *pte = pte_of(va);

        bad += pte == NULL || (*pte & (PTE_P | PTE_W)) != PTE_P;
    }
    check(bad == 0, "bootstrap tables are mapped read-only");
    check((*pte_of((unsigned long)start_info) & (PTE_P | PTE_W)) == (PTE_P | PTE_W), "start_info is writable");
    check((*pte_of((unsigned long)p2m) & (PTE_P | PTE_W)) == (PTE_P | PTE_W), "p2m list is writable");
    check(pte_of(last + PAGE_SIZE + 512 * 1024 - PAGE_SIZE) != NULL &&
              (*pte_of(last + PAGE_SIZE + 512 * 1024 - PAGE_SIZE) & PTE_P) != 0,
          "512 KiB of padding are mapped");
}

static void check_version(void)
{
    static char text[2048];
    struct xen_feature_info features = {.submap_idx = 0};
    struct xen_platform_parameters platform;
    long version = xen_version(XENVER_version, NULL);

    check(version >> 16 == 4, "version %ld.%ld", version >> 16, version & 0xffff);
    check_equal(xen_version(XENVER_extraversion, text), 0);
    check(strlen(text) < XEN_EXTRAVERSION_LEN, "extraversion '%s'", text);
    check_equal(xen_version(XENVER_capabilities, text), 0);
    check(strfind(text, "xen-3.0-x86_64"), "capabilities '%s'", text);
    check_equal(xen_version(XENVER_get_features, &features), 0);
    check((features.submap >> XENFEAT_mmu_pt_update_preserve_ad & 1) != 0, "feature preserve_ad (%x)", features.submap);
    check((features.submap >> XENFEAT_dom0 & 1) != 0, "feature dom0");
    check((features.submap >> XENFEAT_auto_translated_physmap & 1) == 0, "not auto-translated");
    features.submap_idx = 1;
    check_equal(xen_version(XENVER_get_features, &features), -EINVAL);
    check_equal(xen_version(XENVER_platform_parameters, &platform), 0);
    check(platform.virt_start == HYPERVISOR_VIRT_START, "virt_start %lx", platform.virt_start);
    check_equal(xen_version(XENVER_pagesize, NULL), 4096);
    check_equal(xen_version(XENVER_guest_handle, text), 0);
    check_equal(xen_version(XENVER_compile_info, text), 0);
    check_equal(xen_version(XENVER_changeset, text), 0);
    check_equal(xen_version(XENVER_commandline, text), 0);
    check(strfind(text, "dom0_mem=64M"), "hypervisor's command line '%s'", text);
    check_equal(xen_version(4711, text), -ENOSYS);
}

GUEST("hello")
{
    check_start_info();
    check_m2p();
    check_bootstrap_tables();
    check_version();
    check(shared_info->vcpu_info[0].time.tsc_to_system_mul != 0, "the time page is filled in");
}
