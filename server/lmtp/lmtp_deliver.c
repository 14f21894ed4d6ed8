/*
 * lmtp_deliver - after CRLF.CRLF: the stage goes into each recipient's mailbox, all at once, and each gets a status when its own
 * commit is durable (RFC 2033 4.2).
 *
 * With `duplicatesuppression` a mailbox gets a message once: one that two recipients have named, or one that was sent again. Each
 * recipient claims the message for his mailbox (store/duplicate.h), and says what became of it as soon as that is known: nobody who
 * waits for a claim holds up one that he has himself, so no two sessions wait for each other.
 */
#include "server/callout.h"
#include "server/lmtp/lmtp_private.h"
#include "server/metrics.h"
#include "store/quota.h"
#include "util/clock.h"
#include "util/log.h"

const char *lmtp_over_quota(struct lmtp *l)
{
        return conf_switch(l->conf, service_name(l->s->service), "lmtp_over_quota_perm_failure") ? "552 5.2.2 Over quota"
                                                                                                 : "452 4.2.2 Over quota";
}

/* Does the list still have it? Then what was not found is a file of its own: trouble of ours, and the sender may come again. */
static bool still_listed(const struct lmtp_rcpt *r)
{
        const char *deleted = conf_str(store_conf(engine_store()), NULL, "deletedprefix");
        const struct mbentry *e = mboxlist_find_uniqueid(store_mboxlist(engine_store()), r->entry->uniqueid);
        bool listed = e && e->type == MBTYPE_NORMAL && !(deleted && mailname_is_deleted(e->name, deleted));

        if (e)
                mbentry_unref(&e);
        return listed;
}

static const char *status_of(struct lmtp *l, const struct lmtp_rcpt *r, bool *ours_r)
{
        *ours_r = false;
        switch (r->err.code) {
        case ERR_NOTFOUND:
                *ours_r = still_listed(r);
                return *ours_r ? "451 4.3.0 The mailbox cannot be opened now" : "550 5.1.1 The mailbox is gone";
        case ERR_PERM:
                *ours_r = true;
                return "550 5.7.1 Not allowed";
        case ERR_QUOTA:
                return lmtp_over_quota(l);
        case ERR_NOSPACE:
                *ours_r = true;
                return "452 4.3.1 No space left";
        case ERR_READONLY:
                *ours_r = true;
                return "451 4.3.2 The mailbox takes no changes now";
        case ERR_FENCED:
                *ours_r = true;
                return "451 4.3.2 This host is not the master: try the other one";
        case ERR_UNAVAILABLE:
                *ours_r = true;
                return "451 4.3.0 Stored, but the replica has not got it: come again";
        case ERR_LIMIT:
                *ours_r = true;
                return "552 5.2.3 The message or the mailbox is too large";
        default:
                *ours_r = true;
                return "451 4.3.0 Cannot deliver now";
        }
}

/* The status line of one recipient (RFC 2033 4.2). */
static void deliver_reply(struct lmtp *l, const struct lmtp_rcpt *r)
{
        char quoted[4][LOG_QUOTE_MAX];
        const char *status;
        bool ours;

        log_quote_str(quoted[0], r->address);
        log_quote_str(quoted[1], l->from);
        log_quote_str(quoted[2], r->mailbox);
        if (r->err.code == ERR_NONE && r->duplicate) {
                metric_add(METRIC_DUPLICATES, 1);
                lmtp_reply(l, "250 2.1.5 Ok SESSIONID=<%s>", l->id);
                log_event(LOG_NOTE, l->s->name, "lmtp.duplicate", "id=%s from=%s to=%s mailbox=%s uid=%u age_s=%lld msgid=%s", l->id,
                          quoted[1], quoted[0], quoted[2], r->claim.found_uid, (long long)(clock_wall_s() - r->claim.found_at),
                          log_quote_str(quoted[3], l->message_id));
                return;
        }
        if (r->err.code == ERR_NONE) {
                metric_add(METRIC_DELIVERED, 1);
                lmtp_reply(l, "250 2.1.5 Ok SESSIONID=<%s>", l->id);
                log_event(LOG_NOTE, l->s->name, "lmtp.delivered", "id=%s from=%s to=%s mailbox=%s uid=%u size=%llu", l->id, quoted[1],
                          quoted[0], quoted[2], r->result.first_uid, (unsigned long long)stage_size(l->stage));
                return;
        }
        metric_add(METRIC_NOT_DELIVERED, 1);
        status = status_of(l, r, &ours);
        lmtp_reply(l, "%s", status);
        log_event(ours ? LOG_ERROR : LOG_NOTE, l->s->name, "lmtp.failed",
                  "id=%s from=%s to=%s mailbox=%s reason=%s", l->id, quoted[1], quoted[0], quoted[2],
                  log_quote_str(quoted[3], r->err.text));
}

