/*
 * The end. One CPU reports: what happened, registers, call trace, who was running, and what the log holds that the
 * console was not shown. The others are stopped first, so that nobody writes in between and a broken state is not
 * used any further. Then the machine halts (noreboot) or reboots after five seconds.
 */
#include "cpu/panic.h"
#include "boot/options.h"
#include "cpu/instr.h"
#include "cpu/percpu.h"
#include "cpu/smp.h"
#include "domain/domain.h"
#include "lib/log.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "lib/symbols.h"
#include "platform/console.h"
#include "platform/power.h"
#include "platform/timers.h"
#include "sched/time.h"

#define REBOOT_SECONDS 5
#define TRACE_DEPTH 32
#define STACK_WORDS 24
#define SCAN_WORDS 512
#define LOG_LINES 20

/* The CPU that reports, plus one; 0: all is well */
static uint32_t owner;

/* A line of the report. In a panic straight to the console, whatever the log level; otherwise a line of the log. */
static void __printf(1, 2) report(const char *fmt, ...)
{
    static const char prefix[] = "(CROFT) ";
    char line[448];
    va_list ap;
    int n;

    memcpy(line, prefix, sizeof(prefix) - 1);
    va_start(ap, fmt);
    n = vsnprintf(line + sizeof(prefix) - 1, sizeof(line) - sizeof(prefix), fmt, ap);
    va_end(ap);
    if (!owner) {
        log_print(LOG_ERROR, "%s", line + sizeof(prefix) - 1);
        return;
    }
    n = min(n, (int)(sizeof(line) - sizeof(prefix) - 1)) + (int)sizeof(prefix) - 1;
    if (n == (int)sizeof(line) - 2)
        line[n - 1] = '\n'; /* it was cut off */
    console_write(line, n);
}

static void report_address(const char *what, unsigned long addr, unsigned long lookup)
{
    unsigned long offset;
    const char *name = symbol_lookup(lookup, &offset);

    if (name)
        report("%s[%016lx] %s+0x%lx\n", what, addr, name, offset + (addr - lookup));
    else
        report("%s[%016lx]\n", what, addr);
}

static unsigned long stack_block(void) { return (unsigned long)this_cpu() & ~(CPU_STACK_SIZE - 1); }

/* Frames by the chain of frame pointers, as long as it goes up within this CPU's stack block. rip 0: starts with the
 * frame. */
static void report_trace(unsigned long rip, unsigned long rbp)
{
    unsigned long block = stack_block(), end = block + PERCPU_OFFSET, low = block;

    report("call trace:\n");
    if (rip)
        report_address("   ", rip, rip);
    for (unsigned i = 0; i < TRACE_DEPTH && rbp >= low && rbp <= end - 16 && !(rbp & 7); i++) {
        const unsigned long *frame = (const unsigned long *)rbp;

        /* A return address may be the first byte of the next function: what called is before it. */
        if (frame[1])
            report_address("   ", frame[1], frame[1] - 1);
        low = rbp + 16;
        rbp = frame[0];
    }
}

/* For code without frame pointers (the decompression libraries, assembly): what looks like a return address. */
static void report_scan(unsigned long rsp)
{
    unsigned long end = stack_block() + PERCPU_OFFSET, offset;
    unsigned shown = 0;

    for (unsigned i = 0; i < SCAN_WORDS && rsp + 8 <= end && shown < TRACE_DEPTH; i++, rsp += 8) {
        unsigned long word = *(const unsigned long *)rsp;

        if (!symbol_lookup(word - 1, &offset))
            continue;
        report_address(" ? ", word, word - 1);
        shown++;
    }
}

static bool on_stack(unsigned long address)
{
    unsigned long block = stack_block();

    return address >= block && address < block + PERCPU_OFFSET && !(address & 7);
}

static void report_stack(unsigned long rsp)
{
    unsigned long end = stack_block() + CPU_STACK_SIZE;

    if (!on_stack(rsp))
        return;
    report("stack at %016lx:\n", rsp);
    for (unsigned i = 0; i < STACK_WORDS && rsp + 32 <= end; i += 4, rsp += 32) {
        const unsigned long *w = (const unsigned long *)rsp;

        report("   %016lx %016lx %016lx %016lx\n", w[0], w[1], w[2], w[3]);
    }
}

static void report_control_registers(void)
{
    report("cr0 %016lx  cr2 %016lx  cr3 %016lx  cr4 %016lx\n", read_cr0(), read_cr2(), read_cr3(), read_cr4());
}

static bool from_guest(const struct cpu_user_regs *r) { return r->cs & 3; }

static void report_regs(const struct cpu_user_regs *r)
{
    unsigned long offset;
    const char *name = from_guest(r) ? NULL : symbol_lookup(r->rip, &offset);

    report("rip %04x:%016lx%s%s  rflags %016lx\n", r->cs, (unsigned long)r->rip,
           name            ? " "
           : from_guest(r) ? " (guest)"
                           : "",
           name ? name : "", (unsigned long)r->rflags);
    report("rsp %04x:%016lx  vector %u  error code 0x%x\n", r->ss, (unsigned long)r->rsp, r->entry_vector,
           r->error_code);
    report("rax %016lx  rbx %016lx  rcx %016lx  rdx %016lx\n", (unsigned long)r->rax, (unsigned long)r->rbx,
           (unsigned long)r->rcx, (unsigned long)r->rdx);
    report("rsi %016lx  rdi %016lx  rbp %016lx  r8  %016lx\n", (unsigned long)r->rsi, (unsigned long)r->rdi,
           (unsigned long)r->rbp, (unsigned long)r->r8);
    report("r9  %016lx  r10 %016lx  r11 %016lx  r12 %016lx\n", (unsigned long)r->r9, (unsigned long)r->r10,
           (unsigned long)r->r11, (unsigned long)r->r12);
    report("r13 %016lx  r14 %016lx  r15 %016lx\n", (unsigned long)r->r13, (unsigned long)r->r14, (unsigned long)r->r15);
    report_control_registers();
}

