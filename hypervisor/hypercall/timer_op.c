/* set_timer_op: the old way to the single-shot timer of the calling vcpu. */
#include "domain/domain.h"
#include "hypercall/dispatch.h"
#include "sched/guest_timer.h"

/* Absolute system time in ns; 0 stops it. A time that is negative as a signed number, which guests compute by mistake when
 * work is overdue, is past: it fires at once. */
long hypercall_set_timer_op(uint64_t timeout, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
    if (!timeout)
        timer_stop(&current->singleshot);
    else
        guest_timer_singleshot(current, (int64_t)timeout < 0 ? 0 : timeout);
    return 0;
}
