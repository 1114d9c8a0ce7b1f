/*
 * What the boot loader left in memory: multiboot 1 (QEMU -kernel, GRUB's multiboot command) and multiboot 2 (GRUB's
 * multiboot2 command, on BIOS and UEFI). All of it is copied to boot_info, because the memory it lies in is given to
 * the allocator afterwards. Every read goes through struct boot_memory and is checked against its bounds.
 * Sources: "Multiboot Specification" 0.6.96, "Multiboot2 Specification" 2.0, UEFI 2.10 section 7.2.3.
 */
#include "boot/boot.h"

#include "lib/log.h"
#include "lib/string.h"
#include "memory/layout.h"

struct boot_info boot_info;

/* Multiboot 1, 3.3 */
#define MB1_INFO_MEMORY (1U << 0)
#define MB1_INFO_CMDLINE (1U << 2)
#define MB1_INFO_MODULES (1U << 3)
#define MB1_INFO_MMAP (1U << 6)
#define MB1_INFO_LOADER (1U << 9)
#define MB1_INFO_FRAMEBUFFER (1U << 12)
#define MULTIBOOT_FRAMEBUFFER_RGB 1

struct mb1_info {
    uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4], mmap_length, mmap_addr,
        drives_length, drives_addr, config_table, boot_loader_name, apm_table, vbe_control_info, vbe_mode_info;
    uint16_t vbe_mode, vbe_interface_seg, vbe_interface_off, vbe_interface_len;
    uint64_t framebuffer_addr;
    uint32_t framebuffer_pitch, framebuffer_width, framebuffer_height;
    uint8_t framebuffer_bpp, framebuffer_type, framebuffer_rgb[6];
} __packed;
struct mb1_module {
    uint32_t start, end, string, reserved;
};
struct mb1_mmap {
    uint32_t size;
    uint64_t start, length;
    uint32_t type;
} __packed; /* 'size' does not count itself */

/* Multiboot 2, 3.6 */
enum {
    MB2_END,
    MB2_CMDLINE,
    MB2_LOADER,
    MB2_MODULE,
    MB2_BASIC_MEMORY,
    MB2_MMAP = 6,
    MB2_FRAMEBUFFER = 8,
    MB2_EFI32 = 11,
    MB2_EFI64,
    MB2_ACPI_OLD = 14,
    MB2_ACPI_NEW,
    MB2_EFI_MMAP = 17,
    MB2_EFI_BOOT_SERVICES
};

struct mb2_tag {
    uint32_t type, size;
};
struct mb2_mmap {
    uint64_t start, length;
    uint32_t type, reserved;
};
struct mb2_framebuffer {
    uint64_t address;
    uint32_t pitch, width, height;
    uint8_t bpp, type;
    uint16_t reserved;
    uint8_t rgb[6];
} __packed;

/* UEFI 2.10, 7.2.3 EFI_BOOT_SERVICES.GetMemoryMap() */
struct efi_memory_descriptor {
    uint32_t type, pad;
    uint64_t physical, virtual, pages, attribute;
};
enum {
    EFI_LOADER_CODE = 1,
    EFI_LOADER_DATA,
    EFI_BOOT_CODE,
    EFI_BOOT_DATA,
    EFI_CONVENTIONAL = 7,
    EFI_UNUSABLE,
    EFI_ACPI_RECLAIM,
    EFI_ACPI_NVS
};
#define EFI_MEMORY_WB (1UL << 3)

/* Addresses above this do not exist: physical addresses have at most 52 bits. */
#define MAX_PHYSICAL (1UL << 52)

#define MAX_RAW_RANGES 1024
struct raw_map {
    unsigned count;
    bool overflow;
    struct boot_range ranges[MAX_RAW_RANGES];
};
static struct raw_map raw __initdata;

static const void *at(const struct boot_memory *m, uint64_t address, uint64_t size)
{
    if (address < m->start || address - m->start > m->size || size > m->size - (address - m->start))
        return NULL;
    return m->base + (address - m->start);
}

