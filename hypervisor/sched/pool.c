/* Pools of CPUs, hard affinity, CPUs that come and go: see sched/pool.h. */
#include "sched/pool.h"

#include "domain/domain.h"
#include "lib/log.h"
#include "lib/string.h"

static struct {
    bool exists;
    cpumask_t cpus;
} pools[POOL_MAX];
static cpumask_t free_cpus;
/* All of the above, d->pool, hard_affinity and allowed of vcpus. Outside of domain_list_lock and the run queues'. */
static spinlock_t pool_lock = SPINLOCK_INIT;

static const cpumask_t all_cpus = {{~0UL}};

_Static_assert(NR_CPUS == BITS_PER_LONG, "a cpumask is one word");
static cpumask_t both(const cpumask_t *a, const cpumask_t *b) { return (cpumask_t){{a->bits[0] & b->bits[0]}}; }

void pool_init(void)
{
    memset(pools, 0, sizeof(pools));
    memset(&free_cpus, 0, sizeof(free_cpus));
    pools[0].exists = true;
}

/* ----- vcpus ----- */

static void place(struct vcpu *v)
{
    const cpumask_t *cpus = &pools[v->domain->pool].cpus;
    cpumask_t hard = v->sched.hard_affinity, allowed = both(&hard, cpus);

    if (cpumask_empty(&allowed)) {
        log_info("%sv%u: no CPU is left of those it was pinned to: it may use all of CPU pool %u\n", v->domain->name,
                 v->id, v->domain->pool);
        hard = all_cpus;
        allowed = *cpus;
    }
    sched_place(v, &hard, &allowed);
}

static void place_all(uint32_t pool)
{
    struct domain *d;
    struct vcpu *v;

    for (d = domain_next(NULL); d; d = domain_next(d))
        if (d->pool == pool)
            for_each_vcpu (d, v)
                place(v);
}

void pool_place_vcpu(struct vcpu *v)
{
    spin_lock(&pool_lock);
    place(v);
    spin_unlock(&pool_lock);
}

int vcpu_set_affinity(struct vcpu *v, const cpumask_t *mask)
{
    cpumask_t allowed;
    int rc = 0;

    spin_lock(&pool_lock);
    allowed = both(mask, &pools[v->domain->pool].cpus);
    if (cpumask_empty(&allowed))
        rc = -EINVAL;
    else
        sched_place(v, mask, &allowed);
    spin_unlock(&pool_lock);
    return rc;
}

/* ----- pools ----- */

static bool exists(uint32_t id) { return id < POOL_MAX && pools[id].exists; }

static uint32_t count_domains(uint32_t pool)
{
    struct domain *d;
    uint32_t n = 0;

    for (d = domain_next(NULL); d; d = domain_next(d))
        n += d->pool == pool;
    return n;
}

int pool_create(uint32_t *id)
{
    uint32_t i = *id;
    int rc = 0;

    spin_lock(&pool_lock);
    if (i == POOL_ANY)
        for (i = 0; i < POOL_MAX && pools[i].exists;)
            i++;
    if (i >= POOL_MAX)
        rc = *id == POOL_ANY ? -ENOSPC : -EINVAL;
    else if (pools[i].exists)
        rc = -EEXIST;
    else
        pools[i].exists = true;
    spin_unlock(&pool_lock);
    if (!rc)
        *id = i;
    return rc;
}

int pool_destroy(uint32_t id)
{
    int rc = 0;

    spin_lock(&pool_lock);
    if (!exists(id))
        rc = -ENOENT;
    else if (!id || !cpumask_empty(&pools[id].cpus) || count_domains(id))
        rc = -EBUSY;
    else
        pools[id].exists = false;
    spin_unlock(&pool_lock);
    return rc;
}

static void add_cpu(uint32_t id, unsigned cpu)
{
    cpumask_set(cpu, &pools[id].cpus);
    sched_set_pool(cpu, id);
    place_all(id);
}

int pool_add_cpu(uint32_t id, uint32_t cpu)
{
    int rc = 0;

    spin_lock(&pool_lock);
    if (cpu == POOL_ANY)
        cpu = cpumask_next(0, &free_cpus);
    if (!exists(id)) {
        rc = -ENOENT;
    } else if (cpu >= NR_CPUS || !cpumask_test(cpu, &free_cpus)) {
        rc = -ENODEV;
    } else {
        cpumask_clear(cpu, &free_cpus);
        add_cpu(id, cpu);
    }
    spin_unlock(&pool_lock);
    return rc;
}

int pool_remove_cpu(uint32_t id, uint32_t cpu)
{
    cpumask_t *cpus;
    int rc = 0;

    spin_lock(&pool_lock);
    if (!exists(id)) {
        rc = -ENOENT;
        goto out;
    }
    cpus = &pools[id].cpus;
    if (cpu == POOL_ANY) {
        unsigned i;

        for_each_cpu (i, cpus)
            cpu = i;
    }
    if (cpu >= NR_CPUS || !cpumask_test(cpu, cpus)) {
        rc = -EADDRNOTAVAIL;
    } else if (cpumask_next(0, cpus) == cpu && cpumask_next(cpu + 1, cpus) >= NR_CPUS && count_domains(id)) {
        rc = -EBUSY;
    } else {
        cpumask_clear(cpu, cpus);
        sched_set_pool(cpu, POOL_NONE);
        place_all(id);
        cpumask_set(cpu, &free_cpus);
    }
out:
    spin_unlock(&pool_lock);
    return rc;
}

