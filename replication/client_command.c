/* client_command - one command and its reply (csync 1.3, 1.4), the same in both flavours; and the small things that all files of the client need. */
#include "replication/client_private.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "util/must.h"

/* ---- how it ended ----------------------------------------------------------------------------------------------------------- */

bool client_is_gone(enum client_result result)
{
        return result == CLIENT_LOST || result == CLIENT_BYE || result == CLIENT_STOPPED;
}

static enum client_result end(struct client *c, enum client_result how, const struct err *err)
{
        c->over = how;
        err_copy(&c->over_why, err);
        return how;
}

/* The connection has failed. */
static enum client_result lost(struct client *c, const struct err *err)
{
        return end(c, err->code == ERR_CANCELLED ? CLIENT_STOPPED : CLIENT_LOST, err);
}

enum client_result client_check(struct client *c, struct err *err)
{
        if (c->over == CLIENT_OK && c->options.stop && c->options.stop(c->options.ctx)) {
                err_set(err, ERR_CANCELLED, "stopped");
                return end(c, CLIENT_STOPPED, err);
        }
        if (c->over != CLIENT_OK)
                err_copy(err, &c->over_why);
        return c->over;
}

void client_say(struct client *c, const char *fmt, ...)
{
        struct str line = STR_INIT;
        va_list ap;

        if (!c->options.action)
                return;
        va_start(ap, fmt);
        str_vprintf(&line, fmt, ap);
        va_end(ap);
        c->options.action(c->options.ctx, line.data);
        str_deinit(&line);
}

bool client_replied(const struct client *c, const char *code)
{
        return strcmp(c->reply_code, code) == 0;
}

const char *client_local(const struct client *c, const char *key, char buf[32])
{
        snprintf(buf, 32, "%s%s", c->options.local_only ? "LOCAL_" : "", key);
        return buf;
}

/* ---- writing ---------------------------------------------------------------------------------------------------------------- */

void client_begin(struct client *c, const char *verb)
{
        str_clear(&c->out);
        c->spilled = false;
        c->reply_code[0] = '\0';
        c->counts.commands++;
        if (c->imap)
                str_printf(&c->out, "S%u %s%s", c->tag, strcmp(verb, "NOOP") == 0 ? "" : "SYNC", verb);
        else
                str_append_str(&c->out, verb);
        dlist_writer_init(&c->w, &c->out, DLIST_CLIENT);
        c->w.space = true;
}

static enum client_result send_out(struct client *c, struct err *err)
{
        int rc = client_conn_write(c->conn, c->out.data, c->out.len, err);

        c->spilled = true;
        str_clear(&c->out);
        if (c->out.cap > 2 * CLIENT_SPILL)
                str_shrink(&c->out);
        return rc < 0 ? lost(c, err) : CLIENT_OK;
}

enum client_result client_spill(struct client *c, struct err *err)
{
        return c->out.len < (c->spilled ? CLIENT_SPILL / 16 : CLIENT_SPILL) ? CLIENT_OK : send_out(c, err);
}

enum client_result client_octets(struct client *c, const struct extent *extent, struct err *err)
{
        enum client_result r = send_out(c, err);

        if (r == CLIENT_OK && client_conn_write_extent(c->conn, extent, err) < 0)
                r = lost(c, err);               /* the octets that were announced cannot be taken back */
        return r;
}

enum client_result client_abandon(struct client *c, struct err *err)
{
        str_clear(&c->out);
        return c->spilled ? lost(c, err) : CLIENT_FAILED;
}

/* ---- the reply -------------------------------------------------------------------------------------------------------------- */

/* The first word behind "* ", with the blank or line end that ends it left in the stream; at most `size` - 1 octets of it. */
static int peek_word(struct client *c, char *word, size_t size, size_t *len_r, struct err *err)
{
        size_t n = 0;

        for (;;) {
                struct span in;

                if (client_conn_read(c->conn, &in, err) < 0)
                        return -1;
                while (in.len && n < size - 1 && *in.p != ' ' && *in.p != '\r' && *in.p != '\n') {
                        word[n++] = *in.p++;
                        in.len--;
                        client_conn_take(c->conn, 1);
                }
                if (in.len || n == size - 1)
                        break;
        }
        word[n] = '\0';
        *len_r = n;
        return 0;
}

