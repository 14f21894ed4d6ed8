/*
 * lmtp_deliver - after CRLF.CRLF: the stage goes into each recipient's mailbox, all at once, and each gets a status when its own
 * commit is durable (RFC 2033 4.2). A mailbox named by two recipients gets the message once when `duplicatesuppression` is on.
 */
#include "server/lmtp/lmtp_private.h"
#include "server/metrics.h"
#include "store/quota.h"
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
                        r->settled = true;
        }
}

static void opened(struct lmtp *l)
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
                if (r->same_as < 0 && !r->mbox && !r->settled)
                        all = false;
        }
        return all;
}

static void start(struct lmtp *l)
{
        bool once = conf_switch(l->conf, service_name(l->s->service), "duplicatesuppression");
        bool strict = conf_switch(l->conf, service_name(l->s->service), "lmtp_strict_quota");

        for (unsigned i = 0; i < l->rcpts_n; i++) {
                struct lmtp_rcpt *r = &l->rcpts[i];
                struct append_item item = { .stage = l->stage, .internaldate = INT64_MIN, .savedate = INT64_MIN };

                if (r->settled || (r->same_as >= 0 && once))
                        continue;
                if (r->same_as >= 0 && l->rcpts[r->same_as].mbox)
                        r->mbox = mailbox_ref(l->rcpts[r->same_as].mbox);
                if (!r->mbox) {
                        err_copy(&r->err, &l->rcpts[r->same_as].err);
                        r->settled = true;
                        continue;
                }
                if (!still_listed(r)) {                 /* deleted since RCPT: it may live on below deletedprefix, but nobody reads there */
                        err_set(&r->err, ERR_NOTFOUND, "deleted since RCPT");
                        r->settled = true;
                        continue;
                }
                /* One message may go beyond the limit; since RCPT it may have been another one. */
                if (!strict && !r->ignore_quota && quota_check(engine_store(), r->mailbox, 0, 0, &r->err) < 0) {
                        r->settled = true;
                        continue;
                }
                item.ignore_quota = r->ignore_quota || !strict;
                session_waiter(l->s, &r->waiter);
                r->pending = true;
                if (mailbox_append(r->mbox, &item, 1, &r->result, &r->waiter, &r->err) < 0) {
                        session_waiter_cancel(l->s, &r->waiter);
                        r->pending = false;
                        r->settled = true;
                }
        }
}

/* Every waiter is done: results to those who share one. */
static bool collect(struct lmtp *l)
{
        for (unsigned i = 0; i < l->rcpts_n; i++) {
                struct lmtp_rcpt *r = &l->rcpts[i];

                if (!r->pending)
                        continue;
                if (!waiter_is_done(&r->waiter))
                        return false;
                r->pending = false;
                r->settled = true;
                err_copy(&r->err, &r->waiter.err);
        }
        for (unsigned i = 0; i < l->rcpts_n; i++) {
                struct lmtp_rcpt *r = &l->rcpts[i];

                if (!r->settled) {
                        r->result = l->rcpts[r->same_as].result;
                        err_copy(&r->err, &l->rcpts[r->same_as].err);
                }
        }
        return true;
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
                if (l->data_err.code != ERR_NONE) {
                        refuse_all(l);
                        return true;
                }
                if (!all_open(l)) {
                        /* At most twice: whatever open_mailboxes() went past is open or settled. */
                        l->open_next = 0;
                        lmtp_offload(l, OFFLOAD_DISK, open_mailboxes, opened);
                        return false;
                }
                l->delivery_started = true;
                start(l);
        }
        if (!collect(l))
                return false;
        for (unsigned i = 0; i < l->rcpts_n; i++)
                deliver_reply(l, &l->rcpts[i]);
        return true;
}
