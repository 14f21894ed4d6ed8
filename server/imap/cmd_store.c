/*
 * STORE and UID STORE (RFC 9051 6.4.6, RFC 3501 6.4.6; UNCHANGEDSINCE: RFC 7162 3.1.3; rights: RFC 4314 4; ANNOTATION: RFC 5257 4.5).
 *
 * The set is changed in slices, so that the mailbox's lock is held for bounded time and others get their turn. Before each slice the
 * changes of others are told: what the client then hears of, or keeps silent about with .SILENT, is its own doing. After each
 * slice its replies: for every message when not .SILENT, and for who keeps modseqs those.
 *
 * Annotations are silent in that sense. Where entries are of body parts, all messages are first looked at whether they have them.
 */
#include "server/imap/annotation.h"
#include "server/imap/selected.h"
#include "store/mime.h"

#include <inttypes.h>

#define SLICE_UIDS 1000
#define SLICE_BYTES ((uint64_t)1 << 20)         /* of annotations, about */
#define VALUE_BYTES 256                         /* what each takes besides its value */

struct store_state {
        struct flag_change change;
        struct annotation_set annotations;      /* n 0: flags are changed */
        struct annotation_check check;
        struct annotation_set *sets[1];         /* … what it is about */
        struct walk parts;                      /* messages to be looked at, whether they have the parts */
        unsigned slice_uids;
        bool silent;
        bool conditional;                       /* UNCHANGEDSINCE … */
        uint64_t unchangedsince;                /* … this */
        struct uidset uids;
        struct uidset_iter at;                  /* slices taken up to here */
        enum { STORE_CHECK, STORE_PARTS, STORE_CHANGE, STORE_WRITTEN, STORE_REPLY } phase;
        struct walk replies;                    /* of the slice */
        bool flags_in_reply;
        uint64_t told;                          /* annotations changed after this go into the replies, too; UINT64_MAX: none */
        struct uidset modified;                 /* UIDs that failed UNCHANGEDSINCE */
        bool missing;
        struct flag_text flag_text;
};

static void cleanup(struct imap *imap)
{
        struct store_state *st = imap->cmd.state;

        uidset_deinit(&st->uids);
        uidset_deinit(&st->modified);
        walk_deinit(&st->replies);
        walk_deinit(&st->parts);
        flag_text_deinit(&st->flag_text);
}

/* ---- the request ---- */

/* "(" UNCHANGEDSINCE n ")" SP; RFC 4466 2.5 */
static int parse_modifiers(struct imap_parser *ip, struct store_state *st)
{
        struct span w;

        if (!imap_peek_c(ip, '('))
                return 0;
        if (imap_open_paren(ip) < 0)
                return -1;
        do {
                if (imap_atom(ip, &w) < 0)
                        return -1;
                if (!imap_word_is(w, "UNCHANGEDSINCE"))
                        return err_set(&ip->err, ERR_SYNTAX, "Unknown modifier of STORE");
                if (imap_sp(ip) < 0 || imap_number64(ip, &st->unchangedsince) < 0)
                        return -1;
                st->conditional = true;
        } while (imap_skip_c(ip, ' '));
        return imap_close_paren(ip) < 0 || imap_sp(ip) < 0 ? -1 : 0;
}

/* SP "ANNOTATION" SP "(" … ")"; RFC 5257 5 */
static int parse_annotations(struct imap_parser *ip, struct store_state *st)
{
        uint64_t bytes = 0;

        if (imap_sp(ip) < 0 || annotation_parse_set(ip, &st->annotations) < 0)
                return -1;
        for (uint32_t i = 0; i < st->annotations.n; i++)
                bytes += st->annotations.v[i].value.len + strlen(st->annotations.v[i].entry) + VALUE_BYTES;
        st->slice_uids = bytes * SLICE_UIDS <= SLICE_BYTES ? SLICE_UIDS : 1 + (unsigned)(SLICE_BYTES / bytes);
        st->silent = true;
        st->sets[0] = &st->annotations;
        return imap_end(ip);
}