/* ---- the mailboxes ---- */

/* On a disk thread: open what is not open. */
static void open_mailboxes(void *arg)
{
        struct lmtp *l = arg;

        for (; l->open_next < l->rcpts_n; l->open_next++) {
                struct lmtp_rcpt *r = &l->rcpts[l->open_next];
                struct mailbox_ident ident;

                if (r->mbox || r->same_as >= 0)
                        continue;
                if (mbentry_ident(engine_store(), r->entry, &ident, &r->err) < 0 ||
                    mailbox_open(engine_store(), &ident, &r->mbox, &r->err) < 0)
                        r->state = RCPT_SETTLED;
        }
}

static void go_on(struct lmtp *l)
{
        l->phase = LMTP_DELIVER;
}

static bool all_open(struct lmtp *l)
{
        bool all = true;

        for (unsigned i = 0; i < l->rcpts_n; i++) {
                struct lmtp_rcpt *r = &l->rcpts[i];

                if (r->same_as < 0 && !r->mbox)
                        r->mbox = mailbox_find_open(engine_store(), r->entry->uniqueid);
                if (r->same_as < 0 && !r->mbox && r->state != RCPT_SETTLED)
                        all = false;
        }
        return all;
}

/* ---- one recipient ---- */

/* Its claim ends with it. */
static void settle(struct lmtp_rcpt *r)
{
        r->state = RCPT_SETTLED;
        if (!r->claimed)
                return;
        r->claimed = false;
        if (r->err.code == ERR_NONE)
                duplicate_delivered(engine_store(), &r->claim, r->result.first_uid);
        else
                duplicate_dropped(engine_store(), &r->claim);
}

static void append(struct lmtp *l, struct lmtp_rcpt *r)
{
        bool strict = conf_switch(l->conf, service_name(l->s->service), "lmtp_strict_quota");

        r->item.ignore_quota = r->ignore_quota || !strict;
        /* One message may go beyond the limit; since RCPT it may have been another one. */
        if (!strict && !r->ignore_quota && quota_check(engine_store(), r->mailbox, 0, 0, &r->err) < 0) {
                settle(r);
                return;
        }
        session_waiter(l->s, &r->waiter);
        r->state = RCPT_APPENDING;
        if (mailbox_append(r->mbox, &r->item, 1, &r->result, &r->waiter, &r->err) < 0) {
                session_waiter_cancel(l->s, &r->waiter);
                settle(r);
        }
}

static void answered(struct lmtp *l, struct lmtp_rcpt *r, enum duplicate answer)
{
        r->claimed = answer == DUPLICATE_NEW || answer == DUPLICATE_LOOK;
        switch (answer) {
        case DUPLICATE_NEW:
                append(l, r);
                break;
        case DUPLICATE_SEEN:
                r->duplicate = true;
                settle(r);
                break;
        case DUPLICATE_WAIT:
                r->state = RCPT_WAITING;
                break;
        case DUPLICATE_LOOK:
                r->state = RCPT_LOOK;
                break;
        }
}

/* A mailbox may have the option that it takes everything (annotation /vendor/cmu/cyrus-imapd/duplicatedeliver). */
static bool takes_duplicates(const struct lmtp_rcpt *r)
{
        return mailbox_options(r->mbox) & MBOX_DUPLICATE_DELIVER;
}

