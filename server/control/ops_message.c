/*
 * ops_message - messages in and out as a whole, for cyrctl import and export.
 *   message.guids   what is there, with "after" above that UID: {"uidnext": n}, then rows {"guids": ["<40 hex>", …]}, a bounded number in each
 *   message.append  "messages": [{"octets": base64, "flags": [...], "date": seconds}, …] as one batch: all or none, durable when it is answered;
 *                   "create": the mailbox is made when it is not there. "uidnext": only while that is the mailbox's, else ERR_BUSY: somebody
 *                   who imports must not overlook what an earlier import, killed meanwhile, is still bringing in. Row: {"appended": n, "first_uid": uid}
 *   message.read    from "after" (a UID) on, rows {"uid": n, "flags": [...], "date": seconds, "octets": base64} up to about "bytes" octets
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/control/ops.h"
#include "server/sasl.h"
#include "store/mailbox.h"
#include "store/mailname.h"
#include "store/mboxlist.h"
#include "util/array.h"
#include "util/lock.h"
#include "util/must.h"

#define PER_ROW 256                             /* GUIDs; states read at a time */
#define BATCH_MAX 1000
#define MESSAGE_KEYWORDS_MAX 256

static const struct { uint32_t flag; const char *name; } system_flags[] = {
        { MSG_ANSWERED, "\\Answered" }, { MSG_FLAGGED, "\\Flagged" }, { MSG_DELETED, "\\Deleted" }, { MSG_DRAFT, "\\Draft" }, { MSG_SEEN, "\\Seen" },
};

static int open_mailbox(struct ctl_call *call, bool create, struct mailbox **mbox_r, const char **partition_dir_r, struct err *err)
{
        struct mboxlist *ml = store_mboxlist(call->store);
        char name[512];
        const struct mbentry *e;
        struct mailbox_ident ident;
        int rc;

        if (ctl_arg_mailbox(call, "mailbox", name, err) < 0)
                return -1;
        e = mboxlist_find(ml, name);
        if (create && (!e || e->type == MBTYPE_INTERMEDIATE)) {
                struct mbox_create what = { .name = name };

                mbentry_unref(&e);
                e = NULL;
                if (mailname_check_new(name, true, err) < 0 || mboxlist_create(ml, &what, &e, err) < 0)
                        return ctl_fail(call, name, err);
        }
        if (!e)
                return err_set(err, ERR_NOTFOUND, "no mailbox %s", ctl_arg(call, "mailbox"));
        rc = mbentry_ident(call->store, e, &ident, err);
        if (rc == 0)
                rc = mailbox_open(call->store, &ident, mbox_r, err);
        if (rc == 0 && partition_dir_r)
                *partition_dir_r = ident.partition_dir;
        mbentry_unref(&e);
        return rc;
}

/* ---- out ---- */

static json_t *guid_json(const uint8_t guid[GUID_SIZE])
{
        char hex[2 * GUID_SIZE + 1];

        for (int i = 0; i < GUID_SIZE; i++)
                snprintf(hex + 2 * i, 3, "%02x", guid[i]);
        return json_string(hex);
}

int ctl_message_guids(struct ctl_call *call, struct err *err)
{
        uint32_t after = (uint32_t)json_integer_value(json_object_get(call->args, "after"));
        struct mailbox *mbox = NULL;
        struct view *view;
        uint32_t count, n;
        int rc = 0;

        if (open_mailbox(call, false, &mbox, NULL, err) < 0)
                return -1;
        view = mailbox_view(mbox);
        count = view_count(view);
        call->row(call, json_pack("{s:I}", "uidnext", (json_int_t)view_uidnext(view)));
        for (uint32_t at = view_seqno_from(view, after + 1); rc == 0 && at <= count && !call->cancelled(call); at += n) {
                uint32_t uids[PER_ROW];
                struct msg msgs[PER_ROW];
                json_t *guids = json_array();

                n = view_uids(view, at, uids, PER_ROW);
                must(n > 0);
                rc = mailbox_messages(mbox, uids, n, msgs, err);
                for (uint32_t i = 0; rc == 0 && i < n; i++)
                        if (msgs[i].uid)
                                json_array_append_new(guids, guid_json(msgs[i].guid));
                if (rc == 0)
                        call->row(call, json_pack("{s:o}", "guids", guids));
                else
                        json_decref(guids);
        }
        view_unref(&view);
        mailbox_unref(&mbox);
        return rc;
}

