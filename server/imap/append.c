/*
 * append - messages of APPEND and REPLACE before and after their octets came; see append.h
 *
 * What is made of pieces, or has NULs, is put together on a thread that may block, some megabytes at a time, so that nobody waits long
 * behind it. All of it is made before anything is written: all messages are appended or none (RFC 3502).
 */
#include "server/imap/append.h"
#include "server/imap/quotacmd.h"

#include <inttypes.h>

#include "server/imap/imap_private.h"
#include "server/callout.h"
#include "util/log.h"

#define JOB_BYTES (8u << 20)                    /* copied before the next in the queue gets its turn */
#define COPY_PIECE ((size_t)64 * 1024)

struct append_job {
        struct imap *imap;
        struct append_state *st;
        struct store *store;
        const char *partition_dir;
        uint64_t max;                           /* octets of a message */
        struct append_message *message;         /* the one at hand */
        struct append_part *part;
        bool located;                           /* its URL was */
        uint64_t at;                            /* octets of the part that are copied */
        struct stage *stage;                    /* being written */
        struct stage **stages;                  /* of the client's literals: borrowed */
        struct append_part *bad;                /* this URL names nothing */
        struct append_munge munge;              /* `stage`'s header */
        bool reject8bit, bad_header;
        uint64_t made_memory;                   /* octets made here that are in memory */
        uint32_t made_files;
        bool too_big, empty;
        struct err err;
};

static void cleanup(struct imap *imap)
{
        struct append_state *st = imap->cmd.state;

        for (struct append_message *m = st->request.messages; m; m = m->next) {
                for (struct append_part *p = m->parts; p; p = p->next)
                        url_part_release(&p->target);
                if (m->made)
                        stage_unref(&m->made);
        }
        if (st->job && st->job->stage)
                stage_unref(&st->job->stage);
        uidset_deinit(&st->target.uids);
        seen_carry_deinit(&st->target.seen);
        imap_open_release(&st->target.open);
        mailbox_unref(&st->target.to);
        mbentry_unref(&st->target.entry);
}

/* ---- before the octets come ---- */

static bool refuse(struct append_check *check, bool bad, const char *code, const char *text)
{
        check->bad = bad;
        check->code = code;
        check->text = text;
        return false;
}

/* "UID REPLACE", "APPEND": the parser is behind it then. */
static bool precheck_command(struct imap *imap, struct imap_parser *ip, struct append_check *check, bool *replace_r)
{
        const char *code, *text;
        struct span word;

        if (imap_atom(ip, &word) < 0 || (imap_word_is(word, "UID") && (imap_sp(ip) < 0 || imap_atom(ip, &word) < 0)))
                return refuse(check, true, NULL, "Command name missing");
        *replace_r = imap_word_is(word, "REPLACE");
        if (imap->state == IMAP_NOT_AUTH)
                return refuse(check, true, NULL, "Log in first");
        if (*replace_r && imap->state != IMAP_SELECTED)
                return refuse(check, true, NULL, "No mailbox is selected");
        imap->cmd.cmd = imap_cmd_find(word);
        return !*replace_r || imap_selected_allows(imap, &code, &text) || refuse(check, false, code, text);
}

/* Read what there is of the command: "APPEND mailbox (\Seen) ". False: check says why. */
static bool precheck_args(struct imap *imap, struct span args, const char **internal_r, bool *replace_r, struct append_check *check)
{
        struct namer who = imap_namer(imap);
        struct imap_parser ip;
        struct append_request request;
        struct err err = ERR_INIT;

        imap_parser_init(&ip, args, &imap->s->arena, imap->rev2 || imap->utf8);
        if (!precheck_command(imap, &ip, check, replace_r))
                return false;
        if (append_parse(&ip, *replace_r, true, &request) < 0)
                return refuse(check, true, NULL, arena_strdup(&imap->s->arena, ip.err.text));
        check->piece = request.wants_piece;
        if (mailname_internal(&who, request.mailbox, &imap->s->arena, internal_r, &err) < 0)
                return refuse(check, false, "CANNOT", arena_strdup(&imap->s->arena, err.text));
        return true;
}

