/* The entry from boot/head.S. */
#ifndef MAIN_H
#define MAIN_H

#include "lib/util.h"

#define CROFT_VERSION "0.1"

__noreturn void main(uint32_t magic, uint32_t info);

#endif
