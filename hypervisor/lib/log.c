/*
 * The log: a ring that keeps the last 64 KiB of lines, and the console. A line is formatted on the caller's stack,
 * appended to the ring under a lock, and written to the console outside of it. Until the console is up lines stay in the
 * ring, with their levels on the side, and are printed when it comes up.
 */
#include <stdarg.h>

#include "lib/log.h"

#include "boot/options.h"
#include "domain/domain.h"
#include "lib/printf.h"
#include "lib/spinlock.h"
#include "lib/string.h"
#include "platform/console.h"
#include "sched/time.h"

#define RING_SIZE (64U << 10) /* power of two */
#define LINE_SIZE 512
#define PREFIX "(CROFT) "
#define EARLY_LINES 256 /* lines whose level is remembered until the console is up; later ones count as shown */
#define GUEST_BURST 20  /* lines a domain may write at once */
#define GUEST_REFILL MILLISECS(200) /* and then one in this time */

static char ring[RING_SIZE];
static uint64_t written;                /* bytes ever; the ring holds the last RING_SIZE */
static uint64_t cleared;                /* nobody is shown what is before this */
static spinlock_t lock = SPINLOCK_INIT; /* irq-safe */
static bool console_ready;
static uint8_t early_levels[EARLY_LINES];
static unsigned early_count;

static unsigned long log_lock(void) { return console_in_panic() ? 0 : spin_lock_irqsave(&lock); }

static void log_unlock(unsigned long flags)
{
    if (!console_in_panic())
        spin_unlock_irqrestore(&lock, flags);
}

static void append_locked(const char *text, size_t n)
{
    while (n) {
        size_t at = written & (RING_SIZE - 1), part = min(n, (size_t)(RING_SIZE - at));

        memcpy(ring + at, text, part);
        text += part;
        written += part;
        n -= part;
    }
}

static size_t read_locked(uint64_t *position, char *to, size_t n)
{
    uint64_t oldest = written > RING_SIZE ? written - RING_SIZE : 0;
    size_t done = 0;

    *position = min(max(max(*position, oldest), cleared), written);
    while (done < n && *position < written) {
        size_t at = *position & (RING_SIZE - 1);
        size_t part = min(min(n - done, (size_t)(RING_SIZE - at)), (size_t)(written - *position));

        memcpy(to + done, ring + at, part);
        done += part;
        *position += part;
    }
    return done;
}

size_t log_ring_read(uint64_t *position, char *to, size_t n, bool clear)
{
    unsigned long flags = log_lock();
    size_t done = read_locked(position, to, n);

    if (clear)
        cleared = max(cleared, *position);
    log_unlock(flags);
    return done;
}

/* Writes a line of 'size' bytes at most: what is too long is cut, and it ends in a newline in any case. */
static size_t finish_line(char *line, size_t size, int length)
{
    size_t n = length < 0 ? 0 : min((size_t)length, size - 2);

    if (n == 0 || line[n - 1] != '\n' || (size_t)length > size - 2)
        line[n++] = '\n';
    line[n] = '\0';
    return n;
}

static void emit(enum log_level level, int threshold, const char *line, size_t n)
{
    unsigned long flags = log_lock();
    bool show;

    append_locked(line, n);
    if (!console_ready && early_count < EARLY_LINES)
        early_levels[early_count++] = (uint8_t)level;
    show = console_ready && (int)level <= threshold;
    log_unlock(flags);
    if (show)
        console_write(line, n);
}

void log_console_ready(void)
{
    char line[LINE_SIZE];
    uint64_t position = 0;
    unsigned number = 0;
    unsigned long flags = log_lock();
    bool again = console_ready;

    console_ready = true;
    log_unlock(flags);
    if (again)
        return;
    /* Whole lines, as append_locked got them; the oldest may have lost its beginning. */
    for (;;) {
        size_t n, end;
        const char *newline;
        uint64_t at = position;

        flags = log_lock();
        n = read_locked(&at, line, sizeof(line));
        log_unlock(flags);
        if (!n)
            break;
        newline = memchr(line, '\n', n);
        end = newline ? (size_t)(newline - line) + 1 : n;
        if (number >= early_count || early_levels[number] <= options.loglvl)
            console_write(line, end);
        position = at - n + end;
        number += newline != NULL;
    }
}

void log_print(enum log_level level, const char *fmt, ...)
{
    char line[LINE_SIZE] = PREFIX;
    size_t start = sizeof(PREFIX) - 1;
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(line + start, sizeof(line) - start, fmt, ap);
    va_end(ap);
    emit(level, options.loglvl, line, finish_line(line, sizeof(line), n < 0 ? n : n + (int)start));
}

/*
 * The bucket of a domain: tokens in the low half of 'state', lines dropped since the last one shown in the high half.
 * 'refill' is the time up to which tokens were given, 0 in a new domain, whose bucket is full.
 */
bool log_bucket_take(uint64_t *state, ns_t *refill, ns_t t, uint32_t *dropped)
{
    uint32_t tokens = (uint32_t)*state, lost = (uint32_t)(*state >> 32);

    if (!*refill) {
        tokens = GUEST_BURST;
        *refill = t ? t : 1;
    } else if (t > *refill) {
        uint64_t earned = (t - *refill) / GUEST_REFILL;

        tokens = earned >= GUEST_BURST ? GUEST_BURST : min(tokens + (uint32_t)earned, (uint32_t)GUEST_BURST);
        *refill += earned * GUEST_REFILL;
    }
    *dropped = 0;
    if (tokens) {
        *dropped = lost;
        *state = tokens - 1;
        return true;
    }
    *state = (uint64_t)(lost == UINT32_MAX ? lost : lost + 1) << 32;
    return false;
}

void guest_log(enum log_level level, const char *fmt, ...)
{
    char line[LINE_SIZE];
    struct vcpu *v = current;
    uint32_t dropped = 0;
    unsigned long flags;
    va_list ap;
    bool go = true;
    int start, n;

    if (v && !v->is_idle) {
        flags = log_lock();
        go = log_bucket_take(&v->domain->guest_log_tokens, &v->domain->guest_log_refill, now(), &dropped);
        log_unlock(flags);
    }
    if (!go)
        return;
    if (dropped) {
        n = snprintf(line, sizeof(line), PREFIX "d%u: %u lines were left out (rate limit)\n", v->domain->id, dropped);
        emit(level, options.guest_loglvl, line, finish_line(line, sizeof(line), n));
    }
    start = v && !v->is_idle ? snprintf(line, sizeof(line), PREFIX "d%uv%u: ", v->domain->id, v->id)
                             : snprintf(line, sizeof(line), PREFIX);
    va_start(ap, fmt);
    n = vsnprintf(line + start, sizeof(line) - (size_t)start, fmt, ap);
    va_end(ap);
    emit(level, options.guest_loglvl, line, finish_line(line, sizeof(line), n < 0 ? n : n + start));
}
