/* Random instructions, in the guest's kernel and user mode; writes into page tables that Croft has to emulate. */
#include "hostile.h"

uint8_t *code_pages[RANDOM_VCPUS];

bool code_avoids(const uint8_t *bytes)
{
    (void)bytes;
    return false;
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

enum random_kind code_run(void)
{
    unsigned v = vcpu_id() % RANDOM_VCPUS;
    struct access x = {.value = any_entry(), .how = (unsigned)below(20)};
    static struct iret_context frames[RANDOM_VCPUS];

    switch (below(24)) {
    case 0:
    case 1:
        x.at = (uint64_t *)any_address();
        code_trapped[v] = trapped(access, &x, NULL);
        return KIND_ACCESSES;
    case 2:
        code_make(code_pages[v]);
        trapped(enter, code_pages[v], NULL);
        return KIND_CODE;
    case 3:
        if (mmuext(MMUEXT_NEW_USER_BASEPTR, user_root, 0) != 0 && !one_in(20)) /* would end it */
            return KIND_CODE;
        code_make(code_pages[v]);
        iret_frame(&frames[v], code_pages[v], CODE_VA + v * PAGE_SIZE);
        trapped(enter_by_iret, &frames[v], NULL);
        return KIND_CODE;
    default:
        x.at = tables[below(TABLES)] + below(SLOTS);
        if (one_in(10))
            x.at = (uint64_t *)(U(x.at) + below(8));
        code_trapped[v] = trapped(access, &x, NULL);
        return KIND_TABLE_WRITES;
    }
}