static bool precheck(struct imap *imap, struct span args, uint64_t literal_bytes, struct append_check *check_r)
{
        const struct mbentry *entry;
        const char *internal;
        uint32_t rights = 0;
        struct err err = ERR_INIT;
        bool full, replace;

        if (!precheck_args(imap, args, &internal, &replace, check_r))
                return false;
        if (literal_bytes == 0 && !check_r->piece)              /* RFC 3502 6.3.11: this is how a client cancels the whole command */
                return refuse(check_r, false, NULL, "The message is empty");
        entry = imap_look_up(imap, internal, &rights);
        if (!entry || !imap_allows(imap, rights)) {
                mbentry_unref(&entry);
                check_r->code = imap_refusal(imap, internal, rights, &check_r->text);
                return false;
        }
        check_r->partition_dir = entry->type == MBTYPE_NORMAL ? store_partition_dir(imap->store, entry->partition) : NULL;
        full = !replace && !imap_quota_ignored(imap) && quota_check(imap->store, entry->name, (int64_t)literal_bytes, 1, &err) < 0;
        mbentry_unref(&entry);
        if (full)                                               /* RFC 9208 4.3.1 */
                return refuse(check_r, false, "OVERQUOTA", "Quota exceeded");
        return check_r->partition_dir ? true : refuse(check_r, false, "UNAVAILABLE", "The mailbox is not here");
}

bool imap_append_precheck(struct imap *imap, struct span args, uint64_t literal_bytes, struct append_check *check_r)
{
        bool ok;

        *check_r = (struct append_check){ 0 };
        ok = precheck(imap, args, literal_bytes, check_r);
        imap->cmd.cmd = NULL;                                   /* it is not yet a command */
        return ok;
}

/* ---- the whole command ---- */

/* What the user may not set is left away, without a word (RFC 4314 4). */
static void restrict_to_rights(struct imap *imap, struct append_state *st)
{
        uint32_t rights = st->target.rights;

        for (struct append_message *m = st->request.messages; m; m = m->next) {
                m->item.ignore_quota = imap_quota_ignored(imap);
                m->item.flags &= ~copy_forbidden_flags(rights);
                if (!(rights & ACL_WRITE))
                        m->item.keyword_count = 0;
        }
}

/* Every literal must be one that came. */
static bool check_literals(struct imap *imap, const struct append_state *st)
{
        for (const struct append_message *m = st->request.messages; m; m = m->next) {
                bool there = m->catenate || imap_streamed_stage(imap, m->literal);

                for (const struct append_part *p = m->parts; p && there; p = p->next)
                        there = p->is_url || imap_streamed_stage(imap, p->literal);
                if (!there) {
                        imap_bad(imap, "The message must be a literal");
                        return false;
                }
        }
        return true;
}

/* RFC 4469 4.1. The URL stands between brackets: what must not be there is left percent-encoded. */
static void reply_badurl(struct imap *imap, struct span url)
{
        struct str code = STR_INIT;

        str_append_str(&code, "BADURL ");
        for (size_t i = 0; i < url.len && i < IMAP_URL_MAX; i++) {
                unsigned char c = (unsigned char)url.p[i];

                if (c < 0x20 || c >= 0x7f || c == ']')
                        str_printf(&code, "%%%02X", c);
                else
                        str_append_c(&code, (char)c);
        }
        imap_no(imap, code.data, "A part of the message could not be found");
        str_deinit(&code);
}

/* RFC 4469 3: only URLs relative to this session. */
static bool look_up_urls(struct imap *imap, struct append_state *st)
{
        struct url_identity who = url_identity_of(imap);
        struct err err = ERR_INIT;

        for (struct append_message *m = st->request.messages; m; m = m->next)
                for (struct append_part *p = m->parts; p; p = p->next)
                        if (p->is_url && (imap_url_parse(p->url, &imap->s->arena, &p->target.url, &err) < 0 || p->target.url.absolute ||
                                          p->target.url.access || !url_part_begin(&p->target, imap, &who))) {
                                reply_badurl(imap, p->url);
                                return false;
                        }
        return true;
}

