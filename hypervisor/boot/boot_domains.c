/* Boot modules sorted by domain, and the words that describe a domain without tools. */
#include "boot/boot_domains.h"

#include "boot/options.h"
#include "lib/printf.h"
#include "lib/string.h"

#define DEFAULT_MEMORY (128UL << 20)
#define LEAST_MEMORY (4UL << 20)
#define MOST_VCPUS 128 /* MAX_VCPUS of domain/domain.h */
#define WORD_SIZE 64
#define DEFAULT_RESTARTS 5
#define MOST_RESTARTS 1000000
#define ACTIONS "destroy, restart or preserve"

/* The next word at *p, which moves behind it. False: there is none, or, with *too_long, it does not fit. */
static bool next_word(const char **p, char *word, bool *too_long)
{
    size_t n = 0;

    while (**p == ' ')
        (*p)++;
    while ((*p)[n] && (*p)[n] != ' ')
        n++;
    *too_long = n >= WORD_SIZE;
    if (!n || *too_long)
        return false;
    memcpy(word, *p, n);
    word[n] = 0;
    *p += n;
    return true;
}

static bool begins(const struct boot_module *m, const char *word)
{
    const char *text = m->cmdline;

    while (*text == ' ')
        text++;
    return !strncmp(text, word, strlen(word));
}

static bool is_guest_kernel(const struct boot_module *m) { return begins(m, "domain="); }

static bool is_initrd(const struct boot_module *m)
{
    const char *p = m->cmdline;
    char word[WORD_SIZE];
    bool too_long;

    return next_word(&p, word, &too_long) && !strcmp(word, "initrd") && !next_word(&p, word, &too_long) && !too_long;
}

static bool parse_name(struct boot_domain *g, const char *value)
{
    size_t n = strlen(value);

    for (size_t i = 0; i < n; i++) {
        char c = value[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
              c == '.'))
            return false;
    }
    strlcpy(g->name, value, sizeof(g->name));
    return n && n < sizeof(g->name);
}

static bool parse_vcpus(struct boot_domain *g, const char *value)
{
    char *end;
    unsigned long n = strtoul(value, &end, 10);

    g->vcpus = (uint32_t)n;
    return end != value && !*end && n && n <= MOST_VCPUS;
}

static bool parse_memory(struct boot_domain *g, const char *value)
{
    return option_parse_size(value, &g->memory) && g->memory >= LEAST_MEMORY;
}

/* Numbers and ranges: "0-2,5" */
static bool parse_cpus(struct boot_domain *g, const char *value)
{
    for (;;) {
        char *end;
        unsigned long first = strtoul(value, &end, 10), last = first;

        if (end == value)
            return false;
        if (*end == '-') {
            value = end + 1;
            last = strtoul(value, &end, 10);
            if (end == value)
                return false;
        }
        if (last < first || last >= NR_CPUS)
            return false;
        for (; first <= last; first++)
            cpumask_set((unsigned)first, &g->cpus);
        if (!*end)
            return true;
        if (*end != ',')
            return false;
        value = end + 1;
    }
}

static bool parse_type(struct boot_domain *g, const char *value)
{
    g->pvh = !strcmp(value, "pvh");
    return g->pvh || !strcmp(value, "pv");
}

static bool parse_action(enum boot_action *action, const char *value)
{
    static const char *const names[] = {
        [BOOT_DESTROY] = "destroy", [BOOT_RESTART] = "restart", [BOOT_PRESERVE] = "preserve"};

    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (!strcmp(value, names[i])) {
            *action = (enum boot_action)i;
            return true;
        }
    return false;
}

static bool parse_on_poweroff(struct boot_domain *g, const char *value) { return parse_action(&g->on_poweroff, value); }
static bool parse_on_reboot(struct boot_domain *g, const char *value) { return parse_action(&g->on_reboot, value); }
static bool parse_on_crash(struct boot_domain *g, const char *value) { return parse_action(&g->on_crash, value); }