void dump_regs(const struct cpu_user_regs *regs) { report_regs(regs); }

void dump_stack(void) { report_trace(0, (unsigned long)__builtin_frame_address(0)); }

static void report_current(void)
{
    const struct vcpu *v = current;

    if (!v || !v->domain)
        report("no vcpu on CPU %u: booting\n", cpu_id());
    else if (v->is_idle)
        report("no guest was running on CPU %u\n", cpu_id());
    else
        report("current: domain %u vcpu %u, in its %s, guest rip %016lx rsp %016lx\n", v->domain->id, v->id,
               v->pv.kernel_mode ? "kernel" : "user mode", (unsigned long)guest_regs()->rip,
               (unsigned long)guest_regs()->rsp);
}

/* Only if the console's levels kept lines back; which ones they were the ring does not tell. */
static void report_log(void)
{
    static char tail[8192 + 1];
    uint64_t position = 0;
    size_t n = 0, got;
    const char *start;

    if (options.loglvl >= LOG_DEBUG && options.guest_loglvl >= LOG_DEBUG)
        return;
    /* Read to its end, keeping the last of it: the older half goes whenever the buffer is full. */
    while ((got = log_ring_read(&position, tail + n, sizeof(tail) - 1 - n, false)) != 0) {
        n += got;
        if (n < sizeof(tail) - 1)
            continue;
        memmove(tail, tail + n / 2, n - n / 2);
        n -= n / 2;
    }
    start = tail + n;
    for (unsigned lines = 0; start > tail; start--)
        if (start[-1] == '\n' && lines++ == LOG_LINES)
            break;
    if (start == tail + n)
        return;
    report("the last lines of the log:\n");
    console_write(start, tail + n - start);
    report("end of the log\n");
}

/* Until the TSC's rate is known udelay is only roughly right: then the clock on the board decides, if it runs. */
static void wait_for_the_reader(void)
{
    uint64_t start = cmos_read_seconds();

    for (unsigned i = 0; i < REBOOT_SECONDS * 100; i++)
        udelay(10000);
    for (unsigned i = 0; i < 10 * REBOOT_SECONDS * 100 && !time_scale.tsc_khz; i++) {
        if (cmos_read_seconds() - start >= REBOOT_SECONDS)
            break;
        udelay(10000);
    }
}

static __noreturn void end(void)
{
    if (options.noreboot) {
        report("halted (noreboot)\n");
        machine_halt();
    }
    report("reboot in %u seconds\n", REBOOT_SECONDS);
    wait_for_the_reader();
    machine_reboot();
}

/* Makes this CPU the one that reports. The first wins; others stop here. A fault in the report itself does not
 * report. */
static void take_over(void)
{
    uint32_t nobody = 0, self = cpu_id() + 1;

    cli();
    if (!__atomic_compare_exchange_n(&owner, &nobody, self, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
        static bool again;

        if (nobody == self && !again) {
            again = true;
            report("a fault in the midst of this report: it ends here\n");
            end();
        }
        for (;;)
            __asm__ volatile("cli; hlt");
    }
    console_panic_mode();
    /* main() sets up the console just before the processor: what fails earlier would end without a word. */
    if (!percpu_of(0))
        console_init_early();
    smp_stop_others();
}

static void report_message(const char *fmt, va_list ap)
{
    char text[384];
    size_t n;

    vsnprintf(text, sizeof(text), fmt, ap);
    n = strlen(text);
    report("*** PANIC on CPU %u: %s%s", cpu_id(), text, n && text[n - 1] == '\n' ? "" : "\n");
}

void panic(const char *fmt, ...)
{
    va_list ap;

    take_over();
    va_start(ap, fmt);
    report_message(fmt, ap);
    va_end(ap);
    report_control_registers();
    report_trace(0, (unsigned long)__builtin_frame_address(0));
    report_current();
    report_log();
    end();
}

void panic_regs(const struct cpu_user_regs *regs, const char *fmt, ...)
{
    va_list ap;

    take_over();
    va_start(ap, fmt);
    report_message(fmt, ap);
    va_end(ap);
    report_regs(regs);
    if (from_guest(regs)) {
        report_trace(0, (unsigned long)__builtin_frame_address(0));
    } else {
        report_stack(regs->rsp);
        report_trace(regs->rip, regs->rbp);
        if (on_stack(regs->rsp) && !on_stack(regs->rbp))
            report_scan(regs->rsp);
    }
    report_current();
    report_log();
    end();
}

void boot_fail(const char *fmt, ...)
{
    char text[384];
    va_list ap;
    size_t n;

    take_over();
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    n = strlen(text);
    report("ERROR: %s%s", text, n && text[n - 1] == '\n' ? "" : "\n");
    end();
}
