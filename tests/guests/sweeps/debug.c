/*
 * The debugger's exceptions where Croft is entered: single steps, data breakpoints behind MOV SS, and breakpoints on the entry
 * instructions. Croft must never be stopped by one itself (advisories XSA-260, XSA-265); the guest sees its own.
 */
#include "sweeps.h"

#define VERSION_CALL "movl $17, %%eax; movl $7, %%edi; xorl %%esi, %%esi\n"

static volatile unsigned steps;
static volatile uint16_t watched_ss = FLAT_KERNEL_SS;

/* Goes on with the trap flag as it is, and past breakpoints. */
static bool step(struct regs *r)
{
    steps++;
    set_debugreg(6, 0);
    r->rflags |= 1UL << 16; /* RF */
    return true;
}

static bool step_no_further(struct regs *r)
{
    steps++;
    set_debugreg(7, 0);
    r->rflags &= ~RFLAGS_TF;
    return true;
}

/* A hypercall with the trap flag set: by SYSCALL, 20 times */
static long step_over_calls_here(long *a)
{
    long wrong = 0;

    (void)a;
    trap_hooks[1] = step;
    steps = 0;
    for (unsigned i = 0; i < 20; i++) {
        long result;

        asm volatile("pushfq; orl $0x100, (%%rsp); popfq\n" VERSION_CALL "syscall; nop\n"
                     "pushfq; andl $~0x100, (%%rsp); popfq"
                     : "=a"(result)
                     :
                     : "rdi", "rsi", "rcx", "r11", "memory", "cc");
        wrong += result != 4096;
    }
    trap_hooks[1] = NULL;
    check_quiet(steps >= 20 * 5, "only %u steps", steps);
    return wrong;
}

/* DR7: breakpoint 0, four bytes or an instruction */
#define WATCH_ACCESS 0x000f0001UL
#define WATCH_EXECUTION 0x00000001UL

extern const char debug_syscall_at[];

static long behind_mov_ss_here(long *a)
{
    long wrong = 0, result;

    (void)a;
    trap_hooks[1] = step_no_further;
    steps = 0;
    for (unsigned i = 0; i < 20; i++) {
        set_debugreg(0, U(&watched_ss) & ~3UL);
        if (set_debugreg(7, WATCH_ACCESS) != 0)
            return -1;
        asm volatile(VERSION_CALL "movw %[word], %%ss; syscall; nop"
                     : "=a"(result)
                     : [word] "m"(watched_ss)
                     : "rdi", "rsi", "rcx", "r11", "memory", "cc");
        wrong += result != 4096;
        /* The same with the trap flag, and on the instruction itself */
        set_debugreg(7, WATCH_ACCESS);
        asm volatile("pushfq; orl $0x100, (%%rsp)\n" VERSION_CALL "popfq; movw %[word], %%ss; syscall; nop"
                     : "=a"(result)
                     : [word] "m"(watched_ss)
                     : "rdi", "rsi", "rcx", "r11", "memory", "cc");
        wrong += result != 4096;
        set_debugreg(0, U(debug_syscall_at));
        set_debugreg(7, WATCH_EXECUTION);
        asm volatile(VERSION_CALL "movw %[word], %%ss\n.globl debug_syscall_at\ndebug_syscall_at: syscall; nop"
                     : "=a"(result)
                     : [word] "m"(watched_ss)
                     : "rdi", "rsi", "rcx", "r11", "memory", "cc");
        wrong += result != 4096;
    }
    set_debugreg(7, 0);
    trap_hooks[1] = NULL;
    check_quiet(steps > 20, "only %u exceptions", steps);
    return wrong;
}

/* MOV SS, then an instruction that traps itself */
static void into_int3(void *p)
{
    (void)p;
    asm volatile("movw %[word], %%ss; int3" : : [word] "m"(watched_ss) : "memory");
}

static void into_int80(void *p)
{
    (void)p;
    asm volatile("movw %[word], %%ss; int $0x80" : : [word] "m"(watched_ss) : "memory");
}

static void into_ud2(void *p)
{
    (void)p;
    asm volatile("movw %[word], %%ss; ud2" : : [word] "m"(watched_ss) : "memory");
}

