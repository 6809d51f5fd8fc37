/* What the server and the load client both need of HTTP/1.1: how a message's body ends. */

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* A body of which the rest is to come. */
struct body {
    enum { LENGTH, CHUNK_SIZE, CHUNK, TRAILER, TO_THE_END } kind;
    uint64_t left;    /* of LENGTH or of CHUNK, with the line break behind a chunk */
    bool blank_line;  /* of TRAILER: nothing stands in the line so far */
};

/* The size of a head with the blank line behind it, or 0 where it is not whole. */
static size_t head_size(const char *data, size_t size)
{
    const char *end = memmem(data, size, "\r\n\r\n", 4);
    return end == NULL ? 0 : (size_t)(end - data) + 4;
}

/* The value of a header field, or NULL. The head must end with a zero byte; NAME is "\r\nname:". */
static const char *field(const char *head, const char *name)
{
    const char *found = strcasestr(head, name);
    if (found == NULL)
        return NULL;
    found += strlen(name);
    return found + strspn(found, " \t");
}

/* How the body ends of which this is the head; WITHOUT: where the head does not tell. */
static struct body body_of(const char *head, struct body without)
{
    const char *value = field(head, "\r\ntransfer-encoding:");
    if (value != NULL && strncasecmp(value, "chunked", 7) == 0)
        return (struct body){.kind = CHUNK_SIZE};
    value = field(head, "\r\ncontent-length:");
    if (value != NULL)
        return (struct body){.kind = LENGTH, .left = strtoull(value, NULL, 10)};
    return without;
}

static bool body_is_over(const struct body *body)
{
    return body->kind == LENGTH && body->left == 0;
}

/* One byte of the lines around chunks. */
static void read_line_byte(struct body *body, char byte)
{
    if (body->kind == CHUNK_SIZE && isxdigit((unsigned char)byte)) {
        int digit = isdigit((unsigned char)byte) ? byte - '0' : tolower(byte) - 'a' + 10;
        body->left = body->left * 16 + (uint64_t)digit;
    } else if (body->kind == CHUNK_SIZE && byte == '\n') {
        body->kind = body->left == 0 ? TRAILER : CHUNK;
        body->left += body->left == 0 ? 0 : 2;
        body->blank_line = true;
    } else if (body->kind == TRAILER && byte == '\n') {
        if (body->blank_line)
            *body = (struct body){.kind = LENGTH};
        body->blank_line = true;
    } else if (body->kind == TRAILER && byte != '\r') {
        body->blank_line = false;
    }
}

/* Pass over what there is of the body; the result is how many bytes that was. */
static size_t pass_over(struct body *body, const char *data, size_t size)
{
    size_t at = 0;
    while (at < size && !body_is_over(body)) {
        if (body->kind == TO_THE_END)
            return size;
        if (body->kind != LENGTH && body->kind != CHUNK) {
            read_line_byte(body, data[at++]);
            continue;
        }
        size_t step = size - at < body->left ? size - at : (size_t)body->left;
        at += step;
        body->left -= step;
        if (body->kind == CHUNK && body->left == 0)
            body->kind = CHUNK_SIZE;
    }
    return at;
}
