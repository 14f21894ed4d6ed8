/*
 * rolling_run - doing what there is to do, and finding out what is to blame when something fails; see rolling.h
 *
 * A group or a user that fails is not one culprit. The client tries every mailbox of a set and tells of the first that failed, so a set is halved
 * until it is one. The replica hanging up says even less: it may be shutting down. An item is blamed when it was hung up at three times in a row,
 * each time right after the replica had answered a NOOP; what was hung up at waits until everything else is done.
 */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replication/role.h"
#include "replication/rolling_private.h"
#include "store/mailname.h"
#include "store/mboxlist.h"
#include "store/quota.h"
#include "store/replica.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/must.h"

#define LOSSES_MAX 3
#define COMPARE_MAILBOXES 32                    /* shared ones in one step */
#define COMPARE_ITEMS 8                         /* other things in one step */
#define SAVE_MS 5000                            /* comparing: how often it is noted where we are */

/* ---- the quarantine ---- */

static bool in_quarantine(struct rolling *r, enum sync_kind kind, const char *a, const char *b) EXCLUDES(rolling_class)
{
        struct str text = STR_INIT;
        struct quarantined *q = NULL;

        if (sync_line_write(&text, &(struct sync_line){ kind, a, b })) {
                str_truncate(&text, text.len - 1);
                rolling_lock(r);
                q = quarantine_find(&r->quarantine, text.data);
                if (q)                          /* whoever is at it just now has not seen what is left out because of it */
                        q->touched = ++r->quarantine.turn;
                rolling_unlock(r);
        }
        str_deinit(&text);
        return q != NULL;
}

static void put_aside(struct rolling *r, const struct item *it, const char *reason, bool put_off) EXCLUDES(rolling_class)
{
        char quoted[2][LOG_QUOTE_MAX];
        struct str text = STR_INIT;
        bool first;

        item_text(it, &text);
        rolling_lock(r);
        first = !quarantine_find(&r->quarantine, text.data);
        quarantine_put(&r->quarantine, text.data, reason, put_off);
        if (!put_off)
                r->status.failures++;
        r->incomplete = true;
        cond_signal(&r->wake_second);           /* it is the second lane's from now on */
        rolling_unlock(r);
        if (!put_off && first)
                log_event(LOG_WARN, NULL, "rolling.quarantine", "channel=%s item=%s reason=%s", r->channel[0] ? r->channel : "-",
                          log_quote_str(quoted[0], text.data), log_quote_str(quoted[1], reason));
        str_deinit(&text);
}

static uint64_t take_turn(struct rolling *r) EXCLUDES(rolling_class)
{
        uint64_t turn;

        rolling_lock(r);
        turn = ++r->quarantine.turn;
        rolling_unlock(r);
        return turn;
}

static void let_out(struct rolling *r, const struct item *it, const struct work *w, uint64_t begun) EXCLUDES(rolling_class)
{
        struct str text = STR_INIT;

        item_text(it, &text);
        rolling_lock(r);
        if (r->quarantine.list.n) {
                if (it->kind == SYNC_USER || it->kind == SYNC_UNUSER)
                        quarantine_remove_user(&r->quarantine, it->a, w->deleted_prefix, begun);
                quarantine_remove(&r->quarantine, text.data, begun);
        }
        rolling_unlock(r);
        str_deinit(&text);
}

/* ---- one item ---- */

/* The replica is being asked: what is said of it while it says nothing. */
static void asking(struct lane *l, bool yes) EXCLUDES(rolling_class)
{
        struct client_traffic t = { 0 };

        if (l->client)
                l->r->options.peer->traffic(l->client, &t);
        l->item_sent = t.sent;
        l->patience_ms = yes ? l->r->options.patience_ms : 0;
        l->stalled = false;
        rolling_lock(l->r);
        l->asked_ms = yes ? clock_mono_ms() : 0;
        rolling_unlock(l->r);
}

