/* A tiny HTTP/1.1 server inside the test, one thread a connection. What it answers is the test's: a function gets the question
 * and writes the whole answer, or a part of it, slowly or with lies. */
#ifndef NET_SERVER_H
#define NET_SERVER_H

#include "store_fixture.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>

/* More than any test can open, however slow it is: whoever gives an attempt up closes its connection and opens another one. */
#define SERVER_CONNECTIONS 1024
#define SERVER_STACK_BYTES (4u << 20) /* what is each thread's own of a test lies there, too */

/* Whatever the machine's own network and limits are: no proxy stands before 127.0.0.1, and both ends of all connections have
 * descriptors in this process. */
__attribute__((constructor)) static void server_environment(void)
{
    static const char *const proxies[] = {"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy",
                                          "ALL_PROXY",  "no_proxy",    "NO_PROXY"};
    struct rlimit limit;
    for (size_t i = 0; i < sizeof proxies / sizeof proxies[0]; i++)
        unsetenv(proxies[i]);
    const rlim_t wanted = 3 * SERVER_CONNECTIONS;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < wanted) {
        limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

struct question {
    char method[8];
    char target[8192]; /* as sent */
    char head[16384];  /* all header lines */
    uint32_t number;   /* of all questions to this server, from 0 */
    bool ranged, suffix;
    uint64_t begin, last; /* of Range: bytes=begin-last; last UINT64_MAX: open; suffix: bytes=-last */
};

struct server {
    int fd;
    uint16_t port;
    pthread_t thread;
    _Atomic bool stop;
    _Atomic uint32_t questions, connections;
    /* Answer on `fd`; false closes the connection. */
    bool (*answer)(struct server *server, int fd, const struct question *question);
    void *user;
    pthread_mutex_t lock;
    int open[SERVER_CONNECTIONS];
    pthread_t threads[SERVER_CONNECTIONS];
    uint32_t thread_count;
};

struct server_link {
    struct server *server;
    int fd;
};

/* The value of a header of the question, NULL none. */
static inline const char *question_header(const struct question *question, const char *name, char *value, size_t capacity)
{
    size_t bytes = strlen(name);
    for (const char *line = question->head; line && *line; line = strstr(line, "\r\n") ? strstr(line, "\r\n") + 2 : NULL)
        if (strncasecmp(line, name, bytes) == 0 && line[bytes] == ':') {
            snprintf(value, capacity, "%.*s", (int)strcspn(line + bytes + 2, "\r\n"), line + bytes + 2);
            return value;
        }
    return NULL;
}

static inline bool send_all(int fd, const void *data, size_t bytes)
{
    const char *at = data;
    while (bytes > 0) {
        ssize_t sent = send(fd, at, bytes, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        at += sent;
        bytes -= (size_t)sent;
    }
    return true;
}

static inline bool send_text(int fd, const char *text)
{
    return send_all(fd, text, strlen(text));
}

static inline void read_question(struct question *question, char *text)
{
    char range[128];
    sscanf(text, "%7s %8191s", question->method, question->target);
    char *line = strstr(text, "\r\n");
    snprintf(question->head, sizeof question->head, "%s", line ? line + 2 : "");
    question->ranged = question_header(question, "Range", range, sizeof range) != NULL;
    if (!question->ranged)
        return;
    question->last = UINT64_MAX;
    question->suffix = strncmp(range, "bytes=-", 7) == 0;
    if (question->suffix)
        question->last = strtoull(range + 7, NULL, 10);
    else
        sscanf(range, "bytes=%lu-%lu", &question->begin, &question->last);
}

static inline void *server_connection(void *argument)
{
    struct server_link link = *(struct server_link *)argument;
    free(argument);
    struct server *server = link.server;
    struct question *question = calloc(1, sizeof *question);
    char *text = malloc(20000);
    size_t bytes = 0;
    while (question && text) {
        char *end;
        text[bytes] = 0;
        while (!(end = strstr(text, "\r\n\r\n"))) {
            ssize_t got = bytes < 19000 ? recv(link.fd, text + bytes, 19000 - bytes, 0) : 0;
            if (got <= 0)
                goto over;
            bytes += (size_t)got;
            text[bytes] = 0;
        }
        end[2] = 0;
        memset(question, 0, sizeof *question);
        question->number = atomic_fetch_add(&server->questions, 1);
        read_question(question, text);
        size_t used = (size_t)(end + 4 - text);
        memmove(text, end + 4, bytes - used);
        bytes -= used;
        if (!server->answer(server, link.fd, question))
            break;
    }
over:
    shutdown(link.fd, SHUT_RDWR); /* closed at the end of the test, so that no number is used twice */
    free(question);
    free(text);
    return NULL;
}

static inline void *server_run(void *argument)
{
    struct server *server = argument;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, SERVER_STACK_BYTES);
    while (!atomic_load(&server->stop)) {
        int fd = accept(server->fd, NULL, NULL);
        if (fd < 0)
            continue;
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        atomic_fetch_add(&server->connections, 1);
        struct server_link *link = malloc(sizeof *link);
        *link = (struct server_link){server, fd};
        pthread_mutex_lock(&server->lock);
        uint32_t count = server->thread_count;
        if (atomic_load(&server->stop) || count == SERVER_CONNECTIONS ||
            pthread_create(&server->threads[count], &small, server_connection, link) != 0) {
            close(fd);
            free(link);
        } else {
            server->open[count] = fd;
            server->thread_count++;
        }
        pthread_mutex_unlock(&server->lock);
    }
    pthread_attr_destroy(&small);
    return NULL;
}

static inline void server_start(struct server *server,
                                bool (*answer)(struct server *server, int fd, const struct question *question), void *user)
{
    memset(server, 0, sizeof *server);
    server->answer = answer;
    server->user = user;
    pthread_mutex_init(&server->lock, NULL);
    server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    assert_int_equal(bind(server->fd, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(server->fd, 128), 0);
    assert_int_equal(getsockname(server->fd, (struct sockaddr *)&address, &length), 0);
    server->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&server->thread, NULL, server_run, server), 0);
}

