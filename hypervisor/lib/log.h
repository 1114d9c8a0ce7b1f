/*
 * The log: every line goes to the ring (kept for 'xl dmesg' and crash reports) and, if its level is
 * at or below the threshold (loglvl= / guest_loglvl=), to the console. Callable from any context.
 * A message is one line and ends in "\n"; the log puts "(CROFT) " in front.
 */
#ifndef LIB_LOG_H
#define LIB_LOG_H

#include "lib/util.h"

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

void log_print(enum log_level level, const char *fmt, ...) __printf(2, 3);
#define log_error(...) log_print(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_print(LOG_WARNING, __VA_ARGS__)
#define log_info(...) log_print(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_print(LOG_DEBUG, __VA_ARGS__)

/* A line caused by a guest: rate limited per domain, under guest_loglvl. "d1v0: " is put in front
 * (the current vcpu). Level: a refusal is LOG_WARNING, chatter LOG_DEBUG. */
void guest_log(enum log_level level, const char *fmt, ...) __printf(2, 3);
/* A refusal: logs "d1v0: <text>" at LOG_WARNING and gives back err, so: return refuse(-EINVAL, "..."). */
#define refuse(err, ...) (guest_log(LOG_WARNING, __VA_ARGS__), (err))

/* The end: report with registers, trace and last log lines; the machine stops or reboots. */
void panic(const char *fmt, ...) __printf(1, 2) __noreturn;
/* Boot cannot go on because of what the user gave: one line, no trace, then halt or reboot after 5 s. */
void boot_fail(const char *fmt, ...) __printf(1, 2) __noreturn;

#define BUG() panic("BUG at %s:%d\n", __FILE__, __LINE__)
#define BUG_ON(c)                                                                                                      \
    do {                                                                                                               \
        if (unlikely(c))                                                                                               \
            panic("BUG at %s:%d: %s\n", __FILE__, __LINE__, #c);                                                       \
    } while (0)
#define ASSERT(c) BUG_ON(!(c))

#endif
