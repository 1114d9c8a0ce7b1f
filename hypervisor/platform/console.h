/* The console: 16550 in both directions. Input goes to domain 0 (VIRQ_CONSOLE, CONSOLEIO_read) or, after Ctrl-A three
 * times, to Croft, where single keys run debug reports. */
#ifndef PLATFORM_CONSOLE_H
#define PLATFORM_CONSOLE_H

#include "lib/types.h"

void console_init_early(void); /* after options_parse: polled output works from here on */
void console_init_irq(void);   /* receive interrupt (polled by a timer if there is none) */
void console_write(const char *text, size_t n);  /* raw; takes the console lock; any context */
size_t console_read(char *to, size_t n);         /* input meant for domain 0 */
void console_panic_mode(void);                   /* from now on no locks */
/* Log ring (lib/log.c writes it) */
size_t log_ring_read(uint64_t *position, char *to, size_t n, bool clear); /* for sysctl readconsole and crash reports */

/* Debug keys: 'h' lists them. */
void key_register(char key, const char *what, void (*handler)(void));
void key_press(char key);

#endif