/* One octet, taken. */
static int take_octet(struct client *c, char *octet_r, struct err *err)
{
        struct span in;

        if (client_conn_read(c->conn, &in, err) < 0)
                return -1;
        *octet_r = *in.p;
        client_conn_take(c->conn, 1);
        return 0;
}

static bool is_one_of(const char *word, const char *const *words)
{
        for (; *words; words++)
                if (strcasecmp(word, *words) == 0)
                        return true;
        return false;
}

static enum client_result goodbye(struct client *c, const char *text, struct err *err)
{
        err_set(err, ERR_UNAVAILABLE, "the replica says goodbye: %.200s", text);
        return end(c, CLIENT_BYE, err);
}

/* More of one reply. One that goes on for ever would fill the memory, and hold this thread. Records and messages, which stream, may have more. */
static enum client_result take_octets(struct client *c, size_t n, const struct client_reply *reply, struct err *err)
{
        uint64_t most = reply->hooks ? 64 * CLIENT_REPLY_MAX : CLIENT_REPLY_MAX;

        c->reply_octets += n;
        if (c->reply_octets <= most)
                return CLIENT_OK;
        err_set(err, ERR_LIMIT, "the replica's reply has more than %" PRIu64 " octets", most);
        return lost(c, err);
}

/* An item; what is wrong with it is in *wrong. */
static enum client_result read_item(struct client *c, struct dlist_parser *p, const char *word, const struct client_reply *reply, struct err *wrong,
                                    struct err *err)
{
        struct err this = ERR_INIT;
        struct dlist *item = NULL;
        size_t used;
        int rc = dlist_parse(p, span_of(word), &used, &item, &this);

        while (rc == 0) {
                struct span in;

                if (client_conn_read(c->conn, &in, err) < 0)
                        return lost(c, err);
                rc = dlist_parse(p, in, &used, &item, &this);
                client_conn_take(c->conn, used);
                if (take_octets(c, used, reply, err) != CLIENT_OK)
                        return c->over;
        }
        if (rc < 0 && !dlist_in_step(p)) {
                err_set(err, ERR_CLOSED, "the replica's reply is none of the protocol: %s", this.text);
                return lost(c, err);
        }
        if (rc == 1 && wrong->code == ERR_NONE && reply->line && reply->line(reply->ctx, item, &this) < 0)
                rc = -1;
        if (rc < 0 && wrong->code == ERR_NONE)
                err_copy(wrong, &this);
        arena_reset(&c->reply);
        return CLIENT_OK;
}

/* An untagged line, its "* " taken. */
static enum client_result read_untagged(struct client *c, struct dlist_parser *p, const struct client_reply *reply, struct err *wrong,
                                        struct err *err)
{
        static const char *const skipped[] = { "OK", "NO", "BAD", "PREAUTH", "CAPABILITY", "FLAGS", NULL };
        char word[64];
        size_t len;

        if (peek_word(c, word, sizeof word, &len, err) < 0)
                return lost(c, err);
        if (strcasecmp(word, "BYE") == 0 || strcasecmp(word, "Fatal") == 0 || is_one_of(word, skipped)) {
                if (client_conn_line(c->conn, CLIENT_LINE_MAX, &c->line, err) < 0)
                        return lost(c, err);
                if (strcasecmp(word, "BYE") == 0)
                        return goodbye(c, c->line.data, err);
                if (strcasecmp(word, "Fatal") != 0)
                        return take_octets(c, c->line.len, reply, err);
                err_set(err, ERR_CLOSED, "the replica says: Fatal%.200s", c->line.data);
                return lost(c, err);
        }
        return read_item(c, p, word, reply, wrong, err);
}

