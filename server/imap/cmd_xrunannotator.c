/*
 * XRUNANNOTATOR and UID XRUNANNOTATOR, Cyrus's: annotation_callout is told of messages once more, and what it answers is done to them. For sites
 * that have another program now than when the mail came.
 *
 *   XRUNANNOTATOR sequence-set
 *
 * One message at a time: it is asked on a thread that may block, and no lock is held meanwhile. What others change until it has answered stays as
 * they made it: only what it wants otherwise than it was told is changed. Flags need the user's rights, as those of STORE; annotations are the
 * program's. The changes are told as anybody else's, before the tagged reply.
 *
 * Without annotation_callout, or with annotation_callout_disable_append, nothing is done, and that is OK, as in Cyrus. Where no answer comes the
 * command ends there: a program that hangs would hold the session for ten seconds a message.
 */
#include "server/callout.h"
#include "server/imap/annotation.h"
#include "server/imap/copy.h"
#include "server/imap/seen.h"
#include "server/imap/selected.h"
#include "server/service.h"

#define PIECE 65536

struct annotator_state {
        const char *path;                       /* whom to ask */
        const char *dir;                        /* of the partition */
        struct uidset uids;
        struct uidset_iter at;
        bool missing;
        bool written;                           /* the command's waiter was out: for a change */
        enum { ANNOTATOR_NEXT, ANNOTATOR_ASKED, ANNOTATOR_ADD, ANNOTATOR_REMOVE, ANNOTATOR_ANNOTATE } phase;
        /* one message: */
        struct arena arena;                     /* what it is told, and what it answers */
        struct msg msg;
        struct callout_message told;
        struct callout_answer answer;
        bool answered;
        struct err err;                         /* of reading it */
        struct annot *annots;                   /* to be set, or removed */
        uint32_t annots_n;
};

static void cleanup(struct imap *imap)
{
        struct annotator_state *st = imap->cmd.state;

        uidset_deinit(&st->uids);
        arena_deinit(&st->arena);
}

static bool begin(struct imap *imap)
{
        struct annotator_state *st = imap->cmd.state = ARENA_NEW(&imap->s->arena, struct annotator_state);

        imap->cmd.cleanup = cleanup;
        if (!imap_arg_messages(imap, &st->uids))
                return false;
        if (imap_end(&imap->cmd.args) < 0) {
                imap_bad(imap, "%s", imap->cmd.args.err.text);
                return false;
        }
        st->path = callout_path(imap->conf, imap_service(imap), true);
        st->dir = store_partition_dir(imap->store, imap->sel->entry->partition);
        if (!st->path || !st->dir)
                uidset_clear(&st->uids);
        st->at = uidset_iter(&st->uids);
        progress_begin(&imap->cmd.progress, uidset_count(&st->uids));
        return true;
}

/* ---- what it is told: on a thread that may block ---- */

static int fill_stage(struct stage *stage, const struct extent *body, struct err *err)
{
        char buf[PIECE];

        for (uint64_t at = 0; at < body->len;) {
                size_t n = body->len - at < sizeof buf ? (size_t)(body->len - at) : sizeof buf;

                if (file_read(body->file, buf, n, body->offset + at, err) < 0 || stage_write(stage, buf, n, err) < 0)
                        return -1;
                at += n;
        }
        return stage_finish(stage, err);
}

static int read_message(struct imap *imap, struct annotator_state *st)
{
        struct mailbox *mbox = imap->sel->mbox;
        const struct kwset *set = mailbox_kwset(mbox, st->msg.kwset);
        struct span *keywords = ARENA_ARRAY(&st->arena, struct span, set ? set->n : 0);
        struct callout_message *m = &st->told;
        struct extent body = { NULL, 0, 0 };
        struct annot *annots;
        int rc;

        *m = (struct callout_message){ .flags = st->msg.flags & MSG_SYSTEM_FLAGS, .keywords = keywords };
        for (uint32_t i = 0; set && i < set->n; i++)
                if (mailbox_keyword_name(mbox, set->ids[i]))
                        keywords[m->keyword_count++] = span_of(mailbox_keyword_name(mbox, set->ids[i]));
        m->annots_n = mailbox_annots(mbox, st->msg.uid, imap->userid, &st->arena, &annots);
        m->annots = annots;
        if (mailbox_body(mbox, &st->msg, &body, &st->err) < 0)
                return -1;
        rc = stage_begin(imap->store, st->dir, body.len, &m->stage, &st->err);
        if (rc == 0)
                rc = fill_stage(m->stage, &body, &st->err);
        file_unref(&body.file);
        return rc;
}

