/*
 * ACPI static tables. The firmware's bytes are not trusted: each table is mapped by its header first, then by its
 * length, summed, and only then read, field by field at the offsets of the ACPI specification 6.4 (chapter 5.2).
 * What cannot be used is named in one warning and left out; the rest of the machine goes on without it.
 */
#include "platform/acpi.h"

#include "boot/boot.h"
#include "boot/options.h"
#include "lib/log.h"
#include "lib/string.h"
#include "memory/map.h"

#define HEADER_SIZE 36            /* every table but the RSDP starts with it */
#define TABLE_SIZE_MAX (4U << 20) /* no static table that Croft reads comes near; DSDTs are not read */
#define TABLE_COUNT_MAX 256
#define MAX_APIC_NODES 256

struct acpi_info acpi_info;

/* What SRAT tells of processors, and which proximity domain became which node. */
static struct {
    uint32_t apic_id;
    uint8_t node;
} apic_nodes[MAX_APIC_NODES];
static unsigned apic_node_count;
static uint32_t proximity_of_node[ARRAY_SIZE(acpi_info.distance)];
static uint16_t plain_overrides; /* ISA interrupts whose override leaves trigger and polarity to the bus */

static uint8_t get8(const uint8_t *p, size_t offset) { return p[offset]; }
static uint16_t get16(const uint8_t *p, size_t offset) { return (uint16_t)(p[offset] | p[offset + 1] << 8); }
static uint32_t get32(const uint8_t *p, size_t offset)
{
    return get16(p, offset) | (uint32_t)get16(p, offset + 2) << 16;
}
static uint64_t get64(const uint8_t *p, size_t offset)
{
    return get32(p, offset) | (uint64_t)get32(p, offset + 4) << 32;
}

static bool sums_to_zero(const uint8_t *p, size_t n)
{
    uint8_t sum = 0;

    while (n--)
        sum += *p++;
    return sum == 0;
}

/* Walks the sub-structures of MADT and SRAT: type, length, body. Stops with a warning at one that cannot be. */
struct subtable {
    const uint8_t *p;
    unsigned type, length;
};

static bool next_subtable(const char *table, const uint8_t *t, size_t size, size_t *offset, struct subtable *out)
{
    if (*offset == size)
        return false;
    if (size - *offset < 2 || t[*offset + 1] < 2 || t[*offset + 1] > size - *offset) {
        log_warning("ACPI: %s: entry at offset %zu runs past the table's end; the rest is ignored\n", table, *offset);
        return false;
    }
    out->p = t + *offset;
    out->type = out->p[0];
    out->length = out->p[1];
    *offset += out->length;
    return true;
}

static bool long_enough(const char *table, const struct subtable *s, unsigned length)
{
    if (s->length >= length)
        return true;
    log_warning("ACPI: %s: entry of type %u has %u bytes instead of %u; ignored\n", table, s->type, s->length, length);
    return false;
}

/* --- MADT (5.2.12) --- */

static void add_cpu(uint32_t apic_id, uint32_t acpi_id, uint32_t flags)
{
    if (!(flags & 1))
        return; /* absent, or to be plugged in later */
    for (unsigned i = 0; i < acpi_info.cpu_count; i++)
        if (acpi_info.cpus[i].apic_id == apic_id) {
            log_warning("ACPI: MADT: APIC id %u listed twice; the second is ignored\n", apic_id);
            return;
        }
    if (acpi_info.cpu_count == ARRAY_SIZE(acpi_info.cpus)) {
        log_warning("ACPI: MADT: more than %zu CPUs; APIC id %u is ignored\n", ARRAY_SIZE(acpi_info.cpus), apic_id);
        return;
    }
    acpi_info.cpus[acpi_info.cpu_count++] = (struct acpi_cpu){apic_id, acpi_id, true};
}

