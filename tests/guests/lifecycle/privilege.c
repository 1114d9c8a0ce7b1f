/* What only domain 0 may do, tried by another domain: refused with -EPERM, and the log says so. */
#include "lifecycle.h"

#include "../../../hypervisor/hypercall/croft_abi.h"

static struct child c;

static void refused(const char *what, long result, const char *line)
{
    check(result == -EPERM && log_has(line), "%s: %ld, and the log %s", what, result,
          log_has(line) ? "says so" : "has no word of it");
    log_mark();
}

#define REFUSED(nr, cmd, op, line) refused(#cmd, op_by(&c, nr, cmd, &(op), sizeof(op), 1), line)

/* A call whose only argument is the request's address */
static long plain_call(long *a) { return hypercall((unsigned)a[0], U(kit_talk.data), 0, 0, 0, 0); }

static long in_multicall(long *a)
{
    struct multicall_entry m = {.op = U(a[0]), .args = {U(kit_talk.data)}};
    long rc = multicall(&m, 1);

    return rc != 0 ? rc : (long)m.result;
}

static long mmu_call(long *a)
{
    struct mmu_update u = {.ptr = virt_to_machine(pte_of(U(hypercall_page))), .val = make_pte(U(a[1]), PTE_RO)};

    return mmu_update(&u, 1, NULL, (unsigned)a[0]);
}

static long mmuext_call(long *a)
{
    struct mmuext_op op = {.cmd = MMUEXT_PIN_L1_TABLE, .arg1.mfn = U(a[1])};

    return mmuext_op(&op, 1, NULL, (unsigned)a[0]);
}

static long map_other(long *a)
{
    return update_va_mapping_otherdomain(U(hypercall_page), make_pte(U(a[1]), PTE_RO), UVMF_INVLPG, (unsigned)a[0]);
}

/* As mmu_call, without naming the other domain */
static long map_not_own(long *a)
{
    return update_va_mapping(U(hypercall_page), make_pte(U(a[0]), PTE_RO), UVMF_INVLPG);
}

void without_privilege(void)
{
    struct xen_memory_reservation r = {.nr_extents = 0, .domid = 0};
    struct xen_mem_acquire_resource resource = {.domid = 0, .type = XENMEM_resource_grant_table, .nr_frames = 1};
    struct xen_foreign_memory_map map = {.domid = DOMID_SELF};
    struct evtchn_alloc_unbound channel = {.dom = 0, .remote_dom = DOMID_SELF};
    struct evtchn_status status = {.dom = 0, .port = 1};
    struct evtchn_reset reset = {.dom = 0};
    struct sched_remote_shutdown shutdown = {.domain_id = 0, .reason = SHUTDOWN_crash};
    struct gnttab_query_size query = {.dom = 0};
    struct gnttab_setup_table setup = {.dom = 0, .nr_frames = 1};
    struct gnttab_get_version version = {.dom = 0};
    struct croft_sched sched = {.flags = CROFT_SCHED_SET_WEIGHT, .weight = 512};
    static const struct {
        unsigned nr;
        const char *line;
    } calls[] = {
        {__HYPERVISOR_domctl, "hypercall domctl needs privilege"},
        {__HYPERVISOR_sysctl, "hypercall sysctl needs privilege"},
        {__HYPERVISOR_platform_op, "hypercall platform_op needs privilege"},
        {__HYPERVISOR_arch_0, "hypercall mca needs privilege"},
    };

    child_start(&c);
    log_mark();
    for (unsigned i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        memset(c.talk->data, 0, sizeof(c.talk->data));
        refused("a call", child_call(&c, plain_call, calls[i].nr), calls[i].line);
        refused("in a multicall", child_call(&c, in_multicall, calls[i].nr), calls[i].line);
    }
    refused("mmu_update", child_call(&c, mmu_call, 0, virt_to_mfn(hypercall_page)), "domain 0 need privilege");
    refused("mmu_update of its tables", child_call(&c, mmu_call, 1 << 16 | DOMID_SELF, 0), "domain 0 need privilege");
    refused("mmuext_op", child_call(&c, mmuext_call, 0, virt_to_mfn(hypercall_page)), "domain 0 need privilege");
    refused("update_va_mapping_otherdomain", child_call(&c, map_other, 0, virt_to_mfn(hypercall_page)),
            "domain 0 need privilege");
    check_negative(child_call(&c, map_not_own, virt_to_mfn(hypercall_page)));
    check_negative(child_call(&c, map_not_own, 0x200));
    check_negative(child_call(&c, mmu_call, DOMID_IO, 0xfee00));
    check_negative(child_call(&c, mmu_call, DOMID_XEN, 0x200));
    child_end(&c);
    child_start(&c); /* a domain may write 20 lines at once */
    log_mark();
    REFUSED(__HYPERVISOR_memory_op, XENMEM_populate_physmap, r, "is not its own");
    REFUSED(__HYPERVISOR_memory_op, XENMEM_claim_pages, r, "needs privilege");
    REFUSED(__HYPERVISOR_memory_op, XENMEM_acquire_resource, resource, "needs privilege");
    REFUSED(__HYPERVISOR_memory_op, XENMEM_set_memory_map, map, "needs privilege");
    REFUSED(__HYPERVISOR_event_channel_op, EVTCHNOP_alloc_unbound, channel, "needs privilege");
    REFUSED(__HYPERVISOR_event_channel_op, EVTCHNOP_status, status, "needs privilege");
    REFUSED(__HYPERVISOR_event_channel_op, EVTCHNOP_reset, reset, "needs privilege");
    REFUSED(__HYPERVISOR_sched_op, SCHEDOP_remote_shutdown, shutdown, "needs privilege");
    REFUSED(__HYPERVISOR_grant_table_op, GNTTABOP_get_version, version, "needs privilege");
    REFUSED(__HYPERVISOR_croft_op, CROFT_OP_sched_get, sched, "croft_op: command 0 needs privilege");
    REFUSED(__HYPERVISOR_croft_op, CROFT_OP_sched_set, sched, "croft_op: command 2 needs privilege");
    REFUSED(__HYPERVISOR_croft_op, CROFT_OP_sched_set_allowance, sched, "croft_op: command 4 needs privilege");
    REFUSED(__HYPERVISOR_croft_op, CROFT_OP_set_next_domid, sched, "croft_op: command 6 needs privilege");
    check_equal(op_by(&c, __HYPERVISOR_grant_table_op, GNTTABOP_query_size, &query, sizeof(query), 1), 0);
    check_equal(query.status, GNTST_permission_denied);
    check_equal(op_by(&c, __HYPERVISOR_grant_table_op, GNTTABOP_setup_table, &setup, sizeof(setup), 1), 0);
    check_equal(setup.status, GNTST_permission_denied);
    check_equal(op_by(&c, __HYPERVISOR_console_io, CONSOLEIO_write, c.talk->data, 8, 0), -EPERM);
    check_equal(domain_flags(0) & ~XEN_DOMINF_blocked, XEN_DOMINF_running);
    child_end(&c);
}
