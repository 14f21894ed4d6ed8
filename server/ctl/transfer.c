/*
 * transfer - see transfer.h.
 * Import can be run again, also after it was killed half-way, with the same result: a message whose octets are in the mailbox already
 * (by GUID, counted: two equal ones in the source want two there) is not brought again. So it also completes what another way began.
 */
#include "server/ctl/transfer.h"

#include <stdlib.h>
#include <string.h>
#include <nettle/sha1.h>

#include "server/ctl/mailfile.h"
#include "server/sasl.h"
#include "store/mailbox.h"
#include "store/mailname.h"
#include "util/hash.h"
#include "util/must.h"

#define BATCH_BYTES (1u << 20)                  /* of octets in one append */
#define BATCH_MESSAGES 500
#define TRIES_MAX 1000                          /* of one batch, when others write to the mailbox all the time */
#define READ_BYTES (4u << 20)                   /* asked for at a time */

struct transfer {
        struct ctl_client *client;
        struct ctl_client inner;                /* calls operations; rows come back to us */
        char sep;
        const char *mailbox, *path;
        uint64_t done, total;
        uint64_t failed;
};

static void progress(struct transfer *t)
{
        if (t->client->progress && t->done % 64 == 0)
                t->client->progress(t->client->ctx, t->done, t->total, "messages");
}

static void complain(struct transfer *t, const char *where, const char *text)
{
        json_t *row = json_pack("{s:s, s:s, s:s}", "kind", "problem", "message", where, "problem", text);

        t->failed++;
        if (!row)
                row = json_pack("{s:s, s:s, s:s}", "kind", "problem", "message", "(a name that is no UTF-8)", "problem", text);
        t->client->row(t->client->ctx, row);
        json_decref(row);
}

static int begin(struct transfer *t, struct ctl_client *client, json_t *args, struct err *err)
{
        struct namespace *ns = namespace_create(client->conf);

        *t = (struct transfer){ .client = client, .inner = { .conf = client->conf, .socket = client->socket }, .sep = namespace_separator(ns),
                                .mailbox = json_string_value(json_object_get(args, "mailbox")),
                                .path = json_string_value(json_object_get(args, "path")) };
        namespace_unref(&ns);
        return ctl_client_open(&t->inner, err);
}

/* The mailbox of a folder: "user/joe" and "Lists/c" → "user/joe/Lists/c". */
static void name_below(const struct transfer *t, const char *folder, struct str *out)
{
        str_append_str(out, t->mailbox);
        if (*folder)
                str_append_c(out, t->sep);
        for (; *folder; folder++)
                str_append_c(out, *folder == '/' ? t->sep : *folder);
}

/* ---- import ---- */

struct import {
        struct transfer t;
        struct table *there;                    /* GUID in hex → how many, as a pointer */
        const char *target;                     /* the mailbox at work */
        uint32_t uidnext;                       /* of the mailbox, as far as `there` knows it; 0: it is not there yet */
        json_t *batch;
        size_t batch_bytes;
        uint64_t imported, present, failed_before;
        bool dry;
};

static void count_guid(struct import *im, const char *hex, int add)
{
        uintptr_t n = (uintptr_t)table_find(im->there, span_of(hex));

        table_set(im->there, span_of(hex), (void *)(n + (uintptr_t)add));
}

static void guid_row(void *ctx, json_t *row)
{
        struct import *im = ctx;
        json_t *guid;
        size_t i;

        if (json_object_get(row, "uidnext"))
                im->uidnext = (uint32_t)json_integer_value(json_object_get(row, "uidnext"));
        json_array_foreach(json_object_get(row, "guids"), i, guid)
                if (json_is_string(guid))
                        count_guid(im, json_string_value(guid), 1);
}

/* What is in the mailbox since we last looked. That it does not exist yet is fine. */
static int learn_guids(struct import *im, struct err *err)
{
        im->t.inner.row = guid_row;
        im->t.inner.ctx = im;
        if (ctl_client_call(&im->t.inner, "message.guids", json_pack("{s:s, s:I}", "mailbox", im->target, "after",
                                                                     (json_int_t)(im->uidnext ? im->uidnext - 1 : 0)), err) == 0)
                return 0;
        if (err->code != ERR_NOTFOUND)
                return -1;
        err_clear(err);
        return 0;
}

static void appended_row(void *ctx, json_t *row)
{
        struct import *im = ctx;
        json_int_t n = json_integer_value(json_object_get(row, "appended"));

        if (n > 0)
                im->uidnext = (uint32_t)(json_integer_value(json_object_get(row, "first_uid")) + n);
}

