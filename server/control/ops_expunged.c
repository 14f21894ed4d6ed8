/*
 * ops_expunged - messages that were expunged and can be brought back, and messages to expunge because of their age or size.
 *   expunged.list     of "mailbox" those that can be brought back, of "uids" if given: a row for each, see describe()
 *   expunged.restore  bring back "uids"; without them those expunged in the last "within" (a duration), or all. "undelete": without \Deleted;
 *                     "keyword": with this keyword. Rows {"uid": old, "restored": new}, then {"restored_total": n}. "uids" of which none
 *                     can be brought back are an error, unless "or_none"
 *   message.purge     expunge what is older or larger than wanted, in mailboxes that match: see struct purge
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/control/ops.h"
#include "store/mailbox.h"
#include "store/mailname.h"
#include "store/mboxlist.h"
#include "store/mime.h"
#include "util/array.h"
#include "util/charset.h"
#include "util/clock.h"
#include "util/log.h"

#define PER_LOOK 128                            /* states read at a time */
#define DAY_S 86400
#define FIELD_MAX ((size_t)64 * 1024)
#define DAYS_MAX 1000000
#define NUMBER_MAX ((int64_t)1 << 60)

/* ---- one message in words ---- */

static bool needs_quotes(const struct str *name)
{
        for (size_t i = 0; i < name->len; i++)
                if ((unsigned char)name->data[i] >= 0x80 || strchr("()<>@,;:\\\".[]", name->data[i]))
                        return true;
        return false;
}

static void add_phrase(struct str *out, struct span raw)
{
        struct str name = STR_INIT;

        rfc2047_decode(raw, &name);
        if (!needs_quotes(&name)) {
                str_append_span(out, str_span(&name));
        } else {
                str_append_c(out, '"');
                for (size_t i = 0; i < name.len; i++) {
                        if (name.data[i] == '"' || name.data[i] == '\\')
                                str_append_c(out, '\\');
                        str_append_c(out, name.data[i]);
                }
                str_append_c(out, '"');
        }
        str_deinit(&name);
}

/* A list of addresses on one line: decoded, without comments, "Name <a@b>,<c@d>,Group:<e@f>;". */
static void add_addresses(struct str *out, struct span raw)
{
        struct mime_address a;
        bool in_group = false, first = true;
        size_t pos = 0;

        mime_address_init(&a);
        while (mime_address_next(raw, &pos, &in_group, &a)) {
                if (!first && a.kind != MIME_GROUP_END)
                        str_append_c(out, ',');
                first = a.kind == MIME_GROUP_START;
                if (a.kind == MIME_GROUP_END) {
                        str_append_c(out, ';');
                        continue;
                }
                if (a.name.len)
                        add_phrase(out, str_span(&a.name));
                if (a.kind == MIME_GROUP_START) {
                        str_append_c(out, ':');
                        continue;
                }
                str_append_str(out, a.name.len ? " <" : "<");
                if (a.route.len) {
                        charset_repair_utf8(str_span(&a.route), out);
                        str_append_c(out, ':');
                }
                charset_repair_utf8(str_span(&a.mailbox), out);
                str_append_c(out, '@');
                charset_repair_utf8(a.host.len ? str_span(&a.host) : SPAN("unspecified-domain"), out);
                str_append_c(out, '>');
        }
        mime_address_deinit(&a);
}

/* The last field of a name is the one that counts; what is longer than anybody reads is cut. */
static bool last_field(struct span header, const char *name, struct span *value_r)
{
        struct mime_field field;
        bool found = false;
        size_t pos = 0;

        while (mime_field_next(header, &pos, &field))
                if (span_ieq_str(field.name, name)) {
                        *value_r = (struct span){ field.value.p, field.value.len < FIELD_MAX ? field.value.len : FIELD_MAX };
                        found = true;
                }
        return found;
}

/* Midnight, here, of the day that the sender wrote; of the day it arrived when he wrote none. */
static int64_t sent_day(struct span header, const struct msg *m)
{
        struct mime_date date;
        struct span value;
        struct tm day;
        time_t t = (time_t)m->internaldate;

        if (last_field(header, "Date", &value) && mime_date_parse(value, &date)) {
                t = (time_t)(date.unix_s + date.zone_s);
                gmtime_r(&t, &day);
        } else {
                localtime_r(&t, &day);
        }
        day.tm_hour = day.tm_min = day.tm_sec = 0;
        day.tm_isdst = -1;
        return mktime(&day);
}

