/*
 * client_op - what sync_client asks for, as an operation (server/control/ops.h): in the daemon when it runs, for it has the store, else in the
 * program itself.
 *
 * Arguments: "mode" ("user", "mailbox", "meta", "all"), "names" (of users, or of mailboxes as an administrator writes them; with "all" one, the
 * beginning of user ids), "channel", "host", "partition", "no_copyback", "local_only", "need_compress", "no_wait", "connect_once", "log", "verbose"
 * (0 to 2), "config" (an imapd.conf whose options count instead of the daemon's).
 * Rows: {"action": …} with verbose 1, {"sent"|"received": …} with 2 (each character is an octet); {"item": …, "result": …, "error": …} of each that
 * failed; {"notice": …} of what an administrator who waits should know.
 */
#include "replication/client_op.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "replication/client.h"
#include "store/mailname.h"
#include "store/user.h"
#include "util/array.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/must.h"

#define CONNECT_FIRST_S 15                      /* a replica that is not there is tried again after 15, 30, 60 … seconds */
#define LOSSES_MAX 3                            /* connections that one item may cost */
#define LOCKED_MAX 5                            /* tries of what somebody else is at, a second between them */
#define SLICE 256

struct sync_op {
        struct ctl_call *call;
        struct conf *conf;                      /* a reference */
        struct client_options options;
        struct client *client;                  /* NULL: not connected */
        bool connect_once, log;
        uint64_t done, total, failed;
        struct str line;                        /* of traffic, made text */
        struct arena arena;                     /* of one item */
};

/* ---- telling ---------------------------------------------------------------------------------------------------------------- */

static void tell(struct sync_op *s, const char *key, const char *text)
{
        s->call->row(s->call, json_pack("{s:s}", key, text));
}

static bool is_stopped(void *ctx)
{
        struct sync_op *s = ctx;

        return s->call->cancelled(s->call);
}

static void on_action(void *ctx, const char *line)
{
        struct sync_op *s = ctx;
        char quoted[LOG_QUOTE_MAX];

        if (s->log)
                log_event(LOG_NOTE, NULL, "sync.action", "action=%s", log_quote_str(quoted, line));
        if (json_integer_value(json_object_get(s->call->args, "verbose")) > 0)
                tell(s, "action", line);
}

/* Octets as characters U+0000 to U+00FF: JSON has no other way for what is no UTF-8. */
static void on_traffic(void *ctx, bool sent, const void *p, size_t len)
{
        struct sync_op *s = ctx;
        const unsigned char *octets = p;

        str_clear(&s->line);
        for (size_t i = 0; i < len; i++) {
                if (octets[i] >= 0x80)
                        str_append_c(&s->line, (char)(0xc0 | octets[i] >> 6));
                str_append_c(&s->line, octets[i] < 0x80 ? (char)octets[i] : (char)(0x80 | (octets[i] & 0x3f)));
        }
        s->call->row(s->call, json_pack("{s:s%}", sent ? "sent" : "received", s->line.data, s->line.len));
}

static void failed(struct sync_op *s, const char *item, enum client_result r, const struct err *err)
{
        char quoted[2][LOG_QUOTE_MAX];

        s->failed++;
        log_event(LOG_WARN, NULL, "sync.failed", "item=%s result=%s reason=%s", log_quote_str(quoted[0], item), client_result_name(r),
                  log_quote_str(quoted[1], err->text));
        s->call->row(s->call, json_pack("{s:s, s:s, s:s}", "item", item, "result", client_result_name(r), "error", err->text));
}

/* ---- the connection --------------------------------------------------------------------------------------------------------- */

static void wait_seconds(struct sync_op *s, int64_t seconds)
{
        uint64_t until = clock_mono_ms() + (uint64_t)seconds * 1000;

        while (clock_mono_ms() < until && !is_stopped(s))
                poll(NULL, 0, 200);
}

static bool may_come(const struct err *err)
{
        return err->code == ERR_UNAVAILABLE || err->code == ERR_TIMEOUT || err->code == ERR_CLOSED || err->code == ERR_IO;
}

static int connect_replica(struct sync_op *s, struct err *err)
{
        int64_t wait = CONNECT_FIRST_S, longest = conf_duration_s(s->conf, NULL, "sync_reconnect_maxwait");

        while (client_open(&s->options, &s->client, err) < 0) {
                struct str text = STR_INIT;

                if (!may_come(err) || s->connect_once)
                        return -1;
                if (longest > 0 && wait > longest)
                        wait = longest;
                str_printf(&text, "%s; trying again in %" PRId64 " seconds", err->text, wait);
                tell(s, "notice", text.data);
                str_deinit(&text);
                wait_seconds(s, wait);
                if (is_stopped(s))
                        return err_set(err, ERR_CANCELLED, "stopped");
                wait *= 2;
                err_clear(err);
        }
        return 0;
}

