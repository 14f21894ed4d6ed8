/*
 * SELECT and EXAMINE (RFC 9051 6.3.2, 6.3.3; RFC 3501 6.3.1, 6.3.2; CONDSTORE parameter: RFC 7162 3.1.8; QRESYNC: RFC 7162 3.2.5).
 *
 * With QRESYNC what vanished and what was changed since the client was here last follows the usual replies, a piece at a time; the
 * changes are found a block at a time and told as by FETCH (UID FLAGS MODSEQ).
 */
#include "server/imap/cmds.h"
#include "server/imap/imap_private.h"
#include "server/imap/seen.h"
#include "server/imap/selected.h"
#include "server/imap/quotacmd.h"
#include "store/annot.h"

#include <inttypes.h>

struct select_state {
        const struct mbentry *entry;            /* reference */
        struct imap_open open;
        uint32_t rights;
        bool examine, annotate;
        struct qresync qresync;

        enum { SELECT_OPEN, SELECT_VANISHED, SELECT_CHANGED } phase;
        struct vanished vanished;
        struct uidset known;                    /* changes of these are told */
        struct walk changed;                    /* some of those that are */
        uint64_t next_uid;                      /* where to look for more */
        struct flag_text flag_text;
};

#define CHANGES_AT_ONCE 512

static void cleanup(struct imap *imap)
{
        struct select_state *st = imap->cmd.state;

        qresync_deinit(&st->qresync);
        vanished_deinit(&st->vanished);
        uidset_deinit(&st->known);
        walk_deinit(&st->changed);
        flag_text_deinit(&st->flag_text);
        imap_open_release(&st->open);
        mbentry_unref(&st->entry);
}

/* "(" param *(SP param) ")"; RFC 4466 2.1 */
static bool parse_params(struct imap *imap, bool *condstore_r)
{
        struct select_state *st = imap->cmd.state;
        struct imap_parser *ip = &imap->cmd.args;
        struct span word;

        *condstore_r = false;
        if (imap_at_end(ip))
                return true;
        if (imap_sp(ip) < 0 || imap_open_paren(ip) < 0)
                goto bad;
        do {
                if (imap_atom(ip, &word) < 0)
                        goto bad;
                if (imap_word_is(word, "QRESYNC")) {
                        if (!imap->qresync || st->qresync.given) {      /* RFC 7162 3.2.5 */
                                imap_bad(imap, imap->qresync ? "QRESYNC is given twice" : "ENABLE QRESYNC first");
                                return false;
                        }
                        if (qresync_parse(ip, &st->qresync) < 0)
                                goto bad;
                        if (imap->uidonly && !uidset_empty(&st->qresync.match_seqnos)) {
                                imap_bad(imap, "[UIDREQUIRED] Message numbers are not used any more");
                                return false;
                        }
                } else if (imap_word_is(word, "CONDSTORE")) {
                        *condstore_r = true;
                } else if (imap_word_is(word, "ANNOTATE")) {            /* RFC 5257 4.2 */
                        st->annotate = true;
                } else {
                        imap_bad(imap, "Unknown parameter of SELECT");
                        return false;
                }
        } while (imap_skip_c(ip, ' '));
        if (imap_close_paren(ip) < 0 || imap_end(ip) < 0)
                goto bad;
        return true;
bad:
        imap_bad(imap, "%s", ip->err.text);
        return false;
}

/* The former mailbox is closed whether or not the new one can be selected (RFC 9051 6.3.2). */
static void close_former(struct imap *imap)
{
        if (!imap->sel)
                return;
        imap_unselect(imap);
        imap_untagged(imap, "OK [CLOSED] Previous mailbox is now closed");
}

static void put_first_unseen(struct imap *imap, uint32_t uid)
{
        struct view *view = imap->sel->view;
        uint32_t seqno = uid ? view_seqno_from(view, uid) : 0;

        if (seqno > 0 && seqno <= view_count(view))
                imap_untagged(imap, "OK [UNSEEN %" PRIu32 "] First unseen message", seqno);
}