static enum client_result call(struct lane *l, const struct item *it, struct err *err)
{
        const struct rolling_peer *peer = l->r->options.peer;
        struct client *c = l->client;

        switch (it->kind) {
        case SYNC_MAILBOX: return it->names.n ? peer->mailboxes(c, (const char *const *)it->names.v, it->names.n, err) : CLIENT_OK;
        case SYNC_QUOTA: return peer->quota(c, it->a, err);
        case SYNC_ANNOTATION: return peer->annotation(c, it->a, err);
        case SYNC_SEEN: return peer->seen(c, it->a, it->b, err);
        case SYNC_SUB: return peer->sub(c, it->a, it->b, err);
        case SYNC_UNMAILBOX: return peer->unmailbox(c, it->a, err);
        case SYNC_META: return peer->meta(c, it->a, err);
        case SYNC_USER: return peer->user(c, it->a, err);
        case SYNC_UNUSER: return peer->unuser(c, it->a, err);
        default: return CLIENT_OK;
        }
}

static enum client_result do_item(struct lane *l, const struct item *it, bool *stalled_r, struct err *err) EXCLUDES(rolling_class)
{
        enum client_result result;

        asking(l, true);
        result = call(l, it, err);
        *stalled_r = l->stalled;
        /* No INBOX here: what is to be done about that is UNUSER's. */
        if (it->kind == SYNC_USER && result == CLIENT_FAILED && err->code == ERR_NOTFOUND)
                result = CLIENT_OK;
        if (result <= CLIENT_PUT_OFF && (it->kind == SYNC_MAILBOX || it->kind == SYNC_USER)) {
                struct err ignored = ERR_INIT;

                /* The item itself is done: that the connection is lost now is not its fault. */
                if (l->r->options.peer->restart(l->client, &ignored) > CLIENT_PUT_OFF) {
                        asking(l, false);
                        rolling_disconnect(l, ignored.text);
                        return result;
                }
        }
        asking(l, false);
        return result;
}

/* ---- failing ---- */

static struct item *half(struct item *from, size_t begin, size_t end)
{
        struct item *it = item_create(SYNC_MAILBOX, from->a, "");

        for (size_t i = begin; i < end; i++)
                item_add_name(it, from->names.v[i]);
        it->blamed = true;
        it->retry = from->retry;
        return it;
}

static void halve(struct work *w, struct item *it)
{
        *ARRAY_PUSH(&w->later) = half(it, 0, it->names.n / 2);
        *ARRAY_PUSH(&w->later) = half(it, it->names.n / 2, it->names.n);
}

/* His mailboxes one by one, or nearly, and the rest of what is his: the healthy ones are done. */
static void look_closely(struct rolling *r, struct work *w, const char *user)
{
        struct item *all = item_create(SYNC_MAILBOX, user, ""), *meta = item_create(SYNC_META, user, "");
        struct arena arena = ARENA_INIT;
        const char **names;
        size_t n = replica_user_mailboxes(r->options.store, user, true, &arena, &names);

        for (size_t i = 0; i < n; i++)
                if (!in_quarantine(r, SYNC_MAILBOX, names[i], ""))
                        item_add_name(all, names[i]);
        all->blamed = meta->blamed = true;
        if (all->names.n)
                *ARRAY_PUSH(&w->later) = all;
        else
                item_free(all);
        *ARRAY_PUSH(&w->later) = meta;
        arena_deinit(&arena);
}

/* When a user fails, or that is put off and then fails: once. */
static void look_closely_once(struct rolling *r, struct work *w, const struct item *it) EXCLUDES(rolling_class)
{
        struct str text = STR_INIT;
        struct quarantined *q;
        bool first;

        item_text(it, &text);
        rolling_lock(r);
        q = quarantine_find(&r->quarantine, text.data);
        first = q && !q->closely;
        if (q)
                q->closely = true;
        rolling_unlock(r);
        str_deinit(&text);
        if (first)
                look_closely(r, w, it->a);
}