static int parse_attribute(struct imap_parser *ip, struct store_state *st)
{
        struct imap_parser before = *ip;
        struct span w, *keywords;

        st->slice_uids = SLICE_UIDS;
        if (imap_atom(ip, &w) == 0 && imap_word_is(w, "ANNOTATION"))
                return parse_annotations(ip, st);
        *ip = before;
        st->change.how = imap_skip_c(ip, '+') ? FLAGS_ADD : imap_skip_c(ip, '-') ? FLAGS_REMOVE : FLAGS_SET;
        if (imap_atom(ip, &w) < 0)
                return -1;
        st->silent = imap_word_is(w, "FLAGS.SILENT");
        if (!st->silent && !imap_word_is(w, "FLAGS"))
                return err_set(&ip->err, ERR_SYNTAX, "Unknown data item of STORE");
        if (imap_sp(ip) < 0 || imap_flag_list(ip, true, &st->change.flags, &keywords, &st->change.keyword_count) < 0)
                return -1;
        st->change.keywords = keywords;
        return imap_end(ip);
}

/*
 * Leave to the change what the user may change: `t` for \Deleted, `s` for \Seen, `w` for the others. It fails only when nothing of it
 * is left (RFC 4314 4).
 */
static bool restrict_to_rights(struct imap *imap, struct flag_change *change)
{
        uint32_t rights = imap->sel->rights, may = 0;
        bool asked = change->flags || change->keyword_count, left;

        if (rights & ACL_DELETEMSG)
                may |= MSG_DELETED;
        if (rights & ACL_SEEN)
                may |= MSG_SEEN;
        if (rights & ACL_WRITE)
                may |= MSG_SYSTEM_FLAGS & ~(uint32_t)(MSG_DELETED | MSG_SEEN);
        change->flags &= may;
        if (!(rights & ACL_WRITE))
                change->keyword_count = 0;
        left = change->flags || change->keyword_count;
        change->keep_flags = MSG_SYSTEM_FLAGS & ~may;
        change->keep_keywords = !(rights & ACL_WRITE);
        if (may && (left || !asked))
                return true;
        imap_no(imap, "NOPERM", "Permission denied");
        return false;
}

static bool begin(struct imap *imap)
{
        struct store_state *st = imap->cmd.state = ARENA_NEW(&imap->s->arena, struct store_state);
        struct imap_parser *ip = &imap->cmd.args;

        str_init(&st->flag_text.keywords);
        imap->cmd.cleanup = cleanup;
        st->unchangedsince = UINT64_MAX;
        if (!imap_arg_messages(imap, &st->uids))
                return false;
        if (imap_sp(ip) < 0 || parse_modifiers(ip, st) < 0 || parse_attribute(ip, st) < 0) {
                imap_bad(imap, "%s", ip->err.text);
                return false;
        }
        if (!st->annotations.n && !restrict_to_rights(imap, &st->change))
                return false;
        if (st->conditional)
                imap_enable_condstore(imap);
        st->at = uidset_iter(&st->uids);
        progress_begin(&imap->cmd.progress, uidset_count(&st->uids));
        st->phase = st->annotations.n ? STORE_CHECK : STORE_CHANGE;
        return true;
}

/* ---- annotations: before anything is changed. Private ones need no right but r: who may change nothing else may set them ---- */

/* Of one message: has it all parts that are named (RFC 5257 3.2.1)? When it cannot be read it is the change that will say so. */
static bool has_parts(struct imap *imap, const struct store_state *st, const struct msg *m)
{
        struct arena arena = ARENA_INIT;
        struct msg_front front = { 0 };
        struct annotation_part part;
        struct err err = ERR_INIT;
        bool all = true;

        if (m->uid && mailbox_front(imap->sel->mbox, m, FRONT_PARTS, &arena, NULL, &front, &err) == 0 &&
            mime_parts_valid(front.parts, front.part_count, m->size))
                for (uint32_t i = 0; i < st->annotations.n && all; i++)
                        all = annotation_entry(span_of(st->annotations.v[i].entry), &part, &err) == 0 && annotation_part_exists(&part, &front);
        file_unref(&front.file);
        arena_deinit(&arena);
        return all;
}

/* CMD_DONE: all are looked at, or the tagged reply was sent (*ok_r false). */
static enum cmd_result look_at_parts(struct imap *imap, struct store_state *st, bool *ok_r)
{
        enum cmd_result result = CMD_DONE;
        struct walk_batch b;
        struct err err = ERR_INIT;

        *ok_r = true;
        while (result == CMD_DONE) {
                switch (walk_fill(imap, &st->parts, &b, &err)) {
                case WALK_END:
                        return CMD_DONE;
                case WALK_WAIT:
                        return CMD_WAIT;
                case WALK_FAILED:
                        *ok_r = false;
                        return imap_fail(imap, &err);
                case WALK_BATCH:
                        for (uint32_t i = 0; i < b.n && *ok_r; i++)
                                *ok_r = has_parts(imap, st, &b.msg[i]);
                        walk_done(&st->parts, b.n);
                }
                if (!*ok_r)
                        return imap_bad(imap, "Some of the messages have no such part");
                result = imap_yield(imap);
        }
        return result;
}

