#ifndef SWEEPS_H
#define SWEEPS_H

#include "child.h"

/* debug.c; c: null for domain 0 itself */
void debugger(struct child *c, const char *who);
void storms(void); /* in children that do not survive it */

#endif