static json_t *flags_json(struct mailbox *mbox, const struct msg *m)
{
        json_t *flags = json_array();
        const struct kwset *set = mailbox_kwset(mbox, m->kwset);

        for (size_t i = 0; i < ARRAY_LEN(system_flags); i++)
                if (m->flags & system_flags[i].flag)
                        json_array_append_new(flags, json_string(system_flags[i].name));
        for (uint32_t i = 0; set && i < set->n; i++)
                if (mailbox_keyword_name(mbox, set->ids[i]))
                        json_array_append_new(flags, json_string(mailbox_keyword_name(mbox, set->ids[i])));
        return flags;
}

static int read_one(struct ctl_call *call, struct mailbox *mbox, const struct msg *m, struct err *err)
{
        struct extent body = { NULL, 0, 0 };
        struct str octets = STR_INIT, text = STR_INIT;
        int rc = mailbox_body(mbox, m, &body, err);

        if (rc == 0) {
                str_reserve(&octets, body.len);
                rc = file_read(body.file, octets.data, body.len, body.offset, err);
        }
        if (rc == 0) {
                base64_encode((struct span){ octets.data, body.len }, &text);
                call->row(call, json_pack("{s:I, s:o, s:I, s:s#}", "uid", (json_int_t)m->uid, "flags", flags_json(mbox, m), "date",
                                          (json_int_t)m->internaldate, "octets", text.data, (int)text.len));
        } else {                                /* damaged: said, and the rest goes on */
                call->row(call, json_pack("{s:I, s:s}", "uid", (json_int_t)m->uid, "error", err->text));
                if (err->code == ERR_CORRUPT || err->code == ERR_NOTFOUND) {
                        err_clear(err);
                        rc = 0;
                }
        }
        if (body.file)
                file_unref(&body.file);
        str_deinit(&octets);
        str_deinit(&text);
        return rc;
}

int ctl_message_read(struct ctl_call *call, struct err *err)
{
        uint32_t after = (uint32_t)json_integer_value(json_object_get(call->args, "after"));
        json_int_t left = json_integer_value(json_object_get(call->args, "bytes"));
        struct mailbox *mbox = NULL;
        struct mailbox_status status;
        struct view *view;
        int rc = 0;

        if (open_mailbox(call, false, &mbox, NULL, err) < 0)
                return -1;
        mailbox_status(mbox, &status);
        view = mailbox_view(mbox);
        call->row(call, json_pack("{s:I, s:I}", "messages", (json_int_t)view_count(view), "uidvalidity", (json_int_t)status.uidvalidity));
        for (uint32_t at = view_seqno_from(view, after + 1); rc == 0 && at <= view_count(view) && left > 0 && !call->cancelled(call); at++) {
                uint32_t uid = view_uid(view, at);
                struct msg m;

                if (mailbox_message(mbox, uid, &m, err) < 0) {
                        if (err->code != ERR_NOTFOUND)
                                rc = -1;
                        else
                                err_clear(err);
                        continue;
                }
                left -= (json_int_t)m.size + 1;
                rc = read_one(call, mbox, &m, err);
        }
        view_unref(&view);
        mailbox_unref(&mbox);
        return rc;
}

/* ---- in ---- */

static int take_flags(json_t *flags, struct arena *arena, struct append_item *item, struct err *err)
{
        struct span *keywords = arena_alloc(arena, (json_array_size(flags) + 1) * sizeof *keywords);
        uint32_t n = 0;
        size_t i;
        json_t *flag;

        json_array_foreach(flags, i, flag) {
                const char *name = json_string_value(flag);
                bool found = false;

                if (!name || n >= MESSAGE_KEYWORDS_MAX)
                        return err_set(err, ERR_SYNTAX, "flags: strings are wanted, at most %d", MESSAGE_KEYWORDS_MAX);
                for (size_t k = 0; !found && k < ARRAY_LEN(system_flags); k++)
                        if (strcasecmp(name, system_flags[k].name) == 0) {
                                item->flags |= system_flags[k].flag;
                                found = true;
                        }
                if (!found && name[0] == '\\')
                        return err_set(err, ERR_SYNTAX, "no flag %s", name);
                if (!found)
                        keywords[n++] = span_of(arena_strndup(arena, name, strlen(name)));
        }
        item->keywords = keywords;
        item->keyword_count = n;
        return 0;
}

