/* Debug keys: a table from a character to a report. */
#include "lib/log.h"
#include "platform/console.h"
#include "platform/irq.h"
#include "platform/power.h"

static struct {
    const char *what;
    void (*handler)(void);
} keys[128]; /* filled while booting, then constant */

void key_register(char key, const char *what, void (*handler)(void))
{
    if (key <= 0)
        return;
    if (keys[(int)key].handler && keys[(int)key].handler != handler)
        log_warning("console: key '%c' is taken twice (%s, %s)\n", key, keys[(int)key].what, what);
    keys[(int)key].what = what;
    keys[(int)key].handler = handler;
}

void key_press(char key)
{
    if (key > 0 && keys[(int)key].handler) {
        log_info("key '%c': %s\n", key, keys[(int)key].what);
        keys[(int)key].handler();
    } else if (key > ' ' && key < 127) {
        log_info("key '%c' has no meaning; 'h' lists those that have\n", key);
    }
}

static void help(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(keys); i++)
        if (keys[i].handler)
            log_info("  %c  %s\n", (char)i, keys[i].what);
    log_info("  Ctrl-A three times gives the keyboard to the next domain\n");
}

static void reboot(void) { machine_reboot(); }

void keys_init(void)
{
    key_register('h', "this list", help);
    key_register('i', "interrupts", irq_key_report);
    key_register('R', "reboot the machine", reboot);
}
