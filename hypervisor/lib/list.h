/* Circular doubly linked list; the head is a node like the others. */
#ifndef LIB_LIST_H
#define LIB_LIST_H

#include "lib/util.h"

struct list {
    struct list *next, *prev;
};

static inline void list_init(struct list *l) { l->next = l->prev = l; }
static inline bool list_empty(const struct list *l) { return l->next == l; }
static inline void list_insert_(struct list *n, struct list *prev, struct list *next)
{
    n->next = next;
    n->prev = prev;
    prev->next = n;
    next->prev = n;
}
static inline void list_add_head(struct list *l, struct list *n) { list_insert_(n, l, l->next); }
static inline void list_add_tail(struct list *l, struct list *n) { list_insert_(n, l->prev, l); }
/* Leaves the node pointing at itself, so that removing twice is harmless and list_empty(node) tells. */
static inline void list_remove(struct list *n)
{
    n->prev->next = n->next;
    n->next->prev = n->prev;
    list_init(n);
}

#define list_entry(p, type, member) container_of(p, type, member)
#define list_first(l, type, member) list_entry((l)->next, type, member)
#define list_for_each(pos, l, member)                                                                                  \
    for (pos = list_entry((l)->next, typeof(*pos), member); &pos->member != (l);                                       \
         pos = list_entry(pos->member.next, typeof(*pos), member))
#define list_for_each_safe(pos, tmp, l, member)                                                                        \
    for (pos = list_entry((l)->next, typeof(*pos), member), tmp = list_entry(pos->member.next, typeof(*pos), member);  \
         &pos->member != (l); pos = tmp, tmp = list_entry(tmp->member.next, typeof(*pos), member))

#endif
