/*
 * FETCH and UID FETCH (RFC 9051 6.4.5, RFC 3501 6.4.5; CHANGEDSINCE and MODSEQ: RFC 7162 3.1.4; VANISHED: 3.2.6; BINARY: RFC 3516).
 *
 * The messages are gone through in batches; between two of them, and within a large decoded part, the command may be parked. Where
 * \Seen is implied it is set for a batch first, at most some ROPE_HIGH octets ahead of what is sent, and the batch's replies
 * carry the new flags. A message that someone expunged meanwhile is still fetched while its octets are there (RFC 2180 4.1.1).
 */
#include "server/imap/fetch_private.h"
#include "server/imap/search_private.h"

#include <inttypes.h>

#include "util/log.h"
#include "util/must.h"

#define LOOK_EVERY 8                            /* messages, between two looks at the clock; what takes long looks by itself */
#define LINE_HIGH 16384                         /* built octets that are handed to the rope in one go */

static void end_message(struct fetch_state *st)
{
        file_unref(&st->body.file);
        st->octets = (struct span){ NULL, 0 };
        file_unref(&st->front.file);
        mime_pick_destroy(&st->binary.pick);
        arena_reset(&st->arena);
        st->front = (struct msg_front){ 0 };
        st->in_message = false;
        st->section = NULL;
        memset(&st->annot, 0, sizeof st->annot);
        st->binary.phase = BINARY_NONE;
}

void fetch_release(struct fetch_state *st)
{
        end_message(st);
        front_window_deinit(&st->window);
        arena_deinit(&st->arena);
        arena_deinit(&st->arena_request);
        vanished_deinit(&st->vanished);
        walk_deinit(&st->walk);
        flag_text_deinit(&st->flag_text);
        str_deinit(&st->line);
        str_deinit(&st->scratch);
        uidset_deinit(&st->seen);
}

static void cleanup(struct imap *imap)
{
        fetch_release(imap->cmd.state);
}

/* ---- the request ---- */

static unsigned front_wanted(struct fetch_state *st)
{
        static const struct { unsigned item, front; } kept[] = {
                { FETCH_ENVELOPE, FRONT_ENVELOPE }, { FETCH_BODY, FRONT_BODY }, { FETCH_BODYSTRUCTURE, FRONT_BODYSTRUCTURE },
                { FETCH_PREVIEW, FRONT_PARTS },
        };
        unsigned want = 0;

        for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
                if (st->req.items & kept[i].item)
                        want |= kept[i].front | FRONT_PLACES;
        for (const struct annotation_item *a = st->req.annotations; a; a = a->next)
                if (a->parts)
                        want |= FRONT_PARTS;
        st->headers_only = st->req.sections && !(st->req.items & FETCH_PREVIEW);
        for (const struct fetch_section *s = st->req.sections; s; s = s->next) {
                if (s->path_n)
                        want |= FRONT_PARTS;
                if (s->path_n || s->what != MIME_SECTION_HEADER || s->kind != FETCH_KIND_BODY)
                        st->headers_only = false;
        }
        st->octets_want = st->req.sections && !st->headers_only;
        return want;
}

/* CHANGEDSINCE: only those whose modseq is higher. Blocks without changes are not looked at. */
static int only_changed(struct imap *imap, uint64_t since, struct uidset *uids, struct err *err)
{
        struct uidset changed = UIDSET_INIT;
        int ret = mailbox_changed(imap->sel->mbox, imap->sel->view, since, UINT64_MAX, 1, UINT32_MAX, &changed, err);

        if (ret == 0)
                uidset_intersect(uids, &changed);
        uidset_deinit(&changed);
        return ret;
}

void fetch_init(struct imap *imap, struct fetch_state *st)
{
        st->imap = imap;
        str_init(&st->line);
        str_init(&st->scratch);
        str_init(&st->flag_text.keywords);
        arena_init(&st->arena);
        arena_init(&st->arena_request);
}

void fetch_begin(struct fetch_state *st, struct uidset *uids)
{
        st->front_want = front_wanted(st);
        walk_init(&st->walk, uids);
}

