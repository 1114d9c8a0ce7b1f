/* The page by which domain 0 and a domain that it has built talk: see child.h. */
#ifndef KIT_TALK_H
#define KIT_TALK_H

#include "common.h"

#define CHILD_ARGS 8
#define CHILD_PVH_TALK 0x9000 /* its physical address in a PVH child */

typedef long child_function_t(long *a);

struct child_talk {
    volatile uint32_t order, answered; /* equal: nothing is being done */
    child_function_t *f;               /* null in a PVH child, which knows what it is for */
    long a[CHILD_ARGS];
    long result;
    uint32_t port, failures, text_length;
    char text[1000];
    uint8_t data[2900] __attribute__((aligned(8)));
};
_Static_assert(sizeof(struct child_talk) <= PAGE_SIZE, "the talk page");

#endif
