/*
 * A QEMU (TCG) plugin that counts the hypervisor's instructions by place. Arguments: low=ADDRESS,high=ADDRESS: its text; out=FILE;
 * mark=ADDRESS. Whenever an instruction at the mark is executed (the program of bench/guests does, in domain 0), a line "mark
 * TOTAL" goes to the file, with lines "ADDRESS COUNT" of the blocks executed since the last one, and counting begins anew.
 * The prototypes stand here for the reason given in count.c.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
typedef void tb_translate_fn(qemu_plugin_id_t id, struct qemu_plugin_tb *tb);
typedef void tb_exec_fn(unsigned cpu, void *data);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, tb_translate_fn *fn);
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, tb_exec_fn *fn, int flags, void *data);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int add, void *to, uint64_t what);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
extern const int qemu_plugin_version;
const int qemu_plugin_version = 1;

#define EXPORT __attribute__((visibility("default")))

static uint64_t low, high, mark, *counts; /* by offset in the text */
static FILE *out;

static void marked(unsigned cpu, void *data)
{
    uint64_t total = 0;

    for (uint64_t i = 0; i < high - low; i++)
        total += counts[i];
    fprintf(out, "mark %" PRIu64 "\n", total);
    for (uint64_t i = 0; i < high - low; i++)
        if (counts[i])
            fprintf(out, "%" PRIx64 " %" PRIu64 "\n", low + i, counts[i]);
    fflush(out);
    memset(counts, 0, (high - low) * sizeof(*counts));
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    uint64_t at = qemu_plugin_tb_vaddr(tb);

    if (at >= low && at < high)
        qemu_plugin_register_vcpu_tb_exec_inline(tb, 0, &counts[at - low], qemu_plugin_tb_n_insns(tb));
    else if (at == mark)
        qemu_plugin_register_vcpu_tb_exec_cb(tb, marked, 0, NULL);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "low=", 4))
            low = strtoull(argv[i] + 4, NULL, 0);
        else if (!strncmp(argv[i], "high=", 5))
            high = strtoull(argv[i] + 5, NULL, 0);
        else if (!strncmp(argv[i], "mark=", 5))
            mark = strtoull(argv[i] + 5, NULL, 0);
        else if (!strncmp(argv[i], "out=", 4))
            out = fopen(argv[i] + 4, "w");
    }
    counts = high > low ? calloc(high - low, sizeof(*counts)) : NULL;
    if (!counts || !mark || !out) {
        fprintf(stderr, "profile: low=, high=, mark= and out= are needed\n");
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
