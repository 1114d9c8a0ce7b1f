/* sources: hypervisor/pv/decode.c */
/* The instruction decoder on any bytes: it reads no further than told, its answer does not depend on what follows the
 * instruction, and what it reports is in range. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pv/decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cpu_user_regs regs = {.rip = 0x1000};
    struct insn insn, again;
    unsigned n;
    int long_mode;

    if (!size)
        return 0;
    long_mode = data[0] & 1;
    data++;
    n = (unsigned)(size - 1);
    if (insn_decode(data, n, long_mode, &insn) != DECODE_OK)
        return 0;

    require(insn.length > 0 && insn.length <= INSN_MAX_LENGTH && insn.length <= n);
    require(insn.size == 1 || insn.size == 2 || insn.size == 4 || insn.size == 8);
    require(insn.address_size == 2 || insn.address_size == 4 || insn.address_size == 8);
    require(insn.op <= OP_MOVS && insn.segment <= SEG_GS && insn.reg < 16 && insn.rm < 16 && insn.scale < 4);
    require(insn.base < 16 || insn.base == INSN_RIP || insn.base == INSN_NO_REG);
    require(insn.index < 16 || insn.index == INSN_NO_REG);
    require(long_mode || (!insn.rex && insn.size < 8 && insn.base != INSN_RIP));
    require(!insn.immediate || insn.op >= OP_ADD);

    /* Exactly its own bytes give the same; one less is not enough. */
    require(insn_decode(data, insn.length, long_mode, &again) == DECODE_OK);
    require(!memcmp(&insn, &again, sizeof(insn)));
    require(insn_decode(data, insn.length - 1U, long_mode, &again) == DECODE_SHORT);

    insn_address(&insn, &regs, 0);
    for (unsigned i = 0; i < 16; i++)
        insn_reg_write(&regs, i, insn.size, insn.rex, insn_reg_read(&regs, 15 - i, insn.size, insn.rex));
    uint64_t flags = 0;
    insn_alu(insn.op, insn.size, insn.imm, (uint64_t)insn.displacement, &flags);
    return 0;
}
