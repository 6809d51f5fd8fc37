/* What lies behind every gateway: a SOCKS5 server that is every destination itself.

   usage: socks CERTIFICATE KEY [DELAY]

   It listens on three ports of 127.0.0.1, which the kernel chooses and which it prints as JSON:

     socks   takes any credentials and any name, and is itself the server that was asked for: of
             https where the port asked for is the one of https, else of http
     http    the same server for those that come without SOCKS, as the exits of a Tor network
     https   the same over TLS, with the certificate and the key from these files

   GET /N has N bytes; GET /N?last has them, too, and is the last that is answered on its connection,
   as the response says. Any other request is read to its end, and answered with few. Whoever is
   answered may ask again: the client closes the connection.

   DELAY is the round trip to the destinations in milliseconds: the answer to CONNECT and each
   response wait that long from when they were asked for. A request that comes along with CONNECT is
   answered along with it. (Handshakes of TLS are not delayed.)

   One thread, one epoll. It ends with its standard input. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "http.h"

enum { BLOCK = 256 * 1024, HEAD = 8 * 1024, SMALL = 4 * 1024, ROUND = 512, EXPECTED_FILES = 65536 };

struct connection {
    int fd;
    uint64_t serial; /* unlike that of an earlier one with the same descriptor */
    SSL *tls;
    enum { GREETING, LOGIN, CONNECT, REQUEST, BODY } stage;
    char head[HEAD]; /* of a request, as far as it has come */
    size_t head_has;
    struct body body; /* of a request */
    char out[2 * SMALL];
    size_t out_size, out_sent;
    uint64_t filler; /* how many bytes of a response are to be sent behind `out` */
    uint32_t watched;
};

/* An answer that waits for its time. */
struct answer {
    struct answer *next;
    int fd;
    uint64_t serial;
    uint64_t due;
    uint64_t filler;
    size_t size;
    char bytes[];
};

static struct connection *connections[EXPECTED_FILES]; /* by descriptor */
static struct answer *first_answer, **behind_answers = &first_answer;
static uint64_t delay; /* microseconds */
static int epoll, socks_listener, http_listener, https_listener;
static in_port_t https_port;
static SSL_CTX *tls_context;
static char filler[BLOCK], input[BLOCK + 1];

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

/* --- connections ------------------------------------------------------------------------------ */

static void watch(struct connection *c, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = c->fd};
    if (c->watched == events)
        return;
    epoll_ctl(epoll, c->watched == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, c->fd, &event);
    c->watched = events;
}

static void end(struct connection *c)
{
    connections[c->fd] = NULL;
    SSL_free(c->tls);
    close(c->fd);
    free(c);
}

static bool begin_tls(struct connection *c)
{
    c->tls = SSL_new(tls_context);
    if (c->tls == NULL || !SSL_set_fd(c->tls, c->fd))
        return false;
    SSL_set_accept_state(c->tls);
    return true;
}

static void begin(int listener)
{
    static uint64_t serial;
    int on = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0)
        return;
    struct connection *c = fd < EXPECTED_FILES ? calloc(1, sizeof *c) : NULL;
    if (c == NULL) {
        close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    c->fd = fd;
    c->serial = ++serial;
    c->stage = listener == socks_listener ? GREETING : REQUEST;
    connections[fd] = c;
    if (listener == https_listener && !begin_tls(c))
        end(c);
    else
        watch(c, EPOLLIN);
}

/* As recv(2) and send(2); nothing that could be had now is -1 with EAGAIN. */

static ssize_t result_of_tls(struct connection *c, int result)
{
    if (result > 0)
        return result;
    int error = SSL_get_error(c->tls, result);
    bool later = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
    errno = later ? EAGAIN : EPROTO;
    return error == SSL_ERROR_ZERO_RETURN ? 0 : -1;
}

static ssize_t take(struct connection *c, char *to, size_t size)
{
    if (c->tls != NULL)
        return result_of_tls(c, SSL_read(c->tls, to, (int)size));
    return recv(c->fd, to, size, 0);
}