/* CMD_DONE: go on with the changes (*ok_r), or the tagged reply was sent. */
static enum cmd_result check_annotations(struct imap *imap, struct store_state *st, bool *ok_r)
{
        struct uidset all = UIDSET_INIT;
        enum cmd_result result;

        if (st->phase == STORE_CHECK) {
                st->check.sets = st->sets;
                st->check.sets_n = 1;
                st->check.rights = imap->sel->rights;
                result = annotation_check(imap, &st->check, ok_r);
                if (result != CMD_DONE || !*ok_r)
                        return result;
                st->phase = st->annotations.parts ? STORE_PARTS : STORE_CHANGE;
                if (st->phase == STORE_CHANGE)
                        return CMD_DONE;
                uidset_copy(&all, &st->uids);
                walk_init(&st->parts, &all);
        }
        result = look_at_parts(imap, st, ok_r);
        if (result == CMD_DONE && *ok_r)
                st->phase = STORE_CHANGE;
        return result;
}

/* ---- a slice ---- */

static bool next_slice(struct store_state *st, struct uidset *slice_r)
{
        uint32_t uid;

        uidset_init(slice_r);
        for (unsigned n = 0; n < st->slice_uids && uidset_next(&st->at, &uid); n++)
                uidset_add(slice_r, uid);
        return !uidset_empty(slice_r);
}

/*
 * Whose replies are due? Not silent: all that passed, changed or not. Silent: with UNCHANGEDSINCE MODSEQ of all that passed (RFC 7162
 * 3.1.3), else MODSEQ of the changed ones for who keeps modseqs. `foreign`: something of others slipped in since they were told,
 * perhaps on the same messages: then flags are told in any case.
 */
static void plan_replies(struct imap *imap, struct store_state *st, struct uidset *slice, const struct uidset *modified,
                         struct uidset *changed, bool foreign)
{
        struct uidset due = UIDSET_INIT;

        st->flags_in_reply = !st->silent || foreign;
        if (!st->silent || st->conditional) {
                uidset_copy(&due, slice);
                for (uint32_t i = 0; i < modified->n; i++)
                        uidset_remove_range(&due, modified->ranges[i].first, modified->ranges[i].last);
        } else if (imap->condstore || foreign) {
                uidset_copy(&due, changed);
        }
        walk_deinit(&st->replies);
        walk_init(&st->replies, &due);
        uidset_deinit(&due);
}

static void put_reply(struct imap *imap, struct store_state *st, const struct msg *m, uint32_t seqno, struct str *out)
{
        if (m->uid == 0 || (m->flags & MSG_EXPUNGED)) {
                st->missing = true;
                return;
        }
        imap_append_fetch(imap, m->uid, seqno, out);
        if (imap_unasked_uid(imap)) {                           /* RFC 7162 3.2.4 */
                str_append(out, "UID ", 4);
                str_append_u64(out, m->uid);
                str_append_c(out, ' ');
        }
        if (st->flags_in_reply)
                imap_append_flags(imap, m, &st->flag_text, out);
        if (st->told != UINT64_MAX)
                imap_append_annotated(imap, m->uid, st->told, out);
        if (imap->condstore) {
                str_append_str(out, st->flags_in_reply ? " MODSEQ (" : "MODSEQ (");
                str_append_u64(out, m->modseq);
                str_append_c(out, ')');
        }
        str_append(out, ")\r\n", 3);
}

/* CMD_DONE: all replies of this slice are out. */
static enum cmd_result reply_slice(struct imap *imap, struct store_state *st)
{
        struct walk_batch b;
        struct err err = ERR_INIT;
        struct str out = STR_INIT;
        enum cmd_result result = CMD_DONE;

        while (result == CMD_DONE) {
                switch (walk_fill(imap, &st->replies, &b, &err)) {
                case WALK_END:
                        st->phase = STORE_CHANGE;
                        str_deinit(&out);
                        return CMD_DONE;
                case WALK_WAIT:
                        str_deinit(&out);
                        return CMD_WAIT;
                case WALK_FAILED:                               /* the change is made; its replies are not owed */
                        st->missing = true;
                        walk_done(&st->replies, WALK_MAX);
                        break;
                case WALK_BATCH:
                        for (uint32_t i = 0; i < b.n; i++)
                                put_reply(imap, st, &b.msg[i], b.seqno[i], &out);
                        walk_done(&st->replies, b.n);
                        rope_append_span(&imap->s->out, str_span(&out));
                        str_clear(&out);
                }
                result = imap_yield(imap);
        }
        str_deinit(&out);
        return result;
}

