/* Traces of hypercalls: number and some arguments, as TRC_PV_HYPERCALL_V2 in <xen/trace.h> lays them out. */
#include "cpu/trace.h"
#include "hypercall/table.h"

#define ARG(i) (1U << (i))

/* What tells most: commands and counts; their low 32 bits. */
static const uint8_t shown[HYPERCALL_COUNT] = {
    [__HYPERVISOR_mmu_update] = ARG(1),       [__HYPERVISOR_multicall] = ARG(1),
    [__HYPERVISOR_mmuext_op] = ARG(1),        [__HYPERVISOR_memory_op] = ARG(0),
    [__HYPERVISOR_event_channel_op] = ARG(0), [__HYPERVISOR_sched_op] = ARG(0),
    [__HYPERVISOR_physdev_op] = ARG(0),       [__HYPERVISOR_console_io] = ARG(0) | ARG(1),
    [__HYPERVISOR_vcpu_op] = ARG(0) | ARG(1), [__HYPERVISOR_grant_table_op] = ARG(0) | ARG(2),
};

void hypercall_trace(uint32_t event, uint64_t nr, const uint64_t args[5])
{
    uint32_t words[3] = {(uint32_t)nr};
    unsigned n = 1;

    for (unsigned i = 0; i < 5; i++)
        if (nr < HYPERCALL_COUNT && shown[nr] & ARG(i)) {
            words[0] |= TRC_PV_HYPERCALL_V2_ARG_32(i);
            words[n++] = (uint32_t)args[i];
        }
    trace_record(event, words, n);
}

void hypercall_trace_entry(const struct cpu_user_regs *regs)
{
    const uint64_t args[5] = {regs->rdi, regs->rsi, regs->rdx, regs->r10, regs->r8};

    hypercall_trace(TRC_PV_HYPERCALL_V2, regs->rax, args);
}
