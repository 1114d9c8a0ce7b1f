/*
 * domain/event.c, delivery by the two-level ABI, for every port number and every content of the guest's pages: all accesses are
 * within the arrays of shared_info and the vcpu's word. And find_next_bit of lib/bitmap.h over 128 bits of any content.
 */
#define eva_load(p) (*(p))
#include "domain/event_private.h"
#ifdef NO_LIMIT /* of ports */
#undef EVTCHN_2L_NR_CHANNELS
#define EVTCHN_2L_NR_CHANNELS 131072
#endif
#include "domain/event.c"

static struct domain d;
static struct vcpu v;
static struct shared_info shared;
static struct vcpu_info info;

bool eva_exchange(uint64_t *word, uint64_t *old, uint64_t new) { return Frama_C_interval(0, 1); }
void vcpu_kick(struct vcpu *unused) {}

int main(void)
{
    struct event_channel c = {.port = Frama_C_unsigned_int_interval(0, UINT32_MAX)};
    unsigned long bits[2], from = Frama_C_unsigned_long_interval(0, 200), next;

    Frama_C_make_unknown((char *)&shared, sizeof(shared));
    Frama_C_make_unknown((char *)&info, sizeof(info));
    Frama_C_make_unknown((char *)bits, sizeof(bits));
    d.shared_info = &shared;
    d.vcpu_count = 1;
    d.vcpus[0] = &v;
    v.info = &info;
    v.domain = &d;
    (void)two_level_set_pending(&d, &c);
    two_level_unmask(&d, &c);
    clear_pending(&d, &c);
    (void)event_two_level_test(shared.evtchn_mask, c.port);
    next = find_next_bit(bits, 128, from);
    /*@ assert next <= 128; */
    return 0;
}
