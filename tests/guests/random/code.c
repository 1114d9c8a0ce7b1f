/* Random instructions, in the guest's kernel and user mode; writes into page tables that Croft has to emulate. */
#include "hostile.h"

uint8_t *code_pages[RANDOM_VCPUS];
static const struct {
    uint8_t length, bytes[11];
} instructions[] = {
    {2, {0x0f, 0x05}}, /* syscall, of any number; sysenter, sysret, sysexit */
    {2, {0x0f, 0x05}},
    {2, {0x0f, 0x34}},
    {3, {0x48, 0x0f, 0x07}},
    {3, {0x48, 0x0f, 0x35}},
    {2, {0xcd, 0x80}}, /* int, int3, int1, into, hlt, cli, sti */
    {2, {0xcd, 0x82}},
    {2, {0xcd, 0x02}},
    {2, {0xcd, 0x0e}},
    {1, {0xcc}},
    {1, {0xf1}},
    {1, {0xce}},
    {1, {0xf4}},
    {1, {0xfa}},
    {1, {0xfb}},
    {2, {0x48, 0xcf}}, /* iretq, lretq, popfq, pushfq */
    {2, {0x48, 0xcb}},
    {1, {0x9d}},
    {1, {0x9c}},
    {8, {0x48, 0x81, 0x0c, 0x24, 0x00, 0x01, 0x00, 0x00}}, /* orq $0x100, (%rsp): popfq then single-steps */
    {1, {0xec}},                                           /* in and out, string forms */
    {1, {0xed}},
    {1, {0xee}},
    {1, {0xef}},
    {2, {0xe4, 0x60}},
    {2, {0xe7, 0xcf}},
    {2, {0xf3, 0x6c}},
    {2, {0xf3, 0x6f}},
    {3, {0x66, 0xf3, 0x6d}},
    {2, {0x0f, 0x30}}, /* wrmsr, rdmsr, rdtsc, rdpmc, rdtscp, cpuid, the same by Xen's prefix */
    {2, {0x0f, 0x32}},
    {2, {0x0f, 0x31}},
    {2, {0x0f, 0x33}},
    {3, {0x0f, 0x01, 0xf9}},
    {2, {0x0f, 0xa2}},
    {7, {0x0f, 0x0b, 'x', 'e', 'n', 0x0f, 0xa2}},
    {3, {0x0f, 0x20, 0xd0}}, /* mov from and to cr2, cr3, cr4, cr0, cr8; clts; lmsw, smsw */
    {3, {0x0f, 0x22, 0xd0}},
    {3, {0x0f, 0x20, 0xd8}},
    {3, {0x0f, 0x22, 0xd8}},
    {3, {0x0f, 0x20, 0xe0}},
    {3, {0x0f, 0x22, 0xe0}},
    {3, {0x0f, 0x20, 0xc0}},
    {3, {0x0f, 0x22, 0xc0}},
    {4, {0x44, 0x0f, 0x22, 0xc0}},
    {2, {0x0f, 0x06}},
    {3, {0x0f, 0x01, 0xf0}},
    {3, {0x0f, 0x01, 0xe0}},
    {3, {0x0f, 0x21, 0xf8}}, /* mov from and to dr7, dr0, dr6 */
    {3, {0x0f, 0x23, 0xf8}},
    {3, {0x0f, 0x23, 0xc0}},
    {3, {0x0f, 0x23, 0xf0}},
    {3, {0x0f, 0x01, 0x11}}, /* lgdt, lidt, sgdt, lldt, ltr, str, invlpg */
    {3, {0x0f, 0x01, 0x19}},
    {3, {0x0f, 0x01, 0x01}},
    {3, {0x0f, 0x00, 0xd0}},
    {3, {0x0f, 0x00, 0xd8}},
    {3, {0x0f, 0x00, 0xc8}},
    {3, {0x0f, 0x01, 0x38}},
    {2, {0x0f, 0x09}}, /* wbinvd, invd, swapgs, xsetbv, xgetbv, clac, stac, monitor, mwait, vmmcall, vmcall */
    {2, {0x0f, 0x08}},
    {3, {0x0f, 0x01, 0xf8}},
    {3, {0x0f, 0x01, 0xd1}},
    {3, {0x0f, 0x01, 0xd0}},
    {3, {0x0f, 0x01, 0xca}},
    {3, {0x0f, 0x01, 0xcb}},
    {3, {0x0f, 0x01, 0xc8}},
    {3, {0x0f, 0x01, 0xc9}},
    {3, {0x0f, 0x01, 0xd9}},
    {3, {0x0f, 0x01, 0xc1}},
    {2, {0x8e, 0xd0}}, /* mov to ss, ds, es, fs, gs; bases */
    {2, {0x8e, 0xd8}},
    {2, {0x8e, 0xc0}},
    {2, {0x8e, 0xe0}},
    {2, {0x8e, 0xe8}},
    {5, {0xf3, 0x48, 0x0f, 0xae, 0xd0}},
    {5, {0xf3, 0x48, 0x0f, 0xae, 0xd8}},
    {5, {0xf3, 0x48, 0x0f, 0xae, 0xc8}},
    {3, {0x0f, 0xae, 0x2e}}, /* xrstor, fxrstor, fxsave, xsave, ldmxcsr, from anywhere */
    {3, {0x0f, 0xae, 0x0e}},
    {3, {0x0f, 0xae, 0x06}},
    {3, {0x0f, 0xae, 0x26}},
    {3, {0x0f, 0xae, 0x16}},
    {2, {0xf3, 0xa4}}, /* rep movsb, stosq; mov to and from (%rdi) */
    {3, {0xf3, 0x48, 0xab}},
    {3, {0x48, 0x89, 0x07}},
    {3, {0x48, 0x8b, 0x07}},
    {2, {0xff, 0xe7}}, /* jmp *%rdi; ljmp *(%rdi); mov %rdi, %rsp */
    {3, {0x48, 0xff, 0x2f}},
    {3, {0x48, 0x89, 0xfc}},
    {2, {0x0f, 0xff}}, /* ud0; locked where it must not be; a long prefix */
    {4, {0xf0, 0x0f, 0xa2, 0x90}},
    {11, {0x66, 0x66, 0x66, 0x66, 0x66, 0x2e, 0x2e, 0xf3, 0x48, 0x0f, 0x30}},
};

