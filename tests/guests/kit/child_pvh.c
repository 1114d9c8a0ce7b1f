/* PVH children: see child.h. As tools build them: memory, image and start info by foreign mappings, the first vcpu by sethvmcontext. */
#include "child.h"

#include <elf.h>
#include <xen/arch-x86/hvm/start_info.h>
#include <xen/elfnote.h>
#include <xen/hvm/save.h>

#define MEMORY_PAGES 1024U
#define LARGE 512U                /* pages of a large one: the first of its memory; all others come one by one */
#define START_INFO_AT 0xa000UL    /* what is below 1 MiB is free otherwise, but for the talk page */
enum { WINDOW_ANY, WINDOW_TALK }; /* pages of its window */

/* Segments' attributes in the form of a control block's: flat, in 32-bit protected mode */
#define FLAT_CODE 0xc9bU
#define FLAT_DATA 0xc93U

static void populate(struct child *c)
{
    struct xen_memory_reservation r = {.nr_extents = 1, .extent_order = 9, .domid = (domid_t)c->domid};
    long rc;

    c->frames[0] = 0;
    set_xen_guest_handle(r.extent_start, c->frames);
    rc = memory_op(XENMEM_populate_physmap, &r);
    if (rc != 1)
        panic("d%u gets no large page: %ld", c->domid, rc);
    for (unsigned first = LARGE; first < MEMORY_PAGES; first += CHILD_MAX_PAGES) {
        r = (struct xen_memory_reservation){.nr_extents = CHILD_MAX_PAGES, .domid = (domid_t)c->domid};
        for (unsigned i = 0; i < CHILD_MAX_PAGES; i++)
            c->frames[i] = first + i;
        set_xen_guest_handle(r.extent_start, c->frames);
        rc = memory_op(XENMEM_populate_physmap, &r);
        if (rc != CHILD_MAX_PAGES)
            panic("d%u gets %ld of %u pages", c->domid, rc, CHILD_MAX_PAGES);
    }
}

static uint8_t *window_at(const struct child *c, unsigned which, unsigned long address)
{
    unsigned long va = U(child_window(c, which));
    long rc = map_foreign(c->domid, va, address >> 12, PTE_RW);

    if (rc != 0)
        panic("address %lx of d%u: %ld", address, c->domid, rc);
    mmuext(MMUEXT_INVLPG_ALL, va, 0);
    return (uint8_t *)va;
}

static void write_memory(const struct child *c, unsigned long to, const void *from, size_t n)
{
    const uint8_t *byte = from;

    while (n > 0) {
        size_t offset = to % PAGE_SIZE, part = n < PAGE_SIZE - offset ? n : PAGE_SIZE - offset;

        memcpy(window_at(c, WINDOW_ANY, to) + offset, byte, part);
        to += part;
        byte += part;
        n -= part;
    }
}

static uint32_t entry_in_notes(const uint8_t *notes, size_t size)
{
    for (size_t at = 0; at + sizeof(Elf64_Nhdr) + 8 <= size;) {
        const Elf64_Nhdr *n = (const void *)(notes + at);

        at += sizeof(*n) + ((n->n_namesz + 3) & ~3U);
        if (n->n_type == XEN_ELFNOTE_PHYS32_ENTRY)
            return *(const uint32_t *)(const void *)(notes + at);
        at += (n->n_descsz + 3) & ~3U;
    }
    return 0;
}

/* Returns where it begins. */
static uint32_t load_image(const struct child *c, const uint8_t *elf)
{
    const Elf64_Ehdr *e = (const void *)elf;
    const Elf64_Phdr *p = (const void *)(elf + e->e_phoff);
    uint32_t entry = 0;

    if (memcmp(elf, ELFMAG, SELFMAG) != 0)
        panic("the image is no ELF file");
    for (unsigned i = 0; i < e->e_phnum; i++) {
        if (p[i].p_type == PT_LOAD)
            write_memory(c, p[i].p_paddr, elf + p[i].p_offset, p[i].p_filesz);
        if (p[i].p_type == PT_NOTE && entry == 0)
            entry = entry_in_notes(elf + p[i].p_offset, p[i].p_filesz);
    }
    if (entry == 0)
        panic("the image is no PVH kernel");
    return entry;
}