static enum err_code code_of(const char *code)
{
        static const struct { const char *code; enum err_code err; } codes[] = {
                { "IMAP_MAILBOX_NONEXISTENT", ERR_NOTFOUND }, { "IMAP_INVALID_USER", ERR_NOTFOUND }, { "IMAP_MAILBOX_LOCKED", ERR_BUSY },
                { "IMAP_MAILBOX_MOVED", ERR_EXISTS }, { "IMAP_MAILBOX_NOTSUPPORTED", ERR_UNSUPPORTED }, { "IMAP_SYNC_CHECKSUM", ERR_CORRUPT },
                { "IMAP_SYNC_CHANGED", ERR_BUSY }, { "IMAP_PROTOCOL_ERROR", ERR_SYNTAX }, { "IMAP_PROTOCOL_BAD_PARAMETERS", ERR_SYNTAX },
        };

        for (size_t i = 0; i < ARRAY_LEN(codes); i++)
                if (strcmp(codes[i].code, code) == 0)
                        return codes[i].err;
        return ERR_UNAVAILABLE;
}

/* "NO CODE text", "BAD text": without the first word. */
static enum client_result refusal(struct client *c, struct span text, bool bad, struct err *err)
{
        size_t n = span_index(text, ' ');

        if ((span_istarts(text, "IMAP_") || span_istarts(text, "X_FENCED ")) && n < sizeof c->reply_code) {
                memcpy(c->reply_code, text.p, n);
                c->reply_code[n] = '\0';
        }
        err_set(err, bad ? ERR_SYNTAX : code_of(c->reply_code), "the replica says: %s %.*s", bad ? "BAD" : "NO",
                (int)(text.len < 200 ? text.len : 200), text.p);
        /* It is not our replica any more: the next connection learns why. */
        if (c->agreed && client_replied(c, "X_FENCED"))
                return lost(c, err);
        return client_replied(c, "IMAP_MAILBOX_LOCKED") ? CLIENT_PUT_OFF : CLIENT_FAILED;
}

/* The line that is no untagged one, whole, in c->line. */
static enum client_result take_final(struct client *c, struct err *err)
{
        struct span s = str_span(&c->line);
        char tag[24];

        if (c->imap) {
                int n = snprintf(tag, sizeof tag, "S%u ", c->tag);

                if (!span_istarts(s, tag)) {
                        err_set(err, ERR_CLOSED, "the replica's answer has another tag: %.100s", c->line.data);
                        return lost(c, err);
                }
                s.p += n;
                s.len -= (size_t)n;
                c->tag++;
        }
        if (span_istarts(s, "OK"))
                return CLIENT_OK;
        if (span_istarts(s, "NO "))
                return refusal(c, (struct span){ s.p + 3, s.len - 3 }, false, err);
        if (span_istarts(s, "BAD "))
                return refusal(c, (struct span){ s.p + 4, s.len - 4 }, true, err);
        if (span_istarts(s, "BYE"))
                return goodbye(c, s.p, err);
        err_set(err, ERR_CLOSED, "the replica's answer is none of the protocol: %.100s", c->line.data);
        return lost(c, err);
}

static enum client_result read_reply(struct client *c, struct dlist_parser *p, const struct client_reply *reply, struct err *err)
{
        struct err wrong = ERR_INIT;
        enum client_result r = CLIENT_OK;

        while (r == CLIENT_OK) {
                struct span in;
                char octet;

                if (client_conn_read(c->conn, &in, err) < 0)
                        return lost(c, err);
                if (*in.p != '*') {
                        if (client_conn_line(c->conn, CLIENT_LINE_MAX, &c->line, err) < 0)
                                return lost(c, err);
                        r = take_final(c, err);
                        if (r != CLIENT_OK || wrong.code == ERR_NONE)
                                return r;
                        err_copy(err, &wrong);
                        err_prefix(err, "the replica's reply");
                        return CLIENT_FAILED;
                }
                client_conn_take(c->conn, 1);
                if (take_octet(c, &octet, err) < 0)
                        return lost(c, err);
                if (octet != ' ') {
                        err_set(err, ERR_CLOSED, "the replica's reply is none of the protocol");
                        return lost(c, err);
                }
                r = read_untagged(c, p, reply, &wrong, err);
        }
        return r;
}

