/*
 * Reading and writing the memory of the current vcpu's address space, at addresses that the guest gave.
 * Addresses in Croft's hole are refused; a fault on the way ends the copy. All return how many bytes were NOT copied.
 * Copy once, check the copy: never read guest memory twice.
 */
#ifndef DOMAIN_GUEST_ACCESS_H
#define DOMAIN_GUEST_ACCESS_H

#include "lib/util.h"
#include "memory/layout.h"
#ifndef CROFT_HOST_TEST
#include "domain/domain.h"
#endif

size_t copy_from_guest(void *to, const void *guest, size_t n) __must_check;
size_t copy_to_guest(void *guest, const void *from, size_t n) __must_check;
size_t clear_guest(void *guest, size_t n) __must_check;

/* Instruction bytes at rip: returns how many could be read (fewer where the next page is not there). */
unsigned guest_fetch(uint8_t *to, unsigned long rip, unsigned n);

/* Has the current vcpu page tables of its own, which are not loaded while Croft runs (hvm/walk.c)? */
#ifdef CROFT_HOST_TEST
static inline bool guest_is_translated(void) { return false; }
#else
static inline bool guest_is_translated(void) { return current->hvm; }
#endif

static inline bool guest_range_ok(const void *p, size_t n)
{
    unsigned long a = (unsigned long)p, e = a + n;

    return e >= a && (e <= HOLE_START || a >= HOLE_END);
}

/* Is it an address of the hypervisor's? */
static inline bool in_hole(unsigned long va) { return va >= HOLE_START && va < HOLE_END; }

extern bool smap_enabled; /* pv/mode.c */

/* copy_from_guest and copy_to_guest of so many bytes, inline, for hot paths. False: fault. */
#ifndef CROFT_HOST_TEST
/* Before such an access; false: an address of the hypervisor's. guest_access_end after it, if not. */
static inline bool guest_access_begin(const void *guest, size_t n)
{
    if (unlikely((unsigned long)guest < HOLE_END && !guest_range_ok(guest, n)))
        return false;
    if (smap_enabled)
        __asm__ volatile("stac" ::: "memory");
    return true;
}
static inline void guest_access_end(void)
{
    if (smap_enabled)
        __asm__ volatile("clac" ::: "memory");
}
#define GUEST_FAULT(from) ".pushsection __ex_table, \"a\"\n\t.balign 4\n\t.long " from " - ., 9b - .\n\t.popsection\n\t"

static inline bool guest_read16(uint64_t to[2], const void *guest)
{
    uint32_t ok = 0;

    if (guest_is_translated())
        return !copy_from_guest(to, guest, 16);
    if (!guest_access_begin(guest, 16))
        return false;
    __asm__ volatile("1: mov (%3), %0\n\t"
                     "2: mov 8(%3), %1\n\t"
                     "mov $1, %2\n"
                     "9:\n\t" GUEST_FAULT("1b") GUEST_FAULT("2b")
                     : "=&r"(to[0]), "=&r"(to[1]), "+&r"(ok)
                     : "r"(guest)
                     : "memory");
    guest_access_end();
    return ok;
}
static inline bool guest_read24(uint64_t to[3], const void *guest)
{
    uint32_t ok = 0;

    if (guest_is_translated())
        return !copy_from_guest(to, guest, 24);
    if (!guest_access_begin(guest, 24))
        return false;
    __asm__ volatile("1: mov (%4), %0\n\t"
                     "2: mov 8(%4), %1\n\t"
                     "3: mov 16(%4), %2\n\t"
                     "mov $1, %3\n"
                     "9:\n\t" GUEST_FAULT("1b") GUEST_FAULT("2b") GUEST_FAULT("3b")
                     : "=&r"(to[0]), "=&r"(to[1]), "=&r"(to[2]), "+&r"(ok)
                     : "r"(guest)
                     : "memory");
    guest_access_end();
    return ok;
}
static inline bool guest_write16(void *guest, const uint64_t from[2])
{
    uint32_t ok = 0;

    if (guest_is_translated())
        return !copy_to_guest(guest, from, 16);
    if (!guest_access_begin(guest, 16))
        return false;
    __asm__ volatile("1: mov %2, (%1)\n\t"
                     "2: mov %3, 8(%1)\n\t"
                     "mov $1, %0\n"
                     "9:\n\t" GUEST_FAULT("1b") GUEST_FAULT("2b")
                     : "+&r"(ok)
                     : "r"(guest), "r"(from[0]), "r"(from[1])
                     : "memory");
    guest_access_end();
    return ok;
}
static inline bool guest_write2(void *guest, uint16_t value)
{
    uint32_t ok = 0;

    if (guest_is_translated())
        return !copy_to_guest(guest, &value, 2);
    if (!guest_access_begin(guest, 2))
        return false;
    __asm__ volatile("1: mov %2, (%1)\n\t"
                     "mov $1, %0\n"
                     "9:\n\t" GUEST_FAULT("1b")
                     : "+&r"(ok)
                     : "r"(guest), "r"(value)
                     : "memory");
    guest_access_end();
    return ok;
}
#else
static inline bool guest_read16(uint64_t to[2], const void *guest) { return !copy_from_guest(to, guest, 16); }
static inline bool guest_read24(uint64_t to[3], const void *guest) { return !copy_from_guest(to, guest, 24); }
static inline bool guest_write16(void *guest, const uint64_t from[2]) { return !copy_to_guest(guest, from, 16); }
static inline bool guest_write2(void *guest, uint16_t value) { return !copy_to_guest(guest, &value, 2); }
#endif

/* On the ABI's handles: element 'i', or a whole structure; nonzero means a fault (return -EFAULT). */
#define copy_from_handle(to, handle, i, n) copy_from_guest(to, (handle).p + (i), sizeof(*(to)) * (n))
#define copy_to_handle(handle, i, from, n) copy_to_guest((handle).p + (i), from, sizeof(*(from)) * (n))

#endif