/* The header's octets are looked at in pieces until an empty line. */
static bool has_8bit_header(struct stage *stage, struct err *err)
{
        uint64_t at = 0, size = stage_size(stage);
        unsigned newlines = 1;
        char buf[4096];

        while (at < size) {
                size_t n = size - at < sizeof buf ? (size_t)(size - at) : sizeof buf;

                if (stage_read(stage, at, buf, n, err) < 0)
                        return false;
                for (size_t i = 0; i < n; i++) {
                        if ((unsigned char)buf[i] >= 0x80)
                                return true;
                        if (buf[i] == '\n' && ++newlines == 2)
                                return false;
                        if (buf[i] != '\n' && buf[i] != '\r')
                                newlines = 0;
                }
                at += n;
        }
        return false;
}

/*
 * Who has not said that he takes UTF-8 may not store it in headers (RFC 9755 4) – with reject8bit only: old mail has such headers, and whoever
 * moves it from one server to another must not lose it here.
 */
static bool rejects8bit(struct imap *imap)
{
        return !imap->utf8 && !imap->rev2 && conf_switch(imap->conf, imap_service(imap), "reject8bit");
}

static void reply_bad_header(struct imap *imap)
{
        imap_no(imap, NULL, "The header has 8-bit characters: ENABLE UTF8=ACCEPT first");
}

/* Those of CATENATE when they have been made. */
static bool check_headers(struct imap *imap, const struct append_state *st)
{
        struct err err = ERR_INIT;

        if (!rejects8bit(imap))
                return true;
        for (const struct append_message *m = st->request.messages; m; m = m->next)
                if (!m->catenate && has_8bit_header(imap_streamed_stage(imap, m->literal), &err)) {
                        reply_bad_header(imap);
                        return false;
                }
        return true;
}

/* Not for who has said that he takes UTF-8; and what is refused must be seen as it is. */
void append_munge_begin(struct imap *imap, struct append_munge *munge)
{
        munge->on = !imap->utf8 && !imap->rev2 && conf_switch(imap->conf, imap_service(imap), "munge8bit") && !rejects8bit(imap);
        munge->newlines = 1;
}

void append_munge(struct append_munge *munge, char *p, size_t len)
{
        for (size_t i = 0; i < len && munge->on; i++) {
                if (p[i] == '\n')
                        munge->on = ++munge->newlines < 2;
                else if (p[i] != '\r')
                        munge->newlines = 0;
                if ((unsigned char)p[i] >= 0x80)
                        p[i] = 'X';
        }
}

bool append_begin(struct imap *imap, bool replace)
{
        struct append_state *st = imap->cmd.state = ARENA_NEW(&imap->s->arena, struct append_state);
        struct imap_parser *ip = &imap->cmd.args;
        struct namer who = imap_namer(imap);
        struct err err = ERR_INIT;
        const char *internal;

        imap->cmd.cleanup = cleanup;
        if (append_parse(ip, replace, false, &st->request) < 0) {
                imap_bad(imap, "%s", ip->err.text);
                return false;
        }
        if (mailname_internal(&who, st->request.mailbox, &imap->s->arena, &internal, &err) < 0) {
                imap_fail(imap, &err);
                return false;
        }
        imap_note_named(imap, internal);
        if (!check_literals(imap, st))
                return false;
        st->target.entry = imap_find_mailbox(imap, internal, &st->target.rights);
        if (!st->target.entry)
                return false;
        if (!check_headers(imap, st))
                return false;
        restrict_to_rights(imap, st);
        return look_up_urls(imap, st);
}

/* ---- making messages ---- */

static int read_part(struct append_job *j, uint64_t at, void *buf, size_t n)
{
        if (j->part->is_url)
                return url_part_read(&j->part->target, at, buf, n, &j->err);
        return stage_read(j->stages[j->part->literal], at, buf, n, &j->err);
}

static int too_big(struct append_job *j)
{
        j->too_big = true;
        return err_set(&j->err, ERR_LIMIT, "The message is larger than the server takes");
}

