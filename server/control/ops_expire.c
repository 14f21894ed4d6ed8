/*
 * ops_expire - what is kept for a while goes: old messages of mailboxes that are set up so, expunged messages, deleted mailboxes, with the
 * space they take. Until it is run nothing of them goes away, but with expunge_mode and delete_mode "immediate". One engine for cyrctl, the
 * program cyr_expire, and cyr_expire as an event of cyrus.conf.
 *
 *   "messages"   expunged messages are purged after that time; a duration, see ctl_duration()
 *   "mailboxes"  deleted mailboxes are removed after that time; the entry …/delete of their own comes first
 *   "duplicates" deliveries are remembered for that time (duplicatesuppression); of a mailbox with the entry …/expire, for that one
 *   "only"       without it each of these is 7 days when it is absent; with it what is absent is not done
 *   "annotations": false   the entries …/expire and …/delete do not count
 *   "expunge": false       messages are left alone
 *   "keywords"   those that no message has are forgotten
 *   "prefix"     mailboxes whose names begin so; "user": this user's
 *   "verbose"    a row for each step
 *
 * /vendor/cmu/cyrus-imapd/expire of a mailbox, in days: messages whose Date is older are expunged. It counts for that mailbox alone, as in
 * Cyrus 3.6, unless `expire_inherit` says that it is inherited (as Cyrus's manual has it). 0: never.
 */
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/control/ops.h"
#include "store/annot.h"
#include "store/duplicate.h"
#include "store/mailbox.h"
#include "store/mailname.h"
#include "store/mboxlist.h"
#include "store/user.h"
#include "util/arena.h"
#include "util/array.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/waiter.h"

#define ENTRY_EXPIRE "/vendor/cmu/cyrus-imapd/expire"
#define ENTRY_DELETE "/vendor/cmu/cyrus-imapd/delete"
#define DAY_S 86400
#define PER_LOOK 256

struct expire {
        struct ctl_call *call;
        int64_t now;
        int64_t messages_s, mailboxes_s, duplicates_s;  /* -1: not asked for */
        ARRAY(struct duplicate_expiry) own;     /* mailboxes with the entry …/expire; in the arena */
        struct arena arena;
        bool annotations, expunge, keywords, verbose, inherit;
        char prefix[512];                       /* internal; "" all */
        const char *roots[3];                   /* at and below which names there are: NULL at the end */
        uint64_t done, total;                   /* mailboxes, for progress */
        uint64_t mailboxes, seen, expired, purged, removed, keywords_n, marks, problems;
};

/* ---- durations ---- */

int ctl_duration(const char *text, int64_t *seconds_r)
{
        static const struct { char unit; int s; } units[] = { { 'd', 86400 }, { 'h', 3600 }, { 'm', 60 }, { 's', 1 } };
        char *end;
        double n = strtod(text, &end), factor = 86400;

        if (end == text || isnan(n) || n < 0)
                return -1;
        if (*end) {
                size_t i = 0;

                while (i < sizeof units / sizeof *units && units[i].unit != *end)
                        i++;
                if (end[1] || i == sizeof units / sizeof *units)
                        return -1;
                factor = units[i].s;
        }
        n *= factor;
        *seconds_r = n > CTL_DURATION_MAX ? CTL_DURATION_MAX : (int64_t)n;
        return 0;
}

static int arg_duration(struct ctl_call *call, const char *key, int64_t *seconds_r, struct err *err)
{
        json_t *given = json_object_get(call->args, key);

        *seconds_r = ctl_arg_bool(call, "only") ? -1 : 7 * DAY_S;
        if (!given || json_is_null(given))
                return 0;
        if (!json_is_string(given) || ctl_duration(json_string_value(given), seconds_r) < 0)
                return err_set(err, ERR_SYNTAX, "%s: a duration is wanted: days, or a number with d, h, m or s", key);
        return 0;
}

/* ---- entries of a mailbox ---- */

