/* Copies between Croft and the current guest address space: see guest_access.h. */
#include "domain/guest_access.h"
#include "hvm/hvm.h"
#include "pv/mode.h"

/* rep movsb with a fixup: what is left is in rcx when it faults */
static size_t copy(void *to, const void *from, size_t n)
{
    if (smap_enabled)
        __asm__ volatile("stac" ::: "memory");
    if (n == 8)
        __asm__ volatile(
            "1: mov (%2), %%rax\n\t"
            "2: mov %%rax, (%1)\n\t"
            "xor %0, %0\n"
            "3:\n\t"
            ".pushsection __ex_table, \"a\"\n\t.balign 4\n\t.long 1b - ., 3b - .\n\t.long 2b - ., 3b - .\n\t.popsection"
            : "+r"(n)
            : "r"(to), "r"(from)
            : "rax", "memory", "cc");
    else if (n % 8 == 0 && n <= 64)
        __asm__ volatile(
            "5: \n\t"
            "1: mov (%2), %%rax\n\t"
            "2: mov %%rax, (%1)\n\t"
            "add $8, %1\n\tadd $8, %2\n\tsub $8, %0\n\tjnz 5b\n"
            "3:\n\t"
            ".pushsection __ex_table, \"a\"\n\t.balign 4\n\t.long 1b - ., 3b - .\n\t.long 2b - ., 3b - .\n\t.popsection"
            : "+r"(n), "+r"(to), "+r"(from)::"rax", "memory", "cc");
    else
        __asm__ volatile("1: rep movsb\n"
                         "3:\n\t"
                         ".pushsection __ex_table, \"a\"\n\t.balign 4\n\t.long 1b - ., 3b - .\n\t.popsection"
                         : "+c"(n), "+D"(to), "+S"(from)::"memory");
    if (smap_enabled)
        __asm__ volatile("clac" ::: "memory");
    return n;
}

size_t copy_from_guest(void *to, const void *guest, size_t n)
{
    if (!n || !guest_range_ok(guest, n))
        return n;
    return unlikely(guest_is_translated()) ? hvm_copy_from_guest(to, (uint64_t)guest, n) : copy(to, guest, n);
}

size_t copy_to_guest(void *guest, const void *from, size_t n)
{
    if (!n || !guest_range_ok(guest, n))
        return n;
    return unlikely(guest_is_translated()) ? hvm_copy_to_guest((uint64_t)guest, from, n) : copy(guest, from, n);
}

size_t clear_guest(void *guest, size_t n)
{
    if (!guest_range_ok(guest, n))
        return n;
    if (unlikely(guest_is_translated()))
        return hvm_copy_to_guest((uint64_t)guest, NULL, n);
    if (smap_enabled)
        __asm__ volatile("stac" ::: "memory");
    __asm__ volatile("1: rep stosb\n"
                     "3:\n\t"
                     ".pushsection __ex_table, \"a\"\n\t.balign 4\n\t.long 1b - ., 3b - .\n\t.popsection"
                     : "+c"(n), "+D"(guest)
                     : "a"(0)
                     : "memory");
    if (smap_enabled)
        __asm__ volatile("clac" ::: "memory");
    return n;
}

unsigned guest_fetch(uint8_t *to, unsigned long rip, unsigned n)
{
    return n - (unsigned)copy_from_guest(to, (const void *)rip, n);
}
