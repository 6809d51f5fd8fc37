/* Asks the same again and again, over many connections at once, and says how that went.

   usage: load HOST PORT CONVERSATION CLIENTS SECONDS REQUESTS KEYS

   CONVERSATION is a file of lines, each of bytes in hexadecimal and of what is awaited for them:

     BYTES N      N bytes, as in the handshake of SOCKS
     BYTES head   an HTTP response's head, as for CONNECT
     BYTES again  a whole HTTP response, whereupon the same is sent again; the last line
     BYTES N again
                  the same, with N bytes of a request's body behind these

   CLIENTS connections go through it side by side, each asking again as soon as it has its response,
   for SECONDS, or until there are REQUESTS responses where that is not 0. Where it is, nothing is
   counted for the first 0.3 s, nor before every client has had a response, within 3 s. When counting
   begins, the line "measuring" is printed.

   Where KEYS is not 0, the eight signs ######## in what is asked again stand for a number below it:
   each request has the next one, and behind the last of them comes the first again.

   The result is a line of JSON: how many requests were answered, failed (refused or broken off),
   after which time in all, with how many bytes of bodies, and how long a response took, in
   microseconds. One thread, one epoll. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "http.h"

enum { AT_LEAST_BEFORE = 300000, AT_MOST_BEFORE = 3000000 }; /* microseconds before it counts */
enum { KEY_DIGITS = 8 };
enum { BLOCK = 256 * 1024, HEAD = 16 * 1024, ROUND = 512, STEPS = 8, TOO_MANY_FAILURES = 1000 };

struct step {
    char *bytes;
    size_t size;
    char *key; /* the digits of it among these bytes, or NULL */
    uint64_t upload;
    enum { COUNT, ONLY_HEAD, AGAIN } awaited;
    size_t count;
};

struct client {
    int fd;
    size_t step;
    uint64_t to_send; /* of the step's bytes and its upload */
    uint64_t key;     /* of its request */
    uint64_t asked;   /* when, in microseconds */
    char head[HEAD];
    size_t head_has;
    bool in_body, to_close, was_served;
    struct body body;
    uint32_t watched;
};

static struct step steps[STEPS];
static size_t step_count;
static struct sockaddr_in server;
static struct client *clients;
static size_t client_count, served_count;
static int epoll;
static char input[BLOCK], filler[BLOCK];

static bool is_measuring;
static uint64_t began, target, asked_for, keys, next_key;
static uint64_t answered, failed, bytes;
static uint32_t *times;
static size_t times_size;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}

/* --- the conversation ------------------------------------------------------------------------- */

static void read_step(struct step *step, char *line)
{
    char *hex = strtok(line, " \n"), *word = strtok(NULL, " \n"), *further = strtok(NULL, " \n");
    if (hex == NULL || word == NULL) {
        fprintf(stderr, "load: a line of the conversation has too few words\n");
        exit(2);
    }
    step->size = strlen(hex) / 2;
    step->bytes = malloc(step->size + 1);
    for (size_t i = 0; i < step->size; i++)
        sscanf(hex + 2 * i, "%2hhx", (unsigned char *)step->bytes + i);
    step->key = keys == 0 ? NULL : memmem(step->bytes, step->size, "########", KEY_DIGITS);
    if (strcmp(word, "head") == 0) {
        step->awaited = ONLY_HEAD;
    } else if (strcmp(word, "again") == 0) {
        step->awaited = AGAIN;
    } else if (further != NULL) {
        step->awaited = AGAIN;
        step->upload = strtoull(word, NULL, 10);
    } else {
        step->awaited = COUNT;
        step->count = strtoull(word, NULL, 10);
    }
}

static void read_conversation(const char *path)
{
    char *line = NULL;
    size_t size = 0;
    FILE *file = fopen(path, "r");
    if (file == NULL)
        fail(path);
    while (step_count < STEPS && getline(&line, &size, file) > 0)
        read_step(&steps[step_count++], line);
    free(line);
    fclose(file);
    if (step_count == 0 || steps[step_count - 1].awaited != AGAIN) {
        fprintf(stderr, "load: the last line of the conversation must be asked again\n");
        exit(2);
    }
}

