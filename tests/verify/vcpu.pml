/*
 * One vcpu on two CPUs, while it blocks, is sent events, preempted, moved by its affinity, paused, unpaused or destroyed:
 * sched/sched.c schedule, pick, pull, sched_switch_done, vcpu_wake, vcpu_sleep_sync, vcpu_block, vcpu_unblock, sched_place, and
 * domain/domain_destroy.c, step by step. What else a CPU could run is not there: it may take the vcpu off the CPU at any time.
 *
 * With PLACE its affinity changes, else it is sent an event.
 *
 * Never: the vcpu's registers on two CPUs at once, or the vcpu touched when it is free; it runs after vcpu_pause has returned; when
 * nothing else can happen, it could run but does not, or sleeps with an event pending.
 * Bugs: NO_RUNNING (pull does not look at 'running'), NO_SYNC (vcpu_pause does not wait), NO_LOOK (vcpu_block does not look for
 * events after it has said that it sleeps), NO_REFERENCE (sched_switch_done wakes it with nothing that keeps it).
 */
bit blocked, paused, event;
bit queued = 1, running, stopped;
byte cpu;             /* v->processor */
bit lock[2], on_cpu[2], softirq[2] = { 1, 1 }; /* run_queues[]; SOFTIRQ_SCHEDULE */
bit registers[2];     /* the vcpu's are (still) on that CPU */
bit allowed[2] = { 1, 1 };
byte refs = 2;        /* of its domain: its life, and who calls send_event or place */
bit gone;             /* the vcpu's memory is free */

#define RUNNABLE (!blocked && !paused)
#define ALIVE assert(!gone)
#define LOCK(c) atomic { !lock[c] -> lock[c] = 1 }
inline put() { atomic { assert(refs > 0); refs--; if :: refs == 0 -> gone = 1 :: else fi } }

inline queue_lock(c)
{
    do
    :: ALIVE; c = cpu; LOCK(c);
        if :: cpu == c -> break :: else -> lock[c] = 0 fi
    od
}

/* vcpu_wake */
inline wake(c)
{
    do
    :: queue_lock(c);
        if
        :: !RUNNABLE || queued || on_cpu[c] -> break
        :: else
        fi;
        if
        :: running || allowed[c] -> queued = 1; break /* with 'running', sched_switch_done sees to the rest */
        :: !running && allowed[1 - c] -> /* choose_cpu; the second lock is only tried for */
            if
            :: atomic { !lock[1 - c] -> lock[1 - c] = 1 }; cpu = 1 - c; lock[c] = 0; c = 1 - c; queued = 1; break
            :: lock[1 - c] ->
                if :: allowed[c] -> queued = 1; break :: else -> lock[c] = 0 fi
            fi
        fi
    od;
    if :: queued -> softirq[0] = 1; softirq[1] = 1 :: else fi; /* check_preemption, call_idle_cpu */
    lock[c] = 0;
    c = 0
}

inline unblock(c)
{
    if
    :: blocked -> atomic { was = blocked; blocked = 0 };
        if :: was -> was = 0; wake(c) :: else fi
    :: else
    fi
}

proctype processor(byte me)
{
    bit was, prev, wants, next, pulls; byte c;

end:
    do
    :: softirq[me] || registers[me] -> /* schedule; without a softirq its turn is over */
        softirq[me] = 0;
        atomic { !lock[me] -> lock[me] = 1; prev = on_cpu[me] };
        wants = prev && RUNNABLE;
        if
        :: wants && allowed[me] -> next = 1
        :: prev
        :: !prev && queued && cpu == me && allowed[me] -> queued = 0; next = 1
        :: !prev && cpu != me && queued -> /* pull; who leaves something in a queue that is locked calls afterwards */
            if
            :: atomic { !lock[1 - me] -> lock[1 - me] = 1 };
                pulls = queued && cpu != me && allowed[me];
#ifndef NO_RUNNING
                pulls = pulls && !running;
#endif
                if :: pulls -> queued = 0; cpu = me; next = 1; pulls = 0 :: else fi;
                lock[1 - me] = 0
            :: lock[1 - me]
            fi
        :: else
        fi;
        if
        :: next == prev -> lock[me] = 0
        :: next && !prev ->
            on_cpu[me] = 1; running = 1;
            lock[me] = 0;
            atomic { ALIVE; assert(!registers[1 - me]); registers[me] = 1 } /* load_vcpu */
        :: prev && !next ->
            queued = wants;
            on_cpu[me] = 0;
            lock[me] = 0;
            atomic { ALIVE; registers[me] = 0 }; /* save_vcpu */
            LOCK(me); /* sched_switch_done */
            ALIVE;
            running = 0;
            if
            :: !queued -> lock[me] = 0
            :: queued && allowed[me] -> softirq[0] = 1; softirq[1] = 1; lock[me] = 0
            :: else ->
#ifndef NO_REFERENCE
                atomic { assert(refs > 0); refs++ };
#endif
                queued = 0;
                lock[me] = 0;
                wake(c);
#ifndef NO_REFERENCE
                put()
#endif
            fi
        fi;
        next = 0; prev = 0; wants = 0
    :: atomic { registers[me] && !softirq[me] && event -> event = 0; assert(!stopped) } /* the guest handles it */
#ifndef PLACE
    :: atomic { registers[me] && !softirq[me] && !event && !blocked -> assert(!stopped) }; /* vcpu_block */
        blocked = 1;
#ifndef NO_LOOK
        if :: event -> unblock(c) :: else -> softirq[me] = 1 fi
#else
        softirq[me] = 1
#endif
#endif
    od
}

proctype send_event()
{
    bit was; byte c;

    event = 1;
    unblock(c);
    put()
}

proctype place() /* to CPU 1 */
{
    byte c;

    queue_lock(c);
    allowed[0] = 0;
    if
    :: c == 0 && on_cpu[0] -> softirq[0] = 1; lock[c] = 0
    :: c == 0 && !on_cpu[0] && queued && !running -> queued = 0; lock[c] = 0; wake(c)
    :: else -> softirq[1] = 1; lock[c] = 0
    fi;
    put()
}

proctype pause()
{
    byte c;

    paused = 1;
    queue_lock(c); /* vcpu_sleep */
    queued = 0;
    if :: on_cpu[c] -> softirq[c] = 1 :: else fi;
    lock[c] = 0;
#ifndef NO_SYNC
    !running; /* vcpu_sleep_sync */
#endif
    atomic { stopped = 1; assert(!registers[0] && !registers[1]) };
    if
    :: atomic { true -> stopped = 0; paused = 0 }; wake(c)
    :: queue_lock(c); /* domain_destroy: sched_remove_vcpu */
        queued = 0;
        lock[c] = 0;
        put()
    fi
}

/* Nothing else can happen any more. */
active proctype quiet()
{
end:
    timeout -> assert(gone || paused || blocked && !event || on_cpu[0] || on_cpu[1])
}

init {
    atomic {
        run processor(0);
        run processor(1);
        run pause();
#ifdef PLACE
        run place()
#else
        run send_event()
#endif
    }
}