int pool_join(struct domain *d, uint32_t id)
{
    int rc = 0;

    spin_lock(&pool_lock);
    if (!exists(id))
        rc = -ESRCH;
    else if (cpumask_empty(&pools[id].cpus))
        rc = -EINVAL;
    else
        d->pool = id;
    spin_unlock(&pool_lock);
    return rc;
}

int pool_move_domain(struct domain *d, uint32_t id)
{
    struct vcpu *v;
    int rc = 0;

    spin_lock(&pool_lock);
    if (!exists(id) || cpumask_empty(&pools[id].cpus)) {
        rc = -ENOENT;
    } else if (d->dying && id) {
        rc = -EINVAL;
    } else if (d->pool != id) {
        d->pool = id;
        for_each_vcpu (d, v) {
            vcpu_set_soft_affinity(v, &all_cpus);
            sched_place(v, &all_cpus, &pools[id].cpus);
        }
    }
    spin_unlock(&pool_lock);
    return rc;
}

bool pool_info(uint32_t first, struct pool_info *out)
{
    uint32_t id = first;

    spin_lock(&pool_lock);
    while (id < POOL_MAX && !pools[id].exists)
        id++;
    if (id < POOL_MAX)
        *out = (struct pool_info){id, count_domains(id), pools[id].cpus};
    spin_unlock(&pool_lock);
    return id < POOL_MAX;
}

cpumask_t pool_free_cpus(void) { return (cpumask_t){{READ_ONCE(free_cpus.bits[0])}}; }
cpumask_t pool_cpus(const struct domain *d) { return (cpumask_t){{READ_ONCE(pools[d->pool].cpus.bits[0])}}; }

/* ----- CPUs that come and go ----- */

void pool_cpu_joins(unsigned cpu)
{
    spin_lock(&pool_lock);
    add_cpu(0, cpu);
    spin_unlock(&pool_lock);
}

int pool_cpu_leaves(unsigned cpu)
{
    bool was_free;

    spin_lock(&pool_lock);
    was_free = test_and_clear_bit(cpu, free_cpus.bits);
    spin_unlock(&pool_lock);
    return was_free ? 0 : -EBUSY;
}

void pool_vacate_cpu(unsigned cpu)
{
    struct domain *d;
    struct vcpu *v;

    spin_lock(&pool_lock);
    for (d = domain_next(NULL); d; d = domain_next(d))
        for_each_vcpu (d, v)
            if (READ_ONCE(v->processor) == cpu)
                place(v);
    spin_unlock(&pool_lock);
}

/* ----- the audit ----- */

static const char *wrong_sets(const struct vcpu *v)
{
    const struct sched_vcpu *s = &v->sched;
    cpumask_t allowed;

    if (!exists(v->domain->pool))
        return "is in a pool that does not exist";
    allowed = both(&s->hard_affinity, &pools[v->domain->pool].cpus);
    if (allowed.bits[0] != s->allowed.bits[0])
        return "does not have the CPUs of its affinity and its pool";
    return cpumask_empty(&allowed) ? "has no CPU" : NULL;
}

static unsigned audit_cpus(void)
{
    unsigned long seen = free_cpus.bits[0];
    unsigned findings = 0;

    for (unsigned i = 0; i < POOL_MAX; i++) {
        if (pools[i].cpus.bits[0] & (seen | (pools[i].exists ? 0 : ~0UL))) {
            log_error("pools: pool %u has CPUs 0x%lx, some of which are elsewhere\n", i, pools[i].cpus.bits[0]);
            findings++;
        }
        seen |= pools[i].cpus.bits[0];
    }
    if (seen & ~cpu_online.bits[0]) {
        log_error("pools: CPUs 0x%lx are in pools, 0x%lx are on line\n", seen, cpu_online.bits[0]);
        findings++;
    }
    return findings;
}

unsigned pool_audit(bool still)
{
    unsigned findings;
    struct domain *d;
    struct vcpu *v;

    spin_lock(&pool_lock);
    findings = audit_cpus();
    for (d = domain_next(NULL); d; d = domain_next(d))
        for_each_vcpu (d, v) {
            const char *wrong = wrong_sets(v);

            wrong = wrong ? wrong : sched_audit_vcpu(v, still);
            if (!wrong)
                continue;
            log_error("pools: %sv%u on CPU %u %s\n", d->name, v->id, v->processor, wrong);
            findings++;
        }
    spin_unlock(&pool_lock);
    return findings;
}

void pools_key_report(void)
{
    struct pool_info p;

    for (uint32_t id = 0; pool_info(id, &p); id = p.id + 1)
        log_info("CPU pool %u: CPUs 0x%lx, %u domains\n", p.id, p.cpus.bits[0], p.domains);
    log_info("CPUs in no pool: 0x%lx; audit of pools: %u findings\n", pool_free_cpus().bits[0], pool_audit(false));
}
