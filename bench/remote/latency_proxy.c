/* Gives a server on loopback the latency of one far away: holds every request back for a while, then lets everything through.
 *
 *     latency_proxy LISTEN_PORT UPSTREAM_PORT MEDIAN_MS TAIL_SHARE TAIL_FACTOR [SEED]
 *
 * HTTP/1.1 without pipelining: bytes from a client that has received nothing since its last bytes belong to the same request,
 * other ones begin a new request. So nothing has to be parsed, and a response costs two splices a pipe load. The delay is
 * log-normal (sigma 0.1) around the median; a share of requests takes TAIL_FACTOR times as long. One thread, epoll. A
 * connection's first request is delayed once more, as a handshake over that distance would be.
 *
 * Commands on stdin: "latency MEDIAN_MS TAIL_SHARE", "reset", "stats": answers with one line of JSON. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 4096
#define REQUEST_MAX 16384
#define PIPE_BYTES (1 << 20)

struct link;
struct end { /* what epoll hands back */
    struct link *link;
    int fd;
    uint32_t events;
};
struct link {
    struct end client, server;
    int pipe[2];
    size_t piped;
    char request[REQUEST_MAX];
    size_t request_bytes;
    double due;     /* when the request goes on; 0: nothing is held */
    bool answering; /* bytes of the response have gone to the client since the last request */
    bool fresh;
    bool server_ended;
    struct link *next; /* free */
};

static struct {
    double median_s, share, factor;
    uint64_t requests, connections, bytes, tail;
    uint32_t open, open_max;
} state;
static struct link links[CONNECTIONS_MAX], *free_links;
static struct link *held[CONNECTIONS_MAX]; /* a heap by due */
static int held_count;
static int epoll_fd, upstream_port;
static uint64_t random_state = 88172645463325252u;

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double uniform(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return ((double)(random_state >> 11) + 0.5) / 9007199254740992.0;
}

static double draw(void)
{
    double normal = sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform());
    double delay = state.median_s * exp(0.1 * normal);
    if (uniform() < state.share) {
        state.tail++;
        delay *= state.factor;
    }
    return delay;
}

static void watch(struct end *end, uint32_t events)
{
    if (end->events == events || end->fd < 0)
        return;
    struct epoll_event event = {.events = events, .data.ptr = end};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, end->fd, &event);
    end->events = events;
}

static void add(struct end *end, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = end};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, end->fd, &event);
    end->events = events;
}

/* --- the heap of held requests --- */

static void sift_up(int at)
{
    while (at > 0 && held[at]->due < held[(at - 1) / 2]->due) {
        struct link *link = held[at];
        held[at] = held[(at - 1) / 2];
        held[(at - 1) / 2] = link;
        at = (at - 1) / 2;
    }
}

static void remove_held(int at)
{
    held[at] = held[--held_count];
    if (at == held_count)
        return;
    sift_up(at);
    for (int child; (child = 2 * at + 1) < held_count; at = child) {
        if (child + 1 < held_count && held[child + 1]->due < held[child]->due)
            child++;
        if (held[at]->due <= held[child]->due)
            break;
        struct link *link = held[at];
        held[at] = held[child];
        held[child] = link;
    }
}

static void hold(struct link *link, double due)
{
    link->due = due;
    held[held_count] = link;
    sift_up(held_count++);
}

/* --- connections --- */

static void end_link(struct link *link)
{
    for (int i = 0; i < held_count; i++)
        if (held[i] == link) {
            remove_held(i);
            break;
        }
    int fds[] = {link->client.fd, link->server.fd, link->pipe[0], link->pipe[1]};
    for (int i = 0; i < 4; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    link->client.fd = link->server.fd = -1; /* events of this round that are still to come find it so */
    link->next = free_links;
    free_links = link;
    state.open--;
}

static void begin_link(int client)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)upstream_port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct link *link = free_links;
    int server = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    if (!link || server < 0 || (connect(server, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS)) {
        close(client);
        if (server >= 0)
            close(server);
        return;
    }
    free_links = link->next;
    memset(link, 0, offsetof(struct link, request));
    link->request_bytes = 0;
    link->due = 0;
    link->answering = true;
    link->fresh = true;
    link->server_ended = false;
    link->client = (struct end){link, client, 0};
    link->server = (struct end){link, server, 0};
    if (pipe2(link->pipe, O_NONBLOCK | O_CLOEXEC) < 0) {
        link->pipe[0] = link->pipe[1] = -1;
        state.open++;
        end_link(link);
        return;
    }
    fcntl(link->pipe[0], F_SETPIPE_SZ, PIPE_BYTES);
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    add(&link->client, EPOLLIN);
    add(&link->server, EPOLLIN);
    state.connections++;
    state.open++;
    if (state.open > state.open_max)
        state.open_max = state.open;
}

/* Send what is held on its way. */
static void let_go(struct link *link)
{
    size_t sent = 0;
    link->due = 0;
    while (sent < link->request_bytes) {
        ssize_t wrote = send(link->server.fd, link->request + sent, link->request_bytes - sent, MSG_NOSIGNAL);
        if (wrote < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOTCONN)) {
            hold(link, now_s() + 0.0005); /* still connecting: a moment later */
            memmove(link->request, link->request + sent, link->request_bytes - sent);
            link->request_bytes -= sent;
            return;
        }
        if (wrote < 0) {
            end_link(link);
            return;
        }
        sent += (size_t)wrote;
    }
    link->request_bytes = 0;
}

