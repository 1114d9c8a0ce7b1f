/*
 * Extended processor state: see cpu/fpu.h. Intel SDM volume 1, chapter 13.
 *
 * XCR0 holds every component that Croft switches whenever no vcpu's state is in the registers; fpu_restore puts the
 * vcpu's own value in last, fpu_save takes it out first. So a save always covers everything, also what a guest had
 * before it disabled a component.
 */
#include "cpu/fpu.h"
#include "cpu/cpu.h"
#include "cpu/instr.h"
#include "domain/domain.h"
#include "lib/errno.h"
#include "lib/log.h"
#include "lib/string.h"
#include "memory/alloc.h"

#define XCR0_X87 (1UL << 0)
#define XCR0_SSE (1UL << 1)
#define XCR0_AVX (1UL << 2)
#define XCR0_AVX512 (7UL << 5) /* mask registers, upper halves of ZMM0-15, ZMM16-31: only together */
#define XCR0_SWITCHED (XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_AVX512)
#define COMPONENTS 8

#define FXSAVE_SIZE 512
#define XSAVE_HEADER_SIZE 64
#define FCW_INITIAL 0x37f
#define MXCSR_INITIAL 0x1f80
#define MXCSR_MASK_DEFAULT 0xffbf /* where FXSAVE shows 0 (Intel SDM volume 1, 11.6.6) */

/* The fields of the FXSAVE image that Croft looks at, and the XSAVE header behind it */
struct area {
    uint16_t fcw;
    uint8_t reserved0[22];
    uint32_t mxcsr, mxcsr_mask;
    uint8_t registers[FXSAVE_SIZE - 32];
    uint64_t xstate_bv;
    uint8_t reserved1[XSAVE_HEADER_SIZE - 8];
};

struct fpu_state {
    uint64_t xcr0;                  /* the guest's */
    struct area area __aligned(64); /* with room behind for the other components */
};

/* Constant after the boot CPU's fpu_init_cpu */
static uint64_t host_mask; /* 0: FXSAVE */
static uint32_t area_size = FXSAVE_SIZE;
static uint32_t component_end[COMPONENTS];
static uint32_t mxcsr_mask;
static bool use_xsaveopt, leaks_pointers, found;

unsigned fpu_area_size(uint64_t xcr0)
{
    unsigned size = FXSAVE_SIZE + XSAVE_HEADER_SIZE;

    for (unsigned i = 2; i < COMPONENTS; i++)
        if (xcr0 >> i & 1)
            size = max(size, component_end[i]);
    return size;
}

static void find_components(void)
{
    struct cpuid_regs r = cpuid(0xd, 0);

    host_mask = ((uint64_t)r.d << 32 | r.a) & XCR0_SWITCHED;
    if ((host_mask & XCR0_AVX512) != XCR0_AVX512 || !(host_mask & XCR0_AVX))
        host_mask &= ~XCR0_AVX512;
    for (unsigned i = 2; i < COMPONENTS; i++) {
        if (!(host_mask >> i & 1))
            continue;
        r = cpuid(0xd, i);
        component_end[i] = r.b + r.a;
    }
    use_xsaveopt = cpuid(0xd, 1).a & 1;
    area_size = fpu_area_size(host_mask);
}

static void find(void)
{
    struct area probe __aligned(64);

    memset(&probe, 0, sizeof(probe));
    __asm__ volatile("fxsave64 (%0)" ::"r"(&probe) : "memory");
    mxcsr_mask = probe.mxcsr_mask ? probe.mxcsr_mask : MXCSR_MASK_DEFAULT;
    /* AMD before Zen 2 restores the last x87 instruction's addresses only while an exception is pending (CPUID
     * 0x80000008 EBX bit 2). */
    leaks_pointers =
        cpu_features.amd && !(cpu_features.max_ext_leaf >= 0x80000008 && (cpuid(0x80000008, 0).b >> 2 & 1));
    if (cpu_features.xsave)
        find_components();
    found = true;
}

void fpu_init_cpu(void)
{
    uint32_t mxcsr = MXCSR_INITIAL;

    if (!found)
        find();
    if (host_mask)
        xsetbv(0, host_mask);
    __asm__ volatile("fninit; ldmxcsr %0" ::"m"(mxcsr));
}

static void set_initial(struct area *a)
{
    memset(a, 0, area_size);
    a->fcw = FCW_INITIAL;
    a->mxcsr = MXCSR_INITIAL;
}

int fpu_alloc(struct vcpu *v)
{
    struct fpu_state *s = heap_alloc(max(offsetof(struct fpu_state, area) + area_size, sizeof(*s)));

    if (!s)
        return -ENOMEM;
    BUG_ON((unsigned long)&s->area & 63);
    s->xcr0 = host_mask & XCR0_X87;
    set_initial(&s->area);
    v->fpu = s;
    return 0;
}

void fpu_free(struct vcpu *v)
{
    heap_free(v->fpu);
    v->fpu = NULL;
}

void fpu_set_context(struct vcpu *v, const void *image)
{
    struct area *a = &v->fpu->area;

    set_initial(a);
    if (!image)
        return;
    memcpy(a, image, FXSAVE_SIZE);
    a->mxcsr &= mxcsr_mask;
    if (host_mask)
        a->xstate_bv = XCR0_X87 | XCR0_SSE;
}

