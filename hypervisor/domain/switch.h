/* Changing the vcpu that a CPU runs. */
#ifndef DOMAIN_SWITCH_H
#define DOMAIN_SWITCH_H

#include "lib/util.h"

__noreturn void idle_loop(void); /* of the CPU's idle vcpu: halts until there is work */

#endif
