/* A 16550 serial port. Not locked: the console is the only user. */
#ifndef PLATFORM_SERIAL_H
#define PLATFORM_SERIAL_H

#include "lib/types.h"

bool serial_init(uint16_t port, uint32_t baud); /* baud 0: as firmware left it. False: nothing answers there */
void serial_write(const char *text, size_t n);  /* raw; waits for the transmitter, but not for ever */
int serial_read(void);                          /* next character, -1 if there is none */
void serial_enable_receive_interrupt(void);

#endif