static void begin(struct lmtp *l, struct lmtp_rcpt *r)
{
        enum duplicate answer;

        if (!still_listed(r)) {                 /* deleted since RCPT: it may live on below deletedprefix, but nobody reads there */
                err_set(&r->err, ERR_NOTFOUND, "deleted since RCPT");
                settle(r);
                return;
        }
        if (!l->suppress || takes_duplicates(r)) {
                append(l, r);
                return;
        }
        duplicate_key_make(r->entry->uniqueid, span_of(l->message_id), span_of(l->message_date ? l->message_date : ""), &r->claim.key);
        session_waiter(l->s, &r->waiter);
        answer = duplicate_claim(engine_store(), &r->claim, &r->waiter);
        if (answer != DUPLICATE_WAIT)
                session_waiter_cancel(l->s, &r->waiter);
        answered(l, r, answer);
}

/* On a disk thread. */
static void look(void *arg)
{
        struct lmtp *l = arg;

        for (unsigned i = 0; i < l->rcpts_n; i++)
                if (l->rcpts[i].state == RCPT_LOOK)
                        l->rcpts[i].claimed = duplicate_look(engine_store(), &l->rcpts[i].claim) == DUPLICATE_NEW;
}

static void looked(struct lmtp *l)
{
        for (unsigned i = 0; i < l->rcpts_n; i++)
                if (l->rcpts[i].state == RCPT_LOOK)
                        answered(l, &l->rcpts[i], l->rcpts[i].claimed ? DUPLICATE_NEW : DUPLICATE_SEEN);
        go_on(l);
}

/* ---- annotation_callout ---- */

/* \Seen is the owner's, or everybody's. */
static void take_answer(struct lmtp *l, struct lmtp_rcpt *r, const struct callout_message *m, const struct callout_answer *a)
{
        const char *owner = mailname_owner(r->mailbox, &l->s->arena);
        struct annot *annots;

        r->item.flags = a->flags;
        if (!owner && !(mailbox_options(r->mbox) & MBOX_SHARED_SEEN))
                r->item.flags &= ~(uint32_t)MSG_SEEN;
        r->item.keywords = a->keywords;
        r->item.keyword_count = a->keyword_count;
        r->item.annots_n = callout_annots(engine_store(), l->conf, l->s->name, owner ? owner : "", m, a, &l->s->arena, &annots);
        r->item.annots = annots;
}

/* Once for all recipients: what it is told is the same for each. */
static void ask_callout(void *arg)
{
        struct lmtp *l = arg;
        struct callout_message m = { .stage = l->stage };
        struct callout_answer a;

        if (!callout_ask(callout_path(l->conf, service_name(l->s->service), false), l->s->name, &m, &l->s->arena, &a))
                return;
        for (unsigned i = 0; i < l->rcpts_n; i++)
                if (l->rcpts[i].mbox)
                        take_answer(l, &l->rcpts[i], &m, &a);
}

/* ---- all of them ---- */

/* A mailbox that was named before gets the message once, and its recipients one status – unless it takes everything. */
static void begin_all(struct lmtp *l)
{
        bool once = conf_switch(l->conf, service_name(l->s->service), "duplicatesuppression");

        if (once)
                lmtp_identify(l);
        l->suppress = once && l->message_id;
        for (unsigned i = 0; i < l->rcpts_n; i++) {
                struct lmtp_rcpt *r = &l->rcpts[i];

                if (r->state == RCPT_SETTLED)
                        continue;
                if (r->same_as >= 0 && l->rcpts[r->same_as].mbox && !(once && !takes_duplicates(&l->rcpts[r->same_as]))) {
                        r->mbox = mailbox_ref(l->rcpts[r->same_as].mbox);
                        r->item = l->rcpts[r->same_as].item;
                }
                if (r->mbox)
                        begin(l, r);
        }
}

/* What has become of those that were waited for. False: some are still under way. */
static bool collect(struct lmtp *l)
{
        bool all = true;

        for (unsigned i = 0; i < l->rcpts_n; i++) {
                struct lmtp_rcpt *r = &l->rcpts[i];

                if ((r->state == RCPT_APPENDING || r->state == RCPT_WAITING) && waiter_is_done(&r->waiter)) {
                        if (r->state == RCPT_APPENDING) {
                                err_copy(&r->err, &r->waiter.err);
                                settle(r);
                        } else {
                                begin(l, r);
                        }
                }
                all = all && (r->state == RCPT_SETTLED || !r->mbox);
        }
        return all;
}

