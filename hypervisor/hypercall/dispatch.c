/* The hypercall table, continuations, multicall. */
#include "cpu/cpumask.h"
#include "cpu/trace.h"
#include "domain/domain.h"
#include "domain/guest_access.h"
#include "hypercall/croft_abi.h"
#include "hypercall/table.h"
#include "lib/log.h"
#include "lib/nospec.h"
#include "lib/string.h"
#include "platform/console.h"
#include "pv/mode_entry.h"

/* Placeholder result of a continued call inside a multicall: never reaches a guest. */
#define RESTARTED 0x5245535452L

/* The table: X(name, privileged, translated). Privileged: domain 0 only, others get -EPERM. Translated: for domains whose frames
 * Croft translates (PVH), the handler for them, or NULL. */
#define HYPERCALLS(X)                                                                                                  \
    X(set_trap_table, false, NULL)                                                                                     \
    X(mmu_update, false, NULL)                                                                                         \
    X(set_gdt, false, NULL)                                                                                            \
    X(stack_switch, false, NULL)                                                                                       \
    X(set_callbacks, false, NULL)                                                                                      \
    X(fpu_taskswitch, false, NULL)                                                                                     \
    X(sched_op_compat, false, hypercall_sched_op_compat)                                                               \
    X(platform_op, true, NULL)                                                                                         \
    X(set_debugreg, false, NULL)                                                                                       \
    X(get_debugreg, false, NULL)                                                                                       \
    X(update_descriptor, false, NULL)                                                                                  \
    X(memory_op, false, hypercall_memory_op)                                                                           \
    X(multicall, false, hypercall_multicall)                                                                           \
    X(update_va_mapping, false, NULL)                                                                                  \
    X(set_timer_op, false, hypercall_set_timer_op)                                                                     \
    X(event_channel_op_compat, false, hypercall_event_channel_op_compat)                                               \
    X(xen_version, false, hypercall_xen_version)                                                                       \
    X(console_io, false, hypercall_console_io)                                                                         \
    X(physdev_op_compat, false, NULL)                                                                                  \
    X(grant_table_op, false, hypercall_grant_table_op_translated)                                                      \
    X(vm_assist, false, hypercall_vm_assist)                                                                           \
    X(update_va_mapping_otherdomain, false, NULL)                                                                      \
    X(iret, false, NULL)                                                                                               \
    X(vcpu_op, false, hypercall_vcpu_op)                                                                               \
    X(set_segment_base, false, NULL)                                                                                   \
    X(mmuext_op, false, NULL)                                                                                          \
    X(nmi_op, false, NULL)                                                                                             \
    X(sched_op, false, hypercall_sched_op)                                                                             \
    X(callback_op, false, NULL)                                                                                        \
    X(event_channel_op, false, hypercall_event_channel_op)                                                             \
    X(physdev_op, false, NULL)                                                                                         \
    X(domctl, true, NULL)                                                                                              \
    X(xsm_op, false, hypercall_xsm_op)                                                                                 \
    X(sysctl, true, NULL)                                                                                              \
    X(xenpmu_op, false, hypercall_xenpmu_op)                                                                           \
    X(mca, true, NULL)                                                                                                 \
    X(hvm_op, false, hypercall_hvm_op)                                                                                 \
    X(croft_op, false, hypercall_croft_op)

#define ROW(n, privileged, translated) [__HYPERVISOR_##n] = {hypercall_##n, #n, privileged, translated},
#define ENTRY(n, privileged, translated) [__HYPERVISOR_##n] = privileged ? hypercall_checked : hypercall_##n,
const struct hypercall hypercall_table[HYPERCALL_COUNT] = {HYPERCALLS(ROW)};
/* What is not in the table goes to hypercall_checked as well, which refuses it. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverride-init"
hypercall_handler_t *const hypercall_entries[HYPERCALL_COUNT] = {[0 ... HYPERCALL_COUNT - 1] = hypercall_checked,
                                                                 HYPERCALLS(ENTRY)};
#pragma GCC diagnostic pop
static hypercall_handler_t *const traced_entries[HYPERCALL_COUNT] = {[0 ... HYPERCALL_COUNT - 1] = hypercall_traced};
hypercall_handler_t *const *hypercall_entries_in_use = hypercall_entries;

void hypercall_set_traced(bool traced)
{
    WRITE_ONCE(hypercall_entries_in_use, traced ? traced_entries : hypercall_entries);
}

static uint64_t counters[HYPERCALL_COUNT]; /* elements of multicalls; direct calls are counted by vcpu */

/* From the entry code: the call is not in the table, or not for this domain. */
long hypercall_refused(uint64_t nr);
long hypercall_refused(uint64_t nr)
{
    const struct hypercall *h = &hypercall_table[index_nospec(nr, HYPERCALL_COUNT)];

    if (nr < HYPERCALL_COUNT && h->handler && h->privileged && !current->domain->is_privileged)
        return refuse(-EPERM, "hypercall %s needs privilege\n", h->name);
    if (nr < HYPERCALL_COUNT && h->handler)
        return refuse(-ENOSYS, "hypercall %s: not for domains with translated frames\n", h->name);
    return refuse(-ENOSYS, "hypercall %lu: Croft does not have it\n", nr);
}

