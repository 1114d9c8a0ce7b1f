/* Descriptor tables: see cpu/desc.h. */
#include "cpu/cpu.h"
#include "cpu/desc.h"
#include "cpu/instr.h"
#include "cpu/percpu.h"
#include "lib/log.h"
#include "lib/string.h"
#include "memory/alloc.h"
#include "memory/map.h"
#include "pv/mode.h"

#define GDT_PAGE_OFFSET FIRST_RESERVED_GDT_BYTE
#define GDT_LIMIT (GDT_PAGE_OFFSET + 0x60 - 1)

struct tss {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7];
    uint64_t reserved2;
    uint16_t reserved3, io_bitmap;
} __packed;

struct idt_gate {
    uint16_t offset_low, selector;
    uint8_t ist, type;
    uint16_t offset_mid;
    uint32_t offset_high, reserved;
};

/* Croft's page of the GDT and the TSS of one CPU. The page holds nothing secret: guests may see it in their GDT window. */
struct cpu_tables {
    uint64_t gdt[512];
    struct tss tss;
} __aligned(4096);

static struct cpu_tables boot_tables;
static struct cpu_tables *tables[NR_CPUS];
static struct idt_gate idt[256] __aligned(4096);

#define IST_DF 1
#define IST_NMI 2
#define IST_MC 3
#define IST_DB 4

static void set_gate(unsigned vector, unsigned dpl, unsigned ist)
{
    unsigned long entry = (unsigned long)exception_stubs + vector * 16;

    if (vector == X86_PF)
        entry = (unsigned long)(cpu_features.smap ? page_fault_smap : page_fault);
    else if (vector == X86_GP)
        entry = (unsigned long)(cpu_features.smap ? general_protection_smap : general_protection);
    idt[vector] = (struct idt_gate){
        .offset_low = (uint16_t)entry,
        .selector = CROFT_CS,
        .ist = ist,
        .type = 0x8e | dpl << 5,
        .offset_mid = (uint16_t)(entry >> 16),
        .offset_high = (uint32_t)(entry >> 32),
    };
}

static void init_idt(void)
{
    for (unsigned v = 0; v < 256; v++)
        set_gate(v, 0, 0);
    /* INT3 and INTO may be executed by guests; other INT n arrive as #GP and are looked up in the guest's trap table. */
    set_gate(X86_BP, 3, 0);
    set_gate(X86_OF, 3, 0);
    set_gate(X86_DF, 0, IST_DF);
    set_gate(X86_NMI, 0, IST_NMI);
    set_gate(X86_MC, 0, IST_MC);
    set_gate(X86_DB, 0, IST_DB);
}

static void set_system_descriptor(uint64_t *slot, unsigned long base, unsigned limit, unsigned type)
{
    slot[0] = (limit & 0xffff) | (base & 0xffffff) << 16 | (uint64_t)type << 40 | 1UL << 47 |
              (uint64_t)(limit >> 16 & 15) << 48 | (base >> 24 & 0xff) << 56;
    slot[1] = base >> 32;
}

static void load_gdt(unsigned long base)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __packed p = {GDT_LIMIT, base};

    __asm__ volatile("lgdt %0" ::"m"(p));
}

void desc_load_host_gdt(void) { load_gdt((unsigned long)tables[cpu_id()]->gdt - GDT_PAGE_OFFSET); }

void desc_set_ldt(unsigned long base, unsigned entries)
{
    uint64_t *slot = &tables[cpu_id()]->gdt[(LDT_SELECTOR - GDT_PAGE_OFFSET) / 8];
    uint16_t selector = 0;

    if (entries) {
        set_system_descriptor(slot, base, entries * 8 - 1, 2);
        selector = LDT_SELECTOR;
    }
    __asm__ volatile("lldt %0" ::"r"(selector));
}

mfn_t cpu_gdt_frame(unsigned cpu)
{
    unsigned long va = (unsigned long)tables[cpu]->gdt;

    /* The boot CPU's page is part of the image. */
    return va >= DIRECT_MAP_START ? virt_to_mfn((void *)va) : MFN((va - IMAGE_START + IMAGE_PHYS) >> PAGE_SHIFT);
}

static void init_syscall(unsigned cpu, struct percpu *pc)
{
    uint64_t *slot = syscall_cpus + 2 * cpu;
    uint64_t frame_end = (uint64_t)&pc->guest_regs.es;

    slot[1] = frame_end;
    wrmsr(MSR_STAR, (uint64_t)CROFT_CS << 32 | (uint64_t)0xe023 << 48);
    wrmsr(MSR_LSTAR, (uint64_t)(cpu_features.smap ? syscall_smap_stubs : syscall_stubs) + 32 * cpu);
    wrmsr(MSR_CSTAR, (uint64_t)syscall32_stubs + 32 * cpu);
    wrmsr(MSR_SYSCALL_MASK, EFLAGS_AC | EFLAGS_VM | EFLAGS_RF | EFLAGS_NT | EFLAGS_DF | EFLAGS_IF | EFLAGS_TF);
    if (wrmsr_safe(MSR_SYSENTER_CS, CROFT_CS)) {
        wrmsr_safe(MSR_SYSENTER_ESP, frame_end);
        wrmsr_safe(MSR_SYSENTER_EIP, (uint64_t)sysenter_entry);
    }
}

void desc_init_cpu(void)
{
    struct percpu *pc = this_cpu();
    unsigned long block = (unsigned long)pc & ~(CPU_STACK_SIZE - 1);
    struct cpu_tables *t = tables[pc->id]; /* it may have been on line before */
    struct {
        uint16_t limit;
        uint64_t base;
    } __packed idtr = {sizeof(idt) - 1, (uint64_t)idt};
    uint16_t tss = TSS_SELECTOR, ss = CROFT_SS;

    _Static_assert(sizeof(struct cpu_tables) == 2 * PAGE_SIZE, "allocated as an order-1 block");
    if (!t)
        t = pc->id ? alloc_pages(1) : &boot_tables;
    if (!t)
        panic("no memory for the descriptor tables of CPU %u\n", pc->id);
    tables[pc->id] = t;
    t->tss.rsp[0] = (uint64_t)&pc->guest_regs.es;
    for (unsigned i = 0; i < 4; i++)
        t->tss.ist[i] = block + (i + 1) * PAGE_SIZE;
    t->tss.io_bitmap = sizeof(struct tss);

    uint64_t *gdt = t->gdt;
    gdt[1] = 0x00af9b000000ffffUL; /* 0xe008: Croft's code */
    gdt[2] = 0x00cf93000000ffffUL; /* 0xe010: Croft's data */
    gdt[4] = 0x00cffb000000ffffUL; /* 0xe023: ring 3, 32-bit code */
    gdt[5] = 0x00cff3000000ffffUL; /* 0xe02b: ring 3 data */
    gdt[6] = 0x00affb000000ffffUL; /* 0xe033: ring 3, 64-bit code */
    set_system_descriptor(&gdt[8], (unsigned long)&t->tss, sizeof(struct tss) - 1, 9);

    desc_load_host_gdt();
    __asm__ volatile("pushq %0; lea 1f(%%rip), %%rax; pushq %%rax; lretq; 1: mov %1, %%ss; ltr %2" ::"i"(CROFT_CS),
                     "r"((uint32_t)ss), "r"(tss)
                     : "rax", "memory");
    if (!pc->id)
        init_idt();
    __asm__ volatile("lidt %0" ::"m"(idtr));
    init_syscall(pc->id, pc);
}
