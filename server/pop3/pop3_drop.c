/*
 * pop3_drop - the maildrop: a mailbox as one client sees it from log-in to QUIT.
 *
 * One reader at a time (RFC 1939 4, [IN-USE]): a table of the process's maildrops that are open. IMAP sessions and deliveries go on beside
 * it. Deletions are made at QUIT and nowhere else, and answered when they are on disk.
 */
#include "server/pop3/pop3_private.h"

#include <inttypes.h>
#include <stdlib.h>

#include "server/groups.h"
#include "server/metrics.h"
#include "util/clock.h"
#include "util/hash.h"
#include "util/lock.h"
#include "util/log.h"
#include "util/must.h"

/* ---- one reader at a time ---- */

static struct mutex readers_lock = MUTEX_INIT;  /* a leaf */
static struct table *readers;                   /* unique ids of mailboxes that are open by POP3: the process's, as sessions come and go */

static bool lock_drop(const char *uniqueid)
{
        bool free_now;

        mutex_lock(&readers_lock);
        if (!readers)
                readers = table_create();
        free_now = table_find(readers, span_of(uniqueid)) == NULL;
        if (free_now)
                table_set(readers, span_of(uniqueid), &readers);
        mutex_unlock(&readers_lock);
        return free_now;
}

static void unlock_drop(const char *uniqueid)
{
        mutex_lock(&readers_lock);
        table_set(readers, span_of(uniqueid), NULL);
        if (table_count(readers) == 0)
                table_destroy(&readers);
        mutex_unlock(&readers_lock);
}

/* ---- opening: a job ---- */

/* INBOX, or with popsubfolders what USER named behind a "+". */
static const char *drop_name(struct pop3 *p, struct err *err)
{
        struct namespace *ns = namespace_create(p->conf);
        const char *inbox = mailname_inbox_of(p->userid, &p->s->arena), *name = inbox;
        struct namer who = { .ns = ns, .userid = p->userid, .is_admin = true, .utf8 = true };
        struct str external = STR_INIT;

        if (p->folder) {
                mailname_external(&who, inbox, &external);
                str_append_c(&external, namespace_separator(ns));
                str_append_str(&external, p->folder);
                if (mailname_internal(&who, str_span(&external), &p->s->arena, &name, err) < 0)
                        name = NULL;
                str_deinit(&external);
        }
        namespace_unref(&ns);
        return name;
}

static int check_rights(struct pop3 *p, struct err *err)
{
        struct pop3_drop *d = &p->drop;
        const char *text = conf_str(p->conf, NULL, "implicit_owner_rights");
        struct acl_identity who = { .userid = p->userid, .is_admin = p->is_admin, .is_owner = true };
        char **groups = NULL;
        uint32_t rights;

        d->rights = ACL_FULL;
        if (!conf_switch(p->conf, service_name(p->s->service), "popuseacl"))
                return 0;
        if (text && acl_parse_rights(span_of(text), &rights, NULL) == 0)
                who.owner_rights = rights;
        if (conf_switch(p->conf, NULL, "unix_group_enable"))
                groups = groups_of(p->userid);
        who.groups = (const char *const *)groups;
        d->rights = acl_rights(d->entry->acl, &who);
        groups_free(&groups);
        return d->rights & ACL_READ ? 0 : err_set(err, ERR_PERM, "no right to read the mailbox");
}

/* All that the client will see, as of now. */
static int load_messages(struct pop3 *p, int64_t show_after, struct err *err)
{
        struct pop3_drop *d = &p->drop;
        bool flags = conf_switch(p->conf, service_name(p->s->service), "popuseimapflags");
        struct view *view = mailbox_view(d->mbox);
        uint32_t count = view_count(view), uids[256];
        struct msg *msgs = xcalloc(256, sizeof *msgs);
        int rc = 0;

        d->msgs = xcalloc((size_t)count + 1, sizeof *d->msgs);
        for (uint32_t seqno = 1; seqno <= count && rc == 0; seqno += 256) {
                uint32_t n = view_uids(view, seqno, uids, 256);

                rc = mailbox_messages(d->mbox, uids, n, msgs, err);
                for (uint32_t i = 0; i < n && rc == 0; i++) {
                        if (msgs[i].uid == 0 || (flags && (msgs[i].flags & MSG_DELETED)) ||
                            (show_after && msgs[i].internaldate <= show_after))
                                continue;
                        d->msgs[d->n++] = (struct pop3_msg){ .uid = msgs[i].uid, .size = (uint32_t)msgs[i].size };
                        d->octets += msgs[i].size;
                }
        }
        d->left = d->n;
        view_unref(&view);
        free(msgs);
        return rc;
}