static void into_icebp(void *p)
{
    (void)p;
    asm volatile("movw %[word], %%ss; .byte 0xf1" : : [word] "m"(watched_ss) : "memory");
}

static void into_sysenter(void *p)
{
    (void)p;
    asm volatile("movw %[word], %%ss; sysenter; ud2" : : [word] "m"(watched_ss) : "memory");
}

static long into_traps_here(long *a)
{
    static void (*const ways[])(void *) = {into_int3, into_int80, into_ud2, into_icebp, into_sysenter};
    long wrong = 0;

    (void)a;
    for (unsigned i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        struct regs r;

        set_debugreg(0, U(&watched_ss) & ~3UL);
        set_debugreg(7, WATCH_ACCESS);
        r = trap_of(ways[i], NULL);
        set_debugreg(7, 0);
        wrong += r.vector == NO_TRAP || r.cs != (FLAT_KERNEL_CS & ~3U);
        check_quiet(xen_version(XENVER_pagesize, NULL) == 4096, "no hypercalls after way %u", i);
    }
    return wrong;
}

void debugger(struct child *c, const char *who)
{
    check(child_call(c, step_over_calls_here) == 0, "%s: single steps over hypercalls", who);
    check(child_call(c, behind_mov_ss_here) == 0, "%s: breakpoints behind MOV SS, then SYSCALL", who);
    check(child_call(c, into_traps_here) == 0, "%s: the same, then INT and others", who);
}

/* ---- Exceptions without end ---- */

/* A breakpoint on the first instruction of the handler: each exception makes the next one, until the stack is used up. */
static long on_the_handler_here(long *a)
{
    (void)a;
    set_debugreg(0, U(kit_stubs + 16));
    set_debugreg(7, WATCH_EXECUTION);
    asm volatile(".byte 0xf1");
    return 0;
}

/* The handler of page faults is where nothing is mapped. */
static long no_handler_page_here(long *a)
{
    (void)a;
    set_trap(14, 0, (void *)VA_UNMAPPED);
    return *(volatile long *)VA_UNMAPPED;
}

/* Alignment checks in a handler that makes one itself; none at all comes as long as Croft leaves CR0.AM clear. */
static void misalign(void)
{
    for (;;)
        asm volatile("pushfq; orl $0x40000, (%%rsp); popfq; movl 1(%%rsp), %%eax" : : : "rax", "memory", "cc");
}

static long alignment_here(long *a)
{
    (void)a;
    set_trap(17, 0, (void *)misalign);
    misalign();
    return 0;
}

static long steps_for_ever_here(long *a)
{
    trap_hooks[1] = step;
    asm volatile("pushfq; orl $0x100, (%%rsp); popfq" : : : "memory", "cc");
    for (;;)
        a[0]++;
    return 0;
}

void storms(void)
{
    static const struct {
        const char *name;
        child_function_t *f;
        bool ends; /* the guest is crashed for it */
    } all[] = {{"a breakpoint on the handler of breakpoints", on_the_handler_here, true},
               {"page faults whose handler is not mapped", no_handler_page_here, true},
               {"alignment checks whose handler makes them", alignment_here, false},
               {"single steps without end", steps_for_ever_here, false}};

    for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        static struct child c;
        uint64_t limit = time_now() + 20000000000UL;
        unsigned woke = 0;
        long flags;

        child_start(&c);
        child_begin(&c, all[i].f, (const long[CHILD_ARGS]){0});
        do {
            struct sched_poll nap = {.timeout = time_now() + 1000000};

            sched_op(SCHEDOP_poll, &nap);
            woke++;
            flags = domain_flags(c.domid);
        } while ((flags & XEN_DOMINF_shutdown) == 0 && (all[i].ends || woke < 200) && time_now() < limit);
        check(flags >= 0 && ((flags & XEN_DOMINF_shutdown) != 0) == all[i].ends && (all[i].ends || woke == 200),
              "%s: flags %lx, domain 0 woke %u times", all[i].name, flags, woke);
        child_end(&c);
    }
}