static bool is_own(struct rolling *r, const char *user, const char *uniqueid)
{
        const struct mbentry *e = mboxlist_find_uniqueid(store_mboxlist(r->options.store), uniqueid);
        bool own = e && mailname_owned_by(e->name, user);

        mbentry_unref(&e);
        return own;
}

/* Something larger that includes it, if that is not known to fail. */
static bool promote(struct rolling *r, struct work *w, const struct item *it)
{
        enum sync_kind to = it->kind == SYNC_SUB ? SYNC_META : SYNC_USER;

        if (it->kind != SYNC_MAILBOX && it->kind != SYNC_META && it->kind != SYNC_SEEN && it->kind != SYNC_SUB)
                return false;
        if (it->kind == SYNC_SEEN && !is_own(r, it->a, it->b))
                to = SYNC_META;
        if (!it->a[0] || in_quarantine(r, to, it->a, ""))
                return false;
        work_add(w, to, it->a, "");
        return true;
}

static void fail(struct rolling *r, struct work *w, struct item *it, const char *reason)
{
        char quoted[2][LOG_QUOTE_MAX];
        struct str text = STR_INIT;

        item_text(it, &text);
        log_event(LOG_INFORM, NULL, "rolling.failed", "channel=%s item=%s reason=%s", r->channel[0] ? r->channel : "-", log_quote_str(quoted[0], text.data),
                  log_quote_str(quoted[1], reason));
        str_deinit(&text);
        rolling_set_error(r, reason, true);
        if (!it->blamed && !it->retry && promote(r, w, it))
                return;
        if (it->kind == SYNC_MAILBOX && it->names.n > 1) {
                halve(w, it);
                return;
        }
        put_aside(r, it, reason, false);
        if (it->kind == SYNC_USER)
                look_closely_once(r, w, it);
}

/* The replica hung up. Returns whether the item is kept (in `later`). */
static bool lost(struct rolling *r, struct work *w, struct item *it, const char *reason)
{
        char why[ERR_TEXT_MAX + 40];

        if (it->kind == SYNC_MAILBOX && it->names.n > 1) {
                halve(w, it);
                return false;
        }
        if (++it->losses < LOSSES_MAX && !it->retry) {
                *ARRAY_PUSH(&w->later) = it;
                return true;
        }
        snprintf(why, sizeof why, it->retry ? "the replica hung up again: %.*s" : "the replica hung up each time: %.*s", ERR_TEXT_MAX, reason);
        put_aside(r, it, why, false);
        if (it->kind == SYNC_USER)
                look_closely_once(r, w, it);
        return false;
}

/* It says nothing to this one, while it answers others: it is not waited for any longer, nor for each half of it. */
static void stalled(struct rolling *r, const struct item *it)
{
        char why[100];

        snprintf(why, sizeof why, "the replica says nothing to it, while it answers others");
        for (size_t i = 0; it->kind == SYNC_MAILBOX && i < it->names.n; i++) {
                struct item *one = half((struct item *)(uintptr_t)it, i, i + 1);

                put_aside(r, one, why, false);
                item_free(one);
        }
        if (it->kind != SYNC_MAILBOX)
                put_aside(r, it, why, false);
}

/* Somebody else is at this user: all of him, as soon as that is over; or, if that is known to fail, the mailboxes. */
static void put_off(struct rolling *r, struct work *w, struct item *it, const char *reason)
{
        struct item *user;

        if (it->kind != SYNC_MAILBOX || it->retry) {
                put_aside(r, it, reason, true);
                return;
        }
        if (!it->a[0] || in_quarantine(r, SYNC_USER, it->a, "")) {
                if (it->names.n > 1)
                        halve(w, it);
                else
                        put_aside(r, it, reason, true);
                return;
        }
        user = item_create(SYNC_USER, it->a, "");
        put_aside(r, user, reason, true);
        item_free(user);
}