static void reply(struct imap *imap)
{
        struct imap_selected *sel = imap->sel;
        struct mailbox_status status;

        mailbox_status(sel->mbox, &status);
        if (sel->seen)
                seen_count_unseen(sel->seen, sel->view, &status.first_unseen_uid);
        imap_tell_keywords(imap, true);
        imap_untagged(imap, "%" PRIu32 " EXISTS", view_count(sel->view));
        if (!imap->rev2) {
                imap_untagged(imap, "%" PRIu64 " RECENT", uidset_count(&sel->recent));
                if (!imap->uidonly)                             /* it is a message number (RFC 9586) */
                        put_first_unseen(imap, status.first_unseen_uid);
        }
        imap_untagged(imap, "OK [UIDVALIDITY %" PRIu32 "] UIDs valid", status.uidvalidity);
        imap_untagged(imap, "OK [UIDNEXT %" PRIu32 "] Predicted next UID", view_uidnext(sel->view));
        imap_untagged(imap, "OK [HIGHESTMODSEQ %" PRIu64 "] Highest", sel->told_modseq);
        imap_untagged(imap, "OK [URLMECH INTERNAL] Mechanisms of URLAUTH");
        imap_untagged(imap, "OK [MAILBOXID (%s)] Ok", sel->entry->uniqueid);            /* RFC 8474 4.2 */
        if (sel->examined || status.readonly)                   /* RFC 5257 4.1 */
                imap_untagged(imap, "OK [ANNOTATIONS READ-ONLY] Annotations cannot be changed");
        else
                imap_untagged(imap, "OK [ANNOTATIONS %d] Largest annotation", ANNOT_VALUE_MAX);
        if (imap->rev2) {                                       /* RFC 9051 6.3.2 */
                bool normalised = imap_normalised(imap, sel->entry->name, imap->cmd.given);

                imap_put_list_oldname(imap, "", sel->entry->name, normalised ? imap->cmd.given : (struct span){ NULL, 0 });
        }
}

static enum cmd_result finish(struct imap *imap)
{
        struct imap_selected *sel = imap->sel;

        imap_quota_warn(imap, sel->entry->name);
        return imap_ok(imap, sel->readonly ? "READ-ONLY" : "READ-WRITE", "%s completed", sel->examined ? "EXAMINE" : "SELECT");
}

/* ---- QRESYNC ---- */

/* False: nothing of it is to be told (RFC 7162 3.2.5, UIDVALIDITY). */
static bool begin_resync(struct imap *imap, struct select_state *st)
{
        struct mailbox_status status;
        struct uidset gone = UIDSET_INIT;

        mailbox_status(imap->sel->mbox, &status);
        if (!st->qresync.given || st->qresync.uidvalidity != status.uidvalidity)
                return false;
        qresync_wanted(imap, &st->qresync, &st->known, &gone);
        vanished_init(imap, &st->vanished, &gone, st->qresync.since);
        walk_deinit(&st->changed);                              /* empty, ready to be asked */
        st->next_uid = 1;
        st->phase = SELECT_VANISHED;
        return true;
}

static void put_changed(struct imap *imap, struct select_state *st, const struct walk_batch *b)
{
        struct str out = STR_INIT;

        for (uint32_t i = 0; i < b->n; i++) {
                if (b->msg[i].uid == 0 || (b->msg[i].flags & MSG_EXPUNGED))
                        continue;
                imap_append_fetch(imap, b->uid[i], b->seqno[i], &out);
                if (!imap->uidonly)
                        str_printf(&out, "UID %" PRIu32 " ", b->uid[i]);
                imap_append_flags(imap, &b->msg[i], &st->flag_text, &out);
                str_printf(&out, " MODSEQ (%" PRIu64 "))\r\n", b->msg[i].modseq);
        }
        rope_append_span(&imap->s->out, str_span(&out));
        str_deinit(&out);
}

/* Fill the walk with the next of those that are known and changed. 0: there are none. */
static int more_changed(struct imap *imap, struct select_state *st, struct err *err)
{
        struct uidset found = UIDSET_INIT;
        int ret = 0;

        walk_deinit(&st->changed);
        if (st->next_uid <= UINT32_MAX)
                ret = mailbox_changed(imap->sel->mbox, imap->sel->view, st->qresync.since, UINT64_MAX, (uint32_t)st->next_uid, CHANGES_AT_ONCE,
                                      &found, err);
        if (ret < 0 || uidset_empty(&found)) {
                uidset_deinit(&found);
                return ret;
        }
        st->next_uid = (uint64_t)found.ranges[found.n - 1].last + 1;
        uidset_intersect(&found, &st->known);
        walk_init(&st->changed, &found);
        return 1;
}