/* ---- the end ---- */

/* MODIFIED names what failed, as the client named it (RFC 7162 3.1.3). */
static enum cmd_result finish_modified(struct imap *imap, struct store_state *st)
{
        struct uidset seqnos = UIDSET_INIT;
        struct str code = STR_INIT;
        enum cmd_result result;

        str_append_str(&code, "MODIFIED ");
        if (!imap->cmd.uid)
                imap_uids_to_seqnos(imap, &st->modified, &seqnos);
        uidset_append(imap->cmd.uid ? &st->modified : &seqnos, &code);
        result = st->missing ? imap_no(imap, code.data, "Some of the messages no longer exist")
                             : imap_ok(imap, code.data, "Conditional STORE failed for some messages");
        str_deinit(&code);
        uidset_deinit(&seqnos);
        return result;
}

static enum cmd_result finish(struct imap *imap, struct store_state *st)
{
        if (!uidset_empty(&st->modified))
                return finish_modified(imap, st);
        if (st->missing)
                return imap_no(imap, "EXPUNGEISSUED", "Some of the messages no longer exist");
        return imap_ok(imap, NULL, "%s completed", imap->cmd.uid ? "UID STORE" : "STORE");
}

/* ---- the command ---- */

static int write_slice(struct imap *imap, struct store_state *st, const struct uidset *slice, struct uidset *modified, struct uidset *changed,
                       uint64_t *modseq_r, struct err *err)
{
        struct imap_selected *sel = imap->sel;

        if (st->annotations.n)
                return mailbox_annotate_messages(sel->mbox, slice, st->annotations.v, st->annotations.n, st->annotations.shared ? 0 : sel->reader,
                                                 st->unchangedsince, modified, changed, modseq_r, imap_waiter(imap), err);
        st->change.seen = sel->seen;
        return mailbox_store_flags(sel->mbox, slice, &st->change, st->unchangedsince, modified, changed, modseq_r, imap_waiter(imap), err);
}

/* Change the next slice, or end the command. */
static enum cmd_result change_slice(struct imap *imap, struct store_state *st)
{
        struct uidset slice, modified = UIDSET_INIT, changed = UIDSET_INIT;
        struct err err = ERR_INIT;
        uint64_t modseq = 0, told;
        enum cmd_result result;

        if (!imap_poll(imap, false))
                return CMD_FLUSH;
        told = imap->sel->told_modseq;
        if (!next_slice(st, &slice))
                return finish(imap, st);
        if (write_slice(imap, st, &slice, &modified, &changed, &modseq, &err) < 0) {
                imap_waiter_cancel(imap);
                result = st->annotations.n ? annotation_fail(imap, &err) : imap_fail(imap, &err);
        } else {
                imap_own_change(imap, modseq, &changed);
                st->told = imap->sel->annotate && modseq > told + 1 ? told : UINT64_MAX;
                uidset_add_set(&st->modified, &modified);
                plan_replies(imap, st, &slice, &modified, &changed, modseq > told + 1);
                st->phase = STORE_WRITTEN;
                progress_set(&imap->cmd.progress, atomic_load(&imap->cmd.progress.done) + uidset_count(&slice));
                result = imap_wait(imap);
        }
        uidset_deinit(&slice);
        uidset_deinit(&modified);
        uidset_deinit(&changed);
        return result;
}

enum cmd_result cmd_store(struct imap *imap)
{
        struct store_state *st;
        struct err err = ERR_INIT;
        enum cmd_result result;
        bool ok;

        if (!imap->cmd.state && !begin(imap))
                return CMD_DONE;
        st = imap->cmd.state;
        if (st->phase <= STORE_PARTS) {
                result = check_annotations(imap, st, &ok);
                if (result != CMD_DONE || !ok)
                        return result;
        }
        if (st->phase == STORE_WRITTEN) {
                if (imap_waited(imap, &err) < 0)
                        return imap_fail(imap, &err);
                st->phase = STORE_REPLY;
        }
        if (st->phase == STORE_REPLY) {
                result = reply_slice(imap, st);
                if (result != CMD_DONE)
                        return result;
        }
        return change_slice(imap, st);
}
