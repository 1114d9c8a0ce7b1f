/* Basic types. Address and frame numbers are one-member structs so that the compiler keeps them apart. */
#ifndef LIB_TYPES_H
#define LIB_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_SHIFT 12
#define PAGE_SIZE (1UL << PAGE_SHIFT)
#define PAGE_MASK (~(PAGE_SIZE - 1))

/* clang-format off */
typedef struct { uint64_t n; } mfn_t;   /* machine frame number */
typedef struct { uint64_t n; } gfn_t;   /* guest frame number, as a hypercall names it */
typedef struct { uint64_t n; } pfn_t;   /* guest pseudo-physical frame number */
typedef struct { uint64_t n; } maddr_t; /* machine address, bytes */
typedef struct { uint64_t n; } vaddr_t; /* virtual address, bytes */
/* clang-format on */

#define MFN(x) ((mfn_t){(x)})
#define PFN(x) ((pfn_t){(x)})
#define GFN(x) ((gfn_t){(x)})
#define MADDR(x) ((maddr_t){(x)})
#define INVALID_MFN MFN(~0UL)

static inline maddr_t mfn_to_maddr(mfn_t m) { return MADDR(m.n << PAGE_SHIFT); }
static inline mfn_t maddr_to_mfn(maddr_t a) { return MFN(a.n >> PAGE_SHIFT); }
static inline bool mfn_eq(mfn_t a, mfn_t b) { return a.n == b.n; }
static inline mfn_t mfn_add(mfn_t m, uint64_t i) { return MFN(m.n + i); }

#endif