/* Days of an entry, in seconds. 1 there, 0 not. */
static int own_entry(struct mailbox *mbox, const char *entry, int64_t *seconds_r)
{
        struct arena arena = ARENA_INIT;
        struct annot *list;
        uint32_t n = mailbox_annots(mbox, 0, "", &arena, &list);
        uint64_t days;
        int found = 0;

        for (uint32_t i = 0; i < n && !found; i++)
                if (!*list[i].user && strcmp(list[i].entry, entry) == 0 && list[i].value.p &&
                    span_u64(list[i].value, CTL_DURATION_MAX / DAY_S, &days)) {
                        *seconds_r = (int64_t)days * DAY_S;
                        found = 1;
                }
        arena_deinit(&arena);
        return found;
}

static int server_entry(struct expire *x, const char *entry, int64_t *seconds_r)
{
        struct arena arena = ARENA_INIT;
        struct annot *list;
        uint64_t days;
        uint32_t n = 0;
        int found = 0;

        if (server_annots(x->call->store, "", &arena, &list, &n, NULL) < 0)
                n = 0;
        for (uint32_t i = 0; i < n && !found; i++)
                if (strcmp(list[i].entry, entry) == 0 && list[i].value.p && span_u64(list[i].value, CTL_DURATION_MAX / DAY_S, &days)) {
                        *seconds_r = (int64_t)days * DAY_S;
                        found = 1;
                }
        arena_deinit(&arena);
        return found;
}

/* Of the nearest mailbox above that has it, then of the server. */
static int inherited_entry(struct expire *x, const char *name, int64_t *seconds_r)
{
        struct arena arena = ARENA_INIT;
        int found = 0;

        while (!found && (name = mailname_parent(name, &arena)) != NULL) {
                const struct mbentry *e = mboxlist_find(store_mboxlist(x->call->store), name);
                struct mailbox *mbox;

                if (e && e->type == MBTYPE_NORMAL && !e->server && ctl_mailbox_open(x->call, e, &mbox, NULL) == 0) {
                        found = own_entry(mbox, ENTRY_EXPIRE, seconds_r);
                        mailbox_unref(&mbox);
                }
                mbentry_unref(&e);
        }
        arena_deinit(&arena);
        return found ? found : server_entry(x, ENTRY_EXPIRE, seconds_r);
}

/* ---- messages ---- */

static void step(struct expire *x, json_t *row)
{
        if (x->verbose)
                x->call->row(x->call, row);
        else
                json_decref(row);
}

int ctl_expunge(struct mailbox *mbox, const struct uidset *uids, struct err *err)
{
        struct waiter waiter;

        waiter_init_blocking(&waiter);
        if (mailbox_expunge(mbox, uids, false, NULL, NULL, &waiter, err) < 0)
                return -1;
        return waiter_block(&waiter, err);
}

/* Expunge what was sent before `before`; what has no Date by when it came. */
static int expire_messages(struct expire *x, struct mailbox *mbox, int64_t before, struct err *err)
{
        struct view *view = mailbox_view(mbox);
        struct uidset uids = UIDSET_INIT;
        uint32_t list[PER_LOOK], count = view_count(view), n;
        struct msg *msgs = malloc(PER_LOOK * sizeof *msgs);
        int rc = msgs ? 0 : err_set(err, ERR_NOMEM, "messages");

        for (uint32_t at = 1; rc == 0 && at <= count; at += n) {
                n = view_uids(view, at, list, PER_LOOK);
                rc = n ? mailbox_messages(mbox, list, n, msgs, err) : err_set(err, ERR_CORRUPT, "its list of messages cannot be read");
                for (uint32_t i = 0; rc == 0 && i < n; i++)
                        if (msgs[i].uid && !(msgs[i].flags & MSG_EXPUNGED) &&
                            (msgs[i].sentdate != INT64_MIN ? msgs[i].sentdate : msgs[i].internaldate) < before)
                                uidset_add(&uids, msgs[i].uid);
        }
        if (rc == 0 && !uidset_empty(&uids))
                rc = ctl_expunge(mbox, &uids, err);
        if (rc == 0)
                x->expired += uidset_count(&uids);
        free(msgs);
        view_unref(&view);
        uidset_deinit(&uids);
        return rc;
}

