/*
 * pop3_read - what a client does with the messages of its maildrop (RFC 1939 5, 7). Numbers are those of the moment of the log-in; what
 * others do meanwhile is not seen. Listings and messages go out in pieces.
 */
#include "server/pop3/pop3_private.h"

#include <inttypes.h>

#include "util/log.h"

/* A message number, of one that is not deleted. NULL: answered. */
static struct pop3_msg *parse_number(struct pop3 *p, struct span word)
{
        uint64_t n;

        if (!span_u64(word, UINT32_MAX, &n))
                pop3_err(p, NULL, "Say a message number");
        else if (n == 0 || n > p->drop.n)
                pop3_err(p, NULL, "No such message, there are %" PRIu32, p->drop.n);
        else if (p->drop.msgs[n - 1].flags & POP3_MSG_DELETED)
                pop3_err(p, NULL, "Message %" PRIu64 " is deleted", n);
        else
                return &p->drop.msgs[n - 1];
        return NULL;
}

static uint32_t number_of(const struct pop3 *p, const struct pop3_msg *m)
{
        return (uint32_t)(m - p->drop.msgs) + 1;
}

void pop3_cmd_stat(struct pop3 *p, struct span args)
{
        (void)args;
        pop3_ok(p, "%" PRIu32 " %" PRIu64, p->drop.left, p->drop.octets);
}

/* ---- LIST, UIDL ---- */

/* RFC 1939 7: 1 to 70 octets 0x21 to 0x7e; as Cyrus forms them. */
static void append_uid(const struct pop3 *p, const struct pop3_msg *m, struct str *out)
{
        const char *format = p->drop.new_uidl ? conf_enum(p->conf, NULL, "uidl_format") : "uidonly";

        if (strcmp(format, "cyrus") == 0)
                str_printf(out, "%" PRIu32 ".%" PRIu32, p->drop.uidvalidity, m->uid);
        else if (strcmp(format, "dovecot") == 0)
                str_printf(out, "%08" PRIx32 "%08" PRIx32, m->uid, p->drop.uidvalidity);
        else if (strcmp(format, "courier") == 0)
                str_printf(out, "%" PRIu32 "-%" PRIu32, p->drop.uidvalidity, m->uid);
        else
                str_append_u64(out, m->uid);
}

static void append_entry(struct pop3 *p, const struct pop3_msg *m, struct str *out)
{
        str_printf(out, "%" PRIu32 " ", number_of(p, m));
        if (p->with_uid)
                append_uid(p, m, out);
        else
                str_append_u64(out, m->size);
}

static bool send_listing(struct pop3 *p)
{
        struct str piece = STR_INIT;
        uint32_t upto = p->drop.n - p->next < 2000 ? p->drop.n : p->next + 2000;

        for (; p->next < upto; p->next++)
                if (!(p->drop.msgs[p->next].flags & POP3_MSG_DELETED)) {
                        append_entry(p, &p->drop.msgs[p->next], &piece);
                        str_append(&piece, "\r\n", 2);
                }
        if (p->next == p->drop.n)
                str_append(&piece, ".\r\n", 3);
        rope_append_span(&p->s->out, str_span(&piece));
        str_deinit(&piece);
        return p->next == p->drop.n;
}

static void listing(struct pop3 *p, struct span args, bool with_uid)
{
        struct str entry = STR_INIT;
        struct pop3_msg *m;

        p->with_uid = with_uid;
        if (args.len) {
                m = parse_number(p, args);
                if (m) {
                        append_entry(p, m, &entry);
                        pop3_ok(p, "%s", entry.data);
                }
                str_deinit(&entry);
                return;
        }
        if (with_uid)
                pop3_ok(p, "Unique ids follow");
        else
                pop3_ok(p, "%" PRIu32 " messages (%" PRIu64 " octets)", p->drop.left, p->drop.octets);
        p->next = 0;
        p->send = send_listing;
        p->phase = POP3_SENDING;
}

void pop3_cmd_list(struct pop3 *p, struct span args)
{
        listing(p, args, false);
}

