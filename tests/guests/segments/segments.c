/* run: beside=yes append="dom0_max_vcpus=2 maxcpus=1" */
/*
 * Descriptor tables: what may be in them, loading selectors, segment bases, and the failsafe callback when a
 * selector went bad while the vcpu was not running (two vcpus share one CPU here, so every yield switches).
 */
#include "kit.h"

#define SEGMENT_DATA 0x00cff3000000ffffUL /* flat, writable, DPL 3 */
#define SEGMENT_DATA_DPL0 0x00cf93000000ffffUL
#define SEGMENT_CODE64 0x00affb000000ffffUL
#define SEGMENT_CODE64_DPL0 0x00af9b000000ffffUL
#define SEGMENT_CODE32 0x00cffb000000ffffUL
#define SYSTEM(type, dpl) (0x0000800000000067UL | (uint64_t)(type) << 40 | (uint64_t)(dpl) << 45)
#define SELECTOR(index) ((index) << 3 | 3)
#define SELECTOR_LDT(index) ((index) << 3 | 7)
#define DPL(descriptor) ((descriptor) >> 45 & 3)

static uint64_t *gdt, *ldt;
static uint64_t segment_memory[4] = {0x1111, 0x2222, 0x3333, 0x4444};

static uint64_t with_base(uint64_t descriptor, uint64_t base)
{
    return descriptor | (base & 0xffffff) << 16 | (base & 0xff000000) << 32;
}

static void load_ds(void *p) { asm volatile("movw %w0, %%ds" : : "r"(p)); }

static void load_es(void *p) { asm volatile("movw %w0, %%es" : : "r"(p)); }

static void load_fs(void *p) { asm volatile("movw %w0, %%fs" : : "r"(p)); }

static void load_gs(void *p) { asm volatile("movw %w0, %%gs" : : "r"(p)); }

static void load_ss(void *p) { asm volatile("movw %w0, %%ss; movw %w1, %%ss" : : "r"(p), "r"(FLAT_KERNEL_SS)); }

static void far_return(void *p)
{
    asm volatile("pushq %0; leaq 1f(%%rip), %%rax; pushq %%rax; lretq; 1: pushq %1; leaq 2f(%%rip), %%rax; pushq "
                 "%%rax; lretq; 2:"
                 :
                 : "r"(p), "i"(FLAT_KERNEL_CS)
                 : "rax", "memory");
}

static void far_call(void *p)
{
    struct {
        uint32_t offset;
        uint16_t selector;
    } __attribute__((packed)) target = {0, (uint16_t)(unsigned long)p};

    asm volatile("lcall *%0" : : "m"(target) : "memory");
}

static uint16_t read_ds(void)
{
    uint16_t s;

    asm volatile("movw %%ds, %0" : "=r"(s));
    return s;
}

static uint16_t read_gs(void)
{
    uint16_t s;

    asm volatile("movw %%gs, %0" : "=r"(s));
    return s;
}

static uint64_t read_at_fs(unsigned long offset)
{
    uint64_t v;

    asm volatile("movq %%fs:(%1), %0" : "=r"(v) : "r"(offset));
    return v;
}

static uint64_t read_at_gs(unsigned long offset)
{
    uint64_t v;

    asm volatile("movq %%gs:(%1), %0" : "=r"(v) : "r"(offset));
    return v;
}

#define S(x) ((void *)(unsigned long)(x))

enum rule { REFUSED, ALLOWED, EITHER };

static bool as_ruled(long rc, enum rule rule) { return rc <= 0 && (rule == EITHER || (rc == 0) == (rule == ALLOWED)); }

