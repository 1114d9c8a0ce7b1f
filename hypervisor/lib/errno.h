/* The ABI's error numbers, positive, by their usual names (from <xen/errno.h>). */
#ifndef LIB_ERRNO_H
#define LIB_ERRNO_H

#ifdef CROFT_HOST_TEST
#include <errno.h>
#else
#define XEN_ERRNO(name, value) name = value,
enum {
#include <xen/errno.h>
};
#endif

#endif
