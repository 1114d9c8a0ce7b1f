/*
 * A frame changes its type while others map it and a CPU knows old translations. Mirrors memory/frame_inline.h, memory/frame.c,
 * pv/mmu_types.c and cpu/tlb.[hc]; each read or write of shared memory is a step.
 *
 * A guest CPU fills its TLB whenever an entry allows it, flushes by itself, and is switched away and back. Two vcpus map the
 * frame writable and unmap it without flushing (one of them without the owner's mm_lock, as for a grant); a third makes it a page
 * table and undoes that. The store that clears an entry may be delayed, as in the store buffers of x86 (total store order), until
 * the next locked instruction; all else is sequentially consistent. General references are left out: the frame stays the owner's.
 *
 * Never: a CPU with a writable translation while the frame is a page table; a CPU that walks it as a table while it is WRITABLE.
 * Bugs: NO_FLUSH, NO_FLUSHING (the second user does not wait for the first one's flush), STAMP_FIRST (the last user stamps, then
 * drops its count: another may come and go in between), NO_BARRIER (take_apart reads the clock before its store is visible).
 */
#define FLUSHES 2 /* the guest CPU's own, and switches */

mtype = { NONE, WRITABLE, TABLE };
mtype type = WRITABLE;
byte count;
bit flushing, leaving; /* TYPE_FLUSHING, TYPE_LEAVING */
byte clock = 1, stamp;
bit mm_lock;
bit entry[2];   /* the mappers' page-table entries */
bit link;       /* the entry that points to the frame as to a table */
bit delayed[3]; /* the store of 0 to entry[0], entry[1], link is in a store buffer */
bit in_use;     /* as a table, from its validation on */
byte writers;

byte tlb_time;
bit dirty = 1; /* the CPU is in the owner's dirty_cpus */
bit known, walked; /* a writable translation; the table in the paging-structure caches */
bit call; /* smp_call to this CPU */

#define CHECK assert(!(in_use && known || writers && walked))
inline drain(who)
{
    if :: who < 2 && delayed[who] -> entry[who] = 0 :: who == 2 && delayed[2] -> link = 0 :: else fi;
    delayed[who] = 0
}
/* A store buffer empties itself at any time. */
active proctype store_buffers()
{
end:
    do
    :: atomic { delayed[0] -> drain(0) }
    :: atomic { delayed[1] -> drain(1) }
    :: atomic { delayed[2] -> drain(2) }
    od
}

/* tlb_flush_local, tlb_load_cr3 */
inline flush()
{
    atomic { clock++; time = clock };
    atomic { known = 0; walked = 0 };
    atomic { tlb_time = time; time = 0 }
}

active proctype cpu()
{
    byte time, own;
end:
    do
    :: atomic { dirty && !known && (entry[0] || entry[1]) -> known = 1; CHECK }
    :: atomic { dirty && !walked && link -> walked = 1; CHECK }
    :: call -> flush(); call = 0
    :: own < FLUSHES && dirty -> own++; flush()         /* the guest's: it goes on */
    :: own < FLUSHES && dirty -> own++; flush();        /* context_switch away; interrupts are disabled */
        dirty = 0
    :: !dirty -> dirty = 1; flush()                     /* load_vcpu */
    od
}

/* tlb_flush_since, by a CPU that is not in the mask; tlb_flush_since_slow */
inline flush_since()
{
    since = stamp;
    if
    :: dirty ->
        if
        :: tlb_time <= since -> since = 0; atomic { !call -> call = 1 }; !call
        :: else
        fi
    :: else
    fi;
    since = 0
}

#define READ_TYPE atomic { t = type; n = count; f = flushing; l = leaving }
#define SAME (t == type && n == count && f == flushing && l == leaving)
#define FORGET atomic { t = 0; n = 0; f = 0; l = 0; ok = 0; first = 0 }

proctype mapper(byte me)
{
    mtype t; byte n, time, since; bit f, l, ok, first;

    if :: me == 0 -> atomic { !mm_lock -> mm_lock = 1 } :: else fi;
    /* frame_writables_get */
    READ_TYPE;
    do
    :: n == 0 && l -> READ_TYPE
    :: n && t != WRITABLE -> break
    :: else ->
        atomic {
            if
            :: SAME -> type = WRITABLE; count = n + 1; ok = 1;
                if :: n == 0 -> flushing = (t == TABLE) :: else fi;
                first = n == 0; f = flushing
            :: else -> READ_TYPE
            fi
        };
        if :: ok -> break :: else fi
    od;
    /* frame_type_changed */
    if
    :: ok && f && first -> flush_since(); flushing = 0
#ifndef NO_FLUSHING
    :: ok && f && !first -> !flushing
#endif
    :: else
    fi;
    if
    :: ok ->
        FORGET;
        atomic { writers++; CHECK; entry[me] = 1 }; /* entry_replace */
        atomic { writers--; delayed[me] = 1 };
        /* frame_writables_put */
        READ_TYPE;
        do
        :: ok -> break
        :: !ok && (n > 1 || f) ->
            atomic {
                drain(me); /* a locked instruction */
                if :: SAME -> count--; ok = 1 :: else -> READ_TYPE fi
            }
        :: !ok && n == 1 && !f -> /* frame_last_writable_put */
#ifdef STAMP_FIRST
            time = clock;
            atomic { stamp = time; time = 0 };
            atomic {
                drain(me);
                if :: SAME -> count = 0; ok = 1 :: else -> READ_TYPE fi
            }
#else
            atomic {
                drain(me);
                if :: SAME -> count = 0; leaving = 1; ok = 1 :: else -> READ_TYPE fi
            };
            if :: ok -> time = clock; atomic { stamp = time; time = 0 }; leaving = 0 :: else fi
#endif
        od
    :: else
    fi;
    FORGET;
    if :: me == 0 -> mm_lock = 0 :: else fi
}

proctype tables()
{
    mtype t; byte n, time, since; bit f, l, ok, first;

    atomic { !mm_lock -> mm_lock = 1 };
    /* table_get */
    READ_TYPE;
    do
    :: n == 0 && l -> READ_TYPE
    :: n -> break /* in use: refused */
    :: else ->
        atomic { if :: SAME -> type = TABLE; count = 1; ok = 1 :: else -> READ_TYPE fi };
        if :: ok -> break :: else fi
    od;
    if
    :: ok ->
#ifndef NO_FLUSH
        if :: t == WRITABLE -> flush_since() :: else fi;
#endif
        FORGET;
        atomic { in_use = 1; CHECK };           /* validate */
        link = 1;
        atomic { delayed[2] = 1 };              /* the upper table's entry goes: entry_replace, table_put */
#ifndef NO_BARRIER
        atomic { drain(2) };
#endif
        in_use = 0;                             /* take_apart */
        time = clock;
        atomic { drain(2); stamp = time; time = 0 }; /* stores become visible in their order */
        count = 0
    :: else
    fi;
    FORGET;
    mm_lock = 0
}

init { atomic { run mapper(0); run mapper(1); run tables() } }
