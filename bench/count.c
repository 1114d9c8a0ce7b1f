/*
 * A QEMU (TCG) plugin that counts instructions of a boot: from the hypervisor's first instruction to the first one of
 * domain 0's kernel. Arguments: low=ADDRESS,high=ADDRESS: where the hypervisor's image is loaded; out=FILE.
 * QEMU 7.2 ships no header in Debian: the prototypes that are needed stand here (include/qemu/qemu-plugin.h).
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
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
extern const int qemu_plugin_version;
const int qemu_plugin_version = 1;

#define EXPORT __attribute__((visibility("default")))
#define KERNEL_START 0xffffffff80000000UL /* Linux's text */

static uint64_t low, high, count;
static const char *out;
static enum { FIRMWARE, HYPERVISOR, DONE } phase;

static void executed(unsigned cpu, void *data)
{
    if (phase == HYPERVISOR)
        count += (uintptr_t)data;
}

static void hypervisor_block(unsigned cpu, void *data)
{
    if (phase == FIRMWARE)
        phase = HYPERVISOR;
    executed(cpu, data);
}

static void kernel_block(unsigned cpu, void *data)
{
    FILE *f;

    if (phase != HYPERVISOR)
        return;
    phase = DONE;
    f = fopen(out, "w");
    if (!f || fprintf(f, "%" PRIu64 "\n", count) < 0 || fclose(f))
        abort();
    exit(0);
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    uint64_t at = qemu_plugin_tb_vaddr(tb);
    tb_exec_fn *fn = at >= KERNEL_START ? kernel_block : at >= low && at < high ? hypervisor_block : executed;

    qemu_plugin_register_vcpu_tb_exec_cb(tb, fn, 0, (void *)qemu_plugin_tb_n_insns(tb));
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "low=", 4))
            low = strtoull(argv[i] + 4, NULL, 0);
        else if (!strncmp(argv[i], "high=", 5))
            high = strtoull(argv[i] + 5, NULL, 0);
        else if (!strncmp(argv[i], "out=", 4))
            out = strdup(argv[i] + 4);
    }
    if (!low || !high || !out) {
        fprintf(stderr, "count: low=, high= and out= are needed\n");
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