/* --- what is counted -------------------------------------------------------------------------- */

static void count_response(uint64_t time)
{
    if (!is_measuring)
        return;
    if (answered == times_size) {
        times_size = times_size == 0 ? 65536 : 2 * times_size;
        times = realloc(times, times_size * sizeof *times);
        if (times == NULL)
            fail("realloc");
    }
    times[answered++] = (uint32_t)time;
}

static int by_size(const void *one, const void *other)
{
    uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;
    return (a > b) - (a < b);
}

static uint32_t percentile(unsigned percent)
{
    return answered == 0 ? 0 : times[(answered - 1) * percent / 100];
}

static void print_result(void)
{
    qsort(times, answered, sizeof *times, by_size);
    printf("{\"requests\": %llu, \"failed\": %llu, \"seconds\": %.6f, \"bytes\": %llu, "
           "\"p50\": %u, \"p90\": %u, \"p99\": %u, \"max\": %u}\n",
           (unsigned long long)answered, (unsigned long long)failed, (double)(now() - began) / 1e6,
           (unsigned long long)bytes, percentile(50), percentile(90), percentile(99),
           percentile(100));
}

/* --- clients ---------------------------------------------------------------------------------- */

static void watch(struct client *c, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (c->watched == events)
        return;
    epoll_ctl(epoll, c->watched == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, c->fd, &event);
    c->watched = events;
}

static void begin_step(struct client *c, size_t step)
{
    c->step = step;
    c->to_send = steps[step].size + steps[step].upload;
    c->head_has = 0;
    c->in_body = c->to_close = false;
    if (steps[step].key != NULL)
        c->key = next_key++ % keys;
    c->asked = now();
}