/* A text that ends within 'limit' bytes; cut to the destination's size. False if it is not in memory. */
static bool copy_text(const struct boot_memory *m, uint64_t address, uint64_t limit, char *to, size_t size)
{
    const char *from = at(m, address, 1);

    if (!from)
        return false;
    limit = min(limit, m->size - (address - m->start));
    size_t n = strnlen(from, min(limit, (uint64_t)size - 1));

    memcpy(to, from, n);
    to[n] = 0;
    return true;
}

/*
 * Some loaders put the file's name in front of the arguments: QEMU and GRUB 0.97 always, GRUB 2 never (so its
 * configuration scripts write "placeholder" there). A name is also told by a slash without an equals sign.
 */
static void drop_file_name(char *text, const char *loader)
{
    char *start = text, *end;
    bool always = !strcmp(loader, "qemu") || !strncmp(loader, "GNU GRUB 0.", 11);

    while (*start == ' ')
        start++;
    for (end = start; *end && *end != ' ';)
        end++;
    size_t n = end - start;
    bool path = memchr(start, '/', n) && !memchr(start, '=', n);

    if (!always && !path && !(n == 11 && !memcmp(start, "placeholder", 11)))
        end = start;
    while (*end == ' ')
        end++;
    memmove(text, end, strlen(end) + 1);
}

static void add_range(struct raw_map *map, uint64_t start, uint64_t size, uint32_t type)
{
    if (type < BOOT_RAM || type > BOOT_BAD)
        type = BOOT_RESERVED;
    if (start >= MAX_PHYSICAL || !size)
        return;
    size = min(size, MAX_PHYSICAL - start);
    struct boot_range *last = map->count ? &map->ranges[map->count - 1] : NULL;

    if (last && last->type == type && last->start + last->size == start) { /* UEFI maps have long runs of these */
        last->size += size;
        return;
    }
    if (map->count == MAX_RAW_RANGES) {
        map->overflow = true;
        return;
    }
    map->ranges[map->count++] = (struct boot_range){start, size, type};
}

static unsigned strictness(uint32_t type)
{
    static const uint8_t order[] = {
        [BOOT_RAM] = 1, [BOOT_ACPI] = 2, [BOOT_NVS] = 3, [BOOT_RESERVED] = 4, [BOOT_BAD] = 5};

    return type < ARRAY_SIZE(order) && type ? order[type] : order[BOOT_RESERVED];
}

unsigned boot_normalise_ranges(const struct boot_range *in, unsigned count, struct boot_range *out, unsigned max)
{
    uint64_t position = 0;
    unsigned n = 0;
    bool joined = false; /* the last range written ends at 'position' */

    /* One pass from boundary to boundary: between two of them the strictest range that covers the place decides. */
    for (;;) {
        uint64_t next = ~0UL;
        uint32_t type = 0;

        for (unsigned i = 0; i < count; i++) {
            uint64_t start = in[i].start, end = start + in[i].size;

            if (end < start)
                end = ~0UL;
            if (start > position)
                next = min(next, start);
            else if (end > position) {
                next = min(next, end);
                if (!type || strictness(in[i].type) > strictness(type))
                    type = in[i].type;
            }
        }
        if (type) {
            if (joined && n && n <= max && out[n - 1].type == type)
                out[n - 1].size += next - position;
            else if (n++ < max)
                out[n - 1] = (struct boot_range){position, next - position, type};
        }
        joined = type != 0;
        if (next == ~0UL)
            return n;
        position = next;
    }
}

static const char *add_module(struct boot_info *b, const struct boot_memory *m, uint32_t start, uint32_t end,
                              uint64_t text, uint64_t text_limit)
{
    if (end < start)
        return "a module ends before it starts: the boot loader's information is corrupt";
    if (b->module_count == BOOT_MAX_MODULES)
        return NULL; /* more than anybody reads */
    struct boot_module *module = &b->modules[b->module_count++];

    module->start = MADDR(start);
    module->size = end - start;
    if (text && !copy_text(m, text, text_limit, module->cmdline, sizeof(module->cmdline)))
        return "a module's command line is not in memory: the boot loader's information is corrupt";
    return NULL;
}