/* Unix seconds; "subject" is null when there is none. What cannot be read is left out: the message may be damaged. */
static json_t *describe(struct mailbox *mbox, const struct msg *m, bool expunged)
{
        static const struct { const char *field, *key; } addresses[] = { { "From", "from" }, { "To", "to" }, { "Cc", "cc" }, { "Bcc", "bcc" } };
        struct str buf = STR_INIT, text = STR_INIT;
        struct err err = ERR_INIT;
        struct span header, value;
        json_t *row = json_pack("{s:I, s:I, s:I}", "uid", (json_int_t)m->uid, "octets", (json_int_t)m->size, "received",
                                (json_int_t)m->internaldate);

        if (expunged)
                json_object_set_new(row, "expunged", json_integer(m->last_updated));
        if (mailbox_header(mbox, m, &buf, &header, &err) < 0) {
                json_object_set_new(row, "sent", json_integer(sent_day(SPAN(""), m)));
                json_object_set_new(row, "error", json_string(err.text));
                str_deinit(&buf);
                return row;
        }
        json_object_set_new(row, "sent", json_integer(sent_day(header, m)));
        for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
                str_clear(&text);
                if (last_field(header, addresses[i].field, &value))
                        add_addresses(&text, value);
                json_object_set_new(row, addresses[i].key, json_stringn(text.data, text.len));
        }
        str_clear(&text);
        if (last_field(header, "Subject", &value)) {
                while (value.len && (*value.p == ' ' || *value.p == '\t'))
                        value = (struct span){ value.p + 1, value.len - 1 };
                rfc2047_decode(value, &text);
                json_object_set_new(row, "subject", json_stringn(text.data, text.len));
        } else {
                json_object_set_new(row, "subject", json_null());
        }
        str_deinit(&buf);
        str_deinit(&text);
        return row;
}

/* ---- arguments ---- */

/* "uids": a set as in IMAP, without *, or an array of numbers. 1 given, 0 not, -1 */
static int arg_uids(struct ctl_call *call, struct uidset *uids, struct err *err)
{
        json_t *given = json_object_get(call->args, "uids"), *one;
        size_t i;

        if (!given || json_is_null(given))
                return 0;
        if (json_is_string(given) && uidset_parse(span_of(json_string_value(given)), 0, uids, NULL) == 0)
                return 1;
        if (!json_is_array(given))
                return err_set(err, ERR_SYNTAX, "uids: a set of UIDs is wanted, as 1:5,7");
        json_array_foreach(given, i, one)
                if (json_integer_value(one) > 0 && json_integer_value(one) < UINT32_MAX)        /* others no message has */
                        uidset_add(uids, (uint32_t)json_integer_value(one));
        return 1;
}

static int open_arg(struct ctl_call *call, struct mailbox **mbox_r, struct err *err)
{
        char name[512];
        const struct mbentry *e;
        int rc;

        if (ctl_arg_mailbox(call, "mailbox", name, err) < 0)
                return -1;
        e = mboxlist_find(store_mboxlist(call->store), name);
        if (!e)
                return err_set(err, ERR_NOTFOUND, "no mailbox %s", ctl_arg(call, "mailbox"));
        rc = ctl_mailbox_open(call, e, mbox_r, err);
        mbentry_unref(&e);
        return rc;
}

/* ---- expunged.list, expunged.restore ---- */

int ctl_expunged_list(struct ctl_call *call, struct err *err)
{
        struct uidset uids = UIDSET_INIT;
        struct mailbox *mbox = NULL;
        struct msg *msgs;
        uint32_t from = 1;
        int given = arg_uids(call, &uids, err), n = 0;

        if (given < 0 || open_arg(call, &mbox, err) < 0) {
                uidset_deinit(&uids);
                return -1;
        }
        msgs = xmalloc(PER_LOOK * sizeof *msgs);
        while (!call->cancelled(call) && (n = mailbox_expunged(mbox, from, PER_LOOK, msgs, err)) > 0) {
                for (int i = 0; i < n; i++)
                        if (!given || uidset_has(&uids, msgs[i].uid))
                                call->row(call, describe(mbox, &msgs[i], true));
                from = msgs[n - 1].uid + 1;
        }
        free(msgs);
        mailbox_unref(&mbox);
        uidset_deinit(&uids);
        return n < 0 ? -1 : 0;
}