/* ---- all of it ---- */

static void count_done(struct lane *l) EXCLUDES(rolling_class)
{
        struct rolling *r = l->r;
        uint64_t now = clock_mono_us(), lag_ms = l->run_since_us && now > l->run_since_us ? (now - l->run_since_us) / 1000 : 0;
        int b = 0;

        while (rolling_lag_bucket_ms[b] && lag_ms > rolling_lag_bucket_ms[b])
                b++;
        rolling_lock(r);
        r->status.items++;
        if (l->run_since_us) {
                r->status.lag_counts[b]++;
                r->status.lag_ms_total += lag_ms;
        }
        l->fruitless = 0;
        rolling_unlock(r);
}

/* What is in quarantine is left out: it is tried again when it is due. Returns false when nothing is left. */
static bool leave_out(struct rolling *r, struct item *it) EXCLUDES(rolling_class)
{
        bool any;

        if (it->retry)
                return true;
        rolling_lock(r);
        any = r->quarantine.list.n > 0;
        rolling_unlock(r);
        if (!any)
                return true;
        if (it->kind != SYNC_MAILBOX)
                return !in_quarantine(r, it->kind, it->a, it->b);
        for (size_t i = 0; i < it->names.n;) {
                if (in_quarantine(r, SYNC_MAILBOX, it->names.v[i], "")) {
                        free(it->names.v[i]);
                        it->names.v[i] = it->names.v[--it->names.n];
                } else {
                        i++;
                }
        }
        return it->names.n > 0;
}

/* The item is used up, or kept in w->later. False: stopped, and it is not done. */
static bool take_item(struct lane *l, struct work *w, struct item *it) EXCLUDES(rolling_class)
{
        struct rolling *r = l->r;
        struct err err = ERR_INIT;
        enum client_result result;
        uint64_t begun;
        bool silent;

        for (;;) {
                if (!rolling_connect(l)) {
                        item_free(it);
                        return false;
                }
                /* What it is blamed for next must not have been the connection's fault. */
                if (it->losses == 0 || rolling_ping(l))
                        break;
        }
        begun = take_turn(r);
        result = do_item(l, it, &silent, &err);
        switch (result) {
        case CLIENT_OK:
                let_out(r, it, w, begun);
                count_done(l);
                break;
        case CLIENT_FAILED:
                fail(r, w, it, err.text);
                break;
        case CLIENT_PUT_OFF:
                put_off(r, w, it, err.text[0] ? err.text : "locked");
                break;
        case CLIENT_LOST:
                rolling_disconnect(l, err.text);
                if (lost(r, w, it, err.text))
                        return true;
                break;
        case CLIENT_BYE:
                rolling_disconnect(l, err.text);
                *ARRAY_PUSH(&w->later) = it;
                return true;
        case CLIENT_STOPPED:
                rolling_disconnect(l, silent ? "the replica says nothing" : "stopped");
                if (!silent) {
                        *ARRAY_PUSH(&w->later) = it;
                        return !rolling_stopping(r);
                }
                stalled(r, it);
                break;
        }
        item_free(it);
        return true;
}

bool rolling_do(struct lane *l, struct work *w, unsigned max)
{
        struct rolling *r = l->r;
        struct item *it;

        while (max-- > 0 && (it = work_next(w)) != NULL) {
                if (!leave_out(r, it)) {
                        item_free(it);
                        continue;
                }
                if (rolling_stopping(r)) {
                        item_free(it);
                        return false;
                }
                if (!take_item(l, w, it))
                        return false;
        }
        return true;
}