static void add_ioapic(const uint8_t *p)
{
    struct acpi_ioapic io = {get8(p, 2), MADDR(get32(p, 4)), get32(p, 8)};

    if (!io.address.n || io.address.n & 15) {
        log_warning("ACPI: MADT: I/O APIC %u at the impossible address 0x%lx; ignored\n", io.id, io.address.n);
        return;
    }
    if (acpi_info.ioapic_count == ARRAY_SIZE(acpi_info.ioapics)) {
        log_warning("ACPI: MADT: more than %zu I/O APICs; id %u is ignored\n", ARRAY_SIZE(acpi_info.ioapics), io.id);
        return;
    }
    acpi_info.ioapics[acpi_info.ioapic_count++] = io;
}

static void add_override(const uint8_t *p)
{
    unsigned polarity = get16(p, 8) & 3, trigger = get16(p, 8) >> 2 & 3; /* 0: as the bus has it, which is ISA */
    struct acpi_override o = {get8(p, 3), get32(p, 4), trigger == 3, polarity == 3};

    if (o.irq > 15) {
        log_warning("ACPI: MADT: override of the ISA interrupt %u, which there is not; ignored\n", o.irq);
        return;
    }
    if (acpi_info.override_count == ARRAY_SIZE(acpi_info.overrides)) {
        log_warning("ACPI: MADT: more than %zu overrides; ISA interrupt %u is ignored\n",
                    ARRAY_SIZE(acpi_info.overrides), o.irq);
        return;
    }
    acpi_info.overrides[acpi_info.override_count++] = o;
    if (!polarity && !trigger)
        plain_overrides |= (uint16_t)(1U << o.irq);
}

static bool parse_madt(const uint8_t *t, size_t size)
{
    size_t offset = 44;
    struct subtable s;

    if (size < offset)
        return false;
    acpi_info.lapic_address = MADDR(get32(t, 36));
    while (next_subtable("MADT", t, size, &offset, &s)) {
        switch (s.type) {
        case 0: /* local APIC */
            if (long_enough("MADT", &s, 8) && get8(s.p, 3) != 0xff)
                add_cpu(get8(s.p, 3), get8(s.p, 2), get32(s.p, 4));
            break;
        case 1: /* I/O APIC */
            if (long_enough("MADT", &s, 12))
                add_ioapic(s.p);
            break;
        case 2: /* interrupt source override */
            if (long_enough("MADT", &s, 10))
                add_override(s.p);
            break;
        case 5: /* address of the local APIC, 64 bits */
            if (long_enough("MADT", &s, 12))
                acpi_info.lapic_address = MADDR(get64(s.p, 4));
            break;
        case 9: /* local x2APIC */
            if (long_enough("MADT", &s, 16) && get32(s.p, 4) != 0xffffffff)
                add_cpu(get32(s.p, 4), get32(s.p, 12), get32(s.p, 8));
            break;
        default:
            break; /* NMI sources and what other architectures have */
        }
    }
    if (!acpi_info.cpu_count)
        log_warning("ACPI: MADT: lists no CPU\n");
    return true;
}

/* --- FADT (5.2.9) --- */

/* A port given by its 32-bit field or, that being zero, by the generic address at 'generic' in later revisions. */
static uint16_t fadt_port(const uint8_t *t, size_t size, size_t legacy, size_t generic, const char *what)
{
    uint64_t port = get32(t, legacy);

    if (!port && size >= generic + 12 && get8(t, generic) == 1)
        port = get64(t, generic + 4);
    if (port > 0xffff) {
        log_warning("ACPI: FADT: %s at 0x%lx is no I/O port; ignored\n", what, port);
        port = 0;
    }
    return (uint16_t)port;
}