static inline void server_end(struct server *server)
{
    atomic_store(&server->stop, true);
    shutdown(server->fd, SHUT_RDWR);
    pthread_join(server->thread, NULL);
    pthread_mutex_lock(&server->lock);
    for (uint32_t i = 0; i < server->thread_count; i++)
        shutdown(server->open[i], SHUT_RDWR);
    pthread_mutex_unlock(&server->lock);
    for (uint32_t i = 0; i < server->thread_count; i++) {
        pthread_join(server->threads[i], NULL);
        close(server->open[i]);
    }
    close(server->fd);
    pthread_mutex_destroy(&server->lock);
}

/* Wait, unless the test ends first. */
static inline void server_dawdle(struct server *server, uint32_t ms)
{
    for (uint32_t i = 0; i < ms && !atomic_load(&server->stop); i++)
        usleep(1000);
}

/* A well-behaved answer with the bytes of an object of `size` and `seed`. */
static inline bool answer_well(int fd, const struct question *question, uint64_t seed, uint64_t size, const char *extra)
{
    char head[1024];
    uint64_t begin = 0, end = size;
    bool part = question->ranged;
    if (part) {
        begin = question->suffix ? size - (question->last < size ? question->last : size) : question->begin;
        end = question->suffix || question->last >= size ? size : question->last + 1;
        if (begin >= size || begin >= end) {
            snprintf(head, sizeof head, "HTTP/1.1 416 No\r\nContent-Range: bytes */%lu\r\nContent-Length: 0\r\n\r\n", size);
            return send_text(fd, head);
        }
    }
    int length = snprintf(head, sizeof head, "HTTP/1.1 %s\r\nContent-Length: %lu\r\n%s",
                          part ? "206 Partial Content" : "200 OK", end - begin, extra);
    if (part)
        length +=
            snprintf(head + length, sizeof head - (size_t)length, "Content-Range: bytes %lu-%lu/%lu\r\n", begin, end - 1, size);
    snprintf(head + length, sizeof head - (size_t)length, "\r\n");
    if (!send_text(fd, head))
        return false;
    if (strcmp(question->method, "HEAD") == 0)
        return true;
    unsigned char block[4096];
    while (begin < end) {
        uint64_t count = end - begin < sizeof block ? end - begin : sizeof block;
        fill_bytes(block, seed, begin, count);
        if (!send_all(fd, block, count))
            return false;
        begin += count;
    }
    return true;
}

#endif