static int purge_messages(struct expire *x, struct mailbox *mbox, struct err *err)
{
        int64_t before = x->messages_s < 0 ? INT64_MIN : x->now - x->messages_s + 1;
        struct purged purged = { 0 };

        if (mailbox_purge_expunged(mbox, before, &purged, err) < 0)
                return -1;
        x->seen += purged.records;
        x->purged += purged.messages;
        return mailbox_tidy(mbox, err);
}

struct forgotten { struct expire *x; const char *name; };

static void forgot_keyword(void *ctx, uint32_t keyword, const char *name)
{
        struct forgotten *f = ctx;

        f->x->keywords_n++;
        step(f->x, json_pack("{s:s, s:s, s:I, s:s}", "step", "keyword", "name", f->name, "number", (json_int_t)keyword, "keyword", name));
}

static int clean(struct expire *x, const struct mbentry *e, struct err *err)
{
        struct mailbox *mbox;
        int64_t seconds = 0;
        bool has_entry;
        int rc = 0;

        if (ctl_mailbox_open(x->call, e, &mbox, err) < 0)
                return -1;
        has_entry = x->annotations && (own_entry(mbox, ENTRY_EXPIRE, &seconds) || (x->inherit && inherited_entry(x, e->name, &seconds)));
        if (has_entry)
                *ARRAY_PUSH(&x->own) = (struct duplicate_expiry){ arena_strdup(&x->arena, e->uniqueid), seconds ? x->now - seconds + 1 : INT64_MIN };
        if (has_entry && seconds) {
                step(x, json_pack("{s:s, s:s, s:f}", "step", "expire", "name", e->name, "days", (double)seconds / DAY_S));
                rc = expire_messages(x, mbox, x->now - seconds + 1, err);
        }
        if (rc == 0 && x->keywords)
                rc = mailbox_forget_keywords(mbox, forgot_keyword, &(struct forgotten){ x, e->name }, err);
        step(x, json_pack("{s:s, s:s}", "step", "clean", "name", e->name));
        if (rc == 0)
                rc = purge_messages(x, mbox, err);
        mailbox_unref(&mbox);
        x->mailboxes += rc == 0;
        return rc;
}

/* ---- deleted mailboxes ---- */

/* When was DELETED.….6921A2B0 deleted? The last component is Unix time in 8 hexadecimal digits (cyrus-files 6); 0: it is none. */
static int64_t deleted_at(struct expire *x, const char *name)
{
        const char *dot = strrchr(name, '.');

        if (!mailname_is_deleted(name, conf_str(x->call->conf, NULL, "deletedprefix")) || !dot || strlen(dot + 1) != 8)
                return 0;
        for (const char *p = dot + 1; *p; p++)
                if (!isxdigit((unsigned char)*p))
                        return 0;
        return (int64_t)strtoull(dot + 1, NULL, 16);
}

static int may_be_removed(struct expire *x, const struct mbentry *e, bool *yes_r, struct err *err)
{
        int64_t when = deleted_at(x, e->name), seconds = x->mailboxes_s;
        struct mailbox *mbox;

        *yes_r = false;
        if (!when)
                return 0;
        if (x->annotations) {
                if (ctl_mailbox_open(x->call, e, &mbox, err) < 0)
                        return -1;
                if (own_entry(mbox, ENTRY_DELETE, &seconds) && seconds == 0)
                        when = INT64_MAX;               /* never */
                mailbox_unref(&mbox);
        }
        *yes_r = when <= x->now - seconds + 1;
        if (*yes_r)
                step(x, json_pack("{s:s, s:s}", "step", "old", "name", e->name));
        return 0;
}

