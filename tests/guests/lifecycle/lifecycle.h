#ifndef LIFECYCLE_H
#define LIFECYCLE_H

#include "child.h"

void without_privilege(void);  /* privilege.c */
void everything_at_once(void); /* storm.c */
void two_vcpus(void);
void no_memory(void); /* memory.c */

#endif
