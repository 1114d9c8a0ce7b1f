/* Rows of messages: a byte goes to another process and back; and of a process that waits for a time. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "micro.h"

#define WAIT_NS 1000000

struct ends {
    int from, to;
    long count;
};

static void echo(void *data)
{
    struct ends *ends = data;
    char byte;

    for (long i = 0; i < ends->count; i++)
        need(read(ends->from, &byte, 1) == 1 && write(ends->to, &byte, 1) == 1, "echo");
}

/* A child echoes on 'theirs' what is sent by 'ours'; the first message, with which the child comes up, is not timed. */
static double round_trips(struct ends ours, struct ends theirs)
{
    int pid;
    uint64_t start = 0;
    char byte = 0;

    theirs.count = ours.count + 1;
    pid = child(echo, &theirs);
    for (long i = 0; i <= ours.count; i++) {
        if (i == 1)
            start = now();
        need(write(ours.to, &byte, 1) == 1 && read(ours.from, &byte, 1) == 1, "message");
    }
    start = now() - start;
    await(pid);
    return (double)start / ours.count;
}

static double pipe_latency(long count)
{
    int there[2], back[2];

    need(!pipe(there) && !pipe(back), "pipe");
    return round_trips((struct ends){back[0], there[1], count}, (struct ends){there[0], back[1], count});
}

static double pair_latency(int a, int b, long count)
{
    return round_trips((struct ends){a, a, count}, (struct ends){b, b, count});
}

static double unix_latency(long count)
{
    int pair[2];

    need(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
    return pair_latency(pair[0], pair[1], count);
}

/* A socket bound to a port of loopback that the kernel chooses; its address */
static int loopback(int type, struct sockaddr_in *address)
{
    socklen_t length = sizeof(*address);
    int fd = socket(AF_INET, type, 0);

    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    need(fd >= 0 && !bind(fd, (struct sockaddr *)address, length) &&
             !getsockname(fd, (struct sockaddr *)address, &length),
         "socket on loopback");
    return fd;
}

static double udp_latency(long count)
{
    struct sockaddr_in a, b;
    int one = loopback(SOCK_DGRAM, &a), other = loopback(SOCK_DGRAM, &b);

    need(!connect(one, (struct sockaddr *)&b, sizeof(b)) && !connect(other, (struct sockaddr *)&a, sizeof(a)),
         "connect");
    return pair_latency(one, other, count);
}

static double tcp_latency(long count)
{
    struct sockaddr_in address;
    int listening = loopback(SOCK_STREAM, &address), one = socket(AF_INET, SOCK_STREAM, 0), other, yes = 1;

    need(!listen(listening, 1) && !connect(one, (struct sockaddr *)&address, sizeof(address)), "connect");
    other = accept(listening, NULL, NULL);
    need(other >= 0, "accept");
    setsockopt(one, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    setsockopt(other, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    return pair_latency(one, other, count);
}

/* By how much a wait of a millisecond is too long, on an idle machine */
static double timer_wakeup(long count)
{
    double late = 0;

    prctl(PR_SET_TIMERSLACK, 1);
    for (long i = 0; i < count; i++) {
        uint64_t due = now() + WAIT_NS;
        struct timespec t = {due / 1000000000, due % 1000000000};

        need(!clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL), "clock_nanosleep");
        late += now() - due;
    }
    return late / count;
}

const struct row latency_rows[] = {
    {"pipe", 2000, pipe_latency}, {"af_unix", 2000, unix_latency},     {"udp", 1500, udp_latency},
    {"tcp", 1500, tcp_latency},   {"timer_wakeup", 300, timer_wakeup}, {0},
};