static void gdt_rules(void)
{
    unsigned long frame = virt_to_mfn(gdt), bad;
    static const struct {
        const char *name;
        uint64_t descriptor;
        enum rule rule;
    } rules[] = {
        {"null", 0, ALLOWED},
        {"data", SEGMENT_DATA, ALLOWED},
        {"code", SEGMENT_CODE64, ALLOWED},
        {"code, 32 bits", SEGMENT_CODE32, ALLOWED},
        {"not present data", SEGMENT_DATA & ~(1UL << 47), ALLOWED},
        {"not present, junk", 0x0000000012345678UL, ALLOWED},
        {"LDT", SYSTEM(2, 0), REFUSED},
        {"TSS, available", SYSTEM(9, 0), REFUSED},
        {"TSS, DPL 3", SYSTEM(9, 3), REFUSED},
        {"TSS, busy", SYSTEM(11, 0), REFUSED},
        {"call gate", SYSTEM(12, 3), EITHER},
        {"interrupt gate", SYSTEM(14, 3), REFUSED},
        {"trap gate", SYSTEM(15, 0), REFUSED},
        {"task gate", SYSTEM(5, 3), REFUSED},
        {"16-bit TSS", SYSTEM(1, 3), REFUSED},
    };

    printf("-- GDT\n");
    check_negative(set_gdt(&frame, 512)); /* it is mapped writable */
    page_make_readonly(gdt);
    check_equal(set_gdt(&frame, 512), 0);
    check(page_set_flags(gdt, PTE_RW) < 0, "a GDT page cannot be mapped writable");
    check_negative(mmuext(MMUEXT_PIN_L1_TABLE, frame, 0));
    check_equal(set_gdt(NULL, 0), 0);
    check(page_set_flags(gdt, PTE_RW) == 0, "after the GDT is gone, it can");

    for (unsigned i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        long rc;

        gdt[7] = rules[i].descriptor;
        page_make_readonly(gdt);
        rc = set_gdt(&frame, 512);
        check(as_ruled(rc, rules[i].rule), "GDT with %s: %ld", rules[i].name, rc);
        set_gdt(NULL, 0);
        page_make_writable(gdt);
        gdt[7] = 0;
        /* The same by update_descriptor, into a page in use. */
        page_make_readonly(gdt);
        check_quiet(set_gdt(&frame, 512) == 0, "plain GDT");
        rc = update_descriptor(virt_to_machine(&gdt[7]), rules[i].descriptor);
        check(as_ruled(rc, rules[i].rule), "update_descriptor of %s: %ld", rules[i].name, rc);
        check(rc == 0 || gdt[7] == 0, "... a refused one changes nothing");
        set_gdt(NULL, 0);
        page_make_writable(gdt);
        gdt[7] = 0;
    }

    /* Ring 0 segments get the guest's level. */
    gdt[4] = SEGMENT_CODE64_DPL0;
    gdt[5] = SEGMENT_DATA_DPL0;
    page_make_readonly(gdt);
    if (set_gdt(&frame, 512) == 0) {
        check(DPL(gdt[4]) != 0 && DPL(gdt[5]) != 0, "ring 0 code and data: DPL %lu, %lu", DPL(gdt[4]), DPL(gdt[5]));
        update_descriptor(virt_to_machine(&gdt[6]), SEGMENT_CODE64_DPL0);
        check(gdt[6] == 0 || DPL(gdt[6]) != 0, "ring 0 code by update_descriptor: %lx", gdt[6]);
    } else
        check(true, "ring 0 segments are refused");
    set_gdt(NULL, 0);
    page_make_writable(gdt);
    memset(gdt, 0, PAGE_SIZE);
    page_make_readonly(gdt);

    check_negative(set_gdt(&frame, FIRST_RESERVED_GDT_ENTRY + 1));
    check_negative(set_gdt(&frame, 8192));
    check_negative(set_gdt(&frame, ~0U));
    bad = 0x200;
    check_negative(set_gdt(&bad, 512)); /* not ours */
    bad = 1UL << 36;
    check_negative(set_gdt(&bad, 512));
    bad = kernel_root;
    check_negative(set_gdt(&bad, 512));
    bad = virt_to_mfn(pte_of(TEST_VA));
    check_negative(set_gdt(&bad, 512));
    bad = start_info->shared_info >> 12;
    check_negative(set_gdt(&bad, 512));

    check_negative(update_descriptor(0x200000, SEGMENT_DATA));
    check_negative(update_descriptor(1UL << 50, SEGMENT_DATA));
    check_negative(update_descriptor(virt_to_machine(gdt) + 4, SEGMENT_DATA));
    check_negative(update_descriptor(kernel_root << 12, SEGMENT_DATA));
    check_negative(update_descriptor(virt_to_machine(pte_of(TEST_VA)), SEGMENT_DATA));

    check_equal(set_gdt(&frame, 512), 0);
    check_equal(set_gdt(&frame, 512), 0); /* over itself */
}