static void connect_client(struct client *c)
{
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        fail("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(c->fd, (struct sockaddr *)&server, sizeof server) && errno != EINPROGRESS)
        fail("connect");
    c->watched = 0;
    watch(c, EPOLLOUT);
}

static void disconnect(struct client *c)
{
    close(c->fd);
    c->fd = -1;
}

static bool is_request(const struct client *c)
{
    return c->step == step_count - 1;
}

/* Ask as the conversation has it, from its beginning where the connection is a new one. */
static void ask(struct client *c, bool anew)
{
    if (target != 0 && (anew || is_request(c))) {
        if (asked_for == target) {
            disconnect(c);
            return;
        }
        asked_for++;
    }
    begin_step(c, anew ? 0 : c->step);
    if (anew)
        connect_client(c);
}

/* The bytes of a step are everybody's: the key is written into them just before they are sent. */
static void write_key(const struct step *step, uint64_t key)
{
    for (size_t i = KEY_DIGITS; i-- > 0; key /= 10)
        step->key[i] = (char)('0' + key % 10);
}

static void send_step(struct client *c)
{
    const struct step *step = &steps[c->step];
    if (step->key != NULL)
        write_key(step, c->key);
    while (c->to_send > 0) {
        const char *from = filler;
        size_t size = c->to_send < BLOCK ? c->to_send : BLOCK;
        if (c->to_send > step->upload) {
            size = c->to_send - step->upload;
            from = step->bytes + step->size - size;
        }
        ssize_t sent = send(c->fd, from, size, MSG_NOSIGNAL);
        if (sent < 0)
            break; /* what has gone wrong is found when it is read */
        c->to_send -= (size_t)sent;
    }
    watch(c, c->to_send > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void fail_client(struct client *c)
{
    disconnect(c);
    failed++;
    if (failed > TOO_MANY_FAILURES && failed > answered) {
        print_result();
        exit(1);
    }
    ask(c, true);
}

static void finish_response(struct client *c)
{
    bool good = c->head[9] == '2', closing = c->to_close;
    if (!good) {
        fail_client(c);
        return;
    }
    count_response(now() - c->asked);
    served_count += !c->was_served;
    c->was_served = true;
    if (closing)
        disconnect(c);
    ask(c, closing);
    if (c->fd >= 0 && !closing)
        send_step(c);
}

/* Whether the head says that the connection ends behind the message. */
static bool says_close(const char *head)
{
    const char *value = field(head, "\r\nconnection:");
    return value != NULL && strncasecmp(value, "close", 5) == 0;
}

/* Take a head's bytes; how many they were. */
static size_t read_head(struct client *c, const char *data, size_t size)
{
    size_t step = size < HEAD - 1 - c->head_has ? size : HEAD - 1 - c->head_has;
    memcpy(c->head + c->head_has, data, step);
    size_t whole = head_size(c->head, c->head_has + step);
    if (whole == 0) {
        c->head_has += step;
        return step;
    }
    size_t taken = whole - c->head_has;
    c->head[whole] = 0;
    c->head_has = 0;
    c->in_body = true;
    c->to_close = says_close(c->head);
    c->body = body_of(c->head, (struct body){.kind = TO_THE_END});
    return taken;
}

/* Take what was received; false where that cannot be what is awaited. */
static bool read_answer(struct client *c, const char *data, size_t size)
{
    const struct step *step = &steps[c->step];
    if (step->awaited == COUNT) {
        c->head_has += size;
        if (c->head_has < step->count)
            return true;
        begin_step(c, c->step + 1);
        send_step(c);
        return true;
    }
    size_t at = c->in_body ? 0 : read_head(c, data, size);
    if (!c->in_body)
        return c->head_has < HEAD - 1;
    if (step->awaited == ONLY_HEAD) {
        if (c->head[9] != '2')
            return false;
        begin_step(c, c->step + 1);
        send_step(c);
        return true;
    }
    if (is_measuring)
        bytes += size - at;
    at += pass_over(&c->body, data + at, size - at);
    if (at < size)
        return false;
    if (body_is_over(&c->body))
        finish_response(c);
    return true;
}

static void serve(struct client *c, uint32_t events)
{
    if (events & EPOLLOUT)
        send_step(c);
    if (!(events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
        return;
    ssize_t got = recv(c->fd, input, BLOCK, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got == 0 && c->in_body && c->body.kind == TO_THE_END) {
        c->to_close = true;
        finish_response(c);
    } else if (got <= 0 || !read_answer(c, input, (size_t)got)) {
        fail_client(c);
    }
}

/* --- the loop --------------------------------------------------------------------------------- */

static void measure(void)
{
    is_measuring = true;
    began = now();
    printf("measuring\n");
    fflush(stdout);
}

static bool all_are_served(void)
{
    return served_count == client_count;
}

static bool all_is_done(void)
{
    return target != 0 && answered + failed >= target;
}

/* Go on until that time, or until THEN is so, if that is sooner. */
static void run_until(uint64_t end, bool (*then)(void))
{
    struct epoll_event events[ROUND];
    for (uint64_t time = now(); time < end && !then(); time = now()) {
        int ready = epoll_wait(epoll, events, ROUND, (int)((end - time) / 1000) + 1);
        for (int i = 0; i < ready; i++)
            serve(events[i].data.ptr, events[i].events);
    }
}

static void open_files(void)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

int main(int count, char **arguments)
{
    if (count != 8) {
        fprintf(stderr, "usage: load HOST PORT CONVERSATION CLIENTS SECONDS REQUESTS KEYS\n");
        return 2;
    }
    open_files();
    server.sin_family = AF_INET;
    server.sin_port = htons((in_port_t)atoi(arguments[2]));
    inet_pton(AF_INET, arguments[1], &server.sin_addr);
    keys = strtoull(arguments[7], NULL, 10);
    read_conversation(arguments[3]);
    client_count = strtoull(arguments[4], NULL, 10);
    uint64_t duration = (uint64_t)(strtod(arguments[5], NULL) * 1e6);
    target = strtoull(arguments[6], NULL, 10);
    memset(filler, '~', sizeof filler);
    epoll = epoll_create1(0);
    clients = calloc(client_count, sizeof *clients);
    if (clients == NULL)
        fail("calloc");
    if (target != 0)
        measure();
    for (size_t i = 0; i < client_count; i++)
        ask(&clients[i], true);
    if (target == 0) {
        uint64_t start = now();
        run_until(start + AT_MOST_BEFORE, all_are_served);
        run_until(start + AT_LEAST_BEFORE, all_is_done);
        measure();
    }
    run_until(began + duration, all_is_done);
    print_result();
    return 0;
}