static void ask(void *arg)
{
        struct imap *imap = arg;
        struct annotator_state *st = imap->cmd.state;

        st->answered = !engine_stopping() && read_message(imap, st) == 0 && callout_ask(st->path, imap->s->name, &st->told, &st->arena, &st->answer);
        if (st->answered)
                st->annots_n = callout_changes(imap->store, imap->conf, imap->s->name, imap->userid, &st->answer, &st->arena, &st->annots);
        if (st->told.stage)
                stage_unref(&st->told.stage);
}

/* ---- what it answers ---- */

/* Those of `a` that are not in `b`. */
static uint32_t without(struct arena *arena, const struct span *a, uint32_t a_n, const struct span *b, uint32_t b_n, const struct span **list_r)
{
        struct span *list = ARENA_ARRAY(arena, struct span, a_n);
        uint32_t n = 0;

        for (uint32_t i = 0; i < a_n; i++) {
                uint32_t k = 0;

                while (k < b_n && !span_ieq(a[i], b[k]))
                        k++;
                if (k == b_n)
                        list[n++] = a[i];
        }
        *list_r = list;
        return n;
}

/* Only the difference, so that nothing is undone that others did meanwhile. False: there is none that the user has a right to. */
static bool flags_to_change(struct imap *imap, struct annotator_state *st, bool add, struct flag_change *change)
{
        const struct callout_message *m = &st->told;
        const struct callout_answer *a = &st->answer;
        uint32_t rights = imap->sel->rights;

        *change = (struct flag_change){ .how = add ? FLAGS_ADD : FLAGS_REMOVE, .seen = imap->sel->seen };
        change->flags = (add ? a->flags & ~m->flags : m->flags & ~a->flags) & ~copy_forbidden_flags(rights);
        if (rights & ACL_WRITE)
                change->keyword_count = add ? without(&st->arena, a->keywords, a->keyword_count, m->keywords, m->keyword_count, &change->keywords)
                                            : without(&st->arena, m->keywords, m->keyword_count, a->keywords, a->keyword_count, &change->keywords);
        return change->flags || change->keyword_count;
}

/* 1: the command's waiter is out; 0: there is nothing to be done; -1: err. */
static int change_flags(struct imap *imap, struct annotator_state *st, bool add, struct err *err)
{
        struct uidset one = UIDSET_INIT;
        struct flag_change change;
        uint64_t modseq;
        int rc;

        if (!flags_to_change(imap, st, add, &change))
                return 0;
        uidset_add(&one, st->msg.uid);
        rc = mailbox_store_flags(imap->sel->mbox, &one, &change, UINT64_MAX, NULL, NULL, &modseq, imap_waiter(imap), err);
        uidset_deinit(&one);
        return rc < 0 ? -1 : 1;
}

static int annotate(struct imap *imap, struct annotator_state *st, struct err *err)
{
        struct uidset one = UIDSET_INIT;
        bool shared = false;
        uint64_t modseq;
        int rc;

        if (st->annots_n == 0)
                return 0;
        for (uint32_t i = 0; i < st->annots_n; i++)
                shared |= !*st->annots[i].user;
        uidset_add(&one, st->msg.uid);
        rc = mailbox_annotate_messages(imap->sel->mbox, &one, st->annots, st->annots_n, shared ? 0 : imap->sel->reader, UINT64_MAX, NULL, NULL,
                                       &modseq, imap_waiter(imap), err);
        uidset_deinit(&one);
        return rc < 0 ? -1 : 1;
}