static unsigned put_instruction(uint8_t *to)
{
    unsigned which = (unsigned)below(sizeof(instructions) / sizeof(instructions[0]));

    if (one_in(30)) {
        *(uint64_t *)(void *)to = random();
        return 8;
    }
    memcpy(to, instructions[which].bytes, instructions[which].length);
    return instructions[which].length;
}

static uint64_t any_msr(void)
{
    return PICK(0x10, 0x1b, 0x1d9, 0x277, 0x2ff, 0x174, 0x176, 0xc0000080, 0xc0000081, 0xc0000082, 0xc0000084,
                0xc0000100, 0xc0000101, 0xc0000102, 0xc0000103, 0xc0010015, 0xc0010117, 0x40000000, 0x800 + below(64),
                below(0x2000), 0xc0000000 + below(0x200));
}

static void code_make(uint8_t *to)
{
    unsigned n = 0;

    for (unsigned reg = 0; reg < 8; reg++) {
        uint64_t value = any_value();

        if (reg == 4 || reg == 5 || one_in(2)) /* not rsp and rbp */
            continue;
        if (reg == 0 && one_in(2))
            value = below(64);
        if (reg == 1 && one_in(2))
            value = any_msr();
        to[n++] = 0x48;
        to[n++] = (uint8_t)(0xb8 + reg);
        memcpy(to + n, &value, 8);
        n += 8;
    }
    for (unsigned i = (unsigned)below(5); i < 5; i++)
        n += put_instruction(to + n);
    to[n] = 0x0f;
    to[n + 1] = 0x0b;
}

static void enter(void *code) { ((void (*)(void))code)(); }

static void enter_by_iret(void *frame)
{
    uint64_t stack[64];
    struct iret_context *c = frame;

    if (c->rsp == 0)
        c->rsp = U(&stack[60]) & ~15UL;
    kit_iret(c);
}

