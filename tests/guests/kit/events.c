/* Two-level event channels. */
#include "kit.h"

event_handler_t *event_handlers[64];
volatile unsigned event_counts[64];

struct vcpu_info *vcpu_infos[KIT_MAX_VCPUS];

struct vcpu_info *vcpu_info_of(unsigned vcpu)
{
    return vcpu_infos[vcpu] != NULL ? vcpu_infos[vcpu] : &shared_info->vcpu_info[vcpu];
}

void kit_event(void);

void kit_event(void)
{
    struct vcpu_info *v = vcpu_info_of(vcpu_id());

    while (__atomic_exchange_n(&v->evtchn_upcall_pending, 0, __ATOMIC_SEQ_CST) != 0) {
        unsigned long words = __atomic_exchange_n(&v->evtchn_pending_sel, 0, __ATOMIC_SEQ_CST);

        /* Ports from 64 on are not used; their bits may be set after vcpu_info moved. */
        if ((words & 1) != 0) {
            unsigned long ready = __atomic_load_n(&shared_info->evtchn_pending[0], __ATOMIC_SEQ_CST) &
                                  ~__atomic_load_n(&shared_info->evtchn_mask[0], __ATOMIC_SEQ_CST);

            for (unsigned port = 0; port < 64; port++) {
                if ((ready >> port & 1) == 0)
                    continue;
                __atomic_and_fetch(&shared_info->evtchn_pending[0], ~(1UL << port), __ATOMIC_SEQ_CST);
                __atomic_add_fetch(&event_counts[port], 1, __ATOMIC_SEQ_CST);
                if (event_handlers[port] != NULL)
                    event_handlers[port](port);
            }
        }
    }
}

void event_mask(unsigned port)
{
    __atomic_or_fetch(&shared_info->evtchn_mask[port / 64], 1UL << port % 64, __ATOMIC_SEQ_CST);
}

void event_unmask(unsigned port)
{
    struct evtchn_unmask u = {.port = port};

    event_channel_op(EVTCHNOP_unmask, &u);
}

/* Unmasking may leave an upcall pending that came while masked: xen_version makes the hypervisor look. */
void events_enable(void)
{
    struct vcpu_info *v = vcpu_info_of(vcpu_id());

    barrier();
    *(volatile uint8_t *)&v->evtchn_upcall_mask = 0;
    barrier();
    if (*(volatile uint8_t *)&v->evtchn_upcall_pending)
        xen_version(XENVER_version, NULL);
}

long bind_virq(unsigned virq, unsigned vcpu)
{
    struct evtchn_bind_virq b = {.virq = virq, .vcpu = vcpu};
    long rc = event_channel_op(EVTCHNOP_bind_virq, &b);

    return rc < 0 ? rc : (long)b.port;
}

long bind_ipi(unsigned vcpu)
{
    struct evtchn_bind_ipi b = {.vcpu = vcpu};
    long rc = event_channel_op(EVTCHNOP_bind_ipi, &b);

    return rc < 0 ? rc : (long)b.port;
}

long event_send(unsigned port)
{
    struct evtchn_send s = {.port = port};

    return event_channel_op(EVTCHNOP_send, &s);
}
