/* What the files of the grant tables share: see domain/grant.h. */
#ifndef DOMAIN_GRANT_PRIVATE_H
#define DOMAIN_GRANT_PRIVATE_H

#include "domain/domain.h"

enum grant_use { GRANT_MAP, GRANT_COPY, GRANT_COPY_LAST /* no transitive entry any more */ };

/* What an entry grants, as it was when it was pinned. */
struct grant_pin {
    bool transitive;
    mfn_t frame;            /* with references, unless it is transitive; WRITABLE ones if it was pinned writable */
    uint16_t start, length; /* bytes of it */
    domid_t next_domain;    /* transitive: whose entry */
    grant_ref_t next_ref;
};

/*
 * Marks entry 'ref' of the granter as used by domain 'by'. The frame gets one reference; for GRANT_MAP two, the mapping's and the
 * page-table entry's. A GNTST_* value; other than GNTST_okay are logged. No lock held.
 */
int16_t grant_pin(struct domain *granter, grant_ref_t ref, domid_t by, bool writable, enum grant_use use,
                  struct grant_pin *pin);
/* The end of that, but for the frame's references. Nothing, if the granter's table is gone. */
void grant_unpin(struct domain *granter, grant_ref_t ref, bool writable);

/* GTF_accept_transfer: commits the entry to a frame from domain 'from', then tells which it is. *pfn: where the taker wants it. */
bool grant_transfer_begin(struct domain *to, grant_ref_t ref, domid_t from, uint64_t *pfn);
void grant_transfer_end(struct domain *to, grant_ref_t ref, mfn_t m);

/* The operations of GNTTABOP_* on the caller's or another domain's table, which the caller may see. GNTST_* or negative errno. */
int grant_set_version(struct domain *d, unsigned version);
int16_t grant_swap(struct domain *d, grant_ref_t a, grant_ref_t b);
int16_t grant_setup(struct domain *d, uint32_t frames);
/* Number of frame 'i' of the table, or of the status frames; INVALID_MFN if there is none. */
mfn_t grant_frame(struct domain *d, bool status, uint32_t i);

/* One operation of the current vcpu. *stale: a present entry was replaced, flush the TLBs before the guest goes on. */
void grant_map(struct gnttab_map_grant_ref *op, struct domain *granter, bool *stale);

/* The first part of an unmap takes the page-table entries away; after a flush of the TLBs the second gives the rest back. */
#define GRANT_UNMAP_SLICE 32
struct grant_unmap {
    uint32_t handle;
    unsigned left; /* GNTMAP_*: what of it stays */
    struct grant_mapping *mapping;
    uint64_t entry; /* the page-table entry that went, whose reference is still there; 0: none */
};
/* new_address: the entry there moves to 'address'; 0: none. */
int16_t grant_unmap_begin(struct grant_unmap *u, grant_handle_t handle, uint64_t address, uint64_t bus_address,
                          uint64_t new_address);
void grant_unmap_end(const struct grant_unmap *u);

/* The two ends of copies, kept from one to the next: runs of copies often share one. */
struct grant_copy_end {
    bool ready, by_ref, writable;
    struct gnttab_copy_ptr what;
    struct grant_pin pin;
    struct domain *granter, *middle; /* of pins, with a reference; null: none */
    grant_ref_t ref, middle_ref;
};
int16_t grant_copy(const struct gnttab_copy *op, struct grant_copy_end *source, struct grant_copy_end *destination);
void grant_copy_close(struct grant_copy_end *e);
int16_t grant_transfer(const struct gnttab_transfer *op);

#endif
