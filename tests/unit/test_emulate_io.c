/* sources: hypervisor/pv/emulate_io.c hypervisor/pv/decode.c */
/* Ports of a domain that has none: the short way does what the long one does, and leaves alone what it does not know. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "domain/guest_access.h"
#include "lib/log.h"
#include "memory/map.h"
#include "platform/pci.h"
#include "pv/emulate.h"
#include "pv/mmu.h"
#include "pv/traps.h"

#define CODE 0x1000UL

static struct domain dom;
static struct vcpu vcpu;
static uint8_t code[16];
static bool iopl_allows, code_readable;

size_t copy_from_guest(void *to, const void *guest, size_t n)
{
    if (!code_readable)
        return n;
    memcpy(to, code, n);
    return 0;
}
size_t copy_to_guest(void *guest, const void *from, size_t n) { return n; }
bool pv_iopl_allows(const struct vcpu *v) { return iopl_allows; }
void pv_finish_insn(struct cpu_user_regs *regs, unsigned length, bool long_mode) { regs->rip += length; }
bool pv_segment_base(struct vcpu *v, enum insn_segment segment, bool long_mode, uint64_t *base) { return false; }
void pv_inject_page_fault(struct cpu_user_regs *regs, unsigned long address, uint32_t error) { fail(); }
bool mmu_get_page_of_va(struct vcpu *v, unsigned long va, bool writable, mfn_t *m) { return false; }
void *mfn_to_virt(mfn_t m) { return NULL; }
void frame_put(mfn_t m) {}
uint32_t pci_guest_read(uint32_t address, unsigned offset, unsigned bytes) { return 0; }
void pci_guest_write(uint32_t address, unsigned offset, unsigned bytes, uint32_t value) {}

static int setup(void **state)
{
    memset(&dom, 0, sizeof(dom));
    memset(&vcpu, 0, sizeof(vcpu));
    vcpu.domain = &dom;
    vcpu.pv.kernel_mode = iopl_allows = code_readable = true;
    return 0;
}

static struct cpu_user_regs registers(void)
{
    return (struct cpu_user_regs){.rip = CODE, .rax = 0x1122334455667788, .rdx = 0xabcd0cfc, .cs = 0xe033};
}

static void test_same_as_long_way(void **state)
{
    unsigned taken = 0;

    /* Each pair of first bytes, and what may stand behind a prefix */
    for (unsigned n = 0; n < 0x10000; n++) {
        struct cpu_user_regs quick = registers(), slow = registers();
        struct insn i;

        memcpy(code, (uint8_t[16]){(uint8_t)(n >> 8), (uint8_t)n, 0xed, 0x90}, sizeof(code));
        if (!pv_emulate_absent_port(&vcpu, &quick)) {
            assert_memory_equal(&quick, &slow, sizeof(quick));
            continue;
        }
        taken++;
        assert_int_equal(insn_decode(code, INSN_MAX_LENGTH, true, &i), DECODE_OK);
        assert_true(i.op == OP_IN || i.op == OP_OUT);
        assert_true(pv_emulate_port_insn(&vcpu, &slow, &i, true));
        assert_memory_equal(&quick, &slow, sizeof(quick));
    }
    assert_int_equal(taken, 8 * 256 + 8); /* eight opcodes and anything behind, and each with the prefix */
}

/* Whoever must not, or is not a case for the short way, goes the long one with all its checks. */
static void refused(void)
{
    struct cpu_user_regs regs = registers(), before = registers();

    code[0] = 0xec;
    assert_false(pv_emulate_absent_port(&vcpu, &regs));
    assert_memory_equal(&regs, &before, sizeof(regs));
}

static void test_refused(void **state)
{
    unsigned long ports[1];
    struct cpu_user_regs regs = registers();

    iopl_allows = false;
    refused();
    iopl_allows = true;
    code_readable = false;
    refused();
    code_readable = true;
    dom.is_hardware = true;
    refused();
    dom.is_hardware = false;
    dom.pv.io_ports = ports;
    refused();
    dom.pv.io_ports = NULL;
    vcpu.pv.kernel_mode = false;
    code[0] = 0xec;
    regs.cs = 0xe023; /* 32-bit code of user mode: its rip is relative to a base */
    assert_false(pv_emulate_absent_port(&vcpu, &regs));
    regs.cs = 0xe033;
    assert_true(pv_emulate_absent_port(&vcpu, &regs));
    regs.rip = CODE + PAGE_SIZE - 15; /* what is read would reach into the next page */
    assert_false(pv_emulate_absent_port(&vcpu, &regs));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_same_as_long_way, setup),
        cmocka_unit_test_setup(test_refused, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
