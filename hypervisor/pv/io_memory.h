/* Which frames outside RAM a domain with device access may map. */
#ifndef PV_IO_MEMORY_H
#define PV_IO_MEMORY_H

#include "lib/types.h"

enum io_access { IO_NONE, IO_READ_ONLY, IO_FULL };

/* None for the interrupt controllers that Croft drives itself, and beyond the processor's physical addresses; the HPET may be
 * looked at (firmware's AML does), but not written. A writable mapping of such a frame becomes a read-only one. */
enum io_access io_frame_access(mfn_t m);

#endif
