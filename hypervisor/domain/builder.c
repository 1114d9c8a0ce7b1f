/* Building a domain: see domain/builder.h. */
#include "domain/builder.h"

#include "domain/domain.h"
#include "domain/pv_build.h"
#include "domain/pvh_build.h"

static bool pvh; /* the one at work */

void builder_begin(struct boot_image *image, domid_t id, bool at_boot)
{
    pvh = image->what->pvh;
    (pvh ? pvh_build_begin : pv_build_begin)(image, id, at_boot);
}

int builder_step(struct domain **d) { return (pvh ? pvh_build_step : pv_build_step)(d); }

void builder_start(struct domain *d, const struct boot_domain *what)
{
    log_info("%s, domain %s, starts\n", d->name, what->name);
    d->started = d->from_modules = true;
    WRITE_ONCE(d->building, false);
    vcpu_wake(d->vcpus[0]);
}
