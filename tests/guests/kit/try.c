/* Where vcpus have their stacks, and functions that a trap may end. */
#include "common.h"

uint8_t kit_stacks[KIT_MAX_VCPUS * KIT_STACK_SIZE] __attribute__((aligned(KIT_STACK_SIZE)));

/* What a trap without a hook does, for each vcpu: resume_sp 0 is panic. */
static struct {
    uint64_t resume_sp;
    struct regs regs;
} catches[KIT_MAX_VCPUS];

long kit_try(void (*f)(void *), void *argument, uint64_t *resume_sp); /* try.S */
extern char kit_try_resume[];

unsigned vcpu_id(void)
{
    uint64_t sp;

    asm("movq %%rsp, %0" : "=r"(sp));
    sp -= (uint64_t)kit_stacks;
    return sp < sizeof(kit_stacks) ? (unsigned)(sp / KIT_STACK_SIZE) : 0;
}

bool trapped(void (*f)(void *), void *argument, struct regs *r)
{
    unsigned v = vcpu_id();
    uint64_t outer = catches[v].resume_sp;
    bool result = kit_try(f, argument, &catches[v].resume_sp) != 0;

    catches[v].resume_sp = outer;
    if (result && r != NULL)
        *r = catches[v].regs;
    return result;
}

struct regs trap_of(void (*f)(void *), void *argument)
{
    struct regs r = {.vector = NO_TRAP};

    trapped(f, argument, &r);
    return r;
}

static void registers_print(const struct regs *r, uint64_t cr2)
{
    printf("vcpu %u vector %lu error %lx rip %x:%lx rflags %lx rsp %lx:%lx mask %x cr2 %lx\n", vcpu_id(), r->vector,
           r->error, r->cs, r->rip, r->rflags, r->ss, r->rsp, r->saved_mask, cr2);
    printf("rax %lx rbx %lx rcx %lx rdx %lx rsi %lx rdi %lx rbp %lx r8 %lx r9 %lx r10 %lx r11 %lx r12 %lx\n", r->rax,
           r->rbx, r->rcx, r->rdx, r->rsi, r->rdi, r->rbp, r->r8, r->r9, r->r10, r->r11, r->r12);
}

void trap_catch(struct regs *r, uint32_t cs, uint64_t ss, uint64_t cr2)
{
    unsigned v = vcpu_id();

    if (catches[v].resume_sp == 0) {
        registers_print(r, cr2);
        panic("unexpected trap %lu at %lx", r->vector, r->rip);
    }
    catches[v].regs = *r;
    r->rip = (uint64_t)kit_try_resume;
    r->cs = cs;
    r->ss = ss;
    r->rsp = catches[v].resume_sp;
    r->rflags = (r->rflags & RFLAGS_IF) | 2;
    catches[v].resume_sp = 0;
}

void trap_forget(void) { memset(catches, 0, sizeof(catches)); }
