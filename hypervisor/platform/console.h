/* The console: 16550 in both directions. Input goes to domain 0 (VIRQ_CONSOLE, CONSOLEIO_read) or, after Ctrl-A three
 * times, to Croft, where single keys run debug reports, and then to each of the domains without tools. */
#ifndef PLATFORM_CONSOLE_H
#define PLATFORM_CONSOLE_H

#include "sched/timer.h"

void console_init_early(void); /* after options_parse: polled output works from here on */
/* Receive interrupt (polled by a timer if there is none), keys; after irq_init and timers. */
void console_init_irq(void);
void console_keyboard_start(void); /* the domains are there: domain 0 has the keyboard, or who comes in its place */
void console_write(const char *text, size_t n); /* "\n" becomes "\r\n"; takes the console lock; any context */
size_t console_read(char *to, size_t n);        /* input meant for domain 0; any context */
void console_input(const char *text, size_t n); /* what was typed; any context */
void console_panic_mode(void);                  /* from now on no locks */
bool console_in_panic(void);

/* Log ring (lib/log.c writes it) */
/* Copies what was logged from *position on (a count of bytes ever logged; 0 is the oldest kept and not cleared) and
 * moves *position behind it. 'clear': what was read, and what is older, is not shown again. Any context. */
size_t log_ring_read(uint64_t *position, char *to, size_t n, bool clear);
void log_console_ready(void); /* console_init_early says so: prints what the ring holds, from now on all goes out */
/* The rate limit of guest_log, one line: false if it is to be dropped; *dropped: how many were since the last. */
bool log_bucket_take(uint64_t *state, ns_t *refill, ns_t t, uint32_t *dropped);

/* Debug keys: 'h' lists them. */
void key_register(char key, const char *what, void (*handler)(void)); /* while booting */
void key_press(char key); /* runs the handler: not in an interrupt handler */
void keys_init(void);     /* Croft's general ones: help, interrupts, reboot */

#endif
