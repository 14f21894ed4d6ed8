/*
 * ops_expire - expunged messages and deleted mailboxes are kept for a while; this is what lets them go, with the space they take.
 * Until it is run nothing of them goes away.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/control/ops.h"
#include "store/mailbox.h"
#include "store/mailname.h"
#include "store/mboxlist.h"
#include "util/clock.h"
#include "util/log.h"

#define DAYS_MAX 36500

/* A number of days; *days_r stays as it is when the argument is absent. */
static int arg_days(struct ctl_call *call, const char *key, int64_t *days_r, struct err *err)
{
        const char *text = ctl_arg(call, key);
        uint64_t n;

        if (!text)
                return 0;
        if (!span_u64(span_of(text), DAYS_MAX, &n))
                return err_set(err, ERR_SYNTAX, "%s: a number of days from 0 to %d is wanted", key, DAYS_MAX);
        *days_r = (int64_t)n;
        return 0;
}

/* When was DELETED.….6921A2B0 deleted? The last component is Unix time in 8 hexadecimal digits (cyrus-files 6); 0: it is none. */
static int64_t deleted_at(const char *name)
{
        const char *dot = strrchr(name, '.');

        if (!dot || strlen(dot + 1) != 8)
                return 0;
        for (const char *p = dot + 1; *p; p++)
                if (!isxdigit((unsigned char)*p))
                        return 0;
        return (int64_t)strtoull(dot + 1, NULL, 16);
}

static int purge_one(struct ctl_call *call, const struct mbentry *e, int64_t before, uint64_t *purged, struct err *err)
{
        struct mailbox_ident ident;
        struct mailbox *mbox;
        int rc;

        if (mbentry_ident(call->store, e, &ident, err) < 0 || mailbox_open(call->store, &ident, &mbox, err) < 0)
                return -1;
        rc = mailbox_purge_expunged(mbox, before, err);
        if (rc == 0)
                rc = mailbox_compact(mbox, err);
        mailbox_unref(&mbox);
        *purged += rc == 0;
        return rc;
}

int ctl_expire(struct ctl_call *call, struct err *err)
{
        struct mboxlist *ml = store_mboxlist(call->store);
        const char *prefix = conf_str(call->conf, NULL, "deletedprefix");
        int64_t messages_days = 7, mailboxes_days = 7, now = clock_wall_s();
        uint64_t total = mboxlist_count(ml), done = 0, purged = 0, deleted = 0, problems = 0;
        char after[512] = "", quoted[LOG_QUOTE_MAX];
        bool more = true;

        if (arg_days(call, "messages", &messages_days, err) < 0 || arg_days(call, "mailboxes", &mailboxes_days, err) < 0)
                return -1;
        while (more && !call->cancelled(call)) {
                const struct mbentry *entries[32];
                unsigned n = mboxlist_next(ml, "", after, entries, 32);

                more = n == 32;
                for (unsigned i = 0; i < n; i++) {
                        const struct mbentry *e = entries[i];
                        struct err one = ERR_INIT;
                        int rc = 0;

                        snprintf(after, sizeof after, "%s", e->name);
                        if (e->type == MBTYPE_NORMAL && !e->server) {
                                int64_t when = mailname_is_deleted(e->name, prefix) ? deleted_at(e->name) : 0;

                                if (when && when <= now - mailboxes_days * 86400) {
                                        rc = mboxlist_delete(ml, e->name, true, &one);
                                        deleted += rc == 0;
                                } else {
                                        rc = purge_one(call, e, now - messages_days * 86400, &purged, &one);
                                }
                        }
                        if (rc < 0) {
                                problems++;
                                log_event(LOG_ERROR, NULL, "expire.failed", "mailbox=%s reason=%s", e->name, log_quote_str(quoted, one.text));
                                call->row(call, json_pack("{s:s, s:o, s:s}", "kind", "problem", "mailbox", ctl_mailbox_json(call, e->name),
                                                          "problem", one.text));
                        }
                        call->progress(call, ++done, total, "mailboxes");
                        mbentry_unref(&entries[i]);
                }
        }
        call->row(call, json_pack("{s:s, s:I, s:I, s:I}", "kind", "summary", "mailboxes", (json_int_t)purged, "deleted", (json_int_t)deleted,
                                  "problems", (json_int_t)problems));
        return problems ? err_set(err, ERR_IO, "%llu mailboxes could not be expired", (unsigned long long)problems) : 0;
}
