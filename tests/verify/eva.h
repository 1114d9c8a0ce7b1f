/*
 * For Frama-C, which does not know GCC's atomic built-ins. Another CPU may act between any two steps: a compare-and-exchange fails or
 * succeeds as it likes, and if it fails it reads what it likes: eva_exchange and eva_load, which a proof defines.
 */
#ifndef TESTS_VERIFY_EVA_H
#define TESTS_VERIFY_EVA_H

#include <stdbool.h>
#include <stdint.h>
#include <__fc_builtin.h>

#define _Static_assert(condition, text)
#define __builtin_expect(x, y) (x)
#define __builtin_ia32_pause() ((void)0)
#define __atomic_exchange_n(p, v, order)                                                                               \
    ({                                                                                                                 \
        typeof(*(p)) *p_ = (p), old_ = *p_;                                                                            \
        *p_ = (v);                                                                                                     \
        old_;                                                                                                          \
    })
#define __atomic_store_n(p, v, order) ((void)(*(p) = (v)))
#define EVA_CHANGE(p, op, v)                                                                                           \
    ({                                                                                                                 \
        typeof(*(p)) *p_ = (p), old_ = *p_;                                                                            \
        *p_ = old_ op(v);                                                                                              \
        old_;                                                                                                          \
    })
#define __atomic_fetch_or(p, v, order) EVA_CHANGE(p, |, v)
#define __atomic_fetch_and(p, v, order) EVA_CHANGE(p, &, v)
/* Words of 64 bits */
#define __atomic_compare_exchange_n(p, old, new, weak, order, order2)                                                  \
    eva_exchange((uint64_t *)(p), (uint64_t *)(old), new)
#define __atomic_load_n(p, order) eva_load(p)

#define __builtin_ctzl(x) ((unsigned)Frama_C_interval(0, 63))

bool eva_exchange(uint64_t *word, uint64_t *old, uint64_t new);

/* To Frama-C a volatile object holds anything at any time: that is right for what guests write, not for Croft's own. */
#include "lib/util.h"
#undef READ_ONCE
#define READ_ONCE(x) (x)

#endif
