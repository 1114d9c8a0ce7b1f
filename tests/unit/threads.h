/* For tests with a thread for each CPU, under ThreadSanitizer: the second line of such a test says how it is built. */
#ifndef THREADS_H
#define THREADS_H

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

/* Accesses to volatile variables are as good as atomic ones. */
#define VOLATILE_HOOKS(n)                                                                                              \
    void __tsan_volatile_read##n(void *p);                                                                             \
    void __tsan_volatile_read##n(void *p) {}                                                                           \
    void __tsan_volatile_write##n(void *p);                                                                            \
    void __tsan_volatile_write##n(void *p) {}
VOLATILE_HOOKS(1)
VOLATILE_HOOKS(2)
VOLATILE_HOOKS(4)
VOLATILE_HOOKS(8)

/* Threads number 'first' to 'end' - 1: f gets the number. */
static inline void threads_start(pthread_t *threads, unsigned first, unsigned end, void *(*f)(void *))
{
    for (unsigned i = first; i < end; i++)
        if (pthread_create(&threads[i], NULL, f, (void *)(uintptr_t)i))
            abort();
}

static inline void threads_join(const pthread_t *threads, unsigned end)
{
    for (unsigned i = 0; i < end; i++)
        pthread_join(threads[i], NULL);
}

#endif