static void make_start_info(const struct child *c)
{
    static struct {
        struct hvm_start_info info;
        struct hvm_memmap_table_entry memory;
        char arguments[8];
    } start;

    start.info = (struct hvm_start_info){.magic = XEN_HVM_START_MAGIC_VALUE,
                                         .version = 1,
                                         .cmdline_paddr = START_INFO_AT + (U(start.arguments) - U(&start)),
                                         .memmap_paddr = START_INFO_AT + (U(&start.memory) - U(&start)),
                                         .memmap_entries = 1};
    start.memory = (struct hvm_memmap_table_entry){.size = MEMORY_PAGES * PAGE_SIZE, .type = XEN_HVM_MEMMAP_TYPE_RAM};
    write_memory(c, START_INFO_AT, &start, sizeof(start));
}

static void set_context(const struct child *c, uint32_t entry)
{
    static struct {
        struct hvm_save_descriptor header_is;
        HVM_SAVE_TYPE(HEADER) header;
        struct hvm_save_descriptor cpu_is;
        HVM_SAVE_TYPE(CPU) cpu;
        struct hvm_save_descriptor end_is;
    } context = {.header_is = {.typecode = HVM_SAVE_CODE(HEADER), .length = HVM_SAVE_LENGTH(HEADER)},
                 .header = {.magic = HVM_FILE_MAGIC, .version = HVM_FILE_VERSION},
                 .cpu_is = {.typecode = HVM_SAVE_CODE(CPU), .length = HVM_SAVE_LENGTH(CPU)},
                 .cpu = {.rbx = START_INFO_AT,
                         .rflags = 2,
                         .cr0 = 0x11, /* PE, ET */
                         .dr6 = 0xffff0ff0,
                         .dr7 = 0x400,
                         .cs_sel = 8,
                         .cs_limit = ~0U,
                         .cs_arbytes = FLAT_CODE,
                         .ds_limit = ~0U,
                         .ds_arbytes = FLAT_DATA,
                         .es_limit = ~0U,
                         .es_arbytes = FLAT_DATA,
                         .fs_limit = ~0U,
                         .fs_arbytes = FLAT_DATA,
                         .gs_limit = ~0U,
                         .gs_arbytes = FLAT_DATA,
                         .ss_limit = ~0U,
                         .ss_arbytes = FLAT_DATA,
                         .tr_limit = 0x67,
                         .tr_arbytes = 0x8b,
                         .ldtr_limit = 0xffff,
                         .ldtr_arbytes = 0x82},
                 .end_is = {.typecode = HVM_SAVE_CODE(END)}};
    long rc;

    context.cpu.rip = entry;
    memset(&domctl_op, 0, sizeof(domctl_op));
    domctl_op.u.hvmcontext.size = sizeof(context);
    set_xen_guest_handle(domctl_op.u.hvmcontext.buffer, (uint8_t *)&context);
    rc = domctl(XEN_DOMCTL_sethvmcontext, c->domid);
    if (rc != 0)
        panic("sethvmcontext of d%u: %ld", c->domid, rc);
}

void child_start_pvh(struct child *c, unsigned vcpus, const void *elf)
{
    child_create_kind(c, vcpus, MEMORY_PAGES, true);
    populate(c);
    map_page(U(child_window(c, WINDOW_ANY)), 0);
    set_context(c, load_image(c, elf));
    make_start_info(c);
    c->talk = (void *)window_at(c, WINDOW_TALK, CHILD_PVH_TALK);
    map_page(U(child_window(c, WINDOW_ANY)), 0);
    child_connect(c);
    keep_off_first_cpus(c->domid, vcpus);
    child_unpause(c);
}
