/*
 * FIFO event channels: domain/event_fifo.c event_fifo_set_pending, event_fifo_unmask, link_channel, link_behind step by step,
 * against a guest that takes events out as Linux does (drivers/xen/events/events_fifo.c). Two ports of one vcpu, one priority;
 * two senders on other CPUs; the guest masks and unmasks port 1.
 *
 * Never: a port in the queue twice or taken out while it is not LINKED; after all is quiet a port that is PENDING and not MASKED,
 * but handled by nobody.
 * Bugs: KEEP_TAIL (a port that is linked anew may be the old tail of a queue that is empty: this is not forgotten), NO_LOCK (link_channel
 * without the lock of the queues), TEST_FIRST (set_pending looks at LINKED before it sets PENDING).
 */
#define PORTS 3 /* 1 and 2; 0: none */
#ifndef SENDS
#define SENDS 2 /* each sender's; sender n sends to port n */
#endif

bit pending[PORTS], masked[PORTS], linked[PORTS];
byte link[PORTS];
byte head, tail;      /* control->head, fifo_vcpu.tail */
bit ready, upcall;    /* control->ready, evtchn_upcall_pending */
bit lock;
byte handled[PORTS], sent[PORTS];
byte senders = 2;

/* One atomic operation on a word of the guest's is one step. */
inline link_channel(p)
{
#ifndef NO_LOCK
    atomic { !lock -> lock = 1 };
#endif
    atomic { was = linked[p]; linked[p] = 1 };
    if
    :: was
    :: else ->
#ifndef KEEP_TAIL
        if :: tail == p -> tail = 0 :: else fi;
#endif
        behind = 0;
        t = tail;
        if
        :: t ->
            /* link_behind: the tail's word by compare-and-exchange, if it is still linked */
            atomic { if :: linked[t] -> assert(t != p && link[t] == 0); link[t] = p; behind = 1 :: else fi }
        :: else
        fi;
        if :: !behind -> head = p :: else fi;
        tail = p
    fi;
#ifndef NO_LOCK
    lock = 0;
#endif
    t = 0;
    if
    :: !was && !behind -> atomic { told = ready; ready = 1 };
        if :: !told -> upcall = 1 :: else fi
    :: else
    fi;
    was = 0; behind = 0; told = 0
}

proctype sender(byte p)
{
    byte t, n; bit was, behind, told, link_it;

    do
    :: n == SENDS -> break
    :: else ->
        n++;
        /* event_fifo_set_pending */
#ifdef TEST_FIRST
        link_it = !masked[p] && !linked[p];
        atomic { if :: !pending[p] -> sent[p]++ :: else fi; pending[p] = 1 };
#else
        atomic {
            if :: !pending[p] -> sent[p]++ :: else fi;
            link_it = !masked[p] && !linked[p];
            pending[p] = 1
        };
#endif
        if :: link_it -> link_it = 0; link_channel(p) :: else fi
    od;
    atomic { n = 0; senders-- }
}

active proctype guest()
{
    byte mine, p, next, t; bit was, behind, told, go, masks;

end:
    do
    :: !masks -> masks = 1; masked[1] = 1;
        /* unmask: clears MASKED; if the event is PENDING, EVTCHNOP_unmask (event_fifo_unmask) */
        atomic { masked[1] = 0; go = pending[1] };
        if
        :: go -> atomic { go = pending[1] && !linked[1] };
            if :: go -> go = 0; link_channel(1) :: else fi
        :: else
        fi
    :: upcall ->
        upcall = 0;
        atomic { go = ready; ready = 0 };
        do
        :: !go -> break
        :: go ->
            /* consume_one_event */
            if :: mine == 0 -> mine = head :: else fi;
            p = mine;
            assert(p != 0);
            atomic { assert(linked[p]); linked[p] = 0; next = link[p]; link[p] = 0 }; /* clear_linked */
            mine = next;
            if :: next == 0 -> go = 0 :: else fi;
            if
            :: pending[p] && !masked[p] -> atomic { pending[p] = 0; handled[p]++ }
            :: else
            fi;
            p = 0; next = 0;
            if :: ready -> atomic { go = 1; ready = 0 } :: else fi
        od
    :: senders == 0 && masks && !upcall ->
        assert(!pending[1] && !pending[2] && sent[1] == handled[1] && sent[2] == handled[2]);
        break
    od
}

init { atomic { run sender(1); run sender(2) } }
