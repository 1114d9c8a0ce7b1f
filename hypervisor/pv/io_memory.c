/* Device memory that guests may map: see pv/io_memory.h. */
#include "cpu/cpu.h"
#include "platform/acpi.h"
#include "pv/io_memory.h"

bool io_frame_allowed(mfn_t m)
{
    maddr_t a = mfn_to_maddr(m);

    if (cpu_features.paddr_bits && m.n >> (cpu_features.paddr_bits - PAGE_SHIFT))
        return false;
    if (maddr_to_mfn(acpi_info.lapic_address).n == m.n)
        return false;
    for (unsigned i = 0; i < acpi_info.ioapic_count; i++)
        if (maddr_to_mfn(acpi_info.ioapics[i].address).n == m.n)
            return false;
    return !(acpi_info.hpet.n && (acpi_info.hpet.n & PAGE_MASK) == a.n);
}
