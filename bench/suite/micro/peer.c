/* Rows of messages to another machine and back, and what runs there for them (micro -s). */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "micro.h"

#define PORT 7007

const char *peer;

static int ready_socket(int type)
{
    int fd = socket(AF_INET, type, 0), yes = 1;

    need(fd >= 0, "socket");
    if (type == SOCK_STREAM)
        need(!setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)), "TCP_NODELAY");
    return fd;
}

static void answer_datagrams(void *data)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(PORT)}, from;
    int fd = ready_socket(SOCK_DGRAM);
    char byte;

    need(!bind(fd, (struct sockaddr *)&at, sizeof(at)), "bind");
    for (;;) {
        socklen_t length = sizeof(from);

        need(recvfrom(fd, &byte, 1, 0, (struct sockaddr *)&from, &length) == 1, "recvfrom");
        sendto(fd, &byte, 1, 0, (struct sockaddr *)&from, length);
    }
}

/* One connection after the other */
void serve(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    int fd = ready_socket(SOCK_STREAM);
    char byte;

    child(answer_datagrams, NULL);
    need(!bind(fd, (struct sockaddr *)&at, sizeof(at)) && !listen(fd, 1), "listen");
    for (;;) {
        int one = accept(fd, NULL, NULL);

        need(one >= 0, "accept");
        while (read(one, &byte, 1) == 1 && write(one, &byte, 1) == 1)
            ;
        close(one);
    }
}

/* Nanoseconds of a byte there and back; the first, with which the addresses are found, is not timed. */
static double round_trips(int type, long count)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    int fd = ready_socket(type);
    uint64_t start = 0;
    char byte = 0;

    need(peer && inet_aton(peer, &to.sin_addr), "address of the other machine (-p)");
    need(!connect(fd, (struct sockaddr *)&to, sizeof(to)), "connect");
    for (long i = 0; i <= count; i++) {
        if (i == 1)
            start = now();
        need(write(fd, &byte, 1) == 1 && read(fd, &byte, 1) == 1, "message");
    }
    return (double)(now() - start) / count;
}

static double udp_latency(long count) { return round_trips(SOCK_DGRAM, count); }
static double tcp_latency(long count) { return round_trips(SOCK_STREAM, count); }

const struct row peer_rows[] = {{"net_udp", 1000, udp_latency}, {"net_tcp", 1000, tcp_latency}, {0}};
