/*
 * Croft's command line: words separated by spaces, each "name", "no-name" or "name=value". Where Xen has an option
 * of the same meaning, the name and the form of the value are Xen's. A word "--" ends Croft's part: what follows is
 * added to domain 0's own command line.
 * The table below is the only list of options; docs/options.md is printed from it.
 */
#include "boot/options.h"

#include "lib/log.h"
#include "lib/string.h"

#define OPTION_DEFAULTS                                                                                                \
    {                                                                                                                  \
        .loglvl = LOG_INFO, .guest_loglvl = LOG_WARNING, .console = "com1", .x2apic = true, .smap = true,              \
        .smep = true, .sched_allowance_us = 5000, .timer_slop = 50000                                                  \
    }

struct options options = OPTION_DEFAULTS;

/* Takes a value (never null; "" for a bare name), stores it in 'field'. False: malformed, nothing changed. */
typedef bool parse_fn(const char *value, void *field, const struct option_text *o);

static bool parse_number(const char **p, uint64_t *out)
{
    char *end;

    if (**p < '0' || **p > '9')
        return false;
    *out = strtoul(*p, &end, 0);
    *p = end;
    return *out != ~0UL;
}

/* Bytes with K, M, G or T (of 1024); a bare number counts KiB as in Xen, and B counts bytes. */
static bool parse_size_part(const char **p, uint64_t *out)
{
    unsigned shift = 10;
    uint64_t v;

    if (!parse_number(p, &v))
        return false;
    switch (**p | 0x20) {
    case 'b':
        shift = 0;
        break;
    case 'k':
        break;
    case 'm':
        shift = 20;
        break;
    case 'g':
        shift = 30;
        break;
    case 't':
        shift = 40;
        break;
    default:
        (*p)--; /* no suffix to step over */
    }
    (*p)++;
    if (v > ~0UL >> shift)
        return false;
    *out = v << shift;
    return true;
}

bool option_parse_size(const char *value, uint64_t *out)
{
    uint64_t v;

    if (!parse_size_part(&value, &v) || *value)
        return false;
    *out = v;
    return true;
}

static bool parse_size(const char *value, void *field, const struct option_text *o)
{
    return option_parse_size(value, field);
}

static bool parse_uint(const char *value, void *field, const struct option_text *o)
{
    uint64_t v;

    if (!parse_number(&value, &v) || *value || v > UINT32_MAX)
        return false;
    *(uint32_t *)field = (uint32_t)v;
    return true;
}

/* 1, 0, or -1 if it is no boolean */
static int boolean_value(const char *value)
{
    static const char *const yes[] = {"", "1", "on", "yes", "true", "enable"};
    static const char *const no[] = {"0", "off", "no", "false", "disable"};

    for (unsigned i = 0; i < ARRAY_SIZE(yes); i++)
        if (!strcmp(value, yes[i]))
            return 1;
    for (unsigned i = 0; i < ARRAY_SIZE(no); i++)
        if (!strcmp(value, no[i]))
            return 0;
    return -1;
}

static bool parse_bool(const char *value, void *field, const struct option_text *o)
{
    int v = boolean_value(value);

    if (v >= 0)
        *(bool *)field = v;
    return v >= 0;
}

static bool parse_inverted_bool(const char *value, void *field, const struct option_text *o)
{
    int v = boolean_value(value);

    if (v >= 0)
        *(bool *)field = !v;
    return v >= 0;
}

/* "all", "none", or the name of a level; two of them with a slash: the more talkative counts. */
static bool parse_level(const char *value, void *field, const struct option_text *o)
{
    static const struct {
        const char *name;
        int level;
    } levels[] = {{"none", -1},       {"error", LOG_ERROR}, {"warning", LOG_WARNING},
                  {"info", LOG_INFO}, {"debug", LOG_DEBUG}, {"all", LOG_DEBUG}};
    int best = -2;

    for (;;) {
        const char *slash = strchr(value, '/');
        size_t n = slash ? (size_t)(slash - value) : strlen(value);
        int level = -2;

        for (unsigned i = 0; i < ARRAY_SIZE(levels); i++)
            if (strlen(levels[i].name) == n && !memcmp(value, levels[i].name, n))
                level = levels[i].level;
        if (level == -2)
            return false;
        best = max(best, level);
        if (!slash)
            break;
        value = slash + 1;
    }
    *(int *)field = best;
    return true;
}

/* Is the word one of a list "a|b|c"? */
static bool in_list(const char *word, size_t n, const char *list)
{
    for (;;) {
        const char *bar = strchr(list, '|');
        size_t m = bar ? (size_t)(bar - list) : strlen(list);

        if (n == m && !memcmp(word, list, n))
            return true;
        if (!bar)
            return false;
        list = bar + 1;
    }
}