static void restored_rows(struct ctl_call *call, const struct uidset *old, const struct append_result *result)
{
        struct uidset_iter it = uidset_iter(old);
        uint32_t uid, n = 0;

        while (uidset_next(&it, &uid))
                call->row(call, json_pack("{s:I, s:I}", "uid", (json_int_t)uid, "restored", (json_int_t)result->first_uid + n++));
        call->row(call, json_pack("{s:I}", "restored_total", (json_int_t)n));
}

static int none_restored(struct ctl_call *call, bool within, struct err *err)
{
        const char *uids = ctl_arg(call, "uids");

        return err_set(err, ERR_NOTFOUND, "no message with UID %.100s was expunged in %s%s", uids ? uids : "as given", ctl_arg(call, "mailbox"),
                       within ? " in that time" : "");
}

int ctl_expunged_restore(struct ctl_call *call, struct err *err)
{
        const char *within = ctl_arg(call, "within"), *keyword = ctl_arg(call, "keyword");
        struct unexpunge how = { .since = INT64_MIN, .undelete = ctl_arg_bool(call, "undelete"), .keyword = span_of(keyword ? keyword : "") };
        struct uidset uids = UIDSET_INIT, restored = UIDSET_INIT;
        struct append_result result = { 0 };
        struct mailbox *mbox = NULL;
        struct waiter waiter;
        int64_t seconds;
        int given = arg_uids(call, &uids, err), rc = -1;

        if (given < 0)
                goto out;
        if (within && ctl_duration(within, &seconds) < 0) {
                err_set(err, ERR_SYNTAX, "within: a duration is wanted, as 12h or 3d");
                goto out;
        }
        if (within)
                how.since = clock_wall_s() - seconds;
        if (!given && !within && !ctl_arg_bool(call, "all")) {
                err_set(err, ERR_SYNTAX, "which? UIDs, a duration, or all");
                goto out;
        }
        for (const char *p = how.keyword.p; *p; p++)
                if (*p <= ' ' || *p > '~' || strchr("(){%*\"\\]", *p)) {
                        err_set(err, ERR_SYNTAX, "keyword: not a keyword as in IMAP");
                        goto out;
                }
        if (open_arg(call, &mbox, err) < 0)
                goto out;
        waiter_init_blocking(&waiter);
        rc = mailbox_unexpunge(mbox, given ? &uids : NULL, &how, &restored, &result, &waiter, err);
        if (rc == 0)
                rc = waiter_block(&waiter, err);
        if (rc == 0 && given && uidset_empty(&restored) && !ctl_arg_bool(call, "or_none"))
                rc = none_restored(call, within != NULL, err);
        else if (rc == 0)
                restored_rows(call, &restored, &result);
        mailbox_unref(&mbox);
out:
        uidset_deinit(&uids);
        uidset_deinit(&restored);
        return rc;
}

/* ---- message.purge ---- */

struct purge {
        struct ctl_call *call;
        int64_t days, octets;                   /* "days", "octets": older, larger than that; -1: not asked for. Either is enough */
        bool exact, inverted;                   /* "exact": of just that age or size; "inverted": the opposite – younger, smaller, another */
        bool received;                          /* "received": age since arrival, not since the sender's Date */
        bool keep_flagged, only_deleted;        /* "keep_flagged", "only_deleted": \Flagged, \Deleted */
        bool dry, say;                          /* "dry": nothing is expunged; "verbose": a row for each message */
        bool users;                             /* "users": in users' mailboxes too */
        bool literal;                           /* "literal": "patterns", an array ("pattern": one), are names */
        int64_t now;
        struct str header;
};

static bool old_enough(const struct purge *p, int64_t sent)
{
        int64_t limit = p->now - p->days * DAY_S;
        bool same = sent <= p->now && (p->now - sent) / DAY_S == p->days;

        if (p->exact)
                return same != p->inverted;
        return p->inverted ? sent > limit : sent < limit;
}

static bool large_enough(const struct purge *p, int64_t octets)
{
        if (p->exact)
                return (octets == p->octets) != p->inverted;
        return p->inverted ? octets < p->octets : octets > p->octets;
}

