/* Small hypercalls: machine-check information, performance monitoring (none), the old form of physdev_op. */
#include "cpu/cpu.h"
#include "cpu/instr.h"
#include "cpu/smp.h"
#include "domain/domain.h"
#include "domain/guest_access.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"
#include "lib/string.h"

/* ----- mca ----- */

static void fill_cpu(unsigned cpu, xen_mc_logical_cpu_t *out)
{
    struct cpuid_regs l0 = cpuid(0, 0), l1 = cpuid(1, 0), e1 = cpuid(0x80000001, 0);
    uint32_t *brand = (uint32_t *)out->mc_brandid;

    memset(out, 0, sizeof(*out));
    out->mc_cpunr = cpu;
    out->mc_apicid = percpu_of(cpu)->apic_id;
    out->mc_coreid = (uint16_t)cpu; /* a package of single-threaded cores: Croft does not look closer */
    out->mc_ncores = out->mc_ncores_active = cpu_count();
    out->mc_nthreads = 1;
    out->mc_cpuid_level = (int32_t)l0.a;
    out->mc_family = cpu_features.family;
    out->mc_model = cpu_features.model;
    out->mc_step = l1.a & 15;
    memcpy(out->mc_vendorid, (uint32_t[]){l0.b, l0.d, l0.c}, 12);
    for (unsigned i = 0; i < 3 && cpu_features.max_ext_leaf >= 0x80000004; i++) {
        struct cpuid_regs r = cpuid(0x80000002 + i, 0);

        memcpy(brand + 4 * i, (uint32_t[]){r.a, r.b, r.c, r.d}, 16);
    }
    out->mc_cpu_caps[0] = l1.d;
    out->mc_cpu_caps[1] = e1.d;
    out->mc_cpu_caps[4] = l1.c;
    out->mc_cpu_caps[6] = e1.c;
    out->mc_cache_alignment = (l1.b >> 8 & 0xff) * 8;
}

/* Without a buffer: how many CPUs; with one: their descriptions. */
static long mca_physcpuinfo(struct xen_mc *op)
{
    xen_mc_logical_cpu_t info;
    unsigned cpu, n = 0, wanted = op->u.mc_physcpuinfo.ncpus;

    if (!op->u.mc_physcpuinfo.info.p) {
        op->u.mc_physcpuinfo.ncpus = cpu_count();
        return 0;
    }
    for_each_cpu (cpu, &cpu_online) {
        if (n == wanted)
            break;
        fill_cpu(cpu, &info);
        if (copy_to_handle(op->u.mc_physcpuinfo.info, n, &info, 1))
            return -EFAULT;
        n++;
    }
    op->u.mc_physcpuinfo.ncpus = n;
    return 0;
}

long hypercall_mca(uint64_t arg, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
    struct xen_mc op;
    long rc;

    if (!current->domain->is_privileged)
        return refuse(-EPERM, "mca: for privileged domains\n");
    if (copy_from_guest(&op, (const void *)arg, sizeof(op)))
        return -EFAULT;
    if (op.interface_version != XEN_MCA_INTERFACE_VERSION)
        return refuse(-EACCES, "mca: interface version %#x, not %#x\n", op.interface_version,
                      XEN_MCA_INTERFACE_VERSION);
    switch (op.cmd) {
    case XEN_MC_fetch: /* corrected errors are not collected; the others end in a report on the console */
        op.u.mc_fetch.flags = op.u.mc_fetch.flags & XEN_MC_ACK ? XEN_MC_OK : XEN_MC_NODATA;
        op.u.mc_fetch.fetch_id = 0;
        rc = 0;
        break;
    case XEN_MC_physcpuinfo:
        rc = mca_physcpuinfo(&op);
        break;
    default:
        return refuse(-ENOSYS, "mca: command %u\n", op.cmd);
    }
    if (!rc && copy_to_guest((void *)arg, &op, sizeof(op)))
        rc = -EFAULT;
    return rc;
}

/* ----- xenpmu ----- */

/* Guests try this at boot and when a CPU goes down; the error tells them that there is none. */
long hypercall_xenpmu_op(uint64_t cmd, uint64_t arg, uint64_t a3, uint64_t a4, uint64_t a5) { return -EOPNOTSUPP; }