static void iret_frame(struct iret_context *c, uint8_t *code, unsigned long user_address)
{
    bool user = one_in(2);

    *c = (struct iret_context){.rax = any_value(),
                               .rcx = any_value(),
                               .r11 = any_value(),
                               .rip = user ? user_address : U(code),
                               .cs = user ? FLAT_USER_CS : FLAT_KERNEL_CS & ~3,
                               .ss = FLAT_KERNEL_SS,
                               .rflags = 0x202,
                               .rsp = user ? USER_DATA + PAGE_SIZE : 0};
    if (one_in(3))
        c->flags = PICK(VGCF_in_syscall, any_number());
    if (one_in(6))
        c->rip = any_address();
    if (one_in(6))
        c->cs = PICK(FLAT_USER_CS32, 0xe008, 0xe00b, 0, 3, any_number());
    if (one_in(6))
        c->ss = PICK(0, 0xe010, 0xe013, FLAT_USER_CS, any_number());
    if (one_in(4))
        c->rflags = one_in(2) ? 0x202 ^ 1UL << below(22) : any_number();
    if (one_in(24))
        c->rsp = any_address();
}

struct access {
    uint64_t *at, value;
    unsigned how;
};

static void access(void *argument)
{
    struct access *x = argument;
    uint64_t value = x->value;

    switch (x->how) {
    case 0:
        asm volatile("movl %k1, (%0)" : : "r"(x->at), "r"(value) : "memory");
        break;
    case 1:
        asm volatile("movb %b1, (%0)" : : "r"(x->at), "r"(value) : "memory");
        break;
    case 2:
        asm volatile("movw %w1, (%0)" : : "r"(x->at), "r"(value) : "memory");
        break;
    case 3:
        asm volatile("xchgq %1, (%0)" : : "r"(x->at), "r"(value) : "memory");
        break;
    case 4:
        asm volatile("movq (%0), %%rax; lock cmpxchgq %1, (%0)" : : "r"(x->at), "r"(value) : "memory", "rax", "cc");
        break;
    case 5:
        asm volatile("lock orq %1, (%0)" : : "r"(x->at), "r"(value & 0xfff) : "memory", "cc");
        break;
    case 6:
        asm volatile("lock btrq %1, (%0)" : : "r"(x->at), "r"(value % 64) : "memory", "cc");
        break;
    case 7:
        asm volatile("lock xaddq %1, (%0)" : : "r"(x->at), "r"(value) : "memory", "cc");
        break;
    case 8:
        asm volatile("movq %1, %%rax; stosq" : "+D"(x->at) : "r"(value) : "memory", "rax");
        break;
    case 9:
        asm volatile("movups %%xmm0, (%0)" : : "r"(x->at) : "memory");
        break;
    case 10:
        value = *(volatile uint64_t *)x->at;
        break;
    default:
        *(volatile uint64_t *)x->at = value;
    }
}

unsigned code_run(void)
{
    unsigned v = vcpu_id() % RANDOM_VCPUS;
    struct access x = {.value = any_entry(), .how = (unsigned)below(20)};
    static struct iret_context frames[RANDOM_VCPUS];

    switch (below(24)) {
    case 0:
    case 1:
        x.at = (uint64_t *)any_address();
        code_trapped[v] = trapped(access, &x, NULL);
        return COUNT_ACCESSES;
    case 2:
        code_make(code_pages[v]);
        trapped(enter, code_pages[v], NULL);
        return COUNT_CODE;
    case 3:
        if (mmuext(MMUEXT_NEW_USER_BASEPTR, user_root, 0) != 0 && !one_in(20)) /* would end it */
            return COUNT_CODE;
        code_make(code_pages[v]);
        iret_frame(&frames[v], code_pages[v], CODE_VA + v * PAGE_SIZE);
        trapped(enter_by_iret, &frames[v], NULL);
        return COUNT_CODE;
    default:
        x.at = tables[below(TABLES)] + below(SLOTS);
        if (one_in(10))
            x.at = (uint64_t *)(U(x.at) + below(8));
        code_trapped[v] = trapped(access, &x, NULL);
        return COUNT_TABLE_WRITES;
    }
}