/* VANISHED: the set once more, now with what is no longer there. `*` is the highest UID that ever was. */
static bool begin_vanished(struct imap *imap, struct fetch_state *st, struct imap_parser *set)
{
        struct uidset asked = UIDSET_INIT;
        struct span text;

        if (!imap->cmd.uid || !imap->qresync) {                 /* RFC 7162 3.2.6 */
                imap_bad(imap, imap->cmd.uid ? "VANISHED needs ENABLE QRESYNC" : "VANISHED is for UID FETCH");
                return false;
        }
        must(imap_sp(set) == 0 && imap_sequence(set, &text) == 0);      /* as before */
        if (span_eq_str(text, "$"))
                uidset_copy(&asked, &imap->sel->saved);
        else if (uidset_parse(text, view_uidnext(imap->sel->view) - 1, &asked, &set->err) < 0) {
                imap_bad(imap, "%s", set->err.text);
                return false;
        }
        vanished_init(imap, &st->vanished, &asked, st->req.since);
        st->tell_vanished = true;
        return true;
}

/* PARTIAL: so many from the beginning or the end, before CHANGEDSINCE has its say (RFC 9394 3.3, 3.4). */
static bool cut_to_range(struct imap *imap, const struct search_partial *range, struct uidset *uids)
{
        struct uidset some = UIDSET_INIT;
        size_t from, to;

        if (!imap->cmd.uid) {
                imap_bad(imap, "PARTIAL is for UID FETCH");
                return false;
        }
        search_partial_range(range, uidset_count(uids), &from, &to);
        search_slice(uids, from, to, &some);
        uidset_deinit(uids);
        *uids = some;
        return true;
}

/* Parse everything. False: the tagged reply was sent. */
static bool begin(struct imap *imap)
{
        struct fetch_state *st = imap->cmd.state = ARENA_NEW(&imap->s->arena, struct fetch_state);
        struct imap_parser *ip = &imap->cmd.args, set = *ip;
        struct uidset uids;
        struct err err = ERR_INIT;
        bool ok = false;

        fetch_init(imap, st);
        imap->cmd.cleanup = cleanup;
        uidset_init(&uids);
        if (!imap_arg_messages(imap, &uids))
                goto out;
        if (imap_sp(ip) < 0 || fetch_parse(ip, &st->req) < 0) {
                imap_bad(imap, "%s", ip->err.text);
                goto out;
        }
        if (st->req.partial && !cut_to_range(imap, &st->req.range, &uids))
                goto out;
        if (st->req.vanished && !begin_vanished(imap, st, &set))
                goto out;
        if (st->req.items & FETCH_MODSEQ)
                imap_enable_condstore(imap);
        if (st->req.changedsince && only_changed(imap, st->req.since, &uids, &err) < 0) {
                imap_fail(imap, &err);
                goto out;
        }
        if (imap->cmd.uid && !imap->uidonly)
                st->req.items |= FETCH_UID;                     /* RFC 9051 6.4.9 */
        fetch_begin(st, &uids);
        ok = true;
out:
        uidset_deinit(&uids);
        return ok;
}

/* ---- \Seen ---- */

static bool may_set_seen(const struct imap *imap, const struct fetch_state *st)
{
        const struct imap_selected *sel = imap->sel;

        return st->req.sets_seen && !sel->examined && !sel->vanished && (sel->rights & ACL_SEEN);       /* RFC 4314 4 */
}

/* True: set for some of the batch; wait, then read it again. */
static bool store_seen(struct imap *imap, struct fetch_state *st, const struct uidset *unseen)
{
        const struct flag_change change = { .how = FLAGS_ADD, .flags = MSG_SEEN, .seen = imap->sel->seen };
        struct uidset modified = UIDSET_INIT, changed = UIDSET_INIT;
        struct err err = ERR_INIT;
        uint64_t modseq = 0;
        bool taken = mailbox_store_flags(imap->sel->mbox, unseen, &change, UINT64_MAX, &modified, &changed, &modseq, imap_waiter(imap),
                                         &err) == 0;

        if (taken) {
                imap_own_change(imap, modseq, &changed);
                uidset_add_set(&st->seen, &changed);
                imap->cmd.waiting = imap->cmd.changed = true;
        } else {                                                /* read-only, disk full: the client gets its messages all the same */
                imap_waiter_cancel(imap);
        }
        uidset_deinit(&modified);
        uidset_deinit(&changed);
        return taken;
}