static void selectors(void)
{
    struct regs r;

    printf("-- selectors\n");
    check_equal(update_descriptor(virt_to_machine(&gdt[8]), SEGMENT_DATA), 0);
    check_equal(update_descriptor(virt_to_machine(&gdt[9]), SEGMENT_CODE64), 0);
    check_equal(update_descriptor(virt_to_machine(&gdt[10]), with_base(SEGMENT_DATA, 0x12345000)), 0);
    check_equal(update_descriptor(virt_to_machine(&gdt[11]), SEGMENT_DATA & ~(1UL << 47)), 0);
    check(!trapped(load_ds, S(SELECTOR(8)), NULL) && read_ds() == SELECTOR(8), "ds");
    check(!trapped(load_es, S(SELECTOR(8)), NULL), "es");
    check(!trapped(load_fs, S(SELECTOR(8)), NULL), "fs");
    check(!trapped(load_gs, S(SELECTOR(8)), NULL), "gs");
    check(!trapped(load_ss, S(SELECTOR(8)), NULL), "ss");
    check(!trapped(far_return, S(SELECTOR(9)), NULL), "cs, by a far return");
    r = trap_of(load_ds, S(SELECTOR(12)));
    check(r.vector == 13 && r.error == (SELECTOR(12) & ~3), "an empty descriptor: vector %lu error %lx", r.vector,
          r.error);
    r = trap_of(load_ds, S(SELECTOR(11)));
    check(r.vector == 11 && r.error == (SELECTOR(11) & ~3), "a segment that is not present: vector %lu error %lx",
          r.vector, r.error);
    r = trap_of(load_ds, S(SELECTOR(600)));
    check(r.vector == 13 && r.error == (SELECTOR(600) & ~3), "beyond the limit: vector %lu error %lx", r.vector,
          r.error);
    r = trap_of(load_ss, S(SELECTOR(9)));
    check(r.vector == 13, "code in ss: vector %lu", r.vector);
    r = trap_of(far_return, S(SELECTOR(8)));
    check(r.vector == 13, "data in cs: vector %lu", r.vector);
    r = trap_of(far_return, S(SELECTOR(9) & ~3));
    check(r.vector == 13, "cs with RPL 0: vector %lu", r.vector);
    /* The hypervisor's own descriptors at the end of the table. After a far return to 32-bit code the upper half of rsp
     * is undefined: that one is left out (the guest 'traps' runs 32-bit code). */
    for (unsigned s = 0xe000; s < 0xe200; s += 8) {
        if (s == (FLAT_USER_CS32 & ~7))
            continue;
        r = trap_of(far_return, S(s | 3));
        if (r.vector == NO_TRAP)
            check_quiet(s == (FLAT_KERNEL_CS & ~7), "cs %x could be loaded", s | 3);
        r = trap_of(far_return, S(s));
        check_quiet(r.vector != NO_TRAP, "cs %x could be loaded", s);
    }
    check(true, "no other code segment in the reserved part");
    load_ds(S(0));
    load_es(S(0));
}

/*
 * A null descriptor is no segment: loading it must fault, but what of ds = 0? That is fine. Asked separately of
 * the kind above.
 */
static void null_selectors(void)
{
    for (unsigned s = 0; s < 4; s++)
        check(!trapped(load_ds, S(s), NULL) && !trapped(load_fs, S(s), NULL), "null selector %u", s);
}

static void bases(void)
{
    unsigned long base = (unsigned long)segment_memory;

    printf("-- bases\n");
    check_equal(set_segment_base(SEGBASE_FS, base), 0);
    check(read_at_fs(8) == 0x2222, "fs base");
    check_equal(set_segment_base(SEGBASE_GS_KERNEL, base + 16), 0);
    check(read_at_gs(0) == 0x3333, "gs base, kernel's");
    check_equal(set_segment_base(SEGBASE_GS_USER, base + 24), 0);
    check(read_at_gs(0) == 0x3333, "the user's gs base is another");
    check_negative(set_segment_base(SEGBASE_FS, VA_NONCANONICAL));
    check_negative(set_segment_base(SEGBASE_GS_KERNEL, VA_NONCANONICAL));
    check_negative(set_segment_base(SEGBASE_GS_USER, 0x0000800000000000UL));
    check_negative(set_segment_base(17, 0));
    check(read_at_fs(8) == 0x2222 && read_at_gs(0) == 0x3333, "refused ones change nothing");
    sched_op(SCHEDOP_yield, NULL);
    check(read_at_fs(8) == 0x2222 && read_at_gs(0) == 0x3333, "they come through a switch");
    /* A base in a descriptor: fs reads below 4 GiB. */
    check_equal(update_descriptor(virt_to_machine(&gdt[10]), with_base(SEGMENT_DATA, 0x12345000)), 0);
    map_page(0x12345000, make_pte(virt_to_mfn(segment_memory), PTE_RW));
    load_fs(S(SELECTOR(10)));
    check(read_at_fs((unsigned long)segment_memory & 4095) == 0x1111, "base from a descriptor");
    sched_op(SCHEDOP_yield, NULL);
    check(read_at_fs((unsigned long)segment_memory & 4095) == 0x1111, "and through a switch");
    load_fs(S(0));
    check_equal(set_segment_base(SEGBASE_FS, base), 0);
    check(read_at_fs(0) == 0x1111, "a base over a null selector");
    sched_op(SCHEDOP_yield, NULL);
    check(read_at_fs(0) == 0x1111, "and through a switch");
    check_equal(set_segment_base(SEGBASE_FS, 0), 0);
}