static void guid_hex(struct span octets, char hex[41])
{
        static const char digits[] = "0123456789abcdef";
        struct sha1_ctx sha;
        uint8_t digest[SHA1_DIGEST_SIZE];

        sha1_init(&sha);
        sha1_update(&sha, octets.len, (const uint8_t *)octets.p);
        sha1_digest(&sha, sizeof digest, digest);
        for (int i = 0; i < 20; i++) {
                hex[2 * i] = digits[digest[i] >> 4];
                hex[2 * i + 1] = digits[digest[i] & 15];
        }
        hex[40] = '\0';
}

static int append(struct import *im, json_t *messages, struct err *err)
{
        json_t *args = json_pack("{s:s, s:b, s:O}", "mailbox", im->target, "create", 1, "messages", messages);

        json_object_set_new(args, "uidnext", json_integer(im->uidnext ? im->uidnext : 1));
        im->t.inner.row = appended_row;
        im->t.inner.ctx = im;
        return ctl_client_call(&im->t.inner, "message.append", args, err);
}

/* Take out of a batch what has come into the mailbox by another way meanwhile. */
static void drop_present(struct import *im, json_t *messages)
{
        for (size_t i = json_array_size(messages); i-- > 0;) {
                const char *guid = json_string_value(json_object_get(json_array_get(messages, i), "guid"));

                if (table_find(im->there, span_of(guid))) {
                        count_guid(im, guid, -1);
                        im->present++;
                        json_array_remove(messages, i);
                }
        }
}

/* Others may write there too, an import that was killed and whose last batch is still on its way among them: look again, and go on. */
static int append_patiently(struct import *im, json_t *messages, struct err *err)
{
        for (int tries = 0; append(im, messages, err) < 0; tries++) {
                if (err->code != ERR_BUSY || tries == TRIES_MAX)
                        return -1;
                err_clear(err);
                if (learn_guids(im, err) < 0)
                        return -1;
                drop_present(im, messages);
                if (json_array_size(messages) == 0)
                        return 0;
        }
        return 0;
}

/* A batch that is refused is tried message by message: one that the store will not have must not keep the others out. */
static int flush(struct import *im, struct err *err)
{
        size_t i;
        json_t *message;
        int rc = 0;

        if (json_array_size(im->batch) == 0)
                return 0;
        if (append_patiently(im, im->batch, err) == 0) {
                im->imported += json_array_size(im->batch);
        } else if (err->code == ERR_LIMIT || err->code == ERR_SYNTAX || err->code == ERR_QUOTA) {
                json_array_foreach(im->batch, i, message) {
                        json_t *one = json_pack("[O]", message);

                        err_clear(err);
                        if (append_patiently(im, one, err) == 0)
                                im->imported += json_array_size(one);
                        else
                                complain(&im->t, json_string_value(json_object_get(message, "where")), err->text);
                        json_decref(one);
                }
                err_clear(err);
        } else {
                rc = -1;
        }
        json_array_clear(im->batch);
        im->batch_bytes = 0;
        return rc;
}

static int import_message(struct import *im, const struct mailfile *m, struct err *err)
{
        struct str text = STR_INIT;
        json_t *message, *flags;
        char hex[41];

        guid_hex(str_span(&m->octets), hex);
        if (table_find(im->there, span_of(hex))) {
                count_guid(im, hex, -1);
                im->present++;
                return 0;
        }
        if (im->dry) {
                im->imported++;
                return 0;
        }
        base64_encode(str_span(&m->octets), &text);
        flags = json_array();
        for (unsigned i = 0; i < m->flags_n; i++)
                json_array_append_new(flags, json_string(m->flags[i]));         /* one that is no UTF-8 is left out */
        message = json_pack("{s:s#, s:o, s:s}", "octets", text.data, (int)text.len, "flags", flags, "guid", hex);
        json_object_set_new(message, "where", json_string(m->where));
        if (m->date != INT64_MIN)
                json_object_set_new(message, "date", json_integer(m->date));
        json_array_append_new(im->batch, message);
        im->batch_bytes += m->octets.len;
        str_deinit(&text);
        return im->batch_bytes >= BATCH_BYTES || json_array_size(im->batch) >= BATCH_MESSAGES ? flush(im, err) : 0;
}

