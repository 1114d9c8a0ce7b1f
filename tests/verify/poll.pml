/*
 * A vcpu sleeps in SCHEDOP_poll for a port, masked or not, while others send to it: sched/sched.c vcpu_poll, vcpu_unblock and
 * domain/event.c event_channel_set_pending, wake_pollers, step by step. The vcpu polls twice, each time until it finds the port
 * pending, which it clears then, as Linux's spin locks do; two senders send, the second twice.
 *
 * Never: it sleeps (blocked, and nobody is on the way to wake it) while the port is pending (when nothing else can happen).
 * Bugs: LATE_CLEAR (vcpu_unblock clears the vcpu's bit in pollers after 'blocked'; then that may be the bit of its next poll),
 * NO_LOOK (vcpu_poll does not look at the port after it has set its bit), BIT_FIRST (it sets the bit before 'blocked').
 */
bit blocked, poller, pending;

/* by who sends, a timer, or the vcpu itself */
inline unblock(was)
{
    if
    :: !blocked
    :: else ->
#ifdef LATE_CLEAR
        atomic { was = blocked; blocked = 0 };
        if :: was -> poller = 0 :: else fi
#else
        poller = 0;
        blocked = 0
#endif
    fi;
    was = 0
}

proctype sender(byte times)
{
    bit was, fresh;

    do
    :: times == 0 -> break
    :: else ->
        times--;
        atomic { fresh = !pending; pending = 1 };
        if
        :: fresh && poller -> unblock(was) /* wake_pollers */
        :: else
        fi
    od
}

active proctype vcpu()
{
    bit was; byte polls = 2;

    do
    :: polls == 0 -> break
    :: else ->
        /* vcpu_poll; an event that it finds afterwards it takes, else it polls again */
#ifdef BIT_FIRST
        poller = 1;
        blocked = 1;
#else
        blocked = 1;
        poller = 1;
#endif
#ifndef NO_LOOK
        if :: pending -> unblock(was) :: else fi;
#endif
        /* off the CPU while it is blocked; who clears that wakes it */
end_asleep:
        !blocked;
        if :: pending -> pending = 0; polls-- :: else fi
    od
}

/* Nothing else can happen any more. */
active proctype quiet()
{
end:
    timeout -> assert(!(blocked && pending))
}

init { atomic { run sender(1); run sender(2) } }