/* The day that the sender wrote is known from his header alone, the instant from the index: mostly that decides. */
static int is_old(struct purge *p, struct mailbox *mbox, const struct msg *m, bool *yes_r, struct err *err)
{
        struct span header;

        if (p->received) {
                *yes_r = old_enough(p, m->internaldate);
                return 0;
        }
        if (m->sentdate != INT64_MIN && !p->exact) {
                *yes_r = old_enough(p, m->sentdate - 3 * DAY_S);
                if (*yes_r == old_enough(p, m->sentdate + 2 * DAY_S))
                        return 0;
        }
        if (mailbox_header(mbox, m, &p->header, &header, err) < 0)
                return -1;
        *yes_r = old_enough(p, sent_day(header, m));
        return 0;
}

/* 1 it goes, 0 it stays, -1 */
static int is_wanted(struct purge *p, struct mailbox *mbox, const struct msg *m, struct err *err)
{
        bool yes = false;

        if (m->uid == 0 || (m->flags & MSG_EXPUNGED) || (p->keep_flagged && (m->flags & MSG_FLAGGED)) ||
            (p->only_deleted && !(m->flags & MSG_DELETED)))
                return 0;
        if (p->days >= 0 && is_old(p, mbox, m, &yes, err) < 0)
                return -1;
        return yes || (p->octets >= 0 && large_enough(p, (int64_t)m->size));
}

struct purged_sum { uint64_t messages, octets, gone, gone_octets; };

static int purge_gather(struct purge *p, struct mailbox *mbox, struct uidset *uids, struct purged_sum *sum, struct err *err)
{
        struct view *view = mailbox_view(mbox);
        uint32_t count = view_count(view), list[PER_LOOK], n;
        struct msg *msgs = xmalloc(PER_LOOK * sizeof *msgs);
        int rc = 0;

        for (uint32_t at = 1; rc == 0 && at <= count && !p->call->cancelled(p->call); at += n) {
                n = view_uids(view, at, list, PER_LOOK);
                if (n == 0)
                        rc = err_set(err, ERR_CORRUPT, "its list of messages cannot be read");
                else
                        rc = mailbox_messages(mbox, list, n, msgs, err);
                for (uint32_t i = 0; rc == 0 && i < n; i++) {
                        rc = is_wanted(p, mbox, &msgs[i], err);
                        sum->messages += msgs[i].uid != 0;
                        sum->octets += msgs[i].size;
                        if (rc <= 0)
                                continue;
                        rc = 0;
                        uidset_add(uids, msgs[i].uid);
                        sum->gone++;
                        sum->gone_octets += msgs[i].size;
                        if (p->say)
                                p->call->row(p->call, describe(mbox, &msgs[i], false));
                }
        }
        free(msgs);
        view_unref(&view);
        return rc;
}

static int purge_mailbox(struct purge *p, const struct mbentry *e, struct err *err)
{
        struct ctl_call *call = p->call;
        struct mailbox *mbox;
        struct uidset uids = UIDSET_INIT;
        struct purged_sum sum = { 0 };
        int rc;

        if (ctl_mailbox_open(call, e, &mbox, err) < 0)
                return -1;
        if (p->say)
                call->row(call, json_pack("{s:s}", "begin", e->name));
        rc = purge_gather(p, mbox, &uids, &sum, err);
        if (rc == 0 && !p->dry && !uidset_empty(&uids) && !call->cancelled(call))
                rc = ctl_expunge(mbox, &uids, err);
        if (rc == 0)
                call->row(call, json_pack("{s:s, s:o, s:I, s:I, s:I, s:I}", "name", e->name, "mailbox", ctl_mailbox_json(call, e->name),
                                          "messages", (json_int_t)sum.messages, "octets", (json_int_t)sum.octets, "expunged",
                                          (json_int_t)sum.gone, "expunged_octets", (json_int_t)sum.gone_octets));
        uidset_deinit(&uids);
        mailbox_unref(&mbox);
        return rc;
}

static bool is_users(const struct mbentry *e)
{
        const char *bang = strchr(e->name, '!');

        return strncmp(bang ? bang + 1 : e->name, "user.", 5) == 0;
}

