/* run: pvh=yes args="alpha beta" time=30 */
/* What a PVH kernel is given at its start, CPUID, the calls that tell where it runs, the clock. */
#include "../kit/pvh/pvh.h"

static void check_start_state(void)
{
    const struct start_state *s = &kit_start_state;

    printf("eax %x ebx %x esp %x eflags %x cr0 %x cr3 %x cr4 %x efer %x tr %x\n", s->eax, s->ebx, s->esp, s->eflags,
           s->cr0, s->cr3, s->cr4, s->efer, s->tr);
    check(s->ebx != 0 && s->ebx % 4 == 0, "ebx: start info at %x", s->ebx);
    check((s->cr0 & 0x80000001) == 1, "CR0: protected mode, no paging: %x", s->cr0);
    check((s->cr0 & 0x6000000e) == 0, "CR0: caches are on, no TS, EM, MP: %x", s->cr0);
    check(s->cr4 == 0 && s->efer == 0 && s->cr3 == 0, "CR4, CR3 and EFER are clear");
    check((s->eflags & (RFLAGS_IF | RFLAGS_VM | RFLAGS_TF)) == 0 && (s->eflags & 2) != 0, "flags: %x", s->eflags);
    check(s->dr6 == 0xffff0ff0 && s->dr7 == 0x400, "debug registers: %x, %x", s->dr6, s->dr7);
}

static void check_start_info(void)
{
    static struct hvm_memmap_table_entry map[32];
    struct xen_memory_map m = {.nr_entries = 32};
    const struct hvm_memmap_table_entry *told = (void *)pvh_info->memmap_paddr;
    struct {
        uint64_t addr, size;
        uint32_t type;
    } __attribute__((packed)) e820[32];
    uint64_t ram = 0, end = 0;
    unsigned same = 0;

    check(pvh_info->magic == XEN_HVM_START_MAGIC_VALUE && pvh_info->version >= 1, "magic %x, version %u",
          pvh_info->magic, pvh_info->version);
    check(pvh_info->flags == 0 && pvh_info->reserved == 0, "not privileged: flags %x", pvh_info->flags);
    check(pvh_info->nr_modules == 0, "no module");
    check(strprefix(kit_arguments(), "alpha beta"), "command line '%s'", kit_arguments());
    check(pvh_info->memmap_entries > 1 && pvh_info->memmap_entries <= 32, "%u entries of memory",
          pvh_info->memmap_entries);
    check((char *)pvh_info >= kit_image_end || (char *)pvh_info < (char *)0x100000, "start info is not in the image");
    check(strprefix((char *)pvh_info->rsdp_paddr, "RSD PTR "), "ACPI tables at %lx", pvh_info->rsdp_paddr);
    set_xen_guest_handle(m.buffer, e820);
    check_equal(memory_op(XENMEM_memory_map, &m), 0);
    check_equal(m.nr_entries, pvh_info->memmap_entries);
    for (unsigned i = 0; i < m.nr_entries && i < 32; i++) {
        map[i] = told[i];
        printf("   %lx + %lx type %u\n", map[i].addr, map[i].size, map[i].type);
        same += map[i].addr == e820[i].addr && map[i].size == e820[i].size && map[i].type == e820[i].type;
        check_quiet(map[i].addr >= end && map[i].reserved == 0, "entry %u is in order", i);
        end = map[i].addr + map[i].size;
        if (map[i].type == XEN_HVM_MEMMAP_TYPE_RAM)
            ram += map[i].size;
    }
    check(same == m.nr_entries, "XENMEM_memory_map says the same");
    check(ram == 64 << 20, "%lu KiB of RAM", ram >> 10);
    m.nr_entries = 1;
    check_equal(memory_op(XENMEM_memory_map, &m), 0);
    check_equal(m.nr_entries, 1);
}

static void check_cpuid(void)
{
    struct cpuid_result r = cpuid(1, 0), x = cpuid(0x40000000, 0), t;

    check((r.c >> 31 & 1) != 0, "the hypervisor bit");
    check((r.c >> 21 & 1) != 0 && (r.c >> 24 & 1) != 0, "x2APIC and the timer's deadlines");
    check((r.d >> 9 & 1) != 0 && (r.d & 0x2048) == 0x2048, "APIC, PSE, PAE, PGE: %x", r.d);
    check((r.c >> 27 & 1) == (READ_CR(4) >> 18 & 1), "OSXSAVE is CR4's");
    check((r.c >> 3 & 1) == 0, "no MONITOR");
    check((cpuid(0x80000001, 0).c >> 2 & 1) == 0, "no SVM");
    check((cpuid(0x80000001, 0).d >> 29 & 1) != 0, "long mode");
    check(x.b == 0x566e6558 && x.c == 0x65584d4d && x.d == 0x4d4d566e, "Xen's signature");
    check(x.a >= 0x40000004, "leaves up to %x", x.a);
    check(cpuid(0x40000001, 0).a >> 16 == 4, "version %x", cpuid(0x40000001, 0).a);
    t = cpuid(0x40000002, 0);
    check(t.a == 1 && t.b == 0x40000000, "the hypercall page's MSR: %u, %x", t.a, t.b);
    t = cpuid(0x40000004, 0);
    printf("   leaf 4: %x %x %x %x\n", t.a, t.b, t.c, t.d);
    check((t.a >> 3 & 1) == 0 || t.b == 0, "leaf 4: vcpu id 0");
    check((t.a >> 4 & 1) == 0 || t.c > 0, "leaf 4: domain id %u", t.c);
}

static void check_calls(void)
{
    static char text[1024];
    struct xen_feature_info f = {.submap_idx = 0};
    long version = xen_version(XENVER_version, NULL);

    check(version >> 16 == 4, "version %ld.%ld", version >> 16, version & 0xffff);
    check_equal(kit_raw_hypercall(__HYPERVISOR_xen_version, XENVER_version, 0, 0, 0, 0), version);
    check_equal(xen_version(XENVER_capabilities, text), 0);
    printf("   capabilities '%s'\n", text);
    check_equal(xen_version(XENVER_get_features, &f), 0);
    check((f.submap >> XENFEAT_auto_translated_physmap & 1) != 0 && (f.submap >> XENFEAT_hvm_callback_vector & 1) != 0,
          "auto-translated, with callback vectors: %x", f.submap);
    check((f.submap >> XENFEAT_dom0 & 1) == 0, "not domain 0");
    check_equal(hypercall(__HYPERVISOR_mmu_update, 0, 0, 0, 0, 0), -ENOSYS);
    check_equal(console_io(CONSOLEIO_write, 1, text), -EPERM);
}

static void check_clock(void)
{
    uint64_t tsc = tsc_read(), ns = time_now(), last = ns, ns_by_tsc, khz = cpuid(0x40000003, 0).c;
    unsigned back = 0;

    for (unsigned i = 0; i < 2000; i++) {
        uint64_t t = time_now();

        back += t < last;
        last = t;
    }
    spin_ns(50000000);
    ns = time_now() - ns;
    tsc = tsc_read() - tsc;
    check(back == 0, "the clock never goes back");
    check(khz != 0, "%lu kHz", khz);
    ns_by_tsc = khz ? tsc * 1000000 / khz : 0;
    check(ns_by_tsc > ns - ns / 100 && ns_by_tsc < ns + ns / 100, "RDTSC and the clock agree: %lu and %lu ns",
          ns_by_tsc, ns);
    check(shared_info->wc_sec != 0, "it knows the time of day");
}

GUEST("pvh_hello")
{
    check_start_state();
    check_start_info();
    check_cpuid();
    check_calls();
    check_clock();
}