static bool parse_fadt(const uint8_t *t, size_t size)
{
    uint32_t flags;

    if (size < 116)
        return false;
    flags = get32(t, 112);
    acpi_info.sci = get16(t, 46);
    acpi_info.pm1a_control = fadt_port(t, size, 64, 172, "PM1a control");
    acpi_info.pm1b_control = fadt_port(t, size, 68, 184, "PM1b control");
    acpi_info.pm_timer_port = fadt_port(t, size, 76, 208, "PM timer");
    acpi_info.pm_timer_32bit = flags & 1U << 8;
    acpi_info.century = get8(t, 108);
    if (size >= 129 && flags & 1U << 10) {
        acpi_info.reset_space = get8(t, 116);
        acpi_info.reset_address = get64(t, 120);
        acpi_info.reset_value = get8(t, 128);
        acpi_info.reset_supported = acpi_info.reset_space <= 2 && acpi_info.reset_address &&
                                    (acpi_info.reset_space != 1 || acpi_info.reset_address <= 0xffff);
        if (!acpi_info.reset_supported)
            log_warning("ACPI: FADT: reset register at 0x%lx in address space %u cannot be used\n",
                        acpi_info.reset_address, acpi_info.reset_space);
    }
    return true;
}

/* --- HPET, MCFG --- */

static bool parse_hpet(const uint8_t *t, size_t size)
{
    if (size < 56)
        return false;
    if (get8(t, 40) != 0 || !get64(t, 44) || get64(t, 44) & 7) {
        log_warning("ACPI: HPET: block at 0x%lx in address space %u cannot be used\n", get64(t, 44), get8(t, 40));
        return true;
    }
    acpi_info.hpet = MADDR(get64(t, 44));
    return true;
}

static bool parse_mcfg(const uint8_t *t, size_t size)
{
    if (size < 44)
        return false;
    for (size_t offset = 44; size - offset >= 16; offset += 16) {
        struct acpi_mcfg m = {MADDR(get64(t, offset)), get16(t, offset + 8), get8(t, offset + 10),
                              get8(t, offset + 11)};

        if (!m.base.n || m.base.n & ((1UL << 20) - 1) || m.bus_end < m.bus_start) {
            log_warning("ACPI: MCFG: window at 0x%lx for buses %u-%u cannot be; ignored\n", m.base.n, m.bus_start,
                        m.bus_end);
            continue;
        }
        if (acpi_info.mcfg_count == ARRAY_SIZE(acpi_info.mcfg)) {
            log_warning("ACPI: MCFG: more than %zu windows; the rest is ignored\n", ARRAY_SIZE(acpi_info.mcfg));
            break;
        }
        acpi_info.mcfg[acpi_info.mcfg_count++] = m;
    }
    return true;
}

/* --- SRAT (5.2.16), SLIT (5.2.17) --- */

/* Proximity domains are any numbers; nodes are dense. All ones if there are too many. */
static unsigned node_of_proximity(uint32_t proximity, bool add)
{
    for (unsigned i = 0; i < acpi_info.node_count; i++)
        if (proximity_of_node[i] == proximity)
            return i;
    if (!add)
        return ~0U;
    if (acpi_info.node_count == ARRAY_SIZE(proximity_of_node)) {
        log_warning("ACPI: SRAT: more than %zu nodes; proximity domain %u counts as node 0\n",
                    ARRAY_SIZE(proximity_of_node), proximity);
        return 0;
    }
    proximity_of_node[acpi_info.node_count] = proximity;
    return acpi_info.node_count++;
}

static void add_apic_node(uint32_t apic_id, uint32_t proximity)
{
    if (apic_node_count == MAX_APIC_NODES)
        return; /* as many as MADT may list */
    apic_nodes[apic_node_count].apic_id = apic_id;
    apic_nodes[apic_node_count++].node = (uint8_t)node_of_proximity(proximity, true);
}

