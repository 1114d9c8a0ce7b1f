#ifndef LIFECYCLE_H
#define LIFECYCLE_H

#include "child.h"

/* Checks that as many pages are free after f as before, and that the audit finds nothing. */
void leaves_nothing(const char *what, void (*f)(void));
void without_privilege(void); /* privilege.c */

#endif
