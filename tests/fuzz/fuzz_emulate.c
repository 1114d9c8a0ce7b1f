/* sources: hypervisor/pv/decode.c */
/*
 * The emulated writes to page tables beside the processor: each instruction that the emulation takes is executed by itself too, here in
 * user mode, from the same registers, flags and memory. Registers, defined flags and memory must be the same afterwards.
 * Input: 15 bytes of instruction, two that choose addresses, then the registers.
 */
#include <asm/prctl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../hypervisor/pv/pt_write.c"

#undef current

#define WINDOW 0x10000000UL /* the page table's page: low, for addresses of 32 bits as well */
#define SOURCE 0x10002000UL /* what MOVS reads */
#define CODE 0x10004800UL
#define REGS 16
#define RSP 4
#define FLAGS_GIVEN 0xcd5UL /* CF PF AF ZF SF DF OF */
#define FLAG_AF 0x10UL
#define FLAGS_OF_BITS 0x401UL /* CF, DF: what bit operations define or keep */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct domain dom = {.id = 1};
static struct vcpu vcpu = {.domain = &dom};
static struct percpu percpu = {.current_vcpu = &vcpu};
static struct frame frame;
static unsigned long fs_base;

/* ---- Around the emulation ---- */

struct percpu *this_cpu(void) { return &percpu; }
bool mfn_valid(mfn_t m) { return true; }
struct frame *frame_of(mfn_t m) { return &frame; }
void *mfn_to_virt(mfn_t m) { return (void *)WINDOW; }
void guest_log(enum log_level level, const char *fmt, ...) {}
uint64_t mmu_walk(const struct vcpu *v, unsigned long va, mfn_t *l1_mfn, unsigned *l1_slot)
{
    return WINDOW | PTE_PRESENT;
}

size_t copy_from_guest(void *to, const void *guest, size_t n)
{
    unsigned long from = (unsigned long)guest;

    if (from < WINDOW || from + n > CODE + PAGE_SIZE / 2)
        return n;
    memcpy(to, guest, n);
    return 0;
}

bool pv_fetch_insn(struct vcpu *v, const struct cpu_user_regs *regs, struct insn *insn, bool *long_mode)
{
    *long_mode = true;
    return insn_decode((const uint8_t *)regs->rip, INSN_MAX_LENGTH, true, insn) == DECODE_OK;
}

void pv_finish_insn(struct cpu_user_regs *regs, unsigned length, bool long_mode) { regs->rip += length; }

bool pv_segment_base(struct vcpu *v, enum insn_segment segment, bool long_mode, uint64_t *base)
{
    *base = segment == SEG_FS ? fs_base : 0;
    return true;
}

int mmu_write_entry_bytes(struct vcpu *v, mfn_t table, unsigned offset, unsigned bytes, uint64_t value, bool cmpxchg,
                          uint64_t old, uint64_t *seen)
{
    if (bytes > 8 || offset % 8 + bytes > 8 || offset >= PAGE_SIZE)
        return -EINVAL;
    *seen = 0;
    memcpy(seen, (void *)(WINDOW + offset), bytes);
    if (cmpxchg && memcmp(seen, &old, bytes) != 0)
        return -EAGAIN;
    memcpy((void *)(WINDOW + offset), &value, bytes);
    return 0;
}

bool mmu_write_l1_short(struct vcpu *v, unsigned long va, uint64_t value, uint64_t *seen)
{
    *seen = *(uint64_t *)va;
    *(uint64_t *)va = value;
    return true;
}

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void same(const char *what, unsigned n, uint64_t emulated, uint64_t native)
{
    if (emulated == native)
        return;
    fprintf(stderr, "%s %u: 0x%lx emulated, 0x%lx by the processor\n", what, n, emulated, native);
    abort();
}

/* ---- The processor ---- */

struct native {
    uint64_t r[REGS], flags;
};
struct native native_in, native_out;
uint64_t native_sp, native_code = CODE;
void native_run(void);
extern char native_back[];