static void add_memory_node(uint64_t start, uint64_t size, uint32_t proximity)
{
    if (!size)
        return;
    if (start + size < start) {
        log_warning("ACPI: SRAT: memory at 0x%lx of 0x%lx bytes wraps around; ignored\n", start, size);
        return;
    }
    if (acpi_info.memory_node_count == ARRAY_SIZE(acpi_info.memory_nodes)) {
        log_warning("ACPI: SRAT: more than %zu memory ranges; 0x%lx is ignored\n", ARRAY_SIZE(acpi_info.memory_nodes),
                    start);
        return;
    }
    acpi_info.memory_nodes[acpi_info.memory_node_count++] =
        (struct acpi_memory_node){start, size, node_of_proximity(proximity, true)};
}

static bool parse_srat(const uint8_t *t, size_t size)
{
    size_t offset = 48;
    struct subtable s;

    if (size < offset)
        return false;
    while (next_subtable("SRAT", t, size, &offset, &s)) {
        switch (s.type) {
        case 0: /* processor by APIC id */
            if (long_enough("SRAT", &s, 16) && get32(s.p, 4) & 1)
                add_apic_node(get8(s.p, 3), get8(s.p, 2) | (get32(s.p, 8) & 0xffffff00));
            break;
        case 1: /* memory */
            if (long_enough("SRAT", &s, 40) && get32(s.p, 28) & 1)
                add_memory_node(get64(s.p, 8), get64(s.p, 16), get32(s.p, 2));
            break;
        case 2: /* processor by x2APIC id */
            if (long_enough("SRAT", &s, 24) && get32(s.p, 12) & 1)
                add_apic_node(get32(s.p, 8), get32(s.p, 4));
            break;
        default:
            break;
        }
    }
    return true;
}

static bool parse_slit(const uint8_t *t, size_t size)
{
    uint64_t n;

    if (size < 44)
        return false;
    n = get64(t, 36);
    if (n > 256 || n * n > size - 44) {
        log_warning("ACPI: SLIT: %lu localities do not fit into %zu bytes\n", n, size);
        return false;
    }
    for (unsigned i = 0; i < n; i++)
        for (unsigned j = 0; j < n; j++) {
            unsigned a = node_of_proximity(i, false), b = node_of_proximity(j, false);
            uint8_t d = t[44 + i * n + j];

            if (a != ~0U && b != ~0U && d >= 10) /* below 10 is reserved: the default stays */
                acpi_info.distance[a][b] = d;
        }
    return true;
}

static const struct {
    char signature[5];
    bool needed; /* worth a warning if it is not there */
    bool (*parse)(const uint8_t *table, size_t size);
} parsers[] = {
    {"APIC", true, parse_madt},  {"FACP", true, parse_fadt},  {"HPET", false, parse_hpet},
    {"MCFG", false, parse_mcfg}, {"SRAT", false, parse_srat}, {"SLIT", false, parse_slit}, /* SLIT after SRAT */
};

bool acpi_parse_table(const void *table, size_t size)
{
    const uint8_t *t = table;
    size_t length;

    if (size < HEADER_SIZE) {
        log_warning("ACPI: a table of %zu bytes is too short for a header; ignored\n", size);
        return false;
    }
    length = get32(t, 4);
    for (unsigned i = 0; i < ARRAY_SIZE(parsers); i++) {
        if (memcmp(t, parsers[i].signature, 4) != 0)
            continue;
        if (length < HEADER_SIZE || length > size) {
            log_warning("ACPI: %s: impossible length %zu; ignored\n", parsers[i].signature, length);
            return false;
        }
        if (!sums_to_zero(t, length)) {
            log_warning("ACPI: %s: wrong checksum; ignored\n", parsers[i].signature);
            return false;
        }
        if (!parsers[i].parse(t, length)) {
            log_warning("ACPI: %s: %zu bytes are too few or do not fit together; ignored\n", parsers[i].signature,
                        length);
            return false;
        }
        return true;
    }
    return false; /* not one that Croft reads */
}

/* --- Finding them --- */

static bool rsdp_valid(const uint8_t *p) { return memcmp(p, "RSD PTR ", 8) == 0 && sums_to_zero(p, 20); }

