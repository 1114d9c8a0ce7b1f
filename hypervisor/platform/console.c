/*
 * The console. Output is polled; input comes by interrupt (or a timer's poll) and goes to domain 0's ring or, after
 * Ctrl-A three times, to Croft, whose keys run in a softirq because reports are long.
 */
#include "platform/console.h"

#include "boot/options.h"
#include "cpu/softirq.h"
#include "domain/domain.h"
#include "domain/guest_console.h"
#include "lib/log.h"
#include "lib/spinlock.h"
#include "lib/string.h"
#include "platform/irq.h"
#include "platform/serial.h"
#include "sched/time.h"

#define INPUT_SIZE 1024 /* power of two */
#define KEYS_SIZE 64    /* power of two */
#define CHUNK 128
#define SWITCH_KEY 0x01 /* Ctrl-A */
#define SWITCH_COUNT 3
#define POLL_PERIOD MILLISECS(20)

static const struct {
    uint16_t port;
    uint8_t irq;
} legacy_com[2] = {{0x3f8, 4}, {0x2f8, 3}};

static bool active; /* there is a port to write to */
static volatile bool panicking;
static unsigned com;                           /* which of options.com */
static spinlock_t output_lock = SPINLOCK_INIT; /* irq-safe, innermost */
static spinlock_t input_lock = SPINLOCK_INIT;  /* irq-safe: all below */
static char input[INPUT_SIZE];
static unsigned input_head, input_tail; /* count of characters in and out */
static char pressed[KEYS_SIZE];
static unsigned pressed_head, pressed_tail;
static unsigned switch_seen; /* Ctrl-As in a row, kept back until it is clear what they are */
/* Who has the keyboard: the order in which Ctrl-A goes round */
enum { OWNER_DOMAIN0, OWNER_CROFT, OWNER_GUESTS };
static unsigned owner;
static struct timer poll_timer;

bool console_in_panic(void) { return panicking; }
void console_panic_mode(void) { panicking = true; }

/* --- Output --- */

static void write_locked(const char *text, size_t n)
{
    char out[2 * CHUNK];

    while (n) {
        size_t part = min(n, (size_t)CHUNK), used = 0;

        for (size_t i = 0; i < part; i++) {
            if (text[i] == '\n')
                out[used++] = '\r';
            out[used++] = text[i];
        }
        serial_write(out, used);
        text += part;
        n -= part;
    }
}

void console_write(const char *text, size_t n)
{
    unsigned long flags;

    if (!active)
        return;
    if (panicking) {
        write_locked(text, n);
        return;
    }
    flags = spin_lock_irqsave(&output_lock);
    write_locked(text, n);
    spin_unlock_irqrestore(&output_lock, flags);
}

void console_init_early(void)
{
    uint16_t port;

    if (!strstr(options.console, "none")) {
        com = strstr(options.console, "com2") != NULL;
        port = options.com[com].port ? options.com[com].port : legacy_com[com].port;
        active = serial_init(port, options.com[com].baud);
        if (!active)
            log_warning("console: no serial port answers at 0x%x (com%u); output is kept in the log only\n", port,
                        com + 1);
    }
    log_console_ready();
}

/* --- Input --- */

/* True if domain 0 has something new. */
static bool give_to_domain_locked(char c)
{
    if (owner >= OWNER_GUESTS) {
        guest_console_type(owner - OWNER_GUESTS, &c, 1);
        return false;
    }
    if (input_head - input_tail == INPUT_SIZE)
        return false; /* it does not read: the newest is lost */
    input[input_head++ % INPUT_SIZE] = c;
    return true;
}

static void give_to_croft_locked(char c)
{
    if (pressed_head - pressed_tail < KEYS_SIZE)
        pressed[pressed_head++ % KEYS_SIZE] = c;
}

static unsigned next_owner(unsigned o)
{
    char name[BOOT_DOMAIN_NAME];

    do
        o = (o + 1) % (OWNER_GUESTS + GUEST_CONSOLES);
    while (o != OWNER_CROFT && (o == OWNER_DOMAIN0 ? !domain0 : !guest_console_name(o - OWNER_GUESTS, name)));
    return o;
}