/* ---- all of them ---- */

static bool is_wanted(const struct expire *x, const struct mbentry *e)
{
        if (e->type != MBTYPE_NORMAL || e->server)
                return false;
        return strncmp(e->name, x->prefix, strlen(x->prefix)) == 0;
}

static void problem(struct expire *x, const char *name, const struct err *one)
{
        char quoted[LOG_QUOTE_MAX];

        x->problems++;
        log_event(LOG_ERROR, NULL, "expire.failed", "mailbox=%s reason=%s", name, log_quote_str(quoted, one->text));
        x->call->row(x->call, json_pack("{s:s, s:o, s:s}", "kind", "problem", "mailbox", ctl_mailbox_json(x->call, name), "problem", one->text));
}

typedef int each_fn(struct expire *x, const struct mbentry *e, void *ctx, struct err *err);

/* Calls fn for each, whatever becomes of the others. */
static void each_below(struct expire *x, const char *root, each_fn *fn, void *ctx)
{
        char after[512] = "";
        bool more = true;

        while (more && !x->call->cancelled(x->call)) {
                const struct mbentry *entries[32];
                unsigned n = mboxlist_next(store_mboxlist(x->call->store), root, after, entries, 32);

                more = n == 32;
                for (unsigned i = 0; i < n; i++) {
                        struct err one = ERR_INIT;

                        snprintf(after, sizeof after, "%s", entries[i]->name);
                        if (is_wanted(x, entries[i]) && !x->call->cancelled(x->call) && fn(x, entries[i], ctx, &one) < 0)
                                problem(x, entries[i]->name, &one);
                        mbentry_unref(&entries[i]);
                }
        }
}

static void each(struct expire *x, each_fn *fn, void *ctx)
{
        for (const char **root = x->roots; *root; root++)
                each_below(x, *root, fn, ctx);
}

static int each_clean(struct expire *x, const struct mbentry *e, void *ctx, struct err *err)
{
        int rc = clean(x, e, err);

        (void)ctx;
        x->call->progress(x->call, ++x->done, x->total, "mailboxes");
        if (rc < 0 && err->code == ERR_NOTFOUND) {      /* deleted meanwhile */
                err_clear(err);
                rc = 0;
        }
        return rc;
}

static int each_old(struct expire *x, const struct mbentry *e, void *ctx, struct err *err)
{
        json_t *names = ctx;
        bool yes;

        if (may_be_removed(x, e, &yes, err) < 0)
                return -1;
        if (yes)
                json_array_append_new(names, json_string(e->name));
        return 0;
}

static void clean_messages(struct expire *x)
{
        if (x->messages_s >= 0)
                step(x, json_pack("{s:s, s:f}", "step", "messages", "days", (double)x->messages_s / DAY_S));
        x->total = *x->roots[0] || *x->prefix ? 0 : mboxlist_count(store_mboxlist(x->call->store));
        each(x, each_clean, NULL);
        log_event(LOG_NOTE, NULL, "expire.messages", "expired=%" PRIu64 " purged=%" PRIu64 " messages=%" PRIu64 " mailboxes=%" PRIu64, x->expired,
                  x->purged, x->seen, x->mailboxes);
        step(x, json_pack("{s:s, s:I, s:I, s:I, s:I}", "step", "messages_done", "expired", (json_int_t)x->expired, "purged", (json_int_t)x->purged,
                          "messages", (json_int_t)x->seen, "mailboxes", (json_int_t)x->mailboxes));
        if (x->keywords)
                step(x, json_pack("{s:s, s:I}", "step", "keywords_done", "keywords", (json_int_t)x->keywords_n));
}

