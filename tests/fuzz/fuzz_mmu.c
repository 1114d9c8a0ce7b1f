/* sources: hypervisor/domain/domain_destroy.c hypervisor/memory/frame.c hypervisor/hvm/p2m.c hypervisor/hvm/pod.c hypervisor/memory/audit.c hypervisor/pv/mmu_types.c hypervisor/pv/mmuext.c hypervisor/pv/mmu.c */
/* The PV MMU: operations of two domains as the bytes tell, with the audit and the model of stale translations after each. */
#include <stdio.h>
#include <stdlib.h>

#define FAIL_TEST(text) (fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, text), abort())
static unsigned pick(unsigned n);
#include "fake_mmu_ops.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t *input, *input_end;
static uint32_t tail; /* the bytes are used up: a row of numbers, so that what is under way ends */

static unsigned pick(unsigned n)
{
    if (n <= 1)
        return 0;
    if (input < input_end)
        return *input++ % n;
    tail = tail * 1664525 + 1013904223;
    return (tail >> 8) % n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input = data;
    input_end = data + size;
    tail = 1;
    start_steps(pick(4));
    preempt_one_in = pick(5);
    destroy_one_in = pick(3) * 16;
    while (input < input_end) {
        one_step(pick(CPUS));
        check_all();
    }
    end_steps();
    return 0;
}