/* The entry code takes iret itself; this one is reached only from a multicall, where it makes no sense. */
long hypercall_iret(uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5) { return -EINVAL; }

bool hypercall_preempt_check(void)
{
    const struct percpu *pc = this_cpu();
    const struct vcpu_info *info = pc->current_vcpu->info;

    if (pc->current_vcpu->hvm) /* its interrupts make it leave the guest anyway */
        return pc->softirq_pending;
    return pc->softirq_pending || (info->evtchn_upcall_pending && !info->evtchn_upcall_mask);
}

long hypercall_continue(uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
    struct percpu *pc = this_cpu();

    pc->restart_args[0] = a1;
    pc->restart_args[1] = a2;
    pc->restart_args[2] = a3;
    pc->restart_args[3] = a4;
    pc->restart_args[4] = a5;
    pc->hypercall_restart = true;
    return RESTARTED;
}

static void restart(struct cpu_user_regs *regs, struct percpu *pc)
{
    pc->hypercall_restart = false;
    regs->rdi = pc->restart_args[0];
    regs->rsi = pc->restart_args[1];
    regs->rdx = pc->restart_args[2];
    regs->r10 = pc->restart_args[3];
    regs->r8 = pc->restart_args[4];
}

/* From the entry code: the call shall be made again. SYSCALL is two bytes; rax still holds the number. */
void hypercall_restart(struct cpu_user_regs *regs);
void hypercall_restart(struct cpu_user_regs *regs)
{
    regs->rip -= 2;
    restart(regs, this_cpu());
}

bool hypercall_translated(struct cpu_user_regs *regs)
{
    struct percpu *pc = this_cpu();
    const struct hypercall *h = &hypercall_table[index_nospec(regs->rax, HYPERCALL_COUNT)];
    long result;

    if (unlikely(trace_on))
        hypercall_trace_entry(regs);
    if (likely(regs->rax < HYPERCALL_COUNT && h->translated && (!h->privileged || current->domain->is_privileged)))
        result = h->translated(regs->rdi, regs->rsi, regs->rdx, regs->r10, regs->r8);
    else
        result = hypercall_refused(regs->rax);
    if (unlikely(pc->hypercall_restart)) {
        restart(regs, pc);
        return false;
    }
    regs->rax = (uint64_t)result;
    return true;
}

long hypercall_multicall(uint64_t a_list, uint64_t a_count, uint64_t a3, uint64_t a4, uint64_t a5)
{
    struct percpu *pc = this_cpu();
    struct multicall_entry *list = (struct multicall_entry *)a_list, e;
    uint32_t count = (uint32_t)a_count;

    if (pc->in_multicall)
        return refuse(-EINVAL, "multicall within a multicall\n");
    if (!guest_range_ok(list, count * sizeof(e)))
        return -EFAULT;
    for (uint32_t i = 0; i < count; i++) {
        const struct hypercall *h;
        hypercall_handler_t *handler;
        uint64_t op;
        long result;

        if (i && hypercall_preempt_check())
            return hypercall_continue((uint64_t)(list + i), count - i, 0, 0, 0);
        if (copy_from_guest(&e, list + i, sizeof(e)))
            return -EFAULT;
        if (unlikely(trace_on))
            hypercall_trace(TRC_PV_HYPERCALL_SUBCALL, e.op, (const uint64_t *)e.args);
        pc->in_multicall = true;
        op = index_nospec(e.op, HYPERCALL_COUNT);
        h = &hypercall_table[op];
        handler = unlikely(current->hvm) ? h->translated : h->handler;
        if (likely(e.op < HYPERCALL_COUNT && handler && (!h->privileged || current->domain->is_privileged))) {
            counters[op]++;
            result = handler(e.args[0], e.args[1], e.args[2], e.args[3], e.args[4]);
        } else {
            result = hypercall_refused(e.op);
        }
        pc->in_multicall = false;
        if (pc->hypercall_restart) {
            /* The element goes on with its new arguments when the multicall is made again. */
            for (unsigned j = 0; j < 5; j++)
                e.args[j] = pc->restart_args[j];
            pc->hypercall_restart = false;
            if (copy_to_guest(list + i, &e, sizeof(e)))
                return -EFAULT;
            return hypercall_continue((uint64_t)(list + i), count - i, 0, 0, 0);
        }
        if (copy_to_guest(&list[i].result, &result, sizeof(result)))
            return -EFAULT;
    }
    return 0;
}

uint64_t hypercall_elements(unsigned nr) { return counters[nr]; }
void hypercall_elements_reset(void) { memset(counters, 0, sizeof(counters)); }

void hypercall_key_report(void)
{
    struct domain *d;
    struct vcpu *v;

    for (d = domain_next(NULL); d; d = domain_next(d))
        for_each_vcpu (d, v)
            log_info("%sv%u: %lu hypercalls, %lu exceptions\n", d->name, v->id, v->stats_hypercalls,
                     v->stats_exceptions);
    for (unsigned i = 0; i < HYPERCALL_COUNT; i++)
        if (counters[i])
            log_info("multicall elements: %s %lu\n", hypercall_table[i].name ? hypercall_table[i].name : "unknown",
                     counters[i]);
}
