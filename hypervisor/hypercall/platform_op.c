/*
 * platform_op: what domain 0 asks of the machine: clock, firmware, CPUs, power. Reached only by privileged domains
 * (dispatch.c).
 */
#include "boot/boot.h"
#include "cpu/cpu.h"
#include "cpu/hotplug.h"
#include "cpu/instr.h"
#include "cpu/smp.h"
#include "domain/domain.h"
#include "domain/guest_access.h"
#include "hypercall/dispatch.h"
#include "lib/log.h"
#include "lib/string.h"
#include "memory/map.h"
#include "platform/acpi.h"
#include "platform/power.h"
#include "sched/time.h"

/* ----- clock ----- */

static long set_time(uint64_t seconds, uint32_t nanoseconds, uint64_t system_time)
{
    if (nanoseconds >= 1000000000)
        return refuse(-EINVAL, "platform_op settime: %u nanoseconds\n", nanoseconds);
    time_set_wallclock(current->domain, seconds, nanoseconds, system_time);
    return 0;
}

/* ----- firmware ----- */

/* UEFI specification 2.10, 4.3: the system table; addresses are physical, as Croft never gives the firmware virtual
 * ones. */
struct efi_system_table {
    uint64_t signature;
    uint32_t revision, header_size, crc32, reserved;
    uint64_t vendor;
    uint32_t vendor_revision, pad;
    uint64_t console_in_handle, console_in, console_out_handle, console_out, error_handle, error;
    uint64_t runtime_services, boot_services;
    uint64_t table_count, tables;
};
#define EFI_SIGNATURE 0x5453595320494249UL /* "IBI SYST" */
#define EFI_MAX_TABLES 1024

static const struct efi_system_table *efi_table(void)
{
    static const struct efi_system_table *table;

    if (!table && boot_info.efi_system_table.n) {
        const struct efi_system_table *t = map_firmware(boot_info.efi_system_table, sizeof(*t));

        if (t && t->signature == EFI_SIGNATURE && t->table_count <= EFI_MAX_TABLES)
            table = t;
    }
    return table;
}

static long efi_vendor(const struct efi_system_table *t, union xenpf_efi_info *info)
{
    static const uint16_t *name;
    size_t room = info->vendor.bufsz / 2, n = 0;

    if (!name && t->vendor)
        name = map_firmware(MADDR(t->vendor), 128);
    info->vendor.revision = t->vendor_revision;
    if (!room)
        return 0;
    while (name && n < 63 && n + 1 < room && name[n])
        n++;
    if (n && copy_to_guest(info->vendor.name.p, name, n * 2))
        return -EFAULT;
    return clear_guest((uint16_t *)info->vendor.name.p + n, 2) ? -EFAULT : 0;
}

/* How domain 0 finds the ACPI tables on UEFI: the configuration table. Firmware calls are not passed on
 * (efi_runtime_call). */
static long efi_info(uint32_t index, union xenpf_efi_info *info)
{
    const struct efi_system_table *t = efi_table();

    if (!t)
        return -ENOSYS; /* not started by UEFI: kernels ask to find out */
    switch (index) {
    case XEN_FW_EFI_VERSION:
    case XEN_FW_EFI_RT_VERSION:
        info->version = t->revision;
        return 0;
    case XEN_FW_EFI_CONFIG_TABLE:
        info->cfg.addr = t->tables;
        info->cfg.nent = (uint32_t)t->table_count;
        return 0;
    case XEN_FW_EFI_VENDOR:
        return efi_vendor(t, info);
    }
    return -ESRCH;
}

static long firmware_info(struct xenpf_firmware_info *info)
{
    switch (info->type) {
    case XEN_FW_DISK_INFO:
    case XEN_FW_DISK_MBR_SIGNATURE:
    case XEN_FW_VBEDDC_INFO:
        return -ESRCH; /* Croft does not call the BIOS: the list ends before its first entry */
    case XEN_FW_EFI_INFO:
        return efi_info(info->index, &info->u.efi_info);
    case XEN_FW_KBD_SHIFT_FLAGS:
        if (info->index)
            return -ESRCH;
        info->u.kbd_shift_flags = 0;
        return 0;
    }
    return refuse(-EINVAL, "platform_op firmware_info: type %u\n", info->type);
}

/* ----- CPUs ----- */