static const uint8_t *search_rsdp(uint64_t start, size_t size)
{
    const uint8_t *p = map_firmware(MADDR(start), size);

    if (!p)
        return NULL;
    for (size_t i = 0; i + HEADER_SIZE <= size; i += 16)
        if (rsdp_valid(p + i)) {
            acpi_info.rsdp = MADDR(start + i);
            return p + i;
        }
    return NULL;
}

/* UEFI lists the RSDP in its configuration table (UEFI specification 4.3, 4.6). */
static const uint8_t *rsdp_from_efi(void)
{
    static const uint8_t acpi20[16] = {0x71, 0xe8, 0x68, 0x88, 0xf1, 0xe4, 0xd3, 0x11,
                                       0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81};
    const uint8_t *system, *list;
    uint64_t count;

    if (!boot_info.efi_system_table.n)
        return NULL;
    system = map_firmware(boot_info.efi_system_table, 120);
    if (!system || memcmp(system, "IBI SYST", 8) != 0)
        return NULL;
    count = get64(system, 104);
    if (!count || count > 1024 || !get64(system, 112))
        return NULL;
    list = map_firmware(MADDR(get64(system, 112)), count * 24);
    for (unsigned i = 0; list && i < count; i++)
        if (memcmp(list + i * 24, acpi20, 16) == 0) {
            maddr_t at = MADDR(get64(list, i * 24 + 16));
            const uint8_t *p = map_firmware(at, HEADER_SIZE);

            if (p && rsdp_valid(p)) {
                acpi_info.rsdp = at;
                return p;
            }
        }
    return NULL;
}

static const uint8_t *find_rsdp(void)
{
    const uint8_t *p = rsdp_from_efi(), *bda;
    uint32_t ebda;

    if (p)
        return p;
    if (rsdp_valid(boot_info.rsdp_copy)) {
        acpi_info.rsdp = boot_info.rsdp;
        return boot_info.rsdp_copy;
    }
    bda = map_firmware(MADDR(0x400), 0x100);
    ebda = bda ? (uint32_t)get16(bda, 0x0e) << 4 : 0;
    if (ebda >= 0x400 && ebda <= 0xa0000 - 0x400)
        p = search_rsdp(ebda, 0x400);
    return p ? p : search_rsdp(0xe0000, 0x20000);
}

/* Maps a table by its header, then as long as it says. Null if it cannot be one. */
static const uint8_t *map_table(uint64_t address, size_t *size)
{
    const uint8_t *t = address ? map_firmware(MADDR(address), HEADER_SIZE) : NULL;
    uint32_t length;

    if (!t)
        return NULL;
    length = get32(t, 4);
    if (length < HEADER_SIZE || length > TABLE_SIZE_MAX) {
        log_warning("ACPI: table at 0x%lx has the impossible length %u; ignored\n", address, length);
        return NULL;
    }
    *size = length;
    return map_firmware(MADDR(address), length);
}

/* The root table: XSDT if there is a good one, else RSDT. */
static const uint8_t *find_root(const uint8_t *rsdp, size_t *size, bool *wide)
{
    const uint8_t *root;

    if (get8(rsdp, 15) >= 2 && get64(rsdp, 24) && sums_to_zero(rsdp, HEADER_SIZE)) {
        *wide = true;
        root = map_table(get64(rsdp, 24), size);
        if (root && memcmp(root, "XSDT", 4) == 0 && sums_to_zero(root, *size))
            return root;
        log_warning("ACPI: XSDT at 0x%lx: not there or wrong checksum; using the RSDT\n", get64(rsdp, 24));
    }
    *wide = false;
    root = map_table(get32(rsdp, 16), size);
    if (root && memcmp(root, "RSDT", 4) == 0 && sums_to_zero(root, *size))
        return root;
    log_warning("ACPI: RSDT at 0x%x: not there or wrong checksum; ACPI is not used\n", get32(rsdp, 16));
    return NULL;
}