/* ---- the command ---- */

static enum cmd_result finish(struct imap *imap, struct annotator_state *st)
{
        if (st->missing)
                return imap_no(imap, "EXPUNGEISSUED", "Some of the messages no longer exist");
        return imap_ok(imap, NULL, "%s completed", imap->cmd.uid ? "UID XRUNANNOTATOR" : "XRUNANNOTATOR");
}

/* Begin with the next message, or end the command. */
static enum cmd_result ask_next(struct imap *imap, struct annotator_state *st)
{
        const char *code, *text;
        uint32_t uid;
        struct err err = ERR_INIT;

        if (!imap_poll(imap, false))
                return CMD_FLUSH;
        do {
                if (!uidset_next(&st->at, &uid))
                        return finish(imap, st);
                if (imap->s->eof || engine_stopping())
                        return imap_no(imap, "UNAVAILABLE", "Nobody waits for the rest");
                if (!imap_selected_allows(imap, &code, &text))          /* it takes long: rights may be gone by now */
                        return imap_no(imap, code, "%s", text);
                if (imap_messages(imap, &uid, 1, &st->msg, &err) < 0)
                        return imap_fail(imap, &err);
                st->missing |= st->msg.uid == 0 || st->msg.flags & MSG_EXPUNGED;
        } while (st->msg.uid == 0 || st->msg.flags & MSG_EXPUNGED);
        arena_reset(&st->arena);
        memset(&st->answer, 0, sizeof st->answer);
        st->phase = ANNOTATOR_ASKED;
        return imap_offload(imap, OFFLOAD_CALLOUT_AGAIN, ask, imap);
}

/* CMD_DONE: go on; or the tagged reply was sent, false in *ok_r. */
static enum cmd_result take_answer(struct imap *imap, struct annotator_state *st, bool *ok_r)
{
        *ok_r = st->answered;
        if (st->answered)
                st->phase = ANNOTATOR_ADD;
        else if (st->err.code != ERR_NONE)
                return imap_fail(imap, &st->err);
        else
                return imap_no(imap, "UNAVAILABLE", "The annotator gives no answer");
        return CMD_DONE;
}

/* One step of what is to be done to the message. CMD_DONE: go on; or the tagged reply was sent, false in *ok_r. */
static enum cmd_result step(struct imap *imap, struct annotator_state *st, bool *ok_r)
{
        struct err err = ERR_INIT;
        bool annotates = st->phase == ANNOTATOR_ANNOTATE;
        int rc = annotates ? annotate(imap, st, &err) : change_flags(imap, st, st->phase == ANNOTATOR_ADD, &err);

        *ok_r = rc >= 0;
        if (rc < 0) {
                imap_waiter_cancel(imap);
                return annotates ? annotation_fail(imap, &err) : imap_fail(imap, &err);
        }
        st->phase = annotates ? ANNOTATOR_NEXT : st->phase == ANNOTATOR_ADD ? ANNOTATOR_REMOVE : ANNOTATOR_ANNOTATE;
        if (annotates)
                progress_set(&imap->cmd.progress, atomic_load(&imap->cmd.progress.done) + 1);
        st->written = rc == 1;
        return st->written ? imap_wait(imap) : CMD_DONE;
}

enum cmd_result cmd_xrunannotator(struct imap *imap)
{
        struct annotator_state *st = imap->cmd.state;
        struct err err = ERR_INIT;
        enum cmd_result result = CMD_DONE;
        bool ok = true;

        if (!st && !begin(imap))
                return CMD_DONE;
        st = imap->cmd.state;
        if (st->written && imap_waited(imap, &err) < 0)
                return imap_fail(imap, &err);
        st->written = false;
        while (ok && result == CMD_DONE && st->phase != ANNOTATOR_NEXT)
                result = st->phase == ANNOTATOR_ASKED ? take_answer(imap, st, &ok) : step(imap, st, &ok);
        return ok && result == CMD_DONE ? ask_next(imap, st) : result;
}
