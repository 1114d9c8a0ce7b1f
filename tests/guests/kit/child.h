/*
 * Children: small domains that a test guest builds beside itself (it is domain 0), by domctl and foreign mappings.
 *
 * A child is a copy of the test's own image as it is at that moment, at the same addresses, with a few pool pages and
 * page tables of its own. So a function of the test, and what its variables hold, is there too: child_call(c, f, ...)
 * runs f in the child, with up to eight arguments that f finds in an array, and gives back its result. The array, and
 * some room for requests, is in a page that both have mapped: each one's own variable kit_talk. With no child (null)
 * all these do the same in domain 0 itself: who does what in a test is then one argument.
 * What a child prints comes out when it answers.
 */
#ifndef CHILD_H
#define CHILD_H

#define __XEN_TOOLS__ 1
#include "kit.h"
#include "talk.h"
#include <xen/domctl.h>
#include <xen/sysctl.h>

#define CHILDREN 130           /* at a time */
#define CHILD_MAX_PAGES 256U   /* image, pool, start_info, list of frames, tables: in one L1 table */
#define CHILD_SPARE_PAGES 64   /* what it may have beyond those */
#define CHILD_SILENT (-99999L) /* the result of a call that was not answered */

extern struct child_talk kit_talk;

struct child {
    unsigned domid;
    unsigned slot; /* of the window where domain 0 maps its frames */
    unsigned pages, vcpus;
    uint32_t port;           /* domain 0's end of the channel that orders and answers are told by */
    struct child_talk *talk; /* null: not mapped */
    xen_pfn_t frames[CHILD_MAX_PAGES];
};

/* Of those that are created from now on */
extern uint32_t child_max_port;
extern unsigned child_pool_pages; /* for page_alloc in it */
unsigned child_pool_limit(void);

/* The steps of building, in order. Each panics if it is refused. */
void child_create(struct child *c, unsigned vcpus); /* no memory, no context; a limit of memory */
void child_create_kind(struct child *c, unsigned vcpus, unsigned pages, bool pvh);
void child_populate(struct child *c);
void child_fill(struct child *c); /* the image, tables, pinned; the talk page stays mapped */
void child_set_context(struct child *c);
void child_connect(struct child *c); /* the channel */
void child_unpause(struct child *c);
void child_start_with(struct child *c, unsigned vcpus); /* all of these */
void child_start(struct child *c);                      /* ... with one vcpu */
/* The same for a PVH kernel, in 4 MiB of memory; elf: an image of kit/pvh. A function cannot be ordered, as it is another image. */
void child_start_pvh(struct child *c, unsigned vcpus, const void *elf);

/* Takes domain 0's hands off it (mapping and channel) and destroys it: the result of destroydomain. */
void child_let_go(struct child *c);
long child_destroy(struct child *c);
bool domain_gone(unsigned domid);                    /* waits a while for its number to be free */
void child_end(struct child *c);                     /* destroys it and checks that it goes away */
unsigned long child_frame(struct child *c, void *p); /* the machine frame of a variable's page in the child (or here) */

/* Leaves an order for a child that was not unpaused yet. It must have no events by then: Xen begins with upcalls unmasked. */
void child_order(struct child *c, child_function_t *f, const long *args);
/* Starts f in the child, or waits for its end: false if that does not come. */
void child_begin(struct child *c, child_function_t *f, const long *args);
bool child_wait(struct child *c);
long child_call_at(struct child *c, child_function_t *f, const long *args);
#define child_call(c, f, ...) child_call_at(c, f, (const long[CHILD_ARGS]){__VA_ARGS__})
void short_nap(void); /* some milliseconds, while others work */
static inline struct child_talk *talk_of(struct child *c) { return c != NULL ? c->talk : &kit_talk; }
/* A hypercall of the form (cmd, pointer to op, count) by the child, or by domain 0; op is copied there and back. */
long op_by(struct child *c, unsigned nr, unsigned cmd, void *op, size_t size, unsigned count);

/* domctl and sysctl: the request, and the calls, which fill in the rest of it. */
extern struct xen_domctl domctl_op;
extern struct xen_sysctl sysctl_op;
long domctl(uint32_t cmd, unsigned domid);
long sysctl(uint32_t cmd);
/* Its flags (XEN_DOMINF_*), or a negative errno; the rest is in domctl_op. */
long domain_flags(unsigned domid);
long map_foreign(unsigned domid, unsigned long va, unsigned long mfn, uint64_t flags); /* va has a table */
void *child_window(const struct child *c, unsigned page); /* addresses for up to CHILD_MAX_PAGES of its pages */
unsigned long free_pages(void);
void pin_vcpu(unsigned domid, unsigned vcpu, unsigned cpu); /* hard affinity; a check that it is taken */
/* The same, with  first_cpu=N  on the command line (../run): on CPU N and those after it, of at most 8 */
void keep_off_first_cpus(unsigned domid, unsigned vcpus);
void audit(const char *when); /* a check that the hypervisor's audit of all frames finds nothing */
/* Checks that as many pages are free after f as before, and that the audit finds nothing. f may be run again. */
void leaves_nothing(const char *what, void (*f)(void));
void log_mark(void);
bool log_has(const char *text); /* in the hypervisor's log since log_mark */

#endif