void pop3_cmd_uidl(struct pop3 *p, struct span args)
{
        listing(p, args, true);
}

/* ---- RETR, TOP ---- */

static bool send_message(struct pop3 *p)
{
        struct err err = ERR_INIT;
        int rc = pop3_stuff_next(&p->stuff, &p->s->out, &err);

        if (rc == 0)
                return false;
        pop3_stuff_end(&p->stuff);
        if (rc < 0) {                                           /* in the midst of a response: there is no way to say so */
                char quoted[LOG_QUOTE_MAX];

                log_event(LOG_ERROR, p->s->name, "pop3.retr", "user=%s reason=%s", p->userid, log_quote_str(quoted, err.text));
                p->phase = POP3_CLOSING;
        }
        return true;
}

static bool begin_message(struct pop3 *p, struct pop3_msg *m, uint64_t lines)
{
        struct extent body;
        struct msg msg;
        struct err err = ERR_INIT;

        if (mailbox_message(p->drop.mbox, m->uid, &msg, &err) < 0 || mailbox_body(p->drop.mbox, &msg, &body, &err) < 0) {
                char quoted[LOG_QUOTE_MAX];

                if (err.code != ERR_NOTFOUND)
                        log_event(LOG_ERROR, p->s->name, "pop3.retr", "user=%s uid=%" PRIu32 " reason=%s", p->userid, m->uid,
                                  log_quote_str(quoted, err.text));
                pop3_err(p, err.code == ERR_NOTFOUND ? "SYS/PERM" : "SYS/TEMP", "The message cannot be read");
                return false;
        }
        pop3_stuff_begin(&p->stuff, &body, msg.header_size, lines);
        p->send = send_message;
        p->phase = POP3_SENDING;
        return true;
}

void pop3_cmd_retr(struct pop3 *p, struct span args)
{
        struct pop3_msg *m = parse_number(p, args);

        if (!m || !begin_message(p, m, UINT64_MAX))
                return;
        pop3_ok(p, "%" PRIu32 " octets", m->size);
        m->flags |= POP3_MSG_SEEN;
        if (number_of(p, m) > p->drop.last)
                p->drop.last = number_of(p, m);
}

void pop3_cmd_top(struct pop3 *p, struct span args)
{
        size_t end = span_index(args, ' ');
        struct pop3_msg *m;
        uint64_t lines;

        if (end == args.len || !span_u64((struct span){ args.p + end + 1, args.len - end - 1 }, UINT32_MAX, &lines)) {
                pop3_err(p, NULL, "Say TOP message lines");
                return;
        }
        m = parse_number(p, (struct span){ args.p, end });
        if (m && begin_message(p, m, lines))
                pop3_ok(p, "Top of message follows");
}

/* ---- marks ---- */

void pop3_cmd_dele(struct pop3 *p, struct span args)
{
        struct pop3_msg *m;

        m = parse_number(p, args);
        if (!m)
                return;
        m->flags |= POP3_MSG_DELETED;
        p->drop.left--;
        p->drop.octets -= m->size;
        if (number_of(p, m) > p->drop.last)
                p->drop.last = number_of(p, m);
        pop3_ok(p, "Message %" PRIu32 " deleted", number_of(p, m));
}

void pop3_cmd_rset(struct pop3 *p, struct span args)
{
        (void)args;
        for (uint32_t i = 0; i < p->drop.n; i++) {
                if (p->drop.msgs[i].flags & POP3_MSG_DELETED) {
                        p->drop.left++;
                        p->drop.octets += p->drop.msgs[i].size;
                }
                p->drop.msgs[i].flags &= ~(uint32_t)POP3_MSG_DELETED;
        }
        p->drop.last = 0;
        pop3_ok(p, "%" PRIu32 " messages (%" PRIu64 " octets)", p->drop.left, p->drop.octets);
}

/* RFC 1460; Cyrus has it, and old clients ask. */
void pop3_cmd_last(struct pop3 *p, struct span args)
{
        (void)args;
        pop3_ok(p, "%" PRIu32, p->drop.last);
}
