/*
 * Calls to other CPUs, which TLB shoot-downs are: cpu/smp.c smp_call, smp_interrupt_call and smp_leave, step by step. Two CPUs
 * call each other and a third at the same time; the third leaves (goes off line) at any moment; what they call is a flush.
 * Interrupts come at any step of a guest or of a hypercall that waits, as smp_call asks for; a handler is not interrupted.
 *
 * Never: a call returns before each CPU that was on line at its end has flushed since the call began; a call that does not end
 * (Spin's invalid end states: a CPU in the last loop of smp_call).
 * Bugs: NO_SERVE (who waits has interrupts disabled), NO_RECHECK (smp_call does not look at cpu_online again), EARLY (waiting is
 * cleared before the call is done).
 */
#define CPUS 3
byte online = 7;         /* cpu_online */
byte waiting[CPUS];      /* calls[].waiting */
byte incoming[CPUS];     /* calls[].incoming */
bit interrupt[CPUS];     /* VECTOR_CALL is pending in the APIC */
bit stale[CPUS];         /* holds a translation from before the calls */

#define BIT(n) (1 << (n))

/* smp_interrupt_call on CPU me; the function is flush_local */
inline serve()
{
    atomic { callers = incoming[me]; incoming[me] = 0 };
    who = 0;
    do
    :: who == CPUS -> break
    :: else ->
        if
        :: callers & BIT(who) ->
#ifdef EARLY
            waiting[who] = waiting[who] & ~BIT(me);
            stale[me] = 0
#else
            stale[me] = 0;
            waiting[who] = waiting[who] & ~BIT(me)
#endif
        :: else
        fi;
        who++
    od;
    who = 0; callers = 0
}

/* smp_call(&cpu_online, flush_local, NULL) */
inline call_others()
{
    others = online & ~BIT(me);
    waiting[me] = others;
    i = 0;
    do
    :: i == CPUS -> break
    :: else ->
        if
        :: others & BIT(i) ->
            atomic {
                if :: incoming[i] == 0 -> send = 1 :: else -> send = 0 fi;
                incoming[i] = incoming[i] | BIT(me)
            };
            if :: send -> interrupt[i] = 1; send = 0 :: else fi
        :: else
        fi;
        i++
    od;
#ifndef NO_RECHECK
    i = 0;
    do
    :: i == CPUS -> break
    :: else ->
        if
        :: (others & BIT(i)) && !(online & BIT(i)) ->
            atomic {
                if :: incoming[i] & BIT(me) -> incoming[i] = incoming[i] & ~BIT(me); send = 1 :: else fi
            };
            if :: send -> waiting[me] = waiting[me] & ~BIT(i); send = 0 :: else fi
        :: else
        fi;
        i++
    od;
#endif
    i = 0
}

proctype caller(byte me)
{
    byte others, i; bit send;

    call_others();
    stale[me] = 0;
    waiting[me] == 0;
    d_step {
        i = 0;
        do
        :: i == CPUS -> break
        :: else -> assert(!(online & BIT(i)) || !stale[i]); i++
        od;
        i = 0; others = 0
    }
}

/* The interrupts of a CPU: a process of their own, for they come between any two steps. */
proctype interrupts(byte me)
{
    byte who, callers;
end:
    do
    :: atomic {
#ifdef NO_SERVE
        interrupt[me] && (me == 2 || waiting[me] == 0)
#else
        interrupt[me]
#endif
        -> interrupt[me] = 0 }; serve()
    :: me == 2 && (online & BIT(2)) -> /* smp_leave; interrupts are disabled, and it never looks again */
        online = online & ~BIT(2);
        serve();
        break
    od
}

init {
    atomic {
        stale[0] = 1; stale[1] = 1; stale[2] = 1;
        run caller(0); run caller(1);
        run interrupts(0); run interrupts(1); run interrupts(2)
    }
}