static bool parse_console(const char *value, void *field, const struct option_text *o)
{
    struct options *opt = field;

    if (strlen(value) >= sizeof(opt->console))
        return false;
    for (const char *p = value;; p++) {
        const char *start = p;

        while (*p && *p != ',')
            p++;
        if (!in_list(start, p - start, "com1|com2|vga|none"))
            return false;
        if (!*p)
            break;
    }
    strlcpy(opt->console, value, sizeof(opt->console));
    return true;
}

static bool parse_reboot(const char *value, void *field, const struct option_text *o)
{
    struct options *opt = field;
    static const char *const ways[] = {"acpi", "kbd", "triple", "no"};

    for (unsigned i = 0; i < ARRAY_SIZE(ways); i++) {
        if (strcmp(value, ways[i]) && !(value[0] == ways[i][0] && !value[1]))
            continue;
        if (!strcmp(ways[i], "no"))
            opt->noreboot = true;
        else
            strlcpy(opt->reboot, ways[i], sizeof(opt->reboot));
        return true;
    }
    return false;
}

/* BAUD[/CLOCK][,8n1[,PORT[,IRQ]]]; BAUD may be "auto", and any part behind the first may be empty. */
static bool parse_com(const char *value, void *field, const struct option_text *o)
{
    struct {
        uint32_t baud;
        uint16_t port;
        uint8_t irq;
    } *com = field;
    uint64_t baud = 0, port = com->port, irq = com->irq, clock;

    if (!strncmp(value, "auto", 4))
        value += 4;
    else if (!parse_number(&value, &baud) || !baud || baud > 115200 || 115200 % baud)
        return false;
    if (*value == '/') {
        value++;
        if (!parse_number(&value, &clock))
            return false;
    }
    if (*value == ',' && *++value && *value != ',') {
        if (strncmp(value, "8n1", 3))
            return false;
        value += 3;
    }
    if (*value == ',' && *++value && *value != ',' && (!parse_number(&value, &port) || !port || port > 0xfff8))
        return false;
    if (*value == ',' && *++value && (!parse_number(&value, &irq) || irq > 15))
        return false;
    if (*value)
        return false;
    com->baud = (uint32_t)baud;
    com->port = (uint16_t)port;
    com->irq = (uint8_t)irq;
    return true;
}

/* SIZE, min:SIZE and max:SIZE in any order, separated by commas */
static bool parse_dom0_mem(const char *value, void *field, const struct option_text *o)
{
    struct options *opt = field;
    uint64_t size = opt->dom0_mem, least = opt->dom0_mem_min, most = opt->dom0_mem_max, *part;

    for (;;) {
        part = &size;
        if (!strncmp(value, "min:", 4))
            part = &least;
        else if (!strncmp(value, "max:", 4))
            part = &most;
        if (part != &size)
            value += 4;
        if (!parse_size_part(&value, part) || (*value && *value != ','))
            return false;
        if (!*value || !value[1])
            break;
        value++;
    }
    opt->dom0_mem = size;
    opt->dom0_mem_min = least;
    opt->dom0_mem_max = most;
    return true;
}

static bool parse_nothing(const char *value, void *field, const struct option_text *o) { return true; }

#define OPTION(name, fn, field, values, initial, help)                                                                 \
    {                                                                                                                  \
        {name, values, initial, help}, fn, &options.field                                                              \
    }
#define WHOLE(name, fn, values, initial, help)                                                                         \
    {                                                                                                                  \
        {name, values, initial, help}, fn, &options                                                                    \
    }
#define BOOLEAN "yes or no"