/* ---- items ------------------------------------------------------------------------------------------------------------------ */

typedef enum client_result item_fn(struct client *c, void *what, struct err *err);

static enum client_result do_user(struct client *c, void *what, struct err *err)
{
        return client_sync_user(c, what, err);
}

static enum client_result do_meta(struct client *c, void *what, struct err *err)
{
        return client_sync_meta(c, what, err);
}

struct group { ARRAY(const char *) names; };

static enum client_result do_mailboxes(struct client *c, void *what, struct err *err)
{
        struct group *g = what;

        return client_sync_mailboxes(c, g->names.v, g->names.n, err);
}

/* One item; a connection that is lost is made again, and the item done again, some times. -1: there is no sense in going on. */
static int do_item(struct sync_op *s, const char *name, item_fn *fn, void *what, struct err *err)
{
        for (int losses = 0, locked = 0;;) {
                struct err this = ERR_INIT;
                enum client_result r;

                if (is_stopped(s))
                        return err_set(err, ERR_CANCELLED, "stopped");
                if (!s->client && connect_replica(s, err) < 0)
                        return -1;
                r = fn(s->client, what, &this);
                if (r == CLIENT_PUT_OFF && !s->options.no_wait && ++locked < LOCKED_MAX) {
                        wait_seconds(s, 1);
                        continue;
                }
                if (r == CLIENT_OK || r == CLIENT_FAILED || r == CLIENT_PUT_OFF) {
                        struct err ignored = ERR_INIT;

                        if (r != CLIENT_OK)
                                failed(s, name, r, &this);
                        r = client_restart(s->client, &ignored);
                        if (r != CLIENT_OK && r != CLIENT_FAILED)
                                client_close(&s->client);
                        break;
                }
                client_close(&s->client);
                if (r == CLIENT_STOPPED)
                        return err_set(err, ERR_CANCELLED, "stopped");
                if (++losses == LOSSES_MAX) {
                        failed(s, name, r, &this);
                        break;
                }
        }
        s->done++;
        s->call->progress(s->call, s->done, s->total, "items");
        return 0;
}

/* ---- what is asked for ------------------------------------------------------------------------------------------------------ */

static int do_users(struct sync_op *s, json_t *names, item_fn *fn, struct err *err)
{
        json_t *name;
        size_t i;

        s->total = json_array_size(names);
        json_array_foreach(names, i, name) {
                const char *given = json_string_value(name), *userid;
                struct err this = ERR_INIT;

                arena_reset(&s->arena);
                if (!given)
                        continue;
                if (user_canonify(s->call->store, given, &s->arena, &userid, &this) < 0)
                        failed(s, given, CLIENT_FAILED, &this);
                else if (do_item(s, userid, fn, (void *)userid, err) < 0)
                        return -1;
        }
        return 0;
}

/* Mailboxes of one owner go together: renames among them are seen. */
static int do_given_mailboxes(struct sync_op *s, json_t *names, struct err *err)
{
        struct namer namer = { .ns = store_namespace(s->call->store), .userid = "", .is_admin = true, .utf8 = true };
        struct table *groups = table_create();
        struct group *g;
        struct span key;
        void *value;
        json_t *name;
        size_t i, pos = 0;
        int rc = 0;

        json_array_foreach(names, i, name) {
                const char *given = json_string_value(name), *internal, *owner;
                struct err this = ERR_INIT;

                if (!given)
                        continue;
                if (mailname_internal(&namer, span_of(given), &s->arena, &internal, &this) < 0) {
                        failed(s, given, CLIENT_FAILED, &this);
                        continue;
                }
                owner = mailname_owner(internal, &s->arena);
                key = span_of(owner ? owner : internal);
                if (!(g = table_find(groups, key)))
                        table_set(groups, key, g = ARENA_NEW(&s->arena, struct group));
                *ARRAY_PUSH(&g->names) = internal;
        }
        s->total = table_count(groups);
        while (table_next(groups, &pos, &key, &value)) {
                g = value;
                if (rc == 0)
                        rc = do_item(s, g->names.v[0], do_mailboxes, g, err);
                ARRAY_FREE(&g->names);
        }
        table_destroy(&groups);
        return rc;
}

