/* seen - see seen.h */
#include "server/imap/seen.h"
#include "server/imap/selected.h"

#define SLICE_UIDS 1000

bool imap_seen_is_private(struct imap *imap, const char *internal, struct mailbox *mbox)
{
        return !mailname_owned_by(internal, imap->userid) && !(mailbox_options(mbox) & MBOX_SHARED_SEEN);
}

int imap_seen_open(struct imap *imap, const char *internal, struct mailbox *mbox, struct seen **seen_r, struct err *err)
{
        *seen_r = NULL;
        if (!imap_seen_is_private(imap, internal, mbox))
                return 0;
        return seen_open(imap->store, mailbox_uniqueid(mbox), imap->userid, seen_r, err);
}

int imap_mailbox_status(struct imap *imap, const char *internal, struct mailbox *mbox, struct mailbox_status *status_r, struct err *err)
{
        struct seen *seen;
        struct view *view;

        mailbox_status(mbox, status_r);
        if (imap_seen_open(imap, internal, mbox, &seen, err) < 0)
                return -1;
        if (!seen)
                return 0;
        view = mailbox_view(mbox);
        status_r->unseen = seen_count_unseen(seen, view, &status_r->first_unseen_uid);
        view_unref(&view);
        seen_unref(&seen);
        return 0;
}

int imap_messages(struct imap *imap, const uint32_t *uids, uint32_t n, struct msg *msgs_r, struct err *err)
{
        if (mailbox_messages(imap->sel->mbox, uids, n, msgs_r, err) < 0)
                return -1;
        if (imap->sel->seen)
                seen_overlay(imap->sel->seen, msgs_r, n);
        return 0;
}

/* ---- messages that come in ---- */

int seen_carry_begin(struct imap *imap, struct seen_carry *c, const char *internal, struct mailbox *to, struct seen *source,
                     const struct uidset *uids, struct copy_mask *mask, struct err *err)
{
        bool may = !(mask->drop_flags & MSG_SEEN);

        if (source) {
                seen_among(source, uids, &c->from);
                mask->seen = &c->from;
        }
        if (!imap_seen_is_private(imap, internal, to))
                return 0;
        mask->drop_flags |= MSG_SEEN;
        if (!may)
                return 0;
        if (!source)
                mask->seen_r = &c->from;
        return seen_open(imap->store, mailbox_uniqueid(to), imap->userid, &c->to, err);
}

void seen_carry_copied(struct seen_carry *c, const struct uidset *copied, uint32_t first_uid)
{
        struct uidset_iter it = uidset_iter(copied);
        uint32_t uid, at = first_uid;

        if (!c->to || uidset_empty(&c->from))
                return;
        for (; uidset_next(&it, &uid); at++)
                if (uidset_has(&c->from, uid))
                        uidset_add(&c->uids, at);
}

int seen_carry_step(struct imap *imap, struct seen_carry *c, struct mailbox *to, struct err *err)
{
        const struct flag_change change = { .how = FLAGS_ADD, .flags = MSG_SEEN, .seen = c->to };
        struct uidset slice = UIDSET_INIT;
        uint64_t modseq;
        uint32_t uid;
        int rc = 0;

        if (!c->to)
                return 0;
        if (!c->begun)
                c->at = uidset_iter(&c->uids);
        c->begun = true;
        for (unsigned n = 0; n < SLICE_UIDS && uidset_next(&c->at, &uid); n++)
                uidset_add(&slice, uid);
        if (!uidset_empty(&slice)) {
                rc = mailbox_store_flags(to, &slice, &change, UINT64_MAX, NULL, NULL, &modseq, imap_waiter(imap), err) < 0 ? -1 : 1;
                if (rc < 0)
                        imap_waiter_cancel(imap);
        }
        uidset_deinit(&slice);
        return rc;
}

void seen_carry_deinit(struct seen_carry *c)
{
        seen_unref(&c->to);
        uidset_deinit(&c->from);
        uidset_deinit(&c->uids);
}