static const char *parse_mb1(struct boot_info *b, uint32_t address, const struct boot_memory *m, struct raw_map *map)
{
    struct mb1_info info = {0};
    const void *p = at(m, address, offsetof(struct mb1_info, framebuffer_addr));

    if (!p)
        return "the multiboot information is not in memory";
    memcpy(&info, p, offsetof(struct mb1_info, framebuffer_addr));
    if (info.flags & MB1_INFO_FRAMEBUFFER && (p = at(m, address, sizeof(info))) != NULL) {
        memcpy(&info, p, sizeof(info));
        if (info.framebuffer_type == MULTIBOOT_FRAMEBUFFER_RGB) {
            b->framebuffer.present = true;
            b->framebuffer.address = MADDR(info.framebuffer_addr);
            b->framebuffer.pitch = info.framebuffer_pitch;
            b->framebuffer.width = info.framebuffer_width;
            b->framebuffer.height = info.framebuffer_height;
            b->framebuffer.bpp = info.framebuffer_bpp;
            memcpy(b->framebuffer.rgb, info.framebuffer_rgb, sizeof(b->framebuffer.rgb));
        }
    }
    if (info.flags & MB1_INFO_LOADER)
        copy_text(m, info.boot_loader_name, ~0UL, b->loader, sizeof(b->loader));
    if (info.flags & MB1_INFO_CMDLINE && !copy_text(m, info.cmdline, ~0UL, b->cmdline, sizeof(b->cmdline)))
        return "the command line is not in memory: the boot loader's information is corrupt";
    if (info.flags & MB1_INFO_MODULES) {
        if (info.mods_count && !at(m, info.mods_addr, (uint64_t)info.mods_count * sizeof(struct mb1_module)))
            return "the list of modules is not in memory: the boot loader's information is corrupt";
        for (uint32_t i = 0; i < info.mods_count; i++) {
            struct mb1_module module;
            const char *error;

            memcpy(&module, at(m, info.mods_addr + (uint64_t)i * sizeof(module), sizeof(module)), sizeof(module));
            error = add_module(b, m, module.start, module.end, module.string, ~0UL);
            if (error)
                return error;
        }
    }
    if (info.flags & MB1_INFO_MMAP) {
        if (!at(m, info.mmap_addr, info.mmap_length))
            return "the memory map is not in memory: the boot loader's information is corrupt";
        for (uint64_t i = 0; i + sizeof(struct mb1_mmap) <= info.mmap_length;) {
            struct mb1_mmap entry;

            memcpy(&entry, at(m, info.mmap_addr + i, sizeof(entry)), sizeof(entry));
            if (entry.size < sizeof(entry) - sizeof(entry.size))
                return "the memory map has an entry that is too short: the boot loader's information is corrupt";
            add_range(map, entry.start, entry.length, entry.type);
            i += (uint64_t)entry.size + sizeof(entry.size);
        }
    } else if (info.flags & MB1_INFO_MEMORY) {
        add_range(map, 0, (uint64_t)info.mem_lower << 10, BOOT_RAM);
        add_range(map, 1UL << 20, (uint64_t)info.mem_upper << 10, BOOT_RAM);
    }
    return NULL;
}

static void add_efi_range(struct raw_map *map, const struct efi_memory_descriptor *d, bool boot_services_alive)
{
    uint32_t type = BOOT_RESERVED;

    switch (d->type) {
    case EFI_BOOT_CODE:
    case EFI_BOOT_DATA:
        if (boot_services_alive)
            break;
        /* fall through */
    case EFI_LOADER_CODE:
    case EFI_LOADER_DATA:
    case EFI_CONVENTIONAL:
        if (d->attribute & EFI_MEMORY_WB)
            type = BOOT_RAM;
        break;
    case EFI_UNUSABLE:
        type = BOOT_BAD;
        break;
    case EFI_ACPI_RECLAIM:
        type = BOOT_ACPI;
        break;
    case EFI_ACPI_NVS:
        type = BOOT_NVS;
        break;
    }
    if (d->pages <= MAX_PHYSICAL >> PAGE_SHIFT)
        add_range(map, d->physical, d->pages << PAGE_SHIFT, type);
}