/* The part's octets, as far as the budget goes. 1: all of it; 0: not yet. */
static int copy_part(struct append_job *j, uint64_t *budget)
{
        struct append_part *p = j->part;
        char buf[COPY_PIECE];
        uint64_t len;

        if (p->is_url && !j->located) {
                if (url_part_locate(&p->target, &j->err) < 0) {
                        j->bad = p;
                        return -1;
                }
                j->located = true;
        }
        len = p->is_url ? p->target.len : stage_size(j->stages[p->literal]);
        if (len > j->max || stage_size(j->stage) > j->max - len + j->at)
                return too_big(j);
        while (j->at < len && *budget) {
                size_t n = len - j->at < sizeof buf ? (size_t)(len - j->at) : sizeof buf;

                if (read_part(j, j->at, buf, n) < 0)
                        return -1;
                append_munge(&j->munge, buf, n);
                if (stage_write(j->stage, buf, n, &j->err) < 0)
                        return -1;
                j->at += n;
                *budget -= n < *budget ? n : *budget;
        }
        return j->at == len;
}

/* What is made is bounded as what comes is. */
static int count_made(struct append_job *j)
{
        uint64_t size = stage_size(j->message->made);

        if (size <= STAGE_IN_MEMORY && j->made_memory < IMAP_STAGED_MEMORY)
                j->made_memory += size;
        else if (++j->made_files > IMAP_STAGE_FILES_MAX)
                return err_set(&j->err, ERR_LIMIT, "Too many large messages in one command");
        return 1;
}

static int catenate(struct append_job *j, uint64_t *budget)
{
        int rc = 1;

        if (!j->stage) {
                if (stage_begin(j->store, j->partition_dir, 0, &j->stage, &j->err) < 0)
                        return -1;
                if (j->made_memory >= IMAP_STAGED_MEMORY)
                        stage_limit_memory(j->stage, 0);
                append_munge_begin(j->imap, &j->munge);
                j->part = j->message->parts;
                j->at = 0;
                j->located = false;
        }
        while (j->part && (rc = copy_part(j, budget)) > 0) {
                if (j->part->is_url)
                        file_unref(&j->part->target.body.file);
                j->part = j->part->next;
                j->at = 0;
                j->located = false;
        }
        if (rc <= 0)
                return rc;
        if (stage_finish(j->stage, &j->err) < 0)
                return -1;
        j->message->made = j->stage;
        j->stage = NULL;
        j->empty = stage_size(j->message->made) == 0;
        if (j->empty)
                return err_set(&j->err, ERR_UNSUPPORTED, "The message is empty");
        j->bad_header = j->reject8bit && has_8bit_header(j->message->made, &j->err);
        if (j->bad_header)
                return err_set(&j->err, ERR_UNSUPPORTED, "The header has 8-bit characters");
        return j->err.code ? -1 : count_made(j);
}

static struct stage *octets_of(const struct append_job *j, const struct append_message *m)
{
        return m->made ? m->made : j->stages[m->literal];
}

/* NULs are kept in base64 (RFC 3516 4.4). */
static int encode(struct append_job *j)
{
        struct append_message *m = j->message;
        struct stage *encoded;

        if (!stage_has_nul(octets_of(j, m)))
                return 0;
        if (stage_begin(j->store, j->partition_dir, stage_size(octets_of(j, m)) / 3 * 4, &encoded, &j->err) < 0)
                return -1;
        if (stage_encode_binary(octets_of(j, m), encoded, &j->err) < 0) {
                stage_unref(&encoded);
                return -1;
        }
        if (m->made)
                stage_unref(&m->made);
        m->made = encoded;
        return stage_size(encoded) > j->max ? too_big(j) : 0;
}

/* One message, or some of it. */
static void work(void *arg)
{
        struct append_job *j = arg;
        uint64_t budget = JOB_BYTES;
        int rc = 1;

        if (j->message->catenate)
                rc = catenate(j, &budget);
        if (rc > 0 && encode(j) == 0)
                j->message = j->message->next;
}

static bool needs_work(struct append_job *j, const struct append_message *m)
{
        return m->catenate || stage_has_nul(j->stages[m->literal]);
}

