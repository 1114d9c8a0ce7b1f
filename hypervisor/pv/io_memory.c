/* Device memory that guests may map: see pv/io_memory.h. */
#include "cpu/cpu.h"
#include "platform/acpi.h"
#include "pv/io_memory.h"

enum io_access io_frame_access(mfn_t m)
{
    maddr_t a = mfn_to_maddr(m);

    if (cpu_features.paddr_bits && m.n >> (cpu_features.paddr_bits - PAGE_SHIFT))
        return IO_NONE;
    if (maddr_to_mfn(acpi_info.lapic_address).n == m.n)
        return IO_NONE;
    for (unsigned i = 0; i < acpi_info.ioapic_count; i++)
        if (maddr_to_mfn(acpi_info.ioapics[i].address).n == m.n)
            return IO_NONE;
    return acpi_info.hpet.n && (acpi_info.hpet.n & PAGE_MASK) == a.n ? IO_READ_ONLY : IO_FULL;
}