/*
 * popminpoll, poppollpadding: a log-in takes a slot, each popminpoll one comes back, and there are poppollpadding of them. The time kept
 * with the mailbox says when the last one will be back but one popminpoll.
 */
static int check_poll(struct pop3 *p, int64_t last, int64_t *now_r, struct err *err)
{
        int64_t min = conf_duration_s(p->conf, service_name(p->s->service), "popminpoll"), now = clock_wall_s();
        int64_t padding = conf_int(p->conf, service_name(p->s->service), "poppollpadding");

        *now_r = now;
        if (min <= 0)
                return 0;
        if (padding < 1)
                padding = 1;
        if (last > now || last < now - padding * min)           /* from the future: the clock was set back, and nobody is to wait for that */
                last = now - padding * min;
        if (last + min > now)
                return err_set(err, ERR_BUSY, "logged in less than %lld seconds ago", (long long)min);
        *now_r = last + min;
        return 0;
}

static int open_drop(struct pop3 *p, struct err *err)
{
        struct pop3_drop *d = &p->drop;
        struct store *store = engine_store();
        struct mailbox_ident ident;
        struct mailbox_status status;
        const char *name;
        int64_t login;

        if (user_autocreate_wanted(store, p->userid, AUTOCREATE_LOGIN) && user_autocreate(store, p->userid, AUTOCREATE_LOGIN, err) < 0)
                return -1;
        name = drop_name(p, err);
        d->entry = name ? mboxlist_find(store_mboxlist(store), name) : NULL;
        if (!d->entry)
                return err_set(err, ERR_NOTFOUND, "there is no such mailbox");
        if (check_rights(p, err) < 0 || mbentry_ident(store, d->entry, &ident, err) < 0 || mailbox_open(store, &ident, &d->mbox, err) < 0)
                return -1;
        if (!lock_drop(d->entry->uniqueid))
                return err_set(err, ERR_EXISTS, "another POP3 session has the mailbox");
        d->locked = true;
        mailbox_status(d->mbox, &status);
        d->uidvalidity = status.uidvalidity;
        d->new_uidl = mailbox_options(d->mbox) & MBOX_POP3_NEW_UIDL;
        if (check_poll(p, status.pop3_last_login, &login, err) < 0 || load_messages(p, status.pop3_show_after, err) < 0)
                return -1;
        (void)mailbox_set_pop3_login(d->mbox, login, &(struct err)ERR_INIT);     /* a full disk keeps nobody from his mail */
        return 0;
}

static void open_job(void *arg)
{
        struct pop3 *p = arg;

        err_clear(&p->err);
        (void)open_drop(p, &p->err);
}

static void answer_failed(struct pop3 *p)
{
        char quoted[LOG_QUOTE_MAX], user[LOG_QUOTE_MAX];

        log_event(LOG_NOTE, p->s->name, "pop3.refused", "user=%s code=%s reason=%s", log_quote_str(user, p->userid), err_code_name(p->err.code),
                  log_quote_str(quoted, p->err.text));
        pop3_drop_close(p);
        pop3_auth_deinit(p);
        p->layer = false;
        free(p->userid);
        free(p->user);
        p->userid = p->user = NULL;
        session_set_user(p->s, NULL);
        switch (p->err.code) {
        case ERR_EXISTS:
                pop3_err(p, "IN-USE", "Another session reads this maildrop");
                break;
        case ERR_BUSY:
                pop3_err(p, "LOGIN-DELAY", "The minimum time between log-ins is not over");
                break;
        case ERR_PERM: case ERR_NOTFOUND: case ERR_BADNAME:
                pop3_err(p, "SYS/PERM", "Unable to open the maildrop");
                break;
        default:
                pop3_err(p, "SYS/TEMP", "Unable to open the maildrop");
                break;
        }
}

