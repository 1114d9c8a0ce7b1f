/* Predictors: see speculation.h. MSRs: AMD64 Architecture Programmer's Manual, volume 2, 3.2.9; Intel's manual, volume 4. */
#include "cpu/speculation.h"
#include "cpu/cpu.h"
#include "cpu/instr.h"
#include "cpu/percpu.h"
#include "domain/domain.h"
#include "lib/log.h"

#define MSR_SPEC_CTRL 0x48
#define SPEC_CTRL_IBRS 1UL
#define MSR_ARCH_CAPABILITIES 0x10a
#define ARCH_CAP_IBRS_ALL (1UL << 1)
#define EFER_AUTO_IBRS (1UL << 21)

static bool enhanced_ibrs; /* constant after speculation_init_boot */

void speculation_init_boot(void)
{
    uint64_t capabilities;

    enhanced_ibrs = cpu_features.arch_capabilities && rdmsr_safe(MSR_ARCH_CAPABILITIES, &capabilities) &&
                    (capabilities & ARCH_CAP_IBRS_ALL);
    log_info("speculation: indirect branches: retpolines%s\n", cpu_features.auto_ibrs ? ", automatic IBRS"
                                                               : enhanced_ibrs        ? ", enhanced IBRS"
                                                                                      : "");
    log_info("speculation: between domains: %s\n", cpu_features.ibpb ? "IBPB" : "nothing, the processor has no IBPB");
    log_info("speculation: indices from guests: clamped; registers of guests: cleared on entry\n");
}

void speculation_init_cpu(void)
{
    uint64_t value;

    if (cpu_features.auto_ibrs && rdmsr_safe(MSR_EFER, &value))
        wrmsr_safe(MSR_EFER, value | EFER_AUTO_IBRS);
    else if (enhanced_ibrs && rdmsr_safe(MSR_SPEC_CTRL, &value))
        wrmsr_safe(MSR_SPEC_CTRL, value | SPEC_CTRL_IBRS);
}

void speculation_switch(const struct domain *d)
{
    struct percpu *pc = this_cpu();

    if (pc->last_serial == d->serial)
        return;
    pc->last_serial = d->serial;
    if (cpu_features.ibpb)
        wrmsr_safe(MSR_PRED_CMD, PRED_CMD_IBPB);
}
