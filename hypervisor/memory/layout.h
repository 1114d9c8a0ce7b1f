/*
 * Croft's address space: the hole 0xffff800000000000-0xffff87ffffffffff that the PV ABI reserves in every
 * guest's address space (L4 slots 256-271), and nothing outside it. The low half of slot 256 is readable by
 * guests, all the rest is supervisor-only and global.
 */
#ifndef MEMORY_LAYOUT_H
#define MEMORY_LAYOUT_H

#define HOLE_START 0xffff800000000000UL
#define HOLE_END 0xffff880000000000UL
#define HOLE_L4_FIRST 256
#define HOLE_L4_COUNT 16

#define M2P_START 0xffff800000000000UL         /* slot 256: machine-to-physical table, read-only, for guests */
#define M2P_RW_START 0xffff808000000000UL      /* slot 257: the same, writable, for Croft */
#define FRAME_TABLE_START 0xffff810000000000UL /* slot 258 */
#define IOREMAP_START 0xffff818000000000UL     /* slot 259: devices' registers */
#define IOREMAP_END 0xffff820000000000UL
#define DESCRIPTOR_START 0xffff820000000000UL /* slot 260: each vcpu's GDT and LDT windows, 2 x 64 KiB */
#define IMAGE_START 0xffff828000000000UL      /* slot 261 */
#define IMAGE_PHYS 0x200000UL                 /* where the image is loaded */
#define DIRECT_MAP_START 0xffff830000000000UL /* slots 262-271: all RAM, writable, not executable */
#define DIRECT_MAP_SIZE (10UL << 39)

#endif