static ssize_t give(struct connection *c, const char *from, size_t size, bool more)
{
    if (c->tls != NULL)
        return result_of_tls(c, SSL_write(c->tls, from, (int)size));
    return send(c->fd, from, size, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
}

/* --- answers ---------------------------------------------------------------------------------- */

static bool is_sending(const struct connection *c)
{
    return c->out_sent < c->out_size || c->filler > 0;
}

/* Send what there is to send, as far as it goes; false where the connection is broken. */
static bool flush(struct connection *c)
{
    while (is_sending(c)) {
        bool in_head = c->out_sent < c->out_size;
        const char *from = in_head ? c->out + c->out_sent : filler;
        size_t size = in_head ? c->out_size - c->out_sent : c->filler < BLOCK ? c->filler : BLOCK;
        ssize_t sent = give(c, from, size, in_head && c->filler > 0);
        if (sent < 0)
            return errno == EAGAIN;
        if (in_head)
            c->out_sent += (size_t)sent;
        else
            c->filler -= (size_t)sent;
    }
    c->out_size = c->out_sent = 0;
    return true;
}

static bool send_now(struct connection *c, const char *bytes, size_t size, uint64_t more)
{
    if (c->filler > 0 || c->out_size + size + SMALL > sizeof c->out)
        return false; /* it asks for more than it reads */
    memcpy(c->out + c->out_size, bytes, size);
    c->out_size += size;
    if (more <= SMALL) {
        memcpy(c->out + c->out_size, filler, more);
        c->out_size += more;
    } else {
        c->filler = more;
    }
    return flush(c);
}

/* Answer with these bytes and so many more; false where the connection is to end. */
static bool answer(struct connection *c, const char *bytes, size_t size, uint64_t more)
{
    if (delay == 0)
        return send_now(c, bytes, size, more);
    struct answer *later = malloc(sizeof *later + size);
    if (later == NULL)
        return false;
    *later = (struct answer){
        .fd = c->fd, .serial = c->serial, .due = now() + delay, .filler = more, .size = size};
    memcpy(later->bytes, bytes, size);
    *behind_answers = later;
    behind_answers = &later->next;
    return true;
}

/* Send the answers whose time has come; the result is for how long epoll may wait. */
static int send_due_answers(void)
{
    while (first_answer != NULL) {
        struct answer *due = first_answer;
        uint64_t time = now();
        if (due->due > time)
            return (int)((due->due - time + 999) / 1000);
        first_answer = due->next;
        if (first_answer == NULL)
            behind_answers = &first_answer;
        struct connection *c = connections[due->fd];
        if (c != NULL && c->serial == due->serial) {
            if (!send_now(c, due->bytes, due->size, due->filler))
                end(c);
            else
                watch(c, is_sending(c) ? EPOLLOUT : EPOLLIN);
        }
        free(due);
    }
    return -1;
}

/* --- HTTP ------------------------------------------------------------------------------------- */

static bool respond(struct connection *c, uint64_t size, bool is_last)
{
    static char date[64];
    static time_t dated;
    char head[512];
    time_t today = time(NULL);
    if (today != dated) {
        dated = today;
        strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime(&today));
    }
    int length = snprintf(head, sizeof head,
                          "HTTP/1.1 200 OK\r\nServer: bench\r\nDate: %s\r\n"
                          "Content-Type: text/plain\r\nContent-Length: %llu\r\n%s\r\n",
                          date, (unsigned long long)size, is_last ? "Connection: close\r\n" : "");
    c->stage = REQUEST;
    return answer(c, head, (size_t)length, size);
}

/* Take what came of a head; the result is how many bytes that was, or -1. */
static ssize_t read_head(struct connection *c, const char *data, size_t size)
{
    size_t step = size < HEAD - 1 - c->head_has ? size : HEAD - 1 - c->head_has;
    memcpy(c->head + c->head_has, data, step);
    size_t whole = head_size(c->head, c->head_has + step);
    if (whole == 0) {
        c->head_has += step;
        return c->head_has < HEAD - 1 ? (ssize_t)step : -1;
    }
    size_t taken = whole - c->head_has;
    c->head[whole] = 0;
    c->head_has = 0;
    if (strncmp(c->head, "GET /", 5) == 0) {
        char *behind;
        uint64_t bytes = strtoull(c->head + 5, &behind, 10);
        return respond(c, bytes, strncmp(behind, "?last ", 6) == 0) ? (ssize_t)taken : -1;
    }
    c->stage = BODY;
    c->body = body_of(c->head, (struct body){.kind = LENGTH});
    if (body_is_over(&c->body) && !respond(c, 2, false))
        return -1;
    return (ssize_t)taken;
}

static bool read_http(struct connection *c, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t taken;
        if (c->stage == REQUEST) {
            taken = read_head(c, data, size);
            if (taken < 0)
                return false;
        } else {
            taken = (ssize_t)pass_over(&c->body, data, size);
            if (body_is_over(&c->body) && !respond(c, 2, false))
                return false;
        }
        data += taken;
        size -= (size_t)taken;
    }
    return true;
}

/* --- SOCKS ------------------------------------------------------------------------------------ */

