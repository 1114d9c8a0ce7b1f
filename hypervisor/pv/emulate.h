/* What the emulation files of pv/ share: fetching and ending an instruction, ports. For their use only, but for the
 * functions of control registers, which the context switch needs too. */
#ifndef PV_EMULATE_H
#define PV_EMULATE_H

#include "domain/domain.h"
#include "pv/decode.h"

/* Reads and decodes the instruction at the guest's rip. False if it cannot be read or is none that Croft knows. */
bool pv_fetch_insn(struct vcpu *v, const struct cpu_user_regs *regs, struct insn *insn, bool *long_mode);
/* The instruction was emulated: steps over it; delivers the single-step trap if the guest is stepping. */
void pv_finish_insn(struct cpu_user_regs *regs, unsigned length, bool long_mode);
/* Base of a segment register as the code that trapped uses it. In 64-bit code only FS and GS have one. False: unusable.
 * */
bool pv_segment_base(struct vcpu *v, enum insn_segment segment, bool long_mode, uint64_t *base);

/* IN, OUT, INS, OUTS of any form. False: not allowed, inject #GP. */
bool pv_emulate_port_insn(struct vcpu *v, struct cpu_user_regs *regs, const struct insn *insn, bool long_mode);
/* The short way for the simple forms of IN and OUT by a domain without any ports. False: nothing was done, go the long way. */
bool pv_emulate_absent_port(struct vcpu *v, struct cpu_user_regs *regs);
/* The domain's view of its ports, bytes 1, 2 or 4: what it does not have reads as ones and ignores writes. */
uint32_t pv_port_read(struct domain *d, uint16_t port, unsigned bytes);
void pv_port_write(struct domain *d, uint16_t port, unsigned bytes, uint32_t value);
/* CLI, STI and ports are allowed at v's virtual IOPL. */
bool pv_iopl_allows(const struct vcpu *v);

/* CR0 and CR4 as the guest sees them. */
uint64_t pv_read_cr0(const struct vcpu *v);
uint64_t pv_read_cr4(const struct vcpu *v);
/* Loads the bits of CR4 that guests own (time-stamp disable, debugging extensions) for v: at each switch to it. */
void pv_load_cr4(const struct vcpu *v);
/* CR0.TS as the guest wants it (fpu_taskswitch, CLTS): the real one follows, so that its next FPU use gives #NM. v is
 * current. */
void pv_set_ts(struct vcpu *v, bool set);

#endif