/* What a tag tells, with 'body' and 'n' its content. The memory maps come later, when it is known which one counts. */
static const char *parse_mb2_tag(struct boot_info *b, const struct boot_memory *m, uint32_t type, uint64_t address,
                                 const uint8_t *body, uint32_t n)
{
    uint32_t words[2];
    uint64_t pointer = 0;
    struct mb2_framebuffer fb;

    switch (type) {
    case MB2_CMDLINE:
        copy_text(m, address, n, b->cmdline, sizeof(b->cmdline));
        break;
    case MB2_LOADER:
        copy_text(m, address, n, b->loader, sizeof(b->loader));
        break;
    case MB2_MODULE:
        if (n < sizeof(words))
            return "a module tag is too short: the boot loader's information is corrupt";
        memcpy(words, body, sizeof(words));
        return add_module(b, m, words[0], words[1], n > sizeof(words) ? address + sizeof(words) : 0, n - sizeof(words));
    case MB2_FRAMEBUFFER:
        if (n < sizeof(fb))
            break;
        memcpy(&fb, body, sizeof(fb));
        if (fb.type != MULTIBOOT_FRAMEBUFFER_RGB)
            break;
        b->framebuffer.present = true;
        b->framebuffer.address = MADDR(fb.address);
        b->framebuffer.pitch = fb.pitch;
        b->framebuffer.width = fb.width;
        b->framebuffer.height = fb.height;
        b->framebuffer.bpp = fb.bpp;
        memcpy(b->framebuffer.rgb, fb.rgb, sizeof(fb.rgb));
        break;
    case MB2_EFI32:
    case MB2_EFI64:
        if (n >= (type == MB2_EFI64 ? 8 : 4)) {
            memcpy(&pointer, body, type == MB2_EFI64 ? 8 : 4);
            b->efi_system_table = MADDR(pointer);
        }
        break;
    case MB2_ACPI_OLD: /* the RSDP of ACPI 1.0 has 20 bytes */
    case MB2_ACPI_NEW:
        if (n < 20 || (type == MB2_ACPI_OLD && b->rsdp.n))
            break;
        memset(b->rsdp_copy, 0, sizeof(b->rsdp_copy));
        memcpy(b->rsdp_copy, body, min((size_t)n, sizeof(b->rsdp_copy)));
        b->rsdp = MADDR(address);
        break;
    }
    return NULL;
}

static const char *parse_mb2_maps(const struct boot_memory *m, uint64_t mmap, uint32_t mmap_size, uint64_t efi_mmap,
                                  uint32_t efi_size, bool boot_services_alive, struct raw_map *map)
{
    uint32_t head[2]; /* entry size, version */

    if (mmap && mmap_size >= sizeof(head)) {
        struct mb2_mmap entry;

        memcpy(head, at(m, mmap, sizeof(head)), sizeof(head));
        if (head[0] < sizeof(entry))
            return "the memory map has entries that are too short: the boot loader's information is corrupt";
        for (uint64_t i = sizeof(head); i + sizeof(entry) <= mmap_size; i += head[0]) {
            memcpy(&entry, at(m, mmap + i, sizeof(entry)), sizeof(entry));
            add_range(map, entry.start, entry.length, entry.type);
        }
    } else if (efi_mmap && efi_size >= sizeof(head)) {
        struct efi_memory_descriptor d;

        memcpy(head, at(m, efi_mmap, sizeof(head)), sizeof(head));
        if (head[0] < sizeof(d))
            return "the UEFI memory map has entries that are too short: the boot loader's information is corrupt";
        for (uint64_t i = sizeof(head); i + sizeof(d) <= efi_size; i += head[0]) {
            memcpy(&d, at(m, efi_mmap + i, sizeof(d)), sizeof(d));
            add_efi_range(map, &d, boot_services_alive);
        }
    }
    return NULL;
}