/* How many bytes the message has of which this is the beginning; 0: too few to tell. */
static size_t message_size(const struct connection *c, const unsigned char *at, size_t size)
{
    if (size < 5)
        return c->stage == GREETING && size >= 2 ? 2u + at[1] : 0;
    switch (c->stage) {
    case GREETING:
        return 2u + at[1];
    case LOGIN:
        return size < 3u + at[1] ? 0 : 3u + at[1] + at[2 + at[1]];
    default:
        return at[3] == 1 ? 10 : at[3] == 4 ? 22 : 7u + at[4];
    }
}

/* Read one message of the handshake and answer it, and nothing behind it: that may be TLS. The
   result is as that of recv(2). */
static ssize_t read_socks(struct connection *c)
{
    unsigned char at[1024];
    ssize_t peeked = recv(c->fd, at, sizeof at, MSG_PEEK);
    if (peeked <= 0)
        return peeked;
    size_t size = message_size(c, at, (size_t)peeked);
    if (size == 0 || size > (size_t)peeked) {
        errno = EAGAIN;
        return -1;
    }
    (void)!recv(c->fd, at, size, 0);
    if (c->stage == GREETING) {
        bool login = memchr(at + 2, 2, at[1]) != NULL;
        c->stage = login ? LOGIN : CONNECT;
        return send_now(c, login ? "\5\2" : "\5\0", 2, 0) ? 1 : 0;
    }
    if (c->stage == LOGIN) {
        c->stage = CONNECT;
        return send_now(c, "\1\0", 2, 0) ? 1 : 0;
    }
    c->stage = REQUEST;
    if (!answer(c, "\5\0\0\1\0\0\0\0\0\0", 10, 0))
        return 0;
    in_port_t port = (in_port_t)(at[size - 2] << 8 | at[size - 1]);
    return port != https_port || begin_tls(c) ? 1 : 0;
}

/* --- the loop --------------------------------------------------------------------------------- */

/* Do what can be done for a connection now; false where it is to end. */
static bool serve(struct connection *c)
{
    if (!flush(c))
        return false;
    while (!is_sending(c)) {
        bool in_socks = c->stage < REQUEST;
        ssize_t got = in_socks ? read_socks(c) : take(c, input, BLOCK);
        if (got == 0)
            return false;
        if (got < 0 && errno != EAGAIN)
            return false;
        if (got < 0)
            break;
        if (!in_socks && !read_http(c, input, (size_t)got))
            return false;
        if (!in_socks && c->tls == NULL && got < BLOCK)
            break; /* there is no more, or epoll will say so */
    }
    watch(c, is_sending(c) ? EPOLLOUT : EPOLLIN);
    return true;
}

static int listen_on(in_port_t *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) || listen(fd, 4096) ||
        getsockname(fd, (struct sockaddr *)&address, &size))
        fail("listen");
    *port = ntohs(address.sin_port);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    return fd;
}

static void prepare_tls(const char *certificate, const char *key)
{
    tls_context = SSL_CTX_new(TLS_server_method());
    if (tls_context == NULL || SSL_CTX_use_certificate_chain_file(tls_context, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls_context, key, SSL_FILETYPE_PEM) != 1) {
        fprintf(stderr, "socks: the certificate or its key cannot be used\n");
        exit(1);
    }
    SSL_CTX_set_mode(tls_context,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(tls_context, 1);
}

static void open_files(void)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max < EXPECTED_FILES ? files.rlim_max : EXPECTED_FILES;
    setrlimit(RLIMIT_NOFILE, &files);
}

int main(int count, char **arguments)
{
    in_port_t socks_port, http_port;
    if (count < 3) {
        fprintf(stderr, "usage: socks CERTIFICATE KEY [DELAY]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    open_files();
    prepare_tls(arguments[1], arguments[2]);
    delay = count > 3 ? strtoull(arguments[3], NULL, 10) * 1000 : 0;
    memset(filler, '~', sizeof filler);
    epoll = epoll_create1(0);
    socks_listener = listen_on(&socks_port);
    http_listener = listen_on(&http_port);
    https_listener = listen_on(&https_port);
    struct epoll_event events[ROUND], on_input = {.events = EPOLLIN, .data.fd = STDIN_FILENO};
    epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &on_input);
    printf("{\"socks\": %d, \"http\": %d, \"https\": %d}\n", socks_port, http_port, https_port);
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(epoll, events, ROUND, send_due_answers());
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == STDIN_FILENO)
                return 0;
            if (fd == socks_listener || fd == http_listener || fd == https_listener)
                begin(fd);
            else if (connections[fd] != NULL && !serve(connections[fd]))
                end(connections[fd]);
        }
    }
}