static enum cmd_result tell_changed(struct imap *imap, struct select_state *st)
{
        enum cmd_result result = CMD_DONE;
        struct walk_batch b;
        struct err err = ERR_INIT;
        int more;

        while (result == CMD_DONE) {
                switch (walk_fill(imap, &st->changed, &b, &err)) {
                case WALK_END:
                        more = more_changed(imap, st, &err);
                        if (more <= 0)
                                return more == 0 ? finish(imap) : imap_fail(imap, &err);
                        break;
                case WALK_WAIT:
                        return CMD_WAIT;
                case WALK_FAILED:
                        return imap_fail(imap, &err);
                case WALK_BATCH:
                        put_changed(imap, st, &b);
                        walk_done(&st->changed, b.n);
                }
                result = imap_yield(imap);
        }
        return result;
}

static enum cmd_result resync(struct imap *imap, struct select_state *st)
{
        enum cmd_result result;
        struct err err = ERR_INIT;
        bool failed;

        if (st->phase == SELECT_VANISHED) {
                result = vanished_tell(imap, &st->vanished, &failed, &err);
                if (failed) {
                        imap_unselect(imap);
                        return imap_fail(imap, &err);
                }
                if (result != CMD_DONE)
                        return result;
                st->phase = SELECT_CHANGED;
        }
        result = tell_changed(imap, st);
        if (result == CMD_DONE && imap->loop->outcome == 'N')
                imap_unselect(imap);                            /* a failed SELECT leaves nothing selected */
        return result;
}

/* ---- the command ---- */

/* Parse, close the former mailbox, find the new one. False: the tagged reply was sent. */
static bool begin(struct imap *imap, bool examine)
{
        struct select_state *st = imap->cmd.state = ARENA_NEW(&imap->s->arena, struct select_state);
        const char *name;
        bool condstore;

        imap->cmd.cleanup = cleanup;
        str_init(&st->flag_text.keywords);
        st->examine = examine;
        if (imap_sp(&imap->cmd.args) < 0) {
                imap_bad(imap, "%s", imap->cmd.args.err.text);
                return false;
        }
        if (!imap_arg_mailbox(imap, &name)) {
                if (imap->loop->outcome == 'N')                 /* a name out of rule: the command failed, it was no syntax error */
                        close_former(imap);
                return false;
        }
        if (!parse_params(imap, &condstore))
                return false;
        close_former(imap);
        if (condstore)
                imap_enable_condstore(imap);
        st->entry = imap_find_mailbox(imap, name, &st->rights);
        return st->entry != NULL;
}

enum cmd_result imap_select_command(struct imap *imap, bool examine)
{
        struct select_state *st;
        struct mailbox *mbox;
        struct seen *seen;
        struct err err = ERR_INIT;
        int opened;

        if (!imap->cmd.state && !begin(imap, examine))
                return CMD_DONE;
        st = imap->cmd.state;
        if (st->phase != SELECT_OPEN)
                return resync(imap, st);
        opened = imap_open_mailbox(imap, &st->open, st->entry, &mbox, &err);
        if (opened == 0)
                return CMD_WAIT;
        if (opened < 0)
                return imap_fail(imap, &err);
        if (imap_seen_open(imap, st->entry->name, mbox, &seen, &err) < 0) {
                mailbox_unref(&mbox);
                return imap_fail(imap, &err);
        }
        imap_selected_begin(imap, mbox, st->entry, st->examine);
        imap->sel->seen = seen;
        if (seen && !st->examine)
                seen_touch(seen);
        imap->sel->annotate = st->annotate;
        st->entry = NULL;                                       /* handed over */
        reply(imap);
        return begin_resync(imap, st) ? resync(imap, st) : finish(imap);
}

enum cmd_result cmd_select(struct imap *imap)
{
        return imap_select_command(imap, false);
}
