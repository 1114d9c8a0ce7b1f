/*
 * A grant is mapped while the granter takes it back and dies: domain/grant_table.c (pin_plain and pin_any, mark_entry,
 * grant_unpin), grant_map.c (grant_map, grant_unmap_*), memory/frame.c and domain/domain_destroy.c, step by step.
 *
 * The granter grants a frame, ends the grant as Linux does (version 1: compare-and-exchange of the whole entry; with VERSION2:
 * clears the entry, then looks at the status), and if that succeeded uses the frame for something else. Then its domain is
 * destroyed: its frame is given back, its table goes. The mapper maps the frame, a CPU uses it, it unmaps it.
 *
 * Never: the mapper reaches the frame after the grant was ended; reaches it when it is free; the frame is freed twice or lost;
 * the granter's domain is freed while a frame of it is in use; the mapper finds it gone.
 * Bugs: NO_MARK (the frame is taken, and the entry marked without looking whether it has changed), NO_FLUSH (unmap without a
 * flush), NO_REFERENCE (a mapping has none of its own to the frame).
 */
bit granted = 1, reading;      /* the entry: version 1 has both in one word, version 2 in two */
bit ended;                     /* the granter knows that the grant is over */
byte pins;                     /* struct grant_active */
bit table = 1, lock;           /* grant_table: entries, lock */
bit dying;
byte refs = 1;                 /* of the frame: FRAME_ALLOCATED's */
bit freed;
byte domain = 2;               /* references of the granter's domain: its life, its frames */
bit domain_gone;
bit finished;                  /* the mapper */
bit entry, known;              /* the mapper's page-table entry, and a TLB's */

inline take(l) { atomic { !l -> l = 1 } }
inline drop(l) { l = 0 }

inline domain_put()
{
    atomic { assert(domain > 0); domain--; if :: domain == 0 -> domain_gone = 1 :: else fi }
}
/* frame_refs_put, frame_last_put, alloc_free_domain_frame, with put_with_last_frame */
inline frame_put(n, last)
{
    atomic { assert(refs >= n && !freed); refs = refs - n; last = refs == 0 };
    if :: last -> atomic { assert(!entry && !known); freed = 1 }; last = 0; domain_put() :: else fi
}

active proctype tlb()
{
end:
    do
    :: atomic { entry && !known -> known = 1; assert(!ended && !freed) }
    od
}

active proctype mapper()
{
    bit ok, last, seen;

    /* grant_pin */
    take(lock);
    if
    :: table && !dying ->
        seen = granted; /* read_entry */
        if
        :: seen ->
#ifdef NO_REFERENCE
            ok = 1;
#else
            atomic { if :: refs > 0 -> refs = refs + 2; ok = 1 :: else fi };
#endif
            /* mark_entry */
            if
            :: ok ->
#ifdef VERSION2
                reading = 1;
#ifndef NO_MARK
                if :: !granted -> reading = 0; ok = 0 :: else fi
#endif
#else
                atomic {
#ifdef NO_MARK
                    reading = 1
#else
                    if :: granted -> reading = 1 :: else -> ok = 0 fi
#endif
                }
#endif
                ;
                if
                :: ok -> pins++
                :: else ->
#ifndef NO_REFERENCE
                    frame_put(2, last);
#endif
                    skip
                fi
            :: else
            fi
        :: else
        fi
    :: else
    fi;
    drop(lock);
    if
    :: ok ->
        /* mmu_grant_map */
        atomic { assert(!ended && !freed); entry = 1 };
        /* grant_unmap_begin: mmu_grant_unmap */
        entry = 0;
#ifndef NO_FLUSH
        known = 0;
#endif
        /* grant_unmap_end, release: grant_unpin of the domain that the frame keeps */
        assert(!domain_gone);
        take(lock);
        if :: table -> pins--; if :: pins == 0 -> reading = 0 :: else fi :: else fi;
        drop(lock);
#ifndef NO_REFERENCE
        frame_put(2, last)
#endif
    :: else
    fi;
    finished = 1
}

active proctype granter()
{
    bit last, ok;

    /* gnttab_end_foreign_access of the guest */
    if
    :: true ->
#ifdef VERSION2
        granted = 0;
        if :: !reading -> ok = 1 :: else fi;
#else
        atomic { if :: !reading -> granted = 0; ok = 1 :: else fi };
#endif
        if :: ok -> atomic { ended = 1; assert(!entry && !known) } :: else fi
    :: true
    fi;
    /* domain_destroy */
    dying = 1;
    /* release_frames: frame_release */
    frame_put(1, last);
    /* grant_destroy_domain */
    take(lock);
    table = 0;
    drop(lock);
    /* its life */
    domain_put();
    /* The mapper is through */
    finished;
    assert(freed && refs == 0 && domain == 0)
}
