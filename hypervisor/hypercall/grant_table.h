/* Grant tables: the pages by which a domain tells what others may use of its memory. */
#ifndef HYPERCALL_GRANT_TABLE_H
#define HYPERCALL_GRANT_TABLE_H

struct domain;

/* The domain is gone and nothing maps its table any more. */
void grant_table_destroy(struct domain *d);

#endif