static void remove_mailboxes(struct expire *x)
{
        json_t *names = json_array(), *name;
        size_t i;

        step(x, json_pack("{s:s, s:f}", "step", "mailboxes", "days", (double)x->mailboxes_s / DAY_S));
        each(x, each_old, names);
        json_array_foreach(names, i, name) {
                struct err one = ERR_INIT;

                if (x->call->cancelled(x->call))
                        break;
                step(x, json_pack("{s:s, s:O}", "step", "remove", "name", name));
                if (mboxlist_delete(store_mboxlist(x->call->store), json_string_value(name), true, &one) == 0)
                        x->removed++;
                else if (one.code != ERR_NOTFOUND)
                        problem(x, json_string_value(name), &one);
                x->call->progress(x->call, i + 1, json_array_size(names), "deleted mailboxes");
        }
        json_decref(names);
        log_event(LOG_NOTE, NULL, "expire.mailboxes", "removed=%" PRIu64, x->removed);
        step(x, json_pack("{s:s, s:I}", "step", "mailboxes_done", "removed", (json_int_t)x->removed));
}

static int prune_duplicates(struct expire *x, struct err *err)
{
        uint64_t pruned = 0, marks = 0;

        if (duplicate_prune(x->call->store, x->now - x->duplicates_s, x->own.v, x->own.n, &pruned, &marks, err) < 0)
                return -1;
        x->marks = pruned;
        log_event(LOG_NOTE, NULL, "expire.duplicates", "purged=%" PRIu64 " marks=%" PRIu64, pruned, marks);
        return 0;
}

/* A user's mailboxes, and those of his that were deleted. */
static int arg_user(struct expire *x, struct arena *arena, struct err *err)
{
        const char *given = ctl_arg(x->call, "user");

        x->roots[0] = "";
        return given ? ctl_user_roots(x->call, given, arena, x->roots, err) : 0;
}

/* "prefix" as an administrator writes it; the beginning of a component is enough. */
static int arg_prefix(struct expire *x, struct err *err)
{
        const char *given = ctl_arg(x->call, "prefix");

        if (!given || !*given)
                return 0;
        if (strcmp(given, "user") == 0) {               /* all users': no name by itself */
                snprintf(x->prefix, sizeof x->prefix, "user.");
                return 0;
        }
        return ctl_arg_mailbox(x->call, "prefix", x->prefix, err);
}

int ctl_expire(struct ctl_call *call, struct err *err)
{
        struct expire x = { .call = call, .now = clock_wall_s(), .annotations = !json_is_false(json_object_get(call->args, "annotations")),
                            .expunge = !json_is_false(json_object_get(call->args, "expunge")), .keywords = ctl_arg_bool(call, "keywords"),
                            .verbose = ctl_arg_bool(call, "verbose"), .inherit = conf_switch(call->conf, NULL, "expire_inherit") };
        int rc = -1;

        if (arg_duration(call, "messages", &x.messages_s, err) < 0 || arg_duration(call, "mailboxes", &x.mailboxes_s, err) < 0 ||
            arg_duration(call, "duplicates", &x.duplicates_s, err) < 0 || arg_prefix(&x, err) < 0 || arg_user(&x, &x.arena, err) < 0)
                goto out;
        if (x.expunge)
                clean_messages(&x);
        if (x.duplicates_s >= 0 && !call->cancelled(call) && prune_duplicates(&x, err) < 0)
                goto out;
        if (x.mailboxes_s >= 0)
                remove_mailboxes(&x);
        call->row(call, json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "kind", "summary", "mailboxes", (json_int_t)x.mailboxes, "expired",
                                  (json_int_t)x.expired, "purged", (json_int_t)x.purged, "deleted", (json_int_t)x.removed, "duplicates", (json_int_t)x.marks, "problems",
                                  (json_int_t)x.problems));
        rc = x.problems ? err_set(err, ERR_IO, "%" PRIu64 " mailboxes could not be expired", x.problems) : 0;
out:
        arena_deinit(&x.arena);
        ARRAY_FREE(&x.own);
        return rc;
}