void fpu_save(struct vcpu *v)
{
    struct fpu_state *s = v->fpu;
    uint32_t lo = (uint32_t)host_mask, hi = 0;

    if (!host_mask) {
        __asm__ volatile("fxsave64 (%0)" ::"r"(&s->area) : "memory");
        return;
    }
    if (s->xcr0 != host_mask)
        xsetbv(0, host_mask);
    /* XSAVEOPT leaves out what was not changed since the XRSTOR from the same area on this CPU: there was one. */
    if (use_xsaveopt)
        __asm__ volatile("xsaveopt64 (%0)" ::"r"(&s->area), "a"(lo), "d"(hi) : "memory");
    else
        __asm__ volatile("xsave64 (%0)" ::"r"(&s->area), "a"(lo), "d"(hi) : "memory");
}

/* False if the processor refuses the image (#GP). */
static bool load(const struct area *a)
{
    uint32_t lo = (uint32_t)host_mask, ok = 0;

    if (host_mask)
        __asm__ volatile("1: xrstor64 (%1)\n\t"
                         "mov $1, %0\n"
                         "2:\n\t"
                         ".pushsection __ex_table, \"a\"\n\t"
                         ".balign 4\n\t"
                         ".long 1b - ., 2b - .\n\t"
                         ".popsection"
                         : "+r"(ok)
                         : "r"(a), "a"(lo), "d"(0)
                         : "memory");
    else
        __asm__ volatile("1: fxrstor64 (%1)\n\t"
                         "mov $1, %0\n"
                         "2:\n\t"
                         ".pushsection __ex_table, \"a\"\n\t"
                         ".balign 4\n\t"
                         ".long 1b - ., 2b - .\n\t"
                         ".popsection"
                         : "+r"(ok)
                         : "r"(a)
                         : "memory");
    return ok;
}

void fpu_restore(struct vcpu *v)
{
    struct fpu_state *s = v->fpu;

    if (leaks_pointers) {
        /* Overwrites the addresses of the last x87 instruction with Croft's own. */
        uint32_t dummy = 0;

        __asm__ volatile("fnclex; ffree %%st(7); fildl %0" ::"m"(dummy));
    }
    if (host_mask && xgetbv(0) != host_mask)
        xsetbv(0, host_mask);
    if (unlikely(!load(&s->area))) {
        guest_log(LOG_WARNING, "its floating point state is not valid: reset\n");
        set_initial(&s->area);
        load(&s->area);
    }
    if (host_mask && s->xcr0 != host_mask)
        xsetbv(0, s->xcr0);
}

void fpu_adopt_xcr0(struct vcpu *v)
{
    if (host_mask)
        v->fpu->xcr0 = (xgetbv(0) & host_mask) | XCR0_X87;
}

uint64_t fpu_xcr0_max(void) { return host_mask; }

uint64_t fpu_get_xcr0(const struct vcpu *v) { return v->fpu->xcr0; }

void fpu_get_context(const struct vcpu *v, void *image)
{
    struct area initial;

    /* XSAVE does not write the parts that are in their initial state. */
    memcpy(image, &v->fpu->area, FXSAVE_SIZE);
    if (!host_mask)
        return;
    memset(&initial, 0, sizeof(initial));
    initial.fcw = FCW_INITIAL;
    if (!(v->fpu->area.xstate_bv & XCR0_X87)) {
        memcpy(image, &initial, offsetof(struct area, mxcsr));
        memset((uint8_t *)image + 32, 0, 128);
    }
    if (!(v->fpu->area.xstate_bv & XCR0_SSE))
        memset((uint8_t *)image + 160, 0, 256);
}

unsigned fpu_state_size(void) { return area_size; }

void fpu_get_state(const struct vcpu *v, void *to) { memcpy(to, &v->fpu->area, area_size); }

static bool xcr0_ok(uint64_t xcr0)
{
    if ((xcr0 & ~host_mask) || !(xcr0 & XCR0_X87))
        return false;
    if ((xcr0 & XCR0_AVX) && !(xcr0 & XCR0_SSE))
        return false;
    return !(xcr0 & XCR0_AVX512) || ((xcr0 & XCR0_AVX512) == XCR0_AVX512 && xcr0 & XCR0_AVX);
}

bool fpu_check_state(uint64_t xcr0, const void *from, size_t size)
{
    const struct area *image = from;

    if (size < sizeof(*image) || image->xstate_bv & ~host_mask)
        return false;
    for (unsigned i = 0; i < sizeof(image->reserved1); i++) /* the compacted format, and what is reserved */
        if (image->reserved1[i])
            return false;
    for (size_t i = area_size; i < size; i++) /* components that are not here have to be unused */
        if (((const uint8_t *)from)[i])
            return false;
    return xcr0_ok(xcr0);
}

bool fpu_set_state(struct vcpu *v, uint64_t xcr0, const void *from, size_t size)
{
    struct area *a = &v->fpu->area;

    if (!fpu_check_state(xcr0, from, size) || !fpu_set_xcr0(v, xcr0))
        return false;
    set_initial(a);
    memcpy(a, from, min(size, (size_t)area_size));
    a->mxcsr &= mxcsr_mask;
    return true;
}

bool fpu_set_xcr0(struct vcpu *v, uint64_t xcr0)
{
    if (!xcr0_ok(xcr0))
        return false;
    v->fpu->xcr0 = xcr0;
    if (v == current)
        xsetbv(0, xcr0);
    return true;
}
