/* Which frames outside RAM a domain with device access may map. */
#ifndef PV_IO_MEMORY_H
#define PV_IO_MEMORY_H

#include "lib/types.h"

/* False for the interrupt controllers and timers that Croft drives itself, and beyond the processor's physical addresses. */
bool io_frame_allowed(mfn_t m);

#endif