__asm__(".text\n"
        "native_run:\n"
        "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "mov %rsp, native_sp(%rip)\n"
        "pushq native_in+128(%rip); popfq\n"
        "mov native_in+0(%rip), %rax; mov native_in+8(%rip), %rcx; mov native_in+16(%rip), %rdx\n"
        "mov native_in+24(%rip), %rbx; mov native_in+32(%rip), %rsp; mov native_in+40(%rip), %rbp\n"
        "mov native_in+48(%rip), %rsi; mov native_in+56(%rip), %rdi; mov native_in+64(%rip), %r8\n"
        "mov native_in+72(%rip), %r9; mov native_in+80(%rip), %r10; mov native_in+88(%rip), %r11\n"
        "mov native_in+96(%rip), %r12; mov native_in+104(%rip), %r13; mov native_in+112(%rip), %r14\n"
        "mov native_in+120(%rip), %r15\n"
        "jmp *native_code(%rip)\n"
        "native_back:\n"
        "mov %rax, native_out+0(%rip); mov %rcx, native_out+8(%rip); mov %rdx, native_out+16(%rip)\n"
        "mov %rbx, native_out+24(%rip); mov %rsp, native_out+32(%rip); mov %rbp, native_out+40(%rip)\n"
        "mov %rsi, native_out+48(%rip); mov %rdi, native_out+56(%rip); mov %r8, native_out+64(%rip)\n"
        "mov %r9, native_out+72(%rip); mov %r10, native_out+80(%rip); mov %r11, native_out+88(%rip)\n"
        "mov %r12, native_out+96(%rip); mov %r13, native_out+104(%rip); mov %r14, native_out+112(%rip)\n"
        "mov %r15, native_out+120(%rip)\n"
        "mov native_sp(%rip), %rsp\n"
        "pushfq; popq native_out+128(%rip); cld\n"
        "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
        "ret\n");

static sigjmp_buf faulted;
static volatile bool running;
static struct sigaction former[32];

static void on_signal(int number, siginfo_t *info, void *context)
{
    if (running)
        siglongjmp(faulted, 1);
    if (former[number].sa_flags & SA_SIGINFO)
        former[number].sa_sigaction(number, info, context);
    else
        abort();
}

/* False: it faulted. */
static bool run_natively(unsigned length)
{
    uint8_t *p = (uint8_t *)CODE + length;
    const void *back = native_back;

    memcpy(p, "\xff\x25\0\0\0\0", 6); /* jmp *0(%rip) */
    memcpy(p + 6, &back, sizeof(back));
    if (sigsetjmp(faulted, 1)) {
        running = false;
        return false;
    }
    running = true;
    native_run();
    running = false;
    return true;
}

/* ---- A case ---- */

static void begin(void)
{
    static const int numbers[] = {SIGSEGV, SIGILL, SIGBUS, SIGTRAP, SIGFPE};
    static char stack[65536];
    stack_t alternative = {.ss_sp = stack, .ss_size = sizeof(stack)};

    for (unsigned i = 0; i < 3; i++)
        require(mmap((void *)(WINDOW + i * 0x2000), PAGE_SIZE, PROT_READ | PROT_WRITE | (i == 2 ? PROT_EXEC : 0),
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == (void *)(WINDOW + i * 0x2000));
    require(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs_base) == 0);
    require(sigaltstack(&alternative, NULL) == 0);
    for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++) {
        struct sigaction a = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};

        require(sigaction(numbers[i], &a, &former[numbers[i]]) == 0);
    }
    frame.control = (uint64_t)dom.id << 32 | 1;
    frame.type = TYPE_MAKE(FRAME_L1) | TYPE_VALIDATED | 1;
}