static int import_folder(struct import *im, const struct mailfolder *folder, struct err *err)
{
        struct str target = STR_INIT;
        struct mailreader *reader = NULL;
        struct mailfile m;
        bool passed;                            /* nothing of this folder was to be had: told, and passed over */
        int rc, got = 0;

        name_below(&im->t, folder->name, &target);
        im->target = target.data;
        im->imported = im->present = 0;
        im->failed_before = im->t.failed;
        im->batch = json_array();
        im->there = table_create();
        im->uidnext = 0;
        mailfile_init(&m);
        rc = learn_guids(im, err);
        passed = rc < 0 && err->code == ERR_BADNAME;            /* no mailbox can be called that: the others come all the same */
        if (rc == 0) {
                rc = mailreader_open(folder, &reader, err);
                passed = rc < 0;
        }
        while (rc == 0 && (got = mailreader_next(reader, &m, err)) != 0) {
                if (got < 0) {
                        complain(&im->t, m.where, err->text);
                        err_clear(err);
                } else {
                        rc = import_message(im, &m, err);
                }
                im->t.done++;
                progress(&im->t);
        }
        if (rc == 0)
                rc = flush(im, err);
        if (rc == 0 && !im->dry && im->imported + im->present == 0)
                rc = append(im, im->batch, err);        /* empty folders come over too */
        if (rc == 0) {
                json_t *row = json_pack("{s:s, s:s, s:I, s:I, s:I}", "kind", "mailbox", "mailbox", im->target, "imported",
                                        (json_int_t)im->imported, "already_there", (json_int_t)im->present, "failed",
                                        (json_int_t)(im->t.failed - im->failed_before));

                im->t.client->row(im->t.client->ctx, row);
                json_decref(row);
        } else if (passed) {
                complain(&im->t, im->target, err->text);
                im->t.failed += folder->messages ? folder->messages - 1 : 0;
                im->t.done += folder->messages;
                err_clear(err);
                rc = 0;
        } else {
                err_prefix(err, "%s", im->target);
        }
        mailreader_close(&reader);
        mailfile_deinit(&m);
        table_destroy(&im->there);
        json_decref(im->batch);
        str_deinit(&target);
        return rc;
}

int transfer_import(struct ctl_client *client, json_t *args, struct err *err)
{
        struct import im = { .dry = json_is_true(json_object_get(args, "dry")) };
        struct mailtree tree = { NULL, 0, 0 };
        const char *path = json_string_value(json_object_get(args, "path"));
        int rc = mailtree_scan(path, &tree, err);

        if (rc == 0)
                rc = begin(&im.t, client, args, err);
        for (size_t i = 0; rc == 0 && i < tree.n; i++)
                im.t.total += tree.v[i].messages;
        for (size_t i = 0; rc == 0 && i < tree.n; i++)
                rc = import_folder(&im, &tree.v[i], err);
        ctl_client_close(&im.t.inner);
        mailtree_deinit(&tree);
        json_decref(args);
        if (rc == 0 && im.t.failed)
                rc = err_set(err, ERR_CORRUPT, "%llu message%s not imported", (unsigned long long)im.t.failed, im.t.failed == 1 ? " was" : "s were");
        return rc;
}

/* ---- export ---- */

struct export {
        struct transfer t;
        json_t *names;                          /* internal for display: of the mailboxes, in order */
        size_t prefix;                          /* of the name that is the top */
        bool mbox;
        /* the mailbox at work */
        struct mailwriter *writer;
        const char *folder;
        struct mailfile m;
        uint32_t last;
        uint64_t written, present;
        unsigned rows;
        struct err err;
};

static void list_row(void *ctx, json_t *row)
{
        struct export *ex = ctx;
        const char *name = json_string_value(json_object_get(row, "mailbox")), *type = json_string_value(json_object_get(row, "type"));
        size_t n = strlen(ex->t.mailbox);

        if (name && type && strcmp(type, "normal") == 0 && strncmp(name, ex->t.mailbox, n) == 0 && (name[n] == '\0' || name[n] == ex->t.sep))
                json_array_append_new(ex->names, json_string(name));
}

static void take_flags(struct export *ex, json_t *flags)
{
        json_t *flag;
        size_t i;

        json_array_foreach(flags, i, flag)
                if (json_is_string(flag))
                        mailfile_flag(&ex->m, json_string_value(flag), json_string_length(flag));
}