/* The mailbox list from its beginning to its end: each user at his INBOX, what is nobody's by itself. */
static int do_all_entries(struct sync_op *s, const char *prefix, bool count, struct err *err)
{
        const struct mbentry *entries[SLICE];
        const char *deleted = conf_str(store_conf(s->call->store), NULL, "deletedprefix");
        struct str after = STR_INIT;
        unsigned n;
        int rc = 0;

        while (rc == 0 && (n = mboxlist_next(store_mboxlist(s->call->store), "", after.data, entries, SLICE)) > 0) {
                str_clear(&after);
                str_append_str(&after, entries[n - 1]->name);
                for (unsigned i = 0; i < n; i++) {
                        const struct mbentry *e = entries[i];
                        const char *owner;

                        arena_reset(&s->arena);
                        owner = mailname_owner(e->name, &s->arena);
                        if (rc < 0 || e->type != MBTYPE_NORMAL) {
                                ;
                        } else if (owner && mailname_is_inbox(e->name) && strncmp(owner, prefix, strlen(prefix)) == 0) {
                                if (count)
                                        s->total++;
                                else
                                        rc = do_item(s, owner, do_user, (void *)owner, err);
                        } else if (!owner && !*prefix && !(mailname_is_deleted(e->name, deleted) && strstr(e->name, "user."))) {
                                struct group g = { { (const char **)&e->name, 1, 1 } };

                                if (count)
                                        s->total++;
                                else
                                        rc = do_item(s, e->name, do_mailboxes, &g, err);
                        }
                        mbentry_unref(&entries[i]);
                }
        }
        str_deinit(&after);
        return rc;
}

static int do_all(struct sync_op *s, json_t *names, struct err *err)
{
        const char *prefix = json_string_value(json_array_get(names, 0));

        do_all_entries(s, prefix ? prefix : "", true, err);
        return do_all_entries(s, prefix ? prefix : "", false, err);
}

static int do_mode(struct sync_op *s, struct err *err)
{
        const char *mode = ctl_arg(s->call, "mode");
        json_t *names = json_object_get(s->call->args, "names");

        if (mode && strcmp(mode, "all") == 0)
                return do_all(s, names, err);
        if (!mode || !json_is_array(names))
                return err_set(err, ERR_SYNTAX, "sync.client wants \"mode\" and \"names\"");
        if (strcmp(mode, "user") == 0)
                return do_users(s, names, do_user, err);
        if (strcmp(mode, "meta") == 0)
                return do_users(s, names, do_meta, err);
        if (strcmp(mode, "mailbox") == 0)
                return do_given_mailboxes(s, names, err);
        return err_set(err, ERR_SYNTAX, "sync.client: no mode \"%s\"", mode);
}

static int take_conf(struct sync_op *s, struct err *err)
{
        const char *config = ctl_arg(s->call, "config");
        struct diag diag = DIAG_INIT;
        int rc = 0;

        if (!config || strcmp(config, conf_path(s->call->conf)) == 0)
                s->conf = conf_ref(s->call->conf);
        else
                rc = conf_load(config, NULL, &s->conf, &diag, err);
        diag_deinit(&diag);
        return rc;
}

static int client_op(struct ctl_call *call, struct err *err)
{
        struct sync_op s = { .call = call, .line = STR_INIT, .arena = ARENA_INIT };
        int rc = take_conf(&s, err);

        s.connect_once = ctl_arg_bool(call, "connect_once");
        s.log = ctl_arg_bool(call, "log");
        s.options = (struct client_options){
                .store = call->store, .conf = s.conf, .channel = ctl_arg(call, "channel"), .host = ctl_arg(call, "host"),
                .partition = ctl_arg(call, "partition"), .no_copyback = ctl_arg_bool(call, "no_copyback"),
                .local_only = ctl_arg_bool(call, "local_only"), .need_compress = ctl_arg_bool(call, "need_compress"),
                .no_wait = ctl_arg_bool(call, "no_wait"), .stop = is_stopped, .action = on_action, .ctx = &s };
        if (json_integer_value(json_object_get(call->args, "verbose")) > 1)
                s.options.traffic = on_traffic;
        if (rc == 0)
                rc = do_mode(&s, err);
        client_close(&s.client);
        if (rc == 0 && s.failed)
                rc = err_set(err, ERR_UNAVAILABLE, "%" PRIu64 " of %" PRIu64 " failed", s.failed, s.done > s.failed ? s.done : s.failed);
        if (s.conf)
                conf_unref(&s.conf);
        str_deinit(&s.line);
        arena_deinit(&s.arena);
        return rc;
}

static const struct ctl_op ops[] = {
        { "sync.client", client_op, CTL_LONG },
};

void client_op_register(void)
{
        ctl_ops_add(ops, ARRAY_LEN(ops));
}