/* Settle \Seen for the beginning of the batch, and cut the batch there. True: return CMD_WAIT. */
static bool settle_seen(struct imap *imap, struct fetch_state *st, struct walk_batch *b)
{
        struct uidset unseen = UIDSET_INIT;
        uint64_t octets = 0;
        uint32_t n = 0;
        bool wait;

        while (n < b->n && b->uid[n] <= st->seen_upto)
                n++;
        if (n > 0) {
                b->n = n;
                return false;
        }
        while (n < b->n && octets <= ROPE_HIGH) {
                if (b->msg[n].uid && !(b->msg[n].flags & (MSG_SEEN | MSG_EXPUNGED)))
                        uidset_add(&unseen, b->uid[n]);
                octets += b->msg[n++].size;
        }
        st->seen_upto = b->uid[n - 1];
        b->n = n;
        wait = !uidset_empty(&unseen) && store_seen(imap, st, &unseen);
        uidset_deinit(&unseen);
        return wait;
}

/* ---- a message ---- */

/* What the items and sections need. False: not to be had; noted. */
static bool open_message(struct imap *imap, struct fetch_state *st)
{
        struct mailbox *mbox = imap->sel->mbox;
        unsigned want = st->front_want;
        struct err err = ERR_INIT;

        if (st->headers_only && (st->msg.flags & MSG_BLOB))
                want |= FRONT_HEADER;
        if (want && mailbox_front(mbox, &st->msg, want, &st->arena, &st->window, &st->front, &err) < 0)
                goto failed;
        if ((want & FRONT_PARTS) && !mime_parts_valid(st->front.parts, st->front.part_count, st->msg.size)) {
                err_set(&err, ERR_CORRUPT, "the part table of uid %" PRIu32, st->msg.uid);
                goto failed;
        }
        if ((!st->req.sections && !(st->req.items & FETCH_PREVIEW)) || ((want & FRONT_HEADER) && st->front.header.len >= st->msg.header_size))
                return true;
        if (st->octets_want && st->msg.size < FETCH_COPY_BELOW)
                mailbox_body_near(mbox, &st->msg, &st->window, &st->octets);
        if (mailbox_body(mbox, &st->msg, &st->body, &err) == 0)
                return true;
        st->octets = (struct span){ NULL, 0 };
        st->body.file = NULL;
failed:
        if (st->msg.flags & MSG_EXPUNGED)
                st->missing = true;
        else
                fetch_note_failure(st, &err);
        return false;
}

static void begin_message(struct imap *imap, struct fetch_state *st, const struct msg *msg, uint32_t seqno)
{
        unsigned items = st->req.items;
        bool opened;

        st->msg = *msg;
        st->seqno = seqno;
        if (msg->uid == 0 || seqno == 0) {
                st->missing = true;
                return;
        }
        if (st->seen.n && uidset_has(&st->seen, msg->uid))      /* RFC 9051 6.4.5, BODY[]; RFC 7162 3.2.4 */
                items |= FETCH_FLAGS | (imap->condstore && !imap->uidonly ? FETCH_UID : 0);
        if ((items & FETCH_FLAGS) && imap->condstore)
                items |= FETCH_MODSEQ;                          /* RFC 7162 3.1: every FETCH that tells of flags */
        opened = (!st->front_want && !st->req.sections) || open_message(imap, st);
        if (!opened) {                                          /* what is left: what the client must know of its flags */
                items &= FETCH_UID | FETCH_FLAGS | FETCH_MODSEQ | FETCH_INTERNALDATE | FETCH_SAVEDATE | FETCH_SIZE | FETCH_EMAILID |
                         FETCH_THREADID;
                if (!(items & ~(unsigned)FETCH_UID) && !st->req.annotations) {
                        end_message(st);
                        return;
                }
        }
        st->first = true;
        st->in_message = true;
        fetch_put_items(imap, st, items);
        st->section = opened ? st->req.sections : NULL;
        st->annot.item = st->req.annotations;
        st->annot.parts_known = opened;
}

/* Until the message at hand is complete (CMD_DONE). */
static enum cmd_result go_on(struct imap *imap, struct fetch_state *st)
{
        enum cmd_result result = fetch_put_annotations(imap, st);

        if (result != CMD_DONE)
                return result;
        while (st->section) {
                switch (fetch_put_section(imap, st, st->section)) {
                case FETCH_PAUSE:
                        return imap->s->out.bytes > ROPE_HIGH ? CMD_FLUSH : CMD_AGAIN;
                case FETCH_BROKEN:
                        log_event(LOG_ERROR, imap->s->name, "imap.fetch.broken", "reason=\"%s\"", st->err.text);
                        return CMD_CLOSE;
                case FETCH_SENT:
                case FETCH_LEFT_OUT:
                        st->section = st->section->next;
                }
                if (st->line.len > LINE_HIGH)
                        fetch_flush(imap, st);
                result = imap_yield(imap);
                if (st->section && result != CMD_DONE)          /* hundreds of sections of one message can be large */
                        return result;
        }
        if (!st->first)
                str_append(&st->line, ")\r\n", 3);
        end_message(st);
        return CMD_DONE;
}