static const char *parse_mb2(struct boot_info *b, uint32_t address, const struct boot_memory *m, struct raw_map *map)
{
    uint64_t mmap = 0, efi_mmap = 0;
    uint32_t mmap_size = 0, efi_size = 0, basic[2] = {0, 0}, total;
    bool boot_services_alive = false;
    const void *head = at(m, address, 8);

    if (!head)
        return "the multiboot information is not in memory";
    memcpy(&total, head, sizeof(total));
    if (total < 8 || !at(m, address, total))
        return "the multiboot information has an absurd size: it is corrupt";
    for (uint64_t offset = 8; offset + sizeof(struct mb2_tag) <= total;) {
        struct mb2_tag tag;
        const char *error;

        memcpy(&tag, at(m, address + offset, sizeof(tag)), sizeof(tag));
        if (tag.size < sizeof(tag) || tag.size > total - offset)
            return "a multiboot tag has an absurd size: the boot loader's information is corrupt";
        if (tag.type == MB2_END)
            break;
        uint64_t body = address + offset + sizeof(tag);
        uint32_t n = tag.size - sizeof(tag);

        if (tag.type == MB2_MMAP) {
            mmap = body;
            mmap_size = n;
        } else if (tag.type == MB2_EFI_MMAP) {
            efi_mmap = body;
            efi_size = n;
        } else if (tag.type == MB2_EFI_BOOT_SERVICES) {
            boot_services_alive = true;
        } else if (tag.type == MB2_BASIC_MEMORY && n >= sizeof(basic)) {
            memcpy(basic, at(m, body, sizeof(basic)), sizeof(basic));
        } else if ((error = parse_mb2_tag(b, m, tag.type, body, at(m, body, n), n)) != NULL) {
            return error;
        }
        offset += ROUND_UP((uint64_t)tag.size, 8);
    }
    const char *error = parse_mb2_maps(m, mmap, mmap_size, efi_mmap, efi_size, boot_services_alive, map);

    if (!error && !map->count && !map->overflow) {
        add_range(map, 0, (uint64_t)basic[0] << 10, BOOT_RAM);
        add_range(map, 1UL << 20, (uint64_t)basic[1] << 10, BOOT_RAM);
    }
    return error;
}

const char *boot_parse_multiboot(struct boot_info *b, uint32_t magic, uint32_t info, const struct boot_memory *m)
{
    const char *error;

    raw.count = 0;
    raw.overflow = false;
    if (magic == MULTIBOOT1_MAGIC) {
        b->protocol = "multiboot 1";
        error = parse_mb1(b, info, m, &raw);
    } else if (magic == MULTIBOOT2_MAGIC) {
        b->protocol = "multiboot 2";
        error = parse_mb2(b, info, m, &raw);
    } else {
        return "not started by a multiboot loader: use QEMU's -kernel, or multiboot2 in GRUB";
    }
    if (error)
        return error;
    drop_file_name(b->cmdline, b->loader);
    for (unsigned i = 0; i < b->module_count; i++)
        drop_file_name(b->modules[i].cmdline, b->loader);
    b->range_count =
        raw.overflow ? BOOT_MAX_RANGES + 1 : boot_normalise_ranges(raw.ranges, raw.count, b->ranges, BOOT_MAX_RANGES);
    if (b->range_count > BOOT_MAX_RANGES) {
        b->range_count = 0;
        return "the memory map has more entries than Croft can hold";
    }
    for (unsigned i = 0; i < b->range_count; i++)
        if (b->ranges[i].type == BOOT_RAM)
            return NULL;
    return "the boot loader gave no memory map, or one without RAM";
}

void __init boot_parse(uint32_t magic, uint32_t info)
{
    /* The boot page tables map the first 4 GiB at their own addresses; page 0 has nothing for us. */
    struct boot_memory memory = {(const uint8_t *)PAGE_SIZE, PAGE_SIZE, (4UL << 30) - PAGE_SIZE};
    const char *error = boot_parse_multiboot(&boot_info, magic, info, &memory);

    if (error)
        boot_fail("%s\n", error);
    if (boot_info.rsdp.n) /* the loader's copy is not safe for long; ours is */
        boot_info.rsdp = MADDR((unsigned long)boot_info.rsdp_copy - IMAGE_START + IMAGE_PHYS);
}