/* Changes the registers, or a displacement, so that the instruction writes to 'wanted', more or less. */
static void aim(struct insn *i, struct cpu_user_regs *regs, unsigned long wanted)
{
    unsigned long to;
    int32_t displacement = (int32_t)i->displacement, delta;

    if (i->op == OP_STOS || i->op == OP_MOVS) {
        regs->rdi = wanted;
        regs->rsi = SOURCE + 1024 + (regs->rsi & 511) - (i->segment == SEG_FS ? fs_base : 0);
        if (i->repeat)
            regs->rcx = (i->address_size == 4 ? regs->rcx & ~0xffffffffUL : 0) + 1 + (regs->rcx & 3);
        return;
    }
    if (!destination(&vcpu, i, regs, &to))
        return;
    if (i->base < REGS) {
        *insn_reg(regs, i->base) += wanted - to;
    } else if (i->index < REGS) {
        *insn_reg(regs, i->index) += (wanted - to) >> i->scale;
    } else {
        delta = (int32_t)(wanted - to);
        for (unsigned at = i->length; at-- > 1;)
            if (at + 4U <= i->length && memcmp((void *)(CODE + at), &displacement, 4) == 0) {
                displacement += delta;
                memcpy((void *)(CODE + at), &displacement, 4);
                break;
            }
    }
}

static uint64_t flags_defined(unsigned op)
{
    if (op == OP_AND || op == OP_OR || op == OP_XOR)
        return FLAGS_GIVEN & ~FLAG_AF;
    return op >= OP_BTS && op <= OP_BTC ? FLAGS_OF_BITS : FLAGS_GIVEN;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool begun;
    static uint8_t before[PAGE_SIZE], emulated[PAGE_SIZE];
    struct cpu_user_regs regs = {.rip = CODE, .cs = 0xe033};
    struct insn i;
    unsigned long to;
    uint64_t r[REGS + 1] = {0};

    if (!begun)
        begin();
    begun = true;
    if (size < 17)
        return 0;
    memset((void *)CODE, 0xcc, 64);
    memcpy((void *)CODE, data, INSN_MAX_LENGTH);
    memcpy(r, data + 17, min(size - 17, sizeof(r)));
    for (unsigned n = 0; n < REGS; n++)
        *insn_reg(&regs, n) = r[n] * (n + 1);
    regs.rflags = (r[REGS] & FLAGS_GIVEN) | 0x202;
    for (unsigned n = 0; n < PAGE_SIZE; n++)
        before[n] = ((uint8_t *)SOURCE)[n] = (uint8_t)(n * 7 + (n >> 8) + data[16]);
    if (insn_decode((void *)CODE, INSN_MAX_LENGTH, true, &i) != DECODE_OK || i.op < OP_ADD)
        return 0;
    aim(&i, &regs, WINDOW + 1024 + (unsigned)data[15] * 8 + (data[16] & 7));
    if (insn_decode((void *)CODE, INSN_MAX_LENGTH, true, &i) != DECODE_OK || !destination(&vcpu, &i, &regs, &to) ||
        to < WINDOW + 64 || to > WINDOW + PAGE_SIZE - 64)
        return 0;
    if (i.op == OP_CMPXCHG && data[16] & 8) /* what is there is what is expected */
        memcpy(before + (to - WINDOW), &regs.rax, i.size);

    for (unsigned n = 0; n < REGS; n++)
        native_in.r[n] = *insn_reg(&regs, n);
    native_in.flags = regs.rflags;
    memcpy((void *)WINDOW, before, PAGE_SIZE);
    for (unsigned n = 0; n < 8 && regs.rip == CODE; n++) {
        if (!destination(&vcpu, &i, &regs, &to) || !mmu_emulate_pt_write(&regs, to))
            return 0; /* the guest gets its fault */
    }
    memcpy(emulated, (void *)WINDOW, PAGE_SIZE);
    memcpy((void *)WINDOW, before, PAGE_SIZE);
    require(run_natively(i.length));

    same("rip", 0, regs.rip, CODE + i.length);
    for (unsigned n = 0; n < REGS; n++)
        same("register", n, *insn_reg(&regs, n), native_out.r[n]);
    same("flags after operation", i.op, regs.rflags & flags_defined(i.op), native_out.flags & flags_defined(i.op));
    for (unsigned n = 0; n < PAGE_SIZE; n++)
        same("byte", n, emulated[n], ((uint8_t *)WINDOW)[n]);
    return 0;
}