static int take_message(struct ctl_call *call, const char *partition_dir, json_t *message, struct arena *arena, struct append_item *item,
                        struct err *err)
{
        json_t *text = json_object_get(message, "octets"), *date = json_object_get(message, "date");
        struct str octets = STR_INIT;
        int rc;

        *item = (struct append_item){ .internaldate = json_is_integer(date) ? json_integer_value(date) : INT64_MIN, .savedate = INT64_MIN };
        if (!json_is_string(text))
                return err_set(err, ERR_SYNTAX, "octets: a string is wanted");
        rc = take_flags(json_object_get(message, "flags"), arena, item, err);
        if (rc == 0)
                rc = base64_decode((struct span){ json_string_value(text), json_string_length(text) }, &octets, err);
        if (rc == 0)
                rc = stage_begin(call->store, partition_dir, octets.len, &item->stage, err);
        if (rc == 0)
                rc = stage_write(item->stage, octets.data, octets.len, err);
        if (rc == 0)
                rc = stage_finish(item->stage, err);
        str_deinit(&octets);
        return rc;
}

/* One at a time, up to the end: whoever finds the uidnext he expects knows that nobody else's append is under way. */
static struct mutex one_append = MUTEX_INIT;    /* of operations only, whose threads may wait for a sync with it */

static int append_as_expected(struct ctl_call *call, struct mailbox *mbox, const struct append_item *items, uint32_t n,
                              struct append_result *result_r, struct err *err)
{
        json_t *expected = json_object_get(call->args, "uidnext");
        struct mailbox_status status;
        struct waiter waiter;
        int rc = 0;

        mutex_lock(&one_append);
        mailbox_status(mbox, &status);
        if (expected && json_integer_value(expected) != (json_int_t)status.uidnext)
                rc = err_set(err, ERR_BUSY, "others write to the mailbox");
        if (rc == 0) {
                waiter_init_blocking(&waiter);
                rc = mailbox_append(mbox, items, n, result_r, &waiter, err);
                if (rc == 0)
                        rc = waiter_block(&waiter, err);
        }
        mutex_unlock(&one_append);
        return rc;
}

int ctl_message_append(struct ctl_call *call, struct err *err)
{
        json_t *messages = json_object_get(call->args, "messages"), *message;
        struct arena arena = ARENA_INIT;
        struct append_item *items;
        struct append_result result = { 0 };
        struct mailbox *mbox = NULL;
        const char *partition_dir;
        size_t n = json_array_size(messages), i;
        int rc;

        if (!json_is_array(messages) || n > BATCH_MAX)
                return err_set(err, ERR_SYNTAX, "messages: an array of at most %d is wanted", BATCH_MAX);
        rc = open_mailbox(call, ctl_arg_bool(call, "create"), &mbox, &partition_dir, err);
        items = arena_alloc(&arena, (n + 1) * sizeof *items);
        memset(items, 0, (n + 1) * sizeof *items);
        if (rc == 0)
                json_array_foreach(messages, i, message)
                        if (rc == 0)
                                rc = take_message(call, partition_dir, message, &arena, &items[i], err);
        if (rc == 0 && n)
                rc = append_as_expected(call, mbox, items, (uint32_t)n, &result, err);
        if (rc == 0)
                call->row(call, json_pack("{s:I, s:I}", "appended", (json_int_t)n, "first_uid", (json_int_t)result.first_uid));
        for (i = 0; i < n; i++)
                if (items[i].stage)
                        stage_unref(&items[i].stage);
        if (mbox)
                mailbox_unref(&mbox);
        arena_deinit(&arena);
        return rc;
}