static void begin_job(struct imap *imap, struct append_state *st)
{
        struct append_job *j = st->job = ARENA_NEW(&imap->s->arena, struct append_job);
        int64_t max = conf_int(imap->conf, imap_service(imap), "maxmessagesize");

        j->imap = imap;
        j->st = st;
        j->store = imap->store;
        j->partition_dir = store_partition_dir(imap->store, st->target.entry->partition);
        j->max = max > 0 && max < UINT32_MAX - 65536 ? (uint64_t)max : UINT32_MAX - 65536;
        j->stages = imap->loop->stages;
        j->reject8bit = rejects8bit(imap);
        j->message = st->request.messages;
}

static void reply_failed(struct imap *imap, struct append_job *j)
{
        char buf[LOG_QUOTE_MAX];

        if (j->bad && (j->err.code == ERR_IO || j->err.code == ERR_CORRUPT))
                log_event(LOG_ERROR, imap->s->name, "imap.catenate", "user=%s reason=%s", imap->userid, log_quote_str(buf, j->err.text));
        if (j->too_big)
                imap_no(imap, "TOOBIG", "%s", j->err.text);
        else if (j->bad)
                reply_badurl(imap, j->bad->url);
        else if (j->bad_header)
                reply_bad_header(imap);
        else if (j->empty)
                imap_no(imap, NULL, "%s", j->err.text);
        else if (j->err.code == ERR_UNSUPPORTED)
                imap_no(imap, "UNKNOWN-CTE", "%s", j->err.text);
        else
                imap_fail(imap, &j->err);
}

static void fill_items(struct imap *imap, struct append_state *st)
{
        struct append_item *item = st->items = ARENA_ARRAY(&imap->s->arena, struct append_item, st->request.messages_n);

        for (struct append_message *m = st->request.messages; m; m = m->next, item++) {
                *item = m->item;
                item->stage = octets_of(st->job, m);
                item->annots = m->annotations.v;
                item->annots_n = m->annotations.n;
        }
}

/* ---- annotations ---- */

static enum cmd_result check_annotations(struct imap *imap, struct append_state *st, bool *ok_r)
{
        struct annotation_check *c = &st->check;

        if (!c->sets) {
                c->sets = ARENA_ARRAY(&imap->s->arena, struct annotation_set *, st->request.messages_n);
                for (struct append_message *m = st->request.messages; m; m = m->next)
                        if (m->annotations.n)
                                c->sets[c->sets_n++] = &m->annotations;
                c->rights = st->target.rights;
        }
        return annotation_check(imap, c, ok_r);
}

/* Entries of parts that the message does not have (RFC 5257 3.2.1): the tagged BAD was sent. */
static bool parts_are_there(struct imap *imap, const struct append_state *st)
{
        uint32_t i = 0;

        for (const struct append_message *m = st->request.messages; m; m = m->next, i++)
                for (uint32_t k = 0; m->annotations.parts && k < m->annotations.n; k++) {
                        struct annotation_part part;
                        struct err err = ERR_INIT;

                        if (annotation_entry(span_of(m->annotations.v[k].entry), &part, &err) == 0 &&
                            (part.n == 0 || stage_has_part(st->items[i].stage, part.path, part.n)))
                                continue;
                        imap_bad(imap, "The message has no such part");
                        return false;
                }
        return true;
}

enum cmd_result append_fail(struct imap *imap, const struct append_state *st, const struct err *err)
{
        return st->check.sets_n ? annotation_fail(imap, err) : imap_fail(imap, err);
}

/* ---- annotation_callout ---- */