static void client_speaks(struct link *link)
{
    ssize_t got = recv(link->client.fd, link->request + link->request_bytes, REQUEST_MAX - link->request_bytes, 0);
    if (got <= 0) {
        if (got == 0 || (errno != EAGAIN && errno != EINTR))
            end_link(link);
        return;
    }
    link->request_bytes += (size_t)got;
    if (!link->answering && link->due == 0) { /* the rest of a request that went on already */
        let_go(link);
        return;
    }
    if (!link->answering)
        return;
    link->answering = false;
    state.requests++;
    double delay = draw();
    if (link->fresh)
        delay += state.median_s;
    link->fresh = false;
    if (delay > 0)
        hold(link, now_s() + delay);
    else
        let_go(link);
}

/* Bytes of the response: server -> pipe -> client, as far as both take it. */
static void pass_on(struct link *link)
{
    for (;;) {
        bool moved = false;
        if (link->piped < PIPE_BYTES && !link->server_ended) {
            ssize_t got =
                splice(link->server.fd, NULL, link->pipe[1], NULL, PIPE_BYTES - link->piped, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
            if (got > 0) {
                link->piped += (size_t)got;
                moved = true;
            } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
                link->server_ended = true;
            }
        }
        if (link->piped) {
            ssize_t put = splice(link->pipe[0], NULL, link->client.fd, NULL, link->piped, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
            if (put > 0) {
                link->piped -= (size_t)put;
                link->answering = true;
                state.bytes += (uint64_t)put;
                moved = true;
            } else if (put < 0 && errno != EAGAIN && errno != EINTR) {
                end_link(link);
                return;
            }
        }
        if (link->server_ended && link->piped == 0) {
            end_link(link);
            return;
        }
        if (!moved)
            break;
    }
    watch(&link->client, EPOLLIN | (link->piped ? EPOLLOUT : 0));
    watch(&link->server, link->piped < PIPE_BYTES / 2 ? EPOLLIN : 0);
}

static bool command(void)
{
    static char line[256];
    if (!fgets(line, sizeof line, stdin))
        return false;
    double median, share;
    if (sscanf(line, "latency %lf %lf", &median, &share) == 2) {
        state.median_s = median / 1000;
        state.share = share;
    } else if (strncmp(line, "reset", 5) == 0) {
        state.requests = state.connections = state.bytes = state.tail = 0;
        state.open_max = state.open;
    }
    printf("{\"requests\": %llu, \"connections\": %llu, \"bytes\": %llu, \"tail\": %llu, \"open_max\": %u}\n",
           (unsigned long long)state.requests, (unsigned long long)state.connections, (unsigned long long)state.bytes,
           (unsigned long long)state.tail, state.open_max);
    fflush(stdout);
    return true;
}

int main(int argc, char **argv)
{
    if (argc < 6) {
        fprintf(stderr, "usage: latency_proxy LISTEN_PORT UPSTREAM_PORT MEDIAN_MS TAIL_SHARE TAIL_FACTOR [SEED]\n");
        return 2;
    }
    upstream_port = atoi(argv[2]);
    state.median_s = atof(argv[3]) / 1000;
    state.share = atof(argv[4]);
    state.factor = atof(argv[5]);
    if (argc > 6)
        random_state ^= strtoull(argv[6], NULL, 10) * 0x9e3779b97f4a7c15u;
    for (int i = CONNECTIONS_MAX - 1; i >= 0; i--) {
        links[i].next = free_links;
        free_links = &links[i];
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one); /* several share the port's connections */
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 4096) < 0) {
        perror("latency_proxy");
        return 1;
    }
    signal(SIGPIPE, SIG_IGN); /* splice to a client that has gone */
    setvbuf(stdin, NULL, _IONBF, 0);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    static struct end listening, standard_in;
    listening.fd = listener;
    standard_in.fd = 0;
    add(&listening, EPOLLIN);
    add(&standard_in, EPOLLIN);
    puts("{\"ready\": true}");
    fflush(stdout);
    for (;;) {
        double now = now_s();
        while (held_count && held[0]->due <= now) {
            struct link *link = held[0];
            remove_held(0);
            let_go(link);
        }
        struct epoll_event events[256];
        struct timespec timeout = {.tv_sec = 3600};
        if (held_count) {
            double left = held[0]->due - now_s();
            left = left > 0 ? left : 0;
            timeout = (struct timespec){.tv_sec = (time_t)left, .tv_nsec = (long)((left - floor(left)) * 1e9)};
        }
        int count = epoll_pwait2(epoll_fd, events, 256, &timeout, NULL);
        for (int i = 0; i < count; i++) {
            struct end *end = events[i].data.ptr;
            if (end == &listening) {
                for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;)
                    begin_link(fd);
            } else if (end == &standard_in) {
                if (!command())
                    return 0;
            } else if (end->fd >= 0) {
                struct link *link = end->link;
                if (end == &link->client && (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
                    client_speaks(link);
                if (link->client.fd >= 0 && (end == &link->server || (events[i].events & EPOLLOUT)))
                    pass_on(link);
            }
        }
    }
}