static bool purge_matches(struct purge *p, const struct mbentry *e, char sep)
{
        json_t *patterns = json_object_get(p->call->args, "patterns"), *pattern, *name;
        bool yes = false;
        size_t i;

        if (e->type != MBTYPE_NORMAL || e->server || mailname_is_deleted(e->name, conf_str(p->call->conf, NULL, "deletedprefix")))
                return false;
        if (json_array_size(patterns) == 0)
                return true;
        name = ctl_mailbox_json(p->call, e->name);
        json_array_foreach(patterns, i, pattern) {
                const char *text = json_string_value(pattern);

                if (text && !yes)
                        yes = p->literal ? strcmp(text, json_string_value(name)) == 0 : mailname_match(json_string_value(name), span_of(text), sep);
        }
        json_decref(name);
        return yes;
}

/* Users' mailboxes, or all others. Returns how many failed. */
static uint64_t purge_some(struct purge *p, bool users)
{
        struct namespace *ns = namespace_create(p->call->conf);
        char after[512] = "", sep = namespace_separator(ns), quoted[LOG_QUOTE_MAX];
        uint64_t problems = 0;
        bool more = true;

        namespace_unref(&ns);
        while (more && !p->call->cancelled(p->call)) {
                const struct mbentry *entries[32];
                unsigned n = mboxlist_next(store_mboxlist(p->call->store), "", after, entries, 32);

                more = n == 32;
                for (unsigned i = 0; i < n; i++) {
                        const struct mbentry *e = entries[i];
                        struct err one = ERR_INIT;

                        snprintf(after, sizeof after, "%s", e->name);
                        if (is_users(e) == users && purge_matches(p, e, sep) && !p->call->cancelled(p->call) && purge_mailbox(p, e, &one) < 0) {
                                problems++;
                                log_event(LOG_ERROR, NULL, "purge.failed", "mailbox=%s reason=%s", e->name, log_quote_str(quoted, one.text));
                                p->call->row(p->call, json_pack("{s:o, s:s}", "mailbox", ctl_mailbox_json(p->call, e->name), "problem", one.text));
                        }
                        mbentry_unref(&entries[i]);
                }
        }
        return problems;
}

/* A number, or text with K, M or G behind. -1: not given, -2: no number. */
static int64_t arg_number(struct ctl_call *call, const char *key)
{
        json_t *given = json_object_get(call->args, key);
        struct span text = span_of(json_is_string(given) ? json_string_value(given) : "");
        uint64_t value = 0;
        unsigned shift = 0;

        if (!given || json_is_null(given))
                return -1;
        if (json_is_integer(given))
                return json_integer_value(given) >= 0 && json_integer_value(given) <= NUMBER_MAX ? json_integer_value(given) : -2;
        if (text.len && strchr("KMG", text.p[text.len - 1]))
                shift = text.p[--text.len] == 'K' ? 10 : text.p[text.len] == 'M' ? 20 : 30;
        return span_u64(text, NUMBER_MAX >> shift, &value) ? (int64_t)(value << shift) : -2;
}

int ctl_message_purge(struct ctl_call *call, struct err *err)
{
        struct purge p = { .call = call, .days = arg_number(call, "days"), .octets = arg_number(call, "octets"), .now = clock_wall_s(),
                           .exact = ctl_arg_bool(call, "exact"), .inverted = ctl_arg_bool(call, "inverted"),
                           .received = ctl_arg_bool(call, "received"), .keep_flagged = ctl_arg_bool(call, "keep_flagged"),
                           .only_deleted = ctl_arg_bool(call, "only_deleted"), .dry = ctl_arg_bool(call, "dry"),
                           .say = ctl_arg_bool(call, "verbose"), .users = ctl_arg_bool(call, "users"), .literal = ctl_arg_bool(call, "literal") };
        const char *pattern = ctl_arg(call, "pattern");
        uint64_t problems = 0;

        if (p.days < -1 || p.octets < -1 || p.days > DAYS_MAX || (p.days < 0 && p.octets < 0))
                return err_set(err, ERR_SYNTAX, "an age in days or a size in octets is wanted");
        if (pattern)
                json_object_set_new(call->args, "patterns", json_pack("[s]", pattern));
        str_init(&p.header);
        if (p.users)
                problems += purge_some(&p, true);
        problems += purge_some(&p, false);
        str_deinit(&p.header);
        return problems ? err_set(err, ERR_IO, "%llu mailbox%s could not be read or changed", (unsigned long long)problems, problems == 1 ? "" : "es") : 0;
}