static void opened(struct pop3 *p)
{
        char user[LOG_QUOTE_MAX];

        if (p->err.code != ERR_NONE) {
                answer_failed(p);
                return;
        }
        p->s->authenticated = true;
        telemetry_look(p->s, &p->telemetry, p->conf, p->userid, true);
        metric_add(METRIC_LOGINS_POP3, 1);
        log_event(LOG_NOTE, p->s->name, "pop3.login", "peer=%s user=%s mech=%s tls=%s messages=%" PRIu32, p->s->peer,
                  log_quote_str(user, p->userid), p->auth_mech[0] ? p->auth_mech : "USER",
                  stream_is_tls(p->s->stream) ? stream_tls_version(p->s->stream) : "no", p->drop.n);
        pop3_ok(p, "Mailbox locked and ready SESSIONID=<%s>", p->s->name);
        if (p->layer)                                           /* what comes behind this answer is in it (RFC 5034 4) */
                p->phase = POP3_LAYER_DRAIN;
}

void pop3_drop_open(struct pop3 *p)
{
        session_set_user(p->s, p->userid);
        pop3_offload(p, OFFLOAD_DISK, open_job, opened);
}

/* ---- the update ---- */

static struct waiter *begin_wait(struct pop3 *p)
{
        session_waiter(p->s, &p->waiter);
        p->waiting = true;
        return &p->waiter;
}

static void refused(struct pop3 *p)
{
        session_waiter_cancel(p->s, &p->waiter);
        p->waiting = false;
}

static void gather(struct pop3 *p, uint32_t flag)
{
        uidset_clear(&p->uids);
        for (uint32_t i = 0; i < p->drop.n; i++)
                if ((p->drop.msgs[i].flags & flag) && (flag == POP3_MSG_DELETED || !(p->drop.msgs[i].flags & POP3_MSG_DELETED)))
                        uidset_add(&p->uids, p->drop.msgs[i].uid);
}

/* popuseimapflags: what was retrieved is \Seen. That it fails is nobody's loss. */
static bool set_seen(struct pop3 *p)
{
        const struct flag_change change = { .how = FLAGS_ADD, .flags = MSG_SEEN };
        uint64_t modseq;
        struct err err = ERR_INIT;

        if (!conf_switch(p->conf, service_name(p->s->service), "popuseimapflags") || !(p->drop.rights & ACL_SEEN))
                return false;
        gather(p, POP3_MSG_SEEN);
        if (uidset_empty(&p->uids))
                return false;
        if (mailbox_store_flags(p->drop.mbox, &p->uids, &change, UINT64_MAX, NULL, NULL, &modseq, begin_wait(p), &err) == 0)
                return true;
        refused(p);
        return false;
}

static bool expunge(struct pop3 *p)
{
        uint64_t modseq;

        gather(p, POP3_MSG_DELETED);
        if (uidset_empty(&p->uids))
                return false;
        if (mailbox_expunge(p->drop.mbox, &p->uids, false, NULL, &modseq, begin_wait(p), &p->update_err) == 0)
                return true;
        refused(p);
        return false;
}

bool pop3_drop_update(struct pop3 *p)
{
        if (p->waiting) {
                if (!waiter_is_done(&p->waiter))
                        return false;
                p->waiting = false;
                if (p->expunge_done && p->waiter.err.code != ERR_NONE)
                        err_copy(&p->update_err, &p->waiter.err);
        }
        if (!p->seen_done) {
                p->seen_done = true;
                if (set_seen(p))
                        return false;
        }
        if (!p->expunge_done) {
                p->expunge_done = true;
                if (expunge(p))
                        return false;
        }
        pop3_drop_close(p);                                     /* who reads the answer may come again at once */
        if (p->update_err.code != ERR_NONE) {                   /* RFC 1939 6 */
                char quoted[LOG_QUOTE_MAX];

                log_event(LOG_ERROR, p->s->name, "pop3.update", "user=%s reason=%s", p->userid, log_quote_str(quoted, p->update_err.text));
                pop3_err(p, "SYS/TEMP", "Some deleted messages were not removed");
        } else {
                pop3_ok(p, "Bye");
        }
        return true;
}

void pop3_drop_close(struct pop3 *p)
{
        struct pop3_drop *d = &p->drop;

        if (d->locked)
                unlock_drop(d->entry->uniqueid);
        mailbox_unref(&d->mbox);
        mbentry_unref(&d->entry);
        free(d->msgs);
        memset(d, 0, sizeof *d);
}