static bool any_to_look(const struct lmtp *l)
{
        for (unsigned i = 0; i < l->rcpts_n; i++)
                if (l->rcpts[i].state == RCPT_LOOK)
                        return true;
        return false;
}

/* Those without a mailbox of their own have the result of the first with that name. */
static void share_results(struct lmtp *l)
{
        for (unsigned i = 0; i < l->rcpts_n; i++) {
                struct lmtp_rcpt *r = &l->rcpts[i];
                const struct lmtp_rcpt *first = r->state == RCPT_SETTLED ? NULL : &l->rcpts[r->same_as];

                if (!first)
                        continue;
                r->state = RCPT_SETTLED;
                r->result = first->result;
                r->duplicate = first->duplicate;
                r->claim = first->claim;
                err_copy(&r->err, &first->err);
        }
}

static void refuse_all(struct lmtp *l)
{
        char quoted[2][LOG_QUOTE_MAX];

        log_event(LOG_NOTE, l->s->name, "lmtp.refused", "id=%s from=%s rcpts=%u reason=%s", l->id, log_quote_str(quoted[0], l->from),
                  l->rcpts_n, log_quote_str(quoted[1], l->data_err.text));
        for (unsigned i = 0; i < l->rcpts_n; i++)
                lmtp_reply(l, "%s", l->data_err.text);
}

bool lmtp_deliver(struct lmtp *l)
{
        if (!l->delivery_started) {
                /* We come here again when the mailboxes are open. */
                if (l->data_err.code == ERR_NONE && !l->staged && stage_finish(l->stage, &l->data_err) < 0)
                        err_set(&l->data_err, ERR_IO, "451 4.3.0 Cannot store the message now");
                l->staged = true;
                if (l->data_err.code != ERR_NONE)
                        return true;
                if (!all_open(l)) {
                        /* At most twice: whatever open_mailboxes() went past is open or settled. */
                        l->open_next = 0;
                        lmtp_offload(l, OFFLOAD_DISK, open_mailboxes, go_on);
                        return false;
                }
                if (!l->called) {
                        l->called = true;
                        for (unsigned i = 0; i < l->rcpts_n; i++)
                                l->rcpts[i].item = (struct append_item){ .stage = l->stage, .internaldate = INT64_MIN, .savedate = INT64_MIN };
                        if (callout_path(l->conf, service_name(l->s->service), false)) {
                                lmtp_offload(l, OFFLOAD_CALLOUT, ask_callout, go_on);
                                return false;
                        }
                }
                l->delivery_started = true;
                begin_all(l);
        }
        if (!collect(l)) {
                if (any_to_look(l))
                        lmtp_offload(l, OFFLOAD_DISK, look, looked);
                return false;
        }
        share_results(l);
        return true;
}

/* Ask for each mailbox that has it now, or had it before. False: some answers are still to come. */
static bool replica_has(struct lmtp *l)
{
        bool all = true;

        for (unsigned i = 0; i < l->rcpts_n; i++) {
                struct lmtp_rcpt *r = &l->rcpts[i];
                enum acknowledge_answer answer;

                if (!l->asked && r->err.code == ERR_NONE)
                        r->acknowledge = acknowledge_begin(l->s->id, &(struct acknowledge_about){ .names = { r->mailbox } });
                if (!r->acknowledge)
                        continue;
                answer = acknowledge_answer(r->acknowledge);
                all = all && answer != ACKNOWLEDGE_WAIT;
                if (answer != ACKNOWLEDGE_WAIT)
                        acknowledge_end(&r->acknowledge);
                if (answer == ACKNOWLEDGE_REFUSE)
                        err_set(&r->err, ERR_UNAVAILABLE, "it is in the mailbox, but the replica has not got it");
        }
        l->asked = true;
        return all;
}

bool lmtp_acknowledge(struct lmtp *l)
{
        if (l->data_err.code != ERR_NONE) {
                refuse_all(l);
                return true;
        }
        if ((acknowledge_on() || l->asked) && !replica_has(l))
                return false;
        for (unsigned i = 0; i < l->rcpts_n; i++)
                deliver_reply(l, &l->rcpts[i]);
        return true;
}