static long get_cpuinfo(struct xenpf_pcpuinfo *info)
{
    info->max_present = cpu_last_present();
    info->flags = XEN_PCPU_FLAGS_INVALID;
    info->apic_id = info->acpi_id = ~0U;
    if (!cpu_is_present(info->xen_cpuid))
        return 0;
    info->flags = cpumask_test(info->xen_cpuid, &cpu_online) ? XEN_PCPU_FLAGS_ONLINE : 0;
    info->apic_id = percpu_of(info->xen_cpuid)->apic_id;
    for (unsigned i = 0; i < acpi_info.cpu_count; i++)
        if (acpi_info.cpus[i].apic_id == info->apic_id)
            info->acpi_id = acpi_info.cpus[i].acpi_id;
    return 0;
}

static long get_cpu_version(struct xenpf_pcpu_version *info)
{
    struct cpuid_regs l0 = cpuid(0, 0);

    info->max_present = cpu_last_present();
    memset(info->vendor_id, 0, sizeof(info->vendor_id));
    info->family = info->model = info->stepping = 0;
    if (!cpu_is_present(info->xen_cpuid) || !cpumask_test(info->xen_cpuid, &cpu_online))
        return 0;
    memcpy(info->vendor_id, (uint32_t[]){l0.b, l0.d, l0.c}, 12);
    info->family = cpu_features.family;
    info->model = cpu_features.model;
    info->stepping = cpuid(1, 0).a & 15;
    return 0;
}

/* What it is already is fine here. */
static long cpu_on_or_off(uint32_t cpu, bool on)
{
    int rc = on ? cpu_bring_up(cpu) : cpu_take_down(cpu);

    return rc == -EEXIST ? 0 : rc;
}

/* ----- power ----- */

#define ACPI_S5 5

static long enter_sleep(const struct xenpf_enter_acpi_sleep *s)
{
    if (s->flags & ~XENPF_ACPI_SLEEP_EXTENDED)
        return refuse(-EINVAL, "platform_op enter_acpi_sleep: flags %#x\n", s->flags);
    if (s->sleep_state != ACPI_S5 || (s->flags & XENPF_ACPI_SLEEP_EXTENDED))
        return refuse(-EOPNOTSUPP, "platform_op enter_acpi_sleep: S%u%s: only S5 by the PM1 registers is there\n",
                      s->sleep_state, s->flags ? " by the sleep register" : "");
    log_info("domain 0 powers the machine off\n");
    machine_power_off(s->val_a, s->val_b);
}

/* ----- the call ----- */

static long platform_op(struct xen_platform_op *op)
{
    switch (op->cmd) {
    case XENPF_settime32:
        return set_time(op->u.settime32.secs, op->u.settime32.nsecs, op->u.settime32.system_time);
    case XENPF_settime64:
        if (op->u.settime64.mbz)
            return refuse(-EINVAL, "platform_op settime64: field that must be zero\n");
        return set_time(op->u.settime64.secs, op->u.settime64.nsecs, op->u.settime64.system_time);
    case XENPF_firmware_info:
        return firmware_info(&op->u.firmware_info);
    case XENPF_enter_acpi_sleep:
        return enter_sleep(&op->u.enter_acpi_sleep);
    case XENPF_get_cpuinfo:
        return get_cpuinfo(&op->u.pcpu_info);
    case XENPF_get_cpu_version:
        return get_cpu_version(&op->u.pcpu_version);
    case XENPF_cpu_online:
    case XENPF_cpu_offline:
        return cpu_on_or_off(op->u.cpu_ol.cpuid, op->cmd == XENPF_cpu_online);
    case XENPF_core_parking: /* no core is ever parked */
        if (op->u.core_parking.type != XEN_CORE_PARKING_GET)
            break;
        op->u.core_parking.idle_nums = 0;
        return 0;
    case XENPF_set_processor_pminfo: /* domain 0's driver passes on all it has, silently if that is not wanted */
    case XENPF_efi_runtime_call:
        return -ENOSYS;
    }
    return refuse(-ENOSYS, "platform_op: command %u\n", op->cmd);
}

long hypercall_platform_op(uint64_t arg, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
    struct xen_platform_op op;
    long rc;

    if (!current->domain->is_privileged)
        return refuse(-EPERM, "platform_op: for privileged domains\n");
    if (copy_from_guest(&op, (const void *)arg, sizeof(op)))
        return -EFAULT;
    if (op.interface_version != XENPF_INTERFACE_VERSION)
        return refuse(-EACCES, "platform_op: interface version %#x, not %#x\n", op.interface_version,
                      XENPF_INTERFACE_VERSION);
    rc = platform_op(&op);
    if (rc == -ERESTART)
        return hypercall_continue(arg, 0, 0, 0, 0);
    if (!rc && copy_to_guest((void *)arg, &op, sizeof(op)))
        rc = -EFAULT;
    return rc;
}
