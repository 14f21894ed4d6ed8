/* walk - message sets, and going through messages in batches; see selected.h */
#include "server/imap/seen.h"
#include "server/imap/selected.h"

/* ---- sets ---- */

/* An empty mailbox has no "*"; what is said of it names nothing then, as clients send "1:*" without looking (RFC 9051 9, seq-number). */
static int parse_seqnos(struct imap *imap, struct span text, struct uidset *uids_r, struct err *err)
{
        struct view *view = imap->sel->view;
        struct uidset seqnos = UIDSET_INIT;
        int ret = 0;

        if (view_count(view) == 0 && span_index(text, '*') < text.len)
                ret = uidset_parse(text, UINT32_MAX, &seqnos, err);
        else if (uidset_parse(text, view_count(view), &seqnos, err) < 0 || view_seqnos_to_uids(view, &seqnos, uids_r, err) < 0)
                ret = -1;
        uidset_deinit(&seqnos);
        return ret;
}

static int parse_uids(struct imap *imap, struct span text, struct uidset *uids_r, struct err *err)
{
        struct view *view = imap->sel->view;
        uint32_t count = view_count(view);
        struct uidset given = UIDSET_INIT;
        int ret = uidset_parse(text, count ? view_uid(view, count) : 0, &given, err);

        if (ret == 0)
                view_existing_uids(view, &given, uids_r);
        uidset_deinit(&given);
        return ret;
}

int imap_uids_read(uint64_t unreadable_before, struct err *err)
{
        return view_unreadable() == unreadable_before ? 0 : err_set(err, ERR_IO, "the mailbox's index cannot be read now");
}

int imap_message_set(struct imap *imap, struct span text, bool uid, struct uidset *uids_r, struct err *err)
{
        uint64_t unreadable = view_unreadable();
        int ret = 0;

        uidset_init(uids_r);
        if (span_eq_str(text, "$"))                             /* RFC 5182 2.1: also when it is empty */
                view_existing_uids(imap->sel->view, &imap->sel->saved, uids_r);
        else
                ret = uid ? parse_uids(imap, text, uids_r, err) : parse_seqnos(imap, text, uids_r, err);
        if (ret == 0 && imap_uids_read(unreadable, err) < 0) {
                uidset_deinit(uids_r);
                ret = -1;
        }
        return ret;
}

bool imap_arg_messages(struct imap *imap, struct uidset *uids_r)
{
        struct imap_parser *ip = &imap->cmd.args;
        struct span text;

        uidset_init(uids_r);
        if (imap_sp(ip) < 0 || imap_sequence(ip, &text) < 0 || imap_message_set(imap, text, imap->cmd.uid, uids_r, &ip->err) < 0) {
                if (ip->err.code == ERR_IO)
                        imap_fail(imap, &ip->err);
                else
                        imap_bad(imap, "%s", ip->err.text);
                return false;
        }
        return true;
}

void imap_uids_to_seqnos(struct imap *imap, const struct uidset *uids, struct uidset *seqnos_r)
{
        struct view *view = imap->sel->view;
        uint32_t first, last;

        uidset_init(seqnos_r);
        for (uint32_t i = 0; i < uids->n; i++) {
                struct uidrange r = uids->ranges[i];

                first = view_seqno(view, r.first);
                last = view_seqno(view, r.last);
                if (first && last && last - first == r.last - r.first) {        /* all of it is there */
                        uidset_add_range(seqnos_r, first, last);
                        continue;
                }
                for (uint64_t uid = r.first; uid <= r.last; uid++)
                        if ((first = view_seqno(view, (uint32_t)uid)) > 0)
                                uidset_add(seqnos_r, first);
        }
}

/* ---- walking ---- */

void walk_init(struct walk *w, struct uidset *uids)
{
        walk_init_in(w, NULL, NULL, NULL, uids);
}

void walk_init_in(struct walk *w, struct mailbox *mbox, struct view *view, struct seen *seen, struct uidset *uids)
{
        w->mbox = mbox;
        w->view = view;
        w->seen = seen;
        w->no_wait = false;
        w->uids = *uids;
        uidset_init(uids);
        w->at = uidset_iter(&w->uids);
}

void walk_deinit(struct walk *w)
{
        uidset_deinit(&w->uids);
        w->at = uidset_iter(&w->uids);
}

/* The sequence numbers of the batch's UIDs. Neighbours in the set mostly are neighbours in the view. */
static void number(struct view *view, struct walk_batch *b)
{
        uint32_t next[WALK_MAX], have = 0, at = 0, seqno = 0;

        for (uint32_t i = 0; i < b->n; i++) {
                while (at < have && next[at] < b->uid[i])
                        at++;
                if (at == have || next[at] != b->uid[i]) {
                        seqno = view_seqno_from(view, b->uid[i]);
                        have = view_uids(view, seqno, next, b->n - i);
                        at = 0;
                }
                b->seqno[i] = at < have && next[at] == b->uid[i] ? seqno + at : 0;
        }
}

static int read_batch(struct imap *imap, struct walk *w, struct walk_batch *b, struct err *err)
{
        if (!w->mbox)
                return imap_messages(imap, b->uid, b->n, b->msg, err);
        if (mailbox_messages(w->mbox, b->uid, b->n, b->msg, err) < 0)
                return -1;
        if (w->seen)
                seen_overlay(w->seen, b->msg, b->n);
        return 0;
}

enum walk_result walk_fill(struct imap *imap, struct walk *w, struct walk_batch *b, struct err *err)
{
        struct mailbox *mbox = w->mbox ? w->mbox : imap->sel->mbox;
        struct uidset_iter ahead = w->at;
        uint64_t published, unreadable = view_unreadable();

        b->n = 0;
        while (b->n < WALK_MAX && uidset_next(&ahead, &b->uid[b->n]))
                b->n++;
        if (b->n == 0)
                return WALK_END;
        if (read_batch(imap, w, b, err) < 0)
                return WALK_FAILED;
        published = mailbox_published_modseq(mbox);
        for (uint32_t i = 0; i < b->n && !w->no_wait; i++) {
                if (b->msg[i].uid == 0 || (b->msg[i].flags & MSG_EXPUNGED) || b->msg[i].modseq <= published)
                        continue;
                if (i > 0) {                                    /* those before it need not wait */
                        b->n = i;
                        break;
                }
                mailbox_wait_published(mbox, imap_waiter(imap));
                imap->cmd.waiting = true;
                return WALK_WAIT;
        }
        number(w->mbox ? w->view : imap->sel->view, b);
        if (imap_uids_read(unreadable, err) < 0)
                return WALK_FAILED;
        if (!w->mbox)
                imap_tell_keywords(imap, false);                /* before a keyword is seen in a message */
        return WALK_BATCH;
}

void walk_done(struct walk *w, uint32_t n)
{
        uint32_t uid;

        while (n-- > 0)
                uidset_next(&w->at, &uid);
}

int imap_waited(struct imap *imap, struct err *err)
{
        if (imap->cmd.waiter.err.code == ERR_NONE)
                return 0;
        err_copy(err, &imap->cmd.waiter.err);
        return -1;
}