bool rolling_save(struct rolling *r)
{
        struct err err = ERR_INIT;
        char *text = NULL;
        bool ok = true;

        if (!r->state_path)
                return true;
        mutex_lock(&r->saving);                 /* what is written last is what was last taken */
        rolling_lock(r);
        if (r->quarantine.dirty)
                text = state_text(&r->quarantine, &r->compare);
        r->state_saved_ms = clock_mono_ms();
        rolling_unlock(r);
        if (text && fs_replace(r->state_path, text, strlen(text), 0600, &err) < 0) {
                rolling_lock(r);
                r->quarantine.dirty = true;
                rolling_unlock(r);
                ok = false;
        }
        mutex_unlock(&r->saving);
        free(text);
        if (!ok) {
                log_event(LOG_ERROR, NULL, "rolling.state", "channel=%s reason=\"%s\"", r->channel[0] ? r->channel : "-", err.text);
                rolling_set_error(r, err.text, false);
        }
        return ok;
}

static const char *deleted_prefix(struct rolling *r)
{
        return conf_str(store_conf(r->options.store), NULL, "deletedprefix");
}

/* ---- what is due of the quarantine ---- */

bool rolling_retry_due(struct lane *l, int64_t *next_r)
{
        struct rolling *r = l->r;
        struct arena arena = ARENA_INIT;
        struct quarantined *due;
        struct sync_line line;
        struct work w;
        char *text = NULL;
        bool ok = true;

        rolling_lock(r);
        due = quarantine_due(&r->quarantine, clock_wall_s(), next_r);
        if (due)
                text = xstrdup(due->text);
        rolling_unlock(r);
        if (!text)
                return true;
        work_init(&w, deleted_prefix(r));
        if (sync_line_parse(span_of(text), &arena, &line, NULL) == 0) {
                struct item *it = item_create(line.kind, line.kind == SYNC_MAILBOX ? work_owner(w.deleted_prefix, line.a, &arena) : line.a, line.b);

                if (line.kind == SYNC_MAILBOX)
                        item_add_name(it, line.a);
                it->retry = true;
                *ARRAY_PUSH(&w.later) = it;
                l->run_since_us = 0;
                ok = rolling_do(l, &w, UINT_MAX);
        } else {
                rolling_lock(r);
                quarantine_remove(&r->quarantine, text, UINT64_MAX);
                rolling_unlock(r);
        }
        work_deinit(&w);
        arena_deinit(&arena);
        free(text);
        if (ok)
                rolling_save(r);
        return ok;
}

/* ---- comparing everything ---- */

/* A user once in a pass, whatever he has in whatever part of the list. */
static bool is_new_user(struct rolling *r, const char *user)
{
        if (!r->compared_users)
                r->compared_users = table_create();
        return !table_set(r->compared_users, span_of(user), r);
}

static bool has_inbox(struct rolling *r, const char *user, struct arena *arena)
{
        const struct mbentry *e = mboxlist_find(store_mboxlist(r->options.store), mailname_inbox_of(user, arena));
        bool has = e != NULL;

        mbentry_unref(&e);
        return has;
}

/* What one mailbox of the list means. Returns whether that is enough for one step. */
static bool plan(struct rolling *r, struct work *w, const char *name, unsigned *mailboxes, struct arena *arena)
{
        const char *owner = work_owner(w->deleted_prefix, name, arena);

        if (*owner && has_inbox(r, owner, arena)) {
                if (!is_new_user(r, owner))
                        return false;
                work_add(w, SYNC_USER, owner, "");
                return true;
        }
        work_add_line(w, &(struct sync_line){ SYNC_MAILBOX, name, "" });
        return ++*mailboxes == COMPARE_MAILBOXES;
}

static bool plan_tombstone(void *ctx, const struct replica_values *values)
{
        struct rolling *r = ctx;
        struct arena arena = ARENA_INIT;
        const char *owner = work_owner(r->rest.deleted_prefix, values->name, &arena);

        if (!*owner)                            /* of users who are there USER knows which are gone */
                work_add(&r->rest, SYNC_UNMAILBOX, values->name, "");
        else if (!has_inbox(r, owner, &arena) && is_new_user(r, owner))
                work_add(&r->rest, SYNC_UNUSER, owner, "");
        arena_deinit(&arena);
        return true;
}