static void tell_owner(unsigned o)
{
    char name[BOOT_DOMAIN_NAME];

    if (o >= OWNER_GUESTS && guest_console_name(o - OWNER_GUESTS, name))
        log_error("console: the keyboard is domain %s's now (Ctrl-A three times switches)\n", name);
    else if (o < OWNER_GUESTS)
        log_error("console: the keyboard is %s now (Ctrl-A three times switches)%s\n",
                  o == OWNER_CROFT ? "Croft's" : "domain 0's", o == OWNER_CROFT ? "; 'h' lists the keys" : "");
}

void console_keyboard_start(void)
{
    unsigned long flags = spin_lock_irqsave(&input_lock);
    bool change = owner == OWNER_DOMAIN0 && !domain0;

    if (change)
        owner = next_owner(OWNER_CROFT);
    spin_unlock_irqrestore(&input_lock, flags);
    if (change)
        tell_owner(owner);
}

void console_input(const char *text, size_t n)
{
    unsigned long flags = spin_lock_irqsave(&input_lock);
    bool news = false, keys = false, switched = false;
    unsigned now_to;

    for (size_t i = 0; i < n; i++) {
        if (text[i] == SWITCH_KEY) {
            if (++switch_seen == SWITCH_COUNT) {
                switch_seen = 0;
                owner = next_owner(owner);
                switched = true;
            }
            continue;
        }
        for (; switch_seen; switch_seen--) /* it was only a Ctrl-A */
            if (owner != OWNER_CROFT)
                news |= give_to_domain_locked(SWITCH_KEY);
        if (owner == OWNER_CROFT) {
            give_to_croft_locked(text[i]);
            keys = true;
        } else {
            news |= give_to_domain_locked(text[i]);
        }
    }
    now_to = owner;
    spin_unlock_irqrestore(&input_lock, flags);
    if (switched)
        tell_owner(now_to);
    if (keys)
        softirq_raise(SOFTIRQ_CONSOLE);
    if (news && domain0)
        event_send_global_virq(domain0, VIRQ_CONSOLE);
}

size_t console_read(char *to, size_t n)
{
    unsigned long flags = spin_lock_irqsave(&input_lock);
    size_t done = 0;

    while (done < n && input_tail != input_head)
        to[done++] = input[input_tail++ % INPUT_SIZE];
    spin_unlock_irqrestore(&input_lock, flags);
    return done;
}

static void run_keys(void)
{
    for (;;) {
        unsigned long flags = spin_lock_irqsave(&input_lock);
        bool some = pressed_tail != pressed_head;
        char c = some ? pressed[pressed_tail++ % KEYS_SIZE] : 0;

        spin_unlock_irqrestore(&input_lock, flags);
        if (!some)
            return;
        key_press(c);
    }
}

static void receive(void *arg)
{
    char text[CHUNK];
    size_t n;
    int c;

    /* Until it is empty: only then does the port's line fall, and its interrupt is an edge. */
    do {
        n = 0;
        while (n < sizeof(text) && (c = serial_read()) >= 0)
            text[n++] = (char)c;
        if (n)
            console_input(text, n);
    } while (n == sizeof(text));
}

static void poll(void *arg)
{
    receive(NULL);
    timer_set(&poll_timer, now() + POLL_PERIOD);
}

void console_init_irq(void)
{
    unsigned irq = options.com[com].irq ? options.com[com].irq : legacy_com[com].irq;

    keys_init();
    softirq_register(SOFTIRQ_CONSOLE, run_keys);
    if (!active)
        return;
    if (irq_request_gsi(irq_gsi_of_isa(irq), receive, NULL) == 0) {
        serial_enable_receive_interrupt();
        receive(NULL); /* typed before: its interrupt is over */
        return;
    }
    log_info("console: no interrupt for com%u (irq %u); it is polled\n", com + 1, irq);
    timer_init(&poll_timer, poll, NULL, 0);
    timer_set(&poll_timer, now() + POLL_PERIOD);
}
