#ifndef GRANTS_H
#define GRANTS_H

#include "child.h"

#define SLOTS 512UL /* for mappings, from TEST_VA on: the entries of one L1 table */
#define PAGES 6     /* that each domain has to grant */
#define TABLE_VA TEST_VA2

/* Domain 0 is null. */
extern struct child *first, *second, *third; /* children, or null if they are not there */
void children_start(unsigned count);
void children_end(void);
static inline unsigned id_of(struct child *c) { return c != NULL ? c->domid : 0; }

/* All of these are done by 'who'. A status is GNTST_*, or 1000 if the call itself failed. */
long version_set(struct child *who, unsigned version);
void grant(struct child *who, unsigned ref, unsigned flags, struct child *to, unsigned page);
void grant_frame(struct child *who, unsigned ref, unsigned flags, unsigned to, unsigned long frame);
void grant_part(struct child *who, unsigned ref, struct child *to, unsigned page, unsigned offset, unsigned length);
void grant_transitive(struct child *who, unsigned ref, struct child *to, struct child *of, unsigned of_ref);
unsigned grant_flags(struct child *who, unsigned ref); /* reading and writing, too */
#define MARKS (GTF_reading | GTF_writing)

/* Maps ref of granter at slot, by the slot's address or (GNTMAP_contains_pte) by its entry's. */
int map_at(struct child *who, uint64_t address, unsigned flags, unsigned granter, unsigned ref, grant_handle_t *handle);
int map(struct child *who, unsigned slot, unsigned flags, struct child *granter, unsigned ref, grant_handle_t *handle);
int unmap_at(struct child *who, uint64_t address, uint64_t bus, grant_handle_t handle);
int unmap(struct child *who, unsigned slot, grant_handle_t handle); /* a mapping by address */
uint64_t slot_address(unsigned slot);
uint64_t entry_address(struct child *who, unsigned slot);
uint64_t entry(struct child *who, unsigned slot);
long write_entry(struct child *who, unsigned slot, uint64_t value);
uint64_t peek(struct child *who, unsigned slot, unsigned word); /* what is mapped there */
void poke(struct child *who, unsigned slot, unsigned word, uint64_t value);
uint64_t page_peek(struct child *who, unsigned page, unsigned word); /* its own page */
void page_poke(struct child *who, unsigned page, unsigned word, uint64_t value);
unsigned long page_frame(struct child *who, unsigned page);

/* An end of a copy: a grant reference of a domain, or (domain DOMID_SELF) an own frame. */
struct end {
    unsigned domid;
    unsigned long what;
    unsigned offset;
};
int copy(struct child *who, struct end from, struct end to, unsigned length);

void forms(struct child *granter, struct child *mapper, struct child *other); /* forms.c */
void copies(struct child *granter, struct child *mapper, struct child *other);
void batches(struct child *granter, struct child *mapper);
void version_two(struct child *granter, struct child *mapper, struct child *other); /* version2.c */
void transfers(struct child *from, struct child *to);                               /* transfer.c */
void races(void);                                                                   /* races.c */
void deaths(void);                                                                  /* deaths.c */

#endif