static bool parse_restarts(struct boot_domain *g, const char *value)
{
    char *end;
    unsigned long n = strtoul(value, &end, 10);

    if (!strcmp(value, "unlimited")) {
        g->restarts = BOOT_RESTARTS_UNLIMITED;
        return true;
    }
    g->restarts = (uint32_t)n;
    return end != value && !*end && n <= MOST_RESTARTS;
}

static const struct {
    const char *name, *form;
    bool (*parse)(struct boot_domain *g, const char *value);
} words[] = {
    {"domain", "letters, digits, '-', '_' and '.', fewer than 24", parse_name},
    {"memory", "a size of at least 4M", parse_memory},
    {"vcpus", "1 to 128", parse_vcpus},
    {"cpus", "numbers and ranges, as 0-2,5", parse_cpus},
    {"type", "pv or pvh", parse_type},
    {"on_poweroff", ACTIONS, parse_on_poweroff},
    {"on_reboot", ACTIONS, parse_on_reboot},
    {"on_crash", ACTIONS, parse_on_crash},
    {"restarts", "0 to 1000000, or unlimited", parse_restarts},
};

static bool parse_word(struct boot_domain *g, char *word, char *error, size_t size)
{
    char *value = strchr(word, '=');

    if (value)
        *value++ = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
        if (strcmp(word, words[i].name))
            continue;
        if (value && words[i].parse(g, value))
            return true;
        snprintf(error, size, "'%s=%s' is malformed: give %s", word, value ? value : "", words[i].form);
        return false;
    }
    snprintf(error, size, "the word '%s' is not known: the kernel's own command line comes behind \"--\"", word);
    return false;
}

static bool parse_guest(struct boot_domain *g, const struct boot_module *m, char *error, size_t size)
{
    const char *p = m->cmdline;
    char word[WORD_SIZE];
    bool too_long;

    *g = (struct boot_domain){.kernel = m,
                              .cmdline = "",
                              .memory = DEFAULT_MEMORY,
                              .vcpus = 1,
                              .on_poweroff = BOOT_DESTROY, /* these three as in xl */
                              .on_reboot = BOOT_RESTART,
                              .on_crash = BOOT_DESTROY,
                              .restarts = DEFAULT_RESTARTS};
    while (next_word(&p, word, &too_long)) {
        if (!strcmp(word, "--")) {
            g->cmdline = *p ? p + 1 : p;
            return true;
        }
        if (!parse_word(g, word, error, size))
            return false;
    }
    if (too_long)
        snprintf(error, size, "a word of it is longer than %d characters", WORD_SIZE - 1);
    return !too_long;
}

bool boot_domains_parse(const struct boot_info *info, struct boot_domains *out, char *error, size_t size)
{
    struct boot_domain *d0 = &out->domain0;
    char why[160];

    *d0 = (struct boot_domain){.name = "domain 0", .is_domain0 = true};
    for (unsigned i = 0; i < info->module_count; i++) {
        const struct boot_module *m = &info->modules[i];
        struct boot_domain *g = &out->guests[out->count];

        if (!is_guest_kernel(m)) {
            if (!d0->kernel)
                d0->kernel = m;
            else if (!d0->initrd && m->size)
                d0->initrd = m;
            continue;
        }
        if (!parse_guest(g, m, why, sizeof(why))) {
            snprintf(error, size, "boot module %u, which is to be a domain's kernel: %s", i + 1, why);
            return false;
        }
        for (unsigned j = 0; j < out->count; j++)
            if (!strcmp(g->name, out->guests[j].name)) {
                snprintf(error, size, "boot module %u: there is a domain named '%s' already", i + 1, g->name);
                return false;
            }
        if (i + 1 < info->module_count && is_initrd(&info->modules[i + 1]))
            g->initrd = &info->modules[++i];
        out->count++;
    }
    return true;
}
