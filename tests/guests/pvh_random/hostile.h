/* Within the random PVH guest: its memory, and what it does. */
#ifndef PVH_HOSTILE_H
#define PVH_HOSTILE_H

#include "../kit/pvh/pvh.h"
#include "random/random.h"

#define PAGES 24U /* of data, at DATA_AT one after the other, and at TEST_VA */
#define TABLES 8U /* page tables that it changes; the first three are those of TEST_VA, from the lowest level on */
#define SLOTS 64U /* for mappings, from TEST_VA on */
#define DATA_AT 0x300000UL
#define MEMORY_END 0x400000UL /* kit/child_pvh.c */
#define GRANT_AT 0xd0000000UL /* two grant frames */
/* Two pages of code and one of stack for each vcpu, which its user mode can reach, 32-bit code too */
#define LOW_VA 0x80000000UL
#define CODE_VA(v) (LOW_VA + (v)*4 * PAGE_SIZE)
#define CODE_PAGES 2U

extern uint64_t *tables[TABLES];
extern uint8_t *requests[RANDOM_VCPUS], *code_pages[RANDOM_VCPUS];
extern uint64_t *low_table; /* the entries of LOW_VA */
static inline uint64_t *low_entries(unsigned v) { return low_table + v * 4; }
static inline uint8_t *data_page(unsigned i) { return (uint8_t *)(DATA_AT + i * PAGE_SIZE); }
static inline unsigned this_vcpu(void) { return vcpu_id() % RANDOM_VCPUS; }

uint64_t any_entry(void);
uint64_t any_plain_address(void); /* where there is memory, unless it took that away */
void keep(uint8_t *page);         /* there is, if there can be */

/* Each does something of its kind; false: a trap ended it. */
bool run_code(void);
bool access_memory(void);
bool access_ports(void);
bool access_msrs(void);
bool access_registers(void);
bool access_apic(void);
bool send_signals(void);
void apic_on(void);
bool change_mode(void);

#endif