static void message_row(void *ctx, json_t *row)
{
        struct export *ex = ctx;
        json_t *octets = json_object_get(row, "octets"), *uid = json_object_get(row, "uid");
        char where[600];

        if (!uid) {                             /* the first row: about the mailbox */
                uint32_t uidvalidity = (uint32_t)json_integer_value(json_object_get(row, "uidvalidity"));

                if (!ex->writer && ex->err.code == ERR_NONE)
                        mailwriter_open(ex->mbox ? MAILFOLDER_MBOX : MAILFOLDER_MAILDIR, ex->t.path, ex->folder, uidvalidity, &ex->writer, &ex->err);
                return;
        }
        ex->rows++;
        ex->last = (uint32_t)json_integer_value(uid);
        if (!ex->writer || ex->err.code != ERR_NONE)
                return;
        ex->t.done++;
        progress(&ex->t);
        if (!octets) {
                snprintf(where, sizeof where, "%s: UID %u", ex->folder, ex->last);
                complain(&ex->t, where, json_string_value(json_object_get(row, "error")) ? json_string_value(json_object_get(row, "error")) : "?");
                return;
        }
        if (mailwriter_has(ex->writer, ex->last)) {
                ex->present++;
                return;
        }
        mailfile_clear(&ex->m);
        ex->m.date = json_integer_value(json_object_get(row, "date"));
        take_flags(ex, json_object_get(row, "flags"));
        if (base64_decode((struct span){ json_string_value(octets), json_string_length(octets) }, &ex->m.octets, &ex->err) == 0 &&
            mailwriter_add(ex->writer, ex->last, &ex->m, &ex->err) == 0)
                ex->written++;
}

static void count_row(void *ctx, json_t *row)
{
        struct export *ex = ctx;

        ex->t.total += (uint64_t)json_integer_value(json_object_get(row, "messages"));
}

/* How much there is, for the progress bar alone: what cannot be opened is told of when its turn comes. */
static void count_messages(struct export *ex)
{
        struct err ignored = ERR_INIT;
        json_t *name;
        size_t i;

        ex->t.inner.row = count_row;
        ex->t.inner.ctx = ex;
        json_array_foreach(ex->names, i, name)
                ctl_client_call(&ex->t.inner, "mailbox.info", json_pack("{s:O}", "mailbox", name), &ignored);
}

static int export_mailbox(struct export *ex, const char *name, struct err *err)
{
        struct str folder = STR_INIT;
        const char *p = name + strlen(ex->t.mailbox);
        int rc = 0;

        for (p += *p != '\0'; *p; p++)
                str_append_c(&folder, *p == ex->t.sep ? '/' : *p);
        ex->folder = folder.data;
        ex->last = 0;
        ex->written = ex->present = 0;
        err_clear(&ex->err);
        ex->t.inner.row = message_row;
        ex->t.inner.ctx = ex;
        do {
                ex->rows = 0;
                rc = ctl_client_call(&ex->t.inner, "message.read", json_pack("{s:s, s:I, s:I}", "mailbox", name, "after", (json_int_t)ex->last,
                                                                             "bytes", (json_int_t)READ_BYTES), err);
                if (rc == 0 && ex->err.code != ERR_NONE) {
                        err_copy(err, &ex->err);
                        rc = -1;
                }
        } while (rc == 0 && ex->rows);
        if (rc == 0)
                rc = mailwriter_finish(ex->writer, err);
        if (rc == 0) {
                json_t *row = json_pack("{s:s, s:s, s:I, s:I, s:I}", "kind", "mailbox", "mailbox", name, "exported", (json_int_t)ex->written,
                                        "already_there", (json_int_t)ex->present, "keywords_lost", (json_int_t)mailwriter_flags_lost(ex->writer));

                ex->t.client->row(ex->t.client->ctx, row);
                json_decref(row);
        } else {
                err_prefix(err, "%s", name);
        }
        mailwriter_close(&ex->writer);
        str_deinit(&folder);
        return rc;
}

int transfer_export(struct ctl_client *client, json_t *args, struct err *err)
{
        struct export ex = { .mbox = json_is_true(json_object_get(args, "mbox")), .names = json_array() };
        int rc;
        size_t i;
        json_t *name;

        mailfile_init(&ex.m);
        rc = begin(&ex.t, client, args, err);
        ex.t.inner.row = list_row;
        ex.t.inner.ctx = &ex;
        if (rc == 0)
                rc = ctl_client_call(&ex.t.inner, "list", json_object(), err);
        if (rc == 0 && json_array_size(ex.names) == 0)
                rc = err_set(err, ERR_NOTFOUND, "no mailbox %s", ex.t.mailbox);
        if (rc == 0 && client->progress)
                count_messages(&ex);
        json_array_foreach(ex.names, i, name)
                if (rc == 0)
                        rc = export_mailbox(&ex, json_string_value(name), err);
        ctl_client_close(&ex.t.inner);
        mailfile_deinit(&ex.m);
        json_decref(ex.names);
        json_decref(args);
        if (rc == 0 && ex.t.failed)
                rc = err_set(err, ERR_CORRUPT, "%llu message%s not exported", (unsigned long long)ex.t.failed, ex.t.failed == 1 ? " was" : "s were");
        return rc;
}
