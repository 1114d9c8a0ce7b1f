#ifndef LIFECYCLE_H
#define LIFECYCLE_H

#include "child.h"

void without_privilege(void); /* privilege.c */

#endif