/* Behind the last mailbox: what is gone, quota roots that no user has, annotations of the server. */
static void plan_rest(struct rolling *r)
{
        struct arena arena = ARENA_INIT;
        struct err err = ERR_INIT;
        const char **roots;
        size_t n = quota_list(r->options.store, "", &arena, &roots);

        work_init(&r->rest, deleted_prefix(r));
        for (size_t i = 0; i < n; i++)
                if (!*work_owner(r->rest.deleted_prefix, roots[i], &arena))
                        work_add(&r->rest, SYNC_QUOTA, roots[i], "");
        work_add(&r->rest, SYNC_ANNOTATION, "", "");
        if (replica_each_tombstone(r->options.store, plan_tombstone, r, &err) < 0)
                rolling_set_error(r, err.text, false);
        arena_deinit(&arena);
}

static void begin_again(struct rolling *r) EXCLUDES(rolling_class)
{
        bool again;

        rolling_lock(r);
        again = r->compare_again;
        r->compare_again = false;
        if (again) {
                free(r->compare.after);
                r->compare = (struct compare_state){ true, xstrdup(""), 0 };
        }
        rolling_unlock(r);
        if (!again)
                return;
        table_destroy(&r->compared_users);
        if (r->rest.known)
                work_deinit(&r->rest);
        r->rest = (struct work){ 0 };
}

static void note_compared(struct rolling *r, const char *after, uint64_t n) EXCLUDES(rolling_class)
{
        rolling_lock(r);
        r->compare.done += n;
        free(r->compare.after);
        r->compare.after = xstrdup(after);
        if (clock_mono_ms() - r->state_saved_ms > SAVE_MS)
                r->quarantine.dirty = true;
        rolling_unlock(r);
}

static bool compare_rest(struct lane *l)
{
        struct rolling *r = l->r;

        if (!rolling_do(l, &r->rest, COMPARE_ITEMS))
                return false;
        if (!work_is_empty(&r->rest))
                return true;
        work_deinit(&r->rest);
        r->rest = (struct work){ 0 };
        table_destroy(&r->compared_users);
        rolling_lock(r);
        if (!r->compare_again)
                r->gap_done = r->gap_seen;
        r->compare.on = r->compare_again;
        r->quarantine.dirty = true;
        if (role_on())                          /* a new connection tells that the replica lacks nothing now */
                r->reconfigured = r->hurry = true;
        cond_signal(&r->wake);
        rolling_unlock(r);
        log_event(LOG_NOTE, NULL, "rolling.compared", "channel=%s", r->channel[0] ? r->channel : "-");
        rolling_save(r);
        return true;
}

bool rolling_compare_step(struct lane *l)
{
        struct rolling *r = l->r;
        const struct mbentry *entries[64];
        struct arena arena = ARENA_INIT;
        unsigned n, done = 0, mailboxes = 0;
        struct work w;
        char *after;
        bool ok;

        begin_again(r);
        l->run_since_us = 0;
        if (r->rest.known)
                return compare_rest(l);
        rolling_lock(r);
        after = xstrdup(r->compare.after);
        rolling_unlock(r);
        n = mboxlist_next(store_mboxlist(r->options.store), "", after, entries, ARRAY_LEN(entries));
        if (n == 0)
                plan_rest(r);
        work_init(&w, deleted_prefix(r));
        while (done < n && !plan(r, &w, entries[done++]->name, &mailboxes, &arena))
                ;
        ok = rolling_do(l, &w, UINT_MAX);
        if (ok && done) {
                note_compared(r, entries[done - 1]->name, done);
                rolling_save(r);
        }
        for (unsigned i = 0; i < n; i++)
                mbentry_unref(&entries[i]);
        work_deinit(&w);
        free(after);
        arena_deinit(&arena);
        return ok;
}