USER_TEXT(user_gs, "movw %gs, %ax; movzwl %ax, %eax; movq %gs:0, %rbx; movw %ds, %cx; ud2");
USER_TEXT(user_gs_selector, "movw %gs, %ax; movzwl %ax, %eax; movw %fs, %cx; ud2");

static void user_segments(void)
{
    struct regs r;

    printf("-- user mode\n");
    user_setup();
    *(uint64_t *)(user_data_page + 64) = 0x7777;
    check_equal(set_segment_base(SEGBASE_GS_USER, USER_DATA + 64), 0);
    USER_RUN(user_gs, &r);
    check(r.vector == 6 && r.rbx == 0x7777, "user gs base: vector %lu, %lx", r.vector, r.rbx);
    check(read_at_gs(0) == 0x3333, "the kernel's is back after it");
    check_equal(set_segment_base(SEGBASE_GS_USER_SEL, SELECTOR(8)), 0);
    USER_RUN(user_gs_selector, &r);
    check(r.vector == 6 && r.rax == SELECTOR(8), "user gs selector %lx", r.rax);
    check(read_at_gs(0) == 0x3333, "the kernel's base is still there");
    set_segment_base(SEGBASE_GS_USER_SEL, SELECTOR(600)); /* a bad one: refused or nulled, no harm */
    USER_RUN(user_gs_selector, &r);
    check(r.vector == 6, "a bad user gs selector does no harm: %lx", r.rax);
    set_segment_base(SEGBASE_GS_USER_SEL, 0);
    set_segment_base(SEGBASE_GS_USER, 0);
}

static void ldts(void)
{
    struct regs r;

    printf("-- LDT\n");
    ldt[2] = SEGMENT_DATA;
    ldt[3] = SEGMENT_CODE64;
    page_make_readonly(ldt);
    check_equal(mmuext(MMUEXT_SET_LDT, (unsigned long)ldt, 16), 0);
    check(!trapped(load_ds, S(SELECTOR_LDT(2)), NULL) && read_ds() == SELECTOR_LDT(2), "ds from the LDT");
    check(!trapped(far_return, S(SELECTOR_LDT(3)), NULL), "cs from the LDT");
    check(page_set_flags(ldt, PTE_RW) < 0, "an LDT page in use cannot be mapped writable");
    check_equal(update_descriptor(virt_to_machine(&ldt[4]), SEGMENT_DATA), 0);
    check(!trapped(load_es, S(SELECTOR_LDT(4)), NULL), "es, after update_descriptor");
    check_negative(update_descriptor(virt_to_machine(&ldt[5]), SYSTEM(9, 3)));
    r = trap_of(load_es, S(SELECTOR_LDT(20)));
    check(r.vector == 13 && r.error == (SELECTOR_LDT(20) & ~3), "beyond the limit: vector %lu error %lx", r.vector,
          r.error);
    sched_op(SCHEDOP_yield, NULL);
    check(read_ds() == SELECTOR_LDT(2), "ds is kept over a switch: %x", read_ds());
    load_ds(S(0));
    load_es(S(0));
    check_equal(mmuext(MMUEXT_SET_LDT, 0, 0), 0);
    r = trap_of(load_ds, S(SELECTOR_LDT(2)));
    check(r.vector == 13, "without an LDT: vector %lu", r.vector);
    check(page_set_flags(ldt, PTE_RW) == 0, "and its page is free");

    /* Pages that cannot be an LDT: found out when a selector is loaded. */
    check_equal(mmuext(MMUEXT_SET_LDT, (unsigned long)ldt, 16), 0);
    r = trap_of(load_ds, S(SELECTOR_LDT(2)));
    check(r.vector != NO_TRAP, "a writable LDT page: vector %lu", r.vector);
    ldt[2] = SYSTEM(12, 3);
    page_make_readonly(ldt);
    r = trap_of(load_ds, S(SELECTOR_LDT(2)));
    check(r.vector != NO_TRAP, "a call gate in the LDT: vector %lu", r.vector);
    r = trap_of(far_return, S(SELECTOR_LDT(2)));
    check(r.vector != NO_TRAP, "a far return through it: vector %lu", r.vector);
    r = trap_of(far_call, S(SELECTOR_LDT(2)));
    check(r.vector != NO_TRAP, "a far call through it: vector %lu", r.vector);
    check_equal(mmuext(MMUEXT_SET_LDT, VA_UNMAPPED, 16), 0);
    r = trap_of(load_ds, S(SELECTOR_LDT(2)));
    check(r.vector == 14 || r.vector == 13, "an unmapped LDT: vector %lu cr2 %lx", r.vector, vcpu_info_of(0)->arch.cr2);
    check_equal(mmuext(MMUEXT_SET_LDT, start_info->pt_base, 16), 0);
    r = trap_of(load_ds, S(SELECTOR_LDT(2)));
    check(r.vector == 14 || r.vector == 13, "a page table as LDT: vector %lu", r.vector);
    check_equal(mmuext(MMUEXT_SET_LDT, 0, 0), 0);
}