static const struct option {
    struct option_text text;
    parse_fn *parse;
    void *field;
} table[] = {
    WHOLE("dom0_mem", parse_dom0_mem, "SIZE[,min:SIZE][,max:SIZE]",
          "all but a sixteenth, at most 128M, of what is free",
          "Memory of domain 0. min: not less than this, max: not more, and its limit for ballooning. "
          "Sizes take K, M, G or T; a bare number counts KiB, B counts bytes."),
    OPTION("dom0_max_vcpus", parse_uint, dom0_max_vcpus, "NUMBER", "one for each CPU", "Virtual CPUs of domain 0."),
    OPTION("maxcpus", parse_uint, maxcpus, "NUMBER", "all", "CPUs to start."),
    OPTION("mem", parse_size, mem, "SIZE", "all", "Use only RAM below this address."),
    WHOLE("console", parse_console, "LIST of com1, com2, vga, none", "com1",
          "Where the console is. vga is accepted and left to domain 0."),
    OPTION("com1", parse_com, com[0], "BAUD[/CLOCK][,8n1[,PORT[,IRQ]]]", "auto,8n1,0x3f8,4",
           "First serial port. BAUD auto leaves the speed as it is; the clock is not used."),
    OPTION("com2", parse_com, com[1], "BAUD[/CLOCK][,8n1[,PORT[,IRQ]]]", "auto,8n1,0x2f8,3", "Second serial port."),
    OPTION("loglvl", parse_level, loglvl, "none, error, warning, info, debug or all", "info",
           "Lines of Croft's own log that reach the console; the log ring gets all. "
           "Of two with a slash between them the more talkative counts."),
    OPTION("guest_loglvl", parse_level, guest_loglvl, "none, error, warning, info, debug or all", "warning",
           "The same for lines that a domain caused."),
    OPTION("noreboot", parse_bool, noreboot, BOOLEAN, "no",
           "After a fatal error, or when domain 0 crashes or asks for a reboot, stop instead."),
    WHOLE("reboot", parse_reboot, "acpi, kbd, triple or no (or their first letters)", "acpi, then kbd, then triple",
          "How to reboot: ACPI reset register, keyboard controller, triple fault, not at all."),
    OPTION("acpi", parse_inverted_bool, acpi_off, BOOLEAN, "yes",
           "Use the ACPI tables. Without them: one CPU, no I/O APIC."),
    OPTION("hpet", parse_inverted_bool, hpet_off, BOOLEAN, "yes", "Use the HPET to measure the TSC."),
    OPTION("x2apic", parse_bool, x2apic, BOOLEAN, "yes", "Use the local APIC's x2APIC mode where there is one."),
    OPTION("smep", parse_bool, smep, BOOLEAN, "yes", "Use supervisor-mode execution prevention where there is one."),
    OPTION("smap", parse_bool, smap, BOOLEAN, "yes", "Use supervisor-mode access prevention where there is one."),
    OPTION("sched_allowance_us", parse_uint, sched_allowance_us, "MICROSECONDS", "5000",
           "Context-switch allowance of Borrowed Virtual Time: how far a vcpu may run ahead of the next one."),
    OPTION("timer_slop", parse_uint, timer_slop, "NANOSECONDS", "50000",
           "How late a timer may be in order to share an interrupt with another one. None is early."),
    OPTION("fail_allocation", parse_uint, fail_allocation, "NUMBER", "0",
           "Fault injection, for tests: of Croft's allocations since the start the one with this number fails."),
    {{"placeholder", "", "", "Written by GRUB's scripts in front of the options; means nothing."}, parse_nothing, NULL},
    {{"no-real-mode", "", "", "Written by GRUB's scripts; means nothing: Croft never uses real mode."},
     parse_nothing,
     NULL},
    {{"edd", "any", "", "Written by GRUB's scripts; means nothing, as above."}, parse_nothing, NULL},
    {{"vga", "any", "", "Accepted for Xen's sake; the screen is domain 0's."}, parse_nothing, NULL},
};

const struct option_text *option_text(unsigned i) { return i < ARRAY_SIZE(table) ? &table[i].text : NULL; }

static const struct option *find_option(const char *name)
{
    for (unsigned i = 0; i < ARRAY_SIZE(table); i++)
        if (!strcmp(table[i].text.name, name))
            return &table[i];
    return NULL;
}

static bool is_boolean(const struct option *o) { return o->parse == parse_bool || o->parse == parse_inverted_bool; }

static void parse_word(char *word)
{
    char *equals = strchr(word, '=');
    const char *value = equals ? equals + 1 : "";

    if (equals)
        *equals = 0;
    const struct option *o = find_option(word);

    if (!o && !equals && !strncmp(word, "no-", 3)) {
        o = find_option(word + 3);
        if (o && !is_boolean(o))
            o = NULL;
        value = "no";
    }
    if (!o)
        log_warning("unknown option '%s': ignored, see docs/options.md\n", word);
    else if (!equals && !is_boolean(o) && o->parse != parse_nothing)
        log_warning("option '%s' needs a value (%s): ignored, see docs/options.md\n", word, o->text.values);
    else if (!o->parse(value, o->field, &o->text))
        log_warning("option '%s=%s' is malformed (give %s): ignored, see docs/options.md\n", word, value,
                    o->text.values);
}

void options_parse(const char *cmdline)
{
    char word[256];

    options = (struct options)OPTION_DEFAULTS;
    for (;;) {
        while (*cmdline == ' ' || *cmdline == '\t')
            cmdline++;
        size_t n = 0;

        while (cmdline[n] && cmdline[n] != ' ' && cmdline[n] != '\t')
            n++;
        if (!n || (n == 2 && !memcmp(cmdline, "--", 2)))
            return;
        if (n < sizeof(word)) {
            memcpy(word, cmdline, n);
            word[n] = 0;
            parse_word(word);
        } else {
            log_warning("option of %zu characters, '%.24s...': ignored, see docs/options.md\n", n, cmdline);
        }
        cmdline += n;
    }
}
