/* xen_version: which ABI this is, what built it, and what a domain may count on. */
#include "boot/boot.h"
#include "cpu/percpu.h"
#include "domain/domain.h"
#include "domain/guest_access.h"
#include "hvm/hvm.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"
#include "lib/string.h"
#include "memory/layout.h"

#define ABI_MAJOR 4
#define ABI_MINOR 17
#define EXTRA_VERSION ".0-croft"
#define CAPABILITIES "xen-3.0-x86_64 "
/* libxc looks for the first of these before it starts a PVH domain. */
#define CAPABILITIES_HVM "hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 "
#define DENIED "<denied>"

/* A text in a field of 'size' bytes, zeros behind it. */
static long put_text(void *guest, const char *text, size_t size)
{
    size_t n = min(strlen(text), size - 1);

    if (copy_to_guest(guest, text, n) || clear_guest((char *)guest + n, size - n))
        return -EFAULT;
    return 0;
}

static long put_compile_info(void *guest)
{
    struct xen_compile_info info = {.compiler = "gcc " __VERSION__,
                                    .compile_by = "croft",
                                    .compile_domain = "croft",
                                    .compile_date = "reproducible build"};

    return copy_to_guest(guest, &info, sizeof(info)) ? -EFAULT : 0;
}

static long get_features(void *guest)
{
    struct domain *d = current->domain;
    struct xen_feature_info f;

    if (copy_from_guest(&f, guest, sizeof(f)))
        return -EFAULT;
    if (f.submap_idx >= XENFEAT_NR_SUBMAPS)
        return -EINVAL;
    f.submap = 1U << XENFEAT_memory_op_vnode_supported | 1U << XENFEAT_not_direct_mapped;
    if (d->hvm)
        f.submap |= 1U << XENFEAT_writable_page_tables | 1U << XENFEAT_auto_translated_physmap |
                    1U << XENFEAT_hvm_safe_pvclock | 1U << XENFEAT_hvm_callback_vector;
    else
        f.submap |= 1U << XENFEAT_mmu_pt_update_preserve_ad | 1U << XENFEAT_highmem_assist |
                    1U << XENFEAT_gnttab_map_avail_bits;
    if (d->vm_assist & 1U << VMASST_TYPE_pae_extended_cr3)
        f.submap |= 1U << XENFEAT_pae_pgdir_above_4gb;
    if (d->is_hardware)
        f.submap |= 1U << XENFEAT_dom0;
    return copy_to_guest(guest, &f, sizeof(f)) ? -EFAULT : 0;
}

long hypercall_xen_version(uint64_t cmd, uint64_t arg, uint64_t a3, uint64_t a4, uint64_t a5)
{
    struct domain *d = current->domain;
    void *guest = (void *)arg;

    switch ((unsigned)cmd) {
    case XENVER_version:
        return ABI_MAJOR << 16 | ABI_MINOR;
    case XENVER_extraversion:
        return put_text(guest, EXTRA_VERSION, sizeof(xen_extraversion_t));
    case XENVER_compile_info:
        return put_compile_info(guest);
    case XENVER_capabilities:
        return put_text(guest, hvm_missing() ? CAPABILITIES : CAPABILITIES CAPABILITIES_HVM,
                        sizeof(xen_capabilities_info_t));
    case XENVER_changeset:
        return put_text(guest, "unavailable", sizeof(xen_changeset_info_t));
    case XENVER_platform_parameters: {
        struct xen_platform_parameters p = {.virt_start = HOLE_START};

        return copy_to_guest(guest, &p, sizeof(p)) ? -EFAULT : 0;
    }
    case XENVER_get_features:
        return get_features(guest);
    case XENVER_pagesize:
        return guest ? -EINVAL : (long)PAGE_SIZE;
    case XENVER_guest_handle:
        return copy_to_guest(guest, &d->handle, sizeof(d->handle)) ? -EFAULT : 0;
    case XENVER_commandline: /* may hold what is not for everyone */
        return put_text(guest, d->is_privileged ? boot_info.cmdline : DENIED, sizeof(xen_commandline_t));
    case XENVER_build_id:
        return d->is_privileged ? -ENODATA : -EPERM;
    }
    return refuse(-ENOSYS, "xen_version: command %u\n", (unsigned)cmd);
}
