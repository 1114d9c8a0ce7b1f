/* Formatting: %d %i %u %x %X %p %s %c %% with l, ll, z, flags "-0# +", width and precision (also '*').
 * Returns the length the full text would have; writes at most size bytes including the end. */
#ifndef LIB_PRINTF_H
#define LIB_PRINTF_H

#include <stdarg.h>
#include "lib/util.h"

int vsnprintf(char *buf, size_t size, const char *fmt, va_list ap) __printf(3, 0);
int snprintf(char *buf, size_t size, const char *fmt, ...) __printf(3, 4);

#endif