static void set_defaults(void)
{
    memset(&acpi_info, 0, sizeof(acpi_info));
    apic_node_count = 0;
    plain_overrides = 0;
    acpi_info.lapic_address = MADDR(0xfee00000);
    for (unsigned i = 0; i < ARRAY_SIZE(acpi_info.distance); i++)
        for (unsigned j = 0; j < ARRAY_SIZE(acpi_info.distance); j++)
            acpi_info.distance[i][j] = i == j ? 10 : 20;
}

static void read_tables(const uint8_t *root, size_t size, bool wide)
{
    const uint8_t *tables[TABLE_COUNT_MAX];
    size_t sizes[TABLE_COUNT_MAX];
    size_t width = wide ? 8 : 4, count = (size - HEADER_SIZE) / width, kept = 0;

    if (count > TABLE_COUNT_MAX) {
        log_warning("ACPI: %s lists %zu tables; only the first %u are looked at\n", wide ? "XSDT" : "RSDT", count,
                    TABLE_COUNT_MAX);
        count = TABLE_COUNT_MAX;
    }
    for (size_t i = 0; i < count; i++) {
        size_t at = HEADER_SIZE + i * width;
        const uint8_t *t = map_table(wide ? get64(root, at) : get32(root, at), &sizes[kept]);

        if (t)
            tables[kept++] = t;
    }
    for (unsigned p = 0; p < ARRAY_SIZE(parsers); p++) {
        bool done = false;

        for (size_t i = 0; i < kept && !done; i++)
            if (memcmp(tables[i], parsers[p].signature, 4) == 0)
                done = acpi_parse_table(tables[i], sizes[i]);
        if (!done && parsers[p].needed)
            log_warning("ACPI: there is no usable %s\n", parsers[p].signature);
    }
}

/* The ACPI interrupt is level-triggered and active low where nothing else is said (5.2.9, SCI_INT). */
static void fix_sci(void)
{
    for (unsigned i = 0; i < acpi_info.override_count; i++) {
        struct acpi_override *o = &acpi_info.overrides[i];

        if (acpi_info.sci && o->irq == acpi_info.sci && plain_overrides & 1U << o->irq)
            o->level = o->active_low = true;
    }
}

static void find_and_read(void)
{
    const uint8_t *rsdp, *root;
    size_t size;
    bool wide;

    if (options.acpi_off) {
        log_info("ACPI: not used (acpi=off): one CPU, no I/O APIC\n");
        return;
    }
    rsdp = find_rsdp();
    if (!rsdp) {
        log_warning("ACPI: no RSDP found: one CPU, no I/O APIC; if the firmware has an ACPI setting, switch it on\n");
        return;
    }
    root = find_root(rsdp, &size, &wide);
    if (!root)
        return;
    read_tables(root, size, wide);
    fix_sci();
    log_info("ACPI: %u CPUs, %u I/O APICs, %u overrides, %u nodes%s%s\n", acpi_info.cpu_count, acpi_info.ioapic_count,
             acpi_info.override_count, max(acpi_info.node_count, 1U), acpi_info.hpet.n ? ", HPET" : "",
             acpi_info.mcfg_count ? ", MCFG" : "");
}

void acpi_init(void)
{
    set_defaults();
    find_and_read();
    if (!acpi_info.node_count)
        acpi_info.node_count = 1; /* no SRAT: all is node 0 */
}

unsigned acpi_node_of_apic(uint32_t apic_id)
{
    for (unsigned i = 0; i < apic_node_count; i++)
        if (apic_nodes[i].apic_id == apic_id)
            return apic_nodes[i].node;
    return 0;
}

unsigned acpi_node_of_maddr(maddr_t a)
{
    for (unsigned i = 0; i < acpi_info.memory_node_count; i++)
        if (a.n - acpi_info.memory_nodes[i].start < acpi_info.memory_nodes[i].size)
            return acpi_info.memory_nodes[i].node;
    return 0;
}