static volatile unsigned others_turns, failsafes;
static struct regs failsafe_regs;

static void other_vcpu(void)
{
    for (;;) {
        others_turns++;
        sched_op(SCHEDOP_yield, NULL);
    }
}

static bool note_failsafe(struct regs *r)
{
    failsafes++;
    failsafe_regs = *r;
    return true;
}

/* The other vcpu runs in between, so the segment registers are saved and loaded again. */
static void wait_for_a_switch(void)
{
    unsigned before = others_turns;

    for (unsigned i = 0; i < 1000 && others_turns < before + 2; i++)
        sched_op(SCHEDOP_yield, NULL);
    check_quiet(others_turns >= before + 2, "the other vcpu does not run");
}

static void failsafe(void)
{
    printf("-- failsafe\n");
    trap_hooks[VECTOR_FAILSAFE] = note_failsafe;
    check_equal(update_descriptor(virt_to_machine(&gdt[8]), SEGMENT_DATA), 0);
    load_ds(S(SELECTOR(8)));
    wait_for_a_switch();
    check(failsafes == 0 && read_ds() == SELECTOR(8), "a good selector comes through");
    check_equal(update_descriptor(virt_to_machine(&gdt[8]), 0), 0);
    wait_for_a_switch();
    check(failsafes == 1, "a selector that went bad: %u failsafe callbacks", failsafes);
    check((kit_failsafe_selectors[0] & 0xffff) == SELECTOR(8), "ds in its frame is %lx", kit_failsafe_selectors[0]);
    check(failsafe_regs.rip >= VIRT_BASE && (failsafe_regs.cs & 3) == 0, "rip %lx cs %x", failsafe_regs.rip,
          failsafe_regs.cs);
    check(vcpu_info_of(0)->evtchn_upcall_mask == 0, "events are open again after it");
    check(read_ds() != SELECTOR(8), "ds is now %x", read_ds());

    check_equal(update_descriptor(virt_to_machine(&gdt[8]), SEGMENT_DATA), 0);
    load_gs(S(SELECTOR(8)));
    check_equal(update_descriptor(virt_to_machine(&gdt[8]), 0), 0);
    wait_for_a_switch();
    check(failsafes == 2 && (kit_failsafe_selectors[3] & 0xffff) == SELECTOR(8), "gs gone bad: %u, gs in the frame %lx",
          failsafes, kit_failsafe_selectors[3]);
    check(read_gs() != SELECTOR(8), "gs is now %x", read_gs());
    trap_hooks[VECTOR_FAILSAFE] = NULL;
}

GUEST("segments")
{
    static struct vcpu_guest_context context;

    vcpu_context_fill(&context, 1, other_vcpu);
    check_equal(vcpu_op(VCPUOP_initialise, 1, &context), 0);
    check_equal(vcpu_op(VCPUOP_up, 1, NULL), 0);
    check_equal(vcpu_op(VCPUOP_stop_periodic_timer, 0, NULL), 0);
    events_enable();
    map_page(TEST_VA, 0);
    gdt = page_alloc();
    ldt = page_alloc();
    gdt_rules();
    selectors();
    null_selectors();
    bases();
    user_segments();
    ldts();
    failsafe();
}
