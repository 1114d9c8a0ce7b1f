/*
 * Croft's own hypercall, beside Xen's ABI: what Xen has no call for. docs/abi.md describes it for those who call it. This
 * header is the interface: it stands alone, and what is in it changes only by additions.
 *
 * The number is __HYPERVISOR_arch_7, the last of the eight that Xen's ABI leaves to an architecture. x86 uses arch_0 (mca)
 * and arch_1, and has taken them from the front.
 */
#ifndef HYPERCALL_CROFT_ABI_H
#define HYPERCALL_CROFT_ABI_H

#include <stdint.h>

#define __HYPERVISOR_croft_op 55

/* First argument; the second is a struct croft_sched * if not said otherwise. */
#define CROFT_OP_sched_get 0  /* parameters of vcpu 'vcpu' of domain 'domid' */
#define CROFT_OP_sched_next 1 /* the same of the first vcpu that is not before these, in order of domid and vcpu */
#define CROFT_OP_sched_set 2  /* changes what CROFT_SCHED_SET_* in flags say */
#define CROFT_OP_sched_get_allowance 3 /* no argument; returns the context-switch allowance in microseconds */
#define CROFT_OP_sched_set_allowance 4 /* second argument: microseconds, up to CROFT_SCHED_ALLOWANCE_MAX */
/* The only one for every domain, not just a privileged one. Second argument: the run time (RUNSTATE_running) in ns at which the
 * calling vcpu shall get VIRQ_TIMER, up to CROFT_VIRTUAL_TIME_MAX; 0 takes the timer back. Each call replaces the one before. */
#define CROFT_OP_set_virtual_timer 5
/* Second argument: the number that the next domain gets whose creator leaves the choice to Croft, if it is free then, or the
 * next free one. Returns the number that it would have had. */
#define CROFT_OP_set_next_domid 6
/* Fault injection, for tests: of the allocations that Croft makes from now on in calls of the domain that the third argument names, the
 * one with the number that is the second argument fails, as if there were no memory; 0: none. Returns how many were still to come of
 * the order before: 0 if it has failed. */
#define CROFT_OP_fail_allocation 7
/* Fault injection, for tests, on the CPU that the caller runs on. The second argument says what, the third is a number. */
#define CROFT_OP_disturb_cpu 8
#define CROFT_DISTURB_HOLD 0      /* it answers no interrupt for so many microseconds, up to CROFT_DISTURB_HOLD_MAX */
#define CROFT_DISTURB_SPURIOUS 1  /* an interrupt of this vector, 32 to 255, for which there is no cause */
#define CROFT_DISTURB_LOSE_CALL 2 /* the next interrupt by which another CPU calls it is lost; no number */

struct croft_sched {
    uint16_t domid;
    uint16_t reserved; /* 0 */
    uint32_t vcpu;
    uint32_t weight; /* 1 to 65535 */
    uint32_t flags;  /* CROFT_SCHED_* */
    uint64_t warp;   /* virtual ns by which it runs early when it wakes; 0: not at all; up to CROFT_SCHED_WARP_MAX */
    uint64_t limit;  /* real ns that it may run warped in all; 0: for ever; up to CROFT_SCHED_TIME_MAX */
    uint64_t unwarp; /* real ns without a warp until it may warp anew; up to CROFT_SCHED_TIME_MAX */
};

#define CROFT_SCHED_SET_WEIGHT 1U /* in */
#define CROFT_SCHED_SET_WARP 2U   /* in: warp, limit and unwarp */
#define CROFT_SCHED_WARPED 4U     /* out: it is warped now */

#define CROFT_SCHED_WARP_MAX 10000000000UL
#define CROFT_SCHED_TIME_MAX 1000000000000UL
#define CROFT_SCHED_ALLOWANCE_MAX 1000000U
#define CROFT_DISTURB_HOLD_MAX 10000000U
#define CROFT_VIRTUAL_TIME_MAX (1UL << 62)

#endif