static void ask_callout(void *arg)
{
        struct append_job *j = arg;
        struct append_state *st = j->st;
        struct imap *imap = j->imap;
        const char *path = callout_path(imap->conf, imap_service(imap), false);

        for (uint32_t i = 0; i < st->request.messages_n; i++) {
                struct append_item *item = &st->items[i];
                struct callout_message m = { item->stage, item->flags, item->keywords, item->keyword_count, item->annots, item->annots_n };
                struct callout_answer a;
                struct annot *annots;

                if (!callout_ask(path, imap->s->name, &m, &imap->s->arena, &a))
                        continue;
                item->flags = a.flags & ~copy_forbidden_flags(st->target.rights);
                if (st->target.rights & ACL_WRITE) {
                        item->keywords = a.keywords;
                        item->keyword_count = a.keyword_count;
                }
                item->annots_n = callout_annots(imap->store, imap->conf, imap->s->name, imap->userid, &m, &a, &imap->s->arena, &annots);
                item->annots = annots;
        }
}

/* CMD_DONE: st->items are ready, or the tagged reply was sent (false in *ok_r). */
static enum cmd_result make_items(struct imap *imap, struct append_state *st, bool *ok_r)
{
        struct append_job *j;

        *ok_r = true;
        if (st->phase == APPEND_CALLED)
                return CMD_DONE;

        if (st->phase == APPEND_CHECK) {
                enum cmd_result result = check_annotations(imap, st, ok_r);

                if (result != CMD_DONE || !*ok_r)
                        return result;
                st->phase = APPEND_MAKE;
        }
        if (!st->job)
                begin_job(imap, st);
        j = st->job;
        *ok_r = j->err.code == ERR_NONE;
        if (!*ok_r) {
                reply_failed(imap, j);
                return CMD_DONE;
        }
        while (j->message && !needs_work(j, j->message))
                j->message = j->message->next;
        if (j->message)
                return imap_offload(imap, OFFLOAD_DISK, work, j);
        fill_items(imap, st);
        *ok_r = parts_are_there(imap, st);
        if (!*ok_r || !callout_path(imap->conf, imap_service(imap), false))
                return CMD_DONE;
        st->phase = APPEND_CALLED;
        return imap_offload(imap, OFFLOAD_CALLOUT, ask_callout, j);
}

bool append_ready(struct imap *imap, struct append_state *st, enum cmd_result *result_r)
{
        struct err err = ERR_INIT;
        int opened;
        bool ok;

        if (st->phase < APPEND_OPEN) {
                *result_r = make_items(imap, st, &ok);
                if (*result_r != CMD_DONE || !ok)
                        return false;
                st->phase = APPEND_OPEN;
        }
        opened = imap_open_mailbox(imap, &st->target.open, st->target.entry, &st->target.to, &err);
        if (opened <= 0)
                *result_r = opened == 0 ? CMD_WAIT : imap_fail(imap, &err);
        return opened > 0;
}

bool append_code(const struct append_state *st, struct str *code)
{
        if (!(st->target.rights & ACL_READ))                    /* RFC 4315 3: it would tell about a mailbox that may not be read */
                return false;
        str_printf(code, "APPENDUID %" PRIu32 " %" PRIu32, st->result.uidvalidity, st->result.first_uid);
        if (st->result.count > 1)                               /* RFC 3502: in the order of the messages */
                str_printf(code, ":%" PRIu32, st->result.first_uid + st->result.count - 1);
        return true;
}

/* ---- \Seen ---- */

int append_take_seen(struct imap *imap, struct append_state *st, struct err *err)
{
        struct seen_carry *seen = &st->target.seen;
        struct copy_mask mask = { .drop_flags = 0 };

        if (seen_carry_begin(imap, seen, st->target.entry->name, st->target.to, NULL, NULL, &mask, err) < 0)
                return -1;
        for (uint32_t i = 0; i < st->request.messages_n && seen->to; i++) {
                if (st->items[i].flags & MSG_SEEN)
                        uidset_add(&seen->from, i + 1);
                st->items[i].flags &= ~(uint32_t)MSG_SEEN;
        }
        return 0;
}

int append_finish_seen(struct imap *imap, struct append_state *st, struct err *err)
{
        struct seen_carry *seen = &st->target.seen;

        for (uint32_t i = 0; i < st->request.messages_n && !seen->begun; i++)
                if (uidset_has(&seen->from, i + 1))
                        uidset_add(&seen->uids, st->result.first_uid + i);
        return seen_carry_step(imap, seen, st->target.to, err);
}