enum client_result client_finish(struct client *c, const struct client_reply *reply, struct err *err)
{
        static const struct client_reply none = { NULL, NULL, NULL };
        struct dlist_limits limits = DLIST_LIMITS_DEFAULT;
        struct dlist_parser *p;
        enum client_result r;

        limits.literal = 64u << 20;             /* a Sieve script, an annotation; bounded by the line's memory all the same */
        str_append_str(&c->out, "\r\n");
        r = send_out(c, err);
        if (r == CLIENT_OK && client_conn_flush(c->conn, err) < 0)
                r = lost(c, err);
        if (r != CLIENT_OK)
                return r;
        if (!reply)
                reply = &none;
        c->reply_octets = 0;
        p = dlist_parser_create(&c->reply, &limits, reply->hooks);
        r = read_reply(c, p, reply, err);
        dlist_parser_destroy(&p);
        arena_reset(&c->reply);
        return r;
}

enum client_result client_text_command(struct client *c, const char *verb, const char *key, const char *value, const struct client_reply *reply,
                                       struct err *err)
{
        client_begin(c, verb);
        dlist_write_text(&c->w, key, value);
        return client_finish(c, reply, err);
}

enum client_result client_noop(struct client *c, struct err *err)
{
        enum client_result r = client_check(c, err);

        if (r != CLIENT_OK)
                return r;
        client_begin(c, "NOOP");
        return client_finish(c, NULL, err);
}

enum client_result client_restart(struct client *c, struct err *err)
{
        enum client_result r = client_check(c, err);

        if (r != CLIENT_OK)
                return r;
        client_begin(c, "RESTART");
        guid_set_clear(&c->staged);
        return client_finish(c, NULL, err);
}

/* ---- sets of GUIDs ---------------------------------------------------------------------------------------------------------- */

void guid_set_deinit(struct guid_set *s)
{
        free(s->slots);
        *s = (struct guid_set){ NULL, 0, 0 };
}

void guid_set_clear(struct guid_set *s)
{
        guid_set_deinit(s);
}

/* Where it is, or where it would go. */
static struct guid_slot *slot_of(const struct guid_set *s, uint32_t partition, const uint8_t guid[GUID_SIZE])
{
        uint64_t h;

        memcpy(&h, guid, sizeof h);
        h = hash_number(h) + partition;
        for (;; h++) {
                struct guid_slot *slot = &s->slots[h & (s->size - 1)];

                if (slot->partition == 0 || (slot->partition == partition && memcmp(slot->guid, guid, GUID_SIZE) == 0))
                        return slot;
        }
}

bool guid_set_has(const struct guid_set *s, uint32_t partition, const uint8_t guid[GUID_SIZE])
{
        return s->n > 0 && slot_of(s, partition, guid)->partition != 0;
}

static void guid_set_grow(struct guid_set *s)
{
        struct guid_set bigger = { .size = s->size ? s->size * 2 : 64, .n = s->n };

        bigger.slots = xcalloc(bigger.size, sizeof *bigger.slots);
        for (size_t i = 0; i < s->size; i++)
                if (s->slots[i].partition)
                        *slot_of(&bigger, s->slots[i].partition, s->slots[i].guid) = s->slots[i];
        free(s->slots);
        *s = bigger;
}

void guid_set_add(struct guid_set *s, uint32_t partition, const uint8_t guid[GUID_SIZE])
{
        struct guid_slot *slot;

        must(partition != 0);
        if (s->n + s->n / 3 + 1 >= s->size)
                guid_set_grow(s);
        slot = slot_of(s, partition, guid);
        s->n += slot->partition == 0;
        slot->partition = partition;
        memcpy(slot->guid, guid, GUID_SIZE);
}