/* ---- the command ---- */

static enum cmd_result finish(struct imap *imap, struct fetch_state *st)
{
        if (imap->sel->revoked)
                return imap_no(imap, "NOPERM", "Permission denied");
        if (st->unknown_cte)
                return imap_no(imap, "UNKNOWN-CTE", "A part's transfer encoding is unknown");
        if (st->err.code != ERR_NONE)
                return imap_fail(imap, &st->err);
        if (st->no_part)                                        /* RFC 5257 3.2.1 */
                return imap_bad(imap, "Some of the messages have no such part");
        if (st->missing)
                return imap_no(imap, "EXPUNGEISSUED", "Some of the messages no longer exist");
        return imap_ok(imap, NULL, "%s completed", imap->cmd.uid ? "UID FETCH" : "FETCH");
}

/* CMD_DONE: the batch is done. */
static enum cmd_result send_batch(struct imap *imap, struct fetch_state *st, const struct walk_batch *b)
{
        for (uint32_t i = 0; i < b->n; i++) {
                enum cmd_result result = CMD_DONE;

                walk_done(&st->walk, 1);
                if (st->front_want || st->octets_want)
                        front_window_plan(&st->window, &b->msg[i], b->n - i, st->octets_want && b->msg[i].size < FETCH_COPY_BELOW);
                begin_message(imap, st, &b->msg[i], b->seqno[i]);
                if (st->in_message)
                        result = go_on(imap, st);
                if (st->line.len > LINE_HIGH)
                        fetch_flush(imap, st);
                if (result == CMD_DONE && (imap->s->out.bytes > ROPE_HIGH || i % LOOK_EVERY == LOOK_EVERY - 1))
                        result = imap_yield(imap);
                if (result != CMD_DONE)
                        return result;
        }
        return CMD_DONE;
}

enum cmd_result fetch_step(struct imap *imap, struct fetch_state *st)
{
        struct walk_batch b;
        enum cmd_result result = st->in_message ? go_on(imap, st) : CMD_DONE;
        struct err err = ERR_INIT;

        while (result == CMD_DONE) {
                enum walk_result filled = WALK_END;

                if (imap_selected_readable(imap))               /* a client that reads slowly must not read on for days */
                        filled = walk_fill(imap, &st->walk, &b, &err);
                switch (filled) {
                case WALK_END:
                        fetch_flush(imap, st);                  /* the end of a message whose octets are sent: not every caller would */
                        return CMD_DONE;
                case WALK_WAIT:
                        return CMD_WAIT;
                case WALK_FAILED:
                        st->missing = st->unknown_cte = false;  /* this is the answer */
                        err_copy(&st->err, &err);
                        fetch_flush(imap, st);
                        return CMD_DONE;
                case WALK_BATCH:
                        if (may_set_seen(imap, st) && settle_seen(imap, st, &b))
                                return CMD_WAIT;
                        result = send_batch(imap, st, &b);
                }
        }
        return result;
}

enum cmd_result cmd_fetch(struct imap *imap)
{
        struct fetch_state *st;
        enum cmd_result result;

        if (!imap->cmd.state && !begin(imap))
                return CMD_DONE;
        st = imap->cmd.state;
        if (st->tell_vanished) {                                /* before any FETCH response (RFC 7162 3.2.6) */
                struct err err = ERR_INIT;
                bool failed = false;

                result = vanished_tell(imap, &st->vanished, &failed, &err);
                if (failed)
                        return imap_fail(imap, &err);
                if (result != CMD_DONE)
                        return result;
                st->tell_vanished = false;
        }
        result = fetch_step(imap, st);
        if (result == CMD_DONE)
                finish(imap, st);
        fetch_flush(imap, st);
        str_deinit(&st->line);                                  /* nothing is held while it is parked */
        front_window_deinit(&st->window);
        st->octets = (struct span){ NULL, 0 };          /* what is left of this message is read by itself */
        str_deinit(&st->scratch);
        return result;
}
